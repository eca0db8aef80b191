"""Checks of the exercises on stochastic gradient descent."""

import math

import numpy as np
import pytest
import torch

from lectern import expect

exercise = pytest.mark.exercise


def readable(tensors):
    """Return tensors as lists of numbers with two decimals, to be shown."""
    return [np.round(t.double().numpy(), 2).tolist() for t in tensors]


# A slope by nudging


def cubic(c, w):
    return sum(c_k * w**k for k, c_k in enumerate(c))


@exercise("slope", points=0.5)
@pytest.mark.parametrize("h", [None, 0.5])
def test_the_slope_of_a_cubic(student, rng, h):
    def by_nudge(c, w, h, up=1.0, down=1.0, run=2.0):
        return (cubic(c, w + up * h) - cubic(c, w - down * h)) / (run * h)

    def draw():
        return [round(v, 1) for v in rng.uniform(0.5, 2, 4).tolist()], rng.integer(1, 5) / 2, 0.5

    wrong = {
        "That is a nudge only upwards.": lambda c, w, h: by_nudge(c, w, h, down=0, run=1),
        "The two places are 2h apart.": lambda c, w, h: by_nudge(c, w, h, run=1),
        "Use the nudge that is given.": lambda c, w, h: by_nudge(c, w, 1e-4),
    }
    c, w, _ = rng.telling(draw, by_nudge, *wrong.values())
    nudge = () if h is None else (h,)
    got = student.run(
        "out = slope(lambda w: sum(v * w**k for k, v in enumerate(c)), w, *nudge)",
        ["out"], c=c, w=w, nudge=nudge,
    )["out"]  # fmt: skip
    f = " + ".join(f"{v} w^{k}" for k, v in enumerate(c))
    h = h or 1e-4
    expect.close(
        got, by_nudge(c, w, h), of=f"slope(f, {w}{f', {h}' if nudge else ''})", rtol=1e-3,
        given=f"f(w) = {f}", unless={text: rule(c, w, h) for text, rule in wrong.items()},
    )  # fmt: skip


# A parabola by descent


def descent(t, y, lr, steps, clear=True, mean=True, sign=1.0):
    features = torch.stack([t**2, t, torch.ones_like(t)], 1).double()
    p, total = torch.zeros(3).double(), torch.zeros(3).double()
    for _ in range(steps):
        errors = features @ p - y
        gradient = 2 * features.T @ errors / (len(t) if mean else 1)
        total = gradient if clear else total + gradient
        p = p - sign * lr * total
    return p


NOT_DESCENT = {
    "backward adds to what stands in .grad; clear it.": lambda *a: descent(*a, clear=False),
    "The loss is the mean of the squared errors, not their sum.": lambda *a: descent(
        *a, mean=False
    ),
    "They are wanted in this order: a, b, c.": lambda *a: descent(*a).flip(0),
    "A step goes against the gradient.": lambda *a: descent(*a, sign=-1.0),
}


@exercise("fit_parabola", points=1)
def test_the_first_steps(student, rng):
    def draw():
        t = rng.uniform(-1, 1, 4).round(decimals=1)
        return t, rng.uniform(-3, 3, 4).round(decimals=1), 0.1, rng.integer(2, 5)

    args = rng.telling(draw, descent, *NOT_DESCENT.values())
    expect.agrees(
        student, "fit_parabola", *args, right=descent, wrong=NOT_DESCENT, rtol=1e-3, atol=1e-4
    )


@exercise("fit_parabola", points=1)
def test_many_steps_find_the_parabola(student, rng):
    t = torch.linspace(-1, 1, 9)
    a, b, c = (k / 10 for k in (rng.permutation(20)[:3] + 10).tolist())
    args = t, a * t**2 + b * t + c, 0.5, 200
    got = student.call("fit_parabola", *args)
    of = f"After 200 steps (a, b, c) for points of {a} t² + {b} t + {c}"
    unless = {text: rule(*args) for text, rule in NOT_DESCENT.items()}
    expect.close(got, [a, b, c], of=of, rtol=1e-2, unless=unless)


