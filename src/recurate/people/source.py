"""Slates from a file of candidates: rows, lists or numbered columns of texts, images or points."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from recurate.core.errors import InputError, counted, nearest
from recurate.log.reading.sources import open_source
from recurate.people.ballots import Candidate, Slate, look
from recurate.people.contents import CONTENT, Contents, conversation, is_plain

LISTS = (
    "candidates",
    "responses",
    "completions",
    "samples",
    "outputs",
    "answers",
    "texts",
    "images",
    "choices",
)
CONTEXT = ("prompt", "context", "question", "instruction", "input", "query")
SLATES = ("slate", "slate_id", "question_id", "task", "task_id")
TRUE = ("true", "1", "1.0", "yes")
NUMBERED = re.compile(r"^(.+?)[_ ]?(\d+|[a-hA-H])$")


@dataclass(frozen=True)
class Columns:
    """What the user said about the columns; "" is left to be found.

    Attributes:
        show: Column of what is shown, or of lists of it; ``x,y`` for points.
        context: Column of prompts.
        slate: Column that says which rows are shown together.
        check: Column that marks the known answer of a check.
        k: Rows shown together, where no column says; 0: as columns say.
    """

    show: str = ""
    context: str = ""
    slate: str = ""
    check: str = ""
    k: int = 0


@dataclass
class Found:
    """Slates, images by digest, and how the file was understood."""

    slates: list[Slate] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)
    account: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Table:
    """Rows of a file, and how they are understood.

    Attributes:
        rows: The rows.
        schema: Their columns.
        columns: What the user said.
        context: Column of prompts, or "".
        names: Columns of what is shown.
        found: Where the account is kept.
    """

    rows: list[dict[str, Any]]
    schema: pa.Schema
    columns: Columns
    context: str
    names: list[str]
    found: Found


@dataclass(frozen=True)
class _Group:
    """What is shown together.

    Attributes:
        shown: What each candidate shows.
        own: Each candidate's own values.
        row: The slate's row, or the first one.
        names: Columns of the candidates, where they have columns.
        prompts: Prompts of the candidates, where they have rows.
    """

    shown: list[Any]
    own: list[dict[str, Any]]
    row: dict[str, Any]
    names: list[str] = field(default_factory=list)
    prompts: set[Any] = field(default_factory=set)


def read(path: Path, columns: Columns = Columns()) -> Found:
    """Read slates from a file.

    Raises:
        InputError: If a column is missing, an image cannot be read, nothing says what is shown together, or
            the known answer of a check is none of its candidates.
    """
    schema = open_source(path).schema
    for name in (columns.context, columns.slate, columns.check, *columns.show.split(",")):
        if name and name not in schema.names:
            raise InputError(
                f"there is no column {name!r}",
                got=f"columns {', '.join(schema.names)}",
                remedy=nearest(name, schema.names),
            )
    found = Found()
    context = columns.context or _first(schema, CONTEXT)
    layout, names = _shown(schema, columns, context)
    words = [context, *([columns.check] if layout == "wide" else [])]
    words += [] if len(names) > 1 and layout == "long" else names
    plain = [n for n in words if n and not pa.types.is_nested(schema.field(n).type)]
    rows = open_source(path, text=plain).read(None).to_pylist()  # "007" is no number
    slates = GROUPED[layout](_Table(rows, schema, columns, context, names, found))
    found.account.append(f"prompts: {context!r}" if context else "no prompts")
    base = path.parent if path.is_file() else path
    contents = Contents(base, names, (one for slate in slates for one in slate.shown))
    for number, slate in enumerate(slates):
        where = f"slate {number + 1} of {path}"
        pairs = zip(slate.shown, slate.own, strict=True)
        made = tuple(contents.candidate(slot, one, own, where) for slot, (one, own) in enumerate(pairs))
        if len(made) < 2:
            raise InputError(
                "a slate needs two candidates or more",
                got=f"{len(made)} in {where}",
                remedy="correct it; --slate COLUMN or --k K says which rows belong together",
            )
        said = _prompt(slate.row[context], where) if context else ""
        _check_prompt(slate.prompts, where)
        answer = _answer(slate.row, made, columns.check, slate.names, where)
        found.slates.append(Slate(number, made, said, answer=answer))
    found.images = contents.images
    if contents.unlike:
        what = "{text ends|texts end} like the name of an image that is not there: shown as text"
        found.account.append(counted(contents.unlike, what))
    if not found.slates:
        raise InputError("there are no candidates to show", got=path, remedy="name a file with rows")
    _say_checks(found, columns.check)
    return found


def _prompt(value: Any, where: str) -> str:
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        return conversation(value, where)
    return "" if value is None else str(value)


def _check_prompt(prompts: set[Any], where: str) -> None:
    if len(prompts) > 1:
        raise InputError(
            "candidates of one slate have different prompts",
            got=f"{', '.join(sorted(repr(p)[:40] for p in prompts)[:3])} in {where}",
            remedy="correct --slate or --k, or name another column of prompts: --context COLUMN",
        )


def _say_checks(found: Found, check: str) -> None:
    known = sum(slate.answer is not None for slate in found.slates)
    if check and not known:
        raise InputError(
            "no slate has a known answer",
            got=f"--check {check}",
            remedy="mark the right candidate by true in its row, or name it: its text, or its column",
        )
    if check:
        found.account.append(f"checks: the answers of {known} of {len(found.slates)} slates, by {check!r}")


def _first(schema: pa.Schema, names: Sequence[str]) -> str:
    return next((n for n in names if n in schema.names), "")


def _is_list(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _shown(table: pa.Schema, columns: Columns, context: str) -> tuple[str, list[str]]:
    """Return the layout (``lists``, ``wide`` or ``long``) and the columns of what is shown."""
    if columns.show:
        names = columns.show.split(",")
        if len(names) > 2:
            raise InputError(
                "points have two coordinates", got=f"--show {columns.show}", remedy="name two columns"
            )
        return "lists" if len(names) == 1 and _is_list(table, names[0]) else "long", names
    lists = [n for n in LISTS if n in table.names and _is_list(table, n)]
    if lists:
        return "lists", lists[:1]
    numbered: dict[str, list[str]] = {}
    for name in table.names:
        match = NUMBERED.match(name)
        if match and match[1].lower() in (*CONTENT, *(n.removesuffix("s") for n in LISTS)):
            numbered.setdefault(match[1], []).append(name)
    several = [names for names in numbered.values() if len(names) > 1]
    if several:
        return "wide", several[0]
    single = [n for n in CONTENT if n in table.names and n != context]
    if single:
        return "long", single[:1]
    if {"x", "y"} <= set(table.names):
        return "long", ["x", "y"]
    raise InputError(
        "no column says what is shown",
        got=f"columns {', '.join(table.names)}",
        remedy="--show COLUMN (of texts, images, or lists of them), or --show x,y",
    )


def _by_list(table: _Table) -> list[_Group]:
    """Return the slates of rows with a list of candidates.

    Other lists hold the candidates' own values if they are as long in every row.
    """
    show, found = table.names[0], table.found
    found.account.append(f"each row is a slate: the lists of {show!r}")
    lists = [n for n in table.schema.names if _is_list(table.schema, n) and n not in (show, table.context)]
    sizes = [len(row[show] or []) for row in table.rows]
    alike = [
        name
        for name in lists
        if all(
            len(r[name]) == k and all(map(is_plain, r[name]))
            for r, k in zip(table.rows, sizes, strict=True)
            if r[name] is not None
        )
    ]
    _say_own(table, alike, alike)
    return [
        _Group(row[show] or [], [{n: _at(row[n], at) for n in alike} for at in range(k)], row)
        for row, k in zip(table.rows, sizes, strict=True)
    ]


def _at(values: list[Any] | None, at: int) -> Any:
    return None if values is None else values[at]


def _by_column(table: _Table) -> list[_Group]:
    """Return the slates of rows with a column for each candidate, such as response_1 and response_2.

    Columns numbered in the same way, such as reward_1 and reward_2, hold the candidates' own values.
    """
    names, found = table.names, table.found
    found.account.append(f"each row is a slate: columns {', '.join(names)}")
    ends = [_end(name) for name in names]
    alike = _families(table, ends)
    _say_own(table, list(alike), [name for of in alike.values() for name in of.values()])
    made = []
    for row in table.rows:
        filled = [(name, end) for name, end in zip(names, ends, strict=True) if row[name] not in (None, "")]
        own = [{stem: row[of[end]] for stem, of in alike.items()} for _, end in filled]
        made.append(_Group([row[name] for name, _ in filled], own, row, [name for name, _ in filled]))
    return made


def _families(table: _Table, ends: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return columns that hold one plain value for each candidate, by stem and the candidate's number."""
    names, schema = table.names, table.schema.names
    found: dict[str, dict[str, str]] = {}
    for name in schema:
        match = NUMBERED.match(name)
        if match and name not in (*names, table.context, table.columns.check):
            found.setdefault(match[1], {})[match[2]] = name
    for stem in (name.removeprefix(names[0]) for name in schema if name.startswith(names[0])):
        if stem.strip("_ "):  # response_1_reward
            found[stem.strip("_ ")] = {e: f"{n}{stem}" for n, e in zip(names, ends, strict=True)}
    return {
        stem: own
        for stem, own in found.items()
        if set(own) >= set(ends)
        and set(own.values()) <= set(schema)
        and all(is_plain(row[name]) for row in table.rows for name in own.values())
    }


