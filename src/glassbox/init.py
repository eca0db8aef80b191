"""Random numbers for a model to start from, of a size that its layers neither shrink nor blow up.

`fan_in`, `fan_out`, `kaiming_normal_`, `kaiming_uniform_`, `xavier_normal_`, `xavier_uniform_`,
`lecun_normal_`, `identity_`, `init_model`, `lsuv`.

A name that ends in an underscore changes its argument in place, and returns it, as in PyTorch.

Built in the chapter *telemetry*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from glassbox.checks import is_number
from glassbox.hooks import Hook, check_output, listed
from glassbox.layers import GeneralReLU

__all__ = [
    "fan_in",
    "fan_out",
    "identity_",
    "init_model",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lsuv",
    "xavier_normal_",
    "xavier_uniform_",
]


def fan_in(w: Tensor) -> int:
    """Return how many numbers each output of a layer is a weighted sum of.

    Parameters
    ----------
    w : Tensor, shape (outputs, inputs) or (out_channels, in_channels, …)

    Raises
    ------
    TypeError, ValueError
        If `w` is no tensor of floating-point numbers, has fewer than two dimensions, or is empty.
    """
    _check_weight(w)
    return math.prod(w.shape[1:])


def fan_out(w: Tensor) -> int:
    """Return how many weighted sums each input takes part in, at a stride of 1.

    Parameters and errors are those of `fan_in`.
    """
    _check_weight(w)
    return w.shape[0] * math.prod(w.shape[2:])


def _check_weight(w: Tensor) -> None:
    if not isinstance(w, Tensor):
        raise TypeError(f"w must be a tensor, but it is a {type(w).__name__}.")
    if not (w.is_floating_point() or w.is_complex()):
        raise TypeError(f"w must hold floating-point numbers, but its dtype is {w.dtype}.")
    if w.ndim < 2 or w.numel() == 0:
        raise ValueError(
            "w must be weights of shape (outputs, inputs, …), none of them 0, "
            f"but it has shape {tuple(w.shape)}."
        )


@torch.no_grad()
def _normal(w: Tensor, std: float) -> Tensor:
    return w.normal_(0.0, std)


@torch.no_grad()
def _uniform(w: Tensor, std: float) -> Tensor:
    bound = math.sqrt(3) * std  # uniform between ±a has a standard deviation of a / √3
    return w.uniform_(-bound, bound)


def _kaiming_std(w: Tensor, leak: float) -> float:
    if not (is_number(leak) and 0 <= leak <= 1):
        raise ValueError(f"leak must lie between 0 and 1, but it is {leak!r}.")
    return math.sqrt(2 / ((1 + leak**2) * fan_in(w)))


def kaiming_normal_(w: Tensor, leak: float = 0.0) -> Tensor:
    """Fill weights that a (leaky) ReLU follows: normal, of variance 2 / ((1 + leak²) · fan_in).

    Parameters
    ----------
    w : Tensor, shape (outputs, inputs, …)
        Changed in place.
    leak : float
        The slope of the activation function for negative inputs, from 0 to 1.

    Returns
    -------
    Tensor
        `w` itself.

    Raises
    ------
    TypeError, ValueError
        If `w` is no weight of at least two dimensions, or `leak` is out of range.

    References
    ----------
    He, Zhang, Ren and Sun, "Delving deep into rectifiers", 2015.
    """
    return _normal(w, _kaiming_std(w, leak))


def kaiming_uniform_(w: Tensor, leak: float = 0.0) -> Tensor:
    """Fill weights as `kaiming_normal_` does, but uniform, with the same variance."""
    return _uniform(w, _kaiming_std(w, leak))


def xavier_normal_(w: Tensor) -> Tensor:
    """Fill weights that a symmetric function such as tanh follows: variance 2 / (fan_in + fan_out).

    A compromise between keeping the variance on the way forward, 1 / fan_in, and on the way back,
    1 / fan_out. Parameters, result and errors are those of `fan_in` and `kaiming_normal_`.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    2010.
    """
    return _normal(w, math.sqrt(2 / (fan_in(w) + fan_out(w))))


def xavier_uniform_(w: Tensor) -> Tensor:
    """Fill weights as `xavier_normal_` does, but uniform, with the same variance."""
    return _uniform(w, math.sqrt(2 / (fan_in(w) + fan_out(w))))


def lecun_normal_(w: Tensor) -> Tensor:
    """Fill weights that no rectifier follows: normal, of variance 1 / fan_in.

    References
    ----------
    LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998.
    """
    return _normal(w, math.sqrt(1 / fan_in(w)))


@torch.no_grad()
def identity_(w: Tensor) -> Tensor:
    """Fill weights so that the layer returns its input: ones on the diagonal, zeros elsewhere.

    Of a convolution, the diagonal is at the middle of the kernel.

    Raises
    ------
    TypeError, ValueError
        If `w` is no weight, has not as many outputs as inputs, or an even kernel.
    """
    _check_weight(w)
    if w.shape[0] != w.shape[1] or any(size % 2 == 0 for size in w.shape[2:]):
        raise ValueError(
            "w must have as many outputs as inputs and a kernel of odd size, "
            f"but it has shape {tuple(w.shape)}."
        )
    taps = w.zero_().flatten(2) if w.ndim > 2 else w.zero_()[:, :, None]
    taps[:, :, taps.shape[2] // 2].fill_diagonal_(1.0)
    return w


def init_model(
    model: nn.Module, init: Callable[..., Any] = kaiming_normal_, leak: float = 0.0
) -> nn.Module:
    """Fill the weights of every convolution and linear layer of a model; set their biases to 0.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    init : callable
        `init(w)` fills a weight in place; with a `leak`, `init(w, leak=leak)`.
    leak : float
        Of the activation functions, for those that take it into account.

    Returns
    -------
    nn.Module
        `model` itself.

    Raises
    ------
    TypeError, ValueError
        If `model` is no module, or has no such layer.
    """
    _check_model(model)
    layers = _weighted(model)
    if not layers:
        raise ValueError("model must have a convolution or a linear layer, but it has none.")
    for layer in layers.values():
        if leak:
            init(layer.weight, leak=leak)
        else:
            init(layer.weight)
        if isinstance(getattr(layer, "bias", None), Tensor):
            nn.init.zeros_(layer.bias)
    return model


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, but it is a {type(model).__name__}.")


def _weighted(module: nn.Module) -> dict[str, Any]:
    """Return, by name, the modules whose own weight has at least two dimensions."""
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(w := getattr(part, "weight", None), Tensor)
        and w.ndim > 1
        and not isinstance(part, nn.Embedding)
    }


@torch.no_grad()
def lsuv(
    model: nn.Module,
    x: Tensor,
    modules: Iterable[nn.Module] | None = None,
    *,
    tol: float = 1e-3,
    max_iterations: int = 10,
) -> Tensor:
    """Scale a model's weights, layer after layer, until each layer's output on `x` has deviation 1.

    Layer-sequential unit-variance initialisation measures what formulas assume. Where a module
    holds a `GeneralReLU`, what that subtracts is changed too, so that the mean becomes 0.

    Parameters
    ----------
    model : nn.Module
        Already filled with random weights; changed in place. It runs in evaluation mode, and has
        its modes back afterwards.
    x : Tensor, shape (n, …)
        A batch of training inputs, on the device of the model.
    modules : iterable of nn.Module, optional
        Parts of the model whose outputs are to have deviation 1, in the order in which they are
        used; the first weight inside each is scaled. When left out, every convolution and linear
        layer.
    tol : float
        How far a deviation (and a mean) may be off.
    max_iterations : int
        How often a layer is corrected at most.

    Returns
    -------
    Tensor, shape (modules, 2)
        Mean and standard deviation of each output afterwards.

    Raises
    ------
    TypeError, ValueError
        If there is no such layer, a module is no part of the model, is not used by it, or has an
        output that does not vary or is no tensor; if an option is out of range.

    References
    ----------
    Mishkin and Matas, "All you need is a good init", 2016.
    """
    _check_model(model)
    if not (is_number(max_iterations, tol) and max_iterations >= 1 and tol > 0):
        raise ValueError(
            "max_iterations must be at least 1 and tol positive, "
            f"but they are {max_iterations!r} and {tol!r}."
        )
    parts = list(_weighted(model).values()) if modules is None else listed(modules)
    if not parts:
        raise ValueError("modules must hold a convolution or a linear layer, but there is none.")
    names = {module: name or "(model)" for name, module in model.named_modules()}
    for part in parts:
        if part not in names or not _weighted(part):
            raise ValueError(
                "modules must be parts of the model with weights, "
                f"but one {type(part).__name__} is not."
            )
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        return torch.tensor(
            [_unit_variance(model, part, names[part], x, tol, max_iterations) for part in parts]
        )
    finally:
        for module, mode in modes.items():
            module.training = mode


def _unit_variance(
    model: nn.Module,
    part: nn.Module,
    name: str,
    x: Tensor,
    tol: float,
    max_iterations: int,
) -> tuple[float, float]:
    weight = next(iter(_weighted(part).values())).weight
    shift = next((m for m in part.modules() if isinstance(m, GeneralReLU)), None)

    def measure(hook: Hook, module: nn.Module, inputs: Any, output: Tensor) -> None:
        check_output(module, output)
        found.append((output.mean().item(), output.std(correction=0).item()))

    found: list[tuple[float, float]] = []
    with Hook(part, measure):
        for iteration in range(max_iterations + 1):
            found.clear()
            model(x)
            if not found:
                raise ValueError(f"modules must take part in model(x), but {name!r} does not.")
            mean, std = found[-1]
            if not 0 < std < math.inf:
                raise ValueError(
                    f"The output of the layer {name!r} must vary over x, "
                    f"but its standard deviation is {std}."
                )
            done = abs(std - 1) <= tol and (shift is None or abs(mean) <= tol)
            if done or iteration == max_iterations:
                break
            weight.div_(std)
            if shift is not None:
                shift.sub = (shift.sub + mean) / std
    return mean, std
