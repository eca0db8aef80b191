"""Checks of the exercises on ethics."""

import math

import numpy as np
import pytest
import torch

from lectern import expect

exercise = pytest.mark.exercise


def number(value):
    """A Python number of what may be a number, or None."""
    try:
        found = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        return None
    return float(found) if found.shape == () else None


def mapping(got, keys, of):
    """What came back as a dictionary with these keys, or a sentence."""
    expect.true(
        isinstance(got, dict), f"{of} should be a dictionary, but it is a {type(got).__name__}."
    )
    found = set(got)
    expect.true(
        set(keys) <= found,
        f"{of} should have the keys {list(keys)}, but it has {sorted(map(str, found))}.",
    )
    return got


def listed(got, n, of):
    """What came back as a list or tuple of n things, or a sentence."""
    expect.true(
        isinstance(got, list | tuple) and len(got) == n,
        f"{of} should be {n} things in a tuple, but it is {got!r:.80}.",
    )
    return got


# An interval for small groups


def wilson(part, whole, z):
    s, k = part / whole, z**2 / whole
    half = math.sqrt(k * s * (1 - s) + k**2 / 4)
    return (s + k / 2 - half) / (1 + k), (s + k / 2 + half) / (1 + k)


def textbook(part, whole, z):
    s = part / whole
    half = z * math.sqrt(s * (1 - s) / whole)
    return s - half, s + half


def cut_off(part, whole, z):
    low, high = textbook(part, whole, z)
    return max(low, 0.0), min(high, 1.0)


NOT_WILSON = {
    "That is the textbook's interval.": textbook,
    "That is the interval of the textbook, cut off at 0 and 1.": cut_off,
    "That is the interval for z = 1.96; use your z.": lambda part, whole, z: wilson(
        part, whole, 1.96
    ),
}


@exercise("wilson_interval", points=1)
def test_some_of_a_few(student, rng):
    args = rng.integer(1, 4), rng.integer(8, 20), rng.choice([1.0, 1.5, 2.5])
    expect.agrees(student, "wilson_interval", *args, right=wilson, wrong=NOT_WILSON)


@exercise("wilson_interval", points=0.5)
def test_none_and_all(student, rng):
    whole, z = rng.integer(5, 15), rng.choice([1.0, 1.5, 2.5])
    for part in (0, whole):
        expect.agrees(
            student, "wilson_interval", part, whole, z, right=wilson, wrong=NOT_WILSON, atol=1e-5
        )


@exercise("wilson_interval", points=0.5)
def test_nobody(student, rng):
    z = rng.choice([1.0, 1.96])
    because = "because of nobody there is no share"
    expect.raises(student, "wilson_interval", 0, 0, z, kind="ValueError", because=because)


# Repair: the largest gaps

GROUPS = ["ants", "bees", "cats", "dogs"]
WHOLE = {
    "false positive rate": ("fp", "fp tn"),
    "false negative rate": ("fn", "fn tp"),
    "precision": ("tp", "tp fp"),
}


def largest(tables, part, whole):
    """The largest gap of a rate, and the numbers of the groups with the highest and lowest."""
    rates = [t[part] / sum(t[name] for name in whole.split()) for t in tables.values()]
    high, low = rates.index(max(rates)), rates.index(min(rates))
    return torch.tensor([rates[high] - rates[low], high, low])


def draw_tables(rng):
    """Counts of three groups, of which no two have a rate in common."""
    names = [GROUPS[i] for i in rng.permutation(4)[:3].tolist()]
    while True:
        counts = rng.integers(2, 40, 3, 4)
        tp, fp, fn, tn = counts.double().T
        if all(
            len(rate.unique()) == 3 for rate in (fp / (fp + tn), fn / (fn + tp), tp / (tp + fp))
        ):
            keys = ("tp", "fp", "fn", "tn")
            return {
                name: dict(zip(keys, row, strict=True))
                for name, row in zip(names, counts.tolist(), strict=True)
            }


