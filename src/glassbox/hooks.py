"""Functions that a model calls whenever one of its layers has run, and what they can record.

`Hook`, `Hooks`, `ActivationStats`.

Built in the chapter *telemetry*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from glassbox.checks import is_number, whole
from glassbox.learner import Callback
from glassbox.plots import subplots

__all__ = ["ActivationStats", "Hook", "Hooks"]


class Hook:
    """A function that is called each time a module has run, until the hook is removed.

    Use it in a `with` statement, which removes it at the end whatever happens: a hook that stays
    registered goes on costing time, and what it keeps cannot be freed.

    Parameters
    ----------
    module : nn.Module
        Whose outputs are to be seen.
    func : callable
        Called as `func(hook, module, inputs, output)` after each forward pass; `inputs` is a tuple.
        What it returns, unless that is None, takes the place of the output. `hook` is this object:
        a place to keep what was seen, as attributes.
    backward : bool
        Call it after each backward pass instead, with the gradients with respect to the inputs and
        to the outputs, both tuples; what it returns takes the place of the former.

    Raises
    ------
    TypeError
        If `module` is not a module, or `func` cannot be called.

    References
    ----------
    fast.ai 2019 part 2, lesson 10.

    Examples
    --------
    >>> def keep_shape(hook, module, inputs, output):
    ...     hook.shape = tuple(output.shape)
    >>> layer = nn.Linear(3, 2)
    >>> with Hook(layer, keep_shape) as hook:
    ...     _ = layer(torch.zeros(5, 3))
    >>> hook.shape
    (5, 2)
    """

    def __init__(
        self,
        module: nn.Module,
        func: Callable[[Any, nn.Module, Any, Any], Any],
        *,
        backward: bool = False,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be an nn.Module, but it is {_what(module)}.")
        if not callable(func):
            raise TypeError(f"func must be a function, but it is {func!r}.")
        self.module = module

        def call(module: nn.Module, inputs: Any, output: Any) -> Any:
            return func(self, module, inputs, output)

        if backward:
            self._handle = module.register_full_backward_hook(call)
        else:
            self._handle = module.register_forward_hook(call)

    def __getattr__(self, name: str) -> Any:
        # Reached only when there is no such attribute.
        raise AttributeError(f"the hook keeps no {name!r}: its function has not set it (yet).")

    def remove(self) -> None:
        """Call the function no longer; a second time does no harm."""
        self._handle.remove()

    def __enter__(self) -> Hook:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class Hooks:
    """The same function hooked to several modules: a container of `Hook`, one for each.

    Parameters
    ----------
    modules : iterable of nn.Module
        At least one.
    func, backward
        As in `Hook`.

    Raises
    ------
    TypeError, ValueError
        If `modules` holds something else, or nothing. No hook is left registered then.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    >>> def keep_mean(hook, module, inputs, output):
    ...     hook.mean = output.mean()
    >>> with Hooks(model, keep_mean) as hooks:
    ...     _ = model(torch.ones(1, 3))
    >>> len(hooks)
    2
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        func: Callable[[Any, nn.Module, Any, Any], Any],
        *,
        backward: bool = False,
    ) -> None:
        modules = listed(modules)
        self._hooks: list[Hook] = []
        try:
            for module in modules:
                self._hooks.append(Hook(module, func, backward=backward))
        except TypeError:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove every hook; a second time does no harm."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> Hooks:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def __len__(self) -> int:
        return len(self._hooks)

    def __iter__(self) -> Iterator[Hook]:
        return iter(self._hooks)

    def __getitem__(self, index: int) -> Hook:
        return self._hooks[index]

    def __repr__(self) -> str:
        names = ", ".join(type(hook.module).__name__ for hook in self._hooks)
        return f"Hooks({len(self)}: {names})"


