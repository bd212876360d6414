"""The verb as a Python function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from recurate.core import progress
from recurate.core.citations import cite
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.log.candidates import as_candidates
from recurate.log.inputs import is_array, name_of
from recurate.rules import Noise, Selection
from recurate.theory.setting import Stage
from recurate.verbs.forecast.from_log import LogForecast, LogOptions, forecast_arrays, forecast_log
from recurate.verbs.forecast.report import forecast_result
from recurate.verbs.forecast.several import forecast_models, read_models, stored_models
from recurate.verbs.forecast.several_report import models_result
from recurate.verbs.options import check_columns, column_or_none, given, listed
from recurate.verbs.result import Result


def forecast(
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
    reference: Any = None,
    law: ArrayLike | None = None,
    k: float | Mapping[float, float] | None = None,
    temperature: float | None = None,
    noise: str | Noise | None = None,
    keep: int | None = None,
    lapse: float | None = None,
    rule: Selection | str | None = None,
    threshold: float | None = None,
    top: float | None = None,
    false_rejection: float | None = None,
    false_acceptance: float | None = None,
    then: Sequence[Stage | float | tuple[float, Sequence[float] | None]] = (),
    real_fraction: float | None = None,
    accumulate: bool | None = None,
    efficacy: float | str | None = None,
    weights: Sequence[float] | None = None,
    models: Path | str | Sequence[Mapping[str, Any]] | None = None,
    model: str | None = None,
    rounds: int = 10,
    picks: int | None = None,
    renew: bool = False,
    tail: bool = False,
    bounds: bool = False,
    seed: int = 0,
) -> Result[LogForecast]:
    r"""Forecast a self-consuming loop exactly, from one round's candidates and their rewards.

    A model with law :math:`p_t` proposes slates of K candidates, a rule keeps one of each slate, and the
    model is retrained on the kept candidates, mixed with a share :math:`\rho` of real data of law
    :math:`p_\mathrm{ref}`. With infinitely many samples the next law is

    .. math:: p_{t+1} = \rho\,p_\mathrm{ref} + (1-\rho)\,p_t W_t, \qquad W_t(x) = K\,P(x \text{ is kept}),

    This map is iterated on the candidates themselves. With efficacy eta, retraining moves the model only the
    part eta of the way.

    Args:
        log: rewards of one round's candidates, an array (candidates,) or (candidates, rewards), or
            ``Candidates``; or a log: a path or several, a run's or fit's folder, an Arrow table, a pandas
            or polars frame, a Hugging Face dataset or a ``Log``. The forecast starts from the first
            round of a log and shows later rounds beside it; the settings of a run or fit are the defaults.
        reward: the reward columns; with arrays, the names of the rewards.
        group: the column of groups, for shares and entropy; with arrays, the group of each candidate.
        track: further columns whose expectation is forecast, as ``mean:NAME``; with arrays, a mapping of
            names to values.
        context: the column of contexts; with arrays, the context of each candidate. Picks happen within
            contexts. A context with 500 candidates or more is a population of its own; thinner ones pool
            residuals from the contexts' means.
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
        reference: real data, :math:`p_\mathrm{ref}`: anything that ``log`` may be. None: the log's rows of
            source ``real``, else the model's own law :math:`p_0`.
        law: masses of the candidates under :math:`p_0`, with arrays; uniform if None.
        k: slate size, a whole number >= 1 or ``math.inf``, or a distribution ``{2: 0.5, 4: 0.5}``. None:
            that of the rule.
        temperature: divides the rewards in the pick. Where the log's picks follow best of K, it means Luce's
            rule at that temperature. None: that of the rule.
        noise: ``gumbel`` (Luce's rule), ``gaussian`` (Thurstone's), ``none`` (best of K), or a ``Noise``; in
            place of ``rule``.
        keep: the number kept of each slate. None: that of the rule.
        lapse: the share of slates in which the pick is random. None: that of the rule.
        rule: ``luce``, ``best`` (of K), ``thurstone`` or ``random``; or any rule, in place of the five above.
            None: that of a run's or fit's settings; else the one that the log's picks follow; without picks,
            best of K, with as many as the log has candidates per slate, or per context and round; else Luce's
            rule with K = 4 at temperature 1.
        threshold: in place of slates, keep every candidate with a reward of at least this level.
        top: in place of slates, keep this share of the pool, the best candidates.
        false_rejection: with a threshold, the share of the good candidates (those that reach it) that the
            verifier rejects, in [0, 1]; 0 if None.
        false_acceptance: with a threshold, the share of the others that it accepts, in [0, 1]; 0 if None.
        then: further stages that select from the kept candidates: slate sizes, (size, weights), or ``Stage``.
        real_fraction: share :math:`\rho` of real data in each retraining set; 0 if None.
        accumulate: whether training sets keep the data of all earlier rounds.
        efficacy: eta in (0, 1], 1 if None; ``"fit"`` estimates it from the first half of the log's rounds.
        weights: the share of slates judged by each reward; equal if None.
        models: several models that train on each other's picks: a TOML file with tables ``[[models]]``, or
            such tables: ``name``, ``rewards`` (the columns that judge its slates) and ``trains_on`` (the
            share of each model's picks in its training set, by name; its own alone if absent). With these
            shares A, model i is trained on :math:`\rho\,p_\mathrm{ref} + (1-\rho) \sum_j A_{ij}\,p_j
            W_j`. The groups of the trajectory are then the models, ``own_reward`` the mean reward of a model
            by its own rewards, and ``law`` has the shape (atoms, models). There are no bands. The folder of
            a run of several models has them itself.
        model: with models, the column that names each candidate's model; ``model`` if None.
        rounds: the number of rounds to forecast.
        picks: the number of picks per round, for the bands. None: the log's, or infinitely many.
        renew: whether to forecast also every round of the log from the previous one, and further rounds from
            the last.
        tail: whether a fitted tail continues the forecast beyond the effective support.
        bounds: whether to check the proved statements on this population (the command always does).
        seed: the seed of the simulations behind the bands.

    Returns:
        A result whose ``ruling`` states the rule, and why it is used. Its ``trajectory`` has, per round:
        ``mean_reward``, ``mean_exp_reward`` = E exp(r / temperature), ``var_exp_reward``,
        ``kl_to_reference`` (nats, between reward laws: a lower bound of the models' KL), ``share`` of each
        group and their ``entropy`` (nats), ``effective_support`` = 1 / sum p^2. Its ``law`` is that of the
        last round, shape (atoms,).

    Raises:
        InputError: a file, column or value is wrong, or shapes disagree.

    The law is that of D. Ferbach et al., *Self-Consuming Generative Models with Curated Data Provably
    Optimize Human Preferences*, NeurIPS 2024, section 2 (K candidates, Lemma 2.1 for K = infinity), with
    the rules and bands of ``recurate docs theory``.

    >>> import recurate
    >>> result = recurate.forecast([0.0, 1.0, 2.0], k=2, rounds=1)
    >>> result.trajectory.values("mean_reward").round(4)
    array([1.    , 1.2719])
    """
    cite("ferbach2024")
    progress.stage("reading the log")
    if isinstance(efficacy, str) and efficacy != "fit":
        raise InputError("efficacy is a number or 'fit'", got=efficacy, remedy="efficacy=0.8")
    asked: dict[str, Any] = {
        "k": k, "temperature": temperature, "noise": noise, "keep": keep, "lapse": lapse, "rule": rule,
        "real_fraction": real_fraction, "accumulate": accumulate, "weights": weights, "rounds": rounds,
        "efficacy": None if efficacy == "fit" else efficacy, "picks": picks,
        "false_rejection": false_rejection, "false_acceptance": false_acceptance,
    }  # fmt: skip
    stored = stored_models(log)
    if stored is not None and models is None:
        models = stored.settings()["models"]
    if models is not None:
        _check_alone(
            reward=reward, group=group, track=track, law=law, weights=weights, picks=picks,
            renew=renew or None, tail=tail or None, efficacy=efficacy if efficacy == "fit" else None,
        )  # fmt: skip
    elif model is not None:
        raise InputError("model belongs to several models", got=model, remedy="give models, too")
    stages = [stage if isinstance(stage, Stage | tuple) else (stage, None) for stage in then]
    common: dict[str, Any] = {
        "given": asked, "then": stages, "threshold": threshold, "top": top, "renew": renew,
        "fit_efficacy": efficacy == "fit",
        "how": {"tail": tail, "bounds": bounds, "stream": Stream(seed)},
    }  # fmt: skip
    if models is not None and is_array(log):
        raise InputError(
            "several models are forecast from a log, whose column names each candidate's model",
            got="an array of rewards",
            remedy="pass a table; or use recurate.theory.several_models.SeveralModels",
        )
    if models is not None:
        given_columns = given(
            context=column_or_none(context), round=round, slate=slate, pick=pick, rank=rank, rating=rating,
            form=form, alternatives=alternatives, places_from=places_from, include=include,
        )  # fmt: skip
        options = LogOptions(group=model, columns=given_columns, **common)
        found_models = forecast_models(stored or log, options, read_models(models), reference)
        return models_result(found_models, name_of(log))
    if is_array(log):
        named: Any = {"names": listed(reward), "groups": group, "track": track, "contexts": context}
        candidates = as_candidates(log, **named)
        found = forecast_arrays(candidates, LogOptions(**common), reference, law)
    else:
        several = [track] if isinstance(track, str) else track
        columns: Any = {"group": group, "context": context, "track": several or ()}
        check_columns(columns)
        if law is not None:
            raise InputError(
                "law belongs to arrays of rewards", got="a log", remedy="pass the rewards as an array"
            )
        del columns["context"]
        columns["columns"] = given(
            context=column_or_none(context), round=round, slate=slate, pick=pick, rank=rank, rating=rating,
            form=form, alternatives=alternatives, places_from=places_from, include=include,
        )  # fmt: skip
        found = forecast_log(log, LogOptions(listed(reward), **columns, **common), reference)
    return forecast_result(found, name_of(log))


def _check_alone(**others: Any) -> None:
    """Raise InputError if an option is given that several models have no use for.

    They name their rewards themselves, their names are the groups, and there are no bands.
    """
    wrong = [name for name, value in others.items() if value is not None]
    if wrong:
        raise InputError(
            "forecasts of several models do not have this option",
            got=", ".join(wrong),
            remedy="leave it out: each model names its rewards in its table, and there are no bands",
        )
