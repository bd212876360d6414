"""Conversion of files of every form to one row per candidate, with the log's column names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.core.errors import counted
from recurate.log.reading import mapping as how
from recurate.log.reading.mapping import Mapping
from recurate.log.reading.names import AVAILABLE, ITEM_STEMS, key
from recurate.log.reading.picks import picks_of
from recurate.log.reading.rankings import check_rankings, levels_of
from recurate.log.reading.values import (
    BAD,
    TIE,
    Names,
    array_of,
    blank,
    decode_codes,
    flags_of,
    numbers_of,
    objects,
    odd_ranks,
    picked_of,
    prompt_of,
    text_of,
    with_none,
)

ANSWER = re.compile(r"\n\n(Assistant|assistant|ASSISTANT):")

# Standard columns of an unfolded table; "result" holds the pick or the rank.
STANDARD = (
    "round", "slate", "slot", "item", "chooser", "context", "time", "source_row", "result", "weight",
)  # fmt: skip
RANK, PICK, NONE = "rank", "pick", "none"
RANKED = (how.RANK, how.RATING, how.BEST_WORST)  # how ranks are written down


@dataclass(frozen=True)
class Unfolded:
    """A table with one row per candidate.

    Attributes:
        columns: Columns by name, shape (rows,) each: standard ones and attributes. ``result`` holds ranks
            (1 is best), or 1 for picked and 0 for not picked; unreadable values are NaN. ``weight`` is the
            number of times that the slate's picks count.
        kind: Meaning of ``result``: ``rank``, ``pick``, or ``none`` if nothing was picked.
        notes: Assumptions made in reading.
        unclear: The readings between which the values do not decide; empty if they decide.
        decided: Share of the rows of the table whose pick was understood.
    """

    columns: dict[str, NDArray[Any]]
    kind: str
    notes: list[str]
    unclear: str = ""
    decided: float = 1.0


def unfold(table: pa.Table, mapping: Mapping, *, everything: bool = False) -> Unfolded:
    """Return a table with one row per candidate.

    Args:
        table: Table as it was read.
        mapping: Role of each column.
        everything: Whether rows of real data, and rows in no slate, of a file with one row per candidate are
            kept. The latter have no ``slate``, None.
    """
    if mapping.form == "long":
        return _texts_of_chats(_from_long(table, mapping, everything))
    makers = {"lists": _from_lists, "rankings": _from_rankings}
    made = makers.get(mapping.form, _from_wide)(table, mapping)
    return _texts_of_chats(_split_dialogues(made) if mapping.form == "pairs" else made)


def _split_dialogues(made: Unfolded) -> Unfolded:
    """Return pairs of whole dialogues as their last answers, with all before as the context of both."""
    texts = made.columns.get("text")
    if texts is None or "context" in made.columns or texts.size < 2 or texts.dtype != object:
        return made
    one, two = texts[::2], texts[1::2]
    chats = all(isinstance(v, list) for v in texts[:20])
    split = [_common_start(a, b) for a, b in zip(one, two, strict=True)]
    if not chats and np.mean([s > 0 for s in split]) < 0.5:
        return made
    whole = [prompt_of(a) if chats else "" if a is None else a[:n] for a, n in zip(one, split, strict=True)]
    made.columns["context"] = np.repeat(objects(whole), 2)
    if not chats:
        cut = [v if v is None else v[n:].strip() for v, n in zip(texts, np.repeat(split, 2), strict=True)]
        made.columns["text"] = objects(cut)
        made.notes.append("the dialogues' last answers are compared; what precedes them is the context")
    return made


def _common_start(one: Any, two: Any) -> int:
    r"""Return the length of the part before the last answer that two dialogues share; 0 if they are none.

    >>> _common_start("\n\nHuman: hi\n\nAssistant: yes", "\n\nHuman: hi\n\nAssistant: no")
    23
    """
    if not isinstance(one, str) or not isinstance(two, str):
        return 0
    ends = [m.end() for m in ANSWER.finditer(one)]
    shared = [n for n in ends if one[:n] == two[:n]]
    return shared[-1] if shared else 0


def _texts_of_chats(made: Unfolded) -> Unfolded:
    """Return the table with chat messages and structs replaced by the text that a reader sees."""
    for name, values in made.columns.items():
        if values.dtype != object or name == "context":
            continue
        first = next((v for v in values if v is not None), None)
        if isinstance(first, dict) or (
            isinstance(first, list) and first and isinstance(first[-1], dict | str)
        ):
            made.columns[name] = objects([text_of(v) for v in values])
    if "context" in made.columns and made.columns["context"].dtype == object:
        first = next((v for v in made.columns["context"] if v is not None), None)
        if isinstance(first, list | tuple | dict):
            made.columns["context"] = objects([prompt_of(v) for v in made.columns["context"]])
    return made


# --- long -----------------------------------------------------------------------------------------


def _from_long(table: pa.Table, mapping: Mapping, everything: bool) -> Unfolded:
    roles = mapping.roles
    named = {role: role for role in ("round", "item", "chooser", "context", "time")} | {"position": "slot"}
    columns = {name: array_of(table, roles[role]) for role, name in named.items() if role in roles}
    columns["slate"], absent = _slate_keys(table, mapping)
    notes = []
    if everything:
        columns["slate"] = with_none(columns["slate"], absent) if absent.any() else columns["slate"]
        absent = np.zeros(absent.size, bool)
    if absent.any():  # candidates that were not shown
        notes.append(counted(int(absent.sum()), "{row belongs|rows belong} to no slate"))
    if "source" in table.column_names and "source" not in roles.values() and not everything:
        source = array_of(table, "source")
        if {str(v) for v in source} <= {"model", "real"}:
            real = source == "real"
            notes += (
                [
                    counted(
                        int(real.sum()),
                        "{row|rows} of real data {is|are} not {a candidate|candidates}",
                    )
                ]
                if real.any()
                else []
            )
            absent |= real
    kind = NONE if mapping.how == how.NOTHING else RANK if mapping.how in RANKED else PICK
    unclear, decided = "", 1.0
    if kind != NONE:
        columns["result"], unclear = _long_result(table, mapping)
        decided = float((~np.isnan(columns["result"][~absent])).mean()) if (~absent).any() else 0.0
    for name in table.column_names:
        if name not in roles.values() and name not in mapping.keys and name not in mapping.votes:
            columns[free_name(name, columns)] = array_of(table, name)
    return Unfolded({n: v[~absent] for n, v in columns.items()}, kind, notes, unclear, decided=decided)


def _slate_keys(table: pa.Table, mapping: Mapping) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return each row's slate (rows,), and whether it belongs to none."""
    n = table.num_rows
    if mapping.blocks:
        return np.arange(n) // mapping.blocks, np.zeros(n, bool)
    own = mapping.roles.get("slate")
    if own is None and not mapping.keys:
        return np.zeros(n, np.int64), np.zeros(n, bool)
    parts = [array_of(table, name) for name in mapping.keys]
    absent = blank(parts[0]) if own is not None else np.zeros(n, bool)
    if own is not None and set(mapping.keys) <= {own, mapping.roles.get("round")}:
        return array_of(table, own), absent
    texts = [np.array(["" if v is None else str(v) for v in part]) for part in parts]
    order = [i for i, name in enumerate(mapping.keys) if name != mapping.roles.get("round")]
    joined = texts[order[0]] if order else texts[0]
    for i in order[1:]:
        joined = np.char.add(np.char.add(joined, " | "), texts[i])
    return joined.astype(object), absent


