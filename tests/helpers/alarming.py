"""Trajectories to try alarms on: values exactly at their limits, healthy loops, loops with planted faults.

Everything is measured from real samples, as a run measures them. Shared with benchmarks/alarms.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from scipy.special import ndtr

from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates, as_candidates
from recurate.log.schema import Log, as_log
from recurate.log.trajectory import MEASURED, Row, Trajectory
from recurate.loop.alarms.raising import (
    AlarmSettings,
    BandAlarm,
    DivergenceAlarm,
    FrechetAlarm,
    GoldAlarm,
    ShareAlarm,
    VarianceAlarm,
    raised,
)
from recurate.metrics import estimates
from recurate.metrics.describe import Describer
from recurate.metrics.estimates import Estimate
from recurate.metrics.partition import partition
from recurate.rules import Rule
from recurate.theory.forecast import measured, predict, reference_cells
from recurate.theory.setting import Setting

Array = np.ndarray
Rng = np.random.Generator


def ever(alarms: tuple[AlarmSettings, ...], trajectory: Trajectory, rounds: int) -> dict[str, int]:
    """Return the first round of each kind that is raised in rounds 1, ..., ``rounds``."""
    first: dict[str, int] = {}
    for t in range(1, rounds + 1):
        for alarm in raised(alarms, trajectory, t):
            first.setdefault(alarm.kind, t)
    return first


def frechet(points: Array, mean: Array, covariance: Array) -> Estimate:
    """Return the Frechet distance of points (n, d) from a normal law, with its error by influences.

    F = |mu - m|^2 + tr(C + S - 2 (S^1/2 C S^1/2)^1/2); its derivative by C is I - T with the transport map
    T = S^1/2 (S^1/2 C S^1/2)^-1/2 S^1/2.
    """
    centre = points.mean(axis=0)
    away = points - centre
    own = away.T @ away / len(points)
    root = power(covariance, 0.5)
    inner = root @ own @ root
    shift = centre - mean
    value = shift @ shift + np.trace(own + covariance - 2 * power(inner, 0.5))
    slope = np.eye(len(mean)) - root @ power(inner, -0.5) @ root
    influence = 2 * away @ shift + np.einsum("ni,ij,nj->n", away, slope, away) - np.trace(slope @ own)
    return Estimate(float(value), estimates.standard_error(influence))


def power(matrix: Array, exponent: float) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 1e-300) ** exponent) @ vectors.T


def frechet_row(t: int, space: str, estimate: Estimate) -> Row:
    lower, upper = estimate.interval(0.0)
    return Row(t, MEASURED, f"frechet:{space}", estimate.value, lower=lower, upper=upper)


# --- exactly at the limit -------------------------------------------------------------------------

ROUNDS = 5  # of trajectories at the limit


def describe(t: int, candidates: Candidates, kl: Estimate | None = None) -> list[Row]:
    """Return the measured rows of a round."""
    describer = Describer(candidates, 1.0, candidates.labels)
    return describer.rows(t, MEASURED, describer.values(kl=kl))


def at_divergence(shift: float, scale: float, n: int, real: int) -> Callable[[Rng], tuple]:
    """The divergence (in the cells of a new reference) equals the limit in all rounds."""

    def make(rng: Rng) -> tuple[AlarmSettings, Trajectory]:
        cells = partition(rng.normal(size=(real, 1)))
        edges = np.r_[-np.inf, sorted(split[1] for split in cells.splits if split), np.inf]
        order = cells.assign((np.r_[edges[1], edges[1:-1] + 1e-9])[:, None])  # cell of each interval
        p, q = (np.diff(ndtr((edges - m) / s)) for m, s in ((shift, scale), (0, 1)))
        assert sorted(order) == list(range(len(q)))
        truth = float(p @ np.log(np.maximum(p, 1e-300) / q))
        rows = []
        for t in range(ROUNDS + 1):
            x = rng.normal(shift, scale, (n, 1))
            rows += describe(t, as_candidates(x), cells.kl(cells.assign(x)))
        return DivergenceAlarm(limit=truth), Trajectory(tuple(rows))

    return make


def at_variance(draw: Callable[[Rng, int], Array], n: int) -> Callable[[Rng], tuple]:
    """Every later round has exp(reward) times the root of the floor."""
    floor = 0.5

    def make(rng: Rng) -> tuple[AlarmSettings, Trajectory]:
        rows = []
        for t in range(ROUNDS + 1):
            x = draw(rng, n) + (0.5 * np.log(floor) if t else 0)
            rows += describe(t, as_candidates(x))
        return VarianceAlarm(floor=floor), Trajectory(tuple(rows))

    return make


def at_share(floor: float, n: int, contexts: int = 0) -> Callable[[Rng], tuple]:
    """One of three groups has the floor's share; in contexts it is more or less common."""

    def make(rng: Rng) -> tuple[AlarmSettings, Trajectory]:
        rows = []
        for t in range(ROUNDS + 1):
            where = np.arange(n) % max(contexts, 1)
            chance = rng.beta(2 * floor, 2 * (1 - floor), max(contexts, 1)) if contexts else np.array([floor])
            rare = rng.random(n) < chance[where]
            groups = np.where(rare, "rare", np.where(rng.random(n) < 0.5, "one", "two"))
            found = as_candidates(np.zeros(n), groups=groups, contexts=where.astype(str))
            rows += describe(t, replace(found, labels=("one", "rare", "two")))
        return ShareAlarm(floor=floor), Trajectory(tuple(rows))

    return make


