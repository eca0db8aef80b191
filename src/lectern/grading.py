"""Grading: one student's notebooks judged; a class in parallel, and on from where it stopped.

`grade_jobs`, `grade_class`, `Result`, `Settings`, `Class`.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import multiprocessing
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lectern.attempt import Attempt, Times
from lectern.course import Course, CourseError
from lectern.draws import seed_of
from lectern.engine import CheckError, Outcome, Submission, run_checks
from lectern.files import file_name, write_safely
from lectern.local import Process
from lectern.notebooks import NotebookError, code_cells, pieces_from, prose_answers
from lectern.sandbox import Sandbox, SandboxError, SessionLimits
from lectern.student import Transport
from lectern.submissions import Job, fingerprint
from lectern.text import clean

__all__ = [
    "Class",
    "Opener",
    "Result",
    "Settings",
    "cores",
    "grade_class",
    "grade_jobs",
]

Opener = Callable[[Sequence[str]], Transport]
"""Returns a new session, in which some modules are hidden."""

_SECONDS_TO_END = 10
_TRIES = 2  # of a submission under which a worker died


@dataclass
class Result:
    """What was found about one student's submission; plain data."""

    student: str
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    """What the checks of each chapter said."""
    codes: dict[str, str] = field(default_factory=dict)
    """What was answered to each exercise."""
    words: dict[str, str] = field(default_factory=dict)
    """What was answered in prose."""
    errors: dict[str, list[str]] = field(default_factory=dict)
    """What the cells of each chapter raised, or why they were stopped."""
    notes: list[str] = field(default_factory=list)
    modified: dict[str, float] = field(default_factory=dict)
    unsandboxed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Result:
        """Return what `to_json` was made from."""
        outcomes = {
            chapter: [Outcome(**outcome) for outcome in found]
            for chapter, found in facts["outcomes"].items()
        }
        return cls(**{**facts, "outcomes": outcomes})

    @property
    def troubled(self) -> bool:
        """Whether an answer was stopped, or could not be judged."""
        fine = {"passed", "wrong", "raised", "unwritten", "forbidden", "missing"}
        return any(o.verdict not in fine for found in self.outcomes.values() for o in found)


@dataclass(frozen=True)
class Settings:
    """What grading depends on, besides the submission and the course."""

    library: Path
    """The folder of the book's package."""
    secret: bytes
    limits: SessionLimits = SessionLimits()
    times: Times = Times()
    unsafe: bool = False
    """Whether to run without a sandbox."""


def grade_jobs(
    course: Course, jobs: Iterable[Job], open_session: Opener, secret: bytes,
    take: Callable[[Result], None], *, chapters: Iterable[str] | None = None,
    times: Times = Times(), unsandboxed: bool = False,
) -> None:  # fmt: skip
    """Judge submissions one after another, in this process.

    Parameters
    ----------
    course : Course
    jobs : iterable of Job
        May wait for the next.
    open_session : callable
    secret : bytes
    take : callable
        Gets each result.
    chapters : iterable of str, optional
        Those that the jobs may have notebooks of; all by default.
    times : Times
    unsandboxed : bool
        Marks the results.
    """
    outcomes: dict[str, list[Outcome]] = {}

    def submissions() -> Iterator[Submission]:
        for job in jobs:
            outcomes.clear()
            result = Result(
                job.student, notes=list(job.notes), modified=dict(job.modified),
                unsandboxed=unsandboxed,
            )  # fmt: skip
            pieces = dict(job.pieces)
            for chapter in course.chapters:
                if chapter in job.problems:
                    result.outcomes[chapter] = _unreadable(course, chapter, job.problems[chapter])
                if chapter not in job.notebooks:
                    continue
                names = {task.name for task in course.chapter(chapter)}
                try:
                    cells = code_cells(job.notebooks[chapter], names)
                    result.words |= _words(course, chapter, job.notebooks[chapter])
                except NotebookError as error:
                    result.outcomes[chapter] = _unreadable(course, chapter, str(error))
                    continue
                codes = {cell.exercise: cell.code for cell in cells if cell.exercise}
                setup = {"do": "mine", "pieces": pieces, "books": course.books(chapter)}
                attempt = Attempt(
                    partial(open_session, course.hides(chapter)), cells, setup=setup,
                    seed=seed_of(secret, job.student, chapter), times=times,
                )  # fmt: skip
                answers = course.answers(chapter, codes)
                yield Submission(job.student, chapter, attempt, answers, only=names)
                attempt.end()
                result.outcomes[chapter] = found = outcomes.pop(chapter)
                result.codes |= {name: clean(code, most=20_000) for name, code in codes.items()}
                result.errors[chapter] = _errors(attempt)
                passed = {o.exercise for o in found} - {o.exercise for o in found if not o.passed}
                pieces |= pieces_from(cells, passed)
            take(result)

    def judged(submission: Submission, found: list[Outcome]) -> None:
        outcomes[submission.chapter] = found

    run_checks(course.check_files(chapters), submissions(), judged, secret)


