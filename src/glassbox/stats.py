"""Means, spreads and co-movement of tensors, and statistics that are kept while data streams by.

`mean`, `variance`, `std`, `mean_absolute_deviation`, `covariance`, `correlation`, `RunningStats`.

Built in the chapter *variance*.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "RunningStats",
    "correlation",
    "covariance",
    "mean",
    "mean_absolute_deviation",
    "std",
    "variance",
]


def _floating(x: Tensor, name: str = "x") -> Tensor:
    """Return `x` as a non-empty floating-point tensor, or say in one sentence why that fails."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, but it is a {type(x).__name__}.")
    if x.is_complex():
        raise TypeError(f"{name} must hold real numbers, but its dtype is {x.dtype}.")
    if x.numel() == 0:
        raise ValueError(f"{name} must hold at least one value, but its shape is {tuple(x.shape)}.")
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def _degrees_of_freedom(count: int, ddof: int) -> int:
    if not isinstance(ddof, int) or ddof < 0:
        raise ValueError(f"ddof must be a whole number of at least 0, but it is {ddof!r}.")
    if count <= ddof:
        raise ValueError(
            f"ddof must be smaller than the number of values, {count}, but it is {ddof}."
        )
    return count - ddof


def _count(x: Tensor, dim: int | None) -> int:
    return x.numel() if dim is None else x.shape[dim]


def mean(x: Tensor, dim: int | None = None, *, keepdim: bool = False) -> Tensor:
    """Return the sum of the values divided by how many there are.

    Parameters
    ----------
    x : Tensor, any shape
        Whole numbers are converted to the default floating-point type.
    dim : int, optional
        The dimension to average over; all of them when left out.
    keepdim : bool
        Keep the averaged dimension with size 1.

    Raises
    ------
    TypeError, ValueError
        If `x` is not a tensor of real numbers, or is empty.
    """
    x = _floating(x)
    total = x.sum() if dim is None else x.sum(dim, keepdim=keepdim)
    return total / _count(x, dim)


def _deviations(x: Tensor, dim: int | None) -> Tensor:
    return x - (mean(x) if dim is None else mean(x, dim, keepdim=True))


def variance(x: Tensor, dim: int | None = None, *, ddof: int = 0) -> Tensor:
    """Return the mean squared deviation from the mean, by two passes over the data.

    The one-pass form E[x²] − E[x]² is not used: where the mean is large beside the spread
    it subtracts two nearly equal numbers and loses every digit [1]_.

    Parameters
    ----------
    x : Tensor, any shape
    dim : int, optional
        The dimension to reduce; all of them when left out.
    ddof : int
        What is subtracted from the number of values in the denominator: 0 for the variance of
        these values, 1 for an unbiased estimate of the variance they were drawn from.

    Raises
    ------
    TypeError, ValueError
        If `x` is not a tensor of real numbers, is empty, or has no more than `ddof` values.

    References
    ----------
    .. [1] Chan, Golub & LeVeque, "Algorithms for computing the sample variance", 1983.
    """
    x = _floating(x)
    freedom = _degrees_of_freedom(_count(x, dim), ddof)
    squares = _deviations(x, dim) ** 2
    return (squares.sum() if dim is None else squares.sum(dim)) / freedom


def std(x: Tensor, dim: int | None = None, *, ddof: int = 0) -> Tensor:
    """Return the standard deviation, the square root of `variance`, in the units of `x`."""
    return variance(x, dim, ddof=ddof).sqrt()


def mean_absolute_deviation(x: Tensor, dim: int | None = None) -> Tensor:
    """Return the mean distance from the mean, in the units of `x`.

    Less sensitive to outliers than `std`, and less efficient where the noise is normal.
    """
    x = _floating(x)
    return mean(_deviations(x, dim).abs(), dim)


def _pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = _floating(x, "x"), _floating(y, "y")
    if x.shape != y.shape:
        raise ValueError(
            "x and y must have the same shape, but they have "
            f"{tuple(x.shape)} and {tuple(y.shape)}."
        )
    return x, y


