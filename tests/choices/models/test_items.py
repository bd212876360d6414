"""Item rewards: Luce, rankings and Davidson's ties against dense and brute-force likelihoods; existence."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from scipy.stats import chi2

from helpers.picking import bounds, hessian_of, jacobian_of
from recurate.choices import Choices, NoEstimate, conditional_logit, item_rewards
from recurate.choices.models import items as luce
from recurate.choices.models.item_likelihoods import Davidson, Top1Likelihood
from recurate.choices.models.items import DRAWS, TOLERANCE
from recurate.core.errors import InputError
from recurate.rules.slates import Slates

# Statistical tests here have a false-alarm rate of 1e-6 each, and fixed seeds.
ALARM = 1e-6


def slates_of(rng, theta, slates, k):
    """Return items (slates, k), all different, and Luce picks."""
    items = np.argsort(rng.random((slates, len(theta))), axis=1)[:, :k]
    return items, np.argmax(theta[items] + rng.gumbel(size=items.shape), axis=1)


def ragged_of(rng, theta, slates):
    """Return items (rows,), offsets and Luce picks, from slates of 2 to 5."""
    sizes = rng.integers(2, 6, slates)
    offsets = np.r_[0, np.cumsum(sizes)]
    items, picked = [], []
    for size in sizes:
        slate = rng.permutation(len(theta))[:size]
        items.append(slate)
        picked.append(int(np.argmax(theta[slate] + rng.gumbel(size=size))))
    return np.concatenate(items), offsets, np.array(picked)


def dense(items, offsets, picked, count, **arguments):
    """Return a conditional logit with an indicator for every item but the first."""
    indicators = np.eye(count)[items][:, 1:]
    return conditional_logit(Choices.of(indicators, offsets=offsets, picked=picked, **arguments))


def centring(count):
    """Return the matrix from rewards relative to item 0 (count - 1,) to rewards of mean zero (count,)."""
    relative = np.eye(count)[:, 1:]
    return relative - relative.mean(axis=0)


# --- against the dense logit ----------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("clustered", [False, True])
def test_rewards_and_errors_are_those_of_a_logit_with_indicators(weighted, clustered):
    """Standard errors by the delta method, from rewards relative to one item to rewards of mean zero."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=7)
    items, offsets, picked = ragged_of(rng, theta, 400)
    weights = rng.uniform(0.2, 4.0, 400) if weighted else None
    who = rng.integers(0, 40, 400) if clustered else None
    fit = item_rewards(items, picked, offsets=offsets, weights=weights, clusters=who)
    logit = dense(items, offsets, picked, 7, weights=weights, choosers=who)
    to_mean_zero = centring(7)
    np.testing.assert_allclose(fit.rewards, to_mean_zero @ logit.coefficients, atol=1e-5)
    assert fit.rewards.mean() == pytest.approx(0, abs=1e-12)
    assert fit.log_likelihood == pytest.approx(logit.log_likelihood, rel=1e-10)
    assert fit.null_log_likelihood == pytest.approx(logit.null_log_likelihood, rel=1e-12)
    assert fit.exact_errors
    expected = np.sqrt(np.diag(to_mean_zero @ logit.covariance @ to_mean_zero.T))
    np.testing.assert_allclose(fit.standard_errors, expected, rtol=1e-5)
    if clustered:
        expected = np.sqrt(np.diag(to_mean_zero @ logit.clustered @ to_mean_zero.T))
        np.testing.assert_allclose(fit.clustered_errors, expected, rtol=1e-5)
        np.testing.assert_array_equal(fit.errors, fit.clustered_errors)
    else:
        assert fit.clustered_errors is None
        np.testing.assert_array_equal(fit.errors, fit.standard_errors)


def test_an_item_may_be_shown_twice_in_a_slate():
    rng = np.random.default_rng(1)
    items = rng.integers(0, 4, (300, 3))
    picked = np.argmax(np.array([0.5, 0.0, -0.3, 1.0])[items] + rng.gumbel(size=items.shape), axis=1)
    fit = item_rewards(items, picked)
    logit = dense(items.ravel(), np.arange(0, 901, 3), picked, 4)
    np.testing.assert_allclose(fit.rewards, centring(4) @ logit.coefficients, atol=1e-5)
    expected = np.sqrt(np.diag(centring(4) @ logit.covariance @ centring(4).T))
    np.testing.assert_allclose(fit.standard_errors, expected, rtol=1e-5)


