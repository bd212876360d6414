"""Sample metrics: comparisons of each round's samples with held-out real data in named feature spaces.

Each metric has a standard error and is a stage of its own in ``timings.jsonl``. Metrics use at most
``measures.sample`` candidates, so that together they take a small part of a round.
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

Measure = tuple[str, Callable[[], dict[str, Estimate]]]  # a name, and a function that computes its quantities

FEWEST = 20  # smallest number of held-out samples for a comparison
MOST_VALUES = 512  # numbers per sample; larger samples are compared in principal components
LARGEST_VENDI = 1000  # largest number of samples in an eigenproblem
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
    """Settings of the sample metrics."""

    features: tuple[str, ...] | None = Field(
        None,
        description="feature spaces: 'values' (the numbers themselves), 'classifier' (its last hidden "
        "layer), 'pca:N' (of the real data), or module:name; if absent, 'values' ('pca:50' for more than "
        "512 numbers per sample), and 'classifier' if the run has one; [] for none",
    )
    sample: int = Field(1000, ge=50, le=100_000, description="largest number of candidates that are measured")
    every: int = Field(1, ge=1, le=10**9, description="measure every round (1), every second round (2), ...")

    @field_validator("features")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        import re

        for name in names or ():
            if not (
                name in ("values", "classifier")
                or re.fullmatch(r"pca:[1-9]\d*", name)
                or NAME.fullmatch(name)
            ):
                raise ValueError(
                    f"{name!r} is no feature space: 'values', 'classifier', 'pca:N' or 'module:name'"
                )
        return names

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the functions that are feature spaces.

        Args:
            serves: The purpose that the fingerprints state.

        Raises:
            InputError: If a function cannot be imported.
        """
        functions = [name for name in self.features or () if _is_function(name)]
        return [found for name in functions for found in of_function(serves, name)]


@dataclass(frozen=True)
class Space:
    """A feature space and the features of the real data.

    Attributes:
        name: The name of the space in the configuration.
        features: Function from samples, shape (n, ...), to features, shape (n, d).
        train: Features of the training data, shape (training samples, d).
        held_out: Features of the held-out data, shape (held-out samples, d).
        bandwidth: Bandwidth of the Vendi score's kernel: the median distance between held-out features.
    """

    name: str
    features: Callable[[Samples], FloatArray]
    train: FloatArray
    held_out: FloatArray
    bandwidth: float

    def measures(self, samples: Samples) -> Iterator[Measure]:
        """Yield the metrics of samples, shape (n, ...), in this space."""
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
    """The sample metrics of a run.

    Attributes:
        spaces: The feature spaces; empty without enough held-out data.
        reference: Rewards of the real training data, shape (n, rewards), for the nearest-neighbour estimate
            of the KL divergence. None: no such estimate.
        sample: The largest number of candidates that are measured.
        every: The number of rounds from one measurement to the next.
    """

    spaces: tuple[Space, ...]
    reference: FloatArray | None
    sample: int
    every: int

    def rows(
        self, t: int, samples: Samples, rewards: FloatArray, stream: Stream, stage: Callable[[int, str], None]
    ) -> tuple[list[tuple[str, Estimate]], list[str]]:
        """Measure a round's candidates. A metric that fails does not stop the run.

        Args:
            t: The round.
            samples: The candidates, shape (n, ...).
            rewards: Their rewards, shape (n, rewards).
            stream: Source of randomness.
            stage: Function that is called with the round and the name of each metric's stage.

        Returns:
            The measured quantities, each a name and an estimate, and one message per failed metric. Both
            are empty in rounds without a measurement.
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
        """Return the metrics of real training data, as a baseline for those of the candidates.

        Memorisation and the divergence are omitted: they would compare the training data with themselves.

        Args:
            train: The training data, shape (n, ...), of which at most ``sample`` are measured.
            rewards: Their rewards, shape (n, rewards).
            stream: Source of randomness.

        Returns:
            The value of each quantity, by name.
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
    """Prepare the sample metrics. Without real data, only texts are measured.

    Args:
        settings: The settings of the metrics.
        dataset: The real data. None: no feature spaces.
        classifier: The classifier behind the space ``classifier``. None: the run has none.
        reference: Rewards of the real training data, shape (n, rewards), of which at most
            10 ``settings.sample`` are kept. None: no estimate of the KL divergence.

    Raises:
        InputError: If a feature space does not suit the data, the space ``classifier`` is requested without
            a classifier, or there are too few held-out data.
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
    """Return at most ``most`` evenly spaced row numbers from 0, ..., ``count`` - 1, ascending."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).astype(np.int64)


def to_rows(t: int, source: str, found: Sequence[tuple[str, Estimate]]) -> list[Row]:
    """Return the measured quantities of round t as rows of a trajectory, with 95 % intervals."""
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
            "there are too few held-out real data to compare samples with",
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
                "the feature space 'classifier' needs a classifier",
                got="measures.features with 'classifier'",
                remedy="use a classifier reward or groups by classifier",
            )
        return classifier.features
    return _principal(train, int(name.removeprefix("pca:")))


def _plain(train: Samples) -> str:
    """Return the default space: the numbers themselves, or principal components if there are many."""
    return "values" if train[0].size <= MOST_VALUES else f"pca:{min(50, len(train) - 1)}"


def _flat(samples: Samples) -> FloatArray:
    return samples.reshape(len(samples), -1).astype(np.float64)


def _called(function: Callable[..., Any], name: str, samples: Samples) -> FloatArray:
    found = np.asarray(call(name, function, samples), float)
    if found.ndim != 2 or len(found) != len(samples):
        raise InputError(
            f"{name} must return features (n, d)", got=f"shape {found.shape}", remedy="one row per sample"
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