def covariance(x: Tensor, y: Tensor, *, ddof: int = 0) -> Tensor:
    """Return the mean product of the two tensors' deviations, in units of `x` times units of `y`.

    Parameters
    ----------
    x, y : Tensor, the same shape
        Paired values.
    ddof : int
        As in `variance`, of which this is the two-variable form: `covariance(x, x)` is
        `variance(x)`.

    Raises
    ------
    TypeError, ValueError
        If the shapes differ, or as in `variance`.
    """
    x, y = _pair(x, y)
    freedom = _degrees_of_freedom(x.numel(), ddof)
    return (_deviations(x, None) * _deviations(y, None)).sum() / freedom


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Return Pearson's correlation coefficient, between −1 and 1, without units.

    One convention holds throughout: the covariance and both standard deviations divide by the
    same number, which therefore cancels.

    Parameters
    ----------
    x, y : Tensor, the same shape
        Paired values, neither of them constant.

    Raises
    ------
    TypeError, ValueError
        If the shapes differ, or if one of the tensors is constant, so that the coefficient is 0/0.
    """
    x, y = _pair(x, y)
    for name, values in (("x", x), ("y", y)):
        if bool((values == values.flatten()[0]).all()):
            raise ValueError(f"{name} must vary, but all of its {values.numel()} values are equal.")
    # Scaling to unit size first keeps the squares of huge and of tiny values representable.
    dx, dy = _deviations(x, None), _deviations(y, None)
    dx, dy = dx / dx.abs().max(), dy / dy.abs().max()
    r = (dx * dy).sum() / ((dx**2).sum() * (dy**2).sum()).sqrt()
    return r.clamp(-1, 1)


class RunningStats:
    """Mean and variance of values that arrive in batches, which need not be kept.

    Three things are carried along: how many values there were, their mean, and the sum of
    squared deviations from it [1]_, which is infinite where a square overflows the type. Two of
    these objects, filled from different parts of the data, can be merged into what one object
    would have held [2]_.

    Examples
    --------
    >>> stats = RunningStats()
    >>> stats.update(torch.tensor([1.0, 2.0])).update(torch.tensor([4.0, 18.0])).mean
    tensor(6.2500)

    References
    ----------
    .. [1] Welford, "Note on a method for calculating corrected sums of squares and products", 1962.
    .. [2] Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample
       variances", 1979.
    """

    count: int
    _mean: Tensor
    _squares: Tensor

    def __init__(self) -> None:
        self.count = 0

    def update(self, batch: Tensor) -> RunningStats:
        """Take in a batch of shape (n, …); the trailing dimensions are kept apart.

        A tensor of rank 0 counts as a batch of one value.
        """
        batch = _floating(batch, "batch")
        batch = batch.unsqueeze(0) if batch.ndim == 0 else batch
        other = RunningStats()
        other.count = batch.shape[0]
        other._mean = mean(batch, 0)
        other._squares = ((batch - other._mean) ** 2).sum(0)
        return self.merge(other)

    def merge(self, other: RunningStats) -> RunningStats:
        """Take in what `other` has seen, as if its values had arrived here.

        Raises
        ------
        ValueError
            If both hold values, but of different shapes.
        """
        if other.count == 0:
            return self
        if self.count == 0:
            self.count, self._mean, self._squares = other.count, other._mean, other._squares
            return self
        if self._mean.shape != other._mean.shape:
            raise ValueError(
                f"values must have the shape {tuple(self._mean.shape)} of those seen before, "
                f"but they have {tuple(other._mean.shape)}."
            )
        total = self.count + other.count
        delta = other._mean - self._mean
        self._mean = self._mean + delta * (other.count / total)
        self._squares = (
            self._squares + other._squares + delta**2 * (self.count * (other.count / total))
        )
        self.count = total
        return self

    @property
    def mean(self) -> Tensor:
        """The mean of all values so far, of the shape of one value."""
        self._require_values()
        return self._mean

    def variance(self, *, ddof: int = 0) -> Tensor:
        """Return the variance of all values so far; `ddof` as in the function `variance`."""
        self._require_values()
        return self._squares / _degrees_of_freedom(self.count, ddof)

    def std(self, *, ddof: int = 0) -> Tensor:
        """Return the standard deviation of all values so far."""
        return self.variance(ddof=ddof).sqrt()

    def _require_values(self) -> None:
        if self.count == 0:
            raise ValueError("RunningStats has seen no values yet: call update first.")

    def __repr__(self) -> str:
        if self.count == 0:
            return "RunningStats(count=0)"
        return f"RunningStats(count={self.count}, mean={self.mean}, std={self.std()})"
