"""The choice table: slates, the features of their candidates, the picks and the choosers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.rules.rule import Rule
from recurate.rules.slates import Slates

PER_SLATE = ("picked", "weights", "choosers", "sources", "contexts", "times")  # columns (slates,)
PER_ROW = ("features", "positions", "items", "tie_rows")  # columns (rows, ...)
FEW_CHOOSERS = 30  # with fewer choosers, standard errors are clustered by source where sources are known


@dataclass(frozen=True)
class Choices:
    """Slates with one pick each, stored slate by slate with one row per candidate.

    A ranking becomes several slates: the best of all candidates, the best of the rest, and so on
    (Plackett-Luce). These slates share a ``source``, as do the votes of several people on one slate.

    Attributes:
        features: Finite features of the candidates, (rows, d); d may be 0.
        slates: Slates of the rows, each with at least two.
        picked: Slot of each slate's pick, from 0, (slates,).
        names: Names of the features, (d,).
        weights: Positive weights of the slates, (slates,), or None if all are 1.
        choosers: Code of the chooser of each slate, from 0, (slates,), or None if unknown.
        sources: Codes of the slates' sources, from 0, (slates,), or None. Slates of one source are dependent
            by construction: stages of one ranking, or votes on one slate.
        positions: Place in which each candidate was shown, from 0, (rows,), or None if unknown.
        items: Code of the item of each row, from 0, (rows,), or None.
        item_names: Names of the items.
        contexts: Code of the context (prompt) of each slate, (slates,), or None.
        times: Rank of each slate's round or time, (slates,), or None if unknown.
        tie_rows: Whether a row is the outcome "tied" instead of a candidate, (rows,), or None.
    """

    features: FloatArray
    slates: Slates
    picked: IntArray
    names: tuple[str, ...] = ()
    weights: FloatArray | None = None
    choosers: IntArray | None = None
    sources: IntArray | None = None
    positions: IntArray | None = None
    items: IntArray | None = None
    item_names: tuple[str, ...] = field(default=(), repr=False)
    contexts: IntArray | None = None
    times: IntArray | None = None
    tie_rows: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls,
        features: ArrayLike,
        *,
        picked: ArrayLike,
        k: int | None = None,
        offsets: ArrayLike | None = None,
        choosers: ArrayLike | None = None,
        positions: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        weights: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ) -> Choices:
        """Check arrays and build a choice table from them; float64 features are not copied.

        Args:
            features: Features of the candidates, slate by slate, (rows, d), or (rows,) for one feature.
            picked: Slot of each slate's pick, from 0, (slates,).
            k: Size of all slates. Give either ``k`` or ``offsets``.
            offsets: First row of each slate, then the number of rows, (slates + 1,).
            choosers: Label of the chooser of each slate, (slates,).
            positions: Place in which each candidate was shown, from 0, (rows,). Default: the order of the
                rows within each slate.
            names: Names of the features, (d,). Default: x1, x2, ...
            weights: Positive weights of the slates, (slates,).
            times: Round or time of each slate, any sortable values, (slates,); tests of drift need them.

        Raises:
            InputError: If shapes disagree, a slate has fewer than two rows, a pick lies outside its slate, or
                a feature is not finite.
        """
        matrix = _matrix(features)
        slates = slates_of(len(matrix), k, offsets)
        slots = check_picks(picked, slates)
        labels = tuple(names) if names is not None else tuple(f"x{j + 1}" for j in range(matrix.shape[1]))
        if len(labels) != matrix.shape[1] or len(set(labels)) < len(labels):
            raise InputError(
                f"there must be one name for each of the {matrix.shape[1]} features, all different",
                got=", ".join(labels),
                remedy="pass the names in the order of the columns",
            )
        return cls(
            matrix,
            slates,
            slots,
            labels,
            weights=None if weights is None else check_weights(weights, len(slates)),
            choosers=None if choosers is None else codes_of(choosers, len(slates), "choosers"),
            positions=slates.slots() if positions is None else np.asarray(positions, np.int64),
            times=None if times is None else codes_of(times, len(slates), "times"),
        )

    def __len__(self) -> int:
        return len(self.slates)

    @cached_property
    def picked_rows(self) -> IntArray:
        """Row of each slate's pick, (slates,)."""
        return self.slates.offsets[:-1] + self.picked

    @property
    def total_weight(self) -> float:
        """Sum of the slates' weights."""
        return float(len(self)) if self.weights is None else float(self.weights.sum())

    @cached_property
    def clusters(self) -> IntArray | None:
        """Clusters for standard errors, (slates,): choosers, or sources if choosers are few or unknown."""
        if self.choosers is None or self.sources is None:
            return self.choosers if self.sources is None else self.sources
        few = np.unique(self.choosers).size < FEW_CHOOSERS
        return self.sources if few else self.choosers

    def log_likelihood(self, rule: Rule, utilities: FloatArray) -> FloatArray:
        """Return the log probability of each slate's pick (slates,) under a rule, given rewards (rows,)."""
        return rule.log_likelihood(utilities, self.picked, self.slates)

    def take(self, slates: NDArray[Any]) -> Choices:
        """Return the slates of these indices, or those for which a mask (slates,) is True."""
        chosen = np.flatnonzero(slates) if slates.dtype == bool else np.asarray(slates, np.int64)
        own, rows = self.slates.take(chosen)
        return replace(self, slates=own, **self._at(PER_SLATE, chosen), **self._at(PER_ROW, rows))

    def with_rows(self, rows: BoolArray, picked: IntArray) -> Choices:
        """Return the slates with only the rows for which ``rows`` (rows,) is True.

        Args:
            rows: Whether each row is kept.
            picked: Slot of each slate's pick among the kept rows, (slates,).
        """
        return replace(self, slates=self.slates.only(rows), picked=picked, **self._at(PER_ROW, rows))

    def _at(self, names: Sequence[str], index: NDArray[Any]) -> dict[str, Any]:
        """Return the known columns among ``names`` at an index, by name."""
        columns = {name: getattr(self, name) for name in names}
        return {name: values[index] for name, values in columns.items() if values is not None}

    def with_features(self, features: FloatArray, names: Sequence[str]) -> Choices:
        """Return the same picks with other features (rows, d)."""
        return replace(self, features=np.ascontiguousarray(features, np.float64), names=tuple(names))