def _unreadable(course: Course, chapter: str, why: str) -> list[Outcome]:
    return [
        Outcome(task.name, "the notebook", task.points, False, "unreadable", clean(why))
        for task in course.chapter(chapter)
    ]


def _words(course: Course, chapter: str, content: bytes) -> dict[str, str]:
    asked = {task.name for task in course.chapter(chapter) if task.hand}
    found = prose_answers(content)
    return {name: clean(found[name], most=20_000) for name in found if name in asked}


def _errors(attempt: Attempt) -> list[str]:
    found = {**attempt.errors, **attempt.stops}
    return [f"Cell {n + 1}: {clean(str(found[n]), most=500)}" for n in sorted(found)]


class Class:
    """The folder in which a class's results are kept between runs.

    Parameters
    ----------
    folder : Path
        For output; what is private to the instructor is in its folder `private`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private = folder / "private"
        self.states = self.private / "state"
        self.states.mkdir(parents=True, exist_ok=True)
        self.private.chmod(0o700)

    def secret(self) -> bytes:
        """Return the secret of which random inputs are made; the first time, make it."""
        path = self.private / "secret"
        if not path.exists():
            write_safely(path, secrets.token_hex(32))
            path.chmod(0o600)
        return path.read_text().strip().encode()

    def load(self, student: str, key: str | None = None) -> Result | None:
        """Return a result that is kept, if there is one made from the same."""
        try:
            state = json.loads(self._state(student).read_text(encoding="utf-8"))
            if key is not None and state["key"] != key:
                return None
            return Result.from_json(state["result"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, result: Result, key: str) -> None:
        """Keep a result, wholly or not at all."""
        state = {"key": key, "result": result.to_json()}
        write_safely(self._state(result.student), json.dumps(state, ensure_ascii=True))

    def _state(self, student: str) -> Path:
        return self.states / f"{file_name(student)}.json"


def grade_class(
    course: Course, jobs: Sequence[Job], kept: Class, settings: Settings, *, workers: int = 1,
    only_failed: bool = False, tell: Callable[[Result, bool], None] = lambda result, new: None,
) -> list[Result]:  # fmt: skip
    """Judge submissions in parallel; what was judged before and has not changed is not again.

    Parameters
    ----------
    course : Course
    jobs : sequence of Job
    kept : Class
        Where results are kept, each as soon as it is there.
    settings : Settings
    workers : int
        Processes.
    only_failed : bool
        Judge those again whose answers were stopped or could not be judged, and only those.
    tell : callable
        Told of each result, and whether it is new.

    Returns
    -------
    list of Result
        In the order of the jobs.
    """
    base = _fingerprint(course, settings)
    keys = {
        job.student: hashlib.sha256((base + fingerprint(job)).encode()).hexdigest() for job in jobs
    }
    results: dict[str, Result] = {}
    waiting: list[Job] = []
    for job in jobs:
        if only_failed:
            old = kept.load(job.student)
            again = old is None or old.troubled
        else:
            old = kept.load(job.student, keys[job.student])
            again = False
        if old is None or again:
            waiting.append(job)
        else:
            results[job.student] = old
            tell(old, False)
    for result in _in_parallel(course, waiting, settings, workers):
        kept.keep(result, keys[result.student])
        results[result.student] = result
        tell(result, True)
    return [results[job.student] for job in jobs]


def _fingerprint(course: Course, settings: Settings) -> str:
    """Return text that is the same as long as what grading depends on is."""
    digest = hashlib.sha256()
    files = [course.folder / "exercises.json", *course.check_files()]
    for folder in (settings.library, Path(__file__).parent):
        files += sorted(folder.glob("*.py"))
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(
        repr((settings.secret, settings.limits, settings.times, settings.unsafe)).encode()
    )
    return digest.hexdigest()


@dataclass
class _Worker:
    """A process that judges what it is sent."""

    process: BaseProcess
    line: Connection
    job: Job | None = None


def _in_parallel(
    course: Course, jobs: Sequence[Job], settings: Settings, workers: int
) -> Iterator[Result]:
    """Yield results as they come; a worker that dies is replaced, and its job tried once more."""
    if not jobs:
        return
    waiting = [(job, 1) for job in reversed(jobs)]
    tries: dict[str, int] = {}
    crew = [_start(course, settings) for _ in range(max(1, min(workers, len(jobs))))]
    try:
        for worker in crew:
            _next_job(worker, waiting, tries)
        while any(worker.job is not None for worker in crew):
            busy = [worker for worker in crew if worker.job is not None]
            for line in wait([worker.line for worker in busy]):
                worker = next(w for w in busy if w.line is line)
                assert worker.job is not None
                try:
                    kind, found = worker.line.recv()
                except (EOFError, OSError):
                    job, worker.job = worker.job, None
                    worker.process.join()
                    crew.remove(worker)
                    if tries[job.student] < _TRIES:
                        waiting.append((job, tries[job.student] + 1))
                    else:
                        yield _given_up(course, job, settings)
                    worker = _start(course, settings)
                    crew.append(worker)
                else:
                    if kind == "error":
                        raise found
                    worker.job = None
                    yield found
                _next_job(worker, waiting, tries)
    finally:
        for worker in crew:
            worker.line.close()  # at which an idle worker ends
            if worker.job is not None:
                worker.process.terminate()
        for worker in crew:
            worker.process.join(_SECONDS_TO_END)
            worker.process.kill()
            worker.process.join()


def _next_job(worker: _Worker, waiting: list[tuple[Job, int]], tries: dict[str, int]) -> None:
    if waiting:
        worker.job, tries_now = waiting.pop()
        tries[worker.job.student] = tries_now
        worker.line.send(worker.job)


def _start(course: Course, settings: Settings) -> _Worker:
    context = multiprocessing.get_context("spawn")
    line, theirs = context.Pipe()
    process = context.Process(target=_work, args=(course.folder, settings, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, line)


def _given_up(course: Course, job: Job, settings: Settings) -> Result:
    why = "The grader's own process ended twice over this submission; it needs an instructor."
    result = Result(job.student, notes=[*job.notes, why], modified=dict(job.modified))
    result.unsandboxed = settings.unsafe
    for chapter in {**job.notebooks, **job.problems}:
        result.outcomes[chapter] = [
            Outcome(task.name, "the notebook", task.points, False, "grader", why)
            for task in course.chapter(chapter)
        ]
    return result


def _work(folder: Path, settings: Settings, line: Connection) -> None:
    """Judge jobs that come over a line, until it is closed: the main function of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us in an orderly way
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and leave nothing behind
    _end_with_parent()
    import torch

    torch.set_num_threads(1)
    with ExitStack() as stack:
        try:
            open_session = _opener(settings, stack)
        except SandboxError as error:
            line.send(("error", error))
            return
        # A sandbox that fails later ends this process: another takes its place.
        try:
            grade_jobs(
                Course(folder), _received(line), open_session, settings.secret,
                lambda result: line.send(("result", result)), times=settings.times,
                unsandboxed=settings.unsafe,
            )  # fmt: skip
        except (CheckError, CourseError) as error:
            line.send(("error", error))


def _received(line: Connection) -> Iterator[Job]:
    while True:
        try:
            yield line.recv()
        except EOFError:
            return


def _opener(settings: Settings, stack: ExitStack) -> Opener:
    if settings.unsafe:
        return Process
    sandbox = stack.enter_context(Sandbox(settings.library))
    return lambda hides: sandbox.session(settings.limits, hides)


def _end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies, however it dies."""
    if sys.platform == "linux":
        kill_signal_of_parent = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(kill_signal_of_parent, signal.SIGKILL, 0, 0, 0)


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
