"""A loop as a model of laws: a population, its contexts, and how its laws are described."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate import measures
from recurate.candidates import LARGEST_EXPONENT, Candidates, Describer, group_names
from recurate.errors import InputError
from recurate.measures import Cells, Estimate
from recurate.rules.rule import Rule
from recurate.theory.contexts import PooledResiduals, equal_spread_p_value, first_gain
from recurate.theory.population import Population
from recurate.trajectory import FORECAST, Row

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

THICK = 500  # candidates a context from which each context is a population of its own


@dataclass(frozen=True)
class Setting:
    """What happens in every round.

    Attributes:
        rule: how one candidate of a slate is picked.
        weights: share of slates picked by each reward, shape (rewards,).
        real_fraction: share of real data in each retraining set, 1 / (1 + lambda).
        rounds: how many rounds of curation and retraining.
        picks: picks a round, or None for the infinite-data limit; affects the bands only.
    """

    rule: Rule
    weights: tuple[float, ...]
    real_fraction: float
    rounds: int
    picks: int | None = None

    def facts(self) -> dict[str, Any]:
        """Return the setting as plain values, for tables and reports."""
        return {
            "k": "inf" if math.isinf(self.rule.k) else int(self.rule.k),
            "temperature": self.rule.temperature,
            "weights": list(self.weights),
            "real_fraction": self.real_fraction,
            "rounds": self.rounds,
            "picks": self.picks,
        }


@dataclass(frozen=True)
class LoopModel:
    """A population with what is needed to describe its laws.

    Attributes:
        population: the candidates (then the reference's atoms, if real data are in the mix).
        candidates: how many of the atoms are candidates.
        describer: turns laws into trajectory rows.
        mode: how contexts are treated: ``one``, ``each`` or ``pooled residuals``.
        context_codes: context of each atom, or None for one context.
        residuals: in the last mode, the rewards split into locations and residuals.
        cells: the partition behind ``kl_to_reference``, or None.
        cell_codes: each atom's cell, or None.
        has_kl: whether ``kl_to_reference`` can be told.
    """

    population: Population
    candidates: int
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
        """Build the model of a loop that starts from ``candidates``; see ``recurate.forecasting.predict``."""
        count = len(candidates)
        mixed = reference is not None and setting.real_fraction > 0
        atoms = candidates.join(reference) if mixed and reference is not None else candidates
        extra = len(atoms) - count
        start = None if law is None and not extra else _padded(law, count, extra)
        mode, codes, residuals = _treat_contexts(atoms, count)
        population = Population(
            atoms.rewards if residuals is None else residuals.residuals,
            law=start,
            reference=_reference_law(start, codes, count, extra) if extra else None,
            weights=np.array(setting.weights),
            blocks=codes if mode == "each" else None,
        )
        describer = Describer(atoms, setting.rule.temperature, group_names(candidates, reference))
        return cls(
            population,
            count,
            describer,
            mode,
            codes,
            residuals,
            cells,
            cells.assign(atoms.rewards) if cells is not None else None,
            has_kl=reference is None or cells is not None,
        )

    def warnings(self, setting: Setting) -> list[str]:
        """Return what to know before relying on this model."""
        atoms = self.describer.candidates
        found = [
            f"E exp({name}) exceeds the range of doubles and is left out; subtract a constant"
            for name, top in zip(atoms.names, atoms.rewards.max(axis=0), strict=True)
            if top / setting.rule.temperature >= LARGEST_EXPONENT
        ]
        if self.residuals is not None:
            found += self._about_thin_contexts(self.residuals, setting)
        return found

    def _about_thin_contexts(self, residuals: PooledResiduals, setting: Setting) -> list[str]:
        codes, rewards = residuals.codes[: self.candidates], residuals.rewards[: self.candidates]
        names = self.describer.candidates.names
        smallest = int(residuals.sizes[residuals.sizes > 0].min())
        found = [
            f"contexts are thin (from {smallest} candidates): residuals from their mean rewards are "
            "pooled, which supposes that contexts differ in location only"
        ]
        p_values = [equal_spread_p_value(r, codes, np.random.default_rng(0)) for r in rewards.T]
        for name, p_value in zip(names, p_values, strict=True):
            if p_value is None:
                found.append(f"whether {name} spreads alike in all contexts cannot be told from so few")
            elif p_value < 0.01:
                found.append(
                    f"the spread of {name} differs between contexts (p = {p_value:.1g}): the forecast is "
                    "an approximation"
                )
        unbiased = first_gain(rewards, codes, setting.rule, self.population.weights, np.random.default_rng(0))
        if unbiased is not None:
            law, rule = self.population.law, setting.rule
            change = self.population.curate(law, rule) - law
            pooled = self.population.rewards.T @ change
            for name, gain, error, own in zip(names, *unbiased, pooled, strict=True):
                if abs(gain - own) > 4 * error + 0.05 * abs(gain):
                    found.append(
                        f"the pooled residuals make {name} gain {own:.3g} in the first round's picks, and "
                        f"an unbiased estimate says {gain:.3g}: do not rely on this forecast"
                    )
        return found

    def laws(self, setting: Setting) -> Iterable[FloatArray]:
        """Yield the exact laws of rounds 0, 1, ..."""
        return self.population.trajectory(
            setting.rule, rounds=setting.rounds, real_fraction=setting.real_fraction
        )

    def rows(self, t: int, law: FloatArray) -> list[Row]:
        """Return the quantities of the law of round t."""
        if self.residuals is None:
            return self.describer.rows(t, source=FORECAST, law=law, kl=self._kl(law))
        initial = self.population.law
        return self.describer.rows(
            t,
            source=FORECAST,
            law=self.residuals.effective_law(law, initial),
            kl=self._kl(law),
            moments=self.residuals.moments(law, initial, self.describer.temperature),
            support=measures.effective_support(law),
        )

    def _kl(self, law: FloatArray) -> Estimate | None:
        if self.cells is not None and self.cell_codes is not None:
            return self.cells.kl(self.cell_codes, law, self.candidates)
        if not self.has_kl:
            return None
        divergence = measures.kl_atoms(law, self.population.reference)
        return Estimate(divergence)


def _padded(law: FloatArray | None, count: int, extra: int) -> FloatArray:
    masses = np.full(count, 1.0) if law is None else law
    return np.concatenate([masses, np.zeros(extra)])


def _reference_law(start: FloatArray | None, codes: IntArray | None, count: int, extra: int) -> FloatArray:
    """Return p_ref: uniform on the real data, with every context's mass that of the candidates.

    Contexts are drawn from a law of their own, which real data in another mix must not change.
    """
    masses = np.concatenate([np.zeros(count), np.ones(extra)])
    if codes is None:
        return masses
    wanted = np.bincount(codes, start)
    real = np.bincount(codes, masses)
    return np.asarray(masses * (wanted / np.where(real > 0, real, 1.0))[codes])


def _treat_contexts(atoms: Candidates, count: int) -> tuple[str, IntArray | None, PooledResiduals | None]:
    """Return the mode, context codes and, for thin contexts, the residuals."""
    if atoms.contexts is None:
        return "one", None, None
    codes, names = measures.encode(atoms.contexts)
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
    if own.min() >= THICK:
        return "each", codes, None
    return "pooled residuals", codes, PooledResiduals.of(atoms.rewards, codes, count)
