"""Checks of the exercises on a neural network from pixels."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lectern import expect

exercise = pytest.mark.exercise


def readable(tensors):
    """Return tensors as lists of numbers with two decimals, to be shown."""
    return [np.round(t.double().numpy(), 2).tolist() for t in tensors]


# The nearest mean


def by_mean(x_train, y_train, x, power=1.0, signed=False, position=False):
    labels = y_train.unique()
    means = torch.stack([x_train[y_train == label].mean(0) for label in labels])
    misses = x[:, None] - means
    distances = (misses if signed else misses.abs() ** power).mean((-2, -1)).abs()
    return distances.argmin(1) if position else labels[distances.argmin(1)]


def by_image(x_train, y_train, x):
    return y_train[(x[:, None] - x_train).abs().mean((-2, -1)).argmin(1)]


NOT_BY_MEAN = {
    "That is the nearest by squared differences.": lambda *a: by_mean(*a, power=2.0),
    "Differences of both signs cancel: make them positive before the mean.": lambda *a: by_mean(
        *a, signed=True
    ),
    "That is the class of the nearest single image, not of the nearest mean.": by_image,
}
BY_POSITION = {
    "That is the position of the nearest mean; its label is wanted.": lambda *a: by_mean(
        *a, position=True
    )
}


@exercise("pixel_similarity", points=0.5)
@pytest.mark.parametrize("labels", [(0, 1), (3, 7), (0, 1, 2), (9, 2, 5)])
def test_labels(student, rng, labels):
    wrong = NOT_BY_MEAN if labels[0] == 0 else {**NOT_BY_MEAN, **BY_POSITION}
    labels = torch.tensor(labels)

    def draw():
        y = torch.cat([labels, labels[rng.integers(0, len(labels), 3)]])
        return rng.uniform(0, 9, len(y), 1, 2).round(), y, rng.uniform(0, 9, 6, 1, 2).round()

    def unclear(x_train, y_train, x):  # ties, or two mistakes that give the same
        means = torch.stack([x_train[y_train == label].mean(0) for label in labels])
        nearest = (x[:, None] - means).abs().mean((-2, -1)).sort(1).values
        mistakes = {tuple(f(x_train, y_train, x).tolist()) for f in wrong.values()}
        return (nearest[:, 1] - nearest[:, 0]).min() < 0.05 or len(mistakes) < len(wrong)

    args = rng.telling(draw, by_mean, *wrong.values())
    while unclear(*args):
        args = rng.telling(draw, by_mean, *wrong.values())
    expect.agrees(student, "pixel_similarity", *args, right=by_mean, wrong=wrong)


# Which shape comes out?


def asked(student, a, b):
    """Return what came back as a tuple, or the exception's type and text."""
    found = student.run(
        "try:\n    out, kind = broadcast_shape(a, b), ''\n    out = [int(n) for n in out]\n"
        "except NotImplementedError:\n    raise\n"
        "except Exception as error:\n    out, kind = str(error), type(error).__name__",
        ["out", "kind"], a=a, b=b,
    )  # fmt: skip
    return (found["out"] if found["kind"] else tuple(found["out"])), found["kind"]


def expect_shape(student, a, b, hint):
    right = tuple(torch.broadcast_shapes(a, b))
    for one, two in ((a, b), (b, a)):
        got, kind = asked(student, one, two)
        came = f"it raised {kind}: {got}" if kind else f"it is {got}"
        of = f"broadcast_shape({one}, {two})"
        expect.true(got == right, f"{of} should be {right}, but {came}. {hint}")


@exercise("broadcast_shape", points=0.5)
def test_shapes_of_one_length(student, rng):
    n, m, k = (rng.permutation(7)[:3] + 2).tolist()
    hint = "Equal sizes stay, and a size of 1 becomes the other one."
    for a, b in (((n, 1, k), (n, m, k)), ((n, 1), (1, m)), ((1,), (1,)), ((n, m), (n, m))):
        expect_shape(student, a, b, hint)


@exercise("broadcast_shape", points=0.5)
def test_shapes_of_different_lengths(student, rng):
    n, m, k = (rng.permutation(7)[:3] + 2).tolist()
    hint = "The shapes are written flush right, and a missing size counts as 1."
    for a, b in (((n, m, k), (k,)), ((n, 1, k), (m, 1)), ((), (n, m)), ((n, n, m), (n, 1))):
        expect_shape(student, a, b, hint)


