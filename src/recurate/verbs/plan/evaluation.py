"""The evaluation of settings for a plan, on a coarse population and exactly, against its constraints."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.cells import Merging
from recurate.core.errors import InputError, is_number
from recurate.log.candidates import Candidates
from recurate.metrics.estimates import encode, entropy_of, kl_atoms
from recurate.metrics.partition import partition
from recurate.rules import Rule
from recurate.rules.rule import check_number
from recurate.theory.coarsening import gather
from recurate.theory.limits import limit
from recurate.theory.population import Population, favourites
from recurate.theory.setting import Setting

OBJECTIVES = ("reward", "nash", "worst")
LONG = 150  # number of rounds that approximates the limit on the coarse population
TOP = 250  # number of best atoms of each reward, and of their sum, that are not merged
CELLS = 1000  # number of cells of the other atoms, per group
FEW = 2500  # populations of at most this many atoms are not coarsened
STILL = 1e-8  # sum of absolute changes of masses in a round at which a loop has settled
SLACK = 1e-9  # relative miss of a constraint that is tolerated


@dataclass(frozen=True)
class Constraints:
    """The bounds that a plan must satisfy; None: no bound.

    With the last law p on the atoms, its groups' shares s, and p_0 the first round's law: min s >= floor,
    KL(p || p_ref) <= kl, -sum s log s >= entropy, Var_p r_i / Var_{p_0} r_i >= variance for every reward i,
    and K x picks x rounds <= budget.

    Attributes:
        floor: the least share of every group, in [0, 1 / groups].
        kl: the largest divergence of the last law from the reference, in nats (between reward laws where the
            reference is an external sample).
        entropy: the least entropy of the groups' shares, in nats.
        variance: the least share of each reward's first variance that is kept.
        budget: the largest number of candidates in all (per round, where the limit is planned for).

    >>> Constraints(floor=0.2, kl=1.5)
    Constraints(floor=0.2, kl=1.5, entropy=None, variance=None, budget=None)
    """

    floor: float | None = None
    kl: float | None = None
    entropy: float | None = None
    variance: float | None = None
    budget: float | None = None

    def check(self, groups: int) -> None:
        """Raise InputError if a bound is out of range, or cannot be satisfied with this number of groups."""
        for name, value in vars(self).items():
            if value is not None:
                what, remedy = f"the constraint {name} must be a number >= 0", f"--{name} 0.1"
                check_number(value, lambda v: math.isfinite(v) and v >= 0, what, remedy)
        if self.floor is not None and self.floor * groups > 1:
            raise InputError(
                "the floors of all groups sum to more than one",
                got=f"{groups} groups, {self.floor:g} each",
                remedy=f"at most {1 / groups:.3g}",
            )
        if self.entropy is not None and self.entropy > math.log(max(groups, 1)) + 1e-12:
            raise InputError(
                "no shares have so large an entropy",
                got=f"{self.entropy:g} nats for {groups} groups",
                remedy=f"at most {math.log(groups):.3g}",
            )

    def missed(self, outcome: Outcome) -> dict[str, float]:
        """Return the bounds that an outcome misses, each with the miss relative to its value."""
        values = {
            "floor": min(outcome.shares), "entropy": outcome.entropy, "variance": outcome.variance,
            "kl": outcome.kl, "budget": outcome.cost,
        }  # fmt: skip
        found = {}
        for name, value in values.items():
            bound = getattr(self, name)
            if bound is not None:
                excess = value - bound if name in ("kl", "budget") else bound - value
                found[name] = excess / max(abs(bound), 1e-3)
        return {name: miss for name, miss in found.items() if miss > SLACK}


@dataclass(frozen=True)
class Goal:
    """The objective and the constraints of a plan; see :func:`recurate.plan`.

    Attributes:
        objective: ``reward``, ``nash`` or ``worst``.
        importance: the weight of each reward in the objective, shape (m,).
        rounds: the number of rounds; None: the limit.
        picks: the number of picks per round.
        constraints: the bounds to keep.
    """

    objective: str
    importance: FloatArray
    rounds: int | None
    picks: int
    constraints: Constraints

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(
                "the objective is not known", got=self.objective, remedy=f"one of {', '.join(OBJECTIVES)}"
            )
        rounds, picks = self.rounds, self.picks
        if rounds is not None and (not is_number(rounds) or rounds != int(rounds) or rounds < 1):
            raise InputError("rounds must be a whole number >= 1", got=rounds, remedy="--rounds 10, or limit")
        if not is_number(picks) or picks < 1:
            raise InputError("picks must be a whole number >= 1", got=picks, remedy="--picks 1000")

    def value(self, law: FloatArray, rewards: FloatArray) -> float:
        """Return the objective under a law (n,) on atoms with rewards (n, m)."""
        if self.objective == "worst":
            return float((law @ rewards).min())
        if self.objective == "reward":
            return float(self.importance @ (law @ rewards))
        tops = rewards.max(axis=0)
        return float(self.importance @ (np.log(np.maximum(law @ np.exp(rewards - tops), 1e-300)) + tops))

    def cost(self, k: int) -> float:
        """Return the total number of candidates for slates of k."""
        return float(k) * int(self.picks) * (self.rounds or 1)


@dataclass(frozen=True)
class Choice:
    """One setting.

    Attributes:
        k: slate size K.
        real_fraction: rho, the share of real data in each retraining set.
        weights: the share of slates judged by each reward, shape (m,).
        temperature: tau, in the rewards' unit.
    """

    k: int
    real_fraction: float
    weights: tuple[float, ...]
    temperature: float


@dataclass(frozen=True)
class Outcome:
    """The outcome of one setting.

    Attributes:
        choice: the setting.
        objective: the maximised quantity.
        rewards: E r_i under the last law, shape (m,).
        shares: the groups' shares under the last law.
        kl: the divergence of the last law from the reference, in nats.
        entropy: the entropy of the shares, in nats.
        variance: the least share of a reward's first variance that is kept.
        cost: the number of candidates.
        missed: the relative miss of each missed constraint, by name.
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


