"""Checks of the exercises on callbacks."""

import math

import pytest
import torch

from glassbox.data import DataLoader, DataLoaders
from glassbox.learner import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    Learner,
)
from glassbox.losses import mse_loss
from lectern import expect

exercise = pytest.mark.exercise

# Runs beside the learner's code: a linear model without a bias, and batches in a fixed order.
LEARNER = """
import torch
from glassbox.callbacks import Metrics, Recorder
from glassbox.data import DataLoader, DataLoaders
from glassbox.learner import Callback, Learner
from glassbox.losses import mse_loss

def learner(*callbacks, **options):
    model = torch.nn.Linear(x.shape[1], 1, bias=False)
    model.weight.data = w.clone()
    loaders = [DataLoader(x, y, batch_size=size) for _ in range(2)]
    return Learner(model, DataLoaders(*loaders), mse_loss, lr=0.1, callbacks=callbacks, **options)

class Spoil(Callback):
    order = -9
    def __init__(self, bad, epoch, batch, training=True):
        self.bad, self.where = bad, (epoch, batch, training)
    def before_batch(self):
        if (self.learn.epoch, self.learn.iteration, self.learn.training) == self.where:
            self.learn.yb = torch.full_like(self.learn.yb, self.bad)

"""


def data(rng, size=4, batches=3):
    """Return the inputs of `LEARNER`."""
    x = rng.normal(size, 2).repeat(batches, 1)
    return {
        "x": x,
        "y": rng.normal(size, 1).repeat(batches, 1),
        "w": rng.normal(1, 2),
        "size": size,
    }


def descend(x, y, w, size, rates):
    """Return the losses of the batches, one for each rate, and the weights after their steps."""
    w, losses = w.clone().requires_grad_(), []
    batches = list(zip(x.split(size), y.split(size), strict=True))
    for i, rate in enumerate(rates):
        xb, yb = batches[i % len(batches)]
        loss = ((xb @ w.T - yb) ** 2).mean()
        losses.append(loss.item())
        (slope,) = torch.autograd.grad(loss, w)
        w = (w - rate * slope).detach().requires_grad_()
    return losses, w.detach()


def same(got, expected):
    """Whether two things are equal, where `got` may be anything."""
    try:
        return bool(got == expected)
    except (RuntimeError, ValueError, TypeError):
        return False


@exercise("compose", points=1)
def test_from_left_to_right(student, rng):
    code = """
steps = [lambda x: x + 1, lambda x: 3 * x, lambda x: x - 5]
try:
    out = [compose(*steps[:n])(x) for n in (2, 3)]
except RecursionError:
    out = None
"""
    x = rng.integer(2, 9)
    got = student.run(code, ["out"], x=x)["out"]
    expect.true(
        got is not None,
        "The composed function calls itself without end (RecursionError). A closure that is made "
        "in a loop remembers the variable, not the value that it had.",
    )
    expect.close(
        got, [3 * (x + 1), 3 * (x + 1) - 5],
        of=f"[compose(plus_1, times_3)({x}), compose(plus_1, times_3, minus_5)({x})]",
        unless={
            "The functions come left to right: the first one gets the argument.": [
                3 * x + 1,
                3 * (x - 5) + 1,
            ],
            "There may be any number of functions, not only two.": [3 * (x + 1), x + 1 - 5],
            "Each function gets the result of the one before it.": [3 * x, x - 5],
        },
    )  # fmt: skip


@exercise("compose", points=1)
def test_one_function_or_none(student, rng):
    x = rng.integer(2, 9)
    code = """
called = []
f = compose(lambda x: called.append(x) or 2 * x)
early = len(called)
out = [f(x), f(x), compose()(x)]
"""
    got = student.run(code, ["out", "early"], x=x)
    expect.true(got["early"] == 0, "compose called a function at once; it is to wait for its call.")
    expect.close(
        got["out"], [2 * x, 2 * x, x],
        of=f"[f({x}), f({x}), compose()({x})], where f = compose(double),",
        unless={"With no functions, the argument comes back unchanged.": [2 * x, 2 * x, 0]},
    )  # fmt: skip


RECORD = """
calls = []
def record(*args, **kwargs):
    calls.append([list(args), kwargs])
    return answer
"""


