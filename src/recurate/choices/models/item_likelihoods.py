"""The log-likelihoods of item rewards: of top-1 picks, of very many of them, and of pairs with ties.

All have the same methods. ``at(theta)`` returns an evaluation: its ``value`` in nats, its
``gradient`` (parameters,), the information's ``diagonal`` or an upper bound of it, and products with the
information.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.rules.slates import Slates

# --- top-1 picks ----------------------------------------------------------------------------------


@dataclass
class Top1Likelihood:
    """The log-likelihood of top-1 picks.

    Attributes:
        matrix: Sparse matrix A (slates, items): number of times that each item occurs in each slate.
        winners: Item of each slate's pick, (slates,).
        weights: Weights of the slates, (slates,), or None.
    """

    matrix: Any
    winners: IntArray
    weights: FloatArray | None

    @classmethod
    def build(
        cls, codes: IntArray, slates: Slates, winners: IntArray, weights: FloatArray | None, count: int
    ) -> Top1Likelihood:
        """Return the likelihood of picks from slates of item codes (rows,), for ``count`` items."""
        from scipy import sparse

        index = np.int32 if slates.rows < 2**31 else np.int64
        matrix = sparse.csr_matrix(
            (np.ones(codes.size), codes.astype(index), slates.offsets.astype(index)),
            shape=(len(slates), count),
        )
        return cls(matrix, winners, weights)

    @cached_property
    def total(self) -> float:
        """Weight of all slates."""
        return float(self.matrix.shape[0]) if self.weights is None else float(self.weights.sum())

    @cached_property
    def wins(self) -> FloatArray:
        """Weighted number of picks of each item, (items,)."""
        return np.bincount(self.winners, self.weights, self.matrix.shape[1]).astype(float)

    def start(self) -> FloatArray:
        """Return starting values: the log of wins over wins expected under uniform picks, (items,)."""
        share = (1.0 if self.weights is None else self.weights) / np.diff(self.matrix.indptr)
        return np.asarray(np.log((self.wins + 0.5) / (self.matrix.T @ share + 0.5)))

    def part(self) -> Top1Likelihood | None:
        """Return the likelihood of at least one slate in 16; None if that is most of them."""
        n, m = self.matrix.shape
        wanted = max(n // 16, 60 * m)
        if wanted * 3 > n:
            return None
        some = np.arange(0, n, n // wanted)
        weights = None if self.weights is None else self.weights[some]
        return Top1Likelihood(self.matrix[some], self.winners[some], weights)

    @property
    def certain(self) -> bool:
        """Whether every item wins more than a few times, so that the estimate is finite and near."""
        return bool(self.wins.min() > 5)

    def at(self, theta: FloatArray) -> Top1Evaluation:
        """Return the log-likelihood at theta."""
        return Top1Evaluation(self, theta)


class Top1Evaluation:
    """The log-likelihood of top-1 picks at one theta, with w = exp(theta) and s = A w."""

    def __init__(self, model: Top1Likelihood, theta: FloatArray) -> None:
        self.model = model
        self.w = np.exp(theta - theta.max())
        self.s = model.matrix @ self.w
        inverse = 1.0 / self.s
        logs = np.log(self.s)
        lost = float(logs.sum() if model.weights is None else logs @ model.weights)
        self.value = float(model.wins @ (theta - theta.max())) - lost
        over = inverse if model.weights is None else inverse * model.weights
        self.diagonal = self.w * (model.matrix.T @ over)  # expected wins
        self.gradient = model.wins - self.diagonal
        self._inverse, self._over = inverse, over  # their product would overflow for tiny s

    def times(self, v: FloatArray) -> FloatArray:
        """Return information @ v."""
        cross = self.model.matrix.T @ (self._over * (self._inverse * (self.model.matrix @ (self.w * v))))
        return np.asarray(self.diagonal * v - self.w * cross)

    def dense_information(self) -> FloatArray:
        """Return the information, (items, items)."""
        from scipy import sparse

        roots = np.sqrt(self._over) * np.sqrt(self._inverse)
        scaled = sparse.diags(roots) @ self.model.matrix @ sparse.diags(self.w)
        return np.asarray(np.diag(self.diagonal) - (scaled.T @ scaled).toarray())

    def scores(self) -> Any:
        """Return each slate's gradient, a sparse matrix (slates, items)."""
        from scipy import sparse

        a, n = self.model.matrix, self.s.size
        picks = sparse.csr_matrix((np.ones(n), (np.arange(n), self.model.winners)), shape=a.shape)
        found = picks - sparse.diags(1.0 / self.s) @ a @ sparse.diags(self.w)
        return found if self.model.weights is None else sparse.diags(self.model.weights) @ found

    def drawn_gradient(self, rng: np.random.Generator) -> FloatArray:
        """Return the gradient for picks simulated from the model; its covariance is the information."""
        a = self.model.matrix
        running = np.concatenate([[0.0], np.cumsum(self.w[a.indices] * a.data)])
        low, high = running[a.indptr[:-1]], running[a.indptr[1:]]
        at = np.searchsorted(running, low + rng.random(low.size) * (high - low), side="right") - 1
        winners = a.indices[np.clip(at, a.indptr[:-1], a.indptr[1:] - 1)]
        # A weight multiplies the information, hence its root multiplies a simulated score.
        scale = None if self.model.weights is None else np.sqrt(self.model.weights)
        over = 1.0 / self.s if scale is None else scale / self.s
        return np.asarray(np.bincount(winners, scale, self.w.size) - self.w * (a.T @ over))


