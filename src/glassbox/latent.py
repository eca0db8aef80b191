"""What a model of ratings has learned: its biases and vectors, in a form in which they mean much.

`Factors`, `factors`, `centred`, `balanced`; `rotate_onto`, `explained`.

Many sets of vectors make the same predictions. Centred and balanced, what is left to choose is how
to turn them. Built in the chapter *collaborative*.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from glassbox.collab import DotProductBias

__all__ = ["Factors", "balanced", "centred", "explained", "factors", "rotate_onto"]


class Factors(NamedTuple):
    """A dot product with biases, taken out of its model: float64, on the CPU.

    The logit of user u and item i is ``intercept + user_bias[u] + item_bias[i] + users[u] ·
    items[i]``.
    """

    intercept: Tensor
    user_bias: Tensor
    item_bias: Tensor
    users: Tensor
    """Shape (users, k)."""
    items: Tensor
    """Shape (items, k)."""

    def logits(self) -> Tensor:
        """Return the logit of every user with every item, (users, items)."""
        biases = self.intercept + self.user_bias[:, None] + self.item_bias
        return biases + self.users @ self.items.T


def factors(model: DotProductBias) -> Factors:
    """Return what a model has learned, without the unknown level: row i has the code i + 1."""
    parts = {
        "intercept": model.intercept,
        "user_bias": model.user_bias.weight[1:, 0],
        "item_bias": model.item_bias.weight[1:, 0],
        "users": model.users.weight[1:],
        "items": model.items.weight[1:],
    }
    return Factors(**{name: part.detach().cpu().double() for name, part in parts.items()})


def centred(f: Factors) -> Factors:
    """Return the factors with all means taken into the biases and the intercept; same predictions.

    Then a bias of an item is what the average user thinks of it, as the average user's vector is 0.
    """
    user_mean, item_mean = f.users.mean(0), f.items.mean(0)
    users, items = f.users - user_mean, f.items - item_mean
    user_bias, item_bias = f.user_bias + users @ item_mean, f.item_bias + items @ user_mean
    intercept = f.intercept + user_bias.mean() + item_bias.mean() + user_mean @ item_mean
    return Factors(
        intercept, user_bias - user_bias.mean(), item_bias - item_bias.mean(), users, items
    )


def balanced(f: Factors) -> Factors:
    """Return the factors with vectors of one spread on both sides; same predictions.

    The sums of squares and products of the users' vectors are those of the items', and their axes
    are the principal ones, the strongest first. It is what the singular value decomposition of all
    dot products gives, with the root of each singular value on either side. Of each of the items'
    columns, the entry of largest size is positive.

    There are as many columns as there were, or as the smaller side has rows, if these are fewer.
    """
    left, left_root = torch.linalg.qr(f.users)
    right, right_root = torch.linalg.qr(f.items)
    u, sizes, vh = torch.linalg.svd(left_root @ right_root.T, full_matrices=False)
    users, items = left @ u * sizes.sqrt(), right @ vh.T * sizes.sqrt()
    signs = items.gather(0, items.abs().argmax(0, keepdim=True)).sign()
    return f._replace(users=users * signs, items=items * signs)


def rotate_onto(points: Tensor, target: Tensor) -> Tensor:
    """Turn and mirror points around 0 so that they come as near to others as they can.

    Nothing is shifted or scaled: an orthogonal matrix.

    Parameters
    ----------
    points, target : Tensor, shape (n, d)
        Row i of one belongs to row i of the other.

    Returns
    -------
    Tensor, shape (n, d)

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966.
    """
    _check_shapes(points, target)
    u, _, vh = torch.linalg.svd(points.T @ target)
    turned: Tensor = points @ (u @ vh)
    return turned


def explained(points: Tensor, target: Tensor) -> float:
    """Return the share of the target's squares that the points explain as they lie: R².

    1 where they are the target, 0 where they are no better than its mean, and less where worse.

    Parameters
    ----------
    points, target : Tensor, shape (n, d)

    Raises
    ------
    ValueError
        If the shapes differ, or the target does not vary.
    """
    _check_shapes(points, target)
    spread = (target - target.mean(0)).square().sum()
    if not spread > 0:
        raise ValueError("target must vary, but all of its rows are equal.")
    return float(1 - (target - points).square().sum() / spread)


def _check_shapes(points: Tensor, target: Tensor) -> None:
    if points.ndim != 2 or points.shape != target.shape:
        raise ValueError(
            "points and target must have one shape (n, d), but they have "
            f"{tuple(points.shape)} and {tuple(target.shape)}."
        )
