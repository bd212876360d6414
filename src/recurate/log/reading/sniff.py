"""What kind of table a file holds: its first bytes decide, and the extension where they do not."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from recurate.core.errors import InputError, short
from recurate.log.reading.containers import PREFLIB, Ipc, Parquet, Whole, excel, feather_one, preflib
from recurate.log.reading.delimited import Delimited
from recurate.log.reading.objects import BadLine, Lines, is_lines, whole
from recurate.log.reading.stored import NotText, Stored, as_utf8, from_latin, scratch, stored

DELIMITED = (".csv", ".tsv", ".txt", ".dat", ".tab")
JSON = (".json", ".jsonl", ".ndjson")
BINARY = (".parquet", ".feather", ".arrow", ".ipc", ".xlsx")
ENDINGS = (*BINARY, *JSON, *DELIMITED, *PREFLIB)
PACKED = (".gz", ".zst", ".zip")


class Reader(Protocol):
    """A file that can be read."""

    schema: pa.Schema
    notes: list[str]
    keep: Any  # what must live as long as the reader does

    def head(self, rows: int) -> pa.Table:
        """Return the first rows."""

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, of the given columns only."""


@runtime_checkable
class Batched(Reader, Protocol):
    """A file that tells its number of rows, and can be read some rows at a time."""

    rows: int

    def batches(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """Yield all rows, of the given columns only."""


def reader_of(path: Path, *, name: str | None = None, text: Sequence[str] = ()) -> Reader:
    """Return the reader of a file.

    Args:
        path: Path of the file.
        name: Name in messages, whose extension counts; None: the path.
        text: Names of columns of text formats that hold text even if they look like numbers.

    Raises:
        InputError: If the file is missing, empty, damaged or of an unknown format.
    """
    name = str(path) if name is None else name
    if not path.is_file():
        raise InputError(
            "no such file" if not path.exists() else "this is not a file", got=name, remedy="check the path"
        )
    if path.stat().st_size == 0:
        raise InputError("the file is empty", got=name, remedy="a log has at least one row")
    with explained(name):
        return _reader(path, name, tuple(text))


def _reader(path: Path, name: str, text: tuple[str, ...]) -> Reader:
    file, notes = stored(path, Path(name).name)
    start = file.head(8)
    if not start:
        raise InputError("the file has no rows", got=name, remedy="a log has at least one row")
    binary = _binary(file, start, text)
    if binary is not None:
        binary.notes[:0] = notes
        return binary
    if file.ending in BINARY:
        raise ValueError(f"this is not {_article(file.ending)} file; it begins with {start[:8]!r}")
    known = file.ending in ENDINGS or file.ending == ""
    try:
        file, more = as_utf8(file)
    except NotText as error:
        raise (error if known else _unknown(name)) from None
    head = file.head()
    begins = head.lstrip()[:1]
    if not known and begins not in (b"{", b"["):
        raise _unknown(name)
    if not begins:
        raise InputError("the file has no rows", got=name, remedy="a log has at least one row")
    found = _text(file, head, name, text)
    found.notes[:0] = [*notes, *more]
    return found


def _text(file: Stored, head: bytes, name: str, text: tuple[str, ...]) -> Reader:
    begins = head.lstrip()[:1]
    if file.ending in PREFLIB or head.startswith(b"# FILE NAME:"):
        return preflib(file)
    if file.ending in JSON or (begins in (b"{", b"[") and _is_json(file, head)):
        if begins == b"{" and is_lines(head, file.ending):
            return Lines(file, name, text)
        if begins in (b"{", b"[") or file.ending == ".json":
            try:
                return Whole(*whole(file, text))
            except UnicodeDecodeError:
                file, notes = from_latin(file)
                table, more = whole(file, text)
                return Whole(table, [*notes, *more])
        return Lines(file, name, text)
    return Delimited(file, name, text)


def _is_json(file: Stored, head: bytes) -> bool:
    """Return whether a text of another extension is JSON all the same."""
    try:
        if is_lines(head, ".jsonl") and head.lstrip()[:1] == b"{":
            Lines(file, "", ()).head(1)
        else:
            whole(file, ())
    except (ValueError, RecursionError):
        return False
    return True


def _binary(file: Stored, start: bytes, text: tuple[str, ...]) -> Reader | None:
    if file.ending == ".xlsx" and start[:2] == b"PK":
        return excel(file.path, text)
    kinds: dict[bytes, Callable[[Path], Reader]] = {
        b"PAR1": Parquet,
        b"ARROW1": Ipc,
        b"\xff\xff\xff\xff": Ipc,
        b"FEA1": feather_one,
    }
    kind = next((kind for magic, kind in kinds.items() if start.startswith(magic)), None)
    if kind is None:
        return None
    if file.compression is not None:
        file = unpacked(file)
    reader = kind(file.path)
    reader.keep = file.keep
    return reader


def unpacked(file: Stored) -> Stored:
    """Return a compressed file unpacked to a temporary one."""
    folder = scratch()
    target = Path(folder.name) / "unpacked"
    with target.open("wb") as copy:
        copy.writelines(file.blocks())
    return Stored(target, file.ending, keep=(folder, file.keep))


def _article(ending: str) -> str:
    return {".arrow": "an Arrow", ".ipc": "an Arrow", ".xlsx": "an Excel", ".feather": "a Feather"}.get(
        ending, "a Parquet"
    )


def _unknown(name: str) -> InputError:
    return InputError(
        "this file's extension is unknown, and its contents are not of a known format",
        got=name,
        remedy=f"name it after its format: {', '.join(ENDINGS)}, also with {', '.join(PACKED)} after it",
    )


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn whatever goes wrong in reading a file into an :class:`InputError` with the reason."""
    try:
        yield
    except InputError:
        raise
    except BadLine as error:
        raise InputError(f"cannot read {name}", got=error, remedy="correct or remove that line") from None
    except RecursionError:
        raise InputError(
            f"cannot read {name}", got="values are nested too deeply", remedy="write the rows less nested"
        ) from None
    except UnicodeError as error:
        raise InputError(
            f"cannot read {name}", got=short(str(error)), remedy="write the text as UTF-8"
        ) from None
    except (pa.ArrowException, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(
            f"cannot read {name}",
            got=_line(error),
            remedy="the file is cut off or damaged, or not of the format of its extension; write it again",
        ) from None
    except ValueError as error:
        raise InputError(
            f"cannot read {name}", got=_line(error), remedy="write it as CSV, JSON lines or Parquet"
        ) from None


def _line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 160 else line[:157] + "..."
