"""`glassbox.rnn`: cells and layers against PyTorch, with gradients; state, clipping, units."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassbox.data import DataLoader, DataLoaders
from glassbox.learner import Learner
from glassbox.rnn import (
    GRU,
    LSTM,
    RNN,
    CharModel,
    ClipGradient,
    GRUCell,
    LSTMCell,
    ResetState,
    RNNCell,
    clip_gradient,
    detached,
    hidden_states,
    unit_correlations,
)
from glassbox.text import sequence_loss, streams

KINDS = {"RNN": (RNN, nn.RNN), "GRU": (GRU, nn.GRU), "LSTM": (LSTM, nn.LSTM)}
CELLS = {
    "RNN": (RNNCell, nn.RNNCell),
    "GRU": (GRUCell, nn.GRUCell),
    "LSTM": (LSTMCell, nn.LSTMCell),
}
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
SIZES = st.integers(1, 5)


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def parts(state):
    return (state,) if isinstance(state, torch.Tensor) else tuple(state)


def same_weights(ours, theirs):
    """Give PyTorch's module the numbers of ours: the parameters come in the same order."""
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    with torch.no_grad():
        for p, q in pairs:
            q.copy_(p)
    return pairs


def a_state(kind, shape, seed, *, grad=False):
    both = [rand(*shape, seed=seed + i).requires_grad_(grad) for i in range(2)]
    return tuple(both) if kind == "LSTM" else both[0]


# Equal to PyTorch's


