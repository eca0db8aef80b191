"""Layers made from tensors, and the arithmetic of their shapes.

`GeneralReLU`, `conv_layer`.

Built in the chapters *convolutions* and *telemetry*.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GeneralReLU", "conv_layer"]


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
        convolution has no bias, which the normalisation would take away again.
    activation : callable
        Returns the activation function, as a layer.
    """
    convolution = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=norm is None
    )
    layers = [convolution, activation()]
    if norm is not None:
        layers.append(norm(out_channels))
    return nn.Sequential(*layers)
