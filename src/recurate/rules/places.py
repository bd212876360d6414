r"""Luce's rule where places on the page attract picks, and candidates are put into places at random.

A slate of K candidates from the law p is shown in a uniformly random order. The candidate in place i is
picked with a probability proportional to exp(u_i + a_i), u = reward / temperature. With

.. math:: \varphi(s) = E_{y \sim p} \exp(-e^{s + u(y)})

the candidates that are picked have the law p H,

.. math::

    H(x) = \sum_i \int e^{s + u(x) + a_i} \exp(-e^{s + u(x) + a_i})
           \prod_{j \ne i} \varphi(s + a_j) \, ds,

because e^v / (e^v + S) is the integral of e^(s + v) exp(-e^s (e^v + S)) ds. Candidates are drawn
independently, so that one term per place stands for all K! orders. The integrand is a mixture of Gumbel
densities, whose sums on a grid of step h differ from their integral by 2 |Gamma(1 + 2 pi i / h)|, 1e-15 at
h = 1/4.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.rules.rule import Sizes, check_temperature

STEP = 0.25
TAIL = 37.0  # e^-37 = 9e-17
FARTHEST = 300.0  # utilities this far below the largest one have H = 0 but for e^-300
BLOCK = 1 << 20  # numbers that are held at a time


@dataclass(frozen=True)
class Placed:
    """Luce's rule with effects of places; see the module.

    Attributes:
        effects: Log odds a_i of each place, in the order of the places; a slate of K uses the first K.
        k: Slate size, or a mapping from size to probability, whose items are stored.
        temperature: Divisor of the rewards, positive.

    Raises:
        InputError: If a value is out of range, or a slate has more candidates than there are places.
    """

    effects: tuple[float, ...]
    k: float | Mapping[float, float] | Sizes = 4
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not isinstance(self.k, tuple):
            sizes = self.k if isinstance(self.k, Mapping) else {self.k: 1.0}
            object.__setattr__(self, "k", tuple((float(k), float(chance)) for k, chance in sizes.items()))
        object.__setattr__(self, "effects", tuple(float(a) for a in self.effects))
        largest = max(k for k, _ in self.sizes)
        if not np.isfinite(self.effects).all() or largest > len(self.effects):
            raise InputError(
                "every place of a slate needs a finite effect",
                got=f"{len(self.effects)} effects for slates of {largest:g}",
                remedy="give one effect per place, 0 where it has none",
            )

    @property
    def sizes(self) -> Sizes:
        """The slate sizes and their probabilities."""
        assert isinstance(self.k, tuple)
        return self.k

    def facts(self) -> dict[str, Any]:
        """Return the rule as plain values, for tables and reports."""
        sizes = {int(k): chance for k, chance in self.sizes}
        k: Any = next(iter(sizes)) if len(sizes) == 1 else {str(k): chance for k, chance in sizes.items()}
        return {"k": k, "temperature": self.temperature, "places": list(self.effects)}

    @property
    def key(self) -> Hashable:
        """The part of the rule that a set-up depends on."""
        return "placed", self.temperature

    def setup(self, rewards: FloatArray) -> FloatArray:
        """Return reward / temperature, (N,), the set-up of :meth:`weigh`."""
        return np.asarray(rewards, float) / self.temperature

    def weigh(self, setup: FloatArray, law: FloatArray) -> FloatArray:
        """Return H at every atom for a law (N,) or laws (N, B), as a new array of the law's shape."""
        if law.ndim == 2:
            return np.column_stack([self.weigh(setup, column) for column in law.T])
        out, near = np.zeros(law.size), np.maximum(setup - setup.max(), -FARTHEST)
        for k, chance in self.sizes:
            out += chance * _weigh(near, np.array(self.effects[: int(k)]), law)
        return out

    def multiplier(self, rewards: ArrayLike, law: ArrayLike) -> FloatArray:
        """Return H, shape (N,): candidates picked from ``law`` (N,) have the law ``law * H``."""
        return self.weigh(self.setup(np.asarray(rewards, float)), np.asarray(law, float))


def _weigh(utilities: FloatArray, effects: FloatArray, law: FloatArray) -> FloatArray:
    """Return H for slates of one size; the largest utility is 0."""
    effects = effects - effects.max()
    end = np.log(TAIL) - utilities.min() - effects.min()
    grid = np.arange(-TAIL, end + STEP, STEP)
    out = np.zeros(utilities.size)
    for some in np.array_split(grid, -(-grid.size * utilities.size // BLOCK)):
        logs = some[:, None] + utilities
        odds = [np.exp(logs + a) for a in effects]
        left = [np.exp(-o) for o in odds]
        means = np.array([e @ law for e in left])  # phi(s + a_j), (K, grid)
        for i in range(effects.size):
            others = np.prod(np.delete(means, i, axis=0), axis=0)
            out += STEP * (others @ (odds[i] * left[i]))
    return out
