"""Delimited text: any separator, line breaks in cells, short rows, decimal commas."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from recurate.core.errors import InputError, counted, short
from recurate.core.tables import TEXT
from recurate.log.reading.stored import BLANKS, FLAGS, STRAYS, Stored, beyond, from_latin, scratch

SEPARATORS = (",", "\t", ";", "|")
NAMES = {"\t": "tabs", ",": "','", ";": "';'", "|": "'|'"}
BLOCK = 1 << 22
MOST = (1 << 31) - 1  # bytes of a block
HEAD = 1 << 18
NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
POINTS = r"^\s*[+-]?((\d+|[1-9]\d{0,2}(,\d{3})+)(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*$"  # 1,234.5
COMMAS = r"^\s*[+-]?(\d+|[1-9]\d{0,2}(\.\d{3})+)(,\d+)?([eE][+-]?\d+)?\s*$"  # 1.234,5
ZERO = r"^\s*0\d"  # a code such as 007, not a number
WHOLE = r"^\s*[+-]?\d{16,}\s*$"  # it may be beyond what floating-point numbers hold exactly


@dataclass(frozen=True)
class Dialect:
    """How a file is to be read.

    Attributes:
        separator: Character between cells.
        names: Names of the columns, in order.
        renamed: Whether they are not those of the header.
        skip: Number of lines before the header.
    """

    separator: str
    names: tuple[str, ...]
    renamed: bool = False
    skip: int = 0


class Delimited:
    """A reader of delimited text.

    Args:
        file: UTF-8 text.
        name: Name of the file in messages.
        text: Names of columns that hold text even if they look like numbers.
    """

    def __init__(self, file: Stored, name: str, text: Sequence[str] = ()) -> None:
        csv.field_size_limit(MOST)
        self._file, self._name = file, name
        self._recoded = self._repaired = self._closed = False
        self._text = (*TEXT, *text)
        self.notes: list[str] = []
        self.keep: Any = None
        self._kept: set[str] = set()  # columns of numbers that lose nothing
        self._begin()
        self._dialect = dialect_of(self._start.decode("utf-8", "replace"), file.ending)
        repeated = {n for n in self._dialect.names if self._dialect.names.count(n) > 1}
        if repeated:
            raise InputError(
                f"{name} has several columns with the same name",
                got=", ".join(sorted(repeated)),
                remedy="give every column its own name",
            )
        if self._dialect.skip and not self._start.lstrip(b'\xef\xbb\xbf"').startswith(b"sep="):
            lines = self._start.decode("utf-8", "replace").splitlines()[: self._dialect.skip]
            which = counted(len(lines), "{line|lines}")
            self.notes.append(f"{which} above the header: {short(lines[0])}")
        self._commas = self._dialect.separator != ","  # numbers may have decimal commas
        self._decimal: str | None = None
        self._marked: tuple[str, ...] = ()  # columns of numbers that Arrow would misread
        if self._commas:
            self.notes.append(f"values are separated by {NAMES[self._dialect.separator]}")
            self._decimal, self._marked = self._marks(self._start)
        self.schema = self.head(1000).schema

    def _begin(self) -> None:
        """Read the whole rows at the file's beginning."""
        head = self._file.head(HEAD)
        self._complete = len(head) < HEAD
        self._start = _whole_rows(head, self._complete)
        self._scan: tuple[bool, int] | None = None
        self._single = not _broken(self._start)

    def _marks(self, start: bytes | None) -> tuple[str | None, tuple[str, ...]]:
        """Return the decimal mark ('' if unclear) and the columns of numbers; None, () without commas.

        Args:
            start: The part of the file that is looked at; None: all of it.
        """
        own, self._text = self._text, (*self._text, *self._dialect.names)
        try:
            table = self._parse(None, start)
        finally:
            self._text = own
        found = {n: _readings(table.column(n)) for n in table.column_names if n not in own}
        found = {n: kinds for n, kinds in found.items() if kinds.share > 0.5}
        if not any(kinds.with_comma for kinds in found.values()):
            return None, ()
        comma, point = (any(getattr(k, side) for k in found.values()) for side in ("comma", "point"))
        return "" if comma == point else "," if comma else ".", tuple(found)

    def head(self, rows: int) -> pa.Table:
        """Return the first rows."""
        size, start = HEAD, self._start
        while True:
            file = self._file
            table = self._parse(None, start)
            start = start if self._file is file else self._start
            if table.num_rows >= rows or size >= 1 << 26:
                break
            size *= 8
            whole = self._file.head(size)
            if len(whole) <= len(start):
                break
            start = _whole_rows(whole, len(whole) < size)
        return self._finished(table.slice(0, rows), start)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, of the given columns only."""
        late = self._commas and self._decimal is None and not self._complete  # the first comma may come late
        if late and any(b"," in block for block in self._file.blocks()):
            self._decimal, self._marked = self._marks(None)
        return self._finished(self._parse(columns, None), None)

    def _parse(self, columns: Sequence[str] | None, start: bytes | None) -> pa.Table:
        """Parse the file, or its beginning; where Arrow cannot, find out why, and help.

        Line breaks in cells make Arrow a third slower. Where the file's beginning has none, Arrow is told to
        expect none; every line must then have become a row, or the file is parsed again.
        """
        block = BLOCK
        while True:
            single = self._single and start is None
            if not single and (start is None or self._complete):
                self._need_closed()
            try:
                table = self._arrow(columns, start, block, not single)
            except pa.ArrowInvalid as error:
                if single:
                    self._single = False
                elif "straddl" in str(error) and block < MOST:
                    block = min(block * 32, MOST)
                elif "Expected" in str(error) and "columns" in str(error) and not self._repaired:
                    self._repair()
                    start = None if start is None else self._start
                elif "UTF8" in str(error) or "UTF-8" in str(error):
                    self._recode()
                    start = None if start is None else self._start
                else:
                    raise
            else:
                if single and table.num_rows != self._scanned()[1] - 1 - self._dialect.skip:
                    self._single = False
                    continue
                wrong = [field.name for field in table.schema if pa.types.is_binary(field.type)]
                if not wrong and not self._repeats(table, start):
                    return table
                if wrong:
                    self._recode()
                else:
                    self._repair()
                start = None if start is None else self._start

    def _recode(self) -> None:
        if self._recoded:
            raise ValueError("the text is neither UTF-8 nor Latin-1")
        file, notes = from_latin(self._file)
        self._file, self._recoded = file, True
        self.notes += notes
        self._begin()

    def _arrow(
        self, columns: Sequence[str] | None, start: bytes | None, block: int, breaks: bool
    ) -> pa.Table:
        dialect = self._dialect
        convert = arrow_csv.ConvertOptions(
            null_values=[""],  # a context, item or group may be the word "null" or "NA"
            strings_can_be_null=False,
            column_types=dict.fromkeys((*self._text, *self._marked), pa.string()),
            include_columns=list(columns) if columns is not None else None,
        )
        read = arrow_csv.ReadOptions(block_size=block, skip_rows=dialect.skip)
        if dialect.renamed:
            read.column_names = list(dialect.names)
            read.skip_rows_after_names = 1
        parse = arrow_csv.ParseOptions(delimiter=dialect.separator, newlines_in_values=breaks)
        with self._file.stream() if start is None else _buffer(start) as stream:
            return arrow_csv.read_csv(stream, read, parse, convert)

    def _repair(self) -> None:
        """Write the file again: all cells of every row, the header once; refuse rows that have too many."""
        self._need_closed()
        dialect, folder = self._dialect, scratch()
        target = Path(folder.name) / "table.csv"
        width, missing, repeated = len(dialect.names), 0, 0
        with self._file.file() as raw, target.open("w", encoding="utf-8", newline="") as copy:
            lines = io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="")
            for _ in range(dialect.skip):
                lines.readline()
            rows = csv.reader(lines, delimiter=dialect.separator)
            writer = csv.writer(copy, lineterminator="\n")
            header = next(rows)
            writer.writerow(dialect.names)
            for row in rows:
                if row == header:
                    repeated += 1
                    continue
                if len(row) > width:
                    if any(row[width:]):
                        raise self._too_long(rows.line_num, row, width)
                    row = row[:width]
                elif 0 < len(row) < width:
                    missing += 1
                    row = row + [""] * (width - len(row))
                if row:
                    writer.writerow(row)
        if missing:
            text = "{row is|rows are} shorter than the header: the missing cells are empty"
            self.notes.append(counted(missing, text))
        if repeated:
            text = "{row repeats the header and is|rows repeat the header and are} left out"
            self.notes.append(counted(repeated, text))
        self._file = Stored(target, self._file.ending, keep=(folder, self._file.keep))
        self._repaired = True
        self._dialect = replace(dialect, separator=",", renamed=True, skip=0)
        self._begin()

    def _repeats(self, table: pa.Table, start: bytes | None) -> bool:
        """Return whether the header comes again among the rows, as in files put one after the other."""
        if self._repaired or not all(pa.types.is_string(kind) for kind in table.schema.types):
            return False  # a header makes text of every column
        mask = None
        for name in table.column_names:
            same = pc.equal(table.column(name), name)
            mask = same if mask is None else pc.and_(mask, same)
        if mask is None or not _some(mask):
            return False
        with self._file.file() if start is None else io.BytesIO(start) as raw:
            lines = iter(raw)
            for _ in range(self._dialect.skip):
                next(lines, b"")
            header = next(lines, b"").strip()
            return any(line.strip() == header for line in lines)

    def _need_closed(self) -> None:
        """Refuse a file that ends within quotes: one of them takes all that follows into its cell.

        Raises:
            InputError: With the line of that quote.
        """
        if self._closed:
            return
        self._closed = True
        if sum(block.count(b'"') for block in self._file.blocks()) % 2 == 0:
            return
        with self._file.file() as raw:
            text = io.TextIOWrapper(raw, encoding="utf-8", errors="replace", newline="")
            found = _unclosed(text, self._dialect.separator)
        if found is not None:
            raise InputError(
                f"cannot read {self._name}: the quote in line {found[0]} is never closed",
                got=short(found[1].strip()),
                remedy='close it; a quote within a quoted value is written twice, as ""',
            )

    def _too_long(self, line: int, row: list[str], width: int) -> InputError:
        return InputError(
            f"cannot read {self._name}: line {line} has {len(row)} values, and the header names {width}",
            got=short(self._dialect.separator.join(row)),
            remedy="put values that contain the separator into double quotes, or name every column",
        )

    def _finished(self, table: pa.Table, start: bytes | None) -> pa.Table:
        """Convert what Arrow takes for text and is not: decimal commas, numbers with words for missing.

        Args:
            table: What Arrow made.
            start: The part of the file that it was made of; None: all of it.
        """
        table = self._with_digits(table, start)
        for place, field in enumerate(table.schema):
            if field.name in self._text or not pa.types.is_string(field.type):
                continue
            column = table.column(place)
            found, note = _numbers(column, field.name, self._commas, self._decimal)
            if found is not column:
                table = table.set_column(place, field.name, found)
            if note and start is None and note not in self.notes:
                self.notes.append(note)
        return table

    def _with_digits(self, table: pa.Table, start: bytes | None) -> pa.Table:
        """Return a table with those columns as text that would lose digits (leading zeros, long ids)."""
        numbers = [
            f.name for f in table.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)
        ]
        zeros = self._scanned()[0] if start is None else _zeros(start, self._dialect.separator)
        doubtful = [
            name
            for name in numbers
            if name not in self._kept
            and (
                zeros or (pa.types.is_floating(table.schema.field(name).type) and beyond(table.column(name)))
            )
        ]
        if not doubtful:
            return table
        own, self._text = self._text, (*self._text, *doubtful)
        try:
            given = self._parse(doubtful, start).slice(0, table.num_rows)
        finally:
            self._text = own
        for name in doubtful:
            column = given.column(name)
            floating = pa.types.is_floating(table.schema.field(name).type)
            if _some(pc.match_substring_regex(column, ZERO)) or (floating and _rounded(column)):
                self._text = (*self._text, name)
                table = table.set_column(table.column_names.index(name), name, column)
            elif start is None:
                self._kept.add(name)
        return table

    def _scanned(self) -> tuple[bool, int]:
        """Return whether some cell of the file may begin with a zero and a digit, and the number of lines."""
        if self._scan is None:
            zeros, lines, before = False, 0, b"\n"
            for block in self._file.blocks():
                zeros = zeros or _zeros(before + block, self._dialect.separator)
                lines += int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n")))
                before = block[-2:]
            self._scan = zeros, lines + (before[-1:] != b"\n")
        return self._scan


def dialect_of(head: str, ending: str = "") -> Dialect:
    r"""Return the dialect of delimited text.

    The separator is the one by which most rows have as many cells as the header; quotes are respected.

    >>> dialect_of("slate;price\n0;4,5\n")
    Dialect(separator=';', names=('slate', 'price'), renamed=False, skip=0)

    Args:
        head: Beginning of the file, whole rows.
        ending: Extension of the file's name.
    """
    head, skip, told = head.removeprefix("\ufeff"), 0, ""
    first = head[:8].splitlines()[0] if head else ""
    if re.fullmatch(r"\"?sep=(.)\"?", first):  # Excel's
        told, skip = first.strip('"')[4], 1
        head = head[len(first) :].lstrip("\r\n")
    elif not any(_even(head, s) for s in SEPARATORS) and (skip := _titles(head)) > 0:
        head = "".join(head.splitlines(keepends=True)[skip:])
    order = sorted(SEPARATORS, key=lambda s: (s != told, s != "\t" or ending not in (".tsv", ".tab")))
    best, separator = 0.0, order[0] if told or ending in (".tsv", ".tab") else ","
    for candidate in [told] if told else order:
        score = _score(head, candidate)
        if score > best:
            best, separator = score, candidate
    rows = _rows(head, separator, 200)
    header = next(rows, [])
    names, renamed = list(header), False
    widths = [row for row in rows if row]
    wider = bool(widths) and all(len(row) == len(header) + 1 for row in widths)
    if wider and any(row[-1] for row in widths):  # otherwise every row but the header ends in a separator
        names, renamed = ["", *names], True  # R names the rows, and not their column
    filled = named(names)
    renamed = renamed or filled != names
    return Dialect(separator, tuple(filled), renamed, skip)


def named(names: Sequence[str]) -> list[str]:
    """Return names of columns, with one for each that has none."""
    taken, found, number = set(names), [], 0
    for name in names:
        new = name
        if not name:
            number += 1
            new = "unnamed" if number == 1 else f"unnamed_{number}"
            while new in taken:
                new += "_"
        found.append(new)
    return found


def _titles(head: str) -> int:
    r"""Return the number of lines above the header: titles and blank lines, with few cells that are filled.

    >>> _titles("Export of May\n\nslate,picked,price\n1,0,2.5\n1,1,3.5\n")
    2
    """
    most, found = 0.0, 0
    for separator in SEPARATORS:
        reader = csv.reader(io.StringIO(head, newline=""), delimiter=separator)
        try:
            rows = [(reader.line_num, row) for _, row in zip(range(200), reader)]  # noqa: B905
        except csv.Error:
            continue
        widths = [len(row) for _, row in rows if len(row) > 1]
        width = max(set(widths), key=widths.count, default=0)
        share = widths.count(width) * width
        if width < 3 or share <= most:
            continue
        most = share
        filled = [sum(map(bool, row)) + (len(row) < width) * (len(row) - width) for _, row in rows]
        header = next((i for i, count in enumerate(filled) if count >= width - 1), 0)
        words = not any(re.fullmatch(NUMBER, name) for name in rows[header][1])
        own = header == 1 and len(rows[0][1]) == width - 1  # R's header, without a name for the rows' names
        found = rows[header - 1][0] if header and words and not own and len(rows) > header + 1 else 0
    return found


def _even(head: str, separator: str) -> bool:
    """Return whether all rows, the first with words alone, have the same two cells or more."""
    rows = [row for row in _rows(head, separator, 200) if row]
    first = rows[0] if rows else []
    words = all(first) and not any(re.fullmatch(NUMBER, cell) for cell in first)
    return len(rows) > 1 and len(first) > 1 and words and all(len(row) == len(first) for row in rows)


def _score(head: str, separator: str) -> float:
    """Return how well a separator explains the rows: the share as wide as the header; width breaks ties."""
    rows = _rows(head, separator, 200)
    width = len(next(rows, []))
    if width < 2:
        return 0.0
    found = [1.0 if len(r) in (width, width + 1) else 0.5 if 1 < len(r) < width else 0.0 for r in rows if r]
    return (sum(found) / len(found) if found else 1.0) + min(width, 1000) * 1e-6


def _rows(head: str, separator: str, most: int) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=separator)
    try:
        for _, row in zip(range(most), reader):  # noqa: B905
            yield row
    except csv.Error:
        return


def _whole_rows(head: bytes, complete: bool) -> bytes:
    """Return the rows of a file's beginning that are whole: they end at a line break outside quotes."""
    if complete:
        return head
    data = np.frombuffer(head, np.uint8)
    inside = np.cumsum(data == ord('"')) % 2
    ends = np.flatnonzero((data == ord("\n")) & (inside == 0))
    return head[: int(ends[-1]) + 1] if ends.size else head


