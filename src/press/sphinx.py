"""The Sphinx extension of the book: the ledger of claims, the status page, ``claims.json``.

It reads what `press.execution` left for each chapter in the folder ``press_executed_dir`` (by
default ``executed`` beside the output folder): the executed notebook ``<chapter>.ipynb``, whose
outputs carry the claims, and the record ``<chapter>.json`` of how it was executed. It executes
nothing itself.

It gives pages two directives and a role: ``press-ledger`` (every claim, with its values),
``press-status`` (what the book was built with) and ``reported`` (a figure that somebody else
published: ``{reported}`L10-bn .9707```, or with a key of the bibliography in place of the lesson's
identifier). It writes ``claims.json`` beside the pages, and has a page read again when the
chapter was executed anew though its text is unchanged.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import roles
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from press.claims import CLAIM_MIME, LESSON_ID
from press.folding import fold_claims

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

__all__ = ["Chapter", "claim_records", "read_chapters", "setup"]

logger = logging.getLogger(__name__)

_HIDING_TAGS = {"remove-output", "remove_output", "remove-cell", "remove_cell"}
_UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Chapter:
    """One executed chapter.

    Attributes
    ----------
    name
        The stem of its file.
    docname
        Sphinx's name of its page.
    record
        What `press.execution` wrote about the execution: key, profile, device, versions, threads,
        seconds, data, finished, commit, status.
    claims
        The claims as `press.claims` displayed them, in the order of the page; ``shown`` is added:
        whether the page shows the output that has the claim's anchor.
    """

    name: str
    docname: str
    record: dict[str, Any]
    claims: list[dict[str, Any]]


def executed_dir(app: Sphinx) -> Path:
    """Return the folder with the executed chapters."""
    configured = app.config.press_executed_dir
    return Path(app.confdir, configured) if configured else Path(app.outdir).parent / "executed"


def read_chapters(folder: Path, docnames: Iterable[str]) -> list[Chapter]:
    """Read the executed chapters whose page is among ``docnames``, in that order.

    A chapter that was not executed is left out, and so is what is left in the folder of a chapter
    that the book no longer has. A file that cannot be read is a warning, which fails the build.
    """
    chapters = []
    for docname in docnames:
        name = docname.rpartition("/")[2]
        notebook, record = folder / f"{name}.ipynb", folder / f"{name}.json"
        if not (notebook.is_file() and record.is_file()):
            continue
        try:
            cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
            data = json.loads(record.read_text(encoding="utf-8"))
            chapters.append(Chapter(name, docname, data, list(_claims(cells))))
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("the executed chapter %s cannot be read: %r", notebook, error)
    return chapters


def _claims(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the claims in a notebook's outputs."""
    for cell in cells:
        shown = not _HIDING_TAGS.intersection(cell.get("metadata", {}).get("tags", []))
        for output in cell.get("outputs", []):
            found = output.get("data", {}).get(CLAIM_MIME)
            if found is not None:
                yield {**found, "shown": shown}


def claim_records(chapters: Iterable[Chapter]) -> list[dict[str, Any]]:
    """Return what ``claims.json`` holds: one record per claim."""
    return [
        {
            "id": claim["id"],
            "chapter": chapter.name,
            "statement": claim["statement"],
            "passed": claim["passed"],
            "measured": claim["measured"],
            "reported": claim["reported"],
            "source": _source(claim),
            "profile": chapter.record.get("profile"),
            "device": chapter.record.get("device"),
            "agrees": (claim.get("agreement") or {}).get("agrees"),
            "agreement": (claim.get("agreement") or {}).get("text"),
        }
        for chapter in chapters
        for claim in chapter.claims
    ]


def _source(claim: dict[str, Any]) -> str | None:
    """Return where a claim's reported figure is from: a lesson's identifier is a source too."""
    source: str | None = claim["source"]
    return source or (claim["id"] if LESSON_ID.match(claim["id"]) else None)


def _reading_order(env: BuildEnvironment) -> list[str]:
    """Return the pages in the order of the table of contents, then those outside it."""
    order: dict[str, None] = {}

    def visit(docname: str) -> None:
        if docname not in order:
            order[docname] = None
            for child in env.toctree_includes.get(docname, []):
                visit(child)

    visit(env.config.root_doc)
    return [
        name for name in [*order, *sorted(env.found_docs - order.keys())] if name in env.all_docs
    ]


class _Generated(nodes.General, nodes.Element):  # type: ignore[misc]
    """Stands where a directive was until the page is written: only then all chapters are known."""


