"""Slates of varying size in consecutive rows: sums, maxima and softmax within slates, and cached blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.core.arrays import BoolArray, FloatArray, IntArray

BLOCK_DOUBLES = 80_000  # numbers per block: 640 kB, which second-level caches hold
LARGEST = 600.0  # exponent up to which odds and their sums do not overflow
LOWEST = -700.0  # exponent above which odds are doubles with all digits
LEAST = 1e-7  # sum of odds above which odds that underflow have negligible probability
FEW = 8  # size of slates below which columns are summed one by one


@dataclass(frozen=True)
class Slates:
    """The division of rows into slates; a slate's candidates are consecutive rows.

    Attributes:
        offsets: First row of each slate, and the number of rows: increasing from 0, shape (slates + 1,).
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
        """The number of rows."""
        return int(self.offsets[-1])

    @cached_property
    def sizes(self) -> IntArray:
        """The number of rows of each slate, shape (slates,)."""
        return np.diff(self.offsets)

    @cached_property
    def width(self) -> int:
        """The common size of all slates, or 0 if sizes differ."""
        if not len(self) or self.rows % len(self):
            return 0
        k = self.rows // len(self)
        return k if (self.sizes == k).all() else 0

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the sums (slates, ...) of values (rows, ...) within slates."""
        k = self.width
        if not k:
            return np.asarray(np.add.reduceat(values, self.offsets[:-1], axis=0))
        table = values.reshape(len(self), k, *values.shape[1:])
        if values.ndim == 1 and k >= FEW:
            return np.asarray(np.einsum("sk->s", table))  # the same in every block, unlike table @ ones
        total = table[:, 0].copy()
        for j in range(1, k):
            total += table[:, j]
        return total

    def maxima(self, values: FloatArray) -> FloatArray:
        """Return the maxima (slates, ...) of values (rows, ...) within slates."""
        return np.asarray(np.maximum.reduceat(values, self.offsets[:-1], axis=0))

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values (slates, ...) at every row of their slate, shape (rows, ...)."""
        return np.repeat(values, self.width or self.sizes, axis=0)

    def index(self) -> IntArray:
        """Return the index of every row's slate, shape (rows,)."""
        return np.asarray(self.spread(np.arange(len(self))))

    def slots(self) -> IntArray:
        """Return every row's slot within its slate, from 0, shape (rows,)."""
        return np.asarray(np.arange(self.rows) - self.spread(self.offsets[:-1]))

    @np.errstate(over="ignore")  # gaps may be infinite, with odds 0
    def softmax(self, utilities: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return Luce's probabilities and their normalisers.

        With utilities u, the probability of row i is exp(u_i) / sum_j exp(u_j), j over the rows of its slate.

        Args:
            utilities: Utilities u, shape (rows,) or (rows, columns), columns being independent; finite, or
                -inf for rows that cannot be picked.

        Returns:
            The probabilities, shape (rows, ...), and log sum_j exp(u_j), shape (slates, ...). They are NaN
            for slates with NaN or infinity, or in which nothing can be picked.
        """
        top = utilities.max(initial=-np.inf)
        shift = 0.0 if -LARGEST < top < LARGEST else top
        odds = np.exp(utilities - shift if shift else utilities)
        total = self.sums(odds)
        if not (total.min(initial=np.inf) > LEAST or utilities.min() - shift > LOWEST):  # nor nan
            shift = self.maxima(utilities)
            odds = np.exp(utilities - self.spread(shift))
            total = self.sums(odds)
        odds *= self.spread(1.0 / total)
        return odds, np.log(total) + shift

    def take(self, slates: IntArray) -> tuple[Slates, IntArray]:
        """Return the slates with the given indices, in their order, and the indices of their rows here."""
        sizes = self.sizes[slates]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        rows = np.repeat(self.offsets[slates] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Slates(offsets), rows

    def by_size(self) -> Iterator[tuple[IntArray, IntArray]]:
        """Yield, per size, the indices of the slates of that size, (n,), and their rows, (n, size)."""
        for k in np.unique(self.sizes):
            some = np.flatnonzero(self.sizes == k)
            yield some, self.offsets[some][:, None] + np.arange(k)

    def shares(self) -> dict[float, float]:
        """Return the share of slates of each size that occurs, by increasing size."""
        sizes, counts = np.unique(self.sizes, return_counts=True)
        return dict(zip(sizes.astype(float).tolist(), (counts / max(len(self), 1)).tolist(), strict=True))

    def only(self, rows: BoolArray) -> Slates:
        """Return the slates of the rows that a mask (rows,) keeps."""
        return Slates(np.r_[0, np.cumsum(self.sums(rows.astype(np.int64)))])

    def blocks(self, columns: int) -> Iterator[tuple[slice, slice, Slates]]:
        """Yield blocks (slates, rows, own Slates) that fit into a cache at ``columns`` numbers per row."""
        if not len(self):
            return
        per_slate = max(1, round(self.rows / len(self)) * max(columns, 1))
        step = max(1, BLOCK_DOUBLES // per_slate)
        whole = self.width
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            rows = slice(int(self.offsets[start]), int(self.offsets[stop]))
            own = Slates(self.offsets[start : stop + 1] - rows.start)
            own.__dict__["width"] = whole  # known, so no block is examined
            yield slice(start, stop), rows, own
