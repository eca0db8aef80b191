"""Checks of the exercises on normalisation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glassbox.norm import RunningBatchNorm
from lectern import expect

exercise = pytest.mark.exercise


def random_parameters(rng, n):
    return rng.uniform(0.5, 2, n), rng.normal(n)


NOT_GROUP_NORM = {
    "That is instance norm: each channel alone. A group has several channels.": (
        lambda x, groups, w, b: F.group_norm(x, x.shape[1], w, b)
    ),
    "That is layer norm: all channels together.": lambda x, groups, w, b: F.group_norm(x, 1, w, b),
    "You divided by the deviation with n − 1.": lambda *args: by_n_minus_1(*args),
}  # fmt: skip


def by_n_minus_1(x, groups, w, b):
    n = x[0].numel() / groups
    shape = [1, -1] + [1] * (x.ndim - 2)
    y = F.group_norm(x, groups) * ((n - 1) / n) ** 0.5
    return y * w.view(shape) + b.view(shape)


@exercise("group_norm", points=0.5)
@pytest.mark.parametrize("more", [(3,), (2, 2), ()], ids=["rank 3", "rank 4", "rank 2"])
def test_group_norm_of_any_rank(student, rng, more):
    x = 3 * rng.normal(2, 6, *more).round(decimals=1)
    expect.agrees(
        student, "group_norm", x, 2, *random_parameters(rng, 6),
        right=F.group_norm, wrong=NOT_GROUP_NORM, rtol=1e-3, atol=1e-4,
    )  # fmt: skip


@exercise("group_norm", points=0.5)
def test_groups_that_do_not_fit(student, rng):
    groups = rng.choice([4, 5])
    expect.raises(
        student, "group_norm", rng.normal(2, 6, 2).round(decimals=1), groups, torch.ones(6),
        torch.zeros(6), kind="ValueError", because=f"since {groups} does not divide 6 channels",
    )  # fmt: skip


def compare_blindness(student, norm, scale, groups, right, because):
    got = student.call("blind_to", norm, scale, groups)
    expect.close(
        got, float(right), given=scale, of=f"blind_to({norm!r}, scale, {groups})",
        unless={f"(1 is True, 0 is False.) {because}": float(not right)},
    )  # fmt: skip


SEES_FOG = "Batch norm has one deviation for all images of one batch, so it sees how they differ."
SHARE = "In layer norm all channels of an image share one deviation, so it sees how they differ."
WITHIN = "What counts for group norm is whether the factors are equal within a group."
ALONE = "In instance norm each channel of each image is a set of its own, whatever its factor."


def factors(rng, *shape):
    """Positive factors, no two of which are equal."""
    n = torch.Size(shape).numel()
    return (0.5 + 0.25 * rng.permutation(n + 4)[:n]).reshape(shape)


@exercise("blind_to", points=1)
def test_fog_that_differs_from_image_to_image(student, rng):
    scale = factors(rng, 3, 1).expand(3, 4)
    compare_blindness(student, "batch", scale, 2, False, SEES_FOG)
    for norm, because in (("layer", SHARE), ("group", WITHIN), ("instance", ALONE)):
        compare_blindness(student, norm, scale, 2, True, because)


@exercise("blind_to", points=1)
def test_channels_with_factors_of_their_own(student, rng):
    filters = factors(rng, 1, 4).expand(3, 4)
    compare_blindness(student, "batch", filters, 2, True, SEES_FOG)
    compare_blindness(student, "layer", filters, 2, False, SHARE)
    compare_blindness(student, "instance", filters, 2, True, ALONE)
    compare_blindness(student, "group", filters, 2, False, WITHIN)
    by_group = factors(rng, 3, 2).repeat_interleave(3, dim=1)
    compare_blindness(student, "group", by_group, 2, True, WITHIN)
    compare_blindness(student, "group", by_group, 3, False, WITHIN)


@exercise("blind_to", points=1)
def test_any_factors_and_negatives(student, rng):
    scale = factors(rng, 2, 3)
    compare_blindness(student, "instance", scale, 1, True, ALONE)
    compare_blindness(student, "batch", scale, 1, False, SEES_FOG)
    negative = torch.full((2, 3), -0.5 * rng.integer(1, 4))
    for norm in ("batch", "layer", "group", "instance"):
        because = "A negative factor turns every sign, and a deviation has no sign to divide it by."
        compare_blindness(student, norm, negative, 1, False, because)


# Trains on some batches, then evaluates: what came out, the gradients, and what is remembered.
FOLLOW = """
import torch
norm.weight.data.copy_(weight)
norm.bias.data.copy_(bias)
outs, grads = [], []
for x, slope in zip(batches, slopes):
    x = x.clone().requires_grad_()
    out = norm(x)
    norm.zero_grad()
    (out * slope).sum().backward()
    outs.append(out.detach())
    grads.append([x.grad, norm.weight.grad.clone(), norm.bias.grad.clone()])
