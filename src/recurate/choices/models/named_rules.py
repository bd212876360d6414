r"""Named rules of picks, compared by one likelihood, that of the set kept from each slate.

A :class:`Model` gives the utilities u = beta w of a slate's candidates, where the worths w are rewards, their
per-slate z-scores or another transform, and keeps the candidates with the largest u + noise, of all, of those
above a cut, or of a random pair; with lapses, effects of places and temperatures that change, and for several
rewards by their weighted sum or by one of them, drawn by weight. Its parameters are estimated by maximum
likelihood (:func:`climb`).

:func:`explain` extends a model that a test refuses, one named step at a time, by the step with the largest
penalised gain. All steps are fitted to ``RANKED`` slates, and the best ``FINALISTS`` of them to all. A step
is taken for a gain of at least ``GAIN`` nats; steps within ``ALIKE`` nats of it are named beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from recurate.choices.observed import Observed
from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.rules import GAUSSIAN, GUMBEL, NO_NOISE, Rule
from recurate.rules.families import Family
from recurate.rules.noise import Noise

MOST, MOST_COSTLY = 20_000, 3000  # largest numbers of slates, and of those that need quadrature
RANKED, FEW = 4000, 2000  # numbers of slates on which steps are ranked, and limits are searched
FINALISTS = 3  # number of the best steps that are fitted to all slates
GAIN = 6.0  # least gain of a step, in nats; a test has refused the model before
ALIKE = 3.0  # difference in nats up to which two explanations are both named
MOST_STEPS = 4  # largest number of steps
CELLS = 400_000  # largest size of a table
LEFT, RIGHT, POINTS = 4.5, 18.0, 64  # window of a quadrature beyond the utilities, and its points
NODES = 24  # nodes of a quadrature over Gaussian noise
BLOCK = 512  # slates per block of that quadrature, which then fits into the cache
MOST_PLACES = 11  # number of places with utilities of their own


@dataclass(frozen=True)
class Picked:
    """Slates with the same number of picks, as tables.

    Attributes:
        rewards: Rewards less their mean, in units of ``unit``, (slates, K, rewards); 0 where none is shown.
        shown: Whether there is a candidate, (slates, K).
        kept: Slots of the picks, (slates, keep).
        places: Logged slots, (slates, K), or None if they were not logged.
        rounds: Code of each slate's round, from 0, (slates,).
        along: Place of each slate in its round, from -1 to 1, (slates,).
        unit: Root mean square of the rewards within slates.
    """

    rewards: FloatArray
    shown: BoolArray
    kept: IntArray
    places: IntArray | None
    rounds: IntArray
    along: FloatArray
    unit: float

    @classmethod
    def of(cls, observed: Observed, keep: int, most: int) -> Picked:
        """Return at most ``most`` evenly spread slates with ``keep`` picks of more candidates."""
        sizes = observed.slates.sizes
        which = np.flatnonzero((observed.picks_per_slate == keep) & (sizes > keep))
        most = max(100, min(most, CELLS // int(sizes[which].max(initial=1))))
        if which.size > most:
            which = which[np.unique(np.linspace(0, which.size - 1, most).astype(np.int64))]
        own, rows = observed.slates.take(which)
        shape = len(own), int(own.sizes.max())
        shown = np.arange(shape[1]) < own.sizes[:, None]
        rewards = np.zeros((*shape, len(observed.names)))
        rewards[shown] = observed.rewards[rows]
        picked = np.zeros(shape, bool)
        picked[shown] = observed.picked[rows]
        places = np.full(shape, -1)
        places[shown] = observed.slots[rows]
        rounds = observed.slate_rounds[which]
        first, count = (np.searchsorted(observed.slate_rounds, rounds, side=s) for s in ("left", "right"))
        along = 2 * (which - first + 0.5) / (count - first) - 1
        middle = rewards.sum(axis=1, keepdims=True) / own.sizes[:, None, None]
        with np.errstate(over="ignore"):
            unit = float(np.sqrt(np.square(rewards - middle)[shown].mean()))
        unit = unit if 1e-300 < unit < math.inf else 1.0
        rewards[shown] -= rewards[shown].mean(axis=0)
        return cls(
            rewards / unit, shown,
            np.nonzero(picked)[1].reshape(-1, keep), None if (places[shown] < 0).any() else places,
            np.unique(rounds, return_inverse=True)[1], along, unit,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.kept)

    def thin(self, most: int) -> IntArray:
        """Return the indices of at most ``most`` evenly spread slates."""
        return np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).astype(np.int64))


@dataclass(frozen=True)
class Model:
    """A rule with free parameters.

    Parameters are the inverse temperature (unless there is no noise), its change within rounds (``drift``),
    the log odds of the lapse share (``lapse``), the weights of all rewards but the first, which are shares of
    the slates as logits or factors of the sum (``summed``), and the utilities of places (``placed``).

    Attributes:
        data: Slates and picks.
        worth: What the inverse temperature multiplies, (slates, K, rewards).
        noise: Noise of the utilities.
        lapse: Whether the lapse share is a parameter.
        summed: Whether several rewards are summed; else one of them judges each slate.
        cut: Which candidates are eligible, with a parameter: ``top``, ``nucleus``, ``level``, ``pair``.
        scale: Factor of the inverse temperature, (slates,).
        drift: Whether the inverse temperature changes linearly within rounds.
        placed: Whether each place but the first has a utility of its own.
    """

    data: Picked
    worth: FloatArray
    noise: Noise = GUMBEL
    lapse: bool = False
    summed: bool = False
    cut: tuple[str, Any] | None = None
    scale: FloatArray | None = None
    drift: bool = False
    placed: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return (
            *(["beta"] if self.noise != NO_NOISE else []),
            *(["drift"] if self.drift else []),
            *(["lapse"] if self.lapse else []),
            *(["weights"] * (self.worth.shape[2] - 1)),
            *(["place"] * (len(self._seats) - 1 if self.placed else 0)),
        )

    def start(self, beta: float = 1.0, lapse: float = 0.05) -> FloatArray:
        """Return a first value of the parameters."""
        first = {"beta": beta, "lapse": math.log(lapse / (1 - lapse))}
        first["weights"] = 1 / self.worth.shape[2] if self.summed else 0.0
        return np.array([first.get(name, 0.0) for name in self.names])

    def at(self, name: str) -> BoolArray:
        """Return which parameters have a name."""
        return np.array([name == n for n in self.names], bool)

    @cached_property
    def _seats(self) -> list[int]:
        """Logged places that occur; those from ``MOST_PLACES`` on are one."""
        assert self.data.places is not None
        return [int(j) for j in np.unique(np.minimum(self.data.places[self.data.shown], MOST_PLACES))]

    def weights(self, theta: FloatArray) -> FloatArray:
        """Return the weights of the rewards."""
        own = theta[self.at("weights")]
        if self.summed:
            return np.asarray(np.r_[1 - own.sum(), own], float)
        odds = np.exp(np.clip(np.r_[0.0, own], -30, 30))
        return np.asarray(odds / odds.sum())

    def _tables(self, theta: FloatArray) -> tuple[list[FloatArray], FloatArray]:
        """Return utilities (slates, K), one table per judge, and the judges' weights."""
        beta = theta[0] if self.noise != NO_NOISE else 1.0
        weights = self.weights(theta)
        with np.errstate(over="ignore", invalid="ignore"):
            worth = (self.worth @ weights)[..., None] if self.summed else self.worth
            if self.drift:
                beta = (beta + theta[self.at("drift")] * self.data.along)[:, None, None]
            u = worth * (beta if self.scale is None else beta * self.scale[:, None, None])
            for seat, value in zip(
                self._seats[1:] if self.placed else [], theta[self.at("place")], strict=True
            ):
                u = u + (value * self._seated(seat))[..., None]
        u = np.where(self.data.shown[..., None], np.clip(u, -1e6, 1e6), -np.inf)
        return [u[..., j] for j in range(u.shape[2])], np.ones(1) if self.summed else weights

    def _seated(self, seat: int) -> FloatArray:
        assert self.data.places is not None
        return np.asarray(np.minimum(self.data.places, MOST_PLACES) == seat, float)

    def _share(self, theta: FloatArray) -> float:
        return 1 / (1 + math.exp(-float(np.clip(theta[self.names.index("lapse")], -40, 40))))

    def _ways(self, keep: int) -> FloatArray:
        sizes = self.data.shown.sum(axis=1)
        return np.asarray(sum(np.log(sizes - i) for i in range(keep)) - math.lgamma(keep + 1))

    def logs(self, theta: FloatArray, kept: IntArray | None = None) -> FloatArray:
        """Return the log probability of each kept set, (slates,)."""
        kept = self.data.kept if kept is None else kept
        tables, weights = self._tables(theta)
        each = [self._chosen(u, kept) for u in tables]
        with np.errstate(divide="ignore"):
            found = each[0] if len(each) == 1 else np.logaddexp.reduce(np.log(weights)[:, None] + each)
        if self.cut is not None:
            found = _mixed(found, 1 / (len(self.data) + 2), self._ways(kept.shape[1]))
        return _mixed(found, self._share(theta), self._ways(kept.shape[1])) if self.lapse else found

    def _chosen(self, u: FloatArray, kept: IntArray) -> FloatArray:
        line = np.arange(len(u))
        if self.cut is not None and self.cut[0] == "pair":
            own = u[line, kept[:, 0]][:, None] - u
            wins = np.where(np.isfinite(own), 1 / (1 + np.exp(np.clip(-own, -40, 40))), 0.0)
            wins[line, kept[:, 0]] = 0.0  # against itself
            size = self.data.shown.sum(axis=1)
            return np.asarray(np.log(wins.sum(axis=1) * 2 / (size * (size - 1))))
        if self.cut is not None:
            u = np.where(eligible(u, self.worth[..., 0], *self.cut), u, -np.inf)
        if self.noise == GUMBEL and kept.shape[1] == 1:
            top = np.maximum(u.max(axis=1), -1e7)  # finite even if no candidate is eligible
            with np.errstate(divide="ignore"):
                total = np.log(np.exp(u - top[:, None]).sum(axis=1))
            return np.asarray(u[line, kept[:, 0]] - top - np.where(np.isfinite(total), total, 0.0))
        if self.noise == GAUSSIAN:
            return _gaussian(u, kept)
        if kept.shape[1] > (3 if self.noise == GUMBEL else 1) and self.noise != NO_NOISE:
            return _on_a_grid(self.noise, u, kept)
        rule = Rule(u.shape[1], noise=self.noise, keep=kept.shape[1])
        return rule.log_likelihood(u, kept, ordered=False)

    def chances(self, theta: FloatArray) -> FloatArray:
        """Return the probability that each candidate is kept, (slates, K)."""
        keep = self.data.kept.shape[1]
        if self.cut is not None or (self.noise == GAUSSIAN and keep == 1):
            slots = np.broadcast_to(np.arange(self.worth.shape[1]), self.data.shown.shape)
            each = [np.exp(self.logs(theta, slots[:, [j]])) for j in range(slots.shape[1])]
            return np.where(self.data.shown, np.column_stack(each), 0.0)
        tables, weights = self._tables(theta)
        rule = Rule(self.worth.shape[1], noise=self.noise, keep=keep)
        found = sum(w * rule.probabilities(u) for w, u in zip(weights, tables, strict=True))
        if not self.lapse:
            return np.asarray(found)
        share, sizes = self._share(theta), self.data.shown.sum(axis=1, keepdims=True)
        return np.asarray((1 - share) * found + share * np.where(self.data.shown, keep / sizes, 0.0))

    def draw(self, theta: FloatArray, rng: np.random.Generator) -> IntArray:
        """Draw what is kept of each slate, (slates, keep)."""
        tables, weights = self._tables(theta)
        judge = rng.choice(len(tables), size=len(self.data), p=weights)
        u = np.choose(judge[:, None], tables) if len(tables) > 1 else tables[0]
        keep = self.data.kept.shape[1]
        rule = Rule(u.shape[1], noise=self.noise, keep=keep, lapse=self._share(theta) if self.lapse else 0.0)
        return rule.draw(u, rng).reshape(-1, keep)

    def judged(self, theta: FloatArray) -> FloatArray:
        """Return the worth of each candidate as one number, (slates, K)."""
        return np.asarray(self.worth @ self.weights(theta))

    def take(self, some: IntArray) -> Model:
        """Return the model of some slates."""
        d = self.data
        data = replace(
            d, rewards=d.rewards[some], shown=d.shown[some], kept=d.kept[some],
            places=None if d.places is None else d.places[some], rounds=d.rounds[some], along=d.along[some],
        )  # fmt: skip
        scale = None if self.scale is None else self.scale[some]
        cut = self.cut if self.cut is None or self.cut[0] != "level" else ("level", self.cut[1][some])
        return replace(self, data=data, worth=self.worth[some], scale=scale, cut=cut)


