"""Runs attacks against `lectern`, and looks for what they did.

`Wall`, `Trial`.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lectern.attempt import Attempt, Cell, Times
from lectern.engine import Outcome, Submission, run_checks
from lectern.sandbox import Sandbox, Session, SessionLimits, _tree
from lectern.student import Stopped

from .attack import EVE, HONEST, WRONG, Attack, fingerprint, given, lay_out, processes_named
from .controls import Listener, short, start_bystander

HIDES = ("glassbox.answers",)
SECRET = b"of the instructor"


@dataclass
class Trial:
    """What became of a submission, and of whoever came next."""

    points: float
    honest_points: float
    outcomes: list[Outcome]
    stops: frozenset[str]
    """Why anything was stopped."""
    text: str
    """Everything that was printed, raised, returned and said about it."""
    changed: frozenset[str] = frozenset()
    survivors: tuple[int, ...] = ()
    received: bytes = b""
    bystander_lives: bool = True
    neighbour: str = ""
    """What became of a session beside, if it is no longer what it was."""


class Wall:
    """A course, a sandbox, and around it everything that an attack might reach.

    Parameters
    ----------
    folder : Path
        For the course.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = short(secrets.token_hex(6))
        self.secret = f"TOKEN-{secrets.token_hex(6)}"
        os.environ["GRADER_TOKEN"] = self.secret
        lay_out(folder, self.secret)
        self.listener = Listener(folder)
        self.bystander = start_bystander(self.mark, self.secret)
        self.opened: list[Session] = []
        self._start()

    def _start(self) -> None:
        self.sandbox = Sandbox(self.folder / "library" / "glassbox")
        eve = EVE.replace("SECRET", self.secret)
        self.before = self.attempt([HONEST, eve])  # graded before the attacks
        list(self._judged(self.before))
        self.before.end()
        self.beside = self.sandbox.session(hide=HIDES)
        for cell in (given(self.mark, self.folder, 0), HONEST, eve):
            answer = self.beside.ask({"do": "cell", "code": cell, "seed": 0}, 20)
            assert "error" not in answer, answer
        self.processes = set(_tree(self.sandbox.process.pid))

    def mend(self) -> None:
        """Start afresh if an attack before had an effect."""
        if self._neighbour():
            self.sandbox.close()
            self._start()

    def attempt(
        self, cells: Sequence[str], limits: SessionLimits = SessionLimits(), times: Times = Times()
    ) -> Attempt:
        """Return a notebook that is to run behind the wall."""

        def open_session() -> Session:
            self.opened.append(self.sandbox.session(limits, HIDES))
            return self.opened[-1]

        told = given(self.mark, self.folder, self.listener.port)
        return Attempt(open_session, [Cell(told), *map(Cell, cells)], times=times)

    def _judged(self, *attempts: Attempt) -> Iterator[list[Outcome]]:
        found: list[list[Outcome]] = []
        check = self.folder / "checks" / "test_target.py"
        submissions = [
            Submission(f"{number}", "target", attempt) for number, attempt in enumerate(attempts)
        ]
        run_checks([check], submissions, lambda _, outcomes: found.append(outcomes), SECRET)
        return iter(found)

    def run(self, attack: Attack) -> Trial:
        """Grade an attack, and after it an honest submission."""
        self.mend()
        self.opened.clear()
        mallory = self.folder / "submissions" / "mallory"
        for name, text in attack.files.items():
            (mallory / name).write_text(text)
        files = fingerprint(self.folder)
        here = os.getcwd()
        os.chdir(mallory)
        attacker = self.attempt([WRONG, attack.cells], attack.limits, attack.times)
        honest = self.attempt([HONEST])
        try:
            outcomes, honest_outcomes = self._judged(attacker, honest)
            attacker.end()
            honest.end()
        finally:
            os.chdir(here)
        now = fingerprint(self.folder)
        for name in attack.files:
            (mallory / name).unlink()
        said = [o.feedback for o in outcomes] + [str(e) for e in attacker.errors.values()]
        said += [str(stop) for stop in attacker.stops.values()]
        printed = b"\n".join(bytes(session.printed) for session in self.opened)
        stops = {o.verdict for o in outcomes} | {stop.why for stop in attacker.stops.values()}
        return Trial(
            points=sum(o.points for o in outcomes if o.passed),
            honest_points=sum(o.points for o in honest_outcomes if o.passed),
            outcomes=outcomes,
            stops=frozenset(stops),
            text="\n".join(said) + printed.decode(errors="replace"),
            changed=frozenset(n for n in files.keys() | now.keys() if files.get(n) != now.get(n)),
            survivors=self._survivors(),
            received=self.listener.received(),
            bystander_lives=self.bystander.poll() is None,
            neighbour=self._neighbour(),
        )

    def _survivors(self) -> tuple[int, ...]:
        ours = {self.bystander.pid, *self.processes}
        end = time.monotonic() + 2
        while True:
            left = {*processes_named(self.mark), *_tree(self.sandbox.process.pid)} - ours
            if not left or time.monotonic() > end:
                return tuple(left)
            time.sleep(0.01)

    def _neighbour(self) -> str:
        try:
            answer = self.beside.ask({"do": "get", "name": "notes"}, 60)
        except Stopped as stop:
            return str(stop)
        return "" if answer["value"] == [f"{self.secret} of eve"] else f"changed: {answer}"

    def close(self) -> None:
        """End everything."""
        self.beside.end()
        self.sandbox.close()
        self.bystander.kill()
        self.bystander.wait()
        self.listener.close()
        del os.environ["GRADER_TOKEN"]

    def __enter__(self) -> Wall:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
