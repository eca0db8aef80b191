"""Tables: what a date holds, what a column is, and a split by time; checks of columns.

`add_datepart`, `DATE_PARTS`, `cardinality`, `split_by_time`; `check_columns`, `check_rows`,
`as_levels`, `as_numbers`, `listed`.

Built in the chapter *tabular*.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassbox.checks import whole

__all__ = [
    "DATE_PARTS",
    "add_datepart",
    "as_levels",
    "as_numbers",
    "cardinality",
    "check_columns",
    "check_rows",
    "listed",
    "split_by_time",
]

DATE_PARTS = (
    *("Year", "Month", "Week", "Day", "Dayofweek", "Dayofyear"),
    *("Is_month_start", "Is_month_end", "Is_quarter_start", "Is_quarter_end"),
    *("Is_year_start", "Is_year_end", "Elapsed"),
)
"""The columns that `add_datepart` makes. Monday is day 0 of the week; the week is that of ISO 8601;
Elapsed counts seconds since the beginning of 1970."""


_KINDS = {"string": "text", "integer": "whole", "boolean": "bool", "floating": "whole"}


def add_datepart(
    table: pd.DataFrame,
    column: str = "Date",
    *,
    prefix: str = "",
    drop: bool = False,
    date_format: str = "ISO8601",
) -> pd.DataFrame:
    """Return the table with a column for each part of a date (`DATE_PARTS`).

    Parameters
    ----------
    table : DataFrame
        Left as it is.
    column : str
        Holds dates, or text that is read as such.
    prefix : str
        Put before the name of each new column.
    drop : bool
        Leave out the date itself.
    date_format : str
        Of dates in text. Nothing is guessed: 03/04/2015 is in March or in April, depending on who
        wrote it, so that any format but ISO 8601 (2015-04-03) must be given, as in "%d/%m/%Y".

    Raises
    ------
    TypeError, ValueError
        If the column is not there or holds something else than dates, a row has no date, the
        table has no row, or a column of a new name already.

    References
    ----------
    fast.ai 2019, lesson 6.

    Examples
    --------
    >>> add_datepart(pd.DataFrame({"Date": ["2015-07-31"]}))[["Year", "Is_month_end"]]
       Year  Is_month_end
    0  2015          True
    """
    dates = _dates(table, column, date_format)
    parts: dict[str, Any] = {}
    for part in DATE_PARTS:
        if part == "Week":
            values = dates.dt.isocalendar().week
        elif part == "Elapsed":
            values = (dates - pd.Timestamp(0, tz=dates.dt.tz)) // pd.Timedelta(seconds=1)
        else:
            values = getattr(dates.dt, part.lower().replace("dayof", "day_of_"))
        parts[prefix + part] = values.astype(bool if part.startswith("Is_") else "int64")
    kept = table.drop(columns=column) if drop else table
    there = [name for name in parts if name in kept.columns]
    if there:
        raise ValueError(
            f"prefix must make names that are new, but the table has {listed(there)} already."
        )
    return kept.assign(**parts)


def _dates(table: pd.DataFrame, column: str, date_format: str = "ISO8601") -> Any:
    check_columns(table, [column])
    check_rows(table)
    values = table[column]
    # Numbers would be read as nanoseconds since 1970.
    if pd.api.types.is_numeric_dtype(values) and values.notna().any():
        raise TypeError(
            f"column {column!r} must hold dates or text, but its dtype is {values.dtype}."
        )
    if pd.api.types.is_datetime64_any_dtype(values):
        dates = values
    else:
        readable = values.where(values.map(lambda value: isinstance(value, str | dt.date)))
        try:
            dates = pd.to_datetime(readable, format=date_format, errors="coerce")
        except ValueError as error:
            raise ValueError(
                f"column {column!r} must hold dates of the format {date_format} and of one time "
                f"zone, but pandas cannot read them: {str(error).split('. ')[0].rstrip('.')}."
            ) from None
    wrong = np.flatnonzero(dates.isna())
    if len(wrong):
        first = values.iloc[wrong[0]]
        found = "has none" if pd.isna(first) else f"holds {first!r}"
        raise ValueError(
            f"column {column!r} must hold a date of the format {date_format} in every row, but row "
            f"{wrong[0]} {found}."
        )
    return dates


def cardinality(table: pd.DataFrame, max_levels: int = 50) -> pd.DataFrame:
    """Return how many levels each column has, and whether it is rather a category or a number.

    Text is a category, and so are True and False and whole numbers of few levels: days of the
    week, years, stores. Fractions are numbers, and so are whole numbers of many levels, unless you
    know better: a store's number is a name, and 3 is not between 2 and 4.

    Parameters
    ----------
    table : DataFrame
    max_levels : int
        Up to how many levels whole numbers are suggested as a category.

    Returns
    -------
    DataFrame
        A row for each column of the table: ``levels`` without missing values, ``missing``, the
        share of rows without a value, and ``suggested``: "category", "number", "date", or
        "nothing" for a column of one value or none.
    """
    whole("max_levels", max_levels, 1)
    check_columns(table, [])

    def suggested(values: Any, levels: int) -> str:
        if levels + int(values.isna().any()) < 2:
            return "nothing"
        if pd.api.types.is_datetime64_any_dtype(values):
            return "date"
        if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
            return "category"
        present = values.dropna()
        return "category" if levels <= max_levels and (present % 1 == 0).all() else "number"

    def count(name: Any) -> int:
        try:
            return int(table[name].nunique())
        except TypeError:
            raise TypeError(
                f"column {name!r} must hold text, numbers, dates or True and False, but it holds "
                "what cannot be compared, such as lists."
            ) from None

    rows = {
        name: {
            "levels": (levels := count(name)),
            "missing": float(table[name].isna().mean()) if len(table) else 0.0,
            "suggested": suggested(table[name], levels),
        }
        for name in table.columns
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["levels", "missing", "suggested"])


def split_by_time(
    table: pd.DataFrame, valid_from: str | pd.Timestamp, column: str = "Date"
) -> tuple[Tensor, Tensor]:
    """Return the row numbers before a date, to train on, and of that date and later, to validate.

    Parameters
    ----------
    table : DataFrame
        In any order.
    valid_from : str or Timestamp
        The first date of the validation set; text in ISO 8601.
    column : str
        Holds dates, or text in ISO 8601.

    Returns
    -------
    train_rows, valid_rows : Tensor of int64
        Positions, as for `DataFrame.iloc`; together every one, once.

    Raises
    ------
    TypeError, ValueError
        As in `add_datepart`; or if `valid_from` is no date, or one of the sets would be empty.
    """
    dates = _dates(table, column)
    cut = pd.NaT
    if isinstance(valid_from, str | dt.date):
        cut = pd.to_datetime(valid_from, format="ISO8601", errors="coerce")
    if pd.isna(cut):
        raise ValueError(f"valid_from must be a date such as 2015-06-20, but it is {valid_from!r}.")
    if (cut.tz is None) != (dates.dt.tz is None):
        raise ValueError(
            f"valid_from must have a time zone if and only if the dates have one, but it has "
            f"{cut.tz} and they have {dates.dt.tz}."
        )
    later = torch.from_numpy((dates >= cut).to_numpy(dtype=bool, copy=True))
    if not 0 < int(later.sum()) < len(later):
        raise ValueError(
            f"valid_from must lie after the first date and not after the last, "
            f"{dates.min():%Y-%m-%d} and {dates.max():%Y-%m-%d}, but it is {cut:%Y-%m-%d}."
        )
    return (~later).nonzero().flatten(), later.nonzero().flatten()


def as_levels(table: pd.DataFrame, name: str) -> tuple[str, Any]:
    """Return what a column of categories holds, and those of its values that are not missing.

    Returns
    -------
    kind : str
        "text", "whole" (numbers), "bool", or nothing for a column without a value.
    values : Series
        Whole numbers as int64, also where pandas kept them as floats beside a missing value.

    Raises
    ------
    TypeError
        If the values are of another kind, such as fractions or dates, or of several.
    """
    column = table[name]
    values = column[column.notna()]
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if not len(values):
        return "", values
    found = pd.api.types.infer_dtype(values)
    kind = _KINDS.get(found, "")
    sentence = f"column {name!r} must hold text, whole numbers or True and False to be a category, "
    if not kind:
        raise TypeError(f"{sentence}but its values are of the kind {found}.")
    if kind == "whole":
        # A column of whole numbers with one missing value is one of floats to pandas. Beyond 2^53
        # a float no longer tells whole numbers apart.
        if found == "floating":
            numbers = values.to_numpy(dtype=float)
            fractions = (np.trunc(numbers) != numbers) | (np.abs(numbers) > 2**53)
            if fractions.any():
                raise TypeError(f"{sentence}but it holds {numbers[fractions][0]:g}.")
        values = values.astype("int64")
    return kind, values


def as_numbers(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Return a column of numbers, NaN where one is missing.

    Raises
    ------
    TypeError, ValueError
        If the column holds something else, or a number that is not finite as a float32.
    """
    column = table[name]
    if column.isna().all():  # of whatever dtype
        return np.full(len(column), np.nan)
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column)
    if not numeric:
        raise TypeError(f"column {name!r} must hold numbers, but its dtype is {column.dtype}.")
    values: NDArray[np.float64] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    infinite = np.flatnonzero(np.abs(values) > np.finfo(np.float32).max)
    if len(infinite):
        raise ValueError(
            f"column {name!r} must hold finite numbers, up to 3.4e+38 in size, but row "
            f"{infinite[0]} holds {values[infinite[0]]}."
        )
    return values


def check_columns(table: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a table that is none, lacks one of the columns, or has two of one name.

    Raises
    ------
    TypeError, ValueError
        In one sentence.
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table must be a DataFrame, but it is a {type(table).__name__}.")
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()].tolist()
        raise ValueError(f"table must have each column once, but it has {listed(twice)} again.")
    lacking = [name for name in names if name not in table.columns]
    if lacking:
        raise ValueError(
            f"table must have {listed(lacking)} among its columns, which are "
            f"{listed(list(table.columns)) or 'none'}."
        )


def check_rows(table: pd.DataFrame) -> None:
    """Refuse a table without rows.

    Raises
    ------
    ValueError
        In one sentence.
    """
    if not len(table):
        raise ValueError("table must have at least one row, but it has none.")


def listed(names: Sequence[object]) -> str:
    """Return names for a sentence, at most twelve of them."""
    shown = ", ".join(repr(name) for name in names[:12])
    return f"{shown}, …" if len(names) > 12 else shown
