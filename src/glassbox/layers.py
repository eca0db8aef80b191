"""Layers made from tensors, and the arithmetic of their shapes.

`output_size`, `conv2d`, `Conv2d`, `Lambda`, `GeneralReLU`, `conv_layer`, `Embedding`, `Dropout`.

Built in the chapters *convolutions*, *telemetry*, *tabular* and *regularization*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassbox.checks import Pair, is_number, pair, whole

__all__ = [
    "Conv2d",
    "Dropout",
    "Embedding",
    "GeneralReLU",
    "Lambda",
    "conv2d",
    "conv_layer",
    "output_size",
]


def output_size(size: int, kernel_size: int, stride: int = 1, padding: int = 0) -> int:
    """Return how many places a kernel finds along one axis.

    Parameters
    ----------
    size : int
        Of the input along this axis, in pixels, at least 1.
    kernel_size, stride : int
        At least 1.
    padding : int
        Pixels added at either end, at least 0.

    Raises
    ------
    ValueError
        If one of them is out of range, or the kernel is larger than the padded input.

    Examples
    --------
    >>> output_size(28, kernel_size=5, stride=2, padding=2)
    14
    """
    whole("size", size, 1)
    whole("kernel_size", kernel_size, 1)
    whole("stride", stride, 1)
    whole("padding", padding, 0)
    if kernel_size > size + 2 * padding:
        raise ValueError(
            f"kernel_size must be at most {size + 2 * padding}, the size of the input with its "
            f"padding ({size} + 2 · {padding}), but it is {kernel_size}."
        )
    return (size + 2 * padding - kernel_size) // stride + 1


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
) -> Tensor:
    """Slide kernels over images: cut out every patch, and multiply all at once.

    Like PyTorch's, it does not turn the kernel around first: mathematics calls
    this a cross-correlation.

    Parameters
    ----------
    x : Tensor, shape (n, in_channels, height, width)
    weight : Tensor, shape (out_channels, in_channels, kernel_height, kernel_width)
    bias : Tensor, shape (out_channels,), optional
    stride, padding : int or (int, int)
        One for both axes, or one for the rows and one for the columns.
        The padding is of zeros.

    Returns
    -------
    Tensor, shape (n, out_channels, output_size(height, …), output_size(width, …))

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, or they do not fit together.
    """
    stride_y, stride_x = pair("stride", stride, 1)
    pad_y, pad_x = pair("padding", padding, 0)
    _check_shapes(x, weight, bias, pad_y, pad_x)
    n, in_channels = x.shape[:2]
    out_channels, _, kernel_height, kernel_width = weight.shape
    if pad_y or pad_x:
        x = F.pad(x, (pad_x, pad_x, pad_y, pad_y))
    # A view: windows[:, :, i, j] is the patch at row i and column j.
    # Nothing is copied yet.
    windows = x.unfold(2, kernel_height, stride_y)
    windows = windows.unfold(3, kernel_width, stride_x)
    height, width = windows.shape[2:4]
    columns = windows.permute(0, 1, 4, 5, 2, 3).reshape(
        n, in_channels * kernel_height * kernel_width, height * width
    )
    out = (weight.flatten(1) @ columns).view(n, out_channels, height, width)
    return out if bias is None else out + bias.view(-1, 1, 1)


def _check_shapes(x: Tensor, weight: Tensor, bias: Tensor | None, pad_y: int, pad_x: int) -> None:
    for name, t in (("x", x), ("weight", weight)):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} must be a tensor, but it is a {type(t).__name__}.")
    if bias is not None and not isinstance(bias, Tensor):
        raise TypeError(f"bias must be a tensor, but it is a {type(bias).__name__}.")
    for name, t in (("weight", weight), ("bias", weight if bias is None else bias)):
        # Autocast brings all of them to one type itself.
        if t.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"{name} must have the type of x, {x.dtype}, but it has {t.dtype}.")
    if x.ndim != 4:
        raise ValueError(
            f"x must have shape (n, channels, height, width), but it has shape {tuple(x.shape)}."
        )
    if weight.ndim != 4 or 0 in weight.shape:
        raise ValueError(
            "weight must have shape (out_channels, in_channels, kernel_height, kernel_width), none "
            f"of them 0, but it has shape {tuple(weight.shape)}."
        )
    if x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"x must have {weight.shape[1]} channels, as weight of shape {tuple(weight.shape)} "
            f"expects, but it has {x.shape[1]}."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"bias must have shape ({weight.shape[0]},), one number for each output channel, but "
            f"it has shape {tuple(bias.shape)}."
        )
    padded, kernel = (x.shape[2] + 2 * pad_y, x.shape[3] + 2 * pad_x), weight.shape[2:]
    if padded[0] < kernel[0] or padded[1] < kernel[1]:
        raise ValueError(
            f"x must be at least as large as the kernel, {kernel[0]}×{kernel[1]} pixels, but with "
            f"its padding it is {padded[0]}×{padded[1]}."
        )


class Conv2d(nn.Module):
    """A convolution as a layer, with its weights.

    It starts from the same numbers as `torch.nn.Conv2d` after the same seed: weights and biases
    uniform between ±1/√(in_channels · kernel_height · kernel_width).

    Parameters
    ----------
    in_channels, out_channels : int
        At least 1.
    kernel_size, stride, padding : int or (int, int)
        One for both axes, or one for the rows and one for the columns.
    bias : bool
        Whether to add a number to each output channel.

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels, kernel_height, kernel_width)
    bias : Parameter, shape (out_channels,), or None

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair = 3,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        bias: bool = True,
    ) -> None:
        whole("in_channels", in_channels, 1)
        whole("out_channels", out_channels, 1)
        super().__init__()
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride, self.padding = pair("stride", stride, 1), pair("padding", padding, 0)
        shape = (out_channels, in_channels, *self.kernel_size)
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        start = torch.empty(out_channels).uniform_(-bound, bound) if bias else None
        self.bias = None if start is None else nn.Parameter(start)

    def forward(self, x: Tensor) -> Tensor:
        """Return `conv2d` of a batch of images, (n, in_channels, height, width)."""
        return conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        out_channels, in_channels = self.weight.shape[:2]
        return (
            f"{in_channels}, {out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, bias={self.bias is not None}"
        )


