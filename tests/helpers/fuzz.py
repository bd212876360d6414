"""Damaged and generated files, and what reading them comes to: derandomised, in forks that may crash."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import gzip
import io
import json
import os
import random
import signal
import string
import traceback
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.garbage import NAMES

BATCH = 100  # inputs per fork
PATIENCE = 20  # seconds that one input may take
CELLS: tuple[Any, ...] = (
    0, 1, 2, -1, 0.5, 1e308, -0.0, 2**31, 2**53 + 1, 2**63, -(2**63), 10**40, True, False, None, "", "a", "b",
    "tie", "true", "NA", "nan", "inf", "1", "01", "9" * 20, "é", "\x00", "a,b", 'say "hi"', "line\nbreak",
    "=1+1", "[[A>>B]]", [], {}, [0.1, 0.2], ["x", "y"], [None], [[1], [2]], {"role": "user", "content": "hi"},
    [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], {"text": "a", "score": 0.5},
)  # fmt: skip


def rows_of(rng: random.Random) -> list[dict[str, Any]]:
    """Return rows that are almost a log: some columns are sound, others hold anything."""
    count, k = rng.randint(1, 14), rng.randint(1, 4)
    columns: dict[str, list[Any]] = {}
    if rng.random() < 0.7:
        columns["reward"] = [round(rng.gauss(0, 1), 3) for _ in range(count)]
    if rng.random() < 0.6:
        columns["slate"] = [i // k for i in range(count)]
        columns["picked"] = [int(i % k == 0) for i in range(count)]
    for name in rng.sample(NAMES, rng.randint(0, 4)):
        few = rng.sample(CELLS, rng.randint(1, 3))
        columns[name] = [rng.choice(few) for _ in range(count)]
    if not columns:
        columns["x"] = [rng.choice(CELLS) for _ in range(count)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


# How rewards may fall in a log that is sound: each draws one value.
VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: rng.gauss(0, 1),
    lambda rng: rng.randint(0, 1),
    lambda rng: 0,
    lambda rng: rng.choice((0, 1e300)),
    lambda rng: rng.choice((-1e308, 1e308)),
    lambda rng: 5e-324 * rng.randint(0, 9),
    lambda rng: 2**53 + rng.randint(0, 3),
    lambda rng: rng.randint(1, 5),
    lambda rng: rng.paretovariate(0.3),
    lambda rng: rng.choice((None, 1.5, 2.5)),
    lambda rng: round(rng.gauss(0, 1), 1),
    lambda rng: 1e6 + rng.random(),
)
EXTRAS: dict[str, Callable[[random.Random, int], Any]] = {
    "prompt": lambda rng, slate: f"p{slate // 2}",
    "annotator": lambda rng, slate: f"w{slate % 3}",
    "round": lambda rng, slate: slate // 5,
    "time": lambda rng, slate: f"2026-01-{1 + slate % 28:02}",
    "item": lambda rng, slate: rng.choice("abcde"),
    "price": lambda rng, slate: rng.randint(1, 3),
    "propensity": lambda rng, slate: rng.choice((0.25, 1.0)),
    "kl": lambda rng, slate: rng.gauss(0, 1),
    "text": lambda rng, slate: rng.choice(("", "aa b", "=1+1")),
    "reward_b": lambda rng, slate: rng.gauss(0, 1),
}


def sound_of(rng: random.Random) -> tuple[str, bytes]:
    """Return a log that can be read, whose values and picks may be anything: what verbs must live with."""
    k, slates = rng.choice((1, 2, 2, 4, 4, 8)), rng.choice((1, 2, 5, 20, 60))
    value, picked = rng.choice(VALUES), rng.choice(("best", "first", "any", "none", "all", "one slate"))
    extras = {name: EXTRAS[name] for name in rng.sample(list(EXTRAS), rng.randint(0, 4))}
    rows = []
    for slate in range(slates):
        rewards = [value(rng) for _ in range(k)]
        best = max(range(k), key=lambda at: (rewards[at] is not None, rewards[at] or 0.0))
        chosen = {
            "best": {best}, "first": {0}, "any": {rng.randrange(k)}, "none": set(), "all": set(range(k)),
            "one slate": {0} if slate == 0 else set(),
        }[picked]  # fmt: skip
        for at in range(k):
            row = {"slate": slate, "reward": rewards[at], "picked": int(at in chosen)}
            rows.append(row | {name: draw(rng, slate) for name, draw in extras.items()})
    return ".jsonl", "\n".join(map(json.dumps, rows)).encode()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return bytes that were cut, flipped, doubled or overwritten in a few places."""
    for _ in range(rng.choice((0, 0, 1, 1, 2, 8))):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 1, 4, 16, 100))
        noise = bytes(rng.randrange(256) for _ in range(size))
        change = rng.randrange(5)
        if change == 0:
            data = data[:at]
        elif change == 1:
            data = data[:at] + noise + data[at + size :]
        elif change == 2:
            data = data[:at] + data[at + size :]
        elif change == 3:
            data = data[:at] + data[at : at + size] * 2 + data[at + size :]
        else:
            data = (
                data[:at]
                + rng.choice((b"\xff\xfe", b"\0", b"\r", b'"', b"null\n", b"{", b"]", b"\n\n"))
                + data[at:]
            )
    return data


