"""What engines add to sampling: 1e6 points in 100 shards on two Ray workers, and in two bare processes.

    python benchmarks/engines.py            # five repetitions, five to ten minutes
    python benchmarks/engines.py --quick    # one repetition of 10 shards: a trial

A bare process loads the model, samples its half of the shards in a loop and writes them. A Ray worker does
the same as a task per shard, checks versions, hashes and seals what it wrote. Both are new: their seconds
include the imports. The clock on the wall runs until the last shard is there. The cluster runs already, as it
does in a run after its first shard; its own start is stated apart. Processor time is that of the whole tree
of processes, Ray's own included.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measuring import Line, Report, Times, machine, markdown

from recurate.components.registry import load_model
from recurate.core.errors import Waiting
from recurate.core.seeds import Stream
from recurate.engines.engine import Elsewhere, OnRay
from recurate.engines.needs import Needs
from recurate.log.samples import load_samples, save_samples
from recurate.loop.config import parse_config, read_config
from recurate.loop.driver import run
from recurate.loop.run_folder import RunFolder
from recurate.loop.shards import batches, sample_shard

SIZE = 10_000  # candidates of a shard
CONFIG = {
    "rounds": 1,
    "data": {"kind": "gaussians", "size": 5000},
    "generator": {"kind": "flow", "coupling": "independent", "first_steps": 200, "steps": 100},
    "rewards": [{"kind": "distance", "centre": [2.0, 0.0]}],
    "engine": {"shard": SIZE},
}
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one repetition of 10 shards: a trial")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    parser.add_argument("--bare", nargs=4, help=argparse.SUPPRESS)  # a bare process
    arguments = parser.parse_args()
    if arguments.bare:
        bare(*arguments.bare)
        return
    times, shards = (1, 10) if arguments.quick else (5, 100)
    report, facts = Report(), machine(["torch", "ray"])
    load, start = os.getloadavg()[0], time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), report, times, shards)
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    facts["took"] = f"{time.perf_counter() - start:.0f} s"
    command = "python benchmarks/engines.py" + (" --quick" if arguments.quick else "")
    text = "\n".join(markdown("What engines add to sampling", report, facts, command))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "engines.md").write_text(text, encoding="utf-8")
    print("\n" + text)


def compare(folder: Path, report: Report, times: int, shards: int) -> None:
    """Sample the shards of a run's first round in turn by every means, and compare."""
    settings = CONFIG | {"selection": {"k": 4, "picks": 1000, "slates": SIZE * shards // 4}}
    with contextlib.suppress(Waiting):  # after the model is trained
        run(parse_config(settings), folder / "run", engine=Elsewhere())
    (batch,) = batches(RunFolder.open(folder / "run"))
    starts: list[float] = []

    def processes() -> tuple[float, float]:
        out = folder / "bare"
        shutil.rmtree(out, ignore_errors=True)
        return clock(lambda: two_bare(batch, out, shards))

    def ray() -> tuple[float, float]:
        for path in batch.glob("samples-*"):
            shutil.rmtree(path)
        engine, since = OnRay(2), time.perf_counter()
        engine.start(Needs())
        starts.append(time.perf_counter() - since)
        found = clock(lambda: list(engine.map(sample_shard, [(str(batch), j) for j in range(shards)])))
        engine.close()
        return found

    calls = {"two bare processes": processes, "two Ray workers": ray}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(times):
        for name, call in calls.items():
            found[name].append(call())
    for j in range(shards):  # the same bytes, else no timing means anything
        own = load_samples(folder / "bare" / f"{j}")
        if not np.array_equal(own, load_samples(batch / f"samples-{j:05d}")):
            raise SystemExit(f"shard {j} has other samples in a bare process")
    spent = {
        name: Times(np.array([c for c, _ in f]), np.array([w for _, w in f]), np.zeros(len(f)))
        for name, f in found.items()
    }
    alone, shared = spent["two bare processes"], spent["two Ray workers"]
    cpu, wall = shared.median / alone.median, shared.wall_median / alone.wall_median
    report.add(Line("1", "Ray / bare, processor time", cpu, wall, "", 1.15))
    report.add(Line("1", "Ray / bare, by the clock on the wall", wall, cpu, "", 1.15))
    report.timed("1", spent)
    report.note(
        "1",
        "a bare process has a fixed half of the shards, and a task goes to whoever is free: with other work "
        "beside them (see load) the wall clock favours tasks, so processor time is the fairer line",
    )
    report.note("1", f"starting Ray took {np.median(starts):.1f} s (median), once per run, beside this")


def two_bare(batch: Path, out: Path, shards: int) -> None:
    """Sample the even shards in one process and the odd ones in another."""
    commands = [
        [sys.executable, __file__, "--bare", str(batch), str(out), str(first), str(shards)]
        for first in (0, 1)
    ]
    for process in [subprocess.Popen(command) for command in commands]:
        if process.wait():
            raise SystemExit("a bare process failed")


def bare(batch: str, out: str, first: str, shards: str) -> None:
    folder = Path(batch)
    config = read_config(folder.parent.parent / "config.toml")
    model = load_model(config.generator, folder / "model")
    stream = Stream(config.seed).at("round", 0, "sample")
    for j in range(int(first), int(shards), 2):
        target = Path(out) / f"{j}"
        target.mkdir(parents=True)
        save_samples(model.sample(SIZE, rng=stream.at("shard", j)), target)


def clock(call: Callable[[], object]) -> tuple[float, float]:
    """Return the processor time of a call's tree of processes, and its time by the clock on the wall."""
    before, since = tree(), time.perf_counter()
    call()
    wall = time.perf_counter() - since
    return tree() - before, wall


def tree() -> float:
    """Return the processor time of this process and all below it, of those that have ended too."""
    found: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        found[int(path.parent.name)] = (int(words[1]), sum(map(int, words[11:15])) / TICKS)

    def below(process: int | None) -> bool:
        while process in found:
            if process == os.getpid():
                return True
            process = found[process][0]
        return False

    return sum(seconds for process, (_, seconds) in found.items() if below(process))


if __name__ == "__main__":
    main()
