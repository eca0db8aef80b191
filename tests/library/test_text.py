"""`glassbox.text`: characters and numbers, windows and streams, sampling, features of a text."""

import itertools
import math
import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from glassbox.data import DataLoader
from glassbox.rnn import GRU, CharModel
from glassbox.text import (
    TEXT_FEATURES,
    CharVocab,
    generate,
    sample_next,
    sequence_loss,
    sequences,
    split_tail,
    streams,
    text_features,
    windows,
)

TEXTS = st.text(min_size=1, max_size=60)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# Characters and numbers


@given(TEXTS)
def test_decoding_undoes_encoding(text):
    vocab = CharVocab(text)
    codes = vocab.encode(text)
    assert vocab.decode(codes) == text == vocab.decode(codes.tolist())
    assert codes.dtype == torch.int64
    assert codes.shape == (len(text),)


@given(TEXTS)
def test_codes_follow_the_sorted_characters(text):
    vocab = CharVocab(text)
    assert len(vocab) == len(set(text))
    assert vocab.encode("".join(sorted(set(text)))).tolist() == list(range(len(vocab)))


@given(st.integers(2, 200), st.floats(0.02, 0.98))
def test_the_tail_is_the_end_and_nothing_is_in_both(n, fraction):
    assume(0 < round(n * fraction) < n)
    train, tail = split_tail(torch.arange(n), fraction)
    assert torch.cat([train, tail]).tolist() == list(range(n))
    assert len(tail) == round(n * fraction)


# Windows and streams


@given(st.integers(2, 80), st.integers(1, 20), st.integers(1, 12))
def test_windows_are_runs_and_what_follows_them(n, size, step):
    assume(n > size)
    x, y = windows(torch.arange(n), size, step)
    starts = [i for i in range(0, n, step) if i + size < n]
    assert x.tolist() == [list(range(i, i + size)) for i in starts]
    assert y.tolist() == [i + size for i in starts]


