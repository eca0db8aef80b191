"""What checks use to ask a learner's code for values, wherever it runs.

`Student`, `Raised`, `Stopped`, `Transport`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from lectern.exercise import UNWRITTEN
from lectern.values import show_call
from lectern.wire import Opaque

__all__ = ["Raised", "Stopped", "Student", "Transport"]


class Raised(Exception):
    """The learner's code raised an exception; its type is a name here, its message text."""

    def __init__(self, type_name: str, message: str, line: tuple[int, str] | None = None) -> None:
        super().__init__(f"{type_name}: {message}" if message else type_name)
        self.type_name, self.message, self.line = type_name, message, line
        self.asked = ""
        """What was asked, as one would write it."""

    @property
    def unwritten(self) -> bool:
        """Whether it is what a stub raises."""
        return (self.type_name, self.message) == ("NotImplementedError", UNWRITTEN)


class Stopped(Exception):
    """The learner's code was stopped; `why` is a word such as "time", the text a sentence."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why


class Transport(Protocol):
    """Carries a request to where the learner's code runs, and the answer back."""

    def ask(self, request: Mapping[str, Any], seconds: float) -> Any:
        """Return the answer, a dict with "value" or "error"; raise `Stopped` if there is none."""
        ...

    def end(self) -> None:
        """End the learner's processes."""
        ...


class Student:
    """The learner's notebook after its cells have run, as a check sees it.

    Arguments cross as data and come out as copies: what the learner's code does to them changes
    nothing here. What comes back is made of Python's own types, tensors and arrays. What cannot
    cross, such as a model, comes back as an `Opaque`, which stands for it in later calls.

    Parameters
    ----------
    transport : Transport
    seed : int
        Of `torch`, NumPy and `random` over there, set before every question.
    forbids : collection of str
        Functions whose calls are to be noted, in `forbidden`.
    """

    def __init__(self, transport: Transport, seed: int = 0, forbids: Collection[str] = ()) -> None:
        self._transport, self._seed, self._forbids = transport, seed, list(forbids)
        self.forbidden: list[tuple[int, str]] = []
        """Forbidden functions that were called so far, with the lines of the cell."""

    def call(self, name: str | Opaque, *args: Any, seconds: float = 10.0, **kwargs: Any) -> Any:
        """Call a function of the notebook, or a method: ``"learn.fit"``.

        Parameters
        ----------
        name : str or Opaque
        *args, **kwargs
            Data, or `Opaque`.
        seconds : float
            How long it may take.

        Raises
        ------
        Raised
            If the function raises.
        Stopped
            If it takes too long, or ends its process, or passes another limit.
        """
        try:
            return self._ask({"do": "call", "name": name, "args": args, "kwargs": kwargs}, seconds)
        except Raised as error:
            error.asked = show_call(name, args, kwargs)
            raise

    def get(self, name: str, *, seconds: float = 10.0) -> Any:
        """Return what a name of the notebook stands for, or an attribute: ``"learn.losses"``."""
        return self._ask({"do": "get", "name": name}, seconds)

    def run(
        self, code: str, want: Sequence[str] = (), *, seconds: float = 30.0, **inputs: Any
    ) -> dict[str, Any]:
        """Run code beside the notebook's own, and return what some names stand for afterwards.

        The code sees the notebook's names and the inputs; the names that it makes are its own.
        """
        request = {"do": "run", "code": code, "outputs": list(want), "inputs": inputs}
        found = self._ask(request, seconds)
        if not isinstance(found, dict) or set(found) != set(want):
            raise _no_answer()
        return found

    def _ask(self, request: dict[str, Any], seconds: float) -> Any:
        request |= {"seed": self._seed, "forbids": self._forbids}
        answer = self._transport.ask(request, seconds)
        if not isinstance(answer, dict):
            raise _no_answer()
        if "error" in answer:
            raise raised(answer["error"])
        notes = answer.get("forbidden", [])
        if "value" not in answer or not isinstance(notes, list) or not all(map(_is_note, notes)):
            raise _no_answer()
        self.forbidden += [(line, name) for line, name in notes]
        return answer["value"]


def raised(error: Any) -> Exception:
    """Return the exception that an answer tells of."""
    if not isinstance(error, dict):
        return _no_answer()
    kind, message, line = (error.get(key) for key in ("type", "message", "line"))
    if not isinstance(kind, str) or not isinstance(message, str) or not isinstance(line, list):
        return _no_answer()
    if line and not _is_note(line):
        return _no_answer()
    return Raised(kind, message, (line[0], line[1]) if line else None)


def _is_note(found: Any) -> bool:
    """Say if something is the number and the text of a line."""
    return isinstance(found, list) and [type(part) for part in found] == [int, str]


def _no_answer() -> Stopped:
    return Stopped("protocol", "What came back is no answer: its process was tampered with.")
