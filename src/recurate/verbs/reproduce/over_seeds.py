"""Several seeds as one trajectory: means with intervals over the seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from recurate.log.trajectory import Row, Trajectory


def over_seeds(runs: Sequence[Trajectory]) -> Trajectory:
    """Return the mean of every value that all runs have, with Student's 95 % interval over the runs.

    Forecast and measured values alike; with one run there are no intervals.
    """
    values: dict[tuple[int, str, tuple[str, str | None, str | None]], list[float]] = defaultdict(list)
    for found in runs:
        for row in found.rows:
            values[row.round, row.source, row.key].append(row.value)
    rows = []
    for (t, source, (quantity, reward, group)), numbers in values.items():
        if len(numbers) == len(runs):
            mean, reach = mean_and_reach(numbers)
            lower, upper = (None, None) if math.isinf(reach) else (mean - reach, mean + reach)
            rows.append(Row(t, source, quantity, mean, reward, group, lower, upper))
    return Trajectory(tuple(rows))


def mean_and_reach(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and half the width of its 95 % interval by Student's t (infinite for one value)."""
    numbers = np.asarray(values, float)
    if numbers.size < 2:
        return float(numbers.mean()), math.inf
    from scipy.special import stdtrit

    spread = float(numbers.std(ddof=1)) / math.sqrt(numbers.size)
    return float(numbers.mean()), float(stdtrit(numbers.size - 1, 0.975)) * spread


def shown(values: Sequence[float], digits: int = 3) -> str:
    """Return the mean in words, with its 95 % interval where there is one, such as ``0.512 ± 0.03``."""
    mean, reach = mean_and_reach(values)
    least = 10.0**-digits
    interval = f"{reach:.2g}" if reach >= least else f"<{least:g}"
    return f"{mean:.{digits}f}" + ("" if math.isinf(reach) else f" ± {interval}")
