r"""Weighted Nash welfare over laws on atoms, by column generation around a small interior-point core.

.. math::

    \max_p \; N(p) = \sum_i w_i \log E_p[u_i], \qquad u_i = e^{r_i} \ge 0, \quad \textstyle\sum_i w_i = 1,

over laws p on N atoms. With prices :math:`y_i = w_i / E_p u_i` and :math:`D(x) = \sum_i y_i u_i(x)`, p is
optimal iff max D = 1 (then D = 1 on p's support), and :math:`N^* - N(p) \le \log \max D` (the optimality
conditions of Cover's log-optimal portfolio, 1984; Eisenberg and Gale 1959). The dual problem,

.. math:: \min_y \; -\sum_i w_i \log y_i \quad \text{such that} \quad U y \le 1,

has m variables and one constraint per atom, few of which are tight. They are found by pricing all atoms (one
pass U y), and the problem on those atoms is solved by a primal-dual method (Mehrotra 1992) on both pairs
p_a (1 - U y)_a = mu and y_i (U' p)_i = w_i.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recurate.core.arrays import FloatArray, IntArray

GAP = 1e-10  # max D - 1 at which a law is optimal
TIGHT = 1e-13  # complementarity of the core at the end
LOOSE = 1e-2  # complementarity of the core at the start
OUTER = 80  # largest number of passes over all atoms
INNER = 40  # largest number of rounds that price a pool between two passes
STEPS = 80  # largest number of interior-point steps
SMALL = 20_000  # with at most this many atoms the pool has all of them
POOL = 2000  # about the smallest number of atoms of a pool, which else has one in fifty
EACH = 16  # one of so many atoms sets the least D of a pool
NEW = 8  # worst violators that are added at a time, besides the best of each reward
FEW = 5  # with at most this many rewards a first, loose solution is polished: it may be the last one
SLACK = 1e-9  # mass below which an atom may leave the active set


@dataclass(frozen=True)
class Core:
    """A solution on few atoms.

    Attributes:
        p: the masses, shape (n,).
        y: the prices, shape (m,).
        residual: the largest violation of the optimality conditions.
        steps: the number of interior-point steps.
    """

    p: FloatArray
    y: FloatArray
    residual: float
    steps: int


@dataclass(frozen=True)
class NashSolution:
    """A law that maximises Nash welfare, with its certificate.

    Attributes:
        atoms: the active atoms, shape (n,).
        masses: their masses, summing to one, shape (n,).
        means: E_p u_i, shape (m,).
        prices: w_i / E_p u_i, shape (m,).
        gap: the maximum of D - 1 over all atoms: Nash welfare is at most log(1 + gap) below its maximum.
        passes: the number of passes over all atoms; pricing the pool between two passes is not counted.
        steps: the number of interior-point steps in all.
        converged: whether the gap is at most the requested one.
    """

    atoms: IntArray
    masses: FloatArray
    means: FloatArray
    prices: FloatArray
    gap: float
    passes: int
    steps: int
    converged: bool


def maximise_nash(utilities: FloatArray, weights: FloatArray, *, gap: float = GAP) -> NashSolution:
    """Return a law p that maximises Nash welfare sum_i w_i log E_p u_i, with its certificate.

    Args:
        utilities: u, shape (N, m), entries >= 0, each column with a maximum of one.
        weights: w, shape (m,), all > 0, summing to one.
        gap: the certificate at which to stop.
    """
    search = _Search(utilities, weights)
    best: NashSolution | None = None
    for _ in range(OUTER):
        found = search.certified()
        if best is None or found.gap < best.gap:
            best = found
        if found.gap <= gap or search.stuck:
            break
        search.refine(gap)
    assert best is not None
    return replace(best, passes=search.passes, steps=search.steps, converged=best.gap <= gap)


class _Search:
    """The active atoms and the current prices."""

    def __init__(self, utilities: FloatArray, weights: FloatArray) -> None:
        self.u, self.w = utilities, weights
        self.leaders = list(dict.fromkeys(int(a) for a in utilities.argmax(axis=0)))
        self.active = list(self.leaders)
        self.passes = self.steps = 0
        self.stuck = False
        self.tolerance = LOOSE
        self.worth = np.empty(0)
        self._solve()

    def _solve(self) -> None:
        self.core = solve_core(self.u[self.active], self.w, self.tolerance)
        self.steps += self.core.steps

    def certified(self) -> NashSolution:
        """Return the active atoms' law with the gap over all atoms: one pass."""
        atoms = np.array(self.active)
        masses = self.core.p / self.core.p.sum()
        if self.tolerance <= TIGHT or self.w.size <= FEW:  # else there will be another pass anyway
            masses = polished(self.u[atoms], self.w, self.core)
        means = masses @ self.u[atoms]
        prices = self.w / means
        self.worth = self.u @ prices
        self.passes += 1
        gap = float(self.worth.max()) - 1.0
        return NashSolution(atoms, masses, means, prices, gap, self.passes, self.steps, False)

    def refine(self, gap: float) -> None:
        """Add violators until none is left in a pool of the atoms with the largest D."""
        pool = self._pool()
        u = self.u if pool is None else np.ascontiguousarray(self.u[pool])
        before = (len(self.active), self.tolerance)
        for _ in range(INNER):
            worth = u @ self.core.y
            excess = float(worth.max()) - 1.0
            if excess <= 0.1 * gap and self.tolerance <= TIGHT:
                return
            new = self._violators(u, worth, pool)
            self._drop(6 * self.w.size)
            self.active += new
            self.tolerance = max(TIGHT, 0.1 * min(self.tolerance, max(excess, 0.0)))
            self._solve()
            if not new and self.tolerance <= TIGHT:
                break
        self.stuck = not new and before == (len(self.active), self.tolerance)

    def _pool(self) -> IntArray | None:
        count = len(self.worth)
        if count <= SMALL:
            return None
        some = self.worth[::EACH]
        keep = max(POOL, count // 50) // EACH
        return np.flatnonzero(self.worth >= np.partition(some, some.size - keep)[some.size - keep])

    def _violators(self, u: FloatArray, worth: FloatArray, pool: IntArray | None) -> list[int]:
        """Return the worst violators, and the worst of those to whose D each reward contributes most."""
        bad = np.flatnonzero(worth > 1.0 + TIGHT)
        if not bad.size:
            return []
        order = bad[np.argsort(-worth[bad], kind="stable")]
        dominant = (u[order] * self.core.y).argmax(axis=1)
        firsts = np.unique(dominant, return_index=True)[1]
        rows = np.concatenate([order[:NEW], order[np.sort(firsts)]])
        atoms = rows if pool is None else pool[rows]
        have = set(self.active)
        return [a for a in dict.fromkeys(int(a) for a in atoms) if a not in have]

    def _drop(self, most: int) -> None:
        """Drop atoms without mass if there are more than ``most`` atoms, but never a reward's best atom."""
        if len(self.active) > most:
            keep = set(self.leaders)
            self.active = [a for a, p in zip(self.active, self.core.p, strict=True) if p > SLACK or a in keep]


def solve_core(u: FloatArray, w: FloatArray, tolerance: float) -> Core:
    """Solve the Nash problem on few atoms, u (n, m), by Mehrotra's primal-dual method.

    The steps for (p, y, s), s = 1 - U y, reduce to the m x m system
    (diag(U'p / y) + U' diag(p / s) U) dy = right side, which is scaled to unit diagonal.
    """
    n = len(u)
    p = np.full(n, 1.0 / n)
    y = w / (p @ u)
    y /= 1.01 * max(1.0, float((u @ y).max()))
    s = 1.0 - u @ y
    best = Core(p, y, np.inf, 0)
    for step in range(STEPS):
        z = p @ u
        lost, missed = 1.0 - u @ y - s, w - y * z
        residual = max(float(p @ s), float(np.abs(missed).max()), float(np.abs(lost).max()))
        if residual < best.residual:
            best = Core(p, y, residual, step)
        if residual <= tolerance:
            return best
        try:
            newton = _Newton(u, p, y, s, z, lost)
        except np.linalg.LinAlgError:
            return best
        dp, dy, ds = newton.direction(-p * s, missed)
        ahead = float((p + min(1.0, reach(p, dp)) * dp) @ (s + min(1.0, reach(s, ds)) * ds))
        centring = (min(1.0, max(ahead, 0.0) / float(p @ s))) ** 3 * float(p @ s) / n
        dp, dy, ds = newton.direction(centring - p * s - dp * ds, missed - dy * (dp @ u))
        first, second = reach(p, dp), min(reach(s, ds), reach(y, dy))
        p = p + min(1.0, 0.995 * first) * dp
        y, s = y + min(1.0, 0.995 * second) * dy, s + min(1.0, 0.995 * second) * ds
    return best


class _Newton:
    """One linearisation of the core's conditions."""

    def __init__(
        self, u: FloatArray, p: FloatArray, y: FloatArray, s: FloatArray, z: FloatArray, lost: FloatArray
    ) -> None:
        self.u, self.p, self.y, self.s, self.lost = u, p, y, s, lost
        matrix = (u * (p / s)[:, None]).T @ u
        matrix.ravel()[:: y.size + 1] += z / y
        scale = 1.0 / np.sqrt(matrix.ravel()[:: y.size + 1])
        factor = np.linalg.cholesky(matrix * scale * scale[:, None])
        self.inverse = np.linalg.inv(factor) * scale  # of the factor: its scaled rows

    def direction(
        self, complementarity: FloatArray, missed: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return (dp, dy, ds) with s dp + p ds and y dz + z dy as given."""
        right = missed / self.y - self.u.T @ ((complementarity - self.p * self.lost) / self.s)
        dy = self.inverse.T @ (self.inverse @ right)
        ds = self.lost - self.u @ dy
        return (complementarity - self.p * ds) / self.s, dy, ds


def reach(v: FloatArray, dv: FloatArray) -> float:
    """Return the longest step that keeps v + step dv >= 0."""
    worst = float((dv / v).min())
    return -1.0 / worst if worst < 0 else np.inf


def polished(u: FloatArray, w: FloatArray, core: Core) -> FloatArray:
    """Return the core's normalised masses, polished by Newton's method on the set S of atoms with mass.

    There U_S y = 1 and y_i (U_S' p)_i = w_i. An atom whose mass becomes negative leaves S. The core's own
    masses are kept if their excess is smaller.
    """
    best: FloatArray = np.asarray(core.p / core.p.sum())
    least = _excess(u, w, best)
    alive = np.flatnonzero(best > SLACK)
    while alive.size:
        p = _newton_on(u[alive], w, best[alive], core.y)
        if p is None:
            break
        if p.min() < 0:
            alive = np.delete(alive, int(p.argmin()))
            continue
        out: FloatArray = np.zeros(best.size)
        out[alive] = p / p.sum()
        return out if _excess(u, w, out) <= least else best
    return best


def _newton_on(u: FloatArray, w: FloatArray, p: FloatArray, y: FloatArray) -> FloatArray | None:
    """Return the masses at which D = 1 on all of these atoms, or None if the search does not converge."""
    n, m = u.shape
    for _ in range(8):
        system = np.zeros((n + m, n + m))
        with np.errstate(divide="ignore", over="ignore"):  # prices may be next to nothing
            system[:m, :m], system[:m, m:], system[m:, :m] = np.diag(w / np.square(y)), u.T, u
            short = np.concatenate([w / y - p @ u, 1.0 - u @ y])
        if not (np.isfinite(system).all() and np.isfinite(short).all()):
            return None
        if float(np.abs(short).max()) < 4e-16 * n:
            break
        step = np.linalg.lstsq(system, short, rcond=1e-13)[0]
        if not np.isfinite(step).all():
            return None
        y = y + min(1.0, 0.9 * reach(y, step[:m])) * step[:m]
        p = p + step[m:]
    return np.asarray(p) if np.isfinite(p).all() else None


def _excess(u: FloatArray, w: FloatArray, p: FloatArray) -> float:
    means = p @ u
    return float(np.max(u @ (w / means))) if means.min() > 0 else np.inf
