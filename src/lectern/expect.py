"""Statements about what came back, each of which says what was expected, of what, and why.

`Failure`, `agrees`, `close`, `numbers`, `raises`, `true`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lectern.student import Raised, Student
from lectern.values import show, show_call

__all__ = ["Failure", "agrees", "close", "numbers", "raises", "true"]


class Failure(AssertionError):
    """A check that failed, in words for the learner."""


def agrees(
    student: Student, name: str, *args: Any, right: Callable[..., Any],
    wrong: Mapping[str, Callable[..., Any]] | None = None, rtol: float = 1e-4, atol: float = 1e-6,
    **kwargs: Any,
) -> None:  # fmt: skip
    """Expect a function of the notebook to give what another gives for the same arguments.

    Parameters
    ----------
    student : Student
    name : str
        Of the function in the notebook.
    right : callable
        Gives what is right.
    wrong : mapping of str to callable
        What plausible mistakes compute, each with the sentence that names the mistake. It is said
        if that is what came back.
    rtol, atol : float
        How far off, relatively and absolutely, an answer may be.

    Raises
    ------
    Failure
        If it gives something else.
    """
    got = student.call(name, *args, **kwargs)
    mistakes = {text: function(*args, **kwargs) for text, function in (wrong or {}).items()}
    close(
        got, right(*args, **kwargs), of=show_call(name, args, kwargs), unless=mistakes,
        rtol=rtol, atol=atol,
    )  # fmt: skip


def close(
    got: Any, expected: Any, *, of: str, given: Any = None, rtol: float = 1e-4, atol: float = 1e-6,
    unless: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Expect numbers: a Python number, a list, an array or a tensor of any sufficient dtype.

    Parameters
    ----------
    got, expected
        Numbers, in the same shape.
    of : str
        What was asked, as in "mad(x)".
    given
        The small input, to show.
    rtol, atol : float
    unless : mapping of str to numbers
        What plausible mistakes would have given, each with the sentence that names the mistake.

    Raises
    ------
    Failure
        If they differ.
    """
    wanted = _numbers(expected)
    if wanted is None:
        raise TypeError(f"expected must be numbers, but it is {expected!r:.200}.")
    shown = "" if given is None else f" for {show(given)}"
    found = _numbers(got)
    if found is None:
        what = "None" if got is None else f"{show(got)}, of type {type(got).__name__}"
        raise Failure(f"{of} should return numbers{shown}, but it returned {what}.")
    if _near(found, wanted, rtol, atol):
        return
    because = "".join(
        f" {sentence}"
        for sentence, wrong in (unless or {}).items()
        if (other := _numbers(wrong)) is not None and _near(found, other, rtol, atol)
    )
    if found.shape != wanted.shape:
        raise Failure(
            f"{of} should have shape {tuple(wanted.shape)}{shown}, but it has "
            f"{tuple(found.shape)}.{because}"
        )
    raise Failure(f"{of} should be {show(wanted)}{shown}, but it is {show(found)}.{because}")


def numbers(got: Any, shape: Sequence[int], of: str) -> torch.Tensor:
    """Expect numbers of a shape, and return them as a tensor of float64.

    Parameters
    ----------
    got
        A Python number, a list, an array or a tensor.
    shape : sequence of int
    of : str
        What was asked, as in "mad(x)".

    Raises
    ------
    Failure
        If it is something else.
    """
    found = _numbers(got)
    if found is None:
        raise Failure(f"{of} should be numbers, but it is {show(got)}, a {type(got).__name__}.")
    if tuple(found.shape) != tuple(shape):
        raise Failure(f"{of} should have shape {tuple(shape)}, but it has {tuple(found.shape)}.")
    return found


def raises(student: Student, name: str, *args: Any, kind: str, because: str, **kwargs: Any) -> None:
    """Expect a function of the notebook to raise an exception.

    Parameters
    ----------
    student : Student
    name : str
    kind : str
        The exception's type, such as "ValueError".
    because : str
        Why, as in "since the shapes differ".

    Raises
    ------
    Failure
        If it returns, or raises another.
    """
    should = f"{show_call(name, args, kwargs)} should raise a {kind}, {because}, but it"
    try:
        got = student.call(name, *args, **kwargs)
    except Raised as error:
        if error.unwritten:
            raise
        if error.type_name != kind:
            raise Failure(f"{should} raised {error}.") from None
        return
    raise Failure(f"{should} returned {show(got)}.")


def true(condition: bool, otherwise: str) -> None:
    """Expect something; `otherwise` is the whole sentence for whoever sees it fail."""
    if not condition:
        raise Failure(otherwise)


def _near(numbers: torch.Tensor, wanted: torch.Tensor, rtol: float, atol: float) -> bool:
    return numbers.shape == wanted.shape and torch.allclose(
        numbers, wanted, rtol=rtol, atol=atol, equal_nan=True
    )


def _numbers(value: Any) -> torch.Tensor | None:
    """Return a float64 tensor of what is numbers, else None."""
    try:
        if isinstance(value, list | tuple) and any(isinstance(v, torch.Tensor) for v in value):
            return torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in value])
        if value is None or _has_text(value):  # NumPy would make each as long as the longest
            return None
        found = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
        if found.is_complex():
            return None
        return found.detach().to(torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def _has_text(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_text, value))
    return isinstance(value, str | bytes)
