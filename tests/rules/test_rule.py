"""A rule's draw, probabilities, likelihood and multiplier say the same."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy.stats import binom, chi2

from helpers.paths import GOLDENS
from recurate.core.errors import InputError
from recurate.rules.noise import GAUSSIAN, GUMBEL, NO_NOISE, Noise
from recurate.rules.rule import Rule

# Statistical tests here have a false-alarm rate of 1e-8 each (below 1e-6 in all), and fixed seeds.
ALARM = 1e-8

LOGISTIC = Noise("logistic", lambda z: 1 / (1 + np.exp(-z)), lambda z: 1 / (2 + 2 * np.cosh(z)))

RULES = {
    "luce": Rule(4, 0.7),
    "luce-lapse": Rule(3, 0.5, lapse=0.3),
    "plackett-luce": Rule(4, 0.7, keep=2),
    "plackett-luce-many": Rule(5, 0.7, keep=4),
    "thurstone": Rule(3, 0.7, GAUSSIAN),
    "thurstone-keep": Rule(4, 0.7, GAUSSIAN, keep=2, lapse=0.1),
    "best": Rule(3, noise=NO_NOISE),
    "best-lapse": Rule(3, noise=NO_NOISE, lapse=0.2),
    "best-keep": Rule(4, noise=NO_NOISE, keep=3),
    "logistic": Rule(3, 0.5, LOGISTIC),
    "logistic-keep": Rule(3, 0.5, LOGISTIC, keep=2),
    "sizes": Rule({2: 0.5, 3: 0.2, 5: 0.3}, 0.7),
    "best-sizes-keep": Rule({2: 0.6, 4: 0.4}, noise=NO_NOISE, keep=2, lapse=0.1),
}
REWARDS = np.array([-1.0, 0.0, 0.3, 2.0, 2.0])
LAW = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
EVERY = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


def consistent(counts, expected) -> bool:
    """Pearson's test of the possible outcomes; impossible ones must not occur."""
    possible = expected > 0
    assert (counts[~possible] == 0).all()
    if possible.sum() == 1:
        return bool(np.isclose(counts[possible], expected[possible], rtol=1e-12)[0])
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    return bool(statistic < chi2.ppf(1 - ALARM, possible.sum() - 1))


def first_kept(slots):
    return slots if slots.ndim == 1 else slots[:, 0]


@EVERY
def test_mass_is_kept(rule):
    rng = np.random.default_rng(0)
    for spread in (0.0, 1.0, 30.0, 500.0):
        rewards, law = np.round(rng.normal(size=40) * spread, 1), rng.dirichlet(np.ones(40))
        found = rule.multiplier(rewards, law)
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        assert (found <= rule.largest).all()
        assert abs(law @ found - 1) < (1e-12 if rule.noise in (GUMBEL, NO_NOISE) else 2e-11)


@pytest.mark.parametrize("noise", [GUMBEL, GAUSSIAN, NO_NOISE, LOGISTIC], ids=lambda n: n.name)
def test_no_choice_is_no_selection(noise):
    for rule in (Rule(1, noise=noise), Rule(3, noise=noise, keep=3), Rule(3, noise=noise, lapse=1)):
        np.testing.assert_allclose(rule.multiplier(REWARDS, LAW), 1, rtol=1e-15)


@EVERY
def test_draws_follow_the_multiplier(rule):
    """One of the kept, at random, of slates from the law: its law is p H."""
    rng = np.random.default_rng(1)
    n = 200_000
    sizes = rule.draw_sizes(n, rng)
    counts = np.zeros(5)
    for k in np.unique(sizes):
        items = rng.choice(5, size=((sizes == k).sum(), k), p=LAW)
        slots = rule.draw(REWARDS[items], rng).reshape(len(items), rule.keep)
        one = rng.integers(rule.keep, size=len(items))
        counts += np.bincount(items[np.arange(len(items)), slots[np.arange(len(items)), one]], minlength=5)
    assert consistent(counts, n * LAW * rule.multiplier(REWARDS, LAW))
    # The test has power: another temperature, or best-of-K with one candidate more, is noticed.
    other = Rule(rule.largest + 1, 0.9 * rule.temperature, rule.noise, rule.keep, rule.lapse)
    assert not consistent(counts, n * LAW * other.multiplier(REWARDS, LAW))


def outcomes(rule, width, ordered):
    ways = itertools.permutations if ordered else itertools.combinations
    return np.array(list(ways(range(width), rule.keep)))


