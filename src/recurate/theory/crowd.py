"""A population for many settings at once: several rewards, groups, real data; compressed to a few thousand
atoms.

The atoms that selection can end on, the best of every reward and of their sums, are kept as they are; the
others are put together in cells that split reward space at medians. A cell has its members' mean rewards
and, for variances, mean squares. The error is that of treating rewards within a cell as equal: second order
in the cell's width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recurate.core.arrays import FloatArray, IntArray
from recurate.metrics.estimates import kl_atoms
from recurate.metrics.partition import partition
from recurate.rules import Rule

TOP = 250  # best atoms of each reward, and of their sum, that are kept as they are
CELLS = 600  # cells of the others, for each group
FEW = 2500  # atoms up to which nothing is compressed


@dataclass(frozen=True)
class Crowd:
    """Atoms with rewards, groups and two laws.

    Attributes:
        rewards: (n, m).
        squares: mean of squared rewards, (n, m).
        members: share of each atom's mass in each group, (n, groups).
        start: p_0, (n,).
        real: p_ref, (n,).
        variances: of the rewards under p_0, (m,).
        regions: share of each atom's mass in each region of reward space, (n, regions), in which the
            divergence from real data of their own is told; None where p_ref is on the same atoms.
    """

    rewards: FloatArray
    squares: FloatArray
    members: FloatArray
    start: FloatArray
    real: FloatArray
    variances: FloatArray
    regions: FloatArray | None = None

    @classmethod
    def of(
        cls,
        rewards: FloatArray,
        labels: IntArray,
        groups: int,
        reference: FloatArray | None = None,
        reference_labels: IntArray | None = None,
    ) -> Crowd:
        """Return candidates (N, m) of groups (N,), uniform, and real data if they are others."""
        n = len(rewards)
        start = np.full(n, 1.0 / n)
        real, regions = start, None
        if reference is not None:
            assert reference_labels is not None
            extra = len(reference)
            rewards, labels = np.vstack([rewards, reference]), np.concatenate([labels, reference_labels])
            real = np.concatenate([np.zeros(n), np.full(extra, 1.0 / extra)])
            start = np.concatenate([start, np.zeros(extra)])
            cells = partition(reference)
            regions = np.eye(cells.reference.size)[cells.assign(rewards)]
        means = start @ rewards
        return cls(
            rewards, np.square(rewards), np.eye(groups)[labels], start, real,
            start @ np.square(rewards) - means**2, regions,
        )  # fmt: skip

    def divergence(self, law: FloatArray) -> float:
        """Return KL(law || p_ref) in nats: on the atoms, or between the laws of regions of reward space."""
        if self.regions is None:
            return kl_atoms(law, self.real)
        return kl_atoms(law @ self.regions, self.real @ self.regions)

    def scaled(self, factor: float) -> Crowd:
        """Return the same with all rewards times a factor."""
        f = factor
        return replace(
            self, rewards=f * self.rewards, squares=f * f * self.squares, variances=f * f * self.variances
        )

    def compressed(self) -> Crowd:
        """Return a population of a few thousand atoms that stands for this one."""
        n = len(self.rewards)
        if n <= FEW:
            return self
        cells = np.full(n, -1, np.int64)
        tops = self._tops()
        count = 0
        for group in range(self.members.shape[1]):
            rest = np.flatnonzero((self.members[:, group] > 0) & ~tops)
            if rest.size:
                count = _split(self.rewards, rest, cells, count)
        kept = np.flatnonzero(tops)
        cells[kept] = count + np.arange(kept.size)
        total = count + kept.size
        mass = self.start + self.real
        weight = np.bincount(cells, mass, total)

        def mean(values: FloatArray) -> FloatArray:
            return np.column_stack([np.bincount(cells, mass * v, total) / weight for v in values.T])

        return Crowd(
            mean(self.rewards), mean(self.squares), mean(self.members),
            np.bincount(cells, self.start, total).astype(float),
            np.bincount(cells, self.real, total).astype(float), self.variances,
            None if self.regions is None else mean(self.regions),
        )  # fmt: skip

    def _tops(self) -> NDArray[np.bool_]:
        n = len(self.rewards)
        scaled = self.rewards / np.sqrt(np.maximum(self.variances, 1e-300))
        columns = [*scaled.T, scaled.sum(axis=1), scaled.min(axis=1)]
        found = np.zeros(n, bool)
        for values in columns:
            found[np.argpartition(-values, min(TOP, n - 1))[:TOP]] = True
        return found

    def play(self, rule: Rule, weights: FloatArray, real_fractions: FloatArray, rounds: int) -> FloatArray:
        """Return the laws after some rounds, (n, B), for weights (m, B) and real fractions (B,).

        Every round takes p to rho p_ref + (1 - rho) p sum_i w_i H_i(p), renormalised.
        """
        setups = [rule.setup(self.rewards[:, i]) for i in range(self.rewards.shape[1])]
        laws = np.repeat(self.start[:, None], real_fractions.size, axis=1)
        real = self.real[:, None] * real_fractions
        for _ in range(rounds):
            w = np.zeros_like(laws)
            for i, setup in enumerate(setups):
                used = weights[i] > 0
                if used.any():
                    w[:, used] += weights[i, used] * rule.weigh(setup, laws[:, used])
            new = laws * w
            new /= new.sum(axis=0)
            new = (1 - real_fractions) * new + real
            settled = float(np.abs(new - laws).sum(axis=0).max()) < 1e-8
            laws = new
            if settled:
                break
        return laws


def _split(rewards: FloatArray, rows: IntArray, cells: IntArray, first: int) -> int:
    """Number the cells of some rows from ``first`` on, halving at medians; return the next free number."""
    size = max(1, rows.size // CELLS)
    stack = [rows]
    while stack:
        part = stack.pop()
        if part.size <= size:
            cells[part] = first
            first += 1
            continue
        values = rewards[part]
        widest = int(np.argmax(values.max(axis=0) - values.min(axis=0)))
        order = np.argsort(values[:, widest], kind="stable")
        middle = part.size // 2
        stack += [part[order[:middle]], part[order[middle:]]]
    return first
