"""A rule's draw, probabilities, likelihood and multiplier say the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2

from recurate.errors import InputError
from recurate.rules.rule import Rule

# Statistical tests here have a false-alarm rate of 1e-6 each, and fixed seeds.
ALARM = 1e-6


def test_draws_follow_the_probabilities():
    rng = np.random.default_rng(0)
    rewards = np.array([[0.0, 1.0, -2.0, 0.5]])
    rule = Rule(4, temperature=0.7)
    n = 200_000
    counts = np.bincount(rule.draw(np.repeat(rewards, n, axis=0), rng), minlength=4)
    expected = n * rule.probabilities(rewards)[0]
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < chi2.ppf(1 - ALARM, 3)


def test_the_probabilities_are_luces():
    rewards = np.array([[0.0, math.log(3.0)], [1e4, 0.0]])
    np.testing.assert_allclose(Rule(2).probabilities(rewards), [[0.25, 0.75], [1.0, 0.0]], rtol=1e-15)


def test_the_likelihood_is_the_log_of_the_probability():
    rng = np.random.default_rng(1)
    rewards = rng.normal(size=(50, 3)) * 5
    rule = Rule(3, temperature=2.0)
    picked = rule.draw(rewards, rng)
    expected = np.log(rule.probabilities(rewards)[np.arange(50), picked])
    np.testing.assert_allclose(rule.log_likelihood(rewards, picked), expected, rtol=1e-12)


@pytest.mark.parametrize("k", [2, 4, 9])
def test_picked_candidates_follow_the_multiplier(k):
    """The law of simulated picks is p H: draw and multiplier are tested against each other."""
    rng = np.random.default_rng(k)
    rewards, law = np.array([-1.0, 0.0, 0.3, 2.0, 2.0]), np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    n = 200_000
    items = rng.choice(5, size=(n, k), p=law)
    slots = Rule(k).draw(rewards[items], rng)
    counts = np.bincount(items[np.arange(n), slots], minlength=5)
    expected = n * law * Rule(k).multiplier(rewards, law)
    assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(1 - ALARM, 4)


@pytest.mark.parametrize("k", [0, -1, 2.5, math.nan])
def test_wrong_slate_sizes_are_refused(k):
    with pytest.raises(InputError, match="slate size"):
        Rule(k)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_wrong_temperatures_are_refused(temperature):
    with pytest.raises(InputError, match="temperature"):
        Rule(4, temperature)
