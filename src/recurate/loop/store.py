"""The run folder: everything that a run leaves, each piece written whole or not at all.

::

    config.toml         the resolved configuration, defaults included
    manifest.json       format, versions, code revision, machine, seed
    setup/              what was trained before round 0 (classifier), facts about the data
    rounds/000/         log.parquet, samples.safetensors, measures.parquet, model/, round.json
    trajectory.parquet  forecast and measured, all rounds
    report.html
    timings.jsonl       seconds a stage: the only file that differs between equal runs
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import recurate
from recurate.errors import InputError
from recurate.files import sync, write_text
from recurate.generators.flow import FlowMatching
from recurate.loop import world as worlds
from recurate.loop.config import Config, read_config, write_config
from recurate.loop.rounds import Record, State, winners_of
from recurate.loop.world import World
from recurate.records import RUN_FORMAT, Log, check_format, read_log, write_log
from recurate.trajectory import Trajectory

PACKAGES = ("numpy", "scipy", "pyarrow", "torch", "scikit-learn", "safetensors")


class RunFolder:
    """One run on disk.

    Args:
        path: the folder; see :meth:`create` and :meth:`open`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: Config) -> RunFolder:
        """Start a run folder.

        Raises:
            InputError: the folder exists and is not empty.
        """
        if path.exists() and (not path.is_dir() or _holds_more_than_a_start(path)):
            hint = (
                f"recurate run --resume {path} continues it"
                if (path / "manifest.json").exists()
                else "choose another --out"
            )
            raise InputError("the output folder is not empty", got=path, remedy=hint)
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / "config.toml", write_config(config))
        # The manifest comes last: a folder with one can be resumed.
        write_text(path / "manifest.json", json.dumps(_manifest(config), indent=2) + "\n")
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder.

        Raises:
            InputError: it is not a run folder, or of a newer format.
        """
        check_format(path / "manifest.json")
        return cls(path)

    def config(self) -> Config:
        """Read the resolved configuration.

        Raises:
            InputError: it is not what the run began with (more rounds may be added).
        """
        path = self.path / "config.toml"
        config = read_config(path)
        if self.manifest().get("config_sha256") != _fingerprint(config):
            raise InputError(
                "the run's configuration was changed since it began",
                got=path,
                remedy="undo the change (only 'rounds' may grow), or start a new run",
            )
        return config

    def manifest(self) -> dict[str, Any]:
        """Read the manifest."""
        found: dict[str, Any] = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        return found

    # --- set-up ---

    def world(self, config: Config) -> World:
        """Prepare data and rewards, or load what an earlier session prepared."""
        folder = self.path / "setup"
        if folder.is_dir():
            return worlds.prepare(config, folder)
        world = worlds.prepare(config)
        self._write_folder(folder, lambda partial: worlds.save(world, partial))
        return world

    def facts(self) -> dict[str, Any]:
        """Return facts about the data, once they are known."""
        path = self.path / "setup" / "facts.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found

    # --- rounds ---

    def round_path(self, t: int) -> Path:
        """Return the folder of round t."""
        return self.path / "rounds" / f"{t:03d}"

    def complete(self) -> int:
        """Return how many rounds are safely on disk."""
        t = 0
        while self.round_path(t).is_dir():
            t += 1
        return t

    def save_round(self, record: Record) -> None:
        """Write a round; it appears in one rename."""

        def fill(folder: Path) -> None:
            from safetensors.numpy import save_file

            (folder / "model").mkdir()
            record.generator.save(folder / "model")
            save_file({"samples": record.samples}, folder / "samples.safetensors")
            write_log(record.log, folder / "log.parquet")
            record.measured.write(folder / "measures.parquet")
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            facts = {
                "round": record.round,
                "counts": record.counts,
                "sha256": {p.relative_to(folder).as_posix(): _sha256(p) for p in files},
            }
            (folder / "round.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

        self._write_folder(self.round_path(record.round), fill)

    def log(self, t: int) -> Log:
        """Read a round's log."""
        return read_log(self.round_path(t) / "log.parquet")

    def samples(self, t: int) -> Any:
        """Read a round's candidates, shape (candidates, ...)."""
        from safetensors.numpy import load_file

        return load_file(self.round_path(t) / "samples.safetensors")["samples"]

    def measured(self) -> Trajectory:
        """Read what was measured in all complete rounds."""
        parts = [Trajectory.read(self.round_path(t) / "measures.parquet") for t in range(self.complete())]
        return sum(parts, Trajectory())

    def counts(self, t: int) -> dict[str, int]:
        """Read a round's counts."""
        facts = json.loads((self.round_path(t) / "round.json").read_text(encoding="utf-8"))
        return dict(facts["counts"])

    def state(self, config: Config) -> State | None:
        """Return the state after the last complete round, or None before the first.

        Raises:
            InputError: a file of that round is not what was written.
        """
        done = self.complete()
        if done == 0:
            return None
        folder = self.round_path(done - 1)
        self._check(folder)
        samples = self.samples(done - 1)
        picked = samples[winners_of(self.log(done - 1), config)]
        return State(done, FlowMatching.load(folder / "model"), np.asarray(picked))

    def _check(self, folder: Path) -> None:
        facts = json.loads((folder / "round.json").read_text(encoding="utf-8"))
        for name, digest in facts["sha256"].items():
            path = folder / name
            if not path.is_file() or _sha256(path) != digest:
                raise InputError(
                    "a file of the run is not what was written",
                    got=path,
                    remedy=f"restore it, or delete {folder} to play that round again",
                )

    # --- timings ---

    def add_timing(self, t: int, stage: str, seconds: float) -> None:
        """Append one line to the only file that may differ between equal runs."""
        line = json.dumps({"round": t, "stage": stage, "seconds": round(seconds, 3)})
        with (self.path / "timings.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _write_folder(self, target: Path, fill: Callable[[Path], None]) -> None:
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # left by a crash
        partial.mkdir(parents=True)
        fill(partial)
        for path in (*partial.rglob("*"), partial):
            sync(path)
        os.replace(partial, target)
        sync(target.parent)


def _holds_more_than_a_start(path: Path) -> bool:
    """Whether a folder holds more than a run leaves that died before its manifest was written."""
    started = {"config.toml", ".config.toml.partial", ".manifest.json.partial"}
    return any(entry.name not in started for entry in path.iterdir())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(config: Config) -> dict[str, Any]:
    return {
        "format": RUN_FORMAT,
        "recurate": recurate.__version__,
        "code_revision": _code_revision(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": {
            "system": platform.system(),
            "release": platform.release(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
        },
        "seed": config.seed,
        "config_sha256": _fingerprint(config),
    }


def _fingerprint(config: Config) -> str:
    """Return a hash of everything but the number of rounds, which a resumed run may raise."""
    text = json.dumps(config.model_dump(mode="json", exclude={"rounds"}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _code_revision() -> str | None:
    """Return the git commit of a source checkout, with a mark if files differ from it."""
    here = Path(recurate.__file__).parent
    if not (here.parent.parent / ".git").exists():
        return None  # installed from a package, perhaps inside somebody else's checkout
    try:
        answers = [
            subprocess.run(
                ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", "."))
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return answers[0] + ("-modified" if answers[1] else "")
