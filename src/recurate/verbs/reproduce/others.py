r"""Further experiments of the literature as exact laws, in the limit of infinite data; one also trained.

Settings are this package's choice. Claims that no publication makes say so ("derived here").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from recurate.core.arrays import FloatArray
from recurate.core.seeds import Stream
from recurate.log.trajectory import MEASURED, Row, Trajectory
from recurate.rules import Rule
from recurate.theory.population import Population
from recurate.theory.setting import Setting, Stage
from recurate.verbs.reproduce.claims import Claim, apart, ends, gains, largest, last, less, rise, smallest
from recurate.verbs.reproduce.experiment import Experiment, Law
from recurate.verbs.reproduce.laws import bisect, closeness, law_trajectory, numbers, plane

ALIGNMENT = "Falahati et al. 2026, The Alignment Game, arXiv 2511.12804"
ADVERSARIAL = "Wei & Zhang 2025, arXiv 2505.09768"
HETEROGENEOUS = "Zhao, Fu & Pham 2025, arXiv 2511.09002"

# --- an owner and the public, in turn -------------------------------------------------------------

GAP = 60.0  # nats by which each of two opposed parties prefers its own items
TURNS = 100
BELOW, EVEN = 0.35, 0.5  # shares of the owner's items at the start
LAST = "threshold"
Rewards = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
POINTS, GAUSSIANS, LARGE = 1000, 20, 8  # of trained loops: picks a round, components, slate size of discs
SIDES, DISCS = "trained, from {:g}", "trained, discs"


def _in_turn(k: float, *, owner_first: bool) -> Setting:
    """Return rounds in which the owner (reward 1) and the public (reward 2) pick in turn, K = k each."""
    owner, public = (1.0, 0.0), (0.0, 1.0)
    one, two = (owner, public) if owner_first else (public, owner)
    return Setting(Rule(k), weights=one, rounds=TURNS, then=(Stage(Rule(k), two),))


def opposed(share: float, k: float, *, owner_first: bool = True) -> Trajectory:
    """Return the law of an owner's and the public's item, of shares s and 1 - s at the start.

    With the owner first at K = 2, s' = (1 - (1-s)^2)^2.
    """
    rewards, start = [[GAP, 0.0], [0.0, GAP]], [share, 1 - share]
    return law_trajectory(rewards, start, _in_turn(k, owner_first=owner_first), ("owner", "public"))


@cache
def threshold(k: float, *, owner_first: bool = True) -> Trajectory:
    """Return the share above which the owner's item takes all, and below which it dies out."""
    setting = _in_turn(k, owner_first=owner_first)
    population = Population([[GAP, 0.0], [0.0, GAP]])

    def wins(share: float) -> bool:
        law = np.array([share, 1 - share])
        for _ in range(TURNS):
            law = population.step(law, setting)
        return bool(law[0] > 0.5)

    return numbers(**{LAST: bisect(wins, 0.0, 1.0, steps=30)})


def discs() -> Trajectory:
    """Return the law on [-5, 5]^2 from a uniform start at K = infinity, discs of radius 1 at (+-2, 0)."""
    points = plane(5.0)
    ours, theirs = (closeness(points, [x, 0.0], 1.0, 2.0) for x in (2.0, -2.0))
    groups = np.where(ours == 0, "owner", np.where(theirs == 0, "public", "outside"))
    rewards = np.stack([ours, theirs], axis=1)
    setting = _in_turn(math.inf, owner_first=True)
    return law_trajectory(rewards, np.ones(len(points)), setting, list(groups))


