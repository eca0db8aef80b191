"""Text from students made harmless for a terminal, a table and a page.

`clean`, `cell`.
"""

from __future__ import annotations

import unicodedata

__all__ = ["cell", "clean"]

_LONGEST = 4000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "|", "%")


def clean(text: str, *, lines: bool = True, most: int = _LONGEST) -> str:
    """Return text without characters that steer a terminal or turn the direction of writing.

    Parameters
    ----------
    text : str
    lines : bool
        Whether line breaks and tabs stay; otherwise they become spaces.
    most : int
        Characters to keep.

    Examples
    --------
    >>> clean("red: \\x1b[31m!")
    'red: �[31m!'
    """
    if len(text) > most:
        text = text[: most - 1] + "…"
    return "".join(_harmless(c, lines) for c in text)


def _harmless(character: str, lines: bool) -> str:
    if character in "\n\t":
        return character if lines else " "
    # Control characters, invisible formats (among them those of direction), halves of pairs.
    return "�" if unicodedata.category(character) in ("Cc", "Cf", "Cs") else character


def cell(value: object) -> object:
    """Return a value for a table, in which no program takes text for a formula.

    Examples
    --------
    >>> cell("=HYPERLINK()"), cell(3), cell("Ada")
    ("'=HYPERLINK()", 3, 'Ada')
    """
    if not isinstance(value, str):
        return value
    text = clean(value, lines=False)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) or text.startswith(_FORMULA) else text
