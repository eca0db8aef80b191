"""The explorer of a network's layers, driven in Chromium by mouse, by finger and by keyboard alone.

Most tests drive a small page that they make themselves; what a reader does from beginning to end is
also done on the chapter's page, when the site has it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from IPython.display import HTML
from matplotlib.path import Path as Outline
from playwright.sync_api import Browser, BrowserContext, Page, expect

from glassbox.projection import discriminant_projection, group_probabilities, pca
from press.explorer import explorer

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "book" / "_static"
COUNT, SHOWN = 90, 45


# -- a small page ---------------------------------------------------------------------------------


def images(n: int = COUNT, channels: int = 1) -> torch.Tensor:
    """Bars of different slope, bright on dark."""
    line = torch.linspace(-1, 1, 12)
    slopes = torch.linspace(-1, 1, n)[:, None, None]
    bars = (1 - 4 * (line[:, None] - slopes * line).abs()).clamp(0, 1)
    return bars[:, None].repeat(1, channels, 1, 1)


def features(n: int = COUNT) -> dict[str, torch.Tensor]:
    """Three layers: in the first nothing is together, in the others there are three heaps."""
    generator = torch.Generator().manual_seed(0)
    heap = torch.arange(n) % 3
    noise = {d: torch.randn(n, d, generator=generator) for d in (4, 8, 20)}
    centres = 8 * torch.randn(3, 20, generator=generator)
    hidden = noise[8] * torch.tensor([9.0, 9, 9, 1, 1, 1, 1, 1])
    hidden[:, 7] += 9 * (heap == 1) - 9 * (heap == 2)
    return {
        "first": noise[4].view(n, 2, 2),
        "heaps": noise[20] + centres[heap],
        "hidden": hidden,
    }


def made(**options: Any) -> HTML:
    settings = {
        "title": "Bars in three layers",
        "alt": "Ninety bars scattered over a map.",
        "descriptions": [f"a bar of heap {i % 3}" for i in range(COUNT)],
        "shown": SHOWN,
        "components": 6,
    }
    return explorer(features(), images(), **{**settings, **options})


GROUND = """
html[data-theme="light"] { --pst-color-text-base: #222; --pst-color-text-muted: #48566b;
  --pst-color-background: #fff; --pst-color-border: #888 }
html[data-theme="dark"] { --pst-color-text-base: #ddd; --pst-color-text-muted: #9ca4af;
  --pst-color-background: #14181e; --pst-color-border: #666 }
"""  # the theme's own colours


def write_page(folder: Path, *explorers: HTML, theme: str = "light") -> str:
    """Write a page as the site has it, less its theme, and return its address."""
    for name in ("explorer.js", "explorer.css", "glassbox.css"):
        (folder / name).write_bytes((STATIC / name).read_bytes())
    page = folder / f"page-{theme}.html"
    page.write_text(
        f'<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>A page</title>'
        f"<style>{GROUND} * {{ box-sizing: border-box }} "
        "body { margin: 8px; max-width: 760px; background: var(--pst-color-background); "
        "color: var(--pst-color-text-base) }</style>"
        '<link rel="stylesheet" href="glassbox.css"><link rel="stylesheet" href="explorer.css">'
        '<script src="explorer.js"></script></head><body><article><h1>A page</h1>'
        f"{''.join(str(e.data) for e in explorers)}</article></body></html>",
        encoding="utf-8",
    )
    return page.as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(tmp_path_factory.mktemp("explorer"), made())


class Reader:
    """Someone who uses an explorer; what the page knows is read, never changed, from here."""

    def __init__(self, page: Page, look: Any) -> None:
        self.page, self.visit = page, look.at(page)
        page.set_default_timeout(10_000)
        self.box = page.locator(".gb-explorer").first
        self.map = self.box.locator("canvas.gb-explorer-map")

    def open(self, address: str) -> None:
        self.page.emulate_media(reduced_motion="reduce")
        self.page.goto(address)
        expect(self.map).to_be_visible()
        self.page.wait_for_function(
            "document.querySelector('.gb-explorer').gbExplorer?.sprite !== undefined"
        )

    def know(self, expression: str) -> Any:
        """Return an expression about the page's explorer, `e`."""
        return self.box.evaluate(f"(box) => {{ const e = box.gbExplorer; return {expression}; }}")

    @property
    def selected(self) -> list[int]:
        return sorted(self.know("[...e.selected]"))

    @property
    def visible(self) -> list[int]:
        return sorted(self.know("e.visible()"))

    @property
    def status(self) -> str:
        return self.box.locator("[role=status]").inner_text()

    def places(self) -> np.ndarray:
        """Where each image lies in the window, in pixels."""
        self.map.scroll_into_view_if_needed()
        within = np.array(self.know("e.points.map((point) => e.place(point))"))
        corner = self.map.evaluate(
            "(c) => { const b = c.getBoundingClientRect();"
            " return [b.left + c.clientLeft, b.top + c.clientTop]; }"
        )
        return within + np.array(corner)

    def inside(self, corners: np.ndarray) -> list[int]:
        """The images shown within an outline, found without the page's help."""
        places, outline = self.places(), Outline(corners)
        return [i for i in self.visible if outline.contains_point(places[i])]

    def drag(self, corners: np.ndarray) -> None:
        self.page.mouse.move(*corners[0])
        self.page.mouse.down()
        for corner in corners[1:]:
            self.page.mouse.move(*corner, steps=4)
        self.page.mouse.up()

    def tab_to(self, selector: str, presses: int = 120) -> None:
        """Press Tab until the focus is there, and see that it shows."""
        for _ in range(presses):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("(s) => document.activeElement.matches(s)", selector):
                assert self.focus_shows(), selector
                return
        raise AssertionError(f"Tab never reaches {selector}")

    def focus_shows(self) -> bool:
        return self.page.evaluate(
            """() => [document.activeElement, document.activeElement.parentElement]
            .some((e) => getComputedStyle(e).outlineStyle === "solid"
                && parseFloat(getComputedStyle(e).outlineWidth) >= 2)"""
        )

    def downloaded(self, act: Callable[[], None]) -> dict[str, Any]:
        with self.page.expect_download() as download:
            act()
        assert download.value.suggested_filename == "labels.json"
        return json.loads(Path(download.value.path()).read_text(encoding="utf-8"))

    def at_peace(self) -> bool:
        return (self.visit.errors, self.visit.failed, self.visit.foreign) == ([], [], [])


@pytest.fixture
def reader(page: Page, look: Any, address: str) -> Reader:
    reader = Reader(page, look)
    reader.open(address)
    return reader


@pytest.fixture(params=["small page", "chapter"])
def somewhere(request: pytest.FixtureRequest, page: Page, look: Any) -> Reader:
    """A reader of the small page, and one of the chapter."""
    if request.param == "small page":
        address = request.getfixturevalue("address")
    else:
        chapter = request.getfixturevalue("html") / "heatmaps.html"
        if not chapter.exists() or "gb-explorer-data" not in chapter.read_text(encoding="utf-8"):
            pytest.skip("the site has no chapter with an explorer")
        address = chapter.as_uri()
    reader = Reader(page, look)
    reader.open(address)
    return reader


def members(groups: dict[str, list[int]]) -> list[int]:
    return [item for items in groups.values() for item in items]


def around(points: np.ndarray, by: float = 9.0) -> np.ndarray:
    """Corners of an octagon around points."""
    (left, top), (right, bottom) = points.min(0) - by, points.max(0) + by
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])


