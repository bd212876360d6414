r"""Preference groups: latent classes of choosers, each with its own coefficients.

A chooser belongs to class z with probability w_z and picks by conditional logit with beta_z, so that

.. math:: \ell = \sum_c \log \sum_z w_z \prod_{s \in c} P(\mathrm{pick}_s \mid \beta_z)

summed over choosers c. The classes are the preference groups of a pluralistic loop and w are their weights:
if W_z is the multiplier of the reward :math:`r_z = \beta_z' x`, the population's law is multiplied by
sum_z w_z W_z (Falahati et al. 2026).

The log-likelihood has several maxima. The ascent from each start (k-means of choosers' whitened scores at the
pooled estimate, then random partitions) uses a subsample of choosers; the best one continues on all choosers.
It takes Newton steps with the observed information (Louis 1982), which cost no more than EM steps, and EM
steps (Dempster et al. 1977) where that information is not positive definite. One pick per chooser does not
identify the classes unless slates are of many kinds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.likelihood import evaluate, information_of, runs_of
from recurate.choices.models.logit import (
    LogitFit,
    conditional_logit,
    null_log_likelihood,
    sandwich_of,
    solver,
)
from recurate.choices.table import Choices
from recurate.core import progress
from recurate.core.arrays import FloatArray, IntArray
from recurate.core.citations import cite
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.rules.slates import BLOCK_DOUBLES, Slates

TOLERANCE = 1e-7  # scaled gradient per slate at convergence
STEPS = 300  # maximum number of steps, on a subsample and on the full sample
SAME = 1e-6  # difference of log-likelihoods per slate below which two starts reached the same maximum
PATIENCE = 8  # number of steps over which the log-likelihood must rise
FLAT, FLAT_COARSE = 1e-9, 1e-6  # minimum rise per slate, on the full sample and on a subsample
LONGEST = 3.0  # maximum length of a scaled Newton step
SMALLEST = 1e-6  # share below which a class is empty
SUBSAMPLE = 30_000  # approximate number of slates in a subsample
FEWEST_CHOOSERS = 300  # minimum number of choosers in a subsample
NORMAL_975 = 1.96  # half-width of a 95 % interval in standard errors
LARGEST = 40.0  # scaled coefficient above which a class is separated


@dataclass(frozen=True)
class ClassFit:
    """Fitted latent classes with their evidence; the largest class first.

    Attributes:
        names: Names of the features.
        weights: Share of choosers in each class, (classes,).
        coefficients: Coefficients beta_z of each class, (classes, d).
        covariance: Covariance of (log w_z / w_1 for z > 1, beta_1, beta_2, ...), the inverse observed
            information, or None if that is not positive definite, so that the classes are not identified.
        clustered: Sandwich estimate of this covariance, clustered by chooser, or None likewise.
        log_likelihood: Log-likelihood at the estimate, in nats.
        null_log_likelihood: Log-likelihood of uniform picks, in nats.
        membership: Posterior probabilities of the classes for each chooser, (choosers, classes).
        gradient_norm: Largest entry of the scaled gradient, per slate.
        steps: Number of steps on the full sample.
        starts: Log-likelihood per slate that each start reached on the subsample.
        agreeing: Number of starts that reached the best of these.
        slates: Number of slates.
        choosers: Number of choosers.
        converged: Whether the gradient norm is at most ten times ``TOLERANCE``; otherwise the ascent ended on
            a ridge of the log-likelihood.
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
        """Number of classes."""
        return self.weights.size

    @property
    def parameters(self) -> int:
        """Number of free parameters."""
        return self.classes - 1 + self.coefficients.size

    @property
    def bic(self) -> float:
        """BIC, -2 log-likelihood + parameters log(choosers) (Schwarz 1978); smaller is better."""
        return -2 * self.log_likelihood + self.parameters * math.log(self.choosers)

    @cached_property
    def standard_errors(self) -> FloatArray | None:
        """Clustered standard errors of the coefficients, (classes, d), or None if not identified."""
        if self._matrix is None:
            return None
        return np.sqrt(np.diag(self._matrix)[self.classes - 1 :]).reshape(self.coefficients.shape)

    @cached_property
    def weight_errors(self) -> FloatArray | None:
        """Standard errors of the weights by the delta method, (classes,), or None if not identified."""
        if self._matrix is None:
            return None
        w, free = self.weights, slice(0, self.classes - 1)
        jacobian = (np.diag(w) - np.outer(w, w))[:, 1:]
        return np.sqrt(np.maximum(np.diag(jacobian @ self._matrix[free, free] @ jacobian.T), 0.0))

    @cached_property
    def weight_intervals(self) -> FloatArray | None:
        """95 % intervals of the weights, normal on the log-odds scale, (classes, 2), or None likewise."""
        errors = self.weight_errors
        if errors is None:
            return None
        w = np.clip(self.weights, 1e-12, 1 - 1e-12)
        reach = NORMAL_975 * errors / (w * (1 - w))
        odds = np.log(w / (1 - w))[:, None] + np.column_stack([-reach, reach])
        found = np.reciprocal(1 + np.exp(-np.clip(odds, -700, 700)))
        return found if self.classes > 1 else np.ones((1, 2))

    @property
    def _matrix(self) -> FloatArray | None:
        return self.covariance if self.clustered is None else self.clustered

    def utilities(self, features: FloatArray) -> FloatArray:
        """Return the rewards beta_z' x of each class, (rows, classes), for features (rows, d)."""
        return np.asarray(features @ self.coefficients.T)


