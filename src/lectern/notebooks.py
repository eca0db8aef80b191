"""Notebooks: the one that a learner gets, and the one that comes back, in whatever state.

`release`; `read_bytes`, `chapter_of`, `code_cells`, `defined`, `pieces_from`,
`prose_answers`, `NotebookError`.
"""

from __future__ import annotations

import ast
import json
import os
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import nbformat

from lectern.exercise import Chapter, Code, Exercise
from lectern.watched import LONGEST

__all__ = [
    "LARGEST",
    "Cell",
    "NotebookError",
    "chapter_of",
    "code_cells",
    "defined",
    "pieces_from",
    "prose_answers",
    "read_bytes",
    "release",
]

LARGEST = 20 << 20
"""Bytes of a notebook that is read."""
_MOST_CELLS = 2000
_PLACE_FOR_WORDS = "*Your words go here.*"


@dataclass(frozen=True)
class Cell:
    """A code cell of a notebook."""

    code: str
    exercise: str | None = None
    """What it is the answer to, if it is one."""


class NotebookError(ValueError):
    """A notebook that cannot be read; the text says why, in one sentence."""


def release(chapter: Chapter) -> nbformat.NotebookNode:
    """Return the notebook that a learner gets: prompts, stubs and a check of each."""
    cells = [_markdown(f"# {chapter.title}", "title")]
    cells.append(_code("from lectern import check", "start"))
    for i, part in enumerate(chapter.parts):
        if isinstance(part, Exercise):
            cells += _cells_of(part)
        elif isinstance(part, Code):
            cells.append(_code(part.text, f"code-{i}"))
        else:
            cells.append(_markdown(part, f"text-{i}"))
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "lectern": {"chapter": chapter.name},
    }
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)  # type: ignore[no-any-return, no-untyped-call]


def _cells_of(exercise: Exercise) -> list[nbformat.NotebookNode]:
    name = exercise.name
    worth = f"{exercise.points} point{'s' * (exercise.points > 1)}"
    if exercise.hand:
        worth += f" and {exercise.hand} for your words"
    facts = f"*{worth} · {exercise.difficulty} · about {exercise.minutes} minutes*"
    cells = [_markdown(f"## {exercise.title}\n\n{facts}\n\n{exercise.prompt}", f"{name}-prompt")]
    cells += [_code(given, f"{name}-given-{i}") for i, given in enumerate(exercise.given)]
    cells.append(_code(exercise.stub, name, exercise=name))
    if exercise.hand:
        cells.append(_markdown(_PLACE_FOR_WORDS, f"{name}-words", words=name))
    cells.append(_code(f'check("{name}")', f"{name}-check"))
    return cells


def _markdown(text: str, name: str, **facts: str) -> nbformat.NotebookNode:
    metadata = {"lectern": facts} if facts else {}
    return nbformat.v4.new_markdown_cell(text, id=name, metadata=metadata)  # type: ignore[no-any-return, no-untyped-call]


def _code(text: str, name: str, **facts: str) -> nbformat.NotebookNode:
    metadata = {"lectern": facts} if facts else {}
    return nbformat.v4.new_code_cell(text, id=name, metadata=metadata)  # type: ignore[no-any-return, no-untyped-call]


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, if it is a plain file of a size that notebooks have.

    Raises
    ------
    NotebookError
        If it is a link, a device, a folder, too large or unreadable.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = (
            "is a link, which is not followed"
            if path.is_symlink()
            else f"is unreadable: {error.strerror}"
        )
        raise NotebookError(f"The notebook {what}.") from None
    with os.fdopen(number, "rb") as file:
        facts = os.fstat(number)
        if not stat.S_ISREG(facts.st_mode):
            raise NotebookError("The notebook is no plain file.")
        if facts.st_size > LARGEST:
            raise NotebookError(
                f"The notebook has {facts.st_size >> 20} MiB, but at most {LARGEST >> 20} MiB are "
                "read: clear its outputs."
            )
        return file.read(LARGEST + 1)


def _cells(content: bytes) -> list[dict[str, Any]]:
    """Return the cells of a notebook of any version of the format, as far as they are sound."""
    try:
        notebook = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise NotebookError(
            f"The notebook is not valid JSON ({error}): open it and save it again."
        ) from None
    if not isinstance(notebook, dict):
        raise NotebookError("The notebook is JSON, but no notebook.")
    cells = notebook.get("cells")
    sheets = notebook.get("worksheets")
    if cells is None and isinstance(sheets, list):  # before version 4 of the format
        cells = [
            cell
            for sheet in sheets
            if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list)
            for cell in sheet["cells"]
        ]
    if not isinstance(cells, list):
        raise NotebookError("The notebook is JSON, but has no cells.")
    return [cell for cell in cells[:_MOST_CELLS] if isinstance(cell, dict)]


