"""Checks of the toy course's second chapter."""

import pytest

from lectern import expect


@pytest.mark.exercise("average", points=2)
def test_five_values(student, rng):
    x = rng.uniform(3, 9, 5).round(decimals=1)
    expect.agrees(
        student, "average", x, right=lambda x: x.mean(),
        wrong={
            "That is the total.": lambda x: x.sum(),
            "You divided by n − 1.": lambda x: x.sum() / (len(x) - 1),
            "That is half of the total.": lambda x: x.sum() / 2,
        },
    )  # fmt: skip
