"""`recurate forecast`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from recurate.verbs import options
from recurate.verbs.options import efficacy_of, numbers, option, size, stage


def forecast(
    log: options.Log,
    reward: options.Reward = None,
    group: Annotated[str | None, option("COLUMN", "Column of groups, for shares and entropy.")] = None,
    track: options.Track = None,
    context: options.Context = None,
    round: options.Round = None,  # noqa: A002
    slate: options.Slate = None,
    pick: options.Pick = None,
    rank: options.Rank = None,
    rating: options.Rating = None,
    form: options.Form = None,
    alternatives: options.Alternatives = None,
    places_from: options.PlacesFrom = None,
    include: options.Include = None,
    reference: options.Reference = None,
    rule: options.Rule = None,
    k: Annotated[
        str | None,
        option("K", "Slate size: 4, inf, or shares 2:0.5,4:0.5. Default: the log's."),
    ] = None,
    temperature: Annotated[
        float | None,
        option("TAU", "Temperature of the rule: divides the rewards. Default: the log's."),
    ] = None,
    noise: options.Noise = None,
    keep: options.Keep = None,
    lapse: options.Lapse = None,
    threshold: Annotated[
        float | None,
        option("LEVEL", "No slates: keep candidates with a reward of at least LEVEL."),
    ] = None,
    top: Annotated[float | None, option("SHARE", "No slates: keep the best SHARE of the pool.")] = None,
    false_rejection: options.FalseRejection = None,
    false_acceptance: options.FalseAcceptance = None,
    then: options.Then = None,
    real_fraction: Annotated[
        float | None,
        option("SHARE", "Share of real data in each retraining set. Default: 0."),
    ] = None,
    accumulate: options.Accumulate = False,
    efficacy: Annotated[
        str | None,
        option(
            "SHARE|fit",
            "Fraction of the way to its training law that retraining moves the model. Default: 1. "
            "'fit' estimates it from the first half of the log's rounds.",
        ),
    ] = None,
    weights: Annotated[str | None, option("W,W", "Share of slates judged by each reward: 0.4,0.6.")] = None,
    models: Annotated[
        Path | None,
        option("FILE", "Several models: a TOML file of [[models]] with name, rewards and trains_on."),
    ] = None,
    model: Annotated[
        str | None, option("COLUMN", "With --models: column of each candidate's model. Default: 'model'.")
    ] = None,
    rounds: Annotated[int, option("N", "Number of rounds to forecast.")] = 10,
    picks: Annotated[
        int | None,
        option("N", "Picks per round, for the bands. Default: the log's, or infinite."),
    ] = None,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew", help="Also forecast every round of the log from the previous one, and beyond the log."
        ),
    ] = False,
    tail: options.Tail = False,
    seed: options.Seed = 0,
    out: options.Out = None,
    force: options.Force = False,
    open_report: options.Open = False,
    as_json: options.Json = False,
) -> None:
    """Forecast a loop from the candidates of one round and their rewards, exactly, without sampling.

    LOG has one row per candidate. If it has several rounds, the forecast starts from the first, and the
    later ones are shown beside the forecast. Rows with source 'real' are the reference. The rule is the one
    that the log's picks follow, unless options say otherwise; the first line states it. Without picks it is
    best of K, where the log has K candidates per slate or context. Prints a table and the statements that
    are proved about this loop, and writes trajectory.parquet, forecast.json and report.html. With --json,
    every line of the output is a row of the trajectory, and the rule is a line on standard error.

    For example:

      recurate forecast scores.csv --reward score --k 8 --rounds 5

      recurate forecast picks.jsonl --group topic --track length --real-fraction 0.5

      recurate forecast completions.jsonl --context prompt --rule luce --temperature 0.5

      recurate forecast two.parquet --reward a --reward b --weights 0.4,0.6 --k inf

      recurate forecast my-run --renew --efficacy fit

      recurate forecast two-models.csv --models models.toml --k 4
    """
    from recurate.core.plain import to_json
    from recurate.verbs.forecast.python import forecast as forecast_log
    from recurate.verbs.result import open_page, publish, save_told

    folder = options.target(out or options.beside(log, "forecast"), "forecast", force=force)
    found = forecast_log(
        options.source(log),
        reward=reward, group=group, track=track, context=context, round=round, slate=slate,
        pick=pick, rank=rank,
        rating=rating, form=form, alternatives=options.words(alternatives), places_from=places_from,
        include=include, reference=reference,
        rule=rule, k=None if k is None else _sizes(k), temperature=temperature, noise=noise, keep=keep,
        lapse=lapse, threshold=threshold, top=top, false_rejection=false_rejection,
        false_acceptance=false_acceptance, then=[stage(text) for text in then or ()],
        real_fraction=real_fraction, accumulate=accumulate or None, efficacy=efficacy_of(efficacy),
        weights=numbers("--weights", weights), models=models, model=model, rounds=rounds, picks=picks,
        renew=renew, tail=tail, bounds=True, seed=seed,
    )  # fmt: skip
    if as_json:
        written = save_told(found, folder)
        print(found.lead, file=sys.stderr)
        for row in found.to_arrow().to_pylist():
            print(to_json(row, indent=None))
        if open_report:
            open_page(written[-1])
    else:
        publish(found, folder, open_report=open_report)


def _sizes(text: str) -> float | dict[float, float]:
    """Read a slate size (``4``, ``inf``) or a distribution over sizes (``2:0.5,4:0.5``)."""
    if ":" not in text:
        return size("--k", text)
    pairs = [part.partition(":") for part in text.split(",")]
    return {size("--k", k): (numbers("--k", chance) or [0.0])[0] for k, _, chance in pairs}
