"""Figures for papers: charts as SVG and PNG, rendered offline by vl-convert.

A figure is a report's chart in another style: as wide as a column, in small type, with a palette that
colour-blind readers can distinguish, the quantity as the axis title and the legend in the emptiest corner.
"""

from __future__ import annotations

import copy
import math
import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from recurate.core.errors import need
from recurate.core.files import atomic_path, write_text
from recurate.log.trajectory import CONTROL, FORECAST, MEASURED, RENEWED, TAIL
from recurate.report.charts import COLOURS, VIEW, nodes, settle

# Okabe and Ito's colours, starting with those that stand out on white, and two more.
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255", "#999999",
    "#F0E442",
)  # fmt: skip
PRINTED = {FORECAST: "#0072B2", MEASURED: "#D55E00", RENEWED: "#009E73", TAIL: "#CC79A7", CONTROL: "#7d8790"}
WIDTH, HEIGHT = 230, 160  # points; 3.7 inches wide with axes, about one column of most journals
PPI = 300
MOST_TICKS = 12
GAP = 0.02  # distance between legend and marks, as a share of the chart's size
TYPE = 9  # points
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
CONFIG: dict[str, Any] = {
    "background": "white",
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": TYPE - 1, "titleFontSize": TYPE, "titleFontWeight": "normal", "titlePadding": 5,
        "gridColor": "#e6e6e6", "domainColor": "#333333", "tickColor": "#333333",
        "labelColor": "#111111", "titleColor": "#111111", "tickSize": 3,
        "gridWidth": 0.5, "domainWidth": 0.8, "tickWidth": 0.8,
    },
    "legend": {
        "labelFontSize": TYPE - 1, "titleFontSize": TYPE - 1, "titleFontWeight": "normal", "labelLimit": 110,
        "labelColor": "#111111", "rowPadding": 1, "columnPadding": 6, "symbolSize": 36, "offset": 4,
        "padding": 3, "cornerRadius": 2,
    },
    "title": {"fontSize": TYPE, "fontWeight": "normal"},
}  # fmt: skip


def need_figures_extra() -> None:
    """Check that the package that renders figures is installed.

    Raises:
        InputError: If it is not installed.
    """
    need(["vl_convert"], "drawing figures", "pip install 'recurate[figures]'")


def write_figures(charts: Sequence[tuple[str, dict[str, Any]]], folder: Path) -> Path:
    """Write every chart as SVG and PNG; figures that the folder already has are removed.

    Args:
        charts: Title and Vega-Lite specification of every chart.
        folder: Folder to write to, which is created if necessary.

    Returns:
        The folder.
    """
    import vl_convert

    version = _vegalite_version()
    drawn = {}
    for title, spec in charts:
        figure = printed(spec, title)
        svg = svg_of(figure)
        png = vl_convert.vegalite_to_png(figure, vl_version=version, ppi=PPI, allowed_base_urls=[])
        name = base = view_name(spec) or "chart"
        number = 2
        while name in drawn:
            name, number = f"{base}_{number}", number + 1
        drawn[name] = (svg, png)
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.svg"), *folder.glob("*.png")):
        old.unlink()
    for name, (svg, png) in drawn.items():
        write_text(folder / f"{name}.svg", svg)
        with atomic_path(folder / f"{name}.png") as partial:
            partial.write_bytes(png)
    return folder


def svg_of(figure: dict[str, Any]) -> str:
    """Return a Vega-Lite specification drawn as SVG, without any request to a network."""
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg(figure, vl_version=_vegalite_version(), allowed_base_urls=[])
    return svg


def _vegalite_version() -> str:
    """Return the version of Vega-Lite that Altair writes, or the newest that can be drawn."""
    import altair
    import vl_convert

    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    known: list[str] = vl_convert.get_vegalite_versions()
    return version if version in known else known[-1]


def printed(spec: dict[str, Any], title: str) -> dict[str, Any]:
    """Return a chart's Vega-Lite specification in the style of a printed figure.

    Args:
        spec: Specification of the chart in the report.
        title: Title of the chart in the report; it becomes the title of a vertical axis that has none.
    """
    figure = copy.deepcopy(spec)
    figure["params"] = [p for p in figure.get("params", ()) if "select" not in p]
    slider = [p for p in figure["params"] if "bind" in p]
    for param in slider:
        del param["bind"]
    for node in nodes(figure):
        settle(node)
        if isinstance(node.get("range"), list):
            node["range"] = [_colour(c) for c in node["range"]]
        if node.get("scheme") == "tableau10":
            del node["scheme"]
            node["range"] = list(PALETTE)
        if isinstance(node.get("mark"), dict):
            _print_mark(node["mark"])
        node.pop("tooltip", None)
    square = bool(slider)
    figure["width"], figure["height"] = (WIDTH, WIDTH) if square else (WIDTH, HEIGHT)
    figure["config"] = CONFIG
    if square:
        figure["title"] = f"{title}, round {slider[0]['value']}"
    else:
        _name_axis(figure, title)
        _place_legend(figure)
    return figure


def _print_mark(mark: dict[str, Any]) -> None:
    if "strokeWidth" in mark:
        mark["strokeWidth"] = min(mark["strokeWidth"], 1.3)
    if mark.get("type") == "point" and "size" in mark:
        mark["size"] = min(mark["size"], 26)
    if "color" in mark:
        mark["color"] = _colour(mark["color"])


def _colour(colour: Any) -> Any:
    known = {COLOURS[source]: printed_colour for source, printed_colour in PRINTED.items()}
    return known.get(colour, colour) if isinstance(colour, str) else colour


