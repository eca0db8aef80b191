"""The form in which values cross the wall: JSON for structure, raw bytes for arrays, no pickle.

`encode`, `decode`, `Opaque`, `Limits`, `WireError`.

Both sides use this module, and only the trusted side relies on it. What `decode` returns is made
of Python's own types, of fresh tensors and of fresh arrays: never a subclass, never a view of what
was received. A message is the JSON of a tree, a zero byte, and a body of bytes to which the tree
points.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["Limits", "Opaque", "WireError", "decode", "encode"]

_DTYPES = (
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_TENSORS: dict[str, torch.dtype] = {name: getattr(torch, name) for name in (*_DTYPES, "bfloat16")}
_ARRAYS = {name: np.dtype(name) for name in (*_DTYPES, "uint16", "uint32", "uint64")}
_LARGEST = 2**53  # the whole numbers that every reader of JSON keeps
_MOST_DIGITS = 3500  # hexadecimal; Python writes whole numbers of up to 4,300 decimal digits
_MOST_ALIKE = 64


class WireError(ValueError):
    """A value that cannot cross, or bytes that are no message; the text says which and why."""


@dataclass(frozen=True)
class Opaque:
    """What stays on its side of the wall: a name for it, and a number by which to ask for it."""

    type_name: str
    key: int


@dataclass(frozen=True)
class Limits:
    """How much may cross at once."""

    size: int = 64 << 20
    """Bytes of a message."""
    nodes: int = 200_000
    """Values in it, those inside others included."""
    depth: int = 50
    """How deep values may lie inside others."""
    header: int = 8 << 20
    """Bytes of the tree of a message that is read: as objects it takes many times more."""


def encode(
    value: Any, *, limits: Limits = Limits(), keep: Callable[[Any], int] | None = None
) -> bytes:
    """Return a message that holds a value.

    Parameters
    ----------
    value
        None, bool, int, float, complex, str, bytes; a tensor or an array of numbers, on any device,
        with or without a gradient; lists, tuples and dicts of such; an `Opaque`.
    limits : Limits
    keep : callable, optional
        Told of a value of another kind, returns the key of the `Opaque` that crosses in its place.

    Raises
    ------
    WireError
        If a value is of another kind and there is no `keep`, or a limit is passed.
    """
    writer = _Writer(limits, keep)
    tree = writer.tree(value, 0)
    header = json.dumps(tree, allow_nan=False, separators=(",", ":")).encode()
    if len(header) + writer.size > limits.size:
        raise WireError(_too_large(len(header) + writer.size, limits))
    return b"".join([header, b"\0", *writer.body])


def decode(message: bytes, *, limits: Limits = Limits()) -> Any:
    """Return the value that a message holds.

    Raises
    ------
    WireError
        If the bytes are no message, or pass a limit.
    """
    if len(message) > limits.size + 1:
        raise WireError(_too_large(len(message), limits))
    header, _, body = message.partition(b"\0")
    if len(header) > limits.header:
        raise WireError(_too_long(len(header), limits))
    try:
        tree = json.loads(header, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise WireError("The message must begin with JSON, but it does not.") from error
    return _Reader(limits, body).value(tree, 0)


class _Writer:
    def __init__(self, limits: Limits, keep: Callable[[Any], int] | None) -> None:
        self.limits, self.keep = limits, keep
        self.body: list[bytes] = []
        self.size = self.nodes = 0

    def tree(self, value: Any, depth: int) -> Any:
        self.nodes += 1
        _check_extent(self.nodes, depth, self.limits)
        if value is None or isinstance(value, bool):
            return None if value is None else bool(value)
        if isinstance(value, str):
            return str(value)
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if isinstance(value, np.ndarray | np.generic):
            return self.array(np.asarray(value))
        if isinstance(value, int):
            return int(value) if abs(value) <= _LARGEST else self.large(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": repr(float(value))}
        if isinstance(value, complex):
            return {"complex": [self.tree(value.real, depth), self.tree(value.imag, depth)]}
        if isinstance(value, bytes | bytearray):
            return {"bytes": self.store(bytes(value))}
        if isinstance(value, list | tuple):
            inside = [self.tree(each, depth + 1) for each in value]
            return inside if isinstance(value, list) else {"tuple": inside}
        if isinstance(value, dict):
            pairs = value.items()
            return {"dict": [[self.tree(k, depth + 1), self.tree(v, depth + 1)] for k, v in pairs]}
        if isinstance(value, Opaque):
            return {"opaque": [value.type_name, value.key]}
        if self.keep is not None:
            return {"opaque": [type(value).__name__[:200], self.keep(value)]}
        raise WireError(f"A value of type {type(value).__name__} cannot cross.")

    def large(self, value: int) -> Any:
        digits = format(value, "x")
        if len(digits) > _MOST_DIGITS:
            raise WireError(f"A whole number of {len(digits)} hexadecimal digits cannot cross.")
        return {"int": digits}

    def tensor(self, value: torch.Tensor) -> Any:
        name = str(value.dtype).removeprefix("torch.")
        if name not in _TENSORS or value.layout != torch.strided:
            raise WireError(f"A tensor of {value.dtype} and {value.layout} cannot cross.")
        plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        flat = plain.reshape(-1)
        raw = flat.view(torch.uint8).numpy().tobytes() if len(flat) else b""
        return {"tensor": [name, list(plain.shape), *self.store(raw)]}

    def array(self, value: np.ndarray[Any, Any]) -> Any:
        if value.dtype.kind in "US" and value.ndim == 0:
            return str(value)
        if value.dtype.name not in _ARRAYS:
            raise WireError(f"An array of {value.dtype} cannot cross.")
        raw = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
        return {"array": [value.dtype.name, list(value.shape), *self.store(raw)]}

    def store(self, raw: bytes) -> list[int]:
        begin = self.size
        self.size += len(raw)
        if self.size > self.limits.size:
            raise WireError(_too_large(self.size, self.limits))
        self.body.append(raw)
        return [begin, len(raw)]


class _Reader:
    """Trusts nothing: every form is checked before it is used."""

    def __init__(self, limits: Limits, body: bytes) -> None:
        self.limits, self.body, self.nodes = limits, body, 0
        self.taken = 0  # bytes of the body: each belongs to one value only

    def value(self, tree: Any, depth: int) -> Any:
        self.nodes += 1
        _check_extent(self.nodes, depth, self.limits)
        if tree is None or isinstance(tree, bool | int | float | str):
            return tree
        if isinstance(tree, list):
            return [self.value(each, depth + 1) for each in tree]
        if len(tree) != 1:
            raise WireError("A tagged value must have one tag.")
        ((tag, content),) = tree.items()
        read = getattr(self, f"read_{tag}", None) if tag in _TAGS else None
        if read is None:
            raise WireError(f"The tag {tag[:40]!r} is not known.")
        try:
            return read(content, depth)
        except WireError:
            raise
        except (TypeError, ValueError, KeyError, RuntimeError, OverflowError) as error:
            raise WireError(f"What the tag {tag!r} holds is not of its form.") from error

    def read_int(self, content: Any, depth: int) -> int:
        if not isinstance(content, str) or len(content) > _MOST_DIGITS:
            raise WireError(f"A large whole number must be text of at most {_MOST_DIGITS} digits.")
        return int(content, 16)

    def read_float(self, content: Any, depth: int) -> float:
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content]

    def read_complex(self, content: Any, depth: int) -> complex:
        real, imag = (self.value(part, depth + 1) for part in content)
        return complex(float(real), float(imag))

    def read_bytes(self, content: Any, depth: int) -> bytes:
        return self.part(*content)

    def read_tuple(self, content: Any, depth: int) -> tuple[Any, ...]:
        return tuple(self.value(each, depth + 1) for each in content)

    def read_dict(self, content: Any, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        alike: Counter[int] = Counter()
        for k, v in content:
            key = self.value(k, depth + 1)
            alike[hash(key)] += 1
            if alike[hash(key)] > _MOST_ALIKE:  # made to be slow: each is compared with all others
                raise WireError("The keys of a dict must have different hashes.")
            found[key] = self.value(v, depth + 1)
        return found

    def read_opaque(self, content: Any, depth: int) -> Opaque:
        name, key = content
        if not isinstance(name, str) or len(name) > 200 or type(key) is not int:
            raise WireError("What stays behind must have a name and a number.")
        return Opaque(name, key)

    def read_tensor(self, content: Any, depth: int) -> torch.Tensor:
        name, shape, begin, size = content
        dtype = _TENSORS[name]
        raw = self.array_part(shape, dtype.itemsize, begin, size)
        if name == "bool":
            raw = np.frombuffer(raw, np.uint8).astype(bool).tobytes()
        if not raw:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)

    def read_array(self, content: Any, depth: int) -> np.ndarray[Any, Any]:
        name, shape, begin, size = content
        dtype = _ARRAYS[name].newbyteorder("<")
        raw = self.array_part(shape, dtype.itemsize, begin, size)
        if name == "bool":
            return np.frombuffer(raw, np.uint8).astype(bool).reshape(shape)
        return np.frombuffer(raw, dtype).astype(_ARRAYS[name]).reshape(shape)

    def array_part(self, shape: Any, itemsize: int, begin: Any, size: Any) -> bytes:
        whole = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
        if not whole or len(shape) > 16 or math.prod(shape) * itemsize != size:
            raise WireError("The bytes of an array must be as many as its shape asks for.")
        # As a list of lists, an empty array may be anything but empty.
        if math.prod(max(n, 1) for n in shape) > self.limits.size:
            raise WireError("An empty array must not have a huge shape.")
        return self.part(begin, size)

    def part(self, begin: Any, size: Any) -> bytes:
        inside = type(begin) is int and type(size) is int and begin >= 0 and size >= 0
        if not inside or begin + size > len(self.body):
            raise WireError("A part of the body must lie inside it.")
        self.taken += size
        if self.taken > len(self.body):
            raise WireError("Parts of the body must not overlap.")
        return self.body[begin : begin + size]


_TAGS = {name.removeprefix("read_") for name in vars(_Reader) if name.startswith("read_")}


def _check_extent(nodes: int, depth: int, limits: Limits) -> None:
    if nodes > limits.nodes:
        raise WireError(f"At most {limits.nodes} values may cross at once.")
    if depth > limits.depth:
        raise WireError(f"Values may lie at most {limits.depth} deep in others.")


def _too_large(size: int, limits: Limits) -> str:
    return f"At most {limits.size} bytes may cross at once, but these are {size}."


def _too_long(size: int, limits: Limits) -> str:
    return f"The structure of what crosses may take {limits.header} bytes, but this takes {size}."


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
