"""The experiments of Ferbach, Bertrand, Bose & Gidel 2024 (arXiv 2407.09499, section 4), at two scales.

*small* takes minutes on two processor cores: points in the plane as published, and handwritten digits in
place of CIFAR-10. *paper* needs CIFAR-10 and a GPU. Unpublished settings (numbers of picks, the share of real
data, training steps) are this package's choice, and equal in both arms.
"""

from __future__ import annotations

from typing import Any

from recurate.verbs.reproduce.claims import (
    Claim,
    drift_of_shares,
    falls,
    last,
    less,
    ratio,
    rise,
    smallest_share,
)
from recurate.verbs.reproduce.experiment import Experiment

SOURCE = "Ferbach et al. 2024, arXiv 2407.09499, section 4"
PURE, MIXED = "without real data", "with real data"
CIFAR = "cifar10"  # folder of the images, relative to the current one or to RECURATE_DATA
REAL = 0.5  # share of real data in the arm with real data


def _arms(base: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the arms without and with real data."""
    return {
        PURE: base | {"retraining": {"real_fraction": 0.0}},
        MIXED: base | {"retraining": {"real_fraction": REAL}},
    }


# --- points in the plane --------------------------------------------------------------------------


def _plane(
    name: str, setting: str, data: dict[str, Any], groups: str, reward: dict[str, Any], fewest: float
) -> Experiment:
    """Return an experiment whose first mode has the highest reward and whose others keep ``fewest`` each."""
    base = {
        "rounds": 8,
        "data": data,
        "generator": {"kind": "flow", "coupling": "independent", "first_steps": 4000, "steps": 1500},
        "rewards": [{"kind": "distance", **reward}],
        "groups": {"kind": groups},
        "selection": {"k": 4, "picks": 5000},
    }
    claims = (
        Claim(
            "without real data the model collapses onto the mode of highest reward",
            "share of that mode in the last round",
            last(PURE, "share", group="0"),
            True,
            0.9,
        ),
        Claim(
            "the expected reward rises towards its maximum",
            "certain falls of E exp(reward), rounds, without real data",
            falls(PURE, "mean_exp_reward", reward="reward"),
            False,
            0.5,
        ),
        Claim(
            "the variance of the reward vanishes",
            "Var exp(reward), last round / round 0, without real data",
            ratio(PURE, "var_exp_reward", reward="reward"),
            False,
            0.5,
        ),
        Claim(
            "with real data all modes are kept",
            "smallest share in the last round",
            smallest_share(MIXED),
            True,
            fewest,
        ),
        Claim(
            "with real data the reward still rises",
            "E exp(reward), last round minus round 0",
            rise(MIXED, "mean_exp_reward", reward="reward"),
            True,
            0.0,
        ),
    )
    return Experiment(name, setting, _arms(base), claims, SOURCE)


def gaussians(scale: str, data: str) -> Experiment:
    """Return F-gaussians: eight Gaussians, one of them preferred."""
    return _plane(
        "F-gaussians",
        "Eight Gaussians on a circle; reward -max(0, distance to one of them - 0.3); one of four is picked.",
        {"kind": "gaussians", "modes": 8, "radius": 2.0, "sd": 0.1, "size": 20_000},
        "nearest",
        {"centre": [2.0, 0.0], "radius": 0.3, "gamma": 1.0},
        0.02,
    )


def moons(scale: str, data: str) -> Experiment:
    """Return F-moons: two moons, the tip of one preferred."""
    return _plane(
        "F-moons",
        "Two moons; reward -2 max(0, distance to the tip of one - 0.2); one of four is picked.",
        {"kind": "moons", "size": 20_000},
        "classifier",
        {"centre": [-1.0, 0.0], "radius": 0.2, "gamma": 2.0},
        0.1,
    )


# --- images ---------------------------------------------------------------------------------------


def image_loop(scale: str, data: str, rounds: int, reward: dict[str, Any]) -> dict[str, Any]:
    """Return the base configuration of a loop on images: digits, or CIFAR-10 at the path ``data``."""
    small = {
        "width": 320, "learning_rate": 4e-3, "batch": 128, "coupling_batch": 128,
        "first_steps": 5000, "steps": 800,
    }  # fmt: skip
    large = {
        "batch": 256, "learning_rate": 2e-4, "ema": 0.999, "ode_steps": 50,
        "first_steps": 100_000, "steps": 10_000,
    }  # fmt: skip
    here = scale == "small"
    return {
        "rounds": rounds,
        "data": {"kind": "digits"} if here else {"kind": "images", "path": data or CIFAR},
        "generator": {"kind": "flow", "coupling": "ot", **(small if here else large)},
        "rewards": [reward],
        "groups": {"kind": "classifier"},
        "selection": {"k": 4, "picks": 1500 if here else 25_000},
    }


def airplane(scale: str, data: str) -> Experiment:
    """Return F-cifar-airplane: images, one class preferred."""
    label = "3" if scale == "small" else "airplane"
    reward = {"kind": "classifier", "score": "probability", "label": label, "gamma": 5.0}
    claims: list[Claim] = []
    for arm in (PURE, MIXED):
        claims += _rises(arm, "share", f"share of {label!r}", group=label)
        claims += _rises(arm, "mean_reward", "mean reward", reward="reward")
    return Experiment(
        "F-cifar-airplane",
        f"{_what(scale)}; reward 5 q(x), q a classifier's probability of {label!r}; one of four is picked.",
        _arms(image_loop(scale, data, 10, reward)),
        tuple(claims),
        SOURCE,
    )


def _rises(arm: str, quantity: str, title: str, **which: Any) -> tuple[Claim, Claim]:
    """Return the claims that a quantity rises, and does so in every round."""
    return (
        Claim(
            f"the {title} rises",
            f"{title}, last round minus round 0, {arm}",
            rise(arm, quantity, **which),
            True,
            0.0,
        ),
        Claim(
            f"the {title} rises every round",
            f"rounds in which the {title} certainly falls, {arm}",
            falls(arm, quantity, **which),
            False,
            0.5,
        ),
    )


def confidence(scale: str, data: str) -> Experiment:
    """Return F-cifar-confidence: images, a classifier's confidence preferred."""
    reward = {"kind": "classifier", "score": "confidence", "gamma": 5.0}
    frechet = "frechet:classifier"
    return Experiment(
        "F-cifar-confidence",
        f"{_what(scale)}; reward 5 max q(x), a classifier's confidence; one of four is picked.",
        _arms(image_loop(scale, data, 20, reward)),
        (
            Claim(
                "the classes' shares drift apart although none is preferred",
                "total variation of shares, last round against round 0, without real data",
                drift_of_shares(PURE),
                True,
                0.1,
            ),
            Claim(
                "with real data the shares stay stable",
                "total variation of shares, last round against round 0, with real data",
                drift_of_shares(MIXED),
                False,
                0.1,
            ),
            Claim(
                "real data hold the shares",
                "total variation of shares, without minus with real data",
                less(drift_of_shares(PURE), drift_of_shares(MIXED)),
                True,
                0.0,
            ),
            Claim(
                "with real data FID stays stable",
                "Frechet distance (classifier's features), last round / round 1, with real data",
                ratio(MIXED, frechet, first=1),
                False,
                1.5,
            ),
            Claim(
                "with real data the reward still rises",
                "mean reward, last round minus round 0, with real data",
                rise(MIXED, "mean_reward", reward="reward"),
                True,
                0.0,
            ),
        ),
        SOURCE,
    )


def _what(scale: str) -> str:
    return "Handwritten digits (8 x 8) in place of CIFAR-10" if scale == "small" else "CIFAR-10"