"""
KEPT = "kept = [norm.running_mean, norm.running_var]\n"
THEN = """
norm.eval()
with torch.no_grad():
    new = norm(batches[0])
    alone = norm(batches[0][:1])
norm.train()
"""


def follow(norm, inputs):
    """The same with PyTorch's layer, or the book's."""
    space = {**inputs, "norm": norm}
    exec(FOLLOW + (KEPT if hasattr(norm, "running_mean") else "") + THEN, space)
    return space


def a_run(rng, n, *shapes):
    weight, bias = random_parameters(rng, n)
    batches = [
        (rng.uniform(0.5, 3, n).view(1, n, *[1] * (len(s) - 2)) * (rng.normal(*s) + rng.normal(1)))
        for s in shapes
    ]
    slopes = [rng.normal(*shape) for shape in shapes]
    return {"weight": weight, "bias": bias, "batches": batches, "slopes": slopes}


def same(got, expected, of, unless=None):
    expect.close(got, expected, of=of, rtol=2e-3, atol=1e-4, unless=unless)


@exercise("TableNorm", points=1)
def test_gradient_of_the_table(student, rng):
    inputs = a_run(rng, 2, (4, 2))
    code = "norm = TableNorm(2)" + FOLLOW
    got = student.run(code, ["outs", "grads"], **inputs)
    right = follow(nn.BatchNorm1d(2), inputs)
    x = inputs["batches"][0]
    var, mean = torch.var_mean(x, 0, correction=1)
    y = (x - mean) / (var + 1e-5).sqrt() * inputs["weight"] + inputs["bias"]
    same(
        got["outs"][0], right["outs"][0], "the output of TableNorm(2) in training",
        {"A batch is divided by its own spread: the variance by n, not by n − 1.": y},
    )  # fmt: skip
    held = inputs["slopes"][0] * inputs["weight"] / (x.var(0, correction=0) + 1e-5).sqrt()
    same(
        got["grads"][0][0], right["grads"][0][0],
        "the gradient with respect to the input of TableNorm(2)",
        {"Mean and variance depend on the input, and gradients have to flow through both.": held},
    )  # fmt: skip


@exercise("TableNorm", points=1)
def test_evaluation_of_the_table(student, rng):
    inputs = a_run(rng, 2, (4, 2), (5, 2))
    code = "norm = TableNorm(2)" + FOLLOW + THEN
    code += "\nstate = sorted(norm.state_dict())\nbuffers = [b.clone() for b in norm.buffers()]"
    got = student.run(code + THEN, ["new", "alone", "buffers"], **inputs)
    expect.close(
        got["alone"], torch.as_tensor(got["new"])[:1], rtol=1e-3, atol=1e-5,
        of="in evaluation mode the answer for one row without the rows that come along with it",
    )  # fmt: skip
    # Whatever running_var holds: the answer is to be made of the two buffers.
    expect.true(
        isinstance(got["buffers"], list) and [b.shape for b in got["buffers"]] == [(2,)] * 2,
        "TableNorm(2) should keep its two buffers, running_mean and running_var, of shape (2,).",
    )
    mean, var = got["buffers"]
    right = (inputs["batches"][0] - mean) / (var + 1e-5).sqrt() * inputs["weight"] + inputs["bias"]
    same(got["new"], right, "the output of TableNorm(2) in evaluation, by its buffers,")


@exercise("TableNorm", points=1)
def test_memory_of_the_table(student, rng):
    inputs = a_run(rng, 2, (4, 2), (3, 2))
    got = student.run("norm = TableNorm(2)" + FOLLOW + KEPT, ["kept"], **inputs)["kept"]
    right = follow(nn.BatchNorm1d(2), inputs)["kept"]
    biased = torch.ones(2)
    for x in inputs["batches"]:
        biased.lerp_(x.var(0, correction=0), 0.1)
    same(got[0], right[0], "running_mean of TableNorm(2) after two batches")
    same(
        got[1], right[1], "running_var of TableNorm(2) after two batches",
        {"To estimate the variance of rows still to come, divide by n − 1.": biased},
    )  # fmt: skip


def torch_norm(rank):
    return nn.BatchNorm2d(3) if rank == 4 else nn.BatchNorm1d(3)


def by_position(inputs):
    x = inputs["batches"][0]
    shape = [1, -1] + [1] * (x.ndim - 2)
    var, mean = torch.var_mean(x, 0, correction=0, keepdim=True)
    y = (x - mean) / (var + 1e-5).sqrt()
    return y * inputs["weight"].view(shape) + inputs["bias"].view(shape)


@exercise("BatchNorm", points=0.5)
@pytest.mark.parametrize("more", [(), (4,), (2, 3)], ids=["rank 2", "rank 3", "rank 4"])
def test_training_outputs(student, rng, more):
    inputs = a_run(rng, 3, (4, 3, *more), (3, 3, *more))
    got = student.run("norm = BatchNorm(3)" + FOLLOW, ["outs", "grads"], **inputs)
    right = follow(torch_norm(2 + len(more)), inputs)
    of = f"of BatchNorm(3) for a batch of shape {tuple(inputs['batches'][0].shape)} in training"
    x = inputs["batches"][0]
    fresh = nn.BatchNorm1d(3).eval()
    fresh.weight.data, fresh.bias.data = inputs["weight"], inputs["bias"]
    same(
        got["outs"][0], right["outs"][0], f"the output {of}",
        {
            "A channel's mean is taken over all items and all positions.": by_position(inputs),
            "In training the statistics are those of the batch, and only those of the batch, not "
            "the running ones.": running_first(x, inputs),
        },
    )  # fmt: skip
    same(got["outs"][1], right["outs"][1], f"the output {of}, after another batch,")
    for name, a, b in zip(
        ("the input", "weight", "bias"), got["grads"][0], right["grads"][0], strict=True
    ):
        same(a, b, f"the gradient with respect to {name} {of}")


def running_first(x, inputs):
    """What running averages after this one batch would give in training."""
    dims, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
    mean = 0.1 * x.mean(dims)
    var = 0.9 + 0.1 * x.var(dims)
    y = (x - mean.view(shape)) / (var + 1e-5).sqrt().view(shape)
    return y * inputs["weight"].view(shape) + inputs["bias"].view(shape)


@exercise("BatchNorm", points=1.5)
def test_buffers_and_evaluation(student, rng):
    inputs = a_run(rng, 3, (4, 3, 2), (2, 3, 2))
    code = "norm = BatchNorm(3)" + FOLLOW + THEN + KEPT
    got = student.run(code, ["kept", "new", "alone"], **inputs)
    right = follow(nn.BatchNorm1d(3), inputs)
    mean, var = [torch.zeros(3), torch.zeros(3)], [torch.ones(3), torch.ones(3)]
    for x in inputs["batches"]:
        mean[0].lerp_(x.mean((0, 2)), 0.9)
        var[0].lerp_(x.var((0, 2)), 0.9)
        var[1].lerp_(x.var((0, 2), correction=0) * len(x) / (len(x) - 1), 0.1)
    keeps = "In a normalisation layer the momentum says how much is new, here a tenth."
    after = "after two batches of shapes (4, 3, 2) and (2, 3, 2)"
    same(got["kept"][0], right["kept"][0], f"running_mean {after}", {keeps: mean[0]})
    bessel = "A channel has as many values as items times positions; Bessel's n counts them all."
    same(got["kept"][1], right["kept"][1], f"running_var {after}", {keeps: var[0], bessel: var[1]})
    same(got["new"], right["new"], "the output of BatchNorm(3) in evaluation")
    same(got["alone"], right["alone"], "the output of BatchNorm(3) for one item in evaluation")


@exercise("BatchNorm", points=0.5)
def test_parameters_and_buffers(student, rng):
    n = rng.integer(2, 6)
    code = """
