"""Checks of the exercises on training."""

import functools
import itertools
import math

import pytest
import torch
from torch import nn

from glassbox.data import DataLoaders
from glassbox.learner import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    Learner,
)
from glassbox.optim import SGD
from lectern import expect

exercise = pytest.mark.exercise


def stairs(position, start, factor, n, pieces=1, last=0, late=False, shared=False):
    done = math.floor(position * (n + pieces) + 1e-9)
    if late and done == position * (n + pieces):
        done = max(0, done - 1)
    return start * factor ** (min(done, n + last) / (n if shared else 1))


NOT_STAIRS = {
    "At position 1 you multiply once too often: there are n drops.": {"last": 1},
    "n drops make n + 1 pieces of equal length.": {"pieces": 0},
    "The new value holds at the position itself.": {"late": True},
    "Each drop multiplies by the whole factor.": {"shared": True},
}


def expect_stairs(student, positions, start, factor, n):
    code = "s = sched_steps(start, factor, n)\ngot = [s(p) for p in positions]"
    inputs = {"positions": positions, "start": start, "factor": factor, "n": n}
    expect.close(
        student.run(code, ["got"], **inputs)["got"],
        [stairs(p, start, factor, n) for p in positions],
        of=f"sched_steps({start}, {factor}, {n})", given=positions, atol=1e-9,
        unless={
            text: [stairs(p, start, factor, n, **wrong) for p in positions]
            for text, wrong in NOT_STAIRS.items()
        },
    )  # fmt: skip


def rate(rng):
    return rng.integer(1, 10) / 10


@exercise("sched_steps", points=1)
def test_in_the_middle_of_each_piece(student, rng):
    n = rng.integer(2, 5)
    middles = [round((i + 0.5) / (n + 1), 3) for i in range(n + 1)]
    expect_stairs(student, middles, rate(rng), rng.choice([0.1, 0.2, 0.5]), n)


@exercise("sched_steps", points=0.5)
@pytest.mark.parametrize("n", [1, 3])
def test_where_it_drops_and_at_the_ends(student, rng, n):
    positions = [0.0, *(i / (n + 1) for i in range(1, n + 1)), 0.9, 1.0]
    expect_stairs(student, positions, rate(rng), rng.choice([0.1, 0.2, 0.5]), n)


# What surrounds a learner's callback. `weights` and `bias` are those of a linear layer.
MAKE = """
from glassbox.callbacks import Metrics
from glassbox.data import DataLoaders
from glassbox.learner import CancelEpochException, CancelFitException, Learner
from glassbox.optim import SGD
import torch
from torch import nn

def make(callbacks, train, valid=None, lr=0.1, loss=nn.functional.mse_loss, model=None, **more):
    if model is None:
        model = nn.Linear(2, 1)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[0.5, -0.5]]))
            model.bias.zero_()
    return Learner(model, DataLoaders(train, valid), loss, lr=lr, callbacks=callbacks, **more)
"""


def times(n, what):
    return f"{n} {what}" + "s" * (n != 1)


def batches(rng, n):
    return [
        (rng.normal(3, 2).round(decimals=1), rng.normal(3, 1).round(decimals=1)) for _ in range(n)
    ]


NOTE = """
noted = []
def note(learn):
    training = getattr(learn, "training", None)
    if training is None:
        noted.append([-1, -1, -1])
    else:
        noted.append([int(training), learn.epoch, learn.iteration])
callback = OnlyEvents(names, note)
learner = make([callback], train, valid)
for _ in range(fits):
    learner.fit(epochs)
"""


class AtEvents(Callback):
    def __init__(self, events):
        self.events, self.seen = events, []

    def __call__(self, event):
        learn = self.learn
        self.seen.append((event, [int(learn.training), learn.epoch, learn.iteration]))


