"""`glassbox.models`: the small CNN, residual networks, and the published layout."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from glassbox.models import (
    BasicBlock,
    ResNet,
    resnet18,
    resnet34,
    simple_cnn,
)
from glassbox.transfer import load_weights

SMALL = dict(layers=(1, 2), num_classes=3, in_channels=1, widths=(4, 6), small_images=True)


def small() -> ResNet:
    torch.manual_seed(0)
    return ResNet(**SMALL)


def n_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# The small CNN


def test_the_lessons_network():
    net = simple_cnn(norm=None)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [8, 16, 32, 32]
    assert [m.kernel_size for m in convolutions] == [(5, 5), (3, 3), (3, 3), (3, 3)]
    assert all(m.stride == (2, 2) and m.bias is not None for m in convolutions)
    x, sides = torch.zeros(2, 1, 28, 28), []
    for convolution in convolutions:
        x = convolution(x)
        sides.append(x.shape[-1])
    assert sides == [14, 7, 4, 2]
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_a_norm_takes_the_place_of_the_bias():
    net = simple_cnn(in_channels=3, channels=(4, 5), num_classes=2)
    assert [m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d)] == [4, 5]
    assert all(m.bias is None for m in net.modules() if isinstance(m, nn.Conv2d))
    assert net(torch.zeros(2, 3, 17, 31)).shape == (2, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"channels": ()},
        {"in_channels": 0},
        {"channels": (8, 0)},
        {"channels": 8},
        {"num_classes": 2.5},
    ],
)
def test_bad_input_is_answered_in_one_sentence(options):
    with pytest.raises(ValueError, match="(in_channels|channels|num_classes).* must be a"):
        simple_cnn(**options)


# The published layout, written down once more


def published_layout(layers, num_classes=1000):
    """Return (parameters, buffers), each a list of (name, shape), in the order of the files."""
    parameters, buffers = [], []

    def convolution(name, n_out, n_in, size):
        parameters.append((f"{name}.weight", (n_out, n_in, size, size)))

    def norm(name, n):
        parameters.extend([(f"{name}.weight", (n,)), (f"{name}.bias", (n,))])
        buffers.extend([(f"{name}.running_mean", (n,)), (f"{name}.running_var", (n,))])
        buffers.append((f"{name}.num_batches_tracked", ()))

    convolution("conv1", 64, 3, 7)
    norm("bn1", 64)
    n_in = 64
    for stage, (n_blocks, n_out) in enumerate(zip(layers, (64, 128, 256, 512), strict=True), 1):
        for i in range(n_blocks):
            block = f"layer{stage}.{i}"
            convolution(f"{block}.conv1", n_out, n_in, 3)
            norm(f"{block}.bn1", n_out)
            convolution(f"{block}.conv2", n_out, n_out, 3)
            norm(f"{block}.bn2", n_out)
            if stage > 1 and i == 0:
                convolution(f"{block}.downsample.0", n_out, n_in, 1)
                norm(f"{block}.downsample.1", n_out)
            n_in = n_out
    parameters.extend([("fc.weight", (num_classes, 512)), ("fc.bias", (num_classes,))])
    return parameters, buffers


@pytest.mark.parametrize(
    ("factory", "layers", "total", "n_named"),
    [(resnet18, (2, 2, 2, 2), 11_689_512, 62), (resnet34, (3, 4, 6, 3), 21_797_672, 110)],
)
def test_names_and_shapes_are_the_published_ones(factory, layers, total, n_named):
    with torch.device("meta"):
        net = factory()
    parameters, buffers = published_layout(layers)
    assert [(n, tuple(p.shape)) for n, p in net.named_parameters()] == parameters
    assert [(n, tuple(b.shape)) for n, b in net.named_buffers()] == buffers
    assert len(parameters) == n_named
    assert n_parameters(net) == total


def test_names_of_resnet18_as_a_file_has_them():
    with torch.device("meta"):
        names = list(resnet18().state_dict())
    assert len(names) == 122
    assert names[:8] == [
        *("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"),
        *("bn1.num_batches_tracked", "layer1.0.conv1.weight", "layer1.0.bn1.weight"),
    ]
    assert names[-4:] == [
        *("layer4.1.bn2.running_var", "layer4.1.bn2.num_batches_tracked"),
        *("fc.weight", "fc.bias"),
    ]
    assert "layer2.0.downsample.0.weight" in names
    assert "layer1.0.downsample.0.weight" not in names


def reference(weights, layers, x, *, training, small_images=False):
    """Compute a ResNet's outputs from named tensors, with torch's functions and nothing else."""

    def norm(name, x):
        w = {k: weights[f"{name}.{k}"] for k in ("weight", "bias", "running_mean", "running_var")}
        return F.batch_norm(x, training=training, **{k: v.clone() for k, v in w.items()})

    stride, padding = (1, 1) if small_images else (2, 3)
    x = F.relu(norm("bn1", F.conv2d(x, weights["conv1.weight"], None, stride, padding)))
    if not small_images:
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    for stage, n_blocks in enumerate(layers, 1):
        for i in range(n_blocks):
            block = f"layer{stage}.{i}"
            stride = 2 if stage > 1 and i == 0 else 1
            y = F.conv2d(x, weights[f"{block}.conv1.weight"], None, stride, 1)
            y = F.relu(norm(f"{block}.bn1", y))
            y = norm(f"{block}.bn2", F.conv2d(y, weights[f"{block}.conv2.weight"], None, 1, 1))
            if f"{block}.downsample.0.weight" in weights:
                x = F.conv2d(x, weights[f"{block}.downsample.0.weight"], None, stride, 0)
                x = norm(f"{block}.downsample.1", x)
            x = F.relu(y + x)
    return F.linear(x.mean((-2, -1)), weights["fc.weight"], weights["fc.bias"])


def randomised(model: nn.Module) -> nn.Module:
    """Give every norm a scale, shift and statistics of its own, as training does."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("factory", "layers"), [(resnet18, (2, 2, 2, 2)), (resnet34, (3, 4, 6, 3))]
)
def test_outputs_are_those_of_the_published_network(factory, layers, training):
    torch.manual_seed(1)
    net = randomised(factory(7)).train(training)
    x = torch.randn(2, 3, 65, 71)
    with torch.no_grad():
        expected = reference(net.state_dict(), layers, x, training=training)
        torch.testing.assert_close(net(x), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("small_images", [True, False])
def test_values_and_gradients_in_double_precision(small_images):
    torch.manual_seed(2)
    net = ResNet((1, 2), 3, in_channels=2, widths=(4, 6), small_images=small_images).double()
    x = torch.randn(3, 2, 29, 33, dtype=torch.float64)
    weights = {n: t.detach().clone() for n, t in net.state_dict().items()}
    for name, _ in net.named_parameters():
        weights[name].requires_grad_()
    expected = reference(weights, (1, 2), x, training=True, small_images=small_images)
    ours = net(x)
    torch.testing.assert_close(ours, expected)
    (ours**2).sum().backward()
    (expected**2).sum().backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, weights[name].grad)