@exercise("broadcast_shape", points=0.5)
def test_sizes_of_zero(student, rng):
    n = rng.integer(2, 9)
    hint = "Of 1 and 0 it is the 1 that gives way: the result has the other size, 0."
    for a, b in (((n, 1), (n, 0)), ((0,), (n, 1))):
        expect_shape(student, a, b, hint)


@exercise("broadcast_shape", points=0.5)
def test_shapes_that_do_not_fit(student, rng):
    n, m, k = (rng.permutation(7)[:3] + 12).tolist()
    for a, b, place in (((n, m, k), (n, n, k), -2), ((k, m), (n,), -1), ((n, 1, 1), (m, k, n), -3)):
        for one, two in ((a, b), (b, a)):
            got, kind = asked(student, one, two)
            came = f"it raised {kind}: {got}" if kind else f"it returned {got}"
            expect.true(
                kind == "ValueError",
                f"broadcast_shape({one}, {two}) should raise a ValueError, because two sizes do "
                f"not fit, neither of which is 1, but {came}.",
            )
            expect.true(
                str(place) in got,
                f"The message for {one} and {two} should name the dimension {place}, counted from "
                f"the end as in shape[{place}], but it is: {got}",
            )


# Many linear layers are one


def collapsed(layers, backwards=False, bias="through"):
    weight, total = layers[0][0], layers[0][1]
    total = torch.zeros(len(weight)) if total is None else total
    for w, b in layers[1:]:
        b = torch.zeros(len(w)) if b is None else b
        total = {"through": w @ total + b, "sum": b, "last": b}[bias] + (
            0 if bias != "sum" else total if len(total) == len(b) else math.nan
        )
        weight = weight @ w if backwards and len(w) == len(weight) else w @ weight
    return weight, total


NOT_COLLAPSED = {
    "The matrices are multiplied the other way round.": {"backwards": True},
    "The bias of a layer goes through the layers after it.": {"bias": "sum"},
    "That has only the last bias; those before it pass through the layers after them.": {
        "bias": "last"
    },
}


def expect_collapsed(student, layers):
    got = student.call("collapse", layers)
    expect.true(
        isinstance(got, tuple | list) and len(got) == 2,
        f"collapse should return a pair (weight, bias), but it returned {got!r:.100}.",
    )
    given = [tuple(None if t is None else readable([t])[0] for t in layer) for layer in layers]
    for i, name in enumerate(("weight", "bias")):
        wrong = {text: collapsed(layers, **how)[i] for text, how in NOT_COLLAPSED.items()}
        right = collapsed(layers)[i]
        expect.close(got[i], right, of=f"The {name}", given=given, unless=wrong, atol=1e-5)


def layer(rng, n_in, n_out, bias=True):
    """Return a weight and a bias of whole numbers, none of them 0."""
    numbers = rng.integers(1, 4, n_out, n_in + 1) * (2 * rng.integers(0, 2, n_out, n_in + 1) - 1)
    return numbers[:, 1:].float(), numbers[:, 0].float() if bias else None


@exercise("collapse", points=1)
def test_two_layers(student, rng):
    def draw():
        return [layer(rng, 2, 2), layer(rng, 2, 2)]

    def flat(**how):
        return lambda *layers: torch.cat([t.flatten() for t in collapsed(list(layers), **how)])

    wrong = [flat(**how) for how in NOT_COLLAPSED.values()]
    layers = rng.telling(lambda: tuple(draw()), flat(), *wrong)
    expect_collapsed(student, list(layers))


@exercise("collapse", points=0.5)
def test_three_layers_of_different_sizes(student, rng):
    n = 2 + rng.permutation(4)
    a, b, c, d = n.tolist()
    expect_collapsed(student, [layer(rng, a, b), layer(rng, b, c), layer(rng, c, d)])


@exercise("collapse", points=0.5)
def test_layers_without_a_bias(student, rng):
    expect_collapsed(student, [layer(rng, 2, 3, bias=False)])
    expect_collapsed(student, [layer(rng, 2, 3), layer(rng, 3, 2, bias=False)])


# A validation that lies