def expect_events(student, rng, names, fits):
    train, valid, epochs = batches(rng, rng.integer(2, 4)), batches(rng, 1), rng.integer(2, 4)
    spy = AtEvents(names)
    learner = Learner(nn.Linear(2, 1), DataLoaders(train, valid), nn.MSELoss(), callbacks=[spy])
    for _ in range(fits):
        learner.fit(epochs)
    right = [where for event, where in spy.seen if event in names]
    inputs = {"names": names, "train": train, "valid": valid, "epochs": epochs, "fits": fits}
    got = student.run(MAKE + NOTE, ["noted"], **inputs)["noted"]
    run = (
        f"{times(fits, 'fit')} of {epochs} epochs of {len(train)} training and 1 validation batches"
    )
    calls = f"{len(right)} calls of the function at {names} in {run}"
    expect.true(
        isinstance(got, list) and all(isinstance(x, list) for x in got),
        f"There should be {calls}.",
    )
    expect.true(
        [-1, -1, -1] not in got,
        "The function should get the Learner, and nothing else in its place.",
    )
    because = {
        len(spy.seen): " You call it at every event.",
        sum(t for t, _, _ in right) or -1: " Validation has events, too.",
        len(names): " An event comes more than once in a fit.",
    }
    expect.true(
        len(got) == len(right),
        f"There should be {calls}, but there are {len(got)}.{because.get(len(got), '')}",
    )
    expect.true(
        got == right,
        f"The function should be called with the learner at {right} (training, epoch, batch), but "
        f"it saw {got}.",
    )


@exercise("OnlyEvents", points=1)
def test_some_events(student, rng):
    more = rng.choice([["before_epoch"], ["after_batch"], ["before_epoch", "after_batch"]])
    expect_events(student, rng, ["after_loss", "before_batch", *more], 1)


@exercise("OnlyEvents", points=0.5)
def test_events_of_the_whole_fit_twice(student, rng):
    expect_events(student, rng, ["before_fit", "after_epoch", "cleanup"], 2)


@exercise("OnlyEvents", points=0.5)
def test_a_name_that_is_no_event(student, rng):
    name = rng.choice(["after_lunch", "before_bach", "afterstep"])
    code = """
try:
    OnlyEvents(["after_step", name], print)
    kind = ""
except NotImplementedError:
    raise
except Exception as error:
    kind = type(error).__name__
"""
    kind = student.run(code, ["kind"], name=name)["kind"]
    expect.true(
        kind == "ValueError",
        f"OnlyEvents(['after_step', '{name}'], print) should raise a ValueError: '{name}' is no "
        "event, and whoever mistypes a name waits for it for ever. It "
        + (f"raised a {kind}." if kind else "raised nothing."),
    )


KINDS = {
    "batch": CancelBatchException,
    "epoch": CancelEpochException,
    "fit": CancelFitException,
}


class CancelFrom(Callback):
    """Raises at an event, from batch k on, and counts what is done all the same."""

    def __init__(self, kind, event, k):
        self.kind, self.event, self.k = KINDS[kind], event, k
        self.begun = self.steps = self.validations = 0

    def __call__(self, event):
        self.begun += event == "before_batch" and self.learn.training
        self.steps += event == "after_step"
        self.validations += event == "after_validate"
        if event == self.event and self.learn.training and self.begun >= self.k:
            raise self.kind


def really(kind, event, k, n_epochs, n_batches):
    counter = CancelFrom(kind, event, k)
    batch = (torch.ones(1, 1), torch.ones(1, 1))
    dls = DataLoaders([batch] * n_batches, [batch])
    Learner(nn.Linear(1, 1), dls, nn.MSELoss(), callbacks=[counter]).fit(n_epochs)
    return [counter.steps, counter.validations]


def like_a_fit(kind, event, k, n_epochs, n_batches):
    return really("fit" if kind == "epoch" else kind, event, k, n_epochs, n_batches)


NOT_CANCELLED = {
    "After a cancelled epoch the next epoch begins.": like_a_fit,
    "The validation pass belongs to the epoch, and is cancelled with it.": lambda *args: (
        [really(*args)[0], args[3]] if args[0] == "epoch" else really(*args)
    ),
    "At after_step the step has been made, in every batch that gets so far.": (
        lambda kind, event, *rest: really(kind, "before_batch", *rest)
    ),
    "A batch that is cancelled at before_batch ends before its step.": (
        lambda kind, event, *rest: really(kind, "after_step", *rest)
    ),
    "All loops of a cancelled fit end at once, without another validation pass.": lambda *args: (
        [really(*args)[0], really(*args)[1] + 1] if args[0] == "fit" else really(*args)
    ),
}


