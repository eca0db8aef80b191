"""`glassbox.interpret`: each way to ask a network where it looked."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from glassbox.interpret import (
    cam,
    grad_cam,
    guided_backpropagation,
    input_gradient,
    mean_activation_map,
    occlusion,
    saliency,
    smooth_gradient,
)


def a_model(seed=0, dtype=torch.float32, classes=3):
    """A body whose maps have 5 channels, a mean over the places, and a linear layer."""
    torch.manual_seed(seed)
    body = nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, 2, 1), nn.ReLU()
    )
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, classes))
    model = nn.Sequential(body, head).to(dtype)
    body[1].running_mean.normal_()  # so that evaluating differs from training
    return model


def pictures(n=3, dtype=torch.float32, height=9, width=14, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, height, width, generator=generator).to(dtype)


METHODS = {
    "mean_activation_map": lambda model, x, **kw: mean_activation_map(model, model[0], x),
    "cam": lambda model, x, **kw: cam(model, model[0], x, linear=model[1][2], **kw),
    "grad_cam": lambda model, x, **kw: grad_cam(model, model[0], x, **kw),
    "input_gradient": input_gradient,
    "guided_backpropagation": guided_backpropagation,
    "smooth_gradient": lambda model, x, **kw: smooth_gradient(model, x, n_samples=2, **kw),
    "occlusion": lambda model, x, **kw: occlusion(model, x, **kw),
}
WITH_TARGET = [name for name in METHODS if name != "mean_activation_map"]


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


@pytest.fixture(params=WITH_TARGET)
def targeted(request):
    return METHODS[request.param]


def hooks_of(model):
    return [
        hook
        for module in model.modules()
        for hooks in (
            module._forward_hooks, module._forward_pre_hooks,
            module._backward_hooks, module._backward_pre_hooks,
        )
        for hook in hooks
    ]  # fmt: skip


# What every method has in common


def test_the_model_is_evaluated_and_left_in_the_modes_it_had(method):
    model, x = a_model(), pictures()
    expected = method(model.eval(), x)
    model.train()
    model[0][3].eval()  # a frozen layer in a model that trains
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.equal(method(model, x), expected)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_gradients_of_the_model_and_the_pictures_are_left_as_they_were(method):
    model, x = a_model(), pictures().requires_grad_()
    model[0][0].weight.grad = torch.full_like(model[0][0].weight, 2.0)
    before = x.detach().clone()
    heat = method(model, x)
    assert not heat.requires_grad
    assert bool((model[0][0].weight.grad == 2).all())
    assert model[1][2].weight.grad is None
    assert x.grad is None
    assert x.requires_grad
    assert torch.equal(x.detach(), before)


def test_no_hook_is_left(method):
    model, mine = a_model(), []
    model[0].register_forward_hook(lambda *_: mine.append(1))
    method(model, pictures())
    assert len(hooks_of(model)) == 1
    assert mine


def test_no_hook_is_left_and_no_mode_changed_when_the_model_fails(method):
    model = a_model().train()
    with pytest.raises(RuntimeError):
        method(model, torch.zeros(1, 7, 9, 9))  # 7 channels where 2 are wanted
    assert hooks_of(model) == []
    assert all(module.training for module in model.modules())


def test_pictures_do_not_influence_each_other(method):
    model, x = a_model().eval(), pictures(4)
    if method is METHODS["smooth_gradient"]:  # its noise belongs to the batch
        return
    alone = torch.cat([method(model, x[i : i + 1]) for i in range(4)])
    assert torch.allclose(method(model, x), alone, atol=1e-5)


def test_double_precision_stays(method):
    assert (
        method(a_model(dtype=torch.float64), pictures(dtype=torch.float64)).dtype == torch.float64
    )


def test_it_works_without_gradients_around_and_with_frozen_parameters(method):
    model, x = a_model(), pictures()
    expected = method(model, x)
    model.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(method(model, x), expected)


@pytest.mark.parametrize("x", [torch.zeros(2, 9, 9), torch.zeros(2, 2, 9, 9, dtype=torch.int64)])
def test_something_else_than_a_batch_of_pictures_is_named(method, x):
    sentence = r"^x must be pictures of shape \(n, channels, height, width\), floating point, but "
    with pytest.raises(ValueError, match=sentence) as caught:
        method(a_model(), x)
    assert f"shape {tuple(x.shape)} and type {x.dtype}" in str(caught.value)
    assert str(caught.value).endswith("for one picture, write x[None].")


@pytest.mark.parametrize("target", [-1, 3, torch.tensor([0, 3, 1])])
def test_a_target_out_of_range_is_named(targeted, target):
    worst = 3 if isinstance(target, torch.Tensor) else target
    with pytest.raises(
        ValueError, match=f"^target must be a class from 0 to 2, but one is {worst}.$"
    ):
        targeted(a_model(), pictures(), target=target)


@pytest.mark.parametrize("target", [torch.zeros(2, dtype=torch.int64), 1.0, torch.zeros(3), True])
def test_targets_of_another_kind_are_named(targeted, target):
    sentence = (
        r"^target must be a class number or 3 of them, one for each picture, but it has shape"
    )
    with pytest.raises(ValueError, match=sentence) as caught:
        targeted(a_model(), pictures(), target=target)
    value = torch.as_tensor(target)
    assert str(caught.value).endswith(f"shape {tuple(value.shape)} and type {value.dtype}.")


def test_without_a_target_it_is_the_prediction_and_each_picture_may_have_its_own(targeted):
    model, x = a_model(3).eval(), pictures(6, seed=2)
    model[1][2].bias.data -= model(x).mean(0).detach()  # so that the predictions differ
    predicted = model(x).argmax(1)
    assert len(predicted.unique()) > 1
    assert torch.equal(targeted(model, x), targeted(model, x, target=predicted))
    assert torch.equal(targeted(model, x, target=2), targeted(model, x, target=torch.full((6,), 2)))
    assert not torch.equal(targeted(model, x, target=0), targeted(model, x, target=2))


def test_a_model_that_returns_no_logits_is_named(targeted):
    model = a_model()
    with pytest.raises(
        ValueError,
        match=r"^model must return logits of shape \(n, classes\), but it returns shape \(3, 5, ",
    ):
        input_gradient(model[0], pictures())

    class Pair(nn.Sequential):
        def forward(self, x):
            return super().forward(x), 0

    with pytest.raises(ValueError, match=r"logits .* but it returns tuple\.$"):
        targeted(Pair(*model), pictures())


LAYERED = ["mean_activation_map", "cam", "grad_cam"]


def with_layer(name, model, layer, x):
    if name == "cam":
        return cam(model, layer, x, linear=model[1][2])
    return {"mean_activation_map": mean_activation_map, "grad_cam": grad_cam}[name](model, layer, x)


@pytest.mark.parametrize("name", LAYERED)
def test_a_layer_that_is_not_in_the_model_is_named(name):
    sentence = "^layer must be a module of the model, but this Conv2d is not in it.$"
    with pytest.raises(ValueError, match=sentence):
        with_layer(name, a_model(), nn.Conv2d(2, 4, 3), pictures())


@pytest.mark.parametrize("name", LAYERED)
def test_a_layer_that_is_never_called_is_named(name):
    model = a_model()
    model[1].spare = nn.Identity()
    model[1].forward = lambda x: model[1][2](x.mean((2, 3)))
    sentence = r"^layer must take part in model\(x\), but it was never called.$"
    with pytest.raises(ValueError, match=sentence):
        with_layer(name, model, model[1].spare, pictures())
    assert hooks_of(model) == []


@pytest.mark.parametrize("name", LAYERED)
def test_a_layer_without_maps_is_named(name):
    model = a_model()
    sentence = (
        r"^layer must return maps of shape \(n, channels, height, width\), but it returns shape "
        r"\(3, 5\)\.$"
    )
    with pytest.raises(ValueError, match=sentence):
        with_layer(name, model, model[1][1], pictures())


# The maps of a layer


def test_the_mean_activation_map_is_the_mean_over_channels():
    model, x = a_model().eval(), pictures()
    heat = mean_activation_map(model, model[0], x)
    assert heat.shape == (3, 3, 4)
    assert torch.equal(heat, model[0](x).detach().mean(1))
    assert torch.equal(mean_activation_map(model, model[0][0], x), model[0][0](x).mean(1))


def test_the_mean_of_a_class_activation_map_is_the_logit_less_its_bias():
    model, x = a_model(dtype=torch.float64).eval(), pictures(dtype=torch.float64)
    logits = model(x)
    for target in range(3):
        heat = cam(model, model[0], x, target, linear=model[1][2])
        assert heat.shape == (3, 3, 4)
        expected = logits[:, target] - model[1][2].bias[target]
        assert torch.allclose(heat.mean((1, 2)), expected)


@given(seed=st.integers(0, 1000), height=st.integers(5, 12), width=st.integers(5, 12))
def test_grad_cam_is_cam_up_to_the_number_of_places(seed, height, width):
    model = a_model(seed, torch.float64)
    x = pictures(2, torch.float64, height, width, seed)
    ours = cam(model, model[0], x, linear=model[1][2])
    theirs = grad_cam(model, model[0], x, relu=False)
    places = ours.shape[1] * ours.shape[2]
    assert torch.allclose(theirs * places, ours)
    assert torch.equal(grad_cam(model, model[0], x), theirs.clamp_min(0))


def test_grad_cam_averages_the_gradient_of_any_head():
    torch.manual_seed(0)
    body = nn.Conv2d(2, 5, 3)
    model = nn.Sequential(body, nn.Tanh(), nn.Flatten(), nn.Linear(5 * 7 * 12, 3)).eval()
    x = pictures()
    maps = body(x).detach().requires_grad_()
    model[1:](maps)[:, 1].sum().backward()
    expected = (maps.grad.mean((2, 3), keepdim=True) * maps).sum(1).detach()
    assert torch.allclose(grad_cam(model, body, x, 1, relu=False), expected, atol=1e-6)


def test_cam_refuses_a_linear_layer_of_another_shape():
    model = a_model()
    sentence = "^linear must lead from the layer's 5 channels to 3 classes, but it leads from {}.$"
    with pytest.raises(ValueError, match=sentence.format("5 to 4")):
        cam(model, model[0], pictures(), linear=nn.Linear(5, 4))
    with pytest.raises(ValueError, match=sentence.format("4 to 3")):
        cam(model, model[0], pictures(), linear=nn.Linear(4, 3))


def test_cam_refuses_a_model_that_does_not_end_in_a_mean_and_that_layer():
    model = a_model()
    sentence = (
        r"^model must return linear\(mean of the layer's maps\), but it returns something else: "
        r"use grad_cam.$"
    )
    with pytest.raises(ValueError, match=sentence):
        cam(model, model[0], pictures(), linear=nn.Linear(5, 3))
    model[1][0] = nn.AdaptiveMaxPool2d(1)
    with pytest.raises(ValueError, match=sentence):
        cam(model, model[0], pictures(), linear=model[1][2])


# The gradient of the pixels


def test_the_input_gradient_is_that_of_the_logit():
    model, x = a_model().eval(), pictures()
    leaf = x.clone().requires_grad_()
    model(leaf)[:, 2].sum().backward()
    assert torch.allclose(input_gradient(model, x, 2), leaf.grad)


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_backpropagation_lets_positive_gradients_pass(inplace):
    torch.manual_seed(1)
    first, second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)
    model = nn.Sequential(
        first, nn.ReLU(inplace), second, nn.ReLU(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(2, 2),
    ).eval()  # fmt: skip
    x = torch.randn(2, 1, 6, 6)
    with torch.no_grad():
        a = first(x)
        b = second(a.relu())
        gradient = model[6].weight[1][None, :, None, None].expand_as(b) / 36
        for before, layer in ((b, second), (a, first)):
            gradient = gradient.clamp_min(0) * (before > 0)
            gradient = F.conv_transpose2d(gradient, layer.weight, padding=1)
    assert torch.allclose(guided_backpropagation(model, x, 1), gradient, atol=1e-6)
    assert not torch.allclose(input_gradient(model, x, 1), gradient, atol=1e-4)


def test_guided_backpropagation_refuses_a_model_without_relu():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    sentence = "^model must have at least one nn.ReLU to guide through, but has none.$"
    with pytest.raises(ValueError, match=sentence):
        guided_backpropagation(model, pictures())


def test_the_smooth_gradient_is_the_mean_over_noisy_copies():
    model, x = a_model().eval(), pictures()
    x[1] = 5 * x[1] + 3  # the noise is a share of each picture's own range
    x_range = (x.flatten(1).max(1)[0] - x.flatten(1).min(1)[0]).view(3, 1, 1, 1)
    generator = torch.Generator().manual_seed(4)
    copies = [x + 0.3 * x_range * torch.randn(x.shape, generator=generator) for _ in range(5)]
    expected = torch.stack([input_gradient(model, copy, 1) for copy in copies]).mean(0)
    smooth = smooth_gradient(model, x, 1, n_samples=5, noise=0.3, seed=4)
    assert torch.allclose(smooth, expected, atol=1e-6)


def test_the_smooth_gradient_without_noise_is_the_gradient():
    model, x = a_model().eval(), pictures()
    smooth = smooth_gradient(model, x, n_samples=1, noise=0.0)
    assert torch.allclose(smooth, input_gradient(model, x))


def test_the_defaults_of_the_smooth_gradient():
    model, x = a_model().eval(), pictures()
    expected = smooth_gradient(model, x, n_samples=16, noise=0.1, seed=0)
    assert torch.equal(smooth_gradient(model, x), expected)
    assert not torch.equal(smooth_gradient(model, x, seed=1), expected)


def test_bad_settings_of_the_smooth_gradient_are_named():
    model = a_model()
    with pytest.raises(
        ValueError, match="^n_samples must be a whole number of at least 1, but it is 0.$"
    ):
        smooth_gradient(model, pictures(), n_samples=0)
    with pytest.raises(ValueError, match="^noise must not be negative, but it is -0.1.$"):
        smooth_gradient(model, pictures(), noise=-0.1)


def test_saliency_is_the_largest_size_over_channels():
    gradient = torch.tensor([1.0, -3.0, 2.0, 0.5]).view(1, 2, 1, 2)
    assert saliency(gradient).tolist() == [[[2.0, 3.0]]]
    sentence = r"^gradient must have shape \(n, channels, height, width\), but has \(1, 2, 2\).$"
    with pytest.raises(ValueError, match=sentence):
        saliency(gradient.view(1, 2, 2))


# Occlusion


class Sum(nn.Module):
    """Class 0 is the sum of the pixels weighted by a fixed picture; class 1 is its opposite."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        total = (x * self.weights).sum((1, 2, 3))
        return torch.stack([total, -total], 1)


