"""Best of K without noise: exact arithmetic, goldens, and the chances of single slates."""

from __future__ import annotations

import itertools
import json
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import betainc, log_ndtr

from helpers.paths import GOLDENS
from recurate.core.errors import InputError
from recurate.rules import best_of_k, quadrature
from recurate.rules.best_of_k import CHUNK, Ranks
from recurate.rules.noise import GAUSSIAN, GUMBEL, Noise
from recurate.rules.slates import Slates

KERNEL = [
    case
    for case in json.loads((GOLDENS / "kernel.json").read_text())["kernel"]
    if "best_of_k" in case and case["K"] != "inf"
]


@pytest.mark.parametrize("case", KERNEL, ids=lambda c: f"{c['name']}-K{c['K']}")
def test_golden_best_of_k(case):
    rewards, law = np.array(case["r"], float), np.array(case["p"], float)
    found = Ranks(rewards)(law, float(case["K"]))
    np.testing.assert_allclose(found, np.array(case["best_of_k"], float), rtol=1e-13)


def by_enumeration(rewards, law, k, keep):
    """H exactly: every slate of k atoms, its best ``keep`` with ties shared, in fractions."""
    kept = [Fraction(0)] * len(law)
    for slate in itertools.product(range(len(law)), repeat=k):
        chance = math.prod(law[i] for i in slate)
        cut = sorted((rewards[i] for i in slate), reverse=True)[keep - 1]
        over = sum(rewards[i] > cut for i in slate)
        ties = sum(rewards[i] == cut for i in slate)
        for i in slate:
            share = 1 if rewards[i] > cut else Fraction(keep - over, ties) if rewards[i] == cut else 0
            kept[i] += chance * share
    return [float(kept[i] / (keep * p)) for i, p in enumerate(law)]


@pytest.mark.parametrize(("k", "keep"), [(2, 1), (4, 1), (3, 2), (5, 2), (5, 4), (4, 4), (1, 1)])
def test_equals_exact_enumeration(k, keep):
    rewards = [0.5, -1.0, 0.5, 3.0]
    law = [Fraction(1, 2), Fraction(1, 4), Fraction(1, 16), Fraction(3, 16)]
    found = Ranks(np.array(rewards))(np.array(law, float), k, keep)
    np.testing.assert_allclose(found, by_enumeration(rewards, law, k, keep), rtol=1e-13)


def in_decimals(masses, k, keep):
    """H of groups by increasing reward, from the places left by better ones, to 60 digits."""
    out, below = [], Decimal(0)
    with localcontext() as context:
        context.prec = 60
        total = sum(map(Decimal, masses))

        def places(above):
            q, sum_ = 1 - above, Decimal(0)
            for j in range(keep):
                ways = Decimal(1)
                for i in range(j + 1):
                    # exp(n log q) for n of any size; Decimal has no fast integer power of 1e15.
                    power = ((k - i) * q.ln()).exp() if q > 0 else Decimal(0)
                    sum_ += ways * power * (above**i if i else 1)
                    ways = ways * (k - i) / (i + 1)
            return sum_ / keep

        for mass in masses:
            low, high = 1 - below / total, 1 - (below + Decimal(mass)) / total
            out.append(float((places(high) - places(low)) * total / Decimal(mass)))
            below += Decimal(mass)
    return out


TINY = [0.3, 1e-12, 0.2, 1e-15, 0.4999, 1e-13, 1e-4, 3e-17]


@pytest.mark.parametrize("k", [2, 3, 64, 1000, 10**6, 10**9, 10**15])
def test_digits_last_for_tiny_masses_and_large_k(k):
    masses = np.array(TINY) / math.fsum(TINY)
    found = Ranks(np.arange(8.0))(masses, k)
    expected = np.array(in_decimals(TINY, k, 1))
    np.testing.assert_allclose(found, expected, rtol=2e-12, atol=1e-290)


@pytest.mark.parametrize("keep", [2, 3, 9, 12])
@pytest.mark.parametrize("k", [13, 100, 10**5])
def test_digits_last_when_several_are_kept(k, keep):
    masses = np.array(TINY) / math.fsum(TINY)
    found = Ranks(np.arange(8.0))(masses, k, keep)
    expected = np.array(in_decimals(TINY, k, keep))
    np.testing.assert_allclose(found, expected, rtol=2e-12, atol=1e-30)


def test_vanishing_masses_have_their_limit():
    law = np.array([0.5, 1e-300, 0.25, 0.0, 0.25, 5e-324, 0.0])
    found = Ranks(np.arange(7.0))(law, 5)
    expected = [0.5**4, 5 * 0.5**4, (0.75**5 - 0.5**5) / 0.25, 5 * 0.75**4, (1 - 0.75**5) / 0.25, 5, 5]
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    nowhere = Ranks(np.array([0.0, 1.0]))(np.array([0.0, 1.0]), 3)
    np.testing.assert_array_equal(nowhere, [0, 1])


