"""The set-up: known-good versions fit pyproject.toml, and newer ones are noticed."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

import check
from helpers.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
LOCK = [Requirement(line) for line in LINES if line and not line.startswith("#")]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_every_requirement_has_one_version_within_its_range(python, system):
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system}
    versions: dict[str, list[str]] = {}
    for line in LOCK:
        if line.marker is None or line.marker.evaluate(here):
            versions.setdefault(line.name, []).extend(s.version for s in line.specifier)
    assert all(len(found) == 1 for found in versions.values())
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += extra
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[requirement.name][0], prereleases=True), requirement


def test_no_package_of_graphics_cards_is_installed():
    names = [line.name for line in LOCK]
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "triton"))]
    assert "torch==2.13.0" in LINES


def test_newer_versions_than_the_locks_are_noticed(tmp_path):
    lock = tmp_path / "constraints.txt"
    numpy = importlib.metadata.version("numpy")
    lock.write_text(
        f"# known\nnumpy=={numpy}\nscipy==0.1\nrich==0.1 ; python_version < '3'\nnot-installed==1.0\n"
        f"pytest=={importlib.metadata.version('pytest')}.post1\n"
    )
    scipy = importlib.metadata.version("scipy")
    assert check.newer_than(lock) == [f"scipy {scipy} (0.1)"]


@pytest.mark.parametrize("words", [["--newest", "--all"], ["--slow"]])
def test_unknown_options_are_refused(words):
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "check.py", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--all or --newest" in done.stderr
