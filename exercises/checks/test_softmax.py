"""Checks of the exercises on softmax."""

import math

import pytest
import torch
import torch.nn.functional as F

from lectern import expect

exercise = pytest.mark.exercise


def gradient(function, x):
    """Return the gradient of the sum of the squares of what a function returns."""
    leaf = x.clone().requires_grad_()
    (function(leaf) ** 2).sum().backward()
    return leaf.grad


def gradient_of(student, name, x, **kwargs):
    """The same of a function of the notebook."""
    code = f"""
leaf = x.clone().requires_grad_()
({name}(leaf, **kwargs) ** 2).sum().backward()
grad = leaf.grad
"""
    return student.run(code, ["grad"], x=x, kwargs=kwargs)["grad"]


def drawn(rng, *shape):
    return rng.uniform(-4, 4, *shape).round(decimals=1) + 0.0


def short(x):
    return 1 / (1 + torch.exp(-x))


def other_form(x):
    return torch.exp(x) / (1 + torch.exp(x))


def by_where(x):
    return torch.where(x >= 0, short(x), other_form(x))


def by_size(x):
    small = torch.exp(-x.abs())
    return torch.where(x >= 0, torch.ones_like(x), small) / (1 + small)


LARGE = "Infinity divided by infinity is NaN: an exponential overflows."


@exercise("sigmoid", points=0.5)
def test_values_of_the_sigmoid(student, rng):
    x = drawn(rng, 2, 3) + 0.05
    expect.agrees(
        student, "sigmoid", x, right=torch.sigmoid,
        wrong={"That falls where the sigmoid rises.": lambda x: torch.sigmoid(-x)},
    )  # fmt: skip


@exercise("sigmoid", points=0.5)
def test_values_of_the_sigmoid_far_out(student, rng):
    x = torch.tensor([-1, 1, -1, 1]) * rng.uniform(150, 900, 4).round()
    expect.agrees(student, "sigmoid", x, right=torch.sigmoid, wrong={LARGE: other_form})


@exercise("sigmoid", points=1)
def test_gradient_of_the_sigmoid(student, rng):
    far = torch.tensor([-1, 1]) * rng.uniform(150, 900, 2).round()
    x = torch.cat([torch.zeros(1), drawn(rng, 1) + 0.05, far])
    wrong = {
        "On the way back, zero meets infinity.": short,
        LARGE: other_form,
        "A branch that torch.where does not choose still has a gradient.": by_where,
        "At 0 the absolute value has no slope, and autograd takes 0 for it.": by_size,
    }
    expect.close(
        gradient_of(student, "sigmoid", x), gradient(torch.sigmoid, x),
        of="the gradient of the sum of sigmoid(x)²", given=x,
        unless={sentence: gradient(f, x) for sentence, f in wrong.items()},
    )  # fmt: skip


OWN = "Each slice needs its own largest activation: that of all makes the others underflow."


@exercise("softmax", points=0.5)
@pytest.mark.parametrize("dim", [1, -1])
def test_probabilities_along(student, rng, dim):
    shape = (3, 3, 3) if dim == 1 else (3, 3)
    expect.agrees(
        student, "softmax", drawn(rng, *shape), dim, right=F.softmax,
        wrong={
            "It still sums along the first dimension.": lambda x, dim: F.softmax(x, 0),
            "It is each slice that sums to 1, not everything.": lambda x, dim: (
                (x - x.amax(dim, keepdim=True)).exp() / (x - x.amax(dim, keepdim=True)).exp().sum()
            ),
        },
    )  # fmt: skip


@exercise("softmax", points=1)
def test_probabilities_of_large_activations(student, rng):
    x = drawn(rng, 3, 3) + torch.tensor([[100.0], [-700.0], [0.0]]) + rng.uniform(0, 99, 1).round()
    expect.agrees(
        student, "softmax", x, rtol=1e-3, right=lambda x: F.softmax(x, -1),
        wrong={
            OWN: lambda x: (x - x.max()).exp() / (x - x.max()).exp().sum(-1, keepdim=True),
            LARGE: lambda x: x.exp() / x.exp().sum(-1, keepdim=True),
        },
    )  # fmt: skip


