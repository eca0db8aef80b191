"""Layers made from tensors, and the arithmetic of their shapes.

`output_size`, `conv2d`, `Conv2d`, `Lambda`, `GeneralReLU`, `conv_layer`, `ReceptiveField`,
`receptive_field`, `LayerRow`, `ModelSummary`, `model_summary`.

Built in the chapters *convolutions* and *telemetry*.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Conv2d",
    "GeneralReLU",
    "Lambda",
    "LayerRow",
    "ModelSummary",
    "ReceptiveField",
    "conv2d",
    "conv_layer",
    "model_summary",
    "output_size",
    "receptive_field",
]

Pair = tuple[int, int]


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
    _whole("size", size, 1)
    _whole("kernel_size", kernel_size, 1)
    _whole("stride", stride, 1)
    _whole("padding", padding, 0)
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
    """Slide kernels over images: cut out every patch, and multiply all of them at once.

    Like PyTorch's, it does not turn the kernel around first: mathematics calls this a
    cross-correlation.

    Parameters
    ----------
    x : Tensor, shape (n, in_channels, height, width)
    weight : Tensor, shape (out_channels, in_channels, kernel_height, kernel_width)
    bias : Tensor, shape (out_channels,), optional
    stride, padding : int or (int, int)
        One for both axes, or one for the rows and one for the columns. The padding is of zeros.

    Returns
    -------
    Tensor, shape (n, out_channels, output_size(height, …), output_size(width, …))

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, or they do not fit together.
    """
    stride_y, stride_x = _pair("stride", stride, 1)
    pad_y, pad_x = _pair("padding", padding, 0)
    _check_shapes(x, weight, bias, pad_y, pad_x)
    n, in_channels = x.shape[:2]
    out_channels, _, kernel_height, kernel_width = weight.shape
    if pad_y or pad_x:
        x = F.pad(x, (pad_x, pad_x, pad_y, pad_y))
    # A view: windows[:, :, i, j] is the patch at row i and column j. Nothing is copied yet.
    windows = x.unfold(2, kernel_height, stride_y).unfold(3, kernel_width, stride_x)
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
        _whole("in_channels", in_channels, 1)
        _whole("out_channels", out_channels, 1)
        super().__init__()
        self.kernel_size = _pair("kernel_size", kernel_size, 1)
        self.stride, self.padding = _pair("stride", stride, 1), _pair("padding", padding, 0)
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
    ValueError
        If `leak` is outside its range.

    References
    ----------
    fast.ai 2019 part 2, lesson 10.
    """

    def __init__(self, leak: float = 0.0, sub: float = 0.0, max_value: float | None = None) -> None:
        if not 0 <= leak <= 1:
            raise ValueError(f"leak must lie between 0 and 1, but it is {leak!r}.")
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
    _whole("in_channels", in_channels, 1)
    _whole("out_channels", out_channels, 1)
    _whole("kernel_size", kernel_size, 1)
    _whole("stride", stride, 1)
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, but it is {kernel_size}.")
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=norm is None
    )
    layers = [convolution, activation()]
    if norm is not None:
        layers.append(norm(out_channels))
    return nn.Sequential(*layers)


class ReceptiveField(NamedTuple):
    """What one output of a stack of layers sees: that of one convolution with these numbers.

    Output i along an axis depends on the inputs from i · stride − padding on, `size` of them.
    Each is a pair: rows, columns.
    """

    size: Pair
    stride: Pair
    padding: Pair