# When does it explode?


def limit(x):
    return 1 / (x**2).mean().item()


NOT_THE_LIMIT = {
    "The curvature of the mean of (w x − y)² is twice the mean square of x.": lambda x: (
        2 * limit(x)
    ),
    "That is the rate that arrives in one step; the limit is twice as large.": lambda x: (
        limit(x) / 2
    ),
    "The curvature of the loss is a mean over the inputs.": lambda x: 1 / (x**2).max().item(),
    "The mean square is not the square of the mean.": lambda x: 1 / x.mean().item() ** 2,
}


@exercise("largest_lr", points=1.5)
def test_the_limit(student, rng):
    def draw():
        return rng.uniform(-3, 3, 4).round(decimals=1) + 0.5

    x = rng.telling(draw, limit, *NOT_THE_LIMIT.values())
    expect.agrees(student, "largest_lr", x, right=limit, wrong=NOT_THE_LIMIT)


@exercise("largest_lr", points=0.5)
def test_inputs_of_zero(student, rng):
    got = student.call("largest_lr", torch.zeros(rng.integer(2, 5)))
    expect.close(
        got, math.inf, of="largest_lr(x)", given="x of nothing but zeros",
        unless={"With no curvature at all, no rate is too large: math.inf.": got},
    )  # fmt: skip


# A training loop


def trained(x, y, orders, batch_size, lr, bug=""):
    a, b = torch.zeros(2, dtype=torch.float64)
    d_a = d_b = 0.0
    losses = []
    for order in orders:
        d_a, d_b = (0.0, 0.0) if bug == "epoch" else (d_a, d_b)
        for rows in order.split(batch_size):
            if bug == "last" and len(rows) < batch_size:
                continue
            start = len(losses) * batch_size % len(x)
            target = y[start : start + len(rows)] if bug == "pairs" else y[rows]
            errors = a * x[rows] + b - target
            losses.append((errors**2).mean())
            kept_a, kept_b = bug in ("epoch", "never"), bug in ("epoch", "never", "b")
            d_a = (2 * errors * x[rows]).mean() + (d_a if kept_a else 0)
            d_b = (2 * errors).mean() + (d_b if kept_b else 0)
            a, b = a - lr * d_a, b - lr * d_b
    return torch.stack([a, b, *losses])


BUGS = {
    "epoch": "backward adds up: the gradients must be cleared after every step.",
    "never": "backward adds up: the gradients must be cleared, once for every step.",
    "b": "The gradient of b is not cleared.",
    "pairs": "The answers of a batch belong to other inputs.",
    "last": "A batch is missing, the smaller one at the end of each epoch.",
}


def expect_trained(student, rng, n, batch_size, epochs, shuffled):
    x = rng.uniform(0, 2, n).round(decimals=1) + torch.arange(n) / 4
    y = (3 * x + 1 + rng.normal(n)).round(decimals=1)
    orders = [rng.permutation(n) if shuffled else torch.arange(n) for _ in range(epochs)]
    if shuffled:  # surely not the order of the rows
        orders[0] = torch.cat([torch.arange(1, n), torch.tensor([0])])
    args = x, y, torch.stack(orders), batch_size, 0.05
    got = student.call("train_line", *args)
    expect.true(
        isinstance(got, tuple | list) and len(got) == 3 and isinstance(got[2], tuple | list),
        f"train_line should return a, b and a list of losses, but it returned {got!r:.100}.",
    )
    right = trained(*args)
    unless = {text: trained(*args, bug) for bug, text in BUGS.items()}
    of = f"(a, b, loss, loss, …), with epochs: {epochs}, examples: {n}, batch_size: {batch_size},"
    expect.true(
        len(got[2]) == len(right) - 2,
        f"Of {of} the number of losses should be {len(right) - 2}, one for each batch, but it is "
        f"{len(got[2])}. Does every epoch have all its batches, the smaller one at the end too?",
    )
    given = dict(zip(("x", "y", "orders"), readable((x, y, torch.stack(orders))), strict=True))
    expect.close([got[0], got[1], *got[2]], right, of=of, given=given, unless=unless, rtol=1e-3)