@exercise("steps_and_validations", points=0.5)
@pytest.mark.parametrize("event", ["before_batch", "after_step"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_what_is_left(student, rng, kind, event):
    n_epochs, n_batches = rng.integer(3, 6), rng.integer(3, 7)
    k = n_batches * rng.integer(1, n_epochs - 1) + rng.integer(2, n_batches)
    expect.agrees(
        student, "steps_and_validations", kind, event, k, n_epochs, n_batches,
        right=really, wrong=NOT_CANCELLED,
    )  # fmt: skip


RATES = """
class Rates(Callback):
    order = 99
    def __init__(self):
        self.seen = []
    def after_backward(self):
        self.seen.append([float(group["lr"]) for group in self.learn.opt.param_groups])
rates = Rates()
splitter = (lambda m: [[m.weight], [m.bias]]) if len(lrs) > 1 else None
learner = make([WarmUp(n), rates], train, valid, lr=lrs if splitter else lrs[0], splitter=splitter)
for lr in fits:
    learner.fit(epochs, lr=lr)
seen = rates.seen
"""


def warm(n, lrs, n_batches, epochs=1, n_valid=0, late=False, first=False, fits=1, on=False):
    """Return the rates of each batch; the options are mistakes."""
    seen = []
    for _ in range(fits):
        counted = len(seen) if on else 0
        for batch in range(n_batches * epochs):
            before = batch // n_batches * n_valid
            share = min(1, (counted + batch + before + 1 - late) / n)
            full = [lrs[0]] * len(lrs) if first else lrs
            seen.append([lr * (share if share or not late else 1) for lr in full])
    return seen


def compounded(n, lrs, n_batches):
    shares = [min(1, (i + 1) / n) for i in range(n_batches)]
    return [[lr * math.prod(shares[: i + 1]) for lr in lrs] for i in range(n_batches)]


def expect_rates(student, rng, right, unless, n, lrs, n_batches, epochs=1, n_valid=0, fits=1):
    train = batches(rng, n_batches)
    valid = batches(rng, n_valid) if n_valid else None
    inputs = {"n": n, "lrs": lrs, "epochs": epochs, "train": train, "valid": valid}
    inputs["fits"] = [None] + [lrs if len(lrs) > 1 else lrs[0]] * (fits - 1)
    got = student.run(MAKE + RATES, ["seen"], **inputs)["seen"]
    run = f"{times(fits, 'fit')} of {times(epochs, 'epoch')} of {n_batches} training"
    run += f" and {n_valid} validation batches" if n_valid else " batches"
    late = warm(n, lrs, n_batches, epochs, late=True, fits=fits)
    expect.close(
        got, right, unless={LATE: late, **unless},
        of=f"With WarmUp({n}) and full rates of {lrs}, the rates of the training batches in {run}",
    )  # fmt: skip


LATE = "Each rate comes one batch late: the first step is made at the full rate."


@exercise("WarmUp", points=1)
def test_one_group_and_no_validation(student, rng):
    n, lrs = rng.integer(3, 5), [rate(rng)]
    unless = {
        "Each share is multiplied into what the one before has left, not into the full rate.": (
            compounded(n, lrs, 6)
        ),
    }
    expect_rates(student, rng, warm(n, lrs, 6), unless, n, lrs, 6)


@exercise("WarmUp", points=1)
def test_validation_between_the_epochs(student, rng):
    n, lrs, n_valid = rng.integer(5, 8), [rate(rng)], rng.integer(1, 3)
    unless = {"You counted validation batches.": warm(n, lrs, 3, 3, n_valid)}
    expect_rates(student, rng, warm(n, lrs, 3, 3), unless, n, lrs, 3, 3, n_valid)


@exercise("WarmUp", points=0.5)
def test_two_groups(student, rng):
    n, lrs = rng.integer(3, 5), [0.01 * rng.integer(1, 9), rate(rng)]
    unless = {"All groups got the first group's rate.": warm(n, lrs, 5, first=True)}
    expect_rates(student, rng, warm(n, lrs, 5), unless, n, lrs, 5)


@exercise("WarmUp", points=0.5)
def test_two_fits(student, rng):
    n, lrs = rng.integer(3, 5), [rate(rng)]
    unless = {"The second fit did not warm up anew.": warm(n, lrs, 4, fits=2, on=True)}
    expect_rates(student, rng, warm(n, lrs, 4, fits=2), unless, n, lrs, 4, fits=2)


# A rate of 1 and one batch: how far a parameter moves is the gradient that the step saw.
MOVED = """
class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 1), nn.Linear(2, 1, bias=False)
        self.unused = nn.Linear(1, 1)
        with torch.no_grad():
            for p, value in zip(self.parameters(), start):
                p.copy_(value)
        if not unused:
            del self.unused
    def forward(self, x):
        return self.a(x) + self.b(x * x)

def moved(*callbacks):
    model = Two()
    make(callbacks, [batch], lr=1.0, model=model).fit(1)
    now = torch.cat([p.detach().flatten() for p in model.parameters()])
    before = torch.cat([value.flatten() for value in start[: len(list(model.parameters()))]])
    return (before - now)[:5]

if half:
    from glassbox.training import MixedPrecision
    half = lambda: [MixedPrecision(torch.bfloat16, scale=1024.0)]
else:
    half = list
clip = ClipGradients(most)
free, clipped = moved(*half()), moved(*half(), clip)
swapped = moved(ClipGradients(most), *half())
"""


def by_parameter(gradient, most):
    parts = gradient.split([2, 1, 2])
    return torch.cat([part * min(1, most / part.norm().item()) for part in parts])


def expect_clipped(student, rng, share, half=False, unused=False):
    def draw():
        start = [rng.normal(*s).round(decimals=1) for s in ((1, 2), (1,), (1, 2), (1, 1), (1,))]
        return start, batches(rng, 1)[0]

    def gradient(start, batch):
        w, b, v = (value.clone().requires_grad_() for value in start[:3])
        x, y = batch
        loss = nn.functional.mse_loss(x @ w.T + b + (x * x) @ v.T, y)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, (w, b, v))])

    # Every parameter's part matters, no number nearly vanishes, and no two mistakes look alike.
    while True:
        start, batch = draw()
        free = gradient(start, batch)
        parts = torch.stack([part.norm() for part in free.split([2, 1, 2])])
        if free.norm() > 1 and parts.min() > 0.4 * parts.max() and free.abs().min() > 0.1:
            break
    most = round(free.norm().item() * share, 2)
    inputs = {"start": start, "batch": batch, "most": most, "half": half, "unused": unused}
    try:
        got = student.run(MAKE + MOVED, ["free", "clipped", "swapped"], **inputs)
    except Exception as error:
        expect.true(
            not (unused and "NoneType" in str(error)),
            f"A parameter that is not used has no gradient, its p.grad is None: {error}",
        )
        raise
    free = got["free"] if half else free  # in half precision the gradients are other ones
    expect.true(
        isinstance(free, torch.Tensor) and free.shape == (5,) and free.norm() > 0,
        "Without ClipGradients the model should train as ever.",
    )
    length = free.norm().item()
    factor = min(1, most / length)
    mistakes = {
        "That is clipped for each parameter by itself, which changes the direction.": (
            by_parameter(free, most)
        ),
        "That clamps each number by itself, which changes the direction.": free.clamp(-most, most),
        "You clipped before MixedPrecision had divided: the gradients were 1024 times as long.": (
            free * most / length / 1024
        ),
        "The gradient was already short enough, and has been made longer.": free * most / length,
        "Nothing was clipped.": free,
    }
    for name, order in (("clipped", "last"), ("swapped", "first")) if half else [("clipped", "")]:
        where = f" (ClipGradients given {order})" if half else ""
        expect.close(
            got[name], free * factor, of=f"The gradient that the step sees with most={most}{where}",
            given=free, rtol=2e-3, atol=2e-4,
            unless={
                text: wrong
                for text, wrong in mistakes.items()
                if not torch.allclose(wrong, free * factor, rtol=2e-3, atol=2e-4)
            },
        )  # fmt: skip


