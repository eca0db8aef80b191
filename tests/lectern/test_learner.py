"""The learner's loop: check, hint, next, reset, watch, progress, and `check` in a notebook."""

import io
import json
import subprocess
import sys

import nbformat
import pytest
from click.testing import CliRunner
from rich.console import Console

from lectern.cli import main
from lectern.course import write_course
from lectern.desk import PROGRESS, Desk
from lectern.learner import check_chapter
from lectern.notebooks import Cell, pieces_from
from lectern.show import show_standing
from lectern.watch import watch


@pytest.fixture
def desk(course):
    return Desk(course)


@pytest.fixture
def run(course):
    """Run a command as a learner does."""

    def command(*words):
        return CliRunner().invoke(main, ["--course", str(course.folder), *words])

    return command


def answer(course, chapter, **codes):
    """Write answers into a learner's notebook."""
    path = course.notebook(chapter)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.get("id") in codes:
            cell.source = codes[cell.id]
    nbformat.write(notebook, path)


RIGHT = "def twice(x):\n    return 2 * x.clamp(min=0)"
WRONG = "def twice(x):\n    return x.clamp(min=0)"


def test_check_says_what_is_right_and_what_is_not(course, run):
    answer(course, "first", twice=WRONG, total="def total(x):\n    return sum(x.tolist())")
    done = run("check", "first")
    assert done.exit_code == 1
    assert "✗ twice  0 of 2 points" in done.output
    assert "It came back as it was." in done.output
    assert "✓ total  1 of 1 points" in done.output
    assert "○ Counter  0 of 2 points" in done.output
    assert "\x1b" not in done.output


def test_feedback_is_whole_and_wrapped_in_a_narrow_terminal(course, capsys, desk):
    answer(course, "first", twice=WRONG)
    (standing, *_) = check_chapter(desk, "first")
    said = io.StringIO()
    show_standing(standing, Console(file=said, width=40, highlight=False))
    lines = said.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert "came back as it was." in " ".join(said.getvalue().split())


def test_a_cell_that_is_no_python_says_why(course, run):
    answer(course, "first", twice="def twice(x):\n    return (2 * x")
    said = run("check", "twice").output
    assert "SyntaxError" in said
    assert "was never closed" in said
    assert said.count("never closed") == 1


def test_an_untouched_stub_counts_as_unwritten(run):
    assert "○ step  0 of 2 points" in run("check", "step").output


def test_commands_that_run_nothing_are_light(course):
    code = "import sys, lectern.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_release_keeps_what_somebody_wrote(course, sources):
    answer(course, "first", twice=RIGHT)
    before = course.notebook("first").read_bytes()
    write_course(list(sources.values()), course.folder, only=["second"])
    assert course.notebook("first").read_bytes() == before
    write_course(list(sources.values()), course.folder)
    (backup,) = (course.folder / ".backups").iterdir()
    assert backup.read_bytes() == before


def test_what_passed_is_remembered(course, run):
    answer(course, "first", twice=RIGHT)
    assert run("check", "twice").exit_code == 0
    assert "1/5" in run("progress").output
    assert json.loads((course.folder / PROGRESS).read_text())["twice"]["passed"] is True
    assert "(total)" in run("next").output


def test_a_spoilt_progress_file_does_not_stop_the_learner(course, run):
    (course.folder / PROGRESS).write_text("{")
    assert "0/5" in run("progress").output


def test_hints_come_one_after_another(run):
    assert [run("hint", "twice").output.strip() for _ in range(3)] == [
        "Hint 1 of 2.\nWhich values stay 0?",
        "Hint 2 of 2. There are no more.\n`torch.where` takes from one of two.",
        "Hint 2 of 2. There are no more.\n`torch.where` takes from one of two.",
    ]


@pytest.mark.parametrize("command", ["hint", "reset", "check"])
def test_an_unknown_name_gets_a_suggestion(run, command):
    done = run(command, "twise")
    assert done.exit_code == 1
    assert "twice" in done.output
    assert "Traceback" not in done.output


def test_reset_puts_the_stub_back_and_keeps_the_old(course, run):
    answer(course, "first", twice=RIGHT)
    before = course.notebook("first").read_bytes()
    done = run("reset", "twice")
    assert done.exit_code == 0
    (backup,) = (course.folder / ".backups").iterdir()
    assert backup.read_bytes() == before
    assert str(backup) in done.output
    assert b"2 * x.clamp" not in course.notebook("first").read_bytes()
    assert "○ twice" in run("check", "twice").output


