"""The line on a terminal that says what is being done, since when, and for how long still."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from recurate.core.progress import clock
from recurate.report.colour import is_terminal

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

EARLIEST = 1.0  # seconds of a stage before its time left is estimated


class Meter:
    """One line on standard error: the stage, its steps, the time since it began and the time left.

    Nothing is written unless standard error is a terminal; the line disappears when the work is done. The
    time left is that of the stage, whose remaining steps are assumed to take as long as those that are done.
    """

    def __init__(self) -> None:
        self.name = ""
        self.left_behind = ""
        self._since = time.perf_counter()
        self._done: tuple[int, int] | None = None
        self._live: Live | None = None
        self._shown = is_terminal(sys.stderr)

    def stage(self, name: str) -> None:
        """Begin a stage."""
        self.name, self._since, self._done = name, time.perf_counter(), None
        self._show()

    def step(self, done: int, total: int) -> None:
        """Note the steps that are done, if a stage has begun."""
        if self.name:
            self._done = (done, total)
            self._show()

    def kept(self, what: str) -> None:
        """Note what would be left if the work were stopped now."""
        self.left_behind = what

    def hide(self) -> None:
        """Remove the line until the next stage or step."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def line(self, now: float) -> str:
        """Return the line's text.

        Args:
            now: Reading of ``time.perf_counter``.
        """
        spent = now - self._since
        done, total = self._done or (0, 0)
        parts = [self.name, *([f"{done} of {total}"] if total > 1 else []), clock(spent)]
        if 0 < done < total and spent >= EARLIEST:
            parts.append(f"about {clock(spent / done * (total - done))} left")
        return "  ".join(parts)

    def stopped(self) -> str:
        """Return what to say after Ctrl-C."""
        where = f" while {self.name}" if self.name else ""
        return f"stopped{where}" + (f"; {self.left_behind}" if self.left_behind else "")

    def _show(self) -> None:
        if not self._shown or self._live is not None:
            return
        from rich.console import Console
        from rich.live import Live

        # Standard output may be a pipe, which must not get what belongs to the line.
        self._live = Live(
            console=Console(stderr=True, highlight=False, markup=False, emoji=False),
            get_renderable=self._frame, refresh_per_second=4, transient=True,
            redirect_stdout=False, redirect_stderr=True,
        )  # fmt: skip
        self._live.start()

    def _frame(self) -> Text:
        from rich.text import Text

        return Text(self.line(time.perf_counter()), style="cyan", no_wrap=True, overflow="ellipsis")
