"""The book's data, with the same shapes and types in both profiles, and the command to get it.

`Digits`, `digits`, `digit_sources`, `read_idx`, `text`, `language_reference`, `nietzsche`,
`movielens`, `compas`, `photographs`; and, from `glassbox.downloads`, `profile`, `data_dir`,
`fetch`, `REGISTRY`, `DatasetError`.

``GLASSBOX_PROFILE=sample`` (the default) downloads nothing; ``full`` uses the lessons' data, in the
folder that ``GLASSBOX_DATA`` names. In a terminal::

    python -m glassbox.datasets list
    python -m glassbox.datasets fetch [NAME]
"""

from __future__ import annotations

import argparse
import gzip
import importlib.resources
import math
import struct
import sys
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glassbox.downloads import (
    REGISTRY,
    Dataset,
    DatasetError,
    data_dir,
    dataset,
    fetch,
    is_present,
    profile,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PHOTOGRAPHS",
    "REGISTRY",
    "DatasetError",
    "Digits",
    "compas",
    "data_dir",
    "digit_sources",
    "digits",
    "fetch",
    "language_reference",
    "movielens",
    "nietzsche",
    "photographs",
    "profile",
    "read_idx",
    "text",
]

# scikit-image can show more; these it installs, the others it would download.
PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png"),
    *("coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "moon.png", "rocket.jpg"),
)


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
    return _mnist(fetch("mnist")) if profile() == "full" else _enlarged_digits()


def read_idx(path: Path) -> Tensor:
    """Return the bytes of a gzipped idx file, MNIST's format, as uint8 of the shape it states.

    The file begins with two zeros, the type of its items (8: unsigned bytes) and the number of
    dimensions; then come the dimensions, as big-endian integers of four bytes; then the items.

    Raises
    ------
    DatasetError
        If the file cannot be read, is not of this kind, or ends too early or too late.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} is not a complete gzip file ({error}).") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
        raise DatasetError(
            f"{path} must begin like an idx file of bytes (00 00 08, the number of dimensions, "
            f"the dimensions), but it begins with {content[:8].hex(' ') or 'nothing'}."
        )
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DatasetError(
            f"{path} must hold {math.prod(shape):,} items for the shape {shape} that it states, "
            f"but it holds {len(content) - start:,}."
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[start:].view(shape)


@lru_cache(maxsize=1)
def _mnist(folder: Path) -> tuple[_Split, _Split, _Split]:
    images, labels, test_images, test_labels = (
        read_idx(folder / f"{part}-ubyte.gz")
        for part in (
            "train-images-idx3",
            "train-labels-idx1",
            "t10k-images-idx3",
            "t10k-labels-idx1",
        )
    )
    train_ids, test_ids = torch.arange(len(images)), len(images) + torch.arange(len(test_images))
    n = 50_000
    return (
        _Split(images[:n], labels[:n].long(), train_ids[:n]),
        _Split(images[n:], labels[n:].long(), train_ids[n:]),
        _Split(test_images, test_labels.long(), test_ids),
    )


@lru_cache(maxsize=1)
def _enlarged_digits() -> tuple[_Split, _Split, _Split]:
    """Split scikit-learn's digits by original, then enlarge each part.

    The originals come from thirteen writers, and nobody recorded who wrote which: a writer may
    have digits in every part.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundled = load_digits()
    large = _magnified(torch.tensor(bundled.images, dtype=torch.float32) / 16)
    labels = torch.tensor(bundled.target, dtype=torch.int64)
    train, rest = train_test_split(
        range(len(labels)), train_size=1200, stratify=bundled.target, random_state=0
    )
    valid, test = train_test_split(
        rest, train_size=300, stratify=bundled.target[rest], random_state=0
    )
    generator = torch.Generator().manual_seed(0)
    return tuple(  # type: ignore[return-value]
        _enlarge(large, labels, torch.tensor(ids), copies, generator)
        for ids, copies in ((train, 10), (valid, 7), (test, 7))
    )


def _enlarge(
    large: Tensor, labels: Tensor, ids: Tensor, copies: int, generator: torch.Generator
) -> _Split:
    """Make `copies` distorted 28×28 images of each of the pictures `large[ids]`.

    Only what gives the same bits whatever the number of threads is used (no matrix product), and
    the result is rounded to 256 levels of grey, as MNIST's.
    """
    source = ids.repeat(copies)[torch.randperm(copies * len(ids), generator=generator)]
    n = len(source)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n, 1, 1).uniform_(low, high, generator=generator)

    # Where each of the 28×28 pixels looks in the large picture, in coordinates from -1 to 1:
    # moved, turned, stretched, slanted, and bent by a wave along each axis.
    line = (torch.arange(28) + 0.5) / 14 - 1
    x, y = line[None, None, :] - uniform(-0.07, 0.07), line[None, :, None] - uniform(-0.07, 0.07)
    angle = uniform(-0.15, 0.15)
    turned_x = (angle.cos() * x + angle.sin() * y) / uniform(0.95, 1.3)
    turned_y = (angle.cos() * y - angle.sin() * x) / uniform(0.88, 1.05)
    wave_x = uniform(0, 0.05) * (uniform(2, 6) * y + uniform(0, 2 * math.pi)).sin()
    wave_y = uniform(0, 0.05) * (uniform(2, 6) * x + uniform(0, 2 * math.pi)).sin()
    seen_x = turned_x + uniform(-0.05, 0.35) * y + wave_x
    grid = torch.stack([seen_x, turned_y + wave_y], -1)

    # In pieces: all the large pictures at once would take several hundred megabytes.
    pieces = zip(source.split(1000), grid.split(1000), strict=True)
    warped = torch.cat([F.grid_sample(large[s], g, align_corners=False) for s, g in pieces])[:, 0]
    # The pen's width: how dark a grey still counts as ink. The step from paper to ink is smooth.
    ink = ((warped - uniform(0.4, 0.62)) / 0.45 + 0.5).clamp(0, 1)
    images = (ink * ink * (3 - 2 * ink) * 255).round().to(torch.uint8)
    return _Split(images, labels[source], source)


