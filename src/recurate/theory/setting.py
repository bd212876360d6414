r"""What happens in every round, and the recursion of laws that it makes.

One round of the infinite-data loop takes the law p_t to

.. math::

    c_t &= \text{the law of what is kept from } p_t \text{ after all stages, each acting on the one before} \\
    b_t &= \rho\, p_{ref} + (1 - \rho)\, c_t \\
    d_t &= b_t \quad\text{(replace)}, \qquad
    d_t = \frac{p_{ref} + b_0 + \dots + b_t}{t + 2} \quad\text{(accumulate)} \\
    p_{t+1} &= (1 - \eta)\, p_t + \eta\, d_t

with the real fraction rho = 1 / (1 + lambda) (Ferbach et al. 2024, arXiv 2407.09499, section 2.2) and the
efficacy eta: how much of the way to its training law d_t retraining moves the model, 1 in that paper.
Stages in turn: Falahati et al. 2026, arXiv 2511.12804. Accumulating puts equal amounts of data of every
round, and of the real data that the first model was trained on, into the training set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError, is_number
from recurate.rules.selection import Selection


@dataclass(frozen=True)
class Stage:
    """One selection: a rule, and the share of slates judged by each reward; None: as in the first."""

    rule: Selection
    weights: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Setting:
    """What happens in every round.

    Attributes:
        rule: how candidates are picked (in the first stage).
        weights: share of slates picked by each reward, shape (rewards,).
        real_fraction: share of real data in each retraining set, 1 / (1 + lambda).
        rounds: how many rounds of curation and retraining.
        picks: picks a round, or None for the infinite-data limit; affects the bands only.
        then: further stages, in order; each selects from what the one before kept.
        accumulate: whether training sets keep the data of all rounds before.
        efficacy: how much of the way to the training law the model moves, in (0, 1].
        first: rounds played before, whose data an accumulating loop has kept: they average to the law
            itself, exactly if the efficacy is one.
    """

    rule: Selection
    weights: tuple[float, ...]
    real_fraction: float
    rounds: int
    picks: int | None = None
    then: tuple[Stage, ...] = ()
    accumulate: bool = False
    efficacy: float = 1.0
    first: int = 0

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All selections of one round, in order."""
        return (Stage(self.rule, self.weights), *self.then)

    @property
    def temperature(self) -> float:
        """The temperature of the first stage, which E exp(reward / temperature) refers to."""
        return float(self.rule.temperature)

    def facts(self) -> dict[str, Any]:
        """Return the setting as plain values, for tables and reports."""
        found: dict[str, Any] = self.rule.facts() | {
            "weights": list(self.weights),
            "real_fraction": self.real_fraction,
            "rounds": self.rounds,
            "picks": self.picks,
        }
        if self.then:
            found["then"] = [s.rule.facts() | {"weights": list(s.weights or self.weights)} for s in self.then]
        if self.accumulate:
            found["accumulate"] = True
        if self.efficacy != 1:
            found["efficacy"] = self.efficacy
        return found


def play(
    setting: Setting,
    start: FloatArray,
    reference: FloatArray,
    curate: Callable[[FloatArray], FloatArray],
    real_fraction: ArrayLike | None = None,
) -> Iterator[FloatArray]:
    """Yield the laws of rounds 0, 1, ..., setting.rounds.

    Args:
        setting: what happens every round; its stages are what ``curate`` does.
        start: p_0, any shape.
        reference: p_ref, of the same shape.
        curate: maps a law to the law of what is kept.
        real_fraction: in place of the setting's, broadcast against laws.
    """
    rho = np.asarray(setting.real_fraction if real_fraction is None else real_fraction)
    # Data kept so far average to the law itself, if the loop has been running.
    law, total = start, (setting.first + 1) * start if setting.first else reference
    yield law
    for t in range(setting.rounds):
        batch = curate(law)
        if rho.any():
            batch = (1.0 - rho) * batch + rho * reference
        if setting.accumulate:
            total = total + batch
            batch = total / (setting.first + t + 2)
        law = batch if setting.efficacy == 1 else law + setting.efficacy * (batch - law)
        yield law


def check_efficacy(value: float) -> float:
    """Return the efficacy, in (0, 1]."""
    if not is_number(value) or not (math.isfinite(value) and 0 < value <= 1):
        raise InputError(
            "the efficacy must lie in (0, 1]",
            got=value,
            remedy="it is how much of the way to its training law retraining moves the model: 1 is all",
        )
    return float(value)


def check_real_fraction(value: float) -> float:
    """Return the real fraction, in [0, 1]."""
    if not is_number(value) or not 0.0 <= value <= 1.0:
        raise InputError(
            "the real fraction must lie between 0 and 1",
            got=value,
            remedy="it is the share of real data in each retraining set: 0.5 is half",
        )
    return float(value)
