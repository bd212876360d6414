r"""Preference groups: latent classes of choosers, each with coefficients of its own.

A chooser belongs to class z with probability w_z and then picks by conditional logit with beta_z, so that

.. math:: \ell = \sum_c \log \sum_z w_z \prod_{s \in c} P(\mathrm{pick}_s \mid \beta_z)

over choosers c. The classes are the preference groups of a pluralistic loop, w their weights: with W the
multipliers of :math:`r_z = \beta_z' x`, the population moves by sum_z w_z W_z (Falahati et al. 2026).

It has several maxima. Each start (k-means of choosers' whitened scores at the pooled estimate; then random
ones) is climbed on a subsample of choosers, the best one on all of them, by Newton steps with the observed
information (Louis 1982), which costs no more than an EM step, and EM steps (Dempster et al. 1977) where that
is not positive. One pick a chooser does not tell classes apart unless there are many kinds of slates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.likelihood import evaluate, information_of
from recurate.choices.models.logit import (
    LogitFit,
    conditional_logit,
    null_log_likelihood,
    sandwich_of,
    solver,
)
from recurate.choices.models.people import Sample, part_of_sample
from recurate.choices.table import Choices
from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.rules.slates import Slates

TOLERANCE = 1e-7  # scaled gradient per slate
STEPS = 300  # at most, on a subsample and on the whole
FEW_PICKS = 10  # picks a chooser below which one start is not enough
SAME = 1e-6  # log-likelihoods per slate within which two starts ended at the same maximum
PATIENCE = 8  # steps over which the log-likelihood must rise by
FLAT, FLAT_COARSE = 1e-9, 1e-6  # a slate, on the whole and on a subsample; else it is on a ridge
LONGEST = 3.0  # scaled Newton step
SMALLEST = 1e-6  # share of a class below which it is empty
LARGEST = 40.0  # scaled coefficients at which a class picks without noise


@dataclass(frozen=True)
class ClassFit:
    """Fitted latent classes with their evidence; the largest class first.

    Attributes:
        names: the features.
        weights: share of choosers in each class, (classes,).
        coefficients: beta of each class, (classes, d).
        covariance: of (log w_z / w_1 for z > 1, beta_1, beta_2, ...), the inverse observed information; None
            where that is not positive: the classes are not identified.
        clustered: its sandwich estimate (choosers are the clusters), or None likewise.
        log_likelihood: in nats.
        null_log_likelihood: of picking uniformly.
        membership: probability of each class for every chooser, (choosers, classes).
        gradient_norm: of the log-likelihood per slate, scaled.
        steps: on the whole sample.
        starts: log-likelihood per slate that each start reached on the subsample.
        agreeing: how many starts reached the best of these.
        slates, choosers: how many.
        converged: whether the gradient norm is below ten ``TOLERANCE``; else the climb ended on a ridge.
    """

    names: tuple[str, ...]
    weights: FloatArray
    coefficients: FloatArray
    covariance: FloatArray | None = field(repr=False)
    clustered: FloatArray | None = field(repr=False)
    log_likelihood: float
    null_log_likelihood: float
    membership: FloatArray = field(repr=False)
    gradient_norm: float
    steps: int
    starts: tuple[float, ...]
    agreeing: int
    slates: int
    choosers: int
    converged: bool

    @property
    def classes(self) -> int:
        """How many classes."""
        return self.weights.size

    @property
    def parameters(self) -> int:
        """How many free parameters."""
        return self.classes - 1 + self.coefficients.size

    @property
    def bic(self) -> float:
        """-2 log-likelihood + parameters log choosers (Schwarz 1978): smaller is better."""
        return -2 * self.log_likelihood + self.parameters * math.log(self.choosers)

    @cached_property
    def standard_errors(self) -> FloatArray | None:
        """Standard errors of the coefficients, (classes, d): sandwich ones; None if not identified."""
        matrix = self.clustered if self.clustered is not None else self.covariance
        if matrix is None:
            return None
        return np.sqrt(np.diag(matrix)[self.classes - 1 :]).reshape(self.coefficients.shape)

    @cached_property
    def weight_errors(self) -> FloatArray | None:
        """Standard errors of the weights by the delta method, (classes,)."""
        matrix = self.clustered if self.clustered is not None else self.covariance
        if matrix is None:
            return None
        w, c = self.weights, self.classes
        jacobian = (np.diag(w) - np.outer(w, w))[:, 1:]
        return np.sqrt(np.maximum(np.diag(jacobian @ matrix[: c - 1, : c - 1] @ jacobian.T), 0.0))

    def utilities(self, features: FloatArray) -> FloatArray:
        """Return each class's rewards beta_z' x, (rows, classes), for features (rows, d)."""
        return np.asarray(features @ self.coefficients.T)


def latent_classes(
    choices: Choices, *, classes: int = 2, starts: int = 5, seed: int = 0, pooled: LogitFit | None = None
) -> ClassFit:
    """Fit latent classes of choosers by maximum likelihood; see the module's text.

    Args:
        choices: slates, features, picks and choosers.
        classes: how many, >= 1.
        starts: how many starting points, >= 1; with fewer than ten picks a chooser take 15.
        seed: of the random starts and the subsample.
        pooled: a conditional logit of the same choices, if there is one already.

    Raises:
        InputError: choosers are unknown, or there are fewer than classes.
        NoEstimate: the pooled model has no estimate, or a class is separated.
    """
    _check(choices, classes, starts)
    pooled = pooled or conditional_logit(choices, clustered=False)
    sample = Sample.build(choices)
    if classes == 1:
        theta = _Theta(np.zeros(1), pooled.coefficients[None, :])
        return _result(sample, *_climb(sample, theta, coarse=False), (), 1)
    stream = Stream(seed).at("latent classes", classes)
    part = part_of_sample(sample, classes, stream.at("part").generator())
    ends = []
    for number in range(starts):
        first = _start(part, pooled, classes, number, stream.at("start", number).generator())
        try:
            ends.append(_climb(part, first, coarse=part is not sample))
        except NoEstimate:
            continue  # this start led a class to infinity
    if not ends:
        raise NoEstimate(
            f"{classes} classes have no finite estimate",
            got=f"all {starts} starts led to a class whose picks are separated",
            remedy="ask for fewer classes, drop features, or gather more picks a chooser",
        )
    values = [end.value / part.total for _, end, _ in ends]
    best = int(np.argmax(values))
    agreeing = int(sum(v > values[best] - SAME for v in values))
    theta, point, steps = _climb(sample, ends[best][0], coarse=False)
    return _result(sample, theta, point, steps, tuple(values), agreeing)


def _check(choices: Choices, classes: int, starts: int) -> None:
    if choices.choosers is None:
        raise InputError(
            "preference groups need to know who picked",
            got="no choosers",
            remedy="name the column of choosers: single anonymous picks do not tell groups apart",
        )
    count = int(np.unique(choices.choosers).size)
    if int(classes) != classes or not 1 <= classes <= count:
        raise InputError(
            "the number of classes must lie between 1 and the number of choosers",
            got=f"{classes} classes, {count} choosers",
            remedy="ask for 2 to 5 classes",
        )
    if int(starts) != starts or starts < 1:
        raise InputError("there must be at least one start", got=starts, remedy="starts = 5")


@dataclass
class _Theta:
    logits: FloatArray  # log w_z / w_1, (classes,), the first is zero
    beta: FloatArray  # (classes, d)

    @property
    def weights(self) -> FloatArray:
        odds = np.exp(self.logits - self.logits.max())
        return np.asarray(odds / odds.sum())

    def moved(self, step: FloatArray) -> _Theta:
        c = self.logits.size
        return _Theta(
            self.logits + np.r_[0.0, step[: c - 1]], self.beta + step[c - 1 :].reshape(self.beta.shape)
        )


@dataclass
class _Point:
    """The log-likelihood at one theta, and what the next step needs."""

    value: float
    gradient: FloatArray  # (classes - 1 + classes d,)
    membership: FloatArray  # (choosers, classes)
    expected: FloatArray  # information of each class if memberships were known, (classes, d, d)
    scores: FloatArray  # each chooser's gradient, (choosers, parameters)
    missing: FloatArray  # information lost by not knowing them, (parameters, parameters)
    weights: FloatArray  # of the classes, (classes,)

    def observed(self) -> FloatArray:
        classes, d = self.expected.shape[:2]
        whole = -self.missing
        w, start = self.weights, classes - 1
        whole[:start, :start] += len(self.membership) * (np.diag(w) - np.outer(w, w))[1:, 1:]
        for z in range(classes):
            own = slice(start + z * d, start + (z + 1) * d)
            whole[own, own] += self.expected[z]
        return whole


def _at(sample: Sample, theta: _Theta) -> _Point:
    """Evaluate all of it in one pass over the rows."""
    classes, d = theta.beta.shape
    log_weights = np.log(np.maximum(theta.weights, 1e-300))
    membership = np.empty((sample.count, classes))
    own = np.empty((sample.count, classes, d))  # each chooser's score under each class
    expected = np.zeros((classes, d, d))
    value = 0.0
    choices = sample.choices
    for people, some in sample.blocks(d + 2 * classes):
        rows = slice(int(choices.slates.offsets[some.start]), int(choices.slates.offsets[some.stop]))
        slates = Slates(choices.slates.offsets[some.start : some.stop + 1] - rows.start)
        slates.__dict__["width"] = choices.slates.width
        x = choices.features[rows]
        p, log_total = slates.softmax(x @ theta.beta.T)
        at = choices.picked_rows[some] - rows.start
        logs = (x[at] @ theta.beta.T) - log_total
        weights = None if choices.weights is None else choices.weights[some]
        if weights is not None:
            logs *= weights[:, None]
        firsts = sample.firsts[people] - some.start
        joint = np.add.reduceat(logs, firsts, axis=0) + log_weights
        top = joint.max(axis=1, keepdims=True)
        odds = np.exp(joint - top)
        sums = odds.sum(axis=1, keepdims=True)
        value += float((top + np.log(sums)).sum())
        h = odds / sums
        membership[people] = h
        row_firsts = slates.offsets[firsts]
        share = np.repeat(h, np.diff(np.r_[firsts, len(slates)]), axis=0)  # of each slate
        if weights is not None:
            share = share * weights[:, None]
        for z in range(classes):
            pz = np.ascontiguousarray(p[:, z])
            expected[z] += information_of(x, pz, slates, np.ascontiguousarray(share[:, z]))
            pz[at] -= 1.0
            if weights is not None:
                pz *= slates.spread(weights)
            own[people, z] = -np.add.reduceat(x * pz[:, None], row_firsts, axis=0)
    return _combined(value, membership, own, expected, theta)


def _combined(
    value: float, membership: FloatArray, own: FloatArray, expected: FloatArray, theta: _Theta
) -> _Point:
    """Put gradient, scores and lost information together (Louis 1982)."""
    people, classes, d = own.shape
    size = classes - 1 + classes * d
    weights = theta.weights
    scores = np.zeros((people, size))
    missing = np.zeros((size, size))
    scores[:, : classes - 1] = membership[:, 1:] - weights[1:]
    for z in range(classes):
        h = membership[:, z]
        part = slice(classes - 1 + z * d, classes - 1 + (z + 1) * d)
        scores[:, part] = h[:, None] * own[:, z]
        complete = np.zeros((people, size))
        complete[:, : classes - 1] = -weights[1:]
        if z:
            complete[:, z - 1] += 1.0
        complete[:, part] = own[:, z]
        missing += (complete * h[:, None]).T @ complete
    missing -= scores.T @ scores
    return _Point(value, scores.sum(axis=0), membership, expected, scores, missing, weights)


def _norm(sample: Sample, point: _Point) -> float:
    classes = point.expected.shape[0]
    scale = np.r_[np.ones(classes - 1), np.tile(sample.scale, classes)]
    return float(np.abs(point.gradient / scale).max(initial=0.0)) / sample.total


def _climb(sample: Sample, theta: _Theta, *, coarse: bool) -> tuple[_Theta, _Point, int]:
    """Return the maximum that ``theta`` leads to. ``coarse`` stops at a thousand times the tolerance."""
    goal = TOLERANCE * (1e3 if coarse else 1.0)
    flat = (FLAT_COARSE if coarse else FLAT) * sample.total
    point = _at(sample, theta)
    values: list[float] = []
    for steps in range(1, STEPS):
        values.append(point.value)
        if _norm(sample, point) <= goal:
            return theta, point, steps
        if len(values) > PATIENCE and point.value - values[-1 - PATIENCE] < flat:
            return theta, point, steps  # a ridge: the classes are hardly told apart
        if point.membership.mean(axis=0).min() < SMALLEST:
            return theta, point, steps  # a class has died out: fewer would do
        if np.abs(theta.beta * sample.scale).max() > LARGEST:
            raise NoEstimate(
                "a class picks without noise: its coefficients grow without bound",
                got=f"{np.abs(theta.beta).max():.3g}",
                remedy="ask for fewer classes or drop features",
            )
        theta, point = _next(sample, theta, point)
    return theta, point, STEPS


def _next(sample: Sample, theta: _Theta, point: _Point) -> tuple[_Theta, _Point]:
    """Take a Newton step where the observed information is positive and the step goes up, else EM's."""
    step = _newton_step(point)
    slack = 1e-12 * abs(point.value)
    if step is not None:
        scale = np.r_[np.ones(theta.logits.size - 1), np.tile(sample.scale, theta.logits.size)]
        step = step * min(1.0, LONGEST / float(np.abs(step * scale).max(initial=1e-300)))
        for shorter in (1.0, 0.3, 0.1):
            moved = theta.moved(shorter * step)
            found = _at(sample, moved)
            if found.value >= point.value - slack:
                return moved, found
    moved = _em(theta, point)
    for _ in range(30):
        found = _at(sample, moved)
        if found.value >= point.value - slack:
            return moved, found
        moved = _Theta((moved.logits + theta.logits) / 2, (moved.beta + theta.beta) / 2)
    return theta, point


