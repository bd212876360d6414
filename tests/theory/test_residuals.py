"""Loops over contexts (prompts): thick, thin and mixed; the first round without bias."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recurate import forecast
from recurate.core.errors import InputError
from recurate.log.candidates import as_candidates
from recurate.rules import GAUSSIAN, NO_NOISE, Rule, Threshold
from recurate.theory.population import Population
from recurate.theory.residuals import PooledResiduals
from recurate.theory.setting import Setting, Stage

pytestmark = pytest.mark.usefixtures("few_replicates")


def quantiles(n: int) -> np.ndarray:
    from scipy.special import ndtri

    return ndtri((np.arange(n) + 0.5) / n)


def skewed(seed: int, contexts: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rewards 0 or 3 (P = 0.9) plus a context's own level: residuals of J = 5 are far from normal."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(contexts), each)
    return 3.0 * (rng.random(codes.size) < 0.9) + rng.normal(size=contexts)[codes], codes


def true_gain(k: int) -> float:
    """Return the first gain of :func:`skewed`, by the exact law of one context."""
    population = Population([0.0, 3.0], law=[0.1, 0.9])
    return float(
        (population.step(population.law, Setting(Rule(k))) - population.law) @ population.rewards[:, 0]
    )


def test_the_first_round_is_unbiased_where_the_residual_model_is_not():
    """Four standard errors of the per-context estimates over 6,000 contexts (false alarms: 6e-5)."""
    rewards, codes = skewed(0, 6000, 5)
    result = forecast(rewards, k=4, rounds=2, context=codes)
    gain = np.diff(result.trajectory.values("mean_reward"))[0]
    assert gain == pytest.approx(true_gain(4), abs=4 * 0.6 / math.sqrt(6000))
    residuals = PooledResiduals.of(rewards[:, None], codes, rewards.size, 500)
    population = Population(residuals.residuals)
    pooled = (population.step(population.law, Setting(Rule(4))) - population.law) @ residuals.residuals[:, 0]
    assert abs(pooled - true_gain(4)) > 0.06, "otherwise there was nothing to mend"
    assert any("used for round 1" in w for w in result.warnings)


def test_the_correction_reaches_every_quantity():
    rewards, codes = skewed(1, 4000, 5)
    high = np.where(rewards > rewards.mean(), "high", "low")
    kwargs = {"k": 4, "context": codes, "group": high, "track": {"copy": rewards}}
    found = forecast(rewards, rounds=3, **kwargs).trajectory
    np.testing.assert_allclose(found.values("mean:copy"), found.values("mean_reward"), rtol=1e-9)
    # E e^r of the first picks by drawn slates without replacement, from each context's own candidates.
    rng = np.random.default_rng(2)
    table = rewards.reshape(-1, 5)
    picks = []
    for _ in range(20):
        slates = np.take_along_axis(table, rng.random(table.shape).argsort(axis=1)[:, :4], axis=1)
        picks.append(slates[np.arange(len(slates)), Rule(4).draw(slates, rng)])
    picks = np.concatenate(picks)
    error = 4.5 * np.exp(picks).std() / math.sqrt(picks.size)
    assert found.values("mean_exp_reward")[1] == pytest.approx(np.exp(picks).mean(), abs=error)
    above = (picks > rewards.mean()).mean()
    assert found.values("share", group="high")[1] == pytest.approx(above, abs=0.01)


def test_real_data_dilute_the_correction():
    """With real data the first picks' correction enters by 1 - rho; with real data alone, not at all."""
    rewards, codes = skewed(3, 3000, 5)

    def first(rho):
        return forecast(rewards, k=4, rounds=1, context=codes, real_fraction=rho).trajectory.values(
            "mean_reward"
        )

    start, pure = first(0.0)
    _, half = first(0.5)
    assert half - start == pytest.approx((pure - start) / 2, rel=1e-9)
    assert first(1.0)[1] == pytest.approx(start, rel=1e-9)


