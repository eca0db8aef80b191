"""The commands that make the book, on a small book of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from press.execution import Book

CHECKOUT = Path(__file__).resolve().parents[2]
CHAPTER = """---
file_format: mystnb
kernelspec: {name: python3, display_name: Python 3}
---
# Numbers

Some prose.

```{code-cell} python
import fakebox
print("the value is", fakebox.value())
```
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    root = tmp_path_factory.mktemp("book")
    files = {
        "_config.yml": "title: Small\nsphinx:\n  extra_extensions: [press.sphinx]\n",
        "book/_toc.yml": "format: jb-book\nroot: index\nchapters:\n- file: numbers\n",
        "book/index.md": "# Index\n\nWelcome.\n",
        "book/_static/own.css": "p { color: teal; }",
        "book/numbers.md": CHAPTER,
        "src/fakebox/__init__.py": "def value():\n    return 6 * 7\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Book(root)


def press(book: Book, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "press", "build", "--root", str(book.root), *arguments],
        env={**os.environ, "GLASSBOX_PROFILE": "sample", "GLASSBOX_DEVICE": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_build_makes_the_site_and_says_where_and_how_long(book):
    result = press(book)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the value is 42" in (book.html / "numbers.html").read_text()
    assert f"The book is at {book.html / 'index.html'}" in result.stdout
    assert "numbers                  executed in" in result.stdout
    assert result.stderr == ""

    record = json.loads((book.executed / "numbers.json").read_text())
    assert record["chapter"] == "numbers"
    assert record["finished"].endswith("+00:00")
    assert record["device"] == "cpu"
    assert record["versions"]["torch"]


def test_a_failing_chapter_fails_the_build_and_its_page_shows_the_failure(book):
    package = book.source / "fakebox/__init__.py"
    working = package.read_text()
    package.write_text(
        "from press.claims import claim\n"
        "def value():\n    claim('Six sevens are 43', 6 * 7 == 43, measured=42)\n"
    )
    result = press(book)
    assert result.returncode == 1
    assert "1 of 1 chapters failed" in result.stdout
    assert "numbers: ClaimError: Six sevens are 43" in result.stdout
    assert "the value is 42" not in (book.html / "numbers.html").read_text()
    assert "ClaimError" in (book.html / "numbers.html").read_text()

    package.write_text(working)
    assert press(book).returncode == 0
    assert "ClaimError" not in (book.html / "numbers.html").read_text()


def test_a_warning_fails_the_build_and_is_not_forgotten_by_the_next(book):
    index = book.pages / "index.md"
    index.write_text("# Index\n\nSee [](nowhere.md).\n")
    first, second = press(book), press(book)
    index.write_text("# Index\n\nWelcome.\n")
    assert first.returncode == second.returncode == 1
    assert "nowhere" in first.stderr
    assert "nowhere" in second.stderr


def test_sphinx_never_executes_a_page_itself(book):
    # Not in the table of contents, so the press does not know it; Sphinx finds it in the folder.
    stray = book.pages / "stray.md"
    stray.write_text(CHAPTER.replace("fakebox.value()", "fakebox.value() + 1"))
    result = press(book)
    stray.unlink()
    assert result.returncode == 1
    assert "Sphinx was about to execute a page" in result.stderr


def test_a_style_that_alone_changed_reaches_the_site(book):
    changed = "p { color: maroon; }"
    assert press(book).returncode == 0
    (book.pages / "_static/own.css").write_text(changed)
    assert press(book).returncode == 0
    assert (book.html / "_static/own.css").read_text() == changed


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ((), {"GLASSBOX_PROFILE": "huge"}, "GLASSBOX_PROFILE is 'huge'; it can be"),
        (("--jobs", "0"), {}, "--jobs: is '0'; it can be"),
        ((), {"JOBS": "many"}, "JOBS is 'many'; it can be"),
        (("--root", "/nowhere"), {}, "/nowhere/book/_toc.yml is missing"),
    ],
)
def test_bad_input_gets_one_sentence(book, arguments, environment, words):
    result = press(book, *arguments, **environment)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_make_makes_its_variables_absolute_and_passes_them_on(tmp_path):
    (tmp_path / "Makefile").write_text((CHECKOUT / "Makefile").read_text() + "\nshow:\n\t@env\n")
    result = subprocess.run(
        ["make", "show", "PROFILE=full", "GLASSBOX_DATA=../data", "DEVICE=cpu", "JOBS=3"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(result.stdout.split()) >= {
        "GLASSBOX_PROFILE=full",
        f"GLASSBOX_DATA={tmp_path.parent / 'data'}",
        "GLASSBOX_DEVICE=cpu",
        "JOBS=3",
    }


def test_make_names_a_missing_system_package_and_the_command_that_installs_it(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("make", "sh"):
        (tools / tool).symlink_to(subprocess.check_output(["which", tool], text=True).strip())
    result = subprocess.run(
        [str(tools / "make"), "-f", str(CHECKOUT / "Makefile"), "system"],
        cwd=tmp_path,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "chromium is missing" in result.stderr
    assert "sudo apt-get install chromium" in result.stderr
