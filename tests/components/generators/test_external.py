"""Loops of other people's programs, prompts from a file, rewards from functions and commands."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from helpers import external as functions
from helpers.external import PROGRAM, TOWNS, WORDS, command, external, points_config, reports_config
from helpers.paths import ROOT
from helpers.tiny import contents, without_seals
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.log.trajectory import Trajectory
from recurate.loop.config import parse_config
from recurate.loop.contexts import draw_contexts
from recurate.loop.driver import resume, run
from recurate.loop.dry_run import rehearse
from recurate.loop.run_folder import RunFolder
from recurate.verbs.run import samples_section
from recurate.verbs.run.renewed import renewed_rows
from recurate.verbs.run.report import run_result


def write_config(config: dict, folder: Path) -> Path:
    modules = folder / "helpers"  # what it imports is looked for in the current folder
    modules.mkdir(exist_ok=True)
    shutil.copy(functions.__file__, modules)
    path = folder / "loop.toml"
    path.write_text(tomli_w.dumps(config), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A finished loop on texts."""
    folder = tmp_path_factory.mktemp("reports")
    config = reports_config(folder)
    run(parse_config(config), folder / "out")
    return folder


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    folder = tmp_path_factory.mktemp("points")
    run(parse_config(points_config(folder)), folder / "out")
    return folder


# --- the loop ---


def test_a_loop_of_texts_follows_its_forecast(reports):
    found = Trajectory.read(reports / "out" / "trajectory.parquet")
    measured = found.values("mean_reward", source="measured", reward="sunny")
    forecast = found.values("mean_reward", source="forecast", reward="sunny")
    assert measured[2] > measured[0] + 0.2
    # 900 candidates from 300 picks: s.e. below 0.04; the picks' own chance carries over
    assert np.abs(measured - forecast).max() < 0.15
    assert {row.group for row in found.where("measured", "share").rows} == set(WORDS)


def test_a_loop_with_contexts_is_renewed_from_its_picks(reports):
    """The program resamples what it was given, so the picks' mean is the next round's, up to chance."""
    store = RunFolder.open(reports / "out")
    rows, known = renewed_rows(store, store.config())
    assert known is not None
    means = {r.round: r for r in rows.rows if (r.quantity, r.reward) == ("mean_reward", "sunny")}
    assert sorted(means) == [1, 2], "the run is complete"
    assert {r.lower for r in means.values()} == {None}
    picks = store.log(0).select(source="model")
    wanted = picks.column("sunny")[picks.column("picked")].mean()
    assert means[1].value == pytest.approx(wanted), "the picks that were made, not those to be expected"
    found = Trajectory.read(reports / "out" / "trajectory.parquet")
    measured = found.values("mean_reward", source="measured", reward="sunny")
    assert abs(means[2].value - measured[2]) < 0.15
    assert {r.quantity for r in rows.rows} >= {"mean:short", "share", "entropy"}


def test_a_report_tells_that_it_shows_some_of_the_rounds(reports, monkeypatch):
    store = RunFolder.open(reports / "out")
    said = "2 of 3 rounds are shown, evenly spread"
    assert said not in run_result(store).page()
    monkeypatch.setattr(samples_section, "ROUNDS", 2)
    assert said in run_result(store).page()


def test_every_candidate_is_of_its_slates_context(reports):
    store = RunFolder.open(reports / "out")
    real = [json.loads(line) for line in (reports / "reports.jsonl").read_text().splitlines()]
    known = {(row["town"], row["text"]) for row in real}
    for t in range(3):
        log, samples = store.log(t).select(source="model"), store.samples(t)
        contexts = log.column("context")
        assert (contexts.reshape(-1, 3) == contexts.reshape(-1, 3)[:, :1]).all(), "one context a slate"
        counts = {town: int((contexts == town).sum()) for town in TOWNS}
        assert set(counts.values()) == {300}, "each as often"
        assert set(zip(contexts.tolist(), samples.tolist(), strict=True)) <= known


