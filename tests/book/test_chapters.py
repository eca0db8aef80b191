"""Every chapter has the anatomy that CONTRIBUTING.md describes."""

import re
from pathlib import Path

import pytest

from press.execution import Book, Chapter, read_chapters
from press.exercises import as_markdown, exercises_of
from press.folding import split_cell

ROOT = Path(__file__).parents[2]
CHAPTERS = read_chapters(Book(ROOT))


@pytest.fixture(params=CHAPTERS, ids=lambda chapter: chapter.name)
def chapter(request) -> Chapter:
    return request.param


def prose_of(chapter: Chapter) -> str:
    return "\n\n".join(c.source for c in chapter.notebook.cells if c.cell_type == "markdown")


def code_of(chapter: Chapter) -> list[str]:
    return [c.source for c in chapter.notebook.cells if c.cell_type == "code"]


def test_all_chapters_are_here():
    names = [chapter.name for chapter in CHAPTERS]
    assert names == [
        *("callbacks", "variance", "softmax", "sgd", "neural-net", "training", "convolutions"),
        *("telemetry", "normalization", "transfer", "heatmaps", "regularization", "tabular"),
        *("collaborative", "rnns", "ethics"),
    ]


def test_it_opens_with_a_question_and_what_the_reader_will_be_able_to_do(chapter):
    prose = prose_of(chapter)
    assert re.match(r"# \S.*\n\n\*[^*]+\?\*\n", prose), "a title, then a question in italics"
    objectives = re.search(r":class: gb-objectives\n(.*?)\n:::", prose, re.S)
    assert objectives, "the box of objectives"
    assert 3 <= len(re.findall(r"^- ", objectives[1], re.M)) <= 5
    first_figure = next(c for c in chapter.notebook.cells if has_alt_text(c))
    first_section = next(
        i for i, c in enumerate(chapter.notebook.cells) if re.search("^## ", c.source, re.M)
    )
    assert chapter.notebook.cells.index(first_figure) < first_section, "a picture at the opening"


def has_alt_text(cell) -> bool:
    return bool(cell.metadata.get("mystnb", {}).get("image", {}).get("alt"))


@pytest.mark.parametrize(
    "heading",
    [
        *("Look inside", "What goes wrong", "Recap", "Questionnaire", "Exercises"),
        "Further reading",
    ],
)
def test_its_sections(chapter, heading):
    assert re.search(rf"^## {heading}\b", prose_of(chapter), re.M)


def test_its_last_sections_come_in_order(chapter):
    headings = re.findall(r"^## (\w+)", prose_of(chapter), re.M)
    assert headings[-4:] == ["Recap", "Questionnaire", "Exercises", "Further"]


def test_it_asks_the_reader_to_predict(chapter):
    assert prose_of(chapter).count("gb-predict") >= 2


def test_its_questionnaire_has_folded_answers(chapter):
    questionnaire = prose_of(chapter).split("## Questionnaire")[1].split("\n## ")[0]
    questions = re.findall(r"(\{dropdown\}|:class: .*dropdown)", questionnaire)
    assert 10 <= len(questions) <= 25


def test_its_exercises_are_listed(chapter):
    exercises = prose_of(chapter).split("## Exercises")[1].split("\n## ")[0]
    assert exercises.strip() == "```{press-exercises}\n```"
    found = exercises_of(chapter.name, ROOT)
    assert 4 <= len(found) <= 8
    assert all(each["summary"].startswith("`") for each in found), "each names its function"
    table = as_markdown(chapter.name, ROOT)
    assert all(each["summary"].replace("|", "\\|") in table for each in found)


def test_its_length(chapter):
    words = len(prose_of(chapter).split())
    assert 2500 <= words <= 6500, words
    assert len(code_of(chapter)) >= 25


def test_its_further_reading_is_cited(chapter):
    reading = prose_of(chapter).split("## Further reading")[1]
    keys = {
        k for group in re.findall(r"\{cite(?::\w)?\}`([^`]+)`", reading) for k in group.split(",")
    }
    assert len(keys) >= 3
    known = set(re.findall(r"@\w+\{([^,]+),", (ROOT / "book/references.bib").read_text()))
    assert keys <= known


def test_it_claims_and_it_is_seeded(chapter):
    code = "\n".join(code_of(chapter))
    assert len(re.findall(r"^\s*claim\(", code, re.M)) >= 12
    assert "set_seed(" in code or "default_rng(" in code or "manual_seed(" in code


def test_it_runs_on_every_device(chapter):
    code = "\n".join(code_of(chapter))
    assert ".cuda(" not in code
    assert "TODO" not in code + prose_of(chapter)


def test_its_code_fits_the_page(chapter):
    shown = [
        line
        for cell in chapter.notebook.cells
        if cell.cell_type == "code" and "hide-input" not in cell.metadata.get("tags", [])
        for folded, piece in split_cell(cell.source)
        if not folded
        for line in piece.splitlines()
    ]
    assert [line for line in shown if len(line) > 96] == []


def test_its_first_cells_set_the_style(chapter):
    assert "use_style()" in "\n".join(code_of(chapter)[:2])
