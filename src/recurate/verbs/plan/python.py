"""The verb as a Python function."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import ArrayLike

from recurate.core import progress
from recurate.core.citations import cite
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates, as_candidates
from recurate.log.inputs import folder_of, is_array, name_of
from recurate.log.reading.logs import Opened
from recurate.log.reading.mapping import Given
from recurate.log.reading.understand import accounted
from recurate.rules import Noise, Rule, Selection
from recurate.theory.coverage import long_run_warnings
from recurate.theory.forecast import predict, split_log
from recurate.theory.setting import check_efficacy, check_weights
from recurate.verbs.forecast.from_log import (
    LogOptions,
    last_round,
    picks_of,
    read,
    reference_of,
    run_settings,
)
from recurate.verbs.forecast.ruling import RECORDED, Ruling, ruling_of
from recurate.verbs.options import check_columns, column_or_none, given, listed
from recurate.verbs.plan.evaluation import LONG, Constraints, Goal, Manner, size_name, sized
from recurate.verbs.plan.plan import Plan, plan_settings, settings
from recurate.verbs.plan.report import plan_result
from recurate.verbs.result import Result


def plan(
    log: Any,
    *,
    reward: str | Sequence[str] | None = None,
    group: str | ArrayLike | None = None,
    track: str | Sequence[str] | Mapping[str, ArrayLike] | None = None,
    context: str | ArrayLike | None = None,
    round: str | None = None,  # noqa: A002
    slate: str | None = None,
    pick: str | None = None,
    rank: str | None = None,
    rating: str | None = None,
    form: str | None = None,
    alternatives: Sequence[str] = (),
    places_from: int | None = None,
    include: str | Sequence[str] | None = None,
    maximise: str | None = None,
    importance: Sequence[float] | None = None,
    rounds: int | None = 10,
    floor: float | None = None,
    kl: float | None = None,
    entropy: float | None = None,
    variance: float | None = None,
    budget: float | None = None,
    picks: int | None = None,
    k: Sequence[int | float] | None = None,
    real_fraction: Sequence[float] | None = None,
    temperature: Sequence[float] | None = None,
    weights: Sequence[Sequence[float]] | None = None,
    rule: Selection | str | None = None,
    noise: str | Noise | None = None,
    keep: int | None = None,
    lapse: float | None = None,
    threshold: float | Sequence[float] | None = None,
    top: float | Sequence[float] | None = None,
    false_rejection: float | None = None,
    false_acceptance: float | None = None,
    then: Sequence[float | tuple[float, Sequence[float] | None]] = (),
    accumulate: bool | None = None,
    efficacy: float | None = None,
    reference: Any = None,
    renew: bool = False,
    tail: bool = False,
    seed: int = 0,
    refine: bool = True,
    maximize: str | None = None,
) -> Result[Plan]:
    r"""Return the best K, real fraction, weights and temperature under constraints.

    Solves, over a grid of settings s = (K, rho, w, tau) that is refined around the best,

    .. math:: \max_s J(p_T^s) \quad \text{subject to} \quad \text{share}_g \ge \text{floor},\;
        \mathrm{KL}(p_T^s \| p_\mathrm{ref}) \le \text{kl},\; \dots

    where p_T is the forecast law after T rounds, or its limit. The grid is forecast on a compressed
    population; the chosen setting and the frontiers are forecast again on all candidates.

    Args:
        log: rewards of one round's candidates, an array (candidates,) or (candidates, rewards), or
            ``Candidates``; or a log: a path or several, a run's or fit's folder, an Arrow table, a pandas
            or polars frame, a Hugging Face dataset or a ``Log``, whose first round is used.
        reward: the reward columns; with arrays, the names of the rewards.
        group: the column of groups; with arrays, the group of each candidate. None: the reward whose maximum
            a candidate is closest to.
        track: further numeric columns whose expectation is forecast at the plan's setting; with arrays, a
            mapping of them.
        context: the column of contexts; with arrays, the context of each candidate. Contexts are treated as
            in a forecast.
        round: the column of rounds (steps); with slate, pick, rank, rating, form, alternatives and
            places_from, what :func:`recurate.fit` calls so: how the log is read, guessed if not given.
        slate: the column of slates.
        pick: the column of picks.
        rank: the column of ranks, 1 the best.
        rating: the column of ratings, higher is better.
        form: the form of the file.
        alternatives: the alternatives of a wide file, in the order of the codes of its picks.
        places_from: the number of the first place where picks are places.
        include: the kinds of answers in an export of ``recurate serve`` that count as well: ``repeats``,
            ``checks``, ``simulated``. None: none of them.
        maximise: J: ``reward`` (sum of importance x E r), ``nash`` (sum of importance x log E exp r) or
            ``worst`` (the smallest E r_i). ``reward`` if None.
        importance: the weight of each reward in J, shape (rewards,); equal if None.
        rounds: the number T of rounds; None: the limit.
        floor: the smallest share of every group under the last law, in [0, 1 / groups].
        kl: the largest divergence of the last law from the reference, in nats.
        entropy: the smallest entropy of the groups' shares under the last law, in nats.
        variance: the smallest share of every reward's first variance that is kept.
        budget: the largest number of candidates in all, K times picks times rounds.
        picks: the number of picks per round, for the cost; None: the log's, or 1000.
        k: slate sizes to choose from, besides the log's own; None: 2 to 32.
        real_fraction: real fractions to choose from; None: 0 to 0.7.
        temperature: temperatures to choose from; None: that of the rule. Where the log's picks follow best of
            K, they mean Luce's rule at those temperatures.
        weights: preference weights to choose from; None: with several rewards a grid.
        rule: ``luce``, ``best`` (of K), ``thurstone`` or ``random``, or a ``Rule``, whose K and temperature
            give way to ``k`` and ``temperature``, or a ``Threshold`` or ``TopFraction``. None: as in
            :func:`recurate.forecast`.
        noise: ``gumbel``, ``gaussian``, ``none``, or a ``Noise``, in place of ``rule``.
        keep: the number kept of each slate. None: that of the rule.
        lapse: the share of slates in which the pick is random. None: that of the rule.
        threshold: levels to choose from, in place of slates: every candidate with a reward of at least the
            level is kept.
        top: shares to choose from, in place of slates: this share of the pool, the best candidates, is kept.
        false_rejection: with levels, the share of what reaches them that the verifier rejects; 0 if None.
        false_acceptance: with levels, the share of all else that the verifier accepts; 0 if None.
        then: further stages that select from the kept candidates: slate sizes, or (size, weights).
        accumulate: whether training sets keep the data of all earlier rounds.
        efficacy: the part of the way to its training law that retraining moves the model; 1 if None.
        reference: real data: anything that ``log`` may be; None: the log's, else the candidates themselves.
        renew: whether to plan from the log's last round instead of its first; without real data the first
            round's candidates are then the reference.
        tail: whether a fitted tail continues the forecast of the plan's setting beyond its effective support.
        seed: the seed of the simulations behind that forecast's bands.
        refine: whether to refine the grid around the best setting.
        maximize: the other spelling of ``maximise``.

    Returns:
        A result with ``best`` (None if no setting keeps every constraint), ``closest``, ``binding``, the
        frontiers ``diversity`` and ``compute``, ``sensitivity`` to rewards that are off by 10 %, and with
        several rewards ``ends``: limits, survivors and phase diagrams. Its ``ruling`` states the rule, and
        ``own`` is the best outcome with the log's own K, ``log_k``. Its ``forecast`` is that of the setting,
        round by round.

    Raises:
        InputError: a value is out of range, floors sum to more than one, rewards are constant, a group is
            empty, an option does not apply to the rule, or ``maximise`` and ``maximize`` differ.

    The loop: D. Ferbach et al., NeurIPS 2024 (arXiv 2407.09499), section 2.2. Limits and survival of groups:
    Falahati et al., *Curated Synthetic Data Doesn't Have to Collapse*, ICML 2026 (arXiv 2605.07724).
    ``recurate docs plans`` has the mathematics.

    >>> import numpy as np
    >>> import recurate
    >>> rewards = np.random.default_rng(0).normal(size=(500, 2))
    >>> found = recurate.plan(rewards, kl=1.0, floor=0.2, rounds=4, k=[2, 4], real_fraction=[0.0, 0.3])
    >>> found.best.feasible, found.best.kl <= 1.0, min(found.best.shares) >= 0.2
    (True, True, True)
    """
    cite("ferbach2024", "falahati2026")
    objective = _objective(maximise, maximize)
    progress.stage("reading the log")
    own = {} if is_array(log) else run_settings(folder_of(log))
    columns = given(
        context=column_or_none(context), round=round, slate=slate, pick=pick, rank=rank, rating=rating,
        form=form, alternatives=alternatives, places_from=places_from, include=include,
    )  # fmt: skip
    _check_horizon(rounds, track, tail)
    opened, candidates, real, played = _data(
        log, listed(reward), group, track, context, reference, columns, renew=renew
    )
    with accounted(None if opened is None else opened.understood):
        table = None if opened is None else opened.log
        count = len(candidates.names)
        asked = {
            "rule": rule, "noise": noise, "keep": keep, "lapse": lapse,
            "temperature": temperature[0] if temperature and isinstance(rule, str | None) else None,
            "false_rejection": false_rejection, "false_acceptance": false_acceptance,
        }  # fmt: skip
        levels, shares = _tried(threshold), _tried(top)
        ruling = ruling_of(
            table, own, asked, threshold=None if levels is None else levels[0],
            top=None if shares is None else shares[0],
        )  # fmt: skip
        if temperature is not None and len(temperature) > 1:
            tried = ", ".join(f"{t:g}" for t in temperature)
            ruling = replace(ruling, statement=f"{ruling.statement}; temperatures {tried} are tried")
        manner = _manner(ruling, then, accumulate or own.get("accumulate"), efficacy, rounds, played)
        own_picks = None if table is None else picks_of(table, own)
        goal = Goal(
            objective,
            check_weights(importance, count),
            rounds,
            own_picks or 1000 if picks is None else picks,
            Constraints(floor, kl, entropy, variance, budget),
            manner,
        )
        sizes, log_k = _sizes(ruling, k, levels or shares)
        space = settings(
            count, sizes, real_fraction, weights,
            [manner.rule.temperature] if temperature is None else temperature,
            rule=manner.rule, log_k=log_k, mix=ruling.weights,
        )  # fmt: skip
        found = plan_settings(candidates, real, goal, space, refine=refine, log_k=log_k)
        drawn = own_picks if picks is None else picks
        progress.stage("forecasting the plan")
        ahead = None if rounds is None else predict(
            candidates, manner.setting(found.setting.choice, rounds, drawn), reference=real,
            stream=Stream(seed), tail=tail,
        )  # fmt: skip
        settled = manner.setting(found.setting.choice, LONG)
        later = long_run_warnings(candidates, real, settled) if ahead is None else ahead.warnings
        warnings = (*ruling.warnings, *found.warnings, *later)
        found = replace(
            found, ruling=ruling, opened=opened, forecast=ahead, warnings=tuple(dict.fromkeys(warnings))
        )
    return plan_result(found, name_of(log))


def _manner(
    ruling: Ruling,
    then: Sequence[float | tuple[float, Sequence[float] | None]],
    accumulate: bool | None,
    efficacy: float | None,
    rounds: int | None,
    played: int,
) -> Manner:
    """Return what all settings have in common.

    Raises:
        InputError: the rule has nothing to choose, or the limit of an accumulating loop is planned for.
    """
    if not size_name(ruling.rule):
        raise InputError(
            "a plan chooses a slate size, a level or a share kept, and this rule has none of them",
            got=ruling.statement,
            remedy="--rule best (or luce) plans for slates; recurate forecast takes this rule as it is",
        )
    if accumulate and rounds is None:
        raise InputError(
            "the limit of a loop that accumulates is not known",
            got="accumulate, and the limit",
            remedy="plan for a number of rounds, --rounds 10",
        )
    if isinstance(efficacy, str):
        raise InputError(
            "a plan takes the efficacy as a number",
            got=efficacy,
            remedy="recurate forecast LOG --efficacy fit estimates it",
        )
    stages = tuple(
        (float(stage[0]), None if stage[1] is None else tuple(stage[1]))
        if isinstance(stage, tuple)
        else (float(stage), None)
        for stage in then
    )
    eta = 1.0 if efficacy is None else check_efficacy(efficacy)
    return Manner(ruling.rule, stages, bool(accumulate), eta, played)


def _objective(maximise: str | None, maximize: str | None) -> str:
    """Return the objective by either spelling of its option."""
    if maximise is not None and maximize is not None and maximise != maximize:
        raise InputError(
            "maximise and maximize are one option",
            got=f"maximise={maximise!r}, maximize={maximize!r}",
            remedy="give one of them",
        )
    return maximise or maximize or "reward"


def _check_horizon(rounds: int | None, track: Any, tail: bool) -> None:
    """Raise InputError for options of the forecast by rounds, where the limit is planned for."""
    asked = [name for name, used in (("--track", track), ("--tail", tail)) if used]
    if rounds is None and asked:
        raise InputError(
            f"{asked[0]} belongs to a forecast round by round",
            got="--rounds limit",
            remedy="plan for a number of rounds, --rounds 10",
        )


def _tried(values: float | Sequence[float] | None) -> list[float] | None:
    """Return levels or shares to try as a list."""
    if values is None:
        return None
    found = list(values) if isinstance(values, Sequence) else [values]
    if not found:
        raise InputError(
            "there is nothing to choose from", got="no level or share", remedy="give at least one"
        )
    return found


def _sizes(
    ruling: Ruling, ks: Sequence[int | float] | None, tried: Sequence[float] | None
) -> tuple[Sequence[float] | None, float | None]:
    """Return the slate sizes, levels or shares kept to try, and which of them is the log's own."""
    rule = ruling.rule
    if isinstance(rule, Rule):
        return ks, _own_size(rule, ruling, ks)
    if ks is not None:
        raise InputError(
            "this rule has no slates, so there is no K to choose",
            got=f"--k {', '.join(f'{k:g}' for k in ks)}; {ruling.statement}",
            remedy="leave out --k, or plan for slates with --rule best (or luce)",
        )
    own = None if tried else float(getattr(rule, size_name(rule)))
    for value in tried or ():
        sized(rule, value, rule.temperature)
    return tried or [own or 0.0], own


