"""The wall: what is not behind it, why sessions end, and that nothing outlives them."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lectern.attempt import Attempt, Times
from lectern.cgroup import Group
from lectern.notebooks import Cell
from lectern.sandbox import Sandbox, SandboxError, SessionLimits
from lectern.student import Raised, Stopped, Student

SMALL = SessionLimits(memory=400 << 20, output=1 << 16, disk=16 << 20, cpu=20)


@pytest.fixture
def student(sandbox):
    """A student in a session of its own; cells are run by `run`."""
    session = sandbox.session(SMALL, hide=["glassbox.stats"])
    yield Student(session)
    session.end()


def test_values_come_back(student):
    got = student.run("y = x * 2", ["y"], x=torch.arange(3))
    assert got["y"].tolist() == [0, 2, 4]


def test_a_hidden_module_says_in_one_sentence_why(student):
    with pytest.raises(Raised, match="glassbox.stats is what this notebook asks you to write"):
        student.run("import glassbox.stats")


def test_what_needs_a_hidden_module_says_so_too(student):
    with pytest.raises(Raised, match="asks you to write"):
        student.run("from glassbox import stats")


def test_other_modules_of_the_book_are_there(student):
    assert student.run("from glassbox.losses import sigmoid; y = sigmoid(x)", ["y"],
                       x=torch.zeros(1))["y"].item() == 0.5  # fmt: skip


@pytest.mark.parametrize(
    "place",
    ["/home", "/etc/passwd", "/etc/shadow", "/proc/1", "/proc/self", "/sys", "/var", "/run",
     str(Path(__file__).parent), str(Path.cwd() / "solutions"), str(Path.cwd() / "tests")],
)  # fmt: skip
def test_a_place_is_not_there(student, place):
    code = f"import os\nfound = os.path.exists({place!r})"
    assert student.run(code, ["found"])["found"] is False


def test_the_folders_above_the_environment_hold_nothing_else(student):
    code = "import os\nfound = {p: os.listdir(p) for p in places}"
    parents = [
        p for prefix in (sys.prefix, sys.base_prefix) for p in Path(prefix).resolve().parents
    ]
    places = [str(p) for p in parents if str(p) not in ("/", "/usr")]
    shown = {
        p.name for p in (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), *parents)
    }
    for names in student.run(code, ["found"], places=places)["found"].values():
        assert set(names) <= shown


def test_the_labels_of_well_known_digits_are_not_there(student):
    with pytest.raises(Raised, match="FileNotFoundError"):
        student.run("from sklearn.datasets import load_digits; load_digits()", seconds=60)


@pytest.mark.parametrize("place", ["/", "/usr", "/lectern", "/dev", "/proc", "/bin"])
def test_a_place_cannot_be_written(student, place):
    with pytest.raises(Raised, match=r"Read-only|PermissionError"):
        student.run(f"open({place + '/mark'!r}, 'w').write('x')")


def test_nothing_written_is_there_for_the_next(sandbox):
    write = "for p in ('/tmp', '/dev/shm', '/tmp/home'): open(p + '/mark', 'w').write('x')"
    look = (
        "import glob\nfound = glob.glob('/tmp/**/mark', recursive=True) + glob.glob('/dev/shm/*')"
    )
    first = sandbox.session(SMALL)
    Student(first).run(write)
    second = sandbox.session(SMALL)
    assert Student(second).run(look, ["found"])["found"] == []
    first.end()
    second.end()


def test_there_is_no_network(student):
    with pytest.raises(Raised, match="unreachable|OSError"):
        student.run("import socket; socket.create_connection(('127.0.0.1', 80), 2)")


def test_no_secret_of_the_environment_is_there(sandbox, monkeypatch):
    monkeypatch.setenv("LECTERN_TEST_SECRET", "hush")
    with Sandbox(Path.cwd() / "src" / "glassbox") as fresh:
        session = fresh.session(SMALL)
        found = Student(session).run("import os; e = dict(os.environ)", ["e"])["e"]
    assert "LECTERN_TEST_SECRET" not in found
    assert "hush" not in found.values()


ENDINGS = {
    "time": "while True: pass",
    "memory": "x = b'x' * (1 << 30); import time; time.sleep(60)",
    "output": "while True: print('x' * 1000)",
    "crash": "import os; os._exit(3)",
    "protocol": (
        "import gc, socket\n"
        "for s in [o for o in gc.get_objects() if isinstance(o, socket.socket)]:\n"
        "    try: s.sendall(b'x' * 100)\n"
        "    except OSError: pass"
    ),
}


@pytest.mark.parametrize("why", ENDINGS)
def test_a_session_ends_with_a_named_verdict(student, why):
    with pytest.raises(Stopped) as found:
        student.run(ENDINGS[why], seconds=3)
    assert found.value.why == why
    assert str(found.value).endswith(".") or ": " in str(found.value)


def test_a_segmentation_fault_is_a_crash_with_its_signal(student):
    with pytest.raises(Stopped, match="SIGSEGV"):
        student.run("import ctypes; ctypes.string_at(0)")


def test_time_of_processes_whose_end_nobody_awaits_counts(sandbox):
    session = sandbox.session(replace(SMALL, cpu=1))
    with pytest.raises(Stopped, match="more than 1 seconds of processors"):
        Student(session).run(
            "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True:\n"
            "    if os.fork() == 0:\n"
            "        until = time.process_time() + 0.3\n"
            "        while time.process_time() < until: pass\n"
            "        os._exit(0)\n"
            "    time.sleep(0.5)",
            seconds=30,
        )  # fmt: skip


def test_a_fork_bomb_is_stopped(student):
    with pytest.raises((Stopped, Raised)):
        student.run(
            "import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(60)", seconds=20
        )


def test_no_process_outlives_its_session(sandbox):
    mark = "lectern-orphan-mark"
    session = sandbox.session(SMALL)
    Student(session).run(
        f"import subprocess\nfor _ in range(3): subprocess.Popen(['sh', '-c', 'exec -a {mark} "
        "sleep 300'], start_new_session=True)"
    )
    session.end()
    time.sleep(0.1)
    assert subprocess.run(["pgrep", "-f", mark], capture_output=True).returncode == 1


def test_memory_in_files_counts(student):
    with pytest.raises(Raised, match="No space"):
        student.run("open('/tmp/big', 'wb').write(b'x' * (64 << 20))")


def test_a_session_that_ended_says_so(student, sandbox):
    session = sandbox.session(SMALL)
    session.end()
    with pytest.raises(Stopped):
        Student(session).get("x")


def test_many_sessions_leave_no_descriptor_open(sandbox):
    def count():
        return len(list(Path("/proc/self/fd").iterdir()))

    sandbox.session(SMALL).end()
    before = count()
    for _ in range(5):
        sandbox.session(SMALL).end()
    assert count() == before


def test_without_bubblewrap_one_sentence_says_what_installs_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxError, match="bubblewrap is missing.*apt-get install bubblewrap"):
        Sandbox(Path("src/glassbox"))


def test_hidden_names_must_be_modules_of_the_library(sandbox):
    with pytest.raises(ValueError, match="glassbox.nothing"):
        sandbox.session(SMALL, hide=["glassbox.nothing"])


def attempt(sandbox, *cells, **times):
    times = replace(Times(), **times) if times else Times()
    return Attempt(
        lambda: sandbox.session(SMALL), [Cell(code, name) for code, name in cells], times=times
    )


def test_what_comes_before_and_after_a_stopped_cell_is_still_there(sandbox):
    found = attempt(
        sandbox, ("a = 1", "a"), ("import os; os._exit(1)", "b"), ("c = 3", "c"), cell=5
    )
    found.begin("a")
    student = Student(found)
    assert (student.get("a"), student.get("c")) == (1, 3)
    with pytest.raises(Stopped, match="exit code 1"):
        found.begin("b")
    found.end()


def test_a_question_that_ends_the_session_costs_that_question_alone(sandbox):
    found = attempt(sandbox, ("def f(x):\n    import os\n    return x or os._exit(1)", "f"))
    student = Student(found)
    assert student.call("f", 1) == 1
    with pytest.raises(Stopped):
        student.call("f", 0)
    assert student.call("f", 2) == 2
    found.end()


def test_a_cell_that_raises_is_noted_with_its_line(sandbox):
    found = attempt(sandbox, ("a = 1\nb = a / 0", None), ("c = 3", None))
    assert Student(found).get("c") == 3
    assert found.errors[0].line == (2, "b = a / 0")
    found.end()


def test_the_time_in_all_is_limited(sandbox):
    found = attempt(sandbox, ("import time", None), all=3.0)
    student = Student(found)
    student.run("time.sleep(2)")
    with pytest.raises(Stopped, match="3 seconds in all"):
        student.run("time.sleep(2)")
    with pytest.raises(Stopped, match="3 seconds in all"):
        student.get("time")
    found.end()


def test_a_notebook_of_crashes_is_given_up(sandbox):
    crash = ("import os; os._exit(1)", None)
    found = attempt(sandbox, *[crash] * 20)
    with pytest.raises(Stopped, match="more than"):
        Student(found).get("x")
    found.end()


def test_random_numbers_of_cells_are_seeded(sandbox):
    drawn = []
    for _ in range(2):
        found = Attempt(
            lambda: sandbox.session(SMALL), [Cell("import torch; x = torch.rand(3)")], seed=5
        )
        drawn.append(Student(found).get("x").tolist())
        found.end()
    assert drawn[0] == drawn[1]


def test_a_group_of_version_2_gets_its_limits(tmp_path, monkeypatch):
    (tmp_path / "cgroup.controllers").write_text("memory pids")
    parent = tmp_path / "user"
    parent.mkdir()
    (parent / "cgroup.subtree_control").write_text("memory pids")
    real = Path.read_text
    monkeypatch.setattr(
        Path, "read_text",
        lambda self: "0::/user\n" if str(self) == "/proc/self/cgroup" else real(self),
    )  # fmt: skip
    group = Group.around(123, 1000, 5, root=tmp_path)
    (folder,) = group.folders
    assert (folder / "memory.max").read_text() == "1000"
    assert (folder / "pids.max").read_text() == "5"
    assert (folder / "cgroup.procs").read_text() == "123"
    assert not group.ran_out_of_memory()
    (folder / "memory.events").write_text("low 0\noom_kill 1\n")
    assert group.ran_out_of_memory()


def test_where_no_group_can_be_made_nothing_happens(tmp_path):
    group = Group.around(123, 1000, 5, root=tmp_path / "none")
    assert group.folders == []
    group.remove()