class _GeneratedDirective(SphinxDirective):
    """A directive without arguments; its page is read again in every build."""

    kind: ClassVar[str]

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        return [_Generated(kind=self.kind)]


class LedgerDirective(_GeneratedDirective):
    """``press-ledger``: a table of every claim, the lessons' results first."""

    kind = "ledger"


class StatusDirective(_GeneratedDirective):
    """``press-status``: with what, where and in how long the chapters were executed."""

    kind = "status"


class FillGenerated(SphinxPostTransform):
    """Puts the ledger and the status in their places."""

    default_priority = 100

    def run(self, **kwargs: Any) -> None:
        """Replace each placeholder of the page."""
        places = list(self.document.findall(_Generated))
        if not places:
            return
        chapters = read_chapters(executed_dir(self.app), _reading_order(self.env))
        for place in places:
            if not chapters:
                text = "No chapter has been executed yet."
                place.replace_self(nodes.paragraph(text, text, classes=["gb-empty"]))
            elif place["kind"] == "ledger":
                place.replace_self(list(self._ledger(chapters)))
            else:
                place.replace_self(list(self._status(chapters)))

    def _ledger(self, chapters: list[Chapter]) -> Iterator[nodes.Node]:
        """Yield the lessons' results, then each chapter's other claims."""
        lessons = []
        for chapter in chapters:
            lessons += [(chapter, c) for c in chapter.claims if LESSON_ID.match(c["id"])]
        count = sum(len(chapter.claims) for chapter in chapters)
        held = sum(claim["passed"] for chapter in chapters for claim in chapter.claims)
        yield _paragraph(f"{held} of {count} claims hold in this build.", "gb-ledger-summary")
        if lessons:
            lessons.sort(key=lambda pair: _natural(pair[1]["id"]))
            yield _heading("Results that a lesson reported")
            yield self._claim_table(lessons)
        for chapter in chapters:
            others = [(chapter, c) for c in chapter.claims if not LESSON_ID.match(c["id"])]
            if others:
                yield _heading(self._title(chapter))
                yield self._claim_table(others)

    def _claim_table(self, claims: list[tuple[Chapter, dict[str, Any]]]) -> nodes.Node:
        """Return the table of some claims."""
        rows = []
        for chapter, claim in claims:
            mark = "✓" if claim["passed"] else "✗"
            state = "gb-ledger-held" if claim["passed"] else "gb-ledger-failed"
            cell = nodes.paragraph("", "", nodes.inline("", f"{mark} ", classes=[state]))
            anchor = f"#{claim['anchor']}" if claim["shown"] else ""
            cell += self._link(chapter, claim["statement"], anchor)
            note = self._title(chapter)
            if _source(claim):
                note += f" · {_source(claim)}"
            if claim["source"] and LESSON_ID.match(claim["id"]):
                note += f" · {claim['id']}"
            measured = _values(claim, 1)
            if claim.get("agreement"):
                kind = "gb-agrees" if claim["agreement"]["agrees"] else "gb-differs"
                word = "agrees" if claim["agreement"]["agrees"] else claim["agreement"]["text"]
                measured.append(_paragraph(word, f"gb-ledger-agreement {kind}"))
            rows.append([[cell, _paragraph(note, "gb-ledger-where")], measured, _values(claim, 2)])
        return _table(["Claim", "Measured here", "Reported"], rows, [60, 20, 20], "gb-ledger")

    def _status(self, chapters: list[Chapter]) -> Iterator[nodes.Node]:
        """Yield the tables of the status page."""
        records = [chapter.record for chapter in chapters]
        seconds = sum(_seconds(record) or 0.0 for record in records)
        facts = [
            ("Data profile", _distinct(records, "profile")),
            ("Device", _distinct(records, "device")),
            ("Threads per chapter", _distinct(records, "threads")),
            ("Commit", _distinct(records, "commit")),
            ("Last chapter finished", max(str(r.get("finished") or _UNKNOWN) for r in records)),
            ("All chapters together", f"{seconds:,.1f} s of execution"),
        ]
        if any(record.get("device_name") for record in records):
            facts.insert(2, ("Its name", _distinct(records, "device_name")))
        yield _heading("The build")
        yield _text_table(["What", "Value"], facts, [40, 60])
        yield _heading("Chapters")
        rows = []
        for chapter in chapters:
            spent = _seconds(chapter.record)
            state = str(chapter.record.get("status") or _UNKNOWN)
            rows.append(
                [
                    [nodes.paragraph("", "", self._link(chapter, self._title(chapter)))],
                    [_paragraph(state, "gb-ledger-held" if state == "ok" else "gb-ledger-failed")],
                    [_paragraph(_UNKNOWN if spent is None else f"{spent:,.1f} s")],
                    [_paragraph(str(chapter.record.get("finished") or _UNKNOWN))],
                ]
            )
        heads = ["Chapter", "Outcome", "Execution", "Finished"]
        yield _table(heads, rows, [40, 15, 15, 30], "gb-status")
        yield _heading("Versions")
        versions = _merged(records, "versions")
        yield _text_table(["Package", "Version"], versions, [50, 50])
        yield _heading("Data")
        data = _merged(records, "data")
        if data:
            yield _text_table(["Data", "SHA-256"], data, [30, 70])
        else:
            yield _paragraph("The chapters use no data that a checksum could identify.")

    def _title(self, chapter: Chapter) -> str:
        """Return the title of a chapter's page."""
        title = self.env.titles.get(chapter.docname)
        return title.astext() if title is not None else chapter.name

    def _link(self, chapter: Chapter, text: str, anchor: str = "") -> nodes.Node:
        """Return a link to a chapter's page, or to a claim in it."""
        here = self.env.docname
        uri = self.app.builder.get_relative_uri(here, chapter.docname) + anchor
        return nodes.reference("", text, internal=True, refuri=uri)


