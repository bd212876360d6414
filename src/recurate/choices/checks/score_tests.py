r"""Score tests of additional columns in a fitted conditional logit, and the record of a test.

With additional columns z and the fitted beta,

.. math:: s = \sum_s Z_s' (y_s - p_s), \qquad LM = s' (I_{zz} - I_{zx} I_{xx}^{-1} I_{xz})^{-1} s

has a chi-squared distribution if Luce's model with beta' x holds. If choosers pick repeatedly, the matrix in
the middle is the sum over choosers of outer products of efficient scores. The columns may depend on the
fitted beta (McFadden 1987).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recurate.choices.checks.statistics import quadratic_test
from recurate.choices.models.likelihood import evaluate
from recurate.choices.table import Choices
from recurate.core.arrays import FloatArray, IntArray

FEW_CLUSTERS = 30  # with fewer clusters the variance of scores is taken from the model
MOST_FEATURES = 20  # maximum number of features whose coefficients a test varies


@dataclass(frozen=True)
class Check:
    """One test of Luce's model.

    Attributes:
        name: ``position``, ``iia``, ``repeats``, ``choosers``, ``calibration``, ``drift`` or ``hausman``.
        title: Title of the test in reports.
        p: p-value, or None if nothing could be tested.
        corrected: p-value corrected for the number of main tests (Holm); ``p`` itself for other tests.
        statistic: Chi-squared statistic, or ratio of variances.
        df: Degrees of freedom, or None.
        effect: Effect found, in words.
        why: Reason why nothing was tested.
        main: Whether the verdict depends on the test.
    """

    name: str
    title: str
    p: float | None = None
    corrected: float | None = None
    statistic: float | None = None
    df: int | None = None
    effect: str = ""
    why: str = ""
    main: bool = True


def score_test(
    choices: Choices, beta: FloatArray, extra: FloatArray, *, robust: bool = False
) -> tuple[float, int, FloatArray]:
    """Return the score statistic, its degrees of freedom and a one-step estimate for additional columns.

    Args:
        choices: Slates, features and picks.
        beta: Fitted coefficients, (d,).
        extra: Additional columns z, (rows, q).
        robust: Whether to estimate the variance of scores from the slates if choosers are unknown, which is
            valid even if the rest of the model is wrong.

    Returns:
        The statistic, its degrees of freedom, and the estimated coefficients of z after one step, (q,).
    """
    d = beta.size
    if extra.shape[1] == 0:
        return 0.0, 0, np.empty(0)
    both = choices.with_features(
        np.column_stack([choices.features, extra]),
        [*choices.names, *(f"extra {j}" for j in range(extra.shape[1]))],
    )
    codes = clusters_of(choices)
    if codes is None and robust:
        codes = np.arange(len(choices))
    found = evaluate(both, np.r_[beta, np.zeros(extra.shape[1])], information=True, clusters=codes)
    matrix = found.information
    assert matrix is not None
    project = _projection(matrix, d)
    efficient = matrix[d:, d:] - project @ matrix[:d, d:]
    size = np.square(extra).sum(axis=0) / extra.shape[0] * choices.total_weight
    efficient = _without_noise(efficient, size)
    score = found.gradient[d:] - project @ found.gradient[:d]
    step = np.linalg.pinv(efficient, rcond=1e-9, hermitian=True) @ score
    if found.cluster_scores is not None:
        each = found.cluster_scores[:, d:] - found.cluster_scores[:, :d] @ project.T
        middle = _without_noise(each.T @ each, size)
        middle[:, np.diag(efficient) <= 0] = 0.0
        middle[np.diag(efficient) <= 0] = 0.0
        return *quadratic_test(score, middle), step
    return *quadratic_test(score, efficient), step


def _projection(matrix: FloatArray, d: int) -> FloatArray:
    """Return I_zx I_xx^-1, (q, d)."""
    if d == 0:
        return np.zeros((len(matrix), 0))
    scale = 1.0 / np.sqrt(np.maximum(np.diag(matrix)[:d], 1e-300))
    inner = np.linalg.pinv(matrix[:d, :d] * scale * scale[:, None], rcond=1e-12, hermitian=True)
    return np.asarray(matrix[d:, :d] @ (inner * scale * scale[:, None]))


def _without_noise(matrix: FloatArray, size: FloatArray) -> FloatArray:
    """Set rows and columns to zero whose diagonal is rounding error, relative to their ``size`` (q,)."""
    out = matrix.copy()
    gone = np.diag(matrix) <= 1e-10 * np.maximum(size, 1e-300)
    out[gone] = 0.0
    out[:, gone] = 0.0
    return out


def clusters_of(choices: Choices) -> IntArray | None:
    """Return clusters (slates,) to sum scores by; None if they are too few, or single slates."""
    codes = choices.clusters
    if codes is None:
        return None
    count = np.unique(codes).size
    return codes if FEW_CLUSTERS <= count < len(choices) else None


def dummies(codes: IntArray) -> tuple[FloatArray, IntArray]:
    """Return indicators of all codes but the first, (rows, codes - 1), and the codes, capped at 11."""
    found = np.unique(np.minimum(codes, 11))
    clipped = np.minimum(codes, 11)
    return (clipped[:, None] == found[None, 1:]).astype(float), found


def position_columns(choices: Choices) -> tuple[FloatArray | None, IntArray]:
    """Return indicators of all places but the first, (rows, places - 1), or None, and the places."""
    if choices.positions is None:
        return None, np.empty(0, np.int64)
    columns, places = dummies(choices.positions)
    return (columns if columns.shape[1] else None), places


def strongest_features(choices: Choices, beta: FloatArray) -> IntArray:
    """Return the indices of at most ``MOST_FEATURES`` features with the largest effect on utilities."""
    reach = np.abs(beta) * choices.features.std(axis=0)
    return np.sort(np.argsort(-reach, kind="stable")[:MOST_FEATURES])
