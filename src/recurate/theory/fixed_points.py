r"""Fixed points of a loop's map of laws, whether they attract, and loops that never settle.

One round maps the law p to T(p) = rho p_ref + (1 - rho) p W_p (all stages composed). A fixed point p
attracts iff

- the derivative of T on laws with the same atoms has a spectral radius below one, and
- every absent atom x that p_0 has would shrink if it came in: its **invasion multiplier** (1 - rho) W_p(x)
  is below one (Hofbauer and Sigmund 1998, chapter 15: transversal eigenvalues).

The map is iterated, and from time to time Newton's method searches for a fixed point nearby, on the atoms
that still have mass. That point is the limit only if it attracts: a loop that circles ever more slowly past
saddles does not settle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray, IntArray

Map = Callable[[FloatArray], FloatArray]

RESIDUAL = 1e-11  # sum of absolute differences of T(p) and p at a fixed point
NEAR = 0.02  # total variation within which Newton's fixed point belongs to the iterate
WITHIN = 0.6  # the same, if the iterate has approached the point since it was first found
FAINT = 1e-10  # mass below which an atom may be absent from a fixed point
MOST_ATOMS = 400  # largest number of atoms for Newton's method
MOST_FED = 60  # the same where real data feed atoms, which makes the map contract
EVERY = 25  # iterations before Newton's method is tried first; the wait grows by half each time
LONGEST = 4000  # largest number of iterations
AT_ONCE = 1 << 21  # largest number of masses in the laws that are stepped together
MEMORY = 6  # number of earlier iterates that are mixed
NEUTRAL = 1e-6  # a radius above one less this may belong to one of a continuum of fixed points
MARGIN = 1e-9  # rounding by which radius and invasion multipliers of one may exceed one


@dataclass(frozen=True)
class FixedPoint:
    """The end of an iteration.

    Attributes:
        law: the masses of the atoms, shape (N,).
        settles: whether this is an attracting fixed point; else it is the last iterate.
        residual: the sum of absolute values of T(p) - p.
        radius: the spectral radius of T's derivative on the atoms that are present; nan if unknown.
        invasion: the growth factor of every atom if it were rare, shape (N,); at rho = 0 it is one on atoms
            that are present.
        iterations: the number of iterations of the map.
        why: why the iteration stopped.
    """

    law: FloatArray
    settles: bool
    residual: float
    radius: float
    invasion: FloatArray
    iterations: int
    why: str


@dataclass(frozen=True)
class Dynamics:
    """A map of laws (N,) to laws (N,) with its start.

    Attributes:
        step: the map T, also of B laws at once, shape (N, B).
        growth: the map p -> (1 - rho) W_p, the factor by which the selected mass of each atom grows.
        start: p_0, shape (N,).
        fed: whether real data feed each atom, so that it is never absent, shape (N,).
        slopes: the derivative of T at a law on some atoms, as :func:`jacobian` defines it, or None where it
            has no formula; differences of T then take its place.
    """

    step: Map
    growth: Map
    start: FloatArray
    fed: BoolArray
    slopes: Callable[[FloatArray, IntArray], FloatArray | None] = lambda law, atoms: None

    @property
    def transient(self) -> BoolArray:
        """The atoms that may be absent from a fixed point but can come in, shape (N,)."""
        return (self.start > 0) & ~self.fed

    def jacobian(self, law: FloatArray, atoms: IntArray) -> FloatArray:
        """Return the derivative of T at a law in the masses of some atoms, by formula or by differences."""
        found = self.slopes(law, atoms)
        return jacobian(self.step, law, atoms) if found is None else found

    def residual(self, law: FloatArray) -> float:
        """Return the sum of absolute values of T(p) - p."""
        return float(np.abs(self.step(law) - law).sum())


def settle(loop: Dynamics, longest: int = LONGEST) -> FixedPoint:
    """Iterate a map of laws to a fixed point that attracts, or report that there is none.

    Args:
        loop: the map and its start.
        longest: the largest number of iterations.
    """
    return settle_many([loop], lambda laws, _: loop.step(laws[:, 0])[:, None], longest)[0]


def settle_many(
    loops: Sequence[Dynamics], step: Callable[[FloatArray, IntArray], FloatArray], longest: int = LONGEST
) -> list[FixedPoint]:
    """Settle several loops of the same atoms, whose maps are applied together.

    Args:
        loops: the maps and their starts.
        step: applies the maps of the loops with these indices (B,) to their laws (N, B).
        longest: the largest number of iterations.
    """
    searches = [_search(loop, longest) for loop in loops]
    laws = {i: next(search) for i, search in enumerate(searches)}
    found: dict[int, FixedPoint] = {}
    while laws:
        which = np.array(list(laws))
        moved = step(np.column_stack(list(laws.values())), which)
        for i, law in zip(which.tolist(), moved.T, strict=True):
            try:
                laws[i] = searches[i].send(np.ascontiguousarray(law))
            except StopIteration as end:
                found[i] = end.value
                del laws[i]
    return [found[i] for i in range(len(loops))]


def _search(loop: Dynamics, longest: int) -> Generator[FloatArray, FloatArray, FixedPoint]:
    """Yield laws, to be sent what the map makes of them, and return where that ends."""
    # With too many fed atoms for Newton's method the map contracts, and iterates are mixed.
    mixed = _Mixed() if loop.fed.sum() > MOST_FED else None
    law, wait, tries = loop.start, EVERY, 0
    moved, guess = math.inf, None
    for count in range(1, longest + 1):
        new = yield law
        if mixed is not None:
            new = mixed(law, new)
        moved = float(np.abs(new - law).sum())
        law = new
        if count >= wait or moved < RESIDUAL:
            tries += 1
            wait = count + int(EVERY * 1.5**tries)
            found = _attractor(loop, law, count)
            if found is not None and (_distance(found.law, law) < NEAR or _nears(found.law, law, guess)):
                return found
            guess = None if found is None else (found.law, law)
            if moved == 0:
                break
    invasion = loop.growth(law)
    return FixedPoint(law, False, moved, math.nan, invasion, count, _why_not(loop, moved, invasion))


class _Mixed:
    """Mixes the iterates of a map with the last few ones so that residuals cancel (Anderson 1965).

    It keeps the map's fixed points.
    """

    def __init__(self) -> None:
        self._points: list[FloatArray] = []
        self._gaps: list[FloatArray] = []

    def __call__(self, law: FloatArray, new: FloatArray) -> FloatArray:
        """Return the next iterate after ``law``, which the map sends to ``new``."""
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
                return np.asarray(mixed / mixed.sum())
        return new


def _distance(p: FloatArray, q: FloatArray) -> float:
    return 0.5 * float(np.abs(p - q).sum())


def _nears(found: FloatArray, law: FloatArray, guess: tuple[FloatArray, FloatArray] | None) -> bool:
    """Whether the same fixed point was found before, and the iterate has approached it since."""
    if guess is None or _distance(found, guess[0]) > 1e-9:
        return False
    return _distance(found, law) < min(WITHIN, (1 - 1e-4) * _distance(found, guess[1]))


def _why_not(loop: Dynamics, moved: float, invasion: FloatArray) -> str:
    open_to = float(invasion[loop.transient].max(initial=0.0))
    if moved < 1e-6 and open_to <= 1 + 1e-4:
        return "it still moves, ever more slowly: a border case, or a limit that attracts at no fixed rate"
    return "it does not settle: it cycles, or wanders past fixed points that do not attract"


def _attractor(loop: Dynamics, law: FloatArray, count: int) -> FixedPoint | None:
    """Return the attracting fixed point near a law, or None."""
    atoms = np.flatnonzero(loop.fed | (law > FAINT))
    if atoms.size > (MOST_FED if loop.fed.any() else MOST_ATOMS):
        return _converged(loop, law, count)
    found = law
    for _ in range(3):
        near = _newton(loop, law, atoms)
        if near is None:
            return None
        found = near
        gone = (found[atoms] <= FAINT) & ~loop.fed[atoms]
        if not gone.any():
            break
        atoms = atoms[~gone]
    radius = spectral_radius(loop, found, atoms)
    if radius > 1 - NEUTRAL:  # in a continuum of fixed points only the loop itself reaches the right one
        return _converged(loop, law, count)
    return _judge(loop, found, atoms, radius, count)


def _converged(loop: Dynamics, law: FloatArray, count: int) -> FixedPoint | None:
    """Judge an iterate itself, where atoms are too many for Newton's method."""
    if loop.residual(law) > RESIDUAL:
        return None
    atoms = np.flatnonzero(loop.fed | (law > FAINT))
    return _judge(loop, law, atoms, spectral_radius(loop, law, atoms), count)


