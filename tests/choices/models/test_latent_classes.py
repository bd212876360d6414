"""Latent classes: the written-out likelihood and its derivatives, planted groups, how many there are."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from helpers.picking import bounds, draw, hessian_of, jacobian_of, luce, one_by_one, plain_log, ragged
from helpers.rates import Rate
from recurate.choices import Choices, NoEstimate, conditional_logit, latent_classes
from recurate.choices.checks.held_out import CLEAR_GAIN, chooser_logs, folds_of, select_classes
from recurate.choices.models import identifiability
from recurate.choices.models import latent_classes as groups
from recurate.choices.models.latent_classes import TOLERANCE, Panel, _at, _Theta, part_of_panel
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.rules import slates as slates_module

# Statistical tests here have a false-alarm rate of 1e-6 each, and fixed seeds, unless they say otherwise.
ALARM = 1e-6
TASTES = np.array([[1.5, -1.0], [-1.0, 0.5]])
SHARES = np.array([0.65, 0.35])
THREE = np.array([[2.0, -1.0], [-1.5, 1.5], [0.3, 2.0]])
THIRDS = np.array([0.5, 0.3, 0.2])


def planted(rng, people, each, tastes=TASTES, shares=SHARES, *, exact=True, k=4):
    """Return picks of people in classes, and their classes; shares as they are, or by chance."""
    of = np.arange(len(shares))
    kind = (
        rng.permutation(np.repeat(of, np.round(shares * people).astype(int)))
        if exact
        else rng.choice(of, people, p=shares)
    )
    who = np.repeat(np.arange(len(kind)), each)
    x = rng.normal(size=(len(who), k, tastes.shape[1]))
    picked = draw(np.einsum("skd,sd->sk", x, tastes[kind[who]]), rng)
    return Choices.of(x.reshape(-1, tastes.shape[1]), k=k, picked=picked, choosers=who), kind


# --- the likelihood -------------------------------------------------------------------------------


def plain_people(choices):
    """Return each chooser's slates, in the order of their codes."""
    slates = one_by_one(choices)
    return [[s for s in slates if s[3] == who] for who in sorted({s[3] for s in slates})]


def plain_mixture(people, theta, classes):
    """Return sum_c log sum_z w_z prod_s P(pick | beta_z)^weight for (log w_z / w_1, beta_1, beta_2, ...)."""
    odds = [1.0, *(math.exp(t) for t in theta[: classes - 1])]
    beta = theta[classes - 1 :].reshape(classes, -1).tolist()
    total = 0.0
    for own in people:
        logs = [
            math.log(w / math.fsum(odds))
            + math.fsum(weight * plain_log(x, pick, b) for x, pick, weight, _ in own)
            for w, b in zip(odds, beta, strict=True)
        ]
        top = max(logs)
        total += top + math.log(math.fsum(math.exp(v - top) for v in logs))
    return total


def examples():
    rng = np.random.default_rng(0)
    beta = np.array([1.0, -0.5])
    return {
        "plain": luce(rng, slates=12, beta=beta, choosers=4),
        "ragged": ragged(rng, slates=12, beta=beta, choosers=5),
        "weighted": ragged(rng, slates=12, beta=beta, choosers=5, weighted=True),
        "one-pick": luce(rng, slates=8, beta=beta, choosers=8),
    }


EVERY = pytest.mark.parametrize("choices", examples().values(), ids=examples().keys())


@EVERY
@pytest.mark.parametrize(("classes", "scale"), [(2, 2.0), (3, 0.3)])
def test_derivatives_are_those_of_the_written_out_likelihood(choices, classes, scale):
    """Gradient, observed information (Louis 1982) and every chooser's score, far from any maximum."""
    theta = scale * np.random.default_rng(1).normal(size=classes - 1 + 2 * classes)
    people = plain_people(choices)
    start = classes - 1
    point = _at(Panel.build(choices), _Theta(np.r_[0.0, theta[:start]], theta[start:].reshape(classes, 2)))

    def value(t, own=people):
        return plain_mixture(own, t, classes)

    assert point.value == pytest.approx(value(theta), rel=1e-12)
    np.testing.assert_allclose(point.gradient, jacobian_of(value, theta), atol=1e-7)
    np.testing.assert_allclose(point.observed(), -hessian_of(value, theta, 0.02), atol=2e-6)
    for own, score in zip(people, point.scores, strict=True):
        np.testing.assert_allclose(score, jacobian_of(lambda t, o=own: value(t, [o]), theta), atol=1e-8)
    np.testing.assert_allclose(point.membership.sum(axis=1), 1, rtol=1e-12)


