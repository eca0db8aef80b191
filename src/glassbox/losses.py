"""From activations to probabilities to a loss, stable for activations of any size.

`sigmoid`, `logsumexp`, `softmax`, `log_softmax`, `nll_loss`, `cross_entropy`, `mse_loss`,
`binary_cross_entropy_with_logits`. Every loss is the mean over its items, a tensor of rank 0.

Built in the chapter *softmax*.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "log_softmax",
    "logsumexp",
    "mse_loss",
    "nll_loss",
    "sigmoid",
    "softmax",
]


def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + e⁻ˣ), element by element, between 0 and 1.

    Each sign of `x` has a form whose exponential cannot overflow.
    """
    positive, zero = x >= 0, torch.zeros_like(x)
    # A branch that is not chosen still has a gradient, and infinity times zero is NaN, so each
    # branch sees zeros in place of the values that would overflow it.
    above = 1 / (1 + torch.exp(-torch.where(positive, x, zero)))
    below = torch.exp(torch.where(positive, zero, x))
    return torch.where(positive, above, below / (1 + below))


def _finite_max(x: Tensor, dim: int) -> Tensor:
    """Return the maximum along `dim`, kept as a dimension of size 1, with infinities set to 0.

    It is subtracted and added again, so it is a constant to the gradient.
    """
    largest = x.detach().amax(dim, keepdim=True)
    return torch.where(largest.isfinite(), largest, torch.zeros_like(largest))


def logsumexp(x: Tensor, dim: int = -1, *, keepdim: bool = False) -> Tensor:
    """Return log Σ eˣ along `dim`, without overflow: the maximum is taken out of the sum first.

    Parameters
    ----------
    x : Tensor, any shape of rank 1 or more
    dim : int
        The dimension that is summed away.
    keepdim : bool
        Keep it with size 1.
    """
    largest = _finite_max(x, dim)
    result = (x - largest).exp().sum(dim, keepdim=True).log() + largest
    return result if keepdim else result.squeeze(dim)


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Return the logarithm of `softmax`, values in (−∞, 0], the shape of `x`."""
    shifted = x - _finite_max(x, dim)
    return shifted - shifted.exp().sum(dim, keepdim=True).log()


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Return eˣ / Σ eˣ along `dim`: values between 0 and 1 that sum to 1, the shape of `x`."""
    exponentials = (x - _finite_max(x, dim)).exp()
    return exponentials / exponentials.sum(dim, keepdim=True)


def _check_targets(scores: Tensor, targets: Tensor, name: str) -> None:
    if scores.ndim != 2:
        raise ValueError(f"{name} must have shape (n, classes), but it has {tuple(scores.shape)}.")
    if targets.shape != scores.shape[:1]:
        raise ValueError(
            f"targets must have shape ({scores.shape[0]},), one class for each row of {name}, "
            f"but it has {tuple(targets.shape)}."
        )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(f"targets must be class numbers (int64), but its dtype is {targets.dtype}.")
    # On an accelerator looking at the values would wait for it, once per batch.
    if targets.device.type == "cpu" and targets.numel():
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= scores.shape[1]:
            raise IndexError(
                f"targets must lie between 0 and {scores.shape[1] - 1}, the classes of {name}, "
                f"but they range from {low} to {high}."
            )


def nll_loss(log_probs: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log likelihood: minus the mean log probability of the right class.

    Parameters
    ----------
    log_probs : Tensor, shape (n, classes)
        As returned by `log_softmax`.
    targets : Tensor of int64, shape (n,)
        The right class of each row.

    Raises
    ------
    ValueError, TypeError, IndexError
        If the shapes do not fit, or `targets` are not class numbers.
    """
    _check_targets(log_probs, targets, "log_probs")
    rows = torch.arange(len(targets), device=targets.device)
    return -log_probs[rows, targets].mean()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of `softmax(logits)` and the right classes.

    Parameters
    ----------
    logits : Tensor, shape (n, classes)
        Activations of the last layer, any real numbers.
    targets : Tensor of int64, shape (n,)
        The right class of each row.

    Raises
    ------
    ValueError, TypeError, IndexError
        As in `nll_loss`.

    Notes
    -----
    Its gradient with respect to `logits` is (softmax(logits) − one_hot(targets)) / n.
    """
    _check_targets(logits, targets, "logits")
    return nll_loss(log_softmax(logits), targets)


def _check_same_shape(first: Tensor, second: Tensor, names: tuple[str, str]) -> None:
    if first.shape != second.shape:
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same shape, but they have "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )


def mse_loss(pred: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of two tensors of one shape.

    Raises
    ------
    ValueError
        If the shapes differ. Broadcasting (n, 1) against (n,) would average n² differences, of
        which n are meant.
    """
    _check_same_shape(pred, target, ("pred", "target"))
    return ((pred - target) ** 2).mean()


def binary_cross_entropy_with_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of `sigmoid(logits)` and targets between 0 and 1.

    Parameters
    ----------
    logits : Tensor, any shape
        One activation for each yes-or-no question.
    targets : Tensor, the same shape
        1 for yes, 0 for no.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    _check_same_shape(logits, targets, ("logits", "targets"))
    targets = targets.to(logits.dtype)
    # −log σ(x) = log(e⁰ + e⁻ˣ), and −log(1 − σ(x)) is the same plus x.
    minus_log_sigmoid = logsumexp(torch.stack([torch.zeros_like(logits), -logits]), dim=0)
    return ((1 - targets) * logits + minus_log_sigmoid).mean()
