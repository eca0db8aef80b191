"""The notebooks to download: what `press.export` makes, and what the built site offers."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from pybtex.database import parse_string

from press.export import ExportError, Links, Repository, export, plain_markdown
from press.site import page_text, still_widget

REPOSITORY = Repository("https://github.com/someone/some-book", "main")
BIBLIOGRAPHY = parse_string(
    "@book{one, author={Ada One}, title={T}, year={1990}}"
    "@book{many, author={A One and B Two and C Three}, title={T}, year={2001}}",
    "bibtex",
)
LINKS = Links(
    "https://example.org/",
    {
        "std:label": {"here": ("", "", "https://example.org/a.html#here", "A title")},
        "std:doc": {"softmax": ("", "", "https://example.org/softmax.html", "Softmax")},
        "py:function": {"glassbox.losses.softmax": ("", "", "https://example.org/api.html#s", "-")},
    },
    BIBLIOGRAPHY,
)
REFERENCES = "https://example.org/appendix/references.html"


def plain(text: str, **values: str) -> str:
    return plain_markdown(text, LINKS, values, Path("chapter.md"))


@pytest.mark.parametrize(
    ("myst", "markdown"),
    [
        ("{glue:text}`loss`", "0.25"),
        ("{glue:text}`loss:.3f` and {glue:text}`count:,`", "0.250 and 1,234"),
        ("{glue:text}`share:.1%`, {glue:text}`word`", "12.5%, red"),
        ("a {term}`loss` and {term}`losses <loss>`", "a loss and losses"),
        ("{ref}`here`", "[A title](https://example.org/a.html#here)"),
        ("{ref}`words <here>`", "[words](https://example.org/a.html#here)"),
        ("{doc}`softmax`", "[Softmax](https://example.org/softmax.html)"),
        ("[text](softmax.md#top)", "[text](https://example.org/softmax.html#top)"),
        ("[](#here)", "[A title](https://example.org/a.html#here)"),
        ("[out](https://example.com/x)", "[out](https://example.com/x)"),
        ("{cite}`one`", f"([One, 1990]({REFERENCES}))"),
        ("{cite:t}`many`", f"[One et al. (2001)]({REFERENCES})"),
        ("{cite:p}`one,many`", f"([One, 1990]({REFERENCES}); [One et al., 2001]({REFERENCES}))"),
        ("{reported}`L10-bn .9707`", ".9707 (L10-bn)"),
        (
            "{func}`~glassbox.losses.softmax`",
            "[`softmax()`](https://example.org/api.html#s)",
        ),
        ("{math}`x^2` and $y_{[1](2)}$", "$x^2$ and $y_{[1](2)}$"),
        ("{kbd}`Shift`, {sub}`2`", "<kbd>Shift</kbd>, <sub>2</sub>"),
        ("(label)=\n# Title", "# Title"),
        ("% a comment\ntext", "text"),
        ("$$\nx\n$$ (name)\n\nnext", "$$\nx\n$$\n\nnext"),
        ("`{glue:text}` stays, ``{term}`x` `` too", "`{glue:text}` stays, ``{term}`x` `` too"),
        ("```python\n{term}`x`\n```", "```python\n{term}`x`\n```"),
        ("word\n: its meaning", "**word**\n– its meaning"),
        ("see[^a].\n\n[^a]: there", "see<sup>a</sup>.\n\n<sup>a</sup> there"),
        (":::{note}\nText, {term}`x`.\n:::", "> **Note**\n>\n> Text, x."),
        ("```{admonition} A *title*\nText.\n```", "> **A *title***\n>\n> Text."),
        ("```{math}\n:label: n\nx\n```", "$$\nx\n$$"),
        ("```{code-block} bash\nmake\n```", "```bash\nmake\n```"),
        ("::::{grid}\n:::{card}\nText\n:::\n::::", "Text"),
        (
            "```{list-table} T\n:header-rows: 1\n* - a\n  - b\n* - 1\n  - 2\n```",
            "**T**\n\n| a | b |\n| --- | --- |\n| 1 | 2 |",
        ),
    ],
)
def test_myst_becomes_plain_markdown(myst: str, markdown: str) -> None:
    values = {"loss": "0.25", "count": "1234", "share": "0.125", "word": "'red'"}
    assert plain(myst, **values) == markdown


def test_a_collapsed_answer_becomes_details() -> None:
    text = ":::{admonition} Why `x` < 1?\n:class: dropdown\nBecause {glue:text}`n`.\n:::"
    assert plain(text, n="3") == (
        "<details>\n<summary>Why <code>x</code> &lt; 1?</summary>\n\nBecause 3.\n\n</details>"
    )


def test_an_included_object_becomes_its_source(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("import a\n\n@a.b\nclass C:\n    def f(self):\n        pass\n")
    text = "```{literalinclude} m.py\n:pyobject: C.f\n```"
    made = plain_markdown(text, LINKS, {}, tmp_path / "chapter.md")
    assert made == "```python\ndef f(self):\n    pass\n```"


def test_a_picture_travels_inside_the_notebook(tmp_path: Path) -> None:
    (tmp_path / "box.svg").write_text("<svg/>")
    text = "```{figure} box.svg\n:alt: A box.\nIts caption\n```"
    made = plain_markdown(text, LINKS, {}, tmp_path / "chapter.md")
    assert made == "![A box.](data:image/svg+xml;base64,PHN2Zy8+)\n\n*Its caption*"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{glue:text}`never`", "'never'"),
        ("{glue:text}`word:.2f`", "'word:.2f'"),
        ("{ref}`nowhere`", "'nowhere'"),
        ("{cite}`nobody`", "'nobody'"),
        ("[x](missing.md)", "'missing.md'"),
        ("![x](missing.png)", "'missing.png'"),
        ("{strange}`x`", "{strange}"),
        ("```{strange}\n```", "{strange}"),
    ],
)
def test_what_cannot_be_turned_into_markdown_is_named(text: str, named: str) -> None:
    with pytest.raises(ExportError, match=re.escape(named)) as caught:
        plain(text, word="'red'")
    assert str(caught.value).startswith("chapter: ")


SOURCE = """\
---
file_format: mystnb
kernelspec: {name: python3, display_name: Python 3}
---

