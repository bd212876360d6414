"""What stands behind a forecast: statements checked on it, a tail beyond its support."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from recurate import forecast
from recurate.log.trajectory import TAIL
from recurate.rules import Rule, TopFraction
from recurate.theory.bounds import plain_bounds
from recurate.theory.setting import Stage

pytestmark = pytest.mark.usefixtures("few_replicates")

POOL = np.random.default_rng(0).normal(size=800)


def verdicts(**settings):
    return {
        b.name: b for b in forecast(settings.pop("rewards", POOL), bounds=True, rounds=4, **settings).bounds
    }


def test_the_statements_of_a_plain_loop_hold():
    found = verdicts(k=4)
    for name in ("reward gain (Lemma 2.2)", "monotone collapse (Thm 2.1, 2.2)"):
        assert found[name].verdict == "holds"
        assert found[name].slack >= 0
    assert "a K < 1" in found["divergence (Thm 2.4)"].why
    assert verdicts(k=4, real_fraction=0.9)["divergence (Thm 2.4)"].verdict == "holds"
    assert verdicts(k=math.inf)["KL-regularised step"].verdict == "holds"


@pytest.mark.parametrize(
    "settings",
    [
        {"k": 4, "temperature": 0.5},
        {"k": {2: 0.5, 4: 0.5}},
        {"k": 4, "noise": "gaussian"},
        {"k": 4, "noise": "none", "real_fraction": 0.9},
        {"k": 4, "keep": 2, "real_fraction": 0.9},
        {"k": 2, "then": [Stage(Rule(3))], "real_fraction": 0.9},
        {"k": 4, "accumulate": True},
        {"k": 4, "efficacy": 0.5, "real_fraction": 0.9},
        {"k": 4, "lapse": 0.2, "real_fraction": 0.8},
        {"k": 4, "reference": POOL[:300] + 1, "real_fraction": 0.9},
        {"rewards": np.random.default_rng(1).normal(size=(500, 2)), "k": math.inf, "weights": [0.3, 0.7]},
        {"rewards": 5000 * POOL, "k": 4},
    ],
)
def test_no_statement_is_violated_by_a_forecast(settings):
    found = verdicts(**settings).values()
    assert {b.verdict for b in found} <= {"holds", "does not apply"}
    assert all(b.why for b in found if b.verdict == "does not apply")


def test_statements_are_about_slates_of_one_population():
    assert not verdicts(rule=TopFraction(0.5))
    assert not verdicts(context=np.repeat(np.arange(100), 8))


def test_bounds_are_plain_json():
    found = plain_bounds(forecast(POOL, k=4, rounds=2, bounds=True).bounds)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {"name", "statement", "source", "verdict", "why", "value", "slack"} <= set(found[0])


def test_a_tail_continues_only_beyond_the_support():
    plain = forecast(POOL, k=4, rounds=8)
    assert not plain.trajectory.where(TAIL).rows
    result = forecast(POOL, k=4, rounds=8, tail=True)
    rows = result.trajectory.where(TAIL).rows
    assert {r.round for r in rows} == set(range(result.support_ends, 9))
    assert {r.quantity for r in rows} <= {"mean_reward", "mean_exp_reward"}
    assert any("a fitted tail continues" in w for w in result.warnings)
    assert [r for r in result.trajectory.rows if r.source != TAIL] == list(plain.trajectory.rows)
    early = forecast(POOL, k=4, rounds=1, tail=True)
    assert not early.trajectory.where(TAIL).rows


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"rewards": np.random.default_rng(2).normal(size=(400, 2))}, "needs one reward"),
        ({"rewards": POOL[:300]}, "no tail could be fitted"),
        ({"rewards": POOL, "reference": POOL, "real_fraction": 0.01, "k": 64}, "needs the model's own law"),
    ],
)
def test_where_no_tail_can_be_had_it_is_said(settings, why):
    result = forecast(settings.pop("rewards"), tail=True, **({"k": 16, "rounds": 8} | settings))
    assert result.support_ends is not None
    assert not result.trajectory.where(TAIL).rows
    assert any(why in w for w in result.warnings)


def test_keeping_and_lapses_reach_the_statements():
    gain = "reward gain (Lemma 2.2)"
    assert "2 are kept" in verdicts(k=4, keep=2)[gain].why
    second = verdicts(k=4, then=[Stage(Rule(2, lapse=0.3))])[gain].why
    assert "a share 0.3 of the picks is random" in second
    # W <= K / keep: with four of eight kept the bound is that of K = 2.
    ratio = verdicts(k=8, keep=4, real_fraction=0.6)["density ratio (Thm 2.4)"]
    assert ratio.verdict == "holds"
    assert ratio.value == pytest.approx(1 / (1 - (0.4 / 0.6) * (8 / 4 - 1)))
    assert verdicts(k=8, real_fraction=0.6)["density ratio (Thm 2.4)"].verdict == "does not apply"