def _judged(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the owner's and the public's rewards of points (n, 2): of opposed sides of the plane."""
    ours = np.where(points[:, 0] > 0, GAP, 0.0)
    return ours, GAP - ours


def _in_discs(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the owner's and the public's rewards of points (n, 2): of the discs."""
    ours, theirs = (closeness(points, [x, 0.0], 1.0, 2.0) for x in (2.0, -2.0))
    return ours, theirs


def _turns(start: FloatArray, rewards: Rewards, top: float, k: int, stream: Stream) -> Trajectory:
    """Return the measured shares of a mixture of Gaussians that owner and public retrain in turn.

    Args:
        start: Points that the first model is fitted to, shape (n, 2).
        rewards: Function that returns the owner's and the public's rewards, (n,) each.
        top: Reward of what somebody likes best.
        k: Slate size of both.
        stream: The random stream.
    """
    from recurate.components.generators.mixture import Mixture, MixtureSettings  # of the extra run

    model = Mixture(MixtureSettings(components=GAUSSIANS)).fit(start, rng=stream.at("first"))
    rule, rows = Rule(k), []
    for t in range(TURNS + 1):
        now = stream.at("round", t)
        points = model.sample(POINTS * k * k, rng=now.at("sample"))
        rows += _shares(t, *rewards(points), top)
        for chooser, place in (("owner", 0), ("public", 1)):
            own = rewards(points)[place].reshape(-1, k)
            slots = rule.draw(own, now.at(chooser).generator())
            points = points.reshape(-1, k, 2)[np.arange(len(own)), slots]
        if t < TURNS:
            model = model.fit(points, rng=now.at("fit"))
    return Trajectory(tuple(rows))


def _shares(t: int, ours: FloatArray, theirs: FloatArray, top: float) -> list[Row]:
    """Return the shares of what owner and public like best, by their rewards, and of all else."""
    parts = {"owner": ours == top, "public": theirs == top, "outside": (ours != top) & (theirs != top)}
    return [Row(t, MEASURED, "share", float(here.mean()), group=name) for name, here in parts.items()]


def two_sides(share: float, seed: int) -> Trajectory:
    """Return the loop on two clusters, of which the owner likes one, K = 2 each."""
    stream = Stream(seed).at("A-disjoint", "sides", str(share))
    draw = stream.at("data").generator()
    side = np.where(draw.random(POINTS) < share, 2.0, -2.0)
    start = np.stack([side, np.zeros(POINTS)], axis=1) + 0.3 * draw.standard_normal((POINTS, 2))
    return _turns(start.astype(np.float32), _judged, GAP, 2, stream)


def two_discs(seed: int) -> Trajectory:
    """Return the loop from points that are uniform on [-5, 5]^2, K = LARGE each, with the paper's numbers."""
    stream = Stream(seed).at("A-disjoint", "discs")
    start = stream.at("data").generator().uniform(-5.0, 5.0, (POINTS, 2))
    return _turns(start.astype(np.float32), _in_discs, 0.0, LARGE, stream)


def _trained_claims(decides: str) -> list[Claim]:
    """Return the claims about mixtures of Gaussians."""
    arms = {
        f"two clusters, K = 2 each, from {EVEN:g}": SIDES.format(EVEN),
        f"two clusters, K = 2 each, from {BELOW:g}": SIDES.format(BELOW),
        f"two discs in the plane, K = {LARGE} each": DISCS,
    }
    wins = [
        Claim(
            decides,
            f"share of the owner's points in the last round, trained: {what}",
            last(arm, "share", group="owner"),
            True,
            0.99,
        )
        for what, arm in arms.items()
    ]
    follows = [
        Claim(
            "the trained loop ends where the exact law does (this package's)",
            f"distance of the owner's share in the last round from the law's, from {share:g}",
            apart(last(SIDES.format(share), "share", group="owner"), ends(law, "share", group="owner")),
            False,
            0.01,
        )
        for share, law in ((EVEN, "even"), (BELOW, "below"))
    ]
    return [*wins, *follows]


def alignment_game(scale: str, data: str) -> Experiment:
    """Return A-disjoint: an owner, then the public, with disjoint preferences."""
    decides = "the owner decides the support where preferences are disjoint"
    laws: dict[str, Law] = {
        "even": partial(opposed, EVEN, 2),
        "below": partial(opposed, BELOW, 2),
        "endless": discs,
        "owner first": partial(threshold, 2),
        "public first": partial(threshold, 2, owner_first=False),
        "three": partial(threshold, 3),
    }
    wins = [
        Claim(decides, f"share of the owner's items in the last round, {what}", share, True, 0.99, exact=True)
        for what, share in (
            (f"K = 2 each, from {EVEN:g}", ends("even", "share", group="owner")),
            (f"K = 2 each, from {BELOW:g}", ends("below", "share", group="owner")),
            ("K = infinity each, two discs in the plane", ends("endless", "share", group="owner")),
        )
    ]
    thresholds = [
        Claim(
            f"bistable: the owner wins from a share above {value:.6g} only (derived here)",
            f"distance of the threshold from {value:.6g}, {what}",
            apart(ends(arm, LAST), value),
            False,
            width,
            exact=True,
        )
        for arm, what, value, width in (
            ("owner first", "owner first, K = 2 each", 0.381966, 1e-5),
            ("public first", "public first, K = 2 each", 0.618034, 1e-5),
            ("three", "owner first, K = 3 each", 0.318, 1e-3),
        )
    ]
    return Experiment(
        "A-disjoint",
        "An owner and then the public pick from slates in every round and never like each other's items; "
        "and two discs in the plane, rewards -2 max(0, distance - 1). Trained: a mixture of "
        f"{GAUSSIANS} Gaussians on {POINTS:,} points a round, {TURNS} rounds.",
        {},
        (*wins, *thresholds, *_trained_claims(decides)),
        ALIGNMENT,
        laws=laws,
        played={
            **{SIDES.format(share): partial(two_sides, share) for share in (EVEN, BELOW)},
            DISCS: two_discs,
        },
    )


# --- adversarial picks ----------------------------------------------------------------------------

KS = (2.0, 4.0, math.inf)
SPREAD, ITEMS, ATTACKED = 2.0, 21, 2000  # range of rewards, in nats; items; rounds
ASIDE = 0.05  # distance from the share from which on the worst item enters, and from a half
TRAINED = (0.1, 0.5 - ASIDE, 0.5 + ASIDE)  # shares of adversarial picks in trained loops, K = 4
PLAYED, FINE = 20, 400  # rounds of these; items of the laws beside them
FAR, NEAR = 100.0, 0.1  # distance of the points that rewards are distances from; largest distance of a mean


def _attack(k: float, share: float, rounds: int = ATTACKED, items: int = ITEMS) -> tuple[Population, Setting]:
    """Return items of rewards 0 to SPREAD, of which slates a share is picked by -r in place of r."""
    rewards = np.linspace(0.0, SPREAD, items)
    population = Population(np.stack([rewards, -rewards], axis=1))
    return population, Setting(Rule(k), weights=(1 - share, share), rounds=rounds)


@cache
def flip(k: float) -> float:
    """Return the share of adversarial picks from which on the best item no longer keeps all mass.

    Where the best item has all mass, the others grow by their invasion multipliers, linear in the share.
    """
    best = np.eye(ITEMS)[-1]

    def enters(share: float) -> bool:
        population, setting = _attack(k, share)
        return bool(population.multiplier(best, setting.rule, setting.weights)[:-1].max() > 1)

    return bisect(enters, 0.0, 1.0)


def two_items(k: float) -> float:
    """Return the same share for the best and the worst item alone, in closed form.

    With g = SPREAD, the worst item's multiplier is (1-s) A + s B, A = K / (1 + (K-1) e^g) and
    B = K / (1 + (K-1) e^-g); at K = infinity A = e^-g and B = e^g.
    """
    up = math.exp(SPREAD)
    if math.isinf(k):
        a, b = 1 / up, up
    else:
        a, b = k / (1 + (k - 1) * up), k / (1 + (k - 1) / up)
    return (1 - a) / (b - a)


def attacked(k: float, share: float, rounds: int = ATTACKED, items: int = ITEMS) -> Trajectory:
    """Return the exact law where a share of the slates is picked by the opposite of the users' reward."""
    population, setting = _attack(k, share, rounds, items)
    groups = ["best" if i == items - 1 else "worst" if i == 0 else "between" for i in range(items)]
    return law_trajectory(population.rewards, population.law, setting, groups)


def _attacked_run(share: float) -> dict[str, Any]:
    """Return the configuration of a loop in the plane: users prefer large x, the adversary small x."""
    sides = (("users", 1 + FAR, 1 - share), ("adversary", -FAR, share))
    rewards = [
        {
            "kind": "distance", "name": name, "weight": weight, "centre": [x, 0.5], "radius": FAR,
            "gamma": SPREAD,
        }
        for name, x, weight in sides
    ]  # fmt: skip
    return {
        "rounds": PLAYED,
        "data": {"kind": "uniform"},
        "generator": {"kind": "mixture", "components": 40, "covariance": "diag"},
        "rewards": rewards,
        "selection": {"k": 4, "picks": 4000},
    }


def _entering(k: float) -> tuple[dict[str, Law], list[Claim]]:
    """Return the laws beside the share from which on the worst item enters, and the claims about them."""
    low, high, exact = f"below, K = {k:g}", f"above, K = {k:g}", f"flip, K = {k:g}"
    laws: dict[str, Law] = {
        low: partial(attacked, k, flip(k) - ASIDE),
        high: partial(attacked, k, flip(k) + ASIDE),
        exact: partial(_flip_numbers, k),
    }
    return laws, [
        Claim(
            "the loop is robust against a small share of adversarial picks (after the abstract)",
            f"share of the best item in the last round, {flip(k) - ASIDE:.3f} adversarial, K = {k:g}",
            ends(low, "share", group="best"),
            True,
            0.99,
            exact=True,
        ),
        Claim(
            "a larger share of them misaligns the model (after the abstract; how far, and the bound .9 just "
            "beyond the share from which on the worst item enters, are this package's)",
            f"share of the best item in the last round, {flip(k) + ASIDE:.3f} adversarial, K = {k:g}",
            ends(high, "share", group="best"),
            False,
            0.9,
            exact=True,
        ),
        Claim(
            f"the worst item enters from the share {two_items(k):.4f} on, set by best and worst item alone "
            "(derived here)",
            f"distance of the invasion threshold of all {ITEMS} items from it, K = {k:g}",
            apart(ends(exact, LAST), two_items(k)),
            False,
            1e-6,
            exact=True,
        ),
    ]


def _majority(k: float) -> tuple[dict[str, Law], Claim]:
    arm = f"minority, K = {k:g}"
    return {arm: partial(attacked, k, 0.5 - ASIDE)}, Claim(
        "the best item keeps more than the worst up to half of adversarial picks (derived here: symmetry)",
        f"share of the best item minus that of the worst, last round, {0.5 - ASIDE:g} adversarial, K = {k:g}",
        less(ends(arm, "share", group="best"), ends(arm, "share", group="worst")),
        True,
        0.0,
        exact=True,
    )


def _attacked_claims() -> list[Claim]:
    """Return the claims about trained loops."""
    name = "trained, {:g} adversarial".format
    moves = [
        Claim(
            f"trained, {share:g} adversarial: the users' reward {'rises' if share < 0.5 else 'falls'}",
            f"users' mean reward, round {PLAYED} minus round 0, K = 4",
            rise(name(share), "mean_reward", reward="users"),
            share < 0.5,
            0.0,
        )
        for share in TRAINED
    ]
    follows = Claim(
        "the trained loops follow the exact laws (this package's)",
        f"largest distance of the change of the users' mean reward from the law's in {PLAYED} rounds, K = 4",
        largest(
            *(
                apart(
                    rise(name(share), "mean_reward", reward="users"),
                    gains(f"law, {share:g} adversarial", "mean_reward", reward="1"),
                )
                for share in TRAINED
            )
        ),
        False,
        NEAR,
    )
    return [*moves, follows]


def adversarial(scale: str, data: str) -> Experiment:
    """Return adversarial: a share of slates is picked by the opposite of the users' reward."""
    laws: dict[str, Law] = {}
    claims = []
    for k in KS:
        own, found = _entering(k)
        half, claim = _majority(k)
        laws |= own | half
        claims += [*found, claim]
    laws |= {f"law, {s:g} adversarial": partial(attacked, 4, s, PLAYED, FINE) for s in TRAINED}
    return Experiment(
        "adversarial",
        f"{ITEMS} items with rewards from 0 to {SPREAD:g}; a share of slates is picked by -r. Trained: "
        f"points in the plane with such rewards, a mixture of 40 Gaussians, K = 4, {PLAYED} rounds.",
        {f"trained, {share:g} adversarial": _attacked_run(share) for share in TRAINED},
        (*claims, *_attacked_claims()),
        ADVERSARIAL,
        laws=laws,
    )


def _flip_numbers(k: float) -> Trajectory:
    return numbers(**{LAST: flip(k)})


# --- people who differ ----------------------------------------------------------------------------

PEOPLE = (0.45, 0.35, 0.2)  # weights of three groups
OWN, SHARED = 4.0, 2.5  # reward of a group's own item, and everybody's of the common one
SETTLED, REAL = 400, 0.2  # rounds; share of real data
OF_ALL = ("first", "second", "third", "common")


def _people(*, averaged: bool) -> FloatArray:
    """Return rewards of three items that a group each likes best, and one that all like less."""
    rewards = np.vstack([OWN * np.eye(3), np.full(3, SHARED)])
    return (rewards @ np.array(PEOPLE))[:, None] if averaged else rewards


def people(k: float, *, averaged: bool, real: float = 0.0, start: tuple[float, ...] = ()) -> Trajectory:
    """Return the law where picks follow each person's own reward, or their average."""
    weights = None if averaged else PEOPLE
    setting = Setting(Rule(k), weights=weights, rounds=SETTLED, real_fraction=real)
    law, reference = np.array(start or (0.25,) * 4), np.full(4, 0.25)
    return law_trajectory(_people(averaged=averaged), law, setting, OF_ALL, reference=reference)


def heterogeneous(scale: str, data: str) -> Experiment:
    """Return heterogeneous: curation by each person's own reward, and by the average of all."""
    one, other = (0.97, 0.01, 0.01, 0.01), (0.01, 0.01, 0.97, 0.01)
    laws: dict[str, Law] = {"averaged": partial(people, 4, averaged=True)}
    laws |= {f"K = {k:g}": partial(people, k, averaged=False) for k in KS}
    laws |= {
        "real, one start": partial(people, 4, averaged=False, real=REAL, start=one),
        "real, other start": partial(people, 4, averaged=False, real=REAL, start=other),
    }
    survive = [
        Claim(
            f"curated by each person, {what} at K = {k:g} (derived here)",
            f"{'smallest share of a group' if above else 'share of the third group'}'s items, last round",
            smallest(*(ends(f"K = {k:g}", "share", group=g) for g in OF_ALL[:3]))
            if above
            else ends(f"K = {k:g}", "share", group="third"),
            above,
            0.01,
            exact=True,
        )
        for k, what, above in (
            (2.0, "the smallest group dies out", False),
            (math.inf, "all groups' items survive", True),
        )
    ]
    gaps = [
        apart(ends("real, one start", "share", group=g), ends("real, other start", "share", group=g))
        for g in OF_ALL
    ]
    claims = (
        Claim(
            "curated by the averaged reward, only the common item survives (derived here)",
            "share of the common item in the last round",
            ends("averaged", "share", group="common"),
            True,
            0.99,
            exact=True,
        ),
        *survive,
        Claim(
            "with real data retraining under heterogeneous preferences converges",
            f"largest distance of shares from two starts, last round, K = 4, {REAL:g} real data",
            largest(*gaps),
            False,
            1e-6,
            exact=True,
        ),
    )
    return Experiment(
        "heterogeneous",
        f"Three groups (weights {', '.join(map(str, PEOPLE))}); each likes an item of its own ({OWN:g}), not "
        f"the others' (0), and all like a common one ({SHARED:g}).",
        {},
        claims,
        HETEROGENEOUS,
        laws=laws,
    )
