"""Checks of the exercises on recurrent networks."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lectern import expect

exercise = pytest.mark.exercise


def spread_out(rng, *shape):
    """Return weights large enough that every mistake shows."""
    return rng.normal(*shape) * 0.8


def parts_of(got, names, of):
    """Return what came back, if it is a pair."""
    expect.true(
        isinstance(got, tuple | list) and len(got) == 2,
        f"{of} should return a pair, {names}, but it returned {type(got).__name__}.",
    )
    return got


# Counting pairs


def pair_counts(train, n_chars):
    counts = torch.zeros(n_chars, n_chars, dtype=torch.float64)
    for a, b in zip(train.tolist(), train[1:].tolist(), strict=False):
        counts[a, b] += 1
    return counts


def by_counting(share):
    def loss(train, valid, n_chars):
        p = share(pair_counts(train, n_chars))
        return -p[valid[:-1], valid[1:]].log().mean()

    return loss


bigram = by_counting(lambda c: (c + 0.01) / (c + 0.01).sum(1, keepdim=True))
NOT_BIGRAM = {
    "You took the share of all pairs; wanted is the share given the character before.": by_counting(
        lambda c: (c + 0.01) / (c + 0.01).sum()
    ),
    "You predict from the character after: the counts of one row belong together.": by_counting(
        lambda c: (c + 0.01) / (c + 0.01).sum(0)
    ),
    "That is in bits; nats are asked for.": lambda *args: bigram(*args) / math.log(2),
    "The probabilities after a character no longer add up to 1: the 0.01 that was added above "
    "belongs below, too.": by_counting(
        lambda c: (c + 0.01) / c.sum(1, keepdim=True).clamp(min=0.01)
    ),
}
UNSMOOTHED = {
    "Without the 0.01, what was never counted has the probability 0 and an infinite loss (or, "
    "after what never occurred, 0 / 0).": by_counting(lambda c: c / c.sum(1, keepdim=True))
}


@exercise("bigram_loss", points=1)
def test_pairs_that_occur(student, rng):
    def draw():
        train = torch.cat([torch.tensor([0, 0, 1, 1, 2, 2, 0, 2, 1, 0]), rng.integers(0, 3, 8)])
        return train, rng.integers(0, 3, 7), 3

    args = rng.telling(draw, bigram, *NOT_BIGRAM.values(), margin=1e-3)
    expect.agrees(student, "bigram_loss", *args, right=bigram, wrong=NOT_BIGRAM)


@exercise("bigram_loss", points=1)
def test_pairs_that_were_never_counted(student, rng):
    wrong = {**UNSMOOTHED, **NOT_BIGRAM}

    def draw():
        return rng.integers(0, 3, 9), torch.cat([rng.integers(0, 4, 5), torch.tensor([3, 1])]), 4

    args = rng.telling(draw, bigram, *wrong.values())
    expect.agrees(student, "bigram_loss", *args, right=bigram, wrong=wrong)


# A recurrent layer


def rnn_weights(rng, n_in, n_hidden):
    return {
        "weight_ih_l0": spread_out(rng, n_hidden, n_in),
        "weight_hh_l0": spread_out(rng, n_hidden, n_hidden),
        "bias_ih_l0": spread_out(rng, n_hidden),
        "bias_hh_l0": spread_out(rng, n_hidden),
    }


def run_rnn(weights, x, h, *, cut=False, biases=("bias_ih_l0", "bias_hh_l0")):
    outputs, h = [], h[0]
    for step in x.unbind(1):
        h = h.detach() if cut else h
        h = torch.tanh(
            step @ weights["weight_ih_l0"].T
            + h @ weights["weight_hh_l0"].T
            + sum(weights[name] for name in biases)
        )
        outputs.append(h)
    return torch.stack(outputs, 1), h[None]


def wrong_outputs(weights, x, h):
    """Return the outputs and last states that plausible mistakes give, by what to say of them."""
    zeros = torch.zeros_like(h)
    return {
        "Your RNN began with zeros, not with the state that it was given.": run_rnn(
            weights, x, zeros
        ),
        "One of the biases is not added: bias_hh_l0 is missing.": run_rnn(
            weights, x, h, biases=["bias_ih_l0"]
        ),
        "One of the biases is not added: bias_ih_l0 is missing.": run_rnn(
            weights, x, h, biases=["bias_hh_l0"]
        ),
        "Your RNN loops over the batch: time is dimension 1 of x.": run_rnn(
            weights, x.transpose(0, 1), h
        ),
    }


@exercise("MyRNN", points=0.5)
@pytest.mark.parametrize("given", [False, True])
def test_the_states_of_every_step(student, rng, given):
    weights, x = rnn_weights(rng, 2, 2), rng.normal(2, 2, 2).round(decimals=1)
    h = rng.normal(1, 2, 2).round(decimals=1) if given else torch.zeros(1, 2, 2)
    call = "rnn(x, h)" if given else "rnn(x)"
    code = f"rnn = MyRNN(2, 2)\nrnn.load_state_dict(weights)\ngot = {call}"
    got = student.run(code, ["got"], weights=weights, x=x, h=h)["got"]
    outputs, last = parts_of(got, "the outputs and the last state", call)
    right, wrong = run_rnn(weights, x, h), wrong_outputs(weights, x, h)
    if not given:
        wrong.pop("Your RNN began with zeros, not with the state that it was given.")
    first, second = ({text: pair[i] for text, pair in wrong.items()} for i in (0, 1))
    expect.close(outputs, right[0], of=f"The outputs of {call}", rtol=1e-3, unless=first)
    expect.close(last, right[1], of=f"The last state of {call}", rtol=1e-3, unless=second)


CUT_OFF = "The gradient does not flow back through time: the state was cut off on its way."


@exercise("MyRNN", points=1)
def test_the_gradients(student, rng):
    weights, x, h = rnn_weights(rng, 2, 3), rng.normal(2, 4, 2), rng.normal(1, 2, 3)
    factor = rng.normal(2, 4, 3)
    code = """
