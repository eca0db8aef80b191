"""What the command line and notebooks print: coloured in a terminal, plain text elsewhere.

`console`, `show_standing`, `show_progress`, `show_task`, `show_class`.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from lectern.course import Course, Task
from lectern.text import clean

if TYPE_CHECKING:
    from lectern.desk import Desk, Standing
    from lectern.marks import Sheet
    from lectern.tally import Row

__all__ = ["console", "show_class", "show_progress", "show_standing", "show_task"]

_MARKS = {"passed": ("✓", "green"), "unwritten": ("○", "dim"), "wrong": ("✗", "red")}
_WORDS = {
    "wrong": "not yet right",
    "raised": "raises an error",
    "unwritten": "not written yet",
    "forbidden": "uses what it should do without",
    "missing": "is not defined",
    "unreadable": "cannot be read",
    "time": "took too long",
    "memory": "used too much memory",
    "processes": "started too many processes",
    "output": "printed too much",
    "crash": "ended its process",
    "protocol": "tampered with its process",
    "broken check": "could not be checked",
    "grader": "could not be graded",
    "passed": "passed",
}


def console(*, error: bool = False, width: int | None = None) -> Console:
    """Return where to print: in a terminal with colours, else plain text, as wide as it comes.

    Parameters
    ----------
    error : bool
        Whether to print to standard error.
    width : int, optional
        Columns after which lines are broken where this is no terminal.
    """
    file = sys.stderr if error else sys.stdout
    plain = not file.isatty()
    return Console(
        file=file, highlight=False, width=(width or 10_000) if plain else None,
        force_jupyter=False, no_color=plain or None,
    )  # fmt: skip


def _say(out: Console, indent: int, text: str, style: str | None = None) -> None:
    """Print text as it is, indented, its lines broken where the console ends."""
    for line in text.splitlines() or [""]:
        for part in textwrap.wrap(line, max(out.width - indent - 1, 20)) or [""]:
            out.print(" " * indent + part, style=style, markup=False, soft_wrap=True)


def verdict_in_words(verdict: str) -> str:
    """Return a verdict as a reader wants to see it."""
    return _WORDS.get(verdict, verdict)


def show_standing(standing: Standing, out: Console | None = None) -> None:
    """Print how an answer stands: its points, and for each check that failed, why."""
    out = out or console()
    task = standing.task
    kind = "passed" if standing.passed else "unwritten" if standing.unwritten else "wrong"
    mark, colour = _MARKS[kind]
    score = f"{standing.points:g} of {task.points} points"
    out.print(f"[{colour}]{mark} {task.name}[/]  {score}", soft_wrap=True)
    if standing.unwritten:
        _say(out, 3, standing.outcomes[0].feedback, "dim")
        return
    said = set()
    for outcome in standing.outcomes:
        sign = "[green]✓[/]" if outcome.passed else "[red]✗[/]"
        again = " (for the same reason)" if outcome.feedback in said else ""
        out.print(f"   {sign} {escape(outcome.check)}{again}", soft_wrap=True)
        if not outcome.passed and not again:
            _say(out, 5, outcome.feedback)
            said.add(outcome.feedback)
    if not standing.passed:
        _say(out, 3, f"A hint: lectern hint {task.name}", "dim")


def show_task(task: Task, course: Course, out: Console | None = None) -> None:
    """Print what an exercise asks."""
    out = out or console()
    facts = f"{task.points} points, {task.difficulty}, about {task.minutes} minutes"
    out.print(f"[bold]{escape(task.title)}[/]  ({task.name})", soft_wrap=True)
    out.print(f"[dim]{escape(str(course.notebook(task.chapter)))}: {facts}[/]", soft_wrap=True)
    out.print()
    out.print(Markdown(task.prompt) if out.is_terminal else escape(task.prompt))


def show_progress(desk: Desk, out: Console | None = None) -> None:
    """Print a table of the book: what passed in each chapter."""
    out = out or console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("chapter", "passed", "points", ""):
        table.add_column(name, justify="right" if name in ("passed", "points") else "left")
    done = total = 0.0
    for chapter, tasks in desk.course.chapters.items():
        names = [task.name for task in tasks]
        passed = sum(map(desk.passed, names))
        points = sum(float(desk.memory.get(name, {}).get("points", 0)) for name in names)
        most = sum(task.points for task in tasks)
        done, total = done + points, total + most
        bar = "".join("█" if desk.passed(name) else "·" for name in names)
        style = "green" if passed == len(names) else None
        table.add_row(
            desk.course.titles[chapter], f"{passed}/{len(names)}", f"{points:g}/{most}", bar,
            style=style,
        )  # fmt: skip
    out.print(table)
    all_passed = sum(map(desk.passed, desk.course.tasks))
    out.print(
        f"{all_passed} of {len(desk.course.tasks)} exercises, {done:g} of {total:g} points in all"
    )


def show_class(rows: Sequence[Row], sheets: Sequence[Sheet], out: Console | None = None) -> None:
    """Print a class's results: for each exercise how many passed, and what went wrong most."""
    out = out or console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("exercise", "answers", "full marks", "mean", "most often"):
        table.add_column(name, justify="left" if name in ("exercise", "most often") else "right")
    for row in rows:
        worst = row.beliefs.most_common(1) or [
            (verdict_in_words(verdict), n) for verdict, n in row.verdicts.most_common(1)
        ]
        most_often = "".join(f"{what} ({n})" for what, n in worst)
        mean = f"{row.mean:.2f} of {row.most:g}" if row.answers else ""
        table.add_row(
            row.task.name, str(row.answers), str(row.full), mean, escape(most_often)
        )  # fmt: skip
    out.print(table)
    for sheet in sheets:
        for note in sheet.notes:
            out.print(f"[yellow]{escape(clean(sheet.student, lines=False))}[/]: {escape(note)}")
