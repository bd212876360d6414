r"""Rivals of Luce's rule, fitted to the same picks: Thurstone's rule, Luce's with lapses, and the best of K.

- Thurstone (1927, case V): the candidate with the largest beta' x + standard normal noise is picked.
- Lapse: with probability e the pick is uniform, else it follows Luce's rule.
- Best of K: with probability e the pick is uniform, else the candidate of largest given worth is picked.
  Without lapses, any other pick would have probability zero.

Likelihoods and derivatives are those of :class:`recurate.rules.rule.Rule`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.logit import LogitFit, conditional_logit
from recurate.choices.table import Choices
from recurate.core.arrays import FloatArray
from recurate.rules.families import Family
from recurate.rules.noise import GAUSSIAN, GUMBEL, NO_NOISE
from recurate.rules.rule import Rule

GUMBEL_SCALE = math.pi / math.sqrt(6)  # standard deviation of Gumbel noise
CONVERGED = 1e-5  # scaled gradient per slate at convergence
GRADIENT = 1e-7  # largest entry of the scaled gradient, per slate, at a maximum
ASCENTS = 30  # largest number of steps by scores
FARTHEST = 3.0  # longest of these steps, in units of the scaled parameters


@dataclass(frozen=True)
class RuleFit:
    """A fitted rule with its evidence.

    Attributes:
        family: Thurstone, Luce with lapses, or best of K.
        rule: Fitted rule at temperature 1, for the utilities beta' x (best of K: for the given worth).
        coefficients: Coefficients beta, (d,); empty for best of K.
        covariance: Covariance of the coefficients (then the lapse share), or None if there is none or none
            was asked for: the inverse of the observed information, with lapses of the sum of outer products
            of scores; not clustered.
        lapse_interval: 95 % interval of the lapse share, or None if the family has none.
        log_likelihood: Log-likelihood at the estimate, in nats.
        gradient_norm: Largest entry of the scaled gradient, per slate.
    """

    family: Family
    rule: Rule
    coefficients: FloatArray
    covariance: FloatArray | None = field(repr=False)
    lapse_interval: tuple[float, float] | None
    log_likelihood: float
    gradient_norm: float

    @property
    def lapse(self) -> float | None:
        """Lapse share, or None if the family has none."""
        return None if self.lapse_interval is None else self.rule.lapse

    @property
    def converged(self) -> bool:
        """Whether the gradient norm is at most ``CONVERGED``."""
        return self.gradient_norm <= CONVERGED

    @property
    def standard_errors(self) -> FloatArray | None:
        """Standard errors of the coefficients (then of the lapse share), or None."""
        return None if self.covariance is None else np.sqrt(np.maximum(np.diag(self.covariance), 0.0))


def thurstone(choices: Choices, *, pooled: LogitFit | None = None, errors: bool = True) -> RuleFit:
    """Fit Thurstone's model with utilities beta' x and standard normal noise by maximum likelihood.

    Args:
        choices: Slates, features and picks.
        pooled: Conditional logit of the same choices, to start from.
        errors: Whether to compute the covariance, which takes two evaluations per coefficient.

    Raises:
        NoEstimate: If the picks are separated.
    """
    luce = pooled or conditional_logit(choices, clustered=False)
    start, about = luce.coefficients / GUMBEL_SCALE, luce.covariance / GUMBEL_SCALE**2
    rule = Rule(choices.slates.shares(), noise=GAUSSIAN)
    beta, found, norm = _maximise(
        lambda at: _value(choices, rule, at)[:2], start, _scale(choices), choices.total_weight, about
    )
    fit = RuleFit(Family.THURSTONE, rule, beta, None, None, found, norm)
    return with_covariance(choices, fit) if errors else fit


def with_covariance(choices: Choices, fit: RuleFit) -> RuleFit:
    """Return a fit of Thurstone's model to these choices, with the covariance of its coefficients."""
    found = _numeric_covariance(
        lambda at: _value(choices, fit.rule, at)[:2], fit.coefficients, _scale(choices)
    )
    return replace(fit, covariance=found)


