"""The settings and tests of the seven built-in kinds of alarm; see :mod:`recurate.loop.alarms.raising`."""

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
        """Return the level of each of ``tests`` tests in round t >= 1; all levels sum to ``level``."""
        return self.level / (t * (t + 1) * max(tests, 1))


class _OfReward(_Levelled):
    reward: str | None = Field(None, description="the reward to check; every reward if absent")

    def check(self, known: Known) -> None:
        """Check that the run has the reward.

        Raises:
            InputError: If the run has no reward of this name.
        """
        if self.reward is not None:
            check_name(self.kind, "reward", self.reward, known.rewards)


class DivergenceAlarm(_Levelled):
    """The divergence from the reference is significantly above a limit.

    The hypothesis KL <= limit is rejected if (KL_hat - CELLS UNSEEN / n - limit) / se > z. Near zero, KL_hat
    is skewed to the right, but se grows about as the root of KL_hat, so the test is conservative there. In a
    cell of the partition with a small expected number l of the n candidates, KL_hat is biased upwards even
    after its bias correction: by (E X log X - l log l - P(X > 0) / 2) / n with X ~ Poisson(l), which is at
    most UNSEEN / n for every l.
    """

    kind: Literal["divergence"] = "divergence"
    limit: float = Field(gt=0, description="largest divergence that is accepted, in nats")

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test the divergence of round t; return at most one finding."""
        row, n = seen.at(t, "kl_to_reference"), seen.count(t)
        se = None if row is None else error_of(row)
        if row is None or se is None or n is None:
            return []
        if row.value - CELLS * UNSEEN / n - self.limit <= _critical(self.spent(t, 1)) * se:
            return []
        words = f"kl_to_reference is {row.value:.3g} nats, above the limit of {self.limit:.3g}"
        return [Finding(row, self.limit, words)]


class VarianceAlarm(_OfReward):
    r"""The variance of exp(reward / temperature) is significantly below a fraction of round 0's variance v_0.

    The hypothesis v_t >= floor v_0 is rejected if log(v_t / (floor v_0)) / s < -z. Here
    s^2 = b (1 / n_t + 1 / n_0) and b = max(n_t c_t^2, n_0 c_0^2), with the relative errors c = se / v of the
    two rounds. A sample that misses a heavy tail understates both its variance and the error of that
    variance, so the larger shape b is used for both rounds. There is no test if fewer than 50 candidates
    carry a variance (n < 50 b), because its error cannot be estimated then. A variance of 0, from equal
    candidates, has round 0's shape.
    """

    kind: Literal["variance"] = "variance"
    floor: float = Field(gt=0, lt=1, description="smallest share of round 0's variance that is accepted")

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test each reward in round t; return one finding per rejection."""
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
        """Return the standard error of log(v_t / v_0), or None if it cannot be estimated."""
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
    r"""A group's share is significantly below a floor.

    With x of n candidates in the group, the hypothesis share >= floor is rejected if P(Bin(n, floor) <= x)
    is at most the level. This is Clopper and Pearson's exact bound, which also holds for x = 0. If candidates
    of one context are dependent (the interval is wider than the binomial one), n is divided by the design
    effect, and the binomial tail is the incomplete beta function I_{1 - floor}(n - x, x + 1) (Korn and
    Graubard).
    """

    kind: Literal["share"] = "share"
    floor: float = Field(gt=0, lt=1, description="smallest share that is accepted")
    group: str | None = Field(None, description="the group to check; every group of round 0 if absent")

    def check(self, known: Known) -> None:
        """Check that the run has the group.

        Raises:
            InputError: If the run has no group of this name.
        """
        check_name(self.kind, "group", self.group, known.groups)

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test each group in round t; return one finding per rejection."""
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
    """The Frechet distance is significantly above a multiple of round 0's distance.

    The hypothesis F_t <= factor F_0 is rejected if (F_t - factor F_0) / sqrt(se_t^2 + factor^2 se_0^2) > z.
    The Frechet distance of n samples is biased upwards by about b / n, with the same b in rounds whose
    distributions are similar. With the same n in both rounds and factor >= 1, the difference is therefore
    biased by (1 - factor) b / n, which is never positive.
    """

    kind: Literal["frechet"] = "frechet"
    factor: float = Field(ge=1, description="largest multiple of round 0's distance that is accepted")
    space: str | None = Field(None, description="the feature space to check; every space if absent")

    def check(self, known: Known) -> None:
        """Check that the run measures in the feature space.

        Raises:
            InputError: If the run has no feature space of this name.
        """
        check_name(self.kind, "space", self.space, known.spaces)

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test each feature space in round t; return one finding per rejection."""
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
    """The proxy's mean has risen significantly since an earlier round, and the gold reward's has fallen.

    For each pair s < t, the hypothesis is that the proxy has not risen or that gold has not fallen. It is
    rejected if both differences exceed z standard errors, each the root of the sum of the two rounds' squared
    errors. Each part of the hypothesis may be tested at the whole level, because at least one part is true
    under the hypothesis. The level of round t is split over its t pairs.
    """

    kind: Literal["gold"] = "gold"
    proxy: str = Field(description="the reward by which candidates are picked")
    gold: str = Field(description="the tracked column that should rise with it")

    def check(self, known: Known) -> None:
        """Check that the run has both columns.

        Raises:
            InputError: If the run has no reward ``proxy`` or no tracked column ``gold``.
        """
        check_name(self.kind, "proxy", self.proxy, known.rewards)
        check_name(self.kind, "gold", self.gold, known.tracked)

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test round t against all earlier rounds; return the rejection with the most significant fall."""
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
    """Return (high - factor low) in units of its standard error, or -inf if it has none."""
    errors = [None if row is None else error_of(row) for row in (high, low)]
    if high is None or low is None or errors[0] is None or errors[1] is None:
        return -math.inf
    return (high.value - factor * low.value) / math.hypot(errors[0], factor * errors[1])


class TransmissionAlarm(_OfReward):
    r"""Retraining passed on significantly less than a part of what was selected.

    The picks asked for the change A (selection and sampling) of a mean reward, and retraining added T. The
    hypothesis T + A >= floor A is rejected if (T + (1 - floor) A) / se < -z for A > 0 (mirrored for A < 0),
    with the standard error se of the new round's mean; the picks are known.
    """

    kind: Literal["transmission"] = "transmission"
    floor: float = Field(gt=0, le=1, description="smallest part of a selection that is to be passed on")

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test each reward in round t; return one finding per rejection."""
        keys = {key[1] for key in seen.measured if key[0] == "transmission" and key[1] is not None}
        names = sorted(name for name in keys if self.reward in (None, name))
        z = _critical(self.spent(t, len(names)))
        found = []
        for name in names:
            rows = [seen.at(t, part, name) for part in ("selection", "sampling", "transmission")]
            if rows[0] is None or rows[1] is None or rows[2] is None:
                continue
            se, asked = error_of(rows[2]), rows[0].value + rows[1].value
            if se is None or asked == 0:
                continue
            sign = math.copysign(1.0, asked)
            if sign * (rows[2].value + (1 - self.floor) * asked) < -z * se:
                limit = -(1 - self.floor) * asked
                words = (
                    f"retraining passed on {1 + rows[2].value / asked:.0%} of what was selected by {name!r}, "
                    f"below {self.floor:.0%}"
                )
                found.append(Finding(rows[2], limit, words))
        return found


class BandAlarm(AlarmSettings):
    """A measured value is outside the forecast's simultaneous band.

    The bands contain the model's distribution in all rounds and quantities simultaneously with 95 %
    probability, but they do not include the error of a measurement from finitely many candidates. Each band
    is therefore widened by z standard errors of the measured value, on the scale on which the band is
    symmetric (:func:`recurate.theory.bands.to_scale`). Here z is the Bonferroni quantile at 5 % for all
    values that have bands: |D| <= h and |e| <= z se imply |D + e| <= h + z se. This is conservative: normal
    errors of any correlation leave the widened band with at most 3 % probability once se is a quarter of the
    standard error of D. The root of the sum of squares would be too small for correlated D. The level holds
    for a run of as many rounds as the forecast has.
    """

    kind: Literal["band"] = "band"
    level: ClassVar[float] = round(1 - LEVEL, 12)

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Test all values of round t that have a band; return one finding per value outside its band."""
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
    """Return a band widened by z standard errors of the measured value, or None if it has none."""
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
