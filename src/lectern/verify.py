"""Proof of a set of exercises: stubs fail, solutions pass, mutants fail with the words they should.

`verify`, `Finding`, `Report`, `verify_all`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lectern.attempt import Attempt, Times
from lectern.course import Answer, check_file
from lectern.engine import CheckError, Outcome, Submission, run_checks
from lectern.exercise import Chapter, Exercise, Mutant, plain
from lectern.grading import cores
from lectern.notebooks import Cell
from lectern.sandbox import Sandbox

__all__ = ["Finding", "Report", "verify", "verify_all"]

_LEAST_HINTS, _LEAST_MUTANTS = 2, 3
_SECRET = b"verify"
_TIMES = Times(cell=120, all=1200, patience=4)  # of which nothing here must run out by accident


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with an exercise."""

    exercise: str
    variant: str
    text: str

    def __str__(self) -> str:
        return f"{self.exercise}, {self.variant}: {self.text}"


@dataclass
class Report:
    """What was found about a chapter."""

    chapter: str
    findings: list[Finding] = field(default_factory=list)
    exercises: int = 0
    points: int = 0
    runs: int = 0
    mutants: int = 0
    killed: int = 0
    """Mutants that lost points and were told why, with every seed."""


@dataclass(frozen=True)
class _Variant:
    """Something that might be handed in for an exercise."""

    exercise: Exercise
    kind: str
    title: str
    code: str
    mutant: Mutant | None = None

    def problem(self, outcomes: Sequence[Outcome]) -> str:
        """Return what is wrong with what the checks said, or nothing."""
        if broken := [o for o in outcomes if o.verdict == "broken check"]:
            return broken[0].feedback
        got = sum(o.points for o in outcomes if o.passed)
        most = sum(o.points for o in outcomes)
        said = " / ".join(o.feedback for o in outcomes if o.feedback)
        if abs(most - self.exercise.points) > 1e-9:
            return f"its checks give {most:g} points, but its source says {self.exercise.points}"
        if self.kind == "stub":
            return f"it scores {got:g} points, but must score none" if got else ""
        if self.mutant is None:
            return f"it scores {got:g} of {most:g} points: {said}" if got < most else ""
        if got >= most:
            return "it gets full marks, but must lose points"
        says = self.mutant.says
        return "" if says in said else f"the feedback does not say {says!r}, but: {said}"


def verify(
    chapter: Chapter, checks: Path, sandbox: Sandbox, *, books: dict[str, str] | None = None,
    seeds: Sequence[int] = (0,), only: str | None = None,
    take: Callable[[str, str, list[Outcome]], None] | None = None,
) -> Report:  # fmt: skip
    """Prove the exercises of a chapter.

    Parameters
    ----------
    chapter : Chapter
    checks : Path
        The folder of the checks.
    sandbox : Sandbox
        In which everything runs.
    books : dict of str to str, optional
        What the library has in the place of exercises of other chapters.
    seeds : sequence of int
        Every variant is judged with each.
    only : str, optional
        The name of one exercise.
    take : callable, optional
        Told of exercise, variant and outcomes of every run.

    Returns
    -------
    Report
    """
    report = Report(chapter.name)
    exercises = [e for e in chapter.exercises if only in (None, e.name)]
    report.exercises, report.points = len(exercises), sum(e.points for e in exercises)
    for exercise in exercises:
        report.findings += _missing(exercise)
    variants = [variant for exercise in exercises for variant in _variants(exercise)]
    report.mutants = sum(v.mutant is not None for v in variants)
    hides = sorted({name for exercise in chapter.exercises for name in exercise.hides})
    own = {exercise.name for exercise in chapter.exercises}
    setup = {"do": "mine", "pieces": {}, "books": {
        name: book for name, book in (books or {}).items() if name not in own
    }}  # fmt: skip
    running: list[_Variant] = []
    failed: set[_Variant] = set()

    def submissions() -> Iterator[Submission]:
        for seed in seeds:
            for variant in variants:
                running[:] = [variant]
                answer = _answer_of(variant)
                cells = [Cell(code, exercise) for code, exercise in chapter.cells(answer)]
                attempt = Attempt(
                    lambda: sandbox.session(hide=hides), cells, setup=setup, seed=seed,
                    times=_TIMES,
                )  # fmt: skip
                task = variant.exercise
                answers = {task.name: Answer(variant.code, task.forbids, task.stub)}
                yield Submission(str(seed), chapter.name, attempt, answers, only=[task.name])
                attempt.end()

    def judge(submission: Submission, outcomes: list[Outcome]) -> None:
        (variant,) = running
        name = f"{variant.kind} {variant.title}".strip()
        report.runs += 1
        if take is not None:
            take(variant.exercise.name, name, outcomes)
        problem = variant.problem(outcomes)
        if variant.kind != "mutant" and (errors := submission.attempt.errors):
            problem = problem or f"a cell of the notebook fails: {next(iter(errors.values()))}"
        if problem and variant not in failed:
            failed.add(variant)
            text = f"with seed {submission.student}, {problem}"
            report.findings.append(Finding(variant.exercise.name, name, text))

    try:
        run_checks([check_file(checks, chapter.name)], submissions(), judge, _SECRET)
    except CheckError as error:
        report.findings.append(Finding(chapter.name, "checks", str(error)))
    survivors = sum(v.mutant is not None for v in failed)
    report.killed = report.mutants - survivors if report.runs else 0
    return report


