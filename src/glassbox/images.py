"""A folder of labelled pictures: split, looked at, and read when asked for.

`ImageFolder`, `show_batch`.

Built in the chapter *regularization*.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from glassbox.checks import whole
from glassbox.data import random_split
from glassbox.imagefiles import (
    ImageError,
    check_names,
    find_images,
    label_of,
    read_image,
)
from glassbox.plots import show_images

__all__ = ["ImageFolder", "show_batch"]


class ImageFolder:
    r"""Labelled pictures, each read from its file at the moment when it is asked for.

    ``folder[i]`` is a pair (picture, number of its class). It also serves as the data set of a
    ``torch.utils.data.DataLoader``.

    Parameters
    ----------
    folder : path
        Searched with everything below it.
    pattern : str
        A regular expression with one group that finds the label in a file's name (below the folder,
        with slashes): ``r"([^/]+)_\d+\.jpg$"`` for cat_12.jpg, ``r"^([^/]+)/"`` for cat/12.jpg.
    steps : callable, or iterable of callable
        Applied in turn to every picture, a tensor of shape (channels, height, width).
    channels : {1, 3}
        Grey, or colour.
    skip_broken : bool
        Whether to read every file once at the start, and leave out those that cannot be read, with
        a warning that names them. Otherwise the first of them that is asked for raises its error.

    Attributes
    ----------
    files : list of Path
        Sorted.
    labels : Tensor, shape (n,)
        int64, numbers of classes.
    classes : list of str
        The labels, sorted.
    skipped : dict of str to str
        The name of each file that was left out, and why.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no picture in it.
    ValueError
        If the pattern is unusable, or does not match the names of all files.
    TypeError
        If a step is no function.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        pattern: str,
        steps: Iterable[Callable[[Tensor], Tensor]] = (),
        *,
        channels: int = 3,
        skip_broken: bool = False,
    ) -> None:
        self.folder, self.pattern, self.channels = Path(folder), pattern, channels
        self.steps = _listed(steps)
        self.files = find_images(folder)
        self.skipped: dict[str, str] = {}
        check_names([self.name(i) for i in range(len(self.files))], pattern)
        if skip_broken:
            self._leave_out_broken()
        words = [label_of(self.name(i), pattern) for i in range(len(self.files))]
        self.classes = sorted(set(words))
        number = {word: k for k, word in enumerate(self.classes)}
        self.labels = torch.tensor([number[word] for word in words])

    def _leave_out_broken(self) -> None:
        kept = []
        for i, file in enumerate(self.files):
            try:
                read_image(file, self.channels)
                kept.append(file)
            except ImageError as error:
                self.skipped[self.name(i)] = str(error)
        if not kept:
            raise ImageError(
                f"folder must hold pictures that can be read, but {self.folder} "
                f"holds none among {len(self.files)}."
            )
        self.files = kept
        if self.skipped:
            names = ", ".join(self.skipped)
            warnings.warn(f"Left out, because they cannot be read: {names}.", stacklevel=3)

    def name(self, i: int) -> str:
        """Return the name of file i below the folder, with slashes on every system."""
        return self.files[i].relative_to(self.folder).as_posix()

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        """Read picture i and apply the steps; return it with the number of its class.

        Raises
        ------
        IndexError
            If there is no picture i.
        ImageError
            If its file cannot be read.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(f"i must be from 0 to {len(self) - 1}, but it is {i}.")
        image = read_image(self.files[i], self.channels)
        for step in self.steps:
            image = step(image)
        return image, int(self.labels[i])

    def subset(
        self,
        rows: Iterable[int] | Tensor,
        steps: Iterable[Callable[[Tensor], Tensor]] | None = None,
    ) -> ImageFolder:
        """Return some of the pictures, with the same classes; with steps of their own if given.

        Raises
        ------
        ValueError
            If there is no row, or one is no whole number or out of range.
        """
        rows = rows.tolist() if isinstance(rows, Tensor) else list(rows)
        if not rows:
            raise ValueError("rows must hold at least one row, but it is empty.")
        for row in rows:
            whole("rows", row, -len(self), len(self) - 1)
        part = copy.copy(self)
        part.files = [self.files[row] for row in rows]
        part.labels = self.labels[torch.tensor(rows, dtype=torch.int64)]
        part.steps = self.steps if steps is None else _listed(steps)
        return part

    def split(self, valid_fraction: float, seed: int = 0) -> tuple[ImageFolder, ImageFolder]:
        """Return a training and a validation part, drawn at random, the same for the same seed.

        Raises
        ------
        ValueError
            If the fraction is not between 0 and 1, or one of the parts would be empty.
        """
        generator = torch.Generator().manual_seed(seed)
        train, valid = random_split(len(self), valid_fraction, generator)
        return self.subset(train), self.subset(valid)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Read everything, for `glassbox.data.DataLoaders.from_tensors`.

        Returns
        -------
        images : Tensor, shape (n, channels, height, width)
        labels : Tensor, shape (n,)

        Raises
        ------
        ImageError
            If a file cannot be read, or the pictures do not have one size.
        """
        return _stacked([self[i][0] for i in range(len(self))], self._names()), self.labels

    def _only_one_class(self) -> None:
        raise ImageError(
            f"pattern must find at least two labels to tell apart, but {self.pattern!r} finds "
            f"{self.classes[0]!r} in every file name."
        )

    def _names(self) -> list[str]:
        return [self.name(i) for i in range(len(self))]

    def summary(
        self,
        i: int = 0,
        batch_size: int = 4,
        batch_transform: Callable[[Tensor], Tensor] | None = None,
    ) -> str:
        """Walk one picture, and then a batch, through every step, and say where it fails.

        Parameters
        ----------
        i : int
            Which picture.
        batch_size : int
            How many pictures to stack, from `i` on (and from the first again after the last).
        batch_transform : callable, optional
            What changes batches, such as an `Augment`.

        Returns
        -------
        str
            A line for each step. If one fails, it is the last, and says in one sentence why.
        """
        whole("i", i, 0, len(self) - 1)
        whole("batch_size", batch_size, 1)
        lines = [f"{len(self)} pictures in {len(self.classes)} classes"]

        def walk(title: str, step: Callable[[], Any], show: Callable[[Any], str]) -> Any:
            try:
                result = step()
                lines.append(f"ok      {title}: {show(result)}")
                return result
            except Exception as error:  # whatever it is, it is what the reader looks for
                sentence = str(error).splitlines()[0] if str(error) else type(error).__name__
                lines.append(f"FAILED  {title}: {sentence}")
                raise _Failed from None

        def pick(j: int) -> Tensor:
            return self[j % len(self)][0]

        names = [self.name(j % len(self)) for j in range(i, i + batch_size)]
        try:
            walk("find a file", lambda: names[0], str)
            walk("label by its name", lambda: label_of(names[0], self.pattern), str)
            image = walk("read it", lambda: read_image(self.files[i], self.channels), _shape)
            for step in self.steps:
                image = walk(_title(step), partial(step, image), _shape)
            images = walk(
                f"do so for {batch_size}",
                lambda: [pick(j) for j in range(i, i + batch_size)],
                lambda found: ", ".join(sorted({_shape(x) for x in found})),
            )
            batch = walk("stack them", lambda: _stacked(images, names), _shape)
            if batch_transform is not None:
                walk(_title(batch_transform), partial(batch_transform, batch), _shape)
            if len(self.classes) < 2:  # legal, but there is nothing to learn
                walk("tell classes apart", self._only_one_class, str)
        except _Failed:
            pass
        return "\n".join(lines)


