"""Plain slates from a file: the meaning of its columns, the usable slates, and reasons to exclude others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError, cut, nearest
from recurate.log.reading.forms import RANK, STANDARD, Unfolded, unfold
from recurate.log.reading.mapping import Mapping, two_ways
from recurate.log.reading.names import listed
from recurate.log.reading.understand import Understood
from recurate.log.reading.values import blank, check_size, measures_of
from recurate.rules.slates import Slates

LEVELS = 20  # largest number of distinct texts of a category
FEW_ROWS = 20  # below it, 1 to n in some order may well be a feature
SCORE, FEATURES, ITEMS, POSITIONS = "score", "features", "items", "positions"
TIES = ("davidson", "half", "drop")
CHARACTERS = "characters:"  # prefix of features that are a text's number of characters, in hundreds
IDENTITY = {"id", "idx", "index", "uid", "uuid", "propensity", "row", "row_id", "seed", "weights", "weight"}
EXPORT = {"outcome", "shown", "asked"}  # columns by which an export of `recurate serve` is known
SAID = {"tied", "order", "worst"}  # what else its people say of the candidates


@dataclass(frozen=True)
class Wanted:
    """The user's choice of columns and model; what is not chosen is determined from the file.

    Attributes:
        features: Columns, or ``characters:COLUMN``, that describe candidates.
        scores: Columns of scores that the picker is assumed to have used.
        model: Description of candidates: ``score``, ``features`` or ``items``; None: determine it.
        ties: Treatment of ties: ``davidson`` (a separate outcome, for pairs), ``half`` (half a win each) or
            ``drop``.
    """

    features: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    model: str | None = None
    ties: str = "davidson"


@dataclass(frozen=True)
class Exclusion:
    """Slates that were excluded for one reason.

    Attributes:
        reason: Reason, as a phrase that follows "slates".
        slates: Number of slates.
        rows: Number of rows of these slates.
        example: Label of the first such slate.
    """

    reason: str
    slates: int
    rows: int
    example: str


@dataclass(frozen=True)
class PlainSlates:
    """The usable slates of a file.

    Attributes:
        columns: Columns of the candidates under standard names, slate by slate, shape (rows,) each.
            ``result`` holds ranks (1 is best), or 1 for picked and 0 for not picked.
        slates: Division of the rows into slates.
        kind: Meaning of ``result``, ``rank`` or ``pick``.
        mapping: Role of each column of the file.
        model: Description of candidates: ``score``, ``features``, ``items`` or only ``positions``.
        numeric: Numeric columns that describe candidates, scores first.
        categories: Text columns that describe candidates.
        exclusions: Excluded slates by reason, the most frequent first.
        left_out: Columns that do not describe candidates, with the reason.
        notes: Assumptions made in reading.
        understood: Account of how the file was read, or None.
    """

    columns: dict[str, NDArray[Any]] = field(repr=False)
    slates: Slates = field(repr=False)
    kind: str
    mapping: Mapping
    model: str
    numeric: tuple[str, ...]
    categories: tuple[str, ...]
    exclusions: tuple[Exclusion, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    understood: Understood | None = None

    def numbers(self, name: str) -> FloatArray:
        """Return a numeric column, or the lengths of texts (``characters:COLUMN``), shape (rows,)."""
        values = _numbers(self.columns, name)
        assert values is not None
        return values

    def texts(self, name: str) -> NDArray[np.str_]:
        """Return a column as texts, shape (rows,), empty for missing values."""
        return np.array(["" if v is None else str(v) for v in self.columns[name]])

    def codes(self, name: str) -> IntArray:
        """Return codes 0, 1, ... of the values of a column, shape (rows,); missing is a value."""
        return _codes(self.columns[name])

    def per_slate(self, name: str) -> IntArray | None:
        """Return codes of a column's values per slate, shape (slates,), or None without that column."""
        return _codes(self.columns[name][self.slates.offsets[:-1]]) if name in self.columns else None


