r"""Conditional logit: what features are worth to whoever picks.

Luce's rule with utilities linear in features, P(pick i) = exp(beta' x_i) / sum_k exp(beta' x_k) (McFadden
1974): the reward is beta' x at temperature one. With one feature, a score, beta = 1 / temperature.

The log-likelihood is concave. It is climbed by Newton's method on a subsample, whose scaled information then
serves for the full sample: each such step multiplies the error by about the relative error of a subsample's
information, one or two per cent, at the price of one gradient. Where it does not, the full one is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from recurate.choices.models.identifiability import (
    NoEstimate,
    check_identified,
    check_shrinkage,
    explain_separation,
    separating_direction,
)
from recurate.choices.models.lbfgs import LBFGS
from recurate.choices.models.likelihood import Evaluation, evaluate
from recurate.choices.table import Choices
from recurate.core.arrays import FloatArray
from recurate.core.citations import cite

TOLERANCE = 1e-7  # scaled gradient per slate at which an estimate is one
CONTRACTION = 0.03  # of the error in a step with a subsample's information, before one is known
STEPS = 60  # of Newton's method, at most


@dataclass(frozen=True)
class LogitFit:
    """A fitted conditional logit with its evidence.

    Attributes:
        names: the features.
        coefficients: beta, (d,): utility per unit of each feature.
        covariance: of the estimate if the model is right: the inverse information, (d, d).
        clustered: its sandwich estimate with scores summed within choosers (or, without choosers, within
            rankings), (d, d), or None if slates have neither.
        log_likelihood: at the estimate, in nats.
        null_log_likelihood: of picking uniformly.
        gradient_norm: of the log-likelihood per slate, in units of each feature's information.
        passes: over the whole sample.
        slates: how many.
        clusters: how many, or None.
        shrinkage: of the penalty ``shrinkage / 2 sum (beta_j scale_j)^2``.
    """

    names: tuple[str, ...]
    coefficients: FloatArray
    covariance: FloatArray = field(repr=False)
    clustered: FloatArray | None = field(repr=False)
    log_likelihood: float
    null_log_likelihood: float
    gradient_norm: float
    passes: int
    slates: int
    clusters: int | None = None
    shrinkage: float = 0.0

    @cached_property
    def standard_errors(self) -> FloatArray:
        """Model-based standard errors, (d,)."""
        return np.sqrt(np.diag(self.covariance))

    @cached_property
    def clustered_errors(self) -> FloatArray | None:
        """Standard errors clustered by chooser, (d,), or None without choosers."""
        return None if self.clustered is None else np.sqrt(np.diag(self.clustered))

    @property
    def errors(self) -> FloatArray:
        """The standard errors to rely on: clustered where two or more choosers (or rankings) are known."""
        return self.standard_errors if self.clustered_errors is None else self.clustered_errors

    @property
    def explained(self) -> float:
        """McFadden's 1 - log-likelihood / that of uniform picks."""
        return 1.0 - self.log_likelihood / self.null_log_likelihood

    def utilities(self, features: FloatArray) -> FloatArray:
        """Return the fitted rewards beta' x at temperature one, (rows,), for features (rows, d)."""
        return np.asarray(features @ self.coefficients)


def conditional_logit(
    choices: Choices, *, shrinkage: float = 0.0, start: FloatArray | None = None, clustered: bool = True
) -> LogitFit:
    r"""Fit P(pick i) = exp(beta' x_i) / sum_k exp(beta' x_k), a conditional logit, by maximum likelihood.

    Args:
        choices: slates, features and picks.
        shrinkage: lambda >= 0 of the penalty lambda / 2 sum_j (s_j beta_j)^2, s_j the root mean square of
            feature j within slates. It makes an estimate exist wherever features vary.
        start: coefficients to start from (d,), or None.
        clustered: whether to estimate clustered standard errors too, where choosers are known.

    Raises:
        NoEstimate: features do not vary within slates, are collinear, or separate the picks.

    >>> import numpy as np
    >>> from recurate.choices import Choices, conditional_logit
    >>> choices = Choices.of([0.0, 1.0] * 4, k=2, picked=[0, 1, 1, 1])
    >>> conditional_logit(choices).coefficients.round(6)  # log of the odds 3 : 1
    array([1.098612])
    """
    cite("mcfadden1974")
    check_shrinkage(shrinkage)
    if choices.features.shape[1] == 0:
        raise NoEstimate("there are no features", got="none", remedy="name at least one feature")
    scale, part = check_identified(choices, shrinkage)
    ascent = NewtonAscent(choices, shrinkage * np.square(scale), scale)
    first = _first(part, ascent, start)
    if first is None:
        beta, found = ascent.newton(np.zeros(scale.size) if start is None else start)
    else:
        beta, found = ascent.follow(*first)
    return _result(ascent, beta, found, shrinkage, clustered)


