"""Conditional logit: derivatives, invariances, known answers, standard errors, existence."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from helpers.picking import (
    TRUE,
    bounds,
    data_folder,
    draw,
    hessian_of,
    jacobian_of,
    luce,
    one_by_one,
    plain_information,
    plain_log,
    plain_scores,
    plain_value,
    ragged,
)
from recurate.choices import Choices, NoEstimate, conditional_logit
from recurate.choices.from_slates import read_choices
from recurate.choices.models import identifiability
from recurate.choices.models.identifiability import LARGEST_PROGRAM, subsample
from recurate.choices.models.likelihood import add_by_code, evaluate
from recurate.choices.models.logit import TOLERANCE, null_log_likelihood, sandwich_of, solver
from recurate.core.errors import InputError
from recurate.log.inputs import table_of
from recurate.log.reading.understand import guess
from recurate.rules import slates as slates_module
from recurate.rules.rule import Rule
from recurate.rules.slates import Slates

# Statistical tests here have a false-alarm rate of 1e-6 each, and fixed seeds.
ALARM = 1e-6


def examples():
    """Tables of every kind: slates of one size and ragged, weighted and not, with and without choosers."""
    rng = np.random.default_rng(0)
    return {
        "plain": luce(rng, slates=60),
        "choosers": luce(rng, slates=60, choosers=9),
        "pairs": luce(rng, slates=60, k=2),
        "ragged": ragged(rng, slates=60),
        "ragged-weighted": ragged(rng, slates=60, choosers=9, weighted=True),
        "one-feature": ragged(rng, slates=60, beta=np.array([0.8]), choosers=9),
    }


EVERY = pytest.mark.parametrize("choices", examples().values(), ids=examples().keys())


def same(one, other, rtol=1e-7):
    """Assert that two fits are the same: the coefficients are those of a gradient below 1e-7 a slate."""
    np.testing.assert_allclose(one.log_likelihood, other.log_likelihood, rtol=1e-9)
    np.testing.assert_allclose(one.coefficients, other.coefficients, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-5, atol=1e-9)
    if one.clustered is not None or other.clustered is not None:
        np.testing.assert_allclose(one.clustered, other.clustered, rtol=1e-5, atol=1e-9)


# --- derivatives ----------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0])
def test_derivatives_are_those_of_the_written_out_likelihood(choices, scale):
    rng = np.random.default_rng(1)
    beta = scale * rng.normal(size=choices.features.shape[1])
    slates = one_by_one(choices)
    codes = choices.choosers if choices.choosers is not None else np.arange(len(choices))
    found = evaluate(choices, beta, information=True, clusters=codes)
    np.testing.assert_allclose(found.log_likelihood, plain_value(slates, beta), rtol=1e-12)
    for step in (0.01, 0.04):
        gradient = jacobian_of(lambda b: plain_value(slates, b), beta, step)
        np.testing.assert_allclose(found.gradient, gradient, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(
        found.information, -hessian_of(lambda b: plain_value(slates, b), beta), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(found.cluster_scores.sum(axis=0), found.gradient, atol=1e-10)
    for code in np.unique(codes):
        own = [slate for slate, c in zip(slates, codes, strict=True) if c == code]
        np.testing.assert_allclose(
            found.cluster_scores[code], jacobian_of(lambda b, own=own: plain_value(own, b), beta), atol=1e-8
        )


def test_the_error_of_differences_falls_as_it_should():
    """Central differences of second order: halving the step quarters the error, at every scale."""
    choices = ragged(np.random.default_rng(2), slates=50)
    for unit in (1e-3, 1.0, 1e3):
        scaled = choices.with_features(choices.features * unit, choices.names)
        beta = TRUE / unit
        exact = evaluate(scaled, beta).gradient
        errors = []
        for step in (0.1 / unit, 0.05 / unit):
            apart = [
                (evaluate(scaled, beta + e).log_likelihood - evaluate(scaled, beta - e).log_likelihood)
                / (2 * step)
                for e in step * np.eye(3)
            ]
            errors.append(np.abs(np.array(apart) - exact).max() / unit)
        assert 3.8 < errors[0] / errors[1] < 4.2


def test_rewards_thousands_apart_do_not_overflow():
    rng = np.random.default_rng(3)
    choices = ragged(rng, slates=40, weighted=True)
    for reach in (1e3, 1e6, 1e12):
        beta = reach * np.array([1.0, -2.0, 0.5])
        found = evaluate(choices, beta, information=True, clusters=np.arange(40))
        np.testing.assert_allclose(found.log_likelihood, plain_value(one_by_one(choices), beta), rtol=1e-12)
        assert np.isfinite(found.gradient).all()
        assert np.isfinite(found.information).all()
        assert np.isfinite(found.cluster_scores).all()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_scores_are_added_by_code_in_any_order(codes):
    values = np.arange(2.0 * len(codes)).reshape(-1, 2)
    totals = np.zeros((6, 2))
    add_by_code(totals, np.array(codes), values)
    for code in range(6):
        np.testing.assert_allclose(totals[code], values[np.array(codes) == code].sum(axis=0))


# --- what must not matter -------------------------------------------------------------------------


@EVERY
def test_the_order_of_candidates_does_not_matter(choices):
    rng = np.random.default_rng(4)
    order, picked = [], []
    for s in range(len(choices)):
        a, b = choices.slates.offsets[s], choices.slates.offsets[s + 1]
        shuffled = rng.permutation(np.arange(a, b))
        order.append(shuffled)
        picked.append(int(np.flatnonzero(shuffled == choices.picked_rows[s])[0]))
    moved = replace(
        choices, features=choices.features[np.concatenate(order)], picked=np.array(picked, np.int64)
    )
    same(conditional_logit(moved), conditional_logit(choices))


@EVERY
def test_the_order_of_slates_and_the_names_of_choosers_do_not_matter(choices):
    rng = np.random.default_rng(5)
    moved = choices.take(rng.permutation(len(choices)))
    if moved.choosers is not None:
        moved = replace(moved, choosers=rng.permutation(50)[moved.choosers])
    same(conditional_logit(moved), conditional_logit(choices))


@EVERY
def test_what_all_candidates_of_a_slate_share_does_not_matter(choices):
    rng = np.random.default_rng(6)
    shared = choices.slates.spread(rng.normal(0, 30, (len(choices), choices.features.shape[1])))
    same(conditional_logit(replace(choices, features=choices.features + shared)), conditional_logit(choices))


def test_weights_are_repetitions():
    rng = np.random.default_rng(7)
    choices = ragged(rng, slates=50, choosers=8)
    times = rng.integers(1, 4, 50)
    repeated = choices.take(np.repeat(np.arange(50), times))
    weighted = replace(choices, weights=times.astype(float))
    same(conditional_logit(weighted), conditional_logit(repeated))
    assert null_log_likelihood(weighted) == pytest.approx(null_log_likelihood(repeated), rel=1e-12)


def test_an_absent_candidate_is_as_if_not_there():
    """Ragged slates padded to six by candidates that have no chance say the same."""
    choices = ragged(np.random.default_rng(8), slates=40, weighted=True)
    padded = np.zeros((40, 6, 4))
    padded[:, :, 3] = 1.0  # absent
    for s in range(40):
        a, b = choices.slates.offsets[s], choices.slates.offsets[s + 1]
        padded[s, : b - a] = np.column_stack([choices.features[a:b], np.zeros(b - a)])
    wide = Choices.of(padded.reshape(-1, 4), k=6, picked=choices.picked, weights=choices.weights)
    narrow, found = (
        evaluate(choices, TRUE, information=True),
        evaluate(wide, np.r_[TRUE, -800.0], information=True),
    )
    np.testing.assert_allclose(found.log_likelihood, narrow.log_likelihood, rtol=1e-13)
    np.testing.assert_allclose(found.gradient, np.r_[narrow.gradient, 0.0], atol=1e-12)
    np.testing.assert_allclose(found.information[:3, :3], narrow.information, rtol=1e-12)


@EVERY
def test_the_size_of_blocks_does_not_matter(choices, monkeypatch):
    whole = conditional_logit(choices)
    for budget in (1, 37, 500):
        monkeypatch.setattr(slates_module, "BLOCK_DOUBLES", budget)
        same(conditional_logit(choices), whole)


@EVERY
@pytest.mark.parametrize("unit", [1e-6, 1e-2, 1e3, 1e7])
def test_units_of_features_do_not_matter(choices, unit):
    plain = conditional_logit(choices)
    scaled = conditional_logit(replace(choices, features=choices.features * unit))
    np.testing.assert_allclose(scaled.coefficients * unit, plain.coefficients, rtol=1e-6)
    np.testing.assert_allclose(scaled.errors * unit, plain.errors, rtol=1e-6)
    assert scaled.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-10)


def test_the_start_does_not_matter():
    choices = luce(np.random.default_rng(9), slates=200)
    plain = conditional_logit(choices)
    for start in (TRUE, 5 * TRUE, -3 * TRUE):
        same(conditional_logit(choices, start=start), plain)
    near = conditional_logit(choices, start=plain.coefficients)
    assert near.passes < plain.passes


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("order", ["shuffled", "sorted"])
def test_starting_from_a_subsample_leads_to_the_same_estimate(monkeypatch, weighted, order):
    """As large tables do it, here for 6,000 slates; sorted rows are the worst case for strips."""
    rng = np.random.default_rng(10)
    choices = ragged(rng, slates=6000, choosers=200, weighted=weighted)
    if order == "sorted":
        first = choices.features[choices.slates.offsets[:-1], 0]
        choices = choices.take(np.argsort(first))
    plain = conditional_logit(choices)
    assert subsample(choices) is None
    monkeypatch.setattr(identifiability, "FEWEST", 300)
    part = subsample(choices)
    assert part is not None
    assert 300 <= len(part) < 700
    found = conditional_logit(choices)
    assert found.gradient_norm <= TOLERANCE
    same(found, plain, rtol=1e-6)


def test_a_subsample_that_tells_nothing_is_not_relied_on(monkeypatch):
    """A feature that varies in few slates, and picks that are separated in a part but not in the whole."""
    rng = np.random.default_rng(11)
    choices = luce(rng, slates=4000)
    rare = choices.features.copy()
    rare[400:, 2] = 0.0
    noisy = rng.random(4000) < 0.01
    clear = luce(rng, slates=4000, beta=np.array([30.0, 0.0]))
    mixed = replace(clear, picked=np.where(noisy, rng.integers(0, 4, 4000), clear.picked))
    for table in (replace(choices, features=rare), mixed):
        plain = conditional_logit(table)
        with monkeypatch.context() as patch:
            patch.setattr(identifiability, "FEWEST", 40)
            patch.setattr(identifiability, "PART", 400)
            patch.setattr(identifiability, "STRIDE", 4)
            assert subsample(table) is not None
            same(conditional_logit(table), plain, rtol=1e-5)


# --- known answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(("wins", "losses"), [(3, 1), (7, 20), (1, 999)])
def test_pairs_in_closed_form(wins, losses):
    """The coefficient of an indicator is the log of the odds, its variance 1 / wins + 1 / losses."""
    choices = Choices.of([0.0, 1.0] * (wins + losses), k=2, picked=[1] * wins + [0] * losses)
    fit = conditional_logit(choices)
    error = math.sqrt(1 / wins + 1 / losses)
    assert fit.coefficients[0] == pytest.approx(math.log(wins / losses), abs=1e-5 * error)
    assert fit.standard_errors[0] == pytest.approx(error, rel=1e-5)
    assert fit.null_log_likelihood == pytest.approx(-(wins + losses) * math.log(2))


def test_the_saturated_model_in_closed_form():
    """Indicators of all but one of the same five: log shares, with the multinomial's covariance."""
    counts = np.array([5, 20, 3, 40, 12])
    n = counts.sum()
    x = np.tile(np.eye(5)[:, 1:], (n, 1))
    fit = conditional_logit(Choices.of(x, k=5, picked=np.repeat(np.arange(5), counts)))
    np.testing.assert_allclose(fit.coefficients, np.log(counts[1:] / counts[0]), atol=1e-6)
    np.testing.assert_allclose(fit.covariance, np.diag(1 / counts[1:]) + 1 / counts[0], rtol=1e-6)
    assert fit.log_likelihood == pytest.approx(float(counts @ np.log(counts / n)))
    assert fit.explained == pytest.approx(1 - float(counts @ np.log(counts / n)) / (-n * math.log(5)))
    np.testing.assert_allclose(fit.utilities(np.eye(4)), fit.coefficients)


