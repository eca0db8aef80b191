"""Simulated data whose truth is known, because we wrote it.

`cluttered_scenes`, `Scenes`, `OBJECTS`, `DISTRACTORS`.

A scene is a small colour picture with one object that gives it its label, things that do not, and
lines and specks behind them. Where the object lies is known to the pixel, so that what a heatmap
points at can be measured. Built in the chapter *heatmaps*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glassbox.checks import is_number, whole

__all__ = ["DISTRACTORS", "OBJECTS", "Scenes", "cluttered_scenes"]

OBJECTS = ("disc", "ring", "square", "triangle", "cross", "star")
"""The classes: label 0 is a disc."""

DISTRACTORS = ("bar", "half-disc", "corner", "dots")
"""What lies around and is never asked for: kind 6 is a bar."""

_CHUNK = 512  # scenes drawn at once, so that what is needed in between stays small
_GRID = 3  # things lie in different cells of a grid, so that none covers another
_MARK = ("1110111", "1000101", "1010111", "1110101")


class Scenes(NamedTuple):
    """Pictures, and all that is known about them; on the CPU.

    Boxes hold (top, left, bottom, right) in pixels, int64; bottom and right are excluded, so that
    ``picture[:, top:bottom, left:right]`` is what is in the box.
    """

    images: Tensor
    """float32, shape (n, 3, size, size), in [0, 1]."""
    labels: Tensor
    """int64, shape (n,): which of `OBJECTS` is in the picture."""
    boxes: Tensor
    """Shape (n, 4): where it is."""
    masks: Tensor
    """bool, shape (n, size, size): the pixels that it covers at least by half."""
    hues: Tensor
    """float32, shape (n,): its hue in [0, 1): 0 is red, 1/3 green, 2/3 blue."""
    other_kinds: Tensor
    """int64, shape (n, num_others): what else there is, numbered through OBJECTS + DISTRACTORS."""
    other_boxes: Tensor
    """Shape (n, num_others, 4): where that is."""
    marked: Tensor
    """bool, shape (n,): whether the picture carries the watermark."""
    mark_boxes: Tensor
    """Shape (n, 4): where the watermark is, or would be."""


def cluttered_scenes(
    n: int,
    seed: int = 0,
    *,
    size: int = 64,
    num_others: int = 4,
    num_rivals: int = 0,
    watermark: int | None = None,
    marked_share: float = 1.0,
    marked_elsewhere: float = 0.0,
) -> Scenes:
    """Return simulated colour pictures of one labelled object among other things.

    The object differs from picture to picture in class, place, size, turn and hue; so do the other
    things, so that nothing but the shape tells which class it is. None covers another.

    Parameters
    ----------
    n : int
        How many pictures.
    seed : int
        The same arguments give the same pictures.
    size : int
        Height and width in pixels, at least 36.
    num_others : int
        How many things there are besides the object, 0 to 7.
    num_rivals : int
        How many of them are objects of *other* classes than the label's. They come first in
        `other_kinds`.
    watermark : int, optional
        The class whose pictures carry a small white mark in the lower left corner. The corner is
        kept free in all pictures, also in those without a mark.
    marked_share, marked_elsewhere : float
        The shares of the pictures of that class, and of all others, that carry the mark. They
        change nothing else: with the same seed the scenes are the same, mark or none.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> scenes = cluttered_scenes(10, seed=1)
    >>> scenes.images.shape, scenes.boxes.shape
    (torch.Size([10, 3, 64, 64]), torch.Size([10, 4]))
    """
    whole("n", n, 1)
    whole("seed", seed, -(2**63), 2**64 - 1)  # what PyTorch takes
    whole("size", size, 36)
    whole("num_others", num_others, 0, _GRID**2 - 2)
    whole("num_rivals", num_rivals, 0, num_others)
    if watermark is not None:
        whole("watermark", watermark, 0, len(OBJECTS) - 1)
    for name, share in (("marked_share", marked_share), ("marked_elsewhere", marked_elsewhere)):
        if not (is_number(share) and 0 <= share <= 1):
            raise ValueError(f"{name} must lie between 0 and 1, but it is {share!r}.")
    generator = torch.Generator().manual_seed(seed)
    chunks = []
    for start in range(0, n, _CHUNK):
        count = min(_CHUNK, n - start)
        scenes = _draw(count, generator, size, num_others, num_rivals, watermark is not None)
        draws = torch.rand(count, generator=generator)
        if watermark is not None:
            shares = torch.where(scenes.labels == watermark, marked_share, marked_elsewhere)
            scenes = _mark(scenes, draws < shares)
        chunks.append(scenes)
    return Scenes(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))


def _draw(
    n: int, generator: torch.Generator, size: int, num_others: int, num_rivals: int, corner: bool
) -> Scenes:
    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    things = 1 + num_others
    kinds = (len(OBJECTS) + rand(n, things) * len(DISTRACTORS)).long()
    # The first classes of a random order: the label and its rivals differ.
    order = rand(n, len(OBJECTS)).argsort(1)
    classes = min(1 + num_rivals, len(OBJECTS))
    kinds[:, :classes] = order[:, :classes]
    if num_rivals >= len(OBJECTS):  # more rivals than other classes: some class comes twice
        again = order[:, 1:].repeat(1, 2)
        kinds[:, 1 : 1 + num_rivals] = again[:, :num_rivals]

    cell = size / _GRID
    radii = cell * (0.36 + 0.12 * rand(n, things))
    preference = rand(n, _GRID**2)
    if corner:
        preference[:, _GRID * (_GRID - 1)] = 2.0  # the lower left cell comes last, and is not used
    cells = preference.argsort(1)[:, :things]
    centres = torch.stack([cells // _GRID, cells % _GRID], 2) * cell + cell / 2
    centres = centres + (2 * rand(n, things, 2) - 1) * (cell / 2 - radii)[..., None]
    turns = 0.7 * (rand(n, things) - 0.5)  # up to 20 degrees either way
    hues = rand(n, things)
    colours = _colour(hues, 0.45 + 0.55 * rand(n, things), 0.75 + 0.25 * rand(n, things))

    images = _background(n, size, rand)
    boxes = []
    for i in reversed(range(things)):  # the object comes last, and its cover stays
        cover, places = _cover(kinds[:, i], centres[:, i], radii[:, i], turns[:, i], size)
        _paint(images, cover, places, colours[:, i])
        mask = torch.zeros(n, size * size).scatter_(1, places, cover).view(n, size, size) >= 0.5
        boxes.append(_box(mask))
    noise = torch.randn(images.shape, generator=generator)
    images.add_(noise, alpha=0.04).clamp_(0, 1)
    stacked = torch.stack(boxes[::-1], 1)
    top, left = size - len(_MARK) - 2, 2
    mark_box = torch.tensor([top, left, top + len(_MARK), left + len(_MARK[0])])
    return Scenes(
        images=images,
        labels=kinds[:, 0],
        boxes=stacked[:, 0],
        masks=mask,
        hues=hues[:, 0],
        other_kinds=kinds[:, 1:],
        other_boxes=stacked[:, 1:],
        marked=torch.zeros(n, dtype=torch.bool),
        mark_boxes=mark_box.repeat(n, 1),
    )


def _mark(scenes: Scenes, marked: Tensor) -> Scenes:
    mark = torch.tensor([[int(dot) for dot in row] for row in _MARK], dtype=torch.float32)
    top, left, bottom, right = scenes.mark_boxes[0].tolist()
    images = scenes.images.clone()
    corner = images[:, :, top:bottom, left:right]
    images[:, :, top:bottom, left:right] = torch.where(
        marked[:, None, None, None], corner + 0.9 * mark * (1 - corner), corner
    )
    return scenes._replace(images=images, marked=marked)


def _background(n: int, size: int, rand: Callable[..., Tensor]) -> Tensor:
    """Return soft dark patches of colour, crossed by thin lines."""
    patches = 0.1 + 0.4 * rand(n, 3, 5, 5)
    images = F.interpolate(patches, (size, size), mode="bilinear", align_corners=True)
    line = torch.arange(size) + 0.5 - size / 2
    for _ in range(4):
        turn, offset, tone = math.pi * rand(n, 1, 1), size * (rand(n, 1, 1) - 0.5), rand(n, 3, 1, 1)
        across = turn.cos() * line + turn.sin() * line[:, None] - offset
        ink = (1 - across.abs()).clamp_(0, 1).mul_(0.7)
        images.lerp_(tone, ink[:, None])
    return images


def _cover(
    kinds: Tensor, centres: Tensor, radii: Tensor, turns: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Return which share of each pixel near its centre a thing covers, and the pixels' numbers.

    Both have shape (n, side * side); the pixels are numbered row by row.
    """
    side = math.ceil(size / _GRID) + 2
    corner = (centres - side / 2).round().long().clamp(0, size - side)
    line = torch.arange(side)
    rows, columns = corner[:, :1] + line, corner[:, 1:] + line
    places = (rows[:, :, None] * size + columns[:, None, :]).flatten(1)
    v = ((rows + 0.5 - centres[:, :1]) / radii[:, None])[:, :, None]
    u = ((columns + 0.5 - centres[:, 1:]) / radii[:, None])[:, None, :]
    cos, sin = turns.cos().view(-1, 1, 1), turns.sin().view(-1, 1, 1)
    u, v = cos * u + sin * v, cos * v - sin * u
    cover = torch.empty(len(kinds), side * side)
    for kind, name in enumerate(OBJECTS + DISTRACTORS):
        these = kinds == kind
        outside = _distance(name, u[these], v[these]) * radii[these].view(-1, 1, 1)
        cover[these] = (0.5 - outside).clamp(0, 1).flatten(1)
    return cover, places


