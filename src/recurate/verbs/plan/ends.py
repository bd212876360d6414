"""The long run of a loop with several rewards at a plan's setting: limits, survivors, phase diagrams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.log.candidates import Candidates
from recurate.rules import Rule
from recurate.theory.limits import Limit, limit, limits_along
from recurate.theory.population import Population, favourites
from recurate.theory.survival import SHORT, Survival, pareto_front, phase, settled_share, survival
from recurate.theory.welfare import Welfare, welfare
from recurate.verbs.plan.evaluation import Choice

PHASE_KS = (2, 3, 4, 6, 8, 16, 32)
PHASE_WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PHASE_REAL = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
SPREAD = 40  # further candidates, besides the Pareto front, in the phase diagram with real data
MOST_FRONT = 20  # candidates of a Pareto front that survivors and phases are computed on


@dataclass(frozen=True)
class Phases:
    """A phase diagram: the share of the limit that the first reward's group has.

    Attributes:
        axis: the quantity that varies with K: ``weight`` or ``real fraction``.
        ks: the slate sizes of the grid.
        values: the grid's values of ``axis``.
        shares: the group's share of the limit, shape (slate sizes, values); nan where the loop still moves.
        here: the plan's place in the diagram, (K, value).
    """

    axis: str
    ks: tuple[int, ...]
    values: tuple[float, ...]
    shares: FloatArray
    here: tuple[int, float]


@dataclass(frozen=True)
class Ends:
    """The long run of several rewards at the plan's setting.

    Attributes:
        nash: the limit at K = infinity without real data, with its certificate.
        welfare: the welfare of the candidates as they are and of that limit, each with its name.
        survivors: the fate of every group at the plan's K without real data.
        phases: the phase diagrams.
        front: the number of candidates that survivors and phases are computed on, and the size of the Pareto
            front.
    """

    nash: Limit
    welfare: tuple[tuple[str, Welfare], ...]
    survivors: tuple[Survival, ...] = ()
    phases: tuple[Phases, ...] = ()
    front: tuple[int, int] = (0, 0)


def ends_of(choice: Choice, candidates: Candidates) -> Ends:
    """Return the long run of several rewards at a setting."""
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
    by_weight = phase(rewards[kept], PHASE_KS, PHASE_WEIGHTS, weights=choice.weights)
    by_real = _by_real(rewards, kept, choice.weights)
    phases = (
        Phases("weight", PHASE_KS, PHASE_WEIGHTS, by_weight, (int(choice.k), choice.weights[0])),
        Phases("real fraction", PHASE_KS, PHASE_REAL, by_real, (int(choice.k), choice.real_fraction)),
    )
    survivors = tuple(survival(rewards[kept], choice.weights, k=choice.k))
    return Ends(nash, gains, survivors, phases, (kept.size, front.size))


def _spread_out(rewards: FloatArray, front: IntArray) -> IntArray:
    """Return about MOST_FRONT atoms of a Pareto front: the best of each reward, and evenly spaced others."""
    if front.size <= MOST_FRONT:
        return front
    order = front[np.argsort(rewards[front, 0], kind="stable")]
    even = order[np.unique(np.linspace(0, order.size - 1, MOST_FRONT).round().astype(int))]
    return np.union1d(even, front[rewards[front].argmax(axis=0)])


def _by_real(rewards: FloatArray, front: IntArray, weights: tuple[float, ...]) -> FloatArray:
    """Return the first group's share of the limit by K and real fraction, on a few hundred candidates."""
    rest = np.setdiff1d(np.arange(len(rewards)), front)
    atoms = np.concatenate([front, rest[:: max(1, rest.size // SPREAD)]])
    sample = rewards[atoms]
    mass = np.full(atoms.size, 1.0 / len(rewards))
    mass[front.size :] = (1 - front.size / len(rewards)) / max(atoms.size - front.size, 1)
    groups = favourites(sample, rewards.max(axis=0))
    population, trials = Population(sample, law=mass), np.tile(weights, (len(PHASE_REAL), 1))
    out = np.empty((len(PHASE_KS), len(PHASE_REAL)))
    for a, k in enumerate(PHASE_KS):
        ends = limits_along(population, Rule(k), trials, np.array(PHASE_REAL), SHORT)
        out[a] = [settled_share(end, groups, 0) for end in ends]
    return out
