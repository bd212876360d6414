"""Quantities over rounds, forecast or measured, in a tidy table with one row per value.

Columns: ``round`` (int), ``source`` (``forecast``, ``measured``, ``renewed``, ``fitted tail`` or
``control``), ``quantity``, ``reward`` (the reward that the value refers to, or null), ``group`` (the group
that it refers to, or null), ``value``, ``lower`` and ``upper`` (a pointwise 95 % interval, or null).
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
TAIL, RENEWED = "fitted tail", "renewed"  # forecast from a fitted tail; forecast renewed from every round
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
    """One value of one quantity in one round.

    Attributes:
        round: Number of the round.
        source: Origin of the value, such as ``forecast`` or ``measured``.
        quantity: Name of the quantity, such as ``mean_reward``.
        value: Value of the quantity, in its own units.
        reward: Name of the reward that the value refers to, or None.
        group: Name of the group that the value refers to, or None.
        lower: Lower end of a pointwise 95 % interval, or None.
        upper: Upper end of that interval, or None.
    """

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
        """The series that the value belongs to: quantity, reward and group."""
        return self.quantity, self.reward, self.group


@dataclass(frozen=True)
class Trajectory:
    """Values of quantities over rounds; forecasts and measurements share one format.

    >>> rows = [Row(t, FORECAST, "mean_reward", value, "reward") for t, value in enumerate([1.0, 1.5, 1.8])]
    >>> trajectory = Trajectory(tuple(rows))
    >>> trajectory.values("mean_reward")
    array([1. , 1.5, 1.8])
    >>> trajectory.about()
    [('mean_reward', 'reward', None)]

    Attributes:
        rows: Values in their order of appearance.
    """

    rows: tuple[Row, ...] = ()

    def __add__(self, other: Trajectory) -> Trajectory:
        return Trajectory(self.rows + other.rows)

    def where(
        self,
        source: str | None = None,
        quantity: str | None = None,
        round: int | None = None,  # noqa: A002
    ) -> Trajectory:
        """Return the rows of one source, one quantity, one round, or a combination; None selects all."""
        found = self.rows
        for name, value in (("source", source), ("quantity", quantity), ("round", round)):
            if value is not None:
                found = tuple(row for row in found if getattr(row, name) == value)
        return Trajectory(found)

    def series(
        self,
        quantity: str,
        *,
        source: str = FORECAST,
        reward: str | None = None,
        group: str | None = None,
    ) -> dict[int, Row]:
        """Return the rows of one series by round.

        Args:
            quantity: Name of the quantity.
            source: Origin of the values.
            reward: Name of the reward; it may be omitted if only one series matches.
            group: Name of the group; it may be omitted if only one series matches.

        Raises:
            InputError: If no series or several series match.
        """
        rows = [
            row
            for row in self.where(source, quantity).rows
            if reward in (None, row.reward) and group in (None, row.group)
        ]
        keys = {row.key for row in rows}
        if len(keys) != 1:
            raise InputError(
                f"{len(keys)} series match {quantity!r} ({source})",
                got=f"reward {reward!r}, group {group!r}",
                remedy="name the reward and the group; about() lists the series",
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
        """Return the values of one series in order of rounds, shape (rounds,).

        Arguments and errors are those of :meth:`series`.
        """
        series = self.series(quantity, source=source, reward=reward, group=group)
        return np.array([series[t].value for t in sorted(series)])

    def about(self, source: str | None = None) -> list[tuple[str, str | None, str | None]]:
        """Return the distinct series (quantity, reward, group) of a source, in order of appearance.

        ``source`` None means all sources.
        """
        return list(dict.fromkeys(row.key for row in self.rows if source in (None, row.source)))

    def to_table(self) -> pa.Table:
        """Return the trajectory as a tidy Arrow table, one row per value."""
        columns = {name: [getattr(row, name) for row in self.rows] for name in SCHEMA.names}
        return pa.table(columns, schema=SCHEMA)

    @classmethod
    def from_table(cls, table: pa.Table) -> Trajectory:
        """Return the trajectory in a tidy Arrow table; see :meth:`to_table`.

        Raises:
            InputError: If a column is missing or a value does not fit its column's type.
        """
        missing = set(SCHEMA.names) - set(table.column_names)
        if missing:
            raise InputError(
                "this table is not a trajectory",
                got=f"columns {', '.join(table.column_names)}",
                remedy=f"add the columns {', '.join(sorted(missing))}",
            )
        try:
            rows = table.select(SCHEMA.names).cast(SCHEMA).to_pylist()
        except (pa.ArrowException, ValueError) as error:
            raise InputError("this table is not a trajectory", got=error, remedy="write it again") from None
        for row in rows:  # in CSV, the empty string stands for null
            row["reward"], row["group"] = row["reward"] or None, row["group"] or None
        return cls(tuple(Row(**row) for row in rows))

    def write(self, path: Path | str) -> None:
        """Write the table atomically; the extension determines the format (Parquet, CSV or JSON lines).

        Raises:
            InputError: If the extension is unknown.
        """
        write_table(self.to_table(), path)

    @classmethod
    def read(cls, path: Path | str) -> Trajectory:
        """Read a trajectory written by :meth:`write`.

        Raises:
            InputError: If the file cannot be read or is not a trajectory.
        """
        return cls.from_table(read_table(path))


@dataclass(frozen=True)
class Agreement:
    """Error of a forecast of one quantity against its measurements in rounds 1, 2, ...

    Attributes:
        differences: Forecast minus measured value, by round.
        relative: Difference divided by the absolute measured value, by round; NaN where that is 0.
        rmse: Root mean square of the differences over rounds.
        persistence_rmse: Root mean square error of the persistence forecast, which repeats the value
            measured in round 0.
    """

    differences: dict[int, float]
    relative: dict[int, float]
    rmse: float
    persistence_rmse: float

    @property
    def error_ratio(self) -> float:
        """Ratio ``rmse / persistence_rmse``: 0 for a perfect forecast, 1 for one no better than persistence.

        It is NaN if the persistence forecast has no error.
        """
        return self.rmse / self.persistence_rmse if self.persistence_rmse > 0 else float("nan")


def agreement(trajectory: Trajectory, key: tuple[str, str | None, str | None]) -> Agreement | None:
    """Compare the forecast and the measurements of one series (quantity, reward, group).

    Returns:
        The agreement over the rounds after 0 that have both, or None if there is no such round or round 0
        was not measured.
    """
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


@dataclass(frozen=True)
class PassedOn:
    """The part of what one round selected that retraining passed on to the next.

    The mean reward changed by selection + sampling + transmission; the part is that change over
    selection + sampling, the change that the picks asked for.

    Attributes:
        round: The later round.
        reward: The reward's name.
        share: The part; below zero where retraining lost more than was selected.
        lower: Lower end of its 95 % interval.
        upper: Upper end of its 95 % interval.
    """

    round: int
    reward: str
    share: float
    lower: float
    upper: float


def passed_on(trajectory: Trajectory) -> list[PassedOn]:
    """Return what retraining passed on, by round and reward, where more was asked for than chance makes.

    There is none where the trajectory has no rows ``selection``, ``sampling`` and ``transmission``.
    """
    parts: dict[tuple[int, str], dict[str, Row]] = {}
    for row in trajectory.where(MEASURED).rows:
        if row.quantity in ("selection", "sampling", "transmission") and row.reward is not None:
            parts.setdefault((row.round, row.reward), {})[row.quantity] = row
    found = []
    for (t, reward), rows in sorted(parts.items()):
        if len(rows) < 3:
            continue
        asked, lost = rows["selection"].value + rows["sampling"].value, rows["transmission"]
        if lost.lower is None or lost.upper is None or abs(asked) <= (lost.upper - lost.lower) / 2:
            continue
        ends = sorted(1 + end / asked for end in (lost.lower, lost.upper))
        found.append(PassedOn(t, reward, 1 + lost.value / asked, *ends))
    return found


def _rms(values: Iterable[float]) -> float:
    return float(np.sqrt(np.mean(np.square(np.fromiter(values, float)))))
