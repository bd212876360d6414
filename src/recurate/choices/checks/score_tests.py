r"""Score tests of further columns in a fitted conditional logit, and what a test reports.

With z further columns and the fitted beta,

.. math:: s = \sum_s Z_s' (y_s - p_s), \qquad LM = s' (I_{zz} - I_{zx} I_{xx}^{-1} I_{xz})^{-1} s

is chi squared if Luce's model with beta' x holds. Where people pick repeatedly, the matrix in the middle is
the sum over people of squared efficient scores. The columns may depend on the fitted beta (McFadden 1987).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recurate.choices.checks.statistics import quadratic_test
from recurate.choices.models.likelihood import evaluate
from recurate.choices.table import Choices
from recurate.core.arrays import FloatArray, IntArray

FEW_CLUSTERS = 30  # people below which scores' variance is taken from the model
MOST_FEATURES = 20  # whose variation a test looks at


@dataclass(frozen=True)
class Check:
    """One test of Luce's model.

    Attributes:
        name: ``position``, ``iia``, ``repeats``, ``choosers``, ``calibration``, ``drift``, ``hausman``.
        title: for people.
        p: the p-value, or None where it could not be tested.
        corrected: the p-value corrected for the number of tests (Holm); ``p`` itself for the uncorrected one.
        statistic, df: chi squared statistic (or ratio of variances) and degrees of freedom.
        effect: what was found, in words.
        why: why it could not be tested, or what is special.
        main: whether it is one of the tests that the verdict rests on.
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
    """Return the score statistic, its degrees of freedom and one step's estimate for further columns.

    Args:
        choices: slates, features and picks.
        beta: the fitted coefficients, (d,).
        extra: further columns z, (rows, q).
        robust: take the scores' variance from the slates where choosers are not known, too: right where
            the rest of the model is not.
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
    """Set to zero the columns of about this size that the features, or slates, explain but for rounding."""
    out = matrix.copy()
    gone = np.diag(matrix) <= 1e-10 * np.maximum(size, 1e-300)
    out[gone] = 0.0
    out[:, gone] = 0.0
    return out


def clusters_of(choices: Choices) -> IntArray | None:
    """Return what scores are summed by: clusters, where there are enough and not each slate is one."""
    codes = choices.clusters
    if codes is None:
        return None
    count = np.unique(codes).size
    return codes if FEW_CLUSTERS <= count < len(choices) else None


def dummies(codes: IntArray) -> tuple[FloatArray, IntArray]:
    """Return indicator columns of all codes but the first, at most 12 places told apart, and the codes."""
    found = np.unique(np.minimum(codes, 11))
    clipped = np.minimum(codes, 11)
    return (clipped[:, None] == found[None, 1:]).astype(float), found


def position_columns(choices: Choices) -> tuple[FloatArray | None, IntArray]:
    """Return indicators of all places but the first, (rows, places - 1), or None where none are known."""
    if choices.positions is None:
        return None, np.empty(0, np.int64)
    columns, places = dummies(choices.positions)
    return (columns if columns.shape[1] else None), places


def strongest_features(choices: Choices, beta: FloatArray) -> IntArray:
    """Return the features that move utilities most, at most ``MOST_FEATURES``, in order."""
    reach = np.abs(beta) * choices.features.std(axis=0)
    return np.sort(np.argsort(-reach, kind="stable")[:MOST_FEATURES])
