"""Tests of Luce's model: right statistics, right rates on Luce's own picks, power."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from helpers.picking import (
    TRUE,
    bounds,
    draw,
    hessian_of,
    jacobian_of,
    luce,
    one_by_one,
    plain_log,
    plain_value,
    ragged,
)
from recurate.choices import Choices, NoEstimate, conditional_logit
from recurate.choices.checks import luce_checks as checks_module
from recurate.choices.checks.dependence import (
    FEW_REPEATS,
    _equal_slates,
    _pair_statistic,
    check_choosers,
    check_repeats,
)
from recurate.choices.checks.luce_checks import (
    FEW_SLATES,
    TESTS,
    _later_half,
    _nest_column,
    calibration_table,
    check_calibration,
    check_drift,
    check_hausman,
    check_iia,
    check_position,
    make_nests,
    part_of,
    run_checks,
)
from recurate.choices.checks.score_tests import (
    FEW_CLUSTERS,
    clusters_of,
    dummies,
    score_test,
    strongest_features,
)
from recurate.choices.checks.statistics import (
    chi2_tail,
    holm,
    normal_quantile,
    normal_tail,
    quadratic_test,
    three_moment_tail,
    two_sided,
)
from recurate.rules.slates import Slates

# Every simulation has fixed seeds, r = 0, 1, 2, ... after the number of the test.


def fitted(choices):
    return conditional_logit(choices, clustered=False).coefficients


def ps(choices, only=()):
    """Return the p-value of every test that could be done, at the estimate."""
    beta = fitted(choices)
    found = [t(choices, beta) for t in TESTS]
    return {c.name: c.p for c in found if c.p is not None and (not only or c.name in only)}


# --- Luce's own picks -----------------------------------------------------------------------------

POOL = 40


def design(kind, r):
    """Return Luce picks: (a) 60 people with ten each, (b) 600 of nobody, (c) as (a) from 40 slates."""
    rng = np.random.default_rng(["abc".index(kind), r])
    x = rng.normal(size=(600, 4, 3)) if kind != "c" else rng.normal(size=(POOL, 4, 3))
    if kind == "c":
        x = x[rng.integers(0, POOL, 600)]
    who = None if kind == "b" else np.repeat(np.arange(60), 10)
    picked = draw(x @ TRUE, rng)
    return Choices.of(x.reshape(-1, 3), k=4, picked=picked, choosers=who, times=np.arange(600))


DONE = {
    "a": {"position", "iia", "choosers", "calibration", "drift"},
    "b": {"position", "iia", "calibration", "drift"},
    "c": {"position", "iia", "repeats", "choosers", "calibration", "drift"},
}


@functools.cache
def ps_of(kind, r):
    """The p-values of one data set, for few sets and for many."""
    return ps(design(kind, r))


def rejections(kind, sets):
    """Return in how many sets each test rejects at 5 %, and in how many any does once corrected."""
    counts, any_of_them = dict.fromkeys(DONE[kind], 0), 0
    for r in range(sets):
        found = ps_of(kind, r)
        assert found.keys() == DONE[kind]
        for name, p in found.items():
            counts[name] += p < 0.05
        any_of_them += min(holm(list(found.values()))) < 0.05
    return counts, any_of_them


@pytest.mark.parametrize("kind", ["a", "b", "c"])
def test_rejection_rates_on_100_sets(kind):
    """A test with a rate of 5 % is outside these wide bounds once in 10,000; at 25 %, nearly always."""
    counts, any_of_them = rejections(kind, 100)
    low, high = bounds(100, 0.05, 1e-4)
    assert all(low <= n <= high for n in counts.values()), counts
    assert any_of_them <= high


@pytest.mark.slow
def test_strong_rewards_are_no_violation():
    """Most candidates are hopeless, a few picks are surprises: 150 sets of 60 people, the same wide bound."""
    counts, small = {}, 0
    for r in range(150):
        choices = luce(
            np.random.default_rng([6, r]), slates=600, beta=3.5 * np.array([1, 0, -1]), choosers=60
        )
        for name, p in ps(choices).items():
            counts[name] = counts.get(name, 0) + (p < 0.05)
            small += p < 1e-4
    assert max(counts.values()) <= bounds(150, 0.05, 1e-4)[1], counts
    assert small <= 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a", "b", "c"])
def test_rejection_rates_on_1000_sets(kind):
    """Each rate lies within 2 points of 5 %; an exact test misses that once in 300, and 15 are looked at.

    All of them together, corrected by Holm, reject at most 7 % of these data sets.
    """
    counts, any_of_them = rejections(kind, 1000)
    assert all(30 <= n <= 70 for n in counts.values()), counts
    assert any_of_them <= 70


# --- power, and nothing else ----------------------------------------------------------------------

# Each planted violation is found at p < 0.001 in every one of five sets.


def found_in(make, name, *, sets=5, level=1e-3):
    for r in range(sets):
        choices = make(np.random.default_rng([3, r]))
        assert ps(choices, (name,))[name] < level


def test_position_bias_is_found():
    """The first place has e^0.6 times the odds of any other."""

    def make(rng):
        x = rng.normal(size=(800, 4, 3))
        return Choices.of(x.reshape(-1, 3), k=4, picked=draw(x @ TRUE + [0.6, 0, 0, 0], rng))

    found_in(make, "position")
    check = check_position(make(np.random.default_rng(3)), TRUE)
    assert check.df == 3
    assert check.effect.startswith("place 1 has ")
    odds = float(check.effect.split(" times")[0].split()[-1])
    assert 1.3 < odds < 3.5  # e^0.6 = 1.8, from one step, against the worst of three others


def nested(rng, dissimilarity=0.35):
    """Return nested-logit picks of 1,500 slates of four: two of each slate are alike (McFadden 1978)."""
    x = rng.normal(size=(1500, 4, 2))
    kind = np.argsort(rng.random((1500, 4)), axis=1) < 2  # two in the nest
    v = x @ np.array([1.0, -0.6])
    inside = np.where(kind, np.exp(v / dissimilarity), 0.0)
    whole = inside.sum(axis=1) ** dissimilarity
    outside = np.where(kind, 0.0, np.exp(v))
    chances = outside + inside / inside.sum(axis=1, keepdims=True) * whole[:, None]
    chances /= chances.sum(axis=1, keepdims=True)
    picked = (chances.cumsum(axis=1) < rng.random((1500, 1))).sum(axis=1)
    features = np.column_stack([x.reshape(-1, 2), kind.ravel()])
    return Choices.of(features, k=4, picked=picked, names=["x", "y", "alike"])


def test_alike_candidates_that_share_picks_are_found():
    found_in(nested, "iia")
    choices = nested(np.random.default_rng(3))
    beta = fitted(choices)
    own = check_iia(choices, beta, choices.features[:, 2:])
    assert own.p < 1e-6
    assert own.df == 1


def test_a_scale_that_varies_with_the_slates_size_is_found():
    """In large slates people choose more at random."""

    def make(rng):
        sizes = np.where(np.arange(1500) % 2, 6, 2)
        offsets = np.r_[0, np.cumsum(sizes)]
        x = rng.normal(size=(offsets[-1], 2))
        scale = np.repeat(np.where(sizes == 6, 0.5, 1.5), sizes)
        noisy = scale * (x @ np.array([1.0, -0.6])) + rng.gumbel(size=len(x))
        picked = np.array([noisy[a:b].argmax() for a, b in itertools.pairwise(offsets)])
        return Choices.of(x, offsets=offsets, picked=picked)

    found_in(make, "iia")
    choices = make(np.random.default_rng(3))
    assert check_iia(choices, fitted(choices)).effect == "strongest for the slate's size"


def test_different_tastes_are_found():
    def make(rng):
        x = rng.normal(size=(600, 4, 3))
        tastes = np.repeat(TRUE + 0.7 * rng.normal(size=(60, 3)), 10, axis=0)
        who = np.repeat(np.arange(60), 10)
        return Choices.of(
            x.reshape(-1, 3), k=4, picked=draw(np.einsum("skd,sd->sk", x, tastes), rng), choosers=who
        )

    found_in(make, "choosers")
    choices = make(np.random.default_rng(3))
    assert check_choosers(choices, fitted(choices)).statistic > 1.3


def test_copied_picks_are_found():
    """Equal slates, in any order of candidates; a third of the time the last pick from it is repeated."""

    def make(rng):
        pool = rng.normal(size=(POOL, 4, 3))
        which = rng.integers(0, POOL, 600)
        order = np.argsort(rng.random((600, 4)), axis=1)
        item = draw(pool[which] @ TRUE, rng)
        last = {}
        for s in range(600):
            if which[s] in last and rng.random() < 0.35:
                item[s] = last[which[s]]
            last[which[s]] = item[s]
        x = np.take_along_axis(pool[which], order[:, :, None], axis=1)
        return Choices.of(x.reshape(-1, 3), k=4, picked=np.argmax(order == item[:, None], axis=1))

    found_in(make, "repeats")
    choices = make(np.random.default_rng(3))
    assert (
        check_repeats(choices, fitted(choices)).effect
        == "equal slates agree in their picks more than predicted"
    )


def test_a_candidate_that_the_features_miss_is_found():
    def make(rng):
        pool = rng.normal(size=(POOL, 4, 3))
        which = rng.integers(0, POOL, 600)
        missed = 0.8 * rng.normal(size=(POOL, 4))
        picked = draw(pool[which] @ TRUE + missed[which], rng)
        return Choices.of(pool[which].reshape(-1, 3), k=4, picked=picked)

    found_in(make, "repeats")


def test_picks_that_take_turns_are_found():
    """Equal slates whose picks avoid each other: the other tail."""
    rng = np.random.default_rng(3)
    pool = 0.3 * rng.normal(size=(POOL, 3, 2))
    which, turn = np.repeat(np.arange(POOL), 6), np.tile(np.arange(6), POOL)
    choices = Choices.of(pool[which].reshape(-1, 2), k=3, picked=turn % 3)
    check = check_repeats(choices, fitted(choices))
    assert check.p < 1e-6
    assert "less than predicted" in check.effect


def test_odds_that_are_not_luces_are_found():
    """Lapses; and Gaussian noise, which takes very many slates of eight."""
    found_in(lambda rng: luce(rng, slates=1500, beta=2.5 * TRUE, lapse=0.2), "calibration")
    found_in(
        lambda rng: luce(rng, slates=20_000, k=8, beta=3 * TRUE, noise="gaussian"), "calibration", sets=2
    )


@pytest.mark.parametrize("choosers", [None, 60])
def test_tastes_that_change_are_found(choosers):
    """In everybody's later half (of all, where nobody is known) the first feature counts a third as much."""

    def make(rng):
        x = rng.normal(size=(1200, 3, 3))
        place = np.arange(1200) if choosers is None else np.arange(1200) % 20 * 60
        factor = np.where(place >= 600, 0.3, 1.0)
        tastes = np.column_stack([factor * TRUE[0], np.full(1200, TRUE[1]), np.full(1200, TRUE[2])])
        who = None if choosers is None else np.arange(1200) // 20
        picked = draw(np.einsum("skd,sd->sk", x, tastes), rng)
        return Choices.of(
            x.reshape(-1, 3), k=3, picked=picked, choosers=who, names=["a", "b", "c"], times=np.arange(1200)
        )

    found_in(make, "drift")
    choices = make(np.random.default_rng(3))
    assert check_drift(choices, fitted(choices)).effect == "strongest for a"


