"""JSON: lines, arrays, and objects that wrap the rows.

Lines are read by Arrow where it can: every line is an object and no column changes its type. All else is read
by Python, which knows exactly what is wrong where.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.json as arrow_json

from recurate.core.errors import counted, short
from recurate.core.tables import DEEP, TEXT, check_depth, opening
from recurate.log.reading.stored import BLANKS, EXACT, FLAGS, STRAYS, Stored, beyond, from_latin

HEAD = 1 << 18
BLOCK = 1 << 20
BATCH = 50_000
INT64 = (-(2**63), 2**63 - 1)
NUMERIC = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*").fullmatch
CALLED = {"number": "a number", "flag": "true or false", "list": "a list", "object": "an object"}
PLURAL = {"number": "numbers", "flag": "true or false", "list": "lists", "object": "objects"}

Rows = Callable[[], Iterable[dict[str, Any]]]


class BadLine(ValueError):
    """A line that is not a JSON object."""


# --- values of any type as columns ----------------------------------------------------------------


@dataclass
class Tally:
    """What kinds of values a column holds, and where each was seen first."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, tuple[int, Any]] = field(default_factory=dict)
    binary: bool = True  # whether all numbers are 0 or 1

    def add(self, row: int, value: Any) -> None:
        """Count one value."""
        kind = _kind(value)
        self.counts[kind] += 1
        if self.binary and kind in ("int", "float", "digits", "big", "long", "id"):
            self.binary = str(value) in ("0", "1")
        if kind not in self.first:
            self.first[kind] = (row, value)


_KINDS = {bool: "flag", float: "float", list: "list", dict: "object"}


def _kind(value: Any) -> str:
    if isinstance(value, str):
        if NUMERIC(value):
            return "id" if is_id(value) else "digits"
        return "blank" if value.strip() in BLANKS else "yes" if value in FLAGS else "word"
    if type(value) is int:
        return "int" if -EXACT < value < EXACT else "big" if INT64[0] <= value <= INT64[1] else "long"
    return _KINDS[type(value)]


def columns_of(
    rows: Rows, names: Sequence[str] | None = None, text: Sequence[str] = ()
) -> tuple[pa.Table, list[str]]:
    """Return rows of any values as a table, and a note on each column whose values stray from its type.

    Args:
        rows: Function that returns the rows from the first; it is called twice.
        names: Columns to take; None: all that occur.
        text: Columns that hold text.
    """
    tallies: dict[str, Tally] = {} if names is None else {name: Tally() for name in names}
    count = 0
    for row in rows():
        count += 1
        for name, value in row.items():
            if value is None:
                if names is None and name not in tallies:
                    tallies[name] = Tally()
                continue
            tally = tallies.get(name)
            if tally is None:
                if names is not None:
                    continue
                tally = tallies[name] = Tally()
            tally.add(count, value)
    kinds, notes = {}, []
    for name, tally in tallies.items():
        kinds[name], note = ("text", "") if name in text and tally.counts else _decide(name, tally)
        notes += [note] if note else []
    pieces: dict[str, list[pa.Array]] = {name: [] for name in kinds}
    left = iter(rows())
    while batch := list(islice(left, BATCH)):
        for name, kind in kinds.items():
            pieces[name].append(_array([row.get(name) for row in batch], kind))
    return pa.table({name: _joined(parts) for name, parts in pieces.items()}), notes


def is_id(text: str) -> bool:
    """Return whether a number in text would lose digits: leading zeros, or those of a long whole one."""
    text = text.strip()
    if text[:1] == "0" and text[1:2].isdigit():
        return True
    return len(text) >= 16 and text.lstrip("+-").isdigit() and abs(int(text)) >= EXACT


