"""Real data from a table."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from recurate.components.data.dataset import Dataset, Source, split
from recurate.core.data_files import locate
from recurate.core.errors import InputError
from recurate.core.sealed import sha256
from recurate.core.seeds import Stream
from recurate.core.tables import column_of
from recurate.log.reading.sources import open_source
from recurate.log.samples import Samples, from_column, is_text


class TableData(Source):
    """Real data from a table (Parquet, JSON, CSV): texts, points, or arrays that all have one shape."""

    kind: Literal["table"]
    path: str = Field(description="file, relative to the current folder or, failing that, to RECURATE_DATA")
    sample: str | tuple[str, ...] = Field(
        "sample", description="column of texts or of (nested) lists of numbers, or several columns of numbers"
    )
    context: str | None = Field(None, description="column of contexts (prompts); no contexts if absent")
    label: str | None = Field(
        None, description="column of labels, for classifiers and groups; no labels if absent"
    )
    held_out: float = Field(0.1, ge=0.001, le=0.9, description="share of rows held out")

    def load(self, rng: Stream) -> Dataset:
        """Read the table and split it at random.

        Raises:
            InputError: If the file or a column is missing, a value is empty, or a sample is invalid.
        """
        text = [name for name in (self.context, self.label) if name is not None]
        if isinstance(self.sample, str) and ".csv" in self.path:
            text.append(self.sample)  # in a CSV file, text may look like a number
        path = locate(self.path)
        if path.is_dir():
            raise InputError("this is not a file", got=path, remedy="name a table's file")
        table = open_source(path, text=text).read()
        samples = self._samples(table)
        labels = self._texts(table, self.label)
        contexts = self._texts(table, self.context)
        train, rest = split(len(samples), self.held_out, rng, self.path)
        if labels is None:
            labels = np.full(len(samples), "")
        both = (None, None) if contexts is None else (contexts[train], contexts[rest])
        return Dataset(samples[train], labels[train], samples[rest], labels[rest], *both)

    def files(self) -> dict[str, str]:
        """Return the SHA-256 of the table's file."""
        return {self.path: sha256(locate(self.path))}

    def _samples(self, table: pa.Table) -> Samples:
        if isinstance(self.sample, str):
            return from_column(
                column_of(table, self.sample, self.path), f"{self.path}: column {self.sample!r}"
            )
        parts = [
            from_column(column_of(table, c, self.path), f"{self.path}: column {c!r}") for c in self.sample
        ]
        if any(is_text(part) or part.shape[1:] != (1,) for part in parts):
            raise InputError(
                f"{self.path}: several sample columns must all hold numbers",
                got=", ".join(self.sample),
                remedy="name one column of texts or lists, or several columns of single numbers",
            )
        return np.concatenate(parts, axis=1)

    def _texts(self, table: pa.Table, name: str | None) -> NDArray[Any] | None:
        if name is None:
            return None
        column = column_of(table, name, self.path)
        if column.null_count:
            raise InputError(
                f"{self.path}: column {name!r} has {column.null_count} empty values",
                got="an empty value",
                remedy="fill in every row",
            )
        return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False)).astype(str)
