"""Tests of independent slates: differences between choosers, and picks from repeated slates."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from recurate.choices.checks.score_tests import Check, strongest_features
from recurate.choices.checks.statistics import three_moment_tail
from recurate.choices.models.likelihood import information_of, runs_of
from recurate.choices.table import Choices
from recurate.core.arrays import BoolArray, FloatArray, IntArray

FEW_REPEATS = 30  # minimum number of pairs of equal slates for a test


def check_choosers(choices: Choices, beta: FloatArray) -> Check:
    r"""Test whether choosers' coefficients differ: overdispersion of their scores.

    With whitened scores g of slates, T = sum_c sum_{i != j in c} g_i' g_j has mean zero if all choosers have
    the same beta, and grows with the variance of beta between choosers. Its tail is approximated by a shifted
    gamma distribution with T's mean (corrected for the estimation of beta), variance and third moment.
    """
    blank = Check("choosers", "Overdispersion between choosers")
    if choices.choosers is None:
        return replace(blank, why="choosers were not recorded")
    if not choices.names:
        return replace(blank, why="no features describe the candidates")
    counts = np.bincount(choices.choosers)
    repeated = counts[counts > 1]
    if repeated.size < 5:
        return replace(blank, why=f"only {repeated.size} choosers picked more than once")
    strongest = strongest_features(choices, beta)
    t, moments, share = _pair_statistic(choices, beta, strongest, choices.choosers)
    p = three_moment_tail(t, *moments)
    effect = f"choosers' scores vary {max(share, 0.0):.2f} times as much as equal coefficients imply"
    return replace(blank, p=p, statistic=share, df=None, effect=effect)


def _pair_statistic(
    choices: Choices, beta: FloatArray, columns: IntArray, codes: IntArray
) -> tuple[float, tuple[float, float, float], float]:
    """Return T, its (mean, variance, third central moment), and the ratio of variances."""
    order = np.argsort(codes, kind="stable")
    choices, codes = choices.take(order), codes[order]
    p, _ = choices.slates.softmax(choices.features @ beta)
    x = choices.features[:, columns]
    residual = -p
    residual[choices.picked_rows] += 1.0
    weights = np.ones(len(choices)) if choices.weights is None else choices.weights
    matrix = information_of(x, p, choices.slates, weights)
    values, vectors = np.linalg.eigh(matrix)
    good = values > 1e-10 * values[-1]
    root = vectors[:, good] / np.sqrt(values[good])  # whitens: root' I root = 1
    z = x @ root
    means = choices.slates.sums(z * p[:, None])
    g = choices.slates.sums(z * residual[:, None]) * weights[:, None]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    q = z.shape[1]
    total, own = np.add.reduceat(g, starts, axis=0), np.square(g).sum()
    t = float(np.square(total).sum() - own)
    pair2 = pair3 = 0.0
    bounds = np.r_[starts, len(choices)]
    for first, stop in runs_of(bounds, max(1, 2_000_000 // max(q * q, 1))):
        some = slice(int(bounds[first]), int(bounds[stop]))
        each = _slate_informations(choices, z, p, means, weights, some)
        joint = np.add.reduceat(each, bounds[first:stop] - some.start, axis=0)
        index = np.repeat(np.arange(stop - first), np.diff(bounds[first : stop + 1]))
        squares = np.einsum("nab,nab->", each, each)
        pair2 += float(np.einsum("nab,nab->", joint, joint)) - squares
        cubes = np.einsum("nab,nbc->nac", each, each)
        pair3 += float(np.einsum("nab,nbc,nca->", joint, joint, joint, optimize=True))
        pair3 -= 3 * float(np.einsum("nab,nab->", cubes, joint[index]))
        pair3 += 2 * float(np.einsum("nab,nab->", cubes, each))
    ratio = 1.0 + t / max(float(q), 1.0)
    return t, (-pair2, 2 * pair2, 8 * max(pair3, 0.0)), ratio


def _slate_informations(
    choices: Choices, z: FloatArray, p: FloatArray, means: FloatArray, weights: FloatArray, some: slice
) -> FloatArray:
    """Return each slate's covariance of z' (y - p), (slates, q, q)."""
    rows = slice(int(choices.slates.offsets[some.start]), int(choices.slates.offsets[some.stop]))
    sizes = choices.slates.sizes[some]
    index = np.repeat(np.arange(sizes.size), sizes)
    centred = z[rows] - means[some][index]
    outer = np.einsum("na,nb->nab", centred * p[rows, None], centred)
    starts = choices.slates.offsets[some] - rows.start
    return np.asarray(np.add.reduceat(outer, starts, axis=0) * np.square(weights[some])[:, None, None])


def check_repeats(choices: Choices, beta: FloatArray, fitted: BoolArray | None = None) -> Check:
    r"""Test whether picks from equal slates are independent and follow the predictions.

    With residuals e = y - p of the slots, T is the sum of e_i' e_j over pairs of equal slates. Its mean is
    zero unless predictions are wrong for particular slates or picks from equal slates are dependent, but for
    the estimation of beta: with J the derivative of p by beta and C its covariance, a pair adds -tr J C J' if
    beta was fitted to both of its slates, tr J C J' if to neither, and nothing if to one.

    Args:
        choices: Slates, features and picks.
        beta: Fitted coefficients, (d,).
        fitted: Whether beta was fitted to each slate, (slates,); None: to all.
    """
    blank = Check("repeats", "Repeated slates")
    if choices.weights is not None and (choices.weights != np.round(choices.weights)).any():
        return replace(blank, why="picks are shares of votes: those of one slate are a single vote")
    codes, order = _equal_slates(choices)
    counts = np.bincount(codes)
    pairs = int((counts * (counts - 1) // 2).sum())
    if pairs < FEW_REPEATS:
        return replace(blank, why=f"only {pairs} pairs of slates show the same candidates")
    keep = np.flatnonzero(counts[codes] > 1)
    t = mean = variance = third = 0.0
    p_all, _ = choices.slates.softmax(choices.features @ beta)
    own = np.ones(len(choices), bool) if fitted is None else fitted
    basis = choices.take(np.flatnonzero(own))
    chance = p_all[choices.slates.spread(own)]
    inverse = np.linalg.pinv(information_of(basis.features, chance, basis.slates), hermitian=True)
    for code in np.unique(codes[keep]):
        some = keep[codes[keep] == code]
        n = some.size
        rows = choices.slates.offsets[some][:, None] + np.arange(choices.slates.sizes[some[0]])
        slots = np.take_along_axis(rows, order[some][:, : rows.shape[1]], axis=1)
        p = p_all[slots[0]]
        picked = slots == choices.picked_rows[some][:, None]
        e = picked - p
        t += float(np.square(e.sum(axis=0)).sum() - np.square(e).sum())
        sigma = np.diag(p) - np.outer(p, p)
        jacobian = sigma @ choices.features[slots[0]]
        ordered = n * (n - 1)
        inside = int(own[some].sum())
        signed = (n - inside) * (n - inside - 1) - inside * (inside - 1)
        mean += signed * float(np.einsum("ka,ab,kb->", jacobian, inverse, jacobian))
        variance += 2 * ordered * float(np.square(sigma).sum())
        third += 8 * ordered * (n - 2) * float(np.trace(sigma @ sigma @ sigma)) + 4 * ordered * _third(p)
    ratio = t / math.sqrt(variance)
    effect = f"equal slates agree in their picks {'more' if t > mean else 'less'} than predicted"
    tail = three_moment_tail(t, mean, variance, third)
    return replace(blank, p=min(1.0, 2 * min(tail, 1 - tail)), statistic=ratio, effect=effect)


def _third(p: FloatArray) -> float:
    """Return E (e_1' e_2)^3 for two independent picks from one slate."""
    products = np.eye(p.size) - p[:, None] - p[None, :] + float(p @ p)
    return float(p @ products**3 @ p)


def _equal_slates(choices: Choices) -> tuple[IntArray, IntArray]:
    """Return a code per slate, equal for the same candidates in any order, and slots in a common order."""
    width = int(choices.slates.sizes.max())
    # Items of one name may differ in features such as the price, so both must be equal.
    looks = choices.features if choices.items is None else np.column_stack([choices.items, choices.features])
    keys = np.unique(looks, axis=0, return_inverse=True)[1].astype(np.int64).ravel()
    table = np.full((len(choices), width), np.iinfo(np.int64).max)  # absent slots sort last
    table[choices.slates.index(), choices.slates.slots()] = keys
    order = np.argsort(table, axis=1, kind="stable")
    ordered = np.take_along_axis(table, order, axis=1)
    codes = np.unique(ordered, axis=0, return_inverse=True)[1].astype(np.int64).ravel()
    return codes, order
