r"""Published claims as bounds on statistics of runs, and their verdicts from several seeds.

A statistic is one number per seed. Over n seeds, its 95 % interval is Student's, mean +- t_{n-1} s / sqrt n,
and a claim is a bound on the mean. The verdict is "agrees" if the whole interval lies beyond the bound, "does
not" if it lies entirely on the other side, and "undecided" otherwise. The bounds are stated with the claims,
before any run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from recurate.core.errors import InputError
from recurate.log.trajectory import MEASURED, Row, Trajectory
from recurate.metrics.estimates import NORMAL_975
from recurate.verbs.reproduce.over_seeds import mean_and_reach

Runs = Mapping[str, Trajectory]  # one seed's trajectories, by arm
Statistic = Callable[[Runs], float]

CERTAIN = 3.0  # standard errors; a smaller fall is attributed to chance


@dataclass(frozen=True)
class Claim:
    """A claim that a publication makes about an experiment.

    Attributes:
        published: The claim in the publication's words, shortened.
        measured: Description of the statistic.
        statistic: Function that computes the statistic from one seed's runs.
        above: Whether the statistic should lie above the bound rather than below it.
        bound: The bound, in the unit of the statistic.
    """

    published: str
    measured: str
    statistic: Statistic
    above: bool
    bound: float


@dataclass(frozen=True)
class Finding:
    """A claim with the values of its statistic.

    Attributes:
        claim: The claim.
        values: Value of the statistic for each seed.
        mean: Mean of the values.
        reach: Half the width of the mean's 95 % interval; infinite for one seed.
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
        InputError: If there are no seeds.
    """
    if not seeds:
        raise InputError("a claim cannot be judged without runs", got="no seeds", remedy="run at least one")
    values = tuple(claim.statistic(runs) for runs in seeds)
    mean, reach = mean_and_reach(values)
    beyond = mean - claim.bound if claim.above else claim.bound - mean
    verdict = "agrees" if beyond > reach else "does not" if -beyond > reach else "undecided"
    return Finding(claim, values, mean, reach, verdict)


# --- statistics -----------------------------------------------------------------------------------


def last(
    arm: str, quantity: str, *, reward: str | None = None, group: str | None = None, source: str = MEASURED
) -> Statistic:
    """Return the statistic: the value in the last round."""
    return lambda runs: _values(runs[arm], quantity, reward, group, source)[-1]


def rise(arm: str, quantity: str, *, reward: str | None = None, group: str | None = None) -> Statistic:
    """Return the statistic: the value in the last round minus that in round 0."""
    values = partial(_values, quantity=quantity, reward=reward, group=group)
    return lambda runs: values(runs[arm])[-1] - values(runs[arm])[0]


def ratio(arm: str, quantity: str, *, first: int = 0, reward: str | None = None) -> Statistic:
    """Return the statistic: the value in the last round divided by that in round ``first``."""
    values = partial(_values, quantity=quantity, reward=reward, group=None)
    return lambda runs: values(runs[arm])[-1] / values(runs[arm])[first]


def falls(arm: str, quantity: str, *, reward: str | None = None, group: str | None = None) -> Statistic:
    """Return the statistic: the number of rounds in which the value fell by over CERTAIN standard errors."""

    def statistic(runs: Runs) -> float:
        series = runs[arm].series(quantity, source=MEASURED, reward=reward, group=group)
        rows = [series[t] for t in sorted(series)]
        return float(sum(_steps(a, b) < -CERTAIN for a, b in itertools.pairwise(rows)))

    return statistic


def largest_share(arm: str, source: str = MEASURED) -> Statistic:
    """Return the statistic: the largest group's share in the last round."""
    return lambda runs: max(_shares(runs[arm], source)[-1])


def smallest_share(arm: str) -> Statistic:
    """Return the statistic: the smallest group's share in the last round."""
    return lambda runs: min(_shares(runs[arm])[-1])


def drift_of_shares(arm: str) -> Statistic:
    """Return the statistic: the total variation distance between the first and the last round's shares."""

    def statistic(runs: Runs) -> float:
        shares = _shares(runs[arm])
        return 0.5 * float(np.abs(np.subtract(shares[-1], shares[0])).sum())

    return statistic


def less(one: Statistic, other: Statistic) -> Statistic:
    """Return the statistic: the difference of two statistics of the same seed."""
    return lambda runs: one(runs) - other(runs)


def _values(
    found: Trajectory, quantity: str, reward: str | None, group: str | None, source: str = MEASURED
) -> list[float]:
    values = found.values(quantity, source=source, reward=reward, group=group)
    return [float(value) for value in values]


def _shares(found: Trajectory, source: str = MEASURED) -> list[list[float]]:
    """Return all shares of every round."""
    rounds: dict[int, list[float]] = {}
    for row in found.where(source, "share").rows:
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
