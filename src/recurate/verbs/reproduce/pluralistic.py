r"""The statements of Falahati et al. 2026 (arXiv 2605.07724) in the plane, exactly and trained.

Two groups, of weights q and 1 - q, each like a disc best. The setting (centres, widths, slopes of the
rewards) is this package's choice; the statements are the paper's, checked on exact laws by
:func:`recurate.theory.bounds.check_bounds`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from recurate.log.trajectory import Trajectory
from recurate.rules import Rule
from recurate.theory.setting import Setting
from recurate.theory.survival import survival
from recurate.verbs.reproduce.claims import Claim, apart, ends, largest, last, smallest
from recurate.verbs.reproduce.experiment import Experiment, Law
from recurate.verbs.reproduce.laws import circle, closeness, gaussians, law_trajectory, nearest, plane

PAPER = "Falahati et al. 2026, arXiv 2605.07724"
RADIUS, SD, REACH = 2.0, 0.25, 3.0  # centres' circle; standard deviation of each mode; half side of the grid
FAR = 30.0  # nats between own and others' items at hard separation, for the survival law


def _law(
    modes: int,
    radius: float,
    gamma: float,
    setting: Setting,
    *,
    eps: float | None = None,
    rewards: int = 2,
    statements: bool = False,
) -> Trajectory:
    """Return the exact law of equal Gaussians around a circle, with rewards around (2, 0) and (-2, 0)."""
    points, centres = plane(REACH), circle(modes, RADIUS)
    places = ([RADIUS, 0.0], [-RADIUS, 0.0])[:rewards]
    matrix = np.stack([closeness(points, place, radius, gamma) for place in places], axis=1)
    start = gaussians(points, centres, SD)
    groups = nearest(points, centres)
    return law_trajectory(matrix, start, setting, groups, eps=eps, statements=statements)


def _run(modes: int, radius: float, gamma: float, q: float, rounds: int) -> dict[str, Any]:
    """Return the same loop at K = 4 with a trained model, a kernel density."""
    reward = {"kind": "distance", "radius": radius, "gamma": gamma}
    return {
        "rounds": rounds,
        "data": {"kind": "gaussians", "modes": modes, "radius": RADIUS, "sd": SD, "size": 5000},
        "generator": {"kind": "kde"},
        "rewards": [
            {**reward, "name": "first", "centre": [RADIUS, 0.0], "weight": q},
            {**reward, "name": "second", "centre": [-RADIUS, 0.0], "weight": 1 - q},
        ],
        "groups": {"kind": "nearest"},
        "selection": {"k": 4, "picks": 5000},
    }


def _holds(published: str, arm: str, statement: str) -> Claim:
    """Return the claim that a proved statement is not violated in an exact arm."""
    measured = f"whether the laws violate it, 1 or 0, {arm}"
    return Claim(published, measured, ends(arm, f"violated:{statement}"), False, 0.5, exact=True)


# --- disjoint basins ------------------------------------------------------------------------------

INFINITE, FINITE, ALONE = "K = infinity, exact", "K = 4, exact", "one reward, exact"
COMPROMISE, TRAINED = "compromise, exact", "K = 4, trained"
Q, MODES, BASIN, GAMMA, EPS = 0.4, 4, 0.5, 2.0, 1.0
MANY, FEW = 60, 8  # rounds of exact and of trained arms


def compromise() -> Trajectory:
    """Return the law of items with rewards (1, 0), (0, 1), (0.8, 0.8), equal weights and K = infinity."""
    rewards = [[1.0, 0.0], [0.0, 1.0], [0.8, 0.8]]
    setting = Setting(Rule(math.inf), rounds=500)
    return law_trajectory(rewards, np.ones(3), setting, ("first", "second", "outside"), statements=True)


def disjoint(scale: str, data: str) -> Experiment:
    """Return P-disjoint: two groups whose basins are disjoint."""
    weights = (Q, 1 - Q)
    law = partial(_law, MODES, BASIN, GAMMA)
    laws: dict[str, Law] = {
        INFINITE: partial(
            law, Setting(Rule(math.inf), weights=weights, rounds=MANY), eps=EPS, statements=True
        ),
        FINITE: partial(law, Setting(Rule(4), weights=weights, rounds=MANY)),
        ALONE: partial(law, Setting(Rule(math.inf), rounds=MANY), rewards=1),
        COMPROMISE: compromise,
    }
    claims = (
        _holds(
            "Lemma 3.3 with the appendix's outside domination: mass outside both basins decays geometrically",
            INFINITE,
            "outside mass, appendix (Lemma 3.3)",
        ),
        Claim(
            "Lemma 3.3 as in the main text, without outside domination: mass outside both basins decays",
            "mass outside in the last round, rewards (1, 0), (0, 1), (0.8, 0.8)",
            ends(COMPROMISE, "share", group="outside"),
            False,
            0.5,
            exact=True,
        ),
        _holds("Lemma 3.5: each basin's share stays in its interval", INFINITE, "share interval (Lemma 3.5)"),
        _holds(
            "Theorem 3.6: the rewards' variance stays above that between the basins",
            INFINITE,
            "variance between basins (Thm 3.6)",
        ),
        *(_both_kept(arm, exact=True) for arm in (INFINITE, FINITE)),
        Claim(
            "one reward alone collapses onto its own basin",
            f"share of its mode in the last round, {ALONE}",
            ends(ALONE, "share", group="0"),
            True,
            0.99,
            exact=True,
        ),
        _both_kept(TRAINED, exact=False),
        Claim(
            "mass outside both basins decays",
            f"larger share of the two other modes in the last round, {TRAINED}",
            largest(*(last(TRAINED, "share", group=g) for g in "13")),
            False,
            0.05,
        ),
    )
    return Experiment(
        "P-disjoint",
        f"Four Gaussians on a circle of radius {RADIUS:g}; two groups (weights {Q:g} and {1 - Q:g}) with "
        f"rewards -{GAMMA:g} max(0, distance - {BASIN:g}) to opposite modes; basins of depth {EPS:g}.",
        {TRAINED: _run(MODES, BASIN, GAMMA, Q, FEW)},
        claims,
        f"{PAPER}, Lemmas 3.3 and 3.5, Theorem 3.6",
        laws=laws,
    )


def _both_kept(arm: str, *, exact: bool) -> Claim:
    find = ends if exact else last
    return Claim(
        "both groups keep a share",
        f"smaller share of the two groups' modes in the last round, {arm}",
        smallest(*(find(arm, "share", group=g) for g in "02")),
        True,
        0.1,
        exact=exact,
    )


# --- plateaus -------------------------------------------------------------------------------------

QS = (0.3, 0.5, 0.7)
PLATEAU, STEEP = 1.0, 10.0  # radius of the plateaus, and slope outside them
LONG, SHORT = 100, 15  # rounds of exact and of trained arms
NEAR = 0.05  # distance of trained shares from exact ones


def plateau(scale: str, data: str) -> Experiment:
    """Return P-plateau: rewards constant on the modes, and far apart."""
    law = partial(_law, 2, PLATEAU, STEEP)
    laws: dict[str, Law] = {}
    for q in QS:
        weights = (q, 1 - q)
        endless = Setting(Rule(math.inf), weights=weights, rounds=LONG)
        laws[_arm(q, "infinity")] = partial(law, endless, eps=0.0, statements=True)
        laws[_arm(q, "4")] = partial(law, Setting(Rule(4), weights=weights, rounds=LONG))
    shares = [apart(ends(_arm(q, "infinity"), "share", group="0"), q) for q in QS]
    at_four = [apart(ends(_arm(q, "4"), "share", group="0"), survival_share(q)) for q in QS]
    trained = f"K = 4, q = {QS[0]:g}, trained"
    claims = (
        Claim(
            "Corollary 3.8: at K = infinity the limiting share is q",
            "largest distance of the last share from q, q = 0.3, 0.5, 0.7",
            largest(*shares),
            False,
            0.01,
            exact=True,
        ),
        *(
            _holds(text, _arm(q, "infinity"), statement)
            for q in QS
            for text, statement in (
                ("Theorem 3.7: the weighted Nash product is largest at q", "weighted Nash product (Thm 3.7)"),
                ("Corollary 3.8: the share's distance from q is bounded", "Nash share (Cor 3.8)"),
            )
        ),
        Claim(
            "the limiting share is q at finite K, too (not claimed in the paper)",
            "distance of the last share from q = 0.3, K = 4",
            apart(ends(_arm(QS[0], "4"), "share", group="0"), QS[0]),
            False,
            0.01,
            exact=True,
        ),
        Claim(
            "at K = 4 the share follows the survival law instead (derived here)",
            "largest distance of the last share from the law's limit, q = 0.3, 0.5, 0.7",
            largest(*at_four),
            False,
            0.01,
            exact=True,
        ),
        Claim(
            "a trained model at K = 4 follows the survival law, too (derived here)",
            f"distance of the last share from {survival_share(QS[0]):.4f}, {trained}",
            apart(last(trained, "share", group="0"), survival_share(QS[0])),
            False,
            NEAR,
        ),
    )
    return Experiment(
        "P-plateau",
        f"Two Gaussians {2 * RADIUS:g} apart; rewards -{STEEP:g} max(0, distance - {PLATEAU:g}): constant on "
        "the own mode, and hardly anything on the other.",
        {trained: _run(2, PLATEAU, STEEP, QS[0], SHORT)},
        claims,
        f"{PAPER}, Theorem 3.7 and Corollary 3.8",
        laws=laws,
    )


def _arm(q: float, k: str) -> str:
    return f"K = {k}, q = {q:g}, exact"


def survival_share(q: float, k: int = 4) -> float:
    """Return the limit of s' = q (1 - (1-s)^K) + (1-q) s^K, for groups that never like each other's items."""
    return survival([[FAR, 0.0], [0.0, FAR]], [q, 1 - q], k=k)[0].share