rnn = MyRNN(2, 3)
rnn.load_state_dict(weights)
(rnn(x, h)[0] * factor).sum().backward()
got = {name: None if p.grad is None else p.grad for name, p in rnn.named_parameters()}
"""
    got = student.run(code, ["got"], weights=weights, x=x, h=h, factor=factor)["got"]
    expect.true(
        isinstance(got, dict) and set(got) == set(weights),
        f"The parameters of MyRNN(2, 3) should be {', '.join(weights)}.",
    )

    def gradients(h=h, **options):
        own = {name: w.clone().requires_grad_() for name, w in weights.items()}
        total = (run_rnn(own, x, h, **options)[0] * factor).sum()
        grads = torch.autograd.grad(total, list(own.values()), materialize_grads=True)
        return dict(zip(own, grads, strict=True))

    right = gradients()
    wrong = {
        CUT_OFF: gradients(cut=True),
        "Your RNN began with zeros, not with the state that it was given.": gradients(h * 0),
        "In the outputs, bias_hh_l0 is missing.": gradients(biases=["bias_ih_l0"]),
        "In the outputs, bias_ih_l0 is missing.": gradients(biases=["bias_hh_l0"]),
    }
    for name in weights:
        expect.true(
            got[name] is not None,
            f"{name} should get a gradient, but it gets none. Either it takes no part in the "
            "outputs, or a tensor was cut off from its history.",
        )
        unless = {say: grads[name] for say, grads in wrong.items()}
        of = f"The gradient of {name}"
        expect.close(got[name], right[name], of=of, rtol=1e-3, atol=1e-5, unless=unless)


@exercise("MyRNN", points=1)
def test_the_start(student):
    code = "start = {name: p for name, p in MyRNN(40, 64).named_parameters()}"
    start = student.run(code, ["start"])["start"]
    shapes = {name: tuple(p.shape) for name, p in nn.RNN(40, 64).named_parameters()}
    found = {name: tuple(getattr(p, "shape", ())) for name, p in dict(start).items()}
    expect.true(
        found == shapes,
        f"The parameters of MyRNN(40, 64) should have the shapes {shapes}, but they have {found}.",
    )
    for name, p in start.items():
        largest, middle = p.abs().max().item(), p.abs().mean().item()
        expect.true(
            0.08 < largest <= 0.1251 and 0.045 < middle < 0.08,
            f"{name} of MyRNN(40, 64) should start uniformly between ±1/√hidden = ±0.125, with a "
            f"mean size of about 0.0625, but its largest entry has the size {largest:.3f}, and the "
            f"mean size is {middle:.4f}.",
        )


# Streams


def streams(codes, rows, size):
    batches = (len(codes) - 1) // (rows * size)
    used = batches * rows * size
    return [
        part.view(rows, batches, size).transpose(0, 1).reshape(-1, size)
        for part in (codes[:used], codes[1 : used + 1])
    ]


@exercise("make_streams", points=1)
@pytest.mark.parametrize("what", ["inputs", "targets"])
def test_the_order_of_the_runs(student, rng, what):
    rows, batches, size = rng.integer(2, 4), rng.integer(2, 4), rng.integer(2, 4)
    codes = rng.permutation(40)[: rows * batches * size + 1 + rng.integer(0, 2)]
    of = f"The {what} of make_streams({codes.tolist()}, {rows}, {size})"
    got = student.call("make_streams", codes, rows, size)
    got = parts_of(got, "inputs and targets", "make_streams")[what == "targets"]
    right = streams(codes, rows, size)[what == "targets"]
    first = streams(codes, rows, size)[0]
    used, later = rows * batches * size, int(what == "targets")
    unless = {
        "The runs come row after row, as they stand in the text. In a batch, each row reads a "
        "piece of its own.": codes[later : used + later].view(-1, size),
        "The characters are dealt out in turn; in a run they stand one after the other, as in the "
        "text.": codes[later : used + later]
        .view(batches, size, rows)
        .transpose(1, 2)
        .reshape(-1, size),
    }
    if later:
        unless["The last target of a run is the first character of its own run; it should be the "
               "character that comes next in the text."] = first.roll(-1, 1)  # fmt: skip
        unless["The targets are the inputs; they should be one character later."] = first
    expect.close(got, right, of=of, unless=unless)


@exercise("make_streams", points=1)
def test_the_rest_and_texts_that_are_too_short(student, rng):
    rows, size = rng.integer(2, 4), rng.integer(2, 5)
    codes = rng.permutation(60)[: 3 * rows * size]
    got = student.call("make_streams", codes, rows, size)
    got = parts_of(got, "inputs and targets", "make_streams")
    shapes = [tuple(getattr(part, "shape", ())) for part in got]
    expect.true(
        shapes == [(2 * rows, size)] * 2,
        f"Of {len(codes)} characters, {rows} pieces and runs of {size} there are 2 batches, since "
        f"a third would lack its last target: inputs and targets should have shape "
        f"{(2 * rows, size)}, but they have {shapes}.",
    )
    for part, right, what in zip(
        got, streams(codes, rows, size), ("inputs", "targets"), strict=True
    ):
        of = f"The {what} of make_streams({codes.tolist()}, {rows}, {size})"
        expect.close(part, right, of=of)
    expect.raises(
        student, "make_streams", codes[: rows * size], rows, size, kind="ValueError",
        because="as there is not enough text for one batch with its last target",
    )  # fmt: skip


# A training loop


class TinyCharModel(nn.Module):
    """The notebook's model."""

    def __init__(self, n_chars, n_hidden, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(n_chars, 4)
        self.rnn = nn.RNN(4, n_hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(n_hidden, n_chars)

    def step(self, x, state=None):
        outputs, state = self.rnn(self.embedding(x), state)
        return self.linear(self.dropout(outputs)), state

    def forward(self, x):
        return self.step(x)[0]


def model_weights(rng, n_chars, n_hidden):
    empty = TinyCharModel(n_chars, n_hidden).state_dict()
    return {name: spread_out(rng, *w.shape) for name, w in empty.items()}


def model_of(weights):
    n_chars, n_hidden = weights["linear.weight"].shape
    model = TinyCharModel(n_chars, n_hidden)
    model.load_state_dict(weights)
    return model


NEXT, BEFORE, SAME = ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1)),
                      (slice(None, -1), slice(None, -1)))  # fmt: skip


