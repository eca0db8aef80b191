"""Every page in Chromium, with every other host out of reach."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect

Visits = dict[str, Any]  # by page: what conftest.Visit notes

GENERIC = re.compile(
    r"(_build|_images|\.\.)?/|\.(svg|png|jpg)$|^(image|figure|picture|plot)?\s*\d*$", re.I
)


def collected(visits: Visits, what: str) -> dict[str, list[str]]:
    """Return what the visits noted under a name, without the pages that noted nothing."""
    return {name: found for name, visit in visits.items() if (found := getattr(visit, what))}


def seen(visits: Visits, mode: str, what: str) -> dict[str, list[str]]:
    """Return what the survey in one mode lists, without the pages where it lists nothing."""
    return {name: found for name, visit in visits.items() if (found := getattr(visit, mode)[what])}


def test_the_survey_looked_at_every_page(
    from_server: Visits, pages: list[str], chapters: list[str]
) -> None:
    assert sorted(from_server) == pages
    assert all(from_server[name].light["headings"] == 1 for name in [*chapters, "index"])


@pytest.mark.parametrize("what", ["errors", "failed", "foreign"])
@pytest.mark.parametrize("visits", ["from_server", "from_disk"])
def test_no_page_errs_fails_or_asks_another_host(
    request: pytest.FixtureRequest, visits: str, what: str
) -> None:
    assert collected(request.getfixturevalue(visits), what) == {}


def test_the_watch_notices_an_error_a_failure_and_another_host(
    page: Page, served: str, look: Any
) -> None:
    visit = look.at(page)
    page.goto(f"{served}index.html")
    page.evaluate(
        """async () => {
            console.error("spoilt");
            await fetch("missing.html");
            await fetch("https://example.org/x.js").catch(() => null);
        }"""
    )
    assert "spoilt" in visit.errors
    assert any("missing.html" in url for url in visit.failed)
    assert visit.foreign == ["https://example.org/x.js"]


def test_every_formula_is_drawn(from_server: Visits) -> None:
    assert seen(from_server, "light", "raw_math") == {}


@pytest.mark.parametrize("mode", ["light", "dark", "phone"])
def test_text_is_legible(from_server: Visits, mode: str) -> None:
    assert seen(from_server, mode, "faint") == {}


def test_the_survey_notices_faint_text_and_a_wide_page(
    browser: Browser, served: str, look: Any
) -> None:
    page = browser.new_page(viewport=look.phone)
    page.goto(f"{served}index.html")
    page.evaluate(look.survey)
    page.evaluate(
        """() => document.querySelector("article").insertAdjacentHTML("beforeend",
        '<p style="color: #777; background: #999; width: 900px">faint and wide</p>')"""
    )
    spoilt = page.evaluate("survey()")
    page.close()
    assert any("faint and wide" in text for text in spoilt["faint"])
    assert spoilt["wide"]


def test_no_page_is_wider_than_a_phone(from_server: Visits) -> None:
    assert seen(from_server, "phone", "wide") == {}


def test_every_image_says_what_it_shows(from_server: Visits) -> None:
    silent = [
        (name, image)
        for name, visit in from_server.items()
        for image in visit.light["images"]
        if GENERIC.search((image["alt"] or "").strip())
    ]
    assert silent == []


def test_an_alternative_text_in_an_article_is_a_sentence(from_server: Visits) -> None:
    short = [
        (name, image)
        for name, visit in from_server.items()
        for image in visit.light["images"]
        if image["content"] and len((image["alt"] or "").split()) < 3
    ]
    assert short == []


def test_no_image_is_broken(from_server: Visits) -> None:
    broken = [
        (name, image["source"])
        for name, visit in from_server.items()
        for image in visit.light["images"]
        if image["broken"]
    ]
    assert broken == []


def test_figures_have_no_background_of_their_own(from_server: Visits) -> None:
    assert seen(from_server, "light", "opaque") == {}


def test_every_widget_stands_still_in_its_page(
    from_server: Visits, html: Path, chapters: list[str]
) -> None:
    view = "application/vnd.jupyter.widget-view+json"
    for chapter in chapters:
        notebook = nbformat.read(html / "notebooks" / f"{chapter}.ipynb", as_version=4)
        shown = sum(
            view in output.get("data", {})
            for cell in notebook.cells
            if not {"remove-cell", "remove-output"} & set(cell.metadata.get("tags", []))
            for output in cell.get("outputs", [])
        )
        assert from_server[chapter].light["widgets"] == shown, chapter


def test_every_animation_plays(
    browser: Browser, html: Path, chapters: list[str], look: Any
) -> None:
    page = browser.new_page()
    for chapter in chapters:
        if "gb-animation" not in (html / f"{chapter}.html").read_text(encoding="utf-8"):
            continue
        page.goto((html / f"{chapter}.html").as_uri())
        look.settle(page)
        for player in page.locator(".gb-animation").all():
            frame, slider = player.locator("img"), player.locator("input[type=range]")
            expect(frame).to_be_visible()
            player.get_by_title("Pause").click()
            before, picture = slider.input_value(), frame.get_attribute("src")
            player.get_by_title("Play", exact=True).click()
            expect(slider).not_to_have_value(before)
            assert frame.get_attribute("src") != picture
            player.get_by_title("Pause").click()
    page.close()


def test_search_from_disk_finds_a_word_and_shows_where(page: Page, html: Path, look: Any) -> None:
    visit = look.at(page)
    page.goto((html / "index.html").as_uri())
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input[type=search]").fill("prediction claim")
    page.locator("#pst-search-dialog input[type=search]").fill("claim")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=claim*")
    results = page.locator("ul.search > li")
    expect(results.filter(has_text="Every claim of the book").first).to_be_visible()
    expect(results.locator("p.context .highlighted").first).to_have_text(re.compile("claim", re.I))
    # Results that name their own place ("in Glossary") need no excerpt; every other has one.
    assert (
        page.evaluate(
            """() => [...document.querySelectorAll("ul.search > li")]
            .filter((li) => !li.querySelector(":scope > .context, :scope > span")).length"""
        )
        == 0
    )
    assert (visit.errors, visit.failed, visit.foreign) == ([], [], [])


def test_the_switch_changes_to_dark_and_stays(page: Page, served: str) -> None:
    page.goto(f"{served}index.html")
    theme = "document.documentElement.dataset.theme"
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    switch = page.locator("button.theme-switch-button:visible").first
    for _ in range(3):
        if page.evaluate(theme) == "dark":
            break
        switch.click()
    assert page.evaluate(theme) == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.goto(f"{served}appendix/glossary.html")
    assert page.evaluate(theme) == "dark"


def test_a_button_copies_the_code(browser: Browser, served: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{served}appendix/how-to-use.html")
    block = page.locator("div.highlight", has_text="make book").first
    block.hover()
    block.locator("button.copybtn").click()
    page.wait_for_function("navigator.clipboard.readText().then((text) => text.trim())")
    assert page.evaluate("navigator.clipboard.readText()").strip() == "make book"
    context.close()


def test_every_code_cell_has_a_copy_button(from_server: Visits, chapters: list[str]) -> None:
    for chapter in chapters:
        light = from_server[chapter].light
        assert light["copied"] == light["code"] > 0, chapter