def test_what_is_planted_is_what_is_blamed():
    """Position bias, in 20 sets: the other tests reject no more than they do anyway (1 of 20 each)."""
    others = 0
    for r in range(20):
        rng = np.random.default_rng([4, r])
        x = rng.normal(size=(600, 4, 3))
        choices = Choices.of(x.reshape(-1, 3), k=4, picked=draw(x @ TRUE + [0.7, 0, 0, 0], rng))
        found = ps(choices)
        assert min(found, key=found.get) == "position"
        others += sum(p < 0.05 for name, p in found.items() if name != "position")
    assert others <= bounds(60, 0.05, 1e-4)[1]


# --- silence --------------------------------------------------------------------------------------


def why(check):
    assert check.p is None
    assert check.corrected is None
    assert check.statistic is None
    assert check.main or check.name == "hausman"
    return check.why


def test_what_cannot_be_tested_says_why():
    choices = luce(np.random.default_rng(5), slates=200)
    pairs = luce(np.random.default_rng(5), slates=200, k=2)
    beta = fitted(choices)
    unknown = replace(choices, positions=None)
    assert why(check_position(unknown, beta)) == "positions were not recorded"
    one_place = replace(choices, positions=np.zeros(800, int))
    assert why(check_position(one_place, beta)) == "all candidates were shown in the same place"
    # Items that are always shown in the same order.
    kinds = np.tile(np.eye(4)[:, 1:], (200, 1))
    ordered = Choices.of(kinds, k=4, picked=np.random.default_rng(0).integers(0, 4, 200))
    assert "positions and features cannot be distinguished" in why(check_position(ordered, fitted(ordered)))
    assert "three or more candidates" in why(check_iia(pairs, fitted(pairs)))
    assert "no nests of similar candidates" in why(
        check_iia(choices.with_features(np.zeros((800, 0)), []), np.empty(0))
    )
    everything = np.ones((800, 1))
    assert "two candidates of one nest and one of another" in why(check_iia(choices, beta, everything))
    assert why(check_repeats(choices, beta)) == "only 0 pairs of slates show the same candidates"
    assert why(check_choosers(choices, beta)) == "choosers were not recorded"
    once = replace(choices, choosers=np.r_[np.arange(196), [0, 1, 2, 3]])
    assert why(check_choosers(once, beta)) == "only 4 choosers picked more than once"
    empty = choices.with_features(np.zeros((800, 0)), [])
    assert why(check_choosers(replace(empty, choosers=np.arange(200) // 10), np.empty(0)))
    assert why(check_drift(empty, np.empty(0))) == "no features describe the candidates"
    untimed = replace(choices, times=None)
    assert why(check_drift(untimed, beta)).startswith("no order in time: times or rounds")
    assert why(check_calibration(empty, np.empty(0))) == "all predicted probabilities are equal"
    assert "each bin of probabilities" in why(check_calibration(ordered, fitted(ordered)))
    assert "slates of three or more" in why(check_hausman(pairs, fitted(pairs), np.eye(3)))
    separated = Choices.of(np.tile([0.0, 1.0, 2.0], 60), k=3, picked=[2] * 60)
    assert "no estimate on the reduced slates" in why(check_hausman(separated, np.ones(1), np.eye(1)))


def test_few_slates_are_not_tested():
    choices = luce(np.random.default_rng(6), slates=FEW_SLATES - 1)
    (only,) = run_checks(choices, TRUE, np.eye(3))
    assert why(only) == f"{FEW_SLATES - 1} slates are too few (at least {FEW_SLATES})"
    assert (
        len(run_checks(luce(np.random.default_rng(6), slates=FEW_SLATES), TRUE, np.eye(3))) == len(TESTS) + 1
    )


def test_few_repeats_are_not_tested():
    """Nine equal slates are 36 pairs, eight are 28."""
    for count, tested in ((8, False), (9, True)):
        x = np.random.default_rng(7).normal(size=(100, 3, 2))
        x[:count] = x[0]
        choices = Choices.of(x.reshape(-1, 2), k=3, picked=np.arange(100) % 3)
        check = check_repeats(choices, fitted(choices))
        assert (check.p is not None) == tested == (count * (count - 1) // 2 >= FEW_REPEATS)


def test_all_tests_at_once_are_corrected_for_their_number():
    choices = design("c", 5)
    fit = conditional_logit(choices)
    found = run_checks(choices, fit.coefficients, fit.covariance)
    assert [c.name for c in found] == [
        "position", "iia", "repeats", "choosers", "calibration", "drift", "hausman",
    ]  # fmt: skip
    assert [c.corrected for c in found[:-1]] == holm([c.p for c in found[:-1]])
    assert not found[-1].main
    assert found[-1].corrected == found[-1].p
    some = run_checks(choices, fit.coefficients, fit.covariance, only=("drift", "position"))
    assert [c.name for c in some] == ["position", "drift"]
    assert [c.p for c in some] == [found[0].p, found[5].p]
    assert [c.corrected for c in some] == holm([c.p for c in some])


# --- score tests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("choosers", [None, 40])
def test_the_score_statistic_by_plain_sums(weighted, choosers):
    """s' V^-1 s with V from the numerical Hessian, or from sums over choosers of efficient scores."""
    rng = np.random.default_rng(8)
    choices = ragged(rng, slates=120, beta=TRUE[:2], choosers=choosers, weighted=weighted)
    extra = rng.normal(size=(choices.slates.rows, 2))
    beta = fitted(choices)
    statistic, df, step = score_test(choices, beta, extra)
    both = choices.with_features(np.column_stack([choices.features, extra]), list("abcd"))
    slates, place = one_by_one(both), np.r_[beta, 0.0, 0.0]
    gradient = jacobian_of(lambda b: plain_value(slates, b), place)
    information = -hessian_of(lambda b: plain_value(slates, b), place)
    efficient = (
        information[2:, 2:] - information[2:, :2] @ np.linalg.inv(information[:2, :2]) @ information[:2, 2:]
    )
    np.testing.assert_allclose(step, np.linalg.solve(efficient, gradient[2:]), rtol=1e-4)
    if choosers is not None:
        project = information[2:, :2] @ np.linalg.inv(information[:2, :2])
        efficient = np.zeros((2, 2))
        for who in range(choosers):
            own = [s for s in slates if s[3] == who]
            score = jacobian_of(lambda b, o=own: plain_value(o, b), place)
            efficient += np.outer(score[2:] - project @ score[:2], score[2:] - project @ score[:2])
    assert df == 2
    assert statistic == pytest.approx(gradient[2:] @ np.linalg.solve(efficient, gradient[2:]), rel=1e-4)


def test_the_score_statistic_is_about_the_likelihood_ratio():
    """For columns that matter a little: both are chi squared with the same shift."""
    choices = luce(np.random.default_rng(9), slates=4000)
    part = choices.with_features(choices.features[:, :2], list("ab"))
    small = replace(
        choices, picked=draw((choices.features @ [1.0, -0.7, 0.1]).reshape(-1, 4), np.random.default_rng(1))
    )
    part = replace(part, picked=small.picked)
    whole, reduced = conditional_logit(small), conditional_logit(part)
    ratio = 2 * (whole.log_likelihood - reduced.log_likelihood)
    statistic, df, step = score_test(part, reduced.coefficients, choices.features[:, 2:])
    assert df == 1
    assert statistic == pytest.approx(ratio, rel=0.05)
    assert step[0] == pytest.approx(whole.coefficients[2], rel=0.1)
    robust = score_test(part, reduced.coefficients, choices.features[:, 2:], robust=True)
    assert robust[0] == pytest.approx(statistic, rel=0.2)


def test_columns_that_say_nothing_new_have_no_degrees_of_freedom():
    choices = luce(np.random.default_rng(10), slates=100)
    beta = fitted(choices)
    shared = choices.slates.spread(np.arange(100.0))
    same = np.column_stack([choices.features[:, 0], shared, np.ones(400)])
    assert score_test(choices, beta, same)[:2] == (0.0, 0)
    twice = np.random.default_rng(0).normal(size=(400, 1)) @ np.ones((1, 2))
    assert score_test(choices, beta, twice)[1] == 1
    assert score_test(choices, beta, np.zeros((400, 0)))[1] == 0


def test_units_of_further_columns_do_not_matter():
    choices = luce(np.random.default_rng(11), slates=150, choosers=50)
    beta, extra = fitted(choices), np.random.default_rng(0).normal(size=(600, 2))
    plain = score_test(choices, beta, extra)[0]
    for unit in (1e-6, 1e5):
        assert score_test(choices, beta, unit * extra)[0] == pytest.approx(plain, rel=1e-6)


def test_what_scores_are_summed_by():
    """People, if there are enough and they pick more than once."""
    choices = luce(np.random.default_rng(12), slates=120, choosers=FEW_CLUSTERS)
    assert clusters_of(choices) is choices.choosers
    assert clusters_of(luce(np.random.default_rng(12), slates=120, choosers=FEW_CLUSTERS - 1)) is None
    assert clusters_of(luce(np.random.default_rng(12), slates=120, choosers=120)) is None
    assert clusters_of(replace(choices, choosers=None)) is None


def test_indicators_of_places():
    columns, places = dummies(np.array([0, 2, 5, 2]))
    assert places.tolist() == [0, 2, 5]
    np.testing.assert_array_equal(columns, [[0, 0], [1, 0], [0, 1], [1, 0]])
    many, places = dummies(np.arange(30))
    assert places.tolist() == list(range(12))  # the rest together
    assert many[:, -1].sum() == 19


def test_the_strongest_features():
    choices = luce(np.random.default_rng(13), slates=50, beta=np.linspace(0.0, 1.0, 25))
    assert strongest_features(choices, np.linspace(0.0, 1.0, 25)).tolist() == list(range(5, 25))


# --- the columns and statistics of each -----------------------------------------------------------


def test_the_nest_column_is_a_derivative_of_the_nested_logit():
    """Of utilities V / l + (l - 1) I(l) inside a nest, I(l) = log sum exp(V / l), at dissimilarity l = 1."""
    choices = ragged(np.random.default_rng(14), slates=60)
    v = choices.features @ TRUE
    member = (np.random.default_rng(0).random(v.size) < 0.5).astype(float)
    column = _nest_column(choices, TRUE, member)
    for s, (a, b) in enumerate(itertools.pairwise(choices.slates.offsets)):
        inside = member[a:b] > 0

        def utilities(dissimilarity, a=a, b=b, inside=inside):
            own = v[a:b] / dissimilarity[0]
            inclusive = math.log(np.exp(own[inside]).sum())
            return np.where(inside, own + (dissimilarity[0] - 1) * inclusive, v[a:b])

        if 2 <= inside.sum() < b - a:
            np.testing.assert_allclose(
                column[a:b], jacobian_of(utilities, np.ones(1))[:, 0], atol=1e-9, err_msg=str(s)
            )
        else:  # a nest of one, of all, or of none competes as Luce says
            np.testing.assert_array_equal(column[a:b], 0)


def test_nest_columns_of_rewards_thousands_apart_are_finite():
    choices = ragged(np.random.default_rng(15), slates=60)
    member = (np.arange(choices.slates.rows) % 2).astype(float)
    assert np.isfinite(_nest_column(choices, 5000 * TRUE, member)).all()


def test_nests_of_few_items_are_their_pairs_and_else_the_upper_halves_of_features():
    choices = luce(np.random.default_rng(16), slates=100)
    few = replace(choices, items=np.arange(400) % 4, item_names=("a", "b", "c", "d"))
    members, titles = make_nests(few, TRUE)
    assert titles == ["a and b", "a and c", "a and d", "b and c", "b and d", "c and d"]
    np.testing.assert_array_equal(members[:4, 4], [0, 1, 0, 1])
    members, titles = make_nests(choices, TRUE)
    assert titles == ["candidates with high x1", "candidates with high x2", "candidates with high x3"]
    np.testing.assert_allclose(members.mean(axis=0), 0.5, atol=0.01)
    rare = choices.with_features((np.arange(400)[:, None] < 4).astype(float), ["rare"])
    assert make_nests(rare, np.ones(1))[1] == []


def outcomes(choices, beta):
    """Yield every way to pick from all slates, with its probability."""
    slates = one_by_one(choices)
    for picks in itertools.product(*(range(len(x)) for x, *_ in slates)):
        log = math.fsum(
            plain_log(x, pick, beta.tolist()) for (x, *_), pick in zip(slates, picks, strict=True)
        )
        yield replace(choices, picked=np.array(picks)), math.exp(log)


def scores(choices, beta, slate):
    """Return (x_pick - E x, its probability) for every candidate of a slate."""
    x = one_by_one(choices)[slate][0]
    chances = [math.exp(plain_log(x, k, beta.tolist())) for k in range(len(x))]
    return [(np.array(row) - np.array(chances) @ np.array(x), p) for row, p in zip(x, chances, strict=True)]


def test_the_pair_statistics_moments_by_enumeration():
    """All 288 ways to pick from six slates of three people: mean zero, and the variance is exact.

    Of the third moment 8 sum tr(I_i I_j I_k) over triples is told; that of pairs, 4 sum E (g_i' g_j)^3, is
    left out, which is small where people picked often.
    """
    rng = np.random.default_rng(17)
    sizes = np.array([2, 3, 2, 3, 2, 4])
    offsets = np.r_[0, np.cumsum(sizes)]
    beta, who = np.array([0.8, -0.5]), np.array([0, 1, 0, 1, 2, 0])
    choices = Choices.of(rng.normal(size=(16, 2)), offsets=offsets, picked=np.zeros(6, int), choosers=who)
    chances, values = [], []
    for other, chance in outcomes(choices, beta):
        t, (mean, variance, third), share = _pair_statistic(other, beta, np.arange(2), who)
        chances.append(chance)
        values.append(t)
        assert share == pytest.approx(1 + t / 2)
    chances, values = np.array(chances), np.array(values)
    assert chances.sum() == pytest.approx(1)
    assert chances @ values == pytest.approx(0, abs=1e-10)
    assert chances @ values**2 == pytest.approx(variance, rel=1e-9)
    slates = one_by_one(choices)
    inverse = np.linalg.inv(-hessian_of(lambda b: plain_value(slates, b), beta))
    cubes = 0.0
    for i, j in itertools.permutations(range(6), 2):
        if who[i] == who[j]:
            for (x, p), (y, q) in itertools.product(scores(choices, beta, i), scores(choices, beta, j)):
                cubes += p * q * float(x @ inverse @ y) ** 3
    assert chances @ values**3 == pytest.approx(third + 4 * cubes, rel=1e-6)
    assert mean == pytest.approx(-variance / 2)


def test_the_pair_statistic_by_plain_sums():
    choices = luce(np.random.default_rng(18), slates=40, choosers=8)
    t, _, _ = _pair_statistic(choices, TRUE, np.arange(3), choices.choosers)
    slates = one_by_one(choices)
    information = -hessian_of(lambda b: plain_value(slates, b), TRUE)
    scores = [jacobian_of(lambda b, s=s: plain_value([s], b), TRUE) for s in slates]
    inverse = np.linalg.inv(information)
    expected = sum(
        scores[i] @ inverse @ scores[j]
        for i, j in itertools.permutations(range(40), 2)
        if choices.choosers[i] == choices.choosers[j]
    )
    assert t == pytest.approx(expected, rel=1e-6)


def test_the_repeats_statistic_by_enumeration():
    """All 512 ways to pick from nine equal pairs: the ratio has mean zero and variance one."""
    x = np.tile([[0.9], [0.0]], (9, 1))
    choices = Choices.of(x, k=2, picked=np.zeros(9, int))
    beta = np.ones(1)
    chances, ratios = zip(
        *((chance, check_repeats(other, beta).statistic) for other, chance in outcomes(choices, beta)),
        strict=True,
    )
    chances, ratios = np.array(chances), np.array(ratios)
    assert chances @ ratios == pytest.approx(0, abs=1e-10)
    assert chances @ ratios**2 == pytest.approx(1, rel=1e-9)


def test_equal_slates_show_the_same_candidates_in_any_order():
    x = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0], [1.0, 2.0, 4.0], [2.0, 2.0, 3.0]])
    choices = Choices.of(x.ravel(), k=3, picked=[0] * 4)
    codes, order = _equal_slates(choices)
    assert codes[0] == codes[1]
    assert len(set(codes.tolist())) == 3
    np.testing.assert_array_equal(np.take_along_axis(x, order, 1)[0], np.take_along_axis(x, order, 1)[1])
    unequal = Choices.of([1.0, 2.0, 1.0, 2.0, 1.0], offsets=[0, 2, 5], picked=[0, 0])
    assert len(set(_equal_slates(unequal)[0].tolist())) == 2


def test_items_of_one_name_at_other_prices_are_no_equal_slates():
    """The same four brands every week, the prices not: no slate was shown twice."""
    rng = np.random.default_rng(19)
    brands = np.tile(np.arange(4), 300)
    x = np.column_stack([rng.normal(size=1200), np.eye(4)[brands][:, 1:]])
    picked = draw((x @ [1.5, 0.5, 0.0, -0.5]).reshape(-1, 4), rng)
    choices = replace(Choices.of(x, k=4, picked=picked), items=brands, item_names=("a", "b", "c", "d"))
    assert why(check_repeats(choices, fitted(choices))).startswith("only 0 pairs")
    same = replace(choices, features=x[:, 1:], names=("b", "c", "d"))
    assert check_repeats(same, fitted(same)).p is not None


def test_the_later_half_is_each_choosers_own():
    choices = replace(luce(np.random.default_rng(20), slates=7), choosers=np.array([1, 0, 1, 1, 0, 2, 1]))
    assert _later_half(choices, np.arange(7)).tolist() == [False, False, False, True, True, False, True]
    assert _later_half(choices, 7 - np.arange(7)).tolist() == [True, True, True, False, False, False, False]
    alone = replace(choices, choosers=None)
    assert np.flatnonzero(_later_half(alone, np.arange(7))).tolist() == [4, 5, 6]
    # Slates of one time are on one side: three are earlier than 1 here, and in the second case all but two.
    assert np.flatnonzero(_later_half(alone, np.array([1, 0, 2, 0, 1, 2, 0]))).tolist() == [0, 2, 4, 5]
    assert np.flatnonzero(_later_half(alone, np.array([1, 1, 1, 2, 1, 2, 1]))).tolist() == [3, 5]
    assert not _later_half(alone, np.ones(7, int)).any()
    # Everybody came once: the order of their picks in the file is no time.
    assert not _later_half(choices, np.array([1, 0, 1, 1, 0, 2, 1])).any()


def test_the_calibration_table_by_plain_sums():
    rng = np.random.default_rng(21)
    choices = ragged(rng, slates=200, weighted=True)
    p, _ = choices.slates.softmax(choices.features @ TRUE)
    rows = calibration_table(choices, p, bins=4)
    weights = np.repeat(choices.weights, choices.slates.sizes)
    picked = np.isin(np.arange(p.size), choices.picked_rows)
    cuts = np.quantile(p, [0.25, 0.5, 0.75])
    place = np.array([sum(c <= v for c in cuts) for v in p])
    for b, (predicted, observed, error, count) in enumerate(rows):
        own = place == b
        assert count == own.sum()
        assert predicted == pytest.approx(np.average(p[own], weights=weights[own]))
        assert observed == pytest.approx(np.average(picked[own], weights=weights[own]))
        variance = (weights[own] ** 2 * p[own] * (1 - p[own])).sum() / weights[own].sum() ** 2
        assert error == pytest.approx(math.sqrt(variance))
    assert sum(row[3] for row in rows) == p.size


def test_a_part_of_many_slates_is_of_whole_choosers():
    choices = luce(np.random.default_rng(22), slates=2000, choosers=200)
    assert part_of(choices, 2000) is choices
    part = part_of(choices, 450)
    assert 350 <= len(part) <= 900
    assert (np.bincount(part.choosers)[np.unique(part.choosers)] == 10).all()
    alone = part_of(replace(choices, choosers=None), 450)
    assert len(alone) == 450
    assert part_of(replace(choices, choosers=np.zeros(2000, int)), 450).picked.size == 450
    assert checks_module.MOST_SLATES == 60_000


# --- Hausman and McFadden -------------------------------------------------------------------------


def test_leaving_out_rows():
    choices = ragged(np.random.default_rng(23), slates=30, choosers=5)
    keep = np.ones(choices.slates.rows, bool)
    drop = choices.slates.offsets[:-1] + np.where(choices.picked == 0, 1, 0)
    keep[drop] = False
    picked = choices.picked - (choices.picked > drop - choices.slates.offsets[:-1])
    found = choices.with_rows(keep, picked)
    np.testing.assert_array_equal(found.slates.sizes, choices.slates.sizes - 1)
    np.testing.assert_array_equal(found.features[found.picked_rows], choices.features[choices.picked_rows])
    np.testing.assert_array_equal(found.positions, choices.positions[keep])
    assert isinstance(found.slates, Slates)


def test_hausmans_statistic_finds_nests_and_rarely_anything_else():
    """Uncorrected and rough, as it says: on Luce's picks it rejects 5 % give or take 5 (of 150 sets)."""
    choices = nested(np.random.default_rng(24), 0.2)
    fit = conditional_logit(choices)
    check = check_hausman(choices, fit.coefficients, fit.covariance)
    assert check.p is None or check.p < 0.2
    rejected = tested = 0
    for r in range(150):
        choices = luce(np.random.default_rng([25, r]), slates=400)
        fit = conditional_logit(choices)
        check = check_hausman(choices, fit.coefficients, fit.covariance)
        tested += check.p is not None
        rejected += check.p is not None and check.p < 0.05
    assert tested > 75
    assert rejected <= 0.1 * tested


def test_hausmans_statistic_is_the_same_for_the_same_seed():
    choices = luce(np.random.default_rng(26), slates=200)
    fit = conditional_logit(choices)
    one = check_hausman(choices, fit.coefficients, fit.covariance, seed=1)
    assert one == check_hausman(choices, fit.coefficients, fit.covariance, seed=1)
    assert one != check_hausman(choices, fit.coefficients, fit.covariance, seed=2)


# --- tails and corrections ------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.3, 2.5, 40.0])
def test_tails(value):
    for df in (1, 2, 7):
        assert chi2_tail(value, df) == pytest.approx(stats.chi2.sf(value, df), rel=1e-12)
        # A chi squared variable has this mean, variance and third central moment.
        expected = pytest.approx(stats.chi2.sf(value, df), rel=1e-9, abs=2e-8)
        assert three_moment_tail(value, df, 2 * df, 8 * df) == expected
    assert normal_tail(value) == pytest.approx(stats.norm.sf(value), rel=1e-12)
    assert two_sided(-value) == pytest.approx(2 * stats.norm.sf(value), rel=1e-12)
    assert three_moment_tail(value, 1.0, 4.0, 0.0) == pytest.approx(stats.norm.sf((value - 1) / 2), rel=1e-9)
    assert three_moment_tail(value, 1.0, 0.0, 0.0) == 1.0


def test_quantiles():
    for p in (1e-6, 0.025, 0.5, 0.99375):
        assert normal_quantile(p) == pytest.approx(stats.norm.ppf(p), rel=1e-12, abs=1e-15)
    assert chi2_tail(-1.0, 3) == 1.0
    assert three_moment_tail(-100.0, 1.0, 2.0, 8.0) == 1.0


def test_sums_of_weighted_chi_squared_variables_have_about_the_three_moment_tail():
    """200,000 draws: the tail at 5 % is between 4.5 and 5.5 %."""
    weights = np.array([3.0, 1.0, 1.0, 0.5, 0.2])
    draws = np.random.default_rng(27).chisquare(1, (200_000, 5)) @ weights
    moments = weights.sum(), 2 * (weights**2).sum(), 8 * (weights**3).sum()
    tails = np.array([three_moment_tail(t, *moments) for t in np.quantile(draws, [0.9, 0.95, 0.99])])
    np.testing.assert_allclose(tails, [0.1, 0.05, 0.01], rtol=0.1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_correction_is_the_step_down_procedure(values):
    found = holm(values)
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for place, i in enumerate(np.argsort(values)):
            if (len(values) - place) * values[i] > level:
                break
            rejected.add(i)
        assert {i for i, p in enumerate(found) if p <= level} == rejected
    assert all(p <= c <= 1 for p, c in zip(values, found, strict=True))
    assert holm(values[::-1]) == pytest.approx(found[::-1])


@pytest.mark.parametrize("kind", ["independent", "alike", "mixed"])
def test_holms_family_error(kind):
    """5,000 families of six true hypotheses: any is rejected in 5 % at most (bound: once in 100,000)."""
    rng = np.random.default_rng(28)
    p = rng.random((5000, 6))
    if kind == "alike":
        p[:] = p[:, :1]
    if kind == "mixed":  # three are false: those that are true are still safe
        p[:, :3] *= 1e-4
    wrong = sum(min(holm(row)[3:] if kind == "mixed" else holm(row)) < 0.05 for row in p.tolist())
    assert wrong <= bounds(5000, 0.05, 2e-5)[1]


def test_quadratic_forms_leave_out_directions_without_variance():
    rng = np.random.default_rng(29)
    half = rng.normal(size=(5, 3)) * [1e-4, 1.0, 1e5]
    score = half.T @ rng.normal(size=5)
    covariance = half.T @ half
    assert quadratic_test(score, covariance)[0] == pytest.approx(score @ np.linalg.solve(covariance, score))
    twice = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])  # a copy, and a constant
    found = quadratic_test(twice @ [3.0, 4.0], twice @ twice.T)
    assert found == (pytest.approx(25.0), 2)
    assert quadratic_test(np.zeros(2), np.zeros((2, 2))) == (0.0, 0)


def test_separation_is_not_hidden_by_tests():
    """Tests need an estimate: none is made up."""
    with pytest.raises(NoEstimate):
        ps(luce(np.random.default_rng(30), slates=100, beta=np.array([1.0]), noise="none"))
