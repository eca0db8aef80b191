"""Checks of the exercises on residual networks and transfer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lectern import expect

exercise = pytest.mark.exercise


def named(**parts):
    """Return an nn.Sequential whose children have names."""
    model = nn.Sequential()
    for name, part in parts.items():
        model.add_module(name, part)
    return model


def drawn_like(module, rng):
    """Draw a state for a module: normal weights, positive variances."""
    return {
        name: rng.uniform(0.5, 2, *t.shape)
        if name.endswith("running_var")
        else rng.normal(*t.shape)
        if t.is_floating_point()
        else t
        for name, t in module.state_dict().items()
    }


# --- spread


def spread(low, high, n):
    return [high] if n == 1 else [low * (high / low) ** (i / (n - 1)) for i in range(n)]


@exercise("spread", points=0.5)
def test_several_rates(student, rng):
    low = 10.0 ** -rng.integer(4, 7)
    expect.agrees(
        student, "spread", low, low * rng.integer(20, 900), rng.integer(3, 7), right=spread,
        rtol=1e-3, atol=1e-12,
        wrong={
            "Those are equal steps; each rate should be the same multiple of the one before.": (
                lambda low, high, n: [low + (high - low) * i / (n - 1) for i in range(n)]
            ),
            "The highest rate is never reached: n rates have n − 1 steps between them.": (
                lambda low, high, n: [low * (high / low) ** (i / n) for i in range(n)]
            ),
        },
    )  # fmt: skip


@exercise("spread", points=0.5)
def test_one_rate(student, rng):
    expect.agrees(
        student, "spread", 10.0 ** -rng.integer(4, 7), 0.001 * rng.integer(2, 9), 1, right=spread,
        rtol=1e-3, atol=1e-12,
        wrong={
            "A single group gets the highest rate, as the head would.": lambda low, high, n: [low]
        },
    )  # fmt: skip


# --- residual

AROUND = """
import torch
from torch import nn
f = nn.Sequential(nn.Conv2d({n_in}, {n_out}, 3, {stride}, 1), nn.BatchNorm2d({n_out})).eval()
f.load_state_dict(state)
block = residual(f)
"""


def around(rng, n_in, n_out, stride):
    f = nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1), nn.BatchNorm2d(n_out)).eval()
    state = drawn_like(f, rng)
    f.load_state_dict(state)
    return f, state, AROUND.format(n_in=n_in, n_out=n_out, stride=stride)


@exercise("residual", points=1)
def test_the_sum_and_its_relu(student, rng):
    f, state, code = around(rng, 2, 2, 1)
    x = rng.normal(1, 2, 3, 3)
    got = student.run(f"{code}out = block(x)", ["out"], state=state, x=x)["out"]
    with torch.no_grad():
        change = f(x)
    expect.close(
        got, (x + change).relu(), of="residual(f)(x)", given={"x": x.tolist()}, rtol=1e-3,
        atol=1e-4,
        unless={
            "That has values below zero: the ReLU of the sum is missing.": x + change,
            "You took the ReLU of f(x); it belongs after the addition.": x + change.relu(),
            "The ReLU comes once, after the addition.": (x + change.relu()).relu(),
        },
    )  # fmt: skip


@exercise("residual", points=0.5)
def test_its_parameters(student, rng):
    f, state, code = around(rng, 2, 2, 1)
    found = student.run(
        f"{code}is_module = isinstance(block, nn.Module)\n"
        "count = sum(p.numel() for p in block.parameters()) if is_module else 0",
        ["is_module", "count"], state=state,
    )  # fmt: skip
    expect.true(
        found["is_module"] is True, "residual(f) should be an nn.Module, but it is something else."
    )
    wanted = sum(p.numel() for p in f.parameters())
    expect.true(
        found["count"] == wanted,
        f"The parameters of residual(f) should be the {wanted} numbers of f, but there are "
        f"{found['count'] or 'no parameters'}: an optimizer finds only what is registered, as an "
        "attribute that is a module.",
    )


@exercise("residual", points=0.5)
def test_shapes_that_differ(student, rng):
    for n_in, n_out, stride in ((3, 1, 1), (1, 3, 1), (2, 2, 2)):
        f, state, code = around(rng, n_in, n_out, stride)
        x = rng.normal(2, n_in, 4, 4)
        shapes = [str(tuple(t.shape)) for t in (x, f(x))]
        found = student.run(
            f"{code}kind, message = 'nothing', ''\n"
            "try:\n    block(x)\nexcept Exception as error:\n"
            "    kind, message = type(error).__name__, str(error)",
            ["kind", "message"], state=state, x=x,
        )  # fmt: skip
        expect.true(
            found["kind"] == "ValueError",
            f"residual(f)(x) should raise a ValueError where x has shape {shapes[0]} and f(x) has "
            f"{shapes[1]}, whether or not the two broadcast, but it raised {found['kind']}.",
        )
        expect.true(
            isinstance(found["message"], str)
            and all(shape.strip("()") in found["message"] for shape in shapes),
            f"The message should contain both shapes, {shapes[0]} and {shapes[1]}, but it is "
            f"{found['message']!r}.",
        )


# --- compatible

MODEL = """
from collections import OrderedDict
from torch import nn
model = nn.Sequential(
    OrderedDict(conv=nn.Conv2d(2, 3, 3), bn=nn.BatchNorm2d(3), fc=nn.Linear(3, 4))
)
"""


def state_of_the_model():
    return named(conv=nn.Conv2d(2, 3, 3), bn=nn.BatchNorm2d(3), fc=nn.Linear(3, 4)).state_dict()


def statistic(name):
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def compatible(own, file, same=lambda a, b: a.shape == b.shape):
    missing = [n for n in own if n not in file and not n.endswith("num_batches_tracked")]
    misshaped = [n for n in file if n in own and not same(file[n], own[n])]
    return [sorted(missing), sorted(n for n in file if n not in own), sorted(misshaped)]


def check_lists(student, file):
    own = state_of_the_model()
    right = compatible(own, file)
    numbers = compatible(own, file, lambda a, b: a.numel() == b.numel())
    counters = [n for n in own if n not in file and n.endswith("num_batches_tracked")]
    mistakes = {
        "A batch norm's running statistics belong to the model as well; see its state_dict.": (
            compatible({n: t for n, t in own.items() if not statistic(n)}, file)
        ),
        "The counters num_batches_tracked may be lacking.": [
            sorted(right[0] + counters), *right[1:]
        ],
        "Two tensors of equally many numbers can have different shapes.": numbers,
        "A name of another shape is in both: it is not missing.": [
            sorted(right[0] + right[2]), *right[1:]
        ],
    }  # fmt: skip
    got = student.run(f"{MODEL}out = compatible(model, weights)", ["out"], weights=file)["out"]
    expect.true(
        isinstance(got, list | tuple)
        and len(got) == 3
        and all(isinstance(part, list | tuple) for part in got),
        f"compatible(model, weights) should return three lists, but it returned {got!r:.100}.",
    )
    lists = [list(part) for part in got]
    because = [text for text, wrong in mistakes.items() if wrong == lists]
    expect.true(
        lists == right,
        f"For a model with {', '.join(own)}, and a file with "
        f"{', '.join(f'{n} {tuple(t.shape)}' for n, t in file.items())}, compatible should return "
        f"{right}, but it returned {lists}. {because[0] if because else ''}",
    )


def drawn_file(rng, lacking=0):
    """A file in any order, without counters and some more."""
    own = state_of_the_model()
    names = [n for n in own if not statistic(n)]
    out = {names[i] for i in rng.permutation(len(names))[:lacking]}
    kept = [n for n in own if n not in out and not n.endswith("num_batches_tracked")]
    return {kept[i]: own[kept[i]] for i in rng.permutation(len(kept))}


@exercise("compatible", points=1)
def test_missing_and_unexpected(student, rng):
    file = drawn_file(rng, lacking=2)
    for i in rng.permutation(9)[:2].tolist():
        file[f"layer{i}.weight"] = torch.zeros(2)
    check_lists(student, file)


@exercise("compatible", points=1)
def test_statistics(student, rng):
    file = drawn_file(rng)
    del file[rng.choice(["bn.running_mean", "bn.running_var"])]
    if rng.integer(0, 2):
        file["bn.num_batches_tracked"] = torch.tensor([7, 8])
    check_lists(student, file)


@exercise("compatible", points=1)
def test_other_shapes(student, rng):
    file = drawn_file(rng)
    file["fc.weight"] = file["fc.weight"].T.contiguous()
    name = rng.choice(["conv.weight", "conv.bias", "bn.weight", "bn.running_mean"])
    file[name] = torch.zeros(*file[name].shape, 2)
    check_lists(student, file)


# --- what_moves


def two_blocks():
    body = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Tanh(),
        nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Tanh(),
    )  # fmt: skip
    return named(
        body=body, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=nn.Linear(3, 3)
    )


def moved(rng, frozen, held, evaluating):
    """Train for a step, and look which tensors are different."""
    net = two_blocks().train(not evaluating)
    net.load_state_dict(drawn_like(net, rng))
    parameters = dict(net.named_parameters())
    optimizer = torch.optim.SGD([parameters[name] for name in held], lr=0.5)
    for name, p in parameters.items():
        p.requires_grad_(name not in frozen)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    F.cross_entropy(net(rng.normal(6, 1, 7, 7)), torch.tensor([0, 1, 2, 0, 1, 2])).backward()
    optimizer.step()
    return [name for name, t in net.state_dict().items() if not torch.equal(t, before[name])]


def check_moves(student, rng, frozen, held, evaluating):
    names = list(two_blocks().state_dict())
    right = moved(rng, frozen, held, evaluating)
    got = student.call("what_moves", names, frozen, held, evaluating)
    expect.true(
        isinstance(got, list | tuple) and all(isinstance(name, str) for name in got),
        f"what_moves should return a list of names, but it returned {got!r:.100}.",
    )
    extra, lacking = sorted(set(got) - set(right)), sorted(set(right) - set(got))
    expect.true(
        sorted(got) == sorted(right),
        f"With frozen={frozen}, held={held} and evaluating={evaluating}, a step changes "
        f"{len(right)} tensors. You leave out {', '.join(lacking) or 'none'}, and name "
        f"{', '.join(extra) or 'none'} too many. {misunderstood(extra, lacking, names, held)}",
    )


def misunderstood(extra, lacking, names, held):
    statistics = {name for name in names if statistic(name)}
    unknown = [name for name in extra if name not in held]
    if statistics <= set(lacking):
        return "Not only parameters change: the forward pass in training mode moves statistics."
    if statistics & set(lacking):
        return (
            "A batch norm in training mode lets its statistics follow every batch, though its own "
            "parameters are frozen. No gradient is needed for that."
        )
    if statistics & set(extra):
        return "In evaluation mode a batch norm uses its statistics and does not change them."
    if lacking:
        return (
            "Evaluation mode does not stop gradients: a parameter that has one and is held by the "
            "optimizer moves."
        )
    if unknown:
        return (
            f"The optimizer does not know {unknown[0]}: it moves only what it was given when it "
            "was made."
        )
    if extra:
        return f"With requires_grad=False, {extra[0]} has no gradient, and is not moved."
    return "Name each of them once."


def parameters_of_two_blocks():
    return [name for name, _ in two_blocks().named_parameters()]


@exercise("what_moves", points=1)
def test_a_body_frozen_by_hand(student, rng):
    names = parameters_of_two_blocks()
    block = rng.choice([("body.0", "body.1"), ("body.3", "body.4")])
    frozen = [name for name in names if name.startswith(block)]
    check_moves(student, rng, frozen, names, False)


@exercise("what_moves", points=1)
def test_an_optimizer_made_before_unfreezing(student, rng):
    names = parameters_of_two_blocks()
    held = [name for name in names if name.startswith(rng.choice([("head",), ("head", "body.4")]))]
    check_moves(student, rng, [], held, bool(rng.integer(0, 2)))


@exercise("what_moves", points=1)
def test_evaluation_mode(student, rng):
    body = [name for name in parameters_of_two_blocks() if "body" in name]
    head = [name for name in parameters_of_two_blocks() if "head" in name]
    order = [body[i] for i in rng.permutation(len(body))]
    # Of each kind: held and frozen, held, frozen and not held; one norm's scale always trains.
    frozen = [name for name in (*order[:2], *order[4:]) if name != "body.1.weight"]
    held = sorted({*order[:4], "body.1.weight", *head})
    check_moves(student, rng, frozen, held, True)


# --- PublishedBlock


def block_output(
    state, x, stride, training=False, strides=None, inner=False, last=True, on_shortcut=False
):
    """A block's output, and that of blocks with mistakes, from named tensors."""

    def norm(name, t):
        mean, var, weight, bias = (
            state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(t, mean.clone(), var.clone(), weight, bias, training)

    first, second = strides or (stride, 1)
    f = norm("bn1", F.conv2d(x, state["conv1.weight"], stride=first, padding=1)).relu()
    f = norm("bn2", F.conv2d(f, state["conv2.weight"], stride=second, padding=1))
    if "downsample.0.weight" in state:
        x = norm("downsample.1", F.conv2d(x, state["downsample.0.weight"], stride=stride))
    total = (f.relu() if inner else f) + (x.relu() if on_shortcut else x)
    return total.relu() if last else total


def drawn_block(rng, n_in, n_out, stride):
    shapes = {"conv1.weight": (n_out, n_in, 3, 3), "conv2.weight": (n_out, n_out, 3, 3)}
    norms = ["bn1", "bn2"]
    if stride != 1 or n_in != n_out:
        shapes["downsample.0.weight"] = (n_out, n_in, 1, 1)
        norms.append("downsample.1")
    state = {name: rng.normal(*shape) * 0.5 for name, shape in shapes.items()}
    for name in norms:
        state |= {f"{name}.{part}": rng.normal(n_out) for part in ("weight", "bias")}
        state[f"{name}.running_mean"] = rng.normal(n_out)
        state[f"{name}.running_var"] = rng.uniform(0.5, 2, n_out)
        state[f"{name}.num_batches_tracked"] = torch.tensor(0)
    return state


def check_block(student, rng, n_in, n_out, stride, training=False):
    state, x = drawn_block(rng, n_in, n_out, stride), rng.normal(1, n_in, 3, 3)
    found = student.run(
        f"block = PublishedBlock({n_in}, {n_out}, {stride})\nblock.load_state_dict(state)\n"
        f"block.train({training})\nout = block(x)",
        ["out"], state=state, x=x,
    )  # fmt: skip
    mistakes = {
        "The output has values below zero: what is the last thing that a block does?": dict(
            inner=True, last=False
        ),
        "One ReLU too many: f(x) must be able to lower the sum.": dict(inner=True),
        "There is no ReLU on the shortcut.": dict(on_shortcut=True),
        "With the stride in the second convolution one would get just that.": dict(
            strides=(1, stride)
        ),
    }
    mode = "training" if training else "evaluation"
    expect.close(
        found["out"], block_output(state, x, stride, training), rtol=1e-3, atol=1e-3,
        of=f"PublishedBlock({n_in}, {n_out}, {stride}) with given weights, in {mode} mode,",
        unless={
            text: block_output(state, x, stride, training, **mistake)
            for text, mistake in mistakes.items()
        },
    )  # fmt: skip


@exercise("PublishedBlock", points=1)
def test_a_block_that_keeps_the_shape(student, rng):
    check_block(student, rng, n := rng.integer(2, 4), n, 1)


@exercise("PublishedBlock", points=1)
def test_a_block_with_a_stride(student, rng):
    check_block(student, rng, 2, rng.integer(3, 5), 2)


@exercise("PublishedBlock", points=1)
def test_a_block_in_training_mode(student, rng):
    check_block(student, rng, 2, 3, 2, training=True)


# --- cached_features

BODY = """
import torch
from torch import nn
body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.5))
body.load_state_dict(state)
"""
SHUFFLED = """
class Shuffled:
    passes = 0
    def __iter__(self):
        self.passes += 1
        return iter(batches if self.passes == 1 else batches[1:] + batches[:1])
loader = Shuffled()
"""


def new_body():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.5))


