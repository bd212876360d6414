"""The log: a table with one row per candidate, which every run writes and every other command reads.

Columns (see ``docs/log.md``):

============  =================  ==========================================================
round         int32              retraining round, from 0
context       string             the prompt; empty for unconditional models
slate         int64, nullable    slate within the round; null for candidates in no slate
slot          int32, nullable    position within the slate, from 0
item          int64 or string    identity of the sample; null if not recorded
source        string             ``model`` (generated) or ``real`` (real data)
rewards       float64            one or more columns: ``reward``, ``reward_...``, or named ones
picked        bool               whether this candidate was picked from its slate
chooser       string, nullable   person or program that picked
propensity    float64, nullable  probability that this candidate is picked, in (0, 1]
============  =================  ==========================================================

Other columns are kept unchanged (``group`` is the usual name for a class or mode). Only one reward column is
required; the other columns have the defaults of :func:`complete`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recurate.core.errors import InputError, nearest
from recurate.core.tables import write_table
from recurate.log.folders import is_run_or_fit, read_folder
from recurate.log.reading.sources import open_source

FORMAT = 1  # version of the log's format
METADATA_KEY = b"recurate"

COLUMNS: dict[str, pa.DataType] = {
    "round": pa.int32(),
    "context": pa.string(),
    "slate": pa.int64(),
    "slot": pa.int32(),
    "item": pa.int64(),
    "source": pa.string(),
    "picked": pa.bool_(),
    "chooser": pa.string(),
    "propensity": pa.float64(),
}
NULLABLE = {"slate", "slot", "item", "chooser", "propensity"}
MODEL, REAL = "model", "real"


@dataclass(frozen=True)
class Log:
    """A validated log.

    >>> import pyarrow as pa
    >>> table = pa.table({"slate": [0, 0, 1, 1], "reward": [0.1, 2.0, 1.0, 0.4], "picked": [0, 1, 1, 0]})
    >>> log = as_log(table)
    >>> log.column("slot")
    array([0, 1, 0, 1], dtype=int32)
    >>> log.slate_sizes()
    array([2, 2])

    Attributes:
        table: Arrow table in this module's schema, one row per candidate.
        rewards: Names of its reward columns.
    """

    table: pa.Table
    rewards: tuple[str, ...]

    def column(self, name: str) -> NDArray[Any]:
        """Return one column as a NumPy array (rows,).

        Null numbers become NaN, null strings become None.

        Raises:
            InputError: If the log has no such column.
        """
        if name not in self.table.column_names:
            raise InputError(
                f"the log has no column {name!r}",
                got=f"columns {', '.join(self.table.column_names)}",
                remedy=nearest(name, self.table.column_names),
            )
        return np.asarray(self.table.column(name).to_numpy())

    def reward_matrix(self) -> NDArray[np.float64]:
        """Return all rewards, shape (rows, rewards)."""
        return np.column_stack([self.column(name) for name in self.rewards])

    def rounds(self) -> list[int]:
        """Return the numbers of the rounds that occur, in ascending order."""
        return [int(r) for r in np.unique(self.column("round"))]

    def select(self, *, source: str | None = None, round: int | None = None) -> Log:  # noqa: A002
        """Return the log's rows of one source, of one round, or of both; None selects all."""
        table = self.table
        for name, value in (("source", source), ("round", round)):
            if value is not None:
                mask = pc.equal(table.column(name), value)
                if not pc.all(mask).as_py():  # else a copy would take as much memory as the log
                    table = table.filter(mask)
        return Log(table, self.rewards)

    def slate_sizes(self) -> NDArray[np.int64]:
        """Return the number of candidates of every slate, shape (slates,), in order of (round, slate)."""
        slated = self.table.filter(pc.is_valid(self.table.column("slate")))
        counts = slated.group_by(["round", "slate"]).aggregate([([], "count_all")])
        counts = counts.sort_by([("round", "ascending"), ("slate", "ascending")])
        return np.asarray(counts.column("count_all").to_numpy(), np.int64)


def read_log(
    path: Path | str,
    rewards: Sequence[str] | None = None,
    *,
    text: Sequence[str] = (),
    several: bool = False,
) -> Log:
    """Read and validate a log.

    >>> import tempfile
    >>> import pyarrow as pa
    >>> path = Path(tempfile.mkdtemp()) / "log.parquet"
    >>> write_log(as_log(pa.table({"round": [0, 0, 1], "reward": [0.1, 2.0, 1.0]})), path)
    >>> log = read_log(path)
    >>> log.rounds()
    [0, 1]
    >>> log.reward_matrix().shape
    (3, 1)

    Args:
        path: A run folder, whose rounds' logs are concatenated, or whatever
            :func:`recurate.log.reading.sources.open_source` opens by one name: a file, a folder of files, ...
        rewards: Names of the reward columns. None: the columns that the file's metadata name or, without
            metadata, every column called ``reward`` or ``reward_...``.
        text: Names of further columns that hold text, such as groups; without it, the CSV values 01 and 1
            are the same number.
        several: Whether any number of candidates may be picked per slate, and outside slates.

    Raises:
        InputError: If the file cannot be read or a row is invalid; the message names row and column.
    """
    path = Path(path)
    folder = path.is_dir() and is_run_or_fit(path)
    table = read_folder(path) if folder else open_source(path, text=text).read()
    return as_log(table, rewards=rewards, name=str(path), several=several)