# --- formats --------------------------------------------------------------------------------------


def csv_of(rng: random.Random) -> tuple[str, bytes]:
    rows, sep = rows_of(rng), rng.choice((",", ",", ";", "\t", "|"))
    quote = rng.random() < 0.7

    def cell(value: Any) -> str:
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        return '"' + text.replace('"', '""') + '"' if quote and set(text) & set('",;\t|\n') else text

    lines = [sep.join(rows[0])] + [sep.join(map(cell, row.values())) for row in rows]
    text = rng.choice(("\n", "\n", "\r\n", "\r")).join(lines) + rng.choice(("", "\n"))
    coded = text.encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace")
    return rng.choice((".csv", ".csv", ".tsv", ".txt", ".dat")), coded


def jsonl_of(rng: random.Random) -> tuple[str, bytes]:
    lines = [json.dumps(row) for row in rows_of(rng)]
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        deep = rng.choice((10, 900, 5_000, 50_000))
        odd = ("null", "", "[1, 2]", "3", '{"a":' * deep + "1" + "}" * deep,
               '{"a":' + "[" * deep + "]" * deep + "}",
               '{"reward": NaN}', '{"reward": 1e999}', '{"reward": 1' + "0" * 400 + "}", '{"a": 1, "a": 2}',
               '{"reward": "\\ud800"}', "{", '{"":1}')  # fmt: skip
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(odd))
    return rng.choice((".jsonl", ".jsonl", ".ndjson", ".json")), "\n".join(lines).encode()


def json_of(rng: random.Random) -> tuple[str, bytes]:
    rows = rows_of(rng)
    columns = {name: [row.get(name) for row in rows] for name in rows[0]}
    deep = rng.choice((10, 900, 50_000))
    found: Any = rng.choice((rows, {"data": rows}, columns, {"a": {"b": rows}}, rows[0], rng.choice(CELLS)))
    text = json.dumps(found)
    if rng.random() < 0.05:
        text = "[" * deep + text + "]" * deep
    return rng.choice((".json", ".json", ".jsonl", ".txt")), text.encode()


