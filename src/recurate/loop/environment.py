"""What stays the same in all rounds of a run: data, contexts, rewards, groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.components.data.dataset import Dataset
from recurate.components.protocols import Copied, GeneratorSettings, Grouping, Prepared, Reward
from recurate.components.registry import DATA, GENERATORS, GROUPS, REWARDS, build_groups, build_reward
from recurate.components.rewards.classifier import Classifier
from recurate.core.errors import InputError
from recurate.core.fingerprints import Fingerprint, of_function
from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates
from recurate.log.samples import Samples, is_text
from recurate.loop.alarms.raising import ALARMS
from recurate.loop.config import Config, Selection
from recurate.loop.contexts import read_contexts
from recurate.loop.mixing import Retraining
from recurate.loop.sample_metrics import Watch, watch
from recurate.metrics.partition import Cells, partition
from recurate.rules.noise import NOISES
from recurate.theory.setting import Setting


@dataclass(frozen=True)
class Environment:
    """Data, contexts, rewards and groups of a run, and the reference they are compared with.

    Attributes:
        dataset: the real data, or None.
        contexts: what slates' contexts are drawn from, or None for unconditional models.
        rewards: reward functions by name.
        tracked: functions that are measured and not picked by, by name.
        grouping: group of a sample, or None.
        classifier: trained on the real data, or None if nothing needs it.
        reference: the real training data as candidates: the law p_ref; None without data.
        cells: partition of reward space behind ``kl_to_reference``, or None.
        watch: what is measured of the samples every round.
        seed: root of all randomness.
        generator: settings of the model.
        selection: how candidates are shown and picked.
        retraining: what training sets are made of.
        order: how contexts are drawn.
        setting: the loop as the theory sees it.
        control: whether a loop without selection is run beside it.
    """

    dataset: Dataset | None
    contexts: NDArray[Any] | None
    rewards: dict[str, Reward]
    tracked: dict[str, Reward]
    grouping: Grouping | None
    classifier: Classifier | None
    reference: Candidates | None
    cells: Cells | None
    watch: Watch
    seed: int
    generator: GeneratorSettings
    selection: Selection
    retraining: Retraining
    order: str
    setting: Setting
    control: bool

    def score(self, samples: Samples, contexts: NDArray[Any] | None = None) -> Candidates:
        """Return samples with their rewards, tracked values and groups."""
        return _score(samples, contexts, self.rewards, self.tracked, self.grouping)

    def alone(self) -> Environment:
        """Return the same for slates of one candidate, which is taken: the control arm."""
        return replace(self, selection=self.selection.model_copy(update={"k": 1}))

    def facts(self) -> dict[str, Any]:
        """Return what a reader of the run should know of it."""
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


def real_facts(world: Environment, config: Config) -> dict[str, float]:
    """Return what the samples' measures are for real data."""
    if world.dataset is None or world.reference is None:
        return {}
    stream = Stream(config.seed).at("baseline")
    return world.watch.baseline(world.dataset.train, world.reference.rewards, stream)


def prepare(config: Config, folder: Path | None = None) -> Environment:
    """Load the data, train the classifier and read learned rewards.

    Args:
        config: of the run.
        folder: what :func:`save` wrote; nothing is trained then, and learned rewards are read from there.

    Raises:
        InputError: something in the configuration does not fit the data, or a saved file is damaged.
    """
    stream = Stream(config.seed)
    dataset = None if config.data is None else config.data.load(stream.at("data"))
    classifier = _classifier(config, dataset, folder, stream.at("classifier"))
    known = Prepared(config.data, dataset, classifier)
    made = {
        s.name: build_reward(s, replace(known, kept=None if folder is None else _kept(folder, number)))
        for number, s in enumerate((*config.rewards, *config.tracked))
    }
    rewards = {s.name: made[s.name] for s in config.rewards}
    tracked = {s.name: made[s.name] for s in config.tracked}
    grouping = None if config.groups is None else build_groups(config.groups, known)
    contexts = _all_contexts(config, dataset)
    reference, cells = None, None
    if dataset is not None:
        reference = _score(dataset.train, dataset.contexts, rewards, tracked, grouping)
        cells = partition(reference.rewards) if contexts is None else None
    seen = watch(
        config.measures,
        None if dataset is None else dataset.train,
        None if dataset is None else dataset.held_out,
        classifier,
        None if reference is None or contexts is not None else reference.rewards,
    )
    return Environment(
        dataset,
        contexts,
        rewards,
        tracked,
        grouping,
        classifier,
        reference,
        cells,
        seen,
        seed=config.seed,
        generator=config.generator,
        selection=config.selection,
        retraining=config.retraining,
        order="fresh" if config.contexts is None else config.contexts.order,
        setting=setting(config),
        control=config.control,
    )