def test_values_that_are_tracked_are_logged_and_measured_and_do_not_pick(reports):
    store = RunFolder.open(reports / "out")
    log = store.log(1)
    assert log.rewards == ("sunny",)
    lengths = [-len(text) for text in store.samples(1)]
    np.testing.assert_array_equal(log.column("short"), lengths)
    found = Trajectory.read(reports / "out" / "trajectory.parquet")
    assert found.values("mean:short", source="measured")[1] == pytest.approx(np.mean(lengths))
    assert found.values("mean:short", source="forecast").shape == (3,)


def test_the_training_set_reaches_the_program_as_it_should(reports):
    """The resampler keeps its training set: it is picks and real data, each with its own context."""
    store = RunFolder.open(reports / "out")
    config = store.config()
    memory = store.round_path(1) / "model" / "checkpoint" / "memory.jsonl"
    rows = [json.loads(line) for line in memory.read_text().splitlines()]
    log = store.log(0).select(source="model")
    picked = log.column("picked")
    expected = list(
        zip(log.column("context")[picked].tolist(), store.samples(0)[picked].tolist(), strict=True)
    )
    assert [(row["context"], row["sample"]) for row in rows] == expected
    assert store.counts(1)["trained_on_picks"] == 300 == config.selection.picks
    assert store.counts(1)["trained_on_real"] == 0


def test_a_loop_of_points(points):
    store = RunFolder.open(points / "out")
    assert store.samples(0).shape == (600, 2)
    found = Trajectory.read(points / "out" / "trajectory.parquet")
    quantities = {key[0] for key in found.about("measured")}
    assert {"frechet:values", "precision:values", "memorisation:values", "kl_neighbours"} <= quantities
    # It repeats its training data: nothing is nearer to them.
    assert found.values("memorisation:values", source="measured")[0] > 0.95
    mean = found.values("mean_reward", source="measured")
    assert mean[2] > mean[0]
    for t in (1, 2):
        parts = [found.values(q, source="measured")[t - 1] for q in ("selection", "sampling", "transmission")]
        assert sum(parts) == pytest.approx(mean[t] - mean[t - 1])


def test_what_the_programs_printed_is_kept(points):
    logs = sorted(p.name for p in (points / "out" / "commands").iterdir())
    assert logs == [f"round-{t}-{what}.log" for t in range(3) for what in ("fit", "sample")]
    assert "fit begins" in (points / "out" / "commands" / "round-1-fit.log").read_text()
    assert not (points / "out" / ".work").exists()


