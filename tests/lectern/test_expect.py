"""What a check says: what was expected, what came back, of what, and why."""

import re

import numpy as np
import pytest
import torch

from lectern import expect
from lectern.exercise import UNWRITTEN
from lectern.expect import Failure
from lectern.student import Raised, Student
from lectern.text import cell, clean
from lectern.values import show, show_call
from lectern.wire import Opaque, decode, encode


class Answers:
    """A transport that answers with what a function returns."""

    def __init__(self, function):
        self.function = function

    def ask(self, request, seconds):
        request = decode(encode(request))
        try:
            value = self.function(*request["args"], **request["kwargs"])
        except Exception as error:
            return {"error": {"type": type(error).__name__, "message": str(error), "line": []}}
        return {"value": value, "forbidden": []}


@pytest.mark.parametrize(
    "got",
    [
        [1.0, 2.0],
        (1, 2),
        np.array([1.0, 2.0]),
        torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True),
        torch.tensor([[1.0, 9.0], [2.0, 9.0]])[:, 0],
        [torch.tensor(1.0), torch.tensor(2.0)],
    ],
)
def test_numbers_in_any_form_are_accepted(got):
    expect.close(got, torch.tensor([1.0, 2.0]), of="f()")


@pytest.mark.parametrize("got", [None, "1", b"1", {"a": 1}, [[1], [1, 2]], Opaque("Linear", 0), 1j])
def test_what_is_no_number_is_named(got):
    with pytest.raises(Failure, match=r"f\(\) should return numbers"):
        expect.close(got, 1.0, of="f()")


def test_a_wrong_shape_is_told():
    with pytest.raises(Failure, match=r"shape \(2,\), but it has \(1,\)"):
        expect.close([1.0], [1.0, 2.0], of="f()")


def test_a_wrong_value_is_told_with_the_input_and_the_mistake():
    with pytest.raises(Failure) as found:
        expect.close(3.0, 2.0, of="f(x)", given=[1.0], unless={"You added.": 3.0, "Other.": 4.0})
    assert str(found.value) == "f(x) should be 2 for [1], but it is 3. You added."


def test_nan_equals_nan_only():
    expect.close(float("nan"), torch.tensor(float("nan")), of="f()")
    with pytest.raises(Failure):
        expect.close(float("nan"), 1.0, of="f()")


def test_agrees_calls_the_function_and_both_references():
    student = Student(Answers(lambda x: x * 3))
    with pytest.raises(Failure, match=r"double\(\[1\]\) should be \[2\].*You tripled\."):
        expect.agrees(
            student, "double", torch.ones(1), right=lambda x: x * 2,
            wrong={"You tripled.": lambda x: x * 3},
        )  # fmt: skip


def test_raises_accepts_the_type_alone():
    def refuse(x):
        raise ValueError("no")

    expect.raises(Student(Answers(refuse)), "f", 1, kind="ValueError", because="it must")
    with pytest.raises(
        Failure, match="should raise a TypeError, it must, but it raised ValueError"
    ):
        expect.raises(Student(Answers(refuse)), "f", 1, kind="TypeError", because="it must")
    with pytest.raises(Failure, match="but it returned 1"):
        expect.raises(Student(Answers(lambda x: x)), "f", 1, kind="TypeError", because="it must")


def test_a_stub_does_not_pass_for_the_error_that_is_asked_for():
    def stub(x):
        raise NotImplementedError(UNWRITTEN)

    with pytest.raises(Raised) as found:
        expect.raises(Student(Answers(stub)), "f", 1, kind="NotImplementedError", because="it must")
    assert found.value.unwritten


def test_an_exception_names_the_call():
    def fail(x):
        raise ZeroDivisionError("division by zero")

    with pytest.raises(Raised) as found:
        Student(Answers(fail)).call("f", 2.0)
    assert found.value.asked == "f(2)"


@pytest.mark.parametrize("got", [[1, 2], (1.0, 2.0), np.array([1, 2]), torch.tensor([1, 2])])
def test_numbers_come_in_any_form(got):
    assert expect.numbers(got, (2,), "f(x)").tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("got", "said"), [(["1", "2"], "should be numbers"), ([1], "shape (2,), but it has (1,)")]
)
def test_what_is_not_these_numbers_is_refused(got, said):
    with pytest.raises(Failure, match=re.escape(said)):
        expect.numbers(got, (2,), "f(x)")


def test_shown_values_are_short_and_plain():
    assert show(torch.tensor([[1.0, 2.0]])) == "[[1, 2]]"
    assert show(torch.zeros(100)) == "(tensor of shape (100,))"
    assert show(np.zeros((0, 3))) == "(empty, of shape (0, 3))"
    assert show(-0.0) == "0"
    assert show((1,)) == "(1,)"
    assert show({"a": None, True: 1 / 3}) == "{'a': None, True: 0.33333}"
    assert len(show("x" * 1000)) == 240
    assert show_call("f", [1], {"p": 0.5}) == "f(1, p=0.5)"


@pytest.mark.parametrize("text", ["\x1b[31m", "\x07", "\u202e", "\ud800", "\x9b31m", "\u200b"])
def test_no_character_steers_a_terminal(text):
    assert clean(text)[0] == "�"


def test_lines_stay_or_become_spaces():
    assert clean("a\n\tb") == "a\n\tb"
    assert clean("a\n\tb", lines=False) == "a  b"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "|x", "%x"])
def test_no_text_is_a_formula(text):
    assert cell(text).startswith("'")
