"""P-E3 and P-E4: bounds and statistics by hand, and both experiments at a tiny size."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pyarrow.csv as pv
import pytest

from helpers.commands import call
from recurate.core.errors import InputError
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.loop.config import parse_config
from recurate.loop.run_folder import RunFolder
from recurate.theory import bands
from recurate.verbs.reproduce import catalogue, length_texts, multi_target, reproduce
from recurate.verbs.reproduce.attributed import PARTS, extinction, share_parts, total, typical_gap
from recurate.verbs.reproduce.catalogue import experiment
from recurate.verbs.reproduce.length_texts import near
from recurate.verbs.reproduce.multi_target import least_outside, most_entropy, outside
from recurate.verbs.reproduce.over_seeds import shown


def rows(quantity, *values, group=None, source=MEASURED):
    return Trajectory(tuple(Row(t, source, quantity, v, group=group) for t, v in enumerate(values)))


# --- statistics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [1, 2, 5])
def test_no_law_with_less_outside_has_more_entropy(targets):
    """Against random laws of ten classes, and the one that reaches the bound."""
    rng = np.random.default_rng(0)
    for law in rng.dirichlet(np.full(10, 0.3), 300):
        beyond = float(law[targets:].sum())
        logs = np.log(np.where(law > 0, law, 1.0))
        assert -(law @ logs) <= most_entropy(beyond, targets) + 1e-12
    even = np.r_[np.full(targets, 0.8 / targets), np.full(10 - targets, 0.2 / (10 - targets))]
    assert -(even @ np.log(even)) == pytest.approx(most_entropy(0.2, targets))


def test_the_least_mass_outside():
    assert least_outside(math.log(2), 2) == 0
    assert least_outside(0.5, 2) == 0
    assert least_outside(math.log(10), 2) == pytest.approx(0.8, abs=1e-6)
    for m, entropy in multi_target.ENTROPY.items():
        assert most_entropy(least_outside(entropy, m), m) == pytest.approx(entropy)
        assert entropy > math.log(m)


def test_statistics_of_targets():
    runs = {
        "a": rows("share", 0.1, 0.5, group="x") + rows("share", 0.2, 0.3, group="y")
        + rows("share", 0.7, 0.2, group="z")
        + rows("share_sampling", 0.1, -0.2, group="x") + rows("share_sampling", 0.0, 0.2, group="y")
        + rows("entropy_sampling", 0.25, -1.0)
    }  # fmt: skip
    assert outside("a", ["x", "y"])(runs) == pytest.approx(0.2)
    assert total("a", "entropy_sampling")(runs) == -0.75
    assert typical_gap("a", "sampling", "x", "y")(runs) == pytest.approx(math.sqrt((0.01 + 0.16) / 2))


def test_texts_near_a_target():
    groups = {"05": 0.1, "06": 0.2, "07": 0.3, "08": 0.4}
    runs = {"a": sum((rows("share", 0.9, v, group=g) for g, v in groups.items()), Trajectory())}
    assert near("a", 6)(runs) == pytest.approx(0.6)
    assert near("a", 12)(runs) == 0


# --- configurations -------------------------------------------------------------------------------


def test_the_published_sizes():
    """Paper scale: 2,500 of 50,000 in 25 rounds, from one first model; every class known to CIFAR-10."""
    found = experiment("P-E3", "paper", "somewhere")
    configs = {arm: dict(config) for arm, config in found.arms.items()}
    assert {config.pop("start") for config in configs.values()} == set(found.starts)
    for m in range(1, 6):
        config = parse_config(configs[f"M = {m}"])
        assert (config.rounds, config.selection.picks, config.selection.k) == (25, 2500, 20)
        assert config.weights == pytest.approx([1 / m] * m)
        assert config.generator.coupling == "ot"
    picks = {arm: parse_config(c).selection.picks for arm, c in configs.items() if arm.startswith("M = 2,")}
    assert sorted(picks.values()) == [75, 300, 3000]
    texts = experiment("P-E4", "paper")
    config = parse_config({k: v for k, v in texts.arms["two targets"].items() if k != "start"})
    size = config.generator.scratch
    assert (size.layers, size.heads, size.width) == (6, 6, 384)
    assert (config.rounds, config.selection.picks, config.weights) == (20, 200, (0.5, 0.5))
    assert (config.generator.training.learning_rate, config.generator.training.epochs) == (5e-5, 2)
    assert {reward.tau for reward in config.rewards} == {0.5}


# --- both at a tiny size --------------------------------------------------------------------------


def shrink(monkeypatch, change):
    """Replace every configuration of the experiments by a smaller one."""
    real = catalogue.experiment

    def small(name, scale, data=None):
        found = real(name, scale, data)
        parts = {
            part: {arm: change(dict(config), part) for arm, config in getattr(found, part).items()}
            for part in ("starts", "arms")
        }
        return dataclasses.replace(found, **parts)

    monkeypatch.setattr(reproduce, "experiment", small)


def tiny_images(config, part):
    size = {"width": 16, "first_steps": 150, "steps": 20, "batch": 64, "ode_steps": 2}
    config |= {"generator": config["generator"] | size, "classifier": {"width": 16, "steps": 100}}
    config |= {"measures": {"sample": 100}}
    if part == "arms":
        config |= {"rounds": 2, "selection": {"k": 4, "picks": config["selection"]["picks"]}}
    return config


@pytest.mark.usefixtures("few_replicates")
def test_targets_at_a_tiny_size(tmp_path, monkeypatch):
    """Every arm starts from one model; derived rows add up."""
    shrink(monkeypatch, tiny_images)
    done = call("reproduce", "P-E3", "--seeds", 1, "--engine", "local", "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "one seed gives no interval" in done.stdout
    for text in ("Entropy and Frechet distance by the number of targets", "sampling or transmission"):
        assert text in done.stdout
    out = tmp_path / "here"
    model = (out / "first-model" / "seed-0" / "rounds" / "000" / "model").relative_to(tmp_path)
    for config in out.glob("M-*/seed-0/config.toml"):
        assert f'model = "{model}"' in config.read_text()
    table = pv.read_csv(out / "targets.csv").to_pylist()
    assert [row["targets"] for row in table] == [1, 2, 3, 4, 5, 2, 2]
    for row in table:
        run = Trajectory.read(out / folder(row["arm"]) / "seed-0" / "trajectory.parquet")
        first, *_, end = run.values("entropy", source=MEASURED)
        assert sum(row[f"entropy_{part}"] for part in PARTS) == pytest.approx(end - first, abs=1e-9)
        assert row["entropy"] == pytest.approx(end)
    assert all(0 <= row["lost"] <= 1 for row in table if row["targets"] == 2)

    run = RunFolder.open(out / folder("M = 2, 75 picks") / "seed-0")
    measured = run.trajectory()
    parts = share_parts(run)
    for group in measured.about(MEASURED):
        if group[0] == "share":
            steps = sum(parts.values(f"share_{part}", source=MEASURED, group=group[2]) for part in PARTS)
            values = measured.values("share", source=MEASURED, group=group[2])
            np.testing.assert_allclose(steps, [b - a for a, b in itertools.pairwise(values)], atol=1e-9)
    present = max(measured.where(MEASURED, "share", 0).rows, key=lambda row: row.value).group
    lost = extinction(run, ["nobody", present])
    assert lost.values("lost", source=FORECAST, group="nobody").tolist() == [1, 1, 1]
    assert lost.values("lost", source=FORECAST, group=present)[0] == 0
    monkeypatch.setattr(bands, "SMALLEST_POOL", 301)
    with pytest.raises(InputError, match="is not known") as said:
        extinction(run, [present])
    assert "300 candidates are too few" in str(said.value)


def folder(arm):
    return reproduce.folder_of(reproduce.Path(), arm, 0).parent


def tiny_texts(config, part):
    scratch = {"layers": 1, "width": 16, "heads": 2, "vocabulary": 280, "window": 34}
    training = {"first_epochs": 2, "epochs": 1, "batch": 16, "learning_rate": 3e-3}
    generator = {"kind": "language", "sample": {"longest": 32}, "scratch": scratch, "training": training}
    config |= {"generator": generator, "data": {"kind": "queries", "source": "generated", "size": 200}}
    return config | ({"rounds": 1, "selection": {"k": 3, "picks": 30}} if part == "arms" else {})


def test_lengths_at_a_tiny_size(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    shrink(monkeypatch, tiny_texts)
    done = call("reproduce", "P-E4", "--seeds", 1, "--engine", "local", "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Entropy of the lengths" in done.stdout
    table = pv.read_csv(tmp_path / "here" / "lengths.csv").to_pylist()
    assert [row["arm"] for row in table] == ["one target", "two targets"]
    assert table[0]["first"] == table[1]["first"] > 0, "both arms start from one model"
    for row in table:
        assert sum(row[part] for part in PARTS) == pytest.approx(row["entropy"] - row["first"], abs=1e-9)


def test_texts_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("RECURATE_DATA", raising=False)
    done = call("reproduce", "P-E4", "--engine", "local", "--out", "here", cwd=tmp_path)
    assert done.returncode == 2
    assert "clinc150" in done.stderr
    assert "RECURATE_DATA" in done.stderr
    assert length_texts.PICKS == 200


def test_means_in_words():
    assert shown([0.5]) == "0.500"
    assert shown([1.0, 2.0, 3.0], 1) == "2.0 ± 2.5"
    assert shown([1.0, 1.0, 1.0001]) == "1.000 ± <0.001"
