"""What users see when input is wrong: what, got, remedy.

Every complaint about input is an :class:`InputError`. The command line prints it without a traceback
and leaves with exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class RecurateError(Exception):
    """Base class of every error that recurate raises on purpose."""


class InputError(RecurateError, ValueError):
    """Something that the user gave is wrong.

    Args:
        what: what is wrong, naming the file, key, row or argument.
        got: what was found there.
        remedy: what to do about it.
    """

    def __init__(self, what: str, *, got: object, remedy: str) -> None:
        self.what = what
        self.got = str(got)
        self.remedy = remedy
        super().__init__(f"{what}\n  got:    {self.got}\n  remedy: {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process makes the error again: its arguments have names."""
        return _again, (type(self), str(self), vars(self))


def _again(kind: type[InputError], message: str, parts: dict[str, str]) -> InputError:
    error = kind.__new__(kind, message)
    vars(error).update(parts)
    return error


class Stopped(RecurateError):
    """A run stopped itself because of an alarm; everything complete is kept.

    Args:
        message: which alarm, and what follows.
    """


class Diverged(InputError):
    """Training went to infinity: the loss or the weights are no longer numbers."""

    def __init__(self, what: str, learning_rate: float) -> None:
        super().__init__(
            f"training the {what} diverged: its loss is not a finite number",
            got=f"learning_rate = {learning_rate:g}",
            remedy="lower it, or look for extreme values among the samples; what was complete before is kept",
        )


def is_number(value: object) -> bool:
    """Whether a value is a number that fits a double (NumPy's too), not text or a truth value."""
    if isinstance(value, bool | str | bytes) or value is None:
        return False
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a remedy that names the valid name closest to ``name``, or all of them."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}? Valid: {', '.join(names)}"
    return f"use one of: {', '.join(names)}"
