"""From a table to tensors: categories, numbers and what is missing, without leakage.

`TabularProcessor`, `Category`, `Number`; `prepare`, `Prepared`.

Everything that is measured (levels, medians, means, deviations, ranges) is measured on training
rows, which must be named: there is no way to hand over a table without saying which rows they are.

Built in the chapter *tabular*.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from glassbox.frames import as_levels, as_numbers, check_columns, check_rows, listed

__all__ = [
    "Category",
    "Number",
    "Prepared",
    "TabularProcessor",
    "prepare",
]

_HEADER = "glassbox tabular processor"
_WORDS = {"text": "text", "whole": "whole numbers", "bool": "True and False"}
Rows = Tensor | ArrayLike
Level = str | int | bool


@dataclass(frozen=True)
class Category:
    """A column of categories: level i of `levels` has the code i + 1.

    The code 0 is the unknown level: missing values, and what no training row had.
    """

    name: str
    kind: str
    """What the levels are: "text", "whole" (numbers) or "bool"."""
    levels: tuple[Level, ...]

    def encode(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """Return a code for each row."""
        kind, values = as_levels(table, self.name)
        if kind and kind != self.kind:
            raise TypeError(
                f"column {self.name!r} must hold {_WORDS[self.kind]}, as in the training rows, but "
                f"it holds {_WORDS[kind]}."
            )
        codes = np.zeros(len(table))
        known = pd.Index(self.levels, dtype=object)
        codes[table[self.name].notna()] = known.get_indexer(values.astype(object)) + 1
        return codes


@dataclass(frozen=True)
class Number:
    """A column of numbers: what a missing one becomes, then a shift and a scale."""

    name: str
    fill: float
    """The median of the training rows."""
    mean: float
    std: float
    had_missing: bool
    """Whether a training row had none, so that a category beside it says so."""

    @property
    def indicator(self) -> Category:
        """The category that says whether the number was missing."""
        return Category(f"{self.name}_na", "bool", (False, True))

    def scale(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """Return the column filled, with the training rows' mean at 0 and deviation at 1."""
        values = as_numbers(table, self.name)
        missing = np.isnan(values)
        if missing.any() and not self.had_missing:
            raise ValueError(
                f"column {self.name!r} must have a value in every row, as in the training rows, "
                f"but it lacks {missing.sum()} of {len(values)}."
            )
        scaled = (np.where(missing, self.fill, values) - self.mean) / self.std
        if len(scaled) and np.abs(scaled).max() > np.finfo(np.float32).max:
            raise ValueError(
                f"column {self.name!r} must hold numbers of a size like those of the training "
                f"rows, from which {values[np.abs(scaled).argmax()]:g} is too far away to be "
                "scaled."
            )
        return np.asarray(scaled)


def _category(train: pd.DataFrame, name: str) -> Category:
    kind, values = as_levels(train, name)
    if not kind:
        raise ValueError(_all_missing(name, len(train)))
    return Category(name, kind, tuple(sorted(values.unique().tolist())))


def _number(train: pd.DataFrame, name: str) -> Number:
    values = as_numbers(train, name)
    missing = np.isnan(values)
    if missing.all():
        raise ValueError(_all_missing(name, len(train)))
    fill = float(np.median(values[~missing]))
    values = np.where(missing, fill, values)
    if values.min() == values.max() or values.std() == 0:
        raise ValueError(
            f"column {name!r} must vary in the training rows, but all of its values are {fill:g}: "
            "leave it out."
        )
    return Number(name, fill, float(values.mean()), float(values.std()), bool(missing.any()))


def _all_missing(name: str, n: int) -> str:
    return f"column {name!r} must have a value in some training row, but all {n} are missing."


