"""Comparison of rival rules, and of numbers of classes, by held-out log-likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from recurate.choices.checks.score_tests import position_columns
from recurate.choices.checks.statistics import normal_quantile
from recurate.choices.models import rival_rules
from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.latent_classes import ClassFit, latent_classes
from recurate.choices.models.logit import LogitFit, conditional_logit
from recurate.choices.table import Choices
from recurate.core import progress
from recurate.core.arrays import FloatArray, IntArray
from recurate.core.seeds import Stream
from recurate.rules.families import RIVALS, Family
from recurate.rules.rule import Rule

FOLDS = 3
FEW = 100  # minimum number of slates
RIVALS_LEVEL = 0.005  # probability that any rival is surely better than Luce's rule where that holds
LEAST_GAIN = 1e-4  # gain, in nats per slate, below which rules are considered equal
SURE_GAIN = math.log((len(RIVALS) - 1) / RIVALS_LEVEL)  # gain on all slates, in nats, at that level
BORDER = 1e-6  # lapse share below which Luce's rule with lapses is Luce's


@dataclass(frozen=True)
class RuleScore:
    """A rule's held-out log-likelihood, compared with Luce's.

    Attributes:
        name: One of :data:`~recurate.rules.families.RIVALS`.
        per_slate: Held-out log-likelihood per slate, in nats.
        gain: Difference to that of Luce's rule, in nats.
        interval: Simultaneous 95 % interval of the gain for all rivals (Bonferroni), clustered.
        total: Gain on all slates, in nats.
        border: Whether the rule's own parameter lies at its border, where the rule is Luce's.
    """

    name: Family
    per_slate: float
    gain: float
    interval: tuple[float, float]
    total: float = 0.0
    border: bool = False

    @property
    def better(self) -> bool:
        """Whether the rule predicts better than Luce's, significantly and by at least ``LEAST_GAIN``."""
        return self.interval[0] > 0 and self.gain >= LEAST_GAIN and not self.border

    @property
    def surely_better(self) -> bool:
        """Whether it is better, and its likelihood so much higher that this refuses Luce's rule by itself.

        Held-out likelihoods are those of distributions of picks, so that under Luce's rule their ratio
        exceeds 1 / p with a probability of about p at most.
        """
        return self.better and self.total >= SURE_GAIN


def folds_of(choices: Choices, count: int, rng: np.random.Generator) -> IntArray:
    """Return the fold of each slate, (slates,); slates of one cluster are in one fold."""
    codes = choices.clusters if choices.clusters is not None else np.arange(len(choices))
    labels = np.unique(codes, return_inverse=True)[1].ravel()
    return np.asarray(rng.permutation(int(labels.max()) + 1)[labels] % count)


def compare_rules(
    choices: Choices, *, seed: int = 0, lapse: rival_rules.RuleFit | None = None
) -> list[RuleScore]:
    """Return the rules' scores by cross-validation, or an empty list with fewer than ``FEW`` slates.

    Args:
        choices: Slates, features and picks.
        seed: Seed of the folds.
        lapse: Fit of lapses to all slates, from which those to parts start; None: it is computed.

    Raises:
        NoEstimate: If Luce's rule has no estimate on some fold.
    """
    if len(choices) < FEW:
        return []
    folds = folds_of(choices, FOLDS, Stream(seed).at("rules").generator())
    lapse = lapse or rival_rules.lapse_logit(choices)
    logs = {name: np.empty(len(choices)) for name in RIVALS}
    shares = []
    for fold in progress.steps(range(FOLDS), FOLDS):
        held = np.flatnonzero(folds == fold)
        if not held.size:
            continue
        train, test = choices.take(np.flatnonzero(folds != fold)), choices.take(held)
        found, share = _held_out(train, test, lapse)
        shares.append(share)
        for name, each in found.items():
            logs[name][held] = each
    reach = normal_quantile(1 - 0.025 / (len(RIVALS) - 1))
    scores = [_score(choices, name, logs[name], logs[Family.LUCE], reach) for name in RIVALS]
    return [replace(s, border=s.name == Family.LAPSE and min(shares) < BORDER) for s in scores]


def _held_out(
    train: Choices, test: Choices, near: rival_rules.RuleFit
) -> tuple[dict[Family, FloatArray], float]:
    """Return the log probability of each pick of ``test`` under each family, and the share of lapses.

    The families are fitted to ``train``.
    """
    try:
        pooled = conditional_logit(train, clustered=False)
    except NoEstimate:  # separated in this part: the best that is finite, as after one slate more
        pooled = conditional_logit(train, shrinkage=1.0, clustered=False)
    beta = pooled.coefficients
    lapse = rival_rules.lapse_logit(train, pooled=pooled, near=near)
    probit = rival_rules.thurstone(train, pooled=pooled, errors=False)
    best = rival_rules.best_of_k(train, train.features @ beta).rule
    # With a lapse share of zero, one unexpected pick would have a log-likelihood of minus infinity.
    least = 1.0 / (len(train) + 2)
    fitted = {
        Family.LUCE: (Rule(), beta),
        Family.LAPSE: (lapse.rule, lapse.coefficients),
        Family.THURSTONE: (probit.rule, probit.coefficients),
        Family.BEST: (replace(best, lapse=max(best.lapse, least)), beta),
        Family.UNIFORM: (Rule(lapse=1.0), beta),
    }
    logs = {
        family: test.log_likelihood(rule, test.features @ found) for family, (rule, found) in fitted.items()
    }
    return logs, lapse.rule.lapse


