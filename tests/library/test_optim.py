"""`glassbox.optim` against `torch.optim`, step by step."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassbox.optim import SGD, Adam, AdamW, Optimizer

LR = st.floats(1e-4, 0.1)
DECAY = st.sampled_from([0.0, 0.01, 0.3])
DTYPE = st.sampled_from([torch.float32, torch.float64])


def trajectory(make, dtype, steps=8):
    """Return a scalar's and a matrix's path on a bumpy surface under an optimizer."""
    scalar = torch.tensor(1.5, dtype=dtype, requires_grad=True)
    matrix = torch.linspace(-2, 2, 6, dtype=dtype).view(2, 3).clone().requires_grad_()
    unused = torch.ones(2, dtype=dtype, requires_grad=True)
    opt = make([scalar, matrix, unused])
    path = []
    for _ in range(steps):
        loss = (scalar - 3) ** 2 + (matrix.sin() * scalar).sum() + 0.1 * (matrix**2).sum()
        loss.backward()
        opt.step()
        opt.zero_grad()
        path.append(torch.cat([scalar.detach().view(1), matrix.detach().flatten()]))
    assert torch.equal(unused, torch.ones(2, dtype=dtype)), "no gradient, no step"
    return torch.stack(path)


def assert_same_path(ours, theirs, dtype):
    close = (
        {"rtol": 1e-9, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 2e-4, "atol": 1e-5}
    )
    torch.testing.assert_close(trajectory(ours, dtype), trajectory(theirs, dtype), **close)


@settings(max_examples=40)
@given(LR, st.sampled_from([0.0, 0.5, 0.9, 0.99]), DECAY, DTYPE)
def test_sgd_takes_the_same_steps_as_torch(lr, momentum, decay, dtype):
    options = {"lr": lr, "momentum": momentum, "weight_decay": decay}
    assert_same_path(lambda p: SGD(p, **options), lambda p: torch.optim.SGD(p, **options), dtype)


@settings(max_examples=40)
@given(
    LR,
    st.sampled_from([(0.9, 0.999), (0.0, 0.9), (0.5, 0.5), (0.99, 0.99)]),
    st.sampled_from([1e-8, 1e-3]),
    DECAY,
    DTYPE,
)
def test_adam_takes_the_same_steps_as_torch(lr, betas, eps, decay, dtype):
    options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": decay}
    assert_same_path(lambda p: Adam(p, **options), lambda p: torch.optim.Adam(p, **options), dtype)


@settings(max_examples=40)
@given(
    LR,
    st.sampled_from([(0.9, 0.999), (0.0, 0.9), (0.5, 0.5)]),
    st.sampled_from([1e-8, 1e-3]),
    DECAY,
    DTYPE,
)
def test_adamw_takes_the_same_steps_as_torch(lr, betas, eps, decay, dtype):
    options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": decay}
    assert_same_path(
        lambda p: AdamW(p, **options), lambda p: torch.optim.AdamW(p, **options), dtype
    )


def decay_then_step(opt_class):
    """Return an optimizer class that shrinks the weights and leaves the gradient alone."""

    class Decoupled(opt_class):
        def update(self, p, grad, group):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            super().update(p, grad, {**group, "weight_decay": 0.0})

    return Decoupled


@given(LR, DECAY, DTYPE)
def test_decay_within_the_gradient_and_beside_it_are_the_same_for_plain_sgd(lr, decay, dtype):
    options = {"lr": lr, "weight_decay": decay}
    assert_same_path(
        lambda p: SGD(p, **options), lambda p: decay_then_step(SGD)(p, **options), dtype
    )


def test_decay_within_the_gradient_and_beside_it_differ_for_adam_and_with_momentum():
    options = {"lr": 0.1, "weight_decay": 0.3}
    gap = trajectory(lambda p: Adam(p, **options), torch.float64) - trajectory(
        lambda p: AdamW(p, **options), torch.float64
    )
    assert gap.abs().max() > 0.01
    options["momentum"] = 0.9
    gap = trajectory(lambda p: SGD(p, **options), torch.float64) - trajectory(
        lambda p: decay_then_step(SGD)(p, **options), torch.float64
    )
    assert gap.abs().max() > 0.01


def test_without_a_gradient_to_follow_adamw_shrinks_by_a_share_and_adam_by_about_lr():
    for opt_class, expected in ((AdamW, 4 * 0.9), (Adam, 4 - 0.5)):
        w = torch.tensor([4.0], requires_grad=True)
        opt = opt_class([w], lr=0.5, weight_decay=0.2)
        w.grad = torch.zeros(1)
        opt.step()
        assert w.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("ours", [SGD, Adam, AdamW])
def test_groups_have_options_of_their_own(ours):
    theirs = getattr(torch.optim, ours.__name__)

    def groups(params):
        return [
            {"params": params[:1], "lr": 0.3},
            {"params": iter(params[1:]), "weight_decay": 0.1},
        ]

    assert_same_path(
        lambda p: ours(groups(p), lr=0.01), lambda p: theirs(groups(p), lr=0.01), torch.float64
    )
    w = torch.ones(1, requires_grad=True)
    opt = ours([{"params": [w], "lr": 0.5}], lr=0.1)
    assert opt.param_groups[0]["lr"] == 0.5
    assert opt.param_groups[0]["params"][0] is w


@pytest.mark.parametrize("ours", [SGD, Adam, AdamW])
def test_the_rate_can_be_changed_between_steps(ours):
    w = torch.zeros(1, requires_grad=True)
    opt = ours([w], lr=0.1)
    opt.param_groups[0]["lr"] = 0.0
    w.grad = torch.ones(1)
    opt.step()
    assert w.item() == 0.0


def test_defaults_are_those_of_torch():
    w = torch.zeros(1, requires_grad=True)
    for opt_class in (Adam, AdamW):
        ours = opt_class([w]).param_groups[0]
        theirs = getattr(torch.optim, opt_class.__name__)([w]).param_groups[0]
        for name in ("lr", "betas", "eps", "weight_decay"):
            assert ours[name] == theirs[name]
    ours = SGD([w], lr=0.1).param_groups[0]
    assert (ours["momentum"], ours["weight_decay"]) == (0.0, 0.0)


def test_zero_grad_forgets_the_gradients():
    w = torch.ones(2, requires_grad=True)
    opt = SGD(iter([w]), lr=0.1)
    w.sum().backward()
    opt.zero_grad()
    assert w.grad is None
    opt.step()
    assert torch.equal(w, torch.ones(2))


def two_groups(opt_class, **options):
    params = [torch.tensor([1.0, 2.0], requires_grad=True), torch.ones(3, requires_grad=True)]
    groups = [{"params": params[:1], "lr": 0.3}, {"params": params[1:]}]
    return params, opt_class(groups, lr=0.1, **options)


def step(params, opt):
    opt.zero_grad()
    sum((p**3).sum() for p in params).backward()
    opt.step()


@pytest.mark.parametrize("opt_class", [SGD, Adam, AdamW])
def test_an_optimizer_goes_on_from_a_saved_state_bit_for_bit(opt_class):
    options = {"momentum": 0.9} if opt_class is SGD else {"betas": (0.5, 0.9)}
    params, opt = two_groups(opt_class, **options)
    step(params, opt)
    opt.param_groups[1]["lr"] = 0.05
    saved = copy.deepcopy(opt.state_dict())
    others, other = two_groups(opt_class)
    for p, q in zip(params, others, strict=True):
        q.data.copy_(p.data)
    other.load_state_dict(saved)
    for _ in range(2):
        step(params, opt)
        step(others, other)
    for p, q in zip(params, others, strict=True):
        assert torch.equal(p, q)
    assert [g["lr"] for g in other.param_groups] == [0.3, 0.05]
    assert [g["params"][0] is q for g, q in zip(other.param_groups, others, strict=True)] == [
        True,
        True,
    ]
    kept = saved["state"][0]["velocity" if opt_class is SGD else "average"]
    assert not torch.equal(kept, next(iter(opt.state.values())).popitem()[1]), "a copy was loaded"


@pytest.mark.parametrize("opt_class", [SGD, Adam, AdamW])
def test_a_state_has_the_shape_of_torchs(opt_class):
    options = {"momentum": 0.9} if opt_class is SGD else {}
    theirs_class = getattr(torch.optim, opt_class.__name__)
    (params, ours), (others, theirs) = (
        two_groups(opt_class, **options),
        two_groups(theirs_class, **options),
    )
    step(params, ours)
    step(others, theirs)
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert set(ours) == set(theirs)
    assert set(ours["state"]) == set(theirs["state"]) == {0, 1}
    for our, their in zip(ours["param_groups"], theirs["param_groups"], strict=True):
        assert our["params"] == their["params"]
        assert all(their[name] == value for name, value in our.items())


def test_a_loaded_state_is_a_copy_and_replaces_the_old_one():
    params, opt = two_groups(SGD, momentum=0.9)
    step(params, opt)
    saved = opt.state_dict()
    fresh = two_groups(SGD, momentum=0.9)[1].state_dict()
    _, other = two_groups(SGD, momentum=0.9)
    other.load_state_dict(saved)
    ours, theirs = other.state_dict()["state"][1]["velocity"], saved["state"][1]["velocity"]
    assert torch.equal(ours, theirs)
    assert ours.data_ptr() != theirs.data_ptr()
    opt.load_state_dict(fresh)
    assert opt.state == {}


def test_a_loaded_state_moves_to_the_parameters_device():
    w = torch.ones(2, requires_grad=True)
    opt = SGD([w], lr=0.1, momentum=0.9)
    w.grad = torch.ones(2)
    opt.step()
    meta = SGD([torch.ones(2, device="meta", requires_grad=True)], lr=0.1)
    meta.load_state_dict(opt.state_dict())
    assert meta.state_dict()["state"][0]["velocity"].device.type == "meta"


def test_a_state_of_other_groups_is_refused_and_changes_nothing():
    _, opt = two_groups(SGD)
    one = SGD([torch.ones(1, requires_grad=True)], lr=0.7)
    words = r"^state_dict must have groups of \[1, 1\] parameters, but it has groups of \[1\]\.$"
    with pytest.raises(ValueError, match=words):
        opt.load_state_dict(one.state_dict())
    saved = opt.state_dict()
    saved["param_groups"][1]["momentum"] = 2
    saved["param_groups"][0]["lr"] = 0.9
    with pytest.raises(ValueError, match="momentum must be.*2"):
        opt.load_state_dict(saved)
    assert opt.param_groups[0]["lr"] == 0.3


def test_the_gradient_itself_is_left_as_it_was():
    for opt_class in (SGD, Adam, AdamW):
        w = torch.ones(2, requires_grad=True)
        options = {"momentum": 0.9} if opt_class is SGD else {}
        opt = opt_class([w], lr=0.1, weight_decay=0.5, **options)
        w.grad = torch.full((2,), 3.0)
        opt.step()
        opt.step()
        assert torch.equal(w.grad, torch.full((2,), 3.0))


def test_a_new_optimizer_says_what_it_does_in_update():
    class SignDescent(Optimizer):
        def update(self, p, grad, group):
            p.sub_(grad.sign(), alpha=group["lr"])

    w = torch.tensor([1.0, -1.0], requires_grad=True)
    opt = SignDescent([w], lr=0.25)
    w.grad = torch.tensor([5.0, -0.1])
    opt.step()
    assert w.tolist() == [0.75, -0.75]


def test_update_must_be_defined():
    w = torch.ones(1, requires_grad=True)
    w.grad = torch.ones(1)
    with pytest.raises(NotImplementedError, match="Optimizer must define update"):
        Optimizer([w], lr=0.1).step()


W = [torch.ones(1, requires_grad=True)]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: SGD(W, lr=-0.1), ValueError, "lr must be at least 0 and finite, but it is -0.1"),
        (lambda: SGD(W, lr=math.nan), ValueError, "lr must be.*nan"),
        (lambda: SGD(W, lr=math.inf), ValueError, "lr must be.*inf"),
        (lambda: SGD(W, 0.1, momentum=1.0), ValueError, "momentum must be.*less than 1.*1.0"),
        (lambda: SGD(W, 0.1, momentum=-0.1), ValueError, "momentum must be at least 0.*-0.1"),
        (lambda: SGD(W, 0.1, weight_decay=-1), ValueError, "weight_decay must be.*-1"),
        (lambda: Adam(W, lr=-1), ValueError, "lr must be.*-1"),
        (lambda: Adam(W, betas=(1.0, 0.9)), ValueError, r"betas\[0\] must be.*1.0"),
        (lambda: Adam(W, betas=(0.9, -0.1)), ValueError, r"betas\[1\] must be.*-0.1"),
        (lambda: Adam(W, eps=0.0), ValueError, "eps must be more than 0.*0.0"),
        (lambda: Adam(W, weight_decay=-1), ValueError, "weight_decay must be.*-1"),
        (lambda: AdamW(W, weight_decay=-1), ValueError, "weight_decay must be.*-1"),
        (lambda: SGD([{"params": W, "lr": -1}], lr=0.1), ValueError, "lr must be.*-1"),
        (lambda: SGD([], lr=0.1), ValueError, "params must hold at least one tensor"),
        (lambda: SGD(W[0], lr=0.1), TypeError, "params must be an iterable.*single tensor"),
        (lambda: SGD([1.0], lr=0.1), TypeError, "params must hold tensors.*float"),
        (lambda: SGD(W * 2, lr=0.1), ValueError, "each tensor once"),
        (
            lambda: SGD([{"params": W}, {"params": W}], lr=0.1),
            ValueError,
            "each tensor once, but it holds one twice",
        ),
    ],
)
def test_bad_input_is_answered_in_one_sentence(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_zero_is_an_allowed_rate():
    assert SGD(W, lr=0.0).param_groups[0]["lr"] == 0.0
