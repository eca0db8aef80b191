"""What a learner's own machine does: check notebooks, remember what passed, keep hints and backups.

`check_here`, `Desk`, `Standing`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat

from lectern.attempt import Attempt, Times
from lectern.course import Course, CourseError, Task, find_course
from lectern.engine import Answer, Outcome, Submission, run_checks
from lectern.grading import Result, grade_jobs, write_safely
from lectern.local import Here, Process
from lectern.notebooks import NotebookError, code_cells, defined, pieces_from, read_bytes
from lectern.show import show_standing
from lectern.submissions import Job

__all__ = ["Desk", "Standing", "check_here", "own_pieces"]

PROGRESS = ".progress.json"
BACKUPS = ".backups"
_SECRET = b"practice"  # the same inputs at each check, so that a mistake can be looked into


@dataclass(frozen=True)
class Standing:
    """How far an answer to an exercise is."""

    task: Task
    outcomes: tuple[Outcome, ...]

    @property
    def points(self) -> float:
        """What it scores."""
        return sum(o.points for o in self.outcomes if o.passed)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return bool(self.outcomes) and all(o.passed for o in self.outcomes)

    @property
    def unwritten(self) -> bool:
        """Whether nothing is written yet."""
        return any(o.verdict == "unwritten" for o in self.outcomes) and self.points == 0


class Desk:
    """A learner's exercises, and what is remembered of them.

    Parameters
    ----------
    course : Course
    """

    def __init__(self, course: Course) -> None:
        self.course = course

    @cached_property
    def memory(self) -> dict[str, dict[str, Any]]:
        """What is remembered of each exercise."""
        try:
            found = json.loads((self.course.folder / PROGRESS).read_text(encoding="utf-8"))
            return {str(name): dict(facts) for name, facts in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def remember(self, name: str, **facts: Any) -> None:
        """Keep something about an exercise."""
        self.memory.setdefault(name, {}).update(facts)
        text = json.dumps(self.memory, indent=1, sort_keys=True) + "\n"
        write_safely(self.course.folder / PROGRESS, text)

    def passed(self, name: str) -> bool:
        """Say if an exercise passed when it was last checked."""
        return bool(self.memory.get(name, {}).get("passed"))

    def next_task(self, chapter: str | None = None) -> Task | None:
        """Return the first exercise, of a chapter or of the book, that did not pass yet."""
        tasks = self.course.chapter(chapter) if chapter else self.course.tasks.values()
        return next((task for task in tasks if not self.passed(task.name)), None)

    def take(self, standing: Standing) -> None:
        """Remember how an answer stands."""
        name, passed = standing.task.name, standing.passed
        facts: dict[str, Any] = {"points": standing.points, "passed": passed}
        if passed and not self.passed(name):
            facts["since"] = datetime.now().isoformat(timespec="minutes")
        self.remember(name, **facts)

    def check(self, chapter: str) -> list[Standing]:
        """Run a chapter's notebook in a process of its own, check it, and remember the outcome.

        Parameters
        ----------
        chapter : str

        Returns
        -------
        list of Standing
            One for each exercise.

        Raises
        ------
        CourseError
            If there is no such chapter, or its notebook cannot be read.
        """
        tasks = self.course.chapter(chapter)
        job = Job("learner", {chapter: self.read(chapter)}, pieces=self.pieces(but=chapter))
        results: list[Result] = []
        grade_jobs(
            self.course, [job], Process, _SECRET, results.append, chapters=[chapter], times=Times()
        )
        outcomes = results[0].outcomes[chapter]
        standings = [
            Standing(task, tuple(o for o in outcomes if o.exercise == task.name)) for task in tasks
        ]
        for standing in standings:
            self.take(standing)
        return standings

    def read(self, chapter: str) -> bytes:
        """Return what a notebook holds.

        Raises
        ------
        CourseError
            If it cannot be read.
        """
        path = self.course.notebook(chapter)
        if not path.exists():
            raise CourseError(f"The notebook of {chapter} should be {path}, but there is none.")
        try:
            content = read_bytes(path)
            code_cells(content, ())  # or why it is no notebook
            return content
        except NotebookError as error:
            raise CourseError(f"{path}: {error}") from None

    def pieces(self, but: str | None = None) -> dict[str, list[str]]:
        """Return what passed in other chapters, as the cells that make it."""
        found: dict[str, list[str]] = {}
        for chapter, tasks in self.course.chapters.items():
            names = [task.name for task in tasks if self.passed(task.name)]
            if chapter != but and names:
                found |= _pieces_of(self.course, chapter, names)
        return found

    def hint(self, name: str) -> tuple[int, str]:
        """Return the next hint on an exercise, and its number; the last one again and again.

        Raises
        ------
        CourseError
            If there is no such exercise.
        """
        hints = self.course.task(name).hints
        number = min(int(self.memory.get(name, {}).get("hints", 0)) + 1, len(hints))
        self.remember(name, hints=number)
        return number, hints[number - 1]

    def reset(self, name: str) -> Path:
        """Put an exercise's stub back into its notebook, and return where the old one is kept.

        Raises
        ------
        CourseError
            If there is no such exercise, or the notebook has no cell for it.
        """
        task = self.course.task(name)
        path = self.course.notebook(task.chapter)
        content = self.read(task.chapter)
        notebook = nbformat.reads(content.decode("utf-8"), as_version=4)  # type: ignore[no-untyped-call]
        cells = [
            cell for cell in notebook.cells
            if cell.cell_type == "code"
            and (cell.metadata.get("lectern", {}).get("exercise") or cell.get("id")) == name
        ] or [
            cell for cell in notebook.cells
            if cell.cell_type == "code" and defined(cell.source, {name}) == name
        ]  # fmt: skip
        if not cells:
            raise CourseError(
                f"{path.name} has no cell for {name}: `lectern release` writes a fresh notebook."
            )
        now = datetime.now().strftime("%Y-%m-%d-%H%M%S")
        backup = self.course.folder / BACKUPS / f"{task.chapter}-{now}.ipynb"
        backup.parent.mkdir(exist_ok=True)
        backup.write_bytes(content)
        cells[0].source = task.stub
        cells[0].outputs = []
        write_safely(path, nbformat.writes(notebook) + "\n")  # type: ignore[no-untyped-call]
        self.remember(name, passed=False, points=0)
        return backup


def _pieces_of(course: Course, chapter: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Return, for exercises of a notebook, the cells that make what they ask for."""
    try:
        content = read_bytes(course.notebook(chapter))
        cells = code_cells(content, {task.name for task in course.chapter(chapter)})
    except NotebookError:
        return {}
    return pieces_from(cells, names)


