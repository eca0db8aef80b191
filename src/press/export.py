"""Notebooks to download and launch: a chapter as an ``.ipynb`` in which the numbers stand.

A chapter is a MyST notebook; outside the book nothing understands its roles and directives.
`export` joins the executed cells with the chapter's current text and turns what only the book can
render into plain Markdown: inserted numbers become numbers, cross-references become links to the
site, admonitions become quotations, collapsed answers become ``<details>``. The first cell
installs what is missing.

`Repository` is the one place where addresses are made: of the site, of Colab and of Binder.
"""

# mypy: allow-untyped-calls
# (nbformat's own functions have no annotations)

from __future__ import annotations

import ast
import base64
import copy
import mimetypes
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook
from nbformat import NotebookNode
from pybtex.database import (  # type: ignore[import-untyped]
    BibliographyData,
    Entry,
    parse_file,
)
from sphinx.util.inventory import InventoryFile

from press import exercises
from press.claims import LESSON_ID

__all__ = ["ExportError", "Links", "Repository", "export", "glued_values", "plain_markdown"]

DISTRIBUTION = "glassbox-book"
"""The distribution that a downloaded notebook installs."""

PUBLISHED_BRANCH = "gh-pages"
"""The branch that holds the built site, and the notebooks that Colab and Binder open."""

PYTHON = "3.11"
"""The Python that Binder is asked for; its default is older than the book needs."""

ADMONITIONS = {
    "attention", "caution", "danger", "error", "hint", "important", "note", "seealso", "tip",
    "warning",
}  # fmt: skip
BODIES = {"card", "card-body", "container", "div", "grid", "grid-item", "grid-item-card", "only"}
DROPPED = {"contents", "raw", "tableofcontents", "toctree", "index", "bibliography"}


class ExportError(ValueError):
    """A chapter that cannot become a notebook; the message says which one and why."""


@dataclass(frozen=True)
class Repository:
    """Where the book lives, and every address made of it.

    Parameters
    ----------
    url
        For example ``https://github.com/organisation/name``.
    branch
        The branch with the sources.
    """

    url: str
    branch: str = "main"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", self.url):
            raise ExportError(
                "repository.url in _config.yml must be https://github.com/<organisation>/<name>, "
                f"not {self.url!r}."
            )

    @property
    def slug(self) -> str:
        """Organisation and name, for example ``organisation/name``."""
        return self.url.removeprefix("https://github.com/")

    @property
    def site(self) -> str:
        """The published site, with a slash at the end."""
        organisation, name = self.slug.split("/")
        return f"https://{organisation}.github.io/{name}/"

    @property
    def requirement(self) -> str:
        """What pip installs."""
        return f"{DISTRIBUTION} @ git+{self.url}@{self.branch}"

    def colab(self, chapter: str) -> str:
        """Return the address that opens the chapter's notebook in Colab."""
        base = "https://colab.research.google.com/github"
        return f"{base}/{self.slug}/blob/{PUBLISHED_BRANCH}/notebooks/{chapter}.ipynb"

    def binder(self, chapter: str) -> str:
        """Return the address that opens the chapter's notebook in Binder."""
        path = quote(f"lab/tree/notebooks/{chapter}.ipynb", safe="")
        return f"https://mybinder.org/v2/gh/{self.slug}/{PUBLISHED_BRANCH}?urlpath={path}"


