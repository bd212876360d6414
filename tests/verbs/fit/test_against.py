"""Picks against Luce's rule in one place: gaps, repeats, and what each deviation does to the forecast."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import recurate
from helpers.commands import call
from helpers.exports import exported
from recurate import Choices, Rule
from recurate.choices.checks.consistency import consistency
from recurate.choices.checks.gaps import reward_gaps
from recurate.rules.places import Placed
from recurate.rules.slates import Slates
from recurate.verbs.fit.against import EFFECT, TITLE
from recurate.verbs.fit.consequences import ROUNDS, Consequence, Deviation, Pool, played

K = 4


def pool_of(rewards: np.ndarray, contexts: np.ndarray | None = None, k: int = K) -> Pool:
    return Pool(np.arange(len(rewards)), contexts, {float(k): 1.0}, "")


def effect(rewards: np.ndarray, rule: Any, judged: np.ndarray | None = None, **more: Any) -> Consequence:
    own = rewards[:, None] if judged is None else judged
    weights = (1 / own.shape[1],) * own.shape[1]
    found = played(Deviation("", "", rule, own, weights, rewards), pool_of(rewards, **more), rewards)
    assert not found.why, found.why
    return found


# --- the exact law --------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(2, 6))
def test_lapses_mix_luce_with_no_change(seed, lapse, k):
    """p' = (1 - e) p H + e p, so that every expectation is such a mixture; without lapses nothing differs."""
    rewards = np.random.default_rng(seed).normal(size=80) * 2
    found = effect(rewards, Rule(k, lapse=lapse), k=k)
    law = np.full(80, 1 / 80)
    kept = law * Rule(k).multiplier(rewards, law)
    mixed = (1 - lapse) * kept + lapse * law
    mean = float(mixed @ rewards)
    assert found.mean[0] == pytest.approx(mean, abs=1e-12)
    assert found.variance[0] == pytest.approx(float(mixed @ np.square(rewards - mean)), abs=1e-12)
    assert found.luce_mean[0] == pytest.approx(float(kept @ rewards), abs=1e-12)
    none = effect(rewards, Rule(k), k=k)
    assert none.mean == none.luce_mean
    assert none.variance == none.luce_variance


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_equal_places_and_equal_groups_are_no_deviation(seed):
    rewards = np.random.default_rng(seed).normal(size=100)
    for found in (
        effect(rewards, Placed((0.3,) * K, K)),
        effect(rewards, Rule(K), np.column_stack([rewards, rewards + 1])),
    ):
        assert found.mean == pytest.approx(found.luce_mean, abs=1e-11)
        assert found.variance == pytest.approx(found.luce_variance, abs=1e-11)


def test_the_forecast_is_the_verb_s():
    rewards = np.random.default_rng(0).normal(size=400)
    found = effect(rewards, Rule(K, lapse=0.2))
    for values, lapse in ((found.mean, 0.2), (found.luce_mean, 0.0)):
        path = recurate.forecast(rewards, k=K, lapse=lapse, rounds=max(ROUNDS)).trajectory
        assert values == pytest.approx(path.values("mean_reward")[list(ROUNDS)], abs=1e-12)


def test_groups_are_the_verb_s_mixture():
    rewards = np.random.default_rng(0).normal(size=400)
    judged = np.column_stack([2 * rewards, -rewards])
    found = effect(rewards, Rule(K), judged)
    ahead = recurate.forecast(judged, k=K, weights=[0.5, 0.5], rounds=1)
    assert found.mean[0] == pytest.approx(float(ahead.law @ rewards), abs=1e-12)


