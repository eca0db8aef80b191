"""A class graded: scores, verdicts, reports, and what happens when it is cut off in the middle."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lectern.attempt import Times
from lectern.files import file_name
from lectern.grading import Class, Result, Settings, grade_class, grade_jobs
from lectern.sandbox import SessionLimits
from lectern.submissions import Job, find_submissions

LIBRARY = Path(__file__).parents[2] / "src" / "glassbox"
LIMITS = SessionLimits(memory=400 << 20, output=1 << 16)


@pytest.fixture
def grade(course, sandbox):
    """Grade notebooks in this process; return points by exercise, and the result."""

    def one(student="ada", secret=b"secret", **notebooks):
        found = []
        grade_jobs(
            course, [Job(student, notebooks)], lambda hides: sandbox.session(LIMITS, hides), secret,
            found.append, times=Times(cell=10, all=60),
        )  # fmt: skip
        return points_of(found[0]), found[0]

    return one


def points_of(result):
    points = {}
    for outcomes in result.outcomes.values():
        for o in outcomes:
            points[o.exercise] = points.get(o.exercise, 0) + o.points * o.passed
    return points


def verdicts_of(result, exercise):
    return {
        o.verdict for found in result.outcomes.values() for o in found if o.exercise == exercise
    }


FULL = {"twice": 2, "total": 1, "Counter": 2, "shape_of_product": 1, "step": 2}


def test_solutions_get_full_marks_and_stubs_none(grade, notebook, sources):
    stubs = {e.name: e.stub for e in sources["first"].exercises}
    assert grade(first=notebook())[0] == FULL
    points, result = grade(first=notebook(**stubs))
    assert points == dict.fromkeys(FULL, 0)
    assert verdicts_of(result, "twice") == {"unwritten"}
    assert verdicts_of(result, "step") == {"unwritten"}


@pytest.mark.parametrize(
    "code",
    [
        "def twice(x):\n    return [2 * v if v > 0 else 0.0 for v in x.tolist()]",
        "def twice(another_name):\n    return 2 * another_name.numpy().clip(0)",
        "import numpy as np\ndef twice(x):\n    return np.maximum(2 * x.double().numpy(), 0)",
        "def twice(x):\n    return (2 * x).relu().requires_grad_()",
        "def twice(x):\n    return torch.stack([2 * x.relu(), x])[0]",
        "def helper(v):\n    return max(v, 0)\n"
        "twice = lambda x: torch.tensor([2 * helper(v) for v in x])",
        "class Twice:\n    def __call__(self, x):\n        return 2 * x.clamp(min=0)\n"
        "twice = Twice()",
        "import functools\ntwice = functools.partial(torch.clamp, min=0)\n"
        "_old = twice\ndef twice(x): return _old(2 * x)",
        "import warnings\ndef twice(x):\n    warnings.warn('look')\n    print('hm')\n"
        "    return 2 * x.clamp(min=0)",
    ],
)
def test_an_unusual_correct_answer_is_not_punished(grade, notebook, code):
    assert grade(first=notebook(twice=code))[0] == FULL


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("import os; os._exit(0)", "crash"),
        ("def twice(x):\n    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)", "crash"),
        ("def twice(x):\n    return x / 0 if False else 1 / 0", "raised"),
        ("def twice(x): return undefined", "raised"),
        ("def twice(x):\n    while True: pass", "time"),
        ("def twice(x):\n    while True: print('x' * 5000)", "output"),
        ("def twice(x):\n    return bytearray(1 << 30)", "memory"),
        ("def twice(x): return 'no number'", "wrong"),
        ("def twice(x): raise SystemExit", "raised"),
        ("x = 1", "missing"),
        ("def twice(x) return", "raised"),
    ],
)
def test_one_bad_answer_costs_that_answer_alone(grade, notebook, code, verdict):
    points, result = grade(first=notebook(twice=code))
    assert points == {**FULL, "twice": 0}
    assert verdicts_of(result, "twice") == {verdict}


def test_a_forbidden_call_costs_the_points_and_names_the_line(grade, notebook):
    points, result = grade(first=notebook(total="def total(x):\n    return x.sum()"))
    assert points == {**FULL, "total": 0}
    (outcome,) = [o for o in result.outcomes["first"] if o.exercise == "total"]
    assert outcome.verdict == "forbidden"
    assert "line 2 calls torch.Tensor.sum" in outcome.feedback


def test_a_forbidden_call_that_the_text_hides_is_seen_at_run_time(grade, notebook):
    code = "def total(x):\n    return getattr(torch, 's' + 'um')(x)"
    points, result = grade(first=notebook(total=code))
    assert points["total"] == 0
    assert verdicts_of(result, "total") == {"forbidden"}


def test_what_passed_in_one_chapter_is_imported_in_the_next(grade, notebook):
    own = "def total(x):\n    result = 0.0\n    for v in x.tolist(): result += v\n    return result"
    asks = (
        "def average(x):\n    assert 'result' in total.__code__.co_varnames\n"
        "    return total(x) / len(x)"
    )
    points, _ = grade(first=notebook(total=own), second=notebook("second", average=asks))
    assert points == {**FULL, "average": 2}


def test_what_did_not_pass_falls_back_to_the_books(grade, notebook):
    points, _ = grade(first=notebook(total="def total(x): return 0"), second=notebook("second"))
    assert points == {**FULL, "total": 0, "average": 2}
    assert grade(second=notebook("second"))[0] == {"average": 2}


def test_grading_again_gives_the_same_bytes(grade, notebook):
    wrong = notebook(twice="def twice(x): return x", step="def step(w, g, lr): return w")
    first, second = (grade(first=wrong)[1] for _ in range(2))
    assert json.dumps(first.to_json()) == json.dumps(second.to_json())


def test_inputs_depend_on_the_secret_and_the_student(grade, notebook):
    wrong = notebook(twice="def twice(x): return x")
    said = [
        grade(student, secret, first=wrong)[1].outcomes["first"][0].feedback
        for student, secret in (("ada", b"a"), ("bob", b"a"), ("ada", b"b"))
    ]
    assert len(set(said)) == 3


def test_a_result_survives_json(grade, notebook):
    result = grade(first=notebook())[1]
    assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_names_of_files_differ_for_different_students():
    names = ["ada", "../ada", ".._ada", ".ada", "Ada ", "ada\n", "a" * 300, "=1", "", "ä"]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(files)
    assert all("/" not in f and not f.startswith("..") and len(f) < 100 for f in files)


@pytest.fixture
def command(course, tmp_path):
    """Run `lectern grade` as an instructor does."""

    def run(*options, **kwargs):
        line = [
            *(sys.executable, "-m", "lectern", "--course", str(course.folder), "grade"),
            *(str(tmp_path / "submissions"), "--output", str(tmp_path / "out")),
            *("--library", str(LIBRARY), "--workers", "2", *options),
        ]
        return subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, **kwargs)

    return run


def test_a_class_is_graded_with_all_its_reports(command, hand_in, tmp_path, sources):
    first = sources["first"]
    hand_in("ada")
    hand_in("bob", **{e.name: e.mutants[0].code for e in first.exercises})
    hand_in("=cmd|' calc'!A0", twice="def twice(x): raise ValueError('<script>alert(1)</script>')")
    (tmp_path / "submissions" / "cleo").mkdir()
    (tmp_path / "submissions" / "cleo" / "first.ipynb").write_text("{ no")
    (tmp_path / "submissions" / "ada" / "torch.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "submissions" / "ada" / "conftest.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "grading.toml").write_text(
        '[[hand]]\nstudent = "ada"\nexercise = "shape_of_product"\npoints = 1\ncomment = "terse"\n'
        '[[override]]\nstudent = "bob"\nexercise = "twice"\npoints = 1\nreason = "seen in person"\n'
        "[deadlines]\nfirst = 2001-01-01T00:00:00\n"
        "[late]\npercent_per_day = 10\nmost_percent = 50\n"
    )
    done = command()
    assert done.returncode == 0, done.stderr
    assert "4 submissions, 4 of them graded now" in done.stdout
    out = tmp_path / "out"
    rows = {row["student"]: row for row in csv.DictReader((out / "grades.csv").open())}
    assert rows["ada"]["points"] == "4.5"  # (8 + 1) less half, for lateness
    assert rows["bob"]["twice"] == "1.0"
    assert rows["cleo"]["points"] == "0.0"
    assert "'=cmd|' calc'!A0" in rows
    grades = json.loads((out / "grades.json").read_text())
    assert [s["student"] for s in grades["students"]] == sorted(
        s["student"] for s in grades["students"]
    )
    page = (out / "class.html").read_text()
    assert "doubling is squaring" in page
    own = (out / "students" / file_name("=cmd|' calc'!A0") / "report.html").read_text()
    assert "<script>alert" not in own
    assert "&lt;script&gt;alert" in own
    scope = json.loads((out / "students" / "bob" / "results.json").read_text())
    assert {test["output_format"] for test in scope["tests"]} == {"text"}
    assert scope["score"] == pytest.approx(0.5 * sum(t["score"] for t in scope["tests"]))
    assert "terse" in (out / "students" / "ada" / "report.html").read_text()
    before = (out / "grades.json").read_bytes()

    again = command()
    assert "4 submissions, 0 of them graded now" in again.stdout
    assert (out / "grades.json").read_bytes() == before

    hand_in("cleo")
    changed = command("--at-least", "60")
    assert "4 submissions, 1 of them graded now" in changed.stdout
    assert changed.returncode == 1


def test_only_what_failed_is_graded_again(command, hand_in):
    hand_in("ada")
    hand_in("bob", twice="import os; os._exit(1)")
    command()
    hand_in("ada", twice="def twice(x): return x")
    assert "2 submissions, 1 of them graded now" in command("--only-failed").stdout


def test_without_a_sandbox_nothing_is_graded_unless_asked(command, hand_in, tmp_path):
    hand_in("ada")
    bare = {**os.environ, "PATH": "/nowhere"}
    refused = command(env=bare)
    assert refused.returncode == 1
    assert refused.stderr.strip().splitlines()[-1].startswith("Error: bubblewrap is missing")
    assert not (tmp_path / "out" / "grades.csv").exists()
    done = command("--unsafe", env=bare)
    assert done.returncode == 0, done.stderr
    assert "UNSANDBOXED" in done.stdout
    assert "UNSANDBOXED" in (tmp_path / "out" / "grades.csv").read_text()
    assert "UNSANDBOXED" in (tmp_path / "out" / "students" / "ada" / "report.html").read_text()
    assert json.loads((tmp_path / "out" / "grades.json").read_text())["students"][0]["points"] == 8


def test_a_grader_that_is_killed_goes_on_where_it_was(course, command, hand_in, tmp_path):
    for number in range(8):
        answers = {"twice": "def twice(x): return x"} if number % 2 else {}
        hand_in(f"student-{number}", **answers)
    line = [
        *(sys.executable, "-m", "lectern", "--course", str(course.folder), "grade"),
        *(str(tmp_path / "submissions"), "--output", str(tmp_path / "out"), "--workers", "1"),
        *("--library", str(LIBRARY)),
    ]
    grader = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = tmp_path / "out" / "private" / "state"
    until = time.monotonic() + 120
    while len(list(state.glob("[!.]*.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    grader.send_signal(signal.SIGKILL)
    grader.wait()
    done = len(list(state.glob("[!.]*.json")))
    assert 3 <= done < 8
    after = command()
    assert f"8 submissions, {8 - done} of them graded now" in after.stdout
    cut = (tmp_path / "out" / "grades.json").read_bytes()
    for path in state.iterdir():
        path.unlink()
    command()
    assert (tmp_path / "out" / "grades.json").read_bytes() == cut


def test_a_worker_that_dies_costs_no_other_submission(course, hand_in, tmp_path, monkeypatch):
    for name in ("ada", "bob", "cleo"):
        hand_in(name)
    jobs = find_submissions(tmp_path / "submissions", course)
    settings = Settings(LIBRARY, b"secret", LIMITS)
    killed = []

    def kill_once(result, new):
        if not killed:
            killed.append(True)
            for child in children_of(os.getpid()):
                os.kill(child, signal.SIGKILL)

    results = grade_class(
        course, jobs, Class(tmp_path / "out"), settings, workers=1, tell=kill_once
    )
    assert [points_of(result) for result in results] == [FULL] * 3


def children_of(pid):
    found = subprocess.run(
        ["pgrep", "-P", str(pid), "-f", "spawn_main"], capture_output=True, text=True
    )
    return [int(line) for line in found.stdout.split()]
