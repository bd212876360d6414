"""The quantities of a law, or a sample, of candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.log.candidates import Candidates, group_codes
from recurate.log.trajectory import MEASURED, Row
from recurate.metrics import estimates
from recurate.metrics.estimates import Clusters, Estimate, Strata

# Beyond this, the fourth power of exp(reward / temperature) is not a double; the variance's error needs it.
LARGEST_EXPONENT = 170.0


@dataclass(frozen=True)
class Values:
    """The quantities of one round.

    Attributes:
        moments: for each reward ``mean_reward``, ``mean_exp_reward`` and ``var_exp_reward``, as far as known.
        support: effective support.
        kl: divergence of the reward laws from the reference, or None.
        shares: of each group, or None without groups.
        entropy: of the shares, or None.
        tracked: expectations of further columns.
    """

    moments: Sequence[Mapping[str, Estimate]]
    support: float
    kl: Estimate | None = None
    shares: Sequence[Estimate] | None = None
    entropy: Estimate | None = None
    tracked: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Describer:
    """Turns a law on fixed candidates, or the candidates as a sample, into trajectory rows.

    Attributes:
        candidates: the candidates that are described.
        temperature: exp_reward is exp(reward / temperature).
        group_names: the groups to report, in order.
        reward_scale: largest reward / temperature seen anywhere in this comparison, per reward;
            ``mean_exp_reward`` is left out beyond ``LARGEST_EXPONENT``.
        stratified: whether all samples have the same contexts, not drawn by chance.
    """

    candidates: Candidates
    temperature: float
    group_names: tuple[str, ...] = ()
    reward_scale: tuple[float, ...] = ()
    stratified: bool = False

    def values(self, law: FloatArray | None = None, kl: Estimate | None = None) -> Values:
        """Return the quantities of a law (masses (n,)), or of the candidates as a sample if None."""
        clusters = self._clusters if law is None else None
        shares = entropy = None
        if self.codes is not None:
            groups = len(self.group_names)
            shares = estimates.shares(self.codes, groups, law, clusters)
            entropy = estimates.entropy(self.codes, groups, law, clusters)
        return Values(
            [self._of_reward(i, law, clusters) for i in range(len(self.candidates.names))],
            len(self.candidates) if law is None else estimates.effective_support(law),
            kl,
            shares,
            entropy,
            {name: estimates.mean(v, law, clusters) for name, v in self.candidates.tracked.items()},
        )

    def rows(self, round: int, source: str, values: Values) -> list[Row]:  # noqa: A002
        """Return the rows of one round; ``source`` is ``forecast`` or ``measured``."""
        found: list[tuple[str, str | None, str | None, Estimate, tuple[float, float]]] = []
        infinite = (-np.inf, np.inf)
        for name, moments in zip(self.candidates.names, values.moments, strict=True):
            for quantity, estimate in moments.items():
                low = -np.inf if quantity == "mean_reward" else 0.0
                found.append((quantity, name, None, estimate, (low, np.inf)))
        if values.kl is not None:
            found.append(("kl_to_reference", None, None, values.kl, (0.0, np.inf)))
        if values.shares is not None and values.entropy is not None:
            for group, share in zip(self.group_names, values.shares, strict=True):
                found.append(("share", None, group, share, (0.0, 1.0)))
            limit = float(np.log(len(self.group_names)))
            found.append(("entropy", None, None, values.entropy, (0.0, limit)))
        found.append(("effective_support", None, None, Estimate(values.support), infinite))
        for name, estimate in values.tracked.items():
            found.append((f"mean:{name}", None, None, estimate, infinite))
        return [
            _row(round, source, quantity, reward, group, estimate, limits)
            for quantity, reward, group, estimate, limits in found
        ]

    def _of_reward(self, index: int, law: FloatArray | None, clusters: Clusters) -> dict[str, Estimate]:
        found = {"mean_reward": estimates.mean(self.candidates.rewards[:, index], law, clusters)}
        exponentials = self.exponentials[index]
        if exponentials is not None:
            found["mean_exp_reward"] = estimates.mean(exponentials, law, clusters)
            found["var_exp_reward"] = estimates.variance(exponentials, law, clusters)
        return found

    @cached_property
    def exponentials(self) -> list[FloatArray | None]:
        """exp(reward / temperature) for each reward, or None beyond LARGEST_EXPONENT."""
        with np.errstate(over="ignore"):
            utilities = self.candidates.rewards.T / self.temperature
        scales = self.reward_scale or [float(u.max()) for u in utilities]
        return [
            np.exp(u) if scale < LARGEST_EXPONENT else None
            for u, scale in zip(utilities, scales, strict=True)
        ]

    @cached_property
    def codes(self) -> IntArray | None:
        """Index in ``group_names`` of each candidate's group, or None without groups."""
        if self.candidates.groups is None or not self.group_names:
            return None
        return group_codes(self.candidates.groups, self.group_names)

    @cached_property
    def _clusters(self) -> Clusters:
        if self.candidates.contexts is None:
            return None
        codes = estimates.encode(self.candidates.contexts)[0]
        return Strata(codes) if self.stratified else codes


def _row(
    round: int,  # noqa: A002
    source: str,
    quantity: str,
    reward: str | None,
    group: str | None,
    estimate: Estimate,
    limits: tuple[float, float],
) -> Row:
    lower, upper = estimate.interval(*limits) if source == MEASURED and estimate.se else (None, None)
    return Row(round, source, quantity, estimate.value, reward, group, lower, upper)
