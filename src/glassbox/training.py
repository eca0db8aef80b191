"""What a training run is steered by: schedules, the rate finder, half precision.

`sched_no`, `sched_lin`, `sched_cos`, `sched_exp`, `combine_scheds`, `one_cycle`, `ParamScheduler`;
`LRFind`, `LRFinder`, `lr_find`; `MixedPrecision`.

All of it consists of callbacks and functions around the `Learner`, whose loop knows none of it.

Built in the chapter *training*.
"""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor

from glassbox.checkpoints import loader_generators, rng_state, set_rng_state
from glassbox.checks import is_number, whole
from glassbox.data import DataLoaders
from glassbox.learner import Callback, CancelBatchException, CancelFitException, Learner
from glassbox.plots import subplots

__all__ = [
    "LRFind",
    "LRFinder",
    "MixedPrecision",
    "ParamScheduler",
    "combine_scheds",
    "lr_find",
    "one_cycle",
    "sched_cos",
    "sched_exp",
    "sched_lin",
    "sched_no",
]

Schedule = Callable[[float], float]
"""From the position in a run, 0 at its begin and 1 at its end, to the value of an option."""


def sched_no(value: float) -> Schedule:
    """Return the schedule that stays at `value`."""
    return lambda position: value


def sched_lin(start: float, end: float) -> Schedule:
    """Return the schedule that goes from `start` to `end` along a line."""
    return lambda position: start + (end - start) * position


def sched_cos(start: float, end: float) -> Schedule:
    """Return the schedule that goes from `start` to `end` along half a cosine wave [1]_.

    References
    ----------
    .. [1] Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """
    return lambda position: start + (end - start) * (1 - math.cos(math.pi * position)) / 2


def sched_exp(start: float, end: float) -> Schedule:
    """Return the schedule that goes from `start` to `end` by equal factors.

    Raises
    ------
    ValueError
        If one of them is not positive.
    """
    if not (is_number(start, end) and 0 < start < math.inf and 0 < end < math.inf):
        raise ValueError(f"start and end must be positive, but they are {start!r} and {end!r}.")
    return lambda position: start * (end / start) ** position


def combine_scheds(pcts: Sequence[float], scheds: Sequence[Schedule]) -> Schedule:
    """Return a schedule that runs through others, each in its own share of the time.

    Parameters
    ----------
    pcts : sequence of float
        The shares, positive, with a sum of 1.
    scheds : sequence of callable
        As many schedules; each sees positions from 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If there are not as many shares as schedules, or one of them is not as it must be.
    """
    if len(pcts) != len(scheds) or not scheds:
        raise ValueError(
            "pcts and scheds must have the same length of at least 1, "
            f"but they have {len(pcts)} and {len(scheds)}."
        )
    total = sum(pcts) if is_number(*pcts) else math.nan
    if not (abs(total - 1) <= 1e-6 and all(pct > 0 for pct in pcts)):
        raise ValueError(
            f"pcts must be positive with a sum of 1, but they are {list(pcts)}, "
            f"with a sum of {total:g}."
        )
    for sched in scheds:
        if not callable(sched):
            raise TypeError(f"scheds must be functions of the position, but one is {sched!r}.")
    ends = list(itertools.accumulate(pcts))

    def combined(position: float) -> float:
        i = next((i for i, end in enumerate(ends) if position < end), len(ends) - 1)
        return scheds[i]((position - (ends[i] - pcts[i])) / pcts[i])

    return combined


def one_cycle(
    lr_max: float, pct_start: float = 0.25, div: float = 25.0, div_final: float = 1e5
) -> Schedule:
    """Return a warm-up to `lr_max` and a cool-down to almost nothing, along two cosines [1]_.

    Parameters
    ----------
    lr_max : float
        The largest rate.
    pct_start : float
        The share of the warm-up, between 0 and 1, both excluded.
    div, div_final : float
        The run begins at `lr_max / div` and ends at `lr_max / div_final`. (`final_div_factor` of
        `torch.optim.lr_scheduler.OneCycleLR` is `div_final / div`.)

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    .. [1] Smith & Topin, "Super-convergence: very fast training of neural networks using large
       learning rates", 2019.
    """
    for name, value in (("lr_max", lr_max), ("div", div), ("div_final", div_final)):
        if not (is_number(value) and 0 < value < math.inf):
            raise ValueError(f"{name} must be a positive number, but it is {value!r}.")
    if not (is_number(pct_start) and 0 < pct_start < 1):
        raise ValueError(f"pct_start must lie between 0 and 1, but it is {pct_start!r}.")
    return combine_scheds(
        [pct_start, 1 - pct_start],
        [sched_cos(lr_max / div, lr_max), sched_cos(lr_max, lr_max / div_final)],
    )