class Lambda(nn.Module):
    """A function as a layer, for steps without weights, such as a change of shape.

    Parameters
    ----------
    func : callable
        From the layer's input to its output.

    Raises
    ------
    TypeError
        If `func` cannot be called.

    References
    ----------
    fast.ai 2019 part 2, lesson 10.

    Examples
    --------
    >>> as_images = Lambda(lambda x: x.view(-1, 1, 28, 28))
    """

    def __init__(self, func: Callable[[Any], Any]) -> None:
        if not callable(func):
            raise TypeError(f"func must be a function, but it is {func!r}.")
        super().__init__()
        self.func = func

    def forward(self, x: Any) -> Any:
        """Return the function of `x`."""
        return self.func(x)

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return getattr(self.func, "__name__", repr(self.func))


class GeneralReLU(nn.Module):
    """A rectified linear unit that may leak, be shifted down, and be clamped from above.

    Parameters
    ----------
    leak : float
        The slope for negative inputs, from 0 (ReLU) to 1 (no non-linearity at all).
    sub : float
        Subtracted from the output, so that its mean can be near 0.
    max_value : float, optional
        The largest output.

    Raises
    ------
    TypeError, ValueError
        If `leak` is outside its range, or an argument is no number.

    References
    ----------
    fast.ai 2019 part 2, lesson 10.
    """

    def __init__(self, leak: float = 0.0, sub: float = 0.0, max_value: float | None = None) -> None:
        if not (is_number(leak) and 0 <= leak <= 1):
            raise ValueError(f"leak must lie between 0 and 1, but it is {leak!r}.")
        if not is_number(sub, 0.0 if max_value is None else max_value):
            raise TypeError(
                "sub must be a number, and max_value a number or None, but they are "
                f"{sub!r} and {max_value!r}."
            )
        super().__init__()
        self.leak, self.sub, self.max_value = leak, sub, max_value

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of `x`."""
        x = F.leaky_relu(x, self.leak) if self.leak else F.relu(x)
        if self.sub:
            x = x - self.sub
        return x if self.max_value is None else x.clamp_max(self.max_value)

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return f"leak={self.leak:g}, sub={self.sub:g}, max_value={self.max_value}"


def conv_layer(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 2,
    *,
    norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Return a convolution, an activation function and (if wanted) a normalisation, in this order.

    Parameters
    ----------
    in_channels, out_channels : int
        From inputs of shape (n, in_channels, height, width) to outputs of shape
        (n, out_channels, height / stride, width / stride), both rounded up.
    kernel_size : int
        Odd; the padding is half of it.
    norm : callable, optional
        Given the number of channels it returns the layer that normalises; with one, the
        convolution has no bias: the normalisation brings a shift of its own.
    activation : callable
        Returns the activation function, as a layer.

    Raises
    ------
    ValueError
        If a number is out of range, or `kernel_size` is even.
    """
    whole("in_channels", in_channels, 1)
    whole("out_channels", out_channels, 1)
    whole("kernel_size", kernel_size, 1)
    whole("stride", stride, 1)
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, but it is {kernel_size}.")
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=norm is None
    )
    layers = [convolution, activation()]
    if norm is not None:
        layers.append(norm(out_channels))
    return nn.Sequential(*layers)