@dataclass
class Links:
    """Where cross-references and citations lead, as the built site knows it.

    Parameters
    ----------
    site
        Address of the site, with a slash at the end.
    inventory
        Sphinx's inventory: kind, then name, then (project, version, address, title).
    bibliography
        The entries that may be cited.
    """

    site: str
    inventory: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    bibliography: BibliographyData = field(default_factory=BibliographyData)

    @classmethod
    def of_site(cls, site: str, html: Path, references: Path) -> Links:
        """Read the inventory of the site built in ``html`` and the bibliography."""
        with (html / "objects.inv").open("rb") as file:
            inventory = InventoryFile.load(file, site, urljoin)
        return cls(site, inventory, parse_file(str(references), bib_format="bibtex"))

    def find(self, kinds: tuple[str, ...], name: str) -> tuple[str, str] | None:
        """Return (address, title) of the first kind that has the name, else None."""
        for kind in kinds:
            names = self.inventory.get(kind, {})
            for candidate in (name, name.lower()):
                if candidate in names:
                    entry = names[candidate]
                    title = entry[3] if entry[3] not in ("-", "") else name
                    return entry[2], title
        return None

    def cite(self, key: str, style: str) -> str | None:
        """Return a citation as a link to the references page, or None for an unknown key."""
        entries: Mapping[str, Entry] = self.bibliography.entries
        if key not in entries:
            return None
        entry = entries[key]
        people = entry.persons.get("author") or entry.persons.get("editor") or []
        names = [" ".join(person.last_names) for person in people]
        if len(names) > 2:
            who = f"{names[0]} et al."
        else:
            who = " and ".join(names) or str(entry.fields.get("title", key))
        who, year = who.replace("{", "").replace("}", ""), str(entry.fields.get("year", ""))
        text = {"author": who, "year": year}.get(style)
        text = text or (f"{who} ({year})" if style == "t" else f"{who}, {year}")
        return f"[{text}]({self.site}appendix/references.html)"


def export(
    chapter: str,
    source: Path,
    executed: NotebookNode,
    links: Links,
    repository: Repository,
) -> NotebookNode:
    """Return the chapter as a notebook that needs nothing of the book's own.

    Parameters
    ----------
    chapter
        Its name: the file's stem.
    source
        The MyST notebook.
    executed
        The same notebook with outputs; its text may be older than the source.
    links
        Where references lead.
    repository
        Where the book can be installed from.

    Raises
    ------
    ExportError
        When a code cell differs from the one that was executed, a number has not been computed, or
        the text has a role or directive that nothing here can turn into Markdown.
    """
    notebook = read_myst_markdown_notebook(source.read_text(encoding="utf-8"))
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    wanted = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.source.strip() for cell in code] != [cell.source.strip() for cell in wanted]:
        raise ExportError(
            f"{chapter}: its code differs from the code that was executed; run make book."
        )
    convert = _Converter(chapter, source, links, glued_values(executed))
    outputs = iter(code)
    cells = [_install_cell(repository)]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cells.append(_code_cell(cell, next(outputs)))
        elif cell.cell_type == "markdown":
            text = convert.text(cell.source)
            if text.strip():
                cells.append(nbformat.v4.new_markdown_cell(text))
        else:
            cells.append(nbformat.v4.new_raw_cell(cell.source))
    page = f"{links.site}{chapter}.html"
    cells.append(
        nbformat.v4.new_markdown_cell(
            f"---\n\nThis notebook is a chapter of *The Glass Box*: [read it on the site]({page}). "
            "Text CC BY 4.0, code Apache 2.0."
        )
    )
    for number, cell in enumerate(cells):
        cell.id = f"{chapter}-{number}"[-64:]  # the same at every build, so that diffs are small
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    if "widgets" in executed.metadata:
        metadata["widgets"] = copy.deepcopy(executed.metadata["widgets"])
    result: NotebookNode = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(result)
    return result


