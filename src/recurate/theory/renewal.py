r"""The efficacy of retraining, estimated from a log, and forecasts renewed from every measured round.

Retraining may move a model only part of the way to its training law d_t (:mod:`recurate.theory.setting`):
p_{t+1} = p_t + eta (d_t - p_t). Every expectation is linear in the law, so for any column f

.. math:: E_{t+1} f - E_t f = \eta\, (E_{d_t} f - E_t f),

and the exact selection applied to round t's own candidates gives E_{d_t} f. The efficacy eta is the
weighted least-squares slope of the measured changes on those, over rounds and rewards (f = reward),
with weights from the standard errors of the measured means and of the picks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates
from recurate.log.trajectory import RENEWED, Row
from recurate.metrics.describe import Describer, Values
from recurate.metrics.estimates import Estimate, entropy_of
from recurate.metrics.partition import Cells
from recurate.theory.loop_model import LoopModel
from recurate.theory.setting import Setting
from recurate.theory.transmission import Transmission, renewed

Key = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class Efficacy:
    """An estimated efficacy.

    Attributes:
        value: the estimate of eta, above one where retraining overshoots.
        se: its standard error.
        changes: the number of measured changes that it rests on.
    """

    value: float
    se: float
    changes: int

    @property
    def usable(self) -> float:
        """The estimate, cut to [0.01, 1] so that a setting accepts it."""
        return min(max(self.value, 0.01), 1.0)


@dataclass(frozen=True)
class Score:
    """Root-mean-square errors, over rounds, of forecasts of one quantity one round ahead.

    Attributes:
        key: the quantity, its reward and its group.
        renewed: the error of the forecast from the previous round, with the efficacy estimated by then.
        persistence: the error of "as in the previous round".
        rounds: the number of rounds.
    """

    key: Key
    renewed: float
    persistence: float
    rounds: int

    @property
    def ratio(self) -> float:
        """The renewed error over the persistence error: 0 is perfect, 1 no better than "no change"."""
        return self.renewed / self.persistence if self.persistence > 0 else math.nan


@dataclass(frozen=True)
class Renewal:
    """Forecasts renewed from every measured round.

    Attributes:
        rows: each round's quantities, forecast from the previous round, with source ``renewed``.
        efficacy: the efficacy estimated from all changes.
        scores: the forecasts' errors against the measurements.
        transmission: what was learned of retraining; None where data accumulate.
        known: the number of rounds that were taken to be trained on the very picks that were made.
    """

    rows: tuple[Row, ...]
    efficacy: Efficacy
    scores: tuple[Score, ...]
    transmission: Transmission | None = None
    known: int = 0


def renew(
    rounds: Sequence[Candidates],
    setting: Setting,
    reference: Candidates | None = None,
    cells: Cells | None = None,
    *,
    first: int | None = None,
) -> Renewal:
    """Forecast every round from the previous one.

    Args:
        rounds: the measured candidates of rounds 0, 1, ..., at least two rounds.
        setting: the selection and retraining of every round; its efficacy is not used.
        reference: real data; None: p_ref = p_0, the first round's candidates.
        cells: the partition behind ``kl_to_reference``; None leaves it out.
        first: the number of changes that the efficacy is estimated from; None: all before each round.
    """
    describers, measured = _measured(rounds, setting, reference, cells)
    ahead = training_values(rounds, setting, reference or rounds[0], cells)
    changes = _all_changes(rounds, measured, ahead, setting)
    rows: list[Row] = []
    for t, (now, target) in enumerate(zip(measured, ahead, strict=False)):
        known = changes[: t if first is None else min(first, t)]
        eta = _estimate(known).usable if known else 1.0
        rows += describers[0].rows(t + 1, RENEWED, _between(now, target, eta))
    used = changes if first is None else changes[:first]
    return Renewal(tuple(rows), _estimate(used), _scores(rows, describers[0], measured))


def learned(
    rounds: Sequence[Candidates],
    setting: Setting,
    reference: Candidates | None = None,
    cells: Cells | None = None,
    *,
    ahead: int = 0,
    stream: Stream | None = None,
) -> Renewal:
    """Forecast every round from the previous one, and the rounds ahead, with what retraining passed on.

    Args: as for :func:`recurate.theory.transmission.renewed`.
    """
    found = renewed(rounds, setting, reference, cells, ahead=ahead, stream=stream)
    describers, measured = _measured(rounds, setting, reference, cells)
    # Not from the steps above, whose laws lack the unbiased first round of thin contexts.
    aims = training_values(rounds, setting, reference or rounds[0], None)
    efficacy = _estimate(_all_changes(rounds, measured, aims, setting))
    # Round 1 was forecast before anything was known of retraining: it is judged where it is all there is.
    own = [row for row in found.rows if row.round < len(rounds) and (row.round > 1 or len(rounds) == 2)]
    scores = _scores(own, describers[0], measured)
    return Renewal(found.rows, efficacy, scores, found.transmission, found.known)


def _measured(
    rounds: Sequence[Candidates], setting: Setting, reference: Candidates | None, cells: Cells | None
) -> tuple[list[Describer], list[Values]]:
    """Return what describes the candidates of every round, and their measured quantities."""
    groups = _groups([*rounds, reference] if reference is not None else rounds)
    describers = [Describer(c, setting.temperature, groups) for c in rounds]
    return describers, [
        d.values(kl=None if cells is None else cells.kl(cells.assign(c.rewards), counts=c.counts))
        for d, c in zip(describers, rounds, strict=True)
    ]


def _groups(rounds: Sequence[Candidates]) -> tuple[str, ...]:
    names = {name for c in rounds if c.groups is not None for name in [*np.unique(c.groups), *c.labels]}
    return tuple(sorted(str(name) for name in names))


def training_values(
    rounds: Sequence[Candidates], setting: Setting, reference: Candidates, cells: Cells | None
) -> list[Values]:
    """Return the quantities of the training laws d_t of all rounds but the last, from their candidates.

    An accumulating loop keeps the batches of all earlier rounds, each from its own round's candidates.
    """
    groups = _groups([*rounds, reference])
    batches = [_batch(c, setting, reference, cells, groups) for c in rounds[:-1]]
    if not setting.accumulate:
        return batches
    mean = Describer(reference, setting.temperature, groups).values()
    found = []
    for t, batch in enumerate(batches):
        mean = _between(mean, batch, 1 / (setting.first + t + 2))
        found.append(mean)
    return found


def _batch(
    candidates: Candidates,
    setting: Setting,
    reference: Candidates,
    cells: Cells | None,
    groups: tuple[str, ...],
) -> Values:
    """Return the quantities of the training data that one round's candidates add."""
    step = replace(setting, rounds=1, efficacy=1.0, accumulate=False)
    mixed = setting.real_fraction > 0
    model = LoopModel.build(candidates, None, reference if mixed else None, step, cells)
    model = replace(model, describer=replace(model.describer, group_names=groups))
    return list(replace(model, has_kl=cells is not None).values())[1]


