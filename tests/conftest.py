"""Shared by all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Derandomised: a test run's verdict depends on the code alone.
settings.register_profile("recurate", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("recurate")


@pytest.fixture
def recurate_cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a user does, in an empty folder."""

    def call(*arguments: Any, cwd: Path = tmp_path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "recurate.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=timeout,
            env=os.environ | {"COLUMNS": "160"},
            check=False,
        )

    return call
