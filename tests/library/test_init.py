"""Initialisations: by formula, against PyTorch's, and by what they do to a model."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from glassbox.init import (
    fan_in,
    fan_out,
    identity_,
    init_model,
    kaiming_normal_,
    kaiming_uniform_,
    lecun_normal_,
    lsuv,
    xavier_normal_,
    xavier_uniform_,
)
from glassbox.layers import Conv2d, GeneralReLU
from glassbox.models import simple_cnn

FORMULAS = {
    kaiming_normal_: lambda i, o: math.sqrt(2 / i),
    kaiming_uniform_: lambda i, o: math.sqrt(2 / i),
    xavier_normal_: lambda i, o: math.sqrt(2 / (i + o)),
    xavier_uniform_: lambda i, o: math.sqrt(2 / (i + o)),
    lecun_normal_: lambda i, o: math.sqrt(1 / i),
}
THEIRS = {
    kaiming_normal_: nn.init.kaiming_normal_,
    kaiming_uniform_: nn.init.kaiming_uniform_,
    xavier_normal_: nn.init.xavier_normal_,
    xavier_uniform_: nn.init.xavier_uniform_,
}
SHAPES = [(300, 200), (80, 20, 5, 5), (60, 40, 3)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@given(st.lists(st.integers(1, 7), min_size=2, max_size=5))
def test_fans_are_those_of_pytorch(shape):
    w = torch.empty(shape)
    assert (fan_in(w), fan_out(w)) == nn.init._calculate_fan_in_and_fan_out(w)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("init", FORMULAS)
def test_the_spread_is_that_of_the_formula(init, shape):
    w = init(torch.empty(shape))
    std = FORMULAS[init](fan_in(w), fan_out(w))
    assert w.std().item() == pytest.approx(std, rel=0.02)
    assert abs(w.mean().item()) < 0.02 * std


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("init", THEIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_numbers_are_those_of_pytorch_after_the_same_seed(init, shape, dtype):
    torch.manual_seed(1)
    ours = init(torch.empty(shape, dtype=dtype))
    torch.manual_seed(1)
    options = {"nonlinearity": "relu"} if "kaiming" in init.__name__ else {}
    torch.testing.assert_close(ours, THEIRS[init](torch.empty(shape, dtype=dtype), **options))


@pytest.mark.parametrize("leak", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("init", [kaiming_normal_, kaiming_uniform_])
def test_a_leak_makes_kaimings_weights_smaller_as_in_pytorch(init, leak):
    torch.manual_seed(1)
    ours = init(torch.empty(30, 20), leak=leak)
    torch.manual_seed(1)
    torch.testing.assert_close(ours, THEIRS[init](torch.empty(30, 20), a=leak))


@pytest.mark.parametrize("init", [kaiming_uniform_, xavier_uniform_])
def test_uniform_weights_fill_a_bounded_range_evenly(init):
    w = init(torch.empty(300, 200))
    bound = math.sqrt(3) * FORMULAS[init](200, 300)
    assert w.abs().max() <= bound
    assert w.abs().max() > 0.999 * bound
    assert torch.histc(w / bound, 4, -1, 1).div(w.numel()).sub(0.25).abs().max() < 0.01


@pytest.mark.parametrize("init", [*FORMULAS, identity_])
def test_the_weight_is_filled_in_place_and_returned(init):
    w = nn.Parameter(torch.full((4, 4), 9.0))
    assert init(w) is w
    assert w.requires_grad
    assert not (w == 9).any()
    assert w.grad_fn is None


@pytest.mark.parametrize("init", [*FORMULAS, identity_, fan_in, fan_out])
def test_what_is_no_weight_is_one_sentence(init):
    with pytest.raises(TypeError, match=r"^w must be a tensor, but it is a list\.$"):
        init([1.0])
    for shape in ((3,), (0, 3)):
        message = r"^w must be weights of shape \(outputs, inputs, …\), none of them 0, but it has"
        with pytest.raises(ValueError, match=message):
            init(torch.empty(shape))


@pytest.mark.parametrize("leak", [-0.1, 1.1])
def test_a_leak_out_of_range_is_one_sentence(leak):
    with pytest.raises(ValueError, match=rf"^leak must lie between 0 and 1, but it is {leak}\.$"):
        kaiming_normal_(torch.empty(3, 3), leak=leak)


@pytest.mark.parametrize("shape", [(4, 4), (3, 3, 5), (2, 2, 3, 3), (2, 2, 3, 5), (2, 2, 1, 1)])
def test_identity_layers_return_their_input(shape):
    w = identity_(torch.empty(shape))
    x = torch.randn(2, shape[0], *[7] * (len(shape) - 2))
    padding = tuple(size // 2 for size in shape[2:])
    if len(shape) == 2:
        y = x @ w.T
    elif len(shape) == 3:
        y = torch.conv1d(x, w, padding=padding)
    else:
        y = torch.conv2d(x, w, padding=padding)
    assert torch.equal(y, x)


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 4, 3)])
def test_weights_that_cannot_be_an_identity_are_one_sentence(shape):
    with pytest.raises(ValueError, match=r"^w must have as many outputs as inputs and a kernel of"):
        identity_(torch.empty(shape))


# -- a model -------------------------------------------------------------------------------------


def test_init_model_fills_all_weights_and_sets_the_biases_to_zero():
    model = simple_cnn(channels=(32, 64), norm=None)
    assert init_model(model) is model
    for layer in (model[0][0], model[1][0], model[-1]):
        std = math.sqrt(2 / fan_in(layer.weight))
        assert layer.weight.std().item() == pytest.approx(std, rel=0.15)
        assert not layer.bias.any()
        assert layer.bias.requires_grad


def test_init_model_leaves_norms_and_embeddings_alone_and_does_without_a_bias():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3))
    nn.init.constant_(model[2].bias, 5.0)
    before = model[0].weight.clone()
    init_model(model, nn.init.zeros_)
    assert torch.equal(model[0].weight, before)
    assert not model[1].weight.any()
    assert model[2].weight.tolist() == [1, 1, 1]
    assert model[2].bias.tolist() == [5, 5, 5]


def test_init_model_knows_the_books_own_convolution_and_passes_a_leak_on():
    model, leaks = nn.Sequential(Conv2d(1, 2, 3)), []
    init_model(model, lambda w, leak=None: leaks.append(leak), leak=0.3)
    init_model(model, lambda w, leak=None: leaks.append(leak))
    assert leaks == [0.3, None]


def test_a_model_without_weights_is_one_sentence():
    with pytest.raises(ValueError, match=r"^model must have a convolution or a linear layer, but"):
        init_model(nn.ReLU())


# -- LSUV ----------------------------------------------------------------------------------------


def _deep(activation=nn.ReLU, scale=0.3):
    layers = []
    for _ in range(6):
        layers += [nn.Linear(50, 50), activation()]
    model = nn.Sequential(*layers)
    for p in model.parameters():
        p.data.mul_(scale)
    return model


def test_lsuv_gives_every_layer_an_output_of_deviation_one():
    model, x = _deep(), torch.randn(200, 50)
    found = lsuv(model, x)
    for i in range(6):
        y = model[: 2 * i + 1](x)
        assert y.std(correction=0).item() == pytest.approx(1, abs=2e-3)
        assert found[i].tolist() == pytest.approx([y.mean().item(), 1], abs=2e-3)
    assert found.shape == (6, 2)


def test_lsuv_of_blocks_measures_behind_the_activation_and_moves_the_shift():
    model = simple_cnn(norm=None, activation=lambda: GeneralReLU(0.1, 0.4, 6.0))
    init_model(model, leak=0.1)
    x = torch.randn(64, 1, 28, 28)
    found = lsuv(model, x, list(model)[:4])
    assert (found - torch.tensor([0.0, 1.0])).abs().max() < 2e-3
    y = model[:4](x)
    assert abs(y.mean().item()) < 2e-3
    assert y.std(correction=0).item() == pytest.approx(1, abs=2e-3)


def _line(sub, *layers):
    """A linear block that subtracts a number, and inputs for it."""
    return nn.Sequential(*layers, GeneralReLU(leak=1.0, sub=sub)), torch.randn(200, 5) + 1


def test_lsuv_needs_one_correction_where_the_block_is_linear():
    model, x = _line(0.7, nn.Linear(5, 8, bias=False))
    found = lsuv(model, x, [model], max_iterations=1)
    assert found[0].tolist() == pytest.approx([0, 1], abs=1e-5)


def test_lsuv_moves_the_shift_where_only_the_mean_is_off():
    model, x = _line(0.0, nn.Linear(5, 8, bias=False))
    lsuv(model, x, [model])
    weight = model[0].weight.clone()
    model[1].sub += 0.5
    assert lsuv(model, x, [model])[0].tolist() == pytest.approx([0, 1], abs=1e-3)
    torch.testing.assert_close(model[0].weight, weight, rtol=2e-3, atol=0)


def test_lsuv_scales_the_first_weight_in_a_block():
    model, x = _line(0.0, nn.Linear(5, 8), nn.Linear(8, 8))
    first, second = model[0].weight.clone(), model[1].weight.clone()
    lsuv(model, x, [model])
    assert not torch.equal(model[0].weight, first)
    assert torch.equal(model[1].weight, second)


def test_lsuv_leaves_a_layer_as_it_was_whose_output_does_not_vary():
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    nn.init.ones_(model[0].weight)
    with pytest.raises(ValueError, match=r"but its standard deviation is 0\.0\.$"):
        lsuv(model, torch.zeros(2, 1))
    assert model[0].weight.item() == 1


def test_lsuv_scales_weights_without_turning_them_and_leaves_biases_alone():
    model, x = _deep(), torch.randn(200, 50)
    before = [p.detach().clone() for p in model.parameters()]
    lsuv(model, x)
    for old, new in zip(before, model.parameters(), strict=True):
        if old.ndim == 2:
            ratio = new / old
            assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-3)
            assert ratio[0, 0] > 1.5
        else:
            assert torch.equal(old, new)


def test_lsuv_leaves_hooks_modes_buffers_and_gradients_as_they_were():
    model = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 5))
    model[2].eval()
    lsuv(model, torch.randn(30, 5))
    assert not any(m._forward_hooks for m in model.modules())
    assert [m.training for m in model] == [True, True, False, True]
    assert model.training
    assert not model[1].running_mean.any()
    assert model[0].weight.grad is None


def test_lsuv_measures_without_dropout():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(20, 20))
    x = torch.randn(100, 20)
    lsuv(model, x)
    assert model.eval()(x).std(correction=0).item() == pytest.approx(1, abs=2e-3)


def test_lsuv_corrects_at_most_as_often_as_it_is_told():
    calls = []

    class Stubborn(nn.Linear):
        def forward(self, x):
            calls.append(1)
            return torch.arange(4.0)

    found = lsuv(nn.Sequential(Stubborn(3, 4)), torch.ones(1, 3), max_iterations=3)
    assert len(calls) == 4
    assert found[0, 1].item() == pytest.approx(math.sqrt(1.25))
    calls.clear()
    lsuv(nn.Sequential(Stubborn(3, 4)), torch.ones(1, 3))
    assert len(calls) == 11


def test_lsuv_stops_as_soon_as_it_is_near_enough():
    calls = []
    model = nn.Sequential(nn.Linear(50, 50, bias=False))
    model[0].register_forward_hook(lambda *a: calls.append(1))
    lsuv(model, torch.randn(99, 50), tol=100.0)
    assert len(calls) == 1
    lsuv(model, torch.randn(99, 50))
    assert len(calls) == 3


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_lsuv_names_the_layer_whose_output_does_not_vary_and_removes_its_hook(value):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    nn.init.constant_(model[1].weight, value)
    nn.init.zeros_(model[1].bias)
    model[0].eval()
    with pytest.raises(
        ValueError, match=r"^The output of the layer '1' must vary over x, but its standard dev"
    ):
        lsuv(model, torch.randn(1, 3) if value else torch.randn(9, 3) * 0)
    assert not any(m._forward_hooks for m in model.modules())
    assert [m.training for m in model] == [False, True]


def test_lsuv_of_a_module_that_is_not_part_of_the_model_is_one_sentence():
    for stranger in (nn.Linear(2, 2), nn.ReLU()):
        with pytest.raises(
            ValueError, match=r"^modules must be parts of the model with weights, b"
        ):
            lsuv(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.ones(1, 2), [stranger])


def test_lsuv_of_a_layer_that_is_not_used_is_one_sentence():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle = nn.Linear(2, 2)

        def forward(self, x):
            return x

    with pytest.raises(ValueError, match=r"^modules must take part in model\(x\), but 'idle' does"):
        lsuv(Idle(), torch.ones(1, 2))


def test_lsuv_of_a_model_without_layers_is_one_sentence():
    with pytest.raises(ValueError, match=r"^modules must hold a convolution or a linear layer, bu"):
        lsuv(nn.ReLU(), torch.ones(1, 2))


@pytest.mark.parametrize("options", [{"tol": 0.0}, {"max_iterations": 0}])
def test_lsuv_bounds_out_of_range_are_one_sentence(options):
    with pytest.raises(
        ValueError, match=r"^max_iterations must be at least 1 and tol positive, bu"
    ):
        lsuv(nn.Linear(2, 2), torch.ones(1, 2), **options)


def test_whole_numbers_are_no_weights():
    with pytest.raises(
        TypeError, match=r"^w must hold floating-point numbers, but .* torch.int64.$"
    ):
        kaiming_normal_(torch.ones(2, 2, dtype=torch.int64))


@pytest.mark.parametrize("call", [init_model, lambda model: lsuv(model, torch.ones(2, 2))])
def test_none_is_no_model(call):
    with pytest.raises(TypeError, match="^model must be an nn.Module, but it is a NoneType.$"):
        call(None)


def test_a_layer_that_returns_a_tuple_cannot_be_scaled():
    class Pair(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    layer = Pair(3, 2)
    with pytest.raises(TypeError, match="^modules must each return a tensor, but Pair returns a "):
        lsuv(layer, torch.ones(2, 3), [layer])


def test_a_single_module_is_not_several():
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="^modules must be several modules.*, but it is a Linear.$"):
        lsuv(layer, torch.ones(2, 2), layer)
