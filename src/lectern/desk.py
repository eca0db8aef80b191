"""A learner's desk: what passed, which hints were given, backups; light, so that it opens at once.

`Desk`, `Standing`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

from lectern.course import BACKUPS, Course, CourseError, Task
from lectern.files import write_safely
from lectern.notebooks import NotebookError, code_cells, defined, pieces_from, read_bytes

if TYPE_CHECKING:
    from lectern.engine import Outcome

__all__ = ["PROGRESS", "Desk", "Standing"]

PROGRESS = ".progress.json"


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

    def begun(self, task: Task) -> bool:
        """Say if a notebook holds an answer to an exercise, right or wrong."""
        try:
            cells = code_cells(self.read(task.chapter), {task.name})
        except CourseError:
            return True  # to be told why it cannot be read
        codes = [cell.code.strip() for cell in cells if cell.exercise == task.name]
        return bool(codes) and codes[-1] != task.stub.strip()

    def pieces(self, but: str | None = None) -> dict[str, list[str]]:
        """Return what passed in other chapters, as the statements that make it."""
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
    """Return, for exercises of a notebook, the statements that make it."""
    try:
        content = read_bytes(course.notebook(chapter))
        cells = code_cells(content, {task.name for task in course.chapter(chapter)})
    except NotebookError:
        return {}
    return pieces_from(cells, names)
