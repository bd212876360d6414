"""Scaling, checks and files that are common to all generators of arrays."""

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

MARGIN = 0.25  # distance of the bounds from the data, as a share of the data's range
GENERATOR = Kept(
    "generator", Card, "name a folder that a generator was saved in, such as RUN/rounds/000/model"
)


@dataclass(frozen=True)
class Scaler:
    """Conversion of samples of one shape to standardised rows and back: sample = row * scale + mean.

    The first training data determine it, and every retraining keeps it.

    Attributes:
        mean, scale: Offset and scale of every coordinate, shape (d,) each, in units of the data.
        low, high: Bounds of rows, shape (d,) each, in units of the scale.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of_points(cls, data: Samples) -> Self:
        """Return a scaler to mean 0 in every coordinate and standard deviation 1 over all coordinates."""
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
        """Return the arrays that are saved, by name."""
        return {f"scaler.{name}": value for name, value in vars(self).items()}

    @classmethod
    def taken_from(cls, arrays: Arrays, shape: tuple[int, ...]) -> Self:
        """Remove the scaler's arrays from the saved arrays, and return the scaler for samples of a shape.

        Raises:
            KeyError: If an array of the scaler is missing.
            ValueError: If it belongs to samples of another size.
        """
        found = cls(*(arrays.pop(f"scaler.{name}") for name in ("mean", "scale", "low", "high")))
        if found.mean.shape != (math.prod(shape),):
            raise ValueError(f"shape {shape} for a scaler of {found.mean.size} coordinates")
        return found


@dataclass(frozen=True)
class ArrayModel:
    """A generator of arrays of one shape; kinds add ``fit`` and ``sample``.

    Attributes:
        settings: Settings of the generator.
        shape: Shape of one sample; empty before the first fit.
        scaler: Scaler of the data; None before the first fit.
        arrays: Fitted parameters, by name, for standardised rows.
    """

    Settings: ClassVar[type[GeneratorSettings]]
    settings: Any
    shape: tuple[int, ...] = ()
    scaler: Scaler | None = None
    arrays: Arrays = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``generator.json`` and ``generator.safetensors`` to a folder.

        Raises:
            InputError: If the generator has not been trained.
        """
        arrays = self.arrays | trained(self.scaler).arrays()
        GENERATOR.write(folder, Card(settings=self.settings, shape=self.shape), arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a generator that :meth:`save` wrote.

        Raises:
            InputError: If a file is missing, damaged, altered or of another format.
        """
        with GENERATOR.read(folder) as (card, arrays):
            scaler = Scaler.taken_from(arrays, card.shape)
            return cls(cls.Settings(**card.settings), card.shape, scaler, arrays)


def trained(scaler: Scaler | None) -> Scaler:
    """Return the scaler of a trained model.

    Raises:
        InputError: If the model has not been trained.
    """
    if scaler is None:
        raise InputError("the generator has not been trained", got="no weights", remedy="call fit first")
    return scaler


def check_training_data(data: Samples, shape: tuple[int, ...] = ()) -> None:
    """Check training data of a generator of arrays.

    Args:
        data: Training set, shape (n, ...).
        shape: Shape of the samples on which the model was trained before; empty before the first fit.

    Raises:
        InputError: If the data are texts, empty, not finite, or of another shape than before.
    """
    if is_text(data):
        raise InputError(
            "this generator models numbers and cannot be trained on texts",
            got=f"{len(data)} texts",
            remedy="use generator.kind = 'external' with your own language model",
        )
    if not data.size:
        raise InputError(
            "a generator needs training data", got=f"shape {data.shape}", remedy="provide samples"
        )
    if not np.isfinite(data).all():
        bad = np.flatnonzero(~np.isfinite(data.reshape(len(data), -1)).all(axis=1))
        raise InputError(
            f"{bad.size} of {len(data)} training samples are not finite",
            got=f"row {bad[0] + 1}",
            remedy="remove or correct them; if a model generated them, it may have diverged",
        )
    if shape and data.shape[1:] != shape:
        raise InputError(
            "the training data have another shape than before",
            got=f"{data.shape[1:]} after {shape}",
            remedy="use samples of one shape in all rounds",
        )
