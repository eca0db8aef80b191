"""Heatmaps over pictures: brought to their size, measured against boxes, and drawn.

`upsample`; `pointing_game`, `energy_inside`; `show_heatmaps`.

Where the maps come from is the subject of `glassbox.interpret`.

Built in the chapter *heatmaps*.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from glassbox.checks import is_number, pair, whole
from glassbox.plots import show_images

__all__ = ["energy_inside", "pointing_game", "show_heatmaps", "upsample"]


def upsample(heatmaps: Tensor, size: int | tuple[int, int], first: float | None = None) -> Tensor:
    """Bring heatmaps to the size of the pictures, in straight lines between the cells' middles.

    Parameters
    ----------
    heatmaps : Tensor, shape (n, h, w)
    size : int or pair of int
        Height and width wanted.
    first : float, optional
        The pixel, counted from 0, in the middle of what the first cell of a row (and of a column)
        sees. When left out, the cells are taken to tile the picture, as in
        ``torch.nn.functional.interpolate(..., mode="bilinear")``. Stride-2 convolutions with an odd
        kernel, padded by half of it, look at every second pixel from 0 on: ``first=0``.

    Returns
    -------
    Tensor, shape (n, height, width)

    Raises
    ------
    TypeError, ValueError
        If `heatmaps` has another rank, `size` is below 1, or `first` no number.
    """
    _check_rank(heatmaps)
    height, width = pair("size", size, 1)
    if not (first is None or is_number(first)):
        raise TypeError(f"first must be a number, or None, but it is {first!r}.")
    down = _between(heatmaps.shape[1], height, first).to(heatmaps)
    across = _between(heatmaps.shape[2], width, first).to(heatmaps)
    return down @ heatmaps @ across.T


def _between(cells: int, pixels: int, first: float | None) -> Tensor:
    """Return the weights of each cell for each pixel, shape (pixels, cells)."""
    step = pixels / cells
    start = (step - 1) / 2 if first is None else first
    place = ((torch.arange(pixels) - start) / step).clamp(0, cells - 1)
    return (1 - (place[:, None] - torch.arange(cells)).abs()).clamp_min(0)


def pointing_game(heatmaps: Tensor, boxes: Tensor) -> Tensor:
    """Return, for each picture, whether the hottest pixel lies in the box: 1 or 0.

    Where several pixels are equally hot, it is the share of them that lie in the box; so a constant
    map scores the box's share of the picture, which is chance. A map with NaN scores NaN.

    Parameters
    ----------
    heatmaps : Tensor, shape (n, height, width)
        At the size of the pictures (see `upsample`).
    boxes : Tensor of int, shape (n, 4)
        (top, left, bottom, right) in pixels, bottom and right excluded.

    Returns
    -------
    Tensor, shape (n,)

    Raises
    ------
    TypeError, ValueError
        If the boxes are no whole numbers, the shapes do not fit, or a box is empty or not within
        the map.

    References
    ----------
    Zhang, Lin, Brandt, Shen and Sclaroff 2016.
    """
    inside = _inside(heatmaps, boxes)
    peaks = (heatmaps == heatmaps.amax((1, 2), keepdim=True)).to(heatmaps.dtype)
    return (peaks * inside).sum((1, 2)) / peaks.sum((1, 2))


def energy_inside(heatmaps: Tensor, boxes: Tensor) -> Tensor:
    """Return, for each picture, which share of the heat (of what is above 0) lies in the box.

    A map that is nowhere above 0 says nothing, and scores as a constant one: the box's share of the
    picture. One with NaN scores NaN.

    Parameters
    ----------
    heatmaps, boxes
        As in `pointing_game`.

    Returns
    -------
    Tensor, shape (n,)

    Raises
    ------
    TypeError, ValueError
        As in `pointing_game`.

    References
    ----------
    Wang et al. 2020 (Score-CAM), who call it the energy-based pointing game.
    """
    inside = _inside(heatmaps, boxes)
    heat = heatmaps.clamp_min(0)
    heat = torch.where(heat.sum((1, 2), keepdim=True) == 0, torch.ones_like(heat), heat)
    return (heat * inside).sum((1, 2)) / heat.sum((1, 2))


def _inside(heatmaps: Tensor, boxes: Tensor) -> Tensor:
    """Return 1 for each pixel of each map that is in the box, and else 0."""
    _check_rank(heatmaps)
    _check_boxes(boxes)
    n, height, width = heatmaps.shape
    if boxes.shape != (n, 4):
        raise ValueError(
            f"boxes must have shape ({n}, 4), one for each heatmap, but has {tuple(boxes.shape)}."
        )
    boxes = boxes.to(heatmaps.device)
    top, left, bottom, right = (side[:, None, None] for side in boxes.unbind(1))
    within = (top >= 0) & (top < bottom) & (bottom <= height)
    if not bool((within & (left >= 0) & (left < right) & (right <= width)).all()):
        raise ValueError(
            f"boxes must be (top, left, bottom, right) within {height} × {width} pixels, as large "
            "as the heatmaps (upsample them first), but one is empty or reaches beyond."
        )
    row = torch.arange(height, device=heatmaps.device)[:, None]
    column = torch.arange(width, device=heatmaps.device)
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    return inside.to(heatmaps.dtype)


def show_heatmaps(
    images: Tensor,
    heatmaps: Tensor,
    titles: Sequence[object] | None = None,
    *,
    boxes: Tensor | None = None,
    ncols: int = 4,
    size: float = 1.1,
    alpha: float = 0.6,
) -> Figure:
    """Draw heatmaps over pictures, dark for cold and bright for hot, and return the figure.

    Parameters
    ----------
    images : Tensor, shape (n, 3, height, width) or (n, 1, height, width)
    heatmaps : Tensor, shape (n, h, w)
        Stretched over the picture; each has the whole range of colours.
    titles : sequence, optional
        One for each picture.
    boxes : Tensor of int, shape (n, 4), optional
        Outlined; as in `pointing_game`.
    ncols, size
        As in `glassbox.plots.show_images`.
    alpha : float
        How much of the colour is the heatmap's, from 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If there are not as many heatmaps or boxes as pictures, or an argument is of the wrong kind.
    """
    _check_rank(heatmaps)
    whole("ncols", ncols, 1)
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a tensor, but it is {images!r}.")
    if boxes is not None:
        _check_boxes(boxes)
    for name, tensor in (("heatmaps", heatmaps), ("boxes", boxes)):
        if tensor is not None and len(tensor) != len(images):
            raise ValueError(
                f"{name} must be {len(images)}, one for each picture, but are {len(tensor)}."
            )
    pictures = images.detach().float().expand(-1, 3, -1, -1)
    figure = show_images(pictures, titles, ncols=ncols, size=size)
    height, width = images.shape[-2:]
    large = upsample(heatmaps.detach().cpu().float(), (height, width)).numpy()
    for ax, heat in zip(figure.axes, large, strict=False):  # the last row may have axes to spare
        ax.imshow(heat, cmap="magma", alpha=alpha)
    if boxes is not None:
        for ax, (top, left, bottom, right) in zip(figure.axes, boxes.tolist(), strict=False):
            ax.add_patch(
                Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec="w")
            )
    return figure


def _check_boxes(boxes: Tensor) -> None:
    if not isinstance(boxes, Tensor) or boxes.is_floating_point() or boxes.is_complex():
        kind = boxes.dtype if isinstance(boxes, Tensor) else type(boxes).__name__
        raise TypeError(f"boxes must be a tensor of whole numbers, but it is {kind}.")


def _check_rank(heatmaps: Tensor) -> None:
    if not isinstance(heatmaps, Tensor):
        raise TypeError(f"heatmaps must be a tensor, but it is {type(heatmaps).__name__}.")
    if heatmaps.ndim != 3:
        raise ValueError(
            f"heatmaps must have shape (n, height, width), but has {tuple(heatmaps.shape)}."
        )
