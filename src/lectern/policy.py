"""An instructor's decisions, from a small TOML: deadlines, overrides, points given by hand.

`Policy`, `PolicyError`, `read_policy`.

Grading never writes this file, so that what a person decided outlives every re-grading.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lectern.course import Course, unknown_name

__all__ = ["Decision", "Policy", "PolicyError", "read_policy"]

_SECONDS_A_DAY = 86_400


class PolicyError(ValueError):
    """A policy that cannot be read; the text says what is wrong with which entry."""


@dataclass(frozen=True)
class Decision:
    """Points that a person gave for an exercise, and why."""

    points: float
    why: str = ""


@dataclass(frozen=True)
class Policy:
    """What an instructor decided."""

    chapters: tuple[str, ...] = ()
    """Those that count; all that somebody handed in if there are none."""
    deadlines: Mapping[str, datetime] = field(default_factory=dict)
    extensions: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Days, by student and chapter."""
    submitted: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    """When it was handed in, where the file's own time is wrong."""
    grace: float = 0.0
    """Seconds after a deadline that cost nothing."""
    percent_per_day: float = 0.0
    most_percent: float = 100.0
    overrides: Mapping[tuple[str, str], Decision] = field(default_factory=dict)
    """By student and exercise, in the place of what the checks say."""
    by_hand: Mapping[tuple[str, str], Decision] = field(default_factory=dict)
    """By student and exercise, for an answer in prose."""

    @property
    def students(self) -> set[str]:
        """All who are named."""
        tables = (self.extensions, self.submitted, self.overrides, self.by_hand)
        return {student for table in tables for student, _ in table}

    def late(self, student: str, chapter: str, modified: float) -> tuple[float, float]:
        """Return by how many days a notebook was late, and what per cent of its points that costs.

        Parameters
        ----------
        student, chapter : str
        modified : float
            When its file was last changed, in seconds since 1970.
        """
        deadline = self.deadlines.get(chapter, self.deadlines.get("all"))
        if deadline is None:
            return 0.0, 0.0
        handed_in = self.submitted.get((student, chapter))
        moment = modified if handed_in is None else handed_in.timestamp()
        days = self.extensions.get((student, chapter), self.extensions.get((student, "all"), 0.0))
        over = moment - deadline.timestamp() - days * _SECONDS_A_DAY
        if over <= self.grace:
            return 0.0, 0.0
        begun = math.ceil(over / _SECONDS_A_DAY)
        return over / _SECONDS_A_DAY, min(begun * self.percent_per_day, self.most_percent)


def read_policy(path: Path, course: Course) -> Policy:
    """Read an instructor's decisions.

    Parameters
    ----------
    path : Path
    course : Course
        Whose chapters and exercises may be named.

    Raises
    ------
    PolicyError
        If it is no TOML, or an entry is not of its form.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"{path}: {error}") from None
    try:
        return _read(tables, course)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from None


def _read(tables: dict[str, Any], course: Course) -> Policy:
    known = {"chapters", "deadlines", "extensions", "submitted", "late", "override", "hand"}
    if unknown := sorted(set(tables) - known):
        raise PolicyError(f"{unknown[0]} is not known; there are {', '.join(sorted(known))}.")
    chapters = tables.get("chapters", [])
    if not isinstance(chapters, list):
        raise PolicyError("chapters must be a list of names.")
    for name in chapters:
        _check_chapter("chapters", name, course)
    late = _table(tables, "late")
    if unknown := sorted(set(late) - {"grace_minutes", "percent_per_day", "most_percent"}):
        raise PolicyError(
            f"late.{unknown[0]} is not known; there are grace_minutes, percent_per_day and "
            "most_percent."
        )
    deadlines = _table(tables, "deadlines")
    for name, moment in deadlines.items():
        _check_chapter("deadlines", name, course)
        _check_moment(f"deadlines.{name}", moment)
    return Policy(
        chapters=tuple(chapters),
        deadlines=deadlines,
        extensions={
            key: _number(f"extensions.{'.'.join(key)}", value)
            for key, value in _by_student(tables, "extensions", course)
        },
        submitted={
            key: _check_moment(f"submitted.{'.'.join(key)}", value)
            for key, value in _by_student(tables, "submitted", course)
        },
        grace=60 * _number("late.grace_minutes", late.get("grace_minutes", 0)),
        percent_per_day=_number("late.percent_per_day", late.get("percent_per_day", 0), 100),
        most_percent=_number("late.most_percent", late.get("most_percent", 100), 100),
        overrides=_decisions(tables, "override", "reason", course),
        by_hand=_decisions(tables, "hand", "comment", course),
    )


def _table(tables: dict[str, Any], name: str) -> dict[str, Any]:
    found = tables.get(name, {})
    if not isinstance(found, dict):
        raise PolicyError(f"{name} must be a table, [{name}].")
    return found


def _by_student(
    tables: dict[str, Any], name: str, course: Course
) -> list[tuple[tuple[str, str], Any]]:
    found = []
    for student, entries in _table(tables, name).items():
        if not isinstance(entries, dict):
            raise PolicyError(f"{name} needs a table for each student, [{name}.{student}].")
        for chapter, value in entries.items():
            _check_chapter(f"{name}.{student}", chapter, course)
            found.append(((student, chapter), value))
    return found


def _decisions(
    tables: dict[str, Any], name: str, words: str, course: Course
) -> dict[tuple[str, str], Decision]:
    entries = tables.get(name, [])
    if not isinstance(entries, list):
        raise PolicyError(f"{name} must be a list of tables, [[{name}]].")
    found = {}
    for number, entry in enumerate(entries, start=1):
        at = f"[[{name}]] number {number}"
        if unknown := sorted(set(entry) - {"student", "exercise", "points", words}):
            raise PolicyError(f"{at}: {unknown[0]} is not known.")
        student, exercise = entry.get("student"), entry.get("exercise")
        if not isinstance(student, str) or not isinstance(exercise, str):
            raise PolicyError(f"{at} needs a student, an exercise and points.")
        if exercise not in course.tasks:
            raise PolicyError(f"{at}: {unknown_name('exercise', exercise, course.tasks)}")
        if (student, exercise) in found:
            raise PolicyError(f"{at}: {student} has an entry for {exercise} already.")
        task = course.tasks[exercise]
        most = task.hand if name == "hand" else task.points
        if not most:
            raise PolicyError(f"{at}: {exercise} asks for no answer in prose.")
        points = _number(f"{at}: points", entry.get("points"), most)
        found[student, exercise] = Decision(points, str(entry.get(words, "")))
    return found


def _check_chapter(where: str, name: object, course: Course) -> None:
    if name != "all" and name not in course.chapters:
        raise PolicyError(f"{where}: {unknown_name('chapter', str(name), course.chapters)}")


def _check_moment(where: str, value: object) -> datetime:
    if not isinstance(value, datetime):
        raise PolicyError(f"{where} must be a date with a time, such as 2026-12-01T23:59:00.")
    return value


def _number(where: str, value: object, most: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        limit = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
        raise PolicyError(f"{where} must be a number {limit}, but it is {value!r}.")
    return float(value)
