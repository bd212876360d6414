"""Slates from a file of candidates: rows, lists or numbered columns of texts, images or points."""

from __future__ import annotations

import hashlib
import io
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

CONTENT = (
    "text",
    "sample",
    "response",
    "completion",
    "output",
    "answer",
    "candidate",
    "image",
    "file",
    "path",
)
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
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
TRUE = ("true", "1", "1.0", "yes")
LARGEST = 4096  # pixels per side of an image that is kept; larger ones are made smaller
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
    if layout == "lists":
        found.account.append(f"each row is a slate: the lists of {names[0]!r}")
        groups = [_of_list(row, names[0], context) for row in rows]
    elif layout == "wide":
        found.account.append(f"each row is a slate: columns {', '.join(names)}")
        filled = [[name for name in names if row[name] not in (None, "")] for row in rows]
        groups = [[{"": row[name]} for name in own] for row, own in zip(rows, filled, strict=True)]
    else:
        found.account.append(f"each row is a candidate: {', '.join(names)}")
        groups, rows = _long(rows, schema, columns, context, found)
        prompts = [{r[context] for r in group} if context else set() for group in groups]
        own = {*names, context}
        kept = {columns.check} if columns.check else set()
        groups = [[{"": _value(row, names), **_values(row, own, kept)} for row in group] for group in groups]
    found.account.append(f"prompts: {context!r}" if context else "no prompts")
    base = path.parent if path.is_file() else path
    for number, (group, row) in enumerate(zip(groups, rows, strict=True)):
        where = f"slate {number + 1} of {path}"
        made = tuple(_candidate(slot, one, base, found, where) for slot, one in enumerate(group))
        if len(made) < 2:
            raise InputError(
                "a slate needs two candidates or more",
                got=f"{len(made)} in {where}",
                remedy="correct it; --slate COLUMN or --k K says which rows belong together",
            )
        said = "" if not context or row[context] is None else str(row[context])
        if layout == "long":
            _check_prompt(prompts[number], where)
        named = filled[number] if layout == "wide" else []
        answer = _answer(row, made, columns.check, named, where)
        found.slates.append(Slate(number, made, said, answer=answer))
    if not found.slates:
        raise InputError("there are no candidates to show", got=path, remedy="name a file with rows")
    _say_checks(found, columns.check)
    return found


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
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _shown(table: pa.Schema, columns: Columns, context: str) -> tuple[str, list[str]]:
    """Return the layout (``lists``, ``wide`` or ``long``) and the columns of what is shown."""
    if columns.show:
        names = columns.show.split(",")
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


def _of_list(row: dict[str, Any], show: str, context: str) -> list[dict[str, Any]]:
    """Return a row's candidates; other lists of the same length are the candidates' own values."""
    own = row[show] or []
    alike = {
        n: v for n, v in row.items()
        if n not in (show, context) and isinstance(v, list) and len(v) == len(own)
    }  # fmt: skip
    return [{"": one, **{n: v[at] for n, v in alike.items()}} for at, one in enumerate(own)]


def _long(
    rows: list[dict[str, Any]], table: pa.Schema, columns: Columns, context: str, found: Found
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return rows that are shown together, and the first row of each slate; rows of no slate are left out."""
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
        groups.setdefault(key(at, row), []).append(row)
    if lost := len(groups.pop(None, [])):
        found.account.append(f"left out: {counted(lost, '{row|rows}')} without a {(slate or context)!r}")
    return list(groups.values()), [own[0] for own in groups.values()]


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
    plain = (bool, int, float, str, type(None))
    known = {"slot", "slate", "picked", "chooser", "round", "item", *SLATES} - kept
    return {n: v for n, v in row.items() if n not in not_these | known and isinstance(v, plain)}


def _candidate(slot: int, one: dict[str, Any], base: Path, found: Found, where: str) -> Candidate:
    value = one.pop("")
    if isinstance(value, dict):  # a message of a conversation, or an image of a data set
        value = value.get("content") or value.get("bytes") or value.get("path") or json.dumps(value)
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            value = "\n\n".join(str(part.get("content", "")) for part in value)
        else:
            points = value if value and isinstance(value[0], list) else [value]
            return Candidate(slot, "points", json.dumps([[float(x) for x in p[:2]] for p in points]), one)
    if isinstance(value, bytes) or (isinstance(value, str) and value.lower().endswith(PICTURES)):
        data = value if isinstance(value, bytes) else _file(base, value, where)
        image = _as_png(data, where)
        digest = hashlib.sha256(image).hexdigest()
        found.images[digest] = image
        return Candidate(slot, "image", digest, one)
    if value is None or not str(value).strip():
        raise InputError("a candidate is empty", got=where, remedy="correct it, or leave its row out")
    return Candidate(slot, "text", str(value), one)


def _file(base: Path, name: str, where: str) -> bytes:
    path = (base / name).resolve()
    if not path.is_relative_to(base.resolve()):
        raise InputError(
            "an image lies outside the folder of its file", got=f"{name} in {where}", remedy="move it there"
        )
    try:
        return path.read_bytes()
    except OSError:
        raise InputError(
            "a candidate's image is missing", got=f"{name} in {where}", remedy=f"put it into {base}"
        ) from None


def _as_png(data: bytes, where: str) -> bytes:
    """Return an image as PNG, without anything that its file said besides its pixels."""
    from PIL import Image

    from recurate.core.limits import check_memory

    try:
        with Image.open(io.BytesIO(data)) as image:
            check_memory("an image", 4.0 * image.width * image.height, "use a smaller one")
            image.thumbnail((LARGEST, LARGEST))
            file = io.BytesIO()
            image.convert("RGBA" if "A" in image.getbands() else "RGB").save(file, "PNG")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            "a candidate's image cannot be read", got=f"{where}: {error}", remedy="save it as PNG or JPEG"
        ) from None
    return file.getvalue()


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
