"""Skip-gram in miniature: what stands beside what, as a task that needs no labels.

`skip_gram_pairs`, `with_negatives`.

Pairs that were seen together are told from pairs that were thrown together. Built in the chapter
*collaborative*.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glassbox.checks import whole

__all__ = ["skip_gram_pairs", "with_negatives"]


def skip_gram_pairs(sequences: Sequence[Tensor], window: int) -> Tensor:
    """Return the pairs of codes that stand near each other, each in both orders.

    Parameters
    ----------
    sequences : sequence of Tensor of int64, each of shape (length,)
        Sentences, or lists of what somebody chose. One of a single code makes no pair.
    window : int
        How far apart two may stand, at least 1: 1 for neighbours only.

    Returns
    -------
    Tensor of int64, shape (pairs, 2)
        A code and one that stands near it.

    Raises
    ------
    ValueError
        If no sequence has two codes, or one is no row of whole numbers.
    """
    whole("window", window, 1)
    pairs = []
    for i, sequence in enumerate(sequences):
        if sequence.ndim != 1 or sequence.dtype != torch.int64:
            raise ValueError(
                f"sequences[{i}] must be int64 of shape (length,), but it is {sequence.dtype} of "
                f"shape {tuple(sequence.shape)}."
            )
        for apart in range(1, min(window, len(sequence) - 1) + 1):
            pair = torch.stack([sequence[:-apart], sequence[apart:]], dim=1)
            pairs += [pair, pair.flip(1)]
    if not pairs:
        raise ValueError("sequences must hold one with two codes at least, but there is none.")
    return torch.cat(pairs)


def with_negatives(
    pairs: Tensor,
    count: int,
    num_codes: int,
    *,
    power: float = 0.75,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Add pairs thrown together, and labels that tell the two kinds apart.

    A negative keeps the first code of a pair and draws the second from all codes, with chances in
    proportion to how often each is second in a pair, to a power. Once in a while it is by chance a
    pair that occurs.

    Parameters
    ----------
    pairs : Tensor of int64, shape (n, 2)
    count : int
        Negatives for each pair, at least 1.
    num_codes : int
        Codes are below this.
    power : float
        1 draws codes as often as they occur, 0 all equally often; the paper takes 0.75.
    generator : torch.Generator, optional
        Draws the negatives.

    Returns
    -------
    x : Tensor of int64, shape (n + n · count, 2)
        The pairs, then the negatives.
    y : Tensor of float32, shape (n + n · count,)
        1 for a pair, 0 for a negative.

    Raises
    ------
    ValueError
        If a number is out of range or the pairs are none.

    References
    ----------
    Mikolov, Sutskever, Chen, Corrado and Dean, "Distributed representations of words and phrases
    and their compositionality", 2013.
    """
    whole("count", count, 1)
    whole("num_codes", num_codes, 1)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
        raise ValueError(
            f"pairs must have shape (n, 2), n at least 1, but it is {tuple(pairs.shape)}."
        )
    if not 0 <= pairs.min() <= pairs.max() < num_codes:
        raise ValueError(
            f"pairs must hold codes from 0 to {num_codes - 1}, but they go from {pairs.min()} to "
            f"{pairs.max()}."
        )
    often = torch.bincount(pairs[:, 1], minlength=num_codes).double()
    # What never occurs is not drawn, whatever the power: 0 to the power of 0 would be 1.
    chances = torch.where(often > 0, often**power, 0.0)
    drawn = torch.multinomial(chances, len(pairs) * count, replacement=True, generator=generator)
    negatives = torch.stack([pairs[:, 0].repeat(count), drawn], dim=1)
    y = torch.cat([torch.ones(len(pairs)), torch.zeros(len(negatives))])
    return torch.cat([pairs, negatives]), y
