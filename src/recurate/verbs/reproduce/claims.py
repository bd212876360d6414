r"""What a publication claims, as numbers that a run has, and verdicts from a few seeds.

A statistic is one number a seed. Over n seeds its 95 % interval is that of Student's t,
mean +- t_{n-1} s / sqrt n, and the claim is a bound on it: the verdict is "agrees" if the whole interval lies
beyond the bound, "does not" if the whole of it lies on the other side, "undecided" between. Bounds are stated
with the claims, before anything is run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recurate.core.errors import InputError
from recurate.log.trajectory import MEASURED, Row, Trajectory
from recurate.metrics.estimates import NORMAL_975
from recurate.verbs.reproduce.over_seeds import mean_and_reach

Runs = Mapping[str, Trajectory]  # one seed's trajectories, by arm
Statistic = Callable[[Runs], float]

CERTAIN = 3.0  # standard errors below which a fall is put down to chance


@dataclass(frozen=True)
class Claim:
    """Something that a publication says of an experiment.

    Attributes:
        published: in its words, shortened.
        measured: what the statistic is.
        statistic: of one seed's runs.
        above: whether it should lie above the bound, or below.
        bound: the bound.
    """

    published: str
    measured: str
    statistic: Statistic
    above: bool
    bound: float


@dataclass(frozen=True)
class Finding:
    """A claim against what was found.

    Attributes:
        claim: see :class:`Claim`.
        values: the statistic of each seed.
        mean: their mean.
        reach: half the width of its 95 % interval; infinite for one seed.
        verdict: ``agrees``, ``does not`` or ``undecided``.
    """

    claim: Claim
    values: tuple[float, ...]
    mean: float
    reach: float
    verdict: str


def judge(claim: Claim, seeds: Sequence[Runs]) -> Finding:
    """Return a claim's verdict from the runs of several seeds.

    Raises:
        InputError: there are no seeds.
    """
    if not seeds:
        raise InputError("a claim needs runs to be judged by", got="no seeds", remedy="run at least one")
    values = tuple(claim.statistic(runs) for runs in seeds)
    mean, reach = mean_and_reach(values)
    beyond = mean - claim.bound if claim.above else claim.bound - mean
    verdict = "agrees" if beyond > reach else "does not" if -beyond > reach else "undecided"
    return Finding(claim, values, mean, reach, verdict)


# --- statistics -----------------------------------------------------------------------------------


def last(arm: str, quantity: str, *, reward: str | None = None, group: str | None = None) -> Statistic:
    """Return the statistic: the value in the last round."""
    return lambda runs: _values(runs[arm], quantity, reward, group)[-1]


def rise(arm: str, quantity: str, *, reward: str | None = None, group: str | None = None) -> Statistic:
    """Return the statistic: the last round's value less round 0's."""

    def statistic(runs: Runs) -> float:
        values = _values(runs[arm], quantity, reward, group)
        return values[-1] - values[0]

    return statistic


def ratio(arm: str, quantity: str, *, first: int = 0, reward: str | None = None) -> Statistic:
    """Return the statistic: the last round's value over that of round ``first``."""

    def statistic(runs: Runs) -> float:
        values = _values(runs[arm], quantity, reward, None)
        return values[-1] / values[first]

    return statistic


def falls(arm: str, quantity: str, *, reward: str | None = None, group: str | None = None) -> Statistic:
    """Return the statistic: in how many rounds the value fell by more than CERTAIN standard errors."""

    def statistic(runs: Runs) -> float:
        series = runs[arm].series(quantity, source=MEASURED, reward=reward, group=group)
        rows = [series[t] for t in sorted(series)]
        return float(sum(_steps(a, b) < -CERTAIN for a, b in itertools.pairwise(rows)))

    return statistic


def smallest_share(arm: str) -> Statistic:
    """Return the statistic: the smallest group's share in the last round."""
    return lambda runs: min(_shares(runs[arm])[-1])


def drift_of_shares(arm: str) -> Statistic:
    """Return the statistic: total variation between the shares of the first and the last round."""

    def statistic(runs: Runs) -> float:
        shares = _shares(runs[arm])
        return 0.5 * float(np.abs(np.subtract(shares[-1], shares[0])).sum())

    return statistic


def less(one: Statistic, other: Statistic) -> Statistic:
    """Return the statistic: one less the other, of the same seed."""
    return lambda runs: one(runs) - other(runs)


def _values(found: Trajectory, quantity: str, reward: str | None, group: str | None) -> list[float]:
    values = found.values(quantity, source=MEASURED, reward=reward, group=group)
    return [float(value) for value in values]


def _shares(found: Trajectory) -> list[list[float]]:
    """Return all shares of every round."""
    rounds: dict[int, list[float]] = {}
    for row in found.where(MEASURED, "share").rows:
        rounds.setdefault(row.round, []).append(row.value)
    return [rounds[t] for t in sorted(rounds)]


def _steps(before: Row, after: Row) -> float:
    """Return a change in standard errors; zero where neither value has one."""
    error = math.hypot(_error(before), _error(after))
    change = after.value - before.value
    return change / error if error else 0.0


def _error(row: Row) -> float:
    if row.lower is None or row.upper is None:
        return 0.0
    return max(row.upper - row.value, row.value - row.lower) / NORMAL_975
