"""Models that several chapters use, and what it takes to give a trained one another task.

`simple_cnn`; `BasicBlock`, `ResNet`, `resnet18`, `resnet34`; `load_weights`; `body_and_head`,
`new_head`, `freeze`, `unfreeze`, `split_before`.

The parameters of `resnet18` and `resnet34` have the names and shapes that published weights have,
so that these can be loaded. Convolutions are the subject of a chapter of their own.

Built in the chapter *transfer*.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import string
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glassbox.layers import conv_layer

__all__ = [
    "BasicBlock",
    "ResNet",
    "body_and_head",
    "freeze",
    "load_weights",
    "new_head",
    "resnet18",
    "resnet34",
    "simple_cnn",
    "split_before",
    "unfreeze",
]


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
        If there is no stage, `widths` has another length, or a number is below 1.

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
        if not layers or len(layers) != len(widths):
            raise ValueError(
                "layers and widths must have one number for each stage, but they are "
                f"{tuple(layers)} and {tuple(widths)}."
            )
        if min(*layers, *widths, in_channels, num_classes) < 1:
            raise ValueError(
                "layers, widths, in_channels and num_classes must be whole numbers of at least 1, "
                f"but they are {tuple(layers)}, {tuple(widths)}, {in_channels} and {num_classes}."
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


def load_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    sha256: str | None = None,
    *,
    leave_out: str | Iterable[str] = (),
) -> list[str]:
    """Load weights from a file that somebody published, after looking at them.

    The file is read once, compared with its checksum, and unpickled with `weights_only=True`, so
    that it cannot run code. When a name or a shape does not fit, nothing of it is loaded.

    Parameters
    ----------
    model : nn.Module
        On any device; its parameters and buffers are changed in place.
    path : str or path
        A file that `torch.save` made of a `state_dict()`.
    sha256 : str, optional
        The file's SHA-256 in hexadecimal digits, all 64 or at least the first 8 (which publishers
        put into the file's name, as in ``resnet18-f37072fd.pth``). When left out, nothing is
        compared.
    leave_out : str, or iterable of str
        Modules of which nothing is loaded, such as ``"fc"``: the model keeps what it has there.

    Returns
    -------
    list of str
        The names in the model that were not loaded: those left out, and counters of batches
        (`num_batches_tracked`), which older files do not have.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the checksum is another one or no checksum, the file holds no weights, names or shapes
        do not fit, or `leave_out` names nothing in the model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path must be a file of weights, but there is none at {path}.")
    content = path.read_bytes()
    if sha256 is not None:
        _compare_checksum(path, content, sha256)
    weights, expected = _read_weights(path, content), model.state_dict()
    left_out = set()
    for module in (leave_out,) if isinstance(leave_out, str) else leave_out:
        names = {n for n in (*weights, *expected) if n == module or n.startswith(f"{module}.")}
        if not names & expected.keys():
            raise ValueError(
                f"leave_out must name modules of the model, but it has no {module!r} with weights."
            )
        left_out |= names
    wanted = {n: t for n, t in expected.items() if n not in left_out}
    offered = {n: t for n, t in weights.items() if n not in left_out}
    missing = [n for n in wanted if n not in offered and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in offered if n not in wanted]
    misshaped = [
        f"{n} with {tuple(t.shape)} in place of {tuple(wanted[n].shape)}"
        for n, t in offered.items()
        if n in wanted and t.shape != wanted[n].shape
    ]
    if missing or unexpected or misshaped:
        problems = [
            f"{len(names)} {what} ({_some(names)})"
            for what, names in (
                ("missing", missing),
                ("unexpected", unexpected),
                ("of another shape", misshaped),
            )
            if names
        ]
        raise ValueError(f"The weights in {path.name} do not fit the model: {', '.join(problems)}.")
    model.load_state_dict(offered, strict=False)
    return [n for n in expected if n not in offered]


def _compare_checksum(path: Path, content: bytes, sha256: str) -> None:
    digits = sha256.lower()
    if not 8 <= len(digits) <= 64 or set(digits) - set(string.hexdigits):
        raise ValueError(
            f"sha256 must be between 8 and 64 hexadecimal digits, but it is {sha256!r}."
        )
    found = hashlib.sha256(content).hexdigest()
    if found[: len(digits)] != digits:
        raise ValueError(
            f"{path.name} must have a SHA-256 that begins with {digits}, but it is {found}: it is "
            "damaged, or another file."
        )


