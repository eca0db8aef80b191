"""`glassbox.checkpoints`: resumed runs against whole ones, and files that are damaged."""

import os
import random
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import TensorDataset

from glassbox.callbacks import DevicePlacement
from glassbox.checkpoints import (
    Checkpoint,
    load_checkpoint,
    loader_generators,
    rng_state,
    save_checkpoint,
    set_rng_state,
)
from glassbox.data import DataLoader, DataLoaders
from glassbox.learner import Callback, CancelFitException, Learner
from glassbox.losses import mse_loss
from glassbox.optim import SGD, Adam
from glassbox.training import MixedPrecision, ParamScheduler, one_cycle

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
    """Draws from global sources of random numbers at every batch."""

    def __init__(self):
        self.log = []

    def before_batch(self):
        self.log.append(random.random() + np.random.rand())  # noqa: NPY002


def by_layer(model):
    return [list(model[0].parameters()), [p for layer in model[1:] for p in layer.parameters()]]


def run_of(*callbacks, **options):
    """Return a learner with a schedule, scaling and randomness in a callback."""
    own = [
        ParamScheduler("lr", one_cycle(0.1)),
        MixedPrecision(torch.bfloat16, 256.0, growth_interval=3),
        UsesRandomness(),
    ]
    return make([*own, *callbacks], **options)


def scramble(seed):
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002


@pytest.mark.parametrize("opt_func", [momentum, Adam, torch.optim.AdamW])
@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, done, opt_func):
    whole = run_of(opt_func=opt_func)
    scramble(5)
    whole.fit(4)
    end = random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002

    class Stop(Callback):
        order = 80

        def after_epoch(self):
            if self.learn.epoch + 1 == done:
                raise CancelFitException

    interrupted = run_of(Checkpoint(tmp_path / "run.pt"), Stop(), opt_func=opt_func)
    scramble(5)
    interrupted.fit(4)
    scramble(6)
    resumed = run_of(opt_func=opt_func, seed=8)
    with torch.no_grad():
        for p in resumed.model.parameters():
            p.fill_(7)
    start = load_checkpoint(tmp_path / "run.pt", resumed)
    assert start == done
    resumed.fit(4, start_epoch=start)
    assert same(whole, resumed)
    assert end == (random.random(), np.random.rand(), torch.rand(1))  # noqa: NPY002
    assert str(whole.opt.state_dict()) == str(resumed.opt.state_dict())
    assert whole.callbacks[0].state_dict() == resumed.callbacks[0].state_dict()
    ours, theirs = (c.callbacks[2].log for c in (resumed, whole))
    assert ours == theirs[-len(ours) :]


def test_torchs_loader_resumes_too(tmp_path):
    def build():
        learner = make(norm=False)
        data = TensorDataset(X, Y)
        generator = torch.Generator().manual_seed(4)
        learner.dls = DataLoaders(
            TorchDataLoader(data, batch_size=3, shuffle=True, generator=generator)
        )
        return learner

    whole, first, second = build(), build(), build()
    whole.fit(2)
    first.fit(1)
    save_checkpoint(tmp_path / "c", first)
    second.fit(2, start_epoch=load_checkpoint(tmp_path / "c", second))
    assert same(whole, second)


def test_a_checkpoint_before_the_first_fit(tmp_path):
    save_checkpoint(tmp_path / "c", make())
    learner = make()
    learner.fit(1)
    assert load_checkpoint(tmp_path / "c", learner) == 0
    assert learner.opt is None
    assert same(learner, make())


def test_a_checkpoint_that_is_loaded_can_still_be_saved_and_shares_nothing(tmp_path):
    learner = make()
    learner.fit(2)
    save_checkpoint(str(tmp_path / "c"), learner)
    weight = learner.model[0].weight.detach().clone()
    learner.fit(1)
    other = make()
    assert load_checkpoint(str(tmp_path / "c"), other) == 2
    assert torch.equal(other.model[0].weight, weight)


def test_loading_moves_the_model_to_where_it_will_be_trained(tmp_path):
    save_checkpoint(tmp_path / "c", make())
    moved = []
    learner = make([DevicePlacement("cpu")])
    with mock.patch.object(learner.model, "to", moved.append):
        load_checkpoint(tmp_path / "c", learner)
    assert moved == [torch.device("cpu")]