def body_of(state):
    body = new_body().eval()
    body.load_state_dict(state)
    return body


def drawn_batches(rng):
    sizes = (2, 2, 1)
    labels = rng.permutation(sum(sizes)).split(sizes)
    return [(rng.normal(n, 1, 4, 3), y) for n, y in zip(sizes, labels, strict=True)]


def joined(batches):
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))


def a_pair(got):
    expect.true(
        isinstance(got, list | tuple) and len(got) == 2,
        f"cached_features should return features and labels, but it returned {got!r:.100}.",
    )
    return got


@exercise("cached_features", points=1)
def test_features_and_labels_in_one_pass(student, rng):
    state, batches = drawn_like(new_body(), rng), drawn_batches(rng)
    found = student.run(
        f"{BODY}{SHUFFLED}body.eval()\nout = cached_features(body, loader)\n"
        "parts = out if isinstance(out, (tuple, list)) else []\n"
        "graph = any(getattr(part, 'requires_grad', False) for part in parts)",
        ["out", "graph"], state=state, batches=batches,
    )  # fmt: skip
    features, labels = a_pair(found["out"])
    x, y = joined(batches)
    with torch.no_grad():
        right, other = body_of(state)(x), body_of(state)(joined(batches[1:] + batches[:1])[0])
    again = "On a second pass the loader gave another order: take both from the same pass."
    expect.close(
        features, right, of="the features of 3 batches, from a loader that shuffles,", rtol=1e-3,
        atol=1e-4, unless={again: other},
    )  # fmt: skip
    expect.close(
        labels, y, of="the labels, in the order of the features,",
        unless={again: joined(batches[1:] + batches[:1])[1]},
    )  # fmt: skip
    expect.true(
        found["graph"] is False,
        "The features should require no gradient, but they do, and keep the graph of every batch: "
        "compute them under torch.no_grad().",
    )


