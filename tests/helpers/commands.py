"""The command line within this process: as in a shell, but Python is not started anew for every call."""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import typer

from recurate import cli


@dataclass(frozen=True)
class Done:
    """What a command left: exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@functools.cache
def _app() -> Any:
    """Return the command line with all its options, which Typer makes anew in every call: 30 ms each."""
    return typer.main.get_command(cli.app)


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
        mock.patch.object(cli, "app", _app()),
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
