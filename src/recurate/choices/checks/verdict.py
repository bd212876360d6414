"""The verdict on Luce's model in one sentence, with its implications for a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recurate.choices.checks.held_out import RIVALS_LEVEL, RuleScore
from recurate.choices.checks.score_tests import Check
from recurate.rules.families import Family

LEVEL = 0.05  # probability that a true Luce model is refused, by any test or rival
TESTS_LEVEL = LEVEL - RIVALS_LEVEL  # the share of it that falls to the tests

IMPLIES = {
    "position": "positions weaken selection: forecasts from the fitted rewards hold on average if "
    "positions are random; shuffle the candidates, or record their places",
    "iia": "similar candidates compete more (or less) with each other than their rewards imply: forecast "
    "shares of similar candidates are biased; compare them with a real round with `recurate audit`",
    "repeats": "the rewards are wrong for particular candidates: forecasts of averages remain valid, those "
    "of single candidates do not",
    "choosers": "choosers differ: a forecast with one reward overstates how far the loop narrows",
    "calibration": "probabilities differ from those of Luce's rule at the extremes: forecasts of strong "
    "selection are the least reliable",
    "drift": "preferences change over time: forecast from the latest picks, and fit again",
}


@dataclass(frozen=True)
class Fitted:
    """What was fitted, as far as a verdict depends on it.

    Attributes:
        slates: Number of slates.
        coefficients: Number of coefficients, or of items less one.
        p: p-value of the likelihood-ratio test of all of them against zero, or None if it is not known.
        groups: Number of preference groups; 1 if there are none.
        within: Whether Luce's model was tested within the groups.
    """

    slates: int = 0
    coefficients: int = 0
    p: float | None = None
    groups: int = 1
    within: bool = False


@dataclass(frozen=True)
class Verdict:
    """A verdict on Luce's model.

    Attributes:
        holds: Whether no main test rejects it and no rival predicts better; None if no rewards were fitted.
        sentence: Verdict in one sentence.
        implies: Implications for a forecast, one per finding.
        rule: Rule with the best held-out log-likelihood, Luce's if none is better.
    """

    holds: bool | None
    sentence: str
    implies: tuple[str, ...]
    rule: Family


def judge(checks: Sequence[Check], rules: Sequence[RuleScore], fitted: Fitted | None = None) -> Verdict:
    """Return the verdict at the 5 % level, of which the tests have 4.5 points (Holm) and the rivals 0.5.

    Where a test refuses Luce's rule, a rival only has to be better to be named in its place.
    """
    fitted = fitted or Fitted()
    tested = [c for c in checks if c.main and c.corrected is not None]
    failed = [c for c in tested if c.corrected is not None and c.corrected < TESTS_LEVEL]
    better = [r for r in rules if (r.better if failed else r.surely_better)]
    best = max(better, key=lambda r: r.gain).name if better else Family.LUCE
    uniform = next((r for r in rules if r.name == Family.UNIFORM), None)
    if uniform is not None and uniform.better:
        best = Family.UNIFORM
    chance = uniform is not None and (uniform.better or (uniform.interval[1] >= 0 and not better))
    if chance and not failed:
        return _hardly(fitted, worse=uniform is not None and uniform.better)
    with_groups = fitted.groups > 1
    if not failed and not better:
        if not tested:
            return Verdict(True, "Luce's model could not be tested on these data.", (), Family.LUCE)
        names = ", ".join(c.title.lower() for c in tested)
        what = "groups and their weights" if with_groups else "rewards"
        return Verdict(
            True,
            f"Choosers differ: within the {fitted.groups} groups these picks do not reject Luce's model "
            f"(tested: {names})."
            if fitted.within
            else f"These picks do not reject Luce's model (tested: {names}).",
            (f"forecast with the fitted {what} at temperature 1",),
            Family.LUCE,
        )
    parts = [f"{c.title.lower()} ({_p(c.corrected)})" for c in failed]
    if better:
        parts.append(f"{best} predicts held-out picks better")
    implies = [_implies(c.name, fitted) for c in failed if c.name in IMPLIES]
    implies += [_rule_implies(best, with_groups)] if better else []
    where = f"Choosers differ, and within the {fitted.groups} groups " if fitted.within else ""
    return Verdict(False, f"{where}Luce's model does not hold: {'; '.join(parts)}.", tuple(implies), best)


def _hardly(fitted: Fitted, *, worse: bool) -> Verdict:
    """Return the verdict on rewards that do not predict held-out picks better than chance."""
    if fitted.p is None or fitted.p >= LEVEL:
        return Verdict(
            True,
            "Picks cannot be distinguished from random ones: no rule predicts them better than chance.",
            ("there is hardly any selection: a forecast shows little change",),
            Family.LUCE,
        )
    size = "< 1e-12" if fitted.p < 1e-12 else f"= {fitted.p:.2g}"
    matter = f"the rewards matter (likelihood ratio p {size})"
    if worse:
        return Verdict(
            True,
            f"Too few slates for so many coefficients ({fitted.slates} and {fitted.coefficients}): {matter}, "
            "but those fitted to a part of the slates predict the others worse than chance.",
            ("a forecast overstates selection: fit fewer features (--feature) or with --shrinkage 1",),
            Family.LUCE,
        )
    return Verdict(
        True,
        f"Too few slates to tell the rules apart; but {matter}.",
        ("a forecast with the fitted rewards supposes Luce's model, untested",),
        Family.LUCE,
    )


def no_rewards(remedy: str) -> Verdict:
    """Return the verdict where nothing describes the candidates but their place."""
    sentence = "No rewards were fitted: nothing describes the candidates but their place."
    return Verdict(None, sentence, (remedy,), Family.LUCE)


def best_of(sizes: Sequence[int], decided: int, slates: int, name: str, forecast: str) -> Verdict:
    """Return the verdict on picks that are all the best of their slates by the one score.

    Args:
        sizes: Sizes of slates that occur.
        decided: Number of slates whose candidates differ in the score.
        slates: Number of slates.
        name: Name of the score.
        forecast: How to forecast with this rule.
    """
    k = str(sizes[0]) if len(sizes) == 1 else "K"
    which = (
        f"all {slates} slates" if decided == slates else f"the {decided} slates of {slates} that differ in it"
    )
    return Verdict(
        False,
        f"Every pick is the best of its slate by {name}, in {which}: best of {k}; nothing to fit.",
        (forecast,),
        Family.BEST,
    )


def nearly_best_of(sizes: Sequence[int], share: float, slates: int, name: str, forecast: str) -> Verdict:
    """Return the verdict on picks of the best by the one score, with lapses; see :func:`best_of`.

    Args:
        sizes: Sizes of slates that occur.
        share: Share of slates whose best was picked.
        slates: Number of slates.
        name: Name of the score.
        forecast: How to forecast with this rule.
    """
    k = str(sizes[0]) if len(sizes) == 1 else "K"
    return Verdict(
        False,
        f"Picks follow best of {k} with lapses: the best of its slate by {name} was picked in {share:.1%} of "
        f"{slates} slates, which no temperature explains.",
        (forecast,),
        Family.BEST,
    )


def _implies(test: str, fitted: Fitted) -> str:
    """Return what the failure of a test implies; it names only what was fitted."""
    if test != "choosers":
        return IMPLIES[test]
    if fitted.groups > 1:
        return f"{IMPLIES[test]}; the fitted groups and their weights account for that"
    return f"{IMPLIES[test]}; fit preference groups (--groups 2)"


def _rule_implies(rule: Family, groups: bool) -> str:
    """Return what a better rule implies; a fit with groups is forecast with Luce's rule in each of them."""
    if rule == Family.UNIFORM:
        return "the fitted rewards predict worse than chance: do not forecast with them"
    if groups:
        return f"forecast with the fitted groups, each by Luce's rule, or fit {rule} alone (--groups none)"
    return {
        Family.LAPSE: "forecast with the fitted lapse share, which slows the loop and keeps losers alive",
        Family.THURSTONE: "forecast with Gaussian noise (--noise gaussian)",
        Family.BEST: "forecast as best of K with the fitted lapse share (--noise none)",
    }[rule]


def _p(value: float | None) -> str:
    if value is None:
        return "not tested"
    return "p < 1e-6" if value < 1e-6 else f"p = {value:.2g}"
