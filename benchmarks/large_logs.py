"""Logs that are read in parts: time against reading their columns once with Arrow, and peak memory.

python benchmarks/large_logs.py [--rows 100000000] [--shards 50] [--repeats 5] [--work FOLDER] [--out FOLDER]

Every side is a process of its own, the sides in turn. The log (about 1.2 GB at 1e8 rows) is written first,
into --work or a folder that is removed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import Line, Report, Times, machine, markdown
from verbs_speed import run

K, ITEMS = 4, 1000
# What reads the columns that a verb needs, once, and keeps nothing.
ARROW = """
import sys, pyarrow.parquet as pq
folder, *columns = sys.argv[1:]
import pathlib
for path in sorted(pathlib.Path(folder).glob("*.parquet")):
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(1 << 20, columns=columns):
            pass
with open("peak", "w") as out, open("/proc/self/status") as facts:
    out.write(next(line.split()[1] for line in facts if line.startswith("VmHWM:")))
"""
SIDES = {
    "forecast": (["forecast", "log", "--rounds", "10"], ["round", "slate", "reward"]),
    "item rewards": (["fit", "log", "--model", "items"], ["round", "slate", "item", "picked"]),
}


def write(folder: Path, rows: int, shards: int) -> None:
    """Write Luce picks among items whose rewards differ, with a noisy reward of each candidate."""
    worth = np.random.default_rng(7).normal(size=ITEMS)
    slates = rows // shards // K
    for shard in range(shards):
        draw = np.random.default_rng([1, shard])
        items = draw.integers(0, ITEMS, size=(slates, K)).astype(np.int32)
        rewards = worth[items] + 0.3 * draw.normal(size=items.shape)
        best = (rewards + draw.gumbel(size=items.shape)).argmax(axis=1)
        table = pa.table(
            {
                "round": np.zeros(slates * K, np.int32),
                "slate": np.repeat(np.arange(shard * slates, (shard + 1) * slates), K),
                "item": items.ravel(),
                "reward": rewards.ravel(),
                "picked": (np.arange(K) == best[:, None]).ravel(),
            }
        )
        pq.write_table(table, folder / f"part-{shard:04d}.parquet", row_group_size=1 << 20)


def measure(name: str, folder: Path, report: Report, repeats: int) -> None:
    words, columns = SIDES[name]
    ours, theirs = [], []
    for i in range(repeats):
        theirs.append(run(["log", *columns], folder, ARROW))
        ours.append(run([*words, "--out", f"{name.replace(' ', '-')}-{i}"], folder))
    found = {
        side: Times(*np.array(values)[:, [0, 1, 2]].T)
        for side, values in (("recurate", ours), ("Arrow", theirs))
    }
    ratio, by_wall = found["recurate"].over(found["Arrow"])
    report.add(Line(name, "time over Arrow's reading", ratio, by_wall, "x", 1.5))
    report.add(Line(name, "peak memory", float(np.median([v[3] for v in ours])), None, "GB", 2.0))
    report.timed(name, found)
    report.note(name, "recurate " + " ".join(words) + "; columns " + ", ".join(columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--shards", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder of the log, kept; a log that is there is used")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    report, facts = Report(), machine(["pyarrow"])
    load, start = os.getloadavg()[0], time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.work or Path(scratch)
        (folder / "log").mkdir(parents=True, exist_ok=True)
        if not any((folder / "log").iterdir()):
            write(folder / "log", arguments.rows, arguments.shards)
        for name in SIDES:
            measure(name, folder, report, arguments.repeats)
    facts["log"] = f"{arguments.rows:,} rows in {arguments.shards} files"
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    facts["took"] = f"{time.perf_counter() - start:.0f} s"
    command = f"python benchmarks/large_logs.py --repeats {arguments.repeats}"
    text = markdown("Logs that are read in parts", report, facts, command)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "large_logs.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