@exercise("ClipGradients", points=1)
def test_a_long_gradient(student, rng):
    expect_clipped(student, rng, rng.uniform(0.2, 0.4, 1).item())


@exercise("ClipGradients", points=0.5)
def test_a_short_gradient(student, rng):
    expect_clipped(student, rng, rng.uniform(1.2, 2, 1).item())


@exercise("ClipGradients", points=0.5)
def test_a_parameter_without_a_gradient(student, rng):
    expect_clipped(student, rng, 0.4, unused=True)


@exercise("ClipGradients", points=1)
def test_under_mixed_precision(student, rng):
    expect_clipped(student, rng, 0.3, half=True)


def smooth(losses, biased=False):
    total = weight = 0.0
    smoothed = []
    for loss in losses:
        total, weight = 0.8 * total + loss, 0.8 * weight + 1
        smoothed.append(total / (5 if biased else weight))
    return smoothed


def fall(lrs, losses, scale=math.log, smoothing=smooth, size=lambda slope: -slope):
    y, x = smoothing(losses), [scale(lr) for lr in lrs]
    slopes = [(y[i + 1] - y[i]) / (x[i + 1] - x[i]) for i in range(len(x) - 1)]
    i = max(range(len(slopes)), key=lambda i: size(slopes[i]))
    return math.sqrt(lrs[i] * lrs[i + 1])