def latent_classes(
    choices: Choices,
    *,
    classes: int = 2,
    starts: int = 5,
    seed: int = 0,
    pooled: LogitFit | None = None,
    near: ClassFit | None = None,
) -> ClassFit:
    """Fit latent classes of choosers: maximise sum_c log sum_z w_z prod_{s in c} P(pick_s | beta_z).

    Args:
        choices: Slates, features, picks and choosers.
        classes: Number of classes, >= 1.
        starts: Number of starting points, >= 1; use about 15 with fewer than ten picks per chooser.
        seed: Seed of the random starts and the subsample.
        pooled: Conditional logit of the same choices, if it is already known.
        near: Fit of as many classes to similar choices; the ascent then starts there alone.

    Returns:
        The fit with weights, coefficients and the log-likelihood; the largest class comes first.

    Raises:
        InputError: If choosers are unknown, or fewer than the classes.
        NoEstimate: If the pooled model has no estimate, or the picks of a class are separated.
    """
    cite("mcfadden1974")
    _check(choices, classes, starts)
    panel = Panel.build(choices)
    if near is not None and classes > 1:
        return _result(panel, *_climb(panel, _Theta.of(near.weights, near.coefficients), coarse=False), (), 1)
    pooled = pooled or conditional_logit(choices, clustered=False)
    if classes == 1:
        theta = _Theta(np.zeros(1), pooled.coefficients[None, :])
        return _result(panel, *_climb(panel, theta, coarse=False), (), 1)
    stream = Stream(seed).at("latent classes", classes)
    part = part_of_panel(panel, classes, stream.at("part").generator())
    ends = []
    for number in progress.steps(range(starts), starts):
        first = _start(part, pooled, classes, number, stream.at("start", number).generator())
        try:
            ends.append(_climb(part, first, coarse=part is not panel))
        except NoEstimate:
            continue  # the coefficients of a class diverged
    if not ends:
        raise NoEstimate(
            f"{classes} classes have no finite estimate",
            got=f"a class with separated picks from each of the {starts} starts",
            remedy=f"use fewer groups (--groups {classes - 1 if classes > 2 else 'none'})",
        )
    values = [end.value / part.total for _, end, _ in ends]
    best = int(np.argmax(values))
    agreeing = int(sum(v > values[best] - SAME for v in values))
    theta, point, steps = _climb(panel, ends[best][0], coarse=False)
    return _result(panel, theta, point, steps, tuple(values), agreeing)


