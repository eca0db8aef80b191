"""What a session finds inside the wall: nothing of others, and no way out."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from lectern import sandbox as module
from lectern.cgroup import Group
from lectern.sandbox import Session, SessionLimits
from lectern.student import Stopped

from .trials import HIDES, Wall

MIB = 1 << 20


class Inside:
    """A session in which to look around."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __call__(self, code: str, want: str = "found", seconds: float = 20) -> object:
        request = {"do": "run", "code": code, "outputs": [want], "inputs": {}, "seed": 0}
        answer = self.session.ask(request, seconds)
        assert "error" not in answer, answer
        return answer["value"][want]


@pytest.fixture
def inside(wall: Wall) -> Iterator[Inside]:
    wall.mend()
    session = wall.sandbox.session(hide=HIDES)
    yield Inside(session)
    session.end()


def test_no_file_is_open_but_the_channel_and_the_output(inside: Inside) -> None:
    code = """
import os, stat
found = []
for number in range(1024):
    try:
        mode = os.fstat(number).st_mode
    except OSError:
        continue
    if not stat.S_ISCHR(mode):  # which is /dev/null
        found.append("socket" if stat.S_ISSOCK(mode) else "pipe" if stat.S_ISFIFO(mode) else "file")
"""
    assert inside(code) == ["pipe", "pipe", "socket"]


def test_nothing_can_be_written_but_private_folders(inside: Inside) -> None:
    code = """
import os
found = []
for root, folders, _ in os.walk("/"):
    if root.count("/") > 6 or root.startswith("/usr/share"):
        folders[:] = []
    try:
        os.close(os.open(root + "/zz", os.O_CREAT | os.O_WRONLY))
        os.remove(root + "/zz")
        found.append(root)
    except OSError:
        pass
"""
    assert set(inside(code, seconds=60)) <= {"/tmp", "/tmp/home", "/dev/shm"}  # type: ignore[call-overload]


def test_other_processes_cannot_be_seen(inside: Inside) -> None:
    code = """
import os
found = []
for pid in range(3, 4000):
    try:
        os.kill(pid, 0)
        found.append(pid)
    except ProcessLookupError:
        pass
"""
    assert inside(code) == []
    assert inside("import os; found = os.listdir('/proc')") == ["cpuinfo"]


def test_it_leads_a_group_and_a_session_that_hold_nobody_else(inside: Inside) -> None:
    # Of a group whose leader is outside, the number is 0 in here.
    assert inside("import os; found = os.getpgrp() > 0 and os.getsid(0) > 0") is True


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("unshare", "0x10000000"), ("unshare", "0x20000"), ("chroot", "b'/tmp'"),
        ("umount2", "b'/lectern/library/glassbox/answers.py', 2"), ("umount2", "b'/proc', 2"),
        ("mount", "b'none', b'/tmp/home', b'tmpfs', 0, None"), ("ptrace", "16, 1, 0, 0"),
        ("setuid", "0"), ("sethostname", "b'a', 1"), ("setpriority", "0, 0, -5"),
    ],
)  # fmt: skip
def test_calls_that_would_lead_out_fail(inside: Inside, call: str, arguments: str) -> None:
    code = f"import ctypes; found = ctypes.CDLL(None).{call}({arguments})"
    assert inside(code) == -1


@pytest.mark.parametrize("family", ["AF_VSOCK", "AF_PACKET", "AF_ALG", "AF_BLUETOOTH", "AF_CAN"])
def test_sockets_that_no_namespace_separates_cannot_be_made(inside: Inside, family: str) -> None:
    code = f"""
import socket
found = []
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    try:
        socket.socket(getattr(socket, "{family}", 99), kind)
        found.append(kind)
    except OSError:
        pass
"""
    assert inside(code) == []


def test_no_key_ring_can_be_reached(inside: Inside) -> None:
    code = "import ctypes; found = ctypes.CDLL(None).syscall(248, b'user', b'a', b'b', 1, -3)"
    assert inside(code) == -1


