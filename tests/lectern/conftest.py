"""A small course, and hands that write notebooks for it."""

import shutil
from pathlib import Path

import nbformat
import pytest

from lectern.course import Course, read_sources, write_course
from lectern.exercise import plain
from lectern.notebooks import release
from lectern.sandbox import Sandbox

collect_ignore = ["toy"]  # checks are no tests of ours
TOY = Path(__file__).parent / "toy"
LIBRARY = Path(__file__).parents[2] / "src" / "glassbox"


@pytest.fixture(scope="session")
def sandbox():
    with Sandbox(LIBRARY) as found:
        yield found


@pytest.fixture(scope="session")
def sources():
    """The chapters of the toy course, by name."""
    return {chapter.name: chapter for chapter in read_sources(TOY / "solutions")}


@pytest.fixture
def course(tmp_path, sources):
    """A fresh copy of the toy course's exercises."""
    folder = tmp_path / "exercises"
    write_course(list(sources.values()), folder)
    shutil.copytree(TOY / "checks", folder / "checks")
    shutil.copytree(TOY / "solutions", tmp_path / "solutions")  # an instructor has them too
    return Course(folder)


@pytest.fixture
def notebook(sources):
    """Return the bytes of a chapter's notebook, with given code or the solution in its cells."""

    def make(chapter="first", change=None, **answers):
        made = release(sources[chapter])
        solutions = {e.name: plain(e.solution) for e in sources[chapter].exercises}
        for cell in made.cells:
            name = cell.metadata.get("lectern", {}).get("exercise")
            if name:
                cell.source = answers.get(name, solutions[name])
        if change is not None:
            change(made)
        return nbformat.writes(made).encode()

    return make


@pytest.fixture
def hand_in(tmp_path, notebook):
    """Put notebooks into a student's folder."""

    def put(student, *chapters, **answers):
        folder = tmp_path / "submissions" / student
        folder.mkdir(parents=True, exist_ok=True)
        for chapter in chapters or ("first",):
            (folder / f"{chapter}.ipynb").write_bytes(notebook(chapter, **answers))
        return folder

    return put