norm = BatchNorm(n)
state = {k: v.clone() for k, v in norm.state_dict().items()}
parameters = sorted(k for k, _ in norm.named_parameters())
"""
    got = student.run(code, ["state", "parameters"], n=n)
    names = ["bias", "running_mean", "running_var", "weight"]
    expect.true(
        got["parameters"] == ["bias", "weight"],
        f"The parameters should be bias and weight, but they are {got['parameters']}.",
    )
    found = sorted(set(got["state"]) - {"num_batches_tracked"})
    expect.true(
        found == names, f"The state_dict of BatchNorm({n}) should hold {names}, but holds {found}."
    )
    for name, value in zip(names, (0.0, 0.0, 1.0, 1.0), strict=True):
        same(got["state"][name], torch.full((n,), value), f"{name} of a new BatchNorm({n})")


@exercise("BatchNorm", points=0.5)
def test_a_single_value(student, rng):
    code = """
raised = "nothing"
try:
    BatchNorm(3).train()(x)
except Exception as error:
    raised = type(error).__name__
fine = BatchNorm(3).eval()(x)
"""
    x = rng.choice([rng.normal(1, 3), rng.normal(1, 3, 1, 1)])
    got = student.run(code, ["raised", "fine"], x=x)
    expect.true(
        got["raised"] == "ValueError",
        f"An input of shape {tuple(x.shape)} has a single value per channel. In training that "
        f"should raise a ValueError, but it raised {got['raised']}.",
    )
    same(got["fine"], x, "the output of a new BatchNorm(3) in evaluation for a single item")


PAIR = """
import torch
from torch import nn
conv, norm = nn.Conv2d(**options), nn.BatchNorm2d(4, eps=0.1).eval()
conv.load_state_dict(conv_state)
norm.load_state_dict(norm_state)
"""


def a_pair(rng, **options):
    """A convolution and a batch norm that has seen something, and inputs."""
    conv, norm = nn.Conv2d(2, 4, (3, 2), **options), nn.BatchNorm2d(4, eps=0.1).eval()
    for p in conv.parameters():
        p.data = rng.normal(*p.shape)
    norm.weight.data, norm.bias.data = random_parameters(rng, 4)
    norm.running_mean, norm.running_var = 1 + rng.normal(4), rng.uniform(0.5, 4, 4)
    how = {"in_channels": 2, "out_channels": 4, "kernel_size": (3, 2), **options}
    inputs = {"options": how, "x": rng.normal(2, 2, 7, 6)}
    states = {"conv_state": conv.state_dict(), "norm_state": norm.state_dict()}
    return conv, norm, {**inputs, **states}


@torch.no_grad()
def check_fold(student, conv, norm, inputs, of):
    code = PAIR + "new = fold(conv, norm)\nout = new(x)\nkind = isinstance(new, nn.Conv2d)"
    got = student.run(code, ["out", "kind"], **inputs)
    expect.true(got["kind"] is True, "fold should return an nn.Conv2d, but it did not.")
    z = conv(inputs["x"])
    plain = conv(inputs["x"]) - (0 if conv.bias is None else conv.bias[:, None, None])
    root = (norm.running_var + norm.eps).sqrt()
    scale, shift = (norm.weight / root)[:, None, None], norm.bias[:, None, None]
    mean = norm.running_mean[:, None, None]
    variance = scale / root[:, None, None]
    unless = {
        "The norm subtracts its running mean, too; scaled, it belongs into the bias.": (
            z * scale + shift
        ),
        "One divides by the root of the variance plus ε, not by the variance.": (
            (z - mean) * variance + shift
        ),
    }
    if conv.bias is not None:
        says = "The convolution's own bias passes through the norm as well."
        unless[says] = (plain - mean) * scale + shift
    same(got["out"], norm(z), f"fold(conv, norm)(x) for {of}", unless)


@exercise("fold", points=1)
def test_fold_without_a_bias(student, rng):
    check_fold(student, *a_pair(rng, bias=False), "a convolution without bias")


@exercise("fold", points=1)
def test_fold_with_a_bias_and_options(student, rng):
    options = {"stride": 2, "padding": 1, "dilation": (1, 2), "groups": 2}
    of = "a convolution with bias and " + ", ".join(f"{k} {v}" for k, v in options.items())
    check_fold(student, *a_pair(rng, **options), of)


@exercise("fold", points=1)
def test_fold_changes_nothing_else(student, rng):
    conv, norm, inputs = a_pair(rng)
    code = PAIR + """
