"""The settings and tests of the six kinds of alarms; see :mod:`recurate.loop.alarms.raising`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.special import betainc, ndtri

from recurate.log.trajectory import FORECAST, Row
from recurate.loop.alarms.history import Seen, error_of
from recurate.loop.alarms.protocol import AlarmSettings, Finding, Known, check_name
from recurate.metrics.partition import MAX_DEPTH
from recurate.theory.bands import CARRIERS, LEVEL, from_scale, to_scale

CELLS = 2**MAX_DEPTH  # largest number of cells behind a divergence
ROUNDED = 1e-20  # relative variance that rounding errors may leave
UNSEEN = 0.31  # largest bias of a cell's share of a divergence, times the number of candidates


def _critical(level: float) -> float:
    return -float(ndtri(level))


class _Levelled(AlarmSettings):
    level: float = Field(
        0.01, gt=0, le=0.5, description="probability of ever being raised in a run if nothing is wrong"
    )

    def spent(self, t: int, tests: int) -> float:
        """Return the level of each test of round t."""
        return self.level / (t * (t + 1) * max(tests, 1))


class DivergenceAlarm(_Levelled):
    """The divergence from the reference is certainly above a limit.

    Hypothesis: KL <= limit. Rejected if (KL_hat - CELLS UNSEEN / n - limit) / se > z. Near zero KL_hat is
    skewed to the right, but se grows with it (about as its root), which makes the test conservative there. In
    a cell of the partition that expects l of the n candidates, few, KL_hat is too large even after its bias
    correction: by (E X log X - l log l - P(X > 0) / 2) / n, X ~ Poisson(l), at most UNSEEN / n for every l.
    """

    kind: Literal["divergence"] = "divergence"
    limit: float = Field(gt=0, description="largest divergence that is accepted, in nats")

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test the divergence."""
        row, n = seen.at(t, "kl_to_reference"), seen.count(t)
        se = None if row is None else error_of(row)
        if row is None or se is None or n is None:
            return []
        if row.value - CELLS * UNSEEN / n - self.limit <= _critical(self.spent(t, 1)) * se:
            return []
        words = f"kl_to_reference is {row.value:.3g} nats, above the limit of {self.limit:.3g}"
        return [Finding(row, self.limit, words)]


class VarianceAlarm(_Levelled):
    r"""Too little is left of round 0's variance v_0 of exp(reward / temperature).

    Hypothesis: v_t >= floor v_0. Rejected if log(v_t / (floor v_0)) / s < -z, with the relative errors
    c = se / v of both in s^2 = b (1 / n_t + 1 / n_0), b = max(n_t c_t^2, n_0 c_0^2): a sample that misses a
    heavy tail understates its variance together with the error of it, so the larger shape is used for both
    rounds. There is no test if fewer than 50 candidates carry a variance (n < 50 b), because then its error
    cannot be estimated either. The variance 0 of equal candidates has round 0's shape.
    """

    kind: Literal["variance"] = "variance"
    floor: float = Field(gt=0, lt=1, description="smallest share of round 0's variance that is accepted")
    reward: str | None = Field(None, description="the reward to check; every reward if absent")

    def check(self, known: Known) -> None:
        """Refuse a reward that the run does not have."""
        if self.reward is not None:
            check_name(self.kind, "reward", self.reward, known.rewards)

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test each reward."""
        starts = [row for row in seen.first("var_exp_reward") if self.reward in (None, row.reward)]
        z = _critical(self.spent(t, len(starts)))
        found = []
        for start in starts:
            row = seen.at(t, "var_exp_reward", start.reward)
            error = None if row is None else self._error(seen, start, row)
            limit = self.floor * start.value
            if row is None or error is None or row.value >= limit * math.exp(-z * error):
                continue
            words = (
                f"the variance of exp({start.reward}) is {row.value / start.value:.3g} of round 0's, "
                f"below the floor of {self.floor:.3g}"
            )
            found.append(Finding(row, limit, words))
        return found

    @staticmethod
    def _error(seen: Seen, start: Row, row: Row) -> float | None:
        """Return the standard error of the ratio's logarithm, or None if it cannot be estimated."""
        counts = seen.count(start.round), seen.count(row.round)
        first = error_of(start)
        now = 0.0 if row.value <= ROUNDED * start.value else error_of(row)
        if counts[0] is None or counts[1] is None or first is None or now is None or start.value <= 0:
            return None
        shape = counts[0] * (first / start.value) ** 2
        if now > 0:
            shape = max(shape, counts[1] * (now / row.value) ** 2)
        carriers = min(counts[0], counts[1]) / shape
        return math.sqrt(shape * (1 / counts[0] + 1 / counts[1])) if carriers >= CARRIERS else None


