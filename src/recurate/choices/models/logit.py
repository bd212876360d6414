r"""Conditional logit: the utilities of features, estimated from picks.

Luce's rule with utilities linear in features, P(pick i) = exp(beta' x_i) / sum_k exp(beta' x_k) (McFadden
1974): the reward is beta' x at temperature one. With one feature, a score, beta = 1 / temperature.

The log-likelihood is concave. Newton's method first maximises it on a subsample, whose scaled information
then replaces the information of the full sample: each such step costs one gradient and multiplies the error
by about the relative error of the subsample's information, one or two per cent. If the steps converge more
slowly, the full information is computed.
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

TOLERANCE = 1e-7  # scaled gradient per slate at which the ascent has converged
CONTRACTION = 0.03  # assumed contraction of the error in the first step with a subsample's information
STEPS = 60  # maximum number of steps


@dataclass(frozen=True)
class LogitFit:
    """A fitted conditional logit with its evidence.

    Attributes:
        names: Names of the features.
        coefficients: Coefficients beta, in utility per unit of each feature, (d,).
        covariance: Covariance of the coefficients under the model, the inverse information, (d, d).
        clustered: Sandwich estimate of the covariance with scores summed within choosers (without choosers,
            within rankings), (d, d), or None if slates have neither.
        log_likelihood: Log-likelihood at the estimate, in nats.
        null_log_likelihood: Log-likelihood of uniform picks, in nats.
        gradient_norm: Largest entry of the scaled gradient, per slate.
        passes: Number of passes over the full sample.
        slates: Number of slates.
        clusters: Number of clusters, or None.
        shrinkage: Lambda of the penalty lambda / 2 sum_j (s_j beta_j)^2.
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
        """Standard errors to report, (d,): clustered if two or more choosers (or rankings) are known."""
        return self.standard_errors if self.clustered_errors is None else self.clustered_errors

    @property
    def explained(self) -> float:
        """McFadden's pseudo-R^2, 1 - log-likelihood / log-likelihood of uniform picks."""
        return 1.0 - self.log_likelihood / self.null_log_likelihood

    def utilities(self, features: FloatArray) -> FloatArray:
        """Return the fitted rewards beta' x at temperature one, (rows,), for features (rows, d)."""
        return np.asarray(features @ self.coefficients)


def conditional_logit(
    choices: Choices, *, shrinkage: float = 0.0, start: FloatArray | None = None, clustered: bool = True
) -> LogitFit:
    r"""Fit P(pick i) = exp(beta' x_i) / sum_k exp(beta' x_k), a conditional logit, by maximum likelihood.

    Args:
        choices: Slates, features and picks.
        shrinkage: Lambda >= 0 of the penalty lambda / 2 sum_j (s_j beta_j)^2, where s_j is the root mean
            square of feature j within slates. With lambda > 0 the estimate exists if all features vary.
        start: Coefficients to start from, (d,). Default: zero.
        clustered: Whether to estimate clustered standard errors where choosers are known.

    Returns:
        The fit with coefficients, covariances and the log-likelihood.

    Raises:
        NoEstimate: If features do not vary within slates, are collinear, or separate the picks.
        InputError: If the shrinkage is not a finite number >= 0.

    >>> import numpy as np
    >>> from recurate.choices import Choices, conditional_logit
    >>> choices = Choices.of([0.0, 1.0] * 4, k=2, picked=[0, 1, 1, 1])
    >>> conditional_logit(choices).coefficients.round(6)  # log of the odds 3 : 1
    array([1.098612])
    """
    cite("mcfadden1974")
    check_shrinkage(shrinkage)
    if choices.features.shape[1] == 0:
        raise NoEstimate("there are no features", got="none", remedy="name at least one feature (--feature)")
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
    """Return the subsample's estimate and its information scaled to the full sample, or None without one."""
    if part is None:
        return None
    ratio = part.total_weight / ascent.choices.total_weight
    own = NewtonAscent(part, ascent.penalty * ratio, ascent.scale)
    try:
        beta, found = own.newton(np.zeros(ascent.scale.size) if start is None else start)
    except NoEstimate:
        return None  # a subsample may be separated although the full sample is not
    assert found.information is not None
    return beta, found.information / ratio