def fit_file(name, form=None):
    table = table_of(data_folder() / name)
    return conditional_logit(read_choices(table, guess(table, {}, form=form)).choices)


def test_electricity():
    """4,308 choices of 361 people: the known log-likelihood of the multinomial logit."""
    fit = fit_file("electricity/electricity.csv.gz")
    assert fit.log_likelihood == pytest.approx(-4958.649, abs=5e-4)
    assert (fit.slates, fit.clusters) == (4308, 361)
    assert (fit.clustered_errors > fit.standard_errors).all()  # people differ


# The vignette "Basic usage" of R's logitr 1.1.3 (https://jhelvy.github.io/logitr/articles/basic_usage.html).
YOGURT = {
    "price": (-0.3665546, 0.02436526),
    "feat": (0.4914392, 0.12006175),
    "item=hiland": (-3.7154773, 0.14541671),
    "item=weight": (-0.6411384, 0.05449794),
    "item=yoplait": (0.7345195, 0.08064229),
}


def test_yogurt():
    """logitr stops at a change of the likelihood below 1e-8 of it; its coefficients are off by up to 1e-4."""
    fit = fit_file("yogurt/yogurt.csv.gz")
    assert fit.names == tuple(YOGURT)
    coefficients, errors = np.array(list(YOGURT.values())).T
    np.testing.assert_allclose(fit.coefficients, coefficients, atol=2e-4)
    np.testing.assert_allclose(fit.standard_errors, errors, rtol=1e-4)
    assert fit.log_likelihood == pytest.approx(-2656.8878790, abs=2e-6)
    assert fit.log_likelihood >= -2656.8878790
    assert fit.null_log_likelihood == pytest.approx(-3343.7419990, abs=1e-6)
    assert fit.explained == pytest.approx(0.2054148, abs=1e-7)


