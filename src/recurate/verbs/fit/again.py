"""Answers to questions that people were asked again: left out of the fit, seen by what compares answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recurate.choices.checks.consistency import Consistency, consistency
from recurate.choices.from_slates import Reading, choices_of
from recurate.choices.models.items import ItemFit
from recurate.choices.table import Choices
from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.log.opening import open_slates
from recurate.log.reading.answers import EXPORT
from recurate.log.reading.mapping import Given
from recurate.log.reading.slates import PlainSlates, Wanted
from recurate.log.reading.values import codes_of, flags_of

ITEM_REWARD = "item reward"  # feature of items that are too many for indicators
REPEATED, ASKED = "repeated", "asked"


@dataclass(frozen=True)
class Again:
    """The slates of a fit and the later answers of the same people to the same questions.

    Attributes:
        choices: Slates and picks, with the features of the fit.
        fitted: Whether each slate is one of the fit, (slates,).
        repeated: Whether the person was asked again, (slates,).
        asked: Code of person and question together, (slates,).
        items: What each candidate is, (rows,).
    """

    choices: Choices
    fitted: BoolArray
    repeated: BoolArray
    asked: IntArray
    items: IntArray

    def consistency(self, chances: FloatArray) -> Consistency | None:
        """Return how often people agree with themselves; ``chances`` are the fitted rule's, (rows,)."""
        own = self.choices
        return consistency(own.slates, chances, own.picked_rows, self.items, self.asked, self.repeated)


def read_again(source: Any, given: Given, wanted: Wanted, plain: PlainSlates) -> PlainSlates | None:
    """Return the slates of an export of ``recurate serve`` with its repeats, or None if it has none.

    Args:
        source: The source of ``plain``.
        given: What the user said.
        wanted: Columns that describe the candidates.
        plain: The slates that are fitted.
    """
    if not {REPEATED, *EXPORT} <= plain.columns.keys():
        return None
    kinds = tuple({*given.include, "repeats"})
    found = open_slates(source, replace(given, include=kinds), wanted)
    return found if (flags_of(found.columns[REPEATED]) == 1).any() else None


def again_of(
    plain: PlainSlates, reading: Reading, design: Choices, items: ItemFit | None, ties: str
) -> Again | str:
    """Return the answers with the features of a fit, or the reason why they have none.

    Args:
        plain: All answers.
        reading: The answers that were fitted.
        design: Their choices with the features of the fit, without ties.
        items: Rewards of items, or None.
        ties: Treatment of ties.
    """
    wide = choices_of(plain, ties)
    if wide.strict is not wide.choices or len(wide.choices) != len(plain.slates):
        return "ties and rankings are several picks"
    features = _features(wide, design, items)
    if features is None:
        return "some of their candidates are not in the fit"
    firsts = plain.slates.offsets[:-1]
    keys = {
        name: plain.columns[name][firsts] for name in ("round", ASKED, "chooser") if name in plain.columns
    }
    asked = codes_of(keys, tuple(keys))
    repeated = flags_of(plain.columns[REPEATED][firsts]) == 1
    fitted = np.isin(_labels(plain.columns, firsts), _labels(reading.table, reading.slates.offsets[:-1]))
    known = np.isin(asked, asked[fitted & ~repeated])
    kept = np.flatnonzero(fitted | (repeated & known))
    rows = plain.slates.take(kept)[1]
    look = plain.codes("item") if "item" in plain.columns else plain.codes("shown")
    own = replace(wide.strict, choosers=_choosers(plain, reading, firsts))
    own = own.with_features(features, list(design.names)).take(kept)
    return Again(own, fitted[kept], repeated[kept], asked[kept], look[rows])


def _labels(columns: Any, firsts: IntArray) -> Any:
    return np.array([str(v) for v in columns["slate"][firsts]])


def _features(wide: Reading, design: Choices, items: ItemFit | None) -> FloatArray | None:
    """Return the features of the fit for all answers, (rows, d); None where a candidate has none."""
    if items is None:
        names = list(wide.strict.names)
        if not set(design.names) <= set(names):
            return None
        return np.ascontiguousarray(wide.strict.features[:, [names.index(n) for n in design.names]])
    codes = {name: i for i, name in enumerate(items.names)}
    if wide.strict.items is None or not set(wide.strict.item_names) <= codes.keys():
        return None
    own = np.array([codes[name] for name in wide.strict.item_names])[wide.strict.items]
    if design.names == (ITEM_REWARD,):
        return np.asarray(items.rewards[own][:, None])
    return np.asarray(own[:, None] == np.arange(1, len(items.names)), float)


def _choosers(plain: PlainSlates, reading: Reading, firsts: IntArray) -> IntArray | None:
    """Return the fit's code of each slate's chooser, (slates,), or None if the fit has none."""
    if reading.strict.choosers is None:
        return None
    names = np.unique([str(v) for v in reading.table["chooser"]])
    return np.searchsorted(names, [str(v) for v in plain.columns["chooser"][firsts]])
