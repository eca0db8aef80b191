"""`glassbox.projection` against scikit-learn, SciPy and the definitions."""

import math
import re

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from glassbox.projection import discriminant_projection, group_probabilities, pca


def items(n=40, d=6, seed=0, dtype=torch.float64):
    """Rows whose directions spread differently, so that every axis is determined."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, d, generator=generator) * torch.linspace(1, 4, d)
    return (mixed @ torch.randn(d, d, generator=generator) + 5).to(dtype)


def grouped(n=60, d=5, groups=4, seed=0, apart=3.0):
    """Items around different means, and the groups' numbers."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % groups
    means = apart * torch.randn(groups, d, generator=generator)
    return items(n, d, seed).sub(5) + means[labels].double(), labels


def assert_close(ours, theirs):
    torch.testing.assert_close(ours, torch.as_tensor(theirs, dtype=ours.dtype))


def up_to_sign(ours, theirs):
    """The second's columns, each turned the way that the first's is."""
    theirs = torch.as_tensor(theirs, dtype=ours.dtype)
    return theirs * (ours * theirs).sum(0).sign()


# -- principal components -------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 30), st.integers(2, 12), st.integers(0, 99))
def test_pca_equals_scikit_learn(n, d, seed):
    x, k = items(n, d, seed), min(n - 1, d)
    ours, theirs = pca(x, k), PCA(k, svd_solver="full").fit(x)
    assert_close(ours.values, theirs.explained_variance_ratio_)
    assert_close(ours.center, theirs.mean_)
    assert_close(ours.points, up_to_sign(ours.points, theirs.transform(x)))
    assert_close(ours.axes, up_to_sign(ours.axes, theirs.components_.T))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "make", [lambda x: pca(x, 3), lambda x: discriminant_projection(x, TWO, 3)]
)
def test_points_are_what_the_axes_make_of_the_rows(make, dtype):
    x = items(dtype=dtype)
    made = make(x)
    assert all(t.dtype == dtype for t in made)
    assert [tuple(t.shape) for t in made] == [(40, 3), (6, 3), (6,), (3,)]
    torch.testing.assert_close(made.points, (x - made.center) @ made.axes, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made.points.mean(0), torch.zeros(3, dtype=dtype), rtol=0, atol=1e-5)


TWO = torch.arange(40) % 2


@pytest.mark.parametrize(
    "make", [lambda x: pca(x, 4), lambda x: discriminant_projection(x, TWO, 4)]
)
def test_the_largest_entry_of_each_axis_is_positive(make):
    for seed in range(5):
        axes = make(items(seed=seed)).axes
        assert (axes.gather(0, axes.abs().argmax(0, keepdim=True)) > 0).all()


def test_pca_takes_more_dimensions_than_items():
    x = items(5, 50)
    made = pca(x, 5)
    assert_close(made.points[:, :4] @ made.points[:, :4].T, (x - x.mean(0)) @ (x - x.mean(0)).T)
    assert made.values.sum().item() == pytest.approx(1)


def test_one_component_of_two_items_is_the_line_through_them():
    made = pca(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), 1)
    assert_close(made.points, [[-2.5], [2.5]])
    assert_close(made.axes, [[0.6], [0.8]])
    assert_close(made.values, [1.0])


# -- the projection that separates ----------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(0, 99))
def test_without_weight_the_discriminants_equal_scikit_learn(groups, seed):
    x, labels = grouped(groups=groups, seed=seed)
    k = min(groups - 1, 5)
    ours = discriminant_projection(x, labels, k, weight=0)
    theirs = LinearDiscriminantAnalysis(solver="svd", n_components=k).fit(x, labels)
    # Both scale the axes so that the variance within groups is 1; scikit-learn divides it by n.
    scale = math.sqrt((60 - groups) / 60)
    assert_close(ours.points, up_to_sign(ours.points, scale * theirs.transform(x.numpy())))


def covariance_within(x, labels, weight):
    """The regularised covariance within groups, by the definition."""
    named = [x[labels == g] for g in labels[labels >= 0].unique()]
    scatter = sum((rows - rows.mean(0)).T @ (rows - rows.mean(0)) for rows in named)
    freedom = sum(len(rows) - 1 for rows in named)
    ball = x.var(0, correction=0).mean() * torch.eye(x.shape[1], dtype=x.dtype)
    return (scatter + weight * ball) / (freedom + weight)


def covariance_between(x, labels):
    named = labels >= 0
    mean = x[named].mean(0)
    apart = [
        (labels == g).sum() * (x[labels == g].mean(0) - mean).outer(x[labels == g].mean(0) - mean)
        for g in labels[named].unique()
    ]
    return sum(apart) / named.sum()