@given(st.integers(2, 80), st.integers(1, 20))
def test_sequences_do_not_overlap_and_have_a_target_for_every_character(n, size):
    assume(n > size)
    x, y = sequences(torch.arange(n), size)
    assert x.flatten().tolist() == list(range((n - 1) // size * size))
    assert torch.equal(y, x + 1)


@given(st.integers(2, 200), st.integers(1, 6), st.integers(1, 9))
def test_each_batch_of_streams_goes_on_where_the_last_one_stopped(n, batch_size, size):
    assume(n > batch_size * size)
    x, y = streams(torch.arange(n), batch_size, size)
    assert torch.equal(y, x + 1)
    batches = [xb for (xb,) in DataLoader(x, batch_size=batch_size)]
    assert all(xb.shape == (batch_size, size) for xb in batches)
    for before, after in itertools.pairwise(batches):
        assert torch.equal(after[:, 0], before[:, -1] + 1)
    read = torch.cat(batches, 1).flatten()
    assert read.tolist() == list(range(len(read)))  # piece after piece, nothing twice
    assert n - 1 - len(read) < batch_size * size


@given(st.integers(1, 4), st.integers(1, 5), st.integers(2, 6), st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_the_sequence_loss_is_the_mean_over_all_characters(n, time, classes, seed):
    logits = torch.randn(n, time, classes, dtype=torch.float64, generator=generator(seed))
    targets = torch.randint(classes, (n, time), generator=generator(seed))
    expected = F.cross_entropy(logits.transpose(1, 2), targets)
    torch.testing.assert_close(sequence_loss(logits, targets), expected)


# Sampling


@given(st.integers(0, 10**6), st.floats(0.3, 3))
@settings(deadline=None, max_examples=15)
def test_sampling_follows_the_softmax_at_a_temperature(seed, temperature):
    logits = torch.randn(1, 5, generator=generator(seed))
    drawn = sample_next(logits.expand(20_000, -1), temperature, generator=generator(seed))
    shares = torch.bincount(drawn, minlength=5) / len(drawn)
    assert float((shares - F.softmax(logits[0] / temperature, 0)).abs().max()) < 0.03


def test_a_temperature_close_to_zero_is_no_more_than_the_likeliest():
    assert sample_next(torch.tensor([[5.0, 9.0, -3.0]]), 1e-40).tolist() == [1]


def test_temperature_zero_takes_the_likeliest():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert sample_next(logits, 0.0).tolist() == [1, 0]


@given(st.integers(1, 6))
def test_top_k_draws_only_from_the_k_likeliest(k):
    logits = torch.tensor([[0.1, 0.5, 0.2, 0.4, 0.0, 0.3]]).expand(2000, -1)
    drawn = set(sample_next(logits, top_k=k, generator=generator()).tolist())
    assert drawn == set(logits[0].topk(k).indices.tolist())


def test_with_top_k_the_proportions_are_those_of_the_softmax_at_the_temperature():
    logits = torch.tensor([[1.0, 2.0, 0.0, 3.0]])
    drawn = sample_next(logits.expand(20_000, -1), 2.0, top_k=2, generator=generator())
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    expected = F.softmax(torch.tensor([-math.inf, 1.0, -math.inf, 1.5]), 0)
    assert float((shares - expected).abs().max()) < 0.02


def test_generating_passes_temperature_top_k_and_length_on():
    torch.manual_seed(0)
    vocab = CharVocab("abcdefgh")
    model = CharModel(len(vocab), GRU(4, 8))
    likeliest = generate(model, vocab, "bad", 30, temperature=0)
    assert generate(model, vocab, "bad", 30, top_k=1) == likeliest
    assert generate(model, vocab, "bad", 30, temperature=1e-6) == likeliest
    assert generate(model, vocab, "bad", 30, generator=generator()) != likeliest
    assert len(likeliest) == 33
    assert generate(model, vocab, "bad", 0) == "bad"


@pytest.mark.parametrize("hidden", [8])
def test_generating_reads_the_prompt_once_and_then_its_own_characters(hidden):
    torch.manual_seed(0)
    vocab = CharVocab("abcdef")
    model = CharModel(len(vocab), GRU(4, hidden), dropout=0.5)
    text = generate(model, vocab, "bad", 6, temperature=0)
    expected = "bad"
    model.eval()
    for _ in range(6):
        logits = model.step(vocab.encode(expected)[None])[0]
        expected += vocab.decode(logits[:, -1].argmax(-1))
    assert text == expected


def test_generating_leaves_mode_and_kept_state_as_they_were():
    vocab = CharVocab("abc")
    model = CharModel(len(vocab), GRU(4, 5), keep_state=True)
    model(torch.zeros(2, 3, dtype=torch.int64))
    kept = model.state
    generate(model, vocab, "ab", 3, generator=generator())
    assert model.training
    assert model.state is kept


def test_the_same_generator_draws_the_same_text():
    vocab = CharVocab("abc")
    model = CharModel(len(vocab), nn.GRU(4, 5, batch_first=True))
    one, other = (generate(model, vocab, "ab", 20, generator=generator(3)) for _ in range(2))
    assert one == other


# Features


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("in quotes", 'a "bc" d', "00111000"),
        ("in quotes", '"a\n\nb" c', "11100111"),
        ("in brackets", "a(b)c)(", "0110001"),
        ("in brackets", "((a))b", "111000"),
        ("line position", "ab\n\ncd\n", "1200120"),
        ("word position", "ab c-de", "1201012"),
    ],
)
def test_features_follow_the_text(name, text, expected):
    assert "".join(f"{value:.0f}" for value in TEXT_FEATURES[name](text)) == expected


@given(st.text(alphabet='ab"()\n ', min_size=1, max_size=40), st.integers(1, 40))
def test_a_feature_depends_on_nothing_that_comes_later(text, cut):
    whole, begin = text_features(text), text_features(text[:cut])
    for name in TEXT_FEATURES:
        assert torch.equal(whole[name][:cut], begin[name])
        assert whole[name].dtype == torch.float32


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CharVocab(""), "text must hold at least one character, but it is empty."),
        (
            lambda: CharVocab("abc").encode("abxc"),
            "text must hold only the 3 characters of the vocabulary, but at position 2 it holds "
            "'x'.",
        ),
        (
            lambda: CharVocab("abc").decode([0, 3]),
            "codes must be whole numbers from 0 to 2, but one is 3.",
        ),
        (
            lambda: CharVocab("abc").decode(torch.tensor([-1])),
            "codes must be whole numbers from 0 to 2, but one is -1.",
        ),
        (
            lambda: CharVocab("abc").decode(torch.tensor([0.5])),
            "codes must be whole numbers from 0 to 2, but one is 0.5.",
        ),
        (
            lambda: CharVocab("abc").decode(torch.zeros(1, 2, dtype=torch.int64)),
            "codes must be whole numbers from 0 to 2, but one is [0, 0].",
        ),
        (
            lambda: windows(CharVocab("a").encode(""), 3),
            "codes must hold at least 4 characters, a window of 3 and the one that follows, but "
            "it holds 0.",
        ),
        (
            lambda: windows(torch.zeros(2, 9), 3),
            "codes must be a tensor of shape (n,), but it is of shape (2, 9).",
        ),
        (
            lambda: sequences("a text", 3),
            "codes must be a tensor of shape (n,), but it is 'a text'.",
        ),
        (
            lambda: streams(torch.tensor(3), 1, 1),
            "codes must be a tensor of shape (n,), but it is of shape ().",
        ),
        (
            lambda: split_tail([1, 2, 3], 0.5),
            "codes must be a tensor of shape (n,), but it is [1, 2, 3].",
        ),
        (
            lambda: windows(torch.arange(8), 8),
            "codes must hold at least 9 characters, a window of 8 and the one that follows, but "
            "it holds 8.",
        ),
        (
            lambda: sequences(torch.arange(3), 8),
            "codes must hold at least 9 characters, a window of 8 and the one that follows, but "
            "it holds 3.",
        ),
        (
            lambda: streams(torch.arange(24), 3, 8),
            "codes must hold at least 25 characters, 3 runs of 8 and the one that follows, but it "
            "holds 24.",
        ),
        (
            lambda: windows(torch.arange(9), 0),
            "size must be a whole number of at least 1, but it is 0.",
        ),
        (
            lambda: windows(torch.arange(9), 2, 0),
            "step must be a whole number of at least 1, but it is 0.",
        ),
        (
            lambda: streams(torch.arange(9), 0, 2),
            "batch_size must be a whole number of at least 1, but it is 0.",
        ),
        (
            lambda: split_tail(torch.arange(9), 1.0),
            "fraction must lie between 0 and 1, but it is 1.0.",
        ),
        (
            lambda: split_tail(torch.arange(9), "0.1"),
            "fraction must lie between 0 and 1, but it is '0.1'.",
        ),
        (
            lambda: split_tail(torch.arange(2), 0.1),
            "codes must be long enough for two non-empty parts, but 2 characters at a fraction of "
            "0.1 leave 2 and 0.",
        ),
        (
            lambda: sequence_loss(torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64)),
            "logits and targets must have shapes (n, time, classes) and (n, time), but they have "
            "(2, 3, 4) and (2, 4).",
        ),
        (
            lambda: sample_next(torch.zeros(1, 3), -1.0),
            "temperature must be at least 0 and finite, but it is -1.0.",
        ),
        (
            lambda: sample_next(torch.zeros(1, 3), math.inf),
            "temperature must be at least 0 and finite, but it is inf.",
        ),
        (
            lambda: sample_next(torch.zeros(1, 3), math.nan),
            "temperature must be at least 0 and finite, but it is nan.",
        ),
        (
            lambda: sample_next(torch.zeros(1, 3), None),
            "temperature must be at least 0 and finite, but it is None.",
        ),
        (
            lambda: sample_next(torch.zeros(3)),
            "logits must have shape (n, classes), but they have shape (3,).",
        ),
        (
            lambda: sample_next(torch.tensor([[0.0, math.nan]])),
            "logits must be numbers, but NaN is among them: has the model diverged?",
        ),
        (
            lambda: sample_next(torch.zeros(1, 3), top_k=0),
            "top_k must be a whole number from 1 to 3, but it is 0.",
        ),
        (
            lambda: sample_next(torch.zeros(1, 3), top_k=4),
            "top_k must be a whole number from 1 to 3, but it is 4.",
        ),
        (
            lambda: generate(CharModel(3, GRU(2, 2)), CharVocab("abc"), "", 3),
            "prompt must hold at least one character, but it is empty.",
        ),
        (
            lambda: generate(CharModel(3, GRU(2, 2)), CharVocab("abc"), "a", -1),
            "length must be a whole number of at least 0, but it is -1.",
        ),
        (
            lambda: generate(CharModel(3, GRU(2, 2)), CharVocab("abc"), "d", 3),
            "text must hold only the 3 characters of the vocabulary, but at position 0 it holds "
            "'d'.",
        ),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    "call", [CharVocab, CharVocab("abc").encode, text_features], ids=["vocab", "encode", "features"]
)
def test_what_is_no_string_is_refused(call):
    with pytest.raises(TypeError, match=r"^text must be a string, but it is a list\.$"):
        call(["ab", "c"])
