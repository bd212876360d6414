r"""Other rules than Luce's, fitted to the same picks: Thurstone's, a lapse share, the best of K.

- Thurstone (1927, case V): the largest beta' x + standard normal noise is picked.
- Lapse: with probability e a slate is picked from uniformly, else by Luce's rule.
- Best of K: the largest given worth is picked, but for a lapse share; without lapses one other pick would
  have probability zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.logit import LogitFit, conditional_logit
from recurate.choices.table import Choices
from recurate.core.arrays import FloatArray, IntArray

NODES = 21  # of Gauss-Hermite quadrature about the mode: relative error 1e-8 for K = 8, 2e-7 for K = 20
MODE_STEPS = 12  # of Newton's method to the mode, which come from one side and square the error
PER_BLOCK = 4000  # slates whose quadrature is held at once
GUMBEL_SCALE = math.pi / math.sqrt(6)  # standard deviation of Gumbel noise
CONVERGED = 1e-5  # scaled gradient per slate


@dataclass(frozen=True)
class FamilyFit:
    """A fitted rule with its evidence.

    Attributes:
        name: ``thurstone``, ``lapse`` or ``best of K``.
        coefficients: beta, (d,); of best of K, empty.
        covariance: of the coefficients (then the lapse share): the inverse of the observed information, for
            lapses of the sum of squared scores; choosers are not looked at.
        lapse: the lapse share, or None where the rule has none.
        lapse_interval: its 95 % interval, or None.
        log_likelihood: in nats.
        gradient_norm: per slate, scaled.
    """

    name: str
    coefficients: FloatArray
    covariance: FloatArray | None = field(repr=False)
    lapse: float | None
    lapse_interval: tuple[float, float] | None
    log_likelihood: float
    gradient_norm: float

    @property
    def converged(self) -> bool:
        """Whether the gradient is as good as zero."""
        return self.gradient_norm <= CONVERGED

    @property
    def standard_errors(self) -> FloatArray | None:
        """Standard errors of the coefficients (then of the lapse share), or None."""
        return None if self.covariance is None else np.sqrt(np.maximum(np.diag(self.covariance), 0.0))


# --- Thurstone ------------------------------------------------------------------------------------


def thurstone(choices: Choices, *, pooled: LogitFit | None = None) -> FamilyFit:
    """Fit Thurstone's model with utilities beta' x and standard normal noise.

    Args:
        choices: slates, features and picks.
        pooled: a conditional logit of the same choices, to start from.

    Raises:
        NoEstimate: the picks are separated.
    """
    start = (pooled or conditional_logit(choices, clustered=False)).coefficients / GUMBEL_SCALE

    def value(beta: FloatArray) -> tuple[float, FloatArray]:
        logs, slopes = thurstone_terms(choices, choices.features @ beta)
        if choices.weights is not None:
            logs, slopes = logs * choices.weights, slopes * choices.slates.spread(choices.weights)
        return float(logs.sum()), choices.features.T @ slopes

    beta, found, norm, covariance = _maximise(value, start, choices)
    return FamilyFit("thurstone", beta, covariance, None, None, found, norm)


def thurstone_logs(choices: Choices, utilities: FloatArray) -> FloatArray:
    """Return the log probability of each slate's pick under Thurstone's model, (slates,)."""
    return thurstone_terms(choices, utilities)[0]


def thurstone_terms(choices: Choices, utilities: FloatArray) -> tuple[FloatArray, FloatArray]:
    r"""Return log P(pick), (slates,), and its derivatives by each row's utility, (rows,).

    .. math:: P(i) = \int \phi(s - u_i) \prod_{j \ne i} \Phi(s - u_j) ds

    by Gauss-Hermite quadrature about the integrand's mode, whose logarithm is concave.
    """
    logs = np.empty(len(choices))
    slopes = np.empty(choices.slates.rows)
    sizes = choices.slates.sizes
    for k in np.unique(sizes):
        some = np.flatnonzero(sizes == k)
        for start in range(0, some.size, PER_BLOCK):
            part = some[start : start + PER_BLOCK]
            rows = choices.slates.offsets[part][:, None] + np.arange(k)
            logs[part], slopes[rows] = _thurstone_table(utilities[rows], choices.picked[part])
    return logs, slopes


def _thurstone_table(u: FloatArray, picked: IntArray) -> tuple[FloatArray, FloatArray]:
    """Do it for slates of one size, u (slates, K)."""
    n, k = u.shape
    order = np.arange(k)[None, :].repeat(n, axis=0)
    rivals = order[order != picked[:, None]].reshape(n, k - 1)
    others = np.take_along_axis(u, rivals, axis=1)
    own = np.take_along_axis(u, picked[:, None], axis=1)[:, 0]
    mode = own.copy()
    for _ in range(MODE_STEPS):
        z = mode[:, None] - others
        ratio = _hazard(z)
        slope = own - mode + ratio.sum(axis=1)
        curvature = 1.0 + (ratio * (ratio + z)).sum(axis=1)
        mode += slope / curvature
    z = mode[:, None] - others
    ratio = _hazard(z)
    sigma = 1.0 / np.sqrt(1.0 + (ratio * (ratio + z)).sum(axis=1))
    nodes, log_weights = _hermite()
    s = mode[:, None] + math.sqrt(2) * sigma[:, None] * nodes  # (slates, nodes)
    z = s[:, :, None] - others[:, None, :]
    log_cdf = _log_cdf(z)
    g = -0.5 * np.square(s - own[:, None]) + log_cdf.sum(axis=2) + log_weights
    top = g.max(axis=1, keepdims=True)
    mass = np.exp(g - top)
    total = mass.sum(axis=1)
    logs = np.log(total) + top[:, 0] + np.log(sigma) - 0.5 * math.log(math.pi)
    mass /= total[:, None]
    slopes = np.empty((n, k))
    down = -np.einsum("nq,nqj->nj", mass, np.exp(-0.5 * np.square(z) - log_cdf)) / math.sqrt(2 * math.pi)
    np.put_along_axis(slopes, rivals, down, axis=1)
    # Utilities up to a constant: the derivatives sum to zero.
    np.put_along_axis(slopes, picked[:, None], -down.sum(axis=1, keepdims=True), axis=1)
    return logs, slopes


@lru_cache(maxsize=1)
def _hermite() -> tuple[FloatArray, FloatArray]:
    nodes, weights = np.polynomial.hermite.hermgauss(NODES)
    return nodes, np.log(weights) + np.square(nodes)


def _log_cdf(z: FloatArray) -> FloatArray:
    from scipy.special import log_ndtr, ndtr

    if z.size and z.min() < -37.0:
        return np.asarray(log_ndtr(z))
    return np.asarray(np.log(ndtr(z)))


def _hazard(z: FloatArray) -> FloatArray:
    """Return phi(z) / Phi(z)."""
    return np.asarray(np.exp(-0.5 * np.square(z) - 0.5 * math.log(2 * math.pi) - _log_cdf(z)))


# --- Luce with lapses -----------------------------------------------------------------------------


def lapse_logit(choices: Choices, *, pooled: LogitFit | None = None) -> FamilyFit:
    r"""Fit P(pick) = (1 - e) softmax(beta' x) + e / K by maximum likelihood.

    Args:
        choices: slates, features and picks.
        pooled: a conditional logit of the same choices, to start from; without one, and where the picks are
            separated but for lapses, it starts from a shrunken one.
    """
    start = pooled
    if start is None:
        try:
            start = conditional_logit(choices, clustered=False)
        except NoEstimate:
            start = conditional_logit(choices, shrinkage=1.0, clustered=False)
    best: tuple[FloatArray, float, float, FloatArray | None] | None = None
    for lapse in (0.02, 0.3):
        first = np.r_[start.coefficients * (1 + lapse), math.log(lapse / (1 - lapse))]
        found = _maximise(lambda theta: _lapse_value(choices, theta), first, choices, extra=1)
        if best is None or found[1] > best[1]:
            best = found
    assert best is not None
    theta, value, norm, _ = best
    if value < start.log_likelihood:  # on the boundary: no lapses at all
        theta, value = np.r_[start.coefficients, -40.0], start.log_likelihood
    lapse = _share(theta[-1])
    covariance = _lapse_covariance(choices, theta[:-1], lapse)
    interval = _lapse_interval(choices, theta[:-1], lapse, covariance)
    return FamilyFit("lapse", theta[:-1], covariance, lapse, interval, value, norm)


def _lapse_value(choices: Choices, theta: FloatArray) -> tuple[float, FloatArray]:
    lapse = _share(theta[-1])
    logs, by_row, by_lapse = _lapse_terms(choices, choices.features @ theta[:-1], lapse)
    if choices.weights is not None:
        logs, by_lapse = logs * choices.weights, by_lapse * choices.weights
        by_row = by_row * choices.slates.spread(choices.weights)
    slope = float(by_lapse.sum()) * lapse * (1 - lapse)
    return float(logs.sum()), np.r_[choices.features.T @ by_row, slope]


def _share(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-float(np.clip(logit, -40.0, 40.0))))


def _lapse_terms(
    choices: Choices, utilities: FloatArray, lapse: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return log P (slates,), its derivatives by each utility (rows,) and by the lapse share (slates,)."""
    p, _ = choices.slates.softmax(utilities)
    uniform = 1.0 / choices.slates.sizes
    chosen = p[choices.picked_rows]
    mixed = (1 - lapse) * chosen + lapse * uniform
    residual = -p
    residual[choices.picked_rows] += 1.0
    by_row = residual * choices.slates.spread((1 - lapse) * chosen / mixed)
    return np.log(mixed), by_row, (uniform - chosen) / mixed


def lapse_logs(choices: Choices, utilities: FloatArray, lapse: float) -> FloatArray:
    """Return the log probability of each slate's pick under Luce's rule with a lapse share, (slates,)."""
    p, _ = choices.slates.softmax(utilities)
    return np.log((1 - lapse) * p[choices.picked_rows] + lapse / choices.slates.sizes)


def _lapse_covariance(choices: Choices, beta: FloatArray, lapse: float) -> FloatArray | None:
    """Return the inverse of the sum of squared scores, for (beta, e); None where the share is at its edge."""
    if not 1e-9 < lapse < 1 - 1e-9:
        return None
    _, by_row, by_lapse = _lapse_terms(choices, choices.features @ beta, lapse)
    scores = np.column_stack([choices.slates.sums(choices.features * by_row[:, None]), by_lapse])
    weights = 1.0 if choices.weights is None else choices.weights[:, None]
    try:
        return np.asarray(np.linalg.inv(scores.T @ (scores * weights)), np.float64)
    except np.linalg.LinAlgError:
        return None


def _lapse_interval(
    choices: Choices, beta: FloatArray, lapse: float, covariance: FloatArray | None
) -> tuple[float, float]:
    """Return a 95 % interval: normal on the log-odds scale; at the edge, with the coefficients as fitted."""
    if covariance is not None and covariance[-1, -1] > 0:
        odds, error = math.log(lapse / (1 - lapse)), math.sqrt(covariance[-1, -1]) / (lapse * (1 - lapse))
        if error < 1.0:
            return _share(odds - 1.96 * error), _share(odds + 1.96 * error)
    p, _ = choices.slates.softmax(choices.features @ beta)
    return _mixture_interval(p[choices.picked_rows], 1.0 / choices.slates.sizes, choices.weights, lapse)


def _mixture_interval(
    right: FloatArray, uniform: FloatArray, weights: FloatArray | None, lapse: float
) -> tuple[float, float]:
    """Return where twice the log-likelihood of the lapse share alone has fallen by less than 3.84."""
    from scipy.optimize import brentq

    def value(e: float) -> float:
        mixed = (1 - e) * right + e * uniform
        with np.errstate(divide="ignore"):
            logs = np.log(mixed)
        return float(logs.sum() if weights is None else logs @ weights)

    top = value(lapse)

    def excess(e: float) -> float:
        return 2 * (value(e) - top) + 3.841458820694124

    low = 0.0 if lapse <= 1e-12 or excess(0.0) > 0 else float(brentq(excess, 0.0, lapse, xtol=1e-9))
    high = 1.0 if lapse >= 1 - 1e-12 or excess(1.0) > 0 else float(brentq(excess, lapse, 1.0, xtol=1e-9))
    return low, high


# --- best of K ------------------------------------------------------------------------------------


def best_of_k(choices: Choices, worth: FloatArray) -> FamilyFit:
    """Fit the lapse share of picking the largest ``worth`` (rows,) of every slate, ties broken uniformly."""
    right = best_chances(choices, worth)
    uniform = 1.0 / choices.slates.sizes
    lapse = _best_lapse(right, uniform, choices.weights)
    mixed = (1 - lapse) * right + lapse * uniform
    with np.errstate(divide="ignore"):
        logs = np.log(mixed)
    value = float(logs.sum() if choices.weights is None else logs @ choices.weights)
    interval = _mixture_interval(right, uniform, choices.weights, lapse)
    return FamilyFit("best of K", np.empty(0), None, lapse, interval, value, 0.0)


def best_chances(choices: Choices, worth: FloatArray) -> FloatArray:
    """Return the probability with which the best of each slate, ties broken uniformly, is its pick."""
    top = choices.slates.maxima(worth)
    best = worth == choices.slates.spread(top)
    return np.where(best[choices.picked_rows], 1.0 / choices.slates.sums(best.astype(float)), 0.0)


def best_logs(choices: Choices, worth: FloatArray, lapse: float) -> FloatArray:
    """Return the log probability of each slate's pick under best of K with lapses, (slates,)."""
    mixed = (1 - lapse) * best_chances(choices, worth) + lapse / choices.slates.sizes
    return np.log(np.maximum(mixed, 1e-300))


def _best_lapse(right: FloatArray, uniform: FloatArray, weights: FloatArray | None) -> float:
    from scipy.optimize import brentq

    own = np.ones(right.size) if weights is None else weights

    def slope(e: float) -> float:
        return float(((uniform - right) / ((1 - e) * right + e * uniform)) @ own)

    if not (right == 0).any():
        low = slope(0.0)
        if low <= 0:
            return 0.0
    if slope(1.0) >= 0:
        return 1.0
    return float(brentq(slope, 1e-15, 1.0, xtol=1e-14))


# --- maximisation ---------------------------------------------------------------------------------


def _maximise(
    value: Callable[[FloatArray], tuple[float, FloatArray]],
    start: FloatArray,
    choices: Choices,
    *,
    extra: int = 0,
) -> tuple[FloatArray, float, float, FloatArray | None]:
    """Return the maximum of a smooth log-likelihood: place, value, scaled gradient per slate, covariance.

    ``extra`` parameters follow the coefficients; without any, the covariance is the inverse of the
    numerically differentiated gradient.
    """
    from scipy.optimize import minimize

    slates, x = choices.slates, choices.features
    within = x - slates.spread(slates.sums(x) / slates.sizes[:, None])  # a year's units are not 2000
    scale = np.sqrt(np.maximum(np.square(within).mean(axis=0), 1e-300))
    scale = np.r_[scale, np.ones(extra)]
    total = choices.total_weight

    def negative(theta: FloatArray) -> tuple[float, FloatArray]:
        found, gradient = value(theta / scale)
        return -found / total, -gradient / scale / total

    done = minimize(negative, start * scale, jac=True, method="BFGS", options={"gtol": 1e-7, "maxiter": 400})
    theta = done.x / scale
    norm = float(np.abs(done.jac).max())
    covariance = None if extra else _numeric_covariance(value, theta, scale)
    return theta, -float(done.fun) * total, norm, covariance


def _numeric_covariance(
    value: Callable[[FloatArray], tuple[float, FloatArray]], theta: FloatArray, scale: FloatArray
) -> FloatArray | None:
    columns = []
    for j in range(theta.size):
        h = np.zeros(theta.size)
        h[j] = 1e-4 / scale[j]
        columns.append((value(theta - h)[1] - value(theta + h)[1]) / (2 * h[j]))
    information = np.column_stack(columns)
    try:
        found = np.linalg.inv((information + information.T) / 2)
    except np.linalg.LinAlgError:
        return None
    return found if np.all(np.diag(found) > 0) else None
