"""`glassbox.fairness`: rates against hand-computed tables, against scikit-learn, and their laws."""

import math
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_auc_score

from glassbox.fairness import (
    RATES,
    Counts,
    at_or_above,
    auc,
    calibration,
    count,
    count_by_group,
    implied_false_positive_rate,
    rates_by_group,
    trade_off,
)
from glassbox.recidivism import COMPAS_PUBLISHED, COMPAS_SCORES, compas_people

cells = st.integers(1, 500)
tables = st.builds(Counts, cells, cells, cells, cells)
yes_or_no = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


# A table worked out by hand: 10 people, 4 positive; 3 of the 4 found, 1 of the 6 flagged wrongly.
PREDICTED = torch.tensor([1, 1, 1, 0, 1, 0, 0, 0, 0, 0])
ACTUAL = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])


def test_a_table_that_was_worked_out_by_hand():
    table = count(PREDICTED, ACTUAL)
    assert table == Counts(3, 1, 1, 5)
    assert (table.positives, table.negatives, table.flagged, table.total) == (4, 6, 4, 10)
    assert table.base_rate == 0.4
    assert table.flagged_rate == 0.4
    assert table.accuracy == 0.8
    assert table.false_positive_rate == pytest.approx(1 / 6)
    assert table.false_negative_rate == 0.25
    assert table.precision == 0.75


@pytest.mark.parametrize(
    ("group", "in_the_notebook", "in_the_article"),
    [
        ("African-American", (44.85, 27.99), (44.9, 28.0)),
        ("Caucasian", (23.45, 47.72), (23.5, 47.7)),
    ],
)
def test_propublicas_rates_to_the_digit(group, in_the_notebook, in_the_article):
    table = COMPAS_PUBLISHED[group]
    exact = [100 * table.false_positive_rate, 100 * table.false_negative_rate]
    twice = [Decimal(f"{rate:.2f}") for rate in exact]
    assert tuple(map(float, twice)) == in_the_notebook
    # The article's figures are the notebook's, rounded once more: 44.847 became 44.85 became 44.9.
    once_more = [rate.quantize(Decimal("0.1"), ROUND_HALF_UP) for rate in twice]
    assert tuple(map(float, once_more)) == in_the_article


def test_the_scores_add_up_to_the_published_tables():
    people = compas_people()
    flagged = at_or_above(people.score, 5)
    assert count_by_group(flagged, people.actual, people.group, people.names) == COMPAS_PUBLISHED
    assert (len(people.score), int(people.score.min()), int(people.score.max())) == (6150, 1, 10)
    for i, name in enumerate(people.names):
        here = people.group == i
        for came_true, numbers in zip((False, True), COMPAS_SCORES[name], strict=True):
            score = people.score[here & (people.actual == came_true)]
            assert torch.bincount(score, minlength=11)[1:].tolist() == list(numbers)


@given(yes_or_no)
def test_counts_are_scikit_learns(pairs):
    said, so = (torch.tensor(x) for x in zip(*pairs, strict=True))
    ((tn, fp), (fn, tp)) = confusion_matrix(so, said, labels=[False, True])
    assert count(said, so) == Counts(int(tp), int(fp), int(fn), int(tn))
    assert count(said.long(), so.double()) == count(said, so)


@given(tables)
def test_the_rates_follow_from_one_another(table):
    assert min(getattr(table, name) for name in RATES) >= 0
    assert max(getattr(table, name) for name in RATES) <= 1
    wrong = (1 - table.base_rate) * table.false_positive_rate
    wrong += table.base_rate * table.false_negative_rate
    assert 1 - table.accuracy == pytest.approx(wrong)
    found = table.base_rate * (1 - table.false_negative_rate)
    assert table.precision == pytest.approx(found / table.flagged_rate)


