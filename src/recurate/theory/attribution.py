r"""The change of every round, split into selection, sampling and transmission.

Let m_t be the mean reward of round t's candidates, S_t the exact mean of the training law that the rule makes
of these candidates, and P_t the mean of the actual picks, mixed with real data in the same way. Then

.. math:: m_{t+1} - m_t = (S_t - m_t) + (P_t - S_t) + (m_{t+1} - P_t):

The three terms are the change that selection asks for, the change due to finitely many picks (with a 95 %
band), and the change that retraining added or lost, the transmission. If the declared rule is not the actual
one, sampling lies outside its band.

The same split holds for every functional of the law: with s_t the groups' shares of round t's candidates, S_t
those of the training law and P_t those of the actual picks, any function h of shares changes by
h(s_{t+1}) - h(s_t) = [h(S_t) - h(s_t)] + [h(P_t) - h(S_t)] + [h(s_{t+1}) - h(P_t)]; here h is each share,
and the entropy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.log.candidates import Candidates, group_codes, group_names
from recurate.metrics.estimates import NORMAL_975, Strata, encode, entropy_of, standard_error
from recurate.theory.renewal import training_values
from recurate.theory.setting import Setting

STEPS = 10  # steps, between quantiles of a pool, of a fitted function of rewards


@dataclass(frozen=True)
class Change:
    """One reward's change from one round to the next.

    Attributes:
        before: the number of the earlier round.
        after: the number of the later round.
        reward: the reward's name.
        start: the mean reward in the earlier round.
        change: the change of the mean reward.
        selection: the exact change that the rule asks for.
        sampling: the change due to finitely many picks.
        band: half the width of the 95 % interval of ``sampling`` about zero.
        transmission: the change that retraining added or lost.
        transmission_error: the standard error of ``transmission``.
    """

    before: int
    after: int
    reward: str
    start: float
    change: float
    selection: float
    sampling: float
    band: float
    transmission: float
    transmission_error: float


@dataclass(frozen=True)
class ShareChange:
    """The change of the groups' shares and of their entropy from one round to the next.

    Attributes:
        before: the number of the earlier round.
        after: the number of the later round.
        groups: the groups' names.
        selection: the exact change of every share that the rule asks for, shape (groups,).
        sampling: that due to finitely many picks, shape (groups,).
        transmission: that which retraining added or lost, shape (groups,).
        entropy: the three parts of the change of the shares' entropy, in nats, in the same order.
    """

    before: int
    after: int
    groups: tuple[str, ...]
    selection: FloatArray
    sampling: FloatArray
    transmission: FloatArray
    entropy: tuple[float, float, float]


def attribute(
    rounds: Sequence[Candidates],
    picked: Sequence[BoolArray],
    labels: Sequence[int],
    setting: Setting,
    reference: Candidates | None = None,
    slates: Sequence[IntArray] | None = None,
) -> list[Change]:
    """Split the changes between neighbouring rounds into selection, sampling and transmission.

    Args:
        rounds: the candidates of every round.
        picked: for every round, whether each candidate was picked, shape (candidates,).
        labels: the rounds' numbers.
        setting: the rule, weights and real fraction of every round.
        reference: real data; None: the first round's candidates.
        slates: for every round, the slate of each candidate, shape (candidates,), -1 for none. The band then
            leaves out the part of the slates' variation that selection already contains. None: the band is
            wider than necessary.

    Returns:
        One :class:`Change` per round but the last, and reward.
    """
    real = reference or rounds[0]
    targets = training_values(rounds, setting, real, None)
    rho = setting.real_fraction
    found = []
    for t, target in enumerate(targets):
        for j, name in enumerate(rounds[t].names):
            now, then = rounds[t].rewards[:, j], rounds[t + 1].rewards[:, j]
            kept = now[picked[t]]
            if not kept.size:
                continue
            selected = target.moments[j]["mean_reward"].value
            mixed = (1 - rho) * float(kept.mean()) + (rho * _real_mean(real, rounds[t], j) if rho else 0.0)
            start, end = float(now.mean()), float(then.mean())
            found.append(
                Change(
                    labels[t],
                    labels[t + 1],
                    name,
                    start,
                    end - start,
                    selected - start,
                    mixed - selected,
                    NORMAL_975
                    * (1 - rho)
                    * _error(rounds[t], now, picked[t], kept, None if slates is None else slates[t]),
                    end - mixed,
                    _mean_error(rounds[t + 1], then, rounds[t]),
                )
            )
    return found


def attribute_shares(
    rounds: Sequence[Candidates],
    picked: Sequence[BoolArray],
    labels: Sequence[int],
    setting: Setting,
    reference: Candidates | None = None,
) -> list[ShareChange]:
    """Split the changes of the groups' shares into selection, sampling and transmission.

    The entropy of finitely many picks is on average lower than that of their law, by about (groups - 1) /
    (2 picks): this loss is part of sampling.

    Args: as for :func:`attribute`, where candidates have groups.

    Returns:
        One :class:`ShareChange` per round but the last in which something was picked.

    Raises:
        InputError: candidates have no groups, or they have contexts, within which shares are not those of
            the pool; or data accumulate, so that one round's picks are not the training set.
    """
    real = reference or rounds[0]
    if setting.accumulate:
        raise InputError(
            "shares are attributed where every round is trained on its own picks",
            got="data that accumulate",
            remedy="retraining.mode = 'replace'",
        )
    if any(c.groups is None or c.contexts is not None for c in (*rounds, real)):
        raise InputError(
            "shares are attributed where candidates have groups and no contexts",
            got="candidates without groups" if rounds[0].contexts is None else "several contexts",
            remedy="name the groups, and pool the contexts",
        )
    names = tuple(sorted({name for c in (*rounds, real) for name in group_names(c, None)}))
    own, rho = _shares(real, names), setting.real_fraction
    found = []
    for t, target in enumerate(training_values(rounds, setting, real, None)):
        if not picked[t].any() or target.shares is None:
            continue
        # The targets' groups are those of all rounds and the reference, in the same order as here.
        asked = np.array([share.value for share in target.shares])
        kept = (1 - rho) * _shares(rounds[t].take(picked[t]), names) + rho * own
        path = (_shares(rounds[t], names), asked, kept, _shares(rounds[t + 1], names))
        steps, levels = np.diff(path, axis=0), np.diff([entropy_of(shares) for shares in path])
        found.append(
            ShareChange(
                labels[t],
                labels[t + 1],
                names,
                steps[0],
                steps[1],
                steps[2],
                (float(levels[0]), float(levels[1]), float(levels[2])),
            )
        )
    return found


def _shares(candidates: Candidates, names: tuple[str, ...]) -> FloatArray:
    """Return the groups' shares of a sample, shape (groups,)."""
    assert candidates.groups is not None
    codes = group_codes(candidates.groups, names)
    counts = np.bincount(codes, candidates.counts, len(names))
    return np.asarray(counts / counts.sum())


