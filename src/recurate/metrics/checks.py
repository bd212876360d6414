"""Checks of the estimators' arguments: matrices with one row per sample, and numbers of neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError

LARGEST = 1e100  # the squares of much larger numbers overflow


def sample(values: ArrayLike, name: str, least: int) -> FloatArray:
    """Return a sample as a matrix of floats, shape (n, d).

    Args:
        values: Array of numbers, one row per sample and one column per feature.
        name: Name of the argument in messages.
        least: Minimal number of rows.

    Raises:
        InputError: If the values are not a matrix, not numbers, not finite or larger than 1e100, or if there
            are fewer than ``least`` rows.
    """
    try:
        rows = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} is not numeric", got=error, remedy="give an array of numbers, shape (n, d)"
        ) from None
    if rows.ndim != 2 or rows.shape[1] == 0:
        remedy = "give one row per sample and one column per feature: shape (n, d)"
        raise InputError(f"{name} is not a matrix", got=f"shape {rows.shape}", remedy=remedy)
    if len(rows) < least:
        raise InputError(f"{name} is too small", got=f"{len(rows)} rows", remedy=f"give {least} or more")
    wrong = ~(np.abs(rows) <= LARGEST)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        remedy = f"drop such rows; the largest number accepted is {LARGEST:.0e}"
        raise InputError(f"{name} is not finite", got=f"{rows[where]} at {where}", remedy=remedy)
    return rows


def paired(x: ArrayLike, y: ArrayLike, least: int, name: str = "y") -> tuple[FloatArray, FloatArray]:
    """Return two samples with the same number of columns as matrices (n, d) and (m, d).

    Args:
        x: First sample, with at least max(least, 2) rows.
        y: Second sample, with at least ``least`` rows.
        least: Minimal number of rows.
        name: Name of the second sample in messages.

    Raises:
        InputError: If a sample is invalid (see :func:`sample`) or the numbers of columns differ.
    """
    one, two = sample(x, "x", max(least, 2)), sample(y, name, least)
    if one.shape[1] != two.shape[1]:
        got = f"{one.shape[1]} and {two.shape[1]}"
        raise InputError(f"x and {name} differ in columns", got=got, remedy="use the same features for both")
    return one, two


def whole(value: int, name: str, least: int) -> int:
    """Return a count as an int.

    Args:
        value: Count to check.
        name: Name of the argument in messages.
        least: Minimal value.

    Raises:
        InputError: If the value is not a whole number of at least ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} is not a count", got=value, remedy=f"use a whole number, {least} or more")
    return int(value)