def _unclosed(lines: Iterable[str], separator: str) -> tuple[int, str] | None:
    """Return the line of a quote at the beginning of a cell that is never closed, or None."""
    opened: tuple[int, str] | None = None
    for number, line in enumerate(lines, start=1):
        if opened and '"' not in line:
            continue
        first, before = True, ""  # whether a cell begins here, and the character before, outside quotes
        for character in line:
            if opened:
                opened, first, before = (None, False, '"') if character == '"' else (opened, False, "")
            elif character == '"' and (first or before == '"'):
                opened = (number, line)
            else:
                first, before = character == separator, ""
    return opened


def _broken(rows: bytes) -> bool:
    """Return whether a cell of these rows has a line break."""
    data = np.frombuffer(rows, np.uint8)
    return bool((np.cumsum(data == ord('"'))[data == ord("\n")] % 2).any())


def _zeros(data: bytes, separator: str) -> bool:
    """Return whether a zero that is followed by a digit may be at the beginning of a cell.

    Pieces that fit in the processor's cache, and arrays that are used again, make it five times as fast.
    """
    codes, size = np.frombuffer(data, np.uint8), 1 << 16
    zero, other, digit = np.empty(size, bool), np.empty(size, bool), np.empty(size, np.uint8)
    for begin in range(0, codes.size - 2, size):
        piece = codes[begin : begin + size + 2]
        count = piece.size - 2
        found, mask, value = zero[:count], other[:count], digit[:count]
        np.less(piece[:-2], ord("-"), out=found)  # a line break, blank, quote, comma, but neither '-' nor '.'
        if separator > "-":
            found |= np.equal(piece[:-2], ord(separator), out=mask)
        found &= np.equal(piece[1:-1], ord("0"), out=mask)
        np.subtract(piece[2:], np.uint8(ord("0")), out=value)
        found &= np.less(value, 10, out=mask)
        if found.any():
            return True
    return False


