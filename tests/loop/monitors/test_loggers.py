"""Loggers: what each tool reads back, nothing twice after a resume, nothing sent, never in a run's way."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tomli_w

from helpers.commands import call
from helpers.paths import refused
from helpers.tiny import GAUSSIANS, merged
from recurate.core import errors
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.loop.config import parse_config
from recurate.loop.driver import run
from recurate.loop.monitors import loggers
from recurate.loop.monitors.loggers import MLflow, TensorBoard, WandB, make_loggers

# Not imported here: all tests would wait for it.
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("tensorboard", "mlflow", "wandb"))),
    reason="loggers are not installed",
)

ROUNDS = 2
# What would make a tool think that it is in a test, where some send nothing.
TELLTALES = (
    "CI",
    "PYTEST_CURRENT_TEST",
    "PYTEST_VERSION",
    "GITHUB_ACTIONS",
    "WANDB_MODE",
    "MLFLOW_TRACKING_URI",
)
WATCH = """
import os, sys
def hook(event, arguments, log=os.environ["RECURATE_TEST_NET"]):
    if event == "socket.getaddrinfo" and arguments[0] not in ("localhost", "127.0.0.1", None):
        open(log, "a").write(f"looked up {arguments[0]}\\n")
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] != "127.0.0.1":
        open(log, "a").write(f"connected to {arguments[1]}\\n")
