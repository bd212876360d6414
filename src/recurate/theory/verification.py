r"""Loops that retrain on verified data: where the share of good candidates goes.

A candidate is good if it reaches the verifier's level. A verifier that rejects a share alpha of the good and
accepts a share beta of the bad candidates (:class:`~recurate.rules.pools.Threshold`) takes their share s to

.. math:: V(s) = \frac{A s}{A s + B (1 - s)}, \qquad A = 1 - \alpha, \quad B = \beta.

Retraining mixes in the share rho of real data, whose good share is sigma, and the model spoils the share
epsilon of the good that it was trained on:

.. math:: s' = T(s) = (1 - \epsilon)\,(\rho \sigma + (1 - \rho) V(s)).

T increases in s, so that s_t moves in one direction for ever, to the next fixed point: a root of

.. math:: (A - B) s^2 + [B - (1 - \epsilon)(\rho\sigma (A - B) + (1 - \rho) A)] s
    - (1 - \epsilon) \rho \sigma B = 0.

Hence the first round decides about all rounds, and the *breakdown point*, the largest beta at which the share
of good candidates rises, is where T(s_0) = s_0 (derived here and in ``docs/theory.md``):

- no errors of the model, and real data like the first model's (or none): beta < 1 - alpha, whatever rho;
- errors epsilon, no real data: beta < (1 - alpha)(1 - epsilon - s_0) / (1 - s_0). Good candidates stay at all
  iff beta < (1 - alpha)(1 - epsilon), and then at the share ((1 - epsilon) A - B) / (A - B).

Verified synthetic data, and a breakdown point in the verifier's quality: Feng et al. 2024, arXiv 2406.07515,
of one classifier's labels. A verifier with a centre of its own: Yi et al. 2025, arXiv 2510.16657.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from recurate.core.citations import cite
from recurate.core.errors import InputError
from recurate.rules.pools import NothingPasses
from recurate.rules.rule import check_number

STILL = 1e-12  # relative change of a share in a round that counts as none
DIGITS = 2.3e-16  # relative error of a double


@dataclass(frozen=True)
class VerifiedLoop:
    """The share of good candidates in a loop that retrains on what a verifier accepts.

    Attributes:
        false_rejection: alpha, the share of good candidates that the verifier rejects, in [0, 1].
        false_acceptance: beta, the share of bad candidates that it accepts, in [0, 1].
        real_fraction: rho, the share of real data in each retraining set, in [0, 1].
        real_share: sigma, the share of real data that is good, in [0, 1].
        error: epsilon, the share of the good that the model spoils, in [0, 1].

    Raises:
        InputError: a value is out of range.

    >>> loop = VerifiedLoop(0.1, 0.3, error=0.2)
    >>> round(loop.limit(0.5), 6), round(loop.breakdown(0.5), 6)
    (0.7, 0.54)
    """

    false_rejection: float = 0.0
    false_acceptance: float = 0.0
    real_fraction: float = 0.0
    real_share: float = 0.0
    error: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _check_share(name, value)

    def verified(self, share: float) -> float:
        """Return V(s), the share of the accepted candidates that is good.

        Raises:
            InputError: no candidate can be accepted, or the share is not in [0, 1].
        """
        _check_share("share", share)
        good = (1 - self.false_rejection) * share
        passing = good + self.false_acceptance * (1 - share)
        if passing == 0:
            raise NothingPasses(self)
        return good / passing

    def step(self, share: float) -> float:
        """Return T(s), the share of good candidates a round after s."""
        kept = self._real + (1 - self.real_fraction) * self.verified(share)
        return min((1 - self.error) * kept, 1.0)

    def limit(self, start: float) -> float:
        """Return the share that the loop ends at, from the share ``start``: the next fixed point of T.

        A share that changes by less than 1e-12 of itself, or of its distance from one, in a round stays.
        """
        cite("feng2024")
        after = self.step(start)
        if abs(after - start) <= STILL * min(start, 1 - start) + DIGITS * start:
            return start
        if after > start:
            return min((root for root in self._fixed_points() if root > start), default=after)
        return max((root for root in self._fixed_points() if root < start), default=after)

    def breakdown(self, start: float) -> float:
        """Return the false-acceptance rate below which the share of good candidates rises from ``start``.

        It is T(s_0) = s_0 solved for beta, without regard to this loop's own beta; above it, the share falls.
        ``math.inf`` if the share rises at any rate, 0 if it rises at none.

        Raises:
            InputError: ``start`` is not in (0, 1).
        """
        cite("feng2024")
        if not 0 < start < 1:
            raise InputError(
                "a breakdown point needs good and bad candidates to start from",
                got=f"start = {start:g}",
                remedy="give a share between 0 and 1",
            )
        if self.error == 1 or self.real_fraction == 1:
            rises = (1 - self.error) * self._real > start
            return math.inf if rises else 0.0
        needed = (start / (1 - self.error) - self._real) / (1 - self.real_fraction)  # V(s_0) = needed
        if needed <= 0:
            return math.inf
        odds = start * (1 - needed) / (needed * (1 - start))
        return max((1 - self.false_rejection) * odds, 0.0)

    @property
    def _real(self) -> float:
        """The good share of all retraining data that is real: rho sigma."""
        return self.real_fraction * self.real_share

    def _fixed_points(self) -> list[float]:
        """Return the roots of T(s) = s in [0, 1]; none if every share is one, or none is."""
        a, b = 1 - self.false_rejection, self.false_acceptance
        kept, real = 1 - self.error, self._real
        roots = _roots(a - b, b - kept * (real * (a - b) + (1 - self.real_fraction) * a), -kept * real * b)
        return [min(max(root, 0.0), 1.0) for root in roots if -STILL <= root <= 1 + STILL]


def towards_centre(
    mean: float, variance: float, centre: float, width: float, rounds: int
) -> tuple[float, float]:
    r"""Return mean and variance of a Gaussian model after rounds of verification around another centre.

    A verifier that accepts x with probability exp(-(x - c)^2 / (2 w^2)) takes N(m, v) in t rounds to

    .. math:: p_t \propto p_0 a^t = N\Big(\frac{m / v + t c / w^2}{1 / v + t / w^2},
        \frac{1}{1 / v + t / w^2}\Big),

    so that the distance from the verifier's centre falls like 1 / (1 + t v / w^2), wherever the real data
    are. Convergence to the verifier's centre: Yi et al. 2025, arXiv 2510.16657, for linear regression; this
    law is derived here.

    Args:
        mean: m.
        variance: v, positive.
        centre: c.
        width: w, positive.
        rounds: t, >= 0.

    Raises:
        InputError: a value is out of range.

    >>> towards_centre(0.0, 1.0, 3.0, 1.0, 2)
    (2.0, 0.3333333333333333)
    """
    cite("yi2025")
    positive: Callable[[float], bool] = lambda value: math.isfinite(value) and value > 0  # noqa: E731
    check_number(variance, positive, "the variance must be positive", "for example 1")
    check_number(width, positive, "the verifier's width must be positive", "for example 1")
    check_number(rounds, lambda t: t >= 0 and math.isfinite(t), "rounds must be >= 0", "for example 10")
    for name, value in (("mean", mean), ("centre", centre)):
        check_number(value, math.isfinite, f"the {name} must be a finite number", "for example 0")
    pull = rounds * variance / width**2
    return (mean + pull * centre) / (1 + pull), variance / (1 + pull)


def _check_share(name: str, value: float) -> None:
    check_number(value, lambda x: 0 <= x <= 1, f"{name} must lie between 0 and 1", "0.1 is one in ten")


def _roots(a: float, b: float, c: float) -> list[float]:
    """Return the real roots of a x^2 + b x + c, without cancellation; none if all three are zero."""
    if a == 0:
        return [] if b == 0 else [-c / b]
    spread = math.sqrt(max(b * b - 4 * a * c, 0.0))
    half = -(b + math.copysign(spread, b)) / 2
    return [half / a, c / half] if half else [0.0]