def largest_drop(lrs, losses):
    y = smooth(losses)
    i = min(range(len(y) - 1), key=lambda i: y[i + 1] - y[i])
    return math.sqrt(lrs[i] * lrs[i + 1])


NOT_STEEPEST = {
    "The losses are to be smoothed first.": lambda r, y: fall(r, y, smoothing=list),
    "It is the slope over the logarithm of the rate that counts.": (
        lambda r, y: fall(r, y, scale=float)
    ),
    "The rates are not equally spaced: divide by the step of the logarithm.": largest_drop,
    "There the loss blows up: look for the steepest fall, not the steepest change.": (
        lambda r, y: fall(r, y, size=abs)
    ),
    "Divide by the sum of the weights, which is small for the first entries.": (
        lambda r, y: fall(r, y, smoothing=lambda losses: smooth(losses, biased=True))
    ),
}


def curve(rng, even):
    """Return rates and losses like a finder's: flat, falling, and at last blowing up."""
    n = rng.integer(10, 14)
    steps = torch.full((n,), 0.7) if even else rng.uniform(0.2, 1.2, n)
    lrs = (0.001 * steps.cumsum(0).exp()).tolist()
    at = torch.linspace(0, 1, n)
    losses = 2.5 - 2 * torch.sigmoid(14 * (at - rng.uniform(0.3, 0.5, 1))) + 0.15 * rng.normal(n)
    losses[-1] += 9
    return [round(lr, 5) for lr in lrs], [round(y, 2) for y in losses.tolist()]


def expect_steepest(student, lrs, losses):
    expect.agrees(student, "steepest", lrs, losses, right=fall, wrong=NOT_STEEPEST, rtol=1e-3)


def clear_curve(rng, even):
    """Draw until every mistake gives a rate of its own."""
    mistakes = [f for f in NOT_STEEPEST.values() if not (even and f is largest_drop)]
    while True:
        drawn = curve(rng, even)
        found = sorted(math.log(f(*drawn)) for f in (fall, *mistakes))
        if min(b - a for a, b in itertools.pairwise(found)) > 0.02:
            return drawn


@exercise("steepest", points=1)
def test_equally_spaced_rates(student, rng):
    expect_steepest(student, *clear_curve(rng, even=True))


