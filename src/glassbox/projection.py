"""Many numbers per item brought down to two that can be drawn, and groups told apart.

`pca`, `discriminant_projection`, `group_probabilities`, `Projection`.

Built in the chapter *heatmaps*, for the explorer of a network's layers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from glassbox.checks import whole

__all__ = ["Projection", "discriminant_projection", "group_probabilities", "pca"]


class Projection(NamedTuple):
    """Items seen along a few axes.

    Attributes
    ----------
    points : Tensor of shape (n, k)
        Where each item lies along each axis; their mean is 0.
    axes : Tensor of shape (d, k)
        A column an axis. Of each column the entry of largest size is positive, since the opposite
        axis would do as well.
    center : Tensor of shape (d,)
        The mean item: `points` is `(x - center) @ axes`.
    values : Tensor of shape (k,)
        What each axis achieves, see the function that made it.
    """

    points: Tensor
    axes: Tensor
    center: Tensor
    values: Tensor


def pca(x: Tensor, k: int) -> Projection:
    """Return the `k` directions at right angles in which the items spread most.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        A row an item; on any device.
    k : int
        From 1 to the smaller of `n` and `d`.

    Returns
    -------
    Projection
        The axes have length 1; `values` are their shares of the whole variance, largest first.

    Raises
    ------
    TypeError, ValueError
        If `x` is not a matrix of finite numbers in which anything varies, or `k` is out of range.

    References
    ----------
    Pearson, "On lines and planes of closest fit to systems of points in space", 1901.
    """
    rows = _matrix(x)
    whole("k", k, 1, min(rows.shape))
    center = rows.mean(0)
    # A power of two changes no digit, and keeps the squares of the sizes within what float64 holds.
    scale = 2.0 ** (math.frexp(float((rows - center).abs().max()))[1] - 1)
    _, sizes, directions = torch.linalg.svd((rows - center) / scale, full_matrices=False)
    return _projection(x, rows, directions[:k].T, center, sizes[:k] ** 2 / (sizes**2).sum())


def discriminant_projection(
    x: Tensor, labels: Tensor, k: int = 2, *, weight: float = 10.0
) -> Projection:
    """Return the `k` directions in which the groups lie farthest apart for their own spread.

    Fisher's criterion: the variance between the groups' means over the variance within groups.
    A few items in many dimensions know too little of their spread, so the covariance within groups
    is averaged with that of a round ball of all items' mean variance, which counts as `weight`
    items. Groups of one item then have a result too.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        A row an item, whether or not it is in a group; on any device.
    labels : Tensor of shape (n,), whole numbers
        The group of each item; negative for an item that is in none.
    k : int
        From 1 to `d`. With `g` groups only `g` − 1 directions separate anything; after those come
        the ones in which all items spread most, counted in units of the spread within groups.
    weight : float
        How many items the round ball counts as; 0 for the criterion as Fisher has it.

    Returns
    -------
    Projection
        Distances between `points` are in units of the deviation within groups; `values` are the
        criterion along each axis, 0 for one that separates nothing.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or shape, there are fewer than two groups, or `weight`
        is 0 and the covariance within groups cannot be inverted.

    References
    ----------
    Fisher, "The use of multiple measurements in taxonomic problems", 1936; Friedman, "Regularized
    discriminant analysis", 1989.
    """
    rows, means, counts, root = _groups(x, labels, weight)
    whole("k", k, 1, rows.shape[1])
    center = rows.mean(0)
    # In these coordinates the groups are round, with deviation 1, and distances mean something.
    whitened, whitened_means = _whiten(root, rows - center), _whiten(root, means - center)
    shares = counts / counts.sum()
    apart = whitened_means - shares @ whitened_means
    criterion, directions = _spectrum(apart.T @ (apart * shares[:, None]))
    separating = min(k, int((criterion > 1e-9 * max(1.0, float(criterion[0]))).sum()))
    axes = directions[:, :separating]
    rest = whitened - whitened @ axes @ axes.T
    # The directions that are taken come last, after those in which nothing varies.
    spread = _spectrum(rest.T @ rest / len(rest) - axes @ axes.T)[1]
    axes = torch.cat([axes, spread[:, : k - separating]], 1)
    values = criterion[:k].clone()
    values[separating:] = 0
    return _projection(
        x, rows, torch.linalg.solve_triangular(root.T, axes, upper=True), center, values
    )


def group_probabilities(
    x: Tensor, labels: Tensor, *, weight: float = 10.0, other: bool = False
) -> Tensor:
    """Return for every item the probability of each group, judged by the distances to their means.

    What Bayes' rule says of normal groups with one covariance and equal chances: a softmax of −½
    the squared distance, in units of the spread within groups. The covariance is the one of
    `discriminant_projection`.

    Such probabilities sum to 1 over the groups, so that an item of *no* group goes to the nearest
    one, often with confidence. With `other` there is one more candidate, a group that nobody has
    named yet: its mean may be wherever the items are, its spread is that of the others. It wins
    where no named group is near.

    Parameters
    ----------
    x, labels, weight
        As in `discriminant_projection`.
    other : bool
        Add a last column, the probability that an item is in none of the named groups.

    Returns
    -------
    Tensor of shape (n, g), or (n, g + 1) with `other`
        A column a group, in the order of their numbers; each row sums to 1.

    Raises
    ------
    TypeError, ValueError
        As `discriminant_projection` does.
    """
    rows, means, _, root = _groups(x, labels, weight)
    apart = _whiten(root, rows)[:, None] - _whiten(root, means)[None]
    scores = _log_density(apart, root)
    if other:
        apart = rows - rows.mean(0)
        wide = torch.linalg.cholesky(apart.T @ apart / len(rows) + root @ root.T)
        scores = torch.cat([scores, _log_density(_whiten(wide, apart)[:, None], wide)], 1)
    return scores.softmax(1).to(x.device, x.dtype)


def _log_density(whitened: Tensor, root: Tensor) -> Tensor:
    """Return the logarithm of the normal density, up to a constant, at whitened deviations."""
    return -0.5 * (whitened**2).sum(-1) - root.diagonal().log().sum()


def _groups(x: Tensor, labels: Tensor, weight: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the rows, the groups' means and counts, and the root of the covariance within."""
    rows = _matrix(x)
    numbers = _labels(labels, len(rows))
    if not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
        raise ValueError(f"weight must be a number of at least 0, but it is {weight!r}.")
    named = numbers >= 0
    ids, group = numbers[named].unique(return_inverse=True)
    if len(ids) < 2:
        raise ValueError(
            f"labels must name at least two groups (numbers from 0 on), but they name {len(ids)}."
        )
    members, counts = rows[named], group.bincount().to(rows)
    means = torch.zeros(len(ids), rows.shape[1]).to(rows).index_add_(0, group, members)
    means = means / counts[:, None]
    deviations = members - means[group]
    freedom = len(members) - len(ids)
    scatter = deviations.T @ deviations + weight * _ball(rows)
    root, failed = torch.linalg.cholesky_ex(scatter / (freedom + weight or 1))
    # With fewer items than dimensions it has no inverse, whatever rounding makes of it.
    if failed or (weight == 0 and freedom < rows.shape[1]):
        raise ValueError(
            "weight must be above 0 where the groups have too few items for the covariance within "
            f"them: {len(members)} items in {len(ids)} groups, {rows.shape[1]} dimensions."
        )
    return rows, means, counts, root


