"""`glassbox.frames`: parts of dates against `datetime`, what a column is, the split by time."""

import calendar
import datetime as dt
import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassbox.frames import (
    DATE_PARTS,
    add_datepart,
    as_levels,
    as_numbers,
    cardinality,
    check_columns,
    check_rows,
    listed,
    split_by_time,
)

days = st.dates(dt.date(1900, 1, 1), dt.date(2200, 12, 31))


def refused(message, kind=ValueError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


# Dates


def by_hand(day):
    """Return the parts of a date, from Python's calendar."""
    last = calendar.monthrange(day.year, day.month)[1]
    first_of_quarter = day.month in (1, 4, 7, 10)
    return {
        "Year": day.year,
        "Month": day.month,
        "Week": day.isocalendar().week,
        "Day": day.day,
        "Dayofweek": day.weekday(),
        "Dayofyear": day.timetuple().tm_yday,
        "Is_month_start": day.day == 1,
        "Is_month_end": day.day == last,
        "Is_quarter_start": day.day == 1 and first_of_quarter,
        "Is_quarter_end": day.day == last and day.month % 3 == 0,
        "Is_year_start": (day.month, day.day) == (1, 1),
        "Is_year_end": (day.month, day.day) == (12, 31),
        "Elapsed": (day - dt.date(1970, 1, 1)).days * 86_400,
    }


@given(st.lists(days, min_size=1, max_size=6), st.sampled_from(["text", "date", "time"]))
def test_the_parts_of_a_date_are_those_of_the_calendar(dates, kind):
    convert = {"text": str, "date": lambda day: day, "time": pd.Timestamp}[kind]
    table = pd.DataFrame({"Date": [convert(day) for day in dates]})
    parts = add_datepart(table)
    for i, day in enumerate(dates):
        assert parts[list(DATE_PARTS)].iloc[i].to_dict() == by_hand(day)


def test_the_new_columns_come_last_and_the_table_is_left_alone():
    table = pd.DataFrame({"Date": ["2015-07-31"], "Sales": [5]}, index=[9])
    parts = add_datepart(table)
    assert list(parts) == ["Date", "Sales", *DATE_PARTS]
    assert list(parts.index) == [9]
    assert list(table) == ["Date", "Sales"]
    assert parts["Year"].dtype == "int64"
    assert parts["Week"].dtype == "int64"
    assert parts["Is_month_end"].dtype == bool


def test_the_date_can_be_left_out_and_the_names_have_a_prefix():
    parts = add_datepart(pd.DataFrame({"when": ["2015-07-31"]}), "when", prefix="Open", drop=True)
    assert list(parts) == ["Open" + part for part in DATE_PARTS]


def test_a_format_says_which_number_is_the_month():
    table = pd.DataFrame({"Date": ["03/04/2015"]})
    assert add_datepart(table, date_format="%d/%m/%Y")["Month"].item() == 4
    assert add_datepart(table, date_format="%m/%d/%Y")["Month"].item() == 3
    with refused(
        "column 'Date' must hold a date of the format ISO8601 in every row, but row 0 holds "
        "'03/04/2015'."
    ):
        add_datepart(table)


def test_a_time_of_day_and_a_zone_do_no_harm():
    times = pd.to_datetime(["2015-07-31T23:59:59+02:00"]).tz_convert("Europe/Berlin")
    parts = add_datepart(pd.DataFrame({"Date": times}))
    assert parts["Day"].item() == 31
    assert parts["Is_month_end"].item() is True
    assert parts["Elapsed"].item() == 1_438_379_999


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["2015-07-31", "soon"], "row 1 holds 'soon'"),
        (["2015-02-29", "2015-07-31"], "row 0 holds '2015-02-29'"),
        (["2015-07-31", None], "row 1 has none"),
        ([pd.NaT, pd.Timestamp("2015-07-31")], "row 0 has none"),
        ([None, None], "row 0 has none"),
        ([np.nan, np.nan], "row 0 has none"),
        (["2015-07-31", 20150731], "row 1 holds 20150731"),
        (pd.Categorical(["2015-07-31", "soon"]), "row 1 holds 'soon'"),
        (["0000-00-00"], "row 0 holds '0000-00-00'"),
    ],
)
def test_a_date_that_does_not_parse_is_named_with_its_row(values, found):
    table = pd.DataFrame({"Date": values})
    with refused(
        f"column 'Date' must hold a date of the format ISO8601 in every row, but {found}."
    ):
        add_datepart(table)