def listed(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Return several modules as a list, and refuse a single one, or none."""
    try:
        several = list(modules)
    except TypeError:
        raise TypeError(
            f"modules must be several modules, such as a list, but it is {_what(modules)}."
        ) from None
    if not several:
        raise ValueError("modules must hold at least one module, but it is empty.")
    return several


def _what(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def check_output(module: nn.Module, output: object) -> None:
    """Refuse what a module returned, unless it is a tensor."""
    if not isinstance(output, Tensor):
        raise TypeError(
            f"modules must each return a tensor, but {type(module).__name__} returns "
            f"{_what(output)}."
        )


class ActivationStats(Callback):
    """Records mean, standard deviation and histogram of layers' outputs, batch by batch.

    Only training batches are recorded. Everything stays on the device until it is asked for, so
    that the program never waits for a number; the hooks are removed when a fit ends, however it
    ends, and another fit appends to the record.

    Parameters
    ----------
    modules : iterable of nn.Module, optional
        Parts of the model whose outputs to record. When left out, the children of the model that
        hold a convolution or, if none does, those that hold a linear layer.
    bins : int
        Of the histograms, at least 1.
    hist_range : (float, float)
        Where the first bin begins and the last one ends. A bin holds its lower edge and not its
        upper one. Values outside, and NaN, are in no bin.
    sample : int, optional
        For the histograms count the first items of the batch only, as many as have this many values
        together; in a shuffled batch these are items drawn at random. None counts all of them.
        Means and standard deviations are always of all values.

    Attributes
    ----------
    modules : list of nn.Module
        What is recorded; empty before the first fit when left out.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range; at the fit, if the model has no such
        layer, or a module is no part of it or returns no tensor.

    References
    ----------
    fast.ai 2019 part 2, lesson 10.
    """

    order = 40

    def __init__(
        self,
        modules: Iterable[nn.Module] | None = None,
        bins: int = 40,
        hist_range: tuple[float, float] = (-10.0, 10.0),
        sample: int | None = 16_384,
    ) -> None:
        if sample is not None and (type(sample) is not int or sample < 1):
            raise ValueError(
                f"sample must be a whole number of at least 1, or None, but it is {sample!r}."
            )
        whole("bins", bins, 1)
        pair = tuple(hist_range) if isinstance(hist_range, Iterable) else ()
        if len(pair) != 2 or not (is_number(*pair) and -math.inf < pair[0] < pair[1] < math.inf):
            raise ValueError(
                "hist_range must be two numbers, the smaller one first, "
                f"but it is {pair or hist_range!r}."
            )
        low, high = pair
        self.modules = [] if modules is None else listed(modules)
        for module in self.modules:
            if not isinstance(module, nn.Module):
                raise TypeError(f"modules must hold modules, but one is {_what(module)}.")
        self.bins, self.hist_range = bins, (float(low), float(high))
        self.sample = sample
        self._records: list[list[tuple[Tensor, Tensor, Tensor]]] = []
        self._hooks: Hooks | None = None

    def before_fit(self) -> None:
        """Find the layers, and hook them."""
        model = self.learn.model
        self.modules = self.modules or _layers_of(model)
        inside = set(model.modules())
        for module in self.modules:
            if module not in inside:
                raise ValueError(
                    "modules must be parts of the learner's model, "
                    f"but one {type(module).__name__} is not."
                )
        self._records = self._records or [[] for _ in self.modules]
        self._hooks = Hooks(self.modules, self._record)
        self._record_of = dict(zip(self._hooks, self._records, strict=True))

    def cleanup(self) -> None:
        """Remove the hooks."""
        if self._hooks is not None:
            self._hooks.remove()

    @torch.no_grad()
    def _record(
        self,
        hook: Hook,
        module: nn.Module,
        inputs: Any,
        output: Tensor,
    ) -> None:
        if not self.learn.training:
            return
        check_output(module, output)
        x = output.detach().float()
        mean = x.mean()
        # The sum of squares of what is left after the mean is gone: nothing cancels.
        std = torch.linalg.vector_norm(x - mean) / math.sqrt(x.numel())
        self._record_of[hook].append((mean, std, self._count(x)))

    def _count(self, x: Tensor) -> Tensor:
        """Return how many values are in each bin, with one more bin at either end for the rest."""
        if self.sample is not None and x.ndim:
            x = x[: math.ceil(self.sample * len(x) / max(x.numel(), 1))]
        low, high = self.hist_range
        scale = self.bins / (high - low)
        # One more than the number of the bin; what is in none goes to 0 and to bins + 1.
        places = x.mul(scale).add_(1 - low * scale).nan_to_num_(nan=0.0).clamp_(0, self.bins + 1)
        return _bincount(places.flatten().to(torch.int32), self.bins + 2)

    def _stack(self, part: int) -> Tensor:
        if not any(self._records):
            raise ValueError("there is nothing to show before a training batch has been recorded.")
        silent = [
            type(module).__name__
            for module, records in zip(self.modules, self._records, strict=True)
            if len(records) != len(self._records[0])
        ]
        if silent:
            raise ValueError(
                "modules must each be called once in every batch, "
                f"but {', '.join(silent)} was called more or less often than the first one."
            )
        return torch.stack(
            [torch.stack([row[part] for row in records]) for records in self._records]
        )

    @property
    def means(self) -> Tensor:
        """Mean of each layer's output in each training batch, shape (layers, batches)."""
        return self._stack(0)

    @property
    def stds(self) -> Tensor:
        """Standard deviation (divided by n) of the same, shape (layers, batches)."""
        return self._stack(1)

    @property
    def hists(self) -> Tensor:
        """How many values fell into each bin, of int64, shape (layers, bins, batches)."""
        return self._stack(2)[:, :, 1:-1].transpose(1, 2)

    @property
    def edges(self) -> Tensor:
        """Where the bins begin, and where the last one ends, shape (bins + 1,)."""
        return torch.linspace(*self.hist_range, self.bins + 1)

    def dead_share(self, low: float = -0.5, high: float = 0.5) -> Tensor:
        """Return the share of each layer's values that lie from `low` to below `high`, by batch.

        Only whole bins are counted, so the two should be edges of bins, as they are by default.

        Returns
        -------
        Tensor, shape (layers, batches)
            Of all values, those outside the histogram among them.

        Raises
        ------
        ValueError
            If no bin lies between the two.
        """
        edges = self.edges
        slack = 1e-6 * (self.hist_range[1] - self.hist_range[0])
        inside = (edges[:-1] >= low - slack) & (edges[1:] <= high + slack)
        if not bool(inside.any()):
            raise ValueError(
                "low and high must have a bin between them "
                f"(bins are {(edges[1] - edges[0]).item():g} wide), but they are {low!r} and "
                f"{high!r}."
            )
        counts = self._stack(2)
        return counts[:, :, 1:-1][:, :, inside.to(counts.device)].sum(2) / counts.sum(2)

    def plot_means(self, ax: Axes | None = None, batches: int | None = None) -> Axes:
        """Draw the mean of each layer over the batches, all of them or the first few."""
        return _plot_lines(self.means, "mean of the outputs", ax, batches)

    def plot_stds(self, ax: Axes | None = None, batches: int | None = None) -> Axes:
        """Draw the standard deviation of each layer over the batches."""
        return _plot_lines(self.stds, "standard deviation", ax, batches)

    def plot_dead(self, ax: Axes | None = None, low: float = -0.5, high: float = 0.5) -> Axes:
        """Draw `dead_share` of each layer over the batches."""
        ax = _plot_lines(self.dead_share(low, high), "share near zero", ax, None)
        ax.set_ylim(-0.02, 1.02)
        return ax

    def plot_hists(self, cmap: str = "viridis") -> Figure:
        """Draw the histograms over time, one picture a layer: a column a batch, log scale.

        Colour is the logarithm of 1 + count, each layer on a scale of its own.
        """
        hists = self.hists.cpu()
        ncols = 2 if len(hists) > 1 else 1
        nrows = math.ceil(len(hists) / ncols)
        figure, axes = subplots(
            nrows, ncols, figsize=(5.6, 1.9 * nrows), squeeze=False, sharex=True, sharey=True
        )
        low, high = self.hist_range
        for ax in axes.flat[len(hists) :]:
            ax.axis("off")
        for i, (ax, hist) in enumerate(zip(axes.flat, hists, strict=False)):
            extent = (-0.5, hist.shape[1] - 0.5, low, high)
            ax.imshow(
                hist.float().log1p().numpy(),
                origin="lower",
                aspect="auto",
                extent=extent,
                cmap=cmap,
                interpolation="nearest",
            )
            ax.grid(visible=False)
            ax.set_title(f"layer {i}")
        for ax in axes[-1]:
            ax.set_xlabel("batch")
        for ax in axes[:, 0]:
            ax.set_ylabel("output")
        return figure


def _bincount(index: Tensor, n: int) -> Tensor:
    """Count how often each number from 0 to n − 1 occurs, without waiting for the device."""
    if index.device.type == "cpu":
        return torch.bincount(index, minlength=n)  # elsewhere this asks for the largest, and waits
    return _scatter_count(index, n)


def _scatter_count(index: Tensor, n: int) -> Tensor:
    counts = torch.zeros(n, dtype=torch.int64, device=index.device)
    return counts.scatter_add_(0, index.long(), torch.ones_like(index, dtype=torch.int64))


def _plot_lines(values: Tensor, label: str, ax: Axes | None, batches: int | None) -> Axes:
    ax = subplots()[1] if ax is None else ax
    for i, line in enumerate(values[:, :batches].cpu()):
        ax.plot(line.numpy(), label=f"layer {i}", linewidth=1.2)
    ax.set(xlabel="batch", ylabel=label)
    ax.legend()
    return ax


def _layers_of(model: nn.Module) -> list[nn.Module]:
    for ranks in ((3, 4, 5), (2,)):  # of the weights of a convolution, and of a linear layer
        layers = [
            child
            for child in model.children()
            if any(_rank_of_weight(module) in ranks for module in child.modules())
        ]
        if layers:
            return layers
    raise ValueError(
        "modules must be given, as no child of the model holds a convolution or a linear layer."
    )


def _rank_of_weight(module: nn.Module) -> int:
    weight = getattr(module, "weight", None)
    return weight.ndim if isinstance(weight, Tensor) else 0
