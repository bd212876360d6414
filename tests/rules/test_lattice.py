"""Sums and interpolation over atoms on a lattice: sorted cells and single rows agree with the plain sums."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recurate.rules import lattice
from recurate.rules.lattice import MANY, Lattice
from recurate.rules.multiplier import Multiplier


def smooth(u):
    return 1.0 / (1.0 + np.exp(-u))  # as smooth as a noise's distribution function


@pytest.mark.parametrize("n", [1, 7, 500, MANY - 1, MANY, 100_000])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 5.0])
def test_spreading_and_interpolating_are_exact_for_smooth_functions(n, scale):
    rng = np.random.default_rng(n)
    utilities, law = scale * rng.normal(size=n), rng.dirichlet(np.ones(n))
    atoms = Lattice(utilities, 6.0)
    values = smooth(np.arange(atoms.nodes) * lattice.NODE - 6.0)
    own = smooth(utilities - utilities.min())
    np.testing.assert_allclose(atoms.interpolate(values), own, rtol=2e-13)
    assert atoms.spread(law) @ values == pytest.approx(law @ own, rel=2e-13)


def test_many_laws_at_once():
    rng = np.random.default_rng(0)
    for n in (50, MANY):
        atoms, laws = Lattice(rng.normal(size=n), 6.0), rng.random((n, 3))
        np.testing.assert_allclose(atoms.spread(laws)[:, 1], atoms.spread(laws[:, 1]), rtol=1e-12, atol=1e-12)
        values = rng.random((atoms.nodes, 3))
        np.testing.assert_array_equal(atoms.interpolate(values)[:, 2], atoms.interpolate(values[:, 2]))


def test_cells_are_used_for_many_atoms_only_where_they_pay():
    rng = np.random.default_rng(1)
    dense, sparse = rng.normal(size=MANY), 1e5 * rng.random(MANY)
    assert isinstance(Lattice(dense, 6.0)._atoms, lattice._Cells)
    assert isinstance(Lattice(sparse, 6.0)._atoms, lattice._Direct)
    assert isinstance(Lattice(dense[:-1], 6.0)._atoms, lattice._Direct)


@pytest.mark.parametrize("k", [2, 4, 1000, 10**6, math.inf])
@pytest.mark.parametrize("order", ["random", "sorted"])
def test_the_multiplier_is_the_same_with_and_without_cells(k, order, monkeypatch):
    rng = np.random.default_rng(2)
    rewards = 2 * rng.normal(size=MANY)
    if order == "sorted":
        rewards.sort()
    law = rng.dirichlet(np.ones(MANY))
    cells = Multiplier(rewards)(law, k)
    monkeypatch.setattr(lattice, "MANY", 10**9)
    np.testing.assert_allclose(cells, Multiplier(rewards)(law, k), rtol=1e-12)


CASES = {
    "one atom": (np.zeros(1), np.ones(1)),
    "all alike": (np.full(MANY, 3.25), np.full(MANY, 1 / MANY)),
    "spread over 20,000 nats": (np.linspace(0, 2e4, 40_000), np.full(40_000, 1 / 40_000)),
    "thousands of nats, in clusters": (
        np.repeat([0.0, 2000.0, 2000.5, 9000.0], 10_000) + np.tile(np.linspace(0, 1, 10_000), 4),
        np.full(40_000, 1 / 40_000),
    ),
    "tiny masses": (np.linspace(0, 8, MANY), np.r_[1.0, np.full(MANY - 1, 1e-300)]),
    "zero masses": (np.linspace(-9, 9, MANY), np.r_[np.zeros(MANY - 1000), np.full(1000, 1e-3)]),
    "single precision": (np.linspace(-5, 5, 50_000).astype(np.float32), np.full(50_000, 2e-5)),
}


@pytest.mark.parametrize("k", [2, 64, 10**6])
@pytest.mark.parametrize("case", CASES)
def test_any_range(case, k):
    rewards, law = CASES[case]
    from recurate.theory.population import Population
    from recurate.theory.setting import Setting

    population = Population(rewards, law=law)
    from recurate.rules import Rule

    multiplier = population.multiplier(population.law, Rule(k))
    assert np.isfinite(multiplier).all()
    assert (multiplier >= 0).all()
    assert population.law @ multiplier == pytest.approx(1, abs=1e-12)
    for _, after in zip(range(6), population.play(Setting(Rule(k), rounds=5)), strict=True):
        assert np.isfinite(after).all()
        assert (after >= 0).all()
        assert after.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.slow
def test_ten_million_atoms():
    from recurate.rules import Rule
    from recurate.theory.population import Population
    from recurate.theory.setting import Setting

    rng = np.random.default_rng(3)
    population = Population(rng.normal(size=10**7))
    law = population.step(population.law, Setting(Rule(4)))
    assert law.sum() == pytest.approx(1, abs=1e-12)
    # E r of the best by Luce choice of 4 normal rewards, by a population of quantiles.
    from scipy.special import ndtri

    quantiles = Population(ndtri((np.arange(200_000) + 0.5) / 200_000))
    expected = quantiles.step(quantiles.law, Setting(Rule(4))) @ quantiles.rewards[:, 0]
    assert law @ population.rewards[:, 0] == pytest.approx(expected, abs=3e-3)