@given(tables)
def test_three_figures_force_the_fourth(table):
    forced = implied_false_positive_rate(
        table.base_rate, table.precision, table.false_negative_rate
    )
    assert forced == pytest.approx(table.false_positive_rate)


@given(st.floats(0.05, 0.45), st.floats(0.01, 0.4), st.floats(0.2, 0.95), st.floats(0.05, 0.9))
def test_with_other_base_rates_not_all_three_can_be_equal(base, more, precision, missed):
    low = implied_false_positive_rate(base, precision, missed)
    assert implied_false_positive_rate(base + more, precision, missed) > low


@given(st.floats(0.05, 0.95), st.floats(0, 1))
def test_only_a_faultless_flag_escapes(base_rate, missed):
    assert implied_false_positive_rate(base_rate, 1.0, missed) == 0


def test_each_group_has_its_own_table():
    group = torch.tensor([0] * 5 + [1] * 5)
    tables = count_by_group(PREDICTED, ACTUAL, group, ("first", "second", "nobody"))
    assert tables["first"] == Counts(3, 1, 1, 0, "first")
    assert tables["second"] == Counts(0, 0, 0, 5, "second")
    assert tables["nobody"] == Counts(0, 0, 0, 0, "nobody")


@given(yes_or_no, st.integers(0, 2**32 - 1))
def test_the_groups_add_up_to_all(pairs, seed):
    said, so = (torch.tensor(x) for x in zip(*pairs, strict=True))
    group = torch.randint(3, (len(so),), generator=torch.Generator().manual_seed(seed))
    tables = count_by_group(said, so, group, ("a", "b", "c")).values()
    together = count(said, so)
    for cell in ("true_positive", "false_positive", "false_negative", "true_negative"):
        assert sum(getattr(table, cell) for table in tables) == getattr(together, cell)


def test_a_group_without_positives_is_one_clear_sentence():
    tables = count_by_group(PREDICTED, ACTUAL, torch.tensor([0] * 5 + [1] * 5), ("first", "second"))
    sentence = "The false negative rate of group 'second' is not defined: it has no positive."
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        rates_by_group({"second": tables["second"]})


def test_or_its_rate_is_nan_when_that_is_asked_for():
    frame = rates_by_group({"all no": Counts(0, 2, 0, 8)}, undefined="nan")
    assert math.isnan(frame.loc["all no", "false_negative_rate"])
    assert frame.loc["all no", "false_positive_rate"] == 0.2
    assert frame.loc["all no", "people"] == 10
    assert list(frame.columns) == ["people", *RATES]
    with pytest.raises(ValueError, match="undefined must be 'raise' or 'nan', but it is 'zero'"):
        rates_by_group({}, undefined="zero")


@pytest.mark.parametrize(
    ("table", "rate", "kind"),
    [
        (Counts(3, 0, 1, 0, "g"), "false_positive_rate", "negative"),
        (Counts(0, 0, 1, 1, "g"), "precision", "member predicted yes"),
        (Counts(0, 0, 0, 0, "g"), "base_rate", "member"),
        (Counts(0, 0, 0, 0, "g"), "flagged_rate", "member"),
        (Counts(0, 0, 0, 0, "g"), "accuracy", "member"),
    ],
)
def test_a_rate_without_a_denominator_says_whose(table, rate, kind):
    words = rate.replace("_", " ")
    with pytest.raises(ValueError, match=f"^The {words} of group 'g' is not defined: .* no {kind}"):
        getattr(table, rate)


def test_calibration_counts_each_score_of_each_group():
    score = torch.tensor([1, 1, 2, 2, 2, 1])
    actual = torch.tensor([0, 1, 1, 1, 0, 1])
    group = torch.tensor([0, 0, 0, 0, 0, 1])
    frame = calibration(score, actual, group, ("a", "b"))
    assert frame.index.tolist() == [1, 2]
    assert frame["a", "share"].tolist() == pytest.approx([0.5, 2 / 3])
    assert frame["a", "people"].tolist() == [2, 3]
    assert frame["b", "people"].tolist() == [1, 0]
    assert frame["b", "share"][1] == 1
    assert math.isnan(frame["b", "share"][2])
    assert frame.index.name == "score"


