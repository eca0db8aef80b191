"""The grader's figures, measured: the second half of ``make bench``.

Each figure is one line on the terminal and one entry of ``_build/bench.json``:

``grade_marginal_seconds``
    a further submission of a notebook with five questions, on one core (median);
``grade_vs_nbclient``
    executing the same notebook by nbclient, over that;
``grade_two_workers``
    submissions a second with two workers, over one;
``grade_200_seconds``
    a class of 200, a tenth of it hostile, every honest score right, nothing left behind.

`main`.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import nbformat
import torch
from nbclient import NotebookClient

from lectern.attempt import Times
from lectern.course import Course, library_folder, write_course
from lectern.exercise import Chapter, Code, Exercise, plain, read_chapter
from lectern.grading import Class, Result, Settings, cores, grade_class, grade_jobs
from lectern.notebooks import release
from lectern.sandbox import Sandbox
from lectern.submissions import Job

__all__ = ["main"]

_CHAPTER, _QUESTIONS = "softmax", 5
_ROUNDS, _SCALING, _CLASS = 30, 120, 200
_HOSTILE = (
    "import os; os._exit(0)",
    "import os\nwhile True: os.fork()",
    "x = []\nwhile True: x.append(bytearray(1 << 26))",
    "while True: print('x' * 10_000)",
    "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)",
    "import torch; torch.allclose = lambda *a, **k: True",
    "open('/tmp/fill', 'wb').write(b'x' * (1 << 30))",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "import gc, socket\nfor s in gc.get_objects():\n"
    "    if isinstance(s, socket.socket): s.sendall(b'forged')",
    "while True: pass",
)


def main() -> None:
    """Measure every figure, print each as soon as it is known, add it to ``bench.json``."""
    torch.set_num_threads(1)
    root = Path.cwd()
    chapter = read_chapter(root / "solutions" / f"{_CHAPTER}.md")
    for_five = replace(chapter, parts=tuple(_first(chapter, _QUESTIONS)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "exercises"
        write_course([for_five], folder)
        shutil.copytree(root / "exercises" / "checks", folder / "checks")
        course = Course(folder)
        notebook = _answered(for_five, lambda exercise: plain(exercise.solution))
        with _on_one_core():
            marginal, by_nbclient = _marginal(course, notebook), _by_nbclient(notebook)
        _tell("grade_marginal_seconds", marginal, "s", f"median of {_ROUNDS}, one core")
        _tell("grade_vs_nbclient", by_nbclient / marginal, "times", "one core, in the same run")
        _tell("grade_two_workers", _scaling(course, notebook), "times", "submissions a second")
        seconds, note = _class_of_200(course, for_five, notebook)
        _tell("grade_200_seconds", seconds, "s", note)


@contextmanager
def _on_one_core() -> Iterator[None]:
    """Keep this process, and what it starts, on one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _first(chapter: Chapter, number: int) -> Iterator[Exercise | Code | str]:
    left = number
    for part in chapter.parts:
        if isinstance(part, Exercise):
            left -= 1
        if left >= 0:
            yield part


def _answered(chapter: Chapter, answer: Callable[[Exercise], str]) -> bytes:
    made = release(chapter)
    codes = {exercise.name: answer(exercise) for exercise in chapter.exercises}
    for cell in made.cells:
        name = cell.metadata.get("lectern", {}).get("exercise")
        if name is not None:
            cell.source = codes[name]
    text: str = nbformat.writes(made)  # type: ignore[no-untyped-call]
    return text.encode()


def _marginal(course: Course, notebook: bytes) -> float:
    """Return the seconds between results of one worker."""
    moments: list[float] = []
    most = sum(task.points for task in course.tasks.values())

    def take(result: Result) -> None:
        moments.append(time.perf_counter())
        _must_have(result, most)

    jobs = [Job(f"student-{i}", {_CHAPTER: notebook}) for i in range(_ROUNDS + 1)]
    with Sandbox(library_folder()) as sandbox:
        grade_jobs(
            course, jobs, lambda hides: sandbox.session(hide=hides), b"bench", take,
            times=Times(cell=120, all=600, patience=4),
        )  # fmt: skip
    return statistics.median(b - a for a, b in itertools.pairwise(moments))