@pytest.mark.parametrize(("k", "keep"), [(7, 3), (50, 2), (300, 150), (1000, 30), (10**6, 11)])
def test_equals_direct_integration(k, keep):
    rng = np.random.default_rng(k)
    law = rng.dirichlet(np.ones(12))
    found = Ranks(np.arange(12.0))(law, k, keep)
    ends = np.append(0, np.cumsum(law))
    bend = 1 - keep / k
    for i, p in enumerate(law):
        points = [bend + w * math.sqrt(keep) / k for w in (-40, -15, -5, -1, 0, 1, 5)]
        inside = [x for x in points if ends[i] < x < ends[i + 1]]
        value, _ = quad(lambda q: betainc(k - keep, keep, q), ends[i], ends[i + 1], points=inside, epsabs=0)
        np.testing.assert_allclose(found[i], k / keep * value / p, rtol=1e-9, atol=1e-13)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1)), min_size=1, max_size=20),
    st.sampled_from(
        [(1, 1), (2, 1), (64, 1), (10**6, 1), (10**15, 1), (math.inf, 1), (3, 2), (64, 8), (99, 40)]
    ),
)
def test_mass_is_kept_and_bounds_hold(atoms, slate):
    rewards, law = np.array(atoms, float).T
    if not law.sum() > 1e-3:
        return
    law = law / law.sum()
    k, keep = slate
    found = Ranks(rewards)(law, k, keep)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert abs(law @ found - 1) < 1e-12
    assert (found[law > 0] <= k / keep).all()
    assert (np.diff(found[np.argsort(rewards)]) >= -1e-12 * min(k, 1e300)).all()
    if k == 1:
        assert (found == 1).all()


def test_a_million_equal_masses_sum_exactly():
    """Where plain cumulative sums are off by 1e-11."""
    n = 10**6
    law = np.full(n, 1 / n)
    assert abs(np.cumsum(law)[-1] - 1) > 5e-12
    assert abs(best_of_k.running(law)[-1] - 1) < 1e-13
    rewards = np.random.default_rng(0).permutation(n)
    for k in (4, 10**6):
        found = Ranks(rewards)(law, k)
        assert abs(law @ found - 1) < 1e-12
        np.testing.assert_allclose(found[np.argmax(rewards)], n * -np.expm1(k * np.log1p(-1 / n)), rtol=1e-12)


def test_several_laws_at_once():
    rng = np.random.default_rng(0)
    rewards, laws = rng.integers(0, 5, 30), rng.dirichlet(np.ones(30), 3).T
    both = Ranks(rewards)(laws, 6, 2)
    for i in range(3):
        np.testing.assert_array_equal(both[:, i], Ranks(rewards)(laws[:, i], 6, 2))


def test_infinite_slates_leave_the_best():
    found = Ranks(np.array([0.0, 2.0, 2.0, 3.0]))(np.array([0.5, 0.2, 0.3, 0.0]), math.inf)
    np.testing.assert_allclose(found[:3], [0, 2, 2])
    assert np.isfinite(found[3])
    assert found[3] > 1e300


@pytest.mark.parametrize("rewards", [[], [math.nan, 1.0], [[1.0, 2.0]]])
def test_wrong_rewards_are_refused(rewards):
    with pytest.raises(InputError, match="one number per candidate"):
        Ranks(np.array(rewards))


# One slate


def test_pairs_of_gaussians_have_a_closed_form():
    gaps = np.array([0.0, 0.3, -3.0, 9.0, -9.0, 40.0, -40.0, 300.0, -300.0, 5000.0, -5000.0])
    u = np.column_stack([gaps, np.zeros_like(gaps)])
    found = quadrature.log_first(GAUSSIAN, u, np.zeros(gaps.size, int))
    np.testing.assert_allclose(found, log_ndtr(gaps / math.sqrt(2)), rtol=1e-13, atol=3e-15)


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0, 400.0, 1e5])
def test_quadrature_gives_luce_for_gumbel_noise(spread):
    rng = np.random.default_rng(0)
    everything = rng.normal(size=(60, 5)) * spread
    slots = rng.integers(0, 3, 60)
    for width in (4, 5):
        u = everything[:, :width]
        softmax = u[np.arange(60), slots] - np.logaddexp.reduce(u, axis=1)
        np.testing.assert_allclose(
            quadrature.log_first(GUMBEL, u, slots), softmax, rtol=1e-12, atol=2e-14 + 1e-16 * spread
        )