@exercise("once", points=1)
def test_later_calls_return_the_first_result(student, rng):
    a, b = rng.integer(2, 50), rng.integer(50, 99)
    code = f"{RECORD}f = once(record)\nout = [f(a, word=b), f(b), f(a, word=b)]"
    got = student.run(code, ["out", "calls"], a=a, b=b, answer=a * b)
    calls, shown = got["calls"], f"f = once(record), then f({a}, word={b}), f({b})"
    expect.true(
        isinstance(calls, list) and len(calls) == 1,
        f"{shown}: record should be called once, but it was called for {calls}. A later call "
        "returns the first result, whatever its arguments are.",
    )
    expect.true(
        same(calls, [[[a], {"word": b}]]),
        f"{shown}: record should get the arguments {a} and word={b}, but it got {calls[0]}. "
        "Nothing is to be called before f is.",
    )
    expect.close(got["out"], [a * b] * 3, of=f"the three results of {shown}")


@exercise("once", points=0.5)
def test_none_is_a_result_and_functions_are_apart(student, rng):
    a = rng.integer(2, 50)
    code = f"{RECORD}f, g = once(record), once(lambda x: x + 1)\nout = [f(a), f(a), g(a), g(a)]"
    got = student.run(code, ["out", "calls"], a=a, answer=None)
    expect.true(
        same(got["out"][2:], [a + 1, a + 1]),
        f"once(f) and once(g) know nothing of each other: g(x) = x + 1 should give {a + 1} for "
        f"x = {a}, but after a call of f it gave {got['out'][2]}.",
    )
    expect.true(
        len(got["calls"]) == 1 and same(got["out"][:2], [None, None]),
        f"None is a result too: a function that returns it was called {len(got['calls'])} times "
        f"in place of 1, and the results were {got['out'][:2]}.",
    )


@exercise("once", points=0.5)
def test_a_failed_call_has_no_result(student, rng):
    code = """
tries = []
def moody(x):
    tries.append(x)
    if len(tries) == 1:
        raise OSError("not today")
    return 2 * x
f, errors, out = once(moody), [], None
for _ in range(2):
    try:
        out = f(a)
    except OSError as error:
        errors.append(str(error))
"""
    a = rng.integer(2, 50)
    got = student.run(code, ["out", "errors"], a=a)
    expect.true(
        same(got, {"out": 2 * a, "errors": ["not today"]}),
        "A function fails the first time. Its error should come out, once, and the next call "
        f"tries again and gives {2 * a}; but the errors that came out were {got['errors']} "
        f"and the result was {got['out']}.",
    )


@exercise("Matching", points=1)
def test_how_often_events_come(student, rng):
    epochs, batches = rng.integer(2, 4), rng.integer(2, 5)
    expected = {"after_step": epochs * batches, "before_validate": epochs, "after_cancel_fit": 0}
    code = f"{LEARNER}m = Matching(list(names))\nlearner(m).fit(epochs)\ncounts = m.counts"
    given = data(rng, batches=batches)
    got = student.run(code, ["counts"], **given, epochs=epochs, names=list(expected))["counts"]
    expect.true(
        same(got, expected),
        f"{epochs} epochs of {batches} batches: counts should be {expected}, but it is {got}. It "
        "has exactly the names asked for; those that never came have 0.",
    )


@exercise("Matching", points=1)
def test_zeros_at_first_and_nothing_shared(student, rng):
    names = [["after_fit", "before_batch"], ["after_epoch"]]
    code = f"""{LEARNER}
first, second = [Matching(n) for n in names]
early = [dict(first.counts), dict(second.counts)]
learn = learner(first)
learn.fit(1)
learn.fit(1)
late = [dict(first.counts), dict(second.counts)]
"""
    got = student.run(code, ["early", "late"], **data(rng), names=names)
    zeros = [dict.fromkeys(n, 0) for n in names]
    expect.true(
        same(got["early"], zeros),
        f"Before a fit, two objects for {names} should have {zeros}, but they have {got['early']}. "
        "Names that have not come have 0, and two objects share nothing.",
    )
    expected = [{"after_fit": 2, "before_batch": 12}, {"after_epoch": 0}]
    expect.true(
        same(got["late"], expected),
        "Two fits of an epoch, with the first of two objects, should leave the counts "
        f"{expected}, but they are {got['late']}.",
    )


@exercise("Matching", points=1)
def test_methods_of_a_subclass_are_called(student, rng):
    code = f"""{LEARNER}
class Heard(Matching):
    heard = 0
    def after_step(self):
        self.heard += 1
    def before_train(self):
        self.heard += 100
h = Heard(["after_step"])
learner(h).fit(1)
heard, counted = h.heard, h.counts
"""
    got = student.run(code, ["heard", "counted"], **data(rng))
    expect.true(
        same(got, {"heard": 103, "counted": {"after_step": 3}}),
        "In an epoch of 3 batches, a subclass that defines after_step and before_train should "
        f"have them called 3 times and once, and counts of 3 steps; but there were {got['heard']} "
        f"of these calls (after_step as 1, before_train as 100), and counts {got['counted']}. An "
        "event must still reach the method named like it.",
    )


