"""Break the library under the book, and see the book's claims say so.

Each mutation changes one line of `src/glassbox`. The cells that one claim needs are run against the
changed copy: the claim must fail and be named. The same cells are run against the library as it is
first, or a claim that always fails would pass for one that caught something.
"""

import shutil
import threading
import tomllib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from press.execution import Book, cores, current_conditions, execute, read_chapters
from press.slicing import Outcome, cells_for, claims_in, run_cells

ROOT = Path(__file__).parents[2]
LOCKS: defaultdict[object, threading.Lock] = defaultdict(threading.Lock)
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "GLASSBOX_PROFILE": "sample", "GLASSBOX_DEVICE": "cpu"}


class Mutation(NamedTuple):
    module: str
    old: str
    new: str
    chapter: str
    claim: str
    slow: bool = False


MUTATIONS = {
    name: Mutation(**entry)
    for name, entry in tomllib.loads(
        (Path(__file__).parent / "mutations.toml").read_text(encoding="utf-8")
    ).items()
}


@cache
def chapter_of(name):
    return next(c.notebook for c in read_chapters(Book(ROOT)) if c.name == name)


@cache
def claims_of(name: str) -> dict[str, int]:
    return claims_in(chapter_of(name))


def slice_of(mutation: Mutation) -> list[int]:
    """Return the cells that the claim needs."""
    claims = claims_of(mutation.chapter)
    found = [cell for statement, cell in claims.items() if statement.startswith(mutation.claim)]
    assert len(found) == 1, f"{mutation.claim!r} must begin one statement, but begins {len(found)}"
    return cells_for(chapter_of(mutation.chapter), found[0])


@cache
def run_unchanged(chapter: str, cells: tuple[int, ...]) -> Outcome:
    return run_cells(chapter_of(chapter), cells, ROOT / "src", environment=ENVIRONMENT)


def run_both(mutation: Mutation, folder: Path) -> tuple[Outcome, Outcome]:
    """Return what becomes of the claim's cells with the library as it is, and broken."""
    cells = tuple(slice_of(mutation))
    with LOCKS[mutation.chapter, cells]:  # or two threads would run the same cells unchanged
        unchanged = run_unchanged(mutation.chapter, cells)
    source = mutated(mutation, folder)
    broken = run_cells(chapter_of(mutation.chapter), cells, source, environment=ENVIRONMENT)
    return unchanged, broken


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory):
    """Run the cells of all mutations that were asked for, one on each core at a time."""
    asked = [
        item.callspec.params["mutation"]
        for item in request.session.items
        if item.originalname == "test_a_claim_fails_when_the_library_is_broken"
    ]
    for mutation in asked:
        claims_of(mutation.chapter)  # read here, once, and not by every thread
    pool = ThreadPoolExecutor(cores())
    yield {
        mutation: pool.submit(run_both, mutation, tmp_path_factory.mktemp("broken"))
        for mutation in asked
    }
    pool.shutdown(cancel_futures=True)


def mutated(mutation: Mutation, folder: Path) -> Path:
    """Return a copy of the sources in which the mutation is made."""
    source = Path(shutil.copytree(ROOT / "src", folder / "src"))
    file = source / "glassbox" / f"{mutation.module}.py"
    text = file.read_text(encoding="utf-8")
    assert mutation.old in text, "the library has changed: change the mutation with it"
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    return source


def names_a_claim(message: str, chapter: str) -> bool:
    return any(message.startswith(statement) for statement in claims_of(chapter))


@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(mutation, id=name, marks=[pytest.mark.long] * mutation.slow)
        for name, mutation in MUTATIONS.items()
    ],
)
def test_a_claim_fails_when_the_library_is_broken(mutation, outcomes):
    unchanged, broken = outcomes[mutation].result()
    assert unchanged.passed, unchanged.traceback
    assert not broken.passed, "no claim noticed"
    assert broken.error == "ClaimError", broken.traceback
    # An earlier claim of the same cells may have noticed first.
    assert names_a_claim(broken.message, mutation.chapter)


@pytest.mark.long
@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_the_whole_chapter_fails_and_names_a_claim(mutation, tmp_path):
    mutated(mutation, tmp_path)
    shutil.copytree(ROOT / "book", tmp_path / "book")
    shutil.copy(ROOT / "_config.yml", tmp_path)
    contents = f"format: jb-book\nroot: index\nchapters:\n- file: {mutation.chapter}\n"
    (tmp_path / "book/_toc.yml").write_text(contents, encoding="utf-8")
    (run,) = execute(Book(tmp_path), current_conditions(1), jobs=1, say=lambda line: None)
    assert run.failed, "no claim noticed"
    assert run.record["error"] == "ClaimError", run.record["message"]
    assert names_a_claim(run.record["message"], mutation.chapter)