def as_log(
    table: pa.Table,
    *,
    rewards: Sequence[str] | None = None,
    name: str = "the log",
    several: bool = False,
) -> Log:
    """Complete and validate a table; return it as a log.

    Args:
        table: Arrow table, one row per candidate.
        rewards: Names of the reward columns; None as in :func:`read_log`.
        name: Name of the log in messages.
        several: Whether any number of candidates may be picked per slate, and outside slates.

    Raises:
        InputError: If a reward column is missing or a row is invalid; the message names row and column.
    """
    stored = _stored_rewards(table, name)
    names = tuple(rewards) if rewards else stored or _reward_columns(table, name)
    if len(set(names)) < len(names) or set(names) & COLUMNS.keys():
        raise InputError(
            f"{name}: reward columns must differ from each other and from the log's own columns",
            got=", ".join(names),
            remedy="name each reward column once",
        )
    for reward in names:
        if reward not in table.column_names:
            raise InputError(
                f"{name} has no reward column {reward!r}",
                got=f"columns {', '.join(table.column_names)}",
                remedy=nearest(reward, table.column_names),
            )
    log = Log(complete(table, names, name), names)
    validate(log, name, several=several)
    return log


def complete(table: pa.Table, rewards: Sequence[str], name: str = "the log") -> pa.Table:
    """Return the table with every column of the schema, cast to its type.

    Columns that are absent get defaults: round 0, an empty context, no slate, slots in the order of the rows,
    source ``model``, not picked; ``item``, ``chooser`` and ``propensity`` are null.

    Args:
        table: Arrow table, one row per candidate.
        rewards: Names of the reward columns.
        name: Name of the log in messages.

    Raises:
        InputError: If a value does not fit its column's type; the message names row and column.
    """
    rows = table.num_rows
    columns: dict[str, Any] = {}
    for column, kind in COLUMNS.items():
        if column == "picked":  # rewards precede it
            columns |= {r: _cast(table, r, pa.float64(), name) for r in rewards}
        given = column in table.column_names
        columns[column] = _cast(table, column, kind, name) if given else _default(column, kind, rows)
    if "slot" not in table.column_names:
        columns["slot"] = _slots_in_order(columns["round"], columns["slate"])
    extra = {c: table.column(c) for c in table.column_names if c not in columns}
    metadata = {METADATA_KEY: json.dumps({"format": FORMAT, "rewards": list(rewards)}).encode()}
    return pa.table(columns | extra).replace_schema_metadata(metadata)


def validate(log: Log, name: str = "the log", *, several: bool = False) -> None:
    """Check every row of a log.

    Args:
        log: Log with all columns of the schema.
        name: Name of the log in messages.
        several: Whether any number of candidates may be picked per slate, and outside slates.

    Raises:
        InputError: If a row is invalid; the message names the first such row (from 1) and its column.
    """
    table = log.table
    for column in COLUMNS:
        if column not in NULLABLE:
            _refuse(pc.is_null(table.column(column)), table, column, name, "is empty")
    for reward in log.rewards:
        values = table.column(reward)
        bad = pc.invert(pc.fill_null(pc.is_finite(values), False))
        _refuse(bad, table, reward, name, "is not a finite number", "drop or repair the row")
    _refuse(pc.less(table.column("round"), 0), table, "round", name, "is negative")
    known = pc.is_in(table.column("source"), value_set=pa.array([MODEL, REAL]))
    _refuse(pc.invert(known), table, "source", name, "is neither 'model' nor 'real'")
    propensity = table.column("propensity")
    outside = pc.invert(pc.and_(pc.greater(propensity, 0), pc.less_equal(propensity, 1)))
    _refuse(outside, table, "propensity", name, "is not a probability in (0, 1]")
    if not several:
        homeless = pc.and_(table.column("picked"), pc.is_null(table.column("slate")))
        _refuse(homeless, table, "picked", name, "is true outside any slate", "fill in the slate column")
    _validate_slates(table, name, several=several)


def _validate_slates(table: pa.Table, name: str, *, several: bool) -> None:
    slated = table.filter(pc.is_valid(table.column("slate")))
    if slated.num_rows == 0:
        return
    _refuse(pc.is_null(slated.column("slot")), slated, "slot", name, "is empty inside a slate")
    needed = slated.select(["round", "slate", "slot", "context"])  # only these: a reward may be named "one"
    by_slate = needed.append_column("one", pc.cast(slated.column("picked"), pa.int32()))
    counted = [("one", "sum"), ("slot", "count_distinct"), ("slot", "count"), ("context", "count_distinct")]
    facts = by_slate.group_by(["round", "slate"]).aggregate(counted)
    checks = {
        "more than one pick": pc.greater(facts.column("one_sum"), pa.scalar(2**40 if several else 1)),
        "one slot twice": pc.less(facts.column("slot_count_distinct"), facts.column("slot_count")),
        "more than one context": pc.greater(facts.column("context_count_distinct"), 1),
    }
    for fault, bad in checks.items():
        where = np.flatnonzero(bad.to_numpy())
        if where.size:
            first = facts.slice(int(where[0]), 1).to_pylist()[0]
            raise InputError(
                f"{name}: a slate has {fault}",
                got=f"round {first['round']}, slate {first['slate']} ({where.size} such slates)",
                remedy="number slates within each round, with one pick and one context per slate",
            )


