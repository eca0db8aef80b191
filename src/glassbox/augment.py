"""Data augmentation: other pictures of the same things, drawn anew for every batch, on the device.

`brightness`, `contrast`; `Augment`, `Presize`.

What moves a picture about is composed from the matrices of `glassbox.warps` and costs one
interpolation, whatever is combined.

Built in the chapter *regularization*.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from glassbox.checks import pair, whole
from glassbox.warps import (
    PADDINGS,
    compose,
    dihedral,
    flip,
    perspective,
    rotation,
    shift,
    warp,
    zoom,
)

__all__ = ["Augment", "Presize", "brightness", "contrast"]


def brightness(x: Tensor, change: float | Tensor) -> Tensor:
    """Make pictures brighter or darker: add `change` to the logit of every pixel.

    No pixel leaves the range from 0 to 1, and the opposite change takes it back.

    Parameters
    ----------
    x : Tensor, shape (n, channels, height, width)
        From 0 (black) to 1.
    change : float, or Tensor of shape (n,)
        0 changes nothing; at 1 a middle grey becomes sigmoid(1), about 0.73.

    Returns
    -------
    Tensor, shape (n, channels, height, width)

    Raises
    ------
    ValueError
        If a pixel is below 0 or above 1, or `change` has another shape.
    """
    _check_light(x)
    return _brightened(x, _each("change", change, x))


def contrast(x: Tensor, factor: float | Tensor) -> Tensor:
    """Make pictures harder or softer: multiply the logit of every pixel by `factor`.

    Parameters
    ----------
    x : Tensor, shape (n, channels, height, width)
        From 0 (black) to 1.
    factor : float, or Tensor of shape (n,)
        Above 0. 1 changes nothing, 0.5 draws all pixels towards a middle grey, 2 away from it.

    Returns
    -------
    Tensor, shape (n, channels, height, width)

    Raises
    ------
    ValueError
        If a pixel is below 0 or above 1, or `factor` has another shape or is not above 0.
    """
    _check_light(x)
    factors = _each("factor", factor, x)
    if bool((factors <= 0).any()):
        raise ValueError(f"factor must be more than 0, but one is {factors.min().item():g}.")
    return _hardened(x, factors)


# A logit is the logarithm of the odds x / (1 - x): adding to it multiplies the odds, multiplying it
# raises them to a power. Written with odds, black and white need no special care: no logarithm of 0
# occurs, and a change of 0 or a factor of 1 gives back every pixel bit for bit.


def _brightened(x: Tensor, change: Tensor) -> Tensor:
    more = change.exp() * x
    return more / (1 - x + more)


def _hardened(x: Tensor, factor: Tensor) -> Tensor:
    light, dark = x**factor, (1 - x) ** factor
    return light / (light + dark)


def _each(name: str, value: float | Tensor, x: Tensor) -> Tensor:
    """Return one number for each picture, of shape (n or 1, 1, 1, 1)."""
    t = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    if t.shape not in ((), (len(x),)):
        raise ValueError(
            f"{name} must be a number, or {len(x)} of them, one for each picture, but it has shape "
            f"{tuple(t.shape)}."
        )
    return t.view(-1, 1, 1, 1)


def _check_light(x: Tensor) -> None:
    if bool(((x < 0) | (x > 1)).any()):
        raise ValueError(
            f"x must lie between 0 and 1, but it goes from {x.min().item():g} to "
            f"{x.max().item():g}: change the light before you normalise."
        )


class Augment:
    """Random changes of each picture of a batch: everything geometric in one interpolation.

    Left at their defaults, all changes are off. The numbers are drawn on the CPU, a few for each
    picture, and are therefore the same on every device; the pictures stay where they are.

    Parameters
    ----------
    flip : float
        Probability of exchanging left and right, 0 to 1.
    dihedral : bool
        Whether to draw one of the eight symmetries of the square (`flip` has no effect then).
    max_rotate : float
        Largest turn in either direction, in degrees, 0 to 180.
    zoom : (float, float)
        Smallest and largest factor; factors are drawn evenly on a logarithmic scale.
    max_shift : float
        Largest shift along each axis, in halves of the shorter side, at least 0.
    max_warp : float
        Largest tilt along each axis, 0 to below 0.5, as in `glassbox.warps.perspective`.
    max_brightness : float
        Largest change of the pixels' logits in either direction, at least 0.
    max_contrast : float
        Largest change of the logarithm of the factor in either direction, at least 0.
    p : float
        Probability, for each picture and each kind of change but `flip` and `dihedral`, that it is
        made at all.
    size : int or (int, int), optional
        What the pictures are brought to, in the same interpolation. An `Augment` that has a size
        and nothing else brings validation pictures there, and leaves those that have it alone.
    padding : {"zeros", "border", "reflection"}
        What lies outside of the pictures.
    generator : torch.Generator, optional
        A CPU generator that draws the numbers.

    Raises
    ------
    ValueError
        If an option is out of range.

    References
    ----------
    fast.ai 2019, lesson 6.

    Examples
    --------
    >>> augment = Augment(flip=0.5, max_rotate=10, zoom=(1, 1.1), max_warp=0.2, size=64)
    >>> augment(torch.rand(8, 3, 128, 128)).shape
    torch.Size([8, 3, 64, 64])

    As a callback, ``BatchTransform(augment, train_only=True)``.
    """

    def __init__(
        self,
        *,
        flip: float = 0.0,
        dihedral: bool = False,
        max_rotate: float = 0.0,
        zoom: tuple[float, float] = (1.0, 1.0),
        max_shift: float = 0.0,
        max_warp: float = 0.0,
        max_brightness: float = 0.0,
        max_contrast: float = 0.0,
        p: float = 1.0,
        size: int | tuple[int, int] | None = None,
        padding: str = "reflection",
        generator: torch.Generator | None = None,
    ) -> None:
        for name, value, high in (("flip", flip, 1), ("p", p, 1), ("max_rotate", max_rotate, 180)):
            if not 0 <= value <= high:
                raise ValueError(f"{name} must be from 0 to {high}, but it is {value!r}.")
        if not 0 <= max_warp < 0.5:
            raise ValueError(
                f"max_warp must be at least 0 and less than 0.5, but it is {max_warp!r}."
            )
        for name, value in (
            ("max_shift", max_shift),
            ("max_brightness", max_brightness),
            ("max_contrast", max_contrast),
        ):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, but it is {value!r}.")
        if len(zoom) != 2 or not 0 < zoom[0] <= zoom[1] < math.inf:
            raise ValueError(
                f"zoom must be two factors above 0, the smaller one first, but it is {zoom!r}."
            )
        if padding not in PADDINGS:
            raise ValueError(
                f"padding must be one of {', '.join(PADDINGS)}, but it is {padding!r}."
            )
        self.flip, self.dihedral = flip, dihedral
        self.max_rotate, self.zoom, self.max_shift = max_rotate, zoom, max_shift
        self.max_warp, self.max_brightness = max_warp, max_brightness
        self.max_contrast, self.p = max_contrast, p
        self.size = None if size is None else pair("size", size, 1)
        self.padding, self.generator = padding, generator

    def matrices(self, n: int) -> list[Tensor]:
        """Draw the matrices for `n` pictures.

        Returns
        -------
        list of Tensor, each of shape (n, 3, 3)
            One for each kind of change that is on, in the order in which they are made.
        """
        drawn = []
        if self.dihedral:
            drawn.append(dihedral(torch.randint(8, (n,), generator=self.generator)))
        elif self.flip:
            drawn.append(flip(torch.rand(n, generator=self.generator) < self.flip))
        if self.max_rotate:
            drawn.append(rotation(self._draw(n, self.max_rotate)))
        if self.zoom != (1, 1):
            low, high = (math.log(factor) for factor in self.zoom)
            logs = torch.empty(n).uniform_(low, high, generator=self.generator)
            drawn.append(zoom((logs * self._made(n)).exp()))
        if self.max_shift:
            drawn.append(shift(self._draw(n, self.max_shift), self._draw(n, self.max_shift)))
        if self.max_warp:
            # The last one, or what is turned and enlarged before could lie behind the camera.
            drawn.append(perspective(self._draw(n, self.max_warp), self._draw(n, self.max_warp)))
        return drawn

    def _draw(self, n: int, limit: float) -> Tensor:
        made = self._made(n)
        return torch.empty(n).uniform_(-limit, limit, generator=self.generator) * made

    def _made(self, n: int) -> Tensor:
        return torch.rand(n, generator=self.generator) < self.p

    def __call__(self, x: Tensor) -> Tensor:
        """Return the pictures, of shape (n, channels, height, width), changed.

        Raises
        ------
        ValueError
            If `x` is no batch of pictures or, where light is changed, not between 0 and 1.
        """
        lit = bool(self.max_brightness or self.max_contrast)
        if lit:
            _check_light(x)
        drawn = self.matrices(len(x))
        resized = self.size is not None and self.size != tuple(x.shape[2:])
        if drawn or resized:
            x = warp(x, compose(*drawn or [torch.eye(3)[None]]), self.size, self.padding)
        if lit:
            x = x.clamp(0, 1)  # shares that are rounded may add up to a little more than 1
        if self.max_brightness:
            change = self._draw(len(x), self.max_brightness)
            x = _brightened(x, _each("change", change, x))
        if self.max_contrast:
            factor = self._draw(len(x), self.max_contrast).exp()
            x = _hardened(x, _each("factor", factor, x))
        return x


class Presize:
    """Bring single pictures of any size to squares of one size, larger than what a model will get.

    The first half of presizing: squares can be stacked, moved to the device, and only there turned
    and brought to their final size, in one interpolation that has pixels to spare.

    Parameters
    ----------
    size : int
        Side of the square, in pixels.
    generator : torch.Generator, optional
        With one, the square is cut at a random place along the longer side, as one wants for
        training; without, from the middle.

    Raises
    ------
    ValueError
        If `size` is below 1.

    Examples
    --------
    >>> Presize(96)(torch.rand(3, 120, 200)).shape
    torch.Size([3, 96, 96])
    """

    def __init__(self, size: int, generator: torch.Generator | None = None) -> None:
        whole("size", size, 1)
        self.size, self.generator = size, generator

    def __repr__(self) -> str:
        place = "from the middle" if self.generator is None else "at a random place"
        return f"Presize to {self.size}×{self.size}, {place}"

    def __call__(self, image: Tensor) -> Tensor:
        """Return the picture, of shape (channels, height, width), as (channels, size, size).

        Raises
        ------
        ValueError
            If `image` is no picture.
        """
        if image.ndim != 3 or not image.is_floating_point() or 0 in image.shape:
            raise ValueError(
                "image must have shape (channels, height, width), floating point, but it has "
                f"shape {tuple(image.shape)} and type {image.dtype}."
            )
        height, width = image.shape[1:]
        x = image[None]
        move = 0.0
        if self.generator is not None:
            # How far the square can move from the middle, in halves of the shorter side.
            rest = max(height, width) / min(height, width) - 1
            move = rest * torch.empty(()).uniform_(-1, 1, generator=self.generator).item()
        matrix = shift(move) if width > height else shift(0.0, move)
        block = min(height, width) // self.size
        if block > 1:
            # Bilinear looks at four pixels: of the others between them it would see nothing.
            x = F.avg_pool2d(x, block)
        return warp(x, matrix, self.size, "border")[0]
