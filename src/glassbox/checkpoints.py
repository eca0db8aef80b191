"""Checkpoints: all that the rest of a run depends on, in a file, so that it can go on later.

`save_checkpoint`, `load_checkpoint`, `Checkpoint`; `loader_generators`, `rng_state`,
`set_rng_state`.

Built in the chapter *training*.
"""

from __future__ import annotations

import copy
import os
import pickle
import random
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassbox.callbacks import DevicePlacement
from glassbox.checks import whole
from glassbox.data import DataLoaders
from glassbox.learner import Callback, Learner

__all__ = [
    "Checkpoint",
    "load_checkpoint",
    "loader_generators",
    "rng_state",
    "save_checkpoint",
    "set_rng_state",
]


def save_checkpoint(path: str | Path, learner: Learner) -> None:
    """Write all that the next epoch depends on, besides the data and the program, to a file.

    That is the model, the optimizer, the number of the next epoch, the random generators (the
    global ones, and those of the loaders), and the state of every callback that has a `state_dict`.
    Call it between epochs. The file is complete or not there: a temporary one is renamed.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    path, content = Path(path), {"glassbox checkpoint": 1, **_content(learner)}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _content(learner: Learner) -> dict[str, Any]:
    opt = learner.opt
    return {
        "model": learner.model.state_dict(),
        "optimizer": None if opt is None else opt.state_dict(),
        "optimizer kind": type(opt).__name__,
        "next epoch": learner.epoch + 1 if learner.n_epochs else 0,
        "generators": {name: g.get_state() for name, g in loader_generators(learner.dls).items()},
        "rng": rng_state(),
        "callbacks": {name: c.state_dict() for name, c in _with_state(learner).items()},
    }


_KINDS: dict[str, type | tuple[type, ...]] = {
    "model": dict,
    "optimizer": (dict, type(None)),
    "optimizer kind": str,
    "next epoch": int,
    "generators": dict,
    "rng": dict,
    "callbacks": dict,
}


def load_checkpoint(path: str | Path, learner: Learner) -> int:
    """Bring a learner to the state of a checkpoint, and return the number of its next epoch.

    ``learner.fit(n, start_epoch=load_checkpoint(path, learner))`` goes on with a fit of n epochs as
    if it had never been interrupted, bit for bit on the same machine, if the learner was made like
    the one that was saved, of the same data, with the same callbacks.

    Nothing is executed that the file says (``weights_only``), so that it may come from strangers.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no whole checkpoint, or one of another model, optimizer, loaders or
        callbacks; the learner is then as it was.
    """
    content = _read(Path(path))
    _check_model(path, content["model"], learner.model.state_dict())
    for what, saved, ours in (
        ("callbacks with a state", content["callbacks"], _with_state(learner)),
        ("loaders with a generator", content["generators"], loader_generators(learner.dls)),
    ):
        if set(saved) != set(ours):
            raise ValueError(
                f"learner must have the {what} that {path} holds ({', '.join(saved) or 'none'}), "
                f"but it has {', '.join(ours) or 'none'}."
            )
    opt, before = learner.opt, copy.deepcopy(_content(learner))
    try:
        _load(path, content, learner)
    except Exception as error:
        learner.opt = opt
        _apply(before, learner)
        if isinstance(error, _OtherOptimizer):
            raise
        raise ValueError(
            f"path must name a file that save_checkpoint wrote, but of {path} a part is damaged "
            f"({type(error).__name__}: {error})."
        ) from error
    return int(content["next epoch"])


def _load(path: str | Path, content: dict[str, Any], learner: Learner) -> None:
    for callback in learner.callbacks:
        if isinstance(callback, DevicePlacement):  # the optimizer's state goes to the parameters
            learner.model.to(callback.device)
    if content["optimizer"] is None:
        learner.opt = None
    else:
        learner.prepare_optimizer()
        _check_optimizer(path, content, learner.opt)
    _apply(content, learner)


def _apply(content: dict[str, Any], learner: Learner) -> None:
    """Give the parts of a learner their states; it has an optimizer if there is a state for one."""
    ours, saved = learner.opt, content["optimizer"]
    if saved is not None:
        ours.load_state_dict(saved)
    learner.model.load_state_dict(content["model"])
    for name, callback in _with_state(learner).items():
        callback.load_state_dict(content["callbacks"][name])
    for name, generator in loader_generators(learner.dls).items():
        generator.set_state(content["generators"][name])
    set_rng_state(content["rng"])


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if (
            isinstance(content, dict)
            and content["glassbox checkpoint"] == 1
            and all(isinstance(content[name], kind) for name, kind in _KINDS.items())
        ):
            return content
    except FileNotFoundError:
        raise FileNotFoundError(
            f"path must name a checkpoint, but {path} does not exist."
        ) from None
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"path must name a file that save_checkpoint wrote, but {path} is truncated, damaged "
            "or of another kind."
        ) from error
    except KeyError:
        pass
    raise ValueError(
        f"path must name a file that save_checkpoint wrote, but {path} holds something else."
    )


def _check_model(path: str | Path, saved: dict[str, Any], ours: dict[str, Any]) -> None:
    differences = []
    if lacking := [name for name in ours if name not in saved]:
        differences.append(f"it lacks {_some(lacking)}")
    if foreign := [name for name in saved if name not in ours]:
        differences.append(f"it has {_some(foreign)} besides")
    for name in ours:
        if name in saved and _form(saved[name]) != _form(ours[name]):
            differences.append(f"its {name} is {_form(saved[name])} and not {_form(ours[name])}")
            break
    if differences:
        raise ValueError(
            f"path must name a checkpoint of this model, but {path} is of another: "
            f"{', '.join(differences)}."
        )


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{rest}"


def _form(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


class _OtherOptimizer(ValueError):
    """The checkpoint is whole, but its optimizer is not that of the learner."""


def _check_optimizer(path: str | Path, content: dict[str, Any], ours: Any) -> None:
    saved, kind = content["optimizer"]["param_groups"], content["optimizer kind"]
    theirs = [len(group["params"]) for group in saved]
    sizes = [len(group["params"]) for group in ours.param_groups]
    if (kind, theirs) != (type(ours).__name__, sizes):
        raise _OtherOptimizer(
            f"learner must have the optimizer that {path} holds, {kind} with groups of {theirs} "
            f"parameters, but it has {type(ours).__name__} with groups of {sizes}."
        )
    for group in saved:
        if "lr" not in group:  # PyTorch would take it, and fail at the next step
            raise ValueError("a parameter group of the optimizer has no 'lr'")


def _with_state(learner: Learner) -> dict[str, Any]:
    """Return the callbacks that have a `state_dict`, by class and number."""
    named: dict[str, Any] = {}
    for callback in learner.callbacks:
        if hasattr(callback, "state_dict"):
            kind = type(callback).__name__
            n = sum(name.split("-")[0] == kind for name in named)
            named[f"{kind}-{n}" if n else kind] = callback
    return named


class Checkpoint(Callback):
    """Writes a checkpoint after every so many epochs, and after the last; see `save_checkpoint`.

    Parameters
    ----------
    path : path
        The file, replaced each time.
    every : int
        At least 1.

    Raises
    ------
    ValueError
        If `every` is below 1, or the folder of `path` does not exist.
    """

    order = 75  # after metrics, record and progress, before callbacks that stop the fit

    def __init__(self, path: str | Path, every: int = 1) -> None:
        self.path, self.every = Path(path), every
        whole("every", every, 1)
        if not self.path.parent.is_dir():
            raise ValueError(f"path must lie in a folder that exists, but it is {str(path)!r}.")

    def after_epoch(self) -> None:
        """Write the file, if it is time."""
        done = self.learn.epoch + 1
        if done % self.every == 0 or done == self.learn.n_epochs:
            save_checkpoint(self.path, self.learn)


def loader_generators(dls: DataLoaders) -> dict[str, torch.Generator]:
    """Return the random generators that loaders have of their own, by "train" and "valid"."""
    named = {name: getattr(getattr(dls, name), "generator", None) for name in ("train", "valid")}
    return {name: g for name, g in named.items() if isinstance(g, torch.Generator)}


def rng_state() -> dict[str, Any]:
    """Return the states of every global source of random numbers: PyTorch's, NumPy's, Python's.

    It consists of plain data and tensors, as a checkpoint must.
    """
    numpy: Any = np.random.get_state()  # noqa: NPY002, the global generator is what is meant
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        "python": random.getstate(),
        "numpy": (numpy[0], numpy[1].tolist(), *numpy[2:]),
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Bring every global source of random numbers to a state that `rng_state` returned.

    The states of accelerators that this machine does not have are passed over.
    """
    torch.set_rng_state(state["torch"])
    for i, cuda in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda, i)
    if state["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
