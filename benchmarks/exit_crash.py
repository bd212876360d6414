"""Does a command that read text files ever abort while it ends (exit code 134)?

    python benchmarks/exit_crash.py               # 500 runs of `recurate fit` beside other work, half an hour
    python benchmarks/exit_crash.py --runs 100

Arrow's worker threads may free the last block that was read while the interpreter ends. If Python owns the
block, that needs the interpreter's lock, and the process aborts: 1 in 10 to 1 in 60 commands on a busy
machine did so while files were read through Python. Half of the runs read a CSV file above 1 MB, half JSON
lines; half of each fail at once (exit code 2), half fit (exit code 0). Every core is kept busy by another
process; ``--others 0`` where the machine is busy anyway.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "exit_crash.md"


def busy() -> None:
    """Keep one core busy."""
    while True:
        sum(range(10_000))


def write_files(folder: Path) -> dict[str, int]:
    """Write the files above 1 MB; return the exit code that a fit of each has."""
    draw, note = random.Random(0), "some words here " * 25
    good = [
        {
            "slate": i // 2,
            "picked": i % 2,
            "reward": round(draw.gauss(0, 1), 4),
            "note": "some words here " * 25,
        }
        for i in range(3000)
    ]
    bad = [{"trial": i, "answer": draw.choice("lr"), "note": note} for i in range(3000)]
    for name, rows in (("good", good), ("bad", bad)):
        lines = [",".join(map(str, row.values())) for row in rows]
        (folder / f"{name}.csv").write_text("\n".join([",".join(rows[0]), *lines, ""]))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"good.csv": 0, "good.jsonl": 0, "bad.csv": 2, "bad.jsonl": 2}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument(
        "--others", type=int, default=os.cpu_count() or 1, help="processes that keep cores busy"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    others = [multiprocessing.Process(target=busy, daemon=True) for _ in range(options.others)]
    codes: dict[str, Counter[int]] = {}
    started, before = time.perf_counter(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = write_files(folder)
        for process in others:
            process.start()
        for run in range(options.runs):
            file = list(wanted)[run % len(wanted)]
            command = [
                sys.executable,
                "-m",
                "recurate.cli",
                "fit",
                file,
                "--model",
                "score",
                "--score",
                "reward",
            ]
            if file.startswith("bad"):
                command = command[:5]
            done = subprocess.run(
                [*command, "--groups", "none", "--json"], cwd=folder, capture_output=True, check=False
            )
            codes.setdefault(file, Counter())[done.returncode] += 1
    for process in others:
        process.kill()
    wrong = sum(n for file, found in codes.items() for code, n in found.items() if code != wanted[file])
    lines = [
        "# Exit codes of commands that read text",
        "",
        f"`python benchmarks/exit_crash.py --runs {options.runs} --others {options.others}`, "
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, "
        f"{time.perf_counter() - started:.0f} s; load {before:.1f}, then {os.getloadavg()[0]:.1f}.",
        "",
        "| file | runs | exit codes |",
        "|---|---|---|",
        *(
            f"| {file} | {found.total()} | {', '.join(f'{c}: {n}' for c, n in sorted(found.items()))} |"
            for file, found in codes.items()
        ),
        "",
        f"Runs with another exit code than they should have: {wrong}.",
    ]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