def expect_accuracy(student, batches):
    got = student.run("out = valid_accuracy(nn.Identity(), batches)", ["out"], batches=batches)
    logits, y = (torch.cat(part) for part in zip(*batches, strict=True))

    def share(threshold=0.0):
        return ((logits[:, 0] > threshold) == (y == 1)).double().mean().item()

    each = [((z[:, 0] > 0) == (t == 1)).double().mean().item() for z, t in batches]
    table = sum(((z > 0) == (t == 1)).sum().item() for z, t in batches) / len(y)
    tables = [((z > 0) == (t == 1)).double().mean().item() for z, t in batches]
    given = [dict(zip(("logits", "y"), readable((z[:, 0], t)), strict=True)) for z, t in batches]
    cells = "Shapes (n, 1) and (n,) broadcast: every prediction with every answer is compared."
    expect.close(
        got["out"], share(), of="The accuracy", given=given,
        unless={
            "Above one half is the rule for probabilities; a logit above 0 says three.": share(0.5),
            "In a mean of the batches' means an image of a small batch counts for more.": (
                sum(each) / len(each)
            ),
            cells: table,
            cells + " And in a mean of means a small batch counts for more.": (
                sum(tables) / len(tables) if len(batches) > 1 else math.nan
            ),
        },
    )  # fmt: skip


def signs(rng, n, wrong=()):
    """Return n labels and clear logits, with the wrong sign at some places."""
    y = rng.permutation(n).remainder(2).float()
    z = (2 * y - 1) * rng.uniform(1, 5, n).round(decimals=1)
    z[list(wrong)] *= -1
    return z[:, None], y


@exercise("valid_accuracy", points=0.5)
def test_one_batch(student, rng):
    expect_accuracy(student, [signs(rng, 5, wrong=[rng.integer(0, 5)])])


@exercise("valid_accuracy", points=0.5)
def test_small_logits(student, rng):
    small = rng.uniform(0.05, 0.45, 4).round(decimals=2)
    batches = [(z.view(1, 1), torch.ones(1)) for z in small]
    expect_accuracy(student, [*batches, signs(rng, 1, wrong=[0])])


@exercise("valid_accuracy", points=0.5)
def test_batches_of_different_sizes(student, rng):
    z = rng.uniform(1, 5, 4).round(decimals=1)
    expect_accuracy(student, [(z[:3, None], torch.ones(3)), (-z[3:, None], torch.ones(1))])


@exercise("valid_accuracy", points=0.5)
def test_all_of_it(student, rng):
    small = rng.uniform(0.05, 0.45, 3).round(decimals=2)
    mixed = torch.cat([small[:, None], signs(rng, 2)[0]]), torch.tensor([1.0, 0, 1, 1, 0])
    expect_accuracy(student, [signs(rng, 7, wrong=[0]), mixed, signs(rng, 2, wrong=[0, 1])])


# A linear layer

LINEAR = """
layer = Linear(n_in, n_out)
sizes = list(layer.weight.shape), list(layer.bias.shape)
needs = layer.weight.requires_grad and layer.bias.requires_grad
"""
FORWARD = """
with torch.no_grad():
    layer.weight.copy_(w)
    layer.bias.copy_(b)
x = x.requires_grad_()
out = layer(x)
"""


def linear(student, rng, *leading, code="", want=()):
    """Run a layer with given numbers; return what came back and the numbers."""
    n_in, n_out = rng.integer(2, 4), rng.integer(4, 6)
    found = student.run(LINEAR, ["sizes", "needs"], n_in=n_in, n_out=n_out)
    for name, size, right in zip(
        ("weight", "bias"), found["sizes"], ([n_out, n_in], [n_out]), strict=True
    ):
        hint = " It is (outputs, inputs)." if name == "weight" else ""
        expect.true(
            size == right,
            f"The {name} of Linear({n_in}, {n_out}) should have shape {tuple(right)}, but it has "
            f"{tuple(size)}.{hint}",
        )
    expect.true(found["needs"] is True, "The weight and the bias should both require a gradient.")
    x = rng.integers(-3, 4, *leading, n_in).float()
    w, b = rng.integers(-3, 4, n_out, n_in).float(), rng.integers(1, 4, n_out).float()
    found = student.run(
        LINEAR + FORWARD + code, ["out", *want], n_in=n_in, n_out=n_out, x=x, w=w, b=b
    )
    return found, x, w, b