@dataclass(frozen=True)
class TabularProcessor:
    """What turns rows of a table into inputs of a model; made by `fit` or `load`, never changed.

    Examples
    --------
    >>> table = pd.DataFrame({"Store": ["a", "b", "c"], "Distance": [1.0, 3.0, 80.0]})
    >>> processor = TabularProcessor.fit(
    ...     table, [0, 1], categories=["Store"], numbers=["Distance"]
    ... )
    >>> processor.transform(table)
    tensor([[ 1., -1.],
            [ 2.,  1.],
            [ 0., 78.]])
    """

    categories: tuple[Category, ...]
    """In the order of the input's first columns, the indicators of missing numbers last."""
    numbers: tuple[Number, ...]
    """In the order of the columns that follow."""

    @classmethod
    def fit(
        cls,
        table: pd.DataFrame,
        train_rows: Rows,
        *,
        categories: Sequence[str] = (),
        numbers: Sequence[str] = (),
    ) -> TabularProcessor:
        """Measure the training rows of a table; the others are not looked at.

        Parameters
        ----------
        table : DataFrame
        train_rows : Tensor or array of int
            Positions of the rows, as for `DataFrame.iloc`.
        categories, numbers : sequence of str
            The columns to use, and as what.

        Raises
        ------
        TypeError, ValueError
            If a column is not there, is of a wrong dtype, or has no value in the training rows; a
            number that does not vary there or is infinite; or `train_rows` are no rows.
        """
        for argument, names in (("categories", categories), ("numbers", numbers)):
            if isinstance(names, str) or not hasattr(names, "__iter__"):
                raise TypeError(f"{argument} must be a list of names, but it is {names!r}.")
        wanted = [*categories, *numbers]
        if not wanted or len(set(wanted)) < len(wanted):
            raise ValueError(
                "categories and numbers must name at least one column, each of them once, but they "
                f"are {list(categories)} and {list(numbers)}."
            )
        check_columns(table, wanted)
        check_rows(table)
        train = table.iloc[_rows("train_rows", train_rows, len(table))]
        fitted = tuple(_number(train, name) for name in numbers)
        levels = [_category(train, name) for name in categories]
        indicators = [number.indicator for number in fitted if number.had_missing]
        clash = [c.name for c in indicators if c.name in wanted]
        if clash:
            raise ValueError(f"numbers must leave {listed(clash)} free for what is missing.")
        return cls((*levels, *indicators), fitted)

    @property
    def cardinalities(self) -> dict[str, int]:
        """How many codes each category has, with the unknown level: the rows of its embedding."""
        return {c.name: len(c.levels) + 1 for c in self.categories}

    def transform(self, table: pd.DataFrame) -> Tensor:
        """Return the inputs for the rows of any table.

        Returns
        -------
        Tensor of float32, shape (n, categories + numbers)
            The codes of the categories, exact as floats up to 2²⁴, then the scaled numbers.

        Raises
        ------
        TypeError, ValueError
            If a column is not there, is of another dtype than in the training rows, or a number is
            infinite, or missing where none was in the training rows.
        """
        indicators = {n.indicator.name: n.name for n in self.numbers if n.had_missing}
        codes = [c for c in self.categories if c.name not in indicators]
        check_columns(table, [c.name for c in codes] + [n.name for n in self.numbers])
        missing = pd.DataFrame({new: table[name].isna() for new, name in indicators.items()})
        columns = [c.encode(missing if c.name in indicators else table) for c in self.categories]
        columns += [n.scale(table) for n in self.numbers]
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))

    def to_json(self) -> str:
        """Return all of it as text."""
        return json.dumps({_HEADER: 1, **asdict(self)}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> TabularProcessor:
        """Return the processor that `to_json` wrote.

        Raises
        ------
        ValueError
            If the text is not from there.
        """
        try:
            content = json.loads(text)
            if content[_HEADER] != 1:
                raise KeyError(_HEADER)
            return cls(
                tuple(
                    Category(c["name"], c["kind"], tuple(c["levels"]))
                    for c in content["categories"]
                ),
                tuple(Number(**n) for n in content["numbers"]),
            )
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"text must be what TabularProcessor.to_json wrote, but it begins with "
                f"{str(text)[:40]!r}."
            ) from None

    def save(self, path: str | Path) -> None:
        """Write `to_json` to a file, which is complete or not there.

        Raises
        ------
        FileNotFoundError
            If the folder is not there.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"path must lie in a folder, but {path.parent} is none.")
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, delete=False, encoding="utf-8"
        ) as file:
            file.write(self.to_json())
        os.replace(file.name, path)

    @classmethod
    def load(cls, path: str | Path) -> TabularProcessor:
        """Read what `save` wrote."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Prepared:
    """Inputs and targets of a training and a validation set, and what made them."""

    processor: TabularProcessor
    train: tuple[Tensor, Tensor]
    """Inputs as from `TabularProcessor.transform`, and targets of shape (n, 1), float32."""
    valid: tuple[Tensor, Tensor]

    def y_range(self, margin: float = 0.1) -> tuple[float, float]:
        """Return the lowest and the highest training target, `margin` of their distance wider.

        Raises
        ------
        ValueError
            If the margin is negative.
        """
        if not margin >= 0:
            raise ValueError(f"margin must be at least 0, but it is {margin!r}.")
        low, high = (float(v) for v in self.train[1].aminmax())
        return low - margin * (high - low), high + margin * (high - low)


