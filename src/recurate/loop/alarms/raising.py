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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from recurate.core.errors import InputError, nearest
from recurate.log.trajectory import MEASURED, Trajectory
from recurate.loop.alarms.history import Key, Seen
from recurate.loop.alarms.kinds import (
    Action,
    BandAlarm,
    DivergenceAlarm,
    Finding,
    FrechetAlarm,
    GoldAlarm,
    ShareAlarm,
    VarianceAlarm,
)

AlarmSettings = Annotated[
    DivergenceAlarm | VarianceAlarm | ShareAlarm | FrechetAlarm | GoldAlarm | BandAlarm,
    Field(discriminator="kind"),
]


@dataclass(frozen=True)
class Alarm:
    """An alarm that was raised.

    Attributes:
        round: when.
        kind: of the alarm's settings.
        action: what its settings ask for.
        level: probability that it is ever raised in a whole run although nothing is wrong.
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
    level: float
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
        findings = alarm.find(seen, round)
        found += [_alarm(alarm, f, _since(alarm, seen, f.row.key, round)) for f in findings]
    return found


def _since(alarm: AlarmSettings, seen: Seen, key: Key, t: int) -> int:
    """Return the first of the rounds up to t in which the same was found without a gap."""
    while t > 1 and any(finding.row.key == key for finding in alarm.find(seen, t - 1)):
        t -= 1
    return t


def _alarm(alarm: AlarmSettings, finding: Finding, since: int) -> Alarm:
    row = finding.row
    first = "for the first time" if since == row.round else f"as in every round since round {since}"
    message = (
        f"In round {row.round} {finding.words}, {first}; where nothing is wrong, this alarm is ever "
        f"raised in a run with probability {alarm.level:.2g} at most."
    )
    return Alarm(
        row.round, alarm.kind, alarm.action, alarm.level, *row.key, row.value, finding.limit, message
    )


# --- names ----------------------------------------------------------------------------------------


def check_names(
    alarms: Sequence[AlarmSettings],
    rewards: Sequence[str],
    tracked: Sequence[str],
    groups: Sequence[str] | None,
    spaces: Sequence[str],
) -> None:
    """Refuse alarms about what the run does not have.

    Args:
        alarms: what to watch.
        rewards: names of the rewards.
        tracked: names of the tracked columns.
        groups: names of the groups, or None without groups.
        spaces: names of the feature spaces of Frechet distances.

    Raises:
        InputError: an alarm names something unknown.
    """
    for alarm in alarms:
        if isinstance(alarm, VarianceAlarm) and alarm.reward is not None:
            _check("variance", "reward", alarm.reward, rewards)
        elif isinstance(alarm, ShareAlarm):
            _check("share", "group", alarm.group, groups or ())
        elif isinstance(alarm, FrechetAlarm):
            _check("frechet", "space", alarm.space, spaces)
        elif isinstance(alarm, GoldAlarm):
            _check("gold", "proxy", alarm.proxy, rewards)
            _check("gold", "gold", alarm.gold, tracked)


def _check(kind: str, field: str, name: str | None, valid: Iterable[str]) -> None:
    names = list(valid)
    if not names:
        things = {"group": "groups", "space": "feature spaces", "gold": "tracked columns"}[field]
        raise InputError(
            f"the alarm of kind {kind!r} needs {things}",
            got="a run without any",
            remedy=f"add {things}, or remove the alarm",
        )
    if name is not None and name not in names:
        raise InputError(
            f"the alarm of kind {kind!r} names an unknown {field}", got=name, remedy=nearest(name, names)
        )
