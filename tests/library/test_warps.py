"""`glassbox.warps`: sampling against PyTorch's, matrices against what they should do to a grid."""

import itertools
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from glassbox.warps import (
    PADDINGS,
    bilinear,
    chain,
    compose,
    dihedral,
    flip,
    perspective,
    places,
    rotation,
    sharpness,
    shift,
    warp,
    zoom,
)

SIDE = st.integers(1, 9)
PADDING = st.sampled_from(PADDINGS)
SEED = st.integers(0, 2**20)
EYE = torch.eye(3)[None]


def rand(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smooth(size, n=1):
    """Pictures of slow waves, which a mean over neighbours changes little."""
    line = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    waves = [0.5 + 0.25 * (2 * x + i).sin() + 0.25 * (1.5 * y - i).cos() for i in range(n)]
    return torch.stack(waves)[:, None]


# One interpolation


@settings(max_examples=60)
@given(SIDE, SIDE, SIDE, SIDE, PADDING, SEED, st.sampled_from([torch.float32, torch.float64]))
def test_bilinear_is_torchs_grid_sample_in_value_and_gradients(h, w, h2, w2, padding, seed, dtype):
    x = rand(2, 3, h, w, seed=seed, dtype=dtype)
    grid = 4 * rand(2, h2, w2, 2, seed=seed + 1, dtype=dtype) - 2
    weights = rand(2, 3, h2, w2, seed=seed + 2, dtype=dtype)
    size = torch.tensor([w, h], dtype=dtype)
    results = []
    for ours in (True, False):
        pictures, g = x.clone().requires_grad_(), grid.clone().requires_grad_()
        if ours:
            out = bilinear(pictures, ((g + 1) * size - 1) / 2, padding)
        else:
            out = F.grid_sample(pictures, g, padding_mode=padding, align_corners=False)
        gradient = torch.autograd.grad((out * weights).sum(), pictures)[0]
        results.append((out.detach(), gradient))
    close = {"rtol": 0, "atol": 1e-10 if dtype == torch.float64 else 5e-5}
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, **close)


@settings(max_examples=40)
@given(st.integers(2, 9), st.integers(2, 9), PADDING, SEED)
def test_an_affine_warp_of_squares_is_torchs_affine_grid(size_in, size, padding, seed):
    x = rand(2, 2, size_in, size_in, seed=seed, dtype=torch.float64)
    m = torch.eye(3, dtype=torch.float64) + 0.4 * (rand(2, 3, 3, seed=seed).double() - 0.5)
    m[:, 2] = torch.tensor([0.0, 0, 1])
    grid = F.affine_grid(m[:, :2], (2, 2, size, size), align_corners=False)
    theirs = F.grid_sample(x, grid, padding_mode=padding, align_corners=False)
    precise = bilinear(x, places(m, (size, size), (size_in, size_in)), padding)
    torch.testing.assert_close(precise, theirs, rtol=0, atol=1e-10)
    torch.testing.assert_close(warp(x, m, size, padding), theirs, rtol=0, atol=1e-10)


def test_the_gradient_of_the_places_passes_the_numerical_check():
    x = rand(1, 2, 4, 5, dtype=torch.float64)
    where = 0.3 + 2.4 * rand(1, 2, 3, 2, seed=1, dtype=torch.float64)
    leaves = [x.requires_grad_(), where.requires_grad_()]
    assert torch.autograd.gradcheck(lambda x, where: bilinear(x, where, "zeros"), leaves)


@given(SIDE, SIDE, PADDING, SEED)
def test_the_identity_is_exact(h, w, padding, seed):
    x = rand(2, 3, h, w, seed=seed)
    assert torch.equal(warp(x, EYE, padding=padding), x)


@given(SIDE, SIDE, PADDING, SEED)
def test_flips_are_exact_and_for_each_picture(h, w, padding, seed):
    x = rand(3, 2, h, w, seed=seed)
    flipped = warp(x, flip([True, False, True]), padding=padding)
    assert torch.equal(flipped[[0, 2]], x[[0, 2]].flip(3))
    assert torch.equal(flipped[1], x[1])


def reference(x, k):
    return torch.rot90(x.flip(3) if k >= 4 else x, k % 4, (2, 3))


@pytest.mark.parametrize("k", range(8))
@pytest.mark.parametrize("padding", PADDINGS)
def test_the_symmetries_of_the_square_are_exact(k, padding):
    for size in (1, 2, 5, 8):
        x = rand(2, 3, size, size)
        assert torch.equal(warp(x, dihedral(k), padding=padding), reference(x, k))


def test_a_quarter_turn_of_a_long_picture_is_exact_when_the_sides_change_places():
    x = rand(1, 2, 3, 7)
    assert torch.equal(warp(x, dihedral(1), (7, 3)), reference(x, 1))


def test_the_eight_symmetries_close_under_composition():
    group = dihedral(range(8))
    assert len({tuple(m.flatten().tolist()) for m in group}) == 8
    for a, b in itertools.product(group, group):
        both = compose(a[None], b[None])[0]
        assert sum(torch.equal(both, m) for m in group) == 1
    for a in group:
        assert sum(torch.equal(a @ b, torch.eye(3)) for b in group) == 1


