"""`glassbox.entities`: the model piece by piece, embeddings as tables, alignment against scipy."""

import math
import re
import sqlite3

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist
from sklearn.metrics import mean_absolute_percentage_error
from torch import nn

from glassbox.data import DataLoaders
from glassbox.entities import (
    TabularModel,
    align,
    correlation_of_distances,
    embedding_size,
    embedding_table,
    exp_rmspe,
    mape,
    replace_codes,
    rmspe,
)
from glassbox.layers import Embedding
from glassbox.learner import Learner
from glassbox.losses import mse_loss
from glassbox.optim import SGD
from glassbox.tabular import TabularProcessor, prepare

positive = st.floats(0.5, 1e4)
pairs = st.lists(st.tuples(positive, positive), min_size=1, max_size=20)


def refused(message, kind=ValueError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def rand(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# Errors in percent


@given(pairs)
def test_percentage_errors_are_those_of_their_definition_and_scikit_learns(values):
    pred, actual = torch.tensor(values, dtype=torch.float64).T
    shares = [(a - p) / a for p, a in values]
    root = math.sqrt(sum(e**2 for e in shares) / len(shares))
    assert rmspe(pred, actual).item() == pytest.approx(root)
    assert mape(pred, actual).item() == pytest.approx(mean_absolute_percentage_error(actual, pred))
    assert exp_rmspe(pred.log(), actual.log()).item() == pytest.approx(root)


def test_ten_percent_too_much_is_a_tenth():
    actual = torch.tensor([100.0, 2000.0])
    for error in (rmspe, mape):
        torch.testing.assert_close(error(1.1 * actual, actual), torch.tensor(0.1))
        torch.testing.assert_close(error(0.9 * actual, actual), torch.tensor(0.1))


def test_a_small_difference_of_logarithms_is_a_percentage_error():
    actual = torch.linspace(10, 1000, 50, dtype=torch.float64)
    pred = actual * (1 + 0.01 * rand(50))
    in_logs = mse_loss(pred.log(), actual.log()).sqrt()
    torch.testing.assert_close(in_logs, rmspe(pred, actual), rtol=0.02, atol=0.0)


@pytest.mark.parametrize("error", [rmspe, mape])
def test_a_percentage_of_nothing_is_refused(error):
    with refused("actual must be positive, as it is divided by, but its least value is 0."):
        error(torch.ones(2), torch.tensor([1.0, 0.0]))
    with refused(
        "pred and actual must have the same shape and at least one value, but they have (2, 1) and "
        "(2,)."
    ):
        error(torch.ones(2, 1), torch.ones(2))
    with pytest.raises(ValueError, match="^pred and actual must have the same shape and at least"):
        error(torch.ones(0), torch.ones(0))


# The model


@pytest.mark.parametrize(
    ("levels", "size"), [(1, 1), (3, 2), (4, 3), (8, 5), (13, 7), (32, 17), (53, 27), (1116, 50)]
)
def test_the_sizes_of_embeddings_are_those_of_the_lesson(levels, size):
    assert embedding_size(levels) == size


def test_the_size_of_an_embedding_needs_a_level():
    with refused("levels must be a whole number of at least 1, but it is 0."):
        embedding_size(0)


def test_the_model_is_vectors_and_numbers_through_linear_layers():
    torch.manual_seed(0)
    model = TabularModel([4, 3], 2, widths=[6, 5], dropout=[0.3, 0.4], embedding_dropout=0.2)
    x = torch.tensor([[3, 0, 0.5, -1.0], [1, 2, -2.0, 0.3], [2, 1, 0.0, 0.0]])
    kinds = [type(layer) for layer in model.layers]
    block = [nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Dropout]
    assert kinds == [*block, *block, nn.Linear]
    assert [layer.p for layer in model.layers if isinstance(layer, nn.Dropout)] == [0.3, 0.4]
    assert model.embedding_dropout.p == 0.2
    model.eval()
    first, second = model.embeddings
    vectors = torch.cat([first.weight[[3, 1, 2]], second.weight[[0, 2, 1]]], dim=1)
    assert torch.equal(model.vectors(x), vectors)
    expected = model.layers(torch.cat([vectors, model.norm(x[:, 2:])], dim=1))
    torch.testing.assert_close(model(x), expected)
    assert expected.shape == (3, 1)


def test_dropout_of_the_embeddings_spares_the_numbers():
    torch.manual_seed(0)
    model = TabularModel([5], 1, widths=[], sizes=[200], embedding_dropout=0.5)
    with torch.no_grad():
        model.embeddings[0].weight.fill_(1.0)
        model.layers[0].weight.fill_(1.0)
        model.layers[0].bias.zero_()
    x = torch.tensor([[1.0, 3.0], [1.0, 5.0]])
    without = model.eval()(x)
    kept = (model.train()(x) - model.norm(x[:, 1:])) / 2  # of 200 vectors' numbers
    assert without[0].item() == pytest.approx(200 + 3, abs=0.1)
    assert ((kept > 60) & (kept < 140)).all()
    assert kept[0].item() != kept[1].item()


def test_one_dropout_is_that_of_every_layer_and_numbers_are_normalised():
    model = TabularModel([], 3, widths=[4, 4], dropout=0.1)
    assert [layer.p for layer in model.layers if isinstance(layer, nn.Dropout)] == [0.1, 0.1]
    assert isinstance(model.norm, nn.BatchNorm1d)
    assert model(rand(5, 3).float()).shape == (5, 1)
    assert TabularModel([3], 0, out_features=4)(torch.tensor([[1.0], [2.0]])).shape == (2, 4)


def test_embeddings_start_near_zero_and_the_unknown_level_at_zero():
    torch.manual_seed(0)
    model = TabularModel([1000, 4], 0, sizes=[50, 7])
    weight = model.embeddings[0].weight
    assert [type(e) for e in model.embeddings] == [Embedding, Embedding]
    assert [tuple(e.weight.shape) for e in model.embeddings] == [(1000, 50), (4, 7)]
    assert all((e.weight[0] == 0).all() for e in model.embeddings)
    assert weight[1:].std().item() == pytest.approx(0.01, rel=0.05)
    sizes = [e.weight.shape[1] for e in TabularModel([8, 4], 0).embeddings]
    assert sizes == [embedding_size(8), embedding_size(4)]


@given(st.floats(-50, 50), st.floats(0.1, 50), st.integers(0, 99))
def test_outputs_stay_within_their_range(low, span, seed):
    torch.manual_seed(seed)
    model = TabularModel([3], 2, widths=[4], y_range=(low, low + span)).eval()
    x = torch.cat([torch.arange(9)[:, None] % 3, 100 * rand(9, 2, seed=seed)], dim=1).float()
    out = model(x)
    assert (out >= low - 1e-4).all()
    assert (out <= low + span + 1e-4).all()
    plain = TabularModel([3], 2, widths=[4]).eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(out, low + span * torch.sigmoid(plain(x)), rtol=1e-4, atol=1e-4)


def test_the_model_learns_what_depends_on_a_pair_of_categories():
    torch.manual_seed(0)
    x = torch.cartesian_prod(torch.arange(1, 4), torch.arange(1, 4)).repeat(20, 1).float()
    y = (x[:, :1] * x[:, 1:]).sqrt()
    model = TabularModel([4, 4], 0, widths=[20], y_range=(0.0, 4.0))
    dls = DataLoaders.from_tensors((x, y), (x, y), batch_size=36, device="cpu")
    learner = Learner(model, dls, mse_loss, opt_func=lambda p, lr: SGD(p, lr, momentum=0.9), lr=0.1)
    learner.fit(30)
    assert mse_loss(learner.predict(x), y) < 0.05 * y.var()
    assert (model.embeddings[0].weight[0] == 0).all()  # no row has the unknown level


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sizes": [2]},
            "sizes must have 2 numbers, one for each that it belongs to, but it has 1.",
        ),
        (
            {"dropout": [0.1]},
            "dropout must have 2 numbers, one for each that it belongs to, but it has 1.",
        ),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1, but it is 1.0."),
        ({"dropout": [0.1, -0.1]}, "dropout must be from 0 to below 1, but it is -0.1."),
        ({"embedding_dropout": 1}, "dropout must be from 0 to below 1, but it is 1."),
        (
            {"y_range": (1.0, 1.0)},
            "y_range must be a lower and a higher number, but it is (1.0, 1.0).",
        ),
        (
            {"y_range": (0.0, float("inf"))},
            "y_range must be a lower and a higher number, but it is (0.0, inf).",
        ),
        ({"y_range": (1.0,)}, "y_range must be a lower and a higher number, but it is (1.0,)."),
        ({"widths": [0]}, "widths must be a whole number of at least 1, but it is 0."),
        ({"num_numbers": -1}, "num_numbers must be a whole number of at least 0, but it is -1."),
        ({"out_features": 0}, "out_features must be a whole number of at least 1, but it is 0."),
        (
            {"cardinalities": [], "num_numbers": 0},
            "cardinalities must not be empty where num_numbers is 0.",
        ),
        (
            {"cardinalities": [0, 3], "sizes": [1, 1]},
            "num_embeddings must be a whole number of at least 1, but it is 0.",
        ),
    ],
)
def test_the_model_refuses(arguments, message):
    with refused(message):
        TabularModel(**{"cardinalities": [3, 3], "num_numbers": 1, **arguments})


