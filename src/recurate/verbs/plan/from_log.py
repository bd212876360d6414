"""A plan from a log: its first round's candidates, with limits, survivors and phase diagrams."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.core.files import write_text
from recurate.core.version import VERSION
from recurate.log.candidates import Candidates, from_log
from recurate.log.schema import REAL, read_log
from recurate.theory.forecast import split_log
from recurate.theory.limits import Limit, limit
from recurate.theory.survival import (
    SHORT,
    Survival,
    favourites,
    pareto_front,
    phase,
    settled_share,
    survival,
)
from recurate.theory.welfare import Welfare, welfare
from recurate.verbs.plan.evaluation import Constraints, Outcome
from recurate.verbs.plan.plan import KS, REAL_FRACTIONS, Plan, plan

PHASE_KS = (2, 3, 4, 6, 8, 16, 32)
PHASE_WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PHASE_REAL = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
SPREAD = 40  # candidates beside the Pareto front in the phase diagram with real data
MOST_FRONT = 20  # candidates of a Pareto front on which survivors and phases are told


@dataclass(frozen=True)
class PlanOptions:
    """What to plan; None: the log's, or the default."""

    rewards: Sequence[str] | None = None
    group: str | None = None
    objective: str = "reward"
    importance: Sequence[float] | None = None
    rounds: int | None = 10
    constraints: Constraints = field(default_factory=Constraints)
    picks: int | None = None
    ks: Sequence[Any] | None = None
    real_fractions: Sequence[float] | None = None
    temperatures: Sequence[float] | None = None
    weights: Sequence[Sequence[float]] | None = None
    reference: Path | None = None


@dataclass(frozen=True)
class Phases:
    """A phase diagram: the first reward's group's share of the limit.

    Attributes:
        axis: what varies beside K: ``weight`` or ``real fraction``.
        ks, values: the grid.
        shares: (slate sizes, values); nan where the loop still moves.
        here: the plan's place, (K, value), or None.
    """

    axis: str
    ks: tuple[int, ...]
    values: tuple[float, ...]
    shares: FloatArray
    here: tuple[int, float] | None


@dataclass(frozen=True)
class LogPlan:
    """A plan from a log, with what several rewards do in the long run.

    Attributes:
        plan: see :class:`recurate.verbs.plan.plan.Plan`.
        nash: the limit at K = infinity without real data, with its certificate; None with one reward.
        survivors: what becomes of every group at the plan's K without real data; empty with one reward.
        phases: phase diagrams.
        welfare: of the candidates as they are, and of the limit.
        front: how many candidates survivors and phases are told on, and how many the Pareto front has.
    """

    plan: Plan
    nash: Limit | None = None
    survivors: tuple[Survival, ...] = ()
    phases: tuple[Phases, ...] = ()
    welfare: tuple[tuple[str, Welfare], ...] = ()
    front: tuple[int, int] = (0, 0)

    @property
    def setting(self) -> Outcome:
        """The plan's outcome, or the closest one."""
        found = self.plan.best or self.plan.closest
        assert found is not None
        return found


def plan_log(path: Path, options: PlanOptions) -> LogPlan:
    """Plan from the first round of a log; see :func:`recurate.verbs.plan.plan.plan`.

    Raises:
        InputError: a file, column or value is wrong.
    """
    log = read_log(path, options.rewards, text=[] if options.group is None else [options.group])
    candidates, real = split_log(log, group=options.group)
    if options.reference is not None:
        rows = read_log(options.reference, log.rewards, text=[] if options.group is None else [options.group])
        own = rows.select(source=REAL)
        real = from_log(own if own.table.num_rows else rows, group=options.group)
    found = plan(
        candidates,
        objective=options.objective,
        rounds=options.rounds,
        constraints=options.constraints,
        picks=options.picks or _picks(log) or 1000,
        ks=KS if options.ks is None else options.ks,
        real_fractions=REAL_FRACTIONS if options.real_fractions is None else options.real_fractions,
        temperatures=(1.0,) if options.temperatures is None else options.temperatures,
        weights=options.weights,
        importance=options.importance,
        reference=real,
    )
    if len(candidates.names) < 2:
        return LogPlan(found)
    return _with_limits(found, candidates)


def _picks(log: Any) -> int:
    first = log.select(round=log.rounds()[0])
    return int(np.asarray(first.column("picked"), bool).sum())