class Embedding(nn.Module):
    """A matrix whose rows are looked up by number: a vector for each level of a category.

    The same as a one-hot vector times the matrix, without the multiplications by zero. It starts
    from the same numbers as `torch.nn.Embedding` after the same seed: normal, of deviation 1.

    Parameters
    ----------
    num_embeddings : int
        How many codes there are, from 0; at least 1.
    embedding_dim : int
        How long a vector is, at least 1.

    Attributes
    ----------
    weight : Parameter, shape (num_embeddings, embedding_dim)

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> Embedding(7, 4)(torch.tensor([[0, 6], [1, 1]])).shape
    torch.Size([2, 2, 4])
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        whole("num_embeddings", num_embeddings, 1)
        whole("embedding_dim", embedding_dim, 1)
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_embeddings, embedding_dim).normal_())

    def forward(self, codes: Tensor) -> Tensor:
        """Return the rows of whole numbers of any shape, (…), as (…, embedding_dim).

        Raises
        ------
        TypeError
            If the codes are no whole numbers.
        IndexError
            If one of them has no row. (On an accelerator, PyTorch's own error says so, later.)
        """
        if codes.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"codes must be int64 or int32, but their dtype is {codes.dtype}.")
        n, dim = self.weight.shape
        # Looking at the codes would make an accelerator wait. `weight[codes]` would take a negative
        # code for a row counted from the end, `index_select` does not.
        if codes.device.type == "cpu" and codes.numel() and not 0 <= codes.min() <= codes.max() < n:
            raise IndexError(
                f"codes must be from 0 to {n - 1}, but they go from {codes.min()} to {codes.max()}."
            )
        return self.weight.index_select(0, codes.flatten()).view(*codes.shape, dim)

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return ", ".join(map(str, self.weight.shape))


class Dropout(nn.Module):
    """While training, set each number to 0 with probability `p`, and enlarge those that are kept.

    Kept numbers are divided by 1 - p, so that the mean over all masks is the input itself. In use
    therefore nothing remains to be done: the layer returns its input. (The paper does it the other
    way round: it leaves the kept numbers as they are, and multiplies the weights by 1 - p in use.)

    On the CPU it draws the same mask as `torch.nn.Dropout` after the same seed.

    Parameters
    ----------
    p : float
        From 0 (nothing is dropped) to below 1.

    Raises
    ------
    ValueError
        If `p` is out of range.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"p must be at least 0 and less than 1, but it is {p!r}.")
        super().__init__()
        self.p = p

    def mask(self, x: Tensor) -> Tensor:
        """Draw what `x` is multiplied with: a tensor of its shape, of 0 and 1 / (1 - p)."""
        return torch.empty_like(x).bernoulli_(1 - self.p) / (1 - self.p)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of `x`."""
        return x * self.mask(x) if self.training and self.p else x

    def extra_repr(self) -> str:
        """Return what `print` shows between the parentheses."""
        return f"p={self.p:g}"