def _check(choices: Choices, classes: int, starts: int) -> None:
    if choices.choosers is None:
        raise InputError(
            "preference groups can only be estimated if choosers are known",
            got="no choosers",
            remedy="name the column of choosers (--chooser), or fit no groups (--groups none)",
        )
    count = int(np.unique(choices.choosers).size)
    if int(classes) != classes or not 1 <= classes <= count:
        raise InputError(
            "the number of classes must lie between 1 and the number of choosers",
            got=f"{classes} classes, {count} choosers",
            remedy="use --groups 2, or --groups none",
        )
    if int(starts) != starts or starts < 1:
        raise InputError("there must be at least one start", got=starts, remedy="use --starts 5")


# --- choosers -------------------------------------------------------------------------------------


@dataclass
class Panel:
    """Slates sorted by chooser.

    Attributes:
        choices: Choices sorted by chooser.
        people: Code of each slate's chooser, from 0, (slates,).
        firsts: First slate of each chooser, then the number of slates, (choosers + 1,).
        scale: Root of each feature's information per slate at uniform picks, (d,).
    """

    choices: Choices
    people: IntArray
    firsts: IntArray
    scale: FloatArray

    @classmethod
    def build(cls, choices: Choices) -> Panel:
        """Sort choices by chooser."""
        assert choices.choosers is not None
        people = np.unique(choices.choosers, return_inverse=True)[1].astype(np.int64)
        if np.any(people[1:] < people[:-1]):
            order = np.argsort(people, kind="stable")
            choices, people = choices.take(order), people[order]
        firsts = np.flatnonzero(np.r_[True, people[1:] != people[:-1], True])
        part = choices.take(np.unique(np.linspace(0, len(choices) - 1, 5000).astype(np.int64)))
        info = evaluate(part, np.zeros(part.features.shape[1]), information=True).information
        assert info is not None
        scale = np.sqrt(np.maximum(np.diag(info) / part.total_weight, 1e-300))
        return cls(choices, people, firsts, scale)

    @property
    def count(self) -> int:
        """Number of choosers."""
        return self.firsts.size - 1

    @property
    def total(self) -> float:
        """Sum of the slates' weights."""
        return self.choices.total_weight

    def blocks(self, columns: int) -> Iterator[tuple[slice, slice]]:
        """Yield (choosers, slates) in blocks of whole choosers that stay in cache."""
        rows = self.choices.slates.offsets[self.firsts]
        for a, b in runs_of(rows, max(1, BLOCK_DOUBLES // columns)):
            yield slice(a, b), slice(int(self.firsts[a]), int(self.firsts[b]))


def part_of_panel(panel: Panel, classes: int, rng: np.random.Generator) -> Panel:
    """Return a random subsample of choosers with about ``SUBSAMPLE`` slates, or all if that is over half."""
    d = panel.choices.features.shape[1]
    per_person = len(panel.choices) / panel.count
    people = max(FEWEST_CHOOSERS, 40 * classes, round(max(SUBSAMPLE, 400 * classes * d) / per_person))
    if people * 2 > panel.count:
        return panel
    chosen = np.sort(rng.choice(panel.count, people, replace=False))
    index = np.concatenate([np.arange(panel.firsts[c], panel.firsts[c + 1]) for c in chosen])
    return Panel.build(panel.choices.take(index))


# --- the likelihood -------------------------------------------------------------------------------


@dataclass
class _Theta:
    logits: FloatArray  # log w_z / w_1, (classes,), the first is zero
    beta: FloatArray  # (classes, d)

    @classmethod
    def of(cls, weights: FloatArray, beta: FloatArray) -> _Theta:
        logits = np.log(weights)
        return cls(logits - logits[0], beta)

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
class _Evaluation:
    """The log-likelihood at one theta, its derivatives and the posterior of the classes."""

    value: float
    gradient: FloatArray  # (classes - 1 + classes d,)
    membership: FloatArray  # posterior probabilities, (choosers, classes)
    expected: FloatArray  # information of each class given the memberships, (classes, d, d)
    scores: FloatArray  # gradient of each chooser, (choosers, parameters)
    missing: FloatArray  # missing information, (parameters, parameters)
    weights: FloatArray  # weights of the classes, (classes,)

    def observed(self) -> FloatArray:
        classes, d = self.expected.shape[:2]
        whole = -self.missing
        w, start = self.weights, classes - 1
        whole[:start, :start] += len(self.membership) * (np.diag(w) - np.outer(w, w))[1:, 1:]
        for z in range(classes):
            own = slice(start + z * d, start + (z + 1) * d)
            whole[own, own] += self.expected[z]
        return whole


def _at(panel: Panel, theta: _Theta) -> _Evaluation:
    """Evaluate the log-likelihood and its derivatives in one pass over the rows."""
    classes, d = theta.beta.shape
    log_weights = np.log(np.maximum(theta.weights, 1e-300))
    membership = np.empty((panel.count, classes))
    own = np.empty((panel.count, classes, d))  # score of each chooser under each class
    expected = np.zeros((classes, d, d))
    value = 0.0
    choices = panel.choices
    for people, some in panel.blocks(d + 2 * classes):
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
        firsts = panel.firsts[people] - some.start
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
) -> _Evaluation:
    """Compute gradient, scores and missing information (Louis 1982)."""
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
    return _Evaluation(value, scores.sum(axis=0), membership, expected, scores, missing, weights)


# --- the ascent -----------------------------------------------------------------------------------


def _norm(panel: Panel, point: _Evaluation) -> float:
    classes = point.expected.shape[0]
    scale = np.r_[np.ones(classes - 1), np.tile(panel.scale, classes)]
    return float(np.abs(point.gradient / scale).max(initial=0.0)) / panel.total


def _climb(panel: Panel, theta: _Theta, *, coarse: bool) -> tuple[_Theta, _Evaluation, int]:
    """Return the maximum reached from ``theta``, its evaluation and the number of steps.

    With ``coarse`` the tolerance is a thousand times larger.
    """
    goal = TOLERANCE * (1e3 if coarse else 1.0)
    flat = (FLAT_COARSE if coarse else FLAT) * panel.total
    point = _at(panel, theta)
    values: list[float] = []
    for steps in range(1, STEPS):
        values.append(point.value)
        if _norm(panel, point) <= goal:
            return theta, point, steps
        if len(values) > PATIENCE and point.value - values[-1 - PATIENCE] < flat:
            return theta, point, steps  # a ridge: the classes are hardly identified
        if point.membership.mean(axis=0).min() < SMALLEST:
            return theta, point, steps  # a class is empty: fewer suffice
        if np.abs(theta.beta * panel.scale).max() > LARGEST:
            raise _separated(theta)
        theta, point = _next(panel, theta, point)
    return theta, point, STEPS


def _next(panel: Panel, theta: _Theta, point: _Evaluation) -> tuple[_Theta, _Evaluation]:
    """Take a Newton step if the observed information is positive definite and the value rises, else EM's."""
    step = _newton_step(point)
    slack = 1e-12 * abs(point.value)
    if step is not None:
        scale = np.r_[np.ones(theta.logits.size - 1), np.tile(panel.scale, theta.logits.size)]
        step = step * min(1.0, LONGEST / float(np.abs(step * scale).max(initial=1e-300)))
        for shorter in (1.0, 0.3, 0.1):
            moved = theta.moved(shorter * step)
            found = _at(panel, moved)
            if found.value >= point.value - slack:
                return moved, found
    moved = _em(theta, point)
    for _ in range(30):
        found = _at(panel, moved)
        if found.value >= point.value - slack:
            return moved, found
        moved = _Theta((moved.logits + theta.logits) / 2, (moved.beta + theta.beta) / 2)
    return theta, point


def _newton_step(point: _Evaluation) -> FloatArray | None:
    observed = point.observed()
    scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(observed)), 1e-300))
    try:
        factor = np.linalg.cholesky(observed * scale * scale[:, None])
    except np.linalg.LinAlgError:
        return None
    half = np.linalg.solve(factor, scale * point.gradient)
    return np.asarray(scale * np.linalg.solve(factor.T, half))


