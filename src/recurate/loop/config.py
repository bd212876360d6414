"""The configuration of a run: one TOML file whose keys and values are all validated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from recurate.components.data.dataset import Source
from recurate.components.protocols import GeneratorSettings, GroupSettings, RewardSettings
from recurate.components.registry import (
    DATA,
    GENERATORS,
    GROUPS,
    REWARDS,
    SECTIONS,
    settings_class,
    settings_of,
)
from recurate.components.rewards.classifier import ClassifierSettings
from recurate.core.errors import InputError, nearest
from recurate.core.files import read_toml
from recurate.core.limits import check_memory
from recurate.core.plugins import Seam
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.engines.needs import Needs
from recurate.log.schema import COLUMNS
from recurate.loop.alarms.protocol import AlarmSettings
from recurate.loop.alarms.raising import ALARMS
from recurate.loop.contexts import ContextSettings
from recurate.loop.mixing import Retraining
from recurate.loop.models import ModelSettings, check_models
from recurate.loop.sample_metrics import MeasureSettings
from recurate.rules import Rule, Threshold, noise_named

LISTS = ("models", "rewards", "tracked", "alarms")
SEAMS = {  # tables that name a kind
    "data": DATA,
    "generator": GENERATORS,
    "rewards": REWARDS,
    "tracked": REWARDS,
    "groups": GROUPS,
    "alarms": ALARMS,
}


def _of(seam: Seam) -> BeforeValidator:
    """Return a validator that checks a table against the settings of its kind."""
    return BeforeValidator(lambda values: settings_of(seam, values))


AnyData = Annotated[SerializeAsAny[Source], _of(DATA)]
AnyGenerator = Annotated[SerializeAsAny[GeneratorSettings], _of(GENERATORS)]
AnyReward = Annotated[SerializeAsAny[RewardSettings], _of(REWARDS)]
AnyGroups = Annotated[SerializeAsAny[GroupSettings], _of(GROUPS)]
AnyAlarm = Annotated[SerializeAsAny[AlarmSettings], _of(ALARMS)]


class PeopleSettings(Settings):
    """Settings of rounds that people judge, with ``selection.by = "people"``."""

    deadline: float | None = Field(
        None, gt=0, description="hours that people have for a round; any number if absent"
    )
    late: Literal["leave", "rule"] = Field(
        "leave",
        description="what happens after the deadline to slates without an answer: 'leave' them without a "
        "pick, or let the 'rule' of selection pick",
    )


class Selection(Settings):
    """Settings of the slates and of the picks."""

    by: Literal["rule", "people"] = Field(
        "rule",
        description="who picks: the rule of these settings, or people, whose answers `recurate serve` takes; "
        "forecasts then assume the rule",
    )
    people: PeopleSettings = PeopleSettings()

    k: int = Field(4, ge=1, le=10**9, description="slate size: one of k candidates is picked")
    temperature: float = Field(1.0, gt=0, description="temperature that divides the rewards")
    noise: str = Field(
        "gumbel",
        description="added to reward / temperature: 'gumbel' (Luce choice), 'gaussian' (Thurstone), 'none' "
        "(best of k), or one of yours (module:name)",
    )
    lapse: float = Field(0.0, ge=0, le=1, description="share of slates in which the pick is random")
    threshold: float | None = Field(
        None,
        allow_inf_nan=False,
        description="in place of slates, a verifier: every candidate is judged alone, and accepted if its "
        "reward is at least this level; then k = 1, noise is 'none' unless given, slates is the number of "
        "candidates of a round, and at most `picks` of the accepted ones enter the retraining set",
    )
    false_rejection: float | None = Field(
        None, ge=0, le=1, description="share of what reaches the threshold that is rejected; 0 if absent"
    )
    false_acceptance: float | None = Field(
        None, ge=0, le=1, description="share of what is below the threshold that is accepted; 0 if absent"
    )
    picks: int = Field(2000, ge=1, le=10**9, description="picks that enter each retraining set")
    slates: int | None = Field(
        None, ge=1, le=10**9, description="slates shown per round; as many as picks if absent"
    )

    @field_validator("noise")
    @classmethod
    def _known_noise(cls, name: str) -> str:
        return noise_named(name).name

    @model_validator(mode="before")
    @classmethod
    def _without_slates(cls, values: Any) -> Any:
        """Give a verifier the defaults of candidates that are judged alone."""
        if not isinstance(values, dict) or values.get("threshold") is None:
            return values
        return {"k": 1, "noise": "none"} | values

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.threshold is None:
            if self.false_rejection is not None or self.false_acceptance is not None:
                raise ValueError("false_rejection and false_acceptance need the threshold of a verifier")
        elif self.k != 1:
            raise ValueError("with a threshold candidates are judged alone: k = 1, or leave k out")
        elif self.by == "people":
            raise ValueError("with a threshold the rule judges, not people: leave one of them out")
        return self

    @model_validator(mode="after")
    def _enough_slates(self) -> Self:
        if self.slates is not None and self.picks > self.slates:
            raise ValueError(f"picks = {self.picks} is more than slates = {self.slates}: raise slates")
        return self

    def rule(self) -> Rule | Threshold:
        """Return the rule that picks one candidate per slate, or the verifier that judges each alone."""
        noise = noise_named(self.noise)
        if self.threshold is None:
            return Rule(self.k, self.temperature, noise, 1, self.lapse)
        return Threshold(
            self.threshold, self.temperature, noise, self.lapse, self.false_rejection or 0.0,
            self.false_acceptance or 0.0,
        )  # fmt: skip

    def check_memory(self) -> None:
        """Refuse a round whose candidates, with their rewards and log, do not fit into memory.

        Raises:
            InputError: If they do not.
        """
        remedy = f"lower selection.slates or picks ({self.shown}), or k ({self.k})"
        check_memory("a round of slates x k candidates", 64.0 * self.shown * self.k, remedy)

    @property
    def shown(self) -> int:
        """Number of slates shown per round."""
        return self.slates or self.picks


class EngineSettings(Settings):
    """Settings of the shards, the parts of a round that `--engine` samples and scores anywhere."""

    shard: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="largest number of candidates of a shard, which results depend on; if absent, 100000, or "
        "all of a round for external generators",
    )
    cpus: float = Field(1.0, gt=0, le=10_000, description="CPU cores of a shard, on Ray")
    gpus: float = Field(0.0, ge=0, le=1000, description="GPUs of a shard, on Ray; 0.5: two shards share one")
    training: Literal["here", "task"] = Field(
        "here",
        description="where models are trained: here, by the process that runs the loop; or by a task of the "
        "engine, with the CPU cores and GPUs of a shard",
    )

    @property
    def needs(self) -> Needs:
        """What a shard needs."""
        return Needs(self.cpus, self.gpus)


class ReportSettings(Settings):
    """Settings of the report's additional sections, which may change after the run has started."""

    sections: tuple[str, ...] = Field(
        (), description="functions of the run's folder that return sections: entry points, or module:name"
    )

    @field_validator("sections")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            SECTIONS.find(name)
        return names