def test_checkpoints_after_every_so_many_epochs_and_after_the_last(tmp_path):
    written = []

    class Look(Callback):
        order = 76

        def after_epoch(self):
            file = tmp_path / "c"
            written.append(load_checkpoint(file, make()) if file.exists() else None)

    make([Checkpoint(tmp_path / "c", every=2), Look()]).fit(5)
    assert written == [None, 2, 2, 4, 5]
    assert Checkpoint(tmp_path / "c").every == 1
    assert os.listdir(tmp_path) == ["c"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    learner = make()
    save_checkpoint(tmp_path / "c", learner)
    old = (tmp_path / "c").read_bytes()
    learner.fit(1)

    def half_written(content, file):
        file.write(b"half")
        raise OSError("no space left on device")

    with mock.patch("torch.save", half_written), pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path / "c", learner)
    assert (tmp_path / "c").read_bytes() == old
    assert os.listdir(tmp_path) == ["c"]


def test_the_file_is_written_beside_its_place_so_that_the_renaming_is_whole(tmp_path):
    seen = []

    def note(content, file):
        seen.extend(os.listdir(tmp_path))

    with mock.patch("torch.save", note):
        save_checkpoint(tmp_path / "c", make())
    (temporary,) = seen
    assert temporary.startswith(".c.")
    assert os.listdir(tmp_path) == ["c"]


def test_nothing_in_the_file_is_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"glassbox checkpoint": 1, "model": Evil()}, tmp_path / "c")
    with pytest.raises(ValueError, match="cannot be read|truncated, damaged or of another kind"):
        load_checkpoint(tmp_path / "c", make())
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_one_sentence_and_changes_nothing(tmp_path, share):
    learner = make()
    learner.fit(1)
    save_checkpoint(tmp_path / "c", learner)
    content = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(content[: int(share * len(content))])
    before = state_of(learner)
    words = r"^path must name a file that save_checkpoint wrote, but .*c is truncated, damaged or"
    with pytest.raises(ValueError, match=words):
        load_checkpoint(tmp_path / "c", learner)
    assert_same_state(state_of(learner), before)


@pytest.mark.parametrize(
    "content", [{"model": {}}, [1, 2], {"glassbox checkpoint": 2}, torch.ones(3)]
)
def test_another_file_of_torchs_is_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "c")
    with pytest.raises(ValueError, match="^path must name a file.*c holds something else.$"):
        load_checkpoint(tmp_path / "c", make())


def test_a_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="^path must name.*c does not exist.$"):
        load_checkpoint(tmp_path / "c", make())


def wider(learner):
    learner.model[0] = nn.Linear(2, 5)


def double(learner):
    learner.model.double()


def longer(learner):
    learner.model.append(nn.Linear(1, 1))


def longer_by_far(learner):
    learner.model.extend([nn.Linear(1, 1), nn.Linear(1, 1)])


@pytest.mark.parametrize(
    ("change_saved", "change_ours", "words"),
    [
        (
            wider,
            None,
            r"its 0.weight is float32 of shape \(5, 2\) and not float32 of shape \(4, 2\)",
        ),
        (
            double,
            None,
            r"its 0.weight is float64 of shape \(4, 2\) and not float32 of shape .4, 2.",
        ),
        (longer, None, "it has 4.weight, 4.bias besides"),
        (None, longer, "it lacks 4.weight, 4.bias"),
        (None, longer_by_far, "it lacks 4.weight, 4.bias, 5.weight and 1 more"),
    ],
)
def test_a_checkpoint_of_another_model(tmp_path, change_saved, change_ours, words):
    saved, ours = make(), make()
    for learner, change in ((saved, change_saved), (ours, change_ours)):
        if change:
            change(learner)
    save_checkpoint(tmp_path / "c", saved)
    before = state_of(ours)
    words = rf"^path must name a checkpoint of this model, but .*c is of another: {words}\.$"
    with pytest.raises(ValueError, match=words):
        load_checkpoint(tmp_path / "c", ours)
    assert_same_state(state_of(ours), before)


class HasState(Callback):
    def state_dict(self):
        return {}