def _newton_step(point: _Point) -> FloatArray | None:
    observed = point.observed()
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(observed)), 1e-300))
    try:
        factor = np.linalg.cholesky(observed * scale * scale[:, None])
    except np.linalg.LinAlgError:
        return None
    half = np.linalg.solve(factor, scale * point.gradient)
    return np.asarray(scale * np.linalg.solve(factor.T, half))


def _em(theta: _Theta, point: _Point) -> _Theta:
    """One EM step: new weights, and one Newton step for each class's coefficients."""
    classes, d = theta.beta.shape
    weights = np.maximum(point.membership.mean(axis=0), 1e-12)
    beta = theta.beta.copy()
    for z in range(classes):
        part = slice(classes - 1 + z * d, classes - 1 + (z + 1) * d)
        beta[z] += solver(point.expected[z])(point.gradient[part])
    logits = np.log(weights)
    return _Theta(logits - logits[0], beta)


def _start(sample: Sample, pooled: LogitFit, classes: int, number: int, rng: np.random.Generator) -> _Theta:
    """Return a starting point: from clusters of choosers' scores (number 0), or from random ones."""
    from scipy.cluster.vq import kmeans2

    choices = sample.choices
    found = evaluate(choices, pooled.coefficients, information=True, clusters=sample.people)
    assert found.cluster_scores is not None
    assert found.information is not None
    solve = solver(found.information / choices.total_weight)
    sizes = np.bincount(sample.people, choices.weights, sample.count)
    each = solve(found.cluster_scores.T).T / np.sqrt(sizes)[:, None]  # one step towards each one's optimum
    roots = each * sample.scale
    if number == 0:
        labels = kmeans2(roots, classes, minit="++", rng=rng, iter=25)[1]
    else:
        directions = rng.standard_normal((roots.shape[1], classes))
        labels = (roots @ directions / np.linalg.norm(directions, axis=0)).argmax(axis=1)
    beta = np.empty((classes, pooled.coefficients.size))
    shares = np.empty(classes)
    for z in range(classes):
        members = labels == z
        shares[z] = max(members.mean(), 0.02)
        slates = members[sample.people]
        step = np.zeros(pooled.coefficients.size)
        if slates.any():
            weight = sizes[members].sum()
            step = solve(found.cluster_scores[members].sum(axis=0)) / weight
        reach = float(np.abs(step * sample.scale).max(initial=0.0))
        beta[z] = pooled.coefficients + step * min(1.0, 2.0 / max(reach, 1e-300))
    logits = np.log(shares)
    return _Theta(logits - logits[0], beta)


