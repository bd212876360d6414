"""Runs of a language model from scratch: with a classifier of texts, resumed, forecast and reported."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from helpers.tiny import contents
from recurate.components.generators.language import Language
from recurate.core.errors import InputError
from recurate.log.samples import as_texts
from recurate.loop.config import parse_config
from recurate.loop.driver import resume, run
from recurate.loop.run_folder import RunFolder

TEXT = {
    "rounds": 1,
    "data": {"kind": "queries", "source": "generated", "size": 300},
    "generator": {
        "kind": "language",
        "scratch": {"layers": 1, "width": 16, "heads": 2, "vocabulary": 300, "window": 40},
        "sample": {"longest": 12},
        "training": {"first_epochs": 1, "epochs": 1},
        "device": "cpu",
    },
    "classifier": {"steps": 40},
    "rewards": [
        {"kind": "classifier", "name": "travel", "label": "travel", "weight": 0.5},
        {"kind": "length", "name": "brevity", "target": 4, "weight": 0.5},
    ],
    "tracked": [{"kind": "match", "name": "polite", "pattern": "please"}],
    "groups": {"kind": "classifier"},
    "selection": {"k": 2, "picks": 30},
    "retraining": {"real_fraction": 0.25},
    "keep": 1,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "texts"
    run(parse_config(TEXT | {"rounds": 2}), folder)
    return folder


def test_rounds_hold_texts_with_rewards_and_topics(finished):
    store = RunFolder.open(finished)
    store.verify()
    log = store.log(1).select(source="model")
    texts = store.samples(1)
    words = np.array([len(text.split()) for text in texts])
    assert np.asarray(log.column("brevity")) == pytest.approx(-np.abs(words - 4.0))
    assert set(np.unique(log.column("picked"))) == {False, True}
    topics = log.table.column("group").to_pylist()
    assert set(topics) <= {"travel", "banking", "cooking", "home", "music", "work", "weather", "health"}
    assert [(finished / f"rounds/00{t}/model").exists() for t in range(3)] == [False, False, True]
    assert store.counts(1)["trained_on_real"] == 10


@pytest.mark.parametrize("shard", [10, 100])
def test_models_that_say_nothing_are_refused(tmp_path, monkeypatch, shard):
    monkeypatch.setattr(Language, "sample", lambda self, n, **_: as_texts([""] * n))
    with pytest.raises(InputError, match="every sample is an empty text"):
        run(parse_config(TEXT | {"engine": {"shard": shard}}), tmp_path / "silent")


def test_a_resumed_run_is_the_same(finished, tmp_path):
    folder = tmp_path / "texts"
    run(parse_config(TEXT), folder)
    text = (folder / "config.toml").read_text().replace("rounds = 1", "rounds = 2")
    (folder / "config.toml").write_text(text)
    resume(folder)
    ours, theirs = contents(folder), contents(finished)
    same = {name for name in theirs if name.startswith(("rounds", "trajectory"))}
    assert {name: ours[name] for name in same if "contents" not in name} == {
        name: theirs[name] for name in same if "contents" not in name
    }


def test_the_command_reports_it(finished, tmp_path, recurate_cli):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    done = recurate_cli("report", copy)
    assert done.returncode == 0, done.stderr
    assert "queries (generated)" in recurate_cli("run", "--resume", copy).stdout
    assert "travel" in (copy / "report.html").read_text(encoding="utf-8")


def test_a_reward_for_texts_refuses_points(tmp_path):
    points = TEXT | {
        "data": {"kind": "moons", "size": 100},
        "generator": {"kind": "kde"},
        "rewards": [{"kind": "length", "target": 3}],
        "groups": None,
        "tracked": [],
    }
    with pytest.raises(InputError, match="needs texts"):
        run(parse_config({k: v for k, v in points.items() if v is not None}), tmp_path / "points")