def _source(cell: dict[str, Any]) -> str:
    text = cell.get("source", cell.get("input", ""))
    if isinstance(text, list):
        text = "".join(line for line in text if isinstance(line, str))
    return text if isinstance(text, str) else ""


def _fact(cell: dict[str, Any], key: str) -> str | None:
    metadata = cell.get("metadata")
    facts = metadata.get("lectern") if isinstance(metadata, dict) else None
    found = facts.get(key) if isinstance(facts, dict) else None
    return found if isinstance(found, str) else None


def code_cells(content: bytes, names: Collection[str]) -> list[Cell]:
    """Return the code cells of a notebook, in order, each with the exercise that it answers.

    A cell answers an exercise if its metadata say so, else if its id does, else if it defines the
    name: notebooks come back with cells retyped, moved, copied, and stripped of what tools add.

    Parameters
    ----------
    content : bytes
        Of the file.
    names : collection of str
        Of the exercises that the notebook should have.

    Raises
    ------
    NotebookError
        If it is no notebook.
    """
    found = []
    for cell in _cells(content):
        code = _source(cell)
        if not code.strip() or cell.get("cell_type") == "markdown":
            continue
        said = _fact(cell, "exercise") or cell.get("id")
        exercise = said if isinstance(said, str) and said in names else defined(code, names)
        if cell.get("cell_type") == "code" or exercise is not None:  # also if it was made raw
            found.append(Cell(code, exercise))
    return found


def defined(code: str, names: Collection[str]) -> str | None:
    """Return the exercise whose name a cell defines, if there is one."""
    for node in _parsed(code):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            return node.name
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Name) and target.id in names:
                return target.id
    return None


def chapter_of(content: bytes, stem: str, chapters: Mapping[str, Sequence[Named]]) -> str | None:
    """Return the chapter that a notebook is of, if it is of one.

    Its metadata say so, else its file's name, else the exercises that its cells answer. What cannot
    be read is of the chapter that its name says.

    Parameters
    ----------
    content : bytes
    stem : str
        The file's name, without ending.
    chapters : mapping of str to sequence
        The exercises of each.
    """
    try:
        notebook = json.loads(content)
        said = notebook["metadata"]["lectern"]["chapter"]
        if said in chapters:
            return str(said)
    except (ValueError, RecursionError, KeyError, TypeError):
        pass
    if stem in chapters:
        return stem
    best, most = None, 0
    for chapter, tasks in chapters.items():
        try:
            cells = code_cells(content, {task.name for task in tasks})
        except NotebookError:
            return None
        found = len({cell.exercise for cell in cells} - {None})
        if found > most:
            best, most = chapter, found
    return best


class Named(Protocol):
    """Something with a name, such as an exercise."""

    @property
    def name(self) -> str:
        """Its name."""
        ...


def pieces_from(cells: Sequence[Cell], passed: Iterable[str]) -> dict[str, list[str]]:
    """Return for each exercise that passed the statements that make what it asks for.

    They are those of its cell and of the cells above that bind a name which is needed; what a
    notebook prints, draws, checks or trains beside that is left out. Of a notebook that nobody
    would write, too long or nested too deeply, there are none.
    """
    if sum(len(cell.code) for cell in cells) > LONGEST:
        return {}
    parsed = [_parsed(cell.code) for cell in cells]
    last = {cell.exercise: number for number, cell in enumerate(cells) if cell.exercise}
    found = {}
    for name in passed:
        if name in last:
            with suppress(RecursionError):
                found[name] = _statements_for(name, parsed[: last[name] + 1])
    return {name: statements for name, statements in found.items() if statements}


def _statements_for(name: str, cells: Sequence[list[ast.stmt]]) -> list[str]:
    needed, found = {name}, []
    for statements in reversed(cells):
        for statement in reversed(statements):
            bound, used = _names(statement)
            if bound & needed or "*" in bound:
                needed |= used
                found.append(ast.unparse(statement))
    return found[::-1]


def _names(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """Return the names that a statement binds, or changes, and those that it uses."""
    used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}, used
    bound = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            inner: ast.AST = node  # as in `Model.forward = …`
            while isinstance(inner, ast.Attribute | ast.Subscript):
                inner = inner.value
            bound |= {inner.id} if isinstance(inner, ast.Name) else set()
    return bound, used


def _parsed(code: str) -> list[ast.stmt]:
    """Return the statements of a cell, of which there are none if it is no Python."""
    if len(code) > LONGEST:
        return []
    try:
        return ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def prose_answers(content: bytes) -> dict[str, str]:
    """Return what was written by hand, by exercise."""
    answers = {}
    for cell in _cells(content):
        name = _fact(cell, "words")
        if name is None and isinstance(cell.get("id"), str):
            before, found, _ = cell["id"].rpartition("-words")
            name = before if found else None
        text = _source(cell).strip()
        if name is not None and text and text != _PLACE_FOR_WORDS:
            answers[name] = text
    return answers
