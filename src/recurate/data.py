"""Real data for runs: fixed arrays, split into a training part and a held-out part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.seeds import Stream
from recurate.settings import Settings

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Samples (n, ...) and labels (n,) as text; the held-out part is never trained on."""

    train: Samples
    labels: NDArray[Any]
    held_out: Samples
    held_out_labels: NDArray[Any]


class Gaussians(Settings):
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
        count = self.size + max(self.size // 10, 1)
        draw = rng.generator()
        mode = draw.integers(self.modes, size=count)
        points = self.centres()[mode] + self.sd * draw.normal(size=(count, 2))
        samples, labels = points.astype(np.float32), mode.astype(str)
        cut = self.size
        return Dataset(samples[:cut], labels[:cut], samples[cut:], labels[cut:])


class Digits(Settings):
    """scikit-learn's handwritten digits: 1,797 grey images of 8 x 8, values 0 to 1, ten classes."""

    kind: Literal["digits"] = "digits"
    held_out: float = Field(0.2, ge=0.01, le=0.9, description="share of images held out")

    def load(self, rng: Stream) -> Dataset:
        """Load the images and split them at random."""
        from sklearn.datasets import load_digits

        found = load_digits()
        images = (found.images / 16.0).astype(np.float32)
        labels = found.target.astype(str)
        order = rng.generator().permutation(len(images))
        cut = min(max(round(len(images) * (1 - self.held_out)), 1), len(images) - 1)
        train, rest = order[:cut], order[cut:]
        return Dataset(images[train], labels[train], images[rest], labels[rest])


DataSettings = Annotated[Gaussians | Digits, Field(discriminator="kind")]
