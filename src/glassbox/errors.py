"""What a classifier gets wrong: which classes, which items, and which labels may be wrong instead.

`confusion`, `show_confusion`, `most_confused`, `report`; `top_losses`, `suspect_labels`, `folds`.

Results are tables of pandas, whose axes and columns have names.

Built in the chapter *regularization*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from torch import Tensor

from glassbox.checks import whole
from glassbox.losses import log_softmax
from glassbox.plots import subplots

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "confusion",
    "folds",
    "most_confused",
    "report",
    "show_confusion",
    "suspect_labels",
    "top_losses",
]


def confusion(pred: Tensor, target: Tensor, classes: int | Sequence[object]) -> pd.DataFrame:
    """Count for each pair of classes how many items of the one were taken for the other.

    Parameters
    ----------
    pred : Tensor, shape (n,) or (n, classes)
        Numbers of classes, or logits, the largest of which is the prediction.
    target : Tensor, shape (n,)
        Numbers of the actual classes.
    classes : int or sequence
        How many there are, or their names.

    Returns
    -------
    DataFrame
        A row for each actual class, a column for each predicted one; `index.name` and
        `columns.name` are "actual" and "predicted".

    Raises
    ------
    ValueError
        If shapes do not fit, or there is another class.
    """
    import pandas as pd

    names = _names(classes)
    n = len(names)
    pred = pred.detach().cpu()
    _check_classes("target", target := target.detach().cpu(), n)
    if pred.ndim == 2 and pred.shape[1] == n:
        pred = pred.argmax(1)
    _check_classes("pred", pred, n)
    if len(pred) != len(target):
        raise ValueError(
            f"pred must have {len(target)} items, like target, but it has {len(pred)}."
        )
    # One number for each pair, so that counting pairs is counting numbers.
    counts = torch.bincount(target * n + pred, minlength=n * n).view(n, n)
    table = pd.DataFrame(counts.numpy(), index=names, columns=names)
    return table.rename_axis(index="actual", columns="predicted")


def show_confusion(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw a table of `confusion` with its counts; the darker, the larger the share of its row.

    Parameters
    ----------
    table : DataFrame
        As `confusion` returns it.
    ax : Axes, optional
        Where to draw; a new figure when left out.
    """
    counts = _square(table)
    side = 0.45 * len(counts) + 1.2
    ax = subplots(figsize=(side, side))[1] if ax is None else ax
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    ax.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(counts.int().tolist()):
        for j, count in enumerate(row):
            ink = "white" if shares[i, j] > 0.5 else "black"
            ax.text(j, i, str(count), ha="center", va="center", color=ink, fontsize=9)
    ticks = range(len(counts))
    ax.set_xticks(ticks, [str(name) for name in table.columns], rotation=90)
    ax.set_yticks(ticks, [str(name) for name in table.index])
    ax.set(xlabel="predicted class", ylabel="actual class")
    ax.grid(False)
    return ax


def most_confused(table: pd.DataFrame, at_least: int = 1) -> pd.DataFrame:
    """Return the pairs of classes that are taken for each other most often, the worst first.

    Parameters
    ----------
    table : DataFrame
        As `confusion` returns it.
    at_least : int
        Leave out pairs with fewer errors.

    Returns
    -------
    DataFrame
        Columns "actual", "predicted", "count".

    Raises
    ------
    ValueError
        If the table is not square, or `at_least` is below 1.
    """
    import pandas as pd

    whole("at_least", at_least, 1)
    counts = _square(table).long().fill_diagonal_(0)
    found = sorted((-counts[i, j].item(), i, j) for i, j in (counts >= at_least).nonzero().tolist())
    rows = [(table.index[i], table.columns[j], -negative) for negative, i, j in found]
    return pd.DataFrame(rows, columns=["actual", "predicted", "count"])


def report(table: pd.DataFrame) -> pd.DataFrame:
    """Return precision, recall and their harmonic mean for each class.

    Parameters
    ----------
    table : DataFrame
        As `confusion` returns it.

    Returns
    -------
    DataFrame
        A row for each class. "precision": the share of what was taken for the class that is of it;
        "recall": the share of the class that was found; "f1"; "count": items of the class. What
        has no items to be a share of is NaN, and so is "f1" if the class does not occur at all.

    Raises
    ------
    ValueError
        If the table is not square.
    """
    import pandas as pd

    counts = _square(table)
    right, actual, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    columns = {
        "precision": right / predicted,
        "recall": right / actual,
        "f1": 2 * right / (actual + predicted),
    }
    rows = pd.DataFrame({k: v.tolist() for k, v in columns.items()}, index=list(table.index))
    rows["count"] = actual.long().tolist()
    return rows.rename_axis(index="class")


def top_losses(
    logits: Tensor, target: Tensor, k: int = 8, classes: Sequence[object] | None = None
) -> pd.DataFrame:
    """Return the items with the largest losses: confident and wrong, or labelled wrongly.

    Parameters
    ----------
    logits : Tensor, shape (n, classes)
    target : Tensor, shape (n,)
        Numbers of the classes that the items are labelled with.
    k : int
        How many; all if there are fewer.
    classes : sequence, optional
        The classes' names; their numbers when left out.

    Returns
    -------
    DataFrame
        The largest loss first: "row" in the tensors, "loss" (cross-entropy), "actual" and
        "predicted" classes, "probability" that the model gives to the actual one.

    Raises
    ------
    ValueError
        If shapes do not fit, a target is no class, or `k` is below 1.
    """
    whole("k", k, 1)
    log_probs, target = _log_probs(logits, target)
    losses = -log_probs.gather(1, target[:, None])[:, 0]
    rows = losses.sort(descending=True, stable=True).indices[:k]
    names = _names_for(log_probs, classes)
    return _items(rows, "loss", losses, names, target, log_probs.argmax(1), (-losses).exp())