def read_slates(table: pa.Table, mapping: Mapping, wanted: Wanted | None = None) -> PlainSlates:
    """Return the usable slates of a table.

    Args:
        table: Table as it was read.
        mapping: Role of each column; see :func:`recurate.log.reading.understand.guess`.
        wanted: Columns and model that describe the candidates; None: determine them from the table.

    Raises:
        InputError: If a wanted column does not exist or is not numeric, or no slate can be used.
    """
    wanted = wanted or Wanted()
    check_wanted(wanted)
    long = unfold(table, mapping)
    if long.unclear:
        raise two_ways(long.unclear)
    if not len(long.columns["slate"]):
        raise InputError("no row belongs to a slate", got="0 rows", remedy="fill in the column of slates")
    order, slates = _slates(long)
    columns = {name: values[order] for name, values in long.columns.items()}
    scores, features, categories, left_out = _describe(columns, slates, wanted)
    if wanted.model == ITEMS:  # unused columns exclude no slates
        scores, features, categories = [], [], ["item"] if "item" in columns else []
    elif scores and not wanted.features and wanted.model != FEATURES:
        features, categories = [], []
    reasons = _Reasons(slates, columns)
    if "weight" in columns:
        weights = columns["weight"].astype(float)
        reasons.add_rows(~np.isfinite(weights) | (weights <= 0), "whose picks count zero times")
    _exclude(reasons, columns, slates, long.kind, [*scores, *features], categories)
    keep = reasons.kept()
    if not keep.size:
        raise InputError(
            "no slate can be used",
            got="; ".join(f"{e.slates} {e.reason} ({e.example})" for e in reasons.exclusions()),
            remedy="check the roles of the columns, and name others with --slate, --pick and so on",
        )
    own, rows = slates.take(keep)
    columns = {name: values[rows] for name, values in columns.items()}
    model = _model(wanted, scores, features, categories, columns)
    return PlainSlates(
        columns, own, long.kind, mapping, model,
        tuple(scores if model == SCORE else [*scores, *features]),
        tuple(categories if model == FEATURES else ()),
        tuple(reasons.exclusions()), left_out, tuple(long.notes),
    )  # fmt: skip


def check_wanted(wanted: Wanted) -> None:
    """Raise InputError if the model or the treatment of ties is unknown."""
    for value, valid, what in (
        (wanted.model, (SCORE, FEATURES, ITEMS), "model"),
        (wanted.ties, TIES, "ties"),
    ):
        if value is not None and value not in valid:
            raise InputError(f"--{what} is not known", got=value, remedy=nearest(value, valid))


# --- slates ---------------------------------------------------------------------------------------


def _slates(long: Unfolded) -> tuple[IntArray, Slates]:
    """Return the order of the rows (rows,) by slate, slates by time and first appearance, and the slates."""
    codes = _codes(long.columns["slate"])
    if "round" in long.columns:  # slates are numbered within rounds
        other = _codes(long.columns["round"])
        codes = _codes(codes * (other.max() + 1) + other)
    first = np.full(codes.max() + 1, codes.size)
    np.minimum.at(first, codes, np.arange(codes.size))
    rank = np.empty(first.size, np.int64)
    when = _codes(long.columns["time"])[first] if "time" in long.columns else np.zeros(first.size)
    rank[np.lexsort((first, when))] = np.arange(first.size)
    slots = long.columns.get("slot")
    if slots is None or slots.dtype.kind not in "iuf" or not np.isfinite(slots.astype(float)).all():
        slots = np.zeros(codes.size)
    order = np.lexsort((slots, rank[codes]))  # stable: rows of one slot keep their order
    return order, Slates(np.r_[0, np.cumsum(np.bincount(rank[codes]))].astype(np.int64))


def _codes(values: NDArray[Any]) -> IntArray:
    """Return codes 0, 1, ... of values (n,) of any type; missing values have a code of their own."""
    if values.dtype == object:
        values = np.array(["\0" if v is None else str(v) for v in values])
    elif values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=-np.inf)
    return np.unique(values, return_inverse=True)[1].astype(np.int64).ravel()


class _Reasons:
    """Reasons to exclude slates; the first reason found for a slate counts."""

    def __init__(self, slates: Slates, columns: dict[str, NDArray[Any]]) -> None:
        self.slates = slates
        self.labels = columns["slate"]
        self.code = np.zeros(len(slates), np.int64)
        self.names: list[str] = []

    def add(self, bad: NDArray[np.bool_], reason: str) -> None:
        new = bad & (self.code == 0)
        if new.any():
            self.names.append(reason)
            self.code[new] = len(self.names)

    def add_rows(self, bad: NDArray[np.bool_], reason: str) -> None:
        if bad.any():
            self.add(self.slates.sums(bad.astype(float)) > 0, reason)

    def kept(self) -> IntArray:
        return np.flatnonzero(self.code == 0)

    def exclusions(self) -> list[Exclusion]:
        found = []
        for i, name in enumerate(self.names, start=1):
            which = np.flatnonzero(self.code == i)
            label = self.labels[self.slates.offsets[which[0]]]
            found.append(
                Exclusion(
                    name, which.size, int(self.slates.sizes[which].sum()), cut(f"first: slate {label}", 80)
                )
            )
        return sorted(found, key=lambda e: -e.slates)


