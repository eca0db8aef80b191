"""Inside the outer sandbox: a process that has imported what notebooks need, and forks for each.

`main`.

It holds no test, no answer and no module of the book. Each child gets namespaces of its own, so
that students who are graded by the same warm process cannot see each other.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lectern.wire import Limits
from lectern.worker import new_shell, serve

__all__ = ["main"]

_LIBC = ctypes.CDLL(None, use_errno=True)
# From <linux/sched.h>, <linux/mount.h> and <linux/prctl.h>: Python 3.11 has no names for them.
_NEW_MOUNTS, _NEW_IPC, _NEW_USER = 0x00020000, 0x08000000, 0x10000000
_NEW_PIDS, _NEW_NET = 0x20000000, 0x40000000
_NO_SETUID_NO_DEVICES, _READ_ONLY, _REMOUNT, _BIND, _PRIVATE = 0x6, 0x1, 0x20, 0x1000, 0x44000
_SET_DUMPABLE, _SET_SECCOMP, _DROP_BOUND, _NO_NEW_PRIVILEGES = 4, 22, 24, 38
_COLLAPSE, _HUGE = 25, 1 << 21  # of madvise, from <linux/mman.h>; bytes
_CAPABILITIES = 64  # more than there are; dropping one that is not there does nothing


def main() -> None:
    """Fork a child for every request that comes over the socket whose number is the argument.

    With a request come three file descriptors: the channel of questions and answers, a socket of
    process 1, and a pipe for what is printed.
    """
    requests = socket.socket(fileno=int(sys.argv[1]))
    shell = _warm_up()
    requests.send(b"warm")
    while True:
        message, fds, _, _ = socket.recv_fds(requests, 1 << 16, 3)
        if not message:
            return
        child = os.fork()
        if child == 0:
            requests.close()
            _run_and_exit(fds[2], _launch, json.loads(message), *fds, shell)
        for fd in fds:
            os.close(fd)
        os.waitpid(child, 0)


def _warm_up() -> Any:
    import matplotlib.pyplot  # noqa: F401
    import pandas  # noqa: F401
    import torch
    import torch._dynamo  # which optimizers import when the first is made, for a second or two

    torch.set_num_threads(1)
    shell = new_shell()
    gc.collect()
    gc.freeze()  # a child that collects garbage need not copy what it shares with this process
    _use_huge_pages()
    return shell


def _use_huge_pages() -> None:
    """Move this process's memory to pages of 2 MiB: a fork has fewer to enter, and is faster.

    Where the kernel cannot do so (before Linux 6.1, or without such pages), nothing changes.
    """
    _LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, *_, inode, name = [*line.split(maxsplit=5), ""][:6]
        if rights == "rw-p" and inode == "0" and name in ("", "[heap]"):
            begin, end = (int(address, 16) for address in addresses.split("-"))
            for place in range(-(-begin // _HUGE) * _HUGE, end - _HUGE + 1, _HUGE):
                _LIBC.madvise(place, _HUGE, _COLLAPSE)


def _run_and_exit(output: int, function: Callable[..., None], *args: Any) -> None:
    code = 1
    try:
        function(*args)
        code = 0
    except BaseException as error:
        os.write(output, f"sandbox: {error!r}\n".encode()[:500])
    finally:
        os._exit(code)


def _launch(
    request: Mapping[str, Any], channel: int, control: int, output: int, shell: Any
) -> None:
    """Make the namespaces, and in them process 1; leave at once."""
    uid, gid = os.getuid(), os.getgid()
    _do("unshare", _NEW_USER | _NEW_MOUNTS | _NEW_PIDS | _NEW_IPC | _NEW_NET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    # One more user namespace may follow, the student's own, and none inside that.
    Path("/proc/sys/user/max_user_namespaces").write_text("1")
    _mount("none", "/", None, _PRIVATE)
    cpuinfo = Path("/proc/cpuinfo").read_bytes()
    share = f"size={request['disk'] // 2},nr_inodes=10000,mode=0700"
    for place, options in (("/tmp", share), ("/dev/shm", share), ("/proc", "size=1m,mode=0700")):
        _mount("tmpfs", place, "tmpfs", _NO_SETUID_NO_DEVICES, options)
    Path("/proc/cpuinfo").write_bytes(cpuinfo)  # or PyTorch warns
    _mount("none", "/proc", None, _REMOUNT | _READ_ONLY | _NO_SETUID_NO_DEVICES)
    for place, stand_in in request["hide"].items():
        _mount(stand_in, place, None, _BIND)
    os.makedirs("/tmp/home")
    os.chdir("/tmp/home")
    if os.fork() == 0:
        _run_and_exit(output, _be_first, request, channel, control, output, shell)


def _be_first(
    request: Mapping[str, Any], channel: int, control: int, output: int, shell: Any
) -> None:
    """Be process 1 of the student's namespace: all others end when it does."""
    os.setsid()  # or kill(0, …) in there would reach the warm process, and sessions beside
    _do("prctl", _SET_DUMPABLE, 0, 0, 0, 0)
    line = socket.socket(fileno=control)
    line.send(b"ready")  # the kernel adds this process's number, as the other side sees it
    if line.recv(8) != b"go":
        return
    student = os.fork()
    if student == 0:
        line.close()
        _run_and_exit(output, _be_the_student, request, channel, output, shell)
    os.close(channel)
    line.send(b"forked")
    while True:
        pid, status = os.wait()
        if pid == student:
            line.send(str(os.waitstatus_to_exitcode(status)).encode())
            return


