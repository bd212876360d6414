"""Plans by the rule that a log's picks follow, with contexts, and with the options of forecasts."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from helpers.logged import loop_log
from recurate import forecast, plan
from recurate.core.errors import InputError
from recurate.log.candidates import as_candidates
from recurate.log.schema import as_log, write_log
from recurate.rules import GAUSSIAN, NO_NOISE, Rule
from recurate.theory.forecast import predict
from recurate.theory.setting import Setting

pytestmark = pytest.mark.usefixtures("few_replicates")

BEST = Rule(4, noise=NO_NOISE)
GRID = {"rounds": 3, "k": [2, 8], "real_fraction": [0.0, 0.3]}
OPTIONS = [
    {},
    {"rule": "thurstone"},
    {"noise": "none", "lapse": 0.2},
    {"keep": 2},
    {"rule": "luce", "temperature": 0.5},
    {"then": [2, (3, [1.0])], "efficacy": 0.7, "accumulate": True},
]


@pytest.mark.parametrize(
    ("contexts", "each", "mode"),
    [(1, 400, "one"), (10, 40, "pooled"), (2, 500, "each")],
    ids=["one", "thin", "thick"],
)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "none")
def test_every_setting_is_its_forecast(contexts, each, mode, options):
    """The plan's numbers are those of a forecast with the same options, contexts included."""
    log = loop_log(BEST, rounds=1, contexts=contexts, each=each, spread=2.0)
    given = {**options, **({"temperature": [options["temperature"]]} if "temperature" in options else {})}
    found = plan(log, **GRID, kl=0.8, **given)
    c = found.setting.choice
    same = forecast(log, rounds=3, k=c.k, real_fraction=c.real_fraction, **options)
    last = same.trajectory.values
    assert same.contexts.split()[0] == mode
    assert found.setting.exact
    assert found.setting.rewards[0] == pytest.approx(last("mean_reward")[-1], rel=1e-12)
    assert found.setting.kl == pytest.approx(last("kl_to_reference")[-1], rel=1e-9)
    assert found.setting.kl <= 0.8
    assert found.error < 0.05
    if "lapse" not in options:
        return  # one rule is enough for the other objective
    nash = plan(log, **GRID, maximise="nash", **given).setting
    again = forecast(log, rounds=3, k=nash.choice.k, real_fraction=nash.choice.real_fraction, **options)
    expected = np.log(again.trajectory.values("mean_exp_reward")[-1])
    assert nash.objective == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_levels_of_contexts_keep_their_variance(shift):
    """Selection within prompts leaves Var of the levels, 8.25 of 9.25, as it is, wherever rewards lie."""
    rng = np.random.default_rng(12)
    levels = np.repeat(np.tile(np.arange(10.0), 40), 8)
    candidates = as_candidates(
        shift + levels + rng.normal(size=levels.size), contexts=np.repeat(np.arange(400), 8)
    )
    found = plan(candidates, rounds=4, k=[2, 32], real_fraction=[0.0], refine=False, rule="best")
    for o in found.outcomes:
        assert 8.25 / 9.25 - 0.05 < o.variance < 1.0
    assert found.best.choice.k == 32
    assert abs(found.best.variance - 8.25 / 9.25) < 0.05


def test_shares_of_groups_within_contexts_are_the_forecasts():
    rng = np.random.default_rng(5)
    rewards = rng.normal(size=(1200, 2))
    rewards[:, 1] -= 0.5 * rewards[:, 0]
    contexts = np.repeat(np.arange(40), 30)
    candidates = as_candidates(
        rewards + contexts[:, None] / 10, contexts=contexts, groups=np.where(rewards[:, 0] > 0, "up", "down")
    )
    found = plan(candidates, **GRID, floor=0.3, refine=False, weights=[(0.3, 0.7), (0.7, 0.3)])
    c = found.best.choice
    same = forecast(
        candidates, rounds=3, k=c.k, real_fraction=c.real_fraction, weights=c.weights
    ).trajectory  # fmt: skip
    assert found.groups == ("down", "up")
    shares = [same.values("share", group=g)[-1] for g in ("down", "up")]
    np.testing.assert_allclose(found.best.shares, shares, rtol=1e-9)
    assert min(found.best.shares) >= 0.3
    assert any("limits, survivors and phase diagrams are left out" in w for w in found.warnings)
    assert found.ends is None