def setting(config: Config) -> Setting:
    """Return what the forecast needs to know of a configuration."""
    return Setting(
        rule=config.selection.rule(),
        weights=config.weights,
        real_fraction=config.retraining.real_fraction,
        rounds=config.rounds,
        picks=config.selection.picks,
        accumulate=config.retraining.mode == "accumulate",
    )


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
    if is_text(dataset.train) or not dataset.labelled:
        raise InputError(
            "a classifier needs numbers with labels",
            got="texts" if is_text(dataset.train) else "no labels",
            remedy="name data.label, or use another reward (kind = 'module:name' takes any function)",
        )
    return Classifier.train(dataset, config.classifier, rng=rng)


def _all_contexts(config: Config, dataset: Dataset | None) -> NDArray[Any] | None:
    """Return what slates' contexts are drawn from: those of the file, or of the real data."""
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

    Every table of settings answers for itself, see :meth:`recurate.core.settings.Settings.rests_on`; of
    plug-ins the sources of their modules count. Report sections do not: they change nothing of the run.
    """
    tables = ("data", "contexts", "generator", "classifier", "groups", "measures")
    parts = {name: getattr(config, name) for name in tables}
    parts |= {f"rewards.{s.name}": s for s in config.rewards}
    parts |= {f"tracked.{s.name}": s for s in config.tracked}
    found = [f for name, settings in parts.items() if settings is not None for f in settings.rests_on(name)]
    seams = {"data": DATA, "generator": GENERATORS, "groups": GROUPS, "rewards": REWARDS, "tracked": REWARDS}
    named = [
        ("selection.noise", NOISES, config.selection.noise),
        *((f"alarms.{i}", ALARMS, alarm.kind) for i, alarm in enumerate(config.alarms)),
        *(
            (name, seams[name.partition(".")[0]], settings.kind)
            for name, settings in parts.items()
            if settings is not None and name.partition(".")[0] in seams
        ),
    ]
    for name, seam, kind in named:
        origin = seam.origin(kind)
        found += [] if origin is None else of_function(name, origin)
    return list(dict.fromkeys(found))


def save(world: Environment, folder: Path) -> None:
    """Write what :func:`prepare` trained or read, so that a run needs no other folder than its own."""
    if world.classifier is not None:
        world.classifier.save(folder)
    for number, reward in enumerate((*world.rewards.values(), *world.tracked.values())):
        if isinstance(reward, Copied):
            reward.save(_kept(folder, number))


def _kept(folder: Path, number: int) -> Path:
    """Return where a learned reward is kept: by number, because names may differ in case alone."""
    return folder / f"reward-{number}"


def _score(
    samples: Samples,
    contexts: NDArray[Any] | None,
    rewards: dict[str, Reward],
    tracked: dict[str, Reward],
    grouping: Grouping | None,
) -> Candidates:
    matrix = np.column_stack([reward(samples, contexts) for reward in rewards.values()])
    groups: NDArray[Any] | None = None if grouping is None else grouping(samples, contexts).astype(str)
    values = {name: reward(samples, contexts) for name, reward in tracked.items()}
    return Candidates(matrix, tuple(rewards), groups, values, contexts)