@exercise("Linear", points=1)
def test_the_layer_of_given_numbers(student, rng):
    found, x, w, b = linear(student, rng, 3)
    given = dict(zip(("x", "weight", "bias"), readable((x, w, b)), strict=True))
    expect.close(found["out"], x @ w.T + b, of="layer(x)", given=given, unless={
        "The bias is missing.": x @ w.T,
    })  # fmt: skip


@exercise("Linear", points=0.5)
def test_one_item_and_sequences(student, rng):
    for leading in ((), (2, 3)):
        found, x, w, b = linear(student, rng, *leading)
        given = dict(zip(("x", "weight", "bias"), readable((x, w, b)), strict=True))
        of = f"layer(x) for x of shape {tuple(x.shape)}"
        expect.close(found["out"], x @ w.T + b, of=of, given=given)


@exercise("Linear", points=0.5)
def test_gradients(student, rng):
    code = """
(out**2).sum().backward()
grads = [layer.weight.grad, layer.bias.grad, x.grad]
params = list(layer.parameters())
same = len(params) == 2 and params[0] is layer.weight and params[1] is layer.bias
"""
    found, x, w, b = linear(student, rng, 3, code=code, want=["grads", "same"])
    leaves = [t.clone().requires_grad_() for t in (w, b, x)]
    (F.linear(leaves[2], leaves[0], leaves[1]) ** 2).sum().backward()
    for got, leaf, name in zip(found["grads"], leaves, ("weight", "bias", "x"), strict=True):
        expect.true(
            got is not None,
            f"After backward the {name} has no gradient. What is computed from a tensor that "
            "requires a gradient is no leaf: mark it last.",
        )
        expect.close(got, leaf.grad, of=f"The gradient of the sum of squares for the {name}")
    expect.true(
        found["same"] is True,
        "parameters() should return the two tensors themselves, weight first: [weight, bias].",
    )


@exercise("Linear", points=0.5)
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_the_starting_range(student, rng, name):
    n_in = rng.integer(20, 60)
    code = f"v = Linear(n_in, 4000).{name}\nneeds, v = v.requires_grad, v.detach()"
    found = student.run(code, ["v", "needs"], n_in=n_in)
    v, bound = found["v"], n_in**-0.5
    expect.true(
        isinstance(v, torch.Tensor) and v.is_floating_point() and found["needs"] is True,
        f"The {name} should be a tensor of floats and require a gradient.",
    )
    low, high, std = v.min().item(), v.max().item(), v.std().item()
    also = "The bias starts in the same range as the weights. " if name == "bias" else ""
    hint = "Both signs occur in it, and nothing beyond it."
    if high > 1.2 * bound and abs(std - bound) < 0.1 * bound:
        hint = "That looks like a normal distribution; a uniform one ends at its bounds."
    at = 0.95 * bound
    expect.true(
        -1.0001 * bound <= low < -at and at < high <= 1.0001 * bound,
        f"With {n_in} inputs the {name} should start between −1/√{n_in} = {-bound:.4f} and "
        f"{bound:.4f}, but its numbers go from {low:.4f} to {high:.4f}. {also}{hint}",
    )
    expect.true(
        abs(std - bound / math.sqrt(3)) < 0.08 * bound,
        f"The {name} should start uniformly distributed, with a deviation of "
        f"{bound / math.sqrt(3):.4f}, but its deviation is {std:.4f}. {also}",
    )


# A data loader

LOADER = """
class Items:
    def __init__(self, x, y):
        self.x, self.y, self.asked = x, y, []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        if not 0 <= i < len(self.x):
            raise IndexError(i)
        self.asked.append(int(i))
        return self.x[i], self.y[i]

items = Items(x, y)
loader = Loader(items, batch_size, **options)
n_batches = len(loader)
passes = []
for _ in range(2):
    passes.append([[xb, yb] for xb, yb in loader])
"""


def loaded(student, rng, n, batch_size, numbers=False, **options):
    """Return the batches of two passes, the inputs, and the targets."""
    x = torch.stack([torch.arange(n) + 1.0, rng.uniform(0, 9, n).round()], 1)
    y = 10 * (torch.arange(n) + 1)
    found = student.run(
        LOADER, ["passes", "n_batches"], x=x, y=y.tolist() if numbers else y[:, None],
        batch_size=batch_size, options=options,
    )  # fmt: skip
    right = math.ceil(n / batch_size)
    about = f"{n} items in batches of {batch_size}"
    expect.true(
        found["n_batches"] == right,
        f"len(loader) should be {right} for {about}, but it is {found['n_batches']}.",
    )
    for number, each in zip(("first", "second"), found["passes"], strict=True):
        expect.true(
            len(each) == right,
            f"The {number} pass should have {right} batches for {about}, the smaller one at the "
            f"end too, but it has {len(each)}.",
        )
        for xb, yb in each:
            expect.true(
                isinstance(xb, torch.Tensor) and isinstance(yb, torch.Tensor),
                f"A batch should be a pair of tensors, but it is a pair of {type(xb).__name__} and "
                f"{type(yb).__name__}.",
            )
    return found["passes"], x, y if numbers else y[:, None]