def replayed(weights, chunks, lr, *, way=NEXT, keep=True, passes=1):
    """Return the losses of the last pass, and the weights of the linear layer after it."""
    model, state = model_of(weights), None
    for i in range(passes):
        losses, state = [], state if i and keep == "always" else None
        for chunk in chunks:
            logits, state = model.step(chunk[:, way[0]], state if keep else None)
            state = state.detach()
            loss = F.cross_entropy(logits.flatten(0, 1), chunk[:, way[1]].flatten())
            grads = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for p, grad in zip(model.parameters(), grads, strict=True):
                    p -= lr * grad
            losses.append(loss.item())
    return losses, model.linear.weight.detach()


TRAIN = """
model = TinyCharModel(*weights["linear.weight"].shape)
model.load_state_dict(weights)
for _ in range(passes):
    losses = train_on_stream(model, chunks, lr)
after = model.linear.weight
"""
FAULTS = {
    "The targets are the inputs: your model is to predict the character that was just read.": dict(
        way=SAME
    ),
    "Your model reads a character and predicts the character before it, which it has read, too. "
    "The inputs come first in the text.": dict(way=BEFORE),
    "The targets are the inputs, and every batch begins with zeros.": dict(way=SAME, keep=False),
    "Your model predicts the character before the one that it reads (which of inputs and targets "
    "come first in the text?), and every batch begins with zeros.": dict(way=BEFORE, keep=False),
    "The state is not kept: every batch begins with zeros.": dict(keep=False),
    "The state of one call goes on into the next call; a new pass begins with zeros.": dict(
        keep="always"
    ),
}