def suspect_labels(
    logits: Tensor, target: Tensor, classes: Sequence[object] | None = None
) -> pd.DataFrame:
    """Return the items whose label the model contradicts with confidence, the worst first.

    An item is suspect if the model finds another class as probable as it does, on average, for
    items that bear this class as their label; each class has a threshold of its own, because
    models are surer of some classes than of others. The logits must come from models that have not
    been trained on these labels (see `folds`): a label that was learned by heart is not suspect.

    Parameters
    ----------
    logits, target, classes
        As in `top_losses`.

    Returns
    -------
    DataFrame
        "row" in the tensors, "margin" by which the probability of the predicted class exceeds that
        of the label, "actual" (the label), "predicted", "probability" of the label.

    Raises
    ------
    ValueError
        If shapes do not fit, a target is no class, or all are the same one.

    References
    ----------
    Northcutt, Jiang and Chuang 2021.
    """
    log_probs, target = _log_probs(logits, target)
    probs = log_probs.exp()
    own = probs.gather(1, target[:, None])[:, 0]
    n_classes = probs.shape[1]
    if bool((target == target[0]).all()):
        raise ValueError(
            "target must hold labels of at least two classes, or none can be suspected of being "
            f"another, but all {len(target)} are {target[0].item()}."
        )
    members = torch.bincount(target, minlength=n_classes)
    sums = torch.zeros(n_classes, dtype=own.dtype).index_add_(0, target, own)
    # A class that no item is labelled with has no threshold, and nothing is suspected to be of it.
    thresholds = torch.where(members > 0, sums / members.clamp_min(1), torch.inf)
    likely = torch.where(probs >= thresholds, probs, 0.0)
    best = likely.max(1)
    margin = best.values - own
    rows = ((best.indices != target) & (best.values > 0) & (margin > 0)).nonzero()[:, 0]
    rows = rows[margin[rows].sort(descending=True, stable=True).indices]
    names = _names_for(log_probs, classes)
    return _items(rows, "margin", margin, names, target, best.indices, own)


def folds(
    n: int, k: int = 5, generator: torch.Generator | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Cut `n` rows at random into `k` parts; each in turn is held out, and the others train.

    With k models every item is predicted by one that has not seen it.

    Parameters
    ----------
    n, k : int
        At least 2 parts, and at least as many rows as parts.
    generator : torch.Generator, optional
        Draws the parts.

    Returns
    -------
    list of (train_rows, held_out_rows)
        Tensors of int64. Every row is held out once.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    whole("k", k, 2)
    whole("n", n, k)
    parts = torch.randperm(n, generator=generator).tensor_split(k)
    return [
        (torch.cat([p for j, p in enumerate(parts) if j != i]), held)
        for i, held in enumerate(parts)
    ]


def _items(
    rows: Tensor,
    why: str,
    measure: Tensor,
    names: Sequence[object],
    target: Tensor,
    predicted: Tensor,
    probability: Tensor,
) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "row": rows.tolist(),
            why: measure[rows].tolist(),
            "actual": [names[c] for c in target[rows].tolist()],
            "predicted": [names[c] for c in predicted[rows].tolist()],
            "probability": probability[rows].tolist(),
        }
    )


def _names_for(log_probs: Tensor, classes: Sequence[object] | None) -> list[object]:
    n = log_probs.shape[1]
    names = _names(n if classes is None else classes)
    if len(names) != n:
        raise ValueError(
            f"classes must be {n} names, one for each column of logits, but they are {len(names)}."
        )
    return names


def _log_probs(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits, target = logits.detach().cpu().float(), target.detach().cpu()
    if logits.ndim != 2 or target.shape != logits.shape[:1] or not logits.numel():
        raise ValueError(
            "logits and target must have shapes (n, classes) and (n,), neither of them 0, but they "
            f"have {tuple(logits.shape)} and {tuple(target.shape)}."
        )
    _check_classes("target", target, logits.shape[1])
    return log_softmax(logits, 1), target.long()


def _names(classes: int | Sequence[object]) -> list[object]:
    if isinstance(classes, int):
        whole("classes", classes, 1)
        return list(range(classes))
    names = list(classes)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"classes must be names that differ, at least one, but they are {names}.")
    return names


def _check_classes(name: str, t: Tensor, n: int) -> None:
    is_whole = not (t.is_floating_point() or t.dtype == torch.bool)
    if t.ndim != 1 or not is_whole:
        raise ValueError(
            f"{name} must be class numbers of shape (n,), but it has shape {tuple(t.shape)} and "
            f"type {t.dtype}."
        )
    if bool(((t < 0) | (t >= n)).any()):
        worst = t[(t < 0) | (t >= n)][0].item()
        raise ValueError(f"{name} must be classes from 0 to {n - 1}, but one is {worst}.")


def _square(table: pd.DataFrame) -> Tensor:
    if table.shape[0] != table.shape[1] or list(table.index) != list(table.columns):
        raise ValueError(
            "table must have the same classes in rows and columns, as confusion returns it, but it "
            f"has {table.shape[0]} rows and {table.shape[1]} columns."
        )
    return torch.tensor(table.to_numpy(), dtype=torch.float64)