new = fold(conv, norm)
out = new(x)
with torch.no_grad():
    for p in new.parameters():
        p.zero_()
after = [*conv.state_dict().values(), norm.weight, norm.bias, norm.running_mean, norm.running_var]
"""  # fmt: skip
    got = student.run(code, ["after", "out"], **inputs)
    state = norm.state_dict()
    names = ["weight", "bias", "running_mean", "running_var"]
    before = [*conv.state_dict().values(), *(state[k] for k in names)]
    parts = ["conv's weight", "conv's bias", *(f"norm's {name}" for name in names)]
    for part, a, b in zip(parts, got["after"], before, strict=False):
        same(
            a,
            b,
            f"after fold, and after a change of the new layer, {part}, to stay as they were,",
        )
    same(got["out"], norm(conv(inputs["x"])), "fold(conv, norm)(x)")


MODEL = """
import torch
from torch import nn
inner = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=0.3))
model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Tanh(), inner)
model.load_state_dict(state)
"""
RECALIBRATE = MODEL + """
before = {k: v.clone() for k, v in model.named_parameters()}
model.train()
inner.eval()
recalibrate(model, (x for x in batches))
kept = [[m.running_mean, m.running_var] for m in (model[1], inner[2])]
modes = [m.training for m in model.modules()]
momenta = [model[1].momentum, inner[2].momentum]
changed = any(not torch.equal(v, before[k]) for k, v in model.named_parameters())
grads = any(p.grad is not None for p in model.parameters())
"""  # fmt: skip


def a_model(rng):
    inner = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2), nn.BatchNorm1d(2))
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Tanh(), inner)
    for p in model.parameters():
        p.data = rng.normal(*p.shape)
    for norm in (model[1], inner[2]):
        norm.running_mean.copy_(5 + rng.normal(norm.num_features))
        norm.running_var.copy_(rng.uniform(3, 5, norm.num_features))
        norm.num_batches_tracked.fill_(7)
    return model


@torch.no_grad()
def averages(model, batches):
    """The averages of the batches' means and variances, at both batch norms."""
    found = []
    for x in batches:
        h = model[0](x)
        z = model[3][1](torch.tanh(model[1].train()(h)))
        found.append([h.mean(0), h.var(0), z.mean(0), z.var(0)])
    return [torch.stack(column).mean(0) for column in zip(*found, strict=True)]