@exercise("train_line", points=0.75)
def test_several_steps_in_the_order_of_the_rows(student, rng):
    expect_trained(student, rng, n=6, batch_size=2, epochs=1, shuffled=False)


@exercise("train_line", points=0.75)
def test_one_step_in_another_order(student, rng):
    expect_trained(student, rng, n=4, batch_size=4, epochs=1, shuffled=True)


@exercise("train_line", points=0.75)
def test_fewer_examples_than_a_batch(student, rng):
    expect_trained(student, rng, n=3, batch_size=4, epochs=1, shuffled=False)


@exercise("train_line", points=0.75)
def test_two_epochs_with_all_of_it(student, rng):
    expect_trained(student, rng, n=5, batch_size=2, epochs=2, shuffled=True)


# A gradient in parts

LINE = """
def loss_func(params, x, y):
    return ((x @ params[0] + params[1] - y) ** 2).mean()

params = [p.requires_grad_() for p in start]
for p, g in zip(params, before):
    p.grad = g
out = accumulate(loss_func, params, batches)
after = [p.detach() for p in params]
"""


def line_gradients(start, batches, weigh=lambda k, n, parts: k / n):
    n = sum(len(x) for x, _ in batches)
    total = [torch.zeros_like(p) for p in start]
    for x, y in batches:
        errors = x @ start[0] + start[1] - y
        weight = weigh(len(x), n, len(batches))
        total[0] += weight * 2 * x.T @ errors / len(x)
        total[1] += weight * 2 * errors.mean()
    return total


def accumulated(student, rng, before=(), unused=()):
    """Return what came back, what is right, the parameters and the batches."""
    sizes = rng.permutation(3).tolist()
    batches = [
        (rng.integers(-3, 4, k + 1, 2).float(), rng.integers(-3, 4, k + 1).float()) for k in sizes
    ]
    start = [rng.integers(-3, 4, 2).float() + 0.5, rng.integers(-3, 4, 1)[0] + 0.5, *unused]
    got = student.run(LINE, ["out", "after"], start=start, batches=batches, before=list(before))
    right = line_gradients(start, batches)
    expect.true(
        isinstance(got["out"], tuple | list) and len(got["out"]) == len(start),
        f"accumulate should return {len(start)} gradients, but it returned {got['out']!r:.100}.",
    )
    for p, q in zip(start, got["after"], strict=True):
        expect.close(q, p, of="A parameter, which is not to be changed,")
    return got["out"], right, start, batches


@exercise("accumulate", points=2)
def test_batches_of_different_sizes(student, rng):
    got, right, start, batches = accumulated(student, rng)
    plain_sum = line_gradients(start, batches, lambda k, n, parts: 1)
    plain_mean = line_gradients(start, batches, lambda k, n, parts: 1 / parts)
    given = {"sizes of the batches": [len(x) for x, _ in batches], "params": readable(start)}
    for i, name in enumerate(("weights", "bias")):
        expect.close(got[i], right[i], of=f"The gradient of the {name}", given=given, unless={
            "The gradients of the means add up to more than the gradient of the mean over all "
            "rows.": plain_sum[i],
            "In a mean over rows a large batch counts for more than a small one.": plain_mean[i],
        })  # fmt: skip


@exercise("accumulate", points=0.5)
def test_what_stood_in_grad_before(student, rng):
    before = [torch.full((2,), 100.0), torch.tensor(100.0)]
    got, right, *_ = accumulated(student, rng, before=before)
    for g, r, b in zip(got, right, before, strict=True):
        expect.close(g, r, of="A gradient", given="100 in .grad at the beginning", unless={
            "What stood in .grad before got into the result.": r + b,
        })  # fmt: skip