# --- standard errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_standard_errors_are_those_of_plain_loops(weighted):
    """The inverse numerical Hessian, and the sandwich of sums over choosers with C / (C - 1)."""
    choices = ragged(np.random.default_rng(12), slates=150, choosers=31, weighted=weighted)
    fit = conditional_logit(choices)
    slates = one_by_one(choices)
    information = -hessian_of(lambda b: plain_value(slates, b), fit.coefficients)
    bread = np.linalg.inv(information)
    np.testing.assert_allclose(plain_information(slates, fit.coefficients), information, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fit.covariance, bread, rtol=1e-6, atol=1e-9)
    scores = plain_scores(slates, fit.coefficients)
    meat = sum(np.outer(s, s) for s in scores.values())
    np.testing.assert_allclose(fit.clustered, bread @ meat @ bread * 31 / 30, rtol=1e-6, atol=1e-9)
    assert fit.clusters == 31
    np.testing.assert_allclose(fit.standard_errors, np.sqrt(np.diag(bread)), rtol=1e-6)
    np.testing.assert_allclose(fit.errors, np.sqrt(np.diag(bread @ meat @ bread) * 31 / 30), rtol=1e-6)


def test_standard_errors_without_choosers_are_the_models():
    choices = ragged(np.random.default_rng(13), slates=100, choosers=31)
    alone = conditional_logit(replace(choices, choosers=None))
    assert alone.clustered is None
    assert alone.clustered_errors is None
    np.testing.assert_array_equal(alone.errors, alone.standard_errors)
    assert conditional_logit(choices, clustered=False).clustered is None
    assert conditional_logit(replace(choices, choosers=np.zeros(100, int))).clustered is None
    assert sandwich_of(np.eye(2), np.ones((1, 2)), 1) is None