class Config(Settings):
    """The configuration of a run."""

    seed: int = Field(0, ge=0, le=2**63 - 1, description="root of all randomness")
    rounds: int = Field(6, ge=1, le=100_000, description="rounds of curation and retraining")
    control: bool = Field(False, description="whether to run a second loop without selection, for comparison")
    data: AnyData | None = Field(
        None, description="the real data; only a generator that is not trained first can do without"
    )
    contexts: ContextSettings | None = None
    models: tuple[ModelSettings, ...] = ()
    model: str | None = Field(
        None,
        description="whose folder this is, in a run of several models, where recurate writes it; absent in "
        "what is run",
    )
    generator: AnyGenerator = Field(default_factory=lambda: settings_of(GENERATORS, {}))
    classifier: ClassifierSettings = ClassifierSettings()
    rewards: tuple[AnyReward, ...] = Field(min_length=1)
    tracked: tuple[AnyReward, ...] = Field((), description="rewards that are measured but never pick")
    groups: AnyGroups | None = None
    selection: Selection = Selection()
    retraining: Retraining = Retraining()
    measures: MeasureSettings = MeasureSettings()
    alarms: tuple[AnyAlarm, ...] = ()
    engine: EngineSettings = EngineSettings()
    report: ReportSettings = ReportSettings()
    keep: int | None = Field(
        None, ge=1, le=100_000, description="number of last models that the run keeps; all of them if absent"
    )
    attempts: int = Field(
        2, ge=1, le=100, description="largest number of times a round is run if alarms keep rolling it back"
    )

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
        if given and len(given) < len(self.rewards):
            raise ValueError("give every reward a weight, or none")
        if given and not math.isclose(sum(given), 1.0, abs_tol=2e-6):
            raise ValueError(f"the rewards' weights sum to {sum(given):g} and must sum to 1")
        if self.groups is not None:
            self.groups.check(self.data)
        return self

    @model_validator(mode="after")
    def _several_models(self) -> Self:
        names = [model.name for model in self.models]
        if self.model is not None and self.model not in names:
            raise ValueError(f"model = {self.model!r} is none of [[models]]: leave it out")
        if not self.models:
            return self
        check_models(self.models, [reward.name for reward in self.rewards])
        weighted = self.model is None and any(reward.weight is not None for reward in self.rewards)
        refused = {
            "weights of rewards (each model names its own)": weighted,
            "selection.by = 'people'": self.selection.by == "people",
            "selection.threshold": self.selection.threshold is not None,
            "control": self.control,
            "contexts": self.contexts is not None,
            "alarms": bool(self.alarms),
            "engine.training = 'task'": self.engine.training == "task",
        }
        wrong = [name for name, given in refused.items() if given]
        if wrong:
            raise ValueError(f"several models are trained without {', '.join(wrong)}: leave it out")
        return self

    @model_validator(mode="after")
    def _data_where_needed(self) -> Self:
        if self.contexts is not None and not self.generator.knows_contexts:
            raise ValueError("contexts need a generator that knows prompts")
        if self.data is not None:
            return self
        if self.generator.trains_first:
            raise ValueError(
                "without [data] no model can be trained first: use one that starts from a checkpoint, such "
                "as generator.kind = 'external' with start and fit_first = false"
            )
        if self.retraining.real_fraction or self.retraining.mode == "accumulate":
            raise ValueError(
                "without [data] no real data can be mixed in: real_fraction = 0, mode = 'replace'"
            )
        if self.needs_classifier and self.classifier.folder is None:
            raise ValueError("without [data] no classifier can be trained: name one with classifier.folder")
        return self

    @property
    def weights(self) -> tuple[float, ...]:
        """Fraction of slates picked by each reward; the fractions sum to one. Default: equal fractions."""
        given = np.array([1.0 if r.weight is None else r.weight for r in self.rewards])
        return tuple((given / given.sum()).tolist())

    @property
    def parts(self) -> int:
        """Number of shards of a round: each has whole slates, and about as many as the others."""
        most = self.engine.shard or self.generator.shard
        slates = self.selection.shown
        return 1 if most is None else min(-(-slates * self.selection.k // most), slates)

    @property
    def stream(self) -> Stream:
        """Root of the randomness of a run's rounds; one of several models has a stream of its own."""
        root = Stream(self.seed)
        return root if self.model is None else root.at("model", self.model)

    def of_model(self, name: str) -> Config:
        """Return the configuration of one of several models: its rewards have weights, the others' none."""
        own = next(model for model in self.models if model.name == name).rewards
        rewards = tuple(
            reward.model_copy(update={"weight": 1 / len(own) if reward.name in own else 0.0})
            for reward in self.rewards
        )
        return self.model_copy(update={"model": name, "rewards": rewards})

    def without_selection(self) -> Config:
        """Return the configuration of the control arm: slates of one candidate."""
        alone = {"k": 1, "threshold": None, "false_rejection": None, "false_acceptance": None}
        return self.model_copy(update={"selection": self.selection.model_copy(update=alone)})

    @property
    def needs_classifier(self) -> bool:
        """Whether a reward or the groups use the classifier, or the configuration names a trained one."""
        users = (*self.rewards, *self.tracked, *(() if self.groups is None else (self.groups,)))
        return self.classifier.folder is not None or any(user.needs_classifier for user in users)


def read_config(path: Path | str) -> Config:
    """Read and validate a TOML configuration.

    Raises:
        InputError: If the file is missing or is not valid TOML, a key is unknown or missing, or a value is
            invalid.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("there is no such configuration", got=path, remedy="check the path")
    try:
        raw = read_toml(path)
    except ValueError as error:
        raise InputError(
            f"{path} is not valid TOML", got=error, remedy="repair the line; https://toml.io has the syntax"
        ) from None
    return parse_config(raw, str(path))


def parse_config(raw: dict[str, Any], name: str = "the configuration") -> Config:
    """Validate a configuration given as a dictionary; see :func:`read_config`.

    Args:
        raw: The configuration, with the structure of the TOML file.
        name: Name of the configuration in error messages.

    Raises:
        InputError: If a key is unknown or missing, or a value is invalid.
    """
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise _explain(error, raw, name) from None


def write_config(config: Config) -> str:
    """Return the resolved configuration, including defaults, as TOML."""
    import tomli_w

    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _explain(error: ValidationError, raw: dict[str, Any], name: str) -> InputError:
    """Return pydantic's first error as an ``InputError``."""
    complaints = error.errors(include_url=False)
    # An unknown key explains missing ones (a misspelt key is both), so it goes first.
    first = min(complaints, key=lambda c: c["type"] != "extra_forbidden")
    where = list(first["loc"])
    dotted = ".".join(str(part) for part in where)
    if first["type"] == "extra_forbidden":
        valid = _valid_keys(where[:-1], raw)
        return InputError(
            f"{name}: unknown key {dotted!r}", got=repr(first["input"]), remedy=nearest(str(where[-1]), valid)
        )
    said = first.get("ctx", {}).get("error")
    if isinstance(said, InputError):
        dotted += ".kind" if where and where[0] in SEAMS else ""
        what = f"{dotted}: {said.what}" if dotted else said.what
        return InputError(f"{name}: {what}", got=said.got, remedy=said.remedy)
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


def _valid_keys(where: list[int | str], raw: dict[str, Any]) -> list[str]:
    """Return the keys that are valid in the table at ``where``."""
    if not where:
        return list(Config.model_fields)
    table, *parts = where
    node = raw[str(table)]
    while parts and isinstance(parts[0], int):
        node = node[parts.pop(0)]
    model: type[BaseModel] = _model_of(str(table), node)
    for part in parts:
        model = _models_in(model, str(part))[0]
    return list(model.model_fields)


def _models_in(model: type[BaseModel], name: str) -> list[type[BaseModel]]:
    """Return the classes of the settings in a field."""
    annotation = model.model_fields[name].annotation
    parts = [annotation, *getattr(annotation, "__args__", ())]
    return [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]


def _model_of(table: str, values: dict[str, Any]) -> type[BaseModel]:
    """Return the class of the settings of a table with these values."""
    if table in SEAMS:
        seam = SEAMS[table]
        return settings_class(seam, values.get("kind", seam.usual))
    return tables()[table][""]


def tables() -> dict[str, dict[str, type[BaseModel]]]:
    """Return the settings classes of every table by kind; a table without kinds has the key ""."""
    found: dict[str, dict[str, type[BaseModel]]] = {}
    for name in Config.model_fields:
        models = _models_in(Config, name)
        if name in SEAMS:
            found[name] = dict(SEAMS[name].built_in)
        elif models:
            found[name] = {"": models[0]}
    return found
