"""`recurate forecast`."""

from __future__ import annotations

from typing import Annotated

import typer

from recurate.core.errors import InputError
from recurate.verbs import options
from recurate.verbs.options import numbers, option, size


def forecast(
    log: options.Log,
    reward: options.Reward = None,
    group: Annotated[str | None, option("COLUMN", "Column of groups, for shares and entropy.")] = None,
    track: Annotated[
        list[str] | None, option("COLUMN", "Also forecast the expectation of this column; repeatable.")
    ] = None,
    context: options.Context = None,
    reference: options.Reference = None,
    k: Annotated[
        str | None, option("K", "Slate size: 4, inf, or shares 2:0.5,4:0.5. Default: the log's, or 4.")
    ] = None,
    temperature: Annotated[
        float | None, option("TAU", "Temperature: divides the rewards. Default: 1.")
    ] = None,
    noise: Annotated[
        str | None, option("NAME", "gumbel (Luce choice, the default), gaussian (Thurstone) or none.")
    ] = None,
    keep: Annotated[int | None, option("M", "Keep the best M of each slate.")] = None,
    lapse: Annotated[float | None, option("SHARE", "Share of slates in which the pick is random.")] = None,
    threshold: Annotated[
        float | None, option("LEVEL", "No slates: keep candidates with a reward of at least LEVEL.")
    ] = None,
    top: Annotated[float | None, option("SHARE", "No slates: keep the best SHARE of the pool.")] = None,
    then: Annotated[
        list[str] | None, option("K[:W,W]", "A further stage that picks 1 of K with weights W; repeatable.")
    ] = None,
    real_fraction: Annotated[
        float | None, option("SHARE", "Share of real data in each retraining set. Default: 0.")
    ] = None,
    accumulate: Annotated[
        bool, typer.Option("--accumulate", help="Training sets keep the data of all earlier rounds.")
    ] = False,
    efficacy: Annotated[
        str | None,
        option(
            "SHARE|fit",
            "Fraction of the way to its training law that retraining moves the model. Default: 1. "
            "'fit' estimates it from the first half of the log's rounds.",
        ),
    ] = None,
    weights: Annotated[str | None, option("W,W", "Share of slates judged by each reward: 0.4,0.6.")] = None,
    rounds: Annotated[int, option("N", "Number of rounds to forecast.")] = 10,
    picks: Annotated[
        int | None, option("N", "Picks per round, for the bands. Default: the log's, or infinite.")
    ] = None,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew", help="Also forecast every round of the log from the previous one, and beyond the log."
        ),
    ] = False,
    tail: Annotated[
        bool, typer.Option("--tail", help="Extrapolate beyond the effective support with a fitted tail.")
    ] = False,
    seed: options.Seed = 0,
    out: options.Out = None,
    as_json: options.Json = False,
) -> None:
    """Forecast a loop from the candidates of one round and their rewards, exactly, without sampling.

    LOG has one row per candidate. If it has several rounds, the forecast starts from the first, and the
    later ones are shown beside the forecast. Rows with source 'real' are the reference. Prints a table and
    the statements that are proved about this loop, and writes trajectory.parquet and report.html.

    For example:

      recurate forecast scores.csv --reward score --k 8 --rounds 5

      recurate forecast picks.jsonl --group topic --track length --real-fraction 0.5

      recurate forecast two.parquet --reward a --reward b --weights 0.4,0.6 --k inf

      recurate forecast my-run --renew --efficacy fit
    """
    from recurate.core.plain import to_json
    from recurate.verbs.forecast.python import forecast as forecast_log
    from recurate.verbs.result import publish

    found = forecast_log(
        log, reward=reward, group=group, track=track, context=context, reference=reference,
        k=None if k is None else _sizes(k), temperature=temperature, noise=noise, keep=keep, lapse=lapse,
        threshold=threshold, top=top, then=[_stage(text) for text in then or ()],
        real_fraction=real_fraction, accumulate=accumulate or None, efficacy=_efficacy(efficacy),
        weights=numbers("--weights", weights), rounds=rounds, picks=picks, renew=renew, tail=tail,
        bounds=True, seed=seed,
    )  # fmt: skip
    folder = out or options.beside(log, "forecast")
    if as_json:
        found.save(folder)
        for row in found.to_arrow().to_pylist():
            print(to_json(row, indent=None))
    else:
        publish(found, folder)


def _sizes(text: str) -> float | dict[float, float]:
    """Read a slate size (``4``, ``inf``) or a distribution over sizes (``2:0.5,4:0.5``)."""
    if ":" not in text:
        return size("--k", text)
    pairs = [part.partition(":") for part in text.split(",")]
    return {size("--k", k): (numbers("--k", chance) or [0.0])[0] for k, _, chance in pairs}


def _stage(text: str) -> tuple[float, list[float] | None]:
    """Read a further stage: K, or K:W,W."""
    k, _, weights = text.partition(":")
    return size("--then", k), numbers("--then", weights or None)


def _efficacy(text: str | None) -> float | str | None:
    if text in (None, "fit"):
        return text
    values = numbers("--efficacy", text) or []
    if len(values) > 1:
        raise InputError("--efficacy is one number", got=text, remedy="--efficacy 0.8, or fit")
    return values[0]
