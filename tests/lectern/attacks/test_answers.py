"""Answers that a tampered process could send: none stalls, fills or surprises the trusted side."""

import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch

from lectern import expect, values
from lectern.draws import Draws
from lectern.student import Raised, Stopped, Student, raised
from lectern.watched import in_text
from lectern.wire import Opaque, WireError, decode

MIB = 1 << 20
PRIME = 2**61 - 1  # whole numbers that differ by a multiple of it have the same hash


def message(tree: Any, body: bytes = b"") -> bytes:
    return json.dumps(tree).encode() + b"\0" + body


class Answering:
    """A transport over which always the same comes back."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def ask(self, request: Any, seconds: float) -> Any:
        return self.answer

    def end(self) -> None:
        pass


@pytest.mark.parametrize(
    "keys",
    [
        lambda i: {"int": format(i * PRIME, "x")},
        lambda i: {"complex": [-1000003.0 * i, float(i)]},
        lambda i: {"opaque": ["a", i * PRIME]},
    ],
    ids=["whole numbers", "complex numbers", "opaque"],
)
def test_keys_with_the_same_hash_do_not_stall_the_grader(keys: Any) -> None:
    begun = time.process_time()
    with pytest.raises(WireError):
        decode(message({"dict": [[keys(i), None] for i in range(8000)]}))
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    "part",
    [{"bytes": [0, MIB]}, {"tensor": ["uint8", [MIB], 0, MIB]}, {"array": ["int8", [MIB], 0, MIB]}],
    ids=lambda part: next(iter(part)),
)
def test_values_that_share_their_bytes_do_not_fill_memory(part: Any) -> None:
    with pytest.raises(WireError):
        decode(message([part] * 20, bytes(MIB)))


def test_a_tree_of_millions_of_empty_lists_is_not_even_read() -> None:
    tree = b"[" + b"[]," * (4 * MIB) + b"[]]"
    begun = time.process_time()
    with pytest.raises(WireError):
        decode(tree + b"\0")
    assert time.process_time() - begun < 0.2


@pytest.mark.parametrize("shape", [[0, 10**18], [10**9, 0], [0, 2**63, 2**63]])
@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_an_empty_array_has_no_huge_shape(kind: str, shape: list[int]) -> None:
    with pytest.raises(WireError):
        decode(message({kind: ["float32", shape, 0, 0]}))


@pytest.mark.parametrize(
    "sent",
    [
        message({"int": "f" * 4000}), message({"int": "f" * 3500}), b"9" * 4300 + b"\0",
        b"9" * 5000 + b"\0", message("\ud800"), message("\x1b[2J\u202e"), message([[]] * 1000),
        message({"opaque": ["<b>", 10**40]}), b"1e999\0", b"[" * 100_000 + b"\0", b"\xff\xfe\0",
        message({"float": "nan"}), message({"complex": [{"int": "f" * 3000}, 0]}),
        message({"dict": [[[1], 2]]}), message({"tensor": "float32"}), message({"bytes": "ab"}),
        message({"complex": [[1], 2]}), message({"tensor": ["float32", [-1], 0, 0]}), b"", b"\0",
    ],
    ids=range(20),
)  # fmt: skip
def test_whatever_crosses_can_be_shown_and_compared(sent: bytes) -> None:
    try:
        value = decode(sent)
    except WireError:
        return
    assert len(values.show(value)) <= 240
    for got in (value, [value], [torch.zeros(2), value], (value, "a"), {"a": value}):
        with pytest.raises(expect.Failure):
            expect.close(got, torch.ones(7), of="f(x)", unless={"It is one.": torch.ones(())})


def test_comparing_texts_takes_no_more_memory_than_they_have() -> None:
    code = (
        "import resource\n"
        "from lectern import expect\n"
        "resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        "try: expect.close([''] * 2000 + ['x' * (1 << 20)], 1.0, of='f')\n"
        "except expect.Failure as error: print('failed', resource.getrusage(0).ru_maxrss)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert run.stdout.startswith("failed"), run.stderr[-500:]
    assert int(run.stdout.split()[1]) < resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 500_000


ODD = [
    None, 3, "text", [], torch.zeros(3), np.zeros(3), Opaque("dict", 1), {}, {"values": 1},
    {"forbidden": [], "valu": 1}, {"error": None}, {"error": torch.zeros(3)},
    {"error": {"type": "a", "message": "b", "line": torch.zeros(2)}},
    {"error": {"type": "a", "message": "b", "line": np.zeros(2)}},
    {"error": {"type": "a", "message": "b", "line": [torch.zeros(2), "x"]}},
    {"error": {"type": "a", "message": "b", "line": [1]}},
    {"error": {"type": 10**5000, "message": torch.zeros(3), "line": []}},
    {"value": 1, "forbidden": 3}, {"value": 1, "forbidden": torch.zeros(3, 2)},
    {"value": 1, "forbidden": [[torch.zeros(2), "a"]]}, {"value": 1, "forbidden": [[1]]},
    {"value": 1, "forbidden": [[float("inf"), "a"]]}, {"value": 1, "forbidden": "ab"},
]  # fmt: skip


@pytest.mark.parametrize("answer", ODD, ids=range(len(ODD)))
def test_an_odd_answer_is_one_of_a_tampered_process(answer: Any) -> None:
    student = Student(Answering(answer))
    for ask in (lambda: student.call("f", 1), lambda: student.get("f")):
        with pytest.raises(Stopped, match="tampered"):
            ask()


@pytest.mark.parametrize("answer", ODD, ids=range(len(ODD)))
def test_an_odd_error_of_a_cell_is_no_error_of_the_grader(answer: Any) -> None:
    error = answer.get("error") if isinstance(answer, dict) else answer
    assert isinstance(raised(error), Raised | Stopped)


def test_a_name_of_thousands_of_parts_does_not_end_the_batch() -> None:
    assert in_text("if 0: " + "a." * 2000 + "softmax", ["torch.softmax"]) == []


def test_names_of_many_parts_do_not_stall_the_grader() -> None:
    begun = time.process_time()
    in_text(("a." * 900 + "a\n") * 30, ["torch.softmax", "torch.Tensor.softmax"])
    assert time.process_time() - begun < 1


def test_a_cell_of_megabytes_does_not_fill_memory() -> None:
    begun = time.process_time()
    in_text("0\n" * MIB, ["torch.softmax"])
    assert time.process_time() - begun < 1


def test_no_seed_can_be_found_by_trying_all_of_32_bits() -> None:
    draws = [Draws(5 + high * 2**32).normal(8) for high in range(3)]
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])


def test_who_knows_the_state_behind_one_draw_does_not_know_the_next() -> None:
    draws, again = Draws(5), Draws(5)
    known = draws.generator
    torch.rand(8, generator=known)
    foreseen, comes = torch.rand(8, generator=known), draws.uniform(0, 1, 8)
    assert not torch.equal(foreseen, comes)
    again.uniform(0, 1, 8)
    assert torch.equal(again.uniform(0, 1, 8), comes)  # and yet it comes every time
