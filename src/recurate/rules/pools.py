r"""Rules that judge candidates individually, or a whole pool at once, instead of slates.

A verifier (:class:`Threshold`) keeps every candidate that passes. The candidates that it keeps from the law
p have the law p H, H(x) = a(x) / E_p a, where a(x) is the probability that x passes. A verifier that errs
rejects a share alpha of what should pass and accepts a share beta of what should not; without noise

.. math:: a(x) = 1 - \alpha \text{ if } r(x) \ge c, \text{ else } \beta.

Keeping the best share q of a large pool (:class:`TopFraction`) is the same with a threshold s* that depends
on the law:

.. math:: H(x) = (1 - F(s^* - u(x))) / q, \qquad E_p[1 - F(s^* - u)] = q, \qquad u = r / \tau,

This is the limit of keeping m = q K of K candidates as K tends to infinity. With Gumbel noise, it is sampling
without replacement from one softmax over the pool.

Both have the methods of :class:`recurate.rules.rule.Rule`: setup, weigh, multiplier, probabilities, draw and
log_likelihood. The last three take one pool of rewards (n,), not slates.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import BoolArray, FloatArray
from recurate.core.errors import InputError
from recurate.rules import best_of_k, quadrature
from recurate.rules.noise import NO_NOISE, REACH, Noise
from recurate.rules.rule import RANKS, check_lapse, check_noise, check_number, check_temperature
from recurate.rules.slates import Slates
from recurate.rules.utilities import scaled

TINY = 5e-324  # the smallest double


class NothingPasses(InputError):
    """A verifier rejects every candidate that has mass."""

    def __init__(self, rule: object) -> None:
        super().__init__(
            "no candidate can pass the threshold",
            got=f"level {getattr(rule, 'level', rule)}, above every reward with mass",
            remedy="lower the level, or add noise or a lapse share",
        )


@dataclass(frozen=True)
class Threshold:
    r"""A verifier: a candidate is good if reward + temperature * noise >= level, and good candidates pass.

    With error rates alpha (of good candidates) and beta (of bad ones) and the noise's 1 - F = S,

    .. math:: a(x) = (1 - \alpha)\, S(z) + \beta\,(1 - S(z)), \qquad z = (c - r(x)) / \tau,

    is the probability that x passes; what passes has the law p H with H = a / E_p a. Retraining on verified
    data: Feng et al. 2024, arXiv 2406.07515. Where beta = 1 - alpha, verdicts tell nothing and H = 1; where
    beta is larger still, bad candidates pass more often than good ones.

    Attributes:
        level: Level that must be reached, in the rewards' unit.
        temperature: Scale of the noise, positive, in the rewards' unit; without noise it has no effect.
        noise: Noise of the verdict; with :data:`~recurate.rules.noise.NO_NOISE` verdicts are deterministic.
        lapse: Share of verdicts, in [0, 1], that are tosses of a fair coin.
        false_rejection: alpha, the share of good candidates that are rejected, in [0, 1].
        false_acceptance: beta, the share of bad candidates that are accepted, in [0, 1].

    Raises:
        InputError: If a value is out of range, rewards are NaN or infinite, or no atom of a law can pass.

    >>> Threshold(1.0, false_rejection=0.2, false_acceptance=0.4).multiplier([0.0, 2.0], [0.5, 0.5])
    array([0.66666667, 1.33333333])
    """

    level: float
    temperature: float = 1.0
    noise: Noise = NO_NOISE
    lapse: float = 0.0
    false_rejection: float = 0.0
    false_acceptance: float = 0.0

    def __post_init__(self) -> None:
        what = "the level of a threshold must be a finite number"
        check_number(self.level, math.isfinite, what, "use the lowest reward that passes")
        check_temperature(self.temperature)
        check_noise(self.noise)
        check_lapse(self.lapse)
        for name in ("false_rejection", "false_acceptance"):
            what = f"the rate {name} must lie between 0 and 1"
            check_number(getattr(self, name), lambda rate: 0 <= rate <= 1, what, "0.1 is one verdict in ten")

    def facts(self) -> dict[str, Any]:
        """Return the rule as plain values, for tables and reports."""
        rates = {"false_rejection": self.false_rejection, "false_acceptance": self.false_acceptance}
        return {
            "level": self.level,
            "temperature": self.temperature,
            **({} if self.noise == NO_NOISE else {"noise": self.noise.name}),
            **({} if self.lapse == 0 else {"lapse": self.lapse}),
            **(rates if self.errs else {}),
        }

    @property
    def errs(self) -> bool:
        """Whether verdicts have error rates above zero."""
        return self.false_rejection > 0 or self.false_acceptance > 0

    @property
    def key(self) -> Hashable:
        """The part of the rule that a set-up depends on: all of it."""
        return self

    def setup(self, rewards: FloatArray) -> FloatArray:
        """Return log a, shape (N,), for one population's rewards (N,), the set-up of :meth:`weigh`."""
        return self._log_verdicts(_pool(rewards))[0]

    def weigh(self, setup: FloatArray, law: FloatArray) -> FloatArray:
        """Return H at every atom for a law (N,) or laws (N, B), as a new array of the law's shape.

        H is computed relative to the largest a with mass, so thresholds far above all rewards have their
        limit.

        Raises:
            InputError: If no atom with mass can pass.
        """
        if law.ndim == 2:
            return np.column_stack([self.weigh(setup, column) for column in law.T])
        top = setup[law > 0].max()
        if top == -np.inf:
            raise NothingPasses(self)
        # An atom without mass may lie far above all others: H is capped to prevent overflow.
        relative = np.exp(np.minimum(setup - top, best_of_k.HIGHEST))
        return np.asarray(relative / (relative[law > 0] @ law[law > 0]))

    def multiplier(self, rewards: ArrayLike, law: ArrayLike) -> FloatArray:
        """Return H, shape (N,): candidates from ``law`` (N,) that pass have the law ``law * H``."""
        return self.weigh(self.setup(np.asarray(rewards, float)), np.asarray(law, float))

    def probabilities(self, rewards: FloatArray) -> FloatArray:
        """Return the probability that each candidate passes, shape (n,), for rewards (n,)."""
        return np.exp(self._log_verdicts(_pool(rewards))[0])

    def draw(self, rewards: FloatArray, rng: np.random.Generator) -> BoolArray:
        """Draw the verdicts, shape (n,), True for candidates that pass, for rewards (n,)."""
        rewards = _pool(rewards)
        passes = rewards + self.temperature * self.noise.draw(rng, rewards.shape) >= self.level
        if self.errs:  # else nothing is drawn, so that verdicts without errors are as they were
            error = rng.random(rewards.shape)
            passes = np.where(passes, error >= self.false_rejection, error < self.false_acceptance)
        if self.lapse:
            lapsed, coin = rng.random((2, *rewards.shape))
            passes = np.where(lapsed < self.lapse, coin < 0.5, passes)
        return np.asarray(passes)

    def log_likelihood(self, rewards: FloatArray, passed: BoolArray) -> FloatArray:
        """Return the log probability of each verdict ``passed`` (n,), shape (n,); -inf if impossible."""
        rewards = _pool(rewards)
        return np.where(_mask(passed, rewards), *self._log_verdicts(rewards))

    def _log_verdicts(self, rewards: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the logs of the probabilities to pass and to fail, two arrays (n,)."""
        if self.noise == NO_NOISE:
            passes = rewards >= self.level
            accept, refuse = np.where(passes, 0.0, -np.inf), np.where(passes, -np.inf, 0.0)
        else:
            z = (self.level - rewards) / self.temperature
            with np.errstate(over="ignore"):
                accept, refuse = np.asarray(self.noise.log_sf(z)), np.asarray(self.noise.log_cdf(z))
        if self.errs:
            accept, refuse = self._erring(accept, refuse)
        if not self.lapse:
            return accept, refuse
        coin = math.log(self.lapse / 2)
        if self.lapse == 1:
            return np.full_like(accept, coin), np.full_like(accept, coin)
        judged = math.log1p(-self.lapse)
        return np.logaddexp(judged + accept, coin), np.logaddexp(judged + refuse, coin)

    def _erring(self, good: FloatArray, bad: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the logs of the probabilities to pass and to fail, from those of being good and bad."""
        with np.errstate(divide="ignore"):  # a rate of 0 or 1 has a log of -inf
            lost, let = np.log([self.false_rejection, self.false_acceptance])
            kept, caught = np.log1p([-self.false_rejection, -self.false_acceptance])
        return np.logaddexp(kept + good, let + bad), np.logaddexp(lost + good, caught + bad)


@dataclass(frozen=True)
class TopFraction:
    """The share of a pool with the largest reward / temperature + noise is kept.

    Attributes:
        fraction: Share that is kept, in (0, 1].
        temperature: Divisor of the rewards, positive, in their unit; without noise it has no effect.
        noise: Noise that is added to reward / temperature.

    Raises:
        InputError: If a value is out of range, or rewards are NaN or infinite.
    """

    fraction: float
    temperature: float = 1.0
    noise: Noise = NO_NOISE

    def __post_init__(self) -> None:
        what = "the fraction kept must lie in (0, 1]"
        check_number(self.fraction, lambda q: 0 < q <= 1, what, "0.1 keeps the best tenth")
        check_temperature(self.temperature)
        check_noise(self.noise)

    def facts(self) -> dict[str, Any]:
        """Return the rule as plain values, for tables and reports."""
        return {
            "fraction": self.fraction,
            "temperature": self.temperature,
            **({} if self.noise == NO_NOISE else {"noise": self.noise.name}),
        }

    @property
    def key(self) -> Hashable:
        """The part of the rule that a set-up depends on; rules with equal keys share set-ups."""
        return RANKS if self.noise == NO_NOISE else ("utilities", self.temperature)

    def setup(self, rewards: FloatArray) -> Any:
        """Return the set-up of :meth:`weigh` for one population's rewards (N,) and any law."""
        if self.noise == NO_NOISE:
            return best_of_k.Ranks(rewards)
        return scaled(_pool(rewards), self.temperature)

    def weigh(self, setup: Any, law: FloatArray) -> FloatArray:
        """Return H at every atom for a law (N,) or laws (N, B), a new array: 0 <= H <= 1 / fraction.

        Without noise, H is 1 / fraction above the cut and 0 below it; tied atoms at the cut share the rest.
        With noise, H is normalised, since rounding of the threshold changes the share.

        Raises:
            InputError: If no threshold keeps the fraction to within 1 %, because the noise's 1 - F or rewards
                of 1e15 temperatures have too few digits.
        """
        if law.ndim == 2:
            return np.column_stack([self.weigh(setup, column) for column in law.T])
        if self.fraction == 1:
            return np.ones(law.shape)
        if self.noise == NO_NOISE:
            return self._hard(setup, law)
        with np.errstate(over="ignore"):
            kept = np.asarray(self.noise.sf(self._cut(setup, law) - setup))
        total = float(kept @ law)
        if not abs(total / law.sum() - self.fraction) <= 0.01 * self.fraction:
            raise InputError(
                "no threshold in double precision keeps this fraction",
                got=f"fraction = {self.fraction:g}, nearest {total:g}, noise = {self.noise.name}",
                remedy="give the noise an sf accurate for large z, keep more, or raise the temperature",
            )
        return np.asarray(kept / total)

    def _hard(self, order: best_of_k.Ranks, law: FloatArray) -> FloatArray:
        mass, _, above = order.masses(law)
        room = self.fraction - above
        share = np.divide(room, mass, out=np.where(room > 0, 1.0, 0.0), where=mass > 0)
        return order.at_atoms(np.clip(share, 0.0, 1.0) / self.fraction)

    def _cut(self, utilities: FloatArray, law: FloatArray) -> float:
        """Return s* with E[1 - F(s* - u)] = fraction, E over the law."""
        from scipy.optimize import brentq

        alive = law > 0
        u, p = utilities[alive], law[alive] / law[alive].sum()

        def excess(s: float) -> float:
            # The smaller of the two shares has more digits. Logs are used since tails span hundreds of nats.
            if self.fraction <= 0.5:
                return math.log(max(float(self.noise.sf(s - u) @ p), TINY)) - math.log(self.fraction)
            return math.log(1 - self.fraction) - math.log(max(float(self.noise.cdf(s - u) @ p), TINY))

        low, high, reach = float(u.min()), float(u.max()), REACH
        with np.errstate(over="ignore"):
            # The cut of a fraction near 0 or 1 may lie beyond REACH; the loop ends once F or 1 - F is 0.
            while excess(high + reach) > 0 or excess(low - reach) < 0:
                reach *= 2
            return float(brentq(excess, low - reach, high + reach, xtol=1e-15, rtol=1e-15, maxiter=2000))

    def multiplier(self, rewards: ArrayLike, law: ArrayLike) -> FloatArray:
        """Return H, shape (N,): what is kept of a large pool from ``law`` (N,) has the law ``law * H``."""
        return self.weigh(self.setup(np.asarray(rewards, float)), np.asarray(law, float))

    def count(self, n: int) -> int:
        """Return the number of candidates kept of a pool of n: fraction * n rounded half up, at least one."""
        return min(n, max(1, math.floor(self.fraction * n + 0.5)))

    def probabilities(self, rewards: FloatArray) -> FloatArray:
        """Return the probability that each candidate of a finite pool is kept, shape (n,), for rewards (n,).

        The probabilities sum to :meth:`count`. With noise, the cost is of order n * count * sqrt(n).
        """
        utilities = self._slate(rewards)
        keep = self.count(utilities.size)
        if keep == utilities.size:
            return np.ones(keep)
        if self.noise == NO_NOISE:
            return best_of_k.best_chances(utilities[0], _one(utilities), keep)
        return quadrature.chances(self.noise, utilities, keep).ravel()

    def draw(self, rewards: FloatArray, rng: np.random.Generator) -> BoolArray:
        """Draw the candidates that are kept, a mask (n,) with :meth:`count` true values, for rewards (n,)."""
        utilities = self._slate(rewards)
        noisy = utilities + self.noise.draw(rng, utilities.shape)
        slots = best_of_k.best_slots(noisy, self.count(noisy.size), rng)
        kept = np.zeros(noisy.size, bool)
        kept[slots[0]] = True
        return kept

    def log_likelihood(self, rewards: FloatArray, kept: BoolArray) -> float:
        """Return the log probability that exactly the set ``kept`` (n,) is kept; -inf if impossible.

        Raises:
            InputError: If the number of candidates kept is not :meth:`count`.
        """
        utilities = self._slate(rewards)
        mask = _mask(kept, utilities[0])[None, :]
        count = self.count(mask.size)
        if mask.sum() != count:
            raise InputError(
                f"a share of {self.fraction:g} of {mask.size} candidates is {count} of them",
                got=f"{mask.sum()} kept",
                remedy="pass the pool and the kept set of one round, or fit the fraction first",
            )
        log_kept = (
            best_of_k.log_best_kept(utilities[0], _one(utilities), mask[0])
            if self.noise == NO_NOISE
            else quadrature.log_kept(self.noise, utilities, mask)
        )
        return float(log_kept[0])

    def _slate(self, rewards: ArrayLike) -> FloatArray:
        """Return reward / temperature of a pool (n,) as one slate (1, n)."""
        return scaled(_pool(rewards), 1.0 if self.noise == NO_NOISE else self.temperature)[None, :]


def _pool(rewards: ArrayLike) -> FloatArray:
    values = np.asarray(rewards, float)
    if values.ndim != 1 or values.size == 0 or not np.all(np.isfinite(values)):
        raise InputError(
            "the rewards of a pool must be one finite number per candidate",
            got=f"shape {values.shape}, {int((~np.isfinite(values)).sum())} not finite",
            remedy="pass an array of shape (n,) without NaN and infinities",
        )
    return values


def _one(pool: FloatArray) -> Slates:
    return Slates.of_size(pool.size, 1)


def _mask(mask: ArrayLike, rewards: FloatArray) -> BoolArray:
    found = np.asarray(mask)
    if found.dtype != bool or found.shape != rewards.shape:
        raise InputError(
            "what was kept must be one Boolean per candidate",
            got=f"shape {found.shape}, type {found.dtype}",
            remedy=f"pass a boolean array of shape {rewards.shape}",
        )
    return found
