r"""How often people who are asked again pick the same, against what independent picks by a rule would give.

Two independent picks of one slate agree with the probability sum_i p_i^2. Where people agree with themselves
more often, they remember, or something that the rewards omit makes them pick so; where less often, their
first and second answers follow different rules.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recurate.choices.checks.statistics import wilson
from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.rules.slates import Slates


@dataclass(frozen=True)
class Consistency:
    """Answers to questions that people were asked again.

    Attributes:
        pairs: Number of pairs of a first and a later answer of one person.
        same: Number of them with the same pick.
        interval: 95 % interval of the share (Wilson).
        expected: The share that independent picks by the fitted rule would give.
    """

    pairs: int
    same: int
    interval: tuple[float, float]
    expected: float

    @property
    def share(self) -> float:
        """Share of pairs with the same pick."""
        return self.same / self.pairs


def consistency(
    slates: Slates, chances: FloatArray, picked: IntArray, items: NDArray[np.generic], asked: IntArray,
    repeated: BoolArray,
) -> Consistency | None:  # fmt: skip
    """Return how often the first and a later answer agree; None without such pairs.

    Args:
        slates: The answers' slates.
        chances: Probability of each candidate under the fitted rule, (rows,).
        picked: Row of each slate's pick, (slates,).
        items: What each candidate is, equal for equal ones, (rows,).
        asked: Code of person and question together, (slates,).
        repeated: Whether the person was asked again, (slates,).
    """
    first = {int(code): s for s, code in enumerate(asked) if not repeated[s]}
    pairs = [(first[int(asked[s])], int(s)) for s in np.flatnonzero(repeated) if int(asked[s]) in first]
    if not pairs:
        return None
    same = sum(bool(items[picked[a]] == items[picked[b]]) for a, b in pairs)
    expected = float(np.mean([_agreement(slates, chances, items, a, b) for a, b in pairs]))
    return Consistency(len(pairs), same, wilson(same / len(pairs), len(pairs)), expected)


def _agreement(slates: Slates, chances: FloatArray, items: NDArray[np.generic], a: int, b: int) -> float:
    """Return the probability that independent picks of two slates are the same item."""
    total = 0.0
    rows = range(int(slates.offsets[b]), int(slates.offsets[b + 1]))
    for row in range(int(slates.offsets[a]), int(slates.offsets[a + 1])):
        total += float(chances[row]) * sum(float(chances[r]) for r in rows if items[r] == items[row])
    return total
