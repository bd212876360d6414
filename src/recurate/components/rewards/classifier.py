"""Classifiers, trained on the real data or read from a folder, and rewards from their probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from recurate.components.data.dataset import Dataset
from recurate.components.nets import classifiers
from recurate.components.nets.classifiers import Kind
from recurate.components.nets.devices import import_torch, threads
from recurate.components.nets.saved import Arrays, Card, Kept
from recurate.components.nets.training import Descent, optimise, set_weights, weights_of
from recurate.components.nets.words import Words
from recurate.components.protocols import Prepared, RewardSettings
from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError, nearest
from recurate.core.fingerprints import Fingerprint, of_folder
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.log.samples import Samples, is_text

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Sequential

BINS = 15  # of confidence
USUAL: dict[Kind, dict[str, float]] = {  # values that replace settings of None
    "mlp": {"noise": 1.0, "label_smoothing": 0.05, "learning_rate": 2e-3},
    "conv": {"noise": 0.0, "label_smoothing": 0.02, "learning_rate": 6e-3},
    "words": {"noise": 0.0, "label_smoothing": 0.05, "learning_rate": 2e-3},
}


class ClassifierSettings(Settings):
    """Settings of a classifier: trained with AdamW on the standardised real data, or read from a folder.

    Texts become vectors first (:mod:`recurate.components.nets.words`).
    """

    folder: str | None = Field(
        None,
        description="folder of a trained classifier (from `Classifier.save` or RUN/setup), relative to the "
        "current folder; none is then trained, and the run keeps a copy",
    )
    network: Literal["mlp", "conv"] | None = Field(
        None,
        description="two hidden layers, or three convolutions and one hidden layer; if absent 'conv' for "
        f"images of {classifiers.FROM} x {classifiers.FROM} pixels or more; texts always have two hidden "
        "layers on the weighted counts of their words and pairs of words",
    )
    width: int = Field(128, ge=1, le=10**9, description="units per hidden layer")
    steps: int = Field(1500, ge=1, le=10**9, description="training steps")
    batch: int = Field(128, ge=1, le=10**9, description="training batch size")
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="AdamW's step size, cosine-annealed to zero; if absent, 0.006 (conv) or 0.002",
    )
    weight_decay: float = Field(0.05, ge=0, description="AdamW's weight decay")
    noise: float | None = Field(
        None,
        ge=0,
        description="sd of the noise added to standardised inputs in training; if absent, 1 for 'mlp', "
        "else 0",
    )
    shift: int = Field(
        1, ge=0, le=64, description="'conv': batches are shifted by up to so many pixels each way in training"
    )
    label_smoothing: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="label smoothing, which prevents overconfidence on the training data; if absent, 0.02 "
        "for 'conv', else 0.05",
    )
    threads: int = Field(1, ge=1, le=10**9, description="CPU threads")

    @model_validator(mode="after")
    def _trained_or_read(self) -> Self:
        if self.folder is not None:
            changed = self.model_dump(exclude={"folder", "threads"}, exclude_defaults=True)
            if changed:
                raise ValueError(f"with folder nothing is trained: omit {', '.join(changed)}")
        return self

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the folder of a trained classifier, if the settings name one."""
        return [] if self.folder is None else of_folder(serves, Path(self.folder), kept=True)


class ClassifierRewardSettings(RewardSettings):
    """Reward gamma q_a(x), gamma max_i q_i(x), or gamma times a margin, with class probabilities q.

    The margin of class a is log q_a - max over b != a of log q_b, which is positive where a is the most
    probable class. Without a label it is the margin of the most probable class, log q_(1) - log q_(2), which
    is 0 where the two are equal.
    """

    needs_classifier: ClassVar[bool] = True
    kind: Literal["classifier"]
    score: Literal["probability", "confidence", "margin"] = Field(
        "probability",
        description="probability of one class, the largest probability, or the log probability of the class "
        "(without label: of the most probable one) minus the largest of the others",
    )
    label: str | None = Field(
        None, description="the class; required if score is 'probability', optional if it is 'margin'"
    )

    @model_validator(mode="after")
    def _label_where_needed(self) -> Self:
        if self.score != "margin" and (self.score == "probability") != (self.label is not None):
            raise ValueError("give label with score = 'probability' (or 'margin'), and not with 'confidence'")
        return self

    def build(self, prepared: Prepared) -> ClassifierReward:
        """Return the reward."""
        return ClassifierReward(self, prepared.classifier)


