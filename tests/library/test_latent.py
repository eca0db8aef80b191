"""`glassbox.latent`: what leaves predictions alone, and rotation against scipy."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from sklearn.metrics import r2_score

from glassbox.collab import DotProductBias
from glassbox.latent import Factors, balanced, centred, explained, factors, rotate_onto

seeds, small = st.integers(0, 10_000), st.integers(1, 4)


def refused(message, kind=ValueError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def rand(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some(n=7, m=5, k=2, seed=0):
    numbers = rand(1 + n + m + n * k + m * k, seed=seed)
    intercept, user_bias, item_bias, users, items = numbers.split([1, n, m, n * k, m * k])
    return Factors(intercept[0], user_bias, item_bias, users.view(n, k), items.view(m, k))


def test_factors_are_the_models_numbers_without_the_unknown_level():
    model = DotProductBias((4, 6), 3)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()
    pairs = torch.cartesian_prod(torch.arange(1, 4), torch.arange(1, 6))
    found = factors(model)
    assert torch.allclose(found.logits().flatten().float(), model.logits(pairs), atol=1e-5)
    assert all(part.dtype == torch.float64 and not part.requires_grad for part in found)


@given(small, seeds)
def test_centring_changes_no_prediction_and_leaves_no_mean(k, seed):
    before = some(k=k, seed=seed)
    after = centred(before)
    assert torch.allclose(after.logits(), before.logits())
    for part in after[1:]:
        assert torch.allclose(part.mean(0), torch.zeros(()).double(), atol=1e-12)


@settings(deadline=None)
@given(small, seeds)
def test_balancing_changes_no_prediction_and_gives_both_sides_one_spread(k, seed):
    before = some(k=k, seed=seed)
    after = balanced(before)
    assert torch.allclose(after.logits(), before.logits())
    inner = after.users.T @ after.users
    assert torch.allclose(inner, after.items.T @ after.items, atol=1e-8)
    assert torch.allclose(inner, inner.diagonal().diag(), atol=1e-8)
    assert (inner.diagonal().diff() <= 1e-8).all()
    strongest = after.items.abs().argmax(0)
    assert (after.items[strongest, torch.arange(k)] > 0).all()


@settings(deadline=None)
@given(small, seeds)
def test_whatever_matrix_is_put_between_balancing_takes_it_out(k, seed):
    """Users times A and items times the transposed inverse of A predict the same."""
    plain = some(k=k, seed=seed)
    between = torch.eye(k).double() * 2 + 0.3 * rand(k, k, seed=seed + 1)
    mixed = plain._replace(
        users=plain.users @ between, items=plain.items @ torch.linalg.inv(between).T
    )
    assert torch.allclose(mixed.logits(), plain.logits(), atol=1e-6)
    for a, b in zip(balanced(mixed), balanced(plain), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@given(st.integers(2, 8), small, seeds)
def test_rotation_is_scipys(n, d, seed):
    points, target = rand(n, d, seed=seed), rand(n, d, seed=seed + 1)
    matrix, _ = orthogonal_procrustes(points.numpy(), target.numpy())
    turned = rotate_onto(points, target)
    assert torch.allclose(turned, points @ torch.from_numpy(matrix), atol=1e-8)
    assert torch.allclose(turned.norm(dim=1), points.norm(dim=1))


def test_a_turned_and_mirrored_map_comes_back():
    target = rand(9, 3)
    turn = torch.linalg.qr(rand(3, 3, seed=4)).Q
    turn[:, 0] *= -1
    assert torch.allclose(rotate_onto(target @ turn, target), target)


def test_a_map_of_another_size_does_not():
    target = rand(9, 2)
    assert explained(rotate_onto(3 * target, target), target) < 0.5


@given(st.integers(2, 10), small, seeds)
def test_what_is_explained_is_scikit_learns_r2(n, d, seed):
    points, target = rand(n, d, seed=seed), rand(n, d, seed=seed + 1)
    expected = r2_score(target, points, multioutput="variance_weighted")
    assert explained(points, target) == pytest.approx(expected)


def test_bad_input_is_answered_in_one_sentence():
    sentence = "points and target must have one shape (n, d), but they have (3, 2) and (4, 2)."
    for function in (rotate_onto, explained):
        with refused(sentence):
            function(rand(3, 2), rand(4, 2))
    with refused("target must vary, but all of its rows are equal."):
        explained(rand(3, 2), torch.ones(3, 2))
