r"""The survival of preference groups, and the least weight and slate size at which they survive.

With two groups that never like each other's items, of weights q and 1 - q, the share of the first moves as
s' = q (1 - (1 - s)^K) + (1 - q) s^K, whose derivative at 0 is K q: a group survives iff **K q > 1** (derived
in ``docs/theory.md``). In general a group can enter iff one of its items has an invasion multiplier above one
in the law that the others settle at without it.

Without real data an item that another one beats or equals in every reward dies out, so only the Pareto front
of the rewards matters; both are exact reductions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.citations import cite
from recurate.core.errors import InputError
from recurate.rules import Rule
from recurate.theory.fixed_points import settle
from recurate.theory.limits import Limit, dynamics_of, limit, limits_along
from recurate.theory.population import Population, favourites
from recurate.theory.setting import Setting, check_weights

ALIVE = 1e-6  # smallest share of the limit of a surviving group
NEVER = 20.0  # separation of own and others' items, in nats, above which the K q > 1 criterion applies
SHORT = 800  # largest number of rounds in a cell of a phase diagram
STILL = 1e-5  # sum of absolute changes of masses in a round at which a loop hardly moves
LARGEST_K = 4096  # largest slate size of the search
HEAVIEST = 0.99  # largest weight of the search


@dataclass(frozen=True)
class Survival:
    """The fate of one preference group; see :func:`survival`.

    Attributes:
        group: the number of its reward.
        weight: the share of slates that it judges.
        share: its share of the limit; nan where the loop does not settle.
        survives: whether its share exceeds 1e-6.
        smallest_weight: the least weight (the others keeping their proportions) at which it survives; 1 if
            there is none.
        smallest_k: the least slate size at which it survives; None if there is none up to 4096.
        invasion: the largest invasion multiplier of its items in the law that the others settle at without
            it: above one, the group comes back from any small share; nan where the others do not settle.
        kq: slate size times weight.
        law_applies: whether no group likes another one's items: then the group survives iff kq > 1 (with more
            than two groups: if).
    """

    group: int
    weight: float
    share: float
    survives: bool
    smallest_weight: float
    smallest_k: int | None
    invasion: float
    kq: float
    law_applies: bool


def survival(
    rewards: ArrayLike, weights: ArrayLike | None = None, *, k: float = 4, temperature: float = 1.0
) -> list[Survival]:
    """Return the fate of every preference group in a loop without real data.

    An atom belongs to the group whose maximum it is closest to. A group survives if it has a share of the law
    that p_{t+1} = p_t sum_i w_i H_i ends at. Two groups that never like each other's items, with weights q
    and 1 - q, move as s' = q (1 - (1 - s)^K) + (1 - q) s^K, so that a group survives iff K q > 1 (derived in
    ``docs/theory.md``; the loop: Falahati et al. 2026, arXiv 2605.07724). In general a group enters iff one
    of its items has an invasion multiplier above one (Hofbauer and Sigmund 1998, chapter 15).

    Args:
        rewards: shape (atoms, groups), finite, one column per group.
        weights: the share of slates judged by each group, shape (groups,); equal if None.
        k: slate size, a whole number or ``math.inf``.
        temperature: divides the rewards, in their unit.

    Returns:
        One :class:`Survival` per group, in the order of the columns.

    Raises:
        InputError: there are fewer than two groups, or a group is the favourite of no atom.

    >>> [round(s.share, 4) for s in survival([[99.0, 0.0], [0.0, 99.0]], [0.4, 0.6], k=3)]
    [0.2, 0.8]
    """
    cite("falahati2026")
    matrix = np.asarray(rewards, float) / temperature
    if matrix.ndim != 2 or matrix.shape[1] < 2:
        raise InputError(
            "survival needs two or more preference groups",
            got=f"shape {matrix.shape}",
            remedy="one column of rewards per group",
        )
    shares = check_weights(weights, matrix.shape[1])
    front = matrix[pareto_front(matrix)]
    groups = favourites(front, matrix.max(axis=0))
    counts = np.bincount(groups, minlength=matrix.shape[1])
    missing = np.flatnonzero(counts == 0)
    if missing.size:
        raise InputError(
            "a preference group has no members",
            got=f"no atom is closest to the maximum of reward {missing[0]}",
            remedy="leave it out: another reward has the same best items",
        )
    end = limit(front, shares, k=k)
    held = np.bincount(groups, end.law, shares.size) if end.settles else np.full(shares.size, math.nan)
    applies = _never_share(front, groups)
    return [
        Survival(
            j,
            float(shares[j]),
            float(held[j]),
            bool(held[j] > ALIVE),
            smallest_weight(front, groups, shares, j, k),
            smallest_k(front, groups, shares, j),
            invades(front, groups, shares, j, k),
            float(k * shares[j]) if shares[j] else 0.0,
            applies,
        )
        for j in range(shares.size)
    ]


def pareto_front(rewards: FloatArray) -> IntArray:
    """Return the atoms that no other atom beats or equals in every reward, and one of each set of equals."""
    order = np.lexsort(rewards.T[::-1])[::-1]  # by the first reward, then the second ..., falling
    if rewards.shape[1] == 2:
        second = rewards[order, 1]
        best_before = np.concatenate([[-np.inf], np.maximum.accumulate(second)[:-1]])
        return np.asarray(np.sort(order[second > best_before]))
    kept: list[int] = []
    front = np.empty((0, rewards.shape[1]))
    for start in range(0, order.size, 512):
        chunk = order[start : start + 512]
        if len(front):
            beaten = np.all(rewards[chunk][:, None, :] <= front[None], axis=2)
            chunk = chunk[~beaten.any(axis=1)]
        for atom in chunk:  # earlier ones may beat later ones of the same chunk
            if not np.any(np.all(rewards[atom] <= front, axis=1)):
                kept.append(int(atom))
                front = rewards[kept]
    return np.sort(np.array(kept, np.int64))


def _never_share(front: FloatArray, groups: IntArray) -> bool:
    """Whether every group likes each of its own items better than any other item, by NEVER nats."""
    for j in range(front.shape[1]):
        own, others = front[groups == j, j], front[groups != j, j]
        if own.size and others.size and own.min() - others.max() < NEVER:
            return False
    return True


def invades(front: FloatArray, groups: IntArray, weights: FloatArray, j: int, k: float) -> float:
    """Return the largest invasion multiplier of group j's items in the law that the others settle at.

    nan where they do not settle.
    """
    start = (groups != j).astype(float)
    start /= start.sum()
    if math.isinf(k):
        # The others' limit also weighs what group j likes of theirs.
        resident = limit(front, weights, law=start)
        return float(resident.invasion[groups == j].max())
    population = Population(front, law=start, weights=weights)
    found = settle(dynamics_of(population, Setting(Rule(k))))
    return float(found.invasion[groups == j].max()) if found.settles else math.nan


def _share(front: FloatArray, groups: IntArray, weights: FloatArray, j: int, k: float) -> float:
    """Return group j's share of the limit from the uniform law, nan where the loop does not settle."""
    end = limit(front, weights, k=k)
    return float(end.law[groups == j].sum()) if end.settles else math.nan


