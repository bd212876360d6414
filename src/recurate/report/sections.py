"""Sections of text, tables and charts, for a terminal or for one HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from recurate.report.colour import tone
from recurate.report.html import place, render

NUMBER = re.compile(r"[\d\s.,:+\-−±%()*<>=e²]*\d[\d\s.,:+\-−±%()*<>=e²]*")
JUDGED = ("verdict", "survives")  # headings of columns whose cells are verdicts
NO_NUMBER = ("", "-", "inf", "nan", "none", "infinity")


@dataclass(frozen=True)
class Tile:
    """A candidate as a page shows it.

    Attributes:
        rewards: Its rewards, in words.
        picked: Whether it was picked.
        text: The candidate, if it is a text.
        place: Column and row in the round's sheet of images.
    """

    rewards: str
    picked: bool
    text: str = ""
    place: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class SlatesOfRound:
    """Some slates of one round.

    Attributes:
        round: Number of the round.
        caption: What is said of the round.
        slates: Heading and candidates of every slate; a candidate without a slate stands alone, without one.
        sheet: Data URI of one picture of all images; "" for texts.
        grid: Columns and rows of the sheet.
        ratio: Height of one image over its width.
        fine: Whether images have more pixels than a tile, so that they are drawn smoothly.
    """

    round: int
    caption: str
    slates: tuple[tuple[str, tuple[Tile, ...]], ...]
    sheet: str = ""
    grid: tuple[int, int] = (1, 1)
    ratio: float = 1.0
    fine: bool = False


@dataclass(frozen=True)
class Section:
    """One section of a report.

    Attributes:
        title: Heading.
        text: Paragraph of text.
        table: Rows of cells, heading first.
        lines: Items of a list.
        links: Words and address of links to other pages, relative to this one; a terminal prints the address.
        chart: Vega-Lite specification of a chart, for the page only.
        marked: Text of a cell whose rows are highlighted.
        cards: Smaller sections side by side, each a title with a chart, a table or text.
        slates: Slates of some rounds, for the page only.
        code: Text that keeps its line breaks, for the page only.
        folded: Whether the page shows only the title until the reader opens the section.
        printed: Whether a terminal shows the section.
    """

    title: str
    text: str = ""
    table: list[list[str]] = field(default_factory=list)
    lines: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    chart: dict[str, Any] | None = None
    marked: str = ""
    cards: tuple[Section, ...] = ()
    slates: tuple[SlatesOfRound, ...] = ()
    code: str = ""
    folded: bool = False
    printed: bool = True

    @property
    def numeric(self) -> list[bool]:
        """Whether each column of the table has numbers only, so that it is set flush right."""
        return [
            all(_is_number(cell) for cell in column) and any(map(str.isdigit, "".join(column)))
            for column in zip(*self.table[1:], strict=True)
        ] or [False] * len(self.table[0] if self.table else ())

    @property
    def judged(self) -> list[bool]:
        """Whether each column of the table holds verdicts: badges in a page, coloured on a terminal."""
        return [cell in JUDGED for cell in self.table[0]] if self.table else []


def _is_number(cell: str) -> bool:
    return cell in NO_NUMBER or NUMBER.fullmatch(cell.replace(" to ", " ")) is not None


def charts_of(sections: Sequence[Section]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every chart with the title above it, in the order of the page."""
    for section in sections:
        if section.chart is not None:
            yield section.title, section.chart
        yield from charts_of(section.cards)


def page(
    sections: Sequence[Section],
    *,
    title: str,
    subtitle: str,
    summary: str,
    warnings: Sequence[str] = (),
    verdict: str = "",
    rule: str = "",
) -> str:
    """Return sections as one self-contained page.

    Args:
        sections: The sections, in their order.
        title: Heading of the page.
        subtitle: Line below it, such as the version.
        summary: The lead.
        warnings: Reservations, each a paragraph.
        verdict: Word or two beside the heading; "" for none.
        rule: Line above the lead, such as the rule that is assumed; "" for none.
    """
    specs: list[tuple[str, str]] = []
    return render(
        "page.html.j2", title=title, subtitle=subtitle, summary=summary, warnings=warnings, specs=specs,
        verdict=verdict, rule=rule, tone=tone,
        sections=[_placed(section, specs) for section in sections],
    )  # fmt: skip


def _placed(section: Section, specs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return a section as values for the template, and append its charts to ``specs``."""
    where = "" if section.chart is None else place(specs, section.chart)
    cards = [_placed(card, specs) for card in section.cards]
    derived = {"numeric": section.numeric, "judged": section.judged}
    return vars(section) | derived | {"place": where, "cards": cards}
