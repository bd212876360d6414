"""Thurstone, lapses and best of K: likelihoods against the rules', planted shares, comparisons."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import norm

from helpers.picking import TRUE, bounds, draw, hessian_of, jacobian_of, luce, one_by_one, plain_log, ragged
from helpers.rates import Rate
from recurate.choices import Choices, NoEstimate, conditional_logit
from recurate.choices.checks.held_out import (
    FEW,
    FOLDS,
    RuleScore,
    compare_rules,
    folds_of,
    mean_difference,
    position_fit,
)
from recurate.choices.models.rival_rules import (
    GUMBEL_SCALE,
    _lapse_value,
    best_chances,
    best_of_k,
    lapse_logit,
    thurstone,
)
from recurate.core.seeds import Stream
from recurate.rules.families import RIVALS, Family
from recurate.rules.noise import GAUSSIAN, NO_NOISE
from recurate.rules.rule import Rule

# Statistical tests here have a false-alarm rate of 1e-6 each, and fixed seeds, unless they say otherwise.
ALARM = 1e-6


def by_rule(choices, utilities, rule):
    """Return each slate's log-likelihood as the rule tells it, one slate at a time."""
    out = []
    for a, b, pick in zip(
        choices.slates.offsets[:-1], choices.slates.offsets[1:], choices.picked, strict=True
    ):
        sized = Rule(int(b - a), noise=rule.noise, lapse=rule.lapse)
        out.append(sized.log_likelihood(utilities[None, a:b], np.array([pick]))[0])
    return np.array(out)


def best_logs(choices, worth, lapse):
    return choices.log_likelihood(Rule(noise=NO_NOISE, lapse=lapse), worth)


def at_random(rng, slates, k, spread):
    """Return slates of k whose only feature is the utility, picks at random (however unlikely)."""
    return Choices.of(spread * rng.normal(size=slates * k), k=k, picked=rng.integers(0, k, slates))


# --- Thurstone ------------------------------------------------------------------------------------


def test_thurstones_pairs_have_a_closed_form_estimate():
    wins, n = 70, 100
    fit = thurstone(Choices.of([0.0, 1.0] * n, k=2, picked=[1] * wins + [0] * (n - wins)))
    z = ndtri(wins / n)
    assert fit.coefficients[0] == pytest.approx(math.sqrt(2) * z, abs=1e-6)
    error = math.sqrt(0.7 * 0.3 / n) / (norm.pdf(z) / math.sqrt(2))
    assert fit.standard_errors[0] == pytest.approx(error, rel=1e-4)
    assert fit.log_likelihood == pytest.approx(n * (0.7 * math.log(0.7) + 0.3 * math.log(0.3)))
    assert (fit.family, fit.lapse, fit.lapse_interval) == (Family.THURSTONE, None, None)


@pytest.mark.parametrize("weighted", [False, True])
def test_thurstones_estimate_is_a_maximum_with_the_inverse_hessian(weighted):
    rng = np.random.default_rng(5)
    choices = luce(rng, slates=80)
    weights = rng.uniform(0.3, 3.0, 80) if weighted else np.ones(80)
    choices = replace(choices, weights=weights if weighted else None)
    rule = Rule(4, noise=GAUSSIAN)

    def value(beta):
        u = (choices.features @ beta).reshape(80, 4)
        return float(rule.log_likelihood(u, choices.picked) @ weights)

    fit = thurstone(choices)
    assert fit.log_likelihood == pytest.approx(value(fit.coefficients), rel=1e-8)
    np.testing.assert_allclose(jacobian_of(value, fit.coefficients), 0, atol=1e-4)
    covariance = np.linalg.inv(-hessian_of(value, fit.coefficients))
    np.testing.assert_allclose(fit.standard_errors, np.sqrt(np.diag(covariance)), rtol=1e-4)