def column_of(rng: random.Random, count: int) -> pa.Array:
    """Return a column of any type that Parquet or Arrow have."""
    numbers = [rng.choice((None, 0, 1, 2, 7)) for _ in range(count)]

    def of(make: Callable[[int], Any], *kinds: pa.DataType) -> Callable[[], pa.Array]:
        return lambda: pa.array(
            [None if v is None else make(v) for v in numbers], rng.choice(kinds or (None,))
        )

    day = datetime.date(2020, 1, 1)
    kinds = (
        of(int, pa.int8(), pa.uint8(), pa.int16(), pa.uint32(), pa.uint64()),
        of(np.float16, pa.float16()),
        of(decimal.Decimal, pa.decimal128(38, 0), pa.decimal128(38, 3)),
        of(lambda v: decimal.Decimal(10) ** 37, pa.decimal256(60, 2), pa.decimal128(38, 0)),
        lambda: of(str)().dictionary_encode(),
        lambda: of(int)().dictionary_encode(),
        of(str, pa.large_string(), pa.string_view()),
        of(lambda v: str(v).encode(), pa.binary(), pa.large_binary()),
        of(lambda v: bytes([255, v]), pa.binary(), pa.binary(2)),
        of(lambda v: [v] * v, pa.list_(pa.int64()), pa.large_list(pa.float32())),
        of(lambda v: [v / 2, v], pa.list_(pa.float64(), 2)),
        of(lambda v: {"a": v, "b": [str(v)]}),
        of(lambda v: [("k", v)], pa.map_(pa.string(), pa.int64())),
        of(lambda v: [b"\xff"], pa.list_(pa.binary())),
        of(lambda v: datetime.datetime(2020 + v, 1, 1), pa.timestamp("s"), pa.timestamp("ns", "UTC")),
        of(lambda v: day + datetime.timedelta(v)),
        of(datetime.time),
        of(datetime.timedelta),
        lambda: pa.nulls(count),
        of(bool),
        lambda: _not_utf8(count),
    )
    return rng.choice(kinds)()


def _not_utf8(count: int) -> pa.Array:
    made = pa.array([b"\xff\xfe"] * count, pa.binary())
    return pa.Array.from_buffers(pa.string(), count, made.buffers())


