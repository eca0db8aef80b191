"""Checks of the exercises on collaborative filtering."""

import numpy as np
import pytest
import torch

from glassbox.ratings import fit_biases
from lectern import expect

exercise = pytest.mark.exercise


def parts_of(got, count, what, of):
    """Return what came back, if it is a tuple or a list of that many."""
    expect.true(
        isinstance(got, tuple | list) and len(got) == count,
        f"{of} should return {what}, but it returned {type(got).__name__}"
        f"{f' of {len(got)}' if isinstance(got, tuple | list) else ''}.",
    )
    return got


def plain(numbers):
    """Return numbers as lists that one can read."""
    return np.asarray(numbers, dtype=np.float64).round(3).tolist()


# How full


def numbers_of(rows, *, gaps=False, by_stars=False, how_many=False, last=False):
    """Return share, user and film of rows (user, film, stars); the options are what mistakes do."""
    best, sizes = [], []
    for column in (0, 1):
        ids, place = rows[:, column].unique(return_inverse=True)
        weights = rows[:, 2].double() if by_stars else torch.ones(len(rows)).double()
        counts = torch.bincount(place, weights=weights)
        ties = ids[counts == counts.max()]
        best.append(counts.max() if how_many else ties[-1 if last else 0])
        sizes.append(ids.max() if gaps else len(ids))
    return torch.tensor([len(rows) / (sizes[0] * sizes[1]), *best], dtype=torch.float64)


NOT_DENSITY = {
    "You took the largest ids for the numbers of users and films, but ids have gaps.": dict(
        gaps=True
    ),
    "You took the largest sum of the stars; it is the number of ratings that counts.": dict(
        by_stars=True
    ),
    "That is how many ratings they have; who has them is asked for.": dict(how_many=True),
    "Of several with equally many ratings, take the smallest id.": dict(last=True),
}


def check_density(student, rng, draw, wrong):
    rows = rng.telling(
        draw, numbers_of, *[lambda r, how=how: numbers_of(r, **how) for how in wrong.values()]
    )
    rows = rows[rng.permutation(len(rows))]
    code = """
import pandas
table = pandas.DataFrame({"userId": users, "movieId": films, "rating": stars})
got = density(table)
"""
    users, films = rows[:, 0].numpy(), rows[:, 1].numpy()
    got = student.run(code, ["got"], users=users, films=films, stars=rows[:, 2].numpy() / 2)["got"]
    parts = parts_of(got, 3, "three numbers", "density")
    given = f"users {users.tolist()} who rated films {films.tolist()}"
    right = numbers_of(rows)
    mistakes = {say: numbers_of(rows, **how) for say, how in wrong.items()}
    for i, name in enumerate(("The share", "The busiest user", "The film with most ratings")):
        unless = {say: found[i] for say, found in mistakes.items() if found[i] != right[i]}
        expect.close(parts[i], right[i], of=f"{name}, for {given},", unless=unless)


def some_ratings(rng, how_many):
    """Return rows of three users and three films with gaps between their ids."""
    ids = [40 + 10 * k + rng.permutation(9)[:3].sort().values for k in (0, 2)]
    pairs = torch.cartesian_prod(*ids)[rng.permutation(9)[:how_many]]
    return torch.cat([pairs, rng.integers(1, 11, how_many, 1)], 1)


@exercise("density", points=1)
def test_a_table_with_gaps(student, rng):
    def draw():
        rows = some_ratings(rng, 6)
        clear = numbers_of(rows).equal(numbers_of(rows, last=True))
        return rows if clear else draw()

    wrong = {say: how for say, how in NOT_DENSITY.items() if "last" not in how}
    check_density(student, rng, draw, wrong)


@exercise("density", points=1)
def test_equally_many_ratings(student, rng):
    check_density(student, rng, lambda: some_ratings(rng, 5), NOT_DENSITY)


# What changes