def _buffer(data: bytes) -> pa.NativeFile:
    """Return bytes as a stream that Arrow owns, not Python."""
    copy = pa.BufferOutputStream()
    copy.write(data)
    return pa.BufferReader(copy.getvalue())


@dataclass(frozen=True)
class _Readings:
    """How the numbers of a text column can be read: with decimal commas, with decimal points, or with both.

    Attributes:
        share: Share of the filled cells that are numbers.
        comma: Whether some are numbers only with decimal commas (``2,5``, ``1.234,5``, ``1.234.567``).
        point: Whether some are numbers only with decimal points (``2.5``, ``1,234.5``, ``1,234,567``).
        either: Mask of those that are numbers either way, a thousand times apart (``1,234``, ``1.380``).
        with_comma: Whether there is a number with a comma.
    """

    share: float
    comma: bool
    point: bool
    either: pa.ChunkedArray
    with_comma: bool


def _readings(column: pa.ChunkedArray) -> _Readings:
    comma, point = (pc.match_substring_regex(column, pattern) for pattern in (COMMAS, POINTS))
    number, mark = pc.or_(comma, point), pc.match_substring_regex(column, "[.,]")
    filled = pc.sum(pc.not_equal(column, "")).as_py() or 0
    return _Readings(
        (pc.sum(number).as_py() or 0) / max(filled, 1),
        _some(pc.and_not(comma, point)),
        _some(pc.and_not(point, comma)),
        pc.and_(pc.and_(comma, point), mark),
        _some(pc.and_(number, pc.match_substring(column, ","))),
    )


