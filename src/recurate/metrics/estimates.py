r"""What is measured of a law or a sample: plain functions, each with a standard error.

Every function takes values of shape (n,) and optional masses ``law`` (n,). Without ``law`` the values
are an i.i.d. sample (or a sample of clusters, see :func:`standard_error`) and the estimate carries a
standard error from its influence function; with it they are the atoms of a known law, and the standard
error is zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NORMAL_975 = 1.959963984540054  # the normal law's 97.5 % quantile


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error (zero where it is exact)."""

    value: float
    se: float = 0.0

    def interval(self, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
        """Return the 95 % normal interval, cut to [low, high]."""
        reach = NORMAL_975 * self.se
        return max(self.value - reach, low), min(self.value + reach, high)


@dataclass(frozen=True)
class Strata:
    """Values that come in the same numbers from each of some contexts: their levels are no chance.

    Attributes:
        codes: context of each value, (n,), from 0.
    """

    codes: IntArray


Clusters = IntArray | Strata | None


def standard_error(influence: FloatArray, clusters: Clusters = None) -> float:
    """Return sqrt(sum_c (sum_{i in c} psi_i)^2) / n for influences psi (n,).

    Args:
        influence: psi, with mean zero.
        clusters: shape (n,), non-negative integers; candidates of one context are one cluster because
            they are not independent. None: every value on its own. Strata: only the spread within counts.
    """
    if isinstance(clusters, Strata):
        counts = np.bincount(clusters.codes)
        within = influence - (np.bincount(clusters.codes, influence) / np.maximum(counts, 1))[clusters.codes]
        lost = max(influence.size - np.count_nonzero(counts), 1)  # degrees of freedom left
        return float(np.sqrt(np.square(within).sum() / lost / influence.size))
    sums = influence if clusters is None else np.bincount(clusters, influence)
    return float(np.sqrt(np.square(sums).sum()) / influence.size)


def mean(values: FloatArray, law: FloatArray | None = None, clusters: Clusters = None) -> Estimate:
    """Return E values."""
    if law is not None:
        return Estimate(float(values @ law))
    average = float(values.mean())
    return Estimate(average, standard_error(values - average, clusters))


def variance(values: FloatArray, law: FloatArray | None = None, clusters: Clusters = None) -> Estimate:
    """Return Var values (of the law; of a sample, dividing by n)."""
    centre = mean(values, law).value
    squares = np.square(values - centre)
    if law is not None:
        return Estimate(float(squares @ law))
    spread = float(squares.mean())
    return Estimate(spread, standard_error(squares - spread, clusters))


def shares(
    codes: IntArray,
    groups: int,
    law: FloatArray | None = None,
    clusters: Clusters = None,
) -> list[Estimate]:
    """Return the share of each group 0, ..., groups - 1, for group codes (n,)."""
    if law is not None:
        # A residual model's effective law may be slightly negative for a group.
        masses = np.maximum(np.bincount(codes, law, groups), 0.0)
        return [Estimate(float(s)) for s in masses / masses.sum()]
    fractions = np.bincount(codes, minlength=groups) / codes.size
    if clusters is None:
        errors = np.sqrt(fractions * (1 - fractions) / codes.size)
    else:
        errors = np.array([standard_error((codes == g) - fractions[g], clusters) for g in range(groups)])
    return [Estimate(float(s), float(e)) for s, e in zip(fractions, errors, strict=True)]


def entropy(
    codes: IntArray,
    groups: int,
    law: FloatArray | None = None,
    clusters: Clusters = None,
) -> Estimate:
    """Return the Shannon entropy of the group shares, -sum s log s, in nats."""
    fractions = np.array([s.value for s in shares(codes, groups, law)])
    value = entropy_of(fractions)
    if law is not None:
        return Estimate(value)
    logs = np.log(np.where(fractions > 0, fractions, 1.0))
    return Estimate(value, standard_error(-logs[codes] - value, clusters))


def entropy_of(fractions: FloatArray) -> float:
    """Return the Shannon entropy -sum s log s of shares, in nats."""
    logs = np.log(np.where(fractions > 0, fractions, 1.0))
    return float(-(fractions @ logs))


def effective_support(law: FloatArray) -> float:
    """Return 1 / sum p^2: how many equally likely atoms a law is worth."""
    return float(1.0 / np.square(law).sum())


def kl_atoms(law: FloatArray, reference: FloatArray) -> float:
    """Return KL(p || q) = sum p log(p / q) in nats, for laws on the same atoms (inf if p is not << q)."""
    alive = law > 0
    if np.any(reference[alive] == 0):
        return math.inf
    return max(float(law[alive] @ (np.log(law[alive]) - np.log(reference[alive]))), 0.0)


# --- divergence between reward laws ---------------------------------------------------------------


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

    splits: tuple[tuple[int, float] | None, ...]
    reference: FloatArray
    reference_size: int

    def assign(self, rewards: FloatArray) -> IntArray:
        """Return the cell of every row of rewards (n, m)."""
        out = np.zeros(len(rewards), np.int64)
        stack = [np.arange(len(rewards))]
        cell = 0
        for split in self.splits:
            rows = stack.pop()
            if split is None:
                out[rows] = cell
                cell += 1
                continue
            low = rewards[rows, split[0]] <= split[1]
            stack += [rows[~low], rows[low]]
        return out

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


MIN_PER_CELL = 25
FEWEST_CELLS = 3  # fewer say next to nothing about a divergence
MAX_DEPTH = 7  # at most 128 cells


def partition(reference: FloatArray) -> Cells:
    """Partition reward space by median splits of a reference sample (n, m).

    Every cell is split, at most MAX_DEPTH times, along the reward whose two halves are most even, while
    both keep ``MIN_PER_CELL`` points; a point mass ends up in a cell of its own.
    """
    splits: list[tuple[int, float] | None] = []
    counts: list[int] = []
    stack = [(np.arange(len(reference)), 0)]
    while stack:
        rows, depth = stack.pop()
        split = _even_split(reference[rows]) if depth < MAX_DEPTH else None
        splits.append(split)
        if split is None:
            counts.append(rows.size)
            continue
        low = reference[rows, split[0]] <= split[1]
        stack += [(rows[~low], depth + 1), (rows[low], depth + 1)]
    return Cells(tuple(splits), np.array(counts) / len(reference), len(reference))


def _even_split(points: FloatArray) -> tuple[int, float] | None:
    """Return the (reward, threshold) that splits points (n, m) most evenly, or None."""
    best: tuple[int, int, float] | None = None
    for column in range(points.shape[1]):
        values = points[:, column]
        median = float(np.median(values))
        below = values[values < median]
        for threshold in (median, *([float(below.max())] if below.size else [])):
            low = int(np.count_nonzero(values <= threshold))
            smaller = min(low, values.size - low)
            if smaller >= MIN_PER_CELL and (best is None or smaller > best[0]):
                best = (smaller, column, threshold)
    return None if best is None else best[1:]


def encode(labels: ArrayLike) -> tuple[IntArray, list[str]]:
    """Return group codes (n,) and the sorted names that they index."""
    names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    return codes.astype(np.int64), [str(name) for name in names]
