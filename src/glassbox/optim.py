"""Optimizers: stochastic gradient descent, with momentum if you like, and Adam.

`Optimizer`, `SGD`, `Adam`, `AdamW`. They hold `param_groups` of the shape that `torch.optim` uses,
and take the same steps, so that either kind can be handed to whatever expects the other.

Built in the chapters *sgd* and *regularization*.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]

ParamGroup = dict[str, Any]


def _check_range(
    name: str, value: float, low: float = 0.0, high: float = math.inf, *, open_low: bool = False
) -> None:
    inside = (low < value if open_low else low <= value) and value < high
    if not inside:
        allowed = f"{'more than' if open_low else 'at least'} {low:g}"
        allowed += f" and less than {high:g}" if high < math.inf else " and finite"
        raise ValueError(f"{name} must be {allowed}, but it is {value!r}.")


class Optimizer:
    """What every optimizer shares: groups of parameters, their options, and a state for each one.

    A subclass says in `update` what one step does to one parameter.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        The tensors to train. As dicts, each with the key "params" and options of its own, they
        form groups with, say, different learning rates.
    lr : float
        The learning rate, at least 0, of every group that does not set its own.
    **defaults : float or tuple
        Further options.

    Raises
    ------
    ValueError
        If there is no parameter, one is given twice, or an option is out of range.
    TypeError
        If a parameter is not a tensor.
    """

    param_groups: list[ParamGroup]
    state: dict[Tensor, dict[str, Any]]

    def __init__(
        self, params: Iterable[Tensor] | Iterable[ParamGroup], lr: float, **defaults: Any
    ) -> None:
        if isinstance(params, Tensor):
            raise TypeError("params must be an iterable of tensors, but it is a single tensor.")
        entries: list[Any] = list(params)
        if not entries:
            raise ValueError("params must hold at least one tensor, but it is empty.")
        groups = entries if isinstance(entries[0], dict) else [{"params": entries}]
        self.param_groups = []
        self.state = {}
        seen: set[int] = set()
        for group in groups:
            group = {"lr": lr, **defaults, **group, "params": list(group["params"])}
            self.check_options(group)
            for p in group["params"]:
                if not isinstance(p, Tensor):
                    raise TypeError(f"params must hold tensors, but it holds a {type(p).__name__}.")
                if id(p) in seen:
                    raise ValueError("params must hold each tensor once, but it holds one twice.")
                seen.add(id(p))
            self.param_groups.append(group)

    def check_options(self, group: ParamGroup) -> None:
        """Raise a ValueError if an option of the group is out of range."""
        _check_range("lr", group["lr"])

    def update(self, p: Tensor, grad: Tensor, group: ParamGroup) -> None:
        """Change `p` in place, given its gradient and the options of its group."""
        raise NotImplementedError(f"{type(self).__name__} must define update.")

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, p.grad, group)

    def zero_grad(self) -> None:
        """Forget the gradients; otherwise the next backward pass would add to them."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on besides the parameters, as `torch.optim` does.

        Returns
        -------
        dict
            "state": what is kept of each parameter, by its number; "param_groups": the options of
            each group, with the numbers of its parameters. It holds the tensors themselves, no
            copies: to keep them as they are now, copy or save them.
        """
        number = {p: i for i, p in enumerate(self._params())}
        groups = [{**g, "params": [number[p] for p in g["params"]]} for g in self.param_groups]
        return {"state": {number[p]: s for p, s in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` returned; its tensors are copied.

        Parameters
        ----------
        state_dict : dict
            Of an optimizer with as many groups, and as many parameters in each.

        Raises
        ------
        ValueError
            If the groups differ, or an option is out of range; nothing has changed then.
        """
        saved = state_dict["param_groups"]
        theirs = [len(group["params"]) for group in saved]
        ours = [len(group["params"]) for group in self.param_groups]
        if theirs != ours:
            raise ValueError(
                f"state_dict must have groups of {ours} parameters, but it has groups of {theirs}."
            )
        for group in saved:
            self.check_options(group)
        for group, options in zip(self.param_groups, saved, strict=True):
            group.update({k: v for k, v in options.items() if k != "params"})
        params = self._params()
        self.state = {
            params[i]: {k: _copy_like(v, params[i]) for k, v in state.items()}
            for i, state in state_dict["state"].items()
        }

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]


