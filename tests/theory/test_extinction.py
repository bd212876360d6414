"""The exact probability that finitely many picks lose one of two opposed groups."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recurate.core.errors import InputError
from recurate.theory.extinction import drift


@pytest.mark.parametrize(("share", "weight", "k"), [(0.5, 0.5, 2), (0.3, 0.4, 3), (0.2, 0.25, math.inf)])
def test_the_chain_is_the_loop(share, weight, k):
    """Against 20,000 played loops of 6 picks: within 5 standard errors in every round."""
    rng, count = np.random.default_rng(0), 20_000
    s = np.full(count, share)
    for value in drift(share, weight, k, 6, 8):
        gone = float(((s == 0) | (s == 1)).mean())
        assert gone == pytest.approx(value, abs=5 * math.sqrt(0.25 / count))
        s = rng.binomial(6, weight * (1 - (1 - s) ** k) + (1 - weight) * s**k) / 6


def test_probabilities_of_loss():
    """One pick loses a group at once; larger slates restore the shares, and more picks move them less."""
    assert drift(0.5, 0.5, 4, 1, 2).tolist() == [0, 1, 1]
    assert drift(0.0, 0.5, 4, 9, 1).tolist() == [1, 1]
    by_k = [drift(0.5, 0.5, k, 20, 25)[-1] for k in (2, 3, 8)]
    assert by_k == sorted(by_k, reverse=True)
    by_picks = [drift(0.5, 0.5, 2, n, 25)[-1] for n in (10, 30, 90)]
    assert by_picks == sorted(by_picks, reverse=True)
    path = drift(0.3, 0.5, 2, 12, 200)
    assert (np.diff(path) >= 0).all()
    assert path[-1] == pytest.approx(1, abs=1e-6)


def test_what_is_out_of_range():
    with pytest.raises(InputError, match="between 0 and 1"):
        drift(1.2, 0.5, 4, 10, 3)
    with pytest.raises(InputError, match="positive"):
        drift(0.2, 0.5, 4, 0, 3)
    with pytest.raises(InputError, match="whole numbers"):
        drift(0.2, 0.5, 2.5, 10, 3)