# -- from beginning to end ------------------------------------------------------------------------


def test_by_mouse_from_a_layer_to_the_labels(somewhere: Reader) -> None:
    reader = somewhere
    box, layers = reader.box, reader.know("e.layers.map((layer) => layer.name)")
    box.locator(".gb-explorer-layers label").nth(1).click()
    assert reader.know("e.layer") == 1
    assert layers[1] in reader.status

    # A lasso around what lies at the left, then a rectangle around what lies at the right.
    named = {}
    for side, mode, name in ((1, "a lasso", "left ones"), (-1, "a rectangle", "right")):
        box.get_by_text(mode, exact=True).click()
        places = reader.places()
        ends = sorted(reader.visible, key=lambda i: side * places[i, 0])[:6]
        corners = around(places[ends])
        expected = reader.inside(corners)
        assert len(expected) >= 6
        reader.drag(corners if mode == "a lasso" else corners[[0, 2]])
        assert reader.selected == expected
        box.locator(".gb-explorer-tray button").first.click()  # one that does not belong
        assert len(reader.selected) == len(expected) - 1
        named[name] = reader.selected
        box.get_by_label("Name of the group").fill(name)
        box.get_by_text("Name the selection").click()
        assert reader.selected == []
        assert f"“{name}”" in reader.status

    # A click selects one image; similar ones are found among all.
    places = reader.places()
    free = [i for i in reader.visible if i not in members(named)]
    alone = max(free, key=lambda i: np.sort(np.abs(places - places[i]).max(1))[1])
    reader.page.mouse.click(*places[alone])
    assert reader.selected == [alone]
    box.get_by_label("How many similar").fill("5")
    shown = reader.visible
    box.get_by_text("Find similar").click()
    found = reader.selected
    assert len(found) == 6
    assert not set(found) & set(members(named))
    assert set(found) <= set(reader.visible)
    assert set(reader.visible) == set(shown) | set(found)
    box.get_by_label("Name of the group").fill("left ones")
    box.get_by_text("Name the selection").click()
    named["left ones"] = sorted(named["left ones"] + found)

    before = reader.places()
    box.get_by_text("Separate the groups").click()
    assert reader.know("e.view") == "groups"
    assert np.abs(reader.places() - before).max() > 5

    box.get_by_label("Fade what is settled").check()
    settled = reader.know("e.visible().filter((i) => e.isSettled(i))")
    assert set(members(named)) & set(reader.visible) <= set(settled)

    result = reader.downloaded(lambda: box.get_by_text("Download the labels").click())
    assert result == {
        "groups": named,
        "labels": [
            {"item": item, "label": next(n for n, items in named.items() if item in items)}
            for item in sorted(members(named))
        ],
        "layer": layers[1],
    }
    assert reader.at_peace()