@pytest.mark.parametrize("weight", [0.0, 0.5, 10.0, 200.0])
def test_the_axes_solve_the_regularised_problem(weight):
    x, labels = grouped()
    labels[::3] = -1
    made = discriminant_projection(x, labels, 3, weight=weight)
    within, between = covariance_within(x, labels, weight), covariance_between(x, labels)
    values, vectors = scipy.linalg.eigh(between, within)
    assert_close(made.values, values[::-1][:3].copy())
    assert_close(made.axes, up_to_sign(made.axes, vectors[:, ::-1][:, :3].copy()))
    assert_close(made.axes.T @ within @ made.axes, torch.eye(3))


def test_a_group_counts_by_the_number_of_its_items():
    x, labels = grouped(groups=4)
    labels[torch.arange(60) > 20] = 0
    made = discriminant_projection(x, labels, 3)
    within, between = covariance_within(x, labels, 10.0), covariance_between(x, labels)
    values, vectors = scipy.linalg.eigh(between, within)
    assert_close(made.values, values[::-1][:3].copy())
    assert_close(made.axes, up_to_sign(made.axes, vectors[:, ::-1][:, :3].copy()))


def test_weight_is_ten_items_unless_said():
    x, labels = grouped()
    assert_close(
        discriminant_projection(x, labels).points,
        discriminant_projection(x, labels, 2, weight=10).points,
    )
    assert discriminant_projection(x, labels).points.shape == (60, 2)
    assert_close(group_probabilities(x, labels), group_probabilities(x, labels, weight=10))


def test_after_the_separating_axes_come_those_of_the_largest_spread():
    x, labels = grouped(groups=2)
    made = discriminant_projection(x, labels, 5)
    within = covariance_within(x, labels, 10.0)
    assert_close(made.axes.T @ within @ made.axes, torch.eye(5))
    assert made.values[0] > 0
    assert made.values[1:].tolist() == [0] * 4
    spread = made.points[:, 1:].var(0, correction=0)
    assert (spread[:-1] >= spread[1:]).all()
    # No direction at right angles to the first, in these units, spreads more than the second.
    whitened = made.points[:, 1:]
    most = torch.linalg.eigvalsh(whitened.T @ whitened / len(x))[-1]
    assert spread[0].item() == pytest.approx(most.item())


def test_it_separates_where_the_components_do_not():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    x = torch.randn(200, 5, generator=generator) * torch.tensor([20.0, 20, 1, 1, 1])
    x[:, 4] += 6 * labels  # what tells the groups apart is a small part of the variance
    along = {
        "components": pca(x, 2).points[:, 0],
        "separating": discriminant_projection(x, labels).points[:, 0],
    }
    right = {n: ((p > 0) == (labels == 1)).float().mean().item() for n, p in along.items()}
    right = {n: max(share, 1 - share) for n, share in right.items()}
    assert right["components"] < 0.65
    assert right["separating"] > 0.98


def test_unnamed_items_only_bear_on_the_ball_and_the_center():
    x, labels = grouped()
    labels[:20] = -1
    without = discriminant_projection(x[20:], labels[20:], 3, weight=0)
    made = discriminant_projection(x, labels, 3, weight=0)
    assert_close(made.axes, without.axes)
    assert_close(made.center, x.mean(0))


def test_the_numbers_of_the_groups_do_not_matter():
    x, labels = grouped(groups=3)
    other = torch.tensor([40, 7, 12])[labels]
    for unnamed in (-1, -99):
        other[:5], labels[:5] = unnamed, -1
        made, renamed = discriminant_projection(x, labels), discriminant_projection(x, other)
        assert_close(made.points, renamed.points)


def test_groups_of_one_item_have_a_result():
    x = items()
    labels = torch.full((40,), -1)
    labels[3], labels[17] = 0, 1
    made = discriminant_projection(x, labels)
    line = x[17] - x[3]  # the ball is round: the axis runs through the two
    assert_close(made.axes[:, 0].abs(), (line.norm() ** -1 * line / ball(x)).abs())
    chances = group_probabilities(x, labels)
    assert_close(chances[3, 0], chances[17, 1])
    assert chances[3, 0] > 0.5


def ball(x):
    return x.var(0, correction=0).mean().sqrt()


def test_equal_means_separate_nothing():
    x = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [2.0, -1.0], [-2.0, 1.0]])
    made = discriminant_projection(x, torch.tensor([0, 0, 1, 1]))
    assert made.values.tolist() == [0, 0]
    assert made.points.isfinite().all()


# -- probabilities --------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(0, 99))
def test_probabilities_equal_scikit_learn(groups, seed):
    x, labels = grouped(groups=groups, seed=seed)
    model = LinearDiscriminantAnalysis(
        solver="lsqr", priors=[1 / groups] * groups, covariance_estimator=Within(x, labels)
    )
    theirs = model.fit(x.numpy(), labels.numpy()).predict_proba(x.numpy())
    ours = group_probabilities(x, labels)
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-5, atol=1e-9)


