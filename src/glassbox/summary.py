"""What a model sees and what it costs, layer by layer: receptive fields, and a table.

`ReceptiveField`, `receptive_field`; `LayerRow`, `ModelSummary`, `model_summary`.

Built in the chapter *convolutions*.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from glassbox.checks import Pair, pair
from glassbox.layers import Conv2d, Dropout, GeneralReLU, Lambda
from glassbox.norm import BatchNorm, GroupNorm, RunningBatchNorm

__all__ = ["LayerRow", "ModelSummary", "ReceptiveField", "model_summary", "receptive_field"]


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
_PLACE_BY_PLACE = (  # a subclass counts as its parent: ReLU6 is a Hardtanh
    *(GeneralReLU, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU),
    *(nn.SiLU, nn.Mish, nn.Hardswish, nn.Softplus, nn.Softsign, nn.Threshold, nn.Softmax2d),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Tanh, nn.Hardtanh, nn.Tanhshrink),
    *(nn.Softshrink, nn.Hardshrink),
    *(nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d, nn.GroupNorm, nn.LayerNorm),
    *(BatchNorm, GroupNorm, RunningBatchNorm),
    *(nn.LocalResponseNorm, nn.Identity, nn.ChannelShuffle),
    *(Dropout, nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout),
)
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
    if isinstance(layer, _PLACE_BY_PLACE):
        return (1, 1), (1, 1), (0, 0)
    if not isinstance(layer, _WINDOWS):
        raise ValueError(
            "layers must be convolutions, pooling and layers that treat each place by itself, "
            f"one after the other, but one is a {kind}."
        )
    kernel = pair("kernel_size", layer.kernel_size, 1)
    spread = pair("dilation", getattr(layer, "dilation", 1), 1)
    reach = [s * (k - 1) for k, s in zip(kernel, spread, strict=True)]
    padding: Any = layer.padding
    if isinstance(padding, str):  # PyTorch's names; an odd pixel of "same" goes to the end
        padding = (reach[0] // 2, reach[1] // 2) if padding == "same" else 0
    stride = pair("stride", layer.stride, 1)
    return (reach[0] + 1, reach[1] + 1), stride, pair("padding", padding, 0)


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
