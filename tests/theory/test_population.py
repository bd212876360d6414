"""The exact law over rounds: theorems, not formulas restated."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurate.core.errors import InputError
from recurate.rules.rule import Rule
from recurate.theory.population import Population
from recurate.theory.setting import Setting, check_weights

CASES = st.tuples(st.integers(0, 10**6), st.integers(2, 40), st.sampled_from([2, 3, 4, 8, 64]))


def random_population(seed: int, atoms: int, rewards: int = 1) -> Population:
    rng = np.random.default_rng(seed)
    scale = rng.choice([0.3, 1.0, 3.0])
    return Population(scale * rng.normal(size=(atoms, rewards)), law=rng.dirichlet(np.ones(atoms)))


@given(CASES)
def test_expected_exp_reward_gains_at_least_its_variance(case):
    """Ferbach et al., Lemma 2.2: E_{t+1} u >= E_t u + ((K-1)/K) Var_t u / u*."""
    seed, atoms, k = case
    population = random_population(seed, atoms)
    u = np.exp(population.rewards[:, 0])
    laws = list(population.play(Setting(Rule(k), rounds=6)))
    for now, after in itertools.pairwise(laws):
        variance = now @ u**2 - (now @ u) ** 2
        assert after @ u >= now @ u + (k - 1) / k * variance / u.max() - 1e-12 * u.max()


@given(CASES, st.floats(0.05, 0.95))
def test_real_data_bound_the_divergence(case, share):
    """Ferbach et al., Theorem 2.4: lambda < 1 / (K - 1) gives KL <= -log(1 - lambda (K - 1))."""
    seed, atoms, k = case
    lam = share / (k - 1)
    population = random_population(seed, atoms, rewards=2)
    for law in population.play(Setting(Rule(k), real_fraction=1 / (1 + lam), rounds=25)):
        assert (law / population.law).max() <= 1 / (1 - lam * (k - 1)) + 1e-12


@given(CASES)
def test_pure_curation_ends_on_the_best(case):
    seed, atoms, _ = case
    rng = np.random.default_rng(seed)
    rewards = np.r_[rng.uniform(-3, -1, atoms), 0.0, 0.0]
    law = rng.dirichlet(np.ones(atoms + 2)) * 0.9 + 0.1 / (atoms + 2)
    population = Population(rewards, law=law)
    *_, last = population.play(Setting(Rule(4), rounds=200))
    best = population.law * (rewards == 0)
    np.testing.assert_allclose(last, best / best.sum(), atol=1e-9)


def test_two_opposed_groups_follow_the_share_map():
    """math: s' = q (1 - (1-s)^K) + (1-q) s^K where each group never likes the other's items."""
    k, q, s = 4, 0.3, 0.5
    population = Population([[0.0, -2000.0], [-2000.0, 0.0]], law=[s, 1 - s], weights=[q, 1 - q])
    for law in population.play(Setting(Rule(k), rounds=30)):
        assert law[0] == pytest.approx(s, rel=1e-11)
        s = q * (1 - (1 - s) ** k) + (1 - q) * s**k


def test_mass_stays_one_for_a_thousand_rounds():
    population = random_population(3, 200, rewards=2)
    for law in population.play(Setting(Rule(64), rounds=1000)):
        assert law.sum() == pytest.approx(1, abs=1e-12)
        assert (law >= 0).all()


def test_blocks_are_populations_of_their_own():
    rng = np.random.default_rng(0)
    rewards, blocks = rng.normal(size=60), np.repeat([0, 1, 2], 20)
    rewards[blocks == 1] += 100
    together = Population(rewards, blocks=blocks).step(np.full(60, 1 / 60), Setting(Rule(4)))
    for block in range(3):
        alone = Population(rewards[blocks == block]).step(np.full(20, 1 / 20), Setting(Rule(4)))
        np.testing.assert_allclose(together[blocks == block], alone / 3, rtol=1e-12)


def test_infinite_k_is_the_tilt_and_one_is_nothing():
    population = random_population(5, 30)
    tilted = population.law * np.exp(population.rewards[:, 0])
    np.testing.assert_allclose(
        population.step(population.law, Setting(Rule(math.inf))), tilted / tilted.sum(), rtol=1e-13
    )
    np.testing.assert_array_equal(population.curate(population.law, Rule(1)), population.law)


@pytest.mark.parametrize("weights", [[0.5], [0.5, 0.6], [-0.5, 1.5], [math.nan, 1.0]])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(InputError, match="weight"):
        check_weights(np.array(weights), 2)


@pytest.mark.parametrize("law", [[0.5], [-1.0, 2.0], [0.0, 0.0], [math.nan, 1.0]])
def test_wrong_laws_are_refused(law):
    with pytest.raises(InputError):
        Population([0.0, 1.0], law=law)


@pytest.mark.parametrize("blocks", [None, np.repeat([0, 1], 100)])
def test_mass_stays_one_in_every_block_at_large_k(blocks):
    rng = np.random.default_rng(7)
    population = Population(rng.normal(size=(200, 2)), blocks=blocks, law=rng.random(200))
    own = np.zeros(200, int) if blocks is None else blocks
    before = np.bincount(own, population.law)
    for law in population.play(Setting(Rule({64: 0.5, 2: 0.5}), rounds=300)):
        np.testing.assert_allclose(np.bincount(own, law), before, rtol=1e-12)


def test_far_apart_atoms_see_each_other_through_the_far_field():
    """Between 80 and 300 nats apart only the far recursions carry the odds: pairs have a closed form."""
    for distance in (85.0, 125.0, 200.0, 290.0):
        multiplier = Population([0.0, distance], law=[0.6, 0.4]).multiplier(np.array([0.6, 0.4]), Rule(2))
        lose = math.exp(-distance) / (1 + math.exp(-distance))
        assert multiplier[0] == pytest.approx(0.6 + 0.4 * 2 * lose, rel=1e-12)
        tiny = Population([0.0, distance]).multiplier(np.array([1e-290, 1.0]), Rule(2))
        assert tiny[0] == pytest.approx(2 * lose, rel=1e-10)


def test_a_context_where_nothing_passes_stays_as_it_is():
    from recurate.rules import Threshold

    population = Population([0.0, 1.0, 5.0, 6.0], blocks=np.array([0, 0, 1, 1]))
    law = population.curate(population.law, Threshold(5.5))
    np.testing.assert_allclose(law, [0.25, 0.25, 0.0, 0.5])
    with pytest.raises(InputError, match="no candidate can pass"):
        population.curate(population.law, Threshold(7.0))


def test_contexts_without_a_draw_stay_as_they_are():
    population = Population(np.zeros(40), blocks=np.repeat(np.arange(20), 2))
    drawn = population.resample(population.law, 3, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(np.repeat(np.arange(20), 2), drawn), 1 / 20)