def _score(choices: Choices, name: Family, logs: FloatArray, base: FloatArray, reach: float) -> RuleScore:
    weights = np.ones(len(choices)) if choices.weights is None else choices.weights
    mean, gain, error = mean_difference(logs, base, weights, choices.clusters)
    interval = gain - reach * error, gain + reach * error
    return RuleScore(name, mean, gain, interval, gain * float(weights.sum()))


def mean_difference(
    logs: FloatArray, base: FloatArray, weights: FloatArray, clusters: IntArray | None
) -> tuple[float, float, float]:
    """Return the weighted means of logs and of logs - base, and the standard error of the latter."""
    total = float(weights.sum())
    gain = float((logs - base) @ weights) / total
    influence = (logs - base - gain) * weights
    sums = influence if clusters is None else np.bincount(clusters, influence)
    return float(logs @ weights) / total, gain, math.sqrt(float(np.square(sums).sum())) / total


# --- how many classes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassScore:
    """Scores of a number of classes.

    Attributes:
        classes: Number of classes.
        log_likelihood: Log-likelihood on all slates, in nats.
        bic: BIC; smaller is better.
        held_out: Log-likelihood per slate of held-out choosers, in nats.
        gain: Difference to that of one class fewer, in nats per slate.
        gain_error: Standard error of the gain.
    """

    classes: int
    log_likelihood: float
    bic: float
    held_out: float
    gain: float
    gain_error: float


CLEAR_GAIN = 2.0  # minimum gain by another class, in its standard errors
CLASS_FOLDS = 4  # parts into which choosers are divided
FEW_CHOOSERS = 20  # minimum number of choosers for a choice of the number of classes


def select_classes(
    choices: Choices, *, most: int = 4, starts: int = 5, seed: int = 0
) -> tuple[ClassFit, list[ClassScore]]:
    """Return the fit with the chosen number of classes, and the scores of all numbers that were tried.

    A class is added as long as it raises the held-out log-likelihood by more than two standard errors of the
    gain. Every chooser is held out once, in one of four parts that do not depend on the seed.

    Args:
        choices: Slates, features, picks and choosers.
        most: Maximum number of classes.
        starts: Number of starts for each number of classes.
        seed: Seed of the starts.
    """
    folds = folds_of(choices, CLASS_FOLDS, Stream(0).at("classes").generator())
    pooled = conditional_logit(choices, clustered=False)
    scores: list[ClassScore] = []
    best: ClassFit | None = None
    before: FloatArray | None = None
    for classes in progress.steps(range(1, most + 1), most):
        try:
            whole = latent_classes(choices, classes=classes, starts=starts, seed=seed, pooled=pooled)
            logs = _held_out_choosers(choices, folds, whole)
        except NoEstimate:
            break
        gain = error = 0.0
        if before is not None:
            gain = float((logs - before).sum()) / len(choices)
            error = float(np.std(logs - before) * math.sqrt(logs.size)) / len(choices)
        mean = float(logs.sum()) / len(choices)
        scores.append(ClassScore(classes, whole.log_likelihood, whole.bic, mean, gain, error))
        if best is not None and gain <= CLEAR_GAIN * error:
            break
        best, before = whole, logs
    assert best is not None
    return best, scores


def _held_out_choosers(choices: Choices, folds: IntArray, whole: ClassFit) -> FloatArray:
    """Return the log-likelihood of each chooser, (choosers,), under the classes fitted to the other parts.

    Each of these fits starts from that to the whole: they are to differ by the choosers left out, and not by
    the maximum that a start leads to.
    """
    logs = []
    for fold in range(CLASS_FOLDS):
        held = folds == fold
        if held.any():
            train = choices.take(~held)
            pooled = conditional_logit(train, clustered=False) if whole.classes == 1 else None
            part = latent_classes(train, classes=whole.classes, pooled=pooled, near=whole)
            logs.append(chooser_logs(choices.take(held), part))
    return np.concatenate(logs)


def chooser_logs(choices: Choices, fit: ClassFit) -> FloatArray:
    """Return the log-likelihood of each chooser under fitted classes, (choosers,)."""
    assert choices.choosers is not None
    people = np.unique(choices.choosers, return_inverse=True)[1].ravel()
    joint = np.column_stack(
        [
            np.bincount(people, choices.log_likelihood(Rule(), choices.features @ beta))
            + math.log(max(w, 1e-300))
            for beta, w in zip(fit.coefficients, fit.weights, strict=True)
        ]
    )
    return np.asarray(np.logaddexp.reduce(joint, axis=1))


def position_fit(choices: Choices) -> LogitFit | None:
    """Return the fit with an indicator for each place but the first, or None if it does not exist."""
    columns, places = position_columns(choices)
    if columns is None:
        return None
    names = [*choices.names, *(f"place {int(p) + 1}" for p in places[1:])]
    both = choices.with_features(np.column_stack([choices.features, columns]), names)
    try:
        return conditional_logit(both)
    except NoEstimate:
        return None