@dataclass(frozen=True)
class Atoms:
    """A population with the columns that describe outcomes.

    Attributes:
        population: the atoms.
        squares: the mean squared rewards of each atom, shape (n, m).
        members: the share of each atom's mass in each group, shape (n, groups).
        variances: of the rewards under p_0, shape (m,).
        regions: the share of each atom's mass in each region of reward space, shape (n, regions), on which
            the divergence from external real data is computed; None where p_ref is p_0.
    """

    population: Population
    squares: FloatArray
    members: FloatArray
    variances: FloatArray
    regions: FloatArray | None = None

    @classmethod
    def of(cls, rewards: FloatArray, labels: IntArray, groups: int, real: int = 0) -> Atoms:
        """Return candidates with rewards (N, m) in groups (N,), uniform; the last ``real`` are real data."""
        own = len(rewards) - real
        law = np.repeat([1.0 / own, 0.0], [own, real])
        reference = regions = None
        if real:
            reference = np.repeat([0.0, 1.0 / real], [own, real])
            cells = partition(rewards[own:])
            regions = np.eye(cells.reference.size)[cells.assign(rewards)]
        squares = np.square(rewards)
        variances = law @ squares - (law @ rewards) ** 2
        population = Population(rewards, law=law, reference=reference)
        return cls(population, squares, np.eye(groups)[labels], variances, regions)

    def scaled(self, factor: float) -> Atoms:
        """Return the same with all rewards times a factor."""
        return replace(
            self,
            population=self.population.moved(factor * self.population.rewards),
            squares=factor**2 * self.squares,
            variances=factor**2 * self.variances,
        )

    def coarsened(self) -> Atoms:
        """Return a population of a few thousand atoms that approximates this one.

        The atoms that selection can end on, the best of every reward and of their sum, are not merged; the
        others are merged in cells. A cell has its members' mean rewards and, for variances, mean squares. The
        error comes from treating rewards within a cell as equal: it is of second order in the cell's width.
        """
        rewards = self.population.rewards
        if len(rewards) <= FEW:
            return self
        features = rewards / np.sqrt(np.maximum(self.variances, 1e-300))
        masses = self.population.law + self.population.reference
        best = _best_atoms(features)
        rest = np.flatnonzero(~best)
        labels = np.empty(len(rewards), np.int64)
        groups = self.members[rest].argmax(axis=1)
        labels[rest] = gather(features[rest], masses[rest], groups, CELLS * self.members.shape[1])
        labels[best] = labels[rest].max(initial=-1) + 1 + np.arange(np.count_nonzero(best))
        cells = Merging(labels)
        return Atoms(
            self.population.coarsened(cells),
            cells.means(self.squares, masses),
            cells.means(self.members, masses),
            self.variances,
            None if self.regions is None else cells.means(self.regions, masses),
        )

    def divergence(self, law: FloatArray) -> float:
        """Return KL(law || p_ref) in nats: on the atoms, or between the laws of regions of reward space."""
        reference = self.population.reference
        if self.regions is None:
            return kl_atoms(law, reference)
        return kl_atoms(law @ self.regions, reference @ self.regions)

    def laws(self, choices: Sequence[Choice], rounds: int) -> FloatArray:
        """Return the last laws (n, B) of B settings of one K and temperature, stopped once they settle."""
        rule = Rule(choices[0].k, choices[0].temperature)
        weights = np.array([c.weights for c in choices]).T
        fractions = np.array([c.real_fraction for c in choices])
        played = self.population.play_many(Setting(rule, rounds=rounds), weights, fractions)
        laws = next(played)
        for new in played:
            moved = float(np.abs(new - laws).sum(axis=0).max())
            laws = new
            if moved < STILL:
                break
        return laws

    def outcome(self, choice: Choice, law: FloatArray, goal: Goal) -> Outcome:
        """Return the outcome of a setting with the last law (n,)."""
        rewards = self.population.rewards
        means = law @ rewards
        shares = np.maximum(law @ self.members, 0.0)
        shares = shares / shares.sum()
        variance = (law @ self.squares - means**2) / self.variances
        found = Outcome(
            choice, goal.value(law, rewards), tuple(means.tolist()), tuple(shares.tolist()),
            self.divergence(law), entropy_of(shares), float(variance.min()), goal.cost(choice.k),
        )  # fmt: skip
        return replace(found, missed=goal.constraints.missed(found))


