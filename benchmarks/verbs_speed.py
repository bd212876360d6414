"""Processor time and peak memory of whole commands on made-up files. See benchmarks/README.md.

python benchmarks/verbs_speed.py [--repeats 5] [--only plan,audit] [--quick] [--out benchmarks/results]
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import Array, Line, Report, Times, machine, markdown

# Peak memory is read by the command itself: what getrusage tells of a child starts from its parent's.
MAIN = """
from recurate.cli import main
try:
    main()
finally:
    with open("peak", "w", encoding="utf-8") as file, open("/proc/self/status", encoding="utf-8") as facts:
        file.write(next(line.split()[1] for line in facts if line.startswith("VmHWM:")))
"""


@dataclass(frozen=True)
class Job:
    """A command, the file it reads, and the bounds of its processor time (s) and peak memory (GB)."""

    name: str
    words: tuple[str, ...]
    write: Callable[[Path, int], None]
    rows: int
    must: float
    stretch: float | None = None
    memory: float | None = None


# --- the files ------------------------------------------------------------------------------------


def two_rewards(path: Path, rows: int) -> None:
    draw = np.random.default_rng(1)
    common = draw.standard_normal(rows)
    columns = {name: 0.6 * common + 0.8 * draw.standard_normal(rows) for name in ("reward_a", "reward_b")}
    pq.write_table(pa.table(columns), path)


def one_reward(path: Path, rows: int) -> None:
    pq.write_table(pa.table({"reward": np.random.default_rng(2).standard_normal(rows)}), path)


def with_text(path: Path, rows: int) -> None:
    """Write rewards with a text of 500 random letters in each row."""
    draw = np.random.default_rng(3)
    schema = pa.schema([("reward", pa.float64()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 100_000):
            count = min(100_000, rows - start)
            letters = draw.integers(97, 123, (count, 500), np.uint8)
            texts = pa.array([row.tobytes().decode() for row in letters], pa.string())
            writer.write_table(pa.table([pa.array(draw.standard_normal(count)), texts], schema=schema))


def prompts(path: Path, rows: int) -> None:
    """Write eight completions of each prompt; prompts differ in location."""
    draw = np.random.default_rng(4)
    prompt = np.arange(rows) // 8
    reward = draw.standard_normal(rows // 8)[prompt] + draw.standard_normal(rows)
    pq.write_table(pa.table({"prompt": prompt, "reward": reward}), path)


def choices(path: Path, rows: int) -> None:
    """Write slates of four with two features, and Luce picks of choosers who all want the same."""
    _picks(path, rows, np.random.default_rng(5), 0.0)


def choices_of_groups(path: Path, rows: int) -> None:
    """Write the same of choosers in two groups, with 20 slates of each chooser."""
    _picks(path, rows, np.random.default_rng(6), 1.0)


def _picks(path: Path, rows: int, draw: np.random.Generator, apart: float) -> None:
    slates = rows // 4
    features = draw.standard_normal((slates, 4, 2))
    chooser = np.arange(slates) // 20
    group = draw.random(chooser[-1] + 1) < 0.5
    wants = np.where(group[chooser][:, None], np.array([0.8, -0.4]), np.array([0.8, -0.4 + 2 * apart]))
    utilities = np.einsum("sjd,sd->sj", features, wants)
    columns = {
        "slate": np.repeat(np.arange(slates), 4),
        "chooser": np.repeat(chooser, 4),
        "price": features[..., 0].ravel(),
        "size": features[..., 1].ravel(),
        "picked": _one_of(utilities, draw),
    }
    pq.write_table(pa.table(columns), path)


def log_of_loop(path: Path, rows: int) -> None:
    """Write the slates of four rounds: Luce picks at temperature 1, resampled into the next round's mean."""
    draw = np.random.default_rng(7)
    parts, mean = [], 0.0
    slates = rows // 16
    for t in range(4):
        reward = mean + draw.standard_normal((slates, 4))
        picked = _one_of(reward, draw)
        mean = float(reward.ravel()[picked].mean())
        columns = {
            "round": np.full(4 * slates, t),
            "slate": np.repeat(np.arange(slates) + t * slates, 4),
            "reward": reward.ravel(),
            "picked": picked,
        }
        parts.append(pa.table(columns))
    pq.write_table(pa.concat_tables(parts), path)


