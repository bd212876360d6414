r"""The log-likelihood of conditional logit and its derivatives, in one pass over the rows.

With utilities :math:`u = X \beta`, p the softmax within each slate, y the indicator of the pick and w the
slates' weights,

.. math::
    \ell = \sum_s w_s (u_{pick} - \log \sum_k e^{u_k}), \quad
    \nabla \ell = \sum_s w_s X_s' (y_s - p_s), \quad
    I = -\nabla^2 \ell = \sum_s w_s (X_s - 1 m_s')' \mathrm{diag}(p_s) (X_s - 1 m_s'),

:math:`m_s = X_s' p_s` (McFadden 1974).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recurate.choices.table import Choices
from recurate.core.arrays import FloatArray, IntArray
from recurate.rules.slates import Slates


@dataclass(frozen=True)
class Evaluation:
    """The log-likelihood and its derivatives at one beta.

    Attributes:
        log_likelihood: Log-likelihood in nats.
        gradient: Gradient of the log-likelihood, (d,).
        information: Minus its second derivative, (d, d), or None if not requested.
        cluster_scores: Gradient of each cluster's log-likelihood, (clusters, d), or None.
    """

    log_likelihood: float
    gradient: FloatArray
    information: FloatArray | None = None
    cluster_scores: FloatArray | None = None


def evaluate(
    choices: Choices, beta: FloatArray, *, information: bool = False, clusters: IntArray | None = None
) -> Evaluation:
    """Return the log-likelihood and its derivatives at ``beta``.

    Args:
        choices: Slates, features and picks.
        beta: Coefficients, (d,).
        information: Whether to compute the information matrix.
        clusters: Code of each slate's cluster, (slates,), to sum scores by; or None.
    """
    d = beta.size
    total, gradient = 0.0, np.zeros(d)
    matrix = np.zeros((d, d)) if information else None
    scores = None if clusters is None else np.zeros((int(clusters.max()) + 1, d))
    for some, rows, slates in choices.slates.blocks(d):
        x = choices.features[rows]
        weights = None if choices.weights is None else choices.weights[some]
        u = x @ beta
        p, log_total = slates.softmax(u)
        at = choices.picked_rows[some] - rows.start
        logs = u[at] - log_total
        total += float(logs.sum() if weights is None else logs @ weights)
        if matrix is not None:
            matrix += information_of(x, p, slates, weights)
        p[at] -= 1.0
        if weights is not None:
            p *= slates.spread(weights)
        gradient -= x.T @ p
        if scores is not None and clusters is not None:
            add_by_code(scores, clusters[some], -slates.sums(x * p[:, None]))
    return Evaluation(total, gradient, matrix, scores)


def information_of(
    x: FloatArray, p: FloatArray, slates: Slates, weights: FloatArray | None = None
) -> FloatArray:
    """Return sum_s w_s (X - 1 m')' diag(p) (X - 1 m'), (d, d), for one block of rows."""
    centred = x - slates.spread(slates.sums(x * p[:, None]))
    scale = p if weights is None else p * slates.spread(weights)
    centred *= np.sqrt(scale)[:, None]
    return np.asarray(centred.T @ centred)


def runs_of(bounds: IntArray, most: int) -> Iterator[tuple[int, int]]:
    """Cut groups with bounds (groups + 1,) into runs of at most ``most`` members, or of one group.

    Yields:
        The first group of each run, and the group after its last one.
    """
    first, last = 0, bounds.size - 1
    while first < last:
        stop = int(np.searchsorted(bounds, bounds[first] + most, side="right")) - 1
        stop = min(max(stop, first + 1), last)
        yield first, stop
        first = stop


def add_by_code(totals: FloatArray, codes: IntArray, values: FloatArray) -> None:
    """Add values (n, d) to totals (codes, d) in place, in the rows given by codes (n,)."""
    if codes.size and np.all(codes[1:] >= codes[:-1]):  # slates are usually sorted by chooser
        starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
        totals[codes[starts]] += np.add.reduceat(values, starts, axis=0)
    else:
        found, index = np.unique(codes, return_inverse=True)
        for j in range(values.shape[1]):
            totals[found, j] += np.bincount(index, values[:, j], found.size)