@exercise("log_softmax", points=0.5)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_logarithms_along(student, rng, dim):
    expect.agrees(
        student, "log_softmax", drawn(rng, 2, 3, 2), dim, right=F.log_softmax,
        wrong={
            "That is along the last dimension, whatever dim is.": lambda x, d: F.log_softmax(x, -1)
        },
    )  # fmt: skip


@exercise("log_softmax", points=1)
def test_logarithms_of_large_activations(student, rng):
    x = drawn(rng, 3, 3) + torch.tensor([[900.0, 500, 0], [-900, -950, -900], [0, 0, 0]])
    expect.agrees(
        student, "log_softmax", x, atol=1e-3, right=lambda x: F.log_softmax(x, -1),
        wrong={
            "The small probability underflows to 0 before its logarithm is taken.": lambda x: (
                F.softmax(x, -1).log()
            ),
            "The exponential overflows. Subtract the largest activation first.": lambda x: (
                x - x.exp().sum(-1, keepdim=True).log()
            ),
            OWN: lambda x: x - x.max() - (x - x.max()).exp().sum(-1, keepdim=True).log(),
        },
    )  # fmt: skip


@exercise("log_softmax", points=0.5)
def test_gradient_of_log_softmax(student, rng):
    x = drawn(rng, 2, 3)
    expect.close(
        gradient_of(student, "log_softmax", x), gradient(lambda x: F.log_softmax(x, -1), x),
        of="the gradient of the sum of log_softmax(x)²", given=x,
    )  # fmt: skip


def mixed_targets(logits, targets, s):
    """Only the wrong classes share the smoothing."""
    logs = F.log_softmax(logits, 1)
    right = logs[torch.arange(len(targets)), targets]
    others = (logs.sum(1) - right) / (logits.shape[1] - 1)
    return -((1 - s) * right + s * others).mean()


def smoothed(logits, targets, s=0.0):
    return F.cross_entropy(logits, targets, label_smoothing=s)


def picked(table, targets, s=0.0):
    """Minus the mean entry of the right class."""
    return -((1 - s) * table[torch.arange(len(targets)), targets] + s * table.mean(1)).mean()


NOT_ENTROPY = {
    "The loss is the mean over the items, not their sum.": lambda x, y, s=0.0: (
        len(y) * smoothed(x, y, s)
    ),
    "There is no logarithm in it.": lambda x, y, s=0.0: picked(F.softmax(x, 1), y, s),
    "The softmax is taken twice.": lambda x, y, s=0.0: smoothed(F.softmax(x, 1), y, s),
    "That pairs every row with every target.": lambda x, y, s=0.0: (
        -((1 - s) * F.log_softmax(x, 1)[:, y].mean() + s * F.log_softmax(x, 1).mean())
    ),
    "That is the log-softmax along the wrong axis.": lambda x, y, s=0.0: picked(
        F.log_softmax(x, 0), y, s
    ),
}


def draw_batch(rng, n=3, classes=4):
    return drawn(rng, n, classes), rng.integers(0, classes, n)


@exercise("cross_entropy", points=1)
def test_without_smoothing(student, rng):
    x, y = rng.telling(lambda: draw_batch(rng), smoothed, *NOT_ENTROPY.values())
    expect.agrees(student, "cross_entropy", x, y, right=smoothed, wrong=NOT_ENTROPY)


@exercise("cross_entropy", points=1)
def test_with_smoothing(student, rng):
    wrong = {
        **NOT_ENTROPY,
        "All classes share the smoothing, the right one too.": mixed_targets,
        "The smoothing is not used.": lambda x, y, s: smoothed(x, y),
    }
    s = rng.integer(2, 5) / 10
    x, y, _ = rng.telling(lambda: (*draw_batch(rng), s), smoothed, *wrong.values())
    expect.agrees(student, "cross_entropy", x, y, s, right=smoothed, wrong=wrong)