@exercise("cached_features", points=1)
def test_the_body_stays_as_it_was(student, rng):
    state, batches = drawn_like(new_body(), rng), drawn_batches(rng)
    found = student.run(
        f"{BODY}body.train()\nbody[3].eval()\n"
        "modes = [m.training for m in body.modules()]\n"
        "out = cached_features(body, batches)\n"
        "after = [m.training for m in body.modules()]\n"
        "mean = body[1].running_mean",
        ["out", "modes", "after", "mean"], state=state, batches=batches,
    )  # fmt: skip
    with torch.no_grad():
        right = body_of(state)(joined(batches)[0])
        body = body_of(state)
        body[1].train()
        wrong = torch.cat([body(x) for x, _ in batches])
    expect.close(
        a_pair(found["out"])[0], right, of="the features of a body in training mode", rtol=1e-3,
        atol=1e-4, unless={"Batch norm took the statistics of the batch: evaluate.": wrong},
    )  # fmt: skip
    expect.close(
        found["mean"], state["1.running_mean"],
        of="the running mean of the body's batch norm, which should not change,",
    )  # fmt: skip
    expect.true(
        found["modes"] == found["after"],
        "Each module should afterwards be in the mode in which it was: `training`, module by "
        f"module, was {found['modes']} and is {found['after']}.",
    )