def _first(
    part: Choices | None, ascent: NewtonAscent, start: FloatArray | None
) -> tuple[FloatArray, FloatArray] | None:
    """Return the subsample's estimate and information scaled up, or None where there is none."""
    if part is None:
        return None
    ratio = part.total_weight / ascent.choices.total_weight
    own = NewtonAscent(part, ascent.penalty * ratio, ascent.scale)
    try:
        beta, found = own.newton(np.zeros(ascent.scale.size) if start is None else start)
    except NoEstimate:
        return None  # a subsample may be separated where the whole is not
    assert found.information is not None
    return beta, found.information / ratio


@dataclass
class NewtonAscent:
    """Newton's method on one sample's penalised log-likelihood.

    Attributes:
        choices: the sample.
        penalty: lambda s^2 of every feature, (d,).
        scale: s, root mean square of every feature within slates, (d,).
        passes: over the sample, so far.
    """

    choices: Choices
    penalty: FloatArray
    scale: FloatArray
    passes: int = 0

    def at(self, beta: FloatArray, *, information: bool) -> Evaluation:
        """Return the penalised log-likelihood at ``beta`` with its derivatives."""
        self.passes += 1
        found = evaluate(self.choices, beta, information=information)
        if not self.penalty.any():
            return found
        matrix = None if found.information is None else found.information + np.diag(self.penalty)
        value = found.log_likelihood - 0.5 * float(self.penalty @ np.square(beta))
        return Evaluation(value, found.gradient - self.penalty * beta, matrix)

    def norm(self, gradient: FloatArray) -> float:
        """Return the gradient's largest entry per slate, each feature in units of its spread."""
        return float(np.abs(gradient / self.scale).max()) / self.choices.total_weight

    def newton(self, beta: FloatArray, found: Evaluation | None = None) -> tuple[FloatArray, Evaluation]:
        """Return the estimate and the last pass, by Newton's method with halved steps."""
        found = found or self.at(beta, information=True)
        for _ in range(STEPS):
            if self.norm(found.gradient) <= TOLERANCE:
                self._refuse_mirage(beta, found)
                return beta, found
            if np.abs(beta * self.scale).max() > 10.0:  # perhaps they grow without bound
                self._refuse_separated(beta)
            assert found.information is not None
            beta, found = self._ascend(beta, found, solver(found.information), information=True)
        raise self._lost(beta)

    def follow(self, beta: FloatArray, information: FloatArray) -> tuple[FloatArray, Evaluation]:
        """Return the estimate and a last pass with information, by steps with a given information.

        Pairs of steps and changes of the gradient update it (L-BFGS).
        """
        solve = LBFGS(solver(information))
        found = self.at(beta, information=False)
        norm, ratio = self.norm(found.gradient), CONTRACTION
        for _ in range(STEPS):
            # The pass that is expected to be the last brings the information for the standard errors.
            last = 0.5 * norm * ratio <= TOLERANCE
            moved, new = self._ascend(beta, found, solve, information=last)
            before, norm = norm, self.norm(new.gradient)
            if last:
                return self.newton(moved, new)
            solve.add(moved - beta, found.gradient - new.gradient)
            beta, found, ratio = moved, new, norm / before
            if ratio > 0.3:
                return self.newton(beta)
        raise self._lost(beta)

    def _ascend(
        self,
        beta: FloatArray,
        found: Evaluation,
        solve: Callable[[FloatArray], FloatArray],
        *,
        information: bool,
    ) -> tuple[FloatArray, Evaluation]:
        """Return the next point: a step along ``solve(gradient)``, halved until the value has not fallen."""
        step = solve(found.gradient)
        reach = float(np.abs(step * self.scale).max())
        step *= min(1.0, 20.0 / reach) if reach > 0 else 1.0
        slack = 1e-12 * abs(found.log_likelihood)  # rounding of the sums
        for _ in range(40):
            new = self.at(beta + step, information=information)
            if new.log_likelihood >= found.log_likelihood - slack:
                return beta + step, new
            step = step / 2
        raise self._lost(beta)

    def _refuse_mirage(self, beta: FloatArray, found: Evaluation) -> None:
        """Raise NoEstimate where the gradient vanishes only because the picks are separated.

        There Newton's step stays as long as it was; at a maximum it vanishes with the gradient.
        """
        assert found.information is not None
        step = solver(found.information)(found.gradient)
        if np.abs(step * self.scale).max() > 1e-3:
            self._refuse_separated(beta)

    def _refuse_separated(self, beta: FloatArray) -> None:
        """Raise NoEstimate where the picks are separated, so that coefficients grow without bound."""
        direction = None if self.penalty.any() else separating_direction(self.choices, beta)
        if direction is not None:
            raise explain_separation(self.choices, direction)

    def _lost(self, beta: FloatArray) -> NoEstimate:
        self._refuse_separated(beta)
        return NoEstimate(
            "the likelihood has no maximum that can be found in double precision",
            got=f"coefficients up to {np.abs(beta).max():.3g} after {self.passes} passes",
            remedy="rescale the features, drop nearly collinear ones, or set a shrinkage",
        )


