"""All answers as a log, one row per candidate that was shown: Parquet, JSON lines or CSV, and back."""

from __future__ import annotations

import gc
import hashlib
import io
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy import and_, exists, insert, select, update

from recurate.core.errors import InputError
from recurate.core.files import atomic_path
from recurate.log.reading.answers import OF_STUDY
from recurate.log.reading.sources import open_source
from recurate.people.ballots import PICKS, Study, counts_of, look
from recurate.people.tables import DONE, OPEN, RETURNED, ballots, candidates, leases, people, slates

T = TypeVar("T")
ENDINGS = {"parquet": "application/octet-stream", "jsonl": "application/jsonl", "csv": "text/csv"}
PART = 20_000  # ballots that are turned into rows at a time
NEAR = 3  # numbers of slates per slate that is wanted, up to which all between the ends are read
MOST_TEXT = 2**30  # bytes of texts that are repeated as one array, which holds 2 GiB
OUTCOMES = {"pick", "tie", "bad", "skip", "ranking", "extremes"}
NEEDED = ("round", "asked", "slate", "slot", "shown", "picked", "chooser", "outcome")
WORDS = (
    "shown",
    "chooser",
    "context",
    "outcome",
    "reason",
    "comment",
    "worker",
    "study",
)  # even if they are digits


def table_of(study: Study) -> pa.Table:
    """Return every answer that stands as a slate of its own, in the order of round, slate and person.

    Columns: ``round``, ``slate`` (counted from 0), ``slot`` (the place on the page), ``item`` (a number of
    what is shown, from 0: equal candidates have equal numbers), ``context``, the candidates' own columns,
    ``study`` (which study it is from), ``attempt`` (how often the round was rolled back, where it was),
    ``picked``, ``chooser``, ``outcome``; ``shown`` (the text, or the digest of the image), ``asked`` (the
    slate's number in its round), ``seconds``, ``time``; ``simulated``, ``repeated``, ``check`` (whether the
    answer was known), ``tied``, ``order`` (1 for the best), ``worst``, ``reason`` and ``comment`` where
    there are any. The outcome of answers with the best and the worst is ``extremes``.
    """
    with _uncollected():
        name = name_of(study)
        tables = [_rows(*found, name) for found in _ahead(_parts(study))]
    if not tables:
        return pa.table({name: pa.array([], kind) for name, kind in EMPTY.items()})
    whole = pa.concat_tables(tables, promote_options="default")
    numbered = [chunk.indices.cast(pa.int64()) for chunk in whole.column("shown").dictionary_encode().chunks]
    whole = whole.set_column(whole.column_names.index("item"), "item", pa.chunked_array(numbered, pa.int64()))
    return whole.select([n for n in whole.column_names if n not in _SELDOM or _any(whole.column(n))])


EMPTY = {  # columns of an export without answers
    "round": pa.int32(), "slate": pa.int64(), "slot": pa.int32(), "item": pa.int64(), "picked": pa.bool_(),
    "chooser": pa.string(), "outcome": pa.string(), "shown": pa.string(), "asked": pa.int64(),
    "seconds": pa.float64(), "time": pa.string(), "study": pa.string(),
}  # fmt: skip
_SELDOM = {
    "attempt", "simulated", "repeated", "check", "tied", "order", "worst", "reason", "comment", "context",
    "worker",
}  # fmt: skip


