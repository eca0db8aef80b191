"""Text as numbers and back: characters, windows, streams, and sampling of what comes next.

`CharVocab`, `split_tail`; `windows`, `sequences`, `streams`; `sequence_loss`; `sample_next`,
`generate`; `TEXT_FEATURES`, `text_features`.

Built in the chapter *rnns*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from glassbox.checks import is_number, whole
from glassbox.losses import cross_entropy, softmax

__all__ = [
    "TEXT_FEATURES",
    "CharVocab",
    "generate",
    "sample_next",
    "sequence_loss",
    "sequences",
    "split_tail",
    "streams",
    "text_features",
    "windows",
]


class CharVocab:
    """The characters of a text, in sorted order, each with its number.

    Parameters
    ----------
    text : str
        Every character that is ever to be encoded must occur in it.

    Attributes
    ----------
    chars : list of str
        The characters; a character's code is its place in this list.

    Raises
    ------
    ValueError
        If the text is empty.
    TypeError
        If it is no string.

    Examples
    --------
    >>> vocab = CharVocab("banana")
    >>> vocab.encode("nab")
    tensor([2, 0, 1])
    >>> vocab.decode([1, 0, 2])
    'ban'
    """

    def __init__(self, text: str) -> None:
        _check_text(text)
        if not text:
            raise ValueError("text must hold at least one character, but it is empty.")
        self.chars = sorted(set(text))
        self._codes = {char: code for code, char in enumerate(self.chars)}

    def __len__(self) -> int:
        """Return how many different characters there are."""
        return len(self.chars)

    def encode(self, text: str) -> Tensor:
        """Return the codes of the characters, an int64 tensor of shape (len(text),).

        Raises
        ------
        ValueError
            If a character is not in the vocabulary; the first such is named with its place.
        TypeError
            If `text` is no string.
        """
        _check_text(text)
        try:
            return torch.tensor([self._codes[char] for char in text], dtype=torch.int64)
        except KeyError:
            i = next(i for i, char in enumerate(text) if char not in self._codes)
            raise ValueError(
                f"text must hold only the {len(self)} characters of the vocabulary, but at "
                f"position {i} it holds {text[i]!r}."
            ) from None

    def decode(self, codes: Tensor | Sequence[int]) -> str:
        """Return the text of a rank-1 tensor, or a sequence, of codes.

        Raises
        ------
        ValueError
            If one is not the code of a character of the vocabulary.
        """
        numbers = codes.tolist() if isinstance(codes, Tensor) else list(codes)
        for number in numbers:
            if not (isinstance(number, int) and 0 <= number < len(self)):
                raise ValueError(
                    f"codes must be whole numbers from 0 to {len(self) - 1}, but one is {number!r}."
                )
        return "".join(self.chars[number] for number in numbers)


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, but it is a {type(text).__name__}.")


def _check_codes(codes: Tensor) -> None:
    if not isinstance(codes, Tensor) or codes.ndim != 1:
        was = f"of shape {tuple(codes.shape)}" if isinstance(codes, Tensor) else f"{codes!r:.40}"
        raise ValueError(f"codes must be a tensor of shape (n,), but it is {was}.")


def split_tail(codes: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Cut a text in two: what is trained on, and its end, which is held out.

    Parameters
    ----------
    codes : Tensor of int64, shape (n,)
    fraction : float
        The share of the text that is held out, between 0 and 1, both excluded.

    Returns
    -------
    train, tail : Tensor
        Views of `codes`, with nothing in common.

    Raises
    ------
    ValueError
        If the fraction is out of range, or one of the parts would be empty.
    """
    _check_codes(codes)
    if not (is_number(fraction) and 0 < fraction < 1):
        raise ValueError(f"fraction must lie between 0 and 1, but it is {fraction!r}.")
    cut = len(codes) - round(len(codes) * fraction)
    if not 0 < cut < len(codes):
        raise ValueError(
            f"codes must be long enough for two non-empty parts, but {len(codes)} characters at a "
            f"fraction of {fraction} leave {cut} and {len(codes) - cut}."
        )
    return codes[:cut], codes[cut:]


