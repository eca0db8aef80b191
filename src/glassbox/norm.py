"""Normalisation layers from tensors: one formula over different axes, and what is remembered.

`normalize`, `exponential_average`, `BatchNorm`, `LayerNorm`, `InstanceNorm`, `GroupNorm`,
`RunningBatchNorm`.

Every layer takes inputs of shape (n, channels, …), with any number of further dimensions. `weight`
and `bias`, of shape (channels,), scale and shift the result; they are called γ and β in papers.

Built in the chapter *normalization*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glassbox.checks import is_number, whole

__all__ = [
    "BatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "RunningBatchNorm",
    "exponential_average",
    "normalize",
]


def normalize(x: Tensor, dims: Sequence[int], eps: float = 1e-5) -> Tensor:
    """Shift and scale to mean 0 and variance 1 over some dimensions of a tensor.

    Parameters
    ----------
    x : Tensor of floating-point numbers
    dims : sequence of int
        What the mean and the variance (that of these values, by n) are taken over.
    eps : float
        Added to the variance, so that what does not vary becomes 0 and not 0/0. No value is
        multiplied by more than 1/√eps.

    Returns
    -------
    Tensor
        Of the shape of `x`.

    Raises
    ------
    TypeError, ValueError
        If `x` does not hold floating-point numbers, `dims` is empty or names
        what `x` does not have, or `eps` is not positive.

    Examples
    --------
    >>> normalize(torch.tensor([[1.0, 3.0], [10.0, 10.0]]), dims=(1,))
    tensor([[-1.0000,  1.0000],
            [ 0.0000,  0.0000]])
    """
    _check_floating(x)
    _check_eps(eps)
    if not dims:
        raise ValueError("dims must name at least one dimension, but it is empty.")
    if not all(-x.ndim <= dim < x.ndim for dim in dims):
        raise ValueError(
            f"dims must be from {-x.ndim} to {x.ndim - 1}, but they are {tuple(dims)}."
        )
    var, mean = torch.var_mean(x, tuple(dims), correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(var + eps)


def exponential_average(values: Tensor, momentum: float = 0.1, *, debias: bool = True) -> Tensor:
    """Return the exponentially weighted average after each of the values.

    Each value moves the average a part of the way towards itself: average ← average + momentum ·
    (value − average). It starts at 0, which pulls the first averages towards 0; all weights given
    so far sum to 1 − (1 − momentum)ᵗ, and dividing by that removes the pull.

    Parameters
    ----------
    values : Tensor, shape (t, …)
    momentum : float
        The weight of a new value, above 0 and at most 1. (In optimizers the word means what is
        *kept*, which here is 1 − momentum.)
    debias : bool
        Whether to divide by the sum of the weights.

    Returns
    -------
    Tensor, shape (t, …)

    Raises
    ------
    TypeError, ValueError
        If `values` does not hold floating-point numbers or has no first dimension, or `momentum`
        is out of range.

    Examples
    --------
    >>> exponential_average(torch.tensor([10.0, 10.0, 10.0]))
    tensor([10., 10., 10.])
    >>> exponential_average(torch.tensor([10.0, 10.0, 10.0]), debias=False)
    tensor([1.0000, 1.9000, 2.7100])
    """
    _check_floating(values, "values")
    _check_momentum(momentum)
    if values.ndim == 0:
        raise ValueError("values must have shape (t, …), but it is a single number.")
    average, weights = torch.zeros_like(values[:1]).sum(0), 0.0
    averages = []
    for value in values:
        average = torch.lerp(average, value, momentum)
        weights += momentum * (1 - weights)
        averages.append(average / weights if debias else average)
    return torch.stack(averages) if averages else values.clone()


class _Norm(nn.Module):
    """What all five share: a scale and a shift for each channel, and checks of the input."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, num_features: int, eps: float, affine: bool) -> None:
        whole("num_features", num_features, 1)
        _check_eps(eps)
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None

    def _check_input(self, x: Tensor) -> None:
        _check_floating(x)
        if x.ndim < 2 or x.shape[1] != self.num_features:
            raise ValueError(
                f"x must have shape (n, {self.num_features}, …), but it has {tuple(x.shape)}."
            )

    def _scale_and_shift(self, x: Tensor) -> Tensor:
        if self.weight is None or self.bias is None:
            return x
        shape = _per_channel(x)
        return torch.addcmul(self.bias.view(shape), x, self.weight.view(shape))

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return f"{self.num_features}, eps={self.eps:g}"


