"""Values as feedback shows them: plain, rounded and short.

`show`, `show_call`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lectern.wire import Opaque

__all__ = ["show", "show_call"]

_MOST_NUMBERS = 60


def show(value: Any, most: int = 240) -> str:
    """Return a value as a reader of feedback wants to see it: plain, rounded and short."""
    text = _shown(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def show_call(name: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return a call as one would write it, with its arguments.

    Examples
    --------
    >>> show_call("f", [1.0, "a"], {"p": 1 / 3})
    "f(1, 'a', p=0.33333)"
    """
    inside = [*map(show, args), *(f"{key}={show(each)}" for key, each in kwargs.items())]
    return f"{name if isinstance(name, str) else 'it'}({', '.join(inside)})"


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor | np.ndarray):
        if value.size == 0 if isinstance(value, np.ndarray) else value.numel() == 0:
            return f"(empty, of shape {tuple(value.shape)})"
        if math.prod(value.shape) > _MOST_NUMBERS:
            kind = "tensor" if isinstance(value, torch.Tensor) else "array"
            return f"({kind} of shape {tuple(value.shape)})"
        value = value.tolist()
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, float):
        return f"{value + 0.0:.5g}"  # −0 is 0
    if isinstance(value, list | tuple):
        inside = ", ".join(map(_shown, value[:_MOST_NUMBERS]))
        if isinstance(value, tuple):
            return f"({inside}{',' * (len(value) == 1)})"
        return f"[{inside}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_shown(k)}: {_shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Opaque):
        return f"a {value.type_name}"
    return repr(value)
