"""`recurate run` and `recurate report`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from recurate.core import progress
from recurate.core.errors import InputError, Stopped, Waiting, WaitingForPeople
from recurate.core.files import write_text
from recurate.verbs.options import Figures, Open, fresh_folder, need_run_extra, option
from recurate.verbs.run.python import check_arguments, read_run, run_loop

WAITING = 4  # exit code of a run that waits for people

Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run the code named in a run's configuration even if you did not begin that run here.",
    ),
]


def run(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG.toml", help="Configuration.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for the run. Default: runs/CONFIG, numbered.")
    ] = None,
    resume: Annotated[
        Path | None, option("FOLDER", "Continue this run after its last complete round.")
    ] = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="With --resume: continue although files that the run rests on have changed, and record it.",
        ),
    ] = False,
    trust: Trust = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Try data, generator and rewards on ten items, show the results, keep nothing."
        ),
    ] = False,
    logger: Annotated[
        list[str] | None,
        option(
            "NAME", "Also write all values for tensorboard, mlflow or wandb, in the run's folder; repeatable."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line for every event, and nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the report's path and errors.")] = False,
    engine: Annotated[
        str,
        option(
            "NAME",
            "Where the shards of a round are done: local, processes, ray, ray://HOST:PORT, shards (by "
            "recurate shard), or module:name. The result is the same.",
        ),
    ] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Number of shards at a time.")] = None,
    db: Annotated[
        str | None,
        option(
            "FILE|URL",
            "Database of people's picks, where people pick. Default: people/ballots.sqlite in the run.",
        ),
    ] = None,
    open_report: Open = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Where people pick: wait for their picks instead of stopping.")
    ] = False,
) -> None:
    """Run a loop: train, sample, pick, retrain. Every round is measured against the loop's own forecast.

    Everything is written to one folder: logs of all candidates, models, measures and report.html. A run that
    was killed continues with --resume and ends with the same bytes as an uninterrupted run. On a terminal, a
    live view shows stage, pace and time left; elsewhere one line per round is printed. A run that an alarm
    stops ends with exit code 3, one that waits for people's picks (recurate serve takes them) with 4.

    For example:

      recurate init digits

      recurate run digits.toml

      recurate run digits.toml --dry-run

      recurate run --resume runs/a

      recurate run digits.toml --logger tensorboard --json

      recurate run digits.toml --engine processes --workers 2
    """
    if as_json and quiet:
        raise InputError(
            "--json and --quiet contradict each other", got="both", remedy="leave one of them out"
        )
    if dry_run:
        _rehearse(config, out or resume, trust=trust)
        return
    check_arguments(config, out, resume, accept_changes)
    need_run_extra()
    from recurate.loop.config import read_config
    from recurate.loop.monitors.console import JsonLines, Lines, Live, on_a_terminal
    from recurate.loop.monitors.loggers import make_loggers
    from recurate.loop.monitors.protocol import Monitor, Several
    from recurate.loop.run_folder import check_trusted

    json_lines = JsonLines(sys.stdout) if as_json else None
    view = json_lines or (Monitor() if quiet else Live() if on_a_terminal() else Lines())
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        if config is not None:
            check_trusted(config, trust=trust)
        settings = None if config is None else read_config(config)
        folder = resume or out or fresh_folder(Path("runs") / config.stem)  # type: ignore[union-attr]
        monitor = Several([view, *make_loggers(logger or [], folder)])
        stopped = None
        try:
            run_loop(
                settings,
                folder,
                monitor,
                accept_changes=accept_changes,
                trust=trust,
                engine=engine,
                workers=workers,
                db=db,
                wait=wait,
            )
        except Stopped as stop:
            stopped = stop
        except WaitingForPeople as people:
            again = f"recurate serve {folder} takes them, then recurate run --resume {folder}"
            print(f"{people}: {again}" if json_lines is None else str(people), file=sys.stderr)
            raise SystemExit(WAITING) from None
        except Waiting as wait:
            print(
                f"waiting for {wait.count} shards: recurate shard {folder} --index I --of N for I = 0, ..., "
                f"N - 1, then recurate run --resume {folder} --engine shards",
                file=sys.stderr,
            )
            return
        except KeyboardInterrupt:
            begun = (folder / "manifest.json").exists()
            hint = f"recurate run --resume {folder} continues after the last complete round"
            print(f"\nstopped; {hint if begun else 'nothing was begun yet'}", file=sys.stderr)
            raise SystemExit(130) from None
        for line in () if view in monitor and not quiet else monitor.dropped:
            print(f"warning: {line}", file=sys.stderr)
    path = folder / "report.html"
    if json_lines is not None and json_lines in monitor:  # the reader of the lines may have left
        json_lines.done(folder, path)
    if open_report:
        from recurate.verbs.result import open_page

        open_page(path)
    if stopped is not None:
        print(f"{stopped}\nreport: {path}", file=sys.stderr)
        raise SystemExit(3)
    if json_lines is None:
        print(f"report: {path}" if quiet else f"\nreport: {path}")


def _rehearse(config: Path | None, other: Path | None, *, trust: bool) -> None:
    """Print the steps of a dry run."""
    if config is None or other is not None:
        raise InputError(
            "--dry-run takes a configuration and keeps nothing",
            got="no configuration" if config is None else f"also {other}",
            remedy="recurate run CONFIG.toml --dry-run",
        )
    need_run_extra()
    from recurate.loop.config import read_config
    from recurate.loop.dry_run import rehearse
    from recurate.loop.run_folder import check_trusted

    check_trusted(config, trust=trust)
    progress.kept("nothing was kept")
    progress.stage("trying data and rewards")
    for step in rehearse(read_config(config)):
        progress.hide()
        print(f"{step.title:>18}  {step.seconds:6.1f} s  {step.result}", flush=True)
        progress.stage("trying the next step")
    progress.hide()
    print("everything works on ten items; nothing was kept")


def shard(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Folder of the run, or the configuration that it was begun with."),
    ],
    index: Annotated[int, typer.Option(min=0, help="Number of this part, 0, ..., N - 1.")],
    of: Annotated[int, typer.Option(min=1, metavar="N", help="Number of parts.")],
    trust: Trust = False,
) -> None:
    """Sample and score a part of the shards of a run's next round, as one task of a Slurm array does.

    The model must be trained: recurate run --engine shards does that and stops. Then every part is done, in
    any order and anywhere that sees the folder; what is done is not repeated. At last, recurate run --resume
    RUN --engine shards plays the round and trains the next model. 'recurate docs scale' has a script.

    A configuration stands for the one run under runs/ that was begun with it and waits for shards.

    For example:

      recurate run loop.toml --out runs/a --engine shards

      recurate shard loop.toml --index 0 --of 2

      recurate shard runs/a --index 1 --of 2

      recurate run --resume runs/a --engine shards
    """
    need_run_extra()
    from recurate.loop.driver import do_shards, waiting_run

    folder = waiting_run(run, Path("runs"), trust=trust) if run.is_file() else run
    progress.stage("sampling and scoring shards")
    progress.kept("the shards that are done are kept, and not repeated")
    done = do_shards(folder, index, of, trust=trust)
    progress.hide()
    for arm, shards in done.items():
        print(f"{arm}: {len(shards)} shards done" + (f", {shards[0]} to {shards[-1]}" if shards else ""))


def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder written by recurate run.")],
    open_report: Open = False,
    figures: Figures = False,
    trust: Trust = False,
) -> None:
    """Rebuild the report of a run, FOLDER/report.html, from the files in the folder."""
    from recurate.report.figures import need_figures_extra, write_figures
    from recurate.report.sections import charts_of
    from recurate.verbs.result import open_page

    if figures:
        need_figures_extra()
    progress.stage("reading the run")
    progress.kept("nothing was written")
    found = read_run(folder, trust=trust)
    path = folder / "report.html"
    progress.stage("writing the report")
    write_text(path, found.page())
    progress.hide()
    print(f"report: {path}")
    if figures:
        print(f"figures: {write_figures(list(charts_of(found.sections)), folder / 'figures')}")
    if open_report:
        open_page(path)
