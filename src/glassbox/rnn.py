"""Recurrent networks from tensors: three cells, layers of them, and a model of characters.

`RNNCell`, `GRUCell`, `LSTMCell`; `RNN`, `GRU`, `LSTM`; `CharModel`, `detached`; the callbacks
`ResetState` and `ClipGradient`, `clip_gradient`; `hidden_states`, `unit_correlations`.

Built in the chapter *rnns*.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassbox.checks import is_number, whole
from glassbox.learner import Callback
from glassbox.losses import sigmoid

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "CharModel",
    "ClipGradient",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "ResetState",
    "clip_gradient",
    "detached",
    "hidden_states",
    "unit_correlations",
]

State = Any
"""A tensor for an RNN or a GRU, a pair of tensors (hidden, memory) for an LSTM."""


class _Cell(nn.Module):
    """One time step: from an input and a state to the next state.

    A cell has two linear maps, one of the input and one of the hidden state, each with as many
    outputs as all its gates together, `gates` times the hidden size. They have PyTorch's names and
    shapes, and start from the same numbers as `torch.nn`'s cell after the same seed: uniform
    between ±1/√hidden_size.

    Parameters
    ----------
    input_size, hidden_size : int
        At least 1.
    """

    gates: ClassVar[int]

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        whole("input_size", input_size, 1)
        whole("hidden_size", hidden_size, 1)
        self.input_size, self.hidden_size = input_size, hidden_size
        rows, bound = self.gates * hidden_size, 1 / math.sqrt(hidden_size)
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size).uniform_(-bound, bound))
        self.bias_ih = nn.Parameter(torch.empty(rows).uniform_(-bound, bound))
        self.bias_hh = nn.Parameter(torch.empty(rows).uniform_(-bound, bound))

    def from_input(self, x: Tensor) -> Tensor:
        """Return the input's share in all gates, shape (…, gates · hidden_size).

        It needs no state, so a layer computes it for all time steps in one product.
        """
        return x @ self.weight_ih.T + self.bias_ih

    def from_hidden(self, h: Tensor) -> Tensor:
        """Return the hidden state's share in all gates, shape (n, gates · hidden_size)."""
        return h @ self.weight_hh.T + self.bias_hh

    def step(self, share: Tensor, state: State) -> State:
        """Return the next state, given `from_input` of a time step and the state before it."""
        raise NotImplementedError(f"{type(self).__name__} must define step.")

    def forward(self, x: Tensor, state: State) -> State:
        """Return the next state for inputs of shape (n, input_size)."""
        return self.step(self.from_input(x), state)


class RNNCell(_Cell):
    """h ← tanh(W x + b + U h + c) [1]_, equal to `torch.nn.RNNCell`.

    References
    ----------
    .. [1] Elman, "Finding structure in time", 1990.
    """

    gates = 1

    def step(self, share: Tensor, state: State) -> State:
        """Return the next hidden state, shape (n, hidden_size)."""
        return torch.tanh(share + self.from_hidden(state))


class GRUCell(_Cell):
    """A gated recurrent unit [1]_ [2]_, equal to `torch.nn.GRUCell`.

    The update gate z says how much of the old state stays, the reset gate r how much of it the
    candidate gets to see::

        candidate = tanh(W x + b + r (U h + c))
        h ← (1 − z) candidate + z h

    References
    ----------
    .. [1] Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
       machine translation", 2014.
    .. [2] PyTorch multiplies by r after the product with U, not before it as the paper does.
    """

    gates = 3

    def step(self, share: Tensor, state: State) -> State:
        """Return the next hidden state, shape (n, hidden_size)."""
        reset_x, update_x, new_x = share.chunk(3, -1)
        reset_h, update_h, new_h = self.from_hidden(state).chunk(3, -1)
        reset, update = sigmoid(reset_x + reset_h), sigmoid(update_x + update_h)
        candidate = torch.tanh(new_x + reset * new_h)
        return (1 - update) * candidate + update * state


class LSTMCell(_Cell):
    """Long short-term memory [1]_ with a forget gate [2]_, equal to `torch.nn.LSTMCell`.

    Next to the hidden state there is a memory that is only multiplied and added to::

        memory ← forget · memory + input · tanh(candidate)
        h ← output · tanh(memory)

    References
    ----------
    .. [1] Hochreiter & Schmidhuber, "Long short-term memory", 1997.
    .. [2] Gers, Schmidhuber & Cummins, "Learning to forget", 2000.
    """

    gates = 4

    def step(self, share: Tensor, state: State) -> State:
        """Return the next pair (hidden, memory), each of shape (n, hidden_size)."""
        h, memory = state
        input_, forget, candidate, output = (share + self.from_hidden(h)).chunk(4, -1)
        memory = sigmoid(forget) * memory + sigmoid(input_) * torch.tanh(candidate)
        return sigmoid(output) * torch.tanh(memory), memory


