r"""Tests of reuse across rounds: of candidates, of seeds, and of the noise of picks.

All statistics compare equal slots of corresponding slates in two rounds with different slots of these slates.
In an honest loop candidates are independent given their context. With d the within-slate ranks, centred over
the slate and over all slates' slots, each

.. math:: S_s = \sum_k d_{t,s,k} d_{t+1,s,k}

then has mean zero, whatever the contexts; z = sum S / sqrt(sum S^2). The residuals y - p of picks replace the
ranks in the test of the picks' noise. A slot that shows the same answer in both rounds, as a greedy one, is
left out, and of three or more slots no single one may be the reason. Items at equal slots are compared with
those of another slate of the same context.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recurate.choices.checks.statistics import normal_tail
from recurate.choices.models.named_rules import ranks
from recurate.choices.models.recovery import Recovered
from recurate.choices.observed import Observed
from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.rules import Rule
from recurate.rules.families import Family
from recurate.verbs.audit.findings import INDEPENDENT, LEVEL, MISMATCH, OK, Finding, judge, p_text

FEW = 30  # minimum number of corresponding slates for a test
ROUNDING = 0.006  # rounding error of propensities with two decimals
SAME = 0.5  # share of equal answers in two rounds above which a slot shows the same one
MATERIAL = 0.02  # correlation up to which reuse is ignored


@dataclass(frozen=True)
class Reuse:
    """Dependence of neighbouring rounds.

    Attributes:
        correlation: Correlation at equal slates and slots, 0 if independent, 1 if equal.
        p: One-sided p-value of independence; 1 if it was not tested.
        pairs: Number of pairs of slates.
        why: Reason why nothing was tested.
    """

    correlation: float = 0.0
    p: float = 1.0
    pairs: int = 0
    why: str = ""

    def found(self, level: float) -> bool:
        """Whether reuse is significant at a level and larger than ``MATERIAL``."""
        return self.p < level and self.correlation > MATERIAL


def reward_reuse(observed: Observed) -> Reuse:
    """Test whether the order of rewards within slates is dependent between neighbouring rounds."""
    blocks = list(_neighbours(observed))
    worth = observed.rewards[: observed.slated]
    each = [_without_one(worth[:, j], blocks) for j in range(worth.shape[1])]
    return max(each, key=lambda r: (r.p < 0.5, r.correlation))


def _without_one(worth: FloatArray, blocks: Sequence[tuple[IntArray, IntArray]]) -> Reuse:
    """Return reuse of one reward's order; if there is any, the weakest without some slot."""
    found = _rank_reuse(worth, blocks)
    slots = max((left.shape[1] for left, _ in blocks), default=0)
    if not found.found(LEVEL) or slots < 3:
        return found
    return max((_rank_reuse(worth, blocks, slot) for slot in range(slots)), key=lambda r: r.p)


def _rank_reuse(worth: FloatArray, blocks: Sequence[tuple[IntArray, IntArray]], omit: int = -1) -> Reuse:
    pairs = []
    for left, right in blocks:
        x, y = worth[left], worth[right]
        own = (x == y).mean(axis=0) <= SAME
        if own.size > 2 and omit >= 0:
            own[omit : omit + 1] = False
        if own.sum() >= 2:
            everything = np.ones((len(x), int(own.sum())), bool)
            pairs.append((ranks(x[:, own], everything), ranks(y[:, own], everything)))
    if blocks and not pairs:
        return Reuse(why="the same candidates are shown in both rounds")
    return _positional(pairs)


def pick_reuse(observed: Observed, probabilities: FloatArray) -> Reuse:
    """Test whether the residuals of picks, y - p, are dependent between neighbouring rounds.

    Args:
        observed: The log.
        probabilities: Probability that each row in slates is picked, under the fitted rule, (rows,).
    """
    residuals = observed.picked[: observed.slated] - probabilities
    return _positional([(residuals[left], residuals[right]) for left, right in _neighbours(observed)])


def item_reuse(observed: Observed) -> tuple[Reuse, float, float]:
    """Return reuse of item texts, and the shares of repeats within rounds and across neighbouring rounds."""
    if observed.items is None:
        return Reuse(why="items are not texts"), 0.0, 0.0
    within = []
    sets = []
    for t in observed.round_ids:
        own = observed.items[observed.rounds == t]
        found = np.unique(own)
        within.append(1 - found.size / own.size)
        sets.append(found)
    across = [float(np.isin(b, a).mean()) for a, b in itertools.pairwise(sets)]
    return _equal_items(observed), float(np.mean(within)), float(np.mean(across)) if across else 0.0


