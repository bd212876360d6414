"""What finitely many picks and retraining did to the groups' shares of a run, as rows of its trajectory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates, from_log, group_names
from recurate.log.schema import MODEL, REAL
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.theory.attribution import attribute_shares
from recurate.theory.forecast import predict
from recurate.verbs.reproduce.claims import Runs, Statistic

if TYPE_CHECKING:
    from recurate.loop.run_folder import RunFolder

PARTS = ("selection", "sampling", "transmission")
LOST = "lost"  # the probability that finitely many picks alone have lost a group


def share_parts(run: RunFolder) -> Trajectory:
    """Return the parts of every change of the groups' shares and of their entropy.

    The rows are called ``share_PART`` and ``entropy_PART``, in the later round; PART is ``selection``,
    ``sampling`` or ``transmission`` (:func:`recurate.theory.attribution.attribute_shares`).

    Args:
        run: Run with groups, whose data do not accumulate.
    """
    from recurate.loop.environment import setting_of

    setting, count, real = setting_of(run.config()), run.complete(), _real(run)
    found = [_candidates(run, t) for t in range(count)]
    labels = group_names(found[0][0], real)  # also groups that no candidate belongs to
    candidates, picked = [replace(c, labels=labels) for c, _ in found], [mask for _, mask in found]
    reference = real if setting.real_fraction else None
    rows: list[Row] = []
    for change in attribute_shares(candidates, picked, range(count), setting, reference):
        parts = (change.selection, change.sampling, change.transmission)
        for part, shares, entropy in zip(PARTS, parts, change.entropy, strict=True):
            rows.append(Row(change.after, MEASURED, f"entropy_{part}", entropy))
            named = zip(change.groups, shares, strict=True)
            rows += [Row(change.after, MEASURED, f"share_{part}", float(s), group=g) for g, s in named]
    return Trajectory(tuple(rows))


def extinction(run: RunFolder, groups: Sequence[str]) -> Trajectory:
    """Return, by round, the probability that finitely many picks alone have lost each of some groups.

    The loops behind it are simulated from round 0's candidates: each round's model is its training set, so
    that retraining loses nothing (:mod:`recurate.theory.extinction`). The rows are called ``lost``.

    Raises:
        InputError: If round 0 has too few candidates for such simulations.
    """
    from recurate.loop.environment import setting_of

    setting, (pool, _) = setting_of(run.config()), _candidates(run, 0)
    found = predict(pool, setting, stream=Stream(run.config().seed).at("extinction"))
    known = {e.group: e.probability for e in found.extinctions}
    present = set() if pool.groups is None else set(pool.groups.tolist())
    unknown = sorted(present & set(groups) - set(known))
    if unknown:
        raise InputError(
            f"the probability of losing {', '.join(unknown)} is not known",
            got=next((w for w in found.warnings if w.startswith("no bands")), "no simulated loops"),
            remedy="show more slates in round 0",
        )
    gone = np.ones(setting.rounds + 1)  # of a group that round 0 does not have
    return Trajectory(
        tuple(
            Row(t, FORECAST, LOST, float(value), group=group)
            for group in groups
            for t, value in enumerate(known.get(group, gone))
        )
    )


def _candidates(run: RunFolder, t: int) -> tuple[Candidates, np.ndarray]:
    """Return a round's candidates, and a mask of those that were picked."""
    log = run.log(t).select(source=MODEL)
    return from_log(log, group="group"), np.asarray(log.column("picked"), bool)


def _real(run: RunFolder) -> Candidates | None:
    """Return the real data, which the log of round 0 holds."""
    log = run.log(0).select(source=REAL)
    return from_log(log, group="group") if log.table.num_rows else None


# --- statistics -----------------------------------------------------------------------------------


def total(arm: str, quantity: str, group: str | None = None) -> Statistic:
    """Return the statistic: the sum of a quantity over all rounds."""
    return lambda runs: math.fsum(runs[arm].values(quantity, source=MEASURED, group=group))


def typical_gap(arm: str, part: str, one: str, other: str) -> Statistic:
    """Return the statistic: the root mean square, over rounds, of a part of the change of a gap of shares."""

    def statistic(runs: Runs) -> float:
        found = runs[arm]
        pair = (found.values(f"share_{part}", source=MEASURED, group=g) for g in (one, other))
        return float(np.sqrt(np.mean(np.square(np.subtract(*pair)))))

    return statistic
