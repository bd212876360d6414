"""Folders and files that say when they were altered: hashes of every file, and seals."""

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

CONTENTS = "contents.json"  # facts about a folder, and the hash of every file in it
SEAL = "seal"


def write_folder(target: Path, fill: Callable[[Path], None], facts: dict[str, Any]) -> None:
    """Write a folder that appears in one rename, with facts and the hash of every file in it."""
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
    """Check a folder's files; of a round's also that it is round t."""
    contents = read_json(folder / CONTENTS, remedy)
    if t is not None and contents["facts"].get("round") != t:
        raise altered(folder / CONTENTS, remedy)
    for name, digest in contents["sha256"].items():
        path = folder / name
        if not path.is_file() or sha256(path) != digest:
            raise altered(path, remedy)


def altered(path: Path, remedy: str) -> InputError:
    """Return the error for a file that is not what was written."""
    return InputError("a file of the run is not what was written", got=path, remedy=remedy)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a sealed JSON object, without its seal."""
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
    """Return JSON that ends with the hash of all before it."""
    digest = hashlib.sha256(json.dumps(found, indent=2).encode()).hexdigest()
    return json.dumps({**found, SEAL: digest}, indent=2) + "\n"


def seal_holds(found: dict[str, Any], text: str) -> bool:
    """Return whether ``text`` is what :func:`sealed` made of ``found``."""
    return SEAL in found and text == sealed({key: value for key, value in found.items() if key != SEAL})


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