def _one_of(utilities: Array, draw: np.random.Generator) -> Array:
    """Return which of the slates' candidates (slates, J) are picked by Luce's rule, flat."""
    best = np.argmax(utilities + draw.gumbel(size=utilities.shape), axis=1)
    return (np.arange(utilities.shape[1]) == best[:, None]).ravel()


JOBS = (
    Job("plan, 4,000 rows, two rewards", ("plan",), two_rewards, 4_000, 6, 2),
    Job("forecast, 1e6 rows", ("forecast",), one_reward, 1_000_000, 4, 2),
    Job("forecast, 1e6 rows with texts", ("forecast",), with_text, 1_000_000, 4, 2, 0.5),
    Job("forecast, 1e5 prompts x 8", ("forecast", "--context", "prompt"), prompts, 800_000, 4, 2),
    Job("fit, 1e6 rows, no groups", ("fit", "--groups", "none"), choices, 1_000_000, 8, 4),
    Job("fit, 1e6 rows, groups", ("fit",), choices_of_groups, 1_000_000, 60, 20),
    Job(
        "audit, 1e6 rows",
        ("audit", "--declared", "k = 4, temperature = 1, noise = gumbel"),
        log_of_loop,
        1_000_000,
        6,
        3,
    ),
)


# --- running --------------------------------------------------------------------------------------


def run(words: list[str], folder: Path, program: str = MAIN) -> tuple[float, float, float, float]:
    """Run a command, or another program that writes its peak.

    Return its seconds of processor time, wall clock and kernel, and its peak in GB.
    """
    start = time.perf_counter()
    with (folder / "printed").open("w", encoding="utf-8") as printed:
        child = subprocess.Popen(
            [sys.executable, "-c", program, *words], cwd=folder, stdout=printed, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 4):  # 4: an audit that could not verify everything
        raise SystemExit((folder / "printed").read_text(encoding="utf-8") + f"\nexit code {child.returncode}")
    peak = int((folder / "peak").read_text(encoding="utf-8")) * 1024 / 1e9
    return used.ru_utime + used.ru_stime, wall, used.ru_stime, peak


def measure(job: Job, report: Report, repeats: int, rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job.write(folder / "log.parquet", rows)
        words = [job.words[0], "log.parquet", *job.words[1:], "--out", "out"]
        found = np.array([run([*words[:-1], f"out{i}"], folder) for i in range(repeats)])
    times = Times(found[:, 0], found[:, 1], found[:, 2])
    report.add(Line(job.words[0], job.name, times.median, times.wall_median, "s", job.must, job.stretch))
    peak = float(np.median(found[:, 3]))
    report.add(Line(job.words[0], f"{job.name}: peak memory", peak, None, "GB", job.memory))
    report.timed(job.words[0], {job.name: times})
    report.note(job.words[0], "recurate " + " ".join([f'"{x}"' if " " in x else x for x in words]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="runs of each command")
    parser.add_argument("--only", default="", help="jobs whose names contain one of these, comma-separated")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows: a trial")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    report, facts = Report(), machine(["pyarrow"])
    load, start = os.getloadavg()[0], time.perf_counter()
    for job in JOBS:
        if any(part in job.name for part in arguments.only.split(",")):
            measure(job, report, arguments.repeats, job.rows // 10 if arguments.quick else job.rows)
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    facts["took"] = f"{time.perf_counter() - start:.0f} s"
    command = " ".join(["python", *sys.argv])
    text = "\n".join(markdown("Processor time of whole commands", report, facts, command))
    text = text.replace(
        "Seconds are by the wall clock (aside: processor time).",
        "Here seconds are of the processor, user and system (aside: by the wall clock), medians over whole "
        "commands with their imports.",
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "verbs_speed.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