def _real_mean(real: Candidates, candidates: Candidates, j: int) -> float:
    """Return the real data's mean of reward ``j``, with the candidates' shares of contexts."""
    if candidates.contexts is None or real.contexts is None:
        return float(real.rewards[:, j].mean())
    names, shares = np.unique(candidates.contexts, return_counts=True)
    codes = np.searchsorted(names, real.contexts)  # of the same contexts
    means = np.bincount(codes, real.rewards[:, j]) / np.bincount(codes)
    return float(np.average(means, weights=shares))


def _error(
    candidates: Candidates, rewards: FloatArray, picked: BoolArray, kept: FloatArray, slates: IntArray | None
) -> float:
    """Return the standard error of the picks' mean about selection; contexts are fixed, not drawn."""
    if slates is not None and candidates.contexts is None:
        within = _error_within(rewards, picked, slates)
        if within is not None:
            return within
    values = kept
    if candidates.contexts is not None:
        codes = encode(candidates.contexts[picked])[0]
        if np.bincount(codes).mean() >= 2:
            return standard_error(kept, Strata(codes))
        # One pick per context: the spread of all candidates within contexts stands for it.
        every = encode(candidates.contexts)[0]
        means = np.bincount(every, rewards) / np.bincount(every)
        values = rewards - means[every]
    return float(values.std()) / math.sqrt(kept.size)


def _error_within(rewards: FloatArray, picked: BoolArray, slates: IntArray) -> float | None:
    r"""Return the standard error of the picks' mean given the pool, or None unless every slate has one pick.

    Selection is a functional of the pool: to first order it is a mean of some function g over the candidates
    (Hajek's projection). Chance adds the difference between a slate's pick and the sum of g over that slate.
    The function g is fitted as a step function between the pool's quantiles.
    """
    shown = np.flatnonzero(slates >= 0)
    codes = np.unique(slates[shown], return_inverse=True)[1]
    count = int(codes.max(initial=-1)) + 1
    winners = picked[shown]
    if count < 4 * STEPS or (np.bincount(codes, winners, count) != 1).any():
        return None
    values = rewards[shown]
    edges = np.quantile(values, np.arange(1, STEPS) / STEPS)
    step = np.searchsorted(edges, values)
    design = np.bincount(codes * STEPS + step, minlength=count * STEPS).reshape(count, STEPS).astype(float)
    picks = np.bincount(codes, np.where(winners, values, 0.0), count)
    rest = picks - design @ np.linalg.lstsq(design, picks)[0]
    return math.sqrt(float(np.square(rest).sum()) / (count - STEPS) / count)


def _mean_error(candidates: Candidates, values: FloatArray, before: Candidates) -> float:
    if candidates.contexts is None:
        return standard_error(values - values.mean())
    codes = encode(candidates.contexts)[0]
    if before.contexts is None or not np.array_equal(np.sort(candidates.contexts), np.sort(before.contexts)):
        return standard_error(values - values.mean(), codes)
    # The same contexts as before, equally often: their levels are not random.
    return standard_error(values, Strata(codes))
