"""Populations on a few nodes: every expectation as if all atoms had been pushed every round."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recurate import forecast
from recurate.rules import GAUSSIAN, NO_NOISE, Rule
from recurate.theory import loop_model
from recurate.theory.chebyshev import Compressed, compressible, rate_of
from recurate.theory.population import Population
from recurate.theory.setting import Setting, Stage

pytestmark = pytest.mark.usefixtures("few_replicates")

ROUNDS = 100
SETTINGS = {
    "pure curation": Setting(Rule(4), (1.0,), 0.0, ROUNDS),
    "real data": Setting(Rule(4), (1.0,), 0.3, ROUNDS),
    "large K": Setting(Rule(1000), (1.0,), 0.05, ROUNDS),
    "K = infinity": Setting(Rule(math.inf), (1.0,), 0.4, ROUNDS),
    "temperature, lapse, two of five": Setting(Rule(5, 2.0, keep=2, lapse=0.1), (1.0,), 0.1, ROUNDS),
    "K = infinity, a lapse": Setting(Rule(math.inf, lapse=0.3), (1.0,), 0.0, ROUNDS),
    "K = infinity for some": Setting(Rule({2: 0.5, math.inf: 0.5}), (1.0,), 0.1, ROUNDS),
    "a distribution over K": Setting(Rule({1: 0.3, 8: 0.7}), (1.0,), 0.0, ROUNDS),
    "two stages": Setting(Rule(2), (1.0,), 0.2, 50, then=(Stage(Rule(3)),)),
    "accumulating, half-way": Setting(Rule(4), (1.0,), 0.1, ROUNDS, accumulate=True, efficacy=0.5),
}


def pool(seed: int, n: int = 30_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rewards with duplicates, masses with zeros, and a column that depends on the reward."""
    rng = np.random.default_rng(seed)
    rewards = np.round(rng.normal(size=n), 3)
    law = rng.random(n) * (rng.random(n) > 0.1)
    return rewards, law / law.sum(), np.sin(3 * rewards) + rng.normal(size=n)


@pytest.mark.parametrize("own_reference", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_expectation_equals_that_of_pushed_atoms(name, own_reference):
    setting = SETTINGS[name]
    rewards, law, column = pool(1)
    reference = np.roll(law, 1234) * (rewards < 1.5) if own_reference else law
    reference = reference / reference.sum()
    population = Population(rewards, law=law, reference=reference if own_reference else None)
    nodes = Compressed.of(
        rewards / setting.temperature,
        population.law,
        population.reference if own_reference else None,
        rate=rate_of(setting),
        columns={"column": column},
    )
    exps, node_exps = np.exp(rewards / setting.temperature), np.exp(nodes.utilities)
    for law_t, densities in zip(population.play(setting), nodes.play(setting), strict=True):
        assert nodes.law(densities) @ (nodes.utilities * setting.temperature) == pytest.approx(
            law_t @ rewards, rel=1e-8
        )
        for power in (1, 2):
            assert nodes.law(densities) @ node_exps**power == pytest.approx(law_t @ exps**power, rel=1e-8)
        assert nodes.mean(densities, "column") == pytest.approx(law_t @ column, rel=1e-8, abs=1e-10)
    found = sum(
        p * nodes.at_atoms(d) for p, d in zip([population.law, population.reference], densities, strict=False)
    )
    np.testing.assert_allclose(found, law_t, rtol=1e-6, atol=1e-15)


def test_too_few_nodes_are_noticed():
    """The check can fail: nodes made for 10 rounds are not good for 100."""
    rewards, law, _ = pool(2)
    setting = SETTINGS["pure curation"]
    nodes = Compressed.of(rewards, law, rate=12.0)
    *_, densities = nodes.play(setting)
    *_, last = Population(rewards, law=law).play(setting)
    assert abs(nodes.utilities @ nodes.law(densities) / (last @ rewards) - 1) > 1e-8


def test_many_loops_at_once_are_as_many_forecasts():
    rewards, law, _ = pool(3)
    k, rho = np.array([1, 2, 4, 64, math.inf]), np.array([0.0, 0.5, 0.1, 0.9, 0.3])
    nodes = Compressed.of(rewards, law, rate=22.0)
    *_, densities = nodes.play(Setting(Rule(), rounds=20), k=k, real_fraction=rho)
    found = nodes.utilities @ nodes.law(densities)
    for i in range(k.size):
        *_, last = Population(rewards, law=law).play(Setting(Rule(k[i]), real_fraction=rho[i], rounds=20))
        assert found[i] == pytest.approx(last @ rewards, rel=1e-10)


@pytest.mark.parametrize("span", [0.0, 1e-9, 30.0, 3000.0])
def test_any_range(span):
    rng = np.random.default_rng(4)
    rewards = span * rng.random(20_000)
    setting = Setting(Rule(4), (1.0,), 0.2, 12)
    nodes = Compressed.of(rewards, np.full(20_000, 1 / 20_000), rate=rate_of(setting))
    for law_t, densities in zip(Population(rewards).play(setting), nodes.play(setting), strict=True):
        assert nodes.utilities @ nodes.law(densities) == pytest.approx(law_t @ rewards, rel=1e-8, abs=1e-12)


def test_what_can_be_compressed():
    assert compressible(SETTINGS["two stages"])
    assert not compressible(Setting(Rule(4, noise=GAUSSIAN), (1.0,), 0.0, 1))
    assert not compressible(Setting(Rule(4, noise=NO_NOISE), (1.0,), 0.0, 1))
    assert not compressible(Setting(Rule(4), (1.0,), 0.0, 1, then=(Stage(Rule(4, 2.0)),)))


@pytest.mark.parametrize("settings", [{}, {"real_fraction": 0.3}, {"accumulate": True, "efficacy": 0.7}])
def test_a_forecast_is_the_same_either_way(settings, monkeypatch):
    """Groups, tracked columns, unequal masses; all quantities of all rounds."""
    rewards, law, column = pool(5, 25_000)
    groups = np.where(column > 0.5, "a", np.where(rewards > 0, "b", "c"))

    def run():
        return forecast(rewards, law=law, group=groups, track={"x": column}, rounds=8, k=8, **settings)

    fast = run()
    monkeypatch.setattr(loop_model, "MANY", 10**9)
    slow = run()
    np.testing.assert_allclose(fast.law, slow.law, rtol=1e-7, atol=1e-18)
    assert len(fast.trajectory.rows) == len(slow.trajectory.rows)
    for a, b in zip(fast.trajectory.rows, slow.trajectory.rows, strict=True):
        assert (a.round, a.key) == (b.round, b.key)
        assert a.value == pytest.approx(b.value, rel=1e-7, abs=1e-12), (a, b)


@pytest.mark.parametrize(("k", "rounds"), [(10**6, 55), (math.inf, 30)])
@pytest.mark.parametrize("mass", [0.0, 1e-300])
def test_atoms_without_mass_far_above_change_nothing(k, rounds, mass):
    rng = np.random.default_rng(6)
    rewards, law = np.r_[rng.normal(size=24_999), 50.0], np.r_[np.ones(24_999), mass]
    result = forecast(rewards, law=law, k=k, rounds=rounds)
    for quantity in ("mean_reward", "effective_support", "kl_to_reference"):
        assert np.isfinite(result.trajectory.values(quantity)).all()
    assert np.isfinite(result.law).all()
    if mass == 0:
        assert result.law[-1] == 0
        plain = forecast(rewards[:-1], k=k, rounds=rounds)
        np.testing.assert_allclose(
            result.trajectory.values("mean_reward"), plain.trajectory.values("mean_reward"), rtol=1e-9
        )