class Listen(Callback):
    def __init__(self, epoch, batch, kind):
        self.heard, self.where, self.kind = [], (True, epoch, batch, "after_loss"), kind

    def __call__(self, event):
        self.heard.append(event)
        learn = self.learn
        if (learn.training, learn.epoch, learn.iteration, event) == self.where:
            raise self.kind


CANCELS = {
    "batch": CancelBatchException,
    "epoch": CancelEpochException,
    "fit": CancelFitException,
}
WATCHED = ("after_step", "after_train", "before_validate", "after_epoch")
NO_STEP = "The batch in which it happens makes no step"
INSIDE = "The pass in which it happens has no closing event."
REASONS = {
    ("batch", "after_step"): f"{NO_STEP}, and the next one follows.",
    ("epoch", "after_step"): f"{NO_STEP}, nor do those after it; the next epoch follows.",
    ("epoch", "after_train"): INSIDE,
    ("epoch", "before_validate"): "The validation belongs to the epoch, and is cancelled with it.",
    ("epoch", "after_epoch"): "A cancelled level is closed all the same: after_epoch comes.",
    ("fit", "after_step"): f"{NO_STEP}, and nothing comes after it.",
    ("fit", "after_train"): INSIDE,
    ("fit", "after_epoch"): "A cancelled fit leaves the epoch without its closing event.",
}


@exercise("count_events", points=1)
@pytest.mark.parametrize("kind", CANCELS)
def test_events_of_a_cancelled(student, rng, kind):
    n_epochs, n_batches = rng.integer(3, 6), rng.integer(3, 6)
    epoch, batch = rng.integer(0, n_epochs - 1), rng.integer(1, n_batches - 1)
    listen, x = Listen(epoch, batch, CANCELS[kind]), torch.ones(n_batches, 1)
    dls = DataLoaders(*[DataLoader(x, x, batch_size=1) for _ in range(2)])
    Learner(torch.nn.Linear(1, 1), dls, mse_loss, callbacks=[listen]).fit(n_epochs)
    expected = {name: listen.heard.count(name) for name in WATCHED}
    args = (kind, n_epochs, n_batches, epoch, batch)
    got = student.call("count_events", *args)
    shown = f"count_events{args}"
    expect.true(
        isinstance(got, dict)
        and set(got) == set(WATCHED)
        and all(isinstance(n, int | float) for n in got.values()),
        f"{shown} should return a dict of numbers with the keys {', '.join(WATCHED)}, but it "
        f"returned {got}.",
    )
    wrong = [name for name in WATCHED if got[name] != expected[name]]
    reasons = " ".join(REASONS[kind, name] for name in wrong if (kind, name) in REASONS)
    expect.true(not wrong, f"{shown} should be {expected}, but it is {got}. {reasons}")


THING = "class Thing:\n    pass\na, b = Thing(), Thing()\na.lr, b.lr = first, second\n"


@exercise("Switch", points=1)
def test_after_an_error(student, rng):
    code = f"""{THING}
inside = error = None
try:
    with Switch("lr", value)(a) as thing:
        inside = thing.lr
        raise KeyError("in the block")
except KeyError as caught:
    error = str(caught)
after = a.lr
"""
    first, value = rng.integer(1, 50), rng.integer(50, 99)
    got = student.run(
        code, ["inside", "error", "after"], first=first, second=0, value=value
    )  # fmt: skip
    expect.true(
        same(got["inside"], value),
        f"In the block the attribute should be {value}, but it is {got['inside']}.",
    )
    expect.true(
        same(got["after"], first),
        f"After an error in the block the attribute should be {first} again, as before, but it is "
        f"{got['after']}.",
    )
    expect.true(
        got["error"] == "'in the block'",
        "An error should come out of the block, but it was swallowed.",
    )


