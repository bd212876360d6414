"""The quantities of candidates, under a law or as a sample, and the rows that report them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.log.candidates import Candidates, group_codes
from recurate.log.trajectory import MEASURED, Row
from recurate.metrics import estimates
from recurate.metrics.estimates import Clusters, Estimate, Repeats, Strata

# The error of the variance needs the fourth power of exp(reward / temperature), which overflows beyond this.
LARGEST_EXPONENT = 170.0


@dataclass(frozen=True)
class Values:
    """The quantities of one round.

    Attributes:
        moments: ``mean_reward``, ``mean_exp_reward`` and ``var_exp_reward`` of each reward; the last two are
            absent if they overflow.
        support: Effective number of atoms.
        kl: KL divergence of the reward law from the reference, in nats, or None.
        shares: Share of each group, or None without groups.
        entropy: Entropy of the shares in nats, or None without groups.
        tracked: Means of further columns by name.
    """

    moments: Sequence[Mapping[str, Estimate]]
    support: float
    kl: Estimate | None = None
    shares: Sequence[Estimate] | None = None
    entropy: Estimate | None = None
    tracked: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Describer:
    """Computation of trajectory rows from a law on fixed candidates, or from the candidates as a sample.

    Attributes:
        candidates: Candidates that are described, n of them.
        temperature: Divisor of the rewards in ``exp_reward``, exp(reward / temperature).
        group_names: Groups to report, in order.
        reward_scale: Largest reward / temperature in the whole comparison, per reward; beyond
            ``LARGEST_EXPONENT``, ``mean_exp_reward`` and ``var_exp_reward`` are left out. Empty: that of the
            candidates.
        stratified: Whether all samples have the same, non-random contexts.
    """

    candidates: Candidates
    temperature: float
    group_names: tuple[str, ...] = ()
    reward_scale: tuple[float, ...] = ()
    stratified: bool = False

    def values(self, law: FloatArray | None = None, kl: Estimate | None = None) -> Values:
        """Return the quantities of a law or a sample.

        Args:
            law: Masses of the candidates, shape (n,), summing to one; None: the candidates are a sample.
            kl: KL divergence from the reference, which is copied to the result.
        """
        clusters = self._clusters if law is None else None
        shares = entropy = None
        if self.codes is not None:
            groups = len(self.group_names)
            shares = estimates.shares(self.codes, groups, law, clusters)
            entropy = estimates.entropy(self.codes, groups, law, clusters)
        return Values(
            [self._of_reward(i, law, clusters) for i in range(len(self.candidates.names))],
            self.candidates.size if law is None else estimates.effective_support(law, self.candidates.counts),
            kl,
            shares,
            entropy,
            {name: estimates.mean(v, law, clusters) for name, v in self.candidates.tracked.items()},
        )

    def rows(self, round: int, source: str, values: Values) -> list[Row]:  # noqa: A002
        """Return the rows of one round; intervals are given if ``source`` is ``measured``."""

        def row(
            quantity: str,
            estimate: Estimate,
            *limits: float,
            reward: str | None = None,
            group: str | None = None,
        ) -> Row:
            uncertain = source == MEASURED and estimate.se
            lower, upper = estimate.interval(*limits) if uncertain else (None, None)
            return Row(round, source, quantity, estimate.value, reward, group, lower, upper)

        found = [
            row(quantity, estimate, -np.inf if quantity == "mean_reward" else 0.0, reward=name)
            for name, moments in zip(self.candidates.names, values.moments, strict=True)
            for quantity, estimate in moments.items()
        ]
        if values.kl is not None:
            found.append(row("kl_to_reference", values.kl, 0.0))
        if values.shares is not None and values.entropy is not None:
            shares = zip(self.group_names, values.shares, strict=True)
            found += [row("share", share, 0.0, 1.0, group=group) for group, share in shares]
            found.append(row("entropy", values.entropy, 0.0, float(np.log(len(self.group_names)))))
        found.append(row("effective_support", Estimate(values.support)))
        found += [row(f"mean:{name}", estimate) for name, estimate in values.tracked.items()]
        return found

    def _of_reward(self, index: int, law: FloatArray | None, clusters: Clusters) -> dict[str, Estimate]:
        found = {"mean_reward": estimates.mean(self.candidates.rewards[:, index], law, clusters)}
        exponentials = self.exponentials[index]
        if exponentials is not None:
            found["mean_exp_reward"] = estimates.mean(exponentials, law, clusters)
            found["var_exp_reward"] = estimates.variance(exponentials, law, clusters)
        return found

    @cached_property
    def exponentials(self) -> list[FloatArray | None]:
        """The values exp(reward / temperature) of each reward, (n,), or None beyond LARGEST_EXPONENT."""
        with np.errstate(over="ignore"):
            utilities = self.candidates.rewards.T / self.temperature
        scales = self.reward_scale or [float(u.max()) for u in utilities]
        return [
            np.exp(u) if scale < LARGEST_EXPONENT else None
            for u, scale in zip(utilities, scales, strict=True)
        ]

    @cached_property
    def codes(self) -> IntArray | None:
        """The index in ``group_names`` of each candidate's group, shape (n,), or None without groups."""
        if self.candidates.groups is None or not self.group_names:
            return None
        return group_codes(self.candidates.groups, self.group_names)

    @cached_property
    def _clusters(self) -> Clusters:
        if self.candidates.counts is not None:
            return Repeats(self.candidates.counts)
        if self.candidates.contexts is None:
            return None
        codes = estimates.encode(self.candidates.contexts)[0]
        return Strata(codes) if self.stratified else codes
