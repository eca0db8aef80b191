"""What ProPublica published about the COMPAS score, as counts of people.

`COMPAS_PUBLISHED`, `COMPAS_SCORES`, `People`, `compas_people`.

Counts name nobody. They are from Broward County, Florida, and the years 2013 and 2014; the sheet
of this data is in the appendix. Used in the chapter *ethics*.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from glassbox.fairness import Counts

__all__ = ["COMPAS_PUBLISHED", "COMPAS_SCORES", "People", "compas_people"]

COMPAS_PUBLISHED: Mapping[str, Counts] = MappingProxyType(
    {
        "African-American": Counts(1369, 805, 532, 990, "African-American"),
        "Caucasian": Counts(505, 349, 461, 1139, "Caucasian"),
    }
)
"""ProPublica's two tables (Larson and others, 2016): a score above 4 is a yes; the outcome is an
arrest for a new crime within two years. The names of the groups are those of the court records."""

COMPAS_SCORES: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = MappingProxyType(
    {
        "African-American": (
            (307, 274, 201, 208, 189, 169, 163, 114, 111, 59),
            (91, 119, 145, 177, 176, 215, 237, 245, 269, 227),
        ),
        "Caucasian": (
            (539, 248, 180, 172, 130, 83, 55, 32, 30, 19),
            (142, 113, 93, 113, 111, 111, 88, 82, 68, 45),
        ),
    }
)
"""How many people had each decile score from 1 to 10, counted in the table that ProPublica
published: first those without, then those with, a new arrest within two years."""


class People(NamedTuple):
    """People with a score, what came to be, and their group; on the CPU."""

    score: Tensor
    """int64, shape (n,)."""
    actual: Tensor
    """bool, shape (n,)."""
    group: Tensor
    """int64, shape (n,): a position in `names`."""
    names: tuple[str, ...]
    """The groups."""


def compas_people() -> People:
    """Return one row for each person counted in `COMPAS_SCORES`: 6,150, in a fixed order."""
    score, actual, group = [], [], []
    deciles = torch.arange(1, 11)
    for i, (without, with_arrest) in enumerate(COMPAS_SCORES.values()):
        for came_true, numbers in ((False, without), (True, with_arrest)):
            score.append(deciles.repeat_interleave(torch.tensor(numbers)))
            actual.append(torch.full((sum(numbers),), came_true))
            group.append(torch.full((sum(numbers),), i))
    return People(torch.cat(score), torch.cat(actual), torch.cat(group), tuple(COMPAS_SCORES))
