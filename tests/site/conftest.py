"""The built site, looked at in a real browser that can reach no other host."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
SURVEY = (Path(__file__).parent / "survey.js").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the site that `make book` built; it is built when it is missing.

    GLASSBOX_SITE names another one.
    """
    folder = Path(os.environ.get("GLASSBOX_SITE", ROOT / "_build" / "html"))
    if not (folder / "index.html").exists():
        made = subprocess.run([sys.executable, "-m", "press", "build"], cwd=ROOT, check=False)
        assert made.returncode == 0, "The site could not be built: run make book."
    return folder


@pytest.fixture(scope="session")
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def pages(html: Path) -> list[str]:
    """Every page that the site has, without its suffix."""
    found = sorted(
        str(path.relative_to(html).with_suffix(""))
        for path in html.rglob("*.html")
        if "_static" not in path.parts
    )
    assert "index" in found
    assert "search" in found
    return found


@pytest.fixture(scope="session")
def chapters(html: Path) -> list[str]:
    """The pages that execute."""
    toc = yaml.safe_load((html.parent.parent / "book" / "_toc.yml").read_text(encoding="utf-8"))
    names = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [name for name in names if "/" not in name]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.exit(
            "The tests of the site need Chromium: install it with 'sudo apt-get install chromium'.",
            returncode=1,
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def served(html: Path) -> Iterator[str]:
    """The site's address on a server of this machine."""
    handler = functools.partial(_Quiet, directory=str(html))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@dataclass
class Visit:
    """What happened while a page was open, and what a look at it found."""

    name: str
    errors: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    light: dict[str, Any] = field(default_factory=dict)
    dark: dict[str, Any] = field(default_factory=dict)
    phone: dict[str, Any] = field(default_factory=dict)


class Look:
    """How a test looks at a page; a fixture, because test modules cannot import each other."""

    phone, survey = PHONE, SURVEY

    @staticmethod
    def at(page: Page, name: str = "") -> Visit:
        """Note from now on what goes wrong in the page."""
        visit = Visit(name)

        def on_request(request: Any) -> None:
            if not request.url.startswith(("http://127.0.0.1:", "file://", "data:", "blob:")):
                visit.foreign.append(request.url)

        page.on("request", on_request)
        page.on("requestfailed", lambda r: visit.failed.append(f"{r.url[:200]}: {r.failure}"))
        page.on("response", lambda r: visit.failed.append(r.url) if r.status >= 400 else None)
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.on("console", lambda m: visit.errors.append(m.text) if m.type == "error" else None)
        return visit

    @staticmethod
    def settle(page: Page) -> None:
        """Wait until the formulas stand."""
        page.evaluate("() => window.MathJax?.startup?.promise.then(() => null)")


@pytest.fixture(scope="session")
def look() -> Look:
    return Look()


@pytest.fixture(scope="session")
def from_server(browser: Browser, served: str, pages: list[str]) -> dict[str, Visit]:
    """Every page over http: light, dark, and on a phone."""
    visits = {}
    context = browser.new_context(viewport=DESK, color_scheme="light")
    for name in pages:
        page = context.new_page()
        visit = visits[name] = Look.at(page, name)
        page.goto(f"{served}{name}.html")
        Look.settle(page)
        page.evaluate(SURVEY)
        visit.light = page.evaluate("survey()")
        page.emulate_media(color_scheme="dark")
        visit.dark = page.evaluate("survey()")
        page.set_viewport_size(PHONE)
        visit.phone = page.evaluate("survey()")
        page.close()
    context.close()
    return visits


@pytest.fixture(scope="session")
def from_disk(browser: Browser, html: Path, pages: list[str]) -> dict[str, Visit]:
    """Every page opened from disk."""
    visits = {}
    context = browser.new_context(viewport=DESK, color_scheme="light")
    for name in pages:
        page = context.new_page()
        visits[name] = Look.at(page, name)
        page.goto((html / f"{name}.html").as_uri())
        Look.settle(page)
        page.close()
    context.close()
    return visits


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page on a desk's screen."""
    context = browser.new_context(viewport=DESK, color_scheme="light")
    yield context.new_page()
    context.close()
