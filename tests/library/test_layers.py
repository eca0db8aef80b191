"""`glassbox.layers`: convolution against PyTorch, the arithmetic of shapes against experiment."""

import re

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from glassbox.layers import (
    Conv2d,
    Dropout,
    Embedding,
    GeneralReLU,
    Lambda,
    conv2d,
    conv_layer,
    output_size,
)

DTYPES = [torch.float32, torch.float64]
CLOSE = {torch.float32: {"rtol": 1e-4, "atol": 1e-5}, torch.float64: {"rtol": 1e-9, "atol": 1e-11}}


def rand(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# Sizes of outputs


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(0, 4))
def test_output_size_counts_the_places_where_the_kernel_fits(size, kernel, stride, padding):
    padded = size + 2 * padding
    assume(kernel <= padded)
    places = [i for i in range(0, padded, stride) if i + kernel <= padded]
    assert output_size(size, kernel, stride, padding) == len(places)


def test_output_size_without_options_steps_by_one_and_adds_nothing():
    assert output_size(10, 3) == 8
    assert output_size(3, 3) == 1
    assert output_size(3, 3, stride=7) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1), "size must be a whole number of at least 1, but it is 0."),
        ((5, 0), "kernel_size must be a whole number of at least 1, but it is 0."),
        ((5, 3, 0), "stride must be a whole number of at least 1, but it is 0."),
        ((5, 3, 1, -1), "padding must be a whole number of at least 0, but it is -1."),
        ((5.0, 3), "size must be a whole number of at least 1, but it is 5.0."),
        ((5, True), "kernel_size must be a whole number of at least 1, but it is True."),
        (
            (2, 5, 1, 1),
            "kernel_size must be at most 4, the size of the input with its padding (2 + 2 · 1), "
            "but it is 5.",
        ),
    ],
)
def test_output_size_refuses(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        output_size(*arguments)


# Convolution


@st.composite
def convolutions(draw):
    """Draw (x, weight, bias), stride and padding that fit together, often of odd shapes."""
    small = st.integers(1, 4)
    dtype = draw(st.sampled_from(DTYPES))
    n, c_in, c_out, kh, kw = (draw(small) for _ in range(5))
    padding = draw(st.one_of(st.integers(0, 3), st.tuples(st.integers(0, 3), st.integers(0, 3))))
    stride = draw(st.one_of(small, st.tuples(small, small)))
    pad_y, pad_x = padding if isinstance(padding, tuple) else (padding, padding)
    height = draw(st.integers(max(1, kh - 2 * pad_y), 9))
    width = draw(st.integers(max(1, kw - 2 * pad_x), 9))
    x, weight = rand(n, c_in, height, width, dtype=dtype), rand(c_out, c_in, kh, kw, dtype=dtype)
    bias = rand(c_out, dtype=dtype, seed=1) if draw(st.booleans()) else None
    return [x, weight, bias], stride, padding


@settings(deadline=None)
@given(convolutions())
def test_conv2d_is_torchs_in_value_and_gradients(drawn):
    tensors, stride, padding = drawn
    results = []
    for function in (conv2d, F.conv2d):
        leaves = [None if t is None else t.clone().requires_grad_() for t in tensors]
        y = function(*leaves, stride=stride, padding=padding)
        loss = (y * torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).view_as(y)).sum()
        given_leaves = [t for t in leaves if t is not None]
        results.append((y.detach(), *torch.autograd.grad(loss, given_leaves)))
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, **CLOSE[tensors[0].dtype])


def test_conv2d_passes_the_numerical_check_of_its_gradient():
    x, weight, bias = (rand(*s, dtype=torch.float64) for s in ((2, 2, 5, 4), (3, 2, 2, 3), (3,)))
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    assert torch.autograd.gradcheck(lambda *t: conv2d(*t, stride=(2, 1), padding=(0, 1)), leaves)


def test_conv2d_leaves_its_inputs_alone():
    x, weight = rand(1, 1, 4, 4), rand(1, 1, 3, 3)
    kept = x.clone(), weight.clone()
    conv2d(x, weight, padding=1)
    assert torch.equal(x, kept[0])
    assert torch.equal(weight, kept[1])


def test_conv2d_of_an_empty_batch_is_empty():
    assert conv2d(torch.zeros(0, 2, 5, 5), torch.zeros(3, 2, 3, 3)).shape == (0, 3, 3, 3)


def test_conv2d_of_images_that_do_not_lie_in_order():
    x, weight = rand(2, 5, 6, 3).permute(0, 3, 1, 2), rand(4, 3, 2, 2)
    torch.testing.assert_close(conv2d(x, weight), F.conv2d(x, weight), **CLOSE[x.dtype])