def test_occlusion_of_a_linear_model_is_what_the_patches_covered():
    torch.manual_seed(0)
    weights, x = torch.randn(1, 6, 7, dtype=torch.float64), torch.randn(2, 1, 6, 7).double()
    heat = occlusion(Sum(weights), x, 0, size=3, stride=2, fill=0.25)
    expected, count = torch.zeros(2, 6, 7).double(), torch.zeros(6, 7)
    for top in (0, 2, 3):  # the last place ends at the edge
        for left in (0, 2, 4):
            rows, columns = slice(top, top + 3), slice(left, left + 3)
            lost = ((x - 0.25) * weights)[:, 0, rows, columns].sum((1, 2))
            expected[:, rows, columns] += lost[:, None, None]
            count[rows, columns] += 1
    assert torch.allclose(heat, expected / count)
    assert torch.allclose(occlusion(Sum(weights), x, 1, size=3, stride=2, fill=0.25), -heat)


def test_occlusion_fills_with_the_mean_of_each_channel_of_each_picture():
    x = torch.zeros(2, 2, 4, 4)
    x[0, 0], x[1, 1, :2] = 3.0, 8.0
    filled = []

    class Spy(nn.Module):
        def forward(self, x):
            filled.append(x[:, :, 0, 0].tolist())
            return x.mean((2, 3))

    occlusion(Spy(), x, size=1, stride=1)
    assert filled[1] == [[3.0, 0.0], [0.0, 4.0]]