def _refuse(
    bad: Any, table: pa.Table, column: str, name: str, fault: str, remedy: str = "repair the row"
) -> None:
    where = np.flatnonzero(np.asarray(pc.fill_null(bad, False).to_numpy(zero_copy_only=False)))
    if where.size:
        row = int(where[0])
        raise InputError(
            f"{name}: column {column!r} {fault} in row {row + 1} ({where.size} such rows)",
            got=table.column(column)[row].as_py(),
            remedy=remedy,
        )


def _cast(table: pa.Table, column: str, kind: pa.DataType, name: str) -> Any:
    """Cast a column to the schema's type, or raise InputError naming the first value that does not fit."""
    values = table.column(column)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if column == "item" and not pa.types.is_integer(values.type):
        kind = pa.string()  # items are whole numbers or names
    if column == "chooser":  # in CSV, the empty string stands for null
        values = pc.if_else(pc.equal(values.cast(pa.string()), ""), None, values.cast(pa.string()))
    if values.type == kind:
        return values
    if pa.types.is_boolean(kind) and (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        yes_or_no = pc.is_in(values, value_set=pa.array([0, 1], values.type))
        _refuse(pc.invert(yes_or_no), table, column, name, "is neither 0 nor 1")
    try:
        return values.cast(kind)
    except (pa.ArrowException, ValueError):
        pass
    for row, value in enumerate(values):
        try:
            value.cast(kind)
        except (pa.ArrowException, ValueError):
            raise InputError(
                f"{name}: column {column!r} must hold {kind}, and row {row + 1} does not fit",
                got=repr(value.as_py()),
                remedy="repair the row, or use another column",
            ) from None
    raise InputError(
        f"{name}: column {column!r} must hold {kind}",
        got=str(values.type),
        remedy="convert the column, or use another one",
    )


def _default(column: str, kind: pa.DataType, rows: int) -> Any:
    value = {"round": 0, "context": "", "source": MODEL, "picked": False}.get(column)
    return pa.chunked_array([pa.repeat(pa.scalar(value, kind), rows)])


def _slots_in_order(rounds: Any, slates: Any) -> Any:
    """Return each row's number 0, 1, ... within its slate, in row order; null outside slates."""
    inside = np.asarray(pc.is_valid(slates).to_numpy())
    if not inside.any():
        return pa.nulls(len(slates), pa.int32())
    round_of = np.asarray(rounds.to_numpy(), float)
    slate_of = np.asarray(pc.fill_null(slates, -1).to_numpy(), float)
    order = np.lexsort((slate_of, round_of))
    starts = np.r_[True, (np.diff(round_of[order]) != 0) | (np.diff(slate_of[order]) != 0)]
    index = np.arange(order.size)
    slots = np.empty(order.size, np.int32)
    slots[order] = index - np.maximum.accumulate(np.where(starts, index, 0))
    return pa.array(slots, mask=~inside)


def _stored_rewards(table: pa.Table, name: str) -> tuple[str, ...]:
    """Return the reward columns that the file's metadata name, or an empty tuple."""
    stored = (table.schema.metadata or {}).get(METADATA_KEY)
    if not stored:
        return ()
    try:
        facts = json.loads(stored)
        found, version = tuple(str(r) for r in facts["rewards"]), int(facts["format"])
    except (ValueError, KeyError, TypeError):
        remedy = "name the reward columns explicitly"
        raise InputError(f"the metadata of {name} are damaged", got=stored[:80], remedy=remedy) from None
    if version > FORMAT:
        raise InputError(
            f"{name} was written by a newer recurate",
            got=f"log format {version}; this version reads up to {FORMAT}",
            remedy="upgrade recurate",
        )
    return found


def _reward_columns(table: pa.Table, name: str) -> tuple[str, ...]:
    """Return the columns named ``reward`` or ``reward_...``."""
    found = tuple(c for c in table.column_names if c == "reward" or c.startswith("reward_"))
    if not found:
        raise InputError(
            f"{name} has no reward column",
            got=f"columns {', '.join(table.column_names)}",
            remedy="name the column (--reward COLUMN), or rename it to 'reward'",
        )
    return found


def write_log(log: Log, path: Path | str) -> None:
    """Write a log atomically as Parquet, JSON lines or CSV, according to the file's extension.

    :func:`read_log` has an example.

    Args:
        log: Log to write.
        path: File to write, with the extension ``.parquet``, ``.jsonl``, ``.ndjson`` or ``.csv``.

    Raises:
        InputError: If the extension is unknown.
    """
    write_table(log.table, path)