def test_the_fit_is_a_maximum_with_the_standard_errors_of_plain_loops():
    choices, _ = planted(np.random.default_rng(2), 30, 4)
    fit = latent_classes(choices)
    people = plain_people(choices)
    place = np.r_[np.log(fit.weights[1:] / fit.weights[0]), fit.coefficients.ravel()]
    assert fit.log_likelihood == pytest.approx(plain_mixture(people, place, 2), rel=1e-12)
    np.testing.assert_allclose(jacobian_of(lambda t: plain_mixture(people, t, 2), place), 0, atol=1e-3)
    bread = np.linalg.inv(-hessian_of(lambda t: plain_mixture(people, t, 2), place))
    scores = [jacobian_of(lambda t, o=own: plain_mixture([o], t, 2), place) for own in people]
    sandwich = bread @ sum(np.outer(s, s) for s in scores) @ bread * len(people) / (len(people) - 1)
    np.testing.assert_allclose(fit.covariance, bread, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fit.clustered, sandwich, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fit.standard_errors.ravel(), np.sqrt(np.diag(sandwich))[1:], rtol=1e-4)

    def weights(t):
        return np.r_[1.0, np.exp(t)] / (1 + np.exp(t).sum())

    by_odds = jacobian_of(weights, place[:1])
    np.testing.assert_allclose(
        fit.weight_errors, np.sqrt(np.diag(by_odds @ sandwich[:1, :1] @ by_odds.T)), rtol=1e-4
    )


def test_membership_is_bayes():
    choices, kind = planted(np.random.default_rng(3), 60, 8)
    fit = latent_classes(choices)
    for own, found in zip(plain_people(choices), fit.membership, strict=True):
        joint = [
            w * math.exp(math.fsum(plain_log(x, pick, b) for x, pick, _, _ in own))
            for w, b in zip(fit.weights, fit.coefficients.tolist(), strict=True)
        ]
        np.testing.assert_allclose(found, np.array(joint) / math.fsum(joint), rtol=1e-9, atol=1e-12)
    assert (fit.membership.argmax(axis=1) == kind).mean() > 0.9


def test_utilities_are_those_of_each_class():
    choices, _ = planted(np.random.default_rng(3), 30, 6)
    fit = latent_classes(choices)
    found = fit.utilities(choices.features)
    for z in range(2):
        np.testing.assert_allclose(found[:, z], choices.features @ fit.coefficients[z])


def test_the_likelihood_never_falls(monkeypatch):
    """Over all steps of all starts, Newton's and EM's; several kinds of both are seen."""
    falls, kinds = [], {"newton": 0, "em": 0}
    step, em = groups._next, groups._em

    def watched(sample, theta, point):
        seen = kinds["em"]
        moved, found = step(sample, theta, point)
        kinds["newton"] += kinds["em"] == seen
        falls.append((found.value - point.value) / abs(point.value))
        return moved, found

    def counted(theta, point):
        kinds["em"] += 1
        return em(theta, point)

    monkeypatch.setattr(groups, "_next", watched)
    monkeypatch.setattr(groups, "_em", counted)
    for r, (tastes, shares) in enumerate(((TASTES, SHARES), (THREE, THIRDS), (TASTES * 0.1, SHARES))):
        choices, _ = planted(np.random.default_rng([4, r]), 50, 6, tastes, shares)
        latent_classes(choices, classes=len(shares), starts=4)
    assert min(falls) >= -2e-12
    assert max(falls) > 1e-4
    assert min(kinds.values()) > 20


# --- what it finds --------------------------------------------------------------------------------


@pytest.mark.parametrize(("tastes", "shares"), [(TASTES, SHARES), (THREE, THIRDS)], ids=["two", "three"])
def test_planted_classes_are_recovered(tastes, shares):
    """300 choosers with 15 picks each; within five standard errors (one false alarm in 100,000 fits)."""
    choices, kind = planted(np.random.default_rng(5), 300, 15, tastes, shares)
    fit = latent_classes(choices, classes=len(shares))
    assert fit.converged
    assert fit.gradient_norm <= 10 * TOLERANCE
    assert fit.agreeing >= 2
    assert (np.diff(fit.weights) < 0).all()  # the largest first
    assert fit.weights.sum() == pytest.approx(1, rel=1e-12)
    assert (np.abs(fit.coefficients - tastes) < 5 * fit.standard_errors).all()
    assert (fit.standard_errors < 0.25).all()
    assert (np.abs(fit.weights - shares) < 5 * fit.weight_errors).all()
    assert (fit.membership.argmax(axis=1) == kind).mean() > 0.9
    assert fit.log_likelihood > conditional_logit(choices).log_likelihood + 100
    assert (fit.slates, fit.choosers, fit.classes) == (4500, 300, len(shares))


