"""Picture files: found in a folder, labelled by their names, and read.

`find_images`, `label_of`, `check_names`, `read_image`, `ImageError`.

Built in the chapter *regularization*.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["ImageError", "check_names", "find_images", "label_of", "read_image"]

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_MODES = {1: "L", 3: "RGB"}


class ImageError(ValueError):
    """A file that should be a picture and cannot be read, or pictures that do not fit together."""


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the picture files in a folder and all folders below it, sorted by their names.

    A picture is what has the ending of one; names that begin with a dot are left out.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"folder must be a folder that exists, but {folder} is none.")
    # Sorted, because the order in which a disk lists its files differs from machine to machine.
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not files:
        endings = ", ".join(sorted(SUFFIXES))
        raise FileNotFoundError(
            f"folder must hold pictures ({endings}), but there is none in {folder}."
        )
    return files


def label_of(name: str, pattern: str) -> str:
    r"""Return what the pattern's group finds in a file name.

    Parameters
    ----------
    name : str
        Of the file; below the folder, with slashes.
    pattern : str
        A regular expression with one group, in parentheses: the label.

    Raises
    ------
    ValueError
        If the pattern is no regular expression with one group, or does not match.

    Examples
    --------
    >>> label_of("yorkshire_terrier_42.jpg", r"([^/]+)_\d+\.jpg$")
    'yorkshire_terrier'
    """
    match = _compiled(pattern).search(name)
    if match is None or not match[1]:
        raise ValueError(
            f"pattern must find a label in each file name, but {pattern!r} finds none in {name!r}."
        )
    return match[1]


def check_names(names: Sequence[str], pattern: str) -> None:
    """Refuse a pattern that does not find a label in each of many file names.

    Raises
    ------
    ValueError
        If it is unusable, or finds no label: the sentence counts such names, and gives the first.
    """
    compiled = _compiled(pattern)
    others = [name for name in names if not ((match := compiled.search(name)) and match[1])]
    if others:
        shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise ValueError(
            f"pattern must find a label in each file name, but {pattern!r} finds none in "
            f"{len(others)} of {len(names)}: {shown}."
        )


def _compiled(pattern: str) -> re.Pattern[str]:
    if not isinstance(pattern, str):
        raise TypeError(f"pattern must be text, but it is a {type(pattern).__name__}.")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"pattern must be a regular expression, but {pattern!r} is none: {error}."
        ) from None
    if compiled.groups != 1:
        raise ValueError(
            "pattern must have one group in parentheses, the label, but "
            f"{pattern!r} has {compiled.groups}."
        )
    return compiled


def read_image(path: str | os.PathLike[str], channels: int = 3) -> Tensor:
    """Read a picture file.

    Parameters
    ----------
    path : path
        Of a file in a format that Pillow knows. A photograph that says that it was taken with the
        camera held sideways is turned upright.
    channels : {1, 3}
        Grey, or red, green and blue.

    Returns
    -------
    Tensor, shape (channels, height, width)
        float32, from 0 to 1.

    Raises
    ------
    ImageError
        If the file cannot be read, or has more than 8 bits a channel.
    ValueError
        If `channels` is neither 1 nor 3.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if channels not in _MODES:
        raise ValueError(f"channels must be 1 or 3, but it is {channels!r}.")
    try:
        with Image.open(path) as image:
            mode = image.mode
            upright = ImageOps.exif_transpose(image)
            pixels = np.array(upright.convert(_MODES[channels]))
    # A broken file makes Pillow raise one or the other, depending on where it breaks.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} cannot be read as a picture: {_first_line(error)}.") from error
    if mode[0] in "IF":  # converting them to 8 bits would cut off all that is brighter than 255
        raise ImageError(f"{path} must have 8 bits a channel, but it is of Pillow's mode {mode!r}.")
    return torch.from_numpy(pixels).view(*pixels.shape[:2], channels).permute(2, 0, 1) / 255


def _first_line(error: Exception) -> str:
    """Return the message of an error as the end of a sentence."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
