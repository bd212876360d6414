"""The experiments by name: whose they are, what was claimed, and what makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recurate.core.citations import cite
from recurate.core.errors import InputError, nearest
from recurate.verbs.reproduce import (
    coverage,
    ferbach,
    human_check,
    length_texts,
    multi_target,
    mutual,
    others,
    pluralistic,
    text_scale,
)
from recurate.verbs.reproduce.experiment import Experiment

PAPER = "paper"
SCALES = ("small", PAPER)
FERBACH = "Ferbach et al. 2024, arXiv 2407.09499"


@dataclass(frozen=True)
class Entry:
    """An experiment that can be asked for by name.

    Attributes:
        paper: The publication.
        claim: What it claims, in one sentence.
        make: Function that returns the experiment at a scale, given the path of its data (empty: the usual).
        key: Key of the publication in ``papers.bib``.
        reads: Scales at which it reads data of the caller's.
    """

    paper: str
    claim: str
    make: Callable[[str, str], Experiment]
    key: str = "ferbach2024"
    reads: tuple[str, ...] = ()


CATALOGUE: dict[str, Entry] = {
    "F-gaussians": Entry(
        FERBACH,
        "Without real data a loop collapses onto the mode of highest reward; with real data all modes stay.",
        ferbach.gaussians,
    ),
    "F-moons": Entry(
        FERBACH,
        "The same on two moons: one is lost without real data, both are kept with them.",
        ferbach.moons,
    ),
    "F-cifar-airplane": Entry(
        FERBACH,
        "The share of a preferred class and the mean reward rise in every round.",
        ferbach.airplane,
        reads=(PAPER,),
    ),
    "F-cifar-confidence": Entry(
        FERBACH,
        "Curation by confidence amplifies bias between classes, and real data hold it.",
        ferbach.confidence,
        reads=(PAPER,),
    ),
    "limited-coverage": Entry(
        coverage.SOURCE,
        "Real data bound the divergence and raise the reward; here they cover a part of the rewards only.",
        coverage.limited_coverage,
    ),
    "P-disjoint": Entry(
        pluralistic.PAPER,
        "Two groups with disjoint basins both keep a share, and mass outside the basins decays.",
        pluralistic.disjoint,
        "falahati2026",
    ),
    "P-plateau": Entry(
        pluralistic.PAPER,
        "With plateaus and hard separation the loop reaches the weighted Nash point.",
        pluralistic.plateau,
        "falahati2026",
    ),
    "P-E3": Entry(
        pluralistic.PAPER,
        "The entropy of the classes rises with the number of target classes, and the Frechet distance falls.",
        multi_target.multi_target,
        "falahati2026",
        reads=(PAPER,),
    ),
    "P-E4": Entry(
        pluralistic.PAPER,
        "The entropy of texts' lengths is kept with two target lengths, and lost with one.",
        length_texts.length_texts,
        "falahati2026",
    ),
    "A-disjoint": Entry(
        others.ALIGNMENT,
        "Where the owner's and the public's preferences are disjoint, the owner decides the support.",
        others.alignment_game,
        "falahati2026alignment",
    ),
    "adversarial": Entry(
        others.ADVERSARIAL,
        "A small share of adversarial picks leaves the loop aligned with its users, a large one does not.",
        others.adversarial,
        "wei2025",
    ),
    "heterogeneous": Entry(
        others.HETEROGENEOUS,
        "Curation by people who differ ends elsewhere than curation by their average, and with real data "
        "it settles from any start.",
        others.heterogeneous,
        "zhao2025",
    ),
    "human-check": Entry(
        f"{FERBACH}, its assumption on picks",
        "People's picks follow Bradley-Terry (Luce) choice with one reward for all.",
        human_check.human_check,
        reads=SCALES,
    ),
    "mutual": Entry(
        mutual.PAPER,
        "A model that trains on another one's picks gains less by curation, and with strong mixing it loses.",
        mutual.mutual,
        "zhang2026",
    ),
    "text-scale": Entry(
        f"{FERBACH}, on text",
        "Picks concentrate faster from larger slates, and real data hold the classes, at every model size.",
        text_scale.text_scale,
    ),
}


def experiment(name: str, scale: str, data: str | None = None) -> Experiment:
    """Return an experiment.

    Args:
        name: Name of the experiment, a key of CATALOGUE.
        scale: ``small`` or ``paper``.
        data: Path of CIFAR-10, for the scale ``paper``; for human-check a file of picks.

    Raises:
        InputError: If there is no such experiment or scale, or it reads no data of the caller's.
    """
    if name not in CATALOGUE:
        raise InputError("there is no such experiment", got=name, remedy=nearest(name, CATALOGUE))
    if scale not in SCALES:
        raise InputError("there is no such scale", got=scale, remedy="use 'small' or 'paper'")
    entry = CATALOGUE[name]
    if data and scale not in entry.reads:
        raise InputError(
            f"{name} reads no data of yours at the scale {scale}", got=f"data {data}",
            remedy="use the scale paper, which reads CIFAR-10" if entry.reads else "leave the data out",
        )  # fmt: skip
    cite("ferbach2024", entry.key)
    return entry.make(scale, data or "")


def one_size(name: str) -> bool:
    """Return whether both scales of an experiment are the same."""
    small, paper = (CATALOGUE[name].make(scale, "") for scale in SCALES)
    return (small.arms, small.starts) == (paper.arms, paper.starts)
