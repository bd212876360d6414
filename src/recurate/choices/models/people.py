"""Slates sorted by chooser, for latent classes: blocks of whole choosers, subsamples of choosers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from recurate.choices.models.likelihood import evaluate
from recurate.choices.table import Choices
from recurate.core.arrays import FloatArray, IntArray
from recurate.rules.slates import BLOCK_DOUBLES

SUBSAMPLE = 30_000  # slates on which starts are climbed, about
FEWEST_CHOOSERS = 300  # of a subsample


@dataclass
class Sample:
    """Slates sorted by chooser, and where each chooser's begin.

    Attributes:
        choices: sorted.
        people: chooser of each slate, codes 0, 1, ... in order.
        firsts: first slate of each chooser, then the number of slates.
        scale: root of each feature's information per slate, at uniform picks.
    """

    choices: Choices
    people: IntArray
    firsts: IntArray
    scale: FloatArray

    @classmethod
    def build(cls, choices: Choices) -> Sample:
        """Sort choices by chooser."""
        assert choices.choosers is not None
        people = np.unique(choices.choosers, return_inverse=True)[1].astype(np.int64)
        if np.any(people[1:] < people[:-1]):
            order = np.argsort(people, kind="stable")
            choices, people = choices.take(order), people[order]
        firsts = np.flatnonzero(np.r_[True, people[1:] != people[:-1], True])
        part = choices.take(np.unique(np.linspace(0, len(choices) - 1, 5000).astype(np.int64)))
        info = evaluate(part, np.zeros(part.features.shape[1]), information=True).information
        assert info is not None
        scale = np.sqrt(np.maximum(np.diag(info) / part.total_weight, 1e-300))
        return cls(choices, people, firsts, scale)

    @property
    def count(self) -> int:
        """How many choosers."""
        return self.firsts.size - 1

    @property
    def total(self) -> float:
        """Weight of all slates."""
        return self.choices.total_weight

    def blocks(self, columns: int) -> list[tuple[slice, slice]]:
        """Return (choosers, slates) in blocks of whole choosers that stay in cache."""
        rows = self.choices.slates.offsets[self.firsts]
        budget = max(1, BLOCK_DOUBLES // columns)
        cuts = [0]
        while cuts[-1] < self.count:
            nxt = int(np.searchsorted(rows, rows[cuts[-1]] + budget, side="right")) - 1
            cuts.append(min(max(nxt, cuts[-1] + 1), self.count))
        return [
            (slice(a, b), slice(int(self.firsts[a]), int(self.firsts[b])))
            for a, b in itertools.pairwise(cuts)
        ]


def part_of_sample(sample: Sample, classes: int, rng: np.random.Generator) -> Sample:
    """Return some choosers, at random, with about ``SUBSAMPLE`` slates; all where that is not far fewer."""
    d = sample.choices.features.shape[1]
    per_person = len(sample.choices) / sample.count
    people = max(FEWEST_CHOOSERS, 40 * classes, round(max(SUBSAMPLE, 400 * classes * d) / per_person))
    if people * 2 > sample.count:
        return sample
    chosen = np.sort(rng.choice(sample.count, people, replace=False))
    index = np.concatenate([np.arange(sample.firsts[c], sample.firsts[c + 1]) for c in chosen])
    return Sample.build(sample.choices.take(index))
