r"""Every proved statement about the loop, checked on exact laws: bounds, bounded quantities, evidence.

[F]: Ferbach et al. 2024, arXiv 2407.09499; [P]: Falahati et al. 2026, arXiv 2605.07724. The law moves as
p_{t+1} = (1-a) p_ref + a p_t W_t, 1-a the real fraction, lambda = a/(1-a); u = e^{r/tau}, u* its maximum on
the support, y = u/u*; E_t and V_t: mean and variance of u under p_t. Derived here:

*Lemma 2.2.* A pick from a slate of mean m has E u = sum u_j^2 / sum u_j = m + sum (u_j - m)^2 / sum u_j, and
sum u_j <= K u*: on average E u + ((K-1)/K) V / u* at least. Mixing with real data is linear.
*Theorems 2.1, 2.2.* At a maximiser of r, H = E[K / (1 + sum_j y_j)] >= K / (1 + (K-1) E y) >= 1 by Jensen. H
is the same at all of them, so KL(p_inf || p_t) falls by log H; it stays >= 0, so E_t y -> 1.
*Theorem 2.3.* d_t = E_t u - E_ref u, c = ((K-1)/K)/u*, V = Var_ref u: d_{t+1} >= a (d_t + c V_t); d_1 >= acV.
p_t >= (1-a) p_ref gives V_t = min_m E_t (u-m)^2 >= (1-a) V, so d_t >= a c V implies
d_{t+1} >= a (a c V + (1-a) c V) = a c V. The published factor lambda/(1+lambda)^3 = a (1-a)^2 is smaller.
*Theorem 2.4.* A pick has probability <= 1 under any noise, rewards and lapses, so W <= K, or K/m if m of K
are kept; stages multiply; efficacy e <= 1 keeps 1 + e (W-1) <= K. B = (1-a)/(1-aK) = 1/(1 - lambda (K-1)):
p_t <= B p_ref implies p_{t+1} <= ((1-a) + a K B) p_ref = B p_ref; so p_0 <= B p_ref is enough.
*Lemma 3.5.* Masses M_i of basins, o outside; c = e^{r_1*-eps}: u_1 >= c on S_1, <= k_1 c on S_2, < c outside,
so p_{t+1}(S_1) >= q M_1 / (M_1 + k_1 M_2 + o). This increases in M_1 and equals M_1 at M_1 = l_1 - o, where
l_1 = (q-k_1)/(1-k_1): p_{t+1}(S_1) >= min(p_t(S_1), l_1 - o_t). Likewise basin 2, with 1 - l_2 = q/(1-k_2).
*Two atoms.* The share follows g(s) = q s/(k_1 + (1-k_1) s) + (1-q) k_2 s/(1 - (1-k_2) s), inner fixed point
s* = q/(1-k_2) - (1-q) k_1/(1-k_1). g' > 0 is convex, so abs(s_T - s*) <= c abs(s_T - s_{T-1})/(1-c) if c, the
larger of the slopes at s_{T-1} and s*, is below one: no need to wait until it has settled.
*Theorem 3.6.* Variance is at least that between basins: Var r_i >= M_1 M_2/(M_1+M_2) (D_i-2 eps)^2, any law.
*Theorem 3.7.* u_1 - d_1 = s A_1, u_2 - d_2 = (1-s) A_2, A_i >= D_i - 2 eps > 0; s^q (1-s)^(1-q) peaks at q.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import BoolArray, FloatArray
from recurate.core.citations import cite
from recurate.core.errors import InputError
from recurate.core.plain import plain
from recurate.rules.rule import Rule
from recurate.theory.loop_model import LoopModel
from recurate.theory.population import Population
from recurate.theory.setting import Setting, check_weights

ROUNDING = 1e-9  # a shortfall below this part of the terms compared is rounding (laws carry about 1e-13)
FLOOR = 1e-305  # smaller masses and means have lost digits to underflow: nothing is concluded from them
SETTLED = 1e-6  # a share that moved less in the last round has settled
OUTSIDE = 1e-3  # with less mass outside, a law counts as one on the basins
CONTRACTING = 0.999  # a larger slope would magnify the laws' rounding too much in the two-atom limit
NARROW = 0.1  # default eps, as a part of the smaller conflict between the two rewards
WIDEST = 1e150  # rewards, and rewards / temperature, whose squares are still doubles


@dataclass(frozen=True)
class Hypothesis:
    """A condition of a statement, whether it holds here, and its value."""

    text: str
    holds: bool
    detail: str = ""


@dataclass(frozen=True)
class Bound:
    """One proved statement, judged on one trajectory.

    Attributes:
        name: the statement's name, with its number in the paper.
        statement: the inequality.
        source: the paper, or "derived here" (the proof is in this module's text).
        hypotheses: its conditions, each with whether it holds here.
        round: the index of the law on which it is tightest, relative to its terms; None, like the next three,
            where it does not apply.
        value: the bound there.
        measured: the bounded quantity there.
        slack: the margin by which it holds, >= 0 iff it does (a shortfall within rounding is zero).
        verdict: "holds", "does not apply" or "violated".
        why: the failing hypothesis, or where the statement is violated and by how much.
    """

    name: str
    statement: str
    source: str
    hypotheses: tuple[Hypothesis, ...]
    round: int | None
    value: float | None
    measured: float | None
    slack: float | None
    verdict: str
    why: str


class _Basins(NamedTuple):
    sets: tuple[BoolArray, BoolArray]  # S_1, S_2, on p_0's support
    margins: tuple[float, float]  # D_i - 2 eps, nats
    leaks: tuple[float, float]  # k_i = exp(-(D_i - 2 eps))


@dataclass
class _Loop:
    nats: FloatArray  # (N, m): (r - max r) / tau; atoms that never have mass count as the worst
    top: float  # max r of the first reward, in its unit
    weights: FloatArray  # (m,)
    raw_laws: tuple[FloatArray, ...]
    reference: FloatArray  # (N,)
    apart: float  # largest relative difference between p_0 and p_ref
    multipliers: list[FloatArray]  # empty if not given
    rounds: int
    k: float
    gain: float  # (K-1)/K
    temperature: float
    a: float
    most: float  # the largest W that the rule allows
    eps: float | None  # nats
    general: list[Hypothesis]  # the assumptions of Theorem 2.4, too
    luce: list[Hypothesis]  # the papers' assumptions

    def law(self, t: int) -> FloatArray:
        return np.asarray(self.raw_laws[t] / self.raw_laws[t].sum())

    @cached_property
    def utility(self) -> FloatArray:  # u/u* of the first reward
        return np.asarray(np.exp(self.nats[:, 0]))

    @cached_property
    def moments(self) -> list[tuple[float, float]]:  # (E_t, V_t) of u/u*
        return [_moments(self.law(t), self.utility) for t in range(self.rounds + 1)]

    @cached_property
    def basins(self) -> _Basins:
        start, given = self.law(0) > 0, self.eps
        depth = self.nats[start].max(axis=0) - self.nats  # (N, 2): r_i* - r_i
        if given is None:
            given = NARROW * min(float(depth[start & (depth[:, 1 - i] == 0), i].min()) for i in (0, 1))
        first, second = (start & (depth[:, i] <= given) for i in (0, 1))
        eps = max(float(depth[first, 0].max()), float(depth[second, 1].max()))
        margins = float(depth[second, 0].min()) - eps, float(depth[first, 1].min()) - eps
        return _Basins(
            (first, second), margins, (math.exp(-max(margins[0], 0)), math.exp(-max(margins[1], 0)))
        )

    @cached_property
    def masses(self) -> list[tuple[float, float, float]]:  # (M_1, M_2, o)
        first, second = self.basins.sets
        laws = (self.law(t) for t in range(self.rounds + 1))
        return [
            (float(p[first].sum()), float(p[second].sum()), float(p[~(first | second)].sum())) for p in laws
        ]

    def supposed(self, rewards: int, *, pure: bool = True, infinite: bool = False) -> list[Hypothesis]:
        found, least = self.weights.size, min(mean for mean, _ in self.moments)
        number = Hypothesis(f"rewards with weight: just {rewards}", found == rewards, f"here {found}")
        digits = Hypothesis("E_t u / u* keeps its digits", least >= FLOOR, f"the least is {least:.3g}")
        no_data = Hypothesis("no real data (a = 1)", self.a == 1, f"a is {self.a:g}")
        endless = Hypothesis("K = infinity", self.k == math.inf, f"K is {self.k:g}")
        return [*self.luce, number] + [digits] * (rewards == 1) + [no_data] * pure + [endless] * infinite


def check_bounds(
    population: Population,
    setting: Setting,
    laws: Iterable[ArrayLike] | None = None,
    *,
    multipliers: Sequence[ArrayLike] | None = None,
    eps: float | None = None,
) -> tuple[Bound, ...]:
    r"""Check every proved statement about the loop on the exact laws of its rounds.

    The statements are about p_{t+1} = rho p_ref + (1 - rho) p_t W_t: the reward gain E_{t+1} u >= E_t u +
    ((K-1)/K) Var_t u / max u with u = e^{r / tau}, collapse onto the maximisers, the reward above the
    reference, the bound 1 / (1 - lambda (K-1)) on p_t / p_ref (Ferbach et al. 2024, arXiv 2407.09499, Lemma
    2.2, Theorems 2.1 to 2.4); outside mass, share intervals, variance and the Nash product of two groups
    (Falahati et al. 2026, arXiv 2605.07724, Lemmas 3.3 and 3.5, Theorems 3.6 and 3.7, Corollary 3.8). Each is
    checked together with its hypotheses; this module's text has the proofs.

    Args:
        population: the atoms' rewards, shape (N, m), and p_ref. Rewards of weight zero are left out.
        setting: the rules that pick from slates, the real fraction and the retraining of every round.
        laws: p_0 .. p_T, each of shape (N,) and summing to one (within 1e-6): exact laws, not samples. None:
            the population's own laws under the setting.
        multipliers: W_0 .. W_{T-1}, each of shape (N,). They are optional: W matters only where K is
            infinite, and there it is sum_i w_i u_i / E u_i. If given they are used instead, and W <= K is
            checked.
        eps: the depth of the basins S_i = {r_i >= r_i* - eps} of two groups, in the rewards' unit. None: a
            tenth of the smaller of r_i* - max r_i over the other reward's maximisers. The statements use the
            smallest eps with the same basins (0 for single atoms) and the largest D_i; then D_i > 2 eps
            wherever the basins are disjoint. Where they are not, the statements about two groups do not
            apply.

    Returns:
        One :class:`Bound` per statement. "violated" means that the laws are not this loop's, or that the
        statement is false (Lemma 3.3 as the paper's main text has it).

    Raises:
        InputError: shapes disagree, values are out of range, or a rule does not pick from slates.

    >>> from recurate import Population, Rule, Setting
    >>> found = check_bounds(Population([0.0, 1.0, 2.0]), Setting(Rule(k=4), rounds=3))
    >>> found[0].name, found[0].verdict
    ('reward gain (Lemma 2.2)', 'holds')
    """
    cite("ferbach2024", "falahati2026")
    slates = [stage.rule for stage in setting.stages if isinstance(stage.rule, Rule)]
    if len(slates) < len(setting.stages):
        got = ", ".join(type(stage.rule).__name__ for stage in setting.stages)
        raise InputError(
            "the statements are about picks from slates", got=got, remedy="use Rule in all stages"
        )
    if eps is not None and not 0 <= eps < math.inf:
        raise InputError("eps must be a number >= 0", got=eps, remedy="leave it out")
    largest, count = float(np.abs(population.rewards).max()), len(population.rewards)
    if not largest <= WIDEST * min(setting.temperature, 1.0):
        got, remedy = f"up to {largest:.3g}", "use another unit"
        raise InputError(f"rewards may be at most {WIDEST:g}", got=got, remedy=remedy)
    played = population.play(setting) if laws is None else laws
    path = tuple(_masses(f"law {t}", law, count) for t, law in enumerate(played))
    known = [_masses("a multiplier", w, count, total=False) for w in multipliers or ()]
    if not path or (multipliers is not None and len(known) != len(path) - 1):
        got = f"{len(path)} laws, {len(known)} multipliers"
        raise InputError("laws and multipliers disagree", got=got, remedy="pass p_0 .. p_T, W_0 .. W_{T-1}")
    loop = _loop(population, setting, slates, path, known, eps)
    return tuple(_judge(name, statement, source, find(loop)) for find, name, source, statement in STATEMENTS)


def _loop(
    population: Population,
    setting: Setting,
    slates: Sequence[Rule],
    path: tuple[FloatArray, ...],
    multipliers: list[FloatArray],
    eps: float | None,
) -> _Loop:
    own = population.weights if setting.weights is None else setting.weights
    weights = check_weights(own, population.rewards.shape[1])
    reference, rho, tau = population.reference, setting.real_fraction, setting.temperature
    supported = np.any([*(law > 0 for law in path), (reference > 0) & (rho > 0)], axis=0)
    points = population.rewards[:, weights > 0]
    points = np.where(supported[:, None], points, points[supported].min(axis=0))
    larger = np.maximum(np.maximum(path[0], reference), 1e-323)
    k = slates[0].largest
    general = [
        Hypothesis("at least one round", len(path) > 1, "only p_0 is given"),
        Hypothesis("a round's picks replace earlier ones", not setting.accumulate, "data accumulate"),
    ]
    return _Loop(
        nats=(points - points.max(axis=0)) / tau,
        top=float(points[:, 0].max()),
        weights=weights[weights > 0],
        raw_laws=path,
        reference=reference,
        apart=float(np.max(np.abs(path[0] - reference) / larger)),
        multipliers=multipliers,
        rounds=len(path) - 1,
        k=k,
        gain=1 - 1 / k,
        temperature=tau,
        a=1 - rho,
        most=max(math.prod(rule.largest for rule in slates) / slates[0].keep, 1.0),
        eps=None if eps is None else eps / tau,
        general=general,
        luce=[*general, *_luce(slates, setting.efficacy)],
    )


def _luce(slates: Sequence[Rule], efficacy: float) -> list[Hypothesis]:
    """Return the papers' assumptions about the rules."""
    noises = {rule.noise.name for rule in slates}
    noise = noises.pop() if len(noises) == 1 else "mixed"
    lapse, keep = max(rule.lapse for rule in slates), slates[0].keep
    sizes = ", ".join(f"{rule.largest:g}" for rule in slates)
    return [
        Hypothesis("Luce choice (Gumbel noise)", noise == "gumbel", f"the noise is {noise}"),
        Hypothesis("one slate size", all(len(rule.sizes) == 1 for rule in slates), "sizes vary"),
        Hypothesis("no lapses", lapse == 0, f"a share {lapse:g} of the picks is random"),
        Hypothesis("one of a slate is kept", keep == 1, f"{keep} are kept"),
        Hypothesis("one curation per round, of slates of k", len(slates) == 1, f"slate sizes {sizes}"),
        Hypothesis("efficacy 1", efficacy == 1, f"it is {efficacy:g}"),
    ]


def _masses(name: str, values: ArrayLike, count: int, *, total: bool = True) -> FloatArray:
    vector = np.asarray(values, np.float64)
    shaped = vector.shape == (count,) and bool(np.all(vector >= 0))
    if not shaped or (total and not abs(vector.sum() - 1) <= 1e-6):
        what = f"{name} must be {count} numbers >= 0" + " that sum to one" * total
        raise InputError(what, got=f"shape {vector.shape}, sum {vector.sum():g}", remedy="pass one for each")
    return vector


def _moments(law: FloatArray, values: FloatArray) -> tuple[float, float]:
    mean = float(law @ values)
    return mean, float(law @ (values - mean) ** 2)


def _kl(p: FloatArray, q: FloatArray) -> float:
    """Return KL(p || q), nats; infinite if q lacks an atom of p. Masses of p below FLOOR are left out."""
    p, q = p[p >= FLOOR], q[p >= FLOOR]
    return float(p @ (np.log(p) - np.log(q))) if np.all(q > 0) else math.inf


def _ratio(p: FloatArray, q: FloatArray) -> float:
    """Return sup p/q over the masses of p of at least FLOOR."""
    with np.errstate(divide="ignore", over="ignore"):
        return float(np.max(p[p >= FLOOR] / q[p >= FLOOR]))


def _log_mean_exp(law: FloatArray, nats: FloatArray) -> float:
    top = float(nats[law > 0].max())
    return top + math.log(float(law @ np.exp(np.minimum(nats - top, 0))))


# Evidence: lists of hypotheses, each resting on those before it, then rows. A row is the statement in one
# round: round, measured, value, the margin by which it holds, and the size of its terms, for ROUNDING.
_Row = tuple[int, float, float, float, float]
_Evidence = Iterator[list[Hypothesis] | _Row]


def _row(t: int, measured: float, value: float, scale: float, *, upper: bool = False) -> _Row:
    return (t, measured, value, value - measured if upper else measured - value, scale)


def _judge(name: str, statement: str, source: str, evidence: _Evidence) -> Bound:
    made: list[Hypothesis] = []
    rows: list[_Row] = []
    for item in evidence:
        if isinstance(item, tuple):
            rows.append(item)
            continue
        made += item
        if failing := [f"{h.text} ({h.detail})" for h in item if not h.holds]:
            why = "needs " + "; ".join(failing)
            return Bound(name, statement, source, tuple(made), None, None, None, None, "does not apply", why)
    tightest = min(rows, key=lambda row: -math.inf if math.isnan(row[3]) else row[3] / row[4])
    t, measured, value, spare, scale = tightest
    if spare >= -ROUNDING * scale:
        return Bound(name, statement, source, tuple(made), t, value, measured, max(spare, 0.0), "holds", "")
    why = f"round {t}: {measured:.6g} against the bound {value:.6g}"
    return Bound(name, statement, source, tuple(made), t, value, measured, spare, "violated", why)


def _reward_gain(loop: _Loop) -> _Evidence:
    yield loop.supposed(1, pure=False)
    real = float(loop.reference @ loop.utility)
    for t in range(loop.rounds):
        (mean, variance), (after, _) = loop.moments[t : t + 2]
        value = (1 - loop.a) * real + loop.a * (mean + loop.gain * variance)
        yield _row(t + 1, after, value, max(after, value))


def _collapse(loop: _Loop, *, rate: bool) -> _Evidence:
    start, height = loop.law(0), loop.nats[:, 0]
    best = (start > 0) & (height == height[start > 0].max())
    mass = float(start[best].sum())
    yield [*loop.supposed(1), Hypothesis("p_0 gives the maximisers mass", mass >= FLOOR, f"it is {mass:.3g}")]
    before = -math.log(mass)  # KL(p_inf || p_0)
    for t in range(loop.rounds):
        fall = -math.log(1 / loop.k + loop.gain * loop.moments[t][0]) if rate else 0.0
        after = _kl(start[best] / mass, loop.law(t + 1)[best])
        yield _row(t + 1, after, before - fall, max(1.0, before), upper=True)
        before = after


def _above(loop: _Loop, *, sharper: bool) -> _Evidence:
    detail = f"their masses differ by up to {loop.apart:.3g} of themselves"
    yield [*loop.supposed(1, pure=False), Hypothesis("p_0 = p_ref", loop.apart <= 1e-12, detail)]
    mean, variance = loop.moments[0]
    value = mean + loop.a * (1.0 if sharper else (1 - loop.a) ** 2) * loop.gain * variance
    for t, (after, _) in enumerate(loop.moments[1:]):
        yield _row(t + 1, after, value, max(after, value))


def _anchored(loop: _Loop, *, log: bool) -> _Evidence:
    most = loop.most
    growth = loop.a * most if loop.a > 0 else 0.0
    detail = f"a is {loop.a:g}, K is {most:g}"
    yield [*loop.general, Hypothesis("lambda < 1/(K-1), that is a K < 1", growth < 1, detail)]
    level = (1 - loop.a) / (1 - growth)
    first = _ratio(loop.law(0), loop.reference)
    near = first <= level * (1 + ROUNDING)
    yield [Hypothesis("p_0 = p_ref, or p_0 within the bound", near, f"sup p_0/p_ref is {first:.4g}")]
    if loop.multipliers:
        seen = max(float(w[loop.law(t) > 0].max()) for t, w in enumerate(loop.multipliers))
        yield [
            Hypothesis("W <= K", seen <= most * (1 + ROUNDING), f"the largest W is {seen:.4g}, K is {most:g}")
        ]
    value = math.log(level) if log else level
    for t in range(1, loop.rounds + 1):
        measured = (_kl if log else _ratio)(loop.law(t), loop.reference)
        yield _row(t, measured, value, max(1.0, value), upper=True)


def _regularised_step(loop: _Loop) -> _Evidence:
    yield loop.supposed(1, infinite=True)
    nats, top, tau = loop.nats[:, 0], loop.top, loop.temperature
    for t in range(loop.rounds):
        now, after = loop.law(t), loop.law(t + 1)
        most, found = _log_mean_exp(now, nats), float(after @ nats) - _kl(after, now)
        yield (t + 1, top + tau * found, top + tau * most, -tau * abs(most - found), tau * max(1, abs(most)))


def _two_groups(loop: _Loop, *, separated: bool = False) -> Iterator[list[Hypothesis]]:
    yield loop.supposed(2, infinite=True)
    shared = int(np.sum(loop.basins.sets[0] & loop.basins.sets[1]))
    yield [Hypothesis("disjoint basins, D_i > 2 eps", shared == 0, f"atoms in both: {shared}")]
    if separated:
        (one, two), (q, rest) = loop.basins.leaks, loop.weights
        detail = f"k_1 is {one:.3g}, q is {q:.3g}, k_2 is {two:.3g}"
        yield [Hypothesis("k_1 < q < 1 - k_2", bool(one < q and two < rest), detail)]


def _outside_peak(loop: _Loop, t: int, outside: BoolArray) -> float:
    """Return the largest W_t outside the basins, cut off at e^700: sum_i w_i u_i / E u_i at K = infinity."""
    if loop.multipliers:
        return float(loop.multipliers[t][outside].max(initial=0.0))
    means = [_log_mean_exp(loop.law(t), loop.nats[:, i]) for i in (0, 1)]
    logs = loop.nats[outside] - means + np.log(loop.weights)
    return float(np.exp(np.minimum(logs, 700)).sum(axis=1).max(initial=0.0))


def _outside(loop: _Loop, *, dominated: bool) -> _Evidence:
    yield from _two_groups(loop)
    first, second = loop.basins.sets
    outside, rho = (loop.law(0) > 0) & ~(first | second), 1.0
    if dominated:
        rho, worst = max((_outside_peak(loop, t, outside), -t) for t in range(loop.rounds))
        detail = f"sup of W outside the basins is {rho:.4g} {'<' if rho < 1 else '>='} 1 in round {-worst}"
        yield [Hypothesis("outside domination: W_t <= rho < 1 outside in every round", rho < 1, detail)]
    for t in range(loop.rounds):
        before, after = loop.masses[t][2], loop.masses[t + 1][2]
        yield _row(t + 1, after, rho * before, max(rho * before, after, FLOOR), upper=True)


def _share_interval(loop: _Loop) -> _Evidence:
    yield from _two_groups(loop, separated=True)
    for t, i in ((t, i) for t in range(loop.rounds) for i in (0, 1)):
        leak, outside = loop.basins.leaks[i], loop.masses[t][2]
        value = min(loop.masses[t][i], (float(loop.weights[i]) - leak) / (1 - leak) - outside)
        yield _row(t + 1, loop.masses[t + 1][i], value, 1.0)


def _two_atom_limit(loop: _Loop) -> _Evidence:
    yield from _two_groups(loop, separated=True)
    inside = all(bool(np.all(loop.nats[s] == loop.nats[s][0])) for s in loop.basins.sets)
    inside = inside and not np.any(loop.law(0)[~(loop.basins.sets[0] | loop.basins.sets[1])])
    yield [Hypothesis("two atoms (points of reward space)", inside, "there are more")]
    (one, two), (q, rest) = loop.basins.leaks, map(float, loop.weights)
    limit = q / (1 - two) - rest * one / (1 - one)
    (before, other, _), (last, _, _) = loop.masses[-2:]
    slopes = [
        q * one / (x + one * y) ** 2 + rest * two / (y + two * x) ** 2 if min(x, y) > 1e-100 else math.inf
        for x, y in ((before, other), (limit, 1 - limit))
    ]
    c = max(slopes)
    yield [Hypothesis(f"c <= {CONTRACTING}", c <= CONTRACTING, f"not contracting yet, c is {c:.4g}")]
    yield (loop.rounds, last, limit, c * abs(last - before) / (1 - c) - abs(last - limit), 1.0)


def _variance(loop: _Loop) -> _Evidence:
    yield from _two_groups(loop)
    for t, (first, second, _) in enumerate(loop.masses):
        between = first / (first + second) * second if first + second > 0 else 0.0
        for i in (0, 1):
            found, value = _moments(loop.law(t), loop.nats[:, i])[1], between * loop.basins.margins[i] ** 2
            yield _row(t, found, value, max(found, value, FLOOR))


def _nash_product(loop: _Loop) -> _Evidence:
    yield from _two_groups(loop)
    q, sets = float(loop.weights[0]), loop.basins.sets
    least = min(min(first, second) / (first + second or 1) for first, second, _ in loop.masses)
    yield [Hypothesis("both basins keep mass", least > ROUNDING, f"the least share is {least:.3g}")]
    for t, (first, second, _) in enumerate(loop.masses):
        law = loop.law(t)
        means = [law[s] @ loop.nats[s] / law[s].sum() for s in sets]  # E_{P_j} of both rewards
        gains = float(means[0][0] - means[1][0]), float(means[1][1] - means[0][1])
        shares = (first / (first + second), q)
        found, value = (q * math.log(s * gains[0]) + (1 - q) * math.log((1 - s) * gains[1]) for s in shares)
        yield _row(t, found, value, max(1.0, abs(value)), upper=True)


def _nash_share(loop: _Loop) -> _Evidence:
    yield from _two_groups(loop, separated=True)
    (before, _, outside), (last, _, _) = loop.masses[-2:]
    moved = f"not settled yet, it moved by {abs(last - before):.3g} in the last round"
    yield [
        Hypothesis(f"share moved by < {SETTLED:g}", abs(last - before) < SETTLED, moved),
        Hypothesis(f"outside mass < {OUTSIDE:g}", outside < OUTSIDE, f"not settled yet, it is {outside:.3g}"),
    ]
    value = 0.0
    for i in (0, 1):
        lost = loop.basins.leaks[i] * loop.masses[-2][1 - i] + outside
        value = max(value, float(loop.weights[i]) * lost / max(loop.masses[-2][i] + lost, FLOOR))
    yield _row(loop.rounds, abs(last - float(loop.weights[0])), value, 1.0, upper=True)


# fmt: off
STATEMENTS: tuple[tuple[Callable[[_Loop], _Evidence], str, str, str], ...] = (
    (_reward_gain, "reward gain (Lemma 2.2)", "[F] Lemma 2.2 (a = 1); with real data derived here",
     "E_{t+1} u >= (1-a) E_ref u + a (E_t u + ((K-1)/K) V_t / u*), in units of u*"),
    (partial(_collapse, rate=False), "monotone collapse (Thm 2.1, 2.2)", "[F] Theorems 2.1 and 2.2",
     "KL(p_inf || p_{t+1}) <= KL(p_inf || p_t), nats; p_inf: p_0 on the maximisers of r"),
    (partial(_collapse, rate=True), "collapse rate (Thm 2.1, 2.2)", "[F] Thm 2.1, 2.2; rate derived here",
     "KL(p_inf || p_{t+1}) <= KL(p_inf || p_t) - log(K / (1 + (K-1) E_t u/u*)), nats: so it tends to 0"),
    (partial(_above, sharper=False), "reward above the reference (Thm 2.3)", "[F] Theorem 2.3",
     "E_t u >= E_ref u + lambda/(1+lambda)^3 ((K-1)/K) Var_ref(u) / u* for t >= 1, in units of u*"),
    (partial(_above, sharper=True), "reward above the reference, sharper (Thm 2.3)", "derived here",
     "E_t u >= E_ref u + lambda/(1+lambda) ((K-1)/K) Var_ref(u) / u* for t >= 1, in units of u*"),
    (partial(_anchored, log=False), "density ratio (Thm 2.4)", "[F] Thm 2.4; ratio, any W <= K derived here",
     "sup p_t/p_ref <= 1/(1 - lambda (K-1)), K the product of the stages' K over the number kept"),
    (partial(_anchored, log=True), "divergence (Thm 2.4)", "[F] Thm 2.4; any W <= K derived here",
     "KL(p_t || p_ref) <= -log(1 - lambda (K-1)), nats; K the product of the stages' K over the number kept"),
    (_regularised_step, "KL-regularised step", "[F] section 2 (a = 1, K = infinity); Gibbs' principle",
     "E_{t+1} r - tau KL(p_{t+1} || p_t) = max_p [E_p r - tau KL(p || p_t)] = tau log E_t e^{r/tau}"),
    (partial(_outside, dominated=False), "outside mass, main text (Lemma 3.3)", "[P] Lemma 3.3, main text",
     "p_{t+1}(outside) <= p_t(outside), geometric decay at the least; but a compromise can take all mass"),
    (partial(_outside, dominated=True), "outside mass, appendix (Lemma 3.3)", "[P] Lemma 3.3, appendix",
     "p_{t+1}(outside) <= rho p_t(outside), rho the largest W_t outside the basins in any round"),
    (_share_interval, "share interval (Lemma 3.5)", "[P] Lemma 3.5; with outside mass derived here",
     "p_{t+1}(S_i) >= min(p_t(S_i), l_i - o_t), l_1 = (q-k_1)/(1-k_1), 1-l_2 = q/(1-k_2), o outside mass"),
    (_two_atom_limit, "two-atom limit (Lemma 3.5)", "[P] Lemma 3.5; limit and distance derived here",
     "s_T within c abs(s_T - s_{T-1})/(1-c) of its limit q/(1-k_2) - (1-q) k_1/(1-k_1); c its map's slope"),
    (_variance, "variance between basins (Thm 3.6)", "[P] Theorem 3.6 (a limit); any law derived here",
     "Var_t r_i >= (1-o) s (1-s) (D_i - 2 eps)^2, s basin 1's part of the mass 1-o in basins; r in nats"),
    (_nash_product, "weighted Nash product (Thm 3.7)", "[P] Theorem 3.7, with P_i = p_t on S_i",
     "on s P_1 + (1-s) P_2, q log(u_1 - d_1) + (1-q) log(u_2 - d_2) is largest at s = q; u_i = E r_i, nats"),
    (_nash_share, "Nash share (Cor 3.8)", "[P] Corollary 3.8 (the limit); the distance derived here",
     "abs(s_T - q) <= max_i w_i (k_i M_j + o)/(M_i + k_i M_j + o), the law before: 0 as k_i, o -> 0"),
)


def check_model(model: LoopModel) -> tuple[Bound, ...]:
    """Return every proved statement, checked on the model's laws.

    There are none if selection happens within contexts, or by a rule that does not pick from slates.
    """
    if model.mode != "one" or not all(isinstance(stage.rule, Rule) for stage in model.setting.stages):
        return ()
    return check_bounds(model.population, model.setting)


def plain_bounds(bounds: tuple[Bound, ...]) -> list[dict[str, Any]]:
    """Return bounds as plain values, for files and reports."""
    names = ("name", "statement", "source", "verdict", "why", "round", "value", "measured", "slack")
    return [{name: plain(getattr(bound, name)) for name in names} for bound in bounds]