def turn(rng, k):
    """Return a rotation that moves every axis."""
    while True:
        q = torch.linalg.qr(rng.normal(k, k).double())[0]
        q[:, 0] *= torch.linalg.det(q).sign()
        if q.abs().max() < 0.97:
            return q


def matrices(rng, k):
    """Return matrices, each with whether distances change and what to say of it."""
    mirror, shear, stretch = (torch.eye(k, dtype=torch.float64) for _ in range(3))
    mirror[rng.integer(0, k)] *= -1
    shear[0, 1] = rng.choice([-1.5, -1.0, 1.0, 1.5])
    stretch[0, 0], stretch[1, 1] = 2.0, 0.5
    first, second = turn(rng, k), turn(rng, k)
    return [
        (first, False, "A rotation only turns the map."),
        (mirror @ first, False, "A mirror image has the same distances."),
        (torch.eye(k)[rng.permutation(k)], False, "Exchanging the axes only turns the map."),
        (shear, True, "It keeps areas or volumes (its determinant is 1), but not lengths."),
        (first @ stretch @ second, True, "It keeps areas or volumes, but not lengths."),
        (2 * first, True, "All films come nearer to each other, to half of each distance."),
    ]


@exercise("what_changes", points=1)
@pytest.mark.parametrize("k", [2, 3])
def test_predictions_and_distances(student, rng, k):
    for matrix, changes, why in matrices(rng, k):
        matrix = matrix.float()
        of = f"what_changes({plain(matrix)})"
        got = parts_of(student.call("what_changes", matrix), 2, "two values", of)
        same = all(
            isinstance(v, bool | np.bool_ | int | np.ndarray | torch.Tensor) and np.shape(v) == ()
            for v in got
        )
        expect.true(
            same, f"{of} should return two values, True or False, but returned {got!r:.60}."
        )
        expect.true(
            not bool(got[0]),
            f"{of}: the predictions do not change, though you say so. In the dot product of a user "
            "and a film, the matrix and its inverse cancel.",
        )
        expect.true(
            bool(got[1]) == changes,
            f"{of}: the distances between films {'' if changes else 'do not '}change, though you "
            f"say {'they do not' if changes else 'so'}. {why}",
        )


# Biases


def biases_of(x, y, counts, strength, *, turns=60, alone=False, add=None, weigh=None, mean=None):
    """Return mean and biases in one row; the options are what mistakes do."""
    y = y.double()
    mean = y.mean() if mean is None else mean(x, y)
    biases = [torch.zeros(count).double() for count in counts]
    number = [torch.bincount(x[:, side], minlength=counts[side]).double() for side in (0, 1)]
    for _ in range(turns):
        for side in (0, 1) if weigh != "items first" else (1, 0):
            left = y - mean - (0 if alone else biases[1 - side][x[:, 1 - side]])
            total = torch.zeros(counts[side]).double().index_add(0, x[:, side], left)
            by = number[side] + strength if add is None else add(number[side], strength)
            biases[side] = total / by.clamp(min=1e-9)
    return torch.cat([mean[None], *biases])


def mean_of_means(x, y):
    return torch.stack([y[x[:, 0] == user].mean() for user in x[:, 0].unique()]).mean()


FOR_ITSELF = (
    "It is as if each side were taken for itself: what the other side explains was not taken off."
)
NOT_BIASES = {
    FOR_ITSELF: dict(alone=True),
    "That is after one turn only; the biases have not settled.": dict(turns=1),
    "After one turn only, the biases have not settled.": dict(turns=1, weigh="items first"),
    "The strength is missing, so that few ratings count as much as many.": dict(
        add=lambda n, s: n.clamp(min=1)
    ),
    "The sum is to be divided by the number *plus* the strength.": dict(
        add=lambda n, s: (n * (1 + s)).clamp(min=1)
    ),
    "The mean is that of the users' means; the mean of all ratings is asked for.": dict(
        mean=mean_of_means
    ),
}