def test_pairs_in_closed_form():
    """Two items: the difference is the log odds, and each one's error half that of the difference."""
    fit = item_rewards([[0, 1]] * 40, [0] * 30 + [1] * 10, names=("a", "b"))
    assert fit.rewards[0] - fit.rewards[1] == pytest.approx(math.log(3), abs=1e-6)
    np.testing.assert_allclose(fit.standard_errors, math.sqrt(1 / 30 + 1 / 10) / 2, rtol=1e-6)
    assert fit.names == ("a", "b")
    assert fit.tie_log_odds is None


def test_one_slate_shown_again_and_again_in_closed_form():
    """Rewards are the logs of shares of picks."""
    counts = np.array([3, 50, 20, 7])
    fit = item_rewards(np.tile(np.arange(4), (80, 1)), np.repeat(np.arange(4), counts))
    np.testing.assert_allclose(fit.rewards, np.log(counts) - np.log(counts).mean(), atol=1e-5)


def test_intervals_cover():
    """300 data sets, four items; right intervals fail this one time in 250,000."""
    theta = np.array([0.8, 0.2, -0.3, -0.7])
    hits = np.zeros(4)
    for r in range(300):
        items, picked = slates_of(np.random.default_rng([1, r]), theta, 200, 3)
        fit = item_rewards(items, picked)
        hits += np.abs(fit.rewards - theta) < 1.959964 * fit.standard_errors
    low, high = bounds(300, 0.95, ALARM)
    assert (low <= hits).all()
    assert (hits <= high).all()


# --- derivatives ----------------------------------------------------------------------------------


def luce_value(items, offsets, picked, weights, theta):
    total = 0.0
    for s, (a, b) in enumerate(itertools.pairwise(offsets)):
        u = [theta[i] for i in items[a:b]]
        total += weights[s] * (u[picked[s]] - math.log(math.fsum(math.exp(v) for v in u)))
    return total


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_of_luces_likelihood(scale, weighted):
    rng = np.random.default_rng(2)
    items, offsets, picked = ragged_of(rng, np.zeros(5), 40)
    weights = rng.uniform(0.3, 2.0, 40) if weighted else None
    model = Top1Likelihood.build(items, Slates(offsets), items[offsets[:-1] + picked], weights, 5)
    theta = scale * rng.normal(size=5)
    point = model.at(theta)

    def value(t):
        return luce_value(items, offsets, picked, np.ones(40) if weights is None else weights, t.tolist())

    assert point.value == pytest.approx(value(theta), rel=1e-12)
    check_point(point, value, theta)


def check_point(point, value, theta):
    """Compare gradient, information in all its forms, and scores with differences."""
    np.testing.assert_allclose(point.gradient, jacobian_of(value, theta), atol=1e-7)
    information = -hessian_of(value, theta)
    np.testing.assert_allclose(point.dense_information(), information, atol=1e-6)
    for v in (np.eye(theta.size)[1], np.arange(theta.size) - 1.3):
        np.testing.assert_allclose(point.times(v), information @ v, atol=1e-5)
    assert (point.diagonal >= np.diag(information) - 1e-6).all()
    np.testing.assert_allclose(np.asarray(point.scores().sum(axis=0)).ravel(), point.gradient, atol=1e-10)


