"""Checks of the exercises on telemetry."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lectern import expect

exercise = pytest.mark.exercise

# The same small network on both sides, with numbers that the check has drawn.
DENSE = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
model.load_state_dict(state)
"""
HOOKS = """
left = sum(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())
"""


def drawn(rng, model, size=1.0):
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(size * rng.normal(*p.shape))
    return model


def dense(rng):
    return drawn(rng, nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))


@torch.no_grad()
def outputs_of(model, x):
    found = []
    for layer in model:
        x = layer(x)
        found.append(x)
    return found


def pair(x):
    return [x.mean().item(), x.std(correction=0).item()]


TWICE = """
kept = output_stats(model, a), output_stats(model, b)
first, second = [[[float(v) for v in row] for row in stats] for stats in kept]
"""


@exercise("output_stats", points=0.5)
def test_each_call_has_an_answer_of_its_own(student, rng):
    model, a, b = dense(rng), rng.normal(5, 3), rng.normal(6, 3)
    got = student.run(DENSE + TWICE, ["first", "second"], state=model.state_dict(), a=a, b=b)
    first, second = [[pair(h) for h in outputs_of(model, x)] for x in (a, b)]
    for of in ("second", "first"):
        expect.true(
            not isinstance(got[of], list) or len(got[of]) == 3,
            f"After two calls the {of} answer, for a model of three layers, should hold three "
            f"pairs. It holds {len(got[of])}, because the hooks of the first call were still on in "
            "the second.",
        )
    for of, x, right in (("second", b, second), ("first", a, first)):
        expect.close(
            got[of], right, of=f"after two calls, output_stats(model, x) of the {of}", given=x,
            unless={"The second call changed the first: there is one list for all calls.": second},
        )  # fmt: skip


@exercise("output_stats", points=1)
def test_no_hook_is_left(student, rng):
    inputs = {"state": dense(rng).state_dict(), "x": rng.normal(5, 3), "wrong": rng.normal(5, 2)}
    got = student.run(DENSE + "output_stats(model, x)" + HOOKS, ["left"], **inputs)
    expect.true(
        got["left"] == 0,
        "After output_stats(model, x) no hook should be left on a model of three layers, but "
        f"{got['left']} are: the layers are still hooked.",
    )
    code = """
raised = False
try:
    output_stats(model, wrong)
except Exception:
    raised = True
"""
    got = student.run(DENSE + code + HOOKS, ["left", "raised"], **inputs)
    expect.true(
        got["raised"] is True,
        "With a batch of the wrong shape, model(x) raises an error. It should reach whoever "
        "called output_stats, but nothing was raised.",
    )
    expect.true(
        got["left"] == 0,
        f"When model(x) raises an error, {got['left']} hooks stay on the model. Remove them "
        "however the pass ends.",
    )


@exercise("output_stats", points=0.5)
def test_no_graph_is_kept(student, rng):
    code = """
stats = output_stats(model, x)
graph = any(isinstance(v, torch.Tensor) and v.requires_grad for row in stats for v in row)
"""
    inputs = {"state": dense(rng).state_dict(), "x": rng.normal(5, 3)}
    got = student.run(DENSE + code, ["graph"], **inputs)
    expect.true(
        got["graph"] is False,
        "The numbers should come without a graph, but they require gradients, so every "
        "activation behind them stays in memory with the graph.",
    )


def factor(shape, std, leak, depth):
    return math.sqrt(math.prod(shape[1:]) * std**2 * (1 + leak**2) / 2) ** depth


NOT_FACTOR = {
    "You took the fan-out. A sum has as many products as the layer has inputs: the fan-in.": (
        lambda shape, std, leak, depth: factor((1, shape[0], *shape[2:]), std, leak, depth)
    ),
    "That is the factor of the mean square itself; its root was asked for.": (
        lambda *args: factor(*args) ** 2
    ),
    "The rectifier takes a part of the mean square away in each layer.": (
        lambda shape, std, leak, depth: factor(shape, std, 1, depth)
    ),
}
CONVOLUTION_ONLY = {
    "The sum runs over the input channels and over all places of the kernel.": (
        lambda shape, std, leak, depth: factor(shape[:2], std, leak, depth)
    ),
    "A leaky rectifier lets through leak² of the squares of the negative side, too.": (
        lambda shape, std, leak, depth: factor(shape, std, 0, depth)
    ),
}


