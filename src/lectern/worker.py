"""Where students' code runs: execute cells and answer questions about what they left behind.

`serve`, `Worker`, `new_shell`.

Everything here lives in the student's own process and can be changed by the student's code; nobody
relies on it. What it sends are answers, never a judgement.
"""

from __future__ import annotations

import linecache
import os
import random
import struct
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch

from lectern import mine
from lectern.watched import Calls
from lectern.wire import Limits, Opaque, WireError, decode, encode

__all__ = ["Worker", "new_shell", "serve"]

_LONGEST_TEXT = 4000


def new_shell() -> Any:
    """Return an IPython shell without history and colours, in which cells run."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "NoColor"
    return InteractiveShell.instance(config=config)


class Channel(Protocol):
    """A file for both ways."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes, or fewer at the end."""
        ...

    def write(self, data: bytes, /) -> object:
        """Take bytes."""
        ...

    def flush(self) -> object:
        """Send what was taken."""
        ...


def serve(channel: Channel, shell: Any, limits: Limits) -> None:
    """Answer requests until the other side closes the channel."""
    worker = Worker(shell, limits)
    limits = replace(limits, header=limits.size)  # of questions, which are trusted
    while len(header := channel.read(8)) == 8:
        (size,) = struct.unpack("<Q", header)
        answer = worker.answer(decode(channel.read(size), limits=limits))
        channel.write(struct.pack("<Q", len(answer)) + answer)
        channel.flush()


class NotDefined(NameError):
    """A name that a check asks for, and that the notebook does not define."""


class Worker:
    """Answers requests, dicts whose "do" says what is asked, from the names of a shell.

    Parameters
    ----------
    shell
        Has `user_ns`, the notebook's names, and `run_cell`.
    limits : Limits
        Of an answer.
    """

    def __init__(self, shell: Any, limits: Limits = Limits()) -> None:
        self.shell, self.limits = shell, limits
        self.kept: list[Any] = []

    def answer(self, request: Mapping[str, Any]) -> bytes:
        """Return the message with the value that was asked for, or with what was raised."""
        try:
            with Calls(request.get("forbids", ())) as calls:
                value = getattr(self, f"do_{request['do']}")(request)
            answer = {"value": value, "forbidden": calls.found}
            return encode(answer, limits=self.limits, keep=self.keep)
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: they are answers
            return encode({"error": _described(error)}, limits=self.limits)

    def keep(self, value: Any) -> int:
        """Keep what cannot cross, and return the number by which it can be asked for."""
        self.kept.append(value)
        return len(self.kept) - 1

    def do_cell(self, request: Mapping[str, Any]) -> None:
        """Run a cell."""
        if request.get("seed") is not None:
            _seed(request["seed"])
        result = self.shell.run_cell(request["code"], store_history=False)
        error = result.error_before_exec or result.error_in_exec
        if isinstance(error, SyntaxError):  # IPython's own words for it are few
            compile(self.shell.transform_cell(request["code"]), "<your cell>", "exec")
        if error is not None:
            raise error

    def do_mine(self, request: Mapping[str, Any]) -> None:
        """Take what the learner wrote in earlier chapters."""
        mine.pieces.update(request["pieces"])
        mine.books.update(request["books"])

    def do_call(self, request: Mapping[str, Any]) -> Any:
        """Call a function of the notebook."""
        function = self.find(request["name"])
        args, kwargs = self.own(request["args"]), self.own(request["kwargs"])
        _seed(request["seed"])
        return function(*args, **kwargs)

    def do_get(self, request: Mapping[str, Any]) -> Any:
        """Return what a name stands for."""
        return self.find(request["name"])

    def do_run(self, request: Mapping[str, Any]) -> Any:
        """Run code beside the notebook's names."""
        space = {**self.shell.user_ns, **self.own(request["inputs"])}
        _seed(request["seed"])
        linecache.cache["<check>"] = (1, None, request["code"].splitlines(True), "<check>")
        try:
            exec(compile(request["code"], "<check>", "exec"), space)
        except NameError as error:
            frames = traceback.extract_tb(error.__traceback__)
            if frames[-1].filename == "<check>":  # the notebook was to define it
                raise NotDefined(error.name) from None
            raise
        return {name: space[name] for name in request["outputs"]}

    def find(self, name: str | Opaque) -> Any:
        """Return what stands behind a name such as ``"learn.losses"``, or what was kept."""
        if isinstance(name, Opaque):
            return self.kept[name.key]
        first, *rest = name.split(".")
        if first not in self.shell.user_ns:
            raise NotDefined(first)
        value = self.shell.user_ns[first]
        for part in rest:
            value = getattr(value, part)
        return value

    def own(self, value: Any) -> Any:
        """Put what was kept here in the place of its names."""
        if isinstance(value, Opaque):
            return self.kept[value.key]
        if isinstance(value, list | tuple):
            return type(value)(self.own(each) for each in value)
        if isinstance(value, dict):
            return {key: self.own(each) for key, each in value.items()}
        return value


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what a learner's code may use
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # never in the sandbox, but perhaps where a learner checks
        torch.cuda.manual_seed_all(seed)


def _described(error: BaseException) -> dict[str, Any]:
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)[:_LONGEST_TEXT]
    except BaseException:
        text = "(its message cannot be shown)"
    kind = "WireError" if isinstance(error, WireError) else type(error).__name__
    return {"type": str(kind)[:200], "message": text, "line": _line_of(error)}


def _line_of(error: BaseException) -> Sequence[Any]:
    """Return number and text of the last line of a notebook's cell in a traceback."""
    try:
        frames = traceback.extract_tb(error.__traceback__)
        inside = [f for f in frames if _is_a_cell(f.filename)]
        if not inside and isinstance(error, SyntaxError) and error.text:
            return [error.lineno or 0, error.text.strip()[:200]]
        return [inside[-1].lineno or 0, (inside[-1].line or "")[:200]] if inside else []
    except BaseException:
        return []


def _is_a_cell(name: str) -> bool:
    """Say if a file name is one that IPython or ipykernel gives to a cell."""
    return name.startswith("<ipython-input") or "ipykernel_" in name or name.startswith("<your ")


def main() -> None:
    """Serve over standard input and output, in a process without a wall."""
    channel = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    hidden = sys.argv[1:]
    sys.meta_path.insert(0, mine.Hidden(hidden))
    serve(_Both(*channel), new_shell(), Limits())


class _Both:
    """Two one-way files as one."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self.read, self.write, self.flush = reader.read, writer.write, writer.flush


if __name__ == "__main__":
    main()
