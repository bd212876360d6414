"""How fast files are read, against Arrow's own readers, and how much memory columns that are not needed cost.

    python benchmarks/reading_speed.py            # 1e6 rows, a few minutes
    python benchmarks/reading_speed.py --quick    # a tenth of the rows: a trial

Both sides read the same columns of the same file, in turn; recurate's side includes finding out what the file
is. Arrow's side is given the columns' types where it can use them.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.json as arrow_json
import pyarrow.parquet as pq
from measuring import Line, Report, interleave, machine, markdown, resident

from recurate.log.reading.sources import open_source

NEEDED = ["round", "slate", "reward", "picked"]
MUST = 1.5


def write_files(folder: Path, rows: int) -> None:
    """Write a log as CSV, JSON lines and Parquet; the last with a text of 500 characters in each row."""
    draw = np.random.default_rng(0)
    number = np.arange(rows)
    table = pa.table(
        {
            "round": number * 10 // rows,
            "slate": number // 4,
            "reward": draw.standard_normal(rows),
            "picked": number % 4 == 0,
            "prompt": [f"prompt {i % 5000}, of a kind" for i in range(rows)],
        }
    )
    arrow_csv.write_csv(table, folder / "log.csv")
    pq.write_table(table.select(NEEDED), folder / "needed.parquet")
    with (folder / "log.jsonl").open("w", encoding="utf-8") as file:
        for batch in table.to_batches(max_chunksize=50_000):
            file.writelines(json.dumps(row) + "\n" for row in batch.to_pylist())
    with pq.ParquetWriter(
        folder / "log.parquet", table.schema.append(pa.field("text", pa.string()))
    ) as writer:
        for start in range(0, rows, 100_000):
            part = table.slice(start, 100_000)
            letters = draw.integers(97, 123, (part.num_rows, 500), np.uint8)
            texts = pa.array([row.tobytes().decode() for row in letters], pa.string())
            writer.write_table(part.append_column("text", texts))


def arrow_reads_csv(path: Path, columns: list[str] | None) -> pa.Table:
    with pa.input_stream(str(path)) as file:
        return arrow_csv.read_csv(file, convert_options=arrow_csv.ConvertOptions(include_columns=columns))


def arrow_reads_json(path: Path, columns: list[str] | None) -> pa.Table:
    kinds = {"round": pa.int64(), "slate": pa.int64(), "reward": pa.float64(), "picked": pa.bool_()}
    parse = arrow_json.ParseOptions()
    if columns is not None:
        schema = pa.schema([(name, kinds[name]) for name in columns])
        parse = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    with pa.input_stream(str(path)) as file:
        return arrow_json.read_json(file, parse_options=parse)


def speed(report: Report, folder: Path, rounds: int) -> None:
    """Compare the times of both sides, with all columns and with some."""
    sides: dict[str, Callable[[Path, list[str] | None], pa.Table]] = {
        "log.csv": arrow_reads_csv,
        "log.jsonl": arrow_reads_json,
    }
    for name, arrow in sides.items():
        path = folder / name
        for what, columns in (("all columns", None), ("4 of 5 columns", NEEDED)):
            assert open_source(path).read(columns).equals(arrow(path, columns))
            calls = {
                "recurate": lambda path=path, columns=columns: open_source(path).read(columns),
                "Arrow": lambda path=path, columns=columns, arrow=arrow: arrow(path, columns),
            }
            found = interleave(calls, rounds)
            ratio = found["recurate"].median / found["Arrow"].median
            wall = float(np.median(found["recurate"].wall) / np.median(found["Arrow"].wall))
            report.add(Line("1", f"{name}, {what}", ratio, wall, "x", MUST))
            report.timed("1", found)


def memory(report: Report, folder: Path) -> None:
    """Compare the growth of a process that reads some columns with what they take."""
    command = [sys.executable, __file__, "--memory", str(folder / "log.parquet")]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    command[-1] = str(folder / "needed.parquet")
    alone = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    ratio = found["allocated"] / found["taken"]
    report.add(Line("2", "Arrow's peak memory / the needed columns", ratio, None, "x", MUST))
    ratio = found["grown"] / alone["grown"]
    report.add(
        Line("2", "growth of the process / with a file of these columns alone", ratio, None, "x", MUST)
    )
    for what, side in (("with the text", found), ("columns alone", alone)):
        sizes = ", ".join(f"{name} {size / 2**20:.1f} MB" for name, size in side.items())
        report.note("2", f"{what}: {sizes}")
    report.note("2", f"the file is {(folder / 'log.parquet').stat().st_size / 2**20:.0f} MB")


def memory_child(path: str) -> None:
    open_source(pa.table({"a": [1]})).read()
    pq.ParquetFile(path).close()  # what is imported and made once
    before, pool = resident("VmHWM"), pa.default_memory_pool()
    allocated = pool.max_memory()
    table = open_source(path).read(NEEDED)
    grown, allocated = resident("VmHWM") - before, pool.max_memory() - allocated
    print(json.dumps({"taken": table.nbytes, "allocated": allocated, "grown": grown}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows: a trial")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # the child process of job 2
    arguments = parser.parse_args()
    if arguments.memory:
        memory_child(arguments.memory)
        return
    report, facts = Report(), machine(["pyarrow"])
    load, start = os.getloadavg()[0], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), 100_000 if arguments.quick else 1_000_000)
        speed(report, Path(folder), 5)
        memory(report, Path(folder))
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    facts["took"] = f"{time.perf_counter() - start:.0f} s"
    command = "python benchmarks/reading_speed.py" + (" --quick" if arguments.quick else "")
    text = "\n".join(markdown("How fast files are read", report, facts, command))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "reading_speed.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
