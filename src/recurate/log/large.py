r"""Logs that are too large to be read whole: a sample of whole slates as a log, and sums over all rows.

Two passes read one batch of rows at a time. The first, over rounds and slates, counts the slates of every
size and finds the first slates of every round; these are read as a log, which tells how the columns are
understood, the rule of the picks and all that a sample can. The second pass replaces the candidates of a
round by cells: intervals of one reward of equal width h, each represented by two atoms of half its
candidates, one standard deviation below and above their mean. That is exact for polynomials of the second
degree; with abs f''' <= c^3 f the error of E f is at most

.. math:: E f \, (c h)^3 / 12,

for c h up to one, since the mean of abs d^3 over deviations d from the mean is at most h times the variance,
h^3 / 4, for the candidates and for the atoms. Candidates with equal rewards stay exact, and so do those far
from the middle of the sample's rewards, which are in no cell.

With several rewards there are no cells: forecasts then rest on the sample.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.errors import InputError, short
from recurate.core.limits import ROWS, limit
from recurate.log.candidates import Candidates, Rounds
from recurate.log.inputs import folder_of, source_of
from recurate.log.opening import HEAD, open_log
from recurate.log.reading.answers import check_in_parts
from recurate.log.reading.logs import Opened
from recurate.log.reading.mapping import Given, Mapping
from recurate.log.reading.rewards import terms
from recurate.log.reading.sources import Source
from recurate.log.reading.understand import understand
from recurate.log.schema import METADATA_KEY, MODEL, REAL

SAMPLE = 1_000_000  # rows of the sample
CELLS = 1 << 17  # cells of the first round's rewards and of real data
LATER = 1 << 16  # cells of later rounds, whose quantities are only measured
MOST = 1 << 22  # largest number of cells of all rounds and groups
CHUNK = 1 << 18  # rows that are added at a time, so that what is made of them fits into the cache
TAILS = 5e-4  # share of the sample's rewards beyond either end of the middle that sets the cells' width
OUTLIERS = 1_000_000  # largest number of candidates of one round and group whose rewards are in no cell
LARGEST_SLATE = 4096  # candidates; more are no slate, but rows that share another number
OUTSIDE = -(2**63)  # in place of a slate's number
COUNTED = (".parquet", ".pq", ".arrow", ".feather", ".ipc")

Key = tuple[int, bool, int]  # round, whether real, group


@dataclass(frozen=True)
class Large:
    """A log that is read in parts.

    Attributes:
        source: Its files.
        columns: Column of each role that is read: ``round``, ``slate``, ``source``, ``context``.
        sample: The first slates of every round, with all columns.
        rows: Number of rows.
        sizes: Number of slates of each size, over all rounds; empty without slates.
        first: The first round of slates, and their number (of rows, without slates).
    """

    source: Source
    columns: dict[str, str]
    sample: pa.Table
    rows: int
    sizes: dict[int, int]
    first: tuple[int, int]

    def opened(self, given: Given) -> Opened:
        """Return the sample as a log; see :func:`recurate.log.opening.open_log`."""
        found = open_log(self.sample, given)
        return replace(found, notes=(*self.notes, *found.notes), sampled=True)

    @property
    def slate_size(self) -> float | dict[float, float] | None:
        """The size of the slates, or the distribution of sizes; None without slates."""
        if not self.sizes:
            return None
        total = sum(self.sizes.values())
        if len(self.sizes) == 1:
            return float(next(iter(self.sizes)))
        return {float(size): count / total for size, count in sorted(self.sizes.items())}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was understood of the files, what was read whole, and what in parts."""
        read = self.sample.num_rows
        of = "first slates of every round" if self.sizes else "first rows of every round"
        said = (
            f"{self.rows:,} rows are read in parts ({ROWS} sets how many are read whole): what is said of "
            f"columns and picks rests on the {of}, {read:,} rows"
        )
        return (*self.source.notes, said)


def is_large(source: Source) -> bool:
    """Return whether a source has more rows than are read whole."""
    counts = [part.rows for part in source.parts]
    return all(c is not None for c in counts) and sum(c or 0 for c in counts) > limit(ROWS)


