r"""Who ranks first: best-of-K's multiplier, and chances in one slate with noise and without.

**Populations without noise.** :class:`Ranks` is the multiplier of best-of-K, ties broken uniformly. With
a = P(r < r(x)), b = P(r <= r(x)) and I the regularised incomplete beta function, a candidate with
quantile q (uniform in [a, b], which breaks ties) is among the best m of K where at most m - 1 of its
K - 1 rivals lie above it:

.. math::

    H(x) = \frac{1}{b - a} \int_a^b \frac{K}{m} I_q(K - m, m)\, dq, \qquad
    m = 1: \quad H(x) = \frac{b^K - a^K}{b - a}.

The integral is E[(m - N_b)^+ - (m - N_a)^+] / m with N_q binomial (K, 1 - q): the expected number of
places that candidates above the quantile q leave free, (1/m) sum_{j < m} I_q(K - j, j + 1), all terms
positive. That difference is used where the two differ greatly, Gauss-Legendre quadrature elsewhere, and
always whichever of q and 1 - q is small, so that digits last at masses of 1e-300 and K of 1e15.

**One slate.** Rewards divided by the temperature are u (slates, K), -inf where a ragged slate has no
candidate, and u + noise is ranked. Picks and kept sets follow from integrals over the threshold s between
kept and not,

.. math::

    P(i\ first) = \int f(s - u_i) \prod_{j \ne i} F(s - u_j)\, ds, \qquad
    P(S\ kept) = \int \prod_{i \in S} (1 - F(s - u_i))\; d \prod_{j \notin S} F(s - u_j),

by the trapezoidal rule in the log domain, on a window around the integrand's peak. Without noise they are
counts of ties.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recurate.core.errors import InputError
from recurate.rules.noise import REACH, Function, Noise

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

HIGHEST = 709.0  # exp of it still is a double
NARROW, WIDE = 0.05, 20.0  # nats that the integrand varies within a tie: 3 points, 20 points, difference
FEW = 10  # up to so many kept, a sum of powers
STEP = 0.25  # largest quadrature step, in units of the noise
NEGLIGIBLE = 42.0  # nats below the peak: exp(-42) = 6e-19
PASSES = 60  # each narrows a window to a tenth or less: enough for any double
MEMORY = 1 << 20  # doubles in a temporary array


class Ranks:
    """Best of K without noise: the multiplier, set up once per population and used at any law and K.

    Args:
        rewards: shape (N,), not nan; any strictly increasing function of them gives the same.
    """

    def __init__(self, rewards: FloatArray) -> None:
        rewards = np.asarray(rewards, float)
        if rewards.ndim != 1 or rewards.size == 0 or np.isnan(rewards).any():
            raise InputError(
                "the rewards must be one number for every candidate",
                got=f"shape {rewards.shape}, {int(np.isnan(rewards).sum())} of them nan",
                remedy="pass an array of shape (N,) without nan",
            )
        self._order = np.argsort(rewards, kind="stable")
        ordered = rewards[self._order]
        new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        self._starts = np.flatnonzero(new)
        self._tie = np.empty(rewards.size, np.int64)
        self._tie[self._order] = np.cumsum(new) - 1

    def masses(self, law: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the mass of each group of tied atoms, below it and above it, by increasing reward."""
        mass = np.add.reduceat(law[self._order], self._starts)
        mass /= mass.sum()
        upwards, downwards = running(mass), running(mass[::-1])[::-1]
        return mass, np.append(0.0, upwards[:-1]), np.append(downwards[1:], 0.0)

    def at_atoms(self, values: FloatArray) -> FloatArray:
        """Return the values (groups,) at the atoms (N,)."""
        return values[self._tie]

    def __call__(self, law: FloatArray, k: float, keep: int = 1) -> FloatArray:
        """Return H at every atom, a new array.

        Args:
            law: masses p, shape (N,), non-negative, summing to one; or B laws, shape (N, B).
            k: slate size, a whole number >= 1 or ``math.inf``.
            keep: how many of the K are kept, at most k.

        Returns:
            H of the law's shape: 0 <= H <= k / keep, sum(p H) = 1 up to rounding. At k = inf all mass
            goes to the best atoms that have some; H of massless atoms above them, infinite, is 8e307.
        """
        if law.ndim == 2:
            return np.column_stack([self(column, k, keep) for column in law.T])
        if k == keep:
            return np.ones(law.shape)
        mass, below, above = self.masses(law)
        if math.isinf(k):
            return self.at_atoms(_best_of_all(mass, above))
        found = _best(mass, below, above, k) if keep == 1 else _best_few(mass, below, above, k, keep)
        return self.at_atoms(np.clip(found, 0.0, k / keep))


