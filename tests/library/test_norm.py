"""`glassbox.norm`: the normalisations, against torch's and against their definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassbox.models import simple_cnn
from glassbox.norm import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RunningBatchNorm,
    exponential_average,
    normalize,
)

BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
INSTANCE_NORMS = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d}
ALL = {
    "batch": BatchNorm,
    "layer": LayerNorm,
    "instance": InstanceNorm,
    "group": lambda n, eps=1e-5, **options: GroupNorm(1, n, eps, **options),
    "running": RunningBatchNorm,
}

dtypes = st.sampled_from([torch.float32, torch.float64])
# In single precision torch's group norm loses the variance of values that are close together.
double = st.just(torch.float64)


@st.composite
def inputs(draw, *, low_rank=2, positions=1, dtypes=dtypes):
    """An input of shape (n, c), (n, c, l) or (n, c, h, w), with a mean and a spread of its own."""
    rank = draw(st.integers(low_rank, 4))
    n, c = draw(st.integers(2, 5)), draw(st.integers(1, 6))
    sides = [draw(st.integers(positions, 4)) for _ in range(rank - 2)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    x = torch.randn(n, c, *sides, generator=generator, dtype=draw(dtypes))
    return x * draw(st.sampled_from([0.1, 1.0, 20.0])) + draw(st.sampled_from([-3.0, 0.0, 5.0]))


def randomised(ours, theirs, x, seed=1):
    """Give both layers the type of x, and the same random scale and shift."""
    ours, theirs = ours.to(x.dtype), theirs.to(x.dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            q.copy_(torch.randn(p.shape, generator=generator, dtype=x.dtype).view(q.shape))
            p.copy_(q.view(p.shape))
    return ours, theirs


def assert_same(a, b, dtype):
    tolerance = 2e-3 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def assert_agree(ours, theirs, x):
    """The same values, and the same gradients for the input and the parameters."""
    results = []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        layer.zero_grad()
        (y * torch.linspace(-1, 2, y.numel(), dtype=x.dtype).view(y.shape)).sum().backward()
        grads = [p.grad.flatten() for p in layer.parameters()]
        results.append([y.detach(), leaf.grad * x.std(), *grads])
        assert y.dtype == x.dtype
    for a, b in zip(*results, strict=True):
        assert_same(a, b, x.dtype)


# -- normalize


@given(x=inputs(), eps=st.sampled_from([1e-5, 0.1]))
def test_normalize_subtracts_the_mean_and_divides_by_the_root_of_variance_plus_eps(x, eps):
    dims = list(range(1, x.ndim))
    mean = x.mean(dims, keepdim=True)
    var = ((x - mean) ** 2).mean(dims, keepdim=True)
    assert_same(normalize(x, dims, eps), (x - mean) / (var + eps).sqrt(), x.dtype)


@given(x=inputs(positions=2, dtypes=double))
def test_normalize_over_the_last_dimensions_is_torchs_layer_norm(x):
    dims, shape = list(range(1, x.ndim)), x.shape[1:]
    assert_same(normalize(x, dims), nn.functional.layer_norm(x, shape), x.dtype)


def test_normalize_gives_0_where_nothing_varies_with_a_finite_gradient():
    x = torch.full((2, 3), 5.0, requires_grad=True)
    y = normalize(x, (1,))
    (y * torch.tensor([1.0, 2.0, 4.0])).sum().backward()
    assert y.tolist() == [[0.0] * 3] * 2
    assert x.grad.isfinite().all()


def test_normalize_never_multiplies_by_more_than_one_over_the_root_of_eps():
    y = normalize(torch.tensor([[0.0, 2e-6]]), (1,), eps=0.01)
    torch.testing.assert_close(y, torch.tensor([[-1e-5, 1e-5]]))


def test_normalize_has_an_eps_of_1e_5_unless_told():
    x = torch.tensor([[0.0, 0.002]])
    assert torch.equal(normalize(x, (1,)), normalize(x, (1,), eps=1e-5))


@pytest.mark.parametrize("eps", [0, -1e-5, math.inf, math.nan])
def test_eps_must_be_positive_and_finite(eps):
    message = f"^eps must be more than 0 and finite, but it is {eps!r}.$"
    with pytest.raises(ValueError, match=message):
        normalize(torch.ones(2, 3), (1,), eps)
    for layer in ALL.values():
        with pytest.raises(ValueError, match=message):
            layer(4, eps=eps)


def test_normalize_needs_a_dimension():
    with pytest.raises(ValueError, match="^dims must name at least one dimension, but it is empty"):
        normalize(torch.ones(2, 3), ())


def test_whole_numbers_and_lists_are_refused():
    message = "^x must be a tensor of floating-point numbers, but it is "
    with pytest.raises(TypeError, match=message + r"torch\.int64\.$"):
        normalize(torch.ones(2, 3, dtype=torch.int64), (1,))
    with pytest.raises(TypeError, match=message + r"list\.$"):
        normalize([1.0, 2.0], (0,))
    for layer in ALL.values():
        with pytest.raises(TypeError, match=message + r"torch\.int64\.$"):
            layer(3)(torch.ones(2, 3, 4, dtype=torch.int64))


# -- exponential averages


@given(
    values=st.lists(st.floats(-100, 100), min_size=1, max_size=30),
    momentum=st.floats(0.01, 1),
)
def test_an_exponential_average_is_the_weighted_mean_it_says_it_is(values, momentum):
    x = torch.tensor(values, dtype=torch.float64)
    weights = momentum * (1 - momentum) ** torch.arange(len(x) - 1, -1, -1, dtype=torch.float64)
    biased, debiased = (weights * x).sum(), (weights * x).sum() / weights.sum()
    torch.testing.assert_close(exponential_average(x, momentum, debias=False)[-1], biased)
    torch.testing.assert_close(exponential_average(x, momentum)[-1], debiased)


@given(momentum=st.floats(0.01, 1), n=st.integers(1, 20))
def test_a_debiased_average_of_a_constant_is_that_constant_from_the_first_value_on(momentum, n):
    x = torch.full((n, 2), 7.0, dtype=torch.float64)
    torch.testing.assert_close(exponential_average(x, momentum), x)


def test_by_default_a_tenth_of_the_average_is_new():
    x = torch.tensor([10.0, 20.0])
    torch.testing.assert_close(exponential_average(x, debias=False), torch.tensor([1.0, 2.9]))
    torch.testing.assert_close(exponential_average(x), torch.tensor([10.0, 2.9 / 0.19]))


def test_averages_keep_shape_and_type_and_may_be_of_nothing():
    x = torch.ones(3, 2, 4, dtype=torch.float64)
    assert exponential_average(x).shape == (3, 2, 4)
    assert exponential_average(x).dtype == torch.float64
    assert exponential_average(torch.ones(0, 2)).shape == (0, 2)


@pytest.mark.parametrize("momentum", [0, -0.1, 1.1, math.nan])
def test_momentum_must_be_above_0_and_at_most_1(momentum):
    message = f"^momentum must be more than 0 and at most 1, but it is {momentum!r}.$"
    with pytest.raises(ValueError, match=message):
        exponential_average(torch.ones(3), momentum)
    for layer in (BatchNorm, RunningBatchNorm):
        with pytest.raises(ValueError, match=message):
            layer(3, momentum)


def test_a_single_number_has_no_average_over_time():
    with pytest.raises(ValueError, match=r"^values must have shape \(t, …\), but it is a single"):
        exponential_average(torch.tensor(1.0))
    with pytest.raises(TypeError, match="^values must be a tensor of floating-point numbers, but"):
        exponential_average(torch.tensor([1, 2]))


# -- against torch


@given(x=inputs(dtypes=double), momentum=st.floats(0.05, 1), eps=st.sampled_from([1e-5, 0.1]))
@settings(max_examples=60)
def test_batch_norm_is_torchs_in_training_and_evaluation_with_its_buffers(x, momentum, eps):
    c = x.shape[1]
    ours, theirs = BatchNorm(c, momentum, eps), BATCH_NORMS[x.ndim](c, eps, momentum)
    ours, theirs = randomised(ours, theirs, x)
    for step in range(3):
        assert_agree(ours, theirs, x * (1 + step) + step)
        for (name, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
            assert_same(a, b, x.dtype)
            assert not a.requires_grad, name
    ours.eval(), theirs.eval()
    assert_agree(ours, theirs, x)
    assert int(ours.num_batches_tracked) == 3


@given(x=inputs(dtypes=double), eps=st.sampled_from([1e-5, 0.1]))
def test_group_norm_is_torchs_for_every_number_of_groups(x, eps):
    c = x.shape[1]
    for groups in range(1, c + 1):
        values = x[0].numel() // groups
        if c % groups == 0 and values > 1:
            pair = GroupNorm(groups, c, eps), nn.GroupNorm(groups, c, eps)
            assert_agree(*randomised(*pair, x), x)


@given(x=inputs(dtypes=double), eps=st.sampled_from([1e-5, 0.1]))
def test_layer_norm_is_torchs_group_norm_of_one_group(x, eps):
    if x[0].numel() > 1:
        c = x.shape[1]
        assert_agree(*randomised(LayerNorm(c, eps), nn.GroupNorm(1, c, eps), x), x)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (BatchNorm(6), nn.BatchNorm2d(6)),
        (LayerNorm(6), nn.GroupNorm(1, 6)),
        (GroupNorm(3, 6), nn.GroupNorm(3, 6)),
        (InstanceNorm(6), nn.InstanceNorm2d(6, affine=True)),
        (RunningBatchNorm(6, 1.0, first_items=0), nn.BatchNorm2d(6)),
    ],
    ids=["batch", "layer", "group", "instance", "running"],
)
def test_in_single_precision_too_they_are_torchs(ours, theirs, seed):
    x = 3 * torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(seed)) + 2
    assert_agree(*randomised(ours, theirs, x), x)


def test_layer_norm_of_a_table_is_torchs_layer_norm():
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    assert_agree(*randomised(LayerNorm(6), nn.LayerNorm(6), x), x)


@given(x=inputs(low_rank=3, positions=2, dtypes=double), eps=st.sampled_from([1e-5, 0.1]))
def test_instance_norm_is_torchs(x, eps):
    c = x.shape[1]
    theirs = INSTANCE_NORMS[x.ndim](c, eps, affine=True)
    assert_agree(*randomised(InstanceNorm(c, eps), theirs, x), x)


@given(x=inputs(dtypes=double), eps=st.sampled_from([1e-5, 0.1]))
def test_running_batch_norm_with_momentum_1_is_torchs_batch_norm_in_training(x, eps):
    c = x.shape[1]
    ours = RunningBatchNorm(c, momentum=1.0, eps=eps, first_variance=0)
    ours, theirs = randomised(ours, BATCH_NORMS[x.ndim](c, eps), x)
    assert_agree(ours, theirs, x)
    ours, theirs = ours.double(), theirs.double()
    assert_agree(ours, theirs, 3 * x.double() - 1)


@pytest.mark.parametrize("layer", ALL.values(), ids=ALL.keys())
def test_its_gradient_is_that_of_its_values(layer):
    torch.manual_seed(0)
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64) * 2 + 1
    norm = layer(2).double()
    if isinstance(norm, RunningBatchNorm):
        norm(x * 3 + 1)  # so that the current batch has but a share of the statistics
    before = {name: b.clone() for name, b in norm.named_buffers()}

    def from_the_same_state(z):
        for name, b in norm.named_buffers():
            b.copy_(before[name])
        return norm(z)

    assert torch.autograd.gradcheck(from_the_same_state, x.requires_grad_())


# -- what they have in common


@pytest.mark.parametrize("layer", ALL.values(), ids=ALL.keys())
def test_it_starts_without_effect_and_its_scale_and_shift_are_per_channel(layer):
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    norm, plain = layer(3), layer(3, affine=False)
    assert torch.equal(norm.weight, torch.ones(3))
    assert torch.equal(norm.bias, torch.zeros(3))
    assert plain.weight is None
    assert plain.bias is None
    assert list(plain.parameters()) == []
    torch.testing.assert_close(norm(x), plain(x))
    scale, shift = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.0, 1.0, -3.0])
    norm.load_state_dict({**norm.state_dict(), "weight": scale, "bias": shift})
    expected = plain(x) * scale.view(1, 3, 1, 1) + shift.view(1, 3, 1, 1)
    torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", ALL.values(), ids=ALL.keys())
def test_eps_is_1e_5_unless_told(layer):
    assert layer(3).eps == 1e-5
    assert layer(3, eps=0.5).eps == 0.5


@pytest.mark.parametrize("layer", ALL.values(), ids=ALL.keys())
def test_a_channel_that_does_not_vary_becomes_its_shift(layer):
    norm = layer(2)
    x = torch.full((4, 2, 3, 3), 3.0, requires_grad=True)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([0.5, -1.0]))
    y = norm(x)
    y.pow(3).sum().backward()
    assert torch.equal(y[:, 0], torch.full((4, 3, 3), 0.5))
    assert torch.equal(y[:, 1], torch.full((4, 3, 3), -1.0))
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("layer", ALL.values(), ids=ALL.keys())
@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 2, 3), (3,), (3, 4)])
def test_the_wrong_number_of_channels_is_named(layer, shape):
    with pytest.raises(ValueError, match=".") as error:
        layer(3)(torch.ones(shape))
    assert str(error.value) == f"x must have shape (n, 3, …), but it has {shape}."


@pytest.mark.parametrize("layer", ALL.values(), ids=ALL.keys())
@pytest.mark.parametrize("n", [0, -1, 2.0, True, "3"])
def test_the_number_of_channels_must_be_a_whole_number(layer, n):
    with pytest.raises(ValueError, match=".") as error:
        layer(n)
    assert str(error.value) == (
        f"num_features must be a whole number of at least 1, but it is {n!r}."
    )


@pytest.mark.parametrize("layer", ALL.values(), ids=ALL.keys())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_normalised_in_single_precision(layer, dtype):
    x = (300 * torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))).to(dtype)
    y = layer(3)(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), layer(3)(x.float()), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("layer", ALL.values(), ids=ALL.keys())
def test_it_works_as_the_norm_of_a_network(layer):
    net = simple_cnn(channels=(4, 6), norm=layer)
    loss = net(torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))).sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_they_say_what_they_are():
    assert repr(BatchNorm(8)) == "BatchNorm(8, eps=1e-05, momentum=0.1)"
    assert repr(LayerNorm(8, eps=0.1)) == "LayerNorm(8, eps=0.1)"
    assert repr(InstanceNorm(8)) == "InstanceNorm(8, eps=1e-05)"
    assert repr(GroupNorm(4, 8)) == "GroupNorm(4, 8, eps=1e-05)"
    assert repr(RunningBatchNorm(8, 0.2)) == "RunningBatchNorm(8, eps=1e-05, momentum=0.2)"


@pytest.mark.parametrize("layer", ALL.values(), ids=ALL.keys())
def test_it_may_be_used_twice_before_the_gradients_are_asked_for(layer):
    norm = layer(2)
    x = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (norm(x) * norm(2 * x + 1)).sum().backward()
    assert x.grad.isfinite().all()


# -- batch norm


def test_batch_norm_starts_with_mean_0_and_variance_1():
    norm = BatchNorm(2)
    assert norm.running_mean.tolist() == [0, 0]
    assert norm.running_var.tolist() == [1, 1]
    assert norm.momentum == 0.1
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(norm.eval()(x), x, rtol=1e-4, atol=1e-4)
    assert int(norm.num_batches_tracked) == 0


def test_batch_norm_and_torchs_load_each_others_state():
    theirs = nn.BatchNorm2d(3)
    theirs(torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * 5 + 1)
    ours = BatchNorm(3)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    x = torch.ones(1, 3, 2, 2)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_in_training_the_running_averages_and_momentum_change_no_output():
    x = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    slow, quick = BatchNorm(2, momentum=0.01), BatchNorm(2, momentum=0.9)
    for _ in range(3):
        assert torch.equal(slow(x + 5), quick(x + 5))
    assert not torch.allclose(slow.running_mean, quick.running_mean)


def test_batch_norm_in_evaluation_treats_each_image_alone():
    norm = BatchNorm(2)
    x = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    norm(x)
    norm.eval()
    torch.testing.assert_close(norm(x)[:1], norm(x[:1]))


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1), (1, 3, 1, 1)])
def test_one_value_per_channel_is_refused_in_training_and_allowed_in_evaluation(shape):
    norm = BatchNorm(3)
    with pytest.raises(ValueError, match=".") as error:
        norm(torch.ones(shape))
    assert str(error.value) == (
        "each channel of the batch must have at least 2 values, but in x of shape "
        f"{shape} it has 1."
    )
    assert int(norm.num_batches_tracked) == 0
    assert norm.eval()(torch.ones(shape)).shape == shape


def test_two_values_per_channel_are_enough():
    y = BatchNorm(1)(torch.tensor([[1.0], [3.0]]))
    torch.testing.assert_close(y, torch.tensor([[-1.0], [1.0]]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(BatchNorm(1)(torch.tensor([[[1.0, 3.0]]])).flatten(), y.flatten())


def test_a_batch_of_one_image_works_where_there_are_positions():
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    y = BatchNorm(3)(x)
    torch.testing.assert_close(y, nn.BatchNorm2d(3)(x), rtol=1e-4, atol=1e-5)


def test_an_empty_batch_is_refused_in_training():
    with pytest.raises(ValueError, match=r"in x of shape \(0, 3, 4\) it has 0\.$"):
        BatchNorm(3)(torch.ones(0, 3, 4))
    with pytest.raises(ValueError, match=".") as error:
        RunningBatchNorm(3)(torch.ones(0, 3, 4))
    assert str(error.value) == ("x must hold at least one value in training, but it has (0, 3, 4).")
    for layer in (BatchNorm(3), RunningBatchNorm(3)):
        assert layer.eval()(torch.ones(0, 3, 4)).shape == (0, 3, 4)


# -- layer, instance and group norm


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match=".") as error:
        GroupNorm(3, 8)
    assert str(error.value) == "num_groups must divide num_features, but 3 does not divide 8."


@pytest.mark.parametrize("groups", [0, -2, 2.0, True])
def test_the_number_of_groups_must_be_a_whole_number(groups):
    with pytest.raises(ValueError, match=".") as error:
        GroupNorm(groups, 8)
    assert str(error.value) == (
        f"num_groups must be a whole number of at least 1, but it is {groups!r}."
    )


@pytest.mark.parametrize(
    ("norm", "shape", "part"),
    [
        (InstanceNorm(3), (4, 3, 1, 1), "channel of an image"),
        (InstanceNorm(3), (4, 3), "channel of an image"),
        (LayerNorm(1), (4, 1, 1, 1), "image"),
        (GroupNorm(3, 3), (4, 3), "group of channels of an image"),
    ],
    ids=lambda v: str(v),
)
def test_a_single_value_in_a_group_is_refused_with_or_without_training(norm, shape, part):
    for mode in (True, False):
        with pytest.raises(ValueError, match=".") as error:
            norm.train(mode)(torch.ones(shape))
        assert str(error.value) == (
            f"each {part} must have at least 2 values, but in x of shape {shape} it has 1."
        )


@pytest.mark.parametrize(
    "norm", [LayerNorm(4), InstanceNorm(4), GroupNorm(2, 4)], ids=["layer", "instance", "group"]
)
def test_they_treat_each_image_alone_and_remember_nothing(norm):
    x = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    y = norm(x)
    torch.testing.assert_close(norm(x[2:3]), y[2:3])
    assert torch.equal(norm.eval()(x), y)
    assert list(norm.buffers()) == []


def test_what_each_of_them_cannot_see():
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    per_image = torch.tensor([3.0, 0.5]).view(2, 1, 1, 1)
    per_channel = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
    per_pair = torch.tensor([1.0, 1.0, 5.0, 5.0]).view(1, 4, 1, 1)

    def blind(norm, z):
        return torch.allclose(norm(x), norm(z), atol=1e-3)

    for norm in (LayerNorm(4), InstanceNorm(4), GroupNorm(2, 4)):
        assert blind(norm, x * per_image + per_image)
    assert blind(InstanceNorm(4), x * per_channel + per_channel)
    assert not blind(LayerNorm(4), x * per_channel + per_channel)
    assert not blind(GroupNorm(2, 4), x * per_channel + per_channel)
    assert blind(GroupNorm(2, 4), x * per_pair + per_pair)
    assert blind(BatchNorm(4), x * per_channel + per_channel)
    assert not blind(BatchNorm(4), x * per_image + per_image)


# -- running batch norm


class LessonRunningBatchNorm:
    """The definition, word for word: averages of sums, squares and counts, each divided by the sum
    of its weights; the variance clamped while few items were seen."""

    def __init__(self, momentum, eps, first_items=20, first_variance=0.01):
        self.momentum, self.eps = momentum, eps
        self.first_items, self.first_variance = first_items, first_variance
        self.batches = []

    def statistics(self):
        t = len(self.batches)
        weights = [self.momentum * (1 - self.momentum) ** (t - 1 - i) for i in range(t)]
        total = sum(weights)

        def average(f):
            return sum(w * f(b) for w, b in zip(weights, self.batches, strict=True)) / total

        count = average(lambda b: b.shape[1])
        mean = average(lambda b: b.sum(1)) / count
        variance = average(lambda b: (b**2).sum(1)) / count - mean**2
        return mean, variance, count

    def __call__(self, x):
        self.batches = [b.detach() for b in self.batches] + [x.transpose(0, 1).flatten(1)]
        self.items = getattr(self, "items", 0) + len(x)
        mean, variance, _ = self.statistics()
        if self.items < self.first_items:
            variance = variance.clamp_min(self.first_variance)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        return (x - mean.view(shape)) / (variance + self.eps).sqrt().view(shape)


@given(x=inputs(), momentum=st.floats(0.05, 1), first=st.integers(0, 40))
@settings(max_examples=60)
def test_running_batch_norm_is_its_definition_over_batches_of_several_sizes(x, momentum, first):
    x = x.double()
    ours = RunningBatchNorm(x.shape[1], momentum, first_items=first, first_variance=0.5).double()
    lesson = LessonRunningBatchNorm(momentum, 1e-5, first, 0.5)
    for step, batch in enumerate((x, x[:1] * 2 + 1, torch.cat([x, 3 * x]), x / 4)):
        results = []
        for f in (ours, lesson):
            leaf = batch.clone().requires_grad_()
            y = f(leaf)
            (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
            results.append((y.detach(), leaf.grad))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
        mean, variance, count = lesson.statistics()
        sums, squares, counts = (t.detach() for t in ours.averages())
        torch.testing.assert_close(counts, count * torch.ones_like(counts))
        torch.testing.assert_close(sums / counts + ours.origin, mean.detach())
        torch.testing.assert_close(squares / counts - (sums / counts) ** 2, variance.detach(),
                                   rtol=1e-5, atol=1e-7)  # fmt: skip
        assert int(ours.items) == sum(
            b.shape[0] for b in (x, x[:1], torch.cat([x, x]), x)[: step + 1]
        )


def test_running_batch_norm_weighs_batches_by_the_values_in_them():
    norm = RunningBatchNorm(1, momentum=0.5, affine=False)
    norm(torch.zeros(30, 1))
    norm(torch.full((10, 1), 4.0))
    sums, squares, count = norm.averages()
    # weights 1/4 and 1/2: (0.25 · 0 + 0.5 · 40) / 0.75, and so on
    torch.testing.assert_close(sums, torch.tensor([20 / 0.75]))
    torch.testing.assert_close(squares, torch.tensor([80 / 0.75]))
    torch.testing.assert_close(count, torch.tensor(12.5 / 0.75))
    assert norm.weights.item() == 0.75


def test_its_variance_is_held_up_until_twenty_items_were_seen():
    tight = torch.tensor([[1.0], [1.002]] * 5)  # ten items, of variance 1e-6
    norm = RunningBatchNorm(1)
    assert norm(tight)[1].item() == pytest.approx(0.001 / math.sqrt(0.01 + 1e-5), rel=1e-3)
    norm = RunningBatchNorm(1)
    norm(tight[:9]), norm(tight[:10])
    assert norm.items.item() == 19
    assert norm.eval()(tight)[1].item() < 0.02
    norm.train()(tight[:1])
    assert norm.items.item() == 20
    assert norm.eval()(tight)[1].item() > 0.1


def test_its_variance_is_never_negative():
    norm = RunningBatchNorm(1, momentum=0.3, first_items=0)
    for value in (0.0, 1000.1, 1000.1, 1000.1, 1000.1):
        y = norm(torch.full((3, 1), value))
    for _ in range(200):
        y = norm(torch.full((3, 1), 1000.1))
    assert y.isfinite().all()


def test_it_keeps_its_digits_where_the_mean_is_far_from_0():
    generator = torch.Generator().manual_seed(0)
    norm, exact = RunningBatchNorm(2), RunningBatchNorm(2).double()
    for _ in range(5):
        x = torch.randn(40, 2, generator=generator, dtype=torch.float64) + 10_000
        y, z = norm(x.float()), exact(x)
    torch.testing.assert_close(y.double(), z, rtol=0.01, atol=0.01)


def test_it_keeps_its_digits_where_the_channels_are_far_from_each_other():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    x = x + torch.tensor([10_000.0, -10_000.0])
    y, z = RunningBatchNorm(2)(x.float()), RunningBatchNorm(2).double()(x)
    torch.testing.assert_close(y.double(), z, rtol=0.01, atol=0.01)


def test_after_a_single_image_running_batch_norm_evaluates_by_it():
    norm = RunningBatchNorm(2)
    x = torch.randn(1, 2, 6, 6, generator=torch.Generator().manual_seed(0)) * 7 + 2
    y = norm(x)
    torch.testing.assert_close(norm.eval()(x), y)


def test_running_batch_norm_takes_batches_of_a_single_value():
    norm = RunningBatchNorm(1)
    for value in (1.0, 3.0, 1.0, 3.0):
        assert norm(torch.tensor([[value]])).isfinite().all()
    mean, variance = 2.0, 1.0
    norm = RunningBatchNorm(1, momentum=1e-6, first_items=0)
    for value in (1.0, 3.0) * 10:
        y = norm(torch.tensor([[value]]))
    expected = (3.0 - mean) / math.sqrt(variance + 1e-5)
    assert y.item() == pytest.approx(expected, rel=1e-2)


def test_before_the_first_batch_evaluation_changes_nothing():
    x = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0)) * 7 + 2
    norm = RunningBatchNorm(2).eval()
    torch.testing.assert_close(norm(x), x, rtol=1e-4, atol=1e-4)
    assert all(not b.any() for b in norm.buffers())


def test_in_evaluation_it_uses_what_it_has_and_learns_nothing():
    norm = RunningBatchNorm(2)
    x = torch.randn(30, 2, 4, generator=torch.Generator().manual_seed(0)) * 7 + 2
    y = norm(x)
    before = [b.clone() for b in norm.buffers()]
    norm.eval()
    torch.testing.assert_close(norm(x), y)
    torch.testing.assert_close(norm(x[:1]), y[:1])
    norm(x * 100)
    assert all(torch.equal(a, b) for a, b in zip(before, norm.buffers(), strict=True))


def test_its_state_is_saved_and_restored():
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(3, 2, 4, generator=generator) for _ in range(4)]
    norm, copy = RunningBatchNorm(2), RunningBatchNorm(2)
    norm(batches[0]), norm(batches[1])
    copy.load_state_dict(norm.state_dict())
    assert torch.equal(norm(batches[2]), copy(batches[2]))
    assert set(dict(norm.named_buffers())) == {
        *("sums", "squares", "origin", "count", "weights", "items")
    }
    assert not any(b.requires_grad for b in norm.buffers())


def test_its_defaults():
    norm = RunningBatchNorm(2)
    assert (norm.momentum, norm.first_items, norm.first_variance) == (0.1, 20, 0.01)


@pytest.mark.parametrize("items", [-1, math.nan])
def test_first_items_must_not_be_negative(items):
    with pytest.raises(ValueError, match=f"^first_items must be at least 0, but it is {items!r}"):
        RunningBatchNorm(2, first_items=items)


@pytest.mark.parametrize("variance", [-0.1, math.inf, math.nan])
def test_first_variance_must_not_be_negative(variance):
    message = f"^first_variance must be at least 0 and finite, but it is {variance!r}.$"
    with pytest.raises(ValueError, match=message):
        RunningBatchNorm(2, first_variance=variance)


def test_single_precision_layers_take_double_precision_inputs():
    x = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for layer in ALL.values():
        assert layer(2)(x).dtype == torch.float64


@pytest.mark.parametrize("dims", [(2,), (-3,), (0, 5)])
def test_dims_are_those_of_x(dims):
    with pytest.raises(ValueError, match="^dims must be from -2 to 1, but they are"):
        normalize(torch.ones(2, 3), dims)


@pytest.mark.parametrize("name", ["eps", "momentum", "first_items", "first_variance"])
@pytest.mark.parametrize("value", [None, "1"])
def test_what_is_no_number_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be "):
        RunningBatchNorm(2, **{name: value})
