"""Groups that die out under finitely many picks.

A group without a pick in a round is lost for good if no real data bring it back. With n picks and the
group's share s' of the law of the picks, the probability is the mean of (1 - s')^n over the simulated loops
that still have the group. This is less noisy than the number of loops that lost it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from recurate.core.arrays import FloatArray, IntArray
from recurate.theory.loop_model import LoopModel


@dataclass(frozen=True)
class Extinction:
    """The extinction of one group.

    Attributes:
        group: the group's name.
        probability: the probability that it is extinct by round 0, 1, ..., shape (rounds + 1,).
    """

    group: str
    probability: FloatArray

    @property
    def time(self) -> int | None:
        """The round by which half of the loops that lose the group have lost it."""
        last = self.probability[-1]
        return int(np.argmax(self.probability >= last / 2)) if last > 0 else None


def membership(codes: IntArray, size: int) -> scipy.sparse.csr_array:
    """Return which atoms are in which group or cell, ones in a sparse matrix (size, atoms)."""
    return scipy.sparse.csr_array(
        (np.ones(codes.size), (codes, np.arange(codes.size))), shape=(size, codes.size)
    )


class Losses:
    """Counts the groups that die out in simulated loops."""

    def __init__(self, model: LoopModel, picks: int | None, count: int) -> None:
        setting, describer = model.setting, model.describer
        codes, names = describer.codes, describer.group_names
        # Real data, and data kept from earlier rounds, bring back every group that they contain.
        brought = np.zeros(len(names), bool)
        if codes is not None:
            if setting.real_fraction > 0 or setting.accumulate:
                brought = np.bincount(codes, model.population.reference, len(names)) > 0
            absent = np.bincount(codes, model.population.law, len(names)) == 0
            brought |= absent
        self._names = names
        self._watched: list[int] = np.flatnonzero(~brought).tolist() if picks is not None else []
        members = None if codes is None else membership(codes, len(names))
        self._members = members[self._watched] if members is not None and self._watched else None
        self._picks = picks or 0
        self._efficacy = setting.efficacy
        self._alive = np.ones((len(self._watched), count), bool)
        self._lost = [np.zeros(len(self._watched))]

    def see(self, picked: FloatArray) -> None:
        """Add the losses of one round, given the laws (N, B) that picks are drawn from."""
        if self._members is not None:
            with np.errstate(divide="ignore"):
                gone = np.exp(self._picks * np.log1p(-np.minimum(self._members @ picked, 1.0)))
            self._lost.append(np.minimum(self._lost[-1] + (gone * self._alive).mean(axis=1), 1.0))

    def drawn(self, law: FloatArray) -> None:
        """Record which loops still have each group, given the drawn picks' laws (N, B)."""
        if self._members is not None:
            self._alive &= self._members @ law > 0

    def result(self) -> tuple[Extinction, ...]:
        """Return the groups' extinctions; none if the model always keeps part of its old law."""
        if self._members is None or self._efficacy < 1:
            return ()
        table = np.array(self._lost).T
        return tuple(
            Extinction(self._names[g], losses) for g, losses in zip(self._watched, table, strict=True)
        )
