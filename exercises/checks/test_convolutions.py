"""Checks of the exercises on convolutions."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from lectern import expect

exercise = pytest.mark.exercise


def edges(angle, divisor=3):
    c, s = math.cos(angle), math.sin(angle)
    numbers = [[(c * -i + s * -j) / divisor for j in (-1, 0, 1)] for i in (-1, 0, 1)]
    return torch.tensor(numbers, dtype=torch.float64).round(decimals=6)


NOT_EDGES = {
    "Divide: a column of three ones answers 3 to the step from 1 to 0.": lambda a: edges(a, 1),
    "Only three of the nine products are not 0 at the step: dividing by nine is too much.": (
        lambda a: edges(a, 9)
    ),
    "The two kernels are exchanged: at angle 0 only the one for top edges counts.": (
        lambda a: edges(math.pi / 2 - a)
    ),
    "An angle in between needs a mixture of both kernels, not the nearer one.": (
        lambda a: edges(round(a / (math.pi / 2)) * math.pi / 2)
    ),
    "That is the kernel for right edges in place of left ones: bright must be on the left.": (
        lambda a: edges(-a)
    ),
}


@exercise("edge_kernel", points=0.5)
@pytest.mark.parametrize("quarter", [0, 1], ids=["top", "left"])
def test_top_and_left_edges(student, quarter):
    expect.agrees(
        student, "edge_kernel", quarter * math.pi / 2, right=edges, wrong=NOT_EDGES
    )  # fmt: skip


@exercise("edge_kernel", points=1)
def test_an_angle_in_between(student, rng):
    angle = round(rng.uniform(0.2, 0.6, 1).item(), 2)
    expect.agrees(student, "edge_kernel", angle, right=edges, wrong=NOT_EDGES)


def batch_of(picture, mean, std):
    return ((picture / 255 - mean) / std).permute(2, 0, 1)[None]


def viewed(picture, mean, std):
    x = picture.reshape(3, *picture.shape[:2]) / 255
    return ((x - mean.view(3, 1, 1)) / std.view(3, 1, 1))[None]


NOT_BATCH = {
    "The picture is scrambled: after view, colours have become rows and columns.": viewed,
    "mean and std are those of pixels from 0 to 1: divide by 255 before you subtract.": (
        lambda p, m, s: batch_of(p * 255.0, m, s) / 255
    ),
    "The picture lies on its side: rows and columns have changed places.": (
        lambda p, m, s: batch_of(p.transpose(0, 1), m, s)
    ),
    "These are still pixels from 0 to 255, from which a mean of pixels from 0 to 1 was taken.": (
        lambda p, m, s: batch_of(p * 255.0, m, s)
    ),
    "Both mistakes are still there: look at the picture after each step.": lambda p, m, s: (
        (p.reshape(3, *p.shape[:2]) - m.view(3, 1, 1)) / s.view(3, 1, 1) / 255
    )[None],
}


def statistics(rng):
    return rng.uniform(0.3, 0.6, 3).round(decimals=2), rng.uniform(0.2, 0.4, 3).round(decimals=2)


@exercise("mini_batch", points=0.5)
def test_a_grey_picture(student, rng):
    picture = torch.full((2, 2, 3), rng.integer(100, 256), dtype=torch.uint8)
    expect.agrees(
        student, "mini_batch", picture, *statistics(rng), right=batch_of, wrong=NOT_BATCH
    )  # fmt: skip


@exercise("mini_batch", points=1)
def test_a_picture_in_colour(student, rng):
    picture = rng.permutation(256)[:12].reshape(2, 2, 3).to(torch.uint8)
    expect.agrees(
        student, "mini_batch", picture, *statistics(rng), right=batch_of, wrong=NOT_BATCH
    )  # fmt: skip


@exercise("mini_batch", points=0.5)
def test_a_picture_that_is_not_square(student, rng):
    picture = rng.permutation(256)[:6].reshape(1, 2, 3).to(torch.uint8)
    expect.agrees(
        student, "mini_batch", picture, *statistics(rng), right=batch_of, wrong=NOT_BATCH
    )  # fmt: skip


def outputs(n, k, s, p):
    return (n + 2 * p - k) // s + 1


def padding_for(n, k, s, wanted):
    return next(p for p in range(99) if outputs(n, k, s, p) == wanted)


NOT_PADDING = {
    "You count the zeros at both ends together.": lambda n, k, s, wanted: next(
        p for p in range(99) if (n + p - k) // s + 1 == wanted
    ),
    "That is half the kernel, which does not give as many outputs here.": lambda n, k, s, w: k // 2,
}


def expect_padding(student, n, k, s, wanted, because):
    code = """try:
    got = fit_padding(*args)
