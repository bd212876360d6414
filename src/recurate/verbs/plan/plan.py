"""The best K, real fraction, weights and temperature under constraints, from one round's rewards."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from recurate.core import progress
from recurate.core.errors import InputError, is_number
from recurate.log.candidates import Candidates
from recurate.log.reading.logs import Opened
from recurate.rules import Rule, Selection
from recurate.theory.forecast import Forecast
from recurate.theory.setting import check_weights
from recurate.verbs.forecast.ruling import Ruling, ruling_of
from recurate.verbs.plan.ends import Ends, ends_of
from recurate.verbs.plan.evaluation import Choice, Constraints, Evaluator, Goal, Outcome

KS = (2, 3, 4, 6, 8, 12, 16, 32)
REAL_FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
TRIES = 25  # largest number of settings forecast exactly until one keeps every constraint
OFF = 0.1  # relative error of the rewards in the sensitivity
FRONTIER = 12  # largest number of settings on a frontier


@dataclass(frozen=True)
class Sensitivity:
    """The plan's outcome if all rewards are off by a factor.

    Attributes:
        factor: the factor that multiplies all rewards.
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
        closest: where no setting keeps every constraint, the one that misses least; else None.
        outcomes: the outcomes of all settings, on the coarse population.
        diversity: the frontier of the objective against the entropy of the shares, exact.
        compute: the frontier of the objective against cost, exact.
        binding: each constraint that keeps the objective from being higher, and by how much.
        sensitivity: the plan for rewards 10 % smaller and larger.
        error: the largest difference between coarse and exact forecasts, over the settings that were forecast
            exactly, of the objective (relative to its range) and of shares.
        groups: the groups' names.
        candidates: the candidates of one round, which the plan rests on.
        rounds: the number of rounds planned for, or None for the limit.
        warnings: reasons to rely on it less.
        ruling: the rule of the picks, and why it is used.
        log_k: the log's own K (level, share kept), which is always among those tried; None if it has none.
        own: the outcome of the best setting with that K (the closest one, if none keeps every constraint).
        pooled: whether limits and survivors of one population under Luce's rule apply.
        opened: how the log was read; None with arrays.
        forecast: the forecast of the setting, round by round, with bands; None for limits.
        constraints: the bounds that were to be kept.

    >>> import recurate
    >>> recurate.plan([0.0, 1.0, 2.0, 3.0], rounds=2, k=[2, 4], real_fraction=[0.0, 0.5]).best.choice
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
    candidates: Candidates = field(repr=False)
    rounds: int | None
    warnings: tuple[str, ...] = ()
    ruling: Ruling = field(default_factory=lambda: ruling_of(None, {}, {}), repr=False)
    log_k: float | None = None
    own: Outcome | None = None
    pooled: bool = True
    opened: Opened | None = field(default=None, repr=False)
    forecast: Forecast | None = field(default=None, repr=False)
    constraints: Constraints = field(default_factory=Constraints, repr=False)

    @property
    def rewards(self) -> tuple[str, ...]:
        """The rewards' names."""
        return self.candidates.names

    @property
    def setting(self) -> Outcome:
        """The outcome of the best setting, or of the closest one."""
        found = self.best or self.closest
        assert found is not None
        return found

    @cached_property
    def ends(self) -> Ends | None:
        """The long run at the plan's setting, computed when first needed.

        It is None with one reward, with contexts, and for other rules than Luce's.
        """
        if len(self.rewards) == 1 or not self.pooled:
            return None
        return ends_of(self.setting.choice, self.candidates)


