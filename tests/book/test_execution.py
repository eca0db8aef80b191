"""What makes a chapter execute, and what a failure or an interruption leaves behind.

Every test works on a small book of its own, with a package `fakebox` in place of the library.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from press import dependencies, execution
from press.dependencies import Conditions, cache_key, module_files
from press.execution import Book, execute, read_chapters

HEAD = """---
file_format: mystnb
kernelspec: {name: python3, display_name: Python 3}
---
"""
CONDITIONS = Conditions(
    profile="sample", device="cpu", threads=1, versions={"python": "3.12.0", "torch": "2.13.0"}
)


def page(*cells: str, prose: str = "Some prose.", options: str = "") -> str:
    parts = [HEAD, "# A chapter\n", prose, "\n"]
    for cell in cells:
        parts.append(f"```{{code-cell}} python\n{options}{textwrap.dedent(cell).strip()}\n```\n")
    return "\n".join(parts)


@pytest.fixture
def book(tmp_path):
    """Three chapters: one uses `losses`, one uses it through `learner`, one uses neither."""
    files = {
        "src/fakebox/__init__.py": "",
        "src/fakebox/losses.py": "def loss(x):\n    return x * x\n",
        "src/fakebox/stats.py": "def mean(x):\n    return sum(x) / len(x)\n",
        "src/fakebox/learner.py": "def fit(x):\n    from .losses import loss\n    return loss(x)\n",
        "book/direct.md": page("import fakebox.losses as L\nL.loss(2)"),
        "book/through.md": page("from fakebox import learner\nlearner.fit(3)"),
        "book/apart.md": page("from fakebox.stats import mean\nmean([1, 2])"),
        "book/index.md": "# Index\n",
        "book/_toc.yml": (
            "format: jb-book\nroot: index\nparts:\n- chapters:\n  - file: direct\n"
            "  - file: through\n  - file: apart\n"
        ),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Book(tmp_path)


def write(book: Book, name: str, text: str) -> None:
    (book.root / name).write_text(text)


def keys(book: Book, conditions: Conditions = CONDITIONS) -> dict[str, str]:
    return {c.name: cache_key(c.notebook, conditions, book.source) for c in read_chapters(book)}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


ALL = {"direct", "through", "apart"}


# -- what the key is made of ---------------------------------------------------------------------


def test_an_edit_of_prose_executes_nothing(book):
    before = keys(book)
    write(book, "book/direct.md", page("import fakebox.losses as L\nL.loss(2)", prose="New."))
    assert changed(before, keys(book)) == set()


def test_an_edit_of_alt_text_executes_nothing(book):
    before = keys(book)
    options = "---\nmystnb:\n  image:\n    alt: A picture.\n---\n"
    cell = "import fakebox.losses as L\nL.loss(2)"
    write(book, "book/direct.md", page(cell, options=options))
    assert changed(before, keys(book)) == set()


def test_an_edit_of_a_code_cell_executes_its_chapter(book):
    before = keys(book)
    write(book, "book/direct.md", page("import fakebox.losses as L\nL.loss(4)"))
    assert changed(before, keys(book)) == {"direct"}


def test_a_tag_that_lets_a_cell_fail_executes_its_chapter(book):
    before = keys(book)
    cell = "import fakebox.losses as L\nL.loss(2)"
    write(book, "book/direct.md", page(cell, options=":tags: [raises-exception]\n"))
    assert changed(before, keys(book)) == {"direct"}


def test_an_edit_of_a_module_executes_the_chapters_that_use_it_also_through_others(book):
    before = keys(book)
    write(book, "src/fakebox/losses.py", "def loss(x):\n    return -x * x\n")
    assert changed(before, keys(book)) == {"direct", "through"}


def test_an_edit_of_a_package_executes_every_chapter_that_uses_a_module_of_it(book):
    before = keys(book)
    write(book, "src/fakebox/__init__.py", "VERSION = 2\n")
    assert changed(before, keys(book)) == ALL


def test_a_module_that_no_chapter_imports_executes_nothing(book):
    before = keys(book)
    write(book, "src/fakebox/other.py", "x = 1\n")
    assert changed(before, keys(book)) == set()


@pytest.mark.parametrize(
    "difference",
    [
        {"profile": "full"},
        {"device": "cuda"},
        {"device_name": "another accelerator"},
        {"threads": 2},
        {"versions": {"python": "3.12.0", "torch": "2.14.0"}},
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_another_profile_device_or_version_executes_every_chapter(book, difference):
    other = dataclasses.replace(CONDITIONS, **difference)
    assert changed(keys(book), keys(book, other)) == ALL


def test_other_data_execute_only_the_chapters_that_lead_to_the_data(book):
    write(book, "src/fakebox/stats.py", "import glassbox.datasets\n")
    (book.source / "glassbox").mkdir()
    write(book, "src/glassbox/__init__.py", "")
    write(book, "src/glassbox/datasets.py", "")
    other = dataclasses.replace(CONDITIONS, data={"numbers.csv": "abc"})
    assert changed(keys(book), keys(book, other)) == {"apart"}


def test_a_file_of_data_that_a_module_names_counts(book):
    write(book, "src/fakebox/stats.py", "NAME = 'table.csv'\n")
    write(book, "src/fakebox/table.csv", "1,2\n")
    before = keys(book)
    write(book, "src/fakebox/table.csv", "1,3\n")
    assert changed(before, keys(book)) == {"apart"}


@pytest.mark.parametrize(
    "statement",
    [
        "import pkg.deep.one",
        "import pkg.deep.one as one",
        "from pkg.deep import one",
        "from pkg.deep.one import thing as other",
        "def late():\n    from pkg.deep import one",
        "import importlib; importlib.import_module('pkg.deep.one')",
        "from pkg.deep import *",
        "%matplotlib inline\nimport pkg.deep.one",
        "!ls\nx = pkg?\nfrom pkg.deep import one",
        "this is no Python, but from pkg.deep.one import thing",
    ],
)
def test_every_way_to_import_is_seen(tmp_path, statement):
    for name in ("pkg/__init__.py", "pkg/deep/__init__.py", "pkg/base.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "pkg/deep/one.py").write_text("from ..base import thing\nfrom .. import deep\n")
    found = module_files(dependencies.cell_imports(statement), tmp_path)
    assert set(found) == {"pkg", "pkg.deep", "pkg.deep.one", "pkg.base"}


def test_the_versions_are_those_of_all_that_the_library_stands_on():
    found = dependencies.versions()
    assert {"python", "torch", "numpy", "matplotlib", "scikit-learn", "ipykernel"} <= set(found)
    assert "pillow" in found, "what a dependency depends on counts too"
    assert not {"sphinx", "pytest", "glassbox-book"} & set(found)


def test_the_threads_are_the_cores_shared_out(monkeypatch):
    monkeypatch.setattr(execution, "cores", lambda: 8)
    assert execution.current_conditions(jobs=2).threads == 4
    assert execution.current_conditions().threads == 1
    assert execution.current_conditions(jobs=16).threads == 1


@pytest.mark.parametrize(("text", "expected"), [("100000 100000", 1), ("50000 100000", 1)])
def test_the_cores_are_those_that_a_container_grants(tmp_path, text, expected):
    (tmp_path / "cpu.max").write_text(text)
    assert execution.cores(tmp_path / "cpu.max") == expected


def test_without_a_limit_the_cores_are_those_of_the_process(tmp_path):
    (tmp_path / "cpu.max").write_text("max 100000")
    assert execution.cores(tmp_path / "cpu.max") == execution.cores(tmp_path / "absent") >= 1


def test_an_unknown_profile_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setenv("GLASSBOX_PROFILE", "huge")
    with pytest.raises(ValueError, match=r"^GLASSBOX_PROFILE is 'huge'; it can be .*\.$"):
        execution.current_conditions()


# -- executing -----------------------------------------------------------------------------------


def run(book: Book, conditions: Conditions = CONDITIONS, jobs: int = 2) -> set[str]:
    """Execute and return the names of the chapters for which a kernel ran."""
    runs = execute(book, conditions, jobs=jobs, say=lambda line: None)
    assert not any(r.failed for r in runs), [execution.report(r) for r in runs if r.failed]
    return {r.chapter.name for r in runs if r.executed}


def output(book: Book, chapter: str) -> str:
    cells = json.loads((book.executed / f"{chapter}.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    return "".join(code[-1]["outputs"][-1]["data"]["text/plain"])


def output_for_sphinx(book: Book, chapter: str) -> str:
    """Return the last output that myst-nb takes for the chapter's present source."""
    from jupyter_cache import get_cache

    notebook = next(c.notebook for c in read_chapters(book) if c.name == chapter)
    _, merged = get_cache(book.jupyter_cache).merge_match_into_notebook(notebook)
    return merged.cells[-1].outputs[-1]["data"]["text/plain"]


