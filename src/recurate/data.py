"""Real data for runs: fixed arrays, split into a training part and a held-out part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from recurate.errors import InputError, nearest
from recurate.samples import Samples, from_column, is_text
from recurate.seeds import Stream
from recurate.settings import Settings
from recurate.tables import read_table


@dataclass(frozen=True)
class Dataset:
    """Samples (n, ...), labels (n,) as text, contexts (n,) or None; what is held out is never trained on."""

    train: Samples
    labels: NDArray[Any]
    held_out: Samples
    held_out_labels: NDArray[Any]
    contexts: NDArray[Any] | None = None
    held_out_contexts: NDArray[Any] | None = None

    @property
    def labelled(self) -> bool:
        """Whether the labels tell anything."""
        return bool((self.labels != "").any())


class Gaussians(Settings):
    """Equal Gaussians around a circle in the plane; labels are the modes' numbers.

    Mode i = 0, 1, ... has its centre at the angle 2 pi i / modes.
    """

    kind: Literal["gaussians"] = "gaussians"
    modes: int = Field(8, ge=1, le=1000, description="number of Gaussians")
    radius: float = Field(2.0, gt=0, le=1e6, description="radius of the circle of centres")
    sd: float = Field(0.1, gt=0, le=1e6, description="standard deviation of each Gaussian")
    size: int = Field(20_000, ge=10, le=10**8, description="points drawn once as the real data")

    def centres(self) -> NDArray[np.float64]:
        """Return the centres, shape (modes, 2)."""
        angles = 2 * np.pi * np.arange(self.modes) / self.modes
        return self.radius * np.column_stack([np.cos(angles), np.sin(angles)])

    def load(self, rng: Stream) -> Dataset:
        """Draw the data; a tenth as many points again are held out."""
        count = self.size + max(self.size // 10, 1)
        draw = rng.generator()
        mode = draw.integers(self.modes, size=count)
        points = self.centres()[mode] + self.sd * draw.normal(size=(count, 2))
        samples, labels = points.astype(np.float32), mode.astype(str)
        cut = self.size
        return Dataset(samples[:cut], labels[:cut], samples[cut:], labels[cut:])


class Digits(Settings):
    """scikit-learn's handwritten digits: 1,797 grey images of 8 x 8, values 0 to 1, ten classes."""

    kind: Literal["digits"] = "digits"
    held_out: float = Field(0.2, ge=0.01, le=0.9, description="share of images held out")

    def load(self, rng: Stream) -> Dataset:
        """Load the images and split them at random."""
        from sklearn.datasets import load_digits

        found = load_digits()
        images = (found.images / 16.0).astype(np.float32)
        labels = found.target.astype(str)
        order = rng.generator().permutation(len(images))
        cut = min(max(round(len(images) * (1 - self.held_out)), 1), len(images) - 1)
        train, rest = order[:cut], order[cut:]
        return Dataset(images[train], labels[train], images[rest], labels[rest])


class TableData(Settings):
    """Real data from a table (Parquet, JSON lines, CSV): texts, points, or arrays of any one shape."""

    kind: Literal["table"]
    path: str = Field(description="the file, seen from the current folder")
    sample: str | tuple[str, ...] = Field(
        "sample", description="column of texts or (nested) lists of numbers, or several columns of numbers"
    )
    context: str | None = Field(None, description="column of contexts (prompts); none if absent")
    label: str | None = Field(
        None, description="column of labels, for classifiers and groups; none if absent"
    )
    held_out: float = Field(0.1, ge=0.001, le=0.9, description="share of rows held out")

    def load(self, rng: Stream) -> Dataset:
        """Read the table and split it at random.

        Raises:
            InputError: the file or a column is missing, or samples are not usable.
        """
        text = [name for name in (self.context, self.label) if name is not None]
        if isinstance(self.sample, str) and ".csv" in self.path:
            text.append(self.sample)  # in CSV a text may look like a number
        table = read_table(self.path, text=text)
        samples = self._samples(table)
        labels = self._texts(table, self.label)
        contexts = self._texts(table, self.context)
        order = rng.generator().permutation(len(samples))
        cut = round(len(samples) * (1 - self.held_out))
        if not 1 <= cut < len(samples):
            raise InputError(
                f"{self.path} has too few rows to hold some out",
                got=len(samples),
                remedy="give it at least two",
            )
        train, rest = order[:cut], order[cut:]
        if labels is None:
            labels = np.full(len(samples), "")
        both = (None, None) if contexts is None else (contexts[train], contexts[rest])
        return Dataset(samples[train], labels[train], samples[rest], labels[rest], *both)

    def _samples(self, table: pa.Table) -> Samples:
        if isinstance(self.sample, str):
            return from_column(self._column(table, self.sample), f"{self.path}: column {self.sample!r}")
        parts = [from_column(self._column(table, c), f"{self.path}: column {c!r}") for c in self.sample]
        if any(is_text(part) or part.shape[1:] != (1,) for part in parts):
            raise InputError(
                f"{self.path}: several sample columns must all hold numbers",
                got=", ".join(self.sample),
                remedy="name one column of texts or lists, or columns of plain numbers",
            )
        return np.concatenate(parts, axis=1)

    def _texts(self, table: pa.Table, name: str | None) -> NDArray[Any] | None:
        if name is None:
            return None
        column = self._column(table, name)
        if column.null_count:
            raise InputError(
                f"{self.path}: column {name!r} has {column.null_count} empty values",
                got="an empty value",
                remedy="fill it in every row",
            )
        return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False)).astype(str)

    def _column(self, table: pa.Table, name: str) -> Any:
        if name not in table.column_names:
            raise InputError(
                f"{self.path} has no column {name!r}",
                got=f"columns {', '.join(table.column_names)}",
                remedy=nearest(name, table.column_names),
            )
        return table.column(name)


DataSettings = Annotated[Gaussians | Digits | TableData, Field(discriminator="kind")]
