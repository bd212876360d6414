"""What is measured of the samples themselves every round, against held-out real data in named feature spaces.

Each measure has a standard error and a cost: it is a stage of its own in ``timings.jsonl``. All work on at
most ``measures.sample`` candidates, so that together they stay a small part of a round.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from recurate.components.data.dataset import Dataset
from recurate.components.rewards.classifier import Classifier
from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.core.fingerprints import Fingerprint, of_function
from recurate.core.plugins import NAME, call, from_module
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.log.samples import Samples, is_text
from recurate.log.trajectory import Row
from recurate.metrics import neighbours, quality, text
from recurate.metrics.estimates import Estimate

Measure = tuple[str, Callable[[], dict[str, Estimate]]]  # a name, and what computes its quantities

FEWEST = 20  # held-out samples, below which nothing is compared
MOST_VALUES = 512  # numbers a sample, beyond which principal components stand for them
LARGEST_VENDI = 1000  # samples of an eigenproblem
LIMITS = (
    "precision",
    "recall",
    "coverage",
    "memorisation",
    "distinct_1",
    "distinct_2",
    "self_bleu",
)  # in [0, 1]


class MeasureSettings(Settings):
    """Sample metrics, and how often they are measured."""

    features: tuple[str, ...] | None = Field(
        None,
        description="feature spaces: 'values' (the numbers themselves), 'classifier' (its last hidden "
        "layer), 'pca:N' (of the real data), or module:name; if absent, 'values' ('pca:50' for more than "
        "512 numbers), and 'classifier' if the run has one; [] for none",
    )
    sample: int = Field(1000, ge=50, le=100_000, description="largest number of candidates that are measured")
    every: int = Field(1, ge=1, description="measure every round (1), every second round (2), ...")

    @field_validator("features")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        import re

        for name in names or ():
            if not (
                name in ("values", "classifier")
                or re.fullmatch(r"pca:[1-9]\d*", name)
                or re.match(NAME, name)
            ):
                raise ValueError(
                    f"{name!r} is no feature space: 'values', 'classifier', 'pca:N' or 'module:name'"
                )
        return names

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the sources of feature spaces that are functions."""
        functions = [name for name in self.features or () if _is_function(name)]
        return [found for name in functions for found in of_function(serves, name)]


@dataclass(frozen=True)
class Space:
    """A feature space, with what real data look like in it.

    Attributes:
        name: as in the configuration.
        features: maps samples (n, ...) to (n, d).
        train, held_out: features of real data.
        bandwidth: of the kernel behind the Vendi score: the median distance of real data.
    """

    name: str
    features: Callable[[Samples], FloatArray]
    train: FloatArray
    held_out: FloatArray
    bandwidth: float

    def measures(self, samples: Samples) -> Iterator[Measure]:
        """Yield the measures of samples in this space."""
        x = self.features(samples)
        few = x[:LARGEST_VENDI]

        def near() -> dict[str, Estimate]:
            precision, recall = quality.precision_recall(x, self.held_out)
            density, coverage = quality.density_coverage(x, self.held_out)
            return {"precision": precision, "recall": recall, "density": density, "coverage": coverage}

        measures: dict[str, Callable[[], dict[str, Estimate]]] = {
            "frechet": lambda: {"frechet": quality.frechet(x, self.held_out)},
            "neighbours": near,
            "vendi": lambda: {"vendi": quality.vendi(few, bandwidth=self.bandwidth)},
            "memorisation": lambda: {"memorisation": quality.memorisation(x, self.train, self.held_out)},
        }
        for measure, compute in measures.items():
            yield f"{measure}:{self.name}", functools.partial(self._named, compute)

    def _named(self, compute: Callable[[], dict[str, Estimate]]) -> dict[str, Estimate]:
        return {f"{quantity}:{self.name}": value for quantity, value in compute().items()}


@dataclass(frozen=True)
class Watch:
    """What is measured of samples in every round.

    Attributes:
        spaces: feature spaces; empty without enough held-out data.
        reference: rewards of the real training data for the second estimator of KL, or None.
        sample: candidates that are looked at.
        every: rounds from one measurement to the next.
    """

    spaces: tuple[Space, ...]
    reference: FloatArray | None
    sample: int
    every: int

    def rows(
        self, t: int, samples: Samples, rewards: FloatArray, stream: Stream, stage: Callable[[int, str], None]
    ) -> tuple[list[tuple[str, Estimate]], list[str]]:
        """Measure a round's candidates; each measure is announced as a stage.

        Returns the values, and why some could not be had: a measure never stops a run.
        """
        found: list[tuple[str, Estimate]] = []
        missed: list[str] = []
        for name, compute in () if t % self.every else self._measures(samples, rewards, stream):
            stage(t, f"measure {name}")
            try:
                found += compute().items()
            except InputError as error:
                missed.append(f"round {t}: {name} could not be measured: {error.what} ({error.got})")
        return found, missed

    def baseline(self, train: Samples, rewards: FloatArray, stream: Stream) -> dict[str, float]:
        """Return what real training samples, as many as are looked at of candidates, measure against the
        same.

        What they would tell of themselves (memorisation, divergence) is left out.
        """
        found, _ = self.rows(0, train, rewards, stream, lambda *_: None)
        return {name: e.value for name, e in found if not name.startswith(("memorisation", "kl"))}

    def _measures(self, samples: Samples, rewards: FloatArray, stream: Stream) -> Iterator[Measure]:
        rows = spread(len(samples), self.sample)
        few = samples[rows]
        for space in self.spaces:
            yield from space.measures(few)
        if self.reference is not None:
            known = self.reference
            yield "kl_neighbours", lambda: {"kl_neighbours": neighbours.kl_neighbours(rewards[rows], known)}
        if is_text(samples):
            yield "text", lambda: _of_texts(few.tolist(), stream)


