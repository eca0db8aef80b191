"""Serve the site on this machine and rebuild it whenever a source is saved.

The watching, the serving and the browser's reloading are sphinx-autobuild's; what a save sets off
is this project's own build, in a process of its own so that edited code of the press counts too.

Public names: `serve_book`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from press.execution import Book


@dataclass(frozen=True)
class Rebuild:
    """What is called with the files that were saved."""

    root: Path
    jobs: int | None

    def __call__(self, changed_paths: Sequence[Path]) -> None:
        """Build the book of `root`; what goes wrong is printed, and the server goes on."""
        if changed_paths:
            names = ", ".join(os.path.relpath(path, self.root) for path in changed_paths[:5])
            print(f"Changed: {names}", flush=True)
        command = [sys.executable, "-m", "press", "build", "--root", str(self.root)]
        if self.jobs:
            command += ["--jobs", str(self.jobs)]
        subprocess.run(command, check=False)


def serve_book(book: Book, jobs: int | None = None, *, port: int = 8000) -> int:
    """Build a book, serve it on localhost and rebuild it when a source is saved, until Ctrl-C.

    Parameters
    ----------
    book
        Which book.
    jobs
        How many chapters execute at a time; the number of cores when not given.
    port
        Where on localhost.

    Returns
    -------
    int
        The exit code, 0.
    """
    import uvicorn
    from sphinx_autobuild.filter import IgnoreFilter  # type: ignore[import-untyped]
    from sphinx_autobuild.middleware import JavascriptInjectorMiddleware  # type: ignore[import-untyped]
    from sphinx_autobuild.server import RebuildServer  # type: ignore[import-untyped]
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Mount, WebSocketRoute
    from starlette.staticfiles import StaticFiles

    rebuild = Rebuild(book.root, jobs)
    rebuild([])
    book.html.mkdir(parents=True, exist_ok=True)
    watched = [path for path in (book.pages, book.source, book.config) if path.exists()]
    # Editors and Python leave these beside what is saved.
    ignored = IgnoreFilter([], [r"__pycache__", r"\.egg-info", r"~$", r"/\.[^/]*$", r"/\d+$"])
    watcher = RebuildServer(watched, ignored, change_callback=rebuild)
    address = f"127.0.0.1:{port}"
    app = Starlette(
        routes=[
            WebSocketRoute("/websocket-reload", watcher),
            Mount("/", app=StaticFiles(directory=book.html, html=True)),
        ],
        middleware=[Middleware(JavascriptInjectorMiddleware, ws_url=address)],
        lifespan=watcher.lifespan,
    )
    print(f"Serving http://{address} until Ctrl-C.", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
    return 0