def likelihoods(rule, slate, ordered):
    """Return all outcomes of one slate and their probabilities."""
    found = outcomes(rule, len(slate), ordered)
    return found, np.exp(rule.log_likelihood(np.tile(slate, (len(found), 1)), found, ordered=ordered))


def has_rankings(rule):
    return rule.keep == 1 or rule.noise in (GUMBEL, NO_NOISE)


@EVERY
@pytest.mark.parametrize("ordered", [True, False])
def test_draws_follow_the_likelihood(rule, ordered):
    if ordered and not has_rankings(rule):
        pytest.skip("rankings under this noise have no likelihood here")
    rng = np.random.default_rng(2)
    slate, n = np.array([0.0, 1.0, 1.0, -0.5, -np.inf]), 100_000
    kept = rule.draw(np.tile(slate, (n, 1)), rng).reshape(n, rule.keep)
    if not ordered:
        kept = np.sort(kept, axis=1)
    present, chances = likelihoods(rule, slate[:4], ordered)
    np.testing.assert_allclose(chances.sum(), 1, rtol=1e-12)
    counts = np.array([(kept == outcome).all(axis=1).sum() for outcome in present])
    assert counts.sum() == n
    assert consistent(counts, n * chances)
    # Each slot is kept as often as probabilities() says.
    inside = (present[:, :, None] == np.arange(4)).any(axis=1)
    expected = (inside * chances[:, None]).sum(axis=0)
    np.testing.assert_allclose(rule.probabilities(slate[None, :4])[0], expected, atol=1e-13)


@EVERY
def test_the_likelihood_gives_the_multiplier(rule):
    """The law of what is kept, by enumerating all slates, is p H."""
    rewards, law = np.array([-0.7, 0.4, 0.4, 2.1]), np.array([0.4, 0.25, 0.05, 0.3])
    kept = np.zeros(4)
    for k, chance in rule.sizes:
        slates = np.array(list(itertools.product(range(4), repeat=int(k))))
        mass = chance * law[slates].prod(axis=1)
        for outcome in outcomes(rule, int(k), ordered=False):
            slots = np.tile(outcome, (len(slates), 1))
            each = mass * np.exp(rule.log_likelihood(rewards[slates], slots, ordered=False))
            for slot in outcome:
                kept += np.bincount(slates[:, slot], each, minlength=4) / rule.keep
    np.testing.assert_allclose(kept, law * rule.multiplier(rewards, law), rtol=1e-10)


KERNEL = [
    case
    for case in json.loads((GOLDENS / "kernel.json").read_text())["kernel"]
    if "thurstone_sigma1" in case and case["K"] in (2, 3, 4)
]


@pytest.mark.parametrize("case", KERNEL, ids=lambda c: f"{c['name']}-K{c['K']}")
def test_golden_thurstone_from_the_likelihood(case):
    rewards, law, k = np.array(case["r"], float), np.array(case["p"], float), case["K"]
    slates = np.array(list(itertools.product(range(len(law)), repeat=k)))
    mass = law[slates].prod(axis=1)
    first = np.zeros(len(slates), int)
    each = k * mass * np.exp(Rule(k, noise=GAUSSIAN).log_likelihood(rewards[slates], first))
    found = np.bincount(slates[:, 0], each, minlength=len(law)) / law
    np.testing.assert_allclose(found, np.array(case["thurstone_sigma1"], float), rtol=1e-12)


@pytest.mark.parametrize(("k", "keep"), [(10, 3), (400, 100)])
@pytest.mark.parametrize("noise", [GUMBEL, GAUSSIAN, LOGISTIC], ids=lambda n: n.name)
def test_the_multiplier_equals_a_plain_sum(noise, k, keep):
    """(K/m) int f(s - u) P(Bin(K - 1, 1 - Phi(s)) <= m - 1) ds on a fine grid, term by term."""
    step = 1 / 128
    z = np.arange(-60, 70, step)[:, None] - REWARDS
    at_most = binom.cdf(keep - 1, k - 1, np.clip(noise.sf(z) @ LAW, 0, 1))
    expected = k / keep * step * (at_most @ noise.pdf(z))
    found = Rule(k, noise=noise, keep=keep).multiplier(REWARDS, LAW)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("rule", [Rule(4, 0.3, GAUSSIAN), Rule(4, 0.3, keep=2)], ids=["thurstone", "keep"])
