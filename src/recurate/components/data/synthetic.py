"""Synthetic real data: Gaussians around a circle, two moons, and a box that is filled evenly."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from recurate.components.data.dataset import Dataset, Source
from recurate.core.seeds import Stream
from recurate.log.samples import Samples


class Gaussians(Source):
    """Mixture of equal Gaussians, centred around a circle in the plane; labels are the modes' numbers.

    Mode i = 0, 1, ... has weight 1 / modes, its centre at the angle 2 pi i / modes on the circle, and the
    covariance sd^2 times the identity.
    """

    kind: Literal["gaussians"] = "gaussians"
    modes: int = Field(8, ge=1, le=1000, description="number of Gaussians")
    radius: float = Field(2.0, gt=0, le=1e6, description="radius of the circle of centres")
    sd: float = Field(0.1, gt=0, le=1e6, description="standard deviation of each Gaussian")
    size: int = Field(20_000, ge=10, le=10**8, description="number of training points, which are drawn once")

    def centres(self) -> NDArray[np.float64]:
        """Return the centres of the modes, shape (modes, 2)."""
        angles = 2 * np.pi * np.arange(self.modes) / self.modes
        return self.radius * np.column_stack([np.cos(angles), np.sin(angles)])

    def load(self, rng: Stream) -> Dataset:
        """Draw ``size`` training points and a tenth as many held-out points, shapes (n, 2)."""
        count = _with_held_out(self.size)
        draw = rng.generator()
        mode = draw.integers(self.modes, size=count)
        points = self.centres()[mode] + self.sd * draw.normal(size=(count, 2))
        return _cut(points.astype(np.float32), mode.astype(str), self.size)


class Moons(Source):
    """Two interleaving half circles in the plane: scikit-learn's two moons, scaled and shifted.

    Moon 0 is scale (cos a, sin a) + shift and moon 1 is scale (1 - cos a, 1/2 - sin a) + shift, with angles a
    evenly spaced from 0 to pi; Gaussian noise is added before scaling. Labels are the moons' numbers.
    """

    kind: Literal["moons"]
    noise: float = Field(
        0.05,
        ge=0,
        le=1e6,
        description="standard deviation of the noise around the half circles, whose radius is 1",
    )
    scale: float = Field(1.0, gt=0, le=1e6, description="factor that multiplies both coordinates")
    shift: tuple[float, float] = Field((0.0, 0.0), description="offset that is added after scaling")
    size: int = Field(20_000, ge=10, le=10**8, description="number of training points, which are drawn once")

    def load(self, rng: Stream) -> Dataset:
        """Draw ``size`` training points and a tenth as many held-out points, shapes (n, 2)."""
        from sklearn.datasets import make_moons

        seed = rng.integer() % 2**32  # the range that scikit-learn accepts
        points, moon = make_moons(_with_held_out(self.size), noise=self.noise, random_state=seed)
        points = self.scale * points + np.array(self.shift)
        return _cut(points.astype(np.float32), moon.astype(str), self.size)


class Uniform(Source):
    """Points that fill a box evenly: every coordinate is uniform from ``low`` to ``high``, independently."""

    kind: Literal["uniform"]
    low: tuple[float, ...] = Field((0.0, 0.0), min_length=1, description="the box's lowest corner")
    high: tuple[float, ...] = Field((1.0, 1.0), min_length=1, description="its highest corner")
    size: int = Field(20_000, ge=10, le=10**8, description="number of training points, which are drawn once")

    @model_validator(mode="after")
    def _a_box(self) -> Self:
        sides = zip(self.low, self.high, strict=False)
        if len(self.low) != len(self.high) or not all(-1e6 <= a < b <= 1e6 for a, b in sides):
            raise ValueError(
                "a box needs as many coordinates in both corners, each lower in low, within 1e6 of zero; not "
                f"low = {list(self.low)}, high = {list(self.high)}"
            )
        return self

    def load(self, rng: Stream) -> Dataset:
        """Draw ``size`` training points and a tenth as many held-out points, shapes (n, d)."""
        count = _with_held_out(self.size)
        points = rng.generator().uniform(self.low, self.high, size=(count, len(self.low)))
        return _cut(points.astype(np.float32), np.full(count, ""), self.size)


def _with_held_out(size: int) -> int:
    return size + max(size // 10, 1)


def _cut(samples: Samples, labels: NDArray[np.str_], size: int) -> Dataset:
    return Dataset(samples[:size], labels[:size], samples[size:], labels[size:])