@exercise("accumulate", points=0.5)
def test_a_parameter_that_is_not_used(student, rng):
    got, right, *_ = accumulated(student, rng, unused=[torch.ones(3)])
    expect.true(
        got[2] is not None,
        "A parameter that the loss does not use has a gradient of zeros, but None came back.",
    )
    for g, r in zip(got, right, strict=True):
        expect.close(g, r, of="The gradient", given="a third parameter that the loss does not use")


# Two functions for the graph

CHAIN = """
v, w = Value(one), Value(two)
out = FUNCTION
out.backward()
found = [out.data, v.grad, w.grad]
"""


def graph(student, function, one, two, of, unless=None):
    """Compare the value and both gradients of a function with PyTorch's."""
    found = student.run(CHAIN.replace("FUNCTION", function), ["found"], one=one, two=two)["found"]
    v, w = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (one, two))
    out = eval(function, {"v": v, "w": w})
    grads = torch.autograd.grad(out, (v, w), allow_unused=True)
    right = [out.item(), *(0.0 if g is None else g.item() for g in grads)]
    for i, name in enumerate(("value", "gradient for v", "gradient for w")):
        wrong = {text: numbers[i] for text, numbers in (unless or {}).items()}
        given = {"v": one, "w": two}
        expect.close(found[i], right[i], of=f"The {name} of {of}", given=given, unless=wrong)


def numbers(rng):
    return [rng.choice([-1, 1]) * k / 10 for k in (rng.permutation(11)[:2] + 3).tolist()]


@exercise("Value", points=0.75)
def test_exp(student, rng):
    one, two = numbers(rng)
    e = math.exp(one)
    graph(student, "v.exp()", one, two, "exp(v)", {
        "The power rule is for v to the power of a number, not for a number to the power of v.": [
            None, one * math.exp(one - 1), None],
        "The new Value does not know its parent, so backward cannot reach it.": [None, 0.0, None],
        "That is the slope at another place.": [None, math.exp(e), None],
    })  # fmt: skip


@exercise("Value", points=0.75)
def test_tanh(student, rng):
    one, two = numbers(rng)
    graph(student, "v.tanh()", one, two, "tanh(v)", {
        "The slope is one minus the square of what comes out, not of what goes in.": [
            None, 1 - one**2, None],
        "The new Value does not know its parent, so backward cannot reach it.": [None, 0.0, None],
    })  # fmt: skip


@exercise("Value", points=0.75)
def test_both_within_a_larger_graph(student, rng):
    one, two = numbers(rng)
    function = "(v * w + v).tanh() * w.exp() - (w.exp() + v).tanh()"
    graph(student, function, one, two, function)


@exercise("Value", points=0.75)
def test_tanh_of_large_numbers(student, rng):
    for size in (rng.integer(800, 2000), -rng.integer(800, 2000)):
        graph(student, "v.tanh()", float(size), 0.0, "tanh(v)")


# Optimizers: the parameters after each step, replayed

JOURNEY = """
params = [p.requires_grad_() for p in start]
opt = OPTIMIZER
stops = []
for uses in used:
    opt.zero_grad()
    for p, use in zip(params, uses):
        p.grad = p.grad if use else None
    sum(use * (c * p**2).sum() / 2 for c, p, use in zip(scales, params, uses) if use).backward()
    opt.step()
    stops.append(torch.cat([p.detach().flatten() for p in params]))
stops = torch.stack(stops)
leaves = all(p.is_leaf and p.requires_grad for p in params)
"""


# By what the gradients of the two parameters are multiplied in each step; 0: there is none.
ALL = [[1, 1]] * 4
SOME = [[1, 1], [1, 0], [1, 0], [1, 1]]
UNEVEN = [[1, 1], [0.1, 3], [3, 0.2], [0.5, 2]]
NO_GRADIENT = "A parameter without a gradient is to be left alone."
GENERATOR = "The parameters did not move: params may be a generator, which is empty after one pass."
IN_PLACE = "The parameters did not move: change them in place."


