"""Slates from a file of candidates: rows, lists or numbered columns of texts, images or points."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from recurate.core.errors import InputError, nearest
from recurate.log.reading.sources import open_source
from recurate.people.ballots import Candidate, Slate

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
        InputError: If a column is missing, an image cannot be read, or nothing says what is shown together.
    """
    table = open_source(path).read(None)
    for name in (columns.context, columns.slate, columns.check, *columns.show.split(",")):
        if name and name not in table.column_names:
            raise InputError(
                f"there is no column {name!r}",
                got=f"columns {', '.join(table.column_names)}",
                remedy=nearest(name, table.column_names),
            )
    found = Found()
    context = columns.context or _first(table, CONTEXT)
    layout, names = _shown(table, columns, context)
    rows = table.to_pylist()
    if layout == "lists":
        found.account.append(f"each row is a slate: the lists of {names[0]!r}")
        groups = [_of_list(row, names[0], context) for row in rows]
    elif layout == "wide":
        found.account.append(f"each row is a slate: columns {', '.join(names)}")
        groups = [[{"": row[name]} for name in names if row[name] not in (None, "")] for row in rows]
    else:
        found.account.append(f"each row is a candidate: {', '.join(names)}")
        groups, rows = _long(rows, table, columns, context, found)
        own = {*names, context}
        groups = [[{"": _value(row, names), **_values(row, own)} for row in group] for group in groups]
    found.account.append(f"prompts: {context!r}" if context else "no prompts")
    base = path.parent if path.is_file() else path
    for number, (group, row) in enumerate(zip(groups, rows, strict=True)):
        made = tuple(
            _candidate(slot, one, base, found, f"row {number + 1} of {path}")
            for slot, one in enumerate(group)
        )
        if len(made) < 2:
            raise InputError(
                "a slate needs two candidates or more",
                got=f"{len(made)} in slate {number + 1} of {path}",
                remedy="correct it; --slate COLUMN or --k K says which rows belong together",
            )
        said = "" if not context or row[context] is None else str(row[context])
        found.slates.append(Slate(number, made, said, answer=_answer(group, columns.check)))
    if not found.slates:
        raise InputError("there are no candidates to show", got=path, remedy="name a file with rows")
    return found


def _first(table: pa.Table, names: Sequence[str]) -> str:
    return next((n for n in names if n in table.column_names), "")


def _is_list(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _shown(table: pa.Table, columns: Columns, context: str) -> tuple[str, list[str]]:
    """Return the layout (``lists``, ``wide`` or ``long``) and the columns of what is shown."""
    if columns.show:
        names = columns.show.split(",")
        return "lists" if len(names) == 1 and _is_list(table, names[0]) else "long", names
    lists = [n for n in LISTS if n in table.column_names and _is_list(table, n)]
    if lists:
        return "lists", lists[:1]
    numbered: dict[str, list[str]] = {}
    for name in table.column_names:
        match = NUMBERED.match(name)
        if match and match[1].lower() in (*CONTENT, *(n.removesuffix("s") for n in LISTS)):
            numbered.setdefault(match[1], []).append(name)
    several = [names for names in numbered.values() if len(names) > 1]
    if several:
        return "wide", several[0]
    single = [n for n in CONTENT if n in table.column_names and n != context]
    if single:
        return "long", single[:1]
    if {"x", "y"} <= set(table.column_names):
        return "long", ["x", "y"]
    raise InputError(
        "no column says what is shown",
        got=f"columns {', '.join(table.column_names)}",
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
    rows: list[dict[str, Any]], table: pa.Table, columns: Columns, context: str, found: Found
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return rows that are shown together, and the first row of each slate."""
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
        more = [n for n in ("round",) if n in table.column_names]
        found.account.append(f"rows of one {slate!r} are a slate")
        key = lambda at, row: tuple(row[n] for n in (*more, slate))  # noqa: E731
    elif context:
        found.account.append(f"rows of one {context!r} are a slate")
        key = lambda at, row: row[context]  # noqa: E731
    else:
        raise InputError(
            "nothing says which candidates are shown together",
            got=f"columns {', '.join(table.column_names)}",
            remedy="--slate COLUMN, or --k K for K rows after each other",
        )
    groups: dict[Any, list[dict[str, Any]]] = {}
    for at, row in enumerate(rows):
        groups.setdefault(key(at, row), []).append(row)
    return list(groups.values()), [own[0] for own in groups.values()]


def _value(row: dict[str, Any], names: list[str]) -> Any:
    if len(names) == 1:
        return row[names[0]]
    try:
        return [[float(row[n]) for n in names]]
    except (TypeError, ValueError):
        got = ", ".join(f"{n} = {row[n]!r}" for n in names)
        raise InputError("a point lacks a coordinate", got=got, remedy="correct or remove the row") from None


def _values(row: dict[str, Any], not_these: set[str]) -> dict[str, Any]:
    plain = (bool, int, float, str, type(None))
    known = {"slot", "slate", "picked", "chooser", "round", "item", *SLATES}
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


def _answer(group: list[dict[str, Any]], check: str) -> int | None:
    """Return the slot that a check expects."""
    right = [
        slot
        for slot, one in enumerate(group)
        if check and str(one.get(check)).lower() in ("true", "1", "yes")
    ]
    return right[0] if len(right) == 1 else None
