"""Rewards and groups from a classifier that is trained on the real data, or was trained before."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from recurate.components.data.dataset import Dataset
from recurate.components.nets import classifiers
from recurate.components.nets.classifiers import Kind
from recurate.components.nets.devices import import_torch, threads
from recurate.components.rewards.calibration import Scores, scores
from recurate.components.rewards.protocol import Samples
from recurate.core.arrays import FloatArray
from recurate.core.errors import Diverged, InputError, nearest
from recurate.core.files import atomic_path, write_text
from recurate.core.seeds import Stream
from recurate.core.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Sequential

FORMAT = 2  # of saved classifiers
WEIGHTS, CARD = "classifier.safetensors", "classifier.json"
USUAL: dict[Kind, dict[str, float]] = {  # settings that are absent
    "mlp": {"noise": 1.0, "label_smoothing": 0.05, "learning_rate": 2e-3},
    "conv": {"noise": 0.0, "label_smoothing": 0.02, "learning_rate": 6e-3},
}


class ClassifierSettings(Settings):
    """The classifier itself, trained on the standardised real data with AdamW, or read from a folder."""

    folder: str | None = Field(
        None,
        description="a trained classifier, as `Classifier.save` writes it and RUN/setup has it, seen from "
        "the current folder; nothing is trained then, and the run keeps a copy",
    )
    network: Kind | None = Field(
        None,
        description="two hidden layers, or three convolutions and one hidden layer; if absent 'conv' for "
        f"images of {classifiers.FROM} pixels a side or more",
    )
    width: int = Field(128, ge=1, description="units of a hidden layer")
    steps: int = Field(1500, ge=1, description="training steps")
    batch: int = Field(128, ge=1, description="training batch")
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="AdamW's step size, cosine-annealed to zero; if absent 0.002 for 'mlp', 0.006 for 'conv'",
    )
    weight_decay: float = Field(0.05, ge=0, description="AdamW's weight decay")
    noise: float | None = Field(
        None,
        ge=0,
        description="sd of the noise added to standardised inputs in training; if absent 1 for 'mlp', and "
        "0 for 'conv'",
    )
    shift: int = Field(
        1, ge=0, le=64, description="'conv': batches are moved by up to so many pixels each way in training"
    )
    label_smoothing: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="keeps it from being overconfident on its training data; if absent 0.05 for 'mlp', "
        "0.02 for 'conv'",
    )
    threads: int = Field(1, ge=1, description="CPU threads")

    @model_validator(mode="after")
    def _trained_or_read(self) -> Self:
        if self.folder is not None:
            own = {"folder", "threads"}
            changed = [
                n
                for n, f in type(self).model_fields.items()
                if n not in own and getattr(self, n) != f.default
            ]
            if changed:
                raise ValueError(f"with folder nothing is trained: leave out {', '.join(changed)}")
        return self


class ClassifierRewardSettings(Settings):
    """Reward gamma q_a(x), gamma max_i q_i(x), or gamma times a margin, q the classifier's probabilities.

    The margin for class a is log q_a - max over b != a of log q_b: positive where the classifier says a.
    Without a class it is that of the most probable one, log q_(1) - log q_(2): 0 where two are alike.
    """

    kind: Literal["classifier"]
    name: str = Field("reward", pattern=r"^[A-Za-z_]\w*$", description="name of the reward's column")
    weight: float | None = Field(None, ge=0, le=1, description="share of slates picked by this reward")
    score: Literal["probability", "confidence", "margin"] = Field(
        "probability",
        description="probability of one class, the largest probability, or by how much the log probability "
        "of the class (without label: of the most probable one) exceeds that of the best other",
    )
    label: str | None = Field(
        None, description="the class; needed where score is 'probability', possible where it is 'margin'"
    )
    gamma: float = Field(1.0, gt=0, description="multiplies the score")

    @model_validator(mode="after")
    def _label_where_needed(self) -> Self:
        if self.score != "margin" and (self.score == "probability") != (self.label is not None):
            raise ValueError("give label with score = 'probability' (or 'margin'), and not with 'confidence'")
        return self


class _Card(Settings):
    """What ``classifier.json`` holds."""

    format: int
    settings: ClassifierSettings
    network: Kind
    shape: tuple[int, ...]
    labels: tuple[str, ...]
    scale: float
    scores: Scores | None
    sha256: str  # of classifier.safetensors


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    Attributes:
        settings: see :class:`ClassifierSettings`.
        network: kind of its network.
        shape: of one sample.
        labels: the classes' names, in order.
        mean, scale: inputs are standardised with these: one mean a coordinate, one scale for all.
        weights: the network's weights by name.
        scores: on held-out real data, or None if there were no labels.
    """

    settings: ClassifierSettings
    network: Kind
    shape: tuple[int, ...]
    labels: tuple[str, ...]
    mean: Samples
    scale: float
    weights: dict[str, Any] = field(repr=False)
    scores: Scores | None = None

    @classmethod
    def train(cls, data: Dataset, settings: ClassifierSettings, *, rng: Stream) -> Self:
        """Train on the real data's training part and score on its held-out part.

        Raises:
            InputError: there is one class only, the network does not fit the samples, or training diverged.
        """
        torch = import_torch()
        labels, targets = np.unique(data.labels, return_inverse=True)
        if len(labels) < 2:
            raise InputError(
                "a classifier needs two classes or more", got=f"only {labels[0]!r}", remedy="check the labels"
            )
        shape = data.train.shape[1:]
        kind = settings.network or classifiers.usual(shape)
        flat = data.train.reshape(len(data.train), -1)
        mean, scale = flat.mean(0), float(flat.std()) or 1.0
        torch_rng = torch.Generator().manual_seed(rng.integer())
        with threads(settings.threads):
            network = classifiers.build(kind, shape, settings.width, len(labels), rng.integer())
            trained = cls(settings, kind, shape, tuple(str(v) for v in labels), mean, scale, {})
            weights = _fit(network, trained, flat, torch.from_numpy(targets), torch_rng)
        return replace(trained, weights=weights).scored(data)

    @property
    def held_out_accuracy(self) -> float:
        """Share of held-out real samples that it labels correctly; nan if there were none with labels."""
        return math.nan if self.scores is None else self.scores.accuracy

    def facts(self) -> dict[str, float]:
        """Return how good it is on held-out real data, for readers; its card has all digits."""
        if self.scores is None:
            return {}
        return {
            "classifier_held_out_accuracy": self.scores.accuracy,
            f"classifier_calibration_error_{self.scores.bins}_bins": round(self.scores.calibration_error, 4),
            "classifier_brier_score": round(self.scores.brier, 4),
        }

    def scored(self, data: Dataset) -> Self:
        """Return the classifier with its scores on held-out data; as it was if they have no labels.

        Raises:
            InputError: the samples have another shape than those that it was trained on.
        """
        if not (data.labelled and (data.held_out_labels != "").all() and len(data.held_out)):
            self.check(data.train)
            return self
        numbers = {label: number for number, label in enumerate(self.labels)}
        classes = np.array([numbers.get(str(label), -1) for label in data.held_out_labels], np.int64)
        return replace(self, scores=scores(self.probabilities(data.held_out), classes))

    def logits(self, samples: Samples) -> FloatArray:
        """Return log q up to a constant of each sample, shape (n, classes)."""
        return self._apply(samples, len(self.labels), lambda net, x: net(x).double())

    def probabilities(self, samples: Samples) -> FloatArray:
        """Return q, shape (n, classes)."""
        torch = import_torch()
        return self._apply(samples, len(self.labels), lambda net, x: torch.softmax(net(x).double(), dim=1))

    def features(self, samples: Samples) -> FloatArray:
        """Return the activations of the last hidden layer, shape (n, width)."""
        return self._apply(samples, self.settings.width, lambda net, x: net[:-1](x).double())

    def check(self, samples: Samples) -> None:
        """Refuse samples of another shape than those that it was trained on.

        Raises:
            InputError: they have another shape, or are texts.
        """
        if samples.dtype == object or samples.shape[1:] != self.shape:
            raise InputError(
                "the classifier was trained on samples of another shape",
                got=f"{'texts' if samples.dtype == object else samples.shape[1:]}, trained on {self.shape}",
                remedy="use data like those that it was trained on, or train another one",
            )

    def standard(self, flat: Samples) -> Tensor:
        """Return samples (n, d) standardised, as the network takes them."""
        torch = import_torch()
        inputs: Tensor = torch.from_numpy((flat - self.mean) / np.float32(self.scale))
        return classifiers.arrange(self.network, self.shape, inputs)

    def _apply(self, samples: Samples, size: int, function: Callable[[Any, Any], Any]) -> FloatArray:
        """Return function(network, inputs) for all samples, (n, size)."""
        torch = import_torch()
        self.check(samples)
        flat = samples.reshape(len(samples), math.prod(self.shape))
        out = np.empty((len(flat), size))
        step = classifiers.chunk(self.network, self.shape)
        with threads(self.settings.threads), torch.inference_mode():
            network = self._network()
            network.load_state_dict(self.weights)
            network.eval()
            for start in range(0, len(flat), step):
                rows = slice(start, start + step)
                out[rows] = function(network, self.standard(flat[rows])).numpy()
        return out

    def _network(self) -> Sequential:
        return classifiers.build(self.network, self.shape, self.settings.width, len(self.labels), 0)

    def predict(self, samples: Samples) -> NDArray[Any]:
        """Return the most probable label of each sample, shape (n,)."""
        return np.asarray(np.array(self.labels)[self.probabilities(samples).argmax(axis=1)])

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return one label a sample: a classifier is a grouping."""
        return self.predict(samples)

    def save(self, folder: Path | str) -> None:
        """Write ``classifier.safetensors`` and ``classifier.json`` into a folder, made if need be."""
        from safetensors.torch import save_file

        torch = import_torch()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / WEIGHTS) as partial:
            save_file(self.weights | {"mean": torch.from_numpy(self.mean)}, partial)
        card = _Card(
            format=FORMAT,
            settings=self.settings,
            network=self.network,
            shape=self.shape,
            labels=self.labels,
            scale=self.scale,
            scores=self.scores,
            sha256=_sha256(folder / WEIGHTS),
        )
        write_text(folder / CARD, json.dumps(card.model_dump(), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what :meth:`save` wrote.

        Args:
            folder: the folder, or the ``classifier.safetensors`` in it.

        Raises:
            InputError: a file is missing, damaged, altered, or of another format; the message names it.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        folder = folder.parent if folder.name == WEIGHTS else folder
        card, path = _read_card(folder / CARD), folder / WEIGHTS
        if not path.is_file() or _sha256(path) != card.sha256:
            fault = f"its SHA-256 is not the one in {CARD}" if path.is_file() else "no such file"
            raise _damaged(path, fault)
        try:
            weights = load_file(path)
            mean = weights.pop("mean").numpy()
            found = cls(
                card.settings, card.network, card.shape, card.labels, mean, card.scale, weights, card.scores
            )
            if mean.shape != (math.prod(card.shape),):
                raise _damaged(folder / CARD, f"shape {card.shape} for weights of {mean.size} inputs")
            found._network().load_state_dict(weights)
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise _damaged(folder, str(error).strip().splitlines()[0]) from None
        return found


@dataclass(frozen=True)
class ClassifierReward:
    """See :class:`ClassifierRewardSettings`."""

    settings: ClassifierRewardSettings
    classifier: Classifier

    def __post_init__(self) -> None:
        label = self.settings.label
        if label is not None and label not in self.classifier.labels:
            raise InputError(
                f"the reward {self.settings.name!r} prefers a class that the data do not have",
                got=label,
                remedy=nearest(label, self.classifier.labels),
            )

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward a sample, shape (n,)."""
        label = self.settings.label
        number = None if label is None else self.classifier.labels.index(label)
        if self.settings.score == "margin":
            return np.asarray(self.settings.gamma * margins(self.classifier.logits(samples), number))
        probabilities = self.classifier.probabilities(samples)
        chosen = probabilities.max(axis=1) if number is None else probabilities[:, number]
        return np.asarray(self.settings.gamma * chosen)


