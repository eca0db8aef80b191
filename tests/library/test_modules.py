"""`glassbox` as a whole: what is public is documented, and modules import from those above them."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import glassbox

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book/appendix/api.md").read_text(encoding="utf-8")
IN_ORDER = re.findall(r"automodule:: glassbox\.(\w+)", PAGE)


def source_of(module: str) -> str:
    return (Path(glassbox.__file__).parent / f"{module}.py").read_text(encoding="utf-8")


def test_every_module_has_its_section_on_the_librarys_page():
    files = Path(glassbox.__file__).parent.glob("[!_]*.py")
    assert sorted(IN_ORDER) == sorted(path.stem for path in files)


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_module_imports_only_from_those_above_it(name):
    used = {
        node.module.removeprefix("glassbox.")
        for node in ast.walk(ast.parse(source_of(name)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("glassbox.")
    }
    assert used <= set(IN_ORDER[: IN_ORDER.index(name)])


@pytest.mark.parametrize("name", IN_ORDER)
def test_its_public_names_are_listed_at_its_top_and_documented(name):
    module = importlib.import_module(f"glassbox.{name}")
    for public in (public for public in module.__all__ if not public.isupper()):
        assert f"`{public}`" in module.__doc__, public
        assert inspect.getdoc(getattr(module, public)), public