def test_a_loop_without_real_data(tmp_path):
    """A checkpoint, prompts and a reward are enough."""
    config = reports_config(tmp_path)
    first = tmp_path / "first"
    first.mkdir()
    rows = [{"context": town, "sample": f"{word} today"} for town in TOWNS for word in WORDS]
    (first / "memory.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    del config["data"]
    config["generator"] = external(start=str(first), fit_first=False)
    run(parse_config(config), tmp_path / "out")
    store = RunFolder.open(tmp_path / "out")
    assert not list((tmp_path / "out" / "commands").glob("round-0-fit*"))
    assert (store.round_path(0) / "model" / "checkpoint" / "memory.jsonl").read_bytes() == (
        first / "memory.jsonl"
    ).read_bytes()
    assert store.counts(0)["trained_on_real"] == 0
    found = Trajectory.read(tmp_path / "out" / "trajectory.parquet")
    assert found.values("mean_reward", source="measured", reward="sunny")[0] == pytest.approx(0.25, abs=0.08)
    assert "self_bleu" in {key[0] for key in found.about("measured")}


def test_a_reward_from_a_command(tmp_path):
    words = command("score", "--training", "{candidates}", "--out", "{rewards}")
    config = reports_config(
        tmp_path, rounds=1, rewards=[{"kind": "command", "name": "long", "command": words, "gamma": 0.1}]
    )
    run(parse_config(config), tmp_path / "out")
    store = RunFolder.open(tmp_path / "out")
    expected = [0.1 * len(text) for text in store.samples(1)]
    np.testing.assert_allclose(store.log(1).column("long"), expected)


# --- contexts ---


def test_contexts_afresh_and_in_order():
    names = np.array([f"c{i}" for i in range(7)], object)
    ordered = [draw_contexts(names, 5, t, "in order", Stream(0)) for t in range(3)]
    assert np.concatenate(ordered).tolist() == [f"c{i % 7}" for i in range(15)]
    fresh = draw_contexts(names, 17, 0, "fresh", Stream(0).at("round", 0))
    counts = [fresh.tolist().count(name) for name in names]
    assert min(counts) == 2
    assert max(counts) == 3
    other = draw_contexts(names, 17, 0, "fresh", Stream(0).at("round", 1))
    assert fresh.tolist() != other.tolist()


def test_contexts_in_order_go_on_from_round_to_round(tmp_path):
    config = reports_config(tmp_path, rounds=1)
    config["contexts"]["order"] = "in order"
    config["selection"] = {"k": 2, "picks": 40, "slates": 40}
    run(parse_config(config), tmp_path / "out")
    store = RunFolder.open(tmp_path / "out")
    shown = [c for t in (0, 1) for c in store.log(t).select(source="model").column("context")[::2]]
    assert shown == [TOWNS[i % 3] for i in range(80)]


# --- killed ---


def test_a_killed_loop_of_programs_goes_on_with_the_same_bytes(points, tmp_path):
    """SIGKILL while a program runs; whatever it has begun is thrown away."""
    config = points_config(points)
    marker = tmp_path / "marker"
    slow = external(fit_extra=("--sleep", "120", "--once", str(marker)))
    path = write_config(config | {"generator": slow, "rounds": 2}, tmp_path)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "recurate.cli", "run", str(path), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 120
    while not marker.exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert RunFolder.open(out).complete() == 0
    resume(out)
    mine, theirs = contents(out), contents(points / "out")
    for found in (mine, theirs):
        for name in list(found):  # the configurations differ in the fault that was asked for
            if name.startswith("commands/") or name.split("/")[-1] in (
                "config.toml",
                "manifest.json",
                "generator.json",
                "contents.json",
            ):
                del found[name]
    assert without_seals(mine) == without_seals(theirs)


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("sample", "fit", "message"),
    [
        ((), ("--exit", "3"), "generator.fit failed: its exit code was 3"),
        (("--exit", "4"), (), "generator.sample failed: its exit code was 4"),
        (("--skip",), (), "was not written"),
        (("--short",), (), "must have exactly one row for each of the 600 items"),
        (("--bad",), (), "not finite"),
        ((), ("--skip",), "wrote no checkpoint"),
    ],
)
def test_faults_of_the_programs_stop_the_run_and_keep_what_was(tmp_path, recurate_here, sample, fit, message):
    config = points_config(tmp_path, generator=external(sample, fit), rounds=1)
    write_config(config, tmp_path)
    done = recurate_here("run", "loop.toml", "--out", "out")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if "--exit" in (*fit, *sample):
        assert "something is wrong with the model" in done.stderr
    assert RunFolder.open(tmp_path / "out").complete() == 0


def test_a_failed_program_is_started_again(tmp_path):
    marker = tmp_path / "marker"
    flaky = external(("--exit", "1", "--once", str(marker)), retries=1)
    run(parse_config(points_config(tmp_path, generator=flaky, rounds=1)), tmp_path / "out")
    assert RunFolder.open(tmp_path / "out").complete() == 2
    log = (tmp_path / "out" / "commands" / "round-0-sample.log").read_text()
    assert log.count("sample begins") == 2


