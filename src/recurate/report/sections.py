"""Results as sections of text, tables and charts: printed, or on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recurate.core.files import write_text
from recurate.report.html import place, render


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
