"""Verifiers and top shares: draw, likelihood and multiplier say the same."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from recurate.core.errors import InputError
from recurate.rules.noise import GAUSSIAN, GUMBEL, NO_NOISE, Noise
from recurate.rules.pools import Threshold, TopFraction
from recurate.rules.rule import Rule

# Statistical tests here have a false-alarm rate of 1e-8 each (below 1e-6 in all), and fixed seeds.
ALARM = 1e-8

LOGISTIC = Noise("logistic", lambda z: 1 / (1 + np.exp(-z)), lambda z: 1 / (2 + 2 * np.cosh(z)))
REWARDS = np.array([-1.0, 0.0, 0.3, 2.0, 2.0])
LAW = np.array([0.4, 0.3, 0.15, 0.1, 0.05])

THRESHOLDS = {
    "hard": Threshold(0.3),
    "hard-lapse": Threshold(0.3, lapse=0.2),
    "gaussian": Threshold(0.5, 0.7, GAUSSIAN),
    "logistic-lapse": Threshold(1.0, 0.5, LOGISTIC, 0.1),
    "coin": Threshold(1.0, lapse=1),
    "erring": Threshold(0.3, false_rejection=0.1, false_acceptance=0.3),
    "erring-noise-lapse": Threshold(0.5, 0.7, GAUSSIAN, 0.2, false_rejection=0.3, false_acceptance=0.05),
}
FRACTIONS = {
    "hard": TopFraction(0.2),
    "hard-wide": TopFraction(0.85),
    "all": TopFraction(1.0),
    "gumbel": TopFraction(0.3, 0.7, GUMBEL),
    "gumbel-most": TopFraction(0.9, 0.7, GUMBEL),
    "gaussian": TopFraction(0.1, 0.5, GAUSSIAN),
    "logistic": TopFraction(0.25, 0.5, LOGISTIC),
}
VERIFIERS = pytest.mark.parametrize("rule", THRESHOLDS.values(), ids=THRESHOLDS.keys())
SHARES = pytest.mark.parametrize("rule", FRACTIONS.values(), ids=FRACTIONS.keys())
ALL = pytest.mark.parametrize(
    "rule",
    [*THRESHOLDS.values(), *FRACTIONS.values()],
    ids=[*(f"threshold-{n}" for n in THRESHOLDS), *(f"top-{n}" for n in FRACTIONS)],
)


def consistent(counts, expected) -> bool:
    possible = expected > 0
    assert (counts[~possible] == 0).all()
    if possible.sum() == 1:
        return bool(np.isclose(counts[possible], expected[possible], rtol=1e-12)[0])
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    return bool(statistic < chi2.ppf(1 - ALARM, possible.sum() - 1))


@ALL
def test_mass_is_kept(rule):
    rng = np.random.default_rng(0)
    for spread in (0.0, 1.0, 30.0, 1e4):
        rewards, law = np.round(np.abs(rng.normal(size=40)) * spread, 1) + 0.3, rng.dirichlet(np.ones(40))
        law[3] = 0.0
        law /= law.sum()
        found = rule.multiplier(rewards, law)
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        assert abs(law @ found - 1) < 1e-12
        assert (np.diff(found[np.argsort(rewards, kind="stable")]) >= -1e-12).all()
        assert json.dumps(rule.facts())
        assert hash(rule.key) == hash(rule.key)


@VERIFIERS
def test_verdicts_follow_the_multiplier(rule):
    rng = np.random.default_rng(1)
    items = rng.choice(5, size=300_000, p=LAW)
    passed = rule.draw(REWARDS[items], rng)
    counts = np.bincount(items[passed], minlength=5)
    assert consistent(counts, passed.sum() * LAW * rule.multiplier(REWARDS, LAW))
    # What is kept in all is the acceptance rate.
    rate = float(rule.probabilities(REWARDS) @ LAW)
    assert consistent(np.array([passed.sum(), (~passed).sum()]), items.size * np.array([rate, 1 - rate]))


@VERIFIERS
def test_verdicts_follow_the_likelihood(rule):
    rng = np.random.default_rng(2)
    n = 100_000
    passes, fails = (np.exp(rule.log_likelihood(REWARDS, np.full(5, v))) for v in (True, False))
    np.testing.assert_allclose(passes + fails, 1, rtol=1e-14)
    np.testing.assert_allclose(rule.probabilities(REWARDS), passes, rtol=1e-15)
    for i, reward in enumerate(REWARDS):
        count = rule.draw(np.full(n, reward), rng).sum()
        assert consistent(np.array([count, n - count]), n * np.array([passes[i], fails[i]]))
    np.testing.assert_allclose(rule.multiplier(REWARDS, LAW), passes / (passes @ LAW), rtol=1e-13)


def test_a_hard_threshold_cuts():
    found = Threshold(0.3).multiplier(REWARDS, LAW)
    np.testing.assert_allclose(found, np.array([0, 0, 1, 1, 1]) / 0.3, rtol=1e-15)
    assert Threshold(0.3, lapse=0.2).draw(REWARDS, np.random.default_rng(0)).dtype == bool


def test_a_threshold_far_above_everything_has_its_limit():
    """1 - F(z) falls like e^-z for Gumbel noise: the limit is the exponential tilt, K = inf of Luce."""
    found = Threshold(5000.0, 1.0, GUMBEL).multiplier(REWARDS, LAW)
    np.testing.assert_allclose(found, Rule(math.inf).multiplier(REWARDS, LAW), rtol=1e-12)
    nowhere = np.array([1.0, 0.0])
    assert np.isfinite(Threshold(9000.0, 1.0, GUMBEL).multiplier(np.array([0.0, 8000.0]), nowhere)).all()


@given(alpha=st.floats(0, 1), beta=st.floats(0, 1), level=st.floats(-2, 3), seed=st.integers(0, 99))
def test_an_erring_verifier_has_the_multiplier_of_its_rates(alpha, beta, level, seed):
    rng = np.random.default_rng(seed)
    rewards, law = rng.normal(size=20), rng.dirichlet(np.ones(20))
    accepted = np.where(rewards >= level, 1 - alpha, beta)
    rule = Threshold(level, false_rejection=alpha, false_acceptance=beta)
    if accepted @ law < 1e-300:
        return
    found = rule.multiplier(rewards, law)
    np.testing.assert_allclose(found, accepted / (accepted @ law), rtol=1e-12)
    assert law @ found == pytest.approx(1, rel=1e-13)
    np.testing.assert_allclose(rule.probabilities(rewards), accepted, rtol=1e-12)


def test_errors_of_a_verifier_in_special_cases():
    """No errors: the threshold itself, draws included. beta = 1 - alpha: nothing changes. A lapse: e / 2."""
    for noise in (NO_NOISE, GAUSSIAN):
        exact, none = Threshold(0.3, 0.5, noise), Threshold(0.3, 0.5, noise, 0.0, 0.0, 0.0)
        assert exact == none
        assert exact.facts() == none.facts()
        rates = {"false_rejection": 0.3, "false_acceptance": 0.7}
        blind = Threshold(0.3, 0.5, noise, **rates)
        np.testing.assert_allclose(blind.multiplier(REWARDS, LAW), 1, rtol=1e-14)
        lapsing = Threshold(0.3, 0.5, noise, 0.2)
        erring = Threshold(0.3, 0.5, noise, false_rejection=0.1, false_acceptance=0.1)
        np.testing.assert_allclose(erring.multiplier(REWARDS, LAW), lapsing.multiplier(REWARDS, LAW), 1e-14)
    drawn = [rule.draw(REWARDS, np.random.default_rng(5)) for rule in (exact, none)]
    assert (drawn[0] == drawn[1]).all()
    assert Threshold(0.3, false_acceptance=0.2).facts()["false_acceptance"] == 0.2
    for rate in ({"false_rejection": -0.1}, {"false_acceptance": 1.1}, {"false_rejection": math.nan}):
        with pytest.raises(InputError, match="must lie between 0 and 1"):
            Threshold(0.3, **rate)


def test_nothing_can_pass():
    with pytest.raises(InputError, match="no candidate can pass"):
        Threshold(3.0).multiplier(REWARDS, LAW)
    # An atom that could pass, but has no mass, does not help.
    with pytest.raises(InputError, match="no candidate can pass"):
        Threshold(3.0).multiplier(np.array([0.0, 5.0]), np.array([1.0, 0.0]))


@SHARES
def test_pools_follow_the_multiplier(rule):
    """Mean kept law over pools: the limit of large pools, up to their size, within five standard errors."""
    rng = np.random.default_rng(3)
    n, pools = 4000, 200
    kept = np.empty((pools, 5))
    for i in range(pools):
        items = rng.choice(5, size=n, p=LAW)
        mask = rule.draw(REWARDS[items], rng)
        assert mask.sum() == rule.count(n)
        kept[i] = np.bincount(items[mask], minlength=5) / mask.sum()
    error = kept.std(axis=0, ddof=1) / math.sqrt(pools)
    expected = LAW * rule.multiplier(REWARDS, LAW)
    # A pool of n has the limit's law up to the order of 1 / n.
    assert (np.abs(kept.mean(axis=0) - expected) < 5 * error + 10 / n).all()


def test_keeping_m_of_many_tends_to_the_top_share():
    for noise in (NO_NOISE, GUMBEL):
        far = [
            np.abs(
                Rule(k, 0.7, noise, keep=k // 4).multiplier(REWARDS, LAW)
                - TopFraction(0.25, 0.7, noise).multiplier(REWARDS, LAW)
            ).max()
            for k in (20, 100, 500)
        ]
        # The difference falls like 1 / k, without noise faster.
        assert far[0] > 3 * far[1] > 9 * far[2]
        assert far[2] < 0.03


def test_a_hard_cut_falls_within_ties():
    found = TopFraction(0.2).multiplier(REWARDS, LAW)
    np.testing.assert_allclose(found, [0, 0, (0.2 - 0.15) / 0.15 / 0.2, 5, 5], rtol=1e-14)
    law = np.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(TopFraction(0.5).multiplier(np.array([0.0, 1, -1]), law), [1, 2, 0])


@pytest.mark.parametrize("fraction", [1e-290, 1e-12, 0.3, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("noise", [GUMBEL, GAUSSIAN], ids=lambda n: n.name)
def test_the_cut_keeps_its_fraction(noise, fraction):
    rng = np.random.default_rng(4)
    u, law = rng.normal(size=200) * 3, rng.dirichlet(np.ones(200))
    rule = TopFraction(fraction, 1.0, noise)
    cut = rule._cut(u, law)
    if fraction <= 0.5:
        np.testing.assert_allclose(noise.sf(cut - u) @ law, fraction, rtol=1e-12)
    else:
        np.testing.assert_allclose(noise.cdf(cut - u) @ law, 1 - fraction, rtol=1e-12)
    assert rule.multiplier(u, law).max() <= (1 + 1e-12) / fraction


@SHARES
def test_draws_follow_the_likelihood_of_sets(rule):
    pool, n = np.array([0.0, 1.0, 1.0, -0.5, 0.2]), 8_000
    keep = rule.count(5)
    sets = list(itertools.combinations(range(5), keep))
    masks = np.array([np.isin(np.arange(5), chosen) for chosen in sets])
    chances = np.exp([rule.log_likelihood(pool, mask) for mask in masks])
    np.testing.assert_allclose(chances.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(rule.probabilities(pool), chances @ masks, atol=1e-13)
    rng = np.random.default_rng(5)
    drawn = [tuple(np.flatnonzero(rule.draw(pool, rng))) for _ in range(n)]
    assert consistent(np.array([drawn.count(chosen) for chosen in sets]), n * chances)


def test_fractions_beyond_the_noises_digits_are_refused():
    with pytest.raises(InputError, match="no threshold in double"):
        TopFraction(1e-30, 1.0, LOGISTIC).multiplier(REWARDS, LAW)
    better = Noise("better", LOGISTIC.cdf, LOGISTIC.pdf, lambda z: LOGISTIC.cdf(-z))
    assert TopFraction(1e-30, 1.0, better).multiplier(REWARDS, LAW) @ LAW == pytest.approx(1, rel=1e-12)


def test_gumbel_top_share_is_a_softmax_without_replacement():
    pool = np.array([0.0, 1.0, -0.3, 2.0])
    odds = np.exp(pool)
    expected = 0.0
    for first, second in itertools.permutations([1, 3]):
        expected += odds[first] / odds.sum() * odds[second] / (odds.sum() - odds[first])
    found = TopFraction(0.5, 1.0, GUMBEL).log_likelihood(pool, np.array([False, True, False, True]))
    np.testing.assert_allclose(found, math.log(expected), rtol=1e-13)


def test_counts_round_half_up_and_keep_one():
    rule = TopFraction(0.25)
    assert [rule.count(n) for n in (1, 2, 6, 10, 100)] == [1, 1, 2, 3, 25]
    assert TopFraction(1.0).count(7) == 7


def test_setups_serve_several_laws_at_once():
    laws = np.random.default_rng(0).dirichlet(np.ones(5), 3).T
    for rule in (*THRESHOLDS.values(), *FRACTIONS.values()):
        setup = rule.setup(REWARDS)
        together = rule.weigh(setup, laws)
        for i in range(3):
            np.testing.assert_allclose(together[:, i], rule.weigh(setup, laws[:, i]), rtol=1e-13)


def test_keys_tell_which_setups_are_shared():
    assert TopFraction(0.2).key == TopFraction(0.5, 3.0).key == Rule(4, noise=NO_NOISE).key
    assert TopFraction(0.2, 1.0, GUMBEL).key == TopFraction(0.2, 1.0, GAUSSIAN).key
    assert TopFraction(0.2, 1.0, GUMBEL).key not in (TopFraction(0.2, 2.0, GUMBEL).key, Rule(4).key)
    assert Threshold(0.2).key != Threshold(0.3).key


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Threshold(math.nan), "level"),
        (lambda: Threshold(0.0, 0.0), "temperature"),
        (lambda: Threshold(0.0, lapse=2), "lapse"),
        (lambda: Threshold(0.0, 1.0, "gumbel"), "must be a Noise"),
        (lambda: TopFraction(0.0), "fraction"),
        (lambda: TopFraction(1.2), "fraction"),
        (lambda: TopFraction(0.5, -1.0), "temperature"),
        (lambda: TopFraction(0.5, 1.0, Noise("bad", GUMBEL.cdf, GAUSSIAN.pdf)), "derivative"),
        (lambda: Threshold(0.0).draw(np.array([0.0, math.nan]), np.random.default_rng(0)), "finite"),
        (lambda: TopFraction(0.5).draw(np.zeros((2, 2)), np.random.default_rng(0)), "finite number"),
        (lambda: Threshold(0.0).log_likelihood(REWARDS, np.ones(5)), "one Boolean per candidate"),
        (lambda: TopFraction(0.4).log_likelihood(REWARDS, np.ones(4, bool)), "one Boolean per candidate"),
        (lambda: TopFraction(0.4).log_likelihood(REWARDS, np.ones(5, bool)), "is 2 of them"),
    ],
)
def test_wrong_input_is_refused(act, message):
    with pytest.raises(InputError, match=message):
        act()
