"""Estimates from all slates of a log that is read in parts, starting from those of its sample.

Item rewards need the item codes of all slates, which are kept. Coefficients of features need sums of the
gradient and the information over all slates: one pass over the files for each of Newton's steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from recurate.choices.from_slates import Reading
from recurate.choices.models.items import ItemFit, item_rewards_in_parts
from recurate.choices.models.likelihood import Evaluation, evaluate
from recurate.choices.models.logit import TOLERANCE, LogitFit, solver
from recurate.choices.table import Choices
from recurate.choices.usable import ALONE
from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.log.large import Large, numbers, slate_blocks
from recurate.log.reading.mapping import FLAGS
from recurate.rules.slates import Slates

MOST_ITEMS = 4096  # whose information is a matrix of 128 MiB
STEPS = 20  # maximum number of passes; from the sample's estimate two or three suffice
CODES = 1 << 18  # item codes that make one part: what is computed of them fits into the cache
WIDEST = 10**7  # range of item numbers up to which a table gives their codes


def estimated(
    large: Large, reading: Reading, start: ItemFit | LogitFit | None, shrinkage: float
) -> ItemFit | LogitFit | str:
    """Return the sample's estimate made from all slates, or the reason why it stays the sample's.

    Args:
        large: The log.
        reading: How its sample was read.
        start: The sample's fit.
        shrinkage: Penalty on coefficients or item rewards.
    """
    why = _refusal(large, reading, start, shrinkage)
    if why:
        return why
    pick = reading.mapping.roles["pick"]
    if isinstance(start, ItemFit):
        return _items(large, reading, start, pick)
    assert start is not None
    return _coefficients(large, reading, start, pick)


def _refusal(large: Large, reading: Reading, start: ItemFit | LogitFit | None, shrinkage: float) -> str:
    mapping, choices = reading.mapping, reading.choices
    if start is None:
        return "nothing but their place describes the candidates"
    if mapping.how != FLAGS or "pick" not in mapping.roles or "slate" not in large.columns:
        return "this needs a column that flags the pick of each slate"
    if choices is not reading.strict or choices.weights is not None:
        return "this needs one pick per slate, without ties"
    if choices.clusters is not None:
        return "choosers pick several times, so that errors need them together"
    others = [e.reason for e in reading.exclusions if e.reason != ALONE]
    if others:
        return f"slates of the sample were left out ({others[0]})"
    if shrinkage:
        return "a shrinkage does not apply to sums over parts"
    if isinstance(start, ItemFit):
        if len(start.names) > MOST_ITEMS:
            return f"there are {len(start.names):,} items, more than {MOST_ITEMS:,}"
        return ""
    if not set(start.names) <= set(large.source.schema.names):
        return "some features are made of texts"
    return ""


# --- items ----------------------------------------------------------------------------------------


def _items(large: Large, reading: Reading, start: ItemFit, pick: str) -> ItemFit:
    column = reading.mapping.roles["item"]
    codes_of = _Codes(start.names)
    kept: dict[int, list[IntArray]] = {}
    wins = np.zeros(len(start.names))
    for slates, picked, columns in _slates(large, pick, [column]):
        codes = codes_of(columns[column])
        slates, picked, codes = _without_mirrors(slates, picked, codes)
        wins += np.bincount(codes[picked], minlength=wins.size)
        for size in np.unique(slates.sizes):
            rows = slates.offsets[:-1][slates.sizes == size][:, None] + np.arange(size)
            kept.setdefault(int(size), []).append(codes[rows].T.astype(np.int16))
    parts = [part for own in kept.values() for part in _gathered(own)]
    return item_rewards_in_parts(parts, wins, start, start.names)


def _without_mirrors(slates: Slates, picked: IntArray, codes: IntArray) -> tuple[Slates, IntArray, IntArray]:
    """Return the slates in which more than one item occurs; the others hold no information."""
    starts = slates.offsets[:-1]
    several = np.minimum.reduceat(codes, starts) < np.maximum.reduceat(codes, starts)
    if several.all():
        return slates, picked, codes
    rows = slates.spread(several)
    place = np.cumsum(rows) - 1
    offsets = np.r_[0, np.cumsum(slates.sizes[several])].astype(np.int64)
    return Slates(offsets), place[picked[several]], codes[rows]


def _gathered(parts: list[IntArray]) -> Iterator[IntArray]:
    """Yield parts (K, slates) of similar size, made of smaller ones."""
    some: list[IntArray] = []
    for part in parts:
        some.append(part)
        if sum(p.size for p in some) >= CODES:
            yield np.concatenate(some, axis=1)
            some = []
    if some:
        yield np.concatenate(some, axis=1)


class _Codes:
    """The codes of items by their names; items that the sample does not have are refused."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.known = {name: i for i, name in enumerate(names)}
        self.table: IntArray | None = None  # the code of each whole number from ``low`` on
        if all(name.lstrip("-").isdecimal() for name in names):
            own = np.array([int(name) for name in names])
            self.low = int(own.min())
            if int(own.max()) - self.low < WIDEST:
                self.table = np.full(int(own.max()) - self.low + 1, -1, np.int64)
                self.table[own - self.low] = np.arange(own.size)

    def __call__(self, column: pa.Array) -> IntArray:
        """Return the code of each item, (rows,)."""
        if column.null_count:
            raise _unknown("an empty value")
        if self.table is not None and pa.types.is_integer(column.type):
            place = np.asarray(column.to_numpy()).astype(np.int64) - self.low
            outside = (place < 0) | (place >= self.table.size)
            if outside.any():
                raise _unknown(column[int(np.argmax(outside))].as_py())
            codes = self.table[place]
        else:
            encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
            own = [self.known.get(str(value), -1) for value in encoded.dictionary.to_pylist()]
            codes = np.array(own, np.int64)[encoded.indices.to_numpy()]
        if (codes < 0).any():
            raise _unknown(column[int(np.argmin(codes))].as_py())
        return np.asarray(codes)