@exercise("cross_entropy", points=1)
def test_with_large_activations(student, rng):
    x, _ = draw_batch(rng, 3, 3)
    x = x + torch.tensor([[1000.0, 0, 0], [0, 0, 500], [0, 0, 0]])
    y = torch.tensor([1, 0, 2])
    expect.agrees(
        student, "cross_entropy", x, y, right=smoothed,
        wrong={
            "A probability underflows to 0 before its logarithm is taken.": lambda x, y: picked(
                F.softmax(x, 1).log(), y
            ),
            LARGE: lambda x, y: picked((x.exp() / x.exp().sum(1)).log(), y),
        },
    )  # fmt: skip


@exercise("cross_entropy", points=1)
def test_a_learner_can_use_it(student, rng):
    x, y = draw_batch(rng)
    code = """
leaf = x.clone().requires_grad_()
loss = cross_entropy(leaf, y)
rank = loss.ndim
loss.backward()
grad = leaf.grad
"""
    got = student.run(code, ["rank", "grad"], x=x, y=y)
    expect.true(got["rank"] == 0, "cross_entropy should return a tensor of rank 0.")
    expect.close(
        got["grad"], (F.softmax(x, 1) - F.one_hot(y, 4)) / 3,
        of="the gradient of cross_entropy(logits, targets) for its logits,", given=x,
        unless={
            "That is the gradient of the sum over the items.": F.softmax(x, 1) - F.one_hot(y, 4)
        },
    )  # fmt: skip


def slope(logits, targets):
    return (F.softmax(logits, 1) - F.one_hot(targets, logits.shape[1])) / len(logits)


NOT_SLOPE = {
    "That has the opposite sign: prediction minus truth.": lambda x, y: -slope(x, y),
    "The loss is the mean over the items, so each has only its share.": lambda x, y: (
        len(y) * slope(x, y)
    ),
    "The mean goes over the items, not over their classes.": lambda x, y: slope(x, y) / x.shape[1],
    "The other classes have a gradient, too: they are pushed down.": lambda x, y: (
        slope(x, y) * F.one_hot(y, x.shape[1])
    ),
    "That is the softmax; the truth is not yet subtracted.": lambda x, y: F.softmax(x, 1) / len(y),
}


@exercise("cross_entropy_gradient", points=1.5)
def test_gradient_by_hand(student, rng):
    x, y = draw_batch(rng)
    expect.agrees(student, "cross_entropy_gradient", x, y, right=slope, wrong=NOT_SLOPE)


@exercise("cross_entropy_gradient", points=0.5)
def test_logits_are_unchanged(student, rng):
    x, y = draw_batch(rng)
    code = "given = x.clone()\ncross_entropy_gradient(given, y)\nmoved = (given - x).abs().max()"
    moved = student.run(code, ["moved"], x=x, y=y)["moved"]
    expect.close(moved, 0, of="the largest change of the logits, which should stay unchanged,")


@exercise("cross_entropy_gradient", points=1)
def test_gradient_at_large_activations(student, rng):
    x, y = draw_batch(rng, 2, 3)
    x = x + torch.tensor([[1000.0], [0.0]])
    wrong = {
        **NOT_SLOPE,
        "An exponential overflows, and infinity divided by infinity is NaN.": lambda x, y: (
            (x.exp() / x.exp().sum(1, keepdim=True) - F.one_hot(y, 3)) / 2
        ),
    }
    expect.agrees(student, "cross_entropy_gradient", x, y, right=slope, wrong=wrong)


def classifier(rng, temperature, n=400, classes=4):
    """Return logits that are right at a temperature, and the answers."""
    logits = 2.5 * rng.normal(n, classes)
    answers = torch.multinomial(F.softmax(logits, 1), 1, generator=rng.generator)[:, 0]
    return temperature * logits, answers


