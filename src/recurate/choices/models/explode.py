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
    """Slates with their picks.

    Attributes:
        choices: Slates with one pick each; rankings are exploded, and ties are treated as requested.
        strict: The same slates without ties.
        tied: Whether each of the original slates is a tied pair, (slates,).
    """

    choices: Choices
    strict: Choices
    tied: BoolArray

    @property
    def stages(self) -> int:
        """Number of picks; the two halves of a tie are one."""
        return round(self.choices.total_weight)

    @classmethod
    def of(cls, base: Choices, result: FloatArray, kind: str, ties: str) -> Expansion:
        """Return the slates of ``base`` with the picks that ``result`` (rows,), ranks or 0 and 1, implies.

        Raises:
            InputError: If every slate is a tie.
        """
        slates = base.slates
        better = -result if kind == RANK else result
        top = better == slates.spread(slates.maxima(better))
        tied = slates.sums(top.astype(float)) > 1
        if kind == RANK or (tied.any() and slates.sizes.max() > 2 and ties != "drop"):
            choices, strict = _exploded(base, better, kind, ties)
            return cls(choices, strict, np.zeros(len(base), bool))
        first = np.minimum.reduceat(np.where(top, slates.slots(), slates.rows), slates.offsets[:-1])
        plain = replace(base, picked=first.astype(np.int64))
        if not tied.any():
            return cls(plain, plain, tied)
        untied = np.flatnonzero(~tied)
        if not untied.size:
            raise InputError(
                "every slate is a tie, which says nothing about rewards",
                got=f"{tied.sum()} ties",
                remedy="name the column of picks (--pick) or ranks (--rank)",
            )
        strict = plain.take(untied)
        if ties == "drop":
            return cls(strict, strict, tied)
        return cls((_halves if ties == "half" else _with_tie_rows)(plain, tied), strict, tied)


def _exploded(base: Choices, better: FloatArray, kind: str, ties: str) -> tuple[Choices, Choices]:
    """Explode rankings into stages: at each stage the best of the remaining candidates is picked.

    Each member of a tie is picked once from all candidates that remain when the tie is reached (Breslow's
    approximation), or the stage is dropped. Several candidates picked without ranks are such a tie at the
    first stage; the order of the others is unknown.
    """
    kept: list[BoolArray] = []
    stages: list[tuple[int, int, bool]] = []  # slate, pick, whether it is tied
    for s, worth in enumerate(np.split(better, base.slates.offsets[1:-1])):
        levels = np.unique(worth)[::-1]
        for level in levels[:1] if kind != RANK else levels[:-1]:
            left = worth <= level
            best = np.flatnonzero(worth[left] == level)
            if left.sum() < 2 or (ties == "drop" and best.size > 1):
                continue
            kept += [left] * best.size
            stages += [(s, int(b), best.size > 1) for b in best]
    if not kept:
        raise InputError(
            "no stage of any ranking has a single best candidate", got="only ties", remedy="use --ties half"
        )
    index, picked, loose = (np.array(column) for column in zip(*stages, strict=True))
    sources = np.arange(len(base)) if base.sources is None else base.sources
    choices = base.take(index).with_rows(np.concatenate(kept), picked)
    choices = replace(choices, sources=sources[index])
    untied = np.flatnonzero(~loose)
    return choices, choices.take(untied) if untied.size else choices


def _halves(plain: Choices, tied: BoolArray) -> Choices:
    """Return each tied pair twice, with each candidate picked once and weight one half."""
    index = np.sort(np.r_[np.arange(len(plain)), np.flatnonzero(tied)], kind="stable")
    again = np.r_[False, np.diff(index) == 0]
    out = plain.take(index)
    weights = np.where(tied[index], 0.5, 1.0)
    sources = (np.arange(len(plain)) if plain.sources is None else plain.sources)[index]
    return replace(out, picked=np.where(again, 1, out.picked), weights=weights, sources=sources)


def _with_tie_rows(plain: Choices, tied: BoolArray) -> Choices:
    """Return pairs with the tie as a third alternative: mean features and an indicator (Davidson 1970)."""
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
