"""Tables of encoded images: Parquet as on the Hugging Face hub, and datasets saved by ``save_to_disk``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.components.data import decoding
from recurate.components.data.decoding import Part, Picture, damage_explained, decode
from recurate.core.arrays import IntArray
from recurate.core.errors import InputError

IMAGES = ("image", "img", "picture", "jpg", "png", "webp")
LABELS = ("label", "labels", "fine_label", "class", "cls", "target")
BATCH = 64  # rows per batch


def part(paths: Sequence[Path], info: Path | None, image: str | None, label: str | None, name: str) -> Part:
    """Return the images of one or several Parquet files or Arrow streams, in order.

    The images are in a column of bytes, or of structures with bytes and a path. Labels are text, or numbers,
    which become the classes' names if the schema or ``info`` has them.

    Args:
        paths: Files with equal columns.
        info: File ``dataset_info.json`` with the names of the classes, or None.
        image: Column of the images; None: a usual name.
        label: Column of the labels; None: a usual name.
        name: Name of the part in messages.

    Raises:
        InputError: If a file is damaged, or a column is missing or has another type.
    """
    with _opened(paths[0]) as (schema, _):
        pass
    pictured, labelled = decoding.find_names((image, label), (IMAGES, LABELS), schema.names, "column", name)
    kind = schema.field(pictured).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(
            f"{name}: column {pictured!r} must hold encoded images: bytes, or a structure with bytes",
            got=str(schema.field(pictured).type),
            remedy="name the column with data.image",
        )
    found = [] if labelled is None else list(_columns(paths, labelled))
    count = sum(len(column) for column in found or _columns(paths, pictured))
    if not count:
        raise InputError(f"{name} has no rows", got=", ".join(map(str, paths)), remedy="download it again")
    labels = None
    if labelled is not None:
        labels = _labels(pa.chunked_array(found), _names(schema, labelled, info), f"{name}: {labelled}")
    title = decoding.numbered(name)

    def read(rows: IntArray) -> Iterator[Picture]:
        start = 0
        for column in _columns(paths, pictured):
            low, high = np.searchsorted(rows, (start, start + len(column)))
            for row in rows[low:high]:
                yield decode(_bytes(column[int(row) - start].as_py(), title(row)), title(row))
            start += len(column)

    return Part(name, count, labels, read, title)


def _columns(paths: Sequence[Path], name: str) -> Iterator[pa.Array]:
    """Yield one column of several files, batch by batch."""
    for path in paths:
        with _opened(path, [name]) as (_, batches):
            for batch in batches:
                yield batch.column(name)


@contextmanager
def _opened(
    path: Path, columns: list[str] | None = None
) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Open a Parquet file or an Arrow stream; yield its schema and its batches."""
    import pyarrow.parquet as pq

    with damage_explained(path, pa.ArrowException):
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                yield file.schema_arrow, file.iter_batches(BATCH, columns=columns)
        else:
            with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
                yield stream.schema, iter(stream)


def _names(schema: pa.Schema, label: str, info: Path | None) -> list[str] | None:
    """Return the names of the classes from the metadata of the ``datasets`` library, or None."""
    noted = [(schema.metadata or {}).get(b"huggingface", b"{}")]
    if info is not None and info.is_file():
        noted.append(info.read_bytes())
    for text in noted:
        try:
            raw = json.loads(text)
        except ValueError:
            continue
        features = raw.get("info", raw).get("features", {}) if isinstance(raw, dict) else {}
        names = features.get(label, {}).get("names") if isinstance(features, dict) else None
        if isinstance(names, list):
            return [str(name) for name in names]
    return None


def _labels(column: pa.ChunkedArray, names: list[str] | None, name: str) -> NDArray[Any]:
    if column.null_count:
        raise InputError(
            f"{name} has {column.null_count} empty values", got="an empty value", remedy="label every image"
        )
    if pa.types.is_integer(column.type):
        return decoding.as_labels(column.to_numpy(), names)
    with damage_explained(Path(name), pa.ArrowException):
        return np.asarray(column.cast(pa.string()).to_pylist(), dtype=np.str_)


def _bytes(value: Any, title: str) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is None:
        place = value.get("path") if isinstance(value, dict) else None
        raise InputError(
            "the table does not contain an image",
            got=f"{title}: " + (f"only the path {place}" if place else "an empty value"),
            remedy="save the data with embedded images, or use the folder of images",
        )
    return bytes(content)
