"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recurate.core.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed to ``path``.

    A crash leaves the old file, or none, but never half of one.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        sync(partial)
        os.replace(partial, path)
        sync(path.absolute().parent)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Force a file's or folder's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let what is inside finish before Ctrl-C takes effect (in the main thread, where signals arrive)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *arguments: asked.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked and callable(before):
        before(*asked[0])


@contextmanager
def full_disk_explained(path: Path, remedy: str) -> Iterator[None]:
    """Turn what libraries raise on a full disk into one error that names the folder.

    Raises:
        InputError: there was no room.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not is_full(error):
            raise
        raise InputError(
            "the disk is full; everything complete is kept, and nothing else", got=path, remedy=remedy
        ) from error


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room; not all libraries keep the number."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    numbered = isinstance(error, OSError) and error.errno in full
    return numbered or any(
        text in str(error) for text in ("No space left", "os error 28", "Disk quota exceeded")
    )
