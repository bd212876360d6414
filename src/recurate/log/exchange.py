"""What recurate and other people's programs tell each other: tables in the columns of the log.

A request lists candidates that are wanted or that shall be scored, one row each; the answer names them by
``item``.
Columns: ``item`` (0, 1, ...), ``context``, ``source`` (``model`` or ``real``; training sets only),
``sample`` (text, number, or nested lists of numbers), and one further column in answers of rewards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.core.errors import InputError
from recurate.core.tables import read_table, write_table
from recurate.log.samples import COLUMN, Samples, from_column, to_column
from recurate.log.schema import MODEL, REAL

Format = Literal["jsonl", "parquet"]


def write_wanted(path: Path, contexts: NDArray[Any]) -> None:
    """Write which candidates are wanted: ``item``, ``context``."""
    write_table(_table(contexts), path)


def write_candidates(path: Path, samples: Samples, contexts: NDArray[Any]) -> None:
    """Write candidates to be scored: ``item``, ``context``, ``sample``."""
    write_table(_table(contexts).append_column(COLUMN, to_column(samples)), path)


def write_training(path: Path, samples: Samples, contexts: NDArray[Any], real: int) -> None:
    """Write a training set, its last ``real`` rows real: ``item``, ``context``, ``source``, ``sample``."""
    sources = [MODEL] * (len(samples) - real) + [REAL] * real
    table = _table(contexts).append_column("source", pa.array(sources, pa.string()))
    write_table(table.append_column(COLUMN, to_column(samples)), path)


def read_candidates(path: Path, count: int) -> Samples:
    """Read the candidates that a program made, in the order of their items.

    Raises:
        InputError: the file is missing, candidates are missing, double or unknown, or samples are not usable.
    """
    table = _read_answer(path, count, COLUMN)
    return from_column(table.column(COLUMN), path.name)


def read_scores(path: Path, count: int, column: str) -> NDArray[np.float64]:
    """Read one number a candidate, in the order of their items; see :func:`read_candidates`."""
    table = _read_answer(path, count, column)
    try:
        return np.asarray(table.column(column).cast(pa.float64()).to_numpy(), float)
    except pa.ArrowException as error:
        raise InputError(
            f"{path.name}: column {column!r} must hold numbers", got=error, remedy="write one number a row"
        ) from None


def _table(contexts: NDArray[Any]) -> pa.Table:
    return pa.table({"item": np.arange(len(contexts)), "context": pa.array(contexts.tolist(), pa.string())})


def _read_answer(path: Path, count: int, column: str) -> pa.Table:
    if not path.is_file():
        raise InputError(f"{path.name} was not written", got="no such file", remedy="write the answer there")
    table = read_table(path)
    lacking = {"item", column} - set(table.column_names)
    if lacking:
        raise InputError(
            f"{path.name} lacks the column {', '.join(sorted(lacking))}",
            got=f"columns {', '.join(table.column_names)}",
            remedy="name every candidate by the item that the request has",
        )
    items = table.column("item").to_pylist()
    if sorted(items, key=str) != sorted(range(count), key=str):
        wrong = "as many items" if len(items) == count else f"{len(items)} rows"
        raise InputError(
            f"{path.name} must answer each of the {count} items asked for, once",
            got=wrong + ", but other ones" * (len(items) == count),
            remedy="write one row an item",
        )
    return table.sort_by("item")