def test_what_is_printed_is_there_before_the_answer(inside: Inside) -> None:
    inside("print('said'); found = 1")
    inside("found = 1")
    assert b"said" in inside.session.printed


def test_hashes_of_texts_are_the_same_in_every_session(inside: Inside) -> None:
    run = [sys.executable, "-c", "print(hash('a'))"]
    environment = {"PYTHONHASHSEED": "0"}
    given = subprocess.run(run, capture_output=True, text=True, env=environment, check=True)
    assert inside("found = hash('a')") == int(given.stdout)


FRAMES = {
    "a huge one": "struct.pack('<Q', 1 << 62)",
    "half of one": "struct.pack('<Q', 1000) + b'{'",
    "no JSON": "struct.pack('<Q', 5) + b'pickl'",
    "a pickle": "(lambda m: struct.pack('<Q', len(m)) + m)(pickle.dumps([1, 2]))",
    "an empty one": "struct.pack('<Q', 0)",
    "many answers": "(struct.pack('<Q', 3) + b'12\\0') * 1000",
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_malformed_frame_stops_the_session_or_nothing(inside: Inside, frame: str) -> None:
    code = f"import os, pickle, struct; os.write(3, {frame}); found = 1"
    with pytest.raises((Stopped, AssertionError, TypeError)):
        [inside(code, seconds=1.5) for _ in range(3)]


def test_bytes_that_come_slowly_do_not_stretch_the_deadline(inside: Inside) -> None:
    code = """
import os, struct, time
os.write(3, struct.pack("<Q", 1000))
while True:
    os.write(3, b" ")
    time.sleep(0.05)
"""
    with pytest.raises(Stopped) as stopped:
        inside(code, seconds=0.6)
    assert stopped.value.why == "time"


WITHOUT_GROUPS = {
    "threads": (
        "import threading, time\n"
        "for _ in range(60): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "time.sleep(1)\nfound = 'held'",
        SessionLimits(processes=32),
    ),
    "memory in files that have no name": (
        "import os, time\nfile = os.memfd_create('kept')\n"
        "for _ in range(200): os.write(file, bytes(1 << 20))\n"
        "time.sleep(1)\nfound = 'held'",
        SessionLimits(memory=100 * MIB),
    ),
    "memory that processes share": (
        "import mmap, os, time\nkept = mmap.mmap(-1, 300 << 20)\nchild = os.fork()\n"
        "for _ in range(300): kept.write(bytes(1 << 20))\n"
        "time.sleep(1)\n"
        "if child == 0: os._exit(0)\n"
        "os.wait()\nfound = 'held'",
        SessionLimits(memory=100 * MIB),
    ),
    "memory in segments": (
        "import ctypes, time\nlibc = ctypes.CDLL(None)\nlibc.shmat.restype = ctypes.c_void_p\n"
        "for _ in range(3):\n"
        "    place = libc.shmat(libc.shmget(0, 100 << 20, 0o1600), None, 0)\n"
        "    if place == ctypes.c_void_p(-1).value: raise MemoryError\n"
        "    ctypes.memset(place, 1, 100 << 20); libc.shmdt(ctypes.c_void_p(place))\n"
        "time.sleep(1)\nfound = 'held'",
        SessionLimits(memory=100 * MIB),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT_GROUPS)
def test_limits_hold_where_no_control_group_can_be_made(
    wall: Wall, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    code, limits = WITHOUT_GROUPS[name]
    wall.mend()
    monkeypatch.setattr(module.Group, "around", lambda *args: Group([]))
    session = wall.sandbox.session(limits)
    try:
        with pytest.raises((Stopped, AssertionError)):  # stopped, or the call failed in there
            Inside(session)(code)
    finally:
        session.end()


def test_a_cell_of_many_megabytes_is_no_error_of_the_grader(wall: Wall) -> None:
    wall.mend()
    session = wall.sandbox.session()
    answer = session.ask({"do": "cell", "code": f"text = {'é' * (9 * MIB)!r}", "seed": 0}, 60)
    session.end()
    assert answer["value"] is None