# A chapter

```{code-cell} python
:tags: [hide-input]
x = 3
```

It is {glue:text}`x`.
"""


def executed(code: str = "x = 3") -> nbformat.NotebookNode:
    stored = nbformat.v4.new_output(
        "display_data",
        {"application/papermill.record/text/plain": "3"},
        metadata={"scrapbook": {"name": "x", "mime_prefix": "application/papermill.record/"}},
    )
    shown = nbformat.v4.new_output("execute_result", {"text/plain": "3"}, execution_count=7)
    cell = nbformat.v4.new_code_cell(code, outputs=[stored, shown], execution_count=7)
    return nbformat.v4.new_notebook(cells=[cell])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "chapter.md"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_a_notebook_has_the_text_the_code_and_the_outputs(source: Path) -> None:
    made = export("chapter", source, executed(), LINKS, REPOSITORY)
    kinds = [cell.cell_type for cell in made.cells]
    assert kinds == ["code", "markdown", "code", "markdown", "markdown"]
    assert made.cells[3].source == "It is 3."
    assert [output.data["text/plain"] for output in made.cells[2].outputs] == ["3"]
    assert made.cells[2].metadata["jupyter"]["source_hidden"]


def test_the_text_is_the_current_one_the_code_must_be(source: Path) -> None:
    source.write_text(SOURCE.replace("It is", "Now it is"), encoding="utf-8")
    made = export("chapter", source, executed(), LINKS, REPOSITORY)
    assert made.cells[3].source == "Now it is 3."
    with pytest.raises(ExportError, match="make book"):
        export("chapter", source, executed("x = 4"), LINKS, REPOSITORY)


def test_the_same_chapter_makes_the_same_notebook(source: Path) -> None:
    first, second = (export("chapter", source, executed(), LINKS, REPOSITORY) for _ in range(2))
    assert nbformat.writes(first) == nbformat.writes(second)


class Shell:
    """Stands for IPython: notes which magics a cell runs."""

    def __init__(self) -> None:
        self.magics: list[tuple[str, str]] = []

    def run_line_magic(self, name: str, line: str, *args: Any, **kwargs: Any) -> None:
        self.magics.append((name, line))


def run_first_cell(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    shell = Shell()
    code = TransformerManager().transform_cell(notebook.cells[0].source)
    exec(compile(code, "first cell", "exec"), {"get_ipython": lambda: shell})
    return shell.magics


def test_the_first_cell_installs_only_what_is_missing(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = export("chapter", source, executed(), LINKS, REPOSITORY)
    assert run_first_cell(made) == []
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "glassbox" else found(name)
    )
    wanted = "glassbox-book @ git+https://github.com/someone/some-book@main"
    assert run_first_cell(made) == [("pip", f'install --quiet "{wanted}"')]


def test_a_repository_that_is_none_is_refused() -> None:
    with pytest.raises(ExportError, match="'github.com/x'"):
        Repository("github.com/x")


def test_the_site_offers_each_chapter_as_a_valid_notebook(
    html: Path, chapters: list[str], config: dict[str, Any]
) -> None:
    for chapter in chapters:
        made = nbformat.read(html / "notebooks" / f"{chapter}.ipynb", as_version=4)
        nbformat.validate(made)
        assert config["repository"]["url"] in made.cells[0].source
        assert run_first_cell(made) == []
        assert any(cell.get("outputs") for cell in made.cells), chapter


def test_no_chapter_keeps_what_only_the_book_understands(html: Path, chapters: list[str]) -> None:
    left = []
    for chapter in chapters:
        made = nbformat.read(html / "notebooks" / f"{chapter}.ipynb", as_version=4)
        for cell in made.cells:
            if cell.cell_type != "markdown":
                continue
            # A chapter may show a role or a directive as code; there it is meant.
            text = re.sub(r"(?ms)^(`{3,}|~{3,})(?!\{).*?^\1", "", cell.source)
            text = re.sub(r"(?s)(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "` `", text)
            left += re.findall(r"\{[a-z:]+\}`.*|^(?:```|:::)\{.*|^\(\w+\)=.*", text, flags=re.M)
    assert left == []


def test_widgets_are_drawn_still() -> None:
    state = {
        "1": {"model_name": "ButtonModel", "state": {"description": "a < b"}},
        "2": {
            "model_name": "IntSliderModel",
            "state": {"value": 5, "min": 0, "max": 20, "description": "n"},
        },
        "3": {"model_name": "HBoxModel", "state": {"children": ["IPY_MODEL_1", "IPY_MODEL_2"]}},
        "4": {
            "model_name": "OutputModel",
            "state": {"outputs": [{"output_type": "stream", "text": "<3"}]},
        },
        "5": {"model_name": "VideoModel", "state": {}},
    }
    assert "disabled" in still_widget("1", state)
    assert "a &lt; b</button>" in still_widget("1", state)
    assert "left:25%" in still_widget("2", state)
    assert still_widget("1", state) + still_widget("2", state) in still_widget("3", state)
    assert still_widget("4", state) == "<pre>&lt;3</pre>"
    assert still_widget("5", state) == still_widget("missing", state) == ""


def test_a_search_result_finds_the_words_of_its_section() -> None:
    html = (
        '<main>menu<article><section id="a"><h1>One<a class="headerlink">#</a></h1>'
        '<p>two &lt; three</p><script>no</script><section id="b"><p>four</p></section>'
        "</section></article></main>"
    )
    made = page_text(html)
    assert made.startswith('<div role="main"><section id="a">One')
    assert "two &lt; three" in made
    assert '<section id="b">four' in made
    assert not re.search("menu|no<|#", made)
