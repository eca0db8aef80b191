"""`glassbox.losses` against PyTorch: values and gradients, ordinary and extreme."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F

from glassbox.losses import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    log_softmax,
    logsumexp,
    mse_loss,
    nll_loss,
    sigmoid,
    softmax,
)


@st.composite
def tensors(draw, shape, largest=1e4):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    values = st.floats(-largest, largest, width=8 * np.dtype(dtype).itemsize, allow_subnormal=False)
    return torch.from_numpy(draw(hnp.arrays(dtype, draw(shape), elements=values)))


ANY_SHAPE = hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=5)
WITH_A_DIM = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)
MATRIX = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


def assert_same(ours, theirs, *inputs):
    """Same value, and the same gradient of a weighted sum of the entries."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    results = [ours(*leaves), theirs(*leaves)]
    assert results[0].shape == results[1].shape
    assert results[0].dtype == results[1].dtype
    double = inputs[0].dtype == torch.float64
    close = {"rtol": 1e-9 if double else 1e-4, "atol": 1e-12 if double else 1e-6}
    torch.testing.assert_close(*results, **close)
    weights = torch.linspace(0.5, 1.5, results[0].numel(), dtype=results[0].dtype)
    grads = [torch.autograd.grad((r.reshape(-1) * weights).sum(), leaves) for r in results]
    for ours_grad, theirs_grad in zip(*grads, strict=True):
        torch.testing.assert_close(ours_grad, theirs_grad, **close)


@given(tensors(ANY_SHAPE))
def test_sigmoid(x):
    assert_same(sigmoid, torch.sigmoid, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sigmoid_of_extreme_values(dtype):
    x = torch.tensor([-math.inf, -1e30, -800, -60, -1e-20, 0, 40, 800, 1e30, math.inf], dtype=dtype)
    torch.testing.assert_close(sigmoid(x), torch.sigmoid(x), rtol=1e-5, atol=0)
    assert_same(sigmoid, torch.sigmoid, x[1:-1])


def assert_same_logsumexp(x, dim):
    """PyTorch's value; its gradient is the softmax, of which PyTorch's own loses digits.

    PyTorch computes the gradient as exp(x - logsumexp(x)), a difference of two large numbers.
    """
    torch.testing.assert_close(logsumexp(x, dim), x.logsumexp(dim))
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(logsumexp(leaf, dim).sum(), leaf)
    torch.testing.assert_close(grad, x.softmax(dim))
    if float(x.abs().max()) < 100:
        assert_same(lambda t: logsumexp(t, dim), lambda t: t.logsumexp(dim), x)


@given(tensors(WITH_A_DIM), st.data())
def test_along_any_dimension(x, data):
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    assert_same(lambda t: softmax(t, dim), lambda t: t.softmax(dim), x)
    assert_same(lambda t: log_softmax(t, dim), lambda t: t.log_softmax(dim), x)
    assert_same_logsumexp(x, dim)
    kept = logsumexp(x, dim, keepdim=True)
    torch.testing.assert_close(kept, x.logsumexp(dim, keepdim=True))


@given(tensors(WITH_A_DIM))
def test_the_last_dimension_is_the_default(x):
    torch.testing.assert_close(softmax(x), x.softmax(-1))
    torch.testing.assert_close(log_softmax(x), x.log_softmax(-1))
    torch.testing.assert_close(logsumexp(x), x.logsumexp(-1))


@pytest.mark.parametrize("shift", [-1e30, -1e4, 0.0, 1e4, 1e30])
def test_softmax_of_huge_activations_is_finite_and_sums_to_one(shift):
    x = torch.tensor([[1.0, 2.0, 3.0]]) + shift
    assert softmax(x).sum().item() == pytest.approx(1.0)
    assert_same(softmax, lambda t: t.softmax(-1), x)
    assert_same(log_softmax, lambda t: t.log_softmax(-1), x)
    assert_same_logsumexp(x, -1)


def test_a_class_that_is_ruled_out_gets_nothing():
    x = torch.tensor([[0.0, -math.inf, 1.0]])
    torch.testing.assert_close(softmax(x), x.softmax(-1))
    torch.testing.assert_close(log_softmax(x), x.log_softmax(-1))
    torch.testing.assert_close(logsumexp(x), x.logsumexp(-1))
    nothing = torch.full((1, 3), -math.inf)
    assert logsumexp(nothing).item() == -math.inf
    assert logsumexp(torch.tensor([0.0, math.inf])).item() == math.inf


@given(tensors(MATRIX), st.data())
def test_cross_entropy_and_nll(logits, data):
    n, classes = logits.shape
    targets = torch.tensor(data.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)))
    assert_same(lambda t: cross_entropy(t, targets), lambda t: F.cross_entropy(t, targets), logits)
    log_probs = logits.log_softmax(-1)
    assert_same(lambda t: nll_loss(t, targets), lambda t: F.nll_loss(t, targets), log_probs)