def _em(theta: _Theta, point: _Evaluation) -> _Theta:
    """Take an EM step: new weights, and one Newton step for the coefficients of each class."""
    classes, d = theta.beta.shape
    weights = np.maximum(point.membership.mean(axis=0), 1e-12)
    beta = theta.beta.copy()
    for z in range(classes):
        part = slice(classes - 1 + z * d, classes - 1 + (z + 1) * d)
        beta[z] += solver(point.expected[z])(point.gradient[part])
    return _Theta.of(weights, beta)


def _start(panel: Panel, pooled: LogitFit, classes: int, number: int, rng: np.random.Generator) -> _Theta:
    """Return a starting point, from k-means of choosers' scores (number 0) or from a random partition."""
    from scipy.cluster.vq import kmeans2

    choices = panel.choices
    found = evaluate(choices, pooled.coefficients, information=True, clusters=panel.people)
    assert found.cluster_scores is not None
    assert found.information is not None
    solve = solver(found.information / choices.total_weight)
    sizes = np.bincount(panel.people, choices.weights, panel.count)
    each = solve(found.cluster_scores.T).T / np.sqrt(sizes)[:, None]  # a step to each chooser's optimum
    roots = each * panel.scale
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
        step = np.zeros(pooled.coefficients.size)
        if members.any():
            step = solve(found.cluster_scores[members].sum(axis=0)) / sizes[members].sum()
        reach = float(np.abs(step * panel.scale).max(initial=0.0))
        beta[z] = pooled.coefficients + step * min(1.0, 2.0 / max(reach, 1e-300))
    return _Theta.of(shares, beta)


