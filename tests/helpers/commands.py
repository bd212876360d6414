"""The command line within this process: as in a shell, but Python is not started anew for every call."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from recurate import cli


@dataclass(frozen=True)
class Done:
    """What a command left: exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def call(*arguments: Any, cwd: Path, overflow: bool = False) -> Done:
    """Run ``recurate ARGUMENTS`` in ``cwd``.

    Args:
        arguments: of the command line.
        cwd: where.
        overflow: let NumPy's warnings pass, as outside tests: for numbers that overflow.

    Raises:
        Exception: whatever a user would see as a traceback.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", ["recurate", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        if overflow:
            warnings.simplefilter("ignore", RuntimeWarning)
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int), code
    return Done(code, out.getvalue(), err.getvalue())
