r"""What is measured of a law or a sample: plain functions, each with a standard error.

Every function takes values of shape (n,) and optional masses ``law`` (n,). Without ``law`` the values
are an i.i.d. sample (or a sample of clusters, see :func:`standard_error`) and the estimate carries a
standard error from its influence function; with it they are the atoms of a known law, and the standard
error is zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import FloatArray, IntArray

NORMAL_975 = 1.959963984540054  # the normal law's 97.5 % quantile


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error (zero where it is exact)."""

    value: float
    se: float = 0.0

    def interval(self, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
        """Return the 95 % normal interval, cut to [low, high]."""
        reach = NORMAL_975 * self.se
        return max(self.value - reach, low), min(self.value + reach, high)


@dataclass(frozen=True)
class Strata:
    """Values that come in the same numbers from each of some contexts: their levels are no chance.

    Attributes:
        codes: context of each value, (n,), from 0.
    """

    codes: IntArray


Clusters = IntArray | Strata | None


def standard_error(influence: FloatArray, clusters: Clusters = None) -> float:
    """Return sqrt(sum_c (sum_{i in c} psi_i)^2) / n for influences psi (n,).

    Args:
        influence: psi, with mean zero.
        clusters: shape (n,), non-negative integers; candidates of one context are one cluster because
            they are not independent. None: every value on its own. Strata: only the spread within counts.
    """
    if isinstance(clusters, Strata):
        counts = np.bincount(clusters.codes)
        within = influence - (np.bincount(clusters.codes, influence) / np.maximum(counts, 1))[clusters.codes]
        lost = max(influence.size - np.count_nonzero(counts), 1)  # degrees of freedom left
        return float(np.sqrt(np.square(within).sum() / lost / influence.size))
    sums = influence if clusters is None else np.bincount(clusters, influence)
    return float(np.sqrt(np.square(sums).sum()) / influence.size)


def mean(values: FloatArray, law: FloatArray | None = None, clusters: Clusters = None) -> Estimate:
    """Return E values."""
    if law is not None:
        return Estimate(float(values @ law))
    average = float(values.mean())
    return Estimate(average, standard_error(values - average, clusters))


def variance(values: FloatArray, law: FloatArray | None = None, clusters: Clusters = None) -> Estimate:
    """Return Var values (of the law; of a sample, dividing by n)."""
    centre = mean(values, law).value
    squares = np.square(values - centre)
    if law is not None:
        return Estimate(float(squares @ law))
    spread = float(squares.mean())
    return Estimate(spread, standard_error(squares - spread, clusters))


def shares(
    codes: IntArray,
    groups: int,
    law: FloatArray | None = None,
    clusters: Clusters = None,
) -> list[Estimate]:
    """Return the share of each group 0, ..., groups - 1, for group codes (n,)."""
    if law is not None:
        # A residual model's effective law may be slightly negative for a group.
        masses = np.maximum(np.bincount(codes, law, groups), 0.0)
        return [Estimate(float(s)) for s in masses / masses.sum()]
    fractions = np.bincount(codes, minlength=groups) / codes.size
    if clusters is None:
        errors = np.sqrt(fractions * (1 - fractions) / codes.size)
    else:
        errors = np.array([standard_error((codes == g) - fractions[g], clusters) for g in range(groups)])
    return [Estimate(float(s), float(e)) for s, e in zip(fractions, errors, strict=True)]


def entropy(
    codes: IntArray,
    groups: int,
    law: FloatArray | None = None,
    clusters: Clusters = None,
) -> Estimate:
    """Return the Shannon entropy of the group shares, -sum s log s, in nats."""
    fractions = np.array([s.value for s in shares(codes, groups, law)])
    value = entropy_of(fractions)
    if law is not None:
        return Estimate(value)
    logs = np.log(np.where(fractions > 0, fractions, 1.0))
    return Estimate(value, standard_error(-logs[codes] - value, clusters))


def entropy_of(fractions: FloatArray) -> float:
    """Return the Shannon entropy -sum s log s of shares, in nats."""
    logs = np.log(np.where(fractions > 0, fractions, 1.0))
    return float(-(fractions @ logs))


def effective_support(law: FloatArray) -> float:
    """Return 1 / sum p^2: how many equally likely atoms a law is worth."""
    return float(1.0 / np.square(law).sum())


def kl_atoms(law: FloatArray, reference: FloatArray) -> float:
    """Return KL(p || q) = sum p log(p / q) in nats, for laws on the same atoms (inf if p is not << q)."""
    alive = law > 0
    if np.any(reference[alive] == 0):
        return math.inf
    return max(float(law[alive] @ (np.log(law[alive]) - np.log(reference[alive]))), 0.0)


# --- divergence between reward laws ---------------------------------------------------------------


def encode(labels: ArrayLike) -> tuple[IntArray, list[str]]:
    """Return group codes (n,) and the sorted names that they index."""
    names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    return codes.astype(np.int64), [str(name) for name in names]