def receptive_field(layers: nn.Module | Iterable[nn.Module]) -> ReceptiveField:
    """Compute which pixels of the input one output of a stack of layers depends on.

    Parameters
    ----------
    layers : nn.Module or iterable of nn.Module
        Convolutions, pooling, and layers that treat each place by itself, one after the other; an
        `nn.Sequential` counts as its parts. Of a normalisation, whatever it averages over is not
        counted.

    Raises
    ------
    TypeError, ValueError
        If one is no layer, sees the whole image, or is not of these kinds.

    References
    ----------
    Araujo, Norris and Sim, "Computing receptive fields of convolutional neural networks", 2019.

    Examples
    --------
    >>> receptive_field([nn.Conv2d(1, 8, 3, stride=2), nn.Conv2d(8, 8, 3)]).size
    (7, 7)
    """
    size, step, pad = [1, 1], [1, 1], [0, 0]
    for layer in _chain(layers):
        kernel, stride, padding = _window(layer)
        for axis in (0, 1):
            # Neighbours at this depth are `step` input pixels apart.
            size[axis] += (kernel[axis] - 1) * step[axis]
            pad[axis] += padding[axis] * step[axis]
            step[axis] *= stride[axis]
    return ReceptiveField((size[0], size[1]), (step[0], step[1]), (pad[0], pad[1]))


_WINDOWS = (nn.Conv2d, Conv2d, nn.MaxPool2d, nn.AvgPool2d)
_WHOLE_IMAGE = (nn.Linear, nn.Flatten, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, Lambda)


def _chain(layers: nn.Module | Iterable[nn.Module]) -> Iterator[nn.Module]:
    for layer in [layers] if isinstance(layers, nn.Module) else layers:
        if isinstance(layer, nn.Sequential):
            yield from _chain(list(layer))
        elif isinstance(layer, nn.Module):
            yield layer
        else:
            raise TypeError(f"layers must hold layers, but one is a {type(layer).__name__}.")