@torch.no_grad()
def moved(model, batches, start, parts, momentum):
    """What the momentum of the first batch norm makes of the batches."""
    value = start.clone()
    for x in batches:
        value.lerp_(parts(model[0](x)), momentum)
    return value


def recalibrated(student, rng):
    model = a_model(rng)
    batches = [rng.normal(n, 2) + rng.normal(2) for n in (4, 3, 6)]
    want = ["kept", "modes", "momenta", "changed", "grads"]
    got = student.run(RECALIBRATE, want, state=model.state_dict(), batches=batches)
    return model, batches, got


@exercise("recalibrate", points=1)
def test_averages_at_the_first_norm(student, rng):
    model, batches, got = recalibrated(student, rng)
    start = model[1].running_mean.clone()
    inputs = [model[0](x).detach() for x in batches]
    counts = (7 * start + sum(h.mean(0) for h in inputs)) / 10
    by_momentum = moved(model, batches, start, lambda h: h.mean(0), 0.1)
    pooled = torch.cat(inputs)
    right = averages(model, batches)
    of = "of the first batch norm after three batches of 4, 3 and 6 rows"
    same(
        got["kept"][0][0], right[0], f"running_mean {of}",
        {
            "With the momentum they have, the last batch counts most, and a part of what there was "
            "before remains; all batches should have counts alike.": by_momentum,
            "What the buffers held before should not matter any more.": counts,
            "Every batch counts alike, however many rows it has.": pooled.mean(0),
        },
    )  # fmt: skip
    biased = torch.stack([h.var(0, correction=0) for h in inputs]).mean(0)
    same(
        got["kept"][0][1], right[1], f"running_var {of}",
        {
            "The variances are the unbiased ones, by n − 1.": biased,
            "Each batch has a variance around its own mean; those are averaged.": pooled.var(0),
        },
    )  # fmt: skip


