"""Runs in which people picked: what was shown to them, and the rule that the forecast assumed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recurate import Rule
from recurate.choices.observed import Observed
from recurate.log.schema import Log, as_log
from recurate.verbs.audit.assumed import ROUNDS, judge_assumed, of_people, shown
from recurate.verbs.audit.declared import Declared, parse_assumed, parse_declared
from recurate.verbs.audit.findings import MISMATCH, NOTE, OK
from recurate.verbs.forecast.python import forecast

K = 3
RULE = "Luce's rule at temperature 0.5, one of 3"
ASSUMED = Declared(k=K, temperature=0.5, noise="gumbel", lapse=0.0)


def a_run(slates: int, temperature: float, *, shuffled: bool = True, chooser: str = "person 1") -> Log:
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(slates, K))
    if not shuffled:
        rewards = -np.sort(-rewards, axis=1)
    picked = (rewards / temperature + rng.gumbel(size=rewards.shape)).argmax(axis=1)
    table = {
        "slate": np.repeat(np.arange(slates), K), "slot": np.tile(np.arange(K), slates),
        "reward": rewards.ravel(), "picked": (np.arange(K) == picked[:, None]).ravel(),
        "chooser": [chooser] * (slates * K),
    }  # fmt: skip
    return as_log(pa.table(table))


def aspect(findings, name):
    return next(f for f in findings if f.aspect == name)


def test_people_who_follow_the_assumed_rule():
    findings, sentence = judge_assumed(a_run(500, 0.5), ASSUMED)
    assert sentence == f"The picks do not contradict the rule that the forecast assumed ({RULE})."
    assert {f.verdict for f in findings} == {NOTE}
    assert "not as assumed" not in "".join(f.evidence for f in findings)


def test_people_who_follow_another_rule_are_not_accused_and_the_forecast_moves():
    log = a_run(500, 2.0)
    findings, sentence = judge_assumed(log, ASSUMED)
    assert {f.verdict for f in findings} == {NOTE}
    assert aspect(findings, "temperature").evidence.startswith("not as assumed")
    assert "did not follow the rule that the forecast assumed" in sentence
    assert "temperature 2" in sentence
    ahead = forecast(log.column("reward"), rule=Rule(K, temperature=0.5), rounds=max(ROUNDS)).trajectory
    for t in ROUNDS:
        assert f"in place of {ahead.values('mean_reward')[t]:.4g} after {t} round" in sentence


def test_slates_that_the_rule_judged_say_nothing_of_people():
    assert judge_assumed(a_run(100, 2.0, chooser="rule"), ASSUMED) == ([], "")


def test_picks_that_are_marked_as_simulated_say_nothing_of_people():
    log = a_run(600, 0.5)
    simulated = log.column("slate") >= 400
    marked = Log(log.table.append_column("simulated", pa.array(simulated)), log.rewards)
    assert of_people(marked).table.num_rows == 400 * K
    people = Log(log.table.filter(pa.array(~simulated)), log.rewards)
    assert judge_assumed(marked, ASSUMED)[0] == judge_assumed(people, ASSUMED)[0]


@pytest.mark.parametrize(("shuffled", "verdict"), [(True, OK), (False, MISMATCH)])
def test_places_are_random(shuffled, verdict):
    log = a_run(200, 0.5, shuffled=shuffled)
    findings = shown(log, Observed.of(log), K)
    assert aspect(findings, "order of the candidates").verdict == verdict
    assert aspect(findings, "candidates per slate").verdict == OK


def test_few_slates_are_a_note():
    log = a_run(4, 0.5)
    assert aspect(shown(log, Observed.of(log), K), "order of the candidates").verdict == NOTE


def test_slates_of_k_but_for_candidates_that_look_alike():
    log = a_run(100, 0.5)
    alike = pa.array([None if row == 2 else s for row, s in enumerate(log.column("slate").tolist())])
    outside = log.table.set_column(log.table.column_names.index("slate"), "slate", alike.cast(pa.int64()))
    shy = Log(outside, log.rewards)
    found = aspect(shown(shy, Observed.of(shy), K), "candidates per slate")
    assert found.verdict == OK
    assert found.evidence.startswith("1 candidate was not shown")
    lost = Log(log.table.slice(1), log.rewards)  # a candidate is nowhere
    assert aspect(shown(lost, Observed.of(lost), K), "candidates per slate").verdict == MISMATCH
    assert aspect(shown(log, Observed.of(log), K - 1), "candidates per slate").verdict == MISMATCH


def test_what_a_configuration_assumes():
    raw = {
        "selection": {"by": "people", "k": 3, "temperature": 0.5, "people": {"deadline": 1.0}},
        "retraining": {"real_fraction": 0.5}, "rewards": [{"kind": "x"}],
    }  # fmt: skip
    assumed = parse_assumed(raw)
    assert assumed is not None
    assert (assumed.k, assumed.temperature, assumed.noise, assumed.real_fraction) == (3, 0.5, "gumbel", 0.5)
    assert parse_declared(raw) == Declared(real_fraction=0.5)
    assert parse_assumed({**raw, "selection": {"k": 3}}) is None
