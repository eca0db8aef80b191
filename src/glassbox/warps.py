"""Pictures turned, shifted, zoomed and tilted: 3×3 matrices, and one interpolation for all of them.

`rotation`, `zoom`, `shift`, `flip`, `dihedral`, `perspective`, `compose`; `places`, `bilinear`,
`warp`, `chain`; `sharpness`.

Coordinates: the origin is the middle of the picture, x grows to the right and y downwards, and 1 is
half of the shorter side. In a square picture both therefore run from -1 to 1, from the outer edge
of the first pixel to that of the last, as in ``torch.nn.functional.grid_sample`` with
``align_corners=False``; in other pictures the longer side runs further, and a circle is a circle.

A matrix says where to look: the picture that comes out has at the point (x, y) what the picture
that goes in has at (u / w, v / w), where (u, v, w) is the matrix times (x, y, 1).

Built in the chapter *regularization*.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glassbox.checks import pair

__all__ = [
    "PADDINGS",
    "bilinear",
    "chain",
    "compose",
    "dihedral",
    "flip",
    "perspective",
    "places",
    "rotation",
    "sharpness",
    "shift",
    "warp",
    "zoom",
]

PADDINGS = ("zeros", "border", "reflection")
"""What lies outside a picture: black, its outermost pixels, or the picture in a mirror."""

Numbers = float | Sequence[float] | Tensor


def rotation(degrees: Numbers) -> Tensor:
    """Return matrices that turn pictures anticlockwise about their middle, shape (n, 3, 3).

    Parameters
    ----------
    degrees : float, sequence or Tensor of shape (n,)
        One number makes a single matrix, which `warp` applies to every picture.

    Raises
    ------
    ValueError
        If `degrees` has another shape, or is not finite.
    """
    angle = _numbers("degrees", degrees).deg2rad()
    cos, sin = angle.cos(), angle.sin()
    return _matrices([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def zoom(factor: Numbers) -> Tensor:
    """Return matrices that enlarge pictures about their middle, shape (n, 3, 3).

    Parameters
    ----------
    factor : float, sequence or Tensor of shape (n,)
        Above 0; below 1 the pictures shrink, and what is outside comes in.

    Raises
    ------
    ValueError
        If `factor` has another shape, or is not a finite number above 0.
    """
    factor = _numbers("factor", factor)
    if bool((factor <= 0).any()):
        raise ValueError(f"factor must be more than 0, but one is {factor.min().item():g}.")
    nearer = 1 / factor
    return _matrices([[nearer, 0, 0], [0, nearer, 0], [0, 0, 1]])


def shift(right: Numbers, down: Numbers = 0.0) -> Tensor:
    """Return matrices that move pictures, shape (n, 3, 3).

    Parameters
    ----------
    right, down : float, sequence or Tensor of shape (n,)
        In halves of the shorter side; negative is left and up.

    Raises
    ------
    ValueError
        If one has another shape, or is not finite.
    """
    right, down = _numbers("right", right), _numbers("down", down)
    return _matrices([[1, 0, -right], [0, 1, -down], [0, 0, 1]])


def flip(mirrored: bool | Sequence[bool] | Tensor = True) -> Tensor:
    """Return matrices that exchange left and right where `mirrored` says so, shape (n, 3, 3)."""
    return dihedral(4 * torch.as_tensor(mirrored, dtype=torch.int64))


def dihedral(which: int | Sequence[int] | Tensor) -> Tensor:
    """Return the matrices of the eight symmetries of a square, shape (n, 3, 3).

    Parameters
    ----------
    which : int, sequence or Tensor of shape (n,)
        0 to 3: so many quarter turns anticlockwise; 4 to 7: the same after exchanging left and
        right.

    Raises
    ------
    ValueError
        If one is no whole number from 0 to 7.
    """
    k = torch.as_tensor(which)
    is_whole = not (k.is_floating_point() or k.dtype == torch.bool)
    if k.ndim > 1 or not is_whole or bool(((k < 0) | (k > 7)).any()):
        raise ValueError(
            f"which must be a whole number from 0 to 7, or a row of them, but it is {which!r}."
        )
    k = k.reshape(-1)
    # Whole numbers instead of `rotation`, whose cosine of 90 degrees is not quite 0.
    cos = torch.tensor([1.0, 0.0, -1.0, 0.0], device=k.device)[k % 4]
    sin = torch.tensor([0.0, 1.0, 0.0, -1.0], device=k.device)[k % 4]
    side = 1.0 - 2.0 * (k >= 4)
    return _matrices([[side * cos, -side * sin, 0], [sin, cos, 0], [0, 0, 1]])


def perspective(right: Numbers, down: Numbers = 0.0) -> Tensor:
    """Return matrices that tilt pictures in space, shape (n, 3, 3).

    It is what a camera sees that was moved to the side and still points at the picture's middle.

    Parameters
    ----------
    right, down : float, sequence or Tensor of shape (n,)
        How much nearer the right and the lower side come; negative: the left and the upper one.
        Their sizes must add up to less than 1: at 1 a corner of a square would be infinitely far.

    Raises
    ------
    ValueError
        If one has another shape, or is out of range.
    """
    right, down = _numbers("right", right), _numbers("down", down)
    tilt = (right.abs() + down.abs()).max().item()
    if tilt >= 1:
        raise ValueError(
            f"right and down must have sizes that add up to less than 1, but they reach {tilt:g}."
        )
    return _matrices([[1, 0, 0], [0, 1, 0], [right, down, 1]])


def compose(*matrices: Tensor) -> Tensor:
    """Return the matrices that do everything at once, the first of the arguments first.

    Because a matrix says where to look, the product stands in reading order: the picture that comes
    out looks through the last matrix at a picture that nobody needs to compute, and so on.

    Parameters
    ----------
    *matrices : Tensor, each of shape (n, 3, 3) or (1, 3, 3)
        At least one.

    Raises
    ------
    ValueError
        If there is none, or they do not fit together.
    """
    if not matrices:
        raise ValueError("matrices must be at least one, but none was given.")
    for matrix in matrices:
        _check_matrices(matrix, max(len(m) for m in matrices))
    total = matrices[0]
    for matrix in matrices[1:]:
        total = total @ matrix
    return total


def places(matrices: Tensor, size: tuple[int, int], size_in: tuple[int, int]) -> Tensor:
    """Return where each pixel of the pictures that come out looks in those that go in.

    Parameters
    ----------
    matrices : Tensor, shape (n, 3, 3)
    size, size_in : (int, int)
        Height and width of what comes out and of what goes in, in pixels. Where they differ, the
        shorter sides are laid on each other.

    Returns
    -------
    Tensor, shape (n, height, width, 2)
        Column and row, in pixels: (0, 0) is the middle of the first pixel, (1, 0) that of its right
        neighbour. What ``grid_sample`` calls g is here ``((g + 1) * width_in - 1) / 2``.
    """
    (height, width), (height_in, width_in) = size, size_in
    unit, unit_in = min(size) / 2, min(size_in) / 2
    # Distances from the middle in pixels, and only then the matrix: without a division these are
    # exact, and so are the identity and the eight symmetries.
    x = torch.arange(width, device=matrices.device, dtype=matrices.dtype) - (width - 1) / 2
    y = torch.arange(height, device=matrices.device, dtype=matrices.dtype) - (height - 1) / 2
    y, x = y[:, None], x[None, :]
    m = matrices[:, :, :, None, None]
    stretch = unit_in / unit
    u = stretch * (m[:, 0, 0] * x + m[:, 0, 1] * y) + unit_in * m[:, 0, 2]
    v = stretch * (m[:, 1, 0] * x + m[:, 1, 1] * y) + unit_in * m[:, 1, 2]
    w = (m[:, 2, 0] * x + m[:, 2, 1] * y) / unit + m[:, 2, 2]
    # At 0 and below is what lies behind the camera; it is sent far outside of the picture.
    w = w.clamp_min(1e-6)
    return torch.stack([u / w + (width_in - 1) / 2, v / w + (height_in - 1) / 2], -1)


def bilinear(x: Tensor, where: Tensor, padding: str = "reflection") -> Tensor:
    """Look pictures up between their pixels: the mean of the four nearest, weighted by nearness.

    Parameters
    ----------
    x : Tensor, shape (n, channels, height_in, width_in)
    where : Tensor, shape (n, height, width, 2)
        Column and row, as `places` returns them.
    padding : {"zeros", "border", "reflection"}
        What lies outside: black, the outermost pixels, or the picture mirrored at its outer edge.

    Returns
    -------
    Tensor, shape (n, channels, height, width)

    Raises
    ------
    ValueError
        If `x` is no batch of pictures, or `padding` none of the three.
    """
    _check_pictures(x)
    _check_padding(padding)
    n, channels, height, width = x.shape
    column, row = where[..., 0], where[..., 1]
    if padding == "border":
        column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    elif padding == "reflection":
        column, row = _reflected(column, width), _reflected(row, height)
    pixels = x.flatten(2)
    total = torch.zeros(n, channels, *where.shape[1:3], dtype=x.dtype, device=x.device)
    columns = _neighbours(column, width, padding)
    for i, share_i in _neighbours(row, height, padding):
        for j, share_j in columns:
            index = (i * width + j).flatten(1)[:, None].expand(-1, channels, -1)
            share = (share_i * share_j)[:, None].to(x.dtype)
            total = total + share * pixels.gather(2, index).view_as(total)
    return total


def _neighbours(t: Tensor, length: int, padding: str) -> list[tuple[Tensor, Tensor]]:
    """Return the pixels before and after places on a line, each with its share."""
    before = t.floor()
    found = []
    for i, share in ((before, before + 1 - t), (before + 1, t - before)):
        if padding == "zeros":
            share = share * ((i >= 0) & (i < length))
        # A neighbour that is not there has no share, but it needs a number that exists.
        found.append((i.clamp(0, length - 1).long(), share))
    return found


def _reflected(t: Tensor, length: int) -> Tensor:
    """Fold a line of pixels into the picture by mirrors at its outer edges, -½ and length - ½."""
    t = (t + 0.5) % (2 * length)
    return (length - (t - length).abs() - 0.5).clamp(0, length - 1)


def warp(
    x: Tensor,
    matrices: Tensor,
    size: int | tuple[int, int] | None = None,
    padding: str = "reflection",
) -> Tensor:
    """Move pictures by matrices, and bring them to a size, in one interpolation.

    Parameters
    ----------
    x : Tensor, shape (n, channels, height_in, width_in)
    matrices : Tensor, shape (n, 3, 3) or (1, 3, 3)
        Moved to where `x` is.
    size : int or (int, int), optional
        Height and width of the result; those of `x` when left out. The shorter sides are laid on
        each other: of a long picture, a square shows the middle. At less than half the size of `x`
        a bilinear look skips pixels: take means over blocks first.
    padding : {"zeros", "border", "reflection"}
        What lies outside of the pictures.

    Returns
    -------
    Tensor, shape (n, channels, height, width)

    Raises
    ------
    ValueError
        If an argument has a wrong shape or is out of range.
    """
    _check_pictures(x)
    _check_matrices(matrices, len(x))
    size_in = (x.shape[2], x.shape[3])
    size = size_in if size is None else pair("size", size, 1)
    precision = torch.promote_types(x.dtype, torch.float32)
    where = places(matrices.to(x.device, precision), size, size_in)
    return bilinear(x, where.expand(len(x), -1, -1, -1), padding)


def chain(x: Tensor, matrices: Sequence[Tensor], padding: str = "reflection") -> Tensor:
    """Move pictures by one matrix after the other, with an interpolation each: for comparison."""
    for matrix in matrices:
        x = warp(x, matrix, padding=padding)
    return x


def sharpness(x: Tensor) -> Tensor:
    """Return the mean squared step from a pixel to its right and its lower neighbour, shape (n,).

    Every interpolation is a mean over neighbours and makes it smaller.

    Raises
    ------
    ValueError
        If `x` is no batch of pictures.
    """
    _check_pictures(x)
    return (x.diff(dim=2) ** 2).mean((1, 2, 3)) + (x.diff(dim=3) ** 2).mean((1, 2, 3))


def _numbers(name: str, value: Numbers) -> Tensor:
    """Return a tensor of shape (n,) in floating point."""
    t = torch.as_tensor(value)
    t = t if t.is_floating_point() else t.float()
    if t.ndim > 1 or t.numel() == 0:
        raise ValueError(
            f"{name} must be a number or a row of numbers, but it has shape {tuple(t.shape)}."
        )
    if not bool(t.isfinite().all()):
        raise ValueError(f"{name} must be finite, but it is {value!r}.")
    return t.reshape(-1)


def _matrices(rows: list[list[Tensor | int]]) -> Tensor:
    """Stack three rows of three entries, each a tensor of shape (n,) or the same number for all."""
    given = [entry for row in rows for entry in row if isinstance(entry, Tensor)]
    shape = torch.broadcast_shapes(*(t.shape for t in given))

    def column(entry: Tensor | int) -> Tensor:
        return torch.as_tensor(entry, dtype=given[0].dtype, device=given[0].device).expand(shape)

    return torch.stack([torch.stack([column(entry) for entry in row], -1) for row in rows], -2)


def _check_matrices(matrices: Tensor, n: int) -> None:
    if matrices.ndim != 3 or matrices.shape[1:] != (3, 3) or len(matrices) not in (1, n):
        raise ValueError(
            f"matrices must have shape ({n}, 3, 3), one for each picture, or (1, 3, 3), but they "
            f"have shape {tuple(matrices.shape)}."
        )


def _check_pictures(x: Tensor) -> None:
    if x.ndim != 4 or not x.is_floating_point() or 0 in x.shape[1:]:
        raise ValueError(
            "x must be pictures of shape (n, channels, height, width), floating point, but it has "
            f"shape {tuple(x.shape)} and type {x.dtype}; for one picture, write x[None]."
        )


def _check_padding(padding: str) -> None:
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, but it is {padding!r}.")
