"""Models that guess a rating from who rates what, and nothing else.

`DotProductBias`, `RatingNet`; `recommend`.

Built in the chapter *collaborative*; what such a model has learned is read with `glassbox.latent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from glassbox.checks import whole
from glassbox.layers import Embedding
from glassbox.losses import sigmoid
from glassbox.ratings import RatingCodes, check_codes

__all__ = ["DotProductBias", "RatingNet", "recommend"]


class DotProductBias(nn.Module):
    """A rating as the dot product of a user's vector and an item's, plus their biases.

    Parameters
    ----------
    counts : (int, int)
        How many codes there are for users and for items, with 0, the unknown level.
    dim : int
        How long the vectors are.
    y_range : (float, float), optional
        A sigmoid squeezes ratings between these, and reaches neither.

    Attributes
    ----------
    users, items, user_bias, item_bias : Embedding
        They start near 0, and at 0 for the unknown level: who has no ratings is taken for a user of
        no particular taste.
    intercept : Parameter, shape ()
        What is left when all of them are 0.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    Koren, Bell and Volinsky, "Matrix factorization techniques for recommender systems", 2009.

    Examples
    --------
    >>> DotProductBias((4, 6), 2, y_range=(0, 5.5))(torch.tensor([[3, 5], [0, 0]])).shape
    torch.Size([2])
    """

    def __init__(
        self, counts: tuple[int, int], dim: int, *, y_range: tuple[float, float] | None = None
    ) -> None:
        _check_range(y_range)
        super().__init__()
        self.y_range = y_range
        self.users, self.items = (_small(count, dim) for count in counts)
        self.user_bias, self.item_bias = (_small(count, 1) for count in counts)
        self.intercept = nn.Parameter(torch.zeros(()))

    def logits(self, x: Tensor) -> Tensor:
        """Return what is not squeezed yet, shape (n,), for codes of shape (n, 2)."""
        check_codes(x)
        user, item = x.unbind(1)
        dot = (self.users(user) * self.items(item)).sum(1)
        biases = self.user_bias(user) + self.item_bias(item)
        logits: Tensor = self.intercept + dot + biases[:, 0]
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Return ratings of shape (n,) for codes of users and items, int64 of shape (n, 2)."""
        return _squeeze(self.logits(x), self.y_range)


class RatingNet(nn.Module):
    """A rating by a network that gets a user's vector and an item's side by side.

    Parameters
    ----------
    counts, y_range
        As in `DotProductBias`.
    sizes : (int, int)
        How long the vectors of users and of items are; they need not be equal.
    widths : sequence of int
        Of the hidden layers.
    dropout : float
        Of the vectors and of the hidden layers, from 0 to below 1.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(
        self,
        counts: tuple[int, int],
        sizes: tuple[int, int] = (30, 30),
        widths: Sequence[int] = (50,),
        *,
        dropout: float = 0.0,
        y_range: tuple[float, float] | None = None,
    ) -> None:
        _check_range(y_range)
        super().__init__()
        self.y_range = y_range
        self.users, self.items = (_small(*pair) for pair in zip(counts, sizes, strict=True))
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        for n_in, n_out in pairwise([sum(sizes), *widths]):
            layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear([sum(sizes), *widths][-1], 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return ratings of shape (n,) for codes of users and items, int64 of shape (n, 2)."""
        check_codes(x)
        vectors = torch.cat([self.users(x[:, 0]), self.items(x[:, 1])], dim=1)
        return _squeeze(self.layers(vectors)[:, 0], self.y_range)


@torch.no_grad()
def recommend(
    model: nn.Module, codes: RatingCodes, table: pd.DataFrame, user_id: int, n: int = 5
) -> pd.Series:
    """Return the items that a user has not rated and that the model expects to be rated highest.

    Parameters
    ----------
    model : nn.Module
        From codes of shape (m, 2) to ratings of shape (m,).
    codes : RatingCodes
    table : DataFrame
        What was rated: none of these is recommended.
    user_id : int
        One with ratings in the rows that the codes were fitted on.
    n : int
        At most so many.

    Returns
    -------
    Series
        Expected ratings, the highest first, indexed by the ids of the items.

    Raises
    ------
    ValueError
        If the user has no ratings, or `n` is below 1.
    """
    whole("n", n, 1)
    user = codes.user_code(user_id)
    user_column, item_column, _ = codes.columns
    seen = table[item_column][table[user_column] == user_id]
    items = codes.items[~codes.items.isin(seen)]
    x = codes.encode(np.full(len(items), codes.users[user - 1]), items.to_numpy())
    device, training = next(model.parameters()).device, model.training
    model.eval()
    expected = pd.Series(model(x.to(device)).cpu().numpy(), index=items)
    model.train(training)
    return expected.sort_values(ascending=False, kind="stable").head(n)


def _small(count: int, dim: int) -> Embedding:
    embedding = Embedding(count, dim)
    with torch.no_grad():
        embedding.weight.mul_(0.1)
        embedding.weight[0] = 0.0
    return embedding


def _squeeze(out: Tensor, y_range: tuple[float, float] | None) -> Tensor:
    if y_range is None:
        return out
    low, high = y_range
    return low + (high - low) * sigmoid(out)


def _check_range(y_range: tuple[float, float] | None) -> None:
    if y_range is not None and not y_range[0] < y_range[1]:
        raise ValueError(f"y_range must be a lower and a higher number, but it is {y_range}.")
