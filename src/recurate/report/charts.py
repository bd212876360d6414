"""Charts of trajectories and of points, as Vega-Lite specifications.

Every chart and parameter is named explicitly, because Altair's automatic names count up within a process and
a rebuilt report must be identical to the first one.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import altair as alt
from altair.utils.schemapi import debug_mode

from recurate.log.trajectory import CONTROL, FORECAST, MEASURED, RENEWED, TAIL, Row, Trajectory
from recurate.report.lead import supported
from recurate.theory.forecast import SUPPORT

COLOURS = {FORECAST: "#2f6f9f", MEASURED: "#d9632b", RENEWED: "#3a8f5c", TAIL: "#8a63b0", CONTROL: "#7d8790"}
HEIGHT = 230
NOTEBOOK_WIDTH = 460  # of a chart outside a page, which has no place to fill
OF_PAGES = ("$schema", "config", "datasets")  # what Altair refuses in a layer
VIEW = "view_"  # starts the names of views that people can ask for
ZOOM, CLEAR = "wheel![event.shiftKey]", "dblclick"
ANY_SERIES = "any_series_6b1f"  # stands for the name of a series, in no name of a run
GROUPS = 10  # maximal number of groups whose shares are drawn

QUANTITIES = ("mean_reward", "mean_exp_reward", "var_exp_reward", "kl_to_reference", "entropy")
NATURAL = ("kl_to_reference", "entropy", "share")  # quantities whose size means something by itself
LEAST_SPAN, LEAST_SHARE = 0.02, 0.05  # minimal span of an axis: of such quantities; as a share of the value
# Vega writes 1.2000000000000002e+26 at ticks that are no power of ten.
LABELS = "abs(datum.value) >= 1e7 ? format(datum.value, '.3~g') : datum.label"
LIMIT = "#c0472b"  # colour of limits and constraints
PALE, PALEST = 0.3, 0.06  # opacities of what is beyond support
# Conditions on rows of a forecast. Its pale line begins in the last supported round.
WITHIN, BEYOND = " && !datum.beyond", " && (datum.beyond || datum.edge)"
Key = tuple[str, str | None, str | None]

# Decorates what draws a chart. Altair would check every part against Vega-Lite's schema as it is made, which
# takes most of a page's time; the charts are ours, and tests check them whole.
unchecked = debug_mode(False)

TITLES = {
    "mean_reward": "Mean reward",
    "mean_exp_reward": "E exp(reward / temperature)",
    "var_exp_reward": "Var exp(reward / temperature)",
    "kl_to_reference": "KL to the reference, between reward distributions (nats)",
    "entropy": "Entropy of the group shares (nats)",
    "effective_support": "Effective support of the forecast, 1 / sum p² (candidates)",
}


# Titles of the quantities measured on samples, by their names without the feature space.
MEASURES = {
    "frechet": "Frechet distance",
    "precision": "Precision",
    "recall": "Recall",
    "density": "Density",
    "coverage": "Coverage",
    "vendi": "Vendi score",
    "memorisation": "Memorisation",
    "kl_neighbours": "KL to the reference, by nearest neighbours (nats)",
    "length": "Length (words)",
    "distinct_1": "Distinct words",
    "distinct_2": "Distinct pairs of words",
    "self_bleu": "Self-BLEU",
}


def title(key: Key) -> str:
    """Return the title of a quantity, for people."""
    quantity, reward, group = key
    name, _, space = quantity.partition(":")
    if quantity == "share":
        return f"Share of {group}"
    if name in MEASURES:
        return MEASURES[name] + (f", {space}" if space else "")
    plain = quantity.replace("mean:", "mean of ").replace("_", " ").replace(":", ": ")
    base = TITLES.get(quantity, plain[:1].upper() + plain[1:])
    return base if reward in (None, "reward") else f"{base}: {reward}"


def quantity_chart(trajectory: Trajectory, key: Key) -> dict[str, Any]:
    """Return a chart of one series over rounds.

    The forecast is a line with its 95 % band; measured values are points with 95 % intervals.

    Args:
        trajectory: Trajectory with the series.
        key: Quantity, reward and group of the series.

    Returns:
        The chart's Vega-Lite specification, as for all charts of this module.
    """
    rows = [r for r in trajectory.rows if r.key == key]
    if key[0] == "effective_support":
        rows = [r for r in rows if r.source == FORECAST]
    sources = tuple(s for s in COLOURS if any(r.source == s for r in rows))
    until = None if key[0] == "effective_support" else supported(trajectory, key[2])
    log = logarithmic(key, [r.value for r in rows])
    shown = [_plain(row) | support_marks(row, until) for row in rows]
    spec = of_series(_series_chart(sources, log, any("beyond" in row for row in shown)), key, shown)
    return _with_support_line(spec) if key[0] == "effective_support" else framed(spec, key, shown)


def support_marks(row: Row, until: int | None) -> dict[str, bool]:
    """Return whether a forecast is beyond the last supported round, or in it, where its pale line begins."""
    if until is None or row.source != FORECAST or row.round < until:
        return {}
    return {"beyond": True} if row.round > until else {"edge": True}


def framed(spec: dict[str, Any], key: Key, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Give the vertical axis a minimal span, so that differences of no account are not drawn large.

    The span is at least 5 % of the largest value and, for divergences, entropies (0.02 nats) and shares
    (0.02), that much; an axis of values that are never negative does not go below zero.
    """
    known = [row[name] for row in rows for name in ("value", "lower", "upper") if row.get(name) is not None]
    if not known or logarithmic(key, known):
        return spec
    least = LEAST_SHARE * max(map(abs, known))
    wide = ends(known, max(least, LEAST_SPAN) if key[0] in NATURAL else least)
    for layer in spec["layer"]:
        y = layer["encoding"].get("y", {})
        if "scale" in y:
            y["scale"] = y["scale"] | wide
    return spec


