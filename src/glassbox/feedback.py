"""Feedback loops whose truth is known: what a system decides today is what it learns from tomorrow.

`patrols`, `Patrols`, `viewing`, `Viewing`, `meetups`, `Meetups`.

Each simulation knows what the system cannot see (the real rate of crime, the taste that a viewer
came with, who would like to come), so that the harm is a number. They show what a mechanism *can*
do under stated assumptions; whether a real system does it is a question about that system. Built
in the chapter *ethics*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glassbox.checks import whole

__all__ = ["Meetups", "Patrols", "Viewing", "meetups", "patrols", "viewing"]


class Patrols(NamedTuple):
    """What became of a city's patrols; on the CPU."""

    share: Tensor
    """float32, shape (runs, days + 1, districts): the share of the records that each district
    has, before each day and after the last. It is where the next patrol is likely to go."""
    truth: Tensor
    """float32, shape (districts,): each district's share of the crime."""


def patrols(
    rates: Sequence[float],
    days: int = 1000,
    *,
    policy: str = "proportional",
    start: Sequence[float] | None = None,
    runs: int = 30,
    seed: int = 0,
) -> Patrols:
    """Send a patrol each day to one district, and record what it finds there.

    Crime happens in every district at its own rate, the same every day. It is recorded only where
    the patrol is. This is the urn of Ensign and others (2018).

    Parameters
    ----------
    rates : sequence of float
        For each district, the probability that a patrol there finds something; above 0, at most 1.
    days : int
        At least 1.
    policy : "greedy", "proportional" or "corrected"
        Where the patrol goes. Greedy: to the district with the most records. Proportional: at
        random, in proportion to the records. Corrected: as proportional, but a find is written
        down with a probability that is the smaller, the more often the patrol goes there, so that
        a district is not counted for having been looked at.
    start : sequence of float, optional
        The records before the first day, above 0; ten for each district when left out.
    runs : int
        How many cities, each with chance of its own.
    seed : int
        The same arguments give the same cities.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    whole("days", days, 1)
    whole("runs", runs, 1)
    if len(rates) < 2 or not all(0 < rate <= 1 for rate in rates):
        raise ValueError(f"rates must be two or more, each above 0 and at most 1, not {rates!r}.")
    if policy not in ("greedy", "proportional", "corrected"):
        raise ValueError(
            f"policy must be 'greedy', 'proportional' or 'corrected', but it is {policy!r}."
        )
    first = [10.0] * len(rates) if start is None else list(start)
    if len(first) != len(rates) or not all(records > 0 for records in first):
        raise ValueError(f"start must be {len(rates)} numbers above 0, one a district: {start!r}.")
    generator = torch.Generator().manual_seed(seed)
    truth, records = torch.tensor(rates).float(), torch.tensor(first).float().repeat(runs, 1)
    city = torch.arange(runs)
    history = [records / records.sum(1, keepdim=True)]
    for _ in range(days):
        share = history[-1]
        if policy == "greedy":
            where = records.argmax(1)
        else:
            where = torch.multinomial(share, 1, generator=generator)[:, 0]
        found = torch.rand(runs, generator=generator) < truth[where]
        if policy == "corrected":
            written = share.amin(1) / share[city, where]
            found &= torch.rand(runs, generator=generator) < written
        records[city, where] += found.float()
        history.append(records / records.sum(1, keepdim=True))
    return Patrols(torch.stack(history, 1), truth / truth.sum())


class Viewing(NamedTuple):
    """What became of a platform's viewers; each a float32 tensor of shape (steps,), on the CPU."""

    shown: Tensor
    """The mean level of what was shown: 0 is calm, 1 the most extreme."""
    minutes: Tensor
    """The mean minutes watched."""
    satisfaction: Tensor
    """How well what was shown fits the taste that the viewers *came* with, from 0 to 1."""
    taste: Tensor
    """The mean level that the viewers like best by now."""