def check_training(student, rng, batches, lr, passes=1):
    weights = model_weights(rng, 4, 3)
    pieces = rng.integers(0, 4, 2, 3 * batches + 1)
    chunks = pieces.unfold(1, 4, 3).transpose(0, 1).contiguous()
    inputs = dict(weights=weights, chunks=chunks, lr=lr, passes=passes)
    got = student.run(TRAIN, ["losses", "after"], **inputs)
    right = replayed(weights, chunks, lr, passes=passes)
    wrong = {
        say: replayed(weights, chunks, lr, passes=passes, **how)
        for say, how in FAULTS.items()
        if batches > 1 or how.get("keep", True) is True
    }
    call = f"train_on_stream(model, {chunks.tolist()}, {lr})"
    of = f"What {call} returns{', the second time,' if passes > 1 else ''}"
    for part, name, index in ((of, "losses", 0), ("linear.weight afterwards", "after", 1)):
        unless = {say: pair[index] for say, pair in wrong.items()}
        expect.close(got[name], right[index], of=part, rtol=1e-3, atol=1e-5, unless=unless)


@exercise("train_on_stream", points=1)
def test_one_batch(student, rng):
    check_training(student, rng, 1, 0.5)


@exercise("train_on_stream", points=1)
def test_the_losses_of_several_batches(student, rng):
    check_training(student, rng, 3, 0.0)


@exercise("train_on_stream", points=1)
def test_the_steps_of_several_batches(student, rng):
    check_training(student, rng, 4, 0.5)


@exercise("train_on_stream", points=1)
def test_a_second_call(student, rng):
    check_training(student, rng, 2, 0.1, passes=2)


# Nucleus sampling

DRAW = "drawn = nucleus(logits, p, torch.Generator().manual_seed(seed))"


def five_classes(rng):
    """Return five probabilities in random order; sums from the largest: about .45, .7, .85, .95."""
    p = torch.tensor([0.45, 0.25, 0.15, 0.1, 0.05]) + rng.uniform(-0.01, 0.01, 5)
    return (p / p.sum())[rng.permutation(5)]


def in_nucleus(probabilities, p):
    likeliest, order = probabilities.sort(descending=True)
    return order[: int((likeliest.cumsum(0) - likeliest < p).sum())]