def _long_result(table: pa.Table, mapping: Mapping) -> tuple[NDArray[np.float64], str]:
    """Return the result of each row, and what is unclear about it."""
    if mapping.how == how.NAMED:
        picks, items = array_of(table, mapping.roles["pick"]), array_of(table, mapping.roles["item"])
        given = np.array([not b for b in blank(picks)])
        same = np.array([_same(p, i) for p, i in zip(picks, items, strict=True)], float)
        return np.where(given, same, np.nan), ""
    if mapping.how == how.BEST_WORST and len(mapping.votes) == 1:
        return 2 - numbers_of(array_of(table, mapping.votes[0])), ""
    if mapping.how == how.PLACE:
        return _counted_rows(table, mapping)
    if mapping.how == how.BEST_WORST:
        best, worst = (flags_of(array_of(table, v)) for v in mapping.votes)
        return 2 - best + worst, ""
    role = mapping.how if mapping.how in (how.RANK, how.RATING) else "pick"
    values = array_of(table, mapping.roles[role])
    if mapping.how == how.FLAGS:
        flags = picked_of(values, mapping.yes)
        missing = blank(values)
        if missing.any() and (flags[~missing] == 1).all():  # only what was picked is marked
            flags[missing] = 0
        return flags, ""
    numbers = numbers_of(values)
    if mapping.how == how.RATING:
        return -numbers, ""
    return numbers, odd_ranks(numbers, mapping.roles[role])


