"""Runs side by side: charts that overlay them, a table to print, one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import altair as alt

from recurate.core.files import write_text
from recurate.core.version import VERSION
from recurate.log.trajectory import FORECAST, MEASURED, Trajectory
from recurate.report import charts
from recurate.report.figures import PALETTE
from recurate.report.html import place, render
from recurate.report.page import QUANTITIES
from recurate.verbs.compare.compare import Cell, Comparison, Key, label

MAIN = ("mean_reward", "mean_exp_reward", "kl_to_reference", "entropy")  # printed, with the largest shares
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)
PARTS = ("selection", "sampling", "sampling_band", "transmission")  # of a change: in the charts and files
SUPPORT = "effective_support"  # a forecast's; what was measured has one only in name
DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
DODGE = 0.3  # of a round: how far apart the runs' points are in all


def comparison_charts(found: Comparison) -> list[tuple[str, dict[str, Any]]]:
    """Return a chart for every common quantity, with its title."""
    ordered = [key for quantity in QUANTITIES for key in found.keys if key[0] == quantity]
    shares = [key for key in found.keys if key[0] == "share"]
    rows = [row for run in found.runs for row in run.trajectory.rows if row.key in set(shares)]
    largest = charts.largest_groups(rows)
    ordered += [key for group in largest for key in shares if key[2] == group]
    known = {*QUANTITIES, "share", SUPPORT, "sampling_band"}
    ordered += [key for key in found.keys if key[0] not in known]
    ordered += [key for key in found.keys if key[0] == SUPPORT]
    return [(key_title(found.runs, key), overlay_chart(found.runs, key)) for key in ordered]


class Named(Protocol):
    """What is overlaid: anything with a name and a trajectory."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def trajectory(self) -> Trajectory:
        """Its values."""
        ...


def key_title(runs: Sequence[Named], key: Key) -> str:
    """Return a quantity's title for people."""
    if key[0] == "share":
        return f"Share of {key[2]}"
    row = next(row for run in runs for row in run.trajectory.rows if row.key == key)
    title = charts.title(row)
    plain = title.replace(":", ": ").replace("_", " ")  # a quantity without a title of its own
    return title if title != row.quantity else plain[0].upper() + plain[1:]


def overlay_chart(runs: Sequence[Named], key: Key) -> dict[str, Any]:
    """Return one quantity of all runs over rounds: measured as points with intervals, forecasts as lines."""
    name = "".join(c if c.isalnum() and c.isascii() else "_" for c in "_".join(p for p in key if p))
    names = [run.name for run in runs]
    values = [v for i, run in enumerate(runs) for v in _values(run, key, i, len(runs))]
    rounds = sorted({v["round"] for v in values})
    pick = alt.selection_point(fields=["run"], bind="legend", name=f"legend_{name}")
    zoom = alt.selection_interval(
        bind="scales", name=f"zoom_{name}", zoom="wheel![event.shiftKey]", clear="dblclick"
    )
    present = [i for i, name in enumerate(names) if any(v["run"] == name for v in values)]
    colours, shapes = [PALETTE[i % len(PALETTE)] for i in present], [SHAPES[i % len(SHAPES)] for i in present]
    names = [names[i] for i in present]
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1, columns=4, labelLimit=150)
    colour = alt.Color("run:N", scale=alt.Scale(domain=names, range=colours), legend=legend)
    shape = alt.Shape("run:N", scale=alt.Scale(domain=names, range=shapes), legend=legend)
    axis = alt.Axis(format="d", **({"values": rounds} if len(rounds) <= 12 else {"tickMinStep": 1}))
    wide = alt.Scale(zero=False, nice=False, padding=10)
    x = alt.X("round:Q", title="round", axis=axis, scale=wide)
    beside = alt.X("x:Q", title="round", axis=axis, scale=wide)
    log = key[0] == SUPPORT and min(v["value"] for v in values) > 0
    percent = alt.Axis(format=".0%") if key[0] == "share" else alt.Axis()
    y = alt.Y(
        "value:Q", title=None, axis=percent,
        scale=alt.Scale(zero=False, padding=6, type="log" if log else "linear"),
    )  # fmt: skip
    faded = alt.when(pick).then(alt.value(1)).otherwise(alt.value(0.1))
    base = alt.Chart(alt.InlineData(values=values)).encode(color=colour, opacity=faded)
    # Equal lines show through each other's gaps. A scale of dashes would dash the legend's symbols too.
    lines = [
        base.mark_line(strokeWidth=2, strokeDash=dash)
        .transform_filter(f"datum.source == '{FORECAST}' && datum.dash == {number}")
        .encode(x=x, y=y)
        for number, dash in enumerate(DASHES)
        if any(v["dash"] == number for v in values)
    ]
    measured = base.transform_filter(f"datum.source == '{MEASURED}'")
    bars = (
        measured.mark_rule(strokeWidth=1.5)
        .transform_filter("isValid(datum.lower)")
        .encode(x=beside, y=alt.Y("lower:Q", title=None, axis=percent), y2="upper:Q")
    )
    tooltip = [
        alt.Tooltip("run:N"),
        alt.Tooltip("source:N"),
        alt.Tooltip("round:Q", format="d"),
        alt.Tooltip("value:Q", format=".5g"),
        alt.Tooltip("lower:Q", format=".5g", title="95 % from"),
        alt.Tooltip("upper:Q", format=".5g", title="to"),
    ]
    # Where nothing was measured the points mark the forecast's values.
    shown = measured if any(v["source"] == MEASURED for v in values) else base
    points = shown.mark_point(filled=True, size=60).encode(x=beside, y=y, shape=shape, tooltip=tooltip)
    named = points.properties(name=f"view_{name}").add_params(pick, zoom)
    finished = alt.layer(*lines, bars, named).properties(width="container", height=charts.HEIGHT)
    return charts.specification(finished.configure_view(stroke=None))