def test_real_data_within_contexts_are_the_forecasts():
    rng = np.random.default_rng(6)
    contexts = np.repeat(np.arange(40), 30)
    candidates = as_candidates(rng.normal(size=1200) + contexts / 10, contexts=contexts)
    real = as_candidates(rng.normal(-0.5, 1, size=1200) + contexts / 10, contexts=contexts)
    found = plan(candidates, **GRID | {"real_fraction": [0.3]}, reference=real)
    c = found.setting.choice
    same = forecast(candidates, rounds=3, k=c.k, real_fraction=c.real_fraction, reference=real).trajectory
    assert c.real_fraction == 0.3
    assert found.setting.rewards[0] == pytest.approx(same.values("mean_reward")[-1], rel=1e-9)
    with pytest.raises(InputError, match="leave out --kl"):
        plan(candidates, **GRID, reference=real, kl=1.0)


def test_many_thick_contexts_are_planned_on_a_part_of_them():
    rng = np.random.default_rng(7)
    contexts = np.repeat(np.arange(30), 500)
    candidates = as_candidates(rng.normal(size=15_000) + contexts / 10, contexts=contexts)
    found = plan(candidates, rounds=3, k=[2, 8], real_fraction=[0.3], rule="best", refine=False)
    same = forecast(candidates, rounds=3, k=8, real_fraction=0.3, rule="best")
    assert same.contexts == "each"
    assert found.best.rewards[0] == pytest.approx(same.trajectory.values("mean_reward")[-1], rel=1e-9)
    assert found.error < 0.2
    with pytest.raises(InputError, match="--rounds 10"):
        plan(candidates, rounds=None, k=[2], real_fraction=[0.3])


def test_the_logs_own_k_is_tried_and_marked():
    log = loop_log(Rule(5, noise=NO_NOISE), rounds=1, k=5, contexts=1, each=500)
    found = plan(log, rounds=2, real_fraction=[0.0])
    assert found.log_k == 5
    assert {2, 3, 4, 5, 6, 8, 12, 16, 32} <= {o.choice.k for o in found.outcomes}
    assert found.own.choice.k == 5
    assert found.own.exact
    assert found.facts["log_k"] == 5
    assert [row[0] for row in found.sections[1].table] == ["K", "32", "5*"]
    best = plan(log, rounds=2, real_fraction=[0.0], k=[2])
    assert best.best.choice.k == 5
    assert best.summary.startswith("K = 5 (the log's), real fraction 0")


def test_keeping_several_divides_the_cost_and_needs_larger_slates():
    log = loop_log(Rule(8, noise=NO_NOISE, keep=4), rounds=1, k=8, contexts=1, each=800)
    found = plan(log, rounds=2, real_fraction=[0.0])
    assert min(o.choice.k for o in found.outcomes) > 4
    assert found.own.cost == 8 * 400 * 2 / 4
    with pytest.raises(InputError, match="4 of each slate are kept"):
        plan(log, rounds=2, k=[2])


def test_limits_of_other_rules():
    rewards = np.random.default_rng(8).normal(size=240)
    found = plan(rewards, rounds=None, k=[4], real_fraction=[0.3], rule="best", refine=False)
    long = forecast(rewards, rounds=200, k=4, real_fraction=0.3, rule="best").trajectory
    assert found.best.settles
    assert found.best.rewards[0] == pytest.approx(long.values("mean_reward")[-1], rel=1e-6)


