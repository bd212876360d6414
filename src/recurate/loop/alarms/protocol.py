"""What every alarm offers, and alarms of strangers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from recurate.components.plugged import Plugin
from recurate.core.errors import InputError, nearest
from recurate.core.settings import Settings
from recurate.log.trajectory import Row
from recurate.loop.alarms.history import Seen

Action = Literal["warn", "stop", "rollback"]


@dataclass(frozen=True)
class Finding:
    """What an alarm finds in one round.

    Attributes:
        row: the measured row that is wrong.
        limit: what its value was compared with, in the same unit.
        words: both in words; the message reads "In round 3 WORDS, for the first time".
    """

    row: Row
    limit: float
    words: str


@dataclass(frozen=True)
class Known:
    """What alarms of a run may be about: names of rewards, tracked columns, groups and feature spaces."""

    rewards: Sequence[str] = ()
    tracked: Sequence[str] = ()
    groups: Sequence[str] = ()
    spaces: Sequence[str] = ()


class AlarmSettings(Settings):
    """Settings of an alarm. One with a ``level`` is ever raised in vain with at most that probability."""

    kind: str
    action: Action = Field("warn", description="action when the alarm is raised")

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Return what the test of round t >= 1 rejects."""
        raise NotImplementedError

    def check(self, known: Known) -> None:
        """Refuse names of what the run does not have.

        Raises:
            InputError: the alarm is about something unknown.
        """


class PluggedAlarm(AlarmSettings):
    """A function ``find(seen, t)`` of yours, or a class with that method; its arguments are further keys."""

    plugin: ClassVar[Plugin]
    given: ClassVar[int] = 2

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Return what the function finds."""
        made = self.plugin.with_keys(self)
        found: list[Finding] = getattr(made, "find", made)(seen, t)
        return found


def check_name(kind: str, field: str, name: str | None, names: Sequence[str]) -> None:
    """Refuse the name of something that the run does not have; None stands for all of them.

    Raises:
        InputError: there is nothing of the kind, or nothing of that name.
    """
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
