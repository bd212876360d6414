"""Files of simulated choices in every form that `recurate fit` and `recurate audit` read."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recurate.log.logger import PickLogger

WORTH = {"price": -1.0, "size": 0.5}  # per unit, at temperature one
KINDS = {"oak": 0.8, "elm": 0.0, "ash": -0.8}


def drawn(
    rng: np.random.Generator, slates: int, k: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return attributes (slates, k), the slot picked (slates,), and all slots, best first, by Luce's rule."""
    columns = {name: rng.normal(size=(slates, k)).round(4) for name in WORTH}
    utility = sum(worth * columns[name] for name, worth in WORTH.items())
    order = np.argsort(-(utility + rng.gumbel(size=(slates, k))), axis=1)
    return columns, order[:, 0], order


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    opened = gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="")  # noqa: SIM115
    with opened as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def long_rows(
    rng: np.random.Generator, slates: int = 300, k: int = 3, choosers: int = 20
) -> list[dict[str, Any]]:
    """One row a candidate: question, user, price, size, chosen."""
    columns, picked, _ = drawn(rng, slates, k)
    return [
        {"question": f"q{s}", "user": f"u{s % choosers}", **{n: float(v[s, j]) for n, v in columns.items()},
         "chosen": int(picked[s] == j)}
        for s in range(slates)
        for j in range(k)
    ]  # fmt: skip


def a_log(path: Path, rng: np.random.Generator, slates: int = 300) -> Path:
    """A log with rewards, by the logger."""
    with PickLogger(path) as log:
        for t in range(2):
            for s in range(slates):
                rewards = rng.normal(size=3)
                pick = int((rewards + rng.gumbel(size=3)).argmax())
                log.slate(rewards.tolist(), picked=pick, round=t, context=f"c{s % 5}")
    return path


def _long(path: Path, rng: np.random.Generator) -> Path:
    return write_csv(path / "long.csv", long_rows(rng))


def _long_gz(path: Path, rng: np.random.Generator) -> Path:
    return write_csv(path / "long.csv.gz", long_rows(rng))


def _long_json(path: Path, rng: np.random.Generator) -> Path:
    (path / "long.json").write_text(json.dumps(long_rows(rng)))
    return path / "long.json"


def _long_parquet(path: Path, rng: np.random.Generator) -> Path:
    pq.write_table(pa.Table.from_pylist(long_rows(rng)), path / "long.parquet")
    return path / "long.parquet"


def _items(path: Path, rng: np.random.Generator) -> Path:
    rows = []
    names, worth = list(KINDS), np.array(list(KINDS.values()))
    for s in range(400):
        shown = rng.permutation(3)[:2]
        best = int((worth[shown] + rng.gumbel(size=2)).argmax())
        rows += [{"slate": s, "item": names[i], "picked": int(best == j)} for j, i in enumerate(shown)]
    return write_csv(path / "items.csv", rows)


def _ranks(path: Path, rng: np.random.Generator) -> Path:
    columns, _, order = drawn(rng, 200, 4)
    places = np.argsort(order, axis=1) + 1
    rows = [
        {"slate": s, "price": columns["price"][s, j], "size": columns["size"][s, j], "rank": places[s, j]}
        for s in range(200)
        for j in range(4)
    ]
    return write_csv(path / "ranks.csv", rows)


def _wide(path: Path, rng: np.random.Generator) -> Path:
    columns, picked, _ = drawn(rng, 400, 2)
    rows = [
        {"user": f"u{s % 10}", "choice": "ab"[picked[s]]}
        | {f"{n}_{a}": v[s, j] for n, v in columns.items() for j, a in enumerate("ab")}
        for s in range(400)
    ]  # fmt: skip
    return write_csv(path / "wide.csv", rows)


def _ties(path: Path, rng: np.random.Generator) -> Path:
    columns, picked, _ = drawn(rng, 400, 2)
    tied = rng.random(400) < 0.2
    rows = [
        {**{f"{n}{j + 1}": v[s, j] for n, v in columns.items() for j in range(2)},
         "winner": 0 if tied[s] else int(picked[s]) + 1}
        for s in range(400)
    ]  # fmt: skip
    return write_csv(path / "ties.csv", rows)


def _pairs(path: Path, rng: np.random.Generator) -> Path:
    columns, picked, _ = drawn(rng, 400, 2)
    rows = []
    for s in range(400):
        won, lost = picked[s], 1 - picked[s]
        rows.append(
            {"prompt": f"p{s % 9}", "chosen": f"text {s}", "rejected": f"words {s}"}
            | {f"{n}_chosen": float(v[s, won]) for n, v in columns.items()}
            | {f"{n}_rejected": float(v[s, lost]) for n, v in columns.items()}
        )
    return write_jsonl(path / "pairs.jsonl", rows)


def _lists(path: Path, rng: np.random.Generator) -> Path:
    columns, _, order = drawn(rng, 200, 4)
    places = (np.argsort(order, axis=1) + 1).tolist()
    rows = [{n: v[s].tolist() for n, v in columns.items()} | {"ranks": places[s]} for s in range(200)]
    return write_jsonl(path / "lists.jsonl", rows)


def _log(path: Path, rng: np.random.Generator) -> Path:
    return a_log(path / "picks.jsonl", rng)


FILES: dict[str, Callable[[Path, np.random.Generator], Path]] = {
    "long": _long, "gzipped": _long_gz, "json": _long_json, "parquet": _long_parquet, "items": _items,
    "ranks": _ranks, "wide": _wide, "ties": _ties, "pairs": _pairs, "lists": _lists, "log": _log,
}  # fmt: skip
