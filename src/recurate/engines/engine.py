"""Engines: they apply a function to shards, in this process, in several processes, or by a plug-in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

from recurate.core.errors import InputError, RecurateError
from recurate.core.plugins import Seam, call

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class Engine(Protocol):
    """Applies a function to independent shards of work."""

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) for every shard, in the order of the shards; the first error ends the work.

        Function, shards and results can be sent between processes: the function belongs to a module, and
        shards and results are plain values.
        """
        ...


@dataclass(frozen=True)
class Local:
    """Processes one shard after another, in this process."""

    workers: int = 1

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) for every shard, in the order of the shards."""
        return map(function, shards)


@dataclass(frozen=True)
class Processes:
    """Processes several shards at a time, each in one of ``workers`` new processes with one thread."""

    workers: int = 1

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) for every shard, in the order of the shards."""
        pool = ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"), initializer=_one_thread)
        try:
            yield from pool.map(function, shards)
        finally:  # also after an error, or if the caller stops early
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class PluggedEngine:
    """A plug-in engine; the number of its results is checked."""

    title: str
    engine: Any

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) for every shard, and check their number.

        Raises:
            InputError: If the engine fails, or yields another number of results.
        """
        count = 0
        try:
            for result in self.engine.map(function, shards):
                yield result
                count += 1
        except (RecurateError, GeneratorExit):
            raise
        except Exception as error:
            raise InputError(
                f"{self.title} failed after {count} of {len(shards)} results",
                got=f"{type(error).__name__}: {error}",
                remedy="correct it, or use another engine; completed shards are not repeated",
            ) from error
        if count != len(shards):
            raise InputError(
                f"{self.title} must yield one result per shard, in order",
                got=f"{count} results for {len(shards)} shards",
                remedy="see docs/extending.md",
            )


ENGINES = Seam("engines", "engine", {"local": Local, "processes": Processes})


def engine_named(name: str, workers: int = 1) -> Engine:
    """Return an engine that processes up to ``workers`` shards at a time.

    Raises:
        InputError: If there is no such engine, or it cannot be created.
    """
    engine: Any = call(name, ENGINES.find(name), workers=workers)
    if name in ENGINES.built_in:
        return engine  # type: ignore[no-any-return]
    if not callable(getattr(engine, "map", None)):
        raise InputError(
            f"{name} is not an engine",
            got=type(engine).__name__,
            remedy="write a class with map(function, shards) (docs/extending.md)",
        )
    return PluggedEngine(name, engine)


def _one_thread() -> None:
    """Limit the process to one thread, because several processes share the cores."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
