"""Checks of arguments: bad input is answered in one sentence that says what is allowed.

`whole`, `is_number`, `pair`; and the type `Pair` of what `pair` returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

__all__ = ["is_number", "pair", "whole"]

Pair = tuple[int, int]
"""One number for the rows and one for the columns."""


def whole(name: str, value: object, at_least: int, at_most: int | None = None) -> None:
    """Refuse what is no whole number within its limits.

    Parameters
    ----------
    name : str
        Of the argument, for the sentence.
    value : object
        What was given for it.
    at_least, at_most : int
        The limits, included; without the second there is no upper one.

    Raises
    ------
    ValueError
        If the value is no int, a bool (which is an int in Python), or beyond a limit.

    Examples
    --------
    >>> whole("batch_size", 64, 1)
    >>> whole("batch_size", 0, 1)
    Traceback (most recent call last):
    ValueError: batch_size must be a whole number of at least 1, but it is 0.
    """
    if not _is_whole(value, at_least, at_most):
        limits = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise ValueError(f"{name} must be a whole number {limits}, but it is {value!r}.")


def is_number(*values: object) -> bool:
    """Say whether each value is a number that can be compared with others; NaN is one.

    An int or a float, also one of NumPy's; not a bool, and no tensor.

    Examples
    --------
    >>> is_number(1e-3), is_number(0.5, "0.5"), is_number(None)
    (True, False, False)
    """
    return all(isinstance(value, Real) and not isinstance(value, bool) for value in values)


def pair(name: str, value: int | Sequence[int], at_least: int) -> Pair:
    """Return (value, value) for one whole number, and a pair of them as it is.

    Parameters
    ----------
    name : str
        Of the argument, for the sentence.
    value : int or pair of int
        What was given for it.
    at_least : int
        The least that is allowed.

    Raises
    ------
    ValueError
        If the value is neither, or a number is too small.
    """
    both = value if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2 or not all(_is_whole(v, at_least) for v in both):
        raise ValueError(
            f"{name} must be a whole number of at least {at_least}, or a pair of them, but it is "
            f"{value!r}."
        )
    return both[0], both[1]


def _is_whole(value: object, at_least: int, at_most: int | None = None) -> bool:
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return at_least <= value and (at_most is None or value <= at_most)
