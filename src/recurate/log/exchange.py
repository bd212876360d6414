"""Tables that recurate exchanges with external programs, in the columns of the log.

A request has one row per candidate to be generated or scored. The answer identifies each by its ``item``.
Columns: ``item`` (0, 1, ...), ``context``, ``source`` (``model`` or ``real``; in training sets only),
``sample`` (text, number, or nested lists of numbers), and the scores in a reward's answer.
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
    """Write a request for candidates, one per context (n,), with columns ``item`` and ``context``."""
    write_table(_table(contexts), path)


def write_candidates(path: Path, samples: Samples, contexts: NDArray[Any]) -> None:
    """Write a request for scores, with columns ``item``, ``context`` and ``sample``.

    Args:
        path: File to write; its extension determines the format.
        samples: Candidates to be scored, shape (n, ...).
        contexts: Context of every candidate, shape (n,).
    """
    write_table(_table(contexts).append_column(COLUMN, to_column(samples)), path)


def write_training(path: Path, samples: Samples, contexts: NDArray[Any], real: int) -> None:
    """Write a training set, with columns ``item``, ``context``, ``source`` and ``sample``.

    Args:
        path: File to write; its extension determines the format.
        samples: Training samples, shape (n, ...).
        contexts: Context of every sample, shape (n,).
        real: Number of real samples, which are the last rows.
    """
    sources = [MODEL] * (len(samples) - real) + [REAL] * real
    table = _table(contexts).append_column("source", pa.array(sources, pa.string()))
    write_table(table.append_column(COLUMN, to_column(samples)), path)


def read_candidates(path: Path, count: int) -> Samples:
    """Return the candidates that a program generated, shape (count, ...), in the order of their items.

    Args:
        path: File with columns ``item`` and ``sample``.
        count: Number of candidates that were requested.

    Raises:
        InputError: If the file is missing, an item is missing, repeated or unknown, or a sample is invalid.
    """
    table = _read_answer(path, count, COLUMN)
    return from_column(table.column(COLUMN), path.name)


def read_scores(path: Path, count: int, column: str) -> NDArray[np.float64]:
    """Return the candidates' scores, shape (count,), in the order of their items.

    Args:
        path: File with columns ``item`` and ``column``.
        count: Number of candidates that were to be scored.
        column: Name of the column of scores.

    Raises:
        InputError: If the file is missing, an item is missing, repeated or unknown, or a score is no number.
    """
    table = _read_answer(path, count, column)
    try:
        return np.asarray(table.column(column).cast(pa.float64()).to_numpy(), float)
    except pa.ArrowException as error:
        raise InputError(
            f"{path.name}: column {column!r} must hold numbers", got=error, remedy="write one number per row"
        ) from None


def _table(contexts: NDArray[Any]) -> pa.Table:
    return pa.table({"item": np.arange(len(contexts)), "context": pa.array(contexts.tolist(), pa.string())})


def _read_answer(path: Path, count: int, column: str) -> pa.Table:
    if not path.is_file():
        raise InputError(
            f"{path.name} was not written", got="no such file", remedy="write the answer to this file"
        )
    table = read_table(path)
    lacking = {"item", column} - set(table.column_names)
    if lacking:
        raise InputError(
            f"{path.name} lacks the column {', '.join(sorted(lacking))}",
            got=f"columns {', '.join(table.column_names)}",
            remedy="identify every candidate by its item in the request",
        )
    items = table.column("item").to_pylist()
    if sorted(items, key=str) != sorted(range(count), key=str):
        wrong = "as many rows" if len(items) == count else f"{len(items)} rows"
        raise InputError(
            f"{path.name} must have exactly one row for each of the {count} items requested",
            got=wrong + ", but other items" * (len(items) == count),
            remedy="write one row per item, with the items of the request",
        )
    return table.sort_by("item")