def walked(rule, start, scales, used):
    """Return the parameters after each step by a rule: (p, g, memory, t) to the new p."""
    params = [p.double() for p in start]
    memory = [{"t": 0} for _ in params]
    stops = []
    for step, uses in enumerate(used, 1):
        for i, (c, m, use) in enumerate(zip(scales, memory, uses, strict=True)):
            m["t"] += use > 0
            params[i] = rule(params[i], use * c * params[i] if use else None, m, step)
        stops.append(torch.cat(params))
    return torch.stack(stops)


def expect_journey(
    student, rng, optimizer, right, wrong, used, says=IN_PLACE, start=None, rtol=1e-4
):
    start = start or [rng.uniform(1, 3, n).round(decimals=1) for n in (2, 1)]
    scales = [rng.uniform(0.5, 2, 2).round(decimals=1), rng.uniform(3, 5, 1).round(decimals=1)]
    found = student.run(
        JOURNEY.replace("OPTIMIZER", optimizer), ["stops", "leaves"],
        start=start, scales=scales, used=used,
    )  # fmt: skip
    unless = {text: walked(rule, start, scales, used) for text, rule in wrong.items()}
    given = {"start": readable(start), "gradient / parameter": readable(scales)}
    if used != ALL:
        given["times, step by step (0: no gradient)"] = used
    expect.close(
        found["stops"], walked(right, start, scales, used),
        of=f"{optimizer}: the {len(torch.cat(start))} numbers after each step", given=given,
        unless={says: torch.cat(start).expand(len(used), -1), **unless}, rtol=rtol,
    )  # fmt: skip
    expect.true(
        found["leaves"] is True,
        "After a step the parameters should still be leaves that require a gradient: step under "
        "torch.no_grad().",
    )


def nesterov(p, g, m, step, *, lr, beta=0.9, ahead="beta", share=1.0):
    if g is None:
        return p
    m["v"] = beta * m.get("v", torch.zeros_like(p)) + share * g
    way = {"beta": g + beta * m["v"], "all": g + m["v"], "none": m["v"]}[ahead]
    return p - lr * way


def nesterovs(**options):
    """Return the right rule and the wrong ones, with their sentences."""

    def rule(**change):
        return lambda *a: nesterov(*a, **options, **change)

    def without(p, g, m, step):  # a gradient that is missing counts as zeros
        return nesterov(p, torch.zeros_like(p) if g is None else g, m, step, **options)

    return rule(), {
        "That is plain momentum: the step goes along v alone.": rule(ahead="none"),
        "The step goes along the gradient and β times the velocity.": rule(ahead="all"),
        "The velocity is a sum that fades, not an average of the gradients.": rule(
            share=1 - options.get("beta", 0.9)
        ),
        NO_GRADIENT: without,
    }


@exercise("Nesterov", points=2)
def test_nesterov_step_by_step(student, rng):
    lr, beta = rng.choice([0.05, 0.1]), rng.choice([0.5, 0.6, 0.7])
    right, wrong = nesterovs(lr=lr, beta=beta)
    expect_journey(student, rng, f"Nesterov(params, {lr}, {beta})", right, wrong, ALL)


@exercise("Nesterov", points=1)
def test_nesterov_with_its_default_and_a_generator(student, rng):
    right, wrong = nesterovs(lr=0.05)
    expect_journey(
        student, rng, "Nesterov((p for p in params), lr=0.05)", right, wrong, UNEVEN, says=GENERATOR
    )


@exercise("Nesterov", points=1)
def test_nesterov_without_a_gradient(student, rng):
    right, wrong = nesterovs(lr=0.1, beta=0.5)
    expect_journey(student, rng, "Nesterov(params, 0.1, beta=0.5)", right, wrong, SOME)


