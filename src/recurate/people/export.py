"""All answers as a log, one row per candidate that was shown: Parquet, JSON lines or CSV, and back."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import insert, select, update

from recurate.core.errors import InputError
from recurate.core.files import atomic_path
from recurate.people.ballots import Study
from recurate.people.tables import DONE, ballots, candidates, leases, people, slates

ENDINGS = {"parquet": "application/octet-stream", "jsonl": "application/jsonl", "csv": "text/csv"}
PART = 20_000  # ballots that are turned into rows at a time
OUTCOMES = {"pick", "tie", "bad", "skip", "ranking"}


def table_of(study: Study) -> pa.Table:
    """Return every answer that stands as a slate of its own, in the order of round, slate and person.

    Columns: ``round``, ``slate`` (counted from 0), ``slot`` (the place on the page), ``item`` (a number of
    what is shown, from 0: equal candidates have equal numbers), ``context``, the candidates' own columns, ``picked``, ``chooser``,
    ``outcome``; ``shown`` (the text, or the digest of the image), ``question`` (the slate's number in its
    round), ``seconds``, ``time``; ``simulated``, ``repeated``, ``check`` (whether the candidate is the known
    answer), ``tied``, ``order`` (1 for the best), ``reason`` and ``comment`` where there are any.
    """
    numbers: dict[str, int] = {}
    tables = [_rows(study, part, start, numbers) for start, part in _parts(study)]
    if not tables:
        return pa.table({"round": pa.array([], pa.int32()), "slate": pa.array([], pa.int64())})
    whole = pa.concat_tables(tables, promote_options="default")
    return whole.select([n for n in whole.column_names if n not in _SELDOM or _any(whole.column(n))])


_SELDOM = {"simulated", "repeated", "check", "tied", "order", "reason", "comment", "context", "worker"}


def _any(column: pa.ChunkedArray) -> bool:
    return any(bool(value) for value in column.unique().to_pylist())


def _parts(study: Study) -> Any:
    """Yield the number of the first ballot, and the ballots, some at a time."""
    joined = ballots.join(leases, ballots.c.lease == leases.c.id).join(slates, ballots.c.slate == slates.c.id)
    wanted = (
        select(
            ballots.c.outcome, ballots.c.slots, ballots.c.reason, ballots.c.comment, ballots.c.seconds,
            ballots.c.made, leases.c.places, leases.c.repeat, slates.c.id, slates.c.round, slates.c.number,
            slates.c.context, slates.c.answer, people.c.label, people.c.worker, people.c.simulated,
        )
        .select_from(joined.join(people, ballots.c.person == people.c.id))
        .where(~ballots.c.withdrawn)
        .order_by(slates.c.round, slates.c.attempt, slates.c.number, people.c.id, leases.c.repeat)
    )  # fmt: skip
    with study.engine.execution_options(reads=True).connect() as c:
        start = 0
        for part in c.execution_options(yield_per=PART).execute(wanted).partitions(PART):
            yield start, part
            start += len(part)


def _rows(study: Study, part: Sequence[Any], start: int, numbers: dict[str, int]) -> pa.Table:
    shown = _candidates(study, {row.id for row in part})
    columns: dict[str, list[Any]] = defaultdict(list)
    extra: list[dict[str, Any]] = []
    for at, row in enumerate(part):
        slots, order = json.loads(row.slots), json.loads(row.places)
        own = shown[row.id]
        said = row.outcome
        best = slots[0] if said in ("pick", "ranking") else None
        when = datetime.fromtimestamp(row.made, UTC).isoformat(timespec="milliseconds")
        for place, slot in enumerate(order):
            candidate = own[slot]
            columns["round"].append(row.round)
            columns["slate"].append(start + at)
            columns["slot"].append(place)
            columns["item"].append(numbers.setdefault(candidate.content, len(numbers)))
            columns["context"].append(row.context)
            columns["picked"].append(slot == best)
            columns["chooser"].append(row.label)
            columns["outcome"].append(said)
            columns["shown"].append(candidate.content)
            columns["question"].append(row.number)
            columns["seconds"].append(round(row.seconds, 3))
            columns["time"].append(when)
            columns["simulated"].append(row.simulated)
            columns["repeated"].append(row.repeat > 0)
            columns["check"].append(slot == row.answer)
            columns["tied"].append(said == "tie" and slot in slots)
            columns["order"].append(slots.index(slot) + 1 if said == "ranking" and slot in slots else None)
            columns["reason"].append(row.reason)
            columns["comment"].append(row.comment)
            columns["worker"].append(row.worker or "")
            extra.append(candidate.values_)
    names = list(dict.fromkeys(name for values in extra for name in values))
    for name in names:
        columns[name if name not in columns else f"{name}_of_candidate"] = [v.get(name) for v in extra]
    types = {
        "round": pa.int32(), "slate": pa.int64(), "slot": pa.int32(), "item": pa.int64(), "order": pa.int32()
    }  # fmt: skip
    return pa.table({n: pa.array(v, types.get(n)) for n, v in columns.items()})


class _Shown:
    """A candidate's content and own columns."""

    __slots__ = ("content", "values_")

    def __init__(self, content: str, values: str) -> None:
        self.content, self.values_ = content, json.loads(values)


