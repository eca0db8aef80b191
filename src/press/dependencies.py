"""What a chapter's output depends on, and the cache key made of it.

A chapter is executed again when, and only when, something changes that its output depends on:

- its code cells, with the tags that change how a cell runs (prose and captions do not count);
- the modules of this project that it imports, directly or through other modules
  (`module_files`), by the bytes of their files;
- the versions of Python and of every distribution that the library stands on (`versions`);
- the device, the number of threads and the data profile;
- for a chapter whose imports lead to ``glassbox.datasets``: the checksums of the data.

Public names: `Conditions`, `module_files`, `cache_key`, `versions`, `device`, `data_checksums`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from nbformat import NotebookNode
from packaging.requirements import Requirement

DISTRIBUTION = "glassbox-book"
# A chapter that reads data leads to one of these.
DATA_MODULES = frozenset({"glassbox.datasets", "glassbox.downloads"})
# The tags that change what a cell computes or whether its failure counts.
RUNTIME_TAGS = frozenset({"raises-exception", "skip-execution"})
# Part of every key: raise it when the way in which chapters are executed changes their output.
RECIPE = 1


@dataclass(frozen=True)
class Conditions:
    """Everything outside the checkout that a chapter's output depends on.

    Parameters
    ----------
    profile
        The data profile, ``"sample"`` or ``"full"``.
    device
        What the chapters compute on: ``"cpu"``, ``"mps"`` or ``"cuda"``.
    threads
        The number of threads that each chapter's kernel may use.
    versions
        Version of Python and of each distribution, by name.
    device_name
        The model of the accelerator, when there is one: two models round differently.
    data
        SHA-256 of each data file of the profile, by name.
    """

    profile: str
    device: str
    threads: int
    versions: Mapping[str, str]
    device_name: str = ""
    data: Mapping[str, str] = field(default_factory=dict)


def imported_names(code: str) -> set[str]:
    """Return the dotted names that Python code imports, at any depth.

    ``from a import b`` gives both ``a`` and ``a.b``, since ``b`` may be a module. A string
    that is itself a dotted name is taken as an import too: that is how ``importlib`` is told.

    Raises
    ------
    SyntaxError
        When the code is not Python.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names.add(base)
            separator = "" if base.endswith(".") else "."
            names.update(f"{base}{separator}{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"\w+(\.\w+)+", node.value)
        ):
            names.add(node.value)
    return names


def cell_imports(source: str) -> set[str]:
    """Return the dotted names that a notebook cell imports; the cell may contain IPython magics."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return imported_names(TransformerManager().transform_cell(source))
    except SyntaxError:
        # A cell that shows a syntax error on purpose: what it names is taken to be imported.
        return set(re.findall(r"\w+(?:\.\w+)+|(?<=import )\w+", source))


def module_files(names: Iterable[str], source: Path) -> dict[str, Path]:
    """Return the files of this project that stand behind imported names.

    Follows imports from module to module, those inside functions included, and includes the
    ``__init__.py`` of each package on the way and each data file that a module names.

    Parameters
    ----------
    names
        Dotted names, as `cell_imports` gives them. Names of other projects are ignored.
    source
        The folder that holds the packages (``src``).

    Returns
    -------
    dict
        File by dotted module name; a data file is named by its path relative to ``source``.
    """
    found: dict[str, Path] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            module = ".".join(parts[:depth])
            if module in found:
                continue
            file = _file_of(parts[:depth], source)
            if file is None:
                # `from package import *` may bring any module of the package.
                if parts[depth - 1] == "*":
                    package = parts[: depth - 1]
                    modules = source.joinpath(*package).glob("[!_]*.py")
                    waiting += [".".join([*package, path.stem]) for path in modules]
                break
            found[module] = file
            waiting += _names_in(file, module)
            for data in _data_files(file, source / parts[0]):
                found[data.relative_to(source).as_posix()] = data
    return found


def _file_of(parts: list[str], source: Path) -> Path | None:
    path = source.joinpath(*parts)
    for candidate in (path / "__init__.py", path.with_name(path.name + ".py")):
        if candidate.is_file():
            return candidate
    return None


def _names_in(file: Path, module: str) -> list[str]:
    """Return what a module imports, relative imports made absolute."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    names = []
    for name in imported_names(file.read_text(encoding="utf-8")):
        level = len(name) - len(name.lstrip("."))
        if level:
            base = package[: len(package) - level + 1]
            name = ".".join([*base, *filter(None, [name.lstrip(".")])])
        names.append(name)
    return names


