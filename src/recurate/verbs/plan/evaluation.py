"""Forecasts of many settings for a plan: constraints, outcomes, on a compressed population and exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError, is_number
from recurate.log.candidates import Candidates
from recurate.metrics.estimates import encode, entropy_of
from recurate.rules import Rule
from recurate.theory.crowd import Crowd
from recurate.theory.limits import limit
from recurate.theory.survival import favourites

OBJECTIVES = ("reward", "nash", "worst")
LONG = 150  # rounds that stand for the limit on the compressed population
SLACK = 1e-9  # by which a constraint may be missed


@dataclass(frozen=True)
class Constraints:
    """What a plan must keep; None: nothing.

    Attributes:
        floor: every group's share, at least.
        kl: divergence of the last law from the reference, in nats, at most.
        entropy: of the groups' shares, in nats, at least.
        variance: share of the first round's variance of every reward that is kept, at least.
        budget: candidates in all, K times picks times rounds (a round, in the limit), at most.
    """

    floor: float | None = None
    kl: float | None = None
    entropy: float | None = None
    variance: float | None = None
    budget: float | None = None


@dataclass(frozen=True)
class Choice:
    """One setting."""

    k: int
    real_fraction: float
    weights: tuple[float, ...]
    temperature: float


@dataclass(frozen=True)
class Outcome:
    """What a setting leads to.

    Attributes:
        choice: the setting.
        objective: what is maximised.
        rewards: E r_i in the end, (m,).
        shares: of the groups in the end.
        kl, entropy, variance: as in :class:`Constraints`.
        cost: candidates.
        missed: constraint to by how much it is missed, as a share of its value (absolute below one).
        exact: whether it was forecast on all candidates.
        settles: whether the limit exists, where the limit is planned for.
    """

    choice: Choice
    objective: float
    rewards: tuple[float, ...]
    shares: tuple[float, ...]
    kl: float
    entropy: float
    variance: float
    cost: float
    missed: dict[str, float] = field(default_factory=dict)
    exact: bool = False
    settles: bool = True

    @property
    def feasible(self) -> bool:
        """Whether every constraint is kept."""
        return not self.missed and self.settles


@dataclass
class Desk:
    """What stays the same for all settings.

    Attributes:
        candidates: of one round.
        whole: all of them (and the real data).
        crowd: the compressed population.
        objective, rounds, constraints, picks, importance: see :func:`recurate.verbs.plan.plan.plan`.
        groups: names.
        warnings: gathered on the way.
    """

    candidates: Candidates
    whole: Crowd
    crowd: Crowd
    objective: str
    rounds: int | None
    constraints: Constraints
    picks: int
    importance: FloatArray
    groups: tuple[str, ...]
    warnings: list[str]

    @classmethod
    def of(
        cls,
        candidates: Candidates,
        reference: Candidates | None,
        objective: str,
        rounds: int | None,
        constraints: Constraints,
        picks: int,
        importance: FloatArray,
    ) -> Desk:
        """Check everything and compress the population."""
        if objective not in OBJECTIVES:
            raise InputError(
                "the objective is not known", got=objective, remedy=f"one of {', '.join(OBJECTIVES)}"
            )
        if rounds is not None and (not is_number(rounds) or rounds != int(rounds) or rounds < 1):
            raise InputError("rounds must be a whole number >= 1", got=rounds, remedy="--rounds 10, or limit")
        if not is_number(picks) or picks < 1:
            raise InputError("picks must be a whole number >= 1", got=picks, remedy="--picks 1000")
        rewards = candidates.rewards
        if not (np.ptp(rewards, axis=0) > 0).all():
            raise InputError(
                "a constant reward leaves nothing to plan",
                got=", ".join(
                    n for n, r in zip(candidates.names, np.ptp(rewards, axis=0), strict=True) if r == 0
                ),
                remedy="leave it out",
            )
        warnings: list[str] = []
        if candidates.contexts is not None:
            codes = encode(candidates.contexts)[0]
            counts = np.bincount(codes)
            means = np.column_stack([np.bincount(codes, r) / counts for r in rewards.T])
            rewards = rewards - means[codes] + rewards.mean(axis=0)
            warnings.append("contexts are taken to differ in the level of their rewards only")
        if candidates.groups is not None:
            labels, names = encode(candidates.groups)
        else:
            labels = favourites(rewards, rewards.max(axis=0))
            names = [f"near {name}" for name in candidates.names]
        if len(names) > 1 and np.bincount(labels, minlength=len(names)).min() == 0:
            empty = names[int(np.bincount(labels, minlength=len(names)).argmin())]
            raise InputError(
                "a group has no members", got=empty, remedy="leave its reward out, or name --group"
            )
        _check_constraints(constraints, len(names))
        real = None if reference is None else reference.rewards
        real_labels = None
        if reference is not None:
            real_labels = _reference_labels(reference, candidates, rewards, names)
        whole = Crowd.of(rewards, labels, len(names), real, real_labels)
        return cls(
            candidates, whole, whole.compressed(), objective, rounds, constraints, int(picks), importance,
            tuple(names), warnings,
        )  # fmt: skip

    def evaluate(self, choices: Sequence[Choice]) -> list[Outcome]:
        """Return the outcomes of settings on the compressed population, batches of one K at a time."""
        found: dict[Choice, Outcome] = {}
        keyed = sorted(choices, key=lambda c: (c.k, c.temperature))
        for (k, temperature), part in itertools.groupby(keyed, key=lambda c: (c.k, c.temperature)):
            batch = list(part)
            laws = self.crowd.play(
                Rule(k, temperature),
                np.array([c.weights for c in batch]).T,
                np.array([c.real_fraction for c in batch]),
                LONG if self.rounds is None else self.rounds,
            )
            for choice, law in zip(batch, laws.T, strict=True):
                found[choice] = self.outcome(choice, self.crowd, law)
        return [found[c] for c in choices]

    def exactly(self, choice: Choice) -> Outcome:
        """Return a setting's outcome on all candidates."""
        if self.rounds is None:
            end = limit(
                self.whole.rewards, choice.weights, k=choice.k, real_fraction=choice.real_fraction,
                law=self.whole.start, reference=self.whole.real, temperature=choice.temperature,
            )  # fmt: skip
            return replace(self.outcome(choice, self.whole, end.law), exact=True, settles=end.settles)
        law = self.whole.play(
            Rule(choice.k, choice.temperature), np.array(choice.weights)[:, None],
            np.array([choice.real_fraction]), self.rounds,
        )[:, 0]  # fmt: skip
        return replace(self.outcome(choice, self.whole, law), exact=True)

    def outcome(self, choice: Choice, crowd: Crowd, law: FloatArray) -> Outcome:
        """Describe a law."""
        means = law @ crowd.rewards
        shares = np.maximum(law @ crowd.members, 0.0)
        shares = shares / shares.sum()
        variance = (law @ crowd.squares - means**2) / crowd.variances
        cost = float(choice.k) * self.picks * (self.rounds or 1)
        found = Outcome(
            choice, self._value(crowd, law, means), tuple(means.tolist()), tuple(shares.tolist()),
            crowd.divergence(law), entropy_of(shares), float(variance.min()), cost,
        )  # fmt: skip
        return replace(found, missed=self._missed(found))

    def _value(self, crowd: Crowd, law: FloatArray, means: FloatArray) -> float:
        if self.objective == "worst":
            return float(means.min())
        if self.objective == "reward":
            return float(self.importance @ means)
        tops = crowd.rewards.max(axis=0)
        return float(
            self.importance @ (np.log(np.maximum(law @ np.exp(crowd.rewards - tops), 1e-300)) + tops)
        )

    def _missed(self, o: Outcome) -> dict[str, float]:
        c = self.constraints
        least = {
            "floor": (c.floor, min(o.shares)),
            "entropy": (c.entropy, o.entropy),
            "variance": (c.variance, o.variance),
        }
        most = {"kl": (c.kl, o.kl), "budget": (c.budget, o.cost)}
        found = {
            n: (bound - value) / max(abs(bound), 1e-3)
            for n, (bound, value) in least.items()
            if bound is not None
        }
        found |= {
            n: (value - bound) / max(abs(bound), 1e-3)
            for n, (bound, value) in most.items()
            if bound is not None
        }
        return {name: miss for name, miss in found.items() if miss > SLACK}