def windows(codes: Tensor, size: int, step: int = 1) -> tuple[Tensor, Tensor]:
    """Return runs of characters, and for each the one character that follows it.

    Parameters
    ----------
    codes : Tensor of int64, shape (n,)
    size : int
        Characters in a run.
    step : int
        From one run's begin to the next one's. Below `size`, the runs overlap.

    Returns
    -------
    x : Tensor of int64, shape (runs, size)
    y : Tensor of int64, shape (runs,)

    Raises
    ------
    ValueError
        If the text is shorter than one run and the character after it.

    Examples
    --------
    >>> x, y = windows(torch.arange(6), size=3)
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2], [1, 2, 3], [2, 3, 4]], [3, 4, 5])
    """
    whole("step", step, 1)
    _check_length(codes, size)
    x = codes[:-1].unfold(0, size, step)
    return x, codes[size::step][: len(x)]


def sequences(codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return runs that do not overlap, and for each the run one character later.

    So there is a target for every character: what follows it.

    Parameters
    ----------
    codes : Tensor of int64, shape (n,)
    size : int
        Characters in a run. A rest that fills no run is left out.

    Returns
    -------
    x, y : Tensor of int64, shape (runs, size)

    Raises
    ------
    ValueError
        If the text is shorter than one run and the character after it.
    """
    _check_length(codes, size)
    return codes[:-1].unfold(0, size, size), codes[1:].unfold(0, size, size)


def streams(codes: Tensor, batch_size: int, size: int) -> tuple[Tensor, Tensor]:
    """Return runs in such an order that each batch goes on where the last one stopped.

    The text is cut into `batch_size` long pieces, and each row of a batch reads one of them. In
    batches of `batch_size`, not shuffled, row i of a batch is what follows row i of the one before,
    so that a hidden state can be kept from batch to batch.

    Parameters
    ----------
    codes : Tensor of int64, shape (n,)
    batch_size : int
        How many pieces are read side by side.
    size : int
        Characters in a run. A rest that fills no run of every piece is left out.

    Returns
    -------
    x, y : Tensor of int64, shape (batches · batch_size, size)
        As in `sequences`, `y` is one character later.

    Raises
    ------
    ValueError
        If the text is too short for a single batch.

    Examples
    --------
    >>> x, y = streams(torch.arange(13), batch_size=2, size=3)
    >>> x.tolist()
    [[0, 1, 2], [6, 7, 8], [3, 4, 5], [9, 10, 11]]
    """
    _check_codes(codes)
    whole("batch_size", batch_size, 1)
    whole("size", size, 1)
    batches = (len(codes) - 1) // (batch_size * size)
    if batches == 0:
        raise ValueError(
            f"codes must hold at least {batch_size * size + 1} characters, {batch_size} runs of "
            f"{size} and the one that follows, but it holds {len(codes)}."
        )
    used = batches * batch_size * size

    def in_order(piece: Tensor) -> Tensor:
        return piece.view(batch_size, batches, size).transpose(0, 1).reshape(-1, size)

    return in_order(codes[:used]), in_order(codes[1 : used + 1])


def _check_length(codes: Tensor, size: int) -> None:
    _check_codes(codes)
    whole("size", size, 1)
    if len(codes) <= size:
        raise ValueError(
            f"codes must hold at least {size + 1} characters, a window of {size} and the one that "
            f"follows, but it holds {len(codes)}."
        )


def sequence_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over all characters of all sequences, in nats.

    Parameters
    ----------
    logits : Tensor, shape (n, time, classes)
    targets : Tensor of int64, shape (n, time)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if logits.ndim != 3 or targets.shape != logits.shape[:2]:
        raise ValueError(
            "logits and targets must have shapes (n, time, classes) and (n, time), but they have "
            f"{tuple(logits.shape)} and {tuple(targets.shape)}."
        )
    return cross_entropy(logits.flatten(0, 1), targets.flatten())


def sample_next(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw a class for each row from the softmax of `logits / temperature`.

    Parameters
    ----------
    logits : Tensor, shape (n, classes)
    temperature : float
        Below 1 the likely becomes likelier, above 1 everything more alike. At 0 the likeliest class
        is taken, and nothing is drawn.
    top_k : int, optional
        Only this many of the likeliest classes can be drawn.
    generator : torch.Generator, optional
        A CPU generator, so that the same is drawn on every device.

    Returns
    -------
    Tensor of int64, shape (n,), on the device of `logits`

    Raises
    ------
    ValueError
        If `temperature` is negative or not finite, `top_k` is not between 1 and the classes, or
        the logits have another shape or hold NaN.
    """
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(
            f"logits must have shape (n, classes), but they have shape {tuple(logits.shape)}."
        )
    if bool(logits.isnan().any()):
        raise ValueError("logits must be numbers, but NaN is among them: has the model diverged?")
    if not (is_number(temperature) and 0 <= temperature < math.inf):
        raise ValueError(f"temperature must be at least 0 and finite, but it is {temperature!r}.")
    if top_k is not None:
        whole("top_k", top_k, 1, logits.shape[-1])
        # The k-th largest, not a comparison of ranks: equal logits stay or go together.
        least = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if temperature == 0:
        return logits.argmax(-1)
    # From the largest logit down, or a small temperature would make infinity of it.
    below = logits - logits.amax(-1, keepdim=True)
    probabilities = softmax(below.detach().cpu() / temperature)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0].to(logits.device)