def _say_own(table: _Table, alike: Sequence[str], kept: Sequence[str]) -> None:
    """Say which values are the candidates' own, and which columns hold nothing that is kept."""
    used = {*kept, *table.names, table.context, table.columns.check}
    if alike:
        table.found.account.append(f"the candidates' own values: {', '.join(alike)}")
    if others := [name for name in table.schema.names if name not in used]:
        why = "there is not one value for each candidate"
        table.found.account.append(f"not kept, as {why}: {', '.join(others)}")


def _by_row(table: _Table) -> list[_Group]:
    """Return the slates of rows that each hold one candidate."""
    names, context, check = table.names, table.context, table.columns.check
    table.found.account.append(f"each row is a candidate: {', '.join(names)}")
    groups = _long(table.rows, table.schema, table.columns, context, table.found)
    out, kept = {*names, context}, {check} if check else set()
    return [
        _Group(
            [_value(row, names) for row in group],
            [_values(row, out, kept) for row in group],
            group[0],
            prompts={_hashable(row[context]) for row in group} if context else set(),
        )
        for group in groups
    ]


GROUPED: dict[str, Callable[[_Table], list[_Group]]] = {
    "lists": _by_list,
    "wide": _by_column,
    "long": _by_row,
}


def _long(
    rows: list[dict[str, Any]], table: pa.Schema, columns: Columns, context: str, found: Found
) -> list[list[dict[str, Any]]]:
    """Return rows that are shown together; rows of no slate are left out."""
    slate = columns.slate or _first(table, SLATES)
    key: Callable[[int, dict[str, Any]], Any]
    if columns.k:
        if len(rows) % columns.k:
            raise InputError(
                f"rows cannot be shown {columns.k} at a time",
                got=f"{len(rows)} rows",
                remedy="give a --k that divides them, or --slate COLUMN",
            )
        found.account.append(f"{columns.k} rows after each other are a slate")
        key = lambda at, row: at // columns.k  # noqa: E731
    elif slate:
        more = [n for n in ("round",) if n in table.names]
        found.account.append(f"rows of one {slate!r} are a slate")
        key = lambda at, row: None if row[slate] is None else tuple(row[n] for n in (*more, slate))  # noqa: E731
    elif context:
        found.account.append(f"rows of one {context!r} are a slate")
        key = lambda at, row: row[context]  # noqa: E731
    else:
        raise InputError(
            "nothing says which candidates are shown together",
            got=f"columns {', '.join(table.names)}",
            remedy="--slate COLUMN, or --k K for K rows after each other",
        )
    groups: dict[Any, list[dict[str, Any]]] = {}
    for at, row in enumerate(rows):
        groups.setdefault(_hashable(key(at, row)), []).append(row)
    if lost := len(groups.pop(None, [])):
        found.account.append(f"left out: {counted(lost, '{row|rows}')} without a {(slate or context)!r}")
    return list(groups.values())