def _gaussian(u: FloatArray, kept: IntArray) -> FloatArray:
    """Return log P(the kept set has the largest u + standard normal noise), by Gauss-Hermite quadrature.

    The noise of one candidate is integrated: of the pick, or of each candidate that is not kept, if it is the
    best of these. Picks less probable than 1e-12 are inexact.
    """
    from scipy.special import ndtr

    z, w = np.polynomial.hermite_e.hermegauss(NODES)
    keep, slates = kept.shape[1], len(u)
    mask = np.zeros(u.shape, bool)
    np.put_along_axis(mask, kept, True, axis=1)
    u = np.take_along_axis(u, np.argsort(~mask, axis=1, kind="stable"), axis=1)  # the kept ones first
    total = np.zeros(slates)
    for some in (slice(i, i + BLOCK) for i in range(0, slates, BLOCK)):
        for place in range(1) if keep == 1 else range(keep, u.shape[1]):
            own = u[some, place]
            alive = np.isfinite(own)
            s = np.where(alive, own, 0.0)[:, None] + z
            product = np.broadcast_to(w, s.shape).copy()
            for other in range(u.shape[1]):
                if other != place:
                    gap = s - u[some, other, None]
                    product *= ndtr(-gap if other < keep else gap)
            total[some] += np.where(alive, product.sum(axis=1), 0.0)
    return np.asarray(np.log(np.maximum(total / math.sqrt(2 * math.pi), 1e-300)))


