"""`lectern grade`: grade a folder of submissions and write every report.

`grade`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lectern.course import Course, library_folder, similar
from lectern.grading import Class, Result, Settings, cores, grade_class
from lectern.marks import counted_chapters, sheet_of
from lectern.policy import Policy, read_policy
from lectern.report import write_reports
from lectern.show import console, show_class
from lectern.submissions import find_submissions
from lectern.tally import foreseen, rows_of

__all__ = ["grade"]

_INTERRUPTED = 130


def grade(
    course: Course, submissions: Path, output: Path, *, policy: Path | None = None,
    workers: int | None = None, only_failed: bool = False, at_least: float | None = None,
    library: Path | None = None, unsafe: bool = False,
) -> int:  # fmt: skip
    """Grade a folder of submissions, and return the exit code.

    Parameters
    ----------
    course : Course
    submissions, output : Path
    policy : Path, optional
        By default ``grading.toml`` beside the submissions, if there is one.
    workers : int, optional
    only_failed : bool
    at_least : float, optional
        Per cent of the points below which a student makes the code 1.
    library : Path, optional
    unsafe : bool

    Raises
    ------
    ValueError
        If there are no submissions, or the policy cannot be read.
    SandboxError
        If there is no sandbox here, and `unsafe` was not asked for.
    """
    jobs = find_submissions(submissions, course)
    beside = submissions.absolute().parent / "grading.toml"
    policy = policy or (beside if beside.exists() else None)
    decided = read_policy(policy, course) if policy else Policy()
    kept = Class(output)
    settings = Settings(library or library_folder(), kept.secret(), unsafe=unsafe)
    out, begun, new = console(), time.monotonic(), 0

    with _progress(len(jobs)) as progress:
        task = progress.add_task("grading", total=len(jobs))

        def tell(result: Result, is_new: bool) -> None:
            nonlocal new
            new += is_new
            progress.advance(task)

        try:
            results = grade_class(
                course, jobs, kept, settings, workers=workers or cores(),
                only_failed=only_failed, tell=tell,
            )  # fmt: skip
        except KeyboardInterrupt:
            progress.stop()
            console(error=True).print(
                f"Interrupted: {new} graded in this run are kept; the same command goes on."
            )
            return _INTERRUPTED

    chapters = counted_chapters(results, course, decided)
    sheets = [sheet_of(result, chapters, course, decided) for result in results]
    notes = list(_absent(decided, {job.student for job in jobs}, policy))
    tasks = [task for chapter in chapters for task in course.chapter(chapter)]
    rows = rows_of(sheets, tasks, foreseen(course))
    write_reports(sheets, chapters, rows, output, notes)
    show_class(rows, sheets, out)
    for note in notes:
        out.print(note, style="yellow", markup=False)
    out.print(
        f"{len(results)} submissions, {new} of them graded now, in "
        f"{time.monotonic() - begun:.1f} s: {output / 'class.html'}"
    )
    if unsafe:
        out.print("[red]UNSANDBOXED[/]: without isolation these results prove nothing.")
    low = [sheet for sheet in sheets if at_least is not None and sheet.percent < at_least]
    for sheet in low:
        out.print(f"{sheet.student}: {sheet.percent:.1f} %, less than {at_least:g} %", markup=False)
    return int(bool(low))


def _absent(decided: Policy, students: set[str], policy: Path | None) -> Iterator[str]:
    for name in sorted(decided.students - students):
        near = similar(name, students)
        perhaps = f"; perhaps {' or '.join(near)}?" if near else "."
        yield f"{policy} names {name}, who has handed in nothing{perhaps}"


def _progress(total: int) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), console=console(error=True),
        disable=not console(error=True).is_terminal,
    )  # fmt: skip
