"""Conversion of files of every form to one row per candidate, with the log's column names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.core.errors import InputError
from recurate.log.reading.roles import AVAILABLE, Mapping

# Standard columns of an unfolded table; "result" holds the pick or the rank.
STANDARD = ("round", "slate", "slot", "item", "chooser", "context", "time", "source_row", "result")
TIE_WORDS = {"tie", "tied", "both", "equal", "draw", "same", "bothbad", "tie (bothbad)", "both_bad"}
YES, NO = {"1", "true", "yes", "y", "t", "1.0"}, {"0", "false", "no", "n", "f", "0.0"}
RANK, PICK = "rank", "pick"


@dataclass(frozen=True)
class Unfolded:
    """A table with one row per candidate.

    Attributes:
        columns: Columns by name, shape (rows,) each: standard ones and attributes. ``result`` holds ranks (1
            is best), or 1 for picked and 0 for not picked; unreadable values are NaN.
        kind: Meaning of ``result``, ``rank`` or ``pick``.
        notes: Assumptions made in reading.
    """

    columns: dict[str, NDArray[Any]]
    kind: str
    notes: list[str]


def unfold(table: pa.Table, mapping: Mapping) -> Unfolded:
    """Return a table with one row per candidate."""
    if mapping.form == "long":
        return _from_long(table, mapping)
    if mapping.form == "lists":
        return _from_lists(table, mapping)
    return _from_wide(table, mapping)


def array_of(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column as an array (rows,): numbers with NaN for null, other values as objects."""
    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_boolean(kind) and column.null_count == 0:
        return np.asarray(column.to_numpy(), float)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind):
        return np.asarray(column.to_numpy())
    return _objects(column.to_pylist())


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    out = np.empty(len(values), object)
    out[:] = values
    return out


def numbers_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values (n,) of any type as numbers, NaN for values that are not numbers."""
    if values.dtype != object:
        return values.astype(float)
    out = np.full(values.size, np.nan)
    for i, value in enumerate(values):
        try:
            out[i] = float(value)
        except (TypeError, ValueError):
            continue
    return out


def blank(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask (n,) of the values that are missing: null, NaN or empty text."""
    if values.dtype == object:
        return np.array([v is None or v == "" for v in values], bool)
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.size, bool)


def _from_long(table: pa.Table, mapping: Mapping) -> Unfolded:
    roles = mapping.roles
    named = {role: role for role in ("round", "item", "chooser", "context", "time", "slate")}
    named["position"] = "slot"
    columns = {name: array_of(table, roles[role]) for role, name in named.items() if role in roles}
    absent = blank(columns["slate"])
    notes = []
    if absent.any():  # candidates that were not shown
        notes.append(f"{int(absent.sum())} rows belong to no slate")
    if "source" in table.column_names and "source" not in roles.values():
        source = array_of(table, "source")
        if set(np.unique(source.astype(str)).tolist()) <= {"model", "real"}:
            real = source.astype(str) == "real"
            notes += [f"{int(real.sum())} rows of real data are not candidates"] if real.any() else []
            absent |= real
    kind = RANK if "rank" in roles else PICK
    given = array_of(table, roles[kind])
    columns["result"] = numbers_of(given) if kind == RANK else _flags(given)
    for name in table.column_names:
        if name not in roles.values():
            columns[_free(name, columns)] = array_of(table, name)
    return Unfolded({n: v[~absent] for n, v in columns.items()}, kind, notes)


def _free(name: str, columns: dict[str, NDArray[Any]]) -> str:
    """Return the name, with underscores appended until it is not taken."""
    while name in columns or name in ("result", "source_row"):
        name += "_"
    return name