def davidson_value(left, right, outcome, weights, theta):
    """Davidson (1970): odds w_i : w_j : nu sqrt(w_i w_j)."""
    *rewards, log_nu = theta
    total = 0.0
    for i, j, o, weight in zip(left, right, outcome, weights, strict=True):
        odds = [
            math.exp(rewards[i]),
            math.exp(rewards[j]),
            math.exp(log_nu) * math.sqrt(math.exp(rewards[i]) * math.exp(rewards[j])),
        ]
        total += weight * math.log(odds[o] / math.fsum(odds))
    return total


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_of_davidsons_likelihood(scale, weighted):
    rng = np.random.default_rng(3)
    pairs = np.array([rng.permutation(4)[:2] for _ in range(50)])
    outcome = rng.integers(0, 3, 50)
    weights = rng.uniform(0.3, 2.0, 50) if weighted else None
    model = Davidson.build(
        pairs.ravel(), Slates.of_size(2, 50), np.minimum(outcome, 1), weights, outcome == 2, 4
    )
    theta = scale * rng.normal(size=5)
    point = model.at(theta)

    def value(t):
        own = np.ones(50) if weights is None else weights
        return davidson_value(pairs[:, 0], pairs[:, 1], outcome, own, t.tolist())

    assert point.value == pytest.approx(value(theta), rel=1e-12)
    check_point(point, value, theta)


@pytest.mark.parametrize("ties", [False, True])
def test_drawn_gradients_have_mean_zero_and_the_informations_covariance(ties):
    """4,000 draws; each entry within five standard errors of it (1e-6, times the entries)."""
    rng = np.random.default_rng(4)
    pairs = np.array([rng.permutation(4)[:2] for _ in range(60)])
    weights = rng.uniform(0.5, 2.0, 60)
    tied = rng.random(60) < 0.3
    slates, slots = Slates.of_size(2, 60), rng.integers(0, 2, 60)
    if ties:
        model = Davidson.build(pairs.ravel(), slates, slots, weights, tied, 4)
    else:
        model = Top1Likelihood.build(pairs.ravel(), slates, pairs[np.arange(60), slots], weights, 4)
    point = model.at(rng.normal(size=5 if ties else 4))
    draws = np.array([point.drawn_gradient(rng) for _ in range(4000)])
    information = point.dense_information()
    size = np.sqrt(np.diag(information))
    assert (np.abs(draws.mean(axis=0)) < 5 * size / math.sqrt(4000)).all()
    found = draws.T @ draws / 4000
    assert (np.abs(found - information) < 6 * np.outer(size, size) / math.sqrt(4000) * math.sqrt(2)).all()


# --- the estimate ---------------------------------------------------------------------------------


def test_the_fixed_point_of_hunters_algorithm():
    """At the maximum w_i = wins_i / sum over slates with i of 1 / sum w (Hunter 2004)."""
    rng = np.random.default_rng(5)
    items, offsets, picked = ragged_of(rng, rng.normal(size=12), 1500)
    fit = item_rewards(items, picked, offsets=offsets)
    w = np.exp(fit.rewards)
    wins, shares = np.zeros(12), np.zeros(12)
    for s, (a, b) in enumerate(itertools.pairwise(offsets)):
        wins[items[a + picked[s]]] += 1
        for i in items[a:b]:
            shares[i] += 1 / w[items[a:b]].sum()
    np.testing.assert_allclose(wins / shares, w, rtol=1e-4)
    assert fit.gradient_norm <= TOLERANCE


def ring(count, each, rng, spread=0.7):
    """Return comparisons of every item with the next one only, and the rewards; each is won by both sides."""
    theta = np.cumsum(rng.normal(0, spread, count))
    theta = (theta - np.linspace(0, theta[-1], count)) / 3
    left = np.repeat(np.arange(count), each)
    right = (left + 1) % count
    wins = rng.binomial(each - 2, 1 / (1 + np.exp(theta[right[::each]] - theta[left[::each]]))) + 1
    picked = (np.arange(each)[None, :] >= wins[:, None]).astype(int)
    return np.column_stack([left, right]), picked.ravel(), wins


@pytest.mark.parametrize("count", [10, 300, 2000])
def test_a_ring_of_neighbours_converges(count):
    """Where algorithms that move one item at a time crawl: each item is compared with its neighbours only."""
    items, picked, wins = ring(count, 20, np.random.default_rng(6))
    fit = item_rewards(items, picked)
    # The gradient in closed form: wins of the pairs on both sides, less those expected.
    step = fit.rewards - np.roll(fit.rewards, -1)
    missed = wins - 20 / (1 + np.exp(-step))
    gradient = missed - np.roll(missed, 1)
    assert np.abs(gradient).max() < 20 * 1e-5
    assert fit.gradient_norm < 100 * TOLERANCE