@exercise("recalibrate", points=1)
def test_averages_at_the_second_norm(student, rng):
    model, batches, got = recalibrated(student, rng)
    right = averages(model, batches)
    of = (
        "of the second batch norm, which comes after the first one in training mode and after "
        "dropout in evaluation mode,"
    )
    same(got["kept"][1][0], right[2], f"running_mean {of}")
    same(got["kept"][1][1], right[3], f"running_var {of}")


@exercise("recalibrate", points=1)
def test_all_else_is_as_it_was(student, rng):
    _, _, got = recalibrated(student, rng)
    modes = [True] * 4 + [False] * 4
    expect.true(
        got["modes"] == modes,
        "The `training` of each module, outermost first, should be what it was before, "
        f"{modes}, but it is {got['modes']}.",
    )
    expect.true(
        got["momenta"] == [0.1, 0.3],
        "The `momentum` of the two batch norms should be what it was before, 0.1 and 0.3, but it "
        f"is {got['momenta'][0]} and {got['momenta'][1]}.",
    )
    expect.true(
        got["changed"] is False and got["grads"] is False,
        "No parameter should have changed or have a gradient afterwards. Changed: "
        f"{got['changed']}; with a gradient: {got['grads']}.",
    )


def by_variances(inputs, items_needed=20):
    """The outputs if the batches' own variances were averaged."""
    sums = spread = count = items = 0
    outs = []
    for x in inputs["batches"]:
        dims, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        n, items = x[:, 0].numel(), items + len(x)
        sums = 0.9 * sums + 0.1 * x.sum(dims)
        spread = 0.9 * spread + 0.1 * n * x.var(dims, correction=0)
        count = 0.9 * count + 0.1 * n
        var = spread / count
        var = var.clamp_min(0.01) if items < items_needed else var
        y = (x - (sums / count).view(shape)) / (var + 1e-5).sqrt().view(shape)
        outs.append(y * inputs["weight"].view(shape) + inputs["bias"].view(shape))
    return outs