def test_intervals_cover():
    """100 small sets, 80 choosers with ten picks: 95 % intervals hold the truth in about 95 %."""
    low, high = bounds(100, 0.95, ALARM)
    hits, weight_hits = np.zeros((2, 2)), np.zeros(2)
    for r in range(100):
        choices, _ = planted(np.random.default_rng([6, r]), 80, 10, exact=False)
        fit = latent_classes(choices, starts=1)
        assert fit.converged
        hits += np.abs(fit.coefficients - TASTES) < 1.959964 * fit.standard_errors
        weight_hits += np.abs(fit.weights - SHARES) < 1.959964 * fit.weight_errors
    assert (low <= hits).all()
    assert (hits <= high).all()
    assert (low <= weight_hits).all()


def test_one_class_is_the_conditional_logit():
    choices = ragged(np.random.default_rng(7), slates=200, choosers=31, weighted=True)
    fit, logit = latent_classes(choices, classes=1), conditional_logit(choices)
    np.testing.assert_allclose(fit.coefficients[0], logit.coefficients, atol=1e-7)
    np.testing.assert_allclose(fit.standard_errors[0], logit.clustered_errors, rtol=1e-6)
    np.testing.assert_allclose(fit.covariance, logit.covariance, rtol=1e-6)
    assert fit.log_likelihood == pytest.approx(logit.log_likelihood, rel=1e-12)
    assert fit.null_log_likelihood == pytest.approx(logit.null_log_likelihood, rel=1e-12)
    assert fit.weights.tolist() == [1.0]
    assert fit.weight_errors.tolist() == [0.0]
    assert fit.parameters == 3


def test_the_bayesian_information_criterion():
    """Parameters are class shares and coefficients; observations are choosers."""
    choices, _ = planted(np.random.default_rng(8), 60, 6, THREE, THIRDS)
    for classes in (1, 2, 3):
        fit = latent_classes(choices, classes=classes)
        assert fit.parameters == classes - 1 + 2 * classes
        assert fit.bic == pytest.approx(-2 * fit.log_likelihood + fit.parameters * math.log(60))


def same(one, other):
    assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-9)
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)
    np.testing.assert_allclose(one.coefficients, other.coefficients, atol=1e-4)
    np.testing.assert_allclose(one.standard_errors, other.standard_errors, rtol=1e-3)


def test_names_of_choosers_and_the_order_of_slates_do_not_matter():
    rng = np.random.default_rng(9)
    choices, _ = planted(rng, 60, 8)
    plain = latent_classes(choices)
    other = rng.permutation(90)[:60]
    shuffled = replace(choices, choosers=other[choices.choosers]).take(rng.permutation(480))
    found = latent_classes(shuffled)
    same(found, plain)
    np.testing.assert_allclose(found.membership[np.argsort(np.argsort(other))], plain.membership, atol=1e-4)


def test_the_order_of_candidates_does_not_matter():
    rng = np.random.default_rng(10)
    choices, _ = planted(rng, 60, 8)
    order = np.argsort(rng.random((480, 4)), axis=1)
    moved = replace(
        choices,
        features=np.take_along_axis(choices.features.reshape(480, 4, 2), order[:, :, None], 1).reshape(-1, 2),
        picked=np.argmax(order == choices.picked[:, None], axis=1),
    )
    same(latent_classes(moved), latent_classes(choices))


def test_weights_are_repetitions():
    rng = np.random.default_rng(11)
    choices, _ = planted(rng, 60, 6)
    times = rng.integers(1, 3, 360)
    weighted = latent_classes(replace(choices, weights=times.astype(float)))
    repeated = latent_classes(choices.take(np.repeat(np.arange(360), times)))
    same(weighted, repeated)


def test_the_size_of_blocks_does_not_matter(monkeypatch):
    choices, _ = planted(np.random.default_rng(12), 60, 6)
    plain = latent_classes(choices)
    for budget in (1, 333):
        monkeypatch.setattr(groups, "BLOCK_DOUBLES", budget)
        monkeypatch.setattr(slates_module, "BLOCK_DOUBLES", budget)
        same(latent_classes(choices), plain)