@pytest.mark.parametrize("count", [50, 150])
def test_a_chain_has_a_closed_form_however_long(count):
    """Neighbours only, 95 wins of 100: every step is log 19, and the ends hundreds of nats apart."""
    items = np.repeat(np.column_stack([np.arange(count - 1), np.arange(1, count)]), 100, axis=0)
    picked = np.tile(np.r_[np.zeros(95, int), np.ones(5, int)], count - 1)
    fit = item_rewards(items, picked)
    np.testing.assert_allclose(np.diff(fit.rewards), -math.log(19), atol=1e-3)
    # Independent steps of variance 1 / 95 + 1 / 5: the error of a reward of mean zero in closed form.
    cumulated = np.tril(np.ones((count, count - 1)), -1)
    centred = cumulated - cumulated.mean(axis=0)
    expected = np.sqrt(np.square(centred).sum(axis=1) * (1 / 95 + 1 / 5))
    np.testing.assert_allclose(fit.standard_errors, expected, rtol=1e-3)


def test_names_of_items_and_orders_do_not_matter():
    rng = np.random.default_rng(7)
    items, offsets, picked = ragged_of(rng, rng.normal(size=9), 600)
    fit = item_rewards(items, picked, offsets=offsets)
    other = rng.permutation(9)
    renamed = item_rewards(other[items], picked, offsets=offsets)
    np.testing.assert_allclose(renamed.rewards[other], fit.rewards, atol=1e-5)
    np.testing.assert_allclose(renamed.standard_errors[other], fit.standard_errors, rtol=1e-4)
    order = rng.permutation(600)
    slates, rows = Slates(offsets).take(order)
    moved = item_rewards(items[rows], picked[order], offsets=slates.offsets)
    np.testing.assert_allclose(moved.rewards, fit.rewards, atol=1e-5)


@pytest.mark.parametrize("ties", [False, True])
def test_weights_are_repetitions(ties):
    rng = np.random.default_rng(8)
    items, picked = slates_of(rng, rng.normal(size=6), 200, 2)
    tied = rng.random(200) < 0.2 if ties else np.zeros(200, bool)
    times = rng.integers(1, 4, 200)
    weighted = item_rewards(items, picked, weights=times, ties=tied if ties else None)
    again = np.repeat(np.arange(200), times)
    repeated = item_rewards(items[again], picked[again], ties=tied[again] if ties else None)
    np.testing.assert_allclose(weighted.rewards, repeated.rewards, atol=1e-5)
    np.testing.assert_allclose(weighted.standard_errors, repeated.standard_errors, rtol=1e-4)
    assert weighted.log_likelihood == pytest.approx(repeated.log_likelihood, rel=1e-9)
    if ties:
        assert weighted.tie_log_odds == pytest.approx(repeated.tie_log_odds, abs=1e-5)


def test_a_subsample_to_start_from_does_not_matter(monkeypatch):
    rng = np.random.default_rng(9)
    items, picked = slates_of(rng, rng.normal(size=10), 8000, 4)
    for weights in (None, rng.uniform(0.5, 2, 8000)):
        fit = item_rewards(items, picked, weights=weights)
        codes = items.ravel()
        model = Top1Likelihood.build(
            codes, Slates.of_size(4, 8000), items[np.arange(8000), picked], weights, 10
        )
        assert model.part() is not None
        with monkeypatch.context() as patch:
            patch.setattr(Top1Likelihood, "part", lambda self: None)
            plain = item_rewards(items, picked, weights=weights)
        np.testing.assert_allclose(fit.rewards, plain.rewards, atol=1e-5)
        assert max(fit.gradient_norm, plain.gradient_norm) <= TOLERANCE


