"""`recurate compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recurate.verbs.options import Figures, Force, Json, Open, Out, fresh_folder, option, target


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders written by recurate run.")],
    name: Annotated[
        list[str] | None, option("NAME", "Name of each run, repeatable. Default: the folders' names.")
    ] = None,
    out: Out = None,
    force: Force = False,
    open_report: Open = False,
    figures: Figures = False,
    as_json: Json = False,
) -> None:
    """Overlay runs: their measurements and forecasts, the differences, the settings that differ.

    Prints the last round that all runs have, with intervals and differences from the first run. Writes
    report.html, table.csv (that round) and trajectories.parquet (all rounds, with a column for the run).
    Reports what the runs do not have in common, and what looks alike but is not.

    For example:

      recurate compare runs/pure-1 runs/mixed-1 --name pure --name mixed

      recurate compare runs/* --out overlay --figures
    """
    from recurate.report.figures import need_figures_extra, write_figures
    from recurate.report.sections import charts_of
    from recurate.verbs.compare.python import compare as compare_runs
    from recurate.verbs.result import publish

    if figures:
        need_figures_extra()
    folder = target(out or fresh_folder(runs[0].resolve().parent / "compare"), "compare", force=force)
    found = compare_runs(*runs, name=name)
    drawn = [str(write_figures(list(charts_of(found.sections)), folder / "figures"))] if figures else []
    publish(found, folder, as_json=as_json, also=drawn, open_report=open_report)
