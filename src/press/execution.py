"""Execute the chapters that need it, in parallel, and keep every output that was ever paid for.

A chapter is a page of ``book/`` that carries code cells. `execute` computes each one's cache key
(see `press.dependencies`), takes from the store what is there, runs the rest with as many kernels
at a time as asked, and leaves behind, for each chapter:

``_build/cache/<chapter>/<key>.ipynb``, ``<key>.json``
    the store: the outputs of the latest few keys, so that going back executes nothing;
``_build/executed/<chapter>.ipynb``, ``<chapter>.json``
    the chapter as it stands now with its outputs, and the record of the run that made them;
``_build/jupyter-cache``
    the same outputs where myst-nb looks for them, so that Sphinx executes nothing itself.

Every file is written beside its name and then renamed, as soon as its chapter is done: an
interrupted build loses no finished chapter.

Public names: `Book`, `Chapter`, `Run`, `read_chapters`, `current_conditions`, `execute`.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import fcntl
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from press import dependencies
from press.dependencies import Conditions

# How many outputs of one chapter are kept: two profiles on two devices and a few edits back.
KEPT = 6
CELL_TIMEOUT = 600
PROFILES = ("sample", "full")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Book:
    """Where the parts of a book are.

    Parameters
    ----------
    root
        The checkout. Everything else follows from it.
    """

    root: Path

    @property
    def pages(self) -> Path:
        """The folder of the pages."""
        return self.root / "book"

    @property
    def source(self) -> Path:
        """The folder of the packages that chapters import."""
        return self.root / "src"

    @property
    def config(self) -> Path:
        """The file that configures the book."""
        return self.root / "_config.yml"

    @property
    def build(self) -> Path:
        """The folder of everything that is made."""
        return self.root / "_build"

    @property
    def html(self) -> Path:
        """The folder of the site."""
        return self.build / "html"

    @property
    def executed(self) -> Path:
        """The folder of the executed chapters and their records."""
        return self.build / "executed"

    @property
    def store(self) -> Path:
        """The folder of kept outputs."""
        return self.build / "cache"

    @property
    def jupyter_cache(self) -> Path:
        """The folder from which myst-nb takes outputs."""
        return self.build / "jupyter-cache"


@dataclass(frozen=True)
class Chapter:
    """A page with code cells.

    Parameters
    ----------
    name
        The stem of its file.
    path
        Its file.
    notebook
        Its cells, without outputs.
    """

    name: str
    path: Path
    notebook: NotebookNode


@dataclass
class Run:
    """How one chapter came by its outputs.

    Parameters
    ----------
    chapter
        Which one.
    record
        What is known of the execution that made the outputs: chapter, key, profile, device,
        versions, threads, seconds, data, finished, commit, status (and, when it failed: error,
        message, cell, line, source, traceback).
    executed
        Whether it was executed now, not taken from the store.
    """

    chapter: Chapter
    record: dict[str, Any]
    executed: bool

    @property
    def failed(self) -> bool:
        """Whether a cell failed."""
        return bool(self.record["status"] != "ok")


@contextlib.contextmanager
def exclusive(book: Book) -> Iterator[None]:
    """Hold the book's build folder; a second build waits until the first has ended."""
    book.build.mkdir(parents=True, exist_ok=True)
    with (book.build / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another build is using {book.build}; waiting for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def configuration(book: Book) -> dict[str, Any]:
    """Return what ``_config.yml`` says."""
    if not book.config.is_file():
        return {}
    return yaml.safe_load(book.config.read_text(encoding="utf-8")) or {}


def read_chapters(book: Book) -> list[Chapter]:
    """Return the pages with code cells, in the order of the table of contents.

    Raises
    ------
    FileNotFoundError
        When there is no table of contents, or when it names a page that is not there.
    ValueError
        When a cell's options cannot be read, or two chapters in different folders have the same
        file name.
    """
    from myst_nb.core.read import (
        MystMetadataParsingError,
        is_myst_markdown_notebook,
        read_myst_markdown_notebook,
    )
    from myst_parser.config.main import MdParserConfig

    toc = book.pages / "_toc.yml"
    if not toc.is_file():
        raise FileNotFoundError(f"{toc} is missing: it lists the pages of the book.")
    # Where a cell starts and ends depends on the syntax that Sphinx will read the page with.
    parse = configuration(book).get("parse", {})
    extensions = parse.get("myst_enable_extensions", _default_syntax())
    config = MdParserConfig(enable_extensions=set(extensions))
    chapters = []
    for page in _pages_listed(yaml.safe_load(toc.read_text(encoding="utf-8"))):
        path = book.pages / f"{page}.md"
        if not path.is_file():
            if list(book.pages.glob(f"{page}*")):
                continue  # a page in another format has no cells to execute
            raise FileNotFoundError(f"{path} is missing, but {toc} lists it.")
        text = path.read_text(encoding="utf-8")
        if not is_myst_markdown_notebook(text):
            continue
        try:
            notebook = read_myst_markdown_notebook(
                text, config=config, add_source_map=True, path=str(path)
            )
        except MystMetadataParsingError as error:
            place = str(error).partition(" could not be read")[0]
            raise ValueError(
                f"{path}: the options of {place.lower()} are not valid YAML."
            ) from error
        if "kernelspec" in notebook.metadata and any(
            cell.cell_type == "code" for cell in notebook.cells
        ):
            for number, cell in enumerate(notebook.cells):
                cell.id = f"cell-{number}"  # not a random one: equal text gives equal files
            chapters.append(Chapter(path.stem, path, notebook))
    names = [chapter.name for chapter in chapters]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"A chapter's file name must be unique, but there are two: {twice}.")
    return chapters


