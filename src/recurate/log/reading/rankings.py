"""Plausible readings of a table with one row per ranking: ``b > a > d``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from recurate.log.reading.columns import count_role, flat_columns, is_text, usual_roles
from recurate.log.reading.mapping import TEXT, Given, Mapping

LONGEST = 500  # characters of a ranking
BETWEEN = re.compile(r"[>=~]")


def is_ranking(value: object) -> bool:
    """Return whether a value is a ranking of two items or more, such as ``b > a ~ d``."""
    text = str(value)
    if len(text) > LONGEST or ">" not in text or "<" in text:
        return False
    return all(part.strip() for part in BETWEEN.split(text))


def ranking_readings(table: pa.Table, given: Given) -> Iterator[Mapping]:
    """Yield the readings with columns of texts most of which are rankings."""
    names = (
        [given.roles["rank"]]
        if "rank" in given.roles
        else [n for n in flat_columns(table) if is_text(table.schema.field(n).type)]
    )
    for name in names:
        if not is_text(table.schema.field(name).type):
            continue
        values = [v for v in itertools.islice(table.column(name).to_pylist(), 2000) if v]
        ranked = [v for v in values if is_ranking(v)]
        if not values or len(ranked) < 0.9 * len(values):
            continue
        base = usual_roles(table, given.roles, ("chooser", "context", "round", "time"), taken=(name,))
        guessed = base.guessed | (set() if "rank" in given.roles else {"rank"})
        reasons = {"rank": "given" if "rank" in given.roles else "its values are rankings such as 'b > a'"}
        yield replace(
            base,
            form="rankings",
            how=TEXT,
            roles={"rank": name, **base.roles, **count_role(table, (name,))},
            guessed=guessed,
            reasons=base.reasons | reasons,
        )
