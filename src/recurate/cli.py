"""The command line. Commands import what they need when they run, so that --help is instant."""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from recurate.errors import InputError, RecurateError

if TYPE_CHECKING:
    from recurate.forecasting import Forecast
    from recurate.records import Log
    from recurate.trajectory import Trajectory

app = typer.Typer(
    name="recurate",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Run and forecast self-consuming training loops with curated data.\n\n"
    "A model proposes K candidates, one is picked, the model is retrained on the picks (and real data), "
    "and again. 'run' does this with a real model; 'forecast' says where it will go, exactly, from the "
    "rewards of one round; 'report' rebuilds a run's report.",
)


def _version(wanted: bool) -> None:
    if wanted:
        import recurate

        print(recurate.__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG.toml", help="What to run.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for the run; runs/CONFIG, numbered, if absent.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Continue this run after its last complete round.")
    ] = None,
) -> None:
    """Run a loop: train, sample, pick, retrain, measured every round against its own forecast.

    Everything lands in one folder: logs with losers kept, models, measures and report.html. A run that was
    killed goes on with --resume and ends with the same bytes as one that was not.

    For example:

      recurate run examples/digits.toml

      recurate run examples/gaussians.toml --out runs/a

      recurate run --resume runs/a
    """
    if (config is None) == (resume is None):
        raise InputError(
            "say what to run",
            got="both a configuration and --resume" if config else "neither a configuration nor --resume",
            remedy="recurate run CONFIG.toml, or recurate run --resume FOLDER",
        )
    if resume is not None and out is not None:
        raise InputError(
            "--out has no meaning with --resume", got=out, remedy="a resumed run stays in its folder"
        )
    _need_run_extra()
    from recurate.loop import run as loop
    from recurate.loop.config import read_config
    from recurate.loop.monitor import Console
    from recurate.loop.store import RunFolder
    from recurate.report.page import write_run_report

    monitor = Console()
    try:
        if resume is not None:
            folder = resume
            loop.resume(folder, monitor)
        else:
            assert config is not None
            settings = read_config(config)
            folder = out or _fresh_folder(Path("runs") / config.stem)
            loop.run(settings, folder, monitor)
    except KeyboardInterrupt:
        monitor.close()
        started = (folder / "manifest.json").exists()
        hint = f"recurate run --resume {folder} goes on from the last complete round"
        print(f"\nstopped; {hint if started else 'nothing was begun yet'}", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        monitor.close()
    path = write_run_report(RunFolder.open(folder))
    print(f"\nreport: {path}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that recurate run has made.")],
) -> None:
    """Rebuild the report of a run, FOLDER/report.html, from what the folder holds."""
    _need_run_extra()
    from recurate.loop.store import RunFolder
    from recurate.report.page import write_run_report

    store = RunFolder.open(folder)
    if store.complete() == 0 or not (folder / "trajectory.parquet").exists():
        raise InputError(
            "the run has no complete round yet", got=folder, remedy=f"recurate run --resume {folder}"
        )
    print(f"report: {write_run_report(store)}")


@app.command()
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
        str | None, typer.Option(metavar="K", help="Slate size, a number or inf. Default: the log's, or 4.")
    ] = None,
    real_fraction: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of real data in each retraining set. Default: 0."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="W,W", help="Share of slates picked by each reward: 0.4,0.6.")
    ] = None,
    rounds: Annotated[int, typer.Option(metavar="N", help="Rounds to forecast.")] = 10,
    temperature: Annotated[
        float | None, typer.Option(metavar="TAU", help="Divides the rewards in the pick. Default: 1.")
    ] = None,
    picks: Annotated[
        int | None,
        typer.Option(metavar="N", help="Picks a round, for the bands. Default: the log's, or infinite."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the bootstrap behind the bands.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write. Default: LOG-forecast.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the trajectory as JSON lines instead of a table.")
    ] = False,
) -> None:
    """Forecast a loop from the candidates of one round and their rewards: exactly, without sampling.

    LOG has one row per candidate. Of a log with several rounds the first is the start, and the later ones are
    shown beside the forecast. Rows with source 'real' are the reference. Prints a table and writes
    trajectory.parquet and report.html.

    For example:

      recurate forecast scores.csv --reward score --k 8 --rounds 5

      recurate forecast picks.jsonl --group topic --track length --real-fraction 0.5

      recurate forecast two.parquet --reward a --reward b --weights 0.4,0.6 --k inf
    """
    from recurate.records import read_log
    from recurate.report.tables import forecast_table, print_table
    from recurate.trajectory import Trajectory

    text = [context] if group is None else [context, group]
    table = _with_contexts(read_log(log, reward, text=text), context)
    real = None
    if reference is not None:
        real = _real_rows(_with_contexts(read_log(reference, table.rewards, text=text), context))
    own = _run_settings(log)
    options = {
        "k": _slate_size(k, table),
        "temperature": own.get("temperature", 1.0) if temperature is None else temperature,
        "weights": own.get("weights") if weights is None else _numbers(weights),
        "real_fraction": own.get("real_fraction", 0.0) if real_fraction is None else real_fraction,
        "rounds": rounds,
        "picks": _picks(picks, table),
    }
    result, later = _predict(table, real, group, list(track or ()), options, seed)
    trajectory = Trajectory(result.trajectory.rows + later.rows)
    whole = log.resolve()
    folder = out or whole.with_name(f"{whole.stem}-forecast")
    lines = forecast_table(trajectory, result)
    _write_forecast(result, trajectory, folder, str(log), lines)
    if as_json:
        for row in trajectory.to_table().to_pylist():
            print(json.dumps(row))
        return
    print_table(lines)
    if k is None:
        print(f"\nK = {options['k']:g}, {'the size of the slates' if _sizes(table) else 'the default'}")
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"\nwritten: {folder / 'trajectory.parquet'}, {folder / 'report.html'}")