@pytest.mark.parametrize(("unit", "shift"), [(1e-6, 0.0), (1e6, 0.0), (1.0, 2000.0), (1.0, 1e6), (1e3, 1e7)])
def test_units_and_origins_of_features_do_not_matter(unit, shift):
    """A year as a feature is a number near 2000 that differs by ones."""
    choices = ragged(np.random.default_rng(6), slates=200)
    moved = replace(choices, features=choices.features * unit + shift)
    for fit in (thurstone, lapse_logit):
        plain, found = fit(choices), fit(moved)
        np.testing.assert_allclose(found.coefficients * unit, plain.coefficients, rtol=2e-3, atol=1e-4)
        assert found.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-4)


def test_planted_thurstone_coefficients_are_recovered():
    """Intervals of 100 sets cover: 300 slates of four."""
    hits = np.zeros(3)
    for r in range(100):
        fit = thurstone(luce(np.random.default_rng([7, r]), slates=150, noise="gaussian"))
        hits += np.abs(fit.coefficients - TRUE) < 1.959964 * fit.standard_errors
    low, high = bounds(100, 0.95, ALARM)
    assert (low <= hits).all()
    assert (hits <= high).all()


def test_thurstones_rewards_are_about_luces_in_other_units():
    """For pairs the two laws of noise differ little: coefficients by the ratio of their deviations."""
    choices = luce(np.random.default_rng(8), slates=4000, k=2)
    luces, thurstones = conditional_logit(choices).coefficients, thurstone(choices).coefficients
    np.testing.assert_allclose(luces / thurstones, GUMBEL_SCALE, rtol=0.15)


def test_separated_picks_have_no_thurstone_estimate():
    with pytest.raises(NoEstimate, match="separated"):
        thurstone(Choices.of([0.0, 1.0] * 9, k=2, picked=[1] * 9))


# --- lapses ---------------------------------------------------------------------------------------


