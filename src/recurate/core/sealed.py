"""Folders and files in which an alteration is detected: hashes of every file, and seals on JSON files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from recurate.core.errors import InputError
from recurate.core.files import sync

CONTENTS = "contents.json"  # facts about a folder and the hash of every file in it
SEAL = "seal"
RUN, BEFORE = "run", "before"  # links of a round: seals of the run's manifest, and of the round before it
NONE: Mapping[str, str] = MappingProxyType({})


def write_folder(
    target: Path,
    fill: Callable[[Path], None],
    facts: dict[str, Any],
    links: Mapping[str, str] = NONE,
    partial: Path | None = None,
) -> None:
    """Write a folder atomically, with ``contents.json``: facts, links and the SHA-256 of every file.

    Args:
        target: Folder to write; it appears in one rename, or not at all.
        fill: Function that writes the files into the temporary folder that it is given.
        facts: Facts about the folder, as JSON values.
        links: Seals of other files that this folder belongs to, by name.
        partial: Temporary folder; None: one beside the target, with a name that a crash leaves to the next.
    """
    partial = partial or target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a crash
    partial.mkdir(parents=True)
    try:
        fill(partial)
        files = sorted(p for p in partial.rglob("*") if p.is_file())
        sums = {p.relative_to(partial).as_posix(): sha256(p) for p in files}
        text = sealed({"facts": facts, **links, "sha256": sums})
        (partial / CONTENTS).write_text(text, encoding="utf-8")
        for path in (*partial.rglob("*"), partial):
            sync(path)
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # on a full disk this makes room
        raise
    sync(target.parent)
    sync(target.absolute().parent.parent)  # it may be new too


def verify(
    folder: Path,
    remedy: str,
    links: Mapping[str, str] = NONE,
    dropped: Callable[[str], bool] = lambda name: False,
) -> str:
    """Check every file of a folder against its recorded SHA-256, and the folder's links.

    Args:
        folder: Folder written by :func:`write_folder`.
        remedy: Remedy that the error states.
        links: Links that the folder must have.
        dropped: Function that says of a file's name whether it may be missing.

    Returns:
        The folder's seal.

    Raises:
        InputError: If a file is missing or altered, or the folder has other links.
    """
    contents = read_json(folder / CONTENTS, remedy)
    for name, seal in links.items():
        if contents.get(name) != seal:
            raise foreign(folder / CONTENTS, name, contents.get(name), seal, remedy)
    for name, digest in field(contents, "sha256", dict, folder / CONTENTS, remedy).items():
        path = folder / name
        if not path.exists() and dropped(name):
            continue
        if not path.is_file() or sha256(path) != digest:
            raise altered(path, remedy)
    return str(contents[SEAL])


def field(found: Mapping[str, Any], name: str, kind: type[Any], path: Path, remedy: str) -> Any:
    """Return a field of a sealed object, which whoever can compute its seal may have left out.

    Raises:
        InputError: If it is missing or of another type.
    """
    value = found.get(name)
    if not isinstance(value, kind):
        raise altered(path, remedy)
    return value


def altered(path: Path, remedy: str) -> InputError:
    """Return the error for a file that is missing or was altered."""
    return InputError("a file of the run is missing or was altered", got=path, remedy=remedy)


def foreign(path: Path, name: str, found: object, seal: str, remedy: str) -> InputError:
    """Return the error for a part of another run, or of another course of the same run."""
    what = "a part of the run is another run's" if name == RUN else "a round does not follow the one before"
    got = f"{path}, sealed for {str(found)[:12]}, not {seal[:12]}"
    return InputError(what, got=got, remedy=remedy)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a sealed JSON object, its seal included.

    Raises:
        InputError: If the file is missing, is not a JSON object, or its seal does not match.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError, RecursionError):
        raise altered(path, remedy) from None
    if not isinstance(found, dict) or not seal_holds(found, text):
        raise altered(path, remedy)
    return found


def sealed(found: dict[str, Any]) -> str:
    """Return an object as JSON whose last key, ``seal``, is the SHA-256 of the object without it."""
    digest = hashlib.sha256(json.dumps(found, indent=2).encode()).hexdigest()
    return json.dumps({**found, SEAL: digest}, indent=2) + "\n"


def seal_holds(found: dict[str, Any], text: str) -> bool:
    """Return whether ``text``, parsed as ``found``, is byte for byte the output of :func:`sealed`."""
    return SEAL in found and text == sealed({key: value for key, value in found.items() if key != SEAL})


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