@exercise("Switch", points=1)
def test_an_attribute_that_was_not_there(student, rng):
    code = f"""{THING}
with Switch("new", value)(a):
    inside = a.new
with Switch("lr", value)(b):
    pass
left, lr = hasattr(a, "new"), getattr(b, "lr", "gone")
"""
    value = rng.integer(50, 99)
    got = student.run(code, ["inside", "left", "lr"], first=1, second=None, value=value)
    expect.true(
        same(got["inside"], value),
        f"In the block the attribute should be {value}, but it is {got['inside']}.",
    )
    expect.true(
        got["left"] is False,
        "An attribute that was not there before should be removed after the block, but it is left.",
    )
    expect.true(
        got["lr"] is None,
        f"An attribute whose value was None should be None again, but it is {got['lr']}.",
    )


@exercise("Switch", points=1)
def test_one_switch_for_two_things(student, rng):
    code = f"""{THING}
switch = Switch("lr", value)
with switch(a), switch(b):
    inside = [a.lr, b.lr]
after = [a.lr, b.lr]
"""
    first, second, value = rng.integer(1, 20), rng.integer(20, 50), rng.integer(50, 99)
    got = student.run(code, ["inside", "after"], first=first, second=second, value=value)
    expect.true(
        same(got, {"inside": [value, value], "after": [first, second]}),
        f"With one switch for two things, attributes of {first} and {second} should be "
        f"{[value, value]} in the block and {[first, second]} after it, but they are "
        f"{got['inside']} and {got['after']}.",
    )


@exercise("StopOnNaN", points=0.5)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_weights_stay_as_they_were(student, rng, bad):
    given = data(rng)
    epoch, batch = rng.integer(1, 3), rng.integer(1, 3)
    steps = 3 * epoch + batch
    code = f"""{LEARNER}
stop = StopOnNaN()
learn = learner(stop, Spoil(bad, epoch, batch))
learn.fit(4)
at, weights = stop.stopped_at, learn.model.weight
"""
    got = student.run(code, ["at", "weights"], **given, bad=bad, epoch=epoch, batch=batch)
    _, expected = descend(**given, rates=[0.1] * steps)
    loss = "NaN" if math.isnan(bad) else "infinite"
    later = descend(**given, rates=[0.1] * (steps + 1))[1] * math.nan
    whole = descend(**given, rates=[0.1] * 11)[1]
    expect.close(
        got["weights"], expected,
        of=f"the model's weight after {steps} steps and a batch whose loss is {loss}",
        unless={
            f"The bad batch still made its step. A loss that is {loss} must stop the fit, and "
            "after the step it is too late.": later,
            "The bad batch was skipped, but the fit went on.": whole,
        },
    )  # fmt: skip
    reason = " That is the number of the batch within the epoch." if same(got["at"], batch) else ""
    expect.true(
        same(got["at"], steps),
        f"{steps} steps were made before the bad batch ({epoch} epochs of 3 and {batch}), so "
        f"stopped_at should be {steps}, but it is {got['at']}.{reason}",
    )


@exercise("StopOnNaN", points=1)
def test_validation_stops_nothing(student, rng):
    given = data(rng)
    code = f"""{LEARNER}
stop = StopOnNaN()
learn = learner(stop, Spoil(float("nan"), 0, 1, training=False))
learn.fit(2)
at, weights = stop.stopped_at, learn.model.weight
"""
    got = student.run(code, ["at", "weights"], **given)
    expect.true(
        got["at"] is None,
        "All training losses are finite, and only a loss in validation is NaN: stopped_at should "
        f"be None, but it is {got['at']}.",
    )
    expected = descend(**given, rates=[0.1] * 6)[1]
    expect.close(got["weights"], expected, of="the model's weight after two whole epochs")


@exercise("StopOnNaN", points=1)
def test_a_later_fit_goes_on(student, rng):
    given = data(rng)
    code = f"""{LEARNER}
stop = StopOnNaN()
learn = learner(stop)
learn.fit(1, callbacks=[Spoil(float("nan"), 0, 2)])
first = stop.stopped_at
learn.fit(1)
second, weights = stop.stopped_at, learn.model.weight.detach().clone()
learn.fit(1, callbacks=[Spoil(float("inf"), 0, 1)])
third = stop.stopped_at
"""
    got = student.run(code, ["first", "second", "third", "weights"], **given)
    expected = descend(**given, rates=[0.1] * 2)[1]
    expected = descend(**{**given, "w": expected}, rates=[0.1] * 3)[1]
    expect.close(
        got["weights"], expected,
        of="the model's weight after 2 steps, a bad batch, and a second fit of 3 steps",
        unless={
            "The bad batch left its gradient behind, and the next step added it to its own. Stop "
            "before the backward pass.": expected * math.nan
        },
    )  # fmt: skip
    found = [got["first"], got["second"], got["third"]]
    expect.true(
        same(found, [2, None, 1]),
        "Three fits, stopped after 2 steps, not at all, and after 1 step, should have stopped_at "
        f"2, None and 1, but they have {found}. Each fit starts with None and counts from 0.",
    )