def _any(column: pa.ChunkedArray) -> bool:
    if pa.types.is_string(column.type):
        column = pc.binary_length(column)
    return bool(pc.max(column).as_py())


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python from looking for cycles among millions of rows, which takes as long as all the rest."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _ahead(found: Iterator[T]) -> Iterator[T]:
    """Yield what an iterator yields, and fetch the next while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, found, None)
        while (now := coming.result()) is not None:
            coming = pool.submit(next, found, None)
            yield now


def again(c: sa.Connection) -> set[int]:
    """Return the ballots of slates whose candidates and prompt the person had judged before, in any order."""
    twins = slates.alias("twins")
    other = exists().where(twins.c.kin == slates.c.kin, twins.c.id != slates.c.id)
    wanted = (
        select(ballots.c.id, ballots.c.person, slates.c.kin)
        .join(slates, ballots.c.slate == slates.c.id)
        .where(~ballots.c.withdrawn, other)
        .order_by(ballots.c.id)
    )
    had: set[tuple[int, str]] = set()
    found: set[int] = set()
    for ballot, person, kin in c.execute(wanted):
        if (person, kin) in had:
            found.add(ballot)
        had.add((person, kin))
    return found


def _parts(study: Study) -> Iterator[tuple[Sequence[Any], Sequence[Any], set[int], int]]:
    """Yield part by part: ballots, their slates' candidates, all repeats, and the number of the first."""
    joined = ballots.join(leases, ballots.c.lease == leases.c.id).join(slates, ballots.c.slate == slates.c.id)
    wanted = (
        select(
            ballots.c.id.label("ballot"), ballots.c.outcome, ballots.c.slots, ballots.c.reason,
            ballots.c.comment, ballots.c.seconds, ballots.c.made, leases.c.places, leases.c.repeat,
            slates.c.id, slates.c.round, slates.c.attempt, slates.c.number, slates.c.context, slates.c.answer,
            people.c.label, people.c.worker, people.c.simulated,
        )
        .select_from(joined.join(people, ballots.c.person == people.c.id))
        .where(~ballots.c.withdrawn)
        .order_by(slates.c.round, slates.c.attempt, slates.c.number, people.c.id, leases.c.repeat)
    )  # fmt: skip
    with study.engine.execution_options(reads=True).connect() as c:
        start, repeated = 0, again(c)
        for part in c.execution_options(yield_per=PART).execute(wanted).partitions(PART):
            yield part, _candidates(study, np.unique([row.id for row in part])), repeated, start
            start += len(part)


def _rows(part: Sequence[Any], shown: Sequence[Any], repeated: set[int], start: int, name: str) -> pa.Table:
    """Return the rows of some ballots; items are numbered later."""
    (ballot, outcome, slots, reason, comment, seconds, made, places, repeat, slate, round_, attempt, number,
     context, answer, label, worker, simulated) = map(list, zip(*part, strict=True))  # fmt: skip
    orders, said = _lists(places), _lists(slots)
    lengths = np.array([len(order) for order in orders])
    of = np.repeat(np.arange(len(part)), lengths)  # the ballot of each row
    slot = np.fromiter(itertools.chain.from_iterable(orders), np.int64, len(of))
    at, contents, own = _places(shown, np.array(slate)[of], slot)
    outcomes = np.array(outcome)
    again_ = np.array([r > 0 or b in repeated for r, b in zip(repeat, ballot, strict=True)])
    order = _order(said, of, slot)
    ranked = outcomes[of] == "ranking"
    chosen = np.isin(outcomes, PICKS)
    best = np.array([x[0] if y else -1 for x, y in zip(said, chosen, strict=True)])
    times = [
        f"{x}+00:00"
        for x in np.datetime_as_string((np.array(made) * 1e3).astype("datetime64[ms]"), unit="ms").tolist()
    ]
    columns: dict[str, pa.Array] = {
        "round": pa.array(np.array(round_)[of], pa.int32()),
        "slate": pa.array(start + of, pa.int64()),
        "slot": pa.array(np.arange(len(of)) - np.repeat(np.cumsum(lengths) - lengths, lengths), pa.int32()),
        "item": pa.array(at, pa.int64()),
        "context": _spread(context, of),
        "picked": pa.array(slot == best[of]),
        "chooser": _spread(label, of),
        "outcome": _spread(outcome, of),
        "shown": _spread(contents, at),
        "asked": pa.array(np.array(number)[of], pa.int64()),
        "attempt": pa.array(np.array(attempt)[of], pa.int32()),
        "seconds": pa.array(np.array([round(x, 3) for x in seconds])[of]),
        "time": _spread(times, of),
        "simulated": pa.array(np.array(simulated)[of]),
        "repeated": pa.array(again_[of]),
        "check": pa.array(np.array([a is not None for a in answer])[of]),
        "tied": pa.array((outcomes[of] == "tie") & (order > 0)),
        "order": pa.array(order, pa.int32(), mask=~ranked | (order == 0)),
        "worst": pa.array((outcomes[of] == "extremes") & (order == 2)),
        "reason": _spread(reason, of),
        "comment": _spread(comment, of),
        "worker": _spread([x or "" for x in worker], of),
        "study": pa.repeat(pa.scalar(name), len(of)),
    }
    rows = [own[i] for i in at.tolist()]
    kinds = dict.fromkeys(map(tuple, rows))  # which columns candidates have
    for name in dict.fromkeys(name for kind in kinds for name in kind):
        columns[name if name not in columns else f"{name}_of_candidate"] = pa.array(
            [values.get(name) for values in rows]
        )
    return pa.table(columns)