class Within:
    """Gives scikit-learn the covariance of the definition, for each group alike."""

    def __init__(self, x, labels):
        self.x, self.labels = x, labels

    def get_params(self, deep=True):
        return {"x": self.x, "labels": self.labels}

    def fit(self, rows):
        self.covariance_ = covariance_within(self.x, self.labels, 10.0).numpy()
        return self


@pytest.mark.parametrize("weight", [0.0, 1.0, 50.0])
def test_probabilities_follow_the_definition(weight):
    x, labels = grouped(groups=3)
    labels[::2] = -1
    inverse = torch.linalg.inv(covariance_within(x, labels, weight))
    means = torch.stack([x[labels == g].mean(0) for g in range(3)])
    apart = x[:, None] - means
    distances = torch.einsum("ngd,de,nge->ng", apart, inverse, apart)
    assert_close(group_probabilities(x, labels, weight=weight), (-distances / 2).softmax(1))


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_the_other_candidate_is_a_group_that_may_be_anywhere(weight):
    x, labels = grouped(groups=3)
    labels[::2] = -1
    within = covariance_within(x, labels, weight).numpy()
    overall = (x - x.mean(0)).T @ (x - x.mean(0)) / 60
    normals = [(x[labels == g].mean(0), within) for g in range(3)]
    normals.append((x.mean(0), overall.numpy() + within))
    densities = [scipy.stats.multivariate_normal(mean, c).logpdf(x) for mean, c in normals]
    theirs = torch.tensor(np.stack(densities, 1)).softmax(1)
    assert_close(group_probabilities(x, labels, weight=weight, other=True), theirs)


def test_an_item_far_from_all_groups_is_in_none_of_them():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 3, generator=generator)
    x[:30, 0] += 8
    x[30:60, 0] -= 8
    x[60:] += torch.tensor([3.0, 8.0, 0.0])  # a third group, which nobody named
    labels = torch.tensor([0, -1, -1] * 10 + [1, -1, -1] * 10 + [-1] * 30)
    closed, opened = (group_probabilities(x, labels, other=other) for other in (False, True))
    assert closed.shape == (90, 2)
    assert opened.shape == (90, 3)
    assert (closed[60:].max(1).values > 0.9).float().mean() > 0.5
    assert opened[60:].argmax(1).tolist() == [2] * 30
    assert opened[:60].argmax(1).tolist() == [0] * 30 + [1] * 30
    assert_close(opened.sum(1), torch.ones(90))


def test_an_item_is_as_sure_of_each_of_two_means_in_the_middle():
    x = torch.tensor([[0.0, 1.0], [4.0, 1.0], [2.0, 1.0]])
    chances = group_probabilities(x, torch.tensor([5, 9, -1]))
    assert_close(chances[2], [0.5, 0.5])
    assert chances.shape == (3, 2)
    assert chances[0, 0] > 0.5 > chances[1, 0]


def test_far_items_have_probabilities_that_are_numbers():
    x, labels = grouped()
    x[0] = 1e6
    chances = group_probabilities(x.float(), labels)
    assert chances.dtype == torch.float32
    assert chances.isfinite().all()
    assert_close(chances.sum(1), torch.ones(60))


def test_gradients_do_not_flow_and_nothing_is_changed():
    x, labels = grouped()
    kept, kept_labels = x.clone(), labels.clone()
    x.requires_grad_()
    for made in (pca(x, 2).points, discriminant_projection(x, labels).points):
        assert not made.requires_grad
    assert torch.equal(x.detach(), kept)
    assert torch.equal(labels, kept_labels)


# -- bad input ------------------------------------------------------------------------------------

X = items()


def exactly(message):
    return f"^{re.escape(message)}$"


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        ([[1.0]], TypeError, "x must be a tensor, but it is a list."),
        (
            torch.ones(3, 2, dtype=torch.int64),
            TypeError,
            "x must hold floating-point numbers, but its dtype is torch.int64.",
        ),
        (torch.ones(3), ValueError, "x must have the shape (items, numbers), but it has (3,)."),
        (
            torch.ones(0, 3),
            ValueError,
            "x must have the shape (items, numbers), but it has (0, 3).",
        ),
        (
            torch.ones(3, 0),
            ValueError,
            "x must have the shape (items, numbers), but it has (3, 0).",
        ),
        (
            torch.tensor([[1.0], [math.nan]]),
            ValueError,
            "x must hold finite numbers, but it holds NaN or infinity.",
        ),
        (
            torch.tensor([[1.0], [math.inf]]),
            ValueError,
            "x must hold finite numbers, but it holds NaN or infinity.",
        ),
        (torch.ones(3, 2), ValueError, "x must vary, but all of its 3 rows are equal."),
    ],
)
def test_rows_that_cannot_be_projected_are_named(x, kind, message):
    labels = torch.arange(len(x))
    for call in (
        lambda: pca(x, 1),
        lambda: discriminant_projection(x, labels, 1),
        lambda: group_probabilities(x, labels),
    ):
        with pytest.raises(kind, match=exactly(message)):
            call()


