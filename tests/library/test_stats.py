"""`glassbox.stats` against PyTorch, NumPy and the laws of statistics."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glassbox.stats import (
    RunningStats,
    correlation,
    covariance,
    mean,
    mean_absolute_deviation,
    std,
    variance,
)

DTYPES = st.sampled_from([np.float32, np.float64])
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=7)


@st.composite
def arrays(draw, shape=SHAPES, largest=1e6):
    dtype = draw(DTYPES)
    width = 8 * np.dtype(dtype).itemsize
    values = st.floats(-largest, largest, width=width, allow_subnormal=False)
    return torch.from_numpy(draw(hnp.arrays(dtype, draw(shape), elements=values)))


def tolerance(x):
    """What rounding may cost: a few steps of the largest value's precision, once squared."""
    eps = torch.finfo(x.dtype).eps
    largest = float(x.abs().max())
    return {"rtol": 64 * eps * max(1, x.numel() ** 0.5), "atol": 64 * eps * largest}


def assert_close(ours, theirs, x, power=1):
    limits = tolerance(x)
    limits["atol"] = limits["atol"] * max(float(x.abs().max()), 1e-30) ** (power - 1)
    # Below this, a number has lost digits already: a square of something tiny, say.
    limits["atol"] = max(limits["atol"], torch.finfo(x.dtype).tiny)
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, **limits)


@given(arrays())
def test_mean_equals_torch(x):
    assert_close(mean(x), x.mean(), x)
    for dim in range(x.ndim):
        assert_close(mean(x, dim), x.mean(dim), x)
        assert mean(x, dim, keepdim=True).shape == x.mean(dim, keepdim=True).shape


@given(arrays())
def test_variance_equals_torch(x):
    assert_close(variance(x), x.var(correction=0), x, power=2)
    for dim in range(-x.ndim, x.ndim):
        assert_close(variance(x, dim), x.var(dim, correction=0), x, power=2)


@given(arrays(shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=3, max_side=7)))
def test_degrees_of_freedom_equal_torch(x):
    for ddof in (0, 1, 2):
        assert_close(variance(x, 0, ddof=ddof), x.var(0, correction=ddof), x, power=2)
        assert_close(variance(x, ddof=ddof), x.var(correction=ddof), x, power=2)


def test_std_is_the_root_of_the_variance():
    x = torch.tensor([1.0, 2.0, 4.0, 18.0])
    assert std(x).item() == pytest.approx(math.sqrt(47.1875))
    assert std(x, ddof=1).item() == pytest.approx(x.std().item())
    assert std(x.view(2, 2), 1, ddof=1).tolist() == pytest.approx(x.view(2, 2).std(1).tolist())


@given(arrays())
def test_mean_absolute_deviation_equals_numpy(x):
    a = x.numpy()
    assert_close(mean_absolute_deviation(x), torch.tensor(np.abs(a - a.mean()).mean()), x)
    expected = np.abs(a - a.mean(0, keepdims=True)).mean(0)
    assert_close(mean_absolute_deviation(x, 0), torch.as_tensor(expected), x)


def test_the_lessons_numbers():
    t = torch.tensor([1.0, 2.0, 4.0, 18.0])
    assert mean(t).item() == 6.25
    assert variance(t).item() == 47.1875
    assert mean_absolute_deviation(t).item() == 5.875
    assert std(t).item() == pytest.approx(6.8693, abs=5e-5)


def test_variance_survives_a_large_mean_in_float32():
    x = torch.tensor([10_000.0, 10_001.0, 10_002.0])
    assert variance(x).item() == pytest.approx(2 / 3, rel=1e-5)
    assert RunningStats().update(x).variance().item() == pytest.approx(2 / 3, rel=1e-5)
    one_pass = (x * x).mean() - x.mean() ** 2
    assert abs(one_pass.item() - 2 / 3) > 0.1, "the one-pass form is expected to fail here"


@given(st.data())
def test_covariance_and_correlation_equal_numpy(data):
    n = data.draw(st.integers(2, 20))
    values = hnp.arrays(np.float64, n, elements=st.integers(-1000, 1000))
    a, b = data.draw(values), data.draw(values)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    for ddof in (0, 1):
        expected = np.cov(a, b, ddof=ddof)[0, 1]
        assert covariance(x, y, ddof=ddof).item() == pytest.approx(expected, abs=1e-6)
    assert covariance(x, x).item() == pytest.approx(variance(x).item())
    if np.ptp(a) and np.ptp(b):
        assert correlation(x, y).item() == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)
        assert correlation(3 * x + 2, -y).item() == pytest.approx(-correlation(x, y).item())


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_correlation_at_every_scale(scale):
    x = torch.tensor([1.0, 2.0, 4.0, 18.0]) * scale
    y = torch.tensor([2.0, 1.0, 9.0, 7.0])
    expected = np.corrcoef(x.double().numpy(), y.double().numpy())[0, 1]
    assert correlation(x, y).item() == pytest.approx(expected, rel=1e-5)
    assert correlation(x, 2 * x).item() == pytest.approx(1.0)
    assert correlation(x, 2 * x).item() <= 1.0


