"""What grading writes: a table, JSON, Gradescope's files, pages for students and instructors.

`write_reports`.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from lectern.course import Task
from lectern.files import file_name, write_safely
from lectern.likeness import alike
from lectern.marks import Mark, Sheet
from lectern.show import verdict_in_words
from lectern.tally import Row, commonest
from lectern.text import cell

__all__ = ["write_reports"]


def write_reports(
    sheets: Sequence[Sheet], chapters: Sequence[str], rows: Sequence[Row], folder: Path,
    notes: Sequence[str] = (),
) -> None:  # fmt: skip
    """Write every report of a class.

    Parameters
    ----------
    sheets : sequence of Sheet
    chapters : sequence of str
        Those that count.
    rows : sequence of Row
        Their exercises, counted.
    folder : Path
    notes : sequence of str
        What else the instructor should know.
    """
    write_safely(folder / "grades.csv", _table(sheets, [row.task for row in rows]))
    grades = {"chapters": list(chapters), "students": [sheet.to_json() for sheet in sheets]}
    write_safely(folder / "grades.json", _json(grades))
    pages = _pages()
    for sheet in sheets:
        own = folder / "students" / file_name(sheet.student)
        write_safely(own / "results.json", _json(_gradescope(sheet)))
        write_safely(own / "report.html", pages.get_template("student.html").render(sheet=sheet))
    write_safely(folder / "class.html", _class_page(pages, sheets, rows, notes))
    waiting = [(sheet, mark) for sheet in sheets for mark in sheet.marks if mark.words]
    page = pages.get_template("hand.html")
    write_safely(folder / "hand.html", page.render(waiting=waiting, nonce=secrets.token_hex(16)))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def _table(sheets: Sequence[Sheet], tasks: Sequence[Task]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    names = [task.name for task in tasks]
    writer.writerow(
        ["student", "points", "of", "percent", *names, "days late", "taken off", "notes"]
    )
    for sheet in sheets:
        points = {mark.task.name: round(mark.points, 4) for mark in sheet.marks}
        late = max((chapter.days_late for chapter in sheet.chapters), default=0.0)
        row = [sheet.student, sheet.points, sheet.most, round(sheet.percent, 2)]
        off = round(sum(points.values()) - sheet.points, 4)
        row += [*(points[name] for name in names), round(late, 2), off, "; ".join(_remarks(sheet))]
        writer.writerow([cell(value) for value in row])
    return text.getvalue()


def _remarks(sheet: Sheet) -> list[str]:
    """Return what an instructor should look at, in a few words each."""
    found = ["UNSANDBOXED"] if sheet.unsandboxed else []
    for chapter in sheet.chapters:
        if chapter.unreadable:
            found.append(f"{chapter.title}: {chapter.unreadable}")
            continue
        found += [text for mark in chapter.marks for text in _remarks_on(mark)]
    return [*found, *sheet.notes]


def _remarks_on(mark: Mark) -> Iterator[str]:
    name = mark.task.name
    if mark.override is not None:
        yield f"{name}: points overridden"
    elif mark.verdict == "forbidden":
        first = next(o for o in mark.outcomes if o.verdict == "forbidden")
        yield f"{name}: {first.feedback.removeprefix('It works, but ')}"
    elif mark.verdict not in ("passed", "wrong", "raised", "unwritten", "missing", "not handed in"):
        yield f"{name}: {verdict_in_words(mark.verdict)}"
    if mark.waits:
        yield f"{name}: words wait to be read"


def _gradescope(sheet: Sheet) -> dict[str, Any]:
    """Return what Gradescope's autograder reads, ``results.json``; all text is plain."""
    tests = []
    for chapter in sheet.chapters:
        for mark in chapter.marks:
            said = [
                f"{'✓' if o.passed else '✗'} {o.check}{': ' if o.feedback else ''}{o.feedback}"
                for o in mark.outcomes
            ]
            for decision, whose in ((mark.override, "The instructor"), (mark.hand, "Your words")):
                if decision is not None:
                    points = f"{whose}: {decision.points:g} points"
                    said.append(f"{points}: {decision.why}" if decision.why else f"{points}.")
            tests.append(
                {
                    "name": mark.task.title,
                    "score": round(mark.points, 4),
                    "max_score": mark.most,
                    "status": "passed" if mark.points >= mark.most else "failed",
                    "output": "\n".join(said) or "Nothing was handed in.",
                    "output_format": "text",
                    "visibility": "visible",
                }
            )
    notes = ["UNSANDBOXED: this was graded without isolation."] if sheet.unsandboxed else []
    notes += [
        f"{chapter.title}: {chapter.percent_off:g} % off, {chapter.days_late:.1f} days late."
        for chapter in sheet.chapters
        if chapter.percent_off
    ]
    return {
        "score": sheet.points,
        "output": "\n".join([*notes, *sheet.notes]),
        "output_format": "text",
        "tests": tests,
    }


def _pages() -> Environment:
    pages = Environment(
        loader=PackageLoader("lectern"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    pages.filters["points"] = lambda value: f"{value:g}" if value < 1e5 else f"{value:.0f}"
    pages.filters["words"] = verdict_in_words
    # Prompts are the authors'; even so, no HTML in them is taken for more than text.
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    pages.filters["markdown"] = lambda text: Markup(markdown.render(text))
    return pages


def _class_page(
    pages: Environment, sheets: Sequence[Sheet], rows: Sequence[Row], notes: Sequence[str]
) -> str:
    codes = {sheet.student: _own_code(sheet) for sheet in sheets}
    return pages.get_template("class.html").render(
        sheets=sheets,
        notes=notes,
        most=max((sheet.most for sheet in sheets), default=0),
        median=statistics.median(sheet.points for sheet in sheets) if sheets else 0,
        unsandboxed=sum(sheet.unsandboxed for sheet in sheets),
        exercises=rows,
        misconceptions=commonest(rows),
        waiting=sum(mark.waits for sheet in sheets for mark in sheet.marks),
        pairs=alike(codes),
        students=[
            (sheet, f"students/{file_name(sheet.student)}/report.html", _remarks(sheet))
            for sheet in sheets
        ],
    )


def _own_code(sheet: Sheet) -> str:
    """Return what a student wrote, without the answers that are still stubs."""
    return "\n".join(
        mark.code for mark in sheet.marks if mark.code.strip() != mark.task.stub.strip()
    )
