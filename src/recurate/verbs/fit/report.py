"""The sections of a fit: data, rewards, rules, groups, and tests of Luce's model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from recurate.choices.checks.held_out import LEAST_GAIN, SURE_GAIN, RuleScore
from recurate.choices.checks.score_tests import Check
from recurate.choices.checks.verdict import TESTS_LEVEL
from recurate.choices.models.items import ItemFit
from recurate.choices.models.latent_classes import ClassFit
from recurate.choices.models.logit import LogitFit
from recurate.log.reading.slates import FEATURES, ITEMS, POSITIONS, SCORE
from recurate.metrics.estimates import NORMAL_975
from recurate.report import charts
from recurate.report.lead import cut
from recurate.report.sections import Section
from recurate.rules.families import Family
from recurate.verbs.fit.against import against_facts, against_sections
from recurate.verbs.fit.consequences import Consequences, consequences
from recurate.verbs.fit.files import facts_of, fitted_log, item_rows, logit_rows, position_rows
from recurate.verbs.fit.fit import Fit
from recurate.verbs.result import Result

COMMAND = ": recurate "  # a line with a command ends without a full stop
HELD_OUT = (
    f"Held-out log-likelihood, three-fold. Gains below {LEAST_GAIN:g} nats per slate count as none; where no "
    f"test refuses Luce's rule, a rival does so by {SURE_GAIN:.2g} nats on all slates or more."
)
MOST_ITEMS = 20  # maximum number of items in a table
DESCRIBED = {SCORE: "a score", FEATURES: "features", ITEMS: "rewards of items", POSITIONS: "places alone"}


def fit_result(found: Fit, source: str) -> Result[Fit]:
    """Return a fit as a result."""
    effects = cache(lambda: consequences(found))
    implies = found.verdict.implies
    implied = " ".join(f"{text[0].upper()}{text[1:]}" + ("" if COMMAND in text else ".") for text in implies)
    lead, rest = cut(f"{found.verdict.sentence} {implied}")
    return Result(
        found,
        verb="fit",
        title=f"Picks of {source}",
        summary=lead,
        details=rest,
        outcome=_in_short(found),
        warnings=found.warnings,
        source=source,
        make_facts=lambda: facts_of(found) | against_facts(found, effects()),
        make_sections=lambda: fit_sections(found, effects()),
        make_tables=lambda: {"log.parquet": fitted_log(found)},
        read=found.reading.understood,
    )


def _in_short(found: Fit) -> str:
    """Return whether the picks reject Luce's model, in two words; untested is another matter."""
    if found.verdict.holds is None:
        return ""
    if not found.verdict.holds:
        return "Luce rejected"
    checks = found.checks if found.within is None else found.within.checks
    return "Luce not rejected" if any(c.main and c.corrected is not None for c in checks) else "not tested"


def fit_sections(found: Fit, effects: Consequences | None = None) -> list[Section]:
    """Return all sections of a fit; ``effects`` are what deviations do to a forecast."""
    return [
        _read_section(found),
        *_excluded(found),
        *_reward_sections(found),
        *_position_section(found),
        *_rule_section(found),
        *_group_sections(found),
        *_check_sections(found),
        *_calibration(found),
        *against_sections(found, effects),
    ]


def number(value: float | None, digits: int = 4) -> str:
    """Return a number as text."""
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def p_text(value: float | None) -> str:
    """Return a p-value as text."""
    if value is None:
        return ""
    return "< 1e-6" if value < 1e-6 else f"{value:.3g}"


def _read_section(found: Fit) -> Section:
    reading = found.reading
    rows = [[str(k), str(v)] for k, v in reading.facts.items()]
    names = ", ".join(reading.choices.names)
    rows.append(["described by", DESCRIBED[reading.model] + (f": {names}" if names else "")])
    notes = [*reading.notes, *(f"{name} is left out: {why}" for name, why in reading.left_out.items())]
    return Section("Data", table=[["", ""], *rows], lines=tuple(notes))


def _excluded(found: Fit) -> list[Section]:
    if not found.reading.exclusions:
        return []
    rows = [["slates", "rows", "reason"]]
    rows += [[str(e.slates), str(e.rows), f"{e.reason} ({e.example})"] for e in found.reading.exclusions]
    return [Section("Excluded", "Slates that could not be used.", rows)]