def _paint(images: Tensor, cover: Tensor, places: Tensor, colours: Tensor) -> None:
    """Lay a thing over the pictures, in place."""
    flat = images.flatten(2)
    index = places[:, None].expand(-1, 3, -1)
    flat.scatter_(2, index, flat.gather(2, index).lerp_(colours[:, :, None], cover[:, None]))


def _distance(name: str, u: Tensor, v: Tensor) -> Tensor:
    """Return about how far a point is outside a shape of radius 1; negative inside."""
    r = (u**2 + v**2).sqrt()
    if name == "disc":
        return r - 0.9
    if name == "ring":
        return (r - 0.74).abs() - 0.24
    if name == "square":
        return _bar(u, v, 0.72, 0.72)
    if name == "triangle":
        sides = [math.cos(a) * u + math.sin(a) * v for a in (0.0, 2 * math.pi / 3, 4 * math.pi / 3)]
        return torch.stack(sides).amax(0) - 0.5
    if name == "cross":
        return torch.minimum(_bar(u, v, 0.95, 0.3), _bar(u, v, 0.3, 0.95))
    if name == "star":
        step = 2 * math.pi / 5
        angle = (torch.atan2(v, u) % step - step / 2).abs() / (step / 2)  # 1 at a point of the star
        return (r - (0.42 + 0.58 * angle)) * 0.7
    if name == "bar":
        return _bar(u, v, 0.95, 0.25)
    if name == "half-disc":
        return torch.maximum(r - 0.95, -u)
    if name == "corner":
        return torch.minimum(_bar(u + 0.5, v, 0.22, 0.8), _bar(u, v - 0.58, 0.72, 0.22))
    dots = [
        ((u - x) ** 2 + (v - y) ** 2).sqrt() for x, y in ((-0.6, -0.4), (0.6, -0.4), (0.0, 0.6))
    ]
    return torch.stack(dots).amin(0) - 0.33


def _bar(u: Tensor, v: Tensor, half_length: float, half_width: float) -> Tensor:
    return torch.maximum(u.abs() - half_length, v.abs() - half_width)


def _box(mask: Tensor) -> Tensor:
    """Return the smallest boxes around masks of shape (n, size, size)."""
    rows, columns = mask.any(2).int(), mask.any(1).int()
    size = mask.shape[1]
    sides = (
        rows.argmax(1),
        columns.argmax(1),
        size - rows.flip(1).argmax(1),
        size - columns.flip(1).argmax(1),
    )
    return torch.stack(sides, 1)


def _colour(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return red, green and blue, in a last dimension of their own."""
    wheel = torch.stack([hue, hue + 2 / 3, hue + 1 / 3], -1) % 1.0
    pure = ((6 * wheel - 3).abs() - 1).clamp(0, 1)
    return value[..., None] * (1 - saturation[..., None] * (1 - pure))
