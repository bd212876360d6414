"""Rewards divided by the temperature, checked."""

from __future__ import annotations

import numpy as np

from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError


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


def of_slates(rewards: FloatArray, temperature: float, keep: int) -> FloatArray:
    """Return the utilities of slates (slates, width) after checking that ``keep`` can be kept from each.

    Raises:
        InputError: not a table; nan, inf or an overflow; a slate with fewer than ``keep`` candidates.
    """
    check_table(rewards)
    utilities, gaps = _scaled(rewards, temperature)
    fewest = int((utilities > -np.inf).sum(axis=1).min()) if gaps else utilities.shape[1]
    if len(utilities) and fewest < keep:
        raise InputError(
            f"{keep} candidates are kept from every slate, so each must have that many",
            got=f"a slate with {fewest}",
            remedy="drop slates that are too small (empty slots have the reward -inf)",
        )
    return utilities


def check_table(rewards: FloatArray) -> None:
    """Check that the rewards of slates are a table (slates, width)."""
    if rewards.ndim != 2:
        raise InputError(
            "the rewards of slates must be a table (slates, width)",
            got=f"shape {rewards.shape}",
            remedy="one slate is rewards[None, :]",
        )


def _overflowed(utilities: FloatArray, rewards: FloatArray) -> bool:
    return bool(np.any((utilities == -np.inf) & (rewards > -np.inf)))