# --- Luce with lapses -----------------------------------------------------------------------------


def lapse_logit(choices: Choices, *, pooled: LogitFit | None = None, near: RuleFit | None = None) -> RuleFit:
    r"""Fit P(pick) = (1 - e) softmax(beta' x) + e / K by maximum likelihood.

    Args:
        choices: Slates, features and picks.
        pooled: Conditional logit of the same choices, to start from. Without it, and if the picks are
            separated but for lapses, the start is a penalised one.
        near: Fit to almost the same choices, to start from in place of a small and a large lapse share.
    """
    start = pooled
    if start is None:
        try:
            start = conditional_logit(choices, clustered=False)
        except NoEstimate:
            start = conditional_logit(choices, shrinkage=1.0, clustered=False)
    firsts = [np.r_[start.coefficients * (1 + e), math.log(e / (1 - e))] for e in (0.02, 0.3)]
    if near is not None:
        e = float(np.clip(near.rule.lapse, 0.02, 0.98))
        firsts = [np.r_[near.coefficients, math.log(e / (1 - e))]]
    scale, total = np.r_[_scale(choices), 1.0], choices.total_weight
    ends = [_ascend(choices, first, scale, total) for first in firsts]
    theta, value, norm = max(ends, key=lambda end: end[1])
    if value < start.log_likelihood:  # at the boundary: no lapses
        theta, value = np.r_[start.coefficients, -40.0], start.log_likelihood
    rule = Rule(choices.slates.shares(), lapse=_share(theta[-1]))
    covariance = _lapse_covariance(choices, theta[:-1], rule)
    interval = _lapse_interval(choices, theta[:-1], rule.lapse, covariance)
    return RuleFit(Family.LAPSE, rule, theta[:-1], covariance, interval, value, norm)


def _ascend(
    choices: Choices, theta: FloatArray, scale: FloatArray, total: float
) -> tuple[FloatArray, float, float]:
    """Maximise over (beta, log odds of e) from ``theta``: as :func:`_maximise`, in fewer evaluations.

    Steps solve the outer products of scores (Berndt, Hall, Hall and Hausman 1974), which are close to the
    information; where they do not climb well, :func:`_maximise` goes on.
    """
    value, gradient, products = _lapse_scores(choices, theta)
    for _ in range(ASCENTS):
        norm = float(np.abs(gradient / scale).max()) / total
        if norm <= GRADIENT:
            return theta, value, norm
        try:
            step = np.linalg.solve(products, gradient)
        except np.linalg.LinAlgError:
            break
        reach = float(np.abs(step * scale).max())
        if not math.isfinite(reach):
            break
        step *= min(1.0, FARTHEST / reach)
        new = _lapse_scores(choices, theta + step)
        if new[0] < value:
            break
        theta = theta + step
        value, gradient, products = new
    return _maximise(lambda found: _lapse_value(choices, found), theta, scale, total, _about(choices, theta))


def _lapse_scores(choices: Choices, theta: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Return the log-likelihood at (beta, log odds of e), its gradient and the scores' outer products."""
    lapse = _share(theta[-1])
    logs, by_row, by_lapse = Rule(noise=GUMBEL, lapse=lapse).slopes(
        choices.features @ theta[:-1], choices.picked, choices.slates
    )
    by_slate = choices.slates.sums(choices.features * by_row[:, None])
    scores = np.column_stack([by_slate, by_lapse * lapse * (1 - lapse)])
    if choices.weights is None:
        return float(logs.sum()), scores.sum(axis=0), scores.T @ scores
    weighted = scores * choices.weights[:, None]
    return float(logs @ choices.weights), weighted.sum(axis=0), scores.T @ weighted


def _lapse_value(choices: Choices, theta: FloatArray) -> tuple[float, FloatArray]:
    """Return the log-likelihood and its gradient at (beta, log odds of e)."""
    lapse = _share(theta[-1])
    value, gradient, by_lapse = _value(choices, Rule(noise=GUMBEL, lapse=lapse), theta[:-1])
    return value, np.r_[gradient, by_lapse * lapse * (1 - lapse)]


def _value(choices: Choices, rule: Rule, beta: FloatArray) -> tuple[float, FloatArray, float]:
    """Return a rule's log-likelihood at utilities beta' x and its derivatives by beta and the lapse share."""
    logs, by_row, by_lapse = rule.slopes(choices.features @ beta, choices.picked, choices.slates)
    if choices.weights is not None:
        logs, by_lapse = logs * choices.weights, by_lapse * choices.weights
        by_row = by_row * choices.slates.spread(choices.weights)
    return float(logs.sum()), choices.features.T @ by_row, float(by_lapse.sum())


def _share(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-float(np.clip(logit, -40.0, 40.0))))


