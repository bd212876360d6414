r"""A population of candidates with rewards, and its exact law from round to round.

With infinite data and perfect retraining, selection maps the model's law p to p W,

.. math:: W = \sum_i w_i H_i,

where H_i is the multiplier of reward i under p (:mod:`recurate.rules.multiplier`) and w_i the share of
slates judged by reward i (Ferbach et al. 2024, arXiv 2407.09499, Lemma 2.1; several rewards: Falahati et
al. 2026, arXiv 2605.07724). The rest of a round is in :mod:`recurate.theory.setting`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.cells import Merging
from recurate.core.errors import InputError
from recurate.log.candidates import reward_matrix
from recurate.rules.pools import NothingPasses
from recurate.rules.rule import Rule
from recurate.rules.selection import Selection
from recurate.theory.setting import Setting, Stage, as_floats, check_weights, mix, play

EXACT = 4e-15  # a total mass closer to one is not renormalised in this round
KEPT = 4  # number of set-ups kept, one per noise and temperature


class Population:
    r"""Atoms with rewards, an initial law p_0 and a reference law p_ref, and their exact law in every round.

    Selection by one rule maps the law p to p W with W = sum_i w_i H_i, where H_i(x) is the expected number of
    times that an atom x is kept per slate that it is in, relative to chance:

    .. math:: H_i(x) = E_{y_2..y_K \sim p} [ K e^{r_i(x)} / (e^{r_i(x)} + \sum_{j \ge 2} e^{r_i(y_j)}) ]

    for Luce choice at temperature 1 (Ferbach et al. 2024, arXiv 2407.09499, Lemma 2.1; several rewards:
    Falahati et al. 2026, arXiv 2605.07724). A step costs O(N) at any K and is exact to about 1e-14.

    Args:
        rewards: shape (N,) or (N, m), finite; one column per reward. Sorted rewards (m = 1) are stepped
            faster.
        law: p_0, shape (N,), non-negative with a positive sum (normalised here); uniform if None.
        reference: p_ref, likewise; p_0 if None.
        weights: w, shape (m,), non-negative, summing to one; equal if None. A setting's own come first.
        blocks: shape (N,), integers naming the context of each atom when every context is a
            population of its own: selection then happens within blocks and each block keeps its mass.
            None: one block.

    Raises:
        InputError: shapes disagree or values are out of range.

    >>> from recurate import Rule, Setting
    >>> population = Population([0.0, 1.0, 2.0])
    >>> population.multiplier(population.law, Rule(k=2)).round(4)
    array([0.5921, 1.    , 1.4079])
    >>> for law in population.play(Setting(Rule(k=2), real_fraction=0.5, rounds=2)):
    ...     print(law.round(4))
    [0.3333 0.3333 0.3333]
    [0.2653 0.3333 0.4013]
    [0.2384 0.3229 0.4388]
    """

    def __init__(
        self,
        rewards: ArrayLike,
        *,
        law: ArrayLike | None = None,
        reference: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        blocks: IntArray | None = None,
    ) -> None:
        self.rewards = reward_matrix(rewards)
        count, dimension = self.rewards.shape
        self.law = check_law("law", law, count)
        self.reference = self.law if reference is None else check_law("reference", reference, count)
        self.weights = check_weights(weights, dimension)
        self._members = _split(blocks, count)
        self._prepared: dict[Hashable, list[list[Any]]] = {}

    def started(self, law: FloatArray) -> Population:
        """Return the same population with another p_0, shape (N,); its set-ups are kept."""
        other = copy(self)
        other.law = law
        return other

    def judged(self, weights: ArrayLike) -> Population:
        """Return the same population with other weights of the rewards, shape (m,); its set-ups are kept."""
        other = copy(self)
        other.weights = check_weights(weights, self.weights.size)
        return other

    def divided(self, blocks: IntArray | None) -> Population:
        """Return the same masses in other blocks, shape (N,)."""
        other = copy(self)
        other._members, other._prepared = _split(blocks, self.law.size), {}
        return other

    def moved(self, rewards: FloatArray) -> Population:
        """Return the same masses at other rewards, shape (N, m)."""
        other = copy(self)
        other.rewards, other._prepared = rewards, {}
        return other

    def coarsened(self, cells: Merging, blocks: IntArray | None = None) -> Population:
        """Return the population whose atoms are cells of this one's: masses add up, rewards are means.

        Args:
            cells: the cells, each within one block.
            blocks: the block of each cell, shape (cells,), if there are several.
        """
        assert len(self._members) == 1 or blocks is not None
        return Population(
            cells.means(self.rewards, self.law + self.reference),
            law=cells.sums(self.law),
            reference=None if self.reference is self.law else cells.sums(self.reference),
            weights=self.weights,
            blocks=blocks,
        )

    def multiplier(self, law: FloatArray, rule: Selection, weights: ArrayLike | None = None) -> FloatArray:
        """Return W = sum_i w_i H_i at every atom.

        In a block without mass (a context that only the reference has) W is one.

        Args:
            law: masses p, shape (N,), or B laws at once, shape (N, B).
            rule: the rule of selection.
            weights: w, shape (m,), or shape (m, B) for B laws; None: the population's.
        """
        shares = self._shares(weights)
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
                except NothingPasses:  # nothing is kept in this context: it does not change
                    refused += 1
        if refused == len(self._members):
            raise NothingPasses(rule)
        return out

    def _shares(self, weights: ArrayLike | None) -> FloatArray:
        if weights is None:
            return self.weights
        shares = np.asarray(weights, float)
        return shares if shares.ndim == 2 else check_weights(shares, self.weights.size)

    @staticmethod
    def _mixture(rule: Selection, setups: list[Any], shares: FloatArray, law: FloatArray) -> FloatArray:
        found: FloatArray | None = None
        for share, setup in zip(shares, setups, strict=True):
            if share.ndim:
                part = _weigh_many(rule, setup, share, law)
            elif share == 0:
                continue
            else:
                part = rule.weigh(setup, law)
                if share != 1:
                    part *= share
            if found is None:
                found = part
            else:
                found += part
        assert found is not None  # weights sum to one
        return found

    def curate(self, law: FloatArray, rule: Selection, weights: ArrayLike | None = None) -> FloatArray:
        """Return the law of the kept atoms, p W, with the mass of every block renormalised, as a new array.

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
        """Return the law of the kept atoms after all stages; each stage selects from the previous stage's."""
        for stage in stages:
            law = self.curate(law, stage.rule, stage.weights)
        return law

    def resample(self, law: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
        """Return the empirical law of n draws from ``law``, with every block's mass kept.

        A block (context) without a draw in this round stays as it is.

        Args:
            law: masses p, shape (N,), or B laws at once, shape (N, B), from each of which n are drawn.
            n: the number of draws.
            rng: the generator; laws are drawn from one after the other.
        """
        # Rounding may leave a mass of 1 + 2e-16.
        drawn: FloatArray = rng.multinomial(n, np.minimum(law, 1.0).T).T / n
        if len(self._members) > 1:
            for members in self._members:
                total, kept = drawn[members].sum(axis=0), law[members].sum(axis=0)
                scaled = drawn[members] * (kept / np.where(total > 0, total, 1.0))
                drawn[members] = np.where(total > 0, scaled, law[members])
        return np.asarray(drawn / drawn.sum(axis=0))

    def growth(self, law: FloatArray, setting: Setting) -> FloatArray:
        """Return the factor by which one round's selection multiplies the mass of every atom, (1 - rho) W.

        With several stages W is the product of their multipliers, each at the law that it acts on.
        """
        product = np.ones_like(law)
        for stage in setting.stages:
            w = self.multiplier(law, stage.rule, stage.weights)
            product *= w
            law = law * w
            law /= law.sum()
        return (1.0 - setting.real_fraction) * product

    def step(self, law: FloatArray, setting: Setting) -> FloatArray:
        """Return the law after one round from ``law``: rho p_ref + (1 - rho) p W, of the shape of ``law``.

        Without accumulation and partial retraining, :meth:`play` repeats this step.
        """
        picked = self.select(law, setting.stages)
        rho = setting.real_fraction
        reference = self.reference if law.ndim == 1 else self.reference[:, None]
        return mix(picked, reference, rho) if rho else picked

    def slopes(self, law: FloatArray, setting: Setting, atoms: IntArray) -> FloatArray | None:
        """Return the derivative of :meth:`step` on some atoms, (n, n); None where it has no formula.

        Column j is the derivative of T(q / sum q) sum q in the mass of atom j, at a law on these atoms.
        """
        (stage, *further), rho = setting.stages, setting.real_fraction
        if further or len(self._members) > 1 or not isinstance(stage.rule, Rule):
            return None
        matrix = np.zeros((atoms.size, atoms.size))
        for share, setup in zip(self._shares(stage.weights), self._prepare(stage.rule)[0], strict=True):
            found = stage.rule.weigh_slopes(setup, law, atoms) if share else matrix
            if found is None:
                return None
            matrix = matrix + share * found
        mass = law[atoms]
        matrix *= mass[:, None]
        matrix[np.diag_indices(atoms.size)] += self.multiplier(law, stage.rule, stage.weights)[atoms]
        along = (1 - rho) * (matrix - (matrix @ mass)[:, None])
        return np.asarray(along + self.step(law, setting)[atoms, None])

    def play(self, setting: Setting) -> Iterator[FloatArray]:
        """Yield the laws p_0, p_1, ..., each of shape (N,); round-off does not accumulate."""
        return play(setting, self.law, self.reference, lambda law: self.select(law, setting.stages))

    def play_many(
        self, setting: Setting, weights: FloatArray, real_fractions: FloatArray
    ) -> Iterator[FloatArray]:
        """Yield the laws p_0, p_1, ..., each of shape (N, B), of B loops.

        Args:
            setting: what all loops have in common.
            weights: in place of the setting's, shape (m, B); also of further stages without their own.
            real_fractions: in place of the setting's, shape (B,).
        """
        start = np.repeat(self.law[:, None], real_fractions.size, axis=1)

        def curate(law: FloatArray) -> FloatArray:
            law = self.curate(law, setting.rule, weights)
            for stage in setting.then:
                law = self.curate(law, stage.rule, weights if stage.weights is None else stage.weights)
            return law

        return play(setting, start, self.reference[:, None], curate, real_fractions)

    def _prepare(self, rule: Selection) -> list[list[Any]]:
        """Return the set-ups [block][reward], made once per noise and temperature."""
        if rule.key not in self._prepared:
            while len(self._prepared) >= KEPT:
                del self._prepared[next(iter(self._prepared))]
            self._prepared[rule.key] = [
                [rule.setup(self.rewards[members, i]) for i in range(self.rewards.shape[1])]
                for members in self._members
            ]
        return self._prepared[rule.key]


def _weigh_many(rule: Selection, setup: Any, share: FloatArray, law: FloatArray) -> FloatArray:
    """Return w H of B laws (N, B) with weights (B,), some of which may be zero."""
    used = share != 0
    if used.all():
        part = rule.weigh(setup, law)
        part *= share
        return part
    part = np.zeros_like(law)
    if used.any():
        part[:, used] = share[used] * rule.weigh(setup, law[:, used])
    return part


def check_law(name: str, law: ArrayLike | None, count: int) -> FloatArray:
    """Return masses (count,), normalised; uniform if None."""
    if law is None:
        return np.full(count, 1.0 / count)
    values = as_floats(name, law)
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


def favourites(rewards: FloatArray, tops: FloatArray) -> IntArray:
    """Return the reward whose maximum, among ``tops`` (m,), each atom is closest to, shape (N,)."""
    return np.asarray(np.argmax(rewards - tops, axis=1), np.int64)


def _split(blocks: IntArray | None, count: int) -> list[NDArray[np.intp] | slice]:
    """Return the members of every block."""
    if blocks is None:
        return [slice(None)]
    order = np.argsort(blocks, kind="stable")
    edges = np.flatnonzero(np.diff(blocks[order])) + 1
    return list(np.split(order, edges))
