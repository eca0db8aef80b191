"""A wall around students' code: a warm process behind bubblewrap, and a child of it for each.

`Sandbox`, `Session`, `SessionLimits`, `SandboxError`.

The student's process sees Python, its packages and the modules of the book that it may use; no
network, no other process, no file of anybody. What it may use of the machine is limited for all of
its processes together. Nothing that it does or says is trusted: answers are data, and why it ended
is what the kernel says.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from lectern.cgroup import Group
from lectern.mine import refusal
from lectern.student import Stopped
from lectern.wire import Limits, WireError, decode, encode

__all__ = ["Sandbox", "SandboxError", "Session", "SessionLimits"]

_INSIDE = Path("/lectern")  # where the wall shows our own files
_HERE = Path(__file__).parent
_START = f"import sys; sys.path[:0] = ['{_INSIDE}']; from lectern.warm import main; main()"
_SHOWN = ("mine", "warm", "watched", "wire", "worker")  # our modules that run inside
_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/fonts")
_INSTALL = "sudo apt-get install bubblewrap"
_BETWEEN_LOOKS = 0.05  # seconds
_START_SECONDS = 120
_COUNTED = ("Private_", "Pss_Shmem")
_PAGE, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


class SandboxError(RuntimeError):
    """The sandbox itself does not work here; no fault of a student."""


@dataclass(frozen=True)
class SessionLimits:
    """What all processes of a session together may use."""

    memory: int = 2 << 30
    """Bytes of their own, beyond what the warm process shares with them."""
    cpu: float = 600.0
    """Seconds of processors."""
    processes: int = 64
    """Threads count too."""
    files: int = 256
    """Open at a time, in each process."""
    disk: int = 256 << 20
    """Bytes in their private folders, which are in memory."""
    output: int = 1 << 20
    """Bytes printed."""
    wire: Limits = field(default_factory=Limits)


class Sandbox:
    """A warm process behind the wall, from which sessions are forked.

    Parameters
    ----------
    library : Path
        The folder of the book's package, of which sessions see a copy.

    Raises
    ------
    SandboxError
        If there is no bubblewrap, or the kernel does not allow it.
    """

    def __init__(self, library: Path) -> None:
        program = shutil.which("bwrap")
        if program is None:
            raise SandboxError(f"bubblewrap is missing, which isolates code: {_INSTALL}")
        self._folder = tempfile.TemporaryDirectory(prefix="lectern-")
        self._stand_ins = _lay_out(Path(self._folder.name), library)
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [program, *_wall(Path(self._folder.name), library), sys.executable, "-sP", "-c"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process is
        self.process = subprocess.Popen(
            [*command, _START, str(theirs.fileno())], pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env={},
        )  # fmt: skip
        theirs.close()
        self._requests.settimeout(_START_SECONDS)
        if self._requests.recv(16) != b"warm":
            self._log.seek(0)
            said = self._log.read()[-2000:].decode(errors="replace").strip()
            raise SandboxError(f"The sandbox does not start: {said or 'it says nothing'}")

    def session(
        self, limits: SessionLimits = SessionLimits(), hide: Collection[str] = ()
    ) -> Session:
        """Fork a session that does not see some modules of the library.

        Parameters
        ----------
        limits : SessionLimits
        hide : collection of str
            Modules such as ``"glassbox.losses"``; to import one says so in one sentence.
        """
        channel, theirs = socket.socketpair()
        control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        out, into = os.pipe()
        request = {
            "hide": {self._place(module): self._stand_ins[module] for module in hide},
            "disk": limits.disk,
            "rlimits": {
                "NPROC": limits.processes, "NOFILE": limits.files, "FSIZE": limits.disk, "CORE": 0,
                "CPU": int(limits.cpu) + 1,
            },
            "wire": asdict(limits.wire),
        }  # fmt: skip
        try:
            socket.send_fds(
                self._requests,
                [json.dumps(request).encode()],
                [theirs.fileno(), its.fileno(), into],
            )
        finally:
            theirs.close()
            its.close()
            os.close(into)
        return Session(channel, control, out, limits)

    def _place(self, module: str) -> str:
        if module not in self._stand_ins:
            raise ValueError(f"hide must name modules of the library, but {module!r} is none.")
        return f"{_INSIDE}/library/{module.replace('.', '/')}.py"

    def close(self) -> None:
        """End the warm process and everything that came from it."""
        self._requests.close()
        self.process.kill()
        self.process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Session:
    """One student's processes; a `lectern.student.Transport`.

    It ends with `end`, or when a limit is passed; then every question raises `Stopped`.
    """

    def __init__(
        self, channel: socket.socket, control: socket.socket, out: int, limits: SessionLimits
    ) -> None:
        self._channel, self._control, self._out, self._limits = channel, control, out, limits
        self.printed = bytearray()
        """What was written to standard output and error so far."""
        control.settimeout(30)
        notes = self._hear(b"ready")
        # The kernel, not the message, says which process this is.
        self._pid = struct.unpack("iii", notes[0][2])[0]
        self._first = os.pidfd_open(self._pid)
        control.send(b"go")
        # Until the first question nothing of the student's runs: time enough to join the group.
        self._group = Group.around(self._pid, limits.memory, limits.processes)
        self._hear(b"forked")
        for pid in _tree(self._pid):
            self._group.add(pid)
        self._stopped: Stopped | None = None
        self._looked = time.monotonic()
        self._seen: dict[tuple[int, str], float] = {}

    def _hear(self, word: bytes) -> list[Any]:
        """Return what the kernel adds to a message of process 1."""
        try:
            message, notes, _, _ = self._control.recvmsg(64, socket.CMSG_SPACE(12))
        except TimeoutError:
            message, notes = b"", []
        if message != word:
            said = os.read(self._out, 1000).decode(errors="replace").strip()
            for end in (self._channel, self._control):
                end.close()
            os.close(self._out)
            raise SandboxError(f"A session does not start: {said or 'it says nothing'}")
        return notes

    def ask(self, request: Mapping[str, Any], seconds: float) -> Any:
        """Send a request and return the answer.

        Raises
        ------
        Stopped
            If a limit is passed or the processes are gone, now or before.
        """
        if self._stopped is not None:
            raise self._stopped
        message = encode(dict(request), limits=self._limits.wire)
        deadline = time.monotonic() + seconds
        try:
            self._transfer(struct.pack("<Q", len(message)) + message, 0, deadline, seconds)
            (size,) = struct.unpack("<Q", self._transfer(b"", 8, deadline, seconds))
            if size > self._limits.wire.size + 1:
                raise WireError(f"an answer of {size} bytes")
            return decode(self._transfer(b"", size, deadline, seconds), limits=self._limits.wire)
        except WireError as error:
            self._stop("protocol", f"What came back is no answer: {error}")

    def _transfer(self, send: bytes, receive: int, deadline: float, seconds: float) -> bytes:
        """Send or receive so many bytes, and look meanwhile at what the session uses."""
        left, found = memoryview(send), bytearray()
        self._channel.setblocking(False)
        while left or len(found) < receive:
            wait = deadline - time.monotonic()
            if wait <= 0:
                self._stop("time", f"It took more than {seconds:g} s and was stopped.")
            both: list[Any] = [self._channel, self._out]
            ready, writable, _ = select.select(
                both, both[:1] if left else [], [],
                min(wait, _BETWEEN_LOOKS),
            )  # fmt: skip
            if self._out in ready:
                self._take_output()
            try:
                if writable:
                    left = left[self._channel.send(left) :]
                elif self._channel in ready:
                    part = self._channel.recv(min(receive - len(found), 1 << 20) or 1)
                    if not part:
                        raise ConnectionResetError
                    found += part
            except (BrokenPipeError, ConnectionResetError):
                self._stop_as_it_ended()
            if time.monotonic() - self._looked > _BETWEEN_LOOKS:
                self._look()
        return bytes(found)

    def _take_output(self) -> None:
        part = os.read(self._out, 1 << 16)
        self.printed += part
        if len(self.printed) > self._limits.output:
            del self.printed[self._limits.output :]
            self._stop("output", f"It printed more than {_size(self._limits.output)}.")

    def _look(self) -> None:
        self._looked = time.monotonic()
        tree = list(_tree(self._pid))
        memory = sum(map(_resident, tree))
        if memory > self._limits.memory:  # with what it shares; the exact number takes longer
            memory = sum(map(_own_memory, tree))
        cpu = self._processor_seconds(tree)
        if sum(map(_threads, tree)) > self._limits.processes:
            self._stop("processes", f"It had more than {self._limits.processes} processes.")
        if memory > self._limits.memory:
            self._stop_for_memory()
        if cpu > self._limits.cpu:
            self._stop("time", f"It used more than {self._limits.cpu:g} seconds of processors.")

    def _processor_seconds(self, tree: Sequence[int]) -> float:
        """Return what was used so far.

        The kernel forgets those whose parents ignored their end; so what each process was last seen
        to have used is added up too.
        """
        spent = [found for pid in tree for found in _spent(pid)]
        self._seen |= {process: own for process, own, _ in spent}
        return max(sum(own + ended for _, own, ended in spent), sum(self._seen.values()))

    def _stop_as_it_ended(self) -> NoReturn:
        if self._group.ran_out_of_memory():
            self._stop_for_memory()
        self._stop("crash", self._how_it_ended())

    def _stop_for_memory(self) -> NoReturn:
        self._stop("memory", f"It used more than {_size(self._limits.memory)} of memory.")

    def _how_it_ended(self) -> str:
        self._control.settimeout(2)
        with suppress(TimeoutError, OSError, ValueError):
            code = int(self._control.recv(16))
            if code == -signal.SIGXCPU:
                return f"It used more than {self._limits.cpu:g} seconds of processors."
            if code < 0:
                return f"Its process was ended by {signal.Signals(-code).name}."
            return f"Its process ended with exit code {code}."
        return "Its process is gone."

    def _stop(self, why: str, text: str) -> NoReturn:
        self.end()
        self._stopped = Stopped(why, text)
        raise self._stopped

    def end(self) -> None:
        """Kill all processes of the session, and wait until they are gone."""
        if self._first < 0:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._first, signal.SIGKILL)
        # Process 1 of a namespace is gone only after all others are.
        select.select([self._first], [], [], 30)
        for number in (self._first, self._out):
            os.close(number)
        self._first = -1
        self._channel.close()
        self._control.close()
        self._group.remove()
        self._stopped = self._stopped or Stopped("ended", "The session has ended.")


def _tree(pid: int) -> Iterator[int]:
    """Yield a process and all that come from it; orphans are children of process 1."""
    waiting = [pid]
    while waiting:
        pid = waiting.pop()
        yield pid
        with suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as children:
                    waiting += [int(child) for child in children.read().split()]


def _resident(pid: int) -> int:
    """Return the bytes that a process has in memory, alone or with others."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):  # it has ended meanwhile
        return 0


