"""What a model is retrained on: picks and real data, in exact numbers.

*Replace*: the picks of the last round, n of them, with m real samples, m / (n + m) the real fraction.
*Accumulate*: such a batch for every round so far, and one batch of real data alone in front of them, all
equally large, so that the training law after t rounds is the mean of p_ref and of the t batches' laws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.components.data.dataset import Dataset
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.log.samples import Samples


class Retraining(Settings):
    """What each retraining set is made of."""

    real_fraction: float = Field(
        0.0, ge=0, le=0.999, description="share of real data in each retraining set: 1 / (1 + lambda)"
    )
    mode: Literal["replace", "accumulate"] = Field(
        "replace", description="train on the last round's picks, or on those of all rounds so far"
    )
    real_sample: Literal["fresh", "fixed"] = Field(
        "fresh", description="real samples are drawn anew for every round, or are the same in all rounds"
    )

    def real_count(self, picks: int) -> int:
        """Return how many real samples go with ``picks`` picks."""
        return round(picks * self.real_fraction / (1 - self.real_fraction))


@dataclass(frozen=True)
class Picks:
    """What one round's picker kept: samples (picks, ...) and their contexts (picks,), or None."""

    samples: Samples
    contexts: NDArray[Any] | None = None


@dataclass(frozen=True)
class TrainingSet:
    """Samples with contexts, the real ones last.

    Attributes:
        samples: shape (n, ...).
        contexts: (n,), or None.
        real: how many of them are real.
        counts: exact sizes, by what they are.
    """

    samples: Samples
    contexts: NDArray[Any] | None
    real: int
    counts: dict[str, int]


def first_set(dataset: Dataset) -> TrainingSet:
    """Return what the model of round 0 is trained on: the real data."""
    count = len(dataset.train)
    return TrainingSet(
        dataset.train, dataset.contexts, count, {"trained_on_picks": 0, "trained_on_real": count}
    )


def training_set(
    batches: Sequence[Picks], t: int, dataset: Dataset | None, settings: Retraining, root: Stream
) -> TrainingSet:
    """Return what the model of round ``t`` >= 1 is trained on.

    Args:
        batches: picks of round t - 1 alone (replace), or of rounds 0, ..., t - 1 (accumulate).
        t: the round.
        dataset: the real data; None where none are mixed in.
        settings: see :class:`Retraining`.
        root: the run's randomness; real samples of round s are drawn at ("round", s, "mix").
    """
    picks = sum(len(batch.samples) for batch in batches)
    first = t - len(batches) + 1
    real: list[NDArray[np.int64]] = []
    if dataset is not None:
        sizes = [settings.real_count(len(batch.samples)) for batch in batches]
        real = [
            draw_real(len(dataset.train), size, _stream(settings, root, first + i))
            for i, size in enumerate(sizes)
        ]
        if settings.mode == "accumulate":
            whole = len(batches[0].samples) + sizes[0]
            real.insert(0, draw_real(len(dataset.train), whole, root.at("mix", "first")))
    rows = np.concatenate([np.empty(0, np.int64), *real])
    parts = [batch.samples for batch in batches] + ([dataset.train[rows]] if dataset is not None else [])
    samples = np.concatenate(parts)
    expected = settings.real_count(picks) if settings.mode == "replace" else rows.size
    if len(samples) != picks + rows.size or (dataset is not None and rows.size != expected):
        raise AssertionError(
            f"{len(samples)} training samples are not {picks} picks and {expected} real ones"
        )
    counts = {"trained_on_picks": picks, "trained_on_real": int(rows.size)}
    return TrainingSet(samples, _contexts(batches, dataset, rows), int(rows.size), counts)


def draw_real(available: int, count: int, rng: Stream) -> NDArray[np.int64]:
    """Return ``count`` rows of the real data: whole passes, then a random part without replacement."""
    whole, rest = divmod(count, available)
    part = rng.generator().permutation(available)[:rest]
    return np.concatenate([np.tile(np.arange(available), whole), part])


def _stream(settings: Retraining, root: Stream, t: int) -> Stream:
    return root.at("mix", "fixed") if settings.real_sample == "fixed" else root.at("round", t, "mix")


def _contexts(
    batches: Sequence[Picks], dataset: Dataset | None, rows: NDArray[np.int64]
) -> NDArray[Any] | None:
    found = [batch.contexts for batch in batches]
    if dataset is not None:
        found.append(None if dataset.contexts is None else dataset.contexts[rows])
    given = [part for part in found if part is not None]
    return np.concatenate(given) if len(given) == len(found) else None
