"""`glassbox.training`: schedules against torch's, the finder's traces, half precision."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassbox.callbacks import DevicePlacement, Metrics, Recorder
from glassbox.data import DataLoader, DataLoaders
from glassbox.learner import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    Learner,
)
from glassbox.losses import mse_loss
from glassbox.optim import SGD, Adam
from glassbox.training import (
    LRFind,
    LRFinder,
    MixedPrecision,
    ParamScheduler,
    combine_scheds,
    lr_find,
    one_cycle,
    sched_cos,
    sched_exp,
    sched_lin,
    sched_no,
)

RATE = st.floats(1e-4, 10)
STEPS = st.integers(2, 40)


def torch_rates(make, steps, lr):
    """Return the rates of a torch scheduler, for `steps` steps and the end."""
    opt = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=lr)
    sched = make(opt)
    rates = [opt.param_groups[0]["lr"]]
    for _ in range(steps):
        opt.step()
        sched.step()
        rates.append(opt.param_groups[0]["lr"])
    return rates


def our_rates(sched, steps):
    return [sched(i / steps) for i in range(steps + 1)]


@settings(max_examples=30)
@given(RATE, RATE, STEPS)
def test_the_cosine_is_torchs(start, end, steps):
    theirs = torch_rates(
        lambda opt: torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps, eta_min=end),
        steps,
        start,
    )
    assert our_rates(sched_cos(start, end), steps) == pytest.approx(theirs, rel=1e-6)


@settings(max_examples=30)
@given(RATE, st.floats(0.01, 1), st.floats(0.01, 1), STEPS)
def test_the_line_is_torchs(lr, first, last, steps):
    theirs = torch_rates(
        lambda opt: torch.optim.lr_scheduler.LinearLR(opt, first, last, steps), steps, lr
    )
    assert our_rates(sched_lin(lr * first, lr * last), steps) == pytest.approx(theirs, rel=1e-6)


@settings(max_examples=30)
@given(RATE, st.floats(0.5, 1.0), STEPS)
def test_equal_factors_are_torchs(lr, factor, steps):
    theirs = torch_rates(lambda opt: torch.optim.lr_scheduler.ExponentialLR(opt, factor), steps, lr)
    assert our_rates(sched_exp(lr, lr * factor**steps), steps) == pytest.approx(theirs, rel=1e-6)


@settings(max_examples=30)
@given(RATE, st.integers(10, 60), st.floats(0.2, 0.8), st.floats(2, 50), st.floats(10, 1e4))
def test_one_cycle_is_torchs(lr, total, pct, div, final):
    theirs = torch_rates(
        lambda opt: torch.optim.lr_scheduler.OneCycleLR(
            opt,
            lr,
            total_steps=total,
            pct_start=pct,
            div_factor=div,
            final_div_factor=final,
            cycle_momentum=False,
        ),
        total - 1,
        lr,
    )
    # torch counts steps: its warm-up ends one step before its share of them
    ours = one_cycle(lr, (pct * total - 1) / (total - 1), div, div * final)
    assert our_rates(ours, total - 1) == pytest.approx(theirs, rel=1e-5)


def test_one_cycles_defaults():
    sched = one_cycle(2.0)
    assert sched(0) == pytest.approx(2 / 25)
    assert sched(0.25) == pytest.approx(2)
    assert sched(0.24) < 2 > sched(0.26)
    assert sched(1) == pytest.approx(2e-5)


@given(RATE, RATE, st.floats(0, 1))
def test_every_schedule_stays_between_its_ends(start, end, position):
    low, high = min(start, end), max(start, end)
    for make in (sched_lin, sched_cos, sched_exp):
        assert low * (1 - 1e-9) <= make(start, end)(position) <= high * (1 + 1e-9)
    assert sched_no(start)(position) == start


def test_combined_schedules_each_see_the_whole_of_their_time():
    seen = []

    def note(name):
        return lambda position: seen.append((name, round(position, 6)))

    sched = combine_scheds([0.25, 0.25, 0.5], [note("a"), note("b"), note("c")])
    for position in (0, 0.125, 0.25, 0.375, 0.5, 0.75, 1):
        sched(position)
    assert seen == [("a", 0), ("a", 0.5), ("b", 0), ("b", 0.5), ("c", 0), ("c", 0.5), ("c", 1)]


def test_shares_that_sum_to_one_but_for_rounding():
    sched = combine_scheds([0.1] * 10, [sched_no(i) for i in range(10)])
    assert sched(1.0) == 9
    assert combine_scheds([1], [sched_lin(1, 2)])(1.0) == 2


X = torch.linspace(-1, 1, 24).view(12, 2)
Y = X @ torch.tensor([[2.0], [-1.0]]) + 0.5


def make(callbacks=(), *, batch_size=3, valid=True, norm=True, seed=3, **options):
    """Return a learner with everything that has a state: shuffling, dropout, norm, momentum."""
    torch.manual_seed(0)
    layers = [nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.2)] if norm else [nn.Linear(2, 4)]
    model = nn.Sequential(*layers, nn.Linear(4, 1))
    train = DataLoader(
        X,
        Y,
        batch_size=batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(seed),
    )
    dls = DataLoaders(train, DataLoader(X, Y, batch_size=6) if valid else None)
    options = {"lr": 0.05, "opt_func": momentum, **options}
    return Learner(model, dls, mse_loss, callbacks=callbacks, **options)


def momentum(params, lr):
    return SGD(params, lr=lr, momentum=0.9)


def same(a, b):
    one, other = a.model.state_dict(), b.model.state_dict()
    return all(torch.equal(one[name], other[name]) for name in one)


class Rates(Callback):
    """Notes, at every step, what all groups have."""

    def __init__(self, name="lr"):
        self.name, self.seen = name, []

    def after_backward(self):
        self.seen.append([group[self.name] for group in self.learn.opt.param_groups])


def by_layer(model):
    return [list(model[0].parameters()), [p for layer in model[1:] for p in layer.parameters()]]


def test_a_schedule_sets_the_rate_before_each_training_batch():
    rates = Rates()
    learner = make([rates, ParamScheduler("lr", sched_lin(1, 0))])
    learner.fit(2)
    assert [r for (r,) in rates.seen] == pytest.approx([1 - i / 8 for i in range(8)])
    assert learner.opt.param_groups[0]["lr"] == pytest.approx(1 / 8)


def test_one_schedule_goes_for_every_group():
    rates = Rates()
    make([rates, ParamScheduler("lr", sched_lin(1, 0))], splitter=by_layer).fit(1)
    assert rates.seen == [[r, r] for r in (1, 0.75, 0.5, 0.25)]


def test_each_group_may_have_a_schedule_of_its_own():
    rates = Rates()
    scheds = [sched_lin(1, 0), sched_no(0.5)]
    make([rates, ParamScheduler("lr", scheds)], splitter=by_layer).fit(1)
    assert rates.seen == [[1, 0.5], [0.75, 0.5], [0.5, 0.5], [0.25, 0.5]]


def test_any_option_of_the_optimizer_can_be_scheduled():
    rates = Rates("momentum")
    make([rates, ParamScheduler("momentum", sched_lin(0.8, 0.4))], valid=False).fit(1)
    assert [r for (r,) in rates.seen] == pytest.approx([0.8, 0.7, 0.6, 0.5])


def test_a_schedule_leaves_validation_alone():
    seen = []

    class Look(Callback):
        def before_batch(self):
            if not self.learn.training:
                seen.append(self.learn.opt.param_groups[0]["lr"])

    make([Look(), ParamScheduler("lr", sched_lin(1, 0))]).fit(1)
    assert seen == [0.25, 0.25]
    make([ParamScheduler("lr", sched_lin(1, 0))]).validate()


def test_a_fit_that_starts_later_goes_on_with_its_schedule():
    rates = Rates()
    make([rates, ParamScheduler("lr", sched_lin(1, 0))]).fit(4, start_epoch=3)
    assert [r for (r,) in rates.seen] == pytest.approx([0.25 - i / 16 for i in range(4)])


def state_of(learner):
    return {
        **{k: v.clone() for k, v in learner.model.state_dict().items()},
        "rng": torch.get_rng_state(),
        "generator": learner.dls.train.generator.get_state(),
        "python": random.getstate(),
        "numpy": tuple(map(str, np.random.get_state())),  # noqa: NPY002
        "modes": [m.training for m in learner.model.modules()],
        "grads": [p.grad for p in learner.model.parameters()],
        "opt": str(learner.opt and learner.opt.state_dict()),
        "learner": {k: v for k, v in vars(learner).items() if isinstance(v, (int, float, list))},
    }


def assert_same_state(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, b[name]), name
        else:
            assert value == b[name], name


class UsesRandomness(Callback):
    """Draws from every global source, and counts in two ways."""

    def __init__(self):
        self.calls, self.log, self.me = 0, [], (i for i in range(3))  # a thing without a copy

    def before_batch(self):
        self.calls += 1
        self.log.append(random.random() + np.random.rand())  # noqa: NPY002


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("opt_func", [momentum, Adam, torch.optim.Adam])
def test_after_the_finder_everything_is_as_it_was(first, opt_func):
    torch.manual_seed(7)
    recorder, uses = Recorder(), UsesRandomness()
    learner = make([recorder, uses, Metrics()], opt_func=opt_func)
    if first:
        learner.fit(1)
    learner.model[2].eval()
    before, log, thing = state_of(learner), list(uses.log), uses.me
    opt = learner.opt
    assert len(lr_find(learner, n_batches=9, blow_up=1e30).lrs) == 9
    assert_same_state(state_of(learner), before)
    assert learner.opt is opt
    assert uses.log == log
    assert uses.calls == len(log)
    assert uses.me is thing
    assert recorder.losses == recorder.losses[: 4 * first]
    assert [type(c) for c in learner.callbacks] == [UsesRandomness, Metrics, Recorder]
    assert all(c.learn is learner for c in learner.callbacks)


def test_the_fit_after_the_finder_is_the_fit_without_it():
    with_it, without = make(), make()
    for learner in (with_it, without):
        torch.manual_seed(1)
        learner.fit(1)
        if learner is with_it:
            lr_find(learner)
        learner.fit(2)
    assert same(with_it, without)


def test_the_finder_puts_back_also_after_an_error():
    class Breaks(Callback):
        def after_step(self):
            raise ZeroDivisionError("mine")

    learner = make([Breaks()])
    before = state_of(learner)
    with pytest.raises(ZeroDivisionError, match="mine"):
        lr_find(learner)
    assert_same_state(state_of(learner), before)


def test_the_finder_keeps_gradients_that_wait_for_a_step():
    learner = make()
    learner.model[0].weight.grad = torch.ones(4, 2)
    lr_find(learner, n_batches=3)
    assert torch.equal(learner.model[0].weight.grad, torch.ones(4, 2))
    assert learner.model[0].bias.grad is None


def test_the_finder_raises_the_rate_by_equal_factors_in_every_group():
    rates = Rates()
    learner = make([rates, ParamScheduler("lr", sched_no(7))], splitter=by_layer)
    found = lr_find(learner, 1e-4, 1e-2, n_batches=5)
    assert found.lrs == pytest.approx([1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2])
    assert found.stopped == "end"
    assert len(found.losses) == 5
    noted = []

    class Note(Callback):
        order = 101

        def after_backward(self):
            noted.append([group["lr"] for group in self.learn.opt.param_groups])

    learner.fit(9, callbacks=[LRFinder(1e-4, 1e-2, 5), Note()])
    assert noted == [pytest.approx([lr, lr]) for lr in found.lrs[:-1]]


def test_the_finder_notes_the_loss_before_each_step():
    learner = make(norm=False, valid=False, opt_func=SGD)
    found = lr_find(learner, 1e-3, 0.1, n_batches=4)
    losses = []
    model, generator = make(norm=False).model, torch.Generator().manual_seed(3)
    order = torch.randperm(12, generator=generator).view(4, 3)
    for rows, lr in zip(order, found.lrs, strict=True):
        model.zero_grad()
        loss = mse_loss(model(X[rows]), Y[rows])
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for p in model.parameters():
                p -= lr * p.grad
    assert found.losses == pytest.approx(losses)


def test_the_finder_validates_nothing_and_ends_no_epoch():
    events = []

    class Log(Callback):
        def __call__(self, event):
            events.append(event)

    lr_find(make([Log()]), n_batches=9, end=1e-3)
    assert not {"before_validate", "after_epoch", "after_train"} & set(events)
    assert events.count("before_batch") == 9
    assert events[-2:] == ["after_fit", "cleanup"]


class Losses(Callback):
    """Replaces the losses by given ones, of which the last repeats."""

    def __init__(self, *losses):
        self.given, self.n = losses, 0

    def after_loss(self):
        value = self.given[min(self.n, len(self.given) - 1)]
        self.learn.loss = self.learn.loss * 0 + value
        self.n += 1


def test_the_finder_stops_when_the_loss_blows_up():
    found = lr_find(make([Losses(1.0, 1.0, 1.0, 100.0)]))
    assert found.stopped == "blow-up"
    assert found.losses == [1.0, 1.0, 1.0, 100.0]
    smoothed = (0.8**3 + 0.8**2 + 0.8 + 100) / (0.8**3 + 0.8**2 + 0.8 + 1)
    assert found.smoothed == pytest.approx([1, 1, 1, smoothed])
    mild = lr_find(make([Losses(1.0, 1.0, 1.0, 4.0)]), n_batches=20)
    assert mild.stopped == "end"
    assert lr_find(make([Losses(1.0, 6.0, 1.0)]), n_batches=20).stopped == "end"
    assert lr_find(make([Losses(1.0, 7.0, 1.0)]), n_batches=20).stopped == "blow-up"
    assert lr_find(make([Losses(1.0, 2.0)]), n_batches=20, blow_up=1.5).stopped == "blow-up"


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_whether_the_loss_blows_up_does_not_depend_on_its_unit(scale):
    losses = [scale * value for value in (1.0, 1.0, 3.0, 1.0, 100.0)]
    found = lr_find(make([Losses(*losses)]))
    assert found.stopped == "blow-up"
    assert found.losses == pytest.approx(losses)


def test_a_finder_has_found_nothing_before_its_fit():
    assert LRFinder().found == LRFind([], [])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_finder_stops_at_a_loss_that_is_not_finite(bad):
    found = lr_find(make([Losses(2.0, 1.0, bad)]))
    assert found.stopped == "not finite"
    assert found.losses == [2.0, 1.0]
    assert len(found.lrs) == 2
    assert found.suggestion == found.lrs[1] / 10


def test_a_first_loss_that_is_not_finite_is_an_error_and_leaves_no_trace():
    learner = make([Losses(math.nan)])
    before = state_of(learner)
    words = r"^The loss of the first batch.*not finite.*smallest rate is 1e-06.*data"
    with pytest.raises(RuntimeError, match=words):
        lr_find(learner)
    assert_same_state(state_of(learner), before)


def test_the_suggestion_is_a_tenth_of_the_rate_at_the_lowest_smoothed_loss():
    found = LRFind([0.01, 0.1, 1.0, 10.0], [3.0, 2.0, 1.0, 9.0])
    assert found.suggestion == 0.1
    assert found.stopped == ""


def test_the_finders_figure():
    found = LRFind([0.01, 0.1, 1.0], [3.0, 2.0, 4.0])
    ax = found.plot()
    assert ax.get_xscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("learning rate", "training loss")
    losses, smoothed, suggestion = ax.get_lines()
    assert list(losses.get_ydata()) == found.losses
    assert list(smoothed.get_ydata()) == found.smoothed
    assert list(losses.get_xdata()) == list(smoothed.get_xdata()) == found.lrs
    assert suggestion.get_xdata()[0] == found.suggestion
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["each batch", "smoothed", "suggestion: 0.01"]
    assert found.plot(ax) is ax


def test_a_finder_can_take_part_in_an_ordinary_fit_and_begins_anew_in_the_next():
    finder = LRFinder(n_batches=3)
    learner = make([finder])
    learner.fit(5)
    learner.fit(5)
    assert len(finder.found.lrs) == 3
    finder = LRFinder(n_batches=6, blow_up=1e30)
    make([finder]).fit(5)
    assert len(finder.found.lrs) == 6, "the validation batches do not count"


def test_the_finders_defaults():
    finder = LRFinder()
    assert finder.n_batches == 100
    assert finder.sched(0) == pytest.approx(1e-6)
    assert finder.sched(1) == pytest.approx(10)
    assert finder.blow_up == 4
    found = lr_find(make([Losses(1.0)]))
    assert len(found.lrs) == 100
    assert (found.lrs[0], found.lrs[-1]) == pytest.approx((1e-6, 10))


class Spy(Callback):
    """Notes what a callback sees of a batch."""

    order = 0

    def __init__(self):
        self.losses, self.dtypes, self.grads, self.autocast = [], [], [], []

    def after_pred(self):
        self.dtypes.append(self.learn.pred.dtype)
        self.autocast.append(torch.is_autocast_enabled("cpu"))

    def after_loss(self):
        self.losses.append(self.learn.loss.item())

    def after_backward(self):
        self.grads.append(self.learn.model[0].weight.grad.clone())


def seen_by_the_model(learner):
    """Return a list that gets the type of what the first layer computes, batch by batch."""
    types = []
    learner.model[0].register_forward_hook(lambda m, i, out: types.append(out.dtype))
    return types


def test_half_precision_in_the_model_and_nowhere_else():
    spy = Spy()
    learner = make([MixedPrecision(), spy])
    types = seen_by_the_model(learner)
    learner.fit(1)
    assert set(types) == {torch.bfloat16}
    assert len(types) == 6
    assert set(spy.dtypes) == {torch.float32}
    assert not any(spy.autocast)
    assert all(p.dtype == torch.float32 for p in learner.model.parameters())
    assert {g.dtype for g in spy.grads} == {torch.float32}


def test_float16_on_request():
    learner = make([MixedPrecision(torch.float16)])
    types = seen_by_the_model(learner)
    learner.fit(1)
    assert set(types) == {torch.float16}


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float16, 65536.0), (torch.bfloat16, 1.0)])
def test_the_first_scale(dtype, scale):
    half, given = MixedPrecision(dtype), MixedPrecision(dtype, 8.0)
    make([half, given, Raises("before_fit", CancelFitException)]).fit(1)
    assert (half.scale, given.scale) == (scale, 8.0)


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_loss_and_gradients_that_callbacks_see_are_the_true_ones(scale):
    spies = []
    for callback in (MixedPrecision(torch.bfloat16, scale), MixedPrecision(torch.bfloat16)):
        spies.append(Spy())
        metrics, recorder = Metrics(), Recorder()
        torch.manual_seed(2)
        learner = make([callback, spies[-1], metrics, recorder], norm=False)
        learner.fit(1)
        assert metrics.train["loss"] == pytest.approx(sum(spies[-1].losses[:4]) / 4)
        assert recorder.losses == pytest.approx(spies[-1].losses[:4])
    assert spies[0].losses == pytest.approx(spies[1].losses, rel=1e-6)
    for one, other in zip(spies[0].grads, spies[1].grads, strict=True):
        torch.testing.assert_close(one, other)


def test_scaling_rescues_gradients_that_float16_cannot_hold():
    class Tiny(Callback):
        def after_loss(self):
            self.learn.loss = self.learn.loss * 1e-9

    def grads(*callbacks):
        spy = Spy()
        make([*callbacks, Tiny(), spy], norm=False, batch_size=12, valid=False).fit(1)
        return spy.grads[0]

    exact = grads()
    assert exact.abs().max() > 0
    torch.testing.assert_close(
        grads(MixedPrecision(torch.float16, 2.0**24)), exact, rtol=0.02, atol=1e-12
    )
    lost = grads(MixedPrecision(torch.float16, 2.0**-10))
    assert (lost == 0).sum() > (exact == 0).sum()


def accumulate(n):
    class Accumulate(Callback):
        order = 90

        def after_loss(self):
            self.learn.loss = self.learn.loss / n

        def after_backward(self):
            if (self.learn.iteration + 1) % n:
                raise CancelBatchException

    return Accumulate()


def test_accumulated_gradients_survive_the_scaling():
    weights = []
    for scale in (1.0, 4096.0):
        learner = make(
            [MixedPrecision(torch.bfloat16, scale), accumulate(2)], norm=False, valid=False
        )
        learner.fit(2)
        weights.append(learner.model[0].weight.detach())
    torch.testing.assert_close(*weights)
    assert not torch.equal(weights[0], make(norm=False).model[0].weight)


class Overflow(Callback):
    """Makes one gradient of chosen batches infinite, as an overflow would."""

    order = -6

    def __init__(self, *batches):
        self.batches, self.n = batches, -1

    def after_backward(self):
        self.n += 1
        if self.n in self.batches:
            self.learn.model[1].bias.grad[0] = math.inf


def test_a_batch_with_an_infinite_gradient_makes_no_step_and_halves_the_scale():
    half, spy, rates = MixedPrecision(torch.float16, 64.0), Spy(), Rates()
    learner = make([half, Overflow(1), spy, rates], norm=False, valid=False)
    cancelled = []

    class Look(Callback):
        def after_cancel_batch(self):
            grads = [p.grad for p in self.learn.model.parameters()]
            cancelled.append((self.learn.iteration, half.scale, set(grads)))

    learner.add_callback(Look())
    learner.fit(1)
    assert cancelled == [(1, 32.0, {None})]
    assert half.n_skipped == 1
    assert len(rates.seen) == 3, "what comes later does not see the broken gradients"
    assert all(p.isfinite().all() for p in learner.model.parameters())


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 11)), st.integers(1, 4))
def test_the_scale_moves_like_that_of_torchs_scaler(overflows, interval):
    half = MixedPrecision(torch.bfloat16, 1024.0, growth_interval=interval)
    make([half, Overflow(*overflows)], norm=False, valid=False).fit(3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=interval)
    w = torch.ones(1, requires_grad=True)
    opt = torch.optim.SGD([w], lr=0.1)
    for i in range(12):
        scaler.scale(w.sum()).backward()
        if i in overflows:
            w.grad[0] = math.inf
        scaler.step(opt)
        scaler.update()
        opt.zero_grad()
    assert half.scale == scaler.get_scale()
    assert half.n_skipped == len(overflows)


def test_the_scale_grows_after_two_thousand_good_batches():
    assert MixedPrecision().growth_interval == 2000


class Raises(Callback):
    order = 0

    def __init__(self, at, error):
        self.at, self.error = at, error

    def __call__(self, event):
        if event == self.at:
            raise self.error


@pytest.mark.parametrize(
    "error", [CancelBatchException, CancelEpochException, CancelFitException, KeyError]
)
@pytest.mark.parametrize("at", ["before_batch", "after_pred", "after_loss"])
def test_autocast_is_left_however_a_batch_ends(at, error):
    left = []

    class Look(Callback):
        order = 0

        def __call__(self, event):
            if event.startswith(("after_cancel", "cleanup")):
                left.append(torch.is_autocast_enabled("cpu"))

    learner = make([MixedPrecision(), Raises(at, error), Look()])
    if error is KeyError:
        with pytest.raises(KeyError):
            learner.fit(1)
    else:
        learner.fit(1)
    assert left
    assert not any(left)
    assert not torch.is_autocast_enabled("cpu")


def test_autocast_is_left_when_the_model_fails():
    learner = make([MixedPrecision()])
    learner.model[0] = nn.Linear(3, 4)
    with pytest.raises(RuntimeError, match="model failed"):
        learner.fit(1)
    assert not torch.is_autocast_enabled("cpu")


def test_validation_outside_a_fit_is_in_full_precision():
    learner = make([MixedPrecision()])
    learner.fit(1)
    types = seen_by_the_model(learner)
    learner.validate()
    assert set(types) == {torch.float32}


def test_predictions_that_are_no_tensor_are_passed_on():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, x):
            return self.layer(x), self.layer(x)

    dls = DataLoaders(DataLoader(X, Y, batch_size=3))
    learner = Learner(
        Two(), dls, lambda pred, y: mse_loss(pred[0].float(), y), callbacks=[MixedPrecision()]
    )
    learner.fit(1)
    assert learner.pred[0].dtype == torch.bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_float16_with_scaling_on_cuda():
    half = MixedPrecision()
    learner = make([DevicePlacement("cuda"), half])
    types = seen_by_the_model(learner)
    learner.fit(2)
    assert set(types) == {torch.float16}
    assert half.dtype == torch.float16
    assert half.scale >= 1024
    assert not torch.is_autocast_enabled("cuda")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: sched_exp(0, 1), ValueError, "^start and end must be positive, .* 0 and 1.$"),
        (lambda: sched_exp(1, -1), ValueError, "^start and end must be positive.*1 and -1"),
        (lambda: sched_exp(1, 0), ValueError, "^start and end must be positive.*1 and 0"),
        (lambda: sched_exp(math.inf, 1), ValueError, "^start and end must be positive.*inf"),
        (lambda: sched_exp(1, math.inf), ValueError, "^start and end must be positive.*inf"),
        (
            lambda: combine_scheds([0.3, 0.6], [sched_no(1), sched_no(2)]),
            ValueError,
            r"^pcts must be positive with a sum of 1, but they are \[0.3, 0.6\], with a sum of 0.9",
        ),
        (lambda: combine_scheds([1.5, -0.5], [sched_no(1)] * 2), ValueError, "^pcts must be pos"),
        (lambda: combine_scheds([1, 0], [sched_no(1)] * 2), ValueError, "^pcts must be positive"),
        (
            lambda: combine_scheds([0.5, 0.5], [sched_no(1)]),
            ValueError,
            "^pcts and scheds must have the same length of at least 1, but they have 2 and 1.$",
        ),
        (lambda: combine_scheds([], []), ValueError, "^pcts and scheds.* 0 and 0"),
        (lambda: one_cycle(0), ValueError, "^lr_max must be a positive number, but it is 0.$"),
        (lambda: one_cycle(math.inf), ValueError, "^lr_max must be"),
        (lambda: one_cycle(1, div=-1), ValueError, "^div must be a positive number.*-1"),
        (lambda: one_cycle(1, div_final=0), ValueError, "^div_final must be a positive number"),
        (lambda: one_cycle(1, 0), ValueError, "^pct_start must lie between 0 and 1, but it is 0"),
        (lambda: one_cycle(1, 1.0), ValueError, "^pct_start must lie .*1.0"),
        (
            lambda: ParamScheduler("lr", 0.1),
            TypeError,
            "^sched must be a function of the position, or one for each group, but it is 0.1.$",
        ),
        (
            lambda: ParamScheduler("lr", [sched_no(1), 0.1]),
            TypeError,
            "^sched must be a function of the position.*0.1.$",
        ),
        (
            lambda: make([ParamScheduler("beta", sched_no(1))]).fit(1),
            ValueError,
            r"^name must be an option of the optimizer \(lr, momentum, weight_decay\), "
            "but it is 'beta'.$",
        ),
        (
            lambda: make([ParamScheduler("lr", [sched_no(1)] * 3)], splitter=by_layer).fit(1),
            ValueError,
            "^sched must hold one schedule for each of the 2 parameter groups, but it holds 3.$",
        ),
        (
            lambda: endless([ParamScheduler("lr", sched_no(1))]).fit(1),
            TypeError,
            "^dls.train must have a length, as a schedule ends with the last batch.$",
        ),
        (
            lambda: LRFinder(1, 0.1),
            ValueError,
            "^start and end must be rates with 0 < start < end, but they are 1 and 0.1.$",
        ),
        (lambda: LRFinder(0, 0.1), ValueError, "^start and end must be rates"),
        (lambda: LRFinder(1, 1), ValueError, "^start and end must be rates"),
        (lambda: LRFinder(1, math.inf), ValueError, "^start and end must be rates"),
        (lambda: LRFinder(math.nan, 1), ValueError, "^start and end must be rates"),
        (lambda: lr_find(make(), 10, 1e-6), ValueError, "^start and end must be rates"),
        (
            lambda: LRFinder(n_batches=1),
            ValueError,
            "^n_batches must be a whole number of at least 2, but it is 1.$",
        ),
        (lambda: LRFinder(n_batches=2.5), ValueError, "^n_batches must be"),
        (lambda: LRFinder(blow_up=1), ValueError, "^blow_up must be more than 1, but it is 1.$"),
        (lambda: LRFinder(blow_up=math.nan), ValueError, "^blow_up must be"),
        (
            lambda: MixedPrecision(torch.float32),
            ValueError,
            "^dtype must be torch.float16 or torch.bfloat16, but it is torch.float32.$",
        ),
        (
            lambda: MixedPrecision(scale=0),
            ValueError,
            "^scale must be a positive number, but it is 0.$",
        ),
        (lambda: MixedPrecision(scale=math.inf), ValueError, "^scale must be"),
        (
            lambda: MixedPrecision(growth_interval=0),
            ValueError,
            "^growth_interval must be a whole number of at least 1, but it is 0.$",
        ),
        (lambda: MixedPrecision(growth_interval=1.5), ValueError, "^growth_interval must be"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, error, words):
    with pytest.raises(error, match=words):
        call()


def endless(callbacks):
    learner = make(callbacks)
    learner.dls = DataLoaders(batch for batch in learner.dls.train)
    return learner


def test_the_smallest_allowed_values():
    assert LRFinder(n_batches=2).n_batches == 2
    assert MixedPrecision(growth_interval=1).growth_interval == 1


def test_the_finder_does_not_take_a_loss_below_zero_for_a_blow_up():
    learner = make()
    learner.loss_func = lambda pred, target: mse_loss(pred, target) - 100
    assert lr_find(learner, 1e-6, 1e-3, n_batches=8).stopped == "end"


@pytest.mark.parametrize("value", [math.nan, -0.1, math.inf, None])
def test_a_schedule_returns_rates(value):
    learner = make([ParamScheduler("lr", lambda position: value)])
    with pytest.raises(
        ValueError, match="^sched must return finite numbers of at least 0 for 'lr'"
    ):
        learner.fit(1)


def test_what_is_combined_can_be_called():
    with pytest.raises(
        TypeError, match="^scheds must be functions of the position, but one is 1.$"
    ):
        combine_scheds([0.5, 0.5], [1, 2])


def test_without_a_loss_there_is_no_suggestion():
    with pytest.raises(ValueError, match="^losses must hold at least one loss for a suggestion"):
        LRFind([], []).suggestion  # noqa: B018


@pytest.mark.parametrize("value", [None, "1"])
@pytest.mark.parametrize(
    "call",
    [
        lambda v: one_cycle(v),
        lambda v: one_cycle(1.0, pct_start=v),
        lambda v: sched_exp(v, 1.0),
        lambda v: combine_scheds([v], [sched_no(1.0)]),
        lambda v: LRFinder(start=v),
        lambda v: LRFinder(blow_up=v),
    ],
)
def test_what_is_no_number_is_named(call, value):
    with pytest.raises(ValueError, match=" must be | must lie "):
        call(value)
