"""Thurstone's log probabilities and derivatives: closed forms, the general quadrature, differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import log_ndtr
from scipy.stats import norm

from helpers.picking import jacobian_of
from recurate.rules import quadrature, thurstone
from recurate.rules.noise import GAUSSIAN, GUMBEL
from recurate.rules.rule import Rule
from recurate.rules.slates import Slates


@pytest.mark.parametrize(("k", "error"), [(2, 2e-12), (3, 1e-12), (4, 1e-12), (8, 1e-11), (20, 1e-10)])
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 3.0, 10.0, 50.0, 1000.0])
def test_probabilities_are_those_of_the_general_quadrature(k, error, spread):
    """Also of picks so unlikely that their probability underflows."""
    rng = np.random.default_rng(0)
    u, slots = spread * rng.normal(size=(200, k)), rng.integers(0, k, 200)
    found, _ = thurstone.first_slopes(u, slots)
    np.testing.assert_allclose(found, quadrature.log_first(GAUSSIAN, u, slots), rtol=error, atol=error)


def test_pairs_have_a_closed_form():
    """log Phi(d / sqrt 2), with the derivative by d."""
    gaps = np.array([0.0, 0.3, -3.0, 9.0, -9.0, 40.0, -40.0, 300.0, -300.0])
    logs, slopes = thurstone.first_slopes(np.column_stack([gaps, 0 * gaps]), np.zeros(gaps.size, int))
    z = gaps / math.sqrt(2)
    np.testing.assert_allclose(logs, log_ndtr(z), rtol=1e-13, atol=3e-15)
    expected = np.exp(norm.logpdf(z) - log_ndtr(z)) / math.sqrt(2)
    np.testing.assert_allclose(slopes, np.column_stack([expected, -expected]), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("k", [1, 2, 5, 30])
def test_probabilities_sum_to_one(k):
    u = 2 * np.random.default_rng(2).normal(size=(100, k))
    total = sum(np.exp(thurstone.first_slopes(u, np.full(100, j))[0]) for j in range(k))
    np.testing.assert_allclose(total, 1, atol=1e-10)


def test_equal_candidates_share():
    logs, _ = thurstone.first_slopes(np.full((3, 200), 7.0), np.array([0, 50, 199]))
    np.testing.assert_allclose(logs, -math.log(200), rtol=1e-9)


@pytest.mark.parametrize("noise", [GAUSSIAN, GUMBEL], ids=lambda noise: noise.name)
@pytest.mark.parametrize("spread", [0.3, 3.0])
@pytest.mark.parametrize("lapse", [0.0, 0.2, 1.0])
def test_slopes_are_derivatives_of_the_likelihood(noise, spread, lapse):
    """In slates of two to five, by each reward and by the lapse share, against differences."""
    rng = np.random.default_rng(4)
    slates = Slates(np.array([0, 2, 5, 10, 14]))
    rewards, picked = spread * rng.normal(size=14), np.array([1, 0, 3, 2])
    rule = Rule(temperature=0.8, noise=noise, lapse=lapse)
    logs, by_reward, by_lapse = rule.slopes(rewards, picked, slates)
    np.testing.assert_allclose(logs, rule.log_likelihood(rewards, picked, slates), rtol=1e-13)
    expected = jacobian_of(lambda r: rule.log_likelihood(r, picked, slates), rewards)
    np.testing.assert_allclose(by_reward, expected.sum(axis=0), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(slates.sums(by_reward), 0, atol=1e-12)
    ends = [
        np.exp(Rule(temperature=0.8, noise=noise, lapse=e).log_likelihood(rewards, picked, slates))
        for e in (0, 1)
    ]
    np.testing.assert_allclose(by_lapse, (ends[1] - ends[0]) / np.exp(logs), rtol=1e-11, atol=1e-12)
