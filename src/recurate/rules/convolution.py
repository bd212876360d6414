r"""Convolutions with a noise, between a lattice of utilities u and a quadrature grid s.

For masses p at the nodes, :meth:`Convolution.log_phi` is :math:`\log \sum_u p(u) F(s - u)` on the grid, and
:meth:`Convolution.gather` is :math:`\sum_s v(s) f(s - u)` at the nodes. Both kernels depend on s - u only, so
all populations share their tables.

A lattice of up to 40 units needs one small dense table. A wider one is divided into blocks of 40 units, and
adjacent blocks use three tables. Between blocks further apart, 1 - F(z) and f(z) both equal exp(-z) in double
precision for Gumbel noise; this factorises, so all distant blocks together cost one recursion. For other
noises they are zero.

Few atoms use few nodes: one dense table then has columns for these alone, whatever the span.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.rules.lattice import NODE, POINTS
from recurate.rules.noise import GUMBEL, REACH, Noise

BLOCK = REACH  # length of a block
NARROW = 34.0  # widest span of utilities that one block holds, with its margins
SPARSE = 4  # nodes per node in use from which columns for the others are left out
DENSE = 300_000  # most entries of a table across blocks
_NODES = round(BLOCK / NODE)  # nodes per block


@functools.lru_cache(maxsize=32)
def _tables(noise: Noise, step: float, first: int, grid: int, nodes: int) -> list[FloatArray]:
    """Return F, 1 - F and f, each (grid, nodes), at z = s - u = (first + i) * step - j * NODE."""
    # The functions depend on differences only: evaluate each difference once, then index.
    unit = math.gcd(round(NODE * 1e7), round(step * 1e7))
    fine = unit * 1e-7
    stride, spacing = round(step / fine), round(NODE / fine)
    offsets = (first + np.arange(grid))[:, None] * stride - np.arange(nodes) * spacing
    lowest = int(offsets.min())
    z: FloatArray = np.asarray(np.arange(lowest, int(offsets.max()) + 1) * fine, np.float64)
    offsets -= lowest
    return [np.asarray(g(z), np.float64)[offsets] for g in (noise.cdf, noise.sf, noise.pdf)]


def _rounded(count: int) -> int:
    """Return the count rounded up to a multiple of 64, so that similar populations share tables."""
    return -(-count // 64) * 64


def _columns(used: IntArray, nodes: int) -> IntArray | slice:
    """Return the nodes in use if they are few, else all."""
    found = np.unique(used[:, None] + np.arange(POINTS)) if SPARSE * used.size < nodes else used
    return found if SPARSE * found.size <= nodes else slice(nodes)


class Convolution:
    """Convolutions for one lattice.

    Args:
        noise: Noise with the functions F, 1 - F and f.
        step: Spacing of the quadrature grid, 0.25 times a power of two.
        nodes: Number of nodes of the lattice; node j lies at NODE * j.
        used: Indices of the nodes in use, sorted (see ``Lattice.used``).
        reach: Length of the grid beyond the last node.
    """

    def __init__(self, noise: Noise, step: float, nodes: int, used: IntArray, reach: float) -> None:
        self._points = round(BLOCK / step)
        self._nodes = nodes
        self._blocks = -(-nodes // _NODES)
        self._tail = noise is GUMBEL
        self._narrow = nodes <= _NODES
        grid = math.ceil((nodes * NODE + reach) / step)
        self._columns = _columns(used, nodes)
        if self._narrow:
            self._grid = grid
            tables = [
                t[:grid, self._columns] for t in _tables(noise, step, 0, _rounded(grid), _rounded(nodes))
            ]
        elif self._tail and isinstance(self._columns, np.ndarray) and self._columns.size * grid <= DENSE:
            self._narrow = True
            z = np.arange(grid)[:, None] * step - self._columns * NODE
            tables = [np.asarray(g(z), np.float64) for g in (noise.cdf, noise.sf, noise.pdf)]
        else:
            self._grid = -(-grid // self._points) * self._points
            tables = _tables(noise, step, -self._points, 3 * self._points, _NODES)
            self._decay_nodes = np.exp(np.arange(_NODES) * NODE)
            self._decay_grid = np.exp(-np.arange(self._points) * step)
        self._cdf, self._sf, self._pdf = tables
        # If utilities lie far apart, most blocks of a long lattice are empty.
        self._active = np.unique(np.concatenate([used, used + POINTS - 1]) // _NODES)

    def log_phi(self, mass: FloatArray) -> FloatArray:
        """Return log Phi on the grid, shape (grid,) or (grid, B), for masses (nodes,) or (nodes, B)."""
        if self._narrow:
            own = mass[self._columns]
            phi, complement = self._cdf @ own, self._sf @ own
        else:
            phi, complement = self._wide_phi(mass)
        return _log(phi, complement)

    def gather(self, values: FloatArray) -> FloatArray:
        """Return sum_s values(s) f(s - u) at the nodes in use, shape (nodes,) or (nodes, B)."""
        if self._narrow:
            out = np.zeros((self._nodes, *values.shape[1:]))
            out[self._columns] = self._pdf.T @ values
            return out
        return self._wide_gather(values)

    def _kernel(self, table: FloatArray, offset: int) -> FloatArray:
        """Return a table's rows for the grid block ``offset`` (-1, 0 or 1) blocks above the nodes."""
        return table[(offset + 1) * self._points : (offset + 2) * self._points]

    def _wide_phi(self, mass: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return Phi and its complement to the total mass on the grid, shape (grid, ...), block by block."""
        grid_blocks = self._grid // self._points
        batch = mass.shape[1:]
        blocks = np.zeros((self._blocks * _NODES, *batch))
        blocks[: self._nodes] = mass
        blocks = blocks.reshape(self._blocks, _NODES, -1)
        totals = np.zeros((grid_blocks + 2, blocks.shape[2]))
        totals[: min(self._blocks, grid_blocks + 2)] = blocks.sum(axis=1)[: grid_blocks + 2]
        # Blocks that lie two or more below have F = 1 at every s; those two or more above have F = 0.
        none = np.zeros((2, blocks.shape[2]))
        below = np.concatenate([none, np.cumsum(totals, axis=0)[: grid_blocks - 2]])
        above = np.concatenate([np.cumsum(totals[::-1], axis=0)[::-1][2:], none])[:grid_blocks]
        phi = np.repeat(below[:, None], self._points, axis=1)
        complement = np.repeat(above[:, None], self._points, axis=1)
        for offset in (-1, 0, 1):
            grid = self._active + offset
            inside = (grid >= 0) & (grid < grid_blocks)
            near = blocks[self._active[inside]]
            phi[grid[inside]] += self._kernel(self._cdf, offset) @ near
            complement[grid[inside]] += self._kernel(self._sf, offset) @ near
        if self._tail:
            moments = np.einsum("j,cjb->cb", self._decay_nodes, blocks)
            complement += _far_above(moments, grid_blocks)[:, None] * self._decay_grid[:, None]
        return phi.reshape(-1, *batch), complement.reshape(-1, *batch)

    def _wide_gather(self, values: FloatArray) -> FloatArray:
        batch = values.shape[1:]
        grid = values.reshape(-1, self._points, math.prod(batch))
        out = np.zeros((self._blocks, _NODES, grid.shape[2]))
        for offset in (-1, 0, 1):
            inside = (self._active + offset >= 0) & (self._active + offset < grid.shape[0])
            near = grid[self._active[inside] + offset]
            out[self._active[inside]] += self._kernel(self._pdf, offset).T @ near
        if self._tail:
            far = _far_below(np.einsum("i,cib->cb", self._decay_grid, grid), self._blocks)
            out += far[:, None] * self._decay_nodes[:, None]
        return out.reshape(-1, *batch)[: self._nodes]


class Direct:
    """The same for a few atoms, which are nodes themselves.

    Args:
        noise: Noise with the functions F, 1 - F and f.
        step: Spacing of the quadrature grid, which starts at zero.
        places: Utilities of the atoms, shape (N,), positive.
        reach: Length of the grid beyond the last atom.
    """

    def __init__(self, noise: Noise, step: float, places: FloatArray, reach: float) -> None:
        z = np.arange(math.ceil((float(places.max()) + reach) / step))[:, None] * step - places
        self.cdf, self._sf, self.pdf = (
            np.asarray(g(z), np.float64) for g in (noise.cdf, noise.sf, noise.pdf)
        )

    def log_phi(self, mass: FloatArray) -> FloatArray:
        """Return log Phi on the grid, shape (grid,) or (grid, B), for masses (N,) or (N, B)."""
        return _log(self.cdf @ mass, self._sf @ mass)

    def gather(self, values: FloatArray) -> FloatArray:
        """Return sum_s values(s) f(s - u) at the atoms, shape (N,) or (N, B)."""
        return np.asarray(self.pdf.T @ values)


def _log(phi: FloatArray, complement: FloatArray) -> FloatArray:
    """Return log Phi from Phi and its complement to one."""
    low = phi <= complement
    # Near one, log Phi computed from Phi would lose digits, and a large K - 1 magnifies the loss.
    # Nodal masses may be negative, so rounding may raise Phi slightly above one.
    out = np.log1p(-np.clip(complement, 0.0, 0.5))
    with np.errstate(divide="ignore"):
        out[low] = np.log(np.maximum(phi[low], 0.0))
    return np.asarray(out)


def _far_above(moments: FloatArray, grid_blocks: int) -> FloatArray:
    """Return the sum over blocks c <= b - 2 of e^{-(base_b - base_c)} moments_c, one row per grid block b."""
    far = np.zeros((grid_blocks, moments.shape[1]))
    shrink = math.exp(-BLOCK)
    for b in range(2, grid_blocks):
        new = moments[b - 2] if b - 2 < len(moments) else 0.0
        far[b] = shrink * (far[b - 1] + shrink * new)
    return far


def _far_below(moments: FloatArray, blocks: int) -> FloatArray:
    """Return the sum over grid blocks b >= c + 2 of e^{-(base_b - base_c)} moments_b, one row per block c."""
    far = np.zeros((blocks, moments.shape[1]))
    shrink, last = math.exp(-BLOCK), np.zeros(moments.shape[1])
    for c in range(len(moments) - 3, -1, -1):
        last = shrink * (last + shrink * moments[c + 2])
        if c < blocks:
            far[c] = last
    return far
