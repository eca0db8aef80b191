"""The book's data, with the same shapes and types in both profiles.

`profile`, `data_dir`, `Digits`, `digits`, `digit_sources`.

`GLASSBOX_PROFILE=sample` (the default) downloads nothing; `full` uses the lessons' data.
"""

from __future__ import annotations

import gzip
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PROFILES = ("sample", "full")


class DatasetError(RuntimeError):
    """The data that was asked for cannot be had; the message says why and what to do about it."""


def profile() -> str:
    """Return the data profile, ``"sample"`` or ``"full"``, as ``GLASSBOX_PROFILE`` names it."""
    value = os.environ.get("GLASSBOX_PROFILE") or "sample"
    if value not in PROFILES:
        raise DatasetError(f"GLASSBOX_PROFILE must be 'sample' or 'full', but it is {value!r}.")
    return value


def data_dir() -> Path:
    """Return the folder of downloaded data: ``GLASSBOX_DATA``, or else the user's cache."""
    import pooch

    value = os.environ.get("GLASSBOX_DATA")
    return Path(value).expanduser().absolute() if value else Path(pooch.os_cache("glassbox"))


class Digits(NamedTuple):
    """Handwritten digits, split three ways.

    Images are float32 of shape (n, 1, 28, 28) in [0, 1], white ink (1) on black (0); labels are
    int64 of shape (n,), 0 to 9. Everything is on the CPU.
    """

    x_train: Tensor
    y_train: Tensor
    x_valid: Tensor
    y_valid: Tensor
    x_test: Tensor
    y_test: Tensor


class _Split(NamedTuple):
    images: Tensor  # uint8, (n, 28, 28)
    labels: Tensor  # int64, (n,)
    source: Tensor  # int64, (n,): which original digit the image was made from


def digits() -> Digits:
    """Return handwritten digits: MNIST in the full profile, enlarged scikit-learn digits in sample.

    full: 50,000 training images, 10,000 for validation (the last of MNIST's 60,000), 10,000 for
    testing. sample: 12,000, 2,100 and 2,079, made by small random distortions of scikit-learn's
    1,797 digits. Every call returns new tensors, so that what a caller does to them stays there.
    """
    train, valid, test = _splits()
    return Digits(
        *(t for s in (train, valid, test) for t in (_as_float(s.images), s.labels.clone()))
    )


def digit_sources() -> tuple[Tensor, Tensor, Tensor]:
    """Return, for the training, validation and test images, which original digit each one is of."""
    train, valid, test = _splits()
    return train.source.clone(), valid.source.clone(), test.source.clone()


def _as_float(images: Tensor) -> Tensor:
    return images[:, None].to(torch.float32).div_(255)


def _splits() -> tuple[_Split, _Split, _Split]:
    return _mnist(data_dir() / "mnist") if profile() == "full" else _enlarged_digits()


@lru_cache(maxsize=1)
def _mnist(folder: Path) -> tuple[_Split, _Split, _Split]:
    import numpy as np

    def load(name: str, offset: int) -> Tensor:
        with gzip.open(folder / name) as file:
            return torch.from_numpy(np.frombuffer(file.read()[offset:], dtype=np.uint8).copy())

    images = load("train-images-idx3-ubyte.gz", 16).view(-1, 28, 28)
    labels = load("train-labels-idx1-ubyte.gz", 8).long()
    test_images = load("t10k-images-idx3-ubyte.gz", 16).view(-1, 28, 28)
    test_labels = load("t10k-labels-idx1-ubyte.gz", 8).long()
    ids = torch.arange(70_000)
    return (
        _Split(images[:50_000], labels[:50_000], ids[:50_000]),
        _Split(images[50_000:], labels[50_000:], ids[50_000:60_000]),
        _Split(test_images, test_labels, ids[60_000:]),
    )


@lru_cache(maxsize=1)
def _enlarged_digits() -> tuple[_Split, _Split, _Split]:
    """Split scikit-learn's digits by original, then enlarge each part."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundled = load_digits()
    small = torch.tensor(bundled.images, dtype=torch.float32) / 16
    labels = torch.tensor(bundled.target, dtype=torch.int64)
    train, rest = train_test_split(
        range(len(labels)), train_size=1200, stratify=bundled.target, random_state=0
    )
    valid, test = train_test_split(
        rest, train_size=300, stratify=bundled.target[rest], random_state=0
    )
    generator = torch.Generator().manual_seed(0)
    return tuple(  # type: ignore[return-value]
        _enlarge(small, labels, torch.tensor(ids), copies, generator)
        for ids, copies in ((train, 10), (valid, 7), (test, 7))
    )


def _enlarge(
    small: Tensor, labels: Tensor, ids: Tensor, copies: int, generator: torch.Generator
) -> _Split:
    """Make `copies` distorted 28×28 images of each of the 8×8 images `small[ids]`."""
    source = ids.repeat(copies)
    n = len(source)
    shuffled = source[torch.rand(n, generator=generator).argsort()]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(n, *shape).uniform_(low, high, generator=generator)

    # Where each of the 28×28 pixels looks in the large picture, in coordinates from -1 to 1.
    angle, shear = uniform(-0.16, 0.16), uniform(-0.15, 0.15)
    wide, high = uniform(0.85, 1.1), uniform(0.9, 1.08)
    right, down = uniform(-0.07, 0.07), uniform(-0.07, 0.07)
    line = (torch.arange(28) + 0.5) / 14 - 1
    y, x = line[None, :, None], line[None, None, :]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    u, v = x - right[:, None, None], y - down[:, None, None]
    turned_x = (cos * u + sin * v) / wide[:, None, None] + shear[:, None, None] * v
    turned_y = (cos * v - sin * u) / high[:, None, None]
    bend = F.interpolate(uniform(-0.06, 0.06, 2, 5, 5), size=28, mode="bicubic", align_corners=True)
    grid = torch.stack([turned_x + bend[:, 0], turned_y + bend[:, 1]], -1)

    large = _magnified(small)
    warped = torch.cat(
        [
            F.grid_sample(large[s], g, mode="bicubic", align_corners=False)
            for s, g in zip(shuffled.split(1000), grid.split(1000), strict=True)
        ]
    )[:, 0]
    threshold = uniform(0.32, 0.48)[:, None, None]
    ink = ((warped - threshold) / 0.30 + 0.5).clamp(0, 1)
    images = (ink * ink * (3 - 2 * ink) * 255).round().to(torch.uint8)
    return _Split(images, labels[shuffled], shuffled)


def _magnified(small: Tensor) -> Tensor:
    """Bring 8×8 images to 56×56 with the margin of MNIST: the digit fills 20 of 28 pixels."""
    large = F.interpolate(small[:, None], size=42, mode="bicubic", align_corners=False)
    return F.pad(large, (7, 7, 7, 7)).clamp(0, 1)
