"""`glassbox.augment`: light by its formulas, random changes within their limits, presizing."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from glassbox.augment import Augment, Presize, brightness, contrast
from glassbox.callbacks import BatchTransform
from glassbox.data import DataLoaders
from glassbox.learner import Learner
from glassbox.warps import chain, compose, sharpness, warp

CHANGE = st.floats(-3, 3)
SEED = st.integers(0, 2**20)


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def seeded(seed=0, **options):
    return Augment(generator=torch.Generator().manual_seed(seed), **options)


# Light


@given(CHANGE, SEED)
def test_brightness_adds_to_the_logit(change, seed):
    x = rand(2, 3, 4, 5, seed=seed).clamp(1e-3, 1 - 1e-3)
    expected = torch.sigmoid(torch.logit(x) + change)
    torch.testing.assert_close(brightness(x, change), expected, rtol=1e-4, atol=1e-5)


@given(st.floats(0.1, 4), SEED)
def test_contrast_multiplies_the_logit(factor, seed):
    x = rand(2, 3, 4, 5, seed=seed).clamp(1e-3, 1 - 1e-3)
    expected = torch.sigmoid(torch.logit(x) * factor)
    torch.testing.assert_close(contrast(x, factor), expected, rtol=1e-4, atol=1e-5)


@given(SEED)
def test_no_change_of_light_is_exact(seed):
    x = rand(2, 1, 8, 8, seed=seed)
    assert torch.equal(brightness(x, 0.0), x)
    assert torch.equal(contrast(x, 1.0), x)


@given(CHANGE, st.floats(0.3, 3))
def test_light_keeps_black_white_and_order_and_can_be_taken_back(change, factor):
    x = torch.linspace(0, 1, 11).view(1, 1, 1, 11)
    for there, back in (
        (brightness(x, change), lambda y: brightness(y, -change)),
        (contrast(x, factor), lambda y: contrast(y, 1 / factor)),
    ):
        assert there[..., 0] == 0
        assert there[..., -1] == 1
        assert bool((there.diff() > 0).all())
        torch.testing.assert_close(back(there), x, rtol=0, atol=1e-3)


def test_light_is_changed_for_each_picture():
    x = rand(2, 1, 3, 3)
    lit = brightness(x, torch.tensor([0.0, 1.0]))
    assert torch.equal(lit[0], x[0])
    torch.testing.assert_close(lit[1:], brightness(x[1:], 1.0))
    assert bool((lit[1] > x[1]).all())
    assert torch.equal(contrast(x, torch.tensor([1.0, 2.0]))[0], x[0])


# Random changes

EVERYTHING = {
    "dihedral": True,
    "max_rotate": 20,
    "zoom": (0.9, 1.3),
    "max_shift": 0.1,
    "max_warp": 0.2,
    "max_brightness": 0.5,
    "max_contrast": 0.5,
}


def test_without_options_nothing_is_changed():
    x = rand(4, 3, 9, 7)
    assert torch.equal(Augment()(x), x)
    assert Augment().matrices(4) == []


def test_at_probability_0_nothing_is_changed():
    x = rand(4, 3, 9, 9)
    options = {k: v for k, v in EVERYTHING.items() if k != "dihedral"}
    assert torch.equal(Augment(p=0, **options)(x), x)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_everything_at_once_keeps_shape_and_range(padding):
    x = rand(16, 3, 12, 12)
    kept = x.clone()
    y = seeded(padding=padding, **EVERYTHING)(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert 0 <= y.min() <= y.max() <= 1
    assert torch.equal(x, kept)
    assert len({tuple(picture.flatten().tolist()) for picture in y}) == 16


def test_the_same_generator_draws_the_same_pictures_and_the_next_batch_others():
    x = rand(4, 1, 8, 8)
    first, again = seeded(3, **EVERYTHING), seeded(3, **EVERYTHING)
    drawn = first(x)
    assert torch.equal(drawn, again(x))
    assert not torch.equal(drawn, first(x))


def test_geometry_is_one_interpolation_of_the_product_of_the_drawn_matrices():
    options = {k: v for k, v in EVERYTHING.items() if not k.startswith(("max_b", "max_c"))}
    x = rand(5, 2, 16, 16)
    drawn = seeded(1, **options).matrices(5)
    assert [m.shape for m in drawn] == [(5, 3, 3)] * 5
    at_once = seeded(1, **options)(x)
    torch.testing.assert_close(at_once, warp(x, compose(*drawn)))
    assert bool((sharpness(at_once) > sharpness(chain(x, drawn))).all())


def test_each_change_stays_within_its_limit_and_uses_the_whole_range():
    n = 4000
    (turned,) = seeded(max_rotate=30).matrices(n)
    degrees = torch.rad2deg(torch.atan2(turned[:, 1, 0], turned[:, 0, 0]))
    (enlarged,) = seeded(zoom=(0.5, 2)).matrices(n)
    (moved,) = seeded(max_shift=0.3).matrices(n)
    (tilted,) = seeded(max_warp=0.25).matrices(n)
    for values, low, high in (
        (degrees, -30, 30),
        (-enlarged[:, 0, 0].log2(), -1, 1),
        (moved[:, 0, 2], -0.3, 0.3),
        (moved[:, 1, 2], -0.3, 0.3),
        (tilted[:, 2, 0], -0.25, 0.25),
        (tilted[:, 2, 1], -0.25, 0.25),
    ):
        span = high - low
        assert low - 1e-4 <= values.min() < low + 0.01 * span
        assert high - 0.01 * span < values.max() <= high + 1e-4
        assert abs(values.mean() - (low + high) / 2) < 0.03 * span


def test_shifts_and_tilts_along_the_two_axes_are_drawn_apart():
    (moved,) = seeded(max_shift=0.3).matrices(2000)
    (tilted,) = seeded(max_warp=0.3).matrices(2000)
    for a, b in (moved[:, :2, 2].T, tilted[:, 2, :2].T):
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.1


def test_changes_are_made_in_their_order_the_tilt_last():
    options = {k: v for k, v in EVERYTHING.items() if not k.startswith(("max_b", "max_c"))}
    symmetry, turned, enlarged, moved, tilted = seeded(**options).matrices(8)
    assert bool((symmetry.abs().sum((1, 2)) == 3).all())
    torch.testing.assert_close(turned.det(), torch.ones(8))
    assert bool((turned[:, 0, 1] != 0).all())
    assert torch.equal(enlarged[:, 0, 0], enlarged[:, 1, 1])
    assert torch.equal(moved[:, :2, :2], torch.eye(2).expand(8, 2, 2))
    assert bool((moved[:, :2, 2] != 0).all())
    assert bool((tilted[:, 2, :2] != 0).all())


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_what_lies_outside_is_what_was_asked_for(padding):
    x = rand(3, 1, 12, 12)
    options = {"max_shift": 0.8, "zoom": (0.5, 0.5), "padding": padding}
    expected = warp(x, compose(*seeded(4, **options).matrices(3)), padding=padding)
    torch.testing.assert_close(seeded(4, **options)(x), expected)
    others = {"zeros", "border", "reflection"} - {padding}
    for other in others:
        again = seeded(4, **{**options, "padding": other})(x)
        assert (again - expected).abs().max() > 0.1


def test_probabilities_are_kept():
    n = 4000
    (flipped,) = seeded(flip=0.3).matrices(n)
    assert abs((flipped[:, 0, 0] < 0).float().mean() - 0.3) < 0.03
    (turned,) = seeded(max_rotate=30, p=0.25).matrices(n)
    assert abs((turned[:, 1, 0] != 0).float().mean() - 0.25) < 0.03
    (drawn,) = seeded(dihedral=True, flip=1.0).matrices(n)
    counts = torch.unique(drawn.flatten(1), dim=0, return_counts=True)[1]
    assert len(counts) == 8
    assert (counts / n - 1 / 8).abs().max() < 0.03


def test_light_is_drawn_for_each_picture_within_its_limits():
    x = torch.full((3000, 1, 1, 1), 0.7)
    logit = math.log(0.7 / 0.3)
    added = torch.logit(seeded(max_brightness=0.8)(x)).flatten() - logit
    assert -0.801 < added.min() < -0.78
    assert 0.78 < added.max() < 0.801
    factor = (torch.logit(seeded(max_contrast=0.5)(x)).flatten() / logit).log()
    assert -0.501 < factor.min() < -0.48
    assert 0.48 < factor.max() < 0.501


def test_brightness_comes_before_contrast():
    x = torch.full((2000, 1, 1, 1), 0.5)
    logit = torch.logit(seeded(max_brightness=1.0, max_contrast=0.7)(x)).flatten()
    # From a middle grey, contrast alone does nothing: it enlarges what brightness has added.
    assert logit.abs().max() > 1.5


def test_a_size_is_reached_in_the_same_interpolation():
    x = rand(3, 2, 32, 32)
    drawn = seeded(2, max_rotate=20).matrices(3)
    shrunk = seeded(2, max_rotate=20, size=16)(x)
    torch.testing.assert_close(shrunk, warp(x, compose(*drawn), 16))
    assert Augment(size=(8, 12))(x).shape == (3, 2, 8, 12)
    assert Augment(size=32)(x) is x


def test_shrinking_and_turning_at_once_is_sharper_than_one_after_the_other():
    x = rand(4, 1, 64, 64)
    drawn = compose(*seeded(max_rotate=30, zoom=(1, 1.2)).matrices(4))
    at_once, in_turn = warp(x, drawn, 32), warp(warp(x, drawn), torch.eye(3)[None], 32)
    assert bool((sharpness(at_once) > sharpness(in_turn)).all())


def test_a_learner_augments_its_training_batches_only():
    seen = {True: [], False: []}

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(16, 2)

        def forward(self, x):
            seen[self.training].append(x.detach().cpu())
            return self.linear(x.flatten(1))

    x, y = rand(8, 1, 4, 4), torch.zeros(8, dtype=torch.int64)
    dls = DataLoaders.from_tensors((x, y), (x, y), batch_size=8)
    augment = BatchTransform(seeded(max_rotate=45), train_only=True)
    Learner(Watched(), dls, nn.CrossEntropyLoss(), callbacks=[augment]).fit(1)
    assert torch.equal(seen[False][0], x)
    gaps = (seen[True][0][:, None] - x[None]).abs().amax((2, 3, 4))
    assert gaps.min() > 1e-3, "no training picture is left as it was"


# Presizing


@pytest.mark.parametrize("shape", [(3, 60, 90), (3, 90, 60), (1, 31, 200), (3, 20, 20), (1, 7, 9)])
def test_presize_makes_squares_of_any_picture(shape):
    square = Presize(30)(rand(*shape))
    assert square.shape == (shape[0], 30, 30)
    assert 0 <= square.min() <= square.max() <= 1


def test_presize_without_a_generator_takes_the_middle():
    image = rand(3, 20, 50)
    assert torch.equal(Presize(20)(image), image[..., 15:35])
    assert torch.equal(Presize(20)(image.mT), image.mT[:, 15:35])


def test_presize_with_a_generator_takes_places_along_the_whole_longer_side():
    column = torch.arange(50.0).expand(1, 20, 50)
    crop = Presize(20, torch.Generator().manual_seed(0))
    starts = torch.tensor([crop(column)[0, 0, 0].item() for _ in range(200)])
    assert 0 <= starts.min() < 2
    assert 28 < starts.max() <= 30
    tall = Presize(20, torch.Generator().manual_seed(0))(column.mT)
    assert tall[0, -1, 0] - tall[0, 0, 0] == pytest.approx(19, abs=1e-3)


def test_presize_of_a_much_larger_picture_averages_instead_of_skipping():
    image = rand(1, 80, 80)
    torch.testing.assert_close(Presize(10)(image), F.avg_pool2d(image, 8))


def test_presize_says_what_it_does():
    assert str(Presize(96)) == "Presize to 96×96, from the middle"
    assert str(Presize(96, torch.Generator())) == "Presize to 96×96, at a random place"


# Bad input

X = torch.zeros(2, 1, 4, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Augment(flip=1.5), "flip must be from 0 to 1, but it is 1.5."),
        (lambda: Augment(p=-0.1), "p must be from 0 to 1, but it is -0.1."),
        (lambda: Augment(max_rotate=181), "max_rotate must be from 0 to 180, but it is 181."),
        (
            lambda: Augment(max_warp=0.5),
            "max_warp must be at least 0 and less than 0.5, but it is 0.5.",
        ),
        (lambda: Augment(max_shift=-1), "max_shift must be at least 0 and finite, but it is -1."),
        (
            lambda: Augment(max_brightness=math.inf),
            "max_brightness must be at least 0 and finite, but it is inf.",
        ),
        (
            lambda: Augment(max_contrast=math.nan),
            "max_contrast must be at least 0 and finite, but it is nan.",
        ),
        (
            lambda: Augment(zoom=(1.2, 1)),
            "zoom must be two factors above 0, the smaller one first, but it is (1.2, 1).",
        ),
        (
            lambda: Augment(zoom=(0, 1)),
            "zoom must be two factors above 0, the smaller one first, but it is (0, 1).",
        ),
        (
            lambda: Augment(padding="black"),
            "padding must be one of zeros, border, reflection, but it is 'black'.",
        ),
        (
            lambda: Augment(size=0),
            "size must be a whole number of at least 1, or a pair of them, but it is 0.",
        ),
        (
            lambda: Augment(max_brightness=0.1)(X - 1),
            "x must lie between 0 and 1, but it goes from -1 to -1: change the light before you "
            "normalise.",
        ),
        (
            lambda: brightness(X + 2, 0.1),
            "x must lie between 0 and 1, but it goes from 2 to 2: change the light before you "
            "normalise.",
        ),
        (
            lambda: brightness(X, torch.zeros(3)),
            "change must be a number, or 2 of them, one for each picture, but it has shape (3,).",
        ),
        (
            lambda: Augment(max_rotate=5)(X[0]),
            "x must be pictures of shape (n, channels, height, width), floating point, but it has "
            "shape (1, 4, 4) and type torch.float32; for one picture, write x[None].",
        ),
        (lambda: contrast(X, 0.0), "factor must be more than 0, but one is 0."),
        (lambda: Presize(0), "size must be a whole number of at least 1, but it is 0."),
        (
            lambda: Presize(4)(X),
            "image must have shape (channels, height, width), floating point, but it has shape "
            "(2, 1, 4, 4) and type torch.float32.",
        ),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


@settings(max_examples=20)
@given(SEED)
def test_what_is_drawn_does_not_depend_on_what_the_pictures_show(seed):
    first, second = seeded(seed, **EVERYTHING), seeded(seed, **EVERYTHING)
    first(rand(3, 1, 5, 5))
    second(rand(3, 1, 9, 9, seed=1))
    assert torch.equal(torch.stack(first.matrices(2)), torch.stack(second.matrices(2)))