@pytest.mark.parametrize("k", [0, -1, 7, 2.0, True])
def test_k_out_of_range_is_named(k):
    message = f"k must be a whole number from 1 to 6, but it is {k!r}."
    for call in (lambda: pca(X, k), lambda: discriminant_projection(X, TWO, k)):
        with pytest.raises(ValueError, match=exactly(message)):
            call()


def test_k_may_be_as_many_as_there_are_dimensions():
    assert pca(X, 6).points.shape == discriminant_projection(X, TWO, 6).points.shape == (40, 6)
    with pytest.raises(ValueError, match="from 1 to 4, but it is 5"):
        pca(X[:4], 5)


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        ([0, 1], TypeError, "labels must be a tensor of whole numbers, but it is list."),
        (
            torch.ones(40),
            TypeError,
            "labels must be a tensor of whole numbers, but it is torch.float32.",
        ),
        (
            torch.ones(40, dtype=torch.complex64),
            TypeError,
            "labels must be a tensor of whole numbers, but it is torch.complex64.",
        ),
        (
            torch.zeros(39, dtype=torch.int64),
            ValueError,
            "labels must have the shape (40,), one an item, but it has (39,).",
        ),
        (
            torch.zeros(40, 1, dtype=torch.int64),
            ValueError,
            "labels must have the shape (40,), one an item, but it has (40, 1).",
        ),
        (
            torch.zeros(40, dtype=torch.int64),
            ValueError,
            "labels must name at least two groups (numbers from 0 on), but they name 1.",
        ),
        (
            torch.full((40,), -1),
            ValueError,
            "labels must name at least two groups (numbers from 0 on), but they name 0.",
        ),
    ],
)
def test_labels_that_make_no_groups_are_named(labels, kind, message):
    for call in (discriminant_projection, group_probabilities):
        with pytest.raises(kind, match=exactly(message)):
            call(X, labels)


@pytest.mark.parametrize("weight", [-0.1, math.inf, math.nan, "1"])
def test_a_weight_out_of_range_is_named(weight):
    for call in (discriminant_projection, group_probabilities):
        message = f"weight must be a number of at least 0, but it is {weight!r}."
        with pytest.raises(ValueError, match=exactly(message)):
            call(X, TWO, weight=weight)


def test_too_few_items_without_weight_are_named():
    labels = torch.full((40,), -1)
    labels[:4] = TWO[:4]
    message = (
        "weight must be above 0 where the groups have too few items for the covariance within "
        "them: 4 items in 2 groups, 6 dimensions."
    )
    with pytest.raises(ValueError, match=exactly(message)):
        group_probabilities(X, labels, weight=0)
    labels[2:] = -1
    with pytest.raises(ValueError, match="2 items in 2 groups"):
        discriminant_projection(X, labels, weight=0)


def test_as_many_free_items_as_dimensions_need_no_weight():
    labels = torch.full((40,), -1)
    labels[:7] = TWO[:7]
    with pytest.raises(ValueError, match="7 items in 2 groups, 6 dimensions"):
        group_probabilities(X, labels, weight=0)
    labels[7] = 1
    assert group_probabilities(X, labels, weight=0).isfinite().all()


def test_a_constant_column_needs_weight():
    x = torch.cat([X, torch.full((40, 1), 2.0)], 1)
    with pytest.raises(ValueError, match="40 items in 2 groups, 7 dimensions"):
        discriminant_projection(x, TWO, weight=0)
    made = discriminant_projection(x, TWO, 7)
    assert_close(made.center[-1], 2.0)
    assert_close(made.axes.T @ covariance_within(x, TWO, 10.0) @ made.axes, torch.eye(7))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_groups_may_be_numbered_in_any_whole_type(dtype):
    made = discriminant_projection(X, TWO.to(dtype))
    assert_close(made.points, discriminant_projection(X, TWO).points)


def test_one_dimension_is_enough():
    x = torch.tensor([[0.0], [1.0], [5.0], [6.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1])
    made = discriminant_projection(x, labels, 1, weight=0)
    assert_close(made.points, (x - 3) / math.sqrt(0.5))  # the variance within groups is 1/2
    assert_close(made.values, [6.25 / 0.5])
    assert_close(pca(x, 1).points, x - 3)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_axes_do_not_depend_on_the_unit(scale):
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, scaled = pca(x, 2), pca(x * scale, 2)
    torch.testing.assert_close(scaled.values, ours.values)
    torch.testing.assert_close(scaled.axes, ours.axes)