def _lists(texts: list[str]) -> list[Any]:
    """Return what many texts of JSON say; to read them as one is faster."""
    found: list[Any] = json.loads(f"[{','.join(texts)}]")
    return found


def _spread(values: list[str], at: np.ndarray) -> pa.Array:
    """Return texts at some places."""
    array = pa.array(values, pa.string())
    if isinstance(array, pa.ChunkedArray) or array.nbytes * (1 + len(at) / len(values)) > MOST_TEXT:
        return pa.array([values[i] for i in at.tolist()], pa.string())  # in chunks, if they are long
    return array.take(pa.array(at))


def _order(said: list[list[int]], of: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """Return the place of each row's slot in what its ballot says, from 1; 0 if it is not there."""
    lengths = np.array([len(x) for x in said])
    named = np.fromiter(itertools.chain.from_iterable(said), np.int64, lengths.sum())
    many = 1 + max(slot.max(), named.max(initial=0))
    keys = np.repeat(np.arange(len(said)), lengths) * many + named
    places = 1 + np.arange(len(keys)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    sorted_, first = np.unique(keys, return_index=True)
    if not len(sorted_):
        return np.zeros(len(of), np.int64)
    wanted = of * many + slot
    found = np.minimum(np.searchsorted(sorted_, wanted), len(sorted_) - 1)
    return np.where(sorted_[found] == wanted, places[first[found]], 0)


def _candidates(study: Study, ids: np.ndarray) -> list[Any]:
    """Return the candidates of some slates: slate, slot, content and own columns."""
    wanted = select(candidates.c.slate, candidates.c.slot, candidates.c.content, candidates.c.own)
    rows: list[Any] = []
    with study.engine.execution_options(reads=True).connect() as c:
        for some in [ids] if ids[-1] - ids[0] < NEAR * len(ids) else np.split(ids, range(500, len(ids), 500)):
            near = some[-1] - some[0] < NEAR * len(some)
            among = candidates.c.slate.between(int(some[0]), int(some[-1])) if near else (
                candidates.c.slate.in_(some.tolist())
            )  # fmt: skip
            rows += c.execute(wanted.where(among)).all()
    return rows


def _places(
    rows: Sequence[Any], slate: np.ndarray, slot: np.ndarray
) -> tuple[np.ndarray, list[str], list[dict[str, Any]]]:
    """Return where rows' candidates are in a list of contents, and the contents and own columns."""
    slates_, slots_, contents, own = map(list, zip(*rows, strict=True))
    many = 1 + max(slots_)
    keys = np.array(slates_) * many + np.array(slots_)
    sorted_ = np.argsort(keys)
    at = sorted_[np.searchsorted(keys, slate * many + slot, sorter=sorted_)]
    return at, contents, _lists(own)


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


def take(study: Study, source: Any, name: str) -> int:
    """Add answers that were made elsewhere, as an export has them, and return how many were new.

    All are added, or none. An answer that differs from the one that was imported before takes its place, and
    counts as new. This study's own answers are in it already, wherever they come back from.

    Args:
        study: The study.
        source: The export: a path, or an Arrow table.
        name: What it is called in messages.

    Raises:
        InputError: If columns are missing, a question is not in this study, an answer does not show all its
            candidates, or its round is over.
    """
    table = open_source(source, text=WORDS).read(None)
    missing = [n for n in NEEDED if n not in table.column_names]
    if missing:
        raise InputError(
            f"{name} is not an export of picks: it lacks columns",
            got=", ".join(missing),
            remedy="export it from the other study: recurate serve STUDY --export FILE",
        )
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        _check_row(row, name)
        groups[row["slate"]].append(row)
    for rows in groups.values():
        _check_one(rows, name)
    own = name_of(study)
    # A person's repeats come after the answer that they repeat.
    answers = sorted(groups.values(), key=lambda rows: bool(rows[0].get("repeated")))
    with study.engine.begin() as c:
        return sum(
            _take_one(c, study.now(), sorted(rows, key=lambda r: r["slot"]), name)
            for rows in answers
            if own not in (rows[0].get("study"), str(rows[0]["chooser"]).rpartition(OF_STUDY)[2])
        )


def _check_row(row: dict[str, Any], name: str) -> None:
    """Raise InputError if a row does not say which answer it belongs to."""
    whole = ("round", "slate", "slot", "asked")
    words = ("chooser", "outcome")
    bad = [n for n in whole if not isinstance(row[n], int)]
    bad += [n for n in words if not isinstance(row[n], str) or not row[n]]
    if bad:
        raise InputError(
            f"{name} has a row without a {bad[0]}",
            got=f"{bad[0]} = {row[bad[0]]!r}",
            remedy="import the file as it was exported",
        )


def _check_one(rows: list[dict[str, Any]], name: str) -> None:
    """Raise InputError if the rows of one answer disagree about it."""
    bad = [n for n in ("round", "asked", "chooser", "outcome") if len({row[n] for row in rows}) > 1]
    if not bad and sorted(row["slot"] for row in rows) != list(range(len(rows))):
        bad = ["slot"]
    if bad:
        raise InputError(
            f"{name} has an answer whose rows do not belong together",
            got=f"slate {rows[0]['slate']}: {bad[0]} is {', '.join(str(row[bad[0]]) for row in rows[:6])}",
            remedy="import the file as it was exported; of several files, one after the other",
        )


def name_of(study: Study) -> str:
    """Return what tells a study from others in exports."""
    return hashlib.sha256(study.secret.encode()).hexdigest()[:12]


def _take_one(c: sa.Connection, now: float, rows: list[dict[str, Any]], name: str) -> int:
    first = rows[0]
    where = f"round {first['round']}, question {first['asked']}"
    slate, known = _asked(c, first)
    slots = [known.get(r["shown"] or "", -1) for r in rows]
    if slate is None or min(slots) < 0 or first["outcome"] not in OUTCOMES:
        raise InputError(
            f"{name} has an answer to a question that this study does not ask",
            got=where,
            remedy="import answers to the same slates",
        )
    if sorted(slots) != sorted(set(known.values())):
        raise InputError(
            f"{name} has an answer that does not show all candidates of its question",
            got=f"{len(slots)} of {len(set(known.values()))}, {where}",
            remedy="import the file as it was exported",
        )
    if slate.closed:
        raise InputError(
            f"{name} has an answer to a round that is over: the run has taken its answers",
            got=where,
            remedy="import answers before the run goes on",
        )
    said = _said(rows, dict(zip((r["shown"] for r in rows), slots, strict=True)))
    least, most = counts_of(first["outcome"], len(rows))
    if not least <= len(said) <= most:
        raise InputError(
            f"{name} has an answer {first['outcome']!r} of {len(said)} candidates",
            got=where,
            remedy="import the file as it was exported",
        )
    person = _from_elsewhere(c, first, now)
    # Of slates with the same candidates, the later one is a repeat for the person, but has a seat of its own.
    had = select(leases.c.id).where(leases.c.slate == slate.id, leases.c.person == person)
    repeat = int(bool(first.get("repeated")) and c.execute(had).first() is not None)
    made = _time(first, now)
    key = f"imported-{slate.id}-{repeat}"
    answer = {
        "outcome": first["outcome"], "slots": json.dumps(said), "reason": first.get("reason") or "",
        "comment": first.get("comment") or "",
    }  # fmt: skip
    before = c.execute(select(ballots).where(ballots.c.person == person, ballots.c.key == key)).first()
    if before is not None:
        if all(getattr(before, n) == value for n, value in answer.items()):
            return 0
        new = {**answer, "seconds": first.get("seconds") or 0.0, "made": made}
        c.execute(update(ballots).where(ballots.c.id == before.id).values(**new))
        return 1
    if not repeat:
        c.execute(update(slates).where(slates.c.id == slate.id).values(taken=slates.c.taken + 1))
        _unseat(c, slate.id, slate.taken + 1 - slate.wanted)
    lease = c.execute(
        insert(leases)
        .values(
            slate=slate.id, person=person, repeat=repeat, places=json.dumps(slots), given=made, until=made,
            state=DONE,
        )
        .returning(leases.c.id)
    ).scalar_one()  # fmt: skip
    c.execute(
        insert(ballots).values(
            lease=lease, slate=slate.id, person=person, key=key, seconds=first.get("seconds") or 0.0,
            made=made, withdrawn=False, **answer,
        )
    )  # fmt: skip
    return 1


def _unseat(c: sa.Connection, slate: int, many: int) -> None:
    """Return up to ``many`` leases of a slate that others hold and that it does not need any more."""
    if many <= 0:
        return
    held = and_(leases.c.slate == slate, leases.c.state == OPEN, leases.c.repeat == 0)
    newest = select(leases.c.id).where(held).order_by(leases.c.given.desc(), leases.c.id).limit(many)
    if found := list(c.execute(newest).scalars()):
        c.execute(update(leases).where(leases.c.id.in_(found)).values(state=RETURNED))
        c.execute(update(slates).where(slates.c.id == slate).values(taken=slates.c.taken - len(found)))


def _asked(c: sa.Connection, first: dict[str, Any]) -> tuple[Any, dict[str, int]]:
    """Return the slate that a row is about, and the slot that is shown for each of its contents."""
    own = and_(
        slates.c.round == first["round"],
        slates.c.number == first["asked"],
        slates.c.attempt == (first.get("attempt") or 0),
    )
    own &= slates.c.context == (first.get("context") or "")
    slate = c.execute(select(slates).where(own).with_for_update()).first()
    looks: dict[Any, int] = {}
    known: dict[str, int] = {}
    if slate is not None:
        of = select(candidates).where(candidates.c.slate == slate.id).order_by(candidates.c.slot)
        for row in c.execute(of):
            known[row.content] = looks.setdefault(look(row.form, row.content), row.slot)
    return slate, known


def _from_elsewhere(c: sa.Connection, first: dict[str, Any], now: float) -> int:
    """Return the person who stands for a chooser of another study."""
    label, worker = str(first["chooser"]), first.get("worker") or None
    if OF_STUDY not in label:
        label += OF_STUDY + (first.get("study") or "elsewhere")
    person = c.execute(select(people.c.id).where(people.c.label == label)).scalar()
    if person is not None:
        return int(person)
    if c.execute(select(people.c.id).where(people.c.worker == worker)).first():
        worker = None  # somebody here has the name
    own = {"label": label, "worker": worker, "joined": now, "blocked": False}
    made = insert(people).values(**own, simulated=bool(first.get("simulated"))).returning(people.c.id)
    return int(c.execute(made).scalar_one())


def _time(first: dict[str, Any], now: float) -> float:
    """Return when an answer was given, in seconds since 1970; now if the file does not tell."""
    try:
        return datetime.fromisoformat(str(first["time"])).timestamp()
    except (KeyError, ValueError):
        return now


def _said(rows: list[dict[str, Any]], known: dict[str, int]) -> list[int]:
    outcome = rows[0]["outcome"]
    if outcome == "tie":
        return sorted(known[r["shown"]] for r in rows if r.get("tied"))
    if outcome == "ranking":
        ranked = sorted((r["order"], known[r["shown"]]) for r in rows if r.get("order"))
        return [slot for _, slot in ranked]
    worst = [known[r["shown"]] for r in rows if r.get("worst") and not r["picked"]]
    return [known[r["shown"]] for r in rows if r["picked"]] + (worst if outcome == "extremes" else [])
