"""Retraining sets: exact counts, replaced or accumulated, fresh or fixed real data; the control arm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.commands import call
from helpers.tiny import GAUSSIANS, contents, merged
from recurate.components.data import Dataset
from recurate.core.seeds import Stream
from recurate.log.trajectory import Trajectory
from recurate.loop.config import parse_config
from recurate.loop.driver import resume, run
from recurate.loop.mixing import Picks, Retraining, training_set
from recurate.loop.run_folder import RunFolder

REAL = np.arange(100, dtype=np.float32)[:, None]
DATA = Dataset(REAL, np.full(100, ""), REAL[:10], np.full(10, ""))


def batches(count: int, size: int) -> list[Picks]:
    """Batches whose samples are -1, -2, ... by round: never among the real data."""
    return [Picks(np.full((size, 1), -1.0 - t, np.float32)) for t in range(count)]


def mixed(t: int, size: int = 30, **options) -> tuple[np.ndarray, dict[str, int]]:
    retraining = Retraining(**options)
    known = batches(t, size)
    if retraining.mode == "replace":
        known = known[-1:]
    data = DATA if retraining.real_fraction or retraining.mode == "accumulate" else None
    found = training_set(known, t, data, retraining, Stream(0))
    assert found.real == found.counts["trained_on_real"]
    return found.samples[:, 0], found.counts


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 300), fraction=st.floats(0.0, 0.9), t=st.integers(1, 4))
def test_counts_are_exact(size, fraction, t):
    samples, counts = mixed(t, size, real_fraction=fraction)
    m = round(size * fraction / (1 - fraction))
    assert counts == {"trained_on_picks": size, "trained_on_real": m}
    assert (samples < 0).sum() == size
    assert (samples >= 0).sum() == m
    uses = np.bincount(samples[samples >= 0].astype(int), minlength=100)
    assert uses.max() - uses.min() <= 1, "every real sample as often, up to one"
    samples, counts = mixed(t, size, real_fraction=fraction, mode="accumulate")
    assert counts == {"trained_on_picks": t * size, "trained_on_real": t * m + size + m}
    assert [(samples == -1.0 - s).sum() for s in range(t)] == [size] * t, "every round's picks, once"
    assert len(samples) == (t + 1) * (size + m), "t + 1 batches of one size"


def test_fresh_and_fixed_real_samples():
    fresh = [set(mixed(t, real_fraction=0.5)[0][30:]) for t in (1, 2, 3)]
    fixed = [set(mixed(t, real_fraction=0.5, real_sample="fixed")[0][30:]) for t in (1, 2, 3)]
    assert fixed[0] == fixed[1] == fixed[2]
    assert fresh[0] != fresh[1] != fresh[2]
    assert all(len(found) == 30 for found in fresh + fixed)


def test_accumulated_real_samples_are_those_that_the_rounds_had():
    """A resumed run draws them again: each round's own, by its coordinates."""
    alone = [mixed(t, real_fraction=0.5)[0][30:] for t in (1, 2, 3)]
    whole = mixed(3, real_fraction=0.5, mode="accumulate")[0]
    np.testing.assert_array_equal(whole[-90:], np.concatenate(alone))


def test_contexts_stay_with_their_samples():
    names = np.array([f"c{i}" for i in range(100)])
    data = Dataset(REAL, np.full(100, ""), REAL[:10], np.full(10, ""), names, names[:10])
    picks = Picks(np.full((30, 1), -1.0, np.float32), np.full(30, "picked", object))
    found = training_set([picks], 1, data, Retraining(real_fraction=0.5), Stream(0))
    assert found.contexts is not None
    assert found.contexts[:30].tolist() == ["picked"] * 30
    assert found.contexts[30:].tolist() == [f"c{int(x)}" for x in found.samples[30:, 0]]


# --- in runs ---


def test_an_accumulating_run(tmp_path):
    config = parse_config(merged(GAUSSIANS, retraining={"mode": "accumulate"}))
    run(config, tmp_path / "whole")
    store = RunFolder.open(tmp_path / "whole")
    assert store.counts(1) | {"trained_on_picks": 120, "trained_on_real": 40 + 160} == store.counts(1)
    assert store.counts(2) | {"trained_on_picks": 240, "trained_on_real": 80 + 160} == store.counts(2)
    run(parse_config(merged(GAUSSIANS, retraining={"mode": "accumulate"}, rounds=1)), tmp_path / "part")
    text = (tmp_path / "part" / "config.toml").read_text()
    (tmp_path / "part" / "config.toml").write_text(text.replace("rounds = 1", "rounds = 2"))
    resume(tmp_path / "part")
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")
    # So does the forecast from its folder, and it is that of accumulation: it moves less than replacement's.
    done = call("forecast", tmp_path / "whole", "--rounds", 2, "--out", tmp_path / "f", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = Trajectory.read(tmp_path / "f" / "trajectory.parquet").values("mean_reward", reward="east")
    found = Trajectory.read(tmp_path / "whole" / "trajectory.parquet").values("mean_reward", reward="east")
    np.testing.assert_allclose(told, found, rtol=1e-12)
    run(parse_config(GAUSSIANS), tmp_path / "replaced")
    other = Trajectory.read(tmp_path / "replaced" / "trajectory.parquet").values("mean_reward", reward="east")
    assert found[0] == pytest.approx(other[0])
    assert abs(found[2] - found[0]) < 0.8 * abs(other[2] - other[0])


@pytest.fixture(scope="module")
def controlled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("control") / "out"
    run(parse_config(merged(GAUSSIANS, control=True)), folder)
    return folder


def test_the_control_arm_is_a_loop_without_selection(controlled):
    store = RunFolder.open(controlled)
    log = store.log(1)
    from recurate.log.schema import read_log

    arm = read_log(store.round_path(1) / "control" / "log.parquet")
    assert log.table.num_rows == 450
    assert arm.table.num_rows == 150, "one candidate a slate"
    assert arm.column("picked").all()
    np.testing.assert_allclose(arm.column("propensity"), 1.0)
    assert arm.rewards == log.rewards
    found = Trajectory.read(controlled / "trajectory.parquet")
    keys = found.about("control")
    assert ("mean_reward", "east", None) in keys
    assert {row.round for row in found.where("control").rows} == {0, 1, 2}


def test_the_control_arm_changes_nothing_else(controlled, tmp_path):
    run(parse_config(GAUSSIANS), tmp_path / "alone")
    mine = {n: b for n, b in contents(controlled).items() if n.endswith(("log.parquet", ".safetensors"))}
    theirs = {
        n: b for n, b in contents(tmp_path / "alone").items() if n.endswith(("log.parquet", ".safetensors"))
    }
    assert {name: found for name, found in mine.items() if "/control/" not in name} == theirs


def test_a_run_with_a_control_arm_is_resumed_as_it_was(controlled, tmp_path):
    run(parse_config(merged(GAUSSIANS, control=True, rounds=1)), tmp_path / "part")
    text = (tmp_path / "part" / "config.toml").read_text()
    (tmp_path / "part" / "config.toml").write_text(text.replace("rounds = 1", "rounds = 2"))
    resume(tmp_path / "part")
    assert contents(tmp_path / "part") == contents(controlled)
