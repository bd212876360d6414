r"""The rule that logged picks follow: families of rules compared by their likelihood, given the rewards.

:func:`recover` takes an :class:`~recurate.choices.observed.Observed` log and returns a :class:`Recovered`,
whose ``rule`` is the object that forecasts and plans use, with intervals of its parameters.

For slates with one pick the families are uniform, Luce, Luce with lapses, Thurstone, and best of K with
lapses. For picks from a pool a share is kept, by rank or by one softmax without replacement; its picks follow
P(kept) = 1 - exp(-exp(r / tau - s)) with a threshold s for each round (Gumbel noise).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recurate.choices.checks.luce_checks import part_of
from recurate.choices.models import rival_rules
from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.logit import conditional_logit
from recurate.choices.models.rival_rules import RuleFit, best_chances
from recurate.choices.observed import Observed
from recurate.choices.table import Choices
from recurate.core.arrays import BoolArray, FloatArray
from recurate.rules import GUMBEL, NO_NOISE, Rule, Selection, Threshold, TopFraction
from recurate.rules.families import Family
from recurate.rules.slates import Slates

MOST = 40_000  # maximum number of slates on which rules are compared
WORTH_A_PARAMETER = 6.0  # gain in log-likelihood, in nats, that justifies a further parameter
ENOUGH = 8.0  # gain in nats that distinguishes another family from the simplest one
SAME = 1e-3  # gain in nats below which two families are the same law of the same picks
EXCEPTIONS, FULL = 0.005, 0.9  # share of slates with another number of picks; of slates with picks
STEPS, STILL = 500, 1e-9  # largest number of EM steps, and the step at which they stop
NORMAL_975 = 1.96  # half-width of a 95 % interval in standard errors


@dataclass(frozen=True)
class Recovered:
    """The rule that fits the picks best.

    Attributes:
        family: Family of rules; ``Family.UNKNOWN`` if the picks do not identify one.
        inverse: Inverse temperature and its standard error, or None if the family has none.
        lapse: Share of slates with uniform picks and its 95 % interval, or None.
        keep: Number of picks per slate, or None for pools.
        share: Share of the pool that is kept, or None for slates.
        logs: Log-likelihood of each family, in nats.
        picks: Number of picks in the likelihoods.
        evidence: Evidence in words.
        weights: Share of slates judged by each reward, (rewards,), if there are several; else None.
        cut: Highest reward not kept and lowest one kept, over all rounds, if rank decides; else None.
        sizes: Sizes of the slates with picks, and the share of slates of each size.
        inverses: Inverse temperature under each family that has one, and its standard error (of Thurstone's
            model, if it is not the one recovered, that of Luce's).
        by_round: The same for each pool that was selected from.
    """

    family: Family
    inverse: tuple[float, float] | None = None
    lapse: tuple[float, float, float] | None = None
    keep: int | None = None
    share: float | None = None
    logs: dict[Family, float] = field(default_factory=dict)
    picks: int = 0
    evidence: str = ""
    weights: tuple[float, ...] | None = None
    cut: tuple[float, float] | None = None
    sizes: Mapping[float, float] = field(default_factory=lambda: {1.0: 1.0})
    inverses: Mapping[Family, tuple[float, float]] = field(default_factory=dict)
    by_round: tuple[tuple[float, float], ...] = ()

    @property
    def temperature(self) -> float | None:
        """Temperature 1 / beta, or None if the family has none or beta is not positive."""
        return 1 / self.inverse[0] if self.inverse and self.inverse[0] > 0 else None

    @property
    def temperature_interval(self) -> tuple[float, float] | None:
        """95 % interval of the temperature, up to infinity if beta may be zero; or None."""
        if self.inverse is None or self.inverse[0] <= 0:
            return None
        low, high = (self.inverse[0] + side * NORMAL_975 * self.inverse[1] for side in (-1, 1))
        return 1 / high, 1 / low if low > 0 else math.inf

    @property
    def rule(self) -> Selection | None:
        """Rule for slates of these sizes, or None if forecasts do not support it."""
        if self.inverse is not None and self.temperature is None:
            return None  # lower rewards are preferred
        temperature = self.temperature or 1.0
        if self.family in (Family.TOP, Family.POOL_SOFTMAX) and self.share is not None:
            noise = GUMBEL if self.family == Family.POOL_SOFTMAX else NO_NOISE
            return TopFraction(min(max(self.share, 1e-9), 1.0), temperature, noise)
        if self.family == Family.POOL_UNIFORM:
            return Rule(1)
        if self.family == Family.VERIFIER and self.cut is not None:
            return Threshold(self.cut[1])
        if self.family == Family.UNIFORM:
            return Rule(self.sizes, lapse=1.0, keep=self.keep or 1)
        if self.family.noise is not None and not self.family.pooled:
            lapse = min(max(self.lapse[0], 0.0), 1.0) if self.lapse else 0.0
            return Rule(self.sizes, temperature, self.family.noise, self.keep or 1, lapse)
        return None


def recover(observed: Observed, *, most: int = MOST) -> Recovered:
    """Return the rule that fits the picks of a log best.

    Args:
        observed: The model's candidates; see :meth:`~recurate.choices.observed.Observed.of`.
        most: Maximum number of slates with one pick on which families are compared.

    Returns:
        The family with the best penalised likelihood, its rule with temperature, lapse share and their
        intervals, and the log-likelihood of each family, in nats.
    """
    picked_from = observed.picks_per_slate > 0
    found = _recover(observed, most)
    if not picked_from.any():
        return found
    return replace(found, sizes=observed.slates.take(np.flatnonzero(picked_from))[0].shares())


def _recover(observed: Observed, most: int) -> Recovered:
    counts = observed.picks_per_slate
    total = int(observed.picked.sum())
    if total == 0:
        return Recovered(Family.UNKNOWN, evidence="nothing was picked")
    outside = int(observed.picked[observed.slated :].sum())
    keep = usual_picks(observed)
    if outside == 0 and keep is not None and observed.slates.sizes.max() > 1:
        if (counts == observed.slates.sizes).all():
            evidence = "all candidates shown were picked: nothing was selected"
            return Recovered(Family.UNKNOWN, keep=keep, evidence=evidence)
        return recover_single(observed, most) if keep == 1 else recover_kept(observed, keep)
    return recover_pool(observed)


def usual_picks(observed: Observed) -> int | None:
    """Return the number of picks of (almost) every slate with any; None if picks are not made slate by slate.

    Up to ``EXCEPTIONS`` of the slates may have another number. Where most slates have no pick that would be
    chance, so that then all must have the same number.
    """
    shown = observed.picks_per_slate[observed.picks_per_slate > 0]
    if not shown.size:
        return None
    keep = int(np.bincount(shown).argmax())
    others = float((shown != keep).mean())
    full = shown.size >= FULL * len(observed.slates)
    return keep if others == 0 or (full and others <= EXCEPTIONS) else None


# --- one pick per slate ---------------------------------------------------------------------------


def recover_single(observed: Observed, most: int = MOST) -> Recovered:
    """Compare the families of rules on at most ``most`` slates with one pick."""
    found = observed.single_picks()
    if found is None:
        return Recovered(Family.UNKNOWN, keep=1, evidence="no slate of two or more has a pick")
    choices = part_of(found[0], most)
    if len(observed.names) > 1:
        return _recover_mixture(choices)
    worth = choices.features[:, 0]
    if not (choices.slates.maxima(worth) > -choices.slates.maxima(-worth)).any():
        return Recovered(Family.UNKNOWN, keep=1, evidence="the rewards of each slate are all equal")
    n = len(choices)
    right = best_chances(choices, worth)
    logs = {Family.UNIFORM: _uniform_log(choices)}
    if (right > 0).all():
        logs[Family.BEST] = float(np.log(right).sum())
        return Recovered(
            Family.BEST, lapse=(0.0, 0.0, min(3.0 / n, 1.0)), keep=1, logs=logs, picks=n,
            evidence=f"the best was picked in all {n} slates",
        )  # fmt: skip
    if (best_chances(choices, -worth) > 0).all():
        evidence = f"the worst was picked in all {n} slates"
        return Recovered(Family.WORST, keep=1, logs=logs, picks=n, evidence=evidence)
    unit = _spread(choices)
    fits = {Family.BEST: rival_rules.best_of_k(choices, worth)}
    inverses: dict[Family, tuple[float, float]] = {}
    scaled = choices.with_features(choices.features / unit, choices.names)
    try:
        luce = conditional_logit(scaled, clustered=False)
        logs[Family.LUCE] = luce.log_likelihood
        inverses[Family.LUCE] = (float(luce.coefficients[0]) / unit, float(luce.standard_errors[0]) / unit)
        for rival in (
            rival_rules.lapse_logit(scaled, pooled=luce),
            rival_rules.thurstone(scaled, pooled=luce, errors=False),
        ):
            fits[rival.family] = rival
            inverses[rival.family] = _inverse(rival, luce.standard_errors, unit)
    except NoEstimate:
        pass  # separated picks: only best of K remains
    logs |= {family: fit.log_likelihood for family, fit in fits.items()}
    family = simplest(logs)
    if family == Family.THURSTONE:
        probit = rival_rules.with_covariance(scaled, fits[family])
        inverses[family] = _inverse(probit, luce.standard_errors, unit)
    evidence = f"the best was picked in {float((right > 0).mean()):.1%} of {n} slates"
    lapse = _lapse(fits[family]) if family in fits else None
    return Recovered(family, inverses.get(family), lapse, 1, None, logs, n, evidence, inverses=inverses)


def _inverse(fit: RuleFit, others: FloatArray, unit: float) -> tuple[float, float]:
    """Return the inverse temperature of a fit to rewards in a unit, and its (or another) standard error."""
    errors = others if fit.standard_errors is None else fit.standard_errors
    return float(fit.coefficients[0]) / unit, float(errors[0]) / unit


def _uniform_log(choices: Choices) -> float:
    return float(choices.log_likelihood(Rule(lapse=1.0), np.zeros(choices.slates.rows)).sum())


def _lapse(fit: RuleFit) -> tuple[float, float, float] | None:
    return None if fit.lapse_interval is None else (fit.rule.lapse, *fit.lapse_interval)


def simplest(logs: dict[Family, float]) -> Family:
    """Return the family with the best penalised likelihood; Luce unless Thurstone is clearly better.

    Where all slates have the same two rewards, all families with a parameter fit alike: then it is Luce.
    """
    parameters = {Family.UNIFORM: 0, Family.LAPSE: 2}
    scores = {family: value - WORTH_A_PARAMETER * parameters.get(family, 1) for family, value in logs.items()}
    top = max(scores, key=lambda family: scores[family])
    enough = {Family.THURSTONE: ENOUGH, Family.BEST: SAME}.get(top, -math.inf)
    return Family.LUCE if Family.LUCE in logs and logs[top] - logs[Family.LUCE] < enough else top


def _spread(choices: Choices) -> float:
    """Return the root mean square of the rewards within slates."""
    worth = choices.features
    centred = worth - choices.slates.spread(choices.slates.sums(worth) / choices.slates.sizes[:, None])
    return max(float(np.sqrt(np.square(centred).mean())), 1e-300)


# --- several rewards ------------------------------------------------------------------------------


def _recover_mixture(choices: Choices) -> Recovered:
    """Fit P(pick) = sum_i w_i softmax(r_i / tau): one reward, drawn with weights w, judges each slate."""
    from scipy.optimize import minimize

    m = choices.features.shape[1]
    unit = _spread(choices)
    scaled = choices.features / unit

    def negative(theta: FloatArray) -> float:
        rule = Rule(temperature=math.exp(-float(np.clip(theta[0], -20, 20))))
        return -float(mixture_logs(choices, scaled, _shares(theta[1:]), rule).sum())

    n = len(choices)
    starts = [np.r_[s, np.zeros(m - 1)] for s in (0.0, 1.5)]
    done = min((minimize(negative, s, method="BFGS") for s in starts), key=lambda d: float(d.fun))
    shares, beta = _shares(done.x[1:]), math.exp(float(np.clip(done.x[0], -20, 20))) / unit
    error = beta * math.sqrt(max(float(done.hess_inv[0, 0]), 0.0))
    uniform = _uniform_log(choices)
    logs = {Family.UNIFORM: uniform, Family.LUCE: -float(done.fun)}
    best = np.array([best_chances(choices, worth) for worth in choices.features.T])
    if (best.max(axis=0) > 0).all():
        weights, logs[Family.BEST] = _best_weights(best)
        if logs[Family.BEST] + WORTH_A_PARAMETER >= logs[Family.LUCE]:
            return Recovered(
                Family.BEST, lapse=(0.0, 0.0, 3.0 / n), keep=1, logs=logs, picks=n,
                evidence=f"the best by one of {m} rewards was picked in all {n} slates",
                weights=tuple(weights.tolist()),
            )  # fmt: skip
    luce = logs[Family.LUCE] - uniform > WORTH_A_PARAMETER * m
    return Recovered(
        Family.LUCE if luce else Family.UNIFORM, (beta, error) if luce else None, None, 1, None, logs, n,
        f"{n} slates, {m} rewards", tuple(shares.tolist()),
    )  # fmt: skip


def _best_weights(chances: FloatArray) -> tuple[FloatArray, float]:
    """Maximise sum_s log sum_i w_i c_is over the weights w, by the EM algorithm.

    Args:
        chances: c, the probability of each slate's pick if reward i judges it, (rewards, slates).

    Returns:
        w, (rewards,), and the log-likelihood.
    """
    weights = np.full(len(chances), 1.0 / len(chances))
    for _ in range(STEPS):
        parts = weights[:, None] * chances
        new = (parts / parts.sum(axis=0)).mean(axis=1)
        moved, weights = float(np.abs(new - weights).max()), new
        if moved < STILL:
            break
    return weights, float(np.log(weights @ chances).sum())


def mixture_logs(choices: Choices, rewards: FloatArray, weights: FloatArray, rule: Rule) -> FloatArray:
    """Return the log probability of each pick (slates,) if a slate is judged by one reward, drawn by weight.

    Args:
        choices: Slates and picks.
        rewards: Rewards of the candidates, (rows, m).
        weights: Probability that each reward judges a slate, (m,).
        rule: Rule of the picks, given the reward.
    """
    chances = [np.exp(choices.log_likelihood(rule, reward)) for reward in rewards.T]
    return np.asarray(np.log(np.maximum(weights @ np.array(chances), 1e-300)))


def _shares(logits: FloatArray) -> FloatArray:
    odds = np.exp(np.r_[0.0, np.clip(logits, -30, 30)])
    return np.asarray(odds / odds.sum())


# --- several kept of a slate ----------------------------------------------------------------------


def recover_kept(observed: Observed, keep: int) -> Recovered:
    """Fit the rule that keeps ``keep`` per slate: Plackett-Luce with a temperature, or the best ``keep``."""
    from scipy.optimize import minimize_scalar

    which = np.flatnonzero(observed.picks_per_slate == keep)
    own, rows = observed.slates.take(which[:: max(1, len(which) // 4000)])
    worth, picked = observed.rewards[rows, 0], observed.picked[rows]
    slots = own.slots()[np.flatnonzero(picked)].reshape(-1, keep)
    n, sizes = len(own), own.shares()

    def log_of(rule: Rule) -> float:
        return float(rule.log_likelihood(worth, slots, own, ordered=False).sum())

    uniform = log_of(Rule(sizes, keep=keep, lapse=1.0))
    if _keeps_best(own, worth, picked):
        return Recovered(
            Family.BEST, lapse=(0.0, 0.0, min(3.0 / n, 1.0)), keep=keep, logs={Family.UNIFORM: uniform},
            picks=n, evidence=f"the best {keep} were kept in each of {n} slates",
        )  # fmt: skip
    unit = max(float(np.std(worth)), 1e-300)

    def negative(log_beta: float) -> float:
        return -log_of(Rule(sizes, unit * math.exp(-log_beta), keep=keep))

    done = minimize_scalar(negative, bounds=(-6, 5), method="bounded")
    h = 0.02
    curvature = (negative(done.x + h) - 2 * done.fun + negative(done.x - h)) / h**2
    beta = math.exp(done.x) / unit
    error = beta / math.sqrt(max(curvature, 1e-9))
    family = Family.KEPT if -done.fun - uniform > WORTH_A_PARAMETER else Family.UNIFORM
    return Recovered(
        family, (beta, error) if family == Family.KEPT else None, None, keep, None,
        {Family.UNIFORM: uniform, Family.KEPT: -float(done.fun)}, n, f"{keep} were kept from each slate",
    )  # fmt: skip


def _keeps_best(slates: Slates, worth: FloatArray, picked: BoolArray) -> bool:
    least = -slates.maxima(np.where(picked, -worth, -np.inf))
    most = slates.maxima(np.where(picked, -np.inf, worth))
    return bool((least >= most).all())


# --- pools ----------------------------------------------------------------------------------------


def recover_pool(observed: Observed) -> Recovered:
    """Recover the rule that kept a share of each round's pool."""
    index = np.searchsorted(observed.round_ids, observed.rounds)
    selected = [t for t in range(observed.round_ids.size) if observed.picked[index == t].any()]
    pools = [(observed.rewards[index == t, 0], observed.picked[index == t]) for t in selected]
    pools = [(r, y) for r, y in pools if not y.all()]
    if not pools:
        return Recovered(Family.UNKNOWN, evidence="all candidates were kept: nothing was selected")
    kept = sum(int(y.sum()) for _, y in pools)
    share = kept / sum(y.size for _, y in pools)
    counts = observed.picks_per_slate
    order = ""
    if counts.size and observed.slates.sizes.max() > 1:
        found, times = np.unique(counts, return_counts=True)
        spread = ", ".join(f"{c} in {n / counts.size:.0%}" for c, n in zip(found[:5], times[:5], strict=True))
        order = f"picks are not made slate by slate: {spread}; "
    shares = [float(y.mean()) for _, y in pools]
    cuts = [(float(r[~y].max()), float(r[y].min())) for r, y in pools]
    if all(below <= above for below, above in cuts):
        steady = max(shares) - min(shares) <= 2.0 / min(y.size for _, y in pools) + 0.002
        cut = max(b for b, _ in cuts), min(a for _, a in cuts)
        verifier = cut[0] <= cut[1] and not steady and len(pools) > 1
        evidence = f"{order}in each round the kept rewards are above all others"
        if verifier:
            evidence = f"{order}all rewards above {cut[0]:.4g} were kept, and none below"
        family = Family.VERIFIER if verifier else Family.TOP
        return Recovered(family, share=share, picks=kept, cut=cut, evidence=evidence)
    beta, error, log, uniform = _cloglog(pools)
    logs = {Family.POOL_UNIFORM: uniform, Family.POOL_SOFTMAX: log}
    evidence = f"{order}{share:.1%} kept"
    if log - uniform > WORTH_A_PARAMETER:
        return Recovered(
            Family.POOL_SOFTMAX, (beta, error), share=share, logs=logs, picks=kept, evidence=evidence,
            inverses={Family.POOL_SOFTMAX: (beta, error)},
            by_round=tuple(_cloglog([pool])[:2] for pool in pools),
        )  # fmt: skip
    evidence += ", whatever their reward"
    inverses = {Family.POOL_SOFTMAX: (beta, error)}
    return Recovered(
        Family.POOL_UNIFORM, share=share, logs=logs, picks=kept, evidence=evidence, inverses=inverses
    )


def _cloglog(pools: Sequence[tuple[FloatArray, BoolArray]]) -> tuple[float, float, float, float]:
    """Fit P(kept) = 1 - exp(-exp(beta r - s_t)); return beta, its error, and the log-likelihoods.

    These are the log-likelihood at the maximum and that at beta = 0.
    """
    from scipy.optimize import minimize

    every = np.concatenate([r for r, _ in pools])
    unit = max(float(every.std()), 1e-300)
    thin = [max(1, r.size // max(2000, 100_000 // len(pools))) for r, _ in pools]
    data = [((r[::s] - r.mean()) / unit, y[::s]) for (r, y), s in zip(pools, thin, strict=True)]

    def negative(theta: FloatArray) -> tuple[float, FloatArray]:
        total, gradient = 0.0, np.zeros(theta.size)
        for t, (r, y) in enumerate(data):
            eta = np.clip(theta[0] * r - theta[1 + t], -30, 30)
            rate = np.exp(eta)
            kept = -np.expm1(-rate)
            total -= float(np.log(np.maximum(kept, 1e-300))[y].sum() - rate[~y].sum())
            slope = np.where(y, rate * np.exp(-rate) / np.maximum(kept, 1e-300), -rate)
            gradient[0] -= float(slope @ r)
            gradient[1 + t] += float(slope.sum())
        return total, gradient

    start = np.r_[0.0, [-math.log(-math.log1p(-min(float(y.mean()), 1 - 1e-9))) for _, y in data]]
    uniform = -negative(start)[0]
    done = minimize(negative, start, jac=True, method="BFGS")
    information = 0.0  # Fisher's, on beta beside the cuts
    for t, (r, _) in enumerate(data):
        rate = np.exp(np.clip(done.x[0] * r - done.x[1 + t], -30, 30))
        weight = np.square(rate) * np.exp(-rate) / -np.expm1(-rate)
        centre = float(weight @ r) / max(float(weight.sum()), 1e-300)
        information += float(weight @ np.square(r - centre))
    error = 1 / math.sqrt(max(information, 1e-300))
    return float(done.x[0]) / unit, error / unit, -float(done.fun), uniform
