"""Forecasts by the rule that a log's picks follow, and by options that change parts of it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from helpers.logged import LATTICE, laws_of, loop_log
from helpers.paths import refused
from recurate import forecast
from recurate.core.errors import InputError
from recurate.log.schema import as_log, write_log
from recurate.rules import GAUSSIAN, GUMBEL, NO_NOISE, Rule, Threshold, TopFraction
from recurate.verbs.forecast.ruling import ruling_of

BEST = Rule(4, noise=NO_NOISE)
FEW = pytest.mark.usefixtures("few_replicates")
SAID = "picks follow best of 4 (the best was picked in all 5,000 slates)"


@pytest.fixture(scope="module")
def best():
    return loop_log(BEST)


@pytest.mark.parametrize(("contexts", "each", "banded"), [(1000, 8, 1), (1, 4000, 2)])
def test_a_best_of_four_log_agrees_with_its_own_later_rounds(contexts, each, banded):
    """No option is given: the exact law and the log's rounds lie in the bands, where there are any."""
    found = forecast(loop_log(BEST, rounds=3, contexts=contexts, each=each), rounds=2, seed=1)
    assert found.setting.rule == BEST
    assert found.contexts == ("one" if contexts == 1 else "pooled residuals")
    key = ("mean_reward", "reward", None)
    rows = [r for r in found.trajectory.rows if r.key == key and r.source == "forecast"]
    measured = found.trajectory.values("mean_reward", source="measured")
    exact = [law @ LATTICE for law in laws_of(BEST, 2)]
    assert [r.round for r in rows if r.lower is not None] == list(range(banded + 1))
    for row in rows[: banded + 1]:
        assert row.lower <= exact[row.round] <= row.upper
        assert row.lower <= measured[row.round] <= row.upper
    assert rows[2].value == pytest.approx(measured[2], abs=0.03)
    luce = laws_of(Rule(4), 2)[2] @ LATTICE
    assert abs(luce - measured[2]) > 0.5


@pytest.mark.parametrize(
    ("truth", "k"),
    [
        (Rule(4, 0.5), 4),
        (Rule(4, 0.5, lapse=0.2), 4),
        (Rule(8, 0.5, keep=2), 8),
        (Rule(8, noise=NO_NOISE, keep=2), 8),
        (Rule(4, 0.3, GAUSSIAN), 4),
    ],
)
@FEW
def test_forecasts_are_those_of_the_rule_that_is_recovered(truth, k):
    log = loop_log(truth, k=k, rounds=2, contexts=60, each=40)
    found = forecast(log, rounds=2)
    assert found.setting.rule.sizes == truth.sizes
    same = forecast(log, rounds=2, rule=found.setting.rule)
    assert found.trajectory == same.trajectory
    law = laws_of(truth, 2)[2]
    assert found.trajectory.values("mean_reward")[2] == pytest.approx(law @ LATTICE, abs=0.1)


@FEW
def test_forecasts_by_pools():
    rng = np.random.default_rng(0)
    rounds = np.repeat(np.arange(3), 1000)
    rewards = rng.normal(0.3 * rounds, 1)
    pool = {"round": rounds, "reward": rewards}
    passed = forecast(as_log(pa.table(pool | {"picked": rewards > 0.5}), several=True), rounds=2)
    assert passed.setting.rule == Threshold(rewards[rewards > 0.5].min())
    first = rewards[:1000]
    assert passed.trajectory.values("mean_reward")[1] == pytest.approx(first[first > 0.5].mean(), rel=1e-12)
    best = np.concatenate([np.argsort(-rewards[rounds == t])[:200] + 1000 * t for t in range(3)])
    top = forecast(
        as_log(pa.table(pool | {"picked": np.isin(np.arange(3000), best)}), several=True), rounds=2
    )
    assert top.setting.rule == TopFraction(0.2)
    assert top.trajectory.values("mean_reward")[1] == pytest.approx(np.sort(first)[-200:].mean(), rel=1e-12)


@FEW
def test_weights_of_several_rewards_are_the_picks():
    rng = np.random.default_rng(2)
    rewards = rng.normal(size=(2, 3000, 4))
    judge = rng.random(3000) < 0.3
    slots = Rule(4, 0.5).draw(np.where(judge[:, None], rewards[0], rewards[1]), rng)
    table = {
        "slate": np.repeat(np.arange(3000), 4), "reward_a": rewards[0].ravel(),
        "reward_b": rewards[1].ravel(), "picked": (np.arange(4) == slots[:, None]).ravel(),
    }  # fmt: skip
    log = as_log(pa.table(table))
    found = forecast(log, rounds=1)
    assert found.setting.weights == pytest.approx(found.ruling.weights)
    assert found.setting.weights[0] == pytest.approx(judge.mean(), abs=0.04)
    assert forecast(log, rounds=1, weights=[0.5, 0.5]).setting.weights == (0.5, 0.5)