def _name_axis(figure: dict[str, Any], title: str) -> None:
    """Title the vertical axis, and place a tick at every round if there is room."""
    rounds = sorted({row["round"] for row in _rows(figure) if "round" in row})
    for y in _channels(figure, "y"):
        if "field" in y:
            y["title"] = y.get("title") or textwrap.wrap(title, 30)
    for x in _channels(figure, "x"):
        if x.get("title") == "round" and 0 < len(rounds) <= MOST_TICKS:
            x["axis"] = {**(x.get("axis") or {}), "values": rounds}


def _place_legend(figure: dict[str, Any]) -> None:
    """Place the legend in the corner with the fewest marks; if no corner is empty, make room at the top."""
    names = _legend_names(figure)
    if not names:
        return
    columns = 1 if len(names) <= 4 else 2
    width = min(columns * (16 + 4.6 * max(len(n) for n in names)), 0.9 * WIDTH) / WIDTH
    height = (4 + (TYPE + 3) * math.ceil(len(names) / columns)) / HEIGHT
    marks = _marks(figure)
    corners = {
        "top-left": (0, 1 - height), "top-right": (1 - width, 1 - height),
        "bottom-right": (1 - width, 0), "bottom-left": (0, 0),
    }  # fmt: skip
    crowd = {
        name: sum(x - GAP <= a <= x + width + GAP and y - GAP <= b <= y + height + GAP for a, b in marks)
        for name, (x, y) in corners.items()
    }
    chosen = min(crowd, key=lambda name: crowd[name])
    if crowd[chosen]:
        chosen = min(("top-left", "top-right"), key=lambda name: crowd[name])
        _make_room(figure, min(height + 4 * GAP, 0.6))
    for part in _channels(figure, "color", "shape", "strokeDash"):
        if isinstance(part.get("legend"), dict):
            kept = {n: part["legend"][n] for n in ("symbolType",) if n in part["legend"]}
            part["legend"] = None if len(names) == 1 else {
                "title": None, "orient": chosen, "direction": "vertical", "columns": columns,
                "fillColor": "rgba(255,255,255,0.85)", "symbolOpacity": 1,
                **kept,
            }  # fmt: skip


def _legend_names(figure: dict[str, Any]) -> list[str]:
    for colour in _channels(figure, "color"):
        if isinstance(colour.get("legend"), dict):
            domain = colour.get("scale", {}).get("domain") or colour.get("sort")
            if isinstance(domain, list):
                return [str(name) for name in domain]
    return []


def _spread(figure: dict[str, Any]) -> tuple[float, float, bool] | None:
    """Return the least and largest value on the vertical axis, and whether they are logarithms, or None."""
    log = any(y.get("scale", {}).get("type") == "log" for y in _channels(figure, "y"))
    names = ("value", "lower", "upper")
    values = [row[name] for row in _rows(figure) for name in names if row.get(name) is not None]
    if log:
        values = [math.log(v) for v in values if v > 0]
    return (min(values), max(values), log) if values and min(values) < max(values) else None


def _marks(figure: dict[str, Any]) -> list[tuple[float, float]]:
    """Return points on all marks and lines, as coordinates in [0, 1] from the lower left corner."""
    spread = _spread(figure)
    rows = [row for row in _rows(figure) if row.get("value") is not None and "round" in row]
    if spread is None or not rows:
        return []
    low, high, log = spread
    first, last = min(r["round"] for r in rows), max(r["round"] for r in rows)
    series: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for row in rows:
        key = tuple(row.get(n) for n in ("source", "group", "run"))
        for name in ("value", "lower", "upper"):
            value = row.get(name)
            if value is not None and (value > 0 or not log):
                height = ((math.log(value) if log else value) - low) / (high - low)
                x = (row["round"] - first) / max(last - first, 1)
                series.setdefault((*key, name), []).append((0.05 + 0.9 * x, 0.04 + 0.92 * height))
    found = []
    for points in series.values():
        points.sort()
        found += points
        for (a, b), (c, d) in pairwise(points):
            found += [(a + (c - a) * i / 8, b + (d - b) * i / 8) for i in range(1, 8)]
    return found


def _make_room(figure: dict[str, Any], share: float) -> None:
    spread = _spread(figure)
    if spread is None:
        return
    low, high, log = spread
    zero = not log and all(y.get("scale", {}).get("zero", True) for y in _channels(figure, "y"))
    bottom = min(low, 0) if zero else low - 0.04 * (high - low)
    top = high + (high - bottom) * share / (1 - share)
    ends = {"domainMax": math.exp(top) if log else top}
    ends |= {} if zero else {"domainMin": math.exp(bottom) if log else bottom}
    for y in _channels(figure, "y"):
        if "field" in y:
            scale = {k: v for k, v in (y.get("scale") or {}).items() if k != "padding"}
            y["scale"] = scale | ends


def _rows(figure: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (row for rows in figure.get("datasets", {}).values() for row in rows)
    for node in nodes(figure):
        data = node.get("data")
        if isinstance(data, dict) and isinstance(data.get("values"), list):
            yield from data["values"]


def _channels(figure: dict[str, Any], *names: str) -> list[dict[str, Any]]:
    """Return the channels of these names in all encodings of a specification."""
    encodings = [n["encoding"] for n in nodes(figure) if isinstance(n.get("encoding"), dict)]
    found = [encoding.get(name) for encoding in encodings for name in names]
    return [channel for channel in found if isinstance(channel, dict)]


def view_name(spec: dict[str, Any]) -> str:
    """Return the name of a chart's main view, or nothing."""
    for node in nodes(spec):
        name = node.get("name")
        if isinstance(name, str) and name.startswith(VIEW):
            return name.removeprefix(VIEW)
    return ""