class ShareAlarm(_Levelled):
    r"""A group's share is certainly below a floor.

    Hypothesis: share >= floor. With x of n candidates in the group, rejected if P(Bin(n, floor) <= x) is at
    most the level: Clopper and Pearson's bound, exact, also for x = 0. Where candidates of one context depend
    on each other (the interval is wider than the binomial), n is divided by the design effect, and the
    binomial tail is the incomplete beta function I_{1 - floor}(n - x, x + 1) (Korn and Graubard).
    """

    kind: Literal["share"] = "share"
    floor: float = Field(gt=0, lt=1, description="smallest share that is accepted")
    group: str | None = Field(None, description="the group to check; every group of round 0 if absent")

    def check(self, known: Known) -> None:
        """Refuse a group that the run does not have."""
        check_name(self.kind, "group", self.group, known.groups)

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test each group."""
        groups = [self.group]
        if self.group is None:
            groups = [row.group for row in seen.first("share") if row.value > 0]
        found = []
        for group in groups:
            row, n = seen.at(t, "share", None, group), seen.size(t, group)
            if row is None or n is None or row.value >= self.floor:
                continue
            x = row.value * n if n != round(n) else round(row.value * n)
            if float(betainc(n - x, x + 1, 1 - self.floor)) <= self.spent(t, len(groups)):
                words = f"group {group!r} has a share of {row.value:.3g}, below the floor of {self.floor:.3g}"
                found.append(Finding(row, self.floor, words))
        return found


class FrechetAlarm(_Levelled):
    """The Frechet distance is certainly above a multiple of round 0's.

    Hypothesis: F_t <= factor F_0. Rejected if (F_t - factor F_0) / sqrt(se_t^2 + factor^2 se_0^2) > z. A
    Frechet distance of n samples is biased upwards, by about b / n with the same b in rounds that are alike:
    with the same n in all of them, and factor >= 1, the difference by (1 - factor) b / n, never upwards.
    """

    kind: Literal["frechet"] = "frechet"
    factor: float = Field(ge=1, description="largest multiple of round 0's distance that is accepted")
    space: str | None = Field(None, description="the feature space to check; every space if absent")

    def check(self, known: Known) -> None:
        """Refuse a feature space that the run does not have."""
        check_name(self.kind, "space", self.space, known.spaces)

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test each space."""
        spaces = sorted(key[0] for key in seen.measured if key[0].startswith("frechet:"))
        if self.space is not None:
            spaces = [f"frechet:{self.space}"]
        z = _critical(self.spent(t, len(spaces)))
        found = []
        for quantity in spaces:
            start, row = seen.at(0, quantity), seen.at(t, quantity)
            if start is not None and row is not None and _difference(row, start, self.factor) > z:
                limit = self.factor * start.value
                words = (
                    f"the Frechet distance in {quantity.removeprefix('frechet:')} is {row.value:.3g}, above "
                    f"{self.factor:.3g} times round 0's {start.value:.3g}"
                )
                found.append(Finding(row, limit, words))
        return found