def at_frechet(shift: float, scale: float, d: int, n: int, tail: float = 0) -> Callable[[Rng], tuple]:
    """Every later round's distance is the factor times round 0's: the shift and scale - 1 times its root."""
    factor = 1.5

    def make(rng: Rng) -> tuple[AlarmSettings, Trajectory]:
        rows = []
        for t in range(ROUNDS + 1):
            more = np.sqrt(factor) if t else 1.0
            x = rng.standard_t(tail, (n, d)) * np.sqrt(1 - 2 / tail) if tail else rng.normal(size=(n, d))
            x = x * (1 + (scale - 1) * more)
            x[:, 0] += shift * more
            rows.append(frechet_row(t, "x", frechet(x, np.zeros(d), np.eye(d))))
        return FrechetAlarm(factor=factor), Trajectory(tuple(rows))

    return make


def at_gold(draw: Callable[[Rng, int], Array], n: int) -> Callable[[Rng], tuple]:
    """The proxy rises in every round; gold stays."""

    def make(rng: Rng) -> tuple[AlarmSettings, Trajectory]:
        rows = []
        for t in range(ROUNDS + 1):
            rows += describe(t, as_candidates(rng.normal(t, 1, n), track={"gold": draw(rng, n)}))
        return GoldAlarm(proxy="reward", gold="gold"), Trajectory(tuple(rows))

    return make


def normal(rng: Rng, n: int) -> Array:
    return rng.normal(size=n)


# Name: (kind, maker of a trajectory at the limit).
LIMITS: dict[str, Callable[[Rng], tuple]] = {
    "divergence 0.02": at_divergence(0.2, 1, 1000, 1000),
    "divergence 0.12": at_divergence(0.5, 1, 1000, 1000),
    "divergence 0.3, narrow": at_divergence(0.0, 0.5, 1000, 3000),
    "divergence 0.3, few candidates": at_divergence(0.0, 0.5, 200, 3000),
    "variance, bounded": at_variance(lambda g, n: -np.hypot(g.normal(size=n), g.normal(size=n)), 1000),
    "variance, lognormal 0.5": at_variance(lambda g, n: 0.5 * g.normal(size=n), 1000),
    "variance, lognormal 1": at_variance(normal, 4000),
    "variance, rare": at_variance(lambda g, n: np.where(g.random(n) < 0.06, 1.0, 0.0), 1000),
    "share 0.05": at_share(0.05, 1000),
    "share 0.01, often absent": at_share(0.01, 300),
    "share 0.1, contexts": at_share(0.1, 1000, 50),
    "frechet, shifted": at_frechet(0.5, 1.0, 4, 1000),
    "frechet, near zero": at_frechet(0.05, 1.0, 4, 1000),
    "frechet, wider": at_frechet(0.0, 1.4, 2, 1000),
    "frechet, narrower": at_frechet(0.0, 0.7, 2, 1000),
    "frechet, heavy tails": at_frechet(0.3, 1.3, 2, 1000, tail=5),
    "gold, normal": at_gold(normal, 500),
    "gold, heavy tails": at_gold(lambda g, n: g.standard_t(3, n), 500),
    "gold, skewed": at_gold(lambda g, n: np.exp(g.normal(size=n)), 500),
    "gold, rare": at_gold(lambda g, n: (g.random(n) < 0.05).astype(float), 500),
}


def at_limit(name: str, levels: tuple[float, ...], runs: int, seed: int = 0) -> list[int]:
    """Return, for each level, how many of ``runs`` trajectories at the limit ever raise the alarm."""
    return np.sum([raised_at_limit(name, levels, i, seed) for i in range(runs)], axis=0).tolist()


def raised_at_limit(name: str, levels: tuple[float, ...], run: int, seed: int = 0) -> list[bool]:
    """Return, for each level, whether one trajectory at the limit ever raises the alarm."""
    alarm, trajectory = LIMITS[name](np.random.default_rng([seed, run, *name.encode()]))
    alarms = (alarm.model_copy(update={"level": level}) for level in levels)
    return [bool(ever((one,), trajectory, ROUNDS)) for one in alarms]


# --- whole loops ----------------------------------------------------------------------------------

CENTRES = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
GROUPS = np.array(["a", "b", "c", "d"])
TARGET = np.array([1.4, 1.4])
K, MIX, PICKS, REAL, LOOP_ROUNDS, ONSET = 4, 0.2, 500, 2000, 6, 2
SPACE = "points"
OFF = np.array([0.4, 0.4])

# What is right for healthy loops of this kind, with room.
ALARMS: tuple[AlarmSettings, ...] = (
    DivergenceAlarm(limit=1.0),
    VarianceAlarm(floor=0.6),
    ShareAlarm(floor=0.08, group="b"),
    FrechetAlarm(factor=1.5),
    GoldAlarm(proxy="proxy", gold="gold"),
    BandAlarm(),
)


