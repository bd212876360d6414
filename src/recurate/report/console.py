"""Printing of sections on a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from recurate.report.sections import Section

WIDEST = 46  # minimal number of characters in a line of a wrapped cell


def terminal_width() -> int:
    """Return the width of the terminal in characters."""
    return shutil.get_terminal_size((120, 24)).columns


def print_sections(sections: Sequence[Section]) -> None:
    """Print sections with aligned tables, without the parts that only a page can show."""
    width = terminal_width()
    for section in sections:
        shown = section.printed and (section.text or section.table or section.lines or section.cards)
        if not shown:
            continue
        print(f"\n{section.title}")
        if section.text:
            print(textwrap.fill(section.text, width - 2, initial_indent="  ", subsequent_indent="  "))
        print_table(section, width)
        for line in section.lines:
            print(textwrap.fill(line, width - 2, initial_indent="  - ", subsequent_indent="    "))
        print_sections(section.cards)


def print_table(section: Section, width: int) -> None:
    """Print a section's table in aligned columns, numbers flush right.

    Where rows are wider than ``width``, the last column is wrapped if it holds words; otherwise columns that
    do not fit follow in further blocks, each below the first column.
    """
    table, numeric = section.table, section.numeric
    if not table:
        return
    widths = [max(len(row[j]) for row in table) for j in range(len(table[0]))]
    blocks = _blocks(widths, width) if numeric[-1] else [range(len(widths))]
    for number, columns in enumerate(blocks):
        if number:
            print()
        *first, last = columns
        fixed = sum(widths[j] + 2 for j in first) + 2
        for row in table if any(table[0]) else table[1:]:
            cells = [row[j].rjust(widths[j]) if numeric[j] else row[j].ljust(widths[j]) for j in first]
            end = row[last].rjust(widths[last]) if numeric[last] else row[last]
            parts = [end] if numeric[last] else textwrap.wrap(end, max(width - fixed - 1, WIDEST)) or [""]
            print("".join(f"  {cell}" for cell in [*cells, parts[0]]).rstrip())
            for part in parts[1:]:
                print(" " * fixed + part)


def _blocks(widths: list[int], width: int) -> list[list[int]]:
    """Return the columns of each block; the first column is in all of them."""
    blocks, used = [[0]], widths[0] + 2
    for column, own in enumerate(widths[1:], start=1):
        if used + own + 2 > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0] + 2
        blocks[-1].append(column)
        used += own + 2
    return blocks
