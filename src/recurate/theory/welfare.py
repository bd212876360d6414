r"""Diversity and fairness of a law: Hill numbers, welfare, and the distance to the weighted Nash point.

For shares s of groups the Hill number of order q is (sum s^q)^(1/(1-q)): the number of groups at q = 0,
exp(entropy) at 1, 1 / sum s^2 at 2 (Hill 1973). For rewards r_i with weights w_i, u_i = exp(r_i / tau):

- Nash welfare sum_i w_i log E u_i, which loops maximise as K grows (:mod:`recurate.theory.limits`);
- utilitarian welfare sum_i w_i E r_i; the worst group's reward min_i E r_i;
- the Nash point in the sense of Falahati et al. (2026, arXiv 2605.07724, Theorem 3.7): with d_i the mean
  reward of group i under the other one's law, the product of (E r_i - d_i)^{w_i} over mixtures s P_1 + (1 -
  s) P_2 of two groups' laws is largest at s = w_1, and in general at shares equal to the weights. The
  distance from it is that of the shares from the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.citations import cite
from recurate.metrics.estimates import entropy_of
from recurate.theory.nash import maximise_nash
from recurate.theory.population import check_law, favourites
from recurate.theory.setting import check_weights


@dataclass(frozen=True)
class Welfare:
    """Diversity and fairness of one law; see :func:`welfare`.

    Attributes:
        entropy: the entropy of the groups' shares, in nats.
        hill: the Hill numbers of order 0, 1 and 2 of the shares.
        nash: Nash welfare sum_i w_i log E exp(r_i / tau), in nats.
        nash_gap: the distance of Nash welfare from its maximum over laws on the same atoms, in nats.
        utilitarian: sum_i w_i E r_i, in the rewards' unit.
        worst: the smallest E r_i.
        worst_group: the number of the reward with the smallest mean.
        distance: the total variation between the groups' shares and their weights.
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
    """Return the Hill number (sum_i s_i^q)^(1 / (1 - q)) of order q >= 0 of shares that sum to one.

    At q = 1 it is exp(entropy) (Hill 1973).

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

    An atom belongs to the group whose maximum it is closest to. With u_i = exp(r_i / tau) the loop at K =
    infinity climbs Nash welfare sum_i w_i log E u_i (derived in ``docs/theory.md``; Cover 1984); the distance
    of the groups' shares from their weights is that from the Nash point of Falahati et al. 2026 (arXiv
    2605.07724, Theorem 3.7).

    Args:
        rewards: r, shape (atoms, groups), finite, one column per group.
        law: the masses of the atoms, shape (atoms,); None: equal masses, as for a sample.
        weights: w, shape (groups,); equal if None.
        temperature: tau, in the rewards' unit.

    Raises:
        InputError: shapes disagree or values are out of range.

    >>> found = welfare([[1.0, 0.0], [0.0, 1.0]], [0.25, 0.75])
    >>> found.worst, found.worst_group, found.distance
    (0.25, 0, 0.25)
    """
    cite("falahati2026")
    matrix = np.atleast_2d(np.asarray(rewards, float).T).T
    p = check_law("law", law, len(matrix))
    w = check_weights(weights, matrix.shape[1])
    shares = np.bincount(favourites(matrix, matrix.max(axis=0)), p, w.size).astype(float)
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