class Scores(Settings):
    r"""Scores of a classifier on held-out real data.

    With q_i(x) the probability of class i, c = max_i q_i the confidence, n samples:

    - accuracy: share of samples whose most probable class is the true class;
    - expected calibration error: sum_b n_b / n |accuracy_b - mean confidence_b| over 15 bins of confidence
      of equal width, (0, 1/15], ..., (14/15, 1] (Guo et al. 2017, arXiv 1706.04599, eq. 3). It is biased
      upwards: for a perfectly calibrated classifier its expectation is up to 0.4 sqrt(15 / n);
    - Brier score: mean of sum_i (q_i - [i is the true class])^2, from 0 to 2 (Brier 1950, Monthly Weather
      Review 78(1)).

    Attributes:
        count: Number of samples, n.
        accuracy, calibration_error, brier: Scores defined above.
        bins: Number of bins of confidence in the calibration error.
    """

    count: int
    accuracy: float
    calibration_error: float
    brier: float
    bins: int = BINS


class _Card(Card):
    """Content of ``classifier.json``."""

    settings: ClassifierSettings
    network: Kind
    labels: tuple[str, ...]
    scale: float
    scores: Scores | None
    terms: tuple[str, ...] = ()


CLASSIFIER = Kept("classifier", _Card, "name a folder that Classifier.save wrote, such as RUN/setup")


