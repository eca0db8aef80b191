"""pytest as the grading engine: collect the checks once, run them for one submission after another.

`run_checks`, `Submission`, `Outcome`, `CheckError`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from lectern.attempt import Attempt
from lectern.course import Answer, check_file
from lectern.draws import Draws, seed_of
from lectern.expect import Failure
from lectern.student import Raised, Stopped, Student
from lectern.text import clean
from lectern.watched import in_text

__all__ = ["CheckError", "Outcome", "Submission", "run_checks"]

_NOT_NEEDED = (
    *("cacheprovider", "terminal", "faulthandler", "logging", "unraisableexception"),
    *("threadexception", "setuponly", "setupplan", "stepwise", "junitxml", "doctest", "pastebin"),
    *("skipping", "recwarn", "debugging", "subtests"),
)
_OPTIONS = (
    *(option for name in _NOT_NEEDED for option in ("-p", f"no:{name}")),
    *(
        "--noconftest",
        "--capture=sys",
        "--assert=plain",
        "--import-mode=importlib",
        "-c",
        os.devnull,
    ),
)


_MOST_STOPS = 2  # of one answer: its other checks are not tried then


class CheckError(ValueError):
    """Checks that cannot be collected; the text says which and why."""


@dataclass(frozen=True)
class Outcome:
    """What one check said of one submission."""

    exercise: str
    check: str
    """What it looks at, in words."""
    points: float
    passed: bool
    verdict: str
    """"passed", "wrong", "raised", "unwritten", "forbidden", "broken check", or why the code was
    stopped: "time", "memory", "processes", "output", "crash", "protocol"."""
    feedback: str


@dataclass(frozen=True)
class Submission:
    """A notebook to be judged: whose, of which chapter, and where its code runs."""

    student: str
    chapter: str
    attempt: Attempt
    answers: Mapping[str, Answer] = field(default_factory=dict)
    only: Collection[str] | None = None
    """The exercises to judge; all of the chapter if None."""


def run_checks(
    files: Iterable[Path],
    submissions: Iterable[Submission],
    take: Callable[[Submission, list[Outcome]], None],
    secret: bytes,
) -> None:
    """Judge submissions one after another.

    Parameters
    ----------
    files : iterable of Path
        Of checks, one for each chapter.
    submissions : iterable of Submission
        May be made while others are judged.
    take : callable
        Gets each submission with its outcomes, in the order of the checks.
    secret : bytes
        Of which, with student and check, the random inputs are made.

    Raises
    ------
    CheckError
        If the checks cannot be collected.
    """
    engine = _Engine(submissions, take, secret)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.pop("PYTEST_ADDOPTS", None)
    paths = [str(path) for path in files]
    code = pytest.main([*_OPTIONS, f"--rootdir={Path(paths[0]).parent}", *paths], plugins=[engine])
    if engine.error is not None:
        raise engine.error
    if not engine.ran:
        raise CheckError(f"The checks could not be collected ({code!s}). {engine.said}".strip())


class _Engine:
    """A pytest plugin that runs the collected checks for each submission it is given."""

    def __init__(
        self, submissions: Iterable[Submission], take: Callable[..., None], secret: bytes
    ) -> None:
        self.submissions, self.take, self.secret = submissions, take, secret
        self.ran = False
        self.said = ""
        self.error: BaseException | None = None
        self.now: Submission
        self.student_now: Student | None = None
        self.outcomes: list[Outcome] = []
        self.stops: dict[str, list[Stopped]] = defaultdict(list)

    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "exercise(name, points): what a check belongs to")

    @pytest.fixture
    def student(self, request: pytest.FixtureRequest) -> Student:
        exercise = _mark(request.node)[0]
        if len(self.stops[exercise]) >= _MOST_STOPS:
            raise self.stops[exercise][-1]
        self.now.attempt.begin(exercise)
        answer = self.now.answers.get(exercise)
        seed = seed_of(self.secret, self.now.student, request.node.name, "learner")
        self.student_now = Student(self.now.attempt, seed, answer.forbids if answer else ())
        return self.student_now

    @pytest.fixture
    def rng(self, request: pytest.FixtureRequest) -> Draws:
        return Draws(seed_of(self.secret, self.now.student, request.node.name))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.said += str(report.longrepr)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            return True
        self.ran = True
        try:
            for submission in self.submissions:
                self.now = submission
                self.outcomes, self.stops = [], defaultdict(list)
                items = [item for item in session.items if self.is_asked(item)]
                for item, following in zip(items, [*items[1:], None], strict=True):
                    item._initrequest()  # type: ignore[attr-defined]
                    runtestprotocol(item, nextitem=following, log=False)
                self.take(self.now, self.outcomes)
        except BaseException as error:  # pytest would make a page of it
            self.error = error
        return True

    def is_asked(self, item: pytest.Item) -> bool:
        """Say if a check is one for the submission."""
        if item.path.name != check_file(Path(), self.now.chapter).name:
            return False
        return self.now.only is None or _mark(item)[0] in self.now.only

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report = yield
        if call.when == "call" or call.excinfo is not None:
            error = call.excinfo and call.excinfo.value
            if isinstance(error, Stopped):
                self.stops[_mark(item)[0]].append(error)
            self.outcomes.append(self.outcome(item, error))
            self.student_now = None
        return report

    def outcome(self, item: pytest.Item, error: BaseException | None) -> Outcome:
        exercise, points = _mark(item)
        verdict, text = _judged(error)
        answer = self.now.answers.get(exercise)
        if verdict == "passed" and (found := self.forbidden(exercise)):
            verdict, text = "forbidden", found
        elif verdict in ("wrong", "raised") and answer is not None and answer.untouched:
            verdict, text = "unwritten", "Nothing is changed here yet."
        elif verdict == "missing" and (failed := self.now.attempt.error_of(exercise)):
            verdict, text = "raised", f"The cell itself raised {failed}.{_where(failed)}"
        return Outcome(exercise, _title(item), points, verdict == "passed", verdict, clean(text))

    def forbidden(self, exercise: str) -> str:
        """Return a sentence on a call that the exercise asks to do without, if there is one."""
        answer = self.now.answers.get(exercise)
        found = _named_in(answer.code, tuple(answer.forbids)) if answer else []
        found = found or (self.student_now.forbidden if self.student_now else [])
        if not found:
            return ""
        line, name = found[0]
        return f"It works, but line {line} calls {name}, which this exercise asks to do without."


@lru_cache(maxsize=32)  # several checks look at one answer
def _named_in(code: str, forbids: tuple[str, ...]) -> list[tuple[int, str]]:
    return in_text(code, forbids)


def _mark(item: pytest.Item) -> tuple[str, float]:
    mark = item.get_closest_marker("exercise")
    if mark is None or len(mark.args) != 1 or "points" not in mark.kwargs:
        raise CheckError(f'{item.name} needs a mark: @pytest.mark.exercise("name", points=1)')
    return mark.args[0], float(mark.kwargs["points"])


def _title(item: pytest.Item) -> str:
    """Return what a check looks at, from its name: ``test_a_row[0]`` is "a row (n = 0)"."""
    words, _, case = item.name.removeprefix("test_").partition("[")
    values = item.callspec.params if hasattr(item, "callspec") else {}
    if (
        all(isinstance(value, int | float) for value in values.values())
        and case == "-".join([*map(str, values.values())]) + "]"
    ):
        case = ", ".join(f"{name} = {value}" for name, value in values.items()) + "]"
    return words.replace("_", " ") + (f" ({case.removesuffix(']')})" if case else "")


def _where(error: Raised) -> str:
    return f" In line {error.line[0]}: {error.line[1]}" if error.line else ""


def _judged(error: BaseException | None) -> tuple[str, str]:
    if error is None:
        return "passed", ""
    if isinstance(error, Failure):
        return "wrong", str(error)
    if isinstance(error, Raised):
        if error.unwritten:
            return "unwritten", "Nothing is written here yet."
        if error.type_name == "NotDefined":
            return "missing", f"The notebook does not define {error.message}."
        return "raised", f"{error.asked or 'It'} raised {error}.{_where(error)}"
    if isinstance(error, Stopped):
        return error.why, str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" (line {trace.tb_lineno} of {trace.tb_frame.f_code.co_name})" if trace else ""
    return "broken check", f"The check itself failed: {type(error).__name__}: {error}{where}"