def _candidates(study: Study, wanted: set[int]) -> dict[int, dict[int, _Shown]]:
    found: dict[int, dict[int, _Shown]] = defaultdict(dict)
    ids = sorted(wanted)
    with study.engine.execution_options(reads=True).connect() as c:
        for low in range(0, len(ids), 500):
            own = candidates.c.slate.in_(ids[low : low + 500])
            for row in c.execute(select(candidates).where(own)):
                found[row.slate][row.slot] = _Shown(row.content, row.own)
    return found


def as_bytes(study: Study, ending: str) -> tuple[bytes, str]:
    """Return all answers as a file, and its media type.

    Args:
        study: The study.
        ending: ``parquet``, ``jsonl`` or ``csv``.
    """
    table, file = table_of(study), io.BytesIO()
    if ending == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, file)
    elif ending == "csv":
        from pyarrow import csv

        csv.write_csv(table, file)
    else:
        for batch in table.to_batches(PART):
            lines = [json.dumps(row, ensure_ascii=False) for row in batch.to_pylist()]
            file.write(("\n".join(lines) + "\n").encode() if lines else b"")
    return file.getvalue(), ENDINGS[ending]


def write(study: Study, path: Path) -> int:
    """Write all answers to a file, and return their number.

    Raises:
        InputError: If the file's name does not tell one of the formats.
    """
    ending = path.suffix.removeprefix(".").lower()
    if ending not in ENDINGS:
        raise InputError(
            "answers are exported as Parquet, JSON lines or CSV",
            got=path,
            remedy="name a file that ends in .parquet, .jsonl or .csv",
        )
    with atomic_path(path) as partial:
        partial.write_bytes(as_bytes(study, ending)[0])
    return study.answers()


def take(study: Study, table: pa.Table, name: str) -> int:
    """Add answers that were made elsewhere, as an export has them, and return how many were new.

    Raises:
        InputError: If columns are missing, or a question is not in this study.
    """
    needed = ("round", "question", "slate", "slot", "shown", "picked", "chooser", "outcome")
    missing = [n for n in needed if n not in table.column_names]
    if missing:
        raise InputError(
            f"{name} is not an export of picks: it lacks columns",
            got=", ".join(missing),
            remedy="export it from the other study: recurate serve STUDY --export FILE",
        )
    added = 0
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        groups[row["slate"]].append(row)
    for rows in groups.values():
        added += _take_one(study, sorted(rows, key=lambda r: r["slot"]), name)
    return added


def _take_one(study: Study, rows: list[dict[str, Any]], name: str) -> int:
    first, now = rows[0], study.now()
    with study.engine.begin() as c:
        own = (slates.c.round == first["round"]) & (slates.c.number == first["question"])
        slate = c.execute(select(slates).where(own).order_by(slates.c.attempt.desc())).first()
        known: dict[str, int] = {}
        if slate is not None:
            own_candidates = select(candidates).where(candidates.c.slate == slate.id)
            for r in c.execute(own_candidates.order_by(candidates.c.slot)):
                known.setdefault(r.content, r.slot)
        if slate is None or any(r["shown"] not in known for r in rows) or first["outcome"] not in OUTCOMES:
            raise InputError(
                f"{name} has an answer to a question that this study does not ask",
                got=f"round {first['round']}, question {first['question']}",
                remedy="import answers to the same slates",
            )
        label = f"{first['chooser']} (imported)"
        person = c.execute(select(people.c.id).where(people.c.label == label)).scalar()
        if person is None:
            made = c.execute(
                insert(people).values(
                    label=label, worker=first.get("worker") or None, joined=now, blocked=False,
                    simulated=bool(first.get("simulated")),
                )
            )  # fmt: skip
            person = made.inserted_primary_key[0]  # type: ignore[index]
        repeat = int(bool(first.get("repeated")))
        key = f"imported-{slate.id}-{repeat}"
        if c.execute(select(ballots.c.id).where(ballots.c.person == person, ballots.c.key == key)).first():
            return 0
        if not repeat:
            c.execute(update(slates).where(slates.c.id == slate.id).values(taken=slates.c.taken + 1))
        slots = [known[r["shown"]] for r in rows]
        lease = c.execute(
            insert(leases).values(
                slate=slate.id, person=person, repeat=repeat, places=json.dumps(slots), given=now, until=now,
                state=DONE,
            )
        ).inserted_primary_key[0]  # type: ignore[index]  # fmt: skip
        c.execute(
            insert(ballots).values(
                lease=lease, slate=slate.id, person=person, key=key, outcome=first["outcome"],
                slots=json.dumps(_said(rows, known)), reason=first.get("reason") or "",
                comment=first.get("comment") or "", seconds=first.get("seconds") or 0.0, made=now,
                withdrawn=False,
            )
        )  # fmt: skip
    return 1


def _said(rows: list[dict[str, Any]], known: dict[str, int]) -> list[int]:
    outcome = rows[0]["outcome"]
    if outcome == "tie":
        return sorted(known[r["shown"]] for r in rows if r.get("tied"))
    if outcome == "ranking":
        ranked = sorted((r["order"], known[r["shown"]]) for r in rows if r.get("order"))
        return [slot for _, slot in ranked]
    return [known[r["shown"]] for r in rows if r["picked"]]
