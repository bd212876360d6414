"""What a round is made of: stages, real data, accumulation, partial retraining."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from recurate import forecast
from recurate.core.errors import InputError
from recurate.rules import GAUSSIAN, Rule, Threshold, TopFraction
from recurate.theory.population import Population
from recurate.theory.setting import Setting, Stage, check_efficacy, play

PLAIN = Setting(Rule(4), rounds=6)


def opposed(share: float) -> Population:
    """Return two groups, each infinitely liked by its own reward alone."""
    return Population([[0.0, -2000.0], [-2000.0, 0.0]], law=[share, 1 - share])


@pytest.mark.parametrize(("k", "threshold"), [(2, 0.381966), (3, 0.318)])
def test_two_stages_are_bistable(k, threshold):
    """Two opposed stages in turn: s' = (1 - (1-s)^K)^K, with an unstable fixed point between 0 and 1."""
    setting = Setting(Rule(k), (1.0, 0.0), 0.0, 200, then=(Stage(Rule(k), (0.0, 1.0)),))
    first = next(iter([*opposed(0.4).play(replace(setting, rounds=1))][1:]))
    assert first[0] == pytest.approx((1 - 0.6**k) ** k, rel=1e-12)
    for start, end in ((threshold - 2e-3, 0.0), (threshold + 2e-3, 1.0)):
        *_, last = opposed(start).play(setting)
        assert last[0] == pytest.approx(end, abs=1e-6)


def test_stages_in_the_other_order_have_the_other_threshold():
    """Second group first: its share follows the same map, so the threshold of the first's is 1 - 0.381966."""
    setting = Setting(Rule(2), (0.0, 1.0), 0.0, 200, then=(Stage(Rule(2), (1.0, 0.0)),))
    for start, end in ((0.616, 0.0), (0.620, 1.0)):
        *_, last = opposed(start).play(setting)
        assert last[0] == pytest.approx(end, abs=1e-6)


def test_stages_at_infinite_k_add_rewards():
    rng = np.random.default_rng(0)
    rewards, law = rng.normal(size=(30, 2)), rng.dirichlet(np.ones(30))
    setting = Setting(Rule(math.inf), (1.0, 0.0), 0.0, 1, then=(Stage(Rule(math.inf), (0.0, 1.0)),))
    *_, last = Population(rewards, law=law).play(setting)
    tilted = law * np.exp(rewards.sum(axis=1))
    np.testing.assert_allclose(last, tilted / tilted.sum(), rtol=1e-12)


def test_a_stage_may_be_any_rule():
    rewards = np.array([0.0, 1.0, 2.0, 3.0])
    setting = Setting(Threshold(1.0), (1.0,), 0.0, 1, then=(Stage(TopFraction(0.5)),))
    *_, last = Population(rewards).play(setting)
    # Three pass; the better half of them is the 3, and half of the 2.
    np.testing.assert_allclose(last, [0, 0, 1 / 3, 2 / 3], atol=1e-12)


def test_accumulation_averages_all_rounds():
    """The training law after t rounds is the mean of p_0 and the t batches so far."""
    rng = np.random.default_rng(1)
    population = Population(rng.normal(size=40), law=rng.dirichlet(np.ones(40)))
    laws = list(population.play(replace(PLAIN, accumulate=True, real_fraction=0.25)))
    kept = [population.law]
    for now, after in itertools.pairwise(laws):
        kept.append(0.25 * population.reference + 0.75 * population.curate(now, Rule(4)))
        np.testing.assert_allclose(after, np.mean(kept, axis=0), rtol=1e-12)


def test_accumulation_starts_from_the_real_data():
    population = Population([0.0, 1.0, 5.0], law=[0.5, 0.5, 0.0], reference=[0.0, 0.0, 1.0])
    *_, last = population.play(replace(PLAIN, accumulate=True, rounds=1))
    picked = population.curate(population.law, Rule(4))
    np.testing.assert_allclose(last, (population.reference + picked) / 2, rtol=1e-12)


def test_an_accumulating_loop_goes_on_where_it_was():
    rng = np.random.default_rng(2)
    population = Population(rng.normal(size=20))
    setting = replace(PLAIN, accumulate=True)
    laws = list(population.play(setting))
    later = Population(population.rewards, law=laws[3])
    again = list(later.play(replace(setting, rounds=3, first=3)))
    np.testing.assert_allclose(again, laws[3:], rtol=1e-11)


@pytest.mark.parametrize("eta", [0.25, 1.0])
def test_efficacy_is_part_of_the_way(eta):
    population = Population([0.0, 1.0, 2.0])
    laws = list(population.play(replace(PLAIN, efficacy=eta, real_fraction=0.4)))
    for now, after in itertools.pairwise(laws):
        goal = 0.4 * population.reference + 0.6 * population.curate(now, Rule(4))
        np.testing.assert_allclose(after, now + eta * (goal - now), rtol=1e-12)


