"""What every generator offers."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from recurate.seeds import Stream

Samples = NDArray[np.float32]  # (n, ...): one candidate along the first axis


class Generator(Protocol):
    """An immutable value: settings and weights."""

    def fit(self, data: Samples, *, rng: Stream) -> Self:
        """Return a new generator trained on ``data``, warm-started from this one."""
        ...

    def sample(self, n: int, *, rng: Stream) -> Samples:
        """Return n samples with the shape of the training data."""
        ...

    def save(self, folder: Path) -> None:
        """Write safetensors and JSON into an existing folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        ...
