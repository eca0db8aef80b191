"""Checks of the exercises on variance."""

import math

import pytest
import torch

from lectern import expect

exercise = pytest.mark.exercise


def standardized(x, dim):
    rest = x - x.mean(dim, keepdim=True)
    spread = x.std(dim, correction=0, keepdim=True)
    return rest / torch.where(spread > 0, spread, 1)


def with_n_minus_1(x, dim):
    return (x - x.mean(dim, keepdim=True)) / x.std(dim, keepdim=True)


def over_everything(x, dim):
    return (x - x.mean()) / x.std(correction=0)


@exercise("standardize", points=0.5)
@pytest.mark.parametrize("dim", [0, 1])
def test_mean_0_and_deviation_1(student, rng, dim):
    expect.agrees(
        student, "standardize", rng.uniform(0, 9, 3, 4).round(decimals=1), dim,
        right=standardized,
        wrong={
            "You divided by n − 1, which makes the deviation a little less than 1.": with_n_minus_1,
            "The mean is to be taken along dim, not of everything.": over_everything,
        },
    )  # fmt: skip


@exercise("standardize", points=1)
def test_constants_become_zeros(student, rng):
    x = torch.stack([rng.uniform(0, 9, 3).round(decimals=1), torch.full((3,), 2.0)])
    got = student.call("standardize", x, 1)
    expect.close(
        got, standardized(x, 1), of="standardize(x, 1)", given=x,
        unless={
            "0 / 0 is NaN: a row of equal numbers needs care.": (x - x.mean(1, keepdim=True))
            / x.std(1, correction=0, keepdim=True),
            "You divided by n − 1.": with_n_minus_1(x, 1).nan_to_num(),
            "The mean is to be taken along dim, not of everything.": over_everything(x, 1),
        },
    )  # fmt: skip


def mad(x):
    return (x - x.quantile(0.5)).abs().quantile(0.5)


NOT_MAD = {
    "That is the distance from the mean.": lambda x: (x - x.mean()).abs().quantile(0.5),
    "That is the mean of the distances.": lambda x: (x - x.quantile(0.5)).abs().mean(),
}
LOWER = {
    "torch.median takes the lower of the two values in the middle.": lambda x: (
        (x - x.median()).abs().median()
    )
}


@exercise("median_absolute_deviation", points=1)
def test_an_odd_number_of_values(student, rng):
    x = rng.telling(lambda: rng.normal(5).round(decimals=1) + 0.0, mad, *NOT_MAD.values())
    expect.agrees(student, "median_absolute_deviation", x, right=mad, wrong=NOT_MAD)


@exercise("median_absolute_deviation", points=1)
def test_an_even_number_of_values(student, rng):
    wrong = {**NOT_MAD, **LOWER}
    x = rng.telling(lambda: rng.normal(6).round(decimals=1) + 0.0, mad, *wrong.values())
    expect.agrees(student, "median_absolute_deviation", x, right=mad, wrong=wrong)


def pooled(counts, means, variances):
    share = counts / counts.sum()
    return (share * (variances + (means - (share * means).sum()) ** 2)).sum()


NOT_POOLED = {
    "That leaves out how far the means lie apart.": lambda c, m, v: (c / c.sum() * v).sum(),
    "You took the mean of the means, though the parts differ in size.": lambda c, m, v: (
        c / c.sum() * (v + (m - m.mean()) ** 2)
    ).sum(),
    "A part counts by how many numbers it has.": lambda c, m, v: (v + (m - m.mean()) ** 2).mean(),
}


@exercise("pooled_variance", points=3)
def test_parts_of_different_sizes(student, rng):
    def draw():
        parts = int(rng.integers(2, 5, 1))
        return (
            rng.integers(1, 9, parts).float(),
            rng.normal(parts).round(decimals=1) + 0.0,
            rng.uniform(0, 2, parts).round(decimals=1),
        )

    args = rng.telling(draw, pooled, *NOT_POOLED.values())
    expect.agrees(student, "pooled_variance", *args, right=pooled, wrong=NOT_POOLED)


def layers(std, widths, sigmas, relu, keep=0.5):
    """Return the deviations of the layers' outputs; a ReLU keeps a half of the mean square."""
    found, square = [], std**2
    for n, sigma in zip(widths, sigmas, strict=True):
        found.append(math.sqrt(n * sigma**2 * square))
        square = found[-1] ** 2 * (keep if relu else 1)
    return found


