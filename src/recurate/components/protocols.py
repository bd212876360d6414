"""What strangers replace: generators, rewards, groups; and the settings that build them.

Settings hold the keys of a table of the configuration and build what these name. A plain function or class
needs none: :mod:`recurate.components.plugged` makes them from its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from numpy.typing import NDArray
from pydantic import Field

from recurate.components.data.dataset import Dataset, Source
from recurate.core.arrays import FloatArray
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.log.samples import Samples


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


@runtime_checkable
class Copied(Protocol):
    """A reward of which a run keeps a copy, and states facts."""

    def save(self, folder: Path) -> None:
        """Write it into a folder, made if need be."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what a reader of the run should know; each name follows the reward's."""
        ...


class Grouping(Protocol):
    """A partition of samples into named groups, for shares and entropy."""

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return one label per sample, shape (n,), text."""
        ...


@dataclass(frozen=True)
class Prepared:
    """What settings may build from.

    Attributes:
        data: settings of the real data, or None.
        dataset: the real data, or None.
        classifier: of the real data (:class:`recurate.components.rewards.classifier.Classifier`); None
            unless some settings need it.
        kept: the folder into which :class:`Copied` was saved when the run began; None at that time.
    """

    data: Source | None = None
    dataset: Dataset | None = None
    classifier: Any = None
    kept: Path | None = None


class GeneratorSettings(Settings):
    """Settings of a generator; a subclass builds it."""

    kind: str

    def build(self, workspace: Path | None = None, logs: Path | None = None) -> Generator:
        """Return the model before round 0: an untrained one, or the one to begin with.

        Args:
            workspace: where a generator may exchange files and keep new models; emptied in every round.
            logs: where the output of its programs is kept.

        Raises:
            InputError: what the settings name is not there.
        """
        raise NotImplementedError

    def load(self, folder: Path, workspace: Path | None = None, logs: Path | None = None) -> Generator:
        """Return the model that was saved in a folder, as the class of :meth:`build`'s model reads it."""
        return type(self.build(workspace, logs)).load(folder)

    def check(self) -> None:
        """Refuse what this machine lacks, before anything is done.

        Raises:
            InputError: such as a device that is not there.
        """

    def settled(self, model: Generator, folder: Path) -> Generator:
        """Return the model, independent of the workspace, after it was saved in ``folder``."""
        return model

    @property
    def trains_first(self) -> bool:
        """Whether the first model is trained on the real data."""
        return True

    @property
    def knows_contexts(self) -> bool:
        """Whether samples can be asked for by context."""
        return False


class RewardSettings(Settings):
    """Settings of a reward; a subclass builds it."""

    needs_classifier: ClassVar[bool] = False  # whether a classifier of the real data is needed
    kind: str
    name: str = Field("reward", pattern=r"^[A-Za-z_]\w*$", description="name of the reward's column")
    weight: float | None = Field(None, ge=0, le=1, description="share of slates picked by this reward")
    gamma: float = Field(1.0, gt=0, description="multiplies the reward")

    def build(self, prepared: Prepared) -> Reward:
        """Return the reward: these settings themselves, unless a subclass builds another object."""
        return self

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per sample; see :class:`Reward`."""
        raise NotImplementedError


class GroupSettings(Settings):
    """Settings of groups; a subclass builds them."""

    needs_classifier: ClassVar[bool] = False  # whether a classifier of the real data is needed
    kind: str

    def build(self, prepared: Prepared) -> Grouping:
        """Return the grouping."""
        raise NotImplementedError

    def check(self, data: Source | None) -> None:
        """Refuse real data that these groups do not fit.

        Raises:
            ValueError: they do not.
        """
