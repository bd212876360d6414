r"""The curation multiplier H of random-utility choice, to machine precision, in O(N) for any K.

A slate of K candidates is drawn i.i.d. from the law p, and the candidate with the largest reward + noise is
picked. The picks then have the law p H. For Gumbel noise (Luce choice),

.. math:: H(x) = E_{y_2..y_K \sim p} [ K e^{r(x)} / (e^{r(x)} + \sum_{j \ge 2} e^{r(y_j)}) ]

(Ferbach et al. 2024, arXiv 2407.09499, Lemma 2.1). For any noise with distribution function F and density f,
and rewards r that are already divided by the temperature,

.. math:: \Phi(s) = \sum_y p(y) F(s - r(y)), \qquad H(x) = K \int f(s - r(x)) \Phi(s)^{K-1} ds,

If the best m of the K are kept without replacement (Plackett-Luce for Gumbel noise), a candidate is among
them if at most m - 1 rivals exceed it:

.. math:: H(x) = \frac{K}{m} \int f(s - r(x))\, P(\mathrm{Bin}(K - 1, 1 - \Phi(s)) \le m - 1)\, ds.

**Quadrature.** The integrand is analytic and decays fast, so the trapezoidal rule on a uniform grid
converges exponentially. For Gumbel noise, its relative error is at most 2 sum_k abs(Gamma(1 + 2 pi i k / h)),
uniformly in the atom, the law, the rewards and K; it is 1.8e-16 at the step h = 0.25 used here. For other
noises, h is at most 0.3 / sqrt(2 log K), and the identity E_p H = 1, which holds only if the rule has
converged, is checked in every call: the step is halved until it holds.

**Interpolation.** H depends on x through r(x) only. Sums therefore run over the nodes of a lattice
(:mod:`recurate.rules.lattice`), and convolutions use small tables (:mod:`recurate.rules.convolution`).

For large K, Phi^(K-1) is computed as exp((K - 1) log Phi), and log Phi from 1 - Phi if that is small.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.rules.convolution import NARROW, Convolution, Direct
from recurate.rules.lattice import Few, Lattice, shorten_gaps
from recurate.rules.noise import GUMBEL, REACH, Function, Noise

STEP = 0.25  # largest quadrature step
FINEST = STEP / 64  # smallest quadrature step
FEW = 100  # largest number of atoms that are their own nodes, within NARROW
WIDEST = 1e6  # largest span of a lattice, in units of the noise; more does not fit into memory
TOLERANCE = 1e-11  # error allowed in E_p H = 1 for noises other than Gumbel
NEGLIGIBLE = 1e-17  # mass K (1 - F) that is neglected


class Multiplier:
    """The multiplier of random-utility choice, for one population and any law and K.

    Args:
        utilities: Rewards divided by the temperature, shape (N,), finite, in units of the noise.
        noise: Noise that is added to the utilities before the largest is picked.

    Raises:
        InputError: If the utilities are not finite, or span more than a lattice can hold.
    """

    def __init__(self, utilities: FloatArray, noise: Noise = GUMBEL) -> None:
        self._utilities = utilities
        self._noise = noise
        _check_span(utilities)
        # So far below the lowest utility the integrand, at most f F, is negligible: F^2 < 1e-18.
        margin = _first_below(lambda z: noise.cdf(-z), 1e-9, REACH)
        few = utilities.size <= FEW and float(np.ptp(utilities)) <= NARROW
        self._lattice = Few(utilities, margin) if few else Lattice(utilities, margin)
        self._convolutions: dict[tuple[float, float], Convolution | Direct] = {}

    def __call__(self, law: FloatArray, k: ArrayLike, keep: int = 1) -> FloatArray:
        """Return H at every atom.

        Args:
            law: Masses p, shape (N,), non-negative, summing to one; or B laws, shape (N, B).
            k: Slate size, a whole number >= 1 or, for Gumbel noise and keep = 1, ``math.inf``. For B laws, it
                may be one size per law, shape (B,).
            keep: Number of candidates kept per slate.

        Returns:
            H, of the law's shape: 0 <= H <= k / keep, and sum(p H) = 1 up to rounding.

        Raises:
            InputError: If the noise is too rough, or its tails too heavy, for the quadrature.
        """
        sizes = np.asarray(k, float)
        if sizes.ndim == 0:
            if sizes == keep:
                return np.ones_like(law)
            if math.isinf(sizes):
                return tilt(self._utilities, law)
        elif np.isinf(sizes).any():
            infinite = np.isinf(sizes)
            out = np.empty_like(law)
            out[:, infinite] = tilt(self._utilities, law[:, infinite])
            if not infinite.all():
                out[:, ~infinite] = self(law[:, ~infinite], sizes[~infinite], keep)
            return out
        mass = self._lattice.spread(law)
        at_nodes = self._at_nodes(mass, sizes, keep)
        # Spreading is the transpose of interpolation, so the sum is E_p H, which is one up to rounding.
        at_nodes /= (at_nodes * mass).sum(axis=0)
        multiplier = self._lattice.interpolate(at_nodes)
        np.clip(multiplier, 0.0, sizes / keep, out=multiplier)
        return multiplier

    def slopes(self, law: FloatArray, k: float, atoms: IntArray) -> FloatArray | None:
        """Return the derivative of H at some atoms in the masses of these atoms, (n, n), for one law.

        It is K (K - 1) times the integral of f(s - r(x)) F(s - r(y)) Phi^(K - 2). None unless the noise is
        Gumbel, K is finite and the atoms of the population are few.
        """
        if self._noise is not GUMBEL or math.isinf(k) or not isinstance(self._lattice, Few):
            return None
        if k == 1:
            return np.zeros((atoms.size, atoms.size))
        direct = self._convolution(STEP, _right_margin(GUMBEL, k))
        assert isinstance(direct, Direct)
        weight = STEP * k * (k - 1) * np.exp(direct.log_phi(law)) ** (k - 2)
        return np.asarray((direct.pdf[:, atoms] * weight[:, None]).T @ direct.cdf[:, atoms])

    def _at_nodes(self, mass: FloatArray, sizes: FloatArray, keep: int) -> FloatArray:
        largest = float(sizes.max())
        reach = _right_margin(self._noise, largest)
        step = STEP
        if self._noise is not GUMBEL:
            while step > 0.3 / math.sqrt(2 * math.log(largest)):
                step /= 2
        # If several are kept, the probability of being among them steepens with K: 0.25 may be too coarse.
        sure = self._noise is GUMBEL and keep == 1
        while True:
            convolution = self._convolution(step, reach)
            weights = slate_weight(convolution.log_phi(mass), sizes, keep)
            found = convolution.gather(step * weights)
            error = 0.0 if sure else float(np.max(np.abs((found * mass).sum(axis=0) - 1)))
            if error < TOLERANCE:
                return found
            step /= 2
            if step < FINEST:
                raise InputError(
                    f"the noise {self._noise.name!r}, or {keep} of {largest:g}, is too rough to integrate",
                    got=f"an error of {error:.2g} in E H = 1",
                    remedy="use a smooth density of unit scale whose tails fall like exp(-z) or faster; to "
                    "keep many of a large slate, use the limit, TopFraction",
                )

    def _convolution(self, step: float, reach: float) -> Convolution | Direct:
        if (step, reach) not in self._convolutions:
            lattice = self._lattice
            self._convolutions[step, reach] = (
                Direct(self._noise, step, lattice.places, reach)
                if isinstance(lattice, Few)
                else Convolution(self._noise, step, lattice.nodes, lattice.used, reach)
            )
        return self._convolutions[step, reach]


def slate_weight(log_phi: FloatArray, sizes: FloatArray, keep: int = 1) -> FloatArray:
    """Return (K / m) P(at most m - 1 of K - 1 rivals exceed s) for log Phi(s), shape (grid,) or (grid, B)."""
    if keep == 1:
        return np.asarray(sizes * np.exp((sizes - 1) * log_phi))
    from scipy.special import betainc, betaincc

    near_one = log_phi > -math.log(2)
    # P(Bin(K - 1, q) <= m - 1) = I_{1-q}(K - m, m) = 1 - I_q(m, K - m); the smaller argument is used.
    chance = np.where(
        near_one,
        betaincc(keep, sizes - keep, np.where(near_one, -np.expm1(log_phi), 0.5)),
        betainc(sizes - keep, keep, np.exp(log_phi)),
    )
    return np.asarray(sizes / keep * chance)


def tilt(utilities: FloatArray, law: FloatArray) -> FloatArray:
    """Return the multiplier of Luce choice at K = infinity, H = e^r / E e^r, of the law's shape.

    Args:
        utilities: Rewards divided by the temperature, shape (N,).
        law: Masses, shape (N,), or B laws, shape (N, B).
    """
    if law.ndim == 2:
        return np.column_stack([tilt(utilities, column) for column in law.T])
    alive = law != 0  # nodal masses may be negative
    top = utilities[alive].max()
    log_mean = math.log(np.exp(utilities[alive] - top) @ law[alive])
    # An atom without mass may lie thousands of nats above all others: H is capped to prevent overflow.
    return np.asarray(np.exp(np.minimum((utilities - top) - log_mean, 709.0)))


def _check_span(utilities: FloatArray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        span = float(np.ptp(utilities))
    if span > NARROW and math.isfinite(span):
        span = float(np.ptp(shorten_gaps(utilities)))
    if not span <= WIDEST:
        raise InputError(
            "the rewards divided by the temperature span too much",
            got=f"{span:.3g} nats",
            remedy=f"use a higher temperature or smaller rewards (at most {WIDEST:g} nats)",
        )


def _right_margin(noise: Noise, largest: float) -> float:
    """Return how far above the highest utility K (1 - F) is negligible, rounded up."""
    if noise is GUMBEL:
        # Steps of eight keep the number of different grids small.
        return 8 * math.ceil((REACH + math.log(largest)) / 8)
    return _first_below(noise.sf, NEGLIGIBLE / largest, 2 * REACH)


def _first_below(tail: Function, mass: float, longest: float) -> float:
    """Return the first whole z up to ``longest`` at which the tail is below a mass, else ``longest``."""
    z = np.arange(0.0, longest + 1)
    below = np.flatnonzero(np.asarray(tail(z)) < mass)
    return float(z[below[0]]) if below.size else longest
