"""`glassbox.retail`: the simulated chain against its own truth, the loader on fabricated files."""

import re
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassbox.entities import correlation_of_distances, rmspe
from glassbox.retail import (
    COLUMNS,
    days_around_closures,
    leaderboard,
    retail_chain,
)


def refused(message, kind=ValueError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


@pytest.fixture(scope="module")
def chain():
    return retail_chain(24, seed=1)


# The simulated chain


@pytest.mark.parametrize(
    ("profile", "at_least", "at_most"), [("sample", 2e4, 2.5e4), ("full", 2e5, 3e5)]
)
def test_the_profile_says_how_many_rows_there_are(monkeypatch, profile, at_least, at_most):
    monkeypatch.setenv("GLASSBOX_PROFILE", profile)
    start = time.process_time()
    table, truth = retail_chain()
    assert time.process_time() - start < 2
    assert at_least <= len(table) == len(truth.expected) == len(truth.disturbance) <= at_most
    assert table["State"].nunique() == 12


def test_a_row_is_a_store_on_a_day(chain):
    table, _ = chain
    assert tuple(table.columns) == COLUMNS
    assert not table.duplicated(["Store", "Date"]).any()
    assert len(table) == table["Store"].nunique() * table["Date"].nunique()
    assert table[["Date", "Store"]].apply(tuple, axis=1).is_monotonic_increasing
    of_store = table.groupby("Store")[["State", "StoreType", "Assortment", "CompetitionDistance"]]
    assert (of_store.nunique(dropna=False) == 1).all(axis=None)
    assert table["Date"].max() == pd.Timestamp("2015-07-31")


def test_a_seed_gives_the_same_chain_and_another_seed_another():
    first, second, other = (retail_chain(12, seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first[0], second[0])
    assert np.array_equal(first[1].expected, second[1].expected)
    assert not first[0]["Sales"].equals(other[0]["Sales"])


def test_nothing_sells_where_the_store_is_closed_and_something_where_it_is_open(chain):
    table, truth = chain
    closed = table["Open"] == 0
    assert ((table["Sales"] == 0) == closed).all()
    assert ((table["Customers"] == 0) == closed).all()
    assert ((truth.expected == 0) == closed).all()
    assert (truth.disturbance[closed] == 0).all()
    assert 0.75 < table["Open"].mean() < 0.9
    sundays = table[table["Date"].dt.day_of_week == 6].groupby("StoreType")["Open"].mean()
    assert sundays["b"] > 0.9
    assert (sundays.drop("b") == 0).all()


def test_sales_are_what_was_to_be_expected_and_noise(chain):
    table, truth = chain
    is_open = (table["Open"] == 1).to_numpy()
    residual = np.log(table["Sales"][is_open]) - np.log(truth.expected[is_open])
    assert abs(residual.mean()) < 0.005
    assert residual.std() == pytest.approx(truth.noise, rel=0.03)
    assert abs(residual.groupby(table["Store"]).mean()).max() < 0.02


def test_an_effect_is_as_large_as_the_truth_says(chain):
    table, truth = chain
    quiet = table[(table["Open"] == 1).to_numpy() & (truth.disturbance < 0.01)]
    quiet = quiet.assign(log=np.log(quiet["Sales"]), day=quiet["Date"].dt.day_of_week)
    quiet = quiet[
        (quiet["StateHoliday"] == "0") & (quiet["day"] < 5) & (quiet["Date"].dt.month < 12)
    ]
    # Within a store, a weekday and a month, a promotion is what differs.
    keys = ["State", "Store", "day", quiet["Date"].dt.to_period("M")]
    means = quiet.groupby([*keys, "Promo"])["log"].mean().unstack()
    found = (means[1] - means[0]).groupby("State").mean()
    assert (found - truth.promotion).abs().max() < 0.04
    days = quiet.groupby(["State", "Store", "day"])["log"].mean().unstack()
    week = days.sub(days.mean(axis=1), axis=0).groupby("State").mean()
    expected = truth.weekday[range(5)].sub(truth.weekday[range(5)].mean(axis=1), axis=0)
    assert (week - expected).abs().max(axis=None) < 0.05


def test_states_that_are_near_each_other_sell_alike(chain):
    _, truth = chain
    effects = pd.concat([truth.promotion, truth.weekday, truth.season / 2], axis=1)
    places, effects = (torch.tensor(t.to_numpy()) for t in (truth.positions, effects))
    assert correlation_of_distances(places, effects) > 0.8
    assert places.abs().max() <= 1
    assert torch.pdist(places).min() > 0.2


def test_the_map_is_not_in_the_table(chain):
    table, truth = chain
    assert not {"east", "north"} & set(table.columns)
    assert list(truth.positions.index) == sorted(table["State"].unique())


def test_values_are_missing_where_it_is_said():
    table, _ = retail_chain(120)
    share = table.isna().mean()
    assert 0.005 < share["SchoolHoliday"] < 0.015
    assert 0.05 < share["CompetitionDistance"] < 0.2
    assert (share.drop(["SchoolHoliday", "CompetitionDistance"]) == 0).all()
    sold = table[table["Open"] == 1].groupby("Store")["Sales"].mean()
    alone = table.groupby("Store")["CompetitionDistance"].first().isna()
    assert sold[alone].mean() > sold[~alone].mean()  # that it is missing says something


def test_a_chain_has_a_store_in_each_state():
    with refused("num_stores must be a whole number of at least 12, but it is 11."):
        retail_chain(11)
    with refused("seed must be a whole number of at least 0, but it is -1."):
        retail_chain(12, seed=-1)


# Days around closures


def test_days_around_a_closure_are_counted_from_its_edges():
    is_open = [1, 1, 0, 1] + [0] * 8 + [1, 1, 0, 1]
    table = pd.DataFrame(
        {"Store": 5, "Date": pd.date_range("2015-01-01", periods=16), "Open": is_open}
    )
    found = days_around_closures(table, min_days=7, at_most=3)
    assert found["AfterClosure"].tolist() == [4, 4, 0, 4, *[0] * 8, 1, 2, 0, 4]
    assert found["BeforeClosure"].tolist() == [4, 3, 0, 1, *[0] * 8, 4, 4, 0, 4]
    assert list(found) == ["Store", "Date", "Open", "AfterClosure", "BeforeClosure"]
    without_rows = days_around_closures(table[table["Open"] == 1], min_days=7, at_most=3)
    kept = found[found["Open"] == 1]
    pd.testing.assert_frame_equal(without_rows, kept)


def test_eight_closed_days_are_a_closure_of_eight_days_and_not_of_nine():
    is_open = [1] + [0] * 8 + [1]
    table = pd.DataFrame(
        {"Store": 5, "Date": pd.date_range("2015-01-01", periods=10), "Open": is_open}
    )
    for min_days, near in ((8, 1), (9, 15)):
        found = days_around_closures(table, min_days=min_days)
        assert found["AfterClosure"].iloc[-1] == near
        assert found["BeforeClosure"].iloc[0] == near


def test_the_order_of_the_rows_and_other_stores_do_not_matter(chain):
    table, truth = chain
    found = days_around_closures(table)
    order = np.random.default_rng(0).permutation(len(table))
    shuffled = days_around_closures(table.iloc[order])
    pd.testing.assert_frame_equal(shuffled.sort_index(), found)
    alone = days_around_closures(table[table["Store"] == 3])
    pd.testing.assert_frame_equal(alone, found[found["Store"] == 3])
    around = found[["AfterClosure", "BeforeClosure"]]
    near = ((around >= 1) & (around <= 3)).any(axis=1)
    far = (around == 15).all(axis=1)
    assert truth.disturbance[near].mean() > 0.2
    assert truth.disturbance[far].max() < 0.01


def test_sales_beside_a_closure_are_as_much_higher_as_the_chapter_shows(chain):
    table, truth = chain
    found = days_around_closures(table)
    for column, height in (("AfterClosure", 0.5), ("BeforeClosure", 0.35)):
        beside = truth.disturbance[found[column] == 1]  # less where a Sunday lies between
        assert beside.max() == pytest.approx(height, abs=0.01)
        assert beside.min() > height / 3


def test_the_disturbance_around_a_closure_is_in_the_sales(chain):
    table, truth = chain
    is_open = (table["Open"] == 1).to_numpy()
    rows = table[is_open].assign(
        log=np.log(truth.expected[is_open]), more=truth.disturbance[is_open]
    )
    keys = [rows["Store"], rows["Promo"], rows["Date"].dt.day_of_week, rows["Date"].dt.month]
    usual = rows["log"].where(rows["more"] < 0.01).groupby(keys).transform("mean")
    near = rows["more"] > 0.2
    assert (rows["log"] - usual)[near].mean() == pytest.approx(rows["more"][near].mean(), abs=0.08)


def test_days_around_closures_wants_dates_and_whole_numbers(chain):
    table, _ = chain
    with refused(
        f"column 'Date' must hold dates, but its dtype is {pd.Series(['a']).dtype}.", TypeError
    ):
        days_around_closures(pd.DataFrame({"Store": [1], "Date": ["2015-01-01"], "Open": [1]}))
    for name in ("min_days", "at_most"):
        with refused(f"{name} must be a whole number of at least 1, but it is 0."):
            days_around_closures(table, **{name: 0})
    with pytest.raises(ValueError, match="^table must have 'Open' among its columns"):
        days_around_closures(table.drop(columns="Open"))
    for name in ("Store", "Date"):
        lacking = table.head(3).assign(**{name: table[name].head(3).where([True, False, True])})
        with refused(f"column {name!r} must have a value in every row, but it lacks 1 of 3."):
            days_around_closures(lacking)


def test_a_table_without_rows_or_without_an_open_day_has_no_days_around_closures(chain):
    table, _ = chain
    assert days_around_closures(table.iloc[:0]).shape == (0, len(COLUMNS) + 2)
    shut = days_around_closures(table.assign(Open=0))
    assert (shut[["AfterClosure", "BeforeClosure"]] == 0).all(axis=None)


# The leaderboard

prices = st.floats(1, 100)


@settings(max_examples=30)
@given(st.lists(st.tuples(prices, prices, prices, st.booleans()), min_size=2, max_size=20))
def test_a_board_scores_the_public_rows_and_the_others_apart(rows):
    actual, first, second, public = (np.array(column) for column in zip(*rows, strict=True))
    if public.all() or not public.any():
        return
    board = leaderboard({"first": first, "second": second}, actual, public)
    for name, pred in (("first", first), ("second", second)):
        for part, mask in (("public", public), ("private", ~public)):
            expected = rmspe(torch.from_numpy(pred[mask]), torch.from_numpy(actual[mask])).item()
            assert board.loc[name, part] == pytest.approx(expected)
    assert board["public"].is_monotonic_increasing
    for part in ("public", "private"):
        assert board.sort_values(part)[f"{part}_rank"].is_monotonic_increasing
        assert board[f"{part}_rank"].min() == 1


def test_who_wins_in_public_may_lose_in_private():
    actual = torch.tensor([10.0, 10.0, 10.0])
    submissions = {"steady": torch.full((3,), 11.0), "lucky": torch.tensor([10.0, 10.0, 20.0])}
    board = leaderboard(submissions, actual, torch.tensor([True, True, False]))
    assert list(board.index) == ["lucky", "steady"]
    assert board["public_rank"].tolist() == [1, 2]
    assert board["private_rank"].tolist() == [2, 1]
    assert board.loc["lucky"].tolist() == pytest.approx([0, 1, 1, 2])


@pytest.mark.parametrize("public", [[True, True], [False, False], [True], [1, 0]])
def test_a_board_has_two_parts(public):
    shown = torch.tensor(public)
    with refused(
        "public must hold True and False, both of them, one for each actual value, but it has "
        f"shape {tuple(shown.shape)} and dtype {shown.dtype} beside (2,)."
    ):
        leaderboard({"a": [1.0, 2.0]}, [1.0, 2.0], public)


def test_a_board_needs_submissions_of_the_right_length():
    with refused("submissions must hold at least one, but there is none."):
        leaderboard({}, [1.0, 2.0], [True, False])
    with refused("submission 'a' must have shape (2,), but it has (3,)."):
        leaderboard({"a": [1.0, 2.0, 3.0]}, [1.0, 2.0], [True, False])
    for value in (float("nan"), float("inf")):
        with refused("submission 'a' must hold finite numbers in every row."):
            leaderboard({"a": [1.0, value]}, [1.0, 2.0], [True, False])