def _be_the_student(request: Mapping[str, Any], channel: int, output: int, shell: Any) -> None:
    _do("unshare", _NEW_USER)  # its ids stay unmapped: nothing here needs any
    for capability in range(_CAPABILITIES):
        _LIBC.prctl(_DROP_BOUND, capability, 0, 0, 0)
    _drop_capabilities()
    _do("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _refuse_calls()
    for name, value in request["rlimits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["HOME"] = os.getcwd()
    sys.path[:0] = ["/lectern/library"]
    both = socket.socket(fileno=channel).makefile("rwb")
    serve(both, shell, Limits(**request["wire"]))


# What namespaces do not separate (key rings, sockets of other families than these), what makes
# memory that belongs to no process, and what nobody needs. From <asm/unistd.h> and <linux/audit.h>.
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
_EVERYWHERE = (425, 426, 427, 447)  # io_uring_setup, _enter, _register; memfd_secret
_MACHINES = {
    # shmget, ptrace, add_key, request_key, keyctl, perf_event_open, memfd_create, bpf, userfaultfd
    "x86_64": (0xC000003E, 41, (29, 101, 248, 249, 250, 298, 319, 321, 323)),
    "aarch64": (0xC00000B7, 198, (194, 117, 217, 218, 219, 241, 279, 280, 282)),
}
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # of the kernel's packet filters
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000


def _refuse_calls() -> None:
    """Let some calls of the kernel fail, for this process and all that come from it."""
    if os.uname().machine not in _MACHINES:
        return
    machine, make_socket, own = _MACHINES[os.uname().machine]
    no_call, no_family = _ERROR | errno.ENOSYS, _ERROR | errno.EAFNOSUPPORT
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    steps += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, no_call)]  # the calls of x32
    for number in (*own, *_EVERYWHERE):
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, no_call)]
    steps += [(_EQUAL, 1, 0, make_socket), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 16)]
    for family in _FAMILIES:
        steps += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    steps.append((_RETURN, 0, 0, no_family))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    _do("prctl", _SET_SECCOMP, 2, ctypes.c_char_p(program), 0, 0)


def _drop_capabilities() -> None:
    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    header, none = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
    _do("capset", ctypes.byref(header), ctypes.byref(none))


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    _do(
        "mount",
        source.encode(),
        target.encode(),
        kind and kind.encode(),
        ctypes.c_ulong(flags),
        options.encode() or None,
    )


def _do(call: str, *args: Any) -> None:
    if getattr(_LIBC, call)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}{args!r:.200}: {os.strerror(number)}")
