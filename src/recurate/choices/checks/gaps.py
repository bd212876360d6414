r"""How often the better of two candidates is picked, by the gap between their rewards.

Under Luce's rule, whatever else the slate holds, the better of two candidates of which one is picked is the
pick with the probability 1 / (1 + exp(-gap)), the Bradley-Terry model. Each slate gives the pick paired with
every other candidate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recurate.choices.checks.score_tests import clusters_of
from recurate.choices.checks.statistics import wilson
from recurate.choices.table import Choices
from recurate.core.arrays import BoolArray, FloatArray, IntArray

BINS = 6  # of about equal numbers of pairs
FEWEST = 20  # pairs per bin


@dataclass(frozen=True)
class Gap:
    """Pairs of a pick and another candidate whose rewards differ by about as much.

    Attributes:
        gap: Mean gap of the rewards at temperature 1.
        pairs: Number of pairs.
        better: Share in which the better one was picked.
        interval: 95 % interval of this share; pairs of a slate, or of a chooser, are dependent.
        luce: The share under Luce's rule with the fitted rewards.
    """

    gap: float
    pairs: int
    better: float
    interval: tuple[float, float]
    luce: float


def reward_gaps(choices: Choices, worth: FloatArray) -> list[Gap]:
    """Return the gaps in bins, the smallest first; empty with fewer than ``FEWEST`` pairs.

    Args:
        choices: Slates and picks, without ties.
        worth: Fitted rewards at temperature 1, (rows,).
    """
    index = choices.slates.index()
    others = np.ones(worth.size, bool)
    others[choices.picked_rows] = False
    rows = np.flatnonzero(others)
    difference = worth[choices.picked_rows][index[rows]] - worth[rows]
    unequal = difference != 0
    slates, gap, won = index[rows][unequal], np.abs(difference[unequal]), difference[unequal] > 0
    if gap.size < FEWEST:
        return []
    count = min(BINS, gap.size // FEWEST)
    cuts = np.unique(np.quantile(gap, np.linspace(0, 1, count + 1)[1:-1]))
    place = np.searchsorted(cuts, gap, side="right")
    weights = (np.ones(len(choices)) if choices.weights is None else choices.weights)[slates]
    clusters = clusters_of(choices)
    codes = slates if clusters is None else clusters[slates]
    luce = 1 / (1 + np.exp(-gap))
    return [
        _bin(gap[own], won[own], luce[own], weights[own], codes[own])
        for own in (place == b for b in range(cuts.size + 1))
        if own.any()
    ]


def _bin(gap: FloatArray, won: BoolArray, luce: FloatArray, weights: FloatArray, codes: IntArray) -> Gap:
    """Return one bin, whose interval counts as many pairs as vary like its clusters' sums."""
    total = float(weights.sum())
    better, expected = float(weights @ won) / total, float(weights @ luce) / total
    sums = np.bincount(np.unique(codes, return_inverse=True)[1].ravel(), weights * (won - better))
    variance = float(np.square(sums).sum()) / total**2
    single = better * (1 - better)
    count = single / variance if single * variance > 0 else float(gap.size)
    return Gap(float(weights @ gap) / total, gap.size, better, wilson(better, count), expected)