def _values(run: Named, key: Key, index: int, count: int) -> list[dict[str, Any]]:
    shift = DODGE * (index / (count - 1) - 0.5) / max(1, 8 / count)
    values = []
    for row in run.trajectory.rows:
        if row.key == key and row.source in ((FORECAST,) if key[0] == SUPPORT else (FORECAST, MEASURED)):
            place_ = row.round + (shift if row.source == MEASURED else 0)
            numbers = {n: _digits(getattr(row, n)) for n in ("value", "lower", "upper")}
            if numbers["value"] is not None:
                values.append(
                    {
                        "dash": index % len(DASHES),
                        "run": run.name,
                        "source": row.source,
                        "round": row.round,
                        "x": round(place_, 4),
                        **numbers,
                    }
                )
    return values


def _digits(value: float | None) -> float | None:
    return charts._digits(value)


def table_rows(found: Comparison) -> list[list[str]]:
    """Return the main cells as text, heading first."""
    first = found.runs[0].name
    rows = [["", "run", "measured", "95 % interval", f"minus {first}", "95 % interval"]]
    for key in _shown(found):
        have = [c for c in found.cells if c.key == key and c.row is not None]
        for i, cell in enumerate(have):
            rows.append([label(key) if i == 0 else "", cell.run, *_texts(cell)])
    return rows


def _shown(found: Comparison) -> list[Key]:
    keys = list(dict.fromkeys(cell.key for cell in found.cells))
    rows = [c.row for c in found.cells if c.row is not None and c.key[0] == "share"]
    groups = charts.largest_groups(rows)
    shares = [key for group in groups for key in keys if key[0] == "share" and key[2] == group]
    other = [key for key in keys if key[0] not in (*MAIN, *PARTS, "share", "var_exp_reward", SUPPORT)]
    return [key for quantity in MAIN for key in keys if key[0] == quantity] + shares + other


def _texts(cell: Cell) -> list[str]:
    if cell.row is None:
        return ["-", "", "", ""]
    gap = cell.difference
    return [
        f"{cell.row.value:.4g}",
        _interval(cell.row.lower, cell.row.upper),
        "" if gap is None else f"{gap[0]:+.3g}",
        "" if gap is None else _interval(gap[1], gap[2], "+.3g"),
    ]


def _interval(lower: float | None, upper: float | None, form: str = ".4g") -> str:
    return "" if lower is None or upper is None else f"{lower:{form}} to {upper:{form}}"


def write_comparison(found: Comparison, path: Path) -> None:
    """Write the page."""
    specs: list[tuple[str, str]] = []
    shown = [(title, place(specs, spec)) for title, spec in comparison_charts(found)]
    names = [run.name for run in found.runs]
    folders = [(run.name, str(run.path), run.rounds - 1) for run in found.runs]
    write_text(
        path,
        render(
            "compare.html.j2", title=" and ".join([", ".join(names[:-1]), names[-1]]) + " compared",
            subtitle=f"recurate {VERSION}", summary=summary_of(found), warnings=found.notes,
            charts=shown, table=table_rows(found), round=found.round, names=names, first=names[0],
            settings=found.settings, folders=folders, specs=specs,
        ),
    )  # fmt: skip


def summary_of(found: Comparison) -> str:
    """Return in a sentence or two which mean rewards differ in the last common round."""
    told = []
    for key in found.keys:
        if key[0] != "mean_reward":
            continue
        cells = [c for c in found.cells if c.key == key and c.row is not None]
        values = ", ".join(f"{c.row.value:.4g} ({c.run})" for c in cells if c.row is not None)
        told.append(f"{label(key).replace('_', ' ')} is {values}")
    return (
        f"In round {found.round}, the last that all runs have, " + "; ".join(told) + "."
        if told
        else (f"Round {found.round} is the last that all runs have.")
    )