def _must_have(result: Result, points: float) -> None:
    got = sum(o.points for found in result.outcomes.values() for o in found if o.passed)
    if abs(got - points) > 1e-9:
        raise SystemExit(f"{result.student} should have {points:g} points, but has {got:g}.")


def _by_nbclient(notebook: bytes) -> float:
    """Return the seconds that nbclient needs for the same cells (median of 3)."""
    seconds = []
    for _ in range(3):
        made = nbformat.reads(notebook.decode(), as_version=4)  # type: ignore[no-untyped-call]
        made.cells = [cell for cell in made.cells if not cell.id.endswith("-check")]
        begun = time.perf_counter()
        NotebookClient(made, timeout=300).execute()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def _scaling(course: Course, notebook: bytes) -> float:
    """Return how many times as many submissions a second two workers judge."""
    one, two = (_rate(course, notebook, workers) for workers in (1, 2))
    return two / one


def _rate(course: Course, notebook: bytes, workers: int) -> float:
    """Return submissions a second, from when every worker is warm."""
    moments: list[float] = []
    jobs = [Job(f"student-{i}", {_CHAPTER: notebook}) for i in range(_SCALING)]
    with tempfile.TemporaryDirectory() as folder:
        grade_class(
            course, jobs, Class(Path(folder)), _settings(), workers=workers,
            tell=lambda result, new: moments.append(time.perf_counter()),
        )  # fmt: skip
    warm = 10 * workers
    return (len(moments) - warm) / (moments[-1] - moments[warm - 1])


def _settings() -> Settings:
    return Settings(library_folder(), b"bench", times=Times(cell=10, all=120))


def _class_of_200(course: Course, chapter: Chapter, honest: bytes) -> tuple[float, str]:
    """Grade a class of which a tenth is hostile; check scores and what is left behind."""
    most = sum(task.points for task in course.tasks.values())
    jobs = []
    for number in range(_CLASS):
        attack = _HOSTILE[number // 10 % len(_HOSTILE)] if number % 10 == 0 else None
        if attack is None:
            jobs.append(Job(f"honest-{number}", {_CHAPTER: honest}))
        else:
            hostile = _answered(chapter, _attacking(attack, chapter.exercises[0]))
            jobs.append(Job(f"hostile-{number}", {_CHAPTER: hostile}))
    before = _footprint()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        results = grade_class(course, jobs, Class(Path(folder)), _settings(), workers=cores())
        seconds = time.perf_counter() - begun
    for result in results:
        _must_have(result, most if result.student.startswith("honest") else 0)
    after = _footprint()
    left = [f"{name}: {before[name]} → {after[name]}" for name in before
            if after[name] > before[name]]  # fmt: skip
    if left:
        raise SystemExit(f"Something was left behind: {', '.join(left)}")
    return seconds, f"{_CLASS} submissions, {_CLASS // 10} hostile, {cores()} workers; nothing left"


def _attacking(attack: str, place: Exercise) -> Callable[[Exercise], str]:
    return lambda exercise: attack if exercise is place else exercise.stub


def _footprint() -> dict[str, int]:
    """Return what a batch must leave as it was."""
    found = subprocess.run(
        ["pgrep", "-f", "lectern.warm|sleep 600"], capture_output=True, text=True, check=False
    )
    return {
        "processes": len(found.stdout.split()),
        "folders": len(list(Path(tempfile.gettempdir()).glob("lectern-*"))),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "MiB in /dev/shm": shutil.disk_usage("/dev/shm").used >> 20,
    }


def _tell(name: str, value: float, unit: str, note: str) -> None:
    value = round(value, 3)
    print(f"{name:<24} {value:>8} {unit:<8} {note}", flush=True)
    path = Path("_build") / "bench.json"
    path.parent.mkdir(exist_ok=True)
    results = json.loads(path.read_text()) if path.exists() else {}
    results[name] = {"value": value, "unit": unit, "note": note}
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
