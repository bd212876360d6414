"""What a run rests on: compared on resuming, refused if it has changed, recorded if that is accepted."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from helpers.paths import refused
from helpers.tiny import GAUSSIANS, merged
from recurate.core.errors import InputError
from recurate.loop import run_folder
from recurate.loop.config import parse_config
from recurate.loop.driver import resume, run
from recurate.loop.environment import rests_on
from recurate.loop.run_folder import RunFolder
from recurate.verbs.run.report import write_run_report

SCORE = (
    "import csv, json, sys\n"
    + "from scoring import value\n"
    + (
        "rows = [json.loads(line) for line in open(sys.argv[1])]\n"
        "with open(sys.argv[2], 'w') as out:\n"
        "    for row in rows:\n"
        "        print(json.dumps({'item': row['item'], 'reward': value(row['sample'])}), file=out)\n"
    )
)
SMALL = merged(GAUSSIANS, rounds=1, generator={"kind": "mixture"}, selection={"picks": 100, "slates": 100})
SMALL["generator"] = {"kind": "mixture"}
SMALL["rewards"] = [
    {"kind": "mine_reward:score", "name": "mine", "weight": 0.5},
    {
        "kind": "command", "name": "theirs", "weight": 0.5,
        "command": ["{python}", "score.py", "{candidates}", "{rewards}"],
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """A folder with a finished run, ``out``, and all that it rests on."""
    folder = tmp_path_factory.mktemp("origin")
    (folder / "mine_reward.py").write_text(
        "import mine_part\n\ndef score(samples):\n    return samples[:, 0]\n"
    )
    (folder / "mine_part.py").write_text("")
    (folder / "score.py").write_text(SCORE)
    (folder / "scoring.py").write_text("def value(sample):\n    return -abs(sample[1])\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        run(parse_config(SMALL), folder / "out")
    for name in ("mine_reward", "mine_part"):
        sys.modules.pop(name, None)
    return folder


@pytest.fixture
def folder(origin, tmp_path, monkeypatch) -> Path:
    shutil.copytree(origin, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "copy"
    for name in ("mine_reward", "mine_part"):
        sys.modules.pop(name, None)


def longer(folder: Path, rounds: int) -> RunFolder:
    path = folder / "out" / "config.toml"
    path.write_text(re.sub(r"^rounds = \d+", f"rounds = {rounds}", path.read_text(), flags=re.MULTILINE))
    return RunFolder.open(folder / "out")


def test_everything_that_a_configuration_names(folder):
    found = rests_on(parse_config(SMALL))
    assert {(f.serves, f.name) for f in found if f.serves != "packages"} == {
        ("rewards.mine", "mine_reward.py"), ("rewards.mine", "mine_part.py"),
        ("rewards.theirs", "score.py"), ("rewards.theirs", "scoring.py"),
    }  # fmt: skip
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    assert {part["name"] for part in manifest["rests_on"]} == {f.name for f in found}
    assert manifest["device"].startswith("cpu")


def test_nothing_has_changed(folder):
    store = RunFolder.open(folder / "out")
    assert store.check_unchanged(store.config(), rests_on(store.config())) == []
    assert store.changes() == []


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("mine_reward.py", "rewards.mine"), ("mine_part.py", "rewards.mine"),
        ("score.py", "rewards.theirs"), ("scoring.py", "rewards.theirs"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fate", ["has changed", "is missing"])
def test_a_change_stops_the_run_and_is_named(folder, name, part, fate):
    store = longer(folder, 2)
    if fate == "is missing":
        (folder / name).unlink()
    else:
        (folder / name).write_text((folder / name).read_text() + "\n")
    with pytest.raises(InputError) as caught:
        resume(store.path)
    assert f"{name} ({part}) {fate}" in str(caught.value.got)
    assert "--accept-changes" in caught.value.remedy
    assert store.complete() == 2, "nothing was played"


def test_an_accepted_change_is_recorded_once_and_sealed(folder):
    store = longer(folder, 2)
    (folder / "scoring.py").write_text("def value(sample):\n    return 5.0\n")
    resume(store.path, accept_changes=True)
    assert (store.log(2).column("theirs") == 5.0).all(), "it was used"
    (change,) = store.changes()
    assert (change.serves, change.name, change.round) == ("rewards.theirs", "scoring.py", 2)
    assert change.when.endswith("+00:00")
    assert "scoring.py (rewards.theirs) has changed" in write_run_report(store).read_text()
    longer(folder, 3)
    resume(store.path)
    assert store.changes() == [change], "the next round rests on what was accepted"
    contents = store.round_path(2) / "contents.json"
    contents.write_text(contents.read_text().replace(change.when, "2000-01-01T00:00:00+00:00"))
    with pytest.raises(InputError, match="is missing or was altered"):
        resume(store.path)


def test_with_the_round_goes_its_record(folder):
    store = longer(folder, 2)
    (folder / "scoring.py").write_text("def value(sample):\n    return 5.0\n")
    resume(store.path, accept_changes=True)
    shutil.rmtree(store.round_path(2))
    with pytest.raises(InputError, match="has changed since it began"):
        resume(store.path)


def test_versions_and_device_are_reported_and_recorded(folder, monkeypatch, capsys):
    store = longer(folder, 2)
    real = run_folder.version
    monkeypatch.setattr(run_folder, "version", lambda name: "9.9" if name == "torch" else real(name))
    monkeypatch.setattr(run_folder, "device_of", lambda config: "cuda (of another machine)")
    from recurate.loop.monitors.console import Lines

    resume(store.path, Lines())
    shown = capsys.readouterr().out
    for name, now in (("torch", "9.9"), ("device", "cuda (of another machine)")):
        assert any(line.startswith(f"warning: {name} was") and now in line for line in shown.splitlines())
    assert {(c.serves, c.name) for c in store.changes()} == {("packages", "torch"), ("device", "device")}
    page = write_run_report(store).read_text()
    assert "cuda (of another machine)" in page
    monkeypatch.undo()


def test_a_folder_of_which_the_run_keeps_a_copy(tmp_path, monkeypatch):
    """All its files are hashed; how such files are compared is in tests/core/test_fingerprints.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "known").mkdir()
    for name in ("classifier.json", "classifier.safetensors"):
        (tmp_path / "known" / name).write_text(name)
    raw = GAUSSIANS | {"classifier": {"folder": "known"}}
    found = [f for f in rests_on(parse_config(raw)) if f.serves == "classifier"]
    assert [f.name for f in found] == ["known/classifier.json", "known/classifier.safetensors"]
    assert all(f.kept for f in found)


