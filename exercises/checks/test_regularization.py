"""Checks of the exercises on regularization and data augmentation."""

import pytest
import torch

from lectern import expect

exercise = pytest.mark.exercise


# Stop with patience


def stops(better):
    def stop(history, patience):
        best = waited = None
        for epoch, loss in enumerate(history):
            if best is None or better(loss, best, history[epoch - 1]):
                best, waited = loss, 0
            else:
                waited += 1
            if waited == patience:
                return epoch
        return len(history) - 1

    return stop


patient = stops(lambda loss, best, before: loss < best)
NOT_PATIENT = {
    "You compare each loss with the epoch before; compare it with the best so far.": stops(
        lambda loss, best, before: loss < before
    ),
    "That is the epoch where the loss was lowest; the trainer learns that only later.": (
        lambda history, patience: patient(history, patience) - patience
    ),
    "That is one epoch too many: with a patience of k it stops at the k-th epoch in a row "
    "without a new best.": lambda history, patience: patient(history, patience + 1),
}
TIE = {
    "A loss that equals the best has not gone below it.": stops(lambda loss, best, _: loss <= best)
}


@exercise("early_stop", points=1)
def test_stops_when_patience_is_over(student, rng):
    def draw():
        falling = [9, 7, 6 - rng.integer(0, 2), 4]
        after = [rng.integer(5, 9) for _ in range(6)]
        lift = 5 * rng.integer(0, 3)
        return [(n + lift) / 10 for n in [*falling, *after, 2, 1]], rng.integer(2, 4)

    args = rng.telling(draw, patient, *NOT_PATIENT.values())
    expect.agrees(student, "early_stop", *args, right=patient, wrong=NOT_PATIENT)


@exercise("early_stop", points=0.5)
def test_a_tie_is_no_new_best(student, rng):
    low = rng.integer(3, 6)
    history = [(low + n) / 10 for n in (4, 2, 0, 0, 0, 3, 1, -1, -2)]
    expect.agrees(
        student, "early_stop", history, rng.integer(2, 4), right=patient,
        wrong={**TIE, **NOT_PATIENT},
    )  # fmt: skip


@exercise("early_stop", points=0.5)
def test_the_last_epoch_if_patience_lasts(student, rng):
    low = rng.integer(3, 6)
    history = [(low + n) / 10 for n in (6, 4, 5, 2, 3, 1, 1)]
    expect.agrees(
        student, "early_stop", history, rng.integer(3, 5), right=patient, wrong=NOT_PATIENT
    )


# Dropout

TRAIN = "layer = Dropout(p)\nfirst = layer(x)\nsecond = layer(x)"


def expect_dropped(factor, p, of):
    """Each factor is 0 with probability p, and 1 / (1 - p) otherwise."""
    dropped = (factor.abs() < 1e-6).double().mean().item()
    kept = factor[factor.abs() >= 1e-6]
    share = f"{dropped:.0%} of the numbers are 0"
    margin = 5 * (p * (1 - p) / factor.numel()) ** 0.5
    hint = " p is the probability of dropping, not the probability of keeping."
    expect.true(
        abs(dropped - p) < margin,
        f"{of} should drop {p:.0%} of the numbers, up to chance, but {share}."
        + hint * (abs(dropped - (1 - p)) < margin),
    )
    wanted = 1 / (1 - p)
    found = kept.mean().item()
    because = (
        " They are as large as before, so that the sum shrinks." if abs(found - 1) < 1e-3 else ""
    )
    expect.true(
        bool(((kept - wanted).abs() < 1e-3).all()),
        f"{of} should enlarge what it keeps by 1 / (1 − p) = {wanted:.4g}, but the factor is "
        f"{found:.4g} on average.{because}",
    )


def trained(student, rng, p, *shape):
    x = rng.uniform(1, 2, *shape)
    got = student.run(TRAIN, ["first", "second"], x=x, p=p)
    of = f"Dropout({p})(x) in training mode"
    return (
        x,
        expect.numbers(got["first"], shape, of) / x,
        expect.numbers(got["second"], shape, of) / x,
    )


@exercise("Dropout", points=1)
def test_training_drops_and_enlarges(student, rng):
    p = rng.choice([0.1, 0.2, 0.3, 0.7])
    _, factor, _ = trained(student, rng, p, 40, 50)
    expect_dropped(factor, p, f"Dropout({p})(x) in training mode")


