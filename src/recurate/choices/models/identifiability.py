"""Existence and uniqueness of estimates: collinear features, separated picks, features at fault."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from recurate.choices.models.likelihood import evaluate
from recurate.choices.table import Choices
from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError, cut
from recurate.rules.rule import check_number

FEWEST = 4000  # minimum number of slates in a subsample
PART = 20  # ratio of all slates to those of a subsample
SINGULAR = 1e-11  # relative eigenvalue at or below which a scaled information matrix is singular
STRIDE = 64  # consecutive slates in each strip of a subsample; strips, because files are often sorted
LARGEST_PROGRAM = 20_000  # maximum number of rows in a linear program


class NoEstimate(InputError):
    """Raised when the likelihood has no unique finite maximum; the message states why."""


class Separated(NoEstimate):
    """Raised when a combination of features is never lower for a pick than for its rivals.

    Args:
        names: Names of all features.
        direction: Coefficients of this combination, (d,).
        blamed: Indices of the features that it consists of, the most important first.
    """

    def __init__(self, names: Sequence[str], direction: FloatArray, blamed: IntArray) -> None:
        self.direction = direction
        self.blamed = blamed
        super().__init__(
            "the picks are separated: some linear combination of features is never lower for the picked "
            "candidate than for its rivals, so that the likelihood has no finite maximum",
            got=f"separated by {listed([names[j] for j in blamed])}",
            remedy="set a shrinkage (--shrinkage 1), or describe candidates by other features (--feature)",
        )


def check_shrinkage(shrinkage: float) -> None:
    """Raise InputError unless a shrinkage is a finite number >= 0."""
    remedy = "--shrinkage 0 for none; --shrinkage 1 weighs about one slate"
    check_number(shrinkage, lambda s: math.isfinite(s) and s >= 0, "shrinkage must be a number >= 0", remedy)


def check_identified(choices: Choices, shrinkage: float = 0.0) -> tuple[FloatArray, Choices | None]:
    """Return the features' root mean squares within slates (d,) and a subsample that identifies them all.

    The subsample is None if the sample is small, or if only the full sample identifies all coefficients.

    Raises:
        NoEstimate: If a feature is constant within every slate, or if features are collinear within slates.
    """
    part = None if shrinkage else subsample(choices)  # the penalty is relative to the full sample
    if part is not None:
        scale, information = _null_information(part)
        if not (scale <= 0).any() and rank_deficit(information) is None:
            return scale, part
    scale, information = _null_information(choices)
    constant = np.flatnonzero(scale <= 0)
    if constant.size:
        raise NoEstimate(
            "the coefficients of features that are constant within slates are not identified",
            got=", ".join(choices.names[j] for j in constant),
            remedy="describe candidates by other features (--feature)",
        )
    deficit = None if shrinkage else rank_deficit(information)
    if deficit is not None:
        raise NoEstimate(
            "features are collinear within slates",
            got=", ".join(choices.names[j] for j in deficit),
            remedy="name all but one of them (--feature; a set of dummies needs a base level), or set a "
            "shrinkage (--shrinkage 1)",
        )
    return scale, None


def subsample(choices: Choices) -> Choices | None:
    """Return about one slate in ``PART``, at least ``FEWEST``, in strips; None if a quarter is not enough."""
    n = len(choices)
    wanted = max(n // PART, FEWEST, 100 * choices.features.shape[1])
    if wanted * 4 > n:
        return None
    strips = -(-wanted // STRIDE)
    starts = np.linspace(0, n - STRIDE, strips).astype(np.int64)
    index = np.unique((starts[:, None] + np.arange(STRIDE)).ravel())
    return choices.take(index)


def _null_information(choices: Choices) -> tuple[FloatArray, FloatArray]:
    """Return root mean squares within slates (d,) and the scaled information (d, d) at uniform picks."""
    information = evaluate(choices, np.zeros(choices.features.shape[1]), information=True).information
    assert information is not None
    size = np.sqrt(np.maximum(np.square(choices.features).mean(axis=0), 0.0))
    scale = np.sqrt(np.diag(information) / choices.total_weight)
    scale = np.where(scale > 1e-12 * size, scale, 0.0)  # a constant, but for rounding
    safe = np.where(scale > 0, scale, 1.0)
    return scale, information / (safe * safe[:, None]) / choices.total_weight


def rank_deficit(information: FloatArray) -> IntArray | None:
    """Return the features in the null space of a scaled information (d, d), or None if it is regular."""
    values, vectors = np.linalg.eigh(information)
    if values[0] > SINGULAR * max(values[-1], 1e-300) * len(values):
        return None
    weak = np.abs(vectors[:, 0])
    return np.flatnonzero(weak > 0.05 * weak.max())


def separating_direction(choices: Choices, beta: FloatArray) -> FloatArray | None:
    """Return b with b' (x_pick - x_k) >= 0 for all candidates of all slates and > 0 for some, or None.

    Such a b exists iff the likelihood has no finite maximum (Albert and Anderson 1984). The direction of
    ``beta`` is tried first; then a linear program is solved (Konis 2007) on a part of the slates, and its
    solution is checked on all of them.
    """
    if np.any(beta) and _separates(choices, beta / np.linalg.norm(beta)):
        return beta / np.linalg.norm(beta)
    slates = max(1, LARGEST_PROGRAM * len(choices) // choices.slates.rows)
    part = choices
    if len(choices) > slates:
        part = choices.take(np.unique(np.linspace(0, len(choices) - 1, slates).astype(np.int64)))
    found = _program(part)
    if found is None:
        return None
    return found if part is choices or _separates(choices, found) else None


def _differences(choices: Choices) -> FloatArray:
    """Return x_pick - x_k for all rows that were not picked, (rows - slates, d)."""
    gaps = choices.slates.spread(choices.features[choices.picked_rows]) - choices.features
    rivals = np.ones(len(gaps), bool)
    rivals[choices.picked_rows] = False
    return np.asarray(gaps[rivals])


def _separates(choices: Choices, direction: FloatArray) -> bool:
    worth = choices.features @ direction
    gaps = choices.slates.spread(worth[choices.picked_rows]) - worth
    size = max(float(np.abs(worth).max()), 1e-300)
    return bool(gaps.min() >= -1e-9 * size and gaps.max() > 1e-7 * size)


def _program(choices: Choices) -> FloatArray | None:
    from scipy.optimize import linprog

    gaps = _differences(choices)
    scale = np.sqrt(np.square(gaps).mean(axis=0))
    scale[scale == 0] = 1.0
    scaled = gaps / scale
    done = linprog(
        -scaled.sum(axis=0), A_ub=-scaled, b_ub=np.zeros(len(scaled)), bounds=[(-1, 1)] * scaled.shape[1]
    )
    if done.status != 0 or -done.fun < 1e-6 * max(1.0, float(np.abs(scaled).max())):
        return None
    return np.asarray(done.x / scale)


def explain_separation(choices: Choices, direction: FloatArray) -> Separated:
    """Return the error that names the features which separate the picks from their rivals."""
    reach = np.abs(direction) * np.sqrt(np.square(_differences(choices)).mean(axis=0))
    order = np.argsort(-reach, kind="stable")
    return Separated(choices.names, direction, order[reach[order] > 0.05 * reach.max()])


def regular_features(choices: Choices, *, collinear: bool = True) -> tuple[IntArray, dict[int, list[int]]]:
    """Return the features whose coefficients are identified, and those that are not.

    As in R, a feature that is a linear combination of features before it, within slates, is not. A part of
    the slates often suffices and is tried first.

    Args:
        choices: Slates and features; the picks are ignored.
        collinear: Whether to look for such combinations; otherwise only for constant features.

    Returns:
        The indices of the identified features, and for each other one the features whose combination it is
        (none of them: it is constant within all slates).
    """
    d = choices.features.shape[1]
    part = subsample(choices)
    scale, information = _null_information(choices if part is None else part)
    if part is not None and ((scale <= 0).any() or rank_deficit(information) is not None):
        scale, information = _null_information(choices)
    found: dict[int, list[int]] = {int(j): [] for j in np.flatnonzero(scale <= 0)}
    kept = np.flatnonzero(scale > 0)
    if not collinear or not kept.size or rank_deficit(information[np.ix_(kept, kept)]) is None:
        return kept, found
    kept, combined = _independent(information, kept, 10 * SINGULAR * d)
    while kept.size and (deficit := rank_deficit(information[np.ix_(kept, kept)])) is not None:
        combined[int(kept[deficit[-1]])] = [int(j) for j in kept[deficit[:-1]]]
        kept = np.delete(kept, deficit[-1])
    return kept, found | combined


def _independent(
    information: FloatArray, features: IntArray, least: float
) -> tuple[IntArray, dict[int, list[int]]]:
    """Return the features that are no combinations of those before them, and the others with theirs.

    Args:
        information: Scaled information, (d, d), of unit diagonal.
        features: Indices of the features to consider.
        least: Smallest share of a feature's information that must be its own.
    """
    from scipy.linalg import solve_triangular

    factor = np.zeros((features.size, features.size))  # Cholesky factor of the features kept so far
    kept: list[int] = []
    combined: dict[int, list[int]] = {}
    for j in features:
        n = len(kept)
        row = solve_triangular(factor[:n, :n], information[kept, j], lower=True) if n else np.empty(0)
        own = float(information[j, j] - row @ row)
        if own > least:
            factor[n, :n], factor[n, n] = row, math.sqrt(own)
            kept.append(int(j))
            continue
        shares = np.abs(solve_triangular(factor[:n, :n].T, row))
        combined[int(j)] = [kept[i] for i in np.flatnonzero(shares > 1e-3 * shares.max())]
    return np.array(kept, np.int64), combined


def listed(names: Sequence[str], most: int = 6) -> str:
    """Return the first ``most`` names, separated by commas, each cut, and the number of the others."""
    shown = ", ".join(cut(name, 80) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
