"""Write constraints.txt, the versions that ./run installs: ``python tools/lock.py [--keep | --check]``.

Every package that pyproject.toml asks for, extras and the build backend included, gets one version for each
Python from 3.11 to 3.14 on Linux and macOS, dependencies of dependencies too. Without ``--check`` the newest
versions within pyproject.toml's ranges are taken; run ``./run test --all`` with them before committing.
``--keep`` keeps the versions that are known and adds what is missing, for a new dependency.
``--check`` changes nothing: it fails where the file does not satisfy pyproject.toml, or where a version has
no wheel on one of the systems. Resolution is uv's (``pip install uv``); nothing is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "constraints.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin")
# Newer releases than this bring gigabytes of CUDA packages where a CPU build of this one is at hand.
TORCH = "torch==2.13.0"
# What torch from PyPI brings for graphics cards: left to torch, so that a CPU build stays one.
CARDS = re.compile(r"^(nvidia|cuda|triton|torch==)")
HEAD = """\
# Known-good versions for Python 3.11 to 3.14 on Linux and macOS, which ./run installs.
# Made by `python tools/lock.py`, checked by the same with --check; pyproject.toml has the true ranges.
# A looser torch range would fetch the newest release with its CUDA packages (gigabytes).
"""


def main() -> int:
    """Write or check; return an exit code."""
    unknown = set(sys.argv[1:]) - {"--check", "--keep"}
    if unknown:
        print(f"unknown option {', '.join(sorted(unknown))}; known: --check, --keep", file=sys.stderr)
        return 2
    known = LOCK.read_text(encoding="utf-8") if {"--check", "--keep"} & set(sys.argv) else ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "--check" not in sys.argv[1:]:
            LOCK.write_text(resolved(folder, known), encoding="utf-8")
            print(f"{LOCK.name}: {len(versions())} packages")
            return 0
        if resolved(folder, known) != known:
            print(f"{LOCK.name} does not satisfy pyproject.toml; run `python tools/lock.py`", file=sys.stderr)
            return 1
        found = [missing(folder, python, platform) for python in PYTHONS for platform in PLATFORMS]
        wrong = [words for words in found if words]
        print(
            "\n".join(wrong or [f"{LOCK.name} holds: Python {', '.join(PYTHONS)} on {', '.join(PLATFORMS)}"])
        )
        return bool(wrong)


def versions() -> list[str]:
    """Return the lock's lines, ``name==version`` with a marker where it holds for some systems only."""
    return [
        line for line in LOCK.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]


def resolved(folder: Path, known: str) -> str:
    """Return the lock's text; versions in ``known`` stay as they are while they satisfy pyproject.toml."""
    out = folder / "resolved.txt"
    out.write_text(known, encoding="utf-8")
    uv(
        *inputs(folder), "--universal", "--python-version", PYTHONS[0], "--no-header", "--no-annotate",
        "--output-file", str(out),
    )  # fmt: skip
    found = [line for line in out.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return HEAD + "\n".join([TORCH, *(line for line in found if not CARDS.match(line))]) + "\n"


def missing(folder: Path, python: str, platform: str) -> str:
    """Say what is wrong with the lock on a system, or return nothing."""
    out = folder / "one.txt"
    out.unlink(missing_ok=True)
    try:
        uv(
            *inputs(folder), "--constraint", str(LOCK), "--python-version", python,
            "--python-platform", platform, "--only-binary", ":all:", "--no-header", "--no-annotate",
            "--output-file", str(out),
        )  # fmt: skip
    except SystemExit as stop:
        return f"Python {python}, {platform}: {stop}"
    names = {line.split("==")[0] for line in versions()}
    extra = [
        line for line in out.read_text(encoding="utf-8").splitlines() if line.split("==")[0] not in names
    ]
    unlocked = [line for line in extra if not CARDS.match(line)]
    return f"Python {python}, {platform}: not in the lock: {', '.join(unlocked)}" if unlocked else ""


def inputs(folder: Path) -> list[str]:
    """Return what is resolved: pyproject.toml with every extra, the build backend, torch's version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    build, torch = folder / "build.in", folder / "torch.in"
    build.write_text("\n".join(project["build-system"]["requires"]), encoding="utf-8")
    torch.write_text(TORCH, encoding="utf-8")
    return [str(ROOT / "pyproject.toml"), str(build), "--all-extras", "--constraint", str(torch)]


def uv(*arguments: str) -> None:
    """Run ``uv pip compile``.

    Raises:
        SystemExit: there is no uv, or no solution.
    """
    beside = Path(sys.executable).with_name("uv")
    program = str(beside) if beside.exists() else shutil.which("uv")
    if program is None:
        raise SystemExit("tools/lock.py resolves with uv, which is not here: pip install uv")
    done = subprocess.run(
        [program, "pip", "compile", "--quiet", *arguments],
        cwd=ROOT,
        env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"},  # the oldest that torch has wheels for
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr.strip())


if __name__ == "__main__":
    raise SystemExit(main())
