"""The source of exercises: what is read, what is refused, and what a learner gets of it."""

import json
import re
from pathlib import Path

import pytest

from lectern.course import Course, CourseError, read_sources, write_course
from lectern.exercise import SourceError, plain, read_chapter, stub
from lectern.verify import verify

GOOD = """# Exercises: One

```{code-cell} python
import math
```

## A thing

```{exercise} thing
points: 1
difficulty: easy
minutes: 5
kind: implement
summary: "`thing()`: a thing."
```

Do it.

```{code-cell} python
given = 1
```

```{solution}
def thing():
    ### BEGIN SOLUTION
    return 42
    ### END SOLUTION
```

```{hint}
First.
```

```{hint}
Second.
```

```{mutant} other
misconception: it is 41
says: 41
old: "42"
new: "41"
```
"""


@pytest.fixture
def read(tmp_path):
    def from_text(text):
        path = tmp_path / "one.md"
        path.write_text(text)
        return read_chapter(path)

    return from_text


def test_all_parts_are_read(read):
    chapter = read(GOOD)
    (exercise,) = chapter.exercises
    assert chapter.title == "Exercises: One"
    assert (exercise.name, exercise.chapter, exercise.title) == ("thing", "one", "A thing")
    assert exercise.given == ("given = 1",)
    assert exercise.hints == ("First.", "Second.")
    assert exercise.mutants[0].code == "def thing():\n    return 41"
    assert plain(exercise.solution) == "def thing():\n    return 42"
    assert [name for _, name in chapter.cells(lambda e: e.stub)] == [None, None, "thing"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("points: 1", "points: one", "points, int"),
        ("easy", "trivial", "difficulty must be one of easy, medium, hard, but it is trivial"),
        ("implement", "write", "kind must be one of"),
        ("minutes: 5", "hours: 5", "minutes"),
        ("minutes: 5", "minutes: 5\ncolour: red", "colour"),
        ("minutes: 5", "minutes: [", "no YAML"),
        ("{exercise} thing", "{exercise} two words", "name"),
        ("{hint}", "{clue}", "clue"),
        ('old: "42"', 'old: "43"', "stands in the solution"),
        ("says: 41\n", "", "says"),
        ("# Exercises: One", "Exercises", "title"),
    ],
)
def test_a_mistake_is_named_with_the_file(read, old, new, said):
    with pytest.raises(SourceError, match="one.md") as found:
        read(GOOD.replace(old, new))
    assert said in str(found.value)


def test_lines_for_the_stub_take_the_solutions_place():
    code = "x = 0\n### BEGIN SOLUTION\n### STUB x = 1\n###STUB\nx = 2\n### END SOLUTION\ny = x"
    assert stub(code) == "x = 0\nx = 1\ny = x"
    assert plain(code).splitlines()[0] == "x = 0"


@pytest.mark.parametrize(
    "code",
    ["### BEGIN SOLUTION", "### END SOLUTION", "### BEGIN SOLUTION\n### BEGIN SOLUTION"],
)
def test_marks_must_come_in_pairs(code):
    with pytest.raises(SourceError):
        stub(code)


def test_names_must_be_unique_in_the_whole_course(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.md").write_text(GOOD)
    with pytest.raises(CourseError, match="'thing' is given in one and in two"):
        read_sources(tmp_path)


def test_what_learners_get_holds_nothing_of_the_solution(tmp_path, read):
    write_course([read(GOOD)], tmp_path / "exercises")
    for path in (tmp_path / "exercises").iterdir():
        text = path.read_text()
        assert "42" not in text
        assert "41" not in text
        assert "This is yours to write." in text


def test_the_index_is_read_back(tmp_path, read):
    write_course([read(GOOD)], tmp_path / "exercises")
    course = Course(tmp_path / "exercises")
    assert course.task("thing").hints == ("First.", "Second.")
    assert course.titles == {"one": "One"}
    with pytest.raises(CourseError, match="no exercise 'thin'; perhaps thing"):
        course.task("thin")
    with pytest.raises(CourseError, match="no chapter 'two'; there are one"):
        course.chapter("two")


@pytest.mark.parametrize("text", ["", "[]", '{"chapters": 1}', '{"chapters": [{"name": "x"}]}'])
def test_a_spoilt_index_is_named(tmp_path, text):
    (tmp_path / "exercises.json").write_text(text)
    with pytest.raises(CourseError, match=r"exercises.json is no index"):
        Course(tmp_path)


def test_a_missing_index_says_what_writes_it(tmp_path):
    with pytest.raises(CourseError, match="lectern release"):
        Course(tmp_path)


def test_release_is_the_same_each_time(tmp_path, read):
    for name in ("a", "b"):
        write_course([read(GOOD)], tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert json.loads((tmp_path / "a" / "one.ipynb").read_text())["nbformat"] == 4


def test_the_example_for_authors_proves_itself(tmp_path, sandbox):
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    source = re.search(r"````markdown\n(.*?)````\n", text, re.S)[1]
    check = re.search(r"```python\n(import pytest\n.*?)```\n", text, re.S)[1]
    (tmp_path / "odds.md").write_text(source, encoding="utf-8")
    (tmp_path / "test_odds.py").write_text(check, encoding="utf-8")
    report = verify(read_chapter(tmp_path / "odds.md"), tmp_path, sandbox, seeds=range(5))
    assert [str(finding) for finding in report.findings] == []
    assert report.killed == report.mutants == 3