@exercise("Dropout", points=0.5)
def test_each_number_for_itself_and_anew(student, rng):
    _, first, second = trained(student, rng, 0.4, 6, 40)
    rows = len({tuple(row) for row in (first == 0).tolist()})
    expect.true(
        rows > 1,
        "Each number should be dropped for itself, but the mask is the same for every example of "
        "the batch.",
    )
    columns = len({tuple(column) for column in (first == 0).T.tolist()})
    expect.true(
        columns > 1, "Each number should be dropped for itself, not whole examples at once."
    )
    expect.true(
        not torch.equal(first == 0, second == 0),
        "Two calls should draw two masks, but both dropped the same numbers.",
    )


@exercise("Dropout", points=0.5)
def test_in_use_nothing_happens(student, rng):
    x, p = rng.uniform(1, 2, 20, 20).round(decimals=1), rng.choice([0.25, 0.75])
    code = "layer = Dropout(p)\nlayer.eval()\nout = layer(x)\nlayer.train()\nagain = layer(x)"
    got = student.run(code, ["out", "again"], x=x, p=p)
    of = f"Dropout({p})(x) in evaluation mode"
    out = expect.numbers(got["out"], x.shape, of)
    expect.true(bool((out != 0).all()), f"{of} should be x, but some numbers were still dropped.")
    scaled = "Kept numbers are enlarged while training, so in use nothing is multiplied."
    expect.close(out, x, of=of, unless={scaled: x * (1 - p)})
    again = expect.numbers(got["again"], x.shape, "The output after layer.train()")
    expect.true(bool((again == 0).any()), "After layer.train() the layer should drop again.")


@exercise("Dropout", points=0.5)
def test_the_gradient_flows_through_what_is_kept(student, rng):
    p = rng.choice([0.2, 0.6])
    x = rng.uniform(1, 2, 40, 50)
    code = (
        "x = x.clone().requires_grad_()\nout = Dropout(p)(x)\nout.sum().backward()\ngrad = x.grad"
    )
    got = student.run(code, ["out", "grad"], x=x, p=p)
    factor = expect.numbers(got["out"], x.shape, f"Dropout({p})(x)") / x
    expect_dropped(factor, p, f"Dropout({p})(x)")
    grad = expect.numbers(got["grad"], x.shape, "The gradient of the sum of the outputs")
    expect.close(grad, factor, of="The gradient of the sum of the outputs", rtol=1e-3)


@exercise("Dropout", points=0.5)
def test_p_out_of_range(student, rng):
    for p in (1.0, -0.1 * rng.integer(1, 5), 1.0 + 0.5 * rng.integer(1, 5)):
        expect.raises(
            student, "Dropout", p, kind="ValueError", because="because p is from 0 to below 1"
        )


# Repair: whole channels


def channels(student, rng, p):
    """For each picture and channel, what dropout_rows multiplied it with."""
    x = rng.uniform(1, 2, 40, 30, 2, 2)
    got = expect.numbers(student.call("dropout_rows", x, p), x.shape, "dropout_rows(x, p)") / x
    dropped = got == 0
    expect.true(
        bool((dropped.flatten(2).all(2) == dropped.flatten(2).any(2)).all()),
        "A channel should be kept or dropped as a whole, but some were dropped only in part.",
    )
    return got[:, :, 0, 0]


@exercise("dropout_rows", points=1)
def test_p_is_for_dropping_and_the_mean_is_kept(student, rng):
    p = rng.choice([0.1, 0.2, 0.7])
    x = rng.uniform(1, 2, 3, 4, 1, 1).round(decimals=1)
    got = expect.numbers(student.call("dropout_rows", x, 0.0), x.shape, "dropout_rows(x, 0.0)")
    rule = " p is the probability of dropping."
    expect.true(
        bool((got != 0).all()) and bool(got.isfinite().all()),
        f"With p = 0 nothing should be dropped, but {int((got == 0).sum())} of 12 numbers are 0 "
        f"and {int((~got.isfinite()).sum())} not finite.{rule}",
    )
    expect.close(got, x, of="dropout_rows(x, 0.0)", given=x)
    factor = channels(student, rng, p)
    kept = factor[factor != 0]
    expect.true(len(kept) > 0, f"With p = {p}, some channels should be kept, but none was.{rule}")
    expect.true(
        bool(((kept - 1 / (1 - p)).abs() < 1e-3).all()),
        f"With p = {p}, kept channels should be multiplied by 1 / (1 − p) = {1 / (1 - p):.4g}, but "
        f"they are by {kept.mean().item():.4g}.{rule}",
    )