def covered(fits, truth, errors):
    """Return how many of the 95 % intervals hold the truth, for each coefficient."""
    apart = np.array([np.abs(f.coefficients - truth) / errors(f) for f in fits])
    return (apart < 1.959964).sum(axis=0)


def test_intervals_cover_where_everybody_is_alike():
    """300 data sets of 300 slates; right intervals fail this one time in 300,000."""
    fits = [conditional_logit(luce(np.random.default_rng([12, r]), choosers=100)) for r in range(300)]
    low, high = bounds(300, 0.95, ALARM)
    for errors in (lambda f: f.standard_errors, lambda f: f.clustered_errors):
        found = covered(fits, TRUE, errors)
        assert (low <= found).all()
        assert (found <= high).all()
    # The check can fail: intervals that are a third too short are noticed.
    assert (covered(fits, TRUE, lambda f: f.standard_errors / 1.5) < low).any()


def different_people(rng, people, each):
    """Return picks of people with tastes of their own."""
    x = rng.normal(size=(people, each, 3, 2))
    tastes = np.array([1.0, -0.5]) + 1.2 * rng.normal(size=(people, 1, 1, 2))
    u = (x * tastes).sum(axis=-1).reshape(-1, 3)
    who = np.repeat(np.arange(people), each)
    return Choices.of(x.reshape(-1, 2), k=3, picked=draw(u, rng), choosers=who)