def joined(batches):
    """Return the x and the y of all batches, one below the other."""
    for xb, yb in batches:
        expect.true(
            xb.shape[1:] == (2,) and yb.shape[1:] == (1,) and len(xb) == len(yb),
            "With x of shape (2,) and y of shape (1,) a batch should have shapes (batch, 2) and "
            f"(batch, 1), but it has {tuple(xb.shape)} and {tuple(yb.shape)}.",
        )
    return [torch.cat(part) for part in zip(*batches, strict=True)]


@exercise("Loader", points=0.5)
@pytest.mark.parametrize("numbers", [False, True])
def test_batches_in_order(student, rng, numbers):
    batch_size = rng.integer(2, 5)
    n = 2 * batch_size + rng.integer(1, batch_size)
    passes, x, y = loaded(student, rng, n, batch_size, numbers)
    for each in passes:
        parts = zip(each, x.split(batch_size), y.split(batch_size), strict=True)
        for i, ((xb, yb), x_right, y_right) in enumerate(parts):
            of = f"of batch {i} of {n} items in batches of {batch_size}"
            expect.close(xb, x_right, of=f"x {of}")
            expect.close(yb, y_right, of=f"y {of}")


@exercise("Loader", points=0.5)
def test_shuffled_passes_bring_every_pair_once(student, rng):
    passes, x, _ = loaded(student, rng, 7, 3, shuffle=True)
    for each in passes:
        xs, ys = joined(each)
        shown = f"x began with {readable([xs[:, :1].flatten()])[0]}, y is {ys.flatten().tolist()}"
        expect.true(
            xs.shape == x.shape and torch.equal(xs[:, 0].sort().values, x[:, 0]),
            f"A pass should bring each of the 7 items once, but {shown}.",
        )
        expect.close(ys.flatten(), 10 * xs[:, 0], of="y, which is 10 times x and in pairs with it,")


@exercise("Loader", points=1)
def test_each_pass_has_an_order_of_its_own(student, rng):
    passes, x, _ = loaded(student, rng, 30, 8, shuffle=True)
    first, second = (joined(each)[0][:, 0].tolist() for each in passes)
    expect.true(first != x[:, 0].tolist(), "With shuffle=True the items came in their own order.")
    expect.true(
        first != second,
        f"Both passes began with {first[:5]}: each pass should have an order of its own.",
    )


@exercise("Loader", points=0.5)
def test_items_are_fetched_when_they_are_due(student, rng):
    n, k = 12, rng.integer(2, 5)
    code = LOADER.split("n_batches")[0] + "next(iter(loader))\nasked = list(items.asked)"
    for shuffle in (False, True):
        asked = student.run(
            code, ["asked"], x=rng.normal(n, 2), y=list(range(n)), batch_size=k,
            options={"shuffle": shuffle},
        )["asked"]  # fmt: skip
        expect.true(
            len(asked) == k,
            f"For the first batch of {k}, {k} items should be asked for, but {len(asked)} of the "
            f"{n} were: some before its batch was due, or more than once.",
        )


# A Learner, replayed