def _exclude(
    reasons: _Reasons,
    columns: dict[str, NDArray[Any]],
    slates: Slates,
    kind: str,
    numeric: Sequence[str],
    categories: Sequence[str],
) -> None:
    result = columns["result"]
    reasons.add(slates.sizes < 2, "of one candidate: a pick from one holds no information")
    reasons.add_rows(np.isnan(result), f"with an unreadable or missing {kind}")
    if kind == RANK:
        reasons.add(slates.maxima(result) == -slates.maxima(-result), "with all candidates tied")
    else:
        picks = slates.sums(result)
        reasons.add(picks == 0, "without a pick")
        reasons.add((picks == slates.sizes) & (slates.sizes > 2), "with all candidates picked")
    for name in numeric:
        values = _numbers(columns, name)
        if values is not None:
            check_size(values, name)
            reasons.add_rows(~np.isfinite(values), f"with a missing or infinite {name!r}")
    for name in categories:
        reasons.add_rows(blank(columns[name]), f"with an empty {name!r}")
    if "slot" in columns and columns["slot"].dtype.kind in "iuf":
        slots = columns["slot"].astype(float)
        index = slates.index()
        order = np.lexsort((slots, index))
        same = (np.diff(slots[order]) == 0) & (np.diff(index[order]) == 0)
        twice = np.zeros(slots.size, bool)
        twice[order[1:][same]] = True
        reasons.add_rows(twice, "with two candidates in one position")
    if "chooser" in columns:
        unknown = blank(columns["chooser"])
        if _levels(columns["chooser"][~unknown]) > 1:  # one name on all slates tells nobody apart
            reasons.add_rows(unknown, "without a chooser, where others have one")


# --- descriptions of candidates -------------------------------------------------------------------


def _numbers(columns: dict[str, NDArray[Any]], name: str) -> FloatArray | None:
    """Return a column as numbers (rows,), NaN for values that are not, or None if it is mostly text."""
    if name.startswith(CHARACTERS):
        texts = columns[name.removeprefix(CHARACTERS)]
        return np.array([np.nan if t is None else len(str(t)) / 100 for t in texts])
    values = columns[name]
    if values.dtype.kind in "iufb":
        return values.astype(float)
    if values.dtype != object:
        return None
    out = measures_of(values, words=False)
    return out if np.isfinite(out).mean() > 0.5 else None


def _describe(
    columns: dict[str, NDArray[Any]], slates: Slates, wanted: Wanted
) -> tuple[list[str], list[str], list[str], dict[str, str]]:
    """Return score columns, numeric features, categories, and the reasons why other columns are left out."""
    candidates = [n for n in columns if n not in STANDARD]
    for name in (*wanted.features, *wanted.scores):
        column = name.removeprefix(CHARACTERS)
        if column not in columns or column == "result":
            raise InputError(
                f"there is no column {column!r} to describe candidates",
                got=f"columns {listed([n for n in columns if n != 'result'])}",
                remedy=nearest(column, [n for n in columns if n != "result"]),
            )
    numeric = [n for n in wanted.features if _numbers(columns, n) is not None]
    words = [n for n in wanted.features if n not in numeric]
    for name in words:
        _check_levels(columns, name)
    if wanted.features:
        return list(wanted.scores), numeric, words, {}
    for name in wanted.scores:
        if _numbers(columns, name) is None:
            got = repr(columns[name][0])
            raise InputError(f"the score {name!r} must hold numbers", got=got, remedy="name a numeric column")
    if wanted.scores:
        return list(wanted.scores), [], [], {}
    named = [n for n in candidates if n.lower() in ("reward", "score") or n.lower().startswith("reward_")]
    scores = [n for n in named if _numbers(columns, n) is not None]
    left_out = {}
    for name in [n for n in candidates if n not in scores]:
        why = _useless(columns, slates, name)
        if why:
            left_out[name] = why
        elif _numbers(columns, name) is not None:
            numeric.append(name)
        else:
            words.append(name)
    if "item" in columns and _levels(columns["item"]) <= LEVELS and wanted.model != ITEMS:
        words.append("item")
    return scores, numeric, words, left_out