def test_starting_on_a_subsample_of_choosers_does_not_matter(monkeypatch):
    choices, _ = planted(np.random.default_rng(13), 800, 6)
    plain = latent_classes(choices)
    monkeypatch.setattr(groups, "FEWEST_CHOOSERS", 80)
    monkeypatch.setattr(groups, "SUBSAMPLE", 100)
    monkeypatch.setattr(identifiability, "FEWEST", 300)
    part = part_of_panel(Panel.build(choices), 2, np.random.default_rng(0))
    assert part.count < 300
    same(latent_classes(choices), plain)


def test_seeds_and_starts():
    """The same seed gives the same fit; another one starts elsewhere and ends at the same maximum."""
    choices, _ = planted(np.random.default_rng(14), 60, 10)
    first, again = latent_classes(choices, seed=1), latent_classes(choices, seed=1)
    np.testing.assert_array_equal(first.coefficients, again.coefficients)
    assert first.starts == again.starts
    assert len(first.starts) == 5
    same(latent_classes(choices, seed=2), first)
    assert latent_classes(choices, starts=1).agreeing == 1
    pooled = conditional_logit(choices)
    same(latent_classes(choices, pooled=pooled), first)


def test_one_pick_a_chooser():
    """Hardly told apart, but with features that vary the classes are there: intervals hold them."""
    choices, _ = planted(np.random.default_rng(15), 1000, 1)
    fit = latent_classes(choices, starts=15)
    assert fit.converged
    assert (np.abs(fit.coefficients - TASTES) < 5 * fit.standard_errors).all()
    many, _ = planted(np.random.default_rng(15), 100, 10)
    assert (fit.standard_errors > 1.3 * latent_classes(many).standard_errors).all()


def test_classes_that_one_pick_cannot_tell_apart_have_no_standard_errors():
    """Three items in pairs: shares and two rewards of each class are five numbers, and three are observed."""
    rng = np.random.default_rng(16)
    pairs = np.array([[0, 1], [0, 2], [1, 2]])[rng.integers(0, 3, 600)]
    x = np.eye(3)[pairs][:, :, 1:]
    picked = draw(rng.normal(size=(600, 2)), rng)
    fit = latent_classes(Choices.of(x.reshape(-1, 2), k=2, picked=picked, choosers=np.arange(600)))
    saturated = conditional_logit(Choices.of(x.reshape(-1, 2), k=2, picked=picked)).log_likelihood
    assert fit.log_likelihood >= saturated - 1e-6
    if fit.standard_errors is not None:  # then they say that nothing is known
        assert fit.standard_errors.max() > 10


def test_a_class_that_picks_without_noise_is_refused():
    rng = np.random.default_rng(17)
    choices, _ = planted(rng, 60, 10, np.array([[1.0, 0.5], [-400.0, 300.0]]))
    with pytest.raises(NoEstimate, match="no finite estimate"):
        latent_classes(choices)
    # Of pairs with one indicator the gradient vanishes long before the coefficient is large.
    who = np.repeat(np.arange(60), 20)
    picked = np.where(who >= 30, 1, rng.random(1200) < 0.3).astype(int)
    with pytest.raises(NoEstimate, match="a class are separated"):
        latent_classes(Choices.of(np.tile([0.0, 1.0], 1200), k=2, picked=picked, choosers=who))


