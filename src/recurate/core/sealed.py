"""Folders and files in which an alteration is detected: hashes of every file, and seals on JSON files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recurate.core.errors import InputError
from recurate.core.files import sync

CONTENTS = "contents.json"  # facts about a folder and the hash of every file in it
SEAL = "seal"


def write_folder(target: Path, fill: Callable[[Path], None], facts: dict[str, Any]) -> None:
    """Write a folder atomically, with ``contents.json``: facts and the SHA-256 of every file.

    Args:
        target: Folder to write; it appears in one rename, or not at all.
        fill: Function that writes the files into the temporary folder that it is given.
        facts: Facts about the folder, as JSON values.
    """
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a crash
    partial.mkdir(parents=True)
    try:
        fill(partial)
        files = sorted(p for p in partial.rglob("*") if p.is_file())
        sums = {p.relative_to(partial).as_posix(): sha256(p) for p in files}
        (partial / CONTENTS).write_text(sealed({"facts": facts, "sha256": sums}), encoding="utf-8")
        for path in (*partial.rglob("*"), partial):
            sync(path)
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # on a full disk this makes room
        raise
    sync(target.parent)
    sync(target.absolute().parent.parent)  # it may be new too


def verify(folder: Path, remedy: str, t: int | None = None) -> None:
    """Check every file of a folder against its recorded SHA-256.

    Args:
        folder: Folder written by :func:`write_folder`.
        remedy: Remedy that the error states.
        t: Round that the folder must be of; None for folders that are not of a round.

    Raises:
        InputError: If a file is missing or altered, or the folder is of another round.
    """
    contents = read_json(folder / CONTENTS, remedy)
    if t is not None and contents["facts"].get("round") != t:
        raise altered(folder / CONTENTS, remedy)
    for name, digest in contents["sha256"].items():
        path = folder / name
        if not path.is_file() or sha256(path) != digest:
            raise altered(path, remedy)


def altered(path: Path, remedy: str) -> InputError:
    """Return the error for a file that is missing or was altered."""
    return InputError("a file of the run is missing or was altered", got=path, remedy=remedy)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a sealed JSON object and return it without its seal.

    Raises:
        InputError: If the file is missing, is not a JSON object, or its seal does not match.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError):
        raise altered(path, remedy) from None
    if not isinstance(found, dict) or not seal_holds(found, text):
        raise altered(path, remedy)
    found.pop(SEAL, None)
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
