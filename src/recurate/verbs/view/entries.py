"""What lies in a folder: runs, results of verbs and studies, each with its lead; and what cannot be read.

Only files are read: nothing that a run names is imported. A run is not verified as a whole, which would read
all of it; its manifest, configuration and trajectory are checked.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from recurate.core.errors import InputError
from recurate.core.sealed import altered, read_json, sha256
from recurate.log.folders import StoredRun, is_of_models
from recurate.log.models_folder import RESULTS, StoredModels
from recurate.log.trajectory import MEASURED, Trajectory
from recurate.report.lead import lead_of

RESULTS_OF = ("forecast", "plan", "fit", "audit", "compare", "reproduce")  # each writes VERB.json
RUN, MODELS, STUDY, UNREADABLE = "run", "run of models", "study", "unreadable"
OWN = {"rounds", "rejected", "setup", "commands", "figures"}  # folders of a run in which no result lies
DEPTH = 12  # folders below the given one
MOST = 20_000  # folders that are looked at
LARGEST = 256 * 1024 * 1024  # bytes of a JSON file that are read
BALLOTS = "ballots.sqlite"  # how the names of studies' databases end
PAUSE = 0.3  # seconds between looks at files that do not fit together
REPORT = "report.html"
# What files of strangers raise when they are read: one of them must not hide the others.
ODD = (
    OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, NotImplementedError,
    RecursionError, sqlite3.Error,
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One line of the index.

    Attributes:
        path: Folder, or the database of a study.
        name: Path relative to the folder that is viewed.
        kind: ``run``, ``run of models``, name of a verb, ``study`` or ``unreadable``.
        changed: When its newest file was changed, in seconds since 1970; 0 if that is unknown.
        verdict: Its verdict in a word or two, or "".
        lead: Its lead, or why it cannot be read.
        k: Slate size K as text, or "".
        rounds: Number of rounds, or None.
        report: Path of its report, or None if there is none.
    """

    path: Path
    name: str
    kind: str
    changed: float = 0.0
    verdict: str = ""
    lead: str = ""
    k: str = ""
    rounds: int | None = None
    report: Path | None = None


@dataclass(frozen=True)
class Listing:
    """The index of a folder.

    Attributes:
        folder: The folder.
        entries: Its entries, by name.
        left_out: Why some folders were not looked at; "" if all were.
    """

    folder: Path
    entries: tuple[Entry, ...]
    left_out: str = ""


def listing(folder: Path) -> Listing:
    """Return all results in a folder and those below it; symbolic links are not followed.

    Raises:
        InputError: If it is not a folder.
    """
    check_folder(folder)
    found: list[Entry] = []
    looked, deep = 0, False
    todo = [(folder, 0)]
    while todo and looked < MOST:
        place, depth = todo.pop()
        looked += 1
        try:
            files, below = _contents(place)
        except OSError as error:
            found.append(_unreadable(place, folder, error.strerror or str(error)))
            continue
        found += _entries(place, folder, files)
        if depth < DEPTH:
            todo += [(one, depth + 1) for one in reversed(below)]
        else:
            deep = deep or bool(below)
    why = f"only the first {MOST:,} folders were looked at" if todo else ""
    why = why or (f"folders more than {DEPTH} deep were not looked at" if deep else "")
    return Listing(folder, tuple(sorted(found, key=lambda e: e.name)), why)


def check_folder(folder: Path) -> None:
    """Raise InputError if this is not a folder."""
    if not folder.is_dir():
        raise InputError("there is no such folder", got=folder, remedy="name a folder of results")


def _contents(place: Path) -> tuple[set[str], list[Path]]:
    """Return the names of a folder's files, and the folders in it that may hold results."""
    files, below = set(), []
    with os.scandir(place) as items:
        for item in items:
            if item.is_dir(follow_symlinks=False):
                below.append(item.name)
            elif item.is_file(follow_symlinks=False):
                files.add(item.name)
    skipped = OWN if "manifest.json" in files or "config.toml" in files else set()
    return files, [place / name for name in sorted(below) if name not in skipped and name[0] != "."]


