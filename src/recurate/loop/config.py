"""The configuration of a run: one TOML file, every key checked."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, ValidationError, model_validator

from recurate.components.data.kinds import DataSettings
from recurate.components.data.synthetic import Gaussians
from recurate.components.generators.external import ExternalSettings
from recurate.components.generators.flow import FlowSettings
from recurate.components.registry import GeneratorSettings
from recurate.components.rewards.classifier import ClassifierRewardSettings, ClassifierSettings
from recurate.components.rewards.colour import ColourSettings
from recurate.components.rewards.command import CommandSettings
from recurate.components.rewards.distance import DistanceSettings
from recurate.components.rewards.imported import NAME, ImportedSettings
from recurate.components.rewards.learned import LearnedRewardSettings
from recurate.core.errors import InputError, nearest
from recurate.core.fingerprints import Fingerprint, of_function
from recurate.core.settings import Settings
from recurate.log.schema import COLUMNS
from recurate.loop.alarms.raising import AlarmSettings
from recurate.loop.contexts import ContextSettings
from recurate.loop.mixing import Retraining
from recurate.loop.sample_metrics import MeasureSettings
from recurate.rules import Rule, noise_named

LISTS = ("rewards", "tracked", "alarms")
TAGGED = {"data": 1, "generator": 1, **dict.fromkeys(LISTS, 2)}  # unions, and how deep they lie


class Selection(Settings):
    """How candidates are shown and picked."""

    k: int = Field(4, ge=1, description="slate size: one of k candidates is picked")
    temperature: float = Field(1.0, gt=0, description="divides the rewards in the pick")
    noise: Literal["gumbel", "gaussian", "none"] = Field(
        "gumbel", description="added to reward / temperature: Luce choice, Thurstone, or none (best of k)"
    )
    lapse: float = Field(0.0, ge=0, le=1, description="share of slates picked from at random")
    picks: int = Field(2000, ge=1, description="picks that enter each retraining set")
    slates: int | None = Field(None, ge=1, description="slates shown a round; as many as picks if absent")

    @model_validator(mode="after")
    def _enough_slates(self) -> Self:
        if self.slates is not None and self.picks > self.slates:
            raise ValueError(f"picks = {self.picks} is more than slates = {self.slates}: raise slates")
        return self

    def rule(self) -> Rule:
        """Return the rule by which one of a slate is picked."""
        return Rule(self.k, self.temperature, noise_named(self.noise), 1, self.lapse)

    @property
    def shown(self) -> int:
        """Slates shown a round."""
        return self.slates or self.picks


class Groups(Settings):
    """Which group each sample belongs to, for shares and entropy."""

    kind: Literal["nearest", "classifier", "import"] = Field(
        description="nearest centre of the data's Gaussians, the classifier's label, or a function's"
    )
    function: str | None = Field(
        None, pattern=NAME, description="module:name of a function of the samples, where kind is 'import'"
    )

    @model_validator(mode="after")
    def _function_where_needed(self) -> Self:
        if (self.kind == "import") != (self.function is not None):
            raise ValueError("give function with kind = 'import', and only then")
        return self

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the sources of the function's module."""
        return [] if self.function is None else of_function(serves, self.function)


RewardSettings = Annotated[
    DistanceSettings
    | ClassifierRewardSettings
    | ColourSettings
    | LearnedRewardSettings
    | ImportedSettings
    | CommandSettings,
    Field(discriminator="kind"),
]


class Config(Settings):
    """A whole run."""

    seed: int = Field(0, ge=0, description="root of all randomness")
    rounds: int = Field(6, ge=1, le=100_000, description="rounds of curation and retraining")
    control: bool = Field(
        False, description="whether a second loop without selection is run beside it, for comparison"
    )
    data: DataSettings | None = Field(
        None, description="the real data; only an external generator can do without"
    )
    contexts: ContextSettings | None = None
    generator: GeneratorSettings = FlowSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    rewards: tuple[RewardSettings, ...] = Field(min_length=1)
    tracked: tuple[RewardSettings, ...] = Field((), description="measured like rewards, and never picked by")
    groups: Groups | None = None
    selection: Selection = Selection()
    retraining: Retraining = Retraining()
    measures: MeasureSettings = MeasureSettings()
    alarms: tuple[AlarmSettings, ...] = ()
    attempts: int = Field(
        2, ge=1, le=100, description="how often a round is played at most if an alarm rolls it back each time"
    )

    @model_validator(mode="before")
    @classmethod
    def _flow_unless_said(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("generator"), dict):
            return values | {"generator": {"kind": "flow"} | values["generator"]}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [reward.name for reward in (*self.rewards, *self.tracked)]
        if len(set(names)) < len(names):
            raise ValueError(f"rewards need different names, and got {', '.join(names)}")
        taken = set(names) & {*COLUMNS, "group"}
        if taken:
            raise ValueError(f"a reward cannot be called {', '.join(taken)}: the log has such a column")
        if any(reward.weight is not None for reward in self.tracked):
            raise ValueError("what is tracked is not picked by, and has no weight")
        given = [reward.weight for reward in self.rewards if reward.weight is not None]
        if given and len(given) < len(names):
            raise ValueError("give every reward a weight, or none")
        if given and not math.isclose(sum(given), 1.0, abs_tol=2e-6):
            raise ValueError(f"the rewards' weights sum to {sum(given):g} and must sum to 1")
        by_centre = self.groups is not None and self.groups.kind == "nearest"
        if by_centre and not isinstance(self.data, Gaussians):
            raise ValueError("groups.kind = 'nearest' needs data.kind = 'gaussians'")
        return self

    @model_validator(mode="after")
    def _data_where_needed(self) -> Self:
        external = isinstance(self.generator, ExternalSettings)
        if self.contexts is not None and not external:
            raise ValueError("contexts need a generator that knows prompts: generator.kind = 'external'")
        if self.data is not None:
            return self
        if not isinstance(self.generator, ExternalSettings) or self.generator.start is None:
            raise ValueError("without [data] there must be an external generator with a start checkpoint")
        if self.generator.fit_first:
            raise ValueError("without [data] nothing can be fitted first: set generator.fit_first = false")
        if self.retraining.real_fraction or self.retraining.mode == "accumulate":
            raise ValueError(
                "without [data] no real data can be mixed in: real_fraction = 0, mode = 'replace'"
            )
        if self.needs_classifier and self.classifier.folder is None:
            raise ValueError("without [data] no classifier can be trained: name one with classifier.folder")
        return self

    @property
    def weights(self) -> tuple[float, ...]:
        """Share of slates picked by each reward; they sum to one."""
        given = np.array([1.0 if r.weight is None else r.weight for r in self.rewards])
        return tuple((given / given.sum()).tolist())

    @property
    def needs_classifier(self) -> bool:
        """Whether a reward or the groups use the classifier, or one that is trained already is named."""
        by_reward = any(isinstance(r, ClassifierRewardSettings) for r in (*self.rewards, *self.tracked))
        by_groups = self.groups is not None and self.groups.kind == "classifier"
        return by_reward or by_groups or self.classifier.folder is not None


