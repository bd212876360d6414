"""A logger for any training script: it records slates and picks, including candidates not picked."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recurate.core.errors import InputError
from recurate.core.tables import WRITERS, by_suffix, read_table
from recurate.log.schema import COLUMNS, MODEL, as_log, complete, write_log


class PickLogger:
    """Logger of slates and picks for any training script.

    >>> import tempfile, pathlib
    >>> from recurate import read_log
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "picks.jsonl"
    >>> with PickLogger(path) as log:
    ...     log.slate([0.1, 2.0, -1.0, 0.4], picked=1, round=0, context="a prompt")
    >>> read_log(path).table.num_rows
    4

    A ``.jsonl`` file grows slate by slate: a script that is killed loses no slate that it has logged, and a
    restarted script removes an incomplete last slate and appends. ``.parquet`` and ``.csv`` files are
    written as a whole when the logger is closed.

    Args:
        path: File to write; its extension determines the format.

    Raises:
        InputError: If the extension is unknown, or the file exists and is not a ``.jsonl`` log.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        by_suffix(self._path, WRITERS)  # refuses unknown endings
        self._rows: list[dict[str, Any]] = []
        self._rewards: tuple[str, ...] = ()
        self._stream: TextIO | None = None
        self._next: dict[int, int] = {}
        self._closed = False
        if self._path.suffix.lower() in (".jsonl", ".ndjson"):
            self._continue()
            self._stream = self._path.open("a", encoding="utf-8")
        elif self._path.exists():
            raise InputError(
                "the log already exists",
                got=self._path,
                remedy="choose another name, or use a .jsonl log, which can be appended to",
            )

    def slate(
        self,
        rewards: Sequence[float] | Mapping[str, Sequence[float]],
        picked: int | None,
        *,
        round: int = 0,  # noqa: A002
        context: str = "",
        items: Sequence[str] | Sequence[int] | None = None,
        chooser: str | None = None,
        propensities: Sequence[float] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Log one slate of K candidates, including those not picked.

        Args:
            rewards: K rewards, or a mapping from reward name to K rewards.
            picked: Slot of the picked candidate, 0 to K - 1, or None if there was no pick.
            round: Number of the retraining round.
            context: Prompt of the slate.
            items: Identities or texts of the K candidates.
            chooser: Name of the person or program that picked.
            propensities: Probability that each of the K candidates is picked, if known.
            columns: Further columns with K values each, such as ``{"group": [...]}``.

        Raises:
            InputError: If lengths differ, a reward is not finite, the pick is outside the slate, a column
                name is taken, or the logger is closed.
        """
        round, picked = _whole("round", round), None if picked is None else _whole("picked", picked)  # noqa: A001
        named = rewards if isinstance(rewards, Mapping) else {"reward": rewards}
        if not named:
            raise InputError("a slate needs rewards", got="none", remedy="pass at least one reward")
        self._rewards = self._rewards or tuple(named)
        table: dict[str, list[Any]] = {k: list(v) for k, v in named.items()}
        k = len(next(iter(table.values())))
        number = self._next.get(round, 0)
        table |= {"item": list(items)} if items is not None else {}
        table |= {"propensity": list(propensities)} if propensities is not None else {}
        taken = set(columns or {}) & {*COLUMNS, *table}
        if taken:
            raise InputError(
                "a further column has the name of one of the log's own columns",
                got=", ".join(sorted(taken)),
                remedy="rename it",
            )
        table |= {name: list(values) for name, values in (columns or {}).items()}
        for name, values in table.items():
            if len(values) != k or k == 0:
                raise InputError(
                    f"slate {number} of round {round}: every column needs one value per candidate",
                    got=f"{name!r} has {len(values)}, {next(iter(table))!r} has {k}",
                    remedy="pass non-empty lists of equal length",
                )
        self._check(table, picked, k, f"slate {number} of round {round}")
        shared = {"round": round, "slate": number, "context": context, "source": MODEL}
        rows = [
            shared
            | {"slot": slot, "picked": slot == picked, "chooser": chooser}
            | {name: _plain(values[slot]) for name, values in table.items()}
            for slot in range(k)
        ]
        self._next[round] = number + 1
        self._write(rows)

    def _check(self, table: Mapping[str, list[Any]], picked: int | None, k: int, where: str) -> None:
        for name in self._rewards:
            values = np.asarray(table.get(name, [np.nan]), dtype=object)
            try:
                finite = np.isfinite(values.astype(float)).all()
            except (TypeError, ValueError):
                finite = False
            if not finite:
                raise InputError(
                    f"{where}: the values of reward {name!r} must be finite numbers",
                    got=values.tolist(),
                    remedy="score every candidate before logging",
                )
        if picked is not None and not 0 <= picked < k:
            raise InputError(
                f"{where}: the pick is outside the slate",
                got=f"slot {picked} of {k}",
                remedy="pass a position from 0 to K - 1, or None",
            )

    def _continue(self) -> None:
        """Continue the numbers of the slates of an existing log."""
        if self._path.exists():
            self._drop_torn_end()
        if not self._path.exists() or self._path.stat().st_size == 0:
            return
        table = complete(read_table(self._path), (), str(self._path))
        table = table.filter(pc.is_valid(table.column("slate")))
        last = table.group_by("round").aggregate([("slate", "max")]).to_pylist()
        self._next = {row["round"]: row["slate_max"] + 1 for row in last}

    def _drop_torn_end(self) -> None:
        """Remove an incomplete last line, which a crash can leave, and the other rows of its slate."""
        data = self._path.read_bytes()
        keep = data.rfind(b"\n") + 1
        if keep == len(data):
            return
        torn = re.match(rb'{"round": (\d+), "slate": (\d+),', data[keep:])
        while torn and keep:
            start = data.rfind(b"\n", 0, keep - 1) + 1
            if not data[start:keep].startswith(torn[0]):
                break
            keep = start
        with self._path.open("r+b") as file:
            file.truncate(keep)

    def _write(self, rows: Iterable[dict[str, Any]]) -> None:
        if self._closed:
            raise InputError("the log is closed", got=self._path, remedy="log slates before close()")
        if self._stream is None:
            self._rows.extend(rows)
            return
        self._stream.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        self._stream.flush()

    def close(self) -> None:
        """Finish the log; write it if it is Parquet or CSV. A second call does nothing.

        Raises:
            InputError: If the logged slates are not a valid log.
        """
        self._closed = True
        if self._stream is not None:
            self._stream.close()
        elif self._rows:
            write_log(as_log(pa.Table.from_pylist(self._rows), rewards=self._rewards), self._path)
            self._rows = []

    def __enter__(self) -> PickLogger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _whole(name: str, value: Any) -> int:
    """Return a whole number, Python's or NumPy's, as an int, or raise InputError."""
    try:
        return operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number", got=repr(value), remedy="pass an int") from None


def _plain(value: Any) -> Any:
    """Return NumPy and PyTorch scalars as Python scalars, and other values unchanged."""
    return value.item() if hasattr(value, "item") else value
