r"""Selection within contexts (prompts), for populations with many contexts and few candidates in each.

Adding a constant to all rewards of a context changes no pick, so the multiplier of a candidate depends
on its reward relative to the others of its context. If the laws of these *residuals* are equal up to
location, one pooled residual population has every context's law: forecast that, then add the locations
back. (Pooling raw rewards instead counts differences between contexts as selection.)

With J candidates a context the locations are estimated, so the pooled residuals are a little wrong in
shape (their variance is put right): the fewer candidates and the less normal the rewards, the more. The
first round has an unbiased estimate to compare with, :func:`first_gain`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recurate.candidates import LARGEST_EXPONENT
from recurate.errors import InputError
from recurate.rules.rule import Rule

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class PooledResiduals:
    """Rewards (n, m) split into the location of each context and residuals.

    Attributes:
        rewards: the rewards themselves.
        codes: context of each atom, shape (n,).
        count: how many atoms, from the first, are candidates; the others are real data.
        sizes: candidates J of each context.
        locations: mean reward of the candidates of each atom's context, shape (n, m).
        stretch: sqrt(J / (J - 1)) for candidates, which undoes the shrinkage from estimating the
            location with the same J rewards; 1 for real data. Shape (n,).
        residuals: (reward - location) * stretch, shape (n, m).
    """

    rewards: FloatArray
    codes: IntArray
    count: int
    sizes: IntArray
    locations: FloatArray
    stretch: FloatArray
    residuals: FloatArray

    @classmethod
    def of(cls, rewards: FloatArray, codes: IntArray, count: int) -> PooledResiduals:
        """Split rewards (n, m) by context codes (n,); the first ``count`` are candidates.

        Raises:
            InputError: a context has one candidate only, so nothing is known of its spread.
        """
        own = codes[:count]
        sizes = np.bincount(own)
        if np.any(sizes == 1):
            raise InputError(
                "every context needs at least two candidates",
                got=f"{int((sizes == 1).sum())} contexts with one",
                remedy="log every candidate of each prompt's slate, losers included",
            )
        sums = np.column_stack([np.bincount(own, r) for r in rewards[:count].T])
        locations = np.asarray(sums / np.maximum(sizes, 1)[:, None], float)[codes]
        stretch = np.ones(len(rewards))
        stretch[:count] = np.sqrt(sizes / np.maximum(sizes - 1, 1))[own]
        residuals = (rewards - locations) * stretch[:, None]
        return cls(rewards, codes, count, sizes, locations, stretch, residuals)

    def effective_law(self, law: FloatArray, initial: FloatArray) -> FloatArray:
        """Return signed masses v (n,) such that E f = v @ f for any column f, not only rewards.

        E_t f is the initial mean of f over contexts plus the mean, under the residual law, of f's
        deviation from its context's mean, stretched like the rewards. What does not vary within contexts
        therefore never changes, and v @ reward equals location + residual.
        """
        stretched = self.stretch * law
        totals = np.bincount(self.codes, stretched, self.sizes.size)
        effective = stretched.copy()
        own = self.codes[: self.count]
        effective[: self.count] += initial[: self.count] - totals[own] / self.sizes[own]
        return effective

    def moments(self, law: FloatArray, initial: FloatArray, temperature: float) -> list[dict[str, float]]:
        """Return mean_reward, mean_exp_reward and var_exp_reward of every reward under a residual law.

        The location of a context is independent of the residual in this model, so E e^r is the initial
        E e^r times E_p e^residual / E_p0 e^residual, and likewise for E e^(2 r).

        Args:
            law: masses (n,) after some rounds.
            initial: masses (n,) before the first.
            temperature: divides the rewards inside the exponential.
        """
        found = []
        effective = self.effective_law(law, initial)
        for rewards, residuals in zip(self.rewards.T, self.residuals.T, strict=True):
            moments = {"mean_reward": float(rewards @ effective)}
            if rewards.max() / temperature < LARGEST_EXPONENT:
                first, second = (
                    float(np.exp(power * rewards / temperature) @ initial)
                    * _ratio(power * residuals / temperature, law, initial)
                    for power in (1, 2)
                )
                moments["mean_exp_reward"] = first
                moments["var_exp_reward"] = max(second - first**2, 0.0)
            found.append(moments)
        return found


def _ratio(exponents: FloatArray, law: FloatArray, initial: FloatArray) -> float:
    values = np.exp(exponents - exponents.max())
    return float((values @ law) / (values @ initial))


def first_gain(
    rewards: FloatArray, codes: IntArray, rule: Rule, weights: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray] | None:
    """Return the first round's gain in mean reward (m,), unbiased, and its standard error.

    From each context with J >= K candidates one slate of K is taken without replacement; what is picked
    from it, in expectation over the pick, is what the loop picks. None where no more than a few contexts
    have K candidates, or K is infinite.

    Args:
        rewards: shape (n, m).
        codes: context of each candidate, shape (n,).
        rule: how one is picked.
        weights: share of slates picked by each reward, shape (m,).
        rng: which candidates form the slates.
    """
    sizes = np.bincount(codes)
    if rule.k > sizes.max() or (sizes >= rule.k).sum() < 30:
        return None
    k = int(rule.k)
    order = _shuffled(codes, rng)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])[sizes >= k]
    slates = rewards[order[starts[:, None] + np.arange(k)]]
    chance = sum(w * rule.probabilities(slates[:, :, i]) for i, w in enumerate(weights))
    picked = (np.asarray(chance)[:, :, None] * slates).sum(axis=1)
    means = np.column_stack([np.bincount(codes, r) for r in rewards.T])[sizes >= k]
    gains = picked - means / sizes[sizes >= k, None]
    return gains.mean(axis=0), gains.std(axis=0, ddof=1) / np.sqrt(len(gains))


def equal_spread_p_value(values: FloatArray, codes: IntArray, rng: np.random.Generator) -> float | None:
    """Return a p-value for equal spread of values (n,) in all contexts; None if it cannot be tested.

    Every context gives two disjoint pairs of candidates or more; the absolute differences within pairs are
    independent, and identically distributed if spreads are equal, whatever the law. One-way analysis of
    variance on their normal scores compares contexts (needs four candidates in some of them).
    """
    from scipy.special import fdtrc, ndtri
    from scipy.stats import rankdata

    order = _shuffled(codes, rng)
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
    scores = ndtri(rankdata(gaps) / (gaps.size + 1))
    means = np.bincount(group, scores) / counts
    between = float(counts @ np.square(means - scores.mean())) / (counts.size - 1)
    within = float(np.square(scores - means[group]).sum()) / (scores.size - counts.size)
    if within == 0:
        return 1.0 if between == 0 else 0.0
    return float(fdtrc(counts.size - 1, scores.size - counts.size, between / within))


def _shuffled(codes: IntArray, rng: np.random.Generator) -> IntArray:
    """Return an order of rows by context, random within each: logs may be sorted by reward."""
    return np.lexsort((rng.random(codes.size), codes)).astype(np.int64)
