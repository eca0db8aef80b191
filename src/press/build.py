"""Make the site: execute what needs it, render the pages, say where they are.

Sphinx runs in this process with Jupyter Book's configuration, with warnings as errors, and is
kept from executing anything: every output on a page went through `press.execution`.

Public names: `build`, `render`, `forbid_execution`.
"""

from __future__ import annotations

import json
import os
from typing import Any, NoReturn

from press.execution import Book, current_conditions, exclusive, execute, report

OK, FAILED = 0, 1


def build(book: Book, jobs: int | None = None) -> int:
    """Build the whole book and print what happened.

    Parameters
    ----------
    book
        Which book.
    jobs
        How many chapters execute at a time; the number of cores when not given.

    Returns
    -------
    int
        The exit code: 0 when every chapter ran and every page was rendered without a warning.
    """
    with exclusive(book):
        conditions = current_conditions(jobs)
        print(
            f"Profile {conditions.profile}, device {conditions.device}, "
            f"{conditions.threads} thread(s) for each chapter.",
            flush=True,
        )
        runs = execute(book, conditions, jobs=jobs, say=lambda line: print(line, flush=True))
        rendered = render(book)
    failures = [run for run in runs if run.failed]
    for run in failures:
        print(report(run))
    if failures:
        print(f"{len(failures)} of {len(runs)} chapters failed:")
        for run in failures:
            print(f"  {run.chapter.name}: {run.record['error']}: {run.record['message']}")
    if not rendered:
        print("Sphinx found something wrong with the pages; each warning above is an error.")
    print_claims(book)
    print(f"The book is at {book.html / 'index.html'}", flush=True)
    return OK if rendered and not failures else FAILED


def print_claims(book: Book) -> None:
    """Print how many claims the book makes, when the site lists them."""
    path = book.html / "claims.json"
    if path.is_file():
        claims = json.loads(path.read_text(encoding="utf-8"))
        passed = sum(bool(claim["passed"]) for claim in claims)
        print(f"{passed} of {len(claims)} claims hold.")


def forbid_execution() -> None:
    """Make myst-nb fail where it would execute a page, which it does not know the outputs of."""
    from myst_nb.core.execute import cache, direct, inline

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            "Sphinx was about to execute a page. Chapters are executed by press.execution: "
            "is the page in book/_toc.yml, with a kernelspec in its front matter?"
        )

    cache.single_nb_execution = refuse
    direct.single_nb_execution = refuse
    inline.NotebookClientInline.start_client = refuse


def render(book: Book) -> bool:
    """Render the pages whose text or outputs changed; return whether all went well."""
    from jupyter_book.sphinx import build_sphinx
    from sphinx.util.console import color_terminal, nocolor

    if not color_terminal():
        nocolor()
    forbid_execution()
    before = os.getcwd()
    os.chdir(book.root)  # paths in _config.yml are relative to it
    try:
        result = build_sphinx(
            book.pages,
            book.html,
            noconfig=True,
            path_config=book.config if book.config.is_file() else None,
            confoverrides={
                "external_toc_path": str(book.pages / "_toc.yml"),
                "latex_individualpages": False,
                "nb_execution_mode": "cache",
                "nb_execution_cache_path": str(book.jupyter_cache),
            },
            doctreedir=book.build / "doctrees",
            warningiserror=True,
            keep_going=True,
            quiet=True,
        )
    finally:
        os.chdir(before)
    if result != 0:
        # The next build must read every page again: a warning that comes only while a page is
        # read would otherwise be forgotten, and the same book would pass.
        (book.build / "doctrees" / "environment.pickle").unlink(missing_ok=True)
    return bool(result == 0)
