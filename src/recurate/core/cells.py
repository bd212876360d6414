"""Cells that stand for many values: equal ones on a line, and those of a binary tree over points."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recurate.core.arrays import FloatArray, IntArray

Cut = tuple[float, int, float]  # its worth (zero: leave the cell whole), the column, the largest value below
Splits = tuple[tuple[int, float] | None, ...]  # a tree in preorder: (column, threshold), or None for a cell


@dataclass(frozen=True)
class Grid:
    """Values in equal cells on a line, of which only the occupied ones are kept.

    Attributes:
        occupied: numbers of the occupied cells, increasing, shape (cells,).
        places: the place in ``occupied`` of each value's cell, shape (N,).
        offsets: the position of each value within its cell, in [-1, 1], shape (N,).
    """

    occupied: NDArray[np.int64]
    places: NDArray[np.int32]
    offsets: FloatArray

    @classmethod
    def of(cls, values: FloatArray, low: float, width: float) -> Grid:
        """Put values (N,) into the cells [low + i width, low + (i + 1) width)."""
        offsets = (values - low) / width
        numbers = np.floor(offsets)
        offsets -= numbers
        offsets -= 0.5
        offsets *= 2.0
        occupied, places = _ranked(numbers)
        return cls(occupied, places, offsets)


def _ranked(numbers: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the whole numbers that occur, sorted, and the place of each among them (N,)."""
    low = float(numbers.min())
    if numbers.max() - low > 8 * numbers.size + 1000:  # too long a range for a table
        found, places = np.unique(numbers, return_inverse=True)
        return found.astype(np.int64), places.astype(np.int32)
    index = (numbers - low).astype(np.int32)
    there = np.zeros(int(index.max()) + 1, bool)
    there[index] = True
    ranks = np.cumsum(there, dtype=np.int32)
    ranks -= 1
    return np.flatnonzero(there) + int(low), ranks[index]


@dataclass(frozen=True)
class Tree:
    """Points (n, d) divided into cells by cuts across columns.

    Attributes:
        cells: the rows of each cell.
        paths: the way to each cell from the root that it grew from: 0 below a cut, 1 above it.
        cuts: the column and threshold of every cut, by its path; rows with values up to the threshold are
            below.
    """

    cells: tuple[IntArray, ...]
    paths: tuple[str, ...]
    cuts: dict[str, tuple[int, float]]

    @classmethod
    def grow(
        cls,
        points: FloatArray,
        cut: Callable[[IntArray, int], Cut],
        *,
        roots: Sequence[IntArray] | None = None,
        most: float = math.inf,
    ) -> Tree:
        """Cut the cell whose cut is worth most, until there are ``most`` cells or no cut is worth anything.

        Args:
            points: shape (n, d).
            cut: maps the rows of a cell and its depth to the best cut, which leaves rows on both sides.
            roots: rows of the cells to begin with; None: one cell of all rows.
            most: the largest number of cells.
        """

        def leaf(path: str, rows: IntArray) -> tuple[float, int, str, IntArray, int, float]:
            worth, column, threshold = cut(rows, len(path))
            return -worth, int(rows[0]), path, rows, column, threshold

        heap = [leaf("", rows) for rows in ([np.arange(len(points))] if roots is None else roots)]
        heapq.heapify(heap)
        cuts = {}
        while len(heap) < most and heap[0][0] < 0:
            *_, path, rows, column, threshold = heapq.heappop(heap)
            cuts[path] = column, threshold
            low = points[rows, column] <= threshold
            heapq.heappush(heap, leaf(path + "0", rows[low]))
            heapq.heappush(heap, leaf(path + "1", rows[~low]))
        return cls(tuple(entry[3] for entry in heap), tuple(entry[2] for entry in heap), cuts)

    @property
    def labels(self) -> IntArray:
        """The number of each row's cell, shape (n,)."""
        found = np.zeros(sum(rows.size for rows in self.cells), np.int64)
        for label, rows in enumerate(self.cells):
            found[rows] = label
        return found

    @property
    def splits(self) -> Splits:
        """The tree of one root in preorder, for :func:`assign`."""
        return tuple(self.cuts.get(path) for path in sorted([*self.cuts, *self.paths]))


def assign(splits: Splits, points: FloatArray) -> IntArray:
    """Return the cell, numbered in preorder, of each of the points (n, d)."""
    out = np.zeros(len(points), np.int64)
    stack = [np.arange(len(points))]
    cell = 0
    for split in splits:
        rows = stack.pop()
        if split is None:
            out[rows] = cell
            cell += 1
            continue
        low = points[rows, split[0]] <= split[1]
        stack += [rows[~low], rows[low]]
    return out


@dataclass(frozen=True)
class Merging:
    """Rows put together by their labels.

    Attributes:
        labels: the number, 0, 1, ..., of the new row that each of the chosen rows goes into, shape (n,).
        rows: the chosen rows, shape (n,); None: all.
        times: how many rows each of them stands for, shape (n,); None: one.
    """

    labels: IntArray
    rows: IntArray | None = None
    times: FloatArray | None = None

    @cached_property
    def size(self) -> int:
        """The number of new rows."""
        return int(self.labels.max()) + 1

    @cached_property
    def first(self) -> IntArray:
        """The first old row that goes into each new one, shape (size,)."""
        first = np.zeros(self.size, np.int64)
        first[self.labels[::-1]] = np.arange(self.labels.size)[::-1]
        return first if self.rows is None else np.asarray(self.rows[first])

    def weights(self, masses: FloatArray) -> FloatArray:
        """Return the masses (N,) of the chosen rows, each for all that it stands for, shape (n,)."""
        chosen = masses if self.rows is None else masses[self.rows]
        return chosen if self.times is None else chosen * self.times

    def sums(self, masses: FloatArray) -> FloatArray:
        """Return the sums of masses (N,) over each new row, shape (size,)."""
        return np.asarray(np.bincount(self.labels, self.weights(masses), self.size), np.float64)

    def means(self, columns: FloatArray, masses: FloatArray) -> FloatArray:
        """Return the means of columns (N, d), weighted by masses (N,), over each new row, shape (size, d).

        A new row without mass takes the values of its first old row.
        """
        weights, total = self.weights(masses), self.sums(masses)
        chosen = columns if self.rows is None else columns[self.rows]
        sums = np.column_stack([np.bincount(self.labels, weights * c, self.size) for c in chosen.T])
        heavy = total[:, None] > 0
        return np.where(heavy, sums / np.where(heavy, total[:, None], 1.0), columns[self.first])