@exercise("cached_features", points=1)
def test_a_generator_and_a_body_without_parameters(student, rng):
    batches = drawn_batches(rng)
    found = student.run(
        "from torch import nn\nbody = nn.Sequential(nn.AvgPool2d(2), nn.Flatten())\n"
        "out = cached_features(body, (batch for batch in batches))",
        ["out"], batches=batches,
    )  # fmt: skip
    features, labels = a_pair(found["out"])
    x, y = joined(batches)
    expect.close(
        features, F.avg_pool2d(x, 2).flatten(1), rtol=1e-3, atol=1e-5,
        of="the features of 3 batches from a generator",
    )  # fmt: skip
    expect.close(labels, y, of="the labels of 3 batches from a generator")


# --- thaw

GROUPS = """
from collections import OrderedDict
from torch import nn
def block():
    return nn.Sequential(nn.Conv2d(2, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU())
model = nn.Sequential(
    OrderedDict(
        [("stem", block()), ("act", nn.ReLU())]
        + [(f"stage{i}", block()) for i in range(stages)]
        + [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("fc", nn.Linear(2, 3))]
    )
)
def children_with(flag):
    return [name for name, child in model.named_children() if flag(child)]
"""
OPEN = """
opened = children_with(lambda child: any(p.requires_grad for p in child.parameters()))
partly = [p.requires_grad for part in opened for p in getattr(model, part).parameters()]
"""


