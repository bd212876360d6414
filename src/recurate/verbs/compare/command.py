"""`recurate compare`."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from recurate.core.errors import InputError
from recurate.verbs.options import fresh_folder, need_run_extra


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders that recurate run has made.")],
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Name of each run, repeatable. Default: the folders' names."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write. Default: compare-N beside the first."),
    ] = None,
    figures: Annotated[
        bool, typer.Option("--figures", help="Also write every chart as SVG and PNG, FOLDER/figures.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all numbers as JSON instead of tables.")
    ] = False,
) -> None:
    """Overlay runs: what they measured and forecast, how far apart they are, which settings differ.

    Prints the last round that all have, with intervals and differences to the first run. Writes report.html,
    table.csv (that round) and trajectories.parquet (all rounds; a column says which run). Says where runs
    have nothing in common, or what looks alike and is not.

    For example:

      recurate compare runs/pure-1 runs/mixed-1 --name pure --name mixed

      recurate compare runs/* --out overlay --figures
    """
    need_run_extra()
    from recurate.core.tables import write_table
    from recurate.report.figures import need_figures_extra, write_figures
    from recurate.verbs.compare.compare import cells_table, trajectories_table
    from recurate.verbs.compare.compare import compare as compare_runs
    from recurate.verbs.compare.report import comparison_charts, table_rows, write_comparison

    if figures:
        need_figures_extra()
    if out is not None and (out / "manifest.json").exists():
        raise InputError("--out names a run", got=out, remedy="name a new folder")
    if out is not None and out.exists() and not out.is_dir():
        raise InputError("--out names a file", got=out, remedy="name a new folder")
    found = compare_runs(runs, name or [])
    folder = out or fresh_folder(runs[0].resolve().parent / "compare")
    folder.mkdir(parents=True, exist_ok=True)
    write_comparison(found, folder / "report.html")
    write_table(cells_table(found), folder / "table.csv")
    write_table(trajectories_table(found), folder / "trajectories.parquet")
    if figures:
        write_figures(comparison_charts(found), folder / "figures")
    if as_json:
        facts: dict[str, Any] = {
            "runs": {run.name: str(run.path) for run in found.runs},
            "round": found.round,
            "table": cells_table(found).to_pylist(),
            "settings": {key: list(values) for key, values in found.settings},
            "notes": found.notes,
            "folder": str(folder),
        }
        print(json.dumps(_finite(facts)))
        return
    print(f"round {found.round}, the last that all runs have")
    _print_table(table_rows(found))
    if found.settings:
        print("\nwhat differs in the settings")
        _print_table([["", *(run.name for run in found.runs)], *([k, *v] for k, v in found.settings)])
    width = shutil.get_terminal_size((120, 24)).columns
    if found.notes:
        print()
    for note in found.notes:
        print(textwrap.fill(f"note: {note}", width, subsequent_indent="      "))
    extra = f", {folder / 'figures'}" if figures else ""
    print(f"\nwritten: {folder / 'report.html'}, table.csv, trajectories.parquet{extra}")


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _finite(value: Any) -> Any:
    """JSON knows no infinities."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and value - value != 0 else value
