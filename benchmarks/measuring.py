"""What the benchmarks share: calls timed in turn, lines judged by their bounds, memory, the report.

Set the numbers of threads before importing this: it imports NumPy.
"""

from __future__ import annotations

import csv
import datetime
import gc
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy

import recurate

Array = np.ndarray
HEAD = ("job", "measured", "value", "must", "stretch", "met", "aside")
STATISTICS = ("median_s", "min_s", "quartile1_s", "quartile3_s", "wall_median_s")


# --- timing ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Times:
    """Seconds of one call, one value a repetition: of processor time, and by the clock on the wall.

    ``kernel`` is what of the processor time was spent in the kernel, which hands out pages.
    """

    cpu: Array
    wall: Array
    kernel: Array

    @property
    def median(self) -> float:
        return float(np.median(self.cpu))

    @property
    def wall_median(self) -> float:
        return float(np.median(self.wall))

    def statistics(self) -> list[float]:
        """Return processor time's median, minimum and quartiles, and the wall clock's median."""
        low, high = np.percentile(self.cpu, [25, 75])
        return [self.median, float(self.cpu.min()), float(low), float(high), self.wall_median]

    def __str__(self) -> str:
        median, best, low, high, wall = map(spell, self.statistics())
        return f"{median} (min {best}, quartiles {low} to {high}; wall {wall})"

    def over(self, other: Times) -> tuple[float, float]:
        """Return the ratio of medians, and the same by the wall clock."""
        return self.median / other.median, self.wall_median / other.wall_median

    @property
    def user_median(self) -> float:
        """The median of processor time outside the kernel."""
        return float(np.median(self.cpu - self.kernel))


def spell(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def interleave(
    calls: dict[str, Callable[[], object]],
    repeats: int,
    once: Sequence[str] = (),
    order: np.random.Generator | None = None,
) -> dict[str, Times]:
    """Time all calls in turn, ``repeats`` times round, after one round that is not counted.

    Every round has an order of its own, drawn from ``order`` if that is given: what a call finds in the
    cache, and which pages the kernel has at hand, depends on the call before it.

    A call shorter than 2 ms is repeated within its turn until it takes about that long; its mean counts.
    Those in ``once`` are not: they find in the cache what the call before them left there.
    """
    within = {}
    for name, call in calls.items():
        first = _clock(call, 1)[1]
        long = name in once or first > 1.0
        within[name] = 1 if long else max(1, math.ceil(2e-3 / _clock(call, 1)[1]))
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in calls}
    names = list(calls)
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            if order is not None:
                order.shuffle(names)
            for name in names:
                found[name].append(_clock(calls[name], within[name]))
    finally:
        gc.enable()
    return {name: Times(*np.array(seconds).T) for name, seconds in found.items()}


def _clock(call: Callable[[], object], times: int) -> tuple[float, float, float]:
    """Return a call's seconds: of the processor (all threads), by the clock on the wall, in the kernel."""
    kernel, cpu, wall = _kernel(), time.process_time(), time.perf_counter()
    for _ in range(times):
        call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return cpu / times, wall / times, (_kernel() - kernel) / times


def _kernel() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_stime


# --- what is reported -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One line of the table; ``must`` and ``stretch`` bound the first value (from above, or below).

    Ratios are judged in processor time: on a machine that others use, the wall clock stretches long calls
    but not short ones. Seconds are judged by the wall clock. The other of the two is ``aside``.
    """

    job: str
    what: str
    value: float
    aside: float | None
    unit: str
    must: float | None = None
    stretch: float | None = None
    at_least: bool = False

    def met(self) -> str:
        if self.must is None:
            return ""
        if self._reaches(self.stretch):
            return "stretch"
        return "must" if self._reaches(self.must) else "NO"

    def _reaches(self, bound: float | None) -> bool:
        if bound is None:
            return False
        return self.value >= bound if self.at_least else self.value <= bound

    def cells(self) -> list[str]:
        sign = "≥" if self.at_least else "≤"
        bounds = ["" if b is None else f"{sign} {b:g} {self.unit}" for b in (self.must, self.stretch)]
        aside = "" if self.aside is None else f"{self.aside:.3g}"
        return [self.job, self.what, f"{self.value:.3g} {self.unit}", *bounds, self.met(), aside]


@dataclass
class Report:
    """Lines, the times behind them and notes, as they come in."""

    lines: list[Line] = field(default_factory=list)
    times: list[tuple[str, str, Times]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def add(self, line: Line) -> None:
        self.lines.append(line)
        print("  ".join(f"{cell:<10}" for cell in line.cells()), flush=True)

    def timed(self, job: str, found: dict[str, Times]) -> None:
        for name, times in found.items():
            self.times.append((job, name, times))
            print(f"    {name}: {times}", flush=True)

    def note(self, job: str, text: str) -> None:
        self.notes.append((job, text))
        print(f"    {text}", flush=True)


def off(found: Array, wanted: Array) -> float:
    """Return the largest relative deviation."""
    return float(np.max(np.abs(np.asarray(found) / np.asarray(wanted) - 1)))


def check(name: str, value: float, bound: float) -> None:
    if not value <= bound:
        raise SystemExit(f"{name} is off by {value:.2g}, more than {bound:.2g}: no timing means anything")


# --- memory ------------------------------------------------------------------------------------------


def resident(field_: str) -> int:
    """Return the bytes resident now (VmRSS) or at most so far (VmHWM).

    Not ru_maxrss where /proc is there: it starts from what the parent process had.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field_ + ":"))


# --- writing --------------------------------------------------------------------------------------


def machine(packages: Sequence[str] = ()) -> dict[str, str]:
    """Return what the numbers depend on, with the versions of ``packages``; no names of machine or folder."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [x for x in cpuinfo.read_text(encoding="utf-8").splitlines() if x.startswith("model name")]
        model = named[0].split(":", 1)[1].strip() if named else model
    return {
        "processor": f"{model}, {os.cpu_count()} cores, one thread used",
        "system": f"{platform.system()} {platform.machine()}",
        "versions": f"Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}, "
        f"recurate {recurate.__version__} ({_revision()})"
        + "".join(f", {name} {version(name)}" for name in packages),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _revision() -> str:
    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "../src")
        return git("rev-parse", "--short", "HEAD") + (", src changed since" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "revision unknown"


def markdown(title: str, report: Report, facts: dict[str, str], command: str) -> list[str]:
    """Return the lines of a page: facts, the table, the times behind it, notes."""
    lines = [f"# {title}", "", f"`{command}`", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", *table(HEAD, [x.cells() for x in report.lines]), ""]
    lines += [
        "Ratios are of processor times (aside: of wall-clock times), because other work shares the machine "
        "and stretches long calls but not short ones. Seconds are by the wall clock (aside: processor time)."
    ]
    lines += [
        "",
        "## Times",
        "",
        "Processor time (user and system) of one call, in one thread, and by the clock on the wall. The "
        "calls of a job were made in turn.",
        "",
    ]
    rows = []
    for job, name, times in report.times:
        rows.append([job, name, *map(spell, times.statistics()), str(times.cpu.size)])
    lines += table(
        ["job", "call", "median", "min", "1st quartile", "3rd quartile", "wall median", "repetitions"], rows
    )
    lines += ["", "## Notes", ""]
    return [*lines, *(f"- Job {job}: {text}." for job, text in report.notes), ""]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def write_csv(path: Path, report: Report) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["job", "measured", "value", "unit", "must", "stretch", "met", "aside"])
        for line in report.lines:
            rows.writerow([line.job, line.what, f"{line.value:.6g}", line.unit, *line.cells()[3:]])