def _heading(text: str) -> nodes.Node:
    """Return a heading that needs no section (a section cannot be made this late)."""
    return nodes.rubric(text, text, **{"heading-level": 2})


def _paragraph(text: str, classes: str = "") -> nodes.paragraph:
    """Return a paragraph of plain text."""
    return nodes.paragraph(text, text, classes=classes.split())


def _text_table(heads: list[str], rows: Iterable[Iterable[str]], widths: list[int]) -> nodes.Node:
    """Return a table of plain text; long words such as checksums may be broken by the style."""
    cells = [[[_paragraph(text)] for text in row] for row in rows]
    return _table(heads, cells, widths, "gb-status")


def _table(
    heads: list[str], rows: list[list[list[nodes.paragraph]]], widths: list[int], name: str
) -> nodes.Node:
    """Return a table; each cell is a list of paragraphs."""
    group = nodes.tgroup(cols=len(heads))
    group += [nodes.colspec(colwidth=width) for width in widths]
    top = nodes.row("", *[nodes.entry("", _paragraph(head)) for head in heads])
    group += nodes.thead("", top)
    group += nodes.tbody("", *[nodes.row("", *[nodes.entry("", *c) for c in row]) for row in rows])
    return nodes.table("", group, classes=[name])


def _values(claim: dict[str, Any], column: int) -> list[nodes.paragraph]:
    """Return one column of a claim's values (1: measured, 2: reported), a paragraph for each."""
    return [
        _paragraph(f"{row[0]} {row[column]}".strip())
        for row in claim.get("rows", [])
        if row[column]
    ]


def _natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts L4 before L10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def _seconds(record: dict[str, Any]) -> float | None:
    """Return how long a chapter took to execute."""
    seconds = record.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else None


def _distinct(records: list[dict[str, Any]], name: str) -> str:
    """Return the values of one entry in all records; more than one when the cache mixes builds."""
    found = dict.fromkeys(str(record.get(name) or _UNKNOWN) for record in records)
    return ", ".join(found)


def _merged(records: list[dict[str, Any]], name: str) -> list[tuple[str, str]]:
    """Return the mappings under ``name`` of all records as one sorted list of pairs."""
    pairs = {(str(k), str(v)) for record in records for k, v in (record.get(name) or {}).items()}
    return sorted(pairs, key=lambda pair: (pair[0].lower(), pair[1]))


