"""Tail probabilities, corrections for multiple tests, and quadratic forms of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from recurate.core.arrays import FloatArray


def chi2_tail(statistic: float, df: int) -> float:
    """Return P(X >= statistic) for X chi squared with ``df`` degrees of freedom."""
    from scipy.special import gammaincc

    return float(gammaincc(df / 2, max(statistic, 0.0) / 2))


def normal_tail(z: float) -> float:
    """Return P(Z >= z) for a standard normal Z."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def two_sided(z: float) -> float:
    """Return P(abs(Z) >= abs(z)) for a standard normal Z."""
    return math.erfc(abs(z) / math.sqrt(2))


def normal_quantile(p: float) -> float:
    """Return z with P(Z <= z) = p for a standard normal Z."""
    from scipy.special import ndtri

    return float(ndtri(p))


def wilson(share: float, count: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval (1927) of a probability, from a share of independent trials."""
    z = normal_quantile(0.975)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def three_moment_tail(value: float, mean: float, variance: float, third: float) -> float:
    """Return P(T >= value) for a T with this mean, variance and third central moment.

    The distribution is a shifted gamma distribution (Pearson's type III), which approximates sums of weighted
    chi-squared variables closely; it is normal if the third moment is not positive.
    """
    from scipy.special import gammaincc

    if variance <= 0:
        return 1.0
    z = (value - mean) / math.sqrt(variance)
    skewness = third / variance**1.5
    if skewness < 1e-6:
        return normal_tail(z)
    shape = 4.0 / skewness**2
    x = shape + z * math.sqrt(shape)
    return 1.0 if x <= 0 else float(gammaincc(shape, x))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979), which bounds the family-wise error rate."""
    given = np.array(p_values, float)
    order = np.argsort(given)
    corrected = np.empty(given.size)
    corrected[order] = np.maximum.accumulate(given[order] * np.arange(given.size, 0, -1)).clip(max=1.0)
    return corrected.tolist()


def quadratic_test(score: FloatArray, covariance: FloatArray) -> tuple[float, int]:
    """Return score' covariance^+ score and its degrees of freedom, the rank of the covariance."""
    size = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    alive = size > 0
    if not alive.any():
        return 0.0, 0
    scaled = covariance[np.ix_(alive, alive)] / np.outer(size[alive], size[alive])
    values, vectors = np.linalg.eigh(scaled)
    kept = values > 1e-8 * values[-1]
    along = vectors[:, kept].T @ (score[alive] / size[alive])
    return float((np.square(along) / values[kept]).sum()), int(kept.sum())
