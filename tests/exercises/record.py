"""Write and execute the solved notebooks of `recorded/`, with which the tests compare.

``python tests/exercises/record.py [CHAPTER]...``, after an exercise or its checks changed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from lectern.course import read_sources
from lectern.exercise import Chapter, plain
from lectern.notebooks import release

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).parent / "recorded"


def solved(chapter: Chapter) -> nbformat.NotebookNode:
    """Return a chapter's notebook with its solutions."""
    notebook = release(chapter)
    answers = {exercise.name: plain(exercise.solution) for exercise in chapter.exercises}
    for cell in notebook.cells:
        name = cell.metadata.get("lectern", {}).get("exercise")
        if name is not None:
            cell.source = answers[name]
    return notebook


def copy_of_exercises(folder: Path) -> Path:
    """Copy what learners have, so that nothing is remembered among their own files."""
    target = folder / "exercises"
    shutil.copytree(ROOT / "exercises", target, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    return target


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return outputs in which what was printed in one go is one, however it arrived."""
    found: list[nbformat.NotebookNode] = []
    for output in outputs:
        same = found and output.output_type == found[-1].output_type == "stream"
        if same and output.name == found[-1].name:
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def main() -> None:
    """Record the chapters that are named, or all."""
    RECORDED.mkdir(exist_ok=True)
    for chapter in read_sources(ROOT / "solutions"):
        if sys.argv[1:] and chapter.name not in sys.argv[1:]:
            continue
        notebook = solved(chapter)
        with tempfile.TemporaryDirectory() as folder:
            where = {"metadata": {"path": str(copy_of_exercises(Path(folder)))}}
            NotebookClient(notebook, timeout=300, resources=where).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":
                cell.outputs = joined(cell.outputs)
        text = nbformat.writes(notebook) + "\n"
        if "✗" in text:
            sys.exit(f"{chapter.name}: a solution fails; `lectern verify {chapter.name}` says why.")
        (RECORDED / f"{chapter.name}.ipynb").write_text(text, encoding="utf-8")
        print(chapter.name, flush=True)


if __name__ == "__main__":
    main()
