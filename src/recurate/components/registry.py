"""Registry of data, generators, rewards, groups and report sections by name, with the settings of each kind.

A kind is built in, an entry point of another package, or ``module:name`` (:mod:`recurate.core.plugins`). A
run records the names of its kinds, so that its saved models can be loaded by kind. The other seams are beside
their kinds: noises in :mod:`recurate.rules.noise`, alarms in :mod:`recurate.loop.alarms.raising`, engines in
:mod:`recurate.engines`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from recurate.components import plugged
from recurate.components.data.digits import Digits
from recurate.components.data.images import ImageData
from recurate.components.data.queries import Queries
from recurate.components.data.synthetic import Gaussians, Moons, Uniform
from recurate.components.data.table import TableData
from recurate.components.generators.diffusion import DiffusionSettings
from recurate.components.generators.external import ExternalSettings
from recurate.components.generators.flow import FlowSettings
from recurate.components.generators.kde import KernelSettings
from recurate.components.generators.language import LanguageSettings
from recurate.components.generators.mixture import MixtureSettings
from recurate.components.protocols import (
    Generator,
    GeneratorSettings,
    Grouping,
    GroupSettings,
    Prepared,
    Reward,
    RewardSettings,
)
from recurate.components.rewards.classifier import ClassifierRewardSettings
from recurate.components.rewards.colour import ColourSettings
from recurate.components.rewards.command import CommandSettings
from recurate.components.rewards.distance import DistanceSettings
from recurate.components.rewards.groups import (
    ClassifierGroupSettings,
    LengthGroupSettings,
    NearestSettings,
)
from recurate.components.rewards.judge import JudgeSettings
from recurate.components.rewards.learned import LearnedRewardSettings
from recurate.components.rewards.scored import ModelRewardSettings, SimilarSettings
from recurate.components.rewards.texts import LengthSettings, MatchSettings
from recurate.core.errors import InputError
from recurate.core.plugins import NAME, Seam, call
from recurate.core.settings import Settings

DATA = Seam(
    "data",
    "kind of data",
    {
        "gaussians": Gaussians,
        "moons": Moons,
        "uniform": Uniform,
        "digits": Digits,
        "table": TableData,
        "images": ImageData,
        "queries": Queries,
    },
    plugged.PluggedDataSettings,
)
GENERATORS = Seam(
    "generators",
    "generator",
    {
        "flow": FlowSettings,
        "diffusion": DiffusionSettings,
        "mixture": MixtureSettings,
        "kde": KernelSettings,
        "external": ExternalSettings,
        "language": LanguageSettings,
    },
    plugged.PluggedGeneratorSettings,
    usual="flow",
)
REWARDS = Seam(
    "rewards",
    "reward",
    {
        "distance": DistanceSettings,
        "classifier": ClassifierRewardSettings,
        "colour": ColourSettings,
        "learned": LearnedRewardSettings,
        "command": CommandSettings,
        "length": LengthSettings,
        "match": MatchSettings,
        "model": ModelRewardSettings,
        "similar": SimilarSettings,
        "judge": JudgeSettings,
    },
    plugged.PluggedRewardSettings,
)
GROUPS = Seam(
    "groups",
    "kind of groups",
    {"nearest": NearestSettings, "classifier": ClassifierGroupSettings, "length": LengthGroupSettings},
    plugged.PluggedGroupSettings,
)
SECTIONS = Seam("sections", "report section", {})  # functions of a RunFolder


def settings_class(seam: Seam, kind: object) -> type[Settings]:
    """Return the class of the settings of a kind.

    Raises:
        InputError: If there is no such kind.
    """
    if not isinstance(kind, str):
        raise InputError(
            f"a {seam.what} needs a kind",
            got="no kind" if kind is None else repr(kind),
            remedy=f"use one of: {', '.join(seam.built_in)}; or 'module:name' (recurate docs extending)",
        )
    found = seam.find(kind)
    if isinstance(found, type) and issubclass(found, Settings):
        return found
    return plugged.derived(seam.base, kind, found, seam.base.given)


def settings_of(seam: Seam, values: Any) -> Any:
    """Validate a table of a configuration as the settings of its kind.

    Raises:
        InputError: If there is no such kind.
        ValueError: If the values are invalid (pydantic's ValidationError, with their locations).
    """
    if isinstance(values, Settings):
        return values
    if not isinstance(values, Mapping):
        raise ValueError(f"must be a table with a kind, not {values!r}")
    kind = values.get("kind", seam.usual or None)
    return settings_class(seam, kind).model_validate({"kind": kind, **values})


def first_model(
    settings: GeneratorSettings, workspace: Path | None = None, logs: Path | None = None
) -> Generator:
    """Return the model before round 0, with checks of its answers if it is a plug-in.

    See :meth:`GeneratorSettings.build`.
    """
    return _checked(settings, lambda: settings.build(workspace, logs))


def load_model(
    settings: GeneratorSettings, folder: Path, workspace: Path | None = None, logs: Path | None = None
) -> Generator:
    """Return the model that was saved in a folder, with checks of its answers if it is a plug-in.

    See :meth:`GeneratorSettings.load`.
    """
    return _checked(settings, lambda: settings.load(folder, workspace, logs))


def _checked(settings: GeneratorSettings, build: Callable[[], Generator]) -> Generator:
    if settings.kind in GENERATORS.built_in:
        return build()
    return plugged.PluggedGenerator(settings.kind, call(settings.kind, build))


def build_reward(settings: RewardSettings, prepared: Prepared) -> Reward:
    """Return the reward that the settings define; a plug-in is first tried on a few real samples."""
    if settings.kind in REWARDS.built_in:
        return settings.build(prepared)
    made = call(settings.kind, settings.build, prepared)
    return plugged.tried(plugged.PluggedReward(settings.kind, made, settings.gamma), prepared)


def build_groups(settings: GroupSettings, prepared: Prepared) -> Grouping:
    """Return the grouping that the settings define; a plug-in is first tried on a few real samples."""
    if settings.kind in GROUPS.built_in:
        return settings.build(prepared)
    return plugged.tried(
        plugged.PluggedGroups(settings.kind, call(settings.kind, settings.build, prepared)), prepared
    )


def code_of(settings: Any) -> Iterator[str]:
    """Yield the imports, programs and servers that a configuration, or a part of it, names."""
    if isinstance(settings, dict):
        if settings.get("kind") in ("command", "external"):
            yield f"kind = {settings['kind']!r}, a program"
        if settings.get("load") == "command":
            yield f"load = 'command', a program: {' '.join(map(str, settings.get('command', [])))}"
        if isinstance(settings.get("url"), str):
            key = settings.get("key_env")
            yield f"url = {settings['url']!r}, a server" + (f", which gets the variable {key}" if key else "")
        settings = list(settings.values())
    if isinstance(settings, list):
        for part in settings:
            yield from code_of(part)
    elif isinstance(settings, str) and NAME.fullmatch(settings):
        yield settings
