"""What every generator offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from recurate.core.seeds import Stream
from recurate.log.samples import Samples

__all__ = ["Generator", "Samples"]


class Generator(Protocol):
    """An immutable value: settings and weights."""

    def fit(self, data: Samples, *, rng: Stream, contexts: NDArray[Any] | None = None, real: int = 0) -> Self:
        """Return a new generator trained on ``data``, warm-started from this one.

        Args:
            data: the training set, (n, ...).
            rng: its randomness.
            contexts: the context of each sample, (n,) texts; None for unconditional models.
            real: how many samples, counted from the last, are real data.
        """
        ...

    def sample(self, n: int, *, rng: Stream, contexts: NDArray[Any] | None = None) -> Samples:
        """Return n samples with the shape of the training data, one for each context."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder: safetensors and JSON, or an external checkpoint."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        ...