PATIENCE = f"""{LEARNER}
def watched(patience, valid, *others):
    metrics = Metrics(error=lambda pred, target: torch.tensor(
        float(valid[learn.epoch] if learn.training is False else -learn.epoch)))
    learn = learner(metrics, Patience(metrics, "error", patience), *others)
    learn.fit(len(valid))
    return learn
"""


def draw_values(rng, again=2):
    """Return how long to wait, values, and the numbers of epochs to the best and to the end."""
    patience, best = rng.integer(2, 4), rng.integer(10, 30)
    start = [9, 12, 6] if rng.integer(0, 2) else [8, 9]
    waiting = [*[3, 1][: patience - 1], again]
    values = [best + more for more in [*start, 0, *waiting, 5, 4, 6, 7, 8, 2]]
    return patience, values, len(start) + 1, len(start) + 1 + patience


@exercise("Patience", points=1.5)
def test_when_the_fit_ends(student, rng):
    patience, values, best, end = draw_values(rng, again=0)
    code = f"{PATIENCE}done = watched(patience, valid).epoch + 1"
    done = student.run(code, ["done"], **data(rng), patience=patience, valid=values)["done"]
    reasons = {
        end - 1: "The epochs without a fall must come in a row: a new low starts the count anew.",
        end + patience: "To equal the lowest is no fall.",
        end + patience + 2: "The value must fall below the lowest so far, not below the last one.",
        end + 6: "Nothing ended it. (The value of the training pass falls all the time here.)",
    }
    expect.true(
        same(done, end),
        f"With epochs={patience} and the values {values}, of which number {best} is the lowest, "
        f"the fit should end after {end} epochs, but it ended after {done}. "
        f"{reasons.get(done, '')}",
    )


@exercise("Patience", points=1.5)
def test_the_best_weights_are_back(student, rng):
    given = data(rng)
    patience, values, best, end = draw_values(rng)
    code = f"{PATIENCE}weights = watched(patience, valid).model.weight"
    got = student.run(code, ["weights"], **given, patience=patience, valid=values)["weights"]
    expect.close(
        got, descend(**given, rates=[0.1] * 3 * best)[1],
        of=f"with the values {values} and epochs={patience}, the model's weight, that of epoch "
        f"{best} (counted from 1),",
        unless={
            "These are the weights of the last epoch. The tensors of state_dict are the model's "
            "own: training changes them in place.": descend(**given, rates=[0.1] * 3 * end)[1]
        },
    )  # fmt: skip


@exercise("Patience", points=1)
def test_a_fit_that_is_not_stopped(student, rng):
    given, best = data(rng), rng.integer(2, 5)
    values = [*range(30, 30 - best, -1), 40, 35]
    code = f"{PATIENCE}weights = watched(3, valid).model.weight"
    got = student.run(code, ["weights"], **given, valid=values)["weights"]
    last = descend(**given, rates=[0.1] * 3 * len(values))[1]
    expect.close(
        got, descend(**given, rates=[0.1] * 3 * best)[1],
        of=f"with the values {values} and epochs=3, the model's weight, that of epoch {best} "
        "(counted from 1),",
        unless={"A fit that is not stopped has the best weights at its end, too.": last},
    )  # fmt: skip


@exercise("Patience", points=1)
def test_the_others_get_their_turn(student, rng):
    patience, values, _, end = draw_values(rng)
    code = f"{PATIENCE}r = Recorder()\nwatched(patience, valid, r)\nrows = len(r.history)"
    rows = student.run(code, ["rows"], **data(rng), patience=patience, valid=values)["rows"]
    expect.true(
        same(rows, end),
        f"With the values {values} and epochs={patience}, a Recorder should have {end} rows, one "
        f"for each epoch, but it has {rows}. (Who cancels first silences those that come later.)",
    )


FINDER = f"""{LEARNER}
test = RangeTest(low, high, steps)
"""


def rates_of(low, high, steps):
    return [low * (high / low) ** (i / (steps - 1)) for i in range(steps)]