PIECES = """
from torch import nn

class SGD:
    def __init__(self, params, lr):
        self.params, self.lr = list(params), lr

    @torch.no_grad()
    def step(self):
        for p in self.params:
            if p.grad is not None:
                p -= self.lr * p.grad

    def zero_grad(self):
        for p in self.params:
            p.grad = None

class Passes:
    def __init__(self, passes):
        self.passes, self.seen = passes, 0

    def __len__(self):
        return len(self.passes[0])

    def __iter__(self):
        self.seen += 1
        return iter(self.passes[(self.seen - 1) % len(self.passes)])

class Watched(nn.Linear):
    def forward(self, x):
        modes.append([self.training, torch.is_grad_enabled()])
        return super().forward(x)

class Log:
    def __getattr__(self, name):
        if not name.startswith(("before_", "after_")):
            raise AttributeError(name)
        batch = name.endswith("batch")
        seen = [self.learn.training, len(self.learn.xb)] if batch else []
        return lambda: events.append([name, *seen])

class Nothing:
    pass

class Double:
    def before_batch(self):
        self.learn.xb = 2 * self.learn.xb

def squares(pred, y):
    return ((pred - y) ** 2).mean()

modes, events = [], []
model = Watched(weight.shape[1], weight.shape[0])
with torch.no_grad():
    model.weight.copy_(weight)
    model.bias.copy_(bias)
learn = Learner(model, Passes(passes), valid, LOSS, OPTIMIZER, lr, CALLBACKS)
for n_epochs in fits:
    learn.fit(n_epochs)
weights = torch.cat([p.detach().flatten() for p in model.parameters()])
losses, valid_losses = list(learn.losses), list(learn.valid_losses)
"""


def learned(student, setting, loss="squares", optimizer="SGD", callbacks="()", want=()):
    """Train with the learner's Learner; return what came back."""
    code = PIECES.replace("LOSS", loss).replace("OPTIMIZER", optimizer)
    code = code.replace("CALLBACKS", callbacks)
    return student.run(code, ["weights", "losses", "valid_losses", *want], **setting)


def replayed(setting, loss=F.mse_loss, optimizer=torch.optim.SGD, bug="", factor=1.0):
    """Return weights, losses and validation losses as they should come out, or with a bug."""
    params = [setting[name].clone().requires_grad_() for name in ("weight", "bias")]
    opt = optimizer(params, lr=setting["lr"])
    losses, valid_losses = [], []
    for n_epochs in setting["fits"]:
        if bug == "new":
            opt = optimizer(params, lr=setting["lr"])
        for _ in range(n_epochs):
            number = 0 if bug == "first" else len(valid_losses) % len(setting["passes"])
            train, valid = setting["passes"][number], setting["valid"]
            sums = []
            for batch, (x, y) in enumerate([*train, *valid]):
                trains = batch < len(train)
                each = loss(F.linear(factor * x, *params), y)
                if trains or bug == "valid":
                    each.backward()
                    opt.step()
                    if bug != "kept":
                        opt.zero_grad()
                if trains:
                    losses.append(each.item())
                else:
                    sums.append((each.item(), 1 if bug == "means" else len(x)))
            valid_losses.append(sum(v * k for v, k in sums) / sum(k for _, k in sums))
    return torch.cat([p.detach().flatten() for p in params]), losses, valid_losses


def setting_of(rng, n_in, n_out, sizes, fits=(1,), n_passes=1, lr=0.05, classes=False):
    """Return start weights, batches of the given sizes, and how long to train."""

    def batch(k):
        x = rng.uniform(-2, 2, k, n_in).round(decimals=1)
        y = rng.integers(0, n_out, k) if classes else rng.uniform(2, 5, k, n_out).round(decimals=1)
        return x, y

    train, valid = sizes
    return {
        "weight": rng.uniform(-1, 1, n_out, n_in).round(decimals=1),
        "bias": rng.uniform(-1, 1, n_out).round(decimals=1),
        "passes": [[batch(k) for k in train] for _ in range(n_passes)],
        "valid": [batch(k) for k in valid],
        "lr": lr,
        "fits": list(fits),
    }


@exercise("Learner", points=1)
def test_learner_one_epoch_by_sgd(student, rng):
    setting = setting_of(rng, 1, 1, ((2, 2, 2), (3, 1)), lr=0.1)
    right = replayed(setting)[0]
    train = [readable(batch) for batch in setting["passes"][0]]
    given = {"weight": readable([setting["weight"], setting["bias"]]), "batches": train}
    of = "The weight and the bias after an epoch of SGD at a rate of 0.1"
    expect.close(learned(student, setting)["weights"], right, of=of, given=given, unless={
        "Nothing was learned: is there a step in each batch?": replayed({**setting, "fits": []})[0],
        "The gradients must be cleared after a step.": replayed(setting, bug="kept")[0],
        "It learned from the validation set.": replayed(setting, bug="valid")[0],
    })  # fmt: skip


