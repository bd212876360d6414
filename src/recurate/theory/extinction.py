"""Groups that die out under finitely many picks.

A group without a pick in a round is lost for good if no real data bring it back. With n picks and the
group's share s' of the law of the picks, the probability is the mean of (1 - s')^n over the simulated loops
that still have the group. This is less noisy than the number of loops that lost it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
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


def drift(share: float, weight: float, k: float, picks: int, rounds: int) -> FloatArray:
    r"""Return the probability, by round, that one of two opposed groups has died out, exactly.

    Two groups never like each other's items and judge the shares q and 1 - q of the slates. With the share s
    of the first, n picks are binomial with the probability of the survival law

    .. math:: s' = q (1 - (1 - s)^K) + (1 - q) s^K

    (:mod:`recurate.theory.survival`), and the next model is those picks: a Markov chain on 0, 1/n, ..., 1
    whose ends absorb. At K = 2 and q = 1/2 it is the neutral Wright-Fisher model, s' = s.

    Args:
        share: the first group's share of round 0, in [0, 1].
        weight: q, the share of slates that it judges, in [0, 1].
        k: slate size, a whole number or ``math.inf``.
        picks: n, the number of picks per round.
        rounds: the number of rounds.

    Returns:
        Probabilities of rounds 0, 1, ..., shape (rounds + 1,).

    Raises:
        InputError: a value is out of range.

    >>> drift(0.5, 0.5, 2, 2, 3).round(6).tolist()
    [0.0, 0.5, 0.75, 0.875]
    """
    from scipy.stats import binom

    whole = math.isinf(k) or k == int(k)
    if not (0 <= share <= 1 and 0 <= weight <= 1 and whole and k >= 1 and picks >= 1 and rounds >= 0):
        raise InputError(
            "shares lie between 0 and 1, slates are whole numbers, and picks and rounds are positive",
            got=f"share {share:g}, weight {weight:g}, K = {k:g}, {picks} picks, {rounds} rounds",
            remedy="correct the value that is out of range",
        )

    def picked(s: FloatArray) -> FloatArray:
        law = weight * (1 - np.power(1 - s, k)) + (1 - weight) * np.power(s, k)
        return np.asarray(np.clip(law, 0.0, 1.0))

    counts = np.arange(picks + 1)
    step = binom.pmf(counts, picks, picked(counts / picks)[:, None])
    law, lost = binom.pmf(counts, picks, picked(np.array(share))), [float(share in (0, 1))]
    for _ in range(rounds):
        lost.append(float(law[0] + law[-1]))
        law = law @ step
    return np.array(lost)


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
