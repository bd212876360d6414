"""The forecast of every later round from the candidates of one round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recurate.core.arrays import FloatArray
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates, Rounds, group_names
from recurate.log.schema import Log
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.metrics.describe import Describer
from recurate.metrics.partition import FEWEST_CELLS, Cells, partition
from recurate.theory.bands import SMALLEST_POOL, bands
from recurate.theory.bounds import Bound, check_model
from recurate.theory.coarsening import FEWEST_CONTEXTS
from recurate.theory.coverage import about_gap, gap_of
from recurate.theory.extinction import Extinction
from recurate.theory.loop_model import LoopModel
from recurate.theory.setting import Setting
from recurate.theory.tail import continue_tail

UNCOVERED = 0.01  # mass beyond the real data's rewards that is reported
SUPPORT = 100.0  # effective support below which a forecast is "beyond support"


@dataclass(frozen=True)
class Forecast:
    """A forecast with its evidence; see :func:`recurate.forecast`.

    Attributes:
        trajectory: the quantities of rounds 0, 1, ..., with 95 % bands where the pool is large enough.
        setting: the setting that was forecast.
        candidates: the number of candidates that it rests on.
        law: the law of the last round on the candidates (then the reference's atoms, if real data are
            in the mix), shape (atoms,).
        contexts: the treatment of contexts: ``one``, ``each`` (every context its own population),
            ``pooled residuals`` or ``each and pooled``.
        support_ends: the first round whose effective support is below 100, or None.
        warnings: reasons to rely on it less.
        extinctions: the probability, by round, that finitely many picks lose each group for good.
        bounds: the proved statements, checked on this population, if requested.
    """

    trajectory: Trajectory
    setting: Setting
    candidates: int
    law: FloatArray
    contexts: str = "one"
    support_ends: int | None = None
    warnings: tuple[str, ...] = ()
    extinctions: tuple[Extinction, ...] = ()
    bounds: tuple[Bound, ...] = ()


def predict(
    candidates: Candidates,
    setting: Setting,
    *,
    law: FloatArray | None = None,
    reference: Candidates | None = None,
    cells: Cells | None = None,
    stream: Stream | None = None,
    tail: bool = False,
    bounds: bool = False,
) -> Forecast:
    """Forecast from candidates; see :func:`recurate.forecast`.

    Args:
        candidates: the first round's candidates.
        setting: the selection and retraining of every round.
        law: p_0, the masses of the candidates, shape (candidates,); uniform if None.
        reference: real data; None: p_ref = p_0.
        cells: the partition behind ``kl_to_reference``, where forecast and measurement must use the same one;
            None: made from the reference, or exact on the atoms if p_ref = p_0.
        stream: the random stream of the bands; None: no bands.
        tail: whether to continue beyond the effective support with a fitted tail.
        bounds: whether to check the proved statements.

    Raises:
        InputError: columns of candidates and reference differ, contexts do not identify the forecast, or no
            candidate passes a rule.
    """
    warnings: list[str] = []
    if reference is not None and cells is None:
        cells, warnings = reference_cells(candidates, reference)
    model = LoopModel.build(candidates, law, reference, setting, cells)
    values = list(model.values())
    rows = [row for t, found in enumerate(values) for row in model.describer.rows(t, FORECAST, found)]
    ends = next((t for t, found in enumerate(values) if found.support < SUPPORT), None)
    warnings += model.warnings()
    extinctions: tuple[Extinction, ...] = ()
    if stream is not None:
        found = bands(model, stream)
        if found is None:
            warnings.append(
                f"no bands: {candidates.size} candidates are too few (at least {SMALLEST_POOL} are needed, "
                f"and {FEWEST_CONTEXTS} contexts if they are thin), too uneven, or too many nats apart"
            )
        else:
            rows = [found.around(row) for row in rows]
            extinctions = found.extinctions
    if ends is not None:
        warnings.append(
            f"the effective support falls below {SUPPORT:g} candidates in round {ends} "
            f"({values[ends].support:.0f}): values from there on are beyond this pool's support"
        )
    last = model.last_law
    if reference is not None:
        gap = gap_of(candidates, reference, law, model.setting, values[-1])
        warnings += [] if gap is None else [about_gap(gap, model.setting)]
        warnings += _about_range(candidates, reference, last, setting.rounds)
    if tail:
        continued, why = continue_tail(model, ends)
        rows += continued
        warnings += why
    return Forecast(
        Trajectory(tuple(rows)),
        model.setting,
        candidates.size,
        last,
        model.mode,
        ends,
        tuple(warnings),
        extinctions,
        check_model(model) if bounds else (),
    )


def _about_range(candidates: Candidates, reference: Candidates, law: FloatArray, rounds: int) -> list[str]:
    """Report the part of the last law that lies where there are no real data."""
    low, high = reference.rewards.min(axis=0), reference.rewards.max(axis=0)
    outside = ((candidates.rewards < low) | (candidates.rewards > high)).any(axis=1)
    share = float(law[: len(candidates)] @ outside)
    if share < UNCOVERED:
        return []
    return [
        f"in round {rounds} {share:.0%} of the model's mass has rewards beyond those of the real data: real "
        "data do not limit it there, and kl_to_reference counts it in their outermost cells"
    ]


def reference_cells(candidates: Candidates, reference: Candidates) -> tuple[Cells | None, list[str]]:
    """Return the partition behind ``kl_to_reference`` for an external reference, or None and the reason."""
    if reference.names != candidates.names:
        raise InputError(
            "the reference must have the same rewards as the candidates",
            got=f"{', '.join(reference.names)} against {', '.join(candidates.names)}",
            remedy="score the real data with the same reward functions, in the same order",
        )
    if candidates.contexts is not None:
        return None, [
            "kl_to_reference is left out: within contexts it cannot be estimated from a separate reference"
        ]
    cells = partition(reference.rewards, reference.counts)
    if cells.reference.size < FEWEST_CELLS:
        return None, [
            f"kl_to_reference is left out: {reference.size} real samples are too few "
            f"(or too alike) to distinguish reward laws"
        ]
    return cells, []


def measured(
    log: Log,
    *,
    temperature: float,
    group: str | None = None,
    track: Sequence[str] = (),
    cells: Cells | None = None,
    names: tuple[str, ...] = (),
    stratified: bool = False,
) -> Trajectory:
    """Measure the forecast's quantities in every round of a log, on the model's candidates.

    Args:
        log: a log of one or several rounds.
        temperature: tau in E exp(reward / tau).
        group: the column of groups, or None.
        track: further columns whose means are measured.
        cells: the partition behind ``kl_to_reference``; None leaves it out.
        names: groups to report in addition to those that occur.
        stratified: whether all rounds have the same contexts in the same numbers, so that the choice of
            contexts adds no error.
    """
    found = Rounds.of(log, group=group, track=track)
    return measured_rounds(found, temperature=temperature, cells=cells, names=names, stratified=stratified)


def measured_rounds(
    rounds: Rounds,
    *,
    temperature: float,
    cells: Cells | None = None,
    names: tuple[str, ...] = (),
    stratified: bool = False,
) -> Trajectory:
    """Measure the forecast's quantities in every round; see :func:`measured`."""
    rows: list[Row] = []
    top = np.max([c.rewards.max(axis=0) for c in rounds.generated.values()], axis=0) / temperature
    labels = tuple(sorted({*names, *group_names(rounds.first, None)}))
    for t, candidates in rounds.generated.items():
        describer = Describer(candidates, temperature, labels, tuple(top.tolist()), stratified)
        kl = (
            cells.kl(cells.assign(candidates.rewards), counts=candidates.counts)
            if cells is not None
            else None
        )
        rows += describer.rows(t, MEASURED, describer.values(kl=kl))
    return Trajectory(tuple(rows))


def split_log(
    log: Log, *, group: str | None = None, track: Sequence[str] = ()
) -> tuple[Candidates, Candidates | None]:
    """Return the first round's candidates and all real data (None if the log has none).

    The candidates' ``labels`` are the groups of all rounds.

    Raises:
        InputError: the log has no generated candidates.
    """
    found = Rounds.of(log, group=group, track=track)
    return found.first, found.real
