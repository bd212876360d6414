"""Shards of a round: the same bytes wherever they are done, each done once, none of another round used."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from helpers.paths import refused
from helpers.tiny import GAUSSIANS, contents, merged
from recurate.components.generators.flow import FlowMatching
from recurate.core.errors import InputError, Waiting
from recurate.core.sealed import sealed
from recurate.engines.engine import Elsewhere, Local, opened
from recurate.loop import shards
from recurate.loop.config import parse_config, write_config
from recurate.loop.driver import do_shards, resume, run, train_round, waiting_run
from recurate.loop.run_folder import RunFolder
from recurate.loop.shards import Batch, batches, sample_shard, score_shard

SMALL = merged(GAUSSIANS, rounds=1, control=True, engine={"shard": 100})  # 5 shards, and 2 of the control arm
SHARDS = 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "local"
    run(parse_config(SMALL), folder)
    return contents(folder)


@pytest.fixture(scope="module")
def processes():
    with opened("processes", 2) as engine:
        yield engine


@pytest.fixture
def begun(tmp_path) -> Path:
    """A run whose first round waits for its shards."""
    with pytest.raises(Waiting, match="5 shards are missing"):
        run(parse_config(SMALL), tmp_path / "run", engine=Elsewhere())
    return tmp_path / "run"


def test_a_round_has_whole_slates_in_even_shards():
    for slates, k, most, expected in ((150, 3, 100, 5), (150, 3, 450, 1), (150, 3, 451, 1), (7, 3, 1, 7)):
        config = parse_config(
            merged(SMALL, selection={"slates": slates, "k": k, "picks": 5}, engine={"shard": most})
        )
        batch = Batch(config, None, None, None, None)
        rows = [batch._rows(j) for j in range(config.parts)]
        assert config.parts == expected
        assert [r.start for r in rows] + [slates * k] == [0] + [r.stop for r in rows]
        sizes = {(r.stop - r.start) // k for r in rows}
        assert all((r.stop - r.start) % k == 0 for r in rows)
        assert max(sizes) - min(sizes) <= 1
    assert parse_config(GAUSSIANS).parts == 1
    external = {
        "kind": "external",
        "sample": ["a", "{candidates}"],
        "fit": ["b", "{training}", "{new_checkpoint}"],
    }
    many = GAUSSIANS | {"selection": {"k": 4, "picks": 100_000}}
    assert parse_config(many).parts == 4
    assert parse_config(many | {"generator": external}).parts == 1
    assert parse_config(many | {"generator": external, "engine": {"shard": 50_000}}).parts == 8


def test_processes_give_the_same_bytes(whole, processes, tmp_path):
    run(parse_config(SMALL), tmp_path / "run", engine=processes)
    assert contents(tmp_path / "run") == whole


class Remembers:
    """Does the tasks of another engine, and keeps what they were."""

    def __init__(self, engine) -> None:
        self.engine, self.names = engine, []

    def map(self, function, tasks, needs):
        self.names += [function.__name__] * len(tasks)
        return self.engine.map(function, tasks, needs)


def test_models_trained_by_tasks_are_the_same(processes, tmp_path, monkeypatch):
    config = parse_config(merged(SMALL, engine={"shard": 100, "training": "task"}))
    run(config, tmp_path / "here")
    engine = Remembers(processes)
    monkeypatch.setattr("recurate.components.generators.flow.FlowMatching.fit", _only_control)
    run(config, tmp_path / "there", engine=engine)
    assert engine.names.count("train_round") == 2
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


FIT = FlowMatching.fit


def _only_control(self, data, *, rng, **rest):
    """Train in this process the control arm's model alone."""
    assert "control" in rng.path
    return FIT(self, data, rng=rng, **rest)


def test_a_model_that_a_task_trained_is_kept(tmp_path, monkeypatch):
    config = parse_config(merged(SMALL, control=False, engine={"shard": 100, "training": "task"}))
    run(config, tmp_path / "whole")
    with pytest.raises(InputError, match="no more"):
        run(config, tmp_path / "run", engine=Fails(1))  # the model is trained, no shard is done
    fits = []
    monkeypatch.setattr(FlowMatching, "fit", lambda self, *a, **b: fits.append(1) or FIT(self, *a, **b))
    resume(tmp_path / "run")
    assert len(fits) == 1
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_run_that_a_worker_does_not_see_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be seen on this machine"):
        train_round((str(tmp_path / "elsewhere"), 0))


def test_shards_by_hand_give_the_same_bytes(whole, begun):
    for _ in range(9):
        for index in (2, 0, 1):
            do_shards(begun, index, 3)
        try:
            resume(begun, engine=Elsewhere())
            break
        except Waiting:
            assert batches(RunFolder.open(begun))
    assert contents(begun) == whole


