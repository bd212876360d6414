"""The run folder: all files of a run, each written atomically.

::

    config.toml         the resolved configuration, defaults included
    manifest.json       format, versions, code revision, machine, device, seed, hashes of files used
    setup/              what was trained before round 0 (classifier, learned rewards), contents.json
    rounds/000/         log.parquet, samples.safetensors (texts: .parquet), measures.parquet, model/,
                        contents.json; with a control arm also control/
    rejected/003-0/     rounds that an alarm rolled back
    commands/           output of an external generator's programs, answers of a server
    trajectory.parquet  forecast and measured, all rounds
    bounds.json         the proved statements, checked on the forecast's laws; the trajectory's hash
    report.html
    timings.jsonl       seconds per stage: the only file that differs between equal runs

No other file has the hashes of ``contents.json``, ``manifest.json`` and ``bounds.json``: each ends with a
*seal*, the hash of the text before it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from recurate.components.protocols import Generator
from recurate.components.registry import code_of, first_model, load_model
from recurate.core.data_files import is_there
from recurate.core.errors import InputError
from recurate.core.files import parse_toml, read_toml, sync, uninterrupted, write_text
from recurate.core.fingerprints import DEVICE, NAMED, PACKAGES, Change, Fingerprint, after, changes, version
from recurate.core.marks import is_own, marked
from recurate.core.sealed import BEFORE, CONTENTS, RUN, SEAL, field, read_json, sealed, sha256, write_folder
from recurate.core.version import VERSION
from recurate.engines.engine import Engine
from recurate.log.folders import MODELS, RUN_FORMAT, StoredRun, first_absent, fixed_hash, thinned_rounds
from recurate.log.samples import Samples, load_samples, save_samples
from recurate.log.schema import MODEL, Log, read_log, write_log
from recurate.log.trajectory import Trajectory
from recurate.loop.asking import POSTED, Picker, posted_in
from recurate.loop.config import Config, read_config, write_config
from recurate.loop.environment import Environment, prepare
from recurate.loop.mixing import Picks
from recurate.loop.rounds import Record, State, candidates_of, winners_of
from recurate.loop.shards import SHARDS, Bench, device_of

LOCK = ".lock"


class RunFolder(StoredRun):
    """One run on disk: what its files hold, and their writing.

    Args:
        path: The folder; see :meth:`create` and :meth:`open`.
    """

    @classmethod
    def check_vacant(cls, path: Path, config: Config) -> None:
        """Refuse a folder that holds anything but the start of the same run.

        Raises:
            InputError: the folder exists and is not empty.
        """
        if path.exists() and not path.is_dir():
            raise InputError("--out names a file", got=path, remedy="name a new folder")
        if not path.exists() or _is_a_start(path, config):
            return
        resumable = (path / "manifest.json").exists()
        hint = f"recurate run --resume {path} continues it" if resumable else "choose another --out"
        raise InputError("the output folder is not empty", got=path, remedy=hint)

    @classmethod
    def create(cls, path: Path, environment: Environment, fingerprints: Sequence[Fingerprint]) -> RunFolder:
        """Start a run folder: configuration, set-up, and last the manifest, with which it can be resumed.

        Args:
            path: The folder.
            environment: The prepared environment of the run.
            fingerprints: Fingerprints of everything that the configuration names, taken before its use.

        Raises:
            InputError: If the folder exists and is not empty.
        """
        config = environment.config
        begin_folder(path, config)
        facts = environment.facts() | {"real_data": environment.real_facts()}
        write_folder(path / "setup", environment.save, facts)
        manifest = manifest_of(config, fingerprints) | {"setup": seal_of(path / "setup")}
        write_text(path / "manifest.json", sealed(marked(manifest)))
        return cls(path)

    def config(self) -> Config:
        """Read the resolved configuration.

        Raises:
            InputError: If it was changed since the run began (more rounds may be added).
        """
        return config_of(self, self.complete())

    def changes(self) -> list[Change]:
        """Return the accepted changes of files, packages and device, in the order of the rounds."""
        return [
            Change(**change)
            for t in range(self.complete())
            for change in _facts_in(self.round_path(t))["changes"]
        ]

    def check_unchanged(
        self, config: Config, found: Sequence[Fingerprint], *, accept: bool = False
    ) -> list[Change]:
        """Compare the fingerprints of files, packages and device with those of the last round.

        Args:
            config: Configuration of the run.
            found: Fingerprints of everything that it names, see :func:`recurate.loop.environment.rests_on`.
            accept: Whether changed files are accepted; changed versions and devices always are.

        Returns:
            The changes, which the next round records.

        Raises:
            InputError: If a file has changed and changes are not accepted.
        """
        changed = changes(self._rested_on(), _fingerprints(manifest_of(config, found)))
        if not accept:
            self._refuse([change for change in changed if not change.noted])
        when = datetime.now(UTC).isoformat(timespec="seconds")
        return [replace(change, round=self.complete(), when=when) for change in changed]

    def check_present(self) -> None:
        """Refuse to resume if a file is missing that the run rests on and keeps no copy of.

        A configuration that names a module cannot even be read without it, so this check comes first.

        Raises:
            InputError: If a file is missing.
        """
        needed = [part for part in self._rested_on() if part.is_file and not part.kept]
        gone = [part for part in needed if not _is_there(part)]
        self._refuse([Change(part.serves, part.name, part.digest, None) for part in gone])

    def _rested_on(self) -> list[Fingerprint]:
        """Return the fingerprints of the last round."""
        return after(_fingerprints(self.manifest()), self.changes())

    def _refuse(self, refused: Sequence[Change]) -> None:
        if refused:
            raise InputError(
                "what the run rests on has changed since it began",
                got=", ".join(map(str, refused)),
                remedy="undo the change, start a new run, or continue with the change on record: "
                f"recurate run --resume {self.path} --accept-changes",
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other processes; the lock is released when the process dies.

        Raises:
            InputError: If another process has locked the folder.
        """
        from filelock import FileLock, Timeout

        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(
                "another process is running this loop", got=self.path, remedy="wait for it, or stop it first"
            ) from None
        try:
            yield
        finally:
            lock.release()

    # --- set-up ---

    def environment(self, config: Config) -> Environment:
        """Load the environment that was prepared when the run began."""
        return prepare(config, self.path / "setup")

    def facts(self) -> dict[str, Any]:
        """Return facts about the data."""
        return _facts_in(self.path / "setup")

    # --- rounds ---

    def save_round(
        self,
        record: Record,
        alarms: Sequence[dict[str, Any]] = (),
        changed: Sequence[Change] = (),
        *,
        reject: int | None = None,
    ) -> None:
        """Write a round; it appears in one rename.

        Args:
            record: Record of the round.
            alarms: Alarms that were raised in it, as plain values.
            changed: Changes since the last round, see :meth:`check_unchanged`.
            reject: Number of the attempt if the round is rolled back: it is then kept in ``rejected`` and
                does not count as played.
        """

        def fill(folder: Path) -> None:
            _save_arm(record, folder)
            record.measured.write(folder / "measures.parquet")
            if record.control is not None:
                (folder / "control").mkdir()
                _save_arm(record.control, folder / "control")

        target = self.round_path(record.round)
        if reject is not None:
            target = self._rejected(record.round, reject)
        facts = {
            "round": record.round,
            **record.counts,
            "alarms": list(alarms),
            "changes": [asdict(c) for c in changed],
        }
        write_folder(target, fill, facts, self._links(record.round))

    def _links(self, t: int) -> dict[str, str]:
        """Return the seals of the run and of the round before round t, which round t holds."""
        run = str(self.manifest()[SEAL])
        return {RUN: run, BEFORE: run if t == 0 else seal_of(self.round_path(t - 1))}

    def attempts(self, t: int) -> int:
        """Return the number of attempts at round t that were rolled back."""
        return first_absent(partial(self._rejected, t))

    def _rejected(self, t: int, attempt: int) -> Path:
        return self.path / "rejected" / f"{t:03d}-{attempt}"

    def log(self, t: int) -> Log:
        """Read a round's log."""
        # A verifier's candidates are in no slate, and any number of them is picked.
        alone = self.settings().get("selection", {}).get("threshold") is not None
        return read_log(self.round_path(t) / "log.parquet", several=alone)

    def samples(self, t: int) -> Samples:
        """Read a round's candidates, shape (candidates, ...)."""
        return load_samples(self.round_path(t))

    def save_results(self, trajectory: Trajectory, bounds: list[dict[str, Any]]) -> None:
        """Write the trajectory, and then the checked statements with its hash."""
        with uninterrupted():
            trajectory.write(self.path / "trajectory.parquet")
            self.save_bounds(bounds)

    def save_bounds(self, bounds: list[dict[str, Any]]) -> None:
        """Write the checked statements with the hash of the trajectory, which is written before."""
        found = {
            "bounds": bounds,
            BEFORE: seal_of(self.round_path(self.complete() - 1)),
            "trajectory_sha256": sha256(self.path / "trajectory.parquet"),
        }
        write_text(self.path / "bounds.json", sealed(found))

    def bounds(self) -> list[dict[str, Any]]:
        """Read the checked statements; none if the run was killed after its trajectory was written."""
        path = self.path / "bounds.json"
        remedy = "resume the run"
        return list(field(read_json(path, remedy), "bounds", list, path, remedy)) if path.exists() else []

    def counts(self, t: int) -> dict[str, int]:
        """Read a round's counts."""
        return {name: fact for name, fact in _facts_in(self.round_path(t)).items() if isinstance(fact, int)}

    def alarms(self, t: int) -> list[dict[str, Any]]:
        """Read the alarms of a round."""
        return list(_facts_in(self.round_path(t))["alarms"])

    # --- the state of the loop ---

    def first(self, environment: Environment) -> State:
        """Return the state before round 0."""
        model = first_model(environment.config.generator, self.workspace, self.path / "commands")
        return State(0, model, control=State(0, model) if environment.config.control else None)

    def state(self, environment: Environment) -> State | None:
        """Return the state after the last complete round, or None before the first."""
        done = self.complete()
        if done == 0:
            return None
        last = self.round_path(done - 1)
        control = None
        if environment.config.control:
            model = self.model(last / "control", environment)
            control = State(done, model, self._batches(environment, "control"))
        before = candidates_of(self.log(done - 1), environment)
        return State(done, self.model(last, environment), self._batches(environment, "."), before, control)

    def settled(self, state: State, environment: Environment) -> State:
        """Return the state with models that do not need the workspace, which is emptied."""
        last = self.round_path(state.round - 1)
        settings, control = environment.config.generator, state.control
        if control is not None:
            model = settings.settled(control.generator, last / "control" / "model")
            control = replace(control, generator=model)
        settled = settings.settled(state.generator, last / "model")
        return replace(state, generator=settled, control=control)

    def model(self, folder: Path, environment: Environment) -> Generator:
        """Return the model that a round's folder (or its control arm's) holds."""
        settings, commands = environment.config.generator, self.path / "commands"
        return load_model(settings, folder / "model", self.workspace, commands)

    @property
    def workspace(self) -> Path:
        """Folder in which an external generator works; it is emptied before every round."""
        return self.path / ".work"

    def thin(self, config: Config) -> None:
        """Remove the models of rounds before the last ``config.keep``, from which no run is resumed."""
        for t in range(thinned_rounds(config.keep, self.complete())):
            for part in (".", "control"):
                shutil.rmtree(self.round_path(t) / part / "model", ignore_errors=True)

    def clear_workspace(self) -> None:
        """Remove the files that programs have left."""
        shutil.rmtree(self.workspace, ignore_errors=True)

    def bench(
        self,
        t: int,
        engine: Engine,
        train: Callable[[tuple[str, int]], int] | None = None,
        picker: Picker | None = None,
    ) -> Bench:
        """Return where the shards of round t are done, its model is trained, and who shows its slates."""
        return Bench(self.path.absolute() / SHARDS, engine, self._links(t), train, picker)

    def clear_shards(self) -> None:
        """Remove the shards of rounds that are complete, or are begun anew."""
        shutil.rmtree(self.path / SHARDS, ignore_errors=True)

    def picks(self, t: int, environment: Environment) -> Picks:
        """Return the picks of a complete round."""
        return _picks(self.round_path(t), environment)

    def _batches(self, environment: Environment, part: str) -> tuple[Picks, ...]:
        """Return the picks for the next training set."""
        done = self.complete()
        first = 0 if environment.setting.accumulate else done - 1
        return tuple(_picks(self.round_path(t) / part, environment) for t in range(first, done))

    # --- timings ---

    def add_timing(self, t: int, stage: str, seconds: float) -> None:
        """Append one line to the only file that may differ between equal runs."""
        line = json.dumps({"round": t, "stage": stage, "seconds": round(seconds, 3)})
        with (self.path / "timings.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def check_trusted(path: Path, *, trust: bool = False) -> None:
    """Refuse to run the code that a run's configuration names, unless this user made it here or trusts it.

    Args:
        path: Configuration; one that is not in a run's folder is a program that the user chose to run.
        trust: Whether the user trusts the configuration.

    Raises:
        InputError: If the configuration names code, and the run's manifest does not have this user's mark,
            or the configuration is not the one that was marked; or if the manifest was altered.
    """
    if trust or not (path.parent / "manifest.json").exists():
        return
    try:
        settings = read_toml(path)
    except (OSError, ValueError):
        return  # whoever reads it next will refuse it
    own = _own_code(path.parent, settings)
    named = [name for name in dict.fromkeys(code_of(settings)) if name not in own]
    if named:
        raise InputError(
            "this run was made by another user or on another machine, or its configuration was changed, "
            "and it runs code",
            got=f"{path}: {', '.join(named)}",
            remedy="read the configuration and the code that it names, then add --trust",
        )


def _own_code(folder: Path, settings: dict[str, Any]) -> set[str]:
    """Return the code that a run named when this user began it, if it has these settings still."""
    manifest = StoredRun(folder).manifest()
    own = is_own({name: value for name, value in manifest.items() if name != SEAL})
    if not own or manifest.get("config_sha256") != fixed_hash(settings):
        return set()
    return set(manifest.get("code", ()))


def _facts_in(folder: Path) -> dict[str, Any]:
    found = read_json(folder / CONTENTS, "restore it")
    return dict(field(found, "facts", dict, folder / CONTENTS, "restore it"))


def seal_of(folder: Path) -> str:
    """Return the seal of a folder with ``contents.json``."""
    return str(read_json(folder / CONTENTS, "restore it")[SEAL])


def _save_arm(record: Record, folder: Path) -> None:
    (folder / "model").mkdir()
    record.generator.save(folder / "model")
    save_samples(record.samples, folder)
    write_log(record.log, folder / "log.parquet")


def _picks(folder: Path, environment: Environment) -> Picks:
    log = read_log(folder / "log.parquet", several=environment.config.selection.threshold is not None)
    winners = winners_of(log, environment)
    contexts = log.select(source=MODEL).column("context")[winners]
    conditional = bool((contexts != "").any())
    return Picks(load_samples(folder)[winners], contexts if conditional else None)


def begin_folder(path: Path, config: Config) -> None:
    """Make a run's folder with its configuration, and remove what a start that was killed has left in it.

    Raises:
        InputError: If the folder exists and is not empty.
    """
    RunFolder.check_vacant(path, config)
    path.mkdir(parents=True, exist_ok=True)
    sync(path.absolute().parent)
    write_text(path / "config.toml", write_config(config))
    shutil.rmtree(path / _first_part(config), ignore_errors=True)


def config_of(folder: StoredRun, done: int) -> Config:
    """Read the resolved configuration of a run, or of several models.

    Args:
        folder: The folder.
        done: Number of rounds that were played.

    Raises:
        InputError: If it was changed since the run began (more rounds may be added).
    """
    folder.settings()  # before anything that it names is imported
    path = folder.path / "config.toml"
    config = read_config(path)
    if config.rounds < done - 1:
        raise InputError(
            "the run has more rounds already",
            got=f"rounds = {config.rounds} in {path}, {done - 1} played",
            remedy="rounds can grow, not shrink",
        )
    return config


def _first_part(config: Config) -> str:
    """Return the name of the folder that is written between the configuration and the manifest."""
    return MODELS if config.models and config.model is None else "setup"


def _is_a_start(path: Path, config: Config) -> bool:
    """Return whether a folder is empty, or holds what the same run leaves if killed before its manifest."""
    leftovers = {LOCK, "config.toml", _first_part(config)}
    leftovers |= {f".{name}.partial" for name in ("config.toml", "manifest.json", "setup")}
    names = {entry.name for entry in path.iterdir()}
    if not posted_in(path):
        names.discard(POSTED)  # a database that waits for the first slates
    if "config.toml" in names:
        same = (path / "config.toml").read_text(encoding="utf-8", errors="replace") == write_config(config)
        return same and names <= leftovers
    return names <= {LOCK, ".config.toml.partial"}


def manifest_of(config: Config, rests_on: Sequence[Fingerprint]) -> dict[str, Any]:
    """Return what a manifest says of a configuration, the machine and what the run rests on."""
    settings = parse_toml(write_config(config))
    return {
        "format": RUN_FORMAT,
        "recurate": VERSION,
        "code_revision": _code_revision(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in NAMED},
        "machine": {
            "system": platform.system(),
            "release": platform.release(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
        },
        "device": device_of(config),
        "seed": config.seed,
        "config_sha256": fixed_hash(settings),
        "code": list(dict.fromkeys(code_of(settings))),
        "rests_on": [asdict(part) for part in rests_on],
    }


def _fingerprints(manifest: dict[str, Any]) -> list[Fingerprint]:
    """Return all fingerprints that are compared when a run is resumed."""
    versions = manifest["packages"] | {name: manifest[name] for name in ("recurate", "python")}
    return [
        *(Fingerprint(**part) for part in manifest["rests_on"]),
        *(Fingerprint(PACKAGES, name, number) for name, number in versions.items()),
        Fingerprint(DEVICE, "device", manifest["device"]),
    ]


def _code_revision() -> str | None:
    """Return the git commit of a source checkout, with a mark if files differ from it."""
    here = Path(__file__).parent.parent
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


def _is_there(part: Fingerprint) -> bool:
    """Return whether the file of a fingerprint exists; data may be a folder, and lie in the data folder."""
    return is_there(part.name) if part.serves == "data" else Path(part.name).is_file()
