"""Simulated picks, and plain loops to compare estimates with; nothing here is shared with what is tested."""

from __future__ import annotations

import itertools
import math
import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from recurate.choices import Choices

TRUE = np.array([1.0, -0.7, 0.5])
# Eighth-order central differences: the error is about step^8.
WEIGHTS = (4 / 5, -1 / 5, 4 / 105, -1 / 280)


def draw(
    utilities: np.ndarray, rng: np.random.Generator, *, noise: str = "gumbel", lapse: float = 0.0
) -> np.ndarray:
    """Return the slot of the largest utility plus noise, (slates,), for utilities (slates, k)."""
    noises = {
        "gumbel": lambda: rng.gumbel(size=utilities.shape),
        "gaussian": lambda: rng.standard_normal(utilities.shape),
        "none": lambda: np.zeros(utilities.shape),
    }
    picked = np.argmax(utilities + noises[noise](), axis=1)
    lapsed = rng.random(len(utilities)) < lapse
    return np.where(lapsed, rng.integers(0, utilities.shape[1], len(utilities)), picked)


def luce(
    rng: np.random.Generator,
    *,
    slates: int = 300,
    k: int = 4,
    beta: np.ndarray = TRUE,
    choosers: int | None = None,
    noise: str = "gumbel",
    lapse: float = 0.0,
) -> Choices:
    """Return picks by a rule, one after the other, from slates of k with standard normal features."""
    x = rng.normal(size=(slates, k, len(beta)))
    picked = draw(x @ beta, rng, noise=noise, lapse=lapse)
    who = None if choosers is None else np.arange(slates) * choosers // slates
    return Choices.of(x.reshape(-1, len(beta)), k=k, picked=picked, choosers=who, times=np.arange(slates))


def ragged(
    rng: np.random.Generator,
    *,
    slates: int = 200,
    beta: np.ndarray = TRUE,
    choosers: int | None = None,
    weighted: bool = False,
) -> Choices:
    """Return Luce picks from slates of two to six candidates, choosers shuffled."""
    sizes = rng.integers(2, 7, slates)
    offsets = np.r_[0, np.cumsum(sizes)]
    x = rng.normal(size=(offsets[-1], len(beta)))
    noisy = x @ beta + rng.gumbel(size=len(x))
    picked = np.array([noisy[a:b].argmax() for a, b in itertools.pairwise(offsets)])
    return Choices.of(
        x,
        offsets=offsets,
        picked=picked,
        choosers=None if choosers is None else rng.permutation(np.arange(slates) % choosers),
        weights=rng.uniform(0.3, 3.0, slates) if weighted else None,
    )


# --- plain loops ----------------------------------------------------------------------------------


def one_by_one(choices: Choices) -> list[tuple[list[list[float]], int, float, int]]:
    """Return (features of the candidates, slot of the pick, weight, chooser) of every slate."""
    out = []
    for s in range(len(choices)):
        a, b = int(choices.slates.offsets[s]), int(choices.slates.offsets[s + 1])
        weight = 1.0 if choices.weights is None else float(choices.weights[s])
        who = s if choices.choosers is None else int(choices.choosers[s])
        out.append((choices.features[a:b].tolist(), int(choices.picked[s]), weight, who))
    return out


def plain_log(candidates: Sequence[Sequence[float]], pick: int, beta: Sequence[float]) -> float:
    """Return the log of exp(u_pick) / sum exp(u), a loop in plain Python."""
    assert len(candidates[0]) == len(beta)  # rows of one array
    u = [sum(map(operator.mul, row, beta)) for row in candidates]
    top = max(u)
    return u[pick] - top - math.log(sum([math.exp(v - top) for v in u]))


def plain_value(slates: list[Any], beta: np.ndarray) -> float:
    """Return the weighted log-likelihood."""
    b = beta.tolist()
    return math.fsum(weight * plain_log(x, pick, b) for x, pick, weight, _ in slates)


def plain_scores(slates: list[Any], beta: np.ndarray) -> dict[int, np.ndarray]:
    """Return each chooser's gradient sum_s w (x_pick - sum_k p_k x_k)."""
    scores: dict[int, np.ndarray] = {}
    for x, pick, weight, who in slates:
        chances = [math.exp(plain_log(x, k, beta.tolist())) for k in range(len(x))]
        score = np.array(x[pick]) - sum(p * np.array(row) for p, row in zip(chances, x, strict=True))
        scores[who] = scores.get(who, 0.0) + weight * score
    return scores


def plain_information(slates: list[Any], beta: np.ndarray) -> np.ndarray:
    """Return sum_s w (E x x' - E x E x')."""
    total = np.zeros((beta.size, beta.size))
    for x, _, weight, _ in slates:
        chances = [math.exp(plain_log(x, k, beta.tolist())) for k in range(len(x))]
        mean = sum(p * np.array(row) for p, row in zip(chances, x, strict=True))
        second = sum(p * np.outer(row, row) for p, row in zip(chances, x, strict=True))
        total += weight * (second - np.outer(mean, mean))
    return total


def jacobian_of(f: Callable[[np.ndarray], Any], x: np.ndarray, step: float = 0.02) -> np.ndarray:
    """Return the derivatives of f (a number or an array) by each entry of x, as the last axis."""
    columns = []
    for j in range(x.size):
        e = np.zeros(x.size)
        e[j] = step
        parts = [w * (np.asarray(f(x + n * e)) - np.asarray(f(x - n * e))) for n, w in enumerate(WEIGHTS, 1)]
        columns.append(sum(parts) / step)
    return np.stack(columns, axis=-1)


def hessian_of(f: Callable[[np.ndarray], float], x: np.ndarray, step: float = 0.05) -> np.ndarray:
    """Return the second derivatives of f: differences of differences, each point evaluated once."""
    moves = [(n * sign, w * sign) for n, w in enumerate(WEIGHTS, 1) for sign in (1, -1)]
    out = np.empty((x.size, x.size))
    for i, j in itertools.combinations_with_replacement(range(x.size), 2):
        shares: dict[tuple[int, int], float] = {}
        for (n, v), (m, w) in itertools.product(moves, moves):
            place = (n, m) if i != j else (n + m, 0)
            shares[place] = shares.get(place, 0.0) + v * w
        total = 0.0
        for (n, m), share in shares.items():
            moved = x.copy()
            moved[i] += n * step
            moved[j] += m * step
            total += share * f(moved)
        out[i, j] = out[j, i] = total / step**2
    return out


# --- statistics of tests --------------------------------------------------------------------------


def bounds(n: int, p: float, alarm: float) -> tuple[int, int]:
    """Return (low, high): a binomial(n, p) number lies outside with probability at most ``alarm``."""
    return int(binom.ppf(alarm / 2, n, p)), int(binom.isf(alarm / 2, n, p))


def data_folder() -> Path:
    """Return the folder of real data, or skip the test that asks for it."""
    place = os.environ.get("RECURATE_DATA")
    if not place:
        pytest.skip("needs real data: set RECURATE_DATA to their folder")
    return Path(place)
