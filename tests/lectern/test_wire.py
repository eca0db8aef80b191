"""Values that cross the wall come out equal; what is no message is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lectern.wire import Limits, Opaque, WireError, decode, encode

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.complex_numbers(allow_nan=False, allow_infinity=False)
)  # fmt: skip
keys = st.text() | st.integers() | st.booleans()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_a_value_comes_out_equal(value):
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32,
     torch.float64, torch.complex64],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_a_tensor_comes_out_equal(dtype, shape):
    tensor = (torch.randn(shape) * 3).to(dtype)
    found = decode(encode(tensor))
    assert found.dtype == dtype
    assert torch.equal(found, tensor)


@pytest.mark.parametrize("name", ["bool", "int8", "uint32", "float32", "float64", "complex128"])
def test_an_array_comes_out_equal(name):
    array = np.arange(6).reshape(2, 3).astype(name)
    found = decode(encode(array))
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_views_and_gradients_cross_as_plain_tensors():
    tensor = torch.randn(3, 4, requires_grad=True).T[::2]
    found = decode(encode(tensor))
    assert torch.equal(found, tensor.detach())
    assert not found.requires_grad
    assert found.is_contiguous()


@pytest.mark.parametrize("number", [math.inf, -math.inf])
def test_infinities_cross(number):
    assert decode(encode(number)) == number


def test_nan_crosses():
    assert math.isnan(decode(encode(math.nan)))


def test_a_subclass_comes_out_as_its_base():
    class Liar(float):
        def __eq__(self, other):
            return True

        __hash__ = float.__hash__

    found = decode(encode(Liar(2.0)))
    assert type(found) is float
    assert found != 3.0


def test_what_cannot_cross_is_kept_behind_a_name():
    kept = []

    def keep(value):
        kept.append(value)
        return len(kept) - 1

    model = torch.nn.Linear(1, 1)
    assert decode(encode([model, 3], keep=keep)) == [Opaque("Linear", 0), 3]
    assert kept == [model]


def test_what_cannot_cross_is_refused_by_name():
    with pytest.raises(WireError, match="Linear"):
        encode(torch.nn.Linear(1, 1))


def test_a_sparse_tensor_is_refused():
    with pytest.raises(WireError, match="sparse"):
        encode(torch.eye(2).to_sparse())


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        (b"x" * 2000, Limits(size=1000)),
        (torch.zeros(1000), Limits(size=1000)),
        ([0] * 100, Limits(nodes=50)),
        ([[[[0]]]], Limits(depth=3)),
    ],
)
def test_limits_hold_on_both_sides(value, limits):
    with pytest.raises(WireError, match=r"(?i)at most"):
        encode(value, limits=limits)
    with pytest.raises(WireError, match=r"(?i)at most"):
        decode(encode(value), limits=limits)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused_or_decoded(message):
    try:
        decode(message)
    except WireError:
        return


ONE = b"\0" + b"\1" * 8


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{}",
        b'{"a":1,"b":2}',
        b'{"nothing":1}',
        b'{"__class__":1}',
        b'{"int":"zz"}',
        b'{"int":"' + b"1" * 9000 + b'"}',
        b'{"float":"1"}',
        b"NaN",
        b"[" * 100_000,
        b'{"tensor":["float32",[2],0,4]}' + ONE,
        b'{"tensor":["float32",[-1],0,-4]}' + ONE,
        b'{"tensor":["float32",[1],6,4]}' + ONE,
        b'{"tensor":["object",[1],0,8]}' + ONE,
        b'{"tensor":["float32",[1e9],0,4]}' + ONE,
        b'{"tensor":["float32",[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],0,4]}' + ONE,
        b'{"tensor":["float32",[0,9223372036854775807,9223372036854775807],0,0]}',
        b'{"array":["object",[1],0,8]}' + ONE,
        b'{"array":["O",[1],0,8]}' + ONE,
        b'{"bytes":[0,100]}' + ONE,
        b'{"bytes":"ab"}',
        b'{"dict":[[{"dict":[]},1]]}',
        b'{"dict":[1]}',
        b'{"opaque":["x",true]}',
        b'{"opaque":[1,1]}',
        b'{"complex":["a","b"]}',
        b'{"tuple":1}',
    ],
)
def test_a_malformed_message_is_refused(message):
    with pytest.raises(WireError):
        decode(message)