@exercise("RunningBatchNorm", points=1.5)
def test_running_outputs(student, rng):
    inputs = a_run(rng, 3, (3, 3, 2), (5, 3, 2), (1, 3, 2))
    got = student.run("norm = RunningBatchNorm(3)" + FOLLOW, ["outs"], **inputs)["outs"]
    right = follow(RunningBatchNorm(3), inputs)["outs"]
    own = follow(RunningBatchNorm(3, momentum=1.0), inputs)["outs"]
    wrong = by_variances(inputs)
    for i, number in enumerate(("first", "second", "third")):
        same(
            got[i], right[i],
            f"the output in training for the {number} of three batches of 3, 5 and 1 items (sums, "
            "squares and counts are averaged)",
            None if i == 0 else {
                "The batches' variances leave out what lies between the means.": wrong[i],
                "Only the statistics of the batch itself were used.": own[i],
            },
        )  # fmt: skip


@exercise("RunningBatchNorm", points=0.5)
def test_the_floor(student, rng):
    inputs = a_run(rng, 2, (8, 2, 2), (11, 2, 2), (1, 2, 2), (8, 2, 2))
    inputs["batches"] = [0.02 * x for x in inputs["batches"]]
    got = student.run("norm = RunningBatchNorm(2)" + FOLLOW, ["outs"], **inputs)["outs"]
    right = follow(RunningBatchNorm(2), inputs)["outs"]
    for i, seen in enumerate((8, 19, 20, 28)):
        rule = (
            "where the variance counts as at least 0.01"
            if seen < 20
            else "where the variance counts as it is"
        )
        same(got[i], right[i], f"the output in training when {seen} items were seen, {rule},")


@exercise("RunningBatchNorm", points=1)
def test_running_evaluation(student, rng):
    inputs = a_run(rng, 2, (15, 2, 2), (9, 2, 2))
    code = "norm = RunningBatchNorm(2)" + FOLLOW + THEN
    code += """
copy = RunningBatchNorm(2)
copy.load_state_dict(norm.state_dict())
with torch.no_grad():
    copied = copy.eval()(batches[0])
    again = norm.eval()(batches[0])
"""
    got = student.run(code, ["new", "alone", "copied", "again"], **inputs)
    right = follow(RunningBatchNorm(2), inputs)
    same(got["new"], right["new"], "the output in evaluation, after two training batches")
    same(got["alone"], right["alone"], "the output in evaluation for one item alone")
    same(got["again"], right["new"], "the output in evaluation a second time")
    same(
        got["copied"], right["new"], "in evaluation the output of a new layer after load_state_dict"
    )


@exercise("RunningBatchNorm", points=1)
def test_running_gradients(student, rng):
    inputs = a_run(rng, 2, (3, 2, 2), (4, 2, 2))
    code = "norm = RunningBatchNorm(2)\ntrouble = ''\ntry:\n"
    code += "\n".join("    " + line for line in FOLLOW.splitlines())
    code += "\nexcept RuntimeError as error:\n    trouble = str(error)[:80]"
    got = student.run(code, ["trouble", "grads"], **inputs)
    expect.true(
        got["trouble"] == "",
        "The second of two backward passes failed. No graph of an older batch may be kept in the "
        f"averages. PyTorch says: {got['trouble']}",
    )
    right = follow(RunningBatchNorm(2), inputs)
    for i, number in enumerate(("first", "second")):
        got_, right_ = got["grads"][i], right["grads"][i]
        same(got_[1], right_[1], f"the gradient of weight for the {number} batch")
        x, out = inputs["batches"][i], right["outs"][i]
        flat = [t.movedim(1, 0).flatten(1) for t in (x, out)]
        steep = (flat[1][:, 1] - flat[1][:, 0]) / (flat[0][:, 1] - flat[0][:, 0])
        same(
            got_[0], right_[0], f"the gradient of the input for the {number} batch",
            {
                "The averages were treated as constants; this batch has its share in them.": (
                    inputs["slopes"][i] * steep[:, None]
                )
            },
        )  # fmt: skip