def test_by_keyboard_alone_from_a_layer_to_the_labels(somewhere: Reader) -> None:
    reader, press = somewhere, somewhere.page.keyboard.press
    layers = reader.know("e.layers.map((layer) => layer.name)")
    reader.page.evaluate(  # a page's menus come before; the reader skips to the explorer
        "document.querySelector('.gb-explorer').setAttribute('tabindex', '-1'),"
        "document.querySelector('.gb-explorer').focus()"
    )
    reader.tab_to(".gb-explorer-layers input")
    press("ArrowRight")
    assert reader.know("e.layer") == 1

    named: dict[str, list[int]] = {}
    for keys, name in ((["ArrowRight", "ArrowDown"], "one"), (["ArrowLeft", "ArrowUp"], "two")):
        reader.tab_to("canvas.gb-explorer-map")
        press(keys[0])  # at first to the image in the middle, then away from the first group
        start = reader.know("e.cursor")
        assert f"image {start}" in reader.status
        press("Enter")
        for key in keys * 3:
            press(key)
        corners = around(reader.places()[[start, reader.know("e.cursor")]], 1.5)
        expected = [i for i in reader.inside(corners) if i not in members(named)]
        press("Enter")
        assert set(expected) <= set(reader.selected)
        assert reader.selected == reader.inside(corners)
        for item in set(reader.selected) - set(expected):  # named before: those stay where they are
            reader.tab_to(f".gb-explorer-tray button[data-item='{item}']")
            press("Enter")
        assert reader.selected == expected
        assert expected
        reader.tab_to(".gb-explorer-naming input")
        reader.page.keyboard.type(name)
        press("Enter")
        named[name] = expected
        assert f"“{name}”" in reader.status
        reader.page.evaluate("document.querySelector('.gb-explorer').focus()")

    reader.tab_to("canvas.gb-explorer-map")
    free = [i for i in reader.visible if i not in members(named)]
    for key in ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"] * 30:
        if reader.know("e.cursor") in free:
            break
        press(key)
    press("Space")
    assert reader.selected == [reader.know("e.cursor")]
    press("s")
    assert len(reader.selected) == 13
    press("Escape")
    assert reader.selected == []

    reader.tab_to("button.gb-explorer-separate", 400)
    press("Enter")
    assert reader.know("e.view") == "groups"
    reader.tab_to("input.gb-explorer-fade", 400)
    press("Space")
    assert reader.know("e.fade.checked")
    reader.tab_to("button.gb-explorer-download", 400)
    result = reader.downloaded(lambda: press("Enter"))
    assert result["groups"] == named
    assert result["layer"] == layers[1]
    assert {row["item"]: row["label"] for row in result["labels"]} == {
        item: name for name, items in named.items() for item in items
    }
    assert reader.at_peace()


# -- details, by keyboard -------------------------------------------------------------------------


