"""Where will this loop go? The exact law of every later round, from the candidates of one round."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recurate.core.errors import InputError, is_number
from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates, Describer, as_candidates, from_log, group_names
from recurate.log.schema import MODEL, REAL, Log
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.metrics import estimates
from recurate.metrics.estimates import Cells
from recurate.rules import Noise, Rule, Selection, noise_named
from recurate.theory.bands import SMALLEST_POOL, bands
from recurate.theory.bounds import Bound
from recurate.theory.coarsening import FEWEST_CONTEXTS
from recurate.theory.evidence import check_model, continue_tail
from recurate.theory.extinction import Extinction
from recurate.theory.loop_model import LoopModel
from recurate.theory.population import check_law, check_weights
from recurate.theory.setting import Setting, Stage, check_efficacy, check_real_fraction

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

UNCOVERED = 0.01  # mass beyond the real data's rewards from which on it is mentioned
SUPPORT = 100.0  # effective support below which a forecast is "beyond support"


@dataclass(frozen=True)
class Forecast:
    """A forecast with its evidence.

    Attributes:
        trajectory: rounds 0, 1, ..., with 95 % bands where the pool is large enough.
        setting: what was forecast.
        candidates: how many candidates it was made from.
        law: the law of the last round on the candidates (then the reference's atoms, if real data are
            in the mix), shape (atoms,).
        contexts: how contexts were treated: ``one``, ``each`` (every context its own population),
            ``pooled residuals`` or ``each and pooled``.
        support_ends: first round whose effective support is below 100, or None.
        warnings: what to know before relying on it.
        extinctions: for groups that finitely many picks may lose for good, when.
        bounds: the proved statements, checked on this population, if asked for.
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


def forecast(
    rewards: ArrayLike | Candidates,
    *,
    k: float | Mapping[float, float] = 4,
    rounds: int = 10,
    temperature: float = 1.0,
    noise: str | Noise = "gumbel",
    keep: int = 1,
    lapse: float = 0.0,
    rule: Selection | None = None,
    then: Sequence[Stage] = (),
    weights: Sequence[float] | None = None,
    real_fraction: float = 0.0,
    accumulate: bool = False,
    efficacy: float = 1.0,
    groups: ArrayLike | None = None,
    track: Mapping[str, ArrayLike] | None = None,
    contexts: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    law: ArrayLike | None = None,
    reference: ArrayLike | Candidates | None = None,
    picks: int | None = None,
    cells: Cells | None = None,
    tail: bool = False,
    bounds: bool = False,
    first: int = 0,
    seed: int = 0,
) -> Forecast:
    r"""Forecast a self-consuming loop from one round's candidates and their rewards.

    The exact infinite-data law p_{t+1} = rho p_ref + (1 - rho) p_t W_t is pushed through all rounds
    (:mod:`recurate.theory.setting`); no sampling is involved but in the bands.

    Args:
        rewards: shape (candidates,) or (candidates, rewards); or ``Candidates``.
        k: slate size, a whole number >= 1 or ``math.inf``; or a distribution, ``{2: 0.5, 4: 0.5}``.
        rounds: how many rounds to forecast.
        temperature: divides the rewards in the pick.
        noise: ``gumbel`` (Luce choice), ``gaussian`` (Thurstone), ``none`` (best of K), or a ``Noise``.
        keep: how many of the K are kept.
        lapse: share of slates kept from at random.
        rule: any rule, in place of the five above (``Threshold``, ``TopFraction``).
        then: further stages of a round, each selecting from what the one before kept.
        weights: share of slates picked by each reward; equal if None.
        real_fraction: share rho of real data in each retraining set.
        accumulate: whether training sets keep the data of all rounds before.
        efficacy: how much of the way to its training law retraining moves the model, in (0, 1].
        groups: group of each candidate, shape (candidates,), for ``share`` and ``entropy``.
        track: further columns (candidates,) whose expectation is forecast, as ``mean:NAME``.
        contexts: context of each candidate. Selection happens within contexts: with 500 candidates or
            more in each, every context is its own population; with fewer, residuals from the contexts'
            means are pooled (:mod:`recurate.theory.residuals`). Raw rewards are never pooled.
        names: names of the rewards.
        law: masses of the candidates under the model's law p_0; uniform if None.
        reference: rewards of real data, p_ref; None: the model's own law, p_ref = p_0. With groups or
            tracked columns and real_fraction > 0, pass ``Candidates``.
        picks: picks a round, for the bands; None: infinitely many.
        cells: partition behind ``kl_to_reference``, to match a measurement's; see :func:`predict`.
        tail: whether a fitted tail continues rounds beyond the effective support, as source
            ``fitted tail`` (:mod:`recurate.theory.tail`; one reward, one context).
        bounds: whether to check the proved statements on this population (:mod:`recurate.theory.bounds`).
        first: rounds played before these candidates, whose data an accumulating loop has kept.
        seed: of the simulations behind the bands.

    Returns:
        A :class:`Forecast`. Quantities: ``mean_reward``, ``mean_exp_reward`` = E exp(r / temperature),
        ``var_exp_reward``, ``kl_to_reference`` (between reward laws: a lower bound of the models' KL),
        ``share`` of each group and their ``entropy`` (nats), ``effective_support`` = 1 / sum p^2.

    Raises:
        InputError: a value is out of range or shapes disagree.

    >>> import recurate
    >>> result = recurate.forecast([0.0, 1.0, 2.0], k=2, rounds=1)
    >>> result.trajectory.values("mean_reward").round(4)
    array([1.    , 1.2719])
    """
    candidates = as_candidates(rewards, names=names, groups=groups, track=track, contexts=contexts)
    if reference is not None and not isinstance(reference, Candidates):
        reference = as_candidates(reference, names=candidates.names)
    setting = setting_of(
        len(candidates.names),
        k=k,
        rounds=rounds,
        temperature=temperature,
        noise=noise,
        keep=keep,
        lapse=lapse,
        rule=rule,
        then=then,
        weights=weights,
        real_fraction=real_fraction,
        accumulate=accumulate,
        efficacy=efficacy,
        picks=picks,
        first=first,
    )
    return predict(
        candidates,
        setting,
        law=None if law is None else check_law("law", law, len(candidates)),
        reference=reference,
        cells=cells,
        stream=Stream(seed),
        tail=tail,
        bounds=bounds,
    )


