"""Models that several chapters use: a small convolutional network, and residual networks.

`simple_cnn`; `BasicBlock`, `ResNet`, `resnet18`, `resnet34`.

The parameters of `resnet18` and `resnet34` have the names and shapes that published weights have,
so that these can be loaded. Convolutions are the subject of a chapter of their own.

Built in the chapter *transfer*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from glassbox.checks import whole
from glassbox.layers import conv_layer

__all__ = ["BasicBlock", "ResNet", "resnet18", "resnet34", "simple_cnn"]


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
    whole("in_channels", in_channels, 1)
    whole("num_classes", num_classes, 1)
    _check_all_whole("channels", channels)
    widths = [in_channels, *channels]
    layers = [
        conv_layer(n_in, n_out, 3 if i else 5, norm=norm, activation=activation)
        for i, (n_in, n_out) in enumerate(pairwise(widths))
    ]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], num_classes)
    )


def _check_all_whole(name: str, values: Sequence[int]) -> None:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ValueError(
            f"{name} must be a sequence of at least one whole number, but it is {values!r}."
        )
    for i, value in enumerate(values):
        whole(f"{name}[{i}]", value, 1)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions whose output is added to their input: relu(x + f(x)).

    Where the block changes the number of channels or the size of the grid, `downsample`, a 1×1
    convolution with a norm, brings the input to the shape of the output.

    Parameters
    ----------
    in_channels, channels : int
        From inputs of shape (n, in_channels, height, width) to outputs of shape
        (n, channels, height / stride, width / stride), both rounded up.
    stride : int
        Of the first convolution, and of `downsample`.
    norm : callable
        Given the number of channels it returns the layer that normalises.

    Raises
    ------
    ValueError
        If a number is below 1.

    References
    ----------
    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        whole("in_channels", in_channels, 1)
        whole("channels", channels, 1)
        whole("stride", stride, 1)
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = norm(channels)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = norm(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), norm(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of shape (n, channels, height / stride, width / stride)."""
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x = self.relu(x + identity)
        return x


class ResNet(nn.Module):
    """A residual network: a stem, stages of blocks, a global mean and a linear layer.

    Each stage after the first halves the grid in its first block. The children are applied one
    after the other in the order in which they are registered: conv1, bn1, relu, maxpool, layer1,
    layer2, …, avgpool, flatten, fc.

    Parameters
    ----------
    layers : sequence of int
        Blocks in each stage.
    num_classes : int
        Width of the output, of shape (n, num_classes).
    in_channels : int
        Channels of the images, of shape (n, in_channels, height, width).
    widths : sequence of int
        Channels of each stage; the stem has those of the first.
    small_images : bool
        With False, the stem is the published one: a 7×7 convolution and a maximum over 3×3, both
        of stride 2, after which a 28×28 image is down to 7×7. With True it is one 3×3 convolution
        that keeps the size.
    block : callable
        `block(in_channels, channels, stride, norm=norm)` returns a block.
    norm : callable
        Given the number of channels it returns the layer that normalises.
    zero_init : bool
        Let the last norm of each block scale by 0 at first, so that each block that has no
        `downsample` starts as relu(x) [2]_.

    Raises
    ------
    ValueError
        If there is no stage, `widths` has another length, a number is below 1, or a norm has no
        weight that `zero_init` could set.

    References
    ----------
    .. [1] He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016.
    .. [2] Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017.
    """

    def __init__(
        self,
        layers: Sequence[int],
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512),
        small_images: bool = False,
        block: Callable[..., nn.Module] = BasicBlock,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        zero_init: bool = False,
    ) -> None:
        _check_all_whole("layers", layers)
        _check_all_whole("widths", widths)
        whole("in_channels", in_channels, 1)
        whole("num_classes", num_classes, 1)
        if len(layers) != len(widths):
            raise ValueError(
                "layers and widths must have one number for each stage, but they are "
                f"{tuple(layers)} and {tuple(widths)}."
            )
        super().__init__()
        size, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, widths[0], size, stride, size // 2, bias=False)
        self.bn1 = norm(widths[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, 2, 1)
        stages = zip(pairwise([widths[0], *widths]), layers, strict=True)
        for i, ((n_in, n_out), n_blocks) in enumerate(stages, 1):
            blocks = [block(n_in, n_out, 1 if i == 1 else 2, norm=norm)]
            blocks += [block(n_out, n_out, 1, norm=norm) for _ in range(n_blocks - 1)]
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init and isinstance(module, BasicBlock):
                if not isinstance(getattr(module.bn2, "weight", None), Tensor):
                    kind = type(module.bn2).__name__
                    raise ValueError(
                        f"norm must return layers with a weight for zero_init, but {kind} has none."
                    )
                nn.init.zeros_(module.bn2.get_parameter("weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (n, num_classes) for images of shape (n, in_channels, h, w)."""
        for child in self.children():
            x = child(x)
        return x


def resnet18(num_classes: int = 1000, **options: Any) -> ResNet:
    """Return a ResNet of 18 weighted layers, named as published ones are; options as in `ResNet`.

    At 1000 classes it has 11,689,512 parameters.
    """
    return ResNet((2, 2, 2, 2), num_classes, **options)


def resnet34(num_classes: int = 1000, **options: Any) -> ResNet:
    """Return a ResNet of 34 weighted layers, named as published ones are; options as in `ResNet`.

    At 1000 classes it has 21,797,672 parameters.
    """
    return ResNet((3, 4, 6, 3), num_classes, **options)