def test_keys_on_the_map_switch_layer_projection_and_zoom(reader: Reader) -> None:
    press = reader.page.keyboard.press
    reader.tab_to("canvas.gb-explorer-map")
    press("l")
    assert reader.know("e.layer") == 1
    press("Shift+L")
    press("Shift+L")
    assert reader.know("e.layer") == 2
    press("p")
    assert reader.know("e.view") == 2
    assert "Components 3 and 4" in reader.status
    press("Shift+P")
    assert reader.know("e.view") == 0
    press("+")
    assert reader.know("e.zoom.by") == pytest.approx(1.6)
    press("0")
    assert reader.know("e.zoom.by") == 1
    reader.page.keyboard.press("Control+p")  # the browser's own keys stay the browser's
    assert reader.know("e.view") == 0


def test_arrows_go_to_images_in_their_direction_and_turn_no_page(reader: Reader) -> None:
    reader.page.evaluate(
        "window.heard = [], document.addEventListener('keydown', (e) => heard.push(e.key))"
    )
    reader.tab_to("canvas.gb-explorer-map")
    reader.page.keyboard.press("ArrowDown")
    for key, axis, sign in (("ArrowRight", 0, 1), ("ArrowLeft", 0, -1), ("ArrowUp", 1, -1)):
        before, start = reader.places(), reader.know("e.cursor")
        reader.page.keyboard.press(key)
        now = reader.know("e.cursor")
        assert sign * (before[now] - before[start])[axis] > 0
        assert f"image {now}, a bar of heap {now % 3}" in reader.status
    assert not [key for key in reader.page.evaluate("heard") if key.startswith("Arrow")]


def test_every_image_shown_can_be_reached_with_the_arrows(reader: Reader) -> None:
    reader.tab_to("canvas.gb-explorer-map")
    for layer in range(3):
        reader.know(f"e.setLayer({layer})")
        reached = reader.know(
            """(() => {
                const reached = new Set(), open = [];
                e.cursor = null; e.step(0, 0); open.push(e.cursor);
                while (open.length) {
                    const from = open.pop();
                    if (reached.has(from)) continue;
                    reached.add(from);
                    for (const [x, y] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
                        e.cursor = from; e.step(x, y); open.push(e.cursor);
                    }
                }
                return [...reached];
            })()"""
        )
        assert sorted(reached) == reader.visible


def test_escape_gives_a_rectangle_up_before_it_clears(reader: Reader) -> None:
    press = reader.page.keyboard.press
    reader.tab_to("canvas.gb-explorer-map")
    for key in ("ArrowRight", "Space", "Enter", "ArrowRight", "Escape"):
        press(key)
    assert reader.know("e.anchor") is None
    assert len(reader.selected) == 1
    press("Escape")
    assert reader.selected == []


def test_the_focus_stays_in_the_tray_when_an_image_is_taken_out(reader: Reader) -> None:
    reader.know("e.add([3, 4, 5])")
    reader.tab_to(".gb-explorer-tray button")
    for left in ([4, 5], [5], []):
        reader.page.keyboard.press("Enter")
        assert reader.selected == left
        assert reader.page.evaluate(
            "document.querySelector('.gb-explorer-panel').contains(document.activeElement)"
        )


def test_every_control_has_a_name(reader: Reader) -> None:
    reader.know("e.add([3, 4]), e.nameSelection('a'), e.add([5])")
    nameless = reader.box.evaluate(
        """(box) => [...box.querySelectorAll("button, input, select, canvas[tabindex]")]
        .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() && e.matches("button")
            || [...(e.labels || [])].some((label) => label.textContent.trim())))
        .map((e) => e.outerHTML.slice(0, 100))"""
    )
    assert nameless == []


# -- details, by pointer --------------------------------------------------------------------------