# --- standard errors of many items ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["model", "clustered", "shrunken", "ties"])
def test_drawn_errors_are_within_their_stated_error(kind, monkeypatch):
    """Each is the root mean square of 64 draws: its square over the exact one is chi squared / 64.

    Bounds of 1e-6 for each of 40 items, widened by 2 % for the tolerance of the linear solver.
    """
    rng = np.random.default_rng(10)
    items, picked = slates_of(rng, 0.5 * rng.normal(size=40), 3000, 2)
    arguments = {
        "model": {},
        "clustered": {"clusters": rng.integers(0, 300, 3000)},
        "shrunken": {"shrinkage": 20.0},
        "ties": {"ties": rng.random(3000) < 0.2},
    }[kind]
    exact = item_rewards(items, picked, **arguments)
    expected = exact.errors  # before DENSE changes
    monkeypatch.setattr(luce, "DENSE", 10)
    drawn = item_rewards(items, picked, **arguments)
    assert not drawn.exact_errors
    ratio = drawn.errors / expected
    low, high = np.sqrt(chi2.ppf([5e-7, 1 - 5e-7], DRAWS) / DRAWS)
    assert (ratio > 0.98 * low).all()
    assert (ratio < 1.02 * high).all()
    # Their mean is closer: items are nearly uncorrelated here (twice the variance if they were, five sigma).
    assert abs(np.square(ratio).mean() - 1) < 5 * math.sqrt(2 * 2 / DRAWS / 40)


# --- rankings -------------------------------------------------------------------------------------


def plackett_luce_value(rankings, theta):
    """Return the log-likelihood of whole rankings: w_1 / (w_1 + ... + w_k) w_2 / (w_2 + ... + w_k) ..."""
    total = 0.0
    for ranking in rankings:
        w = [math.exp(theta[i]) for i in ranking]
        total += sum(math.log(w[j] / math.fsum(w[j:])) for j in range(len(w) - 1))
    return total


def test_rankings_by_stages_are_plackett_luce():
    rng = np.random.default_rng(11)
    theta = np.array([1.0, 0.3, 0.0, -0.4, -0.9])
    rankings = [
        [int(i) for i in sorted(chosen, key=lambda i: -(theta[i] + rng.gumbel()))]
        for chosen in (rng.permutation(5)[: rng.integers(2, 6)] for _ in range(120))
    ]
    items, sizes, sources = [], [], []
    for number, ranking in enumerate(rankings):
        for stage in range(len(ranking) - 1):
            items += ranking[stage:]
            sizes.append(len(ranking) - stage)
            sources.append(number)
    offsets = np.r_[0, np.cumsum(sizes)]
    fit = item_rewards(
        np.array(items), np.zeros(len(sizes), int), offsets=offsets, clusters=np.array(sources)
    )
    done = minimize(
        lambda t: -plackett_luce_value(rankings, [0.0, *t]),
        np.zeros(4),
        method="BFGS",
        options={"gtol": 1e-7},
    )
    np.testing.assert_allclose(fit.rewards, centring(5) @ done.x, atol=1e-5)
    assert fit.log_likelihood == pytest.approx(-done.fun, rel=1e-10)
    # The information of a ranking is that of its stages, which are independent given who is left.
    information = hessian_of(lambda t: -plackett_luce_value(rankings, [0.0, *t]), done.x)
    expected = np.sqrt(np.diag(centring(5) @ np.linalg.inv(information) @ centring(5).T))
    np.testing.assert_allclose(fit.standard_errors, expected, rtol=1e-4)


# --- ties -----------------------------------------------------------------------------------------


