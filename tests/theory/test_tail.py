"""The fitted tail: recovered where it is true, and how much it helps forecasts, by simulation."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import genpareto

from recurate.core.errors import InputError
from recurate.rules.rule import Rule
from recurate.theory import tail
from recurate.theory.population import Population
from recurate.theory.setting import Setting
from recurate.theory.tail import fit_tail

pytestmark = pytest.mark.usefixtures("few_replicates")

RULE, ROUNDS, SEEDS, POOL = Rule(4), 14, 40, 4000

# Quantile functions of the survival probability, and draws.
LAWS = {
    "gaussian": (lambda p: -ndtri(p), lambda rng, n: rng.normal(size=n)),
    "exponential": (lambda p: -0.5 * np.log(p), lambda rng, n: 0.5 * rng.exponential(size=n)),
    "uniform": (lambda p: 60 * (1 - p), lambda rng, n: 60 * rng.random(n)),
}


def mean_rewards(rewards, law=None):
    population = Population(rewards[:, None], law=law)
    laws = list(population.play(Setting(RULE, rounds=ROUNDS)))
    return np.array([p @ rewards for p in laws]), np.array([1 / (p @ p) for p in laws])


def truth(name):
    """From 60,000 quantiles, a third of them geometrically down to survival 1e-25."""
    edges = np.r_[np.linspace(1, 0.01, 40_000), np.geomspace(0.01, 1e-25, 20_000)[1:]]
    middles = (edges[1:] + edges[:-1]) / 2
    return mean_rewards(LAWS[name][0](middles), -np.diff(edges))[0]


@functools.cache
def errors(name):
    """Return absolute errors of the plain and the extended pool, and the plain one's effective support.

    Shapes (SEEDS, ROUNDS + 1).
    """
    exact = truth(name)
    plain, extended, support = [], [], []
    for seed in range(SEEDS):
        rewards = LAWS[name][1](np.random.default_rng(seed), POOL)
        means, effective = mean_rewards(rewards)
        plain.append(np.abs(means - exact))
        support.append(effective)
        extended.append(np.abs(mean_rewards(*fit_tail(rewards).extended(rewards))[0] - exact))
    return np.array(plain), np.array(extended), np.array(support)


@pytest.mark.parametrize(("name", "ratio", "wins"), [("gaussian", 0.9, 0.65), ("exponential", 0.65, 0.75)])
def test_closer_to_the_truth_beyond_the_support(name, ratio, wins):
    """The mean error over rounds 1 to 14 with effective support below 100: its median over seeds falls."""
    plain, extended, support = errors(name)
    beyond = support < 100
    before, after = ((e * beyond).sum(axis=1) / beyond.sum(axis=1) for e in (plain, extended))
    print(f"{name}: median error {np.median(before):.3f} -> {np.median(after):.3f}, ", end="")
    print(f"better in {np.mean(after < before):.0%} of {SEEDS} pools")
    assert np.median(after) < ratio * np.median(before)
    assert np.mean(after < before) > wins
    # Single rounds: the further beyond, the more it helps.
    for low, high, most in ((10, 100, 1.15), (3, 10, 0.9), (0, 3, 0.85)):
        some = (support >= low) & (support < high)
        print(f"  support {low}-{high}: {np.median(plain[some]):.3f} -> {np.median(extended[some]):.3f}")
        assert np.median(extended[some]) < most * np.median(plain[some])


def test_no_use_where_the_tail_just_ends():
    """Uniform rewards: the largest of the pool is as good a guess, and both are right to 0.1 %."""
    plain, extended, support = errors("uniform")
    beyond = support < 100
    print(f"uniform on (0, 60): {np.median(plain[beyond]):.3f} -> {np.median(extended[beyond]):.3f}")
    assert np.median(extended[beyond]) < 0.001 * 60
    assert np.median(plain[beyond]) < 0.001 * 60


def test_a_wrong_tail_is_worse_than_none():
    """So the comparison above can fail."""
    exact = truth("exponential")
    plain, _, support = errors("exponential")
    wrong = []
    for seed in range(8):
        rewards = LAWS["exponential"][1](np.random.default_rng(seed), POOL)
        fitted = fit_tail(rewards)
        fitted = dataclasses.replace(fitted, scale=2.5 * fitted.scale)
        wrong.append(np.abs(mean_rewards(*fitted.extended(rewards))[0] - exact))
    beyond = support[:8] < 100
    assert np.median(np.array(wrong)[beyond]) > 2 * np.median(plain[:8][beyond])


def test_forecasts_within_the_support_hardly_change():
    rewards = np.random.default_rng(1).normal(size=POOL)
    means, support = mean_rewards(rewards)
    extended, _ = mean_rewards(*fit_tail(rewards).extended(rewards))
    assert np.abs(extended - means)[support > 1000].max() < 0.005


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.3])
def test_shape_and_scale_are_recovered(shape):
    """150 pools of 400 exceedances: the spread is as stated, the bias below half of it."""
    found = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        pool = np.r_[-rng.random(3600), genpareto.rvs(shape, scale=2.0, size=400, random_state=rng)]
        fitted = fit_tail(pool, share=0.0999)
        found.append((fitted.shape, fitted.scale, fitted.shape_error, fitted.scale_error))
    shapes, scales, shape_errors, scale_errors = np.array(found).T
    assert abs(shapes.mean() - shape) < 0.5 * shapes.std()
    assert abs(scales.mean() - 2.0) < 0.5 * scales.std()
    # Stated errors are asymptotic; the prior steadies shapes near 0 a little beyond them.
    assert 0.75 < shapes.std() / shape_errors.mean() < 1.25
    assert 0.75 < scales.std() / scale_errors.mean() < 1.25


def test_masses_count():
    """Draws from a wide law, reweighted to a narrow one, have the narrow one's tail (4 standard errors)."""
    rng = np.random.default_rng(0)
    rewards = 1.5 * rng.exponential(size=20_000)
    law = np.exp(-rewards / 1.0) / np.exp(-rewards / 1.5)
    fitted = fit_tail(rewards, law)
    assert abs(fitted.shape) < 4 * fitted.shape_error
    assert abs(fitted.scale - 1.0) < 4 * fitted.scale_error
    assert abs(fit_tail(rewards).scale - 1.5) < 4 * fit_tail(rewards).scale_error
    assert fitted.count < fitted.weights.size
    # Atoms without mass are nothing.
    with_more = fit_tail(np.r_[rewards, 1e6], np.r_[law, 0.0])
    assert with_more.shape == fitted.shape