def test_inputs_have_a_column_for_each_category_and_number():
    model = TabularModel([3, 3], 1)
    message = "x must have shape (n, 3), the codes of 2 categories and 1 numbers, but it has shape "
    for shape in ((2, 4), (3,)):
        with refused(f"{message}{shape}."):
            model.vectors(torch.zeros(shape))
    with refused(f"{message}(2, 2)."):
        model(torch.zeros(2, 2))


# Embeddings for others


@pytest.fixture
def trained():
    """Return a table, its processor, its inputs and a model with rows that differ."""
    torch.manual_seed(0)
    table = pd.DataFrame(
        {"State": ["b", "a", "c", "a"], "Day": [1, 2, 1, 3], "x": [0.0, 1.0, 5.0, 2.0]}
    )
    processor = TabularProcessor.fit(table, [0, 1, 3], categories=["State", "Day"], numbers=["x"])
    model = TabularModel(list(processor.cardinalities.values()), 1, widths=[3])
    return table, processor, processor.transform(table), model


def test_codes_are_replaced_by_their_vectors(trained):
    _, _, x, model = trained
    replaced = replace_codes(model, x)
    state, day = (e.weight.detach() for e in model.embeddings)
    expected = torch.cat([state[[2, 1, 0, 1]], day[[1, 2, 1, 3]], x[:, 2:]], dim=1)
    assert torch.equal(replaced, expected)
    assert not replaced.requires_grad
    assert replaced.numpy().dtype == np.float32


