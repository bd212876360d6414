"""A loop as a model of laws: a population, its contexts, and the description of its laws."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.log.candidates import Candidates, group_names
from recurate.metrics import estimates
from recurate.metrics.describe import LARGEST_EXPONENT, Describer, Values
from recurate.metrics.estimates import Estimate
from recurate.metrics.partition import Cells
from recurate.rules.pools import Threshold
from recurate.rules.rule import Rule
from recurate.theory.chebyshev import Compressed, compressible, rate_of
from recurate.theory.population import Population
from recurate.theory.residuals import Correction, PooledResiduals, equal_spread_p_value, first_correction
from recurate.theory.setting import Setting, play
from recurate.theory.ustatistic import OneRound, unbiased_law

THICK = 500  # candidates per context that make each context a population of its own
MANY = 20_000  # number of atoms from which compression is faster
FAINT = 1e-60  # with masses below this part of a uniform one, laws are computed atom by atom
GROUPS = 64  # with more groups, laws are computed atom by atom
MOST_VERIFIERS = 6  # with more rewards of two values, few contexts have equal counts
LARGEST_SLATE = 256  # with larger slates the unbiased first round is too expensive


@dataclass(frozen=True)
class LoopModel:
    """A population, its treatment of contexts, and the description of its laws.

    Attributes:
        population: the candidates (then the reference's atoms, if real data are in the mix).
        candidates: the number of atoms that are candidates.
        setting: the selection and retraining of every round.
        describer: turns laws into quantities and rows.
        mode: the treatment of contexts: ``one``, ``each``, ``pooled residuals`` or ``each and pooled``.
        context_codes: the context of each atom, shape (atoms,), or None for one context.
        residuals: rewards of thin contexts, split into locations and residuals; None without thin contexts.
        cells: the partition behind ``kl_to_reference``, or None.
        cell_codes: the cell of each atom, shape (atoms,), or None.
        has_kl: whether ``kl_to_reference`` can be estimated.
    """

    population: Population
    candidates: int
    setting: Setting
    describer: Describer
    mode: str
    context_codes: IntArray | None
    residuals: PooledResiduals | None
    cells: Cells | None
    cell_codes: IntArray | None
    has_kl: bool = True

    @classmethod
    def build(
        cls,
        candidates: Candidates,
        law: FloatArray | None,
        reference: Candidates | None,
        setting: Setting,
        cells: Cells | None,
    ) -> LoopModel:
        """Build the model of a loop that starts from ``candidates``; see ``theory.forecast.predict``."""
        setting = setting.over(len(candidates.names))
        count = len(candidates)
        mixed = reference is not None and (setting.real_fraction > 0 or setting.accumulate)
        atoms = candidates.join(reference) if mixed and reference is not None else candidates
        extra = len(atoms) - count
        law = candidates.sample_law if law is None else law
        start = None if law is None and not extra else _padded(law, count, extra)
        mode, codes, residuals = _treat_contexts(atoms, count)
        if residuals is not None:
            _check_thin(residuals, setting, start)
        population = Population(
            atoms.rewards if residuals is None else residuals.residuals,
            law=start,
            reference=_reference_law(start, codes, count, reference) if extra and reference else None,
            weights=setting.weights,
            blocks=blocks_of(codes, residuals),
        )
        describer = Describer(atoms, setting.temperature, group_names(candidates, reference))
        return cls(
            population,
            count,
            setting,
            describer,
            mode,
            codes,
            residuals,
            cells,
            cells.assign(atoms.rewards) if cells is not None else None,
            has_kl=reference is None or cells is not None,
        )

    def of_contexts(self, order: IntArray, share: float) -> LoopModel:
        """Return the model of a share of the contexts: the first of ``order``, an order of context codes."""
        assert self.context_codes is not None
        chosen = order[: max(round(share * order.size), 1)]
        rows = np.flatnonzero(np.isin(self.context_codes, chosen))
        own, real = rows[rows < self.candidates], rows[rows >= self.candidates]
        atoms, law = self.describer.candidates, self.population.law[own]
        reference = atoms.take(real) if real.size else None
        model = LoopModel.build(atoms.take(own), law / law.sum(), reference, self.setting, self.cells)
        # All groups are described, even those that no chosen context has.
        names = self.describer.group_names
        return replace(model, describer=replace(model.describer, group_names=names), has_kl=self.has_kl)

    # --- laws and their quantities ----------------------------------------------------------------

    def values(self) -> Iterator[Values]:
        """Yield the quantities of rounds 0, 1, ...: exactly, in the infinite-data limit."""
        if self.compressed is not None:
            yield from self._compressed_values(self.compressed)
            return
        offsets = self._offsets()
        for t, law in enumerate(self.alike.play(self.setting)):
            yield self.describe(law, offsets[t])
        self._last["law"] = law

    @cached_property
    def blocks(self) -> IntArray | None:
        """The block of each atom, if contexts are populations of their own; those that are alike share one.

        Contexts whose rewards take two values and have equal counts evolve alike, up to their masses.
        """
        codes = self.context_codes
        if self.mode != "each" or codes is None:
            return codes
        return _alike(codes, self.candidates, self.population)

    @cached_property
    def alike(self) -> Population:
        """The population in fewer blocks, in which laws without noise are the same."""
        same = self.mode != "each" or self.blocks is self.context_codes
        return self.population if same else self.population.divided(self.blocks)

    @cached_property
    def last_law(self) -> FloatArray:
        """The law of the last round on the atoms, shape (atoms,)."""
        if self.compressed is None:
            if "law" not in self._last:
                *_, self._last["law"] = self.alike.play(self.setting)
            return self._last["law"]
        if "densities" not in self._last:
            *_, self._last["densities"] = self.compressed.play(self.setting)
        densities = self._last["densities"]
        laws = [self.population.law, self.population.reference]
        found = sum(p * self.compressed.at_atoms(d) for p, d in zip(laws, densities, strict=False))
        law = np.maximum(found, 0.0)
        return np.asarray(law / law.sum())

    @cached_property
    def _last(self) -> dict[str, FloatArray]:
        """What the last round's values leave for :attr:`last_law`: its law, or its densities at the nodes."""
        return {}

    def describe(self, law: FloatArray, offset: float = 0.0) -> Values:
        """Return the quantities of a law, plus ``offset`` times the unbiased first round's correction."""
        if self.residuals is None:
            return self.describer.values(law, self._kl(law))
        initial = self.population.law
        effective = self.residuals.effective_law(law, initial)
        exponentials = self.residuals.exp_moments(law, initial, self.setting.temperature)
        if offset and self._correction is not None:
            effective += offset * self._correction.masses
            exponentials = [
                (own[0] + offset * added[0], own[1] + offset * added[1]) if own and added else None
                for own, added in zip(exponentials, self._correction.exps, strict=True)
            ]
        found = self.describer.values(effective)
        moments = []
        for own, exps in zip(found.moments, exponentials, strict=True):
            part = {"mean_reward": own["mean_reward"]}
            if exps is not None:
                part["mean_exp_reward"] = Estimate(exps[0])
                part["var_exp_reward"] = Estimate(max(exps[1] - exps[0] ** 2, 0.0))
            moments.append(part)
        return replace(found, moments=moments, support=estimates.effective_support(law), kl=self._kl(law))

    def _kl(self, law: FloatArray) -> Estimate | None:
        if self.cells is not None and self.cell_codes is not None:
            counts = self.describer.candidates.counts
            return self.cells.kl(self.cell_codes, law, self.candidates, counts)
        if not self.has_kl:
            return None
        return Estimate(estimates.kl_atoms(law, self.population.reference))

    # --- one reward, many atoms -------------------------------------------------------------------

    @cached_property
    def compressed(self) -> Compressed | None:
        """The population on a few thousand nodes; None unless its laws are smooth functions of one reward."""
        atoms, setting = self.describer.candidates, self.setting
        if (
            self.mode != "one"
            or len(atoms.names) > 1
            or self.cells is not None
            or len(atoms) < MANY
            or len(self.describer.group_names) > GROUPS
            or self.describer.exponentials[0] is None
            or not compressible(setting)
            or self._faintest() < FAINT
        ):
            return None
        columns = {f"mean:{name}": values for name, values in atoms.tracked.items()}
        if self.describer.codes is not None:
            columns |= {
                f"share:{i}": (self.describer.codes == i).astype(float)
                for i in range(len(self.describer.group_names))
            }
        laws = [self.population.law]
        if self.population.reference is not self.population.law:
            laws.append(self.population.reference)
        columns["square"] = np.sum(laws, axis=0)  # candidates and reference have no atoms in common
        if atoms.counts is not None:
            columns["square"] /= atoms.counts
        return Compressed.of(
            atoms.rewards[:, 0] / setting.temperature,
            laws[0],
            laws[1] if len(laws) > 1 else None,
            rate=rate_of(setting),
            columns=columns,
        )

    def _faintest(self) -> float:
        """Return the smallest positive mass, relative to a uniform one: densities grow up to its inverse."""
        masses = self.population.law + self.population.reference
        return float(masses[masses > 0].min()) * masses.size

    def _compressed_values(self, nodes: Compressed) -> Iterator[Values]:
        exps = np.exp(nodes.utilities)
        for densities in nodes.play(self.setting):
            mass = nodes.law(densities)
            mean_exp = float(mass @ exps)
            moments = {
                "mean_reward": float(mass @ nodes.utilities) * self.setting.temperature,
                "mean_exp_reward": mean_exp,
                "var_exp_reward": max(float(mass @ np.square(exps - mean_exp)), 0.0),
            }
            names = [name for name in nodes.masses if name.startswith("share:")]
            shares = np.maximum([nodes.mean(densities, name) for name in names], 0.0)
            support = 1.0 / float(nodes.mean(np.square(densities), "square"))
            yield Values(
                [{name: Estimate(value) for name, value in moments.items()}],
                support,
                Estimate(_kl_of_density(densities[0], mass)) if self.has_kl else None,
                [Estimate(float(s)) for s in shares] if names else None,
                Estimate(estimates.entropy_of(shares)) if names else None,
                {
                    name.removeprefix("mean:"): Estimate(float(nodes.mean(densities, name)))
                    for name in nodes.masses
                    if name.startswith("mean:")
                },
            )
        self._last["densities"] = densities

    # --- thin contexts ----------------------------------------------------------------------------

    @cached_property
    def first_round(self) -> OneRound | None:
        """The unbiased law of the first round's picks in thin contexts; None where it is not identified."""
        rule = self.setting.rule
        if self.residuals is None or self.setting.then or not isinstance(rule, Rule) or rule.keep != 1:
            return None
        rows = self._thin_candidates
        codes = np.unique(self.residuals.codes[rows], return_inverse=True)[1]
        smallest = min(size for size, _ in rule.sizes)
        if smallest > min(np.bincount(codes).max(), LARGEST_SLATE):
            return None
        law = self.population.law[rows]
        found = unbiased_law(
            self.residuals.rewards[rows], codes, rule, self.population.weights, law=law / law.sum()
        )
        return found if found.usable.any() else None

    @cached_property
    def _thin_candidates(self) -> IntArray:
        assert self.residuals is not None
        return np.flatnonzero(self.residuals.thin[: self.candidates])

    @cached_property
    def _first_picks(self) -> FloatArray:
        """The residual model's law of the first picks, shape (atoms,)."""
        return self.population.select(self.population.law, self.setting.stages)

    @cached_property
    def _correction(self) -> Correction | None:
        if self.residuals is None or self.first_round is None:
            return None
        return self._correction_at(self.setting.temperature, self.residuals, self.first_round)

    def _correction_at(
        self, temperature: float, residuals: PooledResiduals, first_round: OneRound
    ) -> Correction:
        initial, rows = self.population.law, self._thin_candidates
        usable = first_round.usable[first_round.codes]
        return first_correction(
            residuals,
            rows[usable],
            (first_round.law * initial[rows].sum())[usable],
            self._first_picks,
            initial,
            temperature,
        )

    def last_correction(self, temperature: float) -> Correction | None:
        """Return what the unbiased first round adds to the last round's means, or None.

        Args:
            temperature: tau in E exp(reward / tau), which need not be the rule's.
        """
        if self.residuals is None or self.first_round is None or self._correction is None:
            return None
        left = float(self._offsets()[-1])
        found = self._correction
        if temperature != self.setting.temperature:
            found = self._correction_at(temperature, self.residuals, self.first_round)
        exps = [None if pair is None else (left * pair[0], left * pair[1]) for pair in found.exps]
        return Correction(left * found.masses, exps)

    def _offsets(self) -> FloatArray:
        """Return the part of the first picks' correction that remains in each round, shape (rounds + 1,).

        It enters with the first picks, and real data dilute it in later rounds.
        """
        if self._correction is None:
            return np.zeros(self.setting.rounds + 1)
        entered = iter([1.0] + [0.0] * self.setting.rounds)
        zero = np.zeros(())
        return np.array(list(play(self.setting, zero, zero, lambda x: x + next(entered))))

    # --- warnings ---------------------------------------------------------------------------------

    def warnings(self) -> list[str]:
        """Return the reasons to rely on this model less."""
        atoms = self.describer.candidates
        found = [
            f"E exp({name}) exceeds the range of doubles and is left out; subtract a constant"
            for name, top in zip(atoms.names, atoms.rewards.max(axis=0), strict=True)
            if top / self.setting.temperature >= LARGEST_EXPONENT
        ]
        if self.residuals is not None:
            found += self._about_thin_contexts(self.residuals)
        return found + self._about_two_values()

    def _about_two_values(self) -> list[str]:
        """Report contexts with few candidates whose rewards take two values: their shares are estimates."""
        if self.mode != "each" or self.context_codes is None:
            return []
        codes, rewards = self.context_codes[: self.candidates], self.describer.candidates.rewards
        sizes = np.bincount(codes)
        if sizes.min() >= THICK:
            return []
        law = np.bincount(codes, self.population.law[: self.candidates])
        found = []
        for name, own in zip(self.describer.candidates.names, rewards[: self.candidates].T, strict=True):
            low, high = own.min(), own.max()
            if low == high:
                continue
            never = float(law[np.bincount(codes, own == high) == 0].sum() / law.sum())
            found.append(
                f"{name} takes two values, and contexts have few candidates (from {sizes.min()}): each has "
                f"its own share of {high:g}. It is 0 in {never:.0%} of contexts, where it may grow all the "
                f"same: from round 1 on, the mean is understated for these, by at most "
                f"{never * (high - low):.2g}"
            )
        return found

    def _about_thin_contexts(self, residuals: PooledResiduals) -> list[str]:
        rows = self._thin_candidates
        codes, rewards = residuals.codes[rows], residuals.rewards[rows]
        names = self.describer.candidates.names
        smallest = int(residuals.sizes[residuals.sizes > 0].min())
        found = [
            f"contexts are thin (from {smallest} candidates): residuals from their mean rewards are "
            "pooled, which assumes that contexts differ in location only"
        ]
        codes = np.unique(codes, return_inverse=True)[1]
        p_values = [equal_spread_p_value(r, codes, np.random.default_rng(0)) for r in rewards.T]
        for name, p_value in zip(names, p_values, strict=True):
            if p_value is None:
                found.append(f"too few candidates to test whether {name} spreads equally in all contexts")
            elif p_value < 0.01:
                found.append(
                    f"the spread of {name} differs between contexts (p = {p_value:.1g}): the forecast is "
                    "an approximation"
                )
        return found + self._about_first_round(residuals)

    def _about_first_round(self, residuals: PooledResiduals) -> list[str]:
        if self.first_round is None:
            return []
        found = []
        rows, initial = self._thin_candidates, self.population.law
        picked = self._first_picks
        usable = self.first_round.usable[self.first_round.codes]  # the contexts that the estimate covers
        change = (residuals.effective_law(picked, initial) - initial)[rows] * usable
        change /= (initial[rows] * usable).sum()
        for i, name in enumerate(self.describer.candidates.names):
            column = residuals.rewards[rows, i]
            gain, error = self.first_round.gain(column)
            own = float(column @ change)
            if math.isfinite(error) and abs(gain - own) > 4 * error + 0.05 * abs(gain):
                found.append(
                    f"the pooled residuals make {name} gain {own:.3g} in the first round's picks, and "
                    f"an unbiased estimate, used for round 1, gives {gain:.3g}: do not rely on this forecast "
                    "beyond round 1"
                )
        if self.first_round.share_usable < 1:
            found.append(
                f"contexts with {1 - self.first_round.share_usable:.0%} of the mass have fewer candidates "
                "than a slate: their first round rests on the pooled residuals too"
            )
        return found


def _kl_of_density(density: FloatArray, mass: FloatArray) -> float:
    """Return sum of p_t log(p_t / p_0), for p_t = p_0 a with the density a at the nodes."""
    logs = np.log(np.where(density > 0, density, 1.0))
    return max(float(mass @ logs), 0.0)


def _padded(law: FloatArray | None, count: int, extra: int) -> FloatArray:
    masses = np.full(count, 1.0) if law is None else law
    return np.concatenate([masses, np.zeros(extra)])


def _reference_law(
    start: FloatArray | None, codes: IntArray | None, count: int, reference: Candidates
) -> FloatArray:
    """Return p_ref: uniform on the real data, with every context's mass that of the candidates.

    Contexts have a law of their own, which real data with other shares of contexts must not change.
    """
    own = np.ones(len(reference)) if reference.counts is None else reference.counts
    masses = np.concatenate([np.zeros(count), own])
    if codes is None:
        return masses
    wanted = np.bincount(codes, start)
    real = np.bincount(codes, masses)
    return np.asarray(masses * (wanted / np.where(real > 0, real, 1.0))[codes])


def _treat_contexts(atoms: Candidates, count: int) -> tuple[str, IntArray | None, PooledResiduals | None]:
    """Return the mode, context codes and, for thin contexts, the residuals."""
    if atoms.contexts is None:
        return "one", None, None
    codes, names = estimates.encode(atoms.contexts)
    own = np.bincount(codes[:count], minlength=len(names))
    real = np.bincount(codes[count:], minlength=len(names))
    for missing, whose, where in (
        (own == 0, "the reference", "candidate"),
        (real == 0, "the log", "real data"),
    ):
        if len(codes) > count and missing.any():
            raise InputError(
                f"{whose} has contexts that no {where} has",
                got=f"{names[int(np.argmax(missing))]!r} ({int(missing.sum())} such contexts)",
                remedy="real data in the mix need the same contexts as the candidates",
            )
    if own.min() >= THICK or _two_valued(atoms.rewards[:count]):
        return "each", codes, None
    residuals = PooledResiduals.of(atoms.rewards, codes, count, THICK)
    return "pooled residuals" if residuals.thin.all() else "each and pooled", codes, residuals


def _two_valued(rewards: FloatArray) -> bool:
    """Return whether every reward (count, m) takes two values only, as a verifier's does."""
    return all(np.isin(r, (r.min(), r.max())).all() for r in rewards.T)


def _alike(codes: IntArray, count: int, population: Population) -> IntArray:
    """Return the class of each atom's context: of one class are contexts with equal conditional laws.

    Recognised are contexts whose candidates (the first ``count`` atoms) and real data have equal masses each
    and rewards of two values, by their counts; other contexts are classes of their own.
    """
    rewards, m = population.rewards, population.rewards.shape[1]
    if m > MOST_VERIFIERS or not _two_valued(rewards):
        return codes
    values = (rewards == rewards.max(axis=0)) @ (1 << np.arange(m))  # one number for each combination
    shape = int(codes.max()) + 1, 1 << m
    keys = []
    for rows, law in ((slice(0, count), population.law), (slice(count, None), population.reference)):
        sizes = np.bincount(codes[rows], minlength=shape[0])
        even = np.bincount(codes[rows], law[rows], shape[0]) / np.maximum(sizes, 1)
        if not np.allclose(law[rows], even[codes[rows]], rtol=1e-12, atol=0.0):
            return codes
        cells = np.ravel_multi_index((codes[rows], values[rows]), shape)
        keys.append(np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape))
    classes = np.unique(np.hstack(keys), axis=0, return_inverse=True)[1]
    return np.asarray(classes.reshape(-1)[codes])


