"""IDX files, the format of MNIST: plain, gzipped or xz-compressed."""

from __future__ import annotations

import gzip
import lzma
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from recurate.components.data.decoding import Part, Picture, damage_explained, numbered
from recurate.core.arrays import IntArray
from recurate.core.errors import InputError

OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}


def part(images: Path, labels: Path | None, name: str) -> Part:
    """Return the images (h, w) of one file, with the labels of another.

    Args:
        images: File of images, bytes in three dimensions.
        labels: File of labels, bytes in one dimension, which become numbers as text; or None.
        name: Name of the part in messages.

    Raises:
        InputError: If a file is truncated or not an IDX file, or the numbers of images and labels differ.
    """
    with _opened(images, 3) as (_, shape):
        count, height, width = shape
    texts = None
    if labels is not None:
        with _opened(labels, 1) as (file, (number,)):
            texts = np.frombuffer(_exactly(file, number, labels), np.uint8).astype(str)
            _ends(file, labels)
        if number != count:
            raise InputError(
                "there must be one label per image",
                got=f"{count} images in {images}, {number} labels in {labels}",
                remedy="download both files again, from the same source",
            )

    def read(rows: IntArray) -> Iterator[Picture]:
        size, wanted = height * width, set(rows.tolist())
        with _opened(images, 3) as (file, _):
            for row in range(count):  # reads every image, so that a truncated file is always detected
                content = _exactly(file, size, images)
                if row in wanted:
                    yield np.frombuffer(content, np.uint8).reshape(height, width)
            _ends(file, images)

    return Part(name, count, texts, read, numbered(str(images)))


@contextmanager
def _opened(path: Path, dimensions: int) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
    """Open an IDX file of bytes; yield it, positioned after its header, and its shape."""
    with damage_explained(path, EOFError, lzma.LZMAError, zlib.error), _plain(path) as file:
        magic = file.read(4)
        if magic[:2] != b"\0\0" or len(magic) < 4:
            raise InputError(
                f"{path} is not an IDX file",
                got=f"it begins with {magic.hex(' ') or 'nothing'}, not with 00 00",
                remedy="download it again; it may be compressed twice, or be a web page",
            )
        if magic[2] != 8 or magic[3] != dimensions:
            raise InputError(
                f"{path} must hold bytes in {dimensions} dimension{'s' if dimensions > 1 else ''}",
                got=f"its magic number is {magic.hex(' ')}, not 00 00 08 0{dimensions}",
                remedy="check whether images and labels are exchanged, or download both again",
            )
        shape = struct.unpack(f">{dimensions}I", _exactly(file, 4 * dimensions, path))
        if not math.prod(shape):
            raise InputError(f"{path} is empty", got=f"shape {shape}", remedy="download it again")
        yield file, shape


def _plain(path: Path) -> IO[bytes]:
    opener = OPENERS.get(path.suffix)
    found: IO[bytes] = path.open("rb") if opener is None else opener(path, "rb")
    return found


def _exactly(file: IO[bytes], size: int, path: Path) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise InputError(
            f"{path} is truncated", got="it ends before its last item", remedy="download it again"
        )
    return content


def _ends(file: IO[bytes], path: Path) -> None:
    if file.read(1):
        raise InputError(
            f"{path} is longer than its header states",
            got="bytes after its last item",
            remedy="download it again",
        )
