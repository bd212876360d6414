"""Where the checkout's parts lie, and how commands refuse bad input."""

from __future__ import annotations

import subprocess
from pathlib import Path

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
GOLDENS = TESTS / "goldens"


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Assert that a command refused bad input as promised, and return its message."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr
    assert "got:" in done.stderr
    assert "remedy:" in done.stderr
    return done.stderr
