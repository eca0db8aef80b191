"""A retail chain whose truth is known, because we wrote it; and what one does with its table.

`retail_chain`, `RetailTruth`, `COLUMNS`; `days_around_closures`, `leaderboard`.

A row is a store on a day. What sells depends on the store, the day, a promotion, holidays, and on
where the store's state lies on a map that the table does not contain. Used in the chapter
*tabular*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from glassbox.checks import whole
from glassbox.downloads import profile
from glassbox.entities import rmspe
from glassbox.frames import as_numbers, check_columns

__all__ = [
    "COLUMNS",
    "RetailTruth",
    "days_around_closures",
    "leaderboard",
    "retail_chain",
]

COLUMNS = (
    *("Store", "Date", "Sales", "Customers", "Open", "Promo", "StateHoliday", "SchoolHoliday"),
    *("State", "StoreType", "Assortment", "CompetitionDistance"),
)
"""The columns of a chain's table. Customers are counted when the day is over: as an input they
would tell the model what it is to predict. CompetitionDistance, in metres, has no value where there
is no competitor."""

_STATES = (
    *("Arlen", "Brosk", "Calder", "Dunmor", "Elvast", "Fenwick"),
    *("Gorsel", "Hallin", "Istra", "Jorund", "Kelmar", "Lowen"),
)
_FIRST, _DAYS = pd.Timestamp("2013-01-01"), 942  # as many days as Rossmann's training table has
_STORES = {"sample": 24, "full": 240}
# Monday to Sunday, in log sales: what every state has, and what the east has more of than the west.
_WEEK = np.array([0.20, 0.05, -0.04, -0.06, 0.02, 0.10, -0.15])
_TILT = np.array([-0.18, -0.12, -0.06, 0.0, 0.06, 0.12, 0.18])
_HOLIDAYS = ((1, 1), (1, 6), (5, 1), (10, 3), (11, 1), (12, 25), (12, 26))
_NOISE = 0.09  # standard deviation of log sales
_HOARDING, _CATCHING_UP, _FADE = 0.35, 0.5, 3.0  # log sales beside a closure; days until it fades

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RetailTruth:
    """What made the sales of a simulated chain; log sales are the sum of these parts."""

    positions: pd.DataFrame
    """Indexed by state: ``east`` and ``north``, from −1 to 1, the map that the table lacks."""
    promotion: pd.Series
    """Indexed by state: what a promotion adds to log sales."""
    weekday: pd.DataFrame
    """Indexed by state, a column for each day from 0, Monday: added to log sales."""
    season: pd.DataFrame
    """Indexed by state, a column for each month from 1: the mean added over its days."""
    expected: Floats
    """For each row, the sales without noise; 0 on a day when the store is closed."""
    disturbance: Floats
    """For each row, what the nearness of a long closure added to log sales; mostly 0."""
    noise: float
    """Standard deviation of the noise in log sales: no model can have a lower error for long."""


def retail_chain(num_stores: int | None = None, seed: int = 0) -> tuple[pd.DataFrame, RetailTruth]:
    """Return a simulated chain of stores, 942 days from 2013-01-01, and the truth about it.

    The stores are spread over twelve states. A state's week, season and answer to promotions
    depend on where it lies and on nothing else, so that states that are near each other sell alike;
    how large a store is has nothing to do with the map. Some stores close for weeks: sales rise in
    the days before and after. A few values of SchoolHoliday were not recorded.

    Parameters
    ----------
    num_stores : int, optional
        At least 12, one for each state. When left out, as the data profile has it: 24 in `sample`
        (22,608 rows), 240 in `full` (226,080 rows).
    seed : int
        The same arguments give the same table.

    Returns
    -------
    table : DataFrame
        `COLUMNS`, a row for each store and day, ordered by date and store.
    truth : RetailTruth

    Raises
    ------
    ValueError
        If `num_stores` is too small, or `seed` negative.
    """
    num_stores = _STORES[profile()] if num_stores is None else num_stores
    whole("num_stores", num_stores, len(_STATES))
    whole("seed", seed, 0)
    rng = np.random.default_rng(seed)
    dates = pd.date_range(_FIRST, periods=_DAYS)
    weekday = dates.day_of_week.to_numpy()
    positions = _positions(rng)
    east, north = positions.T
    weeks = _WEEK + np.outer(east, _TILT)
    # A yearly wave whose height depends on one direction and the day of its peak on the other.
    height, peak = 0.20 + 0.12 * north, 2.9 + 0.5 * east
    angle = 2 * np.pi * dates.day_of_year.to_numpy() / 365.25
    seasons = height[:, None] * np.cos(angle - peak[:, None])
    promotions = 0.28 + 0.22 * north

    state = rng.permutation(np.arange(num_stores) % len(_STATES))
    kind = rng.choice([0, 2, 3], num_stores, p=[0.6, 0.15, 0.25])
    kind[rng.permutation(num_stores)[: max(2, num_stores // 12)]] = 1  # these open on Sundays
    assortment = rng.choice(3, num_stores, p=[0.5, 0.1, 0.4])
    alone = rng.random(num_stores) < 0.12
    distance = np.round(np.exp(rng.normal(7.8, 1.1, num_stores)), -1) + 10
    size = rng.normal(8.6, 0.25, num_stores) + 0.08 * (assortment - 1) + 0.15 * (kind == 1)
    size += np.where(alone, 0.25, 0.05 * (np.log(distance) - 7.8))

    # Promotions: every other week, Monday to Friday, in all stores at once, as in Rossmann's chain.
    promo = ((np.arange(_DAYS) + 1) // 7 % 2 == 0) & (weekday < 5)
    holiday = np.isin(dates.month * 100 + dates.day, [100 * m + d for m, d in _HOLIDAYS])
    school = _school(dates, len(_STATES))[state]
    closed_long = _long_closures(rng, num_stores)
    is_open = ~closed_long & ~holiday & ((weekday < 6) | (kind[:, None] == 1))
    disturbance = np.where(is_open, _disturbance(closed_long), 0.0)

    eve = np.roll(holiday, -1) & ~holiday
    christmas = np.where((dates.month == 12) & (dates.day < 25), dates.day / 24 * 0.35, 0.0)
    log_sales = size[:, None] + weeks[state][:, weekday] + seasons[state] + disturbance
    log_sales += promotions[state][:, None] * promo + 0.05 * school + 0.15 * eve + christmas
    log_sales += 0.04 * np.arange(_DAYS) / 365  # the chain grows a little every year
    expected = np.where(is_open, np.exp(log_sales), 0.0)
    noisy = np.exp(log_sales + rng.normal(0, _NOISE, log_sales.shape))
    sales = np.where(is_open, np.round(noisy), 0)
    customers = np.round(sales / (9 + kind[:, None]) * np.exp(rng.normal(0, 0.05, sales.shape)))
    recorded = np.where(rng.random(school.shape) < 0.01, np.nan, school)

    def rows(values: NDArray[Any]) -> NDArray[Any]:
        """Return one value a row, for values of each store, or of each store and day."""
        return values.T.ravel() if values.ndim == 2 else np.tile(values, _DAYS)

    per_store = {
        "State": np.array(_STATES, dtype=object)[state],
        "StoreType": np.array(list("abcd"), dtype=object)[kind],
        "Assortment": np.array(list("abc"), dtype=object)[assortment],
        "CompetitionDistance": np.where(alone, np.nan, distance),
    }
    table = pd.DataFrame(
        {
            "Store": rows(np.arange(1, num_stores + 1)),
            "Date": dates.repeat(num_stores),
            "Sales": rows(sales.astype(np.int64)),
            "Customers": rows(customers.astype(np.int64)),
            "Open": rows(is_open.astype(np.int64)),
            "Promo": rows(np.broadcast_to(promo.astype(np.int64), is_open.shape)),
            "StateHoliday": rows(np.broadcast_to(np.where(holiday, "a", "0"), is_open.shape)),
            "SchoolHoliday": rows(recorded),
            **{name: rows(values) for name, values in per_store.items()},
        }
    )
    states = pd.Index(_STATES, name="State")
    by_month = pd.DataFrame(seasons.T, index=dates.month, columns=states).groupby(level=0).mean().T
    truth = RetailTruth(
        positions=pd.DataFrame(positions, index=states, columns=["east", "north"]),
        promotion=pd.Series(promotions, index=states),
        weekday=pd.DataFrame(weeks, index=states),
        season=by_month,
        expected=expected.T.ravel(),
        disturbance=disturbance.T.ravel(),
        noise=_NOISE,
    )
    return table, truth


def _positions(rng: np.random.Generator) -> Floats:
    """Return a place for each state, (states, 2), from −1 to 1 and none too near another."""
    east, north = np.meshgrid(np.linspace(-0.85, 0.85, 4), np.linspace(-0.8, 0.8, 3))
    places = np.stack([east.ravel(), north.ravel()], axis=1)
    return rng.permutation(places) + rng.uniform(-0.15, 0.15, places.shape)


def _school(dates: pd.DatetimeIndex, num_states: int) -> Floats:
    """Return for each state and day whether schools are closed; summers begin at different days."""
    day = dates.month.to_numpy() * 100 + dates.day.to_numpy()
    always = (day >= 1222) | (day <= 105) | ((day >= 401) & (day <= 414))
    always |= (day >= 1010) & (day <= 1023)
    of_year, start = dates.day_of_year.to_numpy(), 171 + 4 * np.arange(num_states)[:, None]
    closed: Floats = (always | ((of_year >= start) & (of_year < start + 42))).astype(float)
    return closed


def _long_closures(rng: np.random.Generator, num_stores: int) -> NDArray[np.bool_]:
    """Return for each store and day whether it is closed for weeks, as two stores in five once are.

    All reopen before the last six weeks, as it was in Rossmann's chain.
    """
    first = rng.integers(90, _DAYS - 140, num_stores)
    length = rng.integers(14, 57, num_stores)
    length[rng.permutation(num_stores)[2 * num_stores // 5 :]] = 0
    day = np.arange(_DAYS)
    return (day >= first[:, None]) & (day < (first + length)[:, None])


def _disturbance(closed: NDArray[np.bool_]) -> Floats:
    """Return what nearness to a closure adds to log sales, for each store and day."""
    day = np.arange(_DAYS)
    last = np.maximum.accumulate(np.where(closed, day, -np.inf), axis=1)
    ahead = np.where(closed, day, np.inf)[:, ::-1]
    following = np.minimum.accumulate(ahead, axis=1)[:, ::-1]
    before, after = following - day, day - last
    return _HOARDING * np.exp((1 - before) / _FADE) + _CATCHING_UP * np.exp((1 - after) / _FADE)


def days_around_closures(table: pd.DataFrame, min_days: int = 7, at_most: int = 14) -> pd.DataFrame:
    """Return the table with two columns more: how near each row is to a long closure of its store.

    ``AfterClosure`` is 1 on the day when the store opens again, 2 on the next, and so on;
    ``BeforeClosure`` is 1 on its last day before. Beyond `at_most`, both are ``at_most + 1``, and
    on a day when the store is closed, 0. The second looks ahead: as an input it is honest only
    where closures are planned.

    Parameters
    ----------
    table : DataFrame
        With the columns Store, Date and Open, in any order. Days of a closure may have no rows.
    min_days : int
        From how many days on without an open one it is a closure, at least 1: Sundays and holidays
        are none.
    at_most : int
        Up to how many days are counted, at least 1.

    Raises
    ------
    TypeError, ValueError
        If a column is not there, Date holds no dates, a row lacks its date or its store, or a
        number is out of range.
    """
    check_columns(table, ["Store", "Date", "Open"])
    whole("min_days", min_days, 1)
    whole("at_most", at_most, 1)
    if not pd.api.types.is_datetime64_any_dtype(table["Date"]):
        raise TypeError(f"column 'Date' must hold dates, but its dtype is {table['Date'].dtype}.")
    for name in ("Store", "Date"):
        if table[name].isna().any():
            raise ValueError(
                f"column {name!r} must have a value in every row, but it lacks "
                f"{table[name].isna().sum()} of {len(table)}."
            )
    place = np.flatnonzero(as_numbers(table, "Open") == 1)
    rows = table[["Store", "Date"]].iloc[place].reset_index(drop=True)
    rows = rows.sort_values(["Store", "Date"])
    by_store = rows.groupby("Store")["Date"]
    reopened = rows["Date"].where(by_store.diff() > pd.Timedelta(days=min_days))
    last_day = rows["Date"].where(by_store.diff(-1) < -pd.Timedelta(days=min_days))
    apart = {
        "AfterClosure": rows["Date"] - reopened.groupby(rows["Store"]).ffill(),
        "BeforeClosure": last_day.groupby(rows["Store"]).bfill() - rows["Date"],
    }
    columns = {}
    for name, difference in apart.items():
        days = np.zeros(len(table), dtype=np.int64)
        near = (difference.dt.days + 1).clip(upper=at_most + 1).fillna(at_most + 1)
        days[place[rows.index]] = near.to_numpy(dtype=np.int64)
        columns[name] = days
    return table.assign(**columns)


def leaderboard(
    submissions: Mapping[str, ArrayLike | Tensor],
    actual: ArrayLike | Tensor,
    public: ArrayLike | Tensor,
) -> pd.DataFrame:
    """Score submissions as a competition does: on a public part at once, on the private at the end.

    Parameters
    ----------
    submissions : mapping of str to array, each of shape (n,)
        What each predicts, in the units of `actual`.
    actual : array of shape (n,)
        What came true; positive.
    public : array of bool, shape (n,)
        Which rows the public score is of; the private one is of the others.

    Returns
    -------
    DataFrame
        Indexed by submission, the best public score first: ``public`` and ``private``, the root
        mean squared percentage errors, and ``public_rank`` and ``private_rank``, 1 for the least.

    Raises
    ------
    ValueError
        If there is no submission, the lengths differ, one of the parts is empty, a prediction is
        not finite, or an actual value not positive.
    """
    truth, shown = torch.as_tensor(actual), torch.as_tensor(public)
    if shown.dtype != torch.bool or shown.shape != truth.shape or shown.all() or not shown.any():
        raise ValueError(
            "public must hold True and False, both of them, one for each actual value, but it has "
            f"shape {tuple(shown.shape)} and dtype {shown.dtype} beside {tuple(truth.shape)}."
        )
    if not submissions:
        raise ValueError("submissions must hold at least one, but there is none.")
    scores = {}
    for name, values in submissions.items():
        pred = torch.as_tensor(values).cpu()
        if pred.shape != truth.shape:
            raise ValueError(
                f"submission {name!r} must have shape {tuple(truth.shape)}, but it has "
                f"{tuple(pred.shape)}."
            )
        if not bool(torch.isfinite(pred).all()):
            raise ValueError(f"submission {name!r} must hold finite numbers in every row.")
        parts = {"public": shown, "private": ~shown}
        scores[name] = {
            part: rmspe(pred[rows], truth[rows].to(pred.dtype)).item()
            for part, rows in parts.items()
        }
    board = pd.DataFrame.from_dict(scores, orient="index", columns=["public", "private"])
    ranks = board.rank(method="min").astype(int).add_suffix("_rank")
    return board.join(ranks).sort_values("public", kind="stable")
