"""From what people name (files, globs, folders, data sets, standard input, addresses) to one table.

>>> import pyarrow as pa
>>> source = open_source(pa.table({"reward": [0.5, 1.5]}))
>>> source.schema.names
['reward']
>>> source.read(["reward"]).num_rows
2
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from recurate.core.errors import InputError, nearest, need
from recurate.log.reading.containers import Ipc, Whole
from recurate.log.reading.examples import example, is_example
from recurate.log.reading.sniff import ENDINGS, PACKED, Batched, Reader, explained, reader_of
from recurate.log.reading.stored import beyond, scratch

ROUNDS = ("round", "step", "epoch", "iteration")  # a column so called says what the file's number would
FILE = "file"  # column of the files' names, where several make one table
SHARD = re.compile(
    r"(^|[-_.])(data|part|train|test|valid|validation|val|dev|eval|shard|chunk|rank|worker|seed|gpu|node|proc|process|replica)[-_.]?\d+",
    re.I,
)
COUNTS = re.compile(  # what is before a number that counts rounds
    r"(^|[^a-z])(rounds?|steps?|epochs?|iter(ation)?s?|checkpoints?|ckpt|completions?|generations?|samples|rollouts?"
    r")[-_.= ]*$",
    re.I,
)
STEPS = re.compile(r"(^|[^a-z])(rounds?|steps?|epochs?|iter(ation)?s?|checkpoints?|ckpt)[-_.= ]*$", re.I)
OF = re.compile(r"\d+[-_]of[-_]\d+", re.I)
ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://", re.I)
PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "s3a": "s3fs", "hf": "huggingface_hub"}


@dataclass(frozen=True)
class Part:
    """One file of a source."""

    name: str
    reader: Reader
    own: tuple[str, pa.Scalar] | None = None  # name and value of a column that the file's name tells
    keep: Any = None
    reopen: Callable[[tuple[str, ...]], Reader] | None = None

    def as_text(self, names: Sequence[str]) -> Part:
        """Return the file with further columns as text, if it is a text file."""
        return self if self.reopen is None else replace(self, reader=self.reopen(tuple(names)))

    @property
    def schema(self) -> pa.Schema:
        """Return the columns, that of the file's name included."""
        inside = self.reader.schema
        schema = pa.schema([pa.field(f.name, _common(f.type)) for f in inside], inside.metadata)
        if self.own is None:
            return schema
        name, value = self.own
        place, column = schema.get_field_index(name), pa.field(name, value.type)
        return schema.append(column) if place < 0 else schema.set(place, column)

    def head(self, rows: int) -> pa.Table:
        """Return the first rows, with what the file's name tells."""
        with explained(self.name):
            return self._with_own(_plain_types(self.reader.head(rows)))

    @property
    def rows(self) -> int | None:
        """The number of rows; None where only reading tells."""
        return self.reader.rows if isinstance(self.reader, Batched) else None

    def batches(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """Yield all rows of a file of known ``rows``, some at a time."""
        told = self.own[0] if self.own else None
        here = self.reader.schema.names
        inside = None if columns is None else [n for n in columns if n != told and n in here]
        assert isinstance(self.reader, Batched)
        with explained(self.name):
            for table in self.reader.batches(inside or None):
                whole = self._with_own(_plain_types(table))
                for name in columns or ():  # that other files have
                    if name not in whole.column_names:
                        whole = whole.append_column(name, pa.nulls(whole.num_rows))
                yield whole if columns is None else whole.select(list(columns))

    def read(self, columns: list[str] | None) -> pa.Table:
        """Return all rows of those of the columns that this file has, and of what its name tells."""
        told = self.own[0] if self.own else None
        inside = [n for n in self.reader.schema.names if (columns is None or n in columns) and n != told]
        wanted = inside or self.reader.schema.names[:1]  # one is read all the same, for the number of rows
        with explained(self.name):
            table = _plain_types(self.reader.read(None if columns is None else wanted))
        if columns is None:
            return self._with_own(table)
        return self._with_own(table).select([*inside, told]) if told in columns else table

    def _with_own(self, table: pa.Table) -> pa.Table:
        if self.own is None:
            return table
        name, value = self.own
        place, values = table.schema.get_field_index(name), pa.repeat(value, table.num_rows)
        return table.append_column(name, values) if place < 0 else table.set_column(place, name, values)


@dataclass(frozen=True)
class Source:
    """A table that can be read in part.

    Attributes:
        name: Name in messages and reports.
        parts: Its files, in order.
        said: What was understood of how they belong together.
    """

    name: str
    parts: tuple[Part, ...]
    said: tuple[str, ...] = ()
    _schema: pa.Schema = field(default_factory=lambda: pa.schema([]))

    @property
    def schema(self) -> pa.Schema:
        """Return the columns, with the types of the first rows, and the metadata that all files share."""
        return self._schema

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what was understood of the bytes, one phrase each; complete once all was read."""
        found: dict[str, list[str]] = {}
        for part in self.parts:
            for note in part.reader.notes:
                found.setdefault(note, []).append(part.name)
        several = len(self.parts) > 1
        phrases = [
            f"{Path(names[0]).name}: {note}"
            if several and len(names) == 1
            else f"{note} ({len(names)} files)"
            if several and len(names) < len(self.parts)
            else note
            for note, names in found.items()
        ]
        return (*self.said, *phrases)

    def head(self, rows: int = 20_000) -> pa.Table:
        """Return the first rows, of every column."""
        found, count = [], 0
        for part in self.parts:
            found.append(part.head(rows - count))
            count += found[-1].num_rows
            if count >= rows:
                break
        return self._joined(found, list(self._schema.names))

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, of the given columns only; None: of all columns.

        Raises:
            InputError: If a column does not exist, the data are damaged, or there are no rows.
        """
        names = self._schema.names
        for name in columns or ():
            if name not in names:
                raise InputError(
                    f"{self.name} has no column {name!r}",
                    got=f"columns {', '.join(names)}",
                    remedy=nearest(name, names),
                )
        wanted = None if columns is None else list(dict.fromkeys(columns))
        tables = [part.read(wanted) for part in self.parts]
        words = _disputed([table.schema for table in tables])
        if words:  # only now is it seen
            tables = [
                part.as_text(words).read(wanted) if _numeric(table.schema, words) else table
                for part, table in zip(self.parts, tables, strict=True)
            ]
        table = self._joined(tables, wanted)
        if table.num_rows == 0 or table.num_columns == 0:
            raise _no_rows(self.name)
        return table

    def _joined(self, tables: list[pa.Table], names: list[str] | None) -> pa.Table:
        if len(tables) == 1:
            table = tables[0]
        else:
            with explained(self.name):
                table = _concatenated(tables)
        if names is None:
            return table
        present = set(table.column_names)
        for name in names:
            if name not in present:
                table = table.append_column(name, pa.nulls(table.num_rows, self._schema.field(name).type))
        return table.select(names)


def open_source(source: Any, *, text: Sequence[str] = ()) -> Source:
    """Open a table: in a file, in several, in a folder, on standard input, at an address, or in memory.

    Args:
        source: A path, a glob pattern, a folder of files or a saved Hugging Face dataset, ``-`` (standard
            input), an address (``https://``, ``s3://``, ``hf://``, ...), ``example:NAME`` (a table of the
            package), several of these, or an Arrow table.
        text: Names of columns of text formats that hold text even if they look like numbers.

    Raises:
        InputError: If nothing is there, or it cannot be read as one table.
    """
    if isinstance(source, pa.Table):
        return _source("the table", [Part("the table", Whole(source))], [])
    if isinstance(source, str | os.PathLike):
        name, wanted = str(source), [os.fspath(source)]
    else:
        wanted = [os.fspath(path) for path in source]
        name = Path(wanted[0]).name + (f" and {len(wanted) - 1} more" if len(wanted) > 1 else "")
    said: list[str] = []
    parts = [part for one in wanted for part in _parts(str(one), tuple(text), said)]
    return _source(name, _numbered(parts, said), said)


def _parts(name: str, text: tuple[str, ...], said: list[str]) -> list[Part]:
    if name == "-":
        return [_standard_input(text)]
    if is_example(name):
        path = example(name)
        return [_opened(path, name, text, own=path.name)]
    if ADDRESS.match(name):
        return _remote(name, text)
    path = Path(name)
    if path.is_dir():
        return _folder(path, text, said)
    if not path.exists() and glob.has_magic(name):
        paths = [Path(p) for p in glob.glob(name, recursive=True)]
        files = [p for p in paths if p.is_file()]
        if not files:
            raise InputError("no file matches this pattern", got=name, remedy="check the path")
        return [_opened(p, str(p), text) for p in _natural(files)]
    return [_opened(path, name, text)]


def _opened(path: Path, name: str, text: tuple[str, ...], keep: Any = None, own: str | None = None) -> Part:
    """Return a file. Args: where it is, what the source calls it, and the name whose extension counts."""

    def reader(more: tuple[str, ...] = ()) -> Reader:
        return reader_of(path, name=own or name, text=(*text, *more))

    return Part(name, reader(), keep=keep, reopen=reader)


def _standard_input(text: tuple[str, ...]) -> Part:
    folder = scratch()
    target = Path(folder.name) / "stdin"
    with target.open("wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    return _opened(target, "standard input", text, folder)


def _remote(name: str, text: tuple[str, ...]) -> list[Part]:
    """Fetch files from an address; each is copied to a temporary file first."""
    scheme = name.split("://")[0].lower()
    remedy = "pip install 'recurate[remote]', or download the file first"
    need(["fsspec", *([PACKAGES[scheme]] if scheme in PACKAGES else [])], f"reading {scheme}://", remedy)
    import fsspec

    folder = scratch()
    try:
        system, path = fsspec.url_to_fs(name)
        if glob.has_magic(path) and scheme not in ("http", "https"):
            found = system.glob(path)
        elif system.isdir(path):
            found = [p for p in system.ls(path, detail=False) if _ending(p) in ENDINGS]
        else:
            found = [path]
        parts = []
        for number, file in enumerate(_natural(found)):
            target = Path(folder.name) / str(number)
            system.get_file(file, str(target))
            shown = name if len(found) == 1 else file
            own = Path(str(shown).split("?")[0]).name
            parts.append(_opened(target, str(shown), text, folder, own))
    except InputError:
        raise
    except Exception as error:  # every file system has errors of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"cannot fetch {name}", got=reason[:160], remedy="check the address, or download the file first"
        ) from None
    if not parts:
        raise InputError("no file of a known format is there", got=name, remedy="name one file")
    return parts


# --- folders --------------------------------------------------------------------------------------


def _folder(folder: Path, text: tuple[str, ...], said: list[str]) -> list[Part]:
    if (folder / "dataset_dict.json").is_file():
        return _splits(folder, said)
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        said.append("a saved Hugging Face dataset")
        return _saved(folder)
    kinds: dict[str, list[Path]] = {}
    for path in folder.iterdir():
        if path.is_file() and path.name[0] not in "._" and _ending(path.name) in ENDINGS:
            kinds.setdefault(_ending(path.name), []).append(path)
    if len(kinds) > 1:  # settings and descriptions lie beside the data
        kinds = {kind: files for kind, files in kinds.items() if kind not in (".json", ".txt")} or kinds
    if len(kinds) > 1:
        counts = ", ".join(f"{len(files)} {kind}" for kind, files in sorted(kinds.items()))
        raise InputError(
            "this folder is neither a run, nor a fit, nor files of one format",
            got=f"{folder}: {counts}",
            remedy=f"name the files, as in '{folder}/*{sorted(kinds)[0]}'",
        )
    if not kinds:
        inner = [p for p in folder.iterdir() if p.is_dir() and p.name[0] not in "._"]
        if len(inner) == 1:
            return _folder(inner[0], text, said)
        raise InputError(
            "this folder is neither a run with a complete round, nor a fit, nor a folder of tables",
            got=folder,
            remedy="give a log, a run's or fit's folder, or a folder of Parquet, JSON lines or CSV files",
        )
    (files,) = kinds.values()
    return [_opened(path, str(path), text) for path in _natural(files)]


def _saved(folder: Path) -> list[Part]:
    """Return the files of a dataset that ``save_to_disk`` wrote."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        names = [entry["filename"] for entry in state["_data_files"]]
    except (ValueError, KeyError, TypeError):
        names = [path.name for path in _natural(list(folder.glob("data-*.arrow")))]
    parts = []
    for name in names:
        path = folder / Path(name).name
        if not path.is_file():
            raise InputError("a file of this dataset is missing", got=path, remedy="save the dataset again")
        with explained(str(path)):
            parts.append(Part(str(path), Ipc(path)))
    if not parts:
        raise _no_rows(str(folder))
    return parts


def _splits(folder: Path, said: list[str]) -> list[Part]:
    try:
        names = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
    except (ValueError, KeyError, TypeError):
        names = sorted(p.parent.name for p in folder.glob("*/state.json"))
    found = {name: _saved(folder / name) for name in names if (folder / name).is_dir()}
    if not found:
        raise _no_rows(str(folder))
    if len({tuple(sorted(parts[0].schema.names)) for parts in found.values()}) > 1:
        raise InputError(
            "the splits of this dataset have different columns",
            got=f"{folder}: {', '.join(found)}",
            remedy=f"name one of them, such as {folder / next(iter(found))}",
        )
    word = "split" if len(found) == 1 else "splits"
    said.append(f"a saved Hugging Face dataset, {word} {', '.join(found)}")
    return [part for parts in found.values() for part in parts]


def _ending(name: str) -> str:
    endings = [ending.lower() for ending in Path(name).suffixes]
    if endings and endings[-1] in PACKED:
        endings.pop()
    return endings[-1] if endings else ""


def _natural(paths: Sequence[Any]) -> list[Any]:
    """Return paths in the order of the numbers in their names: 2 before 10."""
    return sorted(
        paths,
        key=lambda p: [(0, int(w), "") if w.isdigit() else (1, 0, w) for w in re.findall(r"\d+|\D+", str(p))],
    )


# --- several files --------------------------------------------------------------------------------


def _numbered(parts: list[Part], said: list[str]) -> list[Part]:
    """Return the files, with the number in their names as the round where no column says it."""
    if len(parts) < 2:
        return parts
    stems = [Path(part.name).name for part in parts]
    told = {name for part in parts for name in part.reader.schema.names if name.lower() in ROUNDS}
    numbers = numbers_of(stems)
    if numbers is None or (told and not (_stepped(stems) and all(_coarse(parts, name) for name in told))):
        idle = not told and not any(map(_shard, stems)) and _varying(stems)
        note = " (numbers in their names are not taken for rounds)" if idle else ""
        said.append(f"{len(parts)} files{note}")
        if any(FILE in part.reader.schema.names or _is_log(part) for part in parts):
            return parts
        return [replace(part, own=(FILE, pa.scalar(stem))) for part, stem in zip(parts, stems, strict=True)]
    instead = f", not {', '.join(sorted(told))}, which is the same in several files" if told else ""
    said.append(f"{len(parts)} files; the round is the number in the file's name{instead}")
    ordered = sorted(zip(numbers, parts, strict=True), key=lambda pair: pair[0])
    return [replace(part, own=("round", pa.scalar(number, pa.int64()))) for number, part in ordered]


def _is_log(part: Part) -> bool:
    """Return whether recurate wrote the file."""
    return b"recurate" in (part.reader.schema.metadata or {})


def is_shard(name: str) -> bool:
    """Return whether a file's name says that it holds a part of one table, not a seed's or a run's own."""
    return _shard(name) and not re.search(r"seed|replica", name, re.I)


def _stepped(names: Sequence[str]) -> bool:
    """Return whether the number that varies in the files' names is said to be a step's."""
    varying = _varying(names)
    return varying is not None and bool(STEPS.search(varying[1]) or not (varying[1] or varying[2]))


def _coarse(parts: Sequence[Part], name: str) -> bool:
    """Return whether a column of rounds is constant in each file, and the same in several files."""
    found = []
    for part in parts:
        if name in part.reader.schema.names:
            values = part.read([name]).column(name).unique()
            if len(values) > 1:
                return False
            found.append(values[0].as_py())
    return len(set(found)) < len(found)


def numbers_of(names: Sequence[str]) -> list[int] | None:
    """Return the number in each file's name that counts steps, or None.

    It is the only number that varies, each file has its own, and it is the whole name or follows a word such
    as ``step``: what varies in ``best_of_4`` and ``best_of_8`` is no round.

    >>> numbers_of(["completions_00002.parquet", "completions_00010.parquet"])
    [2, 10]
    >>> numbers_of(["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"])
    """
    if any(map(_shard, names)):
        return None
    varying = _varying(names)
    if varying is None:
        return None
    numbers, before, after = varying
    if not (COUNTS.search(before) or (not before and not after)) or re.match(r"[.,]?\d|[a-z]", after, re.I):
        return None
    return numbers if len(set(numbers)) == len(names) else None


def _shard(name: str) -> bool:
    stem = _stem(name)
    return bool(SHARD.search(stem) or OF.search(stem) or re.fullmatch(r"0\d{3,}", stem))


def _varying(names: Sequence[str]) -> tuple[list[int], str, str] | None:
    """Return the only number that varies in names that are alike otherwise, and what is around it."""
    pieces = [re.split(r"(\d+)", _stem(name)) for name in names]
    if len({len(split) for split in pieces}) > 1:
        return None
    places = [i for i, column in enumerate(zip(*pieces, strict=True)) if len(set(column)) > 1]
    if len(places) != 1 or places[0] % 2 == 0:
        return None
    place, first = places[0], pieces[0]
    return [int(split[place]) for split in pieces], "".join(first[:place]), "".join(first[place + 1 :])


def _stem(name: str) -> str:
    """Return a file's name without its extensions of format and compression."""
    stem = Path(name)
    while stem.suffix.lower() in (*ENDINGS, *PACKED):
        stem = Path(stem.stem)
    return stem.name


def _source(name: str, parts: list[Part], said: list[str]) -> Source:
    first = parts[0].schema.names
    for part in parts:
        names = part.schema.names
        if not names:
            raise _no_rows(part.name)
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise InputError(
                f"{part.name} has several columns with the same name",
                got=", ".join(repeated),
                remedy="give every column its own name",
            )
        if 2 * len(set(names) & set(first)) < len(set(names) | set(first)):
            raise InputError(
                f"{part.name} has other columns than {parts[0].name}",
                got=f"{', '.join(names)}; before {', '.join(first)}",
                remedy="read files of one kind at a time",
            )
    words = _disputed([part.schema for part in parts])
    if words:
        parts = [part.as_text(words) if _numeric(part.schema, words) else part for part in parts]
    schemas = [part.schema for part in parts]
    every = list(dict.fromkeys(n for schema in schemas for n in schema.names))
    partial = [n for n in every if any(schema.get_field_index(n) < 0 for schema in schemas)]
    if partial:
        said.append(f"not all files have {', '.join(map(repr, partial))}; it is empty in the others")
    kinds: dict[str, pa.DataType] = {}
    for part in parts:
        for column in part.schema:
            kinds[column.name] = _wider(kinds.get(column.name), column.type)
    schema = pa.schema([pa.field(n, kinds[n]) for n in every], _shared([part.schema for part in parts]))
    return Source(name, tuple(parts), tuple(said), schema)


def _disputed(schemas: Sequence[pa.Schema]) -> list[str]:
    """Return the columns that are text in some files and numbers in others."""
    texts = {f.name for schema in schemas for f in schema if pa.types.is_string(f.type)}
    return [name for name in sorted(texts) if any(_numeric(schema, [name]) for schema in schemas)]


def _numeric(schema: pa.Schema, names: Sequence[str]) -> bool:
    kinds = [schema.field(name).type for name in names if name in schema.names]
    return any(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds)


def _wider(one: pa.DataType | None, other: pa.DataType) -> pa.DataType:
    if one is None or one == other:
        return other
    if {pa.types.is_boolean(one), pa.types.is_boolean(other)} == {True, False}:  # Arrow knows none for both
        number = other if pa.types.is_boolean(one) else one
        if pa.types.is_integer(number) or pa.types.is_floating(number):
            return number
    try:
        fields = [pa.schema([("x", kind)]) for kind in (one, other)]
        return pa.unify_schemas(fields, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()


def _concatenated(tables: list[pa.Table]) -> pa.Table:
    """Return tables one below the other; a column that is text in one of them is text in all."""
    kinds: dict[str, pa.DataType] = {}
    for table in tables:
        for column in table.schema:
            kinds[column.name] = _wider(kinds.get(column.name), column.type)
    for name, kind in kinds.items():
        own = [table.column(name) for table in tables if name in table.column_names]
        if pa.types.is_floating(kind) and any(pa.types.is_integer(c.type) and beyond(c) for c in own):
            kinds[name] = pa.string()  # the whole numbers would be rounded
    cast = []
    for table in tables:
        fields = [pa.field(n, kinds[n]) for n in table.column_names]
        changed = [
            c if c.type == f.type else _texts(c) if pa.types.is_string(f.type) else c.cast(f.type)
            for c, f in zip(table.columns, fields, strict=True)
        ]
        cast.append(pa.table(changed, schema=pa.schema(fields)))
    joined = pa.concat_tables(cast, promote_options="permissive")
    return joined.replace_schema_metadata(_shared([table.schema for table in tables]))


def _shared(schemas: Sequence[pa.Schema]) -> dict[bytes, bytes] | None:
    """Return the metadata that tables have in common."""
    first, *others = [schema.metadata or {} for schema in schemas]
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in others)} or None


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values = column.to_pylist()
        words = [v if v is None or isinstance(v, str) else json.dumps(v, default=str) for v in values]
        return pa.chunked_array([pa.array(words, pa.string())])