@pytest.mark.parametrize("turns", [-2, -1, 0, 1, 2, 3, 5])
@pytest.mark.parametrize("padding", PADDINGS)
def test_rotation_by_quarters_is_torchs_rot90(turns, padding):
    x = rand(2, 3, 7, 7)
    turned = warp(x, rotation(90 * turns), padding=padding)
    torch.testing.assert_close(turned, torch.rot90(x, turns, (2, 3)), rtol=0, atol=1e-5)


def test_a_rotation_keeps_distances_in_a_long_picture_too():
    x = torch.zeros(1, 1, 41, 81)
    x[0, 0, 20, 60] = 1  # 20 pixels right of the middle
    turned = warp(x, rotation(90))
    assert turned[0, 0].argmax() == 0 * 81 + 40  # 20 pixels above it


@pytest.mark.parametrize(
    ("matrix", "right", "down"),
    [
        (shift(0.5), 5 + 15, -8),
        (shift(-0.2, 0.4), 5 - 6, -8 + 12),
        (zoom(1.5), 7.5, -12),
        (zoom(0.5), 2.5, -4),
        (rotation(90), -8, -5),
        (compose(zoom(0.5), shift(0.5)), 2.5 + 15, -4),
    ],
)
def test_a_spot_goes_where_the_name_says(matrix, right, down):
    # Places are counted from the middle of 61×61 pixels; half of the side are 30.5.
    line = torch.arange(-30.0, 31)
    spot = torch.exp(-((line[:, None] + 8) ** 2 + (line[None, :] - 5) ** 2) / 8)
    moved = warp(spot[None, None], matrix, padding="zeros")[0, 0]
    middle = torch.stack([(moved.sum(0) * line).sum(), (moved.sum(1) * line).sum()]) / moved.sum()
    torch.testing.assert_close(middle, torch.tensor([float(right), float(down)]), rtol=0, atol=0.3)


def test_perspective_brings_the_named_side_nearer_and_keeps_lines_straight():
    m = perspective(0.4, 0.0)
    ends = torch.tensor([[1.0, 0, 1], [-1.0, 0, 1]])
    looks = (m[0] @ ends.T).T
    right, left = looks[:, 0] / looks[:, 2]
    assert 0 < right < 1, "the right side shows less of the picture, and shows it larger"
    assert left < -1
    line = torch.stack([torch.linspace(-1, 1, 9), 0.3 + 0.2 * torch.linspace(-1, 1, 9)], 1)
    seen = torch.cat([line, torch.ones(9, 1)], 1) @ perspective(0.3, -0.2)[0].T
    seen = seen[:, :2] / seen[:, 2:]
    steps = seen[1:] - seen[0]
    cross = steps[:, 0] * steps[-1, 1] - steps[:, 1] * steps[-1, 0]
    torch.testing.assert_close(cross, torch.zeros(8), rtol=0, atol=1e-5)


ANGLE, FACTOR, TILT = st.floats(-180, 180), st.floats(0.5, 2), st.floats(-0.4, 0.4)


@given(ANGLE, FACTOR, TILT, TILT)
def test_the_opposite_matrix_takes_back(angle, factor, right, down):
    for there, back in (
        (rotation(angle), rotation(-angle)),
        (zoom(factor), zoom(1 / factor)),
        (shift(right, down), shift(-right, -down)),
        (perspective(right, down), perspective(-right, -down)),
        (flip(), flip()),
    ):
        torch.testing.assert_close(compose(there, back), EYE, rtol=0, atol=1e-5)


@settings(max_examples=25)
@given(st.floats(-25, 25), st.floats(1, 1.3), st.floats(-0.15, 0.15), st.floats(-0.15, 0.15))
def test_one_interpolation_of_the_product_is_the_chain_on_smooth_pictures(angle, factor, t, tilt):
    steps = [rotation(angle), zoom(factor), shift(t, -t), perspective(tilt, t)]
    x = smooth(96, n=2)
    at_once, in_turn = warp(x, compose(*steps)), chain(x, steps)
    # Away from the edge: there a chain sees the padding of each step.
    inner = (..., slice(36, 60), slice(36, 60))
    torch.testing.assert_close(at_once[inner], in_turn[inner], rtol=0, atol=3e-3)