def plan_settings(
    candidates: Candidates,
    reference: Candidates | None,
    goal: Goal,
    space: Sequence[Choice],
    *,
    refine: bool = True,
    log_k: float | None = None,
) -> Plan:
    """Return the setting with the best outcome under constraints.

    Every setting is forecast on a coarse population, and the grid is refined around the best one. The chosen
    setting and the frontiers are forecast again on all candidates, exactly.

    Args:
        candidates: one round's.
        reference: real data; None: the candidates themselves.
        goal: the objective and the constraints.
        space: the settings to choose from; see :func:`settings`.
        refine: whether to refine the grid around the best setting.
        log_k: the log's own K, if it is among the settings.

    Raises:
        InputError: a constraint is out of reach, rewards are constant, or a group is empty.
    """
    evaluator = Evaluator.of(candidates, reference, goal)
    progress.stage("comparing settings")
    outcomes = evaluator.evaluate(space)
    if refine:
        progress.stage("refining around the best setting")
        outcomes += evaluator.evaluate(_around(outcomes, space, isinstance(goal.manner.rule, Rule)))
    progress.stage("forecasting the best settings exactly")
    best, tried = _best(evaluator, outcomes)
    closest = None if best is not None else evaluator.exactly(min(outcomes, key=_distance).choice)
    diversity = _frontier(evaluator, outcomes, lambda o: o.entropy)
    compute = _frontier(evaluator, outcomes, lambda o: -o.cost)
    logged = [o for o in outcomes if o.choice.k == log_k]
    own = evaluator.exactly(min(logged, key=_rank).choice) if logged else None
    progress.stage("planning with other rewards")
    exact = [*tried, *diversity, *compute, *([] if own is None else [own])]
    sensitivity = (
        () if best is None else tuple(_off(evaluator, best, outcomes, f) for f in (1 - OFF, 1 + OFF))
    )
    manner, contexts = goal.manner, candidates.contexts is not None
    warnings = evaluator.warnings
    if len(candidates.names) > 1 and (contexts or not manner.is_luce):
        why = "contexts" if contexts else "another rule than Luce's"
        warnings += (f"limits, survivors and phase diagrams are left out: the loop has {why}",)
    return Plan(
        best, closest, tuple(outcomes), tuple(diversity), tuple(compute), tuple(_binding(best, outcomes)),
        sensitivity, _error(exact, outcomes), evaluator.groups, candidates, goal.rounds, warnings,
        log_k=log_k if logged else None, own=own, pooled=manner.is_luce and not contexts,
        constraints=goal.constraints,
    )  # fmt: skip


# --- the settings ---------------------------------------------------------------------------------


def settings(
    m: int,
    ks: Sequence[int | float] | None = None,
    real_fractions: Sequence[float] | None = None,
    weights: Sequence[Sequence[float]] | None = None,
    temperatures: Sequence[float] | None = None,
    *,
    rule: Selection | None = None,
    log_k: float | None = None,
    mix: tuple[float, ...] | None = None,
) -> list[Choice]:
    """Return the grid of settings for m rewards; where values are None, the usual ones.

    Args:
        m: the number of rewards.
        ks: slate sizes; for rules without slates levels, or shares kept of the pool.
        real_fractions: shares of real data.
        weights: preference weights.
        temperatures: temperatures.
        rule: the rule; where it keeps several of each slate, the usual slate sizes are larger.
        log_k: the log's own slate size, which is added to ``ks``.
        mix: the log's own weights, which are added to the usual ones.

    Raises:
        InputError: a value is out of range, or there is no setting.
    """
    rule = Rule() if rule is None else rule
    keep = getattr(rule, "keep", 1)
    ks = [k for k in (*KS, 64, 128) if k > keep][: len(KS)] if ks is None else list(ks)
    if log_k is not None and log_k not in ks and ks:
        ks = sorted([*ks, log_k])
    real_fractions = REAL_FRACTIONS if real_fractions is None else real_fractions
    temperatures = (1.0,) if temperatures is None else temperatures
    mixes = _mixes(m) if weights is None else [tuple(check_weights(w, m).tolist()) for w in weights]
    if mix is not None and weights is None and mix not in mixes and m > 1:
        mixes = sorted([*mixes, mix])
    for k in ks if isinstance(rule, Rule) else ():
        if not is_number(k) or k != int(k) or not 1 <= k < 2**31:
            raise InputError("slate sizes must be whole numbers", got=k, remedy="--k 2,4,8")
        if k < keep:
            raise InputError(
                f"{keep} of each slate are kept, so slates must have that many",
                got=f"k = {k}",
                remedy=f"--k {2 * keep},{4 * keep}, or --keep 1",
            )
    for rho in real_fractions:
        if not is_number(rho) or not 0 <= rho < 1:
            raise InputError("real fractions must lie in [0, 1)", got=rho, remedy="--real-fraction 0,0.1,0.3")
    for temperature in temperatures:
        if not is_number(temperature) or not temperature > 0:
            raise InputError("temperatures must be positive", got=temperature, remedy="--temperature 0.5,1")
    space = [
        Choice(int(k) if isinstance(rule, Rule) else float(k), float(rho), shares, float(t))
        for k, rho, shares, t in itertools.product(ks, real_fractions, mixes, temperatures)
    ]
    if not space:
        raise InputError(
            "there is nothing to choose from", got="no settings", remedy="give at least one slate size"
        )
    return space


