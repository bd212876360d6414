"""A rate that is tested case by case, until enough is known."""

from __future__ import annotations

import math

from scipy.stats import beta

POWER = 0.99  # of the test of all cases, at the rate that it is for
MISSED = 0.002  # how often that rate passes early


class Rate:
    """The test that at most ``limit`` of ``cases`` independent cases are hits, ended early where it can be.

    It fails if and when there are more hits: a false alarm is no more probable than if all cases were
    looked at. With ``high``, the rate at which all cases would have more than ``limit`` hits with
    probability 0.99, it passes early when the hits so far are 500 times less likely under ``high`` than
    under ``low``: at the rate ``high`` it does so with probability 0.002 at most (Wald 1945).

    Args:
        limit: Largest number of hits that passes.
        cases: Number of cases after which it ends anyway.
        low: Rate that is expected; it decides how soon the test ends, not what its errors are.
    """

    def __init__(self, limit: int, cases: int, low: float) -> None:
        high = float(beta.ppf(POWER, limit + 1, cases - limit))
        assert 0 < low < high
        self._limit, self._cases = limit, cases
        self._hit, self._none = math.log(high / low), math.log((1 - high) / (1 - low))
        self.hits = self.seen = 0

    def add(self, hit: bool) -> bool:
        """Count a case; return whether the test has ended."""
        self.hits += bool(hit)
        self.seen += 1
        return self.ended

    @property
    def passed(self) -> bool:
        """Whether there are no more hits than may be."""
        return self.hits <= self._limit

    @property
    def ended(self) -> bool:
        """Whether no more cases are needed."""
        evidence = self.hits * self._hit + (self.seen - self.hits) * self._none
        return not self.passed or self.seen >= self._cases or evidence <= math.log(MISSED)
