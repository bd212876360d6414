"""A partition of reward space into cells, and the divergence between reward laws on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.cells import Cut, Splits, Tree, assign
from recurate.metrics.estimates import Estimate

MIN_PER_CELL = 25  # smallest number of reference points per cell
FEWEST_CELLS = 3  # number of cells below which a divergence carries almost no information
MAX_DEPTH = 7  # largest depth of the tree: at most 128 cells
WHOLE: Cut = (0.0, 0, 0.0)  # no cut


@dataclass(frozen=True)
class Cells:
    """A partition of reward space into cells of about equal reference mass.

    By the data-processing inequality, the KL divergence between two laws of cells is at most that between the
    reward laws, which is at most that between the models. So :meth:`kl` is a lower bound in the limit of many
    samples. It is finite, since every cell has at least ``MIN_PER_CELL`` reference points.

    Attributes:
        splits: Binary tree in preorder: (reward, threshold) of a split, or None for a cell.
        reference: Share of the reference sample in each cell, shape (cells,).
        reference_size: Size n_ref of the reference sample.
    """

    splits: Splits
    reference: FloatArray
    reference_size: int

    def assign(self, rewards: FloatArray) -> IntArray:
        """Return the index of the cell of each row of rewards (n, m), shape (n,)."""
        return assign(self.splits, rewards)

    def kl(
        self,
        cells: IntArray,
        law: FloatArray | None = None,
        own: int | None = None,
        counts: FloatArray | None = None,
    ) -> Estimate:
        """Return KL(p || q) = sum_j p_j log(p_j / q_j) in nats, q being the reference's shares of the cells.

        The second-order bias due to finite samples is subtracted. With p = (1 - m) c + m q, where c is the
        law on the model's own points, it is sum_j [(1 - m)^2 Var c_j / p_j
        + (p_j / q_j) (1 - m q_j / p_j)^2 / n_ref] / 2. Var c_j is the sum of squared masses in cell j, and
        each sum is reduced by its value for a single cell.

        Args:
            cells: Cell of every point or atom, shape (n,).
            law: Masses, shape (n,), summing to one; None for a sample.
            own: Number of atoms, from the first, that are the model's; the others are the reference's. None:
                all are the model's.
            counts: Number of points or atoms that each one stands for, shape (n,); None: one each.

        Returns:
            The divergence, at least 0, with a standard error for a sample.
        """
        size, n_ref = self.reference.size, self.reference_size
        each = np.ones(cells.size) if counts is None else counts
        masses = each / each.sum() if law is None else law
        p = np.bincount(cells, masses, size)
        mixed = float(masses[own:].sum()) if own is not None else 0.0
        squares = np.bincount(cells[:own], np.square(masses[:own]) / each[:own], size)
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
        error = math.sqrt(max(spread, 0.0) / each.sum() + max(others, 0.0) / n_ref)
        return Estimate(value, error)


def partition(reference: FloatArray, counts: FloatArray | None = None) -> Cells:
    """Partition reward space by median splits of a reference sample (n, m), each point ``counts`` (n,) times.

    A cell is split along the reward whose two halves are most even, as long as both have ``MIN_PER_CELL``
    points and the depth is at most ``MAX_DEPTH``; a point mass becomes a cell of its own.
    """

    def cut(rows: IntArray, depth: int) -> Cut:
        if depth >= MAX_DEPTH:
            return WHOLE
        return _even_cut(reference[rows], None if counts is None else counts[rows])

    tree = Tree.grow(reference, cut)
    sizes = np.bincount(assign(tree.splits, reference), counts)
    total = round(float(sizes.sum()))
    return Cells(tree.splits, sizes / total, total)


def _even_cut(points: FloatArray, counts: FloatArray | None) -> Cut:
    """Return the cut that divides points (n, m) most evenly; its worth is the size of the smaller side."""
    best = WHOLE
    for column in range(points.shape[1]):
        values = points[:, column]
        median = float(np.median(values)) if counts is None else _median(values, counts)
        below = values[values < median]
        for threshold in (median, *([float(below.max())] if below.size else [])):
            under = values <= threshold
            low = float(np.count_nonzero(under) if counts is None else counts[under].sum())
            smaller = min(low, (values.size if counts is None else float(counts.sum())) - low)
            if smaller >= MIN_PER_CELL and smaller > best[0]:
                best = float(smaller), column, threshold
    return best


def _median(values: FloatArray, counts: FloatArray) -> float:
    """Return the median of values that occur several times each."""
    order = np.argsort(values)
    total = np.cumsum(counts[order])
    low, high = (int(np.searchsorted(total, total[-1] / 2, side=side)) for side in ("left", "right"))
    return float(values[order[low]] + values[order[min(high, order.size - 1)]]) / 2