def _predict(
    table: Log, real: Log | None, group: str | None, track: list[str], options: dict[str, Any], seed: int
) -> tuple[Forecast, Trajectory]:
    """Return the forecast from the log's first round, and what the log's rounds measured."""
    from recurate import measures
    from recurate.candidates import from_log, group_names
    from recurate.forecasting import forecast as make_forecast
    from recurate.forecasting import measured, reference_cells, split_log
    from recurate.trajectory import Trajectory

    candidates, reference = split_log(table, group=group, track=track)
    if real is not None:
        reference = from_log(real, group=group, track=track)
    rounds = table.select(source="model").rounds()
    several = len(rounds) > 1
    cells = None
    if reference is not None:
        cells, _ = reference_cells(candidates, reference)
    elif several and candidates.contexts is None:
        cells = measures.partition(candidates.rewards)
    result = make_forecast(candidates, reference=reference, cells=cells, seed=seed, **options)
    if not several:
        return result, Trajectory()
    found = measured(
        table,
        temperature=options["temperature"],
        group=group,
        track=track,
        cells=cells,
        names=group_names(candidates, reference),
    )
    shifted = tuple(replace(row, round=row.round - rounds[0]) for row in found.rows)
    return result, Trajectory(shifted)


def _write_forecast(
    result: Forecast, trajectory: Trajectory, folder: Path, name: str, lines: list[list[str]]
) -> None:
    from recurate.report.page import write_forecast_report

    if folder.exists() and not folder.is_dir():
        raise InputError("--out names a file", got=folder, remedy="name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    trajectory.write(folder / "trajectory.parquet")
    write_forecast_report(result, trajectory, folder / "report.html", name=Path(name).name, table=lines)


def _with_contexts(log: Log, context: str) -> Log:
    """Return the log with the named column as its contexts."""
    if context == "context":
        return log
    from recurate.records import Log as LogType

    values = log.column(context)
    import pyarrow as pa

    texts = pa.array(["" if v is None else str(v) for v in values.tolist()])
    index = log.table.column_names.index("context")
    return LogType(log.table.set_column(index, "context", texts), log.rewards)


def _real_rows(log: Log) -> Log:
    """Return a reference's real rows, or all of them where it tells nothing of real data."""
    real = log.select(source="real")
    return real if real.table.num_rows else log


def _run_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a run folder, which are the defaults for forecasting from it."""
    if not (path / "config.toml").is_file():
        return {}
    import tomllib

    try:
        config = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
        weights = [reward.get("weight") for reward in config["rewards"]]
        return {
            "temperature": config["selection"]["temperature"],
            "real_fraction": config["retraining"]["real_fraction"],
            "weights": None if None in weights else weights,
        }
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "the run's configuration is damaged", got=f"{path / 'config.toml'}: {error}", remedy="restore it"
        ) from None


def _sizes(table: Log) -> list[int]:
    return sorted(set(table.select(source="model").slate_sizes().tolist()))


def _slate_size(text: str | None, table: Log) -> float:
    if text is None:
        sizes = _sizes(table)
        if len(sizes) > 1:
            raise InputError(
                "the log's slates have several sizes", got=sizes, remedy="say which to forecast: --k 4"
            )
        return float(sizes[0]) if sizes else 4.0
    try:
        return math.inf if text.strip().lower() in ("inf", "infinity") else float(int(text))
    except (ValueError, OverflowError):
        raise InputError("--k must be a whole number or inf", got=text, remedy="for example --k 4") from None


def _picks(picks: int | None, table: Log) -> int | None:
    if picks is not None:
        return picks
    generated = table.select(source="model")
    if generated.table.num_rows == 0:
        return None
    first = generated.select(round=generated.rounds()[0])
    return int(first.column("picked").sum()) or None


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            "--weights must be numbers separated by commas", got=text, remedy="for example --weights 0.4,0.6"
        ) from None


def _fresh_folder(base: Path) -> Path:
    """Return ``base-N`` with the smallest N >= 1 that does not exist."""
    number = 1
    while (folder := base.with_name(f"{base.name}-{number}")).exists():
        number += 1
    return folder


def _need_run_extra() -> None:
    from importlib.util import find_spec

    missing = [
        m for m in ("torch", "pydantic", "safetensors", "sklearn", "tomli_w", "PIL") if not find_spec(m)
    ]
    if missing:
        raise InputError(
            "running loops needs more than the plain installation",
            got=f"no {', '.join(missing)}",
            remedy="pip install 'recurate[run]'",
        )


def main() -> NoReturn:
    """Run the command line; wrong input prints what, got and remedy and exits with code 2."""
    # NumPy's BLAS gains nothing from threads here, and its sums would depend on their number.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    try:
        app()
    except RecurateError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        name = error.filename or "a file"
        print(
            f"error: {error.strerror or error}\n  got:    {name}\n  remedy: check the path", file=sys.stderr
        )
        raise SystemExit(2) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
