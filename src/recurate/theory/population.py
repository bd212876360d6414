r"""A population of candidates with rewards, and its exact law from round to round.

With infinite data and perfect retraining one round maps the model's law p_t to

.. math:: p_{t+1} = \rho\, p_{ref} + (1 - \rho)\, p_t W_t, \qquad W_t = \sum_i w_i H_i,

where rho is the real fraction, H_i the curation multiplier of reward i under p_t
(:mod:`recurate.rules.multiplier`) and w_i the share of slates picked by reward i
(Ferbach et al. 2024, arXiv 2407.09499, Lemma 2.1 and section 2.2, with lambda = (1 - rho) / rho;
several rewards: Falahati et al. 2026, arXiv 2605.07724).
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recurate.candidates import reward_matrix
from recurate.errors import InputError, is_number
from recurate.rules.multiplier import Multiplier
from recurate.rules.rule import Rule

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Population:
    """Atoms with rewards, an initial law p_0 and a reference law p_ref.

    Args:
        rewards: shape (N, m), finite; one column a reward.
        law: p_0, shape (N,), non-negative with a positive sum (normalised here); uniform if None.
        reference: p_ref, likewise; p_0 if None.
        weights: w, shape (m,), non-negative, summing to one; equal if None.
        blocks: shape (N,), integers naming the context of each atom when every context is a
            population of its own: selection then happens within blocks and each block keeps its mass.
            None: one block.

    Raises:
        InputError: shapes disagree or values are out of range.
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
        self._prepared: tuple[float, list[list[Multiplier]]] | None = None

    def with_laws(self, law: FloatArray, reference: FloatArray) -> Population:
        """Return the same atoms, set up already, with another p_0 and p_ref."""
        other = copy(self)
        other.law, other.reference = law, reference
        return other

    def multiplier(self, law: FloatArray, rule: Rule) -> FloatArray:
        """Return W = sum_i w_i H_i at every atom, shape (N,), for the law p of shape (N,).

        In a block without mass (a context that only the reference has) W is one.
        """
        out = np.ones_like(law)
        prepared = self._prepare(rule.temperature)
        for members, multipliers in zip(self._members, prepared, strict=True):
            mass = law[members]
            total = mass.sum()
            if total > 0:
                out[members] = sum(
                    weight * multiplier(mass / total, rule.k)
                    for weight, multiplier in zip(self.weights, multipliers, strict=True)
                    if weight > 0
                )
        return out

    def curate(self, law: FloatArray, rule: Rule) -> FloatArray:
        """Return the law of the picks, p W, with the mass of every block renormalised.

        Renormalising matters: an error in the total mass grows by a factor of K each round.
        """
        picked = law * self.multiplier(law, rule)
        for members in self._members:
            total = picked[members].sum()
            if total > 0:
                picked[members] *= law[members].sum() / total
        return np.asarray(picked / picked.sum())

    def resample(self, law: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
        """Return the empirical law of n draws from ``law``, with every block's mass kept."""
        drawn = rng.multinomial(n, law) / n
        for members in self._members:
            total = drawn[members].sum()
            if total > 0:
                drawn[members] *= law[members].sum() / total
        return np.asarray(drawn / drawn.sum())

    def step(self, law: FloatArray, rule: Rule, real_fraction: float = 0.0) -> FloatArray:
        """Return the law after one round: rho p_ref + (1 - rho) p W, shape (N,)."""
        picked = self.curate(law, rule)
        return real_fraction * self.reference + (1.0 - real_fraction) * picked

    def trajectory(self, rule: Rule, *, rounds: int, real_fraction: float = 0.0) -> Iterator[FloatArray]:
        """Yield p_0, p_1, ..., p_rounds, each pushed from the atoms so that errors do not add up."""
        law = self.law
        yield law
        for _ in range(rounds):
            law = self.step(law, rule, real_fraction)
            yield law

    def _prepare(self, temperature: float) -> list[list[Multiplier]]:
        """Return the multipliers [block][reward], set up once per temperature."""
        if self._prepared is None or self._prepared[0] != temperature:
            with np.errstate(over="ignore"):
                utilities = self.rewards / temperature
            multipliers = [
                [Multiplier(utilities[members, i]) for i in range(self.rewards.shape[1])]
                for members in self._members
            ]
            self._prepared = (temperature, multipliers)
        return self._prepared[1]


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


def check_real_fraction(value: float) -> float:
    """Return the real fraction, in [0, 1]."""
    if not is_number(value) or not 0.0 <= value <= 1.0:
        raise InputError(
            "the real fraction must lie between 0 and 1",
            got=value,
            remedy="it is the share of real data in each retraining set: 0.5 is half",
        )
    return float(value)


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