def draws(student, rng, probabilities, p):
    """Return the classes drawn for rows of given probabilities, checked for their form."""
    logits = probabilities.log() + rng.normal(len(probabilities), 1)
    got = student.run(DRAW, ["drawn"], logits=logits, p=p, seed=rng.integer(0, 10**6))["drawn"]
    got = torch.as_tensor(got) if isinstance(got, np.ndarray | list) else got
    whole = isinstance(got, torch.Tensor) and not got.is_floating_point()
    n = len(logits)
    expect.true(
        whole and got.shape == (n,) and 0 <= int(got.min()) <= int(got.max()) < logits.shape[1],
        f"nucleus should return the numbers of {n} classes for logits of shape "
        f"{tuple(logits.shape)}, int64 of shape {(n,)}.",
    )
    return got.long()


def expect_drawn(got, probabilities, p):
    """Expect of many draws that they come from the nucleus, all of it, in proportion."""
    allowed = in_nucleus(probabilities, p)
    case = f"probabilities {[round(v, 3) for v in probabilities.tolist()]} and p = {p}"
    share = torch.bincount(got, minlength=5) / len(got)
    found = set(got.unique().tolist())
    k, ranks = len(allowed), set(range(len(allowed)))
    because = ""
    if found == ranks:
        because = " Are these ranks among the sorted classes? Look up which class has the rank."
    elif found == set((probabilities >= p).nonzero()[:, 0].tolist()) | {int(allowed[0])}:
        because = " p is to be reached by the sum of the classes, not by each by itself."
    elif found < set(allowed.tolist()):
        because = " The class with which the sum reaches p belongs to the nucleus."
    expect.true(
        found == set(allowed.tolist()),
        f"For {case}, the classes {sorted(allowed.tolist())} should be drawn, but "
        f"{sorted(found)} were.{because}",
    )
    wanted = probabilities[allowed] / probabilities[allowed].sum()
    margin = 5 * (wanted * (1 - wanted) / len(got)).sqrt() + 1e-3
    alike = " They come equally often." if (share[allowed] - 1 / k).abs().max() < 0.05 else ""
    expect.true(
        bool(((share[allowed] - wanted).abs() < margin).all()),
        f"For {case}, the classes {allowed.tolist()} should be drawn with the shares "
        f"{[round(v, 3) for v in wanted.tolist()]}, but came with "
        f"{[round(v, 3) for v in share[allowed].tolist()]}.{alike}",
    )


@exercise("nucleus", points=1)
def test_the_classes_that_reach_p(student, rng):
    probabilities, p = five_classes(rng), 0.8
    while set(in_nucleus(probabilities, p).tolist()) == {0, 1, 2}:  # ranks would look right
        probabilities = five_classes(rng)
    expect_drawn(draws(student, rng, probabilities.expand(3000, 5), p), probabilities, p)


@exercise("nucleus", points=0.5)
@pytest.mark.parametrize("p", [0.2, 1.0])
def test_the_likeliest_alone_and_everything(student, rng, p):
    probabilities = five_classes(rng)
    while int(probabilities.argmax()) == 0:  # or the first rank would look right
        probabilities = five_classes(rng)
    expect_drawn(draws(student, rng, probabilities.expand(3000, 5), p), probabilities, p)


@exercise("nucleus", points=0.5)
def test_each_row_has_a_nucleus_of_its_own(student, rng):
    order = rng.permutation(5)
    flat = torch.tensor([0.24, 0.22, 0.2, 0.18, 0.16])[order]
    steep = torch.tensor([0.05, 0.9, 0.02, 0.02, 0.01])[order]
    rows = torch.stack([flat, steep]) if rng.integer(0, 2) else torch.stack([steep, flat])
    shown = " and ".join(str([round(v, 2) for v in row.tolist()]) for row in rows)
    got = draws(student, rng, rows.repeat(600, 1), 0.75)
    for i, row in enumerate(rows):
        allowed, found = (sorted(v.tolist()) for v in (in_nucleus(row, 0.75), got[i::2].unique()))
        expect.true(
            allowed == found,
            f"Each row has a nucleus of its own. For rows {shown} in turn and p = 0.75, of "
            f"row {i}, the classes {allowed} should be drawn, but {found} were.",
        )