def _about(choices: Choices, theta: FloatArray) -> FloatArray | None:
    """Return the covariance of (beta, log odds of e) by the scores there, or None."""
    lapse = _share(theta[-1])
    found = _lapse_covariance(choices, theta[:-1], Rule(lapse=lapse))
    unit = np.r_[np.ones(theta.size - 1), 1 / (lapse * (1 - lapse))]
    return None if found is None else found * np.outer(unit, unit)


def _lapse_covariance(choices: Choices, beta: FloatArray, rule: Rule) -> FloatArray | None:
    """Return the inverse of the sum of outer products of scores of (beta, e), or None at the boundary."""
    if not 1e-9 < rule.lapse < 1 - 1e-9:
        return None
    _, by_row, by_lapse = rule.slopes(choices.features @ beta, choices.picked, choices.slates)
    scores = np.column_stack([choices.slates.sums(choices.features * by_row[:, None]), by_lapse])
    weights = 1.0 if choices.weights is None else choices.weights[:, None]
    try:
        return np.asarray(np.linalg.inv(scores.T @ (scores * weights)), np.float64)
    except np.linalg.LinAlgError:
        return None


def _lapse_interval(
    choices: Choices, beta: FloatArray, lapse: float, covariance: FloatArray | None
) -> tuple[float, float]:
    """Return a 95 % interval, normal on the log-odds scale; near the boundary, by likelihood ratio.

    The likelihood-ratio interval holds the coefficients at their estimates.
    """
    if covariance is not None and covariance[-1, -1] > 0:
        odds, error = math.log(lapse / (1 - lapse)), math.sqrt(covariance[-1, -1]) / (lapse * (1 - lapse))
        if error < 1.0:
            return _share(odds - 1.96 * error), _share(odds + 1.96 * error)
    right = np.exp(choices.log_likelihood(Rule(), choices.features @ beta))
    return _mixture_interval(right, 1.0 / choices.slates.sizes, choices.weights, lapse)


def _mixture_value(right: FloatArray, uniform: FloatArray, weights: FloatArray | None, lapse: float) -> float:
    with np.errstate(divide="ignore"):
        logs = np.log((1 - lapse) * right + lapse * uniform)
    return float(logs.sum() if weights is None else logs @ weights)


def _mixture_interval(
    right: FloatArray, uniform: FloatArray, weights: FloatArray | None, lapse: float
) -> tuple[float, float]:
    """Return the lapse shares for which twice the log-likelihood is within 3.84 of its maximum."""
    from scipy.optimize import brentq

    top = _mixture_value(right, uniform, weights, lapse)

    def excess(e: float) -> float:
        return 2 * (_mixture_value(right, uniform, weights, e) - top) + 3.841458820694124

    low = 0.0 if lapse <= 1e-12 or excess(0.0) > 0 else float(brentq(excess, 0.0, lapse, xtol=1e-9))
    high = 1.0 if lapse >= 1 - 1e-12 or excess(1.0) > 0 else float(brentq(excess, lapse, 1.0, xtol=1e-9))
    return low, high


