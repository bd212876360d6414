"""Tables of encoded images: Parquet as on the Hugging Face hub, and datasets saved by ``save_to_disk``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.components.data.decoding import Part, Picture, damage_explained, decode, numbered
from recurate.core.arrays import IntArray
from recurate.core.errors import InputError, nearest

IMAGES = ("image", "img", "picture", "jpg", "png", "webp")
LABELS = ("label", "labels", "fine_label", "class", "cls", "target")
BATCH = 64  # rows per batch

Batches = Callable[[Path, list[str]], Iterator[pa.RecordBatch]]


def parquet_part(paths: Sequence[Path], image: str | None, label: str | None, name: str) -> Part:
    """Return the images of one or several Parquet files, in order.

    Args:
        paths: Files with equal columns.
        image: Column of the images; None: a usual name.
        label: Column of the labels; None: a usual name.
        name: Name of the part in messages.

    Raises:
        InputError: If a file is damaged, or a column is missing or has another type.
    """
    import pyarrow.parquet as pq

    with damage_explained(paths[0], pa.ArrowException):
        schema = pq.read_schema(paths[0])
    return _part(paths, _parquet_batches, schema, image, label, None, name)


def saved_part(
    paths: Sequence[Path], info: Path | None, image: str | None, label: str | None, name: str
) -> Part:
    """Return the images of one or several Arrow streams, in order.

    Args:
        paths: Files with equal columns.
        info: File ``dataset_info.json`` with the names of the classes, or None.
        image: Column of the images; None: a usual name.
        label: Column of the labels; None: a usual name.
        name: Name of the part in messages.

    Raises:
        InputError: If a file is damaged, or a column is missing or has another type.
    """
    with damage_explained(paths[0], pa.ArrowException), pa.memory_map(str(paths[0])) as file:
        schema = pa.ipc.open_stream(file).schema
    return _part(paths, _arrow_batches, schema, image, label, info, name)


def _part(
    paths: Sequence[Path],
    batches: Batches,
    schema: pa.Schema,
    image: str | None,
    label: str | None,
    info: Path | None,
    name: str,
) -> Part:
    """Return the images in a column of bytes, or of structures with bytes and a path.

    Labels are text, or numbers, which become the classes' names if the schema or ``info`` has them.

    Raises:
        InputError: If a file is damaged, or a column is missing or has another type.
    """
    pictured = _column(schema, image, IMAGES, "image", name)
    assert pictured is not None
    labelled = _column(schema, label, LABELS, "label", name)
    kind = schema.field(pictured).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(
            f"{name}: column {pictured!r} must hold encoded images: bytes, or a structure with bytes",
            got=str(schema.field(pictured).type),
            remedy="name the column with data.image",
        )
    count, found = 0, []
    for path in paths:
        for batch in _explained(path, batches, [pictured if labelled is None else labelled]):
            count += batch.num_rows
            found += [] if labelled is None else [batch.column(0)]
    if not count:
        raise InputError(f"{name} has no rows", got=", ".join(map(str, paths)), remedy="download it again")
    labels = None
    if labelled is not None:
        labels = _labels(pa.chunked_array(found), _names(schema, labelled, info), f"{name}: {labelled}")
    title = numbered(name)

    def read(rows: IntArray) -> Iterator[Picture]:
        start = 0
        for path in paths:
            for batch in _explained(path, batches, [pictured]):
                stop = start + batch.num_rows
                low, high = np.searchsorted(rows, (start, stop))
                for row in rows[low:high]:
                    yield decode(_bytes(batch.column(0)[int(row) - start].as_py(), title(row)), title(row))
                start = stop

    return Part(name, count, labels, read, title)


def _explained(path: Path, batches: Batches, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with damage_explained(path, pa.ArrowException):
        yield from batches(path, columns)


def _parquet_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(BATCH, columns=columns)


def _arrow_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as file:
        for batch in pa.ipc.open_stream(file):
            yield batch.select(columns)


def _column(schema: pa.Schema, asked: str | None, usual: Sequence[str], what: str, name: str) -> str | None:
    if asked is not None and asked not in schema.names:
        raise InputError(
            f"{name} has no column {asked!r}",
            got=f"columns {', '.join(schema.names)}",
            remedy=nearest(asked, schema.names),
        )
    found = asked or next((column for column in usual if column in schema.names), None)
    if found is None and what == "image":
        raise InputError(
            f"{name} has no column with a usual name for images",
            got=f"columns {', '.join(schema.names)}",
            remedy="name the column with data.image, and the labels with data.label",
        )
    return found


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
        codes = column.to_numpy()
        if names is not None and codes.min() >= 0 and codes.max() < len(names):
            return np.asarray(np.array(names)[codes])
        return np.asarray(codes.astype(str))
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
