"""Atomic writing: a file appears whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recurate.core.errors import InputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success, sync the file and rename it to ``path``.

    After a crash, ``path`` holds the old file or does not exist; it never holds part of a file.
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


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ValueError: If it is not valid TOML, or not UTF-8, or nests too deeply.
    """
    return parse_toml(path.read_text(encoding="utf-8"))


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML; whole numbers have 64 bits there.

    Raises:
        ValueError: If it is not valid TOML or nests too deeply.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("values are nested too deeply") from None


def save_tensors(tensors: Mapping[str, Any], path: Path) -> None:
    """Write arrays as safetensors, with the mode that the umask gives: the library makes files private."""
    from safetensors.numpy import save_file

    save_file(dict(tensors), path)
    mask = os.umask(0o077)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def sync(path: Path) -> None:
    """Flush the contents of a file or folder to the disk (``fsync``)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the block has finished.

    Signals arrive in the main thread only; in any other thread this does nothing.
    """
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
    """Convert the errors that libraries raise on a full disk into one error that names the folder.

    Args:
        path: Folder that is written to.
        remedy: Remedy that the error states.

    Raises:
        InputError: If the disk is full. Other errors pass through unchanged.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not is_full(error):
            raise
        raise InputError(
            "the disk is full; only what was complete is kept", got=path, remedy=remedy
        ) from error


def is_full(error: BaseException) -> bool:
    """Return whether an error reports a full disk.

    Some libraries drop the error number, so the message is examined too.
    """
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    numbered = isinstance(error, OSError) and error.errno in full
    return numbered or any(
        text in str(error) for text in ("No space left", "os error 28", "Disk quota exceeded")
    )