def _refuse_mirage(panel: Panel, theta: _Theta, point: _Evaluation) -> None:
    """Raise NoEstimate if the gradient vanishes only because the picks of a class are separated."""
    step = _newton_step(point)
    if step is None:
        return
    moves = np.abs(step[theta.logits.size - 1 :].reshape(theta.beta.shape) * panel.scale).max(axis=1)
    reach = np.abs(theta.beta * panel.scale).max(axis=1)
    if np.any((moves > 1e-2) & (reach > 5.0)):
        raise _separated(theta)


def _separated(theta: _Theta) -> NoEstimate:
    return NoEstimate(
        "the picks of a class are separated: its coefficients diverge",
        got=f"coefficients of {np.abs(theta.beta).max():.3g} and growing",
        remedy="use fewer groups (--groups), or none (--groups none)",
    )


def _result(
    panel: Panel, theta: _Theta, point: _Evaluation, steps: int, starts: tuple[float, ...], agreeing: int
) -> ClassFit:
    order = np.argsort(-theta.weights, kind="stable")
    logits = theta.logits[order] - theta.logits[order[0]]
    theta = _Theta(logits, theta.beta[order])
    point = _at(panel, theta)
    _refuse_mirage(panel, theta, point)
    observed = point.observed()
    covariance = sandwich = None
    size = np.sqrt(np.maximum(np.diag(observed), 0.0))
    # A slate of k identifies at most k - 1 numbers; rounding may make a singular matrix look positive.
    enough = panel.choices.slates.rows - len(panel.choices) >= len(observed)
    if enough and size.min() > 0 and np.linalg.eigvalsh(observed / np.outer(size, size))[0] > 1e-9:
        covariance = solver(observed)(np.eye(len(observed)))
        sandwich = sandwich_of(covariance, point.scores, panel.count)
    norm = _norm(panel, point)
    return ClassFit(
        panel.choices.names,
        theta.weights,
        theta.beta,
        covariance,
        sandwich,
        point.value,
        null_log_likelihood(panel.choices),
        point.membership,
        norm,
        steps,
        starts,
        agreeing,
        len(panel.choices),
        panel.count,
        norm <= 10 * TOLERANCE,
    )
