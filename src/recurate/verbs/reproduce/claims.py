r"""Published claims as bounds on statistics of runs, and their verdicts from several seeds.

A statistic is one number per seed. Over n seeds, its 95 % interval is Student's, mean +- t_{n-1} s / sqrt n,
and a claim is a bound on the mean. The verdict is ``agrees`` if the whole interval lies beyond the bound,
``refuted`` if it lies entirely on the other side, and ``undecided`` otherwise, as with a single seed. A claim
about exact laws alone is one number without an interval: it agrees or is refuted. A claim about given data
has one number with an interval of its own, from these data. What could not be measured is ``undecided``. A
claim whose number is of the paper's own data and size is not refuted by other data: it is ``not at this
scale`` then. The bounds are stated with the claims, before any run unless the experiment says otherwise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from recurate.core.errors import InputError
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.metrics.estimates import NORMAL_975
from recurate.verbs.reproduce.over_seeds import mean_and_reach

Runs = Mapping[str, Trajectory]  # one seed's trajectories, by arm
Statistic = Callable[[Runs], float]

AGREES, REFUTED, UNDECIDED = "agrees", "refuted", "undecided"
NOT_HERE = "not at this scale"
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
        exact: Whether the statistic reads exact laws alone, so that it is one number for all seeds.
        interval: Function that returns the 95 % interval of an exact claim's statistic, where it is an
            estimate from data; NaN where nothing could be measured, which is undecided.
        elsewhere: Whether the claim is about a number that was seen on other data, or at another size, than
            those of the runs.
    """

    published: str
    measured: str
    statistic: Statistic
    above: bool
    bound: float
    exact: bool = False
    interval: Callable[[Runs], tuple[float, float]] | None = None
    elsewhere: bool = False


@dataclass(frozen=True)
class Finding:
    """A claim with the values of its statistic.

    Attributes:
        claim: The claim.
        values: Value of the statistic for each seed; one value for an exact claim.
        mean: Mean of the values.
        reach: Half the width of the mean's 95 % interval (the longer side, if it is not symmetric); infinite
            for one seed, zero for an exact claim.
        verdict: ``agrees``, ``refuted``, ``undecided`` or ``not at this scale``.
        interval: 95 % interval of an estimate from given data, which need not be symmetric; else None.
    """

    claim: Claim
    values: tuple[float, ...]
    mean: float
    reach: float
    verdict: str
    interval: tuple[float, float] | None = None

    @property
    def beyond(self) -> bool:
        """Whether the mean lies beyond the bound, on the claimed side; a mean that is NaN does not."""
        return self.mean > self.claim.bound if self.claim.above else self.mean < self.claim.bound


def judge(claim: Claim, seeds: Sequence[Runs], laws: Runs | None = None) -> Finding:
    """Return a claim's verdict from the runs of several seeds, and from the exact laws.

    Args:
        claim: The claim.
        seeds: Trajectories of the trained arms, one mapping by arm for each seed; an exact claim needs none.
        laws: Trajectories of the exact arms.

    Raises:
        InputError: If there are no seeds, and the claim is not about laws alone.
    """
    exact = dict(laws or {})
    if claim.interval is not None:
        return _with_own_interval(claim, claim.statistic(exact), claim.interval(exact))
    if claim.exact:
        value = claim.statistic(exact)
        found = Finding(claim, (value,), value, 0.0, UNDECIDED)
        if math.isnan(value):  # nothing could be measured
            return found
        return replace(found, verdict=AGREES if found.beyond else REFUTED)
    if not seeds:
        raise InputError("a claim cannot be judged without runs", got="no seeds", remedy="run at least one")
    values = tuple(claim.statistic({**runs, **exact}) for runs in seeds)
    mean, reach = mean_and_reach(values)
    beyond = mean - claim.bound if claim.above else claim.bound - mean
    verdict = AGREES if beyond > reach else REFUTED if -beyond > reach else UNDECIDED
    if verdict == REFUTED and claim.elsewhere:
        verdict = NOT_HERE
    return Finding(claim, values, mean, reach, verdict)


def _with_own_interval(claim: Claim, value: float, interval: tuple[float, float]) -> Finding:
    """Return the finding on an estimate from data."""
    low, high = interval
    over, under = low > claim.bound, high < claim.bound
    verdict = UNDECIDED
    if over or under:
        verdict = AGREES if over == claim.above else REFUTED
    return Finding(claim, (value,), value, max(high - value, value - low), verdict, interval)


# --- statistics -----------------------------------------------------------------------------------


def last(
    arm: str, quantity: str, *, reward: str | None = None, group: str | None = None, source: str = MEASURED
) -> Statistic:
    """Return the statistic: the value in the last round."""
    return lambda runs: _values(runs[arm], quantity, reward, group, source)[-1]


def first(arm: str, quantity: str) -> Statistic:
    """Return the statistic: the value in round 0."""
    return lambda runs: _values(runs[arm], quantity, None, None)[0]


def rise(
    arm: str, quantity: str, *, reward: str | None = None, group: str | None = None, until: int = -1
) -> Statistic:
    """Return the statistic: the value in round ``until`` (-1: the last) minus that in round 0."""
    values = partial(_values, quantity=quantity, reward=reward, group=group)
    return lambda runs: values(runs[arm])[until] - values(runs[arm])[0]


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


def ends(arm: str, quantity: str, *, reward: str | None = None, group: str | None = None) -> Statistic:
    """Return the statistic: the value of an exact law in the last round."""
    return last(arm, quantity, reward=reward, group=group, source=FORECAST)


def gains(
    arm: str, quantity: str, *, reward: str | None = None, group: str | None = None, until: int = -1
) -> Statistic:
    """Return the statistic: the value of an exact law in round ``until`` (-1: the last) minus round 0's."""

    def statistic(runs: Runs) -> float:
        values = _values(runs[arm], quantity, reward, group, FORECAST)
        return values[until] - values[0]

    return statistic


def apart(one: Statistic, other: Statistic | float) -> Statistic:
    """Return the statistic: the distance of a statistic from another one, or from a number."""
    return lambda runs: abs(one(runs) - (other if isinstance(other, float) else other(runs)))


def outside(one: Statistic, low: float, high: float) -> Statistic:
    """Return the statistic: the distance of a statistic from the interval [low, high]; 0 inside it."""
    return lambda runs: max(low - one(runs), one(runs) - high, 0.0)


def smallest(*some: Statistic) -> Statistic:
    """Return the statistic: the least of several statistics of the same seed."""
    return lambda runs: min(one(runs) for one in some)


def largest(*some: Statistic) -> Statistic:
    """Return the statistic: the largest of several statistics of the same seed."""
    return lambda runs: max(one(runs) for one in some)


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
