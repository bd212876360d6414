"""Runs side by side: charts that overlay them, the last common round in numbers, settings that differ."""

from __future__ import annotations

from recurate.report import charts
from recurate.report.overlays import SUPPORT, overlay_chart
from recurate.report.sections import Section
from recurate.verbs.compare.compare import Cell, Comparison, Key, cells_table, label, trajectories_table
from recurate.verbs.result import Facts, Result

MAIN = ("mean_reward", "mean_exp_reward", "kl_to_reference", "entropy")  # in numbers, with the largest shares
NAMED = 4  # settings that the summary names
PARTS = ("selection", "sampling", "sampling_band", "transmission")  # of a change: in the charts and files


def comparison_result(found: Comparison) -> Result[Comparison]:
    """Return a comparison as a result."""
    *names, last = (run.name for run in found.runs)
    return Result(
        found,
        verb="compare",
        title=f"{', '.join(names)} and {last} compared",
        summary=summary_of(found),
        warnings=found.notes,
        source=", ".join(str(run.path) for run in found.runs),
        make_facts=lambda: _facts(found),
        make_sections=lambda: comparison_sections(found),
        make_tables=lambda: {
            "table.csv": cells_table(found),
            "trajectories.parquet": trajectories_table(found),
        },
    )


def _facts(found: Comparison) -> Facts:
    return {
        "runs": {run.name: run.path for run in found.runs},
        "round": found.round,
        "table": cells_table(found).to_pylist(),
        "settings": dict(found.settings),
        "notes": found.notes,
    }


def comparison_sections(found: Comparison) -> list[Section]:
    """Return all sections of a comparison."""
    runs = {run.name: run.trajectory for run in found.runs}
    cards = tuple(Section(charts.title(key), chart=overlay_chart(runs, key)) for key in _charted(found))
    drawn = (
        "Points and bars: measured, with 95 % intervals, set apart so that none hides another. Lines: each "
        "run's forecast from its own round 0 (its bands are in the run's own report). Hover for values, "
        "click the legend to single out a run, drag to move, shift + wheel to zoom, double-click to reset."
    )
    numbers = (
        f"Differences are from {found.runs[0].name}. Their intervals assume independent runs (with a common "
        "seed they may not be) and state the precision of this round of these runs, not the variation over "
        "seeds."
    )
    settings = [["", *runs], *([key, *values] for key, values in found.settings)]
    same = "" if found.settings else "Nothing: configurations and versions are the same."
    folders = [["run", "last round", "folder"]]
    folders += [[run.name, str(run.rounds - 1), str(run.path)] for run in found.runs]
    return [
        Section("All rounds", drawn, cards=cards, printed=False),
        Section(f"Round {found.round} in numbers", numbers, table_rows(found)),
        Section("Settings that differ", same, settings if found.settings else []),
        Section("The runs", table=folders, printed=False),
    ]


def _charted(found: Comparison) -> list[Key]:
    ordered = [key for quantity in charts.QUANTITIES for key in found.keys if key[0] == quantity]
    shares = [key for key in found.keys if key[0] == "share"]
    rows = [row for run in found.runs for row in run.trajectory.rows if row.key in set(shares)]
    largest = charts.largest_groups(rows)
    ordered += [key for group in largest for key in shares if key[2] == group]
    known = {*charts.QUANTITIES, "share", SUPPORT, "sampling_band"}
    ordered += [key for key in found.keys if key[0] not in known]
    return ordered + [key for key in found.keys if key[0] == SUPPORT]


def table_rows(found: Comparison) -> list[list[str]]:
    """Return the main cells as text, heading first."""
    first = found.runs[0].name
    rows = [["", "run", "measured", "95 % interval", f"minus {first}", "95 % interval"]]
    for key in _shown(found):
        have = [c for c in found.cells if c.key == key and c.row is not None]
        for i, cell in enumerate(have):
            rows.append([label(key) if i == 0 else "", cell.run, *_texts(cell)])
    return rows


def _shown(found: Comparison) -> list[Key]:
    keys = list(dict.fromkeys(cell.key for cell in found.cells))
    rows = [c.row for c in found.cells if c.row is not None and c.key[0] == "share"]
    groups = charts.largest_groups(rows)
    shares = [key for group in groups for key in keys if key[0] == "share" and key[2] == group]
    other = [key for key in keys if key[0] not in (*MAIN, *PARTS, "share", "var_exp_reward", SUPPORT)]
    return [key for quantity in MAIN for key in keys if key[0] == quantity] + shares + other


def _texts(cell: Cell) -> list[str]:
    if cell.row is None:
        return ["-", "", "", ""]
    gap = cell.difference
    return [
        f"{cell.row.value:.4g}",
        _interval(cell.row.lower, cell.row.upper),
        "" if gap is None else f"{gap[0]:+.3g}",
        "" if gap is None else _interval(gap[1], gap[2], "+.3g"),
    ]


def _interval(lower: float | None, upper: float | None, form: str = ".4g") -> str:
    return "" if lower is None or upper is None else f"{lower:{form}} to {upper:{form}}"


def summary_of(found: Comparison) -> str:
    """Return the mean rewards in the last common round, what differs, and which settings do."""
    parts = []
    for key in found.keys:
        if key[0] != "mean_reward":
            continue
        cells = [c for c in found.cells if c.key == key and c.row is not None]
        values = ", ".join(f"{c.row.value:.4g} ({c.run})" for c in cells if c.row is not None)
        parts.append(f"{label(key).replace('_', ' ')} is {values}")
    where = f"In round {found.round}, the last that all runs have, "
    said = f"{where}{'; '.join(parts)}." if parts else f"Round {found.round} is the last that all runs have."
    return " ".join(part for part in (said, _apart(found), _settings(found)) if part)


def _apart(found: Comparison) -> str:
    """Return which mean rewards differ from the first run's by more than their intervals."""
    judged = [c for c in found.cells if c.key[0] == "mean_reward" and _bounded(c)]
    if not judged:
        return ""
    clear = [c for c in judged if not _has_zero(c)]
    if not clear:
        return f"None differs from {found.runs[0].name} by more than its 95 % interval."
    names = ", ".join(dict.fromkeys(c.run for c in clear))
    return f"Beyond their 95 % intervals these differ from {found.runs[0].name}: {names}."


def _bounded(cell: Cell) -> bool:
    return cell.difference is not None and None not in cell.difference[1:]


def _has_zero(cell: Cell) -> bool:
    assert cell.difference is not None
    _, low, high = cell.difference
    return low is not None and high is not None and low <= 0 <= high


def _settings(found: Comparison) -> str:
    names = [name for name, _ in found.settings]
    if not names:
        return "Their settings are the same."
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"Settings that differ: {', '.join(names[:NAMED])}{more}."
