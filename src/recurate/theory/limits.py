r"""The limit of a loop, with a certificate, for any rewards and any K, with or without real data.

**K = infinity, no real data.** p_{t+1} = p_t sum_i w_i u_i / E_{p_t} u_i with u = exp(r / tau) is the
multiplicative algorithm for max N(p) = sum_i w_i log E_p u_i (Cover 1984): weighted Nash welfare, over laws
where p_0 has mass. It is solved directly (:mod:`recurate.theory.nash`); N* - N(p) <= log max D is the
certificate. The maximiser may not be unique (equal or dependent atoms), but E_p u_i is. Atoms with the same
rewards share their mass in proportion to p_0.

**K = infinity, real data.** The limit maximises a N(p) + (1 - a) E_ref log p, a = 1 - rho, which is unique:
p = rho p_ref / (1 - a D) with D = sum_i y_i u_i and E_p u_i = w_i / y_i, the minimum of the convex
-a sum_i w_i log y_i - (1 - a) sum_x p_ref log(1 - a D(x)) in m variables, by Newton's method.

**Finite K**, other rules, several stages: attracting fixed points of the map itself
(:mod:`recurate.theory.fixed_points`), from p_0 or from several starts. A loop that cycles has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.citations import cite
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.rules import Rule, Selection
from recurate.theory.fixed_points import LONGEST, Dynamics, FixedPoint, settle, settle_many
from recurate.theory.nash import maximise_nash, reach
from recurate.theory.population import Population, check_law, favourites
from recurate.theory.setting import Setting, Stage, as_floats, check_weights, mix, rule_of

TIGHT = 1e-9  # 1 - D at which an atom can be in a limit
PRESENT = 1e-9  # smallest mass of an atom in the support
RIDGES = 60  # largest number of Newton steps for limits with real data
RANK = 1e-9  # largest relative singular value that counts as zero


@dataclass(frozen=True)
class Limit:
    """The limit of a loop's laws on N atoms under m rewards, with its evidence; see :func:`limit`.

    Attributes:
        law: the masses p of the atoms, shape (N,); the last iterate where the loop does not settle.
        settles: whether the loop has this limit.
        gap: the certificate for K = infinity: Nash welfare (with real data, the penalised one) is at most
            log(1 + gap) nats below its maximum; nan for finite K.
        residual: the sum of absolute values of T(p) - p, T being one round.
        unique: whether no other law is a limit for these weights; None where that is not known.
        invasion: the factor (1 - rho) W by which the selected mass of each atom would grow in a round if it
            were rare, shape (N,).
        radius: the spectral radius of T's derivative at the limit, below one where it attracts; nan if not
            computed.
        utilities: E_p exp(r_i / tau), shape (m,).
        weights: w, shape (m,).
        iterations: the number of rounds, or of the solver's steps.
        passes: the number of passes over all atoms, for K = infinity.
        why: why the search stopped.
        nearest: the reward whose maximum each atom is closest to, shape (N,).

    >>> found = limit([0.0, 1.0, 2.0], k=2)
    >>> found.settles, found.support.tolist(), found.why
    (True, [2], 'a fixed point that attracts')
    """

    law: FloatArray
    settles: bool
    gap: float
    residual: float
    unique: bool | None
    invasion: FloatArray = field(repr=False)
    radius: float
    utilities: FloatArray
    weights: FloatArray
    iterations: int
    passes: int
    why: str
    nearest: IntArray = field(repr=False)

    @cached_property
    def support(self) -> IntArray:
        """The atoms with a mass of 1e-9 or more, the heaviest first."""
        order = np.argsort(-self.law, kind="stable")
        return np.asarray(order[self.law[order] >= PRESENT])

    @cached_property
    def shares(self) -> FloatArray:
        """The shares of the preference groups: the mass of the atoms closest to each maximum, shape (m,)."""
        return np.bincount(self.nearest, self.law, self.weights.size).astype(float)


def limit(
    rewards: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    k: float | None = None,
    real_fraction: float = 0.0,
    law: ArrayLike | None = None,
    reference: ArrayLike | None = None,
    temperature: float | None = None,
    rule: Selection | None = None,
    then: Sequence[Stage] = (),
    dynamics: bool = False,
    longest: int = LONGEST,
) -> Limit:
    r"""Return the limit of a loop's laws, with a certificate.

    For Luce choice with K = infinity and u_i = exp(r_i / tau), the loop without real data climbs the weighted
    Nash welfare

    .. math:: N(p) = \sum_i w_i \log E_p u_i

    over the laws p where p_0 has mass, and with D(x) = sum_i w_i u_i(x) / E_p u_i the certificate is N* -
    N(p) <= log max D (Cover 1984). With real data the limit is the unique maximiser of (1 - rho) N(p) + rho
    E_ref log p. Both are solved for directly. For finite K, other rules and several stages the loop itself is
    followed to an attracting fixed point of p -> rho p_ref + (1 - rho) p W_p; there may be none, as where
    majorities are cyclic.

    The loop: Ferbach et al. 2024, arXiv 2407.09499, section 2.2; several rewards: Falahati et al. 2026, arXiv
    2605.07724; stages: Falahati et al. 2026, arXiv 2511.12804. The statement about Nash welfare is derived in
    ``docs/theory.md``.

    Args:
        rewards: shape (atoms, rewards), or (atoms,); -inf is allowed for K = infinity without real data.
        weights: w, the share of slates judged by each reward, shape (rewards,); equal if None.
        k: slate size; infinite if None.
        real_fraction: rho, the share of real data in each retraining set.
        law: p_0, shape (atoms,); uniform if None.
        reference: p_ref, shape (atoms,); p_0 if None.
        temperature: tau, in the rewards' unit; 1 if None.
        rule: any rule, in place of k and temperature.
        then: further stages of a round.
        dynamics: whether to follow the loop itself from p_0 also where the limit can be solved for; they
            differ where the maximiser of Nash welfare is not unique.
        longest: the largest number of rounds to follow.

    Raises:
        InputError: shapes disagree, a value is out of range, both a rule and k or temperature are given, or a
            weighted reward is -inf wherever p_0 has mass.

    >>> limit([[5.0, 0.0], [0.0, 5.0]], [0.3, 0.7]).law.round(4)
    array([0.2973, 0.7027])
    """
    cite("falahati2026")
    matrix = _rewards(rewards)
    shares = check_weights(weights, matrix.shape[1])
    start = check_law("law", law, len(matrix))
    real = start if reference is None else check_law("reference", reference, len(matrix))
    picked = rule_of(rule, k=math.inf if rule is None and k is None else k, temperature=temperature)
    setting = Setting(picked, real_fraction=real_fraction, then=tuple(then))
    rho = setting.real_fraction
    direct = isinstance(picked, Rule) and picked == Rule(math.inf, picked.temperature) and not then
    if not direct and not np.isfinite(matrix).all():
        raise InputError(
            "rewards of -inf have a limit for Luce choice with k = inf only",
            got=f"{int(np.isinf(matrix).sum())} of them",
            remedy="use a very low finite reward, or drop these candidates",
        )
    if direct and not dynamics and rho == 0:
        return _nash_limit(matrix / picked.temperature, shares, start)
    if direct and not dynamics and np.isfinite(matrix).all() and rho < 1:
        return _anchored_limit(matrix / picked.temperature, shares, real, rho)
    return _followed(Population(matrix, law=start, reference=real, weights=shares), setting, longest)


def _rewards(rewards: ArrayLike) -> FloatArray:
    values = as_floats("rewards", rewards)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(
            "rewards must have shape (atoms, rewards), at least one of each",
            got=f"shape {values.shape}",
            remedy="one row per atom, one column per reward",
        )
    if np.isnan(values).any() or (values == np.inf).any():
        raise InputError(
            "rewards must not be nan or inf", got="nan or inf", remedy="drop or repair those atoms"
        )
    return values


# --- K = infinity ---------------------------------------------------------------------------------


def _scaled(rewards: FloatArray, judged: IntArray, alive: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Return exp(r - max r) of the judged rewards, and these maxima over the atoms that are alive."""
    rewards = rewards[:, judged] if judged.size < rewards.shape[1] else rewards
    tops = rewards[alive].max(axis=0)
    if np.isneginf(tops).any():
        raise InputError(
            "a reward is -inf wherever the law has mass",
            got=f"reward {int(np.argmin(tops))}",
            remedy="give it weight zero, or start from a law with mass where this reward is finite",
        )
    utilities = rewards - tops
    with np.errstate(over="ignore"):
        np.exp(utilities, out=utilities)
    return utilities, tops