@exercise("dropout_rows", points=1)
def test_each_channel_of_each_picture_for_itself(student, rng):
    p = rng.choice([0.2, 0.3, 0.7])
    dropped = channels(student, rng, p) == 0
    expect.true(
        not bool((dropped == dropped[:1]).all()),
        "Each picture should lose channels of its own, but the same ones are gone in every picture "
        "of the batch.",
    )
    expect.true(
        not bool((dropped == dropped[:, :1]).all()),
        "Each channel should be decided for itself, but whole pictures were dropped or kept.",
    )
    share = dropped.double().mean().item()
    expect.true(
        abs(share - p) < 5 * (p * (1 - p) / dropped.numel()) ** 0.5,
        f"With p = {p}, {p:.0%} of the channels should be dropped, up to chance, but {share:.0%} "
        "are. p is the probability of dropping.",
    )


# Predict: what decay leaves of a weight


def compounded(rule, lr, decay, steps):
    return (1 - lr * decay) ** steps


NOT_COMPOUNDED = {
    "A step takes away the share ηλ; you left out the learning rate η.": (
        lambda rule, lr, decay, steps: max(1 - decay, 0.0) ** steps
    ),
    "A step takes a share of what is left, not of the first value.": (
        lambda rule, lr, decay, steps: 1 - lr * decay * steps
    ),
}


@exercise("share_left", points=0.5)
@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_a_share_at_each_step(student, rng, rule):
    args = rule, rng.choice([0.001, 0.002]), rng.choice([2.0, 3.0]), 10 * rng.integer(15, 30)
    expect.agrees(
        student, "share_left", *args, right=compounded, wrong=NOT_COMPOUNDED, rtol=0, atol=1e-3
    )


@exercise("share_left", points=1)
@pytest.mark.parametrize("decay", [0.01, 10.0])
def test_adam_with_the_penalty_within(student, rng, decay):
    lr, steps = 0.001, 10 * rng.integer(6, 16)
    w = torch.ones(1, dtype=torch.float64, requires_grad=True)
    opt = torch.optim.Adam([w], lr=lr, weight_decay=decay)
    for _ in range(steps):
        w.grad = torch.zeros_like(w)
        opt.step()
    expect.close(
        student.call("share_left", "adam", lr, decay, steps), w.item(), rtol=0, atol=0.02,
        of=f"share_left('adam', {lr}, {decay}, {steps})",
        unless={
            "Within Adam, the penalty is divided by its own size, and λ cancels.": compounded(
                "adam", lr, decay, steps
            ),
            "The data give no gradient, but the penalty λw is a gradient too.": 1.0,
        },
    )  # fmt: skip


# Cut a square out

CUT = "g = torch.Generator().manual_seed(seed)\nout = cutout(x, size, g)"


def cut(student, rng, n, height, width, size):
    """Where cutout cut: for each picture True where it is black. All else must be as it was."""
    x = rng.uniform(1, 2, n, 2, height, width)
    of = f"cutout of {n} pictures of {height} by {width} pixels, size {size},"
    got = student.run(CUT, ["out"], x=x, size=size, seed=rng.integer(0, 10**6))["out"]
    out = expect.numbers(got, x.shape, of)
    black = out == 0
    expect.true(
        torch.equal(black[:, 0], black[:, 1]), f"{of} should cut the same pixels from all channels."
    )
    expect.true(
        torch.allclose(torch.where(black, x, out.float()), x),
        f"{of} should leave every pixel outside of the square as it is.",
    )
    return black[:, 0]


def expect_squares(black, size):
    for picture in black:
        rows, columns = picture.any(1).nonzero(), picture.any(0).nonzero()
        count = int(picture.sum())
        expect.true(
            count == size * size,
            f"A square of {size} by {size} should make {size * size} pixels black, but in one "
            f"picture there are {count}."
            + " Does it hang over the edge?"
            * (0 < count < size * size),
        )
        expect.true(
            len(rows) == size and len(columns) == size,
            f"The black pixels should form a square of {size} by {size}, but they spread over "
            f"{len(rows)} rows and {len(columns)} columns.",
        )


@exercise("cutout", points=1)
def test_a_square_wholly_inside(student, rng):
    size = rng.integer(2, 4)
    expect_squares(cut(student, rng, 60, 5, 7, size), size)
    expect_squares(cut(student, rng, 6, 4, 6, 4), 4)