def table_of(rng: random.Random) -> pa.Table:
    count, k = rng.randint(1, 14), rng.randint(1, 4)
    columns: dict[str, Any] = {}
    if rng.random() < 0.7:
        columns["reward"] = pa.array([rng.gauss(0, 1) for _ in range(count)])
    if rng.random() < 0.6:
        columns["slate"] = pa.array([i // k for i in range(count)])
        columns["picked"] = pa.array([i % k == 0 for i in range(count)])
    for name in rng.sample([*NAMES, "completion", "time", "propensity"], rng.randint(1, 3)):
        columns[name] = column_of(rng, count)
    return pa.table(columns)


def parquet_of(rng: random.Random) -> tuple[str, bytes]:
    out, table = io.BytesIO(), table_of(rng)
    try:
        pq.write_table(table, out, compression=rng.choice(("none", "snappy", "zstd")), version="2.6")
    except (pa.ArrowException, OSError):
        return arrow_of(rng)
    return rng.choice((".parquet", ".parquet", ".pq", "")), out.getvalue()


def arrow_of(rng: random.Random) -> tuple[str, bytes]:
    out, table = io.BytesIO(), table_of(rng)
    kind = rng.choice((pa.ipc.new_file, pa.ipc.new_stream))
    with kind(out, table.schema) as writer:
        writer.write_table(table)
    return rng.choice((".arrow", ".feather", ".ipc")), out.getvalue()


def packed_of(rng: random.Random) -> tuple[str, bytes]:
    ending, data = rng.choice((csv_of, jsonl_of, parquet_of))(rng)
    if rng.random() < 0.5:
        return ending + ".gz", gzip.compress(data, mtime=0)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(rng.choice((1, 1, 1, 0, 2))):
            archive.writestr(zipfile.ZipInfo(f"m{number}{ending}"), data)
    return ending + ".zip", out.getvalue()


STARTS = (
    b"", b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"FEA1", b"PK\x03\x04", b"\x1f\x8b", b"\x28\xb5\x2f\xfd",
    b"{", b"[", b"# FILE NAME:",
)  # fmt: skip
ENDINGS = (".csv", ".json", ".jsonl", ".parquet", ".arrow", ".xlsx", ".txt", ".soc", "", ".zip")


def garbage_of(rng: random.Random) -> tuple[str, bytes]:
    start = rng.choice(STARTS)
    letters = string.printable.encode() if rng.random() < 0.5 else bytes(range(256))
    data = start + bytes(rng.choice(letters) for _ in range(rng.randint(0, 300)))
    return rng.choice(ENDINGS), data


NUMBERS = ("0", "-1", "1", "2.5", "nan", "inf", "-inf", "1e400", "1e308", "9" * 20, "9" * 400, "9" * 5000,
           "0x7f", "99999999999", "999999999",
           "true", '"7"', '""', "[]", "[1, 2]", "{}", "1979-05-27", "'''a'''", "[[[[1]]]]")  # fmt: skip


def toml_of(rng: random.Random, base: str) -> bytes:
    """Return a configuration with some values replaced, keys doubled or bytes damaged."""
    lines = base.splitlines()
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(lines))
        key, equals, _ = lines[at].partition("=")
        if equals and rng.random() < 0.85:
            lines[at] = f"{key}= {rng.choice(NUMBERS)}"
        elif rng.random() < 0.5:
            lines.insert(
                at,
                rng.choice((lines[at], "[" * 5_000, "x = " + "[" * 5_000 + "]" * 5_000, "= 1", "rounds = 1")),
            )
        else:
            del lines[at]
    data = "\n".join(lines).encode()
    return damaged(data, rng) if rng.random() < 0.2 else data


FORMATS = {
    "sound": sound_of,
    "CSV": csv_of, "JSON": json_of, "JSON lines": jsonl_of, "Parquet": parquet_of, "Arrow": arrow_of,
    "packed": packed_of, "garbage": garbage_of,
}  # fmt: skip


def write_input(kind: str, number: int, folder: Path) -> Path:
    """Write the input of a kind and number; it is always the same."""
    rng = random.Random(f"{kind} {number}")
    ending, data = FORMATS[kind](rng)
    path = folder / f"in-{number}{ending}"
    path.write_bytes(damaged(data, rng) if rng.random() < 0.5 else data)
    return path


# --- forks ----------------------------------------------------------------------------------------


def faults_of(
    numbers: Sequence[int],
    read: Callable[[int], None],
    refusals: tuple[type[Exception], ...],
    warned: Any = "ignore",
) -> list[str]:
    """Read inputs in forks; return the tracebacks and signals, each with the input's number.

    Args:
        numbers: Numbers of the inputs.
        read: Function that reads the input of a number.
        refusals: Errors that are a proper answer.
        warned: What NumPy's warnings of overflow and the like are: ``"ignore"`` or ``"error"``.
    """
    faults, waiting = [], list(numbers)
    while waiting:
        batch, waiting = waiting[:BATCH], waiting[BATCH:]
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            os.close(ours)
            with os.fdopen(theirs, "w") as told:
                _read_all(batch, read, refusals, warned, told)
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours) as lines:
            said = [json.loads(line) for line in lines]
        _, status = os.waitpid(child, 0)
        faults += [f"{s['number']}: {s['fault']}" for s in said if s.get("fault")]
        if status:
            begun = said[-1]["number"]
            faults.append(f"{begun}: ended with status {status}")
            waiting = batch[batch.index(begun) + 1 :] + waiting
    return faults


def _read_all(
    batch: Sequence[int],
    read: Callable[[int], None],
    refusals: tuple[type[Exception], ...],
    warned: Any,
    told: Any,
) -> None:
    warnings.simplefilter("ignore")
    warnings.simplefilter(warned, RuntimeWarning)
    for number in batch:
        print(json.dumps({"number": number}), file=told, flush=True)
        signal.alarm(PATIENCE)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                read(number)
        except refusals:
            continue
        except BaseException:
            print(
                json.dumps({"number": number, "fault": traceback.format_exc(limit=-4)}), file=told, flush=True
            )
    signal.alarm(0)
