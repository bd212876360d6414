r"""Probabilities within slates of equal size under any noise, by quadrature over the threshold.

With finite utilities u (slates, K) and the candidates ranked by u + noise,

.. math::

    P(i\ first) = \int f(s - u_i) \prod_{j \ne i} F(s - u_j)\, ds, \qquad
    P(S\ kept) = \int \prod_{i \in S} (1 - F(s - u_i))\; d \prod_{j \notin S} F(s - u_j),

computed by the trapezoidal rule in the log domain, on a window around the integrand's peak.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.rules.noise import REACH, Function, Noise

STEP = 0.25  # largest quadrature step, in units of the noise
NEGLIGIBLE = 42.0  # nats below the peak: exp(-42) = 6e-19
PASSES = 60  # largest number of narrowings, each to a tenth or less: enough for any double
MEMORY = 1 << 20  # largest size of a temporary array, in doubles


def log_first(noise: Noise, utilities: FloatArray, slots: IntArray) -> FloatArray:
    """Return log P(the slot is picked first), shape (slates,), for utilities (slates, K) and slots (slates,).

    The relative error of P is about 1e-13 if the noise's logarithms are accurate, even where P underflows.
    """
    own, rivals = own_and_rivals(utilities, slots)

    def integrand(rows: slice, s: FloatArray) -> FloatArray:
        return np.asarray(noise.log_pdf(s - own[rows]) + _log_product(noise.log_cdf, rivals[rows], s))

    return _log_integral(noise, integrand, utilities)


def own_and_rivals(utilities: FloatArray, slots: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return the utilities of one slot per slate, (slates, 1), and of all others, (slates, K - 1)."""
    count, k = utilities.shape
    own = np.take_along_axis(utilities, slots[:, None], axis=1)
    return own, utilities[np.arange(k) != slots[:, None]].reshape(count, k - 1)


def log_kept(noise: Noise, utilities: FloatArray, kept: BoolArray) -> FloatArray:
    """Return log P(the kept set has the largest u + noise), (slates,), for a mask ``kept`` (slates, K).

    The mask has the same number of true values in every slate.
    """
    if kept.all():
        return np.zeros(len(utilities))
    inside = utilities[kept].reshape(len(utilities), -1)
    outside = utilities[~kept].reshape(len(utilities), -1)

    def integrand(rows: slice, s: FloatArray) -> FloatArray:
        return np.asarray(
            _log_hazard(noise, outside[rows], s)
            + _log_product(noise.log_cdf, outside[rows], s)
            + _log_product(noise.log_sf, inside[rows], s)
        )

    return _log_integral(noise, integrand, utilities)


def quadrature_step(k: int, keep: int = 1) -> float:
    """Return a step at which the trapezoidal rule has converged for products of k functions.

    The product, or the probability that at most keep - 1 rivals exceed s, changes over a length that shrinks
    as k grows; of the usual noises, Gaussian noise is the steepest.
    """
    step = min(STEP, 0.3 / math.sqrt(max(1.0, 2 * math.log(max(k, 2)))))
    return step if keep == 1 else min(step, 0.3 / math.sqrt(k))


def _log_integral(
    noise: Noise, integrand: Callable[[slice, FloatArray], FloatArray], utilities: FloatArray
) -> FloatArray:
    """Return the logs of integrals over s, shape (slates,).

    Args:
        noise: Noise that determines where the integrand has mass.
        integrand: Function of rows (a slice) and s (rows, points) that returns log-values (rows, points).
        utilities: Utilities, shape (slates, K).
    """
    count, k = utilities.shape
    near, far = _support(noise)
    low, high = utilities.min(axis=1) + near, utilities.max(axis=1) + far
    out = np.empty(count)
    size = max(1, MEMORY // (128 * k))
    for start in range(0, count, size):
        rows = slice(start, start + size)
        out[rows] = _on_windows(functools.partial(integrand, rows), low[rows], high[rows], k)
    return out


def _on_windows(log_f: Function, low: FloatArray, high: FloatArray, k: int) -> FloatArray:
    """Return the log of the integral of exp(log_f) for every row, on windows narrowed to where it has mass.

    A window [low, high] is narrowed to the points less than 42 nats below the highest one, and their
    neighbours, until such points make up most of it and its step is small enough. This finds the peak of
    every unimodal integrand, which log-concave noises have, and every peak wider than the first step, of
    about 1.
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
        # Rewards more than 1e13 units apart cannot be resolved: a window of a few ulps is final.
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
    """Return the sum over slots of log f(s - u), in the shape (rows, points) of s."""
    total = np.zeros_like(s)
    for part in _parts(utilities, s):
        total += log_f(s[:, :, None] - utilities[:, None, part]).sum(axis=2)
    return total


def _log_hazard(noise: Noise, utilities: FloatArray, s: FloatArray) -> FloatArray:
    """Return the log of the sum over slots of f(s - u) / F(s - u), in the shape of s."""
    total = np.full_like(s, -np.inf)
    for part in _parts(utilities, s):
        z = s[:, :, None] - utilities[:, None, part]
        below = noise.log_cdf(z)
        # Where F underflows, the integrand is zero.
        usable = below > -np.inf
        values = np.where(usable, noise.log_pdf(z) - np.where(usable, below, 0.0), -np.inf)
        total = np.logaddexp(total, np.logaddexp.reduce(values, axis=2))
    return total


def chances(noise: Noise, utilities: FloatArray, keep: int) -> FloatArray:
    """Return the probability that each slot is among the best ``keep``, shape (slates, K).

    That of slot i is the integral over s of f(s - u_i) P(at most keep - 1 others exceed s), on one grid per
    slate for all i. The absolute error is 1e-14, also for improbable slots.

    Args:
        noise: Noise that is added to the utilities.
        utilities: Utilities, shape (slates, K), finite.
        keep: Number of candidates kept per slate.
    """
    count, k = utilities.shape
    if count == 0:
        return np.zeros_like(utilities)
    near, far = _support(noise)
    placed = _close_up(utilities, far - near)
    low = placed.min(axis=1) + near
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
    z = s - utilities.T[:, :, None]
    with np.errstate(over="ignore"):
        over, density = noise.sf(z), noise.pdf(z)
    # before[i][c] is the probability that c of the slots before i exceed s, c < keep.
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
    """Return the law of a count (keep, rows, points) with one more slot, which exceeds s with P ``over``."""
    out = counts * (1.0 - over)
    out[1:] += counts[:-1] * over
    return out


@functools.lru_cache(maxsize=64)
def _support(noise: Noise) -> tuple[float, float]:
    """Return the lower and upper z beyond which the noise has no mass in double precision."""
    z = np.arange(-REACH, REACH + 1)
    inside = np.flatnonzero((noise.cdf(z) > 1e-18) & (noise.sf(z) > 1e-18))
    return float(z[max(inside[0] - 1, 0)]), float(z[min(inside[-1] + 1, z.size - 1)])


def _close_up(utilities: FloatArray, longest: float) -> FloatArray:
    """Return utilities with gaps of at most ``longest``: slots further apart never change places."""
    order = np.argsort(utilities, axis=1, kind="stable")
    steps = np.minimum(np.diff(np.take_along_axis(utilities, order, axis=1), axis=1), longest)
    placed = np.zeros_like(utilities)
    np.put_along_axis(placed, order[:, 1:], np.cumsum(steps, axis=1), axis=1)
    return placed