def _counted_rows(table: pa.Table, mapping: Mapping) -> tuple[NDArray[np.float64], str]:
    """Return the result where a column repeats, in every row of a slate, the number of the picked one."""
    column = mapping.roles["pick"]
    picks = numbers_of(array_of(table, column))
    codes = np.unique(_slate_keys(table, mapping)[0].astype(str), return_inverse=True)[1].ravel()
    position = mapping.roles.get("position")
    if position is not None:
        places = numbers_of(array_of(table, position))
        if set(np.unique(picks[~np.isnan(picks)])) <= set(np.unique(places[~np.isnan(places)])):
            return np.where(np.isnan(picks), np.nan, picks == places), ""
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    if starts.size != np.unique(codes).size:
        return np.where(np.isnan(picks), np.nan, 0.0), (
            f"{column!r} counts the rows of each slate, which are not together: name their places: --position"
        )
    slots = np.arange(codes.size) - np.repeat(starts, np.diff(np.r_[starts, codes.size]))
    names = Names([str(i + 1) for i in range(int(slots.max()) + 1)], first=mapping.places_from)
    found = decode_codes(picks, names)
    return np.where(np.isnan(found.places), np.nan, found.places == slots), found.unclear


def _same(pick: Any, item: Any) -> bool:
    return str(pick).strip().removesuffix(".0") == str(item).strip().removesuffix(".0")


def free_name(name: str, columns: dict[str, NDArray[Any]]) -> str:
    """Return the name, with underscores appended until it is not taken."""
    while name in columns or name in ("result", "source_row", "weight"):
        name += "_"
    return name


# --- lists and rankings ---------------------------------------------------------------------------


