"""The part of a run that is the same in all rounds: data, contexts, rewards, groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.components.data.dataset import Dataset
from recurate.components.protocols import Copied, Grouping, Prepared, Reward
from recurate.components.registry import build_groups, build_reward
from recurate.components.rewards.classifier import Classifier
from recurate.core.errors import InputError
from recurate.core.fingerprints import Fingerprint, of_function
from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates
from recurate.log.samples import Samples
from recurate.loop.config import SEAMS, Config
from recurate.loop.contexts import read_contexts
from recurate.loop.sample_metrics import Watch, watch
from recurate.metrics.partition import Cells, partition
from recurate.rules.noise import NOISES
from recurate.theory.setting import Setting


@dataclass(frozen=True)
class Judges:
    """What scores the samples of a run.

    Attributes:
        rewards: Reward functions by name.
        tracked: Functions that are measured and never pick, by name.
        grouping: Function that returns the groups of samples, or None.
    """

    rewards: dict[str, Reward]
    tracked: dict[str, Reward]
    grouping: Grouping | None

    def score(self, samples: Samples, contexts: NDArray[Any] | None = None) -> Candidates:
        """Return samples with their rewards, tracked values and groups."""
        matrix = np.column_stack([reward(samples, contexts) for reward in self.rewards.values()])
        groups = None if self.grouping is None else self.grouping(samples, contexts).astype(str)
        values = {name: reward(samples, contexts) for name, reward in self.tracked.items()}
        return Candidates(matrix, tuple(self.rewards), groups, values, contexts)


@dataclass(frozen=True)
class Environment(Judges):
    """Configuration, data, contexts, rewards and groups of a run.

    Attributes:
        config: Configuration of the run.
        dataset: Real data, or None.
        contexts: Contexts (prompts) that slates draw from, shape (n,), or None for unconditional models.
        classifier: Classifier trained on the real data, or None if nothing needs one.
        reference: Real training data as candidates, a sample of the law p_ref, or None without data.
        cells: Partition of reward space behind ``kl_to_reference``, or None.
        watch: Sample metrics of every round.
    """

    config: Config
    dataset: Dataset | None
    contexts: NDArray[Any] | None
    classifier: Classifier | None
    reference: Candidates | None
    cells: Cells | None
    watch: Watch

    @cached_property
    def setting(self) -> Setting:
        """Setting of the forecast."""
        return setting_of(self.config)

    def without_selection(self) -> Environment:
        """Return the environment of the control arm: slates of one candidate, which is always picked."""
        return replace(self, config=self.config.without_selection())

    def facts(self) -> dict[str, Any]:
        """Return facts about the data, the classifier and the learned rewards, by name."""
        found: dict[str, Any] = {}
        if self.dataset is not None:
            found |= {"real_train": len(self.dataset.train), "real_held_out": len(self.dataset.held_out)}
        if self.contexts is not None:
            found["contexts"] = len(self.contexts)
        if self.classifier is not None:
            found |= self.classifier.facts()
        for name, reward in (self.rewards | self.tracked).items():
            if isinstance(reward, Copied):
                found |= {f"{name}_{fact}": value for fact, value in reward.facts().items()}
        return found

    def real_facts(self) -> dict[str, float]:
        """Return the sample metrics of real data, by name, with which those of candidates are compared."""
        if self.dataset is None or self.reference is None:
            return {}
        stream = Stream(self.config.seed).at("baseline")
        return self.watch.baseline(self.dataset.train, self.reference.rewards, stream)

    def save(self, folder: Path) -> None:
        """Write everything that was trained or read, so that a run needs no other folder than its own."""
        if self.classifier is not None:
            self.classifier.save(folder)
        for number, reward in enumerate((*self.rewards.values(), *self.tracked.values())):
            if isinstance(reward, Copied):
                reward.save(_kept(folder, number))


def setting_of(config: Config) -> Setting:
    """Return the setting of the forecast of a run."""
    return Setting(
        rule=config.selection.rule(),
        weights=config.weights,
        real_fraction=config.retraining.real_fraction,
        rounds=config.rounds,
        # A verifier accepts another number of candidates in every round.
        picks=None if config.selection.threshold is not None else config.selection.picks,
        accumulate=config.retraining.mode == "accumulate",
    )


def prepare(config: Config, folder: Path | None = None) -> Environment:
    """Load the data, train the classifier and read learned rewards.

    Args:
        config: Configuration of the run.
        folder: Folder that :meth:`Environment.save` wrote. If it is given, nothing is trained, and learned
            rewards are read from it.

    Raises:
        InputError: If the configuration does not fit the data, or a saved file is damaged.
    """
    dataset, classifier, judges = prepare_judges(config, folder)
    contexts = _all_contexts(config, dataset)
    if contexts is not None and config.selection.threshold is not None:
        raise InputError(
            "a threshold applies to rewards themselves, which forecasts within contexts do not know",
            got=f"selection.threshold = {config.selection.threshold:g}, with contexts",
            remedy="leave out the threshold, or the contexts",
        )
    reference, cells = None, None
    if dataset is not None:
        reference = judges.score(dataset.train, dataset.contexts)
        cells = partition(reference.rewards) if contexts is None else None
    known_rewards = None if reference is None or contexts is not None else reference.rewards
    metrics = watch(config.measures, dataset, classifier, known_rewards)
    return Environment(
        **vars(judges),
        config=config,
        dataset=dataset,
        contexts=contexts,
        classifier=classifier,
        reference=reference,
        cells=cells,
        watch=metrics,
    )


def prepare_judges(
    config: Config, folder: Path | None = None
) -> tuple[Dataset | None, Classifier | None, Judges]:
    """Return the real data, the classifier, and what scores samples; see :func:`prepare`."""
    stream = Stream(config.seed)
    dataset = None if config.data is None else config.data.load(stream.at("data"))
    classifier = _classifier(config, dataset, folder, stream.at("classifier"))
    known = Prepared(config.data, dataset, classifier, parted=config.parts > 1)
    made = {
        s.name: build_reward(s, replace(known, kept=None if folder is None else _kept(folder, number)))
        for number, s in enumerate((*config.rewards, *config.tracked))
    }
    rewards = {s.name: made[s.name] for s in config.rewards}
    tracked = {s.name: made[s.name] for s in config.tracked}
    grouping = None if config.groups is None else build_groups(config.groups, known)
    return dataset, classifier, Judges(rewards, tracked, grouping)


def _classifier(
    config: Config, dataset: Dataset | None, folder: Path | None, rng: Stream
) -> Classifier | None:
    if not config.needs_classifier:
        return None
    if folder is not None:
        return Classifier.load(folder)
    if config.classifier.folder is not None:
        known = Classifier.load(config.classifier.folder)
        known = replace(
            known, settings=known.settings.model_copy(update={"threads": config.classifier.threads})
        )
        return known if dataset is None else known.scored(dataset)
    assert dataset is not None  # the configuration checks it
    if not dataset.labelled:
        raise InputError(
            "a classifier needs real data with labels",
            got="no labels",
            remedy="name data.label, or use another reward (kind = 'module:name' takes any function)",
        )
    return Classifier.train(dataset, config.classifier, rng=rng)


def _all_contexts(config: Config, dataset: Dataset | None) -> NDArray[Any] | None:
    """Return the contexts that slates draw from: those of the file, or of the real data."""
    known = None if dataset is None else dataset.contexts
    if config.contexts is None:
        return None if known is None else np.asarray(known, object)
    if dataset is not None and known is None:
        raise InputError(
            "with contexts, the real data need contexts too", got="no data.context", remedy="name its column"
        )
    return read_contexts(config.contexts)


def rests_on(config: Config) -> list[Fingerprint]:
    """Return the fingerprints of everything outside the run that a configuration names.

    Every table of settings lists its own files, see :meth:`recurate.core.settings.Settings.rests_on`; for
    plug-ins, these are the sources of their modules. Report sections are left out, because they do not
    change the run.
    """
    tables = ("data", "contexts", "generator", "classifier", "groups", "measures")
    parts = {name: getattr(config, name) for name in tables}
    parts |= {f"{table}.{s.name}": s for table in ("rewards", "tracked") for s in getattr(config, table)}
    parts = {name: settings for name, settings in parts.items() if settings is not None}
    found = [f for name, settings in parts.items() for f in settings.rests_on(name)]
    origins = {"selection.noise": NOISES.origin(config.selection.noise)}
    for name, settings in ({f"alarms.{i}": a for i, a in enumerate(config.alarms)} | parts).items():
        seam = SEAMS.get(name.partition(".")[0])
        origins[name] = None if seam is None else seam.origin(settings.kind)
    for name, origin in origins.items():
        found += [] if origin is None else of_function(name, origin)
    return list(dict.fromkeys(found))


def _kept(folder: Path, number: int) -> Path:
    """Return the folder of a learned reward; it is numbered, because names may differ in case alone."""
    return folder / f"reward-{number}"
