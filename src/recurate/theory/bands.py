r"""Bands: how far a real loop may deviate from its forecast.

The forecast is the infinite-data law, computed from a pool. A real loop differs because the pool was
only a sample of its model's law, and because every round picks finitely many and draws finitely many real
data. With Q(p, noise) a quantity after some rounds from the law p, the difference is

.. math:: Q(p, \text{noise}) - Q(\hat p) = [Q(p, \text{noise}) - Q(p)] - [Q(\hat p) - Q(p)].

Both brackets are simulated with the pool in the place of the unknown p: the first by loops that draw their
picks (and real data) at random, the second by forecasts from pools drawn anew. They enter with opposite
signs, and so do their biases. The difference D of independent copies of the two, on a scale where a
quantity is about symmetric (logarithms, arcsine roots of shares, cube roots of divergences), has mean c
and standard deviation s in each round and quantity. The band is Q + c +- z s with one z for all: the 95 %
quantile of max abs(D - c) / s over rounds and quantities, so that a whole loop stays inside with 95 %
probability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from recurate.core import progress
from recurate.core.arrays import FloatArray, IntArray
from recurate.core.seeds import Stream
from recurate.log.trajectory import Row
from recurate.metrics.partition import partition
from recurate.rules.convolution import NARROW
from recurate.rules.lattice import shorten_gaps
from recurate.theory.coarsening import FEWEST_CONTEXTS, sampled, smaller
from recurate.theory.extinction import Extinction, Losses, membership
from recurate.theory.loop_model import GROUPS, LoopModel
from recurate.theory.setting import play

LEVEL = 0.95
REPLICATES = 399  # so that the 95 % quantile is one of the values: the 380th
FEWEST_REPLICATES = 99
WORK = 4_000_000  # atoms times replicates worked on at once
APART = 60.0  # longest gap between candidates that bands keep, in nats
WIDEST = 400.0  # widest range of rewards, in nats, over which hundreds of loops are affordable
CARRIERS = 50  # minimum effective number of atoms that determine an error
VAGUE = math.log(1000.0)  # half-width, in nats, from which on a band of E e^r or Var e^r says nothing
SMALLEST_POOL = 250  # minimum number of candidates

EXPONENTIAL = ("mean_exp_reward", "var_exp_reward")  # banded on the scale of their logarithms
Key = tuple[str, str | None, str | None]  # quantity, reward, group


@dataclass(frozen=True)
class Bands:
    """The bands of a forecast.

    Attributes:
        critical: z, the half-width in standard deviations.
        centre: the mean of D by (round, key), on the quantity's scale.
        sd: the standard deviation of D by (round, key), on the same scale.
        groups: the number of groups.
        extinctions: the extinction of every group that may die out.
    """

    critical: float
    centre: dict[tuple[int, Key], float]
    sd: dict[tuple[int, Key], float]
    groups: int = 1
    extinctions: tuple[Extinction, ...] = ()

    def around(self, row: Row) -> Row:
        """Return the row with its band; a row without one is returned unchanged."""
        at = (row.round, row.key)
        if at not in self.sd or (row.quantity == "var_exp_reward" and row.value < 1e-20):
            return row
        middle = to_scale(row.key, np.array(row.value), self.groups) + self.centre[at]
        reach = self.critical * self.sd[at]
        if row.quantity in EXPONENTIAL and reach > VAGUE:  # in some loops the variance is zero
            return row
        low, high = (float(from_scale(row.key, middle + side * reach, self.groups)) for side in (-1, 1))
        return replace(row, lower=min(low, row.value), upper=max(high, row.value))


def to_scale(key: Key, values: FloatArray, groups: int) -> FloatArray:
    """Map a quantity to a scale on which its errors are about symmetric; entropy is at most log(groups)."""
    if key[0] in ("share", "entropy"):
        top = max(math.log(groups), 1e-300) if key[0] == "entropy" else 1.0
        return np.asarray(np.arcsin(np.sqrt(np.clip(values / top, 0.0, 1.0))))
    if key[0] in EXPONENTIAL:
        return np.asarray(np.log(np.maximum(values, 1e-300)))
    if key[0] == "kl_to_reference":
        return np.asarray(np.cbrt(np.maximum(values, 0.0)))
    return values


def from_scale(key: Key, values: FloatArray, groups: int) -> FloatArray:
    """Invert :func:`to_scale`."""
    if key[0] in ("share", "entropy"):
        top = math.log(groups) if key[0] == "entropy" else 1.0
        return np.asarray(top * np.square(np.sin(np.clip(values, 0.0, math.pi / 2))))
    if key[0] in EXPONENTIAL:
        return np.asarray(np.exp(np.minimum(values, 700.0)))
    if key[0] == "kl_to_reference":
        return np.asarray(np.maximum(values, 0.0) ** 3)
    return values


def bands(model: LoopModel, stream: Stream) -> Bands | None:
    """Return simultaneous 95 % bands around the model's forecast; None if the pool is too small.

    Args:
        model: the loop's model, with its setting.
        stream: the random stream of the simulations.
    """
    own = model.describer.candidates.counts
    if (model.candidates if own is None else own[: model.candidates].sum()) < SMALLEST_POOL or (
        model.residuals is not None and np.count_nonzero(model.residuals.sizes) < FEWEST_CONTEXTS
    ):
        return None
    temperature = model.setting.temperature
    last = model.last_law  # before cells, with which the compressed population cannot be used
    rng = stream.at("part").generator()
    some, near, whole = sampled(model, last, rng)  # before cells of rewards are made of all atoms
    part, share, pool = smaller(_with_cells(some), near, rng)
    pool = pool if whole is None else whole
    part = _nearer(part)
    span = float(np.ptp(part.population.rewards, axis=0).max()) / temperature
    if span > WIDEST:
        return None
    affordable = WORK // len(part.population.law) if span < NARROW else 0  # wide lattices cost much more
    count = int(min(REPLICATES, max(FEWEST_REPLICATES, affordable)))
    count = (count + 1) // 20 * 20 - 1
    laws, losses = list(part.population.play(part.setting)), tuple[Extinction, ...]()
    if part.setting.picks is None:
        noisy = _one_loop(part, laws)
    else:
        noisy, losses = _noisy_loops(part, share, count, stream.at("noise").generator())
    units = pool / share
    if model.residuals is not None:
        units = float(np.count_nonzero(model.residuals.sizes))
    certain = _determined(part, laws, units)
    last_certain = max((t for t, _ in certain), default=-1)  # few atoms carry the rounds after it
    excess = [_kl_excess(part, law, pool) for law in laws[: last_certain + 1]]
    redrawn = _redrawn_pools(part, pool, count, excess, stream.at("pool").generator())
    difference = {at: noisy[at] - redrawn[at] for at in noisy if at in certain}
    groups = max(len(model.describer.group_names), 1)
    return _simultaneous(difference, share, groups, losses) if difference else None


def _with_cells(model: LoopModel) -> LoopModel:
    """Return the model with a divergence between cells: empirical laws on single atoms have no useful one."""
    if model.cells is not None or not model.has_kl or model.mode != "one":
        return model
    atoms = model.describer.candidates
    cells = partition(atoms.rewards, atoms.counts)
    codes = cells.assign(atoms.rewards)
    own = np.bincount(codes, model.population.reference, cells.reference.size)
    floor = np.maximum(own, 0.5 / atoms.size)
    return replace(model, cells=replace(cells, reference=floor / floor.sum()), cell_codes=codes)


def _nearer(model: LoopModel) -> LoopModel:
    """Return the model with long gaps between rewards shortened: a pick across them is certain anyway."""
    population, temperature = model.population, model.setting.temperature
    if model.context_codes is not None or np.ptp(population.rewards) < NARROW * temperature:
        return model
    near = np.stack([shorten_gaps(r, APART) for r in population.rewards.T / temperature]) * temperature
    return replace(model, population=population.moved(near.T))


def _simultaneous(
    difference: dict[tuple[int, Key], FloatArray], share: float, groups: int, losses: tuple[Extinction, ...]
) -> Bands:
    """Turn replicates of D, from a part of the pool, into bands for the whole."""
    centre: dict[tuple[int, Key], float] = {}
    sd: dict[tuple[int, Key], float] = {}
    worst = np.zeros(len(next(iter(difference.values()))))
    for at, values in difference.items():
        spread = float(values.std(ddof=1))
        if not math.isfinite(spread) or spread <= 1e-12 * max(float(np.abs(values).max()), 1e-3):
            continue
        worst = np.maximum(worst, np.abs(values - values.mean()) / spread)
        # Biases fall with the size of the pool, standard deviations with its root.
        centre[at] = share * float(values.mean())
        sd[at] = math.sqrt(share) * spread
    critical = float(np.sort(worst)[round(LEVEL * (worst.size + 1)) - 1])
    return Bands(critical, centre, sd, groups, losses)


# --- the two simulations --------------------------------------------------------------------------


def _one_loop(model: LoopModel, laws: list[FloatArray]) -> dict[tuple[int, Key], FloatArray]:
    """Return the quantities of the loop without a number of picks, shape (1,): all are the same loop."""
    start, reference = model.population.law[:, None], model.population.reference[:, None]
    describe, cells = _Columns(model), _cell_laws(model, start)
    return {
        (t, key): values
        for t, law in enumerate(laws)
        for key, values in describe(law[:, None], start, reference, cells).items()
    }


def _noisy_loops(
    model: LoopModel, share: float, count: int, rng: np.random.Generator
) -> tuple[dict[tuple[int, Key], FloatArray], tuple[Extinction, ...]]:
    """Run ``count`` loops with finitely many picks; return their quantities and the groups' losses."""
    setting, population = model.setting, model.population
    assert setting.picks is not None
    start = np.repeat(population.law[:, None], count, axis=1)
    reference = np.repeat(population.reference[:, None], count, axis=1)
    picks = max(round(setting.picks * share), 1)
    describe = _Columns(model)
    whole = share == 1 and model.residuals is None  # residual laws have no groups of their own
    watch = Losses(model, setting.picks if whole else None, count)
    rho = setting.real_fraction

    def curate(law: FloatArray) -> FloatArray:
        # Rounding may leave a mass of -1e-20 where real data were moved.
        picked = population.select(np.maximum(law, 0.0), setting.stages)
        watch.see(picked)
        drawn = population.resample(picked, picks, rng)
        if 0 < rho < 1:  # real data are drawn too; their deviation is moved to the picks' side of the mixture
            real = population.resample(reference, max(round(picks * rho / (1 - rho)), 1), rng)
            drawn = drawn + rho / (1 - rho) * (real - reference)
        watch.drawn(drawn)
        return drawn

    cells = _cell_laws(model, start)
    found: dict[tuple[int, Key], FloatArray] = {}
    for t, law in enumerate(play(setting, start, reference, curate)):
        progress.step(t, 2 * setting.rounds + 2)  # the redrawn pools have as many rounds at most
        for key, values in describe(law, start, reference, cells).items():
            found[t, key] = values
    return found, watch.result()