def stack_of(rng, shape, leak):
    near = math.sqrt(2 / math.prod(shape[1:])) * rng.uniform(0.8, 1.25, 1).item()
    return shape, round(near, 3), leak, rng.integer(2, 6)


@exercise("depth_factor", points=1)
def test_linear_layers(student, rng):
    def draw():
        return stack_of(rng, (rng.integer(20, 40), rng.integer(50, 90)), 0.0)

    args = rng.telling(draw, factor, *NOT_FACTOR.values())
    expect.agrees(student, "depth_factor", *args, right=factor, wrong=NOT_FACTOR, rtol=1e-3)


@exercise("depth_factor", points=1)
def test_convolutions_with_a_leak(student, rng):
    wrong = {**NOT_FACTOR, **CONVOLUTION_ONLY}

    def draw():
        shape = rng.integer(20, 40), rng.integer(4, 12), 3, rng.choice([3, 5])
        return stack_of(rng, shape, rng.choice([0.4, 0.5, 0.6]))

    args = rng.telling(draw, factor, *wrong.values())
    expect.agrees(student, "depth_factor", *args, right=factor, wrong=wrong, rtol=1e-3)


WATCH = """
with StatsHook(model[1]) as hook:
    model(a)
    model.eval()
    model(c)
    model.train()
    out = model(b)
means, stds = [float(v) for v in hook.means], [float(v) for v in hook.stds]
"""


@exercise("StatsHook", points=1)
def test_training_batches_are_noted(student, rng):
    model = dense(rng)
    a, b, c = rng.normal(5, 3), rng.normal(3, 3), rng.normal(4, 3)
    want = ["means", "stds", "out"]
    got = student.run(DENSE + WATCH, want, state=model.state_dict(), a=a, b=b, c=c)
    noted = [outputs_of(model, x)[1] for x in (a, b)]
    expect.true(
        isinstance(got["means"], list) and len(got["means"]) == 2,
        "Two batches in training mode and one in evaluation mode should leave two means, but "
        f"they left {len(got['means'])}. Nothing is to be noted in evaluation mode.",
    )
    of = "of a layer's output in two batches"
    expect.close(got["means"], [h.mean() for h in noted], of=f"means {of}")
    expect.close(
        got["stds"], [h.std(correction=0) for h in noted], of=f"stds {of}",
        unless={"You divided by n − 1.": [h.std() for h in noted]},
    )  # fmt: skip
    expect.close(got["out"], outputs_of(model, b)[2], of="the output of a model that is watched")


@exercise("StatsHook", points=1)
def test_it_takes_itself_off(student, rng):
    code = """
with StatsHook(model[0]) as hook:
    model(x)
model(x)
after_block = len(hook.means)
reached = False
try:
    with StatsHook(model[2]) as other:
        model(x)
        raise KeyError("in the block")
except KeyError:
    reached = True
model(x)
after_error = len(other.means)
third = StatsHook(model[1])
model(x)
third.remove()
third.remove()
model(x)
after_remove = len(third.means)
"""
    want = ["after_block", "reached", "after_error", "after_remove", "left"]
    inputs = {"state": dense(rng).state_dict(), "x": rng.normal(4, 3)}
    got = student.run(DENSE + code + HOOKS, want, **inputs)
    expect.true(
        got["after_block"] == 1,
        "One batch in the with block and one after it should leave one mean, but they left "
        f"{got['after_block']}: after the block the hook was still on.",
    )
    expect.true(
        got["reached"] is True,
        "An error in the with block should reach the caller, but it was swallowed.",
    )
    expect.true(
        got["after_error"] == 1,
        "When an error ends the with block, the hook should be off as well. A batch after it was "
        "noted.",
    )
    expect.true(
        got["after_remove"] == 1,
        "One batch before remove() and one after it should leave one mean, but they left "
        f"{got['after_remove']}.",
    )
    expect.true(got["left"] == 0, f"At the end {got['left']} hooks are left on the model, not 0.")


