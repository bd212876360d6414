"""Folders of runs and fits, checked before anything in them is used.

The parts of a run form a chain. The seal of the manifest is the run's identity: it covers the hash of the
configuration, the seal of the set-up and the hashes of all that the run rests on. Each round's
``contents.json`` holds that seal and the seal of the round before it, and ``bounds.json`` the seal of the
round after which it was written, so that no part can be another run's.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from recurate.core.errors import InputError
from recurate.core.files import read_toml
from recurate.core.sealed import BEFORE, RUN, SEAL, altered, foreign, read_json, sha256, verify
from recurate.core.tables import read_table

RUN_FORMAT = 3  # version of the run folder's format
MODELS = "models"  # folder of several models' runs, and their field in the manifest


def is_run_or_fit(folder: Path) -> bool:
    """Return whether a folder is a run's, complete or not, or a fit's."""
    return any((folder / name).exists() for name in ("fit.json", "manifest.json", "rounds"))


def is_fit(folder: Path) -> bool:
    """Return whether a folder is a fit's.

    Raises:
        InputError: If it is a run's, too: a fit's files among a run's would be believed without their seals.
    """
    if not (folder / "fit.json").is_file():
        return False
    if (folder / "manifest.json").exists() or (folder / "rounds").exists():
        raise InputError(
            "this folder is both a run's and a fit's",
            got=folder,
            remedy="move fit.json and the fit's log.parquet to a folder of their own",
        )
    return True


def read_folder(folder: Path) -> pa.Table:
    """Return the logs of all complete rounds of a run folder, or the log of a fit's folder.

    Raises:
        InputError: If there is no round, a file of the run is missing, altered or another run's, or the
            folder is a fit's, too.
    """
    if is_fit(folder):
        return read_table(folder / "log.parquet")
    if is_of_models(folder):
        raise _of_models(folder)
    run = StoredRun(folder)
    if not run.complete():
        raise InputError(
            "this folder is neither a run with a complete round nor a fit",
            got=folder,
            remedy="give a log, a run folder or a fit's folder",
        )
    run.verify()
    parts = [run.round_path(t) / "log.parquet" for t in range(run.complete())]
    tables = [read_table(part) for part in parts]
    for part, table in zip(parts, tables, strict=True):
        if not table.schema.equals(tables[0].schema):
            raise InputError(
                "the logs of the rounds have different columns",
                got=part,
                remedy="read one round's log at a time",
            )
    return pa.concat_tables(tables)


class StoredRun:
    """A run's folder, of which only files are read: nothing that it names is imported.

    Args:
        path: The folder; see :meth:`open`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing run folder.

        Raises:
            InputError: If it is not a run folder, or has another format.
        """
        check_format(path / "manifest.json")
        return cls(path)

    def manifest(self) -> dict[str, Any]:
        """Read the manifest."""
        return read_json(self.path / "manifest.json", "restore it")

    def settings(self) -> dict[str, Any]:
        """Return the configuration as TOML has it: nothing that it names is imported.

        Raises:
            InputError: If it is missing, not TOML, or not what the run began with (more rounds may be added).
        """
        path = self.path / "config.toml"
        try:
            found = read_toml(path)
        except (OSError, ValueError):
            raise altered(path, "restore it") from None
        if self.manifest().get("config_sha256") != fixed_hash(found):
            raise InputError(
                "the run's configuration was changed since it began",
                got=path,
                remedy="undo the change (only 'rounds' may grow, and [report] change), or start a new run",
            )
        return found

    def round_path(self, t: int) -> Path:
        """Return the folder of round t."""
        return self.path / "rounds" / f"{t:03d}"

    def complete(self) -> int:
        """Return the number of complete rounds on disk."""
        return first_absent(self.round_path)

    def verify(self, *, results: bool = True) -> None:
        """Check that all parts are unaltered, that no round is missing, and that all belong to this run.

        Args:
            results: Whether to check also the trajectory and the bounds, which a resumed run writes again.

        Raises:
            InputError: If a file is missing, truncated, altered or another run's; the message names it.
        """
        check_format(self.path / "manifest.json")
        manifest = self.manifest()
        self.settings()
        remedy = "restore it, or start a new run"
        setup = verify(self.path / "setup", remedy)
        if setup != manifest.get("setup"):
            raise foreign(self.path / "setup", RUN, setup, str(manifest.get("setup")), remedy)
        seals = self._verify_rounds(str(manifest[SEAL]))
        trajectory = self.path / "trajectory.parquet"
        if not results or not trajectory.exists():
            return
        remedy = f"recurate run --resume {self.path} writes it again"
        bounds = read_json(self.path / "bounds.json", remedy)
        if bounds.get("trajectory_sha256") != sha256(trajectory):
            raise altered(trajectory, remedy)
        if bounds.get(BEFORE) not in seals:
            raise foreign(self.path / "bounds.json", RUN, bounds.get(BEFORE), seals[-1], remedy)

    def _verify_rounds(self, run: str) -> list[str]:
        """Check the rounds, also those that were rolled back; return the run's seal and the rounds' seals."""
        done, seals = self.complete(), [run]
        later = [p for p in _numbered(self.path / "rounds", r"\d{3,9}") if int(p.name) >= done]
        if later:
            raise InputError(
                f"round {done} is missing, but later rounds exist",
                got=", ".join(sorted(str(p) for p in later)),
                remedy=f"restore round {done}, or delete the later ones to play them again",
            )
        thinned = thinned_rounds(self.settings().get("keep"), done)
        for t in range(done):
            remedy = f"restore it, or delete rounds {t} and later to play them again"
            links = {RUN: run, BEFORE: seals[-1]}
            seals.append(verify(self.round_path(t), remedy, links, is_model if t < thinned else _never))
        for path in _numbered(self.path / "rejected", r"\d{3,9}-\d{1,9}"):
            verify(path, "restore it, or delete it", {RUN: run})
        return seals


def is_of_models(folder: Path) -> bool:
    """Return whether a folder is that of several models, see :mod:`recurate.log.models_folder`."""
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and MODELS in found


def _of_models(folder: Path) -> InputError:
    return InputError(
        "this is the folder of several models that train on each other's picks",
        got=folder,
        remedy=f"name the run of one of them, below {folder / MODELS}; or use forecast, report or "
        "run --resume, which take all of them",
    )


def thinned_rounds(keep: int | None, done: int) -> int:
    """Return how many first rounds of ``done`` have no model any more if the last ``keep`` are kept."""
    return 0 if keep is None else max(done - keep, 0)


def is_model(name: str) -> bool:
    """Return whether a file of a round, by its name in the round's folder, belongs to a saved model."""
    return "model" in Path(name).parts[:-1]


