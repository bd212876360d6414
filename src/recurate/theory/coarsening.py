"""A few hundred weighted atoms that represent a population wherever a forecast puts mass.

Bands run hundreds of copies of a loop. They need the movement of mass, not the exact place of every atom, so
atoms of one group with similar rewards and tracked columns are merged.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.cells import Cut, Merging, Tree
from recurate.log.candidates import Candidates
from recurate.metrics import estimates
from recurate.theory.loop_model import LoopModel

CELLS = 600  # atoms that represent one context's population
TRACKED_CELLS = 1200  # with tracked columns or several rewards, which need more
CONTEXTS = 20  # contexts used, where each is a population of its own
THIN = 5_000  # candidates used in thin contexts
FEWEST_CONTEXTS = 30  # minimum number of thin contexts for an estimate of their spread
SMALL_GROUP = 2000  # groups with fewer atoms are used whole, not sampled
SAMPLED = 50_000  # larger populations are sampled first, in proportion to the mass that matters


def smaller(model: LoopModel, last: FloatArray, rng: np.random.Generator) -> tuple[LoopModel, float, float]:
    """Return a model with fewer atoms, its share of the pool, and the effective size of the pool.

    Cells are fine where ``last``, the law of the last round, shape (atoms,), has mass.
    """
    if model.context_codes is not None:
        return _fewer_contexts(model, rng)
    population = model.population
    atoms = model.describer.candidates
    pool = estimates.effective_support(population.law, atoms.counts)
    cells = CELLS if len(atoms.names) == 1 and not atoms.tracked else TRACKED_CELLS
    if len(atoms) <= cells:
        return model, 1.0, pool
    matters = population.law + population.reference + last
    codes = model.describer.codes
    rows, stand_for = sample_rows(matters, rng) if codes is None else _by_group(matters, codes, rng)
    groups = np.zeros(rows.size, np.int64) if codes is None else codes[rows]
    if model.cells is not None and model.cell_codes is not None:  # atoms stay in their cells
        groups = groups * model.cells.reference.size + model.cell_codes[rows]
    features = _features(atoms.take(rows), model.setting.temperature)
    labels = gather(features, matters[rows] * stand_for, groups, cells)
    return _merged(model, Merging(labels, rows, stand_for)), 1.0, pool


def sampled(
    model: LoopModel, last: FloatArray, rng: np.random.Generator
) -> tuple[LoopModel, FloatArray, float | None]:
    """Return a model of at most about SAMPLED atoms, its last law, and the effective size of the whole pool.

    Where the model has contexts, or no more atoms, it is returned as it is, with None for the size.
    """
    population, codes = model.population, model.describer.codes
    if model.context_codes is not None or population.law.size <= SAMPLED:
        return model, last, None
    matters = population.law + population.reference + last
    rows, stand_for = sample_rows(matters, rng) if codes is None else _by_group(matters, codes, rng)
    pool = estimates.effective_support(population.law, model.describer.candidates.counts)
    return _merged(model, Merging(np.arange(rows.size), rows, stand_for)), last[rows] * stand_for, pool


def _by_group(weights: FloatArray, codes: IntArray, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Sample rows like :func:`sample_rows`, but keep small groups whole, and every group's total weight."""
    if weights.size <= SAMPLED:
        return sample_rows(weights, rng)
    small = (np.bincount(codes) < SMALL_GROUP)[codes]
    rest = np.flatnonzero(~small)
    sampled, stand_for = sample_rows(weights[rest], rng)
    rows = np.concatenate([np.flatnonzero(small), rest[sampled]])
    stand_for = np.concatenate([np.ones(int(small.sum())), stand_for])
    wanted = np.bincount(codes, weights)
    found = np.bincount(codes[rows], weights[rows] * stand_for, wanted.size)
    return rows, stand_for * (wanted / np.where(found > 0, found, 1.0))[codes[rows]]


def _features(atoms: Candidates, temperature: float) -> FloatArray:
    """Return rewards in nats and tracked columns in standard deviations, shape (n, d)."""
    tracked = [v / (v.std() or 1.0) for v in atoms.tracked.values()]
    return np.column_stack([atoms.rewards / temperature, *tracked])


