"""How often does `fit` refuse a true Luce model? The whole verdict, tests and rival rules together.

    python benchmarks/verdict_calibration.py             # 1,000 sets of each design: half an hour, 2 cores
    python benchmarks/verdict_calibration.py --sets 200

Sets of picks are drawn from Luce's model in each of nine designs and judged by the tests that the design
allows and by the rivals, as in `fit` without groups. (`fit` also asks whether picks of one score are nearly
best of K.) The level is 5 %, of which the tests have 4.5 points (Holm) and the rivals 0.5; Holm's
correction is conservative where tests depend on each other.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recurate.choices import Choices, conditional_logit
from recurate.choices.checks.held_out import compare_rules
from recurate.choices.checks.luce_checks import run_checks
from recurate.choices.checks.verdict import Verdict, judge

RESULTS = Path(__file__).parent / "results" / "verdict_calibration.md"
BETA = np.array([1.0, -0.7, 0.5])


def luce(
    rng: np.random.Generator,
    slates: int,
    k: int,
    *,
    people: int = 0,
    beta: np.ndarray = BETA,
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] | None = None,
    timed: bool = True,
) -> Choices:
    """Return picks by Luce's rule."""
    shape = (slates, k, beta.size)
    x = rng.normal(size=shape) if draw is None else draw(rng, shape)
    picked = (x @ beta + rng.gumbel(size=(slates, k))).argmax(axis=1)
    who = np.arange(slates) * people // slates if people else None
    return Choices.of(
        x.reshape(-1, beta.size), k=k, picked=picked, choosers=who, times=np.arange(slates) if timed else None
    )


def coarse(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return features with three values."""
    return rng.integers(0, 3, shape).astype(float)


def repeated(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return features of 40 slates that are shown again and again."""
    pool = rng.normal(size=(40, *shape[1:]))
    return pool[rng.integers(0, 40, shape[0])]


def items(rng: np.random.Generator, slates: int, k: int, count: int) -> Choices:
    """Return picks among items, described by indicators."""
    worth = np.linspace(-1, 1, count)
    shown = np.array([rng.permutation(count)[:k] for _ in range(slates)])
    picked = (worth[shown] + rng.gumbel(size=shown.shape)).argmax(axis=1)
    indicators = (shown[..., None] == np.arange(1, count)).astype(float)
    return Choices.of(indicators.reshape(-1, count - 1), k=k, picked=picked)


DESIGNS: dict[str, Callable[[np.random.Generator], Choices]] = {
    "600 slates of 4, 60 choosers": lambda rng: luce(rng, 600, 4, people=60),
    "600 slates of 4, no choosers": lambda rng: luce(rng, 600, 4),
    "600 slates of 4, neither choosers nor times": lambda rng: luce(rng, 600, 4, timed=False),
    "40 slates shown 15 times each, 60 choosers": lambda rng: luce(rng, 600, 4, people=60, draw=repeated),
    "1,000 pairs, one score": lambda rng: luce(rng, 1000, 2, beta=np.array([1.0])),
    "1,000 pairs, one score of three values": lambda rng: luce(
        rng, 1000, 2, beta=np.array([1.0]), draw=coarse
    ),
    "1,000 pairs of 5 items": lambda rng: items(rng, 1000, 2, 5),
    "800 slates of 3 of 6 items": lambda rng: items(rng, 800, 3, 6),
    "500 slates of 8, strong rewards": lambda rng: luce(rng, 500, 8, beta=3 * BETA),
}


def verdict_on(choices: Choices) -> Verdict:
    """Judge a set of picks as `fit` does without groups."""
    fit = conditional_logit(choices, clustered=False)
    rules = compare_rules(choices)
    return judge(run_checks(choices, fit.coefficients, fit.covariance), rules)


def refused(job: tuple[str, int]) -> tuple[str, str]:
    """Return a design's name and why its set of this number is refused, or an empty text."""
    name, number = job
    rng = np.random.default_rng([list(DESIGNS).index(name), number])
    found = verdict_on(DESIGNS[name](rng))  # every set has an estimate, or this stops
    return name, "" if found.holds else found.sentence


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=1000, help="sets of each design")
    arguments = parser.parse_args()
    jobs = [(name, number) for number in range(arguments.sets) for name in DESIGNS]
    counts = dict.fromkeys(DESIGNS, 0)
    rivals = dict.fromkeys(DESIGNS, 0)
    with multiprocessing.Pool(os.process_cpu_count() if hasattr(os, "process_cpu_count") else None) as pool:
        for name, why in pool.imap_unordered(refused, jobs, chunksize=8):
            counts[name] += why != ""
            rivals[name] += "predicts held-out picks better" in why
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    error = 100 * np.sqrt(0.05 * 0.95 / arguments.sets)
    lines = [
        "# Refusals of a true Luce model by the whole verdict",
        "",
        f"`python benchmarks/verdict_calibration.py --sets {arguments.sets}`, {date}. Standard error of a "
        f"rate of 5 %: {error:.1f} points.",
        "",
        "| design | refused | of these, a rival better |",
        "|---|---|---|",
        *(
            f"| {name} | {counts[name] / arguments.sets:.1%} | {rivals[name] / arguments.sets:.1%} |"
            for name in DESIGNS
        ),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