def _mean_utilities(
    law: FloatArray, rewards: FloatArray, judged: IntArray, means: FloatArray, tops: FloatArray
) -> FloatArray:
    """Return E_p exp(r_i), shape (m,), at most e^709, given E_p exp(r_i - top_i) of the judged rewards."""
    found = np.empty(rewards.shape[1])
    found[judged] = np.exp(np.minimum(np.log(np.maximum(means, 1e-300)) + tops, 709.0))
    others = np.setdiff1d(np.arange(found.size), judged)
    found[others] = law @ np.exp(np.minimum(rewards[:, others], 709.0))
    return found


def _nash_limit(rewards: FloatArray, weights: FloatArray, start: FloatArray) -> Limit:
    alive = start > 0
    judged = np.flatnonzero(weights > 0)
    utilities, tops = _scaled(rewards, judged, alive)
    w = weights[judged] / weights[judged].sum()
    found = maximise_nash(utilities if alive.all() else utilities[alive], w)
    worth = utilities @ found.prices
    masses, atoms = _merged(rewards, np.flatnonzero(alive)[found.atoms], found.masses)
    law = _split_by_start(rewards, atoms, masses, start, np.flatnonzero(alive & (worth > 1 - 10 * TIGHT)))
    tight = np.flatnonzero(alive & (worth > 1 - TIGHT))
    why = (
        "the certificate is below 1e-10"
        if found.converged
        else f"not converged: the certificate stayed at {found.gap:.1e}"
    )
    return Limit(
        law,
        found.converged,
        found.gap,
        float(np.abs(law * worth - law).sum()),
        _is_unique(rewards[np.ix_(tight, judged)], utilities[tight]),
        worth,
        math.nan,
        _mean_utilities(law, rewards, judged, found.means, tops),
        weights,
        found.steps,
        found.passes + 1,
        why,
        favourites(rewards, rewards.max(axis=0)),
    )


