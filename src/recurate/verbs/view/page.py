"""The index as one page: a table that can be sorted and filtered, without anything from elsewhere."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from recurate.core.version import VERSION
from recurate.report.colour import tone
from recurate.report.html import render_plain
from recurate.verbs.view.entries import UNREADABLE, Entry, Listing

MARK = b'<meta name="generator" content="recurate view">'  # in the template
COLUMNS = (
    ("name", False), ("kind", False), ("changed (UTC)", False), ("verdict", False), ("K", True),
    ("rounds", True), ("lead", False),
)  # fmt: skip


def index_page(found: Listing, link: Callable[[Entry], str]) -> str:
    """Return the page.

    Args:
        found: The entries.
        link: Function that returns the address of an entry's report, as it is written into the page.
    """
    unreadable = sum(entry.kind == UNREADABLE for entry in found.entries)
    count = f"{len(found.entries) - unreadable} results"
    count += f", {unreadable} that cannot be read" if unreadable else ""
    return render_plain(
        "index.html.j2",
        title=f"Results in {_shown(found.folder)}",
        subtitle=f"recurate {VERSION}; {count}. Runs are not verified here; recurate audit RUN does.",
        left_out=found.left_out,
        columns=COLUMNS,
        entries=[_row(entry, link) for entry in found.entries],
        kinds=sorted({entry.kind for entry in found.entries}),
        verdicts=sorted({entry.verdict for entry in found.entries if entry.verdict}),
    )


def _shown(folder: Path) -> str:
    """Return a folder's own name; what lies above it is nobody's business who gets the page."""
    return os.fsencode(folder.absolute().name or "/").decode("utf-8", "replace")


def _row(entry: Entry, link: Callable[[Entry], str]) -> dict[str, Any]:
    date = datetime.fromtimestamp(entry.changed, UTC).strftime("%Y-%m-%d %H:%M") if entry.changed else ""
    return {
        "name": entry.name,
        "kind": entry.kind,
        "changed": f"{entry.changed:.0f}",
        "date": date,
        "verdict": entry.verdict,
        "tone": tone(entry.verdict) or "open",
        "lead": entry.lead,
        "k": entry.k,
        "k_number": _number(entry.k),
        "rounds": "" if entry.rounds is None else entry.rounds,
        "rounds_number": -1 if entry.rounds is None else entry.rounds,
        "unreadable": entry.kind == UNREADABLE,
        "link": "" if entry.report is None else link(entry),
    }


def _number(k: str) -> str:
    """Return K as a number to sort by: the first of several, -1 without one."""
    try:
        value = float((k.split() or ["-1"])[0])
    except ValueError:
        value = -1.0
    return "1e308" if math.isinf(value) else f"{value:g}"


def is_index(path: Path) -> bool:
    """Return whether a file is an index that was written before."""
    with path.open("rb") as file:
        return MARK in file.read(1000)


def relative_link(page: Path) -> Callable[[Entry], str]:
    """Return a function that gives the address of an entry's report, relative to a page on disk."""

    def link(entry: Entry) -> str:
        assert entry.report is not None
        there = os.path.relpath(entry.report.absolute(), page.absolute().parent)
        return quote(os.fsencode(there.replace(os.sep, "/")))

    return link