@FEW
def test_rewards_per_prompt_are_best_of_as_many():
    log = loop_log(Rule(8), each=8, k=8, slates=False, picks=False, rounds=1)
    found = forecast(log, rounds=1)
    assert found.setting.rule == Rule(8, noise=NO_NOISE)
    assert found.lead.startswith("rule: no picks are logged; best of 8 is assumed")
    rewards = log.column("reward").reshape(-1, 8)
    assert found.trajectory.values("mean_reward")[1] == pytest.approx(rewards.max(axis=1).mean(), rel=1e-12)
    luce = forecast(log, rounds=1, rule="luce")
    assert luce.setting.rule == Rule(8)
    assert luce.lead.startswith(
        "rule: Luce's rule at temperature 1, one of 8, by --rule; no picks are logged"
    )


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "rule", "words"),
    [
        ({}, BEST, SAID),
        ({"k": 8}, Rule(8, noise=NO_NOISE), f"best of 8, by --k; {SAID}"),
        ({"keep": 2}, Rule(4, noise=NO_NOISE, keep=2), f"best 2 of 4, by --keep; {SAID}"),
        (
            {"lapse": 0.1},
            Rule(4, noise=NO_NOISE, lapse=0.1),
            f"best of 4, with 10.0 % of slates judged at random, by --lapse; {SAID}",
        ),
        (
            {"temperature": 0.5},
            Rule(4, 0.5),
            f"Luce's rule at temperature 0.5, one of 4, by --temperature; {SAID}",
        ),
        (
            {"rule": "thurstone", "temperature": 0.5, "k": 3},
            Rule(3, 0.5, GAUSSIAN),
            f"Thurstone's rule at temperature 0.5, one of 3, by --rule, --k and --temperature; {SAID}",
        ),
        ({"rule": "random"}, Rule(4, noise=NO_NOISE, lapse=1.0), f"a random one of 4, by --rule; {SAID}"),
        ({"rule": Rule(3, 0.2)}, Rule(3, 0.2), "Luce's rule at temperature 0.2, one of 3, as given"),
        (
            {"threshold": 1.0, "false_rejection": 0.1, "false_acceptance": 0.25},
            Threshold(1.0, false_rejection=0.1, false_acceptance=0.25),
            "a verifier that keeps every reward of at least 1, but rejects 10 % of these and accepts 25 % of "
            "the others, by --threshold, --false-rejection and --false-acceptance",
        ),
        (
            {"threshold": 1.0},
            Threshold(1.0),
            "a verifier that keeps every reward of at least 1, by --threshold",
        ),
        ({"top": 0.1}, TopFraction(0.1), "the best 10 % of each round's pool, by --top"),
    ],
)
@FEW
def test_options_override_part_by_part(best, options, rule, words):
    named = {name: options[name] for name in ("threshold", "top") if name in options}
    given = {name: value for name, value in options.items() if name not in named}
    found = ruling_of(best, {}, given, **named)
    assert found.rule == rule
    assert found.statement == words
    assert found.warnings == ()


@FEW
def test_a_temperature_that_nothing_tells_and_an_idle_one_are_named(best):
    found = ruling_of(best, {}, {"rule": "luce"})
    assert found.rule == Rule(4)
    assert found.statement == f"Luce's rule at temperature 1, one of 4, by --rule; {SAID}"
    (untold,) = found.warnings
    assert "the picks tell no temperature of this rule: 1 is used" in untold
    found = ruling_of(best, {}, {"noise": "none", "temperature": 2.0})
    assert found.rule == Rule(4, 2.0, NO_NOISE)
    (idle,) = found.warnings
    assert "--temperature changes no pick" in idle


@FEW
def test_a_family_has_the_temperature_that_the_picks_tell():
    log = loop_log(Rule(4, 0.5), rounds=1)
    told = ruling_of(log, {}, {})
    assert ruling_of(log, {}, {"rule": "luce"}).rule == told.rule
    thurstone = ruling_of(log, {}, {"rule": "thurstone"}).rule
    assert thurstone.noise == GAUSSIAN
    assert thurstone.temperature == 1 / told.followed.recovered.inverses["Thurstone's model"][0]
    assert ruling_of(log, {}, {"k": 9}).rule == Rule(9, told.rule.temperature)
    assert ruling_of(log, {}, {"rule": "best", "temperature": 1.0}).rule == BEST


