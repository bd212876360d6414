"""Rewards and groups from Python functions named ``module:name``."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.components.protocols import RewardSettings, Samples
from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.core.fingerprints import Fingerprint, of_function

NAME = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class ImportedSettings(RewardSettings):
    """Reward gamma f(x), f an importable function of samples, and of ``contexts`` if it has that argument."""

    kind: Literal["import"]
    function: str = Field(
        pattern=NAME, description="module:name, looked for in the current folder and where Python looks"
    )

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the sources of the function's module."""
        return of_function(serves, self.function)


@dataclass(frozen=True)
class ImportedReward:
    """The reward gamma f(x), f an imported function.

    Raises:
        InputError: the function raised an error, or did not return one number per sample.
    """

    settings: ImportedSettings
    function: Callable[..., Any]

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per sample, shape (n,)."""
        found = call(self.function, self.settings.function, samples, contexts)
        try:
            numbers = np.asarray(found, float)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape != (len(samples),):
            raise InputError(
                f"{self.settings.function} must return one number per sample",
                got=f"shape {np.shape(found)} of {type(found).__name__} for {len(samples)} samples",
                remedy="return an array of shape (n,)",
            )
        return self.settings.gamma * numbers


@dataclass(frozen=True)
class ImportedGroups:
    """Groups by an imported function.

    Attributes:
        title: its name, for messages.
        function: returns one label per sample.

    Raises:
        InputError: the function raised an error, or did not return one label per sample.
    """

    title: str
    function: Callable[..., Any]

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return one label per sample, shape (n,)."""
        labels = np.asarray(call(self.function, self.title, samples, contexts)).astype(str)
        if labels.shape != (len(samples),):
            raise InputError(
                f"{self.title} must return one label per sample",
                got=f"shape {labels.shape} for {len(samples)} samples",
                remedy="return a sequence of n texts",
            )
        return labels


def load_function(title: str) -> Callable[..., Any]:
    """Return the function ``module:name``; modules in the current folder are found too.

    Raises:
        InputError: there is no such module or function.
    """
    module, _, name = title.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last: a file here must not hide a library
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InputError(
            f"{title} cannot be imported",
            got=error,
            remedy="check module:name; the current folder is searched too",
        ) from None
    if not callable(found):
        raise InputError(f"{title} is not a function", got=type(found).__name__, remedy="name a function")
    return found  # type: ignore[no-any-return]


def call(function: Callable[..., Any], title: str, samples: Samples, contexts: NDArray[Any] | None) -> Any:
    """Return what an imported function returns.

    Raises:
        InputError: it raised an error; the message names both.
    """
    try:
        if "contexts" in inspect.signature(function).parameters:
            return function(samples, contexts=contexts)
        return function(samples)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{title} failed",
            got=f"{type(error).__name__}: {error}",
            remedy="try it on a few samples of this run",
        ) from error