def read_config(path: Path | str) -> Config:
    """Read and check a TOML configuration.

    Raises:
        InputError: the file is missing or not TOML, a key is unknown, or a value is out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("there is no such configuration", got=path, remedy="check the path")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not valid TOML", got=error, remedy="repair the line; https://toml.io has the syntax"
        ) from None
    return parse_config(raw, str(path))


def parse_config(raw: dict[str, Any], name: str = "the configuration") -> Config:
    """Check a configuration given as a dictionary; see :func:`read_config`."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise _explain(error, raw, name) from None


def write_config(config: Config) -> str:
    """Return the resolved configuration, defaults included, as TOML."""
    import tomli_w

    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _explain(error: ValidationError, raw: dict[str, Any], name: str) -> InputError:
    """Turn pydantic's first complaint into what, got, remedy."""
    complaints = error.errors(include_url=False)
    # An unknown key explains missing ones (a misspelt key is both), so it goes first.
    first = min(complaints, key=lambda c: c["type"] != "extra_forbidden")
    where = _keys(first["loc"], raw)
    dotted = ".".join(str(part) for part in where)
    if first["type"] == "extra_forbidden":
        valid = _valid_keys(where[:-1], raw)
        return InputError(
            f"{name}: unknown key {dotted!r}", got=repr(first["input"]), remedy=nearest(str(where[-1]), valid)
        )
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        expected = first.get("ctx", {}).get("expected_tags", "one of the documented kinds")
        got = first["input"].get("kind") if isinstance(first["input"], dict) else first["input"]
        return InputError(
            f"{name}: {dotted}.kind is missing or unknown", got=got, remedy=f"use one of {expected}"
        )
    message = first["msg"].removeprefix("Value error, ")
    got = "nothing" if first["type"] == "missing" else repr(first["input"])
    if isinstance(first["input"], dict):
        plain = {k: v for k, v in first["input"].items() if not isinstance(v, dict | list)}
        got = ", ".join(f"{k} = {v!r}" for k, v in plain.items()) or "a table"
    others = f" ({len(complaints) - 1} more after this one)" if len(complaints) > 1 else ""
    return InputError(
        f"{name}: {dotted}: {message}" if dotted else f"{name}: {message}",
        got=got,
        remedy=f"see docs/configuration.md for this key{others}",
    )


def _keys(loc: tuple[int | str, ...], raw: Any) -> list[int | str]:
    """Return the path of keys in the file: pydantic's location without the tags of unions.

    After ``data`` or ``rewards.0`` pydantic inserts the kind that it found there.
    """
    tagged = TAGGED.get(str(loc[0]), 0) if loc else 0
    if tagged and len(loc) > tagged and loc[tagged] in _kinds(str(loc[0])):
        return [*loc[:tagged], *loc[tagged + 1 :]]
    return list(loc)


def _valid_keys(where: list[int | str], raw: dict[str, Any]) -> list[str]:
    """Return the keys that are valid in the table at ``where``."""
    if not where:
        return list(Config.model_fields)
    node: Any = raw
    for part in where:
        node = node[part]
    kind = node.get("kind") if isinstance(node, dict) else None
    models = models_at(str(where[0]))
    chosen = [m for m in models if kind in tags(m)] if len(models) > 1 else models
    return list((chosen or models)[0].model_fields)


def models_at(table: str) -> list[type[BaseModel]]:
    """Return the settings that a table of the configuration may hold, by kind if there are several."""
    found: list[type[BaseModel]] = []
    stack: list[Any] = [Config.model_fields[table].annotation]
    while stack:
        kind = stack.pop(0)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.append(kind)
        else:
            stack = [*getattr(kind, "__args__", ()), *stack]
    return found


def _kinds(table: str) -> list[str]:
    return [tag for model in models_at(table) for tag in tags(model)]


def tags(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the kinds that settings answer to."""
    field = model.model_fields.get("kind")
    return getattr(field.annotation, "__args__", ()) if field is not None else ()