def _with_limits(found: Plan, candidates: Candidates) -> LogPlan:
    setting = found.best or found.closest
    assert setting is not None
    choice = setting.choice
    rewards = candidates.rewards / choice.temperature
    nash = limit(rewards, choice.weights)
    gains = [
        ("the candidates", welfare(rewards, weights=choice.weights)),
        ("the limit at K = infinity", welfare(rewards, nash.law, weights=choice.weights)),
    ]
    front = pareto_front(rewards)
    kept = _spread_out(rewards, front)
    groups = favourites(rewards[kept], rewards.max(axis=0))
    if np.bincount(groups, minlength=rewards.shape[1]).min() == 0:
        return LogPlan(found, nash, welfare=tuple(gains))
    return LogPlan(
        found,
        nash,
        tuple(survival(rewards[kept], choice.weights, k=choice.k)),
        _phases(rewards, kept, choice.weights, choice.k, choice.real_fraction),
        tuple(gains),
        (kept.size, front.size),
    )


def _spread_out(rewards: FloatArray, front: IntArray) -> IntArray:
    """Return about MOST_FRONT atoms of a Pareto front: each reward's best, others evenly between."""
    if front.size <= MOST_FRONT:
        return front
    order = front[np.argsort(rewards[front, 0], kind="stable")]
    even = order[np.unique(np.linspace(0, order.size - 1, MOST_FRONT).round().astype(int))]
    return np.union1d(even, front[rewards[front].argmax(axis=0)])


def _phases(
    rewards: FloatArray, front: IntArray, weights: tuple[float, ...], k: int, real_fraction: float
) -> tuple[Phases, ...]:
    by_weight = Phases(
        "weight", PHASE_KS, PHASE_WEIGHTS, phase(rewards[front], PHASE_KS, PHASE_WEIGHTS, weights=weights),
        (k, weights[0]),
    )  # fmt: skip
    return (
        by_weight,
        Phases("real fraction", PHASE_KS, PHASE_REAL, _by_real(rewards, front, weights), (k, real_fraction)),
    )


def _by_real(rewards: FloatArray, front: IntArray, weights: tuple[float, ...]) -> FloatArray:
    """Return the first group's share of the limit by K and real fraction, on a few hundred candidates."""
    rest = np.setdiff1d(np.arange(len(rewards)), front)
    atoms = np.concatenate([front, rest[:: max(1, rest.size // SPREAD)]])
    sample = rewards[atoms]
    mass = np.concatenate([np.full(front.size, 1.0 / len(rewards)), np.full(atoms.size - front.size, 0.0)])
    mass[front.size :] = (1 - mass.sum()) / max(atoms.size - front.size, 1)
    groups = favourites(sample, rewards.max(axis=0))
    out = np.empty((len(PHASE_KS), len(PHASE_REAL)))
    for a, k in enumerate(PHASE_KS):
        for b, rho in enumerate(PHASE_REAL):
            end = limit(sample, weights, k=k, real_fraction=rho, law=mass, longest=SHORT)
            out[a, b] = settled_share(end, groups, 0)
    return out


def outcome_facts(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain values."""
    return {**vars(outcome), "choice": vars(outcome.choice), "feasible": outcome.feasible}


def facts_of(found: LogPlan, source: str) -> dict[str, Any]:
    """Return a plan as plain values."""
    p = found.plan
    return {
        "recurate": VERSION,
        "source": source,
        "rounds": p.rounds,
        "feasible": p.best is not None,
        "best": None if p.best is None else outcome_facts(p.best),
        "closest": None if p.closest is None else outcome_facts(p.closest),
        "binding": [list(pair) for pair in p.binding],
        "diversity_frontier": [outcome_facts(o) for o in p.diversity],
        "compute_frontier": [outcome_facts(o) for o in p.compute],
        "sensitivity": [
            {
                "factor": s.factor,
                "outcome": outcome_facts(s.outcome),
                "replanned": None if s.replanned is None else outcome_facts(s.replanned),
            }
            for s in p.sensitivity
        ],
        "settings_tried": len(p.outcomes),
        "compression_error": p.error,
        "groups": list(p.groups),
        "rewards": list(p.rewards),
        "survivors": [_plain(vars(s)) for s in found.survivors],
        "welfare": {name: _plain(vars(w)) for name, w in found.welfare},
        "nash_limit": None
        if found.nash is None
        else {
            "gap": found.nash.gap,
            "unique": found.nash.unique,
            "shares": found.nash.shares.tolist(),
            "support": found.nash.support.tolist(),
        },
        "warnings": list(p.warnings),
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        k: None
        if isinstance(v, float) and not math.isfinite(v)
        else v.item()
        if isinstance(v, np.generic)
        else v
        for k, v in values.items()
    }


def write_plan(found: LogPlan, folder: Path, source: str) -> None:
    """Write ``plan.json``."""
    if folder.exists() and not folder.is_dir():
        raise InputError("--out names a file", got=folder, remedy="name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "plan.json", json.dumps(facts_of(found, source), indent=2) + "\n")
