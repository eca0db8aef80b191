"""`glassbox.rossmann`: the loader of a reader's own files, on fabricated ones of the same form."""

import re

import numpy as np
import pandas as pd
import pytest

from glassbox.entities import TabularModel
from glassbox.frames import add_datepart, split_by_time
from glassbox.retail import COLUMNS, days_around_closures, retail_chain
from glassbox.rossmann import load_rossmann
from glassbox.tabular import prepare


def refused(message, kind=ValueError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


TRAIN = """Store,DayOfWeek,Date,Sales,Customers,Open,Promo,StateHoliday,"SchoolHoliday"
2,5,2015-07-31,6064,625,1,1,"0","1"
1,5,2015-07-31,5263,555,1,1,"0","1"
1,4,2015-07-30,0,0,0,1,"a","0"
2,4,2015-07-30,0,0,0,1,"a","0"
"""
STORE = """"Store","StoreType","Assortment","CompetitionDistance","Promo2","PromoInterval"
1,"c","a",1270,0,""
2,"a","a",,1,"Jan,Apr,Jul,Oct"
3,"d","c",5,0,""
"""
STATES = "Store,State\n1,HE\n2,TH\n3,BE\n"


@pytest.fixture
def folder(tmp_path):
    """Return a folder with files of the competition's form, none of them its own."""
    for name, text in (("train.csv", TRAIN), ("store.csv", STORE), ("store_states.csv", STATES)):
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_readers_files_have_the_columns_and_types_of_the_simulation(folder):
    table = load_rossmann(folder)
    simulated, _ = retail_chain(12)
    assert list(table) == list(simulated)
    kinds = {c: (table[c].dtype.kind, simulated[c].dtype.kind) for c in COLUMNS}
    assert all(ours == theirs for ours, theirs in kinds.values()), kinds
    assert table["Store"].tolist() == [1, 2, 1, 2]
    assert table["Sales"].tolist() == [0, 0, 5263, 6064]
    assert table["StateHoliday"].tolist() == ["a", "a", "0", "0"]
    assert table["State"].tolist() == ["HE", "TH", "HE", "TH"]
    assert table["Date"].iloc[0] == pd.Timestamp("2015-07-30")
    assert table["CompetitionDistance"].isna().tolist() == [False, True, False, True]


def test_without_a_file_of_states_the_state_is_unknown(folder):
    (folder / "store_states.csv").unlink()
    assert load_rossmann(folder)["State"].unique().tolist() == ["unknown"]


@pytest.mark.parametrize("name", ["train.csv", "store.csv"])
def test_a_file_that_is_not_there_is_named(folder, name):
    (folder / name).unlink()
    with refused(f"folder must hold {name}, but {folder / name} is not there.", FileNotFoundError):
        load_rossmann(folder)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "train.csv",
            "Promo",
            "Deal",
            "train.csv must have the column 'Promo', but it has not.",
        ),
        (
            "store.csv",
            "Assortment",
            "Goods",
            "store.csv must have the column 'Assortment', but it has not.",
        ),
        (
            "store.csv",
            '2,"a"',
            '4,"a"',
            "store.csv must describe each store of train.csv once, but it lacks 2.",
        ),
        (
            "store_states.csv",
            "2,TH",
            "1,TH",
            "store_states.csv must describe each store of train.csv once, but it lacks 2.",
        ),
        (
            "store_states.csv",
            "3,BE",
            "2,BE",
            "store_states.csv must describe each store of train.csv once, but it has one of them "
            "twice.",
        ),
        (
            "train.csv",
            "1,5,2015-07-31",
            "1,5,31.07.2015",
            "train.csv must hold dates such as 2015-07-31, but its row 1 holds '31.07.2015'.",
        ),
        (
            "train.csv",
            "1,4,2015-07-30",
            "1,4,2015-07-31",
            "train.csv must have each day of a store once, but it has 2015-07-31 of store 1 again.",
        ),
        (
            "train.csv",
            "6064,625",
            "many,625",
            "train.csv must hold whole numbers in 'Sales', but row 0 holds 'many'.",
        ),
        (
            "train.csv",
            "6064,625",
            "inf,625",
            "train.csv must hold whole numbers in 'Sales', but row 0 holds 'inf'.",
        ),
        (
            "train.csv",
            "6064,625,1,",
            "6064,625,,",
            "train.csv must have a value of 'Open' in every row, but row 0 has none.",
        ),
        (
            "store.csv",
            "1270",
            "far",
            "store.csv must hold numbers in 'CompetitionDistance', but row 0 holds 'far'.",
        ),
        (
            "store.csv",
            STORE,
            STORE.splitlines()[0],
            "store.csv must have at least one row, but it has none.",
        ),
        (
            "store_states.csv",
            STATES,
            "",
            "store_states.csv must be a table in commas, but it cannot be read as one.",
        ),
        (
            "train.csv",
            '0,0,0,1,"a","0"\n2',
            '0,0,0,1,"a","0",9,9\n2',
            "train.csv must be a table in commas, but it cannot be read as one.",
        ),
    ],
)
def test_files_of_another_form_are_refused(folder, name, old, new, message):
    path = folder / name
    path.write_text(path.read_text().replace(old, new))
    with refused(message):
        load_rossmann(folder)