@exercise("Learner", points=1)
def test_learner_record_of_losses(student, rng):
    setting = setting_of(rng, 1, 1, ((2, 1), (4, 1)), fits=(2,))
    _, losses, valid_losses = replayed(setting)
    found = learned(student, setting)
    expect.true(
        len(found["losses"]) == 4 and len(found["valid_losses"]) == 2,
        "After two epochs of two batches `losses` should have 4 numbers and `valid_losses` 2, but "
        f"they have {len(found['losses'])} and {len(found['valid_losses'])}.",
    )
    expect.close(found["losses"], losses, of="`losses`", unless={
        "The gradients must be cleared after a step.": replayed(setting, bug="kept")[1],
        "It learned from the validation set.": replayed(setting, bug="valid")[1],
    })  # fmt: skip
    given = "validation batches of 4 and 1"
    expect.close(found["valid_losses"], valid_losses, of="`valid_losses`", given=given, unless={
        "In the mean over all examples a small batch counts for less.": replayed(
            setting, bug="means")[2],
    })  # fmt: skip


@exercise("Learner", points=1.5)
def test_learner_with_your_own_pieces(student, rng):
    setting = setting_of(rng, 2, 3, ((4, 3), (5,)), fits=(2, 1), n_passes=3, lr=0.1, classes=True)
    how = {"loss": F.cross_entropy, "optimizer": torch.optim.AdamW}
    right = replayed(setting, **how)
    found = learned(student, setting, "cross_entropy", "AdamW")
    given = "AdamW and cross_entropy, with other batches in each epoch, and two fits: of 2 and 1"
    bugs = {
        "A fit after another goes on with the same optimizer and its averages.": "new",
        "Every epoch goes through `train` once, every epoch anew.": "first",
        "The gradients must be cleared after a step.": "kept",
        "It learned from the validation set.": "valid",
    }
    wrong = {text: replayed(setting, **how, bug=bug) for text, bug in bugs.items()}
    for i, name in enumerate(("weights", "losses", "valid_losses")):
        unless = {text: each[i] for text, each in wrong.items()}
        of = "The weights" if name == "weights" else f"`{name}`"
        expect.close(found[name], right[i], of=of, given=given, unless=unless, rtol=1e-3, atol=1e-4)


@exercise("Learner", points=1)
def test_learner_modes(student, rng):
    setting = setting_of(rng, 1, 1, ((2, 1), (1, 2)), fits=(2,))
    modes = learned(student, setting, want=["modes"])["modes"]
    right = [*[[True, True]] * 2, *[[False, False]] * 2] * 2
    expect.true(
        len(modes) == len(right),
        f"With two epochs of 2 training and 2 validation batches the model should be called "
        f"{len(right)} times, but it was called {len(modes)} times.",
    )
    for i, ((mode, grad), (training, _)) in enumerate(zip(modes, right, strict=True)):
        batch = f"Call {i} of the model is a {'training' if training else 'validation'} batch"
        wanted = "training mode (model.train())" if training else "evaluation mode (model.eval())"
        expect.true(mode is training, f"{batch}: the model should be in {wanted}, but it is not.")
        expect.true(
            grad is training,
            f"{batch}, to be computed {'with' if training else 'without'} gradients, but it is "
            f"computed {'with' if grad else 'without'} them.",
        )


@exercise("Learner", points=1)
def test_learner_events(student, rng):
    sizes = tuple(tuple(rng.integers(1, 6, 2).tolist()) for _ in range(2))
    setting = setting_of(rng, 1, 1, sizes, fits=(2,))
    events = learned(student, setting, callbacks="[Nothing(), Log()]", want=["events"])["events"]
    batches = [
        [name, training, size]
        for training, each in zip((True, False), sizes, strict=True)
        for size in each
        for name in ("before_batch", "after_batch")
    ]
    epoch = [["before_epoch"], *batches, ["after_epoch"]]
    right = [["before_fit"], *epoch, *epoch, ["after_fit"]]
    expect.true(
        isinstance(events, list) and all(isinstance(each, list) and each for each in events),
        "The names of the events should be those of the prompt.",
    )
    for i, wanted in enumerate(right):
        got = events[i] if i < len(events) else ["nothing"]
        many = " Validation batches too have both events." if "_batch" in wanted[0] else ""
        before = ", ".join(each[0] for each in events[max(i - 3, 0) : i]) or "nothing"
        expect.true(
            got[0] == wanted[0],
            f"In a fit of two epochs with batches of {sizes[0]} and validation batches of "
            f"{sizes[1]}, event {i}, after {before}, should be {wanted[0]}, but it is "
            f"{got[0]}.{many}",
        )
        expect.true(
            got == wanted,
            f"At event {i}, {wanted[0]}, learn.training and len(learn.xb) should be {wanted[1:]}, "
            f"but they are {got[1:]}.",
        )
    expect.true(len(events) == len(right), f"There should be no event after {events[i]}.")


