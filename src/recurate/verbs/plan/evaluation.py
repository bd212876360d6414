"""The evaluation of settings for a plan, on a coarse population and exactly, against its constraints."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from recurate.core import progress
from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.cells import Merging
from recurate.core.errors import InputError, is_number
from recurate.log.candidates import Candidates
from recurate.metrics.estimates import encode, entropy_of, kl_atoms
from recurate.metrics.partition import FEWEST_CELLS, Cells, partition
from recurate.rules import GUMBEL, Rule, Selection, Threshold, TopFraction
from recurate.rules.rule import check_number
from recurate.theory.coarsening import CONTEXTS, gather
from recurate.theory.limits import limit
from recurate.theory.loop_model import LoopModel, blocks_of
from recurate.theory.population import Population, favourites
from recurate.theory.residuals import Correction
from recurate.theory.setting import Setting, Stage

OBJECTIVES = ("reward", "nash", "worst")
LONG = 150  # number of rounds that approximates the limit on the coarse population
TOP = 250  # number of best atoms of each reward, and of their sum, that are not merged
CELLS = 1000  # number of cells of the other atoms, per group
FEWEST = 60  # number of cells of a context that is a population of its own, at least
FEW = 2500  # populations of at most this many atoms are not coarsened
STILL = 1e-8  # sum of absolute changes of masses in a round at which a loop has settled
LEAST_SPREAD = 1e-5  # standard deviation over mean below which E r^2 - (E r)^2 has lost six digits
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
class Manner:
    """The rule and the retraining that all settings of a plan have in common.

    Attributes:
        rule: the rule: its noise, number kept and lapse share; temperature and K (of rules without slates the
            level or the share kept) are a setting's own.
        then: further stages of a round, each the slate size and the weights (None: the first stage's).
        accumulate: whether training sets keep the data of all earlier rounds.
        efficacy: the part of the way to its training law that retraining moves the model.
        first: the number of rounds played before, as of :class:`~recurate.theory.setting.Setting`.
    """

    rule: Selection = field(default_factory=Rule)
    then: tuple[tuple[float, tuple[float, ...] | None], ...] = ()
    accumulate: bool = False
    efficacy: float = 1.0
    first: int = 0

    def setting(self, choice: Choice, rounds: int, picks: int | None = None) -> Setting:
        """Return the setting that a forecast of a choice has."""
        rule = sized(self.rule, choice.k, choice.temperature)
        noise = getattr(rule, "noise", GUMBEL)
        stages = tuple(Stage(Rule(k, choice.temperature, noise), weights) for k, weights in self.then)
        return Setting(
            rule, choice.weights, choice.real_fraction, rounds, picks, stages, self.accumulate, self.efficacy,
            self.first,
        )  # fmt: skip

    @property
    def is_luce(self) -> bool:
        """Whether rounds have one stage by Luce's rule, one pick per slate and no lapses."""
        rule = self.rule
        if not isinstance(rule, Rule) or self.then:
            return False
        return rule.noise == GUMBEL and rule.keep == 1 and rule.lapse == 0


def size_name(rule: Selection) -> str:
    """Return the part of a rule that a plan chooses: ``k``, ``level`` or ``fraction``; empty if none."""
    kinds = {Rule: "k", Threshold: "level", TopFraction: "fraction"}
    return next((name for kind, name in kinds.items() if isinstance(rule, kind)), "")


def sized(rule: Selection, size: float, temperature: float) -> Selection:
    """Return a rule with another K (level, share kept) and temperature."""
    return replace(rule, **{size_name(rule): size, "temperature": temperature})  # type: ignore[type-var]


@dataclass(frozen=True)
class Goal:
    """The objective and the constraints of a plan; see :func:`recurate.plan`.

    Attributes:
        objective: ``reward``, ``nash`` or ``worst``.
        importance: the weight of each reward in the objective, shape (m,).
        rounds: the number of rounds; None: the limit.
        picks: the number of picks per round.
        constraints: the bounds to keep.
        manner: the rule and the retraining that all settings have in common.
    """

    objective: str
    importance: FloatArray
    rounds: int | None
    picks: int
    constraints: Constraints
    manner: Manner = field(default_factory=Manner)

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise InputError(
                "the objective is not known", got=self.objective, remedy=f"one of {', '.join(OBJECTIVES)}"
            )
        rounds, picks = self.rounds, self.picks
        if rounds is not None and (not is_number(rounds) or rounds != int(rounds) or rounds < 1):
            raise InputError("rounds must be a whole number >= 1", got=rounds, remedy="--rounds 10, or limit")
        if self.constraints.budget is not None and isinstance(self.manner.rule, Threshold):
            raise InputError(
                "how many candidates a verifier needs differs from round to round, so it has no budget",
                got=f"budget = {self.constraints.budget:g}",
                remedy="leave out --budget, or plan for a share kept with --top",
            )
        if not is_number(picks) or picks < 1:
            raise InputError("picks must be a whole number >= 1", got=picks, remedy="--picks 1000")

    def value(self, means: FloatArray, logs: Callable[[], FloatArray]) -> float:
        """Return the objective for the means E r_i (m,), and log E exp r_i (m,), computed where needed."""
        if self.objective == "worst":
            return float(means.min())
        if self.objective == "reward":
            return float(self.importance @ means)
        return float(self.importance @ logs())

    def cost(self, size: float) -> float:
        """Return the total number of candidates for slates of K, of which ``keep`` are kept, or for a share.

        It is NaN for a verifier: how many pass differs from round to round.
        """
        rule = self.manner.rule
        if isinstance(rule, Threshold):
            return math.nan
        per_pick = size / rule.keep if isinstance(rule, Rule) else 1 / size
        return per_pick * int(self.picks) * (self.rounds or 1) * math.prod(k for k, _ in self.manner.then)


@dataclass(frozen=True)
class Choice:
    """One setting.

    Attributes:
        k: slate size K; of rules without slates the level of the verifier, or the share kept of the pool.
        real_fraction: rho, the share of real data in each retraining set.
        weights: the share of slates judged by each reward, shape (m,).
        temperature: tau, in the rewards' unit.
    """

    k: float
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
class Levels:
    """What thin contexts add to means under a law of residuals: E_p f = E_{p_0, thin} f + p @ deviations(f).

    See :class:`~recurate.theory.residuals.PooledResiduals`. Thick contexts are populations of their own, and
    their columns are not deviations.

    Attributes:
        rewards: the rewards r of candidates in thin contexts, shape (t, m).
        masses: their masses under p_0, shape (t,).
        members: their groups as columns, shape (t, groups).
        residuals: their residual rewards, shape (t, m).
        rows: their places among all candidates, shape (t,).
    """

    rewards: FloatArray
    masses: FloatArray
    members: FloatArray
    residuals: FloatArray
    rows: IntArray

    @cached_property
    def means(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The parts of E r, E r^2 and the shares, shapes (m,), (m,) and (groups,)."""
        return self.masses @ self.rewards, self.masses @ np.square(self.rewards), self.masses @ self.members

    @cached_property
    def logs(self) -> FloatArray:
        """By reward i, log sum_x p_0(x) exp r_i(x), less the same of the residuals, shape (m,)."""
        return log_means(self.masses, self.rewards) - log_means(self.masses, self.residuals)

    def square_deviations(self, residuals: FloatArray, squares: FloatArray, thin: BoolArray) -> FloatArray:
        """Return what a law of residuals e adds to E r^2, shape (n, m); outside thin contexts the squares.

        Levels are independent of residuals in this model, as in
        :meth:`~recurate.theory.residuals.PooledResiduals.exp_moments`: E r^2 = E l^2 + 2 E l E e + E e^2.

        Args:
            residuals: e of all atoms, shape (n, m).
            squares: r^2 of all atoms, shape (n, m).
            thin: whether each atom is of a thin context, shape (n,).
        """
        masses = self.masses / self.masses.sum()
        added = 2 * (masses @ self.rewards) * residuals + residuals**2 - masses @ self.residuals**2
        return np.where(thin[:, None], added, squares)

    def scaled(self, factor: float) -> Levels:
        """Return the same with all rewards times a factor."""
        return replace(self, rewards=factor * self.rewards, residuals=factor * self.residuals)


def log_means(law: FloatArray, rewards: FloatArray) -> FloatArray:
    """Return log sum_x p(x) exp r_i(x), shape (m,), for masses (n,) and rewards (n, m)."""
    tops = rewards.max(axis=0, initial=-1e300)
    return np.asarray(np.log(np.maximum(law @ np.exp(rewards - tops), 1e-300)) + tops)


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
        levels: what thin contexts add, whose columns above are deviations from their means; None without.
        thin: whether each atom is of thin contexts, shape (n,); None without thin contexts.
        blocks: the context of each atom, shape (n,), where contexts are populations of their own; else None.
        comparable: whether the divergence from the reference can be told.
        cells: the partition behind ``regions`` and the number of candidates, which forecasts compute the
            divergence with; None on merged atoms.
    """

    population: Population
    squares: FloatArray
    members: FloatArray
    variances: FloatArray
    regions: FloatArray | None = None
    levels: Levels | None = None
    thin: BoolArray | None = None
    blocks: IntArray | None = None
    comparable: bool = True
    cells: tuple[Cells, int] | None = None

    @classmethod
    def of(cls, rewards: FloatArray, labels: IntArray, groups: int, real: int = 0) -> Atoms:
        """Return candidates with rewards (N, m) in groups (N,), uniform; the last ``real`` are real data."""
        own = len(rewards) - real
        law = np.repeat([1.0 / own, 0.0], [own, real])
        reference = regions = cells = None
        if real:
            reference = np.repeat([0.0, 1.0 / real], [own, real])
            cells = partition(rewards[own:])
            regions = np.eye(cells.reference.size)[cells.assign(rewards)]
        squares = np.square(rewards)
        variances = law @ squares - (law @ rewards) ** 2
        population = Population(rewards, law=law, reference=reference)
        found = cls(population, squares, np.eye(groups)[labels], variances, regions)
        if cells is None:
            return found
        return replace(found, comparable=cells.reference.size >= FEWEST_CELLS, cells=(cells, own))

    @classmethod
    def of_model(cls, model: LoopModel, groups: Sequence[str], *, comparable: bool) -> Atoms:
        """Return the atoms of a model with contexts, whose candidates have these groups."""
        atoms, population = model.describer.candidates, model.population
        law, rewards = population.law, atoms.rewards
        labels = np.searchsorted(np.asarray(groups), np.asarray(atoms.groups))
        members, squares = np.eye(len(groups))[labels], np.square(rewards)
        variances = law @ squares - (law @ rewards) ** 2
        residuals = model.residuals
        if residuals is None:
            return cls(model.alike, squares, members, variances, blocks=model.blocks, comparable=comparable)
        thin = residuals.thin
        own = np.flatnonzero(thin[: model.candidates])
        levels = Levels(rewards[own], law[own], members[own], residuals.residuals[own], own)
        return cls(
            population, levels.square_deviations(residuals.residuals, squares, thin),
            residuals.deviations(members), variances, None, levels,
            thin, blocks_of(residuals.codes, residuals), comparable,
        )  # fmt: skip

    def scaled(self, factor: float) -> Atoms:
        """Return the same with all rewards times a factor."""
        return replace(
            self,
            population=self.population.moved(factor * self.population.rewards),
            squares=factor**2 * self.squares,
            variances=factor**2 * self.variances,
            levels=None if self.levels is None else self.levels.scaled(factor),
        )

    def coarsened(self) -> Atoms:
        """Return a population of a few thousand atoms that approximates this one.

        The atoms that selection can end on, the best of every reward and of their sum, are not merged; the
        others are merged in cells, within contexts that are populations of their own. A cell has its members'
        mean rewards and, for variances, mean squares. The error comes from treating rewards within a cell as
        equal: it is of second order in the cell's width.
        """
        rewards = self.population.rewards
        if len(rewards) <= FEW:
            return self
        features = rewards / np.sqrt(np.maximum(self.variances, 1e-300))
        masses = self.population.law + self.population.reference
        blocks = np.zeros(len(rewards), np.int64) if self.blocks is None else encode(self.blocks)[0]
        count = int(blocks.max()) + 1
        best = np.zeros(len(rewards), bool)
        for block in range(count):
            rows = np.flatnonzero(blocks == block)
            best[rows] = _best_atoms(features[rows], max(TOP // count, 1))
        rest = np.flatnonzero(~best)
        labels = np.empty(len(rewards), np.int64)
        groups = self.members[rest].argmax(axis=1) + self.members.shape[1] * blocks[rest]
        most = max(CELLS * self.members.shape[1], FEWEST * count)
        labels[rest] = gather(features[rest], masses[rest], groups, most)
        labels[best] = labels[rest].max(initial=-1) + 1 + np.arange(np.count_nonzero(best))
        cells = Merging(labels)
        return replace(
            self,
            population=self.population.coarsened(cells, None if self.blocks is None else blocks[cells.first]),
            squares=cells.means(self.squares, masses),
            members=cells.means(self.members, masses),
            regions=None if self.regions is None else cells.means(self.regions, masses),
            thin=None if self.thin is None else self.thin[cells.first],
            blocks=None if self.blocks is None else self.blocks[cells.first],
            cells=None,
        )

    def divergence(self, law: FloatArray) -> float:
        """Return KL(law || p_ref) in nats: on the atoms, or between the laws of regions of reward space.

        It is NaN where it cannot be told: within contexts, from real data of their own.
        """
        reference = self.population.reference
        if not self.comparable:
            return math.nan
        if self.regions is None:
            return kl_atoms(law, reference)
        if self.cells is not None:
            cells, own = self.cells
            return cells.kl(self.regions.argmax(axis=1), law, own).value
        return kl_atoms(law @ self.regions, reference @ self.regions)

    def laws(self, choices: Sequence[Choice], rounds: int, manner: Manner | None = None) -> FloatArray:
        """Return the last laws (n, B) of B settings of one K and temperature, stopped once they settle."""
        setting = (manner or Manner()).setting(choices[0], rounds)
        weights = np.array([c.weights for c in choices]).T
        fractions = np.array([c.real_fraction for c in choices])
        played = self.population.play_many(setting, weights, fractions)
        laws = next(played)
        for new in played:
            moved = float(np.abs(new - laws).sum(axis=0).max())
            laws = new
            if moved < STILL and not setting.accumulate:
                break
        return laws

    def outcome(
        self, choice: Choice, law: FloatArray, goal: Goal, added: Correction | None = None
    ) -> Outcome:
        """Return the outcome of a setting with the last law (n,).

        Args:
            choice: the setting.
            law: the last law.
            goal: the objective and the constraints.
            added: what the unbiased first round of thin contexts adds, on all candidates.
        """
        means, squares, shares = (law @ c for c in (self.population.rewards, self.squares, self.members))
        if self.levels is not None:
            means, squares, shares = (
                own + base for own, base in zip((means, squares, shares), self.levels.means, strict=True)
            )
        if added is not None and self.levels is not None:
            masses, levels = added.masses[self.levels.rows], self.levels
            means = means + masses @ levels.rewards
            squares = squares + masses @ np.square(levels.rewards)
            shares = shares + masses @ levels.members
        shares = np.maximum(shares, 0.0)
        shares = shares / shares.sum()
        variance = (squares - means**2) / self.variances
        found = Outcome(
            choice, goal.value(means, lambda: self._logs(law, added)), tuple(means.tolist()),
            tuple(shares.tolist()), self.divergence(law), entropy_of(shares),
            max(float(variance.min()), 0.0),
            goal.cost(choice.k),
        )  # fmt: skip
        return replace(found, missed=goal.constraints.missed(found))

    def _logs(self, law: FloatArray, added: Correction | None) -> FloatArray:
        """Return log E exp r_i, shape (m,)."""
        rewards = self.population.rewards
        if self.levels is None or self.thin is None:
            return log_means(law, rewards)
        thin = log_means(law[self.thin], rewards[self.thin]) + self.levels.logs
        logs = np.logaddexp(thin, log_means(law[~self.thin], rewards[~self.thin]))
        for i, pair in enumerate(() if added is None else added.exps):
            if pair is not None:
                logs[i] += math.log1p(max(pair[0] * math.exp(-logs[i]), -0.999))
        return np.asarray(logs)


def _best_atoms(features: FloatArray, most: int) -> BoolArray:
    """Return which atoms are among the ``most`` best by a reward, their sum or the worst of them, (n,)."""
    found = np.zeros(len(features), bool)
    for values in (*features.T, features.sum(axis=1), features.min(axis=1)):
        found[np.argpartition(-values, min(most, values.size - 1))[:most]] = True
    return found


@dataclass(frozen=True)
class Evaluator:
    """The evaluation of settings for one plan.

    Attributes:
        whole: all candidates and the real data.
        coarse: the coarse population of a few thousand atoms.
        goal: the objective and the constraints.
        groups: the groups' names.
        model: what the models of single settings are built from, where the candidates have contexts.
        warnings: reasons to rely on the plan less.
    """

    whole: Atoms
    coarse: Atoms
    goal: Goal
    groups: tuple[str, ...]
    model: LoopModel | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, candidates: Candidates, reference: Candidates | None, goal: Goal) -> Evaluator:
        """Check the candidates and coarsen their population."""
        rewards = candidates.rewards
        flat = (np.ptp(rewards, axis=0) == 0) | (rewards.var(axis=0) == 0)  # or it underflows
        if flat.any():
            raise InputError(
                "a reward is constant",
                got=", ".join(name for name, same in zip(candidates.names, flat, strict=True) if same),
                remedy="leave it out",
            )
        lost = rewards.std(axis=0) < LEAST_SPREAD * np.abs(rewards.mean(axis=0))
        if lost.any():
            which = int(lost.argmax())
            name, values = candidates.names[which], rewards[:, which]
            raise InputError(
                f"the differences between the rewards {name!r} are lost beside their size",
                got=f"mean {values.mean():.4g}, standard deviation {values.std():.2g}",
                remedy="subtract a constant: picks depend on differences of rewards only",
            )
        if candidates.contexts is not None:
            return cls._with_contexts(candidates, reference, goal)
        labels, names = _labelled(candidates, rewards)
        _check_groups(labels, names, goal)
        real = 0
        if reference is not None:
            real = len(reference)
            labels = np.concatenate([labels, _reference_labels(reference, candidates, rewards, names)])
            rewards = np.vstack([rewards, reference.rewards])
        whole = Atoms.of(rewards, labels, len(names), real)
        if goal.constraints.kl is not None and not whole.comparable:
            raise InputError(
                "the real data are too few, or too alike, to tell the divergence from them",
                got=f"{real} real samples and kl = {goal.constraints.kl:g}",
                remedy="leave out --kl, or give more real data",
            )
        return cls(whole, whole.coarsened(), goal, tuple(names))

    @classmethod
    def _with_contexts(cls, candidates: Candidates, reference: Candidates | None, goal: Goal) -> Evaluator:
        """Treat contexts as forecasts do: thick ones are populations of their own, thin ones pool residuals.

        Where contexts are populations of their own, the coarse population has ``CONTEXTS`` of them.
        """
        if reference is not None and goal.constraints.kl is not None:
            raise InputError(
                "within contexts the divergence from real data of their own cannot be estimated",
                got=f"kl = {goal.constraints.kl:g}",
                remedy="leave out --kl, or the reference",
            )
        centres = _centres(candidates)
        labels, names = _labelled(candidates, candidates.rewards - centres(candidates))
        _check_groups(labels, names, goal)
        order = np.argsort(names)
        texts = np.asarray(names)[order]
        candidates = replace(candidates, groups=np.asarray(names)[labels], labels=tuple(texts))
        if reference is not None:
            centred = candidates.rewards - centres(candidates)
            own = replace(reference, rewards=reference.rewards - centres(reference))
            found = (
                favourites(own.rewards, centred.max(axis=0))
                if reference.groups is None
                else _reference_labels(own, candidates, centred, names)
            )
            reference = replace(reference, groups=np.asarray(names)[found])
        rule = goal.manner.rule
        if isinstance(rule, Rule):
            rule = replace(rule, k=max(2, rule.keep))
        weights = np.full(len(candidates.names), 1 / len(candidates.names))
        setting = Setting(rule, tuple(weights), 0.0 if reference is None else 0.5, goal.rounds or LONG)
        model = LoopModel.build(candidates, None, reference, setting, None)
        if goal.rounds is None and model.mode != "pooled residuals":
            raise InputError(
                "limits are those of one population, and these contexts are populations of their own",
                got=f"contexts: {model.mode}",
                remedy="plan for a number of rounds, --rounds 10",
            )
        comparable = reference is None
        whole = Atoms.of_model(model, texts.tolist(), comparable=comparable)
        part = model
        codes = model.context_codes
        count = 0 if codes is None else int(codes.max()) + 1
        if whole.blocks is not None and count > CONTEXTS:
            part = model.of_contexts(np.random.default_rng(0).permutation(count), CONTEXTS / count)
        coarse = whole if part is model else Atoms.of_model(part, texts.tolist(), comparable=comparable)
        warnings = tuple(model.warnings())
        return cls(whole, coarse.coarsened(), goal, tuple(texts.tolist()), model, warnings)

    def scaled(self, factor: float) -> Evaluator:
        """Return the same for rewards that are all times a factor."""
        model = self.model
        if model is not None:
            atoms = model.describer.candidates
            scaled = replace(atoms, rewards=factor * atoms.rewards)
            model = replace(model, describer=replace(model.describer, candidates=scaled))
        whole, coarse = self.whole.scaled(factor), self.coarse.scaled(factor)
        return replace(self, whole=whole, coarse=coarse, model=model)

    def evaluate(self, choices: Sequence[Choice]) -> list[Outcome]:
        """Return the outcomes of settings on the coarse population, in batches of one K and temperature."""
        found: dict[Choice, Outcome] = {}
        keyed = sorted(choices, key=_batch)
        for _, part in itertools.groupby(keyed, key=_batch):
            batch = list(part)
            progress.step(len(found), len(choices))
            laws = self.coarse.laws(batch, self.goal.rounds or LONG, self.goal.manner)
            for choice, law in zip(batch, laws.T, strict=True):
                found[choice] = self.coarse.outcome(choice, law, self.goal)
        return [found[c] for c in choices]

    def exactly(self, choice: Choice) -> Outcome:
        """Return a setting's outcome on all candidates."""
        settles, added = True, None
        if self.goal.rounds is None:
            law, settles = self._limit(choice)
        else:
            law = self.whole.laws([choice], self.goal.rounds, self.goal.manner)[:, 0]
            added = self._correction(choice, self.goal.rounds)
        return replace(self.whole.outcome(choice, law, self.goal, added), exact=True, settles=settles)

    def _limit(self, choice: Choice) -> tuple[FloatArray, bool]:
        """Return the limit of a setting's laws (n,), and whether there is one."""
        population, manner = self.whole.population, self.goal.manner
        setting = manner.setting(choice, LONG)
        how = (
            {"k": choice.k, "temperature": choice.temperature}
            if manner.is_luce
            else {"rule": setting.rule, "then": setting.then}
        )
        end = limit(
            population.rewards, choice.weights, real_fraction=choice.real_fraction, law=population.law,
            reference=population.reference, **how,
        )  # fmt: skip
        return end.law, end.settles

    def _correction(self, choice: Choice, rounds: int) -> Correction | None:
        """Return what the unbiased first round of thin contexts adds, as forecasts have it."""
        if self.model is None or self.model.residuals is None:
            return None
        atoms, count = self.model.describer.candidates, self.model.candidates
        rows = np.arange(len(atoms))
        real = atoms.take(rows[count:]) if len(atoms) > count else None
        setting = self.goal.manner.setting(choice, rounds)
        return LoopModel.build(atoms.take(rows[:count]), None, real, setting, None).last_correction(1.0)


def _check_groups(labels: IntArray, names: Sequence[str], goal: Goal) -> None:
    counts = np.bincount(labels, minlength=len(names))
    if len(names) > 1 and counts.min() == 0:
        raise InputError(
            "a group has no members",
            got=names[int(counts.argmin())],
            remedy="leave its reward out, or name --group",
        )
    goal.constraints.check(len(names))


def _centres(candidates: Candidates) -> Callable[[Candidates], FloatArray]:
    """Return a function to the difference of contexts' mean rewards from all candidates' mean, (n, m)."""
    assert candidates.contexts is not None
    codes, names = encode(candidates.contexts)
    counts = np.bincount(codes)
    means = np.column_stack([np.bincount(codes, r) / counts for r in candidates.rewards.T])
    means -= candidates.rewards.mean(axis=0)
    index = {name: i for i, name in enumerate(names)}

    def of(other: Candidates) -> FloatArray:
        assert other.contexts is not None
        at = np.array([index.get(str(c), -1) for c in other.contexts])
        return np.where(at[:, None] < 0, 0.0, means[at])

    return of


def _batch(choice: Choice) -> tuple[float, float]:
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
