"""Whole runs, tiny: what they leave, how they resume, what they refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w

import recurate
from helpers.paths import TESTS, refused
from helpers.tiny import DIGITS, GAUSSIANS, contents, merged
from recurate.core.errors import InputError
from recurate.log.folders import RUN_FORMAT
from recurate.log.schema import read_log
from recurate.log.trajectory import Trajectory
from recurate.loop.config import parse_config
from recurate.loop.driver import resume, run
from recurate.loop.run_folder import RunFolder
from recurate.theory.forecast import split_log


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "gaussians"
    run(parse_config(GAUSSIANS), folder)
    return folder


def test_the_folder_holds_what_it_promises(finished):
    names = set(contents(finished))
    assert {"config.toml", "manifest.json", "setup/contents.json", "trajectory.parquet"} <= names
    for t in range(3):
        for name in ("log.parquet", "samples.safetensors", "measures.parquet", "contents.json"):
            assert f"rounds/{t:03d}/{name}" in names
        assert f"rounds/{t:03d}/model/generator.safetensors" in names
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["format"] == RUN_FORMAT
    assert manifest["seed"] == 3
    assert manifest["packages"]["torch"]
    assert (finished / "timings.jsonl").exists()


def test_the_log_keeps_losers_and_counts_are_exact(finished):
    store = RunFolder.open(finished)
    for t in range(3):
        log = store.log(t)
        generated = log.select(source="model")
        assert generated.table.num_rows == 150 * 3
        assert generated.column("picked").sum() == 150
        assert log.rounds() == [t]
        real = log.select(source="real").table.num_rows
        assert real == (500 if t == 0 else 0)
        assert set(np.unique(generated.column("chooser"))) == {"east", "west"}
    # lambda = 3: 120 picks go with 40 real samples.
    assert store.counts(1)["trained_on_picks"] == 120
    assert store.counts(1)["trained_on_real"] == 40


def test_logged_rewards_are_those_of_the_samples(finished):
    store = RunFolder.open(finished)
    samples = store.samples(1)
    log = store.log(1)
    for name, centre in (("east", [2.0, 0.0]), ("west", [-2.0, 0.0])):
        expected = -np.linalg.norm(samples.astype(float) - centre, axis=1)
        np.testing.assert_allclose(log.column(name), expected, rtol=1e-12)


def test_propensities_are_those_of_the_configured_rule(finished):
    """sum_i w_i softmax(r_i / T) with the run's weights .75, .25 and T = 0.5, from the rewards alone."""
    log = read_log(finished).select(source="model")
    expected = np.zeros((log.table.num_rows // 3, 3))
    for name, weight in (("east", 0.75), ("west", 0.25)):
        odds = np.exp(log.column(name).reshape(-1, 3) / 0.5)
        expected += weight * odds / odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(log.column("propensity").reshape(-1, 3), expected, rtol=1e-9)


def test_picks_follow_the_propensities(finished):
    """The mean log propensity of the picks over 450 slates against its expectation; alarms under 1e-6."""
    from scipy.stats import norm

    log = read_log(finished).select(source="model")
    picked, propensity = log.column("picked"), log.column("propensity")
    slates = propensity.reshape(-1, 3)
    expected = (slates * np.log(slates)).sum(axis=1)
    variance = (slates * np.log(slates) ** 2).sum(axis=1) - expected**2
    score = np.log(propensity[picked]).sum() - expected.sum()
    assert abs(score) / variance.sum() ** 0.5 < norm.ppf(1 - 5e-7)


def test_judges_follow_the_weights(finished):
    """Of 450 slates about three quarters are judged by "east"; binomial, alarms under 1e-6."""
    from scipy.stats import binom

    choosers = read_log(finished).select(source="model").column("chooser")[::3]
    east = int((choosers == "east").sum())
    assert binom.ppf(5e-7, 450, 0.75) <= east <= binom.ppf(1 - 5e-7, 450, 0.75)


def test_the_model_is_retrained_on_the_picks_and_real_data_and_nothing_else(tmp_path, monkeypatch):
    from recurate.components.generators.flow import FlowMatching

    seen = []
    original = FlowMatching.fit

    def watched(self, data, *, rng, **rest):
        seen.append((data.copy(), bool(self.arrays)))
        return original(self, data, rng=rng, **rest)

    monkeypatch.setattr(FlowMatching, "fit", watched)
    run(parse_config(GAUSSIANS), tmp_path / "out")
    store = RunFolder.open(tmp_path / "out")
    real = store.environment(store.config()).dataset.train
    np.testing.assert_array_equal(seen[0][0], real)
    assert [warm for _, warm in seen] == [False, True, True], "retraining starts from the last model"
    for t in (1, 2):
        log = store.log(t - 1).select(source="model")
        picks = store.samples(t - 1)[log.column("item")[log.column("picked")]][:120]
        data = seen[t][0]
        assert len(data) == 160
        np.testing.assert_array_equal(data[:120], picks)
        known = {row.tobytes() for row in real}
        assert len({row.tobytes() for row in data[120:]} & known) == 40, "40 different real samples"


def test_the_forecast_is_that_of_the_runs_own_setting(finished, recurate_here, tmp_path):
    """Through the Python call and, by a run folder's defaults, through the command line."""
    store = RunFolder.open(finished)
    candidates, reference = split_log(store.log(0), group="group")
    again = recurate.forecast(
        candidates, k=3, temperature=0.5, rounds=2, weights=[0.75, 0.25], real_fraction=0.25,
        reference=reference,
    ).trajectory  # fmt: skip
    kept = Trajectory.read(finished / "trajectory.parquet")
    for quantity, reward in (("mean_reward", "east"), ("mean_exp_reward", "west"), ("entropy", None)):
        np.testing.assert_allclose(
            kept.values(quantity, reward=reward), again.values(quantity, reward=reward), rtol=1e-12
        )
    done = recurate_here("forecast", finished, "--group", "group", "--rounds", 2, "--out", tmp_path / "f")
    assert done.returncode == 0, done.stderr
    told = Trajectory.read(tmp_path / "f" / "trajectory.parquet")
    np.testing.assert_allclose(
        kept.values("mean_reward", reward="east"), told.values("mean_reward", reward="east"), rtol=1e-12
    )


def test_measurements_are_those_of_the_samples(finished):
    store, kept = RunFolder.open(finished), Trajectory.read(finished / "trajectory.parquet")
    for t in range(3):
        rewards = -np.linalg.norm(store.samples(t).astype(float) - [2.0, 0.0], axis=1)
        row = kept.series("mean_reward", source="measured", reward="east")[t]
        assert row.value == pytest.approx(rewards.mean(), rel=1e-12)
        assert row.upper - row.value == pytest.approx(1.96 * rewards.std() / 450**0.5, rel=1e-3)


def test_forecast_and_measurement_stand_side_by_side(finished):
    trajectory = Trajectory.read(finished / "trajectory.parquet")
    both = trajectory.about("forecast")
    assert trajectory.about("measured")[: len(both)] == both, "what only samples tell comes after"
    for key in both:
        for source in ("forecast", "measured"):
            assert {r.round for r in trajectory.rows if r.key == key and r.source == source} == {0, 1, 2}
    first = {r.quantity: r.value for r in trajectory.where("measured", round=0).rows}
    start = {r.quantity: r.value for r in trajectory.where("forecast", round=0).rows}
    assert start["entropy"] == pytest.approx(first["entropy"])
    # Real data are atoms of the forecast's law too: the measured KL differs by its bias correction only.
    assert start["kl_to_reference"] == pytest.approx(first["kl_to_reference"], abs=0.05)


def test_the_command_line_gives_the_same_run(finished, tmp_path, recurate_cli):
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(GAUSSIANS))
    done = recurate_cli("run", "tiny.toml", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "measured (forecast)" in done.stdout
    found = contents(tmp_path / "out")
    assert (tmp_path / "out" / "report.html").stat().st_size < 3e6
    report = found.pop("report.html")
    assert found == contents(finished)
    assert recurate_cli("report", "out").returncode == 0
    assert (tmp_path / "out" / "report.html").read_bytes() == report
    again = recurate_cli("run", "tiny.toml")
    assert again.returncode == 0
    assert (tmp_path / "runs" / "tiny-1" / "report.html").exists()


# --- repeated and prolonged; killed, interrupted, altered: test_faults.py ---

THREADS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from helpers.tiny import GAUSSIANS, merged
from recurate.loop.config import parse_config
from recurate.loop.driver import run
run(parse_config(merged(GAUSSIANS, selection={"picks": 8000, "slates": 8000}, rounds=1)), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_number_of_threads(tmp_path):
    for count in ("1", "2"):
        environment = os.environ | {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
        command = [sys.executable, "-c", THREADS, str(TESTS), str(tmp_path / count)]
        subprocess.run(command, env=environment, check=True, timeout=300)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_a_resumed_run_may_go_further(finished, tmp_path):
    longer = parse_config(merged(GAUSSIANS, rounds=3))
    run(longer, tmp_path / "whole")
    run(parse_config(GAUSSIANS), tmp_path / "short")
    text = (tmp_path / "short" / "config.toml").read_text()
    (tmp_path / "short" / "config.toml").write_text(text.replace("rounds = 2", "rounds = 3"))
    resume(tmp_path / "short")
    assert contents(tmp_path / "short") == contents(tmp_path / "whole")


# --- what is refused ---


def test_a_folder_in_use_is_left_alone(finished, tmp_path, recurate_here):
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(GAUSSIANS))
    before = contents(finished)
    assert "--resume" in refused(recurate_here("run", "tiny.toml", "--out", finished))
    assert contents(finished) == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    assert "choose another --out" in refused(recurate_here("run", "tiny.toml", "--out", "notes"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to run"),
        (["tiny.toml", "--resume", "x"], "say what to run"),
        (["missing.toml"], "no such configuration"),
        (["--resume", "nowhere"], "not a run folder"),
        (["--resume", "x", "--out", "y"], "no meaning"),
        (["typo.toml"], "did you mean 'picks'"),
        (["class.toml"], "class that the data lack"),
        (["plane.toml"], "the same dimension"),
    ],
)
def test_bad_input(tmp_path, recurate_here, arguments, message):
    write = {
        "typo.toml": merged(GAUSSIANS, selection={"pick": 3}),
        "class.toml": merged(DIGITS, rewards=[{"kind": "classifier", "label": "eleven"}]),
        "plane.toml": merged(DIGITS, rewards=[{"kind": "distance", "centre": [0.0, 0.0]}]),
    }
    for name, raw in write.items():
        (tmp_path / name).write_text(tomli_w.dumps(raw))
    assert message in refused(recurate_here("run", *arguments))


def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_a_newer_format_is_refused(finished, tmp_path, recurate_here):
    folder = copied(finished, tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": RUN_FORMAT + 1}))
    assert "newer recurate" in refused(recurate_here("run", "--resume", folder))
    assert "newer recurate" in refused(recurate_here("report", folder))


def test_a_missing_round_is_named_and_the_remedy_works(finished, tmp_path, recurate_cli):
    folder = copied(finished, tmp_path)
    shutil.rmtree(folder / "rounds" / "001")
    assert "round 1 is missing" in refused(recurate_cli("run", "--resume", folder))
    shutil.rmtree(folder / "rounds" / "002")
    assert recurate_cli("run", "--resume", folder).returncode == 0
    found = contents(folder)
    found.pop("report.html")
    assert found == contents(finished)


def test_a_configuration_of_ones_own_is_not_overwritten(tmp_path, recurate_here):
    own = tmp_path / "own"
    own.mkdir()
    text = "# my notes\n" + tomli_w.dumps(GAUSSIANS)
    (own / "config.toml").write_text(text)
    refused(recurate_here("run", own / "config.toml", "--out", own))
    assert (own / "config.toml").read_text() == text


def test_what_does_not_fit_the_data_leaves_no_folder(tmp_path, recurate_here):
    bad = merged(GAUSSIANS, rewards=[{"kind": "distance", "centre": [0.0, 0.0, 0.0]}])
    (tmp_path / "bad.toml").write_text(tomli_w.dumps(bad))
    refused(recurate_here("run", "bad.toml", "--out", "out"))
    assert not (tmp_path / "out").exists()


def test_fewer_rounds_than_were_played_are_refused(finished, tmp_path):
    folder = copied(finished, tmp_path)
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace("rounds = 2", "rounds = 1"))
    with pytest.raises(InputError, match="more rounds already"):
        resume(folder)


def test_leftovers_of_a_crash_are_not_read_as_rounds(finished, tmp_path):
    folder = copied(finished, tmp_path)
    shutil.copytree(folder / "rounds" / "002", folder / "rounds" / ".003.partial")
    assert read_log(folder).rounds() == [0, 1, 2]


def test_a_changed_configuration_is_refused(finished, tmp_path):
    folder = copied(finished, tmp_path)
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text.replace("k = 3", "k = 4"))
    with pytest.raises(InputError, match="was changed since it began"):
        resume(folder)


def test_digits(tmp_path):
    run(parse_config(DIGITS), tmp_path / "digits")
    store = RunFolder.open(tmp_path / "digits")
    assert 0 <= store.facts()["classifier_held_out_accuracy"] <= 1
    assert store.samples(1).shape == (120, 8, 8)
    assert store.counts(1)["trained_on_real"] == 0


def test_old_models_are_thinned_if_wanted(tmp_path, finished):
    """Two models of three are kept: the rounds are those of a full run, resume and checks still work."""
    folder = tmp_path / "thin"
    run(parse_config(GAUSSIANS | {"rounds": 1, "keep": 1}), folder)
    settings = (folder / "config.toml").read_text().replace("rounds = 1", "rounds = 2")
    (folder / "config.toml").write_text(settings)
    resume(folder)
    assert [(folder / f"rounds/00{t}/model").exists() for t in range(3)] == [False, False, True]
    store = RunFolder.open(folder)
    store.verify()
    for t in range(3):
        for name in ("log.parquet", "samples.safetensors"):
            assert contents(folder)[f"rounds/{t:03d}/{name}"] == contents(finished)[f"rounds/{t:03d}/{name}"]
    log = folder / "rounds/000/log.parquet"
    kept = log.read_bytes()
    log.unlink()
    with pytest.raises(InputError, match="missing or was altered"):
        store.verify()
    log.write_bytes(kept)
    shutil.rmtree(folder / "rounds/002/model")
    with pytest.raises(InputError, match="missing or was altered"):
        store.verify()


def test_models_that_should_be_kept_are_missed(finished, tmp_path):
    folder = copied(finished, tmp_path)
    shutil.rmtree(folder / "rounds/000/model")
    with pytest.raises(InputError, match="missing or was altered"):
        RunFolder.open(folder).verify()
