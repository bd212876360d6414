"""`recurate init`: every template passes the run's own validation, and runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import tomli_w

from helpers.paths import ROOT
from helpers.tiny import merged
from recurate.loop.config import parse_config, read_config
from recurate.verbs.init.templating import FOLDER, TEMPLATES

CUT = {  # what makes a run of a template short
    "digits": {
        "rounds": 1,
        "generator": {"width": 32, "first_steps": 40, "steps": 10},
        "selection": {"picks": 60},
    },
    "external": {"rounds": 1, "selection": {"picks": 60}},
}


def test_templates_are_listed(recurate_here):
    done = recurate_here("init", "--list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(TEMPLATES)
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(TEMPLATES)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_passes_the_runs_validation(name, tmp_path, recurate_here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = recurate_here("init", name, "--out", "sub folder/loop.toml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().partition("to begin: ")[2] in (
        "recurate run 'sub folder/loop.toml'", "recurate serve 'sub folder/loop.toml' --open",
    ), "a command to copy"  # fmt: skip
    config = read_config(Path("sub folder/loop.toml"))
    assert (config.selection.by == "people") == (name == "people")
    text = Path("sub folder/loop.toml").read_text()
    assert not re.search(r"\{(file|folder|program)\}", text)


@pytest.mark.parametrize("name", TEMPLATES)
def test_keys_that_are_commented_out_exist(name):
    known = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "configuration.md").read_text(), flags=re.M))
    found = re.findall(r"^# (\w+) = ", (FOLDER / f"{name}.toml").read_text(), flags=re.M)
    assert found
    assert set(found) <= known | {"kind"}


def test_the_alarm_that_is_commented_out_is_valid():
    text = (FOLDER / "digits.toml").read_text()
    alarm = text[text.index("# [[alarms]]") :]
    parse_config(tomllib.loads(text + re.sub(r"^# ", "", alarm, flags=re.M)))


@pytest.mark.parametrize("name", CUT)
def test_a_template_runs(name, tmp_path, recurate_here, few_replicates):
    assert recurate_here("init", name).returncode == 0
    path = tmp_path / f"{name}.toml"
    path.write_text(tomli_w.dumps(merged(tomllib.loads(path.read_text()), **CUT[name])))
    done = recurate_here("run", path, "--out", "out", "--quiet")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").exists()
    assert (tmp_path / "out" / "rounds" / "001").exists()


def test_files_of_yours_are_kept(tmp_path, recurate_here):
    (tmp_path / "external_model.py").write_text("mine")
    refused = recurate_here("init", "external")
    assert refused.returncode == 2
    assert "external_model.py" in refused.stderr
    assert "--force" in refused.stderr
    assert not (tmp_path / "external.toml").exists()
    assert (tmp_path / "external_model.py").read_text() == "mine"
    assert recurate_here("init", "external", "--force").returncode == 0
    assert "argparse" in (tmp_path / "external_model.py").read_text()
    assert recurate_here("init", "external").returncode == 0, "the same files may be written again"


def test_an_unknown_name_and_a_folder_are_refused(tmp_path, recurate_here):
    refused = recurate_here("init", "digit")
    assert refused.returncode == 2
    assert "did you mean 'digits'" in refused.stderr
    refused = recurate_here("init", "digits", "--out", ".")
    assert refused.returncode == 2
    assert "names a folder" in refused.stderr
    refused = recurate_here("init", "digits", "--out", "a\nrounds = 1.toml")
    assert refused.returncode == 2
    assert "cannot be printed" in refused.stderr
    assert not list(tmp_path.iterdir())