def test_a_time_limit(tmp_path):
    slow = external(("--sleep", "60"), sample_timeout=1.5)
    with pytest.raises(InputError, match=r"more than 1\.5 seconds"):
        run(parse_config(points_config(tmp_path, generator=slow, rounds=1)), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": {"kind": "external"}}, "generator.sample"),
        ({"generator": external(sample_extra=["{candidate}"])}, "unknown placeholder"),
        ({"generator": external() | {"fit": ["train"]}}, "must name"),
        ({"generator": external(fit_first=False)}, "fit_first = false needs start"),
        ({"generator": external(start="nowhere")}, "must be a folder with a checkpoint"),
        ({"generator": {"kind": "flow"}}, "contexts need a generator that knows prompts"),
        ({"contexts": {"path": "no.txt"}}, "no such file of contexts"),
        ({"rewards": [{"kind": "helpers.external:nothing"}]}, "cannot be imported"),
        ({"rewards": [{"kind": "external"}]}, "there is no reward called 'external'"),
        ({"rewards": [{"kind": "helpers.external:wrong_shape"}]}, "one number per"),
        ({"rewards": [{"kind": "helpers.external:raises"}]}, "nothing to divide by"),
        ({"rewards": [{"kind": "helpers.external:not_numbers"}]}, "one number per"),
        ({"rewards": [{"kind": "distance", "centre": [1.0]}]}, "texts"),
        ({"rewards": [{"kind": "classifier", "label": "a"}]}, "classifier needs real data with labels"),
        ({"groups": {"kind": "import"}}, "there is no kind of groups called 'import'"),
        ({"tracked": [{"kind": "helpers.external:sunny", "weight": 1.0}]}, "no weight"),
        ({"measures": {"features": ["values"]}}, "texts have no 'values' features"),
        ({"measures": {"features": ["pixel"]}}, "is no feature space"),
        ({"data": {"kind": "table", "path": "no.jsonl"}}, "no such data file"),
    ],
)  # fmt: skip
def test_bad_configurations(tmp_path, recurate_here, changes, message):
    write_config(reports_config(tmp_path) | changes, tmp_path)
    done = recurate_here("run", "loop.toml", "--out", "out")
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "rounds").exists()


def test_rewards_that_are_not_numbers(tmp_path):
    config = points_config(tmp_path, rewards=[{"kind": "helpers.external:sometimes_nan"}])
    with pytest.raises(InputError, match="not a finite number"):
        run(parse_config(config), tmp_path / "out")


def test_a_file_that_changes_under_a_run_is_told(reports, tmp_path):
    config = reports_config(tmp_path, rounds=1)
    run(parse_config(config), tmp_path / "out")
    with (tmp_path / "towns.txt").open("a") as file:
        file.write("Essen\n")
    with pytest.raises(InputError, match="has changed since it began"):
        resume(tmp_path / "out")


# --- dry run ---


def test_a_dry_run_tries_both_commands_on_ten_items(tmp_path, recurate_here):
    write_config(reports_config(tmp_path), tmp_path)
    done = recurate_here("run", "loop.toml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "10 texts, such as 'Bergen' ->" in done.stdout
    assert done.stdout.count("sample") >= 2
    assert "fit again" in done.stdout
    assert not (tmp_path / "runs").exists()
    broken = external(fit_extra=("--exit", "9"))
    write_config(reports_config(tmp_path, generator=broken), tmp_path)
    done = recurate_here("run", "loop.toml", "--dry-run")
    assert done.returncode == 2
    assert "exit code was 9" in done.stderr
    done = recurate_here("run", "--dry-run")
    assert done.returncode == 2


def test_a_dry_run_of_points(tmp_path):
    steps = {step.title: step.result for step in rehearse(parse_config(points_config(tmp_path)))}
    assert steps["sample"].startswith("10 samples of shape (2,)")
    assert PROGRAM.exists()
    assert os.listdir(tmp_path) == ["points.jsonl"]


# --- the worked example ---


@pytest.mark.slow
def test_the_worked_example(tmp_path, monkeypatch):
    """A plain PyTorch script that knows nothing of recurate; the proxy rises, and the gold reward falls."""
    root = ROOT
    monkeypatch.chdir(root)
    subprocess.run([sys.executable, "examples/external/corpus.py"], check=True)
    words = ["run", "examples/external/loop.toml", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "recurate.cli", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = Trajectory.read(tmp_path / "out" / "trajectory.parquet")
    proxy = found.values("mean_reward", source="measured", reward="cheer")
    gold = found.values("mean:truth", source="measured")
    assert proxy[-1] > proxy[0] + 0.4
    assert gold[-1] < gold[0] - 0.1
    assert "gold" in json.dumps([RunFolder.open(tmp_path / "out").alarms(t) for t in range(6)])
