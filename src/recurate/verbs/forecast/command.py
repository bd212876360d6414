"""`recurate forecast`."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recurate.core.errors import InputError
from recurate.verbs.options import numbers

if TYPE_CHECKING:
    from recurate.verbs.forecast.from_log import LogForecast


def forecast(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help="A log or table (.parquet, .jsonl, .csv) or a run's folder (its settings are defaults).",
        ),
    ],
    reward: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Reward column, repeatable. Default: 'reward', 'reward_...'."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of groups, for shares and entropy.")
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Forecast the expectation of this column too; repeatable."),
    ] = None,
    context: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of contexts (prompts); picks happen within them.")
    ] = "context",
    reference: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Real data with the same columns: the law p_ref.")
    ] = None,
    k: Annotated[
        str | None,
        typer.Option(
            metavar="K", help="Slate size: 4, inf, or shares 2:0.5,4:0.5. Default: the log's, or 4."
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="TAU", help="Divides the rewards in the pick. Default: 1.")
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="gumbel (Luce choice, the default), gaussian (Thurstone), none."),
    ] = None,
    keep: Annotated[int | None, typer.Option(metavar="M", help="Keep the best M of each slate.")] = None,
    lapse: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of slates picked from at random.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="LEVEL", help="No slates: keep every candidate with a reward from LEVEL on."),
    ] = None,
    top: Annotated[
        float | None, typer.Option(metavar="SHARE", help="No slates: keep the best SHARE of the pool.")
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option(metavar="K[:W,W]", help="A second stage, picking 1 of K by weights W; repeatable."),
    ] = None,
    real_fraction: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of real data in each retraining set. Default: 0."),
    ] = None,
    accumulate: Annotated[
        bool, typer.Option("--accumulate", help="Training sets keep the data of all rounds before.")
    ] = False,
    efficacy: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE|fit",
            help="How much of the way to its training law retraining moves the model (1); "
            "'fit' estimates it from the first half of the log's rounds.",
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="W,W", help="Share of slates picked by each reward: 0.4,0.6.")
    ] = None,
    rounds: Annotated[int, typer.Option(metavar="N", help="Rounds to forecast.")] = 10,
    picks: Annotated[
        int | None,
        typer.Option(metavar="N", help="Picks a round, for the bands. Default: the log's, or infinite."),
    ] = None,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew", help="Also forecast every round of the log from the one before, and onwards."
        ),
    ] = False,
    tail: Annotated[
        bool, typer.Option("--tail", help="Continue beyond the effective support by a fitted tail.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the simulations behind the bands.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write. Default: LOG-forecast.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the trajectory as JSON lines instead of a table.")
    ] = False,
) -> None:
    """Forecast a loop from the candidates of one round and their rewards: exactly, without sampling.

    LOG has one row per candidate. Of a log with several rounds the first is the start, and the later ones are
    shown beside the forecast. Rows with source 'real' are the reference. Prints a table and what is proved
    about this loop, and writes trajectory.parquet and report.html.

    For example:

      recurate forecast scores.csv --reward score --k 8 --rounds 5

      recurate forecast picks.jsonl --group topic --track length --real-fraction 0.5

      recurate forecast two.parquet --reward a --reward b --weights 0.4,0.6 --k inf

      recurate forecast my-run --renew --efficacy fit
    """
    from recurate.report.console import print_table
    from recurate.verbs.forecast.from_log import LogOptions, forecast_log, parse_size
    from recurate.verbs.forecast.report import forecast_table, print_evidence

    arguments: dict[str, Any] = {
        "rounds": rounds, "accumulate": accumulate, "tail": tail, "bounds": True, "seed": seed,
        **{n: v for n, v in (("noise", noise), ("keep", keep), ("lapse", lapse)) if v is not None},
    }  # fmt: skip
    if efficacy not in (None, "fit"):
        values = numbers("--efficacy", efficacy)
        if len(values) > 1:
            raise InputError("--efficacy is one number", got=efficacy, remedy="--efficacy 0.8, or fit")
        arguments["efficacy"] = values[0]
    options = LogOptions(
        rewards=reward, group=group, track=list(track or ()), context=context,
        k=None if k is None else parse_size(k), temperature=temperature, real_fraction=real_fraction,
        weights=None if weights is None else numbers("--weights", weights), picks=picks,
        arguments=arguments, then=[_stage(text) for text in then or ()], threshold=threshold, top=top,
        renew=renew, fit_efficacy=efficacy == "fit",
    )  # fmt: skip
    found = forecast_log(log, options, reference)
    whole = log.resolve()
    folder = out or whole.with_name(f"{whole.stem}-forecast")
    lines = forecast_table(found.trajectory, found.result)
    _write_forecast(found, folder, str(log), lines)
    if as_json:
        for row in found.trajectory.to_table().to_pylist():
            print(json.dumps(row))
        return
    print_table(lines)
    print_evidence(found)
    for warning in found.result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"\nwritten: {folder / 'trajectory.parquet'}, {folder / 'report.html'}")


def _stage(text: str) -> tuple[float, list[float] | None]:
    """Read a further stage: K, or K:W,W."""
    size, _, weights = text.partition(":")
    try:
        k = math.inf if size.strip().lower() in ("inf", "infinity") else float(int(size))
    except (ValueError, OverflowError):
        raise InputError(
            "--then must be a slate size, with weights or without", got=text, remedy="--then 2:0.1,0.9"
        ) from None
    return k, numbers("--then", weights) if weights else None


def _write_forecast(found: LogForecast, folder: Path, name: str, lines: list[list[str]]) -> None:
    from recurate.verbs.forecast.report import write_forecast_report

    if folder.exists() and not folder.is_dir():
        raise InputError("--out names a file", got=folder, remedy="name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    found.trajectory.write(folder / "trajectory.parquet")
    write_forecast_report(found, folder / "report.html", name=Path(name).name, table=lines)
