"""Several runs side by side: what differs in their settings, where each is, how far apart they are.

A difference's interval takes the two measured values as independent and says how well this round of these
two runs is known, not what other seeds would give. It joins the two intervals so that unequal halves keep
their meaning (MOVER: Donner and Zou, *Stat. Methods Med. Res.* 21, 2012).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from recurate.core.errors import InputError
from recurate.log.trajectory import MEASURED, SCHEMA, Row, Trajectory
from recurate.loop.run_folder import RunFolder

Key = tuple[str, str | None, str | None]
ABSENT = "-"


@dataclass(frozen=True)
class Compared:
    """One of the runs.

    Attributes:
        name: what it is called here.
        path: its folder.
        config: its configuration, flat: key to value.
        versions: of packages and of recurate.
        trained: file to hash of what was trained before round 0.
        trajectory: measured values from the rounds' own files, forecasts from the run's trajectory.
        rounds: how many are complete.
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
    """A run's measured value in the last common round, and how far it is from the first run's.

    Attributes:
        run: its name.
        key: quantity, reward, group.
        row: what was measured; None where this run has no such quantity.
        difference: value, lower and upper; None for the first run, and where either has no value. The
            bounds are None where either value has no interval.
    """

    run: str
    key: Key
    row: Row | None
    difference: tuple[float, float | None, float | None] | None


@dataclass(frozen=True)
class Comparison:
    """What comparing runs finds.

    Attributes:
        runs: in the order given; differences are to the first.
        round: the last that all have.
        keys: quantities that at least two runs have, in order of appearance.
        cells: one a key and run.
        settings: (key, one value a run) wherever configurations or versions differ.
        notes: what is not common, or not comparable.
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
        paths: run folders, two or more.
        names: one for each; their folders' names if absent.

    Raises:
        InputError: fewer than two runs, one run twice, something that is no run, or a damaged one.
    """
    if len(paths) < 2:
        raise InputError(
            "comparing needs two runs or more", got=len(paths), remedy="recurate compare RUN RUN ..."
        )
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise InputError("a run is named twice", got=path, remedy="name each run once")
        seen[path.resolve()] = path
    runs = tuple(read_run(p, n) for p, n in zip(paths, _named(paths, names), strict=True))
    last = min(run.rounds for run in runs) - 1
    keys = _common(runs)
    if not keys:
        raise InputError(
            "these runs have no quantity in common", got=", ".join(map(str, paths)), remedy="check the runs"
        )
    return Comparison(runs, last, keys, _cells(runs, keys, last), _settings(runs), _notes(runs, keys, last))


def read_run(path: Path, name: str) -> Compared:
    """Read a run and check that its files are what was written.

    Raises:
        InputError: it is no run, has no complete round, or is damaged.
    """
    store = RunFolder.open(path)
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
    """Return a configuration as key to text; tables in a list go by their names."""
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
    """Return row - first with its interval."""
    value = row.value - first.value
    if None in (row.lower, row.upper, first.lower, first.upper):
        return value, None, None
    assert row.lower is not None and row.upper is not None  # noqa: PT018
    assert first.lower is not None and first.upper is not None  # noqa: PT018
    below = math.hypot(row.value - row.lower, first.upper - first.value)
    above = math.hypot(row.upper - row.value, first.value - first.lower)
    return value, value - below, value + above


def cells_table(found: Comparison) -> pa.Table:
    """Return the cells as a tidy table, one row a quantity and run."""
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
                "each run needs a name of its own", got=", ".join(map(repr, names)), remedy="other --name"
            )
        return list(names)
    full = [path.resolve().parts for path in paths]
    depth = 1
    while len({parts[-depth:] for parts in full}) < len(full):  # different folders differ somewhere
        depth += 1
    return ["/".join(parts[-depth:]) for parts in full]


def _common(runs: Sequence[Compared]) -> tuple[Key, ...]:
    counts: dict[Key, int] = {}
    for run in runs:
        for key in run.trajectory.about():
            counts[key] = counts.get(key, 0) + 1
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
            f"what was trained before round 0 is not the same in all runs ({', '.join(changed)}): rewards "
            "and groups that rest on it are different functions"
        )
    if _differ([_part(run, "data.") for run in runs]):
        notes.append("the real data are not the same in all runs: divergences are from different references")
    if _differ([_part(run, "groups.") for run in runs]):
        notes.append("groups are not defined alike in all runs: their shares and entropy are not comparable")
    if _differ([run.config.get("selection.temperature") for run in runs]):
        notes.append("temperatures differ: exp(reward / temperature) is not the same quantity in all runs")
    return tuple(notes)


def _missing(runs: Sequence[Compared], keys: Sequence[Key]) -> list[str]:
    """Return what some runs lack, one line for each set of runs that have it."""
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