def _decide(name: str, tally: Tally) -> tuple[str, str]:
    """Return the type of a column, and a note on the values that are of another."""
    counts = tally.counts
    numbers, flags = counts["int"] + counts["digits"], counts["flag"] + counts["yes"]
    mixed = numbers and flags and counts["int"] + counts["flag"]
    if mixed and tally.binary and counts.total() == numbers + flags + counts["blank"]:
        return "binary", _emptied(name, tally)
    groups = {
        "number": counts["int"] + counts["float"] + counts["big"] + counts["long"],
        "flag": counts["flag"],
        "text": counts["word"] + counts["yes"] + counts["digits"] + counts["id"] + counts["blank"],
        "list": counts["list"],
        "object": counts["object"],
    }
    total = sum(groups.values())
    if not total:
        return "null", ""
    kind = max(groups, key=lambda group: groups[group])
    alike = groups[kind]
    if kind == "number" and not counts["word"] + counts["yes"]:
        alike += counts["digits"]
    blank = counts["blank"] if kind in ("number", "flag") else 0
    stray = total - alike - blank
    if stray and (kind == "text" or stray > STRAYS * total):
        return "text", ""
    note = _emptied(name, tally) if blank else ""
    if stray:
        row, value = min(first for what, first in tally.first.items() if _group(what) not in (kind, "blank"))
        what = counted(stray, f"{{value is not {CALLED[kind]}|values are not {PLURAL[kind]}}}")
        note = f"column {name!r}: {what} (row {row}: {short(value, 40)})"
    if kind == "number":
        rounded = counts["float"] or counts["digits"]
        if counts["long"] or counts["id"] or (counts["big"] and rounded):
            return "text", ""  # such long numbers are ids
        kind = "float" if counts["float"] or counts["digits"] else "int"
    return kind, note


def _emptied(name: str, tally: Tally) -> str:
    """Return the note on words for no value, or ''."""
    blank = tally.counts["blank"]
    if not blank:
        return ""
    what = counted(blank, "{value is|values are}")
    return f"column {name!r}: {what} {tally.first['blank'][1]!r} or the like, taken as empty"


def _group(kind: str) -> str:
    groups = {
        "int": "number",
        "float": "number",
        "long": "number",
        "word": "text",
        "yes": "text",
        "digits": "text",
    }
    return groups.get(kind, kind)  # a blank is of no group


def _array(values: list[Any], kind: str) -> pa.Array:
    if kind == "text":
        return pa.array([_word(v) for v in values], pa.string())
    if kind == "int":
        return pa.array([v if type(v) is int else None for v in values], pa.int64())
    if kind == "binary":
        return pa.array([_flag(v) for v in values], pa.int64())
    if kind == "float":
        return pa.array([_float(v) for v in values], pa.float64())
    if kind == "flag":
        return pa.array([v if type(v) is bool else None for v in values], pa.bool_())
    if kind == "null":
        return pa.nulls(len(values))
    wanted = list if kind == "list" else dict
    values = [v if isinstance(v, wanted) else None for v in values]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([_word(v) for v in values], pa.string())