NOT_LAYERS = {
    "A sum of n products has n times their variance, so √n times their deviation.": lambda *a: [
        s * math.prod(math.sqrt(n) for n in a[1][: i + 1]) for i, s in enumerate(layers(*a))
    ],
    "The number of inputs is missing: their variances add up.": lambda *a: [
        s / math.prod(math.sqrt(n) for n in a[1][: i + 1]) for i, s in enumerate(layers(*a))
    ],
    "These are variances.": lambda *a: [s**2 for s in layers(*a)],
    "The ReLU is missing.": lambda std, widths, sigmas, relu: layers(std, widths, sigmas, False),
    "A ReLU halves the mean square, not the deviation.": lambda *a: layers(*a, keep=0.25),
    "After a ReLU the mean is not 0. It is not the variance that counts, but the mean square.": (
        lambda *a: layers(*a, keep=0.5 - 0.5 / math.pi)
    ),
}


@exercise("layer_deviations", points=1.5)
@pytest.mark.parametrize("relu", [False, True])
def test_layers(student, rng, relu):
    depth = rng.integer(2, 4)
    args = (
        rng.integer(2, 5) / 2,
        rng.integers(20, 90, depth).tolist(),
        [n / 100 for n in rng.integers(6, 20, depth).tolist()],
        relu,
    )
    expect.agrees(student, "layer_deviations", *args, right=layers, wrong=NOT_LAYERS, rtol=1e-3)


def matrix(x):
    return torch.corrcoef(x.T)


def mixed(x):
    d = x - x.mean(0)
    return d.T @ d / len(x) / (x.std(0)[:, None] * x.std(0))


NOT_MATRIX = {
    "The diagonal is not 1: one convention (n or n − 1) must hold throughout.": mixed,
    "That is the covariance. Divide by both standard deviations.": lambda x: torch.cov(
        x.T, correction=0
    ),
    "That is the covariance, and not yet the correlation.": lambda x: torch.cov(x.T),
    "Subtract the mean of each column, not that of everything.": lambda x: (
        torch.nn.functional.normalize(x - x.mean(), dim=0).T
        @ torch.nn.functional.normalize(x - x.mean(), dim=0)
    ),
}


@exercise("correlation_matrix", points=1.5)
def test_correlations_of_columns(student, rng):
    x = rng.uniform(0, 9, 4, 3).round(decimals=1)
    got = student.call("correlation_matrix", x)
    rows = isinstance(got, torch.Tensor) and got.shape == (4, 4)
    expect.true(
        not rows,
        "For x of shape (4, 3), 4 items with 3 features, the matrix should have shape (3, 3), but "
        "it has (4, 4): the features are the columns of x.",
    )
    expect.close(
        got, matrix(x), of="correlation_matrix(x)", given=x,
        unless={sentence: wrong(x) for sentence, wrong in NOT_MATRIX.items()},
    )  # fmt: skip


@exercise("correlation_matrix", points=1.5)
def test_columns_on_different_scales(student, rng):
    x = rng.normal(50, 3) @ rng.normal(3, 3)
    x = x / x.std(0) * torch.tensor([0.01, 1, 100]) + torch.tensor([5.0, 10_000, -300])
    expect.close(
        student.call("correlation_matrix", x), matrix(x.double()),
        of="correlation_matrix(x) of 50 rows, with columns around 5, 10,000 (where "
        "E[xy] − E[x]E[y] loses its digits) and −300,",
        atol=0.005,
        unless={sentence: wrong(x) for sentence, wrong in NOT_MATRIX.items()},
    )  # fmt: skip


def ranks(x):
    """Return the mean place of each value, those of equal values being shared."""
    below, equal = (x < x[:, None]).double().sum(1), (x == x[:, None]).double().sum(1)
    return below + (equal - 1) / 2


def spearman(x, y):
    return torch.corrcoef(torch.stack([ranks(x), ranks(y)]))[0, 1]


NOT_RANKS = {
    "That is the correlation of the values, not of their ranks.": lambda x, y: torch.corrcoef(
        torch.stack([x, y])
    )[0, 1],
    "argsort tells which value comes at a place, not the place of each value.": lambda x, y: (
        torch.corrcoef(torch.stack([x.argsort(), y.argsort()]).double())[0, 1]
    ),
}
BY_ORDER = {
    "Equal values should share the mean of their places.": lambda x, y: torch.corrcoef(
        torch.stack([v.argsort(stable=True).argsort().double() for v in (x, y)])
    )[0, 1],
    "Equal values should share the mean of their places, not the lowest one.": lambda x, y: (
        torch.corrcoef(torch.stack([(v < v[:, None]).double().sum(1) for v in (x, y)]))[0, 1]
    ),
}


@exercise("rank_correlation", points=1.5)
def test_ranks(student, rng):
    def draw():
        return rng.permutation(60)[:7] / 10, (rng.permutation(30)[:7] / 10) ** 3

    x, y = rng.telling(draw, spearman, *NOT_RANKS.values())
    expect.agrees(student, "rank_correlation", x, y, right=spearman, wrong=NOT_RANKS)


