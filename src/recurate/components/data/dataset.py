"""What real data are to a run: samples with labels and contexts, a part of them held out."""

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
    """Samples (n, ...), labels (n,) as text, contexts (n,) or None; what is held out is never trained on."""

    train: Samples
    labels: NDArray[Any]
    held_out: Samples
    held_out_labels: NDArray[Any]
    contexts: NDArray[Any] | None = None
    held_out_contexts: NDArray[Any] | None = None

    @property
    def labelled(self) -> bool:
        """Whether the labels tell anything."""
        return bool((self.labels != "").any())


class Source(Settings):
    """Settings that real data are loaded by; a subclass loads them."""

    kind: str

    def load(self, rng: Stream) -> Dataset:
        """Return the data, split."""
        raise NotImplementedError

    def files(self) -> dict[str, str]:
        """Return the SHA-256 of what :meth:`load` reads, by a name that does not tell where it lies."""
        return {}

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return what :meth:`files` does."""
        return [Fingerprint(serves, name, digest) for name, digest in self.files().items()]

    def centres(self) -> FloatArray | None:
        """Return the centres (groups, d) around which the data lie; None where there are none."""
        return None


def split(count: int, share: float, rng: Stream, name: str) -> tuple[IntArray, IntArray]:
    """Split the rows 0, ..., count - 1 at random; return those to train on and those held out.

    Args:
        count: number of rows.
        share: held out; at least one row is left on each side.
        rng: of the split.
        name: of the data, for errors.

    Raises:
        InputError: there are fewer than two rows.
    """
    if count < 2:
        raise InputError(
            f"{name} has too few rows to hold some out", got=count, remedy="give it at least two"
        )
    order = rng.generator().permutation(count)
    cut = min(max(round(count * (1 - share)), 1), count - 1)
    return order[:cut], order[cut:]