@dataclass(frozen=True)
class Classifier:
    """A trained classifier of samples x, numbers or texts, with class probabilities q_i(x).

    Its training minimises the cross-entropy with smoothed labels (Szegedy et al. 2016, arXiv 1512.00567,
    section 7) on the standardised real data.

    Attributes:
        settings: Settings of the classifier.
        network: Kind of its network.
        shape: Shape of one sample; () for texts.
        labels: Names of the classes, in the order of the probabilities.
        mean, scale: Mean of every coordinate, shape (d,), and scale common to all, which standardise inputs.
        weights: Weights of the network, by name.
        scores: Scores on held-out real data; None if these have no labels.
        words: Terms that turn texts into vectors; None for numbers.
    """

    settings: ClassifierSettings
    network: Kind
    shape: tuple[int, ...]
    labels: tuple[str, ...]
    mean: Samples
    scale: float
    weights: Arrays = field(repr=False)
    scores: Scores | None = None
    words: Words | None = field(default=None, repr=False)

    @classmethod
    def train(cls, data: Dataset, settings: ClassifierSettings, *, rng: Stream) -> Self:
        """Train on the real data's training part and score on its held-out part.

        Raises:
            InputError: If there is only one class, or the network cannot be applied to the samples.
            Diverged: If the loss or the weights are not finite.
        """
        torch = import_torch()
        labels, targets = np.unique(data.labels, return_inverse=True)
        if len(labels) < 2:
            raise InputError(
                "a classifier needs two classes or more", got=f"only {labels[0]!r}", remedy="check the labels"
            )
        shape = data.train.shape[1:]
        words = Words.learn(data.train) if is_text(data.train) else None
        kind = "words" if words is not None else settings.network or classifiers.usual(shape)
        flat = data.train.reshape(len(data.train), -1) if words is None else words.vectors(data.train)
        mean, scale = _moments(flat)
        torch_rng = torch.Generator().manual_seed(rng.integer())
        with threads(settings.threads):
            inputs = shape if words is None else (len(words.terms),)
            network = classifiers.build(kind, inputs, settings.width, len(labels), rng.integer())
            names = tuple(str(v) for v in labels)
            trained = cls(settings, kind, shape, names, mean, scale, {}, words=words)
            weights = _fit(network, trained, flat, torch.from_numpy(targets), torch_rng)
        return replace(trained, weights=weights).scored(data)

    def facts(self) -> dict[str, float]:
        """Return the scores on held-out real data, rounded; ``classifier.json`` has all digits."""
        if self.scores is None:
            return {}
        return {
            "classifier_held_out_accuracy": self.scores.accuracy,
            f"classifier_calibration_error_{self.scores.bins}_bins": round(self.scores.calibration_error, 4),
            "classifier_brier_score": round(self.scores.brier, 4),
        }

    def scored(self, data: Dataset) -> Self:
        """Return the classifier with its scores on held-out data, or unchanged if these have no labels.

        Raises:
            InputError: If the shape of the samples differs from that of its training data.
        """
        if not (data.labelled and (data.held_out_labels != "").all() and len(data.held_out)):
            self.check(data.train)
            return self
        numbers = {label: number for number, label in enumerate(self.labels)}
        classes = np.array([numbers.get(str(label), -1) for label in data.held_out_labels], np.int64)
        return replace(self, scores=scores(self.probabilities(data.held_out), classes))

    def logits(self, samples: Samples) -> FloatArray:
        """Return log q up to an additive constant per sample, shape (n, classes)."""
        return self._apply(samples, len(self.labels), lambda net, x: net(x).double())

    def probabilities(self, samples: Samples) -> FloatArray:
        """Return the class probabilities q, shape (n, classes)."""
        torch = import_torch()
        return self._apply(samples, len(self.labels), lambda net, x: torch.softmax(net(x).double(), dim=1))

    def features(self, samples: Samples) -> FloatArray:
        """Return the activations of the last hidden layer, shape (n, width)."""
        return self._apply(samples, self.settings.width, lambda net, x: net[:-1](x).double())

    def check(self, samples: Samples) -> None:
        """Check that samples have the shape of its training data, or are texts as these were.

        Raises:
            InputError: If they do not.
        """
        texts = is_text(samples)
        if texts != (self.words is not None) or samples.shape[1:] != self.shape:
            known = self.shape if self.words is None else "texts"
            raise InputError(
                "the classifier was trained on samples of another shape",
                got=f"{'texts' if texts else samples.shape[1:]}, trained on {known}",
                remedy="use data of that shape, or train another classifier",
            )

    def standard(self, flat: Any) -> Tensor:
        """Standardise samples (n, d), dense or sparse, and return them in the network's layout."""
        torch = import_torch()
        dense = flat if isinstance(flat, np.ndarray) else flat.toarray()
        inputs: Tensor = torch.from_numpy((dense - self.mean) / np.float32(self.scale))
        return classifiers.arrange(self.network, self.shape, inputs)

    @property
    def _inputs(self) -> tuple[int, ...]:
        return self.shape if self.words is None else (len(self.words.terms),)

    def _apply(self, samples: Samples, size: int, function: Callable[[Any, Any], Any]) -> FloatArray:
        """Return function(network, inputs) for all samples, shape (n, size)."""
        torch = import_torch()
        self.check(samples)
        flat = samples.reshape(len(samples), math.prod(self.shape)) if self.words is None else samples
        out = np.empty((len(flat), size))
        step = classifiers.chunk(self.network, self.shape)
        with threads(self.settings.threads), torch.inference_mode():
            network = self._network()
            for start in range(0, len(flat), step):
                rows = slice(start, start + step)
                part = flat[rows] if self.words is None else self.words.vectors(flat[rows])
                out[rows] = function(network, self.standard(part)).numpy()
        return out

    def _network(self) -> Sequential:
        network = classifiers.build(self.network, self._inputs, self.settings.width, len(self.labels), 0)
        set_weights(network, self.weights)
        return network.eval()

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the most probable label of each sample, shape (n,): a classifier is a grouping."""
        return np.asarray(np.array(self.labels)[self.probabilities(samples).argmax(axis=1)])

    def save(self, folder: Path | str) -> None:
        """Write ``classifier.json`` and ``classifier.safetensors`` to a folder, created if necessary."""
        names = ("settings", "network", "shape", "labels", "scale", "scores")
        terms = () if self.words is None else self.words.terms
        card = _Card(**{name: getattr(self, name) for name in names}, terms=terms)
        arrays = self.weights | {"mean": self.mean}
        if self.words is not None:
            arrays["terms"] = self.words.weights
        CLASSIFIER.write(Path(folder), card, arrays)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a classifier that :meth:`save` wrote.

        Args:
            folder: The folder, or the ``classifier.safetensors`` in it.

        Raises:
            InputError: If a file is missing, damaged, altered or of another format; the message names it.
        """
        folder = Path(folder)
        folder = folder.parent if folder.name in CLASSIFIER.files else folder
        with CLASSIFIER.read(folder) as (card, arrays):
            known = dict(card)
            terms, mean = known.pop("terms"), arrays.pop("mean")
            words = Words(terms, arrays.pop("terms")) if card.network == "words" else None
            size = len(terms) if words is not None else math.prod(card.shape)
            if mean.shape != (size,) or (words is not None and words.weights.shape != (size,)):
                raise ValueError(f"{size} inputs for weights of {mean.size}")
            found = cls(mean=mean, weights=arrays, words=words, **known)
            found._network()  # fails if the weights do not fit
            return found