def ends(values: Sequence[float], least: float) -> dict[str, Any]:
    """Return the ends of an axis on which values span less than ``least``; none where they span more."""
    low, high = min(values), max(values)
    if high - low >= least:
        return {}
    bottom = (low + high - least) / 2
    bottom = max(bottom, 0.0) if low >= 0 else bottom
    return {"domainMin": digits(bottom), "domainMax": digits(bottom + least)}


def _with_support_line(spec: dict[str, Any]) -> dict[str, Any]:
    """Add the line below which a forecast is beyond support, with its name."""
    y = {"field": "y", "type": "quantitative"}
    said = {"value": f"{SUPPORT:g}: below, beyond support"}
    rule = {
        "mark": {"type": "rule", "aria": False, "strokeDash": [4, 4], "color": LIMIT},
        "encoding": {"y": y},
    }
    mark = {"type": "text", "align": "left", "dx": 4, "dy": -6, "color": LIMIT}
    text = {"mark": mark, "encoding": {"y": y, "x": {"value": 0}, "text": said}}
    spec["layer"] += [layer | {"data": {"values": [{"y": SUPPORT}]}} for layer in (rule, text)]
    return spec


def of_series(drawn: str, key: Key, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a chart that was drawn for :data:`ANY_SERIES`, as JSON, with a series' name and rows."""
    spec: dict[str, Any] = json.loads(drawn.replace(ANY_SERIES, chart_name(key)))
    return spec | {"datasets": dict.fromkeys(spec["datasets"], rows)}


@cache
@unchecked
def _series_chart(sources: tuple[str, ...], log: bool, beyond: bool) -> str:
    """Return the chart of a series named :data:`ANY_SERIES`, without rows, as JSON.

    Altair takes a tenth of a second for it, and a page has a dozen series.
    """
    pick = alt.selection_point(fields=["source"], bind="legend", name=f"legend_{ANY_SERIES}")
    colour = alt.Color(
        "source:N",
        scale=alt.Scale(domain=list(sources), range=[COLOURS[s] for s in sources]),
        legend=on_top(symbolOpacity=1, symbolType="circle"),
    )
    y = value_axis(log)
    base = _over_rounds([]).encode(color=colour, opacity=singled_out(pick, 0.12))
    forecast = f"datum.source == '{FORECAST}'"
    bands = [
        base.mark_area(opacity=opacity)
        .transform_filter(f"{forecast} && isValid(datum.lower){where}")
        .encode(y=alt.Y("lower:Q", title=None), y2="upper:Q", opacity=alt.value(opacity))
        for opacity, where in ((0.18, WITHIN), (0.06, BEYOND))[: 1 + beyond]
    ]
    line = base.mark_line(strokeWidth=2).transform_filter(f"{forecast}{WITHIN}").encode(y=y)
    pale = base.encode(opacity=singled_out(pick, PALEST, PALE), y=y)
    lines = [line, pale.mark_line(strokeWidth=2).transform_filter(f"{forecast}{BEYOND}")][: 1 + beyond]
    tail = base.transform_filter(f"datum.source == '{TAIL}'")
    dashed = tail.mark_line(strokeWidth=2, strokeDash=[5, 4]).encode(y=y)
    bars = (
        base.mark_rule(strokeWidth=1.5, aria=False)
        .transform_filter(f"datum.source != '{FORECAST}' && isValid(datum.lower)")
        .encode(y=alt.Y("lower:Q"), y2="upper:Q")
    )
    points = base.mark_point(filled=True, size=55).encode(y=y, tooltip=value_tooltips())
    points = points.transform_filter("!datum.beyond") if beyond else points
    faint = pale.mark_point(filled=True, size=55).transform_filter("datum.beyond")
    faint = faint.encode(tooltip=value_tooltips())
    named = points.properties(name=f"view_{ANY_SERIES}").add_params(pick, zooming(ANY_SERIES))
    return json.dumps(finished(alt.layer(*bands, *lines, dashed, bars, *[faint][:beyond], named)))


@unchecked
def shares_chart(trajectory: Trajectory) -> dict[str, Any]:
    """Return a chart of the largest groups' shares over rounds: forecast as lines, measured as points."""
    rows = [r for r in trajectory.rows if r.quantity == "share"]
    pick = alt.selection_point(fields=["group"], bind="legend", name="legend_shares")
    groups = largest_groups(rows)
    rows = [r for r in rows if r.group in groups]
    legend = on_top(title="group", columns=5, labelLimit=70, symbolLimit=0, symbolOpacity=1)
    until = supported(trajectory)
    base = _over_rounds(rows, until).encode(
        y=alt.Y("value:Q", title=None, axis=alt.Axis(format=".0%")),
        color=alt.Color("group:N", sort=groups, scale=alt.Scale(scheme="tableau10"), legend=legend),
        opacity=singled_out(pick, 0.08),
        tooltip=[
            alt.Tooltip("group:N"),
            alt.Tooltip("source:N"),
            alt.Tooltip("round:Q", format="d"),
            alt.Tooltip("value:Q", format=".2%"),
        ],
    )
    forecast = f"datum.source == '{FORECAST}'"
    line = base.mark_line(strokeWidth=2).transform_filter(f"{forecast}{WITHIN}")
    pale = base.encode(opacity=singled_out(pick, PALEST, PALE)).mark_line(strokeWidth=2)
    pale = pale.transform_filter(f"{forecast}{BEYOND}")
    lines = [line] if until is None else [line, pale]
    points = base.mark_point(filled=True, size=45).transform_filter(f"datum.source == '{MEASURED}'")
    named = points.properties(name="view_shares").add_params(pick, zooming("shares"))
    return finished(alt.layer(*lines, named), height=320)


def largest_groups(rows: list[Row]) -> list[str]:
    """Return the at most 10 groups with the largest shares in any round, in natural order of their names."""
    top: dict[str, float] = {}
    for row in rows:
        if row.group is not None:
            top[row.group] = max(top.get(row.group, 0.0), row.value)
    chosen = sorted(top, key=lambda g: -top[g])[:GROUPS]
    return sorted(chosen, key=lambda g: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", g)])


@unchecked
def scatter_chart(
    points: list[dict[str, Any]], rounds: list[int], extent: list[list[float]]
) -> dict[str, Any]:
    """Return a scatter plot of candidates in the plane, with a slider over rounds; picks are marked.

    Args:
        points: Sample of the candidates; each has ``x, y, reward, picked, round``.
        rounds: Rounds that occur, in ascending order.
        extent: Range of both axes, [[x from, to], [y from, to]].
    """
    chart = (
        alt.Chart(inline(points))
        .mark_point(filled=True, size=18)
        .encode(
            color=alt.Color(
                "picked:N",
                scale=alt.Scale(domain=["picked", "not picked"], range=["#d9632b", "#9aa5b1"]),
                legend=on_top(),
            ),
            opacity=alt.condition("datum.picked == 'picked'", alt.value(0.9), alt.value(0.35)),
            tooltip=[alt.Tooltip("reward:Q", format=".3f"), "picked:N", "round:Q"],
        )
    )
    return _in_plane(chart, "scatter", rounds, extent, zooming("scatter"))


@unchecked
def density_chart(
    cells: list[dict[str, Any]], rounds: list[int], extent: list[list[float]]
) -> dict[str, Any]:
    """Return a density plot of all candidates on a grid, with a slider over rounds.

    Args:
        cells: Cells that are not empty; each has ``x, x2, y, y2, share, round``.
        rounds: Rounds that occur, in ascending order.
        extent: Range of both axes, [[x from, to], [y from, to]].
    """
    chart = (
        alt.Chart(inline(cells))
        .mark_rect()
        .encode(
            x2="x2:Q",
            y2="y2:Q",
            color=alt.Color(
                "share:Q",
                scale=alt.Scale(scheme="viridis", type="log"),
                legend=on_top(title="share of the candidates", format=".0e"),
            ),
            tooltip=[alt.Tooltip("share:Q", format=".3%"), "round:Q"],
        )
    )
    return _in_plane(chart, "density", rounds, extent)


def _in_plane(
    chart: alt.Chart, name: str, rounds: list[int], extent: list[list[float]], *parameters: alt.Parameter
) -> dict[str, Any]:
    """Place a chart's rows at ``x`` and ``y`` in the plane, and show one round at a time."""
    shown = _slider(name, rounds)
    x = alt.X("x:Q", title=None, scale=alt.Scale(domain=extent[0]))
    y = alt.Y("y:Q", title=None, scale=alt.Scale(domain=extent[1]))
    placed = chart.encode(x=x, y=y).transform_filter(f"datum.round == {shown.name}")
    return finished(placed.properties(name=f"view_{name}").add_params(shown, *parameters), height=380)


def inline(rows: list[dict[str, Any]]) -> Any:
    """Return the data of a chart."""
    return alt.InlineData(values=tuple(rows))  # a list would be copied with every layer


def _over_rounds(rows: list[Row], until: int | None = None) -> alt.Chart:
    """Return a chart of rows with ticks at whole rounds and room for the marks at both ends."""
    axis = alt.Axis(tickMinStep=1, format="d")
    x = alt.X("round:Q", title="round", axis=axis, scale=alt.Scale(zero=False, nice=False, padding=8))
    return alt.Chart(inline([_plain(row) | support_marks(row, until) for row in rows])).encode(x=x)


def logarithmic(key: Key, values: list[float]) -> bool:
    """Return whether the axis of a series is logarithmic: that of a positive effective support is."""
    return key[0] == "effective_support" and min(values) > 0


def value_axis(log: bool, axis: alt.Axis | None = None) -> alt.Y:
    """Return the vertical axis of a series."""
    scale = alt.Scale(zero=False, padding=6, type="log" if log else "linear")
    return alt.Y(
        "value:Q", title=None, scale=scale, axis=alt.Axis(labelExpr=LABELS) if axis is None else axis
    )


def on_top(**further: Any) -> alt.Legend:
    """Return a legend above the chart, without a title unless one is given."""
    return alt.Legend(**{"title": None, "orient": "top", **further})


def singled_out(pick: alt.Parameter, faded: float, full: float = 1) -> Any:
    """Return an opacity: ``full`` for what is picked in the legend (at first all), else ``faded``."""
    return alt.when(pick).then(alt.value(full)).otherwise(alt.value(faded))


def _slider(name: str, rounds: list[int]) -> alt.Parameter:
    every = rounds == list(range(rounds[0], rounds[-1] + 1)) and len(rounds) > 1
    bind: Any = (
        alt.binding_range(min=rounds[0], max=rounds[-1], step=1, name="round ")
        if every
        else alt.binding_select(options=rounds, name="round ")
    )
    return alt.param(name=f"round_{name}", value=rounds[-1], bind=bind)


def value_tooltips() -> list[alt.Tooltip]:
    """Return the tooltips of a value with its source, round and interval."""
    return [
        alt.Tooltip("source:N"),
        alt.Tooltip("round:Q", format="d"),
        alt.Tooltip("value:Q", format=".5g"),
        alt.Tooltip("lower:Q", format=".5g", title="95 % from"),
        alt.Tooltip("upper:Q", format=".5g", title="to"),
    ]


def zooming(name: str) -> alt.Parameter:
    """Return an interaction: drag to move, Shift + wheel to zoom; the wheel alone scrolls the page."""
    return alt.selection_interval(bind="scales", name=f"zoom_{name}", zoom=ZOOM, clear=CLEAR)


def finished(chart: Any, height: int = HEIGHT) -> dict[str, Any]:
    """Return the specification of a chart that fills its place.

    Like its parts, it is not checked against Vega-Lite's schema.
    """
    done = chart.properties(width="container", height=height).configure_view(stroke=None)
    spec: dict[str, Any] = done.to_dict(validate=False)
    return spec | {"datasets": {name: list(rows) for name, rows in spec["datasets"].items()}}


def chart_name(key: Key) -> str:
    """Return a name for a quantity's chart and parameters."""
    text = "_".join(part for part in key if part)
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in text)


def _plain(row: Row) -> dict[str, Any]:
    numbers = rounded({name: getattr(row, name) for name in ("value", "lower", "upper")})
    return {"round": row.round, "source": row.source, "group": row.group, **numbers}


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose numbers are rounded."""
    return {name: v if isinstance(v, str) else digits(v) for name, v in values.items()}


def _with_ends(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return rounded rows with ``low`` and ``high``, the ends of ``error`` on both sides of a value."""
    return [
        rounded(row) | {"low": digits(row[name] - row["error"]), "high": digits(row[name] + row["error"])}
        for row in rows
    ]


def number_tooltips(*names: str) -> list[alt.Tooltip]:
    """Return tooltips of numbers."""
    return [alt.Tooltip(f"{name}:Q", format=".4g") for name in names]


def as_chart(spec: dict[str, Any]) -> Any:
    """Return a specification as an ``altair.Chart`` that can be layered with others, and saved.

    Altair layers no charts that have a configuration, and no two parts of a chart may share names. Hence rows
    lie in the views that draw them; names, zooming and clickable legends are left out, and sliders stay.
    """
    own = {name: spec[name] for name in spec if name not in OF_PAGES}
    chart = _without_clicks(own, spec.get("datasets", {}))
    made = alt.Chart.from_dict(chart | {"width": NOTEBOOK_WIDTH})
    if "layer" in chart:  # from_dict makes charts of the outermost only, and `interactive` needs them within
        made.layer = [alt.Chart.from_dict(part, validate=False) for part in chart["layer"]]
    return made


def labelled(spec: dict[str, Any], label: str) -> dict[str, Any] | None:
    """Return a chart over rounds in which ``LABEL, SOURCE`` has a colour of its own beside other charts'.

    Returns:
        The specification; None if the chart's colours do not stand for sources.
    """
    views = copy.deepcopy({name: part for name, part in spec.items() if name != "datasets"})
    coloured = [
        node for node in nodes(views)
        if isinstance(node.get("color"), dict) and node["color"].get("field") == "source"
    ]  # fmt: skip
    if not coloured:
        return None
    own = alt.Color("label:N", legend=on_top(symbolOpacity=1, symbolType="circle")).to_dict()
    for node in coloured:
        node["color"] = own
    rows = {
        name: [row | {"label": f"{label}, {row['source']}"} for row in of]
        for name, of in spec["datasets"].items()
    }
    return views | {"datasets": rows}


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a specification except its data, outermost first."""
    if isinstance(node, dict):
        yield node
        for name, child in node.items():
            if name not in ("data", "datasets", "values"):
                yield from nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from nodes(child)


def _without_clicks(node: Any, datasets: dict[str, Any]) -> Any:
    """Return a part of a specification with its rows, without names of views and selections."""
    if isinstance(node, list):
        return [_without_clicks(part, datasets) for part in node]
    if not isinstance(node, dict):
        return node
    kept = {name: _without_clicks(part, datasets) for name, part in node.items() if name != "data"}
    settle(kept)
    if str(kept.get("name", "")).startswith(VIEW):
        del kept["name"]
    if params := [p for p in kept.pop("params", ()) if "select" not in p]:
        kept["params"] = params
    if "data" in node:
        named = node["data"].get("name")
        kept["data"] = {"values": datasets[named]} if named in datasets else node["data"]
    return kept


def settle(node: dict[str, Any]) -> None:
    """Give a part of a specification whose style depends on a click the style that it has at first."""
    condition = node.get("condition")
    first = condition[0] if isinstance(condition, list) and condition else condition
    if isinstance(first, dict) and "param" in first:
        del node["condition"]
        node["value"] = first.get("value", 1)


def digits(value: float | None) -> float | None:
    """Return a value rounded to seven digits, which keeps the file small; None if it is not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.7g}")