def test_one_interpolation_and_the_chain_come_closer_as_pixels_become_smaller():
    steps = [rotation(20.0), zoom(1.2), perspective(0.1, 0.05)]
    gaps = []
    for size in (16, 32, 64, 128):
        x, inner = smooth(size), slice(3 * size // 8, 5 * size // 8)
        gap = warp(x, compose(*steps)) - chain(x, steps)
        gaps.append(gap[..., inner, inner].abs().max().item())
    assert all(fine < coarse / 2 for coarse, fine in itertools.pairwise(gaps))


def test_the_order_of_composition_is_the_order_of_the_chain():
    x = smooth(64)
    turn_then_move = warp(x, compose(rotation(90.0), shift(0.25)))
    torch.testing.assert_close(turn_then_move, chain(x, [rotation(90.0), shift(0.25)]))
    assert (turn_then_move - chain(x, [shift(0.25), rotation(90.0)])).abs().max() > 0.05


def test_matrices_are_for_each_picture_or_one_for_all():
    x = rand(3, 1, 6, 6)
    each = warp(x, rotation([0.0, 30, 60]))
    for i, angle in enumerate((0.0, 30, 60)):
        torch.testing.assert_close(each[i : i + 1], warp(x[i : i + 1], rotation(angle)))
    mixed = compose(rotation(30.0), shift([0.0, 0.1, 0.2]))
    assert mixed.shape == (3, 3, 3)
    torch.testing.assert_close(mixed[:1], compose(rotation(30.0), shift(0.0)))


def test_paddings_show_black_or_the_edge_or_a_mirror():
    x = torch.tensor([1.0, 2, 3, 4]).expand(4, 4)[None, None]
    right = shift(1.0)  # by half of the picture: two pixels
    rows = {p: warp(x, right, padding=p)[0, 0, 0].tolist() for p in PADDINGS}
    assert rows == {"zeros": [0, 0, 1, 2], "border": [1, 1, 1, 2], "reflection": [2, 1, 1, 2]}


def test_a_square_of_a_long_picture_is_its_middle():
    x = rand(1, 2, 4, 10)
    assert torch.equal(warp(x, EYE, 4), x[..., 3:7])
    assert torch.equal(warp(x.mT, EYE, 4), x.mT[..., 3:7, :])


def test_halving_is_the_mean_over_blocks():
    x = rand(1, 2, 8, 12)
    torch.testing.assert_close(warp(x, EYE, (4, 6)), F.avg_pool2d(x, 2))


def test_what_is_behind_the_camera_is_outside():
    behind = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [2, 0, 1]]])
    seen = warp(torch.ones(1, 1, 9, 9), behind, padding="zeros")
    assert seen.isfinite().all()
    assert seen[0, 0, 4, 0] == 0


def test_half_precision_looks_in_the_right_places():
    x = rand(1, 1, 300, 300)
    assert torch.equal(warp(x.half(), dihedral(3)), reference(x.half(), 3))


def test_warp_leaves_its_input_alone_and_takes_no_pictures_too():
    x = rand(2, 1, 5, 5)
    kept = x.clone()
    warp(x, rotation(20.0))
    assert torch.equal(x, kept)
    assert warp(x[:0], rotation(20.0)).shape == (0, 1, 5, 5)


@given(st.floats(5, 85))
def test_every_interpolation_costs_sharpness(angle):
    x = rand(1, 3, 24, 24)
    once = warp(x, rotation(angle))
    twice = chain(x, [rotation(angle), rotation(-angle)])
    assert sharpness(x) > sharpness(once)
    assert sharpness(x) > sharpness(twice)


def test_sharpness_is_the_mean_squared_step():
    x = torch.tensor([[0.0, 1.0], [0.0, 1.0]])[None, None]
    assert sharpness(x).tolist() == [1.0]
    assert sharpness(torch.ones(2, 3, 4, 4)).tolist() == [0, 0]


X = torch.zeros(2, 1, 4, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: warp(X[0], EYE),
            "x must be pictures of shape (n, channels, height, width), floating point, but it has "
            "shape (1, 4, 4) and type torch.float32; for one picture, write x[None].",
        ),
        (
            lambda: warp(X.long(), EYE),
            "x must be pictures of shape (n, channels, height, width), floating point, but it has "
            "shape (2, 1, 4, 4) and type torch.int64; for one picture, write x[None].",
        ),
        (
            lambda: warp(X, torch.eye(3).expand(3, 3, 3)),
            "matrices must have shape (2, 3, 3), one for each picture, or (1, 3, 3), but they have "
            "shape (3, 3, 3).",
        ),
        (
            lambda: compose(torch.eye(3)),
            "matrices must have shape (3, 3, 3), one for each picture, or (1, 3, 3), but they have "
            "shape (3, 3).",
        ),
        (
            lambda: warp(X, EYE, padding="mirror"),
            "padding must be one of zeros, border, reflection, but it is 'mirror'.",
        ),
        (
            lambda: warp(X, EYE, 0),
            "size must be a whole number of at least 1, or a pair of them, but it is 0.",
        ),
        (lambda: compose(), "matrices must be at least one, but none was given."),
        (lambda: zoom([1.0, 0.0]), "factor must be more than 0, but one is 0."),
        (
            lambda: rotation([[1.0]]),
            "degrees must be a number or a row of numbers, but it has shape (1, 1).",
        ),
        (lambda: rotation(float("nan")), "degrees must be finite, but it is nan."),
        (
            lambda: perspective(0.5, -0.5),
            "right and down must have sizes that add up to less than 1, but they reach 1.",
        ),
        (
            lambda: dihedral(8),
            "which must be a whole number from 0 to 7, or a row of them, but it is 8.",
        ),
        (
            lambda: dihedral([0.5]),
            "which must be a whole number from 0 to 7, or a row of them, but it is [0.5].",
        ),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()
