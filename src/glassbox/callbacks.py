"""Callbacks for the `Learner`: metrics, a record of the run, progress, devices, batch transforms.

`accuracy`, `Metrics`, `Recorder`, `Progress`, `DevicePlacement`, `BatchTransform`.

Built in the chapters *callbacks* and *neural-net*.
"""

from __future__ import annotations

import html
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor

from glassbox.data import default_device
from glassbox.learner import Callback
from glassbox.plots import subplots

__all__ = ["BatchTransform", "DevicePlacement", "Metrics", "Progress", "Recorder", "accuracy"]


def accuracy(pred: Tensor, target: Tensor) -> Tensor:
    """Return the share of rows of `pred`, of shape (n, classes), whose largest entry is the target.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if pred.ndim != 2 or target.shape != pred.shape[:1]:
        raise ValueError(
            "pred and target must have shapes (n, classes) and (n,), but they have "
            f"{tuple(pred.shape)} and {tuple(target.shape)}."
        )
    return (pred.argmax(1) == target).mean(dtype=torch.float32)


class DevicePlacement(Callback):
    """Moves the model before the fit, and each batch as it comes, to a device.

    Parameters
    ----------
    device : device, optional
        `default_device()` when left out.
    """

    order = -20

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.device = default_device() if device is None else torch.device(device)

    def before_fit(self) -> None:
        """Move the model in place: the optimizer keeps its parameters."""
        self.learn.model.to(self.device)

    def before_batch(self) -> None:
        """Move the batch."""
        self.learn.xb = self.learn.xb.to(self.device, non_blocking=True)
        self.learn.yb = self.learn.yb.to(self.device, non_blocking=True)


class BatchTransform(Callback):
    """Passes the inputs of every batch through a function, on the device.

    Parameters
    ----------
    transform : callable
        From inputs to inputs.
    train_only : bool
        Leave the validation batches as they are.
    """

    order = -10

    def __init__(self, transform: Callable[[Tensor], Tensor], *, train_only: bool = False) -> None:
        self.transform, self.train_only = transform, train_only

    def before_batch(self) -> None:
        """Replace the inputs."""
        if self.learn.training or not self.train_only:
            self.learn.xb = self.transform(self.learn.xb)


class Metrics(Callback):
    """Averages the loss, and functions of predictions and targets, over each pass.

    The sums stay on the device and are read once, at the end of a pass: reading a number from an
    accelerator makes the program wait for it.

    Parameters
    ----------
    **functions : callable
        `name=function`, where `function(pred, target)` returns the mean over a batch as a tensor of
        rank 0. Batches are weighted by their number of items.

    Attributes
    ----------
    train, valid : dict of str to float
        The averages of the last pass, under "loss" and the given names; empty before it.

    Raises
    ------
    TypeError, ValueError
        If a function cannot be called, or is named "loss".
    """

    order = 50

    def __init__(self, **functions: Callable[[Any, Any], Tensor]) -> None:
        for name, function in functions.items():
            if not callable(function):
                raise TypeError(f"{name} must be a function, but it is {function!r}.")
        if "loss" in functions:
            raise ValueError("A metric must not be named 'loss': the loss is always averaged.")
        self.functions = functions
        self.train: dict[str, float] = {}
        self.valid: dict[str, float] = {}

    def _start(self) -> None:
        self._n = 0
        self._sums: list[Tensor] = []

    before_train = before_validate = _start

    def before_epoch(self) -> None:
        """Forget the averages of the epoch before, lest they pass for those of this one."""
        self.train, self.valid = {}, {}

    @torch.no_grad()
    def after_loss(self) -> None:
        """Add the batch to the sums."""
        pred, target = self.learn.pred.detach(), self.learn.yb
        values = [self.learn.loss.detach(), *(f(pred, target) for f in self.functions.values())]
        n = len(target)
        self._n += n
        if self._sums:
            for total, value in zip(self._sums, values, strict=True):
                total.add_(value, alpha=n)
        else:
            self._sums = [value.clone().mul_(n) for value in values]

    def _averages(self) -> dict[str, float]:
        if not self._sums:
            return {}
        means = torch.stack([s.float() for s in self._sums]) / self._n
        return dict(zip(["loss", *self.functions], means.tolist(), strict=True))

    def after_train(self) -> None:
        """Read the training averages from the device."""
        self.train = self._averages()

    def after_validate(self) -> None:
        """Read the validation averages from the device."""
        self.valid = self._averages()

    def as_row(self) -> dict[str, float]:
        """Return all averages as one flat dict: train_loss, …, valid_loss, …."""
        return {
            f"{part}_{name}": value
            for part, values in (("train", self.train), ("valid", self.valid))
            for name, value in values.items()
        }


def _metrics_of(callback: Callback) -> dict[str, float]:
    for other in callback.learn.callbacks:
        if isinstance(other, Metrics):
            return other.as_row()
    return {}


class Recorder(Callback):
    """Keeps the loss and learning rate of every training batch, and the metrics of every epoch.

    Attributes
    ----------
    losses : list of float
        One for each training batch, over all fits.
    lrs : list of float
        The learning rate of each of them, that of the first parameter group.
    history : list of dict
        One for each epoch: "epoch", "seconds", and what `Metrics` gives, such as "valid_accuracy".
    """

    order = 60

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self.lrs: list[float] = []
        self.history: list[dict[str, float]] = []

    @property
    def losses(self) -> list[float]:
        """The losses, read from the device when asked for, not batch by batch."""
        return torch.stack(self._losses).tolist() if self._losses else []

    def before_epoch(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def after_loss(self) -> None:
        """Keep the loss of a training batch, on its device, and the rate of the coming step."""
        if self.learn.training:
            self._losses.append(self.learn.loss.detach())
            self.lrs.append(self.learn.opt.param_groups[0]["lr"])

    def after_epoch(self) -> None:
        """Add a row to the history."""
        seconds = time.perf_counter() - self._start
        epoch = len(self.history)
        self.history.append({"epoch": epoch, **_metrics_of(self), "seconds": seconds})

    def plot_loss(self, ax: Axes | None = None, smooth: float = 0.9) -> Axes:
        """Draw the training loss of each batch, and its exponentially weighted average.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure when left out.
        smooth : float
            What the average keeps at each batch, from 0 to below 1.
        """
        ax = _axes(ax)
        losses = self.losses
        average, weight, smoothed = 0.0, 0.0, []
        for loss in losses:
            average = smooth * average + (1 - smooth) * loss
            weight = smooth * weight + (1 - smooth)
            smoothed.append(average / weight)
        ax.plot(losses, alpha=0.35, linestyle="-", label="each batch")
        ax.plot(smoothed, color=ax.lines[-1].get_color(), linestyle="-", label="moving average")
        ax.set(xlabel="batch", ylabel="training loss")
        ax.legend()
        return ax

    def plot_metrics(self, name: str = "loss", ax: Axes | None = None) -> Axes:
        """Draw one metric of both passes, epoch by epoch.

        Raises
        ------
        ValueError
            If no metric of that name was recorded.
        """
        keys = [
            k for k in (f"train_{name}", f"valid_{name}") if self.history and k in self.history[0]
        ]
        if not keys:
            known = sorted({k.partition("_")[2] for row in self.history for k in row if "_" in k})
            raise ValueError(f"name must be a recorded metric {known}, but it is {name!r}.")
        ax = _axes(ax)
        epochs = [row["epoch"] + 1 for row in self.history]
        for key in keys:
            label = "training" if key.startswith("train_") else "validation"
            ax.plot(
                epochs,
                [row.get(key, float("nan")) for row in self.history],
                marker="o",
                label=label,
            )
        ax.set(xlabel="epoch", ylabel=name)
        ax.legend()
        return ax

    def plot_lr(self, ax: Axes | None = None) -> Axes:
        """Draw the learning rate of each batch."""
        ax = _axes(ax)
        ax.plot(self.lrs)
        ax.set(xlabel="batch", ylabel="learning rate")
        return ax


def _axes(ax: Axes | None) -> Axes:
    return subplots()[1] if ax is None else ax


class Progress(Callback):
    """Shows how far the fit is, and a row of metrics for each epoch.

    In a notebook a table that grows under a bar; in a terminal plain lines; with the environment
    variable CI set, or with output that goes to a file, nothing. Nothing is read from the device
    before the end of an epoch.

    Parameters
    ----------
    every : float
        The bar moves at most once in this many seconds.
    """

    order = 70

    def __init__(self, every: float = 0.25) -> None:
        self.every = every

    def before_fit(self) -> None:
        """Choose the kind of display, and open it."""
        self.rows: list[dict[str, float]] = []
        self._bar_shown = False
        self._last = time.perf_counter()
        self._display: Any = None
        if _in_notebook():
            from IPython.display import HTML, display

            self._display = display(HTML(""), display_id=True)
        self._plain = self._display is None and sys.stderr.isatty() and not os.environ.get("CI")

    def before_epoch(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def after_batch(self) -> None:
        """Move the bar, unless it has just moved."""
        now = time.perf_counter()
        if now - self._last < self.every:
            return
        self._last = now
        if self._display is not None:
            self._show(bar=True)
        elif self._plain:
            self._bar_shown = True
            print(f"\r{self._where()}", end="", file=sys.stderr, flush=True)

    def after_epoch(self) -> None:
        """Add a row."""
        seconds = time.perf_counter() - self._start
        row = {"epoch": self.learn.epoch, **_metrics_of(self), "seconds": seconds}
        self.rows.append(row)
        if self._display is not None:
            self._show(bar=self.learn.epoch + 1 < self.learn.n_epochs)
        elif self._plain:
            line = "  ".join(f"{name} {_format(name, value)}" for name, value in row.items())
            print(f"{self._clear()}{line}", file=sys.stderr, flush=True)

    def cleanup(self) -> None:
        """Take the bar away, also when the fit ended early."""
        if self._display is not None:
            self._show(bar=False)
        elif self._plain:
            print(self._clear(), end="", file=sys.stderr, flush=True)

    def _clear(self) -> str:
        shown, self._bar_shown = self._bar_shown, False
        return "\r\033[K" if shown else ""

    def _total(self) -> int | None:
        try:
            return len(self.learn.dl)  # type: ignore[arg-type]
        except TypeError:
            return None

    def _where(self) -> str:
        total = self._total()
        part = "training" if self.learn.training else "validation"
        of = f" of {total}" if total else ""
        return (
            f"epoch {self.learn.epoch + 1} of {self.learn.n_epochs}, {part}, "
            f"batch {self.learn.iteration + 1}{of}"
        )

    def _show(self, *, bar: bool) -> None:
        from IPython.display import HTML

        parts = []
        if self.rows:
            names = list(self.rows[0])
            head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in names)
            body = "".join(
                "<tr>" + "".join(f"<td>{_format(n, row.get(n))}</td>" for n in names) + "</tr>"
                for row in self.rows
            )
            parts.append(
                f'<table class="gb-progress"><thead><tr>{head}</tr></thead>'
                f"<tbody>{body}</tbody></table>"
            )
        if bar:
            total = self._total()
            value = f' value="{self.learn.iteration + 1}" max="{total}"' if total else ""
            parts.append(f"<div><progress{value}></progress> {self._where()}</div>")
        self._display.update(HTML("".join(parts)))


def _format(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name == "epoch":
        return str(value)
    return f"{value:.2f}" if name == "seconds" else f"{value:.4f}"


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and hasattr(shell, "kernel")
