"""Cells that group values: equal cells on a line, and the cells of a binary tree over points."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recurate.core.arrays import FloatArray, IntArray

Cut = tuple[float, int, float]  # worth (zero: no cut), column, and largest value below the cut
Splits = tuple[tuple[int, float] | None, ...]  # a tree in preorder: (column, threshold), or None for a cell


@dataclass(frozen=True)
class Grid:
    """Values in cells of equal width on a line; only occupied cells are stored.

    Attributes:
        occupied: Numbers of the occupied cells, increasing, shape (cells,).
        places: Index in ``occupied`` of each value's cell, shape (N,).
        offsets: Position of each value within its cell, in [-1, 1], shape (N,).
    """

    occupied: NDArray[np.int64]
    places: NDArray[np.int32]
    offsets: FloatArray

    @classmethod
    def of(cls, values: FloatArray, low: float, width: float) -> Grid:
        """Return the grid of values (N,) with the cells [low + i width, low + (i + 1) width)."""
        offsets = (values - low) / width
        numbers = np.floor(offsets)
        offsets -= numbers
        offsets -= 0.5
        offsets *= 2.0
        occupied, places = _ranked(numbers)
        return cls(occupied, places, offsets)


def _ranked(numbers: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the distinct whole numbers, sorted, and the index of each number (N,) among them."""
    low = float(numbers.min())
    if numbers.max() - low > 8 * numbers.size + 1000:  # the range is too long for a table
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
        cells: Rows of each cell.
        paths: Path to each cell from its root: 0 is below a cut, 1 above it.
        cuts: Column and threshold of every cut, by its path; values up to the threshold are below it.
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
        """Return the tree of repeated cuts; each time, the cell whose cut has the greatest worth is cut.

        Growth ends at ``most`` cells, or when every worth is zero.

        Args:
            points: Points, shape (n, d).
            cut: Function of a cell's rows and depth that returns the best cut, with rows on both sides.
            roots: Rows of the initial cells; None: one cell of all rows.
            most: Maximal number of cells.
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
        """The index of each row's cell, shape (n,)."""
        found = np.zeros(sum(rows.size for rows in self.cells), np.int64)
        for label, rows in enumerate(self.cells):
            found[rows] = label
        return found

    @property
    def splits(self) -> Splits:
        """The tree of one root in preorder, for :func:`assign`."""
        return tuple(self.cuts.get(path) for path in sorted([*self.cuts, *self.paths]))


def assign(splits: Splits, points: FloatArray) -> IntArray:
    """Return the cell of each of the points (n, d), shape (n,); cells are numbered in preorder."""
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
    """A grouping of n selected rows of a table into new rows.

    Attributes:
        labels: Number, from 0, of the new row of each selected row, shape (n,).
        rows: Indices of the selected rows, shape (n,); None: all rows.
        times: Number of rows that each selected row represents, shape (n,); None: one.
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
        """The first old row of each new row, shape (size,)."""
        first = np.zeros(self.size, np.int64)
        first[self.labels[::-1]] = np.arange(self.labels.size)[::-1]
        return first if self.rows is None else np.asarray(self.rows[first])

    def weights(self, masses: FloatArray) -> FloatArray:
        """Return the selected rows' masses, shape (n,), times the rows they represent, for masses (N,)."""
        chosen = masses if self.rows is None else masses[self.rows]
        return chosen if self.times is None else chosen * self.times

    def sums(self, masses: FloatArray) -> FloatArray:
        """Return the total mass of each new row, shape (size,), for masses (N,)."""
        return np.asarray(np.bincount(self.labels, self.weights(masses), self.size), np.float64)

    def means(self, columns: FloatArray, masses: FloatArray) -> FloatArray:
        """Return the means of columns (N, d) within each new row, weighted by masses (N,), shape (size, d).

        A new row without mass has the values of its first old row.
        """
        weights, total = self.weights(masses), self.sums(masses)
        chosen = columns if self.rows is None else columns[self.rows]
        sums = np.column_stack([np.bincount(self.labels, weights * c, self.size) for c in chosen.T])
        heavy = total[:, None] > 0
        return np.where(heavy, sums / np.where(heavy, total[:, None], 1.0), columns[self.first])