def test_an_embedding_as_a_table_has_a_row_for_each_level(trained):
    _, processor, _, model = trained
    table = embedding_table(model, processor, "State")
    assert list(table) == ["State", "State_0", "State_1"]
    assert table["State"].tolist() == ["a", "b"]
    vectors = table[["State_0", "State_1"]].to_numpy()
    assert (vectors == model.embeddings[0].weight.detach()[1:].numpy()).all()
    assert embedding_table(model, processor, "Day")["Day"].tolist() == [1, 2, 3]


def test_a_join_in_sql_is_the_lookup(trained):
    table, processor, x, model = trained
    with sqlite3.connect(":memory:") as database:
        table.to_sql("sales", database)
        for name in ("State", "Day"):
            embedding_table(model, processor, name).to_sql(name, database, index=False)
        joined = pd.read_sql(
            "select State_0, State_1, Day_0, Day_1, Day_2 from sales "
            "left join State using (State) join Day using (Day) order by sales.'index'",
            database,
        )
    database.close()
    expected = replace_codes(model, x)[:, :-1]
    assert joined.loc[2, ["State_0", "State_1"]].isna().all()  # the unknown level: no such row
    np.testing.assert_allclose(joined.fillna(0.0), expected, rtol=1e-6)


def test_an_embedding_table_refuses_what_it_does_not_know(trained):
    _, processor, _, model = trained
    with refused("category must be one of State, Day, but it is 'x'."):
        embedding_table(model, processor, "x")
    with refused(
        "model must have embeddings for [3, 4] codes, as the processor makes, but it has them for "
        "[3]."
    ):
        embedding_table(TabularModel([3], 1), processor, "State")


