"""Errors that users see: what is wrong, what was found, and what to do about it.

Every error in a user's input is an :class:`InputError`. The command line prints it without a traceback and
exits with code 2.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any


class RecurateError(Exception):
    """Base class of every error that recurate raises on purpose."""


class InputError(RecurateError, ValueError):
    """The user's input is wrong.

    Its three parts are kept as the attributes ``what``, ``got`` (as text) and ``remedy``; ``account`` holds
    what had been understood of the input by then, as lines of text.

    >>> print(InputError("k must be a whole number", got=2.5, remedy="use 2 or 3"))
    k must be a whole number
      got:    2.5
      remedy: use 2 or 3

    Args:
        what: Description of the error, which names the file, key, row or argument.
        got: Value that was found there.
        remedy: Action that corrects it.
    """

    def __init__(self, what: str, *, got: object, remedy: str) -> None:
        self.what, self.got, self.remedy = cut(what), cut(str(got)), cut(remedy)
        self.account: tuple[str, ...] = ()
        super().__init__(f"{self.what}\n  got:    {self.got}\n  remedy: {self.remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process makes the error again: its arguments have names."""
        return _again, (type(self), str(self), vars(self))


def _again(kind: type[InputError], message: str, parts: dict[str, str]) -> InputError:
    error = kind.__new__(kind, message)
    vars(error).update(parts)
    return error


def need(packages: Iterable[str], what: str, remedy: str) -> None:
    """Check that packages are installed.

    Args:
        packages: Names of modules.
        what: Subject of the message, such as "figures".
        remedy: Command that installs them.

    Raises:
        InputError: If a package is not installed.
    """
    missing = [name for name in packages if not find_spec(name)]
    if missing:
        what = f"{what} needs more than the plain installation"
        raise InputError(what, got=f"no {', '.join(missing)}", remedy=remedy)


class Stopped(RecurateError):
    """An alarm stopped the run; its complete rounds are kept.

    Args:
        message: Name of the alarm and its consequences.
    """


class Waiting(RecurateError):
    """Shards are missing that this process must not do itself.

    Args:
        count: Number of the shards.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"{count} shards are missing; recurate shard RUN --index I --of N does them")


class WaitingForPeople(RecurateError):
    """A run waits for people's answers; it goes on with ``recurate run --resume``.

    Args:
        count: Number of answers that are missing.
        round: Round that they belong to.
    """

    def __init__(self, count: int, round: int) -> None:  # noqa: A002
        self.count = count
        self.round = round
        super().__init__(f"waiting for {count} picks of round {round}")


class Diverged(InputError):
    """Training diverged: the loss or the weights are no longer finite.

    Args:
        what: Name of the network that was trained.
        learning_rate: Learning rate at which it diverged.
    """

    def __init__(self, what: str, learning_rate: float) -> None:
        super().__init__(
            f"training the {what} diverged: its loss is not a finite number",
            got=f"learning_rate = {learning_rate:g}",
            remedy="lower it, or check the samples for extreme values; complete rounds are kept",
        )


def is_number(value: object) -> bool:
    """Return whether a value is a number (Python's or NumPy's) that fits a double.

    Text, bytes, Booleans and None are not numbers.
    """
    if isinstance(value, bool | str | bytes) or value is None:
        return False
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a remedy for an unknown name: the closest valid name, if one is close, and all valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}? Valid: {', '.join(names)}"
    return f"use one of: {', '.join(names)}"


def cut(text: str, width: int = 600) -> str:
    """Return a text whose lines have at most ``width`` characters, the beginning of each.

    >>> cut("a line of a text", 9)
    'a line...'
    """
    if len(text) <= width:
        return text
    lines = (line if len(line) <= width else line[: width - 3] + "..." for line in text.split("\n"))
    return "\n".join(lines)


def short(value: object, width: int = 80) -> str:
    r"""Return a value as one line of at most ``width`` characters, for a message.

    >>> short("a text of\nseveral lines", 16)
    "'a text of\\ns..."
    """
    if isinstance(value, str):
        value = value[: width + 1]  # its quotes and escapes follow
    shown = repr(value) if isinstance(value, str) else " ".join(str(value).split())
    return shown if len(shown) <= width else shown[: width - 3] + "..."


def counted(count: int, text: str) -> str:
    """Return a number of things in words; ``{one|several}`` in the text agree with it.

    >>> counted(1, "{row is|rows are} left out"), counted(1200, "{row is|rows are} left out")
    ('1 row is left out', '1,200 rows are left out')
    """
    return f"{count:,} " + re.sub(r"\{([^|}]*)\|([^}]*)\}", r"\1" if count == 1 else r"\2", text)