def _flags(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 for yes, 0 for no and NaN for other values, shape (n,)."""
    if values.dtype != object:
        numbers = values.astype(float)
        return np.where((numbers == 0) | (numbers == 1), numbers, np.nan)
    out = np.full(values.size, np.nan)
    words = np.array(["" if v is None else str(v).strip().lower() for v in values])
    out[np.isin(words, list(YES))] = 1.0
    out[np.isin(words, list(NO))] = 0.0
    return out


def _from_lists(table: pa.Table, mapping: Mapping) -> Unfolded:
    roles = mapping.roles
    listed = {n: table.column(n).to_pylist() for n in mapping.stems}
    kind = RANK if "rank" in roles else PICK
    outcome = table.column(roles[kind]).to_pylist()
    inner = {**listed, **({"result": outcome} if kind == RANK else {})}
    if "item" in roles:
        inner["item"] = table.column(roles["item"]).to_pylist()
    lengths = [max((len(v[i] or ()) for v in inner.values()), default=0) for i in range(table.num_rows)]
    index = np.repeat(np.arange(table.num_rows), lengths)
    starts = np.cumsum(lengths) - lengths
    columns: dict[str, NDArray[Any]] = {"slate": index, "slot": np.arange(index.size) - starts[index]}
    for name, values in inner.items():
        flat = np.empty(index.size, object)
        for at, row in zip(starts, values, strict=True):
            flat[at : at + len(row or ())] = row or ()  # None remains where a list is too short
        columns["result" if name == "result" else _free(name, columns)] = flat
    if kind == RANK:
        columns["result"] = numbers_of(columns["result"])
    else:
        places = numbers_of(_objects(outcome))
        place = places[index]
        columns["result"] = np.where(np.isnan(place), np.nan, columns["slot"] == place)
    _add_constants(columns, table, mapping, index)
    empty = lengths.count(0)
    return Unfolded(columns, kind, [f"{empty} rows list no candidates"] if empty else [])


def _add_constants(
    columns: dict[str, NDArray[Any]], table: pa.Table, mapping: Mapping, index: NDArray[Any]
) -> None:
    """Add the columns with one value per row; ``index`` (n,) is each candidate's row."""
    for role in ("chooser", "context", "round", "time"):
        if role in mapping.roles:
            columns[role] = array_of(table, mapping.roles[role])[index]


def _from_wide(table: pa.Table, mapping: Mapping) -> Unfolded:
    k, n = len(mapping.alternatives), table.num_rows
    notes: list[str] = []
    votes = mapping.votes or ("",)
    slates = n * len(votes)
    row_of = np.repeat(np.arange(n), len(votes))  # row of each slate
    index = np.repeat(row_of, k)
    slot = np.tile(np.arange(k), slates)
    columns: dict[str, NDArray[Any]] = {"slate": np.repeat(np.arange(slates), k)}
    if mapping.form != "pairs":  # chosen and rejected are not positions
        columns["slot"] = slot
    if len(votes) > 1:
        columns["source_row"] = index
        columns["chooser"] = np.repeat(np.tile(np.array(votes, object), n), k)
    _add_constants(columns, table, mapping, index)
    picks = np.zeros(slates) if mapping.form == "pairs" else _decode(table, mapping, notes)
    pick = picks[columns["slate"]]
    columns["result"] = np.where(np.isnan(pick), np.nan, (pick == slot) | (pick == -1))  # -1: a tie
    here = np.ones(slates * k, bool)
    for stem, names in mapping.stems.items():
        values = _spread_stem(table, names, index, slot, stem, notes)
        if stem.lower() in AVAILABLE:
            here = _flags(values) == 1
        elif stem.lower() in ("item", "model", "alternative", "name", "option", "candidate"):
            columns["item"] = values
        else:
            columns[_free(stem, columns)] = values
    if mapping.joined is not None:
        column, separator = mapping.joined
        texts = array_of(table, column)
        parts = np.array([v.split(separator) if v else [None] * k for v in texts], object)
        columns["item"] = parts[index, slot]
    elif "item" not in columns and not _mere_numbers(mapping.alternatives) and mapping.form == "wide":
        columns["item"] = np.array(mapping.alternatives, object)[slot]
    empty = slates - np.unique(columns["slate"][here]).size
    if empty:
        notes.append(f"{empty} slates offer no alternative")
    kept = {name: values[here] for name, values in columns.items()}
    return Unfolded(kept, PICK, notes)


def _mere_numbers(alternatives: tuple[str, ...]) -> bool:
    return all(a.isdigit() or (len(a) == 1) or a.lower() in ("left", "right") for a in alternatives)


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


def _decode(table: pa.Table, mapping: Mapping, notes: list[str]) -> NDArray[np.float64]:
    """Return the index of each slate's picked alternative, (slates,); -1 for a tie, NaN if unreadable."""
    k = len(mapping.alternatives)
    columns = [array_of(table, name) for name in mapping.votes]
    if all(c.dtype != object for c in columns):
        codes = np.column_stack([c.astype(float) for c in columns])
        found = set(np.unique(codes[~np.isnan(codes)]).tolist())
        if not _mere_numbers(mapping.alternatives) and not mapping.ordered:
            raise InputError(
                "the choices are numbers and the alternatives are names, and their correspondence is unknown",
                got=f"codes {', '.join(f'{v:g}' for v in sorted(found))}; alternatives "
                f"{', '.join(mapping.alternatives)}",
                remedy="list the alternatives in the order of the codes: --alternatives A,B,C",
            )
        if k in found or found <= set(range(1, k + 1)):
            if 0.0 in found:
                notes.append(f"picks count from 1, and 0 is read as {'a tie' if k == 2 else 'no pick'}")
            picks = np.where(codes == 0, -1.0 if k == 2 else np.nan, codes - 1)
        else:
            notes.append("picks count from 0")
            picks = codes
        picks = np.where(np.isnan(picks) | (picks == -1) | np.isin(picks, np.arange(k)), picks, np.nan)
        return np.asarray(picks.ravel())
    flat = np.column_stack(columns).ravel()
    names = {a.lower(): i for i, a in enumerate(mapping.alternatives)}
    names |= {f"{s}_{a}".lower(): i for s in ("model", "response", "option", "answer")
              for i, a in enumerate(mapping.alternatives)}  # fmt: skip
    names |= {f"{s}{a}".lower(): i for s in mapping.stems for i, a in enumerate(mapping.alternatives)}
    places = {str(i + 1): i for i in range(k)}
    out = np.full(flat.size, np.nan)
    for i, value in enumerate(flat):
        word = "" if value is None else str(value).strip().lower()
        number = word.removesuffix(".0")
        if word in names:
            out[i] = names[word]
        elif word in TIE_WORDS:
            out[i] = -1
        elif number in places:
            out[i] = places[number]
    return out