def _useless(columns: dict[str, NDArray[Any]], slates: Slates, name: str) -> str:
    """Return the reason why a column does not describe candidates, or an empty string."""
    if name.lower() in IDENTITY:
        return "its name implies that it does not describe candidates"
    if name in SAID and columns.keys() >= EXPORT:
        return "it is part of the answer"
    values = columns[name]
    number = _numbering(values, slates)
    if number:
        return number
    codes = _codes(values).astype(float)
    if not (slates.maxima(codes) > -slates.maxima(-codes)).any():
        return "the same for all candidates of a slate"
    found = _levels(values)
    if _numbers(columns, name) is None and found > LEVELS:
        return f"text with {found} different values (--feature {CHARACTERS}{name} counts its characters)"
    return ""


def _numbering(values: NDArray[Any], slates: Slates) -> str:
    """Return why a column only numbers rows or the candidates of each slate, or an empty string."""
    if values.dtype.kind not in "iu" or values.size < 4:
        return ""
    numbers = values.astype(float)
    steps = np.diff(np.sort(numbers))
    if values.size >= FEW_ROWS and numbers.min() in (0, 1) and (steps == 1).all():
        return "it numbers the rows"
    if (slates.sizes < 2).any():
        return ""
    if slates.sizes.max() < 3:  # 1 then 2 in every pair; 0 and 1 may be a treatment
        counted = len(slates) >= FEW_ROWS and bool((numbers - slates.slots() == numbers[0]).all())
        return "it numbers the candidates of each slate" if counted and numbers[0] == 1 else ""
    index = slates.index()
    order = np.lexsort((numbers, index))
    place = (numbers[order] - slates.slots()).reshape(-1)
    first = place[slates.offsets[:-1]]
    if (place == np.repeat(first, slates.sizes)).all() and set(first.tolist()) <= {0.0, 1.0}:
        return "it numbers the candidates of each slate"
    return ""


def _levels(values: NDArray[Any]) -> int:
    return int(_codes(values).max()) + 1 if values.size else 0


def _check_levels(columns: dict[str, NDArray[Any]], name: str) -> None:
    found = _levels(columns[name])
    if found > 10 * LEVELS:
        raise InputError(
            f"the feature {name!r} is text with too many different values for a category",
            got=found,
            remedy=f"count its characters with --feature {CHARACTERS}{name}, or use --model items",
        )


def _model(
    wanted: Wanted,
    scores: Sequence[str],
    features: Sequence[str],
    categories: Sequence[str],
    columns: dict[str, NDArray[Any]],
) -> str:
    if wanted.model is not None:
        lacks = {SCORE: not scores, FEATURES: not (features or categories), ITEMS: "item" not in columns}
        if lacks[wanted.model]:
            remedy = {SCORE: "--score COLUMN", FEATURES: "--feature COLUMN", ITEMS: "--item COLUMN"}
            raise InputError(
                f"no column serves --model {wanted.model}",
                got=f"columns {listed([n for n in columns if n != 'result'])}",
                remedy=remedy[wanted.model],
            )
        return wanted.model
    if wanted.features:
        return FEATURES
    if scores:
        return SCORE
    if features or any(c != "item" for c in categories):
        return FEATURES
    if "item" in columns and _recurs(columns["item"]):
        return ITEMS
    if "slot" in columns:
        return POSITIONS
    raise InputError(
        "nothing describes the candidates",
        got=f"columns {listed([n for n in columns if n != 'result'])}",
        remedy="name a score (--score), features (--feature"
        + _lengths(columns)
        + ") or items that recur (--item)",
    )


def _lengths(columns: dict[str, NDArray[Any]]) -> str:
    """Return the option that counts the characters of a text, if there is one."""
    free = [n for n, v in columns.items() if n not in STANDARD and v.dtype == object]
    free += ["item"] if "item" in columns and columns["item"].dtype == object else []
    texts = [n for n in free if isinstance(next((x for x in columns[n] if x is not None), None), str)]
    return f" {CHARACTERS}{texts[0]}" if texts else " COLUMN"


def _recurs(items: NDArray[Any]) -> bool:
    """Return whether items occur often enough, twice on average, to have individual rewards."""
    return _levels(items) * 2 <= items.size