def test_too_many_classes_do_not_pretend_to_have_converged():
    """Everybody alike, four classes asked for: whatever comes back is no worse than one class."""
    choices = luce(np.random.default_rng(18), slates=300, beta=np.array([1.0, -0.5]), choosers=50)
    one = latent_classes(choices, classes=1)
    try:
        four = latent_classes(choices, classes=4, starts=2)
    except NoEstimate:
        return
    assert four.log_likelihood >= one.log_likelihood - 1e-6
    assert four.bic > one.bic
    assert four.converged == (four.gradient_norm <= 10 * TOLERANCE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 0}, "number of classes"),
        ({"classes": 2.5}, "number of classes"),
        ({"classes": 13}, "number of classes"),
        ({"starts": 0}, "at least one start"),
        ({"starts": 1.5}, "at least one start"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    choices = luce(np.random.default_rng(19), slates=48, choosers=12)
    with pytest.raises(InputError, match=message):
        latent_classes(choices, **arguments)


def test_choosers_must_be_known():
    with pytest.raises(InputError, match="choosers are known"):
        latent_classes(luce(np.random.default_rng(19), slates=48))


# --- how many -------------------------------------------------------------------------------------


def test_held_out_scores_of_choosers_are_those_of_plain_loops():
    choices, _ = planted(np.random.default_rng(20), 30, 6)
    fit = latent_classes(choices)
    place = np.r_[np.log(fit.weights[1:] / fit.weights[0]), fit.coefficients.ravel()]
    expected = [plain_mixture([own], place, 2) for own in plain_people(choices)]
    np.testing.assert_allclose(chooser_logs(choices, fit), expected, rtol=1e-10)


def test_folds_hold_out_whole_choosers():
    choices, _ = planted(np.random.default_rng(21), 50, 6)
    folds = folds_of(choices, 4, Stream(0).at("x").generator())
    for who in range(50):
        assert np.unique(folds[choices.choosers == who]).size == 1
    sizes = np.bincount(folds) / 6
    assert sizes.max() - sizes.min() <= 1
    alone = folds_of(replace(choices, choosers=None), 3, Stream(0).at("x").generator())
    assert np.bincount(alone).tolist() == [100, 100, 100]


def test_scores_of_each_number():
    choices, _ = planted(np.random.default_rng(22), 100, 10)
    best, scores = select_classes(choices, most=3)
    assert best.classes == 2
    assert [s.classes for s in scores] == [1, 2, 3]
    assert (np.diff([s.log_likelihood for s in scores]) > 0).all()
    assert min(scores, key=lambda s: s.bic).classes == 2
    assert scores[0].gain == scores[0].gain_error == 0
    for before, after in itertools.pairwise(scores):
        assert after.gain == pytest.approx(after.held_out - before.held_out, abs=1e-12)
        assert after.gain_error > 0
    assert scores[1].gain > CLEAR_GAIN * scores[1].gain_error
    assert scores[2].gain <= CLEAR_GAIN * scores[2].gain_error
    np.testing.assert_allclose(best.coefficients, latent_classes(choices).coefficients, atol=1e-5)


def chosen(tastes, shares, sets, people, each, most):
    """Yield the number of classes found in each set."""
    for r in range(sets):
        choices, _ = planted(np.random.default_rng([23, len(shares), r]), people, each, tastes, shares)
        yield select_classes(choices, most=most, starts=2)[0].classes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tastes", "shares"), [(TASTES, SHARES), (TASTES[:1], np.ones(1))], ids=["two", "one"]
)
def test_the_number_of_classes_is_found_in_most_sets(tastes, shares):
    """90 % of 200 simulated sets like these (60 choosers, ten picks); fewer than 7 of 12: once in 2,000.

    At a rate of 50 % that happens in 61 %; the slow test below hardly ever misses it.
    """
    found = list(chosen(tastes, shares, 12, 60, 10, 3))
    assert found.count(len(shares)) >= 7
    assert min(found) >= len(shares)  # if wrong, one too many: the groups that are there are not missed


@pytest.mark.slow
def test_the_number_of_classes_does_not_depend_on_the_seed():
    """Ten seeds on each of ten sets: the parts held out are the same, and so is the maximum found."""
    for r in range(10):
        choices, _ = planted(np.random.default_rng([25, r]), 60, 8, THREE, THIRDS)
        fits = [select_classes(choices, most=4, seed=seed)[0] for seed in range(10)]
        assert len({fit.classes for fit in fits}) == 1
        assert max(fit.log_likelihood for fit in fits) - min(fit.log_likelihood for fit in fits) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tastes", "shares", "rate"),
    [(TASTES[:1], np.ones(1), 0.9), (TASTES, SHARES, 0.9), (THREE, THIRDS, 0.75)],
    ids=["one", "two", "three"],
)
def test_the_number_of_classes_over_many_sets(tastes, shares, rate):
    """40 sets each of 100 choosers with 12 picks, against rates measured once (false alarm: 1 in 10,000).

    Where the number is wrong it is mostly one too many. It ends as
    soon as both rates are clear; what all 40 sets would find with probability 0.99 is found as often.
    """
    least = max(bounds(40, rate, 2e-4)[0], 21)
    wrong, few = Rate(40 - least, 40, low=1 - rate), Rate(2, 40, low=0.005)
    for found in chosen(tastes, shares, 40, 100, 12, len(shares) + 1):
        wrong.add(found != len(shares))
        few.add(found < len(shares))
        if wrong.ended and few.ended:
            break
    assert wrong.passed
    assert few.passed
