"""Plausible readings of a table with one row per slate and lists of candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recurate.log.reading import names as usual
from recurate.log.reading.columns import is_chat, is_list, is_numeric, is_text, usual_roles
from recurate.log.reading.mapping import FLAGS, PLACE, Given, Mapping
from recurate.log.reading.names import named


def list_readings(table: pa.Table, given: Given) -> Iterator[Mapping]:
    """Yield the readings with lists of candidates whose lengths agree."""
    lists = [f.name for f in table.schema if is_list(f.type) and not is_chat(f.type)]
    lengths = _lengths(table, lists)
    told = [
        n
        for r in ("rank", "rating", "pick")
        for n in ([given.roles[r]] if r in given.roles else named(lists, r))
    ]
    for group in lengths:
        if group == told[:1] and len(lengths) > 1:
            continue  # ranks without what they rank
        yield from _lists_of(table, given, group + [n for n in told[:1] if n in lists and n not in group])


def _lengths(table: pa.Table, lists: Sequence[str]) -> list[list[str]]:
    """Return the groups of list columns whose lengths agree in most rows, the largest first."""
    groups: list[tuple[np.ndarray, list[str]]] = []
    for name in lists:
        sizes = np.asarray(pc.fill_null(pc.list_value_length(table.column(name)), -1).to_numpy())
        for known, members in groups:
            both = (known >= 0) & (sizes >= 0)
            if both.any() and (known == sizes)[both].mean() > 0.5:
                members.append(name)
                break
        else:
            groups.append((sizes, [name]))
    return [members for _, members in sorted(groups, key=lambda g: -len(g[1]))]


def _lists_of(table: pa.Table, given: Given, lists: Sequence[str]) -> Iterator[Mapping]:
    base = usual_roles(table, given.roles, ("chooser", "context", "round", "time"), taken=lists)
    kinds = {n: table.schema.field(n).type.value_type for n in lists}
    chats = {f.name for f in table.schema if is_chat(f.type)}
    told = [r for r in ("rank", "rating", "pick") if r in given.roles]
    outcomes: list[tuple[str, str]] = [(r, given.roles[r]) for r in told]
    if not told:
        outcomes += [("rank", n) for n in named(lists, "rank")]
        outcomes += [("pick", n) for n in named(table.column_names, "pick")]
        outcomes += [("rating", n) for n in named(lists, "rating")] if given.picks else []
        inside = [
            f.name for n in lists if pa.types.is_struct(kinds[n]) for f in kinds[n] if is_numeric(f.type)
        ]
        outcomes += [("pick", n) for n in named(inside, "pick") if n not in table.column_names]
        outcomes += [] if given.picks else [("", "")]
    for role, column in outcomes:
        free = [n for n in lists if n != column]
        if role in ("rank", "rating") and column not in lists:
            continue
        how = role
        if role == "pick":
            inner = column not in table.column_names
            how = FLAGS if inner or (column in lists and column not in chats) else PLACE
            if column in lists and is_text(kinds[column]):
                continue
        if not free and role not in ("rank", "rating"):
            continue
        words = [n for n in free if is_text(kinds[n])]
        roles = {r: c for r, c in base.roles.items() if r not in ("rank", "rating", "pick")} | (
            {role: column} if role else {}
        )
        guessed = base.guessed | ({role} if role and role not in given.roles else set())
        reasons = base.reasons | ({role: "its name"} if role and role not in given.roles else {})
        if "item" not in roles and words and not any(pa.types.is_struct(k) for k in kinds.values()):
            roles["item"], guessed, reasons = (
                words[0],
                guessed | {"item"},
                reasons | {"item": "a list of texts"},
            )
        stems: dict[str, tuple[str | None, ...]] = {n: (n,) for n in free if n not in roles.values()}
        fields = [*stems, *(f.name for n in free if pa.types.is_struct(kinds[n]) for f in kinds[n])]
        rewards = given.rewards or tuple(usual.reward_names(fields))
        order = ("rank", "pick", "rating", "chooser", "context", "round", "time", "item")
        yield replace(
            base,
            form="lists",
            how=how,
            roles={r: roles[r] for r in (*order, *roles) if r in roles},
            stems=stems,
            guessed=guessed,
            reasons=reasons,
            rewards=rewards,
        )