def _judge(loop: Dynamics, law: FloatArray, atoms: IntArray, radius: float, count: int) -> FixedPoint | None:
    """Return a fixed point on some atoms if it attracts, else None."""
    invasion = loop.growth(law)
    absent = loop.transient
    absent[atoms] = False
    open_to = float(invasion[absent].max(initial=0.0))
    if radius > 1 + MARGIN or open_to > 1 + MARGIN:
        return None
    neutral = radius > 1 - NEUTRAL or open_to > 1 - 1e-9
    why = "a fixed point that attracts" if not neutral else "a fixed point, neutral in some direction"
    return FixedPoint(law, True, loop.residual(law), radius, invasion, count, why)


def _newton(loop: Dynamics, law: FloatArray, atoms: IntArray) -> FloatArray | None:
    """Return a fixed point on some atoms near a law, or None where the search leaves the simplex."""
    p = np.zeros_like(law)
    p[atoms] = law[atoms]
    p /= p.sum()
    for _ in range(30):
        gap = (loop.step(p) - p)[atoms]
        size = float(np.abs(gap).sum())
        if size < 1e-14:
            break
        matrix = loop.jacobian(p, atoms) - np.eye(atoms.size)
        # Masses sum to one: the constant direction is left out.
        bordered = np.vstack([matrix, np.ones(atoms.size)])
        change = np.linalg.lstsq(bordered, np.append(-gap, 0.0), rcond=1e-12)[0]
        if not np.isfinite(change).all():
            return None
        p[atoms] += change * min(1.0, 0.5 / max(float(np.abs(change).sum()), 1e-300))
        p = np.maximum(p, 0.0)
        p /= p.sum()
    return p if float(np.abs(loop.step(p) - p).sum()) < 1e-11 else None


