"""What a run spends beside the model: each stage's share of a round, and memory over many rounds.

    python benchmarks/overhead.py            # two examples, five minutes
    python benchmarks/overhead.py --quick    # fewer rounds: a trial

A stage's seconds are those of ``timings.jsonl``, wall clock. Sampling, fitting and rewards are the model's;
measures are a budget of their own. All else (picking, writing and hashing, the trajectory, what is in no
stage) is overhead. The forecast is made once, in round 0, and stated apart.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from pathlib import Path

import numpy as np
from measuring import Line, Report, machine, markdown, resident, table

from recurate.loop.config import parse_config
from recurate.loop.driver import run
from recurate.loop.monitors.protocol import Silent

ROOT = Path(__file__).parent.parent
MODEL = ("fit", "sample", "reward", "control arm")


class Clock(Silent):
    """Notes when each round ended, and how much memory there was."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.memory: list[int] = []

    def finished(self, round, trajectory):  # noqa: A002
        self.ends.append(time.perf_counter())
        self.memory.append(resident("VmRSS"))


def shares(report: Report, name: str, rounds: int) -> list[list[str]]:
    """Run an example; return the seconds of every stage, a median round's."""
    settings = tomllib.loads((ROOT / "examples" / f"{name}.toml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        run(parse_config(settings | {"rounds": rounds}), Path(folder) / "run", clock)
        lines = [
            json.loads(line) for line in (Path(folder) / "run" / "timings.jsonl").read_text().splitlines()
        ]
    seconds: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for line in lines:
        seconds[line["stage"]][line["round"]] += line["seconds"]
    whole = dict(enumerate(np.diff(clock.ends), start=1))  # rounds 1, 2, ...: round 0 trains from nothing
    spent = {stage: np.array([found.get(t, 0.0) for t in whole]) for stage, found in seconds.items()}
    total = np.array(list(whole.values()))
    model = sum(spent[stage] for stage in MODEL if stage in spent)
    measured = sum(
        (values for stage, values in spent.items() if stage.startswith("measure")), np.zeros(len(total))
    )
    rest = total - model - measured
    report.add(Line("1", f"{name}: overhead / a round", float(np.median(rest / total)), None, "", 0.02))
    report.add(
        Line("1", f"{name}: all measures / a round", float(np.median(measured / total)), None, "", 0.10)
    )
    report.note("1", f"{name}: the forecast took {seconds['forecast'][0]:.2f} s, once, in round 0")
    order = sorted(spent, key=lambda stage: -np.median(spent[stage]))
    rows = [[name, stage, f"{np.median(spent[stage]):.3f}"] for stage in order if np.median(spent[stage]) > 0]
    return [*rows, [name, "in no stage", f"{np.median(total - sum(spent.values())):.3f}"]]


def memory(report: Report, rounds: int) -> None:
    """Compare the memory after many rounds with that after a few, in a process of its own."""
    command = [sys.executable, __file__, "--memory", str(rounds)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    early, late = np.median(found[8:12]), np.median(found[-4:])
    report.add(Line("2", f"memory after {rounds} rounds / after 10", float(late / early), None, "", 1.05))
    report.note(
        "2", f"resident pages: {early / 2**20:.0f} MB after 10 rounds, {late / 2**20:.0f} MB after {rounds}"
    )


def memory_child(rounds: int) -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from helpers.tiny import GAUSSIANS

    clock = Clock()
    settings = GAUSSIANS | {"rounds": rounds, "selection": {"k": 4, "picks": 20_000}}
    with tempfile.TemporaryDirectory() as folder:
        run(parse_config(settings), Path(folder) / "run", clock)
    print(json.dumps(clock.memory))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a trial")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # the child process of job 2
    arguments = parser.parse_args()
    if arguments.memory:
        memory_child(int(arguments.memory))
        return
    report, rows = Report(), []
    facts = machine(["torch"])
    load, start = os.getloadavg()[0], time.perf_counter()
    for name in ("digits", "gaussians"):
        rows += shares(report, name, 2 if arguments.quick else 5)
    memory(report, 20 if arguments.quick else 60)
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    facts["took"] = f"{time.perf_counter() - start:.0f} s"
    command = "python benchmarks/overhead.py" + (" --quick" if arguments.quick else "")
    lines = markdown("What a run spends beside the model", report, facts, command)
    lines += ["## Stages", "", "Seconds of a median round after the first.", ""]
    lines += [*table(["example", "stage", "seconds"], rows), ""]
    text = "\n".join(lines)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "overhead.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