def test_the_engine_does_not_matter_to_rounds_of_one_shard(processes, tmp_path):
    config = parse_config(merged(GAUSSIANS, rounds=1))
    run(config, tmp_path / "here")
    run(config, tmp_path / "there", engine=processes)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert not (tmp_path / "there" / ".shards").exists()


def test_one_shard_has_the_samples_of_the_round_itself(tmp_path):
    """As in runs that were made before there were shards; several shards have streams of their own."""
    run(parse_config(merged(GAUSSIANS, rounds=1)), tmp_path / "default")
    store = RunFolder.open(tmp_path / "default")
    config = store.config()
    stream = shards.Stream(config.seed).at("round", 1, "sample")
    model = store.model(store.round_path(1), store.environment(config))
    np.testing.assert_array_equal(store.samples(1), model.sample(450, rng=stream))
    run(parse_config(merged(SMALL, control=False)), tmp_path / "shards")
    store = RunFolder.open(tmp_path / "shards")
    model = store.model(store.round_path(1), store.environment(config))
    parts = [model.sample(90, rng=stream.at("shard", j)) for j in range(SHARDS)]
    np.testing.assert_array_equal(store.samples(1), np.concatenate(parts))


class Fails:
    """Does some shards, then fails, as if all of it had been killed."""

    def __init__(self, after: int) -> None:
        self.left = after

    def map(self, function, tasks, needs):
        for task in tasks:
            if not self.left:
                raise InputError("no more", got="", remedy="")
            self.left -= 1
            yield function(task)


@pytest.mark.parametrize("after", [0, 3, 5, 8])
def test_a_resumed_round_keeps_its_model_and_finished_shards(whole, tmp_path, monkeypatch, after):
    folder = tmp_path / "run"
    with pytest.raises(InputError, match="no more"):
        run(parse_config(SMALL), folder, engine=Fails(after))
    assert len(list(folder.glob(".shards/000-0-main/*-0*"))) == after
    sampled, fitted = [], []
    original, fit = Batch.sample, FlowMatching.fit
    monkeypatch.setattr(Batch, "sample", lambda self, j: sampled.append(j) or original(self, j))
    monkeypatch.setattr(FlowMatching, "fit", lambda self, *a, **b: fitted.append(1) or fit(self, *a, **b))
    resume(folder)
    assert len(sampled) == 2 * SHARDS + 2 - min(after, SHARDS)  # two rounds, and the control arm's second
    assert len(fitted) == 2  # round 1 and its control arm; round 0's model was there
    assert contents(folder) == whole


def test_shards_that_are_damaged_or_of_another_round_are_done_again(whole, begun):
    do_shards(begun, 0, 1)
    (path,) = batches(RunFolder.open(begun))
    samples = path / "samples-00002" / "samples.safetensors"
    samples.write_bytes(samples.read_bytes()[:-1] + b"?")
    foreign = path / "rewards-00004" / "contents.json"
    found = json.loads(foreign.read_text()) | {"batch": "0" * 64}
    del found["seal"]
    foreign.write_text(sealed(found))
    resume(begun)
    assert contents(begun) == whole


def test_a_model_of_another_course_is_trained_again(whole, begun):
    (path,) = batches(RunFolder.open(begun))
    card = path / "contents.json"
    found = json.loads(card.read_text())
    found["facts"]["stream"][-1] = "another"
    del found["seal"]
    card.write_text(sealed(found))
    resume(begun)
    assert contents(begun) == whole


def test_tasks_done_twice_or_at_once_change_nothing(begun):
    (path,) = batches(RunFolder.open(begun))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(sample_shard, [(str(path), 1)] * 4)) == [1] * 4
    score_shard((str(path), 1))
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.rglob("*") if p.is_file()}
    sample_shard((str(path), 1))
    score_shard((str(path), 1))
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.rglob("*") if p.is_file()} == before
    assert not list(path.glob(".samples*"))


def test_other_versions_and_devices_do_no_shards(begun, monkeypatch):
    monkeypatch.setattr(shards, "versions", lambda: {"python": "3.99", "recurate": "9.9"})
    with pytest.raises(InputError, match=r"may give other numbers") as error:
        do_shards(begun, 0, 1)
    assert "recurate 9.9, not" in error.value.got
    monkeypatch.undo()
    monkeypatch.setattr(shards, "device_of", lambda config: "cuda (another)")
    with pytest.raises(InputError, match=r"device cuda \(another\), not cpu"):
        do_shards(begun, 0, 1)


