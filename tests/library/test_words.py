"""`glassbox.words`: pairs by a definition that is slow, and what the negatives are drawn from."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassbox.words import skip_gram_pairs, with_negatives

sentences = st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=4)


def refused(message, kind=ValueError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


@given(sentences, st.integers(1, 9))
def test_the_pairs_are_all_that_stand_near_each_other(lists, window):
    expected = [
        (words[i], words[j])
        for words in lists
        for i in range(len(words))
        for j in range(len(words))
        if i != j and abs(i - j) <= window
    ]
    sequences = [torch.tensor(words, dtype=torch.int64) for words in lists]
    if not expected:
        with refused("sequences must hold one with two codes at least, but there is none."):
            skip_gram_pairs(sequences, window)
        return
    found = skip_gram_pairs(sequences, window)
    assert sorted(map(tuple, found.tolist())) == sorted(expected)


@given(st.integers(1, 4), st.integers(0, 100))
def test_negatives_keep_the_first_and_draw_the_second_from_what_occurs(count, seed):
    pairs = torch.tensor([[0, 5], [1, 5], [2, 7]])
    x, y = with_negatives(pairs, count, 9, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(x[:3], pairs)
    assert torch.equal(x[3:, 0], torch.tensor([0, 1, 2]).repeat(count))
    assert set(x[3:, 1].tolist()) <= {5, 7}
    assert y.tolist() == [1.0] * 3 + [0.0] * (3 * count)


@pytest.mark.parametrize(("power", "share"), [(1.0, 0.9), (0.75, 0.8386), (0.0, 0.5)])
def test_chances_are_counts_to_the_power(power, share):
    pairs = torch.tensor([[0, 3]] * 9 + [[0, 4]])
    generator = torch.Generator().manual_seed(0)
    x, _ = with_negatives(pairs, 2000, 6, power=power, generator=generator)
    drawn = x[10:, 1]
    assert (drawn == 3).double().mean().item() == pytest.approx(share, abs=0.01)
    assert ((drawn == 3) | (drawn == 4)).all()


def test_bad_input_is_answered_in_one_sentence():
    words, pairs = torch.arange(3), torch.tensor([[0, 1]])
    with refused("window must be a whole number of at least 1, but it is 0."):
        skip_gram_pairs([words], 0)
    with refused(
        "sequences[1] must be int64 of shape (length,), but it is torch.float32 of shape (3,)."
    ):
        skip_gram_pairs([words, torch.ones(3)], 1)
    with refused("count must be a whole number of at least 1, but it is 0."):
        with_negatives(pairs, 0, 2)
    with refused("num_codes must be a whole number of at least 1, but it is 0."):
        with_negatives(pairs, 1, 0)
    with refused("pairs must hold codes from 0 to 0, but they go from 0 to 1."):
        with_negatives(pairs, 1, 1)
    with refused("pairs must have shape (n, 2), n at least 1, but it is (0, 2)."):
        with_negatives(pairs[:0], 1, 2)