def test_the_defaults_of_occlusion():
    model, x = a_model().eval(), pictures(2, height=13, width=11)
    expected = occlusion(model, x, size=8, stride=4)
    assert torch.equal(occlusion(model, x), expected)


def test_a_patch_of_the_whole_picture_has_one_place():
    heat = occlusion(
        Sum(torch.ones(1, 4, 4)), torch.ones(1, 1, 4, 4), 0, size=4, stride=4, fill=0.0
    )
    assert heat.tolist() == [[[16.0] * 4] * 4]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 0}, "^size must be a whole number from 1 to 9, but it is 0.$"),
        ({"size": 10}, "^size must be a whole number from 1 to 9, but it is 10.$"),
        ({"size": 3, "stride": 4}, "^stride must be a whole number from 1 to 3, but it is 4.$"),
        ({"size": 3, "stride": 0}, "^stride must be a whole number from 1 to 3, but it is 0.$"),
    ],
)
def test_patches_that_do_not_fit_are_named(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        occlusion(a_model(), pictures(), **options)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: input_gradient(None, pictures()), "^model must be an nn.Module, but it is NoneT"),
        (lambda: guided_backpropagation(None, pictures()), "^model must be an nn.Module, but it"),
        (lambda: input_gradient(a_model(), None), "^x must be a tensor of pictures, but it is Non"),
        (
            lambda: input_gradient(a_model(), pictures(), "cat"),
            "^target must be a .* it is 'cat'.$",
        ),
        (
            lambda: occlusion(a_model(), pictures(), fill="0"),
            "^fill must be a number, or None, but",
        ),
    ],
)
def test_what_is_of_the_wrong_kind_is_named(call, sentence):
    with pytest.raises(TypeError, match=sentence):
        call()


@pytest.mark.parametrize("noise", [None, "0.1", float("nan")])
def test_noise_is_a_number(noise):
    with pytest.raises(ValueError, match="^noise must not be negative, but it is"):
        smooth_gradient(a_model(), pictures(), noise=noise)
