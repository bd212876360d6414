"""Coarse populations: rows alike in one cell, and samples that stand for all."""

from __future__ import annotations

import math

import numpy as np

from recurate.core.cells import Merging
from recurate.theory.coarsening import gather, sample_rows
from recurate.theory.population import Population


def test_cells_keep_groups_apart_and_are_fine_where_mass_is():
    rng = np.random.default_rng(0)
    points, groups = rng.normal(size=(5000, 1)), rng.integers(0, 3, size=5000)
    weights = np.where(points[:, 0] > 2, 1.0, 1e-6)
    labels = gather(points, weights, groups, 100)
    assert labels.max() == 99
    for cell in range(100):
        assert len(set(groups[labels == cell])) == 1
    sizes = np.bincount(labels)
    assert sizes[labels[points[:, 0] > 2]].mean() < 10 < sizes[labels[points[:, 0] < 0]].mean()


def test_alike_atoms_are_one_cell():
    labels = gather(np.ones((50, 2)), np.ones(50), np.repeat([0, 1], 25), 10)
    assert set(labels) == {0, 1}


def test_a_sample_of_rows_stands_for_all():
    """Weighted sums over the sample estimate the whole's, without bias: 200 samples, 4 standard errors."""
    rng = np.random.default_rng(1)
    weights, column = rng.exponential(size=3000) ** 3, rng.normal(size=3000)
    sums = []
    for _ in range(200):
        rows, stand_for = sample_rows(weights, rng, most=300)
        assert len(set(rows)) == rows.size <= 301
        sums.append(stand_for @ column[rows])
    assert abs(np.mean(sums) - column.sum()) < 4 * np.std(sums) / math.sqrt(200)
    rows, stand_for = sample_rows(weights[:50], rng, most=300)
    assert rows.size == 50
    assert (stand_for == 1).all()


def test_a_coarse_population_has_the_same_masses_and_means():
    rng = np.random.default_rng(2)
    rewards, law = rng.normal(size=(500, 2)), rng.dirichlet(np.ones(500))
    whole = Population(rewards, law=law, weights=[0.3, 0.7])
    coarse = whole.coarsened(Merging(gather(rewards, law, np.zeros(500, int), 40)))
    assert coarse.law.size == 40
    assert coarse.reference is coarse.law
    np.testing.assert_allclose(coarse.law @ coarse.rewards, whole.law @ rewards, atol=1e-13)
    np.testing.assert_array_equal(coarse.weights, [0.3, 0.7])
