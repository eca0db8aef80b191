"""`glassbox.feedback`: loops whose truth is known."""

import pytest
import torch

from glassbox.feedback import meetups, patrols, viewing


def last(run) -> torch.Tensor:
    return run.share[:, -1, 0]


def test_patrols_have_shapes_and_a_truth():
    run = patrols((0.3, 0.2, 0.1), days=50, runs=7)
    assert run.share.shape == (7, 51, 3)
    assert torch.allclose(run.share.sum(2), torch.ones(7, 51))
    assert torch.allclose(run.truth, torch.tensor([1 / 2, 1 / 3, 1 / 6]))
    assert torch.allclose(run.share[:, 0], torch.full((7, 3), 1 / 3))


def test_the_same_seed_gives_the_same_city():
    assert torch.equal(patrols((0.3, 0.2), 20).share, patrols((0.3, 0.2), 20).share)
    assert not torch.equal(patrols((0.3, 0.2), 20).share, patrols((0.3, 0.2), 20, seed=1).share)


def test_one_find_is_one_record_where_the_patrol_was():
    run = patrols((1.0, 1.0), days=1, policy="greedy", start=(3, 1), runs=4)
    assert torch.allclose(run.share[:, 1], torch.tensor([[4 / 5, 1 / 5]] * 4))


def test_greedy_patrols_never_see_the_other_district():
    run = patrols((0.3, 0.3), 500, policy="greedy", start=(11, 10))
    assert last(run).min() > 0.9


def test_proportional_patrols_keep_the_head_start_that_the_records_had():
    run = patrols((0.3, 0.3), 1000, start=(30, 10), runs=200)
    assert last(run).mean() == pytest.approx(0.75, abs=0.04)


def test_proportional_patrols_favour_the_busier_district_more_and_more():
    run = patrols((0.3, 0.2), 3000, runs=60)
    assert last(run).median() > run.truth[0] + 0.1


@pytest.mark.parametrize("rates", [(0.3, 0.3), (0.3, 0.2), (0.4, 0.1)])
def test_corrected_patrols_learn_the_truth_whatever_the_records_said(rates):
    run = patrols(rates, 4000, policy="corrected", start=(30, 10), runs=60)
    assert last(run).median() == pytest.approx(run.truth[0].item(), abs=0.04)


def test_with_fixed_tastes_watching_and_liking_nearly_agree():
    run = viewing(pull=0.0, drift=0.0)
    assert run.satisfaction[-50:].mean() > 0.9
    assert torch.equal(run.taste, run.taste[:1].expand(400))
    assert all(column.shape == (400,) for column in run)


def test_pull_and_drift_together_lead_away():
    harm = {
        (pull, drift): viewing(pull=pull, drift=drift).satisfaction[-50:].mean()
        for pull in (0.0, 1.0)
        for drift in (0.0, 0.02)
    }
    assert harm[1.0, 0.02] < min(harm[0.0, 0.02], harm[1.0, 0.0], harm[0.0, 0.0]) - 0.1


def test_asking_keeps_viewers_where_they_came_from():
    asked, watched = (viewing(objective=o, pull=1.0) for o in ("answers", "minutes"))
    assert asked.satisfaction[-50:].mean() > watched.satisfaction[-50:].mean() + 0.2
    assert asked.minutes[-50:].mean() < watched.minutes[-50:].mean()
    assert asked.shown[-50:].mean() < watched.shown[-50:].mean()


def test_one_step_shows_every_level_about_as_often_as_any():
    run = viewing(steps=1, viewers=2000, levels=2)
    assert run.shown.shape == (1,)
    assert 0 <= run.shown.item() <= 1


def test_the_attribute_closes_the_loop_and_leaving_it_out_opens_it():
    used, left_out = meetups(uses="gender"), meetups(uses="neither")
    assert used.women_shown[-5:].mean() < used.men_shown[-5:].mean() - 0.2
    assert left_out.women_shown[-5:].mean() == pytest.approx(
        left_out.men_shown[-5:].mean().item(), abs=0.05
    )
    assert left_out.women_present[-5:].mean() > used.women_present[-5:].mean() + 0.15


def test_a_proxy_does_part_of_what_the_attribute_does():
    shown = [meetups(uses=u).women_shown[-5:].mean() for u in ("gender", "proxy", "neither")]
    assert shown[0] < shown[1] < shown[2]


def test_a_proxy_that_always_agrees_is_the_attribute():
    same = meetups(uses="proxy", told_by_proxy=1.0)
    assert all(torch.equal(a, b) for a, b in zip(same, meetups(told_by_proxy=1.0), strict=True))


def test_whoever_is_interested_is_shown_alike_also_where_fewer_women_are():
    run = meetups(uses="neither", interest=(0.2, 0.4))
    assert run.women_shown[-5:].mean() == pytest.approx(run.men_shown[-5:].mean().item(), abs=0.06)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: patrols((0.3, 0.2), 0), "days must be a whole number of at least 1"),
        (lambda: patrols((0.3, 0.2), runs=0), "runs must be a whole number"),
        (lambda: patrols((0.3,)), "rates must be two or more"),
        (lambda: patrols((0.3, 0.0)), "rates must be two or more, each above 0"),
        (lambda: patrols((0.3, 0.2), policy="fair"), "policy must be 'greedy', .* it is 'fair'"),
        (lambda: patrols((0.3, 0.2), start=(1, 0)), "start must be 2 numbers above 0"),
        (lambda: patrols((0.3, 0.2), start=(1,)), "start must be 2 numbers above 0"),
        (lambda: viewing(0), "steps must be a whole number"),
        (lambda: viewing(1, viewers=0), "viewers must be a whole number"),
        (lambda: viewing(1, levels=1), "levels must be a whole number of at least 2"),
        (lambda: viewing(1, objective="clicks"), "objective must be 'minutes' or 'answers'"),
        (lambda: viewing(1, pull=-1), "pull must be 0 or more, but it is -1"),
        (lambda: viewing(1, drift=2), "drift must lie between 0 and 1, but it is 2"),
        (lambda: meetups(0), "rounds must be a whole number"),
        (lambda: meetups(people=10), "people must be a whole number of at least 100"),
        (lambda: meetups(uses="age"), "uses must be 'gender', 'proxy' or 'neither'"),
        (lambda: meetups(interest=(0.0, 0.3)), "interest must be two shares above 0"),
        (lambda: meetups(told_by_proxy=0.2), "told_by_proxy must be from 0.5 to 1"),
    ],
)
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
