r"""Alarms that watch a run, each with a stated rate of false alarms.

An alarm tests, in every round t = 1, 2, ..., the hypothesis that nothing is wrong, on measured values.
Round t spends level / (t (t + 1)) of the alarm's level; these sum to the level over infinitely many rounds:

.. math:: P(\text{it is ever raised}) \le \sum_{t \ge 1} \frac{level}{t (t + 1)} = level

where nothing is wrong, however long the run is; and a run that is prolonged keeps its verdicts. Within a
round the level is split evenly (Bonferroni) over rewards, groups, spaces or pairs of rounds. Round 0 is what
others are compared with and raises nothing; what was wrong from the start is told in round 1. Tests are
one-sided. A standard error is taken from the measured row's 95 % interval, from its side that is not cut
off; a row without one is not judged. The kinds and their tests: :mod:`recurate.loop.alarms.kinds`. The
forecast's bands are the exception: they hold for all of its rounds together.
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
    VarianceAlarm,
)
from recurate.loop.alarms.protocol import Action, AlarmSettings, Finding, PluggedAlarm

ALARMS = Seam(
    "alarms",
    "alarm",
    {
        "divergence": DivergenceAlarm,
        "variance": VarianceAlarm,
        "share": ShareAlarm,
        "frechet": FrechetAlarm,
        "gold": GoldAlarm,
        "band": BandAlarm,
    },
    PluggedAlarm,
)


@dataclass(frozen=True)
class Alarm:
    """An alarm that was raised.

    Attributes:
        round: when.
        kind: of the alarm's settings.
        action: what its settings ask for.
        level: probability that it is ever raised in a whole run although nothing is wrong; None if unknown.
        quantity: what was measured,
        reward: of which reward, or None,
        group: of which group, or None.
        value: what was measured.
        limit: what it was measured against, in the quantity's own unit.
        message: all of this in one sentence.
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
    """Return the alarms of one round, in order of the settings; nothing is remembered between calls.

    Args:
        alarms: what to watch.
        trajectory: measured rows of rounds 0, ..., ``round``, and the forecast if there is one.
        round: which round to judge; round 0 raises nothing.
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
    """Return what an alarm finds; the answer of somebody else's is checked."""
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
    """Return the first of the rounds up to t in which the same was found without a gap."""
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
        else "; where nothing is wrong, this alarm is ever raised in a run with probability "
        f"{level:.2g} at most"
    )
    message = f"In round {row.round} {finding.words}, {first}{rate}."
    return Alarm(row.round, alarm.kind, alarm.action, level, *row.key, row.value, finding.limit, message)
