"""What every figure of the book shares: a style for light and dark pages, image grids, animations.

`use_style`, `COLORS`, `subplots`, `show_images`, `show_animation`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from IPython.display import HTML
from matplotlib.animation import Animation
from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["COLORS", "show_animation", "show_images", "subplots", "use_style"]

COLORS = ["#3b82c4", "#d55e00", "#009e73", "#b565a7", "#a8820b", "#808080"]
"""Blue, vermilion, green, purple, ochre, grey: each at least 3:1 against white and near-black.

Neighbours differ in hue as seen with any common colour vision, and every line has its own dash.
"""

_INK = "#7a7a7a"
_DASHES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1))]


def use_style() -> None:
    """Set Matplotlib's defaults for the book: no background, ink that reads on light and dark.

    Figures are vector graphics, small enough that their text is legible on a phone.
    """
    mpl.rcParams.update(
        {
            "figure.figsize": (5.2, 3.2),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "savefig.transparent": True,
            "svg.hashsalt": "glassbox",
            "axes.facecolor": "none",
            "axes.edgecolor": _INK,
            "axes.labelcolor": _INK,
            "axes.titlecolor": _INK,
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=COLORS, linestyle=_DASHES),
            "axes.grid": True,
            "grid.color": _INK,
            "grid.alpha": 0.25,
            "grid.linewidth": 0.6,
            "text.color": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "legend.frameon": False,
            "legend.fontsize": 10,
            "lines.linewidth": 1.8,
            "image.cmap": "gray",
            # Or a vector graphic holds layers merged into one image, their opacity applied twice.
            "image.composite_image": False,
            "font.size": 11,
        }
    )
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # a plain interpreter has no inline figures
        return
    set_matplotlib_formats("svg")


def subplots(*args: Any, **kwargs: Any) -> tuple[Figure, Any]:
    """Return a new figure and its axes, as `matplotlib.pyplot.subplots` does."""
    figure, axes = plt.subplots(*args, **kwargs)
    return figure, axes


def show_images(
    images: Tensor | Sequence[Tensor],
    titles: Sequence[object] | None = None,
    *,
    ncols: int = 8,
    size: float = 0.9,
    cmap: str = "gray",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Figure:
    """Draw images in a grid, and return the figure.

    Parameters
    ----------
    images : Tensor of shape (n, height, width), (n, 1, height, width) or (n, 3, height, width)
        Or a sequence of single images; on any device.
    titles : sequence, optional
        One for each image.
    ncols : int
        Images in a row.
    size : float
        Width and height of an image, in inches.
    cmap : str
        Matplotlib's name of the colours of single-channel images.
    vmin, vmax : float, optional
        The values drawn as the first and the last colour; of each image on its own when left out.

    Raises
    ------
    ValueError
        If there is no image, one has an unusable shape, or there are not as many titles.
    """
    pictures = [_as_picture(image) for image in images]
    if not pictures:
        raise ValueError("images must hold at least one image, but it is empty.")
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(
            f"titles must be {len(pictures)}, one an image, but they are {len(titles)}."
        )
    ncols = min(ncols, len(pictures))
    nrows = math.ceil(len(pictures) / ncols)
    height = size * (1.3 if titles is not None else 1.0)
    figure, axes = subplots(nrows, ncols, figsize=(ncols * size, nrows * height), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for i, (ax, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        ax.imshow(picture, cmap=cmap, vmin=vmin, vmax=vmax)
        if titles is not None:
            ax.set_title(str(titles[i]), fontsize=9)
    return figure


def _as_picture(image: Tensor) -> Any:
    image = image.detach().cpu()
    if image.ndim == 3 and image.shape[0] == 1:
        image = image[0]
    elif image.ndim == 3 and image.shape[0] == 3:
        image = image.permute(1, 2, 0)
    elif image.ndim != 2:
        raise ValueError(
            "images must have shape (height, width), (1, height, width) or (3, height, width), but "
            f"one has {tuple(image.shape)}."
        )
    return image.float().numpy()


_ICONS = {
    "fa-minus": "&minus;",
    "fa-fast-backward": "&#x23EE;&#xFE0E;",
    "fa-step-backward": "&#x25C1;&#xFE0E;",
    "fa-play fa-flip-horizontal": "&#x25C0;&#xFE0E;",
    "fa-pause": "&#x23F8;&#xFE0E;",
    "fa-play": "&#x25B6;&#xFE0E;",
    "fa-step-forward": "&#x25B7;&#xFE0E;",
    "fa-fast-forward": "&#x23ED;&#xFE0E;",
    "fa-plus": "+",
}


def show_animation(animation: Animation, alt: str) -> HTML:
    """Return a player of the animation that works in a static page, without a network.

    Matplotlib's own player loads its icons from a public server; here they are characters.

    Parameters
    ----------
    animation : matplotlib.animation.Animation
        Its figure is closed.
    alt : str
        What the animation shows, for those who do not see it.

    Raises
    ------
    ValueError
        If `alt` is empty.
    """
    if not alt.strip():
        raise ValueError("alt must say what the animation shows, but it is empty.")
    with mpl.rc_context({"animation.embed_limit": 20}):
        page = animation.to_jshtml(default_mode="loop")
    figure: Figure | None = getattr(animation, "_fig", None)
    if figure is not None:
        plt.close(figure)
    page = re.sub(r"<link[^>]*>", "", page)
    page = re.sub(
        r'<i class="fa ([^"]+)"></i>', lambda m: _ICONS.get(m.group(1).strip(), m.group(1)), page
    )
    page = re.sub(r"<img ", f'<img alt="{alt.replace(chr(34), "&quot;")}" ', page)
    return HTML(f'<div class="gb-animation">{page}</div>')