def test_only_what_changed_is_executed_and_going_back_executes_nothing(book):
    original = (book.source / "fakebox/losses.py").read_text()
    assert run(book) == ALL
    assert output(book, "through") == "9"
    assert run(book) == set()

    write(book, "book/apart.md", page("from fakebox.stats import mean\nmean([1, 2])", prose="New."))
    assert run(book) == set()
    assert "New." in (book.executed / "apart.ipynb").read_text()

    write(book, "src/fakebox/losses.py", "def loss(x):\n    return -x * x\n")
    assert run(book) == {"direct", "through"}
    assert output(book, "through") == "-9"
    assert output_for_sphinx(book, "through") == "-9", "the code is the same, the output is not"

    write(book, "src/fakebox/losses.py", original)
    assert run(book) == set()
    assert output(book, "through") == "9"
    assert output_for_sphinx(book, "through") == "9"

    record = json.loads((book.executed / "direct.json").read_text())
    assert record["status"] == "ok"
    assert record["profile"] == "sample"
    assert record["device"] == "cpu"
    assert record["seconds"] > 0
    assert record["versions"]["torch"] == "2.13.0"


def test_a_kernel_has_its_share_of_threads_and_a_folder_of_its_own(book, monkeypatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("GLASSBOX_EXTRA", "passed on")
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "GLASSBOX_PROFILE", "GLASSBOX_EXTRA", "CI"]
    write(
        book,
        "book/direct.md",
        page(f"import os\n([os.environ.get(n) for n in {names}], os.listdir(), hash('x'))"),
    )
    write(book, "book/_toc.yml", "format: jb-book\nroot: index\nchapters:\n- file: direct\n")
    run(book, dataclasses.replace(CONDITIONS, threads=3, profile="full"))
    first = output(book, "direct")
    assert first.startswith("(['3', '3', 'full', 'passed on', None],")
    run(book, dataclasses.replace(CONDITIONS, threads=3, profile="full", versions={}))
    assert output(book, "direct") == first, "the folder was empty again and hashes are fixed"


