"""What the site needs beyond its theme, as a Sphinx extension.

- No request to another host: the scripts that packages add for their own services are left out,
  what is needed is served from ``book/_vendor``.
- Widgets stand in the page as still pictures of themselves; they live in Jupyter.
- Search shows excerpts also when the page was opened from disk, where a page may not read others.
- The buttons of a chapter open and download a notebook (`press.export`), not its source.
"""

# mypy: allow-untyped-calls
# (nbformat's own functions have no annotations)

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag
from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from press.export import (
    ExportError,
    Links,
    Repository,
    export,
    publish_for_launching,
    write,
    write_text,
)

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

__all__ = ["setup", "still_widget"]

LOGGER = logging.getLogger(__name__)
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
TEXTS = "_static/search-texts.js"


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the site's hooks to Sphinx."""
    # jupyter-book always sets it, for the extension sphinx_comments that the book does without.
    app.add_config_value("comments_config", {}, "")
    app.connect("config-inited", _set_address)
    app.connect("autodoc-process-docstring", _plain_sources, priority=400)  # before napoleon
    app.connect("builder-inited", _serve_vendored)
    app.add_post_transform(StillWidgets)
    app.connect("html-page-context", _scripts, priority=900)
    app.connect("html-page-context", _buttons, priority=900)
    app.connect("build-finished", remove_former_pages)
    app.connect("build-finished", _write_search_texts)
    app.connect("build-finished", _write_notebooks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _repository(config: Config) -> Repository:
    options = config.html_theme_options
    return Repository(options["repository_url"], options.get("repository_branch") or "main")


def _set_address(app: Sphinx, config: Config) -> None:
    if not config.html_baseurl:
        config["html_baseurl"] = _repository(config).site


def _serve_vendored(app: Sphinx) -> None:
    # Not in _config.yml: jupyter-book would load every script of the folder on every page.
    app.config.html_static_path.append(str(Path(app.srcdir) / "_vendor"))


def _plain_sources(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Write a docstring's numbered sources as a list: footnotes of docstrings share one page."""
    inside = ""  # the indent of the source that a line belongs to
    for number, line in enumerate(lines):
        source = re.match(r"(\s*)\.\. (\[\d+\] .*)", line)
        if source:
            inside = source[1] + "  "
            lines[number] = f"{source[1]}* {source[2]}"
        elif inside and line.startswith(inside):
            lines[number] = inside + line.strip()
        else:
            inside = ""
            lines[number] = re.sub(r"(\[\d+\])_(?!\w)", r"\1", line)


# -- scripts ------------------------------------------------------------------------------------


def _scripts(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Drop what is added twice (a second ``const`` is an error) and what nothing reads."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for script in context.get("script_files", []):
        attributes = getattr(script, "attributes", {})
        if attributes.get("type") == WIDGET_STATE:
            continue
        filename = getattr(script, "filename", script) or ""
        key = (str(filename), str(attributes.get("body") or ""))
        if key not in seen:
            seen.add(key)
            kept.append(script)
    if pagename == "search":
        texts = Path(TEXTS).name
        context["metatags"] = (
            context.get("metatags", "") + f'\n<script defer src="_static/{texts}"></script>'
        )
    context["script_files"] = kept


# -- buttons ------------------------------------------------------------------------------------


def _is_chapter(app: Sphinx, pagename: str) -> bool:
    return "kernelspec" in app.env.metadata.get(pagename, {})


def _buttons(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Let a chapter's buttons open and download its notebook."""
    buttons: list[dict[str, Any]] = context.get("header_buttons", [])
    if doctree is None or not _is_chapter(app, pagename):
        return
    repository = _repository(app.config)
    root = context["pathto"]("", 1).rstrip("/") or "."
    for group in buttons:
        if group.get("label") == "download-buttons":
            group["buttons"].insert(
                0,
                {
                    "type": "link",
                    "url": f"{root}/notebooks/{pagename}.ipynb",
                    "text": ".ipynb",
                    "tooltip": "Download as a Jupyter notebook, with its outputs",
                    "icon": "fas fa-book",
                    "label": "download-notebook-button",
                },
            )
    buttons.insert(
        0,
        {
            "type": "group",
            "tooltip": "Run this chapter in the cloud",
            "icon": "fas fa-rocket",
            "label": "launch-buttons",
            "buttons": [
                {
                    "type": "link",
                    "text": name,
                    "tooltip": f"Run in {name}",
                    "icon": f"_static/images/logo_{file}",
                    "url": url,
                    "label": f"launch-{name.lower()}-button",
                }
                for name, file, url in [
                    ("Colab", "colab.png", repository.colab(pagename)),
                    ("Binder", "binder.svg", repository.binder(pagename)),
                ]
            ],
        },
    )


# -- pages that are no more ---------------------------------------------------------------------


def remove_former_pages(app: Sphinx, exception: Exception | None) -> None:
    """Remove what an earlier build wrote for pages that the book no longer has."""
    if exception or app.builder.format != "html":
        return
    html, present = Path(app.outdir), {*app.env.found_docs, "search"}
    for path in html.rglob("*.html"):
        name = path.relative_to(html).with_suffix("").as_posix()
        if name not in present and not name.startswith("_"):
            path.unlink()
    for path in (html / "notebooks").glob("*.ipynb"):
        if path.stem not in present:
            path.unlink()


# -- notebooks ----------------------------------------------------------------------------------


def _write_notebooks(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    html, repository = Path(app.outdir), _repository(app.config)
    publish_for_launching(html, repository)
    chapters = sorted(name for name in app.env.found_docs if _is_chapter(app, name))
    if not chapters:
        return
    references = Path(app.srcdir) / app.config.bibtex_bibfiles[0]
    links = Links.of_site(repository.site, html, references)
    for chapter in chapters:
        source = Path(app.env.doc2path(chapter))
        try:
            executed = _executed(html.parent, chapter)
            notebook = export(chapter, source, executed, links, repository)
            write(notebook, html / "notebooks" / f"{chapter}.ipynb")
        except ExportError as error:
            LOGGER.warning("No notebook to download: %s", error, location=chapter)


def _executed(build: Path, chapter: str) -> nbformat.NotebookNode:
    """Return the chapter as it was executed: by the build command, else by myst-nb."""
    for folder in ("executed", "jupyter_execute"):
        path = build / folder / f"{chapter}.ipynb"
        if path.exists():
            notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
            return notebook
    raise ExportError(f"{chapter}: it has not been executed; run make book.")


# -- search -------------------------------------------------------------------------------------


def _write_search_texts(app: Sphinx, exception: Exception | None) -> None:
    """Write the words of every page where the search page can read them without asking a host."""
    if exception or app.builder.format != "html":
        return
    html = Path(app.outdir)
    pages = {name: html / f"{name}.html" for name in sorted(app.env.found_docs)}
    pages = {name: path for name, path in pages.items() if path.exists()}
    target = html / TEXTS
    newest = max((path.stat().st_mtime_ns for path in pages.values()), default=0)
    if target.exists() and target.stat().st_mtime_ns > newest:
        return
    texts = {name: page_text(path.read_text(encoding="utf-8")) for name, path in pages.items()}
    target.unlink(missing_ok=True)
    write_text(f"window.glassboxTexts = {json.dumps(texts, ensure_ascii=False)};\n", target)


def page_text(html: str) -> str:
    """Return the words of a page's article, with the sections that a search result points to."""
    # Pictures and players are most of a page's bytes and hold no word that one searches.
    html = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.S)
    html = re.sub(r'"data:[^"]*"', '""', html)
    main = BeautifulSoup(html, "html.parser").select_one("article")
    if main is None:
        return ""
    for unwanted in main.select(".headerlink, svg"):
        unwanted.decompose()
    return f'<div role="main">{"".join(_outline(main))}</div>'


def _outline(tag: Tag) -> Iterator[str]:
    for child in tag.children:
        if isinstance(child, Tag):
            name, inner = child.get("id"), "".join(_outline(child))
            if child.name == "section" and name:
                yield f'<section id="{escape(str(name))}">{inner}</section>'
            else:
                yield f"{inner} "
        elif type(child) is NavigableString:
            yield escape(re.sub(r"\s+", " ", child), quote=False)


# -- widgets ------------------------------------------------------------------------------------


class StillWidgets(SphinxPostTransform):
    """Replace the view of a widget by a still picture of it, before myst-nb picks an output."""

    default_priority = 3

    def run(self, **kwargs: Any) -> None:
        """Give every widget's view static HTML; where the state is missing, its text stays."""
        state: dict[str, Any] | None = None
        for bundle in list(self.document.findall(_is_bundle)):
            for view in [c for c in bundle.children if c.get("mime_type") == WIDGET_VIEW]:
                state = _widget_state(self.env, self.env.docname) if state is None else state
                found = re.search(r'"model_id":\s*"(\w+)"', view.astext())
                still = still_widget(found[1], state) if found else ""
                if still:
                    raw = nodes.raw("", f'<div class="gb-widget">{still}</div>', format="html")
                    view.children = []
                    view.append(raw)
                else:
                    bundle.remove(view)


def _is_bundle(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and node.get("nb_element") == "mime_bundle"


def _widget_state(env: Any, docname: str) -> dict[str, Any]:
    script = NbMetadataCollector.get_js_files(env, docname).get("ipywidgets_state")
    if not script:
        return {}
    state: dict[str, Any] = json.loads(script[1]["body"].replace("<\\/", "</"))["state"]
    return state


def still_widget(model: str, state: dict[str, Any]) -> str:
    """Return a widget as HTML that does nothing, or "" for one that cannot be drawn.

    Parameters
    ----------
    model
        The widget's identifier in ``state``.
    state
        The widgets of the notebook: identifier, then ``model_name`` and ``state``.
    """
    if model not in state:
        return ""
    name, now = state[model].get("model_name", ""), state[model].get("state", {})
    label = escape(str(now.get("description") or ""))
    value = now.get("value")
    title = 'title="It works in Jupyter; in this page it is a picture."'
    if name in ("ButtonModel", "ToggleButtonModel"):
        style = escape(str(now.get("button_style") or "default"))
        kind = f"gb-button gb-{style}"
        return f'<button type="button" class="{kind}" disabled {title}>{label}</button>'
    if name in ("HBoxModel", "VBoxModel", "BoxModel"):
        kind = "gb-row" if name == "HBoxModel" else "gb-column"
        children = [c.removeprefix("IPY_MODEL_") for c in now.get("children", [])]
        return f'<div class="{kind}">{"".join(still_widget(c, state) for c in children)}</div>'
    if name in ("HTMLModel", "HTMLMathModel"):
        return f"<div>{value or ''}</div>"
    if name == "LabelModel":
        return f"<span>{escape(str(value or ''))}</span>"
    if name in ("IntSliderModel", "FloatSliderModel"):
        span = (now.get("max", 100) - now.get("min", 0)) or 1
        percent = 100 * (value - now.get("min", 0)) / span
        return (
            f'<span class="gb-slider" {title}><span>{label}</span><span class="gb-track">'
            f'<span style="left:{percent:.0f}%"></span></span><span>{value}</span></span>'
        )
    if name == "CheckboxModel":
        checked = " checked" if value else ""
        return f'<label {title}><input type="checkbox" disabled{checked}> {label}</label>'
    if name in ("TextModel", "IntTextModel", "FloatTextModel", "TextareaModel", "DropdownModel"):
        if name == "DropdownModel":
            options, index = now.get("_options_labels", []), now.get("index")
            value = options[index] if index is not None and index < len(options) else ""
        return f"<span {title}>{label} <code>{escape(str(value or ''))}</code></span>"
    if name in ("IntProgressModel", "FloatProgressModel"):
        most = now.get("max", 100)
        return f'<label>{label} <progress value="{value}" max="{most}"></progress></label>'
    if name == "OutputModel":
        return "".join(_still_output(output) for output in now.get("outputs", []))
    return ""


def _still_output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if output.get("output_type") == "stream":
        return f"<pre>{escape(''.join(output.get('text', '')))}</pre>"
    if "text/html" in data:
        return "".join(data["text/html"])
    return f"<pre>{escape(''.join(data.get('text/plain', '')))}</pre>"
