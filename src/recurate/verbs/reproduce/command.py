"""`recurate reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recurate.core.errors import InputError
from recurate.verbs.options import need_run_extra


def reproduce(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="F-gaussians, F-moons, F-cifar-airplane or F-cifar-confidence."),
    ],
    scale: Annotated[
        str,
        typer.Option(
            metavar="small|paper",
            help="Minutes on two cores (digits in place of CIFAR-10), or as published: CIFAR-10, a GPU.",
        ),
    ] = "small",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="How many seeds: 0, 1, 2, ...")] = 3,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write. Default: reproduced/NAME-SCALE.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="CIFAR-10, for --scale paper (see docs/running.md).")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time. Default: one a core; one for --scale paper.")
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="NAME", help="Where runs are done: local, processes, or module:name.")
    ] = "processes",
) -> None:
    """Run a published experiment with and without real data, and say which of its claims hold here.

    Every arm runs with every seed, in a run folder of its own; what is complete is not run again, so that a
    stopped reproduction goes on with the same command. Ends in a table: published, here with an interval
    over the seeds, agrees or not. Writes report.html and claims.csv.

    For example:

      recurate reproduce F-gaussians

      recurate reproduce F-cifar-airplane --scale paper --data cifar-10-batches-bin
    """
    need_run_extra()
    from recurate.core.tables import write_table
    from recurate.report.console import print_sections
    from recurate.verbs.reproduce.report import findings_table, sections, write_reproduction
    from recurate.verbs.reproduce.reproduce import reproduce as run_all

    folder = out or Path("reproduced") / f"{name}-{scale}"
    if folder.exists() and not folder.is_dir():
        raise InputError("--out names a file", got=folder, remedy="name a new folder")
    try:
        found = run_all(
            name,
            folder,
            scale=scale,
            seeds=range(seeds),
            data=data,
            jobs=jobs,
            engine=engine,
            tell=lambda line: print(line, flush=True),
        )
    except KeyboardInterrupt:
        typer.echo("\nstopped; the same command goes on", err=True)
        raise SystemExit(130) from None
    print_sections(sections(found))
    write_table(findings_table(found), folder / "claims.csv")
    print(f"\nwritten: {write_reproduction(found, folder)}, {folder / 'claims.csv'}")