@exercise("StatsHook", points=1)
def test_lists_of_its_own_without_a_graph(student, rng):
    code = """
with StatsHook(model[0]) as one, StatsHook(model[2]) as two:
    model(x)
counts = [len(one.means), len(one.stds), len(two.means), len(two.stds)]
noted = [*one.means, *one.stds, *two.means, *two.stds]
graph = any(isinstance(v, torch.Tensor) and v.requires_grad for v in noted)
"""
    inputs = {"state": dense(rng).state_dict(), "x": rng.normal(4, 3)}
    got = student.run(DENSE + code, ["counts", "graph"], **inputs)
    expect.true(
        got["counts"] == [1, 1, 1, 1],
        "Two objects that saw one batch should have lists of length 1 each, but the lengths are "
        f"{got['counts']}: they share their lists.",
    )
    expect.true(
        got["graph"] is False,
        "What is noted should require no gradient. It does, so it carries the graph of its batch "
        "along and keeps it in memory.",
    )


def counts(x, bins, low, high):
    edges = torch.linspace(low, high, bins + 1)
    above = x.flatten()[:, None] >= edges
    return (above[:, :-1] & ~above[:, 1:]).sum(0)


def on_edges_below(x, bins, low, high):
    edges = torch.linspace(low, high, bins + 1)
    above = x.flatten()[:, None] > edges
    above[:, 0] = x.flatten() >= low
    return (above[:, :-1] & ~above[:, 1:] & (x.flatten() < high)[:, None]).sum(0)


def last_closed(x, bins, low, high):
    found = counts(x, bins, low, high)
    found[-1] += (x == high).sum()
    return found


def to_the_ends(x, bins, low, high):
    found = counts(x, bins, low, high)
    found[0] += (x < low).sum()
    found[-1] += (x >= high).sum()
    return found


NOT_COUNTS = {
    "A value that lies on an edge belongs into the bin above it.": on_edges_below,
    "A value of high itself is in no bin.": last_closed,
    "What lies outside is in no bin; it does not go to the nearest bin.": to_the_ends,
}


@exercise("histogram", points=1)
def test_values_in_the_middle_of_bins(student, rng):
    bins, width = 6, rng.choice([0.5, 2.0])
    low = float(rng.integers(-3, 1, 1))
    places = rng.integers(0, 5, 3, 4)  # so that the last bin is empty
    x = low + width * (places + rng.uniform(0.2, 0.8, 3, 4)).round(decimals=1)
    expect.agrees(student, "histogram", x, bins, low, low + bins * width, right=counts)


@exercise("histogram", points=1)
def test_values_on_edges_and_outside(student, rng):
    bins, low = 4, float(rng.integers(-3, 1, 1))
    inside = low + rng.integers(0, 5, 7).float()  # edges, those of the whole range among them
    ends = torch.tensor([low + 1, low + bins, low - 1.5, low + bins + 2, math.inf, -math.inf])
    x = torch.cat([inside, ends])[rng.permutation(13)]
    expect.agrees(
        student, "histogram", x, bins, low, low + bins, right=counts, wrong=NOT_COUNTS
    )  # fmt: skip


@exercise("histogram", points=1)
def test_nan_is_in_no_bin(student, rng):
    bins, low = 3, float(rng.integers(-3, 1, 1))
    x = torch.cat([low + 0.25 + rng.integers(0, 3, 4), torch.full((2,), math.nan)])
    x = x[rng.permutation(6)]
    right = counts(x, bins, low, low + bins)
    first, last = right.clone(), right.clone()
    first[0] += 2
    last[-1] += 2
    says = "NaN is no number of any size, so it is in no bin: not in the {} one either."
    expect.close(
        student.call("histogram", x, bins, low, low + bins), right, given=x,
        of=f"histogram(x, {bins}, {low}, {low + bins})",
        unless={says.format("first"): first, says.format("last"): last},
    )  # fmt: skip


