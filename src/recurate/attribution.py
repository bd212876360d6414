r"""Each round's change taken apart: selection, sampling, transmission.

With m_t the mean reward of round t's candidates, S_t the mean of the training law that the rule makes of
these very candidates (exact), and P_t the mean of what was really picked (mixed with real data likewise),

.. math:: m_{t+1} - m_t = (S_t - m_t) + (P_t - S_t) + (m_{t+1} - P_t):

what selection asks for, what the chance of finitely many picks added (its 95 % band says how much is usual),
and
what retraining added or lost: transmission. A rule that is not the real one shows as sampling outside its
    band.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recurate.candidates import Candidates
from recurate.measures import NORMAL_975, encode, standard_error
from recurate.theory.renewal import training_values
from recurate.theory.setting import Setting

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """One reward's change from one round to the next.

    Attributes:
        before, after: the rounds.
        reward: its name.
        start: its mean before.
        change: by how much the mean changed.
        selection: what the rule asks for, exactly.
        sampling: what finitely many picks added.
        band: half the width of the 95 % interval of ``sampling`` about zero.
        transmission: what retraining added or lost.
        transmission_error: its standard error.
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


def attribute(
    rounds: Sequence[Candidates],
    picked: Sequence[NDArray[np.bool_]],
    labels: Sequence[int],
    setting: Setting,
    reference: Candidates | None = None,
) -> list[Change]:
    """Take the changes between neighbouring rounds apart.

    Args:
        rounds: the candidates of every round.
        picked: which of them were picked, (candidates,) each.
        labels: the rounds' numbers.
        setting: what happens every round (rule, weights, real fraction).
        reference: real data; None: the first round's candidates.
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
            mixed = (1 - rho) * float(kept.mean()) + rho * float(real.rewards[:, j].mean())
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
                    NORMAL_975 * (1 - rho) * _error(rounds[t], picked[t], kept),
                    end - mixed,
                    _mean_error(rounds[t + 1], then),
                )
            )
    return found


def _error(candidates: Candidates, picked: NDArray[np.bool_], kept: FloatArray) -> float:
    """Return the standard error of the picks' mean; contexts are as they are, not drawn."""
    values = kept
    if candidates.contexts is not None:
        codes = encode(candidates.contexts[picked])[0]
        counts = np.bincount(codes)
        if counts.mean() >= 2:
            values = kept - (np.bincount(codes, kept) / counts)[codes]
            return math.sqrt(float(np.square(values).sum()) / max(kept.size - counts.size, 1) / kept.size)
        # One pick a context: the spread of all candidates within contexts stands for it.
        every = encode(candidates.contexts)[0]
        means = np.bincount(every, candidates.rewards[:, 0]) / np.bincount(every)
        values = candidates.rewards[:, 0] - means[every]
    return float(values.std()) / math.sqrt(kept.size)


def _mean_error(candidates: Candidates, values: FloatArray) -> float:
    clusters = None if candidates.contexts is None else encode(candidates.contexts)[0]
    return standard_error(values - values.mean(), clusters)