@pytest.mark.parametrize(("contexts", "each"), [(1, 900), (10, 40), (2, 500)], ids=["one", "thin", "thick"])
@pytest.mark.parametrize(
    ("option", "values"), [("top", [0.1, 0.3]), ("threshold", [-0.5, 0.5])], ids=["top", "threshold"]
)
def test_levels_and_shares_kept_are_chosen_in_place_of_k(contexts, each, option, values):
    log = loop_log(BEST, rounds=1, contexts=contexts, each=each, spread=1.0)
    grid = {"rounds": 3, "real_fraction": [0.2, 0.5], "kl": 0.5, "refine": False}
    if option == "threshold" and each < 500:
        with pytest.raises(InputError, match="a threshold applies to rewards themselves"):
            plan(log, **grid, threshold=values)
        return
    found = plan(log, **grid, **{option: values})
    assert {o.choice.k for o in found.outcomes} == set(values)
    last = {}
    for o in found.outcomes:
        c = o.choice
        same = forecast(log, rounds=3, real_fraction=c.real_fraction, **{option: c.k}).trajectory
        last[c] = same.values("mean_reward")[-1], same.values("kl_to_reference")[-1]
        assert o.rewards[0] == pytest.approx(last[c][0], rel=1e-3)
    kept = {c: mean for c, (mean, kl) in last.items() if kl <= 0.5}
    assert (found.best is None) == (not kept)
    if kept:
        assert found.best.choice == max(kept, key=kept.get)
        assert found.best.rewards[0] == pytest.approx(max(kept.values()), rel=1e-9)
    size = {"top": "fraction", "threshold": "level"}[option]
    assert set(found.facts["best" if kept else "closest"]["choice"]) == {
        size, "real_fraction", "weights", "temperature",
    }  # fmt: skip


def test_a_share_kept_costs_its_inverse_and_a_verifier_has_no_budget():
    rewards = np.random.default_rng(4).normal(size=600)
    found = plan(rewards, rounds=2, picks=50, top=0.25, real_fraction=[0.0], then=[2])
    assert found.best.cost == 50 / 0.25 * 2 * 2
    assert "share kept 0.25" in found.summary
    with pytest.raises(InputError, match="it has no budget"):
        plan(rewards, rounds=2, threshold=0.5, budget=1000)
    with pytest.raises(InputError, match="must lie in"):
        plan(rewards, rounds=2, top=[0.5, 1.5])
    with pytest.raises(InputError, match="nothing to choose"):
        plan(rewards, rounds=2, top=[])


def test_the_log_s_own_pool_rule_is_planned():
    rewards = np.random.default_rng(0).normal(size=1000)
    top = np.isin(np.arange(1000), np.argsort(-rewards)[:100])
    log = as_log(pa.table({"reward": rewards, "picked": top}), several=True)
    found = plan(log, rounds=2, real_fraction=[0.3])
    same = forecast(log, rounds=2, real_fraction=0.3)
    assert found.log_k == 0.1
    assert found.best.rewards[0] == pytest.approx(same.trajectory.values("mean_reward")[-1], rel=1e-12)


def test_the_setting_is_forecast_round_by_round():
    log = loop_log(BEST, rounds=1, contexts=1, each=800)
    table = log.table.append_column("length", pa.array(log.reward_matrix()[:, 0] ** 2))
    given = {"track": "length", "tail": True, "seed": 3}
    found = plan(as_log(table), rounds=4, k=[4, 8], real_fraction=[0.0, 0.1], rule="luce", **given)
    c = found.best.choice
    same = forecast(
        as_log(table), rounds=4, k=c.k, real_fraction=c.real_fraction, rule="luce", **given
    ).trajectory
    assert found.forecast.trajectory.rows == same.rows
    assert same.values("mean:length").size == 5
    assert any(row.source == "fitted tail" for row in same.rows)
    other = plan(
        as_log(table), rounds=4, k=[4, 8], real_fraction=[0.0, 0.1], rule="luce", **given | {"seed": 4}
    )
    assert other.forecast.trajectory.rows != same.rows
    assert other.best == found.best
    assert "effective support" in " ".join(found.warnings)
    for option in ("track", "tail"):
        with pytest.raises(InputError, match="round by round"):
            plan(as_log(table), rounds=None, **{option: given[option]})


