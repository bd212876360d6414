"""IDX files, the format of MNIST: plain, gzipped or xz-compressed."""

from __future__ import annotations

import gzip
import lzma
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.components.data.decoding import Part, damage_explained, numbered
from recurate.core.errors import InputError
from recurate.core.limits import check_unpacked

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
    pixels = _array(images, 3)
    texts = None if labels is None else _array(labels, 1).astype(str)
    if texts is not None and len(texts) != len(pixels):
        raise InputError(
            "there must be one label per image",
            got=f"{len(pixels)} images in {images}, {len(texts)} labels in {labels}",
            remedy="download both files again, from the same source",
        )
    return Part(name, len(pixels), texts, lambda rows: map(pixels.__getitem__, rows), numbered(str(images)))


def _array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the array in an IDX file of bytes."""
    opener = OPENERS.get(path.suffix, open)
    with damage_explained(path, EOFError, lzma.LZMAError, zlib.error), opener(path, "rb") as file:
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
        shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
        size = math.prod(shape)
        check_unpacked(path, path.stat().st_size, size)
        content = file.read(size + 1)
    if not size or len(content) != size:
        fault = "truncated" if len(content) < size else "longer than its header states"
        raise InputError(
            f"{path} is {fault if size else 'empty'}",
            got=f"shape {shape} in its header, then {len(content)} bytes or more",
            remedy="download it again",
        )
    return np.frombuffer(content, np.uint8).reshape(shape)
