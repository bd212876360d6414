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


def of_slates(rewards: FloatArray, temperature: float, keep: int) -> FloatArray:
    """Return the utilities of slates (slates, width) after checking that ``keep`` can be kept from each.

    Raises:
        InputError: not a table; nan, inf or an overflow; a slate with fewer than ``keep`` candidates.
    """
    check_table(rewards)
    utilities, gaps = _scaled(rewards, temperature)
    fewest = int((utilities > -np.inf).sum(axis=1).min()) if gaps else utilities.shape[1]
    if len(utilities):
        _check_fewest(fewest, keep)
    return utilities


def laid_out(
    rewards: FloatArray, temperature: float, keep: int, slates: Slates | None
) -> tuple[FloatArray, Slates, BoolArray | None]:
    """Return the utilities of slates laid end to end, the slates, and where a table has candidates.

    Args:
        rewards: shape (slates, width), -inf in empty slots; or (rows,), finite, with ``slates``.
        temperature: divides them.
        keep: how many are kept from every slate.
        slates: which rows belong together, or None for a table.

    Returns:
        Utilities (rows,), finite; their slates; and a mask (slates, width), None without empty slots.

    Raises:
        InputError: as :func:`of_slates`; the rewards are not one finite number per row.
    """
    if slates is None:
        table = of_slates(rewards, temperature, keep)
        present = table > -np.inf
        if present.all():
            return table.ravel(), Slates.of_size(table.shape[1], len(table)), None
        offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
        return table[present], Slates(offsets.astype(np.int64)), present
    if rewards.shape != (slates.rows,):
        raise InputError(
            "the rewards must be one number per row of the slates",
            got=f"shape {rewards.shape} for {slates.rows} rows",
            remedy="lay the slates end to end, or pass a table (slates, width) alone",
        )
    utilities, gaps = _scaled(rewards, temperature)
    if gaps:
        raise InputError(
            "slates laid end to end have no empty slots", got="reward -inf", remedy="leave such rows out"
        )
    if len(slates):
        _check_fewest(int(slates.sizes.min()), keep)
    return utilities, slates, None


def _check_fewest(fewest: int, keep: int) -> None:
    if fewest < keep:
        raise InputError(
            f"{keep} candidates are kept from every slate, so each must have that many",
            got=f"a slate with {fewest}",
            remedy="drop slates that are too small (empty slots have the reward -inf)",
        )


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
