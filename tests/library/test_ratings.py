"""`glassbox.ratings`: codes and splits on small tables, the biases against least squares."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from glassbox.ratings import (
    RatingCodes,
    check_codes,
    fit_biases,
    rating_matrix,
    split_ratings,
)

TABLE = pd.DataFrame(
    {
        "userId": [70, 70, 5, 5, 5, 12],
        "movieId": [900, 31, 900, 31, 8, 8],
        "rating": [4.0, 0.5, 5.0, 3.5, 2.0, 1.0],
    }
)


def refused(message, kind=ValueError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def fitted(rows=(0, 1, 2, 3, 4)):
    return RatingCodes.fit(TABLE, torch.tensor(rows))


@st.composite
def rated(draw):
    """Draw codes without a pair twice, ratings for them, and how many codes there are."""
    counts = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    cells = [(u, i) for u in range(counts[0]) for i in range(counts[1])]
    chosen = draw(st.lists(st.sampled_from(cells), unique=True, min_size=1))
    stars = draw(st.lists(st.integers(1, 10), min_size=len(chosen), max_size=len(chosen)))
    return torch.tensor(chosen), torch.tensor(stars).double() / 2, counts


# Codes


def test_codes_count_from_one_in_the_order_of_the_ids():
    x, y = fitted().transform(TABLE.iloc[:5])
    assert x.tolist() == [[2, 3], [2, 2], [1, 3], [1, 2], [1, 1]]
    assert x.dtype == torch.int64
    assert y.dtype == torch.float32
    assert y.tolist() == TABLE["rating"].tolist()[:5]
    assert fitted().counts == (3, 4)


def test_what_no_training_row_has_gets_the_code_0():
    assert fitted().transform(TABLE.iloc[5:])[0].tolist() == [[0, 1]]
    assert fitted().encode([5, 6], [7, 900]).tolist() == [[1, 0], [0, 3]]


def test_other_rows_than_the_training_rows_change_no_code():
    other = TABLE.assign(userId=[70, 70, 5, 5, 5, 1])
    again = RatingCodes.fit(other, torch.arange(5))
    assert again.users.equals(fitted().users)
    assert again.items.equals(fitted().items)


def test_columns_and_scale_may_be_others():
    table = pd.DataFrame({"who": [3, 4], "what": [1, 1], "stars": [-1, 7]})
    codes = RatingCodes.fit(table, torch.arange(2), scale=(-1, 7), columns=("who", "what", "stars"))
    assert codes.transform(table)[0].tolist() == [[1, 1], [2, 1]]
    assert codes.scale == (-1, 7)


def test_the_code_of_one_id():
    assert fitted().user_code(70) == 2
    assert fitted().item_code(8) == 1


def test_a_user_without_ratings_and_an_item_without_are_named():
    tail = "must be one that has ratings in the training rows, but"
    with refused(f"user_id {tail} 12 has none."):
        fitted().user_code(12)
    with refused(f"item_id {tail} 9 has none."):
        fitted().item_code(9)


def test_bad_tables_are_refused_in_one_sentence():
    with refused("table must have at least one rating, but it has no rows."):
        RatingCodes.fit(TABLE.iloc[:0], torch.arange(0))
    with refused("column 'userId' must hold whole numbers, but it holds float64.", TypeError):
        RatingCodes.fit(TABLE.astype({"userId": float}), torch.arange(2))
    with refused("column 'movieId' must hold whole numbers, but it holds object.", TypeError):
        fitted().transform(TABLE.astype({"movieId": object}))
    sentence = "column 'rating' must hold ratings from 0.5 to 5, but its row 1 holds"
    with refused(f"{sentence} 5.5."):
        fitted().transform(TABLE.assign(rating=[1, 5.5, 1, 1, 1, 9]))
    with refused(f"{sentence} 0."):
        RatingCodes.fit(TABLE.assign(rating=[1, 0, 1, 1, 1, 9]), torch.arange(2))
    with refused(f"{sentence} nan."):
        fitted().transform(TABLE.assign(rating=[1, np.nan, 1, 1, 1, 1]))
    with refused("table must be a DataFrame, but it is a list.", TypeError):
        RatingCodes.fit([], torch.arange(2))
    with refused("table must have 'rating' among its columns, which are 'userId', 'movieId'."):
        fitted().transform(TABLE[["userId", "movieId"]])


def test_other_bad_arguments_are_refused_in_one_sentence():
    with refused("scale must be a lower and a higher number, but it is (5, 1)."):
        RatingCodes.fit(TABLE, torch.arange(2), scale=(5, 1))
    sentence = "train_rows must hold numbers of rows, from 0 to 5, and at least one, but"
    with refused(f"{sentence} it is empty."):
        RatingCodes.fit(TABLE, torch.arange(0))
    for rows in (torch.tensor([0, 6]), torch.tensor([-1])):
        with refused(f"{sentence} one is not."):
            RatingCodes.fit(TABLE, rows)
    with refused("user_ids and item_ids must have one shape (n,), but they have (1,) and (2,)."):
        fitted().encode([5], [8, 8])
    with refused("column 'movieId' must hold whole numbers, but it holds float64.", TypeError):
        fitted().encode([5], [8.5])


# The split


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 5), min_size=4, max_size=60),
    st.floats(0.05, 0.95),
    st.integers(1, 4),
)
def test_every_user_keeps_some_and_gives_a_share(users, fraction, keep):
    table = pd.DataFrame({"userId": users})
    sizes = table["userId"].value_counts()
    held = np.minimum(np.floor(fraction * sizes), sizes - keep).clip(lower=0)
    if not held.any():
        with pytest.raises(ValueError, match=r"^table must have a user with more than"):
            split_ratings(table, fraction, keep=keep)
        return
    train, valid = split_ratings(table, fraction, keep=keep)
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(len(users)))
    given_away = table["userId"].iloc[valid.numpy()].value_counts()
    assert given_away.reindex(sizes.index, fill_value=0).tolist() == held.tolist()


def test_a_split_is_drawn_by_its_generator():
    table = pd.DataFrame({"userId": [1] * 100})
    rows = [
        split_ratings(table, 0.3, generator=torch.Generator().manual_seed(seed))[1].tolist()
        for seed in (0, 0, 1)
    ]
    assert rows[0] == rows[1] != rows[2]
    assert rows[0] != list(range(30))


def test_bad_splits_are_refused_in_one_sentence():
    with refused("table must have at least one rating, but it has no rows."):
        split_ratings(TABLE.iloc[:0], 0.5)
    with refused("valid_fraction must lie between 0 and 1, but it is 1."):
        split_ratings(TABLE, 1)
    with refused("keep must be a whole number of at least 1, but it is 0."):
        split_ratings(TABLE, 0.5, keep=0)
    with refused(
        "table must have a user with more than 3 ratings, so that 0.5 of them can be held out, "
        "but the 6 rows have none."
    ):
        split_ratings(TABLE, 0.5, keep=3)
    with refused(
        "table must have 'who' among its columns, which are 'userId', 'movieId', 'rating'."
    ):
        split_ratings(TABLE, 0.5, user="who")


# The matrix


@given(rated())
def test_the_matrix_is_scipys(data):
    x, y, counts = data
    matrix = rating_matrix(x, y, counts)
    reference = csr_array((y.numpy(), x.T.numpy()), shape=counts)
    assert np.array_equal(matrix.to_dense().numpy(), reference.toarray())
    assert matrix.is_sparse


def test_a_pair_rated_twice_is_refused():
    x = torch.tensor([[0, 1], [0, 1], [1, 1]])
    with refused(
        "x must hold each pair once, but 1 of its rows rate what the same user has rated before."
    ):
        rating_matrix(x, torch.ones(3), (2, 2))


def test_codes_and_ratings_must_fit_together():
    with refused(
        "x must have shape (n, 2), the code of a user and of an item in each row, but it has (4,)."
    ):
        check_codes(torch.zeros(4))
    for y in (torch.ones(3, 1), torch.ones(2)):
        sentence = "y must hold a rating for each of the 3 rows of x, and at least one, but it has "
        with refused(f"{sentence}shape {tuple(y.shape)}."):
            fit_biases(torch.zeros(3, 2, dtype=torch.int64), y, (2, 2))


# Biases


@settings(max_examples=40, deadline=None)
@given(rated(), st.floats(0.5, 20))
def test_biases_are_those_of_penalised_least_squares(data, strength):
    x, y, counts = data
    biases = fit_biases(x, y, counts, strength=strength, rounds=300)
    columns = np.zeros((len(x), sum(counts)))
    columns[np.arange(len(x)), x[:, 0]] = 1
    columns[np.arange(len(x)), counts[0] + x[:, 1]] = 1
    left = columns.T @ columns + strength * np.eye(sum(counts))
    solution = np.linalg.solve(left, columns.T @ (y - y.mean()).numpy())
    found = torch.cat([biases.user, biases.item]).numpy()
    assert np.allclose(found, solution, atol=1e-6)
    assert np.allclose(biases(x).numpy(), y.mean().item() + columns @ solution, atol=1e-6)


def test_who_has_no_ratings_has_no_bias():
    biases = fit_biases(torch.tensor([[1, 1], [1, 2]]), torch.tensor([3.0, 5.0]), (3, 3))
    assert biases.user[0] == biases.item[0] == biases.user[2] == 0
    assert biases(torch.tensor([[0, 0]])).item() == 4


def test_bad_numbers_are_refused_in_one_sentence():
    x, y = torch.tensor([[0, 0]]), torch.ones(1)
    with refused("strength must be above 0, but it is 0."):
        fit_biases(x, y, (1, 1), strength=0)
    with refused("rounds must be a whole number of at least 1, but it is 0."):
        fit_biases(x, y, (1, 1), rounds=0)
