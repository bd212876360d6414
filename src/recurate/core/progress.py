"""What a long computation is doing: whoever computes tells it, whoever shows it listens.

A command listens while it runs; elsewhere nobody does, and telling costs a look at a variable. A stage is
named by the verb, its steps are counted where the loop is, however deep. Threads and other processes tell
nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")


class Listener(Protocol):
    """Whoever shows what is being done."""

    def stage(self, name: str) -> None:
        """Begin a stage; the one before it is over."""

    def step(self, done: int, total: int) -> None:
        """Note that ``done`` of the stage's ``total`` steps are done."""

    def kept(self, what: str) -> None:
        """Note what would be left if the computation were stopped now."""

    def hide(self) -> None:
        """Leave the terminal to others until the next stage or step."""


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)

_counting: ContextVar[bool] = ContextVar("counting", default=False)


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Tell a listener of everything that is done in the block; None: nobody."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def stage(name: str) -> None:
    """Tell that a stage begins."""
    if listener := _listener.get():
        listener.stage(name)


def step(done: int, total: int) -> None:
    """Tell that ``done`` of the stage's ``total`` steps are done, unless :func:`steps` counts around it."""
    if (listener := _listener.get()) and not _counting.get():
        listener.step(done, total)


def steps(items: Iterable[T], total: int) -> Iterator[T]:
    """Yield items, each of which is a step that is done when the next one is asked for.

    Of loops within loops the outermost is counted.
    """
    if _counting.get():
        yield from items
        return
    try:
        for done, item in enumerate(items):
            step(done, total)
            _counting.set(True)
            yield item
            _counting.set(False)
    finally:
        _counting.set(False)


def kept(what: str) -> None:
    """Tell what would be left if the computation were stopped now."""
    if listener := _listener.get():
        listener.kept(what)


def hide() -> None:
    """Have the terminal for oneself until the next stage or step."""
    if listener := _listener.get():
        listener.hide()


def clock(seconds: float) -> str:
    """Return a duration in seconds as text such as 0:07, 12:30 or 1:02:03."""
    whole = int(seconds + 0.5)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
