"""A table of ratings: codes for users and items, a fair split, and what biases alone explain.

`RatingCodes`, `split_ratings`, `rating_matrix`, `check_codes`; `Biases`, `fit_biases`.

A row is a rating: who, what, how much. Built in the chapter *collaborative*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassbox.checks import whole
from glassbox.frames import as_numbers, check_columns

__all__ = ["Biases", "RatingCodes", "check_codes", "fit_biases", "rating_matrix", "split_ratings"]


def split_ratings(
    table: pd.DataFrame,
    valid_fraction: float,
    *,
    keep: int = 1,
    user: str = "userId",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw the rows of a validation set at random, so that every user keeps some for training.

    Parameters
    ----------
    table : DataFrame
        A row for each rating.
    valid_fraction : float
        The share of each user's ratings that is held out, rounded down; between 0 and 1, both
        excluded.
    keep : int
        How many ratings a user keeps at least (all, if there are no more), from 1.
    user : str
        The column that names the user.
    generator : torch.Generator, optional
        Draws the split.

    Returns
    -------
    train_rows, valid_rows : Tensor of int64
        Together the number of every row, once, each in increasing order.

    Raises
    ------
    ValueError
        If the table is empty or lacks the column, a number is out of range, or nothing is held out.
    """
    check_columns(table, [user])
    _check_rows(table)
    whole("keep", keep, 1)
    if not 0 < valid_fraction < 1:
        raise ValueError(f"valid_fraction must lie between 0 and 1, but it is {valid_fraction!r}.")
    drawn = pd.Series(torch.rand(len(table), dtype=torch.float64, generator=generator).numpy())
    groups = drawn.groupby(table[user].to_numpy())
    place, sizes = groups.rank(method="first"), groups.transform("size")
    held = np.minimum(np.floor(valid_fraction * sizes), sizes - keep)
    is_valid = torch.from_numpy((place <= held).to_numpy(copy=True))
    if not bool(is_valid.any()):
        raise ValueError(
            f"table must have a user with more than {keep} ratings, so that {valid_fraction} of "
            f"them can be held out, but the {len(table)} rows have none."
        )
    return (~is_valid).nonzero().flatten(), is_valid.nonzero().flatten()