def _own_size(rule: Rule, ruling: Ruling, ks: Sequence[int | float] | None) -> int | None:
    """Return the K of the log's slates or prompts, their mean rounded; None if the log has none."""
    followed = ruling.followed
    known = ruling.source == RECORDED or (followed is not None and followed.sizes is not None)
    if not known or (ks is not None and not ks) or math.isinf(rule.largest):
        return None
    mean = sum(size * share for size, share in rule.sizes)
    return max(round(mean), rule.keep)


def _data(
    log: Any,
    rewards: Sequence[str] | None,
    group: str | ArrayLike | None,
    track: Any,
    context: str | ArrayLike | None,
    reference: Any,
    columns: Given,
    *,
    renew: bool,
) -> tuple[Opened | None, Candidates, Candidates | None, int]:
    """Return the log (None for arrays), one round's candidates, the real data, and the rounds before."""
    real, opened, options, played = None, None, LogOptions(), 0
    if is_array(log):
        if renew:
            raise InputError("renewing needs the rounds of a log", got="arrays", remedy="pass a log")
        candidates = as_candidates(log, names=rewards, groups=group, contexts=context, track=track)
    else:
        several = [track] if isinstance(track, str) else list(track or ())
        check_columns({"group": group, "context": context, "track": several})
        options = LogOptions(group=column_or_none(group), track=several, columns=columns)
        opened = read(log, rewards, options)
        candidates, real = split_log(opened.log, group=options.group, track=several)
    if reference is not None:
        real = reference_of(reference, candidates, options)
    if renew and opened is not None:
        with accounted(opened.understood):
            first, (candidates, played) = candidates, last_round(opened.log, options, candidates)
        real = first if real is None else real
    return opened, candidates, real, played
