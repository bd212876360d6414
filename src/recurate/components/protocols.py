"""Protocols of the replaceable components (generators, rewards, groups), and base classes of their settings.

The fields of settings are the keys of a table of the configuration, and the settings build the component. A
plain function or class needs no settings class: :mod:`recurate.components.plugged` derives one from its
arguments.
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
    """A generative model as an immutable value: its settings and its weights."""

    def fit(self, data: Samples, *, rng: Stream, contexts: NDArray[Any] | None = None, real: int = 0) -> Self:
        """Return a new generator trained on ``data``, warm-started from this one.

        Args:
            data: Training set, shape (n, ...).
            rng: Stream of every random choice.
            contexts: Context of every sample as text, shape (n,); None for unconditional models.
            real: Number of real samples, which are the last rows.
        """
        ...

    def sample(self, n: int, *, rng: Stream, contexts: NDArray[Any] | None = None) -> Samples:
        """Return n samples, shape (n, ...) as in training: one per context (n,) if contexts are given.

        A built-in generator whose items have seeds of their own has an argument ``first``, the number of the
        first item: its samples are then the same however a round is divided into shards.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the model to an existing folder: as safetensors and JSON, or as an external checkpoint."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        ...


class Reward(Protocol):
    """A reward function r(x); choosers prefer larger rewards."""

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per sample, shape (n,); contexts (n,) are prompts, or None without prompts."""
        ...


@runtime_checkable
class Copied(Protocol):
    """A reward that a run copies into its folder and describes in its report."""

    def save(self, folder: Path) -> None:
        """Write the reward to a folder, which is created if necessary."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return facts for readers of the run, by name; the run prefixes them with the reward's name."""
        ...


class Grouping(Protocol):
    """A partition of samples into named groups, for shares and entropy."""

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return one label per sample, shape (n,), text."""
        ...


@dataclass(frozen=True)
class Prepared:
    """The material from which settings build rewards and groups.

    Attributes:
        data: Settings of the real data, or None.
        dataset: The real data, or None.
        classifier: Classifier of the real data (:class:`recurate.components.rewards.classifier.Classifier`);
            None unless some settings need it.
        kept: Folder of the run's copy of a :class:`Copied` reward; None when the run begins.
        parted: Whether samples are scored in several parts, on which the answers must not depend.
    """

    data: Source | None = None
    dataset: Dataset | None = None
    classifier: Any = None
    kept: Path | None = None
    parted: bool = False


class GeneratorSettings(Settings):
    """Base class of the settings of one kind of generator."""

    shard: ClassVar[int | None] = 100_000  # candidates that are sampled together by default; None: all
    kind: str

    def build(self, workspace: Path | None = None, logs: Path | None = None) -> Generator:
        """Return the model before round 0: an untrained model, or the checkpoint that the settings name.

        Args:
            workspace: Folder for exchanged files and new models, which is emptied in every round.
            logs: Folder for the output of external programs.

        Raises:
            InputError: If a file or folder that the settings name does not exist.
        """
        raise NotImplementedError

    def load(self, folder: Path, workspace: Path | None = None, logs: Path | None = None) -> Generator:
        """Return the model that was saved in a folder, read by the class that :meth:`build` returns."""
        return type(self.build(workspace, logs)).load(folder)

    def check(self) -> None:
        """Check, before the run begins, that this machine has what the settings require.

        Raises:
            InputError: If it does not, for instance if it lacks the device.
        """

    def settled(self, model: Generator, folder: Path) -> Generator:
        """Return the model after it was saved in ``folder``, independent of the workspace."""
        return model

    @property
    def trains_first(self) -> bool:
        """Whether the first model is trained on the real data."""
        return True

    @property
    def knows_contexts(self) -> bool:
        """Whether the generator samples by context."""
        return False


class RewardSettings(Settings):
    """Base class of the settings of one kind of reward."""

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
    """Base class of the settings of one kind of grouping."""

    needs_classifier: ClassVar[bool] = False  # whether a classifier of the real data is needed
    kind: str

    def build(self, prepared: Prepared) -> Grouping:
        """Return the grouping."""
        raise NotImplementedError

    def check(self, data: Source | None) -> None:
        """Check that the grouping can be applied to the real data.

        Raises:
            ValueError: If it cannot.
        """
