"""The examples at full size, and a plain installation from scratch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.paths import ROOT
from recurate.log.trajectory import MEASURED, Trajectory, agreement

pytestmark = pytest.mark.slow


def test_gaussians(tmp_path, recurate_cli):
    """E e^r rises at least threefold; the forecast from round 0 holds in every round."""
    done = recurate_cli("run", ROOT / "examples" / "gaussians.toml", "--out", "out", timeout=900)
    assert done.returncode == 0, done.stderr
    trajectory = Trajectory.read(tmp_path / "out" / "trajectory.parquet")
    measured = trajectory.values("mean_exp_reward", source=MEASURED)
    assert measured.size == 7
    assert measured[-1] >= 3 * measured[0]
    found = agreement(trajectory, ("mean_exp_reward", "reward", None))
    assert max(abs(d) for d in found.relative.values()) <= 0.05
    assert found.error_ratio <= 0.20
    for t, difference in found.differences.items():
        assert abs(difference) <= 0.20 * abs(measured[t] - measured[0])
    assert trajectory.values("entropy", source=MEASURED)[-1] < 0.2
    assert (tmp_path / "out" / "report.html").stat().st_size < 3e6


def test_digits(tmp_path, recurate_cli):
    """The default job: the preferred class takes over, real data keep the others alive."""
    done = recurate_cli("run", ROOT / "examples" / "digits.toml", "--out", "out", timeout=900)
    assert done.returncode == 0, done.stderr
    assert "classifier held out accuracy" in done.stdout
    facts = json.loads((tmp_path / "out" / "setup" / "contents.json").read_text())["facts"]
    assert facts["classifier_held_out_accuracy"] > 0.95
    trajectory = Trajectory.read(tmp_path / "out" / "trajectory.parquet")
    threes = trajectory.values("share", group="3", source=MEASURED)
    assert threes[-1] > 3 * threes[0]
    shares = [trajectory.values("share", group=str(g), source=MEASURED)[-1] for g in range(10)]
    assert min(shares) > 0.01
    rewards = trajectory.values("mean_reward", source=MEASURED)
    assert (np.diff(rewards) > 0).all()
    found = agreement(trajectory, ("mean_exp_reward", "reward", None))
    assert found.error_ratio < 0.5


def test_the_plain_installation(tmp_path):
    """`pip install recurate` needs no PyTorch, takes at most 500 MB and gives forecast."""
    environment = tmp_path / "plain"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", str(ROOT)],
        check=True,
        timeout=600,
    )
    size = sum(p.stat().st_size for p in environment.rglob("*") if p.is_file() and not p.is_symlink())
    assert size <= 500e6, f"{size / 1e6:.0f} MB"
    (tmp_path / "scores.csv").write_text("reward\n" + "\n".join(str(x / 100) for x in range(300)))
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    recurate = environment / "bin" / "recurate"

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(recurate), *arguments], cwd=tmp_path, capture_output=True, text=True, env=clean, check=False
        )

    assert call("forecast", "scores.csv").returncode == 0
    assert (tmp_path / "scores-forecast" / "report.html").stat().st_size < 3e6
    assert "[[rewards]]" in call("docs", "configuration", "rewards").stdout
    assert call("init", "digits").returncode == 0
    refused = call("run", str(Path(ROOT) / "examples" / "digits.toml"))
    assert refused.returncode == 2
    assert "recurate[run]" in refused.stderr
    assert (
        subprocess.run([str(python), "-c", "import torch"], capture_output=True, check=False).returncode != 0
    )
