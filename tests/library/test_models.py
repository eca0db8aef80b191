"""`glassbox.models`: the small CNN."""

import pytest
import torch
from torch import nn

from glassbox.models import simple_cnn


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
    "options", [{"channels": ()}, {"in_channels": 0}, {"channels": (8, 0)}, {"num_classes": 0}]
)
def test_bad_input_is_answered_in_one_sentence(options):
    with pytest.raises(ValueError, match="in_channels, channels and num_classes must be whole"):
        simple_cnn(**options)
