"""`recurate run` and `recurate report`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from recurate.core.errors import InputError, Stopped
from recurate.verbs.options import Figures, fresh_folder, need_run_extra


def run(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG.toml", help="Configuration.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for the run. Default: runs/CONFIG, numbered.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Continue this run after its last complete round.")
    ] = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="With --resume: continue although files that the run rests on have changed, and record it.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Try data, generator and rewards on ten items, show the results, keep nothing."
        ),
    ] = False,
    logger: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Also write all values for tensorboard, mlflow or wandb, in the run's folder; repeatable.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line for every event, and nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the report's path and errors.")] = False,
) -> None:
    """Run a loop: train, sample, pick, retrain. Every round is measured against the loop's own forecast.

    Everything is written to one folder: logs of all candidates, models, measures and report.html. A run that
    was killed continues with --resume and ends with the same bytes as an uninterrupted run. On a terminal, a
    live view shows stage, pace and time left; elsewhere one line per round is printed. A run that an alarm
    stops ends with exit code 3.

    For example:

      recurate run examples/digits.toml

      recurate run examples/gaussians.toml --out runs/a

      recurate run examples/external/loop.toml --dry-run

      recurate run --resume runs/a

      recurate run examples/digits.toml --logger tensorboard --json
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
    if accept_changes and resume is None:
        raise InputError(
            "--accept-changes has a meaning only with --resume",
            got="no --resume",
            remedy="recurate run --resume FOLDER --accept-changes",
        )
    if as_json and quiet:
        raise InputError(
            "--json and --quiet contradict each other", got="both", remedy="leave one of them out"
        )
    need_run_extra()
    if dry_run:
        _rehearse(config, out or resume)
        return
    from recurate.loop import driver as loop
    from recurate.loop.config import read_config
    from recurate.loop.monitors.console import JsonLines, Lines, Live, on_a_terminal
    from recurate.loop.monitors.loggers import make_loggers
    from recurate.loop.monitors.protocol import Several, Silent
    from recurate.loop.run_folder import RunFolder
    from recurate.verbs.run.report import write_run_report

    told = JsonLines(sys.stdout) if as_json else None
    view = told or (Silent() if quiet else Live() if on_a_terminal() else Lines())
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        settings = None if config is None else read_config(config)
        folder = resume or out or fresh_folder(Path("runs") / config.stem)  # type: ignore[union-attr]
        monitor = Several([view, *make_loggers(logger or [], folder)])
        try:
            if settings is None:
                loop.resume(folder, monitor, accept_changes=accept_changes)
            else:
                loop.run(settings, folder, monitor)
            path = write_run_report(RunFolder.open(folder))
        except Stopped as stop:
            monitor.close()
            path = write_run_report(RunFolder.open(folder))
            if told is not None and monitor.tells(told):
                told.done(folder, path)
            print(f"{stop}\nreport: {path}", file=sys.stderr)
            raise SystemExit(3) from None
        except KeyboardInterrupt:
            monitor.close()
            started = (folder / "manifest.json").exists()
            hint = f"recurate run --resume {folder} goes on from the last complete round"
            print(f"\nstopped; {hint if started else 'nothing was begun yet'}", file=sys.stderr)
            raise SystemExit(130) from None
        finally:
            monitor.close()
        for line in () if monitor.tells(view) and not quiet else monitor.dropped:
            print(f"warning: {line}", file=sys.stderr)
    if told is not None:
        if monitor.tells(told):  # whoever read the lines may have left
            told.done(folder, path)
    else:
        print(f"report: {path}" if quiet else f"\nreport: {path}")


def _rehearse(config: Path | None, other: Path | None) -> None:
    """Print what a dry run did."""
    if config is None or other is not None:
        raise InputError(
            "--dry-run takes a configuration and keeps nothing",
            got="no configuration" if config is None else f"also {other}",
            remedy="recurate run CONFIG.toml --dry-run",
        )
    from recurate.loop.config import read_config
    from recurate.loop.dry_run import rehearse

    for step in rehearse(read_config(config)):
        print(f"{step.title:>18}  {step.seconds:6.1f} s  {step.result}", flush=True)
    print("everything works on ten items; nothing was kept")


def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder written by recurate run.")],
    figures: Figures = False,
) -> None:
    """Rebuild the report of a run, FOLDER/report.html, from the files in the folder."""
    need_run_extra()
    from recurate.loop.run_folder import RunFolder
    from recurate.report.figures import need_figures_extra, write_figures
    from recurate.report.sections import charts_of
    from recurate.verbs.run.report import run_result, write_run_report

    if figures:
        need_figures_extra()
    store = RunFolder.open(folder)
    if store.complete() == 0 or not (folder / "trajectory.parquet").exists():
        raise InputError(
            "the run has no complete round yet", got=folder, remedy=f"recurate run --resume {folder}"
        )
    print(f"report: {write_run_report(store)}")
    if figures:
        print(f"figures: {write_figures(list(charts_of(run_result(store).sections)), folder / 'figures')}")
