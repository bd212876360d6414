r"""The curation multiplier H of Luce choice, to machine precision, in O(N) at any K.

A slate of K candidates is drawn i.i.d. from the law p and one is picked by Luce choice. The picks then
follow the law p H with

.. math:: H(x) = E_{y_2..y_K \sim p} [ K e^{r(x)} / (e^{r(x)} + \sum_{j \ge 2} e^{r(y_j)}) ]

(Ferbach et al. 2024, arXiv 2407.09499, Lemma 2.1). Written as random utility with Gumbel noise (cdf F,
density f), and r already divided by the temperature:

.. math:: \Phi(s) = \sum_y p(y) F(s - r(y)), \qquad H(x) = K \int f(s - r(x)) \Phi(s)^{K-1} ds.

**Quadrature.** The integrand is analytic and decays fast, so the trapezoidal rule on a uniform grid
converges exponentially: its relative error is at most 2 sum_k abs(Gamma(1 + 2 pi i k / h)), uniformly in
atom, law, rewards and K; 1.8e-16 at the step h = 0.25 used here.

**Interpolation.** H depends on x only through r(x), and both maps above are convolutions with smooth
functions. The atoms' mass is spread to nodes of a uniform lattice (spacing 0.05) by the transpose of
10-point Lagrange interpolation, the sums run over nodes, and H is interpolated back: error about 3e-14.

**Any range.** The lattice is cut into blocks 40 nats long. Blocks that touch share three small kernel
matrices (the kernels depend on s - u alone); further than 40 nats apart, 1 - F(z) and f(z) both equal
exp(-z) in double precision, and that factorises, so all far blocks together cost one recursion.
Gaps without any atom that are longer than 800 nats are shortened to 800, which changes nothing in
double precision (e^-800 = 0).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from recurate.errors import InputError
from recurate.rules.noise import GUMBEL

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NODE = 0.05  # lattice spacing, nats
STEP = 0.25  # quadrature step, nats: a multiple of NODE, so the grid is part of the lattice
BLOCK = 40.0  # block length, nats: exp(-40) is below double precision's relative resolution
POINTS = 10  # Lagrange interpolation points
MARGIN = 6.0  # the integrand below min(r) - 6 is under exp(-403)
GAP = 800.0  # longest gap kept between neighbouring rewards
WIDEST = 1e6  # span of a lattice that still fits into memory, nats

_NODES = round(BLOCK / NODE)  # nodes in a block
_GRID = round(BLOCK / STEP)  # quadrature points in a block


@dataclass(frozen=True)
class _Kernels:
    """Noise functions at (quadrature point, node) for blocks at offset -1, 0 and 1, stacked."""

    cdf: FloatArray  # (3, _GRID, _NODES)
    sf: FloatArray
    pdf: FloatArray
    decay_nodes: FloatArray  # (_NODES,): exp(u - base), u over the block's nodes
    decay_grid: FloatArray  # (_GRID,): exp(-(s - base)), s over the block's quadrature points


@functools.cache
def _kernels() -> _Kernels:
    nodes = np.arange(_NODES) * NODE
    grid = np.arange(_GRID) * STEP
    z = np.stack([offset * BLOCK + grid[:, None] - nodes for offset in (-1, 0, 1)])
    return _Kernels(GUMBEL.cdf(z), GUMBEL.sf(z), GUMBEL.pdf(z), np.exp(nodes), np.exp(-grid))


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


def _lagrange(offsets: FloatArray) -> FloatArray:
    """Return Lagrange weights (N, POINTS) at ``offsets`` from nodes 0, 1, ..., POINTS - 1."""
    nodes = np.arange(POINTS)
    weights = np.empty((offsets.size, POINTS))
    for k in nodes:
        others = nodes[nodes != k]
        scale = 1.0 / math.prod(int(k - j) for j in others)
        column = np.full(offsets.size, scale)
        for j in others:
            column *= offsets - j
        weights[:, k] = column
    return weights


class Multiplier:
    """The Luce multiplier for one reward, set up once per population and used at any law and K.

    Args:
        utilities: rewards divided by the temperature, shape (N,), finite, in nats.

    Raises:
        InputError: the utilities are not finite, or span more than a lattice can hold.

    The object holds one sparse (N, nodes) matrix with 10 entries a row.
    """

    def __init__(self, utilities: FloatArray) -> None:
        self._log_utilities = utilities
        with np.errstate(over="ignore", invalid="ignore"):
            span = float(np.ptp(utilities))
        placed = shorten_gaps(utilities) if math.isfinite(span) else utilities
        if math.isfinite(span):
            span = float(np.ptp(placed))
        if not span <= WIDEST:
            raise InputError(
                "the rewards divided by the temperature span too much",
                got=f"{span:.3g} nats",
                remedy=f"use a higher temperature or smaller rewards (at most {WIDEST:g} nats)",
            )
        position = (placed - placed.min() + MARGIN) / NODE
        first = np.floor(position).astype(np.int64) - (POINTS // 2 - 1)
        blocks = int(first.max() + POINTS) // _NODES + 1
        self._span = float(np.ptp(placed))
        # Blocks with nodes in use: far-apart rewards leave most of a long lattice empty.
        self._active = np.unique(np.concatenate([first, first + POINTS - 1]) // _NODES)
        self._blocks = blocks
        columns = (first[:, None] + np.arange(POINTS)).astype(np.int32)
        self._interpolate = scipy.sparse.csr_array(
            (
                _lagrange(position - first).ravel(),
                columns.ravel(),
                np.arange(0, POINTS * utilities.size + 1, POINTS, dtype=np.int32),
            ),
            shape=(utilities.size, blocks * _NODES),
        )
        self._spread = self._interpolate.T

    def __call__(self, law: FloatArray, k: float) -> FloatArray:
        """Return H at every atom.

        Args:
            law: masses p, shape (N,), non-negative, summing to one.
            k: slate size, an integer >= 1 or ``math.inf``.

        Returns:
            H, shape (N,): 0 <= H <= k and sum(p H) = 1 up to rounding.
        """
        if k == 1:
            return np.ones_like(law)
        if math.isinf(k):
            return _tilt(self._log_utilities, law)
        mass = (self._spread @ law).reshape(self._blocks, _NODES)
        grid_blocks = math.ceil((MARGIN + self._span + BLOCK + math.log(k)) / BLOCK) + 1
        powers = np.exp((k - 1) * _log_phi(mass, grid_blocks, self._active))
        multiplier = self._interpolate @ _integrate(STEP * k * powers, self._blocks, self._active)
        return np.asarray(np.clip(multiplier, 0.0, k))


def _tilt(utilities: FloatArray, law: FloatArray) -> FloatArray:
    """K = infinity: H = e^r / E e^r, relative to the largest reward that has mass."""
    alive = law > 0
    top = utilities[alive].max()
    log_mean = math.log(np.exp(utilities[alive] - top) @ law[alive])
    # An atom without mass may lie thousands of nats above all others: cap instead of overflowing.
    return np.asarray(np.exp(np.minimum((utilities - top) - log_mean, 709.0)))


def _log_phi(mass: FloatArray, grid_blocks: int, active: IntArray) -> FloatArray:
    """Return log Phi on the quadrature grid, shape (grid_blocks, _GRID), from mass at the nodes."""
    kernels = _kernels()
    blocks = mass.shape[0]
    totals = np.zeros(grid_blocks + 2)
    totals[: min(blocks, grid_blocks + 2)] = mass.sum(axis=1)[: grid_blocks + 2]
    # Blocks two or more below lie wholly under s (F = 1), two or more above wholly over it (F = 0).
    below = np.concatenate([[0.0, 0.0], np.cumsum(totals)[: grid_blocks - 2]])
    above = np.concatenate([np.cumsum(totals[::-1])[::-1][2:], [0.0, 0.0]])[:grid_blocks]
    phi = np.repeat(below[:, None], _GRID, axis=1)
    complement = np.repeat(above[:, None], _GRID, axis=1)
    for index, offset in enumerate((-1, 0, 1)):
        grid = active + offset
        inside = (grid >= 0) & (grid < grid_blocks)
        near = mass[active[inside]]
        phi[grid[inside]] += near @ kernels.cdf[index].T
        complement[grid[inside]] += near @ kernels.sf[index].T
    complement += _far_complement(mass @ kernels.decay_nodes, grid_blocks)[:, None] * (kernels.decay_grid)
    with np.errstate(divide="ignore"):
        low = np.log(np.maximum(phi, 0.0))
    # Near one, log Phi from Phi itself would lose the digits that a large K - 1 then magnifies.
    return np.asarray(np.where(complement < 0.5, np.log1p(-np.minimum(complement, 0.5)), low))


def _far_complement(moments: FloatArray, grid_blocks: int) -> FloatArray:
    """Return sum over blocks c <= b - 2 of e^{-(base_b - base_c)} moments_c, for each b."""
    far = np.zeros(grid_blocks)
    shrink = math.exp(-BLOCK)
    for b in range(2, grid_blocks):
        new = moments[b - 2] if b - 2 < moments.size else 0.0
        far[b] = shrink * (far[b - 1] + shrink * new)
    return far


def _integrate(values: FloatArray, blocks: int, active: IntArray) -> FloatArray:
    """Return sum_s values(s) f(s - u) at every node u, flat; ``values`` is (grid blocks, _GRID)."""
    kernels = _kernels()
    out = np.zeros((blocks, _NODES))
    for index, offset in enumerate((-1, 0, 1)):
        inside = (active + offset >= 0) & (active + offset < values.shape[0])
        out[active[inside]] += values[active[inside] + offset] @ kernels.pdf[index]
    moments = values @ kernels.decay_grid
    shrink, far = math.exp(-BLOCK), 0.0
    for c in range(values.shape[0] - 3, -1, -1):
        far = shrink * (far + shrink * moments[c + 2])
        if c < blocks:
            out[c] += far * kernels.decay_nodes
    return out.ravel()
