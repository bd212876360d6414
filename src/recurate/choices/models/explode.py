"""Rankings and ties as slates with one pick each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recurate.choices.table import Choices
from recurate.core.arrays import BoolArray, FloatArray
from recurate.core.errors import InputError
from recurate.log.reading.forms import RANK
from recurate.rules.slates import Slates


@dataclass(frozen=True)
class Expansion:
    """The slates with their picks filled in.

    Attributes:
        choices: rankings taken apart, ties as asked.
        strict: the same without ties.
        tied: which of the slates were tied pairs.
        stages: how many picks there are.
    """

    choices: Choices
    strict: Choices
    tied: BoolArray
    stages: int

    @classmethod
    def of(cls, base: Choices, result: FloatArray, kind: str, ties: str) -> Expansion:
        """Fill in the picks from results (rows,): ranks, or 1 and 0."""
        slates = base.slates
        better = -result if kind == RANK else result
        top = better == slates.spread(slates.maxima(better))
        tied = slates.sums(top.astype(float)) > 1
        if kind == RANK or (tied.any() and slates.sizes.max() > 2 and ties != "drop"):
            choices, strict = _exploded(base, better, kind, ties)
            return cls(choices, strict, np.zeros(len(base), bool), len(choices))
        first = np.minimum.reduceat(np.where(top, slates.slots(), slates.rows), slates.offsets[:-1])
        plain = replace(base, picked=first.astype(np.int64))
        if not tied.any():
            return cls(plain, plain, tied, len(plain))
        untied = np.flatnonzero(~tied)
        if not untied.size:
            raise InputError(
                "every slate is a tie", got=f"{tied.sum()} ties", remedy="at least some must have a pick"
            )
        strict = plain.take(untied)
        if ties == "drop":
            return cls(strict, strict, tied, len(strict))
        if ties == "half":
            return cls(_halves(plain, tied), strict, tied, len(plain))
        return cls(_with_tie_rows(plain, tied), strict, tied, len(plain))


def _exploded(base: Choices, better: FloatArray, kind: str, ties: str) -> tuple[Choices, Choices]:
    """Take rankings apart: at each stage the best of those left is picked.

    Members of a tie are each picked, once, from all that are left when the tie is reached (Breslow's
    approximation), or their stage is left out. Candidates that were picked together, without ranks, are such
    a tie at the first stage, and the rest is not told apart.
    """
    kept: list[BoolArray] = []
    picked: list[int] = []
    origin: list[int] = []
    loose: list[bool] = []
    for s, worth in enumerate(np.split(better, base.slates.offsets[1:-1])):
        levels = np.unique(worth)[::-1]
        for level in levels[:1] if kind != RANK else levels[:-1]:
            left = worth <= level
            best = np.flatnonzero(worth[left] == level)
            if left.sum() < 2 or (ties == "drop" and best.size > 1):
                continue
            for b in best:
                kept.append(left)
                picked.append(int(b))
                origin.append(s)
                loose.append(best.size > 1)
    if not kept:
        raise InputError(
            "no stage of any ranking has a single best candidate", got="ties only", remedy="--ties half"
        )
    index = np.array(origin)
    sources = np.arange(len(base)) if base.sources is None else base.sources
    choices = base.take(index).with_rows(np.concatenate(kept), np.array(picked, np.int64))
    choices = replace(choices, sources=sources[index])
    untied = np.flatnonzero(~np.array(loose))
    return choices, choices.take(untied) if untied.size else choices


def _halves(plain: Choices, tied: BoolArray) -> Choices:
    """Return every tied pair twice, each candidate picked once, with weight one half."""
    index = np.sort(np.r_[np.arange(len(plain)), np.flatnonzero(tied)], kind="stable")
    again = np.r_[False, np.diff(index) == 0]
    out = plain.take(index)
    weights = np.where(tied[index], 0.5, 1.0)
    sources = (np.arange(len(plain)) if plain.sources is None else plain.sources)[index]
    return replace(out, picked=np.where(again, 1, out.picked), weights=weights, sources=sources)


def _with_tie_rows(plain: Choices, tied: BoolArray) -> Choices:
    """Return pairs with a third candidate, the tie: mean features and an indicator (Davidson 1970)."""
    n, d = len(plain), plain.features.shape[1]
    pairs = plain.features.reshape(n, 2, d)
    table = np.zeros((n, 3, d + 1))
    table[:, :2, :d] = pairs
    table[:, 2, :d] = pairs.mean(axis=1)
    table[:, 2, d] = 1.0
    mark = np.zeros((n, 3), bool)
    mark[:, 2] = True
    return replace(
        plain,
        features=np.ascontiguousarray(table.reshape(3 * n, d + 1)),
        names=(*plain.names, "tie"),
        slates=Slates.of_size(3, n),
        picked=np.where(tied, 2, plain.picked),
        positions=None,
        items=None,
        tie_rows=mark.ravel(),
    )