@exercise("cutout", points=1)
def test_every_place_and_one_for_each_picture(student, rng):
    size = 3
    black = cut(student, rng, 400, 5, 6, size)
    expect_squares(black, size)
    corners = {tuple(picture.nonzero()[0].tolist()) for picture in black}
    expect.true(
        len(corners) > 1, "Each picture should have a place of its own, but all have the same."
    )
    missing = sorted({(i, j) for i in range(3) for j in range(4)} - corners)
    expect.true(
        not missing,
        "A square of 3 fits into 5 by 6 pixels with its upper left corner at 12 places, but in 400 "
        f"pictures (row, column) = {missing} never appeared.",
    )


@exercise("cutout", points=0.5)
def test_the_same_seed_cuts_the_same(student, rng):
    x = rng.uniform(1, 2, 30, 1, 6, 6)
    code = f"{CUT}\nfirst = out\n{CUT}"
    got = student.run(code, ["first", "out"], x=x, size=2, seed=rng.integer(0, 10**6))
    first, second = (
        expect.numbers(got[name], x.shape, "cutout(x, 2, g)") for name in ("first", "out")
    )
    expect.true(
        torch.equal(first, second),
        "Two generators with the same seed should give the same squares, but they did not: is "
        "something drawn without the generator?",
    )


@exercise("cutout", points=0.5)
def test_the_input_stays(student, rng):
    x = rng.uniform(1, 2, 4, 1, 6, 6)
    got = student.run(CUT, ["out", "x"], x=x, size=2, seed=rng.integer(0, 10**6))
    after = expect.numbers(got["x"], x.shape, "x after cutout(x, 2, g)")
    expect.true(
        torch.equal(after.float(), x),
        "x should be as it was after the call, but cutout wrote into it. Return a new tensor.",
    )
    expect_squares(expect.numbers(got["out"], x.shape, "cutout(x, 2, g)")[:, 0] == 0, 2)


# Split by person

PATTERN = r"([a-z]+)_\d+\.png$"


def album(rng):
    """Ten people with one to six files each, in a random order."""
    people = [f"{a}{b}{c}" for a in "bdl" for b in "aeiou" for c in "mn"]
    chosen = [people[i] for i in rng.permutation(len(people))[:10].tolist()]
    counts = [1, 1, 2, 2, 3, 3, 4, 5, 6, 6]
    names = [
        f"Photos/{who}_{k}.png" for who, n in zip(chosen, counts, strict=True) for k in range(n)
    ]
    return [names[i] for i in rng.permutation(len(names)).tolist()]


def who_is(name):
    return name.split("/")[1].split("_")[0]


def split(student, names, fraction, seed):
    """The two lists of indices of split_by_group, all of them valid."""
    got = student.call("split_by_group", names, PATTERN, fraction, seed)
    of = f"split_by_group of {len(names)} names"
    expect.true(
        isinstance(got, tuple | list) and len(got) == 2, f"{of} should return two lists of indices."
    )
    parts = []
    for part, of_part in zip(got, ("training", "validation"), strict=True):
        try:
            numbers = [int(i) for i in part]
        except (TypeError, ValueError, RuntimeError):
            numbers = None
        expect.true(numbers is not None, f"{of} should return whole numbers for {of_part}.")
        parts.append(numbers)
    missed = sorted(set(range(len(names))) - {*parts[0], *parts[1]})
    expect.true(
        sorted(parts[0] + parts[1]) == list(range(len(names))),
        f"{of} should have each index from 0 to {len(names) - 1} in one of its lists, once; "
        f"{missed or 'none'} is missing, and the lists have {len(parts[0])} and {len(parts[1])}.",
    )
    return parts


@exercise("split_by_group", points=1)
def test_nobody_is_on_both_sides(student, rng):
    names = album(rng)
    for fraction in (0.3, 0.5):
        train, valid = split(student, names, fraction, rng.integer(0, 1000))
        both = sorted({who_is(names[i]) for i in train} & {who_is(names[i]) for i in valid})
        expect.true(
            not both,
            f"Nobody should be on both sides, but {', '.join(both[:3])} is, so that a validation "
            "picture has a brother among the training pictures.",
        )
        expect.true(
            train == sorted(train) and valid == sorted(valid),
            "Both lists of indices should be in ascending order, but one is not.",
        )


