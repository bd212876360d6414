"""Views of a running loop: a live view on a terminal, plain lines, or JSON lines for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING, Any

from recurate.core.plain import to_json
from recurate.log.trajectory import FORECAST, MEASURED, Trajectory
from recurate.loop.monitors.protocol import Monitor
from recurate.theory.models_forecast import OWN

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH = 23
ROUND_WIDTH = 5
SHOWN = ("mean_reward", "mean_exp_reward", "kl_to_reference", "entropy")
LIVE_ROUNDS = 8  # maximal number of rounds in the live table during the run
LAST_ROUNDS = 30  # maximal number of rounds in the last table
KEPT = 3  # number of alarms and warnings that stay visible

Key = tuple[str, str | None, str | None]


def on_a_terminal() -> bool:
    """Return whether standard output is a terminal that supports a live view."""
    from rich.console import Console

    return sys.stdout.isatty() and not Console().is_dumb_terminal


class Lines(Monitor):
    """Plain text without control characters, one line per round: measured values beside the forecast."""

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._columns: list[Key] = []

    def started(self, facts: dict[str, Any]) -> None:
        """Print the facts about the run."""
        for name, text in plain_facts(facts):
            _print(f"{name:>30}  {text}")
        self._since = time.perf_counter()

    def warn(self, warnings: Sequence[str]) -> None:
        """Print the warnings, one line each."""
        for warning in warnings:
            _print(_printable(f"warning: {warning}"))

    def alarm(self, round: int, message: str, action: str) -> None:  # noqa: A002
        """Print the alarm."""
        _print(_printable(f"alarm in round {round}: {message} ({action})"))

    def finished(self, round: int, trajectory: Trajectory) -> None:  # noqa: A002
        """Print the round's line; the first one follows a heading."""
        now = time.perf_counter()
        if not self._columns:
            self._columns = main_columns(trajectory)
            _print("\nmeasured (forecast)")
            _print("round" + "".join(f"{_title(key):>{WIDTH}}" for key in self._columns) + "   seconds")
        found = _cells(trajectory, round)
        cells = "".join(f"{found.get(key, ''):>{WIDTH}}" for key in self._columns)
        _print(f"{round:{ROUND_WIDTH}d}{cells}{now - self._since:10.1f}")
        self._since = now


