"""Data sheets and model cards: what somebody must know before using your data or your model.

`DataSheet`, `ModelCard`, `page`.

The questions are those of Gebru and others (2021) for data and of Mitchell and others (2019) for
models, each shortened to one paragraph. A sheet that leaves one empty is not printed. The texts
about the book's own data and models stand in `glassbox.sheets`; the page of the appendix is made of
them and of the registry::

    python -m glassbox.sheets book/appendix/datasheets.md

Built in the chapter *ethics*.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, fields

from glassbox.downloads import REGISTRY

__all__ = ["DataSheet", "ModelCard", "page"]


@dataclass(frozen=True)
class _Sheet:
    """A title and the answers to some questions, each a paragraph."""

    title: str

    @classmethod
    def questions(cls) -> tuple[str, ...]:
        """Return the names of what must be filled in."""
        return tuple(field.name for field in fields(cls) if field.name != "title")

    def missing(self) -> tuple[str, ...]:
        """Return the names of what is still empty."""
        return tuple(name for name in self.questions() if not getattr(self, name).strip())

    def markdown(self, level: int = 3) -> str:
        """Return the sheet as Markdown.

        Parameters
        ----------
        level : int
            Of its heading, from 1 to 6.

        Raises
        ------
        ValueError
            If the level is none of these, or something is still empty; the message names it.
        """
        if level not in range(1, 7):
            raise ValueError(f"level must be a whole number from 1 to 6, but it is {level!r}.")
        if self.missing():
            empty = ", ".join(name.replace("_", " ") for name in self.missing())
            raise ValueError(f"The sheet {self.title!r} leaves empty: {empty}.")
        parts = ["#" * level + f" {self.title}"]
        for name in self.questions():
            heading = name.replace("_", " ").capitalize()
            parts.append(f"**{heading}.** {' '.join(getattr(self, name).split())}")
        return "\n\n".join(parts)


@dataclass(frozen=True)
class DataSheet(_Sheet):
    """What must be known about data before it is used.

    Parameters
    ----------
    title : str
        What the data is called.
    motivation : str
        Who made it, and what for.
    composition : str
        What one item is, how many there are, what is missing, and whether it is about people.
    collection : str
        How the items were chosen, over what time, and whether those concerned agreed.
    preprocessing : str
        What was done to it since.
    uses : str
        What it is good for, and what it should not be used for.
    distribution : str
        Who may have it, and under which terms.
    maintenance : str
        Who answers for it, and where errors are reported.

    Examples
    --------
    >>> DataSheet("Tosses", motivation="A first example.").missing()
    ('composition', 'collection', 'preprocessing', 'uses', 'distribution', 'maintenance')
    """

    motivation: str = ""
    composition: str = ""
    collection: str = ""
    preprocessing: str = ""
    uses: str = ""
    distribution: str = ""
    maintenance: str = ""


@dataclass(frozen=True)
class ModelCard(_Sheet):
    """What must be known about a model before it is used.

    Parameters
    ----------
    title : str
        What the model is called.
    details : str
        Who made it, when, what kind of model it is.
    intended_use : str
        What it is for, for whom, and what it is not for.
    factors : str
        The groups and circumstances between which its behaviour may differ.
    metrics : str
        What is measured, at which threshold, and why that.
    evaluation_data : str
        What it was measured on.
    training_data : str
        What it learned from.
    results : str
        The measurements, for each group.
    considerations : str
        Whom it may harm, and what was done about that.
    caveats : str
        What is not known, and what the next user should check.
    """

    details: str = ""
    intended_use: str = ""
    factors: str = ""
    metrics: str = ""
    evaluation_data: str = ""
    training_data: str = ""
    results: str = ""
    considerations: str = ""
    caveats: str = ""


_TOP = """# Data sheets and model cards

% Made by `python -m glassbox.sheets` of the registry and of glassbox.sheets: change those.

Every data set that a chapter uses has a sheet here, and every kind of model that a chapter trains
has a card. The [chapter on ethics](../ethics.md) says why, and has you write one. The questions are
those of {cite:t}`gebru2021datasheets` and of {cite:t}`mitchell2019model`, shortened.

## Data
"""


def page(sheets: Mapping[str, DataSheet], cards: Mapping[str, ModelCard]) -> str:
    """Return the page of the appendix: a sheet for all data, a card for every kind of model.

    What the registry knows of a data set (profile, licence, terms, citation) is put below the text
    that was written about it.

    Parameters
    ----------
    sheets : mapping of str to DataSheet
        By the name that the registry gives to the data; others follow in their order.
    cards : mapping of str to ModelCard
        By a short name.

    Raises
    ------
    ValueError
        If a data set of the registry has no sheet, or a sheet or card leaves something empty.
    """
    without = [name for name in REGISTRY if name not in sheets]
    if without:
        raise ValueError(f"sheets must have one for all data, but lacks {', '.join(without)}.")
    parts = [_TOP.rstrip()]
    for name in [*REGISTRY, *(name for name in sheets if name not in REGISTRY)]:
        parts.append(sheets[name].markdown())
        if name in REGISTRY:
            parts.append(_registered(name))
    parts.append("## Models")
    parts += [card.markdown() for card in cards.values()]
    return "\n\n".join(map(_wrapped, parts)) + "\n"


def _registered(name: str) -> str:
    entry = REGISTRY[name]
    carried = f"carried by {entry.embedded_in}" if entry.embedded_in else "downloaded, checked"
    return (
        f"**In the registry.** `{name}`: {entry.title}; {entry.profile} profile, {carried}. "
        f"Licence: {entry.licence}. {entry.terms} Cite: {_linked(entry.citation)}"
    )


def _linked(text: str) -> str:
    """Return the text with its addresses as links, so that they can be followed."""
    words = (f"<{word}>" if word.startswith("https://") else word for word in text.split())
    return " ".join(words)


def _wrapped(part: str) -> str:
    """Return Markdown whose long paragraphs are broken into lines that a diff can show."""
    paragraphs = part.split("\n\n")
    return "\n\n".join(
        text
        if "\n" in text or text.startswith(("#", "%"))
        else textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)
        for text in paragraphs
    )
