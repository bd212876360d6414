"""Comparison of several runs: differences of their settings and of their measured values.

The interval of a difference assumes that the two measured values are independent. It states the precision of
this round of these two runs, not the variation over seeds. It combines the two intervals by the method of
variance estimates recovery, which keeps unequal halves (MOVER: Donner and Zou, *Stat. Methods Med. Res.* 21,
2012).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from recurate.core import progress
from recurate.core.errors import InputError
from recurate.log.folders import StoredRun
from recurate.log.trajectory import MEASURED, SCHEMA, Row, Trajectory

Key = tuple[str, str | None, str | None]
ABSENT = "-"


@dataclass(frozen=True)
class Compared:
    """One of the compared runs.

    Attributes:
        name: Name of the run in the comparison.
        path: Folder of the run.
        config: Configuration as text by dotted key.
        versions: Versions of packages and of recurate.
        trained: Hashes of the files that were trained before round 0, by file.
        trajectory: Measured values from the rounds' own files, and the run's forecasts.
        rounds: Number of complete rounds.
    """

    name: str
    path: Path
    config: dict[str, str]
    versions: dict[str, str]
    trained: dict[str, str]
    trajectory: Trajectory
    rounds: int


@dataclass(frozen=True)
class Cell:
    """A run's measured value in the last common round, and its difference from the first run's.

    Attributes:
        run: Name of the run.
        key: Quantity, reward and group.
        row: Measured row, or None if the run does not have the quantity.
        difference: Difference with the bounds of its 95 % interval; None for the first run, or if either
            run has no value. The bounds are None if either value has no interval.
    """

    run: str
    key: Key
    row: Row | None
    difference: tuple[float, float | None, float | None] | None


@dataclass(frozen=True)
class Comparison:
    """The comparison of several runs.

    Attributes:
        runs: Runs in the given order; differences are from the first.
        round: Last round that all runs have.
        keys: Series that at least two runs have, in order of appearance.
        cells: One cell per key and run.
        settings: Key and one value per run, for every key of the configurations or versions that differs.
        notes: Remarks on quantities that not all runs have or that are not comparable.
    """

    runs: tuple[Compared, ...]
    round: int
    keys: tuple[Key, ...]
    cells: tuple[Cell, ...]
    settings: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]


def compare(paths: Sequence[Path], names: Sequence[str] = ()) -> Comparison:
    """Compare runs.

    Args:
        paths: Run folders, two or more.
        names: Names of the runs; if absent, their folders' names.

    Raises:
        InputError: If there are fewer than two runs, a run is named twice, or a folder is not a run's or is
            damaged.
    """
    if len(paths) < 2:
        raise InputError(
            "comparing needs two runs or more", got=len(paths), remedy="recurate compare RUN RUN ..."
        )
    twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise InputError("a run is named twice", got=twice[0], remedy="name each run once")
    progress.stage("reading and checking the runs")
    named = list(zip(paths, _named(paths, names), strict=True))
    runs = tuple(read_run(path, name) for path, name in progress.steps(named, len(named)))
    last = min(run.rounds for run in runs) - 1
    keys = _common(runs)
    if not keys:
        raise InputError(
            "these runs have no quantity in common", got=", ".join(map(str, paths)), remedy="check the runs"
        )
    return Comparison(runs, last, keys, _cells(runs, keys, last), _settings(runs), _notes(runs, keys, last))


def read_run(path: Path, name: str) -> Compared:
    """Read a run and check that its files are unaltered.

    Raises:
        InputError: If the folder is not a run's, has no complete round, or is damaged.
    """
    store = StoredRun.open(path)
    store.verify()
    recorded, measured = store.trajectory(), store.measured()
    own = {row.source for row in measured.rows}
    forecast = tuple(row for row in recorded.rows if row.source not in own)
    manifest = store.manifest()
    versions = {f"package {k}": str(v) for k, v in manifest.get("packages", {}).items() if v}
    revision, _, modified = str(manifest.get("code_revision") or "as installed").partition("-")
    versions["recurate"] = f"{manifest.get('recurate')} ({revision[:12]}{modified and ', modified'})"
    return Compared(
        name, path, flat(store.settings()), versions, _trained(path),
        Trajectory(forecast) + measured, store.complete(),
    )  # fmt: skip


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Return a configuration as text by dotted key; tables in a list are keyed by their names."""
    if isinstance(value, dict):
        tables = value.items()
    elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        tables = {str(v.get("name", i)): v for i, v in enumerate(value)}.items()
    else:
        return {} if value is None else {prefix: _text(value)}
    found: dict[str, str] = {}
    for name, part in tables:
        if not (isinstance(value, list) and isinstance(part, dict)):
            found |= flat(part, f"{prefix}.{name}" if prefix else str(name))
        else:  # its name is in the key
            found |= flat({k: v for k, v in part.items() if k != "name"}, f"{prefix}.{name}")
    return found


def difference(row: Row, first: Row) -> tuple[float, float | None, float | None]:
    """Return row - first with the bounds of its 95 % interval, or None for bounds that are unknown."""
    value = row.value - first.value
    if None in (row.lower, row.upper, first.lower, first.upper):
        return value, None, None
    assert row.lower is not None and row.upper is not None  # noqa: PT018
    assert first.lower is not None and first.upper is not None  # noqa: PT018
    below = math.hypot(row.value - row.lower, first.upper - first.value)
    above = math.hypot(row.upper - row.value, first.value - first.lower)
    return value, value - below, value + above


