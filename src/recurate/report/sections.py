"""Results as sections of text, tables and charts: printed, or on one page."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recurate.core.files import write_text
from recurate.report.html import place, render

WIDEST = 46  # characters of a cell before it is wrapped, at least


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        title: its heading.
        text: a paragraph.
        table: rows of cells, heading first.
        lines: a list.
        chart: a Vega-Lite specification, for the page only.
        marked: rows with a cell like this stand out.
    """

    title: str
    text: str = ""
    table: list[list[str]] = field(default_factory=list)
    lines: tuple[str, ...] = ()
    chart: dict[str, Any] | None = None
    marked: str = ""


def print_sections(sections: Sequence[Section]) -> None:
    """Print sections with aligned tables, long cells wrapped."""
    width = shutil.get_terminal_size((120, 24)).columns
    for section in sections:
        print(f"\n{section.title}")
        if section.text:
            print(textwrap.fill(section.text, width - 2, initial_indent="  ", subsequent_indent="  "))
        if section.table:
            print_wrapped(section.table, width)
        for line in section.lines:
            print(textwrap.fill(line, width - 2, initial_indent="  - ", subsequent_indent="    "))


def print_wrapped(table: list[list[str]], width: int) -> None:
    """Print aligned columns; the last one is wrapped where a row is wider than ``width``."""
    widths = [max(len(row[j]) for row in table) for j in range(len(table[0]))]
    fixed = sum(w + 2 for w in widths[:-1]) + 2
    room = max(width - fixed - 1, WIDEST)
    for row in table:
        start = "  " + "".join(cell.ljust(w + 2) for cell, w in zip(row[:-1], widths[:-1], strict=True))
        parts = textwrap.wrap(row[-1], room) or [""]
        print((start + parts[0]).rstrip())
        for part in parts[1:]:
            print(" " * fixed + part)


def write_sections(
    sections: Sequence[Section],
    path: Path,
    *,
    title: str,
    subtitle: str,
    summary: str,
    warnings: Sequence[str] = (),
) -> None:
    """Write sections as one self-contained page."""
    specs: list[tuple[str, str]] = []
    shown = [
        vars(section) | {"place": place(specs, section.chart) if section.chart is not None else ""}
        for section in sections
    ]
    page = render(
        "sections.html.j2", title=title, subtitle=subtitle, summary=summary, warnings=warnings,
        sections=shown, specs=specs,
    )  # fmt: skip
    write_text(path, page)