class _Steps(Protocol):
    """What `generate` needs of a model."""

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]: ...
    def parameters(self) -> Any: ...
    def eval(self) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...

    training: bool


@torch.no_grad()
def generate(
    model: _Steps,
    vocab: CharVocab,
    prompt: str,
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> str:
    """Let a model go on with a text, one character at a time, in evaluation mode.

    Parameters
    ----------
    model : module
        With a method `step(x, state)` that returns logits of shape (n, time, classes) and the
        state after the last character, such as `glassbox.rnn.CharModel`. The state that it keeps
        for training is not touched.
    vocab : CharVocab
    prompt : str
        Read first; at least one character.
    length : int
        How many characters are added to it.
    temperature, top_k, generator
        As in `sample_next`.

    Returns
    -------
    str
        The prompt and what follows.

    Raises
    ------
    ValueError
        If the prompt is empty or holds a character that is not in the vocabulary.
    """
    if not prompt:
        raise ValueError("prompt must hold at least one character, but it is empty.")
    whole("length", length, 0)
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        codes, x, state = [], vocab.encode(prompt)[None].to(device), None
        for _ in range(length):
            logits, state = model.step(x, state)
            x = sample_next(logits[:, -1], temperature, top_k, generator)[:, None]
            codes.append(x.item())
        return prompt + vocab.decode(codes)  # type: ignore[arg-type]
    finally:
        model.train(training)


def _inside(opening: str, closing: str) -> Callable[[str], list[float]]:
    """Return a function from a text to 1 or 0 after each character: in between, or not.

    A blank line closes everything: otherwise one mark that is missing would turn inside and outside
    around for the rest of the text.
    """

    def follow(text: str) -> list[float]:
        found, inside, before = [], False, ""
        for char in text:
            if inside and (char == closing or before + char == "\n\n"):
                inside = False
            elif not inside and char == opening:
                inside = True
            found.append(float(inside))
            before = char
        return found

    return follow


def _line_position(text: str) -> list[float]:
    found, position = [], 0
    for char in text:
        position = 0 if char == "\n" else position + 1
        found.append(float(position))
    return found


def _word_position(text: str) -> list[float]:
    found, position = [], 0
    for char in text:
        position = position + 1 if char.isalpha() else 0
        found.append(float(position))
    return found


TEXT_FEATURES: dict[str, Callable[[str], list[float]]] = {
    "in quotes": _inside('"', '"'),
    "in brackets": _inside("(", ")"),
    "line position": _line_position,
    "word position": _word_position,
}
"""What one can say of a text after each character, without a model: names and functions."""


def text_features(text: str) -> dict[str, Tensor]:
    """Return every one of `TEXT_FEATURES` of a text, as float32 tensors of shape (len(text),).

    Raises
    ------
    TypeError
        If `text` is no string.
    """
    _check_text(text)
    return {name: torch.tensor(follow(text)) for name, follow in TEXT_FEATURES.items()}
