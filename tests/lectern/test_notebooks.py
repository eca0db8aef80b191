"""Notebooks and folders as they come back: graded as far as possible, or a clear reason."""

import io
import json
import os
import tarfile
import zipfile

import pytest

from lectern.notebooks import LARGEST, NotebookError, chapter_of, code_cells, read_bytes
from lectern.notebooks import prose_answers as words
from lectern.submissions import find_submissions, fingerprint

NAMES = {"twice", "total", "Counter", "shape_of_product", "step"}


def as_json(content):
    return json.loads(content)


def test_cells_are_known_by_their_metadata(notebook):
    found = code_cells(notebook(), NAMES)
    assert [cell.exercise for cell in found if cell.exercise] == [
        "twice", "total", "Counter", "shape_of_product", "step",
    ]  # fmt: skip


def test_cells_without_metadata_are_known_by_what_they_define(notebook):
    raw = as_json(notebook())
    for cell in raw["cells"]:
        cell.pop("id")
        cell["metadata"] = {}
    found = code_cells(json.dumps(raw).encode(), NAMES)
    assert {cell.exercise for cell in found} - {None} == NAMES


def test_duplicates_stay_in_order(notebook):
    raw = as_json(notebook())
    raw["cells"] += raw["cells"]
    names = [cell.exercise for cell in code_cells(json.dumps(raw).encode(), NAMES)]
    assert names.count("twice") == 2


def test_a_cell_that_was_made_raw_is_still_an_answer(notebook):
    raw = as_json(notebook())
    for cell in raw["cells"]:
        if cell.get("id") == "twice":
            cell["cell_type"] = "raw"
    assert "twice" in {cell.exercise for cell in code_cells(json.dumps(raw).encode(), NAMES)}


def test_a_notebook_of_version_3_is_read():
    cells = [{"cell_type": "code", "input": ["def twice(x):\n", "    return x"], "metadata": {}}]
    old = {"nbformat": 3, "worksheets": [{"cells": cells}], "metadata": {}}
    (cell,) = code_cells(json.dumps(old).encode(), NAMES)
    assert (cell.exercise, cell.code) == ("twice", "def twice(x):\n    return x")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"null", b"[" * 100_000, b"\xff\xfe", b'{"cells": 3}', b"{}",
     b'{"worksheets": [3]', b"<html>"],
)  # fmt: skip
def test_what_is_no_notebook_is_refused_in_a_sentence(content):
    with pytest.raises(NotebookError, match="The notebook is"):
        code_cells(content, NAMES)


@pytest.mark.parametrize(
    "cells",
    ['[null, 3, "x", []]', '[{"source": 3}]', '[{"cell_type": "code"}]',
     '[{"cell_type": "code", "source": [1, null]}]', '[{"cell_type": 3, "metadata": 3, "id": 3}]'],
)  # fmt: skip
def test_unsound_cells_are_passed_over(cells):
    assert code_cells(f'{{"cells": {cells}}}'.encode(), NAMES) == []


def test_links_devices_and_huge_files_are_not_read(tmp_path):
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(500 << 20)
    for name, said in (("link", "is a link"), ("pipe", "no plain file"), ("huge", "500 MiB"),
                       ("none", "unreadable")):  # fmt: skip
        with pytest.raises(NotebookError, match=said):
            read_bytes(tmp_path / name)
    assert LARGEST < 500 << 20


def test_the_chapter_is_told_by_metadata_name_or_answers(notebook, course):
    content = notebook("first")
    stripped = as_json(content)
    stripped["metadata"] = {}
    bare = json.dumps(stripped).encode()
    assert chapter_of(content, "anything", course.chapters) == "first"
    assert chapter_of(bare, "second", course.chapters) == "second"
    assert chapter_of(bare, "hw1 (2)", course.chapters) == "first"
    assert chapter_of(b"{", "first", course.chapters) == "first"
    assert chapter_of(b'{"cells": []}', "notes", course.chapters) is None


def test_words_are_found(notebook):
    def write(made):
        for cell in made.cells:
            if cell.id == "shape_of_product-words":
                cell.source = "Rows meet columns."

    assert words(notebook(change=write)) == {"shape_of_product": "Rows meet columns."}


