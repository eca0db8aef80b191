"""The command `lectern`: exercises for learners, grading for instructors, proof for authors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from lectern.course import Course, CourseError, Task, find_course, library_folder, similar
from lectern.desk import Desk
from lectern.show import console, show_progress, show_standing, show_task

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--course", type=_FOLDER, help="The folder of the exercises; found by itself.")
@click.pass_context
def main(context: click.Context, course: Path | None) -> None:
    """Exercises of The Glass Box: check your answers, or grade those of a class.

    A learner's commands: check, hint, next, reset, watch, progress.
    An instructor's: grade. An author's: release, verify.
    """
    context.obj = course


_course_option = click.option(
    "--course", type=_FOLDER, expose_value=False, help="The folder of the exercises.",
    callback=lambda context, _, value: setattr(context, "obj", value or context.obj),
)  # fmt: skip


def _said(function: Callable[..., Any]) -> Callable[..., Any]:
    """Answer what the user can mend in one sentence, not with a traceback."""

    @wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (ValueError, RuntimeError) as error:
            raise click.ClickException(str(error)) from error

    return command


def _course(context: click.Context) -> Course:
    return find_course(context.obj) if context.obj else find_course(Path.cwd())


def _desk(context: click.Context) -> Desk:
    return Desk(_course(context))


@main.command()
@click.argument("names", nargs=-1, metavar="[CHAPTER | EXERCISE]...")
@_course_option
@click.pass_context
@_said
def check(context: click.Context, names: Sequence[str]) -> None:
    """Run your notebooks and check the answers; without a name, the chapter you are at.

    Ends with code 1 if an answer is not right yet.
    """
    from lectern.learner import check_chapter  # with PyTorch, which the other commands do without

    desk = _desk(context)
    chapters: dict[str, set[str] | None] = {}
    for given in names or [_chapter_now(desk)]:
        name = Path(given).stem if given.endswith(".ipynb") else given
        if name in desk.course.chapters:
            chapters[name] = None
        else:
            wanted = chapters.setdefault(_task(desk.course, name).chapter, set())
            if wanted is not None:
                wanted.add(name)
    out = console()
    fine = True
    for chapter, wanted in chapters.items():
        with out.status(f"Running {chapter}.ipynb …"):
            standings = check_chapter(desk, chapter)
        out.print(f"[bold]{desk.course.titles[chapter]}[/]")
        for standing in standings:
            if wanted is None or standing.task.name in wanted:
                show_standing(standing, out)
                fine = fine and standing.passed
        passed, points = sum(s.passed for s in standings), sum(s.points for s in standings)
        most = sum(s.task.points for s in standings)
        out.print(f"{passed} of {len(standings)} passed, {points:g} of {most} points.")
    sys.exit(not fine)


def _task(course: Course, name: str) -> Task:
    if name not in course.tasks:
        found = similar(name, [*course.chapters, *course.tasks])
        hint = f"perhaps {' or '.join(found)}?" if found else "`lectern progress` lists chapters."
        raise CourseError(f"There is no chapter and no exercise {name!r}; {hint}")
    return course.tasks[name]


def _chapter_now(desk: Desk) -> str:
    task = desk.next_task()
    return task.chapter if task else next(iter(desk.course.chapters))


@main.command()
@click.argument("name")
@_course_option
@click.pass_context
@_said
def hint(context: click.Context, name: str) -> None:
    """Give a hint on an exercise, and another each time you ask."""
    desk = _desk(context)
    number, text = desk.hint(name)
    most = len(desk.course.task(name).hints)
    last = " There are no more." if number == most else ""
    console().print(f"[dim]Hint {number} of {most}.{last}[/]")
    console().print(text, markup=False)


@main.command("next")
@click.argument("chapter", required=False)
@_course_option
@click.pass_context
@_said
def next_(context: click.Context, chapter: str | None) -> None:
    """Show the next exercise that has not passed yet."""
    desk = _desk(context)
    task = desk.next_task(chapter)
    if task is None:
        console().print(
            "Every exercise has passed." if chapter is None else f"{chapter}: all passed."
        )
    else:
        show_task(task, desk.course)


@main.command()
@click.argument("name")
@_course_option
@click.pass_context
@_said
def reset(context: click.Context, name: str) -> None:
    """Put the stub of an exercise back; the notebook as it was is kept."""
    backup = _desk(context).reset(name)
    console().print(f"{name} is as it was in the beginning; your notebook was copied to {backup}")


@main.command()
@click.argument("chapter", required=False)
@_course_option
@click.pass_context
@_said
def watch(context: click.Context, chapter: str | None) -> None:
    """Check again whenever a notebook is saved, and show the exercise you are at."""
    from lectern.watch import watch as watch_

    watch_(_desk(context), chapter)


@main.command()
@_course_option
@click.pass_context
@_said
def progress(context: click.Context) -> None:
    """Show what has passed, over the whole book."""
    show_progress(_desk(context))


@main.command()
@click.argument("submissions", type=_FOLDER)
@click.option("--output", type=_FOLDER, required=True, help="Where results go.")
@click.option("--policy", type=_FILE, help="Deadlines, overrides, points given by hand, as TOML;"
              " grading.toml beside SUBMISSIONS by default.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Processes; as many as cores by default.")
@click.option("--only-failed", is_flag=True, help="Only what was stopped or could not be judged.")
@click.option("--at-least", type=click.FloatRange(0, 100), metavar="PERCENT",
              help="End with code 1 if somebody has less: for GitHub Classroom.")  # fmt: skip
@click.option("--library", type=_FOLDER, help="The folder of the package glassbox.")
@click.option("--unsafe", is_flag=True, help="Without a sandbox; every result is marked.")
@_course_option
@click.pass_context
@_said
def grade(context: click.Context, **options: Any) -> None:
    """Grade a folder of SUBMISSIONS: a folder, an archive or a notebook for each student."""
    from lectern.class_grading import grade as grade_

    sys.exit(grade_(_course(context), **options))


@main.command()
@click.argument("chapters", nargs=-1)
@click.option("--sources", type=_FOLDER, default="solutions", show_default=True)
@click.option("--to", type=_FOLDER, default="exercises", show_default=True)
@_said
def release(chapters: Sequence[str], sources: Path, to: Path) -> None:
    """Write learners' notebooks and their index from the sources.

    A notebook that is there and has other cells is copied to .backups/ first.
    """
    from lectern.course import read_sources, write_course

    for path in write_course(read_sources(sources), to, only=chapters):
        console().print(str(path), soft_wrap=True)


@main.command()
@click.argument("chapters", nargs=-1)
@click.option("--sources", type=_FOLDER, default="solutions", show_default=True)
@click.option("--checks", type=_FOLDER, default="exercises/checks", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--only", metavar="EXERCISE", help="One exercise alone.")
@click.option("--workers", type=click.IntRange(1), help="Processes; as many as cores by default.")
@click.option("--library", type=_FOLDER, help="The folder of the package glassbox.")
@_said
def verify(
    chapters: Sequence[str], sources: Path, checks: Path, seeds: int, only: str | None,
    workers: int | None, library: Path | None,
) -> None:  # fmt: skip
    """Prove the exercises: stubs fail, solutions pass, mutants fail with the words they should."""
    from lectern.course import read_sources
    from lectern.verify import verify_all

    found = read_sources(sources)
    if unknown := set(chapters) - {chapter.name for chapter in found}:
        raise CourseError(f"{sources} has no source for {', '.join(sorted(unknown))}.")
    wanted = [chapter for chapter in found if not chapters or chapter.name in chapters]
    if only is not None:
        wanted = [c for c in wanted if only in {exercise.name for exercise in c.exercises}]
        if not wanted:
            raise CourseError(f"{sources} has no exercise {only!r}.")
    reports = verify_all(
        wanted, checks, library or library_folder(), seeds=range(seeds), workers=workers, only=only
    )
    out = console()
    for report in reports:
        for finding in report.findings:
            out.print(f"✗ {report.chapter}: {finding}", markup=False)
    killed, mutants = (sum(getattr(r, n) for r in reports) for n in ("killed", "mutants"))
    out.print(
        f"exercises: {sum(r.exercises for r in reports)}; "
        f"points: {sum(r.points for r in reports)}; runs: {sum(r.runs for r in reports)}; "
        f"mutants killed: {killed} of {mutants}"
    )
    sys.exit(any(report.findings for report in reports))
