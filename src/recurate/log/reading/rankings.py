"""Plausible readings of a table with one row per ranking.

A ranking is one text, ``b > a ~ d`` or ``b, a, d``, a list of names, or columns in the order of the ranks,
``rank_1, rank_2, rank_3``, that hold names.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import chdtri

from recurate.core.arrays import FloatArray, IntArray
from recurate.log.reading.columns import (
    count_role,
    flat_columns,
    is_list,
    is_text,
    usual_roles,
    whole_numbers,
)
from recurate.log.reading.mapping import TEXT, Given, Mapping, TwoReadings
from recurate.log.reading.names import key, named
from recurate.log.reading.values import numbers_of, objects, plain_text

LONGEST = 500  # characters of a ranking
UNEVEN = 1e-4  # p-value below which items are listed unequally often
FEW = 50  # items that rankings name, at most, if they are separated by commas or stand in columns
BETWEEN = re.compile(r"[>=~]")
SURE = re.compile(r"rank|prefer", re.I)  # in names of columns of items, the best first
ORDER = re.compile(r"rank|prefer|order", re.I)  # an order may also be that in which items were shown
PLACES = (
    ("first", "second", "third", "fourth", "fifth"), ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th"),
)  # fmt: skip
NUMBERED = re.compile(r"^(?P<stem>.*?)[_\-. ]?(?P<rank>\d+)$")
CHOICES = ("choice", "pref", "vote", "ballot")  # stems of ballots: choice_1 is the first choice
BEST_FIRST = "items in their order: the first is taken for the best"


def is_ranking(value: object) -> bool:
    """Return whether a value is a ranking of two items or more, such as ``b > a ~ d``."""
    text = str(value)
    if len(text) > LONGEST or ">" not in text or "<" in text:
        return False
    return all(part.strip() for part in BETWEEN.split(text))


def levels_of(value: Any) -> list[list[str]]:
    """Return the items of a ranking, level by level, the best first; items of one level are tied.

    >>> levels_of("b > a ~ d"), levels_of("b, a"), levels_of(["b", None, "a"])
    ([['b'], ['a', 'd']], [['b'], ['a']], [['b'], ['a']])
    """
    if isinstance(value, list | tuple):
        parts = [[plain_text(v)] for v in value]
    elif ">" in str(value or ""):
        parts = [re.split(r"[~=]", level) for level in str(value).split(">")]
    else:
        parts = [[item] for item in re.split(r"[,;|]", str(value or ""))]
    found = [[item.strip() for item in level if item.strip()] for level in parts]
    return [level for level in found if level]


def ranking_readings(table: pa.Table, given: Given) -> Iterator[Mapping]:
    """Yield the readings with columns of rankings: texts, lists of names, or a column per rank."""
    asked = given.roles.get("rank")
    for field in table.schema:
        if asked not in (None, field.name):
            continue
        values = [v for v in itertools.islice(table.column(field.name).to_pylist(), 2000) if v]
        reason = _told(field, values, asked=asked is not None)
        shown = reason == BEST_FIRST and not (asked or SURE.search(field.name))
        if reason and not (shown and _may_pick(table, (field.name,), given)):
            yield _reading(table, given, (field.name,), reason)
    for columns in _columns(table, given):
        yield _reading(table, given, columns, f"a column per rank: {BEST_FIRST}")


def _told(field: pa.Field, values: Sequence[Any], *, asked: bool) -> str:
    """Return why a column holds rankings, or an empty text."""
    text, names = is_text(field.type), is_list(field.type) and is_text(field.type.value_type)
    if not values or not (text or names):
        return ""
    if text and sum(map(is_ranking, values)) >= 0.9 * len(values):
        return "its values are rankings such as 'b > a'"
    if not (asked or named([field.name], "rank") or ORDER.search(field.name)):
        return ""
    if text and np.mean([bool(re.search("[,;|]", v)) for v in values]) < 0.9:
        return ""
    rows = [[item for level in levels_of(v) for item in level] for v in values]
    if not _ordered(rows, 2):
        return ""
    return BEST_FIRST


def _ordered(rows: Sequence[Sequence[str]], fewest: int) -> bool:
    """Return whether rows list different items, few in all, that recur in several places."""
    distinct = np.mean([len(set(row)) == len(row) and len(row) >= fewest for row in rows])
    items = {item for row in rows for item in row}
    places = {(i, item) for row in rows for i, item in enumerate(row)}
    longest = max(map(len, items), default=0)
    return bool(distinct > 0.95 and longest <= 80 and len(items) <= FEW and len(places) > 1.2 * len(items))


def check_rankings(mapping: Mapping, rows: IntArray, items: Sequence[str], ranks: FloatArray) -> None:
    """Raise InputError where rankings can be read in two ways.

    Numbers may be ranks of candidates in turn, or candidates in their order. Where rows leave out items, high
    ones are left out less often if all were offered and only the best were listed.

    Args:
        mapping: the reading.
        rows: the row of each item, (n,).
        items: the items, (n,).
        ranks: their ranks in their rows, (n,).
    """
    names, codes = np.unique(np.asarray(items, dtype=str), return_inverse=True)
    columns = ", ".join(mapping.marks) or mapping.roles["rank"]
    if names.size and all(name.isdigit() for name in names.tolist()) and "form" in mapping.guessed:
        raise TwoReadings(
            "the numbers may be the ranks of the candidates in turn, or the candidates in their order",
            got=f"{names[0]} to {names[-1]} in {columns}",
            remedy="for candidates in their order --form rankings; else one column of ranks per candidate",
        )
    sizes = np.bincount(rows) if rows.size else np.zeros(0)
    sizes = sizes[sizes > 0]
    if "form" not in mapping.guessed or names.size < 3 or not (sizes < names.size).any():
        return
    counts = np.bincount(codes)
    uneven = float((np.square(counts - counts.mean()) / counts.mean()).sum())
    places = np.bincount(codes, ranks) / counts
    if uneven < chdtri(names.size - 1, UNEVEN) or np.ptp(places) == 0:
        return
    if np.corrcoef(counts, -places)[0, 1] > 0.5:
        raise TwoReadings(
            "rankings leave out items, the low ones more often: either all were offered and the best are "
            "listed, or only those listed were shown",
            got=f"{names.size} items, {sizes.min()} to {sizes.max()} in a row of {columns}",
            remedy="add the others as a last level, such as 'b > a > c ~ d'; or --form rankings if only "
            "those listed were shown",
        )


def _columns(table: pa.Table, given: Given) -> Iterator[tuple[str, ...]]:
    """Yield the columns that hold the items of each rank in turn, as ``rank_1, rank_2, rank_3``."""
    if {"pick", "rating", "rank"} & given.roles.keys():
        return
    asked = given.form == "rankings"
    texts = [f.name for f in table.schema if is_text(f.type) or (asked and whole_numbers(table, f.name))]
    by_stem: dict[str, dict[int, str]] = {}
    for name in texts:
        match = NUMBERED.match(name)
        if match:
            by_stem.setdefault(key(match["stem"]), {})[int(match["rank"])] = name
        for words in PLACES:
            for rank, word in enumerate(words, start=1):
                stem = re.sub(rf"(^|[_\-. ]){word}($|[_\-. ])", "", name, flags=re.I)
                if stem != name:
                    by_stem.setdefault(f"{key(stem)}/{words[0]}", {})[rank] = name
    for stem, columns in by_stem.items():
        own = tuple(columns[r] for r in sorted(columns))
        sure = bool(SURE.search(stem))
        if sorted(columns) != list(range(1, len(own) + 1)) or len(own) < (2 if sure else 3):
            continue
        if not sure and "/" not in stem and stem not in CHOICES and not ORDER.search(stem):
            continue
        if not sure and _may_pick(table, own, given):
            continue
        cells = zip(*([plain_text(v) for v in table.column(n).to_pylist()] for n in own), strict=True)
        rows = [[v for v in row if v] for row in itertools.islice(cells, 2000)]
        full = [row for row in rows if row]
        if not asked and np.isfinite(numbers_of(objects([v for row in full for v in row]))).mean() > 0.5:
            continue
        if full and _ordered(full, 1):
            yield own


def _may_pick(table: pa.Table, columns: Sequence[str], given: Given) -> bool:
    """Return whether another column may tell which of the columns was picked: by a name, or by a number."""
    cells = [v for n in columns for v in table.column(n).to_pylist() if v]
    items = {item for cell in cells for level in levels_of(cell) for item in level}
    count = max(map(len, map(levels_of, cells)), default=0) if len(columns) == 1 else len(columns)
    for name in flat_columns(table):
        if name in columns or name in given.roles.values():
            continue
        values = set(pc.unique(table.column(name)).drop_null().to_pylist())
        if named([name], "pick") or (values and (values <= items or values <= set(range(count + 1)))):
            return True
    return False


def _reading(table: pa.Table, given: Given, columns: tuple[str, ...], reason: str) -> Mapping:
    alone = len(columns) == 1
    base = usual_roles(table, given.roles, ("chooser", "context", "round", "time"), taken=columns)
    roles = {r: c for r, c in base.roles.items() if r != "rank"}
    return replace(
        base,
        form="rankings",
        how=TEXT,
        roles=({"rank": columns[0]} if alone else {}) | roles | count_role(table, columns),
        guessed=base.guessed
        | ({"rank"} if alone and "rank" not in given.roles else set())
        | ({"form"} if given.form is None else set()),
        reasons=base.reasons | {"rank": reason},
        marks=() if alone else columns,
    )