def _merged(rewards: FloatArray, atoms: IntArray, masses: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the masses of distinct reward vectors, and one atom for each."""
    keep = masses > 0
    vectors, index = np.unique(rewards[atoms[keep]], axis=0, return_inverse=True)
    index = index.ravel()
    firsts = np.array([atoms[keep][index == j][0] for j in range(len(vectors))])
    return np.bincount(index, masses[keep], len(vectors)).astype(float), firsts


def _split_by_start(
    rewards: FloatArray, atoms: IntArray, masses: FloatArray, start: FloatArray, tight: IntArray
) -> FloatArray:
    """Return the law, each mass split among all atoms of the same rewards in proportion to p_0."""
    law = np.zeros(len(rewards))
    candidates = np.union1d(tight, atoms)
    for atom, mass in zip(atoms, masses, strict=True):
        same = candidates[(rewards[candidates] == rewards[atom]).all(axis=1)]
        law[same] = mass * start[same] / start[same].sum()
    return np.asarray(law / law.sum())


def _is_unique(vectors: FloatArray, utilities: FloatArray) -> bool:
    """Whether the distinct atoms that can be in the limit have linearly independent utilities."""
    distinct = np.unique(vectors, axis=0, return_index=True)[1]
    u = utilities[distinct]
    if len(u) == 1:
        return True
    if len(u) > u.shape[1]:
        return False
    values = np.linalg.svd(u / np.linalg.norm(u, axis=1, keepdims=True), compute_uv=False)
    return bool(values[-1] > RANK * values[0])


def _anchored_limit(rewards: FloatArray, weights: FloatArray, real: FloatArray, rho: float) -> Limit:
    """Solve for the prices y of the limit with real data, by damped Newton steps on the convex dual."""
    fed = real > 0
    judged = np.flatnonzero(weights > 0)
    utilities, tops = _scaled(rewards, judged, fed)
    u, ref, w, a = utilities[fed], real[fed], weights[judged], 1.0 - rho
    y = w / (ref @ u)
    y *= min(1.0, 0.999 / (a * float((u @ y).max())))
    steps, law = 0, ref
    while steps < RIDGES:
        steps += 1
        room = 1.0 - a * (u @ y)
        law = rho * ref / room
        gradient = law @ u - w / y
        if float(np.abs(gradient * y / w).max()) < 1e-13:
            break
        curvature = (u * (a * law / room)[:, None]).T @ u + np.diag(w / np.square(y))
        step = np.asarray(-np.linalg.solve(curvature, gradient), np.float64)
        y = y + _longest(u @ step * a, room, y, step, gradient) * step
    room = 1.0 - a * (u @ y)
    law = rho * ref / room
    error = float(np.abs((law @ u) * y / w - 1).max())
    whole = np.zeros(len(rewards))
    whole[fed] = law / law.sum()
    means = whole @ utilities
    worth = utilities @ (w / means)
    moved = a * whole * worth + rho * real - whole
    certificate = a * worth[fed] + rho * ref / whole[fed]
    converged = error < 1e-9
    return Limit(
        whole,
        converged,
        float(certificate.max()) - 1.0,
        float(np.abs(moved).sum()),
        True,
        a * worth,
        math.nan,
        _mean_utilities(whole, rewards, judged, means, tops),
        weights,
        steps,
        steps,
        "the prices solve their equations" if converged else f"not converged: off by {error:.1e}",
        favourites(rewards, rewards[fed].max(axis=0)),
    )


def _longest(
    rise: FloatArray, room: FloatArray, y: FloatArray, step: FloatArray, gradient: FloatArray
) -> float:
    """Return a step length that keeps y > 0 and 1 - a D > 0, shortened where Newton's decrement is large."""
    longest = min(1.0, 0.95 * reach(room, -rise), 0.95 * reach(y, step))
    decrement = math.sqrt(max(-float(gradient @ step), 0.0))
    return longest if decrement < 0.3 or longest < 1.0 else 1.0 / (1.0 + decrement)


# --- finite K -------------------------------------------------------------------------------------


def dynamics_of(population: Population, setting: Setting) -> Dynamics:
    """Return one round of a loop as a map of laws, from the population's law."""
    return Dynamics(
        lambda law: population.step(law, setting),
        lambda law: population.growth(law, setting),
        population.law,
        (population.reference > 0) & (setting.real_fraction > 0),
        lambda law, atoms: population.slopes(law, setting, atoms),
    )


def limits_along(
    population: Population, rule: Selection, weights: FloatArray, real: FloatArray, longest: int = LONGEST
) -> list[Limit]:
    """Return the ends of B loops that differ in their weights and real fractions alone, followed together.

    Args:
        population: the atoms, with the common p_0 and p_ref.
        rule: the rule of selection, at a finite K.
        weights: w of each loop, shape (B, m).
        real: rho of each loop, shape (B,).
        longest: the largest number of rounds to follow.
    """
    settings = [Setting(rule, real_fraction=float(rho)) for rho in real]
    each = [population.judged(w) for w in weights]
    loops = [dynamics_of(own, setting) for own, setting in zip(each, settings, strict=True)]

    def step(laws: FloatArray, which: IntArray) -> FloatArray:
        picked = population.curate(laws, rule, weights[which].T)
        return mix(picked, population.reference[:, None], real[which])

    ends = settle_many(loops, step, longest)
    return [_limit(*triple) for triple in zip(each, settings, ends, strict=True)]


def _followed(population: Population, setting: Setting, longest: int) -> Limit:
    """Return the end of the loop itself, from the population's law."""
    return _limit(population, setting, settle(dynamics_of(population, setting), longest))


def _limit(population: Population, setting: Setting, found: FixedPoint) -> Limit:
    """Return the end of an iteration as a limit."""
    rewards, start = population.rewards, population.law
    with np.errstate(over="ignore"):
        means = found.law @ np.exp(np.minimum(rewards / setting.temperature, 709.0))
    return Limit(
        found.law, found.settles, math.nan, found.residual, None, found.invasion, found.radius, means,
        population.weights, found.iterations, found.iterations, found.why,
        favourites(rewards, rewards[start > 0].max(axis=0)),
    )  # fmt: skip


@dataclass(frozen=True)
class Attractor:
    """One of several limits of a loop.

    Attributes:
        limit: the limit.
        share: the share of the starts that led to it.
    """

    limit: Limit
    share: float


def attractors(
    rewards: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    k: float | None = None,
    real_fraction: float = 0.0,
    reference: ArrayLike | None = None,
    temperature: float | None = None,
    rule: Selection | None = None,
    then: Sequence[Stage] = (),
    starts: int = 12,
    seed: int = 0,
    longest: int = LONGEST,
) -> list[Attractor]:
    """Return the limits that a loop p -> rho p_ref + (1 - rho) p W_p reaches from several starts.

    The starts are the uniform law and laws tilted by random amounts towards the atoms nearest to each
    reward's maximum. Two limits within a total variation of 1e-3 count as one, and so do all loops that do
    not settle. Two opposed stages are an example with two limits (Falahati et al. 2026, arXiv 2511.12804;
    ``docs/theory.md``).

    Args:
        rewards: shape (atoms, rewards), or (atoms,), finite.
        weights: the share of slates judged by each reward, shape (rewards,); equal if None.
        k: slate size; 4 if None.
        real_fraction: rho, the share of real data in each retraining set.
        reference: p_ref, shape (atoms,); uniform if None.
        temperature: divides the rewards, in their unit; 1 if None.
        rule: any rule, in place of k and temperature.
        then: further stages of a round.
        starts: the number of starts.
        seed: of the starts.
        longest: the largest number of rounds to follow.

    Returns:
        Each limit with its share of the starts, the commonest first.

    Raises:
        InputError: shapes disagree, a value is out of range, or both a rule and k or temperature are given.

    >>> from recurate import Rule, Stage
    >>> opposed = [[200.0, 0.0], [0.0, 200.0]]
    >>> ends = attractors(opposed, [1.0, 0.0], k=2, then=[Stage(Rule(k=2), (0.0, 1.0))])
    >>> sorted(end.limit.law.round(3).tolist() for end in ends)
    [[0.0, 1.0], [1.0, 0.0]]
    """
    matrix = _rewards(rewards)
    setting = Setting(
        rule_of(rule, k=k, temperature=temperature), real_fraction=real_fraction, then=tuple(then)
    )
    uniform = np.full(len(matrix), 1.0 / len(matrix))
    population = Population(matrix, reference=uniform if reference is None else reference, weights=weights)
    ends: list[tuple[Limit, int]] = []
    for start in _starts(matrix, starts, seed):
        found = _followed(population.started(start), setting, longest)
        for i, (other, count) in enumerate(ends):
            same = found.settles == other.settles and 0.5 * float(np.abs(found.law - other.law).sum()) < 1e-3
            if same or (not found.settles and not other.settles):
                ends[i] = (other, count + 1)
                break
        else:
            ends.append((found, 1))
    total = sum(count for _, count in ends)
    return sorted((Attractor(end, count / total) for end, count in ends), key=lambda a: -a.share)


def _starts(rewards: FloatArray, count: int, seed: int) -> list[FloatArray]:
    """Return laws on all atoms: the uniform law, then laws tilted at random towards each reward's group."""
    generator = Stream(seed).at("starts").generator()
    n, m = rewards.shape
    nearest = favourites(rewards, rewards.max(axis=0))
    counts = np.maximum(np.bincount(nearest, minlength=m), 1)
    laws = [np.full(n, 1.0 / n)]
    while len(laws) < count:
        shares = generator.dirichlet(np.ones(m)) + 1e-6
        law = shares[nearest] / counts[nearest]
        laws.append(law / law.sum())
    return laws
