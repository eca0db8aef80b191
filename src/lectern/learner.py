"""Checking a learner's answers on the learner's own machine.

`check_here`, in a notebook; `check_chapter`, of a notebook's file; `own_pieces`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lectern.attempt import Attempt, Times
from lectern.course import Answer, CourseError, Task, find_course
from lectern.desk import Desk, Standing
from lectern.engine import Outcome, Submission, run_checks
from lectern.grading import Result, grade_jobs
from lectern.local import Here, Process
from lectern.notebooks import defined
from lectern.show import console, show_standing
from lectern.submissions import Job

__all__ = ["check_chapter", "check_here", "own_pieces"]

_WIDTH = 88  # columns of text below a cell
_SECRET = b"practice"  # the same inputs at each check, so that a mistake can be looked into


def check_chapter(desk: Desk, chapter: str) -> list[Standing]:
    """Run a chapter's notebook in a process of its own, check it, and remember the outcome.

    Parameters
    ----------
    desk : Desk
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
    tasks = desk.course.chapter(chapter)
    job = Job("learner", {chapter: desk.read(chapter)}, pieces=desk.pieces(but=chapter))
    results: list[Result] = []
    grade_jobs(
        desk.course, [job], Process, _SECRET, results.append, chapters=[chapter], times=Times()
    )
    outcomes = results[0].outcomes[chapter]
    standings = [
        Standing(task, tuple(o for o in outcomes if o.exercise == task.name)) for task in tasks
    ]
    for standing in standings:
        desk.take(standing)
    return standings


def own_pieces() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return what passed in the notebooks here, and what the library has in the place of the rest.

    Raises
    ------
    CourseError
        If there are no exercises here.
    """
    desk = Desk(find_course(Path.cwd()))
    return desk.pieces(), {t.name: t.book for t in desk.course.tasks.values() if t.book}


def check_here(names: Sequence[object]) -> None:
    """Check exercises in the notebook that calls this, and print how they stand.

    Parameters
    ----------
    names : sequence
        Of exercises; the functions themselves do as well.

    Raises
    ------
    CourseError
        If there are no exercises of that name.
    """
    desk = Desk(find_course(Path.cwd()))
    if not names:
        raise CourseError('check needs the names of exercises, as in check("sigmoid").')
    space, inputs = _notebook()
    for each in names:
        name = each if isinstance(each, str) else getattr(each, "__name__", repr(each))
        standing = _standing_here(desk, desk.course.task(name), space, inputs)
        show_standing(standing, console(width=_WIDTH))


def _standing_here(
    desk: Desk, task: Task, space: dict[str, Any], inputs: Sequence[str]
) -> Standing:
    """Check one exercise with the names of a notebook, and remember how it stands."""
    name = task.name
    found: list[Outcome] = []
    code = next((text for text in reversed(inputs) if defined(text, {name}) == name), "")
    answers = {name: Answer(code, task.forbids, task.stub)}
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
