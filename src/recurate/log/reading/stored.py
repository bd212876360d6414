"""The bytes of one file: compressed or not, in any of the usual encodings of text.

Arrow is never given a Python file: one of its worker threads may free the last block while the interpreter
ends, which needs the interpreter's lock if Python owns the block; the process then aborts (exit code 134).
Whatever Arrow cannot open by its path (a zip's member, another encoding, standard input) is first copied to a
temporary file.
"""

from __future__ import annotations

import codecs
import io
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recurate.core.errors import counted
from recurate.core.limits import check_unpacked

BLOCK = 1 << 20
HEAD = 1 << 18  # bytes that are examined
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
MARKS = {  # byte-order marks; UTF-32 first, since it begins like UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
CALLED = {
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32": "UTF-32",
    "cp1252": "Latin-1 (Windows-1252)",
    "latin-1": "Latin-1",
}
BLANKS = frozenset(  # what people write for no value in a column of numbers
    ("", "NA", "N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "null", "NULL", "None", ".", "-")
)
EXACT = 2.0**53  # whole numbers beyond it are not exact as floating-point numbers
FLAGS = {"true": 1, "True": 1, "TRUE": 1, "false": 0, "False": 0, "FALSE": 0}
STRAYS = 0.01  # share of a column's values that may be of another type and are then empty
CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b\x1c\x1d\x1e\x1f\x0b"))


def beyond(column: pa.ChunkedArray) -> bool:
    """Return whether a column holds a number that may have been a whole one, rounded."""
    least, most = pc.min_max(column).as_py().values()
    return least is not None and bool(max(abs(least), abs(most)) >= EXACT)


class NotText(ValueError):
    """The bytes are not text."""


@dataclass(frozen=True)
class Stored:
    """A file as it lies on the disk.

    Attributes:
        path: Where its bytes are.
        ending: Extension of the name, lower case, without that of the compression.
        compression: ``gzip``, ``zstd`` or None.
        skip: Number of bytes, once unpacked, before the first that counts.
        keep: Temporary folder that holds the bytes, deleted with the last copy of this object.
    """

    path: Path
    ending: str
    compression: str | None = None
    skip: int = 0
    keep: Any = None

    def stream(self) -> pa.NativeFile:
        """Open the unpacked bytes for Arrow."""
        stream = pa.input_stream(str(self.path), compression=self.compression)
        if self.skip:
            stream.read(self.skip)
        return stream

    def file(self) -> io.BufferedReader:
        """Open the unpacked bytes for Python; not for Arrow, see the module."""
        return io.BufferedReader(_Counted(self), BLOCK)

    def blocks(self) -> Iterator[bytes]:
        """Yield the unpacked bytes in blocks."""
        with _Counted(self) as file:
            while block := file.take(BLOCK):
                yield block

    def head(self, size: int = HEAD) -> bytes:
        """Return the first unpacked bytes, at most ``size``."""
        with self.stream() as stream:
            return bytes(stream.read(size))


class _Counted(io.RawIOBase):
    """The unpacked bytes of a file, refused where they become too many."""

    def __init__(self, file: Stored) -> None:
        self._path, self._stream, self._count = file.path, file.stream(), 0
        self._packed = file.path.stat().st_size if file.compression else sys.maxsize

    def take(self, size: int) -> bytes:
        """Return the next bytes, at most ``size``; none at the end."""
        block = bytes(self._stream.read(size))
        self._count += len(block)
        check_unpacked(self._path, self._packed, self._count)
        return block

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes and return their number."""
        block = self.take(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        super().close()


def stored(path: Path, name: str | None = None) -> tuple[Stored, list[str]]:
    """Return a file, unpacked from its zip if it is one, and what was understood.

    Args:
        path: Path of the file.
        name: Name whose extension counts; None: the path's.

    Raises:
        ValueError: If a zip holds no file or several.
    """
    with path.open("rb") as file:
        start = file.read(4)
    endings = [ending.lower() for ending in Path(name or path.name).suffixes]
    compression = next((word for magic, word in COMPRESSIONS.items() if start.startswith(magic)), None)
    packed = {"gzip": ".gz", "zstd": ".zst"}
    if endings and endings[-1] in (".gz", ".zst", ".zip"):
        outer, endings = endings[-1], endings[:-1]
        if outer != packed.get(compression or "", ".zip") or (outer == ".zip" and start[:2] != b"PK"):
            word = {".gz": "gzip", ".zst": "zstd", ".zip": "zip"}[outer]
            if compression is None:
                raise ValueError(f"this is not a {word} archive")
    ending = endings[-1] if endings else ""
    if start[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            if "xl/workbook.xml" not in archive.namelist():
                return _unzipped(archive, ending)
            check_unpacked(path, path.stat().st_size, sum(m.file_size for m in archive.infolist()))
        return Stored(path, ".xlsx"), []
    return Stored(path, ending, compression), []


def _unzipped(archive: zipfile.ZipFile, ending: str) -> tuple[Stored, list[str]]:
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        names = ", ".join(m.filename for m in members[:4]) + ("..." if len(members) > 4 else "")
        raise ValueError(f"the zip holds {len(members)} files ({names}), and one is expected")
    name = Path(members[0].filename).name
    check_unpacked(archive.filename, members[0].compress_size, members[0].file_size)
    folder = scratch()
    target = Path(folder.name) / "member"
    with archive.open(members[0]) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    inside, notes = stored(target, name if Path(name).suffix else name + ending)
    return replace(inside, keep=(folder, inside.keep)), [f"the zip's file is {name}", *notes]


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder that disappears with the last reference to it."""
    return tempfile.TemporaryDirectory(prefix="recurate-", ignore_cleanup_errors=True)


def as_utf8(file: Stored) -> tuple[Stored, list[str]]:
    """Return a text file as UTF-8, and what was understood.

    Only its beginning is examined. Where a later byte is not UTF-8, :func:`from_latin` is the way out.

    Raises:
        NotText: If the beginning does not look like text.
    """
    head = file.head()
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            if encoding == "utf-8":
                return replace(file, skip=len(mark)), []
            return _transcoded(file, encoding)
    encoding = _without_mark(head)
    if encoding:
        return _transcoded(file, encoding)
    if len(head.translate(None, CONTROLS)) < len(head) * 0.999 or b"\0" in head:
        raise NotText("this is neither text nor a known format of tables")
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(head)
    except UnicodeDecodeError:
        return from_latin(file)
    return file, []


def _without_mark(head: bytes) -> str:
    """Return the encoding of UTF-16 without a mark: most of every second byte is zero."""
    sample = head[:4096]
    if len(sample) < 8 or b"\0" not in sample:
        return ""
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if odd > 0.6 * half and even < 0.05 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.6 * half and odd < 0.05 * half else ""


def from_latin(file: Stored) -> tuple[Stored, list[str]]:
    """Return a text file that is not UTF-8 as UTF-8: Latin-1, or UTF-8 with single damaged bytes."""
    valid = invalid = undefined = 0
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for block in file.blocks():
        text = decoder.decode(block)
        wrong = sum(1 for c in text if "\udc80" <= c <= "\udcff") if not text.isascii() else 0
        invalid += wrong
        valid += sum(1 for c in text if c > "\x7f") - wrong if not text.isascii() else 0
        undefined += sum(block.count(byte) for byte in b"\x81\x8d\x8f\x90\x9d")
    if valid > invalid:
        copy, _ = _transcoded(file, "utf-8", "replace")
        return copy, [f"{counted(invalid, '{byte is|bytes are}')} not UTF-8 and shown as \ufffd"]
    return _transcoded(file, "latin-1" if undefined else "cp1252")


def _transcoded(file: Stored, encoding: str, errors: str = "strict") -> tuple[Stored, list[str]]:
    folder = scratch()
    target = Path(folder.name) / "utf-8"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    with target.open("w", encoding="utf-8", newline="") as copy:
        for block in file.blocks():
            copy.write(decoder.decode(block))
        copy.write(decoder.decode(b"", final=True))
    notes = [f"text is {CALLED[encoding]}"] if encoding in CALLED else []
    return Stored(target, file.ending, keep=(folder, file.keep)), notes
