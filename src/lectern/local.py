"""A learner's own code on the learner's own machine: no wall is needed there.

`Here`, the notebook in which `check` is called; `Process`, a fresh process beside this one.
"""

from __future__ import annotations

import os
import queue
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from lectern.student import Stopped
from lectern.wire import Limits, WireError, decode, encode
from lectern.worker import Worker

__all__ = ["Here", "Process"]


class Here:
    """The notebook whose names these are.

    Parameters
    ----------
    names : dict
        Of the notebook.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        self._worker = Worker(SimpleNamespace(user_ns=names))

    def ask(self, request: Mapping[str, Any], seconds: float) -> Any:
        """Return the answer. No limit holds here: the learner can interrupt the kernel."""
        answer = decode(self._worker.answer(decode(encode(dict(request)))))
        if "error" in answer and answer["error"]["type"] == "KeyboardInterrupt":
            raise KeyboardInterrupt
        return answer

    def end(self) -> None:
        """Do nothing: the notebook goes on."""


class Process:
    """A process that runs cells without a wall, but with a time limit.

    Parameters
    ----------
    hide : collection of str
        Modules that cannot be imported there.
    limits : Limits
        Of what comes back.
    """

    def __init__(self, hide: Collection[str] = (), limits: Limits = Limits()) -> None:
        self._limits = limits
        self._folder = tempfile.TemporaryDirectory(prefix="lectern-", ignore_cleanup_errors=True)
        source = str(Path(__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lectern.worker", *hide],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env={**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": source, "PYTHONSAFEPATH": "1"},
        )  # fmt: skip
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._stopped: Stopped | None = None

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while len(header := self._process.stdout.read(8)) == 8:
            (size,) = struct.unpack("<Q", header)
            if size > self._limits.size + 1:
                break
            self._answers.put(self._process.stdout.read(size))
        self._answers.put(None)

    def ask(self, request: Mapping[str, Any], seconds: float) -> Any:
        """Return the answer, or raise `Stopped` if there is none in time."""
        if self._stopped is not None:
            raise self._stopped
        message = encode(dict(request), limits=self._limits)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(struct.pack("<Q", len(message)) + message)
            self._process.stdin.flush()
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            self._stop("time", f"It took more than {seconds:g} s and was stopped.")
        except (BrokenPipeError, OSError):
            answer = None
        try:
            if answer is None:
                self._stop("crash", "Its process ended.")
            return decode(answer, limits=self._limits)
        except WireError as error:
            self._stop("protocol", f"What came back is no answer: {error}")

    def _stop(self, why: str, text: str) -> NoReturn:
        self.end()
        self._stopped = Stopped(why, text)
        raise self._stopped

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass
        self._folder.cleanup()
        self._stopped = self._stopped or Stopped("ended", "The session has ended.")
