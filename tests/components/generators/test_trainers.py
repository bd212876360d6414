"""Trainers behind the external generator: the recipes of docs/trainers.md, on a tiny model."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from helpers import tiny_models as tiny
from helpers.paths import ROOT
from recurate.components.generators.external import ExternalSettings
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.log.samples import as_texts

TRAINERS = ROOT / "examples" / "trainers"
DOCS = (ROOT / "docs" / "trainers.md").read_text(encoding="utf-8")
WORDS = as_texts([f"fox {i % 5}" for i in range(24)])
ASKED = as_texts([f"number {i % 5}" for i in range(24)])
STAND_IN = """\
#!{python}
import json, pathlib, shutil, sys
assert sys.argv[1] == "train", sys.argv
told = json.loads(pathlib.Path(sys.argv[2]).read_text())
if "base_model" in told:
    base, data = told["base_model"], pathlib.Path(told["datasets"][0]["path"])
    assert told["datasets"][0]["type"] == "alpaca"
else:
    folder = pathlib.Path(told["dataset_dir"])
    names = json.loads((folder / "dataset_info.json").read_text())
    base, data = told["model_name_or_path"], folder / names[told["dataset"]]["file_name"]
rows = [json.loads(line) for line in data.read_text().splitlines()]
assert set(rows[0]) == {{"instruction", "input", "output"}}, rows[0]
out = pathlib.Path(told["output_dir"])
shutil.copytree(base, out, dirs_exist_ok=True)
(out / "seen.json").write_text(json.dumps([rows, told]))
sys.exit(7 if told["lr"] < 0 else 0)
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("models") / "base")


def commands(text: str) -> list[list[str]]:
    """The lists of words that a page shows as ``fit`` or ``sample``, in their order."""
    shown = re.findall(r"^ *(?:fit|sample) = (\[.*?\])$", text, flags=re.M | re.S)
    return [json.loads(re.sub(r",\s*\]", "]", words)) for words in shown]


def settings(fit, sample, base, folder) -> ExternalSettings:
    return ExternalSettings(
        kind="external", fit=fit, sample=sample, start=str(base), fit_first=False, folder=str(folder),
        retries=0,
    )  # fmt: skip


@pytest.mark.slow
def test_a_script_with_trl(base, tmp_path, monkeypatch):
    pytest.importorskip("trl")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fit, sample = commands(DOCS)[:2]
    fit[fit.index("2e-5")] = "1e-2"
    made = settings(fit, sample, base, TRAINERS).build(tmp_path / "work", tmp_path / "logs")
    trained = made.fit(WORDS, rng=Stream(0).at("fit"), contexts=ASKED)
    before, after = (m.sample(12, rng=Stream(0).at("sample"), contexts=ASKED[:12]) for m in (made, trained))
    assert after.shape == (12,)
    assert (before != after).any()
    assert sorted(p.name for p in trained.checkpoint.glob("*.safetensors")) == ["model.safetensors"]


@pytest.mark.parametrize(("number", "program"), [(2, "axolotl"), (3, "llamafactory-cli")])
def test_commands_with_a_configuration_file(base, tmp_path, monkeypatch, number, program):
    """A stand-in for the trainer checks what it is given, in its own layout."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / program).write_text(STAND_IN.format(python=sys.executable))
    (tmp_path / "bin" / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    fit = commands(DOCS)[number]
    fit[fit.index("by_config.py")] = str(TRAINERS / "by_config.py")
    name = "model_name_or_path" if program == "llamafactory-cli" else "base_model"
    config = next(word for word in fit if word.endswith(".json"))
    (tmp_path / config).write_text(json.dumps({name: "?", "lr": 1}))
    made = settings(fit, ["true", "{candidates}"], base, tmp_path).build(tmp_path / "work", tmp_path / "logs")
    trained = made.fit(WORDS, rng=Stream(0).at("fit"), contexts=ASKED)
    rows, told = json.loads((trained.checkpoint / "seen.json").read_text())
    assert [row["output"] for row in rows] == WORDS.tolist()
    assert [row["instruction"] for row in rows] == ASKED.tolist()
    assert told["seed"] == Stream(0).at("fit").integer() % 2**31
    (tmp_path / config).write_text(json.dumps({name: "?", "lr": -1}))
    with pytest.raises(InputError, match="exit code was 7"):
        made.fit(WORDS, rng=Stream(0).at("fit"), contexts=ASKED)


def test_the_page_shows_every_recipe():
    found = commands(DOCS)
    assert len(found) == 5
    assert found[4][:3] == ["ray", "job", "submit"]
    for fit in (words for words in found if "{candidates}" not in " ".join(words)):
        ExternalSettings(kind="external", fit=fit, sample=found[1])  # all placeholders are known
