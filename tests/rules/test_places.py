"""Effects of places under a random order, against all slates in all orders."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurate import Population, Rule, Setting
from recurate.core.errors import InputError
from recurate.rules.places import Placed


def by_enumeration(rewards: np.ndarray, law: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """Return K P(x is in a random place of a slate and is picked | x), summed over all ordered slates."""
    out = np.zeros(law.size)
    for slate in itertools.product(range(law.size), repeat=effects.size):  # in the order of the places
        odds = np.exp(rewards[list(slate)] + effects)
        for place, atom in enumerate(slate):
            out[atom] += law[list(slate)].prod() * odds[place] / odds.sum()
    return out / law


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 4), st.integers(0, 10**6), st.floats(0, 4))
def test_every_order_of_every_slate(k, seed, size):
    rng = np.random.default_rng(seed)
    rewards, effects = rng.normal(size=5) * 3, rng.normal(size=k) * size
    law = rng.dirichlet(np.ones(5))
    found = Placed(tuple(effects), k).multiplier(rewards, law)
    np.testing.assert_allclose(found, by_enumeration(rewards, law, effects), rtol=1e-11)
    assert abs(found @ law - 1) < 1e-12


@pytest.mark.parametrize("k", [2, 5, {2: 0.25, 7: 0.75}])
def test_equal_places_are_luce(k):
    rewards = np.random.default_rng(0).normal(size=300) * 5
    law = np.full(300, 1 / 300)
    found = Placed((1.5,) * 7, k, temperature=0.5).multiplier(rewards, law)
    np.testing.assert_allclose(found, Rule(k, temperature=0.5).multiplier(rewards, law), rtol=1e-11)


def test_one_place_that_always_wins_is_no_selection():
    rewards = np.array([0.0, 1.0, 5.0])
    found = Placed((60.0, 0.0), 2).multiplier(rewards, np.array([0.2, 0.5, 0.3]))
    np.testing.assert_allclose(found, 1.0, rtol=1e-12)


def test_in_a_population():
    population = Population(np.random.default_rng(0).normal(size=200))
    biased = list(population.play(Setting(Placed((1.0, 0.0), 2), rounds=3)))
    luce = list(population.play(Setting(Rule(2), rounds=3)))
    gains = [float(population.rewards[:, 0] @ (b - c)) for b, c in zip(biased, luce, strict=True)]
    assert gains[0] == 0
    assert all(later < earlier for earlier, later in itertools.pairwise(gains))


def test_refusals():
    with pytest.raises(InputError, match="every place"):
        Placed((0.0, 1.0), 3)
    with pytest.raises(InputError, match="every place"):
        Placed((0.0, np.inf), 2)