# A unit is dead where the data say so, after the layer has taken 1 away.
LAYER = "def layer(x):\n    return x - 1\n"
DEAD = "dead = dead_units(layer, (x for x in batches))"


def patterns(rng):
    """Outputs of two batches for six units, two of which are dead."""
    a, b = rng.integers(1, 5, 3, 6).float(), rng.integers(1, 5, 2, 6).float()
    order = rng.permutation(6)
    always, now, last, negative, cancels = order[:5]
    a[:, always] = b[:, always] = 0
    a[:, now] = 0
    b[:, last] = 0
    a[:, negative], b[:, negative] = 0, torch.tensor([0.0, -2.0])
    b[:, cancels] = torch.tensor([1.0, -1.0])
    a[:, cancels] = torch.tensor([0.0, 3.0, -3.0])
    return a, b


def zero(x):
    return (x == 0).all(0)


@exercise("dead_units", points=1)
def test_units_over_two_batches(student, rng):
    a, b = patterns(rng)
    got = student.run(LAYER + DEAD, ["dead"], batches=[a + 1, b + 1])["dead"]
    both = torch.cat([a, b])
    expect.close(
        got, zero(both), of="dead_units(layer, batches)", given=[a, b],
        unless={
            "A unit that is 0 in one of the batches is not dead yet.": zero(a) | zero(b),
            "That is the answer for the last batch alone.": zero(b),
            "Negative is not zero: such a unit passes something on.": (both <= 0).all(0),
            "Values of both signs cancel in a sum, and are not 0.": both.sum(0) == 0,
        },
    )  # fmt: skip


@exercise("dead_units", points=1)
def test_units_of_a_convolution(student, rng):
    x = rng.integers(0, 2, 3, 2, 2, 3).float() * rng.integers(0, 2, 1, 2, 2, 3)
    x[:, 0, 0, 0], x[:, 1, 1, 2] = 0, torch.tensor([1.0, 0.0, 0.0])
    parts = [x[:1] + 1, x[1:] + 1]
    got = student.run(LAYER + DEAD, ["dead"], batches=parts)["dead"]
    expect.close(got, zero(x), of="dead_units of outputs of shape (n, 2, 2, 3)", given=x)


@exercise("dead_units", points=1)
def test_no_batch_is_kept(student, rng):
    # A tensor made from an array keeps the array alive, and so does whatever shares its memory.
    code = """
import torch, weakref
made, most = [], 0
def remember(x):
    array = x.numpy() * 1
    made.append(weakref.ref(array))
    return torch.from_numpy(array)
def layer(x):
    return remember(x)
def stream():
    global most
    for x in batches:
        most = max(most, sum(ref() is not None for ref in made))
        yield remember(x)
dead = dead_units(layer, stream())
"""
    batches = [rng.integers(0, 2, 4, 3).float() for _ in range(8)]
    got = student.run(code, ["dead", "most"], batches=batches)
    expect.close(got["dead"], zero(torch.cat(batches)), of="dead_units for eight batches")
    expect.true(
        isinstance(got["most"], int) and got["most"] <= 4,
        f"When the last of eight batches was asked for, {got['most']} batches and outputs were "
        "still alive. Keep one boolean for each unit, not the batches in memory.",
    )


def deep_task(rng, n=600):
    centres = 1.2 * rng.normal(6, 8)
    which = rng.integers(0, 6, 2 * n)
    x = centres[which] + 0.4 * rng.normal(2 * n, 8)
    return ((x - x.mean(0)) / x.std(0)).split(n), (which % 3).split(n)


SHAPES = [(64, 8), *[(64, 64)] * 28, (3, 64)]


