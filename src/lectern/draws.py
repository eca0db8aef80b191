"""Random inputs of checks: the same at every grading, and known to nobody without the secret.

`Draws`, `seed_of`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["Draws", "seed_of"]

_TRIES = 200
_BEGIN, _WORDS = 24, 624  # where the words of a Mersenne twister are in its state, and how many


def seed_of(secret: bytes, *names: str) -> int:
    """Return a seed made of a secret and of what it is for.

    Parameters
    ----------
    secret : bytes
    *names : str
        Such as the student, the exercise and the check.

    Returns
    -------
    int
        Below 2⁵⁶.
    """
    text = b"\0".join([secret, *(name.encode("utf-8", "surrogateescape") for name in names)])
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")


def _generator(*seed: int) -> torch.Generator:
    """Return a generator whose state is all of a seed's.

    Its own `manual_seed` uses the last 32 bits: who sees some draws could try them all, and then
    foresee the others.
    """
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    words = hashlib.shake_256(repr(seed).encode()).digest(4 * _WORDS)
    long = np.frombuffer(words, dtype="<u4").astype("<u8")
    state[_BEGIN : _BEGIN + long.nbytes] = torch.from_numpy(long.view(np.uint8))
    return generator.set_state(state)


class Draws:
    """Random inputs, as tensors on the CPU; the `rng` of checks.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._draws = seed, 0

    @property
    def generator(self) -> torch.Generator:
        """A new generator, also for what is not here.

        Every draw has its own: who sees many numbers of one could work out that one's state, but
        nothing of another, such as the labels of held-out data.
        """
        self._draws += 1
        return _generator(self._seed, self._draws)

    def normal(self, *shape: int) -> torch.Tensor:
        """Return numbers of mean 0 and deviation 1."""
        return torch.randn(*shape, generator=self.generator)

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Return numbers from low to high."""
        return low + (high - low) * torch.rand(*shape, generator=self.generator)

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """Return whole numbers from low to high, without the latter."""
        return torch.randint(low, high, shape, generator=self.generator)

    def integer(self, low: int, high: int) -> int:
        """Return one whole number from low to high, without the latter."""
        return int(self.integers(low, high, 1))

    def permutation(self, n: int) -> torch.Tensor:
        """Return the numbers from 0 to n − 1 in random order."""
        return torch.randperm(n, generator=self.generator)

    def choice(self, options: Sequence[Any]) -> Any:
        """Return one of several."""
        return options[self.integer(0, len(options))]

    def telling(
        self, draw: Callable[[], Any], right: Callable[..., Any], *wrong: Callable[..., Any],
        margin: float = 0.02,
    ) -> Any:  # fmt: skip
        """Draw until every mistake gives something else than what is right.

        Otherwise an answer with a mistake would pass when the dice are kind.

        Parameters
        ----------
        draw : callable
            Returns an input, or a tuple of inputs.
        right, *wrong : callable
            Of the inputs; return numbers.
        margin : float
            How far the mistakes must lie off, absolutely and relatively.

        Raises
        ------
        ValueError
            If 200 inputs do not tell them apart.
        """
        for _ in range(_TRIES):
            inputs = draw()
            args = inputs if isinstance(inputs, tuple) else (inputs,)
            wanted = torch.as_tensor(right(*args), dtype=torch.float64)
            others = (torch.as_tensor(f(*args), dtype=torch.float64) for f in wrong)
            if all(
                other.shape != wanted.shape
                or not torch.allclose(other, wanted, rtol=margin, atol=margin, equal_nan=True)
                for other in others
            ):
                return inputs
        raise ValueError(f"None of {_TRIES} inputs tells the mistakes from what is right.")