def _magnified(small: Tensor) -> Tensor:
    """Bring 8×8 images, (n, 8, 8), to sharp ones of (n, 1, 56, 56) with a margin like MNIST's.

    The 8×8 images are averages over blocks, so enlarging them blurs. Each round of back-projection
    adds what the enlarged picture lacks when it is averaged down again (Irani and Peleg, 1991).
    """
    averages = small[:, None]
    large = F.interpolate(averages, size=40, mode="bicubic")
    for _ in range(4):
        lacking = averages - F.avg_pool2d(large, 5)
        large = (large + F.interpolate(lacking, size=40, mode="bicubic")).clamp(0, 1)
    return F.pad(large, (8, 8, 8, 8))


def text() -> str:
    """Return a long text: Nietzsche's works in the full profile, `language_reference` in sample."""
    return nietzsche() if profile() == "full" else language_reference()


def language_reference() -> str:
    """Return the part of Python's language reference that the interpreter carries for `help()`.

    It belongs to the running Python, so its text (about half a million characters) changes a little
    with each version.
    """
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def nietzsche() -> str:
    """Return the collected works, 600,893 characters of 84 kinds; only in the full profile."""
    return (_full_only("nietzsche") / "nietzsche.txt").read_text(encoding="utf-8")


def movielens() -> pd.DataFrame:
    """Return MovieLens small, a row per rating; only in the full profile.

    Returns
    -------
    DataFrame
        100,836 rows: ``userId``, ``movieId``, ``rating`` (0.5 to 5 stars), ``timestamp`` (seconds
        since 1970), ``title``, ``genres`` (separated by ``|``).
    """
    import pandas as pd

    folder = _full_only("movielens-small")
    ratings, movies = (pd.read_csv(folder / name) for name in ("ratings.csv", "movies.csv"))
    return ratings.merge(movies, on="movieId", how="left", validate="many_to_one")


def compas() -> pd.DataFrame:
    """Return ProPublica's table of COMPAS scores: 7,214 people, the 17 columns that name nobody.

    Only in the full profile.
    """
    import pandas as pd

    return pd.read_csv(_full_only("compas") / "compas-two-years-deidentified.csv")


def photographs() -> dict[str, Tensor]:
    """Return the photographs that scikit-image installs, by name, in either profile.

    Returns
    -------
    dict
        float32 tensors of shape (3, height, width) in [0, 1]; a grey one has three equal channels.
    """
    import numpy as np
    from PIL import Image

    # Read from the folder: `skimage.data` would download a file that it does not find.
    folder = importlib.resources.files("skimage") / "data"
    pictures = {}
    for name in PHOTOGRAPHS:
        try:
            with (folder / name).open("rb") as file:
                pixels = np.array(Image.open(file).convert("RGB"))
        except OSError as error:
            raise DatasetError(
                f"The photograph {name} is not in the installed scikit-image: install the version "
                "that constraints.txt names."
            ) from error
        pictures[name.partition(".")[0]] = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    return pictures


def _full_only(name: str) -> Path:
    """Fetch a dataset that the sample profile does not use: there, nothing is downloaded."""
    if profile() != "full":
        raise DatasetError(
            f"{name} must be downloaded, and the sample profile downloads nothing: set "
            "GLASSBOX_PROFILE=full to use it."
        )
    return fetch(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m glassbox.datasets``; return its exit code.

    0: done; 1: something could not be had; 2: the command line is wrong; 130: interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="python -m glassbox.datasets",
        description="The book's data: what there is, and get it.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every dataset: size, licence, where it is, how to cite it")
    getting = commands.add_parser("fetch", help="download one dataset, or all that are missing")
    getting.add_argument("name", nargs="?", metavar="NAME", help="a name that `list` shows")
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            print(*(_described(entry) for entry in REGISTRY.values()), sep="\n\n")
            return 0
        return _fetch_each([options.name] if options.name else list(REGISTRY))
    except KeyboardInterrupt:
        print("Interrupted; what was complete is kept.", file=sys.stderr)
        return 130


def _fetch_each(names: Sequence[str]) -> int:
    """Fetch datasets, saying of each where it is; return 1 when any of them could not be had."""
    code = 0
    for name in names:
        try:
            carried = dataset(name).embedded_in
            print(f"{name}: " + (f"carried by {carried}" if carried else f"in {fetch(name)}"))
        except DatasetError as error:
            print(error, file=sys.stderr)
            code = 1
    return code


def _described(entry: Dataset) -> str:
    """Describe a dataset in a few lines."""
    if entry.embedded_in:
        where = f"carried by {entry.embedded_in}"
    else:
        where = f"{_state(entry)} {data_dir() / entry.folder}"
    size = f", {entry.size / 1e6:.1f} MB" if entry.size else ""
    lines = [f"{entry.name} ({entry.profile} profile{size}): {entry.title}"]
    lines += [
        f"  {where}",
        f"  licence: {entry.licence}. {entry.terms}",
        f"  cite: {entry.citation}",
    ]
    for source in entry.sources:
        lines.append(f"  from: {', '.join(source.mirrors)}")
    return "\n".join(lines)


def _state(entry: Dataset) -> str:
    try:
        return "present in" if is_present(entry) else "not present in"
    except OSError as error:
        return f"cannot be read ({error.strerror}) in"


if __name__ == "__main__":
    raise SystemExit(main())