def started(student):
    """The weights that the learner's function returns, or a sentence that says what is wrong."""
    got = student.call("deep_start", SHAPES)
    expect.true(
        isinstance(got, list | tuple) and len(got) == len(SHAPES),
        "deep_start should return a list of 30 weights, one for each shape.",
    )
    weights = [torch.as_tensor(w) for w in got if isinstance(w, torch.Tensor | np.ndarray)]
    shapes = [tuple(w.shape) for w in weights]
    expect.true(
        shapes == SHAPES,
        f"The weights should have the shapes that were asked for, which begin {SHAPES[:2]}, but "
        f"theirs begin {shapes[:2]}.",
    )
    return [w.detach().float().clone() for w in weights]


def forward(weights, x):
    """The hidden outputs and the logits."""
    hidden = []
    for w in weights[:-1]:
        x = torch.relu(x @ w.T)
        hidden.append(x)
    return hidden, x @ weights[-1].T


@exercise("deep_start", points=1)
def test_the_signal_keeps_its_size(student, rng):
    weights = started(student)
    sizes = [h.square().mean().sqrt().item() for h in forward(weights, rng.normal(600, 8))[0]]
    shown = ", ".join(f"{sizes[i]:.2g}" for i in (0, 9, 19, 28))
    text = f"After layers 1, 10, 20 and 29 the root mean square is {shown}: the signal "
    expect.true(min(sizes) > 0.1, text + "shrinks below 0.1.")
    expect.true(max(sizes) < 10, text + "grows beyond 10.")


@exercise("deep_start", points=2)
def test_it_learns(student, rng):
    weights = [w.requires_grad_() for w in started(student)]
    (x, x_new), (y, y_new) = deep_task(rng)
    opt = torch.optim.SGD(weights, lr=0.01, momentum=0.9)
    for _ in range(200):
        rows = rng.integers(0, len(x), 64)
        loss = F.cross_entropy(forward(weights, x[rows])[1], y[rows])
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        opt.step()
    right = (forward(weights, x_new)[1].argmax(1) == y_new).float().mean().item()
    expect.true(
        right >= 0.85,
        f"After 200 steps from your start the network is right for {right:.0%} of 600 inputs "
        "that it has not seen. It should be 85 % or more; a guess gets about a third.",
    )


def graded(model, x, y):
    """Deviations of the gradients at the inputs of the layers, and at the outputs."""
    h = x.clone().requires_grad_()
    points = [h]
    for layer in model:
        h = layer(h)
        points.append(h)
    stds = [g.std(correction=0) for g in torch.autograd.grad(F.cross_entropy(h, y), points)]
    return torch.stack(stds[:-1]), torch.stack(stds[1:])


def compare_gradients(student, code, model, x, y):
    code += "\nstds = gradient_stats(model, nn.functional.cross_entropy, x, y)"
    got = student.run(code, ["stds"], state=model.state_dict(), x=x, y=y)["stds"]
    before, after = graded(model, x, y)
    expect.close(
        got, after, of="gradient_stats(model, cross_entropy, x, y)", given=x,
        unless={
            "That is the right set of numbers with the last layer first.": after.flip(0),
            "Those are the gradients at the layers' inputs.": before,
        },
    )  # fmt: skip


@exercise("gradient_stats", points=1)
def test_gradients_of_linear_layers(student, rng):
    model, x, y = dense(rng), rng.normal(4, 3).round(decimals=1), rng.integers(0, 2, 4)
    compare_gradients(student, DENSE, model, x, y)


CONVOLUTION = """
import torch
from torch import nn
model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
model.load_state_dict(state)
"""


@exercise("gradient_stats", points=1)
def test_gradients_of_convolutions(student, rng):
    layers = nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)
    model = drawn(rng, nn.Sequential(*layers))
    x, y = rng.normal(3, 1, 3, 3).round(decimals=1), rng.integers(0, 3, 3)
    compare_gradients(student, CONVOLUTION, model, x, y)


