r"""How good a classifier is on data that it has not seen: accuracy, calibration error, Brier score.

With q_i(x) the probability of class i, c = max_i q_i the confidence, n samples:

- accuracy: share of samples whose most probable class is the right one;
- expected calibration error: sum_b n_b / n |accuracy_b - mean confidence_b| over 15 bins of confidence
  of equal width, (0, 1/15], ..., (14/15, 1] (Guo et al. 2017). It is biased upwards by few samples: that of a
  perfectly calibrated classifier is up to 0.4 sqrt(15 / n) on average;
- Brier score: mean of sum_i (q_i - [i is the right class])^2, from 0 to 2 (Brier 1950).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recurate.core.arrays import FloatArray
from recurate.core.settings import Settings

BINS = 15


class Scores(Settings):
    """Scores on held-out real data.

    Attributes:
        count: number of samples.
        accuracy, calibration_error, brier: see the module.
        bins: of confidence, behind the calibration error.
    """

    count: int
    accuracy: float
    calibration_error: float
    brier: float
    bins: int = BINS


def scores(probabilities: FloatArray, classes: NDArray[np.int64]) -> Scores:
    """Score probabilities (n, classes) by the right classes (n,), -1 for unknown ones."""
    confidence, known = probabilities.max(axis=1), classes >= 0
    right = probabilities.argmax(axis=1) == classes
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, right - confidence, BINS)
    brier = np.square(probabilities).sum(axis=1) + 1.0
    brier[known] -= 2 * probabilities[known, classes[known]]
    return Scores(
        count=len(classes),
        accuracy=float(right.mean()),
        calibration_error=float(np.abs(gaps).sum() / len(classes)),
        brier=float(brier.mean()),
    )
