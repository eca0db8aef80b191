"""A control group around a session, where the system lets one be made; the kernel then counts.

`Group`.

Where none can be made, nothing happens here: the sandbox measures the tree of processes anyway.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["Group"]

_ROOT = Path("/sys/fs/cgroup")
_NUMBERS = itertools.count()
_VERSION_1 = {"memory": "memory.limit_in_bytes", "pids": "pids.max"}
_VERSION_2 = {"memory": "memory.max", "pids": "pids.max"}


class Group:
    """The folders that stand for a control group: one in version 2, one for each limit in 1."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders

    @classmethod
    def around(cls, pid: int, memory: int, processes: int, root: Path = _ROOT) -> Group:
        """Put a process, and with it all that it starts, into a group with limits.

        Parameters
        ----------
        pid : int
        memory : int
            Bytes.
        processes : int
            With threads.
        root : Path
            Where the system's groups are.
        """
        limits = {"memory": str(memory), "pids": str(processes)}
        folders: list[Path] = []
        name = f"lectern-{os.getpid()}-{next(_NUMBERS)}"
        for parent, files in _parents(root):
            folder = parent / name
            try:
                folder.mkdir()
                folders.append(folder)
                for kind, file in files.items():
                    (folder / file).write_text(limits[kind])
            except OSError:  # not ours to make
                continue
        group = cls(folders)
        group.add(pid)
        return group

    def add(self, pid: int) -> None:
        """Put another process, and with it all that it starts, into the group."""
        for folder in self.folders:
            with suppress(OSError):
                (folder / "cgroup.procs").write_text(str(pid))

    def ran_out_of_memory(self) -> bool:
        """Say if the kernel ended a process because the group had no more memory."""
        for folder in self.folders:
            for file in ("memory.events", "memory.oom_control"):
                with suppress(OSError):
                    fields = dict(line.split() for line in (folder / file).read_text().splitlines())
                    if fields.get("oom_kill", "0") != "0":
                        return True
        return False

    def remove(self) -> None:
        """Remove the group, whose processes are gone."""
        for folder in self.folders:
            for _ in range(20):
                with suppress(FileNotFoundError):
                    try:
                        folder.rmdir()
                    except OSError:  # the kernel is still at it
                        time.sleep(0.01)
                        continue
                break
        self.folders = []


def _parents(root: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the folders in which a group can be made, with the files of its limits."""
    try:
        mine = dict(
            (controllers, path)
            for _, controllers, path in (
                line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()
            )
        )
    except OSError:
        return
    if (root / "cgroup.controllers").exists():
        parent = root / mine.get("", "/").lstrip("/")
        with suppress(OSError):
            there = (parent / "cgroup.subtree_control").read_text().split()
            yield parent, {kind: file for kind, file in _VERSION_2.items() if kind in there}
        return
    for kind, file in _VERSION_1.items():
        if kind in mine and (root / kind).is_dir():
            yield root / kind / mine[kind].lstrip("/"), {kind: file}
