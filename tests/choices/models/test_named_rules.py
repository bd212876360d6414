"""Named rules: their likelihoods sum to one and are those of the rules, and steps name what picks follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from recurate.choices.checks.residuals import Residuals, p_of, shape_columns
from recurate.choices.models.named_rules import Model, Picked, climb, explain, ranks
from recurate.choices.observed import Observed
from recurate.log.schema import as_log
from recurate.rules import GAUSSIAN, GUMBEL, NO_NOISE, Rule


def picked(rewards: np.ndarray, kept: np.ndarray) -> Picked:
    """Return slates (slates, K) of one reward with a mask of what is kept, as an audit reads them."""
    n, k = rewards.shape
    columns = {"slate": np.arange(n).repeat(k), "slot": np.tile(np.arange(k), n), "reward": rewards.ravel()}
    log = as_log(pa.table(columns | {"picked": kept.ravel()}), several=True)
    return Picked.of(Observed.of(log), int(kept[0].sum()), 10**6)


def drawn(rng, u: np.ndarray, keep: int = 1, noise=None) -> np.ndarray:
    noisy = u + (rng.gumbel(size=u.shape) if noise is None else noise(size=u.shape))
    return noisy >= np.sort(noisy, axis=1)[:, [-keep]]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(200, 4))
    return picked(rewards, drawn(rng, rewards))


KINDS = {
    "luce": {},
    "gaussian": {"noise": GAUSSIAN},
    "best": {"noise": NO_NOISE, "lapse": True},
    "lapses": {"lapse": True},
    "top": {"cut": ("top", 2)},
    "nucleus": {"cut": ("nucleus", 0.8)},
    "pair": {"cut": ("pair", 2)},
    "places": {"placed": True},
    "drift": {"drift": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_probabilities_of_a_slate_sum_to_one(data, kind):
    model = Model(data, data.rewards, **KINDS[kind])
    theta = model.start() + 0.1
    chances = model.chances(theta)
    # The quadrature over Gaussian noise is exact to 1e-5.
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, atol=1e-5 if kind == "gaussian" else 1e-12)
    own = np.take_along_axis(chances, data.kept, axis=1)[:, 0]
    np.testing.assert_allclose(np.exp(model.logs(theta)), own, atol=1e-12)


@pytest.mark.parametrize("keep", [1, 2, 4])
@pytest.mark.parametrize("noise", [GUMBEL, GAUSSIAN])
def test_likelihoods_of_sets_are_those_of_the_rule(noise, keep):
    rng = np.random.default_rng(1)
    rewards = rng.normal(size=(50, 6))
    kept = drawn(rng, 2 * rewards, keep)
    own = picked(rewards, kept)
    model = Model(own, own.rewards, noise)
    slots = np.nonzero(kept)[1].reshape(-1, keep)
    wanted = Rule(6, 1 / 1.5, noise, keep).log_likelihood(rewards, slots, ordered=False)
    np.testing.assert_allclose(model.logs(np.array([1.5 * own.unit])), wanted, atol=1e-4)


def test_the_estimate_is_that_of_a_grid(data):
    fit = climb(Model(data, data.rewards), np.array([1.0]))
    grid = np.linspace(0.3, 2.5, 2201)
    values = [fit.model.logs(np.array([b])).sum() for b in grid]
    assert fit.theta[0] == pytest.approx(grid[int(np.argmax(values))], abs=1e-3)
    assert fit.value >= max(values) - 1e-6
    numeric = (fit.model.logs(fit.theta + 0.01) + fit.model.logs(fit.theta - 0.01)).sum() - 2 * fit.value
    assert fit.errors[0] == pytest.approx(0.01 / np.sqrt(-numeric), rel=0.2), "the outer product, 200 slates"


def test_ranks_are_mid_ranks():
    worth = np.array([[1.0, 5.0, 5.0, 0.0], [2.0, 1.0, 0.0, 9.0]])
    shown = np.array([[True] * 4, [True, True, True, False]])
    np.testing.assert_allclose(ranks(worth, shown), [[-1 / 6, 1 / 3, 1 / 3, -0.5], [0.5, 0.0, -0.5, 0.0]])
    long = np.random.default_rng(2).permutation(20)[None].astype(float)
    np.testing.assert_allclose(ranks(long, np.ones((1, 20), bool)), long / 19 - 0.5)


def zscores(r: np.ndarray) -> np.ndarray:
    return (r - r.mean(axis=1, keepdims=True)) / r.std(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("utility", "keep", "name"),
    [
        (zscores, 1, "z-scores"),
        (lambda r: np.where(r >= np.sort(r, axis=1)[:, [-2]], r, -np.inf), 1, "top-m"),
        (lambda r: np.clip(3 * r, -1, 1), 1, "clipped"),
        (lambda r: 2 * np.tanh(2 * r), 1, "squashed"),
        (lambda r: r + 0.6 * (np.arange(4) == 0), 2, "places"),
        (lambda r: r / np.linspace(2, 0.4, len(r))[:, None], 2, "within rounds"),
    ],
)
def test_steps_name_what_picks_follow(utility, keep, name):
    rng = np.random.default_rng(3)
    rewards = rng.normal(size=(3000, 4))
    own = picked(rewards, drawn(rng, utility(rewards), keep))
    steps = explain(climb(Model(own, own.rewards), np.array([1.0])))
    assert name in " ".join(step.name for step in steps)
    residuals = Residuals(steps[-1].fit)
    assert p_of(residuals.test(shape_columns(residuals.fit))) > 1e-4


@pytest.mark.parametrize("keep", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_residuals_of_a_true_rule_are_uniform(keep):
    """200 p-values are below 0.05 in 2 to 22 logs but for 1e-3 of the time; those of wrong rules all are."""
    rng = np.random.default_rng(4)
    low, wrong = 0, []
    for r in range(200):
        rewards = rng.normal(size=(150, 4))
        utility = rewards if r % 20 else 4 * np.sign(rewards)
        own = picked(rewards, drawn(rng, utility, keep))
        residuals = Residuals(climb(Model(own, own.rewards), np.array([1.0])))
        p = p_of(residuals.test(shape_columns(residuals.fit)))
        if r % 20:
            low += p < 0.05
        else:
            wrong.append(p)
    assert 1 <= low <= 22
    assert np.mean(np.array(wrong) < 0.05) > 0.7


def test_some_slates_of_a_model(data):
    model = Model(data, data.rewards, scale=np.linspace(1, 2, 200))
    some = np.array([3, 10, 11])
    np.testing.assert_allclose(model.take(some).logs(np.ones(1)), model.logs(np.ones(1))[some])
    assert replace(model, scale=None).take(some).scale is None
