"""The figures that the project promises, measured: ``make bench``.

Each figure is one line on the terminal and one entry of ``_build/bench.json``:

``learner_overhead``
    an epoch of the `Learner` with metrics, recorder and progress, over the same epoch written bare;
``telemetry_overhead``
    an epoch of the `Learner` with `ActivationStats` on every convolution of `simple_cnn` (means,
    deviations, histograms of 40 bins), over the same epoch without;
``parallel_speedup``
    executing all chapters one after another with all threads, over executing them in parallel;
``rebuild_seconds``, ``prose_rebuild_seconds``
    ``press build`` when nothing changed, and when one paragraph of the longest chapter did.

Public names: `bench`.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from press.execution import (
    Book,
    cores,
    current_conditions,
    execute,
    read_chapters,
    write_atomically,
)

ITEMS, BATCH_SIZE, LR = 3_200, 64, 0.1
ROUNDS = 61  # short turns: the speed of a shared machine drifts from second to second


@dataclass(frozen=True)
class Figure:
    """One measured figure: its name, its value, its unit, and what there is to say of it."""

    name: str
    value: float
    unit: str
    note: str


def bench(book: Book) -> int:
    """Measure every figure, print each as soon as it is known, write ``bench.json``.

    Returns
    -------
    int
        The exit code: 0, or 1 when a build that was to be timed failed.
    """
    results: dict[str, dict[str, float | str]] = {}
    try:
        for measure in (learner_overhead, telemetry_overhead, rebuilds, parallel_speedup):
            for figure in measure(book):
                value = round(figure.value, 3)
                print(f"{figure.name:<24} {value:>8} {figure.unit:<8} {figure.note}", flush=True)
                results[figure.name] = {"value": value, "unit": figure.unit, "note": figure.note}
                write_atomically(book.build / "bench.json", json.dumps(results, indent=1) + "\n")
    except BuildFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


class BuildFailed(RuntimeError):
    """A build whose time was to be taken did not succeed."""


# -- the training loop ---------------------------------------------------------------------------


def learner_overhead(book: Book) -> Iterator[Figure]:
    """Time epochs of the Learner and of the bare loop in turn, in one process."""
    from glassbox.callbacks import Metrics, Progress, Recorder, accuracy
    from glassbox.data import DataLoaders, default_device
    from glassbox.learner import Learner
    from glassbox.models import simple_cnn
    from glassbox.optim import SGD

    device = default_device()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(ITEMS, 1, 28, 28, generator=generator).to(device)
    y = torch.randint(10, (ITEMS,), generator=generator).to(device)
    models = [simple_cnn().to(device) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizer = SGD(list(models[0].parameters()), lr=LR)

    def bare() -> None:
        models[0].train()
        order = torch.randperm(ITEMS, generator=generator).to(device)
        for start in range(0, ITEMS, BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            loss = F.cross_entropy(models[0](x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    loaders = DataLoaders.from_tensors((x, y), None, batch_size=BATCH_SIZE, device=device)
    callbacks = [Metrics(accuracy=accuracy), Recorder(), Progress()]
    learner = Learner(models[1], loaders, F.cross_entropy, SGD, LR, callbacks)

    # What progress prints goes to a terminal in real use; it is shown and thrown away here.
    with tempfile.TemporaryFile("w") as sink:
        stderr, sys.stderr = sys.stderr, _Terminal(sink)
        try:
            plain, full = _in_turns(bare, lambda: learner.fit(1), device)
        finally:
            sys.stderr = stderr
    note = f"{full:.3f} s against {plain:.3f} s for an epoch of {ITEMS:,} images on {device}"
    yield Figure("learner_overhead", full / plain, "ratio", note)


def telemetry_overhead(book: Book) -> Iterator[Figure]:
    """Time epochs of the Learner without and with full telemetry in turn, in one process."""
    from glassbox.data import DataLoaders, default_device
    from glassbox.hooks import ActivationStats
    from glassbox.learner import Callback, Learner
    from glassbox.models import simple_cnn
    from glassbox.optim import SGD

    device = default_device()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(ITEMS, 1, 28, 28, generator=generator)
    y = torch.randint(10, (ITEMS,), generator=generator)
    first = simple_cnn().state_dict()

    def learner(callbacks: list[Callback]) -> Learner:
        model = simple_cnn().to(device)
        model.load_state_dict(first)
        loaders = DataLoaders.from_tensors((x, y), None, batch_size=BATCH_SIZE, device=device)
        return Learner(model, loaders, F.cross_entropy, SGD, LR, callbacks)

    without, with_stats = learner([]), learner([ActivationStats(bins=40)])
    plain, full = _in_turns(lambda: without.fit(1), lambda: with_stats.fit(1), device)
    note = f"{full:.3f} s against {plain:.3f} s for an epoch of {ITEMS:,} images on {device}"
    yield Figure("telemetry_overhead", full / plain, "ratio", note)


def _in_turns(
    first: Callable[[], None], second: Callable[[], None], device: torch.device
) -> tuple[float, float]:
    """Return the median seconds of two loops that take turns."""
    times = []
    for number in range(ROUNDS):
        # Whichever comes second finds another machine: the two take turns at it.
        loops = [first, second][:: -1 if number % 2 else 1]
        seconds = [_seconds(loop, device) for loop in loops]
        times.append(seconds[:: -1 if number % 2 else 1])
    # The first round pays for what is set up once.
    one, other = (statistics.median(column) for column in zip(*times[1:], strict=True))
    return one, other


class _Terminal:
    """A file that claims to be a terminal, so that progress shows itself."""

    def __init__(self, file: object) -> None:
        self.file = file

    def isatty(self) -> bool:
        return True

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)


def _seconds(function: Callable[[], None], device: torch.device) -> float:
    _synchronise(device)
    start = time.perf_counter()
    function()
    _synchronise(device)
    return time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


# -- the book ------------------------------------------------------------------------------------


def _copy(book: Book, folder: str, *, outputs: bool) -> Book:
    """Copy a book's sources, so that nothing that is timed touches the checkout."""
    copy = Book(Path(folder))
    shutil.copytree(book.pages, copy.pages)
    shutil.copytree(book.source, copy.source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(book.config, copy.config)
    if outputs and book.store.is_dir():
        shutil.copytree(book.store, copy.store)
    return copy


def rebuilds(book: Book) -> Iterator[Figure]:
    """Time builds of an unchanged book and of one in which a paragraph changed."""
    with tempfile.TemporaryDirectory(prefix="glassbox-bench-") as folder:
        copy = _copy(book, folder, outputs=True)
        _build(copy)
        unchanged = statistics.median(_build(copy) for _ in range(3))
        yield Figure("rebuild_seconds", unchanged, "s", "nothing changed")
        longest = max(read_chapters(copy), key=lambda c: c.path.stat().st_size).path
        times = []
        for number in range(3):
            text = longest.read_text(encoding="utf-8")
            longest.write_text(f"{text}\nParagraph {number}.\n", encoding="utf-8")
            times.append(_build(copy))
        prose = statistics.median(times)
        yield Figure("prose_rebuild_seconds", prose, "s", f"one paragraph of {longest.stem}")


def _build(book: Book) -> float:
    """Build a book in a process of its own, as `make book` does; return the seconds it took."""
    command = [sys.executable, "-m", "press", "build", "--root", str(book.root)]
    start = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if result.returncode != 0:
        raise BuildFailed(f"{result.stdout}{result.stderr}\nThe book does not build.")
    return seconds


def parallel_speedup(book: Book) -> Iterator[Figure]:
    """Time the execution of all chapters, one after another and in parallel."""
    one_by_one, parallel = _execution(book, 1), _execution(book, cores())
    note = f"{one_by_one:.1f} s one after another, {parallel:.1f} s on {cores()} cores"
    yield Figure("parallel_speedup", one_by_one / parallel, "ratio", note)


def _execution(book: Book, jobs: int) -> float:
    with tempfile.TemporaryDirectory(prefix="glassbox-bench-") as folder:
        copy = _copy(book, folder, outputs=False)
        # How long each took last decides the order, as it does when an author rebuilds.
        records = [(p.name, json.loads(p.read_text())) for p in book.executed.glob("*.json")]
        for name, record in records:
            write_atomically(copy.store / Path(name).stem / "0.json", json.dumps(record))
        conditions = current_conditions(jobs)
        start = time.perf_counter()
        runs = execute(copy, conditions, jobs=jobs, say=lambda line: None)
        seconds = time.perf_counter() - start
        if failed := [run.chapter.name for run in runs if run.failed]:
            raise BuildFailed(f"These chapters fail: {', '.join(failed)}.")
    return seconds