@exercise("gaps", points=1)
@pytest.mark.parametrize("rate", ["false positive rate", "false negative rate"])
def test_the_gap_of_a_rate(student, rng, rate):
    part, whole = WHOLE[rate]
    flagged = "tp fp" if part == "fp" else "fn tn"
    of_whom = "were flagged" if part == "fp" else "were not flagged"
    answer = "no" if part == "fp" else "yes"
    so = f" It asks about those for whom the answer is {answer}."
    wrong = {
        f"That is a share of those who {of_whom}.{so}": flagged,
        f"That is a share of everybody.{so}": "tp fp fn tn",
    }
    tables = rng.telling(
        lambda: draw_tables(rng),
        lambda t: largest(t, part, whole)[:1],
        *(lambda t, w=w: largest(t, part, w)[:1] for w in wrong.values()),
    )
    got = mapping(student.call("gaps", tables), WHOLE, "gaps(tables)")
    names, of = list(tables), f"gaps(tables)[{rate!r}]"
    gap, *who = listed(got[rate], 3, of)
    right = largest(tables, part, whole)
    expect.close(
        gap, right[0], of=f"The difference in {of}", given=tables,
        unless={text: largest(tables, part, w)[0] for text, w in wrong.items()},
    )  # fmt: skip
    wanted = [names[int(i)] for i in right[1:]]
    expect.true(
        list(who) == wanted,
        f"The {rate} is highest for {wanted[0]} and lowest for {wanted[1]}, so that {of} should "
        f"name them in this order, but it names {who}.",
    )


@exercise("gaps", points=1)
def test_a_rate_that_is_not_defined(student, rng):
    for rate in ("false positive rate", "precision", "false negative rate"):
        tables = draw_tables(rng)
        name = rng.choice(list(tables))
        for count in WHOLE[rate][1].split():
            tables[name][count] = 0
        expect.raises(
            student, "gaps", tables, kind="ValueError",
            because=f"because the {rate} of {name} is not defined: its denominator is empty",
        )  # fmt: skip


# Predict: what chance does to the worst group


def binomial(size, rate, numbers):
    return sum(math.comb(size, k) * rate**k * (1 - rate) ** (size - k) for k in numbers)


def some_group(groups, size, rate, errors):
    return 1 - binomial(size, rate, range(errors)) ** groups


NOT_SOME_GROUP = {
    "That is the probability for one group that was named beforehand.": (
        lambda groups, size, rate, errors: some_group(1, size, rate, errors)
    ),
    "That is the number of groups times the probability of one, which can rise above 1.": (
        lambda groups, size, rate, errors: groups * some_group(1, size, rate, errors)
    ),
    "It is so many errors or more, not more than so many.": (
        lambda groups, size, rate, errors: some_group(groups, size, rate, errors + 1)
    ),
    "That is the probability of a group with exactly so many errors.": (
        lambda groups, size, rate, errors: 1 - (1 - binomial(size, rate, [errors])) ** groups
    ),
}


@exercise("worst_by_chance", points=1)
@pytest.mark.parametrize("groups", [1, 40])
def test_at_least_one_group(student, rng, groups):
    wrong = NOT_SOME_GROUP if groups > 1 else dict(list(NOT_SOME_GROUP.items())[2:])

    def draw():
        rate = rng.choice([0.02, 0.05, 0.1])
        return (
            groups - rng.integer(0, 20) * (groups > 1),
            rng.integer(10, 30),
            rate,
            rng.integer(2, 5),
        )

    args = rng.telling(draw, some_group, *wrong.values())
    if groups > 1:
        expect.agrees(student, "worst_by_chance", *args, right=some_group, wrong=wrong)
    else:  # how many there are must show, too
        both = [student.call("worst_by_chance", n, *args[1:]) for n in (1, 2)]
        right = [some_group(n, *args[1:]) for n in (1, 2)]
        expect.close(
            [number(value) for value in both], right,
            of=f"worst_by_chance for 1 and for 2 groups, with {args[1:]} for the rest,",
            unless={text: [f(n, *args[1:]) for n in (1, 2)] for text, f in NOT_SOME_GROUP.items()},
        )  # fmt: skip


