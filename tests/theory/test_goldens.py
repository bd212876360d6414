"""Values to 20 digits from independent arithmetic (see tests/goldens)."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from helpers.paths import GOLDENS
from recurate import forecast
from recurate.metrics.estimates import kl_atoms
from recurate.rules import GAUSSIAN, NO_NOISE, Rule
from recurate.theory.population import Population
from recurate.theory.setting import Setting

KERNEL = json.loads((GOLDENS / "kernel.json").read_text())["kernel"]
TRAJECTORIES = json.loads((GOLDENS / "trajectories.json").read_text())


def floats(values: list[str]) -> np.ndarray:
    return np.array(values, dtype=float)


@pytest.mark.parametrize("case", KERNEL, ids=lambda c: f"{c['name']}-K{c['K']}")
def test_luce_multiplier(case):
    multiplier = Rule(float(case["K"])).multiplier(floats(case["r"]), floats(case["p"]))
    np.testing.assert_allclose(multiplier, floats(case["luce"]), rtol=1e-13)


@pytest.mark.parametrize("name", ["thurstone_sigma1", "best_of_k"])
@pytest.mark.parametrize(
    "case", [c for c in KERNEL if c["K"] != "inf"], ids=lambda c: f"{c['name']}-K{c['K']}"
)
def test_other_noises(case, name):
    noise = GAUSSIAN if name == "thurstone_sigma1" else NO_NOISE
    multiplier = Rule(float(case["K"]), noise=noise).multiplier(floats(case["r"]), floats(case["p"]))
    np.testing.assert_allclose(multiplier, floats(case[name]), rtol=1e-13)


@pytest.mark.parametrize("case", TRAJECTORIES, ids=lambda c: c["name"])
def test_trajectory(case):
    real_fraction = 0.0 if case["lam"] is None else 1 / (1 + float(case["lam"]))
    reference = floats(case.get("p_ref") or case["p0"])
    population = Population(
        np.array(case["rewards"], float).T,
        law=floats(case["p0"]),
        reference=reference,
        weights=floats(case["weights"]),
    )
    rule = Rule(float(case["K"]))
    laws = list(population.play(Setting(rule, real_fraction=real_fraction, rounds=case["rounds"])))
    np.testing.assert_allclose(laws, np.array(case["p"], float), rtol=1e-12)
    found = [kl_atoms(law, reference) for law in laws]
    np.testing.assert_allclose(found, floats(case["kl_to_ref"]), rtol=1e-10, atol=1e-14)
    exponentials = np.exp(np.array(case["rewards"], float))
    golden = np.array(case["expected_exp_reward"], float).reshape(len(laws), -1)
    np.testing.assert_allclose([exponentials @ law for law in laws], golden, rtol=1e-10)


@pytest.mark.parametrize("case", [c for c in TRAJECTORIES if "p_ref" not in c], ids=lambda c: c["name"])
def test_the_verb_gives_the_same(case):
    real_fraction = 0.0 if case["lam"] is None else 1 / (1 + float(case["lam"]))
    k = float(case["K"])
    result = forecast(
        np.array(case["rewards"], float).T,
        law=floats(case["p0"]),
        k=k if math.isinf(k) else int(k),
        weights=floats(case["weights"]),
        real_fraction=real_fraction,
        rounds=case["rounds"],
    )
    golden = np.array(case["expected_exp_reward"], float).reshape(case["rounds"] + 1, -1)
    for i, name in enumerate(sorted({r.reward for r in result.trajectory.rows if r.reward})):
        found = result.trajectory.values("mean_exp_reward", reward=name)
        np.testing.assert_allclose(found, golden[:, i], rtol=1e-10)
    np.testing.assert_allclose(
        result.trajectory.values("kl_to_reference"), floats(case["kl_to_ref"]), rtol=1e-10, atol=1e-14
    )
