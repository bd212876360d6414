"""A picking rule: its effect on a population, its draw and its likelihood are one object."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recurate.errors import InputError, is_number

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Rule:
    """Luce choice of one from a slate of ``k`` candidates at a temperature.

    P(pick i) = exp(r_i / temperature) / sum_j exp(r_j / temperature): Bradley-Terry for k = 2.

    Attributes:
        k: slate size, an integer >= 1 or ``math.inf`` (a statement about populations only).
        temperature: divides the rewards; > 0, in the rewards' unit.

    Raises:
        InputError: a value is out of range.
    """

    k: float = 4
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not is_number(self.k) or not (self.k >= 1 and (math.isinf(self.k) or self.k == int(self.k))):
            raise InputError(
                "the slate size k must be a whole number >= 1, or inf",
                got=self.k,
                remedy="k = 4 is one pick from four candidates; k = 1 is no selection",
            )
        if not is_number(self.temperature) or not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InputError(
                "the temperature must be a positive number",
                got=self.temperature,
                remedy="temperature = 1 picks with odds exp(reward difference)",
            )

    def multiplier(self, rewards: FloatArray, law: FloatArray) -> FloatArray:
        """Return H (N,) such that the picks from ``law`` (N,) have the law ``law * H``.

        See :mod:`recurate.rules.multiplier`; set up a ``Multiplier`` to use one population often.
        """
        from recurate.rules.multiplier import Multiplier

        return Multiplier(np.asarray(rewards, float) / self.temperature)(law, self.k)

    def probabilities(self, rewards: FloatArray) -> FloatArray:
        """Return pick probabilities, shape (slates, k), for slates of rewards (slates, k)."""
        utilities = rewards / self.temperature
        odds = np.exp(utilities - utilities.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def draw(self, rewards: FloatArray, rng: np.random.Generator) -> IntArray:
        """Return the picked slot of each slate, shape (slates,), for rewards (slates, k)."""
        noisy = rewards / self.temperature + rng.gumbel(size=rewards.shape)
        return np.asarray(np.argmax(noisy, axis=1), np.int64)

    def log_likelihood(self, rewards: FloatArray, picked: IntArray) -> FloatArray:
        """Return log P(picked slot), shape (slates,), for rewards (slates, k)."""
        utilities = rewards / self.temperature
        top = utilities.max(axis=1)
        log_sum = top + np.log(np.exp(utilities - top[:, None]).sum(axis=1))
        chosen = np.take_along_axis(utilities, picked[:, None], axis=1)[:, 0]
        return np.asarray(chosen - log_sum)