@pytest.mark.parametrize("kind", KINDS)
@given(SIZES, SIZES, SIZES, st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_a_cell_equals_torchs_in_value_and_gradient(kind, n, inputs, hidden, seed):
    torch.manual_seed(seed)
    ours, theirs = (make(inputs, hidden).double() for make in CELLS[kind])
    pairs = same_weights(ours, theirs)
    x = rand(n, inputs, seed=seed).requires_grad_()
    found = parts(ours(x, a_state(kind, (n, hidden), seed)))
    expected = parts(theirs(x, a_state(kind, (n, hidden), seed)))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    weights = [rand(n, hidden, seed=seed + 7 + i) for i in range(len(found))]
    gradients = [
        torch.autograd.grad(
            sum((w * s).sum() for w, s in zip(weights, states, strict=True)), [x, *params]
        )
        for states, params in (
            (found, [p for p, _ in pairs]),
            (expected, [q for _, q in pairs]),
        )
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@given(
    n=SIZES,
    time=st.integers(1, 7),
    inputs=SIZES,
    hidden=SIZES,
    layers=st.integers(1, 3),
    dropout=st.sampled_from([0.0, 0.5]),
    with_state=st.booleans(),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=30)
@pytest.mark.filterwarnings("ignore:dropout option adds dropout")
def test_layers_equal_torchs_in_value_and_gradient_also_with_dropout(
    kind, n, time, inputs, hidden, layers, dropout, with_state, seed
):
    torch.manual_seed(seed)
    ours = KINDS[kind][0](inputs, hidden, layers, dropout).double()
    theirs = KINDS[kind][1](inputs, hidden, layers, dropout=dropout, batch_first=True).double()
    pairs = same_weights(ours, theirs)
    x = rand(n, time, inputs, seed=seed).requires_grad_()
    state = a_state(kind, (layers, n, hidden), seed, grad=True) if with_state else None
    results = []
    for model, params in ((ours, [p for p, _ in pairs]), (theirs, [q for _, q in pairs])):
        torch.manual_seed(seed)  # the same mask
        outputs, last = model(x, state)
        total = (rand(n, time, hidden, seed=seed + 3) * outputs).sum()
        total = total + sum(part.sum() for part in parts(last))
        wanted = [x, *params, *(parts(state) if with_state else ())]
        results.append((outputs, *parts(last), *torch.autograd.grad(total, wanted)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_start_from_the_same_numbers_after_the_same_seed(kind):
    ours, theirs = KINDS[kind]
    torch.manual_seed(3)
    first = ours(5, 7, 2)
    torch.manual_seed(3)
    second = theirs(5, 7, 2)
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_between_layers_is_off_in_evaluation_and_spares_the_last_layer(kind):
    torch.manual_seed(0)
    model, x = KINDS[kind][0](3, 40, 2, dropout=0.5), rand(4, 6, 3, dtype=torch.float32)
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])
    model.train()
    assert not torch.equal(model(x)[0], model(x)[0])
    assert bool((model(x)[0] != 0).all())  # nothing of the outputs themselves was dropped


# Time and state


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(1, 6), st.integers(1, 6))
@settings(deadline=None, max_examples=15)
def test_reading_in_two_parts_with_the_state_equals_reading_at_once(kind, first, second):
    torch.manual_seed(0)
    model, x = KINDS[kind][0](3, 4, 2).double(), rand(2, first + second, 3)
    whole, last = model(x)
    begin, state = model(x[:, :first])
    end, also_last = model(x[:, first:], state)
    torch.testing.assert_close(torch.cat([begin, end], 1), whole, **CLOSE)
    for a, b in zip(parts(last), parts(also_last), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_no_output_depends_on_a_later_input(kind):
    x = rand(1, 5, 3).requires_grad_()
    outputs, _ = KINDS[kind][0](3, 4).double()(x)
    for t in range(5):
        (gradient,) = torch.autograd.grad(outputs[0, t].sum(), x, retain_graph=True)
        assert bool((gradient[0, t + 1 :] == 0).all())
        assert bool((gradient[0, : t + 1] != 0).any(1).all())


def char_model(kind="GRU", keep_state=True, n_chars=6, hidden=5):
    torch.manual_seed(0)
    return CharModel(n_chars, KINDS[kind][0](3, hidden), keep_state=keep_state)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_state_makes_batches_equal_to_one_long_text(kind):
    codes = torch.randint(0, 6, (1, 12), generator=torch.Generator().manual_seed(0))
    model = char_model(kind)
    in_batches = torch.cat([model(codes[:, :5]), model(codes[:, 5:8]), model(codes[:, 8:])], 1)
    at_once, _ = model.step(codes)
    torch.testing.assert_close(in_batches, at_once)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kept_state_is_cut_off_from_its_history(kind):
    model, codes = char_model(kind), torch.zeros(2, 4, dtype=torch.int64)
    model(codes)
    assert all(part.grad_fn is None and not part.requires_grad for part in parts(model.state))
    for _ in range(3):  # a second backward pass through the first batch would raise
        model(codes).sum().backward()


def test_without_keep_state_every_batch_begins_with_zeros():
    model, codes = char_model(keep_state=False), torch.zeros(2, 4, dtype=torch.int64)
    assert torch.equal(model(codes), model(codes))
    assert model.state is None


def test_detached_keeps_numbers_and_form():
    h, memory = rand(1, 2, 3).requires_grad_(), rand(1, 2, 3, seed=1).requires_grad_()
    both = detached((h * 1, memory * 1))
    assert isinstance(both, tuple)
    assert torch.equal(both[0], h)
    assert torch.equal(both[1], memory)
    assert not any(part.requires_grad for part in both)
    assert not detached(h * 1).requires_grad


def test_the_state_is_forgotten_before_each_pass_and_after_the_fit():
    codes = torch.randint(0, 6, (200,), generator=torch.Generator().manual_seed(1))
    train, valid = streams(codes, 4, 5), streams(codes, 2, 10)
    dls = DataLoaders(DataLoader(*train, batch_size=4), DataLoader(*valid, batch_size=2))
    model = char_model()
    Learner(model, dls, sequence_loss, lr=0.1, callbacks=[ResetState()]).fit(2)
    assert model.state is None  # and batches of 4 and of 2 did not meet


# Gradients


@given(st.floats(0.01, 20), st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_clipping_equals_torchs(max_norm, seed):
    ours = [rand(3, 2, seed=seed), rand(4, seed=seed + 1)]
    theirs = [p.clone() for p in ours]
    for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        p.grad = rand(*p.shape, seed=seed + 5 + i)
        q.grad = p.grad.clone()
    unused = rand(2)
    norm = clip_gradient([*ours, unused], max_norm)
    expected = nn.utils.clip_grad_norm_(theirs, max_norm)
    torch.testing.assert_close(norm, expected)
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_the_callback_clips_every_training_batch_and_keeps_the_norms():
    codes = torch.randint(0, 6, (200,), generator=torch.Generator().manual_seed(1))
    dls = DataLoaders(DataLoader(*streams(codes, 4, 7), batch_size=4))
    lengths = []

    class Look(ClipGradient):
        order = 1

        def after_backward(self):
            grads = [p.grad for p in self.learn.model.parameters()]
            lengths.append(torch.cat([g.flatten() for g in grads]).norm().item())

    clip = ClipGradient(0.01)
    Learner(char_model(), dls, sequence_loss, lr=0.1, callbacks=[Look(1.0), clip]).fit(1)
    assert len(clip.norms) == len(lengths) == len(dls.train)
    assert max(lengths) <= 0.01 * (1 + 1e-4)
    assert min(norm.item() for norm in clip.norms) > 0.01


# Units


def test_hidden_states_are_those_of_reading_the_text():
    model, codes = char_model(), torch.tensor([0, 3, 1, 5])
    states = hidden_states(model, codes)
    expected, _ = model.rnn(model.embedding(codes[None]))
    assert states.shape == (4, 5)
    torch.testing.assert_close(states, expected[0].detach())
    assert model.state is None


def test_hidden_states_are_read_in_evaluation_mode_and_the_mode_comes_back():
    torch.manual_seed(0)
    model = CharModel(6, GRU(3, 20, 2, dropout=0.5))
    codes = torch.randint(0, 6, (9,))
    assert torch.equal(hidden_states(model, codes), hidden_states(model, codes))
    assert model.training


@given(st.integers(2, 30), st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_unit_correlations_are_pearsons(n, seed):
    states, feature = rand(n, 4, seed=seed), rand(n, seed=seed + 1)
    expected = torch.corrcoef(torch.cat([states, feature[:, None]], 1).T)[-1, :-1]
    torch.testing.assert_close(unit_correlations(states, feature), expected, **CLOSE)


def test_a_unit_that_does_not_vary_correlates_with_nothing():
    states = torch.stack([torch.ones(5), torch.arange(5.0)], 1)
    found = unit_correlations(states, -torch.arange(5.0))
    torch.testing.assert_close(found, torch.tensor([0.0, -1.0]))


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: RNN(3, 4)(rand(2, 5, 2)),
            "x must have shape (n, time, 3) with at least one time step, but it has shape "
            "(2, 5, 2).",
        ),
        (
            lambda: RNN(3, 4)(rand(2, 0, 3)),
            "x must have shape (n, time, 3) with at least one time step, but it has shape "
            "(2, 0, 3).",
        ),
        (
            lambda: GRU(3, 4)(rand(2, 5, 3), rand(1, 3, 4)),
            "state must have shape (1, 2, 4), (layers, batch, hidden), for a batch of 2, but it "
            "has (1, 3, 4).",
        ),
        (
            lambda: LSTM(3, 4)(rand(2, 5, 3), (rand(1, 3, 4), rand(1, 3, 4))),
            "state must have two parts of shape (1, 2, 4), (layers, batch, hidden), for a batch "
            "of 2, but it has (1, 3, 4), (1, 3, 4).",
        ),
        (
            lambda: LSTM(3, 4)(rand(2, 5, 3), rand(1, 2, 4)),
            "state must have two parts of shape (1, 2, 4), (layers, batch, hidden), for a batch "
            "of 2, but it has (1, 2, 4).",
        ),
        (
            lambda: GRU(3, 4)(rand(2, 5, 3), 7),
            "state must have shape (1, 2, 4), (layers, batch, hidden), for a batch of 2, but it "
            "has int.",
        ),
        (
            lambda: LSTM(3, 4)(rand(2, 5, 3), (rand(1, 2, 4), None)),
            "state must have two parts of shape (1, 2, 4), (layers, batch, hidden), for a batch "
            "of 2, but it has (1, 2, 4), NoneType.",
        ),
        (lambda: RNN(0, 4), "input_size must be a whole number of at least 1, but it is 0."),
        (lambda: RNN(3, 0), "hidden_size must be a whole number of at least 1, but it is 0."),
        (lambda: RNN(3, 4, 0), "num_layers must be a whole number of at least 1, but it is 0."),
        (
            lambda: RNN(3, 4, 2, 1.0),
            "dropout must be at least 0 and less than 1, but it is 1.0.",
        ),
        (
            lambda: CharModel(0, RNN(3, 4)),
            "vocab_size must be a whole number of at least 1, but it is 0.",
        ),
        (
            lambda: RNN(3, 4, 2, "a half"),
            "dropout must be at least 0 and less than 1, but it is 'a half'.",
        ),
        (
            lambda: char_model()(torch.zeros(4, dtype=torch.int64)),
            "x must have shape (n, time), but it has shape (4,).",
        ),
        (
            lambda: char_model()(torch.tensor([[0, 6, 2]])),
            "x must hold codes from 0 to 5, but they go from 0 to 6.",
        ),
        (
            lambda: hidden_states(char_model(), torch.zeros(0, dtype=torch.int64)),
            "codes must have shape (n,) with at least one character, but they have shape (0,).",
        ),
        (lambda: clip_gradient([], 0.0), "max_norm must be positive, but it is 0.0."),
        (
            lambda: clip_gradient([rand(2)], 1.0),
            "parameters must hold one with a gradient, but none has one.",
        ),
        (
            lambda: unit_correlations(rand(5, 2), rand(4)),
            "states and feature must have shapes (n, hidden_size) and (n,), but they have (5, 2) "
            "and (4,).",
        ),
        (
            lambda: unit_correlations(rand(5, 2), torch.ones(5)),
            "feature must vary, but it is the same for every character.",
        ),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize("kind", [*KINDS, "torch's LSTM"])
def test_a_kept_state_of_another_batch_size_is_refused(kind):
    recurrent = KINDS[kind][0](3, 5) if kind in KINDS else nn.LSTM(3, 5, batch_first=True)
    model = CharModel(6, recurrent, keep_state=True)
    model(torch.zeros(3, 4, dtype=torch.int64))
    message = (
        "x must be a batch of 3, as the state that is kept, but it is one of 2; call reset() "
        "where the text begins anew."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        model(torch.zeros(2, 4, dtype=torch.int64))
    model.reset()
    assert model(torch.zeros(2, 4, dtype=torch.int64)).shape == (2, 4, 6)