@exercise("gradient_stats", points=1)
def test_the_model_is_left_as_it_was(student, rng):
    code = """
stds = gradient_stats(model, nn.functional.cross_entropy, x, y)
filled = sum(p.grad is not None for p in model.parameters())
"""
    inputs = {"state": dense(rng).state_dict(), "x": rng.normal(4, 3), "y": rng.integers(0, 2, 4)}
    got = student.run(DENSE + code + HOOKS, ["filled", "left"], **inputs)
    expect.true(
        got["left"] == 0,
        f"No hook is left on the model, that was asked for; here {got['left']} are.",
    )
    expect.true(
        got["filled"] == 0,
        f"{got['filled']} parameters have a gradient afterwards, which the next backward pass "
        "would be added to. Their grad should be None, as before.",
    )


BLOCKS = """
import torch
from torch import nn
activations = {"tanh": nn.Tanh(), "leaky": nn.LeakyReLU(0.1)}
plan = (4, 6), (6, 5), (5, 3)
model = nn.Sequential(
    *[nn.Sequential(nn.Linear(a, b), activations[activation]) for a, b in plan]
)
model.load_state_dict(state)
"""
LSUV = (
    BLOCKS
    + """
model[1].eval()
found = lsuv(model, x, rounds)
after = model.state_dict()
modes = [m.training for m in model]
grads = sum(p.grad is not None for p in model.parameters())
needs = all(p.requires_grad for p in model.parameters())
"""
)


def blocks(state, activation):
    act = nn.Tanh() if activation == "tanh" else nn.LeakyReLU(0.1)
    model = nn.Sequential(
        *[nn.Sequential(nn.Linear(a, b), act) for a, b in ((4, 6), (6, 5), (5, 3))]
    )
    if state is not None:
        model.load_state_dict(state)
    return model


@torch.no_grad()
def scaled(state, x, rounds=10, activation="leaky", by=lambda block, x: block(x), power=1):
    """The model after LSUV, or after something like it, and its deviations."""
    model, h = blocks(state, activation), x
    for block in model:
        for r in range(rounds + 1):
            std = by(block, h).std(correction=0).item()
            if abs(std - 1) <= 1e-3 or r == rounds:
                break
            block[0].weight /= std**power
        h = block(h)
    return model


@torch.no_grad()
def all_at_once(state, x, rounds=10, activation="leaky"):
    model = blocks(state, activation)
    for _ in range(rounds):
        for block, h in zip(model, outputs_of(model, x), strict=True):
            block[0].weight /= h.std(correction=0)
    return model


def deviations(model, x):
    return [h.std(correction=0).item() for h in outputs_of(model, x)]


NOT_LSUV = {
    "It takes more than one round, because of the bias and the activation function.": (
        lambda state, x, rounds=10, **how: scaled(state, x, 1, **how)
    ),
    "You measured the linear layer's own output; the block's is after the activation function.": (
        lambda state, x, rounds=10, **how: scaled(state, x, rounds, by=lambda b, h: b[0](h), **how)
    ),
    "You divided by the variance; a weight that is twice as large makes the deviation twice as "
    "large.": lambda state, x, rounds=10, **how: scaled(state, x, rounds, power=2, **how),
    "A block has to be finished before the next one is measured.": all_at_once,
}


def lsuv_task(rng):
    """Parameters of three blocks, and a batch."""
    return drawn(rng, blocks(None, "leaky"), 0.5).state_dict(), rng.normal(50, 4)


def after(make):
    return lambda state, x: deviations(make(state, x), x)


def run_lsuv(student, state, x, activation, rounds=10):
    want = ["found", "after", "modes", "grads", "needs", "left"]
    inputs = {"state": state, "x": x, "activation": activation, "rounds": rounds}
    got = student.run(LSUV + HOOKS, want, **inputs)
    sizes = {k: tuple(v.shape) for k, v in got["after"].items()}
    expect.true(
        sizes == {k: tuple(v.shape) for k, v in state.items()},
        "After lsuv the model should have the parameters that it had before, in the same shapes.",
    )
    return got