except ValueError:
    got = "ValueError"
"""
    args, right = [n, k, s, wanted], padding_for(n, k, s, wanted)
    what = f"fit_padding({n}, {k}, {s}, {wanted})"
    got = student.run(code, ["got"], args=args)["got"]
    expect.true(
        not (isinstance(got, str) and got == "ValueError"),
        f"{what} should be {right}, but it raised a ValueError. {because}",
    )
    unless = {text: wrong(*args) for text, wrong in NOT_PADDING.items()}
    expect.close(got, right, of=what, unless=unless)


@exercise("fit_padding", points=0.5)
def test_a_stride_of_1(student, rng):
    def draw():
        n, k, p = rng.integer(5, 15), rng.integer(3, 8), rng.integer(1, 6)
        return n, k, 1, outputs(n, k, 1, p)

    n, k, s, wanted = rng.telling(draw, padding_for, *NOT_PADDING.values(), margin=0)
    expect_padding(
        student, n, k, s, wanted,
        f"A padding of {k // 2}, half the kernel, gives {outputs(n, k, s, k // 2)} outputs; others "
        "give others.",
    )  # fmt: skip


@exercise("fit_padding", points=0.25)
@pytest.mark.parametrize("at_least", [0, 1], ids=["unpadded", "padded"])
def test_pixels_that_are_left_over(student, rng, at_least):
    while True:
        n, k, s = rng.integer(8, 20), rng.integer(2, 6), rng.integer(2, 5)
        p = at_least * rng.integer(1, 5)
        wanted = outputs(n, k, s, p)
        left = n + 2 * p - k - (wanted - 1) * s
        if left % 2 and padding_for(n, k, s, wanted) == p != k // 2:
            break
    expect_padding(
        student, n, k, s, wanted,
        f"The {k} pixels of the kernel and {wanted - 1} steps of {s} fit into {n + 2 * p}; that "
        "some are left over does no harm.",
    )  # fmt: skip


@exercise("fit_padding", points=0.5)
@pytest.mark.parametrize("why", ["passed over", "too many without"])
def test_no_padding_gives_it(student, rng, why):
    n, k = rng.integer(10, 15), 2 * rng.integer(2, 4)
    if why == "passed over":
        p, wanted = k // 2, n
        because = f"as a padding of {p - 1} gives {n - 1} outputs and one of {p} gives {n + 1}"
        because += f", but none gives {n}"
    else:
        wanted = n - k - 1
        because = f"as there are {n - k + 1} outputs without any padding"
    expect.raises(student, "fit_padding", n, k, 1, wanted, kind="ValueError", because=because)


def counted(channels, side, places=lambda n: (n + 1) // 2, bias=True, flat=False, late=False):
    parameters = work = 0
    for c, m in itertools.pairwise(channels):
        before, side = side, places(side)
        weights = m * (1 if flat else c) * 9
        parameters += weights + m * bias
        work += weights * (before if late else side) ** 2
    return [parameters, work]


NOT_COUNTED = {
    "There is one bias for each kernel.": lambda c, n: counted(c, n, bias=False),
    "A layer works at the places of its output, a quarter of those of its input.": (
        lambda c, n: counted(c, n, late=True)
    ),
    "With kernel 3, stride 2 and padding 1 an odd side is halved and rounded up.": (
        lambda c, n: counted(c, n, places=lambda n: n // 2)
    ),
    "A kernel has nine weights for each of the channels below it.": (
        lambda c, n: counted(c, n, flat=True)
    ),
}


@exercise("count_up", points=1)
def test_a_single_layer(student, rng):
    channels = rng.integers(2, 9, 2).tolist()
    side = 2 * rng.integer(3, 9)
    expect.agrees(student, "count_up", channels, side, right=counted, wrong=NOT_COUNTED)


@exercise("count_up", points=1)
def test_a_stack_with_odd_sides(student, rng):
    channels = [rng.choice([1, 3]), *rng.integers(2, 9, rng.integer(2, 4)).tolist()]
    side = 4 * rng.integer(2, 9) + rng.choice([1, 3])
    expect.agrees(student, "count_up", channels, side, right=counted, wrong=NOT_COUNTED)


def seen_pixels(layers, size, place):
    """The experiment: where is the gradient of the output not 0?"""
    x = torch.ones(1, 1, size, dtype=torch.float64, requires_grad=True)
    y = x
    for k, s, p in layers:
        y = F.conv1d(y, torch.ones(1, 1, k, dtype=torch.float64), None, s, p)
    y[0, 0, place].backward()
    where = x.grad[0, 0].nonzero()[:, 0]
    return [where[0].item(), where[-1].item()]


def field(layers, place, padded=True):
    first = last = place
    for k, s, p in reversed(layers):
        first, last = first * s - p * padded, last * s - p * padded + k - 1
    return first, last


def cut(first, last, size):
    return [max(0, first), min(size - 1, last)]


def without_strides(layers, size, place):
    first = place * math.prod(s for _, s, _ in layers) - sum(p for _, _, p in layers)
    return cut(first, first + sum(k - 1 for k, _, _ in layers), size)


NOT_SEEN = {
    "Padding is not a pixel: the first pixel is 0, the last one size − 1.": (
        lambda layers, size, place: list(field(layers, place))
    ),
    "A later kernel's steps are as many pixels as all strides before it, multiplied.": (
        without_strides
    ),
    "With padding, the kernel begins before the first pixel.": (
        lambda layers, size, place: cut(*field(layers, place, padded=False), size)
    ),
    "An input that the layer before never used, or that does not exist, lies in that range: see "
    "how many outputs each layer has.": (
        lambda layers, size, place: cut(*field(layers, place), size)
    ),
}


def side_of(layers, size):
    for layer in layers:
        size = outputs(size, *layer)
    return size


def expect_pixels(student, layers, size, place):
    expect.agrees(student, "pixels_seen", layers, size, place, right=seen_pixels, wrong=NOT_SEEN)


def draw_stack(rng, n_layers):
    kernels = [rng.integer(3, 6) for _ in range(n_layers)]
    return [(k, 2, rng.integer(1, k // 2 + 1)) for k in kernels]


@exercise("pixels_seen", points=1)
def test_one_layer(student, rng):
    layers, size = draw_stack(rng, 1), rng.integer(14, 20)
    expect_pixels(student, layers, size, rng.integer(2, 4))
    expect_pixels(student, layers, size, 0)


@exercise("pixels_seen", points=1)
def test_a_stack(student, rng):
    layers, size = draw_stack(rng, 3), rng.integer(40, 60)
    expect_pixels(student, layers, size, rng.integer(2, 4))
    expect_pixels(student, layers, size, 0)


@exercise("pixels_seen", points=1)
def test_the_last_pixel_is_never_used(student, rng):
    size = 2 * rng.integer(6, 12)  # a kernel of 3 without padding, by steps of 2, leaves out one
    layers = [(3, 2, 0), (3, 1, 1)]
    expect_pixels(student, layers, size, side_of(layers, size) - 1)


def slide(x, weight, stride, padding):
    return F.conv1d(x, weight, None, stride, padding)


def mixed_up(x, weight, stride, padding):
    windows = F.pad(x, (padding, padding)).unfold(2, weight.shape[2], stride)
    return weight.flatten(1) @ windows.reshape(len(x), -1, windows.shape[2])


NOT_CONV1D = {
    "The kernel is turned around: deep learning's convolution leaves that out.": (
        lambda x, w, s, p: slide(x, w.flip(2), s, p)
    ),
    "The windows are mixed up: a reshape without moving the dimensions first does not make columns "
    "of them.": mixed_up,
    "The padding belongs at either end.": lambda x, w, s, p: slide(F.pad(x, (0, 2 * p)), w, s, 0),
    "Pad with zeros.": lambda x, w, s, p: (
        slide(F.pad(x, (p, p), mode="reflect"), w, s, 0) if p < x.shape[2] else slide(x, w, s, p)
    ),
}


def expect_conv1d(student, x, weight, stride, padding):
    expect.agrees(
        student, "conv1d", x, weight, stride, padding, right=slide, wrong=NOT_CONV1D, atol=1e-4
    )  # fmt: skip


@exercise("conv1d", points=1)
def test_one_channel(student, rng):
    x, weight = (rng.permutation(19)[:n].view(1, 1, n) - 9.0 for n in (5, 3))
    expect_conv1d(student, x, weight, 1, 0)
    expect_conv1d(student, x, weight, 1, 1)


@exercise("conv1d", points=1)
def test_channels_stride_and_padding(student, rng):
    x, weight = rng.normal(2, 2, 6).round(decimals=1), rng.normal(3, 2, 3).round(decimals=1)
    expect_conv1d(student, x, weight, 2, rng.integer(1, 3))


@exercise("conv1d", points=0.5)
def test_a_kernel_as_long_as_the_padded_sequence(student, rng):
    x, weight = rng.normal(1, 2, 3).round(decimals=1), rng.normal(1, 2, 5).round(decimals=1)
    expect_conv1d(student, x, weight, 1, 1)


@exercise("conv1d", points=0.5)
def test_a_kernel_that_is_too_long(student, rng):
    expect.raises(
        student, "conv1d", rng.normal(1, 1, 2).round(decimals=1), torch.ones(1, 1, 5), 1, 1,
        kind="ValueError", because="as a kernel of 5 does not fit into 2 numbers and 2 zeros",
    )  # fmt: skip


def matrix_of(weight, height, width, stride):
    """Column j is what the convolution makes of an image that is 1 at j and 0 elsewhere."""
    c = weight.shape[1]
    units = torch.eye(c * height * width).view(-1, c, height, width)
    return F.conv2d(units, weight, stride=stride).flatten(1).T


def over_the_end(weight, height, width, stride):
    m, _, kh, kw = weight.shape
    flat = F.pad(weight, (0, width - kw, 0, height - kh)).flatten(2)
    n = outputs(height, kh, stride, 0) * outputs(width, kw, stride, 0)
    return torch.stack([flat.roll(i * stride, 2) for i in range(n)], 1).reshape(m * n, -1)


def place_by_place(weight, *rest):
    m = len(weight)
    matrix = matrix_of(weight, *rest)
    return matrix.view(m, -1, matrix.shape[1]).transpose(0, 1).reshape(matrix.shape)


def channels_last(weight, height, width, stride):
    matrix = matrix_of(weight, height, width, stride)
    c = weight.shape[1]
    return matrix.view(len(matrix), c, -1).transpose(1, 2).reshape(matrix.shape)


NOT_MATRIX = {
    "A row of the matrix is moved on by a pixel even where the kernel would reach over the end "
    "into the next row of pixels.": over_the_end,
    "All places of the first kernel come first; yours go place by place.": place_by_place,
    "All pixels of the first channel come first; yours go pixel by pixel.": channels_last,
}


def expect_matrix(student, weight, height, width, stride):
    m, c, kh, kw = weight.shape
    got = student.call("conv_matrix", weight, height, width, stride)
    wanted = matrix_of(weight, height, width, stride)
    what = f"conv_matrix(weight, {height}, {width}, {stride})"
    try:
        shape = tuple(torch.as_tensor(got).shape)
    except (TypeError, ValueError, RuntimeError):
        expect.close(got, wanted, of=what)
        return
    n_rows, n_columns = outputs(height, kh, stride, 0), outputs(width, kw, stride, 0)
    hint = {
        m * outputs(height, kh, 1, 0) * n_columns: " The stride is for both axes.",
        m * c * n_rows * n_columns: " An output is one sum over all channels, not one for each.",
    }.get(shape[0] if shape else 0, "")
    expect.true(
        shape == tuple(wanted.shape),
        f"{what} for weight of shape {tuple(weight.shape)} should have shape "
        f"{tuple(wanted.shape)}, from {m} kernels at {n_rows} · {n_columns} places and {c} "
        f"channels of {height} · {width} pixels, but it has {shape}.{hint}",
    )
    expect.close(
        got, wanted, of=what, given=weight,
        unless={text: wrong(weight, height, width, stride) for text, wrong in NOT_MATRIX.items()},
    )  # fmt: skip


def distinct(rng, *shape):
    return (1 + rng.permutation(math.prod(shape))).float().view(shape)


@exercise("conv_matrix", points=1)
def test_one_kernel_on_one_channel(student, rng):
    expect_matrix(student, distinct(rng, 1, 1, 2, 2), 3, 3, 1)


@exercise("conv_matrix", points=1.5)
def test_several_kernels_and_channels(student, rng):
    expect_matrix(student, distinct(rng, 2, 3, 2, 2), 3, 4, 1)


@exercise("conv_matrix", points=1.5)
def test_with_a_stride(student, rng):
    expect_matrix(student, distinct(rng, 2, 3, 2, 3), 5, 7, 2)


def gradients(x, weight, grad):
    x, weight = (t.clone().requires_grad_() for t in (x, weight))
    F.conv2d(x, weight).backward(grad)
    return [x.grad, weight.grad]


def expect_gradients(student, x, weight, which):
    kh, kw = weight.shape[2:]
    shape = (len(x), len(weight), x.shape[2] - kh + 1, x.shape[3] - kw + 1)
    grad = (torch.arange(math.prod(shape)) % 7 - 2.0).view(shape)
    got = student.call("conv2d_backward", x, weight, grad)
    expect.true(
        isinstance(got, (list, tuple)) and len(got) == 2,
        "conv2d_backward(x, weight, grad) should return two tensors, the gradients for x and for "
        f"weight, but it returned {type(got).__name__}.",
    )
    to_x, to_weight = gradients(x, weight, grad)
    padded = F.pad(grad, (kw - 1, kw - 1, kh - 1, kh - 1))
    overwritten = torch.zeros_like(x)
    for i, j in itertools.product(range(kh), range(kw)):
        back = torch.einsum("nmyx,mc->ncyx", grad, weight[:, :, i, j])
        overwritten[:, :, i : i + shape[2], j : j + shape[3]] = back
    mistakes = [
        {
            "On the way back the kernel must be turned by half a circle: a pixel was multiplied by "
            "the last weight in the first output that used it.": F.conv2d(
                padded, weight.transpose(0, 1)
            ),
            "The windows of neighbouring outputs overlap: a pixel gets the sum of what comes from "
            "each.": overwritten,
        },
        {
            "A weight gets the sum over the images, not the mean.": to_weight / len(x),
            "A weight was used at every place of the output, not only at the first.": torch.einsum(
                "nm,ncyx->mcyx", grad[:, :, 0, 0], x[:, :, :kh, :kw]
            ),
        },
    ]
    given = {"x": x.tolist(), "weight": weight.tolist(), "grad": grad.tolist()}
    expect.close(
        got[which], (to_x, to_weight)[which],
        of=f"The gradient for {('x', 'weight')[which]}", given=given if x.numel() < 10 else None,
        unless=mistakes[which], atol=1e-3,
    )  # fmt: skip


@exercise("conv2d_backward", points=1)
@pytest.mark.parametrize("which", [0, 1], ids=["for x", "for weight"])
def test_one_image_of_one_channel(student, rng, which):
    expect_gradients(student, distinct(rng, 1, 1, 3, 3), distinct(rng, 1, 1, 2, 2), which)


@exercise("conv2d_backward", points=1)
@pytest.mark.parametrize("which", [0, 1], ids=["for x", "for weight"])
def test_images_channels_and_kernels(student, rng, which):
    expect_gradients(student, distinct(rng, 3, 2, 5, 4), distinct(rng, 4, 2, 3, 2), which)
