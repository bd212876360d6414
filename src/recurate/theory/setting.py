r"""The selection and retraining of every round, and the recursion of laws.

One round of the infinite-data loop takes the law p_t to

.. math::

    c_t &= \text{the law of the candidates kept from } p_t \text{ by all stages in turn} \\
    b_t &= \rho\, p_{ref} + (1 - \rho)\, c_t \\
    d_t &= b_t \quad\text{(replace)}, \qquad
    d_t = \frac{p_{ref} + b_0 + \dots + b_t}{t + 2} \quad\text{(accumulate)} \\
    p_{t+1} &= (1 - \eta)\, p_t + \eta\, d_t

with the real fraction rho = 1 / (1 + lambda) (Ferbach et al. 2024, arXiv 2407.09499, section 2.2) and the
efficacy eta, the part of the way to its training law d_t that retraining moves the model; it is 1 in that
paper. Stages in turn: Falahati et al. 2026, arXiv 2511.12804. An accumulating loop trains on equal amounts of
the data of every round and of the real data that the first model was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.rules import Rule, noise_named
from recurate.rules.rule import check_number
from recurate.rules.selection import Selection

PARTS = ("k", "temperature", "noise", "keep", "lapse")  # parts of a rule


@dataclass(frozen=True)
class Stage:
    """One selection within a round: it keeps, from the law p, the law p W with W = sum_i w_i H_i.

    H_i is the multiplier of reward i under the rule (Ferbach et al. 2024, arXiv 2407.09499, Lemma 2.1), and
    w_i is the share of slates judged by reward i. Stages in turn: Falahati et al. 2026, arXiv 2511.12804.

    Attributes:
        rule: the rule of selection.
        weights: w, shape (rewards,), non-negative and summing to one; None: the first stage's.

    >>> from recurate import Rule
    >>> Stage(Rule(k=2), weights=(0.1, 0.9)).weights
    (0.1, 0.9)
    """

    rule: Selection
    weights: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Setting:
    r"""The selection and retraining of every round of a loop.

    Selection in all stages takes the law p_t to c_t, and retraining takes it on to

    .. math:: p_{t+1} = (1 - \eta) p_t + \eta\, (\rho\, p_{ref} + (1 - \rho)\, c_t)

    (Ferbach et al. 2024, arXiv 2407.09499, section 2.2; eta = 1 there). An accumulating loop trains on the
    mean of all training sets so far instead of the last one.

    Attributes:
        rule: the rule of the first stage.
        weights: share of slates judged by each reward, shape (rewards,), non-negative and summing to one
            (within 2e-6, then made exact); None: equal.
        real_fraction: rho = 1 / (1 + lambda), the share of real data in each retraining set, in [0, 1].
        rounds: the number of rounds of curation and retraining, >= 0.
        picks: the number of picks per round; None: the infinite-data limit. It affects the bands only.
        then: further stages, in order; each selects from the candidates that the previous one kept.
        accumulate: whether training sets keep the data of all earlier rounds.
        efficacy: eta, the part of the way to its training law that the model moves, in (0, 1].
        first: the number of rounds played before, whose data an accumulating loop has kept: their mean law is
            taken to be the first law itself, which is exact if the efficacy is one.

    Raises:
        InputError: a value is out of range.

    >>> from recurate import Population, Rule
    >>> setting = Setting(Rule(k=2), real_fraction=0.5, rounds=1)
    >>> for law in Population([0.0, 1.0, 2.0]).play(setting):
    ...     print(law.round(4))
    [0.3333 0.3333 0.3333]
    [0.2653 0.3333 0.4013]
    """

    rule: Selection
    weights: tuple[float, ...] | None = None
    real_fraction: float = 0.0
    rounds: int = 10
    picks: int | None = None
    then: tuple[Stage, ...] = ()
    accumulate: bool = False
    efficacy: float = 1.0
    first: int = 0

    def __post_init__(self) -> None:
        checked = {
            "weights": None if self.weights is None else _shares(self.weights),
            "real_fraction": check_real_fraction(self.real_fraction),
            "rounds": _check_count("rounds", self.rounds, 0),
            "picks": None if self.picks is None else _check_count("picks", self.picks, 1),
            "then": tuple(self.then),
            "accumulate": bool(self.accumulate),
            "efficacy": check_efficacy(self.efficacy),
            "first": _check_count("first", self.first, 0),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, rule: Selection | None = None, **arguments: Any) -> Setting:
        """Return the setting with a rule, or with one made of its parts (see :func:`rule_of`)."""
        parts = {name: arguments.pop(name) for name in PARTS if name in arguments}
        return cls(rule_of(rule, **parts), **arguments)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """All selections of one round, in order, each with the weights that it uses."""
        own = self.weights
        return (Stage(self.rule, own), *(Stage(s.rule, s.weights or own) for s in self.then))

    @property
    def temperature(self) -> float:
        """The temperature of the first stage, which E exp(reward / temperature) refers to."""
        return float(self.rule.temperature)

    def over(self, rewards: int) -> Setting:
        """Return the setting with the weights of every stage spelled out for so many rewards.

        Raises:
            InputError: the number of weights differs from that of the rewards.
        """
        (_, own), *further = [
            (stage.rule, tuple(check_weights(stage.weights, rewards).tolist())) for stage in self.stages
        ]
        return replace(self, weights=own, then=tuple(Stage(rule, weights) for rule, weights in further))

    def facts(self) -> dict[str, Any]:
        """Return the setting as plain values, for tables and reports."""
        shares = [None if s.weights is None else list(s.weights) for s in self.stages]
        found: dict[str, Any] = self.rule.facts() | {
            "weights": shares[0],
            "real_fraction": self.real_fraction,
            "rounds": self.rounds,
            "picks": self.picks,
        }
        if self.then:
            further = zip(self.then, shares[1:], strict=True)
            found["then"] = [stage.rule.facts() | {"weights": w} for stage, w in further]
        if self.accumulate:
            found["accumulate"] = True
        if self.efficacy != 1:
            found["efficacy"] = self.efficacy
        return found


def rule_of(rule: Selection | None = None, **parts: Any) -> Selection:
    """Return the rule, or one made of k, temperature, noise (or its name), keep and lapse, None if unset.

    Raises:
        InputError: both a rule and one of its parts are given.
    """
    given = {name: value for name, value in parts.items() if value is not None}
    if rule is None:
        if isinstance(given.get("noise"), str):
            given["noise"] = noise_named(given["noise"])
        return Rule(**given)
    if given:
        raise InputError(
            f"a rule brings its own {', '.join(PARTS[:-1])} and {PARTS[-1]}",
            got=f"a rule, and {', '.join(given)}",
            remedy="give either the rule or its parts",
        )
    return rule


def mix(picked: FloatArray, reference: FloatArray, rho: float | FloatArray) -> FloatArray:
    """Return rho p_ref + (1 - rho) c; overwrites c."""
    picked *= 1.0 - rho
    picked += rho * reference
    return picked


def play(
    setting: Setting,
    start: FloatArray,
    reference: FloatArray,
    curate: Callable[[FloatArray], FloatArray],
    real_fraction: ArrayLike | None = None,
) -> Iterator[FloatArray]:
    """Yield the laws of rounds 0, 1, ..., setting.rounds.

    Args:
        setting: the selection and retraining of every round; ``curate`` does the work of its stages.
        start: p_0, any shape.
        reference: p_ref, broadcast against laws.
        curate: maps a law to the law of the kept candidates, in a new array.
        real_fraction: rho, broadcast against laws; None: the setting's.
    """
    rho = np.asarray(setting.real_fraction if real_fraction is None else real_fraction)
    # If rounds were played before, the mean law of their data is taken to be the first law.
    law, total = start, (setting.first + 1) * start if setting.first else reference
    mixes = bool(rho.any())
    yield law
    for t in range(setting.rounds):
        batch = curate(law)
        if mixes:
            batch = mix(batch, reference, rho)
        if setting.accumulate:
            total = total + batch
            batch = total / (setting.first + t + 2)
        law = batch if setting.efficacy == 1 else law + setting.efficacy * (batch - law)
        yield law


def check_weights(weights: ArrayLike | None, rewards: int) -> FloatArray:
    """Return preference weights, shape (rewards,): non-negative and summing to one; equal if None.

    A sum within 2e-6 of one passes, so that 1/3 may be written 0.333333; it is then made exact.
    """
    if weights is None:
        return np.full(rewards, 1.0 / rewards)
    values = as_floats("weights", weights)
    if values.shape != (rewards,):
        raise InputError(
            f"there must be one weight for each of the {rewards} rewards",
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


def _shares(weights: ArrayLike) -> tuple[float, ...]:
    return tuple(check_weights(weights, np.size(as_floats("weights", weights))).tolist())


def as_floats(name: str, values: ArrayLike) -> FloatArray:
    """Return values as an array of floats, or raise InputError."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{name} must be numbers", got=repr(values), remedy="pass a list of numbers"
        ) from None


def check_efficacy(value: float) -> float:
    """Return the efficacy, in (0, 1]."""
    remedy = "it is the part of the way to its training law that retraining moves the model, 1 at most"
    check_number(value, lambda eta: 0 < eta <= 1, "the efficacy must lie in (0, 1]", remedy)
    return float(value)


def check_real_fraction(value: float) -> float:
    """Return the real fraction, in [0, 1]."""
    remedy = "it is the share of real data in each retraining set: 0.5 is half"
    check_number(value, lambda rho: 0 <= rho <= 1, "the real fraction must lie between 0 and 1", remedy)
    return float(value)


def _check_count(name: str, value: int, least: int) -> int:
    what, remedy = f"{name} must be a whole number >= {least}", f"for example {name} = 10"
    check_number(value, lambda n: math.isfinite(n) and n == int(n) and least <= n < 2**62, what, remedy)
    return int(value)
