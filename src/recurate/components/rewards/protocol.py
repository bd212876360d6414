"""What every reward and every grouping offers."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from recurate.core.arrays import FloatArray
from recurate.log.samples import Samples

__all__ = ["FloatArray", "Grouping", "Reward", "Samples"]


class Reward(Protocol):
    """A reward: larger is preferred."""

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward a sample, shape (n,); contexts (n,) are prompts, None where there are none."""
        ...


class Grouping(Protocol):
    """A partition of samples into named groups, for shares and entropy."""

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return one label a sample, shape (n,), text."""
        ...