@pytest.mark.parametrize(
    "rule", [Rule(3), Rule(3, 2.0, GAUSSIAN), Rule(3, noise=NO_NOISE), Rule({2: 0.5, 4: 0.5})]
)
def test_the_first_round_of_any_rule(rule):
    """The gain within contexts of normal residuals equals that of one normal population."""
    rng = np.random.default_rng(4)
    codes = np.repeat(np.arange(8000), 5)
    rewards = rng.normal(size=codes.size) + 3 * rng.normal(size=8000)[codes]
    gain = np.diff(forecast(rewards, rule=rule, rounds=1, context=codes).trajectory.values("mean_reward"))[0]
    population = Population(quantiles(20_000))
    exact = population.step(population.law, Setting(rule)) @ population.rewards[:, 0]
    assert gain == pytest.approx(exact, abs=4 * 1.0 / math.sqrt(8000))


def test_thick_and_thin_contexts_each_in_their_way():
    """One prompt with 3,000 candidates of spread 3, and 600 prompts with 6 of spread 1."""
    rng = np.random.default_rng(5)
    thick, thin = 3 * rng.normal(size=3000), rng.normal(size=3600)
    codes = np.r_[np.zeros(3000, int), 1 + np.repeat(np.arange(600), 6)]
    rewards = np.r_[thick, thin + 5 * rng.normal(size=600)[codes[3000:] - 1]]
    track = {"thick": (codes == 0) * rewards, "thin": (codes > 0) * rewards}
    result = forecast(rewards, k=4, rounds=3, context=codes, track=track)
    assert result.contexts == "each and pooled"
    assert any("contexts are thin (from 6" in w for w in result.warnings)
    share = 3000 / 6600
    alone = forecast(thick, k=4, rounds=3).trajectory.values("mean_reward")
    np.testing.assert_allclose(result.trajectory.values("mean:thick"), share * alone, rtol=1e-9)
    others = forecast(rewards[3000:], k=4, rounds=3, context=codes[3000:]).trajectory.values("mean_reward")
    np.testing.assert_allclose(result.trajectory.values("mean:thin"), (1 - share) * others, rtol=1e-9)
    total = result.trajectory.values("mean_exp_reward")
    parts = [
        forecast(part, k=4, rounds=3, context=own).trajectory.values("mean_exp_reward")
        for part, own in ((thick, None), (rewards[3000:], codes[3000:]))
    ]
    np.testing.assert_allclose(total, share * parts[0] + (1 - share) * parts[1], rtol=1e-9)


def test_contexts_too_small_for_a_slate_rest_on_the_model_and_say_so():
    rng = np.random.default_rng(6)
    codes = np.r_[np.repeat(np.arange(300), 3), 300 + np.repeat(np.arange(300), 8)]
    result = forecast(rng.normal(size=codes.size), k=4, rounds=1, context=codes)
    assert any("fewer candidates than a slate" in w for w in result.warnings)
    assert np.diff(result.trajectory.values("mean_reward"))[0] == pytest.approx(0.60, abs=0.06)


def test_without_an_unbiased_round_the_model_stands_alone():
    rng = np.random.default_rng(7)
    codes = np.repeat(np.arange(400), 4)
    rewards = rng.normal(size=1600)
    for settings in ({"k": math.inf}, {"k": 4, "keep": 2}, {"k": 8}, {"k": 4, "then": [Stage(Rule(2))]}):
        result = forecast(rewards, rounds=1, context=codes, **settings)
        assert np.isfinite(result.trajectory.values("mean_reward")).all()
        assert not any("unbiased" in w for w in result.warnings)


def test_several_rewards_within_contexts():
    rng = np.random.default_rng(8)
    codes = np.repeat(np.arange(5000), 5)
    rewards = rng.normal(size=(codes.size, 2)) + 2 * rng.normal(size=(5000, 2))[codes]
    result = forecast(rewards, k=4, rounds=1, context=codes, weights=[0.3, 0.7])
    population = Population(quantiles(5000))
    exact = population.step(population.law, Setting(Rule(4))) @ population.rewards[:, 0]
    for name, weight in (("reward_0", 0.3), ("reward_1", 0.7)):
        gain = np.diff(result.trajectory.values("mean_reward", reward=name))[0]
        assert gain == pytest.approx(weight * exact, abs=4 * 0.6 / math.sqrt(5000))