def test_a_renewed_plan_starts_from_the_last_round():
    log = loop_log(BEST, rounds=3, contexts=1, each=800)
    last = log.select(round=2)
    first = as_candidates(log.select(round=0).reward_matrix()[:, 0])
    found = plan(log, **GRID, renew=True, accumulate=True, rule="luce")
    c = found.setting.choice
    rewards = last.reward_matrix()[:, 0]
    setting = Setting(Rule(c.k), real_fraction=c.real_fraction, rounds=3, accumulate=True, first=2)
    same = predict(as_candidates(rewards), setting, reference=first).trajectory
    assert found.setting.rewards[0] == pytest.approx(same.values("mean_reward")[-1], rel=1e-9)
    assert found.setting.kl == pytest.approx(same.values("kl_to_reference")[-1], rel=1e-9)
    with pytest.raises(InputError, match="too few rounds"):
        plan(log.select(round=0), **GRID, renew=True)
    with pytest.raises(InputError, match="rounds of a log"):
        plan(rewards, **GRID, renew=True)


def test_rules_without_slates_are_refused():
    rewards = np.random.default_rng(0).normal(size=1000)
    top = np.isin(np.arange(1000), np.argsort(-rewards)[:100])
    log = as_log(pa.table({"reward": rewards, "picked": top}), several=True)
    with pytest.raises(InputError, match="this rule has no slates"):
        plan(log, rounds=2, k=[2, 4])
    found = plan(log, rounds=2, k=[2, 4], rule="best")
    assert found.ruling.rule.noise == NO_NOISE
    with pytest.raises(InputError, match="accumulates"):
        plan(rewards, rounds=None, accumulate=True)
    with pytest.raises(InputError, match="as a number"):
        plan(rewards, rounds=2, efficacy="fit")


def test_temperatures_to_try_mean_luces_rule():
    log = loop_log(BEST, rounds=1, contexts=1, each=400)
    found = plan(log, rounds=2, k=[4], real_fraction=[0.0], temperature=[0.5, 1.0])
    assert {o.choice.temperature for o in found.outcomes} == {0.5, 1.0}
    assert found.ruling.rule == Rule(4, 0.5)
    given = plan(log, rounds=2, k=[2], real_fraction=[0.0], rule=Rule(3, 0.2, GAUSSIAN))
    assert given.best.choice.temperature == 0.2


def test_the_first_line_states_the_rule(tmp_path, recurate_here):
    write_log(loop_log(BEST, rounds=1, contexts=1, each=400), tmp_path / "log.parquet")
    done = recurate_here("plan", "log.parquet", "--rounds", 2, "--k", 2, "--real-fraction", 0)
    assert done.returncode == 0, done.stderr
    said = "picks follow best of 4 (the best was picked in all 100 slates)"
    assert done.stdout.splitlines()[0] == f"rule: {said}"
    facts = json.loads((tmp_path / "log-plan" / "plan.json").read_text())
    assert facts["rule"]["statement"] == said
    assert facts["at_log_k"]["choice"]["k"] == 4
    every = recurate_here(
        "plan", "log.parquet", "--rounds", 2, "--k", 2, "--real-fraction", 0, "--rule", "luce",
        "--lapse", 0.1, "--keep", 1, "--then", 2, "--accumulate", "--efficacy", 0.5, "--context", "context",
    )  # fmt: skip
    assert every.returncode == 0, every.stderr
    assert every.stdout.startswith("rule: Luce's rule at temperature 1, one of 4, with 10.0 % of slates")
