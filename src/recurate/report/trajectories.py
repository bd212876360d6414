"""Sections on quantities over rounds and on proved statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurate.log.trajectory import CONTROL, FORECAST, MEASURED, RENEWED, TAIL, Trajectory
from recurate.report import charts, narrative
from recurate.report.sections import Section

GLOSSARY = Section(
    "Definitions of the quantities",
    lines=(
        "E exp(reward / temperature): without real data, theory predicts that it rises towards its supremum "
        "and that its variance falls to zero.",
        "KL to the reference: the divergence, in nats, between the reward distributions of the model and of "
        "the reference. It is a lower bound of the divergence between the models.",
        "Entropy: the entropy of the group shares, in nats.",
        "Effective support: 1 / sum p² over the pool's candidates. Below 100 too few candidates carry the "
        "distribution, and the pool cannot support the forecast.",
        "A forecast assumes that retraining reproduces the distribution of the picks exactly; the remaining "
        "difference is the effect of retraining.",
    ),
    folded=True,
    printed=False,
)


def trajectory_sections(trajectory: Trajectory) -> list[Section]:
    """Return charts of all quantities and group shares, and tables of the forecast's errors."""
    found = trajectory.about()
    keys = [key for quantity in charts.QUANTITIES for key in found if key[0] == quantity]
    keys += [key for key in found if key[0].startswith("mean:")]
    if trajectory.where(FORECAST).rows:
        keys += [key for key in found if key[0] == "effective_support"]
    compared = narrative.comparisons(trajectory)
    sections = []
    if keys:
        title = "Measured against forecast" if compared else "Forecast"
        cards = tuple(
            Section(
                charts.title(key),
                narrative.unbanded(trajectory, key),
                chart=charts.quantity_chart(trajectory, key),
            )
            for key in keys
        )
        sections.append(Section(title, _legend(trajectory), cards=cards, printed=False))
    groups = {key[2] for key in found if key[0] == "share"}
    if groups:
        text = "Lines: forecast. " + ("Points: measured. " if trajectory.where(MEASURED).rows else "")
        text += "Click a group in the legend to single it out."
        if len(groups) > charts.GROUPS:
            text += f" The {len(groups) - charts.GROUPS} smaller groups are not drawn."
        chart = charts.shares_chart(trajectory)
        sections.append(Section("Shares of the groups", text, chart=chart, printed=False))
    if compared:
        cards = tuple(Section(c.title, c.verdict, c.table) for c in compared)
        sections.append(Section("Errors of the forecast in each round", cards=cards, printed=False))
    return sections


def _legend(trajectory: Trajectory) -> str:
    sources = {row.source for row in trajectory.rows}
    banded = any(row.lower is not None for row in trajectory.where(FORECAST).rows)
    parts = ["Lines and bands: the exact law's forecast from the first round's candidates,"]
    parts.append(
        "with 95 % bands for the sampling error of pool and picks (with 95 % probability a loop stays "
        "inside all bands in all rounds)."
        if banded
        else "without bands (too few candidates)."
    )
    for source, text in (
        (MEASURED, "Points and bars: measured, with 95 % intervals."),
        (
            RENEWED,
            "Renewed: forecasts from the latest measured round, one round ahead, or beyond the last with "
            "95 % intervals.",
        ),
        (CONTROL, "Control: the same loop without selection."),
        (TAIL, "Dashed: a fitted tail beyond the effective support."),
    ):
        parts += [text] if source in sources else []
    parts.append(
        "Hover for values, click the legend to single out, drag to move, shift + wheel to zoom, double-click "
        "to reset."
    )
    return " ".join(parts)


def _why(row: dict[str, Any]) -> str:
    return str(row["why"]) if row["verdict"] == "does not apply" else ""


def bound_sections(bounds: Sequence[dict[str, Any]]) -> list[Section]:
    """Return the sections on proved statements, which are given as plain values."""
    if not bounds:
        return []
    table = [["statement", "verdict", "round", "bound", "here", "slack", "source"]]
    for row in sorted(bounds, key=lambda row: row["verdict"] != "violated"):
        if row["verdict"] != "does not apply":
            numbers = ["" if row[n] is None else f"{row[n]:.4g}" for n in ("value", "measured", "slack")]
            at = "" if row["round"] is None else str(row["round"])
            table.append([row["name"], row["verdict"], at, *numbers, row["source"]])
    idle = [row["name"] for row in bounds if row["verdict"] == "does not apply"]
    lines = (
        (f"do not apply ({len(idle)} of {len(bounds)}): {', '.join(idle)}; report.html says why",)
        if idle
        else ()
    )
    text = (
        "Proved statements whose hypotheses hold for this population, each where it is tightest: "
        "a violation would mean that the distributions are not this loop's, or that it is false. [F]: "
        "Ferbach et al., NeurIPS 2024, arXiv 2407.09499; [P]: Falahati et al., ICML 2026, arXiv 2605.07724."
    )
    said = [["statement", "in words", "does not apply because"]]
    said += [[row["name"], row["statement"], _why(row)] for row in bounds]
    return [
        Section("Proved statements", text, table if len(table) > 1 else [], lines, marked="violated"),
        Section("The statements in words, and why some do not apply", table=said, folded=True, printed=False),
    ]
