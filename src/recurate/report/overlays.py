"""Charts that overlay one quantity of several runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import altair as alt

from recurate.log.trajectory import FORECAST, MEASURED, Trajectory
from recurate.report import charts
from recurate.report.figures import PALETTE
from recurate.report.lead import supported

SHAPES = (
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left",
)  # fmt: skip
SUPPORT = "effective_support"  # drawn for forecasts only
DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
DODGE = 0.3  # rounds between the points of the first and the last run


def overlay_chart(runs: Mapping[str, Trajectory], key: charts.Key) -> dict[str, Any]:
    """Return one quantity of all runs over rounds: measured as points with intervals, forecasts as lines."""
    values = [v for i, run in enumerate(runs) for v in _values(run, runs[run], key, i, len(runs))]
    drawn = _overlay(
        tuple((i, name) for i, name in enumerate(runs) if any(v["run"] == name for v in values)),
        tuple(sorted({v["round"] for v in values})),
        key[0] == "share",
        charts.logarithmic(key, [v["value"] for v in values]),
        any(v["source"] == MEASURED for v in values),
        any("beyond" in v for v in values),
    )
    return charts.framed(charts.of_series(drawn, key, values), key, values)


@cache
@charts.unchecked
def _overlay(
    present: tuple[tuple[int, str], ...],
    rounds: tuple[int, ...],
    percent: bool,
    log: bool,
    measuring: bool,
    beyond: bool,
) -> str:
    """Return the chart of any series, as JSON: Altair takes long, and a page has dozens."""
    pick = alt.selection_point(fields=["run"], bind="legend", name=f"legend_{charts.ANY_SERIES}")
    names = [name for _, name in present]
    colours, shapes = [[known[i % len(known)] for i, _ in present] for known in (PALETTE, SHAPES)]
    legend = charts.on_top(symbolOpacity=1, columns=4, labelLimit=150)
    colour = alt.Color("run:N", scale=alt.Scale(domain=names, range=colours), legend=legend)
    shape = alt.Shape("run:N", scale=alt.Scale(domain=names, range=shapes), legend=legend)
    axis = alt.Axis(format="d", **({"values": list(rounds)} if len(rounds) <= 12 else {"tickMinStep": 1}))
    wide = alt.Scale(zero=False, nice=False, padding=10)
    x = alt.X("round:Q", title="round", axis=axis, scale=wide)
    beside = alt.X("x:Q", title="round", axis=axis, scale=wide)
    ticks = alt.Axis(format=".0%") if percent else None
    y = charts.value_axis(log, axis=ticks)
    base = alt.Chart(charts.inline([])).encode(color=colour, opacity=charts.singled_out(pick, 0.1))
    # Equal lines show through each other's gaps. A scale of dashes would dash the legend's symbols too.
    lines = [
        base.mark_line(strokeWidth=2, strokeDash=DASHES[number])
        .transform_filter(f"datum.source == '{FORECAST}' && datum.dash == {number}{where}")
        .encode(x=x, y=y, opacity=charts.singled_out(pick, charts.PALEST, opacity))
        for number in sorted({i % len(DASHES) for i, _ in present})
        for opacity, where in ((1, charts.WITHIN), (charts.PALE, charts.BEYOND))[: 1 + beyond]
    ]
    measured = base.transform_filter(f"datum.source == '{MEASURED}'")
    bars = (
        measured.mark_rule(strokeWidth=1.5)
        .transform_filter("isValid(datum.lower)")
        .encode(x=beside, y=alt.Y("lower:Q", title=None, axis=ticks), y2="upper:Q")
    )
    tooltip = [alt.Tooltip("run:N"), *charts.value_tooltips()]
    # Where nothing was measured the points mark the forecast's values.
    shown = measured if measuring else base
    points = shown.mark_point(filled=True, size=60).encode(x=beside, y=y, shape=shape, tooltip=tooltip)
    named = points.properties(name=f"view_{charts.ANY_SERIES}")
    zoomed = named.add_params(pick, charts.zooming(charts.ANY_SERIES))
    return json.dumps(charts.finished(alt.layer(*lines, bars, zoomed)))


def _values(
    run: str, trajectory: Trajectory, key: charts.Key, index: int, count: int
) -> list[dict[str, Any]]:
    shift = DODGE * (index / max(count - 1, 1) - 0.5) / max(1, 8 / count)
    values = []
    until = None if key[0] == SUPPORT else supported(trajectory, key[2])
    for row in trajectory.rows:
        if row.key == key and row.source in ((FORECAST,) if key[0] == SUPPORT else (FORECAST, MEASURED)):
            place_ = row.round + (shift if row.source == MEASURED else 0)
            numbers = {n: charts.digits(getattr(row, n)) for n in ("value", "lower", "upper")}
            if numbers["value"] is not None:
                own = {"run": run, "source": row.source, "round": row.round, "x": round(place_, 4)}
                values.append(
                    {"dash": index % len(DASHES), **own, **numbers, **charts.support_marks(row, until)}
                )
    return values


@charts.unchecked
def grid_chart(points: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return a chart of a share over K, for several shares of real data.

    Args:
        points: Points; each has ``k, real, measured, forecast``.
        name: Name of the chart's view.
    """
    base = alt.Chart(charts.inline([charts.rounded(point) for point in points])).encode(
        x=alt.X("k:Q", title="K", scale=alt.Scale(type="log", base=2), axis=alt.Axis(format="d")),
        color=alt.Color(
            "real:N", title="real fraction", scale=alt.Scale(range=PALETTE), legend=charts.on_top()
        ),
        tooltip=["k:O", "real:N", *charts.number_tooltips("measured", "forecast")],
    )
    ticks = alt.Axis(format=".0%")
    line = base.mark_line(strokeWidth=2).encode(y=alt.Y("forecast:Q", title="largest share", axis=ticks))
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(y="measured:Q")
    return charts.finished(alt.layer(line, dots.properties(name=f"view_grid_{name}")), height=260)