def margins(logits: FloatArray, number: int | None) -> FloatArray:
    """Return log q_a - max_{b != a} log q_b, a a class's number or each sample's most probable class.

    Args:
        logits: log q up to a constant of each sample, shape (n, classes).
        number: of the class, or None.
    """
    if number is None:
        two = np.partition(logits, -2, axis=1)[:, -2:]
        return np.asarray(two[:, 1] - two[:, 0])
    return np.asarray(logits[:, number] - np.delete(logits, number, axis=1).max(axis=1))


def _fit(network: Sequential, model: Classifier, flat: Samples, targets: Tensor, rng: Any) -> dict[str, Any]:
    """Train in place; return the weights."""
    import torch
    from torch.nn.functional import cross_entropy

    settings, conv = model.settings, model.network == "conv"
    usual = USUAL[model.network]
    noise, smoothing, rate = (
        usual[name] if getattr(settings, name) is None else getattr(settings, name)
        for name in ("noise", "label_smoothing", "learning_rate")
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    for _ in range(settings.steps):
        rows = torch.randint(len(flat), (settings.batch,), generator=rng)
        batch = model.standard(flat[rows.numpy()])
        if conv and settings.shift:
            batch = classifiers.moved(batch, settings.shift, rng)
        if noise:
            batch = batch + noise * torch.randn(batch.shape, generator=rng)
        loss = cross_entropy(network(batch), targets[rows], label_smoothing=smoothing)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    if not torch.isfinite(loss):
        raise Diverged("classifier", rate)
    return {name: value.detach().contiguous() for name, value in network.state_dict().items()}


# --- files ---


def _read_card(path: Path) -> _Card:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            "there is no saved classifier",
            got=path,
            remedy="name a folder that Classifier.save has written, such as RUN/setup",
        ) from None
    except (OSError, ValueError):
        raise _damaged(path, "not JSON") from None
    version = raw.get("format") if isinstance(raw, dict) else None
    if version != FORMAT:
        newer = isinstance(version, int) and version > FORMAT
        raise InputError(
            f"{path} was written by {'a newer' if newer else 'an older'} recurate",
            got=f"format {version}; this version reads format {FORMAT}",
            remedy="upgrade recurate" if newer else "train the classifier again",
        )
    try:
        return _Card.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _damaged(path: Path, fault: str) -> InputError:
    return InputError(
        "a file of the saved classifier is not what was written",
        got=f"{path}: {fault}",
        remedy="restore it, or train it again",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