def _hashable(value: Any) -> Any:
    """Return a value of a cell as a key: a conversation by its text."""
    return json.dumps(value, default=str) if isinstance(value, list | dict) else value


def _value(row: dict[str, Any], names: list[str]) -> Any:
    if len(names) == 1:
        return row[names[0]]
    try:
        point = [float(row[n]) for n in names]
        if not all(map(math.isfinite, point)):
            raise ValueError
        return [point]
    except (TypeError, ValueError):
        got = ", ".join(f"{n} = {row[n]!r}" for n in names)
        raise InputError("a point lacks a coordinate", got=got, remedy="correct or remove the row") from None


def _values(row: dict[str, Any], not_these: set[str], kept: set[str]) -> dict[str, Any]:
    known = {"slot", "slate", "picked", "chooser", "round", "item", *SLATES} - kept
    return {n: v for n, v in row.items() if n not in not_these | known and is_plain(v)}


def _answer(
    row: dict[str, Any], made: tuple[Candidate, ...], check: str, names: list[str], where: str
) -> int | None:
    """Return the slot that a check expects: whose own flag is set, or that the slate's row names.

    Args:
        row: Row of the slate.
        made: Its candidates.
        check: Column of the known answers, or "".
        names: Columns of the candidates, where they have columns.
        where: The slate in messages.

    Raises:
        InputError: If the answer is no candidate, or several that differ.
    """
    if not check:
        return None
    said = row[check]
    if any(check in one.values for one in made):
        right = [s for s, one in enumerate(made) if str(one.values.get(check)).lower() in TRUE]
    elif said is None or not str(said).strip():
        return None
    else:
        word = str(said).strip()
        ways = [str(name) for name in names], [_end(name) for name in names], [one.content for one in made]
        hits = [hit for way in ways if (hit := [s for s, x in enumerate(way) if x == word])]
        right = hits[0] if hits else []
        if any(hit != right for hit in hits):
            raise InputError(
                "the known answer of a check is one candidate's column and another one's text",
                got=f"{check} = {word[:80]!r} in {where}",
                remedy=f"name the column in full, such as {names[0]!r}",
            )
        if not right:
            raise InputError(
                "the known answer of a check is none of its candidates",
                got=f"{check} = {word[:80]!r} in {where}",
                remedy="name the candidate by its text or its column, or leave the cell empty",
            )
    if len({look(made[slot].form, made[slot].content) for slot in right}) > 1:
        raise InputError(
            "a check has several known answers", got=f"{len(right)} in {where}", remedy="mark one of them"
        )
    return right[0] if right else None


def _end(name: str) -> str:
    """Return the letter or number at the end of a column's name."""
    match = NUMBERED.match(name)
    return match[2] if match else name