def test_a_changed_file_begins_the_round_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = "import numpy as np\ndef right(samples):\n    return {}samples[:, 0]\n"
    Path("my_right.py").write_text(source.format(""))
    config = merged(SMALL, control=False, rounds=1) | {"rewards": [{"kind": "my_right:right"}]}
    with pytest.raises(Waiting):
        run(parse_config(config), Path("run"), engine=Elsewhere())
    do_shards(Path("run"), 0, 1)
    Path("my_right.py").write_text(source.format("1 * "))
    with pytest.raises(InputError, match="has changed since it began"):
        do_shards(Path("run"), 0, 1)
    with pytest.raises(Waiting):
        resume(Path("run"), engine=Elsewhere(), accept_changes=True)
    (path,) = batches(RunFolder.open(Path("run")))
    assert not list(path.glob("rewards-*"))


def test_values_that_depend_on_other_samples_are_refused_where_there_are_shards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_rank.py").write_text("def rank(samples):\n    return samples[:, 0].argsort().argsort()\n")
    config = GAUSSIANS | {"rewards": [{"kind": "my_rank:rank"}], "rounds": 1}
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="depends on the other samples"):
        run(parse_config(config | {"engine": {"shard": 100}}), tmp_path / "shards")
    run(parse_config(config), tmp_path / "whole")  # one shard: as before


def test_the_commands(begun, whole, tmp_path, recurate_cli):
    out = tmp_path / "out"
    (tmp_path / "loop.toml").write_text(write_config(parse_config(merged(SMALL, control=False))))
    done = recurate_cli("run", "loop.toml", "--out", out, "--engine", "shards")
    assert done.returncode == 0, done.stderr
    assert f"waiting for 5 shards: recurate shard {out} --index I --of N" in done.stderr
    assert "no run of this configuration" in refused(
        recurate_cli("shard", "loop.toml", "--index", 0, "--of", 2)
    )
    for index in (0, 1):
        done = recurate_cli("shard", out, "--index", index, "--of", 2)
        assert done.stdout == f"main: {3 - index} shards done, {index} to {4 - index}\n"
    done = recurate_cli("run", "--resume", out, "--engine", "shards")
    assert done.returncode == 0
    assert "waiting for 5 shards" in done.stderr
    done = recurate_cli("run", "--resume", out, "--engine", "processes", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "no shards of round 2 are waited for" in refused(
        recurate_cli("shard", out, "--index", 0, "--of", 1)
    )
    assert "index must lie in" in refused(recurate_cli("shard", out, "--index", 2, "--of", 2))
    assert "did you mean" in refused(recurate_cli("run", "--resume", out, "--engine", "process"))


def test_a_configuration_stands_for_its_run_that_waits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "loop.toml"
    path.write_text(write_config(parse_config(merged(SMALL, control=False))))
    with pytest.raises(InputError, match="no run of this configuration"):
        waiting_run(path, tmp_path / "runs")
    for number, settings in enumerate((SMALL, merged(SMALL, control=False))):
        with pytest.raises(Waiting):
            run(parse_config(settings), tmp_path / "runs" / f"loop-{number}", engine=Elsewhere())
    assert waiting_run(path, tmp_path / "runs") == tmp_path / "runs" / "loop-1"
    with pytest.raises(Waiting):
        run(parse_config(merged(SMALL, control=False)), tmp_path / "runs" / "other", engine=Elsewhere())
    with pytest.raises(InputError, match="several runs of this configuration") as error:
        waiting_run(path, tmp_path / "runs")
    assert f"{tmp_path / 'runs' / 'loop-1'}, {tmp_path / 'runs' / 'other'}" in str(error.value)


def test_a_killed_process_is_named_and_nothing_is_lost(whole, tmp_path, monkeypatch):
    folder, config = tmp_path / "run", parse_config(SMALL)
    with opened("processes", 2) as engine:
        kill = _KillsOne(engine)
        with pytest.raises(InputError, match="a worker process was killed"):
            run(config, folder, engine=kill)
    resume(folder)
    assert contents(folder) == whole


class _KillsOne:
    """Kills a process of a pool once a first shard is done."""

    def __init__(self, engine) -> None:
        self.engine = engine

    def map(self, function, tasks, needs):
        for result in self.engine.map(function, tasks, needs):
            for process in list(self.engine._pool._processes.values()):
                os.kill(process.pid, 9)
            yield result
        raise InputError("a worker process was killed too late", got="", remedy="")


def test_the_local_engine_leaves_nothing(whole):
    assert not [name for name in whole if ".shards" in name or ".work" in name]
    assert isinstance(Local().map(abs, [1]), map)