# --- top-1 picks of many slates -------------------------------------------------------------------


@dataclass
class PartedTop1:
    """The log-likelihood of top-1 picks of so many slates that only their item codes are kept.

    Attributes:
        codes: Item codes of slates of one size each, (K, slates) per part.
        wins: Number of picks of each item, (items,).
        sample: Likelihood of some of the slates, in which every item wins.
    """

    codes: list[IntArray]
    wins: FloatArray
    sample: Top1Likelihood

    @cached_property
    def total(self) -> float:
        """Number of slates."""
        return float(sum(part.shape[1] for part in self.codes))

    @property
    def null(self) -> float:
        """Log-likelihood of uniform picks, in nats."""
        return -float(sum(part.shape[1] * math.log(part.shape[0]) for part in self.codes))

    def start(self) -> FloatArray:
        """Return starting values, those of the sample, (items,)."""
        return self.sample.start()

    def part(self) -> Top1Likelihood:
        """Return the likelihood of the sample."""
        return self.sample

    def at(self, theta: FloatArray) -> PartedEvaluation:
        """Return the log-likelihood at theta."""
        return PartedEvaluation(self, theta)


class PartedEvaluation:
    """The log-likelihood at one theta; what belongs to a slate is computed anew where it is needed."""

    def __init__(self, model: PartedTop1, theta: FloatArray) -> None:
        self.model = model
        self.w = np.exp(theta - theta.max())
        expected, lost = np.zeros(self.w.size), 0.0
        for codes, s in self._parts():
            lost += float(np.log(s).sum())
            _add(expected, codes, 1.0 / s)
        self.value = float(model.wins @ (theta - theta.max())) - lost
        self.diagonal = self.w * expected
        self.gradient = model.wins - self.diagonal

    def _parts(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """Yield every part's codes (K, slates) and sums of w over each slate (slates,)."""
        for codes in self.model.codes:
            yield codes, _sums(self.w, codes)

    def times(self, v: FloatArray) -> FloatArray:
        """Return information @ v."""
        cross, own = np.zeros(self.w.size), self.w * v
        for codes, s in self._parts():
            _add(cross, codes, _sums(own, codes) / s / s)
        return np.asarray(self.diagonal * v - self.w * cross)

    def dense_information(self) -> FloatArray:
        """Return the information, (items, items)."""
        m = self.w.size
        cross = np.zeros(m * m)
        for codes, s in self._parts():
            weights = 1.0 / np.square(s)
            for i, first in enumerate(codes.astype(np.int64)):
                for j in range(i + 1):
                    cross += np.bincount(first * m + codes[j], weights / (1 + (i == j)), m * m)
        half = cross.reshape(m, m)
        return np.asarray(np.diag(self.diagonal) - self.w[:, None] * (half + half.T) * self.w)

    def drawn_gradient(self, rng: np.random.Generator) -> FloatArray:
        """Return the gradient for picks simulated from the model; its covariance is the information."""
        wins = np.zeros(self.w.size)
        for codes, s in self._parts():
            running = np.cumsum(self.w[codes], axis=0)
            slot = (running < rng.random(s.size) * running[-1]).sum(axis=0)
            wins += np.bincount(codes[slot, np.arange(s.size)], minlength=wins.size)
        return np.asarray(wins - self.diagonal)


def _sums(w: FloatArray, codes: IntArray) -> FloatArray:
    """Return the sum of w over the items of each slate, (slates,), for codes (K, slates)."""
    found = w[codes[0]]
    for slot in codes[1:]:
        found += w[slot]
    return np.asarray(found)


def _add(totals: FloatArray, codes: IntArray, values: FloatArray) -> None:
    """Add each slate's value to the totals of its items, in place."""
    for slot in codes:
        totals += np.bincount(slot, values, totals.size)


# --- pairs with ties ------------------------------------------------------------------------------


@dataclass
class Davidson:
    """The log-likelihood of pairs with ties (Davidson 1970).

    The utilities are theta_i, theta_j and, for the tie, log nu + (theta_i + theta_j) / 2.

    Attributes:
        design: Sparse matrix (3 pairs, items + 1) that maps (theta, log nu) to utilities.
        outcome: 0 or 1 for the pick, 2 for a tie, (pairs,).
        weights: Weights of the pairs, (pairs,).
        wins: Weighted number of wins of each item, a tie counting one half, (items,).
        shown: Half the weighted number of pairs of each item, (items,).
    """

    design: Any
    outcome: IntArray
    weights: FloatArray
    wins: FloatArray
    shown: FloatArray

    @classmethod
    def build(
        cls,
        codes: IntArray,
        slates: Slates,
        slots: IntArray,
        weights: FloatArray | None,
        tied: BoolArray,
        count: int,
    ) -> Davidson:
        """Return the likelihood of pairs of item codes (2 pairs,), of which ``tied`` (pairs,) are ties."""
        from scipy import sparse

        n = len(slates)
        left, right = codes[0::2], codes[1::2]
        rows = np.arange(n) * 3
        data = np.concatenate([np.ones(2 * n), np.full(2 * n, 0.5), np.ones(n)])
        row = np.concatenate([rows, rows + 1, rows + 2, rows + 2, rows + 2])
        column = np.concatenate([left, right, left, right, np.full(n, count)])
        design = sparse.csr_matrix((data, (row, column)), shape=(3 * n, count + 1))
        own = np.ones(n) if weights is None else weights
        won = [own * np.where(tied, 0.5, (slots == side).astype(float)) for side in (0, 1)]
        wins = np.bincount(left, won[0], count) + np.bincount(right, won[1], count)
        shown = np.bincount(left, own / 2, count) + np.bincount(right, own / 2, count)
        return cls(design, np.where(tied, 2, slots), own, wins.astype(float), shown.astype(float))

    @cached_property
    def total(self) -> float:
        """Weight of all pairs."""
        return float(self.weights.sum())

    def start(self) -> FloatArray:
        """Return starting values (items + 1,): log of wins over expected wins, and log odds of a tie."""
        ties = float((self.outcome == 2).mean())
        odds = math.log((ties + 1e-3) / (1 - ties + 1e-3) * 2)
        return np.append(np.log((self.wins + 0.5) / (self.shown + 0.5)), odds)

    def part(self) -> None:
        """Return None: pairs with ties are not subsampled."""

    def at(self, theta: FloatArray) -> DavidsonEvaluation:
        """Return the log-likelihood at (theta, log nu)."""
        return DavidsonEvaluation(self, theta)


class DavidsonEvaluation:
    """The log-likelihood of pairs with ties at one (theta, log nu)."""

    def __init__(self, model: Davidson, theta: FloatArray) -> None:
        self.model = model
        u = (model.design @ theta).reshape(-1, 3)
        u -= u.max(axis=1, keepdims=True)
        odds = np.exp(u)
        self.p = odds / odds.sum(axis=1, keepdims=True)
        logs = u[np.arange(len(u)), model.outcome] - np.log(odds.sum(axis=1))
        self.value = float(logs @ model.weights)
        self.gradient = self._gradient(model.outcome, model.weights)
        shares = (self.p * model.weights[:, None]).ravel()
        self.diagonal = np.asarray(model.design.multiply(model.design).T @ shares) + 1e-300

    def _residuals(self, outcome: IntArray, scale: FloatArray) -> FloatArray:
        return np.asarray(((np.eye(3)[outcome] - self.p) * scale[:, None]).ravel())

    def _gradient(self, outcome: IntArray, scale: FloatArray) -> FloatArray:
        return np.asarray(self.model.design.T @ self._residuals(outcome, scale))

    def times(self, v: FloatArray) -> FloatArray:
        """Return information @ v."""
        a = (self.model.design @ v).reshape(-1, 3)
        centred = a - (self.p * a).sum(axis=1, keepdims=True)
        return np.asarray(self.model.design.T @ (self.model.weights[:, None] * self.p * centred).ravel())

    def dense_information(self) -> FloatArray:
        """Return the information, (items + 1, items + 1)."""
        return np.column_stack([self.times(e) for e in np.eye(self.gradient.size)])

    def scores(self) -> Any:
        """Return each pair's gradient, a sparse matrix (pairs, items + 1)."""
        from scipy import sparse

        n = len(self.p)
        residuals = sparse.diags(self._residuals(self.model.outcome, self.model.weights))
        together = sparse.csr_matrix(
            (np.ones(3 * n), np.arange(3 * n), np.arange(0, 3 * n + 1, 3)), shape=(n, 3 * n)
        )
        return together @ (residuals @ self.model.design)

    def drawn_gradient(self, rng: np.random.Generator) -> FloatArray:
        """Return the gradient for outcomes simulated from the model; its covariance is the information."""
        outcome = (self.p.cumsum(axis=1) < rng.random(len(self.p))[:, None]).sum(axis=1).clip(max=2)
        return self._gradient(outcome, np.sqrt(self.model.weights))


ItemLikelihood = Top1Likelihood | PartedTop1 | Davidson
ItemEvaluation = Top1Evaluation | PartedEvaluation | DavidsonEvaluation