class _Recurrent(nn.Module):
    """Cells in a loop over time, and layers of such loops, each reading the outputs of the last.

    Parameters
    ----------
    input_size, hidden_size : int
        At least 1.
    num_layers : int
        At least 1.
    dropout : float
        What of the outputs of every layer but the last is dropped in training, from 0 to below 1.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    cell: ClassVar[type[_Cell]]
    parts: ClassVar[int] = 1  # tensors in a state

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        whole("num_layers", num_layers, 1)
        if not (is_number(dropout) and 0 <= dropout < 1):
            raise ValueError(f"dropout must be at least 0 and less than 1, but it is {dropout!r}.")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_layers, self.dropout = num_layers, dropout
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        cells = nn.ModuleList(self.cell(size, hidden_size) for size in sizes)
        self.cells: Iterable[_Cell] = cells  # type: ignore[assignment]

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Read sequences from left to right.

        Parameters
        ----------
        x : Tensor, shape (n, time, input_size)
        state : Tensor, shape (num_layers, n, hidden_size), optional
            To begin with; zeros when left out. For an LSTM a pair of such tensors.

        Returns
        -------
        outputs : Tensor, shape (n, time, hidden_size)
            The last layer's hidden state after every step.
        state
            Every layer's state after the last step, in the form of the argument.

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        begin = self._by_layer(x, state)
        rows, last = x.transpose(0, 1), []  # time first: each row is one step
        for layer, cell in enumerate(self.cells):
            state, outputs = begin[layer], []
            for share in cell.from_input(rows):
                state = cell.step(share, state)
                outputs.append(_hidden(state))
            rows = torch.stack(outputs)
            if layer + 1 < self.num_layers:
                rows = F.dropout(rows, self.dropout, self.training)
            last.append(state)
        return rows.transpose(0, 1), self._stacked(last)

    def _by_layer(self, x: Tensor, state: State) -> list[State]:
        """Check the shapes, and return the state that each layer begins with."""
        if x.ndim != 3 or x.shape[2] != self.input_size or x.shape[1] == 0:
            raise ValueError(
                f"x must have shape (n, time, {self.input_size}) with at least one time step, but "
                f"it has shape {tuple(x.shape)}."
            )
        shape = (self.num_layers, len(x), self.hidden_size)
        if state is None:
            parts: tuple[Tensor, ...] = (x.new_zeros(shape),) * self.parts
        else:
            parts = tuple(state) if isinstance(state, tuple | list) else (state,)
        shapes = [
            tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in parts
        ]
        if shapes != [shape] * self.parts:
            allowed = f"shape {shape}" if self.parts == 1 else f"two parts of shape {shape}"
            raise ValueError(
                f"state must have {allowed}, (layers, batch, hidden), for a batch of {len(x)}, but "
                f"it has {', '.join(map(str, shapes))}."
            )
        return list(parts[0] if self.parts == 1 else zip(*parts, strict=True))

    def _stacked(self, states: list[State]) -> State:
        """Return the layers' states in the form in which `forward` takes and returns them."""
        if self.parts == 1:
            return torch.stack(states)
        return tuple(torch.stack(part) for part in zip(*states, strict=True))


def _hidden(state: State) -> Tensor:
    """Return the part of a state that is a cell's output."""
    hidden: Tensor = state if isinstance(state, Tensor) else state[0]
    return hidden


class RNN(_Recurrent):
    """Layers of `RNNCell`, equal to `torch.nn.RNN` with `batch_first=True`."""

    cell = RNNCell


class GRU(_Recurrent):
    """Layers of `GRUCell`, equal to `torch.nn.GRU` with `batch_first=True`."""

    cell = GRUCell


class LSTM(_Recurrent):
    """Layers of `LSTMCell`, equal to `torch.nn.LSTM` with `batch_first=True`."""

    cell = LSTMCell
    parts = 2


def detached(state: State) -> State:
    """Return a state with the same numbers and no history, through which no gradient flows."""
    if isinstance(state, Tensor):
        return state.detach()
    return tuple(part.detach() for part in state)