def groups_of(stages):
    return ["stem", *(f"stage{i}" for i in range(stages)), "fc"]


@exercise("thaw", points=0.5)
@pytest.mark.parametrize("epoch", [0, 1, 9])
def test_the_open_groups(student, rng, epoch):
    stages = rng.integer(2, 4)
    groups = groups_of(stages)
    found = student.run(
        f"{GROUPS}model.requires_grad_(False)\nthaw(model, epoch)\n{OPEN}",
        ["opened", "partly"], stages=stages, epoch=epoch,
    )  # fmt: skip
    right = groups[-1 - epoch :] if epoch < len(groups) else groups
    because = ""
    if found["opened"] == groups[: epoch + 1]:
        because = " Open them from the head backwards, not from the input on."
    elif len(found["opened"]) < len(right):
        because = " A child without parameters is no group, and takes no epoch."
    expect.true(
        found["opened"] == right and all(found["partly"]),
        f"Of the groups {', '.join(groups)}, thaw(model, {epoch}) should open "
        f"{', '.join(right)}, all of their parameters, but it opens "
        f"{', '.join(found['opened']) or 'none'}.{because}",
    )


@exercise("thaw", points=0.5)
def test_groups_that_were_open_before(student, rng):
    stages = rng.integer(2, 4)
    found = student.run(
        f"{GROUPS}model.requires_grad_(True)\nthaw(model, 1)\n{OPEN}",
        ["opened", "partly"], stages=stages,
    )  # fmt: skip
    right = groups_of(stages)[-2:]
    expect.true(
        found["opened"] == right,
        f"thaw(model, 1) should leave only {', '.join(right)} open, whatever was before, but where "
        f"everything was open, open are {', '.join(found['opened']) or 'none'}.",
    )


