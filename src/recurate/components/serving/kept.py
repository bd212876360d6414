"""Answers that are kept as they arrive, so that nothing that a server said is asked for again."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any


class Kept:
    """JSON objects in a file, one a line. A line that a crash has cut is left out.

    Args:
        path: The file; None: the objects are not written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._at = 0  # where the unread lines begin

    def new(self) -> list[dict[str, Any]]:
        """Return the objects that were added, by whichever process, since the last call."""
        if self.path is None or not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        return [line for line in map(_parsed, whole.splitlines()) if line is not None]

    def add(self, line: dict[str, Any]) -> None:
        """Append an object, in one write."""
        if self.path is None:
            return
        content = json.dumps(line, allow_nan=False).encode() + b"\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
                file.write(b"\n" + content if torn else content)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