def setting_of(
    dimension: int,
    *,
    k: float | Mapping[float, float] = 4,
    rounds: int = 10,
    temperature: float = 1.0,
    noise: str | Noise = "gumbel",
    keep: int = 1,
    lapse: float = 0.0,
    rule: Selection | None = None,
    then: Sequence[Stage] = (),
    weights: Sequence[float] | None = None,
    real_fraction: float = 0.0,
    accumulate: bool = False,
    efficacy: float = 1.0,
    picks: int | None = None,
    first: int = 0,
) -> Setting:
    """Check what happens every round, for ``dimension`` rewards; see :func:`forecast`."""
    plain = (k, temperature, noise, keep, lapse)
    if rule is not None and plain != (4, 1.0, "gumbel", 1, 0.0):
        raise InputError(
            "a rule brings its own k, temperature, noise, keep and lapse",
            got=f"rule and {plain}",
            remedy="leave these five out, or leave out the rule",
        )
    if rule is None:
        rule = Rule(k, temperature, noise_named(noise) if isinstance(noise, str) else noise, keep, lapse)
    own = check_weights(weights, dimension)
    stages = [(s.rule, own if s.weights is None else check_weights(s.weights, dimension)) for s in then]
    return Setting(
        rule=rule,
        weights=tuple(own.tolist()),
        real_fraction=check_real_fraction(real_fraction),
        rounds=_check_count("rounds", rounds, 0),
        picks=None if picks is None else _check_count("picks", picks, 1),
        then=tuple(Stage(stage, tuple(shares.tolist())) for stage, shares in stages),
        accumulate=bool(accumulate),
        efficacy=check_efficacy(efficacy),
        first=_check_count("first", first, 0),
    )


