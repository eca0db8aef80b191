"""Every attack succeeds against a grader without a wall, and none against lectern."""

from collections import Counter

import pytest

from . import answers, forging, leaving, reading
from .attack import Attack
from .controls import Controls
from .trials import Wall

ATTACKS = [*answers.ATTACKS, *reading.ATTACKS, *forging.ATTACKS, *leaving.ATTACKS]
each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=str)


@each_attack
def test_it_succeeds_without_a_wall(attack: Attack, controls: Controls) -> None:
    after = controls.run(attack)
    assert attack.claim(after), after


@each_attack
def test_it_has_no_effect_on_lectern(attack: Attack, wall: Wall) -> None:
    trial = wall.run(attack)
    assert trial.points == 0, trial.outcomes
    assert len(trial.outcomes) == 4
    assert "broken check" not in trial.stops, trial.outcomes
    assert wall.secret not in trial.text
    if attack.never:
        assert attack.never not in trial.text
    if attack.stopped:
        assert attack.stopped in trial.stops
    assert not trial.survivors
    assert not trial.changed
    assert not trial.received
    assert trial.bystander_lives
    assert not trial.neighbour
    assert trial.honest_points == 4


def test_there_are_at_least_60_attacks_and_two_of_each_kind() -> None:
    kinds = Counter(attack.kind for attack in ATTACKS)
    assert len(ATTACKS) >= 60
    assert min(kinds.values()) >= 2, kinds
    assert len({str(attack) for attack in ATTACKS}) == len(ATTACKS)