# Alignment


@given(st.integers(3, 12), st.integers(1, 4), st.integers(0, 99), st.floats(0.1, 10))
def test_what_was_turned_mirrored_scaled_and_shifted_comes_back(n, d, seed, scale):
    target = rand(n, d, seed=seed)
    turn = torch.linalg.qr(rand(d, d, seed=seed + 1))[0]
    points = scale * target @ turn + rand(1, d, seed=seed + 2)
    torch.testing.assert_close(align(points, target), target)


@given(st.integers(3, 12), st.integers(1, 4), st.integers(0, 99))
def test_alignment_is_scipys(n, d, seed):
    points, target = rand(n, d, seed=seed), rand(n, d, seed=seed + 1)
    standard, aligned, _ = procrustes(target.numpy(), points.numpy())
    size = (target - target.mean(0)).norm().item()
    np.testing.assert_allclose((align(points, target) - target.mean(0)) / size, aligned, atol=1e-9)
    assert standard.shape == aligned.shape


def test_alignment_keeps_distances_in_proportion():
    points = rand(7, 3)
    aligned = align(points, rand(7, 3, seed=1))
    ratio = pdist(aligned.numpy()) / pdist(points.numpy())
    np.testing.assert_allclose(ratio, ratio[0])


def test_alignment_refuses():
    with refused("points and target must have one shape (n, d), but they have (3, 2) and (3, 1)."):
        align(rand(3, 2), rand(3, 1))
    with refused("points must differ from each other, but all of them are one."):
        align(torch.ones(3, 2), rand(3, 2).float())


# Distances


@given(st.integers(3, 10), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_the_correlation_of_distances_is_that_of_scipys_distances(n, d, e, seed):
    x, y = rand(n, d, seed=seed), rand(n, e, seed=seed + 1)
    expected = np.corrcoef(pdist(x.numpy()), pdist(y.numpy()))[0, 1]
    assert correlation_of_distances(x, y).item() == pytest.approx(expected)


def test_a_map_that_was_turned_is_the_same_map():
    x = rand(6, 2)
    turn = torch.linalg.qr(rand(5, 5, seed=1))[0][:2]
    assert correlation_of_distances(x, 3 * x @ turn + 7).item() == pytest.approx(1.0)


def test_distances_need_three_points_and_some_difference():
    message = "x and y must have shapes (n, d) and (n, e) with n at least 3, but they have"
    for x, y in ((rand(2, 2), rand(2, 2)), (rand(3, 2), rand(4, 2)), (rand(3), rand(3, 1))):
        with refused(f"{message} {tuple(x.shape)} and {tuple(y.shape)}."):
            correlation_of_distances(x, y)
    with pytest.raises(ValueError, match="^x must vary"):
        correlation_of_distances(torch.zeros(3, 2), rand(3, 2).float())


def test_a_table_goes_through_the_processor_the_model_and_the_loop():
    table = pd.DataFrame({"c": list("abab" * 10), "x": np.arange(40.0), "y": [1.0, 3.0] * 20})
    ready = prepare(table, range(30), range(30, 40), target="y", categories=["c"], numbers=["x"])
    torch.manual_seed(0)
    model = TabularModel(
        list(ready.processor.cardinalities.values()), 1, widths=[8], y_range=ready.y_range()
    )
    dls = DataLoaders.from_tensors(ready.train, ready.valid, batch_size=10, device="cpu")
    learner = Learner(model, dls, mse_loss, lr=0.1)
    learner.fit(20)
    assert mse_loss(learner.predict(ready.valid[0]), ready.valid[1]) < 0.3
