"""Error rates, calibration and thresholds by group, and what cannot be equal all at once.

`Counts`, `RATES`, `count`, `count_by_group`, `rates_by_group`, `calibration`, `at_or_above`,
`trade_off`, `auc`, `implied_false_positive_rate`.

Everything here is counting. What is hard is which of these numbers ought to be equal, and that no
function decides. Built in the chapter *ethics*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RATES",
    "Counts",
    "at_or_above",
    "auc",
    "calibration",
    "count",
    "count_by_group",
    "implied_false_positive_rate",
    "rates_by_group",
    "trade_off",
]


@dataclass(frozen=True)
class Counts:
    """How often a yes-or-no prediction was right and wrong: the four cells of a table.

    Every rate is a property. One whose denominator is empty has no value, and asking for it raises
    a ValueError that says which it is and for whom.

    Parameters
    ----------
    true_positive, false_positive, false_negative, true_negative : int
        Predicted yes and rightly so, yes and wrongly, no and wrongly, no and rightly.
    group : str
        Whom the table is about, for messages.

    Examples
    --------
    >>> table = Counts(true_positive=30, false_positive=10, false_negative=20, true_negative=40)
    >>> table.false_positive_rate, table.precision
    (0.2, 0.75)
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int
    group: str = "all"

    def __post_init__(self) -> None:
        for name in ("true_positive", "false_positive", "false_negative", "true_negative"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number of at least 0, not {value!r}.")

    @property
    def positives(self) -> int:
        """How many the answer is yes for."""
        return self.true_positive + self.false_negative

    @property
    def negatives(self) -> int:
        """How many the answer is no for."""
        return self.false_positive + self.true_negative

    @property
    def total(self) -> int:
        """How many there are."""
        return self.positives + self.negatives

    @property
    def flagged(self) -> int:
        """How many were predicted yes."""
        return self.true_positive + self.false_positive

    @property
    def base_rate(self) -> float:
        """The share for whom the answer is yes."""
        return self._share("base rate", self.positives, self.total, "member")

    @property
    def flagged_rate(self) -> float:
        """The share that was predicted yes."""
        return self._share("flagged rate", self.flagged, self.total, "member")

    @property
    def accuracy(self) -> float:
        """The share whose prediction is right."""
        right = self.true_positive + self.true_negative
        return self._share("accuracy", right, self.total, "member")

    @property
    def false_positive_rate(self) -> float:
        """Of those for whom the answer is no, the share that was predicted yes."""
        return self._share("false positive rate", self.false_positive, self.negatives, "negative")

    @property
    def false_negative_rate(self) -> float:
        """Of those for whom the answer is yes, the share that was predicted no."""
        return self._share("false negative rate", self.false_negative, self.positives, "positive")

    @property
    def precision(self) -> float:
        """Of those predicted yes, the share for whom it is (positive predictive value)."""
        return self._share("precision", self.true_positive, self.flagged, "member predicted yes")

    def _share(self, rate: str, part: int, whole: int, kind: str) -> float:
        if whole == 0:
            raise ValueError(
                f"The {rate} of group {self.group!r} is not defined: it has no {kind}."
            )
        return part / whole


RATES = (
    *("base_rate", "flagged_rate", "accuracy"),
    *("false_positive_rate", "false_negative_rate", "precision"),
)
"""The names of the rates that `rates_by_group` tabulates."""


def count(predicted: Tensor, actual: Tensor, group: str = "all") -> Counts:
    """Count the four cells.

    Parameters
    ----------
    predicted, actual : Tensor of bool, or of zeros and ones, shape (n,)
        What was said and what is so.
    group : str
        Whom they are about, for messages.

    Raises
    ------
    ValueError
        If a tensor is not of this form, or they differ in length.
    """
    said, so = _yes_or_no("predicted", predicted), _yes_or_no("actual", actual)
    _same_length(predicted=said, actual=so)
    return Counts(
        true_positive=int((said & so).sum()),
        false_positive=int((said & ~so).sum()),
        false_negative=int((~said & so).sum()),
        true_negative=int((~said & ~so).sum()),
        group=group,
    )


def count_by_group(
    predicted: Tensor, actual: Tensor, group: Tensor, names: Sequence[str]
) -> dict[str, Counts]:
    """Count the four cells of each group.

    Parameters
    ----------
    predicted, actual : Tensor of bool, or of zeros and ones, shape (n,)
        As in `count`.
    group : Tensor of int64, shape (n,)
        To which group each belongs: a position in `names`.
    names : sequence of str
        The groups. One without members has a table of zeros.

    Raises
    ------
    ValueError
        If a tensor is not of this form, or a group has no name.
    """
    _same_length(predicted=predicted, actual=actual, group=group)
    _check_groups(group, names)
    return {
        name: count(predicted[group == i], actual[group == i], name) for i, name in enumerate(names)
    }


def rates_by_group(tables: Mapping[str, Counts], *, undefined: str = "raise") -> pd.DataFrame:
    """Return every rate of every group.

    Parameters
    ----------
    tables : mapping of str to Counts
        From `count_by_group`.
    undefined : "raise" or "nan"
        What to do about a rate that has no value: a group without positives has no false negative
        rate.

    Returns
    -------
    DataFrame
        A row for each group; the columns are ``people`` and `RATES`.

    Raises
    ------
    ValueError
        If `undefined` is another word, or a rate has no value and is not to be NaN.
    """
    import pandas as pd

    if undefined not in ("raise", "nan"):
        raise ValueError(f"undefined must be 'raise' or 'nan', but it is {undefined!r}.")

    def rate(table: Counts, name: str) -> float:
        try:
            return float(getattr(table, name))
        except ValueError:
            if undefined == "raise":
                raise
            return float("nan")

    return pd.DataFrame(
        {
            name: {"people": table.total} | {each: rate(table, each) for each in RATES}
            for name, table in tables.items()
        }
    ).T.astype({"people": int})


def calibration(score: Tensor, actual: Tensor, group: Tensor, names: Sequence[str]) -> pd.DataFrame:
    """Return, for each value of the score and each group, how many came true.

    A score is calibrated within groups when, at each of its values, the share that came true is
    the same in every group.

    Parameters
    ----------
    score : Tensor, shape (n,)
        With few different values, such as deciles.
    actual, group, names
        As in `count_by_group`.

    Returns
    -------
    DataFrame
        Indexed by score, with the columns (group, "share") and (group, "people"); the share is NaN
        where a group has nobody with that score.

    Raises
    ------
    ValueError
        If a tensor is not of this form, or a group has no name.
    """
    import pandas as pd

    so = _yes_or_no("actual", actual)
    _same_length(score=score, actual=so, group=group)
    _check_groups(group, names)
    columns: dict[tuple[str, str], list[float]] = {}
    values = score.unique()
    for i, name in enumerate(names):
        here = [so[(group == i) & (score == value)] for value in values]
        columns[name, "share"] = [float(x.double().mean()) for x in here]
        columns[name, "people"] = [len(x) for x in here]
    return pd.DataFrame(columns, index=pd.Index(values.tolist(), name="score"))


def at_or_above(score: Tensor, threshold: float) -> Tensor:
    """Return the predictions that a threshold makes of a score: yes at or above it."""
    return score >= threshold


def trade_off(score: Tensor, actual: Tensor) -> pd.DataFrame:
    """Return the error rates of every threshold, from flagging everybody to flagging nobody.

    Parameters
    ----------
    score : Tensor, shape (n,)
        Higher is more likely yes.
    actual : Tensor of bool, or of zeros and ones, shape (n,)
        With at least one of each.

    Returns
    -------
    DataFrame
        Indexed by threshold; the columns are ``false_positive_rate``, ``false_negative_rate`` and
        ``precision`` (NaN where nobody is flagged).

    Raises
    ------
    ValueError
        If the tensors are not of this form, or there is no positive or no negative.
    """
    import pandas as pd

    so = _yes_or_no("actual", actual)
    _same_length(score=score, actual=so)
    thresholds = [*score.unique().tolist(), float("inf")]
    rows = []
    for threshold in thresholds:
        table = count(at_or_above(score, threshold), so)
        precision = table.precision if table.flagged else float("nan")
        rows.append((table.false_positive_rate, table.false_negative_rate, precision))
    return pd.DataFrame(
        rows,
        columns=["false_positive_rate", "false_negative_rate", "precision"],
        index=pd.Index(thresholds, name="threshold"),
    )


def auc(score: Tensor, actual: Tensor) -> float:
    """Return the share of pairs, a positive and a negative, that the score puts in order.

    A pair with equal scores counts one half. 0.5 is guessing, 1 is perfect.

    Raises
    ------
    ValueError
        If the tensors are not as in `trade_off`.
    """
    so = _yes_or_no("actual", actual)
    _same_length(score=score, actual=so)
    counts = count(so, so)
    if counts.positives == 0 or counts.negatives == 0:
        raise ValueError("actual must hold a yes and a no, or there is no pair to put in order.")
    # Ranks instead of all pairs: a positive beats as many negatives as lie below it.
    values, place = score.unique(return_inverse=True)
    no = torch.bincount(place[~so], minlength=len(values)).double()
    yes = torch.bincount(place[so], minlength=len(values)).double()
    below = no.cumsum(0) - no
    return float((yes * (below + no / 2)).sum() / (yes.sum() * no.sum()))


def implied_false_positive_rate(
    base_rate: float, precision: float, false_negative_rate: float
) -> float:
    """Return the false positive rate that the three other figures force upon a group.

    From the definitions, ``FPR = p / (1 - p) * (1 - PPV) / PPV * (1 - FNR)``, with the base rate p
    and the precision PPV (Chouldechova, 2017). So two groups with different base rates cannot
    have equal precision, equal FNR and equal FPR, unless nobody is flagged wrongly.

    Raises
    ------
    ValueError
        If the base rate is not strictly between 0 and 1, the precision not above 0 and at most 1,
        or the false negative rate not between 0 and 1.
    """
    if not 0 < base_rate < 1:
        raise ValueError(f"base_rate must lie between 0 and 1, both excluded, not {base_rate!r}.")
    if not 0 < precision <= 1:
        raise ValueError(f"precision must be above 0 and at most 1, not {precision!r}.")
    if not 0 <= false_negative_rate <= 1:
        raise ValueError(f"false_negative_rate must be from 0 to 1, not {false_negative_rate!r}.")
    odds = base_rate / (1 - base_rate)
    return odds * (1 - precision) / precision * (1 - false_negative_rate)


def _yes_or_no(name: str, x: Tensor) -> Tensor:
    """Return a tensor of zeros and ones as one of bool."""
    if not isinstance(x, Tensor) or x.ndim != 1:
        form = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} must be a tensor of shape (n,), but it is of {form}.")
    if x.dtype != torch.bool and not ((x == 0) | (x == 1)).all():
        raise ValueError(f"{name} must hold zeros and ones, but its values go beyond them.")
    return x.bool()


def _same_length(**tensors: Tensor) -> None:
    lengths = {name: len(x) for name, x in tensors.items()}
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(f"{' and '.join(lengths)} must have as many values, but {given}.")


def _check_groups(group: Tensor, names: Sequence[str]) -> None:
    if group.is_floating_point() or group.dtype == torch.bool or group.ndim != 1:
        raise ValueError(f"group must hold whole numbers of shape (n,), but it is {group.dtype}.")
    if len(group) and not 0 <= int(group.min()) <= int(group.max()) < len(names):
        raise ValueError(
            f"group must hold positions in the {len(names)} names, from 0 to {len(names) - 1}, but "
            f"it goes from {int(group.min())} to {int(group.max())}."
        )