def adamw(
    p, g, m, step, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01,
    decay="beside", corrected=True, root="inside", count="own", missing="skip",
):  # fmt: skip
    shrink = 1 - (weight_decay if decay == "whole" else lr * weight_decay)
    if g is None:
        return p * shrink if missing == "shrink" else p
    if decay == "averages":
        g, shrink = g + weight_decay * p, 1.0
    t = m["t"] if count == "own" else step
    (b1, b2), zeros = betas, torch.zeros_like(p)
    m["m"] = b1 * m.get("m", zeros) + (1 - b1) * g
    m["s"] = b2 * m.get("s", zeros) + (1 - b2) * g**2
    mean, square = m["m"], m["s"]
    if corrected:
        mean, square = mean / (1 - b1**t), square / (1 - b2**t)
    below = (square + eps).sqrt() if root == "under" else square.sqrt() + eps
    new = p - lr * mean / below
    return new - (1 - shrink) * p if decay != "after" else new * shrink


def adamws(**options):
    def rule(**change):
        return lambda *a: adamw(*a, **{**options, **change})

    return rule(), {
        "The decay got into the averages: it belongs beside the gradient.": rule(decay="averages"),
        "A step takes away the share weight_decay times the learning rate.": rule(decay="whole"),
        "The averages start at zero and are too small at first: divide by 1 − βᵗ.": rule(
            corrected=False
        ),
        "eps is added to the root, not under the root.": rule(root="under"),
        "The parameter is to be shrunk before the step of Adam, not after it.": rule(decay="after"),
        "Each parameter has a count of its own, of the steps that it took.": rule(count="all"),
        "It shrank without a gradient. " + NO_GRADIENT: rule(missing="shrink"),
        "There is no decay at all.": rule(weight_decay=0.0),
        "The betas should be 0.9 and 0.999 unless others are given.": rule(betas=(0.9, 0.99)),
    }


@exercise("AdamW", points=0.5)
def test_adamw_with_a_gradient_of_zero(student, rng):
    lr, decay, p = rng.choice([0.1, 0.2]), rng.choice([0.1, 0.3]), float(rng.integer(5, 20))
    got = student.run(
        "p = torch.full((1,), start, requires_grad=True)\np.grad = torch.zeros(1)\n"
        "AdamW([p], lr=lr, weight_decay=decay).step()\nout = p.detach()",
        ["out"], start=p, lr=lr, decay=decay,
    )["out"]  # fmt: skip
    expect.close(
        got, [p * (1 - lr * decay)],
        of=f"A parameter of {p} after a step with gradient 0, lr = {lr} and weight_decay = {decay}",
        unless={
            "The decay got into the averages: it belongs beside the gradient.": [p - lr],
            "A step takes away the share weight_decay times the learning rate.": [p * (1 - decay)],
        },
    )  # fmt: skip


@exercise("AdamW", points=2)
def test_adamw_step_by_step(student, rng):
    lr, beta, eps = rng.choice([0.1, 0.2]), rng.choice([0.7, 0.8]), rng.choice([0.3, 0.5])
    options = {"lr": lr, "betas": (beta, 0.9), "eps": eps, "weight_decay": 0.5}
    right, wrong = adamws(**options)
    text = ", ".join(f"{name}={value}" for name, value in options.items())
    expect_journey(student, rng, f"AdamW(params, {text})", right, wrong, ALL)


@exercise("AdamW", points=0.5)
def test_adamw_with_its_defaults_and_a_generator(student, rng):
    right, wrong = adamws()
    start = [rng.uniform(20, 90, n).round(decimals=0) for n in (2, 1)]
    expect_journey(
        student, rng, "AdamW((p for p in params))", right, wrong, UNEVEN, says=GENERATOR,
        start=start, rtol=1e-5,
    )  # fmt: skip


@exercise("AdamW", points=1)
def test_adamw_without_a_gradient(student, rng):
    options = {"lr": 0.1, "betas": (0.5, 0.7), "eps": 1e-8, "weight_decay": 0.5}
    right, wrong = adamws(**options)
    text = ", ".join(f"{name}={value}" for name, value in options.items())
    expect_journey(student, rng, f"AdamW(params, {text})", right, wrong, SOME)
