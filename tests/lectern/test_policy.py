"""An instructor's decisions: what they change, and what is refused."""

from datetime import datetime

import pytest

from lectern.engine import Outcome
from lectern.grading import Result
from lectern.likeness import alike
from lectern.marks import counted_chapters, sheet_of
from lectern.policy import Policy, PolicyError, read_policy

DUE = datetime(2026, 12, 1, 12, 0).timestamp()
HOUR, DAY = 3600, 86_400
GOOD = """
chapters = ["first"]
[deadlines]
first = 2026-12-01T12:00:00
[extensions.ada]
first = 2
[submitted.eve]
first = 2026-12-01T11:00:00
[late]
grace_minutes = 30
percent_per_day = 10
most_percent = 25
[[override]]
student = "ada"
exercise = "twice"
points = 2
reason = "the check was wrong"
[[hand]]
student = "ada"
exercise = "shape_of_product"
points = 1.5
comment = "well put"
"""


@pytest.fixture
def read(course, tmp_path):
    def from_text(text):
        path = tmp_path / "grading.toml"
        path.write_text(text)
        return read_policy(path, course)

    return from_text


@pytest.mark.parametrize(
    ("student", "after", "percent"),
    [
        ("bob", -HOUR, 0),
        ("bob", HOUR / 2, 0),
        ("bob", HOUR, 10),
        ("bob", DAY + 1, 20),
        ("bob", 9 * DAY, 25),
        ("ada", 2 * DAY, 0),
        ("ada", 2 * DAY + HOUR, 10),
        ("eve", 9 * DAY, 0),
    ],
)
def test_lateness_costs_what_the_policy_says(read, student, after, percent):
    assert read(GOOD).late(student, "first", DUE + after)[1] == percent


def test_without_a_deadline_nothing_is_late(read):
    assert read("").late("bob", "first", DUE) == (0, 0)


def test_decisions_count_beside_the_checks(read, course):
    outcomes = [Outcome("twice", "a", 1.0, False, "wrong", "no"),
                Outcome("shape_of_product", "b", 1.0, True, "passed", "")]  # fmt: skip
    result = Result("ada", {"first": outcomes}, words={"shape_of_product": "Rows."},
                    modified={"first": DUE + 2 * DAY + HOUR})  # fmt: skip
    policy = read(GOOD)
    sheet = sheet_of(result, counted_chapters([result], course, policy), course, policy)
    points = {mark.task.name: mark.points for mark in sheet.marks}
    assert points["twice"] == 2
    assert points["shape_of_product"] == 2.5
    assert sheet.points == pytest.approx(0.9 * 4.5)
    assert not any(mark.waits for mark in sheet.marks)
    assert sheet_of(result, ["first"], course, Policy()).marks[3].waits


def test_a_chapter_that_counts_and_was_not_handed_in_is_worth_nothing(course):
    sheet = sheet_of(Result("ada"), ["first", "second"], course, Policy())
    assert (sheet.points, sheet.most) == (0, 8 + 2 + 2)
    assert {mark.verdict for mark in sheet.marks} == {"not handed in"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "grading.toml"),
        ("colour = 1", "colour is not known"),
        ('chapters = ["third"]', "no chapter 'third'"),
        ("[deadlines]\nthird = 2026-01-01T00:00:00", "no chapter 'third'"),
        ("[deadlines]\nfirst = 2026-01-01", "a date with a time"),
        ("[late]\npercent = 3", "late.percent is not known"),
        ("[late]\npercent_per_day = -1", "from 0 to 100, but it is -1"),
        ("[extensions]\nada = 1", "a table for each student"),
        ('[[hand]]\nstudent = "a"\nexercise = "none"\npoints = 1', "no exercise 'none'; there are"),
        (
            '[[hand]]\nstudent = "a"\nexercise = "twice"\npoints = 1',
            "twice asks for no answer in prose",
        ),
        ('[[override]]\nexercise = "twice"\npoints = 1', "needs a student"),
        ('[[override]]\nstudent = "a"\nexercise = "twice"\npoints = 9', "from 0 to 2"),
        (2 * '[[override]]\nstudent = "a"\nexercise = "twice"\npoints = 1\n', "already"),
        ('[[override]]\nstudent = "a"\nexercise = "twice"\nwhy = "x"', "why is not known"),
    ],
)
def test_a_mistake_is_named(read, text, said):
    with pytest.raises(PolicyError) as found:
        read(text)
    assert said in str(found.value)


LONG = "\n".join(f"def f{i}(x):\n    return [v * {i} for v in x if v > {i}] + sorted(x)[{i}:]"
                 for i in range(5))  # fmt: skip


def test_the_same_code_with_other_names_is_found():
    renamed = LONG.replace("x", "values").replace("v ", "each ").replace("def f", "def g")
    body = "    def run(self, *a, **k):\n        while a:\n            a = a[1:]\n        return k"
    other = "\n".join(f"class C{i}:\n{body}" for i in range(5))
    pairs = alike({"ada": LONG, "bob": f"# mine\n{renamed}", "cleo": other, "dan": "x = 1"})
    assert [(pair.first, pair.second) for pair in pairs] == [("ada", "bob")]


def test_code_that_is_no_python_is_compared_as_far_as_it_goes():
    assert alike({"ada": "(((", "bob": "'''"}) == []
