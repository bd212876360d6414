"""Bands: the sampling error of a forecast, from the pool it was made from and from finitely many picks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate import measures
from recurate.measures import NORMAL_975, Cells
from recurate.seeds import Stream
from recurate.theory.loopmodel import LoopModel, Setting
from recurate.trajectory import Row

FloatArray = NDArray[np.float64]

REPLICATES = 60
POOL = 40_000  # a larger pool's error is read off a random part of this size, and scaled
CONTEXTS = 20  # likewise of this many contexts, where each is a population of its own
SMALLEST_POOL = 250  # fewer candidates say too little about their own spread
FEWEST_CONTEXTS = 30  # likewise, where contexts are drawn again

Key = tuple[Any, ...]  # (round, quantity, reward, group)


def bands(model: LoopModel, setting: Setting, stream: Stream, part: float = 1.0) -> dict[Key, float]:
    """Return the half-width of the 95 % band of every (round, quantity, reward, group); empty if too few.

    A bootstrap: in every replicate the pool is drawn again from itself (whole contexts, where contexts are
    pooled), so is the reference, and if the number of picks is finite every round's picks are drawn from
    the law that the last draw left. The spread of the replicates is the standard error of the forecast as
    a prediction of one real loop. Each value's band holds on its own, not all at once.

    Args:
        model: the loop's model, or one made from a random part of its pool.
        setting: what happens every round.
        stream: randomness.
        part: how large a part: its picks shrink alike, and its errors by the square root (m out of n).
    """
    if model.candidates < SMALLEST_POOL or (
        model.residuals is not None and np.count_nonzero(model.residuals.sizes) < FEWEST_CONTEXTS
    ):
        return {}
    values: dict[Key, list[float]] = {}
    if setting.picks is not None:
        setting = replace(setting, picks=max(round(setting.picks * part), 1))
    for b in range(REPLICATES):
        for t, (again, law) in enumerate(_replicate(model, setting, stream.at("band", b).generator())):
            for row in again.rows(t, law):
                values.setdefault((row.round, *row.key), []).append(row.value)
    return {
        key: NORMAL_975 * math.sqrt(part) * float(np.std(found, ddof=1))
        for key, found in values.items()
        if len(found) == REPLICATES and key[1] != "effective_support"
    }


def _replicate(
    model: LoopModel, setting: Setting, rng: np.random.Generator
) -> Iterator[tuple[LoopModel, FloatArray]]:
    """Yield the laws of one replicate, each with the model that describes it."""
    population = model.population
    law, reference = _draw_pool(model, rng)
    again = replace(
        model, population=population.with_laws(law, reference), cells=_draw_cells(model, reference, rng)
    )
    yield again, law
    rho = setting.real_fraction
    for _ in range(setting.rounds):
        picked = population.curate(law, setting.rule)
        if setting.picks is not None:
            picked = population.resample(picked, setting.picks, rng)
        law = rho * reference + (1 - rho) * picked
        yield again, law


def _draw_pool(model: LoopModel, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw candidates and reference again: masses of one bootstrap sample of each."""
    population, count = model.population, model.candidates
    law = population.law.copy()
    if model.mode == "pooled residuals" and model.context_codes is not None:
        codes = model.context_codes[:count]
        chosen = np.unique(codes)
        times = rng.multinomial(chosen.size, np.full(chosen.size, 1 / chosen.size))
        law[:count] *= times[np.searchsorted(chosen, codes)]
        law /= law.sum()
    else:
        # Unequal masses are worth fewer draws than there are candidates.
        worth = max(round(measures.effective_support(population.law)), 1)
        law = population.resample(population.law, worth, rng)
    if population.reference is population.law:
        return law, law
    reference = population.reference
    if len(reference) > count:
        reference = population.resample(reference, len(reference) - count, rng)
    return law, reference


def _draw_cells(model: LoopModel, reference: FloatArray, rng: np.random.Generator) -> Cells | None:
    """Draw the reference again in the partition too: the same draw if it is part of the population."""
    cells, count = model.cells, model.candidates
    if cells is None or model.cell_codes is None:
        return cells
    if len(reference) > count:
        masses = np.bincount(model.cell_codes[count:], reference[count:], cells.reference.size) * 1.0
    else:
        masses = rng.multinomial(cells.reference_size, cells.reference) / cells.reference_size
    drawn: FloatArray = np.maximum(masses, 0.5 / cells.reference_size)
    return replace(cells, reference=drawn / drawn.sum())


def with_band(row: Row, half: float | None) -> Row:
    """Return the row with its band, cut to the quantity's range; unchanged if there is none."""
    if half is None:
        return row
    low = -math.inf if row.quantity == "mean_reward" or row.quantity.startswith("mean:") else 0.0
    high = 1.0 if row.quantity == "share" else math.inf
    return replace(row, lower=max(row.value - half, low), upper=min(row.value + half, high))