class ReportedRole(SphinxRole):
    """``reported``: a figure that was published elsewhere, quoted beside its source.

    The text is the lesson's identifier (or a key of the bibliography), a space and the figure.
    """

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the figure and, after it, where it is from."""
        key, _, figure = self.text.strip().partition(" ")
        if not figure.strip():
            return self._problem(
                f"reported: {self.text!r} must be a lesson's identifier or a key of the "
                "bibliography, a space, and the figure; for example `L10-bn .9707`."
            )
        shown = nodes.inline(self.rawtext, figure.strip(), classes=["gb-reported"])
        if LESSON_ID.fullmatch(key):
            label = nodes.inline(key, key, classes=["gb-reported-id"])
            return [shown, nodes.Text(" ("), label, nodes.Text(")")], []
        cite, _ = roles.role("cite", self.inliner.language, self.lineno, self.inliner.reporter)
        if cite is None:
            return self._problem(
                f"reported: {key!r} is no lesson's identifier (such as L10-bn), and citations "
                "need the extension sphinxcontrib.bibtex."
            )
        cited, problems = cite(
            "cite", f":cite:`{key}`", key, self.lineno, self.inliner, self.options, self.content
        )
        return [shown, nodes.Text(" "), *cited], list(problems)

    def _problem(self, message: str) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Report a mistake in the page; a warning fails the build."""
        logger.warning(message, location=self.get_location())
        return [nodes.inline(self.rawtext, self.text)], []


def _stamp(app: Sphinx, docname: str) -> str | None:
    """Return what changes when a chapter is executed with another result, None without one."""
    try:
        content = (executed_dir(app) / f"{docname.rpartition('/')[2]}.ipynb").read_bytes()
    except OSError:
        return None
    return hashlib.sha256(content).hexdigest()


def _stamps(env: BuildEnvironment) -> dict[str, str | None]:
    """Return the stamps with which the pages were read, kept in Sphinx's environment."""
    if not hasattr(env, "press_stamps"):
        env.press_stamps = {}  # type: ignore[attr-defined]
    stamps: dict[str, str | None] = env.press_stamps  # type: ignore[attr-defined]
    return stamps


def _outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Have the pages read again whose chapter was executed anew; all, if a style has changed."""
    kept = sorted(env.found_docs - added - changed - removed)
    if _restyled(Path(app.srcdir) / "_static", Path(app.outdir) / "_static"):
        return kept
    return [name for name in kept if _stamp(app, name) != _stamps(env).get(name)]


def _restyled(source: Path, copied: Path) -> bool:
    """Tell whether a style or a script is not as the pages know it, who name its checksum."""
    return any(
        copy.is_file() and file.read_bytes() != copy.read_bytes()
        for file in source.rglob("*.*")
        if (copy := copied / file.relative_to(source))
    )


def _remember(app: Sphinx, docname: str, source: list[str]) -> None:
    """Note with which outputs a page is read."""
    stamp = _stamp(app, docname)
    if stamp is not None:
        _stamps(app.env)[docname] = stamp


def _forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Forget a page that is read again or gone."""
    _stamps(env).pop(docname, None)


def _merge(
    app: Sphinx, env: BuildEnvironment, docnames: Iterable[str], other: BuildEnvironment
) -> None:
    """Take over what a parallel reader noted."""
    theirs = _stamps(other)
    _stamps(env).update({name: theirs[name] for name in docnames if name in theirs})


def _write_claims(app: Sphinx, exception: Exception | None) -> None:
    """Write ``claims.json`` beside the pages; it is replaced at once, never half-written."""
    if exception is not None or app.builder.format != "html":
        return
    records = []
    for chapter in read_chapters(executed_dir(app), _reading_order(app.env)):
        page = app.builder.get_relative_uri(app.config.root_doc, chapter.docname)
        for record, claim in zip(claim_records([chapter]), chapter.claims, strict=True):
            anchor = f"#{claim['anchor']}" if claim["shown"] else ""
            records.append({**record, "url": page + anchor})
    target = Path(app.outdir) / "claims.json"
    new = target.with_suffix(".json.new")
    new.write_text(json.dumps(records, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(new, target)


def _quiet(app: Sphinx, config: Any) -> None:
    """Let myst-nb skip the claims' data silently: the page shows their HTML."""
    if "mystnb.unknown_mime_type" not in config.suppress_warnings:
        config.suppress_warnings = [*config.suppress_warnings, "mystnb.unknown_mime_type"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension's directives, role and hooks with Sphinx."""
    app.add_config_value("press_executed_dir", None, "env", types=(str, type(None)))
    app.add_node(_Generated)
    app.add_directive("press-ledger", LedgerDirective)
    app.add_directive("press-status", StatusDirective)
    app.add_role("reported", ReportedRole())
    app.add_post_transform(FillGenerated)
    app.connect("config-inited", _quiet)
    app.connect("doctree-read", fold_claims)
    app.connect("env-get-outdated", _outdated)
    app.connect("source-read", _remember)
    app.connect("env-purge-doc", _forget)
    app.connect("env-merge-info", _merge)
    app.connect("build-finished", _write_claims)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