def test_a_finger_draws_a_lasso_on_a_phone(browser: Browser, look: Any, address: str) -> None:
    context = browser.new_context(viewport=look.phone, has_touch=True, is_mobile=True)
    reader = Reader(context.new_page(), look)
    reader.open(address)
    places = reader.places()
    ends = sorted(reader.visible, key=lambda i: places[i, 1])[:5]
    corners = around(places[ends], 4)
    expected = reader.inside(corners)
    session = context.new_cdp_session(reader.page)

    def touch(kind: str, points: list[Any]) -> None:
        found = [{"x": float(x), "y": float(y)} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": found})

    touch("touchStart", [corners[0]])
    for corner in corners[1:]:
        touch("touchMove", [corner])
    touch("touchEnd", [])
    assert reader.selected == expected
    reader.page.touchscreen.tap(*places[expected[0]])
    assert len(reader.selected) == len(expected) - 1
    assert reader.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def test_the_map_moves_and_zooms(reader: Reader) -> None:
    before = reader.places()
    reader.box.get_by_label("Zoom in").click()
    grown = reader.places()
    assert np.ptp(grown, axis=0)[0] > 1.4 * np.ptp(before, axis=0)[0]
    reader.box.get_by_text("the map", exact=True).click()
    centre = grown.mean(0)
    reader.drag(np.array([centre, centre + np.array([40, -25])]))
    np.testing.assert_allclose(reader.places() - grown, np.tile([40, -25], (COUNT, 1)), atol=0.6)
    assert reader.selected == []
    reader.box.get_by_text("whole map").click()
    np.testing.assert_allclose(reader.places(), before, atol=0.6)


def test_samples_go_through_all_images(reader: Reader) -> None:
    first = reader.visible
    assert len(first) == SHOWN
    assert first == sorted(reader.know("e.data.order")[:SHOWN])
    reader.box.get_by_text("Another sample").click()
    assert sorted(first + reader.visible) == list(range(COUNT))
    reader.box.get_by_text("Show all").click()
    assert reader.visible == list(range(COUNT))
    assert f"{COUNT} of {COUNT} images shown" in reader.box.inner_text()


def test_the_picture_changes_with_what_is_selected_named_and_faded(reader: Reader) -> None:
    def picture() -> str:
        return str(reader.map.evaluate("(c) => c.toDataURL()"))

    seen = [picture()]
    for act in (
        "e.add([0, 3, 6])",
        "e.nameSelection('a')",
        "e.add([1, 4, 7]), e.nameSelection('b'), e.setLayer(1)",
        "e.fade.click()",
    ):
        reader.know(f"({act}, null)")
        seen.append(picture())
    assert len(set(seen)) == len(seen)
    reader.page.evaluate("document.documentElement.dataset.theme = 'dark'")
    reader.page.wait_for_timeout(50)
    assert picture() not in seen


# -- what the page computes -----------------------------------------------------------------------


def rows_of(reader: Reader, layer: int) -> torch.Tensor:
    return torch.tensor(reader.know(f"e.layers[{layer}].rows"), dtype=torch.float64)


def test_the_page_holds_the_components_of_each_layer(reader: Reader) -> None:
    for number, (name, x) in enumerate(features().items()):
        rows = rows_of(reader, number)
        expected = pca(x.double().flatten(1), min(6, x[0].numel()))
        assert rows.shape == expected.points.shape
        step = float(expected.points.abs().max()) / 32767
        torch.testing.assert_close(rows, expected.points, rtol=0, atol=0.51 * step)
        layer = reader.know(f"e.layers[{number}]")
        assert layer["name"] == name
        assert layer["shares"] == pytest.approx(expected.values.tolist(), abs=1e-5)


LABELINGS = {
    "two groups": torch.arange(COUNT) % 3 - 1,
    "three groups": torch.arange(COUNT) % 3,
    "few of each": torch.tensor([0, 1, 2, 0, 1] + [-1] * (COUNT - 5)),
    "one of each": torch.tensor([0, 1] + [-1] * (COUNT - 2)),
    "four groups, unlike in size": torch.tensor([3] * 7 + [1] * 30 + [-1] * 40 + [0, 2] * 6 + [3]),
}


@pytest.mark.parametrize("labels", LABELINGS.values(), ids=LABELINGS.keys())
def test_the_page_computes_what_the_library_computes(reader: Reader, labels: torch.Tensor) -> None:
    for layer in range(3):
        rows = rows_of(reader, layer)
        for k, weight in ((2, 10.0), (4, 1.5)):
            ours = reader.page.evaluate(
                "([x, labels, k, weight]) => GlassboxExplorer.discriminant(x, labels, k, weight)",
                [rows.tolist(), labels.tolist(), k, weight],
            )
            theirs = discriminant_projection(rows, labels, k, weight=weight).points
            torch.testing.assert_close(torch.tensor(ours, dtype=theirs.dtype), theirs)
        for other in (False, True):
            ours = reader.page.evaluate(
                "([x, labels, other]) => GlassboxExplorer.probabilities(x, labels, { other })",
                [rows.tolist(), labels.tolist(), other],
            )
            theirs = group_probabilities(rows, labels, other=other)
            torch.testing.assert_close(
                torch.tensor(ours, dtype=theirs.dtype), theirs, rtol=1e-6, atol=1e-9
            )


def test_separating_fading_and_predicting_follow_the_groups(reader: Reader) -> None:
    labels = torch.full((COUNT,), -1)
    for group, name in enumerate(("one", "two")):
        labels[group + 1 : 20 : 3] = group
        items = (labels == group).nonzero().flatten().tolist()
        reader.know(f"(e.add({items}), e.nameSelection('{name}'))")
    reader.box.get_by_text("hidden", exact=True).click()
    rows = rows_of(reader, 2)
    chances = group_probabilities(rows, labels, other=True)

    def apart() -> float:
        """How far the two groups are from each other on the map, in deviations."""
        x = torch.tensor(reader.know("e.points"), dtype=torch.float64)
        groups = [x[labels == g] for g in (0, 1)]
        gap = (groups[0].mean(0) - groups[1].mean(0)).abs()
        return float((gap / sum(g.std(0) for g in groups)).max())

    blind = apart()
    reader.box.get_by_text("Separate the groups").click()
    expected = discriminant_projection(rows, labels, 2).points
    torch.testing.assert_close(torch.tensor(reader.know("e.axes"), dtype=expected.dtype), expected)
    assert apart() > 2 * blind

    for least in (90, 60):
        reader.box.locator("input[type=range]").fill(str(least))
        sure = (chances[:, :2].max(1).values >= least / 100) & (chances.argmax(1) < 2)
        settled = sorted(reader.know("e.groupOf.flatMap((_, i) => e.isSettled(i) ? [i] : [])"))
        assert settled == (sure | (labels >= 0)).nonzero().flatten().tolist()
        unnamed = int((labels < 0).sum())
        text = reader.box.locator(".gb-explorer-predicted").inner_text()
        assert f"{unnamed} images without a name, {int((sure & (labels < 0)).sum())} are" in text
        assert f"at least {least} %" in text
    # The third heap, which nobody named, is not taken for one of the other two.
    third = [i for i in settled if i % 3 == 0]
    assert len(third) <= 2

    right = 0
    named = (labels >= 0).nonzero().flatten().tolist()
    for item in named:
        without = labels.clone()
        without[item] = -1
        right += int(group_probabilities(rows, without)[item].argmax() == labels[item])
    assert f"{right} of {len(named)} named ones are predicted right" in text


@pytest.mark.parametrize("view", ["0", "groups"])
def test_similar_images_are_the_nearest_among_all_without_a_name(reader: Reader, view: str) -> None:
    reader.know("(e.add([1, 4, 7]), e.nameSelection('a'), e.add([2, 5]), e.nameSelection('b'))")
    reader.know(f"(e.setLayer(1), e.setView('{view}'), e.add([10, 13]), null)")
    space = torch.tensor(reader.know("e.axes" if view == "groups" else "e.rows"))
    distances = torch.cdist(space, space[[10, 13]]).amin(1)
    distances[[1, 4, 7, 2, 5, 10, 13]] = torch.inf
    nearest = distances.argsort()[:8].tolist()
    reader.box.get_by_label("How many similar").fill("8")
    reader.box.get_by_text("Find similar").click()
    assert reader.selected == sorted([10, 13, *nearest])
    hidden = len(set(nearest) - set(reader.know("e.data.order")[:SHOWN]))
    assert hidden
    assert f"8 similar images found among all, {hidden} of them not shown before" in reader.status


def test_groups_are_joined_moved_told_apart_and_forgotten(reader: Reader) -> None:
    for items, name in (([1, 4], "a"), ([2, 5], " b  c "), ([3, 6], "a"), ([2], "a"), ([7], "d")):
        reader.know(f"(e.add({items}), e.nameSelection('{name}'))")
    assert reader.know("e.result()")["groups"] == {"a": [1, 2, 3, 4, 6], "b c": [5], "d": [7]}
    reader.box.get_by_label("Separate “d” from the others").uncheck()
    reader.box.get_by_text("Separate the groups").click()
    labels = torch.full((COUNT,), -1)
    labels[[1, 2, 3, 4, 6]], labels[5] = 0, 1
    expected = discriminant_projection(rows_of(reader, 0), labels, 2).points
    torch.testing.assert_close(torch.tensor(reader.know("e.axes"), dtype=expected.dtype), expected)
    reader.box.get_by_label("Select the group “a”").click()
    assert reader.selected == [1, 2, 3, 4, 6]
    reader.box.get_by_label("Forget the group “b c”").click()
    assert reader.know("e.view") == 0  # with one group there is nothing to separate
    assert reader.know("e.result()") == {
        "groups": {"a": [1, 2, 3, 4, 6], "d": [7]},
        "labels": [{"item": i, "label": "d" if i == 7 else "a"} for i in (1, 2, 3, 4, 6, 7)],
        "layer": "first",
    }


@pytest.mark.parametrize(
    ("act", "answer"),
    [
        ("Separate the groups", "Name at least two groups first"),
        ("Find similar", "Select one or more images first"),
        ("Name the selection", "Select the images that belong together first"),
        ("Download the labels (JSON)", "Name a group first"),
    ],
)
def test_what_cannot_be_done_yet_is_said(reader: Reader, act: str, answer: str) -> None:
    reader.box.get_by_text(act, exact=True).click()
    assert answer in reader.status
    assert reader.at_peace()


def test_a_group_needs_a_name(reader: Reader) -> None:
    reader.know("e.add([1])")
    reader.box.get_by_label("Name of the group").fill("   ")
    reader.box.get_by_text("Name the selection").click()
    assert "Type a name" in reader.status
    assert reader.know("e.groups") == []
    assert reader.selected == [1]


def test_names_are_text_and_nothing_else(reader: Reader) -> None:
    name = '<b onclick="alert(1)">__proto__</b>'
    for text in (name, "__proto__"):
        reader.know(f"e.add([{len(text)}])")
        reader.box.get_by_label("Name of the group").fill(text)
        reader.page.keyboard.press("Enter")
    assert reader.box.locator(".gb-explorer-groups strong").all_inner_texts() == [name, "__proto__"]
    result = reader.downloaded(lambda: reader.box.get_by_text("Download the labels").click())
    assert result["groups"] == {name: [len(name)], "__proto__": [9]}


# -- the page around it ---------------------------------------------------------------------------


def test_two_explorers_do_not_disturb_each_other(page: Page, look: Any, tmp_path: Path) -> None:
    reader = Reader(page, look)
    reader.open(write_page(tmp_path, made(), made(title="The other", seed=1)))
    page.locator(".gb-explorer").nth(1).get_by_text("heaps", exact=True).click()
    layers = page.evaluate(
        "[...document.querySelectorAll('.gb-explorer')].map((box) => box.gbExplorer.layer)"
    )
    assert layers == [0, 1]
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    assert reader.at_peace()


def test_a_page_without_one_is_left_alone(page: Page, look: Any, tmp_path: Path) -> None:
    visit = look.at(page)
    page.goto(write_page(tmp_path))
    assert page.locator("article").inner_html() == "<h1>A page</h1>"
    assert visit.errors == []


@pytest.fixture
def without_scripts(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(java_script_enabled=False)
    yield context
    context.close()


def test_without_scripts_a_picture_and_a_sentence_stand_there(
    without_scripts: BrowserContext, address: str
) -> None:
    page = without_scripts.new_page()
    page.goto(address)
    picture = page.locator(".gb-explorer img")
    expect(picture).to_be_visible()
    assert picture.get_attribute("alt") == "Ninety bars scattered over a map."
    expect(page.get_by_text("Bars in three layers: a still picture.")).to_be_visible()
    assert page.locator(".gb-explorer canvas").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_legible_and_fits_a_phone(
    page: Page, look: Any, tmp_path: Path, theme: str, channels: int
) -> None:
    html = explorer(features(), images(channels=channels), title="Bars", alt="Bars on a map.")
    reader = Reader(page, look)
    reader.open(write_page(tmp_path, html, theme=theme))
    reader.know(
        "(e.add([1, 4]), e.nameSelection('a'), e.add([2]), e.nameSelection('b'.repeat(60)))"
    )
    reader.know("e.add([...Array(60).keys()])")
    page.evaluate(look.survey)
    page.set_viewport_size(look.phone)
    found = page.evaluate("survey()")
    assert found["faint"] == []
    assert found["wide"] == []
    assert reader.at_peace()


# -- what press.explorer writes, and what it refuses ----------------------------------------------


def payload(html: HTML) -> dict[str, Any]:
    found = re.search(r'class="gb-explorer-data">(.*?)</script>', str(html.data), re.S)
    assert found
    return json.loads(found[1])


def test_a_text_cannot_end_the_script_that_carries_it() -> None:
    title = 'An "end" </script><b>&'
    html = made(title=title, alt='"quoted" <alt>', descriptions=["</script>"] * COUNT)
    data = payload(html)
    assert data["title"] == title
    assert data["descriptions"] == ["</script>"] * COUNT
    assert html.data.count("</script>") == 1
    assert 'alt="&quot;quoted&quot; &lt;alt&gt;"' in html.data


def test_large_images_become_small_and_colours_stay() -> None:
    from io import BytesIO

    from PIL import Image

    x = torch.zeros(4, 3, 100, 50)
    x[0, 0] = x[1, 1] = x[2, 2] = x[3] = 1
    sprite = payload(explorer({"a": torch.rand(4, 3)}, x, title="t", alt="a"))["sprite"]
    assert (sprite["width"], sprite["height"], sprite["columns"]) == (16, 32, 2)
    picture = Image.open(BytesIO(base64.b64decode(sprite["source"].partition(",")[2])))
    colours = [picture.convert("RGB").getpixel(p) for p in ((8, 16), (24, 16), (8, 48), (24, 48))]
    assert colours == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def test_the_same_arguments_make_the_same_page() -> None:
    assert made().data == made().data
    assert payload(made())["order"] != payload(made(seed=1))["order"]
    assert sorted(payload(made(seed=1))["order"]) == list(range(COUNT))


X, PICTURES = torch.rand(6, 3), torch.rand(6, 1, 4, 4)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"features": {}}, ValueError, "features must map the name of each layer to its "
         "activations, but it is empty."),
        ({"features": X}, ValueError, "features must map the name of each layer to its "
         "activations, but it is Tensor."),
        ({"features": {"a": [1]}}, TypeError, "features['a'] must be a tensor, but it is a list."),
        ({"features": {"a": X[:5]}}, ValueError, "features['a'] must have the shape (6, …), a row "
         "an image, but it has (5, 3)."),
        ({"features": {"a": X[:, 0]}}, ValueError, "features['a'] must have the shape (6, …), a "
         "row an image, but it has (6,)."),
        ({"features": {"a": X[:, :1]}}, ValueError, "features['a'] must hold at least 2 numbers "
         "for each of at least 2 images, but its shape is (6, 1)."),
        ({"features": {"a": X / 0}}, ValueError, "features['a']: x must hold finite numbers, but "
         "it holds NaN or infinity."),
        ({"features": {"a": torch.ones(6, 3)}}, ValueError, "features['a']: x must vary, but all "
         "of its 6 rows are equal."),
        ({"images": [1]}, TypeError, "images must be a tensor of floating-point numbers, but it "
         "is list."),
        ({"images": PICTURES.long()}, TypeError, "images must be a tensor of floating-point "
         "numbers, but it is torch.int64."),
        ({"images": torch.rand(6, 2, 4, 4)}, ValueError, "images must have shape (n, 1, height, "
         "width), (n, 3, height, width) or (n, height, width), but it has (6, 2, 4, 4)."),
        ({"images": 2 + PICTURES * 0}, ValueError, "images must lie in [0, 1], but they reach "
         "from 2 to 2."),
        ({"images": torch.zeros(2001, 1, 1, 1)}, ValueError, "images must be at most 2,000, but "
         "they are 2,001."),
        ({"title": " "}, ValueError, "title must be a sentence for the reader, but it is ' '."),
        ({"alt": ""}, ValueError, "alt must be a sentence for the reader, but it is ''."),
        ({"components": 1}, ValueError, "components must be a whole number of at least 2, but it "
         "is 1."),
        ({"shown": 0}, ValueError, "shown must be a whole number of at least 1, but it is 0."),
        ({"shown": 2.0}, ValueError, "shown must be a whole number of at least 1, but it is 2.0."),
        ({"descriptions": ["a"]}, ValueError, "descriptions must be 6, one an image, but they "
         "are 1."),
        ({"images": torch.rand(6, 3, 4, 4), "ink": True}, ValueError, "ink must be False for "
         "images of 3 channels, but it is True."),
    ],
)  # fmt: skip
def test_what_cannot_be_explored_is_named(
    arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    settings = {"features": {"a": X}, "images": PICTURES, "title": "t", "alt": "a", **arguments}
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        explorer(settings.pop("features"), settings.pop("images"), **settings)