def test_seeded_draws_use_the_noise_alone(rule):
    """Luce's picks do not: see test_luce_picks."""
    rewards = np.random.default_rng(0).normal(size=(50, 4))
    rng, twin = np.random.default_rng(5), np.random.default_rng(5)
    slots = rule.draw(rewards, rng)
    noisy = rewards / 0.3 + rule.noise.draw(twin, rewards.shape)
    np.testing.assert_array_equal(first_kept(slots), np.argmax(noisy, axis=1))
    assert rng.random() == twin.random()


def test_the_probabilities_are_luces():
    rewards = np.array([[0.0, math.log(3.0)], [1e4, 0.0]])
    np.testing.assert_allclose(Rule(2).probabilities(rewards), [[0.25, 0.75], [1.0, 0.0]], rtol=1e-15)


@EVERY
def test_empty_slots_are_as_if_not_there(rule):
    rng = np.random.default_rng(3)
    short = np.round(rng.normal(size=(30, 4)), 1)
    wide = np.full((30, 7), -np.inf)
    wide[:, [0, 2, 3, 6]] = short
    np.testing.assert_allclose(
        rule.probabilities(wide)[:, [0, 2, 3, 6]], rule.probabilities(short), atol=1e-14
    )
    assert (rule.probabilities(wide)[:, [1, 4, 5]] == 0).all()
    kept = np.tile(np.arange(rule.keep), (30, 1))
    moved = np.array([0, 2, 3, 6])[kept]
    np.testing.assert_allclose(
        rule.log_likelihood(wide, moved, ordered=False),
        rule.log_likelihood(short, kept, ordered=False),
        rtol=1e-13,
        atol=1e-14,
    )
    assert np.isin(rule.draw(wide, rng), [0, 2, 3, 6]).all()


def test_rewards_hundreds_of_nats_apart():
    rewards = np.array([[0.0, 700.0, -900.0, 1500.0]])
    np.testing.assert_allclose(Rule(4).log_likelihood(rewards, np.array([2])), -2400)
    ranking = Rule(4, keep=3).log_likelihood(rewards, np.array([[0, 2, 1]]))
    np.testing.assert_allclose(ranking, -1500 - 2400 - 800)
    lapsing = Rule(4, lapse=0.04).log_likelihood(rewards, np.array([2]))
    np.testing.assert_allclose(lapsing, math.log(0.01))
    for noise in (GUMBEL, GAUSSIAN):
        found = Rule(4, noise=noise, keep=2).log_likelihood(rewards, np.array([[1, 3]]), ordered=False)
        np.testing.assert_allclose(found, 0, atol=1e-12)


def test_temperature_without_noise_changes_nothing():
    hot, cold = Rule(3, 100.0, NO_NOISE), Rule(3, 1e-300, NO_NOISE)
    assert hot.key == cold.key
    np.testing.assert_array_equal(hot.multiplier(REWARDS, LAW), cold.multiplier(REWARDS, LAW))
    np.testing.assert_array_equal(hot.probabilities(REWARDS[None]), cold.probabilities(REWARDS[None]))


def test_best_of_k_needs_a_lapse_to_have_a_likelihood():
    slate, second = np.array([[1.0, 0.0]]), np.array([1])
    assert Rule(2, noise=NO_NOISE).log_likelihood(slate, second)[0] == -np.inf
    np.testing.assert_allclose(
        Rule(2, noise=NO_NOISE, lapse=0.1).log_likelihood(slate, second), math.log(0.05)
    )


@pytest.mark.parametrize("noise", [GUMBEL, NO_NOISE], ids=lambda n: n.name)
def test_infinite_slates(noise):
    large, limit = Rule(10**9, noise=noise), Rule(math.inf, noise=noise)
    np.testing.assert_allclose(limit.multiplier(REWARDS, LAW), large.multiplier(REWARDS, LAW), atol=1e-7)
    with pytest.raises(InputError, match="cannot be drawn"):
        limit.draw_sizes(3, np.random.default_rng(0))


def test_a_rule_is_a_value():
    rule = Rule({4: 0.5, 2: 0.5})
    assert rule.sizes == ((2.0, 0.5), (4.0, 0.5))
    assert rule == Rule({2: 0.5, 4: 0.5, 8: 0.0})
    assert hash(rule) == hash(Rule(rule.k))
    assert (rule.smallest, rule.largest) == (2, 4)
    assert Rule({4: 1.0}) == Rule(4)
    assert Rule(4).key == Rule(64, keep=2, lapse=0.5).key != Rule(4, 2.0).key
    assert Rule(4).key != Rule(4, noise=GAUSSIAN).key