def cells_table(found: Comparison) -> pa.Table:
    """Return the cells as a tidy table, one row per quantity and run."""
    rows: list[dict[str, Any]] = []
    for cell in found.cells:
        if cell.row is None:
            continue
        row = {n: getattr(cell.row, n) for n in ("quantity", "reward", "group", "value", "lower", "upper")}
        gap = cell.difference or (None, None, None)
        names = ("difference", "difference_lower", "difference_upper")
        rows.append({"run": cell.run, "round": found.round, **row, **dict(zip(names, gap, strict=True))})
    text = [(n, pa.string()) for n in ("quantity", "reward", "group")]
    numbers = [(n, pa.float64()) for n in ("value", "lower", "upper", *names)]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([("run", pa.string()), ("round", pa.int32()), *text, *numbers])
    )


def trajectories_table(found: Comparison) -> pa.Table:
    """Return all trajectories as one tidy table, with a column ``run``."""
    parts = []
    for run in found.runs:
        table = run.trajectory.to_table()
        parts.append(table.add_column(0, "run", pa.array([run.name] * table.num_rows, pa.string())))
    return pa.concat_tables(parts).select(["run", *SCHEMA.names])


def _named(paths: Sequence[Path], names: Sequence[str]) -> list[str]:
    if names:
        if len(names) != len(paths):
            raise InputError(
                "--name is given once for each run", got=f"{len(names)} names, {len(paths)} runs",
                remedy="as many --name as runs, in the same order",
            )  # fmt: skip
        if len(set(names)) < len(names) or not all(name.strip() for name in names):
            raise InputError(
                "each run needs a different name", got=", ".join(map(repr, names)), remedy="other --name"
            )
        return list(names)
    full = [path.resolve().parts for path in paths]
    depth = 1
    while len({parts[-depth:] for parts in full}) < len(full):  # different folders differ somewhere
        depth += 1
    return ["/".join(parts[-depth:]) for parts in full]


def _common(runs: Sequence[Compared]) -> tuple[Key, ...]:
    counts = Counter(key for run in runs for key in run.trajectory.about())
    return tuple(key for key, count in counts.items() if count > 1)


def _cells(runs: Sequence[Compared], keys: Sequence[Key], last: int) -> tuple[Cell, ...]:
    values = [{r.key: r for r in run.trajectory.where(MEASURED, round=last).rows} for run in runs]
    cells = []
    for key in keys:
        first = values[0].get(key)
        if not any(key in v for v in values):
            continue  # what only forecasts have
        for i, run in enumerate(runs):
            row = values[i].get(key)
            gap = difference(row, first) if i and row is not None and first is not None else None
            cells.append(Cell(run.name, key, row, gap))
    return tuple(cells)


def _settings(runs: Sequence[Compared]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = []
    for tables in ([run.config for run in runs], [run.versions for run in runs]):
        for key in dict.fromkeys(key for table in tables for key in table):
            values = tuple(table.get(key, ABSENT) for table in tables)
            if len(set(values)) > 1:
                found.append((key, values))
    return tuple(found)


def _notes(runs: Sequence[Compared], keys: Sequence[Key], last: int) -> tuple[str, ...]:
    notes = []
    if any(run.rounds - 1 > last for run in runs):
        ends = ", ".join(f"{r.name} {r.rounds - 1}" for r in runs)
        notes.append(
            f"the runs are not equally long (last rounds: {ends}); they are compared in round {last}, "
            "the last that all have"
        )
    notes += _missing(runs, keys)
    for reward in dict.fromkeys(key[1] for key in keys if key[1] is not None):
        wanted = [_part(run, f"rewards.{reward}.", but=("weight",)) for run in runs]
        if _differ([w for w in wanted if w]):
            notes.append(
                f"the reward {reward!r} is not the same function in all runs: its values are not comparable"
            )
    trained = [run.trained for run in runs if run.trained]
    shared = set.intersection(*(set(t) for t in trained)) if len(trained) > 1 else set()
    changed = sorted(f for f in shared if _differ([t[f] for t in trained]))
    if changed:
        notes.append(
            f"models trained before round 0 differ ({', '.join(changed)}): rewards and groups that "
            "use them are different functions"
        )
    if _differ([_part(run, "data.") for run in runs]):
        notes.append("the real data are not the same in all runs: divergences are from different references")
    if _differ([_part(run, "groups.") for run in runs]):
        notes.append("groups are not defined alike in all runs: their shares and entropy are not comparable")
    if _differ([run.config.get("selection.temperature") for run in runs]):
        notes.append("temperatures differ: exp(reward / temperature) is not the same quantity in all runs")
    return tuple(notes)


def _missing(runs: Sequence[Compared], keys: Sequence[Key]) -> list[str]:
    """Return the series that some runs lack, one line per set of runs that have them."""
    have: dict[tuple[str, ...], list[str]] = {}
    for key in dict.fromkeys(key for run in runs for key in run.trajectory.about()):
        owners = tuple(run.name for run in runs if key in set(run.trajectory.about()))
        if len(owners) < len(runs):
            have.setdefault(owners, []).append(label(key))
    return [f"only {' and '.join(owners)}: {', '.join(labels)}" for owners, labels in have.items()]


def label(key: Key) -> str:
    """Return a quantity's name in tables."""
    quantity, reward, group = key
    if group is not None:
        return f"{quantity} {group}"
    return quantity if reward in (None, "reward") else f"{quantity} {reward}"


def _part(run: Compared, prefix: str, but: Sequence[str] = ()) -> dict[str, str]:
    return {
        key: value
        for key, value in run.config.items()
        if key.startswith(prefix) and key.removeprefix(prefix) not in but
    }


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values)


def _trained(path: Path) -> dict[str, str]:
    contents = json.loads((path / "setup" / "contents.json").read_text(encoding="utf-8"))
    return dict(contents["sha256"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
