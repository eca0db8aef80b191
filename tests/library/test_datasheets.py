"""`glassbox.datasheets`, `glassbox.sheets`: what is written of data and models is complete."""

from dataclasses import replace
from pathlib import Path

import pytest

from glassbox.datasheets import DataSheet, ModelCard, page
from glassbox.downloads import REGISTRY
from glassbox.sheets import CARDS, SHEETS, main

PAGE = Path(__file__).parents[2] / "book" / "appendix" / "datasheets.md"

SHEET = DataSheet("Tosses", *["An answer."] * 7)
CARD = ModelCard("Coin", *["An answer."] * 9)


def test_every_data_set_of_the_registry_has_a_sheet():
    assert set(REGISTRY) <= set(SHEETS)


def test_every_simulation_and_every_table_that_the_library_carries_has_one():
    others = set(SHEETS) - set(REGISTRY)
    assert others == {
        *("cluttered-scenes", "retail", "film-club", "feedback", "toys"),
        *("compas-counts", "gender-shades"),
    }


@pytest.mark.parametrize("sheet", [*SHEETS.values(), *CARDS.values()], ids=lambda s: s.title)
def test_nothing_is_left_empty(sheet):
    assert sheet.missing() == ()
    assert all(len(getattr(sheet, name).split()) >= 1 for name in sheet.questions())


def test_titles_are_different():
    titles = [sheet.title for sheet in [*SHEETS.values(), *CARDS.values()]]
    assert len(set(titles)) == len(titles)


def test_the_page_of_the_appendix_is_what_these_make():
    assert PAGE.read_text(encoding="utf-8") == page(SHEETS, CARDS), (
        "book/appendix/datasheets.md is out of date: "
        "python -m glassbox.sheets book/appendix/datasheets.md"
    )


def test_the_page_has_every_sheet_every_card_and_what_the_registry_knows():
    text = PAGE.read_text(encoding="utf-8")
    flat = " ".join(text.split())
    for sheet in [*SHEETS.values(), *CARDS.values()]:
        assert f"\n### {sheet.title}\n" in text
    for name, entry in REGISTRY.items():
        assert f"`{name}`: {' '.join(entry.title.split())}" in flat
        assert f"Licence: {entry.licence}. {entry.terms}" in flat


def test_the_command_writes_the_page(tmp_path, capsys):
    assert main([str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page(SHEETS, CARDS)
    assert main([]) == 2
    assert "usage: python -m glassbox.sheets PAGE.md" in capsys.readouterr().err


def test_the_questions_are_those_of_the_papers():
    assert DataSheet.questions() == (
        *("motivation", "composition", "collection", "preprocessing", "uses", "distribution"),
        "maintenance",
    )
    assert ModelCard.questions() == (
        *("details", "intended_use", "factors", "metrics", "evaluation_data", "training_data"),
        *("results", "considerations", "caveats"),
    )


def test_what_is_missing_is_named():
    assert DataSheet("Tosses").missing() == DataSheet.questions()
    assert replace(SHEET, uses="  ", collection="").missing() == ("collection", "uses")
    assert SHEET.missing() == ()


def test_a_sheet_with_gaps_is_not_printed():
    with pytest.raises(
        ValueError, match=r"^The sheet 'Coin' leaves empty: intended use, caveats.$"
    ):
        replace(CARD, intended_use="", caveats=" ").markdown()


def test_markdown_has_a_heading_and_a_paragraph_for_each_question():
    text = replace(SHEET, uses="One\n  two.").markdown(level=2)
    paragraphs = text.split("\n\n")
    assert paragraphs[0] == "## Tosses"
    assert paragraphs[1] == "**Motivation.** An answer."
    assert "**Uses.** One two." in paragraphs
    assert len(paragraphs) == 8
    assert "**Intended use.** An answer." in CARD.markdown()
    assert CARD.markdown().startswith("### Coin\n")


@pytest.mark.parametrize("level", [0, 7, "3"])
def test_a_level_that_no_heading_has(level):
    with pytest.raises(ValueError, match="level must be a whole number from 1 to 6, but it is"):
        SHEET.markdown(level)


def test_a_page_without_a_sheet_for_some_data_is_refused():
    with pytest.raises(ValueError, match=r"^sheets must have one for all data, but lacks mnist.$"):
        page({name: sheet for name, sheet in SHEETS.items() if name != "mnist"}, CARDS)
    with pytest.raises(ValueError, match="The sheet 'Tosses' leaves empty: uses"):
        page({**SHEETS, "new": replace(SHEET, uses="")}, CARDS)
    with pytest.raises(ValueError, match="The sheet 'Coin' leaves empty: caveats"):
        page(SHEETS, {"coin": replace(CARD, caveats="")})