IMAGE, KERNEL = torch.zeros(2, 3, 4, 5), torch.zeros(6, 3, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            (torch.zeros(3, 4, 5), KERNEL),
            {},
            "x must have shape (n, channels, height, width), but it has shape (3, 4, 5).",
        ),
        (
            (IMAGE, torch.zeros(3, 3)),
            {},
            "weight must have shape (out_channels, in_channels, kernel_height, kernel_width), none "
            "of them 0, but it has shape (3, 3).",
        ),
        (
            (IMAGE, torch.zeros(6, 3, 3, 0)),
            {},
            "weight must have shape (out_channels, in_channels, kernel_height, kernel_width), none "
            "of them 0, but it has shape (6, 3, 3, 0).",
        ),
        (
            (IMAGE, torch.zeros(6, 2, 3, 3)),
            {},
            "x must have 2 channels, as weight of shape (6, 2, 3, 3) expects, but it has 3.",
        ),
        (
            (IMAGE, KERNEL, torch.zeros(3)),
            {},
            "bias must have shape (6,), one number for each output channel, but it has shape (3,).",
        ),
        (
            (torch.zeros(1, 3, 2, 5), KERNEL),
            {},
            "x must be at least as large as the kernel, 3×3 pixels, but with its padding it is "
            "2×5.",
        ),
        (
            (torch.zeros(1, 3, 5, 1), torch.zeros(6, 3, 2, 4)),
            {"padding": (0, 1)},
            "x must be at least as large as the kernel, 2×4 pixels, but with its padding it is "
            "5×3.",
        ),
        (
            (IMAGE, KERNEL),
            {"stride": 0},
            "stride must be a whole number of at least 1, or a pair of them, but it is 0.",
        ),
        (
            (IMAGE, KERNEL),
            {"stride": (1, 0)},
            "stride must be a whole number of at least 1, or a pair of them, but it is (1, 0).",
        ),
        (
            (IMAGE, KERNEL),
            {"stride": (1, 1, 1)},
            "stride must be a whole number of at least 1, or a pair of them, but it is (1, 1, 1).",
        ),
        (
            (IMAGE, KERNEL),
            {"padding": -1},
            "padding must be a whole number of at least 0, or a pair of them, but it is -1.",
        ),
        (
            (IMAGE, KERNEL),
            {"padding": True},
            "padding must be a whole number of at least 0, or a pair of them, but it is True.",
        ),
        (
            (IMAGE, KERNEL),
            {"padding": 0.5},
            "padding must be a whole number of at least 0, or a pair of them, but it is 0.5.",
        ),
    ],
)
def test_conv2d_refuses(arguments, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        conv2d(*arguments, **options)


def test_conv2d_wants_tensors():
    with pytest.raises(TypeError, match="^x must be a tensor, but it is a list.$"):
        conv2d([[0.0]], KERNEL)
    with pytest.raises(TypeError, match="^weight must be a tensor, but it is a int.$"):
        conv2d(IMAGE, 3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel_size": (2, 3)},
        {"stride": 2, "padding": 1},
        {"stride": (2, 1), "padding": (0, 2)},
        {"bias": False},
    ],
)
def test_the_layer_starts_and_calculates_as_torchs(options):
    torch.manual_seed(3)
    ours = Conv2d(3, 5, **options)
    torch.manual_seed(3)
    theirs = nn.Conv2d(3, 5, **{"kernel_size": 3, **options})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    assert all(p.requires_grad for p in ours.parameters())
    x = rand(2, 3, 7, 6)
    torch.testing.assert_close(ours(x), theirs(x), **CLOSE[x.dtype])


