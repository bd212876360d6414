"""What `./run test` runs: linter, formatter, types, tests.

``--all`` adds the slow tests. ``--newest`` reports instead what breaks with the installed versions, where
they are newer than those in constraints.txt; it fails only where it cannot work at all.
"""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PYTHON = [sys.executable, "-m"]
TESTS = ["pytest", "-n", "2", "--dist", "worksteal", "-q"]
FAST = ["-m", "not slow"]
STEPS = [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]]
LONGEST = 15 * 60.0  # seconds that the tests of the newest versions may take
# One thread per process: the networks are small, and two test processes share the cores.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main() -> int:
    arguments = sys.argv[1:]
    unknown = set(arguments) - {"--all", "--newest"}
    if unknown or len(arguments) > 1:
        print(f"unexpected {', '.join(sorted(unknown) or arguments)}; --all or --newest", file=sys.stderr)
        return 2
    if arguments == ["--newest"]:
        return newest()
    for step in [*STEPS, TESTS + ([] if arguments else FAST)]:
        print("$", " ".join(step), flush=True)
        code = subprocess.run(PYTHON + step, cwd=ROOT, env=ENVIRONMENT, check=False).returncode
        if code:
            return code
    return 0


def newest() -> int:
    """Say which packages are newer than the lock, and what breaks with them."""
    newer = newer_than(ROOT / "constraints.txt")
    if not newer:
        print("Newest versions: none is newer than in constraints.txt, so there is nothing to try.")
        return 0
    print("Newest versions, newer than in constraints.txt:", ", ".join(newer), flush=True)
    broken = []
    for step in STEPS:
        done = subprocess.run(
            PYTHON + step, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            broken += [f"{' '.join(step)}:", *indented(done.stdout + done.stderr, 10)]
    broken += broken_tests()
    print("\n".join(["With them these break:", *broken] if broken else ["With them nothing breaks."]))
    return 0


def newer_than(lock: Path) -> list[str]:
    """Return what is installed in a newer version than a constraints file has for this Python and system."""
    found = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            here = Version(importlib.metadata.version(wanted.name))
        except importlib.metadata.PackageNotFoundError:
            continue
        known = Version(next(iter(wanted.specifier)).version)
        if Version(here.public) > known:
            found.append(f"{wanted.name} {here} ({known})")
    return found


def broken_tests() -> list[str]:
    """Run the fast tests and return a line for each that fails, within :data:`LONGEST` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder) / "tests.xml", Path(folder) / "log"
        with log.open("w", encoding="utf-8") as out:
            running = subprocess.Popen(
                [*PYTHON, *TESTS, *FAST, f"--junitxml={report}"],
                cwd=ROOT, env=ENVIRONMENT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                running.wait(LONGEST)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
                return [f"the fast tests were not through after {LONGEST / 60:.0f} minutes and were stopped"]
        said = indented(log.read_text(encoding="utf-8"), 20)
        if not report.exists():
            return ["the tests do not start:", *said]
        found = [
            described(case, what)
            for case in ElementTree.parse(report).iter("testcase")
            for what in (*case.iter("failure"), *case.iter("error"))
        ]
        if running.returncode not in (0, 1):  # pytest's exit codes where every test ran
            found += [f"not all tests ran: pytest ended with exit code {running.returncode}:", *said]
        return found


def described(case: ElementTree.Element, what: ElementTree.Element) -> str:
    """Return a failed test's name and message, with the last line where the message names no cause."""
    name = ".".join(filter(None, (case.get("classname"), case.get("name")))).removeprefix("tests.")
    message = what.get("message", "")
    if message in ("", "collection failure", "internal error"):
        message = f"{message}: {(what.text or '').strip().rpartition(chr(10))[2].removeprefix('E')}"
    return f"  {name}: {' '.join(message.split())[:200]}"


def indented(text: str, lines: int) -> list[str]:
    """Return the last lines of a text, indented."""
    return [f"  {line}" for line in text.strip().splitlines()[-lines:]]


if __name__ == "__main__":
    raise SystemExit(main())
