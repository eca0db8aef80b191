"""Checks of the exercises on heatmaps."""

import pytest
import torch
from torch import nn

from glassbox.interpret import grad_cam, occlusion
from glassbox.models import simple_cnn
from lectern import expect

exercise = pytest.mark.exercise

# The same network here and beside the learner's notebook, with weights that are drawn here.
BUILD = """
import torch
from torch import nn
from glassbox.models import simple_cnn
model = nn.Sequential(*simple_cnn(2, (3, 4), 5), nn.ReLU(), nn.Linear(5, 3)).eval()
model.load_state_dict(state)
"""
HOOKS_LEFT = """
hooks = sum(
    len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
    for m in model.modules()
)
"""


def network(state):
    model = nn.Sequential(*simple_cnn(2, (3, 4), 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    model.load_state_dict(state)
    return model


def weights(rng):
    state = nn.Sequential(*simple_cnn(2, (3, 4), 5), nn.ReLU(), nn.Linear(5, 3)).state_dict()
    return {
        name: rng.uniform(0.5, 2, *t.shape)
        if name.endswith("running_var")
        else rng.normal(*t.shape) * (4 if name.startswith(("4", "6")) else 0.5)
        if t.is_floating_point()
        else t
        for name, t in state.items()
    }


# --- one_item


def one_item(picture, mean, std):
    return ((picture / 255 - mean) / std).permute(2, 0, 1)[None]


NOT_ONE_ITEM = {
    "A picture has to become a batch of one: the first dimension is missing.": lambda p, m, s: (
        one_item(p, m, s)[0]
    ),
    "The numbers are right but in the wrong places: the order of the dimensions must change, "
    "and reshape keeps every number where it was.": lambda p, m, s: ((p / 255 - m) / s).reshape(
        1, 3, *p.shape[:2]
    ),
    "mean and std belong to pixels from 0 to 1: divide by 255 first.": lambda p, m, s: (
        ((p - m) / s).permute(2, 0, 1)[None]
    ),
    "You normalised with the picture's own mean and deviation; the network expects those that it "
    "was trained with, whatever is in this picture.": lambda p, m, s: (
        ((p / 255 - (p / 255).mean((0, 1))) / (p / 255).std((0, 1), correction=0).clamp_min(1e-9))
        .permute(2, 0, 1)[None]
    ),
}  # fmt: skip


def drawn_statistics(rng):
    return rng.uniform(0.3, 0.6, 3).round(decimals=1), rng.uniform(0.2, 0.4, 3).round(decimals=1)


@exercise("one_item", points=1)
def test_a_picture_of_one_colour(student, rng):
    colour = rng.integers(0, 256, 3).to(torch.uint8)
    picture = colour.expand(2, 2, 3).contiguous()
    got = student.call("one_item", picture, *(statistics := drawn_statistics(rng)))
    expect.close(
        got, one_item(picture, *statistics), given=[picture, *statistics], rtol=1e-3, atol=1e-4,
        of="one_item(picture, mean, std)",
        unless={text: wrong(picture, *statistics) for text, wrong in NOT_ONE_ITEM.items()},
    )  # fmt: skip


@exercise("one_item", points=1)
def test_every_pixel_in_its_place(student, rng):
    def draw():
        return rng.integers(0, 256, 2, 3, 3).to(torch.uint8), *drawn_statistics(rng)

    args = rng.telling(draw, one_item, *NOT_ONE_ITEM.values())
    expect.agrees(
        student, "one_item", *args, right=one_item, wrong=NOT_ONE_ITEM, rtol=1e-3, atol=1e-4
    )


# --- hooked_output

HALF_FROZEN = "model.train()\nmodel[0].eval()\nmodes = [m.training for m in model.modules()]\n"


@exercise("hooked_output", points=1)
def test_the_output_in_evaluation_mode(student, rng):
    state, x, which = weights(rng), rng.normal(3, 2, 8, 8), rng.integer(0, 2)
    found = student.run(
        f"{BUILD}model.train()\nout = hooked_output(model, model[{which}], x)\n"
        "graph = bool(getattr(out, 'requires_grad', False))",
        ["out", "graph"], state=state, x=x,
    )  # fmt: skip
    model = network(state)
    with torch.no_grad():
        right = model[: which + 1](x)
        wrong = model.train()[: which + 1](x)
    expect.close(
        found["out"], right, of=f"hooked_output(model, model[{which}], x)", rtol=1e-3, atol=1e-4,
        unless={
            "The model ran in training mode, where batch norm takes the statistics of this very "
            "batch.": wrong,
        },
    )  # fmt: skip
    expect.true(
        found["graph"] is False,
        "The result of hooked_output should require no gradient, but it does, and keeps the whole "
        "graph in memory with it: detach it.",
    )


@exercise("hooked_output", points=0.5)
def test_no_trace_is_left(student, rng):
    found = student.run(
        f"{BUILD}{HALF_FROZEN}hooked_output(model, model[1], x)\n"
        f"after = [m.training for m in model.modules()]\n{HOOKS_LEFT}",
        ["modes", "after", "hooks"], state=weights(rng), x=rng.normal(3, 2, 8, 8),
    )  # fmt: skip
    no_trace(found, "Afterwards")


@exercise("hooked_output", points=0.5)
def test_no_trace_is_left_by_an_error(student, rng):
    found = student.run(
        f"{BUILD}{HALF_FROZEN}error = None\n"
        "try:\n    hooked_output(model, model[1], x)\nexcept Exception as e:\n"
        "    error = type(e).__name__\n"
        f"after = [m.training for m in model.modules()]\n{HOOKS_LEFT}",
        ["modes", "after", "hooks", "error"], state=weights(rng), x=rng.normal(3, 5, 8, 8),
    )  # fmt: skip
    expect.true(
        found["error"] == "RuntimeError",
        "A picture with 5 channels, where the model takes 2, should let the model's RuntimeError "
        f"through, but what came out of hooked_output is {found['error'] or 'no error'}.",
    )
    no_trace(found, "After an error")


def no_trace(found, when):
    expect.true(
        found["hooks"] == 0,
        f"{when} no hook should be left, but of hooks still in the model there are "
        f"{found['hooks']}, called at every further pass.",
    )
    expect.true(
        found["modes"] == found["after"],
        f"{when} each module should have its own mode again (here the first block was in "
        "evaluation mode and the rest in training mode), but `training`, module by module, was "
        f"{found['modes']} and is {found['after']}.",
    )


# --- cam_from


def cam(maps, weight, target):
    return torch.einsum("nchw,nc->nhw", maps, weight[target])


NOT_CAM = {
    "That is the mean over the channels, the same whatever the class is.": lambda m, w, t: m.mean(
        1
    ),
    "You used the class of the first picture for all of them.": lambda m, w, t: cam(
        m, w, t[:1].expand(len(m))
    ),
    "You cut the map off at zero: keep what speaks against the class, or the mean is no longer "
    "the logit.": lambda m, w, t: cam(m, w, t).clamp_min(0),
    "That is the mean of the weighted channels: the head takes their sum over the channels.": (
        lambda m, w, t: cam(m, w, t) / m.shape[1]
    ),
}


@exercise("cam_from", points=1)
def test_small_maps(student, rng):
    def draw():
        maps, weight = rng.integers(0, 4, 2, 2, 2, 2), rng.integers(-3, 4, 3, 2)
        return maps.float(), weight.float(), rng.permutation(3)[:2]

    args = rng.telling(draw, cam, *NOT_CAM.values())
    expect.agrees(student, "cam_from", *args, right=cam, wrong=NOT_CAM)


@exercise("cam_from", points=1)
def test_the_mean_is_the_logit(student, rng):
    def draw():
        maps, weight = rng.uniform(0, 2, 4, 6, 3, 5), rng.normal(7, 6)
        return maps, weight, rng.permutation(7)[:4]

    args = rng.telling(draw, cam, *NOT_CAM.values())
    got = student.call("cam_from", *args)
    expect.close(
        got, cam(*args), of="cam_from(maps, weight, target) of 4 maps of 6 channels", rtol=1e-3,
        atol=1e-4, unless={text: wrong(*args) for text, wrong in NOT_CAM.items()},
    )  # fmt: skip


# --- near_miss


def near_miss(maps, boxes, pixels, end=0, columns=None):
    peak = maps.flatten(1).argmax(1)
    row, column = (f(peak, columns or maps.shape[2]) for f in (torch.floor_divide, torch.remainder))
    top, left, bottom, right = boxes.unbind(1)
    down = (row >= top - pixels) & (row < bottom + pixels + end)
    across = (column >= left - pixels) & (column < right + pixels + end)
    return (down & across).float()


def one_too_many(maps, boxes, pixels):
    return near_miss(maps, boxes, pixels, end=1)


def divided_by_rows(maps, boxes, pixels):
    return near_miss(maps, boxes, pixels, columns=maps.shape[1])


def from_the_end(maps, boxes, pixels):
    top, left, *_ = boxes.unbind(1)
    return near_miss(maps, boxes, pixels) * ((top >= pixels) & (left >= pixels))


INCLUDED = "The last row and column of a box are excluded, as in a slice."
BY_ROWS = "You would get that if a map had as many columns as it has rows."
FROM_END = "You would get that if no enlarged box could reach the upper or the left edge."


def maps_at(peaks, shape):
    maps = torch.zeros(len(peaks), *shape)
    maps[torch.arange(len(peaks)), peaks[:, 0], peaks[:, 1]] = 1.0
    return maps


def check_near_miss(student, draw, rng, shape, pixels, wrong):
    peaks, boxes = rng.telling(
        draw,
        *(lambda p, b, f=f: f(maps_at(p, shape), b, pixels) for f in (near_miss, *wrong.values())),
    )
    args = maps_at(peaks, shape), boxes, pixels
    expect.close(
        student.call("near_miss", *args), near_miss(*args), of=f"near_miss(maps, boxes, {pixels})",
        given={"maps of": shape, "hottest": peaks.tolist(), "boxes": boxes.tolist()},
        unless={text: function(*args) for text, function in wrong.items()},
    )  # fmt: skip


@exercise("near_miss", points=1)
def test_pictures_that_are_not_square(student, rng):
    shape, wrong = (6, 9), {INCLUDED: one_too_many, BY_ROWS: divided_by_rows}

    def draw():
        peaks = torch.stack([rng.integers(0, 4, 4), rng.integers(0, 9, 4)], 1)
        corner = torch.stack([rng.integers(1, 3, 4), rng.integers(1, 6, 4)], 1)
        return peaks, torch.cat([corner, corner + rng.integers(1, 3, 4, 2)], 1)

    check_near_miss(student, draw, rng, shape, 1, wrong)


@exercise("near_miss", points=1)
def test_boxes_near_the_edge(student, rng):
    shape, wrong = (7, 7), {INCLUDED: one_too_many, FROM_END: from_the_end}

    def draw():
        peaks = rng.integers(0, 6, 4, 2)
        corner = rng.integers(0, 3, 4, 2)
        return peaks, torch.cat([corner, corner + rng.integers(1, 3, 4, 2)], 1)

    check_near_miss(student, draw, rng, shape, 2, wrong)


# --- first_pixel


def first_pixel(layers):
    middle, step = 0.0, 1
    for kernel_size, stride, padding in layers:
        middle += step * ((kernel_size - 1) / 2 - padding)
        step *= stride
    return middle


def shifts_in_pixels(layers):
    return sum((k - 1) / 2 - p for k, _, p in layers)


def own_stride_first(layers):
    middle, step = 0.0, 1
    for kernel_size, stride, padding in layers:
        step *= stride
        middle += step * ((kernel_size - 1) / 2 - padding)
    return middle


def tiling(layers):
    return (torch.tensor([s for _, s, _ in layers]).prod().item() - 1) / 2


def rounded_down(layers):
    return first_pixel([(k // 2 * 2 + 1, s, p) for k, s, p in layers])


NOT_FIRST = {
    "A deeper layer shifts by cells of the map before it, which lie several pixels apart.": (
        shifts_in_pixels
    ),
    "A layer's own stride spaces its own cells, not those that it looks at.": own_stride_first,
    "That would hold if the cells were to tile the picture; a convolution looks where its kernel "
    "and padding say.": tiling,
    "The middle of an even number of pixels lies half-way between two of them: that of 0, 1, 2 "
    "and 3 is 1.5.": rounded_down,
}


def check_first(student, layers):
    expect.agrees(student, "first_pixel", layers, right=first_pixel, wrong=NOT_FIRST)


def drawn_layers(rng, *sizes, paddings=3):
    return [(k, rng.integer(2, 4), rng.integer(0, paddings)) for k in sizes]


@exercise("first_pixel", points=1)
def test_one_layer(student, rng):
    check_first(student, [])
    layers = rng.telling(
        lambda: drawn_layers(rng, rng.choice([4, 6])),
        first_pixel, own_stride_first, tiling, rounded_down,
    )  # fmt: skip
    check_first(student, layers)


@exercise("first_pixel", points=1)
def test_odd_kernels(student, rng):
    wrong = (shifts_in_pixels, own_stride_first, tiling)
    sizes = [3, 5, 3] if rng.integer(0, 2) else [7, 3, 5]
    layers = rng.telling(lambda: drawn_layers(rng, *sizes), first_pixel, *wrong)
    check_first(student, layers)


@exercise("first_pixel", points=1)
def test_any_kernels(student, rng):
    def draw():
        return drawn_layers(rng, *rng.integers(2, 8, 3).tolist(), rng.choice([2, 4]))

    check_first(student, rng.telling(draw, first_pixel, *NOT_FIRST.values()))


# --- fast_occlusion

CALLS = """
calls = []
handle = model.register_forward_pre_hook(lambda *a: calls.append(1))
out = fast_occlusion(model, picture, target, size)
handle.remove()
calls = len(calls)
"""


def falls(state, picture, target, size, fill=None):
    return occlusion(network(state), picture[None], target, size=size, stride=1, fill=fill)[0]


def sums(state, picture, target, size):
    height, width = picture.shape[1:]
    ones = torch.ones(1, 1, height - size + 1, width - size + 1)
    count = torch.nn.functional.conv_transpose2d(ones, torch.ones(1, 1, size, size))[0, 0]
    return falls(state, picture, target, size) * count


def covered_with_0(state, picture, target, size):
    return falls(state, picture, target, size, fill=0)


def what_is_left(state, picture, target, size):
    with torch.no_grad():
        before = network(state)(picture[None])[0, target]
    return before - falls(state, picture, target, size)


NOT_FALLS = {
    "You added the falls up: pixels in the middle are covered by many patches, so take their "
    "mean.": sums,
    "You covered with 0; a covered pixel gets the mean of its channel.": covered_with_0,
    "That is the logit after covering; its fall is wanted, the logit before less that after.": (
        what_is_left
    ),
}


@exercise("fast_occlusion", points=1)
@pytest.mark.parametrize("shape", [(6, 6), (5, 8)], ids=["square", "oblong"])
def test_occlusion(student, rng, shape):
    size = rng.integer(2, 4)

    def draw():
        return weights(rng), rng.uniform(0, 2, 2, *shape), rng.integer(0, 3), size

    args = rng.telling(draw, falls, sums)
    state, picture, target, _ = args
    found = student.run(
        BUILD + CALLS, ["out", "calls"], state=state, picture=picture, target=target, size=size
    )
    expect.close(
        found["out"], falls(*args), rtol=1e-2, atol=1e-3,
        of=f"fast_occlusion(model, picture, {target}, {size}) of a picture of {shape} pixels",
        unless={text: wrong(*args) for text, wrong in NOT_FALLS.items()},
    )  # fmt: skip


@exercise("fast_occlusion", points=1)
def test_at_most_two_calls(student, rng):
    def draw():
        return weights(rng), rng.uniform(0, 2, 2, 6, 6), rng.integer(0, 3), 3

    args = state, picture, target, size = rng.telling(draw, falls, sums)
    found = student.run(
        BUILD + CALLS, ["out", "calls"], state=state, picture=picture, target=target, size=size
    )
    expect.close(
        found["out"], falls(*args), rtol=1e-2, atol=1e-3,
        of=f"fast_occlusion(model, picture, {target}, 3)",
        unless={text: wrong(*args) for text, wrong in NOT_FALLS.items()},
    )  # fmt: skip
    expect.true(
        found["calls"] in (1, 2),
        f"The model should be called once or twice, but it was called {found['calls']} times. A "
        "batch can hold all 16 covered copies of a picture of 6 × 6.",
    )


# --- hooked_cam


def gradient_map(state, x, target, where, relu=True):
    model = network(state)
    return grad_cam(model, model[where], x, target, relu=relu)


def maps_and_gradient(state, x, target, where):
    model = network(state)
    maps = model[: where + 1](x).detach().requires_grad_()
    logits = model[where + 1 :](maps)
    score = logits.sum() if target is None else logits[torch.arange(len(x)), target].sum()
    return maps.detach(), torch.autograd.grad(score, maps)[0]


def place_by_place(state, x, target, where):
    maps, gradient = maps_and_gradient(state, x, target, where)
    return (maps * gradient).sum(1).clamp_min(0)


def for_all_classes(state, x, target, where):
    maps, gradient = maps_and_gradient(state, x, None, where)
    return (maps * gradient.mean((2, 3), keepdim=True)).sum(1).clamp_min(0)


def not_cut_off(state, x, target, where):
    return gradient_map(state, x, target, where, relu=False)


def first_class(state, x, target, where):
    return gradient_map(state, x, target[:1].expand(len(x)), where)


NOT_CUT = "A map ends at zero: what lies below zero is cut off."
NOT_GRAD_CAM = {
    "You took the gradient of all classes' logits together; ask for one class for each picture.": (
        for_all_classes
    ),
    "You asked for the class of the first picture in all of them.": first_class,
    NOT_CUT: not_cut_off,
}
BY_PLACE = {
    "You weighed each place by its gradient; a face has one weight, its mean over the places.": (
        place_by_place
    ),
}


def cam_input(rng, where, wrong):
    def draw():
        return weights(rng), rng.normal(2, 2, 8, 8), rng.permutation(3)[:2], where

    return rng.telling(draw, gradient_map, *wrong.values(), margin=0.05)


def check_cam(student, rng, where, wrong, before="", after="", want=()):
    args = state, x, target, _ = cam_input(rng, where, wrong)
    found = student.run(
        f"{BUILD}{before}\nheat = hooked_cam(model, model[{where}], x, target)\n{after}",
        ["heat", *want], state=state, x=x, target=target,
    )  # fmt: skip
    expect.close(
        found["heat"], gradient_map(*args), rtol=1e-2, atol=1e-3,
        of=f"hooked_cam(model, model[{where}], x, target) of 2 pictures",
        unless={text: function(*args) for text, function in wrong.items()},
    )  # fmt: skip
    return found


@exercise("hooked_cam", points=1)
def test_the_last_maps(student, rng):
    check_cam(student, rng, 1, NOT_GRAD_CAM)


@exercise("hooked_cam", points=1)
def test_an_earlier_layer(student, rng):
    check_cam(student, rng, 0, NOT_GRAD_CAM | BY_PLACE)


@exercise("hooked_cam", points=1)
def test_one_pass_for_all_pictures(student, rng):
    count = (
        "passes = []\nmodel[-1].register_forward_pre_hook(lambda *a: passes.append(1))\n"
        "model[-1].register_full_backward_pre_hook(lambda *a: passes.append(2))\n"
    )
    done = "forward, backward = passes.count(1), passes.count(2)\n"
    found = check_cam(
        student, rng, 0, NOT_GRAD_CAM | BY_PLACE, count, done, ["forward", "backward"]
    )
    for what in ("forward", "backward"):
        expect.true(
            found[what] == 1,
            f"There should be one {what} pass, but there were {found[what]} for 2 pictures: go "
            "once, with a sum of logits. In evaluation mode no picture's logits depend on another "
            "picture's maps, so the gradient of the sum is each picture's own.",
        )


GRADIENTS_BEFORE = """
for i, p in enumerate(model.parameters()):
    p.grad = torch.full_like(p, 2.0) if i % 2 else None
"""
GRADIENTS_AFTER = """
same = [
    (p.grad is not None and bool((p.grad == 2).all())) if i % 2 else p.grad is None
    for i, p in enumerate(model.parameters())
]
"""


@exercise("hooked_cam", points=0.5)
def test_gradients_stay_as_they_were(student, rng):
    found = check_cam(
        student, rng, 1, NOT_GRAD_CAM, GRADIENTS_BEFORE, GRADIENTS_AFTER + HOOKS_LEFT,
        ["same", "hooks"],
    )  # fmt: skip
    expect.true(
        isinstance(found["same"], list) and all(found["same"]),
        "The .grad of the parameters should be as they were, every second one full of 2 and the "
        "others None, but some are not. zero_grad does not bring back what was there.",
    )
    expect.true(found["hooks"] == 0, "No hook should be left, but there is one in the model.")


@exercise("hooked_cam", points=0.5)
def test_a_frozen_model(student, rng):
    check_cam(student, rng, 1, NOT_GRAD_CAM, "model.requires_grad_(False)\n")


# --- suspicious_corner


def corner_of(shares):
    row, column = divmod(int(shares.argmax()), 3)
    return row, column, shares[row, column].item()


def in_regions(heat):
    n, height, width = heat.shape
    return heat.reshape(n, 3, height // 3, 3, width // 3).sum((2, 4))


def without_boxes(heat, boxes):
    heat = heat.clone()
    for rest, (top, left, bottom, right) in zip(heat, boxes.tolist(), strict=True):
        rest[top:bottom, left:right] = 0
    return heat


def mean_shares(heat, total):
    return (in_regions(heat) / torch.where(total > 0, total, 1)[:, None, None]).mean(0)


def corner(maps, boxes):
    heat = maps.clamp_min(0)
    return corner_of(mean_shares(without_boxes(heat, boxes), heat.sum((1, 2))))


def bright_counts_more(maps, boxes):
    heat = maps.clamp_min(0)
    return corner_of(in_regions(without_boxes(heat, boxes)).sum(0) / heat.sum())


def boxes_included(maps, boxes):
    heat = maps.clamp_min(0)
    return corner_of(mean_shares(heat, heat.sum((1, 2))))


def of_what_is_outside(maps, boxes):
    return corner(without_boxes(maps, boxes), boxes)


def with_negative_heat(maps, boxes):
    return corner_of(mean_shares(without_boxes(maps, boxes), maps.sum((1, 2))))


def nan_without_heat(maps, boxes):
    heat = maps.clamp_min(0)
    shares = in_regions(without_boxes(heat, boxes)) / heat.sum((1, 2))[:, None, None]
    return corner_of(shares.mean(0))


def the_second(maps, boxes):
    """What a tie would make of it, so that the largest share is drawn clearly ahead."""
    heat = maps.clamp_min(0)
    shares = mean_shares(without_boxes(heat, boxes), heat.sum((1, 2)))
    row, column, _ = corner_of(shares)
    shares[row, column] = 0
    return row, column, shares.max().item()


NOT_CORNER = {
    "You divided sums by sums, so that a bright map counts for more than a faint one: take the "
    "shares of each picture, and then their mean.": bright_counts_more,
    "You counted the heat in the boxes as well; that on the object is not suspicious.": (
        boxes_included
    ),
    "You divided by the heat outside the box only; a share is of all heat of the picture.": (
        of_what_is_outside
    ),
}
NEGATIVE = {"What is below zero is no heat.": with_negative_heat}
NO_HEAT = {"0 / 0 is NaN: a map without any heat has a share of 0 everywhere.": nan_without_heat}


def drawn_maps(rng, n, height, width):
    """Maps of whole numbers with one region that glows in most of them, and a box in each."""
    scale = torch.tensor([1.0, 1.0, 4.0, 9.0])[rng.permutation(4)][:n]
    maps = rng.integers(0, 4, n, height, width).float()
    row, column = rng.integers(0, 3, 2).tolist()
    h, w = height // 3, width // 3
    maps[1:, row * h : (row + 1) * h, column * w : (column + 1) * w] += 3
    top, left = rng.integers(0, height - 1, n), rng.integers(0, width - 1, n)
    boxes = torch.stack([top, left, (top + h + 1).clamp(max=height), (left + w).clamp(max=width)])
    return maps * scale[:, None, None], boxes.T.contiguous()


def check_corner(student, rng, draw, wrong):
    maps, boxes = rng.telling(draw, corner, the_second, *wrong.values(), margin=0.01)
    expect.close(
        student.call("suspicious_corner", maps, boxes), corner(maps, boxes),
        of="suspicious_corner(maps, boxes), which is (row, column, share),", rtol=1e-3, atol=1e-4,
        given={"maps": maps.int().tolist(), "boxes": boxes.tolist()},
        unless={text: function(maps, boxes) for text, function in wrong.items()},
    )  # fmt: skip


@exercise("suspicious_corner", points=1)
def test_a_single_map(student, rng):
    wrong = dict(list(NOT_CORNER.items())[1:])
    check_corner(student, rng, lambda: drawn_maps(rng, 1, 3, 6), wrong)


@exercise("suspicious_corner", points=1)
def test_maps_of_different_brightness(student, rng):
    check_corner(student, rng, lambda: drawn_maps(rng, 4, 6, 9), NOT_CORNER)


@exercise("suspicious_corner", points=1)
def test_values_below_zero(student, rng):
    def draw():
        maps, boxes = drawn_maps(rng, 2, 6, 6)
        return maps - rng.integers(0, 3, *maps.shape), boxes

    check_corner(student, rng, draw, NOT_CORNER | NEGATIVE)


@exercise("suspicious_corner", points=1)
def test_a_map_without_heat(student, rng):
    def draw():
        maps, boxes = drawn_maps(rng, 3, 3, 3)
        maps[rng.integer(0, 3)] = 0
        return maps, boxes

    check_corner(student, rng, draw, NOT_CORNER | NO_HEAT)
