r"""Many rounds, or many settings, for one reward: the population compressed to a few thousand nodes.

With one reward and Gumbel noise the law of every round is p_t = p_0 a_t(u) + p_ref b_t(u), with u = reward /
temperature and smooth functions a_t, b_t: one round multiplies them by H(u) and mixes. So p_t enters all
sums only through integrals of smooth functions against p_0 (and p_ref, and p_0 f for a tracked
column f). In cells of width w those integrals are replaced by interpolation at POINTS Chebyshev
nodes, that is by nodal masses (of either sign)

.. math:: \mu_j = \frac{2}{P} \sum_{k=0}^{P-1}{}' T_k(x_j)\, m_k,
    \qquad m_k = \sum_{x \in cell} p(x) T_k(\delta_x),

which is exact for polynomials of degree POINTS - 1 in each cell.

**Error.** For Gumbel noise H is an average of e^{u-s} exp(-e^{u-s}), so abs H(u + iy) <= H(u) / cos y and
d log H / du <= 1: a_t grows at most like e^{tu}, and off the real line like (1 / cos y)^t. On a Bernstein
ellipse around a cell of width w = REACH / c that bounds the interpolant's error by 4e-11 of a_t
(``docs/theory.md`` evaluates it), with REACH = 8 and POINTS = 20; c counts the rounds, times
stages, and two more for expectations of e^{2u}. (The effective support needs a_t^2, for which the bound is
5e-5.) Tests hold all expectations to 1e-8 of pushing the atoms, over 100 rounds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.cells import Grid
from recurate.rules.lattice import CHUNK
from recurate.rules.multiplier import Multiplier
from recurate.rules.noise import GUMBEL
from recurate.rules.rule import Rule
from recurate.theory.setting import Setting, play

POINTS = 20  # Chebyshev nodes per cell
REACH = 8.0  # cell width times the largest growth rate
WIDEST_CELL = 0.5  # in wider cells the noise itself is not resolved
PARTS = 128  # parts of a cell
MOMENTS = 6  # monomials that represent the Chebyshev polynomials in each part


@dataclass(frozen=True)
class Compressed:
    """Nodes that represent a population with one reward.

    Attributes:
        utilities: reward / temperature at the nodes, shape (n,).
        masses: the nodal masses of p_0 f (and p_ref f) by the name of the column f, shape (parts, n), where
            parts is 1 if p_ref = p_0 and 2 otherwise; the name ``""`` stands for f = 1.
        rate: the growth rate that the cells are made for; more rounds or stages need another object.
        multiplier: the multiplier at the nodes.
        places: the atoms' places in the cells.
    """

    utilities: FloatArray
    masses: Mapping[str, FloatArray]
    rate: float
    multiplier: Multiplier
    places: _Places

    @classmethod
    def of(
        cls,
        utilities: FloatArray,
        law: FloatArray,
        reference: FloatArray | None = None,
        *,
        rate: float,
        columns: Mapping[str, FloatArray] | None = None,
    ) -> Compressed:
        """Compress atoms.

        Args:
            utilities: reward / temperature, shape (N,).
            law: p_0, shape (N,).
            reference: p_ref, shape (N,); None: p_0.
            rate: see :func:`rate_of`.
            columns: further columns (N,) whose expectations are forecast.
        """
        laws = [law] if reference is None else [law, reference]
        # Densities at atoms without mass would grow by K per round for no use.
        alive = np.sum(laws, axis=0) > 0
        whole = bool(alive.all())
        places = _Places.of(
            utilities if whole else utilities[alive], min(WIDEST_CELL, REACH / rate), None if whole else alive
        )
        each = [places.compress([p, *(p * v for v in (columns or {}).values())]) for p in laws]
        names = ["", *(columns or {})]
        found = {name: np.stack([own[i] for own in each]) for i, name in enumerate(names)}
        return cls(places.nodes, found, rate, Multiplier(places.nodes, GUMBEL), places)

    def play(
        self, setting: Setting, *, k: ArrayLike | None = None, real_fraction: ArrayLike | None = None
    ) -> Iterator[FloatArray]:
        """Yield the densities (a_t, b_t) at the nodes of rounds 0, 1, ..., shape (parts, n).

        ``k`` and ``real_fraction``, shape (B,), run B loops of one stage at once, in place of the
        setting's own: the densities then have shape (parts, n, B).
        """
        rules = [stage.rule if k is None else None for stage in setting.stages]
        shape = self.masses[""].shape
        sizes = np.asarray(4.0 if k is None else k, float)  # used only where there are no rules
        batch = sizes.shape
        start, reference = np.zeros(shape + batch), np.zeros(shape + batch)
        start[0], reference[-1] = 1.0, 1.0

        def curate(densities: FloatArray) -> FloatArray:
            for rule in rules:
                mass = self.law(densities)
                weight = self.multiplier(mass, sizes) if rule is None else rule.weigh(self.multiplier, mass)
                densities = densities * (weight / (mass * weight).sum(axis=0))
            return densities

        return play(setting, start, reference, curate, real_fraction)

    def law(self, densities: FloatArray, column: str = "") -> FloatArray:
        """Return the nodal masses of p_t f, shape (n,) or (n, B)."""
        masses = self.masses[column]
        return np.asarray(np.einsum("pn...,pn->n...", densities, masses))

    def mean(self, densities: FloatArray, column: str) -> FloatArray:
        """Return E_t of a column, a scalar or shape (B,)."""
        return np.asarray(self.law(densities, column).sum(axis=0))

    def at_atoms(self, density: FloatArray) -> FloatArray:
        """Return the atoms' values (N,) of a density given at the nodes, shape (n,)."""
        return self.places.expand(density)


