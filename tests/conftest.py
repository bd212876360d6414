"""Shared by all tests."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from helpers.commands import Done, call
from helpers.faults import Server
from helpers.tiny import differences

pytest_plugins = ("helpers.studies",)

# The key that marks runs as this user's is the tests' own.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="recurate-state-")

# With some values of TERM, GNU readline gives the processes of pytest-xdist a terminal of 80 columns.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)

# Modules and rewritten tests are compiled once, not in every process.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Derandomised: a test run's verdict depends on the code alone.
settings.register_profile("recurate", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("recurate")


def pytest_collection_finish() -> None:
    """Collect garbage less often: large libraries' objects, which live as long as the process, are many."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_assertrepr_compare(op: str, left: Any, right: Any) -> list[str] | None:
    """Say which files of two folders differ, and where, in place of all their bytes."""
    if op != "==" or not (isinstance(left, dict) and isinstance(right, dict)):
        return None
    if not any(isinstance(data, bytes) for data in (*left.values(), *right.values())):
        return None
    return ["the folders' files differ:", *differences(left, right)]


@pytest.fixture
def few_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate bands with 19 replicates, the fewest with a 95 % quantile: for tests that look at no band."""
    monkeypatch.setattr("recurate.theory.bands.REPLICATES", 19)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a process that has imported everything, made when first asked for."""
    serving = Server(tmp_path_factory.mktemp("server"))
    yield serving
    serving.close()


@pytest.fixture
def recurate_cli(server: Server, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a user does, as a process of its own, in an empty folder."""

    def call(*arguments: Any, cwd: Path = tmp_path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return server.warm(*arguments, cwd=cwd, timeout=timeout)

    return call


@pytest.fixture
def recurate_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run the command line within this process: a tenth of the cost, where the process is not tested."""
    monkeypatch.setenv("COLUMNS", "160")
    return functools.partial(call, cwd=tmp_path)
