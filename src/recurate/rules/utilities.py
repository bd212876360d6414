"""Utilities, that is rewards divided by the temperature, and checks of them."""

from __future__ import annotations

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray
from recurate.core.errors import InputError
from recurate.rules.slates import Slates


def scaled(rewards: FloatArray, temperature: float) -> FloatArray:
    """Return rewards / temperature.

    Raises:
        InputError: If a value is NaN, inf or an overflow; -inf marks an absent candidate and is accepted.
    """
    return _scaled(rewards, temperature)[0]


def _scaled(rewards: FloatArray, temperature: float) -> tuple[FloatArray, bool]:
    """Return the utilities, and whether any slot is empty."""
    with np.errstate(over="ignore"):
        utilities = rewards / temperature
    gaps = bool(utilities.min(initial=np.inf) == -np.inf)
    overflowed = gaps and bool(np.any((utilities == -np.inf) & (rewards > -np.inf)))
    if overflowed or not utilities.max(initial=-np.inf) < np.inf:  # the maximum is NaN if any value is
        raise InputError(
            "rewards divided by the temperature must be numbers (-inf marks an empty slot)",
            got="NaN, inf or an overflow",
            remedy="drop or repair those candidates; for an overflow use a higher temperature",
        )
    return utilities, gaps


def of_rows(
    rewards: FloatArray, temperature: float, keep: int, slates: Slates
) -> tuple[FloatArray, BoolArray | None]:
    """Return the utilities (rows,) of slates and a mask (rows,) of the candidates, None if no slot is empty.

    Args:
        rewards: Rewards, shape (rows,), -inf in empty slots.
        temperature: Divisor of the rewards, positive.
        keep: Number of candidates kept per slate.
        slates: Division of the rows into slates.

    Raises:
        InputError: If a value is NaN, inf or an overflow, or a slate has fewer than ``keep`` candidates.
    """
    utilities, gaps = _scaled(rewards, temperature)
    present = utilities > -np.inf if gaps else None
    sizes = slates.sizes if present is None else slates.sums(present.astype(np.int64))
    if sizes.min(initial=keep) < keep:
        raise InputError(
            f"{keep} candidates are kept per slate, so every slate must have that many",
            got=f"a slate with {sizes.min()}",
            remedy="drop slates that are too small (empty slots have the reward -inf)",
        )
    return utilities, present


def check_table(rewards: FloatArray) -> None:
    """Refuse rewards that are not a table (slates, width).

    Raises:
        InputError: If the array has another number of dimensions.
    """
    if rewards.ndim != 2:
        raise InputError(
            "the rewards of slates must be a table (slates, width)",
            got=f"shape {rewards.shape}",
            remedy="one slate is rewards[None, :]",
        )


def end_to_end(rewards: FloatArray, slates: Slates | None = None) -> tuple[FloatArray, Slates]:
    """Return rewards as consecutive rows (rows,), with their slates.

    Args:
        rewards: Table, shape (slates, width); or, with ``slates``, shape (rows,).
        slates: Division of the rows into slates; None for a table.

    Raises:
        InputError: If the rewards are not a table or, with ``slates``, not one number per row.
    """
    if slates is None:
        check_table(rewards)
    elif rewards.shape != (slates.rows,):
        raise InputError(
            "the rewards must be one number per row of the slates",
            got=f"shape {rewards.shape} for {slates.rows} rows",
            remedy="pass the slates in consecutive rows, or a table (slates, width) without slates",
        )
    return rewards.ravel(), Slates.of_size(rewards.shape[1], len(rewards)) if slates is None else slates
