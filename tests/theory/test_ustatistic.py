"""One round within thin contexts: against enumeration, and without bias by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from recurate.core.errors import InputError
from recurate.rules.noise import GAUSSIAN, NO_NOISE, Noise
from recurate.rules.rule import Rule
from recurate.theory import ustatistic
from recurate.theory.population import Population
from recurate.theory.ustatistic import subset_chances, unbiased_law

ONE = np.ones(1)


def luce(slates):
    return Rule(slates.shape[1]).probabilities(slates)


def best(slates):
    top = slates == slates.max(axis=1, keepdims=True)
    return top / top.sum(axis=1, keepdims=True)


def thurstone(slates):
    """Gaussian noise by a sum so fine that nothing is left to it."""
    s = np.arange(-12, 12, 0.01)[:, None, None] + slates.max(axis=1)[:, None]
    z = s - slates
    cdf = GAUSSIAN.cdf(z)
    others = [np.prod(np.delete(cdf, i, axis=2), axis=2) for i in range(slates.shape[1])]
    return 0.01 * np.sum(GAUSSIAN.pdf(z) * np.stack(others, axis=2), axis=0)


def enumerated(rewards, k, pick):
    """Average over all k-subsets, one after the other."""
    out, count = np.zeros(rewards.shape), 0
    for subset in itertools.combinations(range(rewards.shape[1]), k):
        out[:, subset] += pick(rewards[:, subset])
        count += 1
    return out / count


@pytest.mark.parametrize(("j", "k"), [(2, 2), (4, 4), (6, 1), (8, 4), (12, 3), (12, 11), (13, 7)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 3000.0])
def test_equals_enumeration_of_all_subsets(j, k, scale):
    rewards = scale * np.random.default_rng(j * k).normal(size=(9, j))
    np.testing.assert_allclose(subset_chances(rewards, k), enumerated(rewards, k, luce), atol=1e-14)
    np.testing.assert_allclose(
        subset_chances(rewards, k, 2.5), enumerated(rewards / 2.5, k, luce), atol=1e-14
    )


@pytest.mark.parametrize(("j", "k"), [(4, 2), (7, 3), (6, 6)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
def test_other_noises_equal_enumeration(j, k, scale):
    rng = np.random.default_rng(j)
    rewards = scale * rng.normal(size=(5, j))
    np.testing.assert_allclose(
        subset_chances(rewards, k, noise=GAUSSIAN), enumerated(rewards, k, thurstone), atol=1e-12
    )
    tied = rng.integers(0, 3, size=(50, j)).astype(float)
    np.testing.assert_allclose(subset_chances(tied, k, noise=NO_NOISE), enumerated(tied, k, best), atol=1e-15)


def test_a_noise_of_ones_own():
    """Gumbel noise under another name takes the plain grid, and gives the same."""
    own = Noise("own", cdf=lambda z: np.exp(-np.exp(-z)), pdf=lambda z: np.exp(-z - np.exp(-z)))
    rewards = np.random.default_rng(0).normal(size=(20, 9))
    np.testing.assert_allclose(
        subset_chances(rewards, 4, noise=own), subset_chances(rewards, 4), rtol=0, atol=1e-13
    )


def test_little_memory_changes_nothing(monkeypatch):
    rewards = np.random.default_rng(0).normal(size=(40, 9)) * np.geomspace(0.1, 500, 40)[:, None]
    expected = subset_chances(rewards, 4)
    monkeypatch.setattr(ustatistic, "POINTS", 7)
    np.testing.assert_allclose(subset_chances(rewards, 4), expected, atol=1e-15)


def test_far_apart_and_tied_rewards():
    far = np.array([[0.0, 5000.0, -5000.0, 10000.0], [1e308, -1e308, 0.0, 1e300]])
    np.testing.assert_allclose(subset_chances(far, 2), enumerated(far, 2, best), atol=1e-15)
    np.testing.assert_allclose(subset_chances(np.full((3, 11), 7.0), 4), 1 / 11, rtol=1e-14)


def test_all_candidates_in_one_slate():
    """J = K: the expectation over the slate itself."""
    rewards = np.random.default_rng(1).normal(size=(200, 5))
    codes = np.repeat(np.arange(200), 5)
    found = unbiased_law(rewards.reshape(-1, 1), codes, Rule(5, 0.7), ONE)
    np.testing.assert_allclose(found.law, luce(rewards / 0.7).ravel() / 200, atol=1e-16)


def test_mixtures_of_rewards_sizes_and_lapses():
    rewards = np.random.default_rng(2).normal(size=(6, 5, 2))
    codes = np.repeat(np.arange(6), 5)
    rule = Rule({2: 0.25, 5: 0.75}, lapse=0.2)
    found = unbiased_law(rewards.reshape(-1, 2), codes, rule, np.array([0.3, 0.7]))
    parts = [
        w * share * enumerated(rewards[:, :, i], int(k), luce)
        for i, w in enumerate((0.3, 0.7))
        for k, share in rule.sizes
    ]
    np.testing.assert_allclose(found.law, (0.8 * sum(parts) + 0.2 / 5).ravel() / 6, atol=1e-15)


def test_contexts_of_all_sizes_in_any_order_keep_their_masses():
    rng = np.random.default_rng(3)
    codes = np.r_[np.repeat([0, 1, 3, 4], [6, 3, 4, 9])]  # context 2 has no candidates
    rewards = rng.normal(size=(codes.size, 1))
    masses = np.array([0.1, 0.2, 0.0, 0.3, 0.4])
    law = (masses / np.maximum(np.bincount(codes), 1))[codes]
    found = unbiased_law(rewards, codes, Rule(4), ONE, law)
    np.testing.assert_allclose(np.bincount(codes, found.law), masses, atol=1e-15)
    assert list(found.usable) == [True, False, False, True, True]
    assert found.share_usable == pytest.approx(0.8)
    np.testing.assert_allclose(found.law[codes == 1], law[codes == 1], rtol=1e-14)
    np.testing.assert_allclose(
        found.law[codes == 4], 0.4 * enumerated(rewards[codes == 4].T, 4, luce)[0], atol=1e-15
    )
    order = rng.permutation(codes.size)
    shuffled = unbiased_law(rewards[order], codes[order], Rule(4), ONE, law[order])
    np.testing.assert_allclose(shuffled.law, found.law[order], atol=1e-16)
    assert not unbiased_law(rewards, codes, Rule(np.inf), ONE).usable.any()


ATOMS, CHANCES = np.array([0.0, 1.0, 3.0]), np.array([0.7, 0.25, 0.05])


def exact_law():
    return CHANCES * Rule(4).multiplier(ATOMS, CHANCES)


@pytest.mark.parametrize("j", [4, 5, 6, 8])
def test_unbiased_on_a_skewed_law_with_ties(j):
    """The shares of all three atoms; false-alarm rate 2e-6 for each (|z| < 4.75)."""
    rng = np.random.default_rng(j)
    contexts = 20_000
    kinds = rng.choice(3, p=CHANCES, size=contexts * j)
    codes = np.repeat(np.arange(contexts), j)
    found = unbiased_law(ATOMS[kinds][:, None], codes, Rule(4), ONE)
    for kind, expected in enumerate(exact_law()):
        column = (kinds == kind).astype(float)
        assert abs(found.law @ column - expected) < 4.75 * found.standard_error(column)


def test_plugging_in_the_empirical_law_is_biased():
    """Hence the test above can fail: slates drawn with replacement from five candidates are off by 9 s.e."""
    rng = np.random.default_rng(5)
    contexts, j = 3000, 5
    kinds = rng.choice(3, p=CHANCES, size=(contexts, j))
    rewards = ATOMS[kinds]
    slates = np.array(list(itertools.product(range(j), repeat=4)))
    picked = (luce(rewards[:, slates].reshape(-1, 4)).reshape(contexts, -1, 4) * rewards[:, slates]).sum(
        axis=2
    )
    plugged = picked.mean(axis=1)
    z = (plugged.mean() - exact_law() @ ATOMS) / (plugged.std(ddof=1) / np.sqrt(contexts))
    assert z < -9
    own = unbiased_law(rewards.reshape(-1, 1), np.repeat(np.arange(contexts), j), Rule(4), ONE)
    column = rewards.ravel()
    assert abs(own.law @ column - exact_law() @ ATOMS) < 4.75 * own.standard_error(column)


def test_half_of_the_variance_between_contexts():
    """First gain 0.335, where pooling contexts says 0.60; false-alarm rate 2e-6 for either."""
    rng = np.random.default_rng(0)
    contexts, j = 20_000, 8
    within = rng.normal(size=(contexts, j)) * np.sqrt(0.5)
    rewards = (within + rng.normal(size=(contexts, 1)) * np.sqrt(0.5)).reshape(-1, 1)
    found = unbiased_law(rewards, np.repeat(np.arange(contexts), j), Rule(4), ONE)
    gain, error = found.gain(rewards[:, 0])
    residuals = Population(np.sqrt(0.5) * rng.normal(size=(400_000, 1)))
    exact = residuals.rewards[:, 0] @ (residuals.curate(residuals.law, Rule(4)) - residuals.law)
    assert exact == pytest.approx(0.335, abs=0.003)
    assert abs(gain - exact) < 4.75 * np.hypot(error, 0.001)
    pooled = Population(rewards)
    law = pooled.curate(pooled.law, Rule(4))
    assert rewards[:, 0] @ (law - pooled.law) == pytest.approx(0.60, abs=0.02)
    # What differs between contexts only does not change.
    assert found.gain(rewards[:, 0] - within.ravel())[0] == pytest.approx(0, abs=1e-14)


def test_standard_errors_are_right():
    """The spread of 400 replications over the stated error: 1 within 0.15 (4.2 s.d. of that ratio)."""
    rng = np.random.default_rng(7)
    z = []
    for _ in range(400):
        sizes = rng.integers(3, 9, size=60)
        codes = np.repeat(np.arange(60), sizes)
        rewards = rng.normal(size=codes.size) + rng.normal(size=60)[codes]
        found = unbiased_law(rewards[:, None], codes, Rule(3), ONE)
        gain, error = found.gain(rewards)
        z.append((gain / error, gain, error, found.law @ rewards, found.standard_error(rewards)))
    _, gains, errors, means, own = np.array(z).T
    for values, stated in ((gains, errors), (means, own)):
        assert values.std() / np.sqrt(np.mean(stated**2)) == pytest.approx(1, abs=0.15)


def test_too_few_contexts_have_no_standard_error():
    found = unbiased_law(np.arange(4.0)[:, None], np.zeros(4, int), Rule(2), ONE)
    assert np.isnan(found.standard_error(np.arange(4.0)))
    thin = unbiased_law(np.arange(4.0)[:, None], np.zeros(4, int), Rule(5), ONE)
    assert np.isnan(thin.gain(np.arange(4.0))).all()
    assert thin.share_usable == 0


@pytest.mark.parametrize(
    ("rewards", "law", "message"),
    [
        (np.zeros((4, 1)), np.array([0.1, 0.2, 0.3, 0.4]), "equal masses"),
        (np.zeros((3, 1)), None, "same candidates"),
        (np.array([[0.0], [1.0], [np.nan], [2.0]]), None, "finite"),
    ],
)
def test_wrong_input_is_refused(rewards, law, message):
    with pytest.raises(InputError, match=message):
        unbiased_law(rewards, np.zeros(4, int), Rule(2), ONE, law)


def test_rules_that_keep_more_than_one_are_refused():
    with pytest.raises(InputError, match="one pick"):
        unbiased_law(np.zeros((4, 1)), np.zeros(4, int), Rule(3, keep=2), ONE)