@exercise("RunningBatchNorm", points=1)
def test_far_from_zero(student, rng):
    inputs = a_run(rng, 2, (12, 2, 3), (12, 2, 3))
    inputs["batches"] = [x + 20_000 for x in inputs["batches"]]
    got = student.run("norm = RunningBatchNorm(2)" + FOLLOW, ["outs"], **inputs)["outs"]
    right = follow(RunningBatchNorm(2), inputs)["outs"]
    for i, number in enumerate(("first", "second")):
        expect.true(
            isinstance(got[i], torch.Tensor) and got[i].shape == right[i].shape,
            f"The output for the {number} batch should have shape {tuple(right[i].shape)}.",
        )
        off = (got[i] - right[i]).abs().max().item()
        expect.true(
            off < 0.05,
            f"Around a mean of 20,000 the output for the {number} batch is off by up to {off:.3g}. "
            "The mean square from 0 and the square of the mean are nearly equal numbers, and their "
            "difference has lost its digits: measure from the mean of the first batch.",
        )


def pictures(rng, patterns, n):
    """Patterns in one of nine places, with noise, contrast and brightness; and their labels."""
    y = rng.integers(0, len(patterns), n)
    places = rng.integers(0, 3, n, 2).tolist()
    x = 0.5 * rng.normal(n, 1, 8, 8)
    for image, label, (i, j) in zip(x, y.tolist(), places, strict=True):
        image[0, i : i + 6, j : j + 6] += patterns[label]
    return x * rng.uniform(0.5, 2, n, 1, 1, 1) + 2 * rng.normal(n, 1, 1, 1), y


PLAY = """
import torch
net = one_epoch(x, y)
is_network = callable(net)
out = alone = None
if is_network:
    with torch.no_grad():
        out = net(x_new)
        alone = torch.cat([net(x_new[i : i + 1]) for i in range(9)])
"""


def played(student, rng):
    """The share that is right, and the logits of images in company and alone."""
    patterns = rng.normal(6, 6, 6).sign()
    x, y = pictures(rng, patterns, 2000)
    x_new, y_new = pictures(rng, patterns, 500)
    want = ["is_network", "out", "alone"]
    got = student.run(PLAY, want, x=x, y=y, x_new=x_new, seconds=30)
    expect.true(
        got["is_network"] is True,
        "one_epoch should return a network, which can be called with new images; what it "
        "returned cannot be called.",
    )
    out, alone = got["out"], got["alone"]
    expect.true(
        isinstance(out, torch.Tensor) and out.shape == (500, 6) and isinstance(alone, torch.Tensor),
        "For images of shape (500, 1, 8, 8) the network should return logits of shape (500, 6).",
    )
    return (out.argmax(1) == y_new).float().mean().item(), out[:9], alone


@exercise("one_epoch", points=2)
@pytest.mark.parametrize("goal", [0.7, 0.88])
def test_new_images(student, rng, goal):
    right, _, _ = played(student, rng)
    expect.true(
        right >= goal,
        f"After one pass over 2,000 images the network is right for {right:.1%} of 500 others. It "
        f"should be at least {goal:.0%} for these points.".replace("%", " %"),
    )


@exercise("one_epoch", points=1)
def test_no_company_needed(student, rng):
    right, together, alone = played(student, rng)
    expect.true(
        alone.shape == together.shape and torch.allclose(alone, together, rtol=1e-3, atol=1e-3),
        "For nine images the logits differ between a batch of 500 and each image alone, so what "
        "the network says about an image depends on the images that come with it.",
    )
    expect.true(right >= 0.7, f"Only {right:.1%} of new images are right; 70 % are needed here.")