def _data_files(module: Path, package: Path) -> list[Path]:
    """Return the files beside the code that a module names in a string."""
    candidates = [
        path
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc", ".typed"}
    ]
    if not candidates:
        return []
    tree = ast.parse(module.read_text(encoding="utf-8"))
    named = {
        node.value.rsplit("/", 1)[-1]
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return [path for path in candidates if path.name in named]


def cache_key(notebook: NotebookNode, conditions: Conditions, source: Path) -> str:
    """Return the key of a chapter's output: equal keys mean that nothing needs to be executed.

    Parameters
    ----------
    notebook
        The chapter as it is written now.
    conditions
        Under which it would be executed.
    source
        The folder that holds the packages (``src``).

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    files = _files_behind(notebook, source)
    parts = {
        "recipe": RECIPE,
        "kernel": notebook.metadata.get("kernelspec", {}).get("name"),
        "cells": [
            [cell.source, sorted(RUNTIME_TAGS.intersection(cell.metadata.get("tags", [])))]
            for cell in cells
        ],
        "modules": {name: sha256(path) for name, path in files.items()},
        "versions": dict(conditions.versions),
        "machine": platform.machine(),
        "device": [conditions.device, conditions.device_name],
        "threads": conditions.threads,
        "profile": conditions.profile,
        "data": dict(conditions.data) if DATA_MODULES & files.keys() else {},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def uses_data(notebook: NotebookNode, source: Path) -> bool:
    """Say whether a chapter's imports lead to a module that reads data."""
    return bool(DATA_MODULES & _files_behind(notebook, source).keys())


def _files_behind(notebook: NotebookNode, source: Path) -> dict[str, Path]:
    code = (cell.source for cell in notebook.cells if cell.cell_type == "code")
    return module_files({name for cell in code for name in cell_imports(cell)}, source)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the version of Python and of each distribution that the library stands on.

    What a chapter prints and computes comes from the library's dependencies, from theirs, and
    from the kernel, so all of these count. Tools that only make the site do not.
    """
    result = {"python": platform.python_version()}
    waiting = [DISTRIBUTION, "ipykernel"]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in result:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        result[name] = distribution.version
        for line in distribution.requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    # The version of this project is not what its modules contain: their bytes are in the key.
    result.pop(DISTRIBUTION, None)
    return result


def device() -> tuple[str, str]:
    """Return the device that the chapters will choose, and the accelerator's model.

    Importing torch takes seconds, which an unchanged book should not cost, so it is asked only
    where there can be an accelerator.
    """
    named = os.environ.get("GLASSBOX_DEVICE", "")
    places = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    if named.startswith("cpu") or (
        not named and sys.platform == "linux" and not any(map(os.path.exists, places))
    ):
        return "cpu", ""
    import torch

    from glassbox.data import default_device

    chosen = default_device()
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else ""
    return str(chosen), name


def data_checksums(profile: str) -> dict[str, str]:
    """Return the SHA-256 of each data file of a profile.

    The `sample` profile reads what the distributions carry, and their versions are in the key.
    In the `full` profile a file that is there counts by its bytes, one that is still to be
    downloaded by the checksum that it will be held to.
    """
    if profile == "sample":
        return {}
    from glassbox.downloads import file_checksums

    return file_checksums(profile)