def test_the_gradient_of_cross_entropy_is_p_minus_y():
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 3, 3, 0])
    (grad,) = torch.autograd.grad(cross_entropy(logits, targets), logits)
    expected = (softmax(logits) - F.one_hot(targets, 4)) / 6
    torch.testing.assert_close(grad, expected)


@given(st.data())
def test_mean_squared_error(data):
    x = data.draw(tensors(ANY_SHAPE, largest=1e3))
    y = x.flip(0) * 0.5 if x.ndim else x * 0.5
    assert_same(mse_loss, F.mse_loss, x, y)


@given(tensors(ANY_SHAPE, largest=1e3))
def test_binary_cross_entropy(x):
    for targets in (torch.zeros_like(x), torch.ones_like(x), torch.full_like(x, 0.3)):
        assert_same(
            lambda t, y=targets: binary_cross_entropy_with_logits(t, y),
            lambda t, y=targets: F.binary_cross_entropy_with_logits(t, y),
            x,
        )


def test_binary_cross_entropy_takes_whole_number_targets():
    logits, targets = torch.tensor([0.5, -2.0]), torch.tensor([1, 0])
    expected = F.binary_cross_entropy_with_logits(logits, targets.float())
    torch.testing.assert_close(binary_cross_entropy_with_logits(logits, targets), expected)


X, Y = torch.zeros(3, 5), torch.tensor([0, 1, 2])


@pytest.mark.parametrize("loss", [nll_loss, cross_entropy])
@pytest.mark.parametrize(
    ("scores", "targets", "error", "words"),
    [
        (X[0], Y, ValueError, r"(log_probs|logits) must have shape \(n, classes\).*\(5,\)"),
        (X, Y[:2], ValueError, r"targets must have shape \(3,\).*\(2,\)"),
        (X, Y[:, None], ValueError, r"targets must have shape \(3,\).*\(3, 1\)"),
        (X, Y.float(), TypeError, "targets must be class numbers.*float32"),
        (X, Y.bool(), TypeError, "targets must be class numbers.*bool"),
        (X, Y + 3, IndexError, "between 0 and 4.*from 3 to 5"),
        (X, Y - 1, IndexError, "between 0 and 4.*from -1 to 1"),
    ],
)
def test_targets_that_do_not_fit(loss, scores, targets, error, words):
    with pytest.raises(error, match=words):
        loss(scores, targets)


def test_the_name_of_the_argument_is_the_one_that_the_caller_knows():
    with pytest.raises(ValueError, match="^logits must"):
        cross_entropy(X[0], Y)
    with pytest.raises(ValueError, match="^log_probs must"):
        nll_loss(X[0], Y)


def test_no_silent_broadcasting():
    with pytest.raises(ValueError, match=r"pred and target.*\(3, 1\) and \(3,\)"):
        mse_loss(torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(ValueError, match=r"logits and targets.*\(3, 1\) and \(3,\)"):
        binary_cross_entropy_with_logits(torch.zeros(3, 1), torch.zeros(3))
