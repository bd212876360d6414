r"""Atoms on a uniform lattice: smooth sums over N atoms in O(N), at any range of utilities.

Sums :math:`\sum_y p(y) g(u_y)` and evaluations :math:`g(u_x)` of a smooth function g (a convolution with
a noise) need g at the nodes of a lattice only: between nodes it is the 10-point Lagrange interpolant,
with spacing 0.05 in error by 1e-12 of a noise's density, and by about 3e-14 of the multiplier.
:meth:`Lattice.spread` is the transpose of :meth:`Lattice.interpolate`.

Many atoms are put into cells 0.002 wide. Within a cell the interpolant is its cubic Taylor polynomial at
the centre (the fourth-order term folded into the lower ones by :math:`\delta^4 \approx \delta^2 - 1/8`,
Chebyshev's economisation: error below 1e-14), so an atom costs four multiplications instead of ten, and
in memory one offset and one cell number. Atoms are worked on in chunks that fit into a core's cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from recurate.core.arrays import FloatArray
from recurate.core.cells import Grid

NODE = 0.05  # spacing, in units of the noise
POINTS = 10  # Lagrange interpolation points
GAP = 800.0  # longest gap kept between neighbouring utilities: exp(-800) is zero in double precision
CELL = 0.002  # cell width; the fifth-order term is (CELL / 2)^5 / 120
MANY = 30_000  # atoms above which cells pay
ORDER = 4  # moments kept per cell
CHUNK = 1 << 16  # atoms worked on at once
SPARSE = 8  # fewer atoms per cell do not repay the cells


def shorten_gaps(values: FloatArray, longest: float = GAP) -> FloatArray:
    """Shift values so that no two neighbours (in sorted order) are further apart than ``longest``."""
    if np.ptp(values) <= longest:
        return values
    order = np.argsort(values, kind="stable")
    steps = np.diff(values[order])
    if steps.max() <= longest:
        return values
    short = np.zeros_like(values)
    short[order[1:]] = np.cumsum(np.minimum(steps, longest))
    return short


class Lattice:
    """Atoms at utilities (N,), finite, with lattice nodes at ``lowest - margin + NODE * (0, 1, ...)``.

    Attributes:
        nodes: how many nodes.
        used: indices of nodes that some atom touches lie in [used[i], used[i] + POINTS), sorted.
    """

    def __init__(self, utilities: FloatArray, margin: float) -> None:
        placed = shorten_gaps(utilities)
        shift = float(placed.min()) - margin
        cells = _Cells.of(placed, shift) if placed.size >= MANY else None
        self._atoms = cells or _Direct.of((placed - shift) / NODE)
        self.used = self._atoms.used
        self.nodes = int(self.used[-1]) + POINTS

    def spread(self, law: FloatArray) -> FloatArray:
        """Return masses (nodes,) or (nodes, B) that stand for the law (N,) or laws (N, B)."""
        return self._atoms.spread(law)

    def interpolate(self, values: FloatArray) -> FloatArray:
        """Return the values (N,) or (N, B) at the atoms of a function given at the nodes."""
        return self._atoms.interpolate(values)


@dataclass(frozen=True)
class _Direct:
    """One sparse row of Lagrange weights per atom."""

    matrix: scipy.sparse.csr_array
    transpose: scipy.sparse.csc_array
    used: NDArray[np.int64]

    @classmethod
    def of(cls, positions: FloatArray) -> _Direct:
        """Return the weights of atoms at ``positions`` (N,), in units of the spacing."""
        first = np.floor(positions).astype(np.int64) - (POINTS // 2 - 1)
        matrix = _rows(first, _lagrange(positions - first))
        return cls(matrix, matrix.T, np.unique(first))

    def spread(self, law: FloatArray) -> FloatArray:
        return np.asarray(self.transpose @ law)

    def interpolate(self, values: FloatArray) -> FloatArray:
        return np.asarray(self.matrix @ values)


@dataclass(frozen=True)
class _Cells:
    """Atoms in cells.

    Attributes:
        grid: the cells, and the position of each atom within its own.
        taylor: for each order the sparse (cells, nodes) matrix of Taylor coefficients.
    """

    grid: Grid
    taylor: list[scipy.sparse.csr_array]
    used: NDArray[np.int64]

    @classmethod
    def of(cls, placed: FloatArray, shift: float) -> _Cells | None:
        """Return the cells, or None where there are so many that rows of weights are cheaper."""
        grid = Grid.of(placed, shift, CELL)
        if SPARSE * grid.occupied.size > placed.size:
            return None
        centres = (grid.occupied + 0.5) * (CELL / NODE)
        first = np.floor(centres).astype(np.int64) - (POINTS // 2 - 1)
        taylor = [_rows(first, weights) for weights in _taylor(centres - first, 0.5 * CELL / NODE)]
        return cls(grid, taylor, np.unique(first))

    def spread(self, law: FloatArray) -> FloatArray:
        if law.ndim == 2:
            return np.column_stack([self.spread(column) for column in law.T])
        size = self.taylor[0].shape[0]
        moments = np.zeros((size, ORDER))
        powers = np.ones((CHUNK, ORDER))
        for low in range(0, law.size, CHUNK):
            offsets = self.grid.offsets[low : low + CHUNK]
            own = powers[: offsets.size]
            for k in range(1, ORDER):
                np.multiply(own[:, k - 1], offsets, out=own[:, k])
            # One column per atom, with its mass in its cell's row.
            masses = scipy.sparse.csc_array(
                (law[low : low + CHUNK], self.grid.places[low : low + CHUNK], _POINTERS[: offsets.size + 1]),
                shape=(size, offsets.size),
            )
            moments += masses @ own
        total = np.zeros(self.taylor[0].shape[1])
        for matrix, column in zip(self.taylor, moments.T, strict=True):
            total += matrix.T @ np.ascontiguousarray(column)
        return total

    def interpolate(self, values: FloatArray) -> FloatArray:
        if values.ndim == 2:
            return np.column_stack([self.interpolate(column) for column in values.T])
        coefficients = [matrix @ values for matrix in self.taylor]
        out = np.empty(self.grid.offsets.size)
        index, part = np.empty(CHUNK, np.intp), np.empty(CHUNK)
        for low in range(0, out.size, CHUNK):
            offsets, result = self.grid.offsets[low : low + CHUNK], out[low : low + CHUNK]
            own, term = index[: offsets.size], part[: offsets.size]
            own[:] = self.grid.places[low : low + CHUNK]
            # "clip" skips a check of numbers that are known to be right.
            np.take(coefficients[-1], own, out=result, mode="clip")
            for column in coefficients[-2::-1]:
                result *= offsets
                result += np.take(column, own, out=term, mode="clip")
        return out


_POINTERS = np.arange(CHUNK + 1, dtype=np.int32)


def _rows(first: NDArray[np.int64], weights: FloatArray) -> scipy.sparse.csr_array:
    """Return the sparse matrix with ``weights`` (rows, POINTS) from column ``first`` (rows,)."""
    columns = (first[:, None] + np.arange(POINTS)).astype(np.int32)
    pointers = np.arange(0, POINTS * first.size + 1, POINTS, dtype=np.int32)
    return scipy.sparse.csr_array(
        (weights.ravel(), columns.ravel(), pointers), shape=(first.size, int(first.max()) + POINTS)
    )


def _lagrange(offsets: FloatArray) -> FloatArray:
    """Return Lagrange weights (N, POINTS) at ``offsets`` from nodes 0, 1, ..., POINTS - 1."""
    nodes = np.arange(POINTS)
    weights = np.empty((offsets.size, POINTS))
    for k in nodes:
        others = nodes[nodes != k]
        column = np.full(offsets.size, 1.0 / math.prod(int(k - j) for j in others))
        for j in others:
            column *= offsets - j
        weights[:, k] = column
    return weights


def _taylor(offsets: FloatArray, half: float) -> list[FloatArray]:
    """Return Taylor coefficients at ``offsets``, (cells, POINTS) for each order, of Lagrange's polynomials.

    L(offset + half * d) = sum_k c_k d^k for d in [-1, 1], cut after the fourth order and economised.
    """
    middle = (POINTS - 1) / 2
    polynomials = np.array(
        [np.poly(np.delete(np.arange(POINTS), k) - middle) for k in range(POINTS)]
    ) / np.array([[math.prod(k - j for j in range(POINTS) if j != k)] for k in range(POINTS)])
    derivatives, current, scale = [], polynomials, 1.0
    for k in range(ORDER + 1):
        powers = np.vander(offsets - middle, current.shape[1])
        derivatives.append(scale * (powers @ current.T))
        current = current[:, :-1] * np.arange(current.shape[1] - 1, 0, -1)
        scale *= half / (k + 1)
    derivatives[0] = derivatives[0] - derivatives[ORDER] / 8
    derivatives[2] = derivatives[2] + derivatives[ORDER]
    return derivatives[:ORDER]
