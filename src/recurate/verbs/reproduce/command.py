"""`recurate reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recurate.core import progress
from recurate.verbs.options import Force, Open, Out, option, target


def _list(wanted: bool) -> None:
    if wanted:
        from recurate.report.console import print_sections
        from recurate.verbs.reproduce.recorded import list_section

        print_sections([list_section()])
        raise typer.Exit


def _names() -> list[str]:
    from recurate.verbs.reproduce.catalogue import CATALOGUE

    return list(CATALOGUE)


def _done(line: str) -> None:
    progress.hide()
    print(line, flush=True)


def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of the experiment, such as F-gaussians; see --list.",
            autocompletion=_names,
        ),
    ],
    scale: Annotated[
        str,
        option(
            "small|paper",
            "Minutes on two cores (digits in place of CIFAR-10), or as published (CIFAR-10, a GPU). "
            "text-scale: models of 1e5 to 1e7 parameters, or to 3e8 on a GPU.",
        ),
    ] = "small",
    seeds: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Number of seeds: 0, 1, ... Default: 3; 1 for text-scale."),
    ] = None,
    out: Out = None,
    force: Force = False,
    open_report: Open = False,
    data: Annotated[
        str | None,
        option(
            "PATH",
            "CIFAR-10, for --scale paper (see recurate docs running); for human-check a file of picks.",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Parallel runs. Default: one per core; one for --scale paper.")
    ] = None,
    engine: Annotated[
        str, option("NAME", "Where runs are done: local, processes, ray, ray://HOST:PORT, or module:name.")
    ] = "processes",
    listed: Annotated[
        bool,
        typer.Option(
            "--list", callback=_list, is_eager=True, help="List all experiments with recorded results."
        ),
    ] = False,
) -> None:
    """Run a published experiment, and check its claims.

    Every trained arm runs with every seed in a separate run folder. Complete runs are not repeated, so the
    same command continues a stopped reproduction. Exact arms are laws in the limit of infinite data; an
    experiment of exact arms alone trains nothing, and has no seeds. Prints a table: the published result,
    the result here with an interval over the seeds, and whether they agree. Writes report.html and
    claims.csv.

    For example:

      recurate reproduce F-gaussians

      recurate reproduce A-disjoint

      recurate reproduce F-cifar-airplane --scale paper --data cifar-10-batches-bin
    """
    from recurate.verbs.reproduce.python import reproduce as run_all
    from recurate.verbs.result import publish

    folder = out or Path("reproduced") / f"{name}-{scale}"
    if not any(folder.glob("*/seed-*/config.toml")):  # else a reproduction goes on there
        target(folder, "reproduce", force=force)
    progress.kept(f"complete rounds are kept in {folder}; the same command continues")
    found = run_all(
        name, scale=scale, seeds=seeds, out=folder, data=data, jobs=jobs, engine=engine, progress=_done,
    )  # fmt: skip
    publish(found, folder, open_report=open_report)