def _some(mask: pa.ChunkedArray) -> bool:
    return bool(pc.any(mask).as_py())


def _unmarked(
    column: pa.ChunkedArray, name: str, decimal: str | None
) -> tuple[pa.ChunkedArray | None, list[str]]:
    """Return text with decimal points and without thousands marks, or None if both readings fit; and notes.

    Args:
        column: Text.
        name: Name of the column.
        decimal: Decimal mark of the file's columns; '' if they do not tell, None if none has a comma.
    """
    found = _readings(column)
    if found.comma or found.point:
        decimal = "" if found.comma and found.point else "," if found.comma else "."
    elif decimal is None:
        decimal = "" if found.with_comma else "."
    if not decimal and _some(found.either):
        shown = _first(column, found.either)
        return None, [f"column {name!r} is kept as text: {shown} may have a decimal or a thousands mark"]
    notes: list[str] = []
    for mark, other, pattern in ((",", ".", COMMAS), (".", ",", POINTS)):
        if decimal not in (mark, ""):
            continue
        rows = pc.match_substring_regex(column, pattern)
        marked = pc.and_(rows, pc.match_substring(column, other))
        if _some(marked):
            notes.append(f"column {name!r}: {other!r} is a thousands mark, as in {_first(column, marked)}")
        if mark == "," and _some(pc.and_(rows, pc.match_substring(column, ","))):
            notes.append("values have decimal commas")
        plain = pc.replace_substring(pc.replace_substring(column, other, ""), mark, ".")
        column = pc.if_else(rows, plain, column)
    return column, notes