@pytest.mark.parametrize("spread", [0.0, 2.0, 50.0, 400.0])
def test_sets_sum_over_rankings(spread):
    """A set's chance under Gumbel noise is that of all its Plackett-Luce rankings together."""
    rng = np.random.default_rng(1)
    u = rng.normal(size=(20, 6)) * spread
    kept = np.tile(np.isin(np.arange(6), [0, 2, 5]), (20, 1))
    total = np.full(20, -np.inf)
    for order in itertools.permutations([0, 2, 5]):
        left, term = u.copy(), np.zeros(20)
        for slot in order:
            term += left[:, slot] - np.logaddexp.reduce(left, axis=1)
            left[:, slot] = -np.inf
        total = np.logaddexp(total, term)
    np.testing.assert_allclose(quadrature.log_kept(GUMBEL, u, kept), total, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_chances_are_sums_over_sets(keep):
    rng = np.random.default_rng(2)
    everything = rng.normal(size=(10, 5)) * np.geomspace(0.1, 300, 10)[:, None]
    for noise, width in itertools.product((GAUSSIAN, GUMBEL), (4, 5)):
        u = everything[:, :width]
        total = np.zeros_like(u)
        for chosen in itertools.combinations(range(width), keep):
            kept = np.tile(np.isin(np.arange(width), chosen), (10, 1))
            total += kept * np.exp(quadrature.log_kept(noise, u, kept))[:, None]
        np.testing.assert_allclose(quadrature.chances(noise, u, keep), total, atol=1e-13)
        np.testing.assert_allclose(total.sum(axis=1), keep, rtol=1e-13)


def test_large_pools_are_resolved():
    """The threshold between 300 kept of 900 is sharp: 1/40 of the noise's scale."""
    u = np.zeros((1, 900))
    kept = (np.arange(900) < 300)[None, :]
    log_sets = -(math.lgamma(901) - math.lgamma(301) - math.lgamma(601))
    for noise in (GAUSSIAN, GUMBEL):
        np.testing.assert_allclose(quadrature.log_kept(noise, u, kept), log_sets, rtol=1e-13)
    np.testing.assert_allclose(quadrature.chances(GAUSSIAN, u[:, :90], 30), 1 / 3, rtol=1e-12)


def test_far_apart_candidates_without_log_functions():
    """A noise by cdf and pdf alone has digits down to where they underflow."""
    plain = Noise(
        "plain",
        lambda z: 1 / (1 + np.exp(-np.clip(z, -700, 700))),
        lambda z: 1 / (2 + 2 * np.cosh(np.clip(z, -700, 700))),
    )
    gaps = np.array([0.0, 5.0, 100.0, 300.0])
    u = np.column_stack([-gaps, np.zeros(4)])
    # P(difference of two logistics > d) = (1 + (d - 1) e^d) / (e^d - 1)^2 -> (d - 1) e^-d.
    expected = np.array(
        [0.5, (1 + 4 * math.exp(5)) / (math.expm1(5)) ** 2, 99 * math.exp(-100), 299 * math.exp(-300)]
    )
    np.testing.assert_allclose(np.exp(quadrature.log_first(plain, u, np.zeros(4, int))), expected, rtol=1e-11)
    farther = quadrature.log_first(plain, np.array([[-1e4, 0.0]]), np.zeros(1, int))
    assert farther[0] < -600


def test_ties_are_shared():
    u, slates = np.array([1.0, 1.0, 0.0, 3.0, 2.0, 2.0, 2.0]), Slates(np.array([0, 3, 7]))
    np.testing.assert_allclose(best_of_k.best_chances(u, slates, 1), [0.5, 0.5, 0, 1, 0, 0, 0])
    np.testing.assert_allclose(best_of_k.best_chances(u, slates, 2), [1, 1, 0, 1, 1 / 3, 1 / 3, 1 / 3])
    kept = np.array([True, True, False, True, False, True, False])
    np.testing.assert_allclose(np.exp(best_of_k.log_best_kept(u, slates, kept)), [1, 1 / 3])
    kept[:3] = True, False, True
    assert best_of_k.log_best_kept(u, slates, kept)[0] == -np.inf


@pytest.mark.parametrize(("k", "keep"), [(4, 1), (50, 1), (6, 3), (math.inf, 1)])
@pytest.mark.parametrize("count", [7, 400, CHUNK + 1])
def test_many_laws_at_once(count, k, keep):
    draw = np.random.default_rng(0)
    rewards = np.round(draw.normal(size=count), 1)
    laws = draw.random((count, 3)) * (draw.random((count, 3)) < 0.8)
    laws /= laws.sum(axis=0)
    ranks = Ranks(rewards)
    each = [ranks(law, k, keep) for law in laws.T]
    np.testing.assert_allclose(ranks(laws, k, keep), np.stack(each, axis=1), rtol=1e-13, atol=0)
