"""Ray as an engine: the same bytes, also where workers and nodes die; clusters that do not fit are named."""

from __future__ import annotations

import math
import operator
import os
import platform
import socket
import sys

import pytest

from helpers.tiny import GAUSSIANS, contents, merged
from recurate.core.errors import InputError
from recurate.engines import on_ray
from recurate.engines.engine import engine_named, opened
from recurate.engines.needs import Needs
from recurate.loop.config import parse_config
from recurate.loop.driver import run

# --- without Ray -----------------------------------------------------------------------------------


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match="engine ray needs more than the plain installation") as error:
        list(engine_named("ray").map(operator.neg, [1]))
    assert "recurate[ray]" in error.value.remedy


def test_a_cluster_that_is_not_there(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # a port that nobody listens on
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for name, variable in ((f"ray://{address}", None), ("ray", address)):
            if variable is not None:
                monkeypatch.setenv("RAY_ADDRESS", variable)
            with pytest.raises(InputError, match="the Ray cluster cannot be reached") as error:
                engine_named(name).start(Needs())
            assert address in error.value.got


def test_a_cluster_of_another_python():
    said = "Version mismatch: The cluster was started with:\n    Ray: 2.60.0\n    Python: 3.12.1\n"
    found = on_ray._refused("ray://there:1", said)
    assert "another version of Ray or Python" in found.what
    assert "Python: 3.12.1" in found.got


def test_a_node_of_another_version_does_nothing(monkeypatch, tmp_path):
    """The task itself, which every node runs before it imports anything of recurate."""
    task = on_ray._task()
    versions = on_ray.versions()
    known = (versions, str(tmp_path), "_operator:neg")
    monkeypatch.chdir(tmp_path)
    assert task(known, 3) == {"done": -3}
    what, got, _ = task((versions | {"recurate": "9.9", "numpy": "1.0"}, *known[1:]), 3)["refused"]
    assert "other versions" in what
    assert platform.node() in got
    assert ", not 9.9" in got
    assert ", not 1.0" in got
    assert "current folder" in task((versions, str(tmp_path / "absent"), known[2]), 3)["refused"][0]
    assert "cannot import" in task((*known[:2], "absent_module:f"), 3)["refused"][0]


# --- with Ray --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'recurate[ray]'")
    with pytest.MonkeyPatch.context() as patch, opened("ray", 2) as found:
        patch.delenv("RAY_ADDRESS", raising=False)
        found.start(Needs())
        yield found


@pytest.mark.slow
def test_results_come_in_order_until_the_first_error(engine):
    assert list(engine.map(operator.neg, range(20))) == [-n for n in range(20)]
    assert list(engine.map(operator.neg, [])) == []
    found = engine.map(math.sqrt, [4.0, 9.0, -1.0, 16.0])
    assert [next(found), next(found)] == [2.0, 3.0]
    with pytest.raises(ValueError, match="math domain error"):
        next(found)
    with pytest.raises(InputError, match="too few GPUs"):
        engine.start(Needs(gpus=1000))


@pytest.mark.slow
def test_only_this_machine_can_reach_it_and_nothing_is_reported(engine):
    import ray

    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.slow
def test_another_version_on_the_cluster(engine, monkeypatch):
    monkeypatch.setattr(on_ray, "versions", lambda: {"python": "3.11.0", "recurate": "9.9"})
    with pytest.raises(InputError, match="a node of the Ray cluster has other versions") as error:
        list(engine.map(operator.neg, [1]))
    assert "recurate" in error.value.got


@pytest.mark.slow
def test_a_task_whose_worker_dies_every_time(engine):
    with pytest.raises(InputError, match="could not finish shard 1 of 1, and tried 5 times") as error:
        list(engine.map(os._exit, [1]))
    assert "finished shards are kept" in error.value.remedy


KILLS = """
import os
from pathlib import Path

import numpy as np


def kill_once(name):
    marks = Path(__file__).parent
    driver = marks / "driver"
    if driver.exists() and os.getpid() != int(driver.read_text()):
        try:
            (marks / name).touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), 9)


class Model:
    def __init__(self, data=np.empty(0)):
        self.data = data

    def fit(self, data, *, rng):
        if (Path(__file__).parent / "tasks").exists():
            kill_once("training")
        return Model(data)

    def sample(self, n, *, rng):
        draw = rng.generator()
        found = self.data[draw.integers(len(self.data), size=n)] + 0.1 * draw.standard_normal((n, 2))
        if n > 16:  # not in the repeated try
            kill_once("sampling")
        return found

    def save(self, folder):
        np.savez(folder / "model.npz", data=self.data)

    @classmethod
    def load(cls, folder):
        with np.load(folder / "model.npz") as saved:
            return cls(saved["data"])


def right(samples):
    if len(samples) > 16:
        kill_once("rewards")
    return samples[:, 0]
"""


@pytest.mark.slow
def test_workers_that_are_killed_in_the_midst_change_nothing(engine, tmp_path, monkeypatch):
    """SIGKILL once while a model is trained, once while candidates are sampled, and once while scored."""
    (tmp_path / "my_kills.py").write_text(KILLS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = {name: GAUSSIANS[name] for name in ("seed", "data", "groups")}
    config |= {"generator": {"kind": "my_kills:Model"}, "rewards": [{"kind": "my_kills:right"}], "rounds": 1}
    config |= {"selection": {"k": 3, "picks": 100}, "engine": {"shard": 60, "training": "task"}}
    run(parse_config(config), tmp_path / "local")
    (tmp_path / "tasks").touch()
    (tmp_path / "driver").write_text(str(os.getpid()))
    run(parse_config(config), tmp_path / "ray", engine=engine)
    assert all((tmp_path / name).exists() for name in ("training", "sampling", "rewards"))
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.mark.slow
def test_runs_have_the_same_bytes(engine, tmp_path):
    config = parse_config(merged(GAUSSIANS, rounds=1, control=True, engine={"shard": 100}))
    run(config, tmp_path / "local")
    run(config, tmp_path / "ray", engine=engine)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.mark.slow
def test_a_node_that_is_lost_changes_nothing(tmp_path):
    """A cluster of three nodes on this machine, of which one is killed once a shard is done."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'recurate[ray]'")
    from ray.cluster_utils import Cluster

    config = parse_config(merged(GAUSSIANS, rounds=1, engine={"shard": 50}))
    run(config, tmp_path / "local")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = cluster.add_node(num_cpus=1)
    try:
        with opened("ray") as engine, pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_ADDRESS", cluster.address)
            run(config, tmp_path / "ray", engine=_Loses(engine, lambda: cluster.remove_node(lost, False)))
    finally:
        cluster.shutdown()
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


class _Loses:
    """Loses something once, when the first result is there."""

    def __init__(self, engine, lose) -> None:
        self.engine, self.lose = engine, lose

    def map(self, function, shards, needs):
        for result in self.engine.map(function, shards, needs):
            if self.lose is not None:
                self.lose()
            self.lose = None
            yield result