def _on_a_grid(noise: Noise, u: FloatArray, kept: IntArray) -> FloatArray:
    """Return log P(the kept set has the largest u + noise) by the trapezoidal rule on a fixed grid.

    It is the integral of :func:`recurate.rules.quadrature.log_kept`, to about 1e-6.
    """
    inside = np.take_along_axis(u, kept, axis=1)
    left = np.ones(u.shape, bool)
    np.put_along_axis(left, kept, False, axis=1)
    outside = u[left].reshape(len(u), -1)
    top, low = outside.max(axis=1), inside.min(axis=1)
    first, last = np.minimum(top, low) - LEFT, top + RIGHT
    s = first[:, None] + (last - first)[:, None] * np.linspace(0, 1, POINTS)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        below = noise.log_cdf(s[:, None] - outside[..., None])
        hazard = np.where(np.isfinite(below), noise.log_pdf(s[:, None] - outside[..., None]) - below, -np.inf)
        logs = np.logaddexp.reduce(np.nan_to_num(hazard, nan=-np.inf, neginf=-np.inf), axis=1)
        logs = logs + below.sum(axis=1) + noise.log_sf(s[:, None] - inside[..., None]).sum(axis=1)
        logs = np.nan_to_num(logs, nan=-np.inf, neginf=-np.inf)
        return np.asarray(np.logaddexp.reduce(logs, axis=1) + np.log((last - first) / (POINTS - 1)))


