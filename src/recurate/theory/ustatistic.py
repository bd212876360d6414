r"""One round of selection within thin contexts, estimated without bias from J >= K candidates in each.

Using the J-point empirical law of a context in the multiplier is biased, because slates then repeat
candidates. The average over slates drawn *without replacement* is not. With w_x the mean, over all
K-subsets of the context's J candidates, of the probability that x is picked (0 in subsets without x),

.. math:: E \sum_x w_x f(x) = E[f(\text{the pick from } K \text{ i.i.d. candidates})] \quad\text{for every } f

(a U-statistic; Hoeffding 1948), and sum_x w_x = 1.

**All subsets at once.** As random utility with noise cdf F and density f, and e_k(F) the mean over
k-subsets of the products of F_j = F(s - r_j), the pick's law is a derivative:

.. math:: w_x = \int f(s - r_x) \frac{\partial e_K(F_1 .. F_J)}{\partial F_x} ds.

e_K comes from e_k(first j) = (1 - k/j) e_k(first j - 1) + (k/j) F_j e_{k-1}(first j - 1), and all J
derivatives from the same recursion run backwards: O(J K) for each s, every term positive, so no digits
are lost. The integral is a trapezoidal sum, which converges exponentially (:mod:`recurate.rules.multiplier`).
For Gumbel noise s = t + exp(t - t_0) makes the long right tail short at the same accuracy.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.rules.noise import GUMBEL, NO_NOISE, Noise
from recurate.rules.rule import Rule

STEP = 0.25  # quadrature step, noise units: error 1.8e-16 for Gumbel noise
NEGLIGIBLE = 1e-20  # noise outside the quantiles at this probability is neglected
WIDEST_NOISE = 100.0  # largest absolute value of these quantiles
MEMORY = 32 * 2**20  # bytes for the recursion's arrays
POINTS = 8000  # largest number of (context, s) pairs at a time: larger arrays exceed the cache


@dataclass(frozen=True)
class OneRound:
    """The law of the picks of one round, estimated without bias where that is possible.

    Attributes:
        law: the masses of the candidates, shape (n,), summing to one; ``law @ f`` estimates the mean of f
            over the picks. Contexts with too few candidates keep their initial masses.
        initial: the masses before the round, shape (n,).
        codes: the context of each candidate, shape (n,).
        usable: whether each context has enough candidates, shape (contexts,).
        share_usable: the initial mass of the usable contexts.
    """

    law: FloatArray
    initial: FloatArray
    codes: IntArray
    usable: BoolArray
    share_usable: float

    def standard_error(self, column: FloatArray) -> float:
        """Return the standard error of ``law @ column``, in the column's unit; nan below two contexts.

        Contexts are independent draws and the estimate is the mean of the contexts' estimates, so its
        standard error is sqrt(variance of these / contexts), or its linearised weighted form where contexts
        differ in mass.
        """
        return _error_of_mean(_totals(self.codes, self.law * column), _totals(self.codes, self.initial))

    def gain(self, column: FloatArray) -> tuple[float, float]:
        """Return the mean over the picks minus the mean over the candidates, and its standard error.

        Only usable contexts count. Differences between contexts cancel, so the standard error is smaller
        than that of either mean. It is nan below two contexts.
        """
        masses = self.usable * _totals(self.codes, self.initial)
        changes = self.usable * _totals(self.codes, (self.law - self.initial) * column)
        if masses.sum() == 0:
            return math.nan, math.nan
        return float(changes.sum() / masses.sum()), _error_of_mean(changes, masses)


def _totals(codes: IntArray, values: FloatArray) -> FloatArray:
    return np.asarray(np.bincount(codes, values), np.float64)


def _error_of_mean(sums: FloatArray, masses: FloatArray) -> float:
    """Return the standard error of sum(sums) / sum(masses) over independent contexts."""
    count = np.count_nonzero(masses)
    if count < 2:
        return math.nan
    deviations = sums - masses * (sums.sum() / masses.sum())
    return float(np.sqrt(deviations @ deviations * count / (count - 1)) / masses.sum())


def unbiased_law(
    rewards: FloatArray, codes: IntArray, rule: Rule, weights: FloatArray, law: FloatArray | None = None
) -> OneRound:
    """Return the law of one round's picks, unbiased for the mean of any function of the candidates.

    Every context keeps its mass. It needs at least K candidates, drawn i.i.d. from the context's law.

    Args:
        rewards: shape (n, m), finite; one column per reward.
        codes: context of each candidate, shape (n,), integers from 0.
        rule: the rule that picks one of each slate; with a distribution over slate sizes a context needs at
            least the largest.
        weights: share of slates judged by each reward, shape (m,), summing to one.
        law: initial masses, shape (n,), equal within every context; uniform if None.

    Raises:
        InputError: shapes disagree, rewards are not finite, masses differ within a context, or the rule
            keeps more than one of a slate.
    """
    initial = _checked(rewards, codes, law)
    if rule.keep != 1:
        raise InputError(
            "the unbiased estimate applies to one pick per slate",
            got=f"keep = {rule.keep}",
            remedy="use a rule that keeps one",
        )
    counts = np.bincount(codes)
    usable = counts >= rule.largest
    masses = _totals(codes, initial)
    order = np.argsort(codes, kind="stable")
    starts = np.cumsum(counts) - counts
    out = initial.copy()
    for j in np.unique(counts[usable]):
        members = np.flatnonzero(counts == j)
        rows = order[starts[members][:, None] + np.arange(j)]
        chances = _mixture(rewards[rows], rule, weights)
        out[rows] = masses[members][:, None] * chances
    return OneRound(out / out.sum(), initial, codes, usable, float(masses[usable].sum()))


def _checked(rewards: FloatArray, codes: IntArray, law: FloatArray | None) -> FloatArray:
    """Return the initial masses, normalised."""
    count = len(rewards)
    if rewards.ndim != 2 or codes.shape != (count,) or (law is not None and law.shape != (count,)):
        raise InputError(
            "rewards, contexts and masses must belong to the same candidates",
            got=f"shapes {rewards.shape}, {codes.shape}, {None if law is None else law.shape}",
            remedy="pass rewards (n, m), codes (n,) and law (n,)",
        )
    if not np.all(np.isfinite(rewards)):
        raise InputError("rewards must be finite", got="nan or inf", remedy="drop those candidates' contexts")
    if law is None:
        return np.full(count, 1.0 / count)
    means = np.bincount(codes, law) / np.maximum(np.bincount(codes), 1)
    if not np.allclose(law, means[codes], rtol=1e-9, atol=0.0):
        raise InputError(
            "candidates of one context must have equal masses",
            got="unequal masses within a context",
            remedy="the estimate needs candidates drawn i.i.d. in each context; leave the law out",
        )
    return np.asarray(law / law.sum())


def _mixture(rewards: FloatArray, rule: Rule, weights: FloatArray) -> FloatArray:
    """Return pick chances (contexts, J) for rewards (contexts, J, m), mixed over rewards and slate sizes."""
    chances = np.zeros(rewards.shape[:2])
    for i in np.flatnonzero(weights):
        for k, chance in rule.sizes:
            one = subset_chances(rewards[:, :, i], int(k), rule.temperature, rule.noise)
            chances += weights[i] * chance * one
    return np.asarray((1.0 - rule.lapse) * chances + rule.lapse / rewards.shape[1])


def subset_chances(
    rewards: FloatArray, k: int, temperature: float = 1.0, noise: Noise = GUMBEL
) -> FloatArray:
    """Return w (contexts, J): the mean pick chance over all k-subsets of each row of rewards.

    Args:
        rewards: shape (contexts, J), finite.
        k: slate size, 1 <= k <= J.
        temperature: divides the rewards, in their unit.
        noise: the noise of the random utility; without noise the best is picked, ties at random.

    Rows sum to one; each entry is exact to about 1e-15 of one.
    """
    if k == 1:
        return np.full(rewards.shape, 1.0 / rewards.shape[1])
    order = np.argsort(rewards, axis=1, kind="stable")
    ordered = np.take_along_axis(rewards, order, axis=1)
    chances = _best(ordered, k) if noise == NO_NOISE else _by_quadrature(ordered, k, temperature, noise)
    out = np.empty_like(chances)
    np.put_along_axis(out, order, chances, axis=1)
    return np.asarray(out / out.sum(axis=1, keepdims=True))


def _best(ordered: FloatArray, k: int) -> FloatArray:
    """Return the chances to be the best of a k-subset, for rows in increasing order."""
    contexts, j = ordered.shape
    # The candidate of rank i (from 0) wins the subsets whose others all rank lower: C(i, k - 1).
    by_rank = np.array([math.comb(i, k - 1) / math.comb(j, k) for i in range(j)])
    tie = np.ones(ordered.shape, dtype=np.int64)
    tie[:, 1:] = ordered[:, 1:] > ordered[:, :-1]
    tie = (np.cumsum(tie, axis=1) - 1 + np.arange(contexts)[:, None] * j).ravel()
    totals = np.bincount(tie, np.tile(by_rank, contexts), contexts * j)
    members = np.bincount(tie, minlength=contexts * j)
    return np.asarray((totals / np.maximum(members, 1))[tie].reshape(ordered.shape))


def _by_quadrature(ordered: FloatArray, k: int, temperature: float, noise: Noise) -> FloatArray:
    """Return the chances for rows in increasing order, in blocks of bounded memory."""
    low, high = _window(noise)
    utilities = _relative_to_top(ordered, temperature, high - low)
    # Below the k-th smallest reward every k-subset has a member above: the integrand vanishes there.
    first = utilities[:, k - 1] + low
    by_span = np.argsort(first, kind="stable")
    contexts, j = ordered.shape
    points = max(1, min(POINTS, MEMORY // (8 * ((j + 2) * (k + 2) + 4 * j))))
    out = np.zeros(ordered.shape)
    at = 0
    while at < contexts:
        grid, steps = _grid(float(first[by_span[at]]), high, k, noise)
        rows = by_span[at : at + max(1, points // grid.size)]
        for part in range(0, grid.size, points):
            s, ds = grid[part : part + points], steps[part : part + points]
            z = (s - utilities[rows].T[:, :, None]).reshape(j, -1)
            with np.errstate(over="ignore"):
                density = noise.pdf(z) * _derivatives(noise.cdf(z), k)
            out[rows] += (density.reshape(j, rows.size, s.size) @ ds).T
        at += rows.size
    return out


def _relative_to_top(ordered: FloatArray, temperature: float, longest: float) -> FloatArray:
    """Return utilities minus each row's largest, with gaps shortened to ``longest`` nats.

    Candidates further apart than the noise is wide never overtake each other, however far apart.
    """
    with np.errstate(over="ignore"):
        gaps = np.minimum(np.diff(ordered, axis=1) / temperature, longest)
    out = np.zeros(ordered.shape)
    out[:, :-1] = -np.cumsum(gaps[:, ::-1], axis=1)[:, ::-1]
    return out


@functools.cache
def _window(noise: Noise) -> tuple[float, float]:
    """Return the interval outside of which the noise has a negligible probability on either side."""
    z = np.arange(-WIDEST_NOISE, WIDEST_NOISE + STEP, STEP)
    with np.errstate(over="ignore"):
        inside = np.flatnonzero((noise.cdf(z) > NEGLIGIBLE) & (noise.sf(z) > NEGLIGIBLE))
    return float(z[max(inside[0] - 1, 0)]), float(z[min(inside[-1] + 1, z.size - 1)])


def _grid(first: float, last: float, k: int, noise: Noise) -> tuple[FloatArray, FloatArray]:
    """Return quadrature points s from ``first`` to beyond ``last``, and their weights."""
    if noise != GUMBEL:
        step = min(STEP, 0.3 / math.sqrt(2 * math.log(k)))
        s = np.arange(first, last + step, step)
        return s, np.full(s.size, step)
    start = 2.0 + math.log(k)  # where the best of k is almost sure to lie below
    t = np.arange(first, start + math.log(last) + STEP, STEP)
    stretch = np.exp(t - start)
    return t + stretch, STEP * (1.0 + stretch)


def _derivatives(cdf: FloatArray, k: int) -> FloatArray:
    """Return the derivatives (J, M) of the mean product over k-subsets of the J rows of ``cdf`` (J, M)."""
    total, points = cdf.shape
    sizes = np.arange(k + 1.0)[:, None]
    # heads[j][a]: mean product over a-subsets of the first j rows, for those a that contribute.
    heads = np.empty((total, k + 1, points))
    heads[0, 0] = 1.0
    for j in range(1, total):
        low, high = max(0, k - total + j), min(j, k)
        own = max(low, 1)
        with_it = heads[j - 1, own - 1 : high] * (sizes[own : high + 1] / j)
        with_it *= cdf[j - 1]
        without = min(high, j - 1)
        np.multiply(
            heads[j - 1, low : without + 1],
            1.0 - sizes[low : without + 1] / j,
            out=heads[j, low : without + 1],
        )
        heads[j, without + 1 : high + 1] = 0.0
        heads[j, own : high + 1] += with_it
    out = np.empty_like(cdf)
    # adjoint[a]: derivative of the final mean with respect to heads[j][a].
    adjoint = np.zeros((k + 1, points))
    adjoint[k] = 1.0
    for j in range(total, 0, -1):
        low, high = max(1, k - total + j), min(j, k)
        through = adjoint[low : high + 1] * (sizes[low : high + 1] / j)
        out[j - 1] = np.einsum("am,am->m", through, heads[j - 1, low - 1 : high])
        adjoint[low - 1 : high + 1] *= 1.0 - sizes[low - 1 : high + 1] / j
        through *= cdf[j - 1]
        adjoint[low - 1 : high] += through
    return out