def _refuse_mirage(sample: Sample, theta: _Theta, point: _Point) -> None:
    """Raise NoEstimate where the gradient vanishes only because a class's picks are separated."""
    step = _newton_step(point)
    if step is None:
        return
    moves = np.abs(step[theta.logits.size - 1 :].reshape(theta.beta.shape) * sample.scale).max(axis=1)
    reach = np.abs(theta.beta * sample.scale).max(axis=1)
    if np.any((moves > 1e-2) & (reach > 5.0)):
        raise NoEstimate(
            "a class picks without noise: its coefficients grow without bound",
            got=f"{np.abs(theta.beta).max():.3g} and growing",
            remedy="ask for fewer classes or drop features",
        )


def _result(
    sample: Sample,
    theta: _Theta,
    point: _Point,
    steps: int,
    starts: tuple[float, ...],
    agreeing: int,
) -> ClassFit:
    order = np.argsort(-theta.weights, kind="stable")
    logits = theta.logits[order] - theta.logits[order[0]]
    theta = _Theta(logits, theta.beta[order])
    point = _at(sample, theta)
    _refuse_mirage(sample, theta, point)
    observed = point.observed()
    covariance = sandwich = None
    size = np.sqrt(np.maximum(np.diag(observed), 0.0))
    # Slates of k tell at most k - 1 numbers each; rounding may make a singular matrix look positive.
    told = sample.choices.slates.rows - len(sample.choices) >= len(observed)
    if told and size.min() > 0 and np.linalg.eigvalsh(observed / np.outer(size, size))[0] > 1e-9:
        covariance = solver(observed)(np.eye(len(observed)))
        sandwich = sandwich_of(covariance, point.scores, sample.count)
    norm = _norm(sample, point)
    return ClassFit(
        sample.choices.names,
        theta.weights,
        theta.beta,
        covariance,
        sandwich,
        point.value,
        null_log_likelihood(sample.choices),
        point.membership,
        norm,
        steps,
        starts,
        agreeing,
        len(sample.choices),
        sample.count,
        norm <= 10 * TOLERANCE,
    )
