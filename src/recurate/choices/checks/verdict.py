"""The verdict on Luce's model in one sentence, with its implications for a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recurate.choices.checks.held_out import RuleScore
from recurate.choices.checks.score_tests import Check
from recurate.rules.families import Family

LEVEL = 0.05

IMPLIES = {
    "position": "positions weaken selection: forecasts from the fitted rewards hold on average if "
    "positions are random; shuffle the candidates, or record their places",
    "iia": "similar candidates compete more (or less) with each other than their rewards imply: forecast "
    "shares of similar candidates are biased; compare them with a real round by `recurate audit`",
    "repeats": "the rewards are wrong for particular candidates: forecasts of averages remain valid, those "
    "of single candidates do not",
    "choosers": "choosers differ: a forecast with one reward overstates how far the loop narrows; forecast "
    "with the fitted groups and their weights",
    "calibration": "probabilities differ from those of Luce's rule at the extremes: forecast with the rule "
    "that predicts best",
    "drift": "preferences change over time: forecast from the latest picks, and fit again",
}


@dataclass(frozen=True)
class Verdict:
    """A verdict on Luce's model.

    Attributes:
        holds: Whether no main test rejects it and no rival predicts better.
        sentence: Verdict in one sentence.
        implies: Implications for a forecast, one per finding.
        rule: Rule with the best held-out log-likelihood, Luce's if none is better.
    """

    holds: bool
    sentence: str
    implies: tuple[str, ...]
    rule: Family


def judge(checks: Sequence[Check], rules: Sequence[RuleScore]) -> Verdict:
    """Return the verdict at the 5 % level, corrected for the number of main tests."""
    tested = [c for c in checks if c.main and c.corrected is not None]
    failed = [c for c in tested if c.corrected is not None and c.corrected < LEVEL]
    better = [r for r in rules if r.better]
    best = max(better, key=lambda r: r.gain).name if better else Family.LUCE
    uniform = next((r for r in rules if r.name == Family.UNIFORM), None)
    if uniform is not None and uniform.better:
        best = Family.UNIFORM
    chance = uniform is not None and (uniform.better or (uniform.interval[1] >= 0 and not better))
    if chance and not failed:
        return Verdict(
            True,
            "Picks cannot be distinguished from random ones: no rule predicts them better than chance.",
            ("there is hardly any selection: a forecast shows little change",),
            Family.LUCE,
        )
    if not failed and not better:
        if not tested:
            return Verdict(True, "Luce's model could not be tested on these data.", (), Family.LUCE)
        names = ", ".join(c.title.lower() for c in tested)
        return Verdict(
            True,
            f"These picks do not reject Luce's model (tested: {names}).",
            ("forecast with the fitted rewards at temperature 1",),
            Family.LUCE,
        )
    parts = [f"{c.title.lower()} ({_p(c.corrected)})" for c in failed]
    if better:
        parts.append(f"{best} predicts held-out picks better")
    implies = [IMPLIES[c.name] for c in failed if c.name in IMPLIES]
    implies += [_rule_implies(best)] if better else []
    return Verdict(False, f"Luce's model does not hold: {'; '.join(parts)}.", tuple(implies), best)


def _rule_implies(rule: Family) -> str:
    return {
        Family.LAPSE: "forecast with the fitted lapse share, which slows the loop and keeps losers alive",
        Family.THURSTONE: "forecast with Gaussian noise (--noise gaussian)",
        Family.BEST: "forecast as best of K with the fitted lapse share (--noise none)",
        Family.UNIFORM: "the fitted rewards predict worse than chance: do not forecast with them",
    }[rule]


def _p(value: float | None) -> str:
    if value is None:
        return "not tested"
    return "p < 1e-6" if value < 1e-6 else f"p = {value:.2g}"
