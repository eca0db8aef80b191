"""What it takes to give a trained model another task: its weights, its parts, and what may train.

`load_weights`; `body_and_head`, `new_head`; `freeze`, `unfreeze`, `split_before`.

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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glassbox.checks import whole
from glassbox.models import ResNet

__all__ = [
    "body_and_head",
    "freeze",
    "load_weights",
    "new_head",
    "split_before",
    "unfreeze",
]


def load_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    sha256: str | None = None,
    *,
    leave_out: str | Iterable[str] = (),
) -> list[str]:
    """Load weights from a file that somebody published, after looking at them.

    The file is read once, compared with its checksum, and unpickled with `weights_only=True`, so
    that it cannot run code. When a name, a shape or a kind of number does not fit, or there is a
    NaN, nothing of it is loaded. (Other precisions of floating-point numbers do fit.)

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
        If the checksum is another one or no checksum, the file holds no weights, names, shapes or
        kinds of numbers do not fit, a weight is NaN, or `leave_out` names nothing in the model.
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
    other_kind = [
        f"{n} of {t.dtype} in place of {wanted[n].dtype}"
        for n, t in offered.items()
        if n in wanted and t.is_floating_point() != wanted[n].is_floating_point()
    ]
    problems = [
        f"{len(names)} {what} ({_some(names)})"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshaped),
            ("of another kind", other_kind),
            ("with NaN", [n for n, t in offered.items() if bool(t.isnan().any())]),
        )
        if names
    ]
    if problems:
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
    if len(names) < 2:
        raise ValueError(
            f"model must have at least two children, a body and a head, but it has {len(names)}."
        )
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
    whole("in_features", in_features, 1)
    whole("num_classes", num_classes, 1)
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
    TypeError
        If a name is no str.
    ValueError
        By the splitter, if the model has no parameters under one of the names after those of the
        group before it, or none at all before the first.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> [len(group) for group in split_before("2")(model)]
    [2, 2]
    """

    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"names must be names of modules, but one is {name!r}.")

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
