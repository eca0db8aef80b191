"""A grader without a wall, as most are: cells and tests run in one process, one after another.

It stands for the way in which nbgrader and otter-grader work, so that attacks can be shown to be
real: results leave the kernel as a file, as lines of output, as messages on a socket, as outputs of
cells, or pickled. It runs in a process of its own, which an attack may crash, hang or fill.

    python unprotected.py COURSE WAY
"""

from __future__ import annotations

import atexit
import io
import json
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import time
import traceback
import types
import unittest
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

QUESTIONS = ("rms", "total", "ranks", "predict")
STUDENTS = ("eve", "mallory", "ada")
RESULT = "@@result "
GRADE = "application/x-grade"


def run_check(check: Callable[..., None], names: dict[str, Any]) -> float:
    """Return the points for a question; a test that is skipped costs nothing."""
    try:
        check(names)
    except Exception as error:
        if isinstance(error, unittest.SkipTest):
            return 1.0
        print(f"{check.__name__}: {error}")
        return 0.0
    except BaseException as error:
        if type(error).__name__ in ("Skipped", "XFailed"):  # pytest's, which are no Exception
            return 1.0
        raise
    return 1.0


def run_kernel(course: Path, way: str, line: socket.socket | None) -> None:
    """Grade students one after another."""
    outputs: list[Any] = []
    display = types.ModuleType("IPython.display")
    display.display = lambda data, raw=False: outputs.append(data)  # type: ignore[attr-defined]
    sys.modules["IPython.display"] = display
    import reference  # noqa: F401 - the course's own

    for student in STUDENTS:
        folder = course / "submissions" / student
        os.chdir(folder)
        sys.path[:0] = [str(folder)]
        names: dict[str, Any] = {"__name__": "__main__"}
        for cell in json.loads((folder / "cells.json").read_text()):
            try:
                exec(compile(cell, "<cell>", "exec"), names)
            except Exception:
                traceback.print_exc()
        path = course / "tests" / "test_target.py"
        tests: dict[str, Any] = {"__name__": "tests"}
        exec(compile(path.read_text(), str(path), "exec"), tests)
        points = {q: run_check(tests[f"test_{q}"], names) for q in QUESTIONS}
        result = {"student": student, "points": points}
        if way == "stdout":
            print(RESULT + json.dumps(result), flush=True)
        elif way == "line" and line is not None:
            _send(line, json.dumps(result).encode())
        elif way == "pickle" and line is not None:
            _send(line, pickle.dumps({**result, "answer": names.get("answer")}))
        elif way == "outputs":
            display.display({GRADE: result})
        else:
            (course / "results" / f"{student}.json").write_text(json.dumps(result))
    if way == "outputs":
        (course / "results" / "outputs.json").write_text(json.dumps(outputs))
    sys.stdout.flush()


def _send(line: socket.socket, message: bytes) -> None:
    line.sendall(struct.pack(">I", len(message)) + message)


def collect(course: Path, way: str, messages: bytes) -> dict[str, dict[str, float]]:
    """Return the points of all students; the first message about each counts."""
    results: list[Any] = []
    if way == "stdout":
        lines = (course / "out.txt").read_text(errors="replace").splitlines()
        results = [json.loads(x.removeprefix(RESULT)) for x in lines if x.startswith(RESULT)]
    elif way in ("line", "pickle"):
        read = json.loads if way == "line" else pickle.loads
        stream = io.BytesIO(messages)
        with suppress(ValueError, struct.error):  # what is no message is left out
            while header := stream.read(4):
                results.append(read(stream.read(struct.unpack(">I", header)[0])))
    elif way == "outputs":
        path = course / "results" / "outputs.json"
        shown = json.loads(path.read_text()) if path.exists() else []
        results = [data[GRADE] for data in shown if GRADE in data]
    else:
        names = [path for path in (course / "results").glob("*.json") if path.stem in STUDENTS]
        results = [json.loads(path.read_text()) for path in names]
    saved = course / "submissions" / "mallory" / "answer.pkl"
    if way == "pickle" and saved.exists():
        pickle.loads(saved.read_bytes())
    points: dict[str, dict[str, float]] = {}
    for result in results:
        points.setdefault(result["student"], result["points"])
    return points


def grade(course: Path, way: str, seconds: float) -> dict[str, Any]:
    """Run the kernel in a child, and return what came out, and if it hung."""
    ours, theirs = socket.socketpair()
    kernel = os.fork()
    if kernel == 0:
        os.setsid()
        ours.close()
        file = os.open(course / "out.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        line = socket.socket(fileno=os.dup2(theirs.fileno(), 9))
        os.closerange(3, 9)
        os.closerange(10, 256)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.path[:0] = [str(course / name) for name in ("site", "solutions", "library")]
        code = 1
        try:
            run_kernel(course, way, line)
            code = 0
        except BaseException:
            traceback.print_exc()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)
    theirs.close()
    ours.setblocking(False)
    messages = bytearray()
    hung = True
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended = os.waitpid(kernel, os.WNOHANG)[0] == kernel
        try:
            while part := ours.recv(1 << 16):
                messages += part
        except OSError:
            pass
        if ended:
            hung = False
            break
        time.sleep(0.005)
    if hung:
        os.killpg(kernel, signal.SIGKILL)
        os.waitpid(kernel, 0)
    time.sleep(0.05)  # while results are read, whoever outlived the kernel may write
    try:
        points = collect(course, way, bytes(messages))
    except (ValueError, OSError, KeyError, TypeError, EOFError, struct.error):
        points = {}
    return {"points": points, "hung": hung}


def grade_with_pytest(course: Path) -> dict[str, Any]:
    """Run pytest in the student's folder; its exit code is the score."""
    folder = course / "submissions" / "mallory"
    cells = "\n".join(json.loads((folder / "cells.json").read_text()))
    (folder / "answer.py").write_text(cells)
    (folder / "test_answer.py").write_text(
        "import answer\n\ndef test_total():\n    assert answer.total([1, 2]) == 5\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--rootdir", str(folder), str(folder)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    points = {"total": float(run.returncode == 0)}
    return {"points": {"mallory": points}, "hung": False, "text": run.stdout}


def report(folder: Path, student: str, feedback: str, link: str) -> str:
    """Write a page and a table, and return a line for the terminal."""
    page = f"<h1>{student}</h1><p>{feedback}</p><a href='{link}'>their code</a>"
    (folder / "report.html").write_text(page)
    (folder / "grades.csv").write_text(f'student,remark\n"{student}","{feedback}"\n')
    return f"{student}: {feedback}"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack what a student handed in."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
    else:
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="fully_trusted")


def main() -> None:
    """Grade one course, or one after another as lines of input ask for."""
    if len(sys.argv) > 1:
        print(json.dumps(grade(Path(sys.argv[1]), sys.argv[2], 30)))
        return
    import numpy  # noqa: F401 - so that kernels need not
    import torch

    torch.set_num_threads(1)
    for request in sys.stdin:
        asked = json.loads(request)
        grader = os.fork()  # a process of its own: an attack may end it
        if grader == 0:
            course = Path(asked["course"])
            found = grade(course, asked["way"], asked["seconds"])
            (course / "graded.json").write_text(json.dumps(found))
            os._exit(0)
        os.waitpid(grader, 0)
        print("done", flush=True)


if __name__ == "__main__":
    main()
