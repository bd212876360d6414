"""Slates kept from training: the split by whole clusters, and what held-out slates say of a reward."""

from __future__ import annotations

import math

import numpy as np

from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.likelihood import luce_logs
from recurate.choices.models.logit import conditional_logit
from recurate.choices.models.rival_rules import best_chances
from recurate.choices.table import Choices
from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.core.settings import Settings
from recurate.metrics.estimates import Estimate, mean


class LearnedFacts(Settings):
    """What is known of a learned reward; all but the counts from slates held out from every choice.

    Attributes:
        training, validation, held_out: numbers of slates.
        best_step: the step whose weights were kept; at 0 the reward is constant: nothing could be learned.
        log_likelihood: mean log-likelihood of a pick, in nats a slate, and its standard error.
        uniform: the same of choosing at random, - mean log(slate size).
        gain_error: standard error of the difference of the two.
        accuracy: share of slates whose pick has the largest reward (ties shared out).
        slope: the factor that would make rewards fit best, 1 where differences of rewards are what they
            claim to be, and its standard error; None where no finite factor is best.
    """

    training: int
    validation: int
    held_out: int
    best_step: int
    log_likelihood: float
    log_likelihood_error: float
    uniform: float
    gain_error: float
    accuracy: float
    slope: float | None
    slope_error: float | None

    @property
    def gain(self) -> float:
        """Log-likelihood above that of choosing at random, in nats a slate."""
        return self.log_likelihood - self.uniform

    def summary(self) -> str:
        """Return one line."""
        slope = "unknown" if self.slope is None else f"{self.slope:.2f} ± {self.slope_error:.2f}"
        return (
            f"held-out log-likelihood {self.log_likelihood:.3f} ± {self.log_likelihood_error:.3f} a slate "
            f"(at random {self.uniform:.3f}), accuracy {self.accuracy:.1%}, calibration slope {slope}; "
            f"slates: {self.training} training, {self.validation} validation, {self.held_out} held out"
        )


def parts(
    clusters: IntArray, shares: tuple[float, float], rng: Stream
) -> tuple[IntArray, IntArray, IntArray]:
    """Split slates in three at random, whole clusters on one side.

    Args:
        clusters: cluster of each slate, codes from 0, shape (S,).
        shares: shares of slates wanted in the second and the third part.
        rng: which clusters go where.

    Returns:
        Slates of the training, the validation and the held-out part, in order. A cluster joins the held-out
        part, else the validation part, if that brings it closer to its share, and is trained on otherwise.

    Raises:
        InputError: too few clusters, or too large ones: fewer than two would be held out (of one alone there
            is no standard error), or none would be left to another part.
    """
    sizes = np.bincount(clusters)
    wanted = (shares[1] * clusters.size, shares[0] * clusters.size)
    filled = [0, 0]
    part = np.zeros(sizes.size, np.int64)  # 0: trained on; 1: held out; 2: validation
    for cluster in rng.generator().permutation(sizes.size):
        for number in (0, 1):
            after = filled[number] + sizes[cluster]
            if abs(after - wanted[number]) < abs(filled[number] - wanted[number]):
                filled[number] = after
                part[cluster] = number + 1
                break
    counts = np.bincount(part, minlength=3)
    if counts[0] < 1 or counts[1] < 2 or counts[2] < 1:
        raise InputError(
            "the clusters are too few or too large to keep some for validation and two or more held out",
            got=f"{sizes.size} clusters, the largest with {sizes.max()} of {clusters.size} slates",
            remedy="give finer clusters or none, or change the shares held_out and validation",
        )
    found = part[clusters]
    return np.flatnonzero(found == 0), np.flatnonzero(found == 2), np.flatnonzero(found == 1)


def facts_of(
    rewards: FloatArray,
    choices: Choices,
    split: tuple[IntArray, IntArray, IntArray],
    best_step: int,
) -> LearnedFacts:
    """Return what held-out slates say of rewards.

    Args:
        rewards: of all candidates, (rows,).
        choices: all slates, their clusters as choosers.
        split: see :func:`parts`.
        best_step: the step at which the rewards were taken.
    """
    held_out, rewards = choices.take(split[2]), rewards[choices.slates.take(split[2])[1]]
    logs, uniform = luce_logs(held_out, rewards), -np.log(held_out.slates.sizes)
    found, slope = _mean(logs, held_out.clusters), _slope(held_out, rewards)
    return LearnedFacts(
        training=len(split[0]),
        validation=len(split[1]),
        held_out=len(split[2]),
        best_step=best_step,
        log_likelihood=found.value,
        log_likelihood_error=found.se,
        uniform=float(uniform.mean()),
        gain_error=_mean(logs - uniform, held_out.clusters).se,
        accuracy=float(best_chances(held_out, rewards).mean()),
        slope=None if slope is None else slope.value,
        slope_error=None if slope is None else slope.se,
    )


def _mean(values: FloatArray, clusters: IntArray | None) -> Estimate:
    """Return the mean of values (S,); its error is corrected for clusters that are few, as slopes' are."""
    found = mean(values, clusters=clusters)
    count = values.size if clusters is None else np.unique(clusters).size
    return Estimate(found.value, found.se * math.sqrt(count / max(count - 1, 1)))


def _slope(choices: Choices, rewards: FloatArray) -> Estimate | None:
    """Return the factor that makes rewards (rows,) fit best, with its clustered error.

    None where no finite factor is best: rewards are constant in every slate, or every pick is its slate's
    largest (smallest).
    """
    try:
        fit = conditional_logit(choices.with_features(rewards[:, None], ["reward"]))
    except NoEstimate:
        return None
    return Estimate(float(fit.coefficients[0]), float(fit.errors[0]))
