"""What every rule of selection is to the theory, whether it picks from slates or judges one by one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

from recurate.core.arrays import FloatArray


class Selection(Protocol):
    """A rule with a population multiplier H: what is kept from the law p has the law p H."""

    @property
    def temperature(self) -> float:
        """What divides the rewards, in their unit."""
        ...

    @property
    def key(self) -> Hashable:
        """What a set-up depends on: rules with equal keys share set-ups."""
        ...

    def setup(self, rewards: FloatArray) -> Any:
        """Prepare one population's rewards (N,)."""
        ...

    def weigh(self, setup: Any, law: FloatArray) -> FloatArray:
        """Return H at every atom for the law (N,) or laws (N, B), as an array of the caller's own."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return the rule as plain values, for tables and reports."""
        ...
