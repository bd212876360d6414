r"""Tests of any rule of picks by its residuals y - p.

Given a slate, the indicators y of what is kept have mean p under the rule. For columns z that are known
before the pick, the sums g_s = sum_i z_i (y_i - p_i) over a slate's candidates have mean zero. Their total is
compared with its covariance, less what the estimated parameters explain: for one pick per slate the
covariance of (z, c) under the rule, with c the derivatives of log p by the parameters; otherwise that of
picks that are drawn from the model. Combinations of columns whose total is far from normal are left out
(``KURTOSIS``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recurate.choices.checks.statistics import chi2_tail
from recurate.choices.models.named_rules import MOST_COSTLY, MOST_PLACES, Fit, ranks, scores_of
from recurate.core.arrays import FloatArray, IntArray
from recurate.core.seeds import Stream
from recurate.rules import GUMBEL, NO_NOISE

KURTOSIS = 0.1  # largest excess kurtosis of a total: 1.5 times the level 2e-4 at most
MOST_ROUNDS = 20  # number of rounds up to which each has a column
FEW = 50  # least number of slates
REPLICATES = 8  # number of draws from a model of several picks


class Residuals:
    """The residuals of a fitted model, for any number of tests.

    Attributes:
        fit: The model, on at most ``MOST_COSTLY`` slates if its probabilities need quadrature.
    """

    def __init__(self, fit: Fit) -> None:
        model = fit.model
        keep = model.data.kept.shape[1]
        closed = keep == 1 or model.noise == NO_NOISE or (model.noise == GUMBEL and keep == 2)
        some = model.data.thin(len(model.data) if closed else MOST_COSTLY)
        if some.size < len(model.data):
            fit = Fit(model.take(some), fit.theta, fit.value, fit.scores[some])
        self.fit, data = fit, fit.model.data
        self.p = fit.model.chances(fit.theta)
        y = np.zeros(self.p.shape)
        np.put_along_axis(y, data.kept, 1.0, axis=1)
        self.e = np.where(data.shown, y - self.p, 0.0)
        self.single = keep == 1
        self.slopes = self._slopes() if self.single else None
        self.drawn = [] if self.single else [self._drawn(r) for r in range(REPLICATES)]

    def _slopes(self) -> FloatArray:
        """Return the derivatives of log p by the parameters, (slates, K, parameters)."""
        model, theta, h = self.fit.model, self.fit.theta, 1e-4
        found = [
            (model.chances(theta + s) - model.chances(theta - s)) / (2 * h) for s in np.eye(theta.size) * h
        ]
        safe = np.maximum(self.p, 1e-12)
        return np.stack([f / safe for f in found], axis=2) if found else np.zeros((*self.p.shape, 0))

    def _drawn(self, replicate: int) -> tuple[FloatArray, FloatArray]:
        """Return the residuals (slates, K) and scores (slates, parameters) of picks drawn from the model."""
        model, theta = self.fit.model, self.fit.theta
        kept = model.draw(theta, Stream(replicate).at("residuals").generator())
        y = np.zeros(self.p.shape)
        np.put_along_axis(y, kept, 1.0, axis=1)
        model = replace(model, data=replace(model.data, kept=kept))
        return np.where(model.data.shown, y - self.p, 0.0), scores_of(model, theta, np.arange(theta.size))

    def test(self, columns: FloatArray, some: IntArray | slice = slice(None)) -> tuple[float, int]:
        """Return the statistic and its degrees of freedom for columns (slates, K, q) of ``some`` slates."""
        q = columns.shape[2]
        e = self.e[some]
        if len(e) < FEW or q == 0:
            return 0.0, 0
        if self.slopes is not None:
            p = self.p[some][..., None]
            both = np.concatenate([columns, self.slopes[some]], axis=2)
            both = both - (p * both).sum(axis=1, keepdims=True)
            total = np.einsum("skq,sk->q", both, e)
            both = both.reshape(-1, both.shape[2])
            chance = p.reshape(-1, 1)
        else:
            total = np.r_[np.einsum("skq,sk->q", columns, e), self.fit.scores[some].sum(axis=0)]
            parts = [(np.einsum("skq,sk->sq", columns, d[some]), c[some]) for d, c in self.drawn]
            both = np.concatenate([np.column_stack(part) for part in parts])
            chance = np.full((len(both), 1), 1 / REPLICATES)
        covariance = (chance * both).T @ both
        variance = np.diag(covariance)[:q]
        others = np.arange(q, len(covariance))
        good = np.flatnonzero(variance > 1e-9 * len(e))
        own = np.linalg.pinv(covariance[q:, q:], rcond=1e-10, hermitian=True)
        project = covariance[np.ix_(good, others)] @ own
        score = total[good] - project @ total[q:]  # the latter are zero over all slates
        efficient = covariance[np.ix_(good, good)] - project @ covariance[np.ix_(others, good)]
        left = np.diag(efficient) > 1e-6 * variance[good]
        if not left.any():
            return 0.0, 0
        size = np.sqrt(np.diag(efficient)[left])
        values, vectors = np.linalg.eigh(efficient[np.ix_(left, left)] / np.outer(size, size))
        each = ((both[:, good] - both[:, q:] @ project.T)[:, left] / size) @ vectors
        fourth = (chance * each**4).sum(axis=0)
        fine = (values > 1e-6) & (fourth <= KURTOSIS * np.square(values))
        along = vectors.T @ (score[left] / size)
        return float((np.square(along[fine]) / values[fine]).sum()), int(fine.sum())


def p_of(*tests: tuple[float, int]) -> float:
    """Return the p-value of the sum of independent statistics; 1 without any."""
    freedom = sum(df for _, df in tests)
    return chi2_tail(sum(s for s, _ in tests), freedom) if freedom else 1.0


def shape_columns(fit: Fit) -> FloatArray:
    """Return what a rule may depend on other than as declared: ranks, rewards above some level, spreads."""
    data, worth = fit.model.data, fit.model.judged(fit.theta)
    columns = [(worth >= np.where(data.shown, worth, -np.inf).max(axis=1, keepdims=True)).astype(float)]
    if worth.shape[1] > 2:
        place = ranks(worth, data.shown)
        columns += [(place == -0.5).astype(float), place]
        size = data.shown.sum(axis=1, keepdims=True)
        middle = np.where(data.shown, worth, 0.0).sum(axis=1, keepdims=True) / size
        spread = np.sqrt(
            np.where(data.shown, np.square(worth - middle), 0.0).sum(axis=1, keepdims=True) / size
        )
        columns.append((worth - middle) / np.maximum(spread, 1e-12))
    columns += [np.maximum(worth - q, 0.0) for q in np.quantile(worth[data.shown], [0.2, 0.5, 0.8])]
    if fit.model.worth.shape[2] > 1:
        every = [fit.model.worth[..., j] for j in range(fit.model.worth.shape[2])]
        columns += [ranks(w, data.shown) for w in every]
        columns += [a * b for j, a in enumerate(every) for b in every[:j]]
    return np.where(data.shown[..., None], np.stack(columns, axis=2), 0.0)


def round_columns(fit: Fit) -> FloatArray | None:
    """Return the worths by round, or with a cubic in the round if there are many; None for one round."""
    data, worth = fit.model.data, fit.model.judged(fit.theta)
    count = int(data.rounds.max(initial=0)) + 1
    if count < 2:
        return None
    if count <= MOST_ROUNDS:
        codes = (data.rounds[:, None] == np.arange(1, count)).astype(float)
    else:
        codes = (2 * data.rounds[:, None] / (count - 1) - 1) ** np.arange(1, 4)
    return np.asarray(worth[..., None] * codes[:, None])


def within_columns(fit: Fit) -> FloatArray:
    """Return the worths times the slate's place in its round."""
    along = fit.model.data.along[:, None]
    worth = fit.model.judged(fit.theta)
    return np.stack([worth * along, worth * (np.square(along) - 1 / 3)], axis=2)


def place_columns(fit: Fit) -> FloatArray | None:
    """Return indicators of all places but the first, (slates, K, places - 1); None if none was logged."""
    data = fit.model.data
    if data.places is None:
        return None
    places = np.minimum(data.places, MOST_PLACES)
    found = np.unique(places[data.shown])
    return np.asarray(places[..., None] == found[1:], float)