# Explain: flagged wrongly, though all is equal


def in_numbers(people, base_rate, precision, missed):
    rightly = people * base_rate * (1 - missed)
    wrongly = rightly / precision - rightly
    return wrongly, wrongly / (people * (1 - base_rate))


NOT_IN_NUMBERS = {
    "1 − precision is a share of the flagged, not of all people.": lambda n, p, q, m: n * (1 - q),
    "You left out those who are missed: they are not flagged.": lambda n, p, q, m: in_numbers(
        n, p, q, 0.0
    )[0],
    "1 − precision is a share of all flags; for each right flag there are (1 − q) / q wrong "
    "ones.": lambda n, p, q, m: n * p * (1 - m) * (1 - q),
}


def draw_group(rng):
    people = 100 * rng.integer(5, 40)
    return people, *(rng.choice(some) for some in ([0.2, 0.3, 0.6], [0.6, 0.7, 0.9], [0.1, 0.3]))


def two_numbers(student, args):
    of = f"flagged_wrongly{args}"
    got = student.call("flagged_wrongly", *args)
    found = (
        [number(got[i]) for i in (0, 1)] if hasattr(got, "__len__") and len(got) == 2 else [None]
    )
    expect.true(None not in found, f"{of} should be two numbers, but it is {got!r:.80}.")
    return of, found


@exercise("flagged_wrongly", points=1)
def test_how_many_people(student, rng):
    args = draw_group(rng)
    of, (people, _) = two_numbers(student, args)
    expect.close(
        people, in_numbers(*args)[0], of=f"The number of people in {of}",
        unless={text: f(*args) for text, f in NOT_IN_NUMBERS.items()},
    )  # fmt: skip


@exercise("flagged_wrongly", points=1)
def test_the_rate_of_both_groups(student, rng):
    n, base_rate, precision, missed = draw_group(rng)
    for p in (base_rate, base_rate / 2):
        args = n, p, precision, missed
        of, (_, rate) = two_numbers(student, args)
        shares = {text: f(*args) / (n * (1 - p)) for text, f in NOT_IN_NUMBERS.items()}
        text = "The false positive rate asks about those for whom the answer is no."
        expect.close(
            rate, in_numbers(*args)[1], of=f"The false positive rate in {of}",
            unless={**shares, text: 1 - precision, f"{text} ": in_numbers(*args)[0] / n},
        )  # fmt: skip


# Predict: patrols without chance


def expected(rates, start, days, found=lambda share, rate, records: share * rate):
    rates, records = (torch.tensor(x, dtype=torch.float64) for x in (rates, start))
    history = [records / records.sum()]
    for _ in range(days):
        records = records + found(history[-1], rates, records)
        history.append(records / records.sum())
    return torch.stack(history)


def of_shares(rates, start, days):
    """Let the shares grow, and not the records."""
    rates, share = (torch.tensor(x, dtype=torch.float64) for x in (rates, start))
    history = [share / share.sum()]
    for _ in range(days):
        share = history[-1] * (1 + rates)
        history.append(share / share.sum())
    return torch.stack(history)


def instead(found):
    return lambda rates, start, days: expected(rates, start, days, found)


NOT_EXPECTED = {
    "Your records grow wherever there is crime. The patrol finds something only where it goes.": (
        instead(lambda share, rate, records: rate)
    ),
    "A record is written only if the patrol finds something, which has the district's rate.": (
        instead(lambda share, rate, records: share)
    ),
    "Your patrol goes where most records are; it is to go in proportion to them.": instead(
        lambda share, rate, records: (records == records.max()) * rate
    ),
    "What is found comes on top of the records, not of the shares: new ones weigh less and less.": (
        of_shares
    ),
}


