"""Rewards and groups by distance from points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.components.protocols import RewardSettings
from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.log.samples import Samples, is_text


class DistanceSettings(RewardSettings):
    """Reward r(x) = -gamma max(0, |x - centre| - radius) of points (Ferbach et al. 2024, section 4)."""

    kind: Literal["distance"]
    centre: tuple[float, ...] = Field(min_length=1, description="the preferred point")
    radius: float = Field(0.0, ge=0, description="distance within which the reward is 0, its maximum")

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per sample (n, d), shape (n,).

        Raises:
            InputError: If the samples are texts, or their dimension differs from that of the centre.
        """
        beyond = distances(samples, np.array([self.centre]))[:, 0] - self.radius
        return np.asarray(-self.gamma * np.maximum(beyond, 0.0))


@dataclass(frozen=True)
class NearestCentre:
    """Groups points by their nearest centre; the labels are the centres' numbers.

    Attributes:
        centres: Coordinates of the centres, shape (groups, dimension).

    Raises:
        InputError: If samples are texts, or their dimension differs from that of the centres.
    """

    centres: FloatArray

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return one label per sample, shape (n,)."""
        return np.asarray(distances(samples, self.centres).argmin(axis=1).astype(str))


def distances(samples: Samples, centres: FloatArray) -> FloatArray:
    """Return Euclidean distances (n, m) of samples (n, d) from centres (m, d).

    Raises:
        InputError: If the samples are texts, or their dimension differs from that of the centres.
    """
    if is_text(samples):
        raise InputError(
            "distances need points, and these samples are texts", got="texts", remedy="use another reward"
        )
    if samples.ndim != 2 or samples.shape[1] != centres.shape[1]:
        raise InputError(
            "points and centres must have the same dimension",
            got=f"samples of shape {samples.shape[1:]}, centres with {centres.shape[1]} coordinates",
            remedy="give the centre as many coordinates as the data have",
        )
    points = samples.astype(np.float64)
    return np.stack([np.linalg.norm(points - centre, axis=1) for centre in centres], axis=1)
