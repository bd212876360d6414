"""What SECURITY.md promises: reading a stranger's folder runs none of its code."""

from __future__ import annotations

import shutil
import sys

import pytest

from helpers.commands import call
from recurate.loop.config import parse_config
from recurate.loop.driver import run

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
        ["plan", "run", "--kl", "1", "--rounds", "2"],
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


def test_the_check_can_fail(folder):
    assert call("report", "run", cwd=folder).returncode == 0
    assert (folder / "it-ran").exists(), "a report imports the sections, and says so in SECURITY.md"
