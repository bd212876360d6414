r"""Fixed points of a loop's map of laws, whether they attract, and loops that never settle.

One round maps the law p to T(p) = rho p_ref + (1 - rho) p W_p (all stages composed). A fixed point p
attracts iff

- the derivative of T on laws with the same atoms has a spectral radius below one, and
- every absent atom x that p_0 has would shrink if it came in: its **invasion multiplier** (1 - rho) W_p(x)
  is below one (Hofbauer and Sigmund 1998, chapter 15: transversal eigenvalues).

The map is iterated; now and then Newton's method looks for a fixed point nearby, on the atoms that have mass
left. It
is taken for the limit only if it attracts: a loop that circles ever more slowly past saddles is not said to
    settle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recurate.core.arrays import FloatArray, IntArray

Map = Callable[[FloatArray], FloatArray]

RESIDUAL = 1e-11  # sum of absolute differences of T(p) and p at a fixed point
NEAR = 0.02  # total variation within which Newton's fixed point belongs to the iterate
WITHIN = 0.6  # and within which it does if the iterate has come nearer to it since it was first found
FAINT = 1e-10  # mass below which an atom may be absent from a fixed point
MOST_ATOMS = 400  # on which Newton's method is tried
MOST_FED = 60  # the same where real data feed atoms, which makes the map contract
EVERY = 25  # iterations between two tries, growing by half each time
LONGEST = 4000  # iterations
MEMORY = 6  # iterates that are mixed
NEUTRAL = 1e-6  # one less the radius below which fixed points may lie side by side
MARGIN = 1e-9  # by which radius and invasion multipliers may exceed one where they are one in truth


@dataclass(frozen=True)
class FixedPoint:
    """Where an iteration ended.

    Attributes:
        law: masses (N,).
        settles: whether this is an attracting fixed point (else the last iterate).
        residual: sum of absolute values of T(p) - p.
        radius: spectral radius of T's derivative on the atoms that are present; nan if unknown.
        invasion: growth factor of every atom, were it rare, (N,): one on atoms that are present at rho = 0.
        iterations: of the map.
        why: why it stopped.
    """

    law: FloatArray
    settles: bool
    residual: float
    radius: float
    invasion: FloatArray
    iterations: int
    why: str


def settle(
    step: Map, growth: Map, start: FloatArray, *, fed: NDArray[np.bool_], longest: int = LONGEST
) -> FixedPoint:
    """Iterate a map of laws to a fixed point that attracts, or say that there is none.

    Args:
        step: T, from laws (N,) to laws (N,).
        growth: p -> (1 - rho) W_p, the factor by which each atom's selected mass grows, (N,).
        start: p_0.
        fed: atoms that real data feed every round, which are never absent, (N,).
        longest: iterations, at most.
    """
    # Too many atoms for Newton's method, and a map that real data make contract: iterates are mixed.
    advance = _Mixed(step) if fed.sum() > MOST_FED else step
    law, wait, tries = start, EVERY, 0
    moved, guess = math.inf, None
    for count in range(1, longest + 1):
        new = advance(law)
        moved = float(np.abs(new - law).sum())
        law = new
        if count >= wait or moved < RESIDUAL:
            tries += 1
            wait = count + int(EVERY * 1.5**tries)
            found = _attractor(step, growth, law, start, fed, count)
            if found is not None and (_distance(found.law, law) < NEAR or _nears(found.law, law, guess)):
                return found
            guess = None if found is None else (found.law, law)
            if moved == 0:
                break
    radius, invasion = math.nan, growth(law)
    return FixedPoint(law, False, moved, radius, invasion, count, _why_not(moved, invasion, start, fed))


class _Mixed:
    """A map whose iterates are mixed with the last few ones so that residuals cancel (Anderson 1965).

    Fixed points are the map's own. Calling it elsewhere than at its last result starts afresh.
    """

    def __init__(self, step: Map) -> None:
        self.plain = step
        self._points: list[FloatArray] = []
        self._gaps: list[FloatArray] = []
        self._last: FloatArray | None = None

    def __call__(self, law: FloatArray) -> FloatArray:
        new = self.plain(law)
        if law is not self._last:
            self._points, self._gaps = [], []
        self._points, self._gaps = [*self._points[-MEMORY:], law], [*self._gaps[-MEMORY:], new - law]
        if len(self._gaps) > 2:
            changes = np.column_stack([self._gaps[-1] - g for g in self._gaps[:-1]])
            share = np.linalg.lstsq(changes, self._gaps[-1], rcond=1e-10)[0]
            moves = np.column_stack(
                [
                    self._points[-1] + self._gaps[-1] - x - g
                    for x, g in zip(self._points[:-1], self._gaps[:-1], strict=True)
                ]
            )
            mixed = new - moves @ share
            if mixed.min() >= 0:
                new = mixed / mixed.sum()
        self._last = new
        return new


def _distance(p: FloatArray, q: FloatArray) -> float:
    return 0.5 * float(np.abs(p - q).sum())


def _nears(found: FloatArray, law: FloatArray, guess: tuple[FloatArray, FloatArray] | None) -> bool:
    """Whether the same fixed point was found before, and the iterate has come nearer since."""
    if guess is None or _distance(found, guess[0]) > 1e-9:
        return False
    return _distance(found, law) < min(WITHIN, (1 - 1e-4) * _distance(found, guess[1]))


def _why_not(moved: float, invasion: FloatArray, start: FloatArray, fed: NDArray[np.bool_]) -> str:
    open_to = float(invasion[(start > 0) & ~fed].max(initial=0.0))
    if moved < 1e-6 and open_to <= 1 + 1e-4:
        return "it still drifts, ever more slowly: a border case, or a limit that attracts at no fixed rate"
    return "it does not settle: it cycles, or wanders past fixed points that do not attract"


def _attractor(
    step: Map, growth: Map, law: FloatArray, start: FloatArray, fed: NDArray[np.bool_], count: int
) -> FixedPoint | None:
    """Return the attracting fixed point near a law, or None."""
    present = fed | (law > FAINT)
    atoms = np.flatnonzero(present)
    if atoms.size > (MOST_FED if fed.any() else MOST_ATOMS):
        return _converged(step, growth, law, start, fed, count)
    found = law
    for _ in range(3):
        near = _newton(step, law, atoms)
        if near is None:
            return None
        found = near
        gone = (found[atoms] <= FAINT) & ~fed[atoms]
        if not gone.any():
            break
        atoms = atoms[~gone]
    radius = spectral_radius(step, found, atoms)
    if radius > 1 - NEUTRAL:  # fixed points side by side: only the loop itself tells which one it goes to
        return _converged(step, growth, law, start, fed, count)
    return _judge(step, growth, found, start, fed, atoms, radius, count)


def _converged(
    step: Map, growth: Map, law: FloatArray, start: FloatArray, fed: NDArray[np.bool_], count: int
) -> FixedPoint | None:
    """Judge an iterate itself, where atoms are too many for Newton's method."""
    moved = float(np.abs(step(law) - law).sum())
    if moved > RESIDUAL:
        return None
    atoms = np.flatnonzero(fed | (law > FAINT))
    return _judge(step, growth, law, start, fed, atoms, spectral_radius(step, law, atoms), count)


