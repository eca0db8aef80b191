"""The training loop, and the events at which callbacks take part in it.

`Learner`, `Callback`, `EVENTS`, `CancelFitException`, `CancelEpochException`,
`CancelBatchException`.

The loop knows data, model, loss and optimizer. Everything else (metrics, progress, schedules,
moving batches to a device) lives in callbacks, of which the loop knows nothing.

Built in the chapters *callbacks* and *neural-net*.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from glassbox.checks import whole
from glassbox.data import DataLoaders
from glassbox.optim import SGD

__all__ = [
    "EVENTS",
    "Callback",
    "CancelBatchException",
    "CancelEpochException",
    "CancelFitException",
    "Learner",
]

EVENTS = (
    "before_fit",
    "before_epoch",
    "before_train",
    "before_batch",
    "after_pred",
    "after_loss",
    "after_backward",
    "after_step",
    "after_cancel_batch",
    "after_batch",
    "after_train",
    "before_validate",
    "after_validate",
    "after_cancel_epoch",
    "after_epoch",
    "after_cancel_fit",
    "after_fit",
    "cleanup",
)
"""The events in the order in which they come; a validation batch has none from backward to step."""


class CancelFitException(Exception):
    """Raised by a callback to end the fit: `after_cancel_fit`, `after_fit` and `cleanup` follow.

    The pass, the epoch and the batch that it interrupts get none of their closing events.
    """


class CancelEpochException(Exception):
    """Raised by a callback to go on with the next epoch, after this one's `after_epoch`.

    The pass and the batch that it interrupts get none of their closing events.
    """


class CancelBatchException(Exception):
    """Raised by a callback to go on with the next batch, after this one's `after_batch`.

    It belongs into an event of a batch; elsewhere there is none to cancel, and it ends the fit.
    """


class Callback:
    """Something that takes part in training: a method named like an event is called at the event.

    While it belongs to a learner, `self.learn` is that learner, and it may read and change
    anything there. Callbacks with a smaller `order` come first; equal ones as they were added.

    Raises
    ------
    TypeError
        When a subclass has a method that is named almost like an event.

    Examples
    --------
    >>> class StopAfter(Callback):
    ...     def __init__(self, n_batches):
    ...         self.n_batches = n_batches
    ...     def after_batch(self):
    ...         if self.learn.iteration + 1 >= self.n_batches:
    ...             raise CancelFitException
    """

    order: int = 0
    learn: Learner

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in vars(cls):
            _check_event_name(cls.__name__, name)

    def __call__(self, event: str) -> None:
        """Take part in one event. Override it to see every event."""
        method = getattr(self, event, None)
        if method is not None:
            method()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _check_event_name(owner: str, name: str) -> None:
    if name in EVENTS or name.startswith("_") or hasattr(Callback, name):
        return
    near = difflib.get_close_matches(name, EVENTS, n=1, cutoff=0.8)
    if near or name.startswith(("before_", "after_")):
        hint = f"did you mean {near[0]!r}?" if near else f"the events are {', '.join(EVENTS)}."
        raise TypeError(f"{owner} has a method {name!r}, which is not an event: {hint}")


class Learner:
    """Data, a model, a loss and an optimizer, and the loop that brings them together.

    Parameters
    ----------
    model : nn.Module
        Called with a batch of inputs, returns predictions.
    dls : DataLoaders
        Training and (optionally) validation batches, each a pair (inputs, targets).
    loss_func : callable
        `loss_func(pred, targets)` returns a tensor of rank 0.
    opt_func : callable
        `opt_func(params, lr=lr)` returns an optimizer; called once, at the first fit.
    lr : float, or sequence of float
        The learning rate of a `fit` that names none; a sequence has one for each group.
    callbacks : iterable of Callback
        They take part in every fit.
    splitter : callable, optional
        `splitter(model)` returns lists of parameters, each of which becomes a group of the
        optimizer with a rate of its own; together they must hold every trainable parameter. When
        left out, there is one group.

    Attributes
    ----------
    opt : Optimizer
        Kept from one fit to the next, with its state; set it to None for a new one.
    n_epochs, epoch, iteration : int
        How many epochs this fit has, and the number of the current epoch and of the current batch
        in its pass, from 0.
    training : bool
        Whether the current pass trains.
    dl : iterable
        The batches of the current pass.
    xb, yb, pred, loss
        The current batch and what became of it; `pred` and `loss` are None until they are computed.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind, or `lr` is not a positive number.
    """

    opt: Any
    dl: Iterable[Any]
    xb: Any
    yb: Any
    pred: Any
    loss: Any

    def __init__(
        self,
        model: nn.Module,
        dls: DataLoaders,
        loss_func: Callable[[Any, Any], Tensor],
        opt_func: Callable[..., Any] = SGD,
        lr: float | Sequence[float] = 1e-2,
        callbacks: Iterable[Callback] = (),
        splitter: Callable[[nn.Module], Iterable[Iterable[Tensor]]] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be an nn.Module, but it is a {type(model).__name__}.")
        if not hasattr(dls, "train") or not hasattr(dls, "valid"):
            raise TypeError(f"dls must be a DataLoaders, but it is a {type(dls).__name__}.")
        _check_lr(lr)
        self.model, self.dls, self.loss_func, self.opt_func = model, dls, loss_func, opt_func
        self.lr, self.splitter = lr, splitter
        self.opt = None
        self.callbacks: list[Callback] = []
        self.n_epochs = self.epoch = self.iteration = 0
        self.training = False
        self.xb = self.yb = self.pred = self.loss = None
        for callback in callbacks:
            self.add_callback(callback)

    def fit(
        self,
        n_epochs: int,
        lr: float | Sequence[float] | None = None,
        callbacks: Iterable[Callback] = (),
        start_epoch: int = 0,
    ) -> None:
        """Train for a number of epochs, each followed by a pass over the validation set.

        Parameters
        ----------
        n_epochs : int
            At least 1.
        lr : float, or sequence of float, optional
            The learning rate, or one for each parameter group; when left out, that of the learner
            at the first fit, and what the optimizer has at later ones.
        callbacks : iterable of Callback
            They take part in this fit only.
        start_epoch : int
            The epoch to begin with, from 0 to below `n_epochs`: a fit that was interrupted after
            two of five epochs goes on with `fit(5, start_epoch=2)`.

        Raises
        ------
        TypeError, ValueError
            If an argument is of the wrong kind or out of range.
        RuntimeError
            If model and data, or predictions and targets, do not fit together.
        """
        whole("n_epochs", n_epochs, 1)
        whole("start_epoch", start_epoch, 0, n_epochs - 1)
        if lr is not None:
            _check_lr(lr)
        with self._temporary(callbacks), ExitStack() as stack:
            self.prepare_optimizer(lr)
            self.n_epochs, self._start_epoch = n_epochs, start_epoch
            for callback in reversed(self.callbacks):  # what goes on the stack first, leaves last
                stack.callback(callback, "cleanup")
            self._run("fit", self._all_epochs, CancelFitException)

    def _all_epochs(self) -> None:
        for epoch in range(self._start_epoch, self.n_epochs):
            self.epoch = epoch
            self._run("epoch", self._one_epoch, CancelEpochException)

    def _one_epoch(self) -> None:
        self.training = True
        self.model.train()
        self("before_train")
        self._all_batches(self.dls.train)
        self("after_train")
        if self.dls.valid is not None:
            self.validate()

    def validate(self) -> None:
        """Go once through the validation set, without gradients, with all callbacks.

        Raises
        ------
        ValueError
            If there is no validation set.
        """
        if self.dls.valid is None:
            raise ValueError("dls.valid must hold validation batches, but it is None.")
        self.training = False
        self.model.eval()
        self("before_validate")
        with torch.no_grad():
            self._all_batches(self.dls.valid)
        self("after_validate")

    def _all_batches(self, dl: Iterable[Any]) -> None:
        self.dl = dl
        for self.iteration, batch in enumerate(dl):
            self.xb, self.yb = _pair(batch)
            self.pred = self.loss = None
            self._run("batch", self._one_batch, CancelBatchException)

    def _one_batch(self) -> None:
        with self._explain("the model failed on inputs of shape {xb}"):
            self.pred = self.model(self.xb)
        self("after_pred")
        with self._explain("the loss failed on predictions of shape {pred} and targets of {yb}"):
            self.loss = self.loss_func(self.pred, self.yb)
        self("after_loss")
        if not self.training:
            return
        self.loss.backward()
        self("after_backward")
        self.opt.step()
        self("after_step")
        # After the step, not before the pass: a batch cancelled before its step leaves its
        # gradients to the next one, which is how gradients are accumulated over batches.
        self.opt.zero_grad()

    def _run(self, name: str, body: Callable[[], None], cancel: type[Exception]) -> None:
        try:
            self(f"before_{name}")
            body()
        except cancel:
            self(f"after_cancel_{name}")
        self(f"after_{name}")

    def __call__(self, event: str) -> None:
        """Let every callback take part in an event, in order."""
        for callback in self.callbacks:
            callback(event)

    def add_callback(self, callback: Callback) -> None:
        """Let a callback take part from now on.

        Raises
        ------
        TypeError
            If it is not an instance of `Callback`.
        """
        if not isinstance(callback, Callback):
            kind = (
                f"the class {callback.__name__}" if isinstance(callback, type) else repr(callback)
            )
            raise TypeError(f"callbacks must be instances of Callback, but one is {kind}.")
        callback.learn = self
        # A new list, as a callback may be added while an event goes through the old one.
        self.callbacks = sorted([*self.callbacks, callback], key=lambda c: c.order)

    def remove_callback(self, callback: Callback) -> None:
        """Let a callback take part no longer.

        Raises
        ------
        ValueError
            If it does not take part.
        """
        if not any(c is callback for c in self.callbacks):
            raise ValueError(f"callback must be one of {self.callbacks}, but it is {callback!r}.")
        self.callbacks = [c for c in self.callbacks if c is not callback]

    @torch.no_grad()
    def predict(self, x: Tensor, batch_size: int = 1024) -> Tensor:
        """Return the model's outputs for inputs of shape (n, …), in evaluation mode, no events.

        The inputs are moved to where the model's parameters are, the outputs stay there.
        """
        parameter = next(self.model.parameters(), x)
        training = self.model.training
        self.model.eval()
        try:
            with self._explain("the model failed on inputs in batches of {x}", x=x[:batch_size]):
                return torch.cat(
                    [self.model(xb.to(parameter.device)) for xb in x.split(batch_size)]
                )
        finally:
            self.model.train(training)

    @contextmanager
    def _temporary(self, callbacks: Iterable[Callback]) -> Iterator[None]:
        added = []
        try:
            for callback in callbacks:
                self.add_callback(callback)
                added.append(callback)
            yield
        finally:
            for callback in added:
                self.remove_callback(callback)

    def prepare_optimizer(self, lr: float | Sequence[float] | None = None) -> None:
        """Make the optimizer, unless there is one, and set its rates. `fit` begins with it.

        Parameters
        ----------
        lr : float, or sequence of float, optional
            As in `fit`.

        Raises
        ------
        ValueError
            If a sequence of rates does not have one for each parameter group, or the groups of the
            splitter leave out a trainable parameter.
        """
        if self.opt is None:
            groups = self._split()
            rates = _rates(self.lr if lr is None else lr, len(groups))
            params = [{"params": ps, "lr": r} for ps, r in zip(groups, rates, strict=True)]
            self.opt = self.opt_func(params if self.splitter else groups[0], lr=rates[-1])
        elif lr is not None:
            rates = _rates(lr, len(self.opt.param_groups))
            for group, rate in zip(self.opt.param_groups, rates, strict=True):
                group["lr"] = rate

    def _split(self) -> list[list[Tensor]]:
        if self.splitter is None:
            return [[p for p in self.model.parameters() if p.requires_grad]]
        groups = [[p for p in group if p.requires_grad] for group in self.splitter(self.model)]
        inside = {id(p) for group in groups for p in group}
        missing = [
            name
            for name, p in self.model.named_parameters()
            if p.requires_grad and id(p) not in inside
        ]
        if missing:
            raise ValueError(
                "splitter must put every trainable parameter into a group, "
                f"but it leaves out {', '.join(missing)}."
            )
        return groups

    @contextmanager
    def _explain(self, sentence: str, **tensors: Any) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            named = {"xb": self.xb, "yb": self.yb, "pred": self.pred, **tensors}
            shapes = {k: tuple(t.shape) if isinstance(t, Tensor) else t for k, t in named.items()}
            message = sentence.format_map({k: str(v) for k, v in shapes.items()})
            raise RuntimeError(f"{message[0].upper()}{message[1:]}: {error}") from error


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise ValueError(
            f"a batch must be a pair (inputs, targets), but it is a {type(batch).__name__}{size}."
        )
    return batch[0], batch[1]


def _rates(lr: float | Sequence[float], n_groups: int) -> list[float]:
    rates = [lr] * n_groups if isinstance(lr, (int, float)) else list(lr)
    if len(rates) != n_groups:
        raise ValueError(
            f"lr must hold one rate for each of the {n_groups} parameter groups, "
            f"but it holds {len(rates)}."
        )
    return rates


def _check_lr(lr: float | Sequence[float]) -> None:
    for rate in lr if isinstance(lr, (list, tuple)) else [lr]:
        if not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
            raise ValueError(f"lr must be a positive number, but it is {rate!r}.")
