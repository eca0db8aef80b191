"""Where in a picture a network found what it says: from maps, from gradients, and by covering.

`mean_activation_map`, `cam`, `grad_cam`; `input_gradient`, `guided_backpropagation`,
`smooth_gradient`, `saliency`; `occlusion`.

All of them evaluate: batch norm and dropout behave as in use, every module's mode, the gradients
and the hooks of the model are afterwards as they were. Results are where the model is.

Built in the chapter *heatmaps*.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from glassbox.checks import is_number, whole
from glassbox.hooks import Hook, Hooks

__all__ = [
    "cam",
    "grad_cam",
    "guided_backpropagation",
    "input_gradient",
    "mean_activation_map",
    "occlusion",
    "saliency",
    "smooth_gradient",
]

Target = int | Tensor | None


def mean_activation_map(model: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """Return the mean over the channels of what a layer puts out: where it is busy.

    Parameters
    ----------
    model : nn.Module
        Called with `x`.
    layer : nn.Module
        A part of it that returns maps of shape (n, channels, h, w): its convolutional body, say.
    x : Tensor, shape (n, channels, height, width)
        Pictures, prepared as for training.

    Returns
    -------
    Tensor, shape (n, h, w)

    Raises
    ------
    ValueError
        If `layer` is not part of the model, is not used or returns no maps, or `x` is no batch.

    References
    ----------
    fast.ai 2019, lesson 6.
    """
    with torch.no_grad():
        return _run(model, layer, _pictures(model, x))[0].mean(1)


def cam(
    model: nn.Module, layer: nn.Module, x: Tensor, target: Target = None, *, linear: nn.Linear
) -> Tensor:
    """Return class activation maps: channels weighted by what the last layer makes of them.

    For a model that ends in the mean over each map and a linear layer. The mean of the map over its
    places is the class's logit, less its bias.

    Parameters
    ----------
    model, layer, x
        As in `mean_activation_map`.
    target : int or Tensor of shape (n,), optional
        The class that is asked for; that which the model predicts for each picture when left out.
    linear : nn.Linear
        The last layer of the model.

    Returns
    -------
    Tensor, shape (n, h, w)
        Negative where the picture speaks against the class.

    Raises
    ------
    ValueError
        As in `mean_activation_map`; if a target is no class; or if the model does not end in a mean
        and that linear layer, so that its maps would explain another model than this one.

    References
    ----------
    Zhou, Khosla, Lapedriza, Oliva and Torralba 2016.
    """
    with torch.no_grad():
        maps, logits = _run(model, layer, _pictures(model, x))
        rows = _targets(target, logits)
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear must be an nn.Linear, but it is {_what(linear)}.")
        if linear.in_features != maps.shape[1] or linear.out_features != logits.shape[1]:
            raise ValueError(
                f"linear must lead from the layer's {maps.shape[1]} channels to {logits.shape[1]} "
                f"classes, but it leads from {linear.in_features} to {linear.out_features}."
            )
        if not torch.allclose(linear(maps.mean((2, 3))), logits, rtol=1e-3, atol=1e-3):
            raise ValueError(
                "model must return linear(mean of the layer's maps), but it returns something "
                "else: use grad_cam."
            )
        return torch.einsum("nchw,nc->nhw", maps, linear.weight[rows])


def grad_cam(
    model: nn.Module, layer: nn.Module, x: Tensor, target: Target = None, *, relu: bool = True
) -> Tensor:
    """Return channels weighted by the mean gradient of the class's logit with respect to them.

    Parameters
    ----------
    model, layer, x, target
        As in `cam`; what comes after the layer may be anything that has a gradient.
    relu : bool
        Whether to keep only what speaks for the class.

    Returns
    -------
    Tensor, shape (n, h, w)

    Raises
    ------
    ValueError
        As in `mean_activation_map`, or if a target is no class.

    References
    ----------
    Selvaraju et al. 2017.
    """
    with torch.enable_grad():
        # The pictures require a gradient, for a model all of whose parameters are frozen.
        maps, logits = _run(model, layer, _pictures(model, x).detach().requires_grad_())
        (gradient,) = torch.autograd.grad(_score(logits, _targets(target, logits)), maps)
    weights = gradient.mean((2, 3), keepdim=True)
    heat = (weights * maps.detach()).sum(1)
    return heat.clamp_min(0) if relu else heat


def input_gradient(model: nn.Module, x: Tensor, target: Target = None) -> Tensor:
    """Return the gradient of the class's logit with respect to the pixels, of the shape of `x`.

    Raises
    ------
    ValueError
        If `x` is no batch of pictures, or a target is no class.

    References
    ----------
    Simonyan, Vedaldi and Zisserman 2014.
    """
    with torch.enable_grad():
        leaf = _pictures(model, x).detach().requires_grad_()
        logits = _logits(model, leaf)
        (gradient,) = torch.autograd.grad(_score(logits, _targets(target, logits)), leaf)
    return gradient


def guided_backpropagation(model: nn.Module, x: Tensor, target: Target = None) -> Tensor:
    """Return `input_gradient` where each ReLU lets only positive gradients pass on the way back.

    It looks sharp, and depends little on the class and on the later layers (see the chapter).

    Raises
    ------
    ValueError
        As in `input_gradient`, or if the model has no `nn.ReLU`.

    References
    ----------
    Springenberg, Dosovitskiy, Brox and Riedmiller 2015; Adebayo et al. 2018.
    """
    _check_model(model)
    rectifiers = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    if not rectifiers:
        raise ValueError("model must have at least one nn.ReLU to guide through, but has none.")
    with Hooks(rectifiers, _let_positive_gradients_pass):
        return input_gradient(model, x, target)


def _let_positive_gradients_pass(hook: Hook, module: nn.Module, inputs: Any, output: Any) -> None:
    output.register_hook(lambda gradient: gradient.clamp_min(0))


def smooth_gradient(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    n_samples: int = 16,
    noise: float = 0.1,
    seed: int = 0,
) -> Tensor:
    """Return the mean of `input_gradient` over noisy copies of the pictures.

    Parameters
    ----------
    model, x, target
        As in `input_gradient`; the class is predicted for the picture without noise.
    n_samples : int
        How many copies, at least 1.
    noise : float
        Standard deviation of the noise, as a share of the picture's range.
    seed : int
        Of the noise, which is drawn on the CPU, so that it is the same on every device.

    Raises
    ------
    ValueError
        As in `input_gradient`, or if `n_samples` or `noise` is out of range.

    References
    ----------
    Smilkov, Thorat, Kim, Viégas and Wattenberg 2017.
    """
    whole("n_samples", n_samples, 1)
    whole("seed", seed, -(2**63), 2**64 - 1)
    if not (is_number(noise) and noise >= 0):
        raise ValueError(f"noise must not be negative, but it is {noise!r}.")
    x = _pictures(model, x).detach()
    with torch.no_grad():
        rows = _targets(target, _logits(model, x))
    generator = torch.Generator().manual_seed(seed)
    scale = noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
    total = torch.zeros_like(x)
    for _ in range(n_samples):
        draws = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        total += input_gradient(model, x + scale * draws, rows)
    return total / n_samples


def saliency(gradient: Tensor) -> Tensor:
    """Return a heatmap of shape (n, height, width): the largest size of a gradient over channels.

    Raises
    ------
    ValueError
        If `gradient` has not the shape (n, channels, height, width).
    """
    if not isinstance(gradient, Tensor) or gradient.ndim != 4:
        raise ValueError(
            "gradient must have shape (n, channels, height, width), but has "
            f"{_what(gradient).removeprefix('shape ')}."
        )
    return gradient.abs().amax(1)


def occlusion(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    size: int = 8,
    stride: int = 4,
    fill: float | None = None,
) -> Tensor:
    """Return by how much the class's logit falls when a pixel is covered. Slow, and honest.

    A square patch is laid on every place of a grid in turn, and the model asked again. A pixel's
    value is the mean over the patches that cover it.

    Parameters
    ----------
    model, x, target
        As in `input_gradient`; the class is predicted for the picture without a patch.
    size : int
        Side of the patch in pixels.
    stride : int
        From one place to the next, 1 to `size`; the last place in a row ends at the edge.
    fill : float, optional
        The value of a covered pixel; the mean of the picture's channel when left out.

    Returns
    -------
    Tensor, shape (n, height, width)
        Negative where the class gains from being covered.

    Raises
    ------
    ValueError
        As in `input_gradient`, or if the patch does not fit or its places leave gaps.

    References
    ----------
    Zeiler and Fergus 2014.
    """
    with torch.no_grad():
        x = _pictures(model, x)
        logits = _logits(model, x)
        rows = _targets(target, logits)
        before = logits.gather(1, rows[:, None])[:, 0]
        height, width = x.shape[2:]
        whole("size", size, 1, min(height, width))
        whole("stride", stride, 1, size)
        if not (fill is None or is_number(fill)):
            raise TypeError(f"fill must be a number, or None, but it is {fill!r}.")
        drops = torch.zeros(len(x), height, width, dtype=logits.dtype, device=logits.device)
        covered = torch.zeros(height, width, dtype=logits.dtype, device=logits.device)
        cover = x.mean((2, 3), keepdim=True) if fill is None else fill
        for top in _places(height, size, stride):
            for left in _places(width, size, stride):
                patch = (..., slice(top, top + size), slice(left, left + size))
                changed = x.clone()
                changed[patch] = cover
                after = _logits(model, changed).gather(1, rows[:, None])[:, 0]
                drops[patch] += (before - after)[:, None, None]
                covered[patch] += 1
        return drops / covered


def _places(length: int, size: int, stride: int) -> list[int]:
    return sorted({*range(0, length - size, stride), length - size})


def _pictures(model: nn.Module, x: Tensor) -> Tensor:
    """Return the pictures where the model is."""
    _check_model(model)
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor of pictures, but it is {_what(x)}.")
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(
            "x must be pictures of shape (n, channels, height, width), floating point, but it has "
            f"shape {tuple(x.shape)} and type {x.dtype}; for one picture, write x[None]."
        )
    return x.to(next(model.parameters(), x).device)


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, but it is {_what(model)}.")


def _run(model: nn.Module, layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the layer puts out, and the logits."""
    if all(module is not layer for module in model.modules()):
        kind = type(layer).__name__
        raise ValueError(f"layer must be a module of the model, but this {kind} is not in it.")
    outputs: list[Any] = []
    with Hook(layer, lambda hook, module, inputs, output: outputs.append(output)):
        logits = _logits(model, x)
    if not outputs:
        raise ValueError("layer must take part in model(x), but it was never called.")
    maps = outputs[-1]
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        raise ValueError(
            "layer must return maps of shape (n, channels, height, width), but it returns "
            f"{_what(maps)}."
        )
    return maps, logits


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    with _evaluating(model):
        logits = model(x)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ValueError(
            f"model must return logits of shape (n, classes), but it returns {_what(logits)}."
        )
    return logits


def _what(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluate within the block; afterwards every module has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _targets(target: Target, logits: Tensor) -> Tensor:
    """Return a class for each row of the logits."""
    n, classes = logits.shape
    if target is None:
        return logits.argmax(1)
    try:
        rows = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"target must be a class number or {n}, but it is {target!r}.") from None
    countable = not (rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool)
    if not countable or rows.shape not in ((), (n,)):
        raise ValueError(
            f"target must be a class number or {n} of them, one for each picture, but it has shape "
            f"{tuple(rows.shape)} and type {rows.dtype}."
        )
    if not bool(((rows >= 0) & (rows < classes)).all()):
        worst = rows[(rows < 0) | (rows >= classes)].flatten()[0].item()
        raise ValueError(f"target must be a class from 0 to {classes - 1}, but one is {worst}.")
    return rows.long().expand(n)


def _score(logits: Tensor, rows: Tensor) -> Tensor:
    """Return the sum of each picture's logit: its gradient is that of each picture on its own."""
    return logits.gather(1, rows[:, None]).sum()