def check_patrols(student, draw, rng):
    args = rng.telling(draw, expected, *NOT_EXPECTED.values(), margin=0.005)
    expect.agrees(student, "patrol_share", *args, right=expected, wrong=NOT_EXPECTED)


@exercise("patrol_share", points=1)
def test_one_day(student, rng):
    def draw():
        start = [rng.integer(2, 9), rng.integer(2, 9)]
        return [rng.choice([0.2, 0.5, 0.8]), rng.choice([0.3, 0.6, 0.9])], start, 1

    check_patrols(student, draw, rng)


@exercise("patrol_share", points=1)
def test_three_districts_for_some_days(student, rng):
    def draw():
        start = [rng.integer(2, 9) for _ in range(3)]
        return [rng.choice([0.2, 0.5, 0.8]) for _ in range(3)], start, rng.integer(4, 8)

    check_patrols(student, draw, rng)


@exercise("patrol_share", points=1)
def test_many_days(student, rng):
    start = [10 * rng.integer(3, 6), 10 * rng.integer(1, 3)]
    for rates in ([0.3, 0.3], [0.2, 0.3]):
        got = student.call("patrol_share", rates, start, 1000)
        right = expected(rates, start, 1000)
        of = f"patrol_share({rates}, {start}, 1000)"
        found = expect.numbers(got, right.shape, of=of)
        expect.close(
            found[-1], right[-1], of=f"The last row of {of}",
            unless={text: f(rates, start, 1000)[-1] for text, f in NOT_EXPECTED.items()},
        )  # fmt: skip


# One target, two thresholds


def thresholds(score, actual, group, target, flags=torch.ge, whole="no", joint=False, caught=False):
    """For each group in order, threshold and precision."""
    out = []
    for g in group.unique().tolist():
        here = group == g
        for t in range(1, 12):
            chosen = torch.ones_like(here) if joint else here
            flagged, yes = flags(score[chosen], t), actual[chosen] == 1
            wrong = int((flagged & ~yes).sum())
            if wrong <= target * int((~yes if whole == "no" else flagged).sum()):
                break
        flagged, yes = flags(score[here], t), actual[here] == 1
        out += [t, int((flagged & yes).sum()) / max(int((yes if caught else flagged).sum()), 1e-9)]
    return torch.tensor(out, dtype=torch.float64)


NOT_THRESHOLDS = {
    "That is one threshold for all; each group has its own.": {"joint": True},
    "The false positive rate is a share of those with no, not of the flagged.": {
        "whole": "flagged"
    },
    "Flagged is who has the threshold or more.": {"flags": torch.gt},
    "Precision is a share of the flagged; that is the share that is caught.": {"caught": True},
}


def draw_scores(rng):
    """Two groups; in the second, scores are higher. Both kinds of people are in each."""
    while True:
        actual, group = rng.integers(0, 2, 40), torch.arange(40) % 2
        actual[:4] = torch.tensor([0, 0, 1, 1])
        score = (rng.uniform(1, 7, 40) + 2 * actual + 1.5 * group).clamp(1, 10).floor().long()
        args = score, actual, 3 * group, rng.choice([0.15, 0.25, 0.45])
        if thresholds(*args)[1::2].min() > 0:  # somebody is flagged
            return args


@exercise("equal_rates", points=1)
@pytest.mark.parametrize("part", ["threshold", "precision"])
def test_each_group(student, rng, part):
    which = slice(0, None, 2) if part == "threshold" else slice(1, None, 2)
    silent = "caught" if part == "threshold" else "flags"  # the mistake that does not show here
    wrong = {text: how for text, how in NOT_THRESHOLDS.items() if silent not in how}
    args = rng.telling(
        lambda: draw_scores(rng),
        lambda *a: thresholds(*a)[which],
        *(lambda *a, how=how: thresholds(*a, **how)[which] for how in wrong.values()),
    )
    got = mapping(student.call("equal_rates", *args), [0, 3], "equal_rates(…)")
    pairs = [listed(got[g], 2, f"equal_rates(…)[{g}]") for g in (0, 3)]
    flat = [number(value) for pair in pairs for value in pair]
    kinds = "The thresholds" if part == "threshold" else "The precisions"
    expect.true(None not in flat, f"{kinds} should be numbers, but the pairs are {pairs!r:.120}.")
    expect.close(
        flat[which], thresholds(*args)[which],
        of=f"{kinds} of groups 0 and 3 for a target of {args[3]}",
        unless={text: thresholds(*args, **how)[which] for text, how in wrong.items()},
    )  # fmt: skip


