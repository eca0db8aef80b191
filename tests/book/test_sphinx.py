"""The Sphinx extension, on a small book whose chapters were executed by a real kernel."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from nbformat import v4

from press.claims import CLAIM_MIME
from press.sphinx import claim_records, read_chapters

CONF = """\
extensions = ["myst_nb", "press.sphinx"]
nb_execution_mode = "off"
html_theme = "basic"
exclude_patterns = []
"""

INDEX = """\
# A book

```{toctree}
chapters/two
chapters/one
appendix/ledger
appendix/status
```
"""

CODE = """\
import torch
from press.claims import claim, glue
claim("Two & two < five", 2 + 2 < 5, measured={"sum": 2 + 2})
claim("A lesson's mean", True, measured=6.25, reported=6.25, id="L10-var")
claim("A lesson's accuracy", True, measured=0.9, reported=0.5, id="L4-sim", source="2020 lesson 4")
claim("The second of its name", True, measured=1, id="L10-var")
glue("share", torch.tensor(79) / 80)
glue("count", 12345)
glue("word", "seven")
glue("tiny", 1e-7)
"""

PROSE = """\
# Chapter one

{glue:text}`share:.1%` and {glue:text}`share:.3f`, {glue:text}`count:,` or {glue:text}`count`,
{glue:text}`word`, {glue:text}`tiny:.1e`. The lesson has {reported}`L10-bn .9707`.
"""


def run_cells(prose: str, code: str) -> nbformat.NotebookNode:
    """A notebook whose one code cell was executed."""
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell(prose), v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbclient.NotebookClient(notebook, timeout=120, allow_errors=True).execute()
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    return notebook


def record(chapter: str, **changes: object) -> dict[str, object]:
    """What `press.execution` writes beside an executed notebook."""
    return {
        "chapter": chapter,
        "key": "0" * 64,
        "profile": "sample",
        "device": "cpu",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "threads": 1,
        "seconds": 12.345,
        "data": {"digits": "ab" * 32},
        "finished": "2026-11-20T23:00:00+00:00",
        "commit": "abc1234",
        "status": "ok",
        **changes,
    }


@pytest.fixture(scope="module")
def executed() -> dict[str, nbformat.NotebookNode]:
    """Both chapters, executed once for all tests of this file."""
    two = 'from press.claims import claim\nclaim("One is one", 1 == 1)'
    return {"one": run_cells(PROSE, CODE), "two": run_cells("# Chapter two", two)}


def write_chapter(root: Path, name: str, notebook: nbformat.NotebookNode, **changes: object):
    """Store an executed chapter where the extension looks for it."""
    folder = root / "_build" / "executed"
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    (folder / f"{name}.json").write_text(json.dumps(record(name, **changes)))


@pytest.fixture
def book(tmp_path: Path, executed: dict[str, nbformat.NotebookNode]) -> Path:
    """The sources of a book with two chapters, the ledger and the status page."""
    appendix = Path(__file__).parents[2] / "book" / "appendix"
    (tmp_path / "book" / "appendix").mkdir(parents=True)
    (tmp_path / "book" / "chapters").mkdir()
    (tmp_path / "book" / "conf.py").write_text(CONF)
    (tmp_path / "book" / "index.md").write_text(INDEX)
    for name in ("ledger.md", "status.md"):
        shutil.copy(appendix / name, tmp_path / "book" / "appendix" / name)
    for name, notebook in executed.items():
        nbformat.write(notebook, tmp_path / "book" / "chapters" / f"{name}.ipynb")
        write_chapter(tmp_path, name, notebook)
    return tmp_path


def build(root: Path, *, jobs: int = 1) -> subprocess.CompletedProcess[str]:
    """Build the book with warnings as errors."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-v", "-b", "html"]
    command += ["-j", str(jobs), str(root / "book"), str(root / "_build" / "html")]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def page(root: Path, name: str) -> str:
    """The HTML of a page."""
    return (root / "_build" / "html" / f"{name}.html").read_text(encoding="utf-8")