def _read_weights(path: Path, content: bytes) -> Mapping[str, Tensor]:
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path.name} must be a file of tensors that torch.save made, but it cannot be read as "
            f"one ({type(error).__name__})."
        ) from error
    if not isinstance(weights, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()
    ):
        raise ValueError(
            f"{path.name} must hold a state_dict, which is names and tensors, but it holds a "
            f"{type(weights).__name__} with something else."
        )
    return weights


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def body_and_head(model: nn.Module, cut: str | None = None) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut a model in two: what makes features of an image, and what makes classes of features.

    `head(body(x))` is `model(x)`. The parts are those of the model, not copies, and keep their
    names, so that weights of the whole can still be found in them.

    Parameters
    ----------
    model : ResNet or nn.Sequential
        A model that applies its children one after the other.
    cut : str, optional
        The name of the child with which the head begins; when left out, the first
        `nn.AdaptiveAvgPool2d`.

    Raises
    ------
    TypeError
        If the model is of another kind.
    ValueError
        If there is nothing to cut at, or one part would be empty.
    """
    if not isinstance(model, (ResNet, nn.Sequential)):
        raise TypeError(
            "model must be a ResNet or an nn.Sequential, whose children are applied one after the "
            f"other, but it is a {type(model).__name__}."
        )
    children = list(model.named_children())
    names = [name for name, _ in children]
    if cut is None:
        pools = [name for name, m in children if isinstance(m, nn.AdaptiveAvgPool2d)]
        if not pools:
            raise ValueError(
                "cut must be given for a model without an nn.AdaptiveAvgPool2d: one of "
                f"{', '.join(names[1:])}."
            )
        cut = pools[0]
    if cut not in names[1:]:
        raise ValueError(f"cut must be one of {', '.join(names[1:])}, but it is {cut!r}.")
    i = names.index(cut)
    return nn.Sequential(OrderedDict(children[:i])), nn.Sequential(OrderedDict(children[i:]))


def new_head(in_features: int, num_classes: int) -> nn.Sequential:
    """Return a head at random: the mean over the grid, and a linear layer.

    Parameters
    ----------
    in_features : int
        Channels of what the body returns, of shape (n, in_features, height, width).
    num_classes : int
        Width of the output, of shape (n, num_classes).

    Raises
    ------
    ValueError
        If a number is below 1.
    """
    if min(in_features, num_classes) < 1:
        raise ValueError(
            "in_features and num_classes must be whole numbers of at least 1, but they are "
            f"{in_features} and {num_classes}."
        )
    parts = [
        ("avgpool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(in_features, num_classes)),
    ]
    return nn.Sequential(OrderedDict(parts))


def freeze(module: nn.Module, *, train_norm: bool = False) -> None:
    """Keep a module as it is while the rest of a model trains.

    Its parameters get no gradients. Layers that keep statistics (batch norm) use the ones they
    have and no longer follow the batches, even in training mode: without that, a frozen body goes
    on changing.

    Parameters
    ----------
    module : nn.Module
        A model or a part of one.
    train_norm : bool
        Let those layers train on: their parameters, and their statistics.

    Raises
    ------
    TypeError
        If `module` is no module.
    """
    unfreeze(module)
    for part in module.modules():
        keeps_statistics = next(part.buffers(recurse=False), None) is not None
        if keeps_statistics and train_norm:
            continue
        for parameter in part.parameters(recurse=False):
            parameter.requires_grad_(False)
        if keeps_statistics:
            part.eval()
            part._still = part.register_forward_pre_hook(_evaluate)  # type: ignore[assignment]


def unfreeze(module: nn.Module) -> None:
    """Let every parameter of a module train again, and its batch norms follow the batches.

    Raises
    ------
    TypeError
        If `module` is no module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be an nn.Module, but it is a {type(module).__name__}.")
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    for part in module.modules():
        still = part.__dict__.pop("_still", None)
        if still is not None:
            still.remove()
            part.train(module.training)


def _evaluate(part: nn.Module, inputs: Any) -> None:
    """Before a frozen layer computes: `model.train()`, at every epoch, has switched it back."""
    part.training = False


def split_before(*names: str) -> Callable[[nn.Module], list[list[nn.Parameter]]]:
    """Return a splitter for a `Learner`: the parameters in groups, with a cut before each name.

    Parameters
    ----------
    *names : str
        Modules of the model, in its order, each of which begins a new group.

    Returns
    -------
    callable
        From a model to one list of parameters for each group, frozen ones included.

    Raises
    ------
    ValueError
        By the splitter, if the model has no parameters under one of the names after those of the
        group before it, or none at all before the first.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> [len(group) for group in split_before("2")(model)]
    [2, 2]
    """

    def splitter(model: nn.Module) -> list[list[nn.Parameter]]:
        groups: list[list[nn.Parameter]] = [[]]
        for name, parameter in model.named_parameters():
            if len(groups) <= len(names) and f"{name}.".startswith(f"{names[len(groups) - 1]}."):
                groups.append([])
            groups[-1].append(parameter)
        if len(groups) <= len(names) or not groups[0]:
            culprit = names[0] if not groups[0] else names[len(groups) - 1]
            raise ValueError(
                "names must be modules of the model, in its order and not at its beginning, but "
                f"{culprit!r} of {', '.join(names)} is not."
            )
        return groups

    return splitter