@dataclass(frozen=True)
class ClassifierReward:
    """Reward gamma s(x), where s is a class probability, the confidence or a margin of a classifier.

    Raises:
        InputError: If the classifier lacks the class, or the shape of samples differs from that of its
            training data.
    """

    settings: ClassifierRewardSettings
    classifier: Classifier

    def __post_init__(self) -> None:
        label = self.settings.label
        if label is not None and label not in self.classifier.labels:
            raise InputError(
                f"the reward {self.settings.name!r} prefers a class that the data lack",
                got=label,
                remedy=nearest(label, self.classifier.labels),
            )

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per sample, shape (n,)."""
        label = self.settings.label
        number = None if label is None else self.classifier.labels.index(label)
        if self.settings.score == "margin":
            return np.asarray(self.settings.gamma * margins(self.classifier.logits(samples), number))
        probabilities = self.classifier.probabilities(samples)
        chosen = probabilities.max(axis=1) if number is None else probabilities[:, number]
        return np.asarray(self.settings.gamma * chosen)


def margins(logits: FloatArray, number: int | None) -> FloatArray:
    """Return log q_a - max_{b != a} log q_b, shape (n,), for one class or each sample's most probable class.

    Args:
        logits: log q up to an additive constant per sample, shape (n, classes).
        number: Number of the class a; None for each sample's most probable class.
    """
    if number is None:
        two = np.partition(logits, -2, axis=1)[:, -2:]
        return np.asarray(two[:, 1] - two[:, 0])
    return np.asarray(logits[:, number] - np.delete(logits, number, axis=1).max(axis=1))


def _moments(flat: Any) -> tuple[Samples, float]:
    """Return the mean of every coordinate (d,), and the standard deviation of all numbers together."""
    if isinstance(flat, np.ndarray):
        return flat.mean(0), float(flat.std()) or 1.0
    squares = float(flat.multiply(flat).sum()) / (flat.shape[0] * flat.shape[1])
    return np.asarray(flat.mean(0), np.float32).ravel(), math.sqrt(squares - float(flat.mean()) ** 2) or 1.0


def _fit(network: Sequential, model: Classifier, flat: Any, targets: Tensor, rng: Any) -> Arrays:
    """Train the network in place and return its weights."""
    import torch
    from torch.nn.functional import cross_entropy

    settings, usual = model.settings, USUAL[model.network]
    noise, smoothing, rate = (
        usual[name] if getattr(settings, name) is None else getattr(settings, name)
        for name in ("noise", "label_smoothing", "learning_rate")
    )

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            rows = torch.randint(flat.shape[0], (settings.batch,), generator=rng)
            batch = model.standard(flat[rows.numpy()])
            if model.network == "conv" and settings.shift:
                batch = classifiers.moved(batch, settings.shift, rng)
            if noise:
                batch = batch + noise * torch.randn(batch.shape, generator=rng)
            yield batch, targets[rows]

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(network(batch[0]), batch[1], label_smoothing=smoothing)

    optimise(network, batches(), loss, Descent("classifier", settings.steps, rate, settings.weight_decay))
    return weights_of(network)


def scores(probabilities: FloatArray, classes: NDArray[np.int64]) -> Scores:
    """Return the scores of probabilities (n, classes) given the true classes (n,); -1: unknown class."""
    confidence, known = probabilities.max(axis=1), classes >= 0
    right = probabilities.argmax(axis=1) == classes
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, right - confidence, BINS)
    brier = np.square(probabilities).sum(axis=1) + 1.0
    brier[known] -= 2 * probabilities[known, classes[known]]
    return Scores(
        count=len(classes),
        accuracy=float(right.mean()),
        calibration_error=float(np.abs(gaps).sum() / len(classes)),
        brier=float(brier.mean()),
    )