def prepare(
    table: pd.DataFrame,
    train_rows: Rows,
    valid_rows: Rows,
    *,
    target: str,
    categories: Sequence[str] = (),
    numbers: Sequence[str] = (),
    log_target: bool = False,
) -> Prepared:
    """Fit a processor on the training rows, and transform the rows of both sets with it.

    Parameters
    ----------
    table : DataFrame
    train_rows, valid_rows : Tensor or array of int
        Positions, as from `split_by_time` or `random_split`; none in both.
    target : str
        The column to predict, not among the others.
    categories, numbers : sequence of str
        As in `TabularProcessor.fit`.
    log_target : bool
        Predict the natural logarithm: a difference of logarithms is a ratio, so that mean squared
        error then judges by percentage.

    Raises
    ------
    TypeError, ValueError
        As `TabularProcessor.fit` and `transform`; if a row is in both sets; if a target is
        missing, infinite, among the inputs, or not positive where its logarithm is wanted.
    """
    check_columns(table, [target])
    check_rows(table)
    if target in [*categories, *numbers]:
        raise ValueError(f"target must not be among the inputs, but {target!r} is.")
    rows = _rows("train_rows", train_rows, len(table)), _rows("valid_rows", valid_rows, len(table))
    both = np.intersect1d(*rows)
    if len(both):
        raise ValueError(
            f"train_rows and valid_rows must share no row, but {len(both)} are in both, such as "
            f"{both[0]}."
        )
    processor = TabularProcessor.fit(table, rows[0], categories=categories, numbers=numbers)
    train, valid = (
        (processor.transform(part), _targets(part, target, log_target))
        for part in (table.iloc[rows[0]], table.iloc[rows[1]])
    )
    return Prepared(processor, train, valid)


def _targets(table: pd.DataFrame, target: str, log: bool) -> Tensor:
    y = as_numbers(table, target)
    if np.isnan(y).any():
        raise ValueError(
            f"column {target!r} must have a value in every row, but it lacks {np.isnan(y).sum()} "
            f"of {len(y)}."
        )
    if log and y.min() <= 0:
        raise ValueError(
            f"column {target!r} must be positive for its logarithm, but its least value is "
            f"{y.min():g}."
        )
    return torch.from_numpy((np.log(y) if log else y).astype(np.float32)).unsqueeze(1)


def _rows(name: str, rows: Rows, n: int) -> NDArray[np.int64]:
    try:
        array = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows)
    except ValueError:  # lists of different lengths
        array = np.asarray(rows, dtype=object)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise ValueError(
            f"{name} must hold at least one row number, in one dimension, but it has shape "
            f"{array.shape} and dtype {array.dtype}."
        )
    if array.min() < 0 or array.max() >= n:
        raise ValueError(
            f"{name} must lie between 0 and {n - 1}, but they go from {array.min()} to "
            f"{array.max()}."
        )
    return array.astype(np.int64)
