"""Plug-ins: plain classes and functions as generators, rewards, groups and data.

The settings of a plain function or class are derived from its arguments: every argument without a default, or
with a default that TOML can represent, is a key of its table in the configuration; annotated types are
checked. Exceptions of a plug-in, and answers of a wrong shape or type, become an :class:`InputError` that
names it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PydanticUserError, TypeAdapter, create_model

from recurate.components.data.dataset import Dataset, Source, split
from recurate.components.protocols import (
    Generator,
    GeneratorSettings,
    GroupSettings,
    Prepared,
    RewardSettings,
)
from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.core.plugins import call, takes
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.log.samples import Samples, as_texts, is_text

FEW = 16  # samples that are generated or scored twice, to check that the answers agree
Function = TypeVar("Function", "PluggedReward", "PluggedGroups")
PASSED = ("rng", "contexts")  # arguments that the loop passes by name
TOML = (bool, int, float, str, list, tuple, dict, type(None))


# --- settings from arguments ----------------------------------------------------------------------


@dataclass(frozen=True)
class Plugin:
    """A function or class, and the names of those arguments that are keys of its table."""

    title: str
    target: Callable[..., Any]
    keys: tuple[str, ...]

    def with_keys(self, settings: Settings) -> Callable[..., Any]:
        """Return the function with its arguments bound to the settings, or an instance of the class."""
        arguments = {key: getattr(settings, key) for key in self.keys}
        if isinstance(self.target, type):
            return call(self.title, self.target, **arguments)  # type: ignore[no-any-return]
        return functools.partial(self.target, **arguments)


def derived(base: type[Settings], title: str, target: Any, given: int) -> type[Settings]:
    """Return settings whose keys are the arguments of a function or class.

    Args:
        base: Base class of the settings, with a class variable ``plugin``.
        title: Name of the kind.
        target: Function or class.
        given: Number of a function's positional arguments that the loop passes.

    Raises:
        InputError: If the target is neither, or its arguments cannot be keys.
    """
    if not callable(target):
        raise InputError(
            f"{title} is neither a function nor a class",
            got=type(target).__name__,
            remedy="name a function or class",
        )
    known = _MADE.get((base, title))
    if known is not None and known.plugin.target is target:
        return known  # type: ignore[no-any-return]
    parameters = _parameters(target)[0 if isinstance(target, type) else given :]
    named = [p for p in parameters if p.name not in PASSED and _is_key(p)]
    taken = [p.name for p in named if p.name in base.model_fields]
    if taken:
        raise InputError(
            f"{title} cannot have an argument called {taken[0]!r}",
            got=f"the keys that every such table has: {', '.join(base.model_fields)}",
            remedy="rename the argument",
        )
    fields: dict[str, Any] = {
        p.name: (_type(p.annotation), ... if p.default is p.empty else p.default) for p in named
    }
    try:
        made = create_model(title, __base__=base, **fields | {"kind": (Literal[title], ...)})
    except (NameError, ValueError, PydanticUserError) as error:
        raise InputError(
            f"{title} has arguments that cannot be keys", got=error, remedy="rename them"
        ) from None
    made.plugin = Plugin(title, target, tuple(fields))  # type: ignore[attr-defined]
    _MADE[base, title] = made
    return made


_MADE: dict[tuple[type[Settings], str], Any] = {}  # so that equal tables are equal settings


def _parameters(target: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(target, eval_str=True).parameters.values())
    except NameError:  # annotations that exist for type checkers only
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):  # some functions in C have no signature
        return []


def _is_key(parameter: inspect.Parameter) -> bool:
    by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    return by_name and (parameter.default is parameter.empty or isinstance(parameter.default, TOML))


def _type(annotation: Any) -> Any:
    """Return the annotation if pydantic can validate it, else Any."""
    try:
        TypeAdapter(annotation)
    except (PydanticUserError, NameError):
        return Any
    return Any if annotation is inspect.Parameter.empty else annotation


# --- generators -----------------------------------------------------------------------------------


class PluggedGeneratorSettings(GeneratorSettings):
    """Your class with ``fit``, ``sample``, ``save`` and ``load``; its arguments are further keys."""

    plugin: ClassVar[Plugin]
    given: ClassVar[int] = 0

    def build(self, workspace: Path | None = None, logs: Path | None = None) -> Generator:
        """Return an instance of the class, which uses neither workspace nor logs."""
        for name in ("fit", "sample", "save", "load"):
            if not callable(getattr(self.plugin.target, name, None)):
                raise InputError(
                    f"{self.kind} is not a generator",
                    got=f"no method {name!r}",
                    remedy="write a class with fit, sample, save and load (recurate docs extending)",
                )
        made: Any = self.plugin.with_keys(self)
        return made  # type: ignore[no-any-return]

    def load(self, folder: Path, workspace: Path | None = None, logs: Path | None = None) -> Generator:
        """Return the model that the class's ``load`` reads."""
        target: Any = self.plugin.target
        return target.load(folder)  # type: ignore[no-any-return]

    @property
    def trains_first(self) -> bool:
        """The class's ``trains_first``: whether the first model is trained on the real data; default True."""
        return bool(getattr(self.plugin.target, "trains_first", True))

    @property
    def knows_contexts(self) -> bool:
        """Whether ``sample`` takes contexts."""
        return takes(getattr(self.plugin.target, "sample", self.plugin.target), "contexts")