@dataclass(frozen=True)
class Resampler:
    """A generator that draws from its training set; points are two coordinates and a length."""

    kept: Array

    def fit(self, training: Array) -> Resampler:
        return Resampler(training)

    def sample(self, n: int, rng: Rng) -> Array:
        return self.kept[rng.integers(len(self.kept), size=n)]


def real_data(rng: Rng, n: int = REAL) -> Array:
    points = CENTRES[rng.integers(4, size=n)] + 0.5 * rng.normal(size=(n, 2))
    return np.column_stack([points, rng.normal(size=n)])


def proxy(x: Array) -> Array:
    return -1.5 * np.maximum(np.hypot(*(x[:, :2] - TARGET).T) - 0.8, 0.0)  # all that is near is alike


def gold(x: Array) -> Array:
    return proxy(x) - 0.5 * x[:, 2]


def group(x: Array) -> Array:
    return GROUPS[np.square(x[:, None, :2] - CENTRES).sum(axis=2).argmin(axis=1)]


FAULTS: Mapping[str, tuple[str, ...]] = {  # what is wrong from round ONSET on, and which alarms are for it
    "real data dropped": ("divergence", "variance"),
    "a group's picks quartered": ("share",),
    "noise added, growing": ("frechet",),
    "picks also by length": ("gold",),
    "temperature halved": ("band",),
}


def training_set(rng: Rng, x: Array, real: Array, t: int, fault: str | None) -> Array:
    """Return what round t's model is trained on, from the candidates ``x`` of the round before."""
    now = fault if t >= ONSET else None
    slates = x.reshape(-1, K, 3)
    worth = proxy(x) + (x[:, 2] if now == "picks also by length" else 0)
    rule = Rule(K, 0.5 if now == "temperature halved" else 1.0)
    slots = rule.draw(worth.reshape(-1, K), rng)
    picked = slates[np.arange(len(slates)), slots]
    if now == "a group's picks quartered":
        picked = picked[(group(picked) != "b") | (rng.random(len(picked)) < 0.25)]
    if now == "real data dropped":
        return picked
    mixed = real[rng.integers(len(real), size=round(len(picked) * MIX / (1 - MIX)))]
    return np.concatenate([picked, mixed])


def rounds_of(rng: Rng, real: Array, rounds: int, fault: str | None) -> Iterator[Array]:
    """Yield every round's candidates."""
    model = Resampler(real)
    for t in range(rounds + 1):
        x = model.sample(PICKS * K, rng)
        if fault == "noise added, growing" and t >= ONSET:
            x = x + 0.3 * (t - ONSET + 1) * rng.normal(size=x.shape)
        yield x
        model = model.fit(training_set(rng, x, real, t + 1, fault))


def loop_log(parts: list[Array]) -> Log:
    x = np.concatenate(parts)
    columns = {"proxy": proxy(x), "gold": gold(x), "group": group(x)}
    columns["round"] = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return as_log(pa.table(columns | {"picked": np.zeros(len(x), bool)}), rewards=("proxy",))


def loop(seed: int, *, fault: str | None = None, rounds: int = LOOP_ROUNDS, band: bool = True) -> Trajectory:
    """Play a loop and return what is measured, with the forecast from round 0 if ``band``."""
    rng = np.random.default_rng([seed, 77])
    real = real_data(rng)
    parts = list(rounds_of(rng, real, rounds, fault))
    first, reference = (
        as_candidates(proxy(x), names=("proxy",), groups=group(x), track={"gold": gold(x)})
        for x in (parts[0], real)
    )
    cells, _ = reference_cells(first, reference)
    found = measured(
        loop_log(parts),
        temperature=1.0,
        group="group",
        track=("gold",),
        cells=cells,
        names=tuple(GROUPS.tolist()),
    )
    flat = real[:, :2] + OFF  # round 0's model is not perfect
    normal_law = flat.mean(axis=0), np.cov(flat.T)
    found += Trajectory(
        tuple(frechet_row(t, SPACE, frechet(x[:, :2], *normal_law)) for t, x in enumerate(parts))
    )
    if not band:
        return found
    setting = Setting.of(k=K, rounds=rounds, real_fraction=MIX, picks=PICKS)
    return found + predict(first, setting, reference=reference, cells=cells, stream=Stream(seed)).trajectory


def detections(fault: str, runs: int, rounds: int) -> dict[str, list[int | None]]:
    """Return, for every alarm that is for the fault, how many rounds after its onset it was raised; or None.

    Alarms before the onset are false and left out with their loops.
    """
    kinds = FAULTS[fault]
    watching = tuple(alarm for alarm in ALARMS if alarm.kind in kinds)
    delays: dict[str, list[int | None]] = {kind: [] for kind in kinds}
    for seed in range(runs):
        first = ever(watching, loop(seed, fault=fault, rounds=rounds, band="band" in kinds), rounds)
        for kind in kinds:
            at = first.get(kind)
            if at is None or at >= ONSET:
                delays[kind].append(None if at is None else at - ONSET)
    return delays
