"""`glassbox.summary`: receptive fields against gradients, and what a summary counts and leaves."""

import html
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from glassbox.layers import Conv2d, Lambda, conv_layer
from glassbox.norm import RunningBatchNorm
from glassbox.summary import model_summary, receptive_field

# Receptive field


@st.composite
def stacks(draw):
    """Draw a few layers of positive weights, so that no influence cancels."""
    layers = []
    for _ in range(draw(st.integers(1, 3))):
        kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
        padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
        kind = draw(st.sampled_from(["ours", "theirs", "pool"]))
        if kind == "pool":
            layers.append(nn.AvgPool2d(kernel, stride, padding))
        else:
            make = Conv2d if kind == "ours" else nn.Conv2d
            layers.append(make(1, 1, kernel, stride, padding))
            nn.init.ones_(layers[-1].weight)
        layers.append(nn.Identity())
    return nn.Sequential(*layers)


@settings(deadline=None)
@given(stacks())
def test_the_receptive_field_is_where_the_gradient_is(layers):
    field = receptive_field(layers)
    x = torch.zeros(1, 1, 60, 60, requires_grad=True)
    y = layers(x)
    row, column = y.shape[2] // 2, y.shape[3] // 2
    y[0, 0, row, column].backward()
    for axis, place in ((0, row), (1, column)):
        seen = x.grad[0, 0].sum(1 - axis).nonzero()[:, 0].tolist()
        first = place * field.stride[axis] - field.padding[axis]
        assert [seen[0], seen[-1]] == [first, first + field.size[axis] - 1]


def test_an_output_of_nothing_sees_one_pixel():
    assert receptive_field([]) == ((1, 1), (1, 1), (0, 0))
    assert receptive_field(nn.ReLU()) == ((1, 1), (1, 1), (0, 0))


def test_one_layer_has_its_own_field():
    assert receptive_field(nn.Conv2d(1, 1, (3, 5), (2, 4), (1, 2))) == ((3, 5), (2, 4), (1, 2))


def test_pooling_steps_by_its_kernel_by_default():
    assert receptive_field(nn.MaxPool2d(3)) == ((3, 3), (3, 3), (0, 0))


def test_dilation_and_named_paddings_are_understood():
    assert receptive_field(nn.Conv2d(1, 1, 3, dilation=(2, 4))).size == (5, 9)
    assert receptive_field(nn.Conv2d(1, 1, 5, padding="same", dilation=(1, 2))).padding == (2, 4)
    assert receptive_field(nn.Conv2d(1, 1, 5, padding="valid")).padding == (0, 0)


def test_nested_sequences_count_as_their_parts():
    flat = [*conv_layer(1, 4, 5), *conv_layer(4, 4)]
    nested = nn.Sequential(conv_layer(1, 4, 5), nn.Sequential(conv_layer(4, 4)))
    assert receptive_field(nested) == receptive_field(flat) == ((9, 9), (4, 4), (4, 4))