def _mixes(m: int) -> list[tuple[float, ...]]:
    """Return a grid of weights: tenths for two rewards; for more, the centre and points towards corners."""
    if m == 1:
        return [(1.0,)]
    if m == 2:
        return [(round(0.1 * i, 1), round(1 - 0.1 * i, 1)) for i in range(1, 10)]
    centre = np.full(m, 1.0 / m)
    mixes = [centre]
    mixes += [(1 - share) * centre + share * np.eye(m)[j] for j in range(m) for share in (0.25, 0.5)]
    return [tuple(w.tolist()) for w in mixes]


def _around(outcomes: Sequence[Outcome], space: Sequence[Choice], whole: bool) -> list[Choice]:
    """Return settings between the best one and its neighbours on the grid, with a whole K."""
    top = max(outcomes, key=lambda o: (o.feasible, o.objective if o.feasible else -_distance(o)))
    at = top.choice
    fractions = _between(sorted({c.real_fraction for c in space}), at.real_fraction)
    ks: Sequence[float] = _between(sorted({float(c.k) for c in space}), at.k)
    if whole:
        ks = [int(k) for k in np.unique(np.round(ks))]
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


def _rank(o: Outcome) -> tuple[bool, float, float]:
    """Return a key that sorts settings: those that keep every constraint first, the best of them first."""
    return not o.feasible, -o.objective if o.feasible else _distance(o), o.cost


def _distance(o: Outcome) -> float:
    return sum(o.missed.values()) + (0.0 if o.settles else 1e3)


def _best(evaluator: Evaluator, outcomes: Iterable[Outcome]) -> tuple[Outcome | None, list[Outcome]]:
    """Return the best setting that keeps every constraint exactly, and all that were forecast exactly."""
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
    """Return the settings that no other beats in both the objective and another quantity, exactly."""
    ranked = sorted(outcomes, key=lambda o: (-o.objective, -other(o)))
    kept: list[Outcome] = []
    for o in ranked:
        if not kept or other(o) > other(kept[-1]) + 1e-9 * (1 + abs(other(o))):
            kept.append(o)
    if len(kept) > FRONTIER:
        index = np.unique(np.linspace(0, len(kept) - 1, FRONTIER).round().astype(int))
        kept = [kept[i] for i in index]
    return [evaluator.exactly(o.choice) for o in progress.steps(kept, len(kept))]


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
    """Return the plan's outcome, and the best setting, with all rewards times ``factor``."""
    other = evaluator.scaled(factor)
    again = other.evaluate([o.choice for o in outcomes])
    feasible = [o for o in again if o.feasible]
    replanned = max(feasible, key=lambda o: o.objective) if feasible else None
    return Sensitivity(factor, other.exactly(best.choice), replanned)


def _error(exact: Sequence[Outcome], outcomes: Sequence[Outcome]) -> float:
    """Return the largest difference between the two forecasts of the same settings."""
    rough = {o.choice: o for o in outcomes}
    spread = max(o.objective for o in outcomes) - min(o.objective for o in outcomes)
    spread = spread or max(abs(outcomes[0].objective), 1.0)
    worst = 0.0
    for o in exact:
        other = rough.get(o.choice)
        if other is not None and o.settles:
            worst = max(worst, abs(o.objective - other.objective) / spread)
            worst = max(worst, float(np.abs(np.subtract(o.shares, other.shares)).max()))
    return worst
