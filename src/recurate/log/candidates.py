"""Candidates with their rewards, groups, contexts and tracked columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.log.schema import MODEL, REAL, Log


@dataclass(frozen=True)
class Candidates:
    """n candidates with m rewards.

    Attributes:
        rewards: Rewards, shape (n, m), finite.
        names: Names of the m rewards.
        groups: Group of each candidate as text, shape (n,), or None.
        tracked: Further numeric columns by name, shape (n,) each.
        contexts: Context of each candidate as text, shape (n,); None if all are the same.
        labels: Known groups, including those that do not occur among these candidates.
        counts: Number of candidates that each row stands for, shape (n,), positive; None: one each.
        picked: Whether each enters the next training set, shape (n,), where rounds of a log are read; None:
            unknown.
    """

    rewards: FloatArray
    names: tuple[str, ...]
    groups: NDArray[Any] | None = None
    tracked: Mapping[str, FloatArray] = field(default_factory=dict)
    contexts: NDArray[Any] | None = None
    labels: tuple[str, ...] = ()
    counts: FloatArray | None = None
    picked: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def size(self) -> int:
        """The number of candidates that the rows stand for."""
        return len(self) if self.counts is None else round(float(self.counts.sum()))

    @property
    def sample_law(self) -> FloatArray | None:
        """The share of each row in the sample, shape (n,); None for equal shares."""
        return None if self.counts is None else self.counts / self.counts.sum()

    def take(self, rows: NDArray[Any]) -> Candidates:
        """Return the candidates with the given row indices or mask."""
        return replace(
            self,
            rewards=self.rewards[rows],
            groups=None if self.groups is None else self.groups[rows],
            tracked={name: values[rows] for name, values in self.tracked.items()},
            contexts=None if self.contexts is None else self.contexts[rows],
            counts=None if self.counts is None else self.counts[rows],
            picked=None if self.picked is None else self.picked[rows],
        )

    def join(self, other: Candidates) -> Candidates:
        """Return these candidates followed by others with the same columns.

        Raises:
            InputError: If ``other`` has other rewards or lacks a column.
        """
        if other.names != self.names:
            raise InputError(
                "the reference must have the same rewards as the candidates",
                got=f"{', '.join(other.names)} instead of {', '.join(self.names)}",
                remedy="score the real data with the same reward functions",
            )
        lacking = set(self.tracked) - set(other.tracked)
        lacking |= {"group"} if self.groups is not None and other.groups is None else set()
        lacking |= {"context"} if self.contexts is not None and other.contexts is None else set()
        if lacking:
            raise InputError(
                "the reference lacks columns that the candidates have",
                got=f"no {', '.join(sorted(lacking))}",
                remedy="give the real data every column that is forecast"
                + (", or pool the contexts: --context none" if "context" in lacking else ""),
            )
        return Candidates(
            np.concatenate([self.rewards, other.rewards]),
            self.names,
            None if self.groups is None else np.concatenate([self.groups, other.groups]),
            {k: np.concatenate([v, other.tracked[k]]) for k, v in self.tracked.items()},
            None if self.contexts is None else np.concatenate([self.contexts, other.contexts]),
            group_names(self, other),
            _joined_counts(self, other),
        )


@dataclass(frozen=True)
class Rounds:
    """The candidates of every round, and real data.

    Attributes:
        generated: Candidates by round, in ascending order, each with the groups of all rounds as labels.
        real: Real data, or None.
    """

    generated: Mapping[int, Candidates]
    real: Candidates | None = None

    @classmethod
    def of(
        cls, log: Log, *, group: str | None = None, track: Sequence[str] = (), picks: int | None = None
    ) -> Rounds:
        """Return the candidates of a log's rounds.

        Args:
            log: A log.
            group: Column of groups; None: no groups.
            track: Further numeric columns.
            picks: Number of a round's picks, the first ones, that enter the next training set; None: all.

        Raises:
            InputError: If the log has no generated candidates, or columns are missing.
        """
        generated = log.select(source=MODEL)
        if generated.table.num_rows == 0:
            raise InputError(
                "the log has no generated candidates",
                got=f"sources {sorted(set(log.column('source').tolist()))}",
                remedy=f"candidates have source {MODEL!r}, real data {REAL!r}",
            )
        by_round = {}
        for t in generated.rounds():
            own = generated.select(round=t)
            by_round[t] = replace(
                from_log(own, group=group, track=track), picked=_first_picks(own.column("picked"), picks)
            )
        labels = tuple(sorted({name for c in by_round.values() for name in group_names(c, None)}))
        real = log.select(source=REAL)
        return cls(
            {t: replace(c, labels=labels) for t, c in by_round.items()},
            from_log(real, group=group, track=track) if real.table.num_rows else None,
        )

    @property
    def numbers(self) -> list[int]:
        """The numbers of the rounds, in ascending order."""
        return list(self.generated)

    @property
    def first(self) -> Candidates:
        """The candidates of the first round."""
        return self.generated[self.numbers[0]]


def as_candidates(
    rewards: ArrayLike | Candidates,
    *,
    names: Sequence[str] | None = None,
    groups: ArrayLike | None = None,
    track: Mapping[str, ArrayLike] | None = None,
    contexts: ArrayLike | None = None,
) -> Candidates:
    """Return arrays as checked candidates; candidates are returned unchanged.

    Args:
        rewards: Rewards, shape (n,) or (n, m), or candidates.
        names: Names of the m rewards; None: ``reward``, or ``reward_0``, ``reward_1``, ...
        groups: Group of each candidate, shape (n,).
        track: Further numeric columns by name, shape (n,) each.
        contexts: Context of each candidate, shape (n,).

    Raises:
        InputError: If shapes disagree, a value is not a finite number or a label is missing, names are not
            distinct, or candidates are combined with other arguments.
    """
    if isinstance(rewards, Candidates):
        given = {"names": names, "groups": groups, "track": track, "contexts": contexts}
        if any(value is not None for value in given.values()):
            raise InputError(
                "Candidates already have names, groups, tracked columns and contexts",
                got=", ".join(name for name, value in given.items() if value is not None),
                remedy="pass these to as_candidates, together with the rewards",
            )
        return rewards
    matrix = reward_matrix(rewards)
    count, dimension = matrix.shape
    usual = ["reward"] if dimension == 1 else [f"reward_{i}" for i in range(dimension)]
    labels = tuple(names or usual)
    if len(labels) != dimension:
        raise InputError(
            f"there must be one name per reward, {dimension} in all",
            got=f"{len(labels)} names",
            remedy="pass names in the order of the columns",
        )
    if len(set(labels)) < dimension:
        raise InputError("rewards need distinct names", got=", ".join(labels), remedy="name each reward once")
    if track is not None and not isinstance(track, Mapping):
        raise InputError(
            "track must map names to columns", got=type(track).__name__, remedy="track={'length': [...]}"
        )
    tracked = {name: _numbers(name, values, count) for name, values in (track or {}).items()}
    texts = _texts("contexts", contexts, count)
    one = texts is None or bool((texts == texts[0]).all())
    return Candidates(matrix, labels, _texts("groups", groups, count), tracked, None if one else texts)


def from_log(log: Log, *, group: str | None = None, track: Sequence[str] = ()) -> Candidates:
    """Return a log's candidates; contexts are None if there is only one.

    Args:
        log: Log to read.
        group: Column of groups; None: no groups.
        track: Further numeric columns.

    Raises:
        InputError: If a column is missing, or a candidate has no group.
    """
    return as_candidates(
        log.reward_matrix(),
        names=log.rewards,
        groups=None if group is None else _group_column(log, group),
        track={name: log.column(name) for name in track},
        contexts=log.column("context").astype(str),
    )


def _first_picks(picked: NDArray[Any], count: int | None) -> BoolArray | None:
    """Return a mask of so many picks, the first ones, shape (n,); None if nothing was picked."""
    rows = np.flatnonzero(picked)[:count]
    found = np.zeros(len(picked), bool)
    found[rows] = True
    return found if rows.size else None


def _group_column(log: Log, name: str) -> NDArray[Any]:
    column: Any = log.table.column(name) if name in log.table.column_names else log.column(name)
    if column.null_count:
        row = next(i for i, value in enumerate(column) if not value.is_valid)
        raise InputError(
            f"column {name!r} names no group in {column.null_count} rows",
            got=f"an empty value in row {row + 1} of the selected rows",
            remedy="give every candidate a group, such as 'other'",
        )
    try:
        return np.asarray(column.cast("string").to_numpy()).astype(str)
    except pa.ArrowException:
        raise InputError(
            f"column {name!r} cannot be a group", got=column.type, remedy="use a column of words or numbers"
        ) from None


def reward_matrix(rewards: ArrayLike) -> FloatArray:
    """Return rewards as a matrix (candidates, rewards) of finite numbers.

    Raises:
        InputError: If the rewards are not finite numbers of shape (candidates,) or (candidates, rewards).
    """
    try:
        values = np.asarray(rewards, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            "rewards must be an array of numbers",
            got=type(rewards).__name__,
            remedy="pass shape (candidates,) or (candidates, rewards)",
        ) from None
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(
            "rewards must have shape (candidates,) or (candidates, rewards), at least one of each",
            got=f"shape {np.shape(rewards)}",
            remedy="one row per candidate, one column per reward",
        )
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        row, column = bad[0]
        raise InputError(
            f"reward {column} of candidate {row} is not a finite number",
            got=values[row, column],
            remedy=f"drop or repair such candidates ({len(np.unique(bad[:, 0]))} in all)",
        )
    return values


def _numbers(name: str, values: ArrayLike, count: int) -> FloatArray:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"the tracked column {name!r} must hold numbers",
            got=repr(np.asarray(values).ravel()[:1].tolist()),
            remedy="track numeric columns; use groups for labels",
        ) from None
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise InputError(
            f"the tracked column {name!r} must hold one finite number per candidate",
            got=f"shape {numbers.shape}, {int((~np.isfinite(numbers)).sum())} not finite",
            remedy=f"pass {count} finite numbers",
        )
    return numbers


def _texts(name: str, values: ArrayLike | None, count: int) -> NDArray[Any] | None:
    if values is None:
        return None
    given = np.asarray(values)
    blank = given.dtype == object and any(v is None or v != v for v in given.ravel())
    if blank or (given.dtype.kind == "f" and np.isnan(given).any()):
        raise InputError(
            f"{name} must hold a label for every candidate",
            got="None or NaN",
            remedy="use 'other' for missing labels",
        )
    texts = given.astype(str)
    if texts.shape != (count,):
        raise InputError(
            f"{name} must hold one label per candidate",
            got=f"shape {texts.shape}",
            remedy=f"pass {count} labels",
        )
    return texts


def _joined_counts(first: Candidates, second: Candidates) -> FloatArray | None:
    if first.counts is None and second.counts is None:
        return None
    return np.concatenate([np.ones(len(c)) if c.counts is None else c.counts for c in (first, second)])


# --- groups ---------------------------------------------------------------------------------------


def group_names(candidates: Candidates, reference: Candidates | None) -> tuple[str, ...]:
    """Return the known groups and those that occur among the candidates or the reference, sorted."""
    if candidates.groups is None:
        return ()
    names = set(np.unique(candidates.groups).tolist()) | set(candidates.labels)
    if reference is not None and reference.groups is not None:
        names |= set(np.unique(reference.groups).tolist()) | set(reference.labels)
    return tuple(sorted(names))


def group_codes(groups: NDArray[Any], names: Sequence[str]) -> IntArray:
    """Return the index in ``names`` of each group, shape (n,).

    Raises:
        InputError: If a group is not in ``names``.
    """
    order = np.argsort(np.asarray(names))
    found = order[np.minimum(np.searchsorted(np.asarray(names)[order], groups), len(names) - 1)]
    wrong = np.flatnonzero(np.asarray(names)[found] != groups)
    if wrong.size:
        raise InputError(
            f"{wrong.size} candidates are of an unknown group",
            got=repr(str(groups[wrong[0]])),
            remedy=f"the groups are {', '.join(names)}",
        )
    return np.asarray(found, np.int64)