@exercise("rank_correlation", points=0.5)
def test_a_relation_that_only_goes_down(student, rng):
    def draw():
        return (rng.permutation(30)[:6] / 10,)

    (x,) = rng.telling(
        draw, lambda x: -1.0, *[lambda x, f=f: f(x, -x.exp()) for f in NOT_RANKS.values()]
    )
    expect.agrees(student, "rank_correlation", x, -x.exp(), right=spearman, wrong=NOT_RANKS)


@exercise("rank_correlation", points=1)
def test_equal_values_share_their_places(student, rng):
    wrong = {**NOT_RANKS, **BY_ORDER}

    def draw():
        while True:
            x, y = rng.integers(0, 4, 8).float(), rng.integers(0, 5, 8).float()
            if x.std() > 0 and y.std() > 0:
                return x, y

    x, y = rng.telling(draw, spearman, *wrong.values())
    expect.agrees(student, "rank_correlation", x, y, right=spearman, wrong=wrong)


UNITS = {"float32": 2.0**-24, "float64": 2.0**-53}


def safe(mean, std, digits, error=lambda m, s: 1 + (m / s) ** 2):
    """Return the name of the type, or "a ValueError"."""
    names = [t for t, u in UNITS.items() if u * error(mean, std) <= 10.0**-digits]
    return names[0] if names else "a ValueError"


NOT_SAFE = {
    "The digits of the type are not all left: the mean uses up some.": lambda m, s, d: safe(
        0, 1, d
    ),
    "E[x²] grows with the square of the mean.": lambda m, s, d: safe(
        m, s, d, lambda m, s: 1 + abs(m / s)
    ),
    "The error counts beside the variance.": lambda m, s, d: safe(
        m, s, d, lambda m, s: s**2 + m**2
    ),
}
TYPE, SQUARE, BESIDE = NOT_SAFE


def check_dtype(student, rng, expected, wrong, right=()):
    """Ask for a case, far from the border, that tells some mistakes and not others."""
    for _ in range(5000):
        digits, std = rng.integer(1, 7), 10.0 ** rng.integer(-3, 4)
        mean = float(f"{std * 10 ** rng.uniform(0, 8, 1).item():.2g}") * rng.choice([-1, 1])
        given = (mean, std, digits)
        if (
            {safe(mean, std * factor, digits) for factor in (0.7, 1, 1.4)} == {expected}
            and all(NOT_SAFE[mistake](*given) != expected for mistake in wrong)
            and all(NOT_SAFE[mistake](*given) == expected for mistake in right)
        ):
            break
    code = """
try:
    answer = str(smallest_safe_dtype(mean, std, digits)).removeprefix("torch.")
except ValueError:
    answer = "a ValueError"
"""
    got = student.run(code, ["answer"], mean=mean, std=std, digits=digits)["answer"]
    reasons = [t for t in wrong if expected in UNITS and NOT_SAFE[t](*given) == got]
    small, large = (f"{u * (1 + (mean / std) ** 2):.1g}" for u in UNITS.values())
    expect.true(
        isinstance(got, str) and got == expected,
        f"smallest_safe_dtype({mean:g}, {std:g}, {digits}) should give {expected}, but it gives "
        f"{got}. The error is {small} of the variance in float32 and {large} in float64; at most "
        f"{10.0**-digits:g} is allowed. {' '.join(reasons)}",
    )


@exercise("smallest_safe_dtype", points=1)
def test_float32_will_do(student, rng):
    check_dtype(student, rng, "float32", wrong=[BESIDE])


@exercise("smallest_safe_dtype", points=1)
def test_float64_is_needed(student, rng):
    check_dtype(student, rng, "float64", wrong=[TYPE], right=[SQUARE])


@exercise("smallest_safe_dtype", points=1)
def test_float64_is_needed_because_of_a_square(student, rng):
    check_dtype(student, rng, "float64", wrong=[SQUARE], right=[BESIDE])


@exercise("smallest_safe_dtype", points=1)
def test_nothing_will_do(student, rng):
    check_dtype(student, rng, "a ValueError", wrong=[SQUARE])
    because = "since a variance of 0 has no digits to keep"
    expect.raises(student, "smallest_safe_dtype", 3.0, 0.0, 2, kind="ValueError", because=because)


FEED = """
def feed(parts):
    r = RunningCovariance()
    for a, b in parts:
        r.update(a, b)
    return r
"""


def cut(x, y, rng, pieces=4):
    """Return the values in pieces of different sizes, the first of them a single value."""
    cuts = [1, *(rng.permutation(len(x) - 2)[: pieces - 2] + 2).sort().values.tolist()]
    return list(zip(x.tensor_split(cuts), y.tensor_split(cuts), strict=True))