def codes_of(labels: ArrayLike, count: int, name: str) -> IntArray:
    """Return codes (count,) from 0 for labels of any type, in the order of the sorted labels."""
    given = np.asarray(labels)
    if given.shape != (count,):
        raise InputError(
            f"{name} must have one label per slate", got=f"shape {given.shape}", remedy=f"pass {count} labels"
        )
    if given.dtype == object:  # labels of mixed types have no order
        given = np.array(["" if v is None else str(v) for v in given])
    return np.unique(given, return_inverse=True)[1].astype(np.int64)


def _matrix(features: ArrayLike) -> FloatArray:
    try:
        values = np.ascontiguousarray(features, np.float64)
    except (TypeError, ValueError):
        raise InputError(
            "features must be an array of numbers",
            got=type(features).__name__,
            remedy="pass shape (rows, features)",
        ) from None
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) == 0:
        raise InputError(
            "features must have shape (rows, features), at least one row",
            got=f"shape {values.shape}",
            remedy="pass one row per candidate, slate by slate",
        )
    # A sum is finite iff all its terms are, but for overflow. This is cheaper than a mask of all values.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(np.ones(len(values)) @ values).all()
    if not finite:
        bad = np.argwhere(~np.isfinite(values))
        if bad.size:
            row, column = bad[0]
            raise InputError(
                f"feature {column} of row {row} is not a finite number",
                got=values[row, column],
                remedy=f"drop the slates with such rows ({len(np.unique(bad[:, 0]))} rows in all)",
            )
    return values


def slates_of(rows: int, k: int | None, offsets: ArrayLike | None) -> Slates:
    """Return slates of ``k`` rows, or with the given ``offsets``; each must have at least two rows."""
    if (k is None) == (offsets is None):
        raise InputError(
            "slates need either k or offsets",
            got=f"k = {k}, offsets = {offsets!r}",
            remedy="pass one of them",
        )
    if k is not None:
        if int(k) != k or k < 2 or rows % int(k):
            raise InputError(
                "all slates must have k >= 2 rows",
                got=f"k = {k} and {rows} rows",
                remedy="pass offsets for slates of varying size",
            )
        return Slates.of_size(int(k), rows // int(k))
    found = np.asarray(offsets)
    if (
        found.ndim != 1
        or found.size < 2
        or found.dtype.kind not in "iu"
        or found[0] != 0
        or found[-1] != rows
    ):
        raise InputError(
            "offsets must be whole numbers from 0 to the number of rows",
            got=f"shape {found.shape}, type {found.dtype}",
            remedy=f"slate s consists of rows offsets[s] to offsets[s + 1] - 1; there are {rows} rows",
        )
    sizes = np.diff(found.astype(np.int64))
    if sizes.min() < 2:
        raise InputError(
            "a slate needs at least two candidates",
            got=f"{int(sizes.min())} in slate {int(sizes.argmin())}",
            remedy="drop slates of one candidate: a pick from a single candidate carries no information",
        )
    return Slates(found.astype(np.int64))


def check_picks(picked: ArrayLike, slates: Slates) -> IntArray:
    """Return the slots of the picks (slates,) after checking that each lies within its slate."""
    slots = np.asarray(picked)
    if slots.shape != (len(slates),) or slots.dtype.kind not in "iu":
        raise InputError(
            "picked must have one slot per slate",
            got=f"shape {slots.shape}, type {slots.dtype}",
            remedy=f"pass {len(slates)} whole numbers",
        )
    outside = (slots < 0) | (slots >= (slates.width or slates.sizes))
    if outside.any():
        first = int(np.argmax(outside))
        raise InputError(
            f"the pick of slate {first} lies outside it",
            got=f"slot {slots[first]} of {slates.sizes[first]} ({int(outside.sum())} such slates)",
            remedy="slots are counted from 0",
        )
    return slots.astype(np.int64)


def check_weights(weights: ArrayLike, count: int) -> FloatArray:
    """Return the slates' weights (count,) after checking that they are finite and positive."""
    values = np.asarray(weights, float)
    if values.shape != (count,) or not np.isfinite(values).all() or not (values > 0).all():
        raise InputError(
            "weights must be positive, one per slate",
            got=f"shape {values.shape}",
            remedy=f"pass {count} numbers; drop slates of weight zero",
        )
    return values