class Live(Monitor):
    """A live view on a terminal: stage, pace, time left, the last rounds and the last alarms."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._console = Console(highlight=False, markup=False, emoji=False)
        self._rounds = 0
        self._columns: list[Key] = []
        self._cells: dict[int, dict[Key, str]] = {}
        self._seconds: dict[int, float] = {}
        self._candidates: dict[int, int] = {}
        self._said: list[str] = []
        self._stage: tuple[int, str] = (-1, "set-up")
        self._stage_since = self._round_since = time.perf_counter()
        self._ended = self._begun = False
        self._live = RichLive(
            console=self._console, get_renderable=self.frame, refresh_per_second=4, vertical_overflow="crop"
        )

    def started(self, facts: dict[str, Any]) -> None:
        """Print the facts about the run above the live part."""
        self._rounds = int(facts["rounds"])
        for name, text in plain_facts(facts):
            self._console.print(f"{name:>30}  {text}", soft_wrap=True)
        self._round_since = time.perf_counter()
        self._begin()

    def stage(self, round: int, name: str) -> None:  # noqa: A002
        """Show the stage and the time since it began."""
        now = time.perf_counter()
        if round != self._stage[0]:
            self._round_since = now
        self._stage, self._stage_since = (round, name), now
        self._begin()

    def warn(self, warnings: Sequence[str]) -> None:
        """Add the warnings to those shown."""
        self._said += [f"warning: {_printable(w)}" for w in warnings]

    def counts(self, round: int, counts: dict[str, int]) -> None:  # noqa: A002
        """Record the number of candidates, from which the pace is computed."""
        self._candidates[round] = counts.get("candidates", 0)

    def alarm(self, round: int, message: str, action: str) -> None:  # noqa: A002
        """Add the alarm to those shown."""
        self._said.append(f"alarm in round {round}: {_printable(message)} ({_printable(action)})")

    def finished(self, round: int, trajectory: Trajectory) -> None:  # noqa: A002
        """Add the round to the table."""
        self._seconds[round] = time.perf_counter() - self._round_since
        self._columns = self._columns or main_columns(trajectory)
        self._cells[round] = _cells(trajectory, round)
        if round == self._rounds:
            self._stage = (round, "report")
            self._stage_since = time.perf_counter()

    def close(self) -> None:
        """Show the last frame, with the last rounds and all alarms and warnings, and release the terminal."""
        self._ended = True
        if self._begun:
            self._begun = False
            self._live.vertical_overflow = "visible"
            self._live.stop()

    def _begin(self) -> None:
        if not self._begun and not self._ended:
            self._begun = True
            self._live.start()

    def seconds_left(self, now: float) -> float | None:
        """Return an estimate of the time left in seconds, or None before the first round is complete.

        It is the median duration of the complete rounds times the number of rounds left, less the time spent
        on the current round. Round 0 trains a new model, which later rounds do not, so it counts only until
        a later round is complete.

        Args:
            now: Current reading of ``time.perf_counter``.
        """
        if not self._seconds:
            return None
        pace = median(self._seconds[t] for t in self._usual())
        todo = self._rounds - max(self._seconds)
        spent = now - self._round_since if self._stage[0] > max(self._seconds) else 0.0
        return max(todo * pace - min(spent, pace), 0.0)

    def frame(self) -> RenderableType:
        """Return the current content of the live view."""
        from rich.console import Group
        from rich.text import Text

        now = time.perf_counter()
        parts: list[RenderableType] = []
        if self._cells:
            parts.append(self._table())
        shown = self._said if self._ended else self._said[-KEPT:]
        more = len(self._said) - len(shown)
        if more:
            parts.append(Text(f"{more} earlier alarms and warnings, not shown", style="dim"))
        parts += [Text(line, style="red" if line.startswith("alarm") else "yellow") for line in shown]
        if not self._ended:
            parts += [Text(), self._progress(now)]
        return Group(*parts)

    def _table(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        limit = LAST_ROUNDS if self._ended else max(3, min(LIVE_ROUNDS, self._console.height - 12))
        rounds = list(self._cells)[-limit:]
        cells = [[_title(k), *(self._cells[t].get(k, "") for t in rounds)] for k in self._columns]
        widths = [max(map(len, column)) + 2 for column in cells]
        room = self._console.width - ROUND_WIDTH - 10
        shown = max(sum(sum(widths[: i + 1]) <= room for i in range(len(widths))), 1)
        lines = []
        for i, t in enumerate([None, *rounds]):
            start, end = ("round", "seconds") if t is None else (str(t), f"{self._seconds[t]:.1f}")
            row = "".join(f"{c[i]:>{w}}" for c, w in zip(cells[:shown], widths, strict=False))
            line = f"{start:>{ROUND_WIDTH}}{row}{end:>9}"
            lines.append(Text(line, style="bold" if t is None else "", no_wrap=True))
        notes = []
        if len(self._cells) > len(rounds):
            notes.append(f"{len(self._cells) - len(rounds)} earlier rounds")
        if shown < len(widths):
            notes.append(f"{len(widths) - shown} more columns on a wider terminal")
        if notes:
            lines.append(Text(", ".join(notes), style="dim"))
        return Group(Text("\nmeasured (forecast)", style="dim"), *lines)

    def _progress(self, now: float) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        t, name = self._stage
        done = max(self._seconds, default=max(t, 0) - 1) + 1
        where = f"round {t} of {self._rounds}: {name}" if t >= 0 else name
        line = Text.assemble((where, "bold cyan"), f"  {clock(now - self._stage_since)}")
        pace = self._pace()
        left = self.seconds_left(now)
        if left is not None and name != "report":
            pace.append(f"{clock(left)} left")
        elif t >= 0 and not self._cells:
            pace.append("time left: known after this round")
        parts: list[RenderableType] = [line]
        if pace:
            parts.append(Text(", ".join(pace), style="dim"))
        if self._rounds > 0:
            width = min(self._console.width, 60)
            parts.append(ProgressBar(total=self._rounds + 1, completed=done, width=width))
        return Group(*parts)

    def _pace(self) -> list[str]:
        if not self._seconds:
            return []
        usual = self._usual()
        parts = [f"{sum(self._seconds[t] for t in usual) / len(usual):.3g} s per round"]
        counted = [t for t in usual if self._candidates.get(t)]
        if counted:
            rate = sum(self._candidates[t] for t in counted) / max(
                sum(self._seconds[t] for t in counted), 1e-9
            )
            parts.append(f"{rate:,.0f} candidates per second")
        return parts

    def _usual(self) -> list[int]:
        """Return the complete rounds without round 0, which trains a new model, unless it is the only one."""
        return [t for t in self._seconds if t > 0] or list(self._seconds)


class JsonLines(Monitor):
    """JSON lines: one object per event; nothing else is written to the stream.

    Args:
        stream: Stream to write to; it is flushed after every line.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def started(self, facts: dict[str, Any]) -> None:
        """Write the facts about the run."""
        self._say(
            "started", facts={n: v if isinstance(v, int | float | None) else str(v) for n, v in facts.items()}
        )

    def stage(self, round: int, name: str) -> None:  # noqa: A002
        """Write the stage."""
        self._say("stage", round=round, stage=name)

    def warn(self, warnings: Sequence[str]) -> None:
        """Write one line per warning."""
        for warning in warnings:
            self._say("warning", message=str(warning))

    def counts(self, round: int, counts: dict[str, int]) -> None:  # noqa: A002
        """Write the round's exact sizes."""
        self._say("counts", round=round, counts={n: int(v) for n, v in counts.items()})

    def alarm(self, round: int, message: str, action: str) -> None:  # noqa: A002
        """Write the alarm."""
        self._say("alarm", round=round, message=message, action=action)

    def finished(self, round: int, trajectory: Trajectory) -> None:  # noqa: A002
        """Write every value of the round, measured or forecast."""
        names = ("source", "quantity", "reward", "group", "value", "lower", "upper")
        rows = trajectory.where(round=round).rows
        self._say("round", round=round, values=[{n: getattr(row, n) for n in names} for row in rows])

    def done(self, folder: Path, report: Path) -> None:
        """Write the paths of the run folder and the report."""
        self._say("done", run=str(folder), report=str(report))

    def _say(self, event: str, **what: Any) -> None:
        self._stream.write(to_json({"event": event, **what}, indent=None) + "\n")
        self._stream.flush()