class CharModel(nn.Module):
    """From characters to the logits of the next one: an embedding, a recurrent layer, a linear one.

    Parameters
    ----------
    vocab_size : int
        How many characters there are.
    rnn : nn.Module
        `RNN`, `GRU` or `LSTM`, or PyTorch's with `batch_first=True`; what it calls its
        `input_size` is the size of the embedding.
    dropout : float
        What of the recurrent layer's outputs is dropped in training.
    keep_state : bool
        Begin each batch with the state in which the last one ended, cut off from its history.

    Attributes
    ----------
    state
        What is kept, or None.
    """

    def __init__(
        self, vocab_size: int, rnn: nn.Module, dropout: float = 0.0, *, keep_state: bool = False
    ) -> None:
        super().__init__()
        whole("vocab_size", vocab_size, 1)
        self.embedding = nn.Embedding(vocab_size, rnn.input_size)  # type: ignore[arg-type]
        self.rnn = rnn
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(rnn.hidden_size, vocab_size)  # type: ignore[arg-type]
        self.keep_state = keep_state
        self.state: State = None

    def step(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Return logits of shape (n, time, vocab_size) for codes (n, time), and the last state.

        Raises
        ------
        ValueError
            If the codes have another shape, or one is not in the vocabulary (on the CPU; on an
            accelerator to look would mean to wait).
        """
        if x.ndim != 2:
            raise ValueError(f"x must have shape (n, time), but it has shape {tuple(x.shape)}.")
        try:
            inputs = self.embedding(x)
        except IndexError:
            last = self.embedding.num_embeddings - 1
            raise ValueError(
                f"x must hold codes from 0 to {last}, but they go from {x.min()} to {x.max()}."
            ) from None
        outputs, state = self.rnn(inputs, state)
        return self.linear(self.dropout(outputs)), state

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (n, time, vocab_size) for codes of shape (n, time).

        Raises
        ------
        ValueError
            If a state is kept from a batch of another size.
        """
        self._check_kept(len(x))
        logits, state = self.step(x, self.state)
        if self.keep_state:
            self.state = detached(state)
        return logits

    def _check_kept(self, batch_size: int) -> None:
        kept = batch_size if self.state is None else _hidden(self.state).shape[1]
        if kept != batch_size:
            raise ValueError(
                f"x must be a batch of {kept}, as the state that is kept, but it is one of "
                f"{batch_size}; call reset() where the text begins anew."
            )

    def reset(self) -> None:
        """Forget the state: the next batch begins with zeros."""
        self.state = None


class ResetState(Callback):
    """Lets a `CharModel` forget its state where the text begins anew: before each pass."""

    def before_train(self) -> None:
        """Forget what was read in validation."""
        self.learn.model.reset()  # type: ignore[operator]

    def before_validate(self) -> None:
        """Forget what was read in training."""
        self.learn.model.reset()  # type: ignore[operator]

    def cleanup(self) -> None:
        """Leave nothing behind for whoever uses the model next."""
        self.learn.model.reset()  # type: ignore[operator]


@torch.no_grad()
def clip_gradient(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Shorten the gradient of all parameters together to `max_norm`, if it is longer [1]_.

    Its direction stays. Equal to `torch.nn.utils.clip_grad_norm_`.

    Parameters
    ----------
    parameters : iterable of Tensor
        Those without a gradient are passed over.
    max_norm : float

    Returns
    -------
    Tensor
        The length before, of rank 0.

    Raises
    ------
    ValueError
        If `max_norm` is not positive, or no parameter has a gradient.

    References
    ----------
    .. [1] Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks",
       2013.
    """
    if not (is_number(max_norm) and max_norm > 0):
        raise ValueError(f"max_norm must be positive, but it is {max_norm!r}.")
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        raise ValueError("parameters must hold one with a gradient, but none has one.")
    norm = torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()
    # A factor on the device, not an `if`: reading the norm would wait for an accelerator.
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor)
    return norm


class ClipGradient(Callback):
    """Clips the gradient before every step, and keeps the lengths that it had.

    Parameters
    ----------
    max_norm : float
        The longest gradient that is let through.

    Attributes
    ----------
    norms : list of Tensor
        One of rank 0 for each training batch.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm
        self.norms: list[Tensor] = []

    def after_backward(self) -> None:
        """Clip."""
        self.norms.append(clip_gradient(self.learn.model.parameters(), self.max_norm))


@torch.no_grad()
def hidden_states(model: CharModel, codes: Tensor) -> Tensor:
    """Return the hidden state of a model after each character of a text.

    Parameters
    ----------
    model : CharModel
        It reads in evaluation mode, and the state that it keeps is not touched.
    codes : Tensor of int64, shape (n,)

    Returns
    -------
    Tensor, shape (n, hidden_size), on the CPU

    Raises
    ------
    ValueError
        If there is no character.
    """
    if codes.ndim != 1 or len(codes) == 0:
        raise ValueError(
            "codes must have shape (n,) with at least one character, but they have shape "
            f"{tuple(codes.shape)}."
        )
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        outputs: Tensor = model.rnn(model.embedding(codes[None].to(device)))[0]
    finally:
        model.train(training)
    return outputs[0].cpu()


def unit_correlations(states: Tensor, feature: Tensor) -> Tensor:
    """Return the correlation of each hidden unit with one number for each character.

    Parameters
    ----------
    states : Tensor, shape (n, hidden_size)
    feature : Tensor, shape (n,)

    Returns
    -------
    Tensor, shape (hidden_size,)
        Between −1 and 1; 0 for a unit that does not vary.

    Raises
    ------
    ValueError
        If the lengths differ, or the feature does not vary.
    """
    if states.ndim != 2 or feature.shape != states.shape[:1]:
        raise ValueError(
            "states and feature must have shapes (n, hidden_size) and (n,), but they have "
            f"{tuple(states.shape)} and {tuple(feature.shape)}."
        )
    apart, other = states - states.mean(0), feature - feature.mean()
    if not bool(other.any()):
        raise ValueError("feature must vary, but it is the same for every character.")
    lengths = apart.square().sum(0).sqrt() * other.square().sum().sqrt()
    return torch.where(lengths > 0, other @ apart / lengths.clamp(min=1e-12), 0.0)