def test_numbers_are_no_dates():
    with refused("column 'Date' must hold dates or text, but its dtype is int64.", TypeError):
        add_datepart(pd.DataFrame({"Date": [20150731]}))


def test_dates_are_of_one_time_zone():
    with refused(
        "column 'Date' must hold dates of the format ISO8601 and of one time zone, but pandas "
        "cannot read them: Mixed timezones detected."
    ):
        add_datepart(pd.DataFrame({"Date": ["2015-07-31T00:00+02:00", "2015-12-31"]}))


@pytest.mark.parametrize("dates", [[], pd.to_datetime([])])
def test_a_table_without_rows_has_no_dates(dates):
    table = pd.DataFrame({"Date": dates})
    for function in (add_datepart, check_rows, lambda t: split_by_time(t, "2015-01-01")):
        with refused("table must have at least one row, but it has none."):
            function(table)


def test_a_new_column_never_replaces_an_old_one():
    table = pd.DataFrame({"Date": ["2015-07-31"], "Year": [1]})
    with refused("prefix must make names that are new, but the table has 'Year' already."):
        add_datepart(table)


# What a column is


def test_cardinality_counts_levels_and_suggests():
    table = pd.DataFrame(
        {
            "store": range(6),
            "many": np.arange(6) * 100,
            "state": ["a", "b", None, "a", "b", "a"],
            "holiday": [0.0, 1.0, np.nan, 0.0, 1.0, 0.0],
            "metres": [0.5, 1.5, 2.5, np.nan, np.nan, 1.5],
            "open": [True, False, True, True, True, True],
            "date": pd.date_range("2015-01-01", periods=6),
            "same": 3,
            "empty": None,
            "one or none": [1.0, None, None, 1.0, 1.0, 1.0],
        }
    )
    found = cardinality(table, max_levels=6)
    assert found["levels"].tolist() == [6, 6, 2, 2, 3, 2, 6, 1, 0, 1]
    assert found["missing"].tolist() == pytest.approx(
        [0, 0, 1 / 6, 1 / 6, 1 / 3, 0, 0, 0, 1, 1 / 3]
    )
    assert found["suggested"].tolist() == [
        *("category", "category", "category", "category", "number", "category"),
        *("date", "nothing", "nothing", "category"),
    ]
    assert cardinality(table, max_levels=5).loc[["store", "state"], "suggested"].tolist() == [
        "number",
        "category",
    ]
    with refused("max_levels must be a whole number of at least 1, but it is 0."):
        cardinality(table, max_levels=0)


def test_cardinality_of_a_table_without_rows():
    assert cardinality(pd.DataFrame({"a": []})).loc["a"].tolist() == [0, 0.0, "nothing"]


def test_cardinality_needs_values_that_can_be_compared():
    with refused(
        "column 'a' must hold text, numbers, dates or True and False, but it holds what cannot be "
        "compared, such as lists.",
        TypeError,
    ):
        cardinality(pd.DataFrame({"a": [[1], [2]]}))


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["b", None, "a"], "text", ["b", "a"]),
        (pd.Categorical(["b", None, "a"], categories=["z", "a", "b"]), "text", ["b", "a"]),
        ([2, 0, 1], "whole", [2, 0, 1]),
        ([2.0, np.nan, 1.0], "whole", [2, 1]),
        (pd.array([2, None, 1], dtype="Int64"), "whole", [2, 1]),
        ([True, None, False], "bool", [True, False]),
        ([None, None], "", []),
        ([np.nan, np.nan], "", []),
    ],
)
def test_the_levels_of_a_column_are_text_whole_or_bool(values, kind, expected):
    found, levels = as_levels(pd.DataFrame({"x": values}), "x")
    assert (found, levels.tolist()) == (kind, expected)
    assert kind != "whole" or levels.dtype == "int64"


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1.5, 2.0], "it holds 1.5"),
        ([1.0, float("inf")], "it holds inf"),
        ([1e300, 1.0], "it holds 1e+300"),
        (["a", 1], "its values are of the kind mixed-integer"),
        (pd.to_datetime(["2015-01-01"]), "its values are of the kind datetime64"),
    ],
)
def test_a_category_of_another_kind_is_refused(values, found):
    message = "column 'x' must hold text, whole numbers or True and False to be a category, but "
    with refused(f"{message}{found}.", TypeError):
        as_levels(pd.DataFrame({"x": values}), "x")