# --- best of K ------------------------------------------------------------------------------------


def best_of_k(choices: Choices, worth: FloatArray) -> RuleFit:
    """Fit the lapse share of picks of the largest ``worth`` (rows,) in each slate, ties broken uniformly."""
    right, uniform = best_chances(choices, worth), 1.0 / choices.slates.sizes
    lapse = _best_lapse(right, uniform, choices.weights)
    rule = Rule(choices.slates.shares(), noise=NO_NOISE, lapse=lapse)
    value = _mixture_value(right, uniform, choices.weights, lapse)
    interval = _mixture_interval(right, uniform, choices.weights, lapse)
    return RuleFit(Family.BEST, rule, np.empty(0), None, interval, value, 0.0)


def best_chances(choices: Choices, worth: FloatArray) -> FloatArray:
    """Return the probability of each slate's pick (slates,) if the best is picked, ties broken uniformly."""
    return np.exp(choices.log_likelihood(Rule(noise=NO_NOISE), worth))


def log_luck(choices: Choices, worth: FloatArray) -> float:
    """Return the log probability that uniform picks are all the best of their slates by ``worth`` (rows,)."""
    top = worth == choices.slates.spread(choices.slates.maxima(worth))
    return float(np.log(choices.slates.sums(top.astype(float)) / choices.slates.sizes).sum())


def _best_lapse(right: FloatArray, uniform: FloatArray, weights: FloatArray | None) -> float:
    from scipy.optimize import brentq

    own = np.ones(right.size) if weights is None else weights

    def slope(e: float) -> float:
        return float(((uniform - right) / ((1 - e) * right + e * uniform)) @ own)

    if (right > 0).all() and slope(0.0) <= 0:
        return 0.0
    if slope(1.0) >= 0:
        return 1.0
    return float(brentq(slope, 1e-15, 1.0, xtol=1e-14))


# --- maximisation ---------------------------------------------------------------------------------


def _scale(choices: Choices) -> FloatArray:
    """Return the root mean squares of the features within slates: a year varies by units, not by 2000."""
    slates, x = choices.slates, choices.features
    within = x - slates.spread(slates.sums(x) / slates.sizes[:, None])
    return np.asarray(np.sqrt(np.maximum(np.square(within).mean(axis=0), 1e-300)))


def _maximise(
    value: Callable[[FloatArray], tuple[float, FloatArray]],
    start: FloatArray,
    scale: FloatArray,
    total: float,
    covariance: FloatArray | None,
) -> tuple[FloatArray, float, float]:
    """Maximise a smooth log-likelihood: return where, its value, and the norm of its scaled gradient.

    A guess of the ``covariance`` halves the number of steps.
    """
    from scipy.optimize import minimize

    def negative(theta: FloatArray) -> tuple[float, FloatArray]:
        found, gradient = value(theta / scale)
        return -found / total, -gradient / scale / total

    options: dict[str, Any] = {"gtol": GRADIENT, "maxiter": 400}
    if covariance is not None:
        guess = (covariance + covariance.T) / 2 * np.outer(scale, scale) * total
        if np.isfinite(guess).all() and np.linalg.eigvalsh(guess)[0] > 0:
            options["hess_inv0"] = guess
    done = minimize(negative, start * scale, jac=True, method="BFGS", options=options)
    return done.x / scale, -float(done.fun) * total, float(np.abs(done.jac).max())


def _numeric_covariance(
    value: Callable[[FloatArray], tuple[float, FloatArray]], theta: FloatArray, scale: FloatArray
) -> FloatArray | None:
    """Return the inverse of minus the numerical derivative of the gradient, or None."""
    steps = np.diag(1e-4 / scale)
    information = np.array([(value(theta - h)[1] - value(theta + h)[1]) / (2 * h.max()) for h in steps])
    try:
        found = np.linalg.inv((information + information.T) / 2)
    except np.linalg.LinAlgError:
        return None
    return found if np.all(np.diag(found) > 0) else None
