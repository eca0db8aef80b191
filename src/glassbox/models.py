"""Models that several chapters use.

`simple_cnn`. Convolutions themselves are the subject of a chapter of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from glassbox.layers import conv_layer

__all__ = ["simple_cnn"]


def simple_cnn(
    in_channels: int = 1,
    channels: Sequence[int] = (8, 16, 32, 32),
    num_classes: int = 10,
    *,
    norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Return a small image classifier: stride-2 convolutions, a global mean, a linear layer.

    The first kernel is 5×5, so that it computes fewer numbers than it sees; the others are 3×3.

    Parameters
    ----------
    in_channels : int
        Channels of the images, of shape (n, in_channels, height, width).
    channels : sequence of int
        Output channels of each convolution, each of which halves height and width.
    num_classes : int
        Width of the output, of shape (n, num_classes).
    norm, activation : callable
        As in `glassbox.layers.conv_layer`; None for `norm` normalises nothing.

    Returns
    -------
    nn.Sequential
        One `conv_layer` for each of `channels`, then pooling, flattening and the linear layer.

    Raises
    ------
    ValueError
        If a number of channels or classes is below 1, or `channels` is empty.

    References
    ----------
    fast.ai 2019 part 2, lesson 10.
    """
    widths = [in_channels, *channels]
    if len(widths) < 2 or min(*widths, num_classes) < 1:
        raise ValueError(
            "in_channels, channels and num_classes must be whole numbers of at least 1, but they "
            f"are {in_channels}, {tuple(channels)} and {num_classes}."
        )
    layers = [
        conv_layer(n_in, n_out, 3 if i else 5, norm=norm, activation=activation)
        for i, (n_in, n_out) in enumerate(pairwise(widths))
    ]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], num_classes)
    )