@exercise("steepest", points=1)
def test_rates_at_other_distances(student, rng):
    expect_steepest(student, *clear_curve(rng, even=False))


@exercise("steepest", points=1)
def test_a_loss_that_falls_nowhere(student, rng):
    lrs = (0.01 * rng.uniform(0.5, 1, 5).cumsum(0)).tolist()
    losses = rng.uniform(0.1, 0.5, 5).cumsum(0).round(decimals=2).tolist()
    expect.raises(
        student, "steepest", [round(lr, 4) for lr in lrs], losses, kind="ValueError",
        because="as the loss only rises",
    )  # fmt: skip


# Weights, bias and what a validation pass sees, as rows of three numbers.
AVERAGE = """
def row(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()

class Look(Callback):
    order = 90
    def __init__(self):
        self.validated, self.stepped = [], []
    def after_step(self):
        self.stepped.append(row(self.learn.model))
    def after_pred(self):
        if not self.learn.training:
            self.validated.append(row(self.learn.model))
            if self.learn.epoch == stop:
                raise {"epoch": CancelEpochException, "fit": CancelFitException}.get(kind, KeyError)

look = Look()
def momentum(params, lr):
    return SGD(params, lr=lr, momentum=0.9)

learner = make([AverageWeights(decay), look], train, valid, opt_func=momentum)
try:
    learner.fit(epochs)
except KeyError:
    pass
after, validated, stepped = row(learner.model), look.validated, look.stepped
"""


class Steps(Callback):
    """Notes the weights after each step; may put their average in for good, which is a mistake."""

    order = 90

    def __init__(self, begin, stays=None):
        self.rows, self.average, self.stays = [], begin, stays

    def after_step(self):
        parts = [p.detach().flatten() for p in self.learn.model.parameters()]
        self.rows.append(torch.cat(parts))
        if self.stays is not None:
            self.average = self.stays * self.average + (1 - self.stays) * self.rows[-1]

    def before_validate(self):
        if self.stays is not None:
            nn.utils.vector_to_parameters(self.average.clone(), self.learn.model.parameters())


BEGIN = torch.tensor([0.5, -0.5, 0.0])


def without_average(train, epochs, stays=None):
    """Return the weights after each step of the same fit without the callback."""
    model, steps = nn.Linear(2, 1), Steps(BEGIN, stays)
    nn.utils.vector_to_parameters(BEGIN.clone(), model.parameters())
    dls = DataLoaders(train, train[:1])
    opt_func = functools.partial(SGD, momentum=0.9)
    Learner(model, dls, nn.functional.mse_loss, opt_func, 0.1, [steps]).fit(epochs)
    return torch.stack(steps.rows).double()


def averaged(steps, decay, n, begin=BEGIN):
    """Return the moving average after n steps."""
    mean = begin.double()
    for row in steps[:n]:
        mean = decay * mean + (1 - decay) * row
    return mean


class AverageRun:
    """A fit of two epochs with the learner's callback, and the same without it."""

    def __init__(self, student, rng, stop=-1, kind=""):
        self.n, self.decay = rng.integer(2, 4), rng.integer(6, 9) / 10
        self.train = batches(rng, self.n)
        found = student.run(
            MAKE + AVERAGE, ["after", "validated", "stepped"], train=self.train, stop=stop,
            valid=batches(rng, 1), epochs=2, decay=self.decay, kind=kind,
        )  # fmt: skip
        self.after, self.validated, self.stepped = found.values()
        self.steps = without_average(self.train, 2)
        expect.true(
            isinstance(self.validated, list) and len(self.validated) == 2,
            "There should be two validation passes of one batch each.",
        )

    def close(self, got, expected, what, unless=None):
        expect.close(
            got, expected, rtol=1e-3, atol=1e-5, unless=unless,
            of=f"With AverageWeights({self.decay}), weights that begin as 0.5, −0.5 and 0, and "
            f"{self.n} steps in each epoch, {what}",
        )  # fmt: skip


