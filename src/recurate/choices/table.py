"""The choice table: slates, what describes their candidates, what was picked and by whom."""

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

FEW_CHOOSERS = 30  # choosers below which standard errors are not clustered by chooser where sources are known


@dataclass(frozen=True)
class Choices:
    """Slates with one pick each; rows slate by slate.

    A ranking is several of them: the best of all, the best of the rest, and so on (Plackett-Luce); they
    share a ``source``, as do several people's votes on what one of them saw.

    Attributes:
        features: shape (rows, d), finite; d may be 0.
        slates: which rows belong together; at least two each.
        picked: slot of each slate's pick, (slates,), from 0.
        names: the features' names.
        weights: how much each slate counts, (slates,), > 0; None: once.
        choosers: who picked, codes from 0, (slates,), or None if unknown.
        sources: which slates are dependent by construction (stages of one ranking, votes on one slate),
            codes from 0, (slates,), or None.
        positions: where each row was shown, from 0, (rows,), or None if unknown.
        items: which item each row is, codes from 0, (rows,), or None.
        item_names: names of the items.
        contexts: codes of the slates' contexts (prompts), (slates,), or None.
        tie_rows: rows that stand for "these are tied", (rows,) of bool, or None.
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
    ) -> Choices:
        """Check arrays and bind them together; float64 features are not copied.

        Args:
            features: shape (rows, d), or (rows,) for one feature; slate by slate.
            picked: slot of each slate's pick, (slates,).
            k: size of all slates; or
            offsets: where slates begin, (slates + 1,), from 0 to rows.
            choosers: who picked, one label a slate.
            positions: where each row was shown; None: in the order of the rows.
            names: one for each feature.
            weights: how much each slate counts.

        Raises:
            InputError: shapes disagree, a slate has fewer than two rows, a pick lies outside its slate, or a
                feature is not finite.
        """
        matrix = _matrix(features)
        slates = slates_of(len(matrix), k, offsets)
        slots = check_picks(picked, slates)
        labels = tuple(names) if names is not None else tuple(f"x{j + 1}" for j in range(matrix.shape[1]))
        if len(labels) != matrix.shape[1] or len(set(labels)) < len(labels):
            raise InputError(
                f"there must be one name for each of the {matrix.shape[1]} features, all different",
                got=", ".join(labels),
                remedy="pass names in the order of the columns",
            )
        return cls(
            matrix,
            slates,
            slots,
            labels,
            weights=None if weights is None else check_weights(weights, len(slates)),
            choosers=None if choosers is None else codes_of(choosers, len(slates), "choosers"),
            positions=slates.slots() if positions is None else np.asarray(positions, np.int64),
        )

    def __len__(self) -> int:
        return len(self.slates)

    @cached_property
    def picked_rows(self) -> IntArray:
        """Row of each slate's pick, (slates,)."""
        return self.slates.offsets[:-1] + self.picked

    @property
    def total_weight(self) -> float:
        """The sum of the slates' weights."""
        return float(len(self)) if self.weights is None else float(self.weights.sum())

    @cached_property
    def clusters(self) -> IntArray | None:
        """What standard errors are clustered by: choosers, unless they are few and sources are known."""
        if self.choosers is None or self.sources is None:
            return self.choosers if self.sources is None else self.sources
        few = np.unique(self.choosers).size < FEW_CHOOSERS
        return self.sources if few else self.choosers

    def log_likelihood(self, rule: Rule, utilities: FloatArray) -> FloatArray:
        """Return the log probability of each slate's pick under a rule, (slates,), for rewards (rows,)."""
        return rule.log_likelihood(utilities, self.picked, self.slates)

    def take(self, slates: NDArray[Any]) -> Choices:
        """Return some of the slates (indices, or a mask)."""
        chosen = np.flatnonzero(slates) if slates.dtype == bool else np.asarray(slates, np.int64)
        own, rows = self.slates.take(chosen)

        def of(values: NDArray[Any] | None, index: IntArray) -> Any:
            return None if values is None else values[index]

        return replace(
            self,
            features=self.features[rows],
            slates=own,
            picked=self.picked[chosen],
            weights=of(self.weights, chosen),
            choosers=of(self.choosers, chosen),
            sources=of(self.sources, chosen),
            positions=of(self.positions, rows),
            items=of(self.items, rows),
            contexts=of(self.contexts, chosen),
            tie_rows=of(self.tie_rows, rows),
        )

    def with_rows(self, rows: BoolArray, picked: IntArray) -> Choices:
        """Return the slates without the rows (rows,) that are False; ``picked``: slots among those left."""

        def of(values: NDArray[Any] | None) -> Any:
            return None if values is None else values[rows]

        return replace(
            self,
            features=self.features[rows],
            slates=self.slates.only(rows),
            picked=picked,
            positions=of(self.positions),
            items=of(self.items),
            tie_rows=of(self.tie_rows),
        )

    def with_features(self, features: FloatArray, names: Sequence[str]) -> Choices:
        """Return the same picks described by other features (rows, d)."""
        return replace(self, features=np.ascontiguousarray(features, np.float64), names=tuple(names))


def codes_of(labels: ArrayLike, count: int, name: str) -> IntArray:
    """Return codes 0, 1, ... for labels of any type, in sorted order, (count,)."""
    given = np.asarray(labels)
    if given.shape != (count,):
        raise InputError(
            f"{name} must be one label a slate", got=f"shape {given.shape}", remedy=f"pass {count} labels"
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
            remedy="one row a candidate, slate by slate",
        )
    # The sum is finite iff all are (or they are near the largest double): cheaper than a mask of all.
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
    """Return slates of ``k`` rows, or of rows ``offsets`` apart, after checking that each has two or more."""
    if (k is None) == (offsets is None):
        raise InputError(
            "slates need k or offsets", got=f"k = {k}, offsets = {offsets!r}", remedy="pass one of them"
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
            remedy=f"slate s has the rows offsets[s] to offsets[s + 1] - 1; there are {rows} rows",
        )
    sizes = np.diff(found.astype(np.int64))
    if sizes.min() < 2:
        raise InputError(
            "a slate needs at least two candidates",
            got=f"{int(sizes.min())} in slate {int(sizes.argmin())}",
            remedy="drop slates of one candidate: a pick from one tells nothing",
        )
    return Slates(found.astype(np.int64))


def check_picks(picked: ArrayLike, slates: Slates) -> IntArray:
    """Return picks as slots (slates,) after checking that each lies in its slate."""
    slots = np.asarray(picked)
    if slots.shape != (len(slates),) or slots.dtype.kind not in "iu":
        raise InputError(
            "picked must be one slot a slate",
            got=f"shape {slots.shape}, type {slots.dtype}",
            remedy=f"pass {len(slates)} whole numbers",
        )
    outside = (slots < 0) | (slots >= (slates.width or slates.sizes))
    if outside.any():
        first = int(np.argmax(outside))
        raise InputError(
            f"the pick of slate {first} lies outside it",
            got=f"slot {slots[first]} of {slates.sizes[first]} ({int(outside.sum())} such slates)",
            remedy="slots count from 0",
        )
    return slots.astype(np.int64)


def check_weights(weights: ArrayLike, count: int) -> FloatArray:
    """Return the weights of slates (count,) after checking that they are positive."""
    values = np.asarray(weights, float)
    if values.shape != (count,) or not np.isfinite(values).all() or not (values > 0).all():
        raise InputError(
            "weights must be one positive number a slate",
            got=f"shape {values.shape}",
            remedy=f"pass {count} numbers; drop slates that do not count",
        )
    return values