def _reward_sections(found: Fit) -> list[Section]:
    if found.items is not None:
        return [_items_section(found.items)]
    return [] if found.logit is None else [_coefficients(found, found.logit)]


def _coefficients(found: Fit, fitted: LogitFit) -> Section:
    text = (
        f"Log-likelihood {fitted.log_likelihood:.3f} (uniform picks: {fitted.null_log_likelihood:.3f}; "
        f"explained: {fitted.explained:.1%}); gradient per slate {fitted.gradient_norm:.1e} after "
        f"{fitted.passes} passes."
    )
    if found.temperature is not None:
        value, low, high = found.temperature
        upper = "infinity" if math.isinf(high) else f"{high:.4g}"
        text += f" Temperature of the score: {value:.4g} (95 %: {low:.4g} to {upper})."
    title = "Temperature of the score" if found.reading.model == "score" else "Coefficients of features"
    return _estimates(title, text, logit_rows(fitted), "feature", "coefficient")


def _items_section(items: ItemFit) -> Section:
    text = (
        f"{len(items.names)} items, rewards with mean zero. Log-likelihood {items.log_likelihood:.3f} "
        f"(uniform picks: {items.null_log_likelihood:.3f}); gradient per slate and item "
        f"{items.gradient_norm:.1e}."
    )
    if items.tie_log_odds is not None:
        text += (
            f" Two equal items tie with odds {math.exp(items.tie_log_odds):.3g} to 1 of either (Davidson)."
        )
    if not items.exact_errors:
        text += " Standard errors are estimated from draws of the estimate's sampling distribution."
    return _estimates("Rewards of items", text, item_rows(items, MOST_ITEMS), "item", "reward")


def _estimates(title: str, text: str, rows: Sequence[dict[str, Any]], what: str, value: str) -> Section:
    """Return estimates with their errors as a table and a chart."""
    clustered = rows[0]["se_clustered"] is not None
    digits = {value: 4, "se": 3, "se_clustered": 3, "z": 3}
    shown = [name for name in digits if name in rows[0] and (clustered or name != "se_clustered")]
    table = [[what, *(name.replace("_", ", ") for name in shown)]]
    table += [[row["name"], *(number(row[name], digits[name]) for name in shown)] for row in rows]
    error = "se_clustered" if clustered else "se"
    bars = [
        {"name": row["name"][:40], "value": row[value], "error": NORMAL_975 * row[error], "group": "all"}
        for row in rows
    ]
    return Section(title, text, table, chart=charts.interval_chart(bars, f"{value}s"))


def _position_section(found: Fit) -> list[Section]:
    fitted = found.positions
    if fitted is None:
        return []
    table = [["place", "log odds against place 1", "se", "z"]]
    for row in position_rows(fitted):
        value, error = row["coefficient"], row["se_clustered"] or row["se"]
        place = row["name"].removeprefix("place ")
        table.append([place, number(value, 3), number(error, 2), number(row["z"], 3)])
    return [Section("Position effects", "At equal rewards.", table)]


def _rule_section(found: Fit) -> list[Section]:
    if not found.rules:
        return []
    extra = {}
    if found.lapse is not None and found.lapse.lapse_interval is not None:
        low, high = found.lapse.lapse_interval
        extra[Family.LAPSE] = f"lapse share {_share(found.lapse.rule.lapse)} ({low:.2g} to {high:.2g})"
    if found.best is not None:
        low, high = found.best.lapse_interval or (0.0, 1.0)
        extra[Family.BEST] = f"lapse share {_share(found.best.rule.lapse)} ({low:.2g} to {high:.2g})"
    title = "Comparison of rules" + (
        "" if found.within is None else ", with the same rewards for all choosers"
    )
    return [Section(title, HELD_OUT, _rule_table(found.rules, extra))]


def _rule_table(rules: Sequence[RuleScore], extra: dict[Family, str]) -> list[list[str]]:
    table = [["rule", "log-likelihood per slate", "gain over Luce", "95 %, simultaneous", "fitted"]]
    for rule in rules:
        low, high = rule.interval
        gain = [f"{rule.gain:+.4f}", f"{low:+.4f} to {high:+.4f}"] if rule.name != Family.LUCE else ["", ""]
        mark = " (better)" if rule.better and rule.name != Family.UNIFORM else ""
        table.append([rule.name + mark, f"{rule.per_slate:.4f}", *gain, extra.get(rule.name, "")])
    return table