@exercise("split_by_group", points=1)
def test_a_fraction_of_the_persons(student, rng):
    names = album(rng)
    for fraction, wanted in ((0.2, 2), (0.4, 4), (0.7, 7)):
        drawn = []
        for seed in range(6):
            _, valid = split(student, names, fraction, seed + rng.integer(0, 1000))
            people = {who_is(names[i]) for i in valid}
            expect.true(
                len(people) == wanted,
                f"Of 10 persons, a fraction of {fraction} should be {wanted} for validation, but "
                f"there are {len(people)}. It is a fraction of the persons, not of the files.",
            )
            drawn.append(frozenset(people))
        expect.true(
            len(set(drawn)) > 1, "Other seeds should draw other persons, but six drew the same."
        )


@exercise("split_by_group", points=0.5)
def test_the_same_persons_in_any_order_of_the_names(student, rng):
    names, seed = album(rng), rng.integer(0, 1000)
    first = {who_is(names[i]) for i in split(student, names, 0.4, seed)[1]}
    for other in (names, sorted(names), sorted(names, reverse=True)):
        again = {who_is(other[i]) for i in split(student, other, 0.4, seed)[1]}
        what = "the same names" if other is names else "the same names in another order"
        expect.true(
            again == first,
            f"The same seed should draw the same persons from {what}, but it drew {sorted(again)}, "
            f"and before {sorted(first)}. Not every disk lists files in the same order.",
        )


@exercise("split_by_group", points=0.5)
def test_a_name_without_a_person(student, rng):
    names = album(rng)[:6]
    names.insert(rng.integer(0, 6), odd := f"Photos/{rng.integer(100, 999)}.txt")
    expect.raises(
        student, "split_by_group", names, PATTERN, 0.5, 0, kind="ValueError",
        because=f"since the pattern is not found in {odd!r} and no file may be dropped silently",
    )  # fmt: skip


# The matrix from four corners


def solved(corners, targets, sign=-1.0):
    p = torch.cat([corners.double(), torch.ones(4, 1)], 1)
    zero, (u, v) = torch.zeros_like(p), targets.double().T[:, :, None]
    above = torch.cat([p, zero, sign * u * p[:, :2]], 1)
    below = torch.cat([zero, p, sign * v * p[:, :2]], 1)
    numbers = torch.linalg.solve(torch.cat([above, below]), targets.double().T.reshape(-1))
    return torch.cat([numbers, torch.ones(1)]).view(3, 3)


def affine(corners, targets):
    p = torch.cat([corners, torch.ones(4, 1)], 1).double()
    top = torch.linalg.lstsq(p, targets.double()).solution.T
    return torch.cat([top, torch.tensor([[0.0, 0.0, 1.0]])])


def swapped(corners, targets):
    return solved(corners, targets)[[1, 0, 2]][:, [1, 0, 2]]


NOT_SOLVED = {
    "That takes the targets to the corners.": lambda c, t: solved(t, c),
    "Your third row is (0, 0, 1), but four points go to any other four only with a tilt.": affine,
    "On the left of the equations, the denominator comes with the other sign.": lambda c, t: solved(
        c, t, 1.0
    ),
    "In a point (x, y), x comes first.": swapped,
}


def quadrilateral(rng):
    square = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    return (square + rng.uniform(-0.4, 0.4, 4, 2)).round(decimals=1)


def applied(matrix, points):
    out = torch.cat([points.double(), torch.ones(len(points), 1)], 1) @ matrix.T
    return out[:, :2] / out[:, 2:]


def two(rng):
    def tells(c, t):
        return min((solved(c, t) - f(c, t)).abs().max() for f in NOT_SOLVED.values()) > 0.05

    while True:
        corners, targets = quadrilateral(rng), quadrilateral(rng)
        if tells(corners, targets) and solved(corners, targets).abs().max() < 20:
            return corners, targets


@exercise("homography", points=2)
def test_corners_go_to_targets(student, rng):
    corners, targets = two(rng)
    of = "homography(corners, targets)"
    matrix = expect.numbers(student.call("homography", corners, targets), (3, 3), of)
    expect.close(
        applied(matrix, corners), targets, rtol=1e-3, atol=1e-3,
        of="Where the matrix takes the corners (multiply, then divide by the third number)",
        given=corners,
        unless={text: applied(f(corners, targets), corners) for text, f in NOT_SOLVED.items()},
    )  # fmt: skip