def ask_temperature(student, logits, targets):
    got = student.call("fit_temperature", logits, targets, seconds=15)
    fine = isinstance(got, int | float | torch.Tensor) and torch.as_tensor(got).numel() == 1
    expect.true(fine, f"fit_temperature should return a number, but it returned {got}.")
    got = float(got)
    expect.true(
        0.049 <= got <= 20.01,
        f"The temperature should lie between 0.05 and 20, but it is {got:.4g}.",
    )
    return got


@exercise("fit_temperature", points=1)
@pytest.mark.parametrize("sure", ["too sure", "not sure enough"])
def test_a_classifier_that_is(student, rng, sure):
    true = rng.uniform(3, 9, 1).item() if sure == "too sure" else rng.uniform(0.1, 0.3, 1).item()
    logits, targets = classifier(rng, true)
    got = ask_temperature(student, logits, targets)
    grid = torch.logspace(math.log10(0.05), math.log10(20), 800).tolist()
    losses = {t: smoothed(logits / t, targets).item() for t in grid}
    best = min(losses, key=losses.get)
    loss = smoothed(logits / got, targets).item()
    side = "above 1" if best > 1 else "below 1"
    mistakes = {
        "The activations are to be divided by T, so divide by T in the search.": 1 / best,
        "That is the lowest loss, not the temperature.": losses[best],
        f"At 1 nothing changes. The search must go {side}, too, and it must look at the "
        "cross-entropy: the accuracy is the same at every temperature.": 1.0,
    }
    near = (text for text, value in mistakes.items() if abs(got / value - 1) < 0.03)
    reason = next(near, f"It should be {side}.")
    expect.true(
        loss <= losses[best] + 0.001,
        f"A classifier is {sure}: the lowest cross-entropy is {losses[best]:.4f}, at a temperature "
        f"of {best:.3g}; but at yours, {got:.4g}, it is {loss:.4f}. {reason}",
    )


@exercise("fit_temperature", points=1)
def test_on_rows_that_it_did_not_see(student, rng):
    true = rng.choice([0.3, 4.0])
    logits, targets = classifier(rng, true)
    got = ask_temperature(student, logits, targets)
    logits, targets = classifier(rng, true, n=4000)
    loss, wanted = (smoothed(logits / t, targets).item() for t in (got, true))
    expect.true(
        loss <= wanted + 0.03,
        f"On other rows of the same classifier, the cross-entropy is {wanted:.4f} at its true "
        f"temperature, {true}, but {loss:.4f} at yours, {got:.4g}.",
    )


def certainty(logits):
    return F.softmax(logits, 1).max(1).values


def ask_nothing(student, logits, share):
    got = student.call("nothing_there", logits, share)
    expect.true(
        isinstance(got, list | tuple) and len(got) == 2,
        f"nothing_there should return a threshold and a function, but it returned {got}.",
    )
    return got


@exercise("nothing_there", points=1)
def test_the_threshold(student, rng):
    n, lost = 10, rng.integer(1, 4)
    share = (lost + 0.5) / n
    logits = rng.telling(
        lambda: 4 * drawn(rng, n, 3) / 10 + 0.01 * rng.normal(n, 3),
        lambda logits: certainty(logits).sort().values[lost],
        lambda logits: certainty(logits).quantile(share),
        lambda logits: certainty(logits).sort().values[lost - 1],
        lambda logits: certainty(logits).sort().values[lost + 1],
        margin=0.005,
    )
    values = certainty(logits).sort().values
    got, _ = ask_nothing(student, logits, share)
    expect.close(
        got, values[lost],
        of=f"the threshold for {n} certainties, of which {lost} may be lost (a share of {share}),",
        given=values,
        unless={
            "That keeps only so many of them.": values[int((1 - share) * n)],
            "A quantile lies between two values, and loses one too many.": values.quantile(share),
            "That loses one less than is allowed.": values[lost - 1],
            "That loses one more than is allowed.": values[lost + 1],
            "That is a threshold for the largest activation, not for the largest probability.": (
                logits.max(1).values.sort().values[lost]
            ),
        },
    )  # fmt: skip


