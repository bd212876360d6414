"""How often are alarms false, and how soon do they find planted faults? See tests/helpers/alarming.py.

python benchmarks/alarms.py [--quick] [--out benchmarks/results]
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from measuring import machine, table
from scipy.stats import beta

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from helpers import alarming
from helpers.alarming import ALARMS, FAULTS, LIMITS, LOOP_ROUNDS, ONSET, ROUNDS

LEVELS = (0.01, 0.2)
FAULTY_ROUNDS = 12


def rate(count: int, runs: int) -> str:
    """Return a share with its 95 % interval (Clopper and Pearson)."""
    low = beta.ppf(0.025, count, runs - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, runs - count) if count < runs else 1.0
    return f"{count / runs:.2%} ({low:.2%} to {high:.2%})"


def at_limits(runs: int) -> list[str]:
    spent = ROUNDS / (ROUNDS + 1)
    rows = []
    for name in LIMITS:
        counts = alarming.at_limit(name, LEVELS, runs)
        rows.append([name, *(rate(count, runs) for count in counts)])
        print(*rows[-1], flush=True)
    head = [
        "exactly at the limit",
        *(f"level {level:.0%}, of which {level * spent:.2%} spent" for level in LEVELS),
    ]
    return [*table(head, rows), ""]


def healthy(runs: int) -> list[str]:
    counts = {alarm.kind: 0 for alarm in ALARMS}
    any_alarm = 0
    for seed in range(1000, 1000 + runs):
        found = alarming.ever(ALARMS, alarming.loop(seed), LOOP_ROUNDS)
        any_alarm += bool(found)
        for kind in found:
            counts[kind] += 1
    rows: list[list[str]] = [[a.kind, f"{a.level:.0%}", rate(counts[a.kind], runs)] for a in ALARMS]
    rows.append(["any", f"{sum(a.level for a in ALARMS):.0%}", rate(any_alarm, runs)])
    return [*table(["alarm", "stated level", f"healthy loops that raise it, of {runs}"], rows), ""]


def faulty(runs: int) -> list[str]:
    rows: list[list[str]] = []
    for fault in FAULTS:
        for kind, delays in alarming.detections(fault, runs, FAULTY_ROUNDS).items():
            found = [delay for delay in delays if delay is not None]
            median = f"{np.median(found):g} ({min(found)} to {max(found)})" if found else "-"
            rows.append([fault, kind, f"{len(found)} of {len(delays)}", median])
    return [*table(["fault", "alarm", "found", "delay in rounds, median (range)"], rows), ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs: a trial")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    runs, loops, faults = (200, 20, 5) if arguments.quick else (2000, 200, 50)
    load, start = os.getloadavg()[0], time.perf_counter()
    facts = machine([])
    limits = at_limits(runs)
    whole, planted = healthy(loops), faulty(faults)
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    facts["took"] = f"{time.perf_counter() - start:.0f} s"
    command = "python benchmarks/alarms.py" + (" --quick" if arguments.quick else "")
    settings = [f"{type(alarm).__name__}({alarm.model_dump(exclude_defaults=True)})" for alarm in ALARMS]
    lines = [
        "# Alarms: how often false, how soon right", "", f"`{command}`", "",
        *(f"- {name}: {value}" for name, value in facts.items()), "",
        "## False alarms at the limit", "",
        f"{runs} trajectories of {ROUNDS} rounds whose true value is exactly at the limit in every round, "
        f"measured from real samples; in {ROUNDS} rounds an alarm spends {ROUNDS}/{ROUNDS + 1} of its level. "
        "Shares of trajectories that ever raise the alarm, with 95 % intervals.", "",
        *limits,
        "## Healthy loops", "",
        f"Loops of {LOOP_ROUNDS} rounds: a generator that draws from its training set, {alarming.PICKS} "
        f"picks of K = {alarming.K}, {alarming.MIX:.0%} real data, four Gaussians with a group each; "
        f"all six alarms: {', '.join(settings)}.", "",
        *whole,
        "## Planted faults", "",
        f"The same loops over {FAULTY_ROUNDS} rounds, wrong from round {ONSET} on; a delay of 0 is an alarm "
        "in that round. The noise first brings the samples nearer to the reference, which is off by 0.4 in "
        "both coordinates: hence the delay of its alarm.", "",
        *planted,
    ]  # fmt: skip
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines)
    (arguments.out / "alarms.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