def _unknown(value: Any) -> InputError:
    return InputError(
        "an item of a log that is read in parts does not occur in its sample",
        got=value,
        remedy="describe the candidates by --score or --feature, or fit some of the files",
    )


# --- features -------------------------------------------------------------------------------------


def _coefficients(large: Large, reading: Reading, start: LogitFit, pick: str) -> LogitFit | str:
    """Return Newton's estimate from all slates, or why there is none; see ``choices.models.likelihood``."""
    scale = np.sqrt(np.diag(np.linalg.inv(start.covariance)) / start.slates)  # of features within slates
    beta = start.coefficients
    found, solve, slates, null = _sums(large, start.names, pick, beta)
    passes = 1
    while (norm := float(np.abs(found.gradient / scale).max()) / slates) > TOLERANCE:
        step = solve(found.gradient)
        while True:
            if passes == STEPS:
                return f"sums over all slates have not converged after {STEPS} passes"
            new = _sums(large, start.names, pick, beta + step)
            passes += 1
            if new[0].log_likelihood >= found.log_likelihood - 1e-12 * abs(found.log_likelihood):
                break
            step = step / 4
        beta = beta + step
        found, solve, slates, null = new
    covariance = solve(np.eye(beta.size))
    return replace(
        start,
        coefficients=beta,
        covariance=(covariance + covariance.T) / 2,
        log_likelihood=found.log_likelihood,
        null_log_likelihood=null,
        gradient_norm=norm,
        passes=passes,
        slates=slates,
    )


def _sums(
    large: Large, names: tuple[str, ...], pick: str, beta: FloatArray
) -> tuple[Evaluation, Callable[[FloatArray], FloatArray], int, float]:
    """Return the likelihood, Newton's map of gradients, the number of slates and that of uniform picks."""
    value, null, count = 0.0, 0.0, 0
    gradient, information = np.zeros(beta.size), np.zeros((beta.size, beta.size))
    for slates, picked, columns in _slates(large, pick, names):
        features = np.column_stack([numbers(columns[name], name) for name in names])
        found = evaluate(
            Choices(features, slates, picked - slates.offsets[:-1], names), beta, information=True
        )
        value += found.log_likelihood
        gradient += found.gradient
        assert found.information is not None
        information += found.information
        null -= float(np.log(slates.sizes).sum())
        count += len(slates)
    return Evaluation(value, gradient, information), solver(information), count, null


def _slates(
    large: Large, pick: str, names: tuple[str, ...] | list[str]
) -> Iterator[tuple[Slates, IntArray, Mapping[str, Any]]]:
    """Yield slates, the rows of their picks (slates,) and columns; a slate without one pick is refused."""
    for offsets, columns in slate_blocks(large, [pick, *names]):
        flags = numbers(columns[pick], pick)
        if not np.isin(flags, (0.0, 1.0)).all():
            raise InputError(
                f"the column {pick!r} does not flag picks in some rows",
                got=flags[~np.isin(flags, (0.0, 1.0))][0],
                remedy="write 1 for the pick of each slate, 0 for the others",
            )
        slates, picked = Slates(offsets.astype(np.int64)), np.flatnonzero(flags)
        sums = np.add.reduceat(flags, offsets[:-1])
        if (sums != 1).any() or slates.sizes.min() < 2:
            raise InputError(
                "a slate does not have exactly one pick among several candidates, as reading in parts needs",
                got=f"{int((sums != 1).sum())} such slates in one part",
                remedy="leave these slates out of the files",
            )
        yield slates, picked, columns