@charts.unchecked
def beside_chart(points: list[dict[str, Any]], name: str, axis: str) -> dict[str, Any]:
    """Return a chart of exact values as lines beside trained ones as points, over a share on a log axis.

    Args:
        points: Points; each has ``x, value, series, source``, where the source is ``exact``, ``trained`` or
            ``bound``; trained ones may have ``lower`` and ``upper``.
        name: Name of the chart's view.
        axis: Title of the horizontal axis.
    """
    series = list(dict.fromkeys(point["series"] for point in points))
    legend = charts.on_top(symbolOpacity=1, columns=1, labelLimit=400)
    base = alt.Chart(charts.inline([charts.rounded(point) for point in points])).encode(
        x=alt.X("x:Q", title=axis, scale=alt.Scale(type="log"), axis=alt.Axis(format=".0%")),
        color=alt.Color("series:N", scale=alt.Scale(domain=series, range=PALETTE), legend=legend),
        tooltip=["series:N", "source:N", *charts.number_tooltips("x", "value", "lower", "upper")],
    )
    y = charts.value_axis(log=True)
    lines = base.mark_line(strokeWidth=2).transform_filter("datum.source == 'exact'").encode(y=y)
    bound = base.mark_line(strokeWidth=2, strokeDash=[6, 4]).transform_filter("datum.source == 'bound'")
    trained = base.transform_filter("datum.source == 'trained'")
    bars = trained.transform_filter("isValid(datum.lower) && datum.lower > 0").mark_rule(strokeWidth=1.5)
    bars = bars.encode(y=alt.Y("lower:Q", title=None), y2="upper:Q")
    dots = trained.mark_point(filled=True, size=60, opacity=1).encode(y=y)
    layers = alt.layer(lines, bound.encode(y=y), bars, dots.properties(name=f"view_{name}"))
    return charts.finished(layers, height=280)
