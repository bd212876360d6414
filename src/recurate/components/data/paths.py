"""Where data lie, and what their files hash to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from recurate.core.errors import InputError

VARIABLE = "RECURATE_DATA"  # environment: a folder of data


def locate(path: str) -> Path:
    """Return where a path leads from the current folder or, failing that, from the folder of data.

    Raises:
        InputError: nothing is there.
    """
    base = os.environ.get(VARIABLE)
    tried = [Path(path)]
    if base and not tried[0].is_absolute():
        tried.append(Path(base) / path)
    for place in tried:
        if place.exists():
            return place
    raise InputError(
        "no such file or folder of data",
        got=" nor ".join(str(place.absolute()) for place in tried),
        remedy=f"check the path: it is seen from the current folder, then from the folder that the "
        f"environment variable {VARIABLE} names",
    )


def sha256_of_all(folder: Path, paths: Iterable[Path]) -> str:
    """Return one hash of files' names below a folder and of their contents, in the order of the names."""
    whole = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in paths):
        content = path.read_bytes()
        whole.update(f"{name}\0{len(content)}\0".encode())
        whole.update(content)
    return whole.hexdigest()