def draw_ratings(rng):
    """Return ratings of 5 users and 4 films; nobody has the code 0."""
    pairs = torch.cartesian_prod(torch.arange(1, 6), torch.arange(1, 5))
    x = pairs[rng.permutation(20)[:12]]
    generous = torch.tensor([0.0, 1, 0.5, 0, -0.5, -1])[x[:, 0]]
    y = (rng.integers(3, 9, 12) / 2 + generous).clamp(0.5, 5)
    return x, y, (7, 6), rng.choice([1.0, 2.0, 3.0])


def check_biases(student, rng, parts, what):
    mistakes = [lambda *a, how=how: biases_of(*a, **how) for how in NOT_BIASES.values()]

    def draw():
        return rng.telling(lambda: draw_ratings(rng), biases_of, *mistakes)

    x, y, counts, strength = draw()
    got = student.call("bias_turns", x, y, counts, strength)
    got = parts_of(got, 3, "a mean and two rows of biases", "bias_turns")
    right = list(fit_biases(x, y.double(), counts, strength=strength, rounds=200))
    wrong = {
        say: biases_of(x, y, counts, strength, **how).split([1, *counts])
        for say, how in NOT_BIASES.items()
    }
    given = f"pairs {x.tolist()}, stars {y.tolist()}, counts {counts} and strength {strength}"
    for i in parts:
        unless = {
            say: found[i] if i else found[i][0]
            for say, found in wrong.items()
            if i or "mean of all" in say
        }
        for say in [say for say in unless if "turn" in say]:
            if torch.allclose(unless[say], wrong[FOR_ITSELF][i]):  # of the side that comes first
                del unless[say]
        of = f"{what[i]}, for {given},"
        expect.close(got[i], right[i], of=of, rtol=1e-3, atol=5e-4, unless=unless)


BIAS_PARTS = ("The mean", "The biases of users", "The biases of items")


@exercise("bias_turns", points=1)
def test_the_biases_of_items(student, rng):
    check_biases(student, rng, [2], BIAS_PARTS)


@exercise("bias_turns", points=1)
def test_the_biases_of_users(student, rng):
    check_biases(student, rng, [1], BIAS_PARTS)


@exercise("bias_turns", points=1)
def test_the_mean_and_everything_with_it(student, rng):
    check_biases(student, rng, [0, 1, 2], BIAS_PARTS)


# A model of taste


def ratings_of(weights, x, y_range, *, column=False, wide=False, one=False):
    """Return the model's ratings; the options are what mistakes do."""
    user, item = x.unbind(1)
    dot = (weights["users.weight"][user] * weights["items.weight"][item]).sum(1)
    dot = dot.sum() if one else dot
    bias = weights["user_bias.weight"][user] + weights["item_bias.weight"][item]
    logit = weights["intercept"] + dot + (bias if column else bias[:, 0])
    low, high = y_range
    return low + (high if wide else high - low) * logit.sigmoid()


COLUMN = (
    "(n,) plus (n, 1) makes (n, n): each row's dot product meets every other row's biases. Give "
    "the biases the shape of the dot product."
)
NOT_TASTE = {
    COLUMN: dict(column=True),
    f"{COLUMN} And look at the ends of the range.": dict(column=True, wide=True),
    "The range is wrong: a sigmoid of 1 should give the upper end of y_range.": dict(wide=True),
    "The products of all rows together went into each rating; each row has a sum of its own.": dict(
        one=True
    ),
}