@dataclass(frozen=True)
class PluggedGenerator:
    """A plug-in generator; every answer is checked."""

    title: str
    model: Any

    def fit(self, data: Samples, *, rng: Stream, contexts: NDArray[Any] | None = None, real: int = 0) -> Self:
        """Return a new generator; see :class:`recurate.components.protocols.Generator`."""
        new = call(self.title, self.model.fit, data, rng=rng, contexts=contexts, real=real)
        if new is self.model or not callable(getattr(new, "sample", None)):
            raise InputError(
                f"{self.title}: fit must return a new generator",
                got="the old one" if new is self.model else type(new).__name__,
                remedy="return another instance, and do not change the old one",
            )
        return type(self)(self.title, new)

    def sample(self, n: int, *, rng: Stream, contexts: NDArray[Any] | None = None) -> Samples:
        """Return n samples, after checking that a few samples depend on nothing but the stream."""
        few, some = min(n, FEW), None if contexts is None else contexts[:FEW]
        check_repeats(self.title, lambda: self._sample(few, rng.at("repeated"), some))
        return self._sample(n, rng, contexts)

    def _sample(self, n: int, rng: Stream, contexts: NDArray[Any] | None) -> Samples:
        found = call(self.title, self.model.sample, n, rng=rng, contexts=contexts)
        samples = _as_samples(found)
        if samples is None or len(samples) != n:
            raise InputError(
                f"{self.title}: sample must return n samples of one shape, or n texts",
                got=f"shape {np.shape(found)} of {type(found).__name__} for n = {n}",
                remedy="return an array of shape (n, ...) or a list of n texts",
            )
        if not is_text(samples) and not np.isfinite(samples).all():
            raise InputError(
                f"{self.title}: samples hold numbers that are not finite",
                got="nan or inf",
                remedy="the model may have diverged",
            )
        return samples

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder."""
        call(self.title, self.model.save, folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raise an error: only the settings can load the model, because they name its class."""
        raise NotImplementedError


# --- rewards, groups, data ------------------------------------------------------------------------


class _OfSamples(Settings):
    """Settings of a function of samples."""

    plugin: ClassVar[Plugin]
    given: ClassVar[int] = 1

    def build(self, prepared: Prepared) -> Any:
        """Return the function with its arguments bound to the keys, or an instance of the class."""
        return self.plugin.with_keys(self)


class PluggedRewardSettings(_OfSamples, RewardSettings):
    """Reward gamma f(samples), where f is your function or an instance of your class. Its arguments
    are further keys.
    """

    gamma: float = Field(1.0, gt=0, description="factor by which the function's values are multiplied")


