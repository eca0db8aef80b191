"""What learners have of the exercises: the folder `exercises/`, and its index.

`Course`, `Task`, `Answer`, `CourseError`, `find_course`, `library_folder`; `read_sources`,
`write_course`.

The index, `exercises/exercises.json`, says of each exercise what a learner may know: title, points,
hints, stub; nothing of solutions. It is written from the sources, together with the notebooks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import yaml

from lectern.exercise import Chapter, Exercise, read_chapter
from lectern.notebooks import release

__all__ = [
    "Course",
    "CourseError",
    "Task",
    "find_course",
    "library_folder",
    "read_sources",
    "write_course",
]

INDEX = "exercises.json"
BACKUPS = ".backups"
_MOST_NAMES = 30  # in a sentence


class CourseError(ValueError):
    """Exercises that are missing or cannot be read; the text says which and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: how it came to that would not help a learner."""
        return [str(self)]


@dataclass(frozen=True)
class Task:
    """What a learner may know of an exercise."""

    name: str
    chapter: str
    title: str
    summary: str
    points: int
    difficulty: str
    minutes: int
    kind: str
    stub: str
    prompt: str
    hints: tuple[str, ...]
    hides: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    book: str = ""
    hand: int = 0

    @classmethod
    def of(cls, exercise: Exercise) -> Task:
        """Return what a learner may know of an exercise."""
        return cls(**{name: getattr(exercise, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Answer:
    """What a notebook has for an exercise."""

    code: str
    forbids: tuple[str, ...] = ()
    stub: str = ""

    @property
    def untouched(self) -> bool:
        """Whether it is the stub as it was given out."""
        return self.code.split() == self.stub.split()


class Course:
    """The exercises of a folder.

    Parameters
    ----------
    folder : Path
        With the index, the notebooks and `checks/`.

    Raises
    ------
    CourseError
        If there is no index, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            chapters = json.loads((folder / INDEX).read_text(encoding="utf-8"))["chapters"]
            self.chapters: dict[str, tuple[Task, ...]] = {
                chapter["name"]: tuple(_task(facts) for facts in chapter["exercises"])
                for chapter in chapters
            }
            """The exercises of each chapter, in the book's order."""
            self.titles: dict[str, str] = {each["name"]: each["title"] for each in chapters}
        except FileNotFoundError:
            raise CourseError(
                f"{folder} has no {INDEX}: it is written by `lectern release`."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CourseError(f"{folder / INDEX} is no index of exercises: {error!r}") from None

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """All exercises, by name, in the book's order."""
        return {task.name: task for tasks in self.chapters.values() for task in tasks}

    @property
    def checks(self) -> Path:
        """The folder of the checks."""
        return self.folder / "checks"

    def task(self, name: str) -> Task:
        """Return an exercise.

        Raises
        ------
        CourseError
            If there is none of that name; similar names are told.
        """
        if name in self.chapters and name not in self.tasks:
            own = ", ".join(task.name for task in self.chapters[name])
            raise CourseError(f"{name} is a chapter; its exercises are {own}.")
        if name not in self.tasks:
            raise CourseError(unknown_name("exercise", name, self.tasks))
        return self.tasks[name]

    def chapter(self, name: str) -> tuple[Task, ...]:
        """Return the exercises of a chapter.

        Raises
        ------
        CourseError
            If there is no such chapter; similar names are told.
        """
        if name in self.tasks and name not in self.chapters:
            chapter = self.tasks[name].chapter
            raise CourseError(f"{name} is an exercise; the chapter that it is of is {chapter}.")
        if name not in self.chapters:
            raise CourseError(unknown_name("chapter", name, self.chapters))
        return self.chapters[name]

    def notebook(self, chapter: str) -> Path:
        """Return where a learner's notebook is."""
        return self.folder / f"{chapter}.ipynb"

    def check_files(self, chapters: Iterable[str] | None = None) -> list[Path]:
        """Return the files of checks."""
        names = self.chapters if chapters is None else chapters
        return [check_file(self.checks, name) for name in names]

    def hides(self, chapter: str) -> tuple[str, ...]:
        """Return the modules that a chapter's notebook cannot import."""
        return tuple(sorted({name for task in self.chapter(chapter) for name in task.hides}))

    def books(self, chapter: str) -> dict[str, str]:
        """Return what the library has in the place of exercises of other chapters."""
        return {t.name: t.book for t in self.tasks.values() if t.book and t.chapter != chapter}

    def answers(self, chapter: str, codes: Mapping[str, str]) -> dict[str, Answer]:
        """Return what was answered to each exercise, with what it should do without."""
        return {
            task.name: Answer(codes.get(task.name, ""), task.forbids, task.stub)
            for task in self.chapter(chapter)
        }


def check_file(folder: Path, chapter: str) -> Path:
    """Return where the checks of a chapter are."""
    return folder / f"test_{chapter.replace('-', '_')}.py"


def _task(facts: Mapping[str, Any]) -> Task:
    lists = ("hints", "hides", "forbids")
    own: dict[str, Any] = {k: tuple(v) if k in lists else v for k, v in facts.items()}
    return Task(**own)


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return a sentence on a name that is not there, with those that are like it."""
    names = list(known)
    if near := similar(name, names):
        return f"There is no {what} {name!r}; perhaps {' or '.join(near)}?"
    if len(names) > _MOST_NAMES:
        return f"There is no {what} {name!r}, and none whose name is like it."
    return f"There is no {what} {name!r}; there are {', '.join(names)}."


def similar(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that somebody may have meant, at most three."""
    by_letters = {each.casefold(): each for each in names}
    return [by_letters[each] for each in get_close_matches(name.casefold(), by_letters, 3, 0.65)]


def find_course(begin: Path) -> Course:
    """Return the exercises of a folder, of its folder `exercises`, or of the nearest one above.

    Raises
    ------
    CourseError
        If there are none.
    """
    for folder in (begin, *begin.absolute().parents):
        for place in (folder, folder / "exercises"):
            if (place / INDEX).is_file():
                return Course(place)
    raise CourseError(
        f"Neither {begin.absolute()} nor a folder above it has exercises ({INDEX}): go to the "
        "folder of your exercises, or name it with --course."
    )


def library_folder() -> Path:
    """Return the folder of the package `glassbox` that is installed here."""
    spec = find_spec("glassbox")
    if spec is None or spec.origin is None:
        raise CourseError("glassbox is not installed here: name its folder with --library.")
    return Path(spec.origin).parent


def read_sources(folder: Path) -> list[Chapter]:
    """Return the sources of a folder, in the order of the book beside it.

    Raises
    ------
    SourceError
        If one is not of the form.
    CourseError
        If two exercises have one name.
    """
    chapters = {path.stem: read_chapter(path) for path in sorted(folder.glob("*.md"))}
    order = [name for name in _book_order(folder.parent / "book" / "_toc.yml") if name in chapters]
    order += [name for name in chapters if name not in order]
    found = [chapters[name] for name in order]
    seen: dict[str, str] = {}
    for chapter in found:
        for exercise in chapter.exercises:
            if exercise.name in seen:
                raise CourseError(
                    f"The name {exercise.name!r} is given in {seen[exercise.name]} and in "
                    f"{chapter.name}; names must be unique."
                )
            seen[exercise.name] = chapter.name
    return found


def _book_order(toc: Path) -> list[str]:
    try:
        parts = yaml.safe_load(toc.read_text(encoding="utf-8"))["parts"]
        return [each["file"] for part in parts for each in part["chapters"]]
    except (OSError, KeyError, TypeError):
        return []


def write_course(
    chapters: Sequence[Chapter], folder: Path, *, only: Collection[str] = ()
) -> list[Path]:
    """Write the notebooks and the index that learners get.

    A notebook that is there and differs is kept as a copy in the folder ``.backups``.

    Parameters
    ----------
    chapters : sequence of Chapter
        All of them, for the index.
    folder : Path
    only : collection of str
        The chapters whose notebooks to write; all if empty.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    CourseError
        If `only` names a chapter that is not there.
    """
    if unknown := set(only) - {chapter.name for chapter in chapters}:
        raise CourseError(f"There is no source of a chapter {', '.join(sorted(unknown))}.")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for chapter in chapters:
        if only and chapter.name not in only:
            continue
        path = folder / f"{chapter.name}.ipynb"
        text = nbformat.writes(release(chapter)) + "\n"  # type: ignore[no-untyped-call]
        if path.exists() and path.read_text(encoding="utf-8") != text:
            backup = folder / BACKUPS / f"{chapter.name}-{datetime.now():%Y-%m-%d-%H%M%S}.ipynb"
            backup.parent.mkdir(exist_ok=True)
            backup.write_bytes(path.read_bytes())
        path.write_text(text, encoding="utf-8")
        written.append(path)
    index = {
        "chapters": [
            {
                "name": chapter.name,
                "title": chapter.title.removeprefix("Exercises: "),
                "exercises": [asdict(Task.of(exercise)) for exercise in chapter.exercises],
            }
            for chapter in chapters
        ]
    }
    path = folder / INDEX
    path.write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*written, path]
