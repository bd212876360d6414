"""Picks within preference groups, on which tests and rivals of Luce's model are redone.

With groups, one vector of coefficients for all choosers is not the model that will be forecast, and its
failures are those of the groups' existence. The model within groups is a conditional logit whose features
appear once per group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recurate.choices.checks.held_out import RuleScore, compare_rules
from recurate.choices.checks.luce_checks import run_checks
from recurate.choices.checks.score_tests import Check
from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.latent_classes import ClassFit
from recurate.choices.models.logit import conditional_logit
from recurate.choices.table import Choices
from recurate.core.arrays import BoolArray, IntArray

CLEAR = 0.95  # minimum posterior probability of the group of a chooser who clearly belongs to it
MOST_LEFT_OUT = 0.5  # maximum share of slates of choosers who belong to no group clearly


@dataclass(frozen=True)
class Within:
    """Tests and rivals of Luce's model within groups.

    Attributes:
        share: Share of slates tested: those of choosers who clearly belong to a group.
        checks: Tests of Luce's model.
        rules: Held-out log-likelihoods of rival rules.
    """

    share: float
    checks: tuple[Check, ...]
    rules: tuple[RuleScore, ...]


def within_groups(
    choices: Choices,
    few: Choices,
    groups: ClassFit,
    people: IntArray,
    seed: int = 0,
    again: tuple[Choices, BoolArray] | None = None,
) -> Within | str:
    """Test Luce's model within groups, or return the reason why it cannot be tested.

    Args:
        choices: Slates without ties, with choosers and the features of the groups' fit, for the tests.
        few: Those of them on which rules are compared.
        groups: Fitted groups.
        people: Codes of the choosers of ``groups.membership``, in its order, sorted.
        seed: Seed of folds and of the Hausman-McFadden test.
        again: See :func:`recurate.choices.checks.luce_checks.run_checks`.
    """
    tested, share = _clear(choices, groups, people)
    if share < 1 - MOST_LEFT_OUT:
        return f"only {share:.0%} of the slates belong to choosers whose group is clear"
    try:
        fit = conditional_logit(tested, clustered=False)
        rules = compare_rules(_clear(few, groups, people)[0], seed=seed)
    except NoEstimate as error:
        return f"{error.what} ({error.got})"
    if again is not None:
        clear = _is_clear(again[0], groups, people)
        again = _clear(again[0], groups, people)[0], again[1][clear]
    checks = run_checks(tested, fit.coefficients, fit.covariance, seed=seed, again=again)
    return Within(share, tuple(checks), tuple(rules))


def _clear(choices: Choices, groups: ClassFit, people: IntArray) -> tuple[Choices, float]:
    """Return the slates of choosers whose group is clear, with features per group, and their share."""
    clear = _is_clear(choices, groups, people)
    group = group_of(choices, groups, people)[clear]
    return _apart(choices.take(clear), group, groups.classes), float(clear.mean())


def group_of(choices: Choices, groups: ClassFit, people: IntArray) -> IntArray:
    """Return the likeliest group of each slate's chooser, (slates,)."""
    assert choices.choosers is not None
    return np.asarray(groups.membership.argmax(axis=1)[np.searchsorted(people, choices.choosers)])


def _is_clear(choices: Choices, groups: ClassFit, people: IntArray) -> BoolArray:
    """Return whether each slate's chooser clearly belongs to a group, (slates,)."""
    assert choices.choosers is not None
    return np.asarray(groups.membership.max(axis=1)[np.searchsorted(people, choices.choosers)] >= CLEAR)


def _apart(choices: Choices, group: IntArray, classes: int) -> Choices:
    """Return the choices with every feature once per group, zero in the slates of other groups."""
    count, d = choices.features.shape
    features = np.zeros((count, classes, d))
    features[np.arange(count), choices.slates.spread(group)] = choices.features
    names = [f"{name} (group {z + 1})" for z in range(classes) for name in choices.names]
    return choices.with_features(features.reshape(count, classes * d), names)
