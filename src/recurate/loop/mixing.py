"""The training sets of a run's models: picks and real data, in exact numbers.

*Replace*: the n picks of the last round and m real samples, where m / (n + m) is the real fraction.
*Accumulate*: one such batch per round so far, preceded by one batch of real data alone. All batches are
equally large, so that the training distribution after t rounds is the mean of p_ref and the distributions of
the t batches.
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
    """The composition of every retraining set."""

    real_fraction: float = Field(
        0.0,
        ge=0,
        le=0.999,
        description="share of real data in each retraining set: 1 / (1 + lambda), lambda the ratio of picks "
        "to real data",
    )
    mode: Literal["replace", "accumulate"] = Field(
        "replace", description="train on the last round's picks, or on the picks of all rounds so far"
    )
    real_sample: Literal["fresh", "fixed"] = Field(
        "fresh", description="draw real samples anew for every round, or use the same ones in all rounds"
    )

    def real_count(self, picks: int) -> int:
        """Return the number of real samples for ``picks`` picks: picks a / (1 - a), a the real fraction.

        It is rounded to a whole number.
        """
        return round(picks * self.real_fraction / (1 - self.real_fraction))


@dataclass(frozen=True)
class Picks:
    """The picks of one round.

    Attributes:
        samples: Picked samples, shape (picks, ...).
        contexts: Contexts of the picks, shape (picks,), or None.
    """

    samples: Samples
    contexts: NDArray[Any] | None = None


@dataclass(frozen=True)
class TrainingSet:
    """A training set of picks and real samples.

    Attributes:
        samples: Training samples, shape (n, ...); the real samples are the last rows.
        contexts: Contexts of the samples, shape (n,), or None.
        real: Number of real samples.
        counts: Numbers of picks and of real samples, by name.
    """

    samples: Samples
    contexts: NDArray[Any] | None
    real: int
    counts: dict[str, int]


def first_set(dataset: Dataset) -> TrainingSet:
    """Return the training set of the model of round 0: the real data."""
    count = len(dataset.train)
    return TrainingSet(
        dataset.train, dataset.contexts, count, {"trained_on_picks": 0, "trained_on_real": count}
    )


def training_set(
    batches: Sequence[Picks], t: int, dataset: Dataset | None, settings: Retraining, root: Stream
) -> TrainingSet:
    """Return the training set of the model of round ``t`` >= 1.

    Args:
        batches: Picks of round t - 1 alone (replace), or of rounds 0, ..., t - 1 (accumulate).
        t: Number of the round.
        dataset: Real data, or None if none are mixed in.
        settings: Composition of the training set.
        root: Root stream of the run; the real samples of round s are drawn at ("round", s, "mix"), or at
            ("mix", "fixed") for a fixed sample.
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
            f"{len(samples)} training samples instead of {picks} picks and {expected} real samples"
        )
    counts = {"trained_on_picks": picks, "trained_on_real": int(rows.size)}
    return TrainingSet(samples, _contexts(batches, dataset, rows), int(rows.size), counts)


def shared(made: Sequence[Picks], sizes: Sequence[int], streams: Sequence[Stream]) -> Picks:
    """Return what one of several models is trained on: so many of the picks of each model.

    They are drawn without replacement, in the order of the models and, within one, of the picks; all picks of
    a model are taken as they are.

    Args:
        made: picks of every model in one round.
        sizes: number of picks to take of each, at most as many as there are.
        streams: stream of each draw.
    """
    parts = []
    for picks, size, stream in zip(made, sizes, streams, strict=True):
        rows = np.sort(stream.generator().permutation(len(picks.samples))[:size])
        parts.append(picks.samples[rows])
    return Picks(np.concatenate(parts))


def draw_real(available: int, count: int, rng: Stream) -> NDArray[np.int64]:
    """Return ``count`` rows of the real data, shape (count,).

    They are as many whole passes as fit, then rows drawn at random without replacement.

    Args:
        available: Number of rows of the real data.
        count: Number of rows to return.
        rng: Stream of the draw.
    """
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