@exercise("AverageWeights", points=1)
def test_what_is_validated(student, rng):
    run = AverageRun(student, rng)
    n, decay, steps = run.n, run.decay, run.steps
    unless = {
        "decay is the share of the old average.": averaged(steps, 1 - decay, n),
        "The average must begin with the weights before the first step.": (
            averaged(steps, decay, n, begin=0 * BEGIN)
        ),
        "Those are the model's own weights: the average was not put in.": steps[n - 1],
    }
    first = averaged(steps, decay, n)
    run.close(run.validated[0], first, "what the first validation pass sees", unless)
    second = averaged(steps, decay, 2 * n)
    run.close(run.validated[1], second, "what the second validation pass sees")


@exercise("AverageWeights", points=1)
def test_what_is_trained(student, rng):
    run = AverageRun(student, rng)
    n, rows = run.n, run.stepped
    expect.true(isinstance(rows, list) and len(rows) == 2 * n, "There should be a step per batch.")
    try:
        run.close(rows[0], run.steps[0], "the weights after the first step")
    except expect.Failure as failure:
        raise expect.Failure(
            f"{failure} Something changes the weights themselves: does the average share its "
            "numbers with them?"
        ) from None
    unless = {
        "After the first validation pass training goes on from the average.": (
            without_average(run.train, 2, stays=run.decay)
        )
    }
    run.close(rows, run.steps, "the weights after each step", unless)
    run.close(run.after, run.steps[-1], "the weights after the fit")


@exercise("AverageWeights", points=1)
def test_a_cancelled_epoch(student, rng):
    run = AverageRun(student, rng, stop=0, kind="epoch")
    unless = {
        "The first validation pass was cancelled by a CancelEpochException, so that there was no "
        "after_validate, and training went on from the average.": (
            without_average(run.train, 2, stays=run.decay)
        )
    }
    run.close(run.stepped, run.steps, "the weights after each step", unless)


@exercise("AverageWeights", points=0.5)
@pytest.mark.parametrize("kind", ["fit", "error"])
def test_a_fit_that_breaks_off(student, rng, kind):
    run = AverageRun(student, rng, stop=1, kind=kind)
    average = averaged(run.steps, run.decay, 2 * run.n)
    run.close(run.validated[1], average, "what the second validation pass sees")
    how = {
        "fit": "was cancelled by a CancelFitException, and then there is no after_validate",
        "error": "was broken off by an error, and only one event comes even then",
    }[kind]
    unless = {f"The average is still in the model: the second validation pass {how}.": average}
    run.close(run.after, run.steps[-1], "the model after the fit", unless)


# The loss and the accuracy of each epoch are given, and the weights stay as they are.
KEEP = """
def fresh(metric):
    metrics = Metrics(accuracy=lambda pred, y: torch.tensor(values[learner.epoch]))
    keep = KeepBest(path, metrics, metric)
    def loss(pred, y):
        return (pred * 0).sum() + values[learner.epoch]
    return keep, make([metrics, keep, Skip()], train, train, loss=loss)

class Skip(Callback):
    def before_validate(self):
        if self.learn.epoch in cancelled:
            raise CancelEpochException

class Files(Callback):
    order = 1000
    def __init__(self):
        self.written, self.last = [], content()
    def after_epoch(self):
        now = content()
        if now != self.last:
            self.written.append(self.learn.epoch)
        self.last = now

import os
path = "best.ckpt"
def content():
    if os.path.exists(path):
        with open(path, "rb") as file:
            return file.read()

if os.path.exists(path):
    os.remove(path)
values = first
keep, learner = fresh(metric)
files = Files()
learner.fit(len(values), callbacks=[files])
written, best, again, resumed = files.written, keep.best, [], None
if second:
    keep, learner = fresh(metric)
    begin = load_checkpoint(path, learner)
    resumed = keep.best
    values = [0.0] * begin + second
    files = Files()
    learner.fit(len(values), start_epoch=begin, callbacks=[files])
    again = [epoch - begin for epoch in files.written]
"""