@exercise("nucleus", points=0.5)
def test_what_is_random_comes_from_the_generator(student, rng):
    code = """
results = []
for seed in (first, first, second):
    torch.manual_seed(len(results))
    results.append(nucleus(logits, 0.9, torch.Generator().manual_seed(seed)))
alone = nucleus(logits, 0.9)
"""
    seeds = rng.permutation(1000)[:2].tolist()
    inputs = dict(logits=rng.normal(60, 5), first=seeds[0], second=seeds[1])
    one, again, other = student.run(code, ["results"], **inputs)["results"]
    expect.true(
        np.array_equal(np.asarray(one), np.asarray(again)),
        "60 draws with the same generator, in the same state, should be the same twice, but they "
        "differ: something random does not come from the generator.",
    )
    expect.true(
        not np.array_equal(np.asarray(one), np.asarray(other)),
        "60 draws with two different generators should not all be the same, but they are.",
    )


# A gated recurrent unit


def run_gru(x, h, weights, *, order=(0, 1, 2), mix=None, new=None, pass_on=True):
    """Return outputs and last state; the options are what mistakes do."""
    w_ih, w_hh, b_ih, b_hh = weights
    outputs, begin = [], h
    for step in x.unbind(1):
        h = h if pass_on else begin
        of_x, of_h = (
            [part.chunk(3, 1)[i] for i in order]
            for part in (step @ w_ih.T + b_ih, h @ w_hh.T + b_hh)
        )
        r, z = (torch.sigmoid(of_x[i] + of_h[i]) for i in (0, 1))
        share = r * of_h[2] if new is None else new(r, h, w_hh.chunk(3)[2], b_hh.chunk(3)[2])
        candidate = torch.tanh(of_x[2] + share)
        h = mix(z, candidate, h) if mix else (1 - z) * candidate + z * h
        outputs.append(h)
    return torch.stack(outputs, 1), h


NOT_GRU = {
    "The update gate says how much of the old state stays, not how much is new.": dict(
        mix=lambda z, new, old: z * new + (1 - z) * old
    ),
    "The gates are exchanged: the rows of the reset gate come first.": dict(order=(1, 0, 2)),
    "The reset gate multiplies the state's share after the product, not the state before it.": dict(
        new=lambda r, h, w, b: (r * h) @ w.T + b
    ),
    "The reset gate multiplies the state's share of the candidate with its bias in it.": dict(
        new=lambda r, h, w, b: r * (h @ w.T) + b
    ),
    "The reset gate multiplies nothing.": dict(new=lambda r, h, w, b: h @ w.T + b),
    "Each step begins with the state of the step before, not with the given one.": dict(
        pass_on=False
    ),
    "It began with zeros, not with the state that it was given.": dict(zeros=True),
}


@exercise("gru_layer", points=1)
@pytest.mark.parametrize("steps", [1, 3])
def test_the_outputs(student, rng, steps):
    check_gru(student, rng, steps, 0)


@exercise("gru_layer", points=1)
def test_the_last_state(student, rng):
    check_gru(student, rng, 3, 1)


def check_gru(student, rng, steps, which):
    x, h = rng.normal(2, steps, 2).round(decimals=1), rng.normal(2, 2).round(decimals=1)
    weights = [spread_out(rng, *shape) * 1.5 for shape in ((6, 2), (6, 2), (6,), (6,))]
    got = parts_of(student.call("gru_layer", x, h, weights), "outputs and state", "gru_layer")
    module = nn.GRU(2, 2, batch_first=True)
    module.load_state_dict(dict(zip(module.state_dict(), weights, strict=True)))
    right = [part.detach() for part in module(x, h[None])]
    right[1] = right[1][0]
    wrong = {
        say: run_gru(x, torch.zeros_like(h) if "zeros" in how else h, weights,
                     **{k: v for k, v in how.items() if k != "zeros"})[which]
        for say, how in NOT_GRU.items()
    }  # fmt: skip
    if steps == 1:
        wrong.pop("Each step begins with the state of the step before, not with the given one.")
    name = ("The outputs", "The last state")[which]
    of = f"{name} of gru_layer(x, h, weights) for x of shape {tuple(x.shape)}"
    expect.close(got[which], right[which], of=of, rtol=1e-3, atol=1e-5, unless=wrong)