def _first(column: pa.ChunkedArray, mask: pa.ChunkedArray) -> str:
    return short(column[pc.index(mask, True).as_py()].as_py().strip(), 40).strip("'")


def _numbers(
    column: pa.ChunkedArray, name: str, commas: bool, decimal: str | None
) -> tuple[pa.ChunkedArray, str]:
    """Return a text column as numbers if it is one but for its marks or few other words, and a note.

    Args:
        column: Text.
        name: Name of the column.
        commas: Whether numbers may have commas.
        decimal: Decimal mark of the file's columns; '' if they do not tell, None if none has a comma.
    """
    probe = column.slice(0, 1000)
    if not (_readings(probe).share if commas else _share(probe, NUMBER)) > 0.5:
        return column, ""
    if _some(pc.match_substring_regex(column, ZERO)):
        return column, ""
    given, notes = column, list[str]()
    if commas:
        unmarked, notes = _unmarked(column, name, decimal)
        if unmarked is None:
            return given, notes[0]
        column = unmarked
    numeric = pc.match_substring_regex(column, NUMBER)
    flags = _flagged(column, numeric)
    if flags is not None:
        column, numeric = flags, pc.or_(numeric, pc.not_equal(flags, column))
    other = pc.invert(numeric)
    words = pc.filter(column, other).unique().to_pylist() if _some(other) else []
    missing = [w for w in words if (w or "").strip() in BLANKS]
    strays = [w for w in words if (w or "").strip() not in BLANKS]
    valid = pc.sum(numeric).as_py() or 0
    if strays:
        stray = pc.is_in(column, value_set=pa.array(strays, pa.string()))
        count = pc.sum(stray).as_py()
        if count > STRAYS * (valid + count):
            return given, ""
        row = pc.index(stray, True).as_py()
        notes.append(
            f"column {name!r}: {counted(count, '{value is not a number|values are not numbers}')} "
            f"(row {row + 1}: {short(column[row].as_py(), 40)})"
        )
    if [w for w in missing if w]:
        count = pc.sum(pc.is_in(column, value_set=pa.array([w for w in missing if w], pa.string()))).as_py()
        shown = ", ".join(repr(w) for w in missing if w)
        what = counted(count, "{value is|values are}")
        notes.append(f"column {name!r}: {what} {shown}, taken as empty")
    cleaned = pc.if_else(numeric, pc.utf8_trim_whitespace(column), pa.scalar(None, pa.string()))
    for kind in (pa.int64(), pa.float64()):
        try:
            numbers = cleaned.cast(kind)
        except pa.ArrowInvalid:
            continue
        if pa.types.is_floating(kind) and beyond(numbers) and _rounded(cleaned):
            break
        return numbers, "; ".join(notes)
    return given, ""


def _rounded(column: pa.ChunkedArray) -> bool:
    """Return whether text has a whole number that a floating-point number would round."""
    long = pc.filter(column, pc.match_substring_regex(column, WHOLE))
    return len(long) > 0 and beyond(pc.utf8_trim_whitespace(long).cast(pa.float64()))


def _flagged(column: pa.ChunkedArray, numeric: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return a column whose numbers are 0 and 1 only, with its words for yes and no as such; else None."""
    if not set(pc.filter(column, numeric).unique().to_pylist()) <= {"0", "1"}:
        return None
    for digit in "01":
        words = pa.array([word for word, flag in FLAGS.items() if flag == int(digit)], pa.string())
        column = pc.if_else(pc.is_in(column, value_set=words), digit, column)
    return column


def _share(column: pa.ChunkedArray, pattern: str) -> float:
    full = pc.filter(column, pc.not_equal(column, ""))
    found = pc.mean(pc.match_substring_regex(full, pattern).cast(pa.float64())).as_py() if len(full) else 0.0
    return float(found or 0.0)
