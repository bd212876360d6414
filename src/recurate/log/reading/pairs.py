"""Plausible readings of a table with one row per pair, such as ``chosen`` and ``rejected``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from recurate.log.reading import names as usual
from recurate.log.reading.columns import count_role, is_chat, usual_roles
from recurate.log.reading.mapping import CHOSEN, Given, Mapping


def pair_readings(table: pa.Table, given: Given) -> Iterator[Mapping]:
    """Yield the readings with one row per pair, by the usual names of the chosen and the rejected."""
    if "pick" in given.roles:
        return
    names = table.column_names
    lower = {n.lower(): n for n in reversed(names)}
    for good, bad in usual.CHOSEN:
        stems = pair_stems(names, good, bad)
        bare = good in lower and bad in lower
        if not stems or (not bare and (good, bad) not in usual.CHOSEN[:3]):
            continue
        inside = [c for p in stems.values() for c in p if c]
        base = usual_roles(
            table,
            given.roles,
            ("chooser", "context", "round", "time"),
            taken=inside,
        )
        if (
            (good, bad) != ("chosen", "rejected")
            and bare
            and "text" in stems
            and not is_chat(table.schema.field(lower[good]).type)
        ):
            stems = {("item" if s == "text" else s): c for s, c in stems.items()}
        rewards = tuple(s for s in stems if usual.reward_names([s]))
        yield replace(
            base,
            form="pairs",
            roles=base.roles | count_role(table, inside),
            alternatives=(good, bad),
            stems=stems,
            how=CHOSEN,
            rewards=given.rewards or rewards,
        )


def pair_stems(
    names: Sequence[str], good: str = "chosen", bad: str = "rejected"
) -> dict[str, tuple[str | None, ...]]:
    """Return the columns of the chosen and the rejected candidate, by attribute (text, score and so on)."""
    stems: dict[str, tuple[str | None, ...]] = {}
    for name in names:
        lower = name.lower()
        if good not in re.split(r"[_\-. ]", lower):
            continue
        other = next((n for n in names if n.lower() == lower.replace(good, bad)), None)
        if other is not None:
            stem = re.sub(rf"[_\-. ]?{good}[_\-. ]?", "", lower) or "text"
            stems[stem] = (name, other)
    return stems
