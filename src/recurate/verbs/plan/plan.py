r"""Which K, real fraction, preference weights and temperature? The best setting under constraints, from one
round's rewards.

Every setting on a grid is forecast (the exact law, on a compressed population), then the grid is refined
around the best. The chosen setting and the frontiers are forecast again on all candidates. What is reported:
the setting, its outcome, which constraints bind, the frontiers of the objective against diversity and against
cost, and how the answer moves if rewards are off by 10 %.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.errors import InputError, is_number
from recurate.log.candidates import Candidates, as_candidates
from recurate.theory.population import check_weights
from recurate.verbs.plan.evaluation import Choice, Constraints, Desk, Outcome

KS = (2, 3, 4, 6, 8, 12, 16, 32)
REAL_FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
TRIES = 25  # best settings that are forecast exactly, until one keeps every constraint
OFF = 0.1  # by how much rewards are off in the sensitivity
FRONTIER = 12  # settings on a frontier that are forecast exactly


@dataclass(frozen=True)
class Sensitivity:
    """What happens if all rewards are off by a factor.

    Attributes:
        factor: of the rewards.
        outcome: of the plan as it is.
        replanned: what the plan would be.
    """

    factor: float
    outcome: Outcome
    replanned: Outcome | None


@dataclass(frozen=True)
class Plan:
    """A plan with its evidence.

    Attributes:
        best: the best setting that keeps every constraint, or None.
        closest: the setting that misses least, where none keeps them all.
        outcomes: of all settings tried, on the compressed population.
        diversity: the frontier of the objective against the entropy of the shares, exact.
        compute: the frontier of the objective against cost, exact.
        binding: constraints that keep the objective from being higher, with by how much.
        sensitivity: for rewards 10 % smaller and larger.
        error: largest difference between compressed and exact forecast, over the settings that were forecast
            exactly, of the objective (relative to its range) and of shares.
        groups: names of the groups.
        rewards: names of the rewards.
        rounds: planned for, or None for the limit.
        warnings: what to know before relying on it.
    """

    best: Outcome | None
    closest: Outcome | None
    outcomes: tuple[Outcome, ...] = field(repr=False)
    diversity: tuple[Outcome, ...] = field(repr=False)
    compute: tuple[Outcome, ...] = field(repr=False)
    binding: tuple[tuple[str, float], ...]
    sensitivity: tuple[Sensitivity, ...] = field(repr=False)
    error: float
    groups: tuple[str, ...]
    rewards: tuple[str, ...]
    rounds: int | None
    warnings: tuple[str, ...] = ()


def plan(
    rewards: ArrayLike | Candidates,
    *,
    objective: str = "reward",
    rounds: int | None = 10,
    constraints: Constraints | None = None,
    picks: int = 1000,
    ks: Sequence[int] = KS,
    real_fractions: Sequence[float] = REAL_FRACTIONS,
    temperatures: Sequence[float] = (1.0,),
    weights: Sequence[Sequence[float]] | None = None,
    importance: Sequence[float] | None = None,
    groups: ArrayLike | None = None,
    reference: ArrayLike | Candidates | None = None,
    refine: bool = True,
) -> Plan:
    """Return the best setting under constraints; see the module's text.

    Args:
        rewards: of one round's candidates, (candidates, rewards), or ``Candidates``.
        objective: ``reward`` (sum of importance x E r), ``nash`` (sum of importance x log E exp r) or
            ``worst`` (the smallest E r_i).
        rounds: to plan for; None: the limit.
        constraints: to keep.
        picks: a round, for the cost.
        ks: slate sizes to choose from.
        real_fractions: to choose from.
        temperatures: to choose from.
        weights: preference weights to choose from; None: with several rewards a grid between them.
        importance: weight of each reward in the objective; equal if None.
        groups: group of each candidate; None: the reward whose maximum it is closest to.
        reference: rewards of real data; None: the candidates themselves.
        refine: whether to refine the grid around the best setting.

    Raises:
        InputError: a value is out of range, floors sum to more than one, rewards are constant, or a group is
            empty.
    """
    candidates = as_candidates(rewards, groups=groups)
    if reference is not None and not isinstance(reference, Candidates):
        reference = as_candidates(reference, names=candidates.names)
    desk = Desk.of(
        candidates, reference, objective, rounds, constraints or Constraints(), picks,
        check_weights(importance, len(candidates.names)),
    )  # fmt: skip
    space = _space(desk, ks, real_fractions, temperatures, weights)
    outcomes = desk.evaluate(space)
    if refine:
        outcomes += desk.evaluate(_around(outcomes, space))
    best, tried = _best(desk, outcomes)
    closest = None if best is not None else desk.exactly(min(outcomes, key=_distance).choice)
    diversity = _frontier(desk, outcomes, lambda o: o.entropy)
    compute = _frontier(desk, outcomes, lambda o: -o.cost)
    exact = [*tried, *diversity, *compute]
    sensitivity = () if best is None else tuple(_off(desk, best, outcomes, f) for f in (1 - OFF, 1 + OFF))
    return Plan(
        best, closest, tuple(outcomes), tuple(diversity), tuple(compute), tuple(_binding(best, outcomes)),
        sensitivity, _error(exact, outcomes), desk.groups, candidates.names, rounds, tuple(desk.warnings),
    )  # fmt: skip


# --- the settings ---------------------------------------------------------------------------------


def _space(
    desk: Desk,
    ks: Sequence[int],
    real_fractions: Sequence[float],
    temperatures: Sequence[float],
    weights: Sequence[Sequence[float]] | None,
) -> list[Choice]:
    m = len(desk.candidates.names)
    mixes = [tuple(check_weights(w, m).tolist()) for w in weights] if weights is not None else _mixes(m)
    for k in ks:
        if not is_number(k) or k != int(k) or not 1 <= k < 2**31:
            raise InputError("slate sizes must be whole numbers", got=k, remedy="--k 2,4,8")
    for rho in real_fractions:
        if not is_number(rho) or not 0 <= rho < 1:
            raise InputError("real fractions must lie in [0, 1)", got=rho, remedy="--real-fraction 0,0.1,0.3")
    for temperature in temperatures:
        if not is_number(temperature) or not temperature > 0:
            raise InputError("temperatures must be positive", got=temperature, remedy="--temperature 0.5,1")
    space = [
        Choice(int(k), float(rho), mix, float(t))
        for k, rho, mix, t in itertools.product(ks, real_fractions, mixes, temperatures)
    ]
    if not space:
        raise InputError(
            "there is nothing to choose from", got="no settings", remedy="name slate sizes and the like"
        )
    return space


def _mixes(m: int) -> list[tuple[float, ...]]:
    """Return a grid of weights: tenths of the interval for two rewards, corners and centres for more."""
    if m == 1:
        return [(1.0,)]
    if m == 2:
        return [(round(0.1 * i, 1), round(1 - 0.1 * i, 1)) for i in range(1, 10)]
    centre = np.full(m, 1.0 / m)
    mixes = [centre]
    mixes += [(1 - share) * centre + share * np.eye(m)[j] for j in range(m) for share in (0.25, 0.5)]
    return [tuple(w.tolist()) for w in mixes]


def _around(outcomes: Sequence[Outcome], space: Sequence[Choice]) -> list[Choice]:
    """Return settings between the best one and its neighbours on the grid."""
    top = max(outcomes, key=lambda o: (o.feasible, o.objective if o.feasible else -_distance(o)))
    at = top.choice
    fractions = _between(sorted({c.real_fraction for c in space}), at.real_fraction)
    ks = [int(k) for k in np.unique(np.round(_between(sorted({float(c.k) for c in space}), at.k)))]
    mixes: list[tuple[float, ...]] = [at.weights]
    if len(at.weights) == 2:
        firsts = _between(sorted({c.weights[0] for c in space}), at.weights[0])
        mixes = [(float(w), float(1 - w)) for w in firsts]
    seen = set(space)
    new = [Choice(k, float(f), w, at.temperature) for k in ks for f in fractions for w in mixes]
    return [c for c in dict.fromkeys(new) if c not in seen]


def _between(values: Sequence[float], at: float) -> list[float]:
    """Return five values from the neighbour below to the neighbour above."""
    i = int(np.argmin(np.abs(np.array(values) - at)))
    low, high = values[max(i - 1, 0)], values[min(i + 1, len(values) - 1)]
    return sorted({*np.linspace(low, at, 3).tolist(), *np.linspace(at, high, 3).tolist()})


# --- choosing -------------------------------------------------------------------------------------


def _distance(o: Outcome) -> float:
    return sum(o.missed.values()) + (0.0 if o.settles else 1e3)


def _best(desk: Desk, outcomes: Iterable[Outcome]) -> tuple[Outcome | None, list[Outcome]]:
    """Return the best setting that keeps every constraint when forecast exactly, and all that were tried."""
    tried = []
    ranked = sorted((o for o in outcomes if o.feasible), key=lambda o: (-o.objective, o.cost))
    for found in ranked[:TRIES]:
        exact = desk.exactly(found.choice)
        tried.append(exact)
        if exact.feasible:
            return exact, tried
    return None, tried


def _frontier(desk: Desk, outcomes: Iterable[Outcome], other: Callable[[Outcome], float]) -> list[Outcome]:
    """Return settings that none beats in both the objective and another quantity, forecast exactly."""
    ranked = sorted(outcomes, key=lambda o: (-o.objective, -other(o)))
    kept: list[Outcome] = []
    for o in ranked:
        if not kept or other(o) > other(kept[-1]) + 1e-9 * (1 + abs(other(o))):
            kept.append(o)
    if len(kept) > FRONTIER:
        index = np.unique(np.linspace(0, len(kept) - 1, FRONTIER).round().astype(int))
        kept = [kept[i] for i in index]
    return [desk.exactly(o.choice) for o in kept]


def _binding(best: Outcome | None, outcomes: Sequence[Outcome]) -> list[tuple[str, float]]:
    """Return the constraints without which the objective would be higher, and by how much."""
    if best is None:
        return []
    names = sorted({name for o in outcomes for name in o.missed})
    found = []
    for name in names:
        without = [o.objective for o in outcomes if o.settles and not o.missed.keys() - {name}]
        gain = max(without, default=-math.inf) - best.objective
        if gain > 1e-3 * (1 + abs(best.objective)):
            found.append((name, float(gain)))
    return sorted(found, key=lambda pair: -pair[1])


def _off(desk: Desk, best: Outcome, outcomes: Sequence[Outcome], factor: float) -> Sensitivity:
    """Say what happens if all rewards are ``factor`` times what they seem."""
    other = replace(desk, whole=desk.whole.scaled(factor), crowd=desk.crowd.scaled(factor))
    again = other.evaluate([o.choice for o in outcomes])
    feasible = [o for o in again if o.feasible]
    replanned = max(feasible, key=lambda o: o.objective) if feasible else None
    return Sensitivity(factor, other.exactly(best.choice), replanned)


def _error(exact: Sequence[Outcome], outcomes: Sequence[Outcome]) -> float:
    """Return the largest difference between the two forecasts of the same settings."""
    rough = {o.choice: o for o in outcomes}
    spread = max(o.objective for o in outcomes) - min(o.objective for o in outcomes)
    worst = 0.0
    for o in exact:
        other = rough.get(o.choice)
        if other is not None and o.settles:
            worst = max(worst, abs(o.objective - other.objective) / max(spread, 1e-300))
            worst = max(worst, float(np.abs(np.subtract(o.shares, other.shares)).max()))
    return worst