@exercise("Learner", points=0.5)
def test_learner_callback_that_changes_the_batch(student, rng):
    setting = setting_of(rng, 1, 1, ((2, 2), (2,)))
    got = learned(student, setting, callbacks="[Double()]")["weights"]
    of = "The weights with a callback that doubles learn.xb before each batch"
    expect.close(got, replayed(setting, factor=2.0)[0], of=of, unless={
        "The loop should take xb and yb from the attributes, after before_batch.": (
            replayed(setting)[0]),
    })  # fmt: skip


# Few units


def soft_step(x, height, steep, place, slope):
    return height * np.tanh(steep * (x - place)) + slope * x


def pieces(f, low, high, tolerance):
    """Return how many equal pieces stay within the tolerance."""
    x = np.linspace(low, high, 4001)
    for n in range(1, 1000):
        t = np.linspace(low, high, n + 1)
        if np.abs(np.interp(x, t, f(t)) - f(x)).max() <= tolerance:
            return n
    return 1000


def fitted(student, rng):
    """Return the learner's largest error, its number of units, the tolerance, and U."""
    height, steep, place, slope = (
        rng.uniform(*between, 1).item() for between in ((1, 2), (3, 5), (-1, 1), (-0.5, 0.5))
    )
    low, high, tolerance = -5 + place, 4.5 + place, rng.choice([0.02, 0.03])
    found = student.run(
        "f = lambda x: height * torch.tanh(steep * (x - place)) + slope * x\n"
        "net = list(relu_fit(f, low, high, tolerance))",
        ["net"], height=height, steep=steep, place=place, slope=slope, low=low, high=high,
        tolerance=tolerance, seconds=12,
    )["net"]  # fmt: skip
    expect.true(len(net := found) == 4, f"relu_fit should return 4 things, but it was {len(net)}.")
    try:
        w1, b1, w2, b2 = (np.array(part, dtype=float).reshape(-1) for part in net)
    except (TypeError, ValueError):
        w1 = b1 = w2 = b2 = np.zeros(0)
    expect.true(
        0 < len(w1) == len(b1) == len(w2) and len(b2) == 1,
        "relu_fit should return three tensors of shape (units,) and one number.",
    )
    x = np.concatenate([np.linspace(low, high, 3000), rng.uniform(low, high, 3000).numpy()])
    f = lambda x: soft_step(x, height, steep, place, slope)  # noqa: E731
    error = np.abs(np.maximum(x[:, None] * w1 + b1, 0) @ w2 + b2 - f(x))
    about = f"{height:.2f} tanh({steep:.2f} (x − ({place:.2f}))) + ({slope:.2f}) x"
    expect.true(
        error.max() <= 1.01 * tolerance + 1e-4,
        f"For f(x) = {about} from {low:.2f} to {high:.2f} the largest error should be at most "
        f"{tolerance}, but it is {error.max():.4f}, at x = {x[error.argmax()]:.2f}"
        f" (the mean error is {error.mean():.4f}). Is each w2 the change of slope at its bend?",
    )
    return len(w1), pieces(f, low, high, tolerance)


@exercise("relu_fit", points=2)
def test_the_largest_error(student, rng):
    units, equal = fitted(student, rng)
    expect.true(units <= 10 * equal, f"There should be at most {10 * equal} units, not {units}.")


@exercise("relu_fit", points=1)
def test_no_more_units_than_equal_pieces(student, rng):
    units, equal = fitted(student, rng)
    expect.true(
        units <= equal + 1,
        f"Equal pieces do with {equal} units, and these are {units}: far fewer are enough.",
    )


@exercise("relu_fit", points=1)
def test_half_as_many_units(student, rng):
    units, equal = fitted(student, rng)
    expect.true(
        units <= equal / 2,
        f"At most {equal // 2} units were asked for, half of U = {equal}, and these are {units}. "
        "Put the bends where it bends most, not at equal distances.",
    )