def _from_lists(table: pa.Table, mapping: Mapping) -> Unfolded:
    roles = mapping.roles
    inner: dict[str, list[Any]] = {}
    for name in mapping.stems:
        inner |= _fields(table, name)
    role = {how.RANK: "rank", how.RATING: "rating", how.FLAGS: "pick"}.get(mapping.how)
    if role is not None:
        own = roles[role]  # a column of lists, or a field of the candidates
        inner["result"] = table.column(own).to_pylist() if own in table.column_names else inner.pop(own)
    if "item" in roles:
        inner["item"] = table.column(roles["item"]).to_pylist()
    lengths = [max((len(v[i] or ()) for v in inner.values()), default=0) for i in range(table.num_rows)]
    index = np.repeat(np.arange(table.num_rows), lengths)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    columns: dict[str, NDArray[Any]] = {"slate": index, "slot": np.arange(index.size) - starts[index]}
    for name, values in inner.items():
        flat = np.empty(index.size, object)
        for at, row in zip(starts, values, strict=True):
            flat[at : at + len(row or ())] = objects(list(row or ()))  # None remains beyond its end
        columns[name if name in ("result", "item") else free_name(name, columns)] = flat
    notes: list[str] = []
    unclear, kind = "", NONE
    if mapping.how == how.PLACE:
        columns["result"], notes, unclear = _picked_places(
            table, mapping, columns, index, starts, np.array(lengths)
        )
        kind = PICK
    elif mapping.how == how.FLAGS:
        columns["result"], kind = flags_of(columns["result"]), PICK
    elif mapping.how in (how.RANK, how.RATING):
        numbers = numbers_of(columns["result"])
        columns["result"], kind = (-numbers if mapping.how == how.RATING else numbers), RANK
        unclear = odd_ranks(numbers, roles["rank"]) if mapping.how == how.RANK else ""
    _add_constants(columns, table, mapping, index)
    empty = lengths.count(0)
    notes = ([counted(empty, "{row lists|rows list} no candidates")] if empty else []) + notes
    decided = _decided(columns, index, table.num_rows)
    return Unfolded(columns, kind, notes, unclear, decided=decided)


def _decided(columns: dict[str, NDArray[Any]], index: NDArray[Any], rows: int) -> float:
    if "result" not in columns:
        return 1.0
    bad = np.unique(index[np.isnan(columns["result"])]).size
    return 1.0 - (bad + rows - np.unique(index).size) / max(rows, 1)


def _fields(table: pa.Table, name: str) -> dict[str, list[Any]]:
    """Return a column of lists by name; lists of structs become one list per field."""
    values = table.column(name).to_pylist()
    kind = table.schema.field(name).type.value_type
    if not pa.types.is_struct(kind):
        return {name: values}
    own = {f.name: f"{f.name}_" if f.name in STANDARD else f.name for f in kind}
    return {
        own[f.name]: [None if row is None else [(p or {}).get(f.name) for p in row] for row in values]
        for f in kind
    }


def _picked_places(
    table: pa.Table, mapping: Mapping, columns: dict[str, NDArray[Any]], index: NDArray[Any],
    starts: NDArray[Any], lengths: NDArray[Any],
) -> tuple[NDArray[np.float64], list[str], str]:  # fmt: skip
    """Return the result of every candidate from the place, or the name, of the pick of its list."""
    column = mapping.roles["pick"]
    values = array_of(table, column)
    items = columns.get("item")
    if items is not None and any(isinstance(v, str | list) for v in values[:50]):
        names = objects([text_of(v) for v in values])
        found = np.array(
            [
                names[row] is not None and text_of(item) == names[row]
                for row, item in zip(index, items, strict=True)
            ]
        )
        if (np.bincount(index, found, table.num_rows) > 0).mean() > 0.5:
            return _named_once(found, columns, mapping, index, table.num_rows)
    places = numbers_of(values)
    if mapping.places_from is not None:
        place = (places - mapping.places_from)[index]
        return np.where(np.isnan(place), np.nan, columns["slot"] == place), [], ""
    there = places[~np.isnan(places) & (lengths > 0)]
    sizes = lengths[~np.isnan(places) & (lengths > 0)]
    notes, unclear = [], ""
    if there.size >= 8 and (there == 0).any() and (there == sizes).mean() > 0.02:
        unclear = f"{column!r} holds 0 and the length of its list: places from 1 with 0 for none, or an error"
    elif there.size and there.min() >= 1 and (there == sizes).any() and (there <= sizes).all():
        notes.append(f"{column!r} counts places from 1")
        places = places - 1
    elif there.size and there.min() >= 1 and not (there == 0).any():
        if there.size >= 30:
            notes.append(f"{column!r} counts places from 1: place 0 never occurs")
            places = places - 1
        elif not (there > sizes).any():
            values_text = ", ".join(f"{v:g}" for v in np.unique(there)[:5])
            unclear = f"{column!r} holds {values_text}: places counted from 0, or from 1"
    place = places[index]
    return np.where(np.isnan(place), np.nan, columns["slot"] == place), notes, unclear


