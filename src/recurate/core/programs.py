"""External programs, run with a time limit and retries; their output is kept and exit codes are checked.

A command is a list of words. A placeholder ``{name}`` in a word is replaced by a value. Unknown placeholders
are rejected, so that a misspelt one never reaches the program.
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
GRACE = 10.0  # seconds between SIGTERM and SIGKILL
SHOWN = 15  # lines at the end of the output that an error shows


def check_placeholders(command: Sequence[str], known: Iterable[str], needed: Iterable[str]) -> None:
    """Check a command's placeholders.

    Args:
        command: Words of the command.
        known: Names of the valid placeholders, besides ``python``.
        needed: Names of the placeholders that the command must contain.

    Raises:
        ValueError: If a placeholder is unknown or a needed one is absent.
    """
    known = (*known, "python")
    used = {name for word in command for name in PLACEHOLDER.findall(word)}
    for name in sorted(used - set(known)):
        raise ValueError(f"unknown placeholder {{{name}}}: {nearest(name, known)}")
    for name in sorted(set(needed) - used):
        raise ValueError(f"the command must name {{{name}}}: without it, the program does not know that path")


def fill(command: Sequence[str], values: Mapping[str, object]) -> list[str]:
    """Return the command with each placeholder replaced by its value.

    Raises:
        KeyError: If a placeholder has no value; see :func:`check_placeholders`.
    """
    return [PLACEHOLDER.sub(lambda m: str(values[m.group(1)]), word) for word in command]


@dataclass(frozen=True)
class Program:
    """An external command, with the folder it runs in, its time limit and its number of retries.

    Attributes:
        title: Name of the command in messages, such as ``generator.sample``.
        command: Words of the command, with placeholders.
        folder: Folder that the command runs in.
        timeout: Time limit per attempt, in seconds; an attempt that exceeds it is stopped and has failed.
        retries: Maximal number of further attempts after a failed one.
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
        """Run the command until an attempt succeeds, and return the result of ``check``.

        Args:
            values: Value of every placeholder.
            log: File that the output of all attempts is appended to.
            prepare: Function that is called before every attempt, to remove an earlier attempt's files.
            check: Function that reads and checks the program's files and returns the result. If it raises an
                InputError, the attempt has failed.

        Raises:
            InputError: If the program is not found or every attempt failed. The message states the reason,
                the last lines of the output, and the file that holds all of it.
        """
        words = fill(self.command, {"python": sys.executable, **values})
        if _find(words[0], self.folder) is None:
            raise InputError(
                f"{self.title}: no such program", got=words[0], remedy="install it or give its path"
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
            remedy=f"its whole output is in {log}; fix the program, then run recurate run --resume, with "
            "--accept-changes if you edited one of its files",
        )

    def _once(self, words: Sequence[str], log: Path, attempt: int) -> str | None:
        """Run the command once; return the reason for its failure, or None."""
        with log.open("ab") as out:
            out.write(f"$ {' '.join(words)}\n".encode() if not attempt else b"$ (again)\n")
            out.flush()
            # A new session, so that every process that it starts can be stopped with it.
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
    """Stop a program and every process that it started."""
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
    """Return the path of a program, or None; a relative path starts at the folder that it will run in."""
    return shutil.which(str(folder / program) if os.sep in program else program)


def _dying_with_us() -> list[str]:
    """Return the prefix that stops a command when recurate is killed: setpriv on Linux, or nothing."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    shown = [line for line in lines if not line.startswith("$ ")][-SHOWN:]
    return "\n          ".join(["its last lines:", *shown]) if shown else "no output"
