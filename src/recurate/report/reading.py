"""The account of how a file was read, as a section of every report."""

from __future__ import annotations

from collections.abc import Sequence

from recurate.log.reading.understand import Understood
from recurate.report.sections import Section

TITLE = "What was read"


def reading_section(found: Understood | None, notes: Sequence[str] = ()) -> list[Section]:
    """Return the roles of the columns with their reasons and rivals, as a section; none for arrays."""
    if found is None:
        return []
    rows = found.rows()
    shown = [name for name in ("role", "column", "reason", "or") if any(row[name] for row in rows)]
    heading = {"role": "role", "column": "column", "reason": "because", "or": "or"}
    table = [[heading[name] for name in shown], *([row[name] for name in shown] for row in rows)]
    unused = [f"{name} is not used: {why}" for name, why in found.unused.items()]
    return [Section(TITLE, table=table, lines=(*found.notes, *notes, *unused))]