@dataclass(frozen=True)
class _Change:
    """One reward's change over one round.

    Attributes:
        expected: the change of the mean under full efficacy.
        measured: the measured change of the mean.
        before: the variance of the measured mean in the earlier round.
        after: the variance of the measured mean in the later round.
        picks: the variance of a mean over the picks.
        step: the weight of the round's own data in the training law, below one if data accumulate.
        share: the weight of the picks in the training law.
    """

    expected: float
    measured: float
    before: float
    after: float
    picks: float
    step: float
    share: float

    def variance(self, eta: float) -> float:
        """Return the variance of measured - eta * expected.

        Both start from the same candidates. The later sample, the picks' part of the training law and the
        old law's part of the model remain.
        """
        picked, old = eta * self.share, 1 - eta * self.step
        return self.after + picked**2 * self.picks + old**2 * self.before


def _all_changes(
    rounds: Sequence[Candidates], measured: Sequence[Values], targets: Sequence[Values], setting: Setting
) -> list[list[_Change]]:
    """Return the changes of every round but the last, of each reward's mean."""
    return [
        _changes(measured[t], target, measured[t + 1], rounds[t].size, t, setting)
        for t, target in enumerate(targets)
    ]


def _changes(
    now: Values, target: Values, after: Values, size: int, t: int, setting: Setting
) -> list[_Change]:
    """Return the change of every reward's mean after round t, with ``size`` candidates per round."""
    step = 1 / (setting.first + t + 2) if setting.accumulate else 1.0
    share = step * (1 - setting.real_fraction)
    found = []
    for one, goal, then in zip(now.moments, target.moments, after.moments, strict=True):
        start, end = one["mean_reward"], then["mean_reward"]
        found.append(
            _Change(
                goal["mean_reward"].value - start.value,
                end.value - start.value,
                start.se**2,
                end.se**2,
                end.se**2 * size / (setting.picks or size),
                step,
                share,
            )
        )
    return found


