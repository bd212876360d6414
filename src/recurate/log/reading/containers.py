"""Binary tables (Parquet, Arrow, Excel) and PrefLib's files of rankings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from recurate.core.errors import need
from recurate.core.limits import check_unpacked
from recurate.core.tables import TEXT
from recurate.log.reading.delimited import named
from recurate.log.reading.objects import columns_of
from recurate.log.reading.stored import Stored

BATCH = 1 << 20  # rows that are read at a time where a table is read in parts


def checked(table: pa.Table) -> pa.Table:
    """Return a table of which every value can be read: Arrow believes the offsets of a damaged file.

    Raises:
        ValueError: If a column is damaged or its text is not UTF-8.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            if "UTF8" in str(error):
                raise UnicodeError(f"the text of column {name!r} is not UTF-8") from None
            raise ValueError(f"column {name!r} is damaged: {error}") from None
    return table


class Whole:
    """A reader of a table that is in memory."""

    def __init__(self, table: pa.Table, notes: Sequence[str] = ()) -> None:
        self._table = table
        self.schema = table.schema
        self.notes = list(notes)
        self.keep: Any = None

    def head(self, rows: int) -> pa.Table:
        """Return the first rows."""
        return self._table.slice(0, rows)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, of the given columns only."""
        return self._table if columns is None else self._table.select(list(columns))


class Parquet:
    """A reader of a Parquet file."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._path = path
        with pq.ParquetFile(path) as file:
            self.schema = file.schema_arrow
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        # Equal values take no room in the file, but do in memory.
        unpacked = max(sum(g.total_byte_size for g in groups), 8 * sum(g.num_rows for g in groups))
        check_unpacked(path, path.stat().st_size, unpacked)
        self.rows: int = sum(g.num_rows for g in groups)
        self.notes: list[str] = []
        self.keep: Any = None

    def head(self, rows: int) -> pa.Table:
        """Return the first rows."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._path) as file:
            found, count = [], 0
            for batch in file.iter_batches(batch_size=min(max(rows, 1), 10_000), use_threads=False):
                found.append(batch)
                count += batch.num_rows
                if count >= rows:
                    break
        table = checked(pa.Table.from_batches(found, self.schema).slice(0, rows))
        pa.default_memory_pool().release_unused()  # of long texts, whole pages were unpacked
        return table

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, of the given columns only."""
        import pyarrow.parquet as pq

        if columns is None:
            with pq.ParquetFile(self._path) as file:
                return checked(file.read())
        schema = pa.schema([self.schema.field(name) for name in columns], self.schema.metadata)
        with pq.ParquetFile(self._path, buffer_size=1 << 16) as file:
            parts = [self._column(file, name) for name in columns]
        return checked(pa.table(parts, schema=schema))

    def batches(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """Yield all rows, at most ``BATCH`` at a time."""
        import pyarrow.parquet as pq

        names = None if columns is None else list(columns)
        with pq.ParquetFile(self._path, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(BATCH, columns=names):
                yield checked(pa.Table.from_batches([batch]))

    def _column(self, file: Any, name: str) -> pa.ChunkedArray:
        """Read one column, a row group at a time: little more than what it takes is ever in memory."""
        chunks = [
            batch.column(name)
            for group in range(file.num_row_groups)
            for batch in file.iter_batches(1 << 17, row_groups=[group], columns=[name], use_threads=False)
        ]
        return pa.chunked_array(chunks, self.schema.field(name).type)


class Ipc:
    """A reader of an Arrow file or stream, as Feather and saved Hugging Face datasets are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._stream = file.read(6) != b"ARROW1"
        with pa.OSFile(str(path)) as file, self._open(file, None) as reader:
            self.schema = reader.schema
        self.notes: list[str] = []
        self.keep: Any = None

    @cached_property
    def rows(self) -> int:
        """The number of rows."""
        return sum(batch.num_rows for batch in self._batches(None))

    def batches(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """Yield all rows, a record batch at a time."""
        for batch in self._batches(columns):
            table = checked(pa.Table.from_batches([batch]))
            yield table if columns is None else table.select(list(columns))

    def _batches(self, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        with pa.memory_map(str(self._path)) as file, self._open(file, columns) as reader:
            yield from reader if self._stream else map(reader.get_batch, range(reader.num_record_batches))

    def _open(self, file: pa.NativeFile, columns: Sequence[str] | None) -> Any:
        fields = None if columns is None else [self.schema.get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        kind = pa.ipc.open_stream if self._stream else pa.ipc.open_file
        return kind(file, options=options)

    def head(self, rows: int) -> pa.Table:
        """Return the first rows."""
        found, count = [], 0
        with pa.OSFile(str(self._path)) as file, self._open(file, None) as reader:
            batches = reader if self._stream else map(reader.get_batch, range(reader.num_record_batches))
            for batch in batches:
                found.append(batch)
                count += batch.num_rows
                if count >= rows:
                    break
        return checked(pa.Table.from_batches(found, self.schema)).slice(0, rows)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, of the given columns only."""
        with pa.OSFile(str(self._path)) as file, self._open(file, columns) as reader:
            table = checked(reader.read_all())
        return table if columns is None else table.select(list(columns))


def feather_one(path: Path) -> Whole:
    """Return a reader of a file of Feather's first version."""
    import pyarrow.feather as feather

    return Whole(feather.read_table(str(path)))


def excel(path: Path, text: Sequence[str]) -> Whole:
    """Return a reader of an Excel file: of the first sheet that has rows.

    Raises:
        InputError: If openpyxl is not installed.
        ValueError: If no sheet has rows.
    """
    need(["openpyxl"], "an .xlsx file", "pip install 'recurate[xlsx]', or save the sheet as CSV")
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        names = book.sheetnames
        for name in names:
            sheet = book[name]
            if not hasattr(sheet, "iter_rows"):
                continue  # a chart
            lines = [row for row in sheet.iter_rows(values_only=True) if any(v is not None for v in row)]
            if len(lines) > 1:
                break
        else:
            raise ValueError("no sheet has a header and rows")
    finally:
        book.close()
    header = ["" if v is None else str(v) for v in lines[0]]
    width = max(i + 1 for row in lines for i, v in enumerate(row) if v is not None)
    header = named(header[:width])
    repeated = {n for n in header if header.count(n) > 1}
    if repeated:
        raise ValueError(f"several columns are called {', '.join(sorted(repeated))}")
    rows = [dict(zip(header, map(_cell, row), strict=False)) for row in lines[1:]]
    table, notes = columns_of(lambda: rows, header, (*TEXT, *text))
    if len(names) > 1:
        notes = [f"sheet {name!r} is read, {len(names) - 1} other(s) not", *notes]
    return Whole(table, notes)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


# --- PrefLib --------------------------------------------------------------------------------------

PREFLIB = (".soc", ".soi", ".toc", ".toi")
_NAME = re.compile(r"#\s*ALTERNATIVE NAME (\d+)\s*:\s*(.*)")
_BALLOT = re.compile(r"(\d+)\s*[:,]\s*(.*)")


def preflib(file: Stored) -> Whole:
    """Return a reader of a PrefLib file: columns ``ranking`` ('a > b ~ c') and ``count``.

    Raises:
        ValueError: If a line is not a ballot.
    """
    names: dict[str, str] = {}
    ballots: list[tuple[str, int]] = []
    lines = b"".join(file.blocks()).decode("utf-8").splitlines()
    start = _old_header(lines, names)
    for number, line in enumerate(lines[start:], start=start + 1):
        found = _NAME.match(line)
        if found:
            names[found[1]] = found[2].strip()
        if line.startswith("#") or not line.strip():
            continue
        ballot = _BALLOT.fullmatch(line.strip())
        if ballot is None:
            raise ValueError(f"line {number} is not a ballot: {line[:60]!r}")
        ballots.append((ballot[2], int(ballot[1])))
    plain = all(name and not re.search(r"[>~]", name) for name in names.values())
    notes = ["each row is a ranking, with the number of voters who gave it"]
    if not plain or len(set(names.values())) < len(names):
        names = {}
        notes.append("alternatives are called by their numbers: their names repeat or contain '>' or '~'")
    table = pa.table(
        {
            "ranking": pa.array([_ranking(ballot, names) for ballot, _ in ballots], pa.string()),
            "count": pa.array([count for _, count in ballots], pa.int64()),
        }
    )
    return Whole(table, notes)


def _old_header(lines: list[str], names: dict[str, str]) -> int:
    """Read the header of the format before 2022; return the number of its lines."""
    if not lines or not re.fullmatch(r"\d+", lines[0].strip()):
        return 0
    count = int(lines[0])
    for line in lines[1 : count + 1]:
        number, _, name = line.partition(",")
        names[number.strip()] = name.strip()
    return count + 2  # and a line of counts


def _ranking(ballot: str, names: dict[str, str]) -> str:
    tiers = re.findall(r"\{([^}]*)\}|([^,{}]+)", ballot)
    return " > ".join(
        " ~ ".join(names.get(part.strip(), part.strip()) for part in (tied or single).split(","))
        for tied, single in tiers
        if (tied or single).strip()
    )