def fabricate(folder):
    """Write a simulated chain in the form of the competition's files, in its own odd ways."""
    rng = np.random.default_rng(0)
    table, _ = retail_chain(24)
    of_store = ["Store", "StoreType", "Assortment", "CompetitionDistance"]
    stores = table[of_store].drop_duplicates("Store").sample(frac=1, random_state=0)
    stores.assign(Promo2=0, PromoInterval="").to_csv(folder / "store.csv", index=False)
    states = table[["Store", "State"]].drop_duplicates("Store")
    states.sample(frac=1, random_state=0).to_csv(folder / "store_states.csv", index=False)
    train = table[list(COLUMNS[:8])].assign(SchoolHoliday=table["SchoolHoliday"].fillna(0))
    train = train.astype({"SchoolHoliday": int})
    train["DayOfWeek"] = train["Date"].dt.day_of_week + 1
    train.loc[train.index[train["Open"] == 1][:5], ["Sales", "Customers"]] = 0
    # The first rows write a day that is no holiday as a number, the others as text.
    train["StateHoliday"] = train["StateHoliday"].astype(object)
    train = train.iloc[rng.permutation(len(train))][rng.permutation(train.columns)]
    train.loc[train["StateHoliday"] == "0", "StateHoliday"] = 0
    train.to_csv(folder / "train.csv", index=False)
    return table


def test_rows_and_columns_in_any_order_give_the_same_table(tmp_path):
    table = fabricate(tmp_path)
    found = load_rossmann(tmp_path)
    assert len(found) == len(table)
    assert found["StateHoliday"].tolist() == table["StateHoliday"].tolist()
    sold_nothing = (found["Open"] == 1) & (found["Sales"] == 0)
    assert sold_nothing.sum() == 5
    same = ~sold_nothing.to_numpy()
    for name in set(COLUMNS) - {"SchoolHoliday"}:
        pd.testing.assert_series_equal(found[name][same], table[name][same], check_dtype=False)


def test_a_readers_files_go_through_the_chapters_steps(tmp_path):
    fabricate(tmp_path)
    table = days_around_closures(load_rossmann(tmp_path))
    sales = add_datepart(table[table["Sales"] > 0].reset_index(drop=True))
    train_rows, valid_rows = split_by_time(sales, "2015-06-20")
    ready = prepare(
        sales,
        train_rows,
        valid_rows,
        target="Sales",
        categories=["Store", "State", "StateHoliday", "Dayofweek", "AfterClosure"],
        numbers=["CompetitionDistance", "Elapsed"],
        log_target=True,
    )
    model = TabularModel(list(ready.processor.cardinalities.values()), 2, y_range=ready.y_range())
    assert "CompetitionDistance_na" in ready.processor.cardinalities
    assert model.eval()(ready.valid[0]).isfinite().all()


def test_a_file_written_elsewhere_may_begin_with_a_byte_order_mark(folder):
    path = folder / "store.csv"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert load_rossmann(folder)["StoreType"].tolist() == ["c", "a", "c", "a"]
