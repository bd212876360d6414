r"""Test whether retraining on the picks explains the change of a mean reward between rounds.

Let m_t be the mean reward of round t's candidates, s_t the rewards' standard deviation and P_t the mean of
the training set (the picks, mixed with real data). Retraining of efficacy eta changes the mean by
eta (P_t - m_t), with eta between 0 (nothing is learned) and 2 (twice the difference). The *excess* x_t is the
distance of m_{t+1} - m_t, with its sign, from the interval between 0 and 2 (P_t - m_t), which is extended to
the mean of the real data if they may be in the training set. Models also have errors, which are similar in
all rounds: kernel estimates of images, for example, lose one to three standard deviations of a distance from
a centre per round. A jump is an excess beyond

.. math:: \max(s/2, 3 \max_u x_u), \quad s = \max(s_t, s_{t+1}),

where u runs over the other changes of this reward with an excess of the same sign. At least two changes are
needed. The level of the test is 2e-4 for all changes and rewards together (Bonferroni), provided that the
model's error is within this bound. In honest loops of flows, diffusions, mixtures and kernels on points and
digits it was below 0.3 s, except for kernels on images.

With contexts, the contexts that occur in both rounds are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recurate.choices.checks.statistics import normal_tail
from recurate.core.arrays import FloatArray
from recurate.log.schema import MODEL, REAL, Log
from recurate.metrics.estimates import encode
from recurate.theory.attribution import Change
from recurate.verbs.audit.findings import LEVEL, Finding, judge, p_text

FEW = 100  # minimum number of candidates per round
FEW_CONTEXTS = 30  # minimum number of common contexts, if not all are common
OVERSHOOT = 2.0  # largest efficacy
SPREADS = 0.5  # allowed error of a model, in standard deviations of the reward
OTHERS = 3.0  # allowed error of a model, relative to its errors in other rounds

Rows = tuple[FloatArray, NDArray[np.int64]]  # a round's rewards and the codes of its contexts


@dataclass(frozen=True)
class Excess:
    """The part of one change that retraining on the picks does not explain.

    Attributes:
        change: Decomposed change of the mean reward.
        moved: Change of the mean over the contexts in both rounds.
        beyond: Part of it that no efficacy explains, with its sign.
        error: Standard error of the change.
        spread: Larger standard deviation of the reward in the two rounds.
    """

    change: Change
    moved: float
    beyond: float
    error: float
    spread: float


def judge_transmission(
    log: Log, changes: Sequence[Change], *, mixed: bool, claimed: bool = True
) -> list[Finding]:
    """Test whether a mean reward jumped between two rounds.

    Args:
        log: Log of all rounds.
        changes: Decomposed changes of the mean rewards.
        mixed: Whether real data may be in the training sets.
        claimed: Whether anything is declared; else the finding is a note.
    """
    if not changes:
        return []
    aspect, wanted = "transmission", "(explained by retraining)" if claimed else ""
    found = _excesses(log, changes, mixed)
    if len({e.change.before for e in found}) < 2:
        few = f"at least two changes between rounds of {FEW} candidates are needed"
        return [Finding(aspect, wanted, "not tested", few)]
    scores = [_score(e, found) for e in found]
    worst = int(np.argmax(scores))
    e, p = found[worst], min(1.0, 2 * len(found) * normal_tail(scores[worst]))
    c = e.change
    evidence = (
        f"{c.reward} from round {c.before} to {c.after}: {e.moved:+.3g}, where the training set differs by "
        f"{c.selection + c.sampling:+.3g}; {abs(e.beyond) / e.spread if e.spread else 0:.2g} standard "
        f"deviations are unexplained, {p_text(p)}"
    )
    if p < LEVEL:
        shown = f"a jump from round {c.before} to {c.after}"
        evidence += ": the reward or the model was changed"
        return [Finding(aspect, wanted, shown, evidence, judge(claimed, False))]
    return [Finding(aspect, wanted, "explained", evidence, judge(claimed, True))]


def _score(e: Excess, found: Sequence[Excess]) -> float:
    """Return the number of standard errors by which an excess exceeds the allowed error of a model."""
    others = [
        abs(o.beyond)
        for o in found
        if o.change.reward == e.change.reward and o is not e and o.beyond * e.beyond > 0
    ]
    jump = abs(e.beyond) - max(SPREADS * e.spread, OTHERS * max(others, default=0.0))
    if jump <= 1e-9 * (abs(e.moved) + e.spread):  # rounding
        return -math.inf
    return jump / e.error if e.error > 0 else math.inf


def _excesses(log: Log, changes: Sequence[Change], mixed: bool) -> list[Excess]:
    own, real = log.select(source=MODEL), log.select(source=REAL)
    rounds, contexts = own.column("round"), encode(own.column("context"))[0]
    found = []
    for change in changes:
        values = own.column(change.reward)
        before, after = ((values[rounds == t], contexts[rounds == t]) for t in (change.before, change.after))
        if min(before[0].size, after[0].size) < FEW:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            moved, error = _moved(before, after)
            spread = float(max(before[0].std(), after[0].std()))
            pull = OVERSHOOT * (change.selection + change.sampling)
            ends = [0.0, pull]
            if mixed and real.table.num_rows:
                ends.append(float(real.column(change.reward).mean() - before[0].mean()))
        if np.isfinite([moved, error, spread, *ends]).all():
            beyond = moved - min(max(moved, min(ends)), max(ends))
            found.append(Excess(change, moved, beyond, error, spread))
    return found


def _moved(before: Rows, after: Rows) -> tuple[float, float]:
    """Return the mean change over the contexts in both rounds and its standard error; NaN without any."""
    count = int(max(before[1].max(), after[1].max())) + 1
    sizes = [np.bincount(codes, minlength=count) for _, codes in (before, after)]
    means = [
        np.bincount(codes, values, count) / np.maximum(n, 1)
        for (values, codes), n in zip((before, after), sizes, strict=True)
    ]
    common = (sizes[0] > 0) & (sizes[1] > 0)
    every = bool((common == ((sizes[0] > 0) | (sizes[1] > 0))).all())
    shared = int(common.sum())
    if not every and shared < FEW_CONTEXTS:
        return math.nan, math.nan
    moves = (means[1] - means[0])[common]
    variance = 0.0
    for (values, codes), n, mean in zip((before, after), sizes, means, strict=True):
        freedom = values.size - int((n > 0).sum())
        if freedom < 1:
            return float(moves.mean()), float(moves.std() / math.sqrt(shared))
        within = float(np.square(values - mean[codes]).sum()) / freedom
        variance += within * float((1 / n[common]).sum()) / shared**2
    if not every:  # the common contexts are a sample of all
        variance += float(moves.var()) / shared
    return float(moves.mean()), math.sqrt(variance)
