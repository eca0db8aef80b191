"""`glassbox.tabular`: against scikit-learn and pandas, and that validation rows leave no trace."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from glassbox.tabular import Category, Number, Prepared, TabularProcessor, prepare

words = st.text(max_size=4)
whole_numbers = st.integers(-(10**9), 10**9)
sizes = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))


def refused(message, kind=ValueError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def or_none(strategy):
    return st.one_of(st.none(), strategy)


@st.composite
def tables(draw):
    """Draw a table with categories of three kinds and numbers, of each some values missing."""
    n = draw(st.integers(4, 12))

    def column(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    table = pd.DataFrame(
        {
            "word": pd.Series(column(or_none(words)), dtype=object),
            "code": pd.Series(column(or_none(whole_numbers)), dtype=float),
            "flag": pd.Series(column(or_none(st.booleans())), dtype=object),
            "size": pd.Series(column(or_none(sizes)), dtype=float),
            "full": column(sizes),
            "y": column(st.floats(0.1, 1e6)),
        }
    )
    # Something to learn in the first rows, which every test trains on.
    table.loc[:1, "size"] = [1.0, 2.0]
    table.loc[:1, "full"] = [-1.0, 1.0]
    table.loc[0, ["word", "code", "flag"]] = ["a", 7.0, True]
    return table


CATEGORIES, NUMBERS = ["word", "code", "flag"], ["full", "size"]


def fit(table, rows):
    return TabularProcessor.fit(table, rows, categories=CATEGORIES, numbers=NUMBERS)


def of_columns(processor, x):
    """Return the inputs as a table with the names of the processor's columns."""
    names = [c.name for c in processor.categories] + [n.name for n in processor.numbers]
    return pd.DataFrame(x.numpy(), columns=names)


# Against pandas and scikit-learn


