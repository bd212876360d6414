"""The interface of alarms, and alarms from plug-ins."""

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
    """A value that an alarm rejects in one round.

    Attributes:
        row: The measured row that is rejected.
        limit: The limit that its value exceeds or falls below, in the same unit.
        words: The rejection in words; the message reads "In round 3 WORDS, for the first time".
    """

    row: Row
    limit: float
    words: str


@dataclass(frozen=True)
class Known:
    """The names that alarms of a run may use: rewards, tracked columns, groups and feature spaces."""

    rewards: Sequence[str] = ()
    tracked: Sequence[str] = ()
    groups: Sequence[str] = ()
    spaces: Sequence[str] = ()


class AlarmSettings(Settings):
    """Settings of an alarm. Its ``level``, if any, bounds the probability of a false alarm in a whole run."""

    kind: str
    action: Action = Field("warn", description="action when the alarm is raised")

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Return the values that the test of round t >= 1 rejects."""
        raise NotImplementedError

    def check(self, known: Known) -> None:
        """Refuse names that the run does not have.

        Raises:
            InputError: If the alarm names an unknown reward, column, group or feature space.
        """


class PluggedAlarm(AlarmSettings):
    """A user's function ``find(seen, t)``, or a class with that method; its arguments are further keys."""

    plugin: ClassVar[Plugin]
    given: ClassVar[int] = 2

    def find(self, seen: Seen, t: int) -> list[Finding]:
        """Return the findings of the function."""
        made = self.plugin.with_keys(self)
        found: list[Finding] = getattr(made, "find", made)(seen, t)
        return found


def check_name(kind: str, field: str, name: str | None, names: Sequence[str]) -> None:
    """Refuse a name that the run does not have; None stands for all names.

    Raises:
        InputError: If the run has no names of this kind, or not this one.
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
