r"""Selection within contexts (prompts), for populations with many contexts and few candidates in each.

Adding a constant to all rewards of a context changes no pick, so the multiplier of a candidate depends
on its reward relative to the others of its context. If the laws of these *residuals* are equal up to
location, one pooled residual population has every context's law exactly: forecast that, then add the
locations back. (Pooling raw rewards instead counts differences between contexts as selection.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recurate.candidates import LARGEST_EXPONENT
from recurate.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class PooledResiduals:
    """Rewards (n, m) split into the location of each context and residuals.

    Attributes:
        locations: mean reward of the context of each candidate, shape (n, m).
        residuals: shape (n, m); reward - location, times sqrt(J / (J - 1)) in a context of J candidates,
            which undoes the shrinkage from estimating the location with the same J rewards.
        rewards: the rewards themselves.
    """

    rewards: FloatArray
    locations: FloatArray
    residuals: FloatArray

    @classmethod
    def of(cls, rewards: FloatArray, contexts: IntArray) -> PooledResiduals:
        """Split rewards (n, m) by context codes (n,).

        Raises:
            InputError: a context has one candidate only, so nothing is known of its spread.
        """
        counts = np.bincount(contexts)
        if np.any(counts[counts > 0] < 2):
            raise InputError(
                "every context needs at least two candidates",
                got=f"{int((counts == 1).sum())} contexts with one",
                remedy="log every candidate of each prompt's slate, losers included",
            )
        sums = np.column_stack([np.bincount(contexts, r) for r in rewards.T])
        locations = np.asarray(sums / np.maximum(counts, 1)[:, None], float)[contexts]
        stretch = np.sqrt(counts / np.maximum(counts - 1, 1))[contexts]
        return cls(rewards, locations, (rewards - locations) * stretch[:, None])

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
        for rewards, locations, residuals in zip(
            self.rewards.T, self.locations.T, self.residuals.T, strict=True
        ):
            moments = {"mean_reward": float(locations @ initial + residuals @ law)}
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


def equal_spread_p_value(values: FloatArray, contexts: IntArray) -> float:
    """Return the p-value of Brown and Forsythe's test that values (n,) spread alike in all contexts.

    One-way analysis of variance on absolute deviations from each context's median (Brown and Forsythe
    1974, JASA 69, 364-367); robust to non-normal rewards.
    """
    from scipy.special import fdtrc

    codes = np.unique(contexts, return_inverse=True)[1]
    counts = np.bincount(codes)
    order = np.lexsort((values, codes))
    starts = np.r_[0, np.cumsum(counts)[:-1]]
    sorted_values = values[order]
    medians = 0.5 * (sorted_values[starts + (counts - 1) // 2] + sorted_values[starts + counts // 2])
    deviations = np.abs(values - medians[codes])
    means = np.bincount(codes, deviations) / counts
    between = float(counts @ np.square(means - deviations.mean())) / (counts.size - 1)
    within = float(np.square(deviations - means[codes]).sum()) / (values.size - counts.size)
    if within == 0:
        return 1.0 if between == 0 else 0.0
    return float(fdtrc(counts.size - 1, values.size - counts.size, between / within))
