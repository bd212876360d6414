"""A partition of reward space on which two reward laws are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.cells import Cut, Splits, Tree, assign
from recurate.metrics.estimates import Estimate

MIN_PER_CELL = 25
FEWEST_CELLS = 3  # fewer cells say next to nothing about a divergence
MAX_DEPTH = 7  # at most 128 cells
WHOLE: Cut = (0.0, 0, 0.0)  # no cut


@dataclass(frozen=True)
class Cells:
    """A partition of reward space into cells of about equal reference mass.

    KL between two laws of cells never exceeds KL between the reward laws, nor that KL between the models
    (data processing), so :meth:`kl` is a lower bound, in the limit of many samples. Every cell holds
    at least ``MIN_PER_CELL`` reference points, so it is finite.

    Attributes:
        splits: the binary tree in preorder: (reward, threshold), or None for a cell.
        reference: share of the reference sample in each cell.
        reference_size: size of the reference sample.
    """

    splits: Splits
    reference: FloatArray
    reference_size: int

    def assign(self, rewards: FloatArray) -> IntArray:
        """Return the cell of every row of rewards (n, m)."""
        return assign(self.splits, rewards)

    def kl(self, cells: IntArray, law: FloatArray | None = None, own: int | None = None) -> Estimate:
        """Return KL(law of cells || reference's), in nats, of a sample or of a law on atoms.

        The second-order bias from finitely many points is taken off. With p = (1 - m) c + m q, c the law
        on the model's own points, q the reference's, it is sum_j [(1 - m)^2 Var c_j / p_j
        + (p_j / q_j) (1 - m q_j / p_j)^2 / n_ref] / 2, where Var c_j is the sum of squared masses in the
        cell, and each sum is reduced by what a single cell would give.

        Args:
            cells: cell of every point or atom, shape (n,).
            law: masses (n,), or None for a sample.
            own: how many of the atoms, from the first, are the model's; the others are the reference's.
        """
        size, n_ref = self.reference.size, self.reference_size
        masses = np.full(cells.size, 1.0 / cells.size) if law is None else law
        p = np.bincount(cells, masses, size)
        mixed = float(masses[own:].sum()) if own is not None else 0.0
        squares = np.bincount(cells[:own], np.square(masses[:own]), size)
        alive = p > 0
        ratio = np.where(alive, p, 1.0) / self.reference
        logs = np.where(alive, np.log(ratio), 0.0)
        bias = float((squares[alive] / p[alive]).sum() - squares.sum())
        leftover = np.where(alive, 1.0 - mixed / ratio, 0.0)
        bias += (float((p / self.reference) @ np.square(leftover)) - (1.0 - mixed) ** 2) / n_ref
        value = max(float(p @ logs) - 0.5 * bias, 0.0)
        if law is not None:
            return Estimate(value)
        spread = float(p @ np.square(logs)) - float(p @ logs) ** 2
        others = float(self.reference @ np.square(p / self.reference)) - 1.0
        error = math.sqrt(max(spread, 0.0) / cells.size + max(others, 0.0) / n_ref)
        return Estimate(value, error)


def partition(reference: FloatArray) -> Cells:
    """Partition reward space by median splits of a reference sample (n, m).

    Every cell is split, at most MAX_DEPTH times, along the reward whose two halves are most even, while
    both keep ``MIN_PER_CELL`` points; a point mass ends up in a cell of its own.
    """
    tree = Tree.grow(
        reference, lambda rows, depth: _even_cut(reference[rows]) if depth < MAX_DEPTH else WHOLE
    )
    counts = np.bincount(assign(tree.splits, reference))
    return Cells(tree.splits, counts / len(reference), len(reference))


def _even_cut(points: FloatArray) -> Cut:
    """Return the cut that divides points (n, m) most evenly, worth the size of its smaller side."""
    best = WHOLE
    for column in range(points.shape[1]):
        values = points[:, column]
        median = float(np.median(values))
        below = values[values < median]
        for threshold in (median, *([float(below.max())] if below.size else [])):
            low = int(np.count_nonzero(values <= threshold))
            smaller = min(low, values.size - low)
            if smaller >= MIN_PER_CELL and smaller > best[0]:
                best = float(smaller), column, threshold
    return best