@pytest.mark.parametrize(
    ("saved", "ours", "words"),
    [
        (
            lambda: make(),
            lambda: make(opt_func=Adam),
            r"^learner must have the optimizer that .*c holds, SGD with groups of \[6\] "
            r"parameters, but it has Adam with groups of \[6\]\.$",
        ),
        (
            lambda: make(),
            lambda: make(splitter=by_layer),
            r"SGD with groups of \[6\] parameters, but it has SGD with groups of \[2, 4\]",
        ),
        (
            lambda: make([HasState(), HasState()]),
            lambda: make(),
            r"^learner must have the callbacks with a state that .*c holds "
            r"\(HasState, HasState-1\), but it has none\.$",
        ),
        (
            lambda: make(),
            lambda: make([HasState()]),
            r"callbacks with a state that .*c holds \(none\), but it has HasState\.$",
        ),
    ],
)
def test_a_checkpoint_of_another_learner(tmp_path, saved, ours, words):
    saved, ours = saved(), ours()
    saved.fit(1)
    save_checkpoint(tmp_path / "c", saved)
    before = state_of(ours)
    with pytest.raises(ValueError, match=words):
        load_checkpoint(tmp_path / "c", ours)
    assert_same_state(state_of(ours), before)


def test_a_refused_checkpoint_leaves_the_optimizer_that_there_was(tmp_path):
    saved, ours = make(), make(opt_func=Adam)
    saved.fit(1), ours.fit(1)
    save_checkpoint(tmp_path / "c", saved)
    opt, before = ours.opt, state_of(ours)
    with pytest.raises(ValueError, match="but it has Adam"):
        load_checkpoint(tmp_path / "c", ours)
    assert ours.opt is opt
    assert_same_state(state_of(ours), before)


def test_callbacks_of_one_class_are_told_apart_by_number(tmp_path):
    save_checkpoint(tmp_path / "c", make([HasState(), HasState(), HasState()]))
    words = r"holds \(HasState, HasState-1, HasState-2\), but it has HasState, HasState-1\.$"
    with pytest.raises(ValueError, match=words):
        load_checkpoint(tmp_path / "c", make([HasState(), HasState()]))


def test_of_three_names_that_a_checkpoint_lacks_all_are_given(tmp_path):
    saved, ours = make(norm=False), make(norm=False)
    save_checkpoint(tmp_path / "c", saved)
    ours.model.add_module("more", nn.PReLU())
    ours.model.add_module("other", nn.Linear(1, 1))
    words = r"it lacks more\.weight, other\.weight, other\.bias\.$"
    with pytest.raises(ValueError, match=words):
        load_checkpoint(tmp_path / "c", ours)


def test_a_checkpoint_of_other_loaders(tmp_path):
    saved, ours = make(), make()
    save_checkpoint(tmp_path / "c", saved)
    ours.dls.train.generator = None
    words = r"loaders with a generator that .*c holds \(train\), but it has none"
    with pytest.raises(ValueError, match=words):
        load_checkpoint(tmp_path / "c", ours)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: Checkpoint("x", every=0),
            "^every must be a whole number of at least 1, but it is 0.$",
        ),
        (lambda: Checkpoint("x", every=1.5), "^every must be"),
        (
            lambda: Checkpoint("no/such/folder/x"),
            "^path must lie in a folder that exists, but it is 'no/such/folder/x'.$",
        ),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_only_loaders_with_a_generator_of_their_own_are_named():
    learner = make()
    assert loader_generators(learner.dls) == {"train": learner.dls.train.generator}
    learner.dls.train.generator = None
    assert loader_generators(learner.dls) == {}


def test_every_global_source_of_random_numbers_goes_back_to_a_state():
    def draws():
        return random.random(), np.random.rand(), torch.rand(2).tolist()  # noqa: NPY002

    state = rng_state()
    first = draws()
    assert draws() != first
    set_rng_state(state)
    assert draws() == first


def damaged(path, change):
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("rng"),
        lambda c: c["rng"].clear(),
        lambda c: c["rng"].update(numpy=3),
        lambda c: c.update(model=[1]),
        lambda c: c.update(optimizer={}),
        lambda c: c["optimizer"]["param_groups"][0].pop("lr"),
        lambda c: c["generators"].update(train=torch.ones(3)),
        lambda c: c["callbacks"].update(MixedPrecision={}),
    ],
)
def test_a_hollow_checkpoint_is_one_sentence_and_changes_nothing(tmp_path, change):
    saved, learner = make([MixedPrecision(torch.bfloat16)]), make([MixedPrecision(torch.bfloat16)])
    saved.fit(2)
    save_checkpoint(tmp_path / "c", saved)
    damaged(tmp_path / "c", change)
    learner.fit(1)
    before = state_of(learner)
    with pytest.raises(ValueError, match="^path must name a file that save_checkpoint wrote, but"):
        load_checkpoint(tmp_path / "c", learner)
    assert_same_state(state_of(learner), before)