def test_all_real_data_is_the_reference_at_once():
    population = Population([0.0, 1.0], law=[0.3, 0.7], reference=[0.9, 0.1])
    for law in list(population.play(replace(PLAIN, real_fraction=1.0)))[1:]:
        np.testing.assert_allclose(law, [0.9, 0.1])


def test_play_takes_several_real_fractions_at_once():
    start = np.repeat([[0.5], [0.5]], 3, axis=1)
    *_, last = play(replace(PLAIN, rounds=1), start, start, lambda law: law * 0 + [[1.0], [0.0]], [0, 0.5, 1])
    np.testing.assert_allclose(last[0], [1.0, 0.75, 0.5])


def test_a_forecast_knows_all_of_it():
    rng = np.random.default_rng(3)
    rewards = rng.normal(size=300)
    result = forecast(
        rewards,
        k=4,
        rounds=3,
        real_fraction=0.2,
        accumulate=True,
        efficacy=0.5,
        then=[Stage(Rule(2, lapse=0.1))],
    )
    setting = Setting(
        Rule(4), (1.0,), 0.2, 3, then=(Stage(Rule(2, lapse=0.1)),), accumulate=True, efficacy=0.5
    )
    means = [law @ rewards for law in Population(rewards).play(setting)]
    np.testing.assert_allclose(result.trajectory.values("mean_reward"), means, rtol=1e-12)
    facts = result.setting.facts()
    assert facts["then"] == [{"k": 2, "temperature": 1.0, "lapse": 0.1, "weights": [1.0]}]
    assert facts["accumulate"] is True
    assert facts["efficacy"] == 0.5


@pytest.mark.parametrize("value", [0.0, -1.0, 1.1, math.nan, "1", None])
def test_a_wrong_efficacy_is_refused(value):
    with pytest.raises(InputError, match="efficacy"):
        check_efficacy(value)


@pytest.mark.parametrize(
    "part", [{"k": 4}, {"k": 5}, {"temperature": 1.0}, {"noise": "gumbel"}, {"keep": 1}, {"lapse": 0.0}]
)
def test_a_rule_and_a_part_of_one_are_refused_together(part):
    """Whatever the part's value: what is not given is None, not a default that happens to be equal."""
    with pytest.raises(InputError, match="brings its own"):
        forecast([0.0, 1.0], rule=Rule(4), **part)
    with pytest.raises(InputError, match="brings its own"):
        Setting.of(Rule(4), **part)


def test_a_setting_of_parts_is_the_one_with_their_rule():
    parts = Setting.of(k=3, noise="gaussian", lapse=0.1, rounds=2)
    assert parts == Setting(Rule(3, noise=GAUSSIAN, lapse=0.1), rounds=2)
    assert Setting.of(k=None, temperature=None) == Setting(Rule())


@pytest.mark.parametrize(
    "wrong",
    [
        {"real_fraction": 1.5}, {"real_fraction": None}, {"rounds": -1}, {"rounds": 2.5}, {"picks": 0},
        {"efficacy": 0.0}, {"first": -1}, {"weights": (0.5, 0.6)}, {"weights": ("a",)},
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_where_the_setting_is_made(wrong):
    with pytest.raises(InputError):
        Setting(Rule(4), **wrong)


def test_weights_are_those_of_the_first_stage_unless_given():
    setting = Setting(Rule(4), (0.25, 0.75), then=(Stage(Rule(2)), Stage(Rule(3), (1.0, 0.0))))
    assert [stage.weights for stage in setting.stages] == [(0.25, 0.75), (0.25, 0.75), (1.0, 0.0)]
    assert Setting(Rule(4), then=(Stage(Rule(2)),)).over(2).stages[1].weights == (0.5, 0.5)
    with pytest.raises(InputError, match="one weight for each of the 3 rewards"):
        setting.over(3)


@pytest.mark.parametrize("weights", [[[0.3, 1.0, 0.5], [0.7, 0.0, 0.5]], [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]])
def test_many_loops_at_once_are_as_many_loops(weights):
    rng = np.random.default_rng(4)
    population = Population(
        rng.normal(size=(30, 2)), law=rng.dirichlet(np.ones(30)), reference=rng.dirichlet(np.ones(30))
    )
    weights, fractions = np.array(weights), np.array([0.0, 0.2, 1.0])
    together = list(population.play_many(PLAIN, weights, fractions))
    for b, rho in enumerate(fractions):
        alone = population.play(replace(PLAIN, weights=tuple(weights[:, b]), real_fraction=float(rho)))
        for many, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(many[:, b], one, rtol=1e-12, atol=1e-300)