def keep(student, rng, metric, first, second=(), cancelled=()):
    return student.run(
        MAKE + KEEP, ["written", "best", "again", "resumed"], train=batches(rng, 1), metric=metric,
        first=first, second=list(second), cancelled=list(cancelled),
    )  # fmt: skip


def better(values, metric, equal=False):
    """Return the numbers of those that are better than all before."""
    sign = -1 if metric == "loss" else 1
    best, found = -math.inf, []
    for i, value in enumerate(values):
        if sign * value > best or (equal and sign * value == best):
            best, found = sign * value, [*found, i]
    return found


def levels(rng, *ranks):
    """Return values in a given order of size, such as 0.6, 0.5, 0.7 for the ranks 1, 0, 2."""
    steps = rng.uniform(0.05, 0.1, max(ranks) + 1).cumsum(0) + 0.2
    return [round(steps[rank].item(), 2) for rank in ranks]


def expect_written(got, values, metric, unless=None):
    right = better(values, metric)
    said = [text for text, wrong in (unless or {}).items() if got["written"] == wrong]
    expect.true(
        got["written"] == right,
        f"For the values {values} of '{metric}' checkpoints should be written in the epochs "
        f"{right} (from 0), but they were in {got['written']}. {' '.join(said)}",
    )
    expect.close(got["best"], values[right[-1]], of="The attribute best after the fit")


DIRECTIONS = {
    "accuracy": "For accuracy, larger is better.",
    "loss": "For the loss, smaller is better.",
}


@exercise("KeepBest", points=1)
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_better_than_all_before(student, rng, metric):
    values = (
        levels(rng, 2, 0, 2, 3, 1, 4) if metric == "accuracy" else levels(rng, 2, 4, 2, 1, 3, 0)
    )
    other = "loss" if metric == "accuracy" else "accuracy"
    got = keep(student, rng, metric, values)
    unless = {
        DIRECTIONS[metric]: better(values, other),
        "A value that is equal to the best is not better.": better(values, metric, equal=True),
    }
    expect_written(got, values, metric, unless)


@exercise("KeepBest", points=0.5)
def test_an_epoch_that_is_cancelled(student, rng):
    values = levels(rng, 0, 3, 1)
    try:
        got = keep(student, rng, "accuracy", values, cancelled=[1])
    except Exception as error:
        expect.true(
            "KeyError" not in str(error),
            f"A cancelled epoch has no validation value, and is to be passed over: {error}",
        )
        raise
    expect.true(
        got["written"] == [0, 2],
        "With a validation pass cancelled in epoch 1, and growing values in 0 and 2, checkpoints "
        f"should be written in the epochs [0, 2], but they were in {got['written']}.",
    )


@exercise("KeepBest", points=0.5)
def test_a_value_that_is_no_number(student, rng):
    values = [math.nan, *levels(rng, 1, 0), math.nan, *levels(rng, 2, 3)[:1]]
    metric = rng.choice(["accuracy", "loss"])
    got = keep(student, rng, metric, values)
    expect.true(
        0 not in (got["written"] if isinstance(got["written"], list) else []),
        f"For the values {values} of '{metric}' nothing should be written in epoch 0: NaN is never "
        "better, not even than nothing.",
    )
    expect_written(got, values, metric)


@exercise("KeepBest", points=2)
def test_resumed_from_its_own_file(student, rng):
    first = levels(rng, 1, 4, 0)
    second = [round(first[2] + 0.01, 2), round(first[1] + 0.1, 2)]
    got = keep(student, rng, "accuracy", first, second)
    expect.true(
        got["resumed"] is not None,
        "A run resumed from its own checkpoint should know the best value so far, "
        f"{first[1]}, but it seems to remember nothing: best is None.",
    )
    expect.close(
        got["resumed"], first[1], of="best after load_checkpoint", given=first,
        unless={"The file holds the best as it was before it was written.": first[0]},
    )  # fmt: skip
    expect.true(
        got["again"] == [1],
        f"After the values {first}, resumed with {second}, a checkpoint should be written for "
        f"{second[1]} only, but there were {len(got['again'])}.",
    )
