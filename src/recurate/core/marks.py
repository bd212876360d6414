"""Marks on what this user made on this machine: a keyed hash that nobody without the key can make.

The key is a file that only its owner can read, in ``$XDG_STATE_HOME/recurate`` (``~/.local/state/recurate``).
It is made when first needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Any

MARK = "made_by"  # name of the mark in the object that it marks


def marked(found: dict[str, Any]) -> dict[str, Any]:
    """Return an object with its mark, or without one if no key can be kept."""
    key = _key(make=True)
    return found if key is None else found | {MARK: _mark(found, key)}


def is_own(found: dict[str, Any]) -> bool:
    """Return whether an object has the mark of this user on this machine."""
    key, mark = _key(), found.get(MARK)
    own = {name: value for name, value in found.items() if name != MARK}
    return key is not None and isinstance(mark, str) and hmac.compare_digest(mark, _mark(own, key))


def _mark(found: dict[str, Any], key: bytes) -> str:
    return hmac.new(key, json.dumps(found, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _key(*, make: bool = False) -> bytes | None:
    path = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "recurate" / "key"
    with contextlib.suppress(OSError, RuntimeError):  # no home, or one that cannot be written
        if make and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            own = path.with_name(f".key-{secrets.token_hex(8)}")
            with open(own, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(secrets.token_bytes(32))
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(own, path)
            own.unlink()
        key = path.read_bytes()
        return key if len(key) == 32 else None
    return None