def _mixed(logs: FloatArray, share: float, ways: FloatArray) -> FloatArray:
    share = min(max(share, 1e-17), 1 - 1e-12)
    return np.asarray(np.logaddexp(math.log1p(-share) + logs, math.log(share) - ways))


def eligible(u: FloatArray, worth: FloatArray, cut: str, value: Any) -> BoolArray:
    """Return which candidates may be picked: the ``top`` m, the ``nucleus`` p, or those above a ``level``."""
    if cut == "level":
        return np.asarray(worth >= value)
    order = np.argsort(-u, axis=1, kind="stable")
    if cut == "top":
        allowed = np.broadcast_to(np.arange(u.shape[1]) < value, u.shape)
    else:
        p = np.exp(np.take_along_axis(u, order, axis=1) - u.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        allowed = np.cumsum(p, axis=1) - p < value
    out = np.zeros(u.shape, bool)
    np.put_along_axis(out, order, allowed, axis=1)
    return out


# --- estimates ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """Maximum-likelihood estimate of a model's parameters.

    Attributes:
        model: The model.
        theta: Estimates.
        value: Log-likelihood, in nats.
        scores: Each slate's derivatives by the free parameters, (slates, free).
    """

    model: Model
    theta: FloatArray
    value: float
    scores: FloatArray

    @property
    def errors(self) -> FloatArray:
        """Standard errors, from the outer products of scores."""
        return np.sqrt(np.maximum(np.diag(np.linalg.pinv(self.scores.T @ self.scores)), 0.0))


def climb(model: Model, start: FloatArray, free: BoolArray | None = None, steps: int = 40) -> Fit:
    """Maximise the log-likelihood over the free parameters (Berndt, Hall, Hall and Hausman 1974)."""
    at = np.flatnonzero(np.ones(start.size, bool) if free is None else free)
    theta, value, scores = (
        start.astype(float),
        _total(model.logs(start)),
        np.zeros((len(model.data), at.size)),
    )
    for _ in range(steps if at.size else 0):
        scores = scores_of(model, theta, at)
        gradient, outer = scores.sum(axis=0), scores.T @ scores
        step = np.linalg.lstsq(outer + 1e-10 * np.eye(at.size), gradient, rcond=None)[0]
        if gradient @ step < 1e-5:
            break
        step *= min(1.0, 2.0 / max(float(np.abs(step / np.maximum(1.0, np.abs(theta[at]))).max()), 1e-300))
        for _ in range(12):
            moved = theta.copy()
            moved[at] = np.clip(moved[at] + step, -400, 400)
            new = _total(model.logs(moved))
            if new > value:
                break
            step /= 3
        else:
            break
        small, theta, value = new - value < 1e-6, moved, new
        if small:
            break
    return Fit(model, theta, value, scores)


def _total(logs: FloatArray) -> float:
    total = float(logs.sum())
    return total if math.isfinite(total) else -math.inf


def scores_of(model: Model, theta: FloatArray, at: IntArray) -> FloatArray:
    """Return the derivatives of each slate's log-likelihood by some parameters, (slates, parameters)."""
    h = 1e-4
    steps = np.eye(theta.size)[at] * h
    with np.errstate(invalid="ignore"):
        found = [(model.logs(theta + s) - model.logs(theta - s)) / (2 * h) for s in steps]
    return np.nan_to_num(np.column_stack(found), posinf=0.0, neginf=0.0)


# --- steps ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """An extension of a model.

    Attributes:
        aspect: Aspect of the loop that it concerns, as in findings.
        name: What it says of the picks.
        fit: The extended model.
        parameters: Number of further parameters.
        alike: Names of steps that fit as well.
        on_rewards: Whether the inverse temperature still multiplies rewards.
    """

    aspect: str
    name: str
    fit: Fit
    parameters: int = 1
    alike: tuple[str, ...] = ()
    on_rewards: bool = True


RULE, ROUNDS, WITHIN, PLACES, LAPSES = (
    "rule", "temperature over rounds", "temperature within rounds", "position effects", "lapse share",
)  # fmt: skip


def explain(fit: Fit, *, places: bool = True, noises: bool = False) -> list[Step]:
    """Return the steps that explain the picks better than a model that was fitted to them.

    Args:
        fit: The model.
        places: Whether effects of places are a step.
        noises: Whether only other noises and lapses are compared, because only parameters were refused.
    """
    taken: list[Step] = []
    never = set() if places else {PLACES}
    penalty = 0.5 * math.log(len(fit.model.data))
    while len(taken) < MOST_STEPS:
        makers = list(_makers(fit.model, {t.aspect for t in taken} | never))
        if noises:
            own = _lapsing if not fit.model.lapse else None
            others = [partial(_other_noise, n) for n in NOISES if n != fit.model.noise]
            makers = [] if taken else [*others, *([own] if own else [])]
        if not makers:
            break
        whole = len(fit.model.data) <= RANKED
        few = fit if whole else climb(fit.model.take(fit.model.data.thin(RANKED)), fit.theta)
        tried = [(make, make(few)) for make in makers]
        tried.sort(key=lambda pair: -_score(pair[1], few, penalty))
        found = [step if whole else make(fit) for make, step in tried[:FINALISTS]]
        score = {s.name: _score(s, fit, penalty) for s in found}
        best = max(found, key=lambda s: score[s.name])
        if best.fit.value - fit.value < GAIN or score[best.name] <= 0:
            break
        alike = tuple(s.name for s in found if s is not best and score[s.name] > score[best.name] - ALIKE)
        taken.append(replace(best, alike=alike))
        fit = best.fit
    return taken


def _score(step: Step, fit: Fit, penalty: float) -> float:
    return step.fit.value - fit.value - penalty * step.parameters


def _makers(model: Model, done: set[str]) -> Iterator[Callable[[Fit], Step]]:
    noisy, data = model.noise != NO_NOISE, model.data
    if ROUNDS not in done and noisy and data.rounds.max() > 0:
        yield by_round
    if WITHIN not in done and noisy:
        yield lambda fit: Step(WITHIN, "a temperature that changes within rounds", _wider(fit, "drift"))
    if PLACES not in done and noisy and data.places is not None:
        yield lambda fit: Step(PLACES, "effects of places", _wider(fit, "placed"), data.shown.shape[1] - 1)
    if LAPSES not in done and not model.lapse:
        yield _lapsing
    if RULE in done:
        return
    for noise in NOISES:
        if noise != model.noise:
            yield partial(_other_noise, noise)
    if model.worth.shape[2] > 1:
        yield _other_judge
        for noise in NOISES:
            if noise != model.noise:
                yield partial(_other_judge, noise=noise)
        return
    if data.shown.shape[1] > 2:
        yield partial(_relative, "rewards standardised within each slate (z-scores)")
        yield partial(_relative, "ranks within slates")
    if data.kept.shape[1] == 1 and model.noise == GUMBEL:
        yield partial(_bent, "clipped rewards")
        yield partial(_bent, "squashed rewards (a sigmoid of them)")
        if data.shown.shape[1] > 2:
            yield from (_best_few, _nucleus, _above_a_level, _pair)


def _lapsing(fit: Fit) -> Step:
    return Step(LAPSES, "lapses", _wider(fit, "lapse"))


def _wider(fit: Fit, flag: str) -> Fit:
    """Return the fit with one more part, set by a flag."""
    more: dict[str, Any] = {flag: True}
    wider = replace(fit.model, **more)
    start, new = wider.start(), wider.at({"drift": "drift", "lapse": "lapse", "placed": "place"}[flag])
    start[~new] = fit.theta
    return climb(wider, start)


def by_round(fit: Fit) -> Step:
    """Fit each round's temperature; rounds are independent, so that all are climbed at once."""
    model, theta, h = fit.model, fit.theta, 1e-4
    count = int(model.data.rounds.max()) + 1
    base = np.ones(len(model.data)) if model.scale is None else model.scale
    factors = np.ones(count)

    def logs(own: FloatArray) -> FloatArray:
        return replace(model, scale=base * own[model.data.rounds]).logs(theta)

    def sums(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(model.data.rounds, values, count), float)

    value = sums(logs(factors))
    for _ in range(12):
        score = (logs(factors + h) - logs(factors - h)) / (2 * h)
        step = sums(score) / np.maximum(sums(np.square(score)), 1e-12)
        moved = factors + np.clip(step, -1.0, 1.0)
        new = sums(logs(moved))
        better = new > value
        factors, value = np.where(better, moved, factors), np.where(better, new, value)
        if not better.any() or np.abs(step[better]).max() < 1e-3:
            break
    found = climb(replace(model, scale=base * factors[model.data.rounds]), theta)
    return Step(ROUNDS, "a temperature that changes between rounds", found, count - 1)


NOISES = {GUMBEL: Family.LUCE, GAUSSIAN: Family.THURSTONE, NO_NOISE: Family.BEST}


def _other_noise(noise: Noise, fit: Fit) -> Step:
    lapse = fit.model.lapse or noise == NO_NOISE
    wider = replace(fit.model, noise=noise, lapse=lapse)
    text = f"{NOISES[noise]} with lapses" if noise == NO_NOISE else str(NOISES[noise])
    further = lapse - fit.model.lapse - 1 if noise == NO_NOISE else 1
    return Step(RULE, text, climb(wider, wider.start(_beta(fit))), further)


def _other_judge(fit: Fit, noise: Noise | None = None) -> Step:
    """Let slates be judged by the sum of the rewards, not by one of them, or the other way round."""
    model = fit.model
    lapse = model.lapse or noise == NO_NOISE
    wider = replace(model, summed=not model.summed, noise=noise or model.noise, lapse=lapse)
    name = "one scalarised reward" if wider.summed else "one reward, drawn for each slate"
    name += f" under {NOISES[noise]}" if noise is not None else ""
    return Step(RULE, name, climb(wider, wider.start(_beta(fit))))


def _beta(fit: Fit) -> float:
    """Return the inverse temperature, as a first value under other noise; 1 without noise."""
    return float(fit.theta[0]) if fit.model.noise != NO_NOISE else 1.0


def _relative(name: str, fit: Fit) -> Step:
    """Replace rewards by their z-scores or ranks within slates."""
    model, shown, r = fit.model, fit.model.data.shown, _one(fit.model)
    if name.startswith("ranks"):
        worth = 2 * ranks(r, shown)
    else:
        sizes = shown.sum(axis=1, keepdims=True)
        middle = np.where(shown, r, 0.0).sum(axis=1, keepdims=True) / sizes
        spread = np.sqrt(np.where(shown, np.square(r - middle), 0.0).sum(axis=1, keepdims=True) / sizes)
        worth = (r - middle) / np.maximum(spread, 1e-12)
    return Step(RULE, name, climb(replace(model, worth=worth[..., None]), fit.theta), on_rewards=False)


def _bent(name: str, fit: Fit) -> Step:
    """Clip or squash rewards, with the best limits: a grid on few slates, then smaller and smaller steps."""
    model, raw = fit.model, _one(fit.model)
    values = raw[model.data.shown]
    spread = max(float(values.std()), 1e-12)

    def bent(limits: tuple[float, float]) -> Model:
        if clipped:
            worth = np.clip(raw, *np.quantile(values, np.clip(limits, 0, 1)))
        else:
            middle, log_width = limits
            width = math.exp(log_width) * spread
            worth = np.tanh((raw - np.quantile(values, np.clip(middle, 0, 1))) / width)
        return replace(model, worth=worth[..., None])

    clipped = name.startswith("clipped")
    if clipped:
        grid = [(a / 10, b / 10) for a in range(6) for b in range(max(a + 2, 4), 11) if (a, b) != (0, 10)]
    else:
        grid = [(c / 10, math.log(w)) for w in (0.3, 0.45, 0.65, 1.0, 1.5) for c in range(1, 10)]
    few = model.data.thin(FEW)
    first = [climb(bent(limits).take(few), fit.theta, steps=3) for limits in grid]
    at = int(np.argmax([f.value for f in first]))
    limits, best = grid[at], climb(bent(grid[at]), first[at].theta)
    for step in (0.05, 0.025, 0.0125):
        for move in ((step, 0.0), (-step, 0.0), (0.0, step), (0.0, -step)):
            other = limits[0] + move[0], limits[1] + move[1] * (1 if clipped else 4)
            if clipped and other[1] - other[0] < 0.05:
                continue
            moved = climb(bent(other), best.theta, steps=3)
            if moved.value > best.value:
                limits, best = other, moved
    return Step(RULE, name, climb(best.model, best.theta), 3, on_rewards=False)


def _best_few(fit: Fit) -> Step:
    models = [replace(fit.model, cut=("top", m)) for m in range(2, min(fit.model.data.shown.shape[1], 6))]
    best = max((climb(m, fit.theta) for m in models), key=lambda f: f.value)
    assert best.model.cut is not None
    return Step(RULE, f"a softmax over the best {best.model.cut[1]} of each slate (top-m)", best, 2)


def _above_a_level(fit: Fit) -> Step:
    """Let only rewards of at least the lowest pick of their round be eligible."""
    model, data = fit.model, fit.model.data
    picked = _one(model)[np.arange(len(data)), data.kept[:, 0]]
    lowest = np.full(int(data.rounds.max()) + 1, np.inf)
    np.minimum.at(lowest, data.rounds, picked)
    level = replace(model, cut=("level", lowest[data.rounds][:, None]))
    name = "only rewards above a level are picked, or logged"
    return Step(RULE, name, climb(level, fit.theta), 1 + lowest.size)


def _pair(fit: Fit) -> Step:
    name = "a random pair of each slate compared"
    return Step(RULE, name, climb(replace(fit.model, cut=("pair", 2)), fit.theta))


def _nucleus(fit: Fit) -> Step:
    """Fit a truncated softmax on grids: its likelihood jumps as candidates become eligible."""
    few = fit.model.take(fit.model.data.thin(FEW))

    def best(model: Model, levels: FloatArray, factors: FloatArray) -> tuple[Model, FloatArray, float]:
        tried = [(replace(model, cut=("nucleus", p)), fit.theta * np.r_[f, np.ones(fit.theta.size - 1)])
                 for p in levels for f in factors]  # fmt: skip
        values = [_total(m.logs(t)) for m, t in tried]
        return *tried[int(np.argmax(values))], max(values)

    found, theta, _ = best(few, np.arange(0.5, 0.99, 0.02), np.linspace(0.4, 1.6, 13))
    assert found.cut is not None
    near = found.cut[1] + np.array([-0.01, 0.0, 0.01])
    found, theta, value = best(fit.model, near, theta[0] / fit.theta[0] * np.linspace(0.9, 1.1, 11))
    assert found.cut is not None
    name = f"a softmax truncated at probability {found.cut[1]:.2g} (top-p)"
    return Step(RULE, name, Fit(found, theta, value, scores_of(found, theta, np.arange(theta.size))), 2)


def ranks(worth: FloatArray, shown: BoolArray) -> FloatArray:
    """Return mid-ranks within slates, from -1/2 (lowest) to 1/2, (slates, K); 0 if none is shown."""
    if worth.shape[1] <= 16:
        w = np.where(shown, worth, np.inf)
        lower = (w[:, :, None] > w[:, None, :]).sum(axis=2)
        places = (lower + (w[:, :, None] >= w[:, None, :]).sum(axis=2) - 1) / 2
    else:  # ties by place
        places = np.argsort(np.argsort(np.where(shown, worth, np.inf), axis=1, kind="stable"), axis=1)
    return np.where(shown, places / np.maximum(shown.sum(axis=1, keepdims=True) - 1, 1) - 0.5, 0.0)


def _one(model: Model) -> FloatArray:
    """Return the worths of a model of one reward, (slates, K)."""
    return model.worth[..., 0]
