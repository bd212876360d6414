"""Where will this loop go? The exact law of every later round, from the candidates of one round."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recurate import measures
from recurate.candidates import (
    LARGEST_EXPONENT,
    Candidates,
    Describer,
    as_candidates,
    from_log,
)
from recurate.errors import InputError
from recurate.measures import Cells, Estimate
from recurate.records import MODEL, REAL, Log
from recurate.rules.rule import Rule
from recurate.seeds import Stream
from recurate.theory.contexts import PooledResiduals, equal_spread_p_value
from recurate.theory.population import Population, check_real_fraction, check_weights
from recurate.trajectory import FORECAST, MEASURED, Row, Trajectory

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

THICK = 500  # candidates a context from which each context is a population of its own
SUPPORT = 100.0  # effective support below which a forecast is "beyond support"
BATCHES = 20  # random groups behind the bands
SMALLEST_BATCH = 50  # candidates in one of them


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
class Forecast:
    """A forecast with its evidence.

    Attributes:
        trajectory: rounds 0, 1, ..., with 95 % bands where the pool is large enough.
        setting: what was forecast.
        candidates: how many candidates it was made from.
        law: the law of the last round on the candidates (then the reference's atoms, if real data are
            in the mix), shape (atoms,).
        contexts: how contexts were treated: ``one``, ``each`` (every context its own population) or
            ``pooled residuals``.
        support_ends: first round whose effective support is below 100, or None.
        warnings: what to know before relying on it.
    """

    trajectory: Trajectory
    setting: Setting
    candidates: int
    law: FloatArray
    contexts: str = "one"
    support_ends: int | None = None
    warnings: tuple[str, ...] = ()


def forecast(
    rewards: ArrayLike | Candidates,
    *,
    k: float = 4,
    rounds: int = 10,
    temperature: float = 1.0,
    weights: Sequence[float] | None = None,
    real_fraction: float = 0.0,
    groups: ArrayLike | None = None,
    track: Mapping[str, ArrayLike] | None = None,
    contexts: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    law: ArrayLike | None = None,
    reference: ArrayLike | Candidates | None = None,
    picks: int | None = None,
    cells: Cells | None = None,
    seed: int = 0,
) -> Forecast:
    r"""Forecast a self-consuming loop from one round's candidates and their rewards.

    The exact infinite-data law p_{t+1} = rho p_ref + (1 - rho) p_t W_t is pushed through all rounds
    (:mod:`recurate.theory.population`); no sampling is involved but in the bands.

    Args:
        rewards: shape (candidates,) or (candidates, rewards); or ``Candidates``.
        k: slate size, a whole number >= 1 or ``math.inf``.
        rounds: how many rounds to forecast.
        temperature: divides the rewards in the pick.
        weights: share of slates picked by each reward; equal if None.
        real_fraction: share rho of real data in each retraining set.
        groups: group of each candidate, shape (candidates,), for ``share`` and ``entropy``.
        track: further columns (candidates,) whose expectation is forecast, as ``mean:NAME``.
        contexts: context of each candidate. Selection happens within contexts: with 500 candidates or
            more in each, every context is its own population; with fewer, residuals from the contexts'
            means are pooled (:mod:`recurate.theory.contexts`). Raw rewards are never pooled.
        names: names of the rewards.
        law: masses of the candidates under the model's law p_0; uniform if None.
        reference: rewards of real data, p_ref; None: the model's own law, p_ref = p_0. With groups or
            tracked columns and real_fraction > 0, pass ``Candidates``.
        picks: picks a round, for the bands; None: infinitely many.
        cells: partition behind ``kl_to_reference``, to match a measurement's; see :func:`predict`.
        seed: of the random groups behind the bands.

    Returns:
        A :class:`Forecast`. Quantities: ``mean_reward``, ``mean_exp_reward`` = E exp(r / temperature),
        ``var_exp_reward``, ``kl_to_reference`` (between reward laws: a lower bound of the models' KL),
        ``share`` of each group and their ``entropy`` (nats), ``effective_support`` = 1 / sum p^2.

    Raises:
        InputError: a value is out of range or shapes disagree.

    >>> import recurate
    >>> result = recurate.forecast([0.0, 1.0, 2.0], k=2, rounds=1)
    >>> [round(v, 4) for v in result.trajectory.values("mean_reward")]
    [1.0, 1.4062]
    """
    candidates = as_candidates(rewards, names=names, groups=groups, track=track, contexts=contexts)
    if reference is not None and not isinstance(reference, Candidates):
        reference = as_candidates(reference, names=candidates.names)
    setting = Setting(
        rule=Rule(k, temperature),
        weights=tuple(check_weights(None if weights is None else np.asarray(weights), len(candidates.names))),
        real_fraction=check_real_fraction(real_fraction),
        rounds=_check_count("rounds", rounds, 0),
        picks=None if picks is None else _check_count("picks", picks, 1),
    )
    return predict(
        candidates,
        setting,
        law=None if law is None else np.asarray(law, float),
        reference=reference,
        cells=cells,
        stream=Stream(seed),
    )


def _check_count(name: str, value: int, least: int) -> int:
    if value != int(value) or value < least:
        raise InputError(
            f"{name} must be a whole number >= {least}",
            got=value,
            remedy=f"for example {name} = 10",
        )
    return int(value)


def predict(
    candidates: Candidates,
    setting: Setting,
    *,
    law: FloatArray | None = None,
    reference: Candidates | None = None,
    cells: Cells | None = None,
    stream: Stream | None = None,
) -> Forecast:
    """Forecast from candidates; see :func:`forecast`.

    Args:
        candidates: the first round's.
        setting: what happens every round.
        law: p_0 on the candidates; uniform if None.
        reference: real data; None: p_ref = p_0.
        cells: partition behind ``kl_to_reference`` where forecast and measurement must be alike; None:
            made from the reference, or exact on the atoms if p_ref = p_0.
        stream: randomness of the bands; None: no bands.
    """
    if cells is None and reference is not None and candidates.contexts is None:
        cells = measures.partition(reference.rewards)
    model = _Model.build(candidates, law, reference, setting, cells)
    rows: list[Row] = []
    supports: list[float] = []
    last = model.population.law
    for t, last in enumerate(model.laws(setting)):
        rows += model.rows(t, last)
        supports.append(measures.effective_support(last))
    ends = next((t for t, support in enumerate(supports) if support < SUPPORT), None)
    warnings = [*model.warnings]
    if stream is not None:
        bands = _bands(candidates, law, reference, setting, cells, stream)
        rows = [_with_band(row, bands.get((row.round, *row.key))) for row in rows]
        if not bands:
            warnings.append(
                f"{len(candidates)} candidates are too few for bands (at least "
                f"{5 * SMALLEST_BATCH} are needed)"
            )
    if ends is not None:
        warnings.append(
            f"from round {ends} on the effective support is below {SUPPORT:g} candidates "
            f"({supports[ends]:.0f}): those values are beyond what this pool can tell"
        )
    return Forecast(
        Trajectory(tuple(rows)), setting, len(candidates), last, model.mode, ends, tuple(warnings)
    )


@dataclass(frozen=True)
class _Model:
    """A population with what is needed to describe its laws."""

    population: Population
    describer: Describer
    mode: str
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
    ) -> _Model:
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
        return cls(population, describer, mode, residuals, cells, codes, tuple(warnings))

    def laws(self, setting: Setting) -> Iterable[FloatArray]:
        return self.population.trajectory(
            setting.rule, rounds=setting.rounds, real_fraction=setting.real_fraction
        )

    def rows(self, t: int, law: FloatArray) -> list[Row]:
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


def group_names(candidates: Candidates, reference: Candidates | None) -> tuple[str, ...]:
    """Return the groups that occur among the candidates or the real data, sorted."""
    if candidates.groups is None:
        return ()
    names = set(np.unique(candidates.groups).tolist())
    if reference is not None and reference.groups is not None:
        names |= set(np.unique(reference.groups).tolist())
    return tuple(sorted(names))


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


# --- bands ----------------------------------------------------------------------------------------


def _bands(
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
        model = _Model.build(
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
        if len(names) >= 5 * SMALLEST_BATCH:
            units = codes
    distinct = int(units.max()) + 1
    count = min(BATCHES, distinct // SMALLEST_BATCH)
    if count < 5:
        return None
    label = rng.permutation(distinct) % count
    real: list[IntArray | None] = [None] * count
    if reference is not None:
        real_label = rng.permutation(len(reference)) % count
        if len(reference) < count or reference.contexts is not None:
            return None
        real = [np.flatnonzero(real_label == g) for g in range(count)]
    return [(np.flatnonzero(label[units] == g), real[g]) for g in range(count)]


def _noisy_laws(model: _Model, setting: Setting, parts: int, stream: Stream) -> Iterable[FloatArray]:
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


def _with_band(row: Row, half: float | None) -> Row:
    if half is None:
        return row
    low = {"mean_reward": -math.inf}.get(row.quantity, 0.0)
    low = -math.inf if row.quantity.startswith("mean:") else low
    high = 1.0 if row.quantity == "share" else math.inf
    return replace(row, lower=max(row.value - half, low), upper=min(row.value + half, high))


# --- from logs ------------------------------------------------------------------------------------


def measured(
    log: Log,
    *,
    temperature: float,
    group: str | None = None,
    track: Sequence[str] = (),
    context: str = "context",
    cells: Cells | None = None,
    names: tuple[str, ...] = (),
) -> Trajectory:
    """Return the same quantities as measured in every round of a log, on the model's candidates.

    Args:
        log: one or several rounds.
        temperature: of exp_reward.
        group: column of groups, or None.
        track: further columns whose mean is measured.
        context: column of contexts.
        cells: partition behind ``kl_to_reference``; None leaves it out.
        names: the groups, in order; empty: those that occur.
    """
    generated = log.select(source=MODEL)
    rows: list[Row] = []
    top = generated.reward_matrix().max(axis=0) / temperature
    everything = from_log(generated, group=group, track=track, context=context)
    labels = names or group_names(everything, None)
    for t in generated.rounds():
        candidates = everything.take(generated.column("round") == t)
        describer = Describer(candidates, temperature, labels, tuple(top.tolist()))
        kl = cells.kl(cells.assign(candidates.rewards)) if cells is not None else None
        rows += describer.rows(t, source=MEASURED, kl=kl)
    return Trajectory(tuple(rows))


def split_log(
    log: Log, *, group: str | None = None, track: Sequence[str] = (), context: str = "context"
) -> tuple[Candidates, Candidates | None]:
    """Return the first round's candidates and real data (None if the log holds none).

    Raises:
        InputError: the log has no generated candidates.
    """
    generated = log.select(source=MODEL)
    if generated.table.num_rows == 0:
        raise InputError(
            "the log holds no generated candidates",
            got=f"sources {sorted(set(log.column('source').tolist()))}",
            remedy=f"candidates have source {MODEL!r}, real data {REAL!r}",
        )
    first = generated.rounds()[0]
    candidates = from_log(generated.select(round=first), group=group, track=track, context=context)
    real = log.select(source=REAL, round=first)
    if real.table.num_rows == 0:
        return candidates, None
    reference = from_log(real, group=group, track=track, context=context)
    if candidates.contexts is None:
        reference = replace(reference, contexts=None)
    return candidates, reference