def _ball(rows: Tensor) -> Tensor:
    """Return the covariance of a round ball with the items' mean variance."""
    return rows.var(0, correction=0).mean() * torch.eye(rows.shape[1]).to(rows)


def _whiten(root: Tensor, rows: Tensor) -> Tensor:
    whitened: Tensor = torch.linalg.solve_triangular(root, rows.T, upper=False)
    return whitened.T


def _spectrum(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, largest first, and the eigenvectors as columns."""
    values, vectors = torch.linalg.eigh(symmetric)
    return values.flip(0), vectors.flip(1)


def _projection(
    x: Tensor, rows: Tensor, axes: Tensor, center: Tensor, values: Tensor
) -> Projection:
    largest = axes.abs().argmax(0, keepdim=True)
    axes = axes * axes.gather(0, largest).sign()
    made = ((rows - center) @ axes, axes, center, values)
    return Projection(*(t.to(x.device, x.dtype) for t in made))


def _matrix(x: Tensor) -> Tensor:
    """Return the rows in float64 on the CPU: not every accelerator has decompositions, or it."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor, but it is a {type(x).__name__}.")
    if not x.is_floating_point():
        raise TypeError(f"x must hold floating-point numbers, but its dtype is {x.dtype}.")
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"x must have the shape (items, numbers), but it has {tuple(x.shape)}.")
    rows: Tensor = x.detach().cpu().double()
    if not bool(rows.isfinite().all()):
        raise ValueError("x must hold finite numbers, but it holds NaN or infinity.")
    if bool((rows == rows[0]).all()):
        raise ValueError(f"x must vary, but all of its {len(rows)} rows are equal.")
    return rows


def _labels(labels: Tensor, n: int) -> Tensor:
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels must be a tensor of whole numbers, but it is {kind}.")
    if labels.shape != (n,):
        raise ValueError(
            f"labels must have the shape ({n},), one an item, but it has {tuple(labels.shape)}."
        )
    numbers: Tensor = labels.detach().cpu().long()
    return numbers
