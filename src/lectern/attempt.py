"""One notebook, run cell by cell; once more without the culprit when it had to be stopped.

`Attempt`, `Times`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from lectern.notebooks import Cell
from lectern.student import Raised, Stopped, Transport, raised

__all__ = ["Attempt", "Times"]

_MOST_RESTARTS = 12


@dataclass(frozen=True)
class Times:
    """How long a notebook may take, in seconds."""

    cell: float = 30.0
    all: float = 300.0
    """Cells, questions and repetitions together."""
    patience: float = 1.0
    """By which the time for a question is multiplied, where the machine has other work to do."""


class Attempt:
    """A notebook's cells, and a session in which they have run; a `Transport`.

    When a session is stopped, the next question opens another and runs the cells there again,
    without those that had to be stopped: what came before keeps its points, and what comes after is
    still tried.

    Parameters
    ----------
    open_session : callable
        Returns a new session.
    cells : sequence of Cell
    setup : mapping, optional
        A request that goes before the cells.
    seed : int
        Of random numbers while cells run.
    times : Times
    """

    def __init__(
        self, open_session: Callable[[], Transport], cells: Sequence[Cell], *,
        setup: Mapping[str, Any] | None = None, seed: int = 0, times: Times = Times(),
    ) -> None:  # fmt: skip
        self._open, self.cells, self._setup = open_session, tuple(cells), setup
        self._seed, self._times = seed, times
        self._session: Transport | None = None
        self._restarts, self._left = 0, times.all
        self.stops: dict[int, Stopped] = {}
        """Cells that had to be stopped, by number."""
        self.errors: dict[int, Raised] = {}
        """Cells that raised, by number."""

    def begin(self, exercise: str) -> None:
        """Make sure that the cells have run, and that the exercise's own was not stopped."""
        self._live_session()
        for number, stop in self.stops.items():
            if self.cells[number].exercise == exercise:
                raise stop

    def ask(self, request: Mapping[str, Any], seconds: float) -> Any:
        """Return an answer from a session in which the cells have run.

        Raises
        ------
        Stopped
            If there is none; the next question begins with a new session.
        """
        return self._ask(self._live_session(), request, seconds)

    def _ask(self, session: Transport, request: Mapping[str, Any], seconds: float) -> Any:
        if self._left <= 0:
            self._give_up()
        begun, seconds = time.monotonic(), seconds * self._times.patience
        try:
            return session.ask(request, min(seconds, self._left))
        except Stopped as stop:
            if stop.why == "time" and self._left < seconds:
                self._left = 0.0
                self._give_up()
            self.end()
            raise
        finally:
            self._left -= time.monotonic() - begun

    def _give_up(self) -> NoReturn:
        self.end()
        text = f"The notebook took more than {self._times.all:g} seconds in all."
        raise Stopped("time", text)

    def _live_session(self) -> Transport:
        while self._session is None:
            if self._restarts > _MOST_RESTARTS:
                raise Stopped("crash", f"It had to be started more than {_MOST_RESTARTS} times.")
            self._restarts += 1
            session = self._session = self._open()
            if self._setup is not None:
                self._ask(session, self._setup, self._times.cell)
            for number, cell in enumerate(self.cells):
                if number not in self.stops and not self._run(session, number, cell):
                    break
        return self._session

    def _run(self, session: Transport, number: int, cell: Cell) -> bool:
        """Run a cell; say if the session outlived it."""
        request = {"do": "cell", "code": cell.code, "seed": None if number else self._seed}
        try:
            answer = self._ask(session, request, self._times.cell)
        except Stopped as stop:
            if self._left <= 0:
                raise
            self.stops[number] = stop
            return False
        if isinstance(answer, dict) and "error" in answer:
            error = raised(answer["error"])
            if isinstance(error, Raised):
                self.errors[number] = error
        return True

    def error_of(self, exercise: str) -> Raised | None:
        """Return what the cell of an exercise raised when it ran, if it did."""
        for number, error in reversed(self.errors.items()):
            if self.cells[number].exercise == exercise:
                return error
        return None

    def end(self) -> None:
        """End the session, if there is one."""
        if self._session is not None:
            self._session.end()
            self._session = None
