"""Loops on verified data: the exact law, the breakdown point, the verifier's centre."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from recurate.core.errors import InputError
from recurate.rules.noise import GUMBEL
from recurate.rules.pools import NothingPasses, Threshold
from recurate.theory.population import Population
from recurate.theory.setting import Setting
from recurate.theory.verification import VerifiedLoop, towards_centre

RATES = st.floats(0.02, 0.98)
INNER = st.floats(0.05, 0.95)


def iterated(loop: VerifiedLoop, share: float, rounds: int) -> float:
    for _ in range(rounds):
        share = loop.step(share)
    return share


@given(alpha=RATES, beta=RATES, rho=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_the_share_is_that_of_the_population(alpha, beta, rho, seed):
    """The recursion of one number is the exact law on any atoms, with real data of another law."""
    rng = np.random.default_rng(seed)
    rewards, real = rng.normal(size=30), rng.dirichlet(np.ones(30))
    population = Population(rewards, law=rng.dirichlet(np.ones(30)), reference=real)
    good = rewards >= 0.2
    rule = Threshold(0.2, false_rejection=alpha, false_acceptance=beta)
    loop = VerifiedLoop(alpha, beta, rho, float(real @ good))
    share = float(population.law @ good)
    for law in population.play(Setting(rule, real_fraction=rho, rounds=6)):
        assert law @ good == pytest.approx(share, rel=1e-11)
        share = loop.step(share)


def test_without_real_data_the_odds_grow_by_a_factor_a_round():
    loop = VerifiedLoop(0.2, 0.5)
    share = iterated(loop, 0.1, 7)
    assert share / (1 - share) == pytest.approx((0.8 / 0.5) ** 7 / 9, rel=1e-12)
    assert loop.limit(0.1) == 1.0
    assert VerifiedLoop(0.5, 0.8).limit(0.9) == 0.0


@given(alpha=RATES, beta=RATES, rho=st.floats(0, 0.9), sigma=INNER, error=st.floats(0, 0.6), start=INNER)
def test_the_limit_is_where_the_loop_goes(alpha, beta, rho, sigma, error, start):
    loop = VerifiedLoop(alpha, beta, rho, sigma, error)
    found = loop.limit(start)
    assert loop.step(found) == pytest.approx(found, abs=1e-11)
    assert 0 <= found <= 1
    shares = [start]
    for _ in range(4000):
        shares.append(loop.step(shares[-1]))
    moves = np.diff(shares)
    assert (moves >= -1e-15).all() or (moves <= 1e-15).all(), "shares move in one direction for ever"
    if abs(moves[-1]) < 1e-13 * min(shares[-1], 1 - shares[-1]):
        assert shares[-1] == pytest.approx(found, abs=1e-6)
    assert (found - shares[-1]) * (shares[-1] - start) >= -1e-9, "the limit lies ahead"


@given(alpha=RATES, rho=st.floats(0, 0.9), sigma=INNER, error=st.floats(0, 0.6), start=INNER)
def test_the_breakdown_point_divides_rising_from_falling(alpha, rho, sigma, error, start):
    point = VerifiedLoop(alpha, 0.0, rho, sigma, error).breakdown(start)
    for beta, sign in ((point * 0.99, 1), (point * 1.01, -1)):
        if 0 < beta <= 1:
            loop = VerifiedLoop(alpha, beta, rho, sigma, error)
            assert sign * (loop.step(start) - start) > 0
            assert sign * (iterated(loop, start, 300) - start) > 0, "the first round decides about all"
            assert sign * (loop.limit(start) - start) > 0
    if point > 1.01:
        assert VerifiedLoop(alpha, 1.0, rho, sigma, error).step(start) > start
    if point == 0:
        assert VerifiedLoop(alpha, 0.01, rho, sigma, error).step(start) < start


@given(alpha=RATES, rho=st.floats(0, 0.95), start=INNER)
def test_real_data_like_the_first_model_do_not_move_the_breakdown_point(alpha, rho, start):
    assert VerifiedLoop(alpha, 0.0, rho, start).breakdown(start) == pytest.approx(1 - alpha, rel=1e-9)


@given(alpha=RATES, beta=RATES, error=INNER, start=st.floats(0.001, 0.9))
def test_an_erring_model_keeps_good_candidates_iff_verdicts_are_good_enough(alpha, beta, error, start):
    loop = VerifiedLoop(alpha, beta, error=error)
    a, kept = 1 - alpha, (1 - alpha) * (1 - error)
    assume(abs(kept / beta - 1) > 1e-6)
    expected = (kept - beta) / (a - beta) if beta < kept else 0.0
    assert loop.limit(start) == pytest.approx(expected, abs=1e-9)
    point = loop.breakdown(start)
    assert point == pytest.approx(max(a * (1 - error - start) / (1 - start), 0), rel=1e-9, abs=1e-12)


def test_a_few_values_by_hand():
    # s = .5: accepted .45 good, .15 bad; T = .8 * .75.
    loop = VerifiedLoop(0.1, 0.3, error=0.2)
    assert loop.step(0.5) == pytest.approx(0.6)
    assert loop.limit(1e-14) == pytest.approx(0.7), "a rare good candidate comes back"
    assert VerifiedLoop(0.1, 0.9).limit(0.37) == 0.37, "verdicts that tell nothing change nothing"
    assert VerifiedLoop(0.1, 0.9, 0.5, 0.2).limit(0.37) == pytest.approx(0.2), "real data alone decide"
    assert VerifiedLoop(0.1, 0.0, 0.5, 0.2).limit(0.37) == pytest.approx(0.6), "all that passes is good"
    assert VerifiedLoop(1.0, 0.5, 0.5, 0.2).limit(0.37) == pytest.approx(0.1), "all that passes is bad"
    assert VerifiedLoop(error=1.0).breakdown(0.5) == 0.0
    assert VerifiedLoop(real_fraction=1.0, real_share=0.6).breakdown(0.5) == math.inf


def test_bad_values_are_refused():
    with pytest.raises(InputError, match="false_rejection must lie between 0 and 1"):
        VerifiedLoop(1.2)
    with pytest.raises(InputError, match="needs good and bad candidates"):
        VerifiedLoop().breakdown(0.0)
    with pytest.raises(NothingPasses):
        VerifiedLoop(1.0, 0.0).step(0.5)
    with pytest.raises(InputError, match="width must be positive"):
        towards_centre(0, 1, 1, 0, 1)


def test_the_loop_goes_to_the_verifiers_centre():
    """Far above all rewards, a threshold with Gumbel noise accepts in proportion to exp(reward)."""
    x = np.linspace(-8, 12, 20_001)
    rewards = -((x - 3.0) ** 2) / (2 * 1.3**2)
    population = Population(rewards, law=np.exp(-((x - 0.5) ** 2) / (2 * 1.5)))
    for t, law in enumerate(population.play(Setting(Threshold(40.0, noise=GUMBEL), rounds=5))):
        mean, variance = towards_centre(0.5, 1.5, 3.0, 1.3, t)
        assert law @ x == pytest.approx(mean, abs=1e-6)
        assert law @ (x - mean) ** 2 == pytest.approx(variance, abs=1e-6)
    assert abs(towards_centre(0.5, 1.5, 3.0, 1.3, 10_000)[0] - 3.0) < 1e-3