def test_facts_are_plain():
    assert Rule(4).facts() == {"k": 4, "temperature": 1.0}
    assert Rule(math.inf).facts()["k"] == "inf"
    assert Rule({2: 0.5, 4: 0.5}, 2.0, GAUSSIAN, 2, 0.1).facts() == {
        "k": {"2": 0.5, "4": 0.5},
        "temperature": 2.0,
        "noise": "gaussian",
        "keep": 2,
        "lapse": 0.1,
    }
    for rule in RULES.values():
        json.dumps(rule.facts())


def test_setups_serve_several_laws_at_once():
    laws = np.random.default_rng(0).dirichlet(np.ones(5), 3).T
    for rule in RULES.values():
        setup = rule.setup(REWARDS)
        together = rule.weigh(setup, laws)
        for i in range(3):
            np.testing.assert_allclose(together[:, i], rule.weigh(setup, laws[:, i]), rtol=1e-12)


@pytest.mark.parametrize("k", [0, -1, 2.5, math.nan, "four", None, {2.5: 1.0}])
def test_wrong_slate_sizes_are_refused(k):
    with pytest.raises(InputError, match="slate size"):
        Rule(k)


@pytest.mark.parametrize(
    "k", [{2: 0.5}, {2: 0.7, 4: 0.7}, {}, {2: -0.5, 4: 1.5}, (2, 4), ((2, 0.5), (2, 0.5))]
)
def test_wrong_distributions_over_sizes_are_refused(k):
    with pytest.raises(InputError, match="probabilit"):
        Rule(k)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_wrong_temperatures_are_refused(temperature):
    with pytest.raises(InputError, match="temperature"):
        Rule(4, temperature)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": "gaussian"}, "must be a Noise"),
        ({"noise": Noise("bad", GUMBEL.cdf, GAUSSIAN.pdf)}, "derivative"),
        ({"keep": 5}, "keep must"),
        ({"keep": 0}, "keep must"),
        ({"keep": 1.5}, "keep must"),
        ({"k": {2: 0.5, 4: 0.5}, "keep": 3}, "keep must"),
        ({"lapse": 1.5}, "lapse"),
        ({"lapse": math.nan}, "lapse"),
        ({"k": math.inf, "noise": GAUSSIAN}, "k = inf"),
        ({"k": math.inf, "keep": 2}, "k = inf"),
        ({"k": {2: 0.5, math.inf: 0.5}, "noise": LOGISTIC}, "k = inf"),
    ],
)
def test_wrong_rules_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Rule(**arguments)


SLATE = np.zeros((1, 3))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Rule(3).draw(np.zeros(3), np.random.default_rng(0)), "must be a table"),
        (lambda: Rule(3).probabilities(np.array([[0.0, math.nan]])), "must be numbers"),
        (lambda: Rule(3).probabilities(np.array([[0.0, math.inf]])), "must be numbers"),
        (lambda: Rule(3, 1e-200).probabilities(np.array([[0.0, -1e200]])), "must be numbers"),
        (lambda: Rule(3).probabilities(np.full((1, 2), -math.inf)), "that many"),
        (lambda: Rule(3, keep=2).draw(np.array([[0.0, -math.inf]]), np.random.default_rng(0)), "that many"),
        (lambda: Rule(3).log_likelihood(SLATE, np.array([3])), "slots from 0 to 2"),
        (lambda: Rule(3).log_likelihood(SLATE, np.array([0.0])), "slots from 0 to 2"),
        (lambda: Rule(3).log_likelihood(SLATE, np.array([[0, 1]])), "slots from 0 to 2"),
        (lambda: Rule(3, keep=2).log_likelihood(SLATE, np.array([[1, 1]])), "twice"),
        (lambda: Rule(3).log_likelihood(np.array([[0.0, -math.inf]]), np.array([1])), "empty"),
        (lambda: Rule(3, 1, GAUSSIAN, 2).log_likelihood(SLATE, np.array([[0, 1]])), "ordered=False"),
    ],
)
def test_wrong_slates_are_refused(act, message):
    with pytest.raises(InputError, match=message):
        act()


def test_no_slates_are_no_trouble():
    none = np.zeros((0, 3))
    for rule in RULES.values():
        assert rule.probabilities(none).shape == (0, 3)
        assert len(rule.draw(none, np.random.default_rng(0))) == 0
        kept = np.zeros((0, rule.keep), int)
        assert rule.log_likelihood(none, kept, ordered=False).shape == (0,)
