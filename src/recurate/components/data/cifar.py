"""The binary version of CIFAR-10: records of one label byte and 3 x 32 x 32 pixel bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from recurate.components.data.decoding import Part, Picture, as_labels, numbered
from recurate.core.arrays import IntArray
from recurate.core.errors import InputError

SIDE, PIXELS = 32, 3 * 32 * 32
CLASSES = 10


def part(paths: Sequence[Path], names: Path | None, name: str) -> Part:
    """Return the images (32, 32, 3) of several files, in order, with their labels.

    Args:
        paths: Files of records.
        names: File with the names of the ten classes; None, or another number of names: labels are digits.
        name: Name of the part in messages.

    Raises:
        InputError: If a file does not consist of whole records, or a label is not from 0 to 9.
    """
    batches = [_records(path) for path in paths]
    starts = np.cumsum([0, *(len(batch) for batch in batches)])
    codes = np.concatenate([batch[:, 0] for batch in batches])
    known = [] if names is None else names.read_text(encoding="utf-8").split()
    labels = as_labels(codes, known if len(known) == CLASSES else None)

    def read(rows: IntArray) -> Iterator[Picture]:
        for row in rows:
            which = int(np.searchsorted(starts, row, side="right")) - 1
            yield batches[which][row - starts[which], 1:].reshape(3, SIDE, SIDE).transpose(1, 2, 0)

    return Part(name, len(labels), labels, read, numbered(name))


def _records(path: Path) -> Picture:
    size = path.stat().st_size
    if size == 0 or size % (PIXELS + 1):
        raise InputError(
            f"{path} is not the binary version of CIFAR-10",
            got=f"{size} bytes, not a positive multiple of {PIXELS + 1}",
            remedy="download cifar-10-binary.tar.gz again",
        )
    found = np.memmap(path, np.uint8, "r").reshape(-1, PIXELS + 1)
    if found[:, 0].max() >= CLASSES:
        raise InputError(
            f"{path} is not the binary version of CIFAR-10",
            got=f"the label {found[:, 0].max()}, not 0 to 9",
            remedy="use CIFAR-10; CIFAR-100 can be read as Parquet, NPZ or a folder of images",
        )
    return found