def _merged(model: LoopModel, cells: Merging) -> LoopModel:
    """Return the model with the rows of each cell merged into one atom."""
    population, atoms = model.population, model.describer.candidates
    masses = population.law + population.reference
    weights, total = cells.weights(masses), cells.sums(masses)

    def stretched(column: FloatArray) -> FloatArray:
        """Restore the spread that merging takes from a column."""
        means = cells.means(column[:, None], masses)[:, 0]
        chosen = column if cells.rows is None else column[cells.rows]
        centre = float(weights @ chosen / weights.sum())
        lost = float(weights @ np.square(chosen - centre))
        left = max(float(total @ np.square(means - centre)), 1e-300)
        return centre + (means - centre) * math.sqrt(lost / left)

    smaller = population.coarsened(cells)
    merged = replace(
        atoms.take(cells.first),
        rewards=smaller.rewards,
        tracked={name: stretched(values) for name, values in atoms.tracked.items()},
        contexts=None,
        counts=None,
    )
    return replace(
        model,
        population=smaller,
        candidates=cells.size,
        describer=replace(model.describer, candidates=merged),
        cell_codes=None if model.cell_codes is None else model.cell_codes[cells.first],
    )


def _fewer_contexts(model: LoopModel, rng: np.random.Generator) -> tuple[LoopModel, float, float]:
    """Return the model of some contexts only: their errors are like those of all others."""
    codes = model.context_codes
    assert codes is not None
    names = np.unique(codes[: model.candidates])
    share = CONTEXTS / names.size
    if model.residuals is not None:
        share = max(THIN / model.candidates, FEWEST_CONTEXTS / names.size)
    smaller, share = (model, 1.0) if share >= 1 else (model.of_contexts(rng.permutation(names), share), share)
    return smaller, share, estimates.effective_support(smaller.population.law)


def sample_rows(
    weights: FloatArray, rng: np.random.Generator, most: int = SAMPLED
) -> tuple[IntArray, FloatArray]:
    """Return a sample of rows, and the number of rows that each represents, by stratified sampling.

    Rows are laid end to end, each as long as its weight, and cut into strata of equal length, of each of
    which one point is drawn. Rows longer than a stratum are all in the sample and represent themselves.

    Args:
        weights: shape (N,), with a positive sum.
        rng: the generator of the points.
        most: the largest number of rows.
    """
    if weights.size <= most:
        return np.arange(weights.size), np.ones(weights.size)
    expected = weights * (most / weights.sum())
    sure = expected >= 1.0
    ends = np.cumsum(np.where(sure, 0.0, expected))
    strata = math.floor(ends[-1])
    if not strata:
        rows = np.flatnonzero(sure)
        return rows, np.ones(rows.size)
    points = (np.arange(strata) + rng.random(strata)) * (ends[-1] / strata)
    drawn, counts = np.unique(np.searchsorted(ends, points, side="right"), return_counts=True)
    rows = np.concatenate([np.flatnonzero(sure), drawn])
    stand_for = np.concatenate(
        [np.ones(rows.size - drawn.size), counts * (ends[-1] / strata) / expected[drawn]]
    )
    order = np.argsort(rows)
    return rows[order], stand_for[order]


def gather(features: FloatArray, weights: FloatArray, groups: IntArray, cells: int) -> IntArray:
    """Return the cell, 0, 1, ..., of each row; a cell has rows of one group with similar features.

    The cell with the largest weight times spread is cut along the feature that spreads most, until there
    are ``cells`` of them or no cell can be cut.

    Args:
        features: shape (n, d), each in a unit in which differences of 1 are equally important.
        weights: shape (n,), non-negative; cells are fine where they are large.
        groups: shape (n,), integers.
        cells: the number of cells.
    """
    order = np.argsort(groups, kind="stable")
    roots = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    tree = Tree.grow(
        features, lambda rows, depth: _widest(features[rows], weights[rows]), roots=roots, most=cells
    )
    return tree.labels


def _widest(features: FloatArray, weights: FloatArray) -> Cut:
    """Return the cut of the widest feature at its mean, worth the total weight times its variance."""
    total = weights.sum()
    if len(features) < 2 or total <= 0:
        return 0.0, 0, 0.0
    means = weights @ features / total
    spreads = weights @ np.square(features - means)
    feature = int(np.argmax(spreads))
    column = features[:, feature]
    bottom, top = column.min(), column.max()
    if spreads[feature] <= 0 or top == bottom:
        return 0.0, 0, 0.0
    cut = means[feature]
    if not bottom <= cut < top:  # rounding, or all weight on one side, would leave a side empty
        cut = bottom if cut < bottom else column[column < top].max()
    return float(spreads[feature]), feature, float(cut)