class ParamScheduler(Callback):
    """Sets an option of the optimizer before every training batch, by the position in the fit.

    The position is (epoch + iteration / batches) / n_epochs: 0 for the first batch, and a little
    less than 1 for the last. After the fit the option keeps its last value.

    Parameters
    ----------
    name : str
        The option, such as "lr" or "momentum".
    sched : callable, or sequence of callable
        From the position to the value; a sequence has one for each parameter group.

    Raises
    ------
    TypeError
        If a schedule cannot be called, or the training batches have no length.
    ValueError
        At the begin of a fit, if the optimizer has no such option, or the schedules are not as
        many as its groups; at a batch, if a schedule returns nothing, or a number that is negative
        or not finite.
    """

    def __init__(self, name: str, sched: Schedule | Sequence[Schedule]) -> None:
        for one in sched if isinstance(sched, (list, tuple)) else [sched]:
            if not callable(one):
                raise TypeError(
                    "sched must be a function of the position, or one for each group, but it is "
                    f"{one!r}."
                )
        self.name, self.sched = name, sched

    def before_fit(self) -> None:
        """Check that optimizer and schedules fit together."""
        groups = self.learn.opt.param_groups
        known = sorted(set(groups[0]) - {"params"})
        if self.name not in known:
            raise ValueError(
                f"name must be an option of the optimizer ({', '.join(known)}), "
                f"but it is {self.name!r}."
            )
        n_scheds = len(groups) if callable(self.sched) else len(self.sched)
        if n_scheds != len(groups):
            raise ValueError(
                f"sched must hold one schedule for each of the {len(groups)} parameter groups, "
                f"but it holds {n_scheds}."
            )
        if not hasattr(self.learn.dls.train, "__len__"):
            raise TypeError("dls.train must have a length, as a schedule ends with the last batch.")

    def before_batch(self) -> None:
        """Set the option in every group."""
        learn = self.learn
        if not learn.training:
            return
        position = (learn.epoch + learn.iteration / len(learn.dl)) / learn.n_epochs  # type: ignore[arg-type]
        for i, group in enumerate(learn.opt.param_groups):
            sched = self.sched if callable(self.sched) else self.sched[i]
            value = sched(position)
            if value is None or (is_number(value) and not 0 <= value < math.inf):
                raise ValueError(
                    f"sched must return finite numbers of at least 0 for {self.name!r}, "
                    f"but at position {position:g} it returns {value!r}."
                )
            group[self.name] = value


