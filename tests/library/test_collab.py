"""`glassbox.collab`: the models against their formulas, and recommendations."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassbox.collab import DotProductBias, RatingNet, recommend
from glassbox.data import DataLoaders
from glassbox.learner import Learner
from glassbox.losses import mse_loss
from glassbox.optim import Adam
from glassbox.ratings import RatingCodes, split_ratings
from glassbox.tastes import film_club


def refused(message, kind=ValueError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def drawn(model, seed=0):
    """Fill a model with numbers of size 1, since it starts near 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(generator=generator)
    return model


# The dot product


@given(st.integers(1, 6), st.integers(0, 100))
def test_a_rating_is_intercept_biases_and_dot_product(dim, seed):
    model = drawn(DotProductBias((4, 5), dim), seed)
    x = torch.tensor([[3, 4], [0, 1], [3, 0]])
    for row, value in zip(x.tolist(), model(x).tolist(), strict=True):
        u, i = row
        expected = sum(
            a * b
            for a, b in zip(
                model.users.weight[u].tolist(), model.items.weight[i].tolist(), strict=True
            )
        )
        expected += model.user_bias.weight[u].item() + model.item_bias.weight[i].item()
        assert value == pytest.approx(expected + model.intercept.item(), abs=1e-4)


def test_the_range_is_a_sigmoids():
    model = drawn(DotProductBias((4, 5), 3, y_range=(1, 5)))
    x = torch.cartesian_prod(torch.arange(4), torch.arange(5))
    assert torch.allclose(model(x), 1 + 4 * torch.sigmoid(model.logits(x)))
    assert model(x).shape == (20,)


def test_it_starts_near_0_and_the_unknown_level_at_0():
    model = DotProductBias((30, 40), 5)
    for embedding in (model.users, model.items, model.user_bias, model.item_bias):
        assert not embedding.weight[0].any()
        assert 0 < embedding.weight[1:].abs().max() < 1
    assert model(torch.tensor([[0, 0]])).item() == 0


def test_who_is_unknown_is_the_average_user():
    model = drawn(DotProductBias((3, 4), 2))
    with torch.no_grad():
        model.users.weight[0] = 0
        model.user_bias.weight[0] = 0
    expected = model.intercept + model.item_bias.weight[2, 0]
    assert model(torch.tensor([[0, 2]])).item() == pytest.approx(expected.item())


def test_only_what_was_looked_up_has_a_gradient():
    model = drawn(DotProductBias((4, 5), 3))
    model(torch.tensor([[1, 2], [3, 2]])).sum().backward()
    for part, rows in (("users", [1, 3]), ("items", [2]), ("user_bias", [1, 3])):
        grad = getattr(model, part).weight.grad
        assert grad.any(dim=1).nonzero().flatten().tolist() == rows


# The network


def test_the_network_takes_the_two_vectors_side_by_side():
    model = drawn(RatingNet((4, 5), (2, 3), widths=(6,), y_range=(0, 5.5))).eval()
    x = torch.tensor([[1, 4], [2, 0]])
    side = torch.cat([model.users.weight[x[:, 0]], model.items.weight[x[:, 1]]], dim=1)
    _, first, relu, _, last = model.layers
    expected = 5.5 * torch.sigmoid(last(relu(first(side))))[:, 0]
    assert torch.allclose(model(x), expected)


def test_the_network_may_have_no_hidden_layer_or_several():
    for widths in ((), (4, 3)):
        out = RatingNet((4, 5), (2, 3), widths)(torch.tensor([[1, 4], [2, 0]]))
        assert out.shape == (2,)


def test_dropout_acts_in_training_only():
    model = drawn(RatingNet((4, 5), (8, 8), (20,), dropout=0.5))
    x = torch.tensor([[1, 4]]).repeat(20, 1)
    assert model.train()(x).std() > 1e-2
    assert model.eval()(x).std() < 1e-5


def test_bad_arguments_are_refused_in_one_sentence():
    with refused("y_range must be a lower and a higher number, but it is (5, 5)."):
        DotProductBias((2, 2), 1, y_range=(5, 5))
    with refused("y_range must be a lower and a higher number, but it is (5, 0)."):
        RatingNet((2, 2), y_range=(5, 0))
    with refused("embedding_dim must be a whole number of at least 1, but it is 0."):
        DotProductBias((2, 2), 0)
    with refused(
        "x must have shape (n, 2), the code of a user and of an item in each row, but it has "
        "(3, 3)."
    ):
        DotProductBias((2, 2), 1)(torch.zeros(3, 3, dtype=torch.int64))
    with refused("codes must be from 0 to 1, but they go from 0 to 2.", IndexError):
        DotProductBias((2, 2), 1)(torch.tensor([[0, 0], [2, 1]]))
    with refused("codes must be int64 or int32, but their dtype is torch.float32.", TypeError):
        RatingNet((2, 2))(torch.zeros(3, 2))


# Training and recommending


@pytest.fixture(scope="module")
def trained():
    table, truth = film_club(200, 60)
    train_rows, valid_rows = split_ratings(table, 0.2, generator=torch.Generator().manual_seed(0))
    codes = RatingCodes.fit(table, train_rows)
    x, y = codes.transform(table)
    torch.manual_seed(0)
    model = DotProductBias(codes.counts, 2, y_range=(0, 5.5))
    dls = DataLoaders.from_tensors(
        (x[train_rows], y[train_rows]), (x[valid_rows], y[valid_rows]), batch_size=64, device="cpu"
    )
    learner = Learner(model, dls, mse_loss, Adam, 1e-2)
    learner.fit(10)
    return table, truth, codes, learner, (x[valid_rows], y[valid_rows])


def test_a_trained_model_predicts_what_it_has_not_seen(trained):
    _, truth, _, learner, (x, y) = trained
    error = (learner.predict(x) - y).square().mean().item()
    assert error < 0.6 * y.var().item()
    assert error > truth.noise**2


def test_what_was_rated_is_not_recommended(trained):
    table, _, codes, learner, _ = trained
    user = int(table["userId"].iloc[0])
    seen = set(table["movieId"][table["userId"] == user])
    found = recommend(learner.model, codes, table, user, n=100)
    assert set(found.index) == set(codes.items) - seen
    assert found.is_monotonic_decreasing


def test_it_recommends_the_highest_expected_ratings(trained):
    table, _, codes, learner, _ = trained
    user = int(table["userId"].iloc[0])
    found = recommend(learner.model, codes, table, user, n=3)
    x = codes.encode(np.full(3, user), found.index.to_numpy())
    assert found.to_list() == pytest.approx(learner.predict(x).tolist())
    everything = recommend(learner.model, codes, table, user, n=1000)
    pd.testing.assert_series_equal(everything.head(3), found)


def test_recommending_leaves_a_training_model_in_training(trained):
    table, _, codes, learner, _ = trained
    learner.model.train()
    recommend(learner.model, codes, table, int(table["userId"].iloc[0]))
    assert learner.model.training


def test_nothing_is_recommended_to_a_user_without_ratings(trained):
    table, _, codes, learner, _ = trained
    with refused("user_id must be one that has ratings in the training rows, but -5 has none."):
        recommend(learner.model, codes, table, -5)
    with refused("n must be a whole number of at least 1, but it is 0."):
        recommend(learner.model, codes, table, int(table["userId"].iloc[0]), n=0)