def cov(x, y, ddof=0):
    return torch.cov(torch.stack([x, y]), correction=ddof)[0, 1]


def sum_of_parts(parts):
    return sum(len(a) * cov(a, b) for a, b in parts) / sum(len(a) for a, b in parts)


@exercise("RunningCovariance", points=0.5)
@pytest.mark.parametrize("ddof", [0, 1])
def test_batches(student, rng, ddof):
    x = rng.uniform(0, 9, 7).round(decimals=1)
    y = (x + rng.uniform(0, 9, 7)).round(decimals=1)
    parts = cut(x, y, rng)
    code = f"{FEED}out = feed(parts).covariance({'ddof=1' if ddof else ''})"
    shown = [(a.tolist(), b.tolist()) for a, b in parts]
    expect.close(
        student.run(code, ["out"], parts=parts)["out"], cov(x, y, ddof),
        of=f"covariance(ddof={ddof}) after batches of {[len(a) for a, _ in parts]} values of "
        f"x = {[round(v, 1) for a, _ in shown for v in a]} and "
        f"y = {[round(v, 1) for _, b in shown for v in b]}",
        unless={
            "How far the means of the batches lie apart is missing.": sum_of_parts(parts),
            "That divides by n; ddof is to be subtracted from it.": cov(x, y, 0),
        },
    )  # fmt: skip


@exercise("RunningCovariance", points=1)
def test_two_that_are_merged(student, rng):
    x, y = rng.uniform(0, 9, 2, 8).round(decimals=1)
    y = y + x
    parts = cut(x, y, rng)
    code = f"""{FEED}
a, b = feed(parts[:2]), feed(parts[2:])
empty = RunningCovariance()
a.merge(empty)
empty.merge(b)
a.merge(b)
out = [a.covariance(), empty.covariance(), b.covariance()]
"""
    halves = [torch.cat([p[i] for p in half]) for half in (parts[:2], parts[2:]) for i in (0, 1)]
    apart = sum_of_parts([(halves[0], halves[1]), (halves[2], halves[3])])
    b = cov(halves[2], halves[3])
    expect.close(
        student.run(code, ["out"], parts=parts)["out"], [cov(x, y), b, b],
        of="[a merged with b, an empty one merged with b, b itself]",
        unless={"How far the means of a and b lie apart is missing.": [apart, b, b]},
        rtol=1e-3,
    )  # fmt: skip


@exercise("RunningCovariance", points=1)
def test_far_from_zero(student, rng):
    x, y = 10_000 + rng.normal(2, 256)
    y = y + (x - 10_000)
    parts = list(zip(x.split(32), y.split(32), strict=True))
    code = f"{FEED}out = float(feed(parts).covariance())"
    got = student.run(code, ["out"], parts=parts)["out"]
    right, apart = float(cov(x.double(), y.double())), float(sum_of_parts(parts))
    loses = "What subtracts large numbers, such as E[xy] − E[x]E[y], loses its digits there."
    if isinstance(got, float) and abs(got - apart) < 1e-4:
        loses = "How far the means of the batches lie apart is missing."
    expect.true(
        isinstance(got, float) and abs(got - right) <= 0.03,
        f"covariance() of 256 pairs near 10,000, in float32, should be {right:.4g}, but it is "
        f"{got:.4g}. {loses}",
    )


@exercise("RunningCovariance", points=1)
def test_correlation(student, rng):
    x, y = rng.normal(2, 12)
    y = 3 * y + x
    code = f"{FEED}out = feed(parts).correlation()"
    got = student.run(code, ["out"], parts=cut(x, y, rng))["out"]
    right = torch.corrcoef(torch.stack([x, y]))[0, 1]
    expect.close(
        got, right, of="correlation() of 12 values",
        unless={"One convention (n or n − 1) must hold throughout.": right * 11 / 12},
    )  # fmt: skip


@exercise("RunningCovariance", points=1)
def test_what_has_no_answer(student, rng):
    asked = {
        "covariance() of no values": ([], "covariance()"),
        "covariance(ddof=1) of one value": ([1], "covariance(ddof=1)"),
        "correlation() with a constant x": ([1, 1], "correlation()"),
    }
    code = f"""{FEED}
answers = []
for batch, y, method in asked:
    r = feed([(batch, y)] if len(batch) else [])
    try:
        answers.append(str(eval("r." + method)))
    except Exception as error:
        answers.append(type(error).__name__)
"""
    y = rng.normal(2)
    inputs = [(torch.tensor(v, dtype=torch.float32), y[: len(v)], m) for v, m in asked.values()]
    answers = student.run(code, ["answers"], asked=inputs)["answers"]
    for what, answer in zip(asked, answers, strict=True):
        expect.true(
            answer == "ValueError",
            f"{what} has no answer and should raise a ValueError, but it gave {answer}.",
        )