def _word(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _float(value: Any) -> float | None:
    if isinstance(value, bool | list | dict) or value is None:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number


def _flag(value: Any) -> int | None:
    if isinstance(value, str):
        return FLAGS.get(value, int(value) if value in ("0", "1") else None)
    return None if value is None else int(value)


def _joined(parts: list[pa.Array]) -> pa.ChunkedArray:
    """Return batches as one column: of the type that holds them all or, where none does, as JSON text."""
    if len({part.type for part in parts}) == 1:
        return pa.chunked_array(parts)
    try:
        fields = [pa.schema([("x", part.type)]) for part in parts]
        kind = pa.unify_schemas(fields, promote_options="permissive").field(0).type
        joined = pa.chunked_array([part if part.type == kind else part.cast(kind) for part in parts], kind)
        joined.validate()  # Arrow makes invalid arrays of some nested ones
        return joined
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        words = [pa.array([_word(v) for v in part.to_pylist()], pa.string()) for part in parts]
        return pa.chunked_array(words, pa.string())


# --- lines ----------------------------------------------------------------------------------------


class Lines:
    """A reader of JSON lines.

    Args:
        file: UTF-8 text.
        name: Name of the file in messages.
        text: Names of columns that hold text even if they look like numbers.
    """

    def __init__(self, file: Stored, name: str, text: Sequence[str] = ()) -> None:
        self._file, self._name, self._recoded = file, name, False
        self._text = (*TEXT, *text)
        self.notes: list[str] = []
        self.keep: Any = None
        try:
            self._begin()
        except UnicodeDecodeError:
            self._recode()
            self._begin()

    def _recode(self) -> None:
        """Go on with the text as Latin-1: somewhere it is not UTF-8."""
        if self._recoded:
            raise ValueError("the text is neither UTF-8 nor Latin-1")
        self._file, notes = from_latin(self._file)
        self._recoded = True
        self.notes += notes

    def _begin(self) -> None:
        first: list[dict[str, Any]] = []
        size = 0
        for row, width in self._parsed():
            first.append(row)
            size += width
            if size > HEAD or len(first) >= 2000:
                break
        self._wide = size > HEAD or size > 64 * 1024 * max(1, len(first))
        self._first, _ = columns_of(lambda: first, None, self._text)
        self.schema = self._first.schema

    def _parsed(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield every row and its length in bytes; blank lines and those that say null are skipped."""
        decode = json.JSONDecoder().raw_decode
        with self._file.file() as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    check_depth(line)
                    row = json.loads(line)
                except RecursionError:
                    raise BadLine(f"line {number} is nested too deeply") from None
                except UnicodeDecodeError:
                    raise
                except ValueError as error:
                    several = _several(line.decode("utf-8"), decode)
                    if several is None:
                        raise BadLine(f"line {number} is not valid JSON: {_reason(error)}") from None
                    yield from ((row, len(line)) for row in several)
                    continue
                if not isinstance(row, dict):
                    raise BadLine(f"line {number} is not an object: {short(row, 40)}")
                yield row, len(line)

    def _rows(self) -> Iterator[dict[str, Any]]:
        return (row for row, _ in self._parsed())

    def head(self, rows: int) -> pa.Table:
        """Return the first rows."""
        if rows <= self._first.num_rows:
            return self._first.slice(0, rows)
        return columns_of(lambda: islice(self._rows(), rows), None, self._text)[0]

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, of the given columns only."""
        if self._plain():
            for attempt in (self._only, self._inferred):
                try:
                    table = attempt(columns)
                except pa.ArrowInvalid:
                    continue
                if table is not None and not _doubtful(table):
                    return table
        try:
            table, notes = columns_of(self._rows, columns, self._text)
        except UnicodeDecodeError:
            self._recode()
            return self.read(columns)
        self.notes += [note for note in notes if note not in self.notes]
        return table

    def _plain(self) -> bool:
        """Return whether every line begins with an object or is empty: Arrow crashes where one says null."""
        ends, begun, before = 1, 0, b"\n"  # line breaks, and those before an object, another or the end
        for block in self._file.blocks():
            if len(block) > DEEP and any(opening(line) > DEEP for line in block.split(b"\n")):
                return False
            if b"\r" in block or before == b"\r":
                block = ((b"\r" if before == b"\r" else b"") + block).replace(b"\r\n", b"\n")
                if b"\r" in block[:-1]:
                    return False
            objects, lines = block.count(b"\n{"), block.count(b"\n")
            if lines - block.endswith(b"\n") != objects:
                objects += block.count(b"\n\n")
            ends, begun = ends + lines, begun + objects
            begun += before == b"\n" and block[:1] in (b"{", b"\n")
            before = block[-1:]
        return ends == begun + (before == b"\n")

    def _only(self, columns: Sequence[str] | None) -> pa.Table | None:
        """Read some columns, of the types that the first rows have."""
        if columns is None:
            return None
        fields = [self.schema.field(name) for name in columns]
        if any(pa.types.is_null(f.type) or _holds_objects(f.type) for f in fields):
            return None
        return self._arrow(pa.schema(fields), "ignore").select(list(columns))

    def _inferred(self, columns: Sequence[str] | None) -> pa.Table | None:
        """Read all columns of text as text, and let Arrow find the types of the others."""
        words = [f for f in self.schema if _holds_text(f.type)]
        table = self._arrow(pa.schema(words), "infer")
        order = [*self.schema.names, *table.column_names] if columns is None else columns
        return table.select([name for name in dict.fromkeys(order) if name in table.column_names])

    def _arrow(self, schema: pa.Schema, unexpected: str) -> pa.Table:
        parse = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected)
        block = 1 << 26 if self._wide else BLOCK
        while True:
            try:
                with self._file.stream() as stream:
                    options = arrow_json.ReadOptions(block_size=block)
                    table = arrow_json.read_json(stream, options, parse)
                break
            except pa.ArrowInvalid as error:
                if "straddl" not in str(error) or block >= 1 << 30:
                    raise
                block *= 32
        table.validate(full=True)  # checks that text is UTF-8
        return table


def _holds_objects(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _holds_objects(kind.value_type)
    return bool(pa.types.is_struct(kind))


def _holds_text(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _holds_text(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_holds_text(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_string(kind))


def _doubtful(table: pa.Table) -> bool:
    """Return whether Arrow may have changed values: rounded long whole numbers, or taken text for a time."""
    for column in table.columns:
        if pa.types.is_nested(column.type):
            if any(_doubtful(pa.table(inner)) for inner in map(_inside, column.chunks)):
                return True
        elif pa.types.is_temporal(column.type) or (pa.types.is_floating(column.type) and beyond(column)):
            return True
    return False


def _inside(values: pa.Array) -> dict[str, pa.Array]:
    """Return what lists or objects hold."""
    parts = values.flatten()
    return {str(i): part for i, part in enumerate(parts if isinstance(parts, list) else [parts])}


def _several(line: str, decode: Callable[[str, int], tuple[Any, int]]) -> list[dict[str, Any]] | None:
    """Return the objects that stand one after the other on a line, or None."""
    found, place = [], 0
    while place < len(line):
        try:
            row, place = decode(line, place)
        except (ValueError, RecursionError):
            return None
        if not isinstance(row, dict):
            return None
        found.append(row)
        while place < len(line) and line[place] in " \t\r\n":
            place += 1
    return found


def _reason(error: ValueError) -> str:
    """Return what Python's JSON parser says, without the position in the whole text."""
    return re.sub(r": line \d+ column (\d+) \(char \d+\)$", r" (character \1)", str(error))


# --- whole documents ------------------------------------------------------------------------------


def document(data: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of a JSON document, and what was understood of it.

    Raises:
        ValueError: If it holds no list of objects.
    """
    try:
        value = json.loads(data)
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        several = _several(data.decode("utf-8").strip(), json.JSONDecoder().raw_decode)
        if several is None or len(several) < 2:
            where = re.search(r"line (\d+) column (\d+)", str(error))
            reason = str(error).split(": line ")[0]
            place = f"line {where[1]}, character {where[2]}: " if where else ""
            raise BadLine(f"{place}{reason}") from None
        return several, []
    return rows_of(value)


def rows_of(value: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of a JSON value: an array of objects, or an object that wraps one or its columns.

    >>> rows_of({"model": "m", "data": [{"a": 1}]})
    ([{'a': 1}], ["the rows are under 'data'"])

    Raises:
        ValueError: If there are none.
    """
    if isinstance(value, list):
        bad = next((i for i, row in enumerate(value) if not isinstance(row, dict)), None)
        if bad is not None:
            raise ValueError(f"this is not an array of objects: element {bad + 1} is {short(value[bad], 40)}")
        return value, []
    if not isinstance(value, dict):
        raise ValueError(f"this is neither an array nor an object: {short(value, 40)}")
    lists = {
        f"{key}.{inner}" if inner else key: rows
        for key, part in value.items()
        for inner, rows in [("", part), *(part.items() if isinstance(part, dict) else [])]
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)
    }
    if lists:
        key = max(lists, key=lambda k: len(lists[k]))
        return lists[key], [f"the rows are under {key!r}"]
    columns = list(value.values())
    if columns and all(isinstance(c, list) for c in columns) and len({len(c) for c in columns}) == 1:
        rows = [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
        return rows, ["one object holds the columns"]
    if columns and all(isinstance(c, dict) for c in columns):
        if all(re.fullmatch(r"\d+", key) for key in columns[0]) and len({tuple(c) for c in columns}) == 1:
            keys = list(columns[0])  # as pandas writes: columns, then rows
            if not all(re.fullmatch(r"\d+", key) for key in value):
                return [{name: value[name][key] for name in value} for key in keys], [
                    "one object holds the columns"
                ]
        return columns, ["one object holds the rows by their keys"]
    raise ValueError(f"this object holds no list of rows; its keys are {short(', '.join(value), 60)}")


def whole(file: Stored, text: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """Return a JSON document as a table, and what was understood of it."""
    data = b"".join(file.blocks())
    check_depth(data)
    rows, notes = document(data)
    table, more = columns_of(lambda: rows, None, (*TEXT, *text))
    return table, notes + more


def is_lines(head: bytes, ending: str) -> bool:
    """Return whether a text that begins with a brace is JSON lines rather than one object.

    One single line is a row in a ``.jsonl`` or ``.ndjson`` file. In a ``.json`` file it is one object, and in
    any other an object if it holds a list or another.

    Args:
        head: Beginning of the text.
        ending: Extension of the file's name.
    """
    line, _, rest = head.lstrip().partition(b"\n")
    named = ending in (".jsonl", ".ndjson")
    try:
        row = json.loads(line)
    except RecursionError:
        return True
    except ValueError:
        return named and rest.lstrip()[:1] != b'"'
    if named or rest.strip():
        return True
    return ending != ".json" and not any(isinstance(value, list | dict) for value in row.values())
