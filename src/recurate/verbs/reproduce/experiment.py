"""What an experiment of the literature consists of: seeded arms, exact arms, and claims about both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from recurate.log.trajectory import Trajectory
from recurate.report.sections import Section
from recurate.verbs.reproduce.claims import Claim

if TYPE_CHECKING:
    from recurate.loop.run_folder import RunFolder

Law = Callable[[], Trajectory]  # computes an exact arm
Play = Callable[[int], Trajectory]  # trains an arm with a seed, in seconds
Arms = Mapping[str, list[Trajectory]]  # trajectories of every trained arm, one per seed


@dataclass(frozen=True)
class Experiment:
    """A published experiment at one scale.

    Attributes:
        name: Name of the experiment on the command line.
        setting: The experiment in one sentence.
        arms: Trained arms by name, without seeds: configurations of runs, in which ``start`` names the run
            from whose model of round 0 an arm starts. None: nothing is trained.
        claims: Published claims.
        source: Publication, with the section.
        laws: Exact arms by name: functions that compute a trajectory with the source ``forecast``.
        played: Trained arms that no configuration of a run describes, by name: functions of the seed that
            return a trajectory with the source ``measured``.
        starts: Configurations of the runs whose models arms start from.
        seeds: Number of seeds, unless the caller asks for others.
        sections: Function that returns further sections of the report, instead of the arms over rounds.
        tables: Function that returns further tables by file name.
        derived: Function that returns further rows of a run from its folder, given the arm; they are added to
            the run's trajectory.
    """

    name: str
    setting: str
    arms: Mapping[str, dict[str, Any]]
    claims: tuple[Claim, ...]
    source: str
    laws: Mapping[str, Law] = field(default_factory=dict)
    played: Mapping[str, Play] = field(default_factory=dict)
    starts: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    seeds: int = 3
    sections: Callable[[Arms], list[Section]] | None = None
    tables: Callable[[Arms], dict[str, pa.Table]] | None = None
    derived: Callable[[str, RunFolder], Trajectory] | None = None

    @property
    def trains(self) -> bool:
        """Whether anything is trained, so that there are seeds."""
        return bool(self.arms or self.played)
