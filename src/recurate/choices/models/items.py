r"""Item rewards: Luce's model with one parameter per item, for top-1 picks, rankings and tied pairs.

P(pick i from S) = w_i / sum_{k in S} w_k with w = exp(theta) (Luce 1959; Bradley-Terry for pairs; a ranking
is a sequence of picks, Plackett-Luce). The rewards theta are identified up to a constant within each
connected component, and are finite iff each item can be reached from every other along "was picked over"
(Ford 1957; Hunter 2004). A tie of a pair is a separate outcome with weight nu sqrt(w_i w_j) (Davidson 1970).

Newton's method maximises the log-likelihood; conjugate gradients, preconditioned by the diagonal, solve its
linear systems. With the matrix A of slates and items and s = A w, the gradient is wins - w A'(1/s), and the
information times v is w (A'(1/s) v) - w A' ((A (w v)) / s^2), so that each product costs one pass over A. The
information of a subsample is used for the steps as long as they climb well, and its estimate is the starting
point if every item wins there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recurate.choices.models.connectivity import check_connected
from recurate.choices.models.identifiability import NoEstimate, check_shrinkage
from recurate.choices.models.item_likelihoods import (
    Davidson,
    ItemEvaluation,
    ItemLikelihood,
    PartedEvaluation,
    PartedTop1,
    Top1Likelihood,
)
from recurate.choices.models.lbfgs import LBFGS
from recurate.choices.table import check_picks, check_weights, slates_of
from recurate.core.arrays import FloatArray, IntArray
from recurate.core.citations import cite
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.rules.slates import Slates

TOLERANCE = 1e-6  # largest entry of the gradient per slate, times the number of items, at convergence
STEPS = 100  # maximum number of Newton steps
SOLVES = 500  # maximum number of conjugate gradient iterations per step
DENSE = 1500  # maximum number of parameters for which the information is inverted exactly
DRAWS = 64  # draws from the estimate's sampling law for standard errors of more items; their error is 9 %


@dataclass(frozen=True)
class ItemFit:
    """Fitted item rewards with their evidence.

    Attributes:
        rewards: Rewards theta with mean zero, (items,).
        names: Names of the items.
        log_likelihood: Log-likelihood at the estimate, in nats.
        null_log_likelihood: Log-likelihood of uniform picks, in nats.
        tie_log_odds: Log of Davidson's nu, or None if no pair is tied.
        gradient_norm: Largest entry of the gradient per slate, times the number of items.
        steps: Number of Newton steps on the full sample.
        slates: Number of slates.
        shrinkage: Lambda of the penalty lambda / 2 sum theta^2.
    """

    rewards: FloatArray
    names: tuple[str, ...] = field(repr=False)
    log_likelihood: float
    null_log_likelihood: float
    tie_log_odds: float | None
    gradient_norm: float
    steps: int
    slates: int
    shrinkage: float
    _model: ItemLikelihood = field(repr=False)
    _clusters: IntArray | None = field(repr=False)

    @cached_property
    def standard_errors(self) -> FloatArray:
        """Model-based standard errors of the rewards, whose mean is fixed at zero, (items,)."""
        return self._errors(None)

    @cached_property
    def clustered_errors(self) -> FloatArray | None:
        """Standard errors clustered by chooser, (items,), or None without choosers."""
        return None if self._clusters is None else self._errors(self._clusters)

    @property
    def errors(self) -> FloatArray:
        """Standard errors to report, (items,): clustered if choosers (or rankings) are known."""
        return self.standard_errors if self.clustered_errors is None else self.clustered_errors

    @property
    def exact_errors(self) -> bool:
        """Whether standard errors are exact instead of estimated from ``DRAWS`` draws."""
        return self._parameters.size <= DENSE

    @cached_property
    def _parameters(self) -> FloatArray:
        tail = [] if self.tie_log_odds is None else [self.tie_log_odds]
        return np.concatenate([self.rewards, tail])

    def _errors(self, clusters: IntArray | None) -> FloatArray:
        point, m = self._model.at(self._parameters), self.rewards.size
        if self.exact_errors:
            bread = _pseudo_inverse(point.dense_information(), m, self.shrinkage)
            if clusters is None:
                return np.sqrt(np.maximum(np.diag(bread), 0.0))[:m]
            half = _by_cluster(_scores(point), clusters) @ bread
            count = max(len(np.unique(clusters)), 2)
            return np.asarray(np.sqrt(np.square(half).sum(axis=0) * count / (count - 1))[:m])
        generator = Stream(0).at("item errors").generator()
        spread = np.zeros(self._parameters.size)
        observed = None if clusters is None else _by_cluster(_scores(point), clusters)
        for _ in range(DRAWS):
            if observed is None:
                score = point.drawn_gradient(generator)
                score[:m] += math.sqrt(self.shrinkage) * generator.standard_normal(m)
            else:
                score = np.asarray(observed.T @ generator.choice([-1.0, 1.0], observed.shape[0])).ravel()
            spread += np.square(_centred(_solve(point, score, m, self.shrinkage, 1e-3), m))
        return np.sqrt(spread / DRAWS)[:m]


def item_rewards(
    items: ArrayLike,
    picked: ArrayLike,
    *,
    offsets: ArrayLike | None = None,
    names: tuple[str, ...] | None = None,
    weights: ArrayLike | None = None,
    clusters: IntArray | None = None,
    ties: ArrayLike | None = None,
    shrinkage: float = 0.0,
) -> ItemFit:
    r"""Fit P(pick i from S) = exp(theta_i) / sum_{k in S} exp(theta_k), item rewards, by maximum likelihood.

    Args:
        items: Item codes from 0, (slates, K), or (rows,) with ``offsets``.
        picked: Slot of each slate's pick, from 0, (slates,).
        offsets: First row of each slate, then the number of rows, (slates + 1,), for slates of varying size.
        names: Names of the items. Default: "0", "1", ...
        weights: Positive weights of the slates, (slates,).
        clusters: Codes of choosers (or rankings), (slates,), for clustered standard errors.
        ties: Whether each slate, then a pair, is tied, (slates,); the ``picked`` of ties is ignored. If any
            pair is tied, Davidson's model is fitted.
        shrinkage: Lambda >= 0 of the penalty lambda / 2 sum theta^2. With lambda > 0 the estimate exists.

    Returns:
        The fit with rewards of mean zero, standard errors and the log-likelihood.

    Raises:
        NoEstimate: If the graph of picks is not strongly connected and the shrinkage is zero.
        InputError: If shapes disagree or values are out of range.

    >>> fit = item_rewards([[0, 1]] * 4, [0, 1, 1, 1])
    >>> (fit.rewards[1] - fit.rewards[0]).round(6)  # log of the odds 3 : 1
    np.float64(1.098612)
    """
    cite("luce1959", "hunter2004")
    check_shrinkage(shrinkage)
    codes, slates = _layout(items, offsets)
    slots = check_picks(picked, slates)
    count = int(codes.max()) + 1 if names is None else len(names)
    labels = names if names is not None else tuple(str(i) for i in range(count))
    shares = None if weights is None else check_weights(weights, len(slates))
    tied = np.zeros(len(slates), bool) if ties is None else _check_ties(ties, slates)
    winners = codes[slates.offsets[:-1] + slots]
    if tied.all():
        raise NoEstimate(
            "every pair was tied", got=f"{tied.size} ties", remedy="name the column of picks (--pick)"
        )
    if not shrinkage:
        check_connected(codes, slates, winners, tied, labels)
    model: ItemLikelihood
    if tied.any():
        model = Davidson.build(codes, slates, slots, shares, tied, count)
    else:
        model = Top1Likelihood.build(codes, slates, winners, shares, count)
    logs = -np.log(slates.sizes + tied.any())
    null = float(logs.sum() if shares is None else logs @ shares)
    return _fitted(model, labels, len(slates), null, shrinkage, clusters)


def item_rewards_in_parts(
    codes: list[IntArray], wins: FloatArray, sample: ItemFit, names: tuple[str, ...]
) -> ItemFit:
    """Fit item rewards to very many slates with one pick each; see :func:`item_rewards`.

    Args:
        codes: Item codes from 0 of slates of one size each, (K, slates) per part.
        wins: Number of picks of each item, (items,).
        sample: The fit of some of the slates, with the same items and shrinkage; its slates must be top-1
            picks, without weights and clusters.
        names: Names of the items.
    """
    assert isinstance(sample._model, Top1Likelihood)
    model = PartedTop1(codes, wins, sample._model)
    return _fitted(model, names, round(model.total), model.null, sample.shrinkage, None)


def _fitted(
    model: ItemLikelihood,
    labels: tuple[str, ...],
    slates: int,
    null: float,
    shrinkage: float,
    clusters: IntArray | None,
) -> ItemFit:
    """Return the fit of a likelihood, whose uniform picks have the log-likelihood ``null``."""
    count = len(labels)
    start, part = model.start(), model.part()
    if part is not None and part.certain:
        start, _, _ = _climb(part, start, count, shrinkage * part.total / model.total, helper=None)
    theta, point, steps = _climb(model, start, count, shrinkage, helper=part)
    shift = theta[:count].mean()
    theta[:count] -= shift
    return ItemFit(
        theta[:count],
        labels,
        point.value,
        null,
        float(theta[count]) if theta.size > count else None,
        _norm(point, theta, count, shrinkage, model.total),
        steps,
        slates,
        shrinkage,
        model,
        clusters,
    )


# --- the ascent -----------------------------------------------------------------------------------


def _climb(
    model: ItemLikelihood, theta: FloatArray, count: int, shrinkage: float, *, helper: ItemLikelihood | None
) -> tuple[FloatArray, ItemEvaluation, int]:
    """Return the estimate, its evaluation and the number of steps.

    ``helper`` is a subsample's likelihood. Steps use its information, taken anew where the gradient decreases
    little, as long as that helps.
    """
    theta = _centred(theta.copy(), count)
    point = model.at(theta)
    value = point.value - 0.5 * shrinkage * float(np.square(theta[:count]).sum())
    steps, norm = 0, _norm(point, theta, count, shrinkage, model.total)
    ratio = 1.0 if helper is None else model.total / helper.total
    assistant = None if helper is None else _assistant(helper.at(theta), count, shrinkage, ratio)
    fresh = True
    while norm > TOLERANCE and steps < STEPS:
        gradient = _slope(point, theta, count, shrinkage)
        if assistant is not None:
            step = assistant(gradient)
        else:
            step = _solve(point, gradient, count, shrinkage, min(0.1, math.sqrt(norm)))
        scale = min(1.0, 3.0 / max(float(np.abs(step).max()), 1e-300))
        for _ in range(40):
            moved = _centred(theta + scale * step, count)
            new = model.at(moved)
            found = new.value - 0.5 * shrinkage * float(np.square(moved[:count]).sum())
            if found >= value - 1e-12 * abs(value):
                break
            scale /= 2
        else:
            break
        if assistant is not None:
            assistant.add(moved - theta, gradient - _slope(new, moved, count, shrinkage))
        theta, point, value = moved, new, found
        before, norm = norm, _norm(point, theta, count, shrinkage, model.total)
        if assistant is None or helper is None or norm <= 0.3 * before:
            fresh = False
        else:
            assistant = None if fresh else _assistant(helper.at(theta), count, shrinkage, ratio)
            fresh = True
        steps += 1
    if norm > 100 * TOLERANCE:
        raise NoEstimate(
            "the item rewards have not converged",
            got=f"a gradient of {norm:.2g} per slate and item after {steps} steps",
            remedy="set a shrinkage (--shrinkage 1): some items win nearly all or none of their comparisons",
        )
    return theta, point, steps


def _assistant(point: ItemEvaluation, count: int, shrinkage: float, ratio: float) -> LBFGS:
    """Return quasi-Newton steps with the information of a subsample that is ``ratio`` times smaller."""
    return LBFGS(lambda g: _solve(point, g / ratio, count, shrinkage / ratio, 1e-2))


def _slope(point: ItemEvaluation, theta: FloatArray, count: int, shrinkage: float) -> FloatArray:
    """Return the gradient of the penalised log-likelihood."""
    gradient = point.gradient.copy()
    gradient[:count] -= shrinkage * theta[:count]
    return gradient


def _norm(point: ItemEvaluation, theta: FloatArray, count: int, shrinkage: float, total: float) -> float:
    return float(np.abs(_slope(point, theta, count, shrinkage)).max()) / total * count


def _centred(v: FloatArray, count: int) -> FloatArray:
    """Subtract the mean of the first ``count`` entries of v from them, in place, and return v."""
    v[:count] -= v[:count].mean()
    return v


def _solve(
    point: ItemEvaluation, rhs: FloatArray, count: int, shrinkage: float, tolerance: float
) -> FloatArray:
    """Return information^-1 rhs by preconditioned conjugate gradients, with rewards of mean zero."""
    ridge = np.zeros(rhs.size)
    ridge[:count] = shrinkage
    inverse = 1.0 / (point.diagonal + ridge)
    x = np.zeros(rhs.size)
    r = rhs.copy()
    if not shrinkage:
        r[:count] -= r[:count].mean()  # constants are in the null space of the information
    z = inverse * r
    p, rz = z.copy(), float(r @ z)
    goal = tolerance**2 * rz
    for _ in range(SOLVES):
        if rz <= goal or rz == 0:
            break
        q = point.times(p) + ridge * p
        curvature = float(p @ q)
        if curvature <= 0:
            break
        alpha = rz / curvature
        x += alpha * p
        r -= alpha * q
        z = inverse * r
        before, rz = rz, float(r @ z)
        p = z + (rz / before) * p
    return x if shrinkage else _centred(x, count)


def _pseudo_inverse(information: FloatArray, count: int, shrinkage: float) -> FloatArray:
    """Return the inverse of the penalised information on rewards of mean zero."""
    matrix = information.copy()
    matrix[np.arange(count), np.arange(count)] += shrinkage
    level = float(np.diag(information)[:count].mean())
    constant = np.zeros(len(information))
    constant[:count] = 1.0 / math.sqrt(count)
    shift = np.outer(constant, constant)
    return np.asarray(np.linalg.inv(matrix + level * shift) - shift / (level + shrinkage))


def _scores(point: ItemEvaluation) -> Any:
    """Return each slate's gradient, a sparse matrix (slates, parameters)."""
    assert not isinstance(point, PartedEvaluation)  # parts have no clusters
    return point.scores()


