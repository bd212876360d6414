"""A run's forecasts that know what retraining has passed on so far; see ``recurate.theory.transmission``."""

from __future__ import annotations

from dataclasses import replace

from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.log.candidates import Rounds
from recurate.log.trajectory import Trajectory
from recurate.loop.config import Config
from recurate.loop.environment import setting_of
from recurate.loop.run_folder import RunFolder
from recurate.theory.forecast import reference_cells
from recurate.theory.transmission import Transmission, renewed

# Candidates per round up to which a report computes them; recurate forecast --renew does for all.
MOST = 500_000


def renewed_rows(folder: RunFolder, config: Config) -> tuple[Trajectory, Transmission | None]:
    """Return the rows of source ``renewed`` of a run, and what was learned of its retraining.

    They are one round ahead for the rounds that were measured, and from the last round on for those that the
    configuration still has. With contexts there is one of these, from the picks that were made, without a
    band: further ones need each context's law, and candidates of a context are not independent. There are
    none before round 1, where data accumulate, or for one of several models.
    """
    done = folder.complete()
    if (
        done < 2
        or config.model is not None
        or config.retraining.mode == "accumulate"
        or config.selection.shown * config.selection.k > MOST
    ):
        return Trajectory(), None
    logs = [folder.log(t) for t in range(done)]
    group = "group" if "group" in logs[0].table.column_names else None
    track = [reward.name for reward in config.tracked]
    found = [Rounds.of(log, group=group, track=track, picks=config.selection.picks) for log in logs]
    prompted = any(r.first.contexts is not None for r in found)
    if prompted and any(r.first.picked is None for r in found):
        return Trajectory(), None
    names = tuple(sorted({name for r in found for name in r.first.labels}))
    rounds = [replace(r.first, labels=names, contexts=None) for r in found]
    real = None if found[0].real is None else replace(found[0].real, contexts=None)
    cells = None if real is None else reference_cells(rounds[0], real)[0]
    setting = replace(setting_of(config), picks=config.selection.picks)
    stream = None if prompted else Stream(config.seed).at("renewed", done)
    ahead = min(max(config.rounds - done + 1, 0), 1 if prompted else config.rounds)
    try:
        result = renewed(rounds, setting, real, cells, ahead=ahead, stream=stream)
    except InputError:  # what cannot be forecast, such as thin contexts under a threshold, is not renewed
        return Trajectory(), None
    return Trajectory(result.rows), result.transmission
