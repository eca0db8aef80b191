"""`glassbox.heatmaps`: their size against torch's, the two ways to measure one, and the figure."""

import math

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from glassbox.heatmaps import energy_inside, pointing_game, show_heatmaps, upsample

# Bringing a map to the size of the picture


@given(
    cells=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    factor=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_upsampling_is_torchs_bilinear_interpolation(cells, factor, dtype):
    size = tuple(c * f for c, f in zip(cells, factor, strict=True))
    heat = torch.randn(2, *cells, generator=torch.Generator().manual_seed(sum(size))).to(dtype)
    expected = F.interpolate(heat[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    assert torch.allclose(upsample(heat, size), expected, atol=1e-5)
    assert upsample(heat, size).dtype == dtype


def test_upsampling_puts_the_first_cell_where_it_looks():
    heat = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    assert upsample(heat, 4, first=0).tolist() == [
        [[0.0, 0.5, 1.0, 1.0], [1.0, 1.5, 2.0, 2.0], [2.0, 2.5, 3.0, 3.0], [2.0, 2.5, 3.0, 3.0]]
    ]
    assert upsample(heat, 1).shape == (1, 1, 1)


def test_upsampling_refuses_what_it_cannot_do():
    sentence = r"^heatmaps must have shape \(n, height, width\), but has \(2, 2\).$"
    with pytest.raises(ValueError, match=sentence):
        upsample(torch.zeros(2, 2), 4)
    with pytest.raises(
        ValueError, match=r"^size must be a whole .* pair of them, but it is \(4, 0\)."
    ):
        upsample(torch.zeros(1, 2, 2), (4, 0))


# Measuring

BOX = torch.tensor([[1, 2, 3, 5]])  # rows 1 and 2, columns 2 to 4


def peak_at(row, column, value=1.0):
    heat = torch.full((1, 6, 8), -0.5)
    heat[0, row, column] = value
    return heat


@pytest.mark.parametrize(
    ("row", "column", "hit"),
    [
        *((1, 2, 1), (2, 4, 1), (1, 4, 1), (2, 2, 1)),
        *((0, 2, 0), (3, 2, 0), (1, 1, 0), (1, 5, 0), (4, 1, 0), (3, 1, 0)),
    ],
)
@pytest.mark.parametrize("value", [1.0, -0.25])
def test_the_pointing_game_asks_for_the_hottest_pixel(row, column, hit, value):
    assert pointing_game(peak_at(row, column, value), BOX).tolist() == [hit]


@given(st.integers(0, 3), st.integers(0, 3), st.integers(1, 4), st.integers(1, 4))
def test_a_constant_map_scores_the_boxs_share_of_the_picture(top, left, height, width):
    box = torch.tensor([[top, left, top + height, left + width]])
    for value in (0.0, 1.0, -2.0):
        heat = torch.full((1, 7, 9), value, dtype=torch.float64)
        assert math.isclose(pointing_game(heat, box).item(), height * width / 63)
        assert math.isclose(energy_inside(heat, box).item(), height * width / 63)


def test_equal_peaks_share_the_point():
    heat = peak_at(1, 2)
    heat[0, 5, 5] = heat[0, 0, 0] = heat[0, 2, 2] = 1.0
    assert pointing_game(heat, BOX).tolist() == [0.5]


def test_the_energy_inside_is_a_share_of_what_is_above_zero():
    heat = peak_at(1, 2, 3.0)
    heat[0, 4, 4] = 1.0
    assert energy_inside(heat, BOX).tolist() == [0.75]
    assert energy_inside(10 * heat, BOX).tolist() == [0.75]


def test_each_picture_has_its_own_box():
    heat = torch.cat([peak_at(1, 2), peak_at(1, 2), peak_at(5, 7)])
    boxes = torch.tensor([[1, 2, 2, 3], [2, 1, 3, 2], [5, 7, 6, 8]])
    assert pointing_game(heat, boxes).tolist() == [1, 0, 1]
    assert energy_inside(heat, boxes).tolist() == [1, 0, 1]


@pytest.mark.parametrize("measure", [pointing_game, energy_inside])
def test_the_measures_refuse_what_they_cannot_do(measure):
    with pytest.raises(
        ValueError, match=r"^heatmaps must have shape \(n, height, width\), but has"
    ):
        measure(torch.zeros(6, 8), BOX)
    with pytest.raises(
        ValueError,
        match=r"^boxes must have shape \(2, 4\), one for each heatmap, but has \(1, 4\).$",
    ):
        measure(torch.zeros(2, 6, 8), BOX)
    sentence = r"^boxes must be \(top, left, bottom, right\) within 6 × 8 pixels, as large as the "
    for box in (
        [-1, 0, 2, 2],
        [2, 0, 2, 2],
        [0, 0, 7, 2],
        [0, -1, 2, 2],
        [0, 2, 2, 2],
        [0, 0, 2, 9],
    ):
        with pytest.raises(ValueError, match=sentence) as caught:
            measure(torch.zeros(1, 6, 8), torch.tensor([box]))
        assert "heatmaps (upsample them first), but one is empty or reaches" in str(caught.value)
    assert measure(torch.ones(1, 6, 8), torch.tensor([[0, 0, 6, 8]])).tolist() == [1]


# Figures


def test_the_figure_lays_each_map_over_its_picture():
    images, heat = torch.rand(2, 3, 8, 12), torch.rand(2, 2, 3)
    boxes = torch.tensor([[1, 2, 4, 6], [0, 0, 8, 12]])
    figure = show_heatmaps(images, heat, ["a", "b"], boxes=boxes, alpha=0.3, ncols=1, size=2.0)
    assert [ax.get_title() for ax in figure.axes[:2]] == ["a", "b"]
    assert figure.get_size_inches()[0] == 2.0
    for i, ax in enumerate(figure.axes[:2]):
        picture, layer = ax.images
        large = upsample(heat[i : i + 1], (8, 12))[0]
        assert torch.equal(torch.tensor(picture.get_array().data), images[i].permute(1, 2, 0))
        assert torch.allclose(torch.tensor(layer.get_array().data), large)
        assert (layer.get_alpha(), layer.get_cmap().name) == (0.3, "magma")
        assert layer.get_clim() == pytest.approx((large.min().item(), large.max().item()))
    (outline,) = figure.axes[0].patches
    assert (outline.get_xy(), outline.get_width(), outline.get_height()) == ((1.5, 0.5), 4, 3)
    assert not outline.get_fill()
    assert outline.get_edgecolor() == (1, 1, 1, 1)
    (outline,) = figure.axes[1].patches
    assert (outline.get_xy(), outline.get_width(), outline.get_height()) == ((-0.5, -0.5), 12, 8)
    plt.close("all")


def test_the_figure_without_titles_and_boxes():
    figure = show_heatmaps(torch.ones(7, 1, 8, 8), torch.zeros(7, 2, 2).requires_grad_())
    assert figure.axes[0].patches[:] == []
    picture, layer = figure.axes[0].images
    assert picture.get_array().shape == (8, 8, 3), "grey of full range, not stretched"
    assert layer.get_alpha() == 0.6
    black = plt.get_cmap("magma")(0.0)  # a map that is the same everywhere is cold
    assert tuple(layer.cmap(layer.norm(layer.get_array().data[3, 3]))) == black
    assert math.isclose(figure.get_size_inches()[0], 4.4)
    plt.close("all")


def test_the_figure_refuses_numbers_that_differ():
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(ValueError, match="^heatmaps must be 2, one for each picture, but are 3.$"):
        show_heatmaps(images, torch.rand(3, 8, 8))
    with pytest.raises(ValueError, match="^boxes must be 2, one for each picture, but are 1.$"):
        show_heatmaps(images, torch.rand(2, 8, 8), boxes=BOX)
    with pytest.raises(ValueError, match=r"^heatmaps must have shape \(n, height, width\)"):
        show_heatmaps(images, torch.rand(2, 1, 8, 8))


@pytest.mark.parametrize("size", ["3", (1, 2, 3), (), None])
def test_a_size_is_one_number_or_two(size):
    with pytest.raises(ValueError, match="^size must be a whole number of at least 1, or a pair"):
        upsample(torch.zeros(1, 2, 2), size)


@pytest.mark.parametrize("score", [pointing_game, energy_inside])
def test_a_map_with_nan_scores_nan(score):
    heat = torch.ones(2, 4, 4)
    heat[0, 1, 1] = float("nan")
    result = score(heat, torch.tensor([[0, 0, 2, 4]] * 2))
    assert result.isnan().tolist() == [True, False]


@pytest.mark.parametrize("boxes", [torch.tensor([[0.0, 0.0, 2.0, 2.0]]), [[0, 0, 2, 2]], None])
@pytest.mark.parametrize("score", [pointing_game, energy_inside])
def test_boxes_hold_whole_numbers(score, boxes):
    with pytest.raises(TypeError, match="^boxes must be a tensor of whole numbers, but it is"):
        score(torch.ones(1, 4, 4), boxes)


def test_pictures_are_drawn_in_at_least_one_column():
    with pytest.raises(
        ValueError, match="^ncols must be a whole number of at least 1, but it is 0"
    ):
        show_heatmaps(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 2), ncols=0)