def check_ratings(student, rng, y_range):
    counts, dim, n = (5, 6), 3, 4
    shapes = {"users.weight": (5, dim), "items.weight": (6, dim)}
    shapes |= {"user_bias.weight": (5, 1), "item_bias.weight": (6, 1), "intercept": ()}
    weights = {name: rng.normal(*shape) * 0.8 for name, shape in shapes.items() if shape}
    weights["intercept"] = rng.normal(1)[0]
    x = torch.stack([rng.permutation(count)[:n] for count in counts], 1)
    code = """
model = TasteModel(counts, dim, y_range)
model.load_state_dict(weights)
got = model(x)
"""
    inputs = dict(counts=counts, dim=dim, y_range=y_range, weights=weights, x=x)
    got = student.run(code, ["got"], **inputs)["got"]
    unless = {}
    for say, how in NOT_TASTE.items():
        if y_range[0] or say not in list(NOT_TASTE)[1:3]:  # from 0 on, both ranges are the same
            unless[say] = ratings_of(weights, x, y_range, **how)
    of = f"TasteModel({counts}, {dim}, {y_range})(x), for x = {x.tolist()} and given weights,"
    expect.close(got, ratings_of(weights, x, y_range), of=of, rtol=1e-3, atol=1e-5, unless=unless)


@exercise("TasteModel", points=1)
def test_ratings_from_0_on(student, rng):
    check_ratings(student, rng, (0.0, 5.5))


@exercise("TasteModel", points=1)
def test_ratings_in_another_range(student, rng):
    check_ratings(student, rng, (rng.choice([1.0, 2.0, 3.0]), rng.choice([6.0, 7.5, 10.5])))


@exercise("TasteModel", points=1)
def test_the_start_of_the_vectors(student, rng):
    counts = rng.integer(5, 9), rng.integer(5, 9)
    code = "model = TasteModel(counts, 4)\nstart = [model.users.weight, model.items.weight]"
    start = student.run(code, ["start"], counts=counts)["start"]
    shapes = [tuple(getattr(w, "shape", ())) for w in start]
    expect.true(
        shapes == [(count, 4) for count in counts],
        f"The vectors of TasteModel({counts}, 4) should have the shapes "
        f"{[(count, 4) for count in counts]}, but they have {shapes}.",
    )
    largest = max(w.abs().max().item() for w in start)
    expect.true(
        largest > 0,
        "All vectors start at 0. The gradient of each factor of a product is the other factor, so "
        "neither would ever move.",
    )
    expect.true(
        largest <= 1,
        f"The vectors should start small, with no entry beyond 1, but one has size {largest:.3g}.",
    )
    spread = max((w - w[:, :1]).abs().max().item() for w in start)
    expect.true(
        spread > 1e-6,
        "In each vector all numbers start equal. They would get equal gradients, and never become "
        "different: it is one taste, written down several times.",
    )


# The error on everything


def everywhere(counts, num_rated, on_rated, on_asked):
    share = num_rated / (counts[0] * counts[1])
    return share * on_rated.mean() + (1 - share) * on_asked.mean()


NOT_EVERYWHERE = {
    "That is the mean of both samples in one pot. How many pairs were looked at says nothing about "
    "how many there are.": lambda c, n, a, b: torch.cat([a, b]).mean(),
    "That is the held-out error, which speaks for rated pairs only.": lambda c, n, a, b: a.mean(),
    "That counts both kinds of pairs alike, but the holes are far more.": lambda c, n, a, b: (
        (a.mean() + b.mean()) / 2
    ),
    "That is the error in the holes; rated pairs are pairs too.": lambda c, n, a, b: b.mean(),
    "The shares are exchanged.": lambda c, n, a, b: everywhere(c, c[0] * c[1] - n, a, b),
}


@exercise("error_everywhere", points=1)
def test_rated_pairs_and_holes(student, rng):
    def draw():
        counts = rng.integer(20, 60), rng.integer(20, 60)
        num_rated = counts[0] * counts[1] // rng.integer(4, 9)
        errors = rng.uniform(0.2, 1.0, 7), rng.uniform(1.0, 3.0, 3)
        return counts, num_rated, *(e.round(decimals=1) for e in errors)

    args = rng.telling(draw, everywhere, *NOT_EVERYWHERE.values())
    expect.agrees(student, "error_everywhere", *args, right=everywhere, wrong=NOT_EVERYWHERE)


