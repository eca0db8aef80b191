"""Submissions as they come: folders, single notebooks, archives; each student's notebooks found.

`Job`, `find_submissions`, `fingerprint`.

Nothing is unpacked and no link is followed: of an archive, notebooks are read in memory, and a
member's name serves only to tell its chapter.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

from lectern.course import Course
from lectern.notebooks import LARGEST, NotebookError, chapter_of, read_bytes
from lectern.text import clean

__all__ = ["Job", "find_submissions", "fingerprint"]

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_MOST_FILES = 200
_MOST_UNPACKED = 4 * LARGEST  # bytes of an archive


@dataclass
class Job:
    """What one student handed in."""

    student: str
    notebooks: dict[str, bytes] = field(default_factory=dict)
    """By chapter."""
    problems: dict[str, str] = field(default_factory=dict)
    """Chapters whose notebook cannot be read, and why."""
    notes: list[str] = field(default_factory=list)
    """What else an instructor should know."""
    modified: dict[str, float] = field(default_factory=dict)
    """When each chapter's notebook was last changed, in seconds since 1970."""
    pieces: dict[str, list[str]] = field(default_factory=dict)
    """For exercises of other notebooks that passed before, the statements that make them."""


@dataclass(frozen=True)
class _Found:
    """A notebook, or why there is none."""

    name: str
    content: bytes | None
    modified: float
    problem: str = ""


def find_submissions(folder: Path, course: Course) -> list[Job]:
    """Return what students handed in, in the order of their names.

    Parameters
    ----------
    folder : Path
        In it, a folder, an archive or a notebook for each student, of that name.
    course : Course
        Whose exercises they answered.

    Raises
    ------
    ValueError
        If there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise ValueError(f"SUBMISSIONS must be a folder, but {folder} is none.")
    jobs: dict[str, Job] = {}
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            job = jobs.setdefault(entry.name, Job(_name(entry.name)))
            found = list(_in_folder(path))
        elif path.name.lower().endswith((".ipynb", *_ARCHIVES)):
            student = _without_suffix(entry.name)
            job = jobs.setdefault(student, Job(_name(student)))
            found = list(_in_file(path, path.name))
        else:
            continue
        _sort_in(job, found, course)
    if not jobs:
        raise ValueError(
            f"SUBMISSIONS must hold a folder, an archive or a notebook for each student, but "
            f"{folder} has none."
        )
    shown = Counter(job.student for job in jobs.values())
    for entry_name, job in jobs.items():
        if shown[job.student] > 1:  # they differ in what cannot be shown
            mark = hashlib.sha256(entry_name.encode(errors="surrogateescape")).hexdigest()[:8]
            job.student += f" ({mark})"
    return [jobs[name] for name in sorted(jobs)]


def _name(name: str) -> str:
    return clean(name.encode(errors="surrogateescape").decode(errors="replace"), lines=False)


def _without_suffix(name: str) -> str:
    for suffix in (".ipynb", *_ARCHIVES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)] or name
    return name


def _in_folder(folder: Path) -> Iterator[_Found]:
    """Yield the notebooks of a folder, those of outer folders first."""
    count = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith(".") or not name.lower().endswith((".ipynb", *_ARCHIVES)):
                continue
            count += 1
            if count > _MOST_FILES:
                yield _Found("", None, 0, f"Only the first {_MOST_FILES} files were looked at.")
                return
            path = Path(place) / name
            yield from _in_file(path, str(path.relative_to(folder)))


def _in_file(path: Path, name: str) -> Iterator[_Found]:
    modified = path.lstat().st_mtime
    try:
        content = read_bytes(path)
    except NotebookError as error:
        yield _Found(name, None, modified, str(error))
        return
    if path.name.lower().endswith(".ipynb"):
        yield _Found(name, content, modified)
    else:
        yield from _in_archive(name, content, modified)


def _in_archive(name: str, content: bytes, modified: float) -> Iterator[_Found]:
    read = _in_zip if name.lower().endswith(".zip") else _in_tar
    left = _MOST_UNPACKED
    try:
        for count, (member, inside) in enumerate(read(content)):
            left -= len(inside)
            if count >= _MOST_FILES or left < 0:
                yield _Found(name, None, modified, f"Only its first {count} files were read.")
                return
            if len(inside) > LARGEST:
                yield _Found(member, None, modified, f"It has more than {LARGEST >> 20} MiB.")
            else:
                yield _Found(f"{name}/{member}", inside, modified)
    except Exception as error:  # whatever a made-up archive makes a reader of archives raise
        yield _Found(name, None, modified, f"The archive cannot be read: {type(error).__name__}.")


def _in_zip(content: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(BytesIO(content)) as archive:
        for member in archive.infolist():
            if not member.is_dir() and member.filename.lower().endswith(".ipynb"):
                with archive.open(member) as file:
                    yield member.filename, file.read(LARGEST + 1)


def _in_tar(content: bytes) -> Iterator[tuple[str, bytes]]:
    packed = content[:2] == b"\x1f\x8b"
    stream: Any = gzip.GzipFile(fileobj=BytesIO(content)) if packed else BytesIO(content)
    limited: Any = _Limited(stream)
    with tarfile.open(fileobj=limited, mode="r:") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith(".ipynb"):
                file = archive.extractfile(member)
                if file is not None:
                    yield member.name, file.read(LARGEST + 1)


class _Limited:
    """A file of which only so much is read: headers, too, may claim any size."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.left = file, _MOST_UNPACKED
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        """Return so many bytes."""
        self._take(size)
        return self.file.read(size)

    def seek(self, position: int) -> int:
        """Go on to a place, which costs what lies between."""
        self._take(position - self.tell())
        return self.file.seek(position)

    def _take(self, size: int) -> None:
        self.left -= abs(size)
        if self.left < 0:
            raise ValueError("too large")


def _sort_in(job: Job, found: list[_Found], course: Course) -> None:
    """Give each notebook its chapter; the first of a chapter counts."""
    for each in sorted(found, key=lambda f: (f.name.count("/"), f.name)):
        stem = PurePosixPath(each.name).stem
        name = clean(each.name, lines=False, most=200)
        if each.content is None:
            if stem in course.chapters and stem not in job.notebooks:
                job.problems[stem] = each.problem
                job.modified[stem] = each.modified
            else:
                job.notes.append(f"{name}: {each.problem}".removeprefix(": "))
            continue
        chapter = chapter_of(each.content, stem, course.chapters)
        if chapter is None:
            job.notes.append(f"{name}: it is of no chapter of this course.")
        elif chapter in job.notebooks:
            job.notes.append(f"{name}: there is another notebook of {chapter}, which was graded.")
        else:
            job.notebooks[chapter] = each.content
            job.modified[chapter] = each.modified
            job.problems.pop(chapter, None)


def fingerprint(job: Job) -> str:
    """Return text that is the same as long as what was handed in is."""
    parts = {name: hashlib.sha256(content).hexdigest() for name, content in job.notebooks.items()}
    return json.dumps([job.student, parts, job.problems, job.notes], sort_keys=True)