@exercise("nothing_there", points=1)
def test_the_function(student, rng):
    logits, new = rng.normal(20, 3), 2 * rng.normal(6, 3)
    threshold = certainty(logits).sort().values[5].item()
    new = torch.cat([new[(certainty(new) - threshold).abs() > 0.01], torch.zeros(1, 3)])
    new = torch.cat([new, torch.tensor([[9.0, 0, 0]])])
    _, function = ask_nothing(student, logits, 0.27)
    below = certainty(new) < threshold
    expect.close(
        student.call(function, new), below,
        of=f"what the function says, with a threshold of {threshold:.2f}, of the certainties",
        given=certainty(new),
        unless={"That is the other way round: true is for nothing.": ~below},
    )  # fmt: skip


@exercise("nothing_there", points=1)
def test_equal_certainties(student, rng):
    a, b, c = (torch.tensor(v) for v in ([0.5, 0.0, 0.0], [2.0, 0.0, 0.0], [900.0, 0.0, 0.0]))
    logits = torch.stack([a] * 2 + [b] * 5 + [c] * 3)[rng.permutation(10)]
    share = rng.choice([0.35, 0.45, 0.55])
    got, function = ask_nothing(student, logits, share)
    expect.close(
        got, certainty(b[None])[0],
        of=f"the threshold for 2, 5 and 3 equal certainties and a share of {share}",
    )  # fmt: skip
    expect.close(
        student.call(function, logits), certainty(logits) < 0.7,
        of=f"what the function says of these 10, of which 2 are lost at a share of {share},",
        unless={"Those at the threshold are not below it.": certainty(logits) < 0.9},
    )  # fmt: skip


def area(known, unknown):
    ordered = unknown.sort().values
    counts = [torch.searchsorted(ordered, known, right=r).double().mean() for r in (False, True)]
    return sum(counts) / 2 / len(unknown)


def shares(known, unknown):
    """Return the shares of pairs in which the known value is higher, and equal."""
    return (known[:, None] > unknown).double().mean(), (known[:, None] == unknown).double().mean()


NOT_AREA = {
    "That is how often the unknown item has the higher value.": lambda k, u: 1 - area(k, u),
    "A pair of equal values counts as half a pair, not as none.": lambda k, u: shares(k, u)[0],
    "A pair of equal values counts as half a pair, not as a whole one.": lambda k, u: sum(
        shares(k, u)
    ),
}


@exercise("auroc", points=1)
def test_all_different(student, rng):
    def draw():
        values = rng.permutation(99)[:9] / 100
        return values[:5], values[5:]

    reverse = next(iter(NOT_AREA))
    known, unknown = rng.telling(draw, area, NOT_AREA[reverse])
    expect.agrees(
        student, "auroc", known, unknown, right=area, wrong={reverse: NOT_AREA[reverse]}
    )  # fmt: skip


@exercise("auroc", points=1.5)
def test_equal_values(student, rng):
    def draw():
        return rng.integers(3, 8, 5) / 10, rng.integers(2, 7, 4) / 10

    known, unknown = rng.telling(draw, area, *NOT_AREA.values())
    expect.agrees(student, "auroc", known, unknown, right=area, wrong=NOT_AREA)


@exercise("auroc", points=1.5)
def test_a_hundred_thousand(student, rng):
    known, unknown = (
        rng.integers(300, 1000, 100_000) / 1000,
        rng.integers(0, 800, 100_000) / 1000,
    )
    code = """
try:
    out = auroc(known, unknown)
except (MemoryError, RuntimeError) as error:
    if "memory" not in f"{type(error)} {error}".lower():
        raise
    out = None
"""
    got = student.run(code, ["out"], known=known, unknown=unknown, seconds=5)["out"]
    expect.true(
        got is not None,
        "The memory is used up: ten thousand million pairs take too long to compare, and too much "
        "room to keep.",
    )
    expect.close(got, area(known, unknown), of="auroc of a hundred thousand values of each kind")