def running(mass: FloatArray) -> FloatArray:
    """Return cumulative sums (n,), in blocks of sqrt(n).

    A plain ``cumsum`` of a million equal masses is off by 1e-11, always in the same direction; block
    sums are off by at most 2 sqrt(n) roundings.
    """
    width = max(1, math.isqrt(mass.size))
    padded = np.zeros(-(-mass.size // width) * width)
    padded[: mass.size] = mass
    within = np.cumsum(padded.reshape(-1, width), axis=1)
    within[1:] += np.cumsum(within[:-1, -1])[:, None]
    return within.ravel()[: mass.size]


def _best_of_all(mass: FloatArray, above: FloatArray) -> FloatArray:
    top = int(np.flatnonzero(mass > 0)[-1])
    out = np.zeros_like(mass)
    out[top] = 1.0 / mass[top]
    out[top + 1 :] = math.exp(HIGHEST)
    return out


def _share_of_upto(mass: FloatArray, below: FloatArray, above: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return log P(r <= r(x)) and P(r = r(x)) / P(r <= r(x)), accurate near one and near zero."""
    upto = np.where(above < 0.5, 1.0 - above, below + mass)
    with np.errstate(divide="ignore"):
        log_upto = np.where(above < 0.5, np.log1p(-np.minimum(above, 0.5)), np.log(upto))
    return log_upto, np.minimum(np.divide(mass, upto, out=np.zeros_like(mass), where=upto > 0), 1.0)


def _best(mass: FloatArray, below: FloatArray, above: FloatArray, k: float) -> FloatArray:
    """(b^K - a^K) / (b - a) = b^(K-1) (1 - (1 - x)^K) / x with x = (b - a) / b."""
    log_upto, x = _share_of_upto(mass, below, above)
    with np.errstate(divide="ignore"):
        lost = -np.expm1(k * np.log1p(-x))
    sides = np.divide(lost, x, out=np.full_like(x, k), where=x > 0)
    return np.asarray(np.exp((k - 1) * log_upto) * sides)


def _best_few(mass: FloatArray, below: FloatArray, above: FloatArray, k: float, keep: int) -> FloatArray:
    _, x = _share_of_upto(mass, below, above)
    with np.errstate(divide="ignore"):
        # d log I_q(a, b) / d log q is at most a.
        varies = -(k - keep) * np.log1p(-x)
    out = np.empty_like(mass)
    for points, chosen in ((3, varies <= NARROW), (20, (varies > NARROW) & (varies <= WIDE))):
        t, weights = np.polynomial.legendre.leggauss(points)
        t = (t + 1) / 2
        q = below[chosen, None] + mass[chosen, None] * t
        c = above[chosen, None] + mass[chosen, None] * (1 - t)
        out[chosen] = k / keep * (_chance(k, keep, q, c) @ (weights / 2))
    wide = varies > WIDE
    q, c, m = below[wide], above[wide], mass[wide]
    out[wide] = (_places(k, keep, q + m, c) - _places(k, keep, q, c + m)) / m
    return out


def _chance(k: float, keep: int, q: FloatArray, c: FloatArray) -> FloatArray:
    """P(at most keep - 1 of k - 1 rivals lie above the quantile q), with c = 1 - q."""
    q, c = np.minimum(q, 1.0), np.minimum(c, 1.0)
    if keep > FEW:
        from scipy.special import betainc, betaincc

        return np.asarray(np.where(c < 0.5, betaincc(keep, k - keep, c), betainc(k - keep, keep, q)))
    # q^(k - m) sum_i C(k - 1, i) c^i q^(m - 1 - i): ten times faster than the general function.
    with np.errstate(divide="ignore"):
        log_q = np.where(c < 0.5, np.log1p(-np.minimum(c, 0.5)), np.log(q))
    total, ways = np.zeros_like(q), 1.0
    for i in range(keep):
        total = total * q + ways * c**i
        ways *= (k - 1 - i) / (i + 1)
    return np.asarray(np.exp((k - keep) * log_q) * total)


def _places(k: float, keep: int, q: FloatArray, c: FloatArray) -> FloatArray:
    """E (m - N)^+ / m, N binomial (K, c): the share of places left to candidates below the quantile q."""
    total = np.zeros_like(q)
    for j in range(keep):
        total += _chance(k + 1, j + 1, q, c)
    return total / keep


# One slate without noise: u (slates, K), -inf where absent; ties are broken uniformly.


def best_slots(utilities: FloatArray, keep: int, rng: np.random.Generator) -> IntArray:
    """Return the best slots, best first, shape (slates, keep)."""
    tiebreaks = rng.random(utilities.shape)
    if keep == 1:
        best = utilities == utilities.max(axis=1, keepdims=True)
        return np.asarray(np.where(best, tiebreaks, -1.0).argmax(axis=1)[:, None], np.int64)
    return np.asarray(np.lexsort((tiebreaks, -utilities), axis=1)[:, :keep], np.int64)


def best_chances(utilities: FloatArray, keep: int) -> FloatArray:
    """Return the chance of each slot to be among the best ``keep``, (slates, K)."""
    ordered = np.sort(utilities, axis=1)
    cut = ordered[:, -keep, None]
    over, level = utilities > cut, utilities == cut
    free = keep - over.sum(axis=1, keepdims=True)
    return np.asarray(np.where(over, 1.0, level * free / level.sum(axis=1, keepdims=True)))


def log_best_first(utilities: FloatArray, slots: IntArray) -> FloatArray:
    """Return log P(slot is the best), (slates,): -inf unless it is; ties share."""
    top = utilities.max(axis=1)
    chosen = np.take_along_axis(utilities, slots[:, None], axis=1)[:, 0]
    ties = (utilities == top[:, None]).sum(axis=1)
    return np.where(chosen == top, -np.log(ties), -np.inf)


def log_best_kept(utilities: FloatArray, kept: BoolArray) -> FloatArray:
    """Return log P(the set is the best), (slates,), for kept (slates, K)."""
    from scipy.special import gammaln

    cut = np.where(kept, utilities, np.inf).min(axis=1, keepdims=True)
    possible = np.all(kept | (utilities <= cut), axis=1)
    ties = (utilities == cut).sum(axis=1)
    places = (kept & (utilities == cut)).sum(axis=1)
    ways = gammaln(ties + 1) - gammaln(places + 1) - gammaln(ties - places + 1)
    return np.where(possible, -ways, -np.inf)


# One slate with noise.


def log_first(noise: Noise, utilities: FloatArray, slots: IntArray) -> FloatArray:
    """Return log P(slot is picked first), (slates,), for u (slates, K), by quadrature.

    Relative error of P about 1e-13 while the noise's logarithms are accurate, also where P underflows.
    """
    count, k = utilities.shape
    own = np.take_along_axis(utilities, slots[:, None], axis=1)
    rivals = utilities[np.arange(k) != slots[:, None]].reshape(count, k - 1)

    def integrand(rows: slice, s: FloatArray) -> FloatArray:
        return np.asarray(noise.log_pdf(s - own[rows]) + _log_product(noise.log_cdf, rivals[rows], s))

    return _log_integral(noise, integrand, utilities)


def log_kept(noise: Noise, utilities: FloatArray, kept: BoolArray) -> FloatArray:
    """Return log P(the set has the largest u + noise), (slates,), for kept (slates, K), by quadrature."""
    inside, outside = np.where(kept, utilities, -np.inf), np.where(kept, -np.inf, utilities)

    def integrand(rows: slice, s: FloatArray) -> FloatArray:
        return np.asarray(
            _log_hazard(noise, outside[rows], s)
            + _log_product(noise.log_cdf, outside[rows], s)
            + _log_product(noise.log_sf, inside[rows], s)
        )

    everything = np.isneginf(outside).all(axis=1)
    return np.where(everything, 0.0, _log_integral(noise, integrand, utilities))


def quadrature_step(k: int, keep: int = 1) -> float:
    """Return a step at which the trapezoidal rule has converged for products of k functions.

    Their product, or the chance that at most keep - 1 rivals exceed s, changes over a length that shrinks
    with k; Gaussian noise is the steepest of the usual ones.
    """
    step = min(STEP, 0.3 / math.sqrt(max(1.0, 2 * math.log(max(k, 2)))))
    return step if keep == 1 else min(step, 0.3 / math.sqrt(k))


def _log_integral(
    noise: Noise, integrand: Callable[[slice, FloatArray], FloatArray], utilities: FloatArray
) -> FloatArray:
    """Return the log of integrals over s, (slates,); ``integrand`` is given rows and s (rows, points)."""
    count, k = utilities.shape
    near, far = _support(noise)
    low = np.where(np.isfinite(utilities), utilities, np.inf).min(axis=1) + near
    high = utilities.max(axis=1) + far
    out = np.empty(count)
    size = max(1, MEMORY // (128 * k))
    for start in range(0, count, size):
        rows = slice(start, start + size)
        out[rows] = _on_windows(functools.partial(integrand, rows), low[rows], high[rows], k)
    return out


def _on_windows(log_f: Function, low: FloatArray, high: FloatArray, k: int) -> FloatArray:
    """Return log of the integral of exp(log_f) for every row, narrowing [low, high] to where it lives.

    A window is narrowed to the points less than 42 nats below the highest, and their neighbours, until it
    is mostly made of such points and its step is small enough. That finds the peak of every unimodal
    integrand (all those of log-concave noises) and whatever is wider than a first step, about 1.
    """
    row, step, finest = np.arange(low.size), 1.0, quadrature_step(k)
    for _ in range(PASSES):
        width = high - low
        points = int(np.clip(math.ceil(width.max() / step), 128, 2048))
        s = low[:, None] + width[:, None] * np.linspace(0.0, 1.0, points + 1)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            values = log_f(s)
        peak = values.max(axis=1)
        near = values >= peak[:, None] - NEGLIGIBLE
        first = near.argmax(axis=1)
        last = points - near[:, ::-1].argmax(axis=1)
        nowhere = np.isneginf(peak)
        done = (2 * (last - first) >= points) & (width <= points * finest)
        # Rewards further apart than 1e13 units cannot be resolved: a window a few ulps wide is done.
        if np.all(done | nowhere | (width <= 1e-13 * np.abs(low))):
            break
        low, high = s[row, np.maximum(first - 1, 0)], s[row, np.minimum(last + 1, points)]
        high = np.where(nowhere, low, high)
        step = finest
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.exp(values - peak[:, None]).sum(axis=1) * (width / points)
        return np.where(nowhere, -np.inf, peak + np.log(total))


def _parts(utilities: FloatArray, s: FloatArray) -> list[slice]:
    size = max(1, MEMORY // s.size)
    return [slice(start, start + size) for start in range(0, utilities.shape[1], size)]


def _log_product(log_f: Function, utilities: FloatArray, s: FloatArray) -> FloatArray:
    """Return the sum over present slots of log f(s - u), shape of s (rows, points)."""
    total = np.zeros_like(s)
    for part in _parts(utilities, s):
        u = utilities[:, None, part]
        present = np.isfinite(u)
        values = log_f(s[:, :, None] - np.where(present, u, 0.0))
        total += np.where(present, values, 0.0).sum(axis=2)
    return total


def _log_hazard(noise: Noise, utilities: FloatArray, s: FloatArray) -> FloatArray:
    """Return the log of the sum over present slots of f(s - u) / F(s - u), shape of s."""
    total = np.full_like(s, -np.inf)
    for part in _parts(utilities, s):
        u = utilities[:, None, part]
        z = s[:, :, None] - np.where(np.isfinite(u), u, 0.0)
        below = noise.log_cdf(z)
        # Where F underflows the product with all F is zero anyway.
        usable = np.isfinite(u) & (below > -np.inf)
        values = np.where(usable, noise.log_pdf(z) - np.where(usable, below, 0.0), -np.inf)
        total = np.logaddexp(total, np.logaddexp.reduce(values, axis=2))
    return total


def chances(noise: Noise, utilities: FloatArray, keep: int) -> FloatArray:
    """Return the chance of each slot to be among the best ``keep``, (slates, K), to 1e-14 of one.

    The chance of slot i is the integral of f(s - u_i) P(at most keep - 1 others exceed s), for all i on
    one grid a slate; those of improbable slots have the same absolute, not relative, accuracy.
    """
    count, k = utilities.shape
    if count == 0:
        return np.zeros_like(utilities)
    near, far = _support(noise)
    placed = _close_up(utilities, far - near)
    low = np.where(np.isfinite(placed), placed, np.inf).min(axis=1) + near
    points = math.ceil(float((placed.max(axis=1) + far - low).max()) / quadrature_step(k, keep)) + 1
    s = np.arange(points) * quadrature_step(k, keep)
    out = np.empty_like(utilities)
    size = max(1, MEMORY // (points * k * keep))
    for start in range(0, count, size):
        rows = slice(start, start + size)
        out[rows] = _chances(noise, placed[rows], low[rows, None] + s, keep)
    return out * quadrature_step(k, keep)


def _chances(noise: Noise, utilities: FloatArray, s: FloatArray, keep: int) -> FloatArray:
    """Return the sums over s (rows, points) of f(s - u_i) P(at most keep - 1 others exceed s)."""
    k = utilities.shape[1]
    present = np.isfinite(utilities)
    z = s - np.where(present, utilities, 0.0).T[:, :, None]
    with np.errstate(over="ignore"):
        over = np.where(present.T[:, :, None], noise.sf(z), 0.0)
        density = np.where(present.T[:, :, None], noise.pdf(z), 0.0)
    # before[i][c]: probability that c of the slots before i exceed s (c < keep).
    before = np.zeros((k, keep, *s.shape))
    before[0, 0] = 1.0
    for i in range(k - 1):
        before[i + 1] = _with_one_more(before[i], over[i])
    after = np.zeros((keep, *s.shape))
    after[0] = 1.0
    out = np.empty(utilities.shape)
    for i in range(k - 1, -1, -1):
        at_most = np.cumsum(after, axis=0)[::-1]
        out[:, i] = np.einsum("rs,crs,crs->r", density[i], before[i], at_most)
        after = _with_one_more(after, over[i])
    return out


def _with_one_more(counts: FloatArray, over: FloatArray) -> FloatArray:
    """Return the law of a count (keep, rows, points) after one more slot, which exceeds s by chance."""
    out = counts * (1.0 - over)
    out[1:] += counts[:-1] * over
    return out


@functools.lru_cache(maxsize=64)
def _support(noise: Noise) -> tuple[float, float]:
    """Return z beyond which the noise has no mass in double precision."""
    z = np.arange(-REACH, REACH + 1)
    inside = np.flatnonzero((noise.cdf(z) > 1e-18) & (noise.sf(z) > 1e-18))
    return float(z[max(inside[0] - 1, 0)]), float(z[min(inside[-1] + 1, z.size - 1)])


def _close_up(utilities: FloatArray, longest: float) -> FloatArray:
    """Shorten gaps within each row: slots further apart than the noise is wide never swap places."""
    present = np.isfinite(utilities)
    filled = np.where(present, utilities, np.where(present, utilities, np.inf).min(axis=1, keepdims=True))
    order = np.argsort(filled, axis=1, kind="stable")
    steps = np.minimum(np.diff(np.take_along_axis(filled, order, axis=1), axis=1), longest)
    placed = np.zeros_like(filled)
    np.put_along_axis(placed, order[:, 1:], np.cumsum(steps, axis=1), axis=1)
    return np.where(present, placed, -np.inf)