@pytest.mark.parametrize("each", [5, 600])
def test_within_contexts_locations_do_not_change(each):
    """Contexts far apart: a loop within contexts changes the mean as if they were not."""
    rng = np.random.default_rng(0)
    contexts = np.repeat([f"c{i}" for i in range(1200 // each)], each)
    within = rng.normal(size=1200)
    shift = np.repeat(rng.normal(size=1200 // each) * 50, each)
    near, far = (effect(r, Rule(K, lapse=0.3), contexts=contexts) for r in (within, within + shift))
    gains = np.subtract(near.mean, within.mean()), np.subtract(far.mean, (within + shift).mean())
    np.testing.assert_allclose(*gains, atol=1e-9)
    assert (gains[0] > 0.1).all()


def test_a_context_of_one_candidate_says_why_nothing_was_computed():
    contexts = np.array(["a", "a", "b", *("c" * 7)])
    rewards = np.arange(10.0) % 3
    found = played(
        Deviation("", "", Rule(2), rewards[:, None], (1.0,), rewards), pool_of(rewards, contexts), rewards
    )
    assert "at least two candidates" in found.why
    assert found.mean == ()


def test_a_temperature_close_to_zero_says_why_nothing_was_computed():
    rewards = np.random.default_rng(0).normal(size=5000) * 1e6
    found = played(Deviation("", "", Rule(2), rewards[:, None], (1.0,), rewards), pool_of(rewards), rewards)
    assert "span too much" in found.why


# --- gaps and repeats -----------------------------------------------------------------------------


def test_gaps_of_luce_picks_follow_bradley_terry():
    """Pairs of a pick and another candidate, at 4 standard errors per bin: missed with probability 4e-4."""
    rng = np.random.default_rng(0)
    worth = rng.normal(size=(20_000, K)) * 2
    picked = (worth + rng.gumbel(size=worth.shape)).argmax(axis=1)
    found = reward_gaps(Choices.of(worth.reshape(-1, 1), k=K, picked=picked), worth.ravel())
    assert sum(g.pairs for g in found) == 20_000 * (K - 1)
    for gap in found:
        half = (gap.interval[1] - gap.interval[0]) / 2
        assert abs(gap.better - gap.luce) < 4 / 1.96 * half, gap
    assert found == sorted(found, key=lambda g: g.gap)


def test_consistency_by_hand():
    slates = Slates(np.array([0, 2, 4, 6], np.int64))
    chances = np.array([0.25, 0.75, 0.75, 0.25, 0.5, 0.5])
    items = np.array([7, 8, 8, 7, 1, 2])
    again = np.array([False, True, False])
    found = consistency(slates, chances, np.array([1, 2, 4]), items, np.array([0, 0, 1]), again)
    assert (found.pairs, found.same) == (1, 1)
    assert found.expected == pytest.approx(0.25**2 + 0.75**2)
    assert consistency(slates, chances, np.array([1, 2, 4]), items, np.arange(3), again) is None


def remembered(table: pa.Table) -> pa.Table:
    """Let people pick again what they picked first."""
    rows = table.to_pylist()
    first = {(r["chooser"], r["asked"]): r["item"] for r in rows if r["picked"] and not r["repeated"]}
    for row in rows:
        if row["repeated"]:
            row["picked"] = row["item"] == first[row["chooser"], row["asked"]]
    return pa.Table.from_pylist(rows)


def check_of(found: Any, name: str) -> Any:
    return next(c for c in found.checks if c.name == name)


def test_repeats_are_left_out_of_the_fit_and_seen_by_their_test():
    table = exported(800, repeats=0.4)
    plain = table.filter(pa.array([not row["repeated"] for row in table.to_pylist()]))
    honest, memory, without = (recurate.fit(t, groups=0) for t in (table, remembered(table), plain))
    assert honest.logit.coefficients == pytest.approx(without.logit.coefficients)
    assert memory.logit.coefficients == pytest.approx(without.logit.coefficients)
    pairs = sum(row["repeated"] for row in table.to_pylist()) // K
    assert honest.repeats.pairs == memory.repeats.pairs == pairs
    low, high = honest.repeats.interval
    assert low < honest.repeats.expected < high
    assert memory.repeats.share == 1
    assert check_of(honest, "repeats").corrected > 0.05
    assert check_of(memory, "repeats").corrected < 1e-6
    assert "only 0 pairs" in check_of(without, "repeats").why
    assert without.repeats is None


def test_items_with_repeats():
    rng = np.random.default_rng(0)
    rows = [
        {**row, "item": f"i{row['item'] % 30}", "shown": f"text {row['item'] % 30}"}
        for row in exported(400, repeats=0.4, checks=0.0, simulated=0.0).to_pylist()
    ]
    table = pa.Table.from_pylist(rows).drop_columns("reward")
    found = recurate.fit(table.take(pa.array(rng.permutation(table.num_rows))), model="items", groups=0)
    assert found.repeats.pairs > 100
    assert check_of(found, "repeats").p is not None
    assert found.facts["consequences"]["rows"][0]["deviation"] == "none"


# --- through the command line ---------------------------------------------------------------------


def fitted(tmp_path: Any, **how: Any) -> tuple[dict[str, Any], str]:
    parquet.write_table(exported(**how), tmp_path / "picks.parquet")
    done = call("fit", "picks.parquet", "--out", "fit", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "fit" / "fit.json").read_text(encoding="utf-8"))
    return facts, done.stdout


def row_of(facts: dict[str, Any], name: str) -> dict[str, Any]:
    (row,) = (r for r in facts["consequences"]["rows"] if r["deviation"] == name)
    return row


def test_luce_people(tmp_path):
    facts, said = fitted(tmp_path, slates=600)
    assert TITLE in said
    assert EFFECT in said
    assert "No deviation was found." in " ".join(said.split())
    assert [r["deviation"] for r in facts["consequences"]["rows"]] == ["none"]


def test_people_who_prefer_the_first_place(tmp_path):
    facts, said = fitted(tmp_path, slates=900, utility=lambda person, r: r + 0.9 * (np.arange(K) == 0))
    row = row_of(facts, "Position bias")
    own = np.random.default_rng(0).normal(size=4000)
    true = effect(own, Placed((0.9, 0, 0, 0), K))
    for t in range(len(ROUNDS)):  # rewards of another draw: the differences agree to a third
        assert row["mean"][t] - row["luce_mean"][t] == pytest.approx(
            true.mean[t] - true.luce_mean[t], rel=0.5
        )
    assert "Position bias" in said[said.index(EFFECT) :]


def test_people_who_lapse(tmp_path):
    facts, _ = fitted(tmp_path, slates=1500, utility=lambda person, r: 3 * r, lapse=0.12)
    row, lapse = row_of(facts, "Lapses"), facts["lapse"]["lapse"]
    start = facts["consequences"]["start"][0]
    assert row["mean"][0] - start == pytest.approx((1 - lapse) * (row["luce_mean"][0] - start), abs=1e-12)


def test_two_groups_of_people(tmp_path):
    facts, said = fitted(tmp_path, slates=900, utility=lambda person, r: r * (2.0 if person % 2 else -0.8))
    row = row_of(facts, "Preference groups")
    assert row["variance"][1] > row["luce_variance"][1]
    assert "2 groups, weights" in said


def test_fatigue_has_no_rule_and_says_so(tmp_path):
    table = exported(1200, repeats=0.0)
    rng = np.random.default_rng(1)
    reward = np.array(table.column("reward").to_pylist()).reshape(-1, K)
    slope = np.linspace(3.0, 0.2, len(reward))[:, None]
    picked = (slope * reward + rng.gumbel(size=reward.shape)).argmax(axis=1)
    flags = (np.arange(K) == picked[:, None]).ravel()
    table = table.set_column(table.column_names.index("picked"), "picked", pa.array(flags))
    parquet.write_table(table, tmp_path / "picks.parquet")
    done = call("fit", "picks.parquet", "--out", "fit", cwd=tmp_path)
    words = " ".join(done.stdout.split())
    assert "Drift over time: not computed, because the rule itself changes with time" in words
