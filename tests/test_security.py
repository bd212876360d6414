"""What docs/security.md promises: reading a stranger's folder runs none of its code."""

from __future__ import annotations

import json
import shutil
import stat
import sys

import pytest

from helpers.commands import call
from recurate.components.registry import code_of
from recurate.core.marks import is_own, marked
from recurate.core.sealed import sealed
from recurate.loop.config import parse_config
from recurate.loop.driver import run

pytestmark = pytest.mark.usefixtures("few_replicates")

PLUGIN = """
from pathlib import Path
import numpy as np
from recurate import Noise

Path("it-ran").touch()
noise = Noise("mine", cdf=lambda z: np.exp(-np.exp(-z)), pdf=lambda z: np.exp(-z - np.exp(-z)))

def reward(samples):
    return samples[:, 0]

def halves(samples):
    return np.where(samples[:, 0] > 0, "east", "west")
"""
PLAIN = {
    "rounds": 1,
    "data": {"kind": "moons"},
    "generator": {"kind": "kde"},
    "rewards": [{"kind": "stranger_plugin:reward"}],
    "groups": {"kind": "stranger_plugin:halves"},
    "selection": {"picks": 60},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs of a stranger's, with the plug-in beside them that notes when it is imported."""
    place = tmp_path_factory.mktemp("stranger")
    (place / "stranger_plugin.py").write_text(PLUGIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(str(place))
        for name, noise in (("run", "gumbel"), ("noisy", "stranger_plugin:noise")):
            run(parse_config({**PLAIN, "selection": {**PLAIN["selection"], "noise": noise}}), place / name)
    shutil.copytree(place / "run", place / "other")
    del sys.modules["stranger_plugin"]
    (place / "it-ran").unlink()
    return place


@pytest.fixture
def folder(made, monkeypatch):
    monkeypatch.chdir(made)
    monkeypatch.syspath_prepend(str(made))
    yield made
    sys.modules.pop("stranger_plugin", None)
    (made / "it-ran").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "words",
    [
        ["forecast", "run", "--rounds", "2"],
        ["plan", "run", "--rounds", "2"],
        ["fit", "run"],
        ["audit", "run"],
        ["compare", "run", "other"],
    ],
    ids=lambda words: words[0],
)
def test_reading_a_folder_runs_no_code(folder, words):
    done = call(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert not (folder / "it-ran").exists()


@pytest.mark.parametrize("words", [["forecast", "noisy"], ["plan", "noisy"], ["audit", "noisy"]])
def test_a_noise_that_is_a_plug_in_is_refused_until_the_user_names_it(folder, words):
    done = call(*words, cwd=folder)
    assert done.returncode == 2
    assert "reading a folder runs no code" in done.stderr
    assert not (folder / "it-ran").exists()


RUNNERS = [
    ["run", "--resume", "run"],
    ["run", "run/config.toml", "--out", "again"],
    ["run", "run/config.toml", "--dry-run"],
    ["report", "run"],
]


@pytest.fixture
def elsewhere(folder, tmp_path, monkeypatch):
    """The same folder for another user, or on another machine: the key is another."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    return folder


@pytest.mark.parametrize("words", RUNNERS, ids=lambda words: " ".join(words[:2]))
def test_a_strangers_run_asks_for_trust_before_its_code_runs(elsewhere, words):
    done = call(*words, cwd=elsewhere)
    assert done.returncode == 2
    assert "made by another user or on another machine" in done.stderr
    assert "stranger_plugin:reward, stranger_plugin:halves" in done.stderr
    assert not (elsewhere / "it-ran").exists()
    assert not (elsewhere / "again").exists()
    assert call(*words, "--trust", cwd=elsewhere).returncode == 0
    assert (elsewhere / "it-ran").exists()
    shutil.rmtree(elsewhere / "again", ignore_errors=True)


def test_ones_own_run_is_trusted_wherever_it_lies_and_no_other_can_be_made(folder):
    shutil.copytree(folder / "run", folder / "moved")
    assert call("report", "moved", cwd=folder).returncode == 0
    path = folder / "moved" / "manifest.json"
    found = json.loads(path.read_text())
    del found["seal"]
    path.write_text(sealed(found | {"seed": 99}))  # whoever has no key cannot renew the mark
    assert "--trust" in call("report", "moved", cwd=folder).stderr
    shutil.rmtree(folder / "moved")


def test_code_that_was_added_to_ones_own_run_is_not_trusted(folder, tmp_path):
    """The mark is the manifest's: what was not in the configuration that it covers is anybody's."""
    plain = {**PLAIN, "rewards": [{"kind": "distance", "centre": [1.0, 0.0]}]}
    del plain["groups"]
    run(parse_config(plain), tmp_path / "plain")
    config = tmp_path / "plain" / "config.toml"
    before = config.read_text()
    config.write_text(before.replace('noise = "gumbel"', 'noise = "stranger_plugin:noise"'))
    assert config.read_text() != before
    assert "--trust" in call("run", config, "--dry-run", cwd=folder).stderr
    config.write_text(before.partition("[report]")[0] + '[report]\nsections = ["stranger_plugin:noise"]\n')
    for words in (["run", config, "--dry-run"], ["report", tmp_path / "plain"]):
        assert "--trust" in call(*words, cwd=folder).stderr
    assert not (folder / "it-ran").exists()


def test_a_strangers_run_without_code_needs_no_trust(elsewhere, tmp_path, monkeypatch):
    plain = {**PLAIN, "rewards": [{"kind": "distance", "centre": [1.0, 0.0]}]}
    del plain["groups"]
    run(parse_config(plain), tmp_path / "plain")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "third"))
    assert call("run", "--resume", tmp_path / "plain", cwd=elsewhere).returncode == 0


def test_a_configuration_outside_a_run_is_a_script(elsewhere):
    shutil.copy(elsewhere / "run" / "config.toml", elsewhere / "mine.toml")
    assert call("run", "mine.toml", "--dry-run", cwd=elsewhere).returncode == 0


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"generator": {"kind": "external", "fit": ["x"]}}, ["kind = 'external', a program"]),
        ({"rewards": [{"kind": "distance"}, {"kind": "command"}]}, ["kind = 'command', a program"]),
        (
            {"generator": {"server": {"url": "http://a/v1", "load": "command", "command": ["sh", "x.sh"]}}},
            ["load = 'command', a program: sh x.sh", "url = 'http://a/v1', a server"],
        ),
        (
            {"rewards": [{"kind": "judge", "url": "http://b/v1", "key_env": "KEY"}]},
            ["url = 'http://b/v1', a server, which gets the variable KEY"],
        ),
        ({"report": {"sections": ["a.b:c"]}, "selection": {"noise": "d:e"}}, ["a.b:c", "d:e"]),
        ({"measures": {"features": ["pca:8", "f:g"]}}, ["f:g"]),
        ({"selection": {"noise": "pca:x"}}, ["pca:x"]),
        ({"selection": {"noise": "d:e\n"}}, []),  # no name, so it is refused
        ({"data": {"kind": "table", "path": "a:b/c.csv"}, "seed": 3}, []),
    ],
)
def test_what_counts_as_code(settings, named):
    assert list(code_of(settings)) == named


def test_without_a_place_for_the_key_a_run_has_no_mark(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert marked({"a": 1}) == {"a": 1}
    assert not is_own({"a": 1})
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = marked({"a": 1})
    assert is_own(found)
    assert not is_own(found | {"a": 2})
    key = tmp_path / "state" / "recurate" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_the_check_can_fail(folder):
    assert call("report", "run", cwd=folder).returncode == 0
    assert (folder / "it-ran").exists(), "a report imports the sections, and says so in docs/security.md"
