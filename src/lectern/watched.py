"""Calls that an exercise asks to do without: found in the text, and while the code runs.

`in_text`, `Calls`.

This is advice, not a wall: whoever wants to can call a function so that neither sees it. What must
not be reached at all is kept out of the sandbox.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Collection, Iterator
from importlib import import_module
from types import TracebackType
from typing import Any

__all__ = ["Calls", "in_text"]

LONGEST = 200_000
"""Characters of a cell that is looked at: as a tree, it takes some hundred times more memory."""
_MOST_PARTS = 12


def in_text(code: str, forbids: Collection[str]) -> list[tuple[int, str]]:
    """Return the lines of a cell that name a forbidden function, and which.

    Parameters
    ----------
    code : str
        Python, with IPython's magics or without.
    forbids : collection of str
        Full names such as ``"torch.softmax"`` and ``"torch.Tensor.softmax"``; the latter means
        every call of a method of that name.

    Returns
    -------
    list of (int, str)
        Line, from 1, and the name as it was forbidden; none if the code is no Python.

    Examples
    --------
    >>> in_text("from torch.nn import functional as F\\ny = F.softmax(x, 1)",
    ...         ["torch.nn.functional.softmax"])
    [(2, 'torch.nn.functional.softmax')]
    """
    if not forbids or len(code) > LONGEST:
        return []
    try:
        tree = ast.parse(_without_magics(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    methods = {name.rpartition(".")[2]: name for name in forbids if ".Tensor." in name}
    names = _imported(tree)
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Name):
            continue
        written = _dotted(node)
        full = None
        if written is not None:
            first, dot, rest = written.partition(".")
            full = names.get(first, first) + dot + rest
        if full in forbids:
            found.add((node.lineno, str(full)))
        elif (
            isinstance(node, ast.Attribute) and node.attr in methods and _is_no_module(node, names)
        ):
            found.add((node.lineno, methods[node.attr]))
    return sorted(found)


def _without_magics(code: str) -> str:
    return "\n".join("" if line.lstrip()[:1] in ("%", "!") else line for line in code.splitlines())


def _imported(tree: ast.AST) -> dict[str, str]:
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return {**{"torch": "torch", "nn": "torch.nn", "F": "torch.nn.functional"}, **names}


def _dotted(node: ast.expr) -> str | None:
    """Return a name such as "torch.softmax"; None for longer ones, which may have been made up."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute) and len(parts) < _MOST_PARTS:
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _is_no_module(node: ast.Attribute, names: dict[str, str]) -> bool:
    """Say if an attribute may be one of a tensor: ``x.softmax``, but not ``mine.softmax``."""
    base = _dotted(node.value)
    return base is None or base.partition(".")[0] not in names


class Calls:
    """While it is entered, notes which forbidden functions a notebook's code calls, and where.

    Calls by the library itself, on behalf of its own functions, do not count: only those between
    which and the notebook's code nothing of the library stands.
    """

    def __init__(self, forbids: Collection[str]) -> None:
        self.forbids = tuple(forbids)
        self.found: list[list[Any]] = []
        """Line, from 1, and name."""
        self._originals: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Calls:
        for name in self.forbids:
            for place, attribute, original in _places(name):
                self._originals.append((place, attribute, original))
                setattr(place, attribute, self._watching(name, original))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for place, attribute, original in reversed(self._originals):
            setattr(place, attribute, original)

    def _watching(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            line = _calling_line(sys._getframe(1))
            if line is not None and [line, name] not in self.found and len(self.found) < 100:
                self.found.append([line, name])
            return original(*args, **kwargs)

        return watched


def _places(name: str) -> Iterator[tuple[Any, str, Any]]:
    """Yield where a function can be reached under its name, if it can be replaced there."""
    parts = name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            place: Any = import_module(".".join(parts[:split]))
            for part in parts[split:-1]:
                place = getattr(place, part)
            original = getattr(place, parts[-1])
            if not isinstance(original, type):  # a class must stay what isinstance knows
                yield place, parts[-1], original
            return
        except (ImportError, AttributeError):
            continue


def _calling_line(frame: Any) -> int | None:
    """Return the line of the notebook from which a call came, if it was not the library's own."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if (
            module.startswith(("glassbox", "lectern.worker"))
            or frame.f_code.co_filename == "<check>"
        ):
            return None
        if module in ("__main__", "mine"):
            return int(frame.f_lineno)
        frame = frame.f_back
    return None