@exercise("lsuv", points=1)
def test_every_block_has_deviation_1(student, rng):
    wrong = list(NOT_LSUV.values())[:-1]  # in ten rounds the order makes no difference
    state, x = rng.telling(
        lambda: lsuv_task(rng), lambda *_: torch.ones(3), *(after(make) for make in wrong)
    )
    got = run_lsuv(student, state, x, "leaky")
    found = deviations(blocks(got["after"], "leaky"), x)
    expect.close(
        found, [1.0, 1.0, 1.0], of="the blocks' deviations on x after lsuv(model, x)", atol=2e-3,
        unless={says: deviations(make(state, x), x) for says, make in NOT_LSUV.items()},
    )  # fmt: skip
    expect.close(got["found"], found, of="lsuv(model, x)", rtol=1e-3)


@exercise("lsuv", points=1)
def test_only_the_size_of_the_weights_changes(student, rng):
    state, x = lsuv_task(rng)
    got = run_lsuv(student, state, x, "leaky")
    for i in range(3):
        expect.close(
            got["after"][f"{i}.0.bias"], state[f"{i}.0.bias"],
            of=f"the bias of block {i} after lsuv, which leaves the biases alone,",
        )  # fmt: skip
        ratio = got["after"][f"{i}.0.weight"].double() / state[f"{i}.0.weight"]
        expect.close(
            ratio, ratio.flatten()[0].expand(ratio.shape), rtol=1e-3,
            of=f"the weight of block {i} after lsuv ÷ before, one factor for all,",
        )  # fmt: skip
    expect.true(
        got["modes"] == [True, False, True],
        "The modes of three blocks should stay training, evaluation, training, but `training` is "
        f"{got['modes']}.",
    )
    expect.true(
        got["grads"] == 0 and got["needs"] is True and got["left"] == 0,
        "No parameter should get a gradient, all should still require one, and no hook should be "
        f"left. Gradients: {got['grads']}; all require one: {got['needs']}; hooks: {got['left']}.",
    )


@exercise("lsuv", points=1)
def test_rounds_are_bounded(student, rng):
    def factors(model, state):
        return [(model[i][0].weight.data / state[f"{i}.0.weight"]).median() for i in range(3)]

    def after_two(make):
        return lambda state, x: factors(make(state, x, 2, activation="tanh"), state)

    wrong = {says: after_two(make) for says, make in NOT_LSUV.items()}
    state, x = rng.telling(lambda: lsuv_task(rng), after_two(scaled), *wrong.values())
    got = run_lsuv(student, state, x, "tanh", 2)
    expect.close(
        factors(blocks(got["after"], "tanh"), state), after_two(scaled)(state, x), rtol=2e-3,
        of="the factors of three blocks' weights after lsuv(model, x, 2), with tanh,",
        unless={says: make(state, x) for says, make in wrong.items()},
    )  # fmt: skip
    right = scaled(state, x, 2, "tanh")
    expect.close(got["found"], deviations(right, x), of="lsuv(model, x, 2), with tanh,", rtol=2e-3)


@exercise("lsuv", points=1)
def test_nothing_to_divide_by(student, rng):
    state, x = lsuv_task(rng)
    state["1.0.weight"] = torch.zeros(5, 6)
    state["1.0.bias"] = torch.full((5,), 0.5)
    code = """
raised = "nothing"
try:
    lsuv(model, x)
except Exception as error:
    raised = type(error).__name__
weight = model[1][0].weight
"""
    inputs = {"state": state, "x": x, "activation": "leaky"}
    got = student.run(BLOCKS + code, ["raised", "weight"], **inputs)
    expect.true(
        got["raised"] == "ValueError",
        "Where all weights of a block are 0 its output does not vary, and there is no deviation "
        f"to divide by. lsuv should raise a ValueError, but it raised {got['raised']}.",
    )
    expect.close(got["weight"], torch.zeros(5, 6), of="the weight of a block that does not vary")