def _own_memory(pid: int) -> int:
    """Return the bytes that a process shares with no other, and its part of what it does share.

    The warm process has no shared memory, so that all of it is the session's; what of it is in one
    process only counts twice.
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup") as lines:
            return 1024 * sum(int(x.split()[1]) for x in lines if x.startswith(_COUNTED))
    except OSError:  # it has ended meanwhile
        return 0


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _spent(pid: int) -> Iterator[tuple[tuple[int, str], float, float]]:
    """Yield a process, and the seconds of its own and of those whose end it waited for."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it has ended meanwhile
        return
    fields = text.rpartition(")")[2].split()
    own, ended = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    yield (pid, fields[19]), own / _TICKS, ended / _TICKS  # pid and start: numbers are used again


def _size(n: int) -> str:
    return f"{n >> 20} MiB" if n >= 1 << 20 else f"{n >> 10} KiB"


def _lay_out(folder: Path, library: Path) -> dict[str, str]:
    """Copy what a session may see, and write what stands where a module is hidden."""
    package = folder / "lectern"
    package.mkdir()
    for name in _SHOWN:
        shutil.copy(_HERE / f"{name}.py", package)
    shutil.copy(_HERE / "stand_in.py", package / "__init__.py")
    shutil.copytree(
        library, folder / "library" / library.name, ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "hidden").mkdir()
    places = {}
    for path in library.glob("*.py"):
        module = f"{library.name}.{path.stem}"
        text = f"raise ImportError({refusal(module)!r})\n"
        (folder / "hidden" / path.name).write_text(text)
        places[module] = f"{_INSIDE}/hidden/{path.name}"
    return places