@dataclass(frozen=True)
class PluggedReward:
    """A plug-in reward, multiplied by gamma; every answer is checked."""

    title: str
    function: Callable[..., Any]
    gamma: float

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per sample, shape (n,)."""
        found = call(self.title, self.function, samples, contexts=contexts)
        try:
            numbers = np.asarray(found, float)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape != (len(samples),):
            raise InputError(
                f"{self.title} must return one number per sample",
                got=f"shape {np.shape(found)} of {type(found).__name__} for {len(samples)} samples",
                remedy="return an array of shape (n,)",
            )
        return self.gamma * numbers


class PluggedGroupSettings(_OfSamples, GroupSettings):
    """Groups from your function or an instance of your class; its arguments are further keys."""


@dataclass(frozen=True)
class PluggedGroups:
    """A plug-in grouping; every answer is checked."""

    title: str
    function: Callable[..., Any]

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return one label per sample, shape (n,)."""
        labels = np.asarray(call(self.title, self.function, samples, contexts=contexts)).astype(str)
        if labels.shape != (len(samples),):
            raise InputError(
                f"{self.title} must return one label per sample",
                got=f"shape {labels.shape} for {len(samples)} samples",
                remedy="return a sequence of n texts",
            )
        return labels


class PluggedDataSettings(Source):
    """Real data from your function; its arguments are further keys."""

    plugin: ClassVar[Plugin]
    given: ClassVar[int] = 0
    held_out: float = Field(0.1, ge=0.001, le=0.9, description="share of samples held out")

    def load(self, rng: Stream) -> Dataset:
        """Return the function's Dataset, or split its samples at random."""
        found = call(self.kind, self.plugin.with_keys(self), rng=rng.at("data"))
        if isinstance(found, Dataset):
            return found
        samples = _as_samples(found)
        if samples is None:
            raise InputError(
                f"{self.kind} must return samples of one shape, texts, or a Dataset",
                got=type(found).__name__,
                remedy="return an array of shape (n, ...) or a list of texts",
            )
        train, rest = split(len(samples), self.held_out, rng.at("split"), self.kind)
        return Dataset(samples[train], np.full(len(train), ""), samples[rest], np.full(len(rest), ""))


# --- checks ---------------------------------------------------------------------------------------


def _as_samples(found: Any) -> Samples | None:
    """Return an answer as numbers (n, ...) or texts (n,), or None if it is neither."""
    try:
        samples = np.asarray(found)
        if samples.dtype.kind in "OU":
            values = samples.tolist()
            return as_texts(values) if all(isinstance(value, str) for value in values) else None
        return samples.astype(np.float32) if samples.ndim else None
    except (TypeError, ValueError):
        return None


def tried(function: Function, prepared: Prepared) -> Function:
    """Return a function of samples, after checking that it repeats its answer on the first real samples."""
    if prepared.dataset is not None:
        data, known = prepared.dataset, prepared.dataset.contexts
        contexts = None if known is None else known[:FEW]
        check_repeats(function.title, lambda: function(data.train[:FEW], contexts))
        if prepared.parted:
            _check_parts(function, data.train[:FEW], contexts)
    return function


def _check_parts(
    function: PluggedReward | PluggedGroups, samples: Samples, contexts: NDArray[Any] | None
) -> None:
    """Check that each sample's answer does not depend on the other samples, but for rounding.

    Raises:
        InputError: If it does.
    """
    whole, half = function(samples, contexts), len(samples) // 2
    halves = [slice(0, half), slice(half, None)] if half else [slice(None)]
    parts = [function(samples[own], None if contexts is None else contexts[own]) for own in halves]
    found = np.concatenate(parts)
    if whole.dtype.kind == "f":
        near = np.isclose(found, whole, rtol=1e-4, atol=1e-4 * np.nanmax(np.abs(whole)), equal_nan=True)
    else:
        near = found == whole
    if not near.all():
        raise InputError(
            f"{function.title}: a sample's value depends on the other samples that it is called with",
            got=f"{int((~near).sum())} of {len(whole)} values differ in halves; a round has several shards",
            remedy="judge every sample by itself, or raise engine.shard to the candidates of a round",
        )


def check_repeats(title: str, function: Callable[[], NDArray[Any]]) -> None:
    """Call a function twice and check that both arrays agree; NaN equals NaN.

    Raises:
        InputError: If they differ.
    """
    one, other = function(), function()
    if one.shape == other.shape:
        differ = int(((one != other) & ((one == one) | (other == other))).sum())  # nan is equal to nan
        got = f"{differ} of {one.size} values differ"
    else:
        differ, got = 1, f"shapes {one.shape} and {other.shape}"
    if differ:
        raise InputError(
            f"{title} returns different values when it is called again with the same arguments",
            got=got,
            remedy="take all randomness from the stream: rng.generator() or rng.integer()",
        )
