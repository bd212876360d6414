"""Engines: a function of shards, done here, in processes, or wherever somebody's engine does it."""

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
    """Does work that falls into independent shards."""

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) of every shard, in their order; the first error ends it.

        Function, shards and results can be sent between processes: the function is one of a module's, the
        rest are plain values.
        """
        ...


@dataclass(frozen=True)
class Local:
    """One shard after another, in this process."""

    workers: int = 1

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) of every shard."""
        return map(function, shards)


@dataclass(frozen=True)
class Processes:
    """Several shards at a time, each in a new process that computes on one thread."""

    workers: int = 1

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) of every shard, in their order."""
        pool = ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"), initializer=_one_thread)
        try:
            yield from pool.map(function, shards)
        finally:  # after an error too, and where the caller stops early
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class PluggedEngine:
    """Somebody's engine, its answers checked."""

    title: str
    engine: Any

    def map(self, function: Callable[[Shard], Result], shards: Sequence[Shard]) -> Iterator[Result]:
        """Yield function(shard) of every shard."""
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
                remedy="mend it, or use another engine; what is complete is not done again",
            ) from error
        if count != len(shards):
            raise InputError(
                f"{self.title} must yield one result per shard, in order",
                got=f"{count} results for {len(shards)} shards",
                remedy="see docs/extending.md",
            )


ENGINES = Seam("engines", "engine", {"local": Local, "processes": Processes})


def engine_named(name: str, workers: int = 1) -> Engine:
    """Return an engine for as many shards at a time.

    Raises:
        InputError: there is no such engine, or it cannot be made.
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
    """Keep each process to one thread: several shards share the cores."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
