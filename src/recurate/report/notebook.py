"""A result in a notebook: a small piece of HTML without scripts, which every viewer of notebooks shows."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.util import find_spec
from typing import Any

from recurate.report.figures import printed, svg_of
from recurate.report.reading import TITLE as READING
from recurate.report.sections import Section, charts_of

MOST_ROWS, MOST_FACTS, LONGEST = 12, 12, 60
WIDTH = 420  # pixels
SHOWN_ELSEWHERE = ("recurate", "source", "summary", "warnings")
NO_PICTURE = "result.plot() draws the charts; pip install 'recurate[figures]' shows the first one here."


def fragment(
    verb: str, title: str, said: Sequence[str], warnings: Sequence[str], facts: Mapping[str, Any],
    sections: Sequence[Section],
) -> str:  # fmt: skip
    """Return a result as HTML: verb, title, what it says, warnings, one chart, one table, single facts.

    Args:
        verb: Name of the verb.
        title: Title of the report.
        said: Lead and summary, a paragraph each; empty ones are left out.
        warnings: Reservations.
        facts: Facts by name, of which single values are shown.
        sections: Sections of the report; the first chart and one printed table are shown.
    """
    return "".join([
        f"<p><b>{escape(title)}</b> <small>recurate {escape(verb)}</small></p>",
        *(f"<p>{escape(text)}</p>" for text in said if text),
        *(f"<p>⚠ Warning: {escape(text)}</p>" for text in warnings),
        _picture(sections), _table(_main(sections)), _single(facts),
    ])  # fmt: skip


def _main(sections: Sequence[Section]) -> Sequence[Sequence[str]]:
    """Return the table with a row that is marked, else the first with a heading, else the first, if any."""
    printed = [s for s in sections if s.printed and s.table and s.title != READING]
    judged = [s.table for s in printed if s.marked and any(s.marked in row for row in s.table)]
    return next(
        iter([*judged, *(s.table for s in printed if any(s.table[0])), *(s.table for s in printed)]), []
    )


def _picture(sections: Sequence[Section]) -> str:
    """Return the first chart as a picture within the page, which no other picture's names disturb."""
    first = next(charts_of(sections), None)
    if first is None:
        return ""
    if find_spec("vl_convert") is None:
        return f"<p><small>{escape(NO_PICTURE)}</small></p>"
    title, spec = first
    svg = base64.b64encode(svg_of(printed(spec, title)).encode()).decode()
    return f'<p><img alt="Chart: {escape(title)}" width="{WIDTH}" src="data:image/svg+xml;base64,{svg}"></p>'


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    shown = rows[: MOST_ROWS + 1]
    cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in shown[1:]]
    heading = "".join(f"<th>{escape(cell)}</th>" for cell in shown[0])
    more = f"<p><small>and {len(rows) - len(shown)} more rows</small></p>" if len(rows) > len(shown) else ""
    return f"<table><tr>{heading}</tr>" + "".join(f"<tr>{row}</tr>" for row in cells) + f"</table>{more}"


def _single(facts: Mapping[str, Any]) -> str:
    """Return the facts that are single values, folded; those that are tables are left to ``result.facts``."""
    flat = [
        (name if inner is None else f"{name}: {inner}", _shown(value))
        for name, fact in facts.items() if name not in SHOWN_ELSEWHERE
        for inner, value in (fact.items() if isinstance(fact, dict) else [(None, fact)])
    ]  # fmt: skip
    kept = [(name, text) for name, text in flat if text and len(text) <= LONGEST][:MOST_FACTS]
    if not kept:
        return ""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in kept)
    return f"<details><summary>Facts (all: result.facts)</summary><table>{rows}</table></details>"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value) if isinstance(value, (int, str)) else ""