def test_the_layer_says_what_it_is():
    expected = "Conv2d(3, 5, kernel_size=(3, 3), stride=(2, 2), padding=(0, 1), bias=%s)"
    assert str(Conv2d(3, 5, stride=2, padding=(0, 1))) == expected % True
    assert str(Conv2d(3, 5, stride=2, padding=(0, 1), bias=False)) == expected % False


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0, 1), "in_channels"),
        ((1, 0), "out_channels"),
        ((1, 1, 0), "kernel_size"),
        ((1, 1, 3, 0), "stride"),
        ((1, 1, 3, 1, -1), "padding"),
    ],
)
def test_the_layer_refuses_numbers_out_of_range(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least"):
        Conv2d(*arguments)


def test_the_smallest_layer_is_allowed():
    assert Conv2d(1, 1, 1, 1, 0)(torch.ones(1, 1, 1, 1)).shape == (1, 1, 1, 1)


# Lambda, GeneralReLU, conv_layer


def test_lambda_is_a_function_as_a_layer():
    layer = nn.Sequential(Lambda(lambda x: x.view(-1, 1, 28, 28)), nn.Flatten())
    assert layer(torch.zeros(5, 784)).shape == (5, 784)
    assert layer[0](torch.zeros(5, 784)).shape == (5, 1, 28, 28)
    assert not list(layer.parameters())


def test_lambda_shows_the_name_of_its_function():
    assert str(Lambda(torch.sigmoid)) == "Lambda(sigmoid)"

    class Nameless:
        def __call__(self, x):
            return x

        def __repr__(self):
            return "nameless"

    assert str(Lambda(Nameless())) == "Lambda(nameless)"


def test_lambda_wants_a_function():
    with pytest.raises(TypeError, match="^func must be a function, but it is 3.$"):
        Lambda(3)


@given(st.floats(0, 1), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 2)))
def test_general_relu_leaks_then_shifts_then_clamps(leak, sub, max_value):
    x = torch.linspace(-3, 3, 25, dtype=torch.float64)
    expected = torch.where(x > 0, x, leak * x) - sub
    if max_value is not None:
        expected = torch.minimum(expected, torch.tensor(max_value, dtype=x.dtype))
    torch.testing.assert_close(GeneralReLU(leak, sub, max_value)(x), expected)


def test_general_relu_is_a_relu_by_default():
    x = torch.linspace(-3, 3, 25)
    assert torch.equal(GeneralReLU()(x), F.relu(x))
    assert str(GeneralReLU()) == "GeneralReLU(leak=0, sub=0, max_value=None)"
    assert str(GeneralReLU(0.1, 0.4, 6)) == "GeneralReLU(leak=0.1, sub=0.4, max_value=6)"


@pytest.mark.parametrize("leak", [0, 1])
def test_general_relu_takes_both_ends_of_the_range(leak):
    assert GeneralReLU(leak)(torch.tensor(-2.0)).item() == -2 * leak


@pytest.mark.parametrize("leak", [-0.1, 1.1])
def test_general_relu_refuses_a_leak_out_of_range(leak):
    with pytest.raises(ValueError, match=f"^leak must lie between 0 and 1, but it is {leak}.$"):
        GeneralReLU(leak)


def test_general_relu_keeps_its_input():
    x = torch.tensor([-1.0, 5.0])
    GeneralReLU(0.1, 0.4, 2.0)(x)
    assert x.tolist() == [-1, 5]


def test_conv_layer_is_convolution_activation_norm():
    layer = conv_layer(3, 6)
    assert [type(m) for m in layer] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    assert (layer[0].kernel_size, layer[0].stride, layer[0].padding) == ((3, 3), (2, 2), (1, 1))
    assert layer[0].bias is None
    assert layer[2].num_features == 6
    assert layer(torch.zeros(2, 3, 5, 8)).shape == (2, 6, 3, 4)


def test_conv_layer_without_norm_has_a_bias():
    layer = conv_layer(3, 6, 5, 1, norm=None, activation=lambda: GeneralReLU(0.1))
    assert [type(m) for m in layer] == [nn.Conv2d, GeneralReLU]
    assert (layer[0].kernel_size, layer[0].stride, layer[0].padding) == ((5, 5), (1, 1), (2, 2))
    assert layer[0].bias is not None
    assert layer(torch.zeros(2, 3, 5, 8)).shape == (2, 6, 5, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1), "in_channels must be a whole number of at least 1, but it is 0."),
        ((1, 0), "out_channels must be a whole number of at least 1, but it is 0."),
        ((1, 1, 0), "kernel_size must be a whole number of at least 1, but it is 0."),
        ((1, 1, 4), "kernel_size must be odd, but it is 4."),
        ((1, 1, 3, 0), "stride must be a whole number of at least 1, but it is 0."),
    ],
)
def test_conv_layer_refuses(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        conv_layer(*arguments)


def test_the_smallest_conv_layer_is_allowed():
    assert conv_layer(1, 1, 1, 1, norm=None)(torch.ones(1, 1, 1, 1)).shape == (1, 1, 1, 1)


# Dropout


@given(st.floats(0, 0.99), st.integers(0, 2**20), st.sampled_from(DTYPES))
def test_dropout_is_torchs_after_the_same_seed_in_value_and_gradient(p, seed, dtype):
    results = []
    for layer in (Dropout(p), nn.Dropout(p)):
        x = rand(5, 7, dtype=dtype).requires_grad_()
        torch.manual_seed(seed)
        y = layer(x)
        (gradient,) = torch.autograd.grad((y * rand(5, 7, dtype=dtype, seed=1)).sum(), x)
        results.append((y.detach(), gradient))
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs)
        assert torch.equal(ours == 0, theirs == 0)