def clocked(seconds: float) -> str:
    return page(f"import time\nt = time.time()\ntime.sleep({seconds})\n(t, time.time())")


def test_chapters_execute_at_the_same_time(book):
    for name in sorted(ALL):
        write(book, f"book/{name}.md", clocked(1.5))
    run(book, jobs=3)
    spans = [json.loads(output(book, name).replace("(", "[").replace(")", "]")) for name in ALL]
    assert max(start for start, _ in spans) < min(end for _, end in spans)


def test_the_longest_chapter_starts_first(book, monkeypatch):
    for name, seconds in {"direct": 1.0, "through": 30.0, "apart": 5.0}.items():
        folder = book.store / name
        folder.mkdir(parents=True)
        (folder / "old.json").write_text(json.dumps({"seconds": seconds, "profile": "sample"}))
    started = []

    def pretend(chapter, *arguments):
        started.append(chapter.name)
        return chapter.notebook, {"status": "ok", "seconds": 0.0}

    monkeypatch.setattr(execution, "_run_one", pretend)
    run(book, jobs=1)
    assert started == ["through", "apart", "direct"]


def test_the_store_keeps_the_latest_outputs_only(book, monkeypatch):
    monkeypatch.setattr(
        execution, "_run_one", lambda c, *rest: (c.notebook, {"status": "ok", "seconds": 0.0})
    )
    for number in range(execution.KEPT + 2):
        run(book, dataclasses.replace(CONDITIONS, threads=number))
    kept = list((book.store / "direct").glob("*.ipynb"))
    assert len(kept) == execution.KEPT
    assert {p.stem for p in (book.store / "direct").glob("*.json")} == {p.stem for p in kept}


# -- failures ------------------------------------------------------------------------------------


