"""A forecast as sections: its numbers, further results, proved statements, charts."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from recurate.core.errors import counted
from recurate.log.trajectory import FORECAST, MEASURED, RENEWED, Row, Trajectory
from recurate.report import narrative
from recurate.report.charts import largest_groups
from recurate.report.lead import lead_of, number
from recurate.report.sections import Section
from recurate.report.trajectories import GLOSSARY, bound_sections, trajectory_sections
from recurate.theory.bounds import plain_bounds
from recurate.theory.forecast import SUPPORT, Forecast
from recurate.theory.transmission import EXACT, GROUPS, ONE, Transmission
from recurate.verbs.forecast.from_log import LogForecast
from recurate.verbs.result import Facts, Result

if TYPE_CHECKING:
    from recurate.theory.renewal import Efficacy, Renewal
    from recurate.theory.welfare import Welfare

LINES = 20  # largest number of groups that may be lost and are listed
TABULATED = 100  # largest number of groups with a column each


def forecast_result(found: LogForecast, source: str) -> Result[LogForecast]:
    """Return a forecast as a result."""
    lead = lead_of(found.trajectory, found.setting.facts())
    return Result(
        found,
        verb="forecast",
        title=f"Forecast from {source}",
        summary=lead.text,
        outcome=lead.verdict,
        details=(narrative.what_happened(found.trajectory, found.setting.facts()),),
        warnings=(*(() if found.opened is None else found.opened.warnings), *found.warnings),
        source=source,
        make_facts=lambda: _facts(found),
        make_sections=lambda: forecast_sections(found),
        make_tables=lambda: {"trajectory.parquet": found.trajectory.to_table()},
        read=None if found.opened is None else found.opened.understood,
        read_notes=() if found.opened is None else found.opened.notes,
        lead=found.ruling.line,
    )


def _facts(found: LogForecast) -> Facts:
    return {
        "rule": found.ruling.facts(),
        "setting": found.setting.facts(),
        "candidates": found.candidates,
        "contexts": found.contexts,
        "support_ends": found.support_ends,
        "notes": note_lines(found),
        "bounds": plain_bounds(found.bounds),
    }


def forecast_sections(found: LogForecast) -> list[Section]:
    """Return all sections of a forecast."""
    table = forecast_table(found)
    footnotes = []
    if any(row[0].endswith("*") for row in table):
        footnotes.append(f"* beyond support: fewer than {SUPPORT:g} effective candidates are left")
    groups = len({r.group for r in found.trajectory.rows if r.quantity == "share"})
    if groups > TABULATED:
        footnotes.append(f"of {groups:,} groups, the largest are shown; trajectory.parquet has all")
    if found.measured.rows:
        footnotes.append("in brackets: measured in the log's rounds")
    facts = found.setting.facts() | {"candidates": found.candidates, "contexts": found.contexts}
    made = ", ".join(f"{setting_label(name)} {setting_value(value)}" for name, value in facts.items())
    notes = tuple(note_lines(found))
    return [
        *trajectory_sections(found.trajectory),
        Section("The forecast in numbers", table=table, lines=tuple(footnotes)),
        Section("What was forecast", made),
        *([Section("Further results", lines=notes)] if notes else []),
        *bound_sections(plain_bounds(found.bounds)),
        GLOSSARY,
    ]


def forecast_table(found: Forecast) -> list[list[str]]:
    """Return the forecast as a table of text, heading first: one row per round, one column per quantity.

    Of very many groups, the largest have columns; the trajectory has all.
    """
    keys = found.trajectory.about(FORECAST)
    if sum(key[0] == "share" for key in keys) > TABULATED:
        largest = largest_groups([r for r in found.trajectory.rows if r.quantity == "share"])
        keys = [key for key in keys if key[0] != "share" or key[2] in largest]
    counts = Counter(key[0] for key in keys)
    values = {(r.source, r.round, r.key): r.value for r in found.trajectory.rows}
    both = any(source == MEASURED for source, _, _ in values)
    series = {key: [r for r in found.trajectory.rows if r.key == key] for key in keys}
    heading = ["round", *(_heading(key, many=counts[key[0]] > 1) for key in keys)]
    lines = [heading]
    for t in range(found.setting.rounds + 1):
        beyond = values[FORECAST, t, ("effective_support", None, None)] < SUPPORT
        line = [f"{t}{'*' if beyond else ''}"]
        for key in keys:
            value = values.get((FORECAST, t, key))
            cell = "" if value is None else number(value, series[key])
            seen = values.get((MEASURED, t, key))
            line.append(cell + (f" ({number(seen, series[key])})" if both and seen is not None else ""))
        lines.append(line)
    return lines


def _heading(key: tuple[str, str | None, str | None], *, many: bool) -> str:
    quantity, reward, group = key
    if group is not None:
        return f"share {group}"
    return f"{quantity} {reward}" if many and reward is not None else quantity


def setting_label(name: str) -> str:
    """Return the name of a part of a setting, for people."""
    return "K =" if name == "k" else name.replace("_", " ")


def setting_value(value: object) -> str:
    """Return the value of a part of a setting, for people."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list) and all(isinstance(v, float) for v in value):
        return ", ".join(f"{v:g}" for v in value)
    return "infinitely many" if value is None else str(value)


