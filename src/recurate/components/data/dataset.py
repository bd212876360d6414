"""The real data of a run: samples with labels and contexts, some of them held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.core.fingerprints import Fingerprint
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.log.samples import Samples


@dataclass(frozen=True)
class Dataset:
    """Real data: n samples for training and m held-out samples, which no model is trained on.

    Attributes:
        train: Training samples, shape (n, ...).
        labels: Labels of the training samples as text, shape (n,); empty strings if there are none.
        held_out: Held-out samples, shape (m, ...).
        held_out_labels: Labels of the held-out samples as text, shape (m,).
        contexts: Contexts of the training samples, shape (n,), or None.
        held_out_contexts: Contexts of the held-out samples, shape (m,), or None.
    """

    train: Samples
    labels: NDArray[Any]
    held_out: Samples
    held_out_labels: NDArray[Any]
    contexts: NDArray[Any] | None = None
    held_out_contexts: NDArray[Any] | None = None

    @property
    def labelled(self) -> bool:
        """Whether any training sample has a non-empty label."""
        return bool((self.labels != "").any())


class Source(Settings):
    """Base class of the settings of one kind of real data; a subclass defines how they are loaded."""

    kind: str

    def load(self, rng: Stream) -> Dataset:
        """Return the data, split into training and held-out samples.

        Args:
            rng: Stream of every random choice.

        Raises:
            InputError: If the data cannot be read.
        """
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Name of the data for readers."""
        return self.kind

    def files(self) -> dict[str, str]:
        """Return the SHA-256 of every file that :meth:`load` reads.

        The keys are names from the settings, so that they do not depend on where the files are.
        """
        return {}

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return what :meth:`files` does."""
        return [Fingerprint(serves, name, digest) for name, digest in self.files().items()]

    def centres(self) -> FloatArray | None:
        """Return the centres (groups, d) around which the data lie; None where there are none."""
        return None


def split(count: int, share: float, rng: Stream, name: str) -> tuple[IntArray, IntArray]:
    """Split the rows 0, ..., count - 1 at random into training rows and held-out rows.

    Args:
        count: Number of rows.
        share: Share of rows held out, in (0, 1); both parts have at least one row.
        rng: Stream of the split.
        name: Name of the data in messages.

    Returns:
        The training rows and the held-out rows, in random order.

    Raises:
        InputError: If there are fewer than two rows.
    """
    if count < 2:
        raise InputError(
            f"{name} has too few rows to hold some out", got=count, remedy="provide at least two rows"
        )
    order = rng.generator().permutation(count)
    cut = min(max(round(count * (1 - share)), 1), count - 1)
    return order[:cut], order[cut:]