def plain_lapse(slates, theta):
    """Return sum_s w log((1 - e) P(pick) + e / K), theta = (beta, log odds of e)."""
    e = 1 / (1 + math.exp(-theta[-1]))
    return math.fsum(
        w * math.log((1 - e) * math.exp(plain_log(x, pick, theta[:-1].tolist())) + e / len(x))
        for x, pick, w, _ in slates
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_lapse_derivatives(weighted, scale):
    choices = ragged(np.random.default_rng(9), slates=60, weighted=weighted)
    theta = np.r_[scale * TRUE, -1.3]
    slates = one_by_one(choices)
    value, gradient = _lapse_value(choices, theta)
    assert value == pytest.approx(plain_lapse(slates, theta), rel=1e-12)
    np.testing.assert_allclose(gradient, jacobian_of(lambda t: plain_lapse(slates, t), theta), atol=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_lapse_estimate_is_a_maximum(weighted):
    rng = np.random.default_rng(11)
    choices = luce(rng, slates=400, beta=2 * TRUE, lapse=0.2)
    if weighted:
        choices = replace(choices, weights=rng.uniform(0.5, 2.0, 400))
    fit = lapse_logit(choices)
    slates = one_by_one(choices)
    theta = np.r_[fit.coefficients, math.log(fit.lapse / (1 - fit.lapse))]
    np.testing.assert_allclose(jacobian_of(lambda t: plain_lapse(slates, t), theta), 0, atol=1e-2)
    assert fit.log_likelihood == pytest.approx(plain_lapse(slates, theta), rel=1e-10)
    assert fit.log_likelihood > conditional_logit(choices).log_likelihood
    low, high = fit.lapse_interval
    assert low < fit.lapse < high
    # No other start is better.
    again = lapse_logit(choices, pooled=conditional_logit(choices, shrinkage=50.0))
    assert again.log_likelihood == pytest.approx(fit.log_likelihood, rel=1e-7)


def test_planted_lapse_shares_are_recovered():
    """100 sets of 500 slates, e = 0.15: intervals of the share and of the coefficients cover."""
    low, high = bounds(100, 0.95, ALARM)
    share, coefficients = 0, np.zeros(3)
    for r in range(100):
        fit = lapse_logit(luce(np.random.default_rng([12, r]), slates=500, beta=2 * TRUE, lapse=0.15))
        share += fit.lapse_interval[0] <= 0.15 <= fit.lapse_interval[1]
        coefficients += np.abs(fit.coefficients - 2 * TRUE) < 1.959964 * fit.standard_errors[:3]
    assert low <= share <= high
    assert (low <= coefficients).all()
    assert (coefficients <= high).all()


def test_no_lapses_are_found_where_there_are_none():
    """At the edge the interval holds zero in at least 95 % of sets, and its end is small."""
    low, _ = bounds(100, 0.95, ALARM)
    fits = [lapse_logit(luce(np.random.default_rng([13, r]), slates=500)) for r in range(100)]
    assert sum(fit.lapse_interval[0] < 1e-3 for fit in fits) >= low
    assert max(fit.lapse for fit in fits) < 0.2
    for fit in fits:
        assert 0 <= fit.lapse_interval[0] <= fit.lapse <= fit.lapse_interval[1] <= 1


def test_picks_at_random_say_nothing_about_lapses():
    fit = lapse_logit(luce(np.random.default_rng(14), slates=400, beta=np.zeros(3)))
    assert fit.lapse_interval[1] > 0.99


def test_a_score_that_decides_all_but_some_lapses():
    """No temperature exists for Luce's rule without lapses; with them it is found from a shrunken start."""
    rng = np.random.default_rng(15)
    choices = luce(rng, slates=300, beta=np.array([1.0]), noise="none")
    with pytest.raises(NoEstimate):
        conditional_logit(choices)
    fit = lapse_logit(choices)
    assert fit.lapse < 0.01
    lapsing = luce(rng, slates=600, beta=np.array([300.0]), lapse=0.2)
    fit = lapse_logit(lapsing)
    assert fit.lapse_interval[0] < 0.2 < fit.lapse_interval[1]
    assert fit.coefficients[0] > 10


# --- best of K ------------------------------------------------------------------------------------


def test_best_of_k_in_closed_form():
    """A share (1 - e) + e / 4 of picks is the best: e = (1 - share) 4 / 3."""
    rng = np.random.default_rng(16)
    choices = luce(rng, slates=1000, beta=np.array([1.0]), noise="none", lapse=0.3)
    worth = choices.features[:, 0]
    share = (worth.reshape(-1, 4).argmax(axis=1) == choices.picked).mean()
    fit = best_of_k(choices, worth)
    assert fit.lapse == pytest.approx((1 - share) * 4 / 3, abs=1e-9)
    assert fit.log_likelihood == pytest.approx(
        1000 * (share * math.log(share) + (1 - share) * math.log((1 - share) / 3))
    )
    assert fit.log_likelihood == pytest.approx(best_logs(choices, worth, fit.lapse).sum())
    low, high = fit.lapse_interval
    assert low < 0.3 < high
    # Where twice the log-likelihood has fallen by 3.84.
    for end in (low, high):
        assert 2 * (fit.log_likelihood - best_logs(choices, worth, end).sum()) == pytest.approx(
            3.8415, abs=1e-3
        )


def test_best_of_k_intervals_cover():
    low, high = bounds(200, 0.95, ALARM)
    hits = 0
    for r in range(200):
        choices = luce(
            np.random.default_rng([17, r]), slates=200, beta=np.array([1.0]), noise="none", lapse=0.1
        )
        interval = best_of_k(choices, choices.features[:, 0]).lapse_interval
        hits += interval[0] <= 0.1 <= interval[1]
    assert low <= hits <= high


def test_best_of_k_depends_on_the_order_of_worth_alone():
    choices = ragged(np.random.default_rng(18), slates=200)
    worth = choices.features @ TRUE
    plain, bent = best_of_k(choices, worth), best_of_k(choices, np.exp(3 * worth))
    assert plain == replace(bent, coefficients=plain.coefficients)


def test_equally_good_candidates_share_the_pick():
    choices = Choices.of([1.0, 1.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0], k=4, picked=[0, 3])
    np.testing.assert_allclose(best_chances(choices, choices.features[:, 0]), [1 / 2, 1 / 4])
    missed = replace(choices, picked=np.array([2, 0]))
    np.testing.assert_allclose(best_chances(missed, choices.features[:, 0]), [0, 1 / 4])
    expected = by_rule(missed, choices.features[:, 0], Rule(4, noise=NO_NOISE, lapse=0.1))
    np.testing.assert_allclose(best_logs(missed, choices.features[:, 0], 0.1), expected)


@pytest.mark.parametrize(("picked", "lapse"), [("best", 0.0), ("worst", 1.0)])
def test_the_edges_of_the_lapse_share(picked, lapse):
    x = np.random.default_rng(19).normal(size=(50, 3))
    slots = x.argmax(axis=1) if picked == "best" else x.argmin(axis=1)
    fit = best_of_k(Choices.of(x.ravel(), k=3, picked=slots), x.ravel())
    assert fit.lapse == lapse
    low, high = fit.lapse_interval
    assert (low, high) == pytest.approx((0, high) if lapse == 0 else (low, 1))
    assert high - low < 0.3


def test_weights_of_slates_count_in_best_of_k():
    rng = np.random.default_rng(20)
    choices = luce(rng, slates=100, beta=np.array([1.0]), noise="none", lapse=0.4)
    times = rng.integers(1, 4, 100)
    again = choices.take(np.repeat(np.arange(100), times))
    weighted = best_of_k(replace(choices, weights=times.astype(float)), choices.features[:, 0])
    repeated = best_of_k(again, again.features[:, 0])
    assert weighted.lapse == pytest.approx(repeated.lapse, abs=1e-9)
    np.testing.assert_allclose(weighted.lapse_interval, repeated.lapse_interval, atol=1e-7)


# --- which rule predicts best ---------------------------------------------------------------------


def better(choices):
    return [score.name for score in compare_rules(choices) if score.better]


def test_lapses_are_preferred_where_there_are_some():
    for r in range(5):
        assert better(luce(np.random.default_rng([21, r]), slates=1000, beta=2.5 * TRUE, lapse=0.2)) == [
            Family.LAPSE
        ]


def test_best_of_k_is_preferred_where_there_is_no_noise():
    """Luce's rule with a tiny temperature and lapses says nearly the same; both beat Luce's rule alone."""
    for r in range(5):
        found = better(luce(np.random.default_rng([22, r]), slates=400, noise="none", lapse=0.15))
        assert Family.BEST in found
        assert Family.THURSTONE not in found
        assert Family.UNIFORM not in found


def test_thurstone_is_preferred_where_noise_is_gaussian():
    """It takes many slates of eight and strong rewards to tell the two noises apart."""
    choices = luce(np.random.default_rng(23), slates=5000, k=8, beta=3 * TRUE, noise="gaussian")
    assert better(choices) == [Family.THURSTONE]


@pytest.mark.slow
def test_rivals_are_not_preferred_on_luces_own_picks():
    """In 1.7 % of 1,000 sets some rival is; more than 5 of 60 then happens once in 1,800.

    It ends as soon as it is clear: a rate of 20 % is found with probability 0.99, as in 60 sets.
    """
    preferred = Rate(5, 60, low=0.017)
    for r in range(60):
        choices = luce(np.random.default_rng([24, r]), slates=200, k=3, beta=np.array([1.0, -0.5]))
        if preferred.add(bool(better(choices))):
            break
    assert preferred.passed


@pytest.mark.slow
def test_rivals_are_not_preferred_on_luces_own_picks_of_people_who_pick_again():
    """In 0.3 % of 300 sets some rival is; at 1.5 %, more than 6 of 120 would happen once in 300.

    It ends as soon as it is clear: a rate of 12 % is found with probability 0.99, as in 120 sets.
    """
    preferred = Rate(6, 120, low=0.003)
    for r in range(120):
        if preferred.add(bool(better(luce(np.random.default_rng([25, r]), slates=600, choosers=60)))):
            break
    assert preferred.passed


@pytest.mark.parametrize("choosers", [None, 40])
def test_scores_are_means_over_held_out_slates(choosers):
    """Recomputed: fits on two folds of three, the third one's slates under each; errors by chooser."""
    choices = luce(np.random.default_rng(26), slates=240, choosers=choosers)
    scores = {s.name: s for s in compare_rules(choices, seed=5)}
    assert tuple(scores) == RIVALS
    folds = folds_of(choices, FOLDS, Stream(5).at("rules").generator())
    luces, gaussian = np.empty(240), np.empty(240)
    for fold in range(FOLDS):
        train, test = choices.take(folds != fold), choices.take(folds == fold)
        beta = conditional_logit(train).coefficients
        luces[folds == fold] = [plain_log(x, p, beta.tolist()) for x, p, _, _ in one_by_one(test)]
        u = test.features @ thurstone(train).coefficients
        gaussian[folds == fold] = Rule(4, noise=GAUSSIAN).log_likelihood(u.reshape(-1, 4), test.picked)
    assert scores[Family.LUCE].per_slate == pytest.approx(luces.mean(), abs=1e-6)
    assert scores[Family.THURSTONE].per_slate == pytest.approx(gaussian.mean(), abs=1e-5)
    assert scores[Family.UNIFORM].per_slate == pytest.approx(-math.log(4))
    assert scores[Family.LUCE].gain == 0
    gain = gaussian - luces
    assert scores[Family.THURSTONE].gain == pytest.approx(gain.mean(), abs=1e-6)
    apart = gain - gain.mean()
    sums = apart if choosers is None else np.bincount(choices.choosers, apart)
    reach = norm.isf(0.025 / 4) * math.sqrt(np.square(sums).sum()) / 240
    np.testing.assert_allclose(
        scores[Family.THURSTONE].interval, [gain.mean() - reach, gain.mean() + reach], rtol=1e-3, atol=1e-6
    )


def test_mean_differences_count_weights():
    rng = np.random.default_rng(27)
    logs, base, weights = rng.normal(size=50), rng.normal(size=50), rng.integers(1, 4, 50)
    codes = rng.integers(0, 9, 50)
    again = np.repeat(np.arange(50), weights)
    found = mean_difference(logs, base, weights.astype(float), codes)
    np.testing.assert_allclose(
        found, mean_difference(logs[again], base[again], np.ones(again.size), codes[again]), rtol=1e-12
    )


def test_few_slates_are_not_held_out():
    assert compare_rules(luce(np.random.default_rng(28), slates=FEW - 1)) == []
    assert len(compare_rules(luce(np.random.default_rng(28), slates=FEW))) == len(RIVALS)


def test_a_rival_is_better_where_its_whole_interval_is_above_zero():
    assert RuleScore(Family.LAPSE, -1.0, 0.1, (0.01, 0.2)).better
    assert not RuleScore(Family.LAPSE, -1.0, 0.1, (-0.01, 0.2)).better


def test_the_fit_with_places():
    """Place 3 has e^0.8 times the odds of place 1."""
    rng = np.random.default_rng(29)
    x = rng.normal(size=(2000, 3, 2))
    picked = draw(x @ np.array([1.0, 0.5]) + [0.0, 0.0, 0.8], rng)
    fit = position_fit(Choices.of(x.reshape(-1, 2), k=3, picked=picked, names=["a", "b"]))
    assert fit.names == ("a", "b", "place 2", "place 3")
    assert (np.abs(fit.coefficients - [1.0, 0.5, 0.0, 0.8]) < 5.3 * fit.standard_errors).all()
    unknown = replace(Choices.of(x.reshape(-1, 2), k=3, picked=picked), positions=None)
    assert position_fit(unknown) is None
    always_first = Choices.of(x.reshape(-1, 2), k=3, picked=np.zeros(2000, int))
    assert position_fit(always_first) is None
