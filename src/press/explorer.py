"""An explorer of a network's layers, as a part of a static page.

`explorer` takes what each layer makes of some images and returns the HTML of a map of them: a
thumbnail at each point, to be seen through any layer and any projection, from which a reader picks
groups, names them and downloads the labels. ``book/_static/explorer.js`` brings it to life in the
page, without a server; where no script runs there is a still picture and a sentence.

The labels are downloaded as JSON::

    {
      "groups": {"two": [4, 17], "seven": [3]},
      "labels": [{"item": 3, "label": "seven"}, {"item": 4, "label": "two"}, …],
      "layer": "conv3"
    }

An item is the number of an image in what `explorer` was given, from 0; ``groups`` come in the order
in which they were named, ``labels`` in the order of their items; ``layer`` is the one that was
looked at last.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import torch
import torch.nn.functional as F
from IPython.display import HTML
from PIL import Image
from torch import Tensor

from glassbox.projection import pca

__all__ = ["explorer"]

MAX_IMAGES = 2000
"""More would make the page slow to load, and no map of them can be read."""

THUMBNAIL = 32
"""The largest width and height of a thumbnail, in pixels of the sprite."""

_COLOURS = 96  # of the palette that all coloured thumbnails share
_STILL = (640, 420)  # width and height of the still picture
_INK = 122  # grey that reads on white and on black


def explorer(
    features: Mapping[str, Tensor],
    images: Tensor,
    *,
    title: str,
    alt: str,
    descriptions: Sequence[str] | None = None,
    components: int = 16,
    shown: int = 150,
    ink: bool | None = None,
    seed: int = 0,
) -> HTML:
    """Return an explorer of images as the layers of a network see them.

    Parameters
    ----------
    features
        The name of each layer, in the order of the network, and its activations: tensors of shape
        (n, …), on any device; what follows the first dimension is flattened.
    images
        Float tensor of shape (n, 1, height, width) or (n, 3, height, width) in [0, 1], or of shape
        (n, height, width); at most 2,000, thumbnails of which are shown.
    title
        What is explored, for example "Six hundred digits in four layers".
    alt
        A sentence that says what the still picture shows: the images at their places along the
        first two components of the first layer.
    descriptions
        What each image shows, in a few words, for those who do not see it.
    components
        To how many principal components each layer is reduced, at least 2; fewer are kept when a
        layer or the number of images has fewer.
    shown
        How many images the map shows at first, and in every further sample.
    ink
        Whether the images are strokes, bright on dark, to be drawn in the colour of the page or of
        their group; by default for images of one channel. Others get a frame in their group's
        colour.
    seed
        Decides which images make up the samples.

    Raises
    ------
    TypeError, ValueError
        When an argument cannot be what it should be.
    """
    pictures = _pictures(images)
    n = len(pictures)
    for name, text in (("title", title), ("alt", alt)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} must be a sentence for the reader, but it is {text!r}.")
    for name, number, least in (("components", components, 2), ("shown", shown, 1)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise ValueError(
                f"{name} must be a whole number of at least {least}, but it is {number!r}."
            )
    if descriptions is not None and len(descriptions) != n:
        raise ValueError(
            f"descriptions must be {n}, one an image, but they are {len(descriptions)}."
        )
    if ink is None:
        ink = pictures.shape[1] == 1
    if ink and pictures.shape[1] != 1:
        raise ValueError(
            f"ink must be False for images of {pictures.shape[1]} channels, but it is True."
        )
    if not isinstance(features, Mapping) or not features:
        kind = "empty" if isinstance(features, Mapping) else type(features).__name__
        raise ValueError(
            f"features must map the name of each layer to its activations, but it is {kind}."
        )
    points = {name: _reduced(name, x, n, components) for name, x in features.items()}
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    thumbnails, columns = _thumbnails(pictures, ink), math.ceil(math.sqrt(n))
    data: dict[str, Any] = {
        "title": title.strip(),
        "count": n,
        "order": order,
        "shown": min(shown, n),
        "ink": ink,
        "descriptions": [str(text) for text in descriptions] if descriptions is not None else None,
        "sprite": {
            "source": _png(_sprite(thumbnails, columns)),
            "columns": columns,
            "width": thumbnails[0].width,
            "height": thumbnails[0].height,
        },
        "layers": [{"name": str(name), **_quantised(*made)} for name, made in points.items()],
    }
    first = next(iter(points.values()))[0]
    still = _still(thumbnails, first[:, :2], order[: data["shown"]], ink)
    # "</script>" in a text would end the script that carries it.
    payload = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return HTML(
        '<div class="gb-explorer">'
        f'<div class="gb-explorer-still"><img src="{_png(still)}" alt="{escape(alt.strip())}">'
        f"<p>{escape(title.strip())}: a still picture. On the book's site, in a browser that runs "
        "scripts, this is an explorer in which groups can be picked and named.</p></div>"
        f'<script type="application/json" class="gb-explorer-data">{payload}</script></div>'
    )


# -- what is computed -----------------------------------------------------------------------------


def _reduced(name: str, x: Tensor, n: int, components: int) -> tuple[Tensor, Tensor]:
    """Return the items along the layer's components, and the components' shares of the variance."""
    if not isinstance(x, Tensor):
        raise TypeError(f"features[{name!r}] must be a tensor, but it is a {type(x).__name__}.")
    if x.ndim < 2 or len(x) != n:
        raise ValueError(
            f"features[{name!r}] must have the shape ({n}, …), a row an image, but it has "
            f"{tuple(x.shape)}."
        )
    rows = x.detach().cpu().double().flatten(1)
    k = min(components, *rows.shape)
    if k < 2:
        raise ValueError(
            f"features[{name!r}] must hold at least 2 numbers for each of at least 2 images, "
            f"but its shape is {tuple(x.shape)}."
        )
    try:
        made = pca(rows, k)
    except ValueError as error:
        raise ValueError(f"features[{name!r}]: {error}") from error
    return made.points, made.values


def _quantised(points: Tensor, shares: Tensor) -> dict[str, Any]:
    """Return the points as 16-bit whole numbers, little-endian, a row an item, and their unit."""
    unit = float(points.abs().max()) / 32767
    values = (points / unit).round().to(torch.int16).numpy().astype("<i2")
    return {
        "components": points.shape[1],
        "unit": unit,
        "shares": [round(float(share), 5) for share in shares],
        "values": base64.b64encode(values.tobytes()).decode(),
    }


# -- pictures -------------------------------------------------------------------------------------


def _pictures(images: Tensor) -> Tensor:
    """Return the images as bytes of shape (n, channels, height, width), no larger than needed."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a tensor of floating-point numbers, but it is {kind}.")
    x = images.detach().cpu().float()
    x = x[:, None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
        raise ValueError(
            "images must have shape (n, 1, height, width), (n, 3, height, width) or "
            f"(n, height, width), but it has {tuple(images.shape)}."
        )
    if len(x) > MAX_IMAGES:
        raise ValueError(f"images must be at most {MAX_IMAGES:,}, but they are {len(x):,}.")
    if not bool(((x >= 0) & (x <= 1)).all()):
        low, high = float(x.min()), float(x.max())
        raise ValueError(f"images must lie in [0, 1], but they reach from {low:g} to {high:g}.")
    largest = max(x.shape[2:])
    if largest > THUMBNAIL:
        size = [max(1, round(side * THUMBNAIL / largest)) for side in x.shape[2:]]
        x = F.interpolate(x, size=size, mode="area")
    return (x * 255).round().to(torch.uint8)


def _thumbnails(pictures: Tensor, ink: bool) -> list[Image.Image]:
    made = []
    for picture in pictures:
        if picture.shape[0] == 3:
            made.append(Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy(), "RGB"))
            continue
        grey = Image.fromarray(picture[0].numpy(), "L")
        # Strokes become opacity: the page fills them with a colour.
        made.append(Image.merge("LA", (Image.new("L", grey.size, 0), grey)) if ink else grey)
    return made