@exercise("homography", points=1)
def test_the_numbers_of_the_matrix(student, rng):
    corners, targets = two(rng)
    of = "homography(corners, targets)"
    matrix = expect.numbers(student.call("homography", corners, targets), (3, 3), of)
    last = matrix[2, 2].item()
    expect.true(
        abs(last - 1) < 1e-3,
        f"Of all multiples of the matrix, that with H[2, 2] = 1 is wanted; here it is {last:.4g}.",
    )
    wrong = {text: f(corners, targets) for text, f in NOT_SOLVED.items()}
    expect.close(matrix, solved(corners, targets), of=of, rtol=1e-3, atol=1e-3, unless=wrong)


@exercise("homography", points=1)
def test_without_a_tilt_the_third_row_is_0_0_1(student, rng):
    corners = quadrilateral(rng)
    turn = torch.tensor([[1.0, 0.5, 2.0], [-0.5, 1.5, 0.0], [0.0, 0.0, 1.0]])
    turn[:2, 2] = rng.uniform(1, 3, 2).round(decimals=1)
    targets = applied(turn.double(), corners).float()
    expect.close(
        student.call("homography", corners, targets), turn, of="homography(corners, targets)",
        given=targets, rtol=1e-3, atol=1e-3,
        unless={"That takes the targets to the corners.": turn.inverse()},
    )  # fmt: skip


# Experiment: pieces that never moved

TARGET = 0.8


def patterns(rng):
    """Four patterns of 6 by 6, each pair mirror images, no two alike."""
    while True:
        a, b = (rng.uniform(0, 1, 2, 6, 6) < 0.5).float()
        four = torch.stack([a, a.flip(1), b, b.flip(1)])
        apart = torch.cdist(four.flatten(1), four.flatten(1), p=1) + 99 * torch.eye(4)
        if apart.min() >= 14:
            return four


def pictures(rng, four, n, reach):
    x, y = 0.3 * rng.normal(n, 1, 12, 12), torch.arange(n) % 4
    for picture, label in zip(x, y, strict=True):
        i, j = rng.integer(3 - reach, 4 + reach), rng.integer(3 - reach, 4 + reach)
        picture[0, i : i + 6, j : j + 6] += four[label]
    return x, y


def asked(student, rng, n):
    """Train in the learner's process; return scores of still and moved pictures, and the truth."""
    four = patterns(rng)
    (x, y), (still, truth), (moved, _) = (
        pictures(rng, four, m, reach) for m, reach in ((80, 0), (n, 0), (n, 3))
    )
    code = (
        "predict = learn_pieces(x, y)\nfirst = predict(still)\n"
        "second, again = predict(moved), predict(moved)"
    )
    names = ["first", "second", "again"]
    got = student.run(code, names, x=x, y=y, still=still, moved=moved, seconds=30)
    return [
        expect.numbers(got[name], (n, 4), "The scores of the pictures") for name in names
    ], truth


@exercise("learn_pieces", points=3)
def test_pictures_that_moved(student, rng):
    (still, moved, _), truth = asked(student, rng, 400)
    answer = moved.argmax(1)
    right = (answer == truth).double().mean().item()
    at_rest = (still.argmax(1) == truth).double().mean().item()
    missed = answer != truth
    mirrored = (answer[missed] == (truth ^ 1)[missed]).double().mean().item() if missed.any() else 0
    because = ""
    if mirrored > 0.7:
        because = (
            f" Of the mistakes, {mirrored:.0%} name the mirror image of the right pattern: did "
            "training leave the labels right?"
        )
    elif at_rest > right + 0.3:
        because = (
            f" In the middle it reads {at_rest:.0%}: it knows the patterns only where it saw them."
        )
    expect.true(
        right >= TARGET,
        f"Of 400 moved pictures, {TARGET:.0%} should be read rightly; {right:.0%} are.{because}",
    )


@exercise("learn_pieces", points=1)
def test_the_same_answers_twice(student, rng):
    (still, first, second), truth = asked(student, rng, 200)
    right = (still.argmax(1) == truth).double().mean().item()
    expect.true(
        right >= TARGET,
        f"Of 200 pictures in the middle, as in training, {TARGET:.0%} should be read rightly, but "
        f"{right:.0%} are.",
    )
    expect.true(
        torch.allclose(first, second, atol=1e-4),
        "The same pictures, asked twice, should get the same scores, but the second time there "
        "were other answers. In which mode is the model?",
    )
