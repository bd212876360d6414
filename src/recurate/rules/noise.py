"""Noises of random-utility choice: the candidate with the largest reward + noise is picked.

Standard Gumbel noise gives Luce's choice model (Bradley-Terry for K = 2): the probability of picking
candidate i is exp(r_i) / sum_j exp(r_j).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """A noise distribution, by its functions of one real variable (vectorised).

    Attributes:
        name: how configurations and logs call it.
        cdf: F(z).
        sf: 1 - F(z), with full *relative* accuracy for large z.
        pdf: f(z).
    """

    name: str
    cdf: Callable[[FloatArray], FloatArray]
    sf: Callable[[FloatArray], FloatArray]
    pdf: Callable[[FloatArray], FloatArray]


# exp(-z) overflows below z = -709; there F and f are zero in double precision anyway.
_LOWEST = -700.0


def _gumbel_cdf(z: FloatArray) -> FloatArray:
    return np.exp(-np.exp(-np.maximum(z, _LOWEST)))


def _gumbel_sf(z: FloatArray) -> FloatArray:
    return -np.expm1(-np.exp(-np.maximum(z, _LOWEST)))


def _gumbel_pdf(z: FloatArray) -> FloatArray:
    z = np.maximum(z, _LOWEST)
    return np.exp(-z - np.exp(-z))


GUMBEL = Noise("gumbel", _gumbel_cdf, _gumbel_sf, _gumbel_pdf)
"""Standard Gumbel: F(z) = exp(-exp(-z)). Picks follow Luce's choice model."""