def _result(
    ascent: NewtonAscent, beta: FloatArray, found: Evaluation, shrinkage: float, clustered: bool
) -> LogitFit:
    choices = ascent.choices
    assert found.information is not None
    covariance = solver(found.information)(np.eye(beta.size))
    value = found.log_likelihood + 0.5 * float(ascent.penalty @ np.square(beta))
    codes = choices.clusters if clustered else None
    sandwich = clusters = None
    if codes is not None:
        scores = evaluate(choices, beta, clusters=codes).cluster_scores
        assert scores is not None
        clusters = int(np.unique(codes).size)
        sandwich = sandwich_of(covariance, scores, clusters)
    return LogitFit(
        choices.names,
        beta,
        (covariance + covariance.T) / 2,
        sandwich,
        value,
        null_log_likelihood(choices),
        ascent.norm(found.gradient),
        ascent.passes,
        len(choices),
        clusters,
        shrinkage,
    )


def sandwich_of(bread: FloatArray, scores: FloatArray, clusters: int) -> FloatArray | None:
    """Return bread (sum_c s_c s_c') bread C / (C - 1), (d, d); None with fewer than two clusters."""
    if clusters < 2:
        return None
    half = scores @ bread
    return np.asarray(half.T @ half * (clusters / (clusters - 1)))


def null_log_likelihood(choices: Choices) -> float:
    """Return the log-likelihood of picking uniformly from every slate."""
    logs = -np.log(choices.slates.sizes)
    return float(logs.sum() if choices.weights is None else logs @ choices.weights)


def solver(information: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Return the map v -> information^-1 v by a Cholesky factor after scaling the diagonal to one."""
    from scipy.linalg import cho_factor, cho_solve

    scale = 1.0 / np.sqrt(np.maximum(np.diag(information), np.finfo(float).tiny))
    scaled = information * scale * scale[:, None]
    ridge = 0.0
    for _ in range(12):
        try:
            factor = cho_factor(scaled + ridge * np.eye(len(scaled)), check_finite=False)
            break
        except np.linalg.LinAlgError:
            ridge = max(10 * ridge, 1e-13)  # numerically singular: the ascent still goes up
    else:
        raise NoEstimate(
            "the information matrix is not positive",
            got="not a number",
            remedy="check the features for huge values",
        )

    def solve(v: FloatArray) -> FloatArray:
        column = scale if v.ndim == 1 else scale[:, None]
        return np.asarray(column * cho_solve(factor, column * v, check_finite=False))

    return solve
