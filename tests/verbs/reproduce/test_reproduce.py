"""Published experiments: verdicts from seeds, statistics of runs, the command at a tiny size."""

import dataclasses
import math
import shutil
import tomllib

import numpy as np
import pyarrow.csv as pv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.commands import call
from helpers.tiny import GAUSSIANS
from recurate.core.errors import InputError
from recurate.log.trajectory import Row, Trajectory
from recurate.loop.config import parse_config
from recurate.loop.run_folder import RunFolder
from recurate.verbs.reproduce import catalogue, reproduce, text_scale
from recurate.verbs.reproduce.catalogue import CATALOGUE, experiment
from recurate.verbs.reproduce.claims import (
    Claim,
    drift_of_shares,
    falls,
    judge,
    last,
    less,
    ratio,
    rise,
    smallest_share,
)
from recurate.verbs.reproduce.ferbach import MIXED, PURE
from recurate.verbs.reproduce.over_seeds import mean_and_reach, over_seeds


def path(values, quantity="mean_reward", se=None, **which):
    rows = [
        Row(t, "measured", quantity, v, lower=None if se is None else v - 1.96 * se,
            upper=None if se is None else v + 1.96 * se, **which)
        for t, v in enumerate(values)
    ]  # fmt: skip
    return Trajectory(tuple(rows))


def verdict(values, above=True, bound=0.0):
    claim = Claim("it is so", "a number", last("a", "mean_reward", reward="r"), above, bound)
    return judge(claim, [{"a": path([v], reward="r")} for v in values])


@pytest.mark.parametrize(
    ("values", "above", "expected"),
    [
        ((1.0, 1.1, 0.9), True, "agrees"),
        ((-1.0, -1.1, -0.9), True, "refuted"),
        ((1.0, -1.0, 0.5), True, "undecided"),
        ((-1.0, -1.1, -0.9), False, "agrees"),
        ((1.0, 1.1, 0.9), False, "refuted"),
        ((1.0,), True, "undecided"),
        ((2.0, 2.0, 2.0), True, "agrees"),
        ((0.0, 0.0, 0.0), True, "undecided"),
    ],
)
def test_verdicts(values, above, expected):
    assert verdict(values, above).verdict == expected


def test_the_interval_is_students():
    """t_2 at 97.5 % is 4.302653 (tables)."""
    found = verdict((1.0, 2.0, 3.0))
    assert found.mean == 2.0
    assert found.reach == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=9), st.floats(-10, 10))
def test_the_interval_moves_with_the_values(values, shift):
    mean, reach = mean_and_reach(values)
    moved = mean_and_reach([v + shift for v in values])
    assert moved == pytest.approx((mean + shift, reach), abs=1e-9)


