"""Where links and buttons lead, read from the files."""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

import glassbox
from press.export import Repository
from press.site import remove_former_pages

ROOT = Path(__file__).resolve().parents[2]


@cache
def parsed(path: Path) -> BeautifulSoup:
    """Return the page without its players and embedded pictures, which have no links."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<script\b[^>]*>.*?</script>", "", text, flags=re.S)
    return BeautifulSoup(re.sub(r'"data:[^"]*"', '""', text), "html.parser")


@cache
def anchors(path: Path) -> set[str]:
    return {str(tag["id"]) for tag in parsed(path).find_all(id=True)}


def test_every_internal_link_and_anchor_resolves(html: Path, pages: list[str]) -> None:
    lost, followed = [], 0
    for name in pages:
        here = html / f"{name}.html"
        for link in parsed(here).find_all("a", href=True):
            address = urlsplit(str(link["href"]))
            if address.scheme or address.netloc:
                continue
            followed += 1
            target = (here.parent / unquote(address.path)).resolve() if address.path else here
            anchor = unquote(address.fragment) if target.suffix == ".html" else ""
            if not target.is_file() or (anchor and anchor not in anchors(target)):
                lost.append(f"{name}: {link['href']}")
    assert followed > len(pages)
    assert lost == []


def test_every_identifier_is_unique_in_its_page(html: Path, pages: list[str]) -> None:
    twice = {}
    for name in pages:
        article = parsed(html / f"{name}.html").find("article")
        ids = [str(tag["id"]) for tag in article.find_all(id=True)] if article else []
        if found := {i for i in ids if ids.count(i) > 1}:
            twice[name] = found
    assert twice == {}


def test_nothing_is_loaded_from_another_host(html: Path, pages: list[str]) -> None:
    """A script that only a click would load escapes the browser's tests; its address does not."""
    foreign = []
    for name in pages:
        text = (html / f"{name}.html").read_text(encoding="utf-8")
        foreign += [(name, found) for found in re.findall(r'\bsrc="(?:https?:)?//[^"]*"', text)]
        for tag in re.findall(r"<link\b[^>]*>", text):
            if re.search(r'href="(https?:)?//', tag) and 'rel="canonical"' not in tag:
                foreign.append((name, tag))
        foreign += [
            (name, found) for found in re.findall(r"(?:unpkg|jsdelivr|cdnjs)[^\"' ]*", text)
        ]
    for sheet in html.rglob("*.css"):
        found = re.findall(r"url\([\"']?(?:https?:)?//[^)]*\)", sheet.read_text(encoding="utf-8"))
        foreign += [(sheet.name, address) for address in found]
    assert foreign == []


@pytest.fixture(scope="module")
def repository(config: dict[str, Any]) -> Repository:
    return Repository(config["repository"]["url"], config["repository"]["branch"])


def links(html: Path, chapter: str) -> list[str]:
    header = parsed(html / f"{chapter}.html").select_one(".bd-header-article")
    assert header is not None
    return [str(link["href"]) for link in header.find_all("a", href=True)]


def test_a_chapter_opens_as_a_notebook_in_colab_and_binder(
    html: Path, chapters: list[str], repository: Repository
) -> None:
    for chapter in chapters:
        found = links(html, chapter)
        notebook = f"blob/gh-pages/notebooks/{chapter}.ipynb"
        colab = "https://colab.research.google.com/github"
        assert f"{colab}/{repository.slug}/{notebook}" in found
        assert repository.binder(chapter) in found
        assert not [a for a in found if ("colab" in a or "mybinder" in a) and ".md" in a]


def test_a_chapter_downloads_as_a_notebook_and_as_its_source(
    html: Path, chapters: list[str]
) -> None:
    for chapter in chapters:
        found = links(html, chapter)
        for address in (f"notebooks/{chapter}.ipynb", f"_sources/{chapter}.md"):
            assert any(link.removeprefix("./") == address for link in found), (chapter, address)
            assert (html / address).is_file()


def test_every_page_can_be_edited(
    html: Path, pages: list[str], repository: Repository, config: dict[str, Any]
) -> None:
    folder = config["repository"]["path_to_book"]
    for name in pages:
        if (html / "_sources" / f"{name}.md").exists():
            edit = f"{repository.url}/edit/{repository.branch}/{folder}/{name}.md"
            assert edit in links(html, name)


def test_binder_finds_what_to_install(html: Path, repository: Repository) -> None:
    wanted = (html / "requirements.txt").read_text(encoding="utf-8").strip()
    assert wanted == f"glassbox-book @ git+{repository.url}@{repository.branch}"
    assert (html / "runtime.txt").read_text(encoding="utf-8").startswith("python-3.")
    assert (html / ".nojekyll").exists()


def test_every_chapter_is_in_the_contents_and_on_the_start_page(html: Path) -> None:
    book = html.parent.parent / "book"
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    listed = {chapter["file"] for part in toc["parts"] for chapter in part["chapters"]}
    executed = {
        path.stem for path in book.glob("*.md") if "kernelspec" in path.read_text(encoding="utf-8")
    }
    assert executed <= listed
    start = parsed(html / "index.html").find("article")
    assert start is not None
    linked = {str(a["href"]) for a in start.find_all("a", href=True)}
    assert {f"{name}.html" for name in executed} <= linked


def test_every_word_of_the_glossary_has_a_meaning(html: Path) -> None:
    words = parsed(html / "appendix" / "glossary.html").select("dl.glossary > dt")
    assert words
    # Two words in a row: the meaning of the first was taken for a word.
    following = [word.find_next_sibling() for word in words]
    assert [tag for tag in following if tag is None or tag.name != "dd"] == []


def test_the_reference_documents_every_public_function_and_class(html: Path) -> None:
    documented = anchors(html / "appendix" / "api.html")
    public = set()
    for module in pkgutil.iter_modules(glassbox.__path__):
        loaded = importlib.import_module(f"glassbox.{module.name}")
        found = [getattr(loaded, name) for name in loaded.__all__]
        public |= {f"{item.__module__}.{item.__name__}" for item in found if callable(item)}
    assert len(public) > 20
    assert public - documented == set()


def test_a_page_that_the_book_no_longer_has_is_removed(tmp_path: Path) -> None:
    for name in ("here.html", "gone.html", "part/gone.html", "_static/macros.html", "search.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    app: Any = SimpleNamespace(
        builder=SimpleNamespace(format="html"),
        outdir=str(tmp_path),
        env=SimpleNamespace(found_docs={"here"}),
    )
    remove_former_pages(app, None)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    assert left == {"here.html", "_static/macros.html", "search.html"}
