"""What reads runs and trains nothing needs no PyTorch; `compare` needs nothing but the plain installation."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from helpers.tiny import DIGITS
from recurate.loop.config import parse_config
from recurate.loop.driver import run

BLOCKED = """
import importlib.util, sys
names = set(sys.argv.pop(1).split(","))
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in names else find(name, *more)
sys.argv[0] = "recurate"
from recurate.cli import main
main()
"""


def call_without(packages, *words, cwd):
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, packages, *map(str, words)],
        cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "80"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name in ("one", "two"):
        run(parse_config({**DIGITS, "rounds": 1}), folder / name)
    return folder


def test_reports_and_comparisons_are_made_without_torch(runs):
    done = call_without("torch", "report", "one", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert (runs / "one" / "report.html").stat().st_size > 10_000
    plain = "torch,safetensors,sklearn,tomli_w,PIL,threadpoolctl,filelock"
    done = call_without(plain, "compare", "one", "two", "--out", "c", cwd=runs)
    assert done.returncode == 0, done.stderr
    assert (runs / "c" / "report.html").exists()


def test_a_run_says_what_is_missing(runs):
    done = call_without("torch", "run", "--resume", "one", cwd=runs)
    assert done.returncode == 2
    assert "no torch" in done.stderr
    assert "recurate[run]" in done.stderr