def own_pieces() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return what passed in the notebooks here, and what the library has in the place of the rest.

    Raises
    ------
    CourseError
        If there are no exercises here.
    """
    desk = Desk(find_course(Path.cwd()))
    return desk.pieces(), {t.name: t.book for t in desk.course.tasks.values() if t.book}


def check_here(names: Sequence[str]) -> None:
    """Check exercises in the notebook that calls this, and print how they stand.

    Raises
    ------
    CourseError
        If there are no exercises of that name.
    """
    desk = Desk(find_course(Path.cwd()))
    if not names:
        raise CourseError('check needs the names of exercises, as in check("sigmoid").')
    space, inputs = _notebook()
    for name in names:
        show_standing(_standing_here(desk, desk.course.task(name), space, inputs))


def _standing_here(
    desk: Desk, task: Task, space: dict[str, Any], inputs: Sequence[str]
) -> Standing:
    """Check one exercise with the names of a notebook, and remember how it stands."""
    name = task.name
    found: list[Outcome] = []
    code = next((text for text in reversed(inputs) if defined(text, {name}) == name), "")
    answers = {name: Answer(code, task.forbids)}
    attempt = Attempt(lambda: Here(space), [], times=Times(all=float("inf")))
    submission = Submission("learner", task.chapter, attempt, answers, only=[name])
    run_checks(
        desk.course.check_files([task.chapter]), [submission],
        lambda _, outcomes: found.extend(outcomes), _SECRET,
    )  # fmt: skip
    standing = Standing(task, tuple(found))
    desk.take(standing)
    return standing


def _notebook() -> tuple[dict[str, Any], list[str]]:
    """Return the names of the notebook and what was run in it."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    space = shell.user_ns if shell is not None else vars(sys.modules["__main__"])
    return space, [str(text) for text in space.get("In", [])]