def test_published_weights_of_resnet18_load(tmp_path):
    """Weights under the published names, made without a ResNet of ours."""
    torch.manual_seed(3)
    parameters, buffers = published_layout((2, 2, 2, 2))
    weights = {
        n: torch.rand(shape) + 0.5 if len(shape) == 1 else torch.randn(shape) * 0.05
        for n, shape in parameters
    }
    for name, shape in buffers:
        if not name.endswith("num_batches_tracked"):  # published files have none
            weights[name] = torch.rand(shape) + 0.5
    path = tmp_path / "resnet18.pth"
    torch.save(weights, path)
    net = resnet18().eval()
    left = load_weights(net, path)
    assert left
    assert all(n.endswith("num_batches_tracked") for n in left)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = reference(weights, (2, 2, 2, 2), x, training=False)
        torch.testing.assert_close(net(x), expected, rtol=1e-3, atol=1e-4)


# Its parts


@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2]), st.integers(1, 9))
def test_a_block_rounds_the_halved_size_up(n_in, n_out, stride, side):
    block = BasicBlock(n_in, n_out, stride).eval()
    half = -(-side // stride)
    assert block(torch.randn(2, n_in, side, side + 1)).shape == (
        2, n_out, half, -(-(side + 1) // stride),
    )  # fmt: skip
    assert (block.downsample is None) == (stride == 1 and n_in == n_out)


def test_a_block_whose_branch_gives_nothing_is_a_relu():
    block = BasicBlock(3, 3)
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(block(x), x.relu())


def test_zero_init_makes_every_plain_block_a_relu():
    net = ResNet((2, 1), 3, in_channels=1, widths=(4, 6), zero_init=True)
    x = torch.rand(2, 4, 7, 7)
    torch.testing.assert_close(net.layer1(x), x)
    assert not any(block.bn2.weight.any() for block in (*net.layer1, *net.layer2))
    assert all(block.bn1.weight.all() for block in (*net.layer1, *net.layer2))
    assert all(b.bn2.weight.all() for b in ResNet((2,), 3, widths=(4,)).layer1)


def test_the_default_channels_widths_and_classes():
    with torch.device("meta"):
        net = ResNet((1, 1, 1, 1))
    assert net.conv1.in_channels == 3
    assert [net.get_submodule(f"layer{i}")[0].conv2.out_channels for i in (1, 2, 3, 4)] == [
        *(64, 128, 256, 512)
    ]
    assert net.fc.out_features == 1000


def test_the_published_stem_shrinks_28_to_7_and_the_other_keeps_it():
    x = torch.randn(1, 3, 28, 28)
    for small_images, size in ((False, 7), (True, 28)):
        net = resnet18(2, small_images=small_images).eval()
        stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        assert stem(x).shape == (1, 64, size, size)
        assert net.layer4(net.layer3(net.layer2(net.layer1(stem(x))))).shape[-1] == -(-size // 8)
    assert net.conv1.kernel_size == (3, 3)


def test_the_children_in_order_are_the_network():
    net = small().eval()
    x = torch.randn(2, 1, 9, 9)
    torch.testing.assert_close(nn.Sequential(*net.children())(x), net(x))


def test_initial_weights_keep_the_variance_of_gradients():
    torch.manual_seed(0)
    net = resnet18(2, in_channels=3)
    for convolution in (net.conv1, net.layer2[0].conv1, net.layer4[1].conv2):
        fan_out = convolution.out_channels * convolution.kernel_size[0] ** 2
        assert convolution.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        assert abs(convolution.weight.mean().item()) < 0.1 * convolution.weight.std().item()


def test_another_block_and_another_norm():
    class Plain(BasicBlock):
        def forward(self, x):
            return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))

    def norm(n):
        return nn.GroupNorm(2, n)

    net = ResNet((1, 2), 3, in_channels=1, widths=(4, 6), block=Plain, norm=norm)
    assert all(isinstance(block, Plain) for block in (*net.layer1, *net.layer2))
    # Those of the stem, of three blocks, and of one downsample.
    assert sum(isinstance(m, nn.GroupNorm) for m in net.modules()) == 1 + 3 * 2 + 1
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())


