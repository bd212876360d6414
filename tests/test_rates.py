"""The tests of rates in helpers/rates.py: early, and as sharp as with all cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom

from helpers.rates import Rate


def exact(limit: int, cases: int, low: float, p: float) -> tuple[float, float]:
    """Return the probability to pass and the mean number of cases, at the rate p of hits."""
    going = {0: 1.0}  # probability of each number of hits in tests that have not ended
    passed = mean = 0.0
    rate = Rate(limit, cases, low)
    for seen in range(1, cases + 1):
        found: dict[int, float] = {}
        for hits, chance in going.items():
            found[hits] = found.get(hits, 0.0) + chance * (1 - p)
            found[hits + 1] = found.get(hits + 1, 0.0) + chance * p
        going = {}
        for hits, chance in found.items():
            rate.hits, rate.seen = hits, seen
            if rate.ended:
                passed += chance * rate.passed
                mean += chance * seen
            else:
                going[hits] = chance
    return passed, mean


@pytest.mark.parametrize(("limit", "cases", "low"), [(10, 1000, 0.002), (3, 300, 0.002), (6, 120, 0.003)])
def test_it_passes_as_often_as_with_all_cases_and_takes_fewer(limit, cases, low):
    high = beta.ppf(0.99, limit + 1, cases - limit)
    for p in (low, (low + high) / 2, high, 2 * high):
        passed, mean = exact(limit, cases, low, p)
        assert -1e-12 <= passed - binom.cdf(limit, cases, p) <= (0.002 if p >= high else 0.015)
        assert mean <= cases
    assert binom.cdf(limit, cases, high) == pytest.approx(0.01)
    assert exact(limit, cases, low, low / 2)[1] < 0.75 * cases


def test_it_ends_at_the_first_hit_too_many():
    rate = Rate(2, 100, 0.01)
    ends = [rate.add(bool(hit)) for hit in np.r_[0, 0, 1, 1, 1]]
    assert ends == [False, False, False, False, True]
    assert not rate.passed
    assert (rate.hits, rate.seen) == (3, 5)