def test_ties_against_the_written_out_likelihood():
    rng = np.random.default_rng(12)
    theta, nu = np.array([0.7, 0.2, -0.1, -0.8]), 0.6
    pairs = np.array([rng.permutation(4)[:2] for _ in range(400)])
    w = np.exp(theta[pairs])
    odds = np.column_stack([w, nu * np.sqrt(w[:, 0] * w[:, 1])])
    outcome = np.array([rng.choice(3, p=o / o.sum()) for o in odds])
    fit = item_rewards(pairs, np.minimum(outcome, 1), ties=outcome == 2)

    def negative(t):
        return -davidson_value(pairs[:, 0], pairs[:, 1], outcome, np.ones(400), [0.0, *t])

    done = minimize(negative, np.zeros(4), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(fit.rewards, centring(4) @ done.x[:3], atol=1e-5)
    assert fit.tie_log_odds == pytest.approx(done.x[3], abs=1e-5)
    assert fit.log_likelihood == pytest.approx(-done.fun, rel=1e-10)
    assert fit.null_log_likelihood == pytest.approx(-400 * math.log(3))
    covariance = np.linalg.inv(hessian_of(negative, done.x))[:3, :3]
    expected = np.sqrt(np.diag(centring(4) @ covariance @ centring(4).T))
    np.testing.assert_allclose(fit.standard_errors, expected, rtol=1e-4)
    assert abs(fit.tie_log_odds - math.log(nu)) < 1.0
    assert (np.abs(fit.rewards - (theta - theta.mean())) < 5.3 * fit.standard_errors).all()  # 1e-7 each


def test_clustered_errors_with_ties_by_plain_sums():
    rng = np.random.default_rng(13)
    pairs = np.array([rng.permutation(3)[:2] for _ in range(200)])
    outcome, who = rng.integers(0, 3, 200), rng.integers(0, 25, 200)
    fit = item_rewards(pairs, np.minimum(outcome, 1), ties=outcome == 2, clusters=who)
    place = np.r_[fit.rewards[1:] - fit.rewards[0], fit.tie_log_odds]

    def value(t, some):
        return davidson_value(pairs[some, 0], pairs[some, 1], outcome[some], np.ones(some.sum()), [0.0, *t])

    bread = np.linalg.inv(-hessian_of(lambda t: value(t, np.ones(200, bool)), place))
    scores = [jacobian_of(lambda t, c=c: value(t, who == c), place) for c in range(25)]
    sandwich = bread @ sum(np.outer(s, s) for s in scores) @ bread * 25 / 24
    expected = np.sqrt(np.diag(centring(3) @ sandwich[:2, :2] @ centring(3).T))
    np.testing.assert_allclose(fit.clustered_errors, expected, rtol=1e-4)


def test_no_tie_among_pairs_that_may_tie_is_luces_model():
    items, picked = slates_of(np.random.default_rng(14), np.zeros(4), 100, 2)
    fit = item_rewards(items, picked, ties=np.zeros(100, bool))
    assert fit.tie_log_odds is None
    np.testing.assert_array_equal(fit.rewards, item_rewards(items, picked).rewards)


# --- existence ------------------------------------------------------------------------------------


def reaches_everywhere(count, edges):
    """Whether every item can be reached from every other, by brute force."""
    for start in range(count):
        seen, todo = {start}, [start]
        while todo:
            here = todo.pop()
            for a, b in edges:
                if a == here and b not in seen:
                    seen.add(b)
                    todo.append(b)
        if len(seen) < count:
            return False
    return True


SLATE = st.integers(2, 3).flatmap(
    lambda k: st.tuples(
        st.lists(st.integers(0, 3), min_size=k, max_size=k, unique=True), st.integers(0, k - 1)
    )
)


@given(st.lists(SLATE, min_size=1, max_size=8))
def test_rewards_exist_iff_everything_is_reached_along_picked_over(slates):
    items = np.concatenate([s for s, _ in slates])
    offsets = np.r_[0, np.cumsum([len(s) for s, _ in slates])]
    picked = np.array([p for _, p in slates])
    edges = [(s[p], i) for s, p in slates for i in s if i != s[p]]
    names = ("a", "b", "c", "d")
    if reaches_everywhere(4, edges):
        fit = item_rewards(items, picked, offsets=offsets, names=names)
        w = np.exp(fit.rewards)
        gradient = np.zeros(4)
        for s, p in slates:
            gradient[s[p]] += 1
            for i in s:
                gradient[i] -= w[i] / w[s].sum()
        np.testing.assert_allclose(gradient, 0, atol=1e-4)
    else:
        with pytest.raises(NoEstimate, match="no finite estimate"):
            item_rewards(items, picked, offsets=offsets, names=names)
        assert np.isfinite(
            item_rewards(items, picked, offsets=offsets, names=names, shrinkage=1.0).rewards
        ).all()


def davidson_exists(pairs, outcome, count):
    """Whether no direction of (rewards, log nu) lowers no observed outcome, by linear programs."""
    rows = []
    for (i, j), o in zip(pairs, outcome, strict=True):
        utilities = np.zeros((3, count + 1))
        utilities[0, i] = utilities[1, j] = 1.0
        utilities[2, [i, j]] += 0.5
        utilities[2, count] = 1.0
        rows += [utilities[o] - utilities[k] for k in range(3) if k != o]
    rows = np.array(rows)
    level = np.r_[np.ones(count), 0.0][None, :]
    for j, sign in itertools.product(range(count + 1), (-1.0, 1.0)):
        fixed = [(sign, sign) if i == j else (-1, 1) for i in range(count + 1)]
        done = linprog(
            np.zeros(count + 1), A_ub=-rows, b_ub=np.zeros(len(rows)), A_eq=level, b_eq=[0.0], bounds=fixed
        )
        if done.status == 0:
            return False
    return True


def test_rewards_with_ties_exist_iff_no_direction_is_free():
    """Ties connect both ways, but wins that all go one way leave the odds of a tie unbounded, and rewards."""
    found = []
    for r in range(250):
        rng = np.random.default_rng([15, r])
        pairs = np.array([rng.permutation(3)[:2] for _ in range(rng.integers(2, 9))])
        outcome = rng.choice(3, len(pairs), p=[0.35, 0.15, 0.5])
        if not (outcome == 2).any():
            continue
        try:
            item_rewards(pairs, np.minimum(outcome, 1), ties=outcome == 2, names=("a", "b", "c"))
        except NoEstimate:
            found.append(False)
        else:
            found.append(True)
        assert found[-1] == davidson_exists(pairs, outcome, 3)
    assert 0.1 < np.mean(found) < 0.9


def test_one_sided_wins_with_ties_are_refused():
    with pytest.raises(NoEstimate, match="odds of a tie"):
        item_rewards([[0, 1]] * 10, [0] * 10, ties=[True] * 5 + [False] * 5)
    for shrinkage in (0.0, 1.0):
        with pytest.raises(NoEstimate, match="every pair was tied"):
            item_rewards([[0, 1]] * 4, [0] * 4, ties=[True] * 4, shrinkage=shrinkage)


def refused(items, picked, **arguments):
    with pytest.raises(NoEstimate) as error:
        item_rewards(items, picked, **arguments)
    return error.value.got


def test_what_is_missing_is_named():
    items, picked = slates_of(np.random.default_rng(16), np.zeros(4), 200, 2)
    names = ("ash", "beech", "cedar", "date", "elm")
    assert "1 never shown (elm)" in refused(items, picked, names=names)
    with_elm = np.vstack([items, [[0, 4]]])
    assert "1 never picked (elm)" in refused(with_elm, np.r_[picked, 0], names=names)
    assert "1 always picked (elm)" in refused(with_elm, np.r_[picked, 1], names=names)
    assert "2 components, the largest with 4 items" in refused(with_elm, np.r_[picked, 1], names=names)


def test_two_groups_that_never_meet_and_a_ladder():
    rng = np.random.default_rng(17)
    left, picked_left = slates_of(rng, np.zeros(3), 100, 2)
    right, picked_right = slates_of(rng, np.zeros(3), 100, 2)
    apart = np.vstack([left, right + 3])
    assert refused(apart, np.r_[picked_left, picked_right]) == "2 components, the largest with 3 items"
    # All comparisons between them go one way.
    bridge = np.vstack([apart, [[0, 3]] * 5])
    assert "2 components" in refused(bridge, np.r_[picked_left, picked_right, [0] * 5])
    both = np.vstack([bridge, [[0, 3]]])
    item_rewards(both, np.r_[picked_left, picked_right, [0] * 5, 1])
    assert "4 components" in refused([[0, 1], [1, 2], [2, 3]], [0, 0, 0])


def test_connections_found_late_count():
    """The first slates alone are not connected; those further on are read before anything is refused."""
    early = np.tile([[0, 1]], (3000, 1))
    late = np.array([[1, 2], [2, 1]])
    fit = item_rewards(np.vstack([early, late]), np.r_[np.arange(3000) % 2, 0, 0])
    assert fit.rewards.size == 3


# --- shrinkage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shrinkage", [0.05, 1.0, 30.0])
@pytest.mark.parametrize("ties", [False, True])
def test_shrinkage_maximises_what_it_says(shrinkage, ties):
    """Item 3 was never shown, item 2 always picked: an estimate exists, and its gradient is zero."""
    rng = np.random.default_rng(18)
    pairs = np.vstack([[[0, 1]] * 30, [[1, 2]] * 10])
    picked = np.r_[rng.integers(0, 2, 30), np.ones(10, int)]
    tied = (rng.random(40) < 0.3) & (np.arange(40) < 30) if ties else np.zeros(40, bool)
    fit = item_rewards(
        pairs, picked, ties=tied if ties else None, names=("a", "b", "c", "d"), shrinkage=shrinkage
    )
    outcome = np.where(tied, 2, picked)

    def penalised(t):
        if ties:
            value = davidson_value(pairs[:, 0], pairs[:, 1], outcome, np.ones(40), t.tolist())
        else:
            value = luce_value(pairs.ravel(), np.arange(0, 81, 2), picked, np.ones(40), t.tolist())
        return value - shrinkage / 2 * float(np.square(t[:4]).sum())

    place = np.r_[fit.rewards, fit.tie_log_odds] if ties else fit.rewards
    np.testing.assert_allclose(jacobian_of(penalised, place), 0, atol=1e-4)
    assert fit.rewards[3] == pytest.approx(0, abs=1e-6)
    # Their mean is held at zero: however weak the penalty, it does not add the error of a mean.
    to_mean_zero = np.eye(4) - 1 / 4
    covariance = to_mean_zero @ np.linalg.inv(-hessian_of(penalised, place))[:4, :4] @ to_mean_zero
    np.testing.assert_allclose(fit.standard_errors, np.sqrt(np.diag(covariance)), rtol=1e-3)
    assert fit.log_likelihood == pytest.approx(
        penalised(place) + shrinkage / 2 * float(np.square(fit.rewards).sum()), rel=1e-9
    )


# --- arguments ------------------------------------------------------------------------------------

PAIRS = [[0, 1]] * 4


@pytest.mark.parametrize(
    ("items", "picked", "arguments", "message"),
    [
        ([[0.0, 1.0]], [0], {}, "whole numbers"),
        ([0, 1], [0], {}, "whole numbers"),
        (np.zeros((0, 2), int), [], {}, "whole numbers"),
        ([[0, -1]], [0], {}, "counted from 0"),
        ([[0]], [0], {}, "k >= 2 rows"),
        (PAIRS, [0, 0, 0, 2], {}, "pick of slate 3"),
        (PAIRS, [0, 1], {}, "one slot per slate"),
        ([0, 1, 0], [0, 0], {"offsets": [0, 2, 3]}, "at least two"),
        ([0, 1, 0], [0], {"offsets": [0, 2]}, "offsets must"),
        (PAIRS, [0, 1, 0, 1], {"weights": [1, 1, 1, -1]}, "weights"),
        (PAIRS, [0, 1, 0, 1], {"ties": [0, 0, 0, 1]}, "one boolean per slate"),
        (PAIRS, [0, 1, 0, 1], {"ties": [True]}, "one boolean per slate"),
        ([[0, 1, 2]] * 3, [0, 1, 2], {"ties": [True, False, False]}, "pairs only"),
        (PAIRS, [0, 1, 0, 1], {"shrinkage": -1}, "shrinkage"),
        (PAIRS, [0, 1, 0, 1], {"shrinkage": math.nan}, "shrinkage"),
    ],
)
def test_wrong_arguments_are_refused(items, picked, arguments, message):
    with pytest.raises(InputError, match=message):
        item_rewards(items, picked, **arguments)