def test_numbers_of_any_kind_are_floats_and_what_is_missing_is_nan():
    for values in ([1, 2], [1.0, 2.0], [True, True], pd.array([1, None], dtype="Int64")):
        found = as_numbers(pd.DataFrame({"x": values}), "x")
        assert found.dtype == np.float64
    assert np.isnan(found).tolist() == [False, True]


def test_a_column_of_numbers_holds_finite_numbers():
    for value in (-np.inf, 1e39):
        with refused(
            f"column 'x' must hold finite numbers, up to 3.4e+38 in size, but row 1 holds {value}."
        ):
            as_numbers(pd.DataFrame({"x": [1.0, value]}), "x")
    with refused("column 'x' must hold numbers, but its dtype is object.", TypeError):
        as_numbers(pd.DataFrame({"x": pd.Series(["1"], dtype=object)}), "x")
    with refused("column 'x' must hold numbers, but its dtype is complex128.", TypeError):
        as_numbers(pd.DataFrame({"x": [1j]}), "x")


def test_a_table_has_the_columns_that_are_asked_for_each_once():
    with refused("table must be a DataFrame, but it is a dict.", TypeError):
        check_columns({}, [])
    with refused("table must have 'b', 'c' among its columns, which are 'a'."):
        check_columns(pd.DataFrame({"a": [1]}), ["a", "b", "c"])
    with refused("table must have each column once, but it has 'a' again."):
        check_columns(pd.DataFrame([[1, 2]], columns=["a", "a"]), ["a"])


def test_a_long_list_of_names_is_cut():
    assert listed(list(range(12))) == ", ".join(map(str, range(12)))
    assert listed(list(range(13))) == ", ".join(map(str, range(12))) + ", …"


def test_a_column_without_a_value_is_one_of_missing_numbers():
    for values in ([None, None], [np.nan, np.nan], [pd.NaT, pd.NaT]):
        assert np.isnan(as_numbers(pd.DataFrame({"x": values}), "x")).all()


# The split by time


@given(st.lists(days, min_size=2, max_size=30), st.data())
def test_every_training_row_is_older_than_every_validation_row(dates, data):
    if len(set(dates)) == 1:
        return
    cut = data.draw(st.sampled_from(sorted(set(dates))[1:]))
    train, valid = split_by_time(pd.DataFrame({"Date": dates}), str(cut))
    assert max(dates[i] for i in train) < cut <= min(dates[i] for i in valid)
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(len(dates)))
    assert train.dtype == valid.dtype == torch.int64


@pytest.mark.parametrize("cut", ["2015-01-01", "2015-01-04"])
def test_both_sides_of_a_split_hold_rows(cut):
    table = pd.DataFrame({"Date": pd.date_range("2015-01-01", "2015-01-03")})
    with refused(
        "valid_from must lie after the first date and not after the last, 2015-01-01 and "
        f"2015-01-03, but it is {cut}."
    ):
        split_by_time(table, cut)


@pytest.mark.parametrize("cut", ["soon", None, 20150102, "02/01/2015", [1]])
def test_the_cut_is_a_date(cut):
    table = pd.DataFrame({"Date": ["2015-01-01"]})
    with refused(f"valid_from must be a date such as 2015-06-20, but it is {cut!r}."):
        split_by_time(table, cut)


def test_the_cut_has_a_time_zone_where_the_dates_have_one():
    table = pd.DataFrame({"Date": pd.date_range("2015-01-01", periods=3, tz="UTC")})
    assert split_by_time(table, "2015-01-02T00:00Z")[1].tolist() == [1, 2]
    with refused(
        "valid_from must have a time zone if and only if the dates have one, but it has None and "
        "they have UTC."
    ):
        split_by_time(table, "2015-01-02")


def test_the_cut_is_the_first_day_of_the_validation_set():
    table = pd.DataFrame({"Date": ["2015-01-03", "2015-01-01", "2015-01-02"]})
    for cut in ("2015-01-02", pd.Timestamp("2015-01-02"), dt.date(2015, 1, 2)):
        train, valid = split_by_time(table, cut)
        assert (train.tolist(), valid.tolist()) == ([1], [0, 2])