def _reference_labels(
    reference: Candidates, candidates: Candidates, rewards: FloatArray, names: Sequence[str]
) -> IntArray:
    if candidates.groups is None:
        return favourites(reference.rewards, rewards.max(axis=0))
    if reference.groups is None:
        raise InputError(
            "the real data need groups, too", got="none", remedy="label them like the candidates"
        )
    index = {name: i for i, name in enumerate(names)}
    labels = np.array([index.get(str(g), -1) for g in reference.groups])
    if (labels < 0).any():
        raise InputError(
            "the real data have a group that no candidate has",
            got=str(reference.groups[int(np.argmax(labels < 0))]),
            remedy="leave it out, or label it as another",
        )
    return labels


def _check_constraints(c: Constraints, groups: int) -> None:
    for name in ("floor", "kl", "entropy", "variance", "budget"):
        value = getattr(c, name)
        if value is not None and (not is_number(value) or not (math.isfinite(value) and value >= 0)):
            raise InputError(
                f"the constraint {name} must be a number >= 0", got=value, remedy=f"--{name} 0.1"
            )
    if c.floor is not None and c.floor * groups > 1:
        raise InputError(
            "the floors of all groups sum to more than one",
            got=f"{groups} groups, {c.floor:g} each",
            remedy=f"at most {1 / groups:.3g}",
        )
    if c.entropy is not None and c.entropy > math.log(max(groups, 1)) + 1e-12:
        raise InputError(
            "no shares have so large an entropy",
            got=f"{c.entropy:g} nats for {groups} groups",
            remedy=f"at most {math.log(groups):.3g}",
        )
