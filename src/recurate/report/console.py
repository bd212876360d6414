"""Printing of sections on a terminal."""

from __future__ import annotations

import itertools
import shutil
import textwrap
from collections.abc import Sequence

from recurate.report.colour import painted, tone
from recurate.report.sections import Section

EASY = 20  # characters of a line that still read easily
NARROWEST, LONGEST = 12, 24  # a column of words is narrowed to its longest word, within these characters


def terminal_width() -> int:
    """Return the width of the terminal in characters."""
    return shutil.get_terminal_size((120, 24)).columns


def print_sections(sections: Sequence[Section]) -> None:
    """Print sections with aligned tables, without the parts that only a page can show."""
    width = terminal_width()
    for section in sections:
        items = [*section.lines, *(f"{words}: {address}" for words, address in section.links)]
        shown = section.printed and (section.text or section.table or items or section.cards)
        if not shown:
            continue
        print(f"\n{section.title}")
        if section.text:
            print(textwrap.fill(section.text, width - 2, initial_indent="  ", subsequent_indent="  "))
        print_table(section, width)
        for line in items:
            print(textwrap.fill(line, width - 2, initial_indent="  - ", subsequent_indent="    "))
        print_sections(section.cards)


def print_table(section: Section, width: int) -> None:
    """Print a section's table in aligned columns, numbers flush right, verdicts in colour on a terminal.

    Where rows are wider than ``width``, headings and cells of words are wrapped, those of the widest column
    first. Columns that do not fit even so follow in further blocks, each beside the first column.
    """
    table, numeric, judged = section.table, section.numeric, section.judged
    if not table:
        return
    least = [_least([row[j] for row in table], numeric[j]) for j in range(len(numeric))]
    for number, columns in enumerate(_blocks(least, width)):
        if number:
            print()
        widths = _widths(table, columns, least, width)
        for row in table if any(table[0]) else table[1:]:
            parts = [_wrapped(row[j], widths[j]) for j in columns]
            for line in itertools.zip_longest(*parts, fillvalue=""):
                cells = [
                    painted(
                        cell.rjust(widths[j]) if numeric[j] else cell.ljust(widths[j]),
                        tone(row[j]) if judged[j] else "",
                    )
                    for j, cell in zip(columns, line, strict=True)
                ]
                print("".join(f"  {cell}" for cell in cells).rstrip())


def _least(column: Sequence[str], numeric: bool) -> int:
    """Return the width to which a column may be narrowed: numbers are not wrapped, but their heading is."""
    heading, *cells = column
    words = heading.split() if numeric else " ".join(column).split()
    longest = max(map(len, words), default=0)
    if numeric:
        return max(longest, *map(len, cells), 0)
    return min(max(min(longest, LONGEST), NARROWEST), max(map(len, column)))


def _blocks(least: Sequence[int], width: int) -> list[list[int]]:
    """Return the columns of each block; the first column is in all of them."""
    blocks, used = [[0]], least[0] + 2
    for column, own in enumerate(least[1:], start=1):
        if used + own + 2 > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = least[0] + 2
        blocks[-1].append(column)
        used += own + 2
    return blocks


def _widths(
    table: Sequence[Sequence[str]], columns: Sequence[int], least: Sequence[int], width: int
) -> dict[int, int]:
    """Return the widths of a block's columns, narrowed until they fit or can be narrowed no further."""
    widths = {j: max(len(row[j]) for row in table) for j in columns}
    while sum(widths.values()) + 2 * len(widths) > width:
        # The first two columns name their rows, which should stay on one line: they are narrowed last.
        later = [j for j in columns[2:] if widths[j] > max(least[j], EASY)]
        wide = later or [j for j in columns if widths[j] > least[j]]
        if not wide:
            break
        widths[max(wide, key=lambda j: (widths[j], j))] -= 1
    return widths


def _wrapped(cell: str, width: int) -> list[str]:
    """Return the lines of a cell; words that are wider are cut into lines, not shortened."""
    return [cell] if len(cell) <= width else textwrap.wrap(cell, width, break_on_hyphens=False)