def _neighbours(observed: Observed) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the rows (slates, K) of corresponding slates in each two neighbouring rounds.

    Slates correspond by their numbers if most of them recur, else by their order in the round. They must
    have the same context if contexts recur.
    """
    slates = observed.slates
    slate_context = observed.contexts[: observed.slated][slates.offsets[:-1]]
    for a, b in itertools.pairwise(observed.round_ids):
        left, right = _corresponding(observed, a, b)
        same = (slates.sizes[left] == slates.sizes[right]) & (slates.sizes[left] > 1)
        if (slate_context[left] == slate_context[right]).mean() > 0.5:
            same &= slate_context[left] == slate_context[right]
        for k in np.unique(slates.sizes[left][same]):
            chosen = same & (slates.sizes[left] == k)
            span = np.arange(k)
            yield slates.offsets[left[chosen]][:, None] + span, slates.offsets[right[chosen]][:, None] + span


def _corresponding(observed: Observed, a: int, b: int) -> tuple[IntArray, IntArray]:
    """Return the indices of slates of two rounds that correspond, each (pairs,)."""
    left, right = (np.flatnonzero(observed.slate_rounds == t) for t in (a, b))
    names = observed.slate_numbers
    _, first, second = np.intersect1d(names[left], names[right], assume_unique=True, return_indices=True)
    n = min(left.size, right.size)
    if first.size > n / 2:
        return left[first], right[second]
    return left[:n], right[:n]


def _positional(pairs: Sequence[tuple[FloatArray, FloatArray]]) -> Reuse:
    """Test whether values (slates, K) of corresponding slates are dependent at equal slots."""
    products: list[FloatArray] = []
    norms = np.zeros(2)
    for x, y in pairs:
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)  # effects of the slots
        products.append((x * y).sum(axis=1))
        norms += np.square(x).sum(), np.square(y).sum()
    found = _tested(products)
    if found.pairs and norms.min() < 1e-20 * found.pairs:  # zero but for rounding
        return replace(found, p=1.0, why=found.why or "nothing varies between slates")
    total = sum(float(p.sum()) for p in products)
    return found if found.why else replace(found, correlation=total / math.sqrt(float(norms.prod())))


def _tested(excesses: Sequence[FloatArray]) -> Reuse:
    """Test whether one number per slate has mean zero; the correlation remains to be set."""
    every = np.concatenate([np.empty(0), *excesses])
    if every.size < FEW:
        return Reuse(pairs=every.size, why="too few slates recur in two rounds")
    size = math.sqrt(float(np.square(every).sum()))
    return Reuse(p=normal_tail(float(every.sum()) / size) if size else 1.0, pairs=every.size)


def _equal_items(observed: Observed) -> Reuse:
    """Test whether items are equal more often in corresponding slates than in others of the same context.

    Where contexts have one slate each, equal slots are compared with the other slots of the two slates.
    """
    assert observed.items is not None
    excess: list[FloatArray] = []
    equal = 0
    total = 0
    for left, right in _neighbours(observed):
        x, y = observed.items[left], observed.items[right]
        own = (x == y).mean(axis=0) <= SAME
        if not own.any():
            continue
        x, y = x[:, own], y[:, own]
        here = (x == y).sum(axis=1)
        other, alone = _next_of_context(observed.contexts[left[:, 0]])
        anywhere = (x[:, :, None] == y[:, None, :]).sum(axis=(1, 2)) / x.shape[1]
        excess.append(here - np.where(alone, anywhere, (x == y[other]).sum(axis=1)))
        equal += int(here.sum())
        total += x.size
    return replace(_tested(excess), correlation=equal / max(total, 1))


def _next_of_context(contexts: IntArray) -> tuple[IntArray, BoolArray]:
    """Return another slate of each slate's context, (slates,), and whether there is none."""
    order = np.argsort(contexts, kind="stable")
    starts = np.flatnonzero(np.r_[True, contexts[order][1:] != contexts[order][:-1]])
    stops = np.r_[starts[1:], order.size]
    following = np.arange(1, order.size + 1)
    following[stops - 1] = starts
    other = np.empty(order.size, np.int64)
    other[order] = order[following]
    return other, np.asarray(other == np.arange(order.size))


