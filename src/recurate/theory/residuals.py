r"""Selection within contexts (prompts), for populations with many contexts and few candidates in each.

Adding a constant to all rewards of a context changes no pick, so the multiplier of a candidate depends
on its reward relative to the others of its context. If the laws of these *residuals* are equal up to
location, one pooled residual population has every context's law: forecast that, then add the locations
back. (Pooling raw rewards instead counts differences between contexts as selection.)

With J candidates per context the locations are estimated. The variance of the pooled residuals is corrected
for that, but the shape of their law has a small bias, which grows with fewer candidates and less normal
rewards. The first round needs no residuals: :mod:`recurate.theory.ustatistic`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.metrics.describe import LARGEST_EXPONENT


@dataclass(frozen=True)
class PooledResiduals:
    """Rewards (n, m) split into the location of each context and residuals.

    Thick contexts, which are populations of their own, keep their rewards unchanged.

    Attributes:
        rewards: the rewards, shape (n, m).
        codes: the context of each atom, shape (n,).
        count: the number of candidates, which come first; the other atoms are real data.
        sizes: the number J of candidates of each context, shape (contexts,).
        thin: whether each atom's context is thin, shape (n,).
        stretch: the factor that corrects the residuals' variance in thin contexts, shape (n,): sqrt(J / (J -
            1)) for candidates, whose location is estimated from the same J rewards; sqrt(J / (J + 1)) for
            real data, whose location is estimated from J others. 1 elsewhere.
        residuals: the :meth:`deviations` of the rewards, shape (n, m).
    """

    rewards: FloatArray
    codes: IntArray
    count: int
    sizes: IntArray
    thin: BoolArray
    stretch: FloatArray
    residuals: FloatArray

    @classmethod
    def of(cls, rewards: FloatArray, codes: IntArray, count: int, thick: int) -> PooledResiduals:
        """Split rewards (n, m) by context codes (n,); the first ``count`` are candidates.

        Contexts with fewer than ``thick`` candidates are thin.

        Raises:
            InputError: a context has only one candidate, which does not identify its spread.
        """
        own = codes[:count]
        sizes = np.bincount(own)
        if np.any(sizes == 1):
            raise InputError(
                "every context needs at least two candidates",
                got=f"{int((sizes == 1).sum())} contexts with one",
                remedy="log every candidate of each prompt's slate, losers included",
            )
        thin = (sizes < thick)[codes]
        stretch = np.ones(len(rewards))
        stretch[:count] = np.sqrt(sizes / np.maximum(sizes - 1, 1))[own]
        stretch[count:] = np.sqrt(sizes / (sizes + 1))[codes[count:]]
        stretch[~thin] = 1.0
        found = cls(rewards, codes, count, sizes, thin, stretch, rewards)
        return cls(rewards, codes, count, sizes, thin, stretch, found.deviations(rewards))

    def deviations(self, columns: FloatArray) -> FloatArray:
        """Return (f - mean f of the context's candidates) * stretch, (n, m); f itself in thick contexts.

        Real data are stretched about their own mean deviation, because their overall difference from the
        candidates is not noise.
        """
        own = self.codes[: self.count]
        sums = np.column_stack([np.bincount(own, f) for f in columns[: self.count].T])
        found = columns - (sums / np.maximum(self.sizes, 1)[:, None])[self.codes]
        shift = np.zeros_like(found)
        if self._real.size:
            shift[self._real] = found[self._real].mean(axis=0)
        return np.where(self.thin[:, None], shift + (found - shift) * self.stretch[:, None], columns)

    @cached_property
    def _real(self) -> IntArray:
        """Real data in thin contexts."""
        return self.count + np.flatnonzero(self.thin[self.count :])

    def effective_law(self, law: FloatArray, initial: FloatArray) -> FloatArray:
        """Return signed masses v (n,) such that E f = v @ f for any column f, not only rewards.

        In thin contexts E_t f is the initial mean of f plus the mean, under the residual law, of
        f's deviation from its context's mean, stretched like the rewards. The mean of a column that does not
        vary within contexts therefore never changes, and v @ reward equals location + residual. Elsewhere v
        is the law.
        """
        stretched = self.stretch * law
        if self._real.size:  # the transpose of stretching about the real data's mean deviation
            left = float((law - stretched)[self._real].sum())
            stretched[self._real] += left / self._real.size
        totals = np.bincount(self.codes, stretched, self.sizes.size)
        effective = stretched.copy()
        own = self.codes[: self.count]
        correction = initial[: self.count] - totals[own] / self.sizes[own]
        effective[: self.count] += np.where(self.thin[: self.count], correction, 0.0)
        return effective

    def exp_moments(
        self, law: FloatArray, initial: FloatArray, temperature: float
    ) -> list[tuple[float, float] | None]:
        """Return E e^u and E e^(2 u) of every reward u = reward / temperature under a residual law.

        The location of a context is independent of the residual in this model, so E e^u over thin contexts
        is the initial E e^u times :meth:`exp_ratio`. The entry is None beyond the range of doubles.
        """
        found: list[tuple[float, float] | None] = []
        for i, utilities in enumerate(self.rewards.T / temperature):
            if utilities.max() >= LARGEST_EXPONENT:
                found.append(None)
                continue
            first, second = (
                float(np.exp(power * utilities[~self.thin]) @ law[~self.thin])
                + float(np.exp(power * utilities[self.thin]) @ initial[self.thin])
                * self.exp_ratio(i, power / temperature, law, initial)
                for power in (1, 2)
            )
            found.append((first, second))
        return found

    def exp_ratio(self, reward: int, power: float, law: FloatArray, initial: FloatArray) -> float:
        """Return E_p e^(power * residual) / E_p0 e^(power * residual) over thin contexts."""
        exponents = power * self.residuals[self.thin, reward]
        values = np.exp(exponents - exponents.max())
        return float((values @ law[self.thin]) / (values @ initial[self.thin]))


@dataclass(frozen=True)
class Correction:
    """The difference between the unbiased first round and that of the residual model.

    Attributes:
        masses: signed masses of the atoms, shape (n,): ``masses @ f`` is added to E f.
        exps: the terms added to E e^u and E e^(2 u) of each reward; None beyond the range of doubles.
    """

    masses: FloatArray
    exps: list[tuple[float, float] | None]


def first_correction(
    residuals: PooledResiduals,
    rows: IntArray,
    unbiased: FloatArray,
    picked: FloatArray,
    initial: FloatArray,
    temperature: float,
) -> Correction:
    """Return the difference between an unbiased law of the first picks and that of the residual model.

    Args:
        residuals: the residual model.
        rows: the candidates, all of thin contexts, for which the unbiased law is identified, shape (u,).
        unbiased: its masses there, shape (u,), with each context's mass kept.
        picked: the residual model's law of the first picks, shape (n,).
        initial: p_0, shape (n,).
        temperature: tau, which divides the rewards inside exponentials.
    """
    masses = np.zeros(initial.size)
    masses[rows] = unbiased - residuals.effective_law(picked, initial)[rows]
    exps: list[tuple[float, float] | None] = []
    for i, utilities in enumerate(residuals.rewards.T / temperature):
        if utilities.max() >= LARGEST_EXPONENT:
            exps.append(None)
            continue
        first, second = (
            float(values @ unbiased)
            - float(values @ initial[rows]) * residuals.exp_ratio(i, power / temperature, picked, initial)
            for power in (1, 2)
            for values in (np.exp(power * utilities[rows]),)
        )
        exps.append((first, second))
    return Correction(masses, exps)


def equal_spread_p_value(values: FloatArray, codes: IntArray, rng: np.random.Generator) -> float | None:
    """Return a p-value for equal spread of values (n,) in all contexts; None if it cannot be tested.

    Every context with four candidates or more gives disjoint pairs of candidates. The absolute differences
    within pairs are independent, and identically distributed if spreads are equal, whatever the law. One-way
    analysis of variance on their normal scores compares the contexts.
    """
    from scipy.special import fdtrc, ndtri

    # In order of contexts, shuffled within each: logs may be sorted by reward.
    order = np.lexsort((rng.random(codes.size), codes))
    sizes = np.bincount(codes)
    rank_in = np.arange(order.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    usable = (sizes >= 4)[codes[order]]
    first = np.flatnonzero(usable & (rank_in % 2 == 0) & (rank_in + 1 < sizes[codes[order]]))
    if first.size == 0:
        return None
    gaps = np.abs(values[order[first]] - values[order[first + 1]])
    group = np.unique(codes[order[first]], return_inverse=True)[1]
    counts = np.bincount(group)
    if counts.size < 2:
        return None
    _, place, ties = np.unique(gaps, return_inverse=True, return_counts=True)
    ranks = np.cumsum(ties) - (ties - 1) / 2  # the mean rank of equal gaps
    scores = ndtri(ranks[place] / (gaps.size + 1))
    means = np.bincount(group, scores) / counts
    between = float(counts @ np.square(means - scores.mean())) / (counts.size - 1)
    within = float(np.square(scores - means[group]).sum()) / (scores.size - counts.size)
    if within == 0:
        return 1.0 if between == 0 else 0.0
    return float(fdtrc(counts.size - 1, scores.size - counts.size, between / within))
