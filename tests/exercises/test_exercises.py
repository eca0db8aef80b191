"""The exercises of the book: there, in step with their sources, proved, and nothing leaks."""

import json
import re
from pathlib import Path

import nbformat
import pytest
import yaml

from lectern.course import Course, read_sources, write_course
from lectern.exercise import KINDS, Code, plain
from lectern.verify import verify_all

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).parent / "recorded"
SOURCES = {chapter.name: chapter for chapter in read_sources(ROOT / "solutions")}
EXERCISES = [exercise for chapter in SOURCES.values() for exercise in chapter.exercises]
QUICK, LONG = range(3), range(20)


def book_chapters():
    parts = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())["parts"]
    names = [each["file"] for part in parts for each in part["chapters"]]
    return [name for name in names if not name.startswith("appendix/")]


def test_every_chapter_has_four_to_eight_exercises():
    assert list(SOURCES) == book_chapters()
    counts = {name: len(chapter.exercises) for name, chapter in SOURCES.items()}
    assert all(4 <= count <= 8 for count in counts.values()), counts
    assert sum(counts.values()) >= 80


def test_every_kind_of_exercise_is_there():
    assert {exercise.kind for exercise in EXERCISES} == set(KINDS)


def test_the_released_notebooks_are_in_step_with_their_sources(tmp_path):
    written = write_course(list(SOURCES.values()), tmp_path)
    for path in written:
        there = ROOT / "exercises" / path.name
        assert there.read_bytes() == path.read_bytes(), f"{path.name}: run make exercises"
    own = {path.name for path in (ROOT / "exercises").glob("*.ipynb")}
    assert own == {path.name for path in written if path.suffix == ".ipynb"}


def secret_lines(exercise):
    """Return the lines that only a solution has, and no code that learners of it are given."""
    parts = SOURCES[exercise.chapter].parts
    codes = [part.text for part in parts if isinstance(part, Code)]
    codes += [code for e in SOURCES[exercise.chapter].exercises for code in (e.stub, *e.given)]
    given = "\n".join([*codes, "with torch.no_grad():", "def forward(self, x):"])
    lines = {line.strip() for line in plain(exercise.solution).splitlines()}
    lines = {line for line in lines if line not in given}
    words = re.compile(r"\w+.*\w+.*\w+")
    return {line for line in lines if len(line) >= 20 and words.search(line)}


@pytest.mark.parametrize("chapter", SOURCES)
def test_nothing_of_a_solution_leaks(chapter):
    notebook = (ROOT / "exercises" / f"{chapter}.ipynb").read_text()
    text = "\n".join(str(value) for value in strings_of(json.loads(notebook)))
    index = Course(ROOT / "exercises").chapter(chapter)
    text += "\n".join(f"{t.prompt}\n{t.stub}\n{t.summary}\n" + "\n".join(t.hints) for t in index)
    assert "BEGIN SOLUTION" not in text
    for exercise in SOURCES[chapter].exercises:
        found = [line for line in secret_lines(exercise) if line in text]
        assert not found, f"{exercise.name}: {found}"
        for mutant in exercise.mutants:
            assert mutant.misconception not in text, exercise.name


def strings_of(value):
    """Yield every text in a piece of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings_of(each)


@pytest.mark.parametrize("chapter", SOURCES)
def test_a_released_notebook_has_no_outputs_and_no_other_metadata(chapter):
    notebook = nbformat.read(ROOT / "exercises" / f"{chapter}.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"lectern"}
        assert not cell.get("outputs")
        assert not cell.get("execution_count")


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_a_stub_is_python_and_differs_from_the_solution(exercise):
    compile(exercise.stub, exercise.name, "exec")
    assert exercise.stub.strip() != plain(exercise.solution).strip()


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_a_later_chapter_finds_what_the_library_has_in_its_place(exercise):
    if exercise.book:
        module, _, name = exercise.book.rpartition(".")
        assert hasattr(__import__(module, fromlist=[name]), name)


def proved(seeds):
    reports = verify_all(
        list(SOURCES.values()), ROOT / "exercises" / "checks", ROOT / "src" / "glassbox",
        seeds=seeds,
    )  # fmt: skip
    findings = [f"{report.chapter}: {finding}" for report in reports for finding in report.findings]
    assert not findings, "\n".join(findings)
    assert sum(r.killed for r in reports) == sum(r.mutants for r in reports) >= 3 * len(EXERCISES)
    variants = sum(2 + len(e.alternatives) + len(e.mutants) for e in EXERCISES)
    assert sum(r.runs for r in reports) == variants * len(seeds)


def test_stubs_fail_solutions_pass_and_mutants_are_told_why():
    proved(QUICK)


@pytest.mark.long
def test_they_do_with_twenty_seeds():
    proved(LONG)


@pytest.mark.parametrize("chapter", SOURCES)
def test_a_solved_notebook_runs_as_it_was_recorded(chapter, nb_regression, tmp_path):
    from record import copy_of_exercises, solved

    path = RECORDED / f"{chapter}.ipynb"
    recorded = nbformat.read(path, as_version=4)
    code = [cell.source for cell in recorded.cells if cell.cell_type == "code"]
    wanted = [cell.source for cell in solved(SOURCES[chapter]).cells if cell.cell_type == "code"]
    assert code == wanted, "run make exercises"
    assert "✗" not in path.read_text(encoding="utf-8")
    nb_regression.exec_cwd = str(copy_of_exercises(tmp_path))
    nb_regression.exec_timeout = 600
    nb_regression.diff_ignore = (
        "/metadata/language_info", "/cells/*/outputs/*/traceback", "/cells/*/execution_count",
    )  # fmt: skip
    nb_regression.check(str(path))