def _redrawn_pools(
    model: LoopModel, pool: float, count: int, excess: list[float], rng: np.random.Generator
) -> dict[tuple[int, Key], FloatArray]:
    """Forecast from ``count`` pools drawn anew; ``excess`` is the bias of their divergences, by round.

    There are as many rounds as biases.
    """
    population, setting = model.population, model.setting
    start, reference = _draw_pools(model, pool, count, rng)
    describe, cells = _Columns(model), _cell_laws(model, start)
    found: dict[tuple[int, Key], FloatArray] = {}
    laws = play(setting, start, reference, lambda law: population.select(law, setting.stages))
    for t, (bias, law) in enumerate(zip(excess, laws, strict=False)):
        progress.step(setting.rounds + 1 + t, 2 * setting.rounds + 2)
        for key, values in describe(law, start, reference, cells, bias).items():
            found[t, key] = values
    return found


def _determined(model: LoopModel, laws: list[FloatArray], units: float) -> set[tuple[int, Key]]:
    """Return the rounds and quantities whose error a pool of ``units`` independent parts determines.

    An atom's influence on E_t f is about a_t v, v = f - E_t f and a_t = p_t / p_0; the pool's error has the
    variance E_p0 (a_t v)^2 / N, and a pick's has E_p0 a_t v^2. Where few atoms determine them (the variance
    of e^r, or late rounds of a small pool), a simulation from the pool does not estimate the error's size. A
    mean E s of positive s rests on N (E s)^2 / E s^2 atoms.
    """
    start, describe = model.population.law, _Columns(model)
    picked = model.setting.picks is not None
    found = set()
    for t, law in enumerate(laws):
        density = np.where(start > 0, law / np.where(start > 0, start, 1.0), 0.0)
        shares = describe.shares_evenness(law, density, start, after=bool(picked and t))
        found |= {(t, key) for key, evenness in shares.items() if units * evenness >= CARRIERS}
        for key, column in describe.influences(law).items():
            parts = [_even(_even(density) * _even(column)) ** 2]
            if picked and t:
                parts.append(_even(density) * _even(column) ** 2)
            carriers = units * min(_evenness(part, start) for part in parts)
            near_zero = key[0] == "kl_to_reference" and t == 0  # its errors there are one-sided
            if carriers >= CARRIERS and not near_zero:
                found.add((t, key))
    return found