def _named_once(
    found: NDArray[np.bool_],
    columns: dict[str, NDArray[Any]],
    mapping: Mapping,
    index: NDArray[Any],
    rows: int,
) -> tuple[NDArray[np.float64], list[str], str]:
    """Return the result of candidates whose text the pick repeats, (n,), and notes.

    Of equal texts with equal rewards the first is taken; where rewards differ, the pick is unreadable.
    """
    matches = np.bincount(index, found, rows)
    first = np.zeros(index.size, bool)
    first[np.flatnonzero(found)[np.unique(index[found], return_index=True)[1]]] = True
    low, high = np.full(rows, np.inf), np.full(rows, -np.inf)
    for reward in (r for r in mapping.rewards if r in columns):
        values = np.nan_to_num(numbers_of(columns[reward]))
        np.minimum.at(low, index[found], values[found])
        np.maximum.at(high, index[found], values[found])
    unclear = (matches > 1) & (high > low)
    notes = (
        [
            counted(
                int(unclear.sum()),
                "{pick names|picks name} a text that is listed twice with different rewards",
            )
        ]
        if unclear.any()
        else []
    )
    return np.where((matches > 0)[index] & ~unclear[index], first, np.nan), notes, ""


def _from_rankings(table: pa.Table, mapping: Mapping) -> Unfolded:
    """Return rankings such as ``b > a ~ d`` with one row per item; those left out are not compared."""
    columns_of_ranks = mapping.marks or (mapping.roles["rank"],)
    parts = [table.column(name).to_pylist() for name in columns_of_ranks]
    cells = [list(row) for row in zip(*parts, strict=True)] if mapping.marks else parts[0]
    rows, items, ranks = [], [], []
    for row, value in enumerate(cells):
        for rank, level in enumerate(levels_of(value), start=1):
            rows += [row] * len(level)
            items += level
            ranks += [float(rank)] * len(level)
    index = np.array(rows, np.int64)
    check_rankings(mapping, index, items, np.array(ranks))
    columns: dict[str, NDArray[Any]] = {"slate": index, "item": objects(items), "result": np.array(ranks)}
    _add_constants(columns, table, mapping, index)
    sizes = np.bincount(index, minlength=table.num_rows)
    partial = int(((sizes > 1) & (sizes < len(set(items)))).sum())
    notes = (
        [
            counted(
                partial,
                "{ranking leaves|rankings leave} out some items, which are not compared in {it|them}",
            )
        ]
        if partial
        else []
    )
    return Unfolded(columns, RANK, notes)


def _add_constants(
    columns: dict[str, NDArray[Any]], table: pa.Table, mapping: Mapping, index: NDArray[Any]
) -> None:
    """Add the columns with one value per row; ``index`` (n,) is each candidate's row."""
    for role in ("chooser", "context", "round", "time"):
        if role in mapping.roles:
            columns[role] = array_of(table, mapping.roles[role])[index]
    if "count" in mapping.roles:
        columns["weight"] = numbers_of(array_of(table, mapping.roles["count"]))[index]


# --- wide and pairs -------------------------------------------------------------------------------


