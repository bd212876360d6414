"""Engines: they apply a function to shards, in this process, in several, on Ray, or by a plug-in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

from recurate.core.errors import InputError, RecurateError, Waiting
from recurate.core.plugins import Seam, call, takes
from recurate.engines.needs import ONE, Needs
from recurate.engines.on_ray import OnRay

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class Engine(Protocol):
    """Applies a function to independent shards of work.

    An engine may also have ``start(needs)``, which is called before the work and refuses what cannot be done,
    and ``close()``.
    """

    def map(
        self, function: Callable[[Shard], Result], shards: Sequence[Shard], needs: Needs = ...
    ) -> Iterator[Result]:
        """Yield function(shard) for every shard, in the order of the shards; the first error ends the work.

        Function, shards and results can be sent between processes: the function belongs to a module, and
        shards and results are plain values. Applying it twice to a shard has the effect of applying it once.
        """
        ...


@dataclass(frozen=True)
class Local:
    """Processes one shard after another, in this process."""

    workers: int = 1

    def map(
        self, function: Callable[[Shard], Result], shards: Sequence[Shard], needs: Needs = ONE
    ) -> Iterator[Result]:
        """Yield function(shard) for every shard, in the order of the shards."""
        return map(function, shards)


@dataclass
class Processes:
    """Processes several shards at a time, each in one of ``workers`` processes with one thread.

    Attributes:
        workers: Number of processes; None: one per core. They are new, and are kept until :meth:`close`.
    """

    workers: int | None = None
    _pool: ProcessPoolExecutor | None = field(default=None, init=False, repr=False)

    def map(
        self, function: Callable[[Shard], Result], shards: Sequence[Shard], needs: Needs = ONE
    ) -> Iterator[Result]:
        """Yield function(shard) for every shard, in the order of the shards.

        Raises:
            InputError: If a process is killed.
        """
        if self._pool is None:
            context = get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_one_thread)
        count, finished = 0, False
        try:
            for result in self._pool.map(function, shards):
                yield result
                count += 1
            finished = True
        except BrokenProcessPool as error:
            raise InputError(
                f"a worker process was killed after {count} of {len(shards)} results",
                got=error,
                remedy="give the command again, with --resume for a run: finished shards are kept; if memory "
                "was short, use fewer workers",
            ) from None
        finally:  # after an error, or if the caller stops early, shards that wait are not begun
            if not finished:
                self.close()

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None


@dataclass(frozen=True)
class Elsewhere:
    """Processes no shard: whoever maps waits until ``recurate shard`` has done them."""

    workers: int = 1

    def map(
        self, function: Callable[[Shard], Result], shards: Sequence[Shard], needs: Needs = ONE
    ) -> Iterator[Result]:
        """Return no results for no shards.

        Raises:
            Waiting: If there are shards.
        """
        if shards:
            raise Waiting(len(shards))
        return iter(())


@dataclass(frozen=True)
class PluggedEngine:
    """A plug-in engine; the number of its results is checked."""

    title: str
    engine: Any

    def map(
        self, function: Callable[[Shard], Result], shards: Sequence[Shard], needs: Needs = ONE
    ) -> Iterator[Result]:
        """Yield function(shard) for every shard, and check their number.

        Raises:
            InputError: If the engine fails, or yields another number of results.
        """
        count = 0
        wanted = {"needs": needs} if takes(self.engine.map, "needs") else {}
        try:
            for result in self.engine.map(function, shards, **wanted):
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
                remedy="recurate docs extending has an example",
            )

    def start(self, needs: Needs) -> None:
        """Call the plug-in's ``start``, if it has one."""
        call(self.title, getattr(self.engine, "start", lambda needs: None), needs)

    def close(self) -> None:
        """Call the plug-in's ``close``, if it has one."""
        call(self.title, getattr(self.engine, "close", lambda: None))


RAY, SHARDS = "ray", "shards"
ENGINES = Seam("engines", "engine", {"local": Local, "processes": Processes, RAY: OnRay, SHARDS: Elsewhere})


def engine_named(name: str, workers: int | None = None) -> Engine:
    """Return an engine.

    Args:
        name: ``local``, ``processes``, ``ray`` (a local cluster, or the one that RAY_ADDRESS names),
            ``ray://HOST:PORT``, ``shards``, an entry point, or ``module:name``.
        workers: Number of shards that are processed at a time; None: the engine's own.

    Raises:
        InputError: If there is no such engine, or it cannot be created.
    """
    wanted: dict[str, Any] = {} if workers is None else {"workers": workers}
    if name.startswith(f"{RAY}://"):
        return OnRay(address=name, **wanted)
    engine: Any = call(name, ENGINES.find(name), **wanted)
    if name in ENGINES.built_in:
        return engine  # type: ignore[no-any-return]
    if not callable(getattr(engine, "map", None)):
        raise InputError(
            f"{name} is not an engine",
            got=type(engine).__name__,
            remedy="write a class with map(function, shards) (recurate docs extending)",
        )
    return PluggedEngine(name, engine)


@contextmanager
def opened(name: str, workers: int | None = None) -> Iterator[Engine]:
    """Yield an engine, and close it afterwards; see :func:`engine_named`."""
    engine = engine_named(name, workers)
    try:
        yield engine
    finally:
        close = getattr(engine, "close", None)
        if close is not None:
            close()


def start(engine: Engine, needs: Needs = ONE) -> None:
    """Start an engine that can be started, so that complaints come before work."""
    begin = getattr(engine, "start", None)
    if begin is not None:
        begin(needs)


def _one_thread() -> None:
    """Limit the process to one thread, because several processes share the cores."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
