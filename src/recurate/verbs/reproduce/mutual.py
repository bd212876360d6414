r"""Two models that train on each other's picks, exactly and trained, after Zhang, Wei & Zhang 2026.

*Ours* trains on a share w of the picks of *theirs*, which keeps to itself and likes the other of two
Gaussians best. The paper finds that such loops can dampen or invert the effect of curation; the thresholds
are derived in this package (:mod:`recurate.theory.several_models`), and the setting is its choice:

.. math::

    w_1 = \frac{E_{c_1} f - E_{p_1} f}{E_{c_1} f - E_{c_2} f} \text{ (round 1)}, \qquad
    1 - s_0 / g_1(s_0) \text{ (for good, two atoms)}.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from recurate.log.trajectory import FORECAST, Trajectory
from recurate.rules import Rule
from recurate.theory.models_forecast import OWN, Model, forecast_rows
from recurate.theory.setting import Setting
from recurate.theory.several_models import SeveralModels, lasting_reversal, reversal_weight
from recurate.verbs.reproduce.claims import Claim, apart, ends, gains, largest, last, less, rise
from recurate.verbs.reproduce.experiment import Experiment, Law
from recurate.verbs.reproduce.laws import bisect, circle, closeness, gaussians, numbers, plane

PAPER = "Zhang, Wei & Zhang 2026, arXiv 2605.29267"
RADIUS, SD, REACH = 2.0, 0.25, 3.0  # centres' circle; standard deviation of each mode; half side of the grid
PLATEAU, SLOPE, K = 1.0, 0.5, 4  # reward -SLOPE max(0, distance - PLATEAU): the modes' centres are 1.5 apart
ROUNDS, SETTLED = 8, 400  # rounds of the arms in the plane, and until two atoms have settled
NEAR = 0.1  # nats by which a trained own reward may differ from the exact law's
SHARES = {"weak": 0.2, "late": 0.42, "strong": 0.7}  # w
OURS, THEIRS = "ours", "theirs"
GAP = 1.5  # nats between the two atoms
CLAIMED = {
    "weak": "with weak mixing curation still raises the own reward (derived here)",
    "late": "late reversal: in the end curation lowers the own reward (derived here)",
    "strong": "strong mixing inverts the effect of curation: the own reward falls (after the paper)",
}
REVERSED, FORMULA = "share that reverses", "share by the formula"


def _models(w: float) -> tuple[Model, ...]:
    mixed = {OURS: 1 - w, THEIRS: w} if w else {OURS: 1.0}
    return (Model(OURS, ("east",), mixed), Model(THEIRS, ("west",), {THEIRS: 1.0}))


def _in_the_plane(w: float) -> SeveralModels:
    """Return both models on a grid, each the equal mixture of two Gaussians at first."""
    points = plane(REACH)
    start = gaussians(points, circle(2, RADIUS), SD)
    rewards = np.stack([closeness(points, [x, 0.0], PLATEAU, SLOPE) for x in (RADIUS, -RADIUS)], axis=1)
    laws = np.stack([start, start], axis=1)
    return SeveralModels.of(rewards, laws=laws, mixing=[[1 - w, w], [0.0, 1.0]])


def law(w: float) -> Trajectory:
    """Return the exact law where ours trains on a share w of their picks; the groups are the models."""
    played = _in_the_plane(w)
    laws = list(played.play(Setting(Rule(K), rounds=ROUNDS)))
    return Trajectory(tuple(forecast_rows(laws, played, _models(w), ("east", "west"))))


def first_round() -> Trajectory:
    """Return the share that reverses the first round, found by halving, and by its formula."""
    setting = Setting(Rule(K), rounds=1)

    def falls(w: float) -> bool:
        played = _in_the_plane(w)
        before, after = (played.own_rewards(laws)[0] for laws in played.play(setting))
        return bool(after < before)

    return numbers(**{REVERSED: bisect(falls, 0.0, 1.0), FORMULA: reversal_weight(_in_the_plane(0), setting)})


def for_good() -> Trajectory:
    """Return the share above which ours ends below its start, on two atoms, by halving and by the formula.

    Theirs has settled on its favourite.
    """
    setting = Setting(Rule(K), rounds=SETTLED)

    def ends_below(w: float) -> bool:
        laws = [[0.5, 0.0], [0.5, 1.0]]
        pair = SeveralModels.of([[GAP, 0.0], [0.0, GAP]], laws=laws, mixing=[[1 - w, w], [0.0, 1.0]])
        *_, last_law = pair.play(setting)
        return bool(last_law[0, 0] < 0.5)

    formula = lasting_reversal(0.5, Rule(K), GAP)
    return numbers(**{REVERSED: bisect(ends_below, 0.0, 1.0, steps=30), FORMULA: formula})


def _run(w: float) -> dict[str, Any]:
    """Return the same loop with trained models, kernel densities."""
    reward = {"kind": "distance", "radius": PLATEAU, "gamma": SLOPE}
    return {
        "rounds": ROUNDS,
        "data": {"kind": "gaussians", "modes": 2, "radius": RADIUS, "sd": SD, "size": 4000},
        "generator": {"kind": "kde"},
        "rewards": [
            {**reward, "name": "east", "centre": [RADIUS, 0.0]},
            {**reward, "name": "west", "centre": [-RADIUS, 0.0]},
        ],
        "groups": {"kind": "nearest"},
        "selection": {"k": K, "picks": 4000},
        "models": [
            {"name": m.name, "rewards": list(m.rewards), "trains_on": dict(m.trains_on)} for m in _models(w)
        ],
    }


def mutual(scale: str, data: str) -> Experiment:
    """Return mutual: a model that trains on another one's picks, weakly and strongly."""
    exact = {name: f"{name} mixing (w = {w:g}), exact" for name, w in SHARES.items()}
    trained = {name: f"{name} mixing (w = {w:g}), trained" for name, w in SHARES.items()}
    laws: dict[str, Law] = {exact[name]: partial(law, w) for name, w in SHARES.items()}
    laws |= {"alone": partial(law, 0.0), "first round": first_round, "for good": for_good}
    following = [
        apart(last(arm, OWN, group=OURS), last(arm, OWN, group=OURS, source=FORECAST))
        for arm in trained.values()
    ]
    claims = (
        Claim(
            "training on each other's picks dampens curation (after the paper)",
            "gain of the own reward alone minus that with weak mixing",
            less(gains("alone", OWN, group=OURS), gains(exact["weak"], OWN, group=OURS)),
            True,
            0.0,
            exact=True,
        ),
        *(
            Claim(
                published,
                f"own reward, last round minus round 0, {arms[name]}",
                find(arms[name], OWN, group=OURS),
                name == "weak",
                0.0,
                exact=arms is exact,
            )
            for arms, find in ((exact, gains), (trained, rise))
            for name, published in CLAIMED.items()
        ),
        Claim(
            "late reversal: it first helps (derived here)",
            f"own reward, round 1 minus round 0, {exact['late']}",
            gains(exact["late"], OWN, group=OURS, until=1),
            True,
            0.0,
            exact=True,
        ),
        Claim(
            "late reversal: it first helps (derived here)",
            f"own reward, round 1 minus round 0, {trained['late']}",
            rise(trained["late"], OWN, group=OURS, until=1),
            True,
            0.0,
        ),
        *(
            Claim(
                f"the own reward {what} above {formula} (derived here)",
                f"distance of the share found by halving from the formula, {where}",
                apart(ends(arm, REVERSED), ends(arm, FORMULA)),
                False,
                1e-6,
                exact=True,
            )
            for arm, what, formula, where in (
                ("first round", "falls in round 1", "w_1", "in the plane"),
                ("for good", "ends below its start", "1 - s_0 / g(s_0)", "two atoms"),
            )
        ),
        Claim(
            "trained models follow the exact law from their candidates of round 0 (derived here)",
            "largest distance of the own reward of ours in the last round, all trained arms",
            largest(*following),
            False,
            NEAR,
        ),
    )
    return Experiment(
        "mutual",
        f"Two Gaussians {2 * RADIUS:g} apart, and two models that like one of them best, rewards -{SLOPE:g} "
        f"max(0, distance - {PLATEAU:g}); ours trains on a share w of their picks, theirs on its own alone.",
        {trained[name]: _run(w) for name, w in SHARES.items()},
        claims,
        PAPER,
        laws=laws,
    )