def _answer_of(variant: _Variant) -> Callable[[Exercise], str]:
    def answer(exercise: Exercise) -> str:
        return variant.code if exercise is variant.exercise else plain(exercise.solution)

    return answer


def _variants(exercise: Exercise) -> Iterator[_Variant]:
    yield _Variant(exercise, "stub", "", exercise.stub)
    yield _Variant(exercise, "solution", "", plain(exercise.solution))
    for other in exercise.alternatives:
        yield _Variant(exercise, "alternative", other.title, other.code)
    for mutant in exercise.mutants:
        yield _Variant(exercise, "mutant", mutant.title, mutant.code, mutant)


def _missing(exercise: Exercise) -> Iterator[Finding]:
    if len(exercise.hints) < _LEAST_HINTS:
        yield Finding(exercise.name, "hints", f"it has fewer than {_LEAST_HINTS}")
    if len(exercise.mutants) < _LEAST_MUTANTS:
        yield Finding(exercise.name, "mutants", f"it has fewer than {_LEAST_MUTANTS}")
    said = [mutant.says for mutant in exercise.mutants]
    if len(set(said)) < len(said):
        yield Finding(exercise.name, "mutants", "two of them get the same words")


def verify_all(
    chapters: Sequence[Chapter], checks: Path, library: Path, *, seeds: Sequence[int],
    workers: int | None = None, only: str | None = None,
) -> list[Report]:  # fmt: skip
    """Prove the exercises of several chapters, one on each core at a time.

    Parameters
    ----------
    chapters : sequence of Chapter
    checks, library : Path
        The folders of the checks and of the book's package.
    seeds : sequence of int
    workers : int, optional
        As many as there are cores by default.
    only : str, optional
        The name of one exercise.
    """
    books = {e.name: e.book for chapter in chapters for e in chapter.exercises if e.book}
    most = min(workers or cores(), len(chapters))
    # Spawned, not forked: a worker begins without the threads that this process may have.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(most, 1), mp_context=context) as pool:
        waiting = [
            pool.submit(_verify_one, c, checks, library, books, seeds, only) for c in chapters
        ]
        return [each.result() for each in waiting]


def _verify_one(
    chapter: Chapter, checks: Path, library: Path, books: dict[str, str], seeds: Sequence[int],
    only: str | None,
) -> Report:  # fmt: skip
    import torch

    torch.set_num_threads(1)
    with Sandbox(library) as sandbox:
        return verify(chapter, checks, sandbox, books=books, seeds=seeds, only=only)
