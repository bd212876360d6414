"""What `./run test` runs: linter, formatter, types, tests. `--all` adds the slow tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHON = [sys.executable, "-m"]


def main() -> int:
    unknown = set(sys.argv[1:]) - {"--all"}
    if unknown:
        print(f"unknown option {', '.join(sorted(unknown))}; the only one is --all", file=sys.stderr)
        return 2
    everything = "--all" in sys.argv[1:]
    tests = ["pytest", "-n", "2", "--dist", "worksteal", "-q"]
    steps = [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
        tests + ([] if everything else ["-m", "not slow"]),
    ]
    # One thread a process: the networks are small, and two test processes share the cores.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    for step in steps:
        print("$", " ".join(step), flush=True)
        code = subprocess.run(PYTHON + step, cwd=ROOT, env=environment, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
