r"""Real data that cover a part of the rewards only: exact laws, and Gaussian mixtures that are retrained.

Rewards lie evenly in [-4, 0], and real data cover the lowest part c of them: p_ref is uniform on the items
with r <= -4 + 4 c. K = 4, Luce's rule at temperature 1. A trained arm has points in the plane whose reward is
4 (x - 1), up to 0.005 (the distance from a far point), real data that are uniform on [0, c] x [0, 1], and a
mixture of Gaussians as the model.

With lambda curated data per real data, a = lambda / (1 + lambda), mass where p_ref has none obeys
p_{t+1} = a H p_t with H <= K: if lambda < 1 / (K-1), that is a K < 1, it dies out at least as fast as
(a K)^t, however good it is (derived here). Theorem 2.4's bound -log(1 - lambda (K-1)) is about loops with
p_0 = p_ref, and does not depend on c; the divergence that selection reaches below it does.

The bounds of the trained arms that the theorems do not give were chosen after one trial with seed 0.
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any

import numpy as np

from recurate.log.trajectory import FORECAST, MEASURED, Trajectory
from recurate.report.overlays import beside_chart
from recurate.report.sections import Section
from recurate.rules import Rule
from recurate.theory.setting import Setting
from recurate.verbs.reproduce.claims import (
    Claim,
    Runs,
    ends,
    gains,
    largest,
    last,
    ratio,
    rise,
    smallest,
)
from recurate.verbs.reproduce.experiment import Arms, Experiment, Law
from recurate.verbs.reproduce.laws import law_trajectory
from recurate.verbs.reproduce.over_seeds import over_seeds

SOURCE = "Ferbach et al. 2024, arXiv 2407.09499, Theorems 2.3 and 2.4"
PARTS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)  # parts of the range of rewards that real data cover
LITTLE = tuple(part for part in PARTS if part <= 0.2)
WIDE, FINE, STEADY = 4.0, 400, 60  # range of rewards, in nats; items; rounds
K, STRICT, LOOSE = 4, 0.25, 1.0  # slate size; lambda: below 1/(K-1) and above it
PLAYED = 12  # rounds of a trained arm
FAR = 100.0  # distance of the point that rewards are distances from
FOLLOWS = 0.1  # largest difference of log E exp(reward) from the exact law
DIVERGENCE, RATIO = "divergence (Thm 2.4)", "density ratio (Thm 2.4)"
ABOVE = "reward above the reference (Thm 2.3)"
EXP, KL = "mean_exp_reward", "kl_to_reference"
START = "first model on all rewards"
BOUND = -math.log(1 - STRICT * (K - 1))  # of Theorem 2.4, in nats
OVER = f"real data cover {', '.join(f'{p:g}' for p in PARTS)} of the rewards"
ADVICE = (
    "Advice: collect real data over the whole range of rewards that the model is to keep; where that cannot "
    "be had, keep the real fraction below (K-1)/K, or the model forgets what real data lack."
)

# --- arms -----------------------------------------------------------------------------------------


@cache
def covered(part: float, lam: float, *, everywhere: bool) -> Trajectory:
    """Return the law where real data cover the lowest part of the rewards, K = 4.

    Args:
        part: Part of the range of rewards that p_ref covers, uniformly.
        lam: lambda, curated data per real data; the real fraction is 1 / (1 + lambda).
        everywhere: Whether the first model covers all rewards; else p_0 = p_ref.
    """
    rewards = np.linspace(-WIDE, 0.0, FINE)
    inside = rewards <= -WIDE + part * WIDE
    setting = Setting(Rule(K), real_fraction=1 / (1 + lam), rounds=STEADY)
    start = np.ones(FINE) if everywhere else inside.astype(float)
    groups = np.where(inside, "covered", "uncovered")
    return law_trajectory(
        rewards, start, setting, list(groups), reference=inside.astype(float), statements=True
    )


def _laws() -> dict[str, Law]:
    laws: dict[str, Law] = {f"{p:g}": partial(covered, p, STRICT, everywhere=False) for p in PARTS}
    laws |= {f"beyond {p:g}": partial(covered, p, STRICT, everywhere=True) for p in PARTS[1:]}
    return laws | {f"loose {p:g}": partial(covered, p, LOOSE, everywhere=True) for p in PARTS[1:]}


def _run(part: float, lam: float, *, start: bool) -> dict[str, Any]:
    """Return the configuration of a loop whose real data cover a part of the rewards."""
    config: dict[str, Any] = {
        "rounds": PLAYED,
        "data": {"kind": "uniform", "low": [0.0, 0.0], "high": [part, 1.0]},
        "generator": {"kind": "mixture", "components": 40, "covariance": "diag"},
        "rewards": [{"kind": "distance", "centre": [1 + FAR, 0.5], "radius": FAR, "gamma": WIDE}],
        "selection": {"k": K, "picks": 4000},
        "retraining": {"real_fraction": 1 / (1 + lam)},
    }
    return config | ({"start": START} if start else {})


def _arms() -> dict[str, dict[str, Any]]:
    """Return a trained arm for every law."""
    arms = {_trained(f"{p:g}"): _run(p, STRICT, start=False) for p in PARTS}
    arms |= {_trained(f"beyond {p:g}"): _run(p, STRICT, start=True) for p in PARTS[1:]}
    return arms | {_trained(f"loose {p:g}"): _run(p, LOOSE, start=True) for p in PARTS[1:]}


def _trained(law: str) -> str:
    """Return the name of the trained arm of a law."""
    return f"trained {law}"


# --- claims ---------------------------------------------------------------------------------------


def _exact_claims() -> list[Claim]:
    bounds = [
        Claim(
            published,
            f"whether any law violates it, 1 or 0, {OVER}",
            largest(*(ends(f"{p:g}", f"violated:{statement}") for p in PARTS)),
            False,
            0.5,
            exact=True,
        )
        for published, statement in (
            ("Theorem 2.4: KL to the reference stays below -log(1 - lambda (K-1))", DIVERGENCE),
            ("Theorem 2.3: the reward stays above the reference's by its bound", ABOVE),
        )
    ]
    rises = Claim(
        "with real data the reward still rises",
        f"smallest gain of E exp(reward), {OVER}",
        smallest(*(gains(f"{p:g}", EXP) for p in PARTS)),
        True,
        0.0,
        exact=True,
    )
    lost = [
        Claim(
            text,
            f"{which} share of rewards without real data in the last round, lambda = {lam:g}",
            find(*(ends(f"{arm} {p:g}", "share", group="uncovered") for p in PARTS[1:])),
            above,
            0.01,
            exact=True,
        )
        for text, which, lam, arm, find, above in (
            (
                "lambda < 1/(K-1): what real data do not cover dies out (derived here)",
                "largest", STRICT, "beyond", largest, False,
            ),
            (
                "lambda > 1/(K-1): a model that covers more keeps it (derived here)",
                "smallest", LOOSE, "loose", smallest, True,
            ),
        )
    ]  # fmt: skip
    return [*bounds, rises, *lost]


def _trained_claims() -> list[Claim]:
    own = [_trained(f"{p:g}") for p in PARTS]
    few = ", ".join(f"{p:g}" for p in LITTLE)
    return [
        Claim(
            "Theorem 2.4, trained: KL to the reference stays below -log(1 - lambda (K-1))",
            f"largest KL between reward laws in the last round, nats, {OVER}",
            largest(*(last(arm, KL) for arm in own)),
            False,
            round(BOUND, 4),
        ),
        Claim(
            "with real data the reward still rises, trained",
            f"smallest gain of E exp(reward), {OVER}",
            smallest(*(rise(arm, EXP, reward="reward") for arm in own)),
            True,
            0.0,
        ),
        Claim(
            "lambda < 1/(K-1), trained: what real data lack is forgotten (derived here)",
            f"largest of E exp(reward), last round / round 0, a first model on all rewards, coverage {few}",
            largest(*(ratio(_trained(f"beyond {p:g}"), EXP, reward="reward") for p in LITTLE)),
            False,
            0.5,
        ),
        Claim(
            "lambda > 1/(K-1), trained: it is kept, and the reward rises (derived here)",
            f"smallest of E exp(reward), last round / round 0, a first model on all rewards, coverage {few}",
            smallest(*(ratio(_trained(f"loose {p:g}"), EXP, reward="reward") for p in LITTLE)),
            True,
            1.0,
        ),
        Claim(
            "the trained loops follow the exact laws (this package's)",
            f"largest distance of log E exp(reward) from the law's in round {PLAYED}, over all arms",
            _distance,
            False,
            FOLLOWS,
        ),
    ]


def _distance(runs: Runs) -> float:
    return max(
        abs(math.log(_value(runs[_trained(law)], MEASURED, EXP) / _value(make(), FORECAST, EXP)))
        for law, make in _laws().items()
    )


def _value(found: Trajectory, source: str, quantity: str) -> float:
    """Return a value of round PLAYED."""
    return next(
        row.value for row in found.where(source, quantity).rows if row.round == PLAYED and row.group is None
    )


# --- figures --------------------------------------------------------------------------------------

SERIES = {  # arms by what a reader is told of them
    f"model as wide as the real data, lambda {STRICT:g}": "{:g}",
    f"model on all rewards, lambda {STRICT:g}": "beyond {:g}",
    f"model on all rewards, lambda {LOOSE:g}": "loose {:g}",
}


def _points(runs: Arms, quantity: str, series: dict[str, str]) -> list[dict[str, Any]]:
    """Return the exact and the trained values of a quantity in round PLAYED, over coverage."""
    laws, points = _laws(), []
    for name, pattern in series.items():
        for part in PARTS:
            law = pattern.format(part)
            if law not in laws:
                law = f"{part:g}" if pattern.startswith("beyond") else ""
            if not law:
                continue
            exact = {"value": _value(laws[law](), FORECAST, quantity), "lower": None, "upper": None}
            points.append({"x": part, "series": name, "source": "exact", **exact})
            found = over_seeds(runs[_trained(law)]).where(MEASURED, quantity).rows if runs else ()
            points += [
                {
                    "x": part, "series": name, "source": "trained",
                    "value": row.value, "lower": row.lower, "upper": row.upper,
                }
                for row in found
                if row.round == PLAYED and row.group is None
            ]  # fmt: skip
    return points


def coverage_sections(runs: Arms) -> list[Section]:
    """Return E exp(reward) and the divergence over coverage, exact and trained, and the advice."""
    exps = _points(runs, EXP, SERIES)
    divergences = _points(runs, KL, dict([next(iter(SERIES.items()))]))
    table = [["coverage", "quantity", "series", "exact", "trained (95 %)"]]
    for title, points in (("E exp(reward)", exps), ("KL, nats", divergences)):
        trained = {(p["x"], p["series"]): _cell(p) for p in points if p["source"] == "trained"}
        table += [
            [f"{p['x']:g}", title, p["series"], f"{p['value']:.4g}", trained.get((p["x"], p["series"]), "")]
            for p in points
            if p["source"] == "exact"
        ]
    bound = [
        {"x": part, "series": "bound of Theorem 2.4", "source": "bound", "value": BOUND} for part in PARTS
    ]
    text = (
        f"In round {PLAYED}, over the part of the range of rewards that real data cover: exact laws as "
        "lines, trained mixtures as points with Student's intervals over the seeds. The bound does not "
        "depend on coverage, and does not apply where the first model covers more than the real data. "
        f"{ADVICE}"
    )
    cards = (
        Section("E exp(reward)", chart=beside_chart(exps, "coverage_exp", "covered part of the rewards")),
        Section(
            "KL to the reference (nats)",
            chart=beside_chart([*divergences, *bound], "coverage_kl", "covered part of the rewards"),
        ),
    )
    return [Section("Over coverage", text, table, lines=_before_selection(runs), cards=cards)]


def _before_selection(runs: Arms) -> tuple[str, ...]:
    """Return a line on the divergence of the trained models of round 0, which no selection has made."""
    values = [
        f"{np.mean([found.values(KL, source=MEASURED)[0] for found in runs[_trained(f'{part:g}')]]):.2g}"
        for part in PARTS
        if runs
    ]
    line = f"trained KL in round 0, before any selection, at these coverages: {', '.join(values)} nats"
    return (line,) if values else ()


def _cell(point: dict[str, Any]) -> str:
    reach = "" if point["upper"] is None else f" ± {point['upper'] - point['value']:.2g}"
    return f"{point['value']:.4g}{reach}"


def limited_coverage(scale: str, data: str) -> Experiment:
    """Return limited-coverage: real data that cover a part of the rewards only."""
    return Experiment(
        "limited-coverage",
        f"Rewards from {-WIDE:g} to 0, K = {K}; real data cover the lowest part of them. Exact: {FINE} "
        f"items, {STEADY} rounds. Trained: points in the plane, a mixture of 40 Gaussians, {PLAYED} rounds.",
        _arms(),
        (*_exact_claims(), *_trained_claims()),
        SOURCE,
        laws=_laws(),
        starts={START: _run(1.0, STRICT, start=False) | {"rounds": 1, "selection": {"k": 2, "picks": 20}}},
        sections=coverage_sections,
    )
