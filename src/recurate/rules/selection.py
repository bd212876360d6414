"""The interface between rules of selection and the theory."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

from recurate.core.arrays import FloatArray


class Selection(Protocol):
    """A rule with a population multiplier H: candidates kept from the law p have the law p H."""

    @property
    def temperature(self) -> float:
        """The divisor of the rewards, in their unit."""
        ...

    @property
    def key(self) -> Hashable:
        """The part of the rule that a set-up depends on; rules with equal keys share set-ups."""
        ...

    def setup(self, rewards: FloatArray) -> Any:
        """Return the set-up of :meth:`weigh` for one population's rewards (N,) and any law."""
        ...

    def weigh(self, setup: Any, law: FloatArray) -> FloatArray:
        """Return H at every atom for a law (N,) or laws (N, B), as a new array of the law's shape."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return the rule as plain values, for tables and reports."""
        ...
