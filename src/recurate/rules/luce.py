r"""Luce's picks, one of each slate, in blocks that the second-level cache holds.

**Picks** invert the cumulative chances at one uniform number v a slate: the pick is the first slot j with

.. math:: C_j > v\, C_K, \qquad C_j = \sum_{i \le j} e^{u_i - \max u}.

Such a slot has a chance above zero, for two reasons that no rounding undoes. v <= 1 - 2^-53, so that v C_K
rounds to less than C_K, and a slot is found; and an empty slot, or one whose chance is lost in the sum, has
C_j = C_{j-1}, so that it never is the first. Chances are kept to 2^-53, the grain of the uniform numbers,
and to the rounding of C.

Blocks of narrow slates are laid out slot by slot, so that every operation runs along slates; wide ones are
left as they are. Either way the slots are axis 0 below.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.rules import utilities

BLOCK_DOUBLES = 49_152  # utilities of a block: 384 kB
NARROW = 128  # most slots of a narrow slate (counted in bytes: below 256)
LEAST = 2.0**-54  # what the number 0 stands for: the middle of the first cell of the uniform numbers' grid
MOST = 1 - 2.0**-53  # the largest uniform number


@np.errstate(over="ignore")  # gaps may be infinite, and odds then 0; utilities are checked for overflow
def pick(rewards: FloatArray, temperature: float, lapse: float, rng: np.random.Generator) -> IntArray:
    """Return the slot picked from each slate, (slates,), for rewards (slates, width), -inf where empty.

    Draws ``rng.random(slates)``, however wide the slates are and whatever the lapse share. A slate whose
    number u is below ``lapse`` is judged at random, by v = u / lapse; else v = (u - lapse) / (1 - lapse).

    Raises:
        InputError: as :func:`recurate.rules.utilities.of_rows`.
    """
    utilities.end_to_end(rewards)  # refuses what is no table
    slots = np.empty(len(rewards), np.int64)
    narrow = rewards.shape[1] <= NARROW
    for some, u, top in _blocks(rewards, temperature, narrow):
        uniform = rng.random(top.size)
        if lapse:
            lapsed = np.flatnonzero(uniform < lapse)
            at_random = uniform[lapsed] / lapse
            uniform -= lapse
            uniform /= (1 - lapse) or 1.0
            uniform[lapsed] = at_random
            u[:, lapsed] = np.where(u[:, lapsed] == -np.inf, -np.inf, 0.0)
            top[lapsed] = 0.0
        if lapse or np.minimum.reduce(uniform) < LEAST:
            np.clip(uniform, LEAST, MOST, out=uniform)
        u -= top
        odds = np.exp(u, out=u)
        if narrow:
            for j in range(1, len(odds)):
                odds[j] += odds[j - 1]
        else:
            np.add.accumulate(odds, axis=0, out=odds)
        uniform *= odds[-1]
        passed = (odds[:-1] <= uniform).view(np.uint8)  # the last never is
        slots[some] = passed.sum(axis=0, dtype=np.uint8 if narrow else np.int64)
    return slots


def _blocks(
    rewards: FloatArray, temperature: float, narrow: bool
) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
    """Yield (slates, their utilities (width, slates), the largest of each (slates,)); the next overwrites."""
    slates, width = rewards.shape
    if not width:
        _refuse(rewards, temperature)  # slates of nothing
        return
    step = max(1, BLOCK_DOUBLES // width)
    scratch = np.empty(min(step, slates) * width)
    for start in range(0, slates, step):
        block = rewards[start : start + step].T
        u = scratch[: block.size]  # contiguous even in the last block: one path through np.exp for all
        u = u.reshape(block.shape) if narrow else u.reshape(block.shape[::-1]).T
        np.divide(block, temperature, out=u) if temperature != 1 else np.copyto(u, block)
        top = np.maximum.reduce(u, axis=0)
        if not (np.minimum.reduce(top) > -np.inf and np.maximum.reduce(top) < np.inf):  # nan is neither
            _refuse(rewards, temperature)
        if temperature < 1 and u.min() == -np.inf:  # an empty slot or an overflow, which no higher one makes
            utilities.scaled(block, temperature)
        yield slice(start, start + step), u, top


def _refuse(rewards: FloatArray, temperature: float) -> None:
    rows, slates = utilities.end_to_end(rewards)
    utilities.of_rows(rows, temperature, 1, slates)