# --- as findings ----------------------------------------------------------------------------------


def judge_reuse(observed: Observed, found: Recovered, claimed: bool) -> list[Finding]:
    """Return findings on reuse of candidates, items and the noise of picks in neighbouring rounds.

    Args:
        observed: The log.
        found: Recovered rule.
        claimed: Whether anything is declared; else all findings are notes.
    """
    if observed.round_ids.size < 2 or not len(observed.slates):
        return []
    findings = []
    same = reward_reuse(observed)
    findings.append(_reuse_line("candidates of neighbouring rounds", same, claimed))
    items, within, across = item_reuse(observed)
    if observed.items is not None:
        evidence = f"repeats: {within:.1%} within rounds, {across:.1%} of the items were in the round before"
        if items.found(LEVEL):
            shown = f"{items.correlation:.1%} are equal at the same slate and slot"
            wanted = INDEPENDENT if claimed else ""
            aspect, verdict = "items of neighbouring rounds", judge(claimed, False)
            findings.append(Finding(aspect, wanted, shown, evidence, verdict))
        else:
            findings.append(Finding("repeated items", "", f"{within:.1%} within rounds", evidence))
    chances = _chances(observed, found)
    if chances is not None:
        noise = pick_reuse(observed, chances)
        findings.append(_reuse_line("noise of the picks", noise, claimed))
    return findings


def _reuse_line(aspect: str, same: Reuse, claimed: bool) -> Finding:
    wanted = INDEPENDENT if claimed else ""
    if same.why:
        return Finding(aspect, wanted, "not tested", same.why)
    evidence = (
        f"correlation {same.correlation:.3f} at equal slates and slots ({same.pairs} pairs), {p_text(same.p)}"
    )
    if same.found(LEVEL):
        return Finding(
            aspect, wanted, "shared: the same seeds in each round", evidence, judge(claimed, False)
        )
    return Finding(aspect, wanted, "independent", evidence, judge(claimed, True))


def _chances(observed: Observed, found: Recovered) -> FloatArray | None:
    """Return each row's probability of being picked under the recovered rule, or None without one."""
    noisy = (Family.LUCE, Family.LAPSE, Family.THURSTONE)
    rule = found.rule
    if found.family not in noisy or len(observed.names) > 1 or not isinstance(rule, Rule) or rule.keep > 1:
        return None
    p = rule.probabilities(observed.rewards[: observed.slated, 0], observed.slates)
    return np.asarray(p * observed.slates.spread((observed.picks_per_slate == 1).astype(float)))


def judge_propensities(observed: Observed) -> list[Finding]:
    """Test whether the logged propensities agree with the picks."""
    if observed.propensities is None or not len(observed.slates):
        return []
    p = observed.propensities[: observed.slated]
    known = np.isfinite(p)
    if not known.all():
        return [Finding("propensities", "", "incomplete", f"{(~known).mean():.1%} of them are missing")]
    single = observed.picks_per_slate == 1
    if not single.any():
        return [Finding("propensities", "", "not tested", "no slate has one pick")]
    off = np.abs(observed.slates.sums(p) - 1)[single]
    rounded = bool((off <= ROUNDING * observed.slates.sizes[single]).all())
    picked = observed.picked[: observed.slated]
    # Score test of the propensities' sharpness: under them, these sums have mean zero.
    centred = observed.slates.sums((picked - p) * np.log(np.maximum(p, 1e-300)))[single]
    spread = float(_surprise_variance(observed, p)[single].sum())
    z = float(centred.sum()) / math.sqrt(spread) if spread > 1e-12 * centred.size else 0.0
    fits = rounded and abs(z) < 3.9
    evidence = f"sums within slates differ from 1 by up to {off.max():.2g}; sharpness z = {z:.1f}"
    shown, verdict = ("fit", OK) if fits else ("do not fit", MISMATCH)
    return [Finding("propensities", "those of the picks", shown, evidence, verdict)]


def _surprise_variance(observed: Observed, p: FloatArray) -> FloatArray:
    logs = np.log(np.maximum(p, 1e-300))
    mean = observed.slates.sums(p * logs)
    return np.asarray(observed.slates.sums(p * np.square(logs)) - np.square(mean))