@dataclass
class NewtonAscent:
    """Newton's method on one sample's penalised log-likelihood.

    Attributes:
        choices: The sample.
        penalty: Penalties lambda s_j^2 of the features, (d,).
        scale: Root mean squares s_j of the features within slates, (d,).
        passes: Number of passes over the sample so far.
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
        """Return the largest entry of the gradient per slate, scaled by each feature's root mean square."""
        return float(np.abs(gradient / self.scale).max()) / self.choices.total_weight

    def newton(self, beta: FloatArray, found: Evaluation | None = None) -> tuple[FloatArray, Evaluation]:
        """Return the estimate and its last evaluation by Newton's method with step halving."""
        found = found or self.at(beta, information=True)
        for _ in range(STEPS):
            if self.norm(found.gradient) <= TOLERANCE:
                self._refuse_mirage(beta, found)
                return beta, found
            if np.abs(beta * self.scale).max() > 10.0:  # the coefficients may diverge
                self._refuse_separated(beta)
            assert found.information is not None
            beta, found = self._ascend(beta, found, solver(found.information), information=True)
        raise self._lost(beta)

    def follow(self, beta: FloatArray, information: FloatArray) -> tuple[FloatArray, Evaluation]:
        """Return the estimate and its last evaluation, with the information, by quasi-Newton steps.

        The steps start from a given information (d, d), which pairs of steps and changes of the gradient
        update (L-BFGS).
        """
        solve = LBFGS(solver(information))
        found = self.at(beta, information=False)
        norm, ratio = self.norm(found.gradient), CONTRACTION
        for _ in range(STEPS):
            # The pass that is expected to be the last also computes the information for the standard errors.
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
        """Return the point after a step along ``solve(gradient)``, halved until the value does not fall."""
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
        """Raise NoEstimate if the gradient vanishes only because the picks are separated.

        In that case the length of Newton's step remains the same; at a maximum it vanishes with the gradient.
        """
        assert found.information is not None
        step = solver(found.information)(found.gradient)
        if np.abs(step * self.scale).max() > 1e-3:
            self._refuse_separated(beta)

    def _refuse_separated(self, beta: FloatArray) -> None:
        """Raise NoEstimate if the picks are separated, so that the coefficients diverge."""
        direction = None if self.penalty.any() else separating_direction(self.choices, beta)
        if direction is not None:
            raise explain_separation(self.choices, direction)

    def _lost(self, beta: FloatArray) -> NoEstimate:
        self._refuse_separated(beta)
        return NoEstimate(
            "no maximum of the likelihood was found in double precision",
            got=f"coefficients up to {np.abs(beta).max():.3g} after {self.passes} passes",
            remedy="set a shrinkage (--shrinkage 1), or describe candidates by fewer features (--feature)",
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
    """Return the map v -> information^-1 v, by a Cholesky factor of the matrix scaled to unit diagonal."""
    from scipy.linalg import cho_factor, cho_solve

    scale = 1.0 / np.sqrt(np.maximum(np.diag(information), np.finfo(float).tiny))
    scaled = information * scale * scale[:, None]
    ridge = 0.0
    for _ in range(12):
        try:
            factor = cho_factor(scaled + ridge * np.eye(len(scaled)), check_finite=False)
            break
        except np.linalg.LinAlgError:
            ridge = max(10 * ridge, 1e-13)  # numerically singular: the step is still an ascent direction
    else:
        raise NoEstimate(
            "the information matrix is not positive definite",
            got="nan",
            remedy="describe candidates by other features (--feature), without very large values",
        )

    def solve(v: FloatArray) -> FloatArray:
        column = scale if v.ndim == 1 else scale[:, None]
        return np.asarray(column * cho_solve(factor, column * v, check_finite=False))

    return solve
