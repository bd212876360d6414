"""Tables in files that recurate itself writes: Parquet, JSON lines or CSV, determined by the extension.

Files of other people are read by ``recurate.log.reading.sources``.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recurate.core.errors import InputError, nearest
from recurate.core.files import atomic_path

DEEP = 500  # levels of nesting in JSON; beyond some 10,000 Arrow's reader overflows its stack
QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.S)  # a string, never retried
TEXT = ("context", "source", "chooser", "group")  # columns of a log that always hold text


def read_table(path: Path | str, *, text: Sequence[str] = ()) -> pa.Table:
    """Read a table that recurate wrote, from Parquet, JSON lines or CSV, according to the file's extension.

    Args:
        path: File to read.
        text: Names of columns of a CSV or JSON-lines file that hold text even if they look like numbers.

    Raises:
        InputError: If the file is missing, empty, damaged or of an unknown format, or repeats a column name.
    """
    path = Path(path)
    reader = by_suffix(path, READERS)
    if not path.is_file():
        raise InputError(
            "no such file" if not path.exists() else "this is not a file", got=path, remedy="check the path"
        )
    if path.stat().st_size == 0:
        raise InputError("the file is empty", got=path, remedy="a log has at least one row")
    try:
        table = reader(path, tuple(text))
        names = table.column_names  # decodes the names, which fails on garbage
    except (pa.ArrowException, ValueError, OSError, EOFError, RecursionError) as error:
        raise InputError(
            f"cannot read {path}",
            got=_first_line(error) + _where_json_breaks(path),
            remedy="the file is truncated, damaged or not of the format of its extension; write it again",
        ) from None
    if table.num_rows == 0 or table.num_columns == 0:
        raise InputError("the file has no rows", got=path, remedy="a log has at least one row")
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise InputError(
            f"{path} has several columns with the same name",
            got=", ".join(sorted(repeated)),
            remedy="give every column its own name",
        )
    return table


def column_of(table: pa.Table, name: str, source: object) -> pa.ChunkedArray:
    """Return a column of the table that was read from ``source``.

    Raises:
        InputError: If there is no such column; the message names the source.
    """
    if name not in table.column_names:
        raise InputError(
            f"{source} has no column {name!r}",
            got=f"columns {', '.join(table.column_names)}",
            remedy=nearest(name, table.column_names),
        )
    return table.column(name)


def write_table(table: pa.Table, path: Path | str) -> None:
    """Write a table atomically as Parquet, JSON lines or CSV, according to the file's extension.

    Raises:
        InputError: If the extension is unknown.
    """
    path = Path(path)
    writer = by_suffix(path, WRITERS)
    with atomic_path(path) as partial:
        writer(table, partial)


def _read_parquet(path: Path, text: tuple[str, ...]) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read()


def _read_csv(path: Path, text: tuple[str, ...]) -> pa.Table:
    import pyarrow.csv as csv

    # Only an empty field is null: a context, item or group may be the word "null" or "NA".
    options = csv.ConvertOptions(
        null_values=[""], strings_can_be_null=False, column_types=dict.fromkeys((*TEXT, *text), pa.string())
    )
    with pa.OSFile(str(path)) as file:  # never a Python file: see recurate.log.reading.stored
        table = csv.read_csv(file, convert_options=options)
    wrong = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    if wrong:
        raise ValueError(f"the text of column {wrong[0]!r} is not UTF-8")
    return table


def _read_jsonl(path: Path, text: tuple[str, ...]) -> pa.Table:
    import pyarrow.json as arrow_json

    # One line must fit in one block.
    options = arrow_json.ReadOptions(block_size=1 << 26)
    # Strings that look like dates stay strings: a column that holds text in the first row holds text.
    with path.open("rb") as file:
        line = next((line for line in file if line.strip()), b"{}")
        for row in itertools.chain([line], file):  # Arrow would crash on rows that say null, or on deep ones
            if row.strip() and row.lstrip()[:1] != b"{":
                raise ValueError("a row is not an object")
            check_depth(row)
    try:
        first = json.loads(line)
    except (ValueError, RecursionError):
        first = {}
    words = [k for k, v in first.items() if isinstance(v, str)] if isinstance(first, dict) else []
    schema = pa.schema([(name, pa.string()) for name in dict.fromkeys((*TEXT, *words, *text))])
    parse = arrow_json.ParseOptions(explicit_schema=schema)
    with pa.OSFile(str(path)) as file:
        table = arrow_json.read_json(file, read_options=options, parse_options=parse)
    table.validate(full=True)  # checks that text is UTF-8
    absent = [name for name in TEXT if name in table.column_names and name not in first]
    unused = [name for name in absent if table.column(name).null_count == table.num_rows]
    return table.drop_columns(unused)


def check_depth(text: bytes) -> None:
    """Raise RecursionError if brackets are nested so deeply that a reader of JSON may overflow its stack."""
    if opening(text) > DEEP:
        signs = np.frombuffer(QUOTED.sub(b"", text), np.uint8)  # a text may hold any number of brackets
        depth = np.isin(signs, (91, 123)).astype(np.int64) - np.isin(signs, (93, 125))
        if depth.cumsum().max(initial=0) > DEEP:
            raise RecursionError


def opening(text: bytes) -> int:
    """Return the number of opening brackets, or 0 in a text that is too short for many."""
    return text.count(b"[") + text.count(b"{") if len(text) > DEEP else 0


def _write_parquet(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd")


def _write_csv(table: pa.Table, path: Path) -> None:
    import pyarrow.csv as csv

    csv.write_csv(table, path)


def _write_jsonl(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for batch in table.to_batches(max_chunksize=65536):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())


READERS: dict[str, Callable[[Path, tuple[str, ...]], pa.Table]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".csv": _read_csv,
}
WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    ".parquet": _write_parquet,
    ".jsonl": _write_jsonl,
    ".ndjson": _write_jsonl,
    ".csv": _write_csv,
}


def by_suffix(path: Path, table: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """Return the reader or writer for a file's extension.

    Args:
        path: File to read or write.
        table: Readers or writers by extension: :data:`READERS` or :data:`WRITERS`.

    Raises:
        InputError: If the extension is unknown.
    """
    try:
        return table[path.suffix.lower()]
    except KeyError:
        raise InputError(
            "the file's extension determines its format, and this extension is unknown",
            got=path,
            remedy=f"use one of {', '.join(table)}",
        ) from None


def _where_json_breaks(path: Path) -> str:
    """Return which line of a JSON-lines file is the first that is not a JSON object, as a clause."""
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        return ""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                if line.strip() and not isinstance(json.loads(line), dict):
                    return f" (line {number} is not an object)"
            except (ValueError, RecursionError):
                return f" (line {number} is not valid JSON)"
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