def test_clustered_intervals_cover_where_people_differ_and_the_models_do_not():
    """The truth is what the pooled estimate tends to: from 400,000 slates, known to 0.004."""
    truth = conditional_logit(different_people(np.random.default_rng(13), 20_000, 20)).coefficients
    fits = [conditional_logit(different_people(np.random.default_rng([14, r]), 100, 20)) for r in range(300)]
    low, high = bounds(300, 0.95, ALARM)
    clustered = covered(fits, truth, lambda f: f.clustered_errors)
    assert (low <= clustered).all()
    assert (clustered <= high).all()
    assert (covered(fits, truth, lambda f: f.standard_errors) < low).all()


# --- existence ------------------------------------------------------------------------------------


def blamed(choices, **arguments):
    with pytest.raises(NoEstimate) as refused:
        conditional_logit(choices, **arguments)
    return refused.value


def test_a_score_that_decides_every_pick_has_no_temperature():
    """Complete separation, of pairs whose gradient vanishes long before the coefficient is large, too."""
    rng = np.random.default_rng(15)
    for n in (2, 10, 1000):
        pairs = Choices.of([0.0, 1.0] * n, k=2, picked=[1] * n)
        found = blamed(pairs)
        assert "separated" in found.what
        assert found.got == "separated by x1"
    x = rng.normal(size=(200, 4))
    best = Choices.of(x.ravel(), k=4, picked=x.argmax(axis=1), names=["score"])
    assert "score" in blamed(best).got


def test_quasi_separation_names_the_feature():
    """Half the pairs have no difference in x: their picks say nothing, the others all go one way."""
    tied = Choices.of([0.0, 1.0, 1.0, 1.0] * 10, k=2, picked=[1, 0] * 10)
    assert blamed(tied).got == "separated by x1"
    choices = luce(np.random.default_rng(16), slates=400)
    x = choices.features.copy()
    x[:, 1] = 0.0
    some = choices.slates.offsets[:-1][::7] + choices.picked[::7]
    x[some, 1] = 1.0  # only picks ever have it
    found = blamed(replace(choices, features=x))
    assert found.got == "separated by x2"
    assert "shrinkage" in found.remedy


def test_a_combination_that_separates_names_all_of_it():
    rng = np.random.default_rng(17)
    x = rng.normal(size=(300, 4, 3))
    picked = (x @ np.array([1.0, -1.0, 0.0])).argmax(axis=1)
    found = blamed(Choices.of(x.reshape(-1, 3), k=4, picked=picked, names=["price", "size", "noise"]))
    assert "price" in found.got
    assert "size" in found.got
    assert "noise" not in found.got


def test_one_surprise_is_enough_for_an_estimate():
    """Strong but not separated: 2 in 5,000 pairs go the other way."""
    choices = Choices.of([0.0, 1.0] * 5000, k=2, picked=[1] * 4998 + [0] * 2)
    assert conditional_logit(choices).coefficients[0] == pytest.approx(math.log(2499), abs=1e-5)


def small_tables(rng):
    """Return random small tables of small whole numbers, where separation is common."""
    slates, d = int(rng.integers(2, 9)), int(rng.integers(1, 3))
    sizes = rng.integers(2, 4, slates)
    offsets = np.r_[0, np.cumsum(sizes)]
    x = rng.integers(-1, 2, (offsets[-1], d)).astype(float)
    return Choices.of(x, offsets=offsets, picked=rng.integers(0, sizes))


