"""`recurate forecast` as a user runs it."""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from helpers.paths import refused
from recurate.log.logger import PickLogger
from recurate.log.trajectory import Trajectory
from recurate.theory.verification import VerifiedLoop

pytestmark = pytest.mark.usefixtures("few_replicates")


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    n = 2000
    columns = {
        "score": rng.normal(size=n),
        "other": rng.normal(size=n),
        "topic": rng.choice(["a", "b", "c"], size=n),
        "length": rng.integers(1, 50, size=n),
        "ask": rng.integers(0, 100, size=n),
    }
    pyarrow.csv.write_csv(pa.table(columns), tmp_path / "scores.csv")
    return columns


def test_a_bare_table(table, tmp_path, recurate_here):
    done = recurate_here(
        "forecast", "scores.csv", "--reward", "score", "--group", "topic", "--track", "length",
        "--k", 8, "--rounds", 3, "--out", "result",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for heading in ("mean_reward", "share a", "mean:length", "effective_support"):
        assert heading in done.stdout
    trajectory = Trajectory.read(tmp_path / "result" / "trajectory.parquet")
    assert trajectory.values("mean_reward")[0] == pytest.approx(table["score"].mean())
    assert trajectory.values("mean:length")[0] == pytest.approx(table["length"].mean())
    assert trajectory.values("mean_reward").size == 4
    assert (tmp_path / "result" / "report.html").stat().st_size < 3e6
    assert pq.read_schema(tmp_path / "result" / "trajectory.parquet").names == [
        "round", "source", "quantity", "reward", "group", "value", "lower", "upper",
    ]  # fmt: skip


def test_two_weighted_rewards_at_infinite_k(table, tmp_path, recurate_here):
    done = recurate_here(
        "forecast", "scores.csv", "--reward", "score", "--reward", "other", "--weights", "0.4,0.6",
        "--k", "inf", "--real-fraction", 0.2, "--temperature", 2, "--rounds", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trajectory = Trajectory.read(tmp_path / "scores-forecast" / "trajectory.parquet")
    assert (
        trajectory.values("mean_reward", reward="other")[-1]
        > trajectory.values("mean_reward", reward="other")[0]
    )


def test_contexts_by_column(table, tmp_path, recurate_here):
    done = recurate_here("forecast", "scores.csv", "--reward", "score", "--context", "ask", "--rounds", 1)
    assert done.returncode == 0, done.stderr
    assert "contexts are thin" in done.stderr


def test_json_lines_are_the_trajectory(table, tmp_path, recurate_here):
    done = recurate_here("forecast", "scores.csv", "--reward", "score", "--rounds", 1, "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows == Trajectory.read(tmp_path / "scores-forecast" / "trajectory.parquet").to_table().to_pylist()


def test_a_log_gives_k_and_later_rounds(tmp_path, recurate_here):
    rng = np.random.default_rng(1)
    with PickLogger(tmp_path / "picks.jsonl") as log:
        for t in range(2):
            for _ in range(300):
                rewards = rng.normal(loc=t, size=5)
                log.slate(rewards.tolist(), picked=int(rewards.argmax()), round=t)
    done = recurate_here("forecast", "picks.jsonl", "--rounds", 2)
    assert done.returncode == 0, done.stderr
    assert "K = 5" in done.stdout
    assert "in brackets: measured" in done.stdout
    trajectory = Trajectory.read(tmp_path / "picks-forecast" / "trajectory.parquet")
    assert trajectory.values("mean_reward", source="measured").size == 2
    assert trajectory.values("mean_reward", source="measured")[1] == pytest.approx(1, abs=0.2)


def test_groups_that_appear_later_are_groups_of_their_own(tmp_path, recurate_here):
    lines = ["round,slate,reward,picked,group"]
    for t, groups in enumerate(("ac", "abc")):
        for i in range(300):
            lines += [
                f"{t},{i},{slot},{int(slot == 0)},{groups[(i + slot) % len(groups)]}" for slot in range(3)
            ]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    done = recurate_here("forecast", "log.csv", "--group", "group", "--rounds", 1)
    assert done.returncode == 0, done.stderr
    trajectory = Trajectory.read(tmp_path / "log-forecast" / "trajectory.parquet")
    assert trajectory.values("share", group="b").tolist() == [0, 0]
    found = [trajectory.values("share", group=g, source="measured")[1] for g in "abc"]
    assert found == pytest.approx([1 / 3] * 3)


def test_a_reference_log_gives_its_real_rows(tmp_path, recurate_here):
    rows = [f"{i},{i % 7},model" for i in range(300)] + [f"{i},100,real" for i in range(300)]
    (tmp_path / "both.csv").write_text("item,reward,source\n" + "\n".join(rows))
    (tmp_path / "pool.csv").write_text("reward\n" + "\n".join(str(i % 7) for i in range(300)))
    done = recurate_here(
        "forecast", "pool.csv", "--reference", "both.csv", "--real-fraction", 1, "--rounds", 1
    )
    assert done.returncode == 0, done.stderr
    trajectory = Trajectory.read(tmp_path / "pool-forecast" / "trajectory.parquet")
    assert trajectory.values("mean_reward")[1] == pytest.approx(100)


def test_import_and_help_are_quick():
    """Under 0.3 s and 0.5 s of processor time, best of five."""
    import os
    import subprocess
    import sys

    def spent() -> float:
        times = os.times()
        return times.children_user + times.children_system

    def best(*command):
        times = []
        for _ in range(5):
            start = spent()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            times.append(spent() - start)
        return min(times)

    assert best("-c", "import recurate") < 0.3
    assert best("-m", "recurate.cli", "--help") < 0.5


def test_a_reference_file(table, tmp_path, recurate_here):
    (tmp_path / "real.csv").write_text("score,topic\n" + "\n".join(f"{x},d" for x in np.linspace(2, 3, 50)))
    done = recurate_here(
        "forecast", "scores.csv", "--reward", "score", "--group", "topic", "--reference", "real.csv",
        "--real-fraction", 0.5, "--rounds", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trajectory = Trajectory.read(tmp_path / "scores-forecast" / "trajectory.parquet")
    assert trajectory.values("share", group="d").tolist() == pytest.approx([0.0, 0.5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.csv"], "no such file"),
        (["scores.txt"], "no such file"),
        (["empty.csv"], "empty"),
        (["scores.csv", "--reward", "scor"], "did you mean 'score'"),
        (["scores.csv", "--reward", "topic"], "must hold numbers"),
        (["scores.csv", "--reward", "score", "--group", "topics"], "did you mean 'topic'"),
        (["scores.csv", "--reward", "score", "--track", "topic"], "must hold numbers"),
        (["scores.csv", "--reward", "score", "--context", "aks"], "did you mean 'ask'"),
        (["scores.csv", "--reward", "score", "--k", "four"], "whole number or inf"),
        (["scores.csv", "--reward", "score", "--k", "0"], "slate size"),
        (["scores.csv", "--reward", "score", "--weights", "0.4,0.6"], "one weight"),
        (["scores.csv", "--reward", "score", "--weights", "a"], "numbers separated by commas"),
        (["scores.csv", "--reward", "score", "--reward", "other", "--weights", "0.4,0.7"], "sum to one"),
        (["scores.csv", "--reward", "score", "--real-fraction", "2"], "real fraction"),
        (["scores.csv", "--reward", "score", "--temperature", "-1"], "temperature"),
        (["scores.csv", "--reward", "score", "--rounds", "-1"], "rounds"),
        (["scores.csv", "--reward", "score", "--reference", "nothing.csv"], "no such file"),
        (["scores.csv", "--reward", "score", "--out", "scores.csv"], "names a file"),
        (["scores.csv", "--reward", "score", "--reward", "score"], "must differ from each other"),
        (["scores.csv", "--reward", "score", "--out", "scores.csv/sub"], "Not a directory"),
        (["scores.csv", "--reward", "score", "--k", "9" * 400], "whole number or inf"),
        (["scores.csv", "--reward", "score", "--picks", "1" + "0" * 26], "picks"),
        (["."], "neither a run"),
        (["cut.parquet"], "cannot read"),
    ],
)
def test_bad_input(table, tmp_path, recurate_here, arguments, message):
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "nan.csv").write_text("reward\n1\nnan\n")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and not much more")
    before = (tmp_path / "scores.csv").read_bytes()
    assert message in refused(recurate_here("forecast", *arguments))
    assert (tmp_path / "scores.csv").read_bytes() == before


def test_help_teaches(recurate_here):
    for command in ([], ["run"], ["forecast"], ["report"]):
        done = recurate_here(*command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout
    assert recurate_here("--version").stdout.strip() == version("recurate")
    assert recurate_here("forecast").returncode == 2
    assert "Traceback" not in recurate_here("forecast", "a", "--nonsense").stderr


# --- rules, rounds, renewal ---


@pytest.mark.parametrize(
    "arguments",
    [
        ["--noise", "gaussian", "--lapse", 0.1],
        ["--noise", "none", "--keep", 2],
        ["--k", "2:0.5,4:0.5"],
        ["--threshold", 0.5],
        ["--threshold", 0.5, "--noise", "gumbel", "--temperature", 0.5],
        ["--top", 0.25],
        ["--then", "2", "--then", "3:1"],
        ["--accumulate", "--efficacy", 0.5, "--real-fraction", 0.2],
        ["--tail", "--rounds", 12],
    ],
)
def test_every_kind_of_round(table, tmp_path, recurate_here, arguments):
    done = recurate_here("forecast", "scores.csv", "--reward", "score", "--rounds", 2, *arguments)
    assert done.returncode == 0, done.stderr
    values = Trajectory.read(tmp_path / "scores-forecast" / "trajectory.parquet").values("mean_reward")
    assert values[-1] > values[0] + 0.2
    assert "Proved statements" in done.stdout or arguments[0] in ("--threshold", "--top")


def test_the_rule_is_the_one_asked_for(table, tmp_path, recurate_here):
    from recurate.rules import TopFraction
    from recurate.theory.population import Population
    from recurate.theory.setting import Setting

    done = recurate_here("forecast", "scores.csv", "--reward", "score", "--rounds", 1, "--top", 0.25)
    assert done.returncode == 0, done.stderr
    population = Population(table["score"])
    expected = population.step(population.law, Setting(TopFraction(0.25))) @ table["score"]
    values = Trajectory.read(tmp_path / "scores-forecast" / "trajectory.parquet").values("mean_reward")
    assert values[1] == pytest.approx(expected)
    assert "fraction 0.25" in done.stdout


def test_statements_groups_and_tails_are_shown(table, tmp_path, recurate_here):
    done = recurate_here(
        "forecast", "scores.csv", "--reward", "score", "--group", "topic", "--picks", 8, "--tail",
        "--rounds", 12,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "reward gain (Lemma 2.2)" in done.stdout
    assert done.stdout.count("do not apply") == 1, "in one line, and why in the page"
    assert "KL-regularised step" in done.stdout
    assert "is lost for good by round 12 with probability" in done.stdout
    assert "a fitted tail continues the forecast" in done.stderr
    trajectory = Trajectory.read(tmp_path / "scores-forecast" / "trajectory.parquet")
    ends = min(r.round for r in trajectory.where("fitted tail").rows)
    support = trajectory.values("effective_support")
    assert support[ends] < 100 <= support[ends - 1]
    page = (tmp_path / "scores-forecast" / "report.html").read_text()
    for text in ("Proved statements", "Lemma 2.2", "is lost for good", "needs K = infinity (K is 4)"):
        assert text in page


def loop_log(path, rounds, eta=0.5):
    """Write the log of a loop whose model moves half-way to its picks."""
    rng = np.random.default_rng(7)
    old = rng.normal(size=20_000)
    lines = ["round,slate,slot,reward,picked"]
    for t in range(rounds):
        slates = rng.choice(old, size=(800, 4))
        slots = (slates + rng.gumbel(size=slates.shape)).argmax(axis=1)
        lines += [f"{t},{i},{j},{slates[i, j]},{int(j == slots[i])}" for i in range(800) for j in range(4)]
        picks = slates[np.arange(800), slots]
        old = np.concatenate(
            [rng.choice(old, round(20_000 * (1 - eta))), rng.choice(picks, round(20_000 * eta))]
        )
    path.write_text("\n".join(lines))


def test_renewed_forecasts_and_a_fitted_efficacy(tmp_path, recurate_here):
    loop_log(tmp_path / "log.csv", 5)
    done = recurate_here("forecast", "log.csv", "--rounds", 4, "--renew", "--efficacy", "fit")
    assert done.returncode == 0, done.stderr
    efficacy = float(done.stdout.split("\n  - efficacy ")[1].split()[0])
    assert efficacy == pytest.approx(0.5, abs=0.12)
    assert "one round ahead, mean_reward: error" in done.stdout
    assert "from round 5 on, mean_reward: " in done.stdout
    trajectory = Trajectory.read(tmp_path / "log-forecast" / "trajectory.parquet")
    assert trajectory.values("mean_reward", source="renewed").size == 8, (
        "four measured rounds, then four ahead"
    )
    measured = trajectory.values("mean_reward", source="measured")
    fitted = trajectory.values("mean_reward")
    recurate_here("forecast", "log.csv", "--rounds", 4, "--out", "plain")
    plain = Trajectory.read(tmp_path / "plain" / "trajectory.parquet").values("mean_reward")
    assert np.abs(fitted - measured).max() < 0.5 * np.abs(plain - measured).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--noise", "gauss"], "did you mean 'gaussian'"),
        (["--keep", "5"], "keep"),
        (["--lapse", "2"], "lapse"),
        (["--k", "2:0.5,4:0.6"], "sum to one"),
        (["--k", "2:0.5,x:0.5"], "whole number or inf"),
        (["--k", "inf", "--noise", "gaussian"], "k = inf needs"),
        (["--threshold", "99"], "pass"),
        (["--threshold", "0", "--top", "0.5"], "rule of their own"),
        (["--threshold", "0", "--false-rejection", "1.5"], "false_rejection must lie between 0 and 1"),
        (["--false-acceptance", "0.5"], "--false-acceptance without --threshold"),
        (["--top", "0.5", "--false-rejection", "0.1"], "error rates belong to a verifier"),
        (["--top", "0.5", "--k", "4"], "rule of their own"),
        (["--top", "2"], "fraction"),
        (["--then", "two"], "whole number or inf"),
        (["--then", "2:0.5,0.5"], "weight"),
        (["--efficacy", "0"], "efficacy"),
        (["--efficacy", "half"], "--efficacy must be"),
        (["--efficacy", "0.4,0.5"], "one number"),
        (["--top", "0.5", "--lapse", "0.1"], "rule of their own"),
        (["--efficacy", "fit"], "too few rounds"),
        (["--renew"], "too few rounds"),
    ],
)
def test_wrong_rules_and_rounds(table, tmp_path, recurate_here, arguments, message):
    assert message in refused(recurate_here("forecast", "scores.csv", "--reward", "score", *arguments))


def test_further_stages_and_verifiers_take_the_commands_settings(table, recurate_here):
    done = recurate_here(
        "forecast", "scores.csv", "--reward", "score", "--rounds", 1, "--temperature", 0.5, "--noise", "none",
        "--then", 2,
    )  # fmt: skip
    assert "then [{'k': 2, 'temperature': 0.5, 'noise': 'none'" in done.stdout
    verifier = recurate_here(
        "forecast", "scores.csv", "--reward", "score", "--rounds", 1, "--threshold", 1, "--lapse", 0.5
    )
    assert "level 1, temperature 1, lapse 0.5" in verifier.stdout


def test_an_erring_verifier_to_its_breakdown_point(tmp_path, recurate_here):
    """The forecast share of good candidates is the recursion of one number, by hand and by VerifiedLoop."""
    rng = np.random.default_rng(1)
    score = rng.normal(size=2000)
    good = np.where(score >= 0.5, "good", "bad")
    pyarrow.csv.write_csv(pa.table({"score": score, "kind": good}), tmp_path / "scores.csv")
    start = float((score >= 0.5).mean())
    for beta, warned in ((0.3, None), (0.8, "as often as"), (0.9, "more often than")):
        done = recurate_here(
            "forecast", "scores.csv", "--reward", "score", "--group", "kind", "--threshold", 0.5,
            "--false-rejection", 0.2, "--false-acceptance", beta, "--rounds", 3, "--real-fraction", 0.25,
            "--out", "result",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"rejects 20 % of these and accepts {100 * beta:g} % of the others" in done.stdout
        assert ("breakdown point" in done.stderr) == (warned is not None)
        assert (warned or "") in done.stderr
        found = Trajectory.read(tmp_path / "result" / "trajectory.parquet").values("share", group="good")
        loop = VerifiedLoop(0.2, beta, 0.25, start)
        share, expected = start, []
        for _ in range(4):
            expected.append(share)
            accepted = 0.8 * share / (0.8 * share + beta * (1 - share))
            share = 0.25 * start + 0.75 * accepted
            assert loop.step(expected[-1]) == pytest.approx(share, rel=1e-12)
        assert found == pytest.approx(expected, rel=1e-9)


def test_learning_needs_every_round(tmp_path, recurate_here):
    loop_log(tmp_path / "log.csv", 4)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    (tmp_path / "gap.csv").write_text("\n".join(line for line in lines if not line.startswith("1,")))
    assert "round 0 is followed by round 2" in refused(recurate_here("forecast", "gap.csv", "--renew"))
    done = recurate_here("forecast", "log.csv", "--renew", "--threshold", 0.5, "--rounds", 2)
    assert done.returncode == 0, done.stderr


def test_several_rewards_come_with_welfare(table, tmp_path, recurate_here):
    done = recurate_here(
        "forecast", "scores.csv", "--reward", "score", "--reward", "other", "--weights", "0.4,0.6",
        "--rounds", 5,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "Nash welfare" in line]
    assert [line.strip(" -").split(":")[0] for line in lines] == ["round 0", "round 5, forecast"]
    first, last = (float(line.split("Nash welfare ")[1].split()[0]) for line in lines)
    assert last > first
