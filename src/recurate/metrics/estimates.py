r"""Estimators of means, variances, group shares, entropies and divergences, with standard errors.

The estimators take values of shape (n,) and, optionally, their masses ``law`` (n,). Without ``law``, the
values are an i.i.d. sample (or a sample of clusters, see :func:`standard_error`), and the standard error is
that of the estimate's influence function. With ``law``, the values are the atoms of a known distribution, and
the standard error is zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from recurate.core.arrays import FloatArray, IntArray

NORMAL_975 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error.

    Attributes:
        value: Estimate, in the units of the quantity.
        se: Standard error in the same units; zero if the value is exact.
    """

    value: float
    se: float = 0.0

    def interval(self, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
        """Return the normal 95 % interval, value +- 1.96 se, truncated to [low, high]."""
        reach = NORMAL_975 * self.se
        return max(self.value - reach, low), min(self.value + reach, high)


@dataclass(frozen=True)
class Strata:
    """A stratified sample: the number of values per context is fixed, not random.

    Differences between the contexts' means then do not contribute to the standard error.

    Attributes:
        codes: Code of each value's context, from 0, shape (n,).
    """

    codes: IntArray


@dataclass(frozen=True)
class Repeats:
    """A sample whose values occur several times each.

    Attributes:
        counts: Number of times that each value occurs, shape (n,).
    """

    counts: FloatArray


Clusters = IntArray | Strata | Repeats | None


def standard_error(influence: FloatArray, clusters: Clusters = None) -> float:
    """Return the standard error of an estimate from its influence values psi_i.

    It is sqrt(sum_c (sum_{i in c} psi_i)^2) / n, where c runs over the clusters. For a stratified sample, psi
    is centred within each stratum, and the variance is sum_i psi_i^2 / (n (n - s)), s the number of strata.

    Args:
        influence: Influence values psi, with mean zero, shape (n,).
        clusters: Codes of the clusters, non-negative integers, shape (n,); candidates of one context form a
            cluster because they are not independent. None: the values are independent. Strata: the sample is
            stratified, and only the variation within strata contributes. Repeats: values are independent, and
            each counts as often as it occurs.
    """
    if isinstance(clusters, Strata):
        counts = np.bincount(clusters.codes)
        within = influence - (np.bincount(clusters.codes, influence) / np.maximum(counts, 1))[clusters.codes]
        lost = max(influence.size - np.count_nonzero(counts), 1)  # residual degrees of freedom
        return float(np.sqrt(np.square(within).sum() / lost / influence.size))
    if isinstance(clusters, Repeats):
        return float(np.sqrt(clusters.counts @ np.square(influence)) / clusters.counts.sum())
    sums = influence if clusters is None else np.bincount(clusters, influence)
    return float(np.sqrt(np.square(sums).sum()) / influence.size)


def mean(values: FloatArray, law: FloatArray | None = None, clusters: Clusters = None) -> Estimate:
    """Return the mean of values.

    Args:
        values: Sample or atoms, shape (n,).
        law: Masses of the atoms, shape (n,), summing to 1; None for a sample.
        clusters: Dependence of the sample's values; see :func:`standard_error`.
    """
    if law is not None:
        return Estimate(float(values @ law))
    own = _masses(clusters)
    average = float(values.mean() if own is None else values @ own)
    return Estimate(average, standard_error(values - average, clusters))


def variance(values: FloatArray, law: FloatArray | None = None, clusters: Clusters = None) -> Estimate:
    """Return the variance of values: of the distribution, or of the sample with divisor n.

    Args:
        values: Sample or atoms, shape (n,).
        law: Masses of the atoms, shape (n,), summing to 1; None for a sample.
        clusters: Dependence of the sample's values; see :func:`standard_error`.
    """
    centre = mean(values, _masses(clusters) if law is None else law).value
    return mean(np.square(values - centre), law, clusters)


def shares(
    codes: IntArray, groups: int, law: FloatArray | None = None, clusters: Clusters = None
) -> list[Estimate]:
    """Return the share of each group 0, ..., groups - 1.

    Args:
        codes: Group of each value, shape (n,).
        groups: Number of groups.
        law: Masses of the values, shape (n,); None for a sample.
        clusters: Dependence of the sample's values; see :func:`standard_error`.

    Returns:
        One estimate per group, in order of the codes.
    """
    if law is not None:
        # A residual model's effective masses may be slightly negative for a group.
        masses = np.maximum(np.bincount(codes, law, groups), 0.0)
        return [Estimate(float(s)) for s in masses / masses.sum()]
    repeats = clusters.counts if isinstance(clusters, Repeats) else None
    fractions = np.bincount(codes, repeats, groups) / (codes.size if repeats is None else repeats.sum())
    if clusters is None:
        errors = np.sqrt(fractions * (1 - fractions) / codes.size)
    else:
        errors = np.array([standard_error((codes == g) - fractions[g], clusters) for g in range(groups)])
    return [Estimate(float(s), float(e)) for s, e in zip(fractions, errors, strict=True)]


def entropy(
    codes: IntArray, groups: int, law: FloatArray | None = None, clusters: Clusters = None
) -> Estimate:
    """Return the Shannon entropy of the group shares s_g, -sum_g s_g log s_g, in nats.

    Args:
        codes: Group of each value, shape (n,).
        groups: Number of groups.
        law: Masses of the values, shape (n,); None for a sample.
        clusters: Dependence of the sample's values; see :func:`standard_error`.
    """
    fractions = np.array([s.value for s in shares(codes, groups, _masses(clusters) if law is None else law)])
    value = entropy_of(fractions)
    if law is not None:
        return Estimate(value)
    logs = np.log(np.where(fractions > 0, fractions, 1.0))
    return Estimate(value, standard_error(-logs[codes] - value, clusters))


def entropy_of(fractions: FloatArray) -> float:
    """Return the Shannon entropy -sum_g s_g log s_g of shares s (groups,), in nats."""
    logs = np.log(np.where(fractions > 0, fractions, 1.0))
    return 0.0 - float(fractions @ logs)  # not -0 for a single group


def _masses(clusters: Clusters) -> FloatArray | None:
    """Return the share of each value in a sample with repeats, (n,); None for equal shares."""
    return clusters.counts / clusters.counts.sum() if isinstance(clusters, Repeats) else None


def effective_support(law: FloatArray, counts: FloatArray | None = None) -> float:
    """Return the effective number of atoms of a distribution p (n,), 1 / sum_i p_i^2.

    It is n for n equally likely atoms. With ``counts`` (n,), each mass is that of so many equal atoms.
    """
    return float(1.0 / (np.square(law) if counts is None else np.square(law) / counts).sum())


def kl_atoms(law: FloatArray, reference: FloatArray) -> float:
    """Return KL(p || q) = sum_i p_i log(p_i / q_i), in nats, for two distributions on the same atoms.

    Args:
        law: Masses p, shape (n,).
        reference: Masses q, shape (n,).

    Returns:
        The divergence; infinity if p has mass where q has none.
    """
    alive = law > 0
    if np.any(reference[alive] == 0):
        return math.inf
    return max(float(law[alive] @ (np.log(law[alive]) - np.log(reference[alive]))), 0.0)


# --- group codes ----------------------------------------------------------------------------------


def encode(labels: ArrayLike) -> tuple[IntArray, list[str]]:
    """Return the group codes of labels, shape (n,), and the sorted group names that they index."""
    distinct, codes = _distinct(np.asarray(labels))
    names, rank = np.unique(distinct, return_inverse=True)
    return rank[codes].astype(np.int64), [str(name) for name in names]


def _distinct(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return distinct labels as text, and the number of each row's: by hashes, as sorting texts is slow."""
    if labels.dtype.kind in "iu":
        distinct, codes = np.unique(labels, return_inverse=True)
        return distinct.astype(str), codes
    try:
        encoded = pa.array(labels, pa.string()).fill_null("None").dictionary_encode()
    except (pa.ArrowException, TypeError):  # no texts
        texts = labels.astype(str)
        return texts, np.arange(texts.size)
    return np.array(encoded.dictionary.to_pylist(), str), encoded.indices.to_numpy(zero_copy_only=False)