def test_a_missing_notebook_is_one_sentence(course, run):
    course.notebook("first").unlink()
    done = run("check", "first")
    assert "first.ipynb, but there is none" in done.output


def test_outside_a_course_one_sentence_says_what_to_do(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    done = CliRunner().invoke(main, ["--course", str(empty), "next"])
    assert done.exit_code == 1
    assert "--course" in done.output


def test_a_chapter_uses_what_passed_in_another(course, desk):
    mine = (
        "def total(x):\n    result = 0.0\n    for v in x.tolist(): result += v\n    return result"
    )
    spy = (
        "def average(x):\n    assert 'result' in total.__code__.co_varnames\n"
        "    return total(x) / len(x)"
    )
    answer(course, "second", average=spy)
    assert not check_chapter(desk, "second")[0].passed
    answer(course, "first", total=mine)
    check_chapter(desk, "first")
    assert check_chapter(desk, "second")[0].passed


def test_watch_shows_the_exercise_checks_on_save_and_moves_on(course, desk, capsys):
    def saves():
        answer(course, "first", twice=WRONG)
        yield "first"
        answer(course, "first", twice=RIGHT)
        yield "first"

    watch(desk, "first", saves())
    said = capsys.readouterr().out
    begun, wrong, right = (
        said.index("Double every value"), said.index("✗ twice"), said.index("✓ twice"),
    )  # fmt: skip
    assert begun < wrong < right < said.index("Add up the values")
    assert "1 of 6 exercises have passed" in said


def test_watch_tells_of_another_exercise_that_passes(course, desk, capsys):
    def saves():
        answer(
            course,
            "first",
            total="def total(x):\n    t = 0.0\n    for v in x: t += v\n    return t",
        )
        yield "first"

    watch(desk, "first", saves())
    said = capsys.readouterr().out
    assert "✓ total" in said
    assert "○ twice" not in said


def test_watch_begins_with_what_was_written_before(course, desk, capsys):
    answer(course, "first", twice=WRONG)
    watch(desk, "first", [])
    assert "✗ twice" in capsys.readouterr().out


def test_a_piece_is_what_it_needs_and_nothing_else():
    cells = [
        Cell("import math, torch\nprint('hello')", None),
        Cell("def helper(x):\n    return math.sqrt(x)\nunused = torch.zeros(3)", None),
        Cell("from lectern import check\ncheck('twice')\n%matplotlib inline", None),
        Cell("def root(x):\n    return helper(x)\nroot.name = 'root'\ncheck('root')", "root"),
        Cell("def helper(x):\n    return 0", None),
    ]
    (statements,) = pieces_from(cells, ["root"]).values()
    assert statements == [
        "import math, torch",
        "def helper(x):\n    return math.sqrt(x)",
        "def root(x):\n    return helper(x)",
        "root.name = 'root'",
    ]


@pytest.mark.parametrize("code", ["root = " + "+".join(["1"] * 900), "root = 1\n" + "#" * 300_000])
def test_no_piece_is_made_of_what_would_stop_the_grader(code):
    assert pieces_from([Cell(code, "root")], ["root"]) == {}


def test_watch_lives_through_a_half_written_file(course, desk, capsys):
    def saves():
        course.notebook("first").write_text('{"cells": [')
        yield "first"

    watch(desk, "first", saves())
    assert "The notebook is not valid JSON" in capsys.readouterr().out


def test_check_in_a_notebook_judges_what_is_there(course):
    code = (
        "import torch\n"
        f"from IPython.core.interactiveshell import InteractiveShell as S\n"
        "s = S.instance()\n"
        "s.run_cell('import torch\\nfrom lectern import check', store_history=True)\n"
        f"s.run_cell({WRONG!r}, store_history=True)\n"
        "s.run_cell('check(\"twice\")')\n"
        f"s.run_cell({RIGHT!r}, store_history=True)\n"
        "s.run_cell('check(\"twice\")')\n"
        "s.run_cell('def total(x):\\n    return x.sum()', store_history=True)\n"
        "s.run_cell('check(\"total\")')\n"
        "s.run_cell('check(\"nothing\")')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=course.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "✗ twice  0 of 2 points" in said
    assert "It came back as it was." in " ".join(said.split())  # wherever the lines end
    assert "✓ twice  2 of 2 points" in said
    assert "line 2 calls torch.Tensor.sum" in said
    assert "There is no exercise 'nothing'" in said
