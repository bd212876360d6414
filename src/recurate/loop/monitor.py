"""What a person sees while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

from recurate.trajectory import FORECAST, MEASURED, Trajectory

WIDTH = 23
SHOWN = ("mean_reward", "mean_exp_reward", "kl_to_reference", "entropy")


class Monitor(Protocol):
    """Told of everything that happens in a run; it may not change anything."""

    def started(self, facts: dict[str, Any]) -> None:
        """The run begins or goes on; ``facts`` say what it is."""

    def stage(self, round: int, name: str) -> None:  # noqa: A002
        """A stage of a round begins: fit, sample, pick, measure, save."""

    def warn(self, warnings: Sequence[str]) -> None:
        """The forecast has been made, with these warnings."""

    def finished(self, round: int, trajectory: Trajectory) -> None:  # noqa: A002
        """A round is safely on disk; ``trajectory`` holds everything so far."""


class Silent:
    """Says nothing."""

    def started(self, facts: dict[str, Any]) -> None:
        """Do nothing."""

    def stage(self, round: int, name: str) -> None:  # noqa: A002
        """Do nothing."""

    def warn(self, warnings: Sequence[str]) -> None:
        """Do nothing."""

    def finished(self, round: int, trajectory: Trajectory) -> None:  # noqa: A002
        """Do nothing."""


class Console:
    """A line a round, measured beside forecast; on a terminal also the current stage."""

    def __init__(self) -> None:
        from rich.console import Console as RichConsole

        self._console = RichConsole(highlight=False, markup=False, emoji=False)
        self._status = self._console.status("starting") if self._console.is_terminal else None
        self._rounds = 0
        self._since = time.perf_counter()
        self._columns: list[tuple[str, str | None]] = []

    def started(self, facts: dict[str, Any]) -> None:
        """Print what is run."""
        self._rounds = int(facts["rounds"])
        for name, value in facts.items():
            text = f"{value:.1%}" if name.endswith("accuracy") else str(value)
            self._console.print(f"{name.replace('_', ' '):>30}  {text}", soft_wrap=True)
        if self._status is not None:
            self._status.start()
        self._since = time.perf_counter()

    def stage(self, round: int, name: str) -> None:  # noqa: A002
        """Show the stage on a terminal."""
        if self._status is not None:
            self._status.update(f"round {round} of {self._rounds}: {name}")

    def warn(self, warnings: Sequence[str]) -> None:
        """Print the warnings."""
        for warning in warnings:
            self._console.print(f"warning: {warning}", soft_wrap=True)

    def finished(self, round: int, trajectory: Trajectory) -> None:  # noqa: A002
        """Print the round's line, after a heading before the first."""
        now = time.perf_counter()
        if not self._columns:
            self._columns = [(q, r) for q, r, _ in trajectory.about(MEASURED) if q in SHOWN]
            titles = "".join(f"{_title(q, r):>{WIDTH}}" for q, r in self._columns)
            self._console.print("\nmeasured (forecast)", soft_wrap=True)
            self._console.print(f"round{titles}   seconds", soft_wrap=True)
        cells = "".join(f"{_cell(trajectory, round, q, r):>{WIDTH}}" for q, r in self._columns)
        self._console.print(f"{round:5d}{cells}{now - self._since:10.1f}", soft_wrap=True)
        self._since = now
        if round == self._rounds and self._status is not None:
            self._status.stop()

    def close(self) -> None:
        """Give the terminal back."""
        if self._status is not None:
            self._status.stop()


def _title(quantity: str, reward: str | None) -> str:
    return quantity if reward in (None, "reward") else f"{quantity} {reward}"


def _cell(trajectory: Trajectory, t: int, quantity: str, reward: str | None) -> str:
    values = {
        row.source: row.value
        for row in trajectory.rows
        if (row.round, row.quantity, row.reward) == (t, quantity, reward)
    }
    forecast = values.get(FORECAST)
    return f"{values[MEASURED]:.4g}" + (f" ({forecast:.4g})" if forecast is not None else "")