@exercise("thaw", points=0.5)
def test_modes(student, rng):
    stages = rng.integer(2, 4)
    found = student.run(
        f"{GROUPS}model.train()\nmodel.fc.eval()\nthaw(model, 1)\n"
        "training = children_with(\n"
        "    lambda c: all(m.training for m in c.modules()) and list(c.parameters())\n)\n"
        "still = children_with(lambda c: not any(m.training for m in c.modules()))",
        ["training", "still"], stages=stages,
    )  # fmt: skip
    *closed, last, head = groups_of(stages)
    expect.true(
        found["training"] == [last, head],
        f"After thaw(model, 1), {last} and {head} should be in training mode and the other groups "
        "in evaluation mode, so that their batch norms keep still; in training mode are "
        f"{', '.join(found['training']) or 'none'}.",
    )
    expect.true(
        set(closed) <= set(found["still"]),
        f"After thaw(model, 1), every module of {', '.join(closed)} should be in evaluation mode, "
        f"so that their batch norms keep still, but wholly so are only {found['still']}.",
    )


@exercise("thaw", points=0.5)
def test_what_is_returned(student, rng):
    stages = rng.integer(2, 4)
    groups = groups_of(stages)
    for epoch, why in (
        (1, "of the last two groups"),
        (len(groups), f"of all groups, as after many epochs (there are {len(groups)} groups)"),
    ):
        found = student.run(
            f"{GROUPS}out = thaw(model, epoch)\nnames = {{id(p): n for n, p in "
            "model.named_parameters()}\nout = [names.get(id(p)) for p in out or []]\n"
            "every = list(names.values())",
            ["out", "every"], stages=stages, epoch=epoch,
        )  # fmt: skip
        right = [n for n in found["every"] if n.split(".")[0] in groups[max(-1 - epoch, -9) :]]
        expect.true(
            found["out"] == right,
            f"thaw(model, {epoch}) should return the parameters {why}, {', '.join(right)}, in this "
            f"order, but it returned {found['out']}.",
        )


