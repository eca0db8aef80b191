"""What a learner wrote in earlier chapters, and the book's own where that is missing.

``from lectern.mine import cross_entropy`` gives the learner's own `cross_entropy` if it passed its
checks, and the library's otherwise; `pieces` and `books` say which there are.

`Hidden`: the finder that keeps a notebook from importing what it asks for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

pieces: dict[str, list[str]] = {}
"""For each exercise that passed, the statements that make what it asks for."""
books: dict[str, str] = {}
"""Where the library has the same thing, such as ``"glassbox.losses.cross_entropy"``."""
_made: dict[str, Any] = {}


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    if name not in _made:
        _made[name] = _make(name)
    return _made[name]


def _make(name: str) -> Any:
    if name not in pieces and name not in books:
        _look_at_the_course()
    if name in pieces:
        space: dict[str, Any] = {"__name__": "mine"}
        *before, last = pieces[name]
        for statement in before:
            with suppress(Exception):  # it may be unfinished, or of no use
                exec(compile(statement, f"<your {name}>", "exec"), space)
        exec(compile(last, f"<your {name}>", "exec"), space)
        return space[name]
    if name not in books:
        raise ImportError(
            f"lectern.mine has {', '.join(sorted(books)) or 'nothing yet'}, which earlier chapters "
            f"made, but not {name!r}."
        )
    module, _, attribute = books[name].rpartition(".")
    return getattr(import_module(module), attribute)


def _look_at_the_course() -> None:
    """Take what a learner's own machine has; where notebooks are graded, there is no such thing."""
    try:
        from lectern.learner import own_pieces

        own, library = own_pieces()
    except (ImportError, ValueError):
        return
    pieces.update(own)
    books.update(library)


class Hidden(MetaPathFinder):
    """Refuses to import some modules, in one sentence."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = frozenset(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raise ImportError for a module that is hidden."""
        if fullname in self.names:
            raise ImportError(refusal(fullname))
        return None


def refusal(module: str) -> str:
    """Return the sentence that stands in the place of a module."""
    return f"{module} is what this notebook asks you to write: it is not here while it is graded."