@exercise("error_everywhere", points=1)
def test_other_sizes_and_no_hole(student, rng):
    def draw():
        counts = rng.integer(5, 12), rng.integer(5, 12)
        errors = rng.uniform(0.2, 1.0, 2), rng.uniform(1.0, 3.0, 6)
        return counts, rng.integer(4, 11), *(e.round(decimals=1) for e in errors)

    args = rng.telling(draw, everywhere, *NOT_EVERYWHERE.values(), margin=5e-3)
    expect.agrees(student, "error_everywhere", *args, right=everywhere, wrong=NOT_EVERYWHERE)
    counts, _, on_rated, _ = args
    all_rated = counts, counts[0] * counts[1], on_rated, torch.empty(0)
    expect.agrees(
        student, "error_everywhere", *all_rated, right=lambda c, n, a, b: a.mean(),
        wrong={
            "There is no hole, so nobody was asked: a mean of nothing is NaN, and 0 times NaN, "
            "too.": lambda c, n, a, b: torch.nan
        },
    )  # fmt: skip


# A new film


def fitted_row(mean, user_bias, users, stars, decay, *, c=1.0, scale=None, free=1.0, bias=True):
    """Return the vector with the bias behind it; the options are what mistakes do."""
    a = torch.cat([users, torch.ones(len(users), 1) * bias], 1).double()
    rest = (stars - mean - c * user_bias).double()
    pull = torch.full((a.shape[1],), decay, dtype=torch.float64)
    pull = pull if scale is None else scale(pull, len(users))
    pull[-1] *= free
    return torch.linalg.solve(a.T @ a + torch.diag(pull), a.T @ rest)


NOT_ROW = {
    "The users' biases are missing: who is generous gives many stars to any film.": dict(c=0.0),
    "There is no decay: few ratings are learned by heart.": dict(
        scale=lambda pull, n: pull * 0 + 1e-6
    ),
    "Your decay leaves the bias out.": dict(free=1e-6),
    "Your decay is set against the mean of the squared errors; it is the sum of the squared errors "
    "that is asked for.": dict(scale=lambda pull, n: pull * n),
    "The film has no bias of its own, and the vector has to do its work.": dict(bias=False),
}


def draw_film(rng, n, k):
    users, bias = rng.normal(n, k).round(decimals=1), (rng.normal(n) * 0.7).round(decimals=1)
    stars = rng.integers(2, 11, n) / 2
    return 3.5, bias, users, stars, rng.choice([0.5, 1.0, 2.0])


def check_film(student, args):
    n, k = args[2].shape
    shown = (
        ", ".join(str(plain(arg)) for arg in args) if k == 1 else f"…) for {n} users and k = {k}"
    )
    call = f"new_film({shown}{')' if k == 1 else ''}"
    got = parts_of(student.call("new_film", *args), 2, "a vector and a bias", "new_film")
    right = fitted_row(*args)
    wrong = {say: fitted_row(*args, **how) for say, how in NOT_ROW.items()}
    vectors, biases = ({say: row[at] for say, row in wrong.items()} for at in (slice(None, -1), -1))
    expect.close(
        got[0], right[:-1], of=f"The vector of {call}", rtol=1e-3, atol=1e-4, unless=vectors
    )
    expect.close(got[1], right[-1], of=f"The bias of {call}", rtol=1e-3, atol=1e-4, unless=biases)


@exercise("new_film", points=1)
@pytest.mark.parametrize("k", [1, 3])
def test_several_ratings(student, rng, k):
    mistakes = [lambda *a, how=how: fitted_row(*a, **how)[:-1] for how in NOT_ROW.values()]
    args = rng.telling(
        lambda: draw_film(rng, k + 4, k), lambda *a: fitted_row(*a)[:-1], *mistakes, margin=5e-3
    )
    check_film(student, args)


