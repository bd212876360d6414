"""Results as sections of text, tables and charts: printed, or on one page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from recurate.report.html import place, render

NUMBER = re.compile(r"[\d\s.,:+\-−±%()*<>=e²]*\d[\d\s.,:+\-−±%()*<>=e²]*")
NO_NUMBER = ("", "-", "inf", "nan", "none", "infinity")


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
        cards: smaller sections side by side: a title with a chart, a table or text each.
        images: (data URI, caption) of every picture, for the page only.
        code: text that keeps its line ends, for the page only.
        folded: whether the page shows the title alone until a reader opens it.
        printed: whether a terminal shows the section.
    """

    title: str
    text: str = ""
    table: list[list[str]] = field(default_factory=list)
    lines: tuple[str, ...] = ()
    chart: dict[str, Any] | None = None
    marked: str = ""
    cards: tuple[Section, ...] = ()
    images: tuple[tuple[str, str], ...] = ()
    code: str = ""
    folded: bool = False
    printed: bool = True

    @property
    def numeric(self) -> list[bool]:
        """Whether each column of the table holds numbers, so that it is set flush right."""
        return [
            all(_is_number(cell) for cell in column) and any(_has_digit(cell) for cell in column)
            for column in zip(*self.table[1:], strict=True)
        ] or [False] * len(self.table[0] if self.table else ())


def _is_number(cell: str) -> bool:
    return cell in NO_NUMBER or NUMBER.fullmatch(cell.replace(" to ", " ")) is not None


def _has_digit(cell: str) -> bool:
    return any(letter.isdigit() for letter in cell)


def charts_of(sections: Sequence[Section]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every chart with the title above it, in the order of the page."""
    for section in sections:
        if section.chart is not None:
            yield section.title, section.chart
        yield from charts_of(section.cards)


def page(
    sections: Sequence[Section], *, title: str, subtitle: str, summary: str, warnings: Sequence[str] = ()
) -> str:
    """Return sections as one self-contained page."""
    specs: list[tuple[str, str]] = []
    return render(
        "page.html.j2", title=title, subtitle=subtitle, summary=summary, warnings=warnings, specs=specs,
        sections=[_placed(section, specs) for section in sections],
    )  # fmt: skip


def _placed(section: Section, specs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return a section as the template takes it, its charts put into ``specs``."""
    where = "" if section.chart is None else place(specs, section.chart)
    cards = [_placed(card, specs) for card in section.cards]
    return vars(section) | {"place": where, "cards": cards, "numeric": section.numeric}