def _default_syntax() -> list[str]:
    from jupyter_book.config import PATH_YAML_DEFAULT

    default = yaml.safe_load(PATH_YAML_DEFAULT.read_text(encoding="utf-8"))
    return list(default["parse"]["myst_enable_extensions"])


def _pages_listed(toc: object) -> Iterator[str]:
    """Yield the pages that a table of contents names, in its order."""
    if isinstance(toc, Mapping):
        for key, value in toc.items():
            if key in {"root", "file"}:
                yield str(value).removesuffix(".md")
            else:
                yield from _pages_listed(value)
    elif isinstance(toc, list):
        for entry in toc:
            yield from _pages_listed(entry)


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the number of processor cores that this process may use.

    Parameters
    ----------
    quota
        Where Linux says how much processor time a container gets: microseconds, and in how many.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):  # no container, or "max": no limit
        granted, period = map(int, quota.read_text(encoding="ascii").split())
        count = min(count or 1, max(1, granted // period))
    return count or 1


def current_conditions(jobs: int | None = None) -> Conditions:
    """Return the conditions that the environment names.

    Reads ``GLASSBOX_PROFILE``, ``GLASSBOX_DATA`` and ``GLASSBOX_DEVICE``.

    Parameters
    ----------
    jobs
        How many chapters execute at a time; the cores are shared out among them.

    Raises
    ------
    ValueError
        When the profile is neither ``sample`` nor ``full``.
    """
    profile = os.environ.get("GLASSBOX_PROFILE") or "sample"
    if profile not in PROFILES:
        raise ValueError(f"GLASSBOX_PROFILE is {profile!r}; it can be 'sample' or 'full'.")
    name, model = dependencies.device()
    return Conditions(
        profile=profile,
        device=name,
        device_name=model,
        threads=max(1, cores() // (jobs or cores())),
        versions=dependencies.versions(),
        data=dependencies.data_checksums(profile),
    )


def execute(
    book: Book,
    conditions: Conditions,
    *,
    jobs: int | None = None,
    say: Callable[[str], None] = print,
) -> list[Run]:
    """Bring the outputs of every chapter up to date.

    Parameters
    ----------
    book
        Which book.
    conditions
        Under which its chapters execute.
    jobs
        How many chapters execute at a time; the number of cores when not given.
    say
        Called with one line for each chapter as it is done.

    Returns
    -------
    list of Run
        One for each chapter, in the order of the book. A chapter that failed is among them.
    """
    chapters = read_chapters(book)
    keys = {c.name: dependencies.cache_key(c.notebook, conditions, book.source) for c in chapters}
    runs: dict[str, Run] = {}
    waiting = []
    for chapter in chapters:
        kept = _fetch(book, chapter, keys[chapter.name])
        if kept is None:
            _withdraw(book, chapter)
            waiting.append(chapter)
        else:
            outputs, record = kept
            _publish(book, chapter, outputs, record)
            runs[chapter.name] = Run(chapter, record, executed=False)
            say(f"{chapter.name:<24} kept   ({record['seconds']:.1f} s when it was executed)")
    # The longest first, so that no long one is left alone at the end.
    waiting.sort(key=lambda c: _expected_seconds(book, c, conditions.profile), reverse=True)
    timeout = configuration(book).get("execute", {}).get("timeout", CELL_TIMEOUT)
    for chapter, notebook, outcome in _run_all(waiting, book, conditions, jobs or cores(), timeout):
        record = {
            "chapter": chapter.name,
            "key": keys[chapter.name],
            "profile": conditions.profile,
            "device": conditions.device,
            "device_name": conditions.device_name,
            "threads": conditions.threads,
            "versions": dict(conditions.versions),
            "data": dict(conditions.data)
            if dependencies.uses_data(chapter.notebook, book.source)
            else {},
            "commit": commit(book),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **outcome,
        }
        if record["status"] == "ok":
            _keep(book, chapter, notebook, record)
        _publish(book, chapter, notebook, record)
        runs[chapter.name] = Run(chapter, record, executed=True)
        done = "executed" if record["status"] == "ok" else "FAILED  "
        say(f"{chapter.name:<24} {done} in {record['seconds']:.1f} s")
    return [runs[chapter.name] for chapter in chapters]


def commit(book: Book) -> str:
    """Return the commit that is checked out, with ``+`` when files differ; empty outside git."""
    command = ["git", "-C", str(book.root), "describe", "--always", "--abbrev=40", "--dirty=+"]
    result = subprocess.run([*command, "--exclude=*"], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""


# -- the store -----------------------------------------------------------------------------------


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is either there completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _fetch(book: Book, chapter: Chapter, key: str) -> tuple[NotebookNode, dict[str, Any]] | None:
    """Return the kept outputs for a key, or None."""
    path = book.store / chapter.name / f"{key}.ipynb"
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        outputs = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        return None
    path.touch()
    return outputs, record


def _keep(book: Book, chapter: Chapter, notebook: NotebookNode, record: dict[str, Any]) -> None:
    """Add outputs to the store and let go of the oldest beyond `KEPT`."""
    folder = book.store / chapter.name
    path = folder / f"{record['key']}.ipynb"
    # The record first: `_fetch` needs both, and the notebook is what says that all is there.
    write_atomically(path.with_suffix(".json"), json.dumps(record, indent=1))
    write_atomically(path, nbformat.writes(notebook))  # type: ignore[no-untyped-call]
    newest_first = sorted(folder.glob("*.ipynb"), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in newest_first[KEPT:]:
        old.unlink()
        old.with_suffix(".json").unlink(missing_ok=True)


def _expected_seconds(book: Book, chapter: Chapter, profile: str) -> tuple[float, int]:
    """Return how long a chapter took last, and its length for those that never ran."""
    length = sum(len(cell.source) for cell in chapter.notebook.cells if cell.cell_type == "code")
    paths = sorted((book.store / chapter.name).glob("*.json"), key=lambda p: p.stat().st_mtime)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    records.sort(key=lambda record: record["profile"] == profile)
    return (records[-1]["seconds"] if records else float("inf"), length)


def with_outputs(notebook: NotebookNode, outputs: NotebookNode) -> NotebookNode:
    """Return a chapter as it is written now with the outputs of the same cells.

    Prose, captions and tags come from ``notebook``; what the run made comes from ``outputs``.
    """
    result = copy.deepcopy(notebook)
    made = (cell for cell in outputs.cells if cell.cell_type == "code")
    for cell in result.cells:
        if cell.cell_type == "code":
            from_run = next(made)
            cell.outputs = copy.deepcopy(from_run.outputs)
            cell.execution_count = from_run.execution_count
    for key in ("language_info", "widgets"):
        if key in outputs.metadata:
            result.metadata[key] = copy.deepcopy(outputs.metadata[key])
    return result


def _withdraw(book: Book, chapter: Chapter) -> None:
    """Take away what stands for a chapter, so that nothing old passes for new.

    From here until the chapter has been executed it has no record, no outputs and no page.
    """
    from jupyter_cache import get_cache

    for path in (
        book.executed / f"{chapter.name}.json",
        book.executed / f"{chapter.name}.ipynb",
        (book.html / chapter.path.relative_to(book.pages)).with_suffix(".html"),
    ):
        path.unlink(missing_ok=True)
    cache = get_cache(book.jupyter_cache)
    with contextlib.suppress(KeyError):  # it was never executed
        cache.remove_cache(cache.match_cache_notebook(chapter.notebook).pk)


def _publish(book: Book, chapter: Chapter, outputs: NotebookNode, record: dict[str, Any]) -> None:
    """Put a chapter's outputs where the Sphinx extension and myst-nb look for them."""
    notebook = with_outputs(chapter.notebook, outputs)
    path = book.executed / f"{chapter.name}.ipynb"
    text = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    description = json.dumps(record, indent=1)
    there = [_text(path) == text, _text(path.with_suffix(".json")) == description]
    if all(there) and (book.jupyter_cache / "global.db").is_file():
        return
    _give_to_myst_nb(book, chapter, notebook, record["seconds"])
    write_atomically(path, text)
    # Last: what has a record has been published completely.
    write_atomically(path.with_suffix(".json"), description)


def _give_to_myst_nb(book: Book, chapter: Chapter, notebook: NotebookNode, seconds: float) -> None:
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    cache = get_cache(book.jupyter_cache)
    # It knows a chapter by the source of its cells alone; the same source may have new outputs.
    cache.cache_notebook_bundle(
        CacheBundleIn(notebook, str(chapter.path), data={"execution_seconds": seconds}),
        check_validity=False,
        overwrite=True,
    )


# -- running -------------------------------------------------------------------------------------


def kernel_environment(book: Book, conditions: Conditions, scratch: Path) -> dict[str, str]:
    """Return the environment variables of a chapter's kernel.

    The same everywhere: chapters import the packages of this checkout, hashes are fixed, the
    reader's own IPython settings stay out, and a build in CI makes the page that one at home does.
    """
    environment = dict(os.environ)
    for name in ("CI", "GITHUB_ACTIONS", "PYTHONSTARTUP"):
        environment.pop(name, None)
    path = [str(book.source), *filter(None, [environment.get("PYTHONPATH")])]
    environment |= {
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONHASHSEED": "0",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "IPYTHONDIR": str(scratch / "ipython"),
        "GLASSBOX_PROFILE": conditions.profile,
        "GLASSBOX_DEVICE": conditions.device,
    }
    for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM"):
        environment[f"{library}_NUM_THREADS"] = str(conditions.threads)
    if environment.get("GLASSBOX_DATA"):
        # The kernel works in a folder of its own, where a relative path would mean another place.
        environment["GLASSBOX_DATA"] = os.path.abspath(environment["GLASSBOX_DATA"])
    return environment


@dataclass
class _Kernels:
    """The process groups of the kernels, so that an interrupted build leaves none running."""

    pids: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: bool = False

    def add(self, pid: int) -> None:
        with self.lock:
            self.pids.add(pid)
            if self.stopped:
                self._kill(pid)

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            for pid in self.pids:
                self._kill(pid)

    @staticmethod
    def _kill(pid: int) -> None:
        # A kernel leads a session of its own: its children, loaders and workers, go with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _run_all(
    chapters: list[Chapter],
    book: Book,
    conditions: Conditions,
    jobs: int,
    timeout: int,
) -> Iterator[tuple[Chapter, NotebookNode, dict[str, Any]]]:
    """Execute chapters, a few at a time, and yield each one as soon as it is done."""
    if not chapters:
        return
    kernels = _Kernels()

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminate) if in_main else None
    # Threads, since each only waits for its kernel, which is a process of its own.
    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        futures: dict[Future[tuple[NotebookNode, dict[str, Any]]], Chapter] = {
            pool.submit(_run_one, c, book, conditions, timeout, kernels): c for c in chapters
        }
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                notebook, outcome = future.result()
                yield futures[future], notebook, outcome
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        kernels.stop()
        raise
    finally:
        pool.shutdown(wait=True)
        if in_main:
            signal.signal(signal.SIGTERM, before)


def _run_one(
    chapter: Chapter, book: Book, conditions: Conditions, timeout: int, kernels: _Kernels
) -> tuple[NotebookNode, dict[str, Any]]:
    """Execute one chapter in a kernel of its own; return its notebook and how it went."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = copy.deepcopy(chapter.notebook)
    current = 0

    def note_cell(cell: NotebookNode, cell_index: int) -> None:
        nonlocal current
        current = cell_index

    class Client(NotebookClient):
        def create_kernel_manager(self) -> Any:
            manager = super().create_kernel_manager()
            # Files that only this user can open, not ports that anyone on the machine can.
            manager.transport = "ipc"
            manager.ip = str(Path(scratch, "socket"))
            return manager

        async def async_start_new_kernel(self, **kwargs: Any) -> None:
            await super().async_start_new_kernel(**kwargs)
            kernels.add(self.km.provisioner.pid)  # type: ignore[union-attr]

    outcome: dict[str, Any] = {"status": "ok"}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="glassbox-", ignore_cleanup_errors=True) as scratch:
        work = Path(scratch, "work")
        work.mkdir()
        client = Client(
            notebook,
            timeout=timeout if timeout and timeout > 0 else None,
            on_cell_start=note_cell,
            shutdown_kernel="immediate",
        )
        environment = kernel_environment(book, conditions, Path(scratch))
        try:
            asyncio.run(client.async_execute(env=environment, cwd=str(work)))
        except CellExecutionError as error:
            failure = (error.ename, error.evalue, ANSI.sub("", error.traceback))
            outcome = _failure(chapter, current, *failure)
        except Exception as error:  # a dead kernel, a timeout: the other chapters go on
            name, message = type(error).__name__, ANSI.sub("", str(error)).strip()
            outcome = _failure(chapter, current, name, message.partition("\n")[0], message)
    return notebook, {**outcome, "seconds": round(time.perf_counter() - start, 3)}


def _failure(
    chapter: Chapter, index: int, error: str, message: str, traceback: str
) -> dict[str, Any]:
    source_map = chapter.notebook.metadata.get("source_map", [])
    return {
        "status": "failed",
        "error": error,
        "message": message,
        "cell": index,
        "line": source_map[index] + 1 if index < len(source_map) else None,
        "source": chapter.notebook.cells[index].source,
        "traceback": traceback,
    }


def report(run: Run) -> str:
    """Return what is to be said of a chapter that failed: the cell, and the traceback."""
    record = run.record
    where = f"{run.chapter.path}:{record['line']}" if record["line"] else str(run.chapter.path)
    rule = "-" * 78
    source = "\n".join(f"    {line}" for line in record["source"].splitlines())
    return (
        f"{rule}\n{run.chapter.name} failed in cell {record['cell']} ({where}):\n\n{source}\n\n"
        f"{record['traceback'].rstrip()}\n{rule}"
    )