@exercise("RangeTest", points=2)
def test_from_low_to_high(student, rng):
    given, steps = data(rng), rng.integer(4, 6)
    low, high = rng.integer(1, 4) / 1000, rng.integer(5, 9) / 100
    code = f"""{FINDER}
learn = learner(test)
learn.fit(3)
lrs, losses, weights = test.lrs, test.losses, learn.model.weight
"""
    got = student.run(
        code, ["lrs", "losses", "weights"], **given, low=low, high=high, steps=steps
    )  # fmt: skip
    of, rates = f"RangeTest({low}, {high}, {steps})", rates_of(low, high, steps)
    losses, weights = descend(**given, rates=rates)
    expect.close(
        got["lrs"], rates, of=f"lrs of {of}",
        unless={
            "The rates have equal differences, not equal factors.": [
                low + (high - low) * i / (steps - 1) for i in range(steps)
            ],
            "Between so many rates there is one factor less.": [
                low * (high / low) ** (i / steps) for i in range(steps)
            ],
        },
    )  # fmt: skip
    expect.close(got["losses"], losses, of=f"losses of {of}")
    expect.close(got["weights"], weights, of=f"the model's weight after the {steps} steps of {of}")


@exercise("RangeTest", points=1)
def test_validation_is_left_out(student, rng):
    low, high = rng.integer(1, 4) / 1000, rng.integer(5, 9) / 100
    code = f"""{FINDER}
learner(test).fit(2)
learner(test).fit(1)
counts = [len(test.lrs), len(test.losses)]
"""
    got = student.run(code, ["counts"], **data(rng), low=low, high=high, steps=20)["counts"]
    expect.true(
        same(got, [3, 3]),
        "A fit of one epoch with 3 training batches and 3 in validation should leave 3 rates and "
        f"3 losses, but it leaves {got[0]} and {got[1]}. Those of validation do not belong there, "
        "nor do those of an earlier fit.",
    )


@exercise("RangeTest", points=0.5)
@pytest.mark.parametrize("loss", ["too large", "NaN"])
def test_it_stops_when_the_loss_is(student, rng, loss):
    given, low, high, steps = data(rng), 0.01, 100.0 if loss == "too large" else 0.02, 12
    rates = rates_of(low, high, steps)
    losses, _ = descend(**given, rates=rates)
    if loss == "NaN":
        losses[4] = math.nan  # the second batch of the second epoch
    last = next(i for i in range(steps) if not losses[i] <= 4 * min(losses[: i + 1]))
    code = f"""{FINDER}
learn = learner(test)
learn.fit(4, callbacks=spoil and [Spoil(float("nan"), 1, 1)])
losses, weights = test.losses, learn.model.weight
"""
    got = student.run(
        code, ["losses", "weights"], **given, low=low, high=high, steps=steps,
        spoil=[True] * (loss == "NaN"),
    )  # fmt: skip
    expect.true(
        isinstance(got["losses"], list) and len(got["losses"]) == last + 1,
        f"The loss of batch number {last} is {loss}: it should be the last of {last + 1}, but "
        f"{len(got['losses']) if isinstance(got['losses'], list) else 'no'} losses were recorded.",
    )
    expect.close(
        got["losses"], losses[: last + 1], rtol=1e-2,  # the last ones enlarge every rounding
        of=f"losses, where that of batch {last} is {loss}",
    )  # fmt: skip
    later = descend(**given, rates=rates[: last + 1])[1] * (math.nan if loss == "NaN" else 1)
    kept = descend(**given, rates=rates[:last])[1]  # the last steps may be huge
    expect.close(
        got["weights"], kept, atol=1e-2 * kept.abs().max().item(),
        of=f"the model's weight after {last} steps and a batch whose loss is {loss}",
        unless={"A loss that stops the fit must do so before the step.": later},
    )  # fmt: skip


@exercise("RangeTest", points=1)
def test_every_group_gets_the_rate(student, rng):
    code = f"""{FINDER}
model = torch.nn.Linear(2, 1)
learn = Learner(model, DataLoaders(DataLoader(x, y, batch_size=size)), mse_loss,
                splitter=lambda m: [[m.weight], [m.bias]], callbacks=[test])
learn.fit(1, lr=[0.7, 0.3])
rates = [group["lr"] for group in learn.opt.param_groups]
"""
    low, high = rng.integer(1, 4) / 1000, rng.integer(5, 9) / 1000
    rates = student.run(code, ["rates"], **data(rng), low=low, high=high, steps=3)["rates"]
    expect.close(
        rates, [high, high], of="the rates of the two groups after the last of 3 steps",
        unless={"The rate belongs into every group of the optimizer.": [high, 0.3]},
    )  # fmt: skip
