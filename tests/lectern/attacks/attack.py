"""What an attack is, what its control shows, and the assignment that is attacked.

`Attack`, `Aftermath`; `earned`, `leaked`, `survived`, `changed`, `stopped_the_batch`, `hung`,
`said`, `harmed_the_next`, `killed_a_bystander`, `got_out`; `lay_out`, `HONEST`, `WRONG`.
"""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lectern.attempt import Times
from lectern.sandbox import SessionLimits

QUESTIONS = ("rms", "total", "ranks", "predict")

HONEST = """
import numpy as np
import torch

def rms(x):
    return x.square().mean().sqrt()

def total(numbers):
    return sum(n * n for n in numbers)

def ranks(x):
    return np.argsort(np.argsort(x))

def predict(x):
    return (x[:, 0] > x[:, 1]).long()
"""
"""What solves the assignment."""

WRONG = """
import numpy as np
import torch

def rms(x):
    return torch.zeros(())

def total(numbers):
    return 0

def ranks(x):
    return np.arange(len(x))

def predict(x):
    return torch.full((len(x),), -1)
"""
"""What an attacker hands in for it; each attack comes after this."""

REFERENCE = '''
"""Solutions of the assignment; SECRET."""

from pathlib import Path

import numpy as np
import torch


def rms(x):
    return (x * x).mean() ** 0.5


def total(numbers):
    return sum(n**2 for n in numbers)


def ranks(x):
    return np.argsort(np.argsort(x))


def held_out():
    lines = (Path(__file__).parents[1] / "data" / "labels.csv").read_text().splitlines()[1:]
    rows = torch.tensor([[float(number) for number in line.split(",")] for line in lines])
    return rows[:, :2], rows[:, 2].long()
'''

TESTS = '''
"""Tests of the assignment, for a grader without a wall; SECRET."""

import random

import numpy as np
import reference
import torch

secret = "SECRET"


def test_rms(names):
    torch.manual_seed(0)
    x = torch.randn(5)
    expected = reference.rms(x)
    assert torch.allclose(names["rms"](x), expected)


def test_total(names):
    numbers = random.Random(1).choices(range(-90, 90), k=7)
    expected = reference.total(numbers)
    assert names["total"](numbers) == expected


def test_ranks(names):
    x = np.random.default_rng(2).normal(size=5)
    expected = reference.ranks(x)
    assert np.allclose(names["ranks"](x), expected)


def test_predict(names):
    x, labels = reference.held_out()
    assert torch.equal(names["predict"](x), labels)
'''

CHECKS = '''
"""Checks of the assignment, for lectern; SECRET."""

import numpy as np
import pytest
import torch

from lectern import expect

secret = "SECRET"


@pytest.mark.exercise("rms", points=1)
def test_rms(student, rng):
    expect.agrees(student, "rms", rng.normal(5), right=lambda x: x.square().mean().sqrt())


@pytest.mark.exercise("total", points=1)
def test_total(student, rng):
    numbers = rng.integers(-90, 90, 7).tolist()
    expect.agrees(student, "total", numbers, right=lambda numbers: sum(n**2 for n in numbers))


@pytest.mark.exercise("ranks", points=1)
def test_ranks(student, rng):
    right, wrong = lambda x: x.argsort().argsort(), lambda x: torch.arange(5)
    x = rng.telling(lambda: rng.normal(5), right, wrong)
    expect.agrees(student, "ranks", x.numpy(), right=lambda x: np.argsort(np.argsort(x)))


@pytest.mark.exercise("predict", points=1)
def test_predict(student, rng):
    x = rng.normal(20, 2)
    labels = (x[:, 0] > x[:, 1]).long()
    expect.close(student.call("predict", x), labels, of="predict(x)")
'''

EVE = """
notes = ["SECRET of eve"]

import ctypes, json, os, socket, tempfile, threading, zlib

for place in (tempfile.gettempdir(), "/dev/shm", os.getcwd()):
    with open(os.path.join(place, MARK + "-notes.txt"), "w") as file:
        file.write(notes[0])

libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
segment = libc.shmget(zlib.crc32(MARK.encode()) >> 1, 4096, 0o1666)
if segment >= 0:
    ctypes.memmove(libc.shmat(segment, None, 0), notes[0].encode(), len(notes[0]))
libc.syscall(248, b"user", MARK.encode(), notes[0].encode(), len(notes[0]), -3)  # add_key

server = socket.socket(socket.AF_UNIX)
server.bind("\\0" + MARK)
server.listen()

def tell():
    while True:
        server.accept()[0].sendall(notes[0].encode())

threading.Thread(target=tell, daemon=True).start()

def remembered(function, kept=[]):
    def answer(given):
        found = function(given)
        kept.append(found.tolist() if hasattr(found, "tolist") else found)
        with open(os.path.join(tempfile.gettempdir(), "answers.json"), "w") as file:
            json.dump(kept, file)
        return found
    return answer

rms, total, ranks, predict = map(remembered, (rms, total, ranks, predict))
"""
"""What a careless or conspiring student leaves behind, graded before and beside the attacker."""


