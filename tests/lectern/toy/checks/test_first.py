"""Checks of the toy course's first chapter."""

import pytest
import torch

from lectern import expect

exercise = pytest.mark.exercise


def doubled(x):
    return 2 * x.clamp(min=0)


MISTAKES = {
    "You squared it.": lambda x: torch.where(x > 0, x**2, 0),
    "Values below 0 become 0.": lambda x: 2 * x,
    "It came back as it was.": lambda x: x.clamp(min=0),
}


@exercise("twice", points=1)
def test_several_values(student, rng):
    x = rng.uniform(3, 9, 4).round(decimals=1)
    x[rng.integer(0, 4)] *= -1
    expect.agrees(student, "twice", x, right=doubled, wrong=MISTAKES)


@exercise("twice", points=1)
def test_one_value_below_0(student, rng):
    x = -rng.uniform(1, 9, 1).round(decimals=1)
    y = torch.cat([x, rng.uniform(3, 9, 1)])
    expect.agrees(student, "twice", y, right=doubled, wrong=MISTAKES)


@exercise("total", points=1)
def test_the_sum(student, rng):
    expect.agrees(
        student, "total", rng.uniform(1, 9, 5).round(decimals=1), right=torch.sum,
        wrong={
            "That is the mean.": torch.mean,
            "That is the largest.": torch.max,
            "That is the last.": lambda x: x[-1],
        },
    )  # fmt: skip


@exercise("Counter", points=2)
def test_three_tensors(student, rng):
    shapes = [(rng.integer(2, 5), rng.integer(2, 5)) for _ in range(3)]
    tensors = [rng.normal(*shape) for shape in shapes]
    code = "counter = Counter()\nfor x in tensors: counter.show(x)\ncount = counter.count"
    got = student.run(code, ["count"], tensors=tensors)["count"]
    expect.close(
        got, sum(x.numel() for x in tensors), of="count", given=shapes,
        unless={
            "You counted tensors.": 3,
            "That is the last tensor alone.": tensors[-1].numel(),
            "You counted rows.": sum(len(x) for x in tensors),
        },
    )  # fmt: skip


@exercise("shape_of_product", points=1)
def test_a_product(student, rng):
    n = rng.permutation(9)[:3] + 1
    a, b = (int(n[0]), int(n[1])), (int(n[1]), int(n[2]))
    expect.agrees(
        student, "shape_of_product", a, b, right=lambda a, b: (a[0], b[1]),
        wrong={
            "That is the first factor's.": lambda a, b: a,
            "That is the second factor's.": lambda a, b: b,
            "That is turned round.": lambda a, b: (b[1], a[0]),
        },
    )  # fmt: skip


@exercise("step", points=2)
def test_a_step(student, rng):
    w, grad = rng.uniform(2, 3, 3), rng.uniform(2, 3, 3) * rng.choice([-1, 1])
    expect.agrees(
        student, "step", w, grad, 0.1, right=lambda w, grad, lr: w - lr * grad,
        wrong={
            "The step is the learning rate times the gradient.": lambda w, grad, lr: w - grad,
            "The sign is not enough.": lambda w, grad, lr: w - lr * grad.sign(),
            "Weights do not shrink here.": lambda w, grad, lr: w * (1 - lr),
        },
    )  # fmt: skip