def plain_facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return facts as pairs of printable text: name and value."""
    return [
        (name.replace("_", " "), _printable(f"{value:.1%}" if name.endswith("accuracy") else str(value)))
        for name, value in facts.items()
    ]


def main_columns(trajectory: Trajectory) -> list[Key]:
    """Return the series that a table shows: the main quantities, or the own rewards of several models."""
    measured = trajectory.about(MEASURED)
    return [key for key in measured if key[0] == OWN] or [key for key in measured if key[0] in SHOWN]


def clock(seconds: float) -> str:
    """Return a duration in seconds as text such as 0:07, 12:30 or 1:02:03."""
    whole = int(seconds + 0.5)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _title(key: Key) -> str:
    quantity, reward, group = key
    text = quantity if reward in (None, "reward") else f"{quantity} {reward}"
    text = f"{text} {group}" if group else text
    return _printable(text if len(text) < WIDTH else text[: WIDTH - 3] + "..")


def _cells(trajectory: Trajectory, t: int) -> dict[Key, str]:
    """Return the text of a round's cells by series: the measured value and, in brackets, the forecast."""
    rows = trajectory.where(round=t).rows
    forecast = {row.key: f" ({row.value:.4g})" for row in rows if row.source == FORECAST}
    return {row.key: f"{row.value:.4g}{forecast.get(row.key, '')}" for row in rows if row.source == MEASURED}


def _printable(text: str) -> str:
    """Replace characters that are not printable: names from files could contain control sequences."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _print(text: str) -> None:
    print(text, flush=True)