def _copy_like(value: Any, p: Tensor) -> Any:
    """Return a state's value, a tensor as a copy on the device of its parameter."""
    return value.to(p.device, copy=True) if isinstance(value, Tensor) else value


class SGD(Optimizer):
    """Stochastic gradient descent: step against the gradient, or against its running sum.

    Parameters
    ----------
    params, lr
        As in `Optimizer`.
    momentum : float
        What is kept of the running sum at each step, from 0 (none) to below 1 [1]_.
    weight_decay : float
        This times the parameter is added to its gradient.

    References
    ----------
    .. [1] Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[ParamGroup],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay)

    def check_options(self, group: ParamGroup) -> None:
        """Raise a ValueError if lr, momentum or weight_decay is out of range."""
        super().check_options(group)
        _check_range("momentum", group["momentum"], high=1.0)
        _check_range("weight_decay", group["weight_decay"])

    def update(self, p: Tensor, grad: Tensor, group: ParamGroup) -> None:
        """Take one step: p ← p − lr · (grad, or the running sum of the gradients)."""
        if group["weight_decay"]:
            grad = grad + group["weight_decay"] * p
        if group["momentum"]:
            if p not in self.state:
                self.state[p] = {"velocity": torch.zeros_like(p)}
            grad = self.state[p]["velocity"].mul_(group["momentum"]).add_(grad)
        p.sub_(grad, alpha=group["lr"])


class Adam(Optimizer):
    """Adam: a step of about `lr` in each coordinate, whatever the size of its gradient [1]_.

    Parameters
    ----------
    params, lr
        As in `Optimizer`.
    betas : (float, float)
        What the running averages of the gradient and of its square keep at each step, from 0 to
        below 1.
    eps : float
        Added to the denominator, so that it is never 0.
    weight_decay : float
        This times the parameter is added to its gradient.

    References
    ----------
    .. [1] Kingma & Ba, "Adam: a method for stochastic optimization", 2015.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[ParamGroup],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def check_options(self, group: ParamGroup) -> None:
        """Raise a ValueError if lr, betas, eps or weight_decay is out of range."""
        super().check_options(group)
        for i, beta in enumerate(group["betas"]):
            _check_range(f"betas[{i}]", beta, high=1.0)
        _check_range("eps", group["eps"], open_low=True)
        _check_range("weight_decay", group["weight_decay"])

    def update(self, p: Tensor, grad: Tensor, group: ParamGroup) -> None:
        """Take one step: p ← p − lr · average gradient / √(average squared gradient)."""
        if group["weight_decay"]:
            grad = grad + group["weight_decay"] * p
        if p not in self.state:
            self.state[p] = {
                "step": 0,
                "average": torch.zeros_like(p),
                "square": torch.zeros_like(p),
            }
        state = self.state[p]
        state["step"] += 1
        beta1, beta2 = group["betas"]
        state["average"] = beta1 * state["average"] + (1 - beta1) * grad
        state["square"] = beta2 * state["square"] + (1 - beta2) * grad**2
        # The averages start at 0 and are too small at first, by exactly these factors.
        average = state["average"] / (1 - beta1 ** state["step"])
        square = state["square"] / (1 - beta2 ** state["step"])
        p.sub_(average / (square.sqrt() + group["eps"]), alpha=group["lr"])


class AdamW(Adam):
    """Adam with weight decay beside the gradient instead of within it [1]_.

    What is added to the gradient, as in `Adam`, is divided by the size of the gradient like
    everything else: weights with large gradients hardly decay. Here all shrink by the same share.

    Parameters
    ----------
    params, lr, betas, eps
        As in `Adam`.
    weight_decay : float
        This times `lr` is the share that a parameter loses at each step.

    References
    ----------
    .. [1] Loshchilov & Hutter, "Decoupled weight decay regularization", 2019.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[ParamGroup],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, p: Tensor, grad: Tensor, group: ParamGroup) -> None:
        """Take one step: p ← (1 - lr · weight_decay) · p, and then a step of Adam."""
        p.mul_(1 - group["lr"] * group["weight_decay"])
        super().update(p, grad, {**group, "weight_decay": 0.0})