@pytest.mark.parametrize("layer", [nn.Linear(2, 2), nn.Flatten(), nn.AdaptiveAvgPool2d(1)])
def test_a_layer_that_sees_the_whole_image_has_no_field(layer):
    message = (
        f"layers must treat an image place by place, but {type(layer).__name__} may mix all of its "
        "places; leave it out, and what follows it."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        receptive_field([nn.ReLU(), layer])


@pytest.mark.parametrize(
    "layer", [nn.ConvTranspose2d(1, 1, 2), nn.ModuleList([nn.ReLU()]), nn.Conv1d(1, 1, 3)]
)
def test_other_layers_have_no_field(layer):
    message = (
        "layers must be convolutions, pooling and layers that treat each place by itself, one "
        f"after the other, but one is a {type(layer).__name__}."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        receptive_field(layer)


def test_a_branch_that_is_empty_is_no_chain_either():
    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.way = nn.Sequential()

        def forward(self, x):
            return x + self.way(x)

    with pytest.raises(ValueError, match="one is a Shortcut"):
        receptive_field(Shortcut())
    assert [row.name for row in model_summary(Shortcut(), torch.zeros(1, 2)).rows] == ["way"]


def test_what_is_no_layer_has_no_field():
    with pytest.raises(TypeError, match="^layers must hold layers, but one is a str.$"):
        receptive_field(["conv"])


# Summary


class Odd(nn.Module):
    """A model with a parameter of its own, one layer used twice, one never, and noise."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.mix = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)
        self.spare = nn.Linear(7, 1)

    def forward(self, x):
        x = self.mix(self.mix(self.drop(x))) * self.scale
        return x + torch.rand_like(x)


def test_a_summary_lists_layers_in_the_order_of_use():
    model = nn.Sequential(
        Lambda(lambda x: x.view(-1, 1, 8, 6)),
        conv_layer(1, 4, 5),
        Conv2d(4, 2, (1, 3), bias=False),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    summary = model_summary(model, torch.zeros(10, 48))
    assert [tuple(row) for row in summary.rows] == [
        ("0", "Lambda", (10, 1, 8, 6), 0, 0),
        ("1.0", "Conv2d", (10, 4, 4, 3), 100, 4 * 4 * 3 * 25),
        ("1.1", "ReLU", (10, 4, 4, 3), 0, 0),
        ("1.2", "BatchNorm2d", (10, 4, 4, 3), 8, 0),
        ("2", "Conv2d", (10, 2, 4, 1), 24, 2 * 4 * 1 * 4 * 3),
        ("3", "Flatten", (10, 8), 0, 0),
        ("4", "Linear", (10, 3), 27, 24),
    ]
    assert summary.parameters == sum(p.numel() for p in model.parameters()) == 159
    assert summary.multiply_adds == 1200 + 96 + 24


def test_a_summary_counts_per_item_and_knows_groups_and_other_ranks():
    model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(2), nn.Conv1d(6, 2, 5))
    one, many = (model_summary(model, torch.zeros(n, 4, 5, 5)) for n in (1, 7))
    assert [row.multiply_adds for row in one.rows] == [6 * 9 * 2 * 9, 0, 2 * 5 * 6 * 5]
    assert [row.multiply_adds for row in many.rows] == [row.multiply_adds for row in one.rows]
    assert many.rows[0].output_shape == (7, 6, 3, 3)
    volume = model_summary(nn.Conv3d(1, 2, 2), torch.zeros(1, 1, 3, 3, 3))
    assert volume.multiply_adds == 2 * 8 * 8


def test_a_layer_used_twice_has_two_rows_and_its_parameters_count_once():
    summary = model_summary(Odd(), torch.zeros(2, 3))
    assert [(row.name, row.parameters, row.multiply_adds) for row in summary.rows] == [
        ("drop", 0, 0),
        ("mix", 12, 9),
        ("mix", 0, 9),
        ("(model)", 3, 0),
    ]
    assert summary.parameters == 12 + 3 + 8  # the spare layer's too


def test_a_single_layer_is_a_model():
    (row,) = model_summary(nn.Linear(3, 2), torch.zeros(1, 3)).rows
    assert row == ("(model)", "Linear", (1, 2), 8, 6)


def test_a_summary_of_outputs_that_are_not_one_tensor():
    (row,) = model_summary(nn.LSTM(3, 4), torch.zeros(2, 5, 3)).rows
    assert row.output_shape == (2, 5, 4)
    assert model_summary(Lambda(lambda x: None), torch.zeros(1)).rows[0].output_shape == ()
    assert model_summary(Lambda(lambda x: []), torch.zeros(1)).rows[0].output_shape == ()


def test_a_summary_changes_nothing():
    model = nn.Sequential(Odd(), nn.BatchNorm1d(3), nn.Dropout())
    model[2].eval()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model_summary(model, torch.ones(4, 3))
    assert torch.equal(torch.rand(3), expected), "the random numbers"
    assert [model.training, model[0].drop.training, model[2].training] == [True, True, False]
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_a_summary_needs_no_gradients_and_evaluates():
    states = []
    model = nn.Sequential(nn.Linear(1, 1), Lambda(lambda x: states.append(x.requires_grad) or x))
    model.add_module("watch", nn.Dropout(0.999))
    out = []
    model.add_module("keep", Lambda(lambda x: out.append(x) or x))
    model_summary(model, torch.ones(50, 1))
    assert states == [False]
    assert out[0].unique().numel() == 1, "dropout is off"


def test_a_summary_leaves_no_hook_when_the_model_fails():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2), nn.Linear(2, 2))
    with pytest.raises(
        RuntimeError, match=r"cannot take x of shape \(1, 3\) \(after the layer '0'"
    ):
        model_summary(model, torch.zeros(1, 3))
    with pytest.raises(RuntimeError, match=r"cannot take x of shape \(1, 2\) \(at the first layer"):
        model_summary(model, torch.zeros(1, 2))
    assert all(not m._forward_hooks for m in model.modules())
    assert model.training


def test_a_summary_keeps_the_hooks_of_others():
    model, calls = nn.Linear(1, 1), []
    model.register_forward_hook(lambda *_: calls.append(1))
    model_summary(model, torch.zeros(1, 1))
    assert len(model._forward_hooks) == len(calls) == 1


@pytest.mark.parametrize("x", [torch.tensor(1.0), torch.zeros(0, 3)])
def test_a_summary_wants_a_batch(x):
    message = f"x must be a batch of at least one item, but it has shape {tuple(x.shape)}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        model_summary(nn.Linear(3, 1), x)
    with pytest.raises(TypeError, match="^x must be a tensor, but it is a tuple.$"):
        model_summary(nn.Linear(3, 1), (1, 3))


def test_a_summary_prints_as_a_table():
    summary = model_summary(nn.Sequential(nn.Linear(30, 40), nn.ReLU()), torch.zeros(2, 30))
    assert str(summary) == (
        "layer  kind    output shape  parameters  multiply-adds\n"
        "0      Linear  2×40               1,240          1,200\n"
        "1      ReLU    2×40                   0              0\n"
        "total                             1,240          1,200"
    )


def test_a_summary_shows_as_a_table_in_a_notebook():
    page = model_summary(nn.Sequential(nn.Linear(30, 40)), torch.zeros(2, 30))._repr_html_()
    assert page.startswith('<table class="dataframe gb-summary"><thead><tr><th ')
    assert "</tr></thead><tbody><tr>" in page
    assert page.endswith("</td></tr></tbody></table>")
    assert page.count("<tr>") == page.count("</tr>") == 3
    cells = re.findall(r'<(t[dh]) style="text-align:(\w+);padding:0.1em 0.7em">(.*?)</t[dh]>', page)
    assert [tag for tag, _, _ in cells] == ["th"] * 5 + ["td"] * 10
    assert [side for _, side, _ in cells] == ["left", "left", "left", "right", "right"] * 3
    rows = [[text for _, _, text in cells[i : i + 5]] for i in (0, 5, 10)]
    assert rows[0] == ["layer", "kind", "output shape", "parameters", "multiply-adds"]
    assert rows[1] == ["0", "Linear", "2×40", "1,240", "1,200"]
    assert rows[2] == ["total", "", "", "1,240", "1,200"]


def test_names_are_escaped_in_a_notebook():
    model = nn.Sequential()
    model.add_module("<b>", nn.ReLU())
    page = model_summary(model, torch.zeros(1))._repr_html_()
    assert html.escape("<b>") in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    "layer", [nn.Upsample(scale_factor=2), nn.PixelShuffle(2), nn.ZeroPad2d(1), nn.Softmax(1)]
)
def test_what_may_move_or_add_places_has_no_field(layer):
    with pytest.raises(ValueError, match=f"^layers must be .* but one is a {type(layer).__name__}"):
        receptive_field([nn.Conv2d(1, 4, 3), layer])


@pytest.mark.parametrize(
    "layer", [nn.ReLU6(), nn.BatchNorm2d(4), nn.Dropout2d(), nn.Identity(), RunningBatchNorm(4)]
)
def test_what_treats_each_place_by_itself_changes_no_field(layer):
    assert receptive_field([nn.Conv2d(1, 4, 3), layer]) == ((3, 3), (1, 1), (0, 0))
