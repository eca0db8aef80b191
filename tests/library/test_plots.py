"""`glassbox.plots`: figures for light and dark pages, and animations that need no network."""

import base64
import io
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib import animation
from matplotlib.colors import to_rgb

from glassbox.plots import COLORS, show_animation, show_images, use_style

WHITE, NEAR_BLACK = "#ffffff", "#14181e"


@pytest.fixture(autouse=True)
def _style():
    with mpl.rc_context():
        use_style()
        yield
    plt.close("all")


def contrast(first, second):
    """The contrast ratio of WCAG 2, from 1 to 21."""

    def luminance(color):
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("background", [WHITE, NEAR_BLACK])
def test_colours_and_ink_are_legible_on_light_and_dark(background):
    for color in COLORS:
        assert contrast(color, background) >= 3, color
    assert contrast(mpl.rcParams["text.color"], background) >= 4


def test_lines_differ_without_colour():
    _, ax = plt.subplots()
    lines = [ax.plot([0, 1])[0] for _ in COLORS]
    assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in lines}) == len(
        COLORS
    )


def test_figures_have_no_background():
    assert plt.figure().get_facecolor()[3] == 0


def test_a_layer_over_a_picture_stays_a_layer_in_vector_graphics():
    _, ax = plt.subplots()
    ax.imshow(torch.ones(2, 2).numpy(), vmin=0)
    ax.imshow(torch.zeros(2, 2).numpy(), alpha=0.6)
    file = io.StringIO()
    plt.savefig(file, format="svg")
    images = re.findall(r'base64,([^"]+)"', file.getvalue())
    pixels = [plt.imread(io.BytesIO(base64.b64decode(image)))[5, 5] for image in images]
    assert [pixel.tolist() for pixel in pixels] == [[1, 1, 1, 1], [0, 0, 0, pytest.approx(0.6)]]


def test_images_in_a_grid():
    figure = show_images(torch.rand(5, 1, 4, 6), titles=range(5), ncols=3)
    assert len(figure.axes) == 6
    shown = [ax.images[0].get_array().shape for ax in figure.axes if ax.images]
    assert shown == [(4, 6)] * 5
    assert [ax.get_title() for ax in figure.axes] == ["0", "1", "2", "3", "4", ""]
    colour = show_images(torch.rand(2, 3, 4, 6))
    assert colour.axes[0].images[0].get_array().shape == (4, 6, 3)
    grey = torch.tensor([[0.0, 0.5]])
    ax = show_images([grey], vmin=0, vmax=1).axes[0]
    assert ax.images[0].get_clim() == (0, 1)


@pytest.mark.parametrize(
    ("images", "titles", "words"),
    [
        (torch.rand(0, 4, 4), None, "at least one image"),
        (torch.rand(2, 4, 4), ["a"], "titles must be 2, one an image, but they are 1"),
        (torch.rand(2, 2, 4, 4), None, r"one has \(2, 4, 4\)"),
        (torch.rand(4), None, r"one has \(\)"),
    ],
)
def test_bad_images(images, titles, words):
    with pytest.raises(ValueError, match=words):
        show_images(images, titles)


def test_an_animation_needs_nobody_else():
    figure, ax = plt.subplots(figsize=(1, 1))
    (line,) = ax.plot([0, 1])
    movie = animation.FuncAnimation(figure, lambda i: line.set_ydata([0, i]), frames=3)
    page = show_animation(movie, alt='A "line" that rises').data
    assert not re.search(r"(src|href)\s*=\s*[\"'](https?:)?//", page)
    assert "<link" not in page
    assert "fa-play" not in page
    assert 'alt="A &quot;line&quot; that rises"' in page
    assert page.count("data:image/png;base64") == 3
    assert not plt.fignum_exists(figure.number)
    with pytest.raises(ValueError, match="alt must say"):
        show_animation(movie, alt=" ")
