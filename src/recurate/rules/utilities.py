"""Rewards divided by the temperature, checked."""

from __future__ import annotations

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray
from recurate.core.errors import InputError
from recurate.rules.slates import Slates


def scaled(rewards: FloatArray, temperature: float) -> FloatArray:
    """Return rewards / temperature after checking them: finite, or -inf for absent candidates."""
    return _scaled(rewards, temperature)[0]


def _scaled(rewards: FloatArray, temperature: float) -> tuple[FloatArray, bool]:
    """Return the utilities, and whether there are any empty slots."""
    with np.errstate(over="ignore"):
        utilities = rewards / temperature
    gaps = bool(utilities.min(initial=np.inf) == -np.inf)
    # The largest is nan where any is.
    if not utilities.max(initial=-np.inf) < np.inf or (gaps and _overflowed(utilities, rewards)):
        raise InputError(
            "rewards divided by the temperature must be numbers (-inf marks an empty slot)",
            got="nan, inf or an overflow",
            remedy="drop or repair those candidates; for an overflow use a higher temperature",
        )
    return utilities, gaps


def of_rows(
    rewards: FloatArray, temperature: float, keep: int, slates: Slates
) -> tuple[FloatArray, BoolArray | None]:
    """Return the utilities (rows,) of slates, and which rows are candidates, (rows,), or None if all are.

    Raises:
        InputError: nan, inf or an overflow; a slate with fewer than ``keep`` candidates.
    """
    utilities, gaps = _scaled(rewards, temperature)
    present = utilities > -np.inf if gaps else None
    sizes = slates.sizes if present is None else slates.sums(present.astype(np.int64))
    if sizes.min(initial=keep) < keep:
        raise InputError(
            f"{keep} candidates are kept from every slate, so each must have that many",
            got=f"a slate with {sizes.min()}",
            remedy="drop slates that are too small (empty slots have the reward -inf)",
        )
    return utilities, present


def end_to_end(rewards: FloatArray, slates: Slates | None = None) -> tuple[FloatArray, Slates]:
    """Return the rewards of a table (slates, width) as rows, with their slates; or rows as they are.

    Raises:
        InputError: not a table; or, with slates, not one reward per row.
    """
    if slates is None and rewards.ndim != 2:
        raise InputError(
            "the rewards of slates must be a table (slates, width)",
            got=f"shape {rewards.shape}",
            remedy="one slate is rewards[None, :]",
        )
    if slates is not None and rewards.shape != (slates.rows,):
        raise InputError(
            "the rewards must be one number per row of the slates",
            got=f"shape {rewards.shape} for {slates.rows} rows",
            remedy="lay the slates end to end, or pass a table (slates, width) alone",
        )
    return rewards.ravel(), slates or Slates.of_size(rewards.shape[1], len(rewards))


def _overflowed(utilities: FloatArray, rewards: FloatArray) -> bool:
    return bool(np.any((utilities == -np.inf) & (rewards > -np.inf)))
