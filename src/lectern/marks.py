"""From what checks said and an instructor decided to a student's points.

`Mark`, `Sheet`, `sheet_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lectern.course import Course, Task
from lectern.engine import Outcome
from lectern.grading import Result
from lectern.policy import Decision, Policy

__all__ = ["ChapterMarks", "Mark", "Sheet", "counted_chapters", "sheet_of"]


@dataclass(frozen=True)
class Mark:
    """A student's points for one exercise."""

    task: Task
    outcomes: tuple[Outcome, ...]
    code: str
    words: str
    override: Decision | None = None
    hand: Decision | None = None

    @property
    def by_checks(self) -> float:
        """What the checks gave."""
        return sum(o.points for o in self.outcomes if o.passed)

    @property
    def points(self) -> float:
        """What counts, before anything is taken off for lateness."""
        own = self.by_checks if self.override is None else self.override.points
        return own + (self.hand.points if self.hand else 0.0)

    @property
    def most(self) -> float:
        """What it is worth."""
        return float(self.task.points + self.task.hand)

    @property
    def waits(self) -> bool:
        """Whether an answer in prose has not been read yet."""
        return bool(self.task.hand and self.words and self.hand is None)

    @property
    def written(self) -> bool:
        """Whether there is an answer that could be judged."""
        empty = {"unwritten", "missing", "unreadable", "not handed in"}
        return self.verdict not in empty or self.points > 0

    @property
    def verdict(self) -> str:
        """ "passed", or what the first check that failed said."""
        if not self.outcomes:
            return "not handed in"
        return next((o.verdict for o in self.outcomes if not o.passed), "passed")


@dataclass(frozen=True)
class ChapterMarks:
    """A student's points for one notebook."""

    chapter: str
    title: str
    marks: tuple[Mark, ...]
    days_late: float
    percent_off: float
    errors: tuple[str, ...] = ()
    """What cells of the notebook raised."""

    @property
    def unreadable(self) -> str:
        """Why the notebook could not be read, if it could not."""
        found = [o for mark in self.marks for o in mark.outcomes if o.verdict == "unreadable"]
        return found[0].feedback if found else ""

    @property
    def before(self) -> float:
        """Points before anything is taken off for lateness."""
        return sum(mark.points for mark in self.marks)

    @property
    def points(self) -> float:
        """What counts."""
        return self.before * (1 - self.percent_off / 100)

    @property
    def most(self) -> float:
        """What it is worth."""
        return sum(mark.most for mark in self.marks)


@dataclass(frozen=True)
class Sheet:
    """All of a student's points."""

    student: str
    chapters: tuple[ChapterMarks, ...]
    notes: tuple[str, ...]
    unsandboxed: bool

    @property
    def marks(self) -> list[Mark]:
        """Those of all chapters."""
        return [mark for chapter in self.chapters for mark in chapter.marks]

    @property
    def points(self) -> float:
        """What counts."""
        return round(sum(chapter.points for chapter in self.chapters), 4)

    @property
    def most(self) -> float:
        """What it is worth."""
        return sum(chapter.most for chapter in self.chapters)

    @property
    def percent(self) -> float:
        """Points, of what they could be."""
        return 100 * self.points / self.most if self.most else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "student": self.student,
            "points": self.points,
            "of": self.most,
            "sandboxed": not self.unsandboxed,
            "notes": list(self.notes),
            "chapters": [
                {
                    "chapter": chapter.chapter,
                    "points": round(chapter.points, 4),
                    "of": chapter.most,
                    "days_late": round(chapter.days_late, 4),
                    "percent_off": chapter.percent_off,
                    "errors": list(chapter.errors),
                    "exercises": [_mark_json(mark) for mark in chapter.marks],
                }
                for chapter in self.chapters
            ],
        }


def _mark_json(mark: Mark) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "exercise": mark.task.name,
        "points": mark.points,
        "of": mark.most,
        "by_checks": mark.by_checks,
        "verdict": mark.verdict,
        "checks": [
            {"check": o.check, "points": o.points, "verdict": o.verdict, "feedback": o.feedback}
            for o in mark.outcomes
        ],
    }
    if mark.override is not None:
        facts["override"] = {"points": mark.override.points, "reason": mark.override.why}
    if mark.task.hand:
        facts["waits_for_hand"] = mark.waits
    if mark.hand is not None:
        facts["hand"] = {"points": mark.hand.points, "comment": mark.hand.why}
    return facts


def counted_chapters(results: Sequence[Result], course: Course, policy: Policy) -> list[str]:
    """Return the chapters that count, in the book's order."""
    handed_in = {chapter for result in results for chapter in result.outcomes}
    return [name for name in course.chapters if name in (policy.chapters or handed_in)]


def sheet_of(result: Result, chapters: Sequence[str], course: Course, policy: Policy) -> Sheet:
    """Return a student's points.

    Parameters
    ----------
    result : Result
    chapters : sequence of str
        That count; who handed none in has no points for it.
    course : Course
    policy : Policy
    """
    found = []
    for chapter in chapters:
        days, percent = 0.0, 0.0
        if chapter in result.outcomes:
            modified = result.modified.get(chapter, 0.0)
            days, percent = policy.late(result.student, chapter, modified)
        marks = tuple(_mark(task, result, policy) for task in course.chapter(chapter))
        errors = tuple(result.errors.get(chapter, ()))
        found.append(ChapterMarks(chapter, course.titles[chapter], marks, days, percent, errors))
    return Sheet(result.student, tuple(found), tuple(result.notes), result.unsandboxed)


def _mark(task: Task, result: Result, policy: Policy) -> Mark:
    outcomes = [o for o in result.outcomes.get(task.chapter, ()) if o.exercise == task.name]
    key = (result.student, task.name)
    return Mark(
        task, tuple(outcomes), result.codes.get(task.name, ""), result.words.get(task.name, ""),
        policy.overrides.get(key), policy.by_hand.get(key),
    )  # fmt: skip
