"""Charts that overlay one quantity of several runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt

from recurate.log.trajectory import FORECAST, MEASURED, Trajectory
from recurate.report import charts
from recurate.report.figures import PALETTE

SHAPES = (
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left",
)  # fmt: skip
SUPPORT = "effective_support"  # drawn for forecasts only
DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
DODGE = 0.3  # rounds between the points of the first and the last run


@charts.unchecked
def overlay_chart(runs: Mapping[str, Trajectory], key: charts.Key) -> dict[str, Any]:
    """Return one quantity of all runs over rounds: measured as points with intervals, forecasts as lines."""
    name, names = charts.chart_name(key), list(runs)
    values = [v for i, run in enumerate(names) for v in _values(run, runs[run], key, i, len(runs))]
    rounds = sorted({v["round"] for v in values})
    pick = alt.selection_point(fields=["run"], bind="legend", name=f"legend_{name}")
    present = [i for i, name in enumerate(names) if any(v["run"] == name for v in values)]
    colours, shapes = [PALETTE[i % len(PALETTE)] for i in present], [SHAPES[i % len(SHAPES)] for i in present]
    names = [names[i] for i in present]
    legend = charts.on_top(symbolOpacity=1, columns=4, labelLimit=150)
    colour = alt.Color("run:N", scale=alt.Scale(domain=names, range=colours), legend=legend)
    shape = alt.Shape("run:N", scale=alt.Scale(domain=names, range=shapes), legend=legend)
    axis = alt.Axis(format="d", **({"values": rounds} if len(rounds) <= 12 else {"tickMinStep": 1}))
    wide = alt.Scale(zero=False, nice=False, padding=10)
    x = alt.X("round:Q", title="round", axis=axis, scale=wide)
    beside = alt.X("x:Q", title="round", axis=axis, scale=wide)
    percent = alt.Axis(format=".0%") if key[0] == "share" else alt.Axis()
    y = charts.value_axis(key, [v["value"] for v in values], axis=percent)
    base = alt.Chart(charts.inline(values)).encode(color=colour, opacity=charts.singled_out(pick, 0.1))
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
    tooltip = [alt.Tooltip("run:N"), *charts.value_tooltips()]
    # Where nothing was measured the points mark the forecast's values.
    shown = measured if any(v["source"] == MEASURED for v in values) else base
    points = shown.mark_point(filled=True, size=60).encode(x=beside, y=y, shape=shape, tooltip=tooltip)
    named = points.properties(name=f"view_{name}").add_params(pick, charts.zooming(name))
    return charts.finished(alt.layer(*lines, bars, named))


def _values(
    run: str, trajectory: Trajectory, key: charts.Key, index: int, count: int
) -> list[dict[str, Any]]:
    shift = DODGE * (index / max(count - 1, 1) - 0.5) / max(1, 8 / count)
    values = []
    for row in trajectory.rows:
        if row.key == key and row.source in ((FORECAST,) if key[0] == SUPPORT else (FORECAST, MEASURED)):
            place_ = row.round + (shift if row.source == MEASURED else 0)
            numbers = {n: charts.digits(getattr(row, n)) for n in ("value", "lower", "upper")}
            if numbers["value"] is not None:
                own = {"run": run, "source": row.source, "round": row.round, "x": round(place_, 4)}
                values.append({"dash": index % len(DASHES), **own, **numbers})
    return values
