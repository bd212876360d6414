r"""Which rule made these picks: families of rules by their likelihood, given the logged rewards.

Slates with one pick each: uniform, Luce, Luce with lapses, Thurstone, best of K with lapses. Picks that do
    not
come slate by slate: a share of the pool, by rank or by one softmax without replacement, whose picks follow
P(kept) = 1 - exp(-exp(r / tau - s)) with a threshold s that moves with the round (Gumbel noise).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recurate.choices.checks.statistics import chi2_tail, quadratic_test
from recurate.choices.models import rival_rules
from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.likelihood import evaluate, luce_logs
from recurate.choices.models.logit import conditional_logit
from recurate.choices.models.rival_rules import best_chances
from recurate.choices.observed import Observed
from recurate.choices.table import Choices
from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.rules import Rule, Selection, Threshold, TopFraction, noise_named
from recurate.rules.slates import Slates

UNIFORM, LUCE, LAPSE, THURSTONE, BEST, WORST = (
    "uniformly random",
    "Luce choice",
    "Luce choice with lapses",
    "Thurstone's model",
    "best of K",
    "worst of K",
)
KEPT = "several kept of each slate"
TOP, POOL_SOFTMAX, POOL_UNIFORM, VERIFIER = (
    "top fraction of the pool",
    "one softmax over the pool, without replacement",
    "a random share of the pool",
    "a verifier's threshold",
)
NOISES = {LUCE: "gumbel", LAPSE: "gumbel", THURSTONE: "gaussian", BEST: "none"}
MOST = 40_000  # slates on which rules are compared
WORTH_A_PARAMETER = 6.0  # nats of log-likelihood by which a larger family must be better
ENOUGH = 8.0  # nats by which another family must be better to be told from the simplest one


@dataclass(frozen=True)
class Recovered:
    """The rule that the picks follow best.

    Attributes:
        name: one of the families above, or "not told".
        inverse: 1 / temperature with its standard error, or None where the rule has none.
        lapse: share of slates picked at random with its 95 % interval, or None.
        keep: kept of each slate, or None for pools.
        share: kept of the pool, or None for slates.
        logs: log-likelihood of every family tried.
        picks: how many the likelihoods rest on.
        evidence: in words.
        weights: share of slates judged by each reward, with several rewards.
        cut: the highest reward of any round that was not kept and the lowest that was, where rank decides.
    """

    name: str
    inverse: tuple[float, float] | None = None
    lapse: tuple[float, float, float] | None = None
    keep: int | None = None
    share: float | None = None
    logs: dict[str, float] = field(default_factory=dict)
    picks: int = 0
    evidence: str = ""
    weights: tuple[float, ...] | None = None
    cut: tuple[float, float] | None = None

    @property
    def temperature(self) -> float | None:
        """1 / beta, or None where the rule has none or beta is not positive."""
        return 1 / self.inverse[0] if self.inverse and self.inverse[0] > 0 else None

    def temperature_text(self) -> str:
        """Return the temperature with its 95 % interval, in words."""
        if self.inverse is None:
            return ""
        beta, error = self.inverse
        low, high = beta - 1.96 * error, beta + 1.96 * error
        if beta <= 0:
            return f"1 / temperature = {beta:.3g} ± {1.96 * error:.2g}"
        top = f"{1 / low:.3g}" if low > 0 else "infinity"
        return f"{1 / beta:.3g} ({1 / high:.3g} to {top})"

    def rule(self, k: float | dict[float, float]) -> Selection | None:
        """Return the recovered rule for slates of ``k`` (or sizes with their shares), or None.

        None where it is not one that a forecast knows.
        """
        if self.name in (TOP, POOL_SOFTMAX, POOL_UNIFORM) and self.share is not None:
            noise = "gumbel" if self.name == POOL_SOFTMAX else "none"
            share = min(max(self.share, 1e-9), 1.0)
            if self.name == POOL_UNIFORM:
                return Rule(1)
            return TopFraction(share, self.temperature or 1.0, noise_named(noise))
        if self.name == VERIFIER and self.cut is not None:
            return Threshold(self.cut[1])
        lapse = min(max(self.lapse[0], 0.0), 1.0) if self.lapse else 0.0
        if self.name == UNIFORM:
            return Rule(k, lapse=1.0, keep=self.keep or 1)
        if self.name in NOISES or self.name == KEPT:
            noise = NOISES.get(self.name, "gumbel")
            return Rule(k, self.temperature or 1.0, noise_named(noise), self.keep or 1, lapse)
        return None


def recover(observed: Observed) -> Recovered:
    """Return the rule that made the picks of a log."""
    counts = observed.picks_per_slate
    total = int(observed.picked.sum())
    if total == 0:
        return Recovered("not told", evidence="nothing was picked")
    outside = int(observed.picked[observed.slated :].sum())
    shown = counts[counts > 0]
    if outside == 0 and shown.size and (shown == shown[0]).all():
        keep = int(shown[0])
        whole = (counts == observed.slates.sizes).all()
        if whole:
            return Recovered(
                "not told", keep=keep, evidence="everything shown was picked: nothing was selected"
            )
        return recover_single(observed) if keep == 1 else recover_kept(observed, keep)
    return recover_pool(observed)


# --- one pick a slate -----------------------------------------------------------------------------


def recover_single(observed: Observed) -> Recovered:
    """Compare the families of rules on slates with one pick."""
    found = observed.single_picks()
    if found is None:
        return Recovered("not told", keep=1, evidence="no slate of two or more has a pick")
    choices = thinned(found[0])
    if len(observed.names) > 1:
        return _recover_mixture(choices)
    worth = choices.features[:, 0]
    if not _varies(choices, worth):
        return Recovered("not told", keep=1, evidence="the rewards of each slate are all equal")
    n = len(choices)
    uniform = float(-np.log(choices.slates.sizes).sum())
    right = best_chances(choices, worth)
    logs = {UNIFORM: uniform}
    with np.errstate(divide="ignore"):
        if (right > 0).all():
            logs[BEST] = float(np.log(right).sum())
            return Recovered(
                BEST, lapse=(0.0, 0.0, 3.0 / n), keep=1, logs=logs, picks=n,
                evidence=f"the best was picked in all {n} slates",
            )  # fmt: skip
        if (best_chances(choices, -worth) > 0).all():
            return Recovered(
                WORST, keep=1, logs=logs, picks=n, evidence=f"the worst was picked in all {n} slates"
            )
    best = rival_rules.best_of_k(choices, worth)
    logs[BEST] = best.log_likelihood
    inverses: dict[str, tuple[float, float]] = {}
    lapses = {BEST: _lapse(best.lapse, best.lapse_interval)}
    scaled = choices.with_features(choices.features / _spread(choices), choices.names)
    unit = _spread(choices)
    try:
        luce = conditional_logit(scaled, clustered=False)
        logs[LUCE] = luce.log_likelihood
        inverses[LUCE] = (float(luce.coefficients[0]) / unit, float(luce.standard_errors[0]) / unit)
        lapse = rival_rules.lapse_logit(scaled, pooled=luce)
        logs[LAPSE] = lapse.log_likelihood
        lapses[LAPSE] = _lapse(lapse.lapse, lapse.lapse_interval)
        error = (
            math.sqrt(lapse.covariance[0, 0])
            if lapse.covariance is not None and lapse.covariance[0, 0] > 0
            else float(luce.standard_errors[0])
        )
        inverses[LAPSE] = (float(lapse.coefficients[0]) / unit, error / unit)
        probit = rival_rules.thurstone(scaled, pooled=luce)
        logs[THURSTONE] = probit.log_likelihood
        errors = probit.standard_errors
        spread = float(errors[0]) if errors is not None else float(luce.standard_errors[0])
        inverses[THURSTONE] = (float(probit.coefficients[0]) / unit, spread / unit)
    except NoEstimate:
        pass  # separated: best of K, which has its likelihood already
    name = _simplest(logs)
    share = float((right > 0).mean())
    evidence = f"the best was picked in {share:.1%} of {n} slates"
    return Recovered(name, inverses.get(name), lapses.get(name), 1, None, logs, n, evidence)


def _simplest(logs: dict[str, float]) -> str:
    """Return the simplest family that no other one beats by more than its parameters and noise explain."""
    costs = {UNIFORM: 0.0, LUCE: 1.0, BEST: 1.0, THURSTONE: 1.0, LAPSE: 2.0}
    scores = {name: value - WORTH_A_PARAMETER * costs[name] for name, value in logs.items()}
    top = max(scores, key=lambda name: scores[name])
    if top == THURSTONE and LUCE in logs and logs[THURSTONE] - logs[LUCE] < ENOUGH:
        return LUCE
    return top


def thinned(choices: Choices, most: int = MOST) -> Choices:
    """Return evenly spread slates where there are more than ``most``."""
    if len(choices) <= most:
        return choices
    return choices.take(np.unique(np.linspace(0, len(choices) - 1, most).astype(np.int64)))


def _varies(choices: Choices, worth: FloatArray) -> bool:
    return bool((choices.slates.maxima(worth) > -choices.slates.maxima(-worth)).any())


def _spread(choices: Choices) -> float:
    """Return the root mean square of the rewards within slates."""
    worth = choices.features
    centred = worth - choices.slates.spread(choices.slates.sums(worth) / choices.slates.sizes[:, None])
    return max(float(np.sqrt(np.square(centred).mean())), 1e-300)


def _lapse(share: float | None, interval: tuple[float, float] | None) -> tuple[float, float, float]:
    assert share is not None
    low, high = interval or (0.0, 1.0)
    return share, low, high


# --- several rewards ------------------------------------------------------------------------------


def _recover_mixture(choices: Choices) -> Recovered:
    """Fit P(pick) = sum_i w_i softmax(r_i / tau): a slate is judged by one reward, drawn by weight."""
    from scipy.optimize import minimize

    m = choices.features.shape[1]
    unit = _spread(choices)
    scaled = choices.features / unit

    def negative(theta: FloatArray) -> float:
        beta = math.exp(float(np.clip(theta[0], -20, 20)))
        return -float(mixture_logs(choices, scaled, _shares(theta[1:]), beta).sum())

    n = len(choices)
    starts = [np.r_[s, np.zeros(m - 1)] for s in (0.0, 1.5)]
    done = min((minimize(negative, s, method="BFGS") for s in starts), key=lambda d: float(d.fun))
    shares, beta = _shares(done.x[1:]), math.exp(float(np.clip(done.x[0], -20, 20))) / unit
    error = beta * math.sqrt(max(float(done.hess_inv[0, 0]), 0.0))
    uniform = float(-np.log(choices.slates.sizes).sum())
    logs = {UNIFORM: uniform, LUCE: -float(done.fun)}
    name = LUCE if logs[LUCE] - uniform > WORTH_A_PARAMETER * m else UNIFORM
    return Recovered(
        name, (beta, error) if name == LUCE else None, None, 1, None, logs, n,
        f"{n} slates, {m} rewards", tuple(shares.tolist()),
    )  # fmt: skip


def mixture_logs(choices: Choices, rewards: FloatArray, weights: FloatArray, beta: float) -> FloatArray:
    """Return the log probability of each pick where one of several rewards (rows, m) judges a slate."""
    p, _ = choices.slates.softmax(beta * rewards)
    return np.asarray(np.log(np.maximum(p[choices.picked_rows] @ weights, 1e-300)))


def _shares(logits: FloatArray) -> FloatArray:
    odds = np.exp(np.r_[0.0, np.clip(logits, -30, 30)])
    return np.asarray(odds / odds.sum())


# --- several kept of a slate ----------------------------------------------------------------------


def recover_kept(observed: Observed, keep: int) -> Recovered:
    """Fit the rule that keeps ``keep`` of every slate: Plackett-Luce's temperature, or the best ``keep``."""
    from scipy.optimize import minimize_scalar

    which = np.flatnonzero(observed.picks_per_slate == keep)
    own, rows = observed.slates.take(which[:: max(1, len(which) // 4000)])
    worth, picked = observed.rewards[rows, 0], observed.picked[rows]
    table = np.full((len(own), int(own.sizes.max())), -np.inf)
    table[own.index(), own.slots()] = worth
    slots = own.slots()[np.flatnonzero(picked)].reshape(-1, keep)
    exact = _keeps_best(own, worth, picked)
    ways = np.zeros(len(own))
    for i in range(keep):
        ways += np.log(own.sizes - i) - math.log(i + 1)
    uniform = -float(ways.sum())
    if exact:
        return Recovered(
            BEST, lapse=(0.0, 0.0, 3.0 / len(own)), keep=keep, logs={UNIFORM: uniform}, picks=len(own),
            evidence=f"the best {keep} were kept in all {len(own)} slates",
        )  # fmt: skip
    unit = max(float(np.std(worth)), 1e-300)

    def negative(log_beta: float) -> float:
        rule = Rule(own.sizes.max(), unit * math.exp(-log_beta), noise_named("gumbel"), keep)
        return -float(rule.log_likelihood(table, slots, ordered=False).sum())

    done = minimize_scalar(negative, bounds=(-6, 5), method="bounded")
    h = 0.02
    curvature = (negative(done.x + h) - 2 * done.fun + negative(done.x - h)) / h**2
    beta = math.exp(done.x) / unit
    error = beta / math.sqrt(max(curvature, 1e-9))
    name = KEPT if -done.fun - uniform > WORTH_A_PARAMETER else UNIFORM
    return Recovered(
        name, (beta, error) if name == KEPT else None, None, keep, None,
        {UNIFORM: uniform, KEPT: -float(done.fun)}, len(own), f"{keep} were kept of every slate",
    )  # fmt: skip


def _keeps_best(slates: Slates, worth: FloatArray, picked: BoolArray) -> bool:
    least = -slates.maxima(np.where(picked, -worth, -np.inf))
    most = slates.maxima(np.where(picked, -np.inf, worth))
    return bool((least >= most).all())


# --- pools ----------------------------------------------------------------------------------------


def recover_pool(observed: Observed) -> Recovered:
    """Find out how a share of every round's pool was kept."""
    index = np.searchsorted(observed.round_ids, observed.rounds)
    selected = [t for t in range(observed.round_ids.size) if observed.picked[index == t].any()]
    pools = [(observed.rewards[index == t, 0], observed.picked[index == t]) for t in selected]
    pools = [(r, y) for r, y in pools if not y.all()]
    if not pools:
        return Recovered("not told", evidence="everything was kept: nothing was selected")
    kept = sum(int(y.sum()) for _, y in pools)
    size = sum(y.size for _, y in pools)
    share = kept / size
    counts = observed.picks_per_slate
    spread = ""
    if counts.size:
        found, times = np.unique(counts, return_counts=True)
        spread = "picks do not come slate by slate: " + ", ".join(
            f"{c} from {n / counts.size:.0%}" for c, n in zip(found[:5], times[:5], strict=False)
        )
    shares = [float(y.mean()) for _, y in pools]
    cuts = [(float(r[~y].max()), float(r[y].min())) for r, y in pools]
    order = f"{spread}; " if spread else ""
    if all(below <= above for below, above in cuts):
        steady = max(shares) - min(shares) <= 2.0 / min(y.size for _, y in pools) + 0.002
        cut = max(b for b, _ in cuts), min(a for _, a in cuts)
        level = cut[0]
        if level <= cut[1] and not steady and len(pools) > 1:
            return Recovered(
                VERIFIER, share=share, picks=kept, cut=cut,
                evidence=f"{order}everything above {level:.4g} was kept, nothing below",
            )  # fmt: skip
        return Recovered(
            TOP, share=share, picks=kept, cut=cut,
            evidence=f"{order}every kept reward of a round is above every other one",
        )  # fmt: skip
    beta, error, log, uniform = _cloglog(pools)
    logs = {POOL_UNIFORM: uniform, POOL_SOFTMAX: log}
    if log - uniform > WORTH_A_PARAMETER:
        return Recovered(
            POOL_SOFTMAX, (beta, error), None, None, share, logs, kept, order + f"{share:.1%} kept"
        )
    return Recovered(
        POOL_UNIFORM, None, None, None, share, logs, kept, order + f"{share:.1%} kept, whatever their reward"
    )


def _cloglog(pools: Sequence[tuple[FloatArray, BoolArray]]) -> tuple[float, float, float, float]:
    """Fit P(kept) = 1 - exp(-exp(beta r - s_t)); return beta, its error and both log-likelihoods."""
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
    error = math.sqrt(max(float(done.hess_inv[0, 0]), 0.0))
    return float(done.x[0]) / unit, error / unit, -float(done.fun), uniform


# --- against a declared rule ----------------------------------------------------------------------


def temperature_p(choices: Choices, recovered: Recovered, rule: Rule) -> float:
    """Return the likelihood-ratio p-value of the declared temperature within the declared family."""
    worth = choices.features[:, 0]
    if rule.noise.name == "gumbel":
        declared, fitted = float(luce_logs(choices, worth / rule.temperature).sum()), recovered.logs.get(LUCE)
    else:
        declared = float(rival_rules.thurstone_logs(choices, worth / rule.temperature).sum())
        fitted = recovered.logs.get(THURSTONE)
    return 1.0 if fitted is None else chi2_tail(2 * (fitted - declared), 1)


def temperature_drift_p(choices: Choices, rounds: IntArray, most: int = 50) -> tuple[float, str]:
    """Return the p-value of one temperature for all rounds (a score test), and where it differs most."""
    ids = np.unique(rounds)
    if not 1 < ids.size <= most:
        return 1.0, ""
    try:
        pooled = conditional_logit(choices, clustered=False)
    except NoEstimate:
        return 1.0, ""
    parts = [choices.take(np.flatnonzero(rounds == t)) for t in ids]
    found = [evaluate(part, pooled.coefficients, information=True) for part in parts]
    scores = np.array([f.gradient[0] for f in found])
    infos = np.array([f.information[0, 0] for f in found if f.information is not None])
    telling = infos * pooled.coefficients[0] ** 2 >= 10  # with less, the score is far from normal
    scores, infos, ids = scores[telling], infos[telling], ids[telling]
    if ids.size < 2:
        return 1.0, ""
    covariance = np.diag(infos) - np.outer(infos, infos) / max(infos.sum(), 1e-300)
    statistic, df = quadratic_test(scores, covariance)
    worst = int(np.argmax(np.abs(scores) / np.sqrt(np.maximum(infos, 1e-300))))
    beta = float(pooled.coefficients[0]) + scores[worst] / max(infos[worst], 1e-300)
    return (
        chi2_tail(statistic, df) if df else 1.0
    ), f"1 / temperature about {beta:.3g} in round {ids[worst]}"
