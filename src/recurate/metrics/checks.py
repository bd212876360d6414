"""Samples of features or rewards, one row each: checked before anything is measured of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError

LARGEST = 1e100  # larger numbers have no squares


def sample(values: ArrayLike, name: str, least: int) -> FloatArray:
    """Return a sample as a matrix of floats, or raise InputError."""
    try:
        rows = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} is not numeric", got=error, remedy="give an array of numbers (n, d)"
        ) from None
    if rows.ndim != 2 or rows.shape[1] == 0:
        remedy = "give one row a sample, one column a feature: (n, d)"
        raise InputError(f"{name} is not a matrix", got=f"shape {rows.shape}", remedy=remedy)
    if len(rows) < least:
        raise InputError(f"{name} is too small", got=f"{len(rows)} rows", remedy=f"give {least} or more")
    wrong = ~(np.abs(rows) <= LARGEST)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        remedy = f"drop such rows; numbers up to {LARGEST:.0e} are accepted"
        raise InputError(f"{name} is not finite", got=f"{rows[where]} at {where}", remedy=remedy)
    return rows


def paired(x: ArrayLike, y: ArrayLike, least: int, name: str = "y") -> tuple[FloatArray, FloatArray]:
    """Return two samples of the same width, the second with ``least`` rows or more."""
    one, two = sample(x, "x", max(least, 2)), sample(y, name, least)
    if one.shape[1] != two.shape[1]:
        got = f"{one.shape[1]} and {two.shape[1]}"
        raise InputError(f"x and {name} differ in columns", got=got, remedy="use the same features for both")
    return one, two


def neighbour_count(k: int) -> int:
    """Return k if it is a count of neighbours, or raise InputError."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError("k is not a count", got=k, remedy="use a whole number of neighbours, 1 or more")
    return int(k)
