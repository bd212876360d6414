"""Picks against Luce's rule (Bradley-Terry for pairs) in one place: every deviation, and what it does."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from recurate.choices.checks.gaps import Gap
from recurate.choices.checks.score_tests import Check
from recurate.report import charts
from recurate.report.sections import Section
from recurate.rules.families import Family
from recurate.theory.forecast import SUPPORT
from recurate.verbs.fit.consequences import ROUNDS, Consequence, Consequences, beyond, thin
from recurate.verbs.fit.fit import Fit

TITLE = "Picks against Luce's rule (Bradley-Terry)"
NONE = 1e-9  # lapse share that is shown as zero
EFFECT = "What it does to the forecast"


def against_facts(found: Fit, effects: Consequences | None) -> dict[str, Any]:
    """Return the deviations as plain values."""
    facts: dict[str, Any] = {"gaps": [asdict(gap) for gap in found.gaps]}
    if found.repeats is not None:
        facts["repeats"] = {**asdict(found.repeats), "share": found.repeats.share}
    if effects is not None:
        facts["consequences"] = {**asdict(effects), "rounds": list(ROUNDS)}
    return facts


def against_sections(found: Fit, effects: Consequences | None) -> list[Section]:
    """Return the sections on deviations; none where nothing was tested."""
    if not found.checks:
        return []
    sections = [_summary(found), *_gaps(found.gaps)]
    return sections if effects is None else [*sections, _effects(effects)]


# --- what was found -------------------------------------------------------------------------------


def _summary(found: Fit) -> Section:
    checks = {c.name: c for c in (found.checks if found.within is None else found.within.checks)}
    table = [["deviation", "found", "p, corrected"]]
    table.append(["reward gaps", _widest(found.gaps), _p(checks.get("calibration"))])
    table.append(["places", *_tested(checks.get("position"))])
    table.append(["lapses", _lapses(found), ""])
    table.append(["repeats", _repeats(found), _p(checks.get("repeats"))])
    table.append(["groups", _groups(found), ""])
    table.append(["drift", *_tested(checks.get("drift"))])
    text = "" if found.within is None else "Tests are those within the preference groups."
    return Section(TITLE, text, table)


def _tested(check: Check | None) -> list[str]:
    if check is None or check.p is None:
        return [f"not tested: {check.why}" if check is not None and check.why else "not tested", ""]
    return [check.effect, _p(check)]


def _p(check: Check | None) -> str:
    if check is None or check.corrected is None:
        return ""
    return "< 1e-6" if check.corrected < 1e-6 else f"{check.corrected:.3g}"


def _widest(gaps: tuple[Gap, ...]) -> str:
    if not gaps:
        return "not known: too few pairs of unequal rewards"
    gap = max(gaps, key=lambda g: abs(g.better - g.luce) / max(g.interval[1] - g.interval[0], 1e-12))
    return (
        f"at a gap of {gap.gap:.2g} the better one is picked in {_share(gap)}, by Luce's rule {gap.luce:.1%}"
    )


def _share(gap: Gap) -> str:
    low, high = gap.interval
    return f"{gap.better:.1%} ({low:.1%} to {high:.1%})"


def _lapses(found: Fit) -> str:
    rules = found.rules if found.within is None else found.within.rules
    score = next((r for r in rules if r.name == Family.LAPSE), None)
    gain = "" if score is None else f"held-out gain {score.gain:+.2g} nats per slate"
    if found.within is not None:
        return gain or "not fitted within the groups"
    if found.lapse is None or found.lapse.lapse_interval is None:
        return "not fitted"
    low, high = found.lapse.lapse_interval
    share = found.lapse.rule.lapse
    return f"share {0 if share < NONE else share:.2g} ({low:.2g} to {high:.2g}){'; ' * bool(gain)}{gain}"


def _repeats(found: Fit) -> str:
    own = found.repeats
    if own is None:
        return "nobody was asked again"
    low, high = own.interval
    return (
        f"the same pick in {own.same} of {own.pairs} ({own.share:.0%}; {low:.0%} to {high:.0%}); independent "
        f"picks by Luce's rule: {own.expected:.0%}"
    )


def _groups(found: Fit) -> str:
    if found.groups is not None:
        weights = ", ".join(f"{w:.3g}" for w in found.groups.weights)
        return f"{found.groups.classes} groups, weights {weights}"
    return "one group" if found.class_scores else "not fitted"


def _gaps(gaps: tuple[Gap, ...]) -> list[Section]:
    if len(gaps) < 2:
        return []
    table = [["gap", "better one picked", "95 %", "Luce", "pairs"]]
    table += [
        [
            f"{g.gap:.3g}", f"{g.better:.3f}", f"{g.interval[0]:.3f} to {g.interval[1]:.3f}", f"{g.luce:.3f}",
            str(g.pairs),
        ]
        for g in gaps
    ]  # fmt: skip
    rows = [
        {
            "predicted": g.luce, "picked": g.better, "error": (g.interval[1] - g.interval[0]) / 2,
            "candidates": g.pairs,
        }
        for g in gaps
    ]  # fmt: skip
    text = (
        "The pick and every other candidate of its slate, by the gap of their fitted rewards at temperature "
        "1. By Luce's rule the better one is picked with the probability 1 / (1 + exp(-gap))."
    )
    return [Section("Reward gaps", text, table, chart=charts.calibration_chart(rows))]


# --- what it does ---------------------------------------------------------------------------------


def _effects(effects: Consequences) -> Section:
    mean, variance = effects.start
    text = (
        f"Expectation and variance of {effects.reward} after one and five rounds that train on picks alone, "
        f"by the exact law over {effects.pool} of the log's first round (there {mean:.4g} and "
        f"{variance:.4g}); in parentheses the difference to Luce's rule with the same rewards."
    )
    if len(effects.rows) == 1:
        text += " No deviation was found."
    names = [f"{what} after {t}" for what in ("E r", "Var r") for t in ROUNDS]
    table = [["deviation", "size", *names]]
    table += [_row(row) for row in effects.rows]
    lines = [f"{row.deviation}: not computed, because {row.why}" for row in effects.rows if row.why]
    if thin(effects):
        lines.append(
            "contexts are thin: residuals from their means are pooled, without the correction that a "
            "forecast's first round has; rely on the differences"
        )
    if beyond(effects):
        lines.append(f"* an effective support below {SUPPORT:g} candidates: beyond this pool")
    return Section(EFFECT, text, table, lines=tuple(lines))


def _row(row: Consequence) -> list[str]:
    if row.why:
        return [row.deviation, row.size, *(["not computed"] * (2 * len(ROUNDS)))]
    mark = "*" if row.support < SUPPORT else ""
    means = [_cell(a, b) for a, b in zip(row.mean, row.luce_mean, strict=True)]
    variances = [_cell(a, b) for a, b in zip(row.variance, row.luce_variance, strict=True)]
    return [row.deviation + mark, row.size, *means, *(variances or ["not known"] * len(ROUNDS))]


def _cell(value: float, luce: float) -> str:
    return f"{value:.4g}" if value == luce else f"{value:.4g} ({value - luce:+.2g})"
