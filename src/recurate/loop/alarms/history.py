"""The measured values so far, and the standard errors behind their intervals."""

from __future__ import annotations

import math
from functools import cached_property

from recurate.log.trajectory import MEASURED, Row, Trajectory
from recurate.metrics.estimates import NORMAL_975

Key = tuple[str, str | None, str | None]  # quantity, reward, group


class Seen:
    """A trajectory by (source, round, key); later rows replace earlier ones."""

    def __init__(self, trajectory: Trajectory) -> None:
        self.rows = {(r.source, r.round, r.key): r for r in trajectory.rows if math.isfinite(r.value)}

    @cached_property
    def measured(self) -> set[Key]:
        """Series that were measured in at least one round."""
        return {key for source, _, key in self.rows if source == MEASURED}

    def at(self, t: int, quantity: str, reward: str | None = None, group: str | None = None) -> Row | None:
        """Return the measured row of a series in round t, or None."""
        return self.rows.get((MEASURED, t, (quantity, reward, group)))

    def first(self, quantity: str) -> list[Row]:
        """Return the rows of a quantity in round 0, of all rewards and groups, in order."""
        keys = sorted((k for s, t, k in self.rows if (s, t, k[0]) == (MEASURED, 0, quantity)), key=str)
        return [self.rows[MEASURED, 0, key] for key in keys]

    def count(self, t: int) -> float | None:
        """Return the number of candidates in round t, or None if it was not measured."""
        row = self.at(t, "effective_support")
        return None if row is None or row.value < 1 else row.value

    def size(self, t: int, group: str | None) -> float | None:
        """Return the effective number of independent candidates behind a group's share in round t, or None.

        It is n / d with the design effect d = n se^2 / (p (1 - p)), which is 1 without contexts. d is the
        largest of the group's rounds so far, because it is imprecise for shares near zero and undefined for
        zero. For a group without candidates so far, it is the largest of all groups.
        """
        n = self.count(t)
        if n is None:
            return None
        effects: dict[str | None, float] = {}
        for (source, s, key), row in self.rows.items():
            if source == MEASURED and key[0] == "share" and s <= t and 0 < row.value < 1:
                own, se = self.count(s), error_of(row)
                effect = 1.0 if own is None or se is None else own * se**2 / (row.value * (1 - row.value))
                effects[key[2]] = max(effects.get(key[2], 1.0), effect)
        effect = effects.get(group, max(effects.values(), default=1.0))
        return n if effect < 1 + 1e-6 else n / effect


def error_of(row: Row) -> float | None:
    """Return the standard error behind a measured row's interval, or None if it cannot be computed."""
    if row.lower is None or row.upper is None or not row.upper > row.lower:
        return None
    cut_below = row.lower == 0.0 and row.quantity in ("share", "entropy")
    if cut_below and (row.quantity == "entropy" or row.upper == 1.0):
        return None  # both sides may be cut off
    reach = max(row.value - row.lower, row.upper - row.value)
    return reach / NORMAL_975 if math.isfinite(reach) else None
