"""Rewards and groups by distance, for points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.components.rewards.protocol import Samples
from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.core.settings import Settings
from recurate.log.samples import is_text


class DistanceSettings(Settings):
    """Reward -gamma max(0, |x - centre| - radius) (Ferbach et al. 2024, section 4)."""

    kind: Literal["distance"]
    name: str = Field("reward", pattern=r"^[A-Za-z_]\w*$", description="name of the reward's column")
    weight: float | None = Field(None, ge=0, le=1, description="share of slates picked by this reward")
    centre: tuple[float, ...] = Field(min_length=1, description="the preferred point")
    radius: float = Field(0.0, ge=0, description="within this distance the reward is 0, its maximum")
    gamma: float = Field(1.0, gt=0, description="reward lost per unit of distance")


@dataclass(frozen=True)
class DistanceReward:
    """See :class:`DistanceSettings`."""

    settings: DistanceSettings

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward a sample, shape (n,)."""
        beyond = distances(samples, np.array([self.settings.centre]))[:, 0] - self.settings.radius
        return np.asarray(-self.settings.gamma * np.maximum(beyond, 0.0))


@dataclass(frozen=True)
class NearestCentre:
    """Group = number of the nearest centre; ``centres`` has shape (groups, dimension)."""

    centres: FloatArray

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return one label a sample, shape (n,)."""
        return np.asarray(distances(samples, self.centres).argmin(axis=1).astype(str))


def distances(samples: Samples, centres: FloatArray) -> FloatArray:
    """Return Euclidean distances (n, centres) of samples (n, d) from centres (centres, d)."""
    if is_text(samples):
        raise InputError(
            "distances need points, and these samples are texts", got="texts", remedy="use another reward"
        )
    if samples.ndim != 2 or samples.shape[1] != centres.shape[1]:
        raise InputError(
            "distances need points and centres of one dimension",
            got=f"samples of shape {samples.shape[1:]}, centres with {centres.shape[1]} coordinates",
            remedy="give the centre as many coordinates as the data have",
        )
    points = samples.astype(np.float64)
    return np.stack([np.linalg.norm(points - centre, axis=1) for centre in centres], axis=1)
