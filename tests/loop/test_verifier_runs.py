"""Runs whose picks a verifier makes, with errors: log, training sets, forecast, resuming, audit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tomli_w
from scipy.stats import binom

import recurate
from helpers.paths import refused
from helpers.tiny import GAUSSIANS, contents, merged
from recurate.core.errors import InputError
from recurate.log.trajectory import Trajectory
from recurate.loop.config import parse_config, write_config
from recurate.loop.contexts import ContextSettings
from recurate.loop.driver import resume, run
from recurate.loop.environment import prepare
from recurate.loop.run_folder import RunFolder
from recurate.rules import GAUSSIAN, NO_NOISE, Threshold
from recurate.theory.forecast import split_log

SELECTION = {
    "threshold": -1.5, "false_rejection": 0.1, "false_acceptance": 0.2, "picks": 400, "slates": 900,
}  # fmt: skip
RATES = {"false_rejection": 0.1, "false_acceptance": 0.2}
EAST = [{"kind": "distance", "name": "east", "centre": [2.0, 0.0]}]
VERIFIED = {**GAUSSIANS, "generator": {"kind": "kde"}, "rewards": EAST, "selection": SELECTION}
ALARM = 5e-7  # of each of few tests, on both sides


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "verified"
    run(parse_config(VERIFIED), folder)
    return folder


def consistent(count: int, n: int, rate: float) -> bool:
    return binom.ppf(ALARM, n, rate) <= count <= binom.ppf(1 - ALARM, n, rate)


def test_verdicts_err_at_the_stated_rates_and_are_in_no_slate(finished):
    store = RunFolder.open(finished)
    for t in range(3):
        log = store.log(t).select(source="model")
        good = log.column("east") >= -1.5
        picked = log.column("picked")
        assert log.table.num_rows == 900
        assert log.table.column("slate").null_count == 900
        np.testing.assert_allclose(log.column("propensity"), np.where(good, 0.9, 0.2), rtol=1e-12)
        assert consistent(picked[good].sum(), good.sum(), 0.9)
        assert consistent(picked[~good].sum(), (~good).sum(), 0.2)
        assert set(np.unique(log.column("chooser"))) == {"east"}


def test_the_model_is_trained_on_what_was_accepted(finished):
    """At most ``picks`` of the accepted ones, the first ones, and real data in proportion to them."""
    store = RunFolder.open(finished)
    for t in (1, 2):
        accepted = int(store.log(t - 1).select(source="model").column("picked").sum())
        counts = store.counts(t)
        assert counts["trained_on_picks"] == min(accepted, 400)
        assert counts["trained_on_real"] == round(counts["trained_on_picks"] / 3)
    assert store.counts(1)["trained_on_picks"] < 400 == store.counts(2)["trained_on_picks"]


def test_the_forecast_is_the_exact_law_of_the_verifier(finished, tmp_path, recurate_here):
    store, kept = RunFolder.open(finished), Trajectory.read(finished / "trajectory.parquet")
    candidates, reference = split_log(store.log(0), group="group")
    rule = Threshold(-1.5, **RATES)
    again = recurate.forecast(
        candidates, rule=rule, rounds=2, real_fraction=0.25, reference=reference
    ).trajectory
    np.testing.assert_allclose(kept.values("mean_reward"), again.values("mean_reward"), rtol=1e-12)
    assert any(row.lower is not None for row in kept.where("forecast", "mean_reward").rows)
    done = recurate_here("forecast", finished, "--group", "group", "--rounds", 2, "--out", tmp_path / "f")
    assert done.returncode == 0, done.stderr
    assert "rejects 10 % of these and accepts 20 % of the others, by the folder's settings" in " ".join(
        done.stdout.split()
    )
    told = Trajectory.read(tmp_path / "f" / "trajectory.parquet").values("mean_reward")
    np.testing.assert_allclose(told, kept.values("mean_reward"), rtol=1e-12)
    other = recurate_here("forecast", finished, "--rule", "luce", "--k", 4, "--rounds", 1)
    assert "Luce's rule" in other.stdout, "slates may be asked for in place of the folder's verifier"


def test_a_resumed_run_equals_an_uninterrupted_one(finished, tmp_path):
    longer = tmp_path / "short"
    run(parse_config(merged(VERIFIED, rounds=1)), longer)
    text = (longer / "config.toml").read_text()
    (longer / "config.toml").write_text(text.replace("rounds = 1", "rounds = 2"))
    resume(longer)
    assert contents(longer) == contents(finished)


def test_without_errors_it_is_the_threshold(tmp_path):
    """All that reaches the level and nothing else; weights draw the reward that judges each candidate."""
    rewards = [EAST[0] | {"weight": 0.75}, EAST[0] | {"name": "west", "centre": [-2.0, 0.0], "weight": 0.25}]
    selection = {"threshold": -1.5, "picks": 300}
    run(parse_config(VERIFIED | {"rewards": rewards, "selection": selection, "rounds": 1}), tmp_path / "out")
    log = RunFolder.open(tmp_path / "out").log(1).select(source="model")
    judge = log.column("chooser")
    judged = np.where(judge == "east", log.column("east"), log.column("west"))
    np.testing.assert_array_equal(log.column("picked"), judged >= -1.5)
    assert consistent((judge == "east").sum(), 300, 0.75)
    chance = 0.75 * (log.column("east") >= -1.5) + 0.25 * (log.column("west") >= -1.5)
    np.testing.assert_allclose(log.column("propensity"), np.maximum(chance, 1e-300), rtol=1e-12, atol=1e-300)


def test_the_audit_confirms_the_rates_and_refuses_others(finished, tmp_path, recurate_here):
    done = recurate_here("audit", finished, "--out", tmp_path / "a")
    facts = json.loads((tmp_path / "a" / "audit.json").read_text())
    verdicts = {f["aspect"]: f["verdict"] for f in facts["findings"]}
    assert verdicts["rule"] == "ok", done.stdout
    assert not facts["mismatch"]
    assert done.returncode == 0, done.stdout
    assert facts["rule"]["false_acceptance"] == 0.2
    assert facts["rule"]["statement"].endswith("as declared")
    for wrong in ("false_rejection = 0.2, false_acceptance = 0.2", "false_acceptance = 0.4", "lapse = 0.9"):
        text = f"threshold = -1.5, {wrong}"
        done = recurate_here("audit", finished, "--declared", text, "--out", tmp_path / "b")
        assert done.returncode == 1, done.stdout
    told = refused(recurate_here("audit", finished, "--declared", "false_acceptance = 0.4"))
    assert "error rates belong to a verifier" in told


def test_the_command_line_runs_it_and_reports_it(tmp_path, recurate_here):
    (tmp_path / "v.toml").write_text(tomli_w.dumps(VERIFIED | {"rounds": 1, "control": True}))
    done = recurate_here("run", "v.toml", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "fewer than picks = 400: the retraining set is smaller" in " ".join(done.stdout.split())
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a share of 0.1 of them is not, and 0.2 of the others is" in page
    control = json.loads((tmp_path / "out" / "rounds" / "001" / "contents.json").read_text())
    assert control["facts"]["trained_on_picks"] < 400


def test_a_round_without_accepted_candidates_is_refused(tmp_path, recurate_here):
    selection = {"threshold": 1.0, "picks": 50}
    (tmp_path / "v.toml").write_text(tomli_w.dumps(VERIFIED | {"selection": selection}))
    told = refused(recurate_here("run", "v.toml", "--out", "out"))
    assert "accepted no candidate in round 0" in told
    assert "lower selection.threshold" in told


def test_configurations():
    found = parse_config(VERIFIED).selection
    assert (found.k, found.noise, found.shown) == (1, "none", 900)
    assert found.rule() == Threshold(-1.5, noise=NO_NOISE, **RATES)
    assert parse_config(merged(VERIFIED, selection={"noise": "gaussian"})).selection.rule().noise == GAUSSIAN
    assert "threshold" not in write_config(parse_config(GAUSSIANS)), "other runs are as they were"
    assert "false_" not in write_config(parse_config(GAUSSIANS))
    for changes, message in (
        ({"k": 4}, "candidates are judged alone: k = 1"),
        ({"by": "people"}, "the rule judges, not people"),
        ({"false_rejection": 1.5}, "less than or equal to 1"),
        ({"threshold": float("inf")}, "finite"),
        ({"picks": 901}, "more than slates"),
    ):
        with pytest.raises(InputError, match=message):
            parse_config(merged(VERIFIED, selection=changes))
    with pytest.raises(InputError, match="need the threshold"):
        parse_config(merged(GAUSSIANS, selection={"false_rejection": 0.1}))


def test_contexts_are_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "prompts.txt").write_text("a\nb\n")
    prompts = ContextSettings(path=str(tmp_path / "prompts.txt"))
    asked = parse_config(VERIFIED).model_copy(update={"contexts": prompts, "data": None, "groups": None})
    with pytest.raises(InputError, match="a threshold applies to rewards themselves"):
        prepare(asked)
