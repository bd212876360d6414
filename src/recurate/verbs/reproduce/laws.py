r"""Exact arms: trajectories of laws on atoms or on a grid, with the proved statements as quantities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import FloatArray
from recurate.log.candidates import Candidates
from recurate.log.trajectory import FORECAST, Row, Trajectory
from recurate.metrics.describe import Describer
from recurate.metrics.estimates import Estimate, kl_atoms
from recurate.theory.bounds import check_bounds
from recurate.theory.population import Population
from recurate.theory.setting import Setting

SIDE = 61  # nodes along each side of a grid


def law_trajectory(
    rewards: ArrayLike,
    law: ArrayLike,
    setting: Setting,
    groups: Sequence[str],
    *,
    reference: ArrayLike | None = None,
    eps: float | None = None,
    statements: bool = False,
) -> Trajectory:
    """Return the exact quantities of every round (:meth:`Population.play`), in the infinite-data limit.

    Args:
        rewards: Shape (atoms, rewards); the columns are called ``1``, ``2``, ...
        law: p_0, shape (atoms,).
        setting: Selection and retraining of every round.
        groups: Group of each atom.
        reference: p_ref, shape (atoms,); None: p_0.
        eps: Depth of the basins of two groups; see :func:`recurate.theory.bounds.check_bounds`.
        statements: Whether to add ``kl_to_reference``, KL(p_t || p_ref) on the atoms, where it is finite, and
            ``violated:NAME`` in the last round for every proved statement that applies: 1 if it is violated,
            else 0.

    Raises:
        InputError: If shapes disagree or values are out of range.
    """
    matrix = np.atleast_2d(np.asarray(rewards, float).T).T
    names = tuple(str(i + 1) for i in range(matrix.shape[1]))
    candidates = Candidates(matrix, names, np.asarray(groups, object))
    describer = Describer(candidates, setting.temperature, tuple(sorted(set(groups))))
    population = Population(matrix, law=law, reference=reference, weights=setting.weights)
    path = list(population.play(setting))
    kls = [kl_atoms(p, population.reference) if statements else math.inf for p in path]
    values = [
        describer.values(p, Estimate(kl) if math.isfinite(kl) else None)
        for p, kl in zip(path, kls, strict=True)
    ]
    rows = [row for t, found in enumerate(values) for row in describer.rows(t, FORECAST, found)]
    if statements:
        for bound in check_bounds(population, setting, path, eps=eps):
            if bound.verdict != "does not apply":
                violated = float(bound.verdict == "violated")
                rows.append(Row(setting.rounds, FORECAST, f"violated:{bound.name}", violated))
    return Trajectory(tuple(rows))


def numbers(**values: float) -> Trajectory:
    """Return exact numbers that belong to no round, as quantities of round 0."""
    return Trajectory(tuple(Row(0, FORECAST, name, value) for name, value in values.items()))


def plane(reach: float, side: int = SIDE) -> FloatArray:
    """Return the nodes of a square grid on [-reach, reach]^2, shape (side^2, 2)."""
    axis = np.linspace(-reach, reach, side)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def circle(count: int, radius: float) -> FloatArray:
    """Return points on a circle, the first at (radius, 0), shape (count, 2)."""
    angles = 2 * np.pi * np.arange(count) / count
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def gaussians(points: FloatArray, centres: FloatArray, sd: float) -> FloatArray:
    """Return the masses of an equal mixture of Gaussians on points (n, d), normalised, shape (n,)."""
    squares = np.square(_distances(points, centres)) / (2 * sd**2)
    masses = np.exp(-squares).sum(axis=1)
    return np.asarray(masses / masses.sum())


def closeness(points: FloatArray, centre: Sequence[float], radius: float, gamma: float) -> FloatArray:
    """Return -gamma max(0, |x - centre| - radius), shape (n,)."""
    beyond = _distances(points, np.array([centre], float))[:, 0] - radius
    return np.asarray(-gamma * np.maximum(beyond, 0.0))


def nearest(points: FloatArray, centres: FloatArray) -> list[str]:
    """Return the number of the nearest centre of each point, as text."""
    return [str(i) for i in _distances(points, centres).argmin(axis=1)]


def bisect(holds: Callable[[float], bool], low: float, high: float, steps: int = 60) -> float:
    """Return the number in [low, high] below which ``holds`` is false and above which it is true."""
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return (low + high) / 2


def _distances(points: FloatArray, centres: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(points[:, None] - centres, axis=2))