# How far back

REACH = """
model = TinyCharModel(*weights["linear.weight"].shape, dropout=dropout)
model.load_state_dict(weights)
model.train(training)
amount = reach_of_memory(model, codes, distance)
training = model.training
"""


def changes(weights, codes, distance, *, back=1, of=torch.softmax, half=0.5, itself=False):
    """Return the mean change; the options are what mistakes do."""
    model, time = model_of(weights).eval(), codes.shape[1]
    place = distance if back == 0 else (time - back - distance) % time
    n_classes = len(weights["linear.weight"])

    def prediction(codes):
        with torch.no_grad():
            return of(model(codes)[:, -1], -1)

    found = []
    for shift in range(0 if itself else 1, n_classes):
        other = codes.clone()
        other[:, place] = (other[:, place] + shift) % n_classes
        found.append((prediction(other) - prediction(codes)).abs().sum(1).mean() * half)
    return torch.stack(found).mean()


NOT_REACH = {
    "You counted from the beginning; a distance counts from the end.": dict(back=0),
    "That is one character further back: distance 0 is the last character.": dict(back=2),
    "Those are changes of logits; wanted are those of probabilities, not logits.": dict(
        of=lambda logits, dim: logits
    ),
    "Half the sum of the differences is asked for; that is all of it.": dict(half=1.0),
    "You count the character itself among its replacements, which changes nothing.": dict(
        itself=True
    ),
}


def draw_reach(rng, distance):
    """Return weights and codes for which every mistake shows."""
    mistakes = [lambda w, c, how=how: changes(w, c, distance, **how) for how in NOT_REACH.values()]

    def right(weights, codes):
        return changes(weights, codes, distance)

    def draw():
        weights = model_weights(rng, 4, 4)
        weights["rnn.weight_hh_l0"] *= 1.3
        return weights, rng.integers(0, 4, 2, 7)

    return rng.telling(draw, right, *mistakes, margin=1e-3)


def check_reach(got, weights, codes, distance, more=""):
    of = f"reach_of_memory(model, codes, {distance}), for codes {codes.tolist()}{more},"
    unless = {say: changes(weights, codes, distance, **how) for say, how in NOT_REACH.items()}
    right = changes(weights, codes, distance)
    expect.close(got, right, of=of, rtol=1e-3, atol=1e-5, unless=unless)


@exercise("reach_of_memory", points=1)
@pytest.mark.parametrize("distance", [0, 2])
def test_how_much_the_prediction_changes(student, rng, distance):
    weights, codes = draw_reach(rng, distance)
    inputs = dict(weights=weights, codes=codes, distance=distance, dropout=0.0, training=False)
    got = student.run(REACH, ["amount"], **inputs)["amount"]
    check_reach(got, weights, codes, distance)


@exercise("reach_of_memory", points=1)
def test_everything_is_left_as_it_was(student, rng):
    weights, codes = draw_reach(rng, 1)
    inputs = dict(weights=weights, codes=codes, distance=1, dropout=0.5, training=True)
    got = student.run(REACH, ["amount", "training", "codes"], **inputs)
    expect.true(
        isinstance(got["codes"], torch.Tensor) and torch.equal(got["codes"], codes),
        "codes should be as they were after the call, but they were changed: replace characters in "
        "your own copy.",
    )
    expect.true(
        got["training"] is True,
        "A model that was in training mode should be so after the call, but it is in evaluation "
        "mode. Put it back into the mode in which it was.",
    )
    more = ", of a model that was in training mode and has dropout (off, in evaluation mode)"
    check_reach(got["amount"], weights, codes, 1, more)