sys.addaudithook(hook)
open(os.environ["RECURATE_TEST_NET"] + ".on", "a").write("watched\\n")
"""


class Trap:
    """A proxy that everybody is told to use, and a server for Weights & Biases: it hears whatever is sent."""

    def __init__(self, folder: Path) -> None:
        self.heard: list[bytes] = []
        self._log = folder / "net.txt"
        (folder / "watch").mkdir()
        (folder / "watch" / "sitecustomize.py").write_text(WATCH)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), self.url)
        plain = {k: v for k, v in os.environ.items() if k not in TELLTALES and k.lower() != "no_proxy"}
        path = os.pathsep.join(p for p in (str(folder / "watch"), os.environ.get("PYTHONPATH")) if p)
        self.environment = plain | proxies | {
            "PYTHONPATH": path, "RECURATE_TEST_NET": str(self._log), "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": "0" * 40, "HOME": str(folder), "XDG_CACHE_HOME": str(folder), "COLUMNS": "160",
        }  # fmt: skip

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(1)
                try:
                    self.heard.append(connection.recv(300))
                except OSError:
                    self.heard.append(b"")

    def caught(self) -> list[str]:
        looked = self._log.read_text().splitlines() if self._log.exists() else []
        return [h.decode(errors="replace") for h in self.heard] + looked

    def watched(self) -> int:
        """Return how many processes, started with its environment, reported their connections."""
        return Path(f"{self._log}.on").read_text().count("watched")

    def close(self) -> None:
        self._socket.close()


MAKING_A_STORE_TAKES_LONG = pytest.param("mlflow", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def logged(request, tmp_path_factory, server):
    """A run with loggers, ended after a round and resumed, in a network that is a trap."""
    folder = tmp_path_factory.mktemp("logged")
    trap = Trap(folder)
    (folder / "tiny.toml").write_text(tomli_w.dumps(merged(GAUSSIANS, rounds=1)))
    names = ("mlflow",) if request.param == "mlflow" else ("tensorboard", "wandb")
    wanted = [part for name in names for part in ("--logger", name)]
    first = server.warm(
        "run", "tiny.toml", "--out", "out", *wanted, cwd=folder, env=trap.environment, timeout=300
    )
    assert first.returncode == 0, first.stderr
    config = folder / "out" / "config.toml"
    config.write_text(config.read_text().replace("rounds = 1", f"rounds = {ROUNDS}"))
    again = server.warm("run", "--resume", "out", *wanted, cwd=folder, env=trap.environment, timeout=300)
    assert again.returncode == 0, again.stderr
    assert trap.watched() >= 2, "both commands"
    for done in (first, again):
        assert "failed" not in done.stdout
        assert done.stderr == ""
    yield folder / "out", trap
    trap.close()


@pytest.fixture(scope="module")
def kept(logged):
    return Trajectory.read(logged[0] / "trajectory.parquet")


def expected(kept: Trajectory, source: str) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for row in kept.where(source).rows:
        name = "/".join(p for p in row.key if p is not None and p != "reward").replace(":", "/")
        found.setdefault(name, []).append((row.round, row.value))
    return found


@pytest.mark.parametrize("logged", ["others", MAKING_A_STORE_TAKES_LONG], indirect=True)
def test_nothing_is_sent(logged):
    assert logged[1].caught() == []


def test_the_trap_hears_what_is_sent(tmp_path):
    trap = Trap(tmp_path)
    code = (
        "import requests, socket\n"
        "try: requests.get('https://example.com', timeout=5)\n"
        "except Exception: pass\n"
        "try: socket.getaddrinfo('nowhere.invalid', 80)\n"
        "except OSError: pass\n"
    )
    subprocess.run([sys.executable, "-c", code], env=trap.environment, check=True, timeout=60)
    assert any("CONNECT example.com" in line for line in trap.caught())
    assert "looked up nowhere.invalid" in trap.caught()
    trap.close()


@pytest.mark.slow
def test_the_trap_hears_weights_and_biases_once_it_is_online(tmp_path):
    """So that its silence above tells something: the same call, with the user's WANDB_MODE."""
    trap = Trap(tmp_path)
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(merged(GAUSSIANS, rounds=1)))
    process = subprocess.Popen(
        [sys.executable, "-m", "recurate.cli", "run", "tiny.toml", "--out", "out", "--logger", "wandb"],
        cwd=tmp_path, env=trap.environment | {"WANDB_MODE": "online"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not trap.heard and time.monotonic() < end and process.poll() is None:
        time.sleep(0.2)
    process.kill()
    process.wait(10)
    assert any("graphql" in line for line in trap.caught())
    trap.close()


def record(folder: Path) -> dict[str, bytes]:
    """Everything of a run but its loggers and timings, and the revision: somebody may commit meanwhile."""
    from helpers.tiny import contents

    found = {n: b for n, b in contents(folder).items() if not n.startswith("loggers/") and n != "report.html"}
    found["manifest.json"] = re.sub(rb'"(code_revision|seal)".*', b"", found["manifest.json"])
    return found


@pytest.mark.parametrize("logged", ["others", MAKING_A_STORE_TAKES_LONG], indirect=True)
def test_the_run_is_the_same_with_loggers_as_without(logged, tmp_path):
    run(parse_config(merged(GAUSSIANS, rounds=ROUNDS)), tmp_path / "plain")
    assert record(logged[0]) == record(tmp_path / "plain")


@pytest.mark.parametrize("logged", ["others"], indirect=True)
def test_tensorboard(logged, kept):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for source in (MEASURED, FORECAST):
        read = EventAccumulator(str(logged[0] / "loggers" / "tensorboard" / source))
        read.Reload()
        found = {
            tag: [(e.step, e.value) for e in read.Scalars(tag)]
            for tag in read.Tags()["scalars"]
            if not tag.startswith("counts/")
        }
        wanted = expected(kept, source)
        assert found.keys() == wanted.keys()
        for name, pairs in wanted.items():
            assert [t for t, _ in found[name]] == [t for t, _ in pairs], "each round once, in order"
            assert [v for _, v in found[name]] == pytest.approx([v for _, v in pairs], rel=1e-6)
        if source == MEASURED:
            facts = read.Tensors("facts")[0].tensor_proto.string_val[0].decode()
            assert "| k | 3 |" in facts


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("logged", [MAKING_A_STORE_TAKES_LONG], indirect=True)
def test_mlflow(logged, kept):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{logged[0] / 'loggers' / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("recurate")
    (one,) = client.search_runs([experiment.experiment_id])
    assert one.info.status == "FINISHED"
    assert one.data.params["k"] == "3"
    assert one.data.tags["rounds"] == str(ROUNDS)
    for source in (MEASURED, FORECAST):
        for name, pairs in expected(kept, source).items():
            history = client.get_metric_history(one.info.run_id, f"{source}/{name}")
            assert sorted((m.step, m.value) for m in history) == pairs


def wandb_records(path: Path, seconds: float = 30.0):
    """Read an offline file once wandb's service, a process of its own, has written its last record."""
    end = time.monotonic() + seconds
    while True:
        found = list(_parsed(path))
        if any(r.WhichOneof("record_type") == "exit" for r in found) or time.monotonic() > end:
            return found
        time.sleep(0.1)


def _parsed(path: Path):
    """Parse LevelDB's log in blocks of 32 KiB, its records by wandb's own classes."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    if data[:4] != b":W&B":
        return
    position, part = 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        part += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


@pytest.mark.parametrize("logged", ["others"], indirect=True)
def test_wandb(logged, kept):
    files = sorted((logged[0] / "loggers" / "wandb" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert not list((logged[0] / "loggers" / "wandb" / "wandb").glob("run-*"))
    rows: list[dict[str, float]] = []
    identities = set()
    for path in files:
        for record in wandb_records(path):
            if record.WhichOneof("record_type") == "run":
                identities.add(record.run.run_id)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append({i.key or i.nested_key[0]: json.loads(i.value_json) for i in items})
    assert len(identities) == 1
    assert [row["_step"] for row in rows] == list(range(ROUNDS + 1))
    for source in (MEASURED, FORECAST):
        for name, pairs in expected(kept, source).items():
            full = f"{source}/{name}"
            assert [(row["round"], row[full]) for row in rows if full in row] == pairs


# --- one logger alone, told by hand ---


def told(t: int) -> Trajectory:
    rows = [
        Row(r, MEASURED, "share", 0.1 * r, group=g) for r in range(t + 1) for g in ("<a>", "(a)", "..", "猫")
    ]
    return Trajectory(tuple(rows))


@pytest.mark.parametrize(
    "make", [TensorBoard, WandB, pytest.param(MLflow, marks=pytest.mark.slow)], ids=lambda m: m.name
)
def test_a_gap_is_filled_counts_and_alarms_are_kept_and_odd_names_stay_apart(make, tmp_path):
    facts = {"rounds": 3, "k": 2, "odd name!": "a|b\nc"}
    for rounds in ((0,), (2, 3)):  # round 1 died between its folder and its logger
        logger = make(tmp_path)
        logger.started(dict(facts))
        for t in rounds:
            logger.counts(t, {"picks": 10 + t})
            logger.finished(t, told(t))
        if 2 in rounds:
            logger.alarm(2, "the mean fell", "goes on")
            logger.alarm(2, "and again", "goes on")
            logger.warn(["thin"])
        logger.close()
        logger.close()
    names = {"share/_a_", "share/_a_ 2", "share/__", "share/猫"}
    texts, steps, counts = READERS[make.name](tmp_path / "loggers" / make.name)
    assert {n for n in steps if "share" in n} == {next(n for n in steps if n.endswith(x)) for x in names}
    for name in names:
        assert next(s for n, s in steps.items() if n.endswith(name)) == [0, 1, 2, 3]
    assert counts == {0: 10, 2: 12, 3: 13}
    assert any("the mean fell" in text and "and again" in text for text in texts)
    assert any("thin" in text for text in texts)


def read_tensorboard(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / MEASURED))
    read.Reload()
    texts = [e.tensor_proto.string_val[0].decode() for t in read.Tags()["tensors"] for e in read.Tensors(t)]
    steps = {t: [e.step for e in read.Scalars(t)] for t in read.Tags()["scalars"]}
    return texts, steps, {e.step: e.value for e in read.Scalars("counts/picks")}


def read_mlflow(folder: Path):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (one,) = client.search_runs([client.get_experiment_by_name("recurate").experiment_id])
    history = {n: client.get_metric_history(one.info.run_id, n) for n in one.data.metrics}
    assert one.data.params["odd name_"] == "a|b\nc"
    steps = {n: sorted(m.step for m in found) for n, found in history.items()}
    return list(one.data.tags.values()), steps, {m.step: m.value for m in history["counts/picks"]}


def read_wandb(folder: Path):
    texts, rows = [], []
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for record in wandb_records(path):
            kind = record.WhichOneof("record_type")
            if kind == "history":
                items = record.history.item
                rows.append({i.key or i.nested_key[0]: json.loads(i.value_json) for i in items})
            elif kind == "summary":
                texts += [i.value_json for i in record.summary.update]
    steps = {n: [r["_step"] for r in rows if n in r] for n in {n for r in rows for n in r}}
    return texts, steps, {r["_step"]: r["counts/picks"] for r in rows if "counts/picks" in r}


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "wandb": read_wandb}


def test_a_logger_that_fails_is_dropped_and_the_run_goes_on(tmp_path, monkeypatch):
    def full(self, t, values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoard, "write", full)
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(merged(GAUSSIANS, rounds=1)))
    done = call("run", "tiny.toml", "--out", "out", "--logger", "tensorboard", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("TensorBoard failed") == 1
    assert "No space left on device" in done.stdout
    quiet = call("run", "tiny.toml", "--out", "two", "--logger", "tensorboard", "--quiet", cwd=tmp_path)
    assert quiet.stdout == "report: two/report.html\n"
    assert quiet.stderr.count("TensorBoard failed") == 1
    assert record(tmp_path / "out") == record(tmp_path / "two")


@pytest.mark.parametrize("name", list(loggers.LOGGERS))
def test_a_missing_package_is_named_before_the_run_starts(tmp_path, monkeypatch, name):
    find, packages = errors.find_spec, loggers.LOGGERS[name][1]
    monkeypatch.setattr(errors, "find_spec", lambda package: None if package in packages else find(package))
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(GAUSSIANS))
    message = refused(call("run", "tiny.toml", "--logger", name, cwd=tmp_path))
    assert "pip install 'recurate[loggers]'" in message
    assert not (tmp_path / "runs").exists()


def test_an_unknown_logger_is_refused(tmp_path):
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(GAUSSIANS))
    message = refused(call("run", "tiny.toml", "--logger", "tensorbord", cwd=tmp_path))
    assert "did you mean 'tensorboard'" in message
    assert not (tmp_path / "runs").exists()


def test_a_logger_named_twice_is_one(tmp_path):
    assert len(make_loggers(["wandb", "wandb"], tmp_path)) == 1
    assert not list(tmp_path.iterdir())