def _even(values: FloatArray) -> FloatArray:
    """Return values relative to the largest: their squares may not be doubles."""
    top = float(np.abs(values).max())
    return values / top if 0 < top < math.inf else np.zeros_like(values)


def _evenness(values: FloatArray, law: FloatArray) -> float:
    """Return (E s)^2 / E s^2 of values s >= 0: one where all values are equal (or zero)."""
    scaled = _even(values)
    return float(law @ scaled) ** 2 / max(float(law @ np.square(scaled)), 1e-300) if scaled.any() else 1.0


def _draw_pools(
    model: LoopModel, pool: float, count: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw B pools, (N, B), by whole contexts where residuals are pooled, and return them with the reference.

    An external reference is fixed: it is not redrawn.
    """
    population = model.population
    if model.residuals is not None and model.context_codes is not None:
        codes = model.context_codes
        used = np.unique(codes[: model.candidates])
        times = rng.multinomial(used.size, np.full(used.size, 1 / used.size), size=count).T
        weight = times[np.searchsorted(used, codes)]
        start = population.law[:, None] * weight
        start = start / start.sum(axis=0)
        if population.reference is not population.law:  # with the contexts drawn
            reference = population.reference[:, None] * weight
            return start, reference / reference.sum(axis=0)
        return start, start
    many = np.repeat(population.law[:, None], count, axis=1)
    start = population.resample(many, max(round(pool), 1), rng)
    if population.reference is population.law:
        return start, start
    return start, np.repeat(population.reference[:, None], count, axis=1)


# --- quantities of many laws at once --------------------------------------------------------------


class _Columns:
    """The quantities of B laws at once, as linear functionals where they are linear."""

    def __init__(self, model: LoopModel) -> None:
        self._model = model
        atoms, describer = model.describer.candidates, model.describer
        self._names: list[Key] = [("mean_reward", name, None) for name in atoms.names]
        columns = list(atoms.rewards.T)
        for name, values in atoms.tracked.items():
            self._names.append((f"mean:{name}", None, None))
            columns.append(values)
        residuals = model.residuals
        self._codes, self._members = np.zeros(0, np.int64), None
        self._groups: list[Key] = [("share", None, group) for group in describer.group_names]
        if residuals is None and describer.codes is not None:
            self._codes = describer.codes
            self._members = membership(describer.codes, len(describer.group_names))
        elif describer.codes is not None and len(self._groups) <= GROUPS:
            self._names += self._groups
            columns += [(describer.codes == i).astype(float) for i in range(len(self._groups))]
        matrix = np.stack(columns)
        self._linear = matrix if residuals is None else residuals.deviations(matrix.T).T
        thin = np.zeros(matrix.shape[1], bool) if residuals is None else residuals.thin
        self._fixed = np.where(thin, matrix, 0.0)  # the contribution of the initial law in thin contexts
        self._thin = thin
        self._exps = describer.exponentials
        self._own = None
        if residuals is not None:
            with np.errstate(over="ignore"):
                self._own = np.exp(residuals.residuals.T / model.setting.temperature)

    def __call__(
        self,
        law: FloatArray,
        start: FloatArray,
        reference: FloatArray,
        cells: FloatArray | None,
        excess: float = 0.0,
    ) -> dict[Key, FloatArray]:
        """Return every quantity, shape (B,), of the laws (N, B), on its scale.

        Divergences are those from ``reference`` (N, B), or from ``cells`` (cells, B), less ``excess``.
        """
        values = self._linear @ law
        if self._thin.any():
            values += self._fixed @ start
        found: dict[Key, FloatArray] = dict(zip(self._names, values, strict=True))
        for i, exps in enumerate(self._exps):
            if exps is not None:
                name = self._model.describer.candidates.names[i]
                first, second = (self._exp(i, exps, power, law, start) for power in (1, 2))
                found["mean_exp_reward", name, None] = first
                found["var_exp_reward", name, None] = np.maximum(second - first**2, 0.0)
        if self._members is not None:
            found |= dict(zip(self._groups, self._members @ law, strict=True))
        shares = [v for key, v in found.items() if key[0] == "share"]
        if shares:
            found["entropy", None, None] = _entropy(np.maximum(shares, 0.0))
        if self._model.has_kl:
            found["kl_to_reference", None, None] = self._kl(law, reference, cells) - excess
        groups = len(self._model.describer.group_names)
        return {key: to_scale(key, column, max(groups, 1)) for key, column in found.items()}

    def influences(self, law: FloatArray) -> dict[Key, FloatArray]:
        """Return the influence of every atom on each quantity of a law (N,), shape (N,).

        Shares are left to :meth:`shares_evenness` where an atom counts for its own group alone.
        """
        linear = dict(zip(self._names, self._linear, strict=True))
        found = {key: column - column @ law for key, column in linear.items()}
        for i, exps in enumerate(self._exps):
            if exps is not None:
                name = self._model.describer.candidates.names[i]
                values = exps if self._own is None else self._own[i]
                centred = values - values @ law
                found["mean_exp_reward", name, None] = centred
                found["var_exp_reward", name, None] = np.square(centred) - np.square(centred) @ law
        shares = {key: column for key, column in linear.items() if key[0] == "share"}
        if self._members is not None:
            own = -np.log(np.maximum(self._members @ law, 1e-300))[self._codes]
            found["entropy", None, None] = own - own @ law
        elif shares:
            masses = {key: max(float(column @ law), 1e-300) for key, column in shares.items()}
            own = -sum(column * math.log(masses[key]) for key, column in shares.items())
            found["entropy", None, None] = own - own @ law
        if self._model.has_kl:
            reference = self._model.population.reference
            alive = (law > 0) & (reference > 0)
            logs = np.log(np.where(alive, law, 1.0)) - np.log(np.where(alive, reference, 1.0))
            found["kl_to_reference", None, None] = logs - logs @ law
        return found

    def shares_evenness(
        self, law: FloatArray, density: FloatArray, start: FloatArray, *, after: bool
    ) -> dict[Key, float]:
        """Return how evenly atoms determine the groups' shares: the least :func:`_evenness` of their errors.

        The influence on a share s is 1 - s in the group and -s elsewhere, so that sums over the groups' atoms
        are enough.

        Args:
            law: The law, (N,).
            density: Its density with respect to ``start``, (N,).
            start: The first law, (N,).
            after: Whether errors of earlier picks count, too.
        """
        if self._members is None:
            return {}
        members, dense = self._members, _even(density)
        shares = members @ law

        def evenness(power: int) -> FloatArray:
            inside, sums = [], []
            for p in (power, 2 * power):
                parts = start * dense**p
                inside.append(members @ parts)
                sums.append(parts.sum())
            first = (1 - shares) ** 2 * inside[0] + shares**2 * (sums[0] - inside[0])
            second = (1 - shares) ** 4 * inside[1] + shares**4 * (sums[1] - inside[1])
            return np.where(second > 0, first**2 / np.maximum(second, 1e-300), 1.0)

        least = np.minimum(evenness(2), evenness(1)) if after else evenness(2)
        return dict(zip(self._groups, least.tolist(), strict=True))

    def _exp(self, i: int, exps: FloatArray, power: int, law: FloatArray, start: FloatArray) -> FloatArray:
        values, thin = exps**power, self._thin
        if self._own is None:
            return np.asarray(values @ law)
        own = self._own[i] ** power
        ratio = (own[thin] @ law[thin]) / (own[thin] @ start[thin])
        return np.asarray(values[~thin] @ law[~thin] + (values[thin] @ start[thin]) * ratio)

    def _kl(self, law: FloatArray, reference: FloatArray, cells: FloatArray | None) -> FloatArray:
        p, q = law, reference
        if cells is not None and self._model.cell_codes is not None:
            p, q = _in_cells(self._model.cell_codes, law, len(cells)), cells
        ratio = np.where((p > 0) & (q > 0), p / np.where(q > 0, q, 1.0), 1.0)
        return np.asarray(np.maximum((p * np.log(ratio)).sum(axis=0), 0.0))


def _in_cells(codes: IntArray, laws: FloatArray, size: int) -> FloatArray:
    """Return the masses, (cells, B), of laws (N, B)."""
    return np.asarray(membership(codes, size) @ laws)


def _kl_excess(model: LoopModel, law: FloatArray, pool: float) -> float:
    """Return the bias of a divergence between cells in a redrawn pool; the forecast's divergence has none."""
    if model.cells is None or model.cell_codes is None or _own_cells(model):
        return 0.0
    start, q = model.population.law, model.cells.reference
    p = np.bincount(model.cell_codes, law, q.size)
    noise = np.bincount(model.cell_codes, np.square(law) / np.where(start > 0, start, np.inf), q.size) / pool
    alive = p > 0
    own = float((noise[alive] / p[alive]).sum() - noise.sum())
    return 0.5 * own


def _own_cells(model: LoopModel) -> bool:
    """Whether the cells' reference is the first round itself."""
    if model.cells is None or model.cell_codes is None:
        return False
    own = np.bincount(model.cell_codes, model.population.law, model.cells.reference.size)
    return bool(np.allclose(own, model.cells.reference, atol=1e-12))


def _cell_laws(model: LoopModel, start: FloatArray) -> FloatArray | None:
    """Return the reference's masses in cells, (cells, B), given the first laws (N, B)."""
    if model.cells is None or model.cell_codes is None:
        return None
    size = model.cells.reference.size
    if not _own_cells(model):
        return np.repeat(model.cells.reference[:, None], start.shape[1], axis=1)
    drawn = np.maximum(_in_cells(model.cell_codes, start, size), 0.5 / model.cells.reference_size)
    return np.asarray(drawn / drawn.sum(axis=0))


def _entropy(shares: FloatArray) -> FloatArray:
    """Return the entropy, (B,), of shares (groups, B)."""
    shares = shares / shares.sum(axis=0)
    return np.asarray(-(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=0))
