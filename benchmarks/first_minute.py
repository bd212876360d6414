"""What a newcomer waits for: installation, the README's first command, its first run.

python benchmarks/first_minute.py [--repeats 5] [--no-run] [--out benchmarks/results]

It installs the checkout into a new environment (pip reaches the network or its cache), runs the README's
first command there, and then `recurate run examples/digits.toml` in the present environment, which has
PyTorch. What the run prints is kept: tests compare the README with it.
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
from pathlib import Path

import numpy as np
from measuring import Line, Report, Times, machine, markdown

ROOT = Path(__file__).parent.parent
COMMAND = ("forecast", "example:best-of-4")
RUN = ("run", "examples/digits.toml")


def timed(words: list[str], folder: Path) -> tuple[tuple[float, float, float], str]:
    """Run a command; return its seconds (processor, clock on the wall, kernel) and what it printed."""
    start = time.perf_counter()
    with (folder / "printed").open("w", encoding="utf-8") as printed:
        child = subprocess.Popen(words, cwd=folder, stdout=printed, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    text = (folder / "printed").read_text(encoding="utf-8")
    if child.returncode:
        raise SystemExit(f"{text}\nexit code {child.returncode}")
    return (used.ru_utime + used.ru_stime, wall, used.ru_stime), text


def size(folder: Path) -> float:
    """Return what the files of a folder take, in MB."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def install(folder: Path, report: Report) -> Path:
    """Install the checkout without extras into a new environment; return its programs' folder."""
    environment = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    before = size(environment)
    pip = [str(environment / "bin" / "pip"), "install", "--disable-pip-version-check"]
    (cpu, wall, _), _ = timed([*pip, "-c", str(ROOT / "constraints.txt"), str(ROOT)], folder)
    report.add(Line("install", "pip install recurate, from the checkout", wall, cpu, "s"))
    report.add(Line("install", "what it adds", size(environment) - before, None, "MB", 450))
    return environment / "bin"


def first_command(program: Path, folder: Path, repeats: int, report: Report) -> None:
    """Time the first command, the first time (files not in memory) and again."""
    words = [str(program), *COMMAND]
    first, _ = timed(words, folder)
    report.add(Line("first", f"recurate {' '.join(COMMAND)}, the first time", first[1], first[0], "s", 10))
    times = Times(*np.array([timed(words, folder)[0] for _ in range(repeats)]).T)
    report.add(Line("first", "again, median", times.wall_median, times.median, "s"))
    report.timed("first", {f"recurate {' '.join(COMMAND)}": times})


def first_run(folder: Path, report: Report) -> list[str]:
    """Time the first run; return what it prints."""
    code = "from recurate.cli import main; main()"
    words = [sys.executable, "-c", code, RUN[0], str(ROOT / RUN[1]), "--out", "run"]
    seconds, text = timed(words, folder)
    report.add(Line("run", f"recurate {' '.join(RUN)}", seconds[1], seconds[0], "s"))
    return ["## What the run prints", "", "```text", *text.rstrip().splitlines(), "```", ""]


def main() -> None:
    """Measure, and write first_minute.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="runs of the first command")
    parser.add_argument("--no-run", action="store_true", help="leave the run out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    report, facts, printed = Report(), machine(), []
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = install(folder, report)
        first_command(programs / "recurate", folder, arguments.repeats, report)
        if not arguments.no_run:
            printed = first_run(folder, report)
    facts["load"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after (of other work too)"
    text = markdown("The first minute", report, facts, " ".join(["python", *sys.argv]))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "first_minute.md").write_text("\n".join([*text, *printed]), encoding="utf-8")


if __name__ == "__main__":
    main()
