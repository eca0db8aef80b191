"""A network for tables, what it has learned about categories, and errors in percent.

`TabularModel`, `embedding_size`; `embedding_table`, `replace_codes`; `align`,
`correlation_of_distances`; `rmspe`, `mape`, `exp_rmspe`.

A category's row in an embedding is a point: where it lies says what the network found to be alike.
Built in the chapter *tabular*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pandas as pd
import torch
from torch import Tensor, nn

from glassbox.checks import whole
from glassbox.layers import Embedding
from glassbox.losses import sigmoid
from glassbox.stats import correlation
from glassbox.tabular import TabularProcessor

__all__ = [
    "TabularModel",
    "align",
    "correlation_of_distances",
    "embedding_size",
    "embedding_table",
    "exp_rmspe",
    "mape",
    "replace_codes",
    "rmspe",
]


def _percentages(pred: Tensor, actual: Tensor) -> Tensor:
    if pred.shape != actual.shape or pred.numel() == 0:
        raise ValueError(
            "pred and actual must have the same shape and at least one value, but they have "
            f"{tuple(pred.shape)} and {tuple(actual.shape)}."
        )
    if not bool((actual > 0).all()):
        raise ValueError(
            "actual must be positive, as it is divided by, but its least value is "
            f"{actual.min().item():g}."
        )
    return (actual - pred) / actual


def rmspe(pred: Tensor, actual: Tensor) -> Tensor:
    """Return the root of the mean squared percentage error, as a share: 0.1 is ten percent.

    Parameters
    ----------
    pred, actual : Tensor, the same shape
        In their units, not their logarithms.

    Raises
    ------
    ValueError
        If the shapes differ, or an actual value is not positive.
    """
    return (_percentages(pred, actual) ** 2).mean().sqrt()


def mape(pred: Tensor, actual: Tensor) -> Tensor:
    """Return the mean absolute percentage error, as a share; arguments are those of `rmspe`."""
    return _percentages(pred, actual).abs().mean()


def exp_rmspe(log_pred: Tensor, log_actual: Tensor) -> Tensor:
    """Return `rmspe` of what the logarithms stand for.

    A root of a mean is no mean: averaged over batches it differs a little from that of all rows.
    """
    return rmspe(log_pred.exp(), log_actual.exp())


def embedding_size(levels: int) -> int:
    """Return how many numbers to describe a category with: half of its levels and 1, at most 50.

    A rule of thumb.

    References
    ----------
    fast.ai 2019, lesson 6.
    """
    whole("levels", levels, 1)
    return min(50, levels // 2 + 1)


class TabularModel(nn.Module):
    """Embeddings of the categories beside the numbers, then linear layers.

    The embeddings go through dropout, the numbers through batch normalisation; each hidden layer
    is linear, ReLU, batch normalisation, dropout.

    Parameters
    ----------
    cardinalities : sequence of int
        How many codes each category has, with the unknown level 0.
    num_numbers : int
        How many columns of numbers follow the codes.
    widths : sequence of int
        Of the hidden layers; none for a model that is linear in vectors and numbers.
    sizes : sequence of int, optional
        Of the embeddings; `embedding_size` of each cardinality when left out.
    embedding_dropout : float
        Of the vectors, from 0 to below 1.
    dropout : float, or sequence of float
        Of the hidden layers: one for all or one for each.
    y_range : (float, float), optional
        Outputs are squeezed between these by a sigmoid, which reaches neither.
    out_features : int
        Numbers in an output.

    Attributes
    ----------
    embeddings : nn.ModuleList of Embedding
        In the order of the codes. They start near 0, and the unknown level at 0: what is not in
        the training rows stays there, in the middle of where the others began.

    Raises
    ------
    ValueError
        If a number is out of range, or the lengths do not fit together.

    References
    ----------
    Guo and Berkhahn, "Entity embeddings of categorical variables", 2016; fast.ai 2019, lesson 6.

    Examples
    --------
    >>> model = TabularModel([8, 4], num_numbers=3, widths=[10])
    >>> model(torch.tensor([[7.0, 0.0, 0.1, -0.2, 0.3], [1.0, 1.0, 0.0, 0.0, 0.0]])).shape
    torch.Size([2, 1])
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        num_numbers: int,
        widths: Sequence[int] = (200, 100),
        *,
        sizes: Sequence[int] | None = None,
        embedding_dropout: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        y_range: tuple[float, float] | None = None,
        out_features: int = 1,
    ) -> None:
        whole("num_numbers", num_numbers, 0)
        whole("out_features", out_features, 1)
        sizes = [embedding_size(n) for n in cardinalities] if sizes is None else sizes
        drops = [dropout] * len(widths) if isinstance(dropout, int | float) else list(dropout)
        for name, values, other in (
            ("sizes", sizes, cardinalities),
            ("dropout", drops, widths),
        ):
            if len(values) != len(other):
                raise ValueError(
                    f"{name} must have {len(other)} numbers, one for each that it belongs to, but "
                    f"it has {len(values)}."
                )
        for p in (embedding_dropout, *drops):
            if not 0 <= p < 1:
                raise ValueError(f"dropout must be from 0 to below 1, but it is {p!r}.")
        for width in widths:
            whole("widths", width, 1)
        if y_range is not None and not (
            len(y_range) == 2 and -math.inf < y_range[0] < y_range[1] < math.inf
        ):
            raise ValueError(f"y_range must be a lower and a higher number, but it is {y_range}.")
        if not cardinalities and not num_numbers:
            raise ValueError("cardinalities must not be empty where num_numbers is 0.")
        super().__init__()
        self.num_numbers, self.y_range = num_numbers, y_range
        self.embeddings = nn.ModuleList(
            Embedding(n, d) for n, d in zip(cardinalities, sizes, strict=True)
        )
        with torch.no_grad():
            for weight in self.embeddings.parameters():
                weight.mul_(0.01)
                weight[0] = 0.0
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.norm = nn.BatchNorm1d(num_numbers) if num_numbers else nn.Identity()
        layers: list[nn.Module] = []
        all_widths = [sum(sizes) + num_numbers, *widths]
        for (n_in, n_out), p in zip(pairwise(all_widths), drops, strict=True):
            layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.BatchNorm1d(n_out), nn.Dropout(p)]
        self.layers = nn.Sequential(*layers, nn.Linear(all_widths[-1], out_features))

    def vectors(self, x: Tensor) -> Tensor:
        """Return the vectors that stand for the categories, side by side, (n, sum of sizes)."""
        if x.ndim != 2 or x.shape[1] != len(self.embeddings) + self.num_numbers:
            raise ValueError(
                f"x must have shape (n, {len(self.embeddings) + self.num_numbers}), the codes of "
                f"{len(self.embeddings)} categories and {self.num_numbers} numbers, but it has "
                f"shape {tuple(x.shape)}."
            )
        # Without a category there is still a matrix, of no columns.
        columns = [embedding(x[:, i].long()) for i, embedding in enumerate(self.embeddings)]
        return torch.cat([x[:, :0], *columns], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs of shape (n, out_features) for codes and numbers, (n, columns)."""
        numbers = self.norm(x[:, len(self.embeddings) :])
        out: Tensor = self.layers(
            torch.cat([self.embedding_dropout(self.vectors(x)), numbers], dim=1)
        )
        if self.y_range is None:
            return out
        low, high = self.y_range
        return low + (high - low) * sigmoid(out)


@torch.no_grad()
def replace_codes(model: TabularModel, x: Tensor) -> Tensor:
    """Return the inputs with learned vectors in place of the codes, for another kind of model.

    Parameters
    ----------
    model : TabularModel
        Trained.
    x : Tensor, shape (n, categories + numbers)
        As for the model; on any device.

    Returns
    -------
    Tensor of float32, shape (n, sum of embedding sizes + numbers)
        On the CPU, so that `.numpy()` is what scikit-learn takes.
    """
    x = x.to(next(model.parameters()).device)
    return torch.cat([model.vectors(x), x[:, len(model.embeddings) :]], dim=1).cpu()


def embedding_table(
    model: TabularModel, processor: TabularProcessor, category: str
) -> pd.DataFrame:
    """Return what the model learned about a category as a table, to join others with.

    Parameters
    ----------
    model : TabularModel
        Made for the processor's inputs.
    processor : TabularProcessor
    category : str
        One of its categories.

    Returns
    -------
    DataFrame
        A row for each level of the training rows: the level in a column named as the category, and
        its vector in the columns ``<category>_0``, ``<category>_1`` and so on. The unknown level
        is left out: it is what a join does not find.

    Raises
    ------
    ValueError
        If there is no such category, or the model was made for other categories.
    """
    names = list(processor.cardinalities)
    if category not in names:
        raise ValueError(f"category must be one of {', '.join(names)}, but it is {category!r}.")
    weights = list(model.embeddings.parameters())
    rows = [len(weight) for weight in weights]
    if rows != list(processor.cardinalities.values()):
        raise ValueError(
            f"model must have embeddings for {list(processor.cardinalities.values())} codes, as "
            f"the processor makes, but it has them for {rows}."
        )
    place = names.index(category)
    known = weights[place].detach()[1:].cpu().numpy()
    vectors = pd.DataFrame(known, columns=[f"{category}_{i}" for i in range(known.shape[1])])
    vectors.insert(0, category, list(processor.categories[place].levels))
    return vectors


def align(points: Tensor, target: Tensor) -> Tensor:
    """Shift, turn, mirror and scale points as a whole so that they come as near as they can.

    An embedding has no north: what it knows is in the distances, which this keeps in proportion.

    Parameters
    ----------
    points, target : Tensor, shape (n, d)
        Row i of one belongs to row i of the other.

    Returns
    -------
    Tensor, shape (n, d)
        The points, in the frame of the target, at the least sum of squared distances to it.

    Raises
    ------
    ValueError
        If the shapes differ, or all points are one.

    References
    ----------
    Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966.
    """
    if points.shape != target.shape or points.ndim != 2:
        raise ValueError(
            "points and target must have one shape (n, d), but they have "
            f"{tuple(points.shape)} and {tuple(target.shape)}."
        )
    centre = target.mean(0)
    a, b = points - points.mean(0), target - centre
    size = (a**2).sum()
    if not size > 0:
        raise ValueError("points must differ from each other, but all of them are one.")
    u, s, vh = torch.linalg.svd(a.T @ b)
    aligned: Tensor = (s.sum() / size) * a @ (u @ vh) + centre
    return aligned


def correlation_of_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the correlation of the distances between all pairs in `x` with those in `y`.

    1 where the one is a map of the other: turned, mirrored, shifted or scaled, in any number of
    dimensions. The pairs share points, so that they are no independent observations: how large it
    is by chance, shuffling the rows of one tells (Mantel, 1967).

    Parameters
    ----------
    x, y : Tensor, shapes (n, d) and (n, e)
        Row i of one belongs to row i of the other; n is at least 3.

    Raises
    ------
    ValueError
        If there are not as many rows in both, fewer than 3, or all distances are equal.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 3:
        raise ValueError(
            "x and y must have shapes (n, d) and (n, e) with n at least 3, but they have "
            f"{tuple(x.shape)} and {tuple(y.shape)}."
        )
    return correlation(_distances(x), _distances(y))


def _distances(points: Tensor) -> Tensor:
    i, j = torch.triu_indices(len(points), len(points), offset=1)
    return (points[i] - points[j]).square().sum(1).sqrt()