def smallest_weight(front: FloatArray, groups: IntArray, weights: FloatArray, j: int, k: float) -> float:
    """Return the least weight at which group j has a share of the limit; the others keep their proportions.

    This is the weight at which it can enter, unless it also has a share below that (two attractors), or the
    others do not settle without it: then limits are searched, to a thousandth.
    """
    if np.delete(weights, j).sum() == 0:
        return 0.0

    def trial(weight: float) -> FloatArray:
        return _with_weight(weights, j, weight)

    entry = _root(lambda w: invades(front, groups, trial(w), j, k), HEAVIEST, 1e-9)
    below = entry - 0.01
    if below <= 0 or (entry < HEAVIEST and not _share(front, groups, trial(below), j, k) > ALIVE):
        return entry
    return _threshold(lambda w: _share(front, groups, trial(w), j, k) > ALIVE, entry, 1e-3)


def _with_weight(weights: FloatArray, j: int, weight: float) -> FloatArray:
    """Return weights with the j-th as given and the others in their proportions."""
    others = float(np.delete(weights, j).sum())
    out = weights * ((1 - weight) / others if others > 0 else 0.0)
    out[j] = weight
    return np.asarray(out / out.sum())


def _root(multiplier: Callable[[float], float], high: float, width: float) -> float:
    """Return the least value in (0, high] above which a multiplier is above one; 1 if it never is.

    A multiplier that is nan counts as below one.
    """
    from scipy.optimize import brentq

    def excess(value: float) -> float:
        found = multiplier(value)
        return min(math.log(found), 1.0) - 1e-12 if found > 0 else -1.0

    if excess(width) > 0:
        return 0.0
    if excess(high) <= 0:
        return 1.0
    return float(brentq(excess, width, high, xtol=width / 4) + width / 2)


def _threshold(true_above: Callable[[float], bool], high: float, width: float) -> float:
    """Return the least value in (0, high] above which a condition holds; 1 if it never does."""
    if true_above(1e-9):
        return 0.0
    if not true_above(high):
        return 1.0
    low = 0.0
    while high - low > width:
        middle = (low + high) / 2
        low, high = (low, middle) if true_above(middle) else (middle, high)
    return high


def smallest_k(front: FloatArray, groups: IntArray, weights: FloatArray, j: int) -> int | None:
    """Return the least slate size at which group j has a share of the limit, or None up to ``LARGEST_K``."""
    low, high = 1, 2
    while not _share(front, groups, weights, j, high) > ALIVE:
        low, high = high, 2 * high
        if low >= LARGEST_K:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if _share(front, groups, weights, j, middle) > ALIVE:
            high = middle
        else:
            low = middle
    return high


def settled_share(end: Limit, groups: IntArray, group: int) -> float:
    """Return a group's share of a limit, or of a last law that hardly moves; else nan."""
    if not end.settles and not end.residual < STILL:
        return math.nan
    return float(end.law[groups == group].sum())


def phase(
    rewards: ArrayLike,
    ks: ArrayLike,
    shares: ArrayLike,
    *,
    group: int = 0,
    weights: ArrayLike | None = None,
    temperature: float = 1.0,
) -> FloatArray:
    """Return one group's share of the limit for every slate size and weight, shape (slate sizes, weights).

    It is nan where the loop still moves after ``SHORT`` rounds. The other groups keep their proportions.
    """
    matrix = np.asarray(rewards, float) / temperature
    base = check_weights(weights, matrix.shape[1])
    front = matrix[pareto_front(matrix)]
    groups = favourites(front, matrix.max(axis=0))
    trials = np.array([_with_weight(base, group, float(weight)) for weight in np.ravel(shares)])
    population, none = Population(front), np.zeros(len(trials))
    out = np.empty((np.size(ks), len(trials)))
    for a, k in enumerate(np.ravel(ks).astype(float)):
        if math.isinf(k):
            ends = [limit(front, weights) for weights in trials]
        else:
            ends = limits_along(population, Rule(k), trials, none, SHORT)
        out[a] = [settled_share(end, groups, group) for end in ends]
    return out
