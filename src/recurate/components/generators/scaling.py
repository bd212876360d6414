"""Scale, checks and files that all generators of numbers share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recurate.components.nets.saved import Arrays, Card, Kept
from recurate.components.protocols import GeneratorSettings
from recurate.core.errors import InputError
from recurate.log.samples import Samples, is_text

MARGIN = 0.25  # of the data's range, by which bounds lie outside the data
GENERATOR = Kept(
    "generator", Card, "name a folder that a generator was saved in, such as RUN/rounds/000/model"
)


@dataclass(frozen=True)
class Scaler:
    """Samples of any one shape as rows of numbers around zero, and back: sample = row * scale + mean.

    It is fixed by the data that a model is first trained on, and kept by every retraining.

    Attributes:
        mean, scale: of the data, (d,) each.
        low, high: bounds of rows, (d,) each, in units of the scale.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of_points(cls, data: Samples) -> Self:
        """Return a scaler to mean 0 in each coordinate and standard deviation 1 over all of them together."""
        flat = data.reshape(len(data), -1)
        mean, spread = flat.mean(0), flat.std()
        usable = np.isfinite(spread) and spread > 1e-6 * float(np.abs(mean).max())
        scale = np.full(flat.shape[1], spread if usable else 1.0, np.float32)
        low, high = (flat.min(0) - mean) / scale, (flat.max(0) - mean) / scale
        margin = MARGIN * (high - low)
        return cls(mean, scale, low - margin, high + margin)

    @classmethod
    def of_images(cls, data: Samples) -> Self:
        """Return a scaler from [0, 1], or from the data's range if it exceeds [0, 1], to [-1, 1]."""
        low, high = float(data.min()), float(data.max())
        if low >= 0.0 and high <= 1.0:
            low, high = 0.0, 1.0
        size = int(np.prod(data.shape[1:]))
        half = (high - low) / 2 if high > low else 1.0
        parts = ((high + low) / 2, half, -1.0, 1.0)
        return cls(*(np.full(size, part, np.float32) for part in parts))

    def rows(self, data: Samples) -> NDArray[np.float32]:
        """Return data (n, ...) as rows (n, d)."""
        return np.ascontiguousarray((data.reshape(len(data), -1) - self.mean) / self.scale, np.float32)

    def samples(self, rows: NDArray[np.float32], shape: tuple[int, ...]) -> Samples:
        """Return rows (n, d) as samples (n, *shape)."""
        return np.asarray(rows * self.scale + self.mean, np.float32).reshape(len(rows), *shape)

    def arrays(self) -> Arrays:
        """Return the arrays to be saved, by name."""
        return {f"scaler.{name}": value for name, value in vars(self).items()}

    @classmethod
    def taken_from(cls, arrays: Arrays, shape: tuple[int, ...]) -> Self:
        """Take the scaler for samples of a shape out of the arrays that were saved.

        Raises:
            KeyError: it is not among them.
            ValueError: it is for samples of another size.
        """
        found = cls(*(arrays.pop(f"scaler.{name}") for name in ("mean", "scale", "low", "high")))
        if found.mean.shape != (math.prod(shape),):
            raise ValueError(f"shape {shape} for a scaler of {found.mean.size} coordinates")
        return found


@dataclass(frozen=True)
class ArrayModel:
    """A generator of arrays of one shape; kinds add ``fit`` and ``sample``.

    Attributes:
        settings: settings of the generator.
        shape: shape of one sample; empty before the first fit.
        scaler: scale of the data; None before the first fit.
        arrays: fitted parameters, by name, on that scale.
    """

    Settings: ClassVar[type[GeneratorSettings]]
    settings: Any
    shape: tuple[int, ...] = ()
    scaler: Scaler | None = None
    arrays: Arrays = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``generator.json`` and ``generator.safetensors`` into a folder.

        Raises:
            InputError: the generator has not been trained.
        """
        arrays = self.arrays | trained(self.scaler).arrays()
        GENERATOR.write(folder, Card(settings=self.settings, shape=self.shape), arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: a file is missing, damaged, altered or of another format.
        """
        with GENERATOR.read(folder) as (card, arrays):
            scaler = Scaler.taken_from(arrays, card.shape)
            return cls(cls.Settings(**card.settings), card.shape, scaler, arrays)


def trained(scaler: Scaler | None) -> Scaler:
    """Return the scaler of a model that has been trained.

    Raises:
        InputError: there is none.
    """
    if scaler is None:
        raise InputError("the generator has not been trained", got="no weights", remedy="call fit first")
    return scaler


def check_training_data(data: Samples, shape: tuple[int, ...] = ()) -> None:
    """Refuse training data from which a model of numbers cannot learn.

    Args:
        data: the training set.
        shape: of the samples that the model was trained on before; empty if it was not.

    Raises:
        InputError: data are texts, none, not finite, or of another shape than before.
    """
    if is_text(data):
        raise InputError(
            "this generator makes numbers and cannot learn texts",
            got=f"{len(data)} texts",
            remedy="use generator.kind = 'external' with a language model of yours",
        )
    if not data.size:
        raise InputError(
            "a generator needs data to learn from", got=f"shape {data.shape}", remedy="give some"
        )
    if not np.isfinite(data).all():
        bad = np.flatnonzero(~np.isfinite(data.reshape(len(data), -1)).all(axis=1))
        raise InputError(
            f"{bad.size} of {len(data)} training samples are not finite",
            got=f"row {bad[0] + 1}",
            remedy="drop or repair them; if a model made them, it may have diverged",
        )
    if shape and data.shape[1:] != shape:
        raise InputError(
            "training data are of another shape than before",
            got=f"{data.shape[1:]} after {shape}",
            remedy="give every sample the same shape",
        )
