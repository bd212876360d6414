"""Conversion of sources (files, folders, Arrow tables, frames, datasets, records) to a table or a log."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recurate.core.errors import InputError
from recurate.log.candidates import Candidates
from recurate.log.folders import is_run_or_fit, read_folder
from recurate.log.reading.sources import Source, open_source
from recurate.log.schema import Log, as_log

ACCEPTED = (
    "a path or several, a run's or fit's folder, an Arrow table, a pandas or polars frame, a Hugging Face "
    "dataset, a dict of columns, a list of dicts, or a Log"
)


def table_of(source: Any, *, text: Sequence[str] = ()) -> pa.Table:
    """Return a source as one Arrow table.

    Args:
        source: A path, a glob pattern, a folder of files, an address, ``example:NAME``, ``-`` (standard
            input) or several of these (see :func:`recurate.log.reading.sources.open_source`), a run's or
            fit's folder, an Arrow table or reader, a pandas, polars or other frame that narwhals supports,
            also a lazy one, a Hugging Face dataset, a dict of columns, a list of dicts, or a ``Log``.
        text: Columns of text files that hold text even if they look like numbers.

    Raises:
        InputError: If the source is none of these, a file cannot be read, or there are no rows.
    """
    return source_of(source, text=text).read()


def source_of(source: Any, *, text: Sequence[str] = ()) -> Source:
    """Return a source, as :func:`table_of` accepts it, without reading all of it.

    Raises:
        InputError: If the source is none of these, a file cannot be read, or there are no rows.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, str | os.PathLike):
        folder = folder_of(source)
        return open_source(source, text=text) if folder is None else open_source(read_folder(folder))
    if _is_list_of(source, str | os.PathLike):
        return open_source(source, text=text)
    table = _from_memory(source)
    if table.num_rows == 0 or table.num_columns == 0:
        raise InputError(
            "the table has no rows", got=type(source).__name__, remedy="a log has at least one row"
        )
    return open_source(table)


def _from_memory(source: Any) -> pa.Table:
    if isinstance(source, Log):
        return source.table
    if isinstance(source, pa.Table):
        return source
    if isinstance(source, pa.RecordBatchReader):
        return source.read_all()
    try:
        if _is_list_of(source, Mapping):
            return pa.Table.from_pylist([dict(row) for row in source])
        if isinstance(source, Mapping) and not any(_is_dataset(part) for part in source.values()):
            return pa.table({str(name): pa.array(column) for name, column in source.items()})
        if _is_dataset(source):
            return pa.table(source.with_format("arrow")[:])
        return _from_frame(source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        got = f"{type(source).__name__}: {error}"
        if isinstance(source, Mapping):
            got = f"{type(source).__name__} with {', '.join(map(str, source))}"
        raise InputError("this cannot be read as a table", got=got, remedy=f"pass {ACCEPTED}") from None


def _from_frame(source: Any) -> pa.Table:
    """Return a frame as a table, without the index columns that pandas adds if rows were dropped."""
    import narwhals

    frame = narwhals.from_native(source)
    if isinstance(frame, narwhals.LazyFrame):
        frame = frame.collect()
    table = frame.to_arrow()
    index = [name for name in table.column_names if name.startswith("__index_level_")]
    return table.drop_columns(index).replace_schema_metadata(None)


def _is_list_of(source: Any, kind: Any) -> bool:
    listed = isinstance(source, Sequence) and not isinstance(source, str | bytes)
    return listed and bool(source) and all(isinstance(part, kind) for part in source)


def _is_dataset(source: Any) -> bool:
    return hasattr(source, "with_format") and hasattr(source, "column_names")


def log_of(
    source: Any, rewards: Sequence[str] | None = None, *, text: Sequence[str] = (), several: bool = False
) -> Log:
    """Return a source as a validated log.

    Args:
        source: Any source that :func:`table_of` accepts.
        rewards: Names of the reward columns; None as in :func:`recurate.read_log`.
        text: Columns of CSV files that hold text even if they look like numbers.
        several: Whether any number of candidates may be picked per slate, and outside slates.

    Raises:
        InputError: If the source cannot be read or is not a valid log.
    """
    if isinstance(source, Log) and rewards is None:
        return source
    name = str(source) if isinstance(source, str | os.PathLike) else name_of(source)
    return as_log(table_of(source, text=text), rewards=rewards, name=name, several=several)


def is_array(source: Any) -> bool:
    """Return whether ``source`` is an array of rewards, not a table or a path."""
    if isinstance(source, Candidates | np.ndarray | np.generic):
        return True
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return not _is_list_of(source, str | os.PathLike) and not _is_list_of(source, Mapping)
    framed = any(hasattr(type(source), name) for name in ("columns", "column_names", "collect"))
    return hasattr(source, "__array__") and not framed


def folder_of(source: Any) -> Path | None:
    """Return the run's or fit's folder that ``source`` names, or None."""
    if not isinstance(source, str | os.PathLike) or not Path(source).is_dir():
        return None
    return Path(source) if is_run_or_fit(Path(source)) else None


def name_of(source: Any) -> str:
    """Return the name of a source in messages and reports."""
    if isinstance(source, Source):
        return source.name
    if isinstance(source, str | os.PathLike):
        return Path(source).resolve().name
    if _is_list_of(source, str | os.PathLike):
        return name_of(source[0]) + (f" and {len(source) - 1} more" if len(source) > 1 else "")
    return "the rewards" if is_array(source) else "the log" if isinstance(source, Log) else "the table"