# --- slice_of_loss

MATRICES = "nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))"
PICTURES = (
    "nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))"
)
NETS = {
    MATRICES: lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)),
    PICTURES: lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)
    ),
}


def by_filter(p, d):
    if p.ndim < 2:
        return torch.zeros_like(p)
    return torch.stack([e * f.norm() / e.norm() for e, f in zip(d, p, strict=True)])


def by_tensor(p, d):
    return torch.zeros_like(p) if p.ndim < 2 else d * p.norm() / d.norm()


def with_biases(p, d):
    return by_filter(p, d) if p.ndim > 1 else d * p.norm() / d.norm()


def unscaled(p, d):
    return torch.zeros_like(p) if p.ndim < 2 else d


def loss_slice(net, x, y, directions, n, scaled=by_filter):
    own = {name: p.detach() for name, p in net.named_parameters()}
    first, second = (
        [scaled(p, d) for p, d in zip(own.values(), each, strict=True)] for each in directions
    )
    losses, buffers = torch.zeros(n, n), dict(net.named_buffers())
    for i, a in enumerate(torch.linspace(-1, 1, n)):
        for j, b in enumerate(torch.linspace(-1, 1, n)):
            steps = zip(own.items(), first, second, strict=True)
            weights = {name: p + a * one + b * other for (name, p), one, other in steps}
            fresh = {name: t.clone() for name, t in buffers.items()}
            losses[i, j] = F.cross_entropy(torch.func.functional_call(net, weights | fresh, x), y)
    return losses


def check_slice(student, rng, kind, training=False):
    net = NETS[kind]()
    state = drawn_like(net, rng)
    net.load_state_dict(state)
    net.train(training)
    x = rng.normal(6, 1, 4, 4) if kind == PICTURES else rng.normal(6, 3)
    y = rng.integers(0, 3, 6)
    directions = [[rng.normal(*p.shape) for p in net.parameters()] for _ in range(2)]
    found = student.run(
        f"from torch import nn\nmodel = {kind}\nmodel.load_state_dict(state)\n"
        f"model.train({training})\nout = slice_of_loss(model, x, y, directions, 3)\n"
        "graph = bool(getattr(out, 'requires_grad', False))\nafter = dict(model.state_dict())",
        ["out", "graph", "after"], state=state, x=x, y=y, directions=directions,
    )  # fmt: skip
    right = loss_slice(net, x, y, directions, 3)
    mistakes = {
        "You gave each tensor of the direction the length of the whole parameter; it is the length "
        "of each filter that counts.": by_tensor,
        "Parameters of one dimension should stay: the direction is 0 there.": with_biases,
        "Those are the directions without scaling, as they came in.": unscaled,
    }
    expect.close(
        found["out"], right, of="slice_of_loss(model, x, y, directions, 3)", rtol=1e-3, atol=1e-4,
        unless={
            **{t: loss_slice(net, x, y, directions, 3, f) for t, f in mistakes.items()},
            "Rows and columns are exchanged: the first direction goes with the row.": right.T,
        },
    )  # fmt: skip
    return state, found


@exercise("slice_of_loss", points=1)
def test_linear_layers(student, rng):
    check_slice(student, rng, MATRICES)


@exercise("slice_of_loss", points=1)
def test_convolutions(student, rng):
    check_slice(student, rng, PICTURES)


@exercise("slice_of_loss", points=1)
def test_batch_norm_in_training_mode(student, rng):
    check_slice(student, rng, PICTURES, training=True)


@exercise("slice_of_loss", points=1)
def test_the_model_is_unchanged(student, rng):
    state, found = check_slice(student, rng, PICTURES, training=True)
    after = found["after"]
    changed = [
        name
        for name, t in state.items()
        if not (isinstance(after.get(name), torch.Tensor) and torch.equal(after[name], t))
    ]
    expect.true(
        not changed,
        "The model should be unchanged, bit for bit, statistics included, but changed are "
        f"{', '.join(changed)}. Adding and subtracting again leaves rounding errors.",
    )
    expect.true(
        found["graph"] is False, "The losses should require no gradient, but they require one."
    )
