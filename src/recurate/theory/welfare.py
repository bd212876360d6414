r"""Diversity and fairness of a law of candidates: Hill numbers, welfare, and the distance to the weighted
Nash point.

For shares s of groups the Hill number of order q is (sum s^q)^(1/(1-q)): the number of groups at q = 0,
exp(entropy) at 1, 1 / sum s^2 at 2 (Hill 1973). For rewards r_i with weights w_i, u_i = exp(r_i / tau):

- Nash welfare sum_i w_i log E u_i, which loops maximise as K grows (:mod:`recurate.theory.limits`);
- utilitarian welfare sum_i w_i E r_i; the worst group's reward min_i E r_i;
- the Nash point in the paper's sense (Falahati et al. 2026, Theorem 3.7): on mixtures s P_1 + (1 - s) P_2 of
  two groups' laws the product of (E r_i - d_i)^{w_i}, d_i what group i gets from the other one's law, is
  largest at s = w_1, and in
  general at shares equal to the weights: the distance to it is that of shares from weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from recurate.metrics.estimates import entropy_of
from recurate.theory.nash import maximise_nash
from recurate.theory.population import check_law
from recurate.theory.setting import check_weights


@dataclass(frozen=True)
class Welfare:
    """Diversity and fairness of one law.

    Attributes:
        entropy: of the groups' shares, in nats.
        hill: Hill numbers of order 0, 1 and 2.
        nash: sum w log E exp(r / tau), in nats.
        nash_gap: by how much it is below its maximum over laws on the same atoms, in nats.
        utilitarian: sum w E r.
        worst: the smallest E r_i.
        worst_group: whose.
        distance: total variation between the groups' shares and their weights.
    """

    entropy: float
    hill: tuple[float, float, float]
    nash: float
    nash_gap: float
    utilitarian: float
    worst: float
    worst_group: int
    distance: float


def hill_number(shares: ArrayLike, order: float) -> float:
    """Return the Hill number of an order >= 0 of shares that sum to one.

    >>> hill_number([0.5, 0.5], 2)
    2.0
    """
    s = np.asarray(shares, float)
    s = s[s > 0]
    if order == 1:
        return math.exp(entropy_of(s))
    if math.isinf(order):
        return 1.0 / float(s.max())
    return float(np.sum(s**order) ** (1 / (1 - order)))


def welfare(
    rewards: ArrayLike,
    law: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    temperature: float = 1.0,
) -> Welfare:
    """Return diversity and fairness of a law on atoms, or of a sample.

    An atom belongs to the group whose maximum it is closest to.

    Args:
        rewards: (atoms, groups), finite.
        law: masses (atoms,); None: a sample.
        weights: of the groups; equal if None.
        temperature: divides the rewards.
    """
    matrix = np.atleast_2d(np.asarray(rewards, float).T).T
    p = check_law("law", law, len(matrix))
    w = check_weights(weights, matrix.shape[1])
    nearest = np.argmax((matrix - matrix.max(axis=0)) / temperature, axis=1)
    shares = np.bincount(nearest, p, w.size).astype(float)
    means = p @ matrix
    scaled = matrix / temperature
    tops = scaled.max(axis=0)
    u = np.exp(scaled - tops)
    logs = np.log(np.maximum(p @ u, 1e-300)) + tops
    judged = w > 0
    best = maximise_nash(np.ascontiguousarray(u[:, judged]), w[judged] / w[judged].sum())
    most = float(w[judged] @ (np.log(best.means) + tops[judged]))
    nash = float(w[judged] @ logs[judged])
    return Welfare(
        entropy_of(shares),
        (hill_number(shares, 0), hill_number(shares, 1), hill_number(shares, 2)),
        nash,
        max(most - nash, 0.0),
        float(w @ means),
        float(means.min()),
        int(means.argmin()),
        0.5 * float(np.abs(shares - w).sum()),
    )
