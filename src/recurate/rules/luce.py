r"""Luce's picks, one per slate, drawn in blocks that fit into the second-level cache.

A pick inverts the cumulative odds at one uniform number v per slate. With utilities u, it is the first slot j
with

.. math:: C_j > v\, C_K, \qquad C_j = \sum_{i \le j} e^{u_i - \max u}.

Rounding never makes such a slot one of probability zero. As v <= 1 - 2^-53, v C_K rounds to less than C_K, so
there is such a slot. An empty slot, or one whose odds vanish in the sum, has C_j = C_{j-1} and is never the
first. The probabilities are exact up to 2^-53, the spacing of the uniform numbers, and the rounding of C.

Blocks of narrow slates are transposed, so that every operation runs along slates; wide slates are not. In
both cases, slots are axis 0 of a block.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.rules import utilities

BLOCK_DOUBLES = 49_152  # utilities per block: 384 kB
NARROW_TABLE = 32  # largest width of narrow slates for probabilities, which are transposed back
NARROW = 128  # largest width of narrow slates, whose slots are counted in bytes (below 256)
LEAST = 2.0**-54  # replaces the number 0: the middle of the first cell of the uniform numbers' grid
MOST = 1 - 2.0**-53  # the largest uniform number


@np.errstate(over="ignore")  # gaps may be infinite, with odds 0; utilities are checked for overflow
def pick(rewards: FloatArray, temperature: float, lapse: float, rng: np.random.Generator) -> IntArray:
    """Return the slot picked from each slate, shape (slates,).

    It draws ``rng.random(slates)``, whatever the width of the slates and the lapse share. If a slate's number
    u is below ``lapse``, the slate is judged at random, with v = u / lapse; otherwise
    v = (u - lapse) / (1 - lapse).

    Args:
        rewards: Rewards, shape (slates, width), -inf in empty slots.
        temperature: Divisor of the rewards, positive.
        lapse: Share of slates that are judged at random, in [0, 1].
        rng: Source of the uniform numbers.

    Raises:
        InputError: If the rewards are not a table, or as for :func:`recurate.rules.utilities.of_rows`.
    """
    utilities.check_table(rewards)
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
        odds = _odds(u, top)
        if narrow:
            for j in range(1, len(odds)):
                odds[j] += odds[j - 1]
        else:
            np.add.accumulate(odds, axis=0, out=odds)
        uniform *= odds[-1]
        passed = (odds[:-1] <= uniform).view(np.uint8)  # the last slot is never passed
        slots[some] = passed.sum(axis=0, dtype=np.uint8 if narrow else np.int64)
    return slots


@np.errstate(over="ignore")
def probabilities(rewards: FloatArray, temperature: float, lapse: float) -> FloatArray:
    """Return the probability that each slot is picked, shape (slates, width); 0 in empty slots.

    It is the softmax of :meth:`recurate.rules.slates.Slates.softmax` for slates of one width, and up to twice
    as fast for narrow slates.

    Args:
        rewards: Rewards, shape (slates, width), -inf in empty slots.
        temperature: Divisor of the rewards, positive.
        lapse: Share of slates that are judged at random, in [0, 1].

    Raises:
        InputError: If the rewards are not a table, or as for :func:`recurate.rules.utilities.of_rows`.
    """
    utilities.check_table(rewards)
    out = np.empty(rewards.shape)
    narrow = rewards.shape[1] <= NARROW_TABLE
    for some, u, top in _blocks(rewards, temperature, narrow):
        present = (u > -np.inf) if lapse else None
        odds = _odds(u, top)
        if narrow:
            total = odds[0].copy()  # one by one: the same order whatever the number of slates in a block
            for column in odds[1:]:
                total += column
        else:
            total = odds.sum(axis=0)
        if present is not None:
            odds /= total
            odds *= 1 - lapse
            odds += present * (lapse / present.sum(axis=0))
            total = np.ones_like(total)
        if narrow:
            for j, column in enumerate(odds):
                np.divide(column, total, out=out[some, j])
        else:
            np.divide(odds, total, out=out[some].T)
    return out


def _blocks(
    rewards: FloatArray, temperature: float, narrow: bool
) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
    """Yield (slates, utilities (width, slates), their maxima (slates,)); the next block overwrites them."""
    slates, width = rewards.shape
    if not width:
        _refuse(rewards, temperature)  # slates without slots
        return
    step = max(1, BLOCK_DOUBLES // width)
    scratch = np.empty(min(step, slates) * width)
    for start in range(0, slates, step):
        block = rewards[start : start + step].T
        u = scratch[: block.size]  # contiguous in every block, so np.exp takes one path for all
        u = u.reshape(block.shape) if narrow else u.reshape(block.shape[::-1]).T
        np.divide(block, temperature, out=u) if temperature != 1 else np.copyto(u, block)
        top = np.maximum.reduce(u, axis=0)
        if not (np.minimum.reduce(top) > -np.inf and np.maximum.reduce(top) < np.inf):  # false for NaN
            _refuse(rewards, temperature)
        if temperature < 1 and u.min() == -np.inf:  # an empty slot, or an overflow: impossible from 1 on
            utilities.scaled(block, temperature)
        yield slice(start, start + step), u, top


def _odds(u: FloatArray, top: FloatArray) -> FloatArray:
    """Return exp(u - top) in the place of u."""
    u -= top
    return np.exp(u, out=u)


def _refuse(rewards: FloatArray, temperature: float) -> None:
    rows, slates = utilities.end_to_end(rewards)
    utilities.of_rows(rows, temperature, 1, slates)