def viewing(
    steps: int = 400,
    *,
    objective: str = "minutes",
    pull: float = 0.5,
    drift: float = 0.02,
    viewers: int = 400,
    levels: int = 6,
    seed: int = 0,
) -> Viewing:
    """Recommend one video after another to viewers, learning from what they did before.

    For each viewer the recommender keeps a running mean of its objective for each level, shows the
    best one, and one time in ten a level at random. It knows nothing else.

    Parameters
    ----------
    steps : int
        Videos for each viewer, at least 1.
    objective : "minutes" or "answers"
        What is maximised: the minutes watched, or a rating that the viewer gives, which is the
        satisfaction plus chance.
    pull : float
        By which part the most extreme video is watched longer than the calmest one, whether or
        not it pleases; 0 or more.
    drift : float
        How far one video moves the taste towards itself, from 0 (tastes are fixed) to 1.
    viewers, levels : int
        How many, at least 1 and 2.
    seed : int
        The same arguments give the same viewers.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    whole("steps", steps, 1)
    whole("viewers", viewers, 1)
    whole("levels", levels, 2)
    if objective not in ("minutes", "answers"):
        raise ValueError(f"objective must be 'minutes' or 'answers', but it is {objective!r}.")
    if pull < 0:
        raise ValueError(f"pull must be 0 or more, but it is {pull!r}.")
    if not 0 <= drift <= 1:
        raise ValueError(f"drift must lie between 0 and 1, but it is {drift!r}.")
    generator = torch.Generator().manual_seed(seed)
    level = torch.linspace(0, 1, levels)
    came_with = 0.1 + 0.3 * torch.rand(viewers, generator=generator)
    taste, person = came_with.clone(), torch.arange(viewers)
    # An optimistic start: every level is tried before one is given up.
    value = torch.full((viewers, levels), 2.0 * (1 + pull))
    rows = []
    for _ in range(steps):
        explore = torch.rand(viewers, generator=generator) < 0.1
        anywhere = torch.randint(levels, (viewers,), generator=generator)
        chosen = torch.where(explore, anywhere, value.argmax(1))
        x = level[chosen]
        satisfaction = _fit(x, came_with)
        minutes = 10 * _fit(x, taste) * (1 + pull * x)
        noise = 0.1 * torch.randn(viewers, generator=generator)
        reward = (minutes / 10 if objective == "minutes" else satisfaction) + noise
        value[person, chosen] += 0.2 * (reward - value[person, chosen])
        taste = taste + drift * (x - taste)
        rows.append(torch.stack([x, minutes, satisfaction, taste]).mean(1))
    return Viewing(*torch.stack(rows, 1))


def _fit(x: Tensor, taste: Tensor) -> Tensor:
    """How well a level fits a taste: 1 when they are the same, and a bell around it."""
    return (-0.5 * ((x - taste) / 0.3) ** 2).exp()


class Meetups(NamedTuple):
    """What became of a town's technical meetups; float32 tensors of shape (rounds,), on the CPU."""

    women_shown: Tensor
    """Of the interested women, the share to whom the meetup was recommended."""
    men_shown: Tensor
    """Of the interested men, the share to whom it was recommended."""
    women_present: Tensor
    """The share of women among those who came."""


def meetups(
    rounds: int = 30,
    *,
    uses: str = "gender",
    interest: tuple[float, float] = (0.3, 0.3),
    told_by_proxy: float = 0.9,
    people: int = 4000,
    seed: int = 0,
) -> Meetups:
    """Recommend technical meetups to the people who seem likeliest to come, round after round.

    Half of the town are women. Each person has said what interests them, with some error. The
    recommender scores everybody by that, and by how often people with the same attribute came
    before; the best third is shown the meetup. Who is interested comes the likelier, the more
    of their own gender were there the last time. In the beginning one in five was a woman.

    Parameters
    ----------
    rounds : int
        At least 1.
    uses : "gender", "proxy" or "neither"
        The attribute that the recommender learns from besides what people said: none, gender, or
        a column that is not gender and agrees with it mostly.
    interest : pair of float
        The share of the women and of the men who are interested, each from 0 to 1, not 0.
    told_by_proxy : float
        How often the proxy agrees with the gender, from 0.5 to 1.
    people : int
        At least 100.
    seed : int
        The same arguments give the same town.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    whole("rounds", rounds, 1)
    whole("people", people, 100)
    if uses not in ("gender", "proxy", "neither"):
        raise ValueError(f"uses must be 'gender', 'proxy' or 'neither', but it is {uses!r}.")
    if len(interest) != 2 or not all(0 < share <= 1 for share in interest):
        raise ValueError(f"interest must be two shares above 0 and at most 1, not {interest!r}.")
    if not 0.5 <= told_by_proxy <= 1:
        raise ValueError(f"told_by_proxy must be from 0.5 to 1, but it is {told_by_proxy!r}.")
    generator = torch.Generator().manual_seed(seed)

    def chance(probability: Tensor | float) -> Tensor:
        return torch.rand(people, generator=generator) < probability

    woman = chance(0.5)
    interested = chance(torch.where(woman, *interest))
    agrees = chance(told_by_proxy)
    attribute = {
        "gender": woman,
        "proxy": woman == agrees,
        "neither": torch.zeros(people, dtype=torch.bool),
    }[uses].long()
    share_present = torch.tensor([0.8, 0.2])  # of men and of women, the last time
    came = torch.zeros(2)  # how many of each value of the attribute came, so far
    came += torch.bincount(attribute, weights=0.1 * share_present[woman.long()], minlength=2)
    rows = []
    for _ in range(rounds):
        said = interested.float() + 0.5 * torch.randn(people, generator=generator)
        habit = came / torch.bincount(attribute, minlength=2).clamp(min=1)
        habit = habit / habit.max()
        shown = torch.zeros(people, dtype=torch.bool)
        shown[(said + habit[attribute]).topk(people // 3).indices] = True
        welcome = 0.2 + 0.6 * share_present[woman.long()]
        comes = shown & interested & chance(welcome)
        came += torch.bincount(attribute, weights=comes.float(), minlength=2)
        women = float((comes & woman).sum() / comes.sum().clamp(min=1))
        share_present = torch.tensor([1 - women, women])
        seen = [float(shown[interested & who].float().mean()) for who in (woman, ~woman)]
        rows.append([*seen, women])
    return Meetups(*torch.tensor(rows).T)