@exercise("equal_rates", points=1)
def test_nobody_may_be_flagged_wrongly(student, rng):
    top = rng.integer(5, 10)
    score = torch.tensor([top, 2, top - 1, 1, 10, 3])
    actual = torch.tensor([1, 1, 0, 0, 0, 1])
    group = torch.tensor([1, 1, 1, 1, 5, 5])
    got = mapping(student.call("equal_rates", score, actual, group, 0.0), [1, 5], "equal_rates(…)")
    pairs = [listed(got[g], 2, f"equal_rates(…)[{g}]") for g in (1, 5)]
    flat = [number(value) for pair in pairs for value in pair]
    expect.true(None not in flat, f"The pairs should be numbers, but they are {pairs!r:.120}.")
    expect.close(
        flat, [top, 1.0, 11, math.nan], given=[score.tolist(), actual.tolist(), group.tolist()],
        of="With a target of 0, threshold and precision of groups 1 and 5 in a row",
        unless={"With 11 nobody is flagged, and the precision is NaN.": [top, 1.0, 11, 0.0]},
    )  # fmt: skip


# Columns that tell


def usual(values):
    return min(set(values), key=lambda value: (-values.count(value), value))


def told(column, truth, seen=False, skip=False):
    half = len(truth) // 2
    first = list(zip(column[:half], truth[:half], strict=True))
    learned = {c: usual([t for d, t in first if d == c]) for c in set(column[:half])}
    default = None if skip else usual(truth[:half])
    asked = first if seen else list(zip(column[half:], truth[half:], strict=True))
    return sum(learned.get(c, default) == t for c, t in asked) / half


def draw_table(rng, n=20):
    """An attribute; columns that agree with it often, hardly and never by chance; and a number."""
    truth = [rng.choice("ffm") for _ in range(n)]
    near = [rng.choice(["tall", "wide"]) if rng.integer(0, 6) == 0 else f"{t}1" for t in truth]
    some = [rng.choice("xy") if rng.integer(0, 2) else f"{t}-town" for t in truth]
    none = [rng.choice(["red", "blue", "green"]) for _ in truth]
    customer = [f"no{i:02}" for i in rng.permutation(n).tolist()]
    columns = {"shoes": near, "town": some, "colour": none, "customer": customer}
    names = [list(columns)[i] for i in rng.permutation(4).tolist()]
    return {names[0]: columns[names[0]], "sex": truth, **{k: columns[k] for k in names[1:]}}


def answers(student, rng, tells):
    """A table on which the columns differ, and what proxies makes of it."""
    while True:
        table = draw_table(rng)
        shares = {k: told(v, table["sex"]) for k, v in table.items() if k != "sex"}
        if len(set(shares.values())) == 4 and tells(table):
            break
    got = student.call("proxies", table, "sex")
    of = "proxies(table, 'sex')"
    expect.true(isinstance(got, list | tuple), f"{of} should be a list of pairs.")
    pairs = [listed(pair, 2, f"An entry of {of}") for pair in got]
    names = [pair[0] for pair in pairs]
    expect.true("sex" not in names, f"{of} should leave out the attribute, which predicts itself.")
    expect.true(
        sorted(map(str, names)) == sorted(shares),
        f"{of} should have an entry for each of {sorted(shares)}, but it has {names}.",
    )
    return table, shares, {name: number(share) for name, share in pairs}, names


def differ(table, name, **how):
    return told(table[name], table["sex"]) != told(table[name], table["sex"], **how)