def test_body_unchanged_and_masses_exact():
    rng = np.random.default_rng(2)
    rewards, law = rng.normal(size=6000), rng.uniform(0.5, 1.5, 6000)
    law /= law.sum()
    fitted = fit_tail(rewards, law, share=0.05)
    new, masses = fitted.extended(rewards, law)
    body = rewards <= fitted.threshold
    assert fitted.share == pytest.approx(0.05, abs=4e-4)
    np.testing.assert_array_equal(new[: body.sum()], rewards[body])
    np.testing.assert_allclose(masses[: body.sum()], law[body], rtol=1e-14)
    top, heaps = new[body.sum() :], masses[body.sum() :]
    assert masses.sum() == pytest.approx(1, abs=1e-14)
    assert np.all(np.diff(top) > 0)
    assert np.all(heaps > 0)
    assert top[0] > fitted.threshold
    assert heaps[-1] == pytest.approx(1e-15, rel=0.03)
    # Survival and mean of the atoms are those of the fitted law.
    survival = genpareto.sf(top - fitted.threshold, fitted.shape, scale=fitted.scale) * fitted.share
    own = np.cumsum(heaps[::-1])[::-1]
    np.testing.assert_allclose(own - heaps / 2, survival, rtol=1e-3, atol=2e-15)
    mean = fitted.threshold + fitted.scale / (1 - fitted.shape)
    assert heaps @ top == pytest.approx(fitted.share * mean, rel=1e-9)


def test_the_atoms_are_fine_enough(monkeypatch):
    """Ten times as many change means after 14 rounds by less than a hundredth of the fit's error."""
    rewards = LAWS["exponential"][1](np.random.default_rng(3), POOL)
    fitted = fit_tail(rewards)
    coarse, _ = mean_rewards(*fitted.extended(rewards))
    monkeypatch.setattr(tail, "RATIO", 0.002)
    fine, _ = mean_rewards(*fitted.extended(rewards))
    typical = np.median(errors("exponential")[1], axis=0)
    assert np.all(np.abs(coarse - fine)[1:] < 0.01 * typical[1:])


def test_heavy_tails_are_flagged():
    rng = np.random.default_rng(4)
    heavy = fit_tail(rng.pareto(3.0, size=5000))
    assert heavy.shape > 0
    assert not heavy.finite_exp
    assert heavy.finite_mean
    assert heavy.end == np.inf
    light = fit_tail(rng.random(5000))
    assert light.finite_exp
    assert light.end == pytest.approx(1, abs=0.01)
    assert np.isnan(light.shape_error)
    hopeless = fit_tail(rng.pareto(0.5, size=5000))
    assert not hopeless.finite_mean
    with pytest.raises(InputError, match="mean reward is infinite"):
        hopeless.extended(rng.pareto(0.5, size=5000))


@pytest.mark.parametrize(
    ("rewards", "options", "message"),
    [
        (np.arange(300.0), {}, "at least 100"),
        (np.zeros(5000), {}, "at least 100"),
        (np.repeat([0.0, 1.0], 3000), {}, "at least 100"),
        (np.arange(5000.0), {"share": 0.01}, "at least 100"),
        (np.arange(5000.0), {"share": 1.5}, "between 0 and 1"),
        (np.arange(5000.0), {"law": np.zeros(5000)}, "finite"),
        (np.zeros((5000, 2)), {}, "one reward"),
        (np.r_[np.arange(5000.0), np.nan], {}, "finite"),
    ],
)
def test_wrong_input_is_refused(rewards, options, message):
    with pytest.raises(InputError, match=message):
        fit_tail(rewards, **options)