@given(st.floats(0, 0.9))
def test_a_dropout_mask_holds_zeros_and_one_value_and_its_mean_is_1(p):
    torch.manual_seed(0)
    mask = Dropout(p).mask(torch.zeros(200, 500))
    kept = mask[mask != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)))
    assert abs((mask == 0).float().mean().item() - p) < 0.01
    assert abs(mask.mean().item() - 1) < 0.05


def test_dropout_multiplies_by_its_mask():
    layer, x = Dropout(0.3), rand(4, 6)
    torch.manual_seed(1)
    mask = layer.mask(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), x * mask)


def test_dropout_in_use_returns_its_input():
    x = rand(4, 6)
    assert Dropout(0.9).eval()(x) is x
    assert Dropout(0)(x) is x


def test_dropout_drops_anew_at_each_call_and_leaves_its_input_alone():
    layer, x = Dropout(), torch.ones(100)
    torch.manual_seed(0)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(x, torch.ones(100))
    assert str(layer) == "Dropout(p=0.5)"


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_dropout_refuses_a_probability_out_of_range(p):
    message = f"p must be at least 0 and less than 1, but it is {p!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Dropout(p)


# Embedding


@given(
    st.integers(1, 9),
    st.integers(1, 6),
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from([torch.int64, torch.int32]),
    st.integers(0, 99),
)
def test_an_embedding_is_torchs_in_value_and_gradient(n, dim, shape, dtype, seed):
    codes = torch.randint(n, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    results = []
    for kind in (Embedding, nn.Embedding):
        torch.manual_seed(seed)
        layer = kind(n, dim)
        y = layer(codes)
        scale = torch.arange(y.numel(), dtype=y.dtype).view_as(y)
        results.append((y.detach(), *torch.autograd.grad((y * scale).sum(), [layer.weight])))
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs)


@given(st.integers(1, 9), st.integers(1, 6), st.integers(0, 20))
def test_an_embedding_is_a_one_hot_vector_times_its_matrix(n, dim, count):
    layer, codes = Embedding(n, dim), torch.arange(count) % n
    expected = F.one_hot(codes, n).to(torch.float32) @ layer.weight
    torch.testing.assert_close(layer(codes), expected)


def test_an_embedding_has_the_names_of_torchs_and_says_what_it_is():
    assert list(Embedding(7, 4).state_dict()) == list(nn.Embedding(7, 4).state_dict())
    assert str(Embedding(7, 4)) == str(nn.Embedding(7, 4)) == "Embedding(7, 4)"


@pytest.mark.parametrize("codes", [[-1, 2], [0, 3]])
def test_a_code_without_a_row_is_refused(codes):
    message = f"codes must be from 0 to 2, but they go from {codes[0]} to {codes[1]}."
    with pytest.raises(IndexError, match=f"^{re.escape(message)}$"):
        Embedding(3, 2)(torch.tensor(codes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_codes_are_whole_numbers(dtype):
    message = f"codes must be int64 or int32, but their dtype is {dtype}."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        Embedding(3, 2)(torch.zeros(2, dtype=dtype))


@pytest.mark.parametrize(
    ("arguments", "name"), [((0, 1), "num_embeddings"), ((1, 0), "embedding_dim")]
)
def test_an_embedding_refuses_numbers_out_of_range(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must be a whole number of at least 1, but it"):
        Embedding(*arguments)


def test_the_smallest_embedding_is_allowed():
    assert Embedding(1, 1)(torch.tensor(0)).shape == (1,)


def test_a_bias_is_a_tensor():
    with pytest.raises(TypeError, match="^bias must be a tensor, but it is a list.$"):
        conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3), [1.0])


def test_kernels_and_pictures_are_of_one_type():
    weight = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    with pytest.raises(TypeError, match="^weight must have the type of x, torch.float32, but it"):
        conv2d(torch.ones(1, 1, 3, 3), weight)


def test_under_autocast_the_types_may_differ():
    layer = Conv2d(1, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(1, 1, 3, 3, dtype=torch.bfloat16)).shape == (1, 2, 1, 1)


@pytest.mark.parametrize("options", [{"sub": None}, {"sub": "1"}, {"max_value": "1"}])
def test_a_shift_and_a_clamp_are_numbers(options):
    with pytest.raises(TypeError, match="^sub must be a number, and max_value a number or None"):
        GeneralReLU(**options)