@pytest.mark.parametrize(
    ("score", "actual", "group", "sentence"),
    [
        ([1, 2], [0, 2], [0, 0], "actual must hold zeros and ones"),
        ([1, 2, 3], [0, 1], [0, 0], "score has 3, actual has 2, group has 2"),
        ([1, 2], [0, 1], [0, 0, 1], "score has 2, actual has 2, group has 3"),
        ([1, 2], [0, 1], [0, 2], "positions in the 2 names"),
    ],
)
def test_calibration_refuses_what_does_not_fit(score, actual, group, sentence):
    with pytest.raises(ValueError, match=sentence):
        calibration(*map(torch.tensor, (score, actual, group)), ("a", "b"))


scored = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60).filter(
    lambda pairs: len({so for _, so in pairs}) == 2
)


@given(scored)
def test_auc_is_scikit_learns(pairs):
    score, so = (torch.tensor(x) for x in zip(*pairs, strict=True))
    assert auc(score, so) == pytest.approx(roc_auc_score(so, score))


@given(scored)
def test_a_higher_threshold_flags_fewer(pairs):
    score, so = (torch.tensor(x) for x in zip(*pairs, strict=True))
    frame = trade_off(score, so)
    assert frame["false_positive_rate"].is_monotonic_decreasing
    assert frame["false_negative_rate"].is_monotonic_increasing
    assert frame.iloc[0, :2].tolist() == [1, 0]
    assert frame.iloc[-1, :2].tolist() == [0, 1]
    assert np.isnan(frame.iloc[-1, 2])
    for threshold, row in frame.iloc[:-1].iterrows():
        table = count(score >= threshold, so)
        assert tuple(row) == (
            table.false_positive_rate,
            table.false_negative_rate,
            table.precision,
        )


def test_a_threshold_includes_itself():
    assert at_or_above(torch.tensor([4, 5, 6]), 5).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Counts(-1, 0, 0, 0), "true_positive must be a whole number of at least 0"),
        (lambda: Counts(1, True, 0, 0), "false_positive must be a whole number"),
        (lambda: Counts(1, 1, 0.5, 0), "false_negative must be a whole number"),
        (lambda: count(PREDICTED, ACTUAL[:9]), "must have as many values, but predicted has 10"),
        (lambda: count(PREDICTED + 1, ACTUAL), "predicted must hold zeros and ones"),
        (lambda: count(PREDICTED, ACTUAL[:, None]), r"actual must be a tensor of shape \(n,\)"),
        (lambda: count([1, 0], ACTUAL), "predicted must be a tensor .* but it is of list"),
        (
            lambda: count_by_group(PREDICTED, ACTUAL, torch.full((10,), 2), ("a", "b")),
            "group must hold positions in the 2 names, from 0 to 1, but it goes from 2 to 2",
        ),
        (
            lambda: count_by_group(PREDICTED, ACTUAL, torch.zeros(10), ("a",)),
            "group must hold whole numbers",
        ),
        (lambda: calibration(ACTUAL, ACTUAL, ACTUAL[:3], ("a", "b")), "as many values"),
        (lambda: auc(PREDICTED, torch.ones(10)), "actual must hold a yes and a no"),
        (lambda: trade_off(PREDICTED, torch.zeros(10)), "false negative rate of group 'all'"),
        (lambda: implied_false_positive_rate(1, 0.5, 0.5), "base_rate must lie between 0 and 1"),
        (lambda: implied_false_positive_rate(0.5, 0, 0.5), "precision must be above 0"),
        (lambda: implied_false_positive_rate(0.5, 0.5, 2), "false_negative_rate must be from 0"),
    ],
)
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