def open_large(source: Any, given: Given, *, pooled: bool = False) -> Large | None:
    """Return a log that is read in parts; None for one that is read whole.

    Args:
        source: Any source that :func:`recurate.log.inputs.source_of` accepts.
        given: What the user said about its columns; ``picks``: whether picks are needed, not rewards.
        pooled: Whether all candidates must share one prompt and have rewards in plain columns.

    Raises:
        InputError: The log is too large to be read whole, and its form cannot be read in parts.
    """
    if not _counts_rows(source) or folder_of(source) is not None:
        return None
    file = source_of(source)
    if not is_large(file):
        return None
    check_in_parts(file, given)
    columns = _columns(file, given, pooled=pooled)
    found = _survey(file, columns)
    table = _rows(file, found.ranges)
    return Large(file, columns, table, found.rows, found.sizes, found.first)


def open_sample(source: Any, given: Given) -> Opened:
    """Return a source as a log, or the sample of one that is read in parts; see ``opening.open_log``."""
    large = open_large(source, replace(given, picks=False))
    return open_log(source, given) if large is None else large.opened(given)


def _counts_rows(source: Any) -> bool:
    """Return whether a source names files that may tell their number of rows, or folders of such."""
    if isinstance(source, str | os.PathLike):
        names = [os.fspath(source)]
    elif isinstance(source, Sequence) and all(isinstance(one, str | os.PathLike) for one in source):
        names = [os.fspath(one) for one in source]
    else:
        return False
    return all(_counted(str(name)) for name in names)


def _counted(name: str) -> bool:
    if os.path.isdir(name):
        return any(_counted(inner) for inner in os.listdir(name))
    return "://" not in name and name.lower().endswith(COUNTED)


def _columns(file: Source, given: Given, *, pooled: bool) -> dict[str, str]:
    """Return the columns of rounds, slates and sources; refuse forms that cannot be read in parts."""
    names = file.schema.names
    if METADATA_KEY in (file.schema.metadata or {}):
        roles = ["round", "slate", "source"]
        roles += ["context"] if pooled and given.roles.get("context") != "none" else []
        return {role: role for role in roles if role in names}
    head = file.head(HEAD)
    mapping = understand(head, given).mapping
    _check_form(mapping, given, names, pooled=pooled)
    found = {role: mapping.roles[role] for role in ("round", "slate") if role in mapping.roles}
    return found | ({"source": "source"} if "source" in names else {})


def _check_form(mapping: Mapping, given: Given, names: Sequence[str], *, pooled: bool) -> None:
    what = ""
    if mapping.form != "long":
        what = f"it is read as {mapping.form}"
    elif pooled and "context" in mapping.roles and given.roles.get("context") != "none":
        what = f"its candidates have prompts ({mapping.roles['context']!r}; --context none pools them)"
    elif not set(mapping.keys) <= {mapping.roles.get(r) for r in ("round", "slate")} or mapping.blocks:
        what = "several columns together tell the slates"
    elif pooled and any(terms(r, names) != [r] for r in (given.rewards or mapping.rewards)):
        what = "its reward is a sum of columns"
    if what:
        raise _not_in_parts(what)


def _not_in_parts(what: str) -> InputError:
    return InputError(
        "a log of this size is read in parts, which needs one row per candidate and plain columns",
        got=what,
        remedy=f"name a part of its files; or, with memory enough, {ROWS}=1000000000 in the environment",
    )


# --- the first pass -------------------------------------------------------------------------------


@dataclass
class _Survey:
    """Slates by size, and where the first slates of every round are."""

    rows: int = 0
    first: tuple[int, int] = (0, 0)
    sizes: dict[int, int] = field(default_factory=dict)
    ranges: list[tuple[int, int]] = field(default_factory=list)  # rows of the whole source