def exists_by_program(choices):
    """Whether no b != 0 has b'(x_pick - x_k) >= 0 throughout, by linear programs."""
    gaps = []
    for x, pick, _, _ in one_by_one(choices):
        gaps += [np.array(x[pick]) - np.array(row) for k, row in enumerate(x) if k != pick]
    gaps = np.array(gaps)
    d = gaps.shape[1]
    for j, sign in itertools.product(range(d), (-1.0, 1.0)):
        fixed = [(sign, sign) if i == j else (-1, 1) for i in range(d)]
        if linprog(np.zeros(d), A_ub=-gaps, b_ub=np.zeros(len(gaps)), bounds=fixed).status == 0:
            return False
    return True


def test_an_estimate_exists_iff_nothing_separates():
    """Against a program of its own, on 300 small tables of which neither kind is rare."""
    found = []
    for r in range(300):
        choices = small_tables(np.random.default_rng([18, r]))
        try:
            fit = conditional_logit(choices)
        except NoEstimate:
            found.append(False)
        else:
            found.append(True)
            slates = one_by_one(choices)
            np.testing.assert_allclose(sum(plain_scores(slates, fit.coefficients).values()), 0, atol=1e-5)
        assert found[-1] == exists_by_program(choices)
    assert 0.15 < np.mean(found) < 0.85


def test_separation_is_found_in_tables_larger_than_a_linear_program():
    n = LARGEST_PROGRAM // 2
    rng = np.random.default_rng(19)
    x = rng.normal(size=(n, 3, 2))
    picked = (x @ np.array([1.0, 0.3])).argmax(axis=1)
    assert "separated" in blamed(Choices.of(x.reshape(-1, 2), k=3, picked=picked)).what


def test_a_feature_that_is_constant_within_slates_is_named():
    choices = luce(np.random.default_rng(20), slates=80)
    x = choices.features.copy()
    x[:, 1] = choices.slates.spread(np.random.default_rng(1).normal(1e6, 1, 80))
    for shrinkage in (0.0, 1.0):
        found = blamed(replace(choices, features=x, names=("a", "income", "b")), shrinkage=shrinkage)
        assert found.got == "income"
        assert "constant within slates" in found.what


def test_collinear_features_are_named():
    choices = luce(np.random.default_rng(21), slates=80)
    x = np.column_stack([choices.features, choices.features[:, 0] - 2 * choices.features[:, 2]])
    found = blamed(choices.with_features(x, ["a", "b", "c", "d"]))
    assert set(found.got.split(", ")) == {"a", "c", "d"}
    assert "collinear" in found.what
    dummies = np.tile(np.eye(4), (80, 1))
    assert blamed(choices.with_features(dummies, list("wxyz"))).got == "w, x, y, z"


def test_collinear_up_to_a_constant_in_each_slate_is_collinear():
    choices = luce(np.random.default_rng(22), slates=80)
    x = choices.features.copy()
    x[:, 2] = x[:, 0] + choices.slates.spread(np.random.default_rng(2).normal(size=80))
    assert set(blamed(replace(choices, features=x)).got.split(", ")) == {"x1", "x3"}


def test_nearly_collinear_features_have_an_estimate():
    rng = np.random.default_rng(23)
    choices = luce(rng, slates=400)
    x = choices.features.copy()
    x[:, 2] = x[:, 0] + 1e-4 * rng.normal(size=len(x))
    fit = conditional_logit(replace(choices, features=x))
    gradient = sum(plain_scores(one_by_one(replace(choices, features=x)), fit.coefficients).values())
    np.testing.assert_allclose(gradient, 0, atol=1e-3)
    assert fit.standard_errors[2] > 100


def test_no_features_are_no_model():
    choices = luce(np.random.default_rng(24), slates=10)
    assert "no features" in blamed(choices.with_features(np.zeros((40, 0)), [])).what


def test_all_picks_alike_is_separation_where_a_feature_tells_the_place():
    x = np.tile(np.eye(3)[:, 1:], (50, 1))
    found = blamed(Choices.of(x, k=3, picked=[1] * 50, names=["second", "third"]))
    assert "second" in found.got


