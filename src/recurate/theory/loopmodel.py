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
from recurate.theory.contexts import PooledResiduals, equal_spread_p_value
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
        warnings: what to know before relying on it.
    """

    population: Population
    candidates: int
    describer: Describer
    mode: str
    context_codes: IntArray | None
    residuals: PooledResiduals | None
    cells: Cells | None
    cell_codes: IntArray | None
    warnings: tuple[str, ...]

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
        p_ref = np.r_[np.zeros(count), np.full(extra, 1.0)] if extra else None
        mode, blocks, residuals = _treat_contexts(atoms, count)
        population = Population(
            atoms.rewards if residuals is None else residuals.residuals,
            law=start,
            reference=p_ref,
            weights=np.array(setting.weights),
            blocks=blocks if mode == "each" else None,
        )
        warnings = [*_context_warnings(residuals, blocks, candidates, mode)]
        warnings += [
            f"E exp({name}) exceeds the range of doubles and is left out; subtract a constant"
            for name, top in zip(atoms.names, atoms.rewards.max(axis=0), strict=True)
            if top / setting.rule.temperature >= LARGEST_EXPONENT
        ]
        describer = Describer(atoms, setting.rule.temperature, group_names(candidates, reference))
        codes = cells.assign(atoms.rewards) if cells is not None else None
        return cls(population, count, describer, mode, blocks, residuals, cells, codes, tuple(warnings))

    def laws(self, setting: Setting) -> Iterable[FloatArray]:
        """Yield the exact laws of rounds 0, 1, ..."""
        return self.population.trajectory(
            setting.rule, rounds=setting.rounds, real_fraction=setting.real_fraction
        )

    def rows(self, t: int, law: FloatArray) -> list[Row]:
        """Return the quantities of the law of round t."""
        temperature = self.describer.temperature
        moments = (
            None if self.residuals is None else self.residuals.moments(law, self.population.law, temperature)
        )
        return self.describer.rows(t, source=FORECAST, law=law, kl=self._kl(law), moments=moments)

    def _kl(self, law: FloatArray) -> Estimate | None:
        if self.cells is not None and self.cell_codes is not None:
            return self.cells.kl(self.cell_codes, law)
        divergence = measures.kl_atoms(law, self.population.reference)
        # Real data on atoms of their own say nothing about density ratios.
        return None if math.isinf(divergence) else Estimate(divergence)


def _padded(law: FloatArray | None, count: int, extra: int) -> FloatArray:
    masses = np.full(count, 1.0) if law is None else law
    return np.concatenate([masses, np.zeros(extra)])


def _treat_contexts(atoms: Candidates, count: int) -> tuple[str, IntArray | None, PooledResiduals | None]:
    """Return the mode, context codes and, for thin contexts, the residuals."""
    if atoms.contexts is None:
        return "one", None, None
    codes, names = measures.encode(atoms.contexts)
    own = np.bincount(codes[:count], minlength=len(names))
    if np.any(own == 0):
        missing = names[int(np.argmin(own))]
        raise InputError(
            "the reference has contexts that no candidate has",
            got=repr(missing),
            remedy="use real data of the same contexts as the candidates",
        )
    if own.min() >= THICK:
        return "each", codes, None
    return "pooled residuals", codes, PooledResiduals.of(atoms.rewards, codes)


def _context_warnings(
    residuals: PooledResiduals | None, codes: IntArray | None, candidates: Candidates, mode: str
) -> list[str]:
    if residuals is None or codes is None:
        return []
    smallest = int(np.bincount(codes).min())
    found = [
        f"contexts are thin (from {smallest} candidates): residuals from their mean rewards are "
        "pooled, which is exact if contexts differ in location only"
    ]
    p_values = [equal_spread_p_value(r, codes) for r in residuals.rewards.T]
    for name, p_value in zip(candidates.names, p_values, strict=True):
        if p_value < 0.01:
            found.append(
                f"the spread of {name} differs between contexts (Brown-Forsythe p = {p_value:.1g}): "
                "pooled residuals are an approximation here"
            )
    return found
