"""A log sorted by round, slate and slot, with any number of picks per slate, for audits."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recurate.choices.table import Choices
from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.log.schema import MODEL, Log
from recurate.rules.slates import Slates


@dataclass(frozen=True)
class Observed:
    """The model's candidates in a log.

    Attributes:
        rewards: Rewards of the candidates, (rows, rewards).
        names: Names of the rewards.
        rounds: Round of each row, (rows,).
        picked: Whether each row was picked, (rows,).
        slates: Slates of the first rows; rows that belong to no slate come after them.
        slate_rounds: Round of each slate, (slates,).
        slate_numbers: Number of each slate, (slates,), which only its round has once.
        slots: Logged slot of each row, (rows,), or -1 if none was logged.
        contexts: Code of each row's context, (rows,).
        items: Code of each row's item, (rows,), where items are texts; else None.
        propensities: Logged propensities, (rows,), nan where they are missing; None if none was logged.
    """

    rewards: FloatArray
    names: tuple[str, ...]
    rounds: IntArray
    picked: BoolArray
    slates: Slates
    slate_rounds: IntArray
    slate_numbers: IntArray
    slots: IntArray
    contexts: IntArray
    items: IntArray | None = field(repr=False)
    propensities: FloatArray | None = field(repr=False)

    @classmethod
    def of(cls, log: Log) -> Observed:
        """Return the model's candidates in a log.

        Raises:
            InputError: If the log holds no candidates of the model.
        """
        own = log.select(source=MODEL)
        table = own.table
        if table.num_rows == 0:
            raise InputError(
                "the log holds no candidates", got="0 rows", remedy="set the source of candidates to 'model'"
            )
        slate = np.asarray(pc.fill_null(table.column("slate"), -1).to_numpy(), np.int64)
        slot = np.asarray(pc.fill_null(table.column("slot"), -1).to_numpy(), np.int64)
        rounds = np.asarray(table.column("round").to_numpy(), np.int64)
        order = np.lexsort((slot, slate, rounds, slate < 0))
        inside = int((slate >= 0).sum())
        keys = np.column_stack([rounds, slate])[order][:inside]
        fresh = np.r_[True, np.any(keys[1:] != keys[:-1], axis=1)] if inside else np.empty(0, bool)
        starts = np.flatnonzero(fresh)
        propensity = table.column("propensity")
        return cls(
            own.reward_matrix()[order],
            log.rewards,
            rounds[order],
            np.asarray(table.column("picked").to_numpy(zero_copy_only=False), bool)[order],
            Slates(np.r_[starts, inside].astype(np.int64)),
            rounds[order][starts],
            slate[order][starts],
            slot[order],
            _codes(table.column("context"))[order],
            _texts(table.column("item"), order),
            None if propensity.null_count == table.num_rows else np.asarray(propensity, float)[order],
        )  # fmt: skip

    @cached_property
    def round_ids(self) -> IntArray:
        """Rounds that occur, in increasing order."""
        return np.unique(self.rounds)

    @property
    def slated(self) -> int:
        """Number of rows that belong to slates."""
        return self.slates.rows

    @cached_property
    def picks_per_slate(self) -> IntArray:
        """Number of picks from each slate, (slates,)."""
        if not len(self.slates):
            return np.empty(0, np.int64)
        return self.slates.sums(self.picked[: self.slated].astype(float)).astype(np.int64)

    @cached_property
    def picks_per_round(self) -> IntArray:
        """Number of picks in each round, in the order of ``round_ids``."""
        index = np.searchsorted(self.round_ids, self.rounds)
        return np.bincount(index, self.picked, self.round_ids.size).astype(np.int64)

    def single_picks(self) -> tuple[Choices, IntArray] | None:
        """Return the slates of two or more candidates with one pick, and their indices; None without any.

        The features are the rewards.
        """
        which = np.flatnonzero((self.picks_per_slate == 1) & (self.slates.sizes >= 2))
        if not which.size:
            return None
        own, rows = self.slates.take(which)
        slots = own.slots()
        chosen = np.flatnonzero(self.picked[rows])
        logged = self.slots[rows]
        return (
            Choices(
                np.ascontiguousarray(self.rewards[rows]),
                own,
                slots[chosen].astype(np.int64),
                self.names,
                positions=None if (logged < 0).any() else logged,
                contexts=self.contexts[rows][own.offsets[:-1]],
            ),
            which,
        )


def _codes(texts: Any) -> IntArray:
    return np.asarray(np.unique(np.asarray(texts).astype(str), return_inverse=True)[1], np.int64)


def _texts(items: Any, order: IntArray) -> IntArray | None:
    """Return the codes of items that are texts; None for numbers, which only count the rows of a round."""
    if not pa.types.is_string(items.type) or items.null_count:
        return None
    return _codes(items)[order]