def _never(name: str) -> bool:
    return False


def _numbered(folder: Path, pattern: str) -> list[Path]:
    """Return what a folder holds under a round's name; whatever else lies there is not the run's."""
    found = folder.iterdir() if folder.is_dir() else []
    return sorted(p for p in found if re.fullmatch(pattern, p.name, re.ASCII))


def first_absent(folder: Callable[[int], Path]) -> int:
    """Return the smallest number whose folder does not exist."""
    return next(number for number in itertools.count() if not folder(number).is_dir())


def fixed_hash(settings: dict[str, Any]) -> str:
    """Return a hash of the configuration without the settings that may change on resuming."""
    fixed = {name: value for name, value in settings.items() if name not in ("rounds", "report")}
    text = json.dumps(fixed, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def check_format(manifest: Path, *, several: bool = False) -> None:
    """Check the format that a run's manifest states.

    Args:
        manifest: Path of the run folder's ``manifest.json``.
        several: Whether the folder should be that of several models.

    Raises:
        InputError: If the manifest is missing, damaged or of another format, or if the folder is that of
            several models and should not be, or the other way round.
    """
    if not manifest.is_file():
        raise InputError(
            "this is not a run folder",
            got=manifest.parent,
            remedy="give a folder that recurate run has written (it has a manifest.json)",
        )
    try:
        version = int(json.loads(manifest.read_text(encoding="utf-8"))["format"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise InputError(
            "the run's manifest is damaged", got=manifest, remedy="restore manifest.json"
        ) from None
    if version != RUN_FORMAT:
        newer = version > RUN_FORMAT
        again = f"run {manifest.parent / 'config.toml'} again, or use the version that wrote it"
        raise InputError(
            f"the run was written by {'a newer' if newer else 'an older'} recurate",
            got=f"{manifest} of format {version}; this version reads format {RUN_FORMAT}",
            remedy="upgrade recurate" if newer else again,
        )
    if several != is_of_models(manifest.parent):
        if not several:
            raise _of_models(manifest.parent)
        raise InputError(
            "this is not the folder of several models", got=manifest.parent, remedy="it is one run's"
        )