def test_every_usual_layout_is_found(tmp_path, course, notebook):
    folder = tmp_path / "in"
    (folder / "ada" / "first").mkdir(parents=True)
    (folder / "ada" / "first" / "first.ipynb").write_bytes(notebook())
    (folder / "ada" / "second.ipynb").write_bytes(notebook("second"))
    (folder / "ada" / ".ipynb_checkpoints").mkdir()
    (folder / "ada" / ".ipynb_checkpoints" / "first.ipynb").write_text("{")
    (folder / "bob.ipynb").write_bytes(notebook())
    with zipfile.ZipFile(folder / "cleo.zip", "w") as archive:
        archive.writestr("../../evil/first.ipynb", notebook())
        archive.writestr("/etc/passwd", "x")
    with tarfile.open(folder / "dan.tar.gz", "w:gz") as archive:
        for name, content in (("x/first.ipynb", notebook()), ("../../up.ipynb", b"{}")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("second.ipynb")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    (folder / "eve.zip").write_bytes(b"PK nonsense")
    (folder / "notes.txt").write_text("not a submission")
    jobs = {job.student: job for job in find_submissions(folder, course)}
    assert set(jobs) == {"ada", "bob", "cleo", "dan", "eve"}
    assert set(jobs["ada"].notebooks) == {"first", "second"}
    assert [set(jobs[name].notebooks) for name in ("bob", "cleo", "dan")] == [{"first"}] * 3
    assert "no chapter" in jobs["dan"].notes[0]
    assert "archive cannot be read" in jobs["eve"].notes[0]
    assert not (tmp_path / "evil").exists()


def test_names_that_look_alike_stay_two_students(tmp_path, course, notebook):
    names = ["ada\u200b", "ada\u200c"]  # spaces of no width, which cannot be shown
    for name in names:
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "first.ipynb").write_bytes(notebook())
    jobs = find_submissions(tmp_path / "in", course)
    assert len({job.student for job in jobs}) == 2
    assert all(job.student.startswith("ada") for job in jobs)


def test_of_two_notebooks_of_a_chapter_the_outer_counts(tmp_path, course, notebook):
    own = tmp_path / "in" / "ada"
    (own / "old").mkdir(parents=True)
    (own / "first.ipynb").write_bytes(notebook(total="new = 1"))
    (own / "old" / "first.ipynb").write_bytes(notebook(total="old = 1"))
    (job,) = find_submissions(tmp_path / "in", course)
    assert b"new = 1" in job.notebooks["first"]
    assert "another notebook of first" in job.notes[0]


def test_a_broken_notebook_is_a_problem_of_its_chapter(tmp_path, course):
    own = tmp_path / "in" / "ada"
    own.mkdir(parents=True)
    (own / "first.ipynb").symlink_to("/etc/passwd")
    (job,) = find_submissions(tmp_path / "in", course)
    assert "is a link" in job.problems["first"]
    assert not job.notebooks


def test_an_archive_that_unpacks_to_much_is_read_no_further(tmp_path, course):
    folder = tmp_path / "in"
    folder.mkdir()
    with zipfile.ZipFile(folder / "ada.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("first.ipynb", b" " * (LARGEST + 10))
    (job,) = find_submissions(folder, course)
    assert "more than" in job.problems["first"]


def test_an_empty_folder_is_refused(tmp_path, course):
    with pytest.raises(ValueError, match="has none"):
        find_submissions(tmp_path / "exercises" / "checks", course)
    with pytest.raises(ValueError, match="must be a folder"):
        find_submissions(tmp_path / "nothing", course)


def test_the_fingerprint_changes_with_what_was_handed_in(tmp_path, course, notebook):
    own = tmp_path / "in" / "ada"
    own.mkdir(parents=True)
    (own / "first.ipynb").write_bytes(notebook())
    before = fingerprint(find_submissions(tmp_path / "in", course)[0])
    os.utime(own / "first.ipynb", (1, 1))
    assert fingerprint(find_submissions(tmp_path / "in", course)[0]) == before
    (own / "first.ipynb").write_bytes(notebook(total="x = 1"))
    assert fingerprint(find_submissions(tmp_path / "in", course)[0]) != before