@exercise("new_film", points=1)
def test_few_ratings_and_none(student, rng):
    check_film(student, draw_film(rng, 2, 4))
    got = student.call("new_film", 3.5, torch.empty(0), torch.empty(0, 2), torch.empty(0), 1.0)
    vector, bias = parts_of(got, 2, "a vector and a bias", "new_film")
    of = "of a film that nobody has rated"
    expect.close(vector, torch.zeros(2), of=f"The vector {of}, for k = 2,", atol=1e-4)
    expect.close(bias, 0.0, of=f"The bias {of}", atol=1e-4)


# Asking at random


def club(rng, members=150, films=80, each=25, asked=900):
    """Return what was rated, what was asked, the other holes, and what these would be given."""
    liking = (rng.normal(members, 2) * 0.7) @ (rng.normal(films, 2) * 0.9).T
    logits = 0.2 + 0.3 * rng.normal(members, 1) + 0.35 * rng.normal(films) + liking
    mean = 5.5 * logits.sigmoid()
    given = ((2 * (mean + 0.5 * rng.normal(members, films))).round() / 2).clamp(0.5, 5)
    luck = -(-rng.uniform(1e-6, 1 - 1e-6, members, films).log()).log()
    chosen = (2.5 * liking + rng.normal(films) + luck).topk(each).indices  # what they will like
    rated = torch.zeros(members, films, dtype=torch.bool).scatter(1, chosen, True)
    holes = (~rated).nonzero()[rng.permutation(members * (films - each))]
    x, asked_x, rest = rated.nonzero(), holes[:asked], holes[asked:]
    y, asked_y = given[rated], given[asked_x[:, 0], asked_x[:, 1]]
    return (x, y, asked_x, asked_y, (members, films), rest), mean[rest[:, 0], rest[:, 1]]


def error_in_holes(student, rng):
    """Return the learner's error in the holes, that of biases alone, and words on the answer."""
    args, truth = club(rng)
    x, y, asked_x, asked_y, counts, rest = args
    got = student.call("ask_at_random", *args, seconds=20)
    got = got.tolist() if isinstance(got, torch.Tensor | np.ndarray) else got
    fine = isinstance(got, list | tuple) and all(isinstance(v, int | float) for v in got)
    expect.true(
        fine and len(got) == len(rest) and all(np.isfinite(got)),
        f"ask_at_random should return a finite number of stars for each of the {len(rest)} pairs, "
        f"in shape ({len(rest)},).",
    )
    stars = torch.tensor(got, dtype=torch.float64)
    biases = fit_biases(torch.cat([x, asked_x]), torch.cat([y, asked_y]), counts)
    errors = [(guess - truth).square().mean().item() for guess in (stars, biases(rest))]
    note = " Your stars are below 0 in places: some are negative." if stars.min() < 0 else ""
    return *errors, note


@exercise("ask_at_random", points=1)
def test_better_than_biases_alone(student, rng):
    error, biases, note = error_in_holes(student, rng)
    expect.true(
        error < 0.98 * biases,
        f"In the holes your mean squared error is {error:.3f}. That should be below that of biases "
        f"without taste, which is {biases:.3f}, by 2 % at least.{note}",
    )


@exercise("ask_at_random", points=1)
def test_far_better_than_biases_alone(student, rng):
    error, biases, note = error_in_holes(student, rng)
    expect.true(
        error < 0.45,
        f"In the holes your mean squared error is {error:.3f}. For this point it must be below "
        f"0.45; biases alone would have {biases:.3f}.{note}",
    )


@exercise("ask_at_random", points=2)
def test_nearly_as_good_as_it_gets(student, rng):
    error, biases, note = error_in_holes(student, rng)
    expect.true(
        error <= 0.2,
        f"In the holes your mean squared error is {error:.3f}. For these points it must be at "
        f"most 0.2; biases alone would have {biases:.3f}. Are both kinds of ratings in the "
        f"training, and is there room for taste?{note}",
    )
