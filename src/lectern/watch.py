"""Checks again whenever a notebook is saved, and shows the exercise at hand.

`watch`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from rich.console import Console
from watchfiles import watch as changes

from lectern.course import CourseError, Task
from lectern.desk import Desk, Standing
from lectern.learner import check_chapter
from lectern.show import console, show_standing, show_task

__all__ = ["watch"]


def watch(desk: Desk, chapter: str | None = None, saves: Iterable[str] | None = None) -> None:
    """Follow a learner through the exercises, until interrupted or all have passed.

    Parameters
    ----------
    desk : Desk
    chapter : str, optional
        To stay with; otherwise the book in its order.
    saves : iterable of str, optional
        Chapters whose notebooks were saved; by default, as they are.

    Raises
    ------
    CourseError
        If there is no such chapter.
    """
    out = console()
    task = desk.next_task(chapter)
    if task is None:
        out.print("Every exercise has passed.")
        return
    _show(task, desk, out)
    begun = [task.chapter] if desk.begun(task) else []
    try:
        for saved in chain(begun, saves) if saves is not None else _saves(desk, begun):
            task = _after_save(saved, task, desk, chapter, out)
            if task is None:
                out.print("[green]Every exercise has passed.[/]")
                return
    except KeyboardInterrupt:
        out.print("What passed is remembered; `lectern watch` goes on from here.")


def _saves(desk: Desk, begun: Sequence[str]) -> Iterator[str]:
    """Yield chapters that were begun before, and those whose notebooks are saved from now on."""
    folder, first = desk.course.folder.resolve(), True
    for found in changes(
        folder, recursive=False, raise_interrupt=True, yield_on_timeout=True, rust_timeout=200
    ):
        if first:  # only now, when no save can be missed any more
            yield from begun
            first = False
        names = {Path(path).stem for _, path in found if path.endswith(".ipynb")}
        yield from sorted(names & set(desk.course.chapters))


def _after_save(
    saved: str, task: Task, desk: Desk, chapter: str | None, out: Console
) -> Task | None:
    """Check a notebook that was saved, and return the exercise that is at hand then."""
    out.rule(style="dim") if out.is_terminal else out.print()
    before = {name for name in desk.course.tasks if desk.passed(name)}
    try:
        with out.status(f"Running {saved}.ipynb …"):
            standings = check_chapter(desk, saved)
    except CourseError as error:  # half saved, perhaps
        out.print(str(error), markup=False)
        return task
    shown = [s for s in standings if _is_news(s, task, before)]
    for standing in shown or [s for s in standings if s.task.name == task.name]:
        show_standing(standing, out)
    if desk.passed(task.name):
        following = desk.next_task(chapter)
        if following is not None:
            _show(following, desk, out)
        return following
    return task


def _is_news(standing: Standing, task: Task, before: Collection[str]) -> bool:
    """Say if a learner wants to see how an answer stands."""
    if standing.passed:
        return standing.task.name == task.name or standing.task.name not in before
    return not standing.unwritten


def _show(task: Task, desk: Desk, out: Console) -> None:
    passed = sum(map(desk.passed, desk.course.tasks))
    out.print(f"\n[dim]{passed} of {len(desk.course.tasks)} exercises have passed.[/]")
    show_task(task, desk.course, out)
    out.print("\n[dim]Write your answer in the notebook and save it. Ctrl-C ends.[/]")