def watch(
    settings: MeasureSettings,
    dataset: Dataset | None,
    classifier: Classifier | None,
    reference: FloatArray | None,
) -> Watch:
    """Prepare the sample metrics; without real data only texts are measured.

    Raises:
        InputError: If a feature space does not fit the data.
    """
    spaces: list[Space] = []
    if dataset is not None:
        train, held_out, names = dataset.train, dataset.held_out, settings.features
        if names is None:
            names = () if is_text(train) else (_plain(train), *(("classifier",) if classifier else ()))
            names = names if len(held_out) >= FEWEST else ()
        spaces = [_space(name, train, held_out, classifier, settings.sample) for name in names]
    if reference is not None:
        reference = reference[spread(len(reference), 10 * settings.sample)]
    return Watch(tuple(spaces), reference, settings.sample, settings.every)


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` of the rows 0, ..., count - 1, evenly spread."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).astype(np.int64)


def to_rows(t: int, source: str, found: Sequence[tuple[str, Estimate]]) -> list[Row]:
    """Return measured quantities as rows of a trajectory."""
    rows = []
    for quantity, estimate in found:
        high = 1.0 if quantity.partition(":")[0] in LIMITS else np.inf
        lower, upper = estimate.interval(0.0, high) if estimate.se else (None, None)
        rows.append(Row(t, source, quantity, estimate.value, None, None, lower, upper))
    return rows


def _of_texts(texts: list[str], stream: Stream) -> dict[str, Estimate]:
    return {
        "length": text.lengths(texts),
        "distinct_1": text.distinct(texts, 1),
        "distinct_2": text.distinct(texts, 2),
        "self_bleu": text.self_bleu(texts, stream.generator()),
    }


def _space(name: str, train: Samples, held_out: Samples, classifier: Classifier | None, cap: int) -> Space:
    function = _features(name, train, classifier)
    if len(held_out) < FEWEST:
        raise InputError(
            "there are too few held-out real data to measure samples against",
            got=f"{len(held_out)}",
            remedy=f"hold out at least {FEWEST}, or set measures.features = []",
        )
    known = function(train[spread(len(train), 10 * cap)])
    new = function(held_out[spread(len(held_out), cap)])
    return Space(name, function, known, new, quality.median_bandwidth(new))


def _is_function(name: str) -> bool:
    return ":" in name and not name.startswith("pca:")


def _features(name: str, train: Samples, classifier: Classifier | None) -> Callable[[Samples], FloatArray]:
    if _is_function(name):
        return functools.partial(_called, from_module(name), name)
    if is_text(train):
        raise InputError(
            f"texts have no {name!r} features", got="texts", remedy="name a function module:name"
        )
    if name == "values":
        return _flat
    if name == "classifier":
        if classifier is None:
            raise InputError(
                "there is no classifier whose features could be taken",
                got="measures.features with 'classifier'",
                remedy="use a classifier reward or groups by classifier",
            )
        return classifier.features
    return _principal(train, int(name.removeprefix("pca:")))


def _plain(train: Samples) -> str:
    """Return the space of the numbers as they are, or of their main directions where they are many."""
    return "values" if train[0].size <= MOST_VALUES else f"pca:{min(50, len(train) - 1)}"


def _flat(samples: Samples) -> FloatArray:
    return samples.reshape(len(samples), -1).astype(np.float64)


def _called(function: Callable[..., Any], name: str, samples: Samples) -> FloatArray:
    found = np.asarray(call(name, function, samples), float)
    if found.ndim != 2 or len(found) != len(samples):
        raise InputError(
            f"{name} must return features (n, d)", got=f"shape {found.shape}", remedy="one row a sample"
        )
    return found


def _principal(train: Samples, count: int) -> Callable[[Samples], FloatArray]:
    """Return the projection onto the real data's first principal components."""
    flat = _flat(train)
    if count > min(flat.shape):
        raise InputError(
            f"there are no {count} principal components",
            got=f"data of shape {flat.shape}",
            remedy="ask for fewer",
        )
    centre = flat.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((flat - centre).T, bias=True).reshape(flat.shape[1], -1))
    axes = vectors[:, np.argsort(-values)[:count]]
    return lambda samples: np.asarray((_flat(samples) - centre) @ axes)