@pytest.mark.parametrize("command", [("run", "--resume", "out"), ("report", "out"), ("audit", "out")])
def test_a_run_of_an_older_format_is_refused(folder, recurate_here, command):
    manifest = json.loads((folder / "out" / "manifest.json").read_text())
    older = {name: value for name, value in manifest.items() if name not in ("rests_on", "device", "seal")}
    (folder / "out" / "manifest.json").write_text(json.dumps(older | {"format": 1}))
    arguments = [folder / word if word == "out" else word for word in command]
    message = refused(recurate_here(*arguments))
    assert "written by an older recurate" in message
    assert "manifest.json of format 1" in message


def test_accepting_without_resuming_is_refused(tmp_path, recurate_here):
    assert "only with resume" in refused(recurate_here("run", "x.toml", "--accept-changes"))


@pytest.mark.parametrize("kind", ["table", "images"])
def test_runs_on_data_of_the_data_folder_are_resumed(tmp_path, monkeypatch, kind):
    """The configuration names data as the data folder knows them, a file or a folder of images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECURATE_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "mine").mkdir(parents=True)
    draw = np.random.default_rng(0)
    if kind == "table":
        points = pa.table({"sample": draw.normal(size=(200, 2)).tolist()})
        pq.write_table(points, tmp_path / "data" / "mine" / "points.parquet")
        data = {"kind": "table", "path": "mine/points.parquet"}
    else:
        for i in range(60):
            pixels = draw.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / "mine" / f"{i}.png")
        data = {"kind": "images", "path": "mine"}
    config = {
        "rounds": 1,
        "data": data,
        "generator": {"kind": "kde"},
        "rewards": [
            {"kind": "distance", "centre": [0.0, 0.0]}
            if kind == "table"
            else {"kind": "colour", "rgb": [1.0, 0.0, 0.0]}
        ],
        "selection": {"k": 2, "picks": 20},
    }
    run(parse_config(config), tmp_path / "out")
    path = tmp_path / "out" / "config.toml"
    path.write_text(path.read_text().replace("rounds = 1", "rounds = 2"))
    resume(tmp_path / "out")
    assert RunFolder.open(tmp_path / "out").complete() == 3
    path.write_text(path.read_text().replace("rounds = 2", "rounds = 3"))
    shutil.rmtree(tmp_path / "data" / "mine")
    with pytest.raises(InputError, match="has changed since it began"):
        resume(tmp_path / "out")
