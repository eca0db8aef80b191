"""A class's answers, counted: how an exercise went, and what those who missed it seem to believe.

`Row`, `rows_of`, `commonest`, `foreseen`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from lectern.course import Course, Task, read_sources
from lectern.exercise import Mutant
from lectern.marks import Mark, Sheet

__all__ = ["Row", "commonest", "foreseen", "rows_of"]

_MOST_BELIEFS = 20


class Row:
    """The answers of a class to one exercise; those that are not written yet do not count.

    Parameters
    ----------
    task : Task
    marks : sequence of Mark
        Of this exercise.
    mutants : sequence of Mutant
        The wrong answers that its author foresaw.
    """

    def __init__(self, task: Task, marks: Sequence[Mark], mutants: Sequence[Mutant] = ()) -> None:
        written = [mark for mark in marks if mark.written]
        self.task, self.answers = task, len(written)
        self.most = task.points + task.hand
        self.full = sum(mark.points >= self.most for mark in written)
        self.none = sum(mark.points == 0 for mark in written)
        self.part = self.answers - self.full - self.none
        self.mean = sum(mark.points for mark in written) / max(self.answers, 1)
        self.verdicts = Counter(mark.verdict for mark in written if mark.verdict != "passed")
        self.beliefs: Counter[str] = Counter()
        """For each misconception, the answers whose feedback names it."""
        for mark in written:
            said = " ".join(o.feedback for o in mark.outcomes if not o.passed)
            self.beliefs.update({m.misconception for m in mutants if m.says in said})

    def width(self, count: int) -> str:
        """Return a share of the answers, in per cent."""
        return f"{100 * count / max(self.answers, 1):.1f}"


def rows_of(
    sheets: Sequence[Sheet], tasks: Sequence[Task], mutants: Mapping[str, Sequence[Mutant]]
) -> list[Row]:
    """Return a row for each exercise.

    Parameters
    ----------
    sheets : sequence of Sheet
    tasks : sequence of Task
    mutants : mapping of str to sequence of Mutant
        By exercise, as `foreseen` returns them.
    """
    marks: dict[str, list[Mark]] = {task.name: [] for task in tasks}
    for sheet in sheets:
        for mark in sheet.marks:
            marks[mark.task.name].append(mark)
    return [Row(task, marks[task.name], mutants.get(task.name, ())) for task in tasks]


def commonest(rows: Sequence[Row]) -> list[tuple[str, str, int]]:
    """Return exercise, misconception and number of answers, the commonest 20 first."""
    found = [(r.task.name, belief, n) for r in rows for belief, n in r.beliefs.items()]
    return sorted(found, key=lambda each: (-each[2], each[:2]))[:_MOST_BELIEFS]


def foreseen(course: Course) -> dict[str, tuple[Mutant, ...]]:
    """Return the wrong answers that authors foresaw, if the sources lie beside the exercises."""
    sources = course.folder.parent / "solutions"
    if not sources.is_dir():
        return {}
    return {e.name: e.mutants for chapter in read_sources(sources) for e in chapter.exercises}