@exercise("reach_of_memory", points=0.5)
@pytest.mark.parametrize("distance", [6, -1])
def test_there_is_no_character_so_far_back(student, rng, distance):
    code = """
model = TinyCharModel(*weights["linear.weight"].shape).eval()
model.load_state_dict(weights)
"""
    model = student.run(code, ["model"], weights=model_weights(rng, 3, 4))["model"]
    expect.raises(
        student, "reach_of_memory", model, rng.integers(0, 3, 2, 6), distance, kind="ValueError",
        because="since there is no such character in rows of 6",
    )  # fmt: skip


# An experiment


class Language:
    """Invented words, the first of them the most frequent, with a space (code 0) after each."""

    def __init__(self, rng):
        words = set()
        while len(words) < 16:
            words.add((*rng.integers(1, 6, rng.integer(3, 7)).tolist(), 0))
        self.words = [sorted(words)[i] for i in rng.permutation(16).tolist()]
        self.chances = 1 / torch.arange(2.0, 18.0)
        self.rng = rng

    def text(self, size):
        """Return a text of that many codes."""
        generator = self.rng.generator
        drawn = torch.multinomial(self.chances, size // 3, replacement=True, generator=generator)
        return torch.tensor([c for i in drawn.tolist() for c in self.words[i]][:size])

    def loss(self, x, y):
        """Return the loss of somebody who knows all the words."""
        total, known = 0.0, list(zip(self.words, self.chances.tolist(), strict=True))
        for row, target in zip(x.tolist(), y.tolist(), strict=True):
            begun = tuple(row[len(row) - row[::-1].index(0) :])
            n = len(begun)
            possible = [(word[n], chance) for word, chance in known if word[:n] == begun]
            of_target = sum(chance for char, chance in possible if char == target)
            total -= math.log(of_target / sum(chance for _, chance in possible))
        return total / len(y)


def held_out_losses(student, rng):
    """Return the learner's loss, that of counting pairs, and that of who knows the words."""
    language = Language(rng)
    train = language.text(5000)
    pieces = language.text(21 * 800).view(-1, 21)
    x, y = pieces[:, :-1].contiguous(), pieces[:, -1]
    predict = student.call("beat_the_bigram", train, 6, seconds=20)
    logits = student.call(predict, x, seconds=10)
    shape = tuple(getattr(logits, "shape", ()))
    expect.true(
        shape == (800, 6) and isinstance(logits, torch.Tensor | np.ndarray),
        f"predict should return one row for each piece: for x of shape (800, 20), logits of shape "
        f"(800, 6), but it returned {type(logits).__name__} of shape {shape}.",
    )
    logits = torch.as_tensor(logits).double()
    expect.true(not bool(logits.isnan().any()), "predict should return numbers, but some are NaN.")
    loss = F.cross_entropy(logits, y).item()
    expect.true(
        math.isfinite(loss),
        "A character that came had been called impossible (probability 0), so that the loss is "
        "infinite. Leave some probability to everything.",
    )
    p = (pair_counts(train, 6) + 0.01).log()[x[:, -1]]
    sums = logits.sum(1)
    note = ""
    if bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        note = " These look like probabilities: logits or their logarithms are asked for."
    elif F.cross_entropy(logits, x[:, -1]) < loss - 0.5:
        note = " The predictions fit what is being read, not what comes next: look at the targets."
    return loss, F.cross_entropy(p, y).item(), language.loss(x, y), note


@exercise("beat_the_bigram", points=2)
def test_better_than_counting_pairs(student, rng):
    loss, pairs, _, note = held_out_losses(student, rng)
    expect.true(
        loss < pairs - 0.2,
        f"On text that was held out your loss is {loss:.3f} nats. That is no better than counting "
        f"one character back, which gives {pairs:.3f}, or not by 0.2 nats.{note}",
    )


@exercise("beat_the_bigram", points=2)
def test_nearly_as_good_as_knowing_the_words(student, rng):
    loss, pairs, words, note = held_out_losses(student, rng)
    target = pairs - 0.88 * (pairs - words)
    expect.true(
        loss <= target,
        f"On text that was held out your loss is {loss:.3f} nats, part of the way at best: "
        f"counting pairs gives {pairs:.3f}, and knowing all the words would give {words:.3f}. For "
        f"these points it must be {target:.3f} at most.{note}",
    )
