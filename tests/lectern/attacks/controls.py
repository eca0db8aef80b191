"""Runs attacks against the grader without a wall, and looks at what they did.

`Controls`.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
import zlib
from contextlib import ExitStack, suppress
from ctypes import CDLL
from pathlib import Path

from . import unprotected
from .attack import (
    HONEST,
    WRONG,
    Aftermath,
    Attack,
    fingerprint,
    given,
    lay_out,
    processes_named,
)

GRADER = Path(unprotected.__file__)
_OPEN_FILES = 4096


class Listener:
    """What an attacker on the network would run: takes what comes over TCP, UDP and a file."""

    def __init__(self, folder: Path) -> None:
        self.tcp, self.udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        self.tcp.bind(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp.bind(("127.0.0.1", self.port))
        self.file = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(folder)  # a socket's path must be short
        self.file.bind("docker.sock")
        os.chdir(here)
        for line in (self.tcp, self.file):
            line.listen()
        for line in (self.tcp, self.udp, self.file):
            line.setblocking(False)

    def received(self) -> bytes:
        """Return what came so far."""
        found = b""
        for line in (self.tcp, self.file):
            with suppress(BlockingIOError):
                while True:
                    other = line.accept()[0]
                    other.settimeout(1)
                    found += other.recv(100)
                    other.close()
        with suppress(BlockingIOError):
            found += self.udp.recv(100)
        return found

    def close(self) -> None:
        """Stop listening."""
        for line in (self.tcp, self.udp, self.file):
            line.close()


def start_bystander(mark: str, secret: str) -> subprocess.Popen[bytes]:
    """Start a process of somebody else, with a secret in its environment."""
    command = [f"bystander-{mark}", "100000"]
    return subprocess.Popen(command, executable="/bin/sleep", env={"GRADER_TOKEN": secret})


def short(text: str) -> str:
    """Return a mark for processes, of at most 15 characters."""
    return f"x{text}"


class Controls:
    """A grader without a wall, ready for one attack after another.

    Parameters
    ----------
    folder : Path
        Where courses for it are made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: subprocess.Popen[str] | None = None

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": "/tmp"}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        environment.pop("PYTHONPATH", None)
        return subprocess.Popen(
            [sys.executable, str(GRADER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=environment, preexec_fn=_more_files,
        )  # fmt: skip

    def run(self, attack: Attack) -> Aftermath:
        """Grade an attack without a wall."""
        mark = short(secrets.token_hex(6))
        course = self.folder / mark
        secret = f"TOKEN-{secrets.token_hex(6)}"
        lay_out(course, secret)
        for name, text in attack.files.items():
            (course / "submissions" / "mallory" / name).write_text(text)
        with ExitStack() as stack:
            listener = Listener(course)
            stack.callback(listener.close)
            bystander = start_bystander(mark, secret)
            stack.callback(bystander.wait)
            stack.callback(bystander.kill)
            told = given(mark, course, listener.port)
            _put(course, "eve", told, environment_of(course, secret))
            cells = [told, environment_of(course, secret), WRONG, attack.cells]
            if attack.way in ("cold", "pytest"):
                cells = [
                    HONEST.replace("n * n", "n") if attack.way == "pytest" else told,
                    attack.cells,
                ]
                cells = cells if attack.way == "pytest" else [told, _PLAIN, attack.cells]
            (course / "submissions" / "mallory" / "cells.json").write_text(json.dumps(cells))
            before = fingerprint(course)
            found = self._grade(course, attack)
            time.sleep(0.05)
            after = Aftermath(
                points=found.get("points", {}), hung=found.get("hung", False), secret=secret
            )
            after.survivors = tuple(p for p in processes_named(mark) if p != bystander.pid)
            after.bystander_lives = bystander.poll() is None
            after.received = listener.received()
            for pid in _all_of(course, mark) - {bystander.pid}:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            texts = [course / "out.txt", *sorted((course / "results").glob("*"))]
            after.text = "\n".join(p.read_text(errors="replace") for p in texts if p.is_file())
            now = fingerprint(course)
            names = before.keys() | now.keys()
            after.changed = frozenset(n for n in names if before.get(n) != now.get(n))
        _sweep(mark)
        return after

    def _grade(self, course: Path, attack: Attack) -> dict[str, object]:
        folder = course / "submissions" / "mallory"
        if attack.way == "pytest":
            sys_path = str(GRADER.parent)
            code = "import unprotected, json, sys, pathlib; print(json.dumps("
            code += "unprotected.grade_with_pytest(pathlib.Path(sys.argv[1]))))"
            return _json([sys.executable, "-c", code, str(course)], folder, sys_path)
        if attack.way == "cold":
            return _json([sys.executable, str(GRADER), str(course), "file"], folder, str(folder))
        if self.server is None or self.server.poll() is not None:
            self.server = self._start()
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        seconds = 1.0 if attack.claim.__name__ == "hung" else 20.0
        request = {"course": str(course), "way": attack.way, "seconds": seconds}
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        self.server.stdout.readline()
        with suppress(OSError, ValueError):
            found: dict[str, object] = json.loads((course / "graded.json").read_text())
            return found
        return {}

    def close(self) -> None:
        """End the grader."""
        if self.server is not None:
            self.server.kill()
            self.server.communicate()


_PLAIN = """
rms = predict = lambda x: 0
total = lambda numbers: 0
ranks = lambda x: [0, 1, 2, 3, 4]
"""


def environment_of(course: Path, secret: str) -> str:
    """Return a cell that gives a kernel the environment in which graders often run."""
    return (
        f"import os, tempfile; os.environ.update(GRADER_TOKEN={secret!r}, "
        f"HOME={str(course / 'home')!r}); tempfile.tempdir = {str(course / 'tmp')!r}"
    )


def _put(course: Path, student: str, *cells: str) -> None:
    path = course / "submissions" / student / "cells.json"
    own = json.loads(path.read_text())
    path.write_text(json.dumps([own[0], *cells, *own[1:]]))


def _json(command: list[str], folder: Path, search: str) -> dict[str, object]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    try:
        found: dict[str, object] = json.loads(run.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise AssertionError(run.stdout + run.stderr) from None
    return found


def _all_of(course: Path, mark: str) -> set[int]:
    """Return the processes that an attack left: those that say so, and those that run there."""
    found = set(processes_named(mark))
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and os.readlink(folder / "cwd").startswith(str(course)):
                found.add(int(folder.name))
    return found


def _sweep(mark: str) -> None:
    """Remove what the careless student left outside of the course."""
    with suppress(OSError):
        Path(f"/dev/shm/{mark}-notes.txt").unlink()
    libc = CDLL(None)
    segment = libc.shmget(zlib.crc32(mark.encode()) >> 1, 4096, 0)
    if segment >= 0:
        libc.shmctl(segment, 0, None)


def _more_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_OPEN_FILES, most), most))
