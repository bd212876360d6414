"""The recovered rule is an object that forecasts run forwards, with intervals; likelihoods are the rule's."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from recurate.choices.models.recovery import Recovered, recover
from recurate.choices.observed import Observed
from recurate.log.schema import as_log
from recurate.rules import GAUSSIAN, GUMBEL, NO_NOISE, Rule, Threshold, TopFraction
from recurate.rules.families import Family

FOUR = {4: 1.0}


def observed(rewards, slots):
    """Return slates (slates, K) with the slots (slates, kept) picked, as an audit or a forecast sees them."""
    n, k = rewards.shape
    picked = (np.arange(k)[None, :, None] == slots.reshape(n, 1, -1)).any(axis=2)
    table = {"slate": np.repeat(np.arange(n), k), "reward": rewards.ravel(), "picked": picked.ravel()}
    return Observed.of(as_log(pa.table(table), several=True))


def test_the_interval_of_the_temperature():
    low, high = Recovered(Family.LUCE, (2.0, 0.1)).temperature_interval
    assert (low, high) == pytest.approx((1 / 2.196, 1 / 1.804))
    assert Recovered(Family.LUCE, (0.1, 0.1)).temperature_interval == pytest.approx((1 / 0.296, math.inf))
    for none in (Recovered(Family.UNIFORM), Recovered(Family.LUCE, (-1.0, 0.1))):
        assert none.temperature is None
        assert none.temperature_interval is None


@pytest.mark.parametrize(
    ("recovered", "rule"),
    [
        (Recovered(Family.LUCE, (2.0, 0.1), keep=1, sizes=FOUR), Rule(4, 0.5)),
        (Recovered(Family.LUCE, (2.0, 0.1), keep=1, sizes={2: 0.3, 5: 0.7}), Rule({2: 0.3, 5: 0.7}, 0.5)),
        (
            Recovered(Family.LAPSE, (2.0, 0.1), (0.1, 0.0, 0.2), keep=1, sizes=FOUR),
            Rule(4, 0.5, lapse=0.1),
        ),
        (Recovered(Family.THURSTONE, (4.0, 0.1), keep=1, sizes=FOUR), Rule(4, 0.25, GAUSSIAN)),
        (
            Recovered(Family.BEST, None, (0.2, 0.0, 0.3), keep=1, sizes=FOUR),
            Rule(4, 1.0, NO_NOISE, lapse=0.2),
        ),
        (Recovered(Family.KEPT, (1.0, 0.1), keep=2, sizes=FOUR), Rule(4, 1.0, keep=2)),
        (Recovered(Family.UNIFORM, keep=1, sizes=FOUR), Rule(4, lapse=1.0)),
        (Recovered(Family.TOP, share=0.2), TopFraction(0.2)),
        (Recovered(Family.POOL_SOFTMAX, (2.0, 0.1), share=0.2), TopFraction(0.2, 0.5, GUMBEL)),
        (Recovered(Family.POOL_UNIFORM, share=0.2), Rule(1)),
        (Recovered(Family.VERIFIER, share=0.2, cut=(0.4, 0.5)), Threshold(0.5)),
        (Recovered(Family.WORST, keep=1, sizes=FOUR), None),
        (Recovered(Family.LUCE, (-1.0, 0.1), keep=1, sizes=FOUR), None),
        (Recovered(Family.UNKNOWN), None),
    ],
)
def test_the_recovered_rule_as_one_to_forecast_with(recovered, rule):
    assert recovered.rule == rule


@pytest.mark.parametrize("noise", [GUMBEL, NO_NOISE], ids=lambda noise: noise.name)
def test_what_is_recovered_runs_forwards(noise):
    """The law of what a population's picks become is that of the rule that made the log's picks."""
    rng = np.random.default_rng(3)
    rewards = rng.normal(size=(8000, 5))
    truth = Rule(5, 0.5, noise)
    found = recover(observed(rewards, truth.draw(rewards, rng)))
    assert isinstance(found.rule, Rule)
    assert found.rule.sizes == ((5, 1.0),)
    pool, law = rng.normal(size=200), np.full(200, 1 / 200)
    means = [float((law * rule.multiplier(pool, law)) @ pool) for rule in (found.rule, truth, Rule(5, 1.0))]
    assert means[0] == pytest.approx(means[1], abs=0.03)  # 1 / temperature has an error of 2 %
    assert abs(means[0] - means[2]) > 0.1
    if noise is GUMBEL:
        low, high = found.temperature_interval
        assert low < found.temperature < high
        assert (low, high) == pytest.approx((0.5, 0.5), rel=0.1)


def test_the_likelihoods_are_those_of_the_rules():
    """Against the rules' own log-likelihoods, at the fitted parameters."""
    rng = np.random.default_rng(5)
    rewards = rng.normal(size=(3000, 4))
    picks = Rule(4, 0.7, lapse=0.2).draw(rewards, rng)
    found = recover(observed(rewards, picks))
    assert found.family == Family.LAPSE
    assert found.lapse is not None
    at = Rule(4, found.temperature or 0.0, lapse=found.lapse[0]).log_likelihood(rewards, picks).sum()
    assert found.logs[Family.LAPSE] == pytest.approx(at, abs=1e-6)
    assert found.logs[Family.UNIFORM] == pytest.approx(-3000 * np.log(4))
    assert max(found.logs, key=lambda n: found.logs[n]) == Family.LAPSE


def test_slates_of_the_same_two_rewards_do_not_tell_the_rule():
    """Best of K with lapses, Luce and Thurstone are one law there, which the picks cannot tell apart."""
    won = np.arange(800) % 5 > 0
    found = recover(observed(np.tile([0.0, 0.7], (800, 1)), won.astype(int)[:, None]))
    assert abs(found.logs[Family.BEST] - found.logs[Family.LUCE]) < 1e-3
    assert found.family == Family.LUCE
    assert math.exp(0.7 / found.temperature) == pytest.approx(won.mean() / (1 - won.mean()), rel=1e-6)
    other = recover(observed(np.tile([[0.0, 0.7], [0.0, 3.0]], (400, 1)), won.astype(int)[:, None]))
    assert other.family == Family.BEST