def jacobian(step: Map, law: FloatArray, atoms: IntArray) -> FloatArray:
    """Return the derivative of T with respect to the masses of some atoms, (n, n), in the tangent of laws.

    It is computed by differences of T, which renormalises: column j is the derivative along e_j - p. T acts
    on many laws at once, which costs little more than on one.
    """
    out = np.empty((atoms.size, atoms.size))
    width = max(1, AT_ONCE // law.size)
    for first in range(0, atoms.size, width):
        some = atoms[first : first + width]
        columns = np.arange(some.size)
        mass = law[some]
        h = np.where(mass > 1e-5, np.minimum(1e-6, 0.5 * mass), 1e-7)
        back = np.where(mass > h, h, 0.0)  # one-sided where the mass is too small to take any away
        moved = np.repeat(law[:, None], 2 * some.size, axis=1)
        moved[some, columns] += h
        moved[some, some.size + columns] -= back
        total = moved.sum(axis=0)
        found = (step(moved / total) * total)[atoms]
        out[:, first : first + width] = (found[:, : some.size] - found[:, some.size :]) / (h + back)
    return out


def spectral_radius(loop: Dynamics, law: FloatArray, atoms: IntArray) -> float:
    """Return the spectral radius of T's derivative on changes of mass that sum to zero on these atoms."""
    n = atoms.size
    if n == 1:
        return 0.0
    if n <= MOST_FED:
        matrix = loop.jacobian(law, atoms)
        centre = np.eye(n) - 1.0 / n
        return float(np.abs(np.linalg.eigvals(centre @ matrix @ centre)).max())
    return _power(loop.step, law, atoms)


def _power(step: Map, law: FloatArray, atoms: IntArray) -> float:
    """Estimate the spectral radius by the growth of a small change over 60 applications."""
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