@dataclass
class LRFind:
    """What the rate finder saw.

    Attributes
    ----------
    lrs, losses : list of float
        The rate of each batch, and its loss before the step at that rate; all are finite.
    stopped : str
        Why it ended: "end" (of the range), "blow-up" or "not finite".
    """

    lrs: list[float]
    losses: list[float]
    stopped: str = ""

    @property
    def smoothed(self) -> list[float]:
        """The losses, averaged with weights that fall by a fifth from batch to batch."""
        total = weight = 0.0
        result = []
        for loss in self.losses:
            total, weight = 0.8 * total + loss, 0.8 * weight + 1
            result.append(total / weight)
        return result

    @property
    def suggestion(self) -> float:
        """A tenth of the rate at which the smoothed loss is lowest: a rule of thumb, no theorem."""
        if not self.losses:
            raise ValueError("losses must hold at least one loss for a suggestion, but is empty.")
        smoothed = self.smoothed
        return self.lrs[smoothed.index(min(smoothed))] / 10

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the losses over the rates, with the suggestion."""
        ax = subplots()[1] if ax is None else ax
        ax.plot(self.lrs, self.losses, alpha=0.35, linestyle="-", label="each batch")
        ax.plot(self.lrs, self.smoothed, color=ax.lines[-1].get_color(), label="smoothed")
        label = f"suggestion: {self.suggestion:.2g}"
        ax.axvline(self.suggestion, color="#d55e00", linestyle="--", label=label)
        ax.set(xscale="log", xlabel="learning rate", ylabel="training loss")
        ax.legend()
        return ax


class LRFinder(Callback):
    """Raises the rate of every group by equal factors, batch by batch, until the loss blows up.

    It cancels the fit at the end of the range, when the smoothed loss is `blow_up` times the best
    so far (of a loss below 0: when it has risen by as much as that of its size), or when the loss
    is not finite. To decide, it reads every loss from the device.

    Parameters
    ----------
    start, end : float
        The range of rates, 0 < start < end.
    n_batches : int
        How many training batches it takes, at least 2.
    blow_up : float
        More than 1.

    Attributes
    ----------
    found : LRFind
        What it has seen in this fit.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Smith, "Cyclical learning rates for training neural networks", 2017.
    """

    order = 100  # after whatever else sets the rate, and after every change of the loss

    def __init__(
        self, start: float = 1e-6, end: float = 10.0, n_batches: int = 100, blow_up: float = 4.0
    ) -> None:
        if not (is_number(start, end) and 0 < start < end < math.inf):
            raise ValueError(
                f"start and end must be rates with 0 < start < end, but they are {start!r} "
                f"and {end!r}."
            )
        whole("n_batches", n_batches, 2)
        if not (is_number(blow_up) and blow_up > 1):
            raise ValueError(f"blow_up must be more than 1, but it is {blow_up!r}.")
        self.sched, self.n_batches, self.blow_up = sched_exp(start, end), n_batches, blow_up
        self.found = LRFind([], [])

    def before_fit(self) -> None:
        """Begin anew."""
        self.found, self._best = LRFind([], []), math.inf

    def before_batch(self) -> None:
        """Set the next rate."""
        if self.learn.training:
            self._lr = self.sched(len(self.found.lrs) / (self.n_batches - 1))
            for group in self.learn.opt.param_groups:
                group["lr"] = self._lr

    def after_loss(self) -> None:
        """Note the loss, and stop when there is nothing more to learn."""
        if not self.learn.training:
            return
        loss, found = self.learn.loss.item(), self.found
        if math.isfinite(loss):
            found.lrs.append(self._lr)
            found.losses.append(loss)
            smoothed = found.smoothed[-1]
            self._best = min(self._best, smoothed)
            if smoothed > self._best + (self.blow_up - 1) * abs(self._best):
                found.stopped = "blow-up"
            elif len(found.lrs) == self.n_batches:
                found.stopped = "end"
        else:
            found.stopped = "not finite"
        if found.stopped:
            raise CancelFitException


def lr_find(
    learner: Learner,
    start: float = 1e-6,
    end: float = 10.0,
    n_batches: int = 100,
    blow_up: float = 4.0,
) -> LRFind:
    """Try rates from small to large on a learner, put everything back, and return what was seen.

    Model, optimizer, callbacks, loaders and random numbers are afterwards as they were, so that the
    next fit is as if this had never run. The callbacks of the learner take part; no epoch ends and
    nothing is validated.

    Parameters
    ----------
    learner : Learner
        With as few training batches as it likes: the loader is gone through again.
    start, end, n_batches, blow_up
        As in `LRFinder`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    RuntimeError
        If not even the first loss is finite.
    """
    finder = LRFinder(start, end, n_batches, blow_up)
    with _put_back(learner):
        learner.dls = DataLoaders(_Repeated(learner.dls.train, n_batches))
        learner.fit(1, callbacks=[finder])
    if not finder.found.lrs:
        raise RuntimeError(
            f"The loss of the first batch, before any step, is not finite (the smallest rate is "
            f"{start:g}): look for the reason in the data, the model or its first weights."
        )
    return finder.found


class _Repeated:
    """As many batches as you like of a loader, which begins anew when it ends."""

    def __init__(self, loader: Any, n_batches: int) -> None:
        self.loader, self.n_batches = loader, n_batches

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Any]:
        again = itertools.chain.from_iterable(self.loader for _ in range(self.n_batches))
        return itertools.islice(again, self.n_batches)


@contextmanager
def _put_back(learner: Learner) -> Iterator[None]:
    """Give a learner, and what belongs to it, back its state at the end of a block."""
    model = learner.model
    tensors = [
        (t, t.detach().clone()) for t in itertools.chain(model.parameters(), model.buffers())
    ]
    grads = [(p, None if p.grad is None else p.grad.clone()) for p in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    itself, opt = dict(vars(learner)), learner.opt
    opt_state = None if opt is None else copy.deepcopy(opt.state_dict())
    own = [learner, model, opt, learner.dls, *learner.callbacks]
    callbacks = [(c, _copied(vars(c), own)) for c in learner.callbacks]
    generators = [(g, g.get_state()) for g in loader_generators(learner.dls).values()]
    rng = rng_state()
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in tensors:
                tensor.copy_(value)
        for p, grad in grads:
            p.grad = grad if grad is None else grad.to(p.device)
        for module, mode in modes:
            module.training = mode
        for callback, state in [*callbacks, (learner, itself)]:
            vars(callback).clear()
            vars(callback).update(state)
        if opt is not None:
            opt.load_state_dict(opt_state)
        for generator, generator_state in generators:
            generator.set_state(generator_state)
        set_rng_state(rng)


def _copied(attributes: dict[str, Any], kept: Sequence[Any]) -> dict[str, Any]:
    """Copy what can be copied; the rest, such as an open file, and `kept` stay the same objects."""
    result = {}
    for name, value in attributes.items():
        try:
            result[name] = copy.deepcopy(value, {id(thing): thing for thing in kept})
        except (TypeError, RuntimeError, pickle.PicklingError):
            result[name] = value
    return result


class MixedPrecision(Callback):
    """Computes predictions in half precision where that is safe, and keeps the weights as they are.

    The model runs under `torch.autocast`; predictions become float32 again before the loss. With
    float16, whose smallest number is about 6e-8, gradients are computed of a multiple of the loss,
    so that they do not vanish, and divided again before other callbacks or the optimizer see them;
    the loss that callbacks see is the true one. A batch whose gradients are not finite is cancelled
    before its step, and the multiple halved; after `growth_interval` good ones it is doubled [1]_.

    Parameters
    ----------
    dtype : torch.dtype, optional
        torch.float16 or torch.bfloat16. When left out, float16 on CUDA and bfloat16 elsewhere.
    scale : float, optional
        The first multiple. When left out, 65536 with float16 and 1, for good, with bfloat16, whose
        range is that of float32.
    growth_interval : int
        See above.

    Attributes
    ----------
    scale : float
        The present multiple.
    n_skipped : int
        How many batches were cancelled.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    .. [1] Micikevicius et al., "Mixed precision training", 2018.
    """

    # After the batch was moved and transformed, before anybody else reads loss or gradients.
    order = -5

    def __init__(
        self,
        dtype: torch.dtype | None = None,
        scale: float | None = None,
        growth_interval: int = 2000,
    ) -> None:
        if dtype not in (None, torch.float16, torch.bfloat16):
            raise ValueError(f"dtype must be torch.float16 or torch.bfloat16, but it is {dtype!r}.")
        if scale is not None and not (is_number(scale) and 0 < scale < math.inf):
            raise ValueError(f"scale must be a positive number, but it is {scale!r}.")
        whole("growth_interval", growth_interval, 1)
        self.dtype, self.growth_interval = dtype, growth_interval
        self.scale, self._scaling = scale, scale is not None
        self.n_skipped = self._n_good = 0
        self._device_type = ""
        self._autocast: torch.autocast | None = None

    def before_fit(self) -> None:
        """Look where the model is, and choose what was left open."""
        self._device_type = next(self.learn.model.parameters()).device.type
        if self.dtype is None:
            self.dtype = torch.float16 if self._device_type == "cuda" else torch.bfloat16
        if self.scale is None:
            self.scale = 2.0**16 if self.dtype == torch.float16 else 1.0
        self._scaling = self._scaling or self.dtype == torch.float16

    def before_batch(self) -> None:
        """Enter autocast, inside a fit."""
        if self._device_type:
            self._autocast = torch.autocast(self._device_type, self.dtype)
            self._autocast.__enter__()

    def after_pred(self) -> None:
        """Leave autocast, and make the predictions float32."""
        self._leave()
        if isinstance(self.learn.pred, Tensor) and self.learn.pred.dtype == self.dtype:
            self.learn.pred = self.learn.pred.float()

    def _leave(self) -> None:
        if self._autocast is not None:
            self._autocast.__exit__(None, None, None)
            self._autocast = None

    after_cancel_batch = after_cancel_epoch = after_cancel_fit = _leave

    def after_loss(self) -> None:
        """Have the gradient of the loss multiplied, and what was accumulated before along with it.

        The hook changes the gradient that enters the backward pass and not the loss itself.
        """
        if self.learn.training and self._device_type and self._scaling:
            self.learn.loss.register_hook(self._multiply)

    def _multiply(self, grad: Tensor) -> Tensor:
        assert self.scale is not None
        for accumulated in self._grads():
            accumulated.mul_(self.scale)
        return grad * self.scale

    @torch.no_grad()
    def after_backward(self) -> None:
        """Divide the gradients again, or skip the step if one of them is not finite.

        This reads one number from the device, as it decides what the program does next.
        """
        if not self._scaling:
            return
        assert self.scale is not None
        grads = self._grads()
        for grad in grads:
            grad.div_(self.scale)
        if torch.stack([grad.isfinite().all() for grad in grads]).all():
            self._n_good += 1
            if self._n_good == self.growth_interval:
                self.scale, self._n_good = self.scale * 2, 0
            return
        self.scale, self._n_good = self.scale / 2, 0
        self.n_skipped += 1
        self.learn.opt.zero_grad()
        raise CancelBatchException

    def _grads(self) -> list[Tensor]:
        groups = self.learn.opt.param_groups
        return [p.grad for group in groups for p in group["params"] if p.grad is not None]

    def cleanup(self) -> None:
        """Leave autocast also after an error."""
        self._leave()
        self._device_type = ""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {"scale": self.scale, "n_good": self._n_good, "n_skipped": self.n_skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` returned."""
        self.scale = state_dict["scale"]
        self._n_good, self.n_skipped = state_dict["n_good"], state_dict["n_skipped"]
