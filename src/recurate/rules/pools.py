r"""Rules that judge candidates one by one, or a whole pool at once, instead of slate by slate.

A verifier (:class:`Threshold`) keeps every candidate that passes: what is kept from the law p has the law
p H with H(x) = a(x) / E_p a, a the probability of passing. Keeping the best share q of a large pool
(:class:`TopFraction`) is the same with a threshold s* that moves with the law:

.. math:: H(x) = (1 - F(s^* - u(x))) / q, \qquad E_p[1 - F(s^* - u)] = q, \qquad u = r / \tau,

the limit of keeping m of K for m = q K and K to infinity. With Gumbel noise that is one softmax over the
pool, drawn from without replacement.

Both have what a :class:`recurate.rules.rule.Rule` has: key, setup, weigh, multiplier, draw and
log_likelihood; draw and log_likelihood take one pool of rewards (n,), not slates.
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
    """A verifier refuses everything that the law has."""

    def __init__(self, rule: object) -> None:
        super().__init__(
            "no candidate can pass the threshold",
            got=f"{rule}, above every reward that has mass",
            remedy="lower the level, or add noise or a lapse share",
        )


@dataclass(frozen=True)
class Threshold:
    """A verifier: a candidate passes if reward + temperature * noise >= level.

    Attributes:
        level: what must be reached, in the rewards' unit.
        temperature: scale of the noise, in the rewards' unit; > 0. Without noise it changes nothing.
        noise: of the verdict. With :data:`~recurate.rules.noise.NO_NOISE` a candidate passes or fails.
        lapse: share of verdicts, in [0, 1], that are a fair coin.

    Raises:
        InputError: a value is out of range; rewards are nan or inf; nothing of a law can pass.
    """

    level: float
    temperature: float = 1.0
    noise: Noise = NO_NOISE
    lapse: float = 0.0

    def __post_init__(self) -> None:
        what = "the level of a threshold must be a finite number"
        check_number(self.level, math.isfinite, what, "use the lowest reward that passes")
        check_temperature(self.temperature)
        check_noise(self.noise)
        check_lapse(self.lapse)

    def facts(self) -> dict[str, Any]:
        """Return the rule as plain values, for tables and reports."""
        return {
            "level": self.level,
            "temperature": self.temperature,
            **({} if self.noise == NO_NOISE else {"noise": self.noise.name}),
            **({} if self.lapse == 0 else {"lapse": self.lapse}),
        }

    @property
    def key(self) -> Hashable:
        """What a set-up depends on: all of the rule."""
        return self

    def setup(self, rewards: FloatArray) -> FloatArray:
        """Return log a (N,) for one population's rewards (N,), for :meth:`weigh`."""
        return self._log_verdicts(_pool(rewards))[0]

    def weigh(self, setup: FloatArray, law: FloatArray) -> FloatArray:
        """Return H at every atom for the law (N,) or laws (N, B), as a new array.

        Relative to the largest a that has mass, so that thresholds far above all rewards have their limit.

        Raises:
            InputError: no atom with mass can pass.
        """
        if law.ndim == 2:
            return np.column_stack([self.weigh(setup, column) for column in law.T])
        top = setup[law > 0].max()
        if top == -np.inf:
            raise NothingPasses(self)
        # An atom without mass may lie far above all others: cap instead of overflowing.
        relative = np.exp(np.minimum(setup - top, best_of_k.HIGHEST))
        return np.asarray(relative / (relative[law > 0] @ law[law > 0]))

    def multiplier(self, rewards: ArrayLike, law: ArrayLike) -> FloatArray:
        """Return H (N,) such that what passes from ``law`` (N,) has the law ``law * H``."""
        return self.weigh(self.setup(np.asarray(rewards, float)), np.asarray(law, float))

    def probabilities(self, rewards: FloatArray) -> FloatArray:
        """Return a, the probability that each candidate passes, (n,)."""
        return np.exp(self._log_verdicts(_pool(rewards))[0])

    def draw(self, rewards: FloatArray, rng: np.random.Generator) -> BoolArray:
        """Return which candidates pass, (n,), for rewards (n,)."""
        rewards = _pool(rewards)
        passes = rewards + self.temperature * self.noise.draw(rng, rewards.shape) >= self.level
        if self.lapse:
            lapsed, coin = rng.random((2, *rewards.shape))
            passes = np.where(lapsed < self.lapse, coin < 0.5, passes)
        return np.asarray(passes)

    def log_likelihood(self, rewards: FloatArray, passed: BoolArray) -> FloatArray:
        """Return the log probability of each verdict, (n,); -inf for the impossible without lapse."""
        rewards = _pool(rewards)
        return np.where(_mask(passed, rewards), *self._log_verdicts(rewards))

    def _log_verdicts(self, rewards: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the logs of the probabilities to pass and to fail, (n,) each."""
        if self.noise == NO_NOISE:
            passes = rewards >= self.level
            accept, refuse = np.where(passes, 0.0, -np.inf), np.where(passes, -np.inf, 0.0)
        else:
            z = (self.level - rewards) / self.temperature
            with np.errstate(over="ignore"):
                accept, refuse = np.asarray(self.noise.log_sf(z)), np.asarray(self.noise.log_cdf(z))
        if not self.lapse:
            return accept, refuse
        coin = math.log(self.lapse / 2)
        if self.lapse == 1:
            return np.full_like(accept, coin), np.full_like(accept, coin)
        judged = math.log1p(-self.lapse)
        return np.logaddexp(judged + accept, coin), np.logaddexp(judged + refuse, coin)


@dataclass(frozen=True)
class TopFraction:
    """Keep the best share of a pool by reward / temperature + noise.

    Attributes:
        fraction: the share kept, in (0, 1].
        temperature: divides the rewards; > 0, in the rewards' unit. Without noise it changes nothing.
        noise: what is added to reward / temperature.

    Raises:
        InputError: a value is out of range; rewards are nan or inf.
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
        """What a set-up depends on: rules with equal keys share set-ups."""
        return RANKS if self.noise == NO_NOISE else ("utilities", self.temperature)

    def setup(self, rewards: FloatArray) -> Any:
        """Prepare one population's rewards (N,) for :meth:`weigh` at any law."""
        if self.noise == NO_NOISE:
            return best_of_k.Ranks(rewards)
        return scaled(_pool(rewards), self.temperature)

    def weigh(self, setup: Any, law: FloatArray) -> FloatArray:
        """Return H at every atom for the law (N,) or laws (N, B), as a new array: 0 <= H <= 1 / fraction.

        Without noise: 1 / fraction above the cut, 0 below; the tied atoms at the cut share what is left.
        With noise, H is normalised where rounding of the threshold moves the share.

        Raises:
            InputError: no threshold keeps the fraction to 1 %, as the noise's 1 - F, or rewards of 1e15
                temperatures, have too few digits.
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
            # From the smaller side: a share kept near one leaves few digits in 1 - F. In logs, as tails
            # span hundreds of nats.
            if self.fraction <= 0.5:
                return math.log(max(float(self.noise.sf(s - u) @ p), TINY)) - math.log(self.fraction)
            return math.log(1 - self.fraction) - math.log(max(float(self.noise.cdf(s - u) @ p), TINY))

        low, high, reach = float(u.min()), float(u.max()), REACH
        with np.errstate(over="ignore"):
            # Fractions next to 0 or 1 lie further out than REACH. F and 1 - F underflow, which ends this.
            while excess(high + reach) > 0 or excess(low - reach) < 0:
                reach *= 2
            return float(brentq(excess, low - reach, high + reach, xtol=1e-15, rtol=1e-15, maxiter=2000))

    def multiplier(self, rewards: ArrayLike, law: ArrayLike) -> FloatArray:
        """Return H (N,) such that what is kept of a large pool from ``law`` (N,) has the law ``law * H``."""
        return self.weigh(self.setup(np.asarray(rewards, float)), np.asarray(law, float))

    def count(self, n: int) -> int:
        """Return how many of a pool of n are kept: fraction * n rounded half up, at least one."""
        return min(n, max(1, math.floor(self.fraction * n + 0.5)))

    def probabilities(self, rewards: FloatArray) -> FloatArray:
        """Return the probability that each candidate of a finite pool is kept, (n,); they sum to the count.

        With noise the cost grows like n * count * sqrt(n).
        """
        utilities = self._slate(rewards)
        keep = self.count(utilities.size)
        if keep == utilities.size:
            return np.ones(keep)
        if self.noise == NO_NOISE:
            return best_of_k.best_chances(utilities[0], _one(utilities), keep)
        return quadrature.chances(self.noise, utilities, keep).ravel()

    def draw(self, rewards: FloatArray, rng: np.random.Generator) -> BoolArray:
        """Return which candidates of the pool are kept, (n,): the best :meth:`count` of them."""
        utilities = self._slate(rewards)
        noisy = utilities + self.noise.draw(rng, utilities.shape)
        slots = best_of_k.best_slots(noisy, self.count(noisy.size), rng)
        kept = np.zeros(noisy.size, bool)
        kept[slots[0]] = True
        return kept

    def log_likelihood(self, rewards: FloatArray, kept: BoolArray) -> float:
        """Return the log probability that exactly this set of the pool (n,) is kept; -inf if impossible.

        Raises:
            InputError: not :meth:`count` candidates are kept.
        """
        utilities = self._slate(rewards)
        mask = _mask(kept, utilities[0])[None, :]
        count = self.count(mask.size)
        if mask.sum() != count:
            raise InputError(
                f"a share of {self.fraction:g} of {mask.size} candidates is {count} of them",
                got=f"{mask.sum()} kept",
                remedy="pass the pool and the kept set of one round; or fit the fraction to them first",
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
            "the rewards of a pool must be one finite number for every candidate",
            got=f"shape {values.shape}, {int((~np.isfinite(values)).sum())} not finite",
            remedy="pass an array of shape (n,) without nan and inf",
        )
    return values


def _one(pool: FloatArray) -> Slates:
    return Slates.of_size(pool.size, 1)


def _mask(mask: ArrayLike, rewards: FloatArray) -> BoolArray:
    found = np.asarray(mask)
    if found.dtype != bool or found.shape != rewards.shape:
        raise InputError(
            "what was kept must be told by True and False for every candidate",
            got=f"shape {found.shape}, type {found.dtype}",
            remedy=f"pass a boolean array of shape {rewards.shape}",
        )
    return found
