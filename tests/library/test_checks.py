"""`glassbox.checks`: what is a whole number within limits, and the sentence where one is not."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassbox.checks import is_number, pair, whole

NO_NUMBER = [2.0, "2", None, True, math.nan]


@given(st.integers(), st.integers(0, 9), st.integers(0, 9))
def test_every_whole_number_from_the_one_limit_to_the_other_is_taken(value, low, more):
    if low <= value <= low + more:
        whole("size", value, low, low + more)
    else:
        sentence = f"size must be a whole number from {low} to {low + more}, but it is {value}."
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            whole("size", value, low, low + more)


@given(st.integers(), st.integers(0, 9))
def test_without_an_upper_limit_there_is_none(value, low):
    if value >= low:
        whole("stride", value, low)
    else:
        sentence = f"stride must be a whole number of at least {low}, but it is {value}."
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            whole("stride", value, low)


@pytest.mark.parametrize("value", NO_NUMBER)
def test_what_is_no_whole_number_is_refused_as_it_was_written(value):
    sentence = f"n must be a whole number of at least 1, but it is {value!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        whole("n", value, 1)


@given(st.integers(1), st.integers(1))
def test_one_number_counts_for_both_axes_and_a_pair_stays_as_it_is(rows, columns):
    assert pair("stride", rows, 1) == (rows, rows)
    assert pair("stride", (rows, columns), 1) == (rows, columns)
    assert pair("stride", [rows, columns], 1) == (rows, columns)


@pytest.mark.parametrize("value", [0, (1, 0), (0, 1), (1,), (1, 1, 1), (), (1, True), *NO_NUMBER])
def test_what_is_neither_is_refused(value):
    sentence = (
        f"stride must be a whole number of at least 1, or a pair of them, but it is {value!r}."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        pair("stride", value, 1)


@pytest.mark.parametrize("value", [0, -1.5, math.nan, np.float32(2)])
def test_ints_and_floats_are_numbers(value):
    assert is_number(1, value)


@pytest.mark.parametrize("value", [None, "2", True, 1j, (1,)])
def test_other_things_are_no_numbers(value):
    assert not is_number(1, value)