def _best_atoms(features: FloatArray) -> BoolArray:
    """Return which atoms are among the best by a reward, by their sum or by the worst of them, shape (n,)."""
    found = np.zeros(len(features), bool)
    for values in (*features.T, features.sum(axis=1), features.min(axis=1)):
        found[np.argpartition(-values, min(TOP, values.size - 1))[:TOP]] = True
    return found


@dataclass(frozen=True)
class Evaluator:
    """The evaluation of settings for one plan.

    Attributes:
        whole: all candidates and the real data.
        coarse: the coarse population of a few thousand atoms.
        goal: the objective and the constraints.
        groups: the groups' names.
        warnings: reasons to rely on the plan less.
    """

    whole: Atoms
    coarse: Atoms
    goal: Goal
    groups: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, candidates: Candidates, reference: Candidates | None, goal: Goal) -> Evaluator:
        """Check the candidates and coarsen their population."""
        rewards = candidates.rewards
        warnings: tuple[str, ...] = ()
        flat = np.ptp(rewards, axis=0) == 0
        if flat.any():
            raise InputError(
                "a reward is constant",
                got=", ".join(name for name, same in zip(candidates.names, flat, strict=True) if same),
                remedy="leave it out",
            )
        if candidates.contexts is not None:
            codes = encode(candidates.contexts)[0]
            counts = np.bincount(codes)
            means = np.column_stack([np.bincount(codes, r) / counts for r in rewards.T])
            rewards = rewards - means[codes] + rewards.mean(axis=0)
            warnings = ("contexts are assumed to differ in the level of their rewards only",)
        labels, names = _labelled(candidates, rewards)
        counts = np.bincount(labels, minlength=len(names))
        if len(names) > 1 and counts.min() == 0:
            raise InputError(
                "a group has no members",
                got=names[int(counts.argmin())],
                remedy="leave its reward out, or name --group",
            )
        goal.constraints.check(len(names))
        real = 0
        if reference is not None:
            real = len(reference)
            labels = np.concatenate([labels, _reference_labels(reference, candidates, rewards, names)])
            rewards = np.vstack([rewards, reference.rewards])
        whole = Atoms.of(rewards, labels, len(names), real)
        return cls(whole, whole.coarsened(), goal, tuple(names), warnings)

    def scaled(self, factor: float) -> Evaluator:
        """Return the same for rewards that are all times a factor."""
        return replace(self, whole=self.whole.scaled(factor), coarse=self.coarse.scaled(factor))

    def evaluate(self, choices: Sequence[Choice]) -> list[Outcome]:
        """Return the outcomes of settings on the coarse population, in batches of one K and temperature."""
        found: dict[Choice, Outcome] = {}
        keyed = sorted(choices, key=_batch)
        for _, part in itertools.groupby(keyed, key=_batch):
            batch = list(part)
            laws = self.coarse.laws(batch, self.goal.rounds or LONG)
            for choice, law in zip(batch, laws.T, strict=True):
                found[choice] = self.coarse.outcome(choice, law, self.goal)
        return [found[c] for c in choices]

    def exactly(self, choice: Choice) -> Outcome:
        """Return a setting's outcome on all candidates."""
        settles = True
        if self.goal.rounds is None:
            population = self.whole.population
            end = limit(
                population.rewards, choice.weights, k=choice.k, real_fraction=choice.real_fraction,
                law=population.law, reference=population.reference, temperature=choice.temperature,
            )  # fmt: skip
            law, settles = end.law, end.settles
        else:
            law = self.whole.laws([choice], self.goal.rounds)[:, 0]
        return replace(self.whole.outcome(choice, law, self.goal), exact=True, settles=settles)


def _batch(choice: Choice) -> tuple[float, int]:
    return choice.temperature, choice.k


def _labelled(candidates: Candidates, rewards: FloatArray) -> tuple[IntArray, list[str]]:
    """Return the group of each candidate, shape (n,), and the groups' names."""
    if candidates.groups is not None:
        return encode(candidates.groups)
    return favourites(rewards, rewards.max(axis=0)), [f"near {name}" for name in candidates.names]


def _reference_labels(
    reference: Candidates, candidates: Candidates, rewards: FloatArray, names: Sequence[str]
) -> IntArray:
    if candidates.groups is None:
        return favourites(reference.rewards, rewards.max(axis=0))
    if reference.groups is None:
        raise InputError("the real data need groups", got="none", remedy="label them like the candidates")
    index = {name: i for i, name in enumerate(names)}
    labels = np.array([index.get(str(g), -1) for g in reference.groups])
    if (labels < 0).any():
        raise InputError(
            "the real data have a group that no candidate has",
            got=str(reference.groups[int(np.argmax(labels < 0))]),
            remedy="leave it out, or label it as another",
        )
    return labels