def given(mark: str, course: Path, port: int) -> str:
    """Return the first cell of an attack: even where things are, it is told."""
    return f"MARK, COURSE, PORT = {mark!r}, {str(course)!r}, {port}"


def lay_out(root: Path, secret: str) -> None:
    """Write everything that an attacker may wish to read or change."""
    labels = "".join(f"{a},{b},{int(a > b)}\n" for a, b in [(1, 2), (2, 1), (5, 3), (0, 4), (7, 6)])
    texts = {
        "solutions/reference.py": REFERENCE,
        "tests/test_target.py": TESTS,
        "checks/test_target.py": CHECKS,
        "data/labels.csv": f"a,b,label\n{labels}",
        "library/glassbox/__init__.py": '"""A library."""\n',
        "library/glassbox/answers.py": '"""What the assignment asks for: SECRET."""\n',
        "submissions/eve/cells.json": json.dumps([HONEST, EVE]),
        "submissions/ada/cells.json": json.dumps([HONEST]),
        "results/bob.json": json.dumps({"student": "bob", "points": {"rms": 0.0}}),
        "home/.keep": "", "site/.keep": "", "tmp/.keep": "", "submissions/mallory/.keep": "",
    }  # fmt: skip
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("SECRET", secret))


def fingerprint(root: Path) -> dict[str, str]:
    """Return a digest of every file of a folder."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not {"__pycache__", "tmp"} & set(path.relative_to(root).parts)
    }


def processes_named(mark: str) -> list[int]:
    """Return the processes that carry a mark in their name or command."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "comm").read_bytes() + b"\0" + (folder / "cmdline").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has ended meanwhile
            continue
        if mark.encode() in words and int(folder.name) != os.getpid() and state not in "ZX":
            found.append(int(folder.name))
    return found


@dataclass
class Aftermath:
    """What is left after a submission was graded without a wall."""

    points: dict[str, dict[str, float]] = field(default_factory=dict)
    text: str = ""
    """Everything printed, and every file of results."""
    changed: frozenset[str] = frozenset()
    """Files that were written, changed or removed, beside those of grading itself."""
    survivors: tuple[int, ...] = ()
    received: bytes = b""
    """What came out over the network."""
    hung: bool = False
    bystander_lives: bool = True
    secret: str = ""


Claim = Callable[[Aftermath], bool]


def earned(*questions: str) -> Claim:
    """Claim full marks for questions that were not solved."""
    return lambda after: all(after.points.get("mallory", {}).get(q) == 1.0 for q in questions)


def leaked(after: Aftermath) -> bool:
    """Claim that the secret of tests, solutions or others came out."""
    return after.secret in after.text


def survived(after: Aftermath) -> bool:
    """Claim that a process outlives grading."""
    return bool(after.survivors)


def changed(name: str) -> Claim:
    """Claim that a file of others was changed, removed or made."""
    return lambda after: any(path.startswith(name) for path in after.changed)


def stopped_the_batch(after: Aftermath) -> bool:
    """Claim that whoever comes next is not graded."""
    return "ada" not in after.points


def harmed_the_next(after: Aftermath) -> bool:
    """Claim that whoever comes next loses points."""
    return any(got < 1 for got in after.points["ada"].values())


def hung(after: Aftermath) -> bool:
    """Claim that grading does not end."""
    return after.hung


def said(text: str) -> Claim:
    """Claim to have come so far as to print something."""
    return lambda after: text in after.text


def killed_a_bystander(after: Aftermath) -> bool:
    """Claim to have ended a process of others."""
    return not after.bystander_lives


def got_out(after: Aftermath) -> bool:
    """Claim to have sent something over the network."""
    return bool(after.received)


@dataclass(frozen=True)
class Attack:
    """Cells that try to fool a grader, and what they achieve where there is no wall."""

    kind: str
    name: str
    cells: str
    claim: Claim
    """What the control must show."""
    never: str = ""
    """What lectern must never let it print, beside the secret."""
    stopped: str = ""
    """Why lectern must have stopped it, if it must."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Beside the notebook."""
    way: str = "file"
    """How the grader without a wall gets results out of the kernel."""
    limits: SessionLimits = SessionLimits()
    times: Times = Times(cell=10, all=20)

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}".replace(" ", "-")


def code(text: str) -> str:
    """Return a cell, from text that is indented as the table is."""
    return textwrap.dedent(text).strip() + "\n"
