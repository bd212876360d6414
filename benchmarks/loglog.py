"""Plain SVG charts with logarithmic axes, side by side. No dependency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 480, 360  # of one panel
LEFT, RIGHT, TOP, BOTTOM = 68, 112, 46, 52  # margins inside it
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#7a5195", "#5c6670")


@dataclass(frozen=True)
class Panel:
    """One chart: series name -> points (x, y), both positive; ``inf`` as x stands apart at the right."""

    title: str
    x: str
    y: str
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def write(path: Path, panels: Sequence[Panel], columns: int = 2) -> None:
    """Write the panels row by row."""
    rows = -(-len(panels) // columns)
    size = f'width="{columns * WIDTH}" height="{rows * HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {columns * WIDTH} {rows * HEIGHT}"'
        ' font-family="Inter, Helvetica, Arial, sans-serif" font-size="12" fill="#222">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for i, panel in enumerate(panels):
        parts.append(f'<g transform="translate({i % columns * WIDTH} {i // columns * HEIGHT})">')
        parts += _draw(panel)
        parts.append("</g>")
    path.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")


def _draw(panel: Panel) -> list[str]:
    points = [point for line in panel.series.values() for point in line]
    finite = [x for x, _ in points if math.isfinite(x)]
    low, high = _whole(finite)
    bottom, top = _whole([y for _, y in points])
    apart = len(finite) < len(points)
    right, end = WIDTH - RIGHT, WIDTH - RIGHT - (34 if apart else 0)

    def across(x: float) -> float:
        share = (math.log10(x) - low) / (high - low) if math.isfinite(x) else 0.0
        return LEFT + share * (end - LEFT) if math.isfinite(x) else right

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(y) - bottom) / (top - bottom) * (HEIGHT - BOTTOM - TOP)

    out = [f'<text x="{LEFT}" y="24" font-size="14" font-weight="600">{escape(panel.title)}</text>']
    for value, major in _ticks(bottom, top):
        y = up(value)
        out.append(_line(LEFT, y, right, y, "#dde1e4" if major else "#f1f3f4"))
        if major or (top - bottom <= 1 and f"{value:e}"[0] in "2357"):
            out.append(_text(LEFT - 8, y + 4, _label(value), "end"))
    for value, major in _ticks(low, high):
        x = across(value)
        out.append(_line(x, TOP, x, HEIGHT - BOTTOM, "#dde1e4" if major else "#f1f3f4"))
        if major or (high - low <= 1 and f"{value:e}"[0] != "9"):
            out.append(_text(x, HEIGHT - BOTTOM + 17, _label(value), "middle"))
    if apart:
        out.append(_line(right, TOP, right, HEIGHT - BOTTOM, "#dde1e4"))
        out.append(_text(right, HEIGHT - BOTTOM + 17, "∞", "middle"))
    out.append(_line(LEFT, HEIGHT - BOTTOM, right, HEIGHT - BOTTOM, "#8a949c"))
    out.append(_text((LEFT + right) / 2, HEIGHT - 14, panel.x, "middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turn = f'transform="rotate(-90 17 {middle})"'
    out.append(f'<text x="17" y="{middle}" text-anchor="middle" {turn}>{escape(panel.y)}</text>')
    heights: list[float] = []
    for colour, (name, line) in zip(COLOURS, panel.series.items(), strict=False):
        places = [(across(x), up(y)) for x, y in line]
        joined = [place for place, (x, _) in zip(places, line, strict=True) if math.isfinite(x)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in joined)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"/>' for x, y in places]
        if len(panel.series) == 1:
            continue
        last, height = places[-1][0], places[-1][1] + 4
        if last < right - 20:  # a line that ends early is named beside its end
            out.append(_text(last - 8, height - 8, name, "end", colour))
            continue
        while any(abs(height - other) < 14 for other in heights):
            height += 1
        heights.append(height)
        out.append(_text(right + 9, height, name, "start", colour))
    return out


def _whole(values: list[float]) -> tuple[int, int]:
    """Return the exponents of the powers of ten around values."""
    low, high = math.floor(math.log10(min(values)) + 1e-9), math.ceil(math.log10(max(values)) - 1e-9)
    return low, max(high, low + 1)


def _ticks(low: int, high: int) -> list[tuple[float, bool]]:
    """Return grid lines (value, whether it is a power of ten)."""
    marks = [(digit * 10.0**e, digit == 1) for e in range(low, high) for digit in range(1, 10)]
    return [*marks, (10.0**high, True)]


def _label(value: float) -> str:
    if 1e-2 <= value < 1e3:
        return f"{value:g}"
    exponent = str(round(math.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{exponent}"


def _line(x: float, y: float, to_x: float, to_y: float, colour: str) -> str:
    return f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#444") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