def _entries(place: Path, root: Path, files: set[str]) -> Iterator[Entry]:
    """Yield what lies in one folder."""
    if "manifest.json" in files and _is_runs(place):
        yield _guarded(place, root, MODELS if is_of_models(place) else RUN)
    elif "config.toml" in files and (place / "rounds").is_dir():
        yield _unreadable(place, root, "this looks like a run, but has no manifest.json")
    for verb in RESULTS_OF:
        if f"{verb}.json" in files:
            yield _guarded(place, root, verb)
    for name in sorted(files):
        if name.endswith(BALLOTS):
            yield _guarded(place / name, root, STUDY)


def _is_runs(place: Path) -> bool:
    """Return whether a manifest is a run's: other programs' files have the same name."""
    return any((place / name).exists() for name in ("config.toml", "rounds", "setup", "models"))


def _guarded(path: Path, root: Path, kind: str) -> Entry:
    """Return the entry of a folder or file, or one that says why it cannot be read."""
    entry = Entry(path, _name(path, root), kind)
    make = {RUN: _run, MODELS: _models, STUDY: _study}.get(kind, _result)
    try:
        return make(entry)
    except InputError as error:
        why = f"{error.what} ({error.got}); {error.remedy}"
    except ODD as error:
        why = f"{type(error).__name__}: {error}"
    return replace(entry, kind=UNREADABLE, lead=_reason(f"{kind}: {why}", root))


def _reason(text: str, root: Path) -> str:
    """Return a reason with paths relative to the root: where that lies concerns nobody who gets the page."""
    return text.replace(f"{root}{os.sep}", "")


def _unreadable(path: Path, root: Path, why: str) -> Entry:
    return Entry(path, _name(path, root), UNREADABLE, lead=why)


def _name(path: Path, root: Path) -> str:
    """Return a path relative to the root as text that can be written, whatever bytes are in it."""
    shown = os.fsencode(path.relative_to(root)).decode("utf-8", "replace")
    return path.absolute().name or str(path) if shown == "." else shown


# --- runs -----------------------------------------------------------------------------------------


def _run(entry: Entry) -> Entry:
    stored = StoredRun.open(entry.path)
    settings, done = stored.settings(), stored.complete()
    trajectory = _checked(stored, "bounds.json")
    if trajectory is None:
        lead, verdict = "No round is complete yet.", ""
    else:
        facts = {"k": settings["selection"].get("k"), "real_fraction": _share(settings)}
        found = lead_of(trajectory, facts)
        lead, verdict = found.text, found.verdict
    wanted = int(settings.get("rounds", 0))
    if 0 < done <= wanted:
        lead = f"{done - 1} of {wanted} rounds are played. {lead}"
    k = settings["selection"].get("k")
    return _dated(
        replace(entry, verdict=verdict, lead=lead, k=_size(k), rounds=max(done - 1, 0)),
        "trajectory.parquet", "manifest.json",
    )  # fmt: skip


def _share(settings: dict[str, Any]) -> float | None:
    found = settings.get("retraining", {}).get("real_fraction")
    return float(found) if isinstance(found, int | float) else None


def _checked(stored: StoredRun, record: str) -> Trajectory | None:
    """Return a run's trajectory, None if there is none, after a comparison with the hash in ``record``."""
    path = stored.path / "trajectory.parquet"
    if not path.exists():
        return None
    remedy = f"recurate run --resume {stored.path} writes it again"

    def fits() -> bool:
        return bool(read_json(stored.path / record, remedy).get("trajectory_sha256") == sha256(path))

    if not fits():
        time.sleep(PAUSE)  # a run that goes on writes one after the other
        if not fits():
            raise altered(path, remedy)
    return Trajectory.read(path)


