"""Other people's programs: run with a time limit, their output kept, their exit codes obeyed, retried.

A command is a list of words. ``{name}`` in a word is replaced by a value; what is not a known name is
refused, so that a misspelt placeholder never reaches the program.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from recurate.core.errors import InputError, nearest

T = TypeVar("T")

PLACEHOLDER = re.compile(r"\{(\w+)\}")
GRACE = 10.0  # seconds between being asked to stop and being killed
SHOWN = 15  # last lines of output in an error


def check_placeholders(command: Sequence[str], known: Iterable[str], needed: Iterable[str]) -> None:
    """Check a command's placeholders.

    Raises:
        ValueError: one is not known, or one of the needed ones is absent.
    """
    known = (*known, "python")
    used = {name for word in command for name in PLACEHOLDER.findall(word)}
    for name in sorted(used - set(known)):
        raise ValueError(f"unknown placeholder {{{name}}}: {nearest(name, known)}")
    for name in sorted(set(needed) - used):
        raise ValueError(f"the command must name {{{name}}}, or it cannot know where that is")


def fill(command: Sequence[str], values: Mapping[str, object]) -> list[str]:
    """Return the command with its placeholders replaced."""
    return [PLACEHOLDER.sub(lambda m: str(values[m.group(1)]), word) for word in command]


@dataclass(frozen=True)
class Program:
    """A command with the care it is run with.

    Attributes:
        title: what it is called in messages: ``generator.sample``.
        command: its words, with placeholders.
        folder: where it runs.
        timeout: seconds after which it is stopped; it counts as failed.
        retries: how often it is started again after a failure.
    """

    title: str
    command: tuple[str, ...]
    folder: Path
    timeout: float
    retries: int

    def run(
        self,
        values: Mapping[str, object],
        log: Path,
        *,
        prepare: Callable[[], None] = lambda: None,
        check: Callable[[], T],
    ) -> T:
        """Run until it succeeds and return what ``check`` made of its files.

        Args:
            values: of the placeholders.
            log: file that the output of all attempts is appended to.
            prepare: called before every attempt, to remove what an earlier one left.
            check: reads and checks what the program wrote; an InputError from it is a failure like any other.

        Raises:
            InputError: the program cannot be started, or every attempt failed. The message has the reason,
                the last lines of output and where the whole of it is.
        """
        words = fill(self.command, {"python": sys.executable, **values})
        if _find(words[0], self.folder) is None:
            raise InputError(
                f"{self.title}: there is no such program", got=words[0], remedy="install it or give its path"
            )
        log.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(self.retries + 1):
            prepare()
            why = self._once(words, log, attempt)
            if why is None:
                try:
                    return check()
                except InputError as error:
                    why = f"{error.what} ({error.got})"
        times = f" {self.retries + 1} times" if self.retries else ""
        raise InputError(
            f"{self.title} failed{times}: {why}",
            got=_tail(log),
            remedy=f"{log} has everything it printed; mend it and run recurate run --resume, with "
            "--accept-changes if a file was edited for that",
        )

    def _once(self, words: Sequence[str], log: Path, attempt: int) -> str | None:
        """Run once; return why it failed, or None."""
        with log.open("ab") as out:
            out.write(f"$ {' '.join(words)}\n".encode() if not attempt else b"$ (again)\n")
            out.flush()
            # A session of its own, so that whatever it starts can be stopped with it.
            process = subprocess.Popen(
                [*_dying_with_us(), *words],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                return f"it took more than {self.timeout:g} seconds"
            finally:
                _stop(process)
        if code == 0:
            return None
        return f"it was killed by signal {-code}" if code < 0 else f"its exit code was {code}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a program and everything that it started."""
    for kind, wait in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        if process.poll() is not None and kind is signal.SIGTERM:
            return
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            return
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            continue


def _find(program: str, folder: Path) -> str | None:
    """Return where a program is; paths are seen from the folder that it will run in."""
    return shutil.which(str(folder / program) if os.sep in program else program)


def _dying_with_us() -> list[str]:
    """Return what to put before a command so that it is stopped if recurate is killed (Linux has setpriv)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    shown = [line for line in lines if not line.startswith("$ ")][-SHOWN:]
    return "\n          ".join(["its last lines:", *shown]) if shown else "no output"