class GoldAlarm(_Levelled):
    """The proxy's mean has certainly risen since an earlier round while the gold standard's has fallen.

    For each pair s < t the hypothesis is that the proxy has not risen or that gold has not fallen. It is
    rejected if both differences are beyond z standard errors (the roots of the sums of both rounds' squares):
    each part of such a hypothesis may be tested at the whole level, because one part is true. Round t splits
    its level over its t pairs.
    """

    kind: Literal["gold"] = "gold"
    proxy: str = Field(description="the reward by which candidates are picked")
    gold: str = Field(description="the tracked column that should rise with it")

    def check(self, known: Known) -> None:
        """Refuse columns that the run does not have."""
        check_name(self.kind, "proxy", self.proxy, known.rewards)
        check_name(self.kind, "gold", self.gold, known.tracked)

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test all earlier rounds; report the one since which gold has fallen most certainly."""
        now = seen.at(t, "mean_reward", self.proxy), seen.at(t, f"mean:{self.gold}")
        z = _critical(self.spent(t, t))
        best: tuple[float, Finding] | None = None
        for s in range(t):
            then = seen.at(s, "mean_reward", self.proxy), seen.at(s, f"mean:{self.gold}")
            rise, fall = _difference(now[0], then[0]), _difference(then[1], now[1])
            if min(rise, fall) > z and (best is None or fall > best[0]):
                best = fall, self._finding(now, then)  # type: ignore[arg-type]
        return [best[1]] if best else []

    def _finding(self, now: tuple[Row, Row], then: tuple[Row, Row]) -> Finding:
        words = (
            f"{self.gold} has fallen from {then[1].value:.3g} in round {then[1].round} to {now[1].value:.3g} "
            f"while {self.proxy} has risen from {then[0].value:.3g} to {now[0].value:.3g}"
        )
        return Finding(replace(now[1], reward=self.proxy), then[1].value, words)


def _difference(high: Row | None, low: Row | None, factor: float = 1.0) -> float:
    """Return (high - factor low) in its standard errors, or -inf where it has none."""
    errors = [None if row is None else error_of(row) for row in (high, low)]
    if high is None or low is None or errors[0] is None or errors[1] is None:
        return -math.inf
    return (high.value - factor * low.value) / math.hypot(errors[0], factor * errors[1])


class BandAlarm(AlarmSettings):
    """A measured value is outside the forecast's simultaneous band.

    The forecast's bands contain the model's law in all rounds and quantities together with 95 % probability,
    but not the error of a measurement from finitely many candidates. On the scale on which a band is
    symmetric (:func:`recurate.theory.bands.to_scale`) it is therefore widened by z standard errors of the
    measured value, z being Bonferroni's at 5 % for all values that have bands: |D| <= h and |e| <= z se imply
    |D + e| <= h + z se. That is more than the sum needs (normal errors of all correlations leave it with 3 %
    at most once se is a quarter of D's), where a root of the sum of squares would be too little for
    correlated D. The level is that of a run with the forecast's rounds.
    """

    kind: Literal["band"] = "band"
    level: ClassVar[float] = round(1 - LEVEL, 12)

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test all values with a band."""
        banded = [
            row
            for (source, s, key), row in seen.rows.items()
            if source == FORECAST and s > 0 and row.lower is not None and key in seen.measured
        ]
        z = _critical(self.level / (2 * max(len(banded), 1)))
        found = []
        for forecast in banded:
            row = seen.at(t, *forecast.key) if forecast.round == t else None
            edges = None if row is None else _widened(seen, forecast, row, z)
            if row is None or edges is None or edges[0] <= row.value <= edges[1]:
                continue
            limit = edges[0] if row.value < edges[0] else edges[1]
            words = (
                f"{_called(row)} is {row.value:.3g}, outside the forecast's band "
                f"{edges[0]:.3g} to {edges[1]:.3g} around {forecast.value:.3g}"
            )
            found.append(Finding(row, limit, words))
        return found


def _widened(seen: Seen, forecast: Row, row: Row, z: float) -> tuple[float, float] | None:
    """Return a band widened by z standard errors of what was measured, or None where that has none."""
    groups = max(sum(key[0] == "share" for key in seen.measured), 1)

    def scaled(value: float) -> float:
        return float(to_scale(row.key, np.array(value), groups))

    se = error_of(row)
    if row.quantity == "share":
        size = seen.size(row.round, row.group)
        error = None if size is None else 0.5 / math.sqrt(size)
    else:
        middle = scaled(row.value)
        error = None if se is None else max(abs(scaled(row.value + side * se) - middle) for side in (-1, 1))
    if error is None or forecast.lower is None or forecast.upper is None:
        return None
    low, high = scaled(forecast.lower) - z * error, scaled(forecast.upper) + z * error
    edges = from_scale(row.key, np.array([low, high]), groups)
    return float(edges[0]), float(edges[1])


def _called(row: Row) -> str:
    about = row.reward or row.group
    return row.quantity if about is None else f"{row.quantity} of {about!r}"
