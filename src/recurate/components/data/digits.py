"""The handwritten digits that scikit-learn includes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from recurate.components.data.dataset import Dataset, Source, split
from recurate.core.seeds import Stream


class Digits(Source):
    """scikit-learn's handwritten digits: 1,797 grey images of 8 x 8 pixels, values in [0, 1], ten classes."""

    kind: Literal["digits"] = "digits"
    held_out: float = Field(0.2, ge=0.01, le=0.9, description="share of images held out")

    def load(self, rng: Stream) -> Dataset:
        """Load the images, shape (n, 8, 8), and split them at random."""
        from sklearn.datasets import load_digits

        found = load_digits()
        images = (found.images / 16.0).astype(np.float32)
        labels = found.target.astype(str)
        train, rest = split(len(images), self.held_out, rng, "digits")
        return Dataset(images[train], labels[train], images[rest], labels[rest])
