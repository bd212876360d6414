"""Real data that are drawn: Gaussians around a circle, two moons."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.components.data.dataset import Dataset, Source
from recurate.core.seeds import Stream
from recurate.log.samples import Samples


class Gaussians(Source):
    """Equal Gaussians around a circle in the plane; labels are the modes' numbers.

    Mode i = 0, 1, ... has its centre at the angle 2 pi i / modes.
    """

    kind: Literal["gaussians"] = "gaussians"
    modes: int = Field(8, ge=1, le=1000, description="number of Gaussians")
    radius: float = Field(2.0, gt=0, le=1e6, description="radius of the circle of centres")
    sd: float = Field(0.1, gt=0, le=1e6, description="standard deviation of each Gaussian")
    size: int = Field(20_000, ge=10, le=10**8, description="points drawn once as the real data")

    def centres(self) -> NDArray[np.float64]:
        """Return the centres, shape (modes, 2)."""
        angles = 2 * np.pi * np.arange(self.modes) / self.modes
        return self.radius * np.column_stack([np.cos(angles), np.sin(angles)])

    def load(self, rng: Stream) -> Dataset:
        """Draw the data; a tenth as many points again are held out."""
        count = _with_held_out(self.size)
        draw = rng.generator()
        mode = draw.integers(self.modes, size=count)
        points = self.centres()[mode] + self.sd * draw.normal(size=(count, 2))
        return _cut(points.astype(np.float32), mode.astype(str), self.size)


class Moons(Source):
    """Two interleaving half circles in the plane, those of scikit-learn, scaled and shifted.

    Moon 0 is scale (cos a, sin a) + shift, moon 1 is scale (1 - cos a, 1/2 - sin a) + shift, with a evenly
    spread from 0 to pi; Gaussian noise is added before scaling. Labels are the moons' numbers.
    """

    kind: Literal["moons"]
    noise: float = Field(
        0.05, ge=0, le=1e6, description="sd of the noise around the half circles, whose radius is 1"
    )
    scale: float = Field(1.0, gt=0, le=1e6, description="multiplies both coordinates")
    shift: tuple[float, float] = Field((0.0, 0.0), description="added after scaling")
    size: int = Field(20_000, ge=10, le=10**8, description="points drawn once as the real data")

    def load(self, rng: Stream) -> Dataset:
        """Draw the data; a tenth as many points again are held out."""
        from sklearn.datasets import make_moons

        seed = rng.integer() % 2**32  # as much as scikit-learn takes
        points, moon = make_moons(_with_held_out(self.size), noise=self.noise, random_state=seed)
        points = self.scale * points + np.array(self.shift)
        return _cut(points.astype(np.float32), moon.astype(str), self.size)


def _with_held_out(size: int) -> int:
    return size + max(size // 10, 1)


def _cut(samples: Samples, labels: NDArray[np.str_], size: int) -> Dataset:
    return Dataset(samples[:size], labels[:size], samples[size:], labels[size:])