def _check_thin(residuals: PooledResiduals, setting: Setting, law: FloatArray | None) -> None:
    """Raise InputError for rules and laws that residuals from contexts' means do not identify."""
    if any(isinstance(stage.rule, Threshold) for stage in setting.stages):
        raise InputError(
            "a threshold applies to rewards themselves, but thin contexts are forecast from residuals",
            got=f"contexts with {int(residuals.sizes[residuals.sizes > 0].min())} candidates",
            remedy=f"log at least {THICK} candidates per context, or use a rule that compares candidates",
        )
    if law is None:
        return
    codes, masses = residuals.codes[: residuals.count], law[: residuals.count]
    even = (np.bincount(codes, masses) / np.maximum(residuals.sizes, 1))[codes]
    if not np.allclose(masses, even, rtol=1e-9) and residuals.thin.any():
        raise InputError(
            "candidates of one thin context must have equal masses",
            got="unequal masses within a context",
            remedy="leave the law out: the candidates of a context then have equal masses",
        )


def blocks_of(codes: IntArray | None, residuals: PooledResiduals | None) -> IntArray | None:
    """Return the block of each atom: its context, but one block for all thin contexts together."""
    if codes is None or residuals is None:
        return codes
    if residuals.thin.all():
        return None
    return np.where(residuals.thin, -1, codes)
