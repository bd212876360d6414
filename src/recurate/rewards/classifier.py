"""Rewards and groups from a classifier that is trained on the real data."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from recurate.data.dataset import Dataset
from recurate.errors import InputError, nearest
from recurate.generators.torches import import_torch, threads
from recurate.rewards.protocol import FloatArray, Samples
from recurate.seeds import Stream
from recurate.settings import Settings

if TYPE_CHECKING:
    from torch.nn import Sequential

CHUNK = 8192


class ClassifierSettings(Settings):
    """The classifier itself: an MLP on standardised pixels, trained with AdamW."""

    width: int = Field(128, ge=1, description="hidden units a layer (two layers)")
    steps: int = Field(1500, ge=1, description="training steps")
    batch: int = Field(128, ge=1, description="training batch")
    learning_rate: float = Field(2e-3, gt=0, description="AdamW's step size, cosine-annealed to zero")
    weight_decay: float = Field(0.05, ge=0, description="AdamW's weight decay")
    noise: float = Field(1.0, ge=0, description="sd of the noise added to standardised inputs in training")
    label_smoothing: float = Field(
        0.05, ge=0, lt=1, description="keeps it from being overconfident on its training data"
    )
    threads: int = Field(1, ge=1, description="CPU threads")


class ClassifierRewardSettings(Settings):
    """Reward gamma q_class(x), or gamma max_i q_i(x), q the classifier's probabilities."""

    kind: Literal["classifier"]
    name: str = Field("reward", pattern=r"^[A-Za-z_]\w*$", description="name of the reward's column")
    weight: float | None = Field(None, ge=0, le=1, description="share of slates picked by this reward")
    score: Literal["probability", "confidence"] = Field(
        "probability", description="probability of one class, or the largest probability"
    )
    label: str | None = Field(None, description="the class, where score is 'probability'")
    gamma: float = Field(1.0, gt=0, description="reward of probability one")

    @model_validator(mode="after")
    def _label_where_needed(self) -> Self:
        if (self.score == "probability") != (self.label is not None):
            raise ValueError("give label with score = 'probability', and only then")
        return self


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    Attributes:
        settings: see :class:`ClassifierSettings`.
        labels: the classes' names, in order.
        mean, scale: inputs are standardised with these.
        weights: the network's weights by name.
        held_out_accuracy: share of held-out real samples that it labels correctly.
    """

    settings: ClassifierSettings
    labels: tuple[str, ...]
    mean: Samples
    scale: float
    weights: dict[str, Any] = field(repr=False)
    held_out_accuracy: float = math.nan

    @classmethod
    def train(cls, data: Dataset, settings: ClassifierSettings, *, rng: Stream) -> Self:
        """Train on the real data's training part and score on its held-out part."""
        torch = import_torch()
        labels, targets = np.unique(data.labels, return_inverse=True)
        flat = data.train.reshape(len(data.train), -1)
        mean, scale = flat.mean(0), float(flat.std())
        torch_rng = torch.Generator().manual_seed(rng.integer())
        with threads(settings.threads):
            network = _network(flat.shape[1], settings.width, len(labels), rng.integer())
            inputs = torch.from_numpy((flat - mean) / np.float32(scale))
            weights = _fit(network, inputs, torch.from_numpy(targets), settings, torch_rng)
        trained = cls(settings, tuple(str(v) for v in labels), mean, scale, weights)
        correct = trained.predict(data.held_out) == data.held_out_labels
        return cls(settings, trained.labels, mean, scale, weights, float(correct.mean()))

    def probabilities(self, samples: Samples) -> FloatArray:
        """Return q, shape (n, classes)."""
        torch = import_torch()
        return self._apply(samples, len(self.labels), lambda net, x: torch.softmax(net(x).double(), dim=1))

    def features(self, samples: Samples) -> FloatArray:
        """Return the activations of the last hidden layer, shape (n, width)."""
        return self._apply(samples, self.settings.width, lambda net, x: net[:-1](x).double())

    def _apply(self, samples: Samples, size: int, function: Callable[[Any, Any], Any]) -> FloatArray:
        """Return function(network, inputs) for all samples, (n, size)."""
        torch = import_torch()
        flat = samples.reshape(len(samples), -1)
        out = np.empty((len(flat), size))
        with threads(self.settings.threads), torch.inference_mode():
            network = _network(flat.shape[1], self.settings.width, len(self.labels), 0)
            network.load_state_dict(self.weights)
            for start in range(0, len(flat), CHUNK):
                rows = slice(start, start + CHUNK)
                inputs = torch.from_numpy((flat[rows] - self.mean) / np.float32(self.scale))
                out[rows] = function(network.eval(), inputs).numpy()
        return out

    def predict(self, samples: Samples) -> NDArray[Any]:
        """Return the most probable label of each sample, shape (n,)."""
        return np.asarray(np.array(self.labels)[self.probabilities(samples).argmax(axis=1)])

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return one label a sample: a classifier is a grouping."""
        return self.predict(samples)

    def save(self, folder: Path) -> None:
        """Write ``classifier.safetensors`` and ``classifier.json``."""
        from safetensors.torch import save_file

        torch = import_torch()
        save_file(self.weights | {"mean": torch.from_numpy(self.mean)}, folder / "classifier.safetensors")
        facts = {
            "settings": self.settings.model_dump(),
            "labels": list(self.labels),
            "scale": self.scale,
            "held_out_accuracy": self.held_out_accuracy,
        }
        (folder / "classifier.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        from safetensors.torch import load_file

        facts = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "classifier.safetensors")
        mean = weights.pop("mean").numpy()
        return cls(
            ClassifierSettings(**facts["settings"]),
            tuple(facts["labels"]),
            mean,
            facts["scale"],
            weights,
            facts["held_out_accuracy"],
        )


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
        probabilities = self.classifier.probabilities(samples)
        if self.settings.label is None:
            chosen = probabilities.max(axis=1)
        else:
            chosen = probabilities[:, self.classifier.labels.index(self.settings.label)]
        return np.asarray(self.settings.gamma * chosen)


def _network(inputs: int, width: int, classes: int, seed: int) -> Sequential:
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, classes)
        )


def _fit(
    network: Sequential, inputs: Any, targets: Any, settings: ClassifierSettings, rng: Any
) -> dict[str, Any]:
    """Train in place; return the weights."""
    import torch
    from torch.nn.functional import cross_entropy

    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    for _ in range(settings.steps):
        rows = torch.randint(len(inputs), (settings.batch,), generator=rng)
        batch = inputs[rows]
        batch = batch + settings.noise * torch.randn(batch.shape, generator=rng)
        loss = cross_entropy(network(batch), targets[rows], label_smoothing=settings.label_smoothing)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
    return {name: value.detach() for name, value in network.state_dict().items()}