def test_a_failing_chapter_is_reported_and_stops_no_other(book):
    run(book)
    (book.html).mkdir()
    write(book, "_build/html/direct.html", "an old page")
    write(book, "src/fakebox/losses.py", "def loss(x):\n    raise OverflowError('too much')\n")
    cells = ("1 + 1", "x = 5\nimport fakebox.losses as L\nL.loss(x)", "print('not reached')")
    write(book, "book/direct.md", page(*cells))
    write(book, "book/apart.md", page("1 / 3"))
    runs = {r.chapter.name: r for r in execute(book, CONDITIONS, jobs=2, say=lambda line: None)}
    assert {name for name, r in runs.items() if r.failed} == {"direct", "through"}
    assert output(book, "apart").startswith("0.333")

    said = execution.report(runs["direct"])
    line = (book.pages / "direct.md").read_text().splitlines().index("x = 5") + 1
    assert f"direct.md:{line}" in said
    assert "L.loss(x)" in said
    assert "OverflowError: too much" in said
    assert "\x1b" not in said

    record = json.loads((book.executed / "direct.json").read_text())
    assert record["status"] == "failed"
    assert not (book.html / "direct.html").exists(), "the old page must not pass for new"
    assert "OverflowError" in (book.executed / "direct.ipynb").read_text()
    # What failed is tried again, not remembered.
    again = execute(book, CONDITIONS, jobs=2, say=lambda line: None)
    assert {r.chapter.name for r in again if r.executed} == {"direct", "through"}


def test_a_false_claim_names_its_statement_and_values(book):
    cell = "from press.claims import claim\nclaim('Two is three', 2 == 3, measured=2)"
    write(book, "book/_toc.yml", "format: jb-book\nroot: index\nchapters:\n- file: direct\n")
    write(book, "book/direct.md", page(cell))
    (record,) = [r.record for r in execute(book, CONDITIONS, say=lambda line: None)]
    assert record["error"] == "ClaimError"
    assert "Two is three" in record["message"]
    assert "2" in record["message"].replace("Two is three", "")


def test_a_cell_that_never_ends_and_a_kernel_that_dies_are_failures(book):
    write(book, "_config.yml", "execute:\n  timeout: 1\n")
    write(book, "book/direct.md", page("while True: pass"))
    write(book, "book/through.md", page("import os\nos._exit(3)"))
    runs = {r.chapter.name: r for r in execute(book, CONDITIONS, jobs=3, say=lambda line: None)}
    assert runs["direct"].record["error"] == "CellTimeoutError"
    assert runs["through"].record["error"] == "DeadKernelError"
    assert not runs["apart"].failed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_loses_no_finished_chapter(book, tmp_path, number):
    pid_file = tmp_path / "kernel.pid"
    slow = f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
    write(book, "book/through.md", page(slow))
    write(book, "book/_toc.yml", "root: index\nchapters:\n- file: direct\n- file: through\n")
    # A test run that was started in the background ignores Ctrl-C, and hands that on.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import press.__main__; from pathlib import Path; from press.execution import *;"
        "from tests_conditions import CONDITIONS;"
        f"execute(Book(Path({str(book.root)!r})), CONDITIONS, jobs=2)"
    )
    write(book, "tests_conditions.py", f"from press.dependencies import *\nCONDITIONS={CONDITIONS}")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(book.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: (book.executed / "direct.json").exists() and pid_file.exists())
        process.send_signal(number)
        assert process.wait(timeout=60) != 0
    finally:
        process.kill()
    wait_for(lambda: not alive(int(pid_file.read_text())))
    assert not (book.executed / "through.json").exists()
    write(book, "book/through.md", page("1"))
    assert run(book) == {"through"}


def wait_for(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_second_build_waits_for_the_first(book, capsys):
    code = (
        "import sys, time; from pathlib import Path; from press.execution import *\n"
        f"with exclusive(Book(Path({str(book.root)!r}))):\n"
        "    print('held', flush=True); time.sleep(1)"
    )
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    with execution.exclusive(book):
        assert "Another build" in capsys.readouterr().out
        assert first.wait(timeout=30) == 0


def test_a_page_that_is_listed_but_missing_is_named(book):
    write(book, "book/_toc.yml", "root: index\nchapters:\n- file: absent\n")
    with pytest.raises(FileNotFoundError, match="absent"):
        read_chapters(book)


def test_options_of_a_cell_that_are_not_yaml_are_named_with_their_place(book):
    front = "---\nfile_format: mystnb\nkernelspec: {name: python3, display_name: Python 3}\n---\n"
    cell = "```{code-cell} python\n---\ntags: [hide\n---\nx = 1\n```\n"
    write(book, "book/opening.md", f"{front}\n# A title\n\n{cell}")
    write(book, "book/_toc.yml", "root: opening\n")
    with pytest.raises(ValueError, match=r"opening\.md: the options of code cell 1 at line \d+"):
        read_chapters(book)
