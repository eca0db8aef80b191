"""The list of a chapter's exercises on its page, and the notebook to download.

A directive, ``press-exercises``: a table of the exercises that ``exercises/exercises.json`` has for
the page's chapter, with kind, points and minutes. The notebooks are copied beside the pages.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["ExercisesDirective", "as_markdown", "exercises_of", "setup"]

logger = logging.getLogger(__name__)

_FOLDER = "exercises"
_HEADS = ["Exercise", "Kind", "Points", "Minutes"]
_WIDTHS = [64, 14, 11, 11]


def exercises_of(chapter: str, root: Path) -> list[dict[str, Any]]:
    """Return the index's entries for a chapter, in order.

    Parameters
    ----------
    chapter : str
    root : Path
        The folder with ``exercises/``.

    Raises
    ------
    ValueError
        If the index has no such chapter, or cannot be read.
    """
    path = root / _FOLDER / "exercises.json"
    try:
        chapters = json.loads(path.read_text(encoding="utf-8"))["chapters"]
        found = [each["exercises"] for each in chapters if each["name"] == chapter]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error!r}") from None
    if not found:
        raise ValueError(f"{path} has no exercises of the chapter {chapter!r}.")
    exercises: list[dict[str, Any]] = found[0]
    return exercises


def as_markdown(chapter: str, root: Path) -> str:
    """Return the list as a table in Markdown, for the notebook of a page."""
    rows = ["| exercise | kind | points | minutes |", "| --- | --- | --- | --- |"]
    for exercise in exercises_of(chapter, root):
        summary = exercise["summary"].replace("|", "\\|")
        kind = f"{exercise['kind']}, {exercise['difficulty']}"
        rows.append(f"| {summary} | {kind} | {_points(exercise)} | {exercise['minutes']} |")
    return "\n".join(rows)


def _points(exercise: dict[str, Any]) -> int:
    return int(exercise["points"]) + int(exercise.get("hand", 0))


class ExercisesDirective(SphinxDirective):
    """``press-exercises``: the exercises of the page's chapter."""

    def run(self) -> list[nodes.Node]:
        """Return a sentence with a link to the notebook, and the table."""
        chapter = self.env.docname.rpartition("/")[2]
        root = _root(self.env.app)
        self.env.note_dependency(str(root / _FOLDER / "exercises.json"))
        try:
            exercises = exercises_of(chapter, root)
        except ValueError as error:
            logger.warning("%s", error, location=self.get_location())
            return []
        return [_sentence(chapter, exercises, self.env.docname), _table(exercises)]


def _sentence(chapter: str, exercises: list[dict[str, Any]], docname: str) -> nodes.paragraph:
    name = f"{chapter}.ipynb"
    uri = "../" * docname.count("/") + f"{_FOLDER}/{name}"
    link = nodes.reference("", "", refuri=uri, classes=["gb-exercises-link"])
    link += nodes.literal(name, name)
    paragraph = nodes.paragraph()
    paragraph += [
        link,
        nodes.Text(
            f" has a cell for each of these {len(exercises)} exercises, worth "
            f"{sum(map(_points, exercises))} points in all, and a check that says what it "
            "expected. From a checkout, "
        ),
        nodes.literal("", f"lectern watch {chapter}"),
        nodes.Text(" checks whenever you save, and "),
        nodes.literal("", "lectern hint NAME"),
        nodes.Text(" helps you on."),
    ]
    return paragraph


def _table(exercises: list[dict[str, Any]]) -> nodes.table:
    group = nodes.tgroup(cols=len(_HEADS))
    group += [nodes.colspec(colwidth=width) for width in _WIDTHS]
    group += nodes.thead("", _row([[nodes.Text(head)] for head in _HEADS]))
    rows = []
    for exercise in exercises:
        title = nodes.strong("", exercise["title"])
        what = [title, nodes.Text(" · "), *_inline(exercise["summary"])]
        kind = f"{exercise['kind']}, {exercise['difficulty']}"
        cells = (kind, _points(exercise), exercise["minutes"])
        rows.append(_row([what, *([nodes.Text(str(each))] for each in cells)]))
    group += nodes.tbody("", *rows)
    return nodes.table("", group, classes=["gb-exercises"])


def _row(cells: list[list[nodes.Node]]) -> nodes.row:
    return nodes.row("", *[nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells])


def _inline(text: str) -> Iterator[nodes.Node]:
    """Yield text, what stands between backticks as code."""
    for part in re.split(r"(`[^`]+`)", text):
        code = part.startswith("`") and part.endswith("`") and len(part) > 2
        yield nodes.literal("", part.strip("`")) if code else nodes.Text(part)


def _root(app: Sphinx) -> Path:
    """Return the folder with the book and its exercises."""
    return Path(app.srcdir).parent


def _copy_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """Put the notebooks beside the pages."""
    if exception is not None or app.builder.format != "html":
        return
    target = Path(app.outdir) / _FOLDER
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for notebook in sorted((_root(app) / _FOLDER).glob("*.ipynb")):
        shutil.copy(notebook, target)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive with Sphinx."""
    app.add_directive("press-exercises", ExercisesDirective)
    app.connect("build-finished", _copy_notebooks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
