"""What every generator, every reward and every grouping offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self

from numpy.typing import NDArray
from pydantic import Field

from recurate.core.arrays import FloatArray
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.log.samples import Samples

__all__ = ["Generator", "Grouping", "Reward", "RewardSettings", "Samples"]


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


class Reward(Protocol):
    """A reward: larger is preferred."""

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per sample, shape (n,); contexts (n,) are prompts, None where there are none."""
        ...


class Grouping(Protocol):
    """A partition of samples into named groups, for shares and entropy."""

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return one label per sample, shape (n,), text."""
        ...


class RewardSettings(Settings):
    """The settings that all rewards share; kinds of rewards add their own."""

    kind: str
    name: str = Field("reward", pattern=r"^[A-Za-z_]\w*$", description="name of the reward's column")
    weight: float | None = Field(None, ge=0, le=1, description="share of slates picked by this reward")
    gamma: float = Field(1.0, gt=0, description="multiplies the reward")