# --- shrinkage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shrinkage", [0.01, 1.0, 100.0])
def test_shrinkage_makes_an_estimate_exist_and_maximises_what_it_says(shrinkage):
    rng = np.random.default_rng(25)
    x = rng.normal(size=(60, 3, 2)) * [1.0, 40.0]
    picked = (x @ np.array([1.0, 0.01])).argmax(axis=1)
    choices = Choices.of(x.reshape(-1, 2), k=3, picked=picked)
    blamed(choices)
    fit = conditional_logit(choices, shrinkage=shrinkage)
    # The root mean square of a feature within slates, by its definition.
    table = x.reshape(60, 3, 2)
    scale = np.sqrt(np.square(table - table.mean(axis=1, keepdims=True)).mean(axis=(0, 1)))
    slates = one_by_one(choices)

    def penalised(beta):
        return plain_value(slates, beta) - shrinkage / 2 * float(np.square(beta * scale).sum())

    gradient = jacobian_of(lambda g: penalised(g / scale), fit.coefficients * scale)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
    assert fit.log_likelihood == pytest.approx(plain_value(slates, fit.coefficients), rel=1e-10)
    assert fit.shrinkage == shrinkage
    precision = plain_information(slates, fit.coefficients) + shrinkage * np.diag(scale**2)
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(precision), rtol=1e-5)


def test_shrinkage_copes_with_collinear_features():
    choices = luce(np.random.default_rng(26), slates=80)
    twice = choices.with_features(np.column_stack([choices.features, choices.features[:, 0]]), list("abcd"))
    fit = conditional_logit(twice, shrinkage=0.5)
    assert fit.coefficients[0] == pytest.approx(fit.coefficients[3], rel=1e-6)


def test_more_shrinkage_shrinks_more():
    choices = luce(np.random.default_rng(27), slates=100)
    sizes = [np.abs(conditional_logit(choices, shrinkage=s).coefficients).sum() for s in (0, 1, 10, 1000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.2 * sizes[0]


@pytest.mark.parametrize("shrinkage", [-1.0, math.nan, math.inf, "1", None, True])
def test_wrong_shrinkage_is_refused(shrinkage):
    with pytest.raises(InputError, match="shrinkage"):
        conditional_logit(luce(np.random.default_rng(28), slates=10), shrinkage=shrinkage)


# --- its parts ------------------------------------------------------------------------------------


def test_the_solver_inverts_at_any_scale():
    rng = np.random.default_rng(29)
    half, units = rng.normal(size=(40, 5)), np.array([1e-8, 1e-3, 1.0, 1e4, 1e9])
    solve = solver(half.T @ half * np.outer(units, units))
    expected = np.linalg.inv(half.T @ half)
    np.testing.assert_allclose(solve(np.diag(units)) * units[:, None], expected, rtol=1e-10)
    np.testing.assert_allclose(solve(units) * units, expected.sum(axis=1), rtol=1e-10)
    assert np.isfinite(solver(np.ones((2, 2)))(np.ones(2))).all()  # singular: still goes up


def test_log_probabilities_are_luces():
    choices = ragged(np.random.default_rng(30), slates=30)
    expected = [plain_log(x, pick, TRUE.tolist()) for x, pick, _, _ in one_by_one(choices)]
    np.testing.assert_allclose(choices.log_likelihood(Rule(), choices.features @ TRUE), expected, rtol=1e-12)


def test_strips_of_a_subsample_are_whole_and_spread():
    choices = luce(np.random.default_rng(31), slates=20_000, k=2, beta=np.array([0.5]))
    tagged = replace(choices, features=np.column_stack([choices.features, np.arange(40_000) // 2]))
    tagged = replace(tagged, names=("x", "slate"))
    part = subsample(tagged)
    assert part is not None
    slates = part.features[::2, 1]
    assert identifiability.FEWEST <= len(part) <= 1.2 * identifiability.FEWEST
    assert (np.diff(slates) == 1).mean() > 0.9  # neighbours
    assert slates[0] < 100
    assert slates[-1] > 19_900
    assert isinstance(part.slates, Slates)
