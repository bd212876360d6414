"""A plan from a log: its first round's candidates, with limits, survivors and phase diagrams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.log.candidates import Candidates, as_candidates, from_log
from recurate.log.inputs import is_array, log_of
from recurate.log.schema import REAL, Log
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
from recurate.verbs.plan.evaluation import Choice, Outcome
from recurate.verbs.plan.plan import Plan, plan

PHASE_KS = (2, 3, 4, 6, 8, 16, 32)
PHASE_WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PHASE_REAL = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
SPREAD = 40  # candidates beside the Pareto front in the phase diagram with real data
MOST_FRONT = 20  # candidates of a Pareto front on which survivors and phases are told


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
class Ends:
    """What several rewards do in the long run, at the plan's setting.

    Attributes:
        nash: the limit at K = infinity without real data, with its certificate.
        welfare: of the candidates as they are, and of the limit.
        survivors: what becomes of every group at the plan's K without real data.
        phases: phase diagrams.
        front: how many candidates survivors and phases are computed on, and how many the Pareto front has.
    """

    nash: Limit
    welfare: tuple[tuple[str, Welfare], ...]
    survivors: tuple[Survival, ...] = ()
    phases: tuple[Phases, ...] = ()
    front: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class LogPlan(Plan):
    """A plan with the candidates that it was made from.

    Attributes (those of a ``Plan`` besides):
        candidates: of one round.
    """

    candidates: Candidates | None = field(default=None, repr=False)

    @property
    def setting(self) -> Outcome:
        """The plan's outcome, or the closest one."""
        found = self.best or self.closest
        assert found is not None
        return found

    @cached_property
    def ends(self) -> Ends | None:
        """What happens in the long run, computed when first asked for; None with one reward."""
        if self.candidates is None or len(self.candidates.names) < 2:
            return None
        return _ends(self.setting.choice, self.candidates)


def plan_log(
    source: Any,
    rewards: Sequence[str] | None = None,
    group: str | None = None,
    reference: Any = None,
    **settings: Any,
) -> LogPlan:
    """Plan from the first round of a log; see :func:`recurate.plan`.

    Args:
        source: a log, as :func:`recurate.log.inputs.log_of` takes it.
        rewards: reward columns; None: those called so.
        group: column of groups, or None.
        reference: real data, as a table or an array; None: the log's own, if any.
        settings: arguments of :func:`recurate.verbs.plan.plan.plan`, None where not given.

    Raises:
        InputError: a file, column or value is wrong.
    """
    text = [] if group is None else [group]
    log = log_of(source, rewards, text=text)
    candidates, real = split_log(log, group=group)
    if reference is not None and is_array(reference):
        real = as_candidates(reference, names=candidates.names)
    elif reference is not None:
        rows = log_of(reference, log.rewards, text=text)
        own = rows.select(source=REAL)
        real = from_log(own if own.table.num_rows else rows, group=group)
    picks = settings.pop("picks") or _picks(log)
    return plan_candidates(candidates, reference=real, picks=picks, **settings)


def plan_candidates(candidates: Candidates, *, picks: int | None = None, **settings: Any) -> LogPlan:
    """Plan from candidates; see :func:`plan_log`."""
    given = {name: value for name, value in settings.items() if value is not None or name == "rounds"}
    return LogPlan(**vars(plan(candidates, picks=picks or 1000, **given)), candidates=candidates)


def _picks(log: Log) -> int:
    first = log.select(round=log.rounds()[0])
    return int(np.asarray(first.column("picked"), bool).sum())


def _ends(choice: Choice, candidates: Candidates) -> Ends:
    rewards = candidates.rewards / choice.temperature
    nash = limit(rewards, choice.weights)
    gains = (
        ("the candidates", welfare(rewards, weights=choice.weights)),
        ("the limit at K = infinity", welfare(rewards, nash.law, weights=choice.weights)),
    )
    front = pareto_front(rewards)
    kept = _spread_out(rewards, front)
    groups = favourites(rewards[kept], rewards.max(axis=0))
    if np.bincount(groups, minlength=rewards.shape[1]).min() == 0:
        return Ends(nash, gains)
    return Ends(
        nash,
        gains,
        tuple(survival(rewards[kept], choice.weights, k=choice.k)),
        _phases(rewards, kept, choice.weights, choice.k, choice.real_fraction),
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
