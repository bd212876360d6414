"""The interface of a run's monitors: views for people (``console.py``) and loggers (``loggers.py``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from recurate.log.trajectory import Trajectory


class Monitor:
    """Receiver of every event of a run; subclasses handle some events, and the others pass unheard.

    A monitor must not change the values that it receives.
    """

    def started(self, facts: dict[str, Any]) -> None:
        """The run starts or resumes; ``facts`` describe it."""

    def stage(self, round: int, name: str) -> None:  # noqa: A002
        """A stage of a round begins: fit, sample, pick, measure or save."""

    def warn(self, warnings: Sequence[str]) -> None:
        """There are warnings, such as those of the forecast."""

    def counts(self, round: int, counts: dict[str, int]) -> None:  # noqa: A002
        """The exact sizes of a round: trained_on_picks, trained_on_real, candidates, slates, picks."""

    def alarm(self, round: int, message: str, action: str) -> None:  # noqa: A002
        """An alarm was raised in a round; ``action`` states the response."""

    def finished(self, round: int, trajectory: Trajectory) -> None:  # noqa: A002
        """A round is safely on disk; ``trajectory`` holds all values so far."""

    def close(self) -> None:
        """The run has ended or failed: release all resources. It may be called more than once."""


class Several(Monitor):
    """A monitor that forwards every event to several others.

    A monitor that raises is dropped and reported once to the others; the run continues.

    Args:
        monitors: Monitors in the order in which they receive events.

    Attributes:
        dropped: One line of text per monitor that was dropped.
    """

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self._monitors = list(monitors)
        self.dropped: list[str] = []

    def __contains__(self, monitor: Monitor) -> bool:
        """Return whether this monitor still receives events."""
        return any(m is monitor for m in self._monitors)

    def started(self, facts: dict[str, Any]) -> None:
        """Forward a copy to each monitor."""
        self._each(lambda m: m.started(dict(facts)))

    def stage(self, round: int, name: str) -> None:  # noqa: A002
        """Forward to each monitor."""
        self._each(lambda m: m.stage(round, name))

    def warn(self, warnings: Sequence[str]) -> None:
        """Forward to each monitor."""
        self._each(lambda m: m.warn(tuple(warnings)))

    def counts(self, round: int, counts: dict[str, int]) -> None:  # noqa: A002
        """Forward a copy to each monitor."""
        self._each(lambda m: m.counts(round, dict(counts)))

    def alarm(self, round: int, message: str, action: str) -> None:  # noqa: A002
        """Forward to each monitor."""
        self._each(lambda m: m.alarm(round, message, action))

    def finished(self, round: int, trajectory: Trajectory) -> None:  # noqa: A002
        """Forward to each monitor."""
        self._each(lambda m: m.finished(round, trajectory))

    def close(self) -> None:
        """Forward in reverse order, so that a view can still report loggers that fail on closing."""
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
        line = f"{type(monitor).__name__} failed and gets no more events ({type(error).__name__}: {first})"
        self.dropped.append(line)
        self._each(lambda m: m.warn((f"{line}; the run continues",)))