@unchecked
def interval_chart(bars: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return a chart of values with 95 % intervals, with one line per name.

    Args:
        bars: Values; each has ``name, value, error, group``, where ``error`` is half the interval's width.
        name: Name of the chart's view.
    """
    names = list(dict.fromkeys(b["name"] for b in bars))
    groups = list(dict.fromkeys(b["group"] for b in bars))
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=160))
    legend = on_top() if len(groups) > 1 else None
    colour = alt.Color("group:N", scale=alt.Scale(domain=groups, scheme="tableau10"), legend=legend)
    offset = alt.YOffset("group:N", sort=groups)
    encoded: dict[str, Any] = {"y": y, "color": colour} | ({"yOffset": offset} if len(groups) > 1 else {})
    base = alt.Chart(inline(_with_ends(bars, "value"))).encode(**encoded)
    rule = base.mark_rule().encode(x=alt.X("low:Q", title=None), x2="high:Q")
    tooltip = ["name:N", "group:N", *number_tooltips("value")]
    points = base.mark_point(filled=True, size=45, opacity=1).encode(x=alt.X("value:Q"), tooltip=tooltip)
    zero = alt.Chart(inline([{"x": 0}])).mark_rule(strokeDash=[3, 3], color="#9aa5b1").encode(x="x:Q")
    layers = alt.layer(zero, rule, points.properties(name=f"view_{name}"))
    return finished(layers, height=max(60, 18 * len(names) * max(1, len(groups) // 2)))


@unchecked
def calibration_chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a calibration plot: the share picked against the predicted probability.

    Args:
        rows: Bins of predicted probability; each has ``predicted, picked, error, candidates``, where
            ``error`` is half the width of the interval of ``picked``.
    """
    top = max(max(r["predicted"], r["picked"] + r["error"]) for r in rows)
    line = alt.Chart(inline([{"x": 0, "y": 0}, {"x": top, "y": top}]))
    diagonal = line.mark_line(strokeDash=[3, 3], color="#9aa5b1").encode(x="x:Q", y="y:Q")
    values = inline(_with_ends(rows, "picked"))
    base = alt.Chart(values).encode(x=alt.X("predicted:Q", title="predicted probability"))
    rule = base.mark_rule(color=COLOURS[MEASURED]).encode(y=alt.Y("low:Q", title="picked"), y2="high:Q")
    points = base.mark_point(filled=True, size=55, color=COLOURS[MEASURED], opacity=1)
    tooltip = number_tooltips("predicted", "picked", "candidates")
    named = points.encode(y="picked:Q", tooltip=tooltip).properties(name="view_calibration")
    return finished(alt.layer(diagonal, rule, named), height=280)


@unchecked
def parts_chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a chart of each round's change of the mean reward, stacked by its parts.

    Args:
        rows: Bars; each has ``round, part, value``, where the part is selection, sampling or transmission.
    """
    parts = ["selection", "sampling", "transmission"]
    colour = alt.Color(
        "part:N",
        scale=alt.Scale(domain=parts, range=[COLOURS[FORECAST], COLOURS[MEASURED], COLOURS[RENEWED]]),
        legend=on_top(),
    )
    bars = alt.Chart(inline([rounded(row) for row in rows])).mark_bar()
    chart = bars.encode(
        x=alt.X("round:O", title="round"),
        y=alt.Y("value:Q", title="change of the mean reward"),
        color=colour,
        tooltip=["round:O", "part:N", *number_tooltips("value")],
    )
    return finished(chart.properties(name="view_parts"), height=260)


@unchecked
def frontier_chart(
    points: list[dict[str, Any]], here: dict[str, Any], axis: str, name: str, limit: float | None = None
) -> dict[str, Any]:
    """Return a chart of a frontier of plans, on which the chosen plan and the constraint are marked.

    Args:
        points: Points of the frontier; each has ``x, y, label, short``, where ``short`` is what is written
            beside it: K and the real share, or "".
        here: Chosen plan, with ``x``, ``y`` and ``short``.
        axis: Title of the horizontal axis.
        name: Name of the chart's view; the horizontal axis of ``cost`` is logarithmic.
        limit: Bound on the horizontal axis, drawn as a line: the least entropy, the largest cost; or None.
    """
    rows = [rounded(point) for point in points]
    scale = alt.Scale(zero=False, type="log" if name == "cost" else "linear")
    if name != "cost":
        scale = alt.Scale(zero=False, **ends([p["x"] for p in [*rows, here]], LEAST_SPAN))
    numbers = alt.Axis(format="~s") if name == "cost" else alt.Axis()  # 20k: long numbers would collide
    base = alt.Chart(inline(rows)).encode(
        x=alt.X("x:Q", title=axis, scale=scale, axis=numbers),
        y=alt.Y("y:Q", title="objective", scale=alt.Scale(zero=False)),
    )
    line = base.mark_line(color=COLOURS[FORECAST], strokeWidth=2)
    dots = base.mark_point(filled=True, size=50, color=COLOURS[FORECAST], opacity=1).encode(
        tooltip=["label:N", *number_tooltips("x", "y")]
    )
    mark = alt.Chart(inline([rounded(here)])).mark_point(
        shape="diamond", filled=True, size=160, color=COLOURS[MEASURED], opacity=1
    )
    plan = mark.encode(x=alt.X("x:Q", scale=scale), y="y:Q")
    written = base.mark_text(align="left", dx=6, dy=-7, fontSize=10).encode(text="short:N")
    chosen = mark.mark_text(align="left", dx=10, dy=11, fontSize=11, fontWeight="bold").encode(
        x=alt.X("x:Q", scale=scale), y="y:Q", text="short:N"
    )
    layers = [line, dots.properties(name=f"view_{name}"), written, plan, chosen]
    if limit is not None:
        bound = alt.Chart(inline([{"x": limit, "short": f"constraint: {digits(limit):.4g}"}]))
        place = bound.encode(x=alt.X("x:Q", scale=scale))
        layers.append(place.mark_rule(strokeDash=[4, 4], color=LIMIT))
        layers.append(
            place.mark_text(align="right", dx=-4, dy=8, color=LIMIT).encode(y=alt.value(0), text="short:N")
        )
    spec = finished(alt.layer(*layers), height=260)
    return framed(spec, ("objective", None, None), [{"value": p["y"]} for p in [*rows, here]])


@unchecked
def phase_chart(
    cells: list[dict[str, Any]], order: tuple[list[str], list[str]], here: dict[str, str] | None, axis: str
) -> dict[str, Any]:
    """Return a phase diagram over K and another setting, on which the chosen plan is marked.

    Args:
        cells: Cells; each has ``k, value, share``, where a share of None means that the loop has no limit.
        order: Order of the values of K, and of the other setting's values.
        here: Chosen plan, with ``k`` and ``value``, or None.
        axis: Title of the horizontal axis, the name of the other setting.
    """
    x = alt.X("value:O", sort=order[1], title=axis)
    y = alt.Y("k:O", sort=order[0], title="K")
    base = alt.Chart(inline(cells)).encode(x=x, y=y)
    squares = base.mark_rect().encode(
        color=alt.Color(
            "share:Q", scale=alt.Scale(scheme="viridis", domain=[0, 1]), legend=alt.Legend(title="share")
        ),
        tooltip=["k:O", "value:O", alt.Tooltip("share:Q", format=".3f")],
    )
    layers = [squares.properties(name=f"view_phase_{chart_name((axis, None, None))}")]
    if here is not None:
        mark = alt.Chart(inline([here])).mark_point(size=180, strokeWidth=3, color="#d9632b", filled=False)
        layers.append(mark.encode(x=x, y=y))
    return finished(alt.layer(*layers), height=260)
