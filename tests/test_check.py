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


def newest_in(folder, monkeypatch, lock, tests):
    """Run ``--newest`` on a project of one step, which fails, and of some tests; return the exit code."""
    (folder / "constraints.txt").write_text(lock)
    for name, text in tests.items():
        (folder / f"test_{name}.py").write_text(text)
    monkeypatch.setattr(check, "ROOT", folder)
    monkeypatch.setattr(check, "STEPS", [["json.tool", "no-file.json"]])
    monkeypatch.setattr(check, "TESTS", ["pytest", "-q", "-p", "no:cacheprovider"])
    return check.newest()


def test_what_newer_versions_break_is_said_and_fails_nothing(tmp_path, monkeypatch, capsys):
    tests = {
        "old": "def test_versions():\n    assert 'newer' == 'older'\n\ndef test_holds():\n    pass\n",
        "gone": "import gone_in_newer_versions\n",
    }
    assert newest_in(tmp_path, monkeypatch, "rich==0.1\nnumpy==1000\n", tests) == 0
    said = capsys.readouterr().out.splitlines()
    rich = importlib.metadata.version("rich")
    assert said[:3] == [
        f"Newest versions, newer than in constraints.txt: rich {rich} (0.1)",
        "With them these break:",
        "json.tool no-file.json:",
    ]
    rest = "\n".join(said[3:])
    assert "  test_gone: collection failure: ModuleNotFoundError: No module named 'gone_in_newer_" in rest
    assert "not all tests ran: pytest ended with exit code 2:" in rest
    assert "nothing breaks" not in rest
    (tmp_path / "test_gone.py").unlink()
    assert newest_in(tmp_path, monkeypatch, "rich==0.1\n", {}) == 0
    assert "  test_old.test_versions: AssertionError: assert 'newer' == 'older'" in capsys.readouterr().out


def test_newer_versions_with_which_no_test_runs_are_no_success(tmp_path, monkeypatch, capsys):
    assert newest_in(tmp_path, monkeypatch, "rich==0.1\n", {}) == 0
    assert "not all tests ran: pytest ended with exit code 5:" in capsys.readouterr().out


def test_newest_versions_that_are_not_newer_are_not_tried(tmp_path, monkeypatch, capsys):
    assert newest_in(tmp_path, monkeypatch, "rich==1000\n", {"old": "assert False\n"}) == 0
    assert "nothing to try" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--newest", "--all"], ["--slow"]])
def test_unknown_options_are_refused(words):
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "check.py", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--all or --newest" in done.stderr