def _check_count(name: str, value: int, least: int) -> int:
    if not is_number(value) or not math.isfinite(value) or value != int(value) or not least <= value < 2**62:
        raise InputError(
            f"{name} must be a whole number >= {least}",
            got=value,
            remedy=f"for example {name} = 10",
        )
    return int(value)


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
    """Forecast from candidates; see :func:`forecast`.

    Args:
        candidates: the first round's.
        setting: what happens every round.
        law: p_0 on the candidates; uniform if None.
        reference: real data; None: p_ref = p_0.
        cells: partition behind ``kl_to_reference`` where forecast and measurement must be alike; None:
            made from the reference, or exact on the atoms if p_ref = p_0.
        stream: randomness of the bands; None: no bands.
        tail: whether to continue beyond the effective support by a fitted tail.
        bounds: whether to check the proved statements.
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
                f"no bands: {len(candidates)} candidates are too few (at least {SMALLEST_POOL} are needed, "
                f"and {FEWEST_CONTEXTS} contexts if they are thin), too uneven, or too many nats apart"
            )
        else:
            rows = [found.around(row) for row in rows]
            extinctions = found.extinctions
    if ends is not None:
        warnings.append(
            f"from round {ends} on the effective support is below {SUPPORT:g} candidates "
            f"({values[ends].support:.0f}): those values are beyond what this pool can tell"
        )
    last = model.last_law
    if reference is not None:
        warnings += _about_coverage(candidates, reference, last, setting.rounds)
    if tail:
        continued, why = continue_tail(model, ends)
        rows += continued
        warnings += why
    return Forecast(
        Trajectory(tuple(rows)),
        setting,
        len(candidates),
        last,
        model.mode,
        ends,
        tuple(warnings),
        extinctions,
        check_model(model) if bounds else (),
    )


def _about_coverage(candidates: Candidates, reference: Candidates, law: FloatArray, rounds: int) -> list[str]:
    """Say how much of the last law lies where there are no real data."""
    low, high = reference.rewards.min(axis=0), reference.rewards.max(axis=0)
    outside = ((candidates.rewards < low) | (candidates.rewards > high)).any(axis=1)
    share = float(law[: len(candidates)] @ outside)
    if share < UNCOVERED:
        return []
    return [
        f"in round {rounds} {share:.0%} of the model's mass has rewards beyond those of the real data: they "
        "do not hold it back there, and kl_to_reference counts it with the outermost of them"
    ]


def reference_cells(candidates: Candidates, reference: Candidates) -> tuple[Cells | None, list[str]]:
    """Return the partition behind ``kl_to_reference`` for a reference of its own, or None and why."""
    if reference.names != candidates.names:
        raise InputError(
            "the reference must have the same rewards as the candidates",
            got=f"{', '.join(reference.names)} against {', '.join(candidates.names)}",
            remedy="score the real data with the same reward functions, in the same order",
        )
    if candidates.contexts is not None:
        return None, ["kl_to_reference is left out: within contexts it is not told from a reference sample"]
    cells = estimates.partition(reference.rewards)
    if cells.reference.size < estimates.FEWEST_CELLS:
        return None, [
            f"kl_to_reference is left out: {len(reference)} real samples are too few "
            f"(or too alike) to tell reward laws apart"
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
    """Return the same quantities as measured in every round of a log, on the model's candidates.

    Args:
        log: one or several rounds.
        temperature: of exp_reward.
        group: column of groups, or None.
        track: further columns whose mean is measured.
        cells: partition behind ``kl_to_reference``; None leaves it out.
        names: groups to report beside those that occur.
        stratified: whether all rounds have the same contexts in the same numbers, so that errors do not count
            the contexts' choice.
    """
    generated = log.select(source=MODEL)
    rows: list[Row] = []
    top = generated.reward_matrix().max(axis=0) / temperature
    everything = from_log(generated, group=group, track=track)
    labels = tuple(sorted({*names, *group_names(everything, None)}))
    for t in generated.rounds():
        candidates = everything.take(generated.column("round") == t)
        describer = Describer(candidates, temperature, labels, tuple(top.tolist()), stratified)
        kl = cells.kl(cells.assign(candidates.rewards)) if cells is not None else None
        rows += describer.rows(t, MEASURED, describer.values(kl=kl))
    return Trajectory(tuple(rows))


def split_log(
    log: Log, *, group: str | None = None, track: Sequence[str] = ()
) -> tuple[Candidates, Candidates | None]:
    """Return the first round's candidates and all real data (None if the log holds none).

    The candidates know the groups of all rounds.

    Raises:
        InputError: the log has no generated candidates.
    """
    generated = log.select(source=MODEL)
    if generated.table.num_rows == 0:
        raise InputError(
            "the log holds no generated candidates",
            got=f"sources {sorted(set(log.column('source').tolist()))}",
            remedy=f"candidates have source {MODEL!r}, real data {REAL!r}",
        )
    first = generated.rounds()[0]
    candidates = from_log(generated.select(round=first), group=group, track=track)
    if group is not None:
        everything = from_log(generated, group=group)
        candidates = replace(candidates, labels=group_names(everything, None))
    real = log.select(source=REAL)
    if real.table.num_rows == 0:
        return candidates, None
    return candidates, from_log(real, group=group, track=track)