def test_a_reference_within_thick_and_thin_contexts():
    rng = np.random.default_rng(9)
    codes = np.r_[np.zeros(600, int), 1 + np.repeat(np.arange(50), 6)]
    candidates = as_candidates(rng.normal(size=codes.size), contexts=codes)
    reference = as_candidates(rng.normal(size=codes.size) + 2.0, contexts=codes)
    result = forecast(candidates, k=4, rounds=1, real_fraction=1.0, reference=reference)
    assert result.trajectory.values("mean_reward")[1] == pytest.approx(reference.rewards.mean(), abs=0.15)


def test_real_data_in_thin_contexts_are_what_they_are():
    """With real data alone the model's law is theirs: 4 standard errors over 20,000 contexts of 3."""
    rng = np.random.default_rng(10)
    codes = np.repeat(np.arange(20_000), 3)
    candidates = as_candidates(rng.normal(size=codes.size), contexts=codes)
    for shift in (0.0, 1.5):
        real = rng.normal(size=codes.size) + shift
        reference = as_candidates(real, contexts=codes, track={"square": real**2})
        own = as_candidates(
            candidates.rewards, contexts=codes, track={"square": candidates.rewards[:, 0] ** 2}
        )
        result = forecast(own, k=4, rounds=1, real_fraction=1.0, reference=reference).trajectory
        assert result.values("mean_reward")[1] == pytest.approx(shift, abs=4 * 2 / math.sqrt(codes.size))
        exact = math.exp(shift + 0.5)
        assert result.values("mean_exp_reward")[1] == pytest.approx(exact, rel=0.05)


def test_residuals_and_effective_laws_are_transposes():
    rng = np.random.default_rng(11)
    codes = np.r_[np.zeros(700, int), 1 + np.repeat(np.arange(30), 4)]
    both = np.r_[codes, codes[::2]]
    rewards = rng.normal(size=(both.size, 2))
    residuals = PooledResiduals.of(rewards, both, codes.size, 500)
    law, column = rng.dirichlet(np.ones(both.size)), rng.normal(size=(both.size, 1))
    initial = np.r_[np.full(codes.size, 1 / codes.size), np.zeros(both.size - codes.size)]
    # The same functional both ways: deviations under the law, plus the thin contexts' initial mean.
    direct = law @ residuals.deviations(column)[:, 0] + (initial * residuals.thin) @ column[:, 0]
    assert residuals.effective_law(law, initial) @ column[:, 0] == pytest.approx(direct, rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": Threshold(0.0)}, "a threshold applies to rewards themselves"),
        ({"then": [Stage(Threshold(0.0))]}, "a threshold applies to rewards themselves"),
        ({"law": np.r_[2.0, np.ones(399)], "k": 8}, "must have equal masses"),
    ],
)
def test_what_residuals_cannot_tell_is_refused(settings, message):
    rewards, codes = np.random.default_rng(12).normal(size=400), np.repeat(np.arange(100), 4)
    with pytest.raises(InputError, match=message):
        forecast(rewards, context=codes, rounds=1, **settings)


def test_a_threshold_in_thick_contexts_and_masses_by_context_are_fine():
    rng = np.random.default_rng(13)
    codes = np.repeat([0, 1], 600)
    result = forecast(rng.normal(size=1200), context=codes, rounds=1, rule=Threshold(0.0))
    assert result.trajectory.values("mean_reward")[1] == pytest.approx(math.sqrt(2 / math.pi), abs=0.1)
    thin = np.repeat(np.arange(100), 4)
    by_context = np.repeat(rng.random(100), 4)
    forecast(rng.normal(size=400), context=thin, rounds=1, law=by_context)