def _estimate(changes: Sequence[Sequence[_Change]]) -> Efficacy:
    """Return the weighted least-squares slope; a bad fit increases its standard error."""
    table = [change for found in changes for change in found]
    x, y = np.array([c.expected for c in table]), np.array([c.measured for c in table])
    if not np.any(x):
        return Efficacy(1.0, math.inf, 0)
    # The noise of the mean before is in both: -(1 - share) of it in x, -1 of it in y.
    common = np.array([(1 - c.share) * c.before for c in table])
    twice = np.array([(1 - c.share) ** 2 * c.before for c in table])
    eta, power, misfit = 1.0, 1.0, 1.0
    for _ in range(3):  # the weights depend, weakly, on the slope
        weight = 1.0 / np.maximum([c.variance(min(max(eta, 0.0), 1.0)) for c in table], 1e-300)
        power = float(weight @ (np.square(x) - twice))
        if power <= 0:  # noise exceeds the changes
            return Efficacy(1.0, math.inf, 0)
        eta = float(weight @ (x * y - common)) / power
        misfit = float(weight @ np.square(y - eta * x)) / max(len(table) - 1, 1)
    error = math.sqrt(max(misfit, 1.0) * float(weight @ np.square(x))) / power
    return Efficacy(eta, error, len(table))


def _between(now: Values, target: Values, eta: float) -> Values:
    """Return the quantities eta of the way from one law to another, where they are linear in the law."""
    mixed = {}
    for name, value in target.tracked.items():
        mixed[name] = _mix(now.tracked[name].value, value.value, eta)
    moments = []
    for one, goal in zip(now.moments, target.moments, strict=True):
        part = {
            name: _mix(one[name].value, goal[name].value, eta)
            for name in ("mean_reward", "mean_exp_reward")
            if name in one and name in goal
        }
        if "var_exp_reward" in one and "var_exp_reward" in goal:
            seconds = [v["var_exp_reward"].value + v["mean_exp_reward"].value ** 2 for v in (one, goal)]
            second = _mix(seconds[0], seconds[1], eta).value - part["mean_exp_reward"].value ** 2
            part["var_exp_reward"] = replace(part["mean_exp_reward"], value=max(second, 0.0))
        moments.append(part)
    shares = entropy = None
    if now.shares is not None and target.shares is not None:
        shares = [_mix(a.value, b.value, eta) for a, b in zip(now.shares, target.shares, strict=True)]
        entropy = replace(shares[0], value=entropy_of(np.array([s.value for s in shares])))
    return Values(moments, target.support, target.kl if eta == 1 else None, shares, entropy, mixed)


def _mix(a: float, b: float, eta: float) -> Estimate:
    return Estimate((1 - eta) * a + eta * b)


def _scores(rows: Sequence[Row], describer: Describer, measured: Sequence[Values]) -> tuple[Score, ...]:
    values = {
        (row.round, row.key): row.value
        for t, found in enumerate(measured)
        for row in describer.rows(t, RENEWED, found)
    }
    scores = []
    for key in dict.fromkeys(row.key for row in rows):
        own = [row for row in rows if row.key == key and (row.round, key) in values]
        if key[0] == "effective_support" or len(own) < len({row.round for row in rows}):
            continue  # a divergence is not linear, so partial retraining leaves it out
        errors = [row.value - values[row.round, key] for row in own]
        still = [values[row.round - 1, key] - values[row.round, key] for row in own]
        scores.append(Score(key, _rms(errors), _rms(still), len(own)))
    return tuple(scores)


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