@given(
    st.lists(arrays(shape=st.tuples(st.integers(1, 9), st.just(3))), min_size=1, max_size=6),
    st.integers(0, 6),
)
def test_running_stats_of_any_batches_equal_those_of_all(batches, cut):
    batches = [b.double() for b in batches]
    everything = torch.cat(batches)
    first, second = RunningStats(), RunningStats()
    for i, batch in enumerate(batches):
        (first if i < cut else second).update(batch)
    merged = first.merge(second)
    assert merged.count == len(everything)
    assert_close(merged.mean, everything.mean(0), everything)
    assert_close(merged.variance(), everything.var(0, correction=0), everything, power=2)
    if len(everything) > 1:
        assert_close(merged.variance(ddof=1), everything.var(0), everything, power=2)
        torch.testing.assert_close(merged.std(ddof=1), merged.variance(ddof=1).sqrt())


def test_running_stats_value_by_value():
    stats = RunningStats()
    for value in [1.0, 2.0, 4.0, 18.0]:
        assert stats.update(torch.tensor(value)) is stats
    assert stats.count == 4
    assert stats.mean.item() == pytest.approx(6.25)
    assert stats.variance().item() == pytest.approx(47.1875)
    assert "count=4" in repr(stats)


def test_merging_leaves_the_other_one_as_it_was():
    one = RunningStats().update(torch.tensor([1.0, 2.0]))
    other = RunningStats().update(torch.tensor([4.0, 18.0]))
    one.merge(other)
    assert (other.count, other.mean.item()) == (2, 11.0)
    empty = RunningStats().merge(other)
    empty.update(torch.tensor([100.0]))
    assert (other.count, other.mean.item(), other.variance().item()) == (2, 11.0, 49.0)
    assert one.merge(RunningStats()).count == 4


def test_whole_numbers_are_averaged_as_floats():
    assert mean(torch.tensor([1, 2])).item() == 1.5
    assert variance(torch.tensor([1, 2])).item() == 0.25
    assert RunningStats().update(torch.tensor([1, 2])).mean.item() == 1.5


def test_the_gradient_of_the_variance_equals_torchs():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(variance(x, 0, ddof=1).sum(), x)
    (theirs,) = torch.autograd.grad(x.var(0).sum(), x)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: mean([1.0]), TypeError, "x must be a tensor, but it is a list"),
        (lambda: mean(torch.tensor([])), ValueError, r"at least one value.*\(0,\)"),
        (lambda: mean(torch.tensor([1j])), TypeError, "real numbers.*complex64"),
        (
            lambda: variance(torch.ones(1), ddof=1),
            ValueError,
            "ddof must be smaller.*1, but it is 1",
        ),
        (lambda: variance(torch.ones(2), ddof=-1), ValueError, "at least 0, but it is -1"),
        (lambda: variance(torch.ones(2), ddof=0.5), ValueError, "whole number.*0.5"),
        (lambda: covariance(torch.ones(2), torch.ones(3)), ValueError, r"\(2,\) and \(3,\)"),
        (lambda: covariance(torch.ones(1), torch.ones(1), ddof=1), ValueError, "ddof must be"),
        (
            lambda: correlation(torch.ones(2), torch.arange(2.0)),
            ValueError,
            "^x must vary.*2 values",
        ),
        (lambda: correlation(torch.arange(2.0), torch.ones(2)), ValueError, "^y must vary"),
        (lambda: correlation(torch.arange(2.0), [1, 2]), TypeError, "^y must be a tensor"),
        (lambda: RunningStats().mean, ValueError, "no values yet: call update"),
        (lambda: RunningStats().variance(), ValueError, "no values yet"),
        (lambda: RunningStats().update(torch.ones(1)).variance(ddof=1), ValueError, "ddof must be"),
        (lambda: RunningStats().update("a"), TypeError, "batch must be a tensor"),
        (
            lambda: RunningStats().update(torch.ones(2, 3)).update(torch.ones(2, 4)),
            ValueError,
            r"shape \(3,\) of those seen before, but they have \(4,\)",
        ),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_an_empty_running_stats_can_be_printed():
    assert repr(RunningStats()) == "RunningStats(count=0)"
