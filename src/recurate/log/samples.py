"""Samples: arrays of numbers (n, ...) or of texts (n,), and the files that store them.

Numbers are float32 and are stored in ``samples.safetensors``. Texts are Python strings in an object array and
are stored in the column ``sample`` of ``samples.parquet``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.core.errors import InputError
from recurate.core.files import save_tensors
from recurate.core.tables import read_table, write_table

Samples = NDArray[Any]  # (n, ...) float32, or (n,) strings as objects
Texts = NDArray[Any]  # (n,) strings as objects

COLUMN = "sample"


def is_text(samples: Samples) -> bool:
    """Return whether the samples are texts rather than numbers."""
    return samples.dtype == object


def as_texts(values: Any) -> Texts:
    """Return the n values as strings in an object array (n,)."""
    found = np.empty(len(values), object)
    found[:] = [str(value) for value in values]
    return found


def from_column(column: pa.ChunkedArray | pa.Array, name: str) -> Samples:
    """Return the samples in a table's column.

    Args:
        column: Arrow column of n strings, n numbers, or n (nested) lists of numbers of one shape.
        name: Name of the column and its file in messages.

    Returns:
        Texts, shape (n,), or float32 numbers, shape (n, 1) for a column of numbers, else (n, ...).

    Raises:
        InputError: If values are missing, of different shapes or types, or not finite.
    """
    values = column.to_pylist()
    missing = [i for i, value in enumerate(values) if value is None]
    if missing:
        raise InputError(
            f"{name} lacks {len(missing)} of {len(values)} samples",
            got=f"an empty value in row {missing[0] + 1}",
            remedy="give every row a sample",
        )
    if values and all(isinstance(value, str) for value in values):
        return as_texts(values)
    try:
        numbers = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        raise InputError(
            f"{name} must hold texts, numbers, or lists of numbers of one shape",
            got=f"{type(values[0]).__name__} in the first row, or rows of different lengths",
            remedy="write every sample in the same form",
        ) from None
    numbers = numbers[:, None] if numbers.ndim == 1 else numbers
    bad = np.flatnonzero(~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1))
    if bad.size:
        raise InputError(
            f"{name} holds {bad.size} samples that are not finite",
            got=f"the first in row {bad[0] + 1}",
            remedy="drop or repair them; if a model generated them, it may have diverged",
        )
    return numbers


def to_column(samples: Samples) -> pa.Array:
    """Return samples (n, ...) as an Arrow array of n strings, or n (nested) lists of float32."""
    if is_text(samples):
        return pa.array(samples.tolist(), pa.string())
    column = pa.array(np.ascontiguousarray(samples, np.float32).ravel())
    for size in reversed(samples.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


def save_samples(samples: Samples, folder: Path) -> None:
    """Write samples to ``samples.safetensors`` (numbers) or ``samples.parquet`` (texts) in a folder."""
    if is_text(samples):
        write_table(pa.table({COLUMN: to_column(samples)}), folder / "samples.parquet")
    else:
        save_tensors({"samples": np.ascontiguousarray(samples)}, folder / "samples.safetensors")


def load_samples(folder: Path) -> Samples:
    """Return the samples (n, ...) that :func:`save_samples` wrote to a folder."""
    from safetensors.numpy import load_file

    if (folder / "samples.parquet").exists():
        return as_texts(read_table(folder / "samples.parquet").column(COLUMN).to_pylist())
    return np.asarray(load_file(folder / "samples.safetensors")["samples"])