def note_lines(found: LogForecast) -> list[str]:
    """Return the further results of a forecast as lines of text."""
    lines = extinction_lines(found)
    lines += [welfare_line(name, w) for name, w in found.welfare]
    if found.fitted is not None:
        lines.append("the forecast uses an " + efficacy_line(found.fitted))
    if found.renewal is not None:
        lines += renewal_lines(found.renewal) + ahead_lines(found)
    return lines


def welfare_line(name: str, w: Welfare) -> str:
    """Return diversity and fairness as a line of text."""
    return (
        f"{name}: Nash welfare {w.nash:.4g} ({w.nash_gap:.3g} below what these candidates allow), "
        f"utilitarian {w.utilitarian:.4g}, worst group {w.worst:.4g}; groups by favourite: "
        f"entropy {w.entropy:.3f}, effective number {w.hill[2]:.2f}, "
        f"distance from the weights {w.distance:.3f}"
    )


def efficacy_line(eta: Efficacy) -> str:
    """Return an estimated efficacy as a line of text."""
    cut = f"; {eta.usable:g} is used" if eta.usable != eta.value else ""
    return (
        f"efficacy {eta.value:.3f} (standard error {eta.se:.2g}, from {eta.changes} changes{cut}): the part "
        "of the way to its training law that retraining moved the model"
    )


def extinction_lines(result: Forecast) -> list[str]:
    """Return a line per group that finitely many picks may lose for good; of many, the likeliest ones."""
    last = result.setting.rounds
    lost = [e for e in result.extinctions if e.probability[-1] >= 1e-6]
    shown = lost if len(lost) <= LINES else sorted(lost, key=lambda e: -e.probability[-1])[:LINES]
    rest = [f"{len(lost) - len(shown):,} more groups may be lost for good"] if len(shown) < len(lost) else []
    return [
        f"group {e.group!r} is lost for good by round {last} with probability {e.probability[-1]:.2g}"
        + (f" (half of such losses by round {e.time})" if e.time is not None else "")
        for e in shown
    ] + rest


def renewal_lines(renewal: Renewal) -> list[str]:
    """Return the efficacy and the errors of renewed forecasts as lines of text."""
    lines = [efficacy_line(renewal.efficacy)]
    if renewal.transmission is not None:
        lines.append(transmission_line(renewal.transmission) + _trained_on(renewal.known))
    for score in renewal.scores:
        if score.key[0] == "share" or math.isnan(score.ratio):
            continue
        name = _heading(score.key, many=score.key[1] != "reward")
        lines.append(
            f"one round ahead, {name}: error {score.renewed:.3g}, {score.ratio:.0%} of that of the forecast "
            f"'no change' ({score.rounds} rounds)"
        )
    return lines


FORMS = {
    EXACT: "the model becomes its training law",
    ONE: "one part of the way for all",
    GROUPS: "one part for the groups' shares, one within groups, and a pull for each group",
}


def transmission_line(known: Transmission) -> str:
    """Return what was learned of retraining as a line of text."""
    between, within = known.levels()
    parts = f"{within:.0%} of the way to the training law"
    if known.form == GROUPS:
        parts = f"{between:.0%} of the way to it in the groups' shares, {within:.0%} within groups"
    errors = ", ".join(f"{form} {error:.2g}" for form, error in known.errors.items())
    held = f"; errors one round ahead: {errors}" if errors else ""
    how = f"form {known.form!r}: {FORMS[known.form]}{held}"
    return f"the renewed forecast takes retraining to go {parts} ({how})"


def _trained_on(known: int) -> str:
    """Return on what the renewed forecast takes the model to be retrained."""
    if not known:
        return "; training sets are those that the rule leads to expect"
    return f"; training sets are the picks that were made in {counted(known, '{round|rounds}')}"


def ahead_lines(found: LogForecast) -> list[str]:
    """Return the forecast from the last measured round as lines of text."""
    if found.ahead is not None:
        ahead = found.ahead.trajectory
    else:
        last = max((row.round for row in found.measured.rows), default=0)
        rows = [row for row in found.trajectory.where(RENEWED).rows if row.round > last]
        ahead = Trajectory(tuple(rows))
    keys = [k for k in ahead.about() if k[0] in ("mean_reward", "mean_exp_reward", "entropy")]
    lines = []
    for key in keys:
        rows = [row for row in ahead.rows if row.key == key]
        name = _heading(key, many=key[1] != "reward")
        values = ", ".join(_with_band(row) for row in rows)
        lines.append(f"from round {rows[0].round} on, {name}: {values}")
    return lines


def _with_band(row: Row) -> str:
    band = "" if row.lower is None or row.upper is None else f" ({row.lower:.4g} to {row.upper:.4g})"
    return f"{row.value:.4g}{band}"
