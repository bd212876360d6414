"""Exports as `recurate serve` writes them, made without pages: people whose rule is known."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

Utility = Callable[[int, np.ndarray], np.ndarray]


def exported(
    slates: int,
    k: int = 4,
    *,
    people: int = 20,
    utility: Utility = lambda person, rewards: rewards,
    lapse: float = 0.0,
    repeats: float = 0.2,
    checks: float = 0.1,
    simulated: float = 0.1,
    seed: int = 0,
) -> pa.Table:
    """Return an export: ``utility(person, rewards as shown)`` with Gumbel noise decides, but for lapses.

    Checks and simulated people pick the best. Repeats are answers of the same person to the same question, in
    another order; none of the three kinds overlap, but for simulated checks.
    """
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(slates, k))
    rows: list[dict[str, Any]] = []
    for asked in range(slates):
        person, made_up, check = int(rng.integers(people)), rng.random() < simulated, rng.random() < checks
        again = not made_up and not check and rng.random() < repeats
        for repeated in (False, True)[: 1 + again]:
            order = rng.permutation(k)
            own = rewards[asked, order]
            noisy = utility(person, own) + rng.gumbel(size=k)
            pick = int(rng.integers(k)) if rng.random() < lapse else int(noisy.argmax())
            pick = int(own.argmax()) if made_up or check else pick
            number = len(rows) // k
            rows += [
                {
                    "round": 0, "slate": number, "slot": place, "item": asked * k + int(slot),
                    "picked": place == pick, "chooser": "simulated" if made_up else f"person {person}",
                    "outcome": "pick", "shown": f"answer {asked} {slot}", "asked": asked, "seconds": 3.0,
                    "time": datetime.fromtimestamp(1e9 + number, UTC).isoformat(timespec="milliseconds"),
                    "simulated": made_up, "repeated": repeated, "check": check, "reward": float(own[place]),
                }
                for place, slot in enumerate(order)
            ]  # fmt: skip
    return pa.Table.from_pylist(rows)