NOT_TOLD = {
    "You judged by the rows that it learned from.": {"seen": True},
    "A value that was never seen is answered by the most frequent attribute.": {"skip": True},
}


@exercise("proxies", points=0.5)
@pytest.mark.parametrize("name", ["shoes", "customer"])
def test_the_share_of_a_column(student, rng, name):
    def tells(table):
        return differ(table, name, seen=True) and (
            name == "shoes" or differ(table, name, skip=True)
        )

    table, shares, got, _ = answers(student, rng, tells)
    expect.close(
        got[name], shares[name], of=f"The share of the column {name}",
        given=list(zip(table[name], table["sex"], strict=True)),
        unless={text: told(table[name], table["sex"], **how) for text, how in NOT_TOLD.items()},
    )  # fmt: skip


@exercise("proxies", points=1)
def test_ties_among_what_is_learned(student, rng):
    a, b = rng.choice([("ham", "egg"), ("tea", "jam"), ("no", "maybe")])
    column = ["u", "u", "v", "v", "w", "w", "u", "v", "w", "z", "u", "w"]
    truth = [a, b, b, a, a, a, min(a, b), max(a, b), a, b, min(a, b), a]
    wanted = told(column, truth)
    got = student.call("proxies", {"one": column, "kind": truth, "also": list(column)}, "kind")
    of = f"proxies of two columns {column} for {truth}"
    pairs = [listed(pair, 2, f"An entry of {of}") for pair in listed(got, 2, of)]
    expect.close(
        [number(share) for _, share in pairs], [wanted, wanted], of=f"The shares in {of}",
        unless={text: [told(column, truth, **how)] * 2 for text, how in NOT_TOLD.items()},
    )  # fmt: skip
    names = [name for name, _ in pairs]
    expect.true(
        names == ["also", "one"],
        "Of equally good columns, the name that is first in sorted order should come first, "
        f"['also', 'one'], but it is {names}.",
    )


@exercise("proxies", points=1)
def test_the_best_first(student, rng):
    _, shares, got, names = answers(student, rng, lambda table: True)
    order = sorted(shares, key=lambda name: -shares[name])
    expect.true(
        names == order,
        f"The best predictor first, the columns should come as {order}, but they come as {names}.",
    )
    expect.close([got[name] for name in order], [shares[name] for name in order], of="The shares")


# An audit

AUDIT = """
import torch
model = torch.nn.Sequential(torch.nn.Dropout(0.9))
model.train(training)
out = audit(model, loader, group, names)
after = model.training
"""


def draw_audit(rng, sizes=(8, 8, 3)):
    """Scores whose largest is the answer, labels, groups; and the batches."""
    n = sum(sizes)
    x, y = rng.normal(n, 3), rng.integers(0, 3, n)
    group = rng.integers(0, 3, n)
    group[:3] = y[3:6] = torch.arange(3)
    loader = list(zip(x.split(list(sizes)), y.split(list(sizes)), strict=True))
    return x.argmax(1) != y, y, group, loader


def asked(student, group, loader, names, training):
    got = student.run(
        AUDIT, ["out", "after"], group=group, loader=loader, names=names, training=training
    )
    keys = ("n", "error", "low", "high")
    out = mapping(got["out"], [*names, "all"], "audit(…)")
    for name in out:
        inside = mapping(out[name], keys, f"audit(…)[{name!r}]")
        numbers = {key: number(inside[key]) for key in keys}
        expect.true(
            None not in numbers.values(),
            f"audit(…)[{name!r}] should have a number for each key, but it is {inside!r:.120}.",
        )
        out[name] = numbers
    return out, got["after"]


def by_group(wrong, group, k=3):
    parts = [wrong[group == i].double() for i in range(k)] + [wrong.double()]
    return torch.tensor([part.mean() for part in parts])