def _by_cluster(scores: Any, clusters: IntArray) -> Any:
    from scipy import sparse

    codes = np.unique(clusters, return_inverse=True)[1]
    members = sparse.csr_matrix((np.ones(codes.size), (codes, np.arange(codes.size))))
    return members @ scores


# --- arguments ------------------------------------------------------------------------------------


def _layout(items: ArrayLike, offsets: ArrayLike | None) -> tuple[IntArray, Slates]:
    codes = np.asarray(items)
    if codes.dtype.kind not in "iu" or codes.ndim != (2 if offsets is None else 1) or not codes.size:
        raise InputError(
            "items must be whole numbers from 0, shape (slates, K), or (rows,) with offsets",
            got=f"shape {codes.shape}, type {codes.dtype}",
            remedy="encode names as numbers: np.unique(names, return_inverse=True)[1]",
        )
    if codes.min() < 0:
        raise InputError(
            "item codes are counted from 0", got=int(codes.min()), remedy="drop or recode these rows"
        )
    return codes.ravel(), slates_of(codes.size, codes.shape[1] if offsets is None else None, offsets)


def _check_ties(ties: ArrayLike, slates: Slates) -> NDArray[np.bool_]:
    tied = np.asarray(ties)
    if tied.dtype != bool or tied.shape != (len(slates),):
        raise InputError(
            "ties must have one boolean per slate", got=f"shape {tied.shape}", remedy="pass True or False"
        )
    if tied.any() and slates.width != 2:
        raise InputError(
            "ties are modelled for pairs only",
            got=f"slates of up to {slates.sizes.max()}",
            remedy="split larger slates into pairs, or pass a pick for each tie",
        )
    return tied
