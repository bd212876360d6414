r"""Alarms that watch a run, each with a stated rate of false alarms.

An alarm tests, in every round t = 1, 2, ..., the hypothesis that nothing is wrong, on measured values.
Round t spends level / (t (t + 1)) of the alarm's level; these sum to the level over infinitely many rounds:

.. math:: P(\text{it is ever raised}) \le \sum_{t \ge 1} \frac{level}{t (t + 1)} = level

under the hypothesis, for runs of any length; and a run that is extended keeps its verdicts. Within a round
the level is split evenly (Bonferroni) over rewards, groups, spaces or pairs of rounds. Round 0 is the
baseline and raises no alarm; a fault that exists from the start is reported in round 1. Tests are one-sided.
A standard error is computed from the measured row's 95 % interval, from the side that is not cut off; a row
without one is not tested. :mod:`recurate.loop.alarms.kinds` has the kinds and their tests. The forecast's
bands are the exception: their level holds for all rounds together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recurate.core.errors import InputError
from recurate.core.plugins import Seam, call
from recurate.log.trajectory import MEASURED, Trajectory
from recurate.loop.alarms.history import Key, Seen
from recurate.loop.alarms.kinds import (
    BandAlarm,
    DivergenceAlarm,
    FrechetAlarm,
    GoldAlarm,
    ShareAlarm,
    TransmissionAlarm,
    VarianceAlarm,
)
from recurate.loop.alarms.protocol import Action, AlarmSettings, Finding, PluggedAlarm

KINDS = (DivergenceAlarm, VarianceAlarm, ShareAlarm, FrechetAlarm, GoldAlarm, TransmissionAlarm, BandAlarm)
ALARMS = Seam("alarms", "alarm", {kind.model_fields["kind"].default: kind for kind in KINDS}, PluggedAlarm)


@dataclass(frozen=True)
class Alarm:
    """An alarm that was raised.

    Attributes:
        round: Number of the round.
        kind: Kind of the alarm.
        action: Action in its settings.
        level: Largest probability of a false alarm in a whole run, or None if it is unknown.
        quantity: Name of the measured quantity.
        reward: Name of its reward, or None.
        group: Name of its group, or None.
        value: Measured value.
        limit: Limit of the value, in the quantity's unit.
        message: The alarm in one sentence.
    """

    round: int
    kind: str
    action: Action
    level: float | None
    quantity: str
    reward: str | None
    group: str | None
    value: float
    limit: float
    message: str


# --- raising them ---------------------------------------------------------------------------------


def raised(alarms: Sequence[AlarmSettings], trajectory: Trajectory, round: int) -> list[Alarm]:  # noqa: A002
    """Return the alarms of one round, in the order of the settings; calls have no memory.

    Args:
        alarms: Settings of the alarms.
        trajectory: Measured rows of rounds 0, ..., ``round``, and the forecast if there is one.
        round: Number of the round; round 0 raises no alarm.
    """
    if round < 1:
        return []
    seen = Seen(Trajectory(tuple(r for r in trajectory.rows if r.source != MEASURED or r.round <= round)))
    found = []
    for alarm in alarms:
        findings = _found(alarm, seen, round)
        found += [_alarm(alarm, f, _since(alarm, seen, f.row.key, round)) for f in findings]
    return found


def _found(alarm: AlarmSettings, seen: Seen, t: int) -> list[Finding]:
    """Return the findings of an alarm; those of a plug-in are checked."""
    if alarm.kind in ALARMS.built_in:
        return alarm.find(seen, t)
    found = call(alarm.kind, alarm.find, seen, t)
    if not isinstance(found, list | tuple) or not all(isinstance(one, Finding) for one in found):
        raise InputError(
            f"{alarm.kind} must return a list of Finding",
            got=f"{found!r:.80}",
            remedy="return [Finding(row, limit, words)], or [] where nothing is wrong",
        )
    return list(found)


def _since(alarm: AlarmSettings, seen: Seen, key: Key, t: int) -> int:
    """Return the first round of the unbroken sequence up to t in which the same series was rejected."""
    while t > 1 and any(finding.row.key == key for finding in _found(alarm, seen, t - 1)):
        t -= 1
    return t


def _alarm(alarm: AlarmSettings, finding: Finding, since: int) -> Alarm:
    row = finding.row
    first = "for the first time" if since == row.round else f"as in every round since round {since}"
    level: float | None = getattr(alarm, "level", None)
    rate = (
        ""
        if level is None
        else f"; if nothing is wrong, the probability of this alarm in a whole run is at most {level:.2g}"
    )
    message = f"In round {row.round} {finding.words}, {first}{rate}."
    return Alarm(row.round, alarm.kind, alarm.action, level, *row.key, row.value, finding.limit, message)
