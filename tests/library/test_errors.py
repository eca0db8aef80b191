"""`glassbox.errors`: tables against scikit-learn's, planted wrong labels found."""

import re

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch.nn import functional as F

from glassbox.errors import (
    confusion,
    folds,
    most_confused,
    report,
    show_confusion,
    suspect_labels,
    top_losses,
)

LABELS = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.just(k),
        st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=30),
    )
)


def rand(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(LABELS)
def test_the_confusion_matrix_is_scikit_learns(drawn):
    k, pairs = drawn
    target, pred = torch.tensor(pairs).unbind(1)
    table = confusion(pred, target, k)
    expected = confusion_matrix(target, pred, labels=range(k))
    assert (table.to_numpy() == expected).all()
    assert table.to_numpy().sum() == len(pairs)


def test_rows_are_actual_and_columns_predicted_and_say_so():
    table = confusion(torch.tensor([1, 1, 0]), torch.tensor([0, 0, 1]), ["cat", "dog"])
    assert (table.index.name, table.columns.name) == ("actual", "predicted")
    assert table.loc["cat", "dog"] == 2
    assert table.loc["dog", "cat"] == 1


def test_logits_are_read_as_their_largest():
    logits, target = rand(20, 4), torch.arange(20) % 4
    pd.testing.assert_frame_equal(
        confusion(logits, target, 4), confusion(logits.argmax(1), target, 4)
    )


@given(LABELS)
def test_the_report_is_scikit_learns(drawn):
    k, pairs = drawn
    target, pred = torch.tensor(pairs).unbind(1)
    ours = report(confusion(pred, target, k))
    theirs = precision_recall_fscore_support(
        target, pred, labels=range(k), zero_division=float("nan")
    )
    assert list(ours.columns) == ["precision", "recall", "f1", "count"]
    for name, expected in zip(ours.columns, theirs, strict=True):
        torch.testing.assert_close(
            torch.tensor(ours[name].to_numpy(dtype=float)),
            torch.tensor(expected).double(),
            equal_nan=True,
        )


def test_a_class_that_was_never_predicted_has_no_precision():
    row = report(confusion(torch.tensor([0, 0]), torch.tensor([0, 1]), 2)).loc[1]
    assert row["precision"] != row["precision"]
    assert (row["recall"], row["f1"], row["count"]) == (0, 0, 1)


def test_the_most_confused_pairs_come_first_and_the_right_ones_not_at_all():
    target = torch.tensor([0] * 9 + [1] * 5 + [2] * 4)
    pred = torch.tensor([0] * 6 + [2] * 3 + [1] * 4 + [0] + [2] * 2 + [1] * 2)
    table = confusion(pred, target, ["a", "b", "c"])
    found = most_confused(table)
    assert found.to_numpy().tolist() == [["a", "c", 3], ["c", "b", 2], ["b", "a", 1]]
    assert len(most_confused(table, at_least=2)) == 2
    assert most_confused(table, at_least=9).empty
    assert table.loc["a", "a"] == 6, "the table is left as it was"


def test_the_picture_of_the_table_has_named_axes_and_every_count():
    table = confusion(torch.tensor([1, 1, 0]), torch.tensor([0, 0, 1]), ["cat", "dog"])
    ax = show_confusion(table)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "actual class")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cat", "dog"]
    assert sorted(text.get_text() for text in ax.texts) == ["0", "0", "1", "2"]
    assert show_confusion(table, ax) is ax
    plt.close(ax.figure)


@given(st.integers(1, 20), st.integers(1, 12), st.integers(0, 1000))
def test_top_losses_are_the_largest_cross_entropies(n, k, seed):
    logits, target = rand(n, 3, seed=seed), torch.arange(n) % 3
    table = top_losses(logits, target, k)
    losses = F.cross_entropy(logits, target, reduction="none")
    expected = losses.sort(descending=True).values[:k]
    torch.testing.assert_close(torch.tensor(table["loss"].to_numpy()).float(), expected)
    assert table["loss"].tolist() == pytest.approx(losses[table["row"].tolist()].tolist())
    assert (table["actual"] == target[table["row"].tolist()].tolist()).all()
    assert (table["predicted"] == logits.argmax(1)[table["row"].tolist()].tolist()).all()
    probability = logits.softmax(1)[table["row"].tolist(), table["actual"].tolist()]
    assert table["probability"].tolist() == pytest.approx(probability.tolist(), abs=1e-6)


def test_top_losses_name_the_classes():
    table = top_losses(torch.tensor([[9.0, 0], [0, 0]]), torch.tensor([1, 0]), 1, ["cat", "dog"])
    assert table.loc[0, ["row", "actual", "predicted"]].tolist() == [0, "dog", "cat"]