@dataclass(frozen=True, eq=False)
class RatingCodes:
    """Whole numbers for users and items: 1, 2, … for those of the training rows, 0 for others.

    Made by `fit`.
    """

    users: pd.Index
    """The ids of users, in order: the first has the code 1."""
    items: pd.Index
    scale: tuple[float, float]
    """The lowest and the highest rating that is allowed."""
    columns: tuple[str, str, str]
    """The names of the columns of users, items and ratings."""

    @classmethod
    def fit(
        cls,
        table: pd.DataFrame,
        train_rows: Tensor,
        *,
        scale: tuple[float, float] = (0.5, 5.0),
        columns: tuple[str, str, str] = ("userId", "movieId", "rating"),
    ) -> RatingCodes:
        """Learn which users and items there are, from the training rows only.

        Parameters
        ----------
        table : DataFrame
            A row for each rating.
        train_rows : Tensor of int64
            Numbers of rows.
        scale : (float, float)
            The lowest and the highest rating that is allowed.
        columns : (str, str, str)
            The columns of users and of items, whole numbers both, and of ratings.

        Raises
        ------
        TypeError, ValueError
            If the table is empty or lacks a column, ids are not whole numbers, there is no training
            row, or a rating is outside of the scale.
        """
        if len(scale) != 2 or not scale[0] < scale[1]:
            raise ValueError(f"scale must be a lower and a higher number, but it is {scale!r}.")
        _check_ratings(table, columns, scale)
        rows = train_rows.numpy()
        if len(rows) == 0 or rows.min() < 0 or rows.max() >= len(table):
            raise ValueError(
                f"train_rows must hold numbers of rows, from 0 to {len(table) - 1}, and at least "
                f"one, but {'it is empty' if len(rows) == 0 else 'one is not'}."
            )
        train = table.iloc[rows]
        users, items = (pd.Index(np.unique(train[name].to_numpy())) for name in columns[:2])
        return cls(users, items, (float(scale[0]), float(scale[1])), columns)

    @property
    def counts(self) -> tuple[int, int]:
        """How many codes there are for users and for items, with 0, the unknown level."""
        return len(self.users) + 1, len(self.items) + 1

    def encode(self, user_ids: Any, item_ids: Any) -> Tensor:
        """Return the codes of pairs, int64 of shape (n, 2); 0 for what no training row has.

        Parameters
        ----------
        user_ids, item_ids : arrays of int, shape (n,)
        """
        ids = [np.asarray(user_ids), np.asarray(item_ids)]
        for values, name in zip(ids, self.columns[:2], strict=True):
            _check_ids(values, name)
        if ids[0].shape != ids[1].shape or ids[0].ndim != 1:
            raise ValueError(
                "user_ids and item_ids must have one shape (n,), but they have "
                f"{ids[0].shape} and {ids[1].shape}."
            )
        codes = [
            known.get_indexer(values) + 1
            for known, values in zip((self.users, self.items), ids, strict=True)
        ]
        return torch.from_numpy(np.stack(codes, axis=1).astype(np.int64))

    def transform(self, table: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """Return the codes of a table, int64 of shape (n, 2), and its ratings, float32 of (n,).

        Raises
        ------
        TypeError, ValueError
            As in `fit`.
        """
        _check_ratings(table, self.columns, self.scale)
        user, item, rating = self.columns
        x = self.encode(table[user].to_numpy(), table[item].to_numpy())
        return x, torch.tensor(table[rating].to_numpy(copy=True), dtype=torch.float32)

    def user_code(self, user_id: int) -> int:
        """Return the code of a user who has ratings in the training rows.

        Raises
        ------
        ValueError
            If there is none.
        """
        return _code(self.users, "user_id", user_id)

    def item_code(self, item_id: int) -> int:
        """Return the code of an item that has ratings in the training rows.

        Raises
        ------
        ValueError
            If there is none.
        """
        return _code(self.items, "item_id", item_id)


def rating_matrix(x: Tensor, y: Tensor, counts: tuple[int, int]) -> Tensor:
    """Return the ratings as a sparse matrix, with a row for each user and a column for each item.

    Parameters
    ----------
    x : Tensor of int64, shape (n, 2)
        Codes of users and items.
    y : Tensor, shape (n,)
    counts : (int, int)
        How many codes there are of each.

    Returns
    -------
    Tensor, sparse, of shape `counts`
        What is not there was not rated, which is something else than a rating of 0.

    Raises
    ------
    ValueError
        If a user rated an item twice, or the shapes do not fit.
    """
    _check_pairs(x, y)
    matrix = torch.sparse_coo_tensor(x.T, y, counts, check_invariants=True).coalesce()
    if matrix.indices().shape[1] < len(x):
        raise ValueError(
            f"x must hold each pair once, but {len(x) - matrix.indices().shape[1]} of its rows "
            "rate what the same user has rated before."
        )
    return matrix


class Biases(NamedTuple):
    """What ratings are without tastes: a mean, and what each user and each item adds to it."""

    mean: Tensor
    user: Tensor
    item: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return predictions of shape (n,) for codes of shape (n, 2)."""
        return self.mean + self.user[x[:, 0]] + self.item[x[:, 1]]


def fit_biases(
    x: Tensor, y: Tensor, counts: tuple[int, int], *, strength: float = 5.0, rounds: int = 30
) -> Biases:
    """Fit a mean and biases of users and of items by least squares with a penalty on the biases.

    In turns, each side exactly: with the other's biases taken off, a bias is the sum of what is
    left over the number of ratings plus `strength`, as if there were so many ratings of 0 more.

    Parameters
    ----------
    x : Tensor of int64, shape (n, 2)
        Codes of users and items.
    y : Tensor, shape (n,)
    counts : (int, int)
        How many codes there are of each. One without ratings has the bias 0.
    strength : float
        Of the penalty, above 0.
    rounds : int
        How often each side is solved for.

    Raises
    ------
    ValueError
        If there is no rating, or a number is out of range.

    References
    ----------
    Koren, Bell and Volinsky, "Matrix factorization techniques for recommender systems", 2009.
    """
    _check_pairs(x, y)
    whole("rounds", rounds, 1)
    if not strength > 0:
        raise ValueError(f"strength must be above 0, but it is {strength!r}.")
    rest = y - y.mean()
    biases = [torch.zeros(count).to(y) for count in counts]
    weights = [torch.bincount(x[:, i], minlength=counts[i]) + strength for i in (0, 1)]
    for _ in range(rounds):
        for side, other in ((1, 0), (0, 1)):
            left = rest - biases[other][x[:, other]]
            biases[side] = torch.zeros_like(biases[side]).index_add_(0, x[:, side], left)
            biases[side] /= weights[side]
    return Biases(y.mean(), *biases)


def check_codes(x: Tensor) -> None:
    """Refuse what has not the shape of codes, (n, 2).

    Raises
    ------
    ValueError
        In one sentence.
    """
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(
            "x must have shape (n, 2), the code of a user and of an item in each row, but it has "
            f"{tuple(x.shape)}."
        )


def _check_pairs(x: Tensor, y: Tensor) -> None:
    check_codes(x)
    if y.shape != (len(x),) or len(x) == 0:
        raise ValueError(
            f"y must hold a rating for each of the {len(x)} rows of x, and at least one, but it "
            f"has shape {tuple(y.shape)}."
        )


def _check_rows(table: pd.DataFrame) -> None:
    if len(table) == 0:
        raise ValueError("table must have at least one rating, but it has no rows.")


def _check_ratings(
    table: pd.DataFrame, columns: tuple[str, str, str], scale: tuple[float, float]
) -> None:
    check_columns(table, columns)
    _check_rows(table)
    for name in columns[:2]:
        _check_ids(table[name].to_numpy(), name)
    rating = as_numbers(table, columns[2])
    wrong = ~((rating >= scale[0]) & (rating <= scale[1]))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"column {columns[2]!r} must hold ratings from {scale[0]:g} to {scale[1]:g}, but its "
            f"row {row} holds {rating[row]:g}."
        )


def _check_ids(values: NDArray[Any], name: str) -> None:
    if values.dtype.kind not in "iu":
        raise TypeError(f"column {name!r} must hold whole numbers, but it holds {values.dtype}.")


def _code(known: pd.Index, name: str, wanted: int) -> int:
    place = int(known.get_indexer([wanted])[0])
    if place < 0:
        raise ValueError(
            f"{name} must be one that has ratings in the training rows, but {wanted!r} has none."
        )
    return place + 1