def _from_wide(table: pa.Table, mapping: Mapping) -> Unfolded:
    k = len(mapping.alternatives)
    notes: list[str] = []
    picks = picks_of(table, mapping, notes)
    slates = picks.row.size
    index = np.repeat(picks.row, k)
    slot = np.tile(np.arange(k), slates)
    columns: dict[str, NDArray[Any]] = {"slate": np.repeat(np.arange(slates), k)}
    if mapping.form != "pairs":  # chosen and rejected are not positions
        columns["slot"] = slot
    _add_constants(columns, table, mapping, index)
    if picks.voter is not None or slates > table.num_rows:
        columns["source_row"] = index
    if picks.voter is not None and "chooser" not in columns:
        columns["chooser"] = np.repeat(picks.voter, k)
    if picks.weight is not None:
        own = np.repeat(picks.weight, k)
        columns["weight"] = own * columns["weight"] if "weight" in columns else own
    kind = NONE
    if picks.ranks is not None:
        columns["result"], kind = picks.ranks.ravel(), RANK
    elif mapping.how != how.NOTHING:
        pick = picks.place[columns["slate"]]
        columns["result"] = np.where(np.isnan(pick), np.nan, (pick == slot) | (pick == TIE) | (pick == BAD))
        kind = PICK
    here = _add_attributes(columns, table, mapping, index, slot, notes)
    empty = slates - np.unique(columns["slate"][here]).size
    if empty:
        notes.append(counted(empty, "{slate offers|slates offer} no alternative"))
    kept = {name: values[here] for name, values in columns.items()}
    return Unfolded(kept, kind, notes, picks.unclear, picks.decided)


def _add_attributes(
    columns: dict[str, NDArray[Any]], table: pa.Table, mapping: Mapping, index: NDArray[Any],
    slot: NDArray[Any], notes: list[str],
) -> NDArray[np.bool_]:  # fmt: skip
    """Add the attributes of every candidate; return which candidates were available."""
    here = np.ones(index.size, bool)
    for stem, names in mapping.stems.items():
        values = _spread_stem(table, names, index, slot, stem or "item", notes)
        if key(stem) in AVAILABLE:
            here = flags_of(values) == 1
        elif key(stem) in map(key, ITEM_STEMS) and "item" not in columns and values.dtype == object:
            columns["item"] = values
        elif key(stem) in map(key, ITEM_STEMS) and "item" not in columns and stem in ("item", ""):
            columns["item"] = objects([str(v) for v in values])
        else:
            columns[free_name(stem or "item_", columns)] = values
    if mapping.joined is not None:
        column, separator = mapping.joined
        texts = array_of(table, column)
        k = len(mapping.alternatives)
        parts = np.array([v.split(separator) if v else [None] * k for v in texts], object)
        columns["item"] = parts[index, slot]
    elif "item" not in columns:
        _name_items(columns, mapping, slot, notes)
    return here


def _name_items(
    columns: dict[str, NDArray[Any]], mapping: Mapping, slot: NDArray[Any], notes: list[str]
) -> None:
    """Add the items: the only text that recurs, or the names of the alternatives."""
    if not Names(mapping.alternatives).counted and mapping.form == "wide":
        columns["item"] = np.array(mapping.alternatives, object)[slot]
        return
    texts = [s for s in mapping.stems if s in columns and columns[s].dtype == object]
    if len(texts) == 1 and mapping.form == "wide":
        values = [str(v) for v in columns[texts[0]]]
        distinct = len(set(values))
        if distinct * 4 <= len(values) and max(map(len, values), default=0) <= 80:
            columns["item"] = columns.pop(texts[0])
            notes.append(f"the values of {texts[0]!r} recur: they name the items")


def _spread_stem(
    table: pa.Table,
    names: tuple[str | None, ...],
    index: NDArray[Any],
    slot: NDArray[Any],
    stem: str,
    notes: list[str],
) -> NDArray[Any]:
    """Return an attribute of every candidate; 0, or None for text, if its alternative has no column."""
    parts = [None if name is None else array_of(table, name) for name in names]
    words = any(p is not None and p.dtype == object for p in parts)
    out: NDArray[Any] = np.empty(index.size, object) if words else np.zeros(index.size)
    for place, values in enumerate(parts):
        if values is None:
            notes.append(f"{stem!r} has no column for alternative {place + 1}: it is 0 there")
            out[slot == place] = None if words else 0.0
        else:
            out[slot == place] = values[index[slot == place]]
    return out