def planted(seed, n=400, share=0.08):
    """Four clouds of points, a share of them with another label; out-of-fold logits."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.arange(n) % 4
    centres = 4 * torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    x = centres[true] + torch.randn(n, 2, generator=generator)
    wrong = torch.rand(n, generator=generator) < share
    labels = torch.where(wrong, (true + torch.randint(1, 4, (n,), generator=generator)) % 4, true)
    logits = torch.zeros(n, 4)
    for train, held in folds(n, 5, generator):
        model = LogisticRegression().fit(x[train].numpy(), labels[train].numpy())
        logits[held] = torch.tensor(model.predict_log_proba(x[held].numpy())).float()
    return logits, labels, wrong


@pytest.mark.parametrize("seed", range(4))
def test_planted_wrong_labels_are_found(seed):
    logits, labels, wrong = planted(seed)
    suspects = suspect_labels(logits, labels)
    rows = suspects["row"].tolist()
    found = wrong[rows].float()
    assert found.mean() > 0.6, "most suspects are wrong"
    assert found.sum() > 0.7 * wrong.sum(), "most wrong labels are suspect"
    worst = wrong[rows[: len(rows) // 3]].float()
    assert worst.mean() > 0.9, "the first ones nearly all"
    assert suspects["margin"].is_monotonic_decreasing
    assert (suspects["actual"] != suspects["predicted"]).all()
    assert (suspects["margin"] > 0).all()


def test_an_item_is_suspect_by_the_rule_of_its_classes():
    probs = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7], [0.8, 0.2], [0.5, 0.5]])
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    # Thresholds: (0.9 + 0.6 + 0.5) / 3 = 0.67 for class 0, (0.8 + 0.7 + 0.2) / 3 = 0.57 for 1.
    suspects = suspect_labels(probs.log(), labels, ["a", "b"])
    assert suspects["row"].tolist() == [4]
    assert suspects.loc[0, ["actual", "predicted"]].tolist() == ["b", "a"]
    assert suspects.loc[0, "margin"] == pytest.approx(0.6, abs=1e-6)
    assert suspects.loc[0, "probability"] == pytest.approx(0.2, abs=1e-6)


def test_where_the_model_agrees_nothing_is_suspect():
    logits = 10 * torch.eye(3).repeat(4, 1)
    assert suspect_labels(logits, torch.arange(12) % 3).empty
    # A class without items has no threshold.
    logits = torch.tensor([[5.0, 0, 4.9], [0, 5, 4.9]])
    assert suspect_labels(logits, torch.tensor([0, 1])).empty


@given(st.integers(2, 40), st.integers(2, 8), st.integers(0, 100))
def test_every_row_is_held_out_once_and_trains_otherwise(n, k, seed):
    k = min(k, n)
    parts = folds(n, k, torch.Generator().manual_seed(seed))
    assert len(parts) == k
    assert sorted(torch.cat([held for _, held in parts]).tolist()) == list(range(n))
    for train, held in parts:
        assert sorted(torch.cat([train, held]).tolist()) == list(range(n))
        assert abs(len(held) - n / k) < 1


A, B = torch.tensor([0, 1]), torch.tensor([1, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confusion(A, B + 1, 2), "target must be classes from 0 to 1, but one is 2."),
        (lambda: confusion(A - 1, B, 2), "pred must be classes from 0 to 1, but one is -1."),
        (lambda: confusion(A[:1], B, 2), "pred must have 2 items, like target, but it has 1."),
        (
            lambda: confusion(rand(2, 3), B, 2),
            "pred must be class numbers of shape (n,), but it has shape (2, 3) and type "
            "torch.float32.",
        ),
        (
            lambda: confusion(A, B, ["a", "a"]),
            "classes must be names that differ, at least one, but they are ['a', 'a'].",
        ),
        (lambda: confusion(A, B, 0), "classes must be a whole number of at least 1, but it is 0."),
        (
            lambda: report(pd.DataFrame([[1, 2]])),
            "table must have the same classes in rows and columns, as confusion returns it, but it "
            "has 1 rows and 2 columns.",
        ),
        (
            lambda: most_confused(confusion(A, B, 2), 0),
            "at_least must be a whole number of at least 1, but it is 0.",
        ),
        (
            lambda: top_losses(rand(3, 2), A),
            "logits and target must have shapes (n, classes) and (n,), neither of them 0, but they "
            "have (3, 2) and (2,).",
        ),
        (
            lambda: top_losses(rand(2, 2), A, 0),
            "k must be a whole number of at least 1, but it is 0.",
        ),
        (
            lambda: suspect_labels(rand(2, 2), A, ["a"]),
            "classes must be 2 names, one for each column of logits, but they are 1.",
        ),
        (
            lambda: suspect_labels(rand(3, 2), torch.ones(3, dtype=torch.int64)),
            "target must hold labels of at least two classes, or none can be suspected of being "
            "another, but all 3 are 1.",
        ),
        (lambda: folds(3, 1), "k must be a whole number of at least 2, but it is 1."),
        (lambda: folds(3, 4), "n must be a whole number of at least 4, but it is 3."),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
