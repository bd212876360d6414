"""What every reward and every grouping offers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
FloatArray = NDArray[np.float64]


class Reward(Protocol):
    """A reward: larger is preferred."""

    def __call__(self, samples: Samples) -> FloatArray:
        """Return one reward a sample, shape (n,)."""
        ...


class Grouping(Protocol):
    """A partition of samples into named groups, for shares and entropy."""

    def __call__(self, samples: Samples) -> NDArray[Any]:
        """Return one label a sample, shape (n,), text."""
        ...