def rate_of(setting: Setting) -> float:
    """Return the growth rate of densities over the setting's rounds, per unit of utility."""
    return setting.rounds * len(setting.stages) + 2.0


def compressible(setting: Setting) -> bool:
    """Whether the setting's densities are smooth functions of one reward: Luce choice in every stage."""
    rules = [stage.rule for stage in setting.stages]
    temperatures = {rule.temperature for rule in rules}
    return len(temperatures) == 1 and all(isinstance(r, Rule) and r.noise is GUMBEL for r in rules)


@dataclass(frozen=True)
class _Places:
    """The atoms' places in the occupied cells, each cut into PARTS for its moments.

    Where cells would have no fewer nodes than atoms, there are none (``grid`` is None): every atom is a node.
    """

    nodes: FloatArray  # (cells * POINTS,)
    grid: Grid | None
    alive: BoolArray | None = None  # the atoms that are compressed, if not all

    @classmethod
    def of(cls, utilities: FloatArray, width: float, alive: BoolArray | None = None) -> _Places:
        low = float(utilities.min())
        grid = Grid.of(utilities, low, width)
        if grid.occupied.size * PARTS > utilities.size:
            return cls(utilities, None, alive)
        middles = low + (grid.occupied + 0.5) * width
        nodes = middles[:, None] + 0.5 * width * np.cos((np.arange(POINTS) + 0.5) * (math.pi / POINTS))
        return cls(nodes.ravel(), grid, alive)

    def compress(self, laws: list[FloatArray]) -> list[FloatArray]:
        """Return the nodal masses (cells * POINTS,) of each of several columns of masses (N,)."""
        if self.alive is not None:
            laws = [law[self.alive] for law in laws]
        if self.grid is None:
            return laws
        count = self.nodes.size // POINTS * PARTS
        moments = np.zeros((len(laws), MOMENTS, count))
        for some, part, place in _parts(self.grid):
            for law, own in zip(laws, moments, strict=True):
                mass = law[some].copy()
                for order in own:
                    order += np.bincount(part, mass, count)
                    mass *= place
        split = moments.reshape(len(laws), MOMENTS, -1, PARTS)
        chebyshev = np.tensordot(split, _recentred(), axes=([1, 3], [1, 2]))  # (laws, cells, POINTS)
        return [np.asarray(own.ravel()) for own in chebyshev @ _interpolation()]

    def expand(self, values: FloatArray) -> FloatArray:
        """Return the interpolant at the atoms (N,) of values at the nodes; zero at the other atoms."""
        found = values if self.grid is None else _expand(values, self.grid)
        if self.alive is None:
            return found
        out = np.zeros(self.alive.size)
        out[self.alive] = found
        return out


def _parts(grid: Grid) -> Iterator[tuple[slice, IntArray, FloatArray]]:
    """Yield chunks of atoms, the part of a cell that each is in, and its place there, from -1 to 1."""
    for low in range(0, grid.offsets.size, CHUNK):
        some = slice(low, low + CHUNK)
        place = (grid.offsets[some] + 1.0) * (PARTS / 2)
        part = np.minimum(place.astype(np.int64), PARTS - 1)
        place -= part
        place -= 0.5
        place *= 2.0
        part += grid.places[some].astype(np.int64) * PARTS
        yield some, part, place


def _expand(values: FloatArray, grid: Grid) -> FloatArray:
    """Return the interpolant of values at the nodes of each cell, at every atom (N,)."""
    chebyshev = values.reshape(-1, POINTS) @ _interpolation().T  # (cells, POINTS)
    monomials = np.tensordot(_recentred(), chebyshev, axes=([0], [1]))  # (MOMENTS, PARTS, cells)
    tables = np.ascontiguousarray(monomials.transpose(0, 2, 1)).reshape(MOMENTS, -1)
    out = np.empty(grid.offsets.size)
    for some, part, place in _parts(grid):
        total = tables[-1].take(part)
        for table in tables[-2::-1]:
            total *= place
            total += table.take(part)
        out[some] = total
    return out


@functools.cache
def _recentred() -> FloatArray:
    """Return the Taylor coefficients of every T_k at the parts' centres, (POINTS, MOMENTS, PARTS).

    T_k(centre + delta / PARTS) = sum_j c_j delta^j for delta in [-1, 1], cut after the sixth order and
    economised by delta^6 = 1.5 delta^4 - 0.5625 delta^2 + 1 / 32, in error by at most 1 / 32 of the sixth.
    """
    half = 1.0 / PARTS
    centres = (2 * np.arange(PARTS) + 1) * half - 1.0
    found = np.zeros((POINTS, MOMENTS + 1, PARTS))
    found[0, 0] = 1.0
    found[1, 0], found[1, 1] = centres, half
    for k in range(2, POINTS):  # T_k = 2 x T_{k-1} - T_{k-2}
        found[k] = 2.0 * centres * found[k - 1] - found[k - 2]
        found[k, 1:] += 2.0 * half * found[k - 1, :-1]
    found[:, 4] += 1.5 * found[:, 6]
    found[:, 2] -= 0.5625 * found[:, 6]
    found[:, 0] += found[:, 6] / 32
    return found[:, :MOMENTS]


def _interpolation() -> FloatArray:
    """Return (2 / P) T_k(x_j), shape (k, j), the row k = 0 halved."""
    matrix = np.cos(np.arange(POINTS)[:, None] * (np.arange(POINTS) + 0.5) * (math.pi / POINTS))
    matrix *= 2.0 / POINTS
    matrix[0] *= 0.5
    return np.asarray(matrix)
