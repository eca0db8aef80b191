"""`glassbox.tastes`: the simulated film club against its own truth."""

import re

import numpy as np
import pandas as pd
import pytest

from glassbox.tastes import SCALE, film_club


def refused(message, kind=ValueError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


@pytest.fixture(scope="module")
def club():
    return film_club()


def test_a_row_is_a_rating_of_a_film_by_a_member(club):
    table, truth = club
    assert list(table.columns) == ["userId", "movieId", "rating", "title", "genres"]
    assert not table.duplicated(["userId", "movieId"]).any()
    assert set(table["userId"]) == set(truth.members.index)
    assert set(table["movieId"]) <= set(truth.films.index)
    assert table["rating"].between(*SCALE).all()
    assert (table["rating"] * 2 % 1 == 0).all()
    assert len(truth.expected) == len(table)


def test_it_has_the_size_that_was_asked_for():
    table, truth = film_club(30, 12, seed=3)
    assert len(truth.members) == 30
    assert len(truth.films) == 12
    # There are fewer films than a member rates at least.
    assert len(table) == 30 * 12


def test_the_same_arguments_give_the_same_table():
    first, second, other = (film_club(20, 30, seed)[0] for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, second)
    assert not first.equals(other)


def test_members_rate_at_least_twenty_films_and_most_of_them_not_many_more(club):
    counts = club[0].groupby("userId").size()
    assert counts.min() >= 20
    assert counts.median() < 0.5 * counts.max()


def test_a_few_films_have_many_of_the_ratings(club):
    counts = club[0].groupby("movieId").size().sort_values(ascending=False)
    assert counts.iloc[:20].sum() > 0.25 * counts.sum()


def test_titles_are_different_and_belong_to_their_film(club):
    table, truth = club
    assert truth.films["title"].is_unique
    assert (truth.films.loc[table["movieId"], "title"].to_numpy() == table["title"]).all()
    assert (truth.films.loc[table["movieId"], "genres"].to_numpy() == table["genres"]).all()


def test_the_mean_rating_is_a_sigmoid_of_mean_biases_and_dot_product(club):
    table, truth = club
    member, film = table["userId"].iloc[7], table["movieId"].iloc[7]
    m, f = truth.members.loc[member], truth.films.loc[film]
    logit = truth.mean + m["bias"] + f["bias"]
    logit += m["gravity"] * f["gravity"] + m["spectacle"] * f["spectacle"]
    assert truth.expected[7] == pytest.approx(5.5 / (1 + np.exp(-logit)))
    found = truth.expected_for(table["userId"], table["movieId"])
    assert np.allclose(found, truth.expected, atol=1e-12)


def test_ratings_lie_around_their_mean_by_the_noise(club):
    table, truth = club
    inside = (truth.expected > 2) & (truth.expected < 3)  # far from where they are cut
    off = (table["rating"] - truth.expected)[inside]
    assert abs(off.mean()) < 0.03
    # Rounding to halves adds a variance of 0.5² / 12.
    assert off.std() == pytest.approx(np.hypot(truth.noise, 0.5 / 12**0.5), rel=0.05)


def test_members_see_what_they_like(club):
    _, truth = club
    users, films = truth.members.index, truth.films.index
    everything = truth.expected_for(np.repeat(users, len(films)), np.tile(films, len(users)))
    assert truth.expected.mean() > everything.mean() + 0.2


def test_who_likes_grave_films_is_harsher(club):
    members = club[1].members
    assert np.corrcoef(members["gravity"], members["bias"])[0, 1] == pytest.approx(-0.4, abs=0.1)


def test_the_films_lie_around_the_middle_and_by_genre(club):
    films = club[1].films
    assert np.allclose(films[["gravity", "spectacle"]].mean(), 0)
    means = films.groupby("genres")[["gravity", "spectacle"]].mean()
    assert means.loc["Drama", "gravity"] > 0.8 > -0.8 > means.loc["Comedy", "gravity"]
    assert means.loc["Adventure", "spectacle"] > 0.3 > -0.3 > means.loc["Documentary", "spectacle"]


def test_bad_input_is_answered_in_one_sentence(club):
    with refused("num_members must be a whole number of at least 2, but it is 1."):
        film_club(1)
    with refused("num_films must be a whole number from 6 to 576, but it is 577."):
        film_club(10, 577)
    with refused("seed must be a whole number of at least 0, but it is -1."):
        film_club(seed=-1)
    users, films = club[1].members.index[:2], club[1].films.index[:2]
    with refused("user_ids must be ids of the club, but one is 0."):
        club[1].expected_for([0, users[1]], films)
    with refused("movie_ids must be ids of the club, but one is -3."):
        club[1].expected_for(users, [films[0], -3])
    with refused("user_ids and movie_ids must have one shape (n,), but they have (2,) and (1,)."):
        club[1].expected_for(users, films[:1])