def mean_of_batches(wrong, group, sizes):
    out = []
    for i in range(4):
        inside = group == i if i < 3 else torch.ones_like(group, dtype=torch.bool)
        parts = zip(wrong.double().split(sizes), inside.split(sizes), strict=True)
        out.append(torch.stack([w[b].mean() for w, b in parts if b.any()]).mean())
    return torch.tensor(out)


@exercise("audit", points=2)
def test_errors_of_groups(student, rng):
    sizes = [8, 8, 3]
    while True:
        wrong, y, group, loader = draw_audit(rng)
        right = by_group(wrong, group)
        mistakes = {
            "That is a mean of the batches' shares; count items.": mean_of_batches(
                wrong, group, sizes
            ),
            "You put items together by their label, not by their group.": by_group(wrong, y),
        }
        if all((m.nan_to_num(-1) - right).abs()[3 * (i == 0)] > 0.01 for i, m in
               enumerate(mistakes.values())):  # fmt: skip
            break
    names = [GROUPS[i] for i in rng.permutation(4)[:3].tolist()]
    out, _ = asked(student, group, loader, names, False)
    of = f"The errors of {', '.join(names)} and all"
    expect.close([out[name]["error"] for name in (*names, "all")], right, of=of, unless=mistakes)
    counts = [*torch.bincount(group, minlength=3).tolist(), 19]
    expect.close(
        [out[name]["n"] for name in (*names, "all")], counts, of=f"n of {', '.join(names)} and all"
    )


@exercise("audit", points=1)
def test_intervals(student, rng):
    wrong, _, group, loader = draw_audit(rng)
    names = ["left", "right", "upright"]
    out, _ = asked(student, group, loader, names, False)
    for i, name in enumerate(names):
        part, whole = int(wrong[group == i].sum()), int((group == i).sum())
        expect.close(
            [out[name]["low"], out[name]["high"]], wilson(part, whole, 1.96), atol=1e-5,
            of=f"The interval for {part} wrong of {whole}",
            unless={
                "That is the textbook's interval.": textbook(part, whole, 1.96),
                "That is the textbook's interval, cut off.": cut_off(part, whole, 1.96),
            },
        )  # fmt: skip


@exercise("audit", points=0.5)
def test_the_model_answers_in_evaluation_mode(student, rng):
    x, group = rng.normal(90, 3), rng.integers(0, 3, 90)
    group[:3] = torch.arange(3)
    wrong = rng.integer(3, 10)  # few in evaluation mode; most, while nine tenths are dropped
    y = (x.argmax(1) + (torch.arange(90) < wrong)) % 3
    order = rng.permutation(90)
    loader = list(zip(x[order].split(30), y[order].split(30), strict=True))
    out, _ = asked(student, group, loader, ["a", "b", "c"], True)
    expect.close(
        out["all"]["error"], wrong / 90,
        of="The error of a model with dropout, which must answer in evaluation mode,",
    )  # fmt: skip


@exercise("audit", points=0.5)
def test_the_mode_afterwards(student, rng):
    for training in (True, False):
        _, _, group, loader = draw_audit(rng)
        _, after = asked(student, group, loader, ["a", "b", "c"], training)
        name = "training" if training else "evaluation"
        expect.true(
            after is training,
            f"A model that came in {name} mode should be in it afterwards, but it is not in the "
            "mode in which it came.",
        )


@exercise("audit", points=1)
def test_a_group_without_items(student, rng):
    _, _, group, loader = draw_audit(rng)
    empty = rng.integer(0, 3)
    group = torch.where(group == empty, (empty + 1) % 3, group)
    names = [GROUPS[i] for i in rng.permutation(4)[:3].tolist()]
    code = (
        "import torch\nkind = 'nothing'\n"
        "try:\n    audit(torch.nn.Identity(), loader, group, names)\n"
        "except ValueError:\n    kind = 'ValueError'"
    )
    kind = student.run(code, ["kind"], loader=loader, group=group, names=names)["kind"]
    expect.true(
        kind == "ValueError",
        f"audit(…) should raise a ValueError if the group {names[empty]} is empty, but it raised "
        "nothing.",
    )
