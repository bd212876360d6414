"""Who is told what happens in a run: views for people (``views.py``), loggers for tools (``loggers.py``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from recurate.log.trajectory import Trajectory


class Monitor(Protocol):
    """Told of everything that happens in a run; it may not change anything."""

    def started(self, facts: dict[str, Any]) -> None:
        """The run begins or goes on; ``facts`` say what it is."""

    def stage(self, round: int, name: str) -> None:  # noqa: A002
        """A stage of a round begins: fit, sample, pick, measure, save."""

    def warn(self, warnings: Sequence[str]) -> None:
        """Something is to be known, such as the forecast's warnings."""

    def counts(self, round: int, counts: dict[str, int]) -> None:  # noqa: A002
        """Exact sizes in a round: trained_on_picks, trained_on_real, candidates, slates, picks."""

    def alarm(self, round: int, message: str, action: str) -> None:  # noqa: A002
        """Something in a round is not as it should be; ``action`` says what was done about it."""

    def finished(self, round: int, trajectory: Trajectory) -> None:  # noqa: A002
        """A round is safely on disk; ``trajectory`` holds everything so far."""

    def close(self) -> None:
        """The run has ended, or died: give back what is held. May be called more than once."""


class Silent:
    """Says nothing."""

    def started(self, facts: dict[str, Any]) -> None:
        """Do nothing."""

    def stage(self, round: int, name: str) -> None:  # noqa: A002
        """Do nothing."""

    def warn(self, warnings: Sequence[str]) -> None:
        """Do nothing."""

    def counts(self, round: int, counts: dict[str, int]) -> None:  # noqa: A002
        """Do nothing."""

    def alarm(self, round: int, message: str, action: str) -> None:  # noqa: A002
        """Do nothing."""

    def finished(self, round: int, trajectory: Trajectory) -> None:  # noqa: A002
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Several:
    """Forwards to all; one that raises is reported once to the others, and dropped: the run goes on.

    Args:
        monitors: in the order in which they are told.

    Attributes:
        dropped: a line for each that was dropped.
    """

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self._monitors = list(monitors)
        self.dropped: list[str] = []

    def tells(self, monitor: Monitor) -> bool:
        """Whether this one is still told."""
        return any(m is monitor for m in self._monitors)

    def started(self, facts: dict[str, Any]) -> None:
        """Forward, a copy to each."""
        self._each(lambda m: m.started(dict(facts)))

    def stage(self, round: int, name: str) -> None:  # noqa: A002
        """Forward."""
        self._each(lambda m: m.stage(round, name))

    def warn(self, warnings: Sequence[str]) -> None:
        """Forward."""
        self._each(lambda m: m.warn(tuple(warnings)))

    def counts(self, round: int, counts: dict[str, int]) -> None:  # noqa: A002
        """Forward, a copy to each."""
        self._each(lambda m: m.counts(round, dict(counts)))

    def alarm(self, round: int, message: str, action: str) -> None:  # noqa: A002
        """Forward."""
        self._each(lambda m: m.alarm(round, message, action))

    def finished(self, round: int, trajectory: Trajectory) -> None:  # noqa: A002
        """Forward."""
        self._each(lambda m: m.finished(round, trajectory))

    def close(self) -> None:
        """Forward, the last first: loggers that fail only now can still be reported by a view."""
        self._each(lambda m: m.close(), backwards=True)

    def _each(self, tell: Callable[[Monitor], None], *, backwards: bool = False) -> None:
        for monitor in reversed(self._monitors) if backwards else tuple(self._monitors):
            try:
                tell(monitor)
            except Exception as error:
                self._drop(monitor, error)

    def _drop(self, monitor: Monitor, error: Exception) -> None:
        self._monitors = [m for m in self._monitors if m is not monitor]
        first = (str(error).strip() or "no message").splitlines()[0]
        line = f"{type(monitor).__name__} failed and is told no more ({type(error).__name__}: {first})"
        self.dropped.append(line)
        self._each(lambda m: m.warn((f"{line}; the run goes on",)))
