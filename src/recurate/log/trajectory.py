"""Quantities over rounds, forecast or measured: one tidy table, one row a value.

Columns: ``round`` (int), ``source`` (``forecast``, ``measured``,
``renewed`` or ``fitted tail``), ``quantity``, ``reward`` (which
reward the value is about, or null), ``group`` (which group, or null), ``value``, ``lower`` and ``upper``
(a 95 % interval for this one value, or null where there is none).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.core.errors import InputError
from recurate.core.tables import read_table, write_table

FORECAST, MEASURED = "forecast", "measured"
TAIL, RENEWED = "fitted tail", "renewed"  # a forecast continued; one made anew from every round
CONTROL = "control"  # measured in a second loop without selection

SCHEMA = pa.schema(
    [
        ("round", pa.int32()),
        ("source", pa.string()),
        ("quantity", pa.string()),
        ("reward", pa.string()),
        ("group", pa.string()),
        ("value", pa.float64()),
        ("lower", pa.float64()),
        ("upper", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Row:
    """One value of one quantity in one round."""

    round: int
    source: str
    quantity: str
    value: float
    reward: str | None = None
    group: str | None = None
    lower: float | None = None
    upper: float | None = None

    @property
    def key(self) -> tuple[str, str | None, str | None]:
        """What the value is about: quantity, reward, group."""
        return self.quantity, self.reward, self.group


@dataclass(frozen=True)
class Trajectory:
    """Rows in order; forecast and measurement overlay without conversion."""

    rows: tuple[Row, ...] = ()

    def __add__(self, other: Trajectory) -> Trajectory:
        return Trajectory(self.rows + other.rows)

    def where(
        self,
        source: str | None = None,
        quantity: str | None = None,
        round: int | None = None,  # noqa: A002
    ) -> Trajectory:
        """Return the rows of one source, quantity or round."""
        return Trajectory(
            tuple(
                row
                for row in self.rows
                if (source is None or row.source == source)
                and (quantity is None or row.quantity == quantity)
                and (round is None or row.round == round)
            )
        )

    def series(
        self,
        quantity: str,
        *,
        source: str = FORECAST,
        reward: str | None = None,
        group: str | None = None,
    ) -> dict[int, Row]:
        """Return one quantity by round.

        ``reward`` or ``group`` may be left out where only one series fits.

        Raises:
            InputError: nothing fits, or several series do.
        """
        rows = [
            row
            for row in self.rows
            if (row.source, row.quantity) == (source, quantity)
            and (reward is None or row.reward == reward)
            and (group is None or row.group == group)
        ]
        keys = {row.key for row in rows}
        if len(keys) != 1:
            raise InputError(
                f"{len(keys)} series fit {quantity!r} ({source})",
                got=f"reward {reward!r}, group {group!r}",
                remedy="name the reward and the group; see the trajectory's keys",
            )
        return {row.round: row for row in rows}

    def values(
        self,
        quantity: str,
        *,
        source: str = FORECAST,
        reward: str | None = None,
        group: str | None = None,
    ) -> NDArray[np.float64]:
        """Return one quantity's values in order of rounds, shape (rounds,); see :meth:`series`."""
        series = self.series(quantity, source=source, reward=reward, group=group)
        return np.array([series[t].value for t in sorted(series)])

    def about(self, source: str | None = None) -> list[tuple[str, str | None, str | None]]:
        """Return the distinct (quantity, reward, group), in order of appearance."""
        return list(dict.fromkeys(row.key for row in self.rows if source in (None, row.source)))

    def to_table(self) -> pa.Table:
        """Return the tidy Arrow table."""
        columns = {name: [getattr(row, name) for row in self.rows] for name in SCHEMA.names}
        return pa.table(columns, schema=SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table) -> Trajectory:
        """Read the tidy Arrow table."""
        missing = set(SCHEMA.names) - set(table.column_names)
        if missing:
            raise InputError(
                "this table is not a trajectory",
                got=f"columns {', '.join(table.column_names)}",
                remedy=f"it also needs {', '.join(sorted(missing))}",
            )
        try:
            rows = table.select(SCHEMA.names).cast(SCHEMA).to_pylist()
        except (pa.ArrowException, ValueError) as error:
            raise InputError("this table is not a trajectory", got=error, remedy="write it again") from None
        for row in rows:  # CSV knows no nulls among words
            row["reward"], row["group"] = row["reward"] or None, row["group"] or None
        return cls(tuple(Row(**row) for row in rows))

    def write(self, path: Path | str) -> None:
        """Write the table atomically; the ending says how (``.parquet``, ``.csv``, ``.jsonl``)."""
        write_table(self.to_table(), path)

    @classmethod
    def read(cls, path: Path | str) -> Trajectory:
        """Read a table written by :meth:`write`."""
        return cls.from_table(read_table(path))


@dataclass(frozen=True)
class Agreement:
    """How far a forecast lay from what was measured, over rounds 1, 2, ..., for one quantity.

    Attributes:
        differences: forecast - measured, by round.
        relative: the same, divided by the absolute measured value.
        rmse: root mean square of ``differences``.
        persistence_rmse: the same for the forecast "everything stays as measured in round 0".
    """

    differences: dict[int, float]
    relative: dict[int, float]
    rmse: float
    persistence_rmse: float

    @property
    def error_ratio(self) -> float:
        """Forecast error / persistence error: 0 is perfect, 1 is no better than "no change"."""
        return self.rmse / self.persistence_rmse if self.persistence_rmse > 0 else float("nan")


def agreement(trajectory: Trajectory, key: tuple[str, str | None, str | None]) -> Agreement | None:
    """Compare forecast and measurement of one quantity; None without a common round after 0."""
    by_source = {
        source: {r.round: r.value for r in trajectory.rows if r.key == key and r.source == source}
        for source in (FORECAST, MEASURED)
    }
    forecast, measured = by_source[FORECAST], by_source[MEASURED]
    common = sorted(t for t in forecast.keys() & measured.keys() if t > 0)
    if not common or 0 not in measured:
        return None
    differences = {t: forecast[t] - measured[t] for t in common}
    return Agreement(
        differences,
        {t: d / abs(measured[t]) if measured[t] else float("nan") for t, d in differences.items()},
        _rms(differences.values()),
        _rms(measured[0] - measured[t] for t in common),
    )


def _rms(values: Iterable[float]) -> float:
    return float(np.sqrt(np.mean(np.square(np.fromiter(values, float)))))