class BatchNorm(_Norm):
    """Batch normalisation [1]_: each channel over all images of the batch and all positions.

    In training the statistics are those of the batch, and only they; running averages of them are
    kept in buffers, and used in evaluation. As in `torch.nn.BatchNorm2d`, whose state it can load,
    the variance is divided by n in the batch and by n − 1 in the running average.

    Parameters
    ----------
    num_features : int
        Channels of the inputs, of shape (n, num_features, …).
    momentum : float
        The weight of a new batch in the running averages, above 0 and at most 1.
    eps : float
        Added to the variance.
    affine : bool
        Whether there is a scale and a shift for each channel, learned like any parameter.

    Attributes
    ----------
    running_mean, running_var : Tensor, shape (num_features,)
        Buffers, from 0 and 1 at the start.
    num_batches_tracked : Tensor, rank 0
        A buffer: how many training batches there were.

    Raises
    ------
    TypeError, ValueError
        If an option is out of range; at a call, if `x` does not fit, or in training has a single
        value per channel, which no mean and variance can be taken from.

    References
    ----------
    .. [1] Ioffe & Szegedy, "Batch normalization: accelerating deep network training by reducing
       internal covariate shift", 2015.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, num_features: int, momentum: float = 0.1, eps: float = 1e-5, *, affine: bool = True
    ) -> None:
        _check_momentum(momentum)
        super().__init__(num_features, eps, affine)
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape and type of `x`."""
        self._check_input(x)
        wide = _wide(x)
        if self.training:
            n = x.numel() // self.num_features
            _check_values(n, x, "channel of the batch")
            var, mean = torch.var_mean(wide, _all_but_channels(x), correction=0, keepdim=True)
            self._remember(mean, var * (n / (n - 1)))
        else:
            shape = _per_channel(x)
            mean, var = self.running_mean.view(shape), self.running_var.view(shape)
        return self._scale_and_shift((wide - mean) * torch.rsqrt(var + self.eps)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor) -> None:
        self.running_mean.lerp_(mean.flatten().to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(var.flatten().to(self.running_var.dtype), self.momentum)
        self.num_batches_tracked += 1

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return f"{super().extra_repr()}, momentum={self.momentum:g}"


class GroupNorm(_Norm):
    """Group normalisation [1]_: each image and each group of neighbouring channels on its own.

    Nothing is remembered: training and evaluation are the same.

    Parameters
    ----------
    num_groups : int
        Into how many groups the channels are cut; 1 gives `LayerNorm`, one for each channel gives
        `InstanceNorm`.
    num_features, eps, affine
        As in `BatchNorm`.

    Raises
    ------
    TypeError, ValueError
        If an option is out of range or `num_groups` does not divide `num_features`; at a call, if
        `x` does not fit, or a group has a single value.

    References
    ----------
    .. [1] Wu & He, "Group normalization", 2018.
    """

    _group = "group of channels of an image"

    def __init__(
        self, num_groups: int, num_features: int, eps: float = 1e-5, *, affine: bool = True
    ) -> None:
        super().__init__(num_features, eps, affine)
        whole("num_groups", num_groups, 1)
        if num_features % num_groups:
            raise ValueError(
                f"num_groups must divide num_features, but {num_groups} does not divide "
                f"{num_features}."
            )
        self.num_groups = num_groups

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape and type of `x`."""
        self._check_input(x)
        values = math.prod(x.shape[1:]) // self.num_groups
        _check_values(values, x, self._group)
        groups = _wide(x).reshape(len(x), self.num_groups, values)
        y = normalize(groups, (2,), self.eps).view(x.shape)
        return self._scale_and_shift(y).to(x.dtype)

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return f"{self.num_groups}, {super().extra_repr()}"


class LayerNorm(GroupNorm):
    """Layer normalisation [1]_: each image on its own, over all channels and positions.

    Equal to `torch.nn.GroupNorm(1, num_features)`, and for inputs of shape (n, num_features) to
    `torch.nn.LayerNorm(num_features)`.

    Parameters
    ----------
    num_features, eps, affine
        As in `BatchNorm`.

    Raises
    ------
    TypeError, ValueError
        As `GroupNorm`.

    References
    ----------
    .. [1] Ba, Kiros & Hinton, "Layer normalization", 2016.
    """

    _group = "image"

    def __init__(self, num_features: int, eps: float = 1e-5, *, affine: bool = True) -> None:
        super().__init__(1, num_features, eps, affine=affine)

    extra_repr = _Norm.extra_repr  # the class says how many groups there are


class InstanceNorm(GroupNorm):
    """Instance normalisation [1]_: each channel of each image on its own, over the positions.

    Equal to `torch.nn.InstanceNorm2d(num_features, affine=True)`. Whatever distinguishes one image
    from another by the mean or the spread of a channel is gone; where a channel is a single value,
    that is everything, so it is refused.

    Parameters
    ----------
    num_features, eps, affine
        As in `BatchNorm`.

    Raises
    ------
    TypeError, ValueError
        As `GroupNorm`.

    References
    ----------
    .. [1] Ulyanov, Vedaldi & Lempitsky, "Instance normalization: the missing ingredient for fast
       stylization", 2016.
    """

    _group = "channel of an image"

    def __init__(self, num_features: int, eps: float = 1e-5, *, affine: bool = True) -> None:
        super().__init__(num_features, num_features, eps, affine=affine)

    extra_repr = _Norm.extra_repr  # the class says how many groups there are


class RunningBatchNorm(_Norm):
    """Batch normalisation by running statistics, in training as well [1]_.

    What is averaged over batches are, for each channel, the sum and the sum of squares, and how
    many values there were; mean and variance are made of the averages. So a tiny batch, or one of
    another size, gets the weight that it deserves. Gradients flow through the share that the
    current batch has in the averages.

    The squares are those of the distance from `origin`, the mean of the first batch. That changes
    nothing in the result, except that it keeps its digits where the mean is far from 0.

    Parameters
    ----------
    num_features, momentum, eps, affine
        As in `BatchNorm`.
    first_items : int
        While fewer items (images) than this were seen,
    first_variance : float
        the variance counts as at least this much.

    Attributes
    ----------
    sums, squares, origin : Tensor, shape (num_features,)
    count, weights, items : Tensor, rank 0
        Buffers: the average number of values per channel, the sum of the weights of all batches so
        far (which the averages are divided by), and how many items were seen.

    Raises
    ------
    TypeError, ValueError
        If an option is out of range; at a call, if `x` does not fit, or is empty in training.

    References
    ----------
    .. [1] fast.ai 2019 part 2, lesson 10.
    """

    sums: Tensor
    squares: Tensor
    origin: Tensor
    count: Tensor
    weights: Tensor
    items: Tensor

    def __init__(
        self,
        num_features: int,
        momentum: float = 0.1,
        eps: float = 1e-5,
        *,
        affine: bool = True,
        first_items: int = 20,
        first_variance: float = 0.01,
    ) -> None:
        _check_momentum(momentum)
        if not (is_number(first_items) and first_items >= 0):
            raise ValueError(f"first_items must be at least 0, but it is {first_items!r}.")
        if not (is_number(first_variance) and 0 <= first_variance < math.inf):
            raise ValueError(
                f"first_variance must be at least 0 and finite, but it is {first_variance!r}."
            )
        super().__init__(num_features, eps, affine)
        self.momentum = momentum
        self.first_items, self.first_variance = first_items, first_variance
        for name in ("sums", "squares", "origin"):
            self.register_buffer(name, torch.zeros(num_features))
        for name in ("count", "weights", "items"):
            self.register_buffer(name, torch.tensor(0.0))

    def averages(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the averages of sums, squares and counts over the batches so far, debiased.

        The first two have shape (num_features,), and are taken from `origin`; the third has rank 0.
        All are not-a-number before the first batch.
        """
        return self.sums / self.weights, self.squares / self.weights, self.count / self.weights

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape and type of `x`."""
        self._check_input(x)
        shape = _per_channel(x)
        wide = _wide(x)
        if self.training:
            if x.numel() == 0:
                raise ValueError(
                    f"x must hold at least one value in training, but it has {tuple(x.shape)}."
                )
            distance, sums, squares = self._update(wide)
        else:
            distance = wide - self.origin.view(shape)
            sums, squares = self.sums, self.squares
        # Never a look at a value from Python: on an accelerator it would wait for all work before.
        # A new tensor, not the buffer, is what autograd keeps: the next batch changes the buffer.
        debias = self.weights.reciprocal()
        sums, squares, count = (t * debias for t in (sums, squares, self.count))
        mean = sums / count
        floor = self.first_variance * (self.items < self.first_items)
        var = torch.maximum(squares / count - mean**2, floor)
        if not self.training:  # before the first batch, x stays as it is
            mean = torch.where(self.items > 0, mean, 0.0)
            var = torch.where(self.items > 0, var, 1.0)
        y = (distance - mean.view(shape)) * torch.rsqrt(var + self.eps).view(shape)
        return self._scale_and_shift(y).to(x.dtype)

    def _update(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take in a batch; return x − origin, and the sums and squares with their gradients."""
        dims, n = _all_but_channels(x), x.numel() // self.num_features
        with torch.no_grad():
            self.origin.copy_(torch.where(self.items > 0, self.origin, x.mean(dims)))
            self.count.lerp_(torch.full_like(self.count, n), self.momentum)
            self.weights.lerp_(torch.ones_like(self.weights), self.momentum)
            self.items += len(x)
        distance = x - self.origin.view(_per_channel(x))
        kind = self.sums.dtype
        sums = torch.lerp(self.sums, distance.sum(dims).to(kind), self.momentum)
        squares = torch.lerp(self.squares, (distance**2).sum(dims).to(kind), self.momentum)
        self.sums.copy_(sums.detach())
        self.squares.copy_(squares.detach())
        return distance, sums, squares

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return f"{super().extra_repr()}, momentum={self.momentum:g}"


def _all_but_channels(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]


def _per_channel(x: Tensor) -> list[int]:
    """Return the shape in which one number per channel broadcasts against `x`."""
    return [1, -1, *[1] * (x.ndim - 2)]


def _wide(x: Tensor) -> Tensor:
    """Return half-precision numbers as float32, whose squares do not overflow."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _check_floating(x: Tensor, name: str = "x") -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be a tensor of floating-point numbers, but it is {kind}.")


def _check_eps(eps: float) -> None:
    if not (is_number(eps) and 0 < eps < math.inf):
        raise ValueError(f"eps must be more than 0 and finite, but it is {eps!r}.")


def _check_momentum(momentum: float) -> None:
    if not (is_number(momentum) and 0 < momentum <= 1):
        raise ValueError(f"momentum must be more than 0 and at most 1, but it is {momentum!r}.")


def _check_values(n: int, x: Tensor, part: str) -> None:
    if n < 2:
        raise ValueError(
            f"each {part} must have at least 2 values, but in x of shape {tuple(x.shape)} it has "
            f"{n}."
        )
