r"""A population of candidates with rewards, and its exact law from round to round.

With infinite data and perfect retraining, selection maps the model's law p to p W,

.. math:: W = \sum_i w_i H_i,

where H_i is the multiplier of reward i under p (:mod:`recurate.rules.multiplier`) and w_i the share of
slates picked by reward i (Ferbach et al. 2024, arXiv 2407.09499, Lemma 2.1; several rewards: Falahati et
al. 2026, arXiv 2605.07724). What else happens in a round is in :mod:`recurate.theory.setting`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.log.candidates import reward_matrix
from recurate.rules.pools import NothingPasses
from recurate.rules.selection import Selection
from recurate.theory.setting import Setting, Stage, play

EXACT = 4e-15  # closer to one, a total mass is left as it is: the next round renormalises what it grows to
KEPT = 4  # set-ups kept, one for every noise and temperature used


class Population:
    """Atoms with rewards, an initial law p_0 and a reference law p_ref.

    Args:
        rewards: shape (N, m), finite; one column a reward. Sorted rewards (m = 1) are stepped faster.
        law: p_0, shape (N,), non-negative with a positive sum (normalised here); uniform if None.
        reference: p_ref, likewise; p_0 if None.
        weights: w, shape (m,), non-negative, summing to one; equal if None.
        blocks: shape (N,), integers naming the context of each atom when every context is a
            population of its own: selection then happens within blocks and each block keeps its mass.
            None: one block.

    Raises:
        InputError: shapes disagree or values are out of range.

    Laws may also be given B at once, shape (N, B).
    """

    def __init__(
        self,
        rewards: FloatArray,
        *,
        law: FloatArray | None = None,
        reference: FloatArray | None = None,
        weights: FloatArray | None = None,
        blocks: IntArray | None = None,
    ) -> None:
        self.rewards = reward_matrix(rewards)
        count, dimension = self.rewards.shape
        self.law = check_law("law", law, count)
        self.reference = self.law if reference is None else check_law("reference", reference, count)
        self.weights = check_weights(weights, dimension)
        self._members = _split(blocks, count)
        self._prepared: dict[Hashable, list[list[Any]]] = {}

    def with_laws(self, law: FloatArray, reference: FloatArray) -> Population:
        """Return the same atoms, set up already, with another p_0 and p_ref."""
        other = copy(self)
        other.law, other.reference = law, reference
        return other

    def multiplier(
        self, law: FloatArray, rule: Selection, weights: Sequence[float] | None = None
    ) -> FloatArray:
        """Return W = sum_i w_i H_i at every atom, shape (N,), for the law p of shape (N,).

        In a block without mass (a context that only the reference has) W is one.
        """
        shares = self.weights if weights is None else check_weights(weights, self.weights.size)
        prepared = self._prepare(rule)
        if len(self._members) == 1:
            return self._mixture(rule, prepared[0], shares, law)
        out, refused = np.ones_like(law), 0
        for members, setups in zip(self._members, prepared, strict=True):
            mass = law[members]
            total = mass.sum(axis=0)
            if np.all(total > 0):
                try:
                    out[members] = self._mixture(rule, setups, shares, mass / total)
                except NothingPasses:  # nothing is kept in this context, so that nothing changes it
                    refused += 1
        if refused == len(self._members):
            raise NothingPasses(rule)
        return out

    @staticmethod
    def _mixture(rule: Selection, setups: list[Any], shares: FloatArray, law: FloatArray) -> FloatArray:
        found: FloatArray | None = None
        for share, setup in zip(shares, setups, strict=True):
            if share == 0:
                continue
            part = rule.weigh(setup, law)
            if share != 1:
                part *= share
            if found is None:
                found = part
            else:
                found += part
        assert found is not None  # weights sum to one
        return found

    def curate(self, law: FloatArray, rule: Selection, weights: Sequence[float] | None = None) -> FloatArray:
        """Return the law of what is kept, p W, with the mass of every block renormalised.

        Renormalising matters: an error in the total mass grows by a factor of K each round.
        """
        picked = self.multiplier(law, rule, weights)
        picked *= law
        if len(self._members) > 1:
            for members in self._members:
                total = picked[members].sum(axis=0)
                if np.all(total > 0):
                    picked[members] *= law[members].sum(axis=0) / total
        total = picked.sum(axis=0)
        if np.any(np.abs(total - 1.0) > EXACT):
            picked /= total
        return picked

    def select(self, law: FloatArray, stages: Sequence[Stage]) -> FloatArray:
        """Return the law of what is kept after all stages, each acting on what the one before kept."""
        for stage in stages:
            law = self.curate(law, stage.rule, stage.weights)
        return law

    def resample(self, law: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
        """Return the empirical law of n draws from ``law``, with every block's mass kept.

        A block (context) without a draw in this round stays as it is.
        """
        # Rounding may leave a mass of 1 + 2e-16.
        drawn: FloatArray = rng.multinomial(n, np.minimum(law, 1.0)) / n
        if len(self._members) > 1:
            for members in self._members:
                total = drawn[members].sum()
                drawn[members] = drawn[members] * (law[members].sum() / total) if total > 0 else law[members]
        return np.asarray(drawn / drawn.sum())

    def step(self, law: FloatArray, rule: Selection, real_fraction: float = 0.0) -> FloatArray:
        """Return the law after one round of one stage: rho p_ref + (1 - rho) p W, shape (N,)."""
        picked = self.curate(law, rule)
        if real_fraction:
            picked *= 1.0 - real_fraction
            picked += real_fraction * self.reference
        return picked

    def trajectory(self, rule: Selection, *, rounds: int, real_fraction: float = 0.0) -> Iterator[FloatArray]:
        """Yield p_0, p_1, ..., p_rounds under one stage; see :meth:`play` for more."""
        return self.play(Setting(rule, tuple(self.weights), real_fraction, rounds))

    def play(self, setting: Setting) -> Iterator[FloatArray]:
        """Yield p_0, p_1, ..., each pushed from the atoms so that errors do not add up."""
        return play(setting, self.law, self.reference, lambda law: self.select(law, setting.stages))

    def _prepare(self, rule: Selection) -> list[list[Any]]:
        """Return the set-ups [block][reward], made once for every noise and temperature."""
        if rule.key not in self._prepared:
            while len(self._prepared) >= KEPT:
                del self._prepared[next(iter(self._prepared))]
            self._prepared[rule.key] = [
                [rule.setup(self.rewards[members, i]) for i in range(self.rewards.shape[1])]
                for members in self._members
            ]
        return self._prepared[rule.key]


def check_weights(weights: ArrayLike | None, dimension: int) -> FloatArray:
    """Return preference weights, shape (dimension,): non-negative and summing to one.

    A sum within 2e-6 of one passes, so that 1/3 may be written 0.333333; it is then made exact.
    """
    if weights is None:
        return np.full(dimension, 1.0 / dimension)
    values = _floats("weights", weights)
    if values.shape != (dimension,):
        raise InputError(
            f"there must be one weight for each of the {dimension} rewards",
            got=f"{values.size} weights",
            remedy="give as many weights as reward columns, in their order",
        )
    if not np.all(np.isfinite(values)) or np.any(values < 0) or abs(values.sum() - 1) > 2e-6:
        raise InputError(
            "weights must be non-negative numbers that sum to one",
            got=f"{', '.join(f'{w:g}' for w in values)} (sum {values.sum():g})",
            remedy="divide each by their sum",
        )
    return np.asarray(values / values.sum())


def _floats(name: str, values: ArrayLike) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{name} must be numbers", got=repr(values), remedy="pass a list of numbers"
        ) from None


def check_law(name: str, law: ArrayLike | None, count: int) -> FloatArray:
    """Return masses (count,), normalised; uniform if None."""
    if law is None:
        return np.full(count, 1.0 / count)
    values = _floats(name, law)
    if values.shape != (count,):
        raise InputError(
            f"{name} must have one mass for each of the {count} candidates",
            got=f"shape {values.shape}",
            remedy="pass shape (candidates,)",
        )
    with np.errstate(over="ignore"):
        total = values.sum()
    if not np.all(np.isfinite(values)) or np.any(values < 0) or not 0 < total < np.inf:
        raise InputError(
            f"the masses of {name} must be finite, non-negative and not all zero",
            got=f"smallest {values.min()}, sum {total}",
            remedy="pass probabilities or counts",
        )
    return np.asarray(values / values.sum())


def _split(blocks: IntArray | None, count: int) -> list[NDArray[np.intp] | slice]:
    """Return the members of every block."""
    if blocks is None:
        return [slice(None)]
    order = np.argsort(blocks, kind="stable")
    edges = np.flatnonzero(np.diff(blocks[order])) + 1
    return list(np.split(order, edges))