@dataclass
class _Round:
    """The first runs of rows of one round, and the number of its slates (of its rows, without slates)."""

    count: int = 0
    taken: int = 0  # rows
    runs: list[tuple[IntArray, IntArray, BoolArray]] = field(default_factory=list)

    def add(self, starts: IntArray, lengths: IntArray, slated: BoolArray) -> None:
        """Add runs: their first rows, their lengths and whether they are slates."""
        if self.taken < SAMPLE:
            self.runs.append((starts, lengths, slated))
            self.taken += int(lengths.sum())

    def ranges(self, most: int) -> list[tuple[int, int]]:
        """Return where about ``most`` rows are, of whole slates."""
        starts, lengths, slated = (np.concatenate(part) for part in zip(*self.runs, strict=True))
        lengths = np.where(slated, lengths, np.minimum(lengths, most))  # other rows need not be whole
        some = slice(0, int(np.searchsorted(np.cumsum(lengths), most)) + 1)
        ends = (starts + lengths)[some].tolist()
        return list(zip(starts[some].tolist(), ends, strict=True))


def _survey(file: Source, columns: dict[str, str]) -> _Survey:
    """Count slates and choose the sample's, from the columns of rounds and slates alone."""
    found, sizes = _Survey(), np.zeros(LARGEST_SLATE + 1, np.int64)
    if not {"round", "slate"} & columns.keys():
        found.rows = sum(part.rows or 0 for part in file.parts)
        found.first, found.ranges = (0, found.rows), [(0, min(SAMPLE, found.rows))]
        return found
    by_round: dict[int, _Round] = {}
    for rounds, starts, lengths, slated in _checked_runs(file, columns):
        found.rows += int(lengths.sum())
        if slated.any():
            if lengths[slated].max() > LARGEST_SLATE:
                raise InputError(
                    f"a slate has more than {LARGEST_SLATE} candidates",
                    got=f"{lengths[slated].max():,} rows with the same {columns['slate']!r}",
                    remedy="name the column that the candidates of one choice share: --slate COLUMN",
                )
            sizes += np.bincount(lengths[slated], minlength=sizes.size)
        for t in rounds[:1] if rounds.min() == rounds.max() else np.unique(rounds):
            own = rounds == t
            known = by_round.setdefault(int(t), _Round())
            known.count += int(slated[own].sum() if "slate" in columns else lengths[own].sum())
            known.add(starts[own], lengths[own], slated[own])
    for known in by_round.values():
        found.ranges += known.ranges(max(SAMPLE // len(by_round), 1))
    found.ranges = _joined(found.ranges)
    first = min((t for t, known in by_round.items() if known.count), default=min(by_round))
    found.first = first, by_round[first].count
    found.sizes = {int(size): int(sizes[size]) for size in np.flatnonzero(sizes)}
    return found


def _checked_runs(
    file: Source, columns: dict[str, str]
) -> Iterator[tuple[IntArray, IntArray, IntArray, BoolArray]]:
    """Yield the runs of :func:`_runs`, but their keys; refuse slates whose rows are apart in a file.

    Such slates would be counted as several. Where keys increase within a file there are none.
    """
    ends = np.cumsum([part.rows or 0 for part in file.parts])
    unsure: set[int] = set()
    last = np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
    for rounds, starts, lengths, slated, keys in _runs(file, columns):
        heads, at = np.concatenate([last[0], keys[slated]]), np.concatenate([last[1], starts[slated]])
        last = heads[-1:], at[-1:]
        of = np.searchsorted(ends, at, side="right")
        unsure.update(of[1:][~_increases(heads) & (of[1:] == of[:-1])].tolist())
        yield rounds, starts, lengths, slated
    for number in sorted(unsure):
        part = file.parts[number]
        one = replace(file, parts=(part,))
        heads = np.concatenate([keys[slated] for _, _, _, slated, keys in _runs(one, columns)])
        slates = 1 + int((np.diff(heads[np.lexsort(heads.T)], axis=0) != 0).any(axis=1).sum())
        if slates < len(heads):
            raise InputError(
                f"the rows of a slate of {part.name} are not together, and a log of this size is not sorted "
                "here",
                got=f"{len(heads):,} runs of rows for {slates:,} slates",
                remedy="sort the rows by round and slate",
            )


def _increases(keys: IntArray) -> BoolArray:
    """Return whether each row of (n, 2) is above the one before it, the first column first, (n - 1,)."""
    above, same = keys[1:] > keys[:-1], keys[1:] == keys[:-1]
    return np.asarray(above[:, 0] | (same[:, 0] & above[:, 1]))


def _runs(
    file: Source, columns: dict[str, str]
) -> Iterator[tuple[IntArray, IntArray, IntArray, BoolArray, IntArray]]:
    """Yield runs of rows of one round and slate.

    Yields:
        The runs' rounds, first rows and lengths, whether they are slates of the model's candidates, and their
        rounds and slates, shape (runs, 2).
    """
    names = [columns[role] for role in ("round", "slate", "source") if role in columns]
    start, last, rest = 0, None, None
    for batch in batches(file, names):
        rounds, slates = _round_and_slate(batch, columns)
        values = [rounds, slates]
        change = np.zeros(batch.num_rows, bool)
        change[0] = last is None or any(v[0] != old for v, old in zip(values, last, strict=True))
        for v in values:
            change[1:] |= v[1:] != v[:-1]
        last = [v[-1] for v in values]
        begins = np.flatnonzero(change)
        found = [(begins + start, np.column_stack([rounds[begins], slates[begins]]))]
        if rest is not None:
            found.insert(0, rest)
        firsts, keys = (np.concatenate(part) for part in zip(*found, strict=True))
        start += batch.num_rows
        if firsts.size > 1:
            yield keys[:-1, 0], firsts[:-1], np.diff(firsts), keys[:-1, 1] != OUTSIDE, keys[:-1]
        rest = firsts[-1:], keys[-1:]
    if rest is not None:
        yield rest[1][:, 0], rest[0], start - rest[0], rest[1][:, 1] != OUTSIDE, rest[1]


def _round_and_slate(batch: pa.Table, columns: dict[str, str]) -> tuple[IntArray, IntArray]:
    """Return the round and the slate of each row; OUTSIDE for rows in none, and for real data."""
    rounds = _whole(batch, columns["round"]) if "round" in columns else np.zeros(batch.num_rows, np.int64)
    if "slate" not in columns:
        return rounds, np.full(batch.num_rows, OUTSIDE)
    slates = _whole(batch, columns["slate"], outside=True)
    real = _real(batch, columns)
    return rounds, np.where(real, OUTSIDE, slates) if real.any() else slates


def _real(batch: pa.Table, columns: dict[str, str]) -> BoolArray:
    """Return whether each row is of source ``real``."""
    if "source" not in columns:
        return np.zeros(batch.num_rows, bool)
    column = batch.column(columns["source"])
    if pa.types.is_null(column.type):  # of a file without this column
        return np.zeros(batch.num_rows, bool)
    column = column.cast(pa.string()).fill_null(MODEL)
    known = pc.is_in(column, value_set=pa.array([MODEL, REAL]))
    if not pc.all(known).as_py():
        raise InputError(
            f"the column {columns['source']!r} is neither 'model' nor 'real' in some rows",
            got=short(column.filter(pc.invert(known))[0].as_py()),
            remedy="repair these rows",
        )
    return np.asarray(pc.equal(column, REAL))


def _whole(batch: pa.Table, name: str, *, outside: bool = False) -> IntArray:
    """Return a column of whole numbers; where it is empty, ``OUTSIDE`` if rows may lie outside slates."""
    column = batch.column(name)
    if column.null_count and outside and pa.types.is_integer(column.type):
        column = column.cast(pa.int64(), safe=False).fill_null(OUTSIDE)
    if column.null_count:
        raise InputError(
            f"the column {name!r} is empty in some rows",
            got=f"{column.null_count} of {len(column)} rows of one part",
            remedy="fill it in, or leave these rows out",
        )
    if pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy()).astype(np.int64, copy=False)
    raise InputError(
        "a log of this size needs rounds and slates that are whole numbers",
        got=f"column {name!r} of type {column.type}",
        remedy="number them; slates within each round, with their rows together",
    )


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges that follow each other."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if out and out[-1][1] == low:
            out[-1] = (out[-1][0], high)
        else:
            out.append((low, high))
    return out


def _rows(file: Source, ranges: Sequence[tuple[int, int]]) -> pa.Table:
    """Return the rows of some ranges, with all columns."""
    found, start = [], 0
    wanted = list(ranges)
    for part in file.parts:
        size = part.rows or 0
        if any(low < start + size and high > start for low, high in wanted):
            at = start
            for batch in part.batches(None):
                for low, high in wanted:
                    if low < at + batch.num_rows and high > at:
                        begin = max(low - at, 0)
                        found.append(batch.slice(begin, min(high - at, batch.num_rows) - begin))
                at += batch.num_rows
                if not any(high > at for _, high in wanted):
                    break
        start += size
    return pa.concat_tables(found, promote_options="default").combine_chunks()


def batches(file: Source, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    """Yield all rows of a source, some at a time; the next ones are read meanwhile."""
    every = chain.from_iterable(part.batches(columns) for part in file.parts)
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(next, every, None)
        while (batch := ahead.result()) is not None:
            ahead = pool.submit(next, every, None)
            if batch.num_rows:
                yield batch


def slate_blocks(large: Large, names: Sequence[str]) -> Iterator[tuple[IntArray, dict[str, Any]]]:
    """Yield whole slates, some at a time: the offsets of their rows, (slates + 1,), and Arrow columns.

    Args:
        large: A log with slates.
        names: The columns, next to those of rounds and slates.
    """
    keys = [large.columns[role] for role in ("round", "slate", "source") if role in large.columns]
    rest: pa.Table | None = None
    for batch in batches(large.source, list(dict.fromkeys((*keys, *names)))):
        slates = _round_and_slate(batch, large.columns)[1]
        if (slates == OUTSIDE).any():
            batch = batch.filter(pa.array(slates != OUTSIDE))
        table = batch if rest is None else pa.concat_tables([rest, batch])
        if not table.num_rows:
            continue
        change = np.zeros(table.num_rows, bool)
        for values in _round_and_slate(table, large.columns):
            change[1:] |= values[1:] != values[:-1]
        starts = np.flatnonzero(change)  # but the first row's
        if starts.size:
            last = int(starts[-1])
            yield np.concatenate([[0], starts]), _columns_of(table.slice(0, last), names)
            rest = table.slice(last)
        else:
            rest = table
    if rest is not None:
        yield np.array([0, rest.num_rows]), _columns_of(rest, names)


def _columns_of(table: pa.Table, names: Sequence[str]) -> dict[str, Any]:
    return {name: table.column(name).combine_chunks() for name in names}


# --- the second pass ------------------------------------------------------------------------------


class _Cells:
    """Numbers and means of values by cell, and means and spreads of tracked columns.

    Values below ``low`` or above ``high`` are in no cell, and stay as they are.
    """

    def __init__(self, low: float, high: float, cells: int, tracked: int) -> None:
        self.low, self.high, self.cells = low, high, cells
        self.outliers: list[FloatArray] = []  # values, then tracked columns, (1 + tracked, n)
        self.scale = cells / (high - low) if high > low else 0.0
        self.counts = np.zeros(cells)
        self.first = np.full(cells, np.nan)
        self.beyond = np.zeros((2, cells))  # sums of deviations and of their squares
        self.sums = np.zeros((tracked, 3, cells))  # of tracked columns, their squares, and times deviations

    def add(self, values: FloatArray, tracked: Sequence[FloatArray]) -> None:
        """Add values (n,) and tracked columns (n,)."""
        for low in range(0, values.size, CHUNK):
            some = slice(low, low + CHUNK)
            self._add(values[some], [column[some] for column in tracked])

    def _add(self, values: FloatArray, tracked: Sequence[FloatArray]) -> None:
        beyond = (values < self.low) | (values > self.high)
        if beyond.any():
            self.outliers.append(np.stack([values[beyond], *(column[beyond] for column in tracked)]))
            if sum(part.shape[1] for part in self.outliers) > OUTLIERS:
                raise InputError(
                    "a log of this size has too many rewards far from the others",
                    got=f"more than {OUTLIERS:,} below {self.low:.3g} or above {self.high:.3g}",
                    remedy="sort the rows by round, or shuffle them: the first slates set the cells",
                )
            values, tracked = values[~beyond], [column[~beyond] for column in tracked]
        place = values - self.low
        place *= self.scale
        at = place.astype(np.int32)
        np.minimum(at, self.cells - 1, out=at)
        self.counts += np.bincount(at, minlength=self.cells)
        own = self.first[at]
        new = np.isnan(own)
        if new.any():
            self.first[at[new]] = values[new]
            own = self.first[at]
        # Deviations from one of the cell's values: equal values have a mean that is exactly theirs.
        np.subtract(values, own, out=own)
        self.beyond[0] += np.bincount(at, own, self.cells)
        for sums, column in zip(self.sums, tracked, strict=True):
            for order, part in enumerate((column, np.square(column), column * own)):
                sums[order] += np.bincount(at, part, self.cells)
        self.beyond[1] += np.bincount(at, np.square(own, out=own), self.cells)

    def result(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return values (n,), numbers (n,) and tracked values (tracked, n) of the atoms.

        Atoms of a cell have its mean and spread; with tracked columns each is two halves again, so that the
        atoms have the tracked columns' means, spreads and covariances with the reward.
        """
        there = np.flatnonzero(self.counts)
        counts = self.counts[there]
        shift, square = self.beyond[:, there] / counts
        spread = np.sqrt(np.maximum(square - np.square(shift), 0.0))
        spread[counts == 1] = 0.0
        means = self.first[there] + shift
        one = spread == 0
        values = np.concatenate([means[one], (means - spread)[~one], (means + spread)[~one]])
        numbers = np.concatenate([counts[one], counts[~one] / 2, counts[~one] / 2])
        far = np.concatenate([np.zeros((1 + len(self.sums), 0)), *self.outliers], axis=1)
        ones = np.ones(far.shape[1])
        if not len(self.sums):
            values, numbers = np.concatenate([values, far[0]]), np.concatenate([numbers, ones])
            return values, numbers, np.zeros((0, values.size))
        centre, squares, products = np.moveaxis(self.sums[:, :, there] / counts, 1, 0)
        along = np.where(one, 0.0, (products - shift * centre) / np.where(one, 1.0, spread))
        around = np.sqrt(np.maximum(squares - np.square(centre) - np.square(along), 0.0))
        around[:, counts == 1] = 0.0
        atoms = [centre[:, one], (centre - along)[:, ~one], (centre + along)[:, ~one]]
        middle = np.hstack(atoms)
        reach = np.hstack([around[:, one], around[:, ~one], around[:, ~one]])
        return (
            np.concatenate([np.tile(values, 2), far[0]]),
            np.concatenate([np.tile(numbers / 2, 2), ones]),
            np.hstack([middle - reach, middle + reach, far[1:]]),
        )


def compressed(
    large: Large, reward: str, *, group: str | None = None, track: Sequence[str] = ()
) -> tuple[Rounds, float]:
    """Replace the candidates of a log with one reward by cells; see the module.

    Args:
        large: The log.
        reward: Its column of rewards.
        group: Column of groups; None: no groups.
        track: Further numeric columns, whose means in every cell are kept.

    Returns:
        The cells of every round and of real data as candidates, and the width of the first round's cells.

    Raises:
        InputError: A reward is not a finite number, or the log has too many groups and rounds.
    """
    if reward not in large.sample.column_names:
        raise _not_in_parts(f"its reward is made of several columns: {reward}")
    low, high = _middle(large.sample, reward)
    names = [reward, *track, *(c for r, c in large.columns.items() if r != "slate")]
    names += [group] if group is not None else []
    groups: dict[str, int] = {}
    cells: dict[Key, _Cells] = {}
    prompts: set[str] = set()
    for batch in batches(large.source, list(dict.fromkeys(names))):
        _check_one_context(batch, large.columns, prompts)
        values = _finite(batch, reward)
        columns = [_finite(batch, name) for name in track]
        for key, rows in _divided(batch, large.columns, group, groups):
            key = (0, *key[1:]) if key[1] else key  # real data are of no round
            if key not in cells:
                size = CELLS if key[0] == large.first[0] or key[1] else LATER
                if sum(c.cells for c in cells.values()) + size > MOST:
                    raise InputError(
                        "a log of this size has too many groups and rounds",
                        got=f"{len(groups)} groups, more than {len({k[0] for k in cells})} rounds",
                        remedy="leave out --group, or name the files of some rounds",
                    )
                cells[key] = _Cells(low, high, size, len(track))
            if rows is None:
                cells[key].add(values, columns)
            else:
                cells[key].add(values[rows], [c[rows] for c in columns])
    labels = tuple(groups)
    generated = {
        t: _candidates(cells, (t, False), reward, labels, track)
        for t in sorted({key[0] for key in cells if not key[1]})
    }
    real = None
    if any(key[1] for key in cells):
        real = _candidates(cells, (0, True), reward, labels, track)
    return Rounds(generated, real), (high - low) / CELLS


def _candidates(
    cells: dict[Key, _Cells],
    which: tuple[int, bool],
    reward: str,
    labels: Sequence[str],
    track: Sequence[str],
) -> Candidates:
    found = [(key[2], cells[key].result()) for key in sorted(cells) if key[:2] == which]
    values, counts, tracked = (np.concatenate([f[1][i] for f in found], axis=-1) for i in range(3))
    groups = None
    if labels:
        groups = np.repeat(np.array([labels[g] for g, _ in found]), [f[0].size for _, f in found])
    means = dict(zip(track, tracked, strict=True))
    known = tuple(sorted(labels))
    return Candidates(values[:, None], (reward,), groups, means, None, known, counts)


def _divided(
    batch: pa.Table, columns: dict[str, str], group: str | None, groups: dict[str, int]
) -> Iterator[tuple[Key, NDArray[np.bool_] | None]]:
    """Yield the rows of every round, source and group; None stands for all rows."""
    size = batch.num_rows
    rounds = _whole(batch, columns["round"]) if "round" in columns else np.zeros(size, np.int64)
    real = _real(batch, columns)
    codes = np.zeros(size, np.int64)
    if group is not None:
        column = batch.column(group)
        if column.null_count:
            raise InputError(
                f"column {group!r} names no group in {column.null_count} rows of one part",
                got="an empty value",
                remedy="give every candidate a group, such as 'other'",
            )
        flags = pa.types.is_boolean(column.type)  # which a whole log calls 0 and 1
        column = column.cast(pa.int8()) if flags else column
        encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
        own = [groups.setdefault(name, len(groups)) for name in encoded.dictionary.to_pylist()]
        codes = np.array(own)[encoded.indices.to_numpy()]
    if all(v.min() == v.max() for v in (rounds, real, codes)):
        yield (int(rounds[0]), bool(real[0]), int(codes[0])), None
        return
    for t in np.unique(rounds):
        for source in np.unique(real):
            for g in np.unique(codes):
                rows = (rounds == t) & (real == source) & (codes == g)
                if rows.any():
                    yield (int(t), bool(source), int(g)), rows


def _finite(batch: pa.Table, name: str) -> FloatArray:
    """Return a column of finite numbers."""
    return numbers(batch.column(name), name)


def numbers(column: Any, name: str) -> FloatArray:
    """Return an Arrow column of finite numbers as an array.

    Raises:
        InputError: It is no number, or not finite, in some row.
    """
    kind = column.type
    numeric = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    numeric |= pa.types.is_null(kind)  # of a file without this column: not finite
    if not numeric:
        raise InputError(
            f"the column {name!r} must hold numbers in a log of this size",
            got=f"type {kind}",
            remedy="write the column as numbers",
        )
    values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise InputError(
            f"the column {name!r} is not a finite number in {bad} rows of one part",
            got=values[~np.isfinite(values)][0],
            remedy="leave the slates of these rows out",
        )
    return values


def _middle(sample: pa.Table, name: str) -> tuple[float, float]:
    """Return the ends of the cells: those of the sample's middle, moved apart by half its width each."""
    values = numbers(sample.column(name).combine_chunks(), name)
    low, high = (float(v) for v in np.quantile(values, [TAILS, 1 - TAILS]))
    reach = (high - low) / 2
    return max(low - reach, float(np.finfo(float).min) / 4), min(high + reach, float(np.finfo(float).max) / 4)


def _check_one_context(batch: pa.Table, columns: dict[str, str], seen: set[str]) -> None:
    """Refuse candidates of several prompts, as a run's own logs may have; ``seen`` has those of before."""
    if "context" in columns:
        seen.update(str(v) for v in pc.unique(batch.column(columns["context"])).to_pylist())
        if len(seen) > 1:
            raise _not_in_parts("its candidates have prompts ('context'; --context none pools them)")
