"""`recurate run` and `recurate report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from recurate.errors import InputError


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
    need_run_extra()
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


def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that recurate run has made.")],
) -> None:
    """Rebuild the report of a run, FOLDER/report.html, from what the folder holds."""
    need_run_extra()
    from recurate.loop.store import RunFolder
    from recurate.report.page import write_run_report

    store = RunFolder.open(folder)
    if store.complete() == 0 or not (folder / "trajectory.parquet").exists():
        raise InputError(
            "the run has no complete round yet", got=folder, remedy=f"recurate run --resume {folder}"
        )
    print(f"report: {write_run_report(store)}")


def _fresh_folder(base: Path) -> Path:
    """Return ``base-N`` with the smallest N >= 1 that does not exist."""
    number = 1
    while (folder := base.with_name(f"{base.name}-{number}")).exists():
        number += 1
    return folder


def need_run_extra() -> None:
    """Refuse to go on without what the plain installation lacks."""
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
