"""The multiplier's identities, its limits, and independent ways to compute it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import recurate.rules.multiplier as own_nodes
from recurate.rules.convolution import Convolution
from recurate.rules.lattice import POINTS
from recurate.rules.multiplier import Multiplier, shorten_gaps
from recurate.rules.noise import GAUSSIAN, GUMBEL
from recurate.rules.rule import Rule

RANGES = np.arange(-45, 4, 3.5)
SLATES = st.sampled_from([2, 3, 4, 16, 1000, 10**6])


@st.composite
def populations(draw, spreads=(0.0, 1.0, 10.0, 300.0, 5000.0), most=30):
    count = draw(st.integers(1, most))
    scale = draw(st.sampled_from(spreads))
    rewards = draw(arrays(float, count, elements=st.floats(-1, 1))) * scale
    law = draw(arrays(float, count, elements=st.floats(0, 1)))
    assume(law.sum() > 1e-3)
    return rewards, law / law.sum()


@pytest.mark.parametrize("noise", [GUMBEL, GAUSSIAN])
def test_few_atoms_as_nodes_agree_with_the_lattice(noise, monkeypatch):
    rng = np.random.default_rng(5)
    for n, span in ((1, 0.0), (20, 1.0), (100, 33.0)):
        utilities, laws = rng.uniform(0, span, n), rng.dirichlet(np.ones(n), 3).T
        for k, keep in ((2, 1), (8, 1), (1000, 1), (9, 2)):
            found = Multiplier(utilities, noise)(laws, k, keep)
            with monkeypatch.context() as patch:
                patch.setattr(own_nodes, "FEW", 0)
                expected = Multiplier(utilities, noise)(laws, k, keep)
            np.testing.assert_allclose(found, expected, atol=1e-12 * k)


def by_enumeration(rewards, law, k):
    """H by summing over all K-tuples of atoms: the definition."""
    odds = np.exp(rewards - rewards.max())
    out = np.zeros_like(law)
    for rivals in itertools.product(range(len(law)), repeat=k - 1):
        mass = math.prod(law[j] for j in rivals)
        out += mass * k * odds / (odds + sum(odds[j] for j in rivals))
    return out


@given(populations(), SLATES)
def test_mass_is_kept_and_bounds_hold(population, k):
    rewards, law = population
    multiplier = Multiplier(rewards)(law, k)
    assert np.isfinite(multiplier).all()
    assert (multiplier >= 0).all()
    assert (multiplier <= k).all()
    assert abs(law @ multiplier - 1) < 1e-12


@given(populations(spreads=(1.0, 10.0), most=5), st.sampled_from([2, 3, 4]))
def test_equals_enumeration(population, k):
    rewards, law = population
    np.testing.assert_allclose(Multiplier(rewards)(law, k), by_enumeration(rewards, law, k), rtol=1e-12)


@given(populations(), SLATES, st.floats(-1e4, 1e4), st.randoms(use_true_random=False))
def test_shift_and_permutation_change_nothing(population, k, shift, random):
    rewards, law = population
    order = list(range(len(law)))
    random.shuffle(order)
    plain = Multiplier(rewards)(law, k)
    # Adding the shift rounds the rewards themselves, by up to 1e-12 for shifts of 1e4.
    moved = Multiplier(rewards[order] + shift)(law[order], k)
    np.testing.assert_allclose(moved, plain[order], rtol=1e-9, atol=1e-250)


@given(populations(), SLATES)
def test_grows_with_the_reward(population, k):
    rewards, law = population
    multiplier = Multiplier(rewards)(law, k)
    order = np.argsort(rewards)
    steps = np.diff(multiplier[order])
    assert (steps >= -1e-12 * k).all()


@given(populations())
def test_one_candidate_is_no_choice(population):
    rewards, law = population
    assert (Multiplier(rewards)(law, 1) == 1).all()


def test_tends_to_the_exponential_tilt():
    rng = np.random.default_rng(0)
    rewards, law = rng.normal(size=500), rng.dirichlet(np.ones(500))
    limit = Multiplier(rewards)(law, math.inf)
    np.testing.assert_allclose(limit, np.exp(rewards) / (np.exp(rewards) @ law), rtol=1e-13)
    errors = [np.abs(Multiplier(rewards)(law, k) / limit - 1).max() for k in (10**3, 10**4, 10**5, 10**6)]
    # First order in 1/K: a factor of ten in K is a factor of ten in the error.
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 10, rtol=0.05)


def test_equals_the_integral_by_adaptive_quadrature():
    from scipy.integrate import quad

    rng = np.random.default_rng(1)
    rewards, law = 3 * rng.normal(size=40), rng.dirichlet(np.ones(40))
    for k in (2, 7, 300):

        def integrand(y, own, k=k):
            # Rivals as exponential races: H = K int_0^inf e^{-w} (E e^{-w e^{r' - r}})^{K-1} dw, w = e^y.
            w = math.exp(y)
            return k * w * math.exp(-w) * (law @ np.exp(-w * np.exp(rewards - own))) ** (k - 1)

        # Beyond [-45, 4] the integrand is below 1e-19 of what lies inside.
        found = Multiplier(rewards)(law, k)[:5]
        for own, multiplier in zip(rewards[:5], found, strict=True):
            pieces = [quad(integrand, a, a + 3.5, args=(own,), epsabs=0, epsrel=1e-12) for a in RANGES]
            assert multiplier == pytest.approx(sum(value for value, _ in pieces), rel=1e-11)


@pytest.mark.parametrize("k", [2, 64, 10**6, 10**15, math.inf])
def test_rewards_thousands_of_nats_apart(k):
    rewards = np.array([0.0, 3.0, 1000.0, 1000.5, 5000.0, 5000.0, 1e7, 45.0, 85.0, 125.0])
    law = np.full(10, 0.1)
    multiplier = Multiplier(rewards)(law, k)
    assert np.isfinite(multiplier).all()
    assert abs(law @ multiplier - 1) < 1e-12
    if k == 2:  # the top wins against the other nine tenths and ties with itself
        assert multiplier[6] == pytest.approx(1.9, rel=1e-13)
        assert multiplier[0] == pytest.approx(0.1 + 0.1 * 2 / (1 + math.exp(3)), rel=1e-12)


def test_tiny_masses_keep_relative_accuracy():
    rewards, law = np.array([0.0, 200.0]), np.array([1.0, 1e-300])
    multiplier = Multiplier(rewards)(law / law.sum(), 4)
    assert multiplier[1] == pytest.approx(4.0, rel=1e-12)
    low = Multiplier(rewards)(np.array([1e-300, 1.0]), 2)
    assert low[0] == pytest.approx(2 * math.exp(-200) / (1 + math.exp(-200)), rel=1e-11)


def test_blocks_do_not_show():
    """A pair d nats apart has a closed form; d passes through every kind of block border."""
    for distance in np.linspace(0.0, 170.0, 171):
        law = np.array([0.3, 0.7])
        found = Multiplier(np.array([0.0, distance]))(law, 2)
        lower = 0.3 + 0.7 * 2 * math.exp(-distance) / (1 + math.exp(-distance))
        upper = 0.7 + 0.3 * 2 / (1 + math.exp(-distance))
        np.testing.assert_allclose(found, [lower, upper], rtol=2e-13)


def test_gaps_are_shortened_only_where_long():
    values = np.array([5.0, 0.0, 1e6, 1e6 + 2, 3e6])
    assert np.array_equal(shorten_gaps(values[:2]), values[:2])
    # Rewards of a million have an ulp of 1e-10.
    np.testing.assert_allclose(shorten_gaps(values), [5.0, 0.0, 805.0, 807.0, 1607.0], atol=1e-9)


def test_huge_gaps_are_not_lost_to_rounding():
    np.testing.assert_allclose(Multiplier(np.array([0, 1e19]))(np.array([0.5, 0.5]), 2), [0.5, 1.5])
    three = Multiplier(np.array([0, 1e18, 1e25]))(np.array([0.4, 0.3, 0.3]), 2)
    np.testing.assert_allclose(three, [0.4, 1.1, 1.7])


def test_the_rule_divides_by_its_temperature():
    rewards, law = np.array([0.0, 1.0, 4.0]), np.array([0.2, 0.5, 0.3])
    hot = Rule(3, temperature=2.5).multiplier(rewards, law)
    np.testing.assert_array_equal(hot, Rule(3).multiplier(rewards / 2.5, law))


@pytest.mark.parametrize("nodes", [700, 4000])
def test_tables_of_few_nodes_are_those_of_all(nodes):
    """In one block and across several."""
    used = np.array([3, 11, nodes - POINTS])
    few = Convolution(GUMBEL, 0.25, nodes, used, 40.0)
    every = Convolution(GUMBEL, 0.25, nodes, np.arange(nodes - POINTS + 1), 40.0)
    mass = np.zeros((nodes, 2))
    inside = np.unique(used[:, None] + np.arange(POINTS))
    mass[inside] = np.random.default_rng(1).dirichlet(np.ones(inside.size), 2).T
    found, expected = few.log_phi(mass), every.log_phi(mass)
    seen = expected[: len(found)] > -700
    np.testing.assert_allclose(found[seen], expected[: len(found)][seen], rtol=1e-12, atol=1e-15)
    values = np.random.default_rng(2).random((len(expected), 2))
    values[len(found) :] = 0.0
    np.testing.assert_allclose(
        few.gather(values[: len(found)])[inside], every.gather(values)[inside], rtol=1e-12
    )