def _share(value: float) -> str:
    return "0" if value < 1e-9 else f"{value:.3g}"


def _group_sections(found: Fit) -> list[Section]:
    sections = []
    if found.class_scores:
        table = [["groups", "held-out log-likelihood per slate", "gain", "se", "BIC"]]
        for s in found.class_scores:
            gain = [f"{s.gain:+.4f}", f"{s.gain_error:.4f}"] if s.classes > 1 else ["", ""]
            table.append([str(s.classes), f"{s.held_out:.4f}", *gain, f"{s.bic:.1f}"])
        sections.append(Section("Number of preference groups", "Each chooser is held out once.", table))
    if found.groups is not None:
        sections.append(_groups(found.groups))
    return sections


def _groups(groups: ClassFit) -> Section:
    errors = groups.standard_errors
    names = [f"group {z + 1}" for z in range(groups.classes)]

    def cell(value: float, error: float | None) -> str:
        return f"{value:.3g}" if error is None else f"{value:.3g} ± {error:.2g}"

    table: list[list[str]] = [["", *names]]
    ranges = groups.weight_intervals
    shares = [f"{w:.3g}" for w in groups.weights]
    if ranges is not None:
        shares = [f"{w} ({low:.2g} to {high:.2g})" for w, (low, high) in zip(shares, ranges, strict=True)]
    table.append(["weight (95 %)" if ranges is not None else "weight", *shares])
    bars: list[dict[str, Any]] = []
    for j, name in enumerate(groups.names):
        table.append([name])
        for z, group in enumerate(names):
            value, error = float(groups.coefficients[z, j]), None if errors is None else float(errors[z, j])
            table[-1].append(cell(value, error))
            reach = NORMAL_975 * (error or 0.0)
            bars.append({"name": name, "value": value, "error": reach, "group": group})
    text = (
        f"{groups.choosers} choosers; log-likelihood {groups.log_likelihood:.3f}, gradient per slate "
        f"{groups.gradient_norm:.1e}; {groups.agreeing} of {max(len(groups.starts), 1)} starts reached it."
    )
    if errors is None:
        text += " The groups are not identified: the information is not positive definite."
    return Section("Preference groups", text, table, chart=charts.interval_chart(bars, "groups"))


def _check_sections(found: Fit) -> list[Section]:
    text = f"p-values are corrected for the number of main tests (Holm); the level is {TESTS_LEVEL:g}."
    sections = []
    if found.checks:
        alone = found.within is None
        title = "Does Luce's model hold?" if alone else "Luce's model with the same rewards for all choosers"
        note = "" if alone else " The verdict is about the groups, below."
        sections.append(Section(title, text + note, _check_table(found.checks)))
    if found.within is not None:
        part = f"the {found.within.share:.0%} of slates whose chooser's group is clear"
        about = f"Features have one coefficient per group, in {part}. "
        sections.append(Section("Within the groups", about + text, _check_table(found.within.checks)))
        if found.within.rules:
            table = _rule_table(found.within.rules, {})
            sections.append(Section("Comparison of rules within the groups", HELD_OUT, table))
    return sections


def _check_table(checks: Sequence[Check]) -> list[list[str]]:
    table = [["test", "p", "p, corrected", "statistic", "effect"]]
    for c in checks:
        said = c.effect if c.p is not None else f"not tested: {c.why}"
        statistic = number(c.statistic, 3) + (f" ({c.df} df)" if c.df else "")
        table.append([c.title, p_text(c.p), p_text(c.corrected) if c.main else "", statistic, said])
    return table


def _calibration(found: Fit) -> list[Section]:
    rows = [
        {"predicted": p, "picked": q, "error": 1.96 * e, "candidates": n} for p, q, e, n in found.calibration
    ]
    table = [["predicted", "picked", "95 %", "candidates"]]
    table += [[f"{p:.3f}", f"{q:.3f}", f"± {1.96 * e:.3f}", str(n)] for p, q, e, n in found.calibration]
    return [Section("Calibration", "", table, chart=charts.calibration_chart(rows))] if len(rows) > 1 else []