def _plain_types(table: pa.Table) -> pa.Table:
    """Return a table with the types that files commonly have, whatever wrote it."""
    for place, column in enumerate(table.schema):
        kind = _common(column.type)
        if kind != column.type:
            table = table.set_column(place, column.name, _plain(table.column(place), kind))
    return table


def _plain(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column as a common type; bytes that are no text, such as UUIDs, in hexadecimal."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        if pa.types.is_integer(kind):  # decimal numbers that are too long
            return column.cast(pa.string())
        if not pa.types.is_string(kind):
            return column
    return pa.chunked_array([pa.array([v and v.hex() for v in column.to_pylist()], pa.string())])


def _common(kind: pa.DataType) -> pa.DataType:
    """Return the type that files use for a type that differs in storage only, as those of polars."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(_common(kind.value_type))
    if isinstance(kind, pa.BaseExtensionType):
        return _common(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _common(kind.value_type)
    if _is_bytes(kind):
        return pa.string()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_decimal(kind):
        return pa.float64() if kind.scale > 0 else pa.int64()
    return kind


def _is_bytes(kind: pa.DataType) -> bool:
    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(check(kind) for check in (*checks, pa.types.is_binary_view))


def _no_rows(name: str) -> InputError:
    return InputError("the file has no rows", got=name, remedy="a log has at least one row")