def _window(layer: nn.Module) -> tuple[Pair, Pair, Pair]:
    kind = type(layer).__name__
    if isinstance(layer, _WHOLE_IMAGE):
        raise ValueError(
            f"layers must treat an image place by place, but {kind} may mix all of its places; "
            "leave it out, and what follows it."
        )
    if not isinstance(layer, _WINDOWS):
        if hasattr(layer, "kernel_size") or _has_children(layer):
            raise ValueError(
                "layers must be convolutions, pooling and layers that treat each place by itself, "
                f"one after the other, but one is a {kind}."
            )
        return (1, 1), (1, 1), (0, 0)
    kernel = _pair("kernel_size", layer.kernel_size, 1)
    spread = _pair("dilation", getattr(layer, "dilation", 1), 1)
    reach = [s * (k - 1) for k, s in zip(kernel, spread, strict=True)]
    padding: Any = layer.padding
    if isinstance(padding, str):  # PyTorch's names; an odd pixel of "same" goes to the end
        padding = (reach[0] // 2, reach[1] // 2) if padding == "same" else 0
    stride = _pair("stride", layer.stride, 1)
    return (reach[0] + 1, reach[1] + 1), stride, _pair("padding", padding, 0)


class LayerRow(NamedTuple):
    """One layer of a `ModelSummary`.

    `output_shape` includes the batch; `parameters` are those that no earlier row has counted;
    `multiply_adds` are for one item.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class ModelSummary:
    """What `model_summary` found; it prints as a table.

    Parameters
    ----------
    rows : tuple of LayerRow
        In the order in which the layers were used.
    parameters : int
        Of the whole model, each counted once.
    """

    rows: tuple[LayerRow, ...]
    parameters: int

    @property
    def multiply_adds(self) -> int:
        """Of all rows, for one item."""
        return sum(row.multiply_adds for row in self.rows)

    def _cells(self) -> list[tuple[str, ...]]:
        head = ("layer", "kind", "output shape", "parameters", "multiply-adds")
        body = [
            (
                row.name,
                row.kind,
                "×".join(map(str, row.output_shape)),
                f"{row.parameters:,}",
                f"{row.multiply_adds:,}",
            )
            for row in self.rows
        ]
        return [head, *body, ("total", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}")]

    def __str__(self) -> str:
        """Return the table as text, in columns."""
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        )

    def _repr_html_(self) -> str:
        def row(tag: str, cells: tuple[str, ...]) -> str:
            sides = ["left"] * 3 + ["right"] * 2
            return "".join(
                f'<{tag} style="text-align:{side};padding:0.1em 0.7em">{html.escape(cell)}</{tag}>'
                for cell, side in zip(cells, sides, strict=True)
            )

        head, *body = self._cells()
        rows = "".join(f"<tr>{row('td', cells)}</tr>" for cells in body)
        return (
            f'<table class="dataframe gb-summary"><thead><tr>{row("th", head)}</tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )


def model_summary(model: nn.Module, x: Tensor) -> ModelSummary:
    """Pass a batch through a model and note, layer by layer, what comes out and what it costs.

    The model runs in evaluation mode, without gradients. Afterwards everything is as before: the
    mode of each module, its buffers, its hooks, and the state of the random numbers.

    Parameters
    ----------
    model : nn.Module
        On the device of `x`.
    x : Tensor, shape (n, …)
        A batch of at least one item, as the model takes it.

    Returns
    -------
    ModelSummary
        A row for each call of a module that has parameters of its own or no modules inside.
        Multiply-adds are counted for convolutions and linear layers, where each output is a sum of
        products; biases, normalisation, activation functions and pooling cost far less.

    Raises
    ------
    TypeError, ValueError
        If `x` is not a batch.
    RuntimeError
        If the model cannot take `x`.

    Examples
    --------
    >>> summary = model_summary(nn.Linear(3, 2), torch.zeros(1, 3))
    >>> summary.parameters, summary.multiply_adds
    (8, 6)
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor, but it is a {type(x).__name__}.")
    if x.ndim < 1 or not len(x):
        raise ValueError(
            f"x must be a batch of at least one item, but it has shape {tuple(x.shape)}."
        )
    rows: list[LayerRow] = []
    seen: set[int] = set()
    names = {module: name or "(model)" for name, module in model.named_modules()}

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        new = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(map(id, new))
        first = _first_tensor(output)
        shape = () if first is None else tuple(first.shape)
        outputs = math.prod(shape) // len(x)
        rows.append(
            LayerRow(
                names[module],
                type(module).__name__,
                shape,
                sum(p.numel() for p in new),
                outputs * _terms(module),
            )
        )

    with _undisturbed(model, x.device):
        # The hooks go on inside, so that they go off whatever happens.
        handles = [
            module.register_forward_hook(note)
            for module in model.modules()
            if not _has_children(module) or any(True for _ in module.parameters(recurse=False))
        ]
        try:
            model(x)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            last = f"after the layer {rows[-1].name!r}" if rows else "at the first layer"
            raise RuntimeError(
                f"The model cannot take x of shape {tuple(x.shape)} ({last}): {error}"
            ) from error
        finally:
            for handle in handles:
                handle.remove()
    return ModelSummary(tuple(rows), sum(p.numel() for p in model.parameters()))


def _has_children(module: nn.Module) -> bool:
    return next(module.children(), None) is not None  # not any(): an empty Sequential is False


def _terms(module: nn.Module) -> int:
    """How many products make one output of the layer."""
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | Conv2d):
        return module.weight[0].numel()
    return 0


def _first_tensor(output: Any) -> Tensor | None:
    while isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


@contextmanager
def _undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluate without gradients, and leave the modes and the random numbers as they were."""
    modes = [(module, module.training) for module in model.modules()]
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


def _whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, but it is {value!r}.")


def _pair(name: str, value: int | Sequence[int], least: int) -> Pair:
    """Return (value, value) for one number, a pair as it is."""
    pair = value if isinstance(value, tuple | list) else (value, value)
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v >= least for v in pair)
    if len(pair) != 2 or not whole:
        raise ValueError(
            f"{name} must be a whole number of at least {least}, or a pair of them, but it is "
            f"{value!r}."
        )
    return pair[0], pair[1]