def _wall(folder: Path, library: Path) -> list[str]:
    shown = [*_SYSTEM, *{str(Path(p).resolve()) for p in (sys.base_prefix, sys.prefix)}]
    arguments = ["--unshare-all", "--die-with-parent", "--new-session"]
    # Not root in there, or the namespaces of sessions could not map the user once more.
    arguments += ["--cap-drop", "ALL", "--uid", "1000", "--gid", "1000"]
    for path in shown:
        arguments += ["--ro-bind-try", path, path]
    arguments += ["--ro-bind", str(folder), str(_INSIDE)]
    for covered in _covered():
        arguments += ["--tmpfs", covered, "--remount-ro", covered]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--tmpfs", "/tmp"]
    arguments += ["--remount-ro", "/"]
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg", "MPLCONFIGDIR": "/tmp/matplotlib", "IPYTHONDIR": "/tmp/ipython",
        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1",
        "USER": "learner",
    }  # fmt: skip
    for name, value in environment.items():
        arguments += ["--setenv", name, value]
    return ["--clearenv", *arguments]


def _covered() -> Iterator[str]:
    """Yield the folders of packages that nobody is to see: ours, and labels of well-known data."""
    for base in {sys.prefix, sys.base_prefix}:
        for name in ("glassbox", "lectern", "press", "sklearn/datasets/data"):
            yield from map(str, Path(base).glob(f"lib/python*/site-packages/{name}"))
