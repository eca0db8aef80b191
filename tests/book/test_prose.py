"""The rule that finds typed results, on its two corpora, on Markdown, and on the book itself."""

from pathlib import Path

import pytest

from press.prose import find_typed_results

HERE = Path(__file__).parent
BOOK = HERE.parents[1] / "book"


def corpus(name: str) -> list[str]:
    """The passages of a corpus: one in each line, with ``\\n`` where Markdown needs a new line."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [line.replace("\\n", "\n") for line in lines if line.strip()]


CAUGHT, PASSES = corpus("prose_caught.txt"), corpus("prose_passes.txt")


@pytest.mark.parametrize("passage", CAUGHT)
def test_typed_result_is_caught(passage: str):
    assert find_typed_results(passage), "this states a result, and the rule lets it through"


@pytest.mark.parametrize("passage", PASSES)
def test_definition_passes(passage: str):
    assert [finding.reason for finding in find_typed_results(passage)] == []


def test_corpora_are_large_and_without_repetition():
    assert len(set(CAUGHT)) == len(CAUGHT) >= 100
    assert len(set(PASSES)) == len(PASSES) >= 100
    assert not set(CAUGHT) & set(PASSES)


def chapters() -> list[Path]:
    """Every page of the book."""
    return sorted(path for path in BOOK.rglob("*.md") if "_build" not in path.parts)


@pytest.mark.parametrize("path", chapters(), ids=lambda path: str(path.relative_to(BOOK)))
def test_no_result_is_typed_in_the_book(path: Path):
    problems = [
        f"{path.relative_to(BOOK.parent)}:{finding.line}: {finding.reason}\n    {finding.text}"
        for finding in find_typed_results(path.read_text(encoding="utf-8"))
    ]
    assert not problems, (
        "a result is typed in prose. Insert it from the run (glue('name', value) in the code, "
        "{glue:text}`name:.3f` in the sentence), say it without the number, or quote a published "
        "figure with {reported}`L10-bn .9707`:\n" + "\n".join(problems)
    )


RESULT = "The accuracy reaches 97 percent."


@pytest.mark.parametrize(
    ("markdown", "line"),
    [
        (RESULT, 1),
        (f"---\nkernelspec: {{name: python3}}\n---\n\n# Title\n\n{RESULT}", 7),
        (f"A first line.\nA second one.\n{RESULT}", 3),
        ("The accuracy of the\nlarger model reaches\n97 percent.", 3),
        (f"# {RESULT}", 1),
        (f"- one\n- {RESULT}", 2),
        (f"> {RESULT}", 1),
        (f"Text.[^a]\n\n[^a]: {RESULT}", 3),
        (f"term\n: {RESULT}", 2),
        ("The accuracy *reaches* **97 percent**.", 1),
        ("The accuracy [reaches 97 percent](https://example.org).", 1),
        ("| model | accuracy |\n| --- | --- |\n| ours | 0.97 |", 3),
        ("| what | value |\n| --- | --- |\n| accuracy | 0.97 |", 3),
        (f"```{{note}}\n{RESULT}\n```", 2),
        (f"```{{admonition}} {RESULT}\n:class: tip\nText.\n```", 1),
        (f"````{{note}}\nText.\n\n```{{tip}}\n{RESULT}\n```\n````", 5),
        (f":::{{dropdown}} Answer\n:open:\n\nFirst.\n\n{RESULT}\n:::", 6),
        (f":::{{figure}} a.png\n:alt: a picture\n\n{RESULT}\n:::", 4),
        (f":::{{figure}} a.png\n:alt: {RESULT}\n\nA caption.\n:::", 1),
        (f"![{RESULT}](a.png)", 1),
        (f"<details><summary>Answer</summary>{RESULT}</details>", 1),
        (f"```{{code-cell}} python\n---\nmystnb:\n  image:\n    alt: {RESULT}\n---\nx\n```", 1),
    ],
)
def test_result_is_found_wherever_a_reader_meets_it(markdown: str, line: int):
    (finding,) = find_typed_results(markdown)
    assert finding.line == line
    assert "97" in finding.reason


@pytest.mark.parametrize(
    "markdown",
    [
        f"---\ndescription: {RESULT}\n---\n\nText.",
        f"```python\n# {RESULT}\n```",
        f"```{{code-cell}} python\nclaim('{RESULT}', accuracy > 0.97)\n```",
        f"```{{code-cell}} python\n:tags: [hide-input]\nclaim('{RESULT}', accuracy > 0.97)\n```",
        f"    {RESULT}",
        f"% {RESULT}",
        f"<!-- {RESULT} -->",
        "The accuracy is `accuracy(model) > 0.97`.",
        "The loss is $-\\log 0.97 = 0.03$.",
        "$$\n\\text{accuracy} = 0.97\n$$",
        f"```{{math}}\n\\text{{{RESULT}}}\n```",
        "The accuracy is {glue:text}`accuracy:.2f`.",
        "The lesson reaches {reported}`L10-bn .9707`.",
        "The accuracy is low {cite}`some2015`.",
        "",
    ],
)
def test_what_is_no_prose_is_left_alone(markdown: str):
    assert find_typed_results(markdown) == []


def test_options_that_are_no_yaml_are_named_with_their_line():
    markdown = "Text.\n\n```{code-cell} python\n---\nmystnb:\n  alt: one: two\n---\nx\n```"
    with pytest.raises(ValueError, match=r"line 3: the options of this \{code-cell\}"):
        find_typed_results(markdown)


def test_sentences_are_told_apart():
    markdown = "We train for three epochs. The accuracy is 0.97. See chapter 3, e.g. step 2."
    (finding,) = find_typed_results(markdown)
    assert finding.text == "The accuracy is 0.97."


def test_inserted_value_does_not_excuse_a_typed_one_beside_it():
    markdown = "The accuracy climbs from 0.50 to {glue:text}`accuracy:.2f`."
    (finding,) = find_typed_results(markdown)
    assert "0.50" in finding.reason


def test_findings_come_in_the_order_of_the_file():
    found = find_typed_results(f"{RESULT}\n\n# {RESULT}\n\n- {RESULT}\n")
    assert [finding.line for finding in found] == [1, 3, 5]
