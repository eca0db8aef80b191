"""Where tensors live, and how they are cut into mini-batches.

`default_device`, `set_seed`, `DataLoader`, `DataLoaders`, `random_split`, `Normalize`.

Built in the chapter *neural-net*.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glassbox.checks import whole
from glassbox.stats import mean, std

__all__ = [
    "DataLoader",
    "DataLoaders",
    "Normalize",
    "default_device",
    "random_split",
    "set_seed",
]


def default_device() -> torch.device:
    """Return the device that everything runs on: CUDA, else MPS, else the CPU.

    The environment variable GLASSBOX_DEVICE (cpu, cuda, cuda:1, mps, …) overrides the choice.

    Raises
    ------
    ValueError
        If GLASSBOX_DEVICE is not a device, or not one that this machine has.
    """
    wanted = os.environ.get("GLASSBOX_DEVICE", "").strip()
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not wanted:
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    here = ", ".join(name for name, there in available.items() if there)
    sentence = f"GLASSBOX_DEVICE must name a device of this machine ({here}), but it is {wanted!r}."
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ValueError(sentence) from None
    if not available.get(device.type, False):
        raise ValueError(sentence)
    return device


def set_seed(seed: int) -> torch.Generator:
    """Seed PyTorch's generators on every device, and return a CPU generator of the same seed."""
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


class DataLoader:
    """Mini-batches of tensors, indexed where the tensors live, with no Python per item.

    Parameters
    ----------
    *tensors : Tensor, each of shape (n, …)
        Inputs and targets, say; row i of each belongs to item i.
    batch_size : int
        Items in a batch; the last one may be smaller.
    shuffle : bool
        Whether each pass goes through the items in a new random order.
    generator : torch.Generator, optional
        A CPU generator that draws the orders, so that they are the same on every device.
    drop_last : bool
        Leave out a last batch that is smaller than `batch_size`.

    Raises
    ------
    TypeError, ValueError
        If there is no tensor, the tensors differ in length or device, or `batch_size` is below 1.

    Examples
    --------
    >>> loader = DataLoader(torch.arange(5), batch_size=2)
    >>> [batch.tolist() for (batch,) in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        *tensors: Tensor,
        batch_size: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
        drop_last: bool = False,
    ) -> None:
        if not tensors:
            raise ValueError("tensors must hold at least one tensor, but none was given.")
        for i, t in enumerate(tensors):
            if not isinstance(t, Tensor):
                raise TypeError(f"tensors[{i}] must be a tensor, but it is a {type(t).__name__}.")
            if t.ndim == 0:
                raise ValueError(f"tensors[{i}] must have shape (n, …), but it has rank 0.")
        lengths = [len(t) for t in tensors]
        if len(set(lengths)) > 1:
            raise ValueError(f"tensors must have the same length, but they have {lengths}.")
        devices = sorted({str(t.device) for t in tensors})
        if len(devices) > 1:
            raise ValueError(f"tensors must be on one device, but they are on {devices}.")
        whole("batch_size", batch_size, 1)
        self.tensors = tensors
        self.n = lengths[0]
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.generator = generator
        self.drop_last = drop_last

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        full, rest = divmod(self.n, self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Go once through the items, a tuple of tensors of shape (batch, …) at a time."""
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        if not self.shuffle:
            for i in starts:
                yield tuple(t[i : i + self.batch_size] for t in self.tensors)
            return
        order = torch.randperm(self.n, generator=self.generator).to(self.tensors[0].device)
        for i in starts:
            rows = order[i : i + self.batch_size]
            yield tuple(t[rows] for t in self.tensors)


@dataclass
class DataLoaders:
    """The two loaders of a training run.

    Parameters
    ----------
    train : iterable of (inputs, targets)
        A `DataLoader` of this module, a `torch.utils.data.DataLoader`, or any other iterable of
        batches with a length.
    valid : iterable of (inputs, targets), optional
        What the model is judged on and never trained on.
    """

    train: Iterable[Any]
    valid: Iterable[Any] | None = None

    @classmethod
    def from_tensors(
        cls,
        train: Sequence[Tensor],
        valid: Sequence[Tensor] | None = None,
        *,
        batch_size: int,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> DataLoaders:
        """Move the tensors to a device once, and cut them into mini-batches there.

        Parameters
        ----------
        train, valid : sequence of Tensor, each of shape (n, …)
            (inputs, targets), as a rule.
        batch_size : int
            Items in a training batch; validation, which keeps no gradients, takes twice as many.
        seed : int
            Of the generator that shuffles the training items.
        device : device, optional
            `default_device()` when left out.
        """
        device = default_device() if device is None else device
        loader = DataLoader(
            *(t.to(device) for t in train),
            batch_size=batch_size,
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
        )
        if valid is None:
            return cls(loader)
        return cls(loader, DataLoader(*(t.to(device) for t in valid), batch_size=2 * batch_size))


def random_split(
    n: int, valid_fraction: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Return the row numbers of a training and a validation set, drawn at random.

    Parameters
    ----------
    n : int
        How many items there are.
    valid_fraction : float
        The share that goes into the validation set, between 0 and 1, both excluded.
    generator : torch.Generator, optional
        Draws the split.

    Returns
    -------
    train_rows, valid_rows : Tensor of int64
        Together every number from 0 to n − 1, once.

    Raises
    ------
    ValueError
        If `valid_fraction` is out of range, or one of the two sets would be empty.
    """
    if not 0 < valid_fraction < 1:
        raise ValueError(f"valid_fraction must lie between 0 and 1, but it is {valid_fraction!r}.")
    n_valid = round(n * valid_fraction)
    if not 0 < n_valid < n:
        raise ValueError(
            f"n must be large enough for two non-empty sets, but {n} items at a valid_fraction of "
            f"{valid_fraction} leave {n - n_valid} and {n_valid}."
        )
    order = torch.randperm(n, generator=generator)
    return order[n_valid:], order[:n_valid]


class Normalize:
    """Shift and scale to mean 0 and standard deviation 1, as measured on the training data only.

    Parameters
    ----------
    train : Tensor, shape (n, …)
        What the mean and the standard deviation are taken from.
    dim : int, optional
        Keep this dimension apart, each of its positions with a mean and deviation of its own:
        1 for the channels of images of shape (n, channels, height, width).

    Raises
    ------
    ValueError
        If the data does not vary, so that there is nothing to scale by.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, train: Tensor, dim: int | None = None) -> None:
        if dim is None:
            self.mean, self.std = mean(train), std(train)
        else:
            flat = train.movedim(dim, 0).flatten(1)
            shape = [1] * train.ndim
            shape[dim] = -1
            self.mean, self.std = mean(flat, 1).view(shape), std(flat, 1).view(shape)
        if bool((self.std == 0).any()):
            raise ValueError("train must vary, but its standard deviation is 0.")

    def __call__(self, x: Tensor) -> Tensor:
        """Return `x` shifted and scaled, on its own device."""
        return (x - self.mean.to(x.device)) / self.std.to(x.device)

    def inverse(self, z: Tensor) -> Tensor:
        """Return what would have given `z`."""
        return z * self.std.to(z.device) + self.mean.to(z.device)