@FEW
def test_parts_change_pools_into_slates():
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=1000)
    top = np.isin(np.arange(1000), np.argsort(-rewards)[:100])
    log = as_log(pa.table({"reward": rewards, "picked": top}), several=True)
    assert ruling_of(log, {}, {}).rule == TopFraction(0.1)
    assert ruling_of(log, {}, {"temperature": 0.5}).rule == TopFraction(0.1, 0.5, GUMBEL)
    assert ruling_of(log, {}, {"k": 6}).rule == Rule(6, noise=NO_NOISE)
    assert ruling_of(log, {}, {"rule": "luce"}).rule == Rule(4)


@FEW
def test_recorded_settings_come_before_the_picks(best):
    recorded = {"temperature": 0.7, "noise": "gaussian", "lapse": 0.1, "real_fraction": 0.2}
    found = ruling_of(best, recorded, {})
    assert found.rule == Rule(4, 0.7, GAUSSIAN, lapse=0.1)
    assert found.source == "settings"
    changed = ruling_of(best, recorded, {"noise": "gumbel", "k": 3})
    assert changed.rule == Rule(3, 0.7, lapse=0.1)
    assert changed.statement.endswith("by --k and --noise and the folder's settings")
    hotter = ruling_of(best, {"noise": "none"}, {"temperature": 2.0})  # best of K has no temperature
    assert hotter.rule == Rule(4, 2.0)
    assert hotter.warnings == ()
    idle = ruling_of(best, {"noise": "none"}, {"rule": "best", "temperature": 2.0})
    assert "--temperature changes no pick" in idle.warnings[0]


@FEW
def test_a_temperature_that_the_picks_do_not_tell_is_named_as_a_default():
    log = loop_log(Rule(8, 0.3, keep=2), rounds=1, k=8, contexts=1, each=800)
    found = ruling_of(log, {}, {"rule": "thurstone"})
    assert found.rule.temperature == 1
    assert any("tell no temperature of this rule: 1 is used" in w for w in found.warnings)
    assert ruling_of(log, {}, {"rule": "thurstone", "temperature": 0.5}).warnings == ()


@FEW
def test_a_default_is_called_a_default():
    rewards = np.random.default_rng(0).normal(size=(500, 4))
    worst = (np.arange(4) == rewards.argmin(axis=1)[:, None]).ravel()
    table = {"slate": np.repeat(np.arange(500), 4), "reward": rewards.ravel(), "picked": worst}
    found = forecast(as_log(pa.table(table)), rounds=1)
    assert found.setting.rule == Rule(4)
    assert found.lead.startswith("rule: Luce's rule at temperature 1, one of 4, by default; picks avoid")
    assert "--rule luce or --rule best decides" in found.warnings[0]
    assert "is used by default" in found.warnings[0]
    decided = forecast(as_log(pa.table(table)), rounds=1, rule="best")
    assert not any("by default" in w for w in decided.warnings)
    arrays = forecast(rewards[:, 0], rounds=1)
    assert arrays.lead.startswith("rule: Luce's rule at temperature 1, one of 4, by default")
    assert forecast(rewards[:, 0], rounds=1, k=8).lead == (
        "rule: Luce's rule at temperature 1, one of 8, by --k; the rest by default"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": "lucy"}, "did you mean 'luce'"),
        ({"rule": "luce", "noise": "none"}, "both name the family"),
        ({"rule": "random", "lapse": 0.5}, "leave out --lapse"),
        ({"rule": Rule(3), "k": 4}, "brings its own"),
        ({"rule": "luce", "top": 0.5}, "rule of their own"),
        ({"keep": 5}, "keep"),
    ],
)
@FEW
def test_contradictions_are_refused(best, options, words):
    with pytest.raises(InputError, match=words):
        forecast(best, rounds=1, **options)


# --- the command line -----------------------------------------------------------------------------


@FEW
def test_the_first_line_states_the_rule(tmp_path, recurate_here):
    write_log(loop_log(BEST, rounds=2), tmp_path / "log.parquet")
    said = SAID.replace("5,000", "2,000")
    done = recurate_here("forecast", "log.parquet", "--rounds", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"rule: {said}"
    facts = json.loads((tmp_path / "log-forecast" / "forecast.json").read_text())["rule"]
    assert facts["statement"] == said
    assert (facts["k"], facts["noise"], facts["source"], facts["options"]) == (4, "none", "picks", [])
    assert said in (tmp_path / "log-forecast" / "report.html").read_text()
    lines = recurate_here("forecast", "log.parquet", "--rounds", 1, "--rule", "luce", "--json")
    assert "replacing " in lines.stderr.splitlines()[0]
    assert lines.stderr.splitlines()[1] == f"rule: Luce's rule at temperature 1, one of 4, by --rule; {said}"
    assert all("quantity" in json.loads(line) for line in lines.stdout.splitlines())
    assert "did you mean 'best'" in refused(recurate_here("forecast", "log.parquet", "--rule", "bets"))