def _listed(steps: Iterable[Callable[[Tensor], Tensor]]) -> list[Callable[[Tensor], Tensor]]:
    listed = list(steps) if isinstance(steps, Iterable) else [steps]
    for step in listed:
        if not callable(step):
            raise TypeError(f"steps must be functions, but one is {step!r}.")
    return listed


class _Failed(Exception):
    """Ends a `summary`."""


def _title(step: Callable[..., Any]) -> str:
    """Return a function's name, what an object says of itself, or the name of its kind."""
    shown = repr(step)
    return getattr(step, "__name__", type(step).__name__ if " object at 0x" in shown else shown)


def _shape(x: Any) -> str:
    return "×".join(map(str, x.shape)) if isinstance(x, Tensor) else type(x).__name__


def _stacked(images: Sequence[Tensor], names: Sequence[str]) -> Tensor:
    for image, name in zip(images, names, strict=True):
        if not isinstance(image, Tensor):
            raise ImageError(
                f"steps must return tensors, but for {name} they return a {type(image).__name__}."
            )
        if image.shape != images[0].shape:
            raise ImageError(
                f"pictures must have one size to be stacked, but {names[0]} is {_shape(images[0])} "
                f"and {name} is {_shape(image)}: add a step that resizes them, such as Presize."
            )
    return torch.stack(list(images))


def show_batch(
    folder: ImageFolder,
    n: int = 8,
    *,
    seed: int | None = None,
    batch_transform: Callable[[Tensor], Tensor] | None = None,
    **options: Any,
) -> Figure:
    """Draw pictures with the names of their classes, as a model would get them.

    Parameters
    ----------
    folder : ImageFolder
        Its pictures must have one size if there is a `batch_transform`.
    n : int
        How many; all if there are fewer.
    seed : int, optional
        Draws which; the first ones when left out.
    batch_transform : callable, optional
        Applied before they are drawn.
    **options
        As in `glassbox.plots.show_images`.

    Raises
    ------
    ImageError
        If a file cannot be read.
    ValueError
        If `n` is below 1.
    """
    whole("n", n, 1)
    rows = torch.arange(len(folder))
    if seed is not None:
        rows = torch.randperm(len(folder), generator=torch.Generator().manual_seed(seed))
    part = folder.subset(rows[:n])
    images: Sequence[Tensor] | Tensor = [part[i][0] for i in range(len(part))]
    if batch_transform is not None:
        images = batch_transform(part.tensors()[0])
    titles = [part.classes[label] for label in part.labels.tolist()]
    return show_images(images, titles, **{"size": 1.2, "ncols": 4, "vmin": 0, "vmax": 1, **options})
