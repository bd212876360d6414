"""Slates of varying size laid end to end: sums, maxima and softmax within each, in cached blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.core.arrays import FloatArray, IntArray

BLOCK_DOUBLES = 80_000  # numbers of a block: 640 kB, which second-level caches hold
SAFE_RANGE = 600.0  # exponents within this range of each other neither overflow nor vanish


@dataclass(frozen=True)
class Slates:
    """Where each slate begins and ends among the rows.

    Attributes:
        offsets: shape (slates + 1,), from 0 to the number of rows, increasing.
    """

    offsets: IntArray

    @classmethod
    def of_size(cls, k: int, slates: int) -> Slates:
        """Return ``slates`` slates of ``k`` rows each."""
        return cls(np.arange(slates + 1, dtype=np.int64) * k)

    def __len__(self) -> int:
        return self.offsets.size - 1

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.offsets[-1])

    @cached_property
    def sizes(self) -> IntArray:
        """Rows of each slate, (slates,)."""
        return np.diff(self.offsets)

    @cached_property
    def width(self) -> int:
        """The size that all slates have, or 0."""
        if not len(self) or self.rows % len(self):
            return 0
        k = self.rows // len(self)
        return k if (self.sizes == k).all() else 0

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the sums (slates, ...) of values (rows, ...)."""
        k = self.width
        if not k:
            return np.asarray(np.add.reduceat(values, self.offsets[:-1], axis=0))
        table = values.reshape(len(self), k, *values.shape[1:])
        if values.ndim == 1:
            return np.asarray(table @ np.ones(k))
        total = table[:, 0].copy()
        for j in range(1, k):
            total += table[:, j]
        return total

    def maxima(self, values: FloatArray) -> FloatArray:
        """Return the maxima (slates, ...) of values (rows, ...)."""
        return np.asarray(np.maximum.reduceat(values, self.offsets[:-1], axis=0))

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values (slates, ...) at each row, (rows, ...)."""
        return np.repeat(values, self.width or self.sizes, axis=0)

    def index(self) -> IntArray:
        """Return the slate of every row, (rows,)."""
        return np.asarray(self.spread(np.arange(len(self))))

    def slots(self) -> IntArray:
        """Return each row's place within its slate, from 0, (rows,)."""
        return np.asarray(np.arange(self.rows) - self.spread(self.offsets[:-1]))

    def softmax(self, utilities: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return Luce's probabilities (rows, ...) and the log of each slate's sum of exp, (slates, ...).

        Args:
            utilities: shape (rows,) or (rows, columns), finite; each column on its own.
        """
        top = utilities.max() if utilities.size else 0.0
        if top - (utilities.min() if utilities.size else 0.0) < SAFE_RANGE:
            odds = np.exp(utilities - top)
            total = self.sums(odds)
            log_total = np.log(total) + top
        else:
            tops = self.maxima(utilities)
            odds = np.exp(utilities - self.spread(tops))
            total = self.sums(odds)
            log_total = np.log(total) + tops
        odds *= self.spread(1.0 / total)
        return odds, log_total

    def take(self, slates: IntArray) -> tuple[Slates, IntArray]:
        """Return some slates, in the order given, and the rows that they had here."""
        sizes = self.sizes[slates]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.repeat(self.offsets[slates] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Slates(offsets), rows

    def blocks(self, columns: int) -> Iterator[tuple[slice, slice, Slates]]:
        """Yield (slates, rows, the slates on their own), ``columns`` numbers a row in cache."""
        if not len(self):
            return
        per_slate = max(1, round(self.rows / len(self)) * max(columns, 1))
        step = max(1, BLOCK_DOUBLES // per_slate)
        whole = self.width
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            rows = slice(int(self.offsets[start]), int(self.offsets[stop]))
            own = Slates(self.offsets[start : stop + 1] - rows.start)
            own.__dict__["width"] = whole  # known: saves looking at every block
            yield slice(start, stop), rows, own
