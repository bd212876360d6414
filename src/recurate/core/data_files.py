"""Locations and hashes of data files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from recurate.core.errors import InputError

VARIABLE = "RECURATE_DATA"  # environment variable that names the data folder


def locate(path: str) -> Path:
    """Return the location of a path relative to the current folder or, failing that, to the data folder.

    Raises:
        InputError: If neither exists.
    """
    base = os.environ.get(VARIABLE)
    tried = [Path(path)]
    if base and not tried[0].is_absolute():
        tried.append(Path(base) / path)
    for place in tried:
        if place.exists():
            return place
    raise InputError(
        "no such data file or folder",
        got=" nor ".join(str(place.absolute()) for place in tried),
        remedy=f"check the path: it is relative to the current folder or, failing that, to the folder that "
        f"the environment variable {VARIABLE} names",
    )


def is_there(path: str) -> bool:
    """Return whether :func:`locate` finds a path."""
    try:
        locate(path)
    except InputError:
        return False
    return True


def sha256_of_all(folder: Path, paths: Iterable[Path]) -> str:
    """Return one SHA-256 of several files: of their names relative to a folder and their contents.

    The files are hashed in the order of their names.
    """
    whole = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in paths):
        content = path.read_bytes()
        whole.update(f"{name}\0{len(content)}\0".encode())
        whole.update(content)
    return whole.hexdigest()
