"""`glassbox.learner`: the loop, its events in order, cancellation, cleanup, and clear errors."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import TensorDataset

from glassbox.data import DataLoader, DataLoaders
from glassbox.learner import (
    EVENTS,
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    Learner,
)
from glassbox.losses import mse_loss
from glassbox.optim import SGD, Adam

X = torch.linspace(-1, 1, 12).view(6, 2)
Y = X @ torch.tensor([[2.0], [-1.0]]) + 0.5


def make(callbacks=(), *, valid=True, **options):
    torch.manual_seed(0)
    dls = DataLoaders(
        DataLoader(X, Y, batch_size=3), DataLoader(X[:2], Y[:2], batch_size=2) if valid else None
    )
    options = {"lr": 0.1, **options}
    return Learner(nn.Linear(2, 1), dls, mse_loss, callbacks=callbacks, **options)


class Log(Callback):
    """Writes down every event, and raises an exception at one of them, once."""

    order = 100

    def __init__(self, at=None, error=None):
        self.at, self.error, self.events = at, error, []

    def __call__(self, event):
        self.events.append(event)
        if event == self.at:
            self.at = None
            raise self.error


TRAIN_BATCH = [
    *("before_batch", "after_pred", "after_loss", "after_backward", "after_step", "after_batch")
]
VALID_BATCH = ["before_batch", "after_pred", "after_loss", "after_batch"]
EPOCH = [
    *("before_epoch", "before_train", *TRAIN_BATCH, *TRAIN_BATCH, "after_train"),
    *("before_validate", *VALID_BATCH, "after_validate", "after_epoch"),
]


def test_the_events_of_a_fit_in_order():
    log = Log()
    make([log]).fit(2)
    assert log.events == ["before_fit", *EPOCH, *EPOCH, "after_fit", "cleanup"]
    assert set(log.events) <= set(EVENTS)


def test_without_validation_data_no_validation_events():
    log = Log()
    make([log], valid=False).fit(1)
    assert not any("validate" in event for event in log.events)
    assert log.events.count("before_batch") == 2


def test_a_fit_takes_the_same_steps_as_the_bare_loop():
    learner = make()
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    learner.fit(3, lr=0.05)
    for _ in range(3):
        for i in (0, 3):
            loss = F.mse_loss(model(X[i : i + 3]), Y[i : i + 3])
            opt.zero_grad()
            loss.backward()
            opt.step()
    for ours, theirs in zip(learner.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert all(p.grad is None for p in learner.model.parameters())


@pytest.mark.parametrize(
    ("at", "after"),
    [
        ("before_batch", ["after_cancel_batch", "after_batch"]),
        ("after_pred", ["after_cancel_batch", "after_batch"]),
        ("after_loss", ["after_cancel_batch", "after_batch"]),
        ("after_backward", ["after_cancel_batch", "after_batch"]),
        ("after_step", ["after_cancel_batch", "after_batch"]),
    ],
)
def test_cancelling_a_batch_goes_on_with_the_next(at, after):
    log = Log(at, CancelBatchException)
    make([log]).fit(1)
    i = log.events.index(at)
    assert log.events[i + 1 : i + 4] == [*after, "before_batch"]
    assert log.events.count("before_batch") == 3


def test_a_batch_cancelled_before_its_step_leaves_the_weights_and_keeps_its_gradients():
    class SkipFirst(Callback):
        def after_backward(self):
            if self.learn.iteration == 0:
                raise CancelBatchException

    learner = make([SkipFirst()], valid=False)
    start = learner.model.weight.detach().clone()
    learner.fit(1)
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    (mse_loss(model(X[:3]), Y[:3]) + mse_loss(model(X[3:]), Y[3:])).backward()
    torch.testing.assert_close(learner.model.weight.detach(), start - 0.1 * model.weight.grad)


@pytest.mark.parametrize("at", ["before_epoch", "before_train", "after_loss", "before_validate"])
def test_cancelling_an_epoch_goes_on_with_the_next(at):
    log = Log(at, CancelEpochException)
    make([log]).fit(2)
    i = log.events.index(at)
    assert log.events[i + 1 : i + 3] == ["after_cancel_epoch", "after_epoch"]
    assert log.events[i + 3 :] == [*EPOCH, "after_fit", "cleanup"]


@pytest.mark.parametrize("at", ["before_fit", "before_epoch", "after_step", "after_validate"])
def test_cancelling_a_fit_ends_it_in_order(at):
    log = Log(at, CancelFitException)
    make([log]).fit(2)
    assert log.events[log.events.index(at) + 1 :] == ["after_cancel_fit", "after_fit", "cleanup"]


def test_an_error_is_not_swallowed_and_cleanup_still_runs():
    log, other = Log("after_loss", ZeroDivisionError("mine")), Log()
    learner = make([other, log])
    with pytest.raises(ZeroDivisionError, match="mine"):
        learner.fit(1)
    assert log.events[-2:] == ["after_loss", "cleanup"]
    assert other.events[-1] == "cleanup"


def test_every_cleanup_runs_even_when_one_fails():
    class Fails(Callback):
        def cleanup(self):
            raise OSError("disk")

    log = Log()
    with pytest.raises(OSError, match="disk"):
        make([Fails(), log]).fit(1)
    assert log.events[-1] == "cleanup"


def test_callbacks_come_in_order_and_then_as_they_were_added():
    calls = []

    def named(name, order):
        class Named(Callback):
            def before_fit(self):
                calls.append(name)

            def cleanup(self):
                calls.append(f"cleanup {name}")

        callback = Named()
        callback.order = order
        return callback

    make([named("c", 5), named("a", -1), named("d", 5), named("b", 0)]).fit(1)
    assert calls == [*"abcd", *(f"cleanup {name}" for name in "abcd")]


def test_a_callback_for_one_fit_is_gone_after_it():
    learner, log = make(), Log()
    learner.fit(1, callbacks=[log])
    seen = len(log.events)
    assert learner.callbacks == []
    learner.fit(1)
    assert len(log.events) == seen


def test_a_callback_for_one_fit_is_gone_even_after_an_error():
    learner = make()
    with pytest.raises(KeyError):
        learner.fit(1, callbacks=[Log("after_step", KeyError)])
    with pytest.raises(TypeError):
        learner.fit(1, callbacks=[Log(), "no callback"])
    assert learner.callbacks == []


def test_callbacks_can_be_added_and_removed_while_training():
    log = Log()

    class Swap(Callback):
        def after_train(self):
            self.learn.remove_callback(self)
            self.learn.add_callback(log)

    learner = make([Swap()])
    learner.fit(1)
    assert learner.callbacks == [log]
    assert log.events[0] == "before_validate"
    with pytest.raises(ValueError, match=r"callback must be one of.*Swap\(\)"):
        learner.remove_callback(Swap())


def test_a_callback_may_change_anything():
    class Change(Callback):
        def before_batch(self):
            self.learn.xb = self.learn.xb * 0

        def after_pred(self):
            self.learn.pred = self.learn.pred + 1

        def after_loss(self):
            self.learn.loss = self.learn.loss * 0

    learner = make([Change()])
    before = learner.model.weight.detach().clone()
    learner.fit(1)
    assert torch.equal(learner.model.weight, before)
    torch.testing.assert_close(learner.pred, learner.model.bias.expand(2, 1) + 1)


def test_state_that_callbacks_can_read():
    seen = []

    class Look(Callback):
        def before_batch(self):
            learn = self.learn
            assert learn.pred is None
            assert learn.loss is None
            assert learn.dl is (learn.dls.train if learn.training else learn.dls.valid)
            assert learn.model.training == learn.training
            assert torch.is_grad_enabled() == learn.training
            seen.append((learn.epoch, learn.n_epochs, learn.iteration, learn.training))

    make([Look()]).fit(2)
    one = [(0, True), (1, True), (0, False)]
    assert seen == [(epoch, 2, i, training) for epoch in (0, 1) for i, training in one]


def test_validate_alone():
    log = Log()
    learner = make([log])
    before = learner.model.weight.detach().clone()
    learner.validate()
    assert log.events == ["before_validate", *VALID_BATCH, "after_validate"]
    assert torch.equal(learner.model.weight, before)
    with pytest.raises(ValueError, match="dls.valid must hold"):
        make(valid=False).validate()


def test_the_rate_of_a_fit_and_the_optimizer_that_is_kept():
    learner = make(lr=0.1, opt_func=Adam)
    learner.fit(1)
    first = learner.opt
    assert first.param_groups[0]["lr"] == 0.1
    learner.fit(1, lr=0.02)
    assert learner.opt is first
    assert first.param_groups[0]["lr"] == 0.02
    learner.fit(1)
    assert first.param_groups[0]["lr"] == 0.02
    learner.opt = None
    learner.fit(1)
    assert learner.opt is not first
    assert learner.opt.param_groups[0]["lr"] == 0.1
    fresh = make(lr=0.1)
    fresh.fit(1, lr=0.3)
    assert fresh.opt.param_groups[0]["lr"] == 0.3
    assert isinstance(fresh.opt, SGD)


def test_frozen_parameters_are_not_given_to_the_optimizer():
    learner = make()
    learner.model.bias.requires_grad_(False)
    learner.fit(1)
    assert [p is learner.model.weight for p in learner.opt.param_groups[0]["params"]] == [True]


def bias_first(model):
    return [[model.bias], [model.weight]]


@pytest.mark.parametrize("opt_func", [SGD, torch.optim.SGD])
def test_a_splitter_gives_each_group_a_rate_of_its_own(opt_func):
    learner = make(opt_func=opt_func, splitter=bias_first)
    weight, bias = (p.detach().clone() for p in (learner.model.weight, learner.model.bias))
    rates = []

    class Look(Callback):
        def after_backward(self):
            rates.append([group["lr"] for group in self.learn.opt.param_groups])
            self.grads = [learner.model.bias.grad.clone(), learner.model.weight.grad.clone()]
            raise CancelFitException if len(rates) == 2 else CancelBatchException

    look = Look()
    learner.fit(1, lr=[0.3, 0.01], callbacks=[look])
    assert rates == [[0.3, 0.01]] * 2
    learner.opt.step()
    torch.testing.assert_close(learner.model.bias.detach(), bias - 0.3 * look.grads[0])
    torch.testing.assert_close(learner.model.weight.detach(), weight - 0.01 * look.grads[1])


def test_the_rates_of_a_later_fit():
    learner = make(splitter=bias_first, lr=[0.3, 0.2])

    def rates():
        return [group["lr"] for group in learner.opt.param_groups]

    learner.fit(1)
    opt = learner.opt
    assert rates() == [0.3, 0.2]
    learner.fit(1, lr=(0.1, 0.05))
    assert rates() == [0.1, 0.05]
    learner.fit(1)
    assert rates() == [0.1, 0.05]
    learner.fit(1, lr=0.01)
    assert rates() == [0.01, 0.01]
    assert learner.opt is opt


def test_the_last_rate_is_that_of_groups_that_are_added_later():
    def remember(params, lr):
        remember.lr = lr
        return SGD(params, lr=lr)

    make(splitter=bias_first, opt_func=remember).prepare_optimizer([0.3, 0.2])
    assert remember.lr == 0.2


def test_one_rate_in_a_sequence_without_a_splitter():
    learner = make()
    learner.fit(1, lr=[0.25])
    assert learner.opt.param_groups[0]["lr"] == 0.25
    assert len(learner.opt.param_groups) == 1


def test_a_splitter_leaves_frozen_parameters_out_and_keeps_its_groups():
    learner = make(splitter=bias_first)
    learner.model.bias.requires_grad_(False)
    learner.fit(1, lr=[0.1, 0.2])
    groups = [group["params"] for group in learner.opt.param_groups]
    assert groups[0] == []
    assert groups[1][0] is learner.model.weight
    assert learner.opt.param_groups[1]["lr"] == 0.2


def test_the_optimizer_can_be_made_before_the_fit():
    learner = make()
    learner.prepare_optimizer()
    opt = learner.opt
    assert opt.param_groups[0]["lr"] == 0.1
    learner.prepare_optimizer(0.2)
    assert opt.param_groups[0]["lr"] == 0.2
    learner.fit(1)
    assert learner.opt is opt


def test_a_fit_goes_on_from_a_later_epoch():
    seen = []

    class Look(Callback):
        def before_epoch(self):
            seen.append((self.learn.epoch, self.learn.n_epochs))

    learner = make([Look()])
    learner.fit(5, start_epoch=3)
    assert seen == [(3, 5), (4, 5)]
    learner.fit(1)
    assert seen[2:] == [(0, 1)]


def test_two_halves_of_a_fit_are_the_whole():
    whole, halves = make(), make()
    whole.fit(4)
    halves.fit(2)
    halves.fit(4, start_epoch=2)
    assert torch.equal(whole.model.weight, halves.model.weight)


def test_torchs_loaders_and_optimizers_work_too():
    dataset = TensorDataset(X, Y)
    dls = DataLoaders(
        TorchDataLoader(dataset, batch_size=3), TorchDataLoader(dataset, batch_size=6)
    )
    torch.manual_seed(0)
    learner = Learner(nn.Linear(2, 1), dls, F.mse_loss, torch.optim.SGD, lr=0.1)
    learner.fit(2)
    ours = make()
    ours.fit(2)
    torch.testing.assert_close(learner.model.weight, ours.model.weight)


def test_predict():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    learner = Learner(model, DataLoaders(DataLoader(X, Y, batch_size=3)), mse_loss)
    model.train()
    whole = learner.predict(X)
    assert model.training
    assert not whole.requires_grad
    torch.testing.assert_close(learner.predict(X, batch_size=4), whole)
    torch.testing.assert_close(whole, model.eval()(X).detach())
    learner.predict(X)
    assert not model.training


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("before_bacth", "before_batch"),
        ("befor_fit", "before_fit"),
        ("after_predict", "after_pred"),
        ("afterepoch", "after_epoch"),
        ("after_los", "after_loss"),
        ("cleanupp", "cleanup"),
    ],
)
def test_a_misspelt_event(name, near):
    words = f"Mine has a method {name!r}, which is not an event: did you mean {near!r}"
    with pytest.raises(TypeError, match=words):
        type("Mine", (Callback,), {name: lambda self: None})


def test_an_unknown_event():
    with pytest.raises(TypeError, match="'before_lunch', which is not an event.*before_fit"):
        type("Mine", (Callback,), {"before_lunch": lambda self: None})


def test_other_methods_are_free():
    free = type("Mine", (Callback,), {"plot": 1, "fit": 2, "_before_batch": 3, "step": 4})
    assert repr(free()) == "Mine()"


def learner_of(model, x=X, y=Y, loss=mse_loss):
    return Learner(model, DataLoaders(DataLoader(x, y, batch_size=3)), loss, lr=0.1)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: make(lr=-0.1), ValueError, "^lr must be a positive number, but it is -0.1"),
        (lambda: make(lr=0), ValueError, "^lr must be.*0"),
        (lambda: make(lr=float("inf")), ValueError, "^lr must be.*inf"),
        (lambda: make(lr="1"), ValueError, "^lr must be.*'1'"),
        (lambda: make().fit(1, lr=-3), ValueError, "^lr must be.*-3"),
        (lambda: make().fit(0), ValueError, "n_epochs must be.*at least 1.*0"),
        (lambda: make().fit(1.5), ValueError, "n_epochs must be.*1.5"),
        (lambda: make().fit(True), ValueError, "n_epochs must be.*True"),
        (
            lambda: make(splitter=bias_first).fit(1, lr=[0.1, -0.2]),
            ValueError,
            "^lr must be a positive number, but it is -0.2",
        ),
        (lambda: make(lr=(0.1, 0)), ValueError, "^lr must be a positive number, but it is 0"),
        (
            lambda: make(splitter=bias_first).fit(1, lr=[0.1, 0.2, 0.3]),
            ValueError,
            "^lr must hold one rate for each of the 2 parameter groups, but it holds 3.$",
        ),
        (lambda: make().fit(1, lr=[0.1, 0.2]), ValueError, "each of the 1 parameter groups"),
        (
            lambda: make(splitter=lambda model: [[model.bias]]).fit(1),
            ValueError,
            "^splitter must put every trainable parameter into a group, but it leaves out weight.$",
        ),
        (
            lambda: make(splitter=lambda model: []).fit(1),
            ValueError,
            "^splitter must put .* leaves out weight, bias.$",
        ),
        (
            lambda: make().fit(2, start_epoch=2),
            ValueError,
            "^start_epoch must be a whole number from 0 to 1, but it is 2.$",
        ),
        (lambda: make().fit(2, start_epoch=-1), ValueError, "start_epoch must be.*-1"),
        (lambda: make().fit(2, start_epoch=0.5), ValueError, "start_epoch must be.*0.5"),
        (lambda: make().fit(2, start_epoch=True), ValueError, "start_epoch must be.*True"),
        (lambda: make([Callback]), TypeError, "instances of Callback.*the class Callback"),
        (lambda: make([print]), TypeError, "instances of Callback.*print"),
        (
            lambda: Learner(len, make().dls, mse_loss),
            TypeError,
            "model must be an nn.Module.*built",
        ),
        (lambda: Learner(nn.Linear(1, 1), X, mse_loss), TypeError, "dls must be.*Tensor"),
        (
            lambda: learner_of(nn.Linear(3, 1)).fit(1),
            RuntimeError,
            r"^The model failed on inputs of shape \(3, 2\): mat1 and mat2",
        ),
        (
            lambda: learner_of(nn.Linear(2, 4)).fit(1),
            RuntimeError,
            r"^The loss failed on predictions of shape \(3, 4\) and targets of \(3, 1\)",
        ),
        (
            lambda: learner_of(nn.Linear(2, 4), y=torch.tensor([9] * 6), loss=F.cross_entropy).fit(
                1
            ),
            RuntimeError,
            r"^The loss failed on predictions of shape \(3, 4\) and targets of \(3,\)",
        ),
        (
            lambda: make().predict(torch.zeros(5, 3)),
            RuntimeError,
            r"^The model failed on inputs in batches of \(5, 3\)",
        ),
        (
            lambda: Learner(
                nn.Linear(2, 1), DataLoaders(DataLoader(X, batch_size=2)), mse_loss
            ).fit(1),
            ValueError,
            "a batch must be a pair.*tuple of 1",
        ),
        (
            lambda: Learner(nn.Linear(2, 1), DataLoaders([X]), mse_loss).fit(1),
            ValueError,
            "a batch must be a pair.*it is a Tensor",
        ),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_memory_errors_are_passed_on_as_they_are():
    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, x):
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError, match="^no room"):
        learner_of(Greedy()).fit(1)
