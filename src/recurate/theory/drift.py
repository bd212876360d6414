"""Bands: the sampling error of a forecast, from the pool it was made from and from finitely many picks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate import measures
from recurate.candidates import Candidates, group_names
from recurate.measures import Cells
from recurate.seeds import Stream
from recurate.theory.loopmodel import LoopModel, Setting
from recurate.trajectory import Row

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BATCHES = 20  # random groups behind the bands
SMALLEST_BATCH = 50  # candidates in one of them
LEAST_BATCHES = 5


def bands(
    candidates: Candidates,
    law: FloatArray | None,
    reference: Candidates | None,
    setting: Setting,
    cells: Cells | None,
    stream: Stream,
) -> dict[tuple[Any, ...], float]:
    """Return the half-width of the 95 % band of every (round, quantity, reward, group).

    Random groups (Wolter 2007, Introduction to Variance Estimation, ch. 2): the pool is cut into G
    random parts, each is forecast on its own with a G-th of the picks, drawn by chance; the spread of
    the parts, divided by sqrt(G), is the standard error of the whole. It contains the pool's sampling
    error and that of finitely many picks a round; each value's band holds on its own.
    """
    members = _random_groups(candidates, reference, stream)
    if members is None:
        return {}
    from scipy.special import stdtrit

    count = len(members)
    values: dict[tuple[Any, ...], list[float]] = {}
    for g, (own, real) in enumerate(members):
        part = candidates.take(own)
        model = LoopModel.build(
            part,
            None if law is None else law[own],
            None if reference is None or real is None else reference.take(real),
            setting,
            cells,
        )
        names = group_names(candidates, reference)
        model = replace(model, describer=replace(model.describer, group_names=names))
        for t, current in enumerate(_noisy_laws(model, setting, count, stream.at("band", g))):
            for row in model.rows(t, current):
                values.setdefault((row.round, *row.key), []).append(row.value)
    quantile = float(stdtrit(count - 1, 0.975))
    return {
        key: quantile * float(np.std(found, ddof=1)) / math.sqrt(count)
        for key, found in values.items()
        if len(found) == count and key[1] != "effective_support"
    }


def _random_groups(
    candidates: Candidates, reference: Candidates | None, stream: Stream
) -> list[tuple[IntArray, IntArray | None]] | None:
    """Cut candidates and reference into parts; contexts that are many stay whole."""
    rng = stream.at("random groups").generator()
    units = np.arange(len(candidates))
    if candidates.contexts is not None:
        codes, names = measures.encode(candidates.contexts)
        if len(names) >= LEAST_BATCHES * SMALLEST_BATCH:
            units = codes
    distinct = int(units.max()) + 1
    count = min(BATCHES, distinct // SMALLEST_BATCH)
    if count < LEAST_BATCHES:
        return None
    label = rng.permutation(distinct) % count
    real: list[IntArray | None] = [None] * count
    if reference is not None:
        real_label = rng.permutation(len(reference)) % count
        if len(reference) < count or reference.contexts is not None:
            return None
        real = [np.flatnonzero(real_label == g) for g in range(count)]
    return [(np.flatnonzero(label[units] == g), real[g]) for g in range(count)]


def _noisy_laws(model: LoopModel, setting: Setting, parts: int, stream: Stream) -> Iterable[FloatArray]:
    """Yield the laws of one random group, with its share of the picks drawn by chance."""
    law = model.population.law
    yield law
    rng = stream.generator()
    for _ in range(setting.rounds):
        picked = model.population.curate(law, setting.rule)
        if setting.picks is not None:
            picked = model.population.resample(picked, max(setting.picks // parts, 1), rng)
        rho = setting.real_fraction
        law = rho * model.population.reference + (1 - rho) * picked
        yield law


def with_band(row: Row, half: float | None) -> Row:
    """Return the row with its band, cut to the quantity's range; unchanged if there is none."""
    if half is None:
        return row
    low = {"mean_reward": -math.inf}.get(row.quantity, 0.0)
    low = -math.inf if row.quantity.startswith("mean:") else low
    high = 1.0 if row.quantity == "share" else math.inf
    return replace(row, lower=max(row.value - half, low), upper=min(row.value + half, high))
