"""A reader's own files of the Rossmann competition, as the simulated chain's table.

`load_rossmann`.

The files may not be passed on, so that the book has none of them. Used in the chapter *tabular*.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glassbox.retail import COLUMNS

__all__ = ["load_rossmann"]

_TEXT = ("Date", "StateHoliday", "State", "StoreType", "Assortment")
_MAY_LACK = ("SchoolHoliday", "CompetitionDistance")
_WHOLE = ("Store", "Sales", "Customers", "Open", "Promo")


def load_rossmann(folder: str | Path) -> pd.DataFrame:
    """Return the competition's training table from a reader's own files, as `COLUMNS`.

    Whoever has accepted the competition's rules puts its files into a folder: ``train.csv`` and
    ``store.csv``, as they come, and, if there is one, ``store_states.csv`` (columns Store and
    State), which a competitor shared. Rows and columns may be in any order, and there may be more
    columns.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    DataFrame
        A row for each store and day, ordered by date and store. Without ``store_states.csv``,
        every State is "unknown". SchoolHoliday and CompetitionDistance may have no value. On some
        days a store was open and sold nothing.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If a file has no row, lacks a column or a value, holds text where a number belongs, has a
        day of a store twice, a date that does not parse, or a store that is not described.
    """
    folder = Path(folder)
    train = _read(folder, "train.csv", COLUMNS[:8])
    stores = _read(folder, "store.csv", ("Store", *COLUMNS[9:]))
    if (folder / "store_states.csv").exists():
        states = _read(folder, "store_states.csv", ("Store", "State"))
    else:
        states = stores[["Store"]].assign(State="unknown")
    for name, described in (("store.csv", stores), ("store_states.csv", states)):
        unknown = np.setdiff1d(train["Store"], described["Store"])
        if len(unknown) or described["Store"].duplicated().any():
            what = f"lacks {unknown[0]}" if len(unknown) else "has one of them twice"
            raise ValueError(f"{name} must describe each store of train.csv once, but it {what}.")
    dates = pd.to_datetime(train["Date"], format="%Y-%m-%d", errors="coerce")
    if dates.isna().any():
        row = int(np.flatnonzero(dates.isna())[0])
        raise ValueError(
            f"train.csv must hold dates such as 2015-07-31, but its row {row} holds "
            f"{train['Date'].iloc[row]!r}."
        )
    twice = np.flatnonzero(train.duplicated(["Store", "Date"]))
    if len(twice):
        store, date = train[["Store", "Date"]].iloc[twice[0]]
        raise ValueError(
            f"train.csv must have each day of a store once, but it has {date} of store {store} "
            "again."
        )
    table = train.assign(Date=dates).merge(stores, on="Store").merge(states, on="Store")
    return table.sort_values(["Date", "Store"], ignore_index=True)[list(COLUMNS)]


def _read(folder: Path, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return columns of a file: names as text, numbers as int64, or float where one may lack."""
    path = folder / name
    if not path.exists():
        raise FileNotFoundError(f"folder must hold {name}, but {path} is not there.")
    try:
        # All as text first: read by pandas' guess, StateHoliday is a number in some parts of the
        # file and text in others.
        table = pd.read_csv(path, dtype=str, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        raise ValueError(
            f"{name} must be a table in commas, but it cannot be read as one."
        ) from None
    lacking = [column for column in columns if column not in table.columns]
    if lacking:
        raise ValueError(f"{name} must have the column {lacking[0]!r}, but it has not.")
    if not len(table):
        raise ValueError(f"{name} must have at least one row, but it has none.")
    table = table[list(columns)]
    for column in columns:
        table = table.assign(**{column: _converted(name, table[column])})
    return table


def _converted(name: str, values: pd.Series[str]) -> pd.Series[Any]:
    """Return a column as what it is; `name` is its file's."""
    column = values.name
    missing = values.isna()
    if missing.any() and column not in _MAY_LACK:
        raise ValueError(
            f"{name} must have a value of {column!r} in every row, but row "
            f"{np.flatnonzero(missing)[0]} has none."
        )
    if column in _TEXT:
        return values.str.strip()
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    wrong = ~np.isfinite(numbers) & ~missing
    if column in _WHOLE:
        wrong |= numbers % 1 != 0
    if wrong.any():
        kind = "whole numbers" if column in _WHOLE else "numbers"
        row = np.flatnonzero(wrong)[0]
        raise ValueError(
            f"{name} must hold {kind} in {column!r}, but row {row} holds {values.iloc[row]!r}."
        )
    return numbers.astype("int64") if column in _WHOLE else numbers
