"""Limits against small files that unpack to very much and settings that need more memory than there is.

``RECURATE_MAX_BYTES`` and ``RECURATE_MAX_PIXELS`` raise those of files. Tables with more rows than
``RECURATE_MAX_ROWS`` are read in parts.
"""

from __future__ import annotations

import os

from recurate.core.errors import InputError

BYTES, PIXELS, ROWS = "RECURATE_MAX_BYTES", "RECURATE_MAX_PIXELS", "RECURATE_MAX_ROWS"
USUAL = {BYTES: 2**30, PIXELS: 100_000_000, ROWS: 20_000_000}
RATIO = 100  # of unpacked to packed bytes; no table of measured numbers is packed more tightly


def limit(name: str) -> int:
    """Return a limit: the environment's or the usual one.

    Raises:
        InputError: If the environment's is not a positive whole number.
    """
    given = os.environ.get(name, "")
    if not given:
        return USUAL[name]
    if not given.isdecimal() or len(given) > 18 or not int(given):
        raise InputError(f"{name} must be a positive whole number", got=given[:40], remedy=f"{name}={2**34}")
    return int(given)


def check_unpacked(name: object, packed: int, unpacked: int) -> None:
    """Refuse a file that unpacks to more than ``RECURATE_MAX_BYTES`` and 100 times its size.

    Args:
        name: Name of the file in the message.
        packed: Its size in bytes.
        unpacked: What it unpacks to, or a lower bound, in bytes.

    Raises:
        InputError: If it is too much.
    """
    if unpacked > max(limit(BYTES), RATIO * packed):
        raise InputError(
            f"{name} unpacks to more than {RATIO} times its size, and is too large",
            got=f"{packed:,} bytes, more than {limit(BYTES):,} unpacked",
            remedy=f"unpack it first, or if you trust it: {BYTES}={4 * unpacked} in the environment",
        )


def check_pixels(name: object, width: int, height: int) -> None:
    """Refuse an image with more than ``RECURATE_MAX_PIXELS`` pixels, before it is decoded.

    Raises:
        InputError: If it has.
    """
    if width * height > limit(PIXELS):
        raise InputError(
            "an image is too large",
            got=f"{name}: {width:,} x {height:,} pixels, more than {limit(PIXELS):,}",
            remedy=f"scale it down, or if you trust it: {PIXELS}={width * height} in the environment",
        )


def check_memory(what: str, needed: float, remedy: str) -> None:
    """Refuse settings that need more memory than this machine has.

    Args:
        what: What needs it.
        needed: Lower bound of what it needs, in bytes.
        remedy: Remedy that the error states.

    Raises:
        InputError: If there is too little.
    """
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # a system that does not tell
        return
    if needed > there:
        got = f"{needed / 2**30:.3g} GiB at least, and this machine has {there / 2**30:.3g}"
        raise InputError(f"{what} does not fit into memory", got=got, remedy=remedy)
