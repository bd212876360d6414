r"""Best of K without noise: the multiplier, and probabilities within slates.

**Populations.** :class:`Ranks` is the multiplier of best-of-K; ties are broken uniformly at random. Let
a = P(r < r(x)), b = P(r <= r(x)) and I the regularised incomplete beta function. A candidate with the
quantile q, uniform in [a, b] to break ties, is among the best m of K if at most m - 1 of its K - 1 rivals
have higher quantiles:

.. math::

    H(x) = \frac{1}{b - a} \int_a^b \frac{K}{m} I_q(K - m, m)\, dq, \qquad
    m = 1: \quad H(x) = \frac{b^K - a^K}{b - a}.

The integral equals E[(m - N_b)^+ - (m - N_a)^+] / m, where N_q is binomial (K, 1 - q). The expected share of
the m places that candidates above the quantile q leave free is (1/m) sum_{j < m} I_q(K - j, j + 1), a sum of
positive terms. The difference is used where the two shares differ greatly, and Gauss-Legendre quadrature
elsewhere. Both work with the smaller of q and 1 - q, so no digits are lost at masses of 1e-300 or K of 1e15.

**Slates.** Probabilities are counts of ties.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.rules.slates import Slates

CHUNK = 100_000  # atoms of several laws that are computed together: they fit a processor's cache
HIGHEST = 709.0  # exp(709) is still a double
# Variation of the log-integrand within a tie, in nats: 3 nodes up to NARROW, 20 up to WIDE, else differences.
NARROW, WIDE = 0.05, 20.0
FEW_TERMS = 32  # largest slate whose probabilities of a best candidate are such sums
FEW = 10  # number kept up to which probabilities are sums of powers


class Ranks:
    """The multiplier of best-of-K without noise, for one population and any law and K.

    It depends on the order of the rewards only.

    Args:
        rewards: Rewards of the atoms, shape (N,), without NaN.

    Raises:
        InputError: If the rewards are not an array (N,) without NaN.
    """

    def __init__(self, rewards: FloatArray) -> None:
        rewards = np.asarray(rewards, float)
        if rewards.ndim != 1 or rewards.size == 0 or np.isnan(rewards).any():
            raise InputError(
                "the rewards must be one number per candidate",
                got=f"shape {rewards.shape}, {int(np.isnan(rewards).sum())} of them nan",
                remedy="pass an array of shape (N,) without NaN",
            )
        self._order = np.argsort(rewards, kind="stable")
        ordered = rewards[self._order]
        new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        self._starts = np.flatnonzero(new)
        self._tie = np.empty(rewards.size, np.int64)
        self._tie[self._order] = np.cumsum(new) - 1

    def masses(self, law: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return three arrays (..., groups): the mass of each group of tied atoms, below it, and above it.

        Groups are in order of increasing reward; the law has shape (..., N).
        """
        mass = np.take(law, self._order, axis=-1)
        if self._starts.size < mass.shape[-1]:
            mass = np.add.reduceat(mass, self._starts, axis=-1)
        mass /= mass.sum(axis=-1, keepdims=True)
        below, above = np.zeros_like(mass), np.zeros_like(mass)
        below[..., 1:] = running(mass)[..., :-1]
        above[..., :-1] = running(mass[..., ::-1])[..., -2::-1]
        return mass, below, above

    def at_atoms(self, values: FloatArray) -> FloatArray:
        """Return values (..., groups) at every atom, shape (..., N)."""
        return np.take(values, self._tie, axis=-1)

    def __call__(self, law: FloatArray, k: float, keep: int = 1) -> FloatArray:
        """Return H at every atom, a new array.

        Args:
            law: Masses p, shape (N,), non-negative, summing to one; or B laws, shape (N, B).
            k: Slate size, a whole number >= 1 or ``math.inf``.
            keep: Number of candidates kept per slate, at most k.

        Returns:
            H, of the law's shape: 0 <= H <= k / keep, and sum(p H) = 1 up to rounding. At k = inf, the best
            atoms with positive mass receive all the mass; H of massless atoms above them is infinite, and
            8e307 is returned.
        """
        if k == keep:
            return np.ones(law.shape)
        if law.ndim == 1:
            return self._of_rows(law, k, keep)
        laws, out = np.ascontiguousarray(law.T), np.empty(law.shape[::-1])
        together = max(1, CHUNK // law.shape[0])
        for start in range(0, len(laws), together):
            rows = start if together == 1 else slice(start, start + together)
            out[rows] = self._of_rows(laws[rows], k, keep)
        return np.ascontiguousarray(out.T)

    def _of_rows(self, law: FloatArray, k: float, keep: int) -> FloatArray:
        """Return H of laws, shape (..., N)."""
        mass, below, above = self.masses(law)
        if math.isinf(k):
            return self.at_atoms(_best_of_all(mass))
        found = _best(mass, below, above, k) if keep == 1 else _best_few(mass, below, above, k, keep)
        return self.at_atoms(np.clip(found, 0.0, k / keep))


def running(mass: FloatArray) -> FloatArray:
    """Return the cumulative sums of masses (..., n), computed in blocks of sqrt(n).

    A plain ``cumsum`` of a million equal masses has an error of 1e-11, always in one direction; the error of
    block sums is at most 2 sqrt(n) roundings.
    """
    *several, count = mass.shape
    width = max(1, math.isqrt(count))
    padded = np.zeros((*several, -(-count // width) * width))
    padded[..., :count] = mass
    within = np.cumsum(padded.reshape(*several, -1, width), axis=-1)
    within[..., 1:, :] += np.cumsum(within[..., :-1, -1], axis=-1)[..., None]
    return within.reshape(*several, -1)[..., :count]


def _best_of_all(mass: FloatArray) -> FloatArray:
    places = np.arange(mass.shape[-1])
    top = np.where(mass > 0, places, -1).max(axis=-1, keepdims=True)
    out = np.where(places > top, math.exp(HIGHEST), 0.0)
    np.put_along_axis(out, top, 1.0 / np.take_along_axis(mass, top, axis=-1), axis=-1)
    return out


def _upto(mass: FloatArray, below: FloatArray, above: FloatArray) -> FloatArray:
    """Return P(r <= r(x)), accurate near one."""
    return np.where(above < 0.5, 1.0 - above, below + mass)


def _share_of_upto(mass: FloatArray, below: FloatArray, above: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return log P(r <= r(x)) and P(r = r(x)) / P(r <= r(x)), accurate near one and near zero."""
    upto = _upto(mass, below, above)
    with np.errstate(divide="ignore"):
        log_upto = np.where(above < 0.5, np.log1p(-np.minimum(above, 0.5)), np.log(upto))
    return log_upto, np.minimum(np.divide(mass, upto, out=np.zeros_like(mass), where=upto > 0), 1.0)


def _best(mass: FloatArray, below: FloatArray, above: FloatArray, k: float) -> FloatArray:
    """Return (b^K - a^K) / (b - a) = b^(K-1) (1 - (1 - x)^K) / x, where x = (b - a) / b.

    For few candidates it is the sum of b^i a^j over i + j = K - 1, whose terms are not negative.
    """
    if k <= FEW_TERMS and k == int(k):
        upto = _upto(mass, below, above)
        total, power = np.ones_like(mass), below.copy()
        for _ in range(int(k) - 1):
            total *= upto
            total += power
            power *= below
        return total
    log_upto, x = _share_of_upto(mass, below, above)
    with np.errstate(divide="ignore"):
        lost = -np.expm1(k * np.log1p(-x))
    sides = np.divide(lost, x, out=np.full_like(x, k), where=x > 0)
    return np.asarray(np.exp((k - 1) * log_upto) * sides)


def _best_few(mass: FloatArray, below: FloatArray, above: FloatArray, k: float, keep: int) -> FloatArray:
    _, x = _share_of_upto(mass, below, above)
    with np.errstate(divide="ignore"):
        # The derivative d log I_q(a, b) / d log q is at most a.
        varies = -(k - keep) * np.log1p(-x)
    out = np.empty_like(mass)
    for points, chosen in ((3, varies <= NARROW), (20, (varies > NARROW) & (varies <= WIDE))):
        t, weights = _gauss(points)
        own = mass[chosen][:, None]
        q = below[chosen][:, None] + own * t
        c = above[chosen][:, None] + own * (1 - t)
        out[chosen] = k / keep * (_chance(k, keep, q, c) @ weights)
    wide = varies > WIDE
    q, c, m = below[wide], above[wide], mass[wide]
    out[wide] = (_places(k, keep, q + m, c) - _places(k, keep, q, c + m)) / m
    return out


@cache
def _gauss(points: int) -> tuple[FloatArray, FloatArray]:
    """Return nodes and weights of Gauss-Legendre quadrature on [0, 1], which take longer than their use."""
    t, weights = np.polynomial.legendre.leggauss(points)
    return (t + 1) / 2, weights / 2


def _chance(k: float, keep: int, q: FloatArray, c: FloatArray) -> FloatArray:
    """Return P(at most keep - 1 of k - 1 rivals lie above the quantile q), where c = 1 - q."""
    q, c = np.minimum(q, 1.0), np.minimum(c, 1.0)
    if keep > FEW:
        from scipy.special import betainc, betaincc

        return np.asarray(np.where(c < 0.5, betaincc(keep, k - keep, c), betainc(k - keep, keep, q)))
    # q^(k - m) sum_i C(k - 1, i) c^i q^(m - 1 - i) is ten times faster than the incomplete beta function.
    with np.errstate(divide="ignore"):
        log_q = np.where(c < 0.5, np.log1p(-np.minimum(c, 0.5)), np.log(q))
    total, ways = np.zeros_like(q), 1.0
    for i in range(keep):
        total = total * q + ways * c**i
        ways *= (k - 1 - i) / (i + 1)
    return np.asarray(np.exp((k - keep) * log_q) * total)


def _places(k: float, keep: int, q: FloatArray, c: FloatArray) -> FloatArray:
    """Return E (m - N)^+ / m, N binomial (K, c): the share of places left below the quantile q."""
    total = np.zeros_like(q)
    for j in range(keep):
        total += _chance(k + 1, j + 1, q, c)
    return total / keep


# --- slates: ties are broken uniformly ------------------------------------------------------------


def best_slots(utilities: FloatArray, keep: int, rng: np.random.Generator) -> IntArray:
    """Return the best slots per row of a table (slates, width), best first, shape (slates, keep)."""
    tiebreaks = rng.random(utilities.shape)
    if keep == 1:
        best = utilities == utilities.max(axis=1, keepdims=True)
        return np.asarray(np.where(best, tiebreaks, -1.0).argmax(axis=1)[:, None], np.int64)
    return np.asarray(np.lexsort((tiebreaks, -utilities), axis=1)[:, :keep], np.int64)


def best_chances(utilities: FloatArray, slates: Slates, keep: int) -> FloatArray:
    """Return the probability that each row is among the best ``keep`` of its slate, shape (rows,)."""
    if keep == 1:
        cut = slates.maxima(utilities)
    else:
        order = np.lexsort((-utilities, slates.index()))
        cut = utilities[order][slates.offsets[:-1] + keep - 1]
    over, level = utilities > slates.spread(cut), utilities == slates.spread(cut)
    free = keep - slates.sums(over.astype(float))
    return np.where(over, 1.0, level * slates.spread(free / slates.sums(level.astype(float))))


def log_best_first(utilities: FloatArray, slates: Slates, at: IntArray) -> FloatArray:
    """Return log P(row is the best of its slate), shape (slates,), for one row per slate, ``at`` (slates,).

    It is minus the log of the number of tied best rows, or -inf for a row that is not among them.
    """
    top = slates.maxima(utilities)
    ties = slates.sums((utilities == slates.spread(top)).astype(float))
    return np.where(utilities[at] == top, -np.log(ties), -np.inf)


def log_best_kept(utilities: FloatArray, slates: Slates, kept: BoolArray) -> FloatArray:
    """Return log P(the kept rows are the best of their slate), (slates,), for a mask ``kept`` (rows,)."""
    from scipy.special import gammaln

    cut = -slates.maxima(np.where(kept, -utilities, -np.inf))
    possible = slates.maxima(np.where(kept, -np.inf, utilities)) <= cut
    level = utilities == slates.spread(cut)
    ties, places = slates.sums(level.astype(float)), slates.sums((kept & level).astype(float))
    ways = gammaln(ties + 1) - gammaln(places + 1) - gammaln(ties - places + 1)
    return np.where(possible, -ways, -np.inf)