def _judge(
    step: Map,
    growth: Map,
    law: FloatArray,
    start: FloatArray,
    fed: NDArray[np.bool_],
    atoms: IntArray,
    radius: float,
    count: int,
) -> FixedPoint | None:
    invasion = growth(law)
    absent = (start > 0) & ~fed
    absent[atoms] = False
    if radius > 1 + MARGIN or float(invasion[absent].max(initial=0.0)) > 1 + MARGIN:
        return None
    residual = float(np.abs(step(law) - law).sum())
    neutral = radius > 1 - NEUTRAL or float(invasion[absent].max(initial=0.0)) > 1 - 1e-9
    why = "a fixed point that attracts" if not neutral else "a fixed point, neutral in some direction"
    return FixedPoint(law, True, residual, radius, invasion, count, why)


def _newton(step: Map, law: FloatArray, atoms: IntArray) -> FloatArray | None:
    """Return a fixed point on some atoms near a law, or None where the search leaves the simplex."""
    p = np.zeros_like(law)
    p[atoms] = law[atoms]
    p /= p.sum()
    for _ in range(30):
        gap = (step(p) - p)[atoms]
        size = float(np.abs(gap).sum())
        if size < 1e-14:
            break
        matrix = jacobian(step, p, atoms) - np.eye(atoms.size)
        # Masses sum to one: the constant direction is left out.
        bordered = np.vstack([matrix, np.ones(atoms.size)])
        change = np.linalg.lstsq(bordered, np.append(-gap, 0.0), rcond=1e-12)[0]
        if not np.isfinite(change).all():
            return None
        p[atoms] += change * min(1.0, 0.5 / max(float(np.abs(change).sum()), 1e-300))
        p = np.maximum(p, 0.0)
        p /= p.sum()
    return p if float(np.abs(step(p) - p).sum()) < 1e-11 else None


def jacobian(step: Map, law: FloatArray, atoms: IntArray) -> FloatArray:
    """Return the derivative of T by the masses of some atoms, (n, n), in the tangent of laws.

    By differences of T (which renormalises, so that column j is the derivative along e_j - p).
    """
    out = np.empty((atoms.size, atoms.size))
    for j, atom in enumerate(atoms):
        h = min(1e-6, 0.5 * float(law[atom])) if law[atom] > 1e-5 else 1e-7
        up, down = law.copy(), law.copy()
        up[atom] += h
        two_sided = law[atom] > h
        if two_sided:
            down[atom] -= h
        high = step(up / up.sum()) * up.sum()
        low = step(down / down.sum()) * down.sum()
        out[:, j] = (high - low)[atoms] / (2 * h if two_sided else h)
    return out


def spectral_radius(step: Map, law: FloatArray, atoms: IntArray) -> float:
    """Return the spectral radius of T's derivative on changes of mass that sum to zero on these atoms."""
    n = atoms.size
    if n == 1:
        return 0.0
    if n <= MOST_FED:
        matrix = jacobian(step, law, atoms)
        centre = np.eye(n) - 1.0 / n
        return float(np.abs(np.linalg.eigvals(centre @ matrix @ centre)).max())
    return _power(step, law, atoms)


def _power(step: Map, law: FloatArray, atoms: IntArray) -> float:
    """Estimate it by the growth of a small change over 60 applications."""
    rng = np.random.default_rng(0)
    change = np.zeros_like(law)
    change[atoms] = law[atoms] * rng.standard_normal(atoms.size)
    change[atoms] -= law[atoms] * change.sum()
    rates = []
    for _ in range(60):
        size = float(np.abs(change).sum())
        if size == 0:
            return 0.0
        change *= 1e-5 / size
        moved = (step(np.maximum(law + change, 0.0)) - step(np.maximum(law - change, 0.0))) / 2
        rates.append(float(np.abs(moved).sum()) / 1e-5)
        change = moved
    return float(np.exp(np.mean(np.log(np.maximum(rates[-20:], 1e-300)))))