@settings(max_examples=40)
@given(tables())
def test_codes_are_scikit_learns_ordinal_codes_and_one(table):
    train = np.arange(len(table) // 2)
    table["size"] = table["size"].fillna(0.0)
    processor = fit(table, train)
    found = of_columns(processor, processor.transform(table))
    for name in CATEGORIES:
        column = table[name].astype(object).where(table[name].notna(), None)
        present = column.iloc[train][column.iloc[train].notna()]
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        encoder.fit(present.to_numpy(dtype=object)[:, None])
        known = column.notna().to_numpy()
        expected = np.zeros(len(table))
        if known.any():
            values = column[known].to_numpy(dtype=object)[:, None]
            expected[known] = encoder.transform(values)[:, 0] + 1
        assert found[name].tolist() == expected.tolist()


@settings(max_examples=40)
@given(tables())
def test_codes_are_those_of_a_pandas_categorical_and_one(table):
    processor = fit(table, np.arange(len(table)))
    found = of_columns(processor, processor.transform(table))
    for name in ("word", "code"):
        assert found[name].tolist() == (pd.Categorical(table[name]).codes + 1).tolist()


@settings(max_examples=40)
@given(tables())
def test_numbers_are_filled_and_scaled_as_scikit_learn_does(table):
    train = np.arange(len(table) // 2 + 1)
    table.loc[2, "size"] = np.nan
    processor = fit(table, [*train, 2])
    imputer, scaler = SimpleImputer(strategy="median"), StandardScaler()
    fitted = scaler.fit(imputer.fit_transform(table[NUMBERS].iloc[[*train, 2]]))
    expected = fitted.transform(imputer.transform(table[NUMBERS]))
    found = of_columns(processor, processor.transform(table))
    np.testing.assert_allclose(found[NUMBERS], expected, rtol=1e-4, atol=1e-5)
    assert found["size_na"].tolist() == (table["size"].isna() + 1).tolist()
    assert "full_na" not in found


@settings(max_examples=40)
@given(tables())
def test_training_rows_have_mean_zero_and_deviation_one(table):
    processor = fit(table, np.arange(len(table)))
    found = of_columns(processor, processor.transform(table))[NUMBERS].astype(float)
    assert found.mean().abs().max() < 1e-4
    assert (found.std(ddof=0) - 1).abs().max() < 1e-4


def test_a_processor_that_was_worked_out_by_hand():
    table = pd.DataFrame(
        {
            "state": ["north", None, "east", "north", "west"],
            "holiday": [1.0, 0.0, np.nan, 1.0, 2.0],
            "distance": [10.0, 30.0, np.nan, np.nan, 20.0],
        }
    )
    processor = TabularProcessor.fit(
        table, [0, 1, 2], categories=["state", "holiday"], numbers=["distance"]
    )
    assert processor.categories == (
        Category("state", "text", ("east", "north")),
        Category("holiday", "whole", (0, 1)),
        Category("distance_na", "bool", (False, True)),
    )
    deviation = math.sqrt(200 / 3)
    assert processor.numbers == (Number("distance", 20.0, 20.0, pytest.approx(deviation), True),)
    assert processor.cardinalities == {"state": 3, "holiday": 3, "distance_na": 3}
    x = processor.transform(table)
    expected = [
        [2, 2, 1, -10 / deviation],
        [0, 1, 1, 10 / deviation],
        [1, 0, 2, 0],
        [2, 2, 2, 0],
        [0, 0, 1, 0],  # a state and a holiday that no training row had
    ]
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, torch.tensor(expected))


# No trace of validation rows


@settings(max_examples=40)
@given(tables(), tables(), st.data())
def test_what_validation_rows_hold_changes_nothing_that_was_fitted(table, other, data):
    n = len(table)
    mixed = data.draw(st.permutations(range(2, n)))
    train = [0, 1, *mixed[: (n - 2) // 2]]
    valid = [i for i in range(n) if i not in train]
    replaced = table.copy()
    for i in valid:
        replaced.iloc[i] = other.iloc[i % len(other)]
    arguments = {"categories": CATEGORIES, "numbers": ["full"], "target": "y", "log_target": True}
    first = prepare(table, train, valid, **arguments)
    second = prepare(replaced, train, valid, **arguments)
    assert first.processor == second.processor
    assert first.processor.to_json() == second.processor.to_json()
    assert first.y_range() == second.y_range()
    for ours, theirs in zip(first.train, second.train, strict=True):
        assert torch.equal(ours, theirs)


@settings(max_examples=40)
@given(tables())
def test_a_processor_of_the_training_rows_alone_is_the_same(table):
    n = len(table) // 2
    assert fit(table, np.arange(n)) == fit(table.iloc[:n], np.arange(n))


def test_an_outlier_in_the_validation_rows_moves_nothing():
    table = pd.DataFrame({"x": [0.0, 2.0, 1e6], "c": ["a", "b", "z"], "y": [1.0, 2.0, 3.0]})
    ready = prepare(table, [0, 1], [2], target="y", categories=["c"], numbers=["x"])
    assert ready.processor.numbers == (Number("x", 1.0, 1.0, 1.0, False),)
    assert ready.processor.categories[0].levels == ("a", "b")
    assert ready.valid[0].tolist() == [[0.0, 999_999.0]]


def test_no_row_is_in_both_sets():
    table = pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": [1.0, 1.0, 1.0]})
    with refused("train_rows and valid_rows must share no row, but 1 are in both, such as 1."):
        prepare(table, [0, 1], [1, 2], target="y", numbers=["x"])


def test_a_processor_cannot_be_changed():
    processor = TabularProcessor.fit(TABLE, [0, 1], numbers=["x"])
    with pytest.raises(AttributeError):
        processor.numbers = ()
    with pytest.raises(AttributeError):
        processor.numbers[0].mean = 3.0


# In a table of another time


@settings(max_examples=40)
@given(tables())
def test_transform_is_row_by_row(table):
    processor = fit(table, np.arange(len(table)))
    whole_table = processor.transform(table)
    rows = [processor.transform(table.iloc[[i]]) for i in range(len(table))]
    assert torch.equal(torch.cat(rows), whole_table)


def test_transform_leaves_the_table_alone_and_needs_no_target():
    table = pd.DataFrame({"c": ["a", "b"], "x": [1.0, None], "y": [1, 2]}, index=[7, 7])
    kept = table.copy()
    processor = TabularProcessor.fit(table, [0, 1, 0], categories=["c"], numbers=[])
    processor.transform(table[["c"]])
    pd.testing.assert_frame_equal(table, kept)
    assert processor.transform(table.iloc[:0]).shape == (0, 1)


def test_an_unseen_category_has_the_unknown_level():
    processor = TabularProcessor.fit(pd.DataFrame({"c": ["b", "d"]}), [0, 1], categories=["c"])
    codes = processor.transform(pd.DataFrame({"c": ["a", "b", "c", "d", None, "e"]}))
    assert codes.flatten().tolist() == [0, 1, 0, 2, 0, 0]
    nothing = processor.transform(pd.DataFrame({"c": [None, None]}))
    assert nothing.tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("fitted", "given", "message"),
    [
        ([1, 2], ["1", "2"], "whole numbers, as in the training rows, but it holds text"),
        (["1", "2"], [1, 2], "text, as in the training rows, but it holds whole numbers"),
        (
            [1, 0],
            [True, False],
            "whole numbers, as in the training rows, but it holds True and False",
        ),
    ],
)
def test_a_category_keeps_its_kind(fitted, given, message):
    processor = TabularProcessor.fit(pd.DataFrame({"c": fitted}), [0, 1], categories=["c"])
    with refused(f"column 'c' must hold {message}.", TypeError):
        processor.transform(pd.DataFrame({"c": given}))


def test_a_number_that_was_never_missing_must_not_be_later():
    processor = TabularProcessor.fit(pd.DataFrame({"x": [1.0, 2.0]}), [0, 1], numbers=["x"])
    with refused(
        "column 'x' must have a value in every row, as in the training rows, but it lacks 2 of 3."
    ):
        processor.transform(pd.DataFrame({"x": [1.0, None, None]}))


def test_a_column_that_is_not_there_is_named():
    processor = TabularProcessor.fit(
        pd.DataFrame({"c": ["a"], "d": ["a"]}), [0], categories=["c", "d"]
    )
    with refused("table must have 'd' among its columns, which are 'c', 'e'."):
        processor.transform(pd.DataFrame({"c": ["a"], "e": ["a"]}))


# Bad input when fitting

TABLE = pd.DataFrame(
    {
        "c": ["a", "b", None, None],
        "x": [1.0, 2.0, None, None],
        "same": [3, 3, 3, 4],
        "text": ["1", "2", "3", "4"],
        "time": pd.date_range("2015-01-01", periods=4),
        "inf": [1.0, float("inf"), 2.0, 3.0],
        "x_na": [True, False, True, False],
        "nothing": [None] * 4,
    }
)


@pytest.mark.parametrize(
    ("rows", "columns", "kind", "message"),
    [
        (
            [2, 3],
            {"categories": ["c"]},
            ValueError,
            "column 'c' must have a value in some training row, but all 2 are missing.",
        ),
        (
            [2, 3],
            {"numbers": ["x"]},
            ValueError,
            "column 'x' must have a value in some training row, but all 2 are missing.",
        ),
        (
            [0, 1],
            {"numbers": ["nothing"]},
            ValueError,
            "column 'nothing' must have a value in some training row, but all 2 are missing.",
        ),
        (
            [0, 1, 2],
            {"numbers": ["same"]},
            ValueError,
            "column 'same' must vary in the training rows, but all of its values are 3: leave it "
            "out.",
        ),
        (
            [0, 1],
            {"numbers": ["text"]},
            TypeError,
            f"column 'text' must hold numbers, but its dtype is {TABLE['text'].dtype}.",
        ),
        (
            [0, 1],
            {"categories": ["time"]},
            TypeError,
            "column 'time' must hold text, whole numbers or True and False to be a category, but "
            "its values are of the kind datetime64.",
        ),
        (
            [0, 1],
            {"numbers": ["inf"]},
            ValueError,
            "column 'inf' must hold finite numbers, up to 3.4e+38 in size, but row 1 holds inf.",
        ),
        (
            [0, 1, 2],
            {"categories": ["x_na"], "numbers": ["x"]},
            ValueError,
            "numbers must leave 'x_na' free for what is missing.",
        ),
        (
            [0, 1],
            {"categories": "c"},
            TypeError,
            "categories must be a list of names, but it is 'c'.",
        ),
        ([0, 1], {"numbers": None}, TypeError, "numbers must be a list of names, but it is None."),
        (
            [[0], [1, 2]],
            {"categories": ["c"]},
            ValueError,
            "train_rows must hold at least one row number, in one dimension, but it has shape (2,) "
            "and dtype object.",
        ),
        (
            [0, 1],
            {"categories": ["c"], "numbers": ["c"]},
            ValueError,
            "categories and numbers must name at least one column, each of them once, but they are "
            "['c'] and ['c'].",
        ),
        (
            [0, 1],
            {},
            ValueError,
            "categories and numbers must name at least one column, each of them once, but they are "
            "[] and [].",
        ),
        (
            [],
            {"categories": ["c"]},
            ValueError,
            "train_rows must hold at least one row number, in one dimension, but it has shape (0,) "
            "and dtype float64.",
        ),
        (
            [True, False, True, False],
            {"categories": ["c"]},
            ValueError,
            "train_rows must hold at least one row number, in one dimension, but it has shape (4,) "
            "and dtype bool.",
        ),
        (
            [0, 4],
            {"categories": ["c"]},
            ValueError,
            "train_rows must lie between 0 and 3, but they go from 0 to 4.",
        ),
        (
            [-1, 2],
            {"categories": ["c"]},
            ValueError,
            "train_rows must lie between 0 and 3, but they go from -1 to 2.",
        ),
    ],
)
def test_fit_refuses(rows, columns, kind, message):
    with refused(message, kind):
        TabularProcessor.fit(TABLE, rows, **columns)


def test_fit_needs_rows():
    with refused("table must have at least one row, but it has none."):
        TabularProcessor.fit(TABLE.iloc[:0], [0], categories=["c"])
    with refused("table must have at least one row, but it has none."):
        prepare(TABLE.iloc[:0], [0], [1], target="same", categories=["c"])


def test_two_columns_of_one_name_are_refused():
    twice = pd.DataFrame([["a", "b", 1.0]] * 2, columns=["c", "c", "x"])
    processor = TabularProcessor.fit(TABLE, [0, 1], categories=["c"])
    for function in (
        lambda: TabularProcessor.fit(twice, [0, 1], categories=["c"]),
        lambda: processor.transform(twice),
        lambda: prepare(twice, [0], [1], target="x", categories=["c"]),
    ):
        with refused("table must have each column once, but it has 'c' again."):
            function()


def test_a_later_column_without_a_value_is_all_missing():
    table = pd.DataFrame({"c": ["a", "b", "a"], "x": [1.0, None, 3.0]})
    processor = TabularProcessor.fit(table, [0, 1, 2], categories=["c"], numbers=["x"])
    for nothing in (None, np.nan):
        x = processor.transform(pd.DataFrame({"c": [None, None], "x": [nothing, nothing]}))
        assert x.tolist() == [[0.0, 2.0, 0.0]] * 2


def test_a_number_too_large_to_be_scaled_is_refused():
    processor = TabularProcessor.fit(pd.DataFrame({"x": [1.0, 1.0 + 1e-12]}), [0, 1], numbers=["x"])
    with refused(
        "column 'x' must hold numbers of a size like those of the training rows, from which 1e+38 "
        "is too far away to be scaled."
    ):
        processor.transform(pd.DataFrame({"x": [1e38]}))
    with refused(
        "column 'x' must hold finite numbers, up to 3.4e+38 in size, but row 0 holds inf."
    ):
        processor.transform(pd.DataFrame({"x": [float("inf")]}))


# In a file


@settings(max_examples=40)
@given(tables())
def test_a_processor_comes_back_from_text_as_it_was(table):
    processor = fit(table, np.arange(len(table)))
    again = TabularProcessor.from_json(processor.to_json())
    assert again == processor
    assert torch.equal(again.transform(table), processor.transform(table))


def test_a_processor_comes_back_from_a_file(tmp_path):
    processor = TabularProcessor.fit(TABLE, [0, 1, 2], categories=["c"], numbers=["x"])
    path = tmp_path / "processor.json"
    for _ in range(2):  # the second time it replaces the file
        processor.save(path)
    assert TabularProcessor.load(path) == processor
    assert json.loads(path.read_text())["categories"][0]["levels"] == ["a", "b"]
    assert [p.name for p in tmp_path.iterdir()] == ["processor.json"]


def test_a_processor_is_saved_in_a_folder_that_is_there(tmp_path):
    processor = TabularProcessor.fit(TABLE, [0, 1], categories=["c"])
    with refused(f"path must lie in a folder, but {tmp_path / 'no'} is none.", FileNotFoundError):
        processor.save(tmp_path / "no" / "processor.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"glassbox tabular processor": 2}', "no"])
def test_what_is_no_processor_is_refused(text):
    with refused(f"text must be what TabularProcessor.to_json wrote, but it begins with {text!r}."):
        TabularProcessor.from_json(text)


def test_a_processor_with_a_part_missing_is_refused():
    text = TabularProcessor.fit(TABLE, [0, 1], numbers=["x"]).to_json().replace('"std"', '"sdt"')
    with pytest.raises(ValueError, match=r"^text must be what TabularProcessor.to_json wrote"):
        TabularProcessor.from_json(text)


# Targets


def test_targets_are_a_column_and_their_logarithm_if_wanted():
    table = pd.DataFrame({"x": [0.0, 1.0, 5.0], "y": [1, 10, 100]})
    plain = prepare(table, torch.tensor([0, 1]), torch.tensor([2]), target="y", numbers=["x"])
    assert isinstance(plain, Prepared)
    assert plain.train[1].tolist() == [[1], [10]]
    assert plain.valid[1].tolist() == [[100]]
    logs = prepare(table, [0, 1], [2], target="y", numbers=["x"], log_target=True)
    torch.testing.assert_close(logs.valid[1], torch.tensor([[math.log(100)]]))
    assert logs.train[1].dtype == torch.float32


def test_the_range_of_the_targets_is_that_of_the_training_rows_and_a_little_wider():
    table = pd.DataFrame({"x": [0.0, 1.0, 5.0], "y": [1.0, 11.0, 100.0]})
    ready = prepare(table, [0, 1], [2], target="y", numbers=["x"])
    assert ready.y_range() == (0.0, 12.0)
    assert ready.y_range(0.5) == (-4.0, 16.0)
    with refused("margin must be at least 0, but it is -1."):
        ready.y_range(-1)


@pytest.mark.parametrize(
    ("y", "log", "kind", "message"),
    [
        (
            [1.0, 0.0, 2.0],
            True,
            ValueError,
            "column 'y' must be positive for its logarithm, but its least value is 0.",
        ),
        (
            [1.0, None, 2.0],
            False,
            ValueError,
            "column 'y' must have a value in every row, but it lacks 1 of 2.",
        ),
        (
            ["1", "2", "3"],
            False,
            TypeError,
            "column 'y' must hold numbers, but its dtype is object.",
        ),
    ],
)
def test_a_target_that_cannot_be_is_refused(y, log, kind, message):
    y = pd.Series(y, dtype=object if isinstance(y[0], str) else None)
    table = pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": y})
    with refused(message, kind):
        prepare(table, [0, 1], [2], target="y", numbers=["x"], log_target=log)


def test_the_target_is_no_input():
    with refused("target must not be among the inputs, but 'x' is."):
        prepare(TABLE, [0], [1], target="x", numbers=["x"])