def write(notebook: NotebookNode, path: Path) -> None:
    """Write the notebook, whole or not at all."""
    write_text(nbformat.writes(notebook) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write the text, whole or not at all; a file that has it already keeps its time."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def publish_for_launching(html: Path, repository: Repository) -> None:
    """Write what GitHub Pages and Binder look for at the root of the published branch."""
    write_text(f"{repository.requirement}\n", html / "requirements.txt")
    write_text(f"python-{PYTHON}\n", html / "runtime.txt")
    write_text("", html / ".nojekyll")  # else the folder _static is not served


def glued_values(executed: NotebookNode) -> dict[str, str]:
    """Return what `press.claims.glue` stored: name, and the value's ``repr``."""
    values = {}
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            box = output.get("metadata", {}).get("scrapbook")
            if box:
                values[str(box["name"])] = str(
                    output["data"].get(f"{box['mime_prefix']}text/plain", "")
                )
    return values


def plain_markdown(
    text: str, links: Links, values: Mapping[str, str] | None = None, source: Path | None = None
) -> str:
    """Return MyST Markdown as plain Markdown; what `export` does with every text cell."""
    path = source or Path("text.md")
    return _Converter(path.stem, path, links, values or {}).text(text)


def _install_cell(repository: Repository) -> NotebookNode:
    cell: NotebookNode = nbformat.v4.new_code_cell(
        "# Installs the book's library where it is missing (on Colab, for example).\n"
        "import importlib.util\n\n"
        'if any(importlib.util.find_spec(name) is None for name in ("glassbox", "press")):\n'
        f'    %pip install --quiet "{repository.requirement}"'
    )
    return cell


def _code_cell(cell: NotebookNode, executed: NotebookNode) -> NotebookNode:
    outputs = [
        copy.deepcopy(output)
        for output in executed.outputs
        # No notebook program can show a stored number; it stands in the text.
        if "scrapbook" not in output.get("metadata", {})
    ]
    for output in outputs:
        if output.output_type == "execute_result":
            output.execution_count = executed.execution_count
    tags = list(cell.metadata.get("tags", []))
    metadata: dict[str, Any] = {"tags": tags} if tags else {}
    if {"hide-input", "hide-cell", "remove-input", "remove-cell"} & set(tags):
        metadata["jupyter"] = {"source_hidden": True}
    made: NotebookNode = nbformat.v4.new_code_cell(
        cell.source, outputs=outputs, execution_count=executed.execution_count, metadata=metadata
    )
    return made


_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}|:{3,})(?P<info>.*)$")
_DIRECTIVE = re.compile(r"^\{(?P<name>[\w:.+-]+)\}\s*(?P<argument>.*)$")
_OPTION = re.compile(r"^:(?P<name>[\w-]+):\s*(?P<value>.*)$")
# A role, a piece of code or a formula, whichever comes first: what is inside one is no other.
_ROLE_OR_VERBATIM = re.compile(
    r"\{(?P<name>[A-Za-z][\w:.+-]*)\}(?P<ticks>`+)(?P<text>.+?)(?P=ticks)(?!`)"
    r"|(?P<code>`+)(?!`).+?(?<!`)(?P=code)(?!`)"
    r"|(?<!\\)\$\$.+?\$\$"
    r"|(?<![\\$\w])\$(?![\s$])[^$\n]*?(?<![\s\\])\$(?![\d$])",
    re.S,
)
_LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_IMAGE = re.compile(r"!\[(?P<alt>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
_ATTRIBUTES = re.compile(r"(?<=[)\]`])\{[.#][^{}\n]*\}")
_TITLED = re.compile(r"^(?P<text>.*?)\s*<(?P<target>[^<>]+)>$", re.S)


@dataclass
class _Converter:
    """Turns one chapter's MyST into Markdown that every notebook program shows."""

    chapter: str
    source: Path
    links: Links
    values: Mapping[str, str]

    def text(self, text: str) -> str:
        """Convert blocks, then what is inside the lines of those that are prose."""
        result = "\n".join(self._blocks(text.split("\n")))
        return re.sub(r"\n{3,}", "\n\n", result).strip("\n")

    def _blocks(self, lines: list[str]) -> Iterator[str]:
        prose: list[str] = []
        number = 0
        while number < len(lines):
            found = _FENCE.match(lines[number])
            if not found or (found["fence"][0] == ":" and "{" not in found["info"]):
                prose.append(lines[number])
                number += 1
                continue
            yield from self._prose(prose)
            prose = []
            end = number + 1
            close = re.compile(rf"^ *{re.escape(found['fence'][0])}{{{len(found['fence'])},}}\s*$")
            while end < len(lines) and not close.match(lines[end]):
                end += 1
            body = textwrap.dedent("\n".join(lines[number + 1 : end])).split("\n")
            directive = _DIRECTIVE.match(found["info"].strip())
            if directive:
                made = self._directive(directive["name"], directive["argument"].strip(), body)
                yield from ["", *(textwrap.indent(made, found["indent"]).split("\n")), ""]
            else:
                yield from lines[number : end + 1]
            number = end + 1
        yield from self._prose(prose)

    def _prose(self, lines: list[str]) -> Iterator[str]:
        kept = [
            line
            for line in lines
            if not re.match(r"^ *\([\w:.-]+\)=\s*$", line)  # a target
            and not re.match(r"^ *\{[.#][^{}]*\}\s*$", line)  # attributes of a block
            and not line.startswith(("%", "+++"))  # comments, and breaks between cells
        ]
        for number, line in enumerate(kept):
            if line.startswith(": ") and number and kept[number - 1].strip():
                kept[number - 1] = f"**{kept[number - 1].strip()}**"
                kept[number] = f"– {line[2:]}"
        text = "\n".join(kept)
        # "$$ … $$ (label)" is an equation with a name.
        text = re.sub(r"(?m)^(.*\$\$) *\([\w:.-]+\)[ \t]*$", r"\1", text)
        text = re.sub(r"(?m)^\[\^([\w-]+)\]: *", r"<sup>\1</sup> ", text)
        text = re.sub(r"\[\^([\w-]+)\]", r"<sup>\1</sup>", text)
        yield from self._inline(text).split("\n")

    def _inline(self, text: str) -> str:
        """Convert roles, links and images, and leave code between backticks as it is."""
        kept: list[str] = []

        def keep(converted: str) -> str:
            kept.append(converted)
            return f"\x00{len(kept) - 1}\x00"

        text = _ROLE_OR_VERBATIM.sub(
            lambda m: keep(self._role(m["name"], m["text"].strip()) if m["name"] else m[0]), text
        )
        text = _IMAGE.sub(lambda m: keep(self._image(m["target"], m["alt"])), text)
        text = _LINK.sub(lambda m: self._link(m["text"], m["target"]), text)
        text = _ATTRIBUTES.sub("", text)
        while "\x00" in text:
            text = re.sub(r"\x00(\d+)\x00", lambda m: kept[int(m[1])], text)
        return text

    # -- roles ----------------------------------------------------------------------------------

    def _role(self, name: str, text: str) -> str:
        if name.startswith("glue"):
            return self._number(text)
        if name.startswith(("cite", "footcite")):
            style = name.partition(":")[2][:1] if ":" in name else ""
            style = {"t": "t", "a": "author", "y": "year"}.get(style, style)
            style = {"cite:author": "author", "cite:year": "year"}.get(name, style)
            return self._citations(text, style or "p")
        if name == "reported":
            return self._reported(text)
        titled = _TITLED.match(text)
        shown, target = (titled["text"], titled["target"]) if titled else ("", text)
        short = name.removeprefix("py:").removeprefix("std:")
        if short == "term":
            return shown or target
        if short == "doc":
            return self._link(shown, f"{target}.md")
        if short in ("ref", "numref"):
            found = self.links.find(("std:label",), target)
            if not found:
                raise self._error(f"{{{name}}} refers to {target!r}, which the site does not have")
            # "%s" and "{name}" ask for a number that only the page has.
            if "%s" in shown or "{number}" in shown:
                shown = ""
            return f"[{(shown or found[1]).replace('{name}', found[1])}]({found[0]})"
        if short == "eq":
            page = f"{self.links.site}{self.chapter}.html"
            return f"[the equation]({page}#equation-{target})"
        if short in ("func", "class", "mod", "meth", "attr", "exc", "data", "obj", "const"):
            clean = target.removeprefix("~").removeprefix("!")
            label = shown or (clean.rsplit(".", 1)[-1] if target.startswith("~") else clean)
            label = f"`{label}()`" if short in ("func", "meth") and not shown else f"`{label}`"
            kinds = tuple(sorted(kind for kind in self.links.inventory if kind.startswith("py:")))
            found = self.links.find(kinds, clean)
            return f"[{label}]({found[0]})" if found else label
        if short in ("code", "literal", "file", "command", "program", "option", "envvar"):
            return f"`{text}`"
        if short == "math":
            return f"${text}$"
        if short in ("sub", "subscript"):
            return f"<sub>{text}</sub>"
        if short in ("sup", "superscript"):
            return f"<sup>{text}</sup>"
        if short == "kbd":
            return f"<kbd>{text}</kbd>"
        if short == "abbr":
            return re.sub(r"\s*\((.*)\)$", r" (\1)", text)
        if short in ("emphasis", "dfn", "index"):
            return f"*{text}*"
        if short == "strong":
            return f"**{text}**"
        if short in ("download", "nb-download"):
            return self._link(shown or target, target)
        raise self._error(f"nothing turns the role {{{name}}} into Markdown")

    def _number(self, text: str) -> str:
        """Return an inserted value, formatted as myst-nb formats it."""
        text = text.rsplit("::", 1)[-1]
        name, colon, form = text.partition(":")
        if name not in self.values:
            raise self._error(f"it inserts {name!r}, which no cell has stored with glue")
        value: Any = self.values[name]
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            value = float(value) if value in ("nan", "inf", "-inf") else value
        try:
            return format(value, form) if colon else str(value)
        except ValueError as error:
            raise self._error(f"{text!r} cannot be formatted: {error}") from error

    def _citations(self, keys: str, style: str) -> str:
        made = []
        for key in keys.split(","):
            citation = self.links.cite(key.strip(), style)
            if citation is None:
                raise self._error(f"it cites {key.strip()!r}, which references.bib does not have")
            made.append(citation)
        text = "; ".join(made)
        return text if style in ("t", "author", "year") else f"({text})"

    def _reported(self, text: str) -> str:
        """Return a figure that was published elsewhere, and where (see `press.sphinx`)."""
        key, _, figure = text.partition(" ")
        if LESSON_ID.fullmatch(key):
            return f"{figure.strip()} ({key})"
        return f"{figure.strip()} {self._citations(key, 'p')}"

    # -- links and images -----------------------------------------------------------------------

    def _link(self, text: str, target: str) -> str:
        if re.match(r"[a-z]+:", target):
            return f"[{text}]({target})" if text else f"<{target}>"
        path, _, anchor = target.partition("#")
        if not path:
            found = self.links.find(("std:label",), anchor)
            if found:
                return f"[{text or found[1]}]({found[0]})"
            return f"[{text or anchor}]({self.links.site}{self.chapter}.html#{anchor})"
        if path.endswith((".md", ".ipynb")):
            here = Path(self.chapter).parent
            document = os.path.normpath(here / path.rsplit(".", 1)[0])
            if path.startswith("/"):
                document = path.rsplit(".", 1)[0].lstrip("/")
            found = self.links.find(("std:doc",), document)
            if not found:
                raise self._error(f"it links to {target!r}, which the site does not have")
            return f"[{text or found[1]}]({found[0]}{'#' + anchor if anchor else ''})"
        return f"[{text or path}]({urljoin(self.links.site, path)}{'#' + anchor if anchor else ''})"

    def _image(self, target: str, alt: str) -> str:
        """Put the picture itself into the notebook, which travels alone."""
        if re.match(r"[a-z]+:", target):
            return f"![{alt}]({target})"
        file = self.source.parent / target.lstrip("/")
        if not file.is_file():
            raise self._error(f"its picture {target!r} does not exist")
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return f"![{alt}](data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()})"

    # -- directives -----------------------------------------------------------------------------

    def _directive(self, name: str, argument: str, body: list[str]) -> str:
        options, body = _options(body)
        classes = options.get("class", "").split()
        inner = "\n".join(body).strip("\n")
        if name in DROPPED:
            return ""
        if name in BODIES:
            return self.text(inner)
        if name in ("dropdown", "toggle") or {"dropdown", "toggle"} & set(classes):
            return _details(self._inline(argument) or "Show", self.text(inner))
        if name == "admonition" or name in ADMONITIONS:
            if name == "admonition":
                title = argument
            else:
                title, inner = name.capitalize(), "\n".join([argument, inner]).strip("\n")
                title = "See also" if name == "seealso" else title
            return _quoted(f"**{self._inline(title)}**\n\n{self.text(inner)}")
        if name in ("margin", "sidebar", "topic"):
            title = f"**{self._inline(argument)}**\n\n" if argument else ""
            return _quoted(title + self.text(inner))
        if name in ("epigraph", "highlights", "pull-quote"):
            return _quoted(self.text(inner))
        if name in ("code", "code-block", "sourcecode"):
            return f"```{argument}\n{inner}\n```"
        if name == "literalinclude":
            return (
                f"```{options.get('language', 'python')}\n{self._included(argument, options)}\n```"
            )
        if name == "math":
            return f"$$\n{inner}\n$$"
        if name == "press-exercises":
            return exercises.as_markdown(self.source.stem, self.source.parent.parent)
        if name in ("figure", "image"):
            picture = self._image(argument, options.get("alt", ""))
            return f"{picture}\n\n*{self.text(inner)}*" if inner else picture
        if name == "table":
            return (f"**{self._inline(argument)}**\n\n" if argument else "") + self.text(inner)
        if name == "list-table":
            return self._list_table(argument, inner)
        if name in ("tab-set", "tab-item", "tabs"):
            return (f"**{self._inline(argument)}**\n\n" if argument else "") + self.text(inner)
        raise self._error(f"nothing turns the directive {{{name}}} into Markdown")

    def _included(self, argument: str, options: Mapping[str, str]) -> str:
        file = self.source.parent / argument
        if not file.is_file():
            raise self._error(f"it includes {argument!r}, which does not exist")
        text = file.read_text(encoding="utf-8")
        lines = text.split("\n")
        if "pyobject" in options:
            nodes: list[ast.stmt] = ast.parse(text).body
            node: ast.stmt | None = None
            for part in options["pyobject"].split("."):
                node = next((n for n in nodes if getattr(n, "name", None) == part), None)
                if node is None:
                    raise self._error(f"{argument} has no {options['pyobject']}")
                nodes = getattr(node, "body", [])
            assert node is not None
            decorators = getattr(node, "decorator_list", [])
            first = min([node.lineno, *(d.lineno for d in decorators)])
            lines = lines[first - 1 : node.end_lineno]
        if "lines" in options:
            wanted: list[str] = []
            for part in options["lines"].split(","):
                first_, dash, last = part.strip().partition("-")
                stop = int(last) if last else (len(lines) if dash else int(first_))
                wanted += lines[int(first_ or 1) - 1 : stop]
            lines = wanted
        return textwrap.dedent("\n".join(lines)).rstrip("\n")

    def _list_table(self, title: str, text: str) -> str:
        rows: list[list[str]] = []
        for line in text.split("\n"):
            start = re.match(r"^[*-] +[*-] ?(.*)$", line)
            more = re.match(r"^ +[*-] ?(.*)$", line)
            if start:
                rows.append([start[1]])
            elif more and rows:
                rows[-1].append(more[1])
            elif line.strip() and rows:
                rows[-1][-1] += f" {line.strip()}"
        cells = [[self._inline(cell).replace("|", "\\|") for cell in row] for row in rows]
        if not cells:
            return ""
        head = f"**{self._inline(title)}**\n\n" if title else ""
        ruled = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
        return head + "\n".join(f"| {' | '.join(row)} |" for row in ruled)

    def _error(self, why: str) -> ExportError:
        return ExportError(f"{self.chapter}: {why}.")


def _options(body: list[str]) -> tuple[dict[str, str], list[str]]:
    """Split a directive's body into its options (``:name: value`` or YAML) and the rest."""
    options: dict[str, str] = {}
    number = 0
    while number < len(body) and not body[number].strip():
        number += 1
    if number < len(body) and body[number].strip() == "---":
        end = next((i for i in range(number + 1, len(body)) if body[i].strip() == "---"), number)
        for line in body[number + 1 : end]:
            name, _, value = line.partition(":")
            options[name.strip()] = value.strip()
        return options, body[end + 1 :]
    while number < len(body) and (found := _OPTION.match(body[number].strip())):
        options[found["name"]] = found["value"].strip()
        number += 1
    return options, body[number:]


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.strip("\n").split("\n"))


def _details(summary: str, text: str) -> str:
    return f"<details>\n<summary>{_html(summary)}</summary>\n\n{text}\n\n</details>"


_INLINE_HTML: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"`([^`]+)`", r"<code>\1</code>"),
    (r"\*\*([^*]+)\*\*", r"<b>\1</b>"),
    (r"(?<!\*)\*([^*]+)\*(?!\*)", r"<i>\1</i>"),
]


def _html(text: str) -> str:
    """Return inline Markdown as HTML: Markdown is not read inside ``<summary>``."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for pattern, replacement in _INLINE_HTML:
        text = re.sub(pattern, replacement, text)
    return text
