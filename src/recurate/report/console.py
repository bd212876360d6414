"""Tables and sections on a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recurate.report.sections import Section

if TYPE_CHECKING:
    pass


def print_table(lines: list[list[str]]) -> None:
    """Print aligned columns, in stacked blocks where they are wider than the terminal."""
    widths = [max(len(line[i]) for line in lines) + 2 for i in range(len(lines[0]))]
    limit = shutil.get_terminal_size((120, 24)).columns
    blocks: list[list[int]] = [[]]
    used = widths[0]
    for column in range(1, len(widths)):
        if used + widths[column] > limit and blocks[-1]:
            blocks.append([])
            used = widths[0]
        blocks[-1].append(column)
        used += widths[column]
    for index, block in enumerate(blocks):
        if index:
            print()
        for line in lines:
            print(line[0].rjust(widths[0]) + "".join(line[c].rjust(widths[c]) for c in block))
    notes = []
    if any(line[0].endswith("*") for line in lines):
        notes.append("* beyond support: fewer than 100 effective candidates are left")
    if any("(" in cell for line in lines[1:] for cell in line):
        notes.append("in brackets: measured in the log's rounds")
    for note in notes:
        print(note)


def print_plain(rows: list[list[str]]) -> None:
    """Print rows of text: whole ones in aligned columns, single cells as wrapped lines."""
    whole = [row for row in rows if len(row) == len(rows[0])]
    widths = [max(len(row[i]) for row in whole) + 2 for i in range(len(rows[0]))]
    for row in rows:
        if len(row) < len(widths):
            print("\n".join(textwrap.wrap(row[0], 116, subsequent_indent="    ")))
        elif len(whole) > 1:
            cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
            cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
            print("".join(cells).rstrip())


WIDEST = 46  # characters of a cell before it is wrapped, at least


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