def test_the_interval_covers():
    """4,000 samples of three normal values: 95 % of the intervals cover, false-alarm rate 1e-6."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(4000):
        mean, reach = mean_and_reach(rng.normal(size=3))
        inside += abs(mean) <= reach
    assert abs(inside / 4000 - 0.95) < 4.9 * math.sqrt(0.95 * 0.05 / 4000)


def test_statistics_of_runs():
    runs = {
        "a": path([1.0, 2.0, 4.0], reward="r")
        + path([0.5, 0.4, 0.1], "share", group="x")
        + path([0.5, 0.6, 0.9], "share", group="y")
        + path([0.0, 1.0, 0.97, 0.5], "mean_exp_reward", se=0.02, reward="r"),
        "b": path([1.0, 1.5], reward="r"),
    }
    assert last("a", "mean_reward", reward="r")(runs) == 4.0
    assert rise("a", "mean_reward", reward="r")(runs) == 3.0
    assert ratio("a", "mean_reward", reward="r")(runs) == 4.0
    assert ratio("a", "mean_reward", first=1, reward="r")(runs) == 2.0
    assert smallest_share("a")(runs) == pytest.approx(0.1)
    assert drift_of_shares("a")(runs) == pytest.approx(0.4)
    assert less(rise("a", "mean_reward", reward="r"), rise("b", "mean_reward", reward="r"))(runs) == 2.5
    # .97 is a fall of 1.1 standard errors, .5 one of 17.
    assert falls("a", "mean_exp_reward", reward="r")(runs) == 1.0


def test_means_over_seeds():
    runs = [path([1.0, 2.0]), path([3.0, 2.0]), path([2.0])]
    found = over_seeds(runs)
    assert [(r.round, r.value) for r in found.rows] == [(0, 2.0)]
    both = over_seeds(runs[:2])
    assert [r.value for r in both.rows] == [2.0, 2.0]
    assert both.rows[1].lower == both.rows[1].upper == 2.0
    assert over_seeds(runs[2:]).rows[0].lower is None


@pytest.mark.parametrize("scale", ["small", "paper"])
@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_experiment_is_a_valid_run(name, scale):
    found = experiment(name, scale)
    for config in (*found.starts.values(), *found.arms.values()):
        parse_config({key: value for key, value in config.items() if key != "start"})
    assert "arXiv" in found.source
    if name == "text-scale":
        assert {config["start"] for config in found.arms.values()} == set(found.starts)
        assert len(found.arms) == len(found.starts) * len(text_scale.SLATES) * len(text_scale.REAL)
        return
    assert set(found.arms) | set(found.laws)
    assert all(not claim.exact for claim in found.claims) or found.laws
    assert len(found.claims) >= 3
    if name.startswith("F-"):
        assert parse_config(found.arms[PURE]).retraining.real_fraction == 0
        assert parse_config(found.arms[MIXED]).retraining.real_fraction > 0


def test_what_there_is_not(tmp_path):
    with pytest.raises(InputError, match="no such experiment"):
        experiment("F-gausians", "small")
    with pytest.raises(InputError, match="no such scale"):
        experiment("F-moons", "large")
    wrong = (["--scale", "large"], ["--seeds", "0"], ["--engine", "shards"], ["--engine", "ray://a:1"])
    for arguments in (["F-mons"], *(["F-moons", *words] for words in wrong)):
        assert call("reproduce", *arguments, cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["F-moons", "--data", "x"], "leave the data out"),
        (["F-cifar-airplane", "--data", "x"], "use the scale paper"),
        (["heterogeneous", "--seeds", 3], "has no seeds"),
        (["A-disjoint", "--jobs", 2], "no runs to do at once"),
        (["heterogeneous", "--engine", "local"], "engine local"),
    ],
)
def test_options_that_would_be_ignored(tmp_path, arguments, said):
    done = call("reproduce", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_has_one_experiment(tmp_path):
    (tmp_path / "reproduce.json").write_text('{"experiment": "F-moons", "scale": "small"}')
    for name, scale in (("heterogeneous", "small"), ("F-moons", "paper")):
        with pytest.raises(InputError, match=r"another experiment(.|\n)*F-moons, scale small"):
            reproduce.reproduce(name, tmp_path, scale=scale)
    (tmp_path / "reproduce.json").write_text("no result")
    assert reproduce.reproduce("heterogeneous", tmp_path).findings


def test_equal_seeds_have_no_interval(tmp_path):
    with pytest.raises(InputError, match="given twice"):
        reproduce.reproduce("F-moons", tmp_path, seeds=(1, 1))


def test_the_command_at_a_tiny_size(tmp_path, monkeypatch):
    """Two seeds of two small arms, run in this process; a second call runs nothing again."""
    real = catalogue.experiment

    def small(name, scale, data=None):
        found = real(name, scale, data)
        tiny = {k: v for k, v in GAUSSIANS.items() if k != "seed"} | {
            "rewards": [{"kind": "distance", "centre": [2.0, 0.0]}],
            "data": {"kind": "gaussians", "modes": 4, "size": 500, "sd": 0.2},
        }
        arms = {arm: tiny | {"retraining": config["retraining"]} for arm, config in found.arms.items()}
        return dataclasses.replace(found, arms=arms)

    monkeypatch.setattr(reproduce, "experiment", small)
    monkeypatch.setenv("COLUMNS", "400")  # nothing is wrapped
    done = call("reproduce", "F-gaussians", "--seeds", 2, "--engine", "local", "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Published and here" in done.stdout
    assert "collapses onto the mode" in done.stdout
    out = tmp_path / "here"
    files = {p: p.stat().st_mtime_ns for p in out.rglob("rounds/*/log.parquet")}
    assert len(files) == 2 * 2 * 3
    text = (out / "report.html").read_text()
    assert "F-gaussians, reproduced" in text
    assert (out / "claims.csv").read_text().count("\n") == 1 + 5 * 2
    again = call("reproduce", "F-gaussians", "--seeds", 2, "--engine", "local", "--out", "here", cwd=tmp_path)
    assert again.returncode == 0
    assert {p: p.stat().st_mtime_ns for p in out.rglob("rounds/*/log.parquet")} == files

    run = reproduce.folder_of(out, PURE, 0)
    config = tomllib.loads((run / "config.toml").read_text())
    measured = (run / "rounds" / "002" / "measures.parquet").read_bytes()
    shutil.rmtree(run / "rounds" / "002")  # as if it had been killed
    reproduce.play_run((config, str(run)))
    assert (run / "rounds" / "002" / "measures.parquet").read_bytes() == measured
    with pytest.raises(InputError, match="other settings") as refused:
        reproduce.play_run((config | {"rewards": [{"kind": "distance", "centre": [0.0, 0.0]}]}, str(run)))
    assert refused.value.got.endswith("differs in rewards")


def test_the_grid_of_texts_at_a_tiny_size(tmp_path, monkeypatch):
    """One size, one seed: every cell starts from the model of one first run, and the tables say what came."""
    pytest.importorskip("transformers")
    tiny = text_scale.Scale((text_scale.Size(1, 16, 2, 3e-3),), {"device": "cpu"}, 1, 200, 20, 280)
    monkeypatch.setattr(text_scale, "SMALL", tiny)
    base = text_scale._base
    monkeypatch.setattr(text_scale, "_base", lambda *a: base(*a) | {"classifier": {"steps": 40}})
    monkeypatch.setattr(text_scale, "SLATES", (2, 4))
    monkeypatch.setattr(text_scale, "REAL", (0.0, 0.5))
    monkeypatch.delenv("RECURATE_DATA", raising=False)
    done = call("reproduce", "text-scale", "--engine", "local", "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "here"
    cells = [path.parent for path in sorted(out.glob("*K-*/seed-0/config.toml"))]
    assert len(cells) == 4
    first = out / "first-model-0.0076M" / "seed-0" / "rounds" / "000" / "model"
    assert all(f'model = "{first.relative_to(tmp_path)}"' in (c / "config.toml").read_text() for c in cells)
    logs = [RunFolder.open(cell).log(0).select(source="model") for cell in cells]
    assert [log.table.num_rows for log in logs] == [40, 40, 80, 80]
    grid = pv.read_csv(out / "grid.csv")
    assert grid.num_rows == 4
    last_round = Trajectory.read(cells[0] / "trajectory.parquet").series("entropy", source="measured")[1]
    assert grid["entropy_measured"][0].as_py() == pytest.approx(last_round.value)
    assert "Entropy of the classes" in done.stdout
    assert "Imbalance over K" in (out / "report.html").read_text()
