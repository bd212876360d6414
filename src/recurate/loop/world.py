"""What stays the same in all rounds of a run: data, rewards, groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.candidates import Candidates
from recurate.data import Dataset, Gaussians
from recurate.loop.config import Config, RewardSettings
from recurate.measures import Cells, partition
from recurate.rewards.classifier import Classifier, ClassifierReward, ClassifierRewardSettings
from recurate.rewards.geometry import DistanceReward, NearestCentre
from recurate.rewards.learned import LearnedReward, LearnedRewardSettings, ScaledReward
from recurate.rewards.protocol import Grouping, Reward, Samples
from recurate.seeds import Stream


@dataclass(frozen=True)
class World:
    """Data, rewards and groups of a run, and the reference they are compared with.

    Attributes:
        dataset: the real data.
        rewards: reward functions by name.
        grouping: group of a sample, or None.
        classifier: trained on the real data, or None if nothing needs it.
        reference: the real training data as candidates: the law p_ref.
        cells: partition of reward space behind ``kl_to_reference``.
    """

    dataset: Dataset
    rewards: dict[str, Reward]
    grouping: Grouping | None
    classifier: Classifier | None
    reference: Candidates
    cells: Cells

    def score(self, samples: Samples) -> Candidates:
        """Return samples with their rewards and groups."""
        return _score(samples, self.rewards, self.grouping)

    def facts(self) -> dict[str, Any]:
        """Return what a reader of the run should know of it."""
        found: dict[str, Any] = {
            "real_train": len(self.dataset.train),
            "real_held_out": len(self.dataset.held_out),
        }
        if self.classifier is not None:
            found["classifier_held_out_accuracy"] = self.classifier.held_out_accuracy
        for name, reward in self.rewards.items():
            if isinstance(reward, ScaledReward):
                found[f"{name}_learned_from_picks"] = reward.learned.facts.summary()
        return found


def prepare(config: Config, folder: Path | None = None) -> World:
    """Load the data, train the classifier and read learned rewards.

    Args:
        config: of the run.
        folder: what :func:`save` wrote; nothing is trained then, and nothing read from elsewhere.

    Raises:
        InputError: something in the configuration does not fit the data, or a saved file is damaged.
    """
    stream = Stream(config.seed)
    dataset = config.data.load(stream.at("data"))
    classifier = None
    if config.needs_classifier:
        classifier = (
            Classifier.load(folder)
            if folder is not None
            else Classifier.train(dataset, config.classifier, rng=stream.at("classifier"))
        )
    rewards = {
        settings.name: _reward(settings, classifier, None if folder is None else _kept(folder, number))
        for number, settings in enumerate(config.rewards)
    }
    grouping = _grouping(config, classifier)
    reference = _score(dataset.train, rewards, grouping)
    return World(dataset, rewards, grouping, classifier, reference, partition(reference.rewards))


def save(world: World, folder: Path) -> None:
    """Write what :func:`prepare` trained or read, so that a run needs no other folder than its own."""
    if world.classifier is not None:
        world.classifier.save(folder)
    for number, reward in enumerate(world.rewards.values()):
        if isinstance(reward, ScaledReward):
            reward.learned.save(_kept(folder, number))


def _kept(folder: Path, number: int) -> Path:
    """Return where a learned reward is kept: by number, because names may differ in case alone."""
    return folder / f"reward-{number}"


def _reward(settings: RewardSettings, classifier: Classifier | None, kept: Path | None) -> Reward:
    if isinstance(settings, ClassifierRewardSettings):
        assert classifier is not None  # needs_classifier saw this reward
        return ClassifierReward(settings, classifier)
    if isinstance(settings, LearnedRewardSettings):
        return ScaledReward(settings, LearnedReward.load(kept or settings.folder))
    return DistanceReward(settings)


def _grouping(config: Config, classifier: Classifier | None) -> Grouping | None:
    if config.groups is None:
        return None
    if config.groups.kind == "classifier":
        return classifier
    assert isinstance(config.data, Gaussians)  # the configuration checks it
    return NearestCentre(config.data.centres())


def _score(samples: Samples, rewards: dict[str, Reward], grouping: Grouping | None) -> Candidates:
    matrix = np.column_stack([reward(samples) for reward in rewards.values()])
    groups: NDArray[Any] | None = None if grouping is None else grouping(samples).astype(str)
    return Candidates(matrix, tuple(rewards), groups)