def _sprite(thumbnails: Sequence[Image.Image], columns: int) -> Image.Image:
    """Return all thumbnails in one picture, row after row."""
    width, height = thumbnails[0].size
    rows = math.ceil(len(thumbnails) / columns)
    sheet = Image.new(thumbnails[0].mode, (columns * width, rows * height))
    for number, thumbnail in enumerate(thumbnails):
        sheet.paste(thumbnail, (number % columns * width, number // columns * height))
    return sheet.quantize(_COLOURS) if sheet.mode == "RGB" else sheet


def _still(
    thumbnails: Sequence[Image.Image], points: Tensor, items: Sequence[int], ink: bool
) -> Image.Image:
    """Return the picture that stands where no script runs: the first sample at its places."""
    width, height = thumbnails[0].size
    low, high = points.min(0).values, points.max(0).values
    places = (points - low) / (high - low).clamp_min(1e-12)
    sheet = Image.new("LA" if ink else "RGBA", _STILL)
    for item in items:
        x, y = float(places[item, 0]), 1 - float(places[item, 1])
        corner = (round(x * (_STILL[0] - width)), round(y * (_STILL[1] - height)))
        thumbnail = thumbnails[item]
        if ink:
            sheet.paste(_INK, corner, thumbnail.getchannel("A"))
            opacity = sheet.getchannel("A")
            opacity.paste(255, corner, thumbnail.getchannel("A"))
            sheet.putalpha(opacity)
        else:
            sheet.paste(thumbnail, corner)
    return sheet


def _png(picture: Image.Image) -> str:
    """Return a picture as an address that holds it."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