@pytest.mark.parametrize("layers", [(), (1, 2, 3), (1,)])
def test_stages_and_widths_must_match(layers):
    with pytest.raises(
        ValueError, match="layers (and widths must have one number for each|must be a)"
    ):
        ResNet(layers, 3, widths=() if not layers else (4, 6))


@pytest.mark.parametrize(
    "options",
    [{"layers": (1, 0)}, {"widths": (0, 6)}, {"in_channels": 0}, {"num_classes": 0}],
)
def test_numbers_of_a_resnet_must_be_positive(options):
    with pytest.raises(ValueError, match="must be a whole number of at least 1, but it is 0.$"):
        ResNet(**{**SMALL, **options})


@pytest.mark.parametrize("numbers", [(0, 4, 1), (4, 0, 1), (4, 4, 0)])
def test_a_block_needs_channels_and_a_stride(numbers):
    with pytest.raises(ValueError, match="must be a whole number of at least 1, but it is 0.$"):
        BasicBlock(*numbers)


def test_a_norm_without_a_weight_cannot_start_at_zero():
    def norm(n):
        return nn.BatchNorm2d(n, affine=False)

    sentence = "^norm must return layers with a weight for zero_init, but BatchNorm2d has none.$"
    with pytest.raises(ValueError, match=sentence):
        ResNet(**{**SMALL, "norm": norm, "zero_init": True})