def _models(entry: Entry) -> Entry:
    stored = StoredModels.open(entry.path)
    settings, done = stored.settings(), stored.complete()
    trajectory = _checked(stored, RESULTS)
    lead = "No round is complete yet."
    if trajectory is not None:
        rows = trajectory.where(MEASURED, "own_reward").rows
        parts = []
        for name in stored.names:
            own = sorted((r for r in rows if r.group == name), key=lambda r: r.round)
            parts += [f"{name} from {own[0].value:.4g} to {own[-1].value:.4g}"] if own else []
        lead = f"Own rewards: {', '.join(parts)}." if parts else f"Models: {', '.join(stored.names)}."
    k = settings["selection"].get("k")
    return _dated(
        replace(entry, lead=lead, k=_size(k), rounds=max(done - 1, 0)), "trajectory.parquet", "manifest.json"
    )


# --- results of verbs -----------------------------------------------------------------------------


def _result(entry: Entry) -> Entry:
    path = entry.path / f"{entry.kind}.json"
    if path.stat().st_size > LARGEST:
        raise InputError("the file is too large to be read here", got=path, remedy="open its report")
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or "summary" not in found or "recurate" not in found:
        raise InputError(f"{path.name} was not written by recurate {entry.kind}", got=path, remedy="move it")
    k, rounds = _k_and_rounds(entry.kind, found)
    verdict = found.get("outcome")
    lead = str(found["summary"])
    return _dated(
        replace(entry, verdict=verdict if isinstance(verdict, str) else "", lead=lead, k=k, rounds=rounds),
        path.name,
    )


def _k_and_rounds(verb: str, found: dict[str, Any]) -> tuple[str, int | None]:
    """Return K and the number of rounds of a result, where it has them."""

    def part(*names: str) -> Any:
        value: Any = found
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    k = {
        "forecast": part("setting", "k"), "plan": part("best", "choice", "k"), "audit": part("rule", "k"),
    }.get(verb)  # fmt: skip
    rounds = {
        "forecast": part("setting", "rounds"), "plan": part("rounds"),
        "audit": _changes(part("facts", "rounds")),
        "compare": part("round"),
    }.get(verb)  # fmt: skip
    return _size(k), rounds if isinstance(rounds, int) else None


def _changes(logged: Any) -> int | None:
    """Return how often a loop was retrained within a number of logged rounds."""
    return logged - 1 if isinstance(logged, int) else None


def _size(k: Any) -> str:
    if isinstance(k, dict):
        return " or ".join(map(str, k))
    return f"{k:g}" if isinstance(k, int | float) else str(k or "")


# --- studies --------------------------------------------------------------------------------------


def _study(entry: Entry) -> Entry:
    address = "file:" + quote(os.fsencode(entry.path.absolute())) + "?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=2)) as database:
        slates, rounds = database.execute("SELECT COUNT(*), COUNT(DISTINCT round) FROM slates").fetchone()
        ballots = database.execute("SELECT COUNT(*) FROM ballots WHERE NOT withdrawn").fetchone()[0]
        people = database.execute("SELECT COUNT(*) FROM people").fetchone()[0]
        sizes = database.execute(
            "SELECT DISTINCT n FROM (SELECT COUNT(*) AS n FROM candidates GROUP BY slate) ORDER BY n"
        ).fetchall()
    k = " or ".join(str(n) for (n,) in sizes) if len(sizes) <= 3 else f"{sizes[0][0]} to {sizes[-1][0]}"
    lead = f"{ballots:,} answers of {people:,} people on {slates:,} slates."
    return _dated(replace(entry, lead=lead, k=k, rounds=rounds))


def _dated(entry: Entry, *names: str) -> Entry:
    """Add when the newest of some files was changed, and the report beside them."""
    paths = [entry.path / name for name in names] or [entry.path]
    changed = max((p.stat().st_mtime for p in paths if p.exists()), default=0.0)
    report = entry.path / REPORT
    own = report.is_file() and not report.is_symlink()  # a link could lead to any file, which would be served
    return replace(entry, changed=changed, report=report if own else None)