def text_of(html: str) -> str:
    """The words of a page, without its markup."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def links(html: str, target: str) -> list[str]:
    """The anchors of ``target`` that a page links to."""
    return re.findall(rf'href="{re.escape(target)}#([^"]+)"', html)


@pytest.mark.parametrize("jobs", [1, 2])
def test_book_builds_without_a_warning(book: Path, jobs: int):
    done = build(book, jobs=jobs)
    assert done.returncode == 0, done.stderr
    claims = json.loads((book / "_build" / "html" / "claims.json").read_text())
    assert [claim["chapter"] for claim in claims] == ["two", "one", "one", "one", "one"]
    needed = [
        "id",
        "chapter",
        "statement",
        "passed",
        "measured",
        "reported",
        "source",
        "profile",
        "device",
    ]
    assert all(set(needed) <= set(claim) for claim in claims)
    mean = next(claim for claim in claims if claim["statement"] == "A lesson's mean")
    assert mean["id"] == "L10-var"
    assert mean["passed"] is True
    assert (mean["measured"], mean["reported"]) == (6.25, 6.25)
    assert (mean["profile"], mean["device"], mean["source"]) == ("sample", "cpu", "L10-var")

    # Every link of the ledger, and every address in claims.json, leads to a claim in its page.
    ledger, chapter = page(book, "appendix/ledger"), page(book, "chapters/one")
    anchors = links(ledger, "../chapters/one.html")
    assert len(set(anchors)) == 4
    assert all(f'id="{anchor}"' in chapter for anchor in anchors)
    assert {c["url"] for c in claims if c["chapter"] == "one"} == {
        f"chapters/one.html#{anchor}" for anchor in anchors
    }

    # The lessons' results come first, L4 before L10; then the other claims of each chapter.
    words = text_of(ledger)
    order = ["Results that a lesson reported", "A lesson's accuracy", "A lesson's mean"]
    order += ["Chapter two", "One is one", "Chapter one", "Two &amp; two &lt; five"]
    places = [words.index(part, words.index("claims hold")) for part in order[:3]]
    assert places == sorted(places)
    tail = words[words.index("One is one") :]
    assert "Two &amp; two &lt; five" in tail
    assert "5 of 5 claims hold" in words
    assert "80 % higher" in words  # 0.9 against 0.5 is said, not hidden

    status = text_of(page(book, "appendix/status"))
    for part in ["sample", "cpu", "2.13.0", "ab" * 32, "12.3 s", "24.7 s", "abc1234", "2026-11-20"]:
        assert part in status

    # What the prose inserts: percent, decimals, thousands, text, exponent; and a reported figure.
    words = text_of(chapter)
    for part in ["98.8% and 0.988", "12,345 or 12345", "seven , 1.0e-07", ".9707 ( L10-bn )"]:
        assert part in words
    assert "scrapbook" not in chapter
    assert "0.9875" not in chapter


def test_page_is_read_again_when_only_its_outputs_changed(
    book: Path, executed: dict[str, nbformat.NotebookNode]
):
    assert build(book).returncode == 0
    again = build(book)
    assert again.returncode == 0, again.stderr
    assert "reading sources... [100%] appendix/status" in again.stdout
    assert not re.search(r"reading sources.*chapters/", again.stdout)

    changed = nbformat.from_dict(json.loads(nbformat.writes(executed["two"])))
    for output in changed.cells[1].outputs:
        output["data"][CLAIM_MIME]["statement"] = "One is still one"
    write_chapter(book, "two", changed, device="cuda")
    third = build(book)
    assert third.returncode == 0, third.stderr
    assert re.search(r"reading sources.*chapters/two", third.stdout)
    assert not re.search(r"reading sources.*chapters/one", third.stdout)
    assert "One is still one" in page(book, "appendix/ledger")
    assert "cpu" in text_of(page(book, "appendix/status"))
    assert "cuda" in text_of(page(book, "appendix/status"))
    claims = json.loads((book / "_build" / "html" / "claims.json").read_text())
    assert "One is still one" in [claim["statement"] for claim in claims]


def test_parallel_reading_remembers_outputs_too(book: Path):
    assert build(book, jobs=2).returncode == 0
    again = build(book, jobs=2)
    assert again.returncode == 0, again.stderr
    assert not re.search(r"reading sources.*chapters/", again.stdout)


def test_book_without_executed_chapters_says_so(book: Path):
    shutil.rmtree(book / "_build" / "executed")
    done = build(book)
    assert done.returncode == 0, done.stderr
    assert "No chapter has been executed yet." in page(book, "appendix/ledger")
    assert "No chapter has been executed yet." in page(book, "appendix/status")
    assert json.loads((book / "_build" / "html" / "claims.json").read_text()) == []


def test_failed_claim_stands_in_the_ledger(book: Path):
    code = 'from press.claims import claim\nclaim("Three is four", 3 == 4, measured=3)'
    write_chapter(book, "two", run_cells("# Chapter two", code), status="failed")
    done = build(book)
    assert done.returncode == 0, done.stderr
    words = text_of(page(book, "appendix/ledger"))
    assert "4 of 5 claims hold" in words
    assert "✗ Three is four" in words
    assert "failed" in text_of(page(book, "appendix/status"))


def test_unreadable_record_is_a_warning(book: Path):
    (book / "_build" / "executed" / "two.json").write_text("{")
    done = build(book)
    assert done.returncode != 0
    assert "two.ipynb cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("role", "message"),
    [("{reported}`L10-bn`", "a space, and the figure"), ("{reported}`some2015 3`", "citations")],
)
def test_mistaken_reported_role_is_a_warning(book: Path, role: str, message: str):
    (book / "book" / "index.md").write_text(f"{INDEX}\nSo {role}.\n")
    done = build(book)
    assert done.returncode != 0
    assert message in done.stderr


def test_reported_role_cites_the_bibliography(book: Path):
    conf = CONF.replace("]", ', "sphinxcontrib.bibtex"]', 1) + 'bibtex_bibfiles = ["a.bib"]\n'
    (book / "book" / "conf.py").write_text(conf)
    entry = "@article{some2015, title={T}, author={Ann Author}, journal={J}, year={2015}}"
    (book / "book" / "a.bib").write_text(entry)
    index = f"{INDEX}\nSo {{reported}}`some2015 34.7 %`.\n\n```{{bibliography}}\n```\n"
    (book / "book" / "index.md").write_text(index)
    done = build(book)
    assert done.returncode == 0, done.stderr
    assert "34.7 %" in page(book, "index")
    assert 'href="#id' in page(book, "index")


def test_chapters_are_read_in_the_given_order_and_leftovers_ignored(
    tmp_path: Path, executed: dict[str, nbformat.NotebookNode]
):
    for name in ("one", "two"):
        write_chapter(tmp_path, name, executed[name])
    folder = tmp_path / "_build" / "executed"
    assert [c.name for c in read_chapters(folder, ["x", "chapters/two", "one"])] == ["two", "one"]
    assert read_chapters(folder, []) == []


def test_claim_whose_output_the_page_leaves_out_has_no_anchor_to_link(
    tmp_path: Path, executed: dict[str, nbformat.NotebookNode]
):
    hidden = nbformat.from_dict(json.loads(nbformat.writes(executed["two"])))
    hidden.cells[1].metadata["tags"] = ["remove-output"]
    write_chapter(tmp_path, "two", hidden)
    (chapter,) = read_chapters(tmp_path / "_build" / "executed", ["two"])
    assert chapter.claims[0]["shown"] is False
    assert len(claim_records([chapter])) == 1
