r"""Which K, real fraction, preference weights and temperature? The best setting under constraints, from one
round's rewards.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.errors import InputError, is_number
from recurate.log.candidates import Candidates, as_candidates
from recurate.theory.setting import check_weights
from recurate.verbs.plan.evaluation import Choice, Constraints, Evaluator, Goal, Outcome

KS = (2, 3, 4, 6, 8, 12, 16, 32)
REAL_FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
TRIES = 25  # best settings that are forecast exactly, until one keeps every constraint
OFF = 0.1  # by how much rewards are off in the sensitivity
FRONTIER = 12  # settings on a frontier that are forecast exactly


@dataclass(frozen=True)
class Sensitivity:
    """The plan where all rewards are off by a factor.

    Attributes:
        factor: of the rewards.
        outcome: the outcome of the plan as it is.
        replanned: the outcome of the best setting for these rewards, or None where none keeps the
            constraints.
    """

    factor: float
    outcome: Outcome
    replanned: Outcome | None


@dataclass(frozen=True)
class Plan:
    """A plan with its evidence; see :func:`recurate.plan`.

    Attributes:
        best: the best setting that keeps every constraint, or None.
        closest: the setting that misses least, where none keeps them all.
        outcomes: the outcomes of all settings, on the coarse population.
        diversity: the frontier of the objective against the entropy of the shares, exact.
        compute: the frontier of the objective against cost, exact.
        binding: each constraint that keeps the objective from being higher, and by how much.
        sensitivity: the plan for rewards 10 % smaller and larger.
        error: the largest difference between coarse and exact forecasts, over the settings that were forecast
            exactly, of the objective (relative to its range) and of shares.
        groups: names of the groups.
        rewards: names of the rewards.
        rounds: the number of rounds planned for, or None for the limit.
        warnings: what to know before relying on it.

    >>> from recurate import plan
    >>> found = plan([0.0, 1.0, 2.0, 3.0], rounds=2, ks=[2, 4], real_fractions=[0.0, 0.5])
    >>> found.best.choice
    Choice(k=4, real_fraction=0.0, weights=(1.0,), temperature=1.0)
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
    r"""Return the setting of a loop with the best outcome under constraints.

    Over slate sizes K, real fractions rho, preference weights w and temperatures tau it maximises an
    objective of the law p_T that the loop

    .. math:: p_{t+1} = \rho\, p_{ref} + (1 - \rho)\, p_t \sum_i w_i H_i

    reaches after T rounds (Ferbach et al. 2024, arXiv 2407.09499, Lemma 2.1 and section 2.2; several rewards:
    Falahati et al. 2026, arXiv 2605.07724), subject to :class:`Constraints`. Every setting of a grid is
    forecast on a coarse population, and the grid is refined around the best. The chosen setting and the
    frontiers are forecast again on all candidates, exactly; ``error`` is the largest difference.

    Args:
        rewards: of one round's candidates, shape (candidates, rewards) or (candidates,); or ``Candidates``.
        objective: ``reward`` (sum of importance x E r_i), ``nash`` (sum of importance x log E exp r_i) or
            ``worst`` (the smallest E r_i).
        rounds: the number T of rounds; None: the limit.
        constraints: the bounds to keep; None: none.
        picks: the number of picks per round, for the cost K x picks x T.
        ks: slate sizes to choose from.
        real_fractions: real fractions to choose from.
        temperatures: temperatures to choose from, in the rewards' unit.
        weights: preference weights to choose from; None: with several rewards a grid between them.
        importance: weight of each reward in the objective, shape (rewards,); equal if None.
        groups: the group of each candidate, shape (candidates,); None: the reward whose maximum it is closest
            to.
        reference: rewards of real data; None: the candidates themselves.
        refine: whether to refine the grid around the best setting.

    Raises:
        InputError: a value is out of range, floors sum to more than one, rewards are constant, or a group is
            empty.

    >>> from recurate import Constraints, plan
    >>> found = plan([[3.0, 0.0], [2.0, 2.0], [0.0, 3.0]], constraints=Constraints(floor=0.2), rounds=4)
    >>> found.best.feasible, min(found.best.shares) >= 0.2
    (True, True)
    """
    candidates = as_candidates(rewards, groups=groups)
    if reference is not None and not isinstance(reference, Candidates):
        reference = as_candidates(reference, names=candidates.names)
    shares = check_weights(importance, len(candidates.names))
    goal = Goal(objective, shares, rounds, picks, constraints or Constraints())
    evaluator = Evaluator.of(candidates, reference, goal)
    space = _space(len(candidates.names), ks, real_fractions, temperatures, weights)
    outcomes = evaluator.evaluate(space)
    if refine:
        outcomes += evaluator.evaluate(_around(outcomes, space))
    best, tried = _best(evaluator, outcomes)
    closest = None if best is not None else evaluator.exactly(min(outcomes, key=_distance).choice)
    diversity = _frontier(evaluator, outcomes, lambda o: o.entropy)
    compute = _frontier(evaluator, outcomes, lambda o: -o.cost)
    exact = [*tried, *diversity, *compute]
    sensitivity = (
        () if best is None else tuple(_off(evaluator, best, outcomes, f) for f in (1 - OFF, 1 + OFF))
    )
    return Plan(
        best, closest, tuple(outcomes), tuple(diversity), tuple(compute), tuple(_binding(best, outcomes)),
        sensitivity, _error(exact, outcomes), evaluator.groups, candidates.names, rounds, evaluator.warnings,
    )  # fmt: skip


# --- the settings ---------------------------------------------------------------------------------


def _space(
    m: int,
    ks: Sequence[int],
    real_fractions: Sequence[float],
    temperatures: Sequence[float],
    weights: Sequence[Sequence[float]] | None,
) -> list[Choice]:
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


def _best(evaluator: Evaluator, outcomes: Iterable[Outcome]) -> tuple[Outcome | None, list[Outcome]]:
    """Return the best setting that keeps every constraint when forecast exactly, and all that were tried."""
    tried = []
    ranked = sorted((o for o in outcomes if o.feasible), key=lambda o: (-o.objective, o.cost))
    for found in ranked[:TRIES]:
        exact = evaluator.exactly(found.choice)
        tried.append(exact)
        if exact.feasible:
            return exact, tried
    return None, tried


def _frontier(
    evaluator: Evaluator, outcomes: Iterable[Outcome], other: Callable[[Outcome], float]
) -> list[Outcome]:
    """Return settings that none beats in both the objective and another quantity, forecast exactly."""
    ranked = sorted(outcomes, key=lambda o: (-o.objective, -other(o)))
    kept: list[Outcome] = []
    for o in ranked:
        if not kept or other(o) > other(kept[-1]) + 1e-9 * (1 + abs(other(o))):
            kept.append(o)
    if len(kept) > FRONTIER:
        index = np.unique(np.linspace(0, len(kept) - 1, FRONTIER).round().astype(int))
        kept = [kept[i] for i in index]
    return [evaluator.exactly(o.choice) for o in kept]


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


def _off(evaluator: Evaluator, best: Outcome, outcomes: Sequence[Outcome], factor: float) -> Sensitivity:
    """Say what happens if all rewards are ``factor`` times what they seem."""
    other = evaluator.scaled(factor)
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
